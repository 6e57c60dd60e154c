//! Texts to token ids, equal to the reference tokenizer's.
//!
//! The vocabulary and its rules come from the bundle's `tokenizer.json`; cleaning, context length and padding come
//! from [`TextSettings`], which the bundle fills in. Nothing here knows a model.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use ndarray::Array2;
use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::utils::Lowercase;
use tokenizers::normalizers::{self, BertNormalizer, NormalizerWrapper};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{
    Encoding, SplitDelimiterBehavior, TruncationDirection, TruncationParams, TruncationStrategy,
};

use crate::clean::Cleaning;
use crate::error::{Error, Result, Source};

/// What a model wants done to texts, besides what its `tokenizer.json` says.
#[derive(Debug, Clone, PartialEq)]
pub struct TextSettings {
    /// How texts are cleaned before they are tokenised.
    pub cleaning: Cleaning,
    /// The most tokens a text may have, start and end tokens included.
    pub context_length: usize,
    /// How a text is cut into pieces before the vocabulary sees it.
    pub splitting: Splitting,
    /// How far texts are padded.
    pub padding: Padding,
    /// The id that padding is made of.
    pub pad_id: u32,
    /// An id that is replaced by 0 after padding, as open_clip's `strip_sep_token` does.
    pub stripped_id: Option<u32>,
    /// The language that texts are in, for a tokenizer that marks it.
    pub language: Option<Language>,
}

/// How a tokenizer is told the language of texts: a token such as `eng_Latn`, of NLLB's kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Language {
    /// The token; `None` leaves it to what the file adds by itself.
    pub code: Option<String>,
    /// Where it goes.
    pub place: LanguagePlace,
}

/// Where the token of a language goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LanguagePlace {
    /// Before the text, in place of what the file adds there; an end token follows the text. As transformers'
    /// `NllbTokenizer` does, whatever its `tokenizer.json` adds.
    First,
    /// Behind the end token, in place of what the file adds: the same with `legacy_behaviour`.
    Last,
    /// Written before the cleaned text, besides what the file adds: as immich's service does.
    Written,
}

impl Language {
    /// Whether `token` has the shape of a language: three small letters, and its script, as FLORES-200 writes them.
    fn is_code(token: &str) -> bool {
        let Some((language, script)) = token.split_once('_') else {
            return false;
        };
        let is_small = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase());
        language.len() == 3
            && is_small(language)
            && script.len() == 4
            && script.as_bytes()[0].is_ascii_uppercase()
            && is_small(&script[1..])
    }
}

/// The end token of tokenizers that mark a language.
const LANGUAGE_END: &str = "</s>";

/// How a text is cut into pieces before the vocabulary sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Splitting {
    /// As `tokenizer.json` says.
    File,
    /// As `tokenizer.json` says, with all but special tokens brought to lower case before.
    ///
    /// What transformers' `Siglip2Tokenizer` adds to Gemma's tokenizer, whose file does not lower-case.
    LowerCase,
    /// As transformers' `BertTokenizer` does with the WordPiece vocabulary of a `tokenizer.json`, whatever the file says
    /// of what comes before it.
    Bert {
        /// Whether all but special tokens is brought to lower case.
        lower_cases: bool,
        /// Whether letters lose their accents.
        strips_accents: bool,
        /// Whether each Chinese character is a piece by itself.
        parts_chinese: bool,
    },
    /// As open_clip's `SimpleTokenizer` does, with the vocabulary of a `tokenizer.json` made from it.
    ///
    /// It differs from what such a file says in what nobody means but some texts hold: `<|endoftext|>` is plain text,
    /// `<end_of_text>` is the end token, and `'ſ` is a piece as `'s` is, since its expression ignores case.
    OpenClip,
}

/// How far texts are padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// To the longest text of the batch: for graphs whose attention mask hides padding.
    Longest,
    /// To the full context: for graphs that see padding.
    Full,
}

/// A batch of texts as ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// N × T ids; T is the padded length.
    pub ids: Array2<i64>,
    /// N × T, 1 for a token, 0 for padding.
    pub mask: Array2<i64>,
    /// How many texts were longer than the context and were cut before their end token.
    pub cut: usize,
}

/// The ids of one text, unpadded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextIds {
    pub(crate) ids: Vec<u32>,
    pub(crate) is_cut: bool,
}

/// A tokenizer with the settings of its model.
#[derive(Clone)]
pub struct Tokenizer {
    path: PathBuf,
    settings: TextSettings,
    inner: tokenizers::Tokenizer,
    /// What stands before each text.
    prefix: String,
    /// The start and end tokens, where they are set here and not by the file.
    ends: Option<[u32; 2]>,
}

impl fmt::Debug for Tokenizer {
    /// Without the vocabulary, which fills pages.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("Tokenizer");
        debug
            .field("path", &self.path)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// The tokenizer in a `tokenizer.json`.
    ///
    /// Truncation and padding that the file states are replaced by those of `settings`.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if the file is no tokenizer, or the context is too short for its start and end tokens.
    pub fn open(path: &Path, settings: TextSettings) -> Result<Self> {
        let failed = |source| Error::Tokenizer {
            path: path.to_owned(),
            source,
        };
        let bytes = std::fs::read(path).map_err(Error::read(path))?;
        let mut inner = load(&bytes).map_err(failed)?;
        inner.with_padding(None);
        if let Some(language) = &settings.language {
            has_language(path, &inner, language)?;
            mark_language(&mut inner, language).map_err(failed)?;
        }
        let ends = inner.encode_fast("", true).map_err(failed)?.len();
        if settings.context_length <= ends {
            let room = settings.context_length;
            return Err(failed(
                format!("a context of {room} has no room beside {ends} start and end tokens")
                    .into(),
            ));
        }
        match settings.splitting {
            Splitting::LowerCase => lower_case(&mut inner),
            Splitting::Bert {
                lower_cases,
                strips_accents,
                parts_chinese,
            } if matches!(inner.get_model(), ModelWrapper::WordPiece(_)) => {
                let strips = Some(strips_accents);
                let steps = BertNormalizer::new(true, parts_chinese, strips, lower_cases);
                inner.with_normalizer(Some(steps));
                inner.with_pre_tokenizer(Some(BertPreTokenizer));
            }
            _ => (),
        }
        let ends = match settings.splitting {
            Splitting::File | Splitting::LowerCase | Splitting::Bert { .. } => {
                inner
                    .with_truncation(Some(truncation(settings.context_length)))
                    .map_err(failed)?;
                None
            }
            Splitting::OpenClip => Some(split_as_open_clip(&mut inner).map_err(failed)?),
        };
        Ok(Self {
            path: path.to_owned(),
            settings,
            inner,
            prefix: String::new(),
            ends,
        })
    }

    /// This tokenizer with a text, such as "search_query: ", that stands before each text.
    #[must_use]
    pub fn with_prefix(self, prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            ..self
        }
    }

    /// What stands before each text; most often nothing.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn with_settings(self, settings: TextSettings) -> Self {
        Self { settings, ..self }
    }

    /// The `tokenizer.json`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the model wants done to texts.
    pub fn settings(&self) -> &TextSettings {
        &self.settings
    }

    /// One more than the largest id that the tokenizer can give.
    pub fn vocabulary_size(&self) -> usize {
        self.inner
            .get_vocab(true)
            .values()
            .max()
            .map_or(0, |&id| id as usize + 1)
    }

    /// The id of a token such as `<pad>`, if the vocabulary has it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The ids of `texts`, padded.
    ///
    /// # Shape and units
    ///
    /// N texts in, N × T ids out. A text that is too long is cut so that its end token stays.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if a text cannot be tokenised.
    ///
    /// # Source
    ///
    /// transformers' `CLIPTokenizer` or open_clip's `SimpleTokenizer` and `HFTokenizer`, by the settings; ids equal.
    pub fn encode(&self, texts: &[&str]) -> Result<Tokens> {
        let texts = texts
            .iter()
            .map(|text| self.text_ids(text))
            .collect::<Result<Vec<TextIds>>>()?;
        Ok(self.pad(&texts))
    }

    /// The ids of one text, cut but not padded.
    pub(crate) fn text_ids(&self, text: &str) -> Result<TextIds> {
        let whole = match self.prefix.as_str() {
            "" => Cow::Borrowed(text),
            prefix => Cow::Owned(format!("{prefix}{text}")),
        };
        let (text, is_long) = limited(&whole);
        let text = self.with_language(self.settings.cleaning.apply(text));
        let failed = |source| Error::Tokenizer {
            path: self.path.clone(),
            source,
        };
        match self.ends {
            None => {
                let encoding = self
                    .inner
                    .encode_fast(text.as_ref(), true)
                    .map_err(failed)?;
                Ok(TextIds {
                    ids: encoding.get_ids().to_vec(),
                    is_cut: is_long || !encoding.get_overflowing().is_empty(),
                })
            }
            Some(ends) => {
                let encoding = self.inner.encode(text.as_ref(), false).map_err(failed)?;
                let ids = piece_ids(&encoding, &text, ends);
                let mut text = between(ends, ids, self.settings.context_length);
                text.is_cut |= is_long;
                Ok(text)
            }
        }
    }

    /// The cleaned text behind its language, where that is written.
    fn with_language<'a>(&self, text: Cow<'a, str>) -> Cow<'a, str> {
        match &self.settings.language {
            Some(Language {
                code: Some(code),
                place: LanguagePlace::Written,
            }) => Cow::Owned(format!("{code}{text}")),
            _ => text,
        }
    }

    /// Texts of one batch side by side.
    pub(crate) fn pad<T: AsRef<TextIds>>(&self, texts: &[T]) -> Tokens {
        let longest = texts
            .iter()
            .map(|text| text.as_ref().ids.len())
            .max()
            .unwrap_or(0);
        let length = match self.settings.padding {
            Padding::Full => self.settings.context_length,
            // A tokenizer without start and end tokens gives no ids for an empty text; a graph needs one column.
            Padding::Longest => longest.max(1),
        };
        let mut ids = Array2::from_elem((texts.len(), length), i64::from(self.settings.pad_id));
        let mut mask = Array2::zeros((texts.len(), length));
        for (row, text) in texts.iter().map(AsRef::as_ref).enumerate() {
            for (column, &id) in text.ids.iter().enumerate() {
                ids[[row, column]] = i64::from(id);
                mask[[row, column]] = 1;
            }
        }
        if let Some(stripped) = self.settings.stripped_id {
            ids.mapv_inplace(|id| if id == i64::from(stripped) { 0 } else { id });
        }
        Tokens {
            ids,
            mask,
            cut: texts.iter().filter(|text| text.as_ref().is_cut).count(),
        }
    }
}

/// The most bytes of a text that are looked at. A context is filled long before, and tokenising takes a hundred bytes
/// of memory for each.
const LONGEST_TEXT: usize = 1 << 18;

/// The beginning of a text that is longer than any context, and whether that is so.
fn limited(text: &str) -> (&str, bool) {
    (
        &text[..text.floor_char_boundary(LONGEST_TEXT)],
        text.len() > LONGEST_TEXT,
    )
}

/// The tokenizer in a file's bytes. Read as JSON first: the tokenizer library panics on a file that is cut off.
fn load(bytes: &[u8]) -> Result<tokenizers::Tokenizer, Source> {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes)?;
    let load = || tokenizers::Tokenizer::from_bytes(bytes);
    catch_unwind(load).unwrap_or_else(|_| Err("it is JSON, but of no tokenizer".into()))
}

/// An error, with some of those that are there, unless the vocabulary has the token of `language`.
fn has_language(path: &Path, inner: &tokenizers::Tokenizer, language: &Language) -> Result<()> {
    let Some(code) = &language.code else {
        return Ok(());
    };
    if Language::is_code(code) && inner.token_to_id(code).is_some() {
        return Ok(());
    }
    let tokens = inner.get_added_tokens_decoder().into_values();
    let codes: BTreeSet<String> = tokens
        .map(|token| token.content)
        .filter(|token| Language::is_code(token))
        .collect();
    Err(Error::NoLanguage {
        path: path.to_owned(),
        asked: code.clone(),
        found: some_of(&codes),
    })
}

/// The languages that most users look for and the first others, and how many more there are.
fn some_of(codes: &BTreeSet<String>) -> String {
    const SHOWN: usize = 8;
    const FIRST: [&str; 5] = ["eng_Latn", "fra_Latn", "deu_Latn", "spa_Latn", "zho_Hans"];
    let (known, others): (Vec<&String>, Vec<&String>) = codes
        .iter()
        .partition(|code| FIRST.contains(&code.as_str()));
    let all: Vec<&str> = known
        .into_iter()
        .chain(others)
        .map(String::as_str)
        .collect();
    match all.len() {
        0 => "none".to_owned(),
        count if count <= SHOWN => all.join(", "),
        count => format!("{} and {} more", all[..SHOWN].join(", "), count - SHOWN),
    }
}

/// Makes `inner` add the token of `language` and the end token to every text.
///
/// Source: transformers' `NllbTokenizer.set_src_lang_special_tokens`.
fn mark_language(inner: &mut tokenizers::Tokenizer, language: &Language) -> Result<(), Source> {
    let (Some(code), false) = (&language.code, language.place == LanguagePlace::Written) else {
        return Ok(());
    };
    let template = match language.place {
        LanguagePlace::Last => format!("$A {LANGUAGE_END} {code}"),
        _ => format!("{code} $A {LANGUAGE_END}"),
    };
    let id = |token: &str| {
        let id = inner.token_to_id(token);
        id.ok_or_else(|| format!("its vocabulary lacks {token}, which ends a text"))
    };
    let tokens = vec![
        (code.clone(), id(code)?),
        (LANGUAGE_END.to_owned(), id(LANGUAGE_END)?),
    ];
    let mut builder = TemplateProcessing::builder();
    builder.try_single(template)?.special_tokens(tokens);
    inner.with_post_processor(Some(builder.build()?));
    Ok(())
}

fn truncation(context_length: usize) -> TruncationParams {
    TruncationParams {
        max_length: context_length,
        direction: TruncationDirection::Right,
        strategy: TruncationStrategy::LongestFirst,
        stride: 0,
    }
}

/// Puts lower-casing before what the tokenizer's normaliser does. Special tokens are found before it.
fn lower_case(inner: &mut tokenizers::Tokenizer) {
    let mut steps: Vec<NormalizerWrapper> = vec![Lowercase.into()];
    steps.extend(inner.get_normalizer().cloned());
    inner.with_normalizer(Some(normalizers::Sequence::new(steps)));
}

/// The pieces that open_clip's tokenizer knows as its start and end tokens.
const OPEN_CLIP_ENDS: [&str; 2] = ["<start_of_text>", "<end_of_text>"];

/// Makes `inner` cut texts as open_clip's `SimpleTokenizer` does; the ids of its start and end tokens.
fn split_as_open_clip(inner: &mut tokenizers::Tokenizer) -> Result<[u32; 2], Source> {
    // Its expression, whose IGNORECASE matters for one letter: ſ is s in another case.
    const PIECES: &str = r"<start_of_text>|<end_of_text>|'[sſ]|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    let ends = inner.encode("", true)?.get_ids().to_vec();
    let ends =
        <[u32; 2]>::try_from(ends).map_err(|_| "it adds no start and end token to a text")?;
    let pieces = Split::new(
        SplitPattern::Regex(PIECES.to_owned()),
        SplitDelimiterBehavior::Removed,
        true,
    )?;
    let bytes = ByteLevel::new(false, false, false);
    inner.with_pre_tokenizer(Some(Sequence::new(vec![pieces.into(), bytes.into()])));
    // The cleaning has done what the file's normaliser would do.
    inner.with_normalizer(None::<NormalizerWrapper>);
    inner.with_truncation(None)?;
    inner.set_encode_special_tokens(true);
    Ok(ends)
}

/// The ids of an encoding, with one id for each piece that names a start or end token.
fn piece_ids(encoding: &Encoding, text: &str, ends: [u32; 2]) -> Vec<u32> {
    let ids = encoding.get_ids();
    if !text.contains("_of_text>") {
        return ids.to_vec();
    }
    let mut all = Vec::with_capacity(ids.len());
    let mut tokens = 0..ids.len();
    while let Some(first) = tokens.next() {
        let word = encoding.get_word_ids()[first];
        let last = (first..ids.len())
            .take_while(|&token| encoding.get_word_ids()[token] == word)
            .last();
        let last = last.unwrap_or(first);
        let piece = text.get(encoding.get_offsets()[first].0..encoding.get_offsets()[last].1);
        match OPEN_CLIP_ENDS.iter().position(|&end| Some(end) == piece) {
            Some(end) => all.push(ends[end]),
            None => all.extend(&ids[first..=last]),
        }
        tokens = last + 1..ids.len();
    }
    all
}

/// A text's ids between its start and end token, cut so that both stay.
fn between(ends: [u32; 2], ids: Vec<u32>, context_length: usize) -> TextIds {
    let room = context_length.saturating_sub(2);
    let is_cut = ids.len() > room;
    let ids = [ends[0]]
        .into_iter()
        .chain(ids.into_iter().take(room))
        .chain([ends[1]])
        .collect();
    TextIds { ids, is_cut }
}

impl AsRef<TextIds> for TextIds {
    fn as_ref(&self) -> &TextIds {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_told_by_their_shape() {
        for code in ["eng_Latn", "zho_Hans", "tzm_Tfng"] {
            assert!(Language::is_code(code), "{code}");
        }
        for other in [
            "en", "eng_latn", "ENG_Latn", "eng-Latn", "</s>", "en_Latin", "ab_Äbc", "",
        ] {
            assert!(!Language::is_code(other), "{other}");
        }
    }

    #[test]
    fn of_many_languages_some_are_named() {
        let codes = |codes: &[&str]| codes.iter().map(|&code| code.to_owned()).collect();
        assert_eq!(some_of(&codes(&[])), "none");
        let mut many = vec!["zho_Hans", "eng_Latn"];
        let others: Vec<String> = ('a'..='j')
            .map(|letter| format!("{letter}aa_Latn"))
            .collect();
        many.extend(others.iter().map(String::as_str));
        assert_eq!(
            some_of(&codes(&many)),
            "eng_Latn, zho_Hans, aaa_Latn, baa_Latn, caa_Latn, daa_Latn, eaa_Latn, faa_Latn and 4 more"
        );
    }
}

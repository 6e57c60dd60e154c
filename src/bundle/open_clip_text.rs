//! What open_clip's configs say of texts: which tokenizer, which cleaning, what padding is made of.
//!
//! Every setting that changes ids is read or refused. Which keys there are: open_clip's `CLIPTextCfg`, and the
//! arguments of its `SimpleTokenizer` and `HFTokenizer`, which `tokenizer_kwargs` are.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::json::Json;
use super::{Layout, Pad, TextConfig, TextFiles, Unstated, needed, with_weights};
use crate::clean::Cleaning;
use crate::error::{Error, Result};
use crate::graph_file;
use crate::tokenize::{Language, LanguagePlace, Splitting};

/// The context length that open_clip and immich take where none is stated.
const DEFAULT_CONTEXT: usize = 77;

/// The language that transformers' `NllbTokenizer` takes where none is stated.
const DEFAULT_LANGUAGE: &str = "eng_Latn";

/// The text half of a bundle, and what no file states of it.
pub(super) struct Text {
    pub(super) files: TextFiles,
    pub(super) unstated: Option<Unstated>,
}

/// The configs beside a `tokenizer.json`, as transformers reads them.
pub(super) struct TokenizerConfigs {
    pub(super) config: Option<Json>,
    pub(super) special: Option<Json>,
}

/// Whose tokenizer it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// open_clip's `SimpleTokenizer`.
    OpenClips,
    /// One of transformers, in open_clip's `HFTokenizer`.
    Transformers,
    /// The file alone, as immich's service takes it.
    Immichs,
}

pub(super) fn files(
    path: &Path,
    graph: &Path,
    layout: Layout,
    model: &Json,
    files: &mut Vec<PathBuf>,
) -> Result<Text> {
    let folder = match layout {
        Layout::Immich => "textual/",
        _ => "",
    };
    let tokenizer = needed(path, &format!("{folder}tokenizer.json"), "the vocabulary")?;
    let configs = TokenizerConfigs::open(path, folder, layout)?;
    files.extend(configs.paths());
    files.push(tokenizer.clone());
    files.extend(with_weights(path, graph)?);

    let text_cfg = model
        .object("text_cfg")?
        .ok_or_else(|| model.wrong("text_cfg", "an object"))?;
    let kind = kind(layout, &text_cfg)?;
    let kwargs = text_cfg.object("tokenizer_kwargs")?;
    refuse_unknown(kind, &text_cfg, kwargs.as_ref())?;
    if kind == Kind::Transformers {
        configs.refuse_left(&tokenizer)?;
    }
    let (language, unstated) = language(kind, &text_cfg, kwargs.as_ref(), &configs)?;
    let text = TextConfig {
        splitting: match kind {
            Kind::OpenClips => Splitting::OpenClip,
            _ => Splitting::File,
        },
        cleaning: cleaning(kind, kwargs.as_ref())?,
        context_length: Some(
            text_cfg
                .count("context_length")?
                .map_or(DEFAULT_CONTEXT, |length| length as usize),
        ),
        is_padded_full: true,
        hides_padding: false,
        pad: pad(kind, path, &configs)?,
        trained_pad: None,
        stripped_token: stripped(kind, kwargs.as_ref(), &configs)?,
        vocabulary_size: vocabulary_size(&text_cfg, graph)?,
        language,
        prefix: String::new(),
        rows: None,
        refused_rows: None,
        is_pooled: true,
        has_layer_norm: false,
    };
    Ok(Text {
        files: TextFiles {
            graph: graph.to_owned(),
            tokenizer,
            text,
        },
        unstated,
    })
}

/// Without the name of a Hugging Face tokenizer, open_clip takes its own.
fn kind(layout: Layout, text_cfg: &Json) -> Result<Kind> {
    let name = text_cfg.string("hf_tokenizer_name")?;
    Ok(match layout {
        Layout::Immich => Kind::Immichs,
        _ if name.is_some_and(|name| !name.is_empty()) => Kind::Transformers,
        _ => Kind::OpenClips,
    })
}

/// An error for what would change ids and is not done here. immich's service reads no more than the cleaning.
fn refuse_unknown(kind: Kind, text_cfg: &Json, kwargs: Option<&Json>) -> Result<()> {
    let known: &[&str] = match kind {
        Kind::Immichs => return Ok(()),
        Kind::OpenClips => &["clean", "reduction_mask"],
        Kind::Transformers => &["clean", "strip_sep_token", "language", "src_lang"],
    };
    let is_given = |json: &Json, key| Ok(json.string(key)?.is_some_and(|word| !word.is_empty()));
    if kind == Kind::Transformers && is_given(text_cfg, "tokenizer_mode")? {
        let expected = "no mode: the order of special tokens that one asks for is not known here";
        return Err(text_cfg.wrong("tokenizer_mode", expected));
    }
    let Some(kwargs) = kwargs else {
        return Ok(());
    };
    kwargs.refuse_unknown_keys(known)?;
    if kind == Kind::Transformers && kwargs.has("language") {
        // open_clip hands it on, and transformers sets it back with every call.
        let expected =
            "none, since it changes nothing in open_clip; src_lang there or --language does";
        return Err(kwargs.wrong("language", expected));
    }
    if kind == Kind::OpenClips && is_given(kwargs, "reduction_mask")? {
        let expected = "none: it drops tokens at random, which is for training";
        return Err(kwargs.wrong("reduction_mask", expected));
    }
    Ok(())
}

/// open_clip's own tokenizer lower-cases after the full cleaning; its wrapper of Hugging Face's takes `clean`, with
/// "whitespace" as the default. immich looks for "canonicalize" alone.
fn cleaning(kind: Kind, kwargs: Option<&Json>) -> Result<Cleaning> {
    const KNOWN: [(&str, Cleaning); 3] = [
        ("lower", Cleaning::Lower),
        ("whitespace", Cleaning::Whitespace),
        ("canonicalize", Cleaning::Canonicalize),
    ];
    let clean = kwargs
        .map(|kwargs| kwargs.choice("clean", &KNOWN))
        .transpose()?
        .flatten();
    Ok(match kind {
        Kind::Immichs => Cleaning::Immich {
            canonicalize: clean == Some(Cleaning::Canonicalize),
        },
        Kind::OpenClips => clean.unwrap_or(Cleaning::Lower),
        Kind::Transformers => clean.unwrap_or(Cleaning::Whitespace),
    })
}

/// open_clip's own tokenizer pads with 0, whatever a config beside it says.
fn pad(kind: Kind, path: &Path, configs: &TokenizerConfigs) -> Result<Pad> {
    if kind == Kind::OpenClips {
        return Ok(Pad::Id(0));
    }
    if let Some(token) = configs.token("pad_token")? {
        return Ok(Pad::Token(token));
    }
    // It may be stated there alone, and is read later on.
    let overrides = Json::open_first(path, &["diptych.json"])?;
    match overrides.and_then(|json| json.id("text.pad_id").ok().flatten()) {
        Some(id) => Ok(Pad::Id(id)),
        None => Err(configs.missing(path, "pad_token")),
    }
}

/// The token that `strip_sep_token` takes away, which immich's service does not.
fn stripped(
    kind: Kind,
    kwargs: Option<&Json>,
    configs: &TokenizerConfigs,
) -> Result<Option<String>> {
    let kwargs = kwargs.filter(|_| kind == Kind::Transformers);
    let Some(kwargs) = kwargs else {
        return Ok(None);
    };
    if kwargs.bool("strip_sep_token")? != Some(true) {
        return Ok(None);
    }
    let token = configs.token("sep_token")?;
    let expected = "false, or a sep_token in tokenizer_config.json";
    token
        .map(Some)
        .ok_or_else(|| kwargs.wrong("strip_sep_token", expected))
}

/// What the text tower was made for, where it is open_clip's. One of transformers states it elsewhere, and so does one
/// with a mask, as M-CLIP's has: the config beside it is that of the image tower's own text tower.
fn vocabulary_size(text_cfg: &Json, graph: &Path) -> Result<Option<usize>> {
    let inputs = graph_file::read(graph)?.input_axes.len();
    let size = text_cfg.id("vocab_size")?.map(|size| size as usize);
    Ok(size.filter(|_| inputs == 1 && !text_cfg.has("hf_model_name")))
}

/// How texts are told to be of a language, where the tokenizer marks it. No file can state which one: the one that
/// `tokenizer_config.json` names is where a translator starts, so it is taken, and said.
fn language(
    kind: Kind,
    text_cfg: &Json,
    kwargs: Option<&Json>,
    configs: &TokenizerConfigs,
) -> Result<(Option<Language>, Option<Unstated>)> {
    let stated = match kwargs.filter(|_| kind == Kind::Transformers) {
        Some(kwargs) => kwargs.string("src_lang")?,
        None => None,
    };
    if kind == Kind::OpenClips || !configs.marks_language(text_cfg)? {
        return match (stated, kwargs) {
            (Some(_), Some(kwargs)) => {
                let expected = "none, since its tokenizer is not NLLB's";
                Err(kwargs.wrong("src_lang", expected))
            }
            _ => Ok((None, None)),
        };
    }
    let taken = |taken: &str| Unstated {
        what: "the language that texts are in",
        taken: taken.to_owned(),
        option: Unstated::LANGUAGE,
    };
    if kind == Kind::Immichs {
        let language = Language {
            code: None,
            place: LanguagePlace::Written,
        };
        let unstated = taken("what the tokenizer adds by itself");
        return Ok((Some(language), Some(unstated)));
    }
    let default = configs.string("src_lang")?;
    let default = default.unwrap_or_else(|| DEFAULT_LANGUAGE.to_owned());
    let unstated = stated.is_none().then(|| taken(&default));
    let place = match configs.bool("legacy_behaviour")? {
        Some(true) => LanguagePlace::Last,
        _ => LanguagePlace::First,
    };
    let code = Some(stated.unwrap_or(default));
    Ok((Some(Language { code, place }), unstated))
}

/// Where a `tokenizer.json` says that texts are padded and cut, as far as it does.
#[derive(Default, Deserialize)]
struct Blocks {
    padding: Option<Block>,
    truncation: Option<Block>,
}

#[derive(Deserialize)]
struct Block {
    direction: String,
}

impl Blocks {
    /// None, of a file that cannot be read: that is told when the tokenizer is opened.
    fn read(tokenizer: &Path) -> Self {
        let bytes = fs::read(tokenizer).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Whether the block named `name` is there; an error if it states the left side.
    fn states_right(&self, name: &str, tokenizer: &Path) -> Result<bool> {
        let block = match name {
            "padding" => &self.padding,
            _ => &self.truncation,
        };
        match block {
            Some(block) if block.direction == "Left" => Err(Error::Config {
                path: tokenizer.to_owned(),
                key: format!("{name}.direction"),
                found: block.direction.clone(),
                expected: "Right, which is all that is done here".to_owned(),
            }),
            block => Ok(block.is_some()),
        }
    }
}

impl TokenizerConfigs {
    pub(super) fn open(path: &Path, folder: &str, layout: Layout) -> Result<Self> {
        let config = Json::open_first(path, &[&format!("{folder}tokenizer_config.json")])?;
        let special = match layout {
            Layout::Immich => None,
            _ => Json::open_first(path, &["special_tokens_map.json"])?,
        };
        Ok(Self { config, special })
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        let files = self.config.iter().chain(&self.special);
        files.map(|json| json.path().to_owned())
    }

    fn string(&self, key: &str) -> Result<Option<String>> {
        let config = self.config.as_ref();
        Ok(config.map(|json| json.string(key)).transpose()?.flatten())
    }

    fn bool(&self, key: &str) -> Result<Option<bool>> {
        let config = self.config.as_ref();
        Ok(config.map(|json| json.bool(key)).transpose()?.flatten())
    }

    /// The name of the tokenizer's class, without the ending that transformers 5 drops.
    pub(super) fn class(&self) -> Result<Option<String>> {
        let class = self.string("tokenizer_class")?;
        Ok(class.map(|class| class.strip_suffix("Fast").unwrap_or(&class).to_owned()))
    }

    /// A special token: as a file states it, otherwise the one that its class has by default.
    fn token(&self, name: &str) -> Result<Option<String>> {
        for json in self.config.iter().chain(&self.special) {
            if let Some(token) = json.token(name)? {
                return Ok(Some(token));
            }
        }
        let class = self.class()?.unwrap_or_default();
        let default = match (class.as_str(), name) {
            ("BertTokenizer", "pad_token") => "[PAD]",
            ("BertTokenizer", "sep_token") => "[SEP]",
            ("XLMRobertaTokenizer" | "RobertaTokenizer" | "NllbTokenizer", "sep_token") => "</s>",
            (
                "XLMRobertaTokenizer"
                | "RobertaTokenizer"
                | "NllbTokenizer"
                | "T5Tokenizer"
                | "GemmaTokenizer",
                "pad_token",
            ) => "<pad>",
            ("CLIPTokenizer", "pad_token") => "<|endoftext|>",
            _ => return Ok(None),
        };
        Ok(Some(default.to_owned()))
    }

    /// The error that no file names a token.
    fn missing(&self, path: &Path, name: &str) -> Error {
        let expected = "the token that texts are padded with, or text.pad_id in diptych.json";
        match &self.config {
            Some(config) => config.wrong(name, expected),
            None => Error::MissingFile {
                path: path.to_owned(),
                file: "tokenizer_config.json".to_owned(),
                states: expected,
            },
        }
    }

    /// An error unless texts are padded and cut at their end, which is all that is done here. transformers goes by
    /// `tokenizer_config.json`, then by the blocks in `tokenizer.json`, then by the class.
    pub(super) fn refuse_left(&self, tokenizer: &Path) -> Result<()> {
        let config = self.config.as_ref();
        let side = |key| {
            let side = config.map(|config| config.choice(key, &[("right", ())]));
            Ok::<_, Error>(side.transpose()?.flatten().is_some())
        };
        let (is_cut_so, is_padded_so) = (side("truncation_side")?, side("padding_side")?);
        if is_cut_so && is_padded_so {
            return Ok(());
        }
        let blocks = Blocks::read(tokenizer);
        if !is_cut_so {
            blocks.states_right("truncation", tokenizer)?;
        }
        if is_padded_so || blocks.states_right("padding", tokenizer)? {
            return Ok(());
        }
        // The classes among those that text towers have that pad at the start unless they are told not to.
        let class = self.class()?.unwrap_or_default();
        match &self.config {
            Some(config) if matches!(class.as_str(), "GemmaTokenizer" | "Siglip2Tokenizer") => {
                let expected = "\"right\": a Gemma tokenizer pads at the start otherwise, which is not done here";
                Err(config.wrong("padding_side", expected))
            }
            _ => Ok(()),
        }
    }

    /// Whether the tokenizer is of NLLB's kind, by its class, otherwise by the name of what it was made for.
    fn marks_language(&self, text_cfg: &Json) -> Result<bool> {
        if let Some(class) = self.class()? {
            return Ok(class == "NllbTokenizer");
        }
        let names = [
            text_cfg.string("hf_tokenizer_name")?,
            text_cfg.string("hf_model_name")?,
        ];
        let mut names = names.into_iter().flatten();
        Ok(names.any(|name| name.to_lowercase().contains("nllb")))
    }
}

//! What transformers' tokenizers do with texts, by `tokenizer_config.json`, `config.json` and the family.

use std::path::{Path, PathBuf};

use super::family::{self, TextRules};
use super::json::Json;
use super::open_clip_text::TokenizerConfigs;
use super::{Layout, Pad, TextConfig, TextFiles, Unstated, needed, sentence, with_weights};
use crate::clean::Cleaning;
use crate::error::Result;
use crate::tokenize::Splitting;

/// What stands on a model's card alone.
fn card_alone(text: &TextConfig) -> Vec<Unstated> {
    let mut unstated = Vec::new();
    if !text.prefix.is_empty() {
        unstated.push(Unstated {
            what: "what stands before a text",
            taken: format!("{:?}", text.prefix),
            option: PREFIX,
        });
    }
    if text.has_layer_norm {
        unstated.push(Unstated {
            what: "whether a text's values are normed to mean 0 and variance 1",
            taken: "that they are, as of version 1.5 and not of version 1,".to_owned(),
            option: LAYER_NORM,
        });
    }
    unstated
}

/// What says otherwise where no option of the program does.
pub(super) const CLEAN: &str = "\"text\": {\"clean\": \"lower\"} in diptych.json";

pub(super) const LAYER_NORM: &str = "\"text\": {\"layer_norm\": false} in diptych.json";
pub(super) const PAD_ID: &str = "\"text\": {\"pad_id\": N} in diptych.json";
pub(super) const PREFIX: &str = "--prefix";

impl Unstated {
    /// That a graph sees its padding, and gets the id it was trained with in place of the one that files name.
    pub(crate) fn seen_padding(trained: u32, named: &Pad) -> Self {
        let named = match named {
            Pad::Token(token) => format!("{token:?}"),
            Pad::Id(id) => format!("id {id}"),
        };
        Self {
            what: "what pads texts, which this graph sees",
            taken: format!("id {trained}, as open_clip trains, and not {named}"),
            option: PAD_ID,
        }
    }
}

/// SigLIP 2 was trained on texts in lower case, but its first files name a class that keeps capitals, and transformers
/// does as the class does.
fn kept_capitals(
    config: Option<&Json>,
    tokenizer_config: Option<&Json>,
) -> Result<Option<Unstated>> {
    let class = tokenizer_config.map(|json| json.string("tokenizer_class"));
    let class = class.transpose()?.flatten().unwrap_or_default();
    let is_gemma = class.strip_suffix("Fast").unwrap_or(&class) == "GemmaTokenizer";
    let is_siglip = family::name(config)?.starts_with("siglip");
    Ok((is_gemma && is_siglip).then(|| Unstated {
        what: "that capitals are kept, though SigLIP 2 was trained without them",
        taken: format!("what {class} does"),
        option: CLEAN,
    }))
}

/// The text half of a bundle, and what no file states of it and is taken nonetheless.
pub(super) fn files(
    path: &Path,
    graph: &Path,
    config: Option<&Json>,
    files: &mut Vec<PathBuf>,
) -> Result<(TextFiles, Vec<Unstated>)> {
    let tokenizer = needed(path, "tokenizer.json", "the vocabulary")?;
    let configs = TokenizerConfigs::open(path, "", Layout::Transformers)?;
    configs.refuse_left(&tokenizer)?;
    files.extend(configs.paths());
    files.push(tokenizer.clone());
    files.extend(with_weights(path, graph)?);

    let rules = family::text_rules(&family::name(config)?);
    let sentence = sentence::open(path, files)?;
    let stated = context_length(config, configs.config.as_ref(), rules)?;
    let text = TextFiles {
        graph: graph.to_owned(),
        tokenizer,
        text: TextConfig {
            language: None,
            cleaning: Cleaning::None,
            splitting: splitting(&configs, sentence.lower_cases)?,
            context_length: stated.into_iter().chain(sentence.context_length).min(),
            is_padded_full: rules.is_padded_full,
            hides_padding: rules.hides_padding,
            pad: pad(config, configs.config.as_ref(), configs.special.as_ref())?,
            trained_pad: rules.trained_pad,
            stripped_token: None,
            vocabulary_size: vocabulary_size(config)?,
            prefix: rules.prefix.to_owned(),
            rows: sentence.rows,
            refused_rows: sentence.refused_rows,
            is_pooled: rules.is_pooled,
            has_layer_norm: rules.has_layer_norm,
        },
    };
    let mut unstated = card_alone(&text.text);
    unstated.extend(kept_capitals(config, configs.config.as_ref())?);
    Ok((text, unstated))
}

/// A key of the text model: in `text_config`, or at the top for a bundle of a text tower alone.
fn text_key(config: Option<&Json>, key: &str) -> Option<String> {
    let config = config?;
    [format!("text_config.{key}"), key.to_owned()]
        .into_iter()
        .find(|key| config.has(key))
}

fn vocabulary_size(config: Option<&Json>) -> Result<Option<usize>> {
    let (Some(config), Some(key)) = (config, text_key(config, "vocab_size")) else {
        return Ok(None);
    };
    Ok(config.id(&key)?.map(|size| size as usize))
}

/// What the class of tokenizer makes of its `tokenizer.json`, of texts that sentence-transformers brings to lower case
/// before or not.
///
/// Source: the classes of transformers 5.24.
fn splitting(configs: &TokenizerConfigs, lower_cases: bool) -> Result<Splitting> {
    const BERTS: [&str; 5] = [
        "BertTokenizer",
        "DistilBertTokenizer",
        "ElectraTokenizer",
        "MobileBertTokenizer",
        "MPNetTokenizer",
    ];
    let class = configs.class()?.unwrap_or_default();
    match &configs.config {
        Some(config) if BERTS.contains(&class.as_str()) => bert(config, lower_cases),
        _ if lower_cases || class == "Siglip2Tokenizer" => Ok(Splitting::LowerCase),
        _ => Ok(Splitting::File),
    }
}

/// What BERT's classes do: as their arguments say, whatever their `tokenizer.json` does.
fn bert(config: &Json, lower_cases: bool) -> Result<Splitting> {
    let own = config.bool("do_lower_case")?.unwrap_or(true);
    let strips = config.bool("strip_accents")?.unwrap_or(own);
    Ok(Splitting::Bert {
        lower_cases: own || lower_cases,
        strips_accents: strips,
        parts_chinese: config.bool("tokenize_chinese_chars")?.unwrap_or(true),
    })
}

/// The smaller of what tokenizer and model state, otherwise the family's. A tokenizer without a limit states a huge one.
fn context_length(
    config: Option<&Json>,
    tokenizer_config: Option<&Json>,
    rules: TextRules,
) -> Result<Option<usize>> {
    let model = match (config, text_key(config, "max_position_embeddings")) {
        (Some(config), Some(key)) => config.count(&key)?,
        _ => None,
    };
    let tokenizer = tokenizer_config
        .map(|json| json.number("model_max_length"))
        .transpose()?
        .flatten();
    let tokenizer = tokenizer
        .filter(|&length| (1.0..65536.0).contains(&length))
        .map(|length| length as u32);
    let stated = model.into_iter().chain(tokenizer).min();
    Ok(stated
        .map(|length| length as usize)
        .or(rules.usual_context)
        .into_iter()
        .chain(rules.longest_context)
        .min())
}

fn pad(
    config: Option<&Json>,
    tokenizer_config: Option<&Json>,
    special: Option<&Json>,
) -> Result<Pad> {
    for json in tokenizer_config.into_iter().chain(special) {
        if let Some(token) = json.token("pad_token")? {
            return Ok(Pad::Token(token));
        }
    }
    let id = match (config, text_key(config, "pad_token_id")) {
        (Some(config), Some(key)) => config.id(&key)?,
        _ => None,
    };
    Ok(Pad::Id(id.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The context length of a family whose config and tokenizer state these.
    fn context(family: &str, positions: u32, tokens: &str) -> Option<usize> {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str, text: String| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            Json::open(&path).unwrap()
        };
        let positions = match positions {
            0 => String::new(),
            count => format!(r#", "text_config": {{"max_position_embeddings": {count}}}"#),
        };
        let config = open(
            "config.json",
            format!(r#"{{"model_type": "{family}"{positions}}}"#),
        );
        let tokenizer = open(
            "tokenizer_config.json",
            format!(r#"{{"model_max_length": {tokens}}}"#),
        );
        context_length(Some(&config), Some(&tokenizer), family::text_rules(family)).unwrap()
    }

    #[test]
    fn contexts_are_what_training_had() {
        const NO_LIMIT: &str = "1000000000000000019884624838656";
        assert_eq!(context("clip", 77, "77"), Some(77));
        assert_eq!(context("clip", 0, NO_LIMIT), None);
        assert_eq!(context("siglip", 0, NO_LIMIT), Some(64));
        assert_eq!(context("siglip", 16, NO_LIMIT), Some(16));
        assert_eq!(context("chinese_clip", 512, "512"), Some(52));
        assert_eq!(context("chinese_clip", 24, "512"), Some(24));
        assert_eq!(context("jina_clip", 0, "8194"), Some(512));
    }
}

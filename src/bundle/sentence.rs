//! The configs that sentence-transformers writes beside a text model: how the rows of tokens become a text's.
//!
//! Both generations of them: those since version 5.4 name the mode in one key, those before have a switch for each.

use std::path::{Path, PathBuf};

use super::Refused;
use super::json::Json;
use crate::error::{Error, Result};
use crate::pooling::Rows;

/// What the configs state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sentence {
    /// What a text's row is made of.
    pub(super) rows: Option<Rows>,
    /// A mode of pooling or a module that is not known here; only the graph says whether it is done there.
    pub(super) refused_rows: Option<Refused>,
    /// The most tokens that a text may have.
    pub(super) context_length: Option<usize>,
    /// Whether texts are brought to lower case before the tokenizer sees them.
    pub(super) lower_cases: bool,
}

const POOLING: &str = "1_Pooling/config.json";
const TRANSFORMER: &str = "sentence_bert_config.json";
const MODULES: &str = "modules.json";

/// The names of the configs, for a hub.
pub(super) const NAMES: [&str; 3] = [POOLING, TRANSFORMER, MODULES];

/// What the configs in folder `path` state; those that are there are added to `files`.
pub(super) fn open(path: &Path, files: &mut Vec<PathBuf>) -> Result<Sentence> {
    let mut sentence = Sentence::default();
    let Some(pooling) = Json::open_first(path, &[POOLING])? else {
        return Ok(sentence);
    };
    if pooling.bool("include_prompt")? == Some(false) {
        // Which tokens are the prefix's, no graph knows either.
        return Err(pooling.wrong("include_prompt", "true: a prefix is pooled as the text is"));
    }
    files.push(pooling.path().to_owned());
    match known(rows(&pooling))? {
        Ok(rows) => sentence.rows = Some(rows),
        Err(refused) => sentence.refused_rows = Some(refused),
    }
    if path.join(MODULES).is_file() {
        let modules = known(refuse_other_modules(&path.join(MODULES)))?;
        sentence.refused_rows = sentence.refused_rows.or(modules.err());
        files.push(path.join(MODULES));
    }
    if let Some(transformer) = Json::open_first(path, &[TRANSFORMER])? {
        let length = transformer.count("max_seq_length")?;
        sentence.context_length = length.map(|length| length as usize);
        sentence.lower_cases = transformer.bool("do_lower_case")?.unwrap_or(false);
        files.push(transformer.path().to_owned());
    }
    Ok(sentence)
}

/// What was read, or the value that is not known here; an error if the file cannot be read.
fn known<T>(read: Result<T>) -> Result<std::result::Result<T, Refused>> {
    match read {
        Ok(read) => Ok(Ok(read)),
        Err(Error::Config {
            path,
            key,
            found,
            expected,
        }) => Ok(Err(Refused {
            path,
            key,
            found,
            expected,
        })),
        Err(other) => Err(other),
    }
}

/// The mode of pooling. Without one, sentence-transformers takes the mean.
fn rows(pooling: &Json) -> Result<Rows> {
    const MODES: [(&str, Rows); 3] = [
        ("cls", Rows::Cls),
        ("mean", Rows::Mean),
        // Over the root of the count instead of the count, which is another length and the same direction.
        ("mean_sqrt_len_tokens", Rows::Mean),
    ];
    const SWITCHES: [(&str, Option<Rows>); 6] = [
        ("pooling_mode_cls_token", Some(Rows::Cls)),
        ("pooling_mode_mean_tokens", Some(Rows::Mean)),
        ("pooling_mode_mean_sqrt_len_tokens", Some(Rows::Mean)),
        ("pooling_mode_max_tokens", None),
        ("pooling_mode_weightedmean_tokens", None),
        ("pooling_mode_lasttoken", None),
    ];
    if let Some(rows) = pooling.choice("pooling_mode", &MODES)? {
        return Ok(rows);
    }
    let mut taken = None;
    for (key, rows) in SWITCHES {
        if pooling.bool(key)? != Some(true) {
            continue;
        }
        if rows.is_none() || taken.is_some() {
            return Err(pooling.wrong(
                key,
                "one mode of pooling, by class token or mean, and no second",
            ));
        }
        taken = rows;
    }
    Ok(taken.unwrap_or(Rows::Mean))
}

/// A layer behind the pooling would be left out in silence.
fn refuse_other_modules(path: &Path) -> Result<()> {
    const KNOWN: [&str; 3] = ["Transformer", "Pooling", "Normalize"];
    let modules = Json::open_list(path)?;
    for module in &modules {
        let class = module.string("type")?.unwrap_or_default();
        let name = class.rsplit('.').next().unwrap_or_default();
        if !KNOWN.contains(&name) {
            return Err(module.wrong("type", format!("one of {}", KNOWN.join(", "))));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn pooling(text: &str) -> Result<Rows> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, text).unwrap();
        rows(&Json::open(&path).unwrap())
    }

    #[test]
    fn both_generations_say_how_rows_are_pooled() {
        let old = r#"{"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}"#;
        assert_eq!(pooling(old).unwrap(), Rows::Mean);
        assert_eq!(
            pooling(r#"{"pooling_mode_cls_token": true}"#).unwrap(),
            Rows::Cls
        );
        assert_eq!(pooling(r#"{"pooling_mode": "cls"}"#).unwrap(), Rows::Cls);
        // The new key wins, and without any the mean is taken.
        let both = r#"{"pooling_mode": "mean", "pooling_mode_cls_token": true}"#;
        assert_eq!(pooling(both).unwrap(), Rows::Mean);
        assert_eq!(pooling("{}").unwrap(), Rows::Mean);
        for refused in [
            r#"{"pooling_mode": "lasttoken"}"#,
            r#"{"pooling_mode_max_tokens": true}"#,
            r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}"#,
        ] {
            assert!(pooling(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_prefix_that_is_not_pooled_is_refused_whatever_the_graph_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(POOLING);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(
            &path,
            r#"{"pooling_mode": "mean", "include_prompt": false}"#,
        )
        .unwrap();
        let error = open(folder.path(), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("include_prompt"), "{error}");
    }

    #[test]
    fn a_dense_layer_is_not_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let write = |types: &[&str]| {
            let modules: Vec<String> = types
                .iter()
                .map(|name| format!(r#"{{"type": "sentence_transformers.models.{name}"}}"#))
                .collect();
            let path = folder.path().join(MODULES);
            fs::write(&path, format!("[{}]", modules.join(", "))).unwrap();
            refuse_other_modules(&path)
        };
        assert!(write(&["Transformer", "Pooling", "Normalize"]).is_ok());
        let error = write(&["Transformer", "Pooling", "Dense"]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("sentence_transformers.models.Dense"),
            "{error}"
        );
    }
}

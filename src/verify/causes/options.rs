//! Options of the run that made the record, such as `--dim`, that are not those of this run.
//!
//! A record of diptych states them where there are some. Of one that states none, as of other programs, they are found
//! by trying.

use std::fmt::Display;

use serde_json::Value;

use super::image_rows::Images;
use super::text_rows::Texts;
use super::{Cause, CauseKind, are_equal, cause};
use crate::bundle::{Layout, Towers};
use crate::embedding::Embeddings;
use crate::encoder::{DualEncoder, EncoderOptions};
use crate::error::{Error, Result};
use crate::pooling::Rows;
use crate::tokenize::Tokenizer;
use crate::verify::compare::StageName;
use crate::verify::record::{Record, contents};

/// Prefixes that models are published with.
const PREFIXES: [&str; 7] = [
    "",
    "search_query: ",
    "search_document: ",
    "clustering: ",
    "classification: ",
    "query: ",
    "passage: ",
];

/// What differs, in one sentence.
type Told = Option<String>;

/// `--dim`: rows of another width.
pub(super) fn dim(
    stage: StageName,
    [found, expected]: [&[Embeddings]; 2],
    [own, record]: [&Record; 2],
    tolerance: f64,
) -> Option<Cause> {
    let told = match &record.options {
        Some(options) => of_two("--dim", own.options().dim.as_ref(), options.dim.as_ref()),
        None => tried_dim(found, expected, tolerance),
    };
    told.map(|told| cause(stage, CauseKind::Options, told))
}

/// One of both cut to the width of the other, and brought to unit length, is the other.
fn tried_dim(found: &[Embeddings], expected: &[Embeddings], tolerance: f64) -> Told {
    let [own, record] = [found, expected].map(|rows| rows[0].width());
    let cut = |rows: &[Embeddings], width| -> Option<Vec<Embeddings>> {
        let cut = |row: &Embeddings| {
            let row = row.rows().slice(ndarray::s![.., ..width]).to_owned();
            Embeddings::new(row).ok()
        };
        rows.iter().map(cut).collect()
    };
    if record < own && are_equal(&cut(found, record)?, expected, tolerance) {
        return Some(format!(
            "cut to {record} values, the rows are the record's: it was made with --dim {record}"
        ));
    }
    if own < record && are_equal(found, &cut(expected, own)?, tolerance) {
        return Some(format!(
            "the record's rows cut to {own} values are those of this run: it was made without --dim, or with --dim \
             {record}"
        ));
    }
    None
}

/// `--prefix` and `--language`: other ids.
pub(super) fn of_texts(texts: &Texts<'_>, [own, record]: [&Record; 2]) -> Result<Vec<Cause>> {
    let told = match &record.options {
        Some(options) => {
            let own = own.options();
            let quoted = |text: &Option<String>| text.as_ref().map(|text| format!("{text:?}"));
            let [a, b] = [&own.prefix, &options.prefix].map(quoted);
            let prefix = of_two("--prefix", a.as_ref(), b.as_ref());
            let [a, b] = [&own.language, &options.language].map(Option::as_ref);
            let language = of_two("--language", a, b);
            [prefix, language].into_iter().flatten().collect()
        }
        None => match tried_language(texts)? {
            Some(told) => vec![told],
            None => tried_prefix(texts)?.into_iter().collect(),
        },
    };
    let put = |told: String| cause(StageName::Ids, CauseKind::Options, told);
    Ok(told.into_iter().map(put).collect())
}

fn tried_prefix(texts: &Texts<'_>) -> Result<Told> {
    let own = texts.tokenizer().prefix();
    for prefix in PREFIXES.into_iter().filter(|&prefix| prefix != own) {
        if gives_the_ids(texts, &texts.tokenizer().clone().with_prefix(prefix))? {
            return Ok(Some(format!(
                "with --prefix {prefix:?} in place of {own:?} the ids are the record's"
            )));
        }
    }
    Ok(None)
}

/// The language whose token stands in the record where this run's stands.
fn tried_language(texts: &Texts<'_>) -> Result<Told> {
    let tokenizer = texts.tokenizer();
    let mut settings = tokenizer.settings().clone();
    let (Some(language), Some(code)) = (&mut settings.language, token_of_first_other_id(texts)?)
    else {
        return Ok(None);
    };
    let own = language.code.replace(code.clone());
    // A token that is no language is refused.
    let Ok(other) = Tokenizer::open(texts.tokenizer_file, settings) else {
        return Ok(None);
    };
    let is_explained = gives_the_ids(texts, &other.with_prefix(tokenizer.prefix()))?;
    let own = own.unwrap_or_else(|| "none".to_owned());
    Ok(is_explained
        .then(|| format!("with --language {code} in place of {own} the ids are the record's")))
}

/// The added token of the tokenizer that is the record's first id to differ.
fn token_of_first_other_id(texts: &Texts<'_>) -> Result<Option<String>> {
    let mut pairs = texts.found.iter().zip(texts.expected);
    let other = pairs.find_map(|(a, b)| {
        let mut ids = a.ids.iter().zip(&b.ids);
        ids.find_map(|(a, b)| (a != b).then_some(*b))
    });
    let path = texts.tokenizer_file;
    let bytes = std::fs::read(path).map_err(Error::read(path))?;
    let file: Value = serde_json::from_slice(&bytes).map_err(|source| Error::Json {
        path: path.to_owned(),
        source,
    })?;
    let mut added = file["added_tokens"].as_array().into_iter().flatten();
    let token = added.find(|token| other.is_some() && token["id"].as_i64() == other);
    Ok(token.and_then(|token| token["content"].as_str().map(str::to_owned)))
}

fn gives_the_ids(texts: &Texts<'_>, tokenizer: &Tokenizer) -> Result<bool> {
    let given: Vec<String> = texts.found.iter().map(|text| text.text.clone()).collect();
    let ids = contents(tokenizer, &given)?;
    Ok(ids.iter().zip(texts.expected).all(|(a, b)| *a == b.ids))
}

/// `--rows`: another kind of row from the same pictures.
pub(super) fn rows(
    encoder: &DualEncoder,
    images: &Images<'_>,
    [own, record]: [&Record; 2],
) -> Result<Option<Cause>> {
    let told = match &record.options {
        Some(options) => of_two("--rows", own.options().rows.as_ref(), options.rows.as_ref()),
        None => tried_rows(encoder, images)?,
    };
    Ok(told.map(|told| cause(StageName::ImageRows, CauseKind::Options, told)))
}

/// The kind of row that is the record's, where the graph gives a row for each token.
fn tried_rows(encoder: &DualEncoder, images: &Images<'_>) -> Result<Told> {
    let own = encoder.image_tower()?.rows();
    let is_one_of_several = encoder.bundle().layout == Layout::ImageAlone || own.contains(" of ");
    if !is_one_of_several {
        return Ok(None);
    }
    let kinds = [Rows::Cls, Rows::Mean, Rows::Pooled].map(Some);
    for rows in kinds.into_iter().chain([None]) {
        let options = EncoderOptions {
            towers: Towers::Image,
            rows,
            notice: |_| (),
            ..EncoderOptions::default()
        };
        // A graph need not give every kind.
        let Ok(other) = DualEncoder::from_bundle(encoder.bundle().clone(), &options) else {
            continue;
        };
        if images.are_those_of(&other)? {
            let with = rows.map_or("without --rows".to_owned(), |rows| {
                format!("with --rows {rows}")
            });
            return Ok(Some(format!(
                "{with}, in place of {own}, the rows are the record's"
            )));
        }
    }
    Ok(None)
}

/// What an option was in the run that made the record, where that differs from this run's.
fn of_two<T: PartialEq + Display>(option: &str, own: Option<&T>, record: Option<&T>) -> Told {
    let with = |value: Option<&T>| match value {
        Some(value) => format!("with {option} {value}"),
        None => format!("without {option}"),
    };
    (own != record).then(|| {
        format!(
            "the record was made {}, this run is {}",
            with(record),
            with(own)
        )
    })
}

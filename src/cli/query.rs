//! What a search is for: words and images, each with a sign and a weight.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use diptych::{DualEncoder, Embeddings, has_image_ending};

/// Stands for the - of a part of a query while options are told from it.
const MINUS: char = '\u{2212}';

/// The command line of `search` with parts such as -night marked, so that they are not taken for options.
///
/// Options of one letter stay options, and so does whatever follows an option that `takes_value`.
pub(super) fn mark_unwanted(
    arguments: Vec<OsString>,
    takes_value: impl Fn(&str) -> bool,
) -> Vec<OsString> {
    let mut is_value = false;
    let mut mark = |argument: OsString| {
        let text = argument.to_str().unwrap_or_default();
        let is_part = !is_value
            && text.starts_with('-')
            && !text.starts_with("--")
            && text.chars().count() > 2;
        is_value = text.strip_prefix("--").is_some_and(&takes_value);
        match text.strip_prefix('-').filter(|_| is_part) {
            Some(rest) => format!("{MINUS}{rest}").into(),
            None => argument,
        }
    };
    arguments.into_iter().map(&mut mark).collect()
}

/// One part of a query.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Term {
    /// What it counts; negative for what is not wanted.
    pub(super) weight: f32,
    pub(super) subject: Subject,
}

/// What a part is about.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Subject {
    Words(String),
    Image(PathBuf),
}

/// A query as it was typed: `"red car" +photo.jpg -night 2:beach`.
///
/// # Errors
///
/// If it is empty or only says what is not wanted, names a file that is not there, or a weight that is none.
pub(super) fn parse(arguments: &[String]) -> Result<Vec<Term>> {
    let terms = arguments
        .iter()
        .map(|argument| term(argument))
        .collect::<Result<Vec<_>>>()?;
    if !terms.iter().any(|term| term.weight > 0.0) {
        bail!("the query says only what is not wanted: add what is, in words or as an image");
    }
    Ok(terms)
}

fn term(argument: &str) -> Result<Term> {
    let (sign, rest) = match argument.strip_prefix(['-', MINUS]) {
        Some(rest) => (-1.0, rest),
        None => (1.0, argument.strip_prefix('+').unwrap_or(argument)),
    };
    let (weight, subject) = match rest.split_once(':') {
        Some((weight, subject)) if is_number(weight) => (weight.parse().unwrap_or(1.0), subject),
        _ => (1.0, rest),
    };
    if weight == 0.0 {
        bail!("{argument:?} has weight 0, expected more; leave it out if it does not matter");
    }
    Ok(Term {
        weight: sign * weight,
        subject: subject_of(argument, subject)?,
    })
}

fn is_number(text: &str) -> bool {
    !text.is_empty()
        && text.parse::<f32>().is_ok_and(f32::is_finite)
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
}

fn subject_of(argument: &str, text: &str) -> Result<Subject> {
    let path = Path::new(text);
    if path.is_file() {
        return Ok(Subject::Image(path.to_owned()));
    }
    if text.trim().is_empty() {
        bail!("{argument:?} says nothing: expected words or an image");
    }
    let looks_like_a_file = has_image_ending(path) && !text.contains(char::is_whitespace);
    if looks_like_a_file || path.is_absolute() || text.starts_with("./") || text.starts_with("../")
    {
        bail!("{text}: there is no such file; the query takes it for an image");
    }
    Ok(Subject::Words(text.to_owned()))
}

/// Whether a query has words, and whether it has images.
pub(super) fn kinds(terms: &[Term]) -> (bool, bool) {
    let is_words = |term: &Term| matches!(term.subject, Subject::Words(_));
    (terms.iter().any(is_words), !terms.iter().all(is_words))
}

/// The one row of a query.
///
/// # Errors
///
/// If an image cannot be read, or the parts cancel out.
pub(super) fn encode(
    encoder: &DualEncoder,
    terms: &[Term],
    images: &diptych::ImageOptions,
) -> Result<Embeddings> {
    let mut rows = Vec::new();
    for term in terms {
        rows.push(match &term.subject {
            Subject::Words(words) => encoder.encode_texts(&[words])?,
            Subject::Image(path) => encoder.encode_images(&[diptych::open_image(path, images)?])?,
        });
    }
    let weights: Vec<f32> = terms.iter().map(|term| term.weight).collect();
    Ok(Embeddings::concat(encoder.width(), &rows)?.weighted(&weights)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Vec<Term>> {
        parse(
            &arguments
                .iter()
                .map(|&text| text.to_owned())
                .collect::<Vec<_>>(),
        )
    }

    fn words(weight: f32, words: &str) -> Term {
        Term {
            weight,
            subject: Subject::Words(words.to_owned()),
        }
    }

    #[test]
    fn signs_and_weights() {
        let terms = parsed(&[
            "red car",
            "+sunny",
            "-night",
            "2:beach",
            "-0.5:people",
            "10:30 train",
        ])
        .unwrap();
        let expected = [
            words(1.0, "red car"),
            words(1.0, "sunny"),
            words(-1.0, "night"),
            words(2.0, "beach"),
            words(-0.5, "people"),
            words(10.0, "30 train"),
        ];
        assert_eq!(terms, expected);
        assert_eq!(parsed(&["at 10:30"]).unwrap(), [words(1.0, "at 10:30")]);
        assert_eq!(parsed(&["nan:cat"]).unwrap(), [words(1.0, "nan:cat")]);
    }

    #[test]
    fn a_file_that_is_there_is_an_image() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b");
        std::fs::write(&path, "").unwrap();
        let argument = format!("-2:{}", path.display());
        let terms = parsed(&["cat", &argument]).unwrap();
        assert_eq!(
            terms[1],
            Term {
                weight: -2.0,
                subject: Subject::Image(path)
            }
        );
        assert_eq!(kinds(&terms), (true, true));
    }

    #[test]
    fn what_is_not_wanted_is_told_from_options() {
        let line = [
            "cat", "-night", "-2:beach", "--limit", "-3", "-q", "--json", "-red", "--", "-x",
        ];
        let marked = mark_unwanted(line.map(OsString::from).into(), |option| option == "limit");
        let expected = [
            "cat",
            "−night",
            "−2:beach",
            "--limit",
            "-3",
            "-q",
            "--json",
            "−red",
            "--",
            "-x",
        ];
        assert_eq!(marked, expected.map(OsString::from));
        assert_eq!(
            parsed(&["cat", "−2:night"]).unwrap()[1],
            words(-2.0, "night")
        );
    }

    #[test]
    fn queries_that_make_no_sense_are_refused() {
        for (query, said) in [
            (&["-night"][..], "only what is not wanted"),
            (&[], "only what is not wanted"),
            (&[""], "says nothing"),
            (&["cat", "- "], "says nothing"),
            (&["2:"], "says nothing"),
            (&["0:cat"], "weight 0"),
            (&["missing.jpg"], "missing.jpg: there is no such file"),
            (&["cat", "-./missing"], "./missing: there is no such file"),
        ] {
            let error = parsed(query).unwrap_err().to_string();
            assert!(error.contains(said), "{query:?}: {error}");
        }
    }
}

//! What a search is for: words and images, each with a sign and a weight.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use diptych::{DualEncoder, Embeddings, Error, has_image_ending};

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
        let text = argument.to_string_lossy();
        let is_part = !is_value
            && text.starts_with('-')
            && !text.starts_with("--")
            && text.chars().count() > 2;
        is_value = text.strip_prefix("--").is_some_and(&takes_value);
        match after(&argument, 1).filter(|_| is_part) {
            Some(rest) => {
                let mut marked = OsString::from(MINUS.to_string());
                marked.push(rest);
                marked
            }
            None => argument,
        }
    };
    arguments.into_iter().map(&mut mark).collect()
}

/// What stands after the first bytes of an argument, which may be a path that is not Unicode.
#[cfg(unix)]
fn after(argument: &OsStr, bytes: usize) -> Option<&OsStr> {
    use std::os::unix::ffi::OsStrExt;
    argument.as_bytes().get(bytes..).map(OsStr::from_bytes)
}

#[cfg(not(unix))]
fn after(argument: &OsStr, bytes: usize) -> Option<&OsStr> {
    match bytes {
        0 => Some(argument),
        _ => argument.to_str()?.get(bytes..).map(OsStr::new),
    }
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
pub(super) fn parse(arguments: &[OsString]) -> Result<Vec<Term>> {
    let terms = arguments
        .iter()
        .map(|argument| term(argument))
        .collect::<Result<Vec<_>>>()?;
    if !terms.iter().any(|term| term.weight > 0.0) {
        bail!("the query says only what is not wanted: add what is, in words or as an image");
    }
    Ok(terms)
}

fn term(argument: &OsStr) -> Result<Term> {
    // Signs and weights are Unicode, whatever follows them.
    let text = argument.to_string_lossy();
    let (sign, rest) = match text.strip_prefix(['-', MINUS]) {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(&text)),
    };
    let (weight, subject) = match rest.split_once(':') {
        Some((weight, subject)) if is_number(weight) => (weight.parse().unwrap_or(1.0), subject),
        _ => (1.0, rest),
    };
    if weight == 0.0 {
        bail!("{argument:?} has weight 0, expected more; leave it out if it does not matter");
    }
    let subject = after(argument, text.len() - subject.len()).unwrap_or(argument);
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

/// Endings of images that cannot be read, and that are no words all the same.
const OTHER_ENDINGS: [&str; 13] = [
    "heic", "heif", "avif", "jxl", "svg", "psd", "dng", "cr2", "cr3", "nef", "arw", "orf", "raf",
];

fn subject_of(argument: &OsStr, subject: &OsStr) -> Result<Subject> {
    let path = Path::new(subject);
    if path.is_file() {
        return Ok(Subject::Image(path.to_owned()));
    }
    let shown = path.display();
    let text = subject.to_str();
    if text.is_some_and(|text| text.trim().is_empty()) {
        bail!("{argument:?} says nothing: expected words or an image");
    }
    let has_folders = path.components().count() > 1;
    let is_path = |text: &str| {
        let ending = path.extension().map(OsStr::to_ascii_lowercase);
        has_image_ending(path)
            || ending.is_some_and(|ending| OTHER_ENDINGS.iter().any(|other| ending == *other))
            || path.is_absolute()
            || ["./", "../"].iter().any(|start| text.starts_with(start))
            || [".", ".."].contains(&text)
            || text.ends_with('/')
    };
    match text {
        Some(text) if !(is_path(text) || has_folders && path.is_dir()) => {
            Ok(Subject::Words(text.to_owned()))
        }
        _ if path.is_dir() => bail!(
            "{shown}: a folder, expected words or the path of an image; --in {shown} searches in it alone"
        ),
        _ => bail!("{shown}: there is no such file; the query takes it for an image"),
    }
}

/// The words of a query that are the names of folders here too.
pub(super) fn names_of_folders(terms: &[Term]) -> impl Iterator<Item = &str> {
    let words = terms.iter().filter_map(|term| match &term.subject {
        Subject::Words(words) => Some(words.as_str()),
        Subject::Image(_) => None,
    });
    words.filter(|words| Path::new(words).is_dir())
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
    let rows = Embeddings::concat(encoder.width(), &rows)?;
    rows.weighted(&weights).map_err(|error| match error {
        Error::NoDirection {
            problem: "is all zeros",
            ..
        } => anyhow!("the parts of the query cancel each other out: leave one out, or weigh it"),
        error => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Vec<Term>> {
        parse(&arguments.iter().map(OsString::from).collect::<Vec<_>>())
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
    fn words_are_words_though_they_look_a_little_like_paths() {
        for text in ["black/white", "no. 5", "src", "a.b/c d"] {
            assert_eq!(parsed(&[text]).unwrap(), [words(1.0, text)], "{text}");
        }
        let terms = parsed(&["black/white", "src", "-assets"]).unwrap();
        assert!(names_of_folders(&terms).eq(["src", "assets"]));
    }

    #[cfg(unix)]
    #[test]
    fn a_path_need_not_be_unicode() {
        use std::os::unix::ffi::OsStringExt;
        let folder = tempfile::tempdir().unwrap();
        let name = OsString::from_vec(b"\xff\xfe \xe2.png".into());
        let path = folder.path().join(&name);
        std::fs::write(&path, "").unwrap();
        let mut argument = OsString::from("-0.5:");
        argument.push(&path);
        let marked = mark_unwanted(vec!["cat".into(), argument], |_| false);
        let expected = Term {
            weight: -0.5,
            subject: Subject::Image(path),
        };
        assert_eq!(parse(&marked).unwrap()[1], expected);
        let error = parse(&[name]).unwrap_err().to_string();
        assert!(error.contains("there is no such file"), "{error}");
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
            (&["missing.HEIC"], "missing.HEIC: there is no such file"),
            (
                &["my own.jpg"],
                "my own.jpg: there is no such file; the query takes it for an image",
            ),
            (&["missing/"], "missing/: there is no such file"),
            (&["src/cli"], "src/cli: a folder, expected words"),
            (&["src/"], "src/: a folder, expected words"),
            (&["."], ".: a folder, expected words"),
        ] {
            let error = parsed(query).unwrap_err().to_string();
            assert!(error.contains(said), "{query:?}: {error}");
        }
    }
}

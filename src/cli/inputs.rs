//! What commands work on: image paths, labels, templates, texts, colours.

use std::fs;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use diptych::pipeline::STDIN;
use diptych::{IMAGE_ENDINGS, has_image_ending};
use walkdir::{DirEntry, WalkDir};

const EVERYDAY: &str = include_str!("../../assets/labels/everyday.txt");

const PROMPTS: [(&str, &str); 3] = [
    ("plain", include_str!("../../assets/prompts/plain.txt")),
    (
        "openai-7",
        include_str!("../../assets/prompts/openai-7.txt"),
    ),
    (
        "openai-80",
        include_str!("../../assets/prompts/openai-80.txt"),
    ),
];

/// The images that paths stand for, and what could not be walked.
#[derive(Debug, Default)]
pub(super) struct Images {
    pub(super) paths: Vec<PathBuf>,
    pub(super) failures: Vec<Failure>,
}

/// What could not be walked.
#[derive(Debug)]
pub(super) struct Failure {
    /// How many paths stand before it.
    pub(super) place: usize,
    pub(super) path: PathBuf,
    pub(super) message: String,
}

impl Images {
    /// Files as they are given, folders walked in the order of names.
    pub(super) fn find(paths: &[PathBuf]) -> Self {
        let mut images = Self::default();
        for path in paths {
            if path == Path::new(STDIN) && images.paths.contains(path) {
                images.fail(path, "standard input is given twice and can be read once");
            } else if path != Path::new(STDIN) && path.is_dir() {
                images.walk(path);
            } else {
                images.paths.push(path.clone());
            }
        }
        images
    }

    /// Those of `more` after these.
    pub(super) fn append(&mut self, more: Images) {
        let before = self.paths.len();
        self.paths.extend(more.paths);
        let moved = |failure: Failure| Failure {
            place: failure.place + before,
            ..failure
        };
        self.failures.extend(more.failures.into_iter().map(moved));
    }

    /// How many images and failures there are.
    pub(super) fn len(&self) -> usize {
        self.paths.len() + self.failures.len()
    }

    /// Something that a message names could not be walked.
    pub(super) fn fail_with(&mut self, message: String) {
        self.failures.push(Failure {
            place: self.paths.len(),
            path: PathBuf::new(),
            message,
        });
    }

    fn fail(&mut self, path: &Path, what: &str) {
        let message = format!("{}: {what}", path.display());
        self.failures.push(Failure {
            place: self.paths.len(),
            path: path.to_owned(),
            message,
        });
    }

    fn walk(&mut self, folder: &Path) {
        let before = self.len();
        let is_shown = |entry: &DirEntry| entry.depth() == 0 || !is_hidden(entry);
        for entry in WalkDir::new(folder)
            .sort_by_file_name()
            .into_iter()
            .filter_entry(is_shown)
        {
            match entry {
                Ok(entry) if is_image(entry.path()) => self.paths.push(entry.into_path()),
                Ok(_) => {}
                Err(error) => {
                    let path = error.path().unwrap_or(folder).to_owned();
                    let cause = error
                        .io_error()
                        .map_or_else(|| error.to_string(), ToString::to_string);
                    self.fail(&path, &format!("cannot be read: {cause}"));
                }
            }
        }
        if self.len() == before {
            let endings = IMAGE_ENDINGS.join(", ");
            self.fail(
                folder,
                &format!("folder without images: expected files ending in {endings}"),
            );
        }
    }
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with('.')
}

fn is_image(path: &Path) -> bool {
    // A pipe would be waited for; a link that leads nowhere is named when it is read.
    let is_readable = path.metadata().map_or(true, |metadata| metadata.is_file());
    has_image_ending(path) && is_readable
}

/// Labels: the list given, the file given, or the everyday ones.
pub(super) fn labels(list: Option<&str>, file: Option<&Path>) -> Result<Vec<String>> {
    match (list, file) {
        (Some(list), _) => Ok(list
            .split(',')
            .map(|label| label.trim().to_owned())
            .collect()),
        (None, Some(file)) => entries_of(file, "labels"),
        (None, None) => Ok(entries(EVERYDAY)),
    }
}

/// Templates: those given, the set named, those that the bundle states, or the plain one.
pub(super) fn templates(
    given: &[String],
    set: Option<&str>,
    stated: Option<&[String]>,
) -> Result<Vec<String>> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    if let (None, Some(stated)) = (set, stated) {
        return Ok(stated.to_vec());
    }
    let set = set.unwrap_or("plain");
    if let Some((_, text)) = PROMPTS.iter().find(|(name, _)| *name == set) {
        return Ok(entries(text));
    }
    let path = Path::new(set);
    if path.is_file() {
        return entries_of(path, "templates");
    }
    let names: Vec<&str> = PROMPTS.iter().map(|(name, _)| *name).collect();
    bail!(
        "prompts {set:?} are not known, expected one of {} or a file",
        names.join(", ")
    )
}

/// The entries of a file, of which there must be one.
fn entries_of(file: &Path, what: &str) -> Result<Vec<String>> {
    let entries = entries(&read_text(file)?);
    if entries.is_empty() {
        bail!("{}: no {what} in it, expected one a line", file.display());
    }
    Ok(entries)
}

/// One entry a line; blank lines and lines that begin with # are left out.
fn entries(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// The texts of a file, one a line; a blank line is an empty text.
pub(super) fn texts(file: &Path) -> Result<Vec<String>> {
    Ok(read_text(file)?.lines().map(str::to_owned).collect())
}

fn read_text(path: &Path) -> Result<String> {
    let bytes = if path == Path::new(STDIN) {
        let mut bytes = Vec::new();
        io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .context("standard input cannot be read")?;
        bytes
    } else {
        fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?
    };
    let text = String::from_utf8(bytes)
        .with_context(|| format!("{}: expected UTF-8 text", path.display()))?;
    Ok(text
        .strip_prefix('\u{feff}')
        .map(str::to_owned)
        .unwrap_or(text))
}

/// A number of an option, where only those of a range make sense.
pub(super) fn number_within(text: &str, range: RangeInclusive<f64>) -> Result<f64, String> {
    let value: f64 = text
        .parse()
        .map_err(|_| format!("found {text:?}, expected a number"))?;
    let (lowest, highest) = (range.start(), range.end());
    range
        .contains(&value)
        .then_some(value)
        .ok_or_else(|| format!("found {text}, expected a number from {lowest} to {highest}"))
}

/// A colour by name or as #rrggbb.
pub(super) fn colour(text: &str) -> Result<[u8; 3], String> {
    match text.to_lowercase().as_str() {
        "white" => return Ok([255; 3]),
        "black" => return Ok([0; 3]),
        "grey" | "gray" => return Ok([128; 3]),
        _ => {}
    }
    let is_hex =
        |digits: &&str| digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = text.strip_prefix('#').filter(is_hex);
    let value = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let value = value.ok_or("expected white, black, grey or #rrggbb")?;
    Ok([(value >> 16) as u8, (value >> 8) as u8, value as u8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours() {
        assert_eq!(colour("white"), Ok([255; 3]));
        assert_eq!(colour("#0a80FF"), Ok([10, 128, 255]));
        for bad in ["", "#", "red", "#12345", "#1234567", "#+12345", "#éé12"] {
            assert!(colour(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_sets_that_come_with_the_program_can_be_used() {
        assert!(labels(None, None).unwrap().len() > 400);
        let sizes = ["plain", "openai-7", "openai-80"]
            .map(|set| templates(&[], Some(set), None).unwrap().len());
        assert_eq!(sizes, [1, 7, 80]);
        assert!(
            templates(&[], Some("none such"), None)
                .unwrap_err()
                .to_string()
                .contains("plain, openai-7, openai-80")
        );
    }

    #[test]
    fn hidden_files_and_other_files_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "b.JPG",
            "a.png",
            ".hidden.png",
            "notes.txt",
            ".folder/c.png",
            "sub/d.webp",
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let images = Images::find(&[folder.path().to_owned()]);
        let names: Vec<_> = images
            .paths
            .iter()
            .map(|path| path.strip_prefix(folder.path()).unwrap())
            .collect();
        assert_eq!(names, ["a.png", "b.JPG", "sub/d.webp"].map(Path::new));
        assert!(images.failures.is_empty());
    }

    #[test]
    fn a_folder_without_images_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let images = Images::find(&[folder.path().to_owned(), "missing.png".into()]);
        assert_eq!(images.paths, [PathBuf::from("missing.png")]);
        assert!(images.failures[0].message.contains("folder without images"));
    }
}

//! `items.jsonl`: an item a line, with everything that an index knows of it.
//!
//! A path that is not Unicode stands there as near as can be, and byte for byte in `path_base64`.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use diptych::{Item, Place};
use serde::{Deserialize, Serialize};

use super::super::shapes::path_base64;
use super::{Record, Stated, digits_of, hash_of};

/// An image by its path; a text by its file, its id there, and itself.
#[derive(Debug, Serialize, Deserialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modified: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    taken: Option<i64>,
}

/// The line of an item, without its end.
pub(super) fn line(item: &Item) -> Result<String> {
    let Place { folder, name } = &item.place;
    let (path, id) = match &item.text {
        None => (Cow::Owned(item.place.path()), None),
        Some(_) => (
            Cow::Borrowed(folder.as_path()),
            Some(name.to_string_lossy()),
        ),
    };
    Ok(serde_json::to_string(&Line {
        path: Some(path.to_string_lossy()),
        path_base64: path_base64(&path),
        id,
        text: item.text.as_deref().map(Cow::Borrowed),
        size: Some(item.size),
        modified: Some(item.modified),
        hash: Some(digits_of(&item.hash)),
        taken: item.taken,
    })?)
}

/// The items of the file at `path`, in order.
pub(super) fn read(path: &Path) -> Result<impl Iterator<Item = Result<Record>> + use<>> {
    let unreadable = format!("{}: cannot be read", path.display());
    let file = File::open(path).with_context(|| unreadable.clone())?;
    let path = path.to_owned();
    let lines = BufReader::new(file).lines().enumerate();
    Ok(lines.map(move |(index, line)| {
        let line = line.with_context(|| unreadable.clone())?;
        record(&line, &path, index)
            .with_context(|| format!("{}: line {} is not of an item", path.display(), index + 1))
    }))
}

/// The item of line `index` of `file`.
fn record(line: &str, file: &Path, index: usize) -> Result<Record> {
    let line: Line<'_> = serde_json::from_str(line)?;
    let hash = match line.hash {
        Some(digits) => Some(hash_of(&digits).context("its hash is not of 32 digits from 0 to f")?),
        None => None,
    };
    let path = match (line.path_base64, line.path) {
        (Some(encoded), _) => Some(PathBuf::from(name(STANDARD.decode(encoded)?)?)),
        (None, path) => path.map(|path| PathBuf::from(path.into_owned())),
    };
    let place = match (&line.text, path) {
        (None, Some(path)) => Place::of_image(&path)?,
        (None, None) => bail!("expected a path, or a text"),
        // A text that is told without a file lies in this one.
        (Some(_), path) => {
            let id = line.id.unwrap_or_else(|| (index + 1).to_string().into());
            Place::of_text(path.as_deref().unwrap_or(file), &id)
        }
    };
    Ok(Record {
        place,
        text: line.text.map(Cow::into_owned),
        stated: Stated {
            size: line.size,
            modified: line.modified,
            hash,
            taken: line.taken,
        },
    })
}

/// A name as the system has it.
#[cfg(unix)]
fn name(bytes: Vec<u8>) -> Result<OsString> {
    Ok(std::os::unix::ffi::OsStringExt::from_vec(bytes))
}

/// Elsewhere names that are not Unicode cannot be told by bytes.
#[cfg(not(unix))]
fn name(bytes: Vec<u8>) -> Result<OsString> {
    Ok(String::from_utf8(bytes)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(item: &Item) -> Record {
        let line = line(item).unwrap();
        let record = record(&line, Path::new("items.jsonl"), 0).unwrap();
        assert_eq!(record.stated.size, Some(item.size), "{line}");
        assert_eq!(record.stated.modified, Some(item.modified), "{line}");
        assert_eq!(record.stated.hash, Some(item.hash), "{line}");
        record
    }

    #[test]
    fn every_item_comes_back_as_it_was() {
        let mut item = Item {
            place: Place::of_image(Path::new("/a \"b\"\n/ü.jpg")).unwrap(),
            size: u64::MAX >> 1,
            modified: -1_700_000_000_123_456_789,
            hash: [0xab; 16],
            text: None,
            taken: Some(7),
        };
        assert_eq!(round_trip(&item).place, item.place);
        #[cfg(unix)]
        {
            let path = PathBuf::from(name(b"/odd-\xff/\xfe.jpg".to_vec()).unwrap());
            item.place = Place::of_image(&path).unwrap();
            assert_eq!(round_trip(&item).place, item.place);
        }
        item.place = Place::of_text(Path::new("/texts.csv"), "3:b");
        item.text = Some("a cat\non a mat".to_owned());
        let record = round_trip(&item);
        assert_eq!((record.place, record.text), (item.place, item.text));
    }

    #[test]
    fn little_needs_to_be_told() {
        let read = |line: &str| record(line, Path::new("/items.jsonl"), 4);
        let image = read(r#"{"path": "photos/a.jpg"}"#).unwrap();
        assert_eq!(image.place.path(), Path::new("photos/a.jpg"));
        assert_eq!(image.stated, Stated::default());
        let text = read(r#"{"text": "a cat", "language": "en"}"#).unwrap();
        assert_eq!(text.place, Place::of_text(Path::new("/items.jsonl"), "5"));
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"path": ".."}"#,
            r#"{"path": "a.jpg", "hash": "12"}"#,
            r#"{"path": "a.jpg", "size": -1}"#,
            r#"{"path_base64": "?"}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}

//! Files of texts into an index: one JSON object a line, with an id and a text.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use diptych::index::{Stat, Store, hash_text};
use diptych::{DualEncoder, Item, ItemFilter, Kind, Place};
use serde::Deserialize;
use serde_json::Value;

use super::report::{self, Report};

/// The texts of a file.
#[derive(Debug)]
pub(super) struct Texts {
    file: PathBuf,
    items: Vec<Item>,
    /// Lines that hold none, as messages.
    pub(super) failures: Vec<String>,
}

/// What there is to do with a file of texts.
#[derive(Debug, Default)]
pub(super) struct Todo {
    pub(super) encode: Vec<Item>,
    pub(super) copies: Vec<Item>,
    pub(super) vanished: Vec<Place>,
}

#[derive(Deserialize)]
struct Line {
    id: Value,
    text: String,
}

/// The texts of the file at `path`; lines that hold none are named.
///
/// # Errors
///
/// If the file cannot be read.
pub(super) fn read(path: &Path) -> Result<Texts> {
    let unreadable = || format!("{}: cannot be read", path.display());
    let file = fs::canonicalize(path).with_context(unreadable)?;
    let reader = File::open(&file).with_context(unreadable)?;
    let modified = Stat::of(&reader.metadata().with_context(unreadable)?).modified;
    let mut texts = Texts {
        file,
        items: Vec::new(),
        failures: Vec::new(),
    };
    let mut seen = HashMap::new();
    for (number, line) in BufReader::new(reader).split(b'\n').enumerate() {
        let line = line.with_context(unreadable)?;
        let number = number + 1;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match item(&line, &texts.file, modified) {
            Ok(item) => match seen.insert(item.place.name.clone(), number) {
                None => texts.items.push(item),
                Some(first) => texts.fail(
                    path,
                    number,
                    &format!("id {:?} stands in line {first} too", item.place.name),
                ),
            },
            Err(problem) => texts.fail(path, number, &problem),
        }
    }
    Ok(texts)
}

impl Texts {
    fn fail(&mut self, path: &Path, number: usize, problem: &str) {
        self.failures
            .push(format!("{}, line {number}: {problem}", path.display()));
    }
}

fn item(line: &[u8], file: &Path, modified: i64) -> Result<Item, String> {
    const EXPECTED: &str = "expected {\"id\": \"a\", \"text\": \"a sentence\"}";
    let Line { id, text } =
        serde_json::from_slice(line).map_err(|error| format!("{EXPECTED}: {error}"))?;
    let id = match id {
        Value::String(id) if !id.is_empty() => id,
        Value::Number(id) => id.to_string(),
        other => return Err(format!("{EXPECTED}: the id is {other}")),
    };
    if text.trim().is_empty() {
        return Err(format!("{EXPECTED}: the text is blank"));
    }
    Ok(Item {
        place: Place::of_text(file, &id),
        size: text.len() as u64,
        modified,
        hash: hash_text(&text),
        text: Some(text),
        taken: None,
    })
}

/// What to do so that the index holds the texts, and how many it holds already.
///
/// # Errors
///
/// If the index cannot be read.
pub(super) fn compare(index: Option<&dyn Store>, texts: &Texts) -> Result<(Todo, usize)> {
    let mut known = HashMap::new();
    if let Some(index) = index {
        let filter = ItemFilter {
            kind: Some(Kind::Text),
            within: vec![texts.file.clone()],
            ..ItemFilter::default()
        };
        known.extend(
            index
                .items(&filter)?
                .into_iter()
                .map(|item| (item.place, item.hash)),
        );
    }
    let (mut todo, mut unchanged) = (Todo::default(), 0);
    let mut coming = HashSet::new();
    for item in &texts.items {
        if known.remove(&item.place) == Some(item.hash) {
            unchanged += 1;
        } else if !coming.insert(item.hash)
            || index.map(|index| index.knows(&item.hash)).transpose()? == Some(true)
        {
            todo.copies.push(item.clone());
        } else {
            todo.encode.push(item.clone());
        }
    }
    todo.vanished = known.into_keys().collect();
    todo.vanished.sort();
    Ok((todo, unchanged))
}

/// Encodes texts into an index.
///
/// # Errors
///
/// If the model fails, or the index cannot be written.
pub(super) fn encode(
    encoder: &DualEncoder,
    index: &mut dyn Store,
    items: &[Item],
    report: &Report,
    is_quiet: bool,
) -> Result<()> {
    if items.is_empty() {
        return Ok(());
    }
    let tower = encoder.text_tower()?;
    let mut cut = Vec::new();
    for items in items.chunks(64 * encoder.batch()) {
        let texts: Vec<&str> = items
            .iter()
            .filter_map(|item| item.text.as_deref())
            .collect();
        let encoded = tower.encode(&texts, encoder.batch())?;
        index.add(items, &encoded.rows)?;
        cut.extend(encoded.cut.iter().map(|&number| texts[number]));
        items.iter().for_each(|_| report.advance());
    }
    if let (Some(first), false) = (cut.first(), is_quiet) {
        report::cut(
            cut.len(),
            tower.tokenizer().settings().context_length,
            first,
        );
    }
    Ok(())
}

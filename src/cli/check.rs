//! `diptych check`: whether an index is whole, of the model that is to be used, and its files as they were.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use diptych::index::{Stat, hash_file};
use diptych::{Item, ItemFilter, Towers};

use super::output::Output;
use super::store::{self, IndexArgument};
use super::{Common, Outcome, report};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    index: IndexArgument,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was found, as it is printed.
#[derive(Debug, Default, serde::Serialize)]
pub(super) struct Findings {
    pub(super) rows: usize,
    pub(super) items: usize,
    /// Items whose rows are not what was written.
    pub(super) damaged: Vec<String>,
    /// Files that are not there.
    pub(super) missing: Vec<String>,
    /// Files whose content is another.
    pub(super) changed: Vec<String>,
    /// Files of which the system does not say how they are.
    pub(super) unreadable: Vec<String>,
}

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<Outcome> {
    let index = arguments.index.open()?;
    let damaged = index.check()?;
    store::require_same_model(&index, &common.bundle(Towers::All)?)?;
    let items = index.items(&ItemFilter::default())?;
    let mut findings = Findings {
        rows: index.stats()?.rows,
        items: items.len(),
        damaged: damaged.iter().map(named).collect(),
        ..Findings::default()
    };
    let mut seen = HashSet::new();
    for item in &items {
        let path = file_of(item);
        // A file of texts has many items.
        if seen.insert(path.clone()) {
            findings.take(&path, look(&path, item));
        }
    }
    Output::new(arguments.json).checked(&findings)?;
    if !findings.damaged.is_empty() {
        report::hint(
            "diptych remove what is damaged, all of it, and diptych index it again: it is encoded anew then",
        );
    }
    Ok(findings.outcome())
}

/// How a file is, beside how it was when it was indexed.
#[derive(Clone, Copy)]
enum Found {
    AsItWas,
    Missing,
    Changed,
    Unreadable,
}

impl Findings {
    fn take(&mut self, path: &Path, found: Found) {
        let list = match found {
            Found::AsItWas => return,
            Found::Missing => &mut self.missing,
            Found::Changed => &mut self.changed,
            Found::Unreadable => &mut self.unreadable,
        };
        list.push(path.to_string_lossy().into_owned());
    }

    fn outcome(&self) -> Outcome {
        let Self {
            damaged,
            missing,
            changed,
            unreadable,
            ..
        } = self;
        if [damaged, missing, changed, unreadable]
            .iter()
            .all(|list| list.is_empty())
        {
            Outcome::Done
        } else {
            Outcome::Incomplete
        }
    }
}

/// An item as `diptych remove` takes it.
fn named(item: &Item) -> String {
    let path = match item.text {
        Some(_) => {
            let mut text = item.place.folder.clone().into_os_string();
            text.push("#");
            text.push(&item.place.name);
            text.into()
        }
        None => item.place.path(),
    };
    path.to_string_lossy().into_owned()
}

/// The file that an item is, or is in.
fn file_of(item: &Item) -> PathBuf {
    match item.text {
        Some(_) => item.place.folder.clone(),
        None => item.place.path(),
    }
}

fn look(path: &Path, item: &Item) -> Found {
    let stat = match path.metadata() {
        Ok(metadata) => Stat::of(&metadata),
        Err(error) if is_absence(&error) => return Found::Missing,
        Err(_) => return Found::Unreadable,
    };
    // Of a text the size is its own, not the file's.
    let is_size_same = item.text.is_some() || stat.size == item.size;
    match (is_size_same, stat.modified == item.modified) {
        (true, true) => Found::AsItWas,
        // A file that was only touched is as it was.
        (true, false) if item.text.is_none() => match hash_file(path) {
            Ok((hash, _)) if hash == item.hash => Found::AsItWas,
            Ok(_) => Found::Changed,
            Err(_) => Found::Unreadable,
        },
        _ => Found::Changed,
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

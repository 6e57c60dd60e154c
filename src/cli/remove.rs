//! `diptych remove`: items that an index is to forget.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use diptych::index::Store;
use diptych::{ItemFilter, Place};

use super::output::Output;
use super::store::{self, IndexArgument};
use super::{Common, Outcome};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Files, folders with all that lies below, files of texts, or one text of a file as FILE#ID; they need not exist any
    /// more. What still exists, diptych index takes in again
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    index: IndexArgument,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was done, as it is printed.
#[derive(Debug, serde::Serialize)]
pub(super) struct Summary {
    pub(super) removed: usize,
    /// Items in the index now.
    pub(super) items: usize,
    /// Paths that nothing in the index has.
    pub(super) failed: usize,
}

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<Outcome> {
    let mut index = arguments.index.open_store_to_write()?;
    let mut report = common.report(arguments.paths.len(), "paths");
    let mut places = BTreeSet::new();
    for path in &arguments.paths {
        let found = places_of(index.as_ref(), path)?;
        if found.is_empty() {
            report.fail(&format!("{}: not in the index", path.display()), None);
        }
        places.extend(found);
        report.advance();
    }
    let places: Vec<Place> = places.into_iter().collect();
    index.remove(&places)?;
    let summary = Summary {
        removed: places.len(),
        items: index.stats()?.items(),
        failed: report.failed(),
    };
    Output::new(arguments.json).removed(&summary)?;
    Ok(report.finish())
}

/// The places that a path stands for: a file's, those below a folder, those of a file of texts, or a text's.
fn places_of(index: &dyn Store, path: &Path) -> Result<Vec<Place>> {
    for name in store::names(path) {
        let found = places_at(index, &name)?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    text_of(index, path)
}

fn places_at(index: &dyn Store, path: &Path) -> Result<Vec<Place>> {
    let filter = ItemFilter {
        within: vec![path.to_owned()],
        ..ItemFilter::default()
    };
    let mut places: Vec<Place> = index
        .items(&filter)?
        .into_iter()
        .map(|item| item.place)
        .collect();
    if let Ok(place) = Place::of_image(path)
        && index.at(&place)?.is_some_and(|item| item.text.is_none())
    {
        places.push(place);
    }
    Ok(places)
}

/// The place of a text. File names and ids may hold a # themselves.
fn text_of(index: &dyn Store, path: &Path) -> Result<Vec<Place>> {
    let Some(path) = path.to_str() else {
        return Ok(Vec::new());
    };
    for (at, _) in path.match_indices('#') {
        for file in store::names(Path::new(&path[..at])) {
            let place = Place::of_text(&file, &path[at + 1..]);
            if index.at(&place)?.is_some_and(|item| item.text.is_some()) {
                return Ok(vec![place]);
            }
        }
    }
    Ok(Vec::new())
}

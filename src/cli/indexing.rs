//! Images into an index: what there is to do, encoding it, and committing on the way.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use diptych::index::{self, Found, Store, Todo};
use diptych::pipeline::PipelineOptions;
use diptych::{DualEncoder, Embeddings, Error, Item, ItemFilter, Kind, Place};

use super::inputs::Images;
use super::report::Report;
use super::rows;

/// Rows are on the disk after this time or this many, whichever comes first: what a power cut costs.
const COMMIT_TIME: Duration = Duration::from_secs(2);
const COMMIT_ROWS: usize = 256;

/// What was done, as it is printed.
#[derive(Debug, Default, serde::Serialize)]
pub(super) struct Summary {
    /// Items in the index now.
    pub(super) items: usize,
    pub(super) encoded: usize,
    /// Copied, renamed, moved or touched: named without encoding.
    pub(super) known: usize,
    pub(super) unchanged: usize,
    pub(super) removed: usize,
    pub(super) failed: usize,
}

impl Summary {
    /// Whether anything was done or went wrong.
    pub(super) fn has_changes(&self) -> bool {
        self.encoded + self.known + self.removed + self.failed > 0
    }
}

/// What there is to do, so that the index holds what was found.
pub(super) fn todo(index: Option<&dyn Store>, found: &Found) -> Result<Todo> {
    let Some(index) = index else {
        return Ok(index::compare(&[], found, &HashSet::new(), |_| Ok(false))?);
    };
    let filter = ItemFilter {
        kind: Some(Kind::Image),
        within: found.roots.clone(),
        ..ItemFilter::default()
    };
    let mut known = match found.roots.is_empty() {
        true => Vec::new(),
        false => index.items(&filter)?,
    };
    // A root that is a file holds nothing, but may be known itself.
    for root in &found.roots {
        if let Ok(place) = Place::of_image(root)
            && let Some(item) = index.at(&place)?
        {
            known.push(item);
        }
    }
    Ok(index::compare(&known, found, &index.sizes()?, |hash| {
        index.knows(hash)
    })?)
}

/// What could not be walked, and folders that look like a disk that is not there.
pub(super) fn failures(found: &Found, todo: &Todo) -> Images {
    let mut images = Images::default();
    for error in &found.failures {
        images.fail_with(error.to_string());
    }
    for folder in &todo.emptied {
        images.fail_with(format!(
            "{}: nothing found, though the index has images of it; kept, in case a disk is not there (diptych remove forgets them)",
            folder.display()
        ));
    }
    images
}

/// Encodes images into an index; those that could not be read as they lie there now, be they out of reach or being
/// written.
pub(super) fn encode(
    encoder: &DualEncoder,
    index: &mut dyn Store,
    images: &Images,
    mut options: PipelineOptions,
    report: &mut Report,
    summary: &mut Summary,
) -> Result<Vec<PathBuf>> {
    options.identify = true;
    let mut batch = Batch::new(index);
    let mut unread = Vec::new();
    let outcome = rows::encode(encoder, images, &options, report, |item| {
        if let Some(Error::Read { .. } | Error::Changed { .. }) = item.error {
            unread.push(item.path.to_owned());
        }
        let (Ok(row), Some(identity)) = (item.row, item.identity) else {
            return Ok(());
        };
        summary.encoded += 1;
        let item = Item {
            place: Place::of_image(item.path)?,
            size: identity.stat.size,
            modified: identity.stat.modified,
            hash: identity.hash,
            text: None,
            taken: identity.taken,
        };
        batch.add(item, row)
    });
    // What is encoded stays, whatever ended it.
    batch.commit()?;
    outcome.map(|()| unread)
}

/// Names what needs no encoding, and forgets what is gone.
pub(super) fn finish(
    index: &mut dyn Store,
    todo: Todo,
    report: &mut Report,
    summary: &mut Summary,
) -> Result<()> {
    let mut copies = Vec::new();
    for copy in todo.copies {
        if index.knows(&copy.hash)? {
            copies.push(copy);
        } else {
            let path = copy.place.path();
            report.fail(
                &format!(
                    "{}: has the content of an image that failed",
                    path.display()
                ),
                None,
            );
        }
    }
    index.add_copies(&copies)?;
    index.remove(&todo.vanished)?;
    summary.known += copies.len();
    summary.removed += todo.vanished.len();
    Ok(())
}

/// The items of `old` that `next` lacks. What `old` has forgotten meanwhile, or knows as other content, `next` forgets.
pub(super) fn left(old: &dyn Store, next: &mut dyn Store) -> Result<Vec<Item>> {
    let all = ItemFilter::default();
    let mut left: HashMap<Place, Item> = old
        .items(&all)?
        .into_iter()
        .map(|item| (item.place.clone(), item))
        .collect();
    let mut stale = Vec::new();
    for Item { place, hash, .. } in next.items(&all)? {
        match left.get(&place) {
            Some(item) if item.hash == hash => drop(left.remove(&place)),
            _ => stale.push(place),
        }
    }
    next.remove(&stale)?;
    let mut left: Vec<Item> = left.into_values().collect();
    left.sort_by(|a, b| a.place.cmp(&b.place));
    Ok(left)
}

/// Names those of `items` whose content has a row, and gives back the others.
pub(super) fn name_known(
    index: &mut dyn Store,
    items: Vec<Item>,
    report: &Report,
    summary: &mut Summary,
) -> Result<Vec<Item>> {
    let (mut copies, mut others) = (Vec::new(), Vec::new());
    for item in items {
        match index.knows(&item.hash)? {
            true => copies.push(item),
            false => others.push(item),
        }
    }
    index.add_copies(&copies)?;
    report.advance_by(copies.len());
    summary.known += copies.len();
    Ok(others)
}

/// Rows that wait to be written.
struct Batch<'a> {
    index: &'a mut dyn Store,
    items: Vec<Item>,
    rows: Vec<Embeddings>,
    since: Instant,
}

impl<'a> Batch<'a> {
    fn new(index: &'a mut dyn Store) -> Self {
        Self {
            index,
            items: Vec::new(),
            rows: Vec::new(),
            since: Instant::now(),
        }
    }

    fn add(&mut self, item: Item, row: &Embeddings) -> Result<()> {
        self.items.push(item);
        self.rows.push(row.clone());
        if self.items.len() >= COMMIT_ROWS || self.since.elapsed() >= COMMIT_TIME {
            self.commit()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        let rows = Embeddings::concat(self.index.width(), &std::mem::take(&mut self.rows))?;
        self.index.add(&std::mem::take(&mut self.items), &rows)?;
        self.since = Instant::now();
        Ok(())
    }
}

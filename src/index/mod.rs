//! The index: unit rows on the disk with what they are of, found again by a row.
//!
//! It stores rows of any encoder and knows none. A folder holds a catalog (SQLite), a file of full rows, a file of
//! compact codes that is made from them, and a lock. Rows are written and synced before the transaction that names
//! them, so that whatever ends the program leaves an index that opens.
//!
//! `catalog/` knows SQL, `folder.rs`, `rows.rs` and `codes.rs` know files, `rank.rs` finds. This file is what they are
//! together to a reader, `writing.rs` to a writer. `qdrant/` is the same on a server, and `store.rs` what both can do.

mod catalog;
mod changes;
mod coder;
mod codes;
mod folder;
mod item;
mod parts;
mod place;
#[cfg(feature = "qdrant")]
mod qdrant;
mod rank;
mod rotation;
mod rows;
mod scan;
mod similar;
mod store;
#[cfg(test)]
mod tests;
mod view;
mod writing;

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use changes::{
    Found, FoundFile, Stat, Todo, WalkOptions, compare, hash, hash_file, hash_text, walk,
};
pub(crate) use changes::{QUARANTINE_JOURNAL, open_file};
pub use item::{Hash, Hit, Item, ItemFilter, Kind, SearchOptions, Stats};
pub use place::Place;
#[cfg(feature = "qdrant")]
pub use qdrant::Collection;
pub use store::{Store, address, create_store, open_store, open_store_to_write};

use catalog::{Catalog, Facts, Named};
use folder::{CATALOG, codes_file, create_files, holds_rows, lock};
use view::{View, at_one_moment};

use crate::embedding::Embeddings;
use crate::error::{Error, Result};

/// Rows without a code that are looked at one by one, before codes are made for them.
const UNCODED: usize = 4096;

/// Unit rows on the disk, with what they are of.
///
/// Any number of processes may read while one writes. A writer holds a lock until it is dropped.
///
/// # Example
///
/// ```
/// use diptych::{Embeddings, Index, Item, Place, SearchOptions};
/// use ndarray::array;
///
/// let folder = tempfile::tempdir()?;
/// let mut index = Index::create(folder.path(), "a model", 2)?;
/// let item = |name: &str, hash| Item {
///     place: Place { folder: "/photos".into(), name: name.into() },
///     size: 1,
///     modified: 0,
///     hash: [hash; 16],
///     text: None,
///     taken: None,
/// };
/// let rows = Embeddings::new(array![[1.0, 0.0], [0.0, 1.0]])?;
/// index.add(&[item("cat.jpg", 1), item("dog.jpg", 2)], &rows)?;
///
/// let query = Embeddings::new(array![[0.1, 0.9]])?;
/// let hits = Index::open(folder.path())?.search(&query, &SearchOptions::default())?;
/// assert_eq!(hits[0].item.place.name, "dog.jpg");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Index {
    folder: PathBuf,
    catalog: Mutex<Catalog>,
    view: Mutex<Arc<View>>,
    /// Held by a writer.
    lock: Option<File>,
}

impl Index {
    /// Whether there is an index in `folder`, whole or not.
    pub fn exists(folder: &Path) -> bool {
        folder.join(CATALOG).exists() || holds_rows(folder)
    }

    /// A new index in `folder`, which is made if it is not there, for rows of `width` values that `model` made.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if another process writes there, [`Error::IndexExists`] if there is one already,
    /// [`Error::Write`].
    pub fn create(folder: &Path, model: &str, width: usize) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::write(folder))?;
        let lock = lock(folder)?;
        if Self::exists(folder) {
            return Err(Error::IndexExists {
                path: folder.to_owned(),
            });
        }
        create_files(folder, CATALOG, &Facts::new(model, width, 1))?;
        Self::assemble(folder, Some(lock))
    }

    /// The index in `folder`, to read.
    ///
    /// # Errors
    ///
    /// [`Error::NoIndex`] if there is none; [`Error::Damaged`] if a file of it is not what was written.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::require(folder)?;
        Self::assemble(folder, None)
    }

    /// The index in `folder`, to write.
    ///
    /// # Errors
    ///
    /// Those of [`Index::open`]; [`Error::Locked`] if another process writes to it.
    pub fn open_to_write(folder: &Path) -> Result<Self> {
        Self::require(folder)?;
        let lock = lock(folder)?;
        Self::assemble(folder, Some(lock))
    }

    fn require(folder: &Path) -> Result<()> {
        if Self::exists(folder) {
            Ok(())
        } else {
            Err(Error::NoIndex {
                path: folder.to_owned(),
            })
        }
    }

    fn assemble(folder: &Path, lock: Option<File>) -> Result<Self> {
        let index = Self::open_files(folder, CATALOG, lock)?;
        if index.lock.is_some() {
            index.clear_up()?;
        }
        Ok(index)
    }

    fn open_files(folder: &Path, catalog: &str, lock: Option<File>) -> Result<Self> {
        let catalog = Catalog::open(&folder.join(catalog), lock.is_some())?;
        let (moment, view) = at_one_moment(&catalog, |facts| {
            if lock.is_some() {
                let path = codes_file(folder, facts.generation);
                codes::remove_if_longer(&path, facts.width, facts.rows);
            }
            View::open(folder, facts, None)
        })?;
        drop(moment);
        Ok(Self {
            folder: folder.to_owned(),
            catalog: Mutex::new(catalog),
            view: Mutex::new(Arc::new(view)),
            lock,
        })
    }

    /// The folder that it lies in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What its rows were made by, as given to [`Index::create`].
    pub fn model(&self) -> String {
        self.seen().facts.model.clone()
    }

    /// Values of a row.
    pub fn width(&self) -> usize {
        self.seen().facts.width
    }

    /// Whether content of this hash has a row.
    ///
    /// # Errors
    ///
    /// [`Error::Catalog`], as everything that reads the catalog.
    pub fn knows(&self, hash: &Hash) -> Result<bool> {
        Ok(self.catalog().row_of(hash)?.is_some())
    }

    /// The sizes of all items, in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Catalog`].
    pub fn sizes(&self) -> Result<HashSet<u64>> {
        self.catalog().sizes()
    }

    /// The items nearest to a query, best first; items of equal score in the order in which they were indexed.
    ///
    /// # Shape and units
    ///
    /// `query` is one row. Scores are cosines.
    ///
    /// # Cost
    ///
    /// See `benches/search.rs`: of 512 values, about nine milliseconds of a core for each million rows, and a few
    /// microseconds for each hit. A filter is looked up once: the same one again costs nothing until something is written.
    ///
    /// # Errors
    ///
    /// [`Error::Width`] if the query is of another width; [`Error::Damaged`] if a row that was looked at is not what was
    /// written.
    ///
    /// # Panics
    ///
    /// If `query` is not one row.
    pub fn search(&self, query: &Embeddings, options: &SearchOptions) -> Result<Vec<Hit>> {
        assert_eq!(query.len(), 1, "one row to search for");
        let last = match options.limit {
            0 => usize::MAX,
            limit => options.offset.saturating_add(limit),
        };
        let mut hits = self.reading(|catalog, view| {
            if query.width() != view.facts.width {
                return Err(Error::Width {
                    found: query.width(),
                    expected: view.facts.width,
                });
            }
            let allowed = view.allowed(catalog, &options.filter)?;
            let count = last.min(view.rows.len());
            let best = view.ranked().best(query.row(0), &allowed, count)?;
            let least = options.min_score.unwrap_or(f32::NEG_INFINITY);
            let mut hits = Vec::new();
            for (row, score) in best.into_iter().take_while(|(_, score)| *score >= least) {
                let items = catalog.items_of(row, &options.filter)?;
                let hit = |item| Hit {
                    item,
                    // Rounding makes rows a little longer.
                    score: score.clamp(-1.0, 1.0),
                    rank: 0,
                };
                hits.extend(items.into_iter().map(|named| hit(named.item)));
                if hits.len() >= last {
                    break;
                }
            }
            Ok(hits)
        })?;
        hits.truncate(last);
        let mut hits = hits.split_off(options.offset.min(hits.len()));
        for (hit, rank) in hits.iter_mut().zip(options.offset + 1..) {
            hit.rank = rank;
        }
        Ok(hits)
    }

    /// Whether any of its items is an image.
    ///
    /// # Errors
    ///
    /// [`Error::Catalog`].
    pub fn has_images(&self) -> Result<bool> {
        let facts = self.catalog().facts()?;
        Ok(facts.texts.count == 0 || facts.texts.count < facts.used())
    }

    /// All items that `filter` lets through, by folder and name.
    ///
    /// # Errors
    ///
    /// [`Error::Catalog`].
    pub fn items(&self, filter: &ItemFilter) -> Result<Vec<Item>> {
        let items = self.catalog().items(filter)?;
        Ok(items.into_iter().map(|named| named.item).collect())
    }

    /// The item at a place.
    ///
    /// # Errors
    ///
    /// [`Error::Catalog`].
    pub fn at(&self, place: &Place) -> Result<Option<Item>> {
        let named = self.catalog().item_at(place)?;
        Ok(named.map(|named| named.item))
    }

    /// The item at a place, and its row.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if the row is not what was written.
    pub fn item(&self, place: &Place) -> Result<Option<(Item, Embeddings)>> {
        self.reading(|catalog, view| {
            let named = catalog.item_at(place)?;
            let with_row = named.map(|named| Ok((named.item, view.read(&[named.row])?)));
            with_row.transpose()
        })
    }

    /// All items that `filter` lets through, by folder and name, with the row of each.
    ///
    /// # Shape and units
    ///
    /// N items, N × D rows: items of the same content have the same row.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if a row is not what was written.
    pub fn rows(&self, filter: &ItemFilter) -> Result<(Vec<Item>, Embeddings)> {
        self.reading(|catalog, view| {
            let named = catalog.items(filter)?;
            let numbers: Vec<usize> = named.iter().map(|named| named.row).collect();
            let rows = view.read(&numbers)?;
            Ok((named.into_iter().map(|named| named.item).collect(), rows))
        })
    }

    /// What [`Index::rows`] gives, `count` items at a time, so that not all rows are in memory at once.
    ///
    /// What is written to the index meanwhile is not seen.
    ///
    /// # Errors
    ///
    /// [`Error::Catalog`]; later, [`Error::Damaged`] if a row is not what was written.
    pub fn chunks(&self, filter: &ItemFilter, count: usize) -> Result<Chunks> {
        self.reading(|catalog, view| {
            Ok(Chunks {
                view: Arc::clone(view),
                named: catalog.items(filter)?.into_iter(),
                count: count.max(1),
            })
        })
    }

    /// How much it holds.
    ///
    /// # Errors
    ///
    /// [`Error::Catalog`], [`Error::Read`].
    pub fn stats(&self) -> Result<Stats> {
        self.reading(|catalog, view| {
            let facts = &view.facts;
            let texts = catalog.count_texts()?;
            Ok(Stats {
                images: facts.items.count.saturating_sub(texts),
                texts,
                rows: facts.used(),
                freed: facts.freed.count,
                width: facts.width,
                model: facts.model.clone(),
                bytes: folder::bytes(&self.folder)?,
            })
        })
    }

    /// Looks at every table and every row: the items whose row is not what was written, by folder and name within each row.
    ///
    /// Such items are encoded again once they were removed, all that share a row.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if the catalog, or the file of rows as a whole, is not what was written.
    pub fn check(&self) -> Result<Vec<Item>> {
        self.reading(|catalog, view| {
            catalog.check_thoroughly()?;
            let mut damaged = Vec::new();
            for row in catalog.used_rows()? {
                if view.rows.check(row).is_err() {
                    let items = catalog.items_of(row, &ItemFilter::default())?;
                    damaged.extend(items.into_iter().map(|named| named.item));
                }
            }
            Ok(damaged)
        })
    }

    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> Arc<View> {
        Arc::clone(&self.view.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What `work` makes of the catalog and the files, as they are at one moment.
    fn reading<T>(&self, work: impl FnOnce(&Catalog, &Arc<View>) -> Result<T>) -> Result<T> {
        let catalog = self.catalog();
        let (_moment, view) = at_one_moment(&catalog, |facts| self.view(facts))?;
        work(&catalog, &view)
    }

    /// The files that `facts` name. Those seen last, if they are the same; codes may have been made since.
    fn view(&self, facts: Facts) -> Result<Arc<View>> {
        let seen = self.seen();
        if seen.facts == facts && !seen.lacks_codes() {
            return Ok(seen);
        }
        let view = Arc::new(View::open(&self.folder, facts, Some(&seen))?);
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&view);
        Ok(view)
    }
}

/// Items with their rows, some at a time, as [`Index::chunks`] gives them.
#[derive(Debug)]
pub struct Chunks {
    view: Arc<View>,
    named: std::vec::IntoIter<Named>,
    count: usize,
}

impl Chunks {
    /// How many items are still to come; at first, all of them.
    pub fn left(&self) -> usize {
        self.named.len()
    }
}

impl Iterator for Chunks {
    type Item = Result<(Vec<Item>, Embeddings)>;

    fn next(&mut self) -> Option<Self::Item> {
        let named: Vec<Named> = self.named.by_ref().take(self.count).collect();
        if named.is_empty() {
            return None;
        }
        let numbers: Vec<usize> = named.iter().map(|named| named.row).collect();
        let items = named.into_iter().map(|named| named.item).collect();
        Some(self.view.read(&numbers).map(|rows| (items, rows)))
    }
}

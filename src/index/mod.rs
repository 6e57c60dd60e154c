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
mod mapped;
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
pub use place::Place;
#[cfg(feature = "qdrant")]
pub use qdrant::Collection;
pub use store::{Store, address, create_store, open_store, open_store_to_write};

use catalog::{Catalog, Facts, Named, Table};
use folder::{CATALOG, codes_file, create_files, holds_rows, lock};
use view::{View, at_one_moment};

use crate::embedding::Embeddings;
use crate::error::{Error, Result};

/// The first half of the SHA-256 of a file's or a text's bytes.
pub type Hash = [u8; 16];

/// Rows without a code that are looked at one by one, before codes are made for them.
const UNCODED: usize = 4096;

/// Something that was indexed: an image file, or a text in a file of texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Where it is. An index holds one item for each place.
    pub place: Place,
    /// Bytes of the file or the text.
    pub size: u64,
    /// When the file was changed last, in nanoseconds since 1970.
    pub modified: i64,
    /// Of the content. Items of the same content share a row.
    pub hash: Hash,
    /// The text; `None` for an image.
    pub text: Option<String>,
    /// When the photo was taken, in nanoseconds since 1970, where the content says so. Items of the same content have the
    /// date of the first of them.
    pub taken: Option<i64>,
}

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An image file.
    Image,
    /// A text.
    Text,
}

impl Item {
    /// What it is.
    pub fn kind(&self) -> Kind {
        if self.text.is_some() {
            Kind::Text
        } else {
            Kind::Image
        }
    }
}

/// Which items are looked at. By default all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemFilter {
    /// Of this kind.
    pub kind: Option<Kind>,
    /// In one of these folders, however deep.
    pub within: Vec<PathBuf>,
    /// In none of these folders.
    pub not_within: Vec<PathBuf>,
    /// Taken, or else changed last, at this time or later, in nanoseconds since 1970.
    pub since: Option<i64>,
    /// Taken, or else changed last, before this time, in nanoseconds since 1970.
    pub until: Option<i64>,
}

/// What a search gives back.
#[derive(Debug, Clone)]
pub struct SearchOptions {
    /// Hits at most; 0 for all.
    pub limit: usize,
    /// Hits that are left out before the first.
    pub offset: usize,
    /// The least score of a hit.
    pub min_score: Option<f32>,
    /// What is searched.
    pub filter: ItemFilter,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self {
            limit: 10,
            offset: 0,
            min_score: None,
            filter: ItemFilter::default(),
        }
    }
}

/// An item that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// What was found.
    pub item: Item,
    /// Its cosine with the query, from −1 to 1, of its row as it is stored (f16: within 1e-3).
    pub score: f32,
    /// Its place among all hits, counted from 1.
    pub rank: usize,
}

/// How much an index holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Image files.
    pub images: usize,
    /// Texts.
    pub texts: usize,
    /// Rows that items have.
    pub rows: usize,
    /// Rows that no item has any more.
    pub freed: usize,
    /// Values of a row.
    pub width: usize,
    /// What the rows were made by, as given to [`Index::create`].
    pub model: String,
    /// Bytes of all files of the index; 0 where a server keeps them.
    pub bytes: u64,
}

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
        let facts = Facts {
            model: model.to_owned(),
            width,
            generation: 1,
            rows: 0,
            edition: 0,
        };
        create_files(folder, CATALOG, &facts)?;
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

    /// Refuses rows of another model.
    ///
    /// # Errors
    ///
    /// [`Error::OtherModel`].
    pub fn require_model(&self, model: &str) -> Result<()> {
        let found = self.model();
        if found == model {
            return Ok(());
        }
        Err(Error::OtherModel {
            path: self.folder.clone(),
            found,
            expected: model.to_owned(),
        })
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
        let mut sizes = HashSet::new();
        self.catalog()
            .has_size(&mut |size| _ = sizes.insert(size))?;
        Ok(sizes)
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
    /// [`Error::Width`] if the query is of another width; [`Error::Damaged`] if the row of a hit is not what was written.
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
            let best = view.ranked().best(query.row(0), &allowed, count);
            let least = options.min_score.unwrap_or(f32::NEG_INFINITY);
            let mut hits = Vec::new();
            for (row, score) in best.into_iter().take_while(|(_, score)| *score >= least) {
                view.rows.check(row)?;
                let items = catalog.items_of(row, &options.filter)?;
                let hit = |item| Hit {
                    item,
                    score,
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
        let (texts, rows) = self.catalog().kinds()?;
        Ok(texts == 0 || texts < rows)
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
            let texts = catalog.count(Table::Texts)?;
            Ok(Stats {
                images: catalog.count(Table::Items)? - texts,
                texts,
                rows: catalog.count(Table::Rows)?,
                freed: catalog.count(Table::Freed)?,
                width: view.facts.width,
                model: view.facts.model.clone(),
                bytes: folder::bytes(&self.folder)?,
            })
        })
    }

    /// Looks at every table and every row.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] for the first thing that is not what was written.
    pub fn check(&self) -> Result<()> {
        self.reading(|catalog, view| {
            catalog.check_thoroughly()?;
            let mut used = catalog.used_rows()?.into_iter();
            used.try_for_each(|row| view.rows.check(row))
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

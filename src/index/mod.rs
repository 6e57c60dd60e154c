//! The index: unit rows on the disk with what they are of, found again by a row.
//!
//! It stores rows of any encoder and knows none. A folder holds a catalog (SQLite), a file of full rows, a file of
//! compact codes that is made from them, and a lock. Rows are written and synced before the transaction that names
//! them, so that whatever ends the program leaves an index that opens.
//!
//! `catalog.rs` knows SQL, `rows.rs` and `codes.rs` know files, `rank.rs` finds; this file is what they are together.

mod catalog;
mod changes;
mod codes;
mod mapped;
mod place;
mod rank;
mod rotation;
mod rows;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ndarray::Array2;

pub use changes::{Found, FoundFile, Stat, Todo, WalkOptions, compare, hash, walk};
pub use place::Place;

use catalog::{Catalog, Changes, Facts, Named, NewRow, Table};
use codes::Codes;
use rank::{Allowed, Ranked};
use rows::{Appender, Rows};

use crate::embedding::Embeddings;
use crate::error::{Error, Result};

/// The first half of the SHA-256 of a file's or a text's bytes.
pub type Hash = [u8; 16];

/// Rows without a code that are looked at one by one, before codes are made for them.
const UNCODED: usize = 4096;
/// An index is made smaller when more than half of its rows are of nothing any more, and at least so many.
const WORTH_COMPACTING: usize = 4096;

const CATALOG: &str = "catalog.sqlite";
const NEXT_CATALOG: &str = "next.sqlite";

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
#[derive(Debug, Clone, Default)]
pub struct ItemFilter {
    /// Of this kind.
    pub kind: Option<Kind>,
    /// In one of these folders, however deep.
    pub within: Vec<PathBuf>,
    /// In none of these folders.
    pub not_within: Vec<PathBuf>,
    /// Changed at this time or later, in nanoseconds since 1970.
    pub since: Option<i64>,
    /// Changed before this time, in nanoseconds since 1970.
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
    /// Bytes of all files of the index.
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

/// The files of rows and codes as they were when last looked at.
#[derive(Debug)]
struct View {
    facts: Facts,
    rows: Rows,
    codes: Option<Codes>,
}

impl Index {
    /// Whether there is an index in `folder`.
    pub fn exists(folder: &Path) -> bool {
        folder.join(CATALOG).exists()
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
        };
        create_files(folder, CATALOG, &facts)?;
        Self::assemble(folder, CATALOG, Some(lock))
    }

    /// The index in `folder`, to read.
    ///
    /// # Errors
    ///
    /// [`Error::NoIndex`] if there is none; [`Error::Damaged`] if a file of it is not what was written.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::require(folder)?;
        Self::assemble(folder, CATALOG, None)
    }

    /// The index in `folder`, to write.
    ///
    /// # Errors
    ///
    /// Those of [`Index::open`]; [`Error::Locked`] if another process writes to it.
    pub fn open_to_write(folder: &Path) -> Result<Self> {
        Self::require(folder)?;
        let lock = lock(folder)?;
        Self::assemble(folder, CATALOG, Some(lock))
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

    fn assemble(folder: &Path, catalog: &str, lock: Option<File>) -> Result<Self> {
        let catalog = Catalog::open(&folder.join(catalog), lock.is_some())?;
        let view = View::open(folder, catalog.facts()?, 0)?;
        if lock.is_some() {
            remove_old_files(folder, view.facts.generation);
        }
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

    /// Adds items with their rows, in place of what was at their places; all of them or none.
    ///
    /// Content that is known keeps the row that it has.
    ///
    /// # Cost
    ///
    /// Waits for the disk: fewer calls with more rows are faster.
    ///
    /// # Errors
    ///
    /// [`Error::Width`] if the rows are of another width; [`Error::Write`] where they cannot be written, as on a full
    /// disk: the index is then as it was before.
    ///
    /// # Panics
    ///
    /// If there are not as many rows as items, or the index was opened to read.
    pub fn add(&mut self, items: &[Item], rows: &Embeddings) -> Result<()> {
        assert_eq!(items.len(), rows.len(), "a row for each item");
        self.require_writer();
        let before = self.seen();
        if rows.width() != before.facts.width {
            return Err(Error::Width {
                found: rows.width(),
                expected: before.facts.width,
            });
        }
        let first = before.facts.rows;
        let mut changes = Changes::default();
        let mut new: HashMap<Hash, usize> = HashMap::new();
        let mut appended = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let known = new.get(&item.hash).copied();
            let row = match known.or(self.catalog().row_of(&item.hash)?) {
                Some(row) => row,
                None => {
                    let row = first + appended.len();
                    appended.push(index);
                    new.insert(item.hash, row);
                    changes.new_rows.push(NewRow {
                        row,
                        hash: item.hash,
                        text: item.text.as_deref(),
                    });
                    row
                }
            };
            changes.items.push((item, row));
        }
        changes.rows = first + appended.len();
        if !appended.is_empty() {
            let path = rows_file(&self.folder, before.facts.generation);
            Appender::open(&path, before.facts.width)?.append(first, &rows.select(&appended))?;
        }
        self.apply(&changes)
    }

    /// Adds items whose content is known, under the rows that it has.
    ///
    /// # Errors
    ///
    /// [`Error::Catalog`].
    ///
    /// # Panics
    ///
    /// If an item's content is not known, or the index was opened to read.
    pub fn add_copies(&mut self, items: &[Item]) -> Result<()> {
        self.require_writer();
        let mut changes = Changes {
            rows: self.seen().facts.rows,
            ..Changes::default()
        };
        for item in items {
            let row = self.catalog().row_of(&item.hash)?;
            changes
                .items
                .push((item, row.expect("content that is known")));
        }
        self.apply(&changes)
    }

    /// Removes the items at `places`; those that are not there are left out.
    ///
    /// # Errors
    ///
    /// [`Error::Catalog`].
    ///
    /// # Panics
    ///
    /// If the index was opened to read.
    pub fn remove(&mut self, places: &[Place]) -> Result<()> {
        self.require_writer();
        let rows = self.seen().facts.rows;
        self.apply(&Changes {
            removed: places,
            rows,
            ..Changes::default()
        })?;
        self.compact_if_worth_it()
    }

    fn apply(&mut self, changes: &Changes<'_>) -> Result<()> {
        self.catalog().apply(changes)?;
        let view = self.look_again(&self.catalog())?;
        let coded = view.codes.as_ref().map_or(0, Codes::len);
        if view.rows.len() - coded > UNCODED {
            // Without them every search is right all the same, and slower.
            let path = codes_file(&self.folder, view.facts.generation);
            let _ =
                codes::bring_up_to_date(&path, view.codes.as_ref(), &view.rows, view.facts.width);
            self.replace_view(View::open(&self.folder, view.facts.clone(), coded)?);
        }
        Ok(())
    }

    /// The items nearest to a query, best first; items of equal score in the order in which they were indexed.
    ///
    /// # Shape and units
    ///
    /// `query` is one row. Scores are cosines.
    ///
    /// # Cost
    ///
    /// See `benches/search.rs`: about a millisecond and a half for each million rows and core, and ten microseconds for
    /// each hit.
    ///
    /// # Errors
    ///
    /// [`Error::Width`] if the query is of another width; [`Error::Damaged`] if the row of a hit is not what was written.
    pub fn search(&self, query: &Embeddings, options: &SearchOptions) -> Result<Vec<Hit>> {
        let catalog = self.catalog();
        let view = self.look_again(&catalog)?;
        if query.width() != view.facts.width || query.len() != 1 {
            return Err(Error::Width {
                found: query.width(),
                expected: view.facts.width,
            });
        }
        let allowed = catalog.allowed(&options.filter)?;
        let last = match options.limit {
            0 => usize::MAX,
            limit => options.offset.saturating_add(limit),
        };
        let best = view
            .ranked()
            .best(query.row(0), &allowed, last.min(view.rows.len()));
        let mut hits = Vec::new();
        for (row, score) in best {
            if options.min_score.is_some_and(|least| score < least) || hits.len() >= last {
                break;
            }
            view.rows.check(row)?;
            let items = catalog.items_of(row, &options.filter)?;
            hits.extend(items.into_iter().map(|named| Hit {
                item: named.item,
                score,
                rank: 0,
            }));
        }
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

    /// The item at a place, and its row.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if the row is not what was written.
    pub fn item(&self, place: &Place) -> Result<Option<(Item, Embeddings)>> {
        let catalog = self.catalog();
        let view = self.look_again(&catalog)?;
        let named = catalog.item_at(place)?;
        let row = named
            .as_ref()
            .map(|named| view.read(&[named.row]))
            .transpose()?;
        Ok(named.map(|named| named.item).zip(row))
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
        let catalog = self.catalog();
        let view = self.look_again(&catalog)?;
        let named = catalog.items(filter)?;
        let numbers: Vec<usize> = named.iter().map(|named| named.row).collect();
        let rows = view.read(&numbers)?;
        Ok((named.into_iter().map(|named| named.item).collect(), rows))
    }

    /// What [`Index::rows`] gives, `count` items at a time, so that not all rows are in memory at once.
    ///
    /// What is written to the index meanwhile is not seen.
    ///
    /// # Errors
    ///
    /// [`Error::Catalog`]; later, [`Error::Damaged`] if a row is not what was written.
    pub fn chunks(&self, filter: &ItemFilter, count: usize) -> Result<Chunks> {
        let catalog = self.catalog();
        let view = self.look_again(&catalog)?;
        Ok(Chunks {
            view,
            named: catalog.items(filter)?.into_iter(),
            count: count.max(1),
        })
    }

    /// Groups of items whose rows are nearly the same: each begins with the item that `better` puts first, and holds
    /// every other whose cosine with that one reaches `least` and that is in no group before it. Items that are like no
    /// other are left out.
    ///
    /// # Cost
    ///
    /// A scan for each row: about 10 seconds for 100,000 rows on two cores.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if a row is not what was written.
    pub fn similar(
        &self,
        least: f32,
        filter: &ItemFilter,
        mut better: impl FnMut(&Item, &Item) -> std::cmp::Ordering,
    ) -> Result<Vec<Vec<(Item, f32)>>> {
        let catalog = self.catalog();
        let view = self.look_again(&catalog)?;
        let mut items = catalog.items(filter)?;
        items.sort_by(|a, b| better(&a.item, &b.item));
        let mut of_row: HashMap<usize, Vec<Named>> = HashMap::new();
        let mut order = Vec::new();
        for named in items {
            let of_row = of_row.entry(named.row).or_default();
            if of_row.is_empty() {
                order.push(named.row);
            }
            of_row.push(named);
        }
        let mut sorted = order.clone();
        sorted.sort_unstable();
        let allowed = Allowed::Only(sorted);
        let mut groups = Vec::new();
        for row in order {
            if !of_row.contains_key(&row) {
                continue;
            }
            let query = view.read(&[row])?;
            let like = view.ranked().reaching(query.row(0), &allowed, least);
            let mut group: Vec<(Item, f32)> = Vec::new();
            let others = like.into_iter().filter(|(other, _)| *other != row);
            for (other, score) in std::iter::once((row, 1.0)).chain(others) {
                let named = of_row.remove(&other).unwrap_or_default();
                group.extend(named.into_iter().map(|named| (named.item, score)));
            }
            if group.len() > 1 {
                groups.push(group);
            }
        }
        Ok(groups)
    }

    /// How much it holds.
    ///
    /// # Errors
    ///
    /// [`Error::Catalog`], [`Error::Read`].
    pub fn stats(&self) -> Result<Stats> {
        let catalog = self.catalog();
        let facts = catalog.facts()?;
        let texts = catalog.count(Table::Texts)?;
        Ok(Stats {
            images: catalog.count(Table::Items)? - texts,
            texts,
            rows: catalog.count(Table::Rows)?,
            freed: catalog.count(Table::Freed)?,
            width: facts.width,
            model: facts.model,
            bytes: bytes(&self.folder)?,
        })
    }

    /// Looks at every table and every row.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] for the first thing that is not what was written.
    pub fn check(&self) -> Result<()> {
        let catalog = self.catalog();
        let view = self.look_again(&catalog)?;
        catalog.check_thoroughly()?;
        for row in catalog.used_rows()? {
            if row >= view.rows.len() {
                let problem = format!("it names row {row}, and there are {}", view.rows.len());
                return Err(Error::damaged(
                    &self.folder.join(CATALOG),
                    problem,
                    rows::WAY_BACK,
                ));
            }
            view.rows.check(row)?;
        }
        Ok(())
    }

    /// Leaves out the rows that no item has any more, where they are more than half.
    fn compact_if_worth_it(&mut self) -> Result<()> {
        let freed = self.catalog().count(Table::Freed)?;
        let view = self.seen();
        if freed < WORTH_COMPACTING || 2 * freed < view.rows.len() {
            return Ok(());
        }
        self.compact()
    }

    /// Writes the rows that items have to another file, which then takes this one's place.
    ///
    /// # Errors
    ///
    /// [`Error::Write`]; the index is then as it was before.
    ///
    /// # Panics
    ///
    /// If the index was opened to read.
    pub fn compact(&mut self) -> Result<()> {
        self.require_writer();
        let view = self.seen();
        let used = self.catalog().used_rows()?;
        let facts = Facts {
            generation: view.facts.generation + 1,
            rows: used.len(),
            ..view.facts.clone()
        };
        let path = rows_file(&self.folder, facts.generation);
        let mut appender = Appender::create(&path, facts.width)?;
        for (number, part) in used.chunks(UNCODED).enumerate() {
            appender.append(number * UNCODED, &view.read(part)?)?;
        }
        let moved: Vec<(usize, usize)> = used.into_iter().zip(0..).collect();
        self.catalog().renumber(&facts, &moved)?;
        self.apply(&Changes {
            rows: facts.rows,
            ..Changes::default()
        })
    }

    /// An index beside this one, for rows of another model, which takes its place with [`Index::take_over`]. One that was
    /// begun for the same model goes on.
    ///
    /// # Errors
    ///
    /// Those of [`Index::create`] and [`Index::open_to_write`].
    ///
    /// # Panics
    ///
    /// If the index was opened to read.
    pub fn begin_next(&mut self, model: &str, width: usize) -> Result<Self> {
        self.require_writer();
        let path = self.folder.join(NEXT_CATALOG);
        if path.exists() {
            let begun = Self::assemble_next(&self.folder);
            if let Ok(begun) = begun
                && begun.model() == model
            {
                return Ok(begun);
            }
            remove_catalog(&path)?;
        }
        let generation = self.seen().facts.generation + 1;
        let facts = Facts {
            model: model.to_owned(),
            width,
            generation,
            rows: 0,
        };
        create_files(&self.folder, NEXT_CATALOG, &facts)?;
        Self::assemble_next(&self.folder)
    }

    fn assemble_next(folder: &Path) -> Result<Self> {
        let catalog = Catalog::open(&folder.join(NEXT_CATALOG), true)?;
        let view = View::open(folder, catalog.facts()?, 0)?;
        // The lock is held by the index that it will replace.
        let lock = File::open(folder.join(LOCK)).map_err(Error::read(folder))?;
        Ok(Self {
            folder: folder.to_owned(),
            catalog: Mutex::new(catalog),
            view: Mutex::new(Arc::new(view)),
            lock: Some(lock),
        })
    }

    /// Puts `next` in the place of this index, in one step.
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub fn take_over(self, next: Self) -> Result<Self> {
        let Self {
            folder,
            catalog,
            lock,
            ..
        } = self;
        // The last connection of each writes what its log holds into the file, and removes the log.
        drop(catalog);
        drop(next);
        fs::rename(folder.join(NEXT_CATALOG), folder.join(CATALOG))
            .map_err(Error::write(&folder))?;
        Self::assemble(&folder, CATALOG, lock)
    }

    fn require_writer(&self) {
        assert!(self.lock.is_some(), "the index was opened to read");
    }

    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> Arc<View> {
        Arc::clone(&self.view.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace_view(&self, view: View) -> Arc<View> {
        let view = Arc::new(view);
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&view);
        view
    }

    /// The files as the catalog has them now.
    fn look_again(&self, catalog: &Catalog) -> Result<Arc<View>> {
        let facts = catalog.facts()?;
        let seen = self.seen();
        if seen.facts == facts {
            return Ok(seen);
        }
        let same_file = seen.facts.generation == facts.generation;
        let trusted = seen
            .codes
            .as_ref()
            .filter(|_| same_file)
            .map_or(0, Codes::len);
        Ok(self.replace_view(View::open(&self.folder, facts, trusted)?))
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

impl View {
    fn open(folder: &Path, facts: Facts, trusted: usize) -> Result<Self> {
        let rows = Rows::open(
            &rows_file(folder, facts.generation),
            facts.width,
            facts.rows,
        )?;
        let codes = Codes::open(
            &codes_file(folder, facts.generation),
            facts.width,
            facts.rows,
            trusted,
        );
        Ok(Self { facts, rows, codes })
    }

    fn ranked(&self) -> Ranked<'_> {
        Ranked {
            rows: &self.rows,
            codes: self.codes.as_ref(),
        }
    }

    /// Rows by their numbers, checked.
    fn read(&self, numbers: &[usize]) -> Result<Embeddings> {
        let mut values = Array2::zeros((numbers.len(), self.facts.width));
        for (&number, mut row) in numbers.iter().zip(values.outer_iter_mut()) {
            self.rows.check(number)?;
            self.rows
                .read_into(number, row.as_slice_mut().unwrap_or_default());
        }
        Embeddings::new(values)
    }
}

const LOCK: &str = "lock";

fn rows_file(folder: &Path, generation: u64) -> PathBuf {
    folder.join(format!("rows-{generation}.f16"))
}

fn codes_file(folder: &Path, generation: u64) -> PathBuf {
    folder.join(format!("codes-{generation}.bits"))
}

/// An empty file of rows and a catalog, the latter under its name when it is whole.
fn create_files(folder: &Path, catalog: &str, facts: &Facts) -> Result<()> {
    Appender::create(&rows_file(folder, facts.generation), facts.width)?;
    let path = folder.join(catalog);
    let partial = path.with_extension("partial");
    remove_catalog(&partial)?;
    drop(Catalog::create(&partial, facts)?);
    fs::rename(&partial, &path).map_err(Error::write(&path))
}

fn remove_catalog(path: &Path) -> Result<()> {
    for ending in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        match fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::write(path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Files of generations that were left. Readers that map them keep them.
fn remove_old_files(folder: &Path, generation: u64) {
    for old in generation.saturating_sub(3)..generation {
        let _ = fs::remove_file(rows_file(folder, old));
        let _ = fs::remove_file(codes_file(folder, old));
    }
}

/// The right to write to `folder`, for as long as the file is held.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let mut file = file.map_err(Error::write(&path))?;
    match file.try_lock() {
        Ok(()) => {
            let said = format!("process {}", std::process::id());
            file.set_len(0)
                .and_then(|()| file.write_all(said.as_bytes()))
                .map_err(Error::write(&path))?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            Err(Error::Locked {
                path: folder.to_owned(),
                holder,
            })
        }
        Err(TryLockError::Error(error)) => Err(Error::write(&path)(error)),
    }
}

/// Bytes of all files in a folder.
fn bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).map_err(Error::read(folder))? {
        let length = entry
            .and_then(|entry| entry.metadata())
            .map_or(0, |metadata| metadata.len());
        bytes += length;
    }
    Ok(bytes)
}

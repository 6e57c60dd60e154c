//! What changes an index. Rows go to the disk first, then the transaction that names them, then codes.

use std::collections::HashMap;
use std::fs::{self, File};

use super::catalog::{Catalog, Changes, Facts, NewRow};
use super::folder::{
    NEXT_CATALOG, create_files, remove_catalog, remove_old_files, rows_file, sync,
    unused_generation,
};
use super::rows::Appender;
use super::{Hash, Index, Item, Place};
use crate::embedding::Embeddings;
use crate::error::{Error, Result};

/// An index is made smaller when more than half of its rows are of nothing any more, and at least so many.
const WORTH_COMPACTING: usize = 4096;

impl Index {
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
        let facts = self.seen().facts.clone();
        if rows.width() != facts.width {
            return Err(Error::Width {
                found: rows.width(),
                expected: facts.width,
            });
        }
        let (changes, new) = named(&self.catalog(), items, facts.rows)?;
        if !new.is_empty() {
            let path = rows_file(&self.folder, facts.generation);
            Appender::open(&path, facts.width)?.append(facts.rows, &rows.select(&new))?;
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
        let (changes, new) = named(&self.catalog(), items, self.seen().facts.rows)?;
        assert!(new.is_empty(), "content that is known");
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
        self.apply(&Changes {
            removed: places,
            rows: self.seen().facts.rows,
            ..Changes::default()
        })
    }

    fn apply(&self, changes: &Changes<'_>) -> Result<()> {
        // A commit would make every reader look anew, and wake whoever watches the folder.
        if changes.items.is_empty() && changes.removed.is_empty() {
            return Ok(());
        }
        self.catalog().apply(changes)?;
        self.settle()?;
        let Facts { rows, freed, .. } = self.seen().facts;
        if freed.count >= WORTH_COMPACTING && 2 * freed.count >= rows {
            // The change was made. Where there is no room for this now, it has time.
            let _ = self.write_compacted();
        }
        Ok(())
    }

    /// Brings what is seen and the codes up to what the catalog names.
    pub(super) fn settle(&self) -> Result<()> {
        let facts = self.catalog().facts()?;
        let view = self.view(facts)?;
        if view.lacks_codes() {
            // Without them every search is right all the same, and slower.
            let _ = view.bring_codes_up_to_date(&self.folder);
            self.view(view.facts.clone())?;
        }
        Ok(())
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
        self.write_compacted()
    }

    fn write_compacted(&self) -> Result<()> {
        let view = self.seen();
        let used = self.catalog().used_rows()?;
        let generation = unused_generation(&self.folder, view.facts.generation);
        let path = rows_file(&self.folder, generation);
        let written = Appender::create(&path, view.facts.width)
            .and_then(|mut file| file.copy(&view.rows, &used));
        if let Err(error) = written.and_then(|()| sync(&self.folder)) {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        let moved: Vec<(usize, usize)> = used.into_iter().zip(0..).collect();
        self.catalog().renumber(generation, &moved)?;
        self.settle()?;
        remove_old_files(&self.folder, generation)
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
        if let Ok(begun) = self.open_next()
            && (begun.model().as_str(), begun.width()) == (model, width)
        {
            return Ok(begun);
        }
        remove_catalog(&self.folder.join(NEXT_CATALOG))?;
        remove_old_files(&self.folder, self.seen().facts.generation)?;
        let generation = unused_generation(&self.folder, self.seen().facts.generation);
        let facts = Facts::new(model, width, generation);
        create_files(&self.folder, NEXT_CATALOG, &facts)?;
        self.open_next()
    }

    /// It shares the lock of the index that it will replace.
    fn open_next(&self) -> Result<Self> {
        let lock = self.lock.as_ref().map(File::try_clone);
        let lock = lock.transpose().map_err(Error::read(&self.folder))?;
        Self::open_files(&self.folder, NEXT_CATALOG, lock)
    }

    /// Puts `next` in the place of this index, in one step.
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub fn take_over(self, next: Self) -> Result<Self> {
        // Not by a rename: SQLite would take the log of the old file, which readers may hold, for the new one's.
        self.catalog().take_from(&next.catalog())?;
        drop(next);
        self.settle()?;
        remove_old_files(&self.folder, self.seen().facts.generation)?;
        Ok(self)
    }

    /// Finishes what a writer before may have left behind.
    pub(super) fn clear_up(&self) -> Result<()> {
        remove_old_files(&self.folder, self.seen().facts.generation)?;
        self.settle()
    }

    fn require_writer(&self) {
        assert!(self.lock.is_some(), "the index was opened to read");
    }
}

/// The row of each item, that of its content where it has one, new ones from `first` on where not; and which items have
/// the new ones.
fn named<'a>(
    catalog: &Catalog,
    items: &'a [Item],
    first: usize,
) -> Result<(Changes<'a>, Vec<usize>)> {
    let mut changes = Changes::default();
    let mut coming: HashMap<Hash, usize> = HashMap::new();
    let mut new = Vec::new();
    // Otherwise each look takes a lock of its own.
    let _moment = catalog.moment()?;
    for (index, item) in items.iter().enumerate() {
        let known = match coming.get(&item.hash) {
            Some(&row) => Some(row),
            None => catalog.row_of(&item.hash)?,
        };
        let row = known.unwrap_or(first + new.len());
        if known.is_none() {
            new.push(index);
            coming.insert(item.hash, row);
            changes.new_rows.push(NewRow {
                row,
                hash: item.hash,
                text: item.text.as_deref(),
                taken: item.taken,
            });
        }
        changes.items.push((item, row));
    }
    changes.rows = first + new.len();
    Ok((changes, new))
}

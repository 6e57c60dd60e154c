//! The files of rows and codes as the catalog had them at one moment.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::Array2;
use rusqlite::Transaction;

use super::catalog::{Catalog, Facts};
use super::codes::{self, Codes};
use super::folder::{codes_file, rows_file};
use super::rank::{Allowed, Ranked};
use super::rows::Rows;
use super::{ItemFilter, UNCODED};
use crate::embedding::Embeddings;
use crate::error::Result;

#[derive(Debug)]
pub(super) struct View {
    pub(super) facts: Facts,
    pub(super) rows: Rows,
    codes: Option<Codes>,
    /// What the last filter let through.
    filtered: Mutex<Option<(ItemFilter, Arc<Allowed>)>>,
}

impl View {
    /// The files in `folder` that `facts` name. Codes that `before` looked at are not looked at again.
    pub(super) fn open(folder: &Path, facts: Facts, before: Option<&View>) -> Result<Self> {
        let rows = Rows::open(
            &rows_file(folder, facts.generation),
            facts.width,
            facts.rows,
        )?;
        let trusted = before
            .filter(|before| before.facts.generation == facts.generation)
            .map_or(0, View::coded);
        let path = codes_file(folder, facts.generation);
        let codes = Codes::open(&path, facts.width, facts.rows, trusted);
        let filtered = Mutex::default();
        Ok(Self {
            facts,
            rows,
            codes,
            filtered,
        })
    }

    /// Rows that have a code.
    fn coded(&self) -> usize {
        self.codes.as_ref().map_or(0, Codes::len)
    }

    /// Whether so many rows have no code that codes are worth a look or, to a writer, worth making.
    pub(super) fn lacks_codes(&self) -> bool {
        self.rows.len() - self.coded() > UNCODED
    }

    /// Makes the codes that are missing.
    pub(super) fn bring_codes_up_to_date(&self, folder: &Path) -> Result<()> {
        let path = codes_file(folder, self.facts.generation);
        codes::bring_up_to_date(&path, self.codes.as_ref(), &self.rows, self.facts.width)
    }

    pub(super) fn ranked(&self) -> Ranked<'_> {
        Ranked {
            rows: &self.rows,
            codes: self.codes.as_ref(),
        }
    }

    /// The rows of the items that `filter` lets through, by the catalog that the view is of.
    pub(super) fn allowed(&self, catalog: &Catalog, filter: &ItemFilter) -> Result<Arc<Allowed>> {
        let mut filtered = self.filtered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, allowed)) = &*filtered
            && known == filter
        {
            return Ok(Arc::clone(allowed));
        }
        let allowed = Arc::new(catalog.allowed(filter, &self.facts)?);
        if let Allowed::Only(rows) = &*allowed
            && let Some(&last) = rows.last()
        {
            self.rows.check(last)?;
        }
        *filtered = Some((filter.clone(), Arc::clone(&allowed)));
        Ok(allowed)
    }

    /// Rows by their numbers, checked.
    pub(super) fn read(&self, numbers: &[usize]) -> Result<Embeddings> {
        let mut values = Array2::zeros((numbers.len(), self.facts.width));
        for (&number, mut row) in numbers.iter().zip(values.outer_iter_mut()) {
            self.rows.check(number)?;
            self.rows
                .read_into(number, row.as_slice_mut().unwrap_or_default());
        }
        Embeddings::new(values)
    }
}

/// What `open` makes of a catalog's facts, and the moment that they are of.
///
/// A writer that compacts removes the files that it leaves: where they went before they were opened, the catalog
/// names others by now.
pub(super) fn at_one_moment<T>(
    catalog: &Catalog,
    open: impl Fn(Facts) -> Result<T>,
) -> Result<(Transaction<'_>, T)> {
    loop {
        let moment = catalog.moment()?;
        let facts = catalog.facts()?;
        let generation = facts.generation;
        match open(facts) {
            Ok(opened) => return Ok((moment, opened)),
            Err(error) => {
                drop(moment);
                if catalog.facts()?.generation == generation {
                    return Err(error);
                }
            }
        }
    }
}

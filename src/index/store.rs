//! What commands need of an index, wherever its rows lie: in a folder, or on a server.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::{Hash, Hit, Index, Item, ItemFilter, Place, SearchOptions, Stats};
use crate::embedding::Embeddings;
use crate::error::Result;

/// An index that can be searched and brought up to date. What each method does stands with [`Index`]'s of the same name.
pub trait Store {
    /// Where it is, as messages name it: a folder or an address.
    fn location(&self) -> PathBuf;
    /// What its rows were made by.
    fn model(&self) -> String;
    /// Values of a row.
    fn width(&self) -> usize;
    /// Whether content of this hash has a row.
    ///
    /// # Errors
    ///
    /// As everything here: those of the store, which names itself in them.
    fn knows(&self, hash: &Hash) -> Result<bool>;
    /// The sizes of all items, in bytes.
    ///
    /// # Errors
    ///
    /// Those of the store.
    fn sizes(&self) -> Result<HashSet<u64>>;
    /// Adds items with their rows, in place of what was at their places.
    ///
    /// # Errors
    ///
    /// Those of the store; [`crate::Error::Width`].
    fn add(&mut self, items: &[Item], rows: &Embeddings) -> Result<()>;
    /// Adds items whose content is known, under the rows that it has.
    ///
    /// # Errors
    ///
    /// Those of the store.
    fn add_copies(&mut self, items: &[Item]) -> Result<()>;
    /// Removes the items at `places`; those that are not there are left out.
    ///
    /// # Errors
    ///
    /// Those of the store.
    fn remove(&mut self, places: &[Place]) -> Result<()>;
    /// The items nearest to a query, best first.
    ///
    /// # Errors
    ///
    /// Those of the store; [`crate::Error::Width`].
    fn search(&self, query: &Embeddings, options: &SearchOptions) -> Result<Vec<Hit>>;
    /// Whether any of its items is an image, or there is none at all.
    ///
    /// # Errors
    ///
    /// Those of the store.
    fn has_images(&self) -> Result<bool>;
    /// All items that `filter` lets through, by folder and name.
    ///
    /// # Errors
    ///
    /// Those of the store.
    fn items(&self, filter: &ItemFilter) -> Result<Vec<Item>>;
    /// The item at a place.
    ///
    /// # Errors
    ///
    /// Those of the store.
    fn at(&self, place: &Place) -> Result<Option<Item>>;
    /// How much it holds.
    ///
    /// # Errors
    ///
    /// Those of the store.
    fn stats(&self) -> Result<Stats>;
}

impl Store for Index {
    fn location(&self) -> PathBuf {
        self.folder().to_owned()
    }

    fn model(&self) -> String {
        self.model()
    }

    fn width(&self) -> usize {
        self.width()
    }

    fn knows(&self, hash: &Hash) -> Result<bool> {
        self.knows(hash)
    }

    fn sizes(&self) -> Result<HashSet<u64>> {
        self.sizes()
    }

    fn add(&mut self, items: &[Item], rows: &Embeddings) -> Result<()> {
        self.add(items, rows)
    }

    fn add_copies(&mut self, items: &[Item]) -> Result<()> {
        self.add_copies(items)
    }

    fn remove(&mut self, places: &[Place]) -> Result<()> {
        self.remove(places)
    }

    fn search(&self, query: &Embeddings, options: &SearchOptions) -> Result<Vec<Hit>> {
        self.search(query, options)
    }

    fn has_images(&self) -> Result<bool> {
        self.has_images()
    }

    fn items(&self, filter: &ItemFilter) -> Result<Vec<Item>> {
        self.items(filter)
    }

    fn at(&self, place: &Place) -> Result<Option<Item>> {
        self.at(place)
    }

    fn stats(&self) -> Result<Stats> {
        self.stats()
    }
}

/// The address of a collection, if `location` is one and not a folder.
pub fn address(location: &Path) -> Option<&str> {
    let text = location.to_str()?;
    let is_address = text.starts_with("qdrant://") || text.starts_with("qdrants://");
    is_address.then_some(text)
}

/// The index at `location`, to read.
///
/// # Errors
///
/// Those of [`Index::open`]; for an address [`crate::Error::NoQdrant`], [`crate::Error::Address`], [`crate::Error::Unreachable`],
/// [`crate::Error::Server`], [`crate::Error::NotAnIndex`].
pub fn open_store(location: &Path) -> Result<Box<dyn Store>> {
    match address(location) {
        Some(address) => remote::open(address),
        None => Ok(Box::new(Index::open(location)?)),
    }
}

/// The index at `location`, to write.
///
/// # Errors
///
/// Those of [`open_store`] and [`Index::open_to_write`].
pub fn open_store_to_write(location: &Path) -> Result<Box<dyn Store>> {
    match address(location) {
        Some(address) => remote::open_to_write(address),
        None => Ok(Box::new(Index::open_to_write(location)?)),
    }
}

/// A new index at `location`, for rows of `width` values that `model` made.
///
/// # Errors
///
/// Those of [`Index::create`] and [`open_store`].
pub fn create_store(location: &Path, model: &str, width: usize) -> Result<Box<dyn Store>> {
    match address(location) {
        Some(address) => remote::create(address, model, width),
        None => Ok(Box::new(Index::create(location, model, width)?)),
    }
}

#[cfg(feature = "qdrant")]
mod remote {
    use super::{Result, Store};
    use crate::index::qdrant::Collection;

    pub(super) fn open(address: &str) -> Result<Box<dyn Store>> {
        Ok(Box::new(Collection::open(address)?))
    }

    pub(super) fn open_to_write(address: &str) -> Result<Box<dyn Store>> {
        Ok(Box::new(Collection::open_to_write(address)?))
    }

    pub(super) fn create(address: &str, model: &str, width: usize) -> Result<Box<dyn Store>> {
        Ok(Box::new(Collection::create(address, model, width)?))
    }
}

#[cfg(not(feature = "qdrant"))]
mod remote {
    use super::{Result, Store};
    use crate::error::Error;

    pub(super) fn open(address: &str) -> Result<Box<dyn Store>> {
        Err(Error::NoQdrant {
            address: address.to_owned(),
        })
    }

    pub(super) fn open_to_write(address: &str) -> Result<Box<dyn Store>> {
        open(address)
    }

    pub(super) fn create(address: &str, _model: &str, _width: usize) -> Result<Box<dyn Store>> {
        open(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_no_folder() {
        let text = "qdrants://host:6334/photos";
        assert_eq!(address(Path::new(text)), Some(text));
        assert_eq!(address(Path::new("qdrant/photos")), None);
        assert_eq!(address(Path::new("/data/qdrant:")), None);
    }

    #[test]
    #[cfg(not(feature = "qdrant"))]
    fn without_the_feature_an_address_says_how_to_build_it_in() {
        let error = open_store(Path::new("qdrant://host/photos")).err();
        let error = error.expect("an error");
        assert!(matches!(error, crate::Error::NoQdrant { .. }), "{error}");
        assert!(
            error
                .hint()
                .is_some_and(|hint| hint.contains("--features qdrant"))
        );
    }
}

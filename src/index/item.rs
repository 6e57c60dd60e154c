//! What an index holds, what it is asked, what it answers.

use std::path::PathBuf;

use super::{Place, Stat};

/// The first half of the SHA-256 of a file's or a text's bytes.
pub type Hash = [u8; 16];

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

    /// How its file was when it was indexed; of a text, the size is its own.
    pub fn stat(&self) -> Stat {
        Stat {
            size: self.size,
            modified: self.modified,
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
    /// Its cosine with the query, from −1 to 1, of its row as it is stored (16 bits a value: as a rule within 2e-5).
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
    /// What the rows were made by, as given to [`Index::create`](super::Index::create).
    pub model: String,
    /// Bytes of all files of the index; 0 where a server keeps them.
    pub bytes: u64,
}

impl Stats {
    /// Image files and texts together.
    pub fn items(&self) -> usize {
        self.images + self.texts
    }
}

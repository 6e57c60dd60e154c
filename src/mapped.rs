//! A file as memory: the one place that maps.

#![allow(
    unsafe_code,
    reason = "a mapped file can be changed by others, which no type can forbid"
)]

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::error::{Error, Result};

/// The bytes of a file, read when they are looked at.
#[derive(Debug)]
pub(crate) struct Mapped(Mmap);

impl Mapped {
    /// The file at `path`, as long as it is now.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::read(path))?;
        // SAFETY: the files of an index are written by this library alone, which appends behind what was mapped and
        // puts other files in their place, but never shortens them and never changes a byte that a reader may look
        // at; graphs are not written at all, but replaced whole. Someone who edits them while a program reads can make
        // it read other values, or end it.
        let map = unsafe { Mmap::map(&file) };
        map.map(Self).map_err(Error::read(path))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

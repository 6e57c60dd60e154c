//! What was moved: a line for each move, on the disk before the file goes.
//!
//! Lines are only ever added. One that a killed process left half written tells of a move that was not begun.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::moves;
use crate::error::{Error, Result};
use crate::index::QUARANTINE_JOURNAL;

/// A move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Where the file was. Absolute.
    pub(super) from: PathBuf,
    /// Where it went, from the folder of the quarantine down.
    pub(super) to: PathBuf,
    /// Its size then, in bytes.
    pub(super) size: u64,
    /// When it had been changed, in nanoseconds since 1970.
    pub(super) modified: i64,
}

#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    entries: Vec<Entry>,
    /// The last entry of each path.
    of_path: HashMap<PathBuf, usize>,
    /// Whether the last line was left without its end.
    is_cut: bool,
}

impl Journal {
    /// The journal in `folder`, held by a lock.
    pub(super) fn open(folder: &Path, is_new: bool) -> Result<Self> {
        let path = folder.join(QUARANTINE_JOURNAL);
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create(is_new);
        let mut file = options.open(&path).map_err(Error::read(&path))?;
        file.try_lock()
            .map_err(|error| Error::write(&path)(refusal(error)))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(Error::read(&path))?;
        moves::sync_folder(folder);
        let mut journal = Self {
            is_cut: text.last().is_some_and(|&byte| byte != b'\n'),
            path,
            file,
            entries: Vec::new(),
            of_path: HashMap::new(),
        };
        journal.read(&text)?;
        Ok(journal)
    }

    fn read(&mut self, text: &[u8]) -> Result<()> {
        for (line, number) in text.split(|&byte| byte == b'\n').zip(1..) {
            // A power cut may leave zeros.
            let line = line.trim_ascii();
            let end = line.iter().rposition(|&byte| byte != 0);
            let line = &line[..end.map_or(0, |end| end + 1)];
            match serde_json::from_slice(line) {
                Ok(entry) => self.take(entry),
                Err(error) if error.is_eof() => {}
                Err(error) => return Err(self.refuse(number, line, &error)),
            }
        }
        Ok(())
    }

    fn refuse(&self, number: usize, line: &[u8], error: &serde_json::Error) -> Error {
        let start: String = String::from_utf8_lossy(line).chars().take(40).collect();
        Error::Config {
            path: self.path.clone(),
            key: format!("line {number}"),
            found: format!("{start:?} ({error})"),
            expected: "a move as diptych quarantine writes it down".to_owned(),
        }
    }

    fn take(&mut self, entry: Entry) {
        self.of_path.insert(entry.from.clone(), self.entries.len());
        self.entries.push(entry);
    }

    /// The last move of a file from `path`.
    pub(super) fn latest(&self, path: &Path) -> Option<&Entry> {
        self.of_path.get(path).map(|&number| &self.entries[number])
    }

    /// The moves, the last first, one for each place that files were moved to.
    pub(super) fn newest_first(&self) -> Vec<&Entry> {
        let mut seen = HashSet::new();
        let mut newest: Vec<&Entry> = self.entries.iter().rev().collect();
        newest.retain(|entry| seen.insert(&entry.to));
        newest
    }

    /// Writes a move down and waits for the disk.
    pub(super) fn append(&mut self, entry: Entry) -> Result<()> {
        let line = serde_json::to_string(&entry).map_err(io::Error::from);
        let start = if self.is_cut { "\n" } else { "" };
        let mut write = |line: String| {
            self.file.write_all(format!("{start}{line}\n").as_bytes())?;
            self.file.sync_data()
        };
        line.and_then(&mut write)
            .map_err(Error::write(&self.path))?;
        self.is_cut = false;
        self.take(entry);
        Ok(())
    }
}

fn refusal(error: TryLockError) -> io::Error {
    match error {
        TryLockError::WouldBlock => {
            io::Error::other("another diptych quarantine works on this folder")
        }
        TryLockError::Error(error) => error,
    }
}

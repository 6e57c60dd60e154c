//! The folder of an index: which files lie in it, and who may write to them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::catalog::{Catalog, Facts};
use super::rows::{self, Appender};
use crate::error::{Error, Result};

pub(super) const CATALOG: &str = "catalog.sqlite";
/// The catalog of an index that will take the other's place.
pub(super) const NEXT_CATALOG: &str = "next.sqlite";
const LOCK: &str = "lock";

pub(super) fn rows_file(folder: &Path, generation: u64) -> PathBuf {
    folder.join(format!("rows-{generation}.i16"))
}

pub(super) fn codes_file(folder: &Path, generation: u64) -> PathBuf {
    folder.join(format!("codes-{generation}.bits"))
}

/// The generation that a file of rows or codes is of.
fn generation_of(path: &Path) -> Option<u64> {
    let stem = path.file_stem()?.to_str()?;
    let ending = path.extension()?.to_str()?;
    let number = match ending {
        "i16" => stem.strip_prefix("rows-")?,
        "bits" | "partial" => stem.strip_prefix("codes-")?,
        _ => return None,
    };
    number.parse().ok()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// A generation of which there is no file.
pub(super) fn unused_generation(folder: &Path, current: u64) -> u64 {
    let of_files = files(folder)
        .into_iter()
        .filter_map(|path| generation_of(&path));
    of_files.fold(current, u64::max) + 1
}

/// Whether rows lie there, with a catalog or not.
pub(super) fn holds_rows(folder: &Path) -> bool {
    let holds_rows = |path: &PathBuf| {
        path.extension().is_some_and(|ending| ending == "i16")
            && generation_of(path).is_some()
            && path
                .metadata()
                .is_ok_and(|metadata| metadata.len() > rows::HEADER as u64)
    };
    files(folder).iter().any(holds_rows)
}

/// An empty file of rows and a catalog, the latter under its name when it is whole.
pub(super) fn create_files(folder: &Path, catalog: &str, facts: &Facts) -> Result<()> {
    Appender::create(&rows_file(folder, facts.generation), facts.width)?;
    let path = folder.join(catalog);
    let partial = path.with_extension("partial");
    remove_catalog(&partial)?;
    drop(Catalog::create(&partial, facts)?);
    fs::rename(&partial, &path).map_err(Error::write(&path))?;
    sync(folder)
}

/// Waits until the disk knows which files lie in `folder`.
pub(super) fn sync(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        let folder_file = File::open(folder).map_err(Error::write(folder))?;
        folder_file.sync_all().map_err(Error::write(folder))?;
    }
    Ok(())
}

pub(super) fn remove_catalog(path: &Path) -> Result<()> {
    for ending in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        match fs::remove_file(&name) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::write(path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Removes the files that neither the catalog of `generation` nor one that will take its place names. Readers that map
/// them keep them.
pub(super) fn remove_old_files(folder: &Path, generation: u64) -> Result<()> {
    let next = folder.join(NEXT_CATALOG);
    let begun = Catalog::open(&next, true).and_then(|next| next.facts());
    let begun = begun.ok().map(|facts| facts.generation);
    if begun == Some(generation) {
        // It has taken over already.
        remove_catalog(&next)?;
    }
    for path in files(folder) {
        let is_old =
            |of_file: u64| of_file != generation && begun.is_none_or(|begun| of_file != begun);
        if generation_of(&path).is_some_and(is_old) {
            fs::remove_file(&path).map_err(Error::write(&path))?;
        }
    }
    Ok(())
}

/// The right to write to `folder`, for as long as the file is held.
pub(super) fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let mut file = file.map_err(Error::write(&path))?;
    match try_lock(&file) {
        Ok(()) => {
            let said = format!("process {}", std::process::id());
            // Never empty in between, for whoever asks meanwhile.
            file.write_all(said.as_bytes())
                .and_then(|()| file.set_len(said.len() as u64))
                .map_err(Error::write(&path))?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => Err(Error::Locked {
            path: folder.to_owned(),
            holder: holder(&mut file),
        }),
        Err(TryLockError::Error(error)) => Err(Error::write(&path)(error)),
    }
}

/// Asks again for a moment: a lock that was given up lives on in a process that this program, or the holder, is just
/// starting, until that one has begun.
fn try_lock(file: &File) -> std::result::Result<(), TryLockError> {
    const TRIES: usize = 10;
    for _ in 1..TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(20)),
            other => return other,
        }
    }
    file.try_lock()
}

fn holder(lock: &mut File) -> String {
    let mut holder = String::new();
    if lock.read_to_string(&mut holder).is_err() || holder.is_empty() {
        holder = "another process".to_owned();
    }
    holder
}

/// Bytes of all files in a folder.
pub(super) fn bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).map_err(Error::read(folder))? {
        let length = entry
            .and_then(|entry| entry.metadata())
            .map_or(0, |metadata| metadata.len());
        bytes += length;
    }
    Ok(bytes)
}

//! One file from one place to another, so that at every moment it stands whole in at least one of them.

use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::index::hash_file;

/// How what stands at two places compares, seen from the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meeting {
    /// The same bytes.
    Same,
    /// The first is more: the second is how it begins.
    More,
    /// The first is less: it is how the second begins.
    Less,
    /// Different bytes.
    Other,
}

/// Compares two files byte by byte.
pub(super) fn meet(a: &Path, b: &Path) -> io::Result<Meeting> {
    let is_file = |path: &Path| path.symlink_metadata().map(|metadata| metadata.is_file());
    if !(is_file(a)? && is_file(b)?) {
        return Ok(Meeting::Other);
    }
    let mut a = BufReader::with_capacity(1 << 16, File::open(a)?).bytes();
    let mut b = BufReader::with_capacity(1 << 16, File::open(b)?).bytes();
    loop {
        match (a.next().transpose()?, b.next().transpose()?) {
            (None, None) => return Ok(Meeting::Same),
            (Some(_), None) => return Ok(Meeting::More),
            (None, Some(_)) => return Ok(Meeting::Less),
            (Some(a), Some(b)) if a == b => {}
            _ => return Ok(Meeting::Other),
        }
    }
}

/// Moves `from` to `to`; `false` if something else stands there.
///
/// What an earlier move left there, whole or in part, is no hindrance.
///
/// # Errors
///
/// What the system says; both places are then as they were.
pub(super) fn carry(from: &Path, to: &Path) -> io::Result<bool> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    // A second name never takes the place of another file, as renaming would.
    match fs::hard_link(from, to) {
        Ok(()) => {}
        Err(_) if is_one_name(from, to) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match meet(from, to)? {
            Meeting::Same => {}
            Meeting::More => {
                fs::remove_file(to)?;
                copy(from, to)?;
            }
            Meeting::Less | Meeting::Other => return Ok(false),
        },
        // On another file system, or one that knows no second names.
        Err(_) => copy(from, to)?,
    }
    to.parent().map(sync_folder);
    leave(from, to)?;
    Ok(true)
}

/// Takes the name `from` away from what stands at `to` too, or `to` where the system refuses that.
fn leave(from: &Path, to: &Path) -> io::Result<()> {
    let outcome = fs::remove_file(from);
    // Some systems report a failure of what was done.
    if outcome.is_err() && from.symlink_metadata().is_ok() {
        let _ = fs::remove_file(to);
    }
    outcome
}

/// Copies `from` to `to`, where nothing stands, and reads it back.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let metadata = source.metadata()?;
    let mut target = File::create_new(to)?;
    let outcome = fill(&mut source, &mut target, &metadata).and_then(|()| verify(from, to));
    if outcome.is_err() {
        // It was made just now, by us.
        let _ = fs::remove_file(to);
    }
    outcome
}

fn fill(source: &mut File, target: &mut File, metadata: &Metadata) -> io::Result<()> {
    io::copy(source, target)?;
    // Some file systems know neither.
    let _ = target.set_permissions(metadata.permissions());
    let _ = metadata
        .modified()
        .and_then(|time| target.set_modified(time));
    target.sync_all()
}

fn verify(from: &Path, to: &Path) -> io::Result<()> {
    let hash = |path| hash_file(path).map_err(io::Error::other);
    if hash(from)?.0 == hash(to)?.0 {
        Ok(())
    } else {
        Err(io::Error::other("the copy differs from the file"))
    }
}

/// Waits until the names in a folder are on the disk, where the system can do that.
pub(super) fn sync_folder(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

/// Whether two paths lead to one file, by whatever names or links.
pub fn is_same_file(a: &Path, b: &Path) -> bool {
    match (a.metadata(), b.metadata()) {
        (Ok(metadata_a), Ok(metadata_b)) => {
            is_same_place(&metadata_a, &metadata_b)
                || a.canonicalize().ok() == b.canonicalize().ok()
        }
        _ => false,
    }
}

/// Whether two paths are one name, by links to folders: nothing then stands whole in two places.
pub(super) fn is_one_name(a: &Path, b: &Path) -> bool {
    let names = |path: &Path| path.metadata().map_or(1, |metadata| names_of(&metadata));
    is_same_file(a, b) && (names(a) < 2 || a.canonicalize().ok() == b.canonicalize().ok())
}

#[cfg(unix)]
fn names_of(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

/// Elsewhere names are compared as they are.
#[cfg(not(unix))]
fn names_of(_: &Metadata) -> u64 {
    2
}

#[cfg(unix)]
fn is_same_place(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Elsewhere only the names can be compared.
#[cfg(not(unix))]
fn is_same_place(_: &Metadata, _: &Metadata) -> bool {
    false
}

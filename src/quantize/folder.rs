//! A folder whose files are written under another name, and have their own when all are whole.
//!
//! They are written into a partial folder on the same disk: beside a new folder, within one that is there, which is never
//! replaced and keeps its mode and whatever else it is (a mount point, the target of a link). A partial folder has a
//! lock of the run that made it, so that a later run can tell what an interrupted one left.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// In a partial folder: the lock of the run that made it, the name it has until it is held, and the files.
const LOCK: &str = "diptych.lock";
const NEW_LOCK: &str = "diptych.lock.new";
const FILES: &str = "files";

/// How names of partial folders end, after a number.
const ENDING: &str = ".partial";

/// What partial folders within a folder are called.
const HIDDEN: &str = ".diptych";

/// A folder that is being made.
#[derive(Debug)]
pub(super) struct NewFolder {
    /// Where the files are to be.
    path: PathBuf,
    /// The partial folder, which nobody else has.
    partial: Partial,
    /// Whether `path` was there.
    is_shared: bool,
    /// Whether files of others may be in `path`.
    force: bool,
}

impl NewFolder {
    /// Removes what interrupted runs left of the folder `path`, and sees to it that it can be made. Says whether it is
    /// there.
    ///
    /// # Errors
    ///
    /// [`Error::Occupied`] if there is something at `path` but an empty folder, unless `force`.
    pub(super) fn check(path: &Path, force: bool) -> Result<bool> {
        let absolute = std::path::absolute(path).map_err(Error::write(path))?;
        clear(&absolute);
        let is_there = path.is_dir();
        let is_free = match is_there {
            true => force || is_empty(path),
            // A link may lead nowhere.
            false => fs::symlink_metadata(path).is_err(),
        };
        is_free
            .then_some(is_there)
            .ok_or_else(|| Self::occupied(path))
    }

    /// # Errors
    ///
    /// Those of [`NewFolder::check`]; [`Error::Write`].
    pub(super) fn create(path: &Path, force: bool) -> Result<Self> {
        let is_shared = Self::check(path, force)?;
        let path = std::path::absolute(path).map_err(Error::write(path))?;
        let partial = Partial::create(&path, is_shared).map_err(Error::write(&path))?;
        Ok(Self {
            path,
            partial,
            is_shared,
            force,
        })
    }

    fn occupied(path: &Path) -> Error {
        Error::Occupied {
            path: path.to_owned(),
            problem: "there is something already",
        }
    }

    /// Where the file or folder at `partial`, which lies where files are written, will be.
    pub(super) fn final_path(&self, partial: &Path) -> Option<PathBuf> {
        let name = partial.strip_prefix(self.partial_path()).ok()?;
        Some(self.path.join(name))
    }

    /// A text with the paths that files will have, in place of those that they have now.
    pub(super) fn renamed(&self, text: &str) -> String {
        let [now, then] = [self.partial_path(), &self.path].map(|path| path.to_string_lossy());
        text.replace(&*now, &then)
    }

    /// Where the files are as long as they are not finished.
    pub(super) fn partial_path(&self) -> &Path {
        &self.partial.files
    }

    /// Writes the file `name`, a path within the folder, and sees to it that it is on the disk.
    pub(super) fn write(
        &self,
        name: &str,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<()> {
        let mut file = self.create_file(name)?;
        let written = write(&mut file).and_then(|()| file.sync_all());
        written.map_err(|source| self.unwritten(name, source))
    }

    /// The file `name`, opened to be written to.
    pub(super) fn create_file(&self, name: &str) -> Result<File> {
        let file = self.partial_path().join(name);
        let folder = file.parent().map_or(Ok(()), fs::create_dir_all);
        let created = folder.and_then(|()| File::create_new(&file));
        created.map_err(|source| self.unwritten(name, source))
    }

    /// That the file `name` cannot be written.
    pub(super) fn unwritten(&self, name: &str, source: io::Error) -> Error {
        let path = self.path.join(name);
        Error::Write { path, source }
    }

    /// A copy of a file, as the file `name`.
    pub(super) fn copy(&self, from: &Path, name: &str) -> Result<()> {
        let mut source = File::open(from).map_err(Error::read(from))?;
        self.write(name, |file| io::copy(&mut source, file).map(drop))
    }

    /// Gives the files their names, and says where they are.
    ///
    /// # Errors
    ///
    /// [`Error::Occupied`] if another program has put something there meanwhile; [`Error::Write`].
    pub(super) fn finish(self) -> Result<PathBuf> {
        let is_taken = match self.is_shared {
            true => !self.force && !self.is_alone(),
            false => fs::symlink_metadata(&self.path).is_ok(),
        };
        if is_taken {
            return Err(Self::occupied(&self.path));
        }
        let done = match self.is_shared {
            true => rename_all(self.partial_path(), &self.path),
            false => fs::rename(self.partial_path(), &self.path),
        };
        match done {
            Ok(()) => Ok(self.path.clone()),
            // Another program was faster by a moment.
            Err(_) if !self.is_shared && self.path.exists() => Err(Self::occupied(&self.path)),
            Err(source) => Err(Error::write(&self.path)(source)),
        }
    }

    /// Whether nothing but the partial folder lies in the folder.
    fn is_alone(&self) -> bool {
        let own = self.partial.path.file_name();
        fs::read_dir(&self.path).is_ok_and(|entries| {
            let mut names = entries.map(|entry| entry.map(|entry| entry.file_name()));
            names.all(|name| name.is_ok_and(|name| Some(&*name) == own))
        })
    }
}

/// A partial folder, which goes when it is dropped.
#[derive(Debug)]
struct Partial {
    path: PathBuf,
    files: PathBuf,
    /// Held until the end. Some file systems know no locks: there, what is left is left.
    lock: Option<File>,
}

impl Partial {
    /// That of the folder `path`, under a name that is not taken.
    fn create(path: &Path, is_shared: bool) -> io::Result<Self> {
        let (folder, start) = match (path.parent(), beside(path)) {
            (Some(parent), Some(start)) if !is_shared => (parent, start),
            _ => (path, within()),
        };
        fs::create_dir_all(folder)?;
        for number in 0u32.. {
            let mut name = start.clone();
            name.push(format!("{number}{ENDING}"));
            let path = folder.join(name);
            match fs::create_dir(&path) {
                Ok(()) => return Self::fill(path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// With its lock, which has its name when it is held: nobody finds it free in between.
    fn fill(path: PathBuf) -> io::Result<Self> {
        let mut partial = Self {
            files: path.join(FILES),
            path,
            lock: None,
        };
        fs::create_dir(&partial.files)?;
        let new = partial.path.join(NEW_LOCK);
        let lock = File::create_new(&new)?;
        if lock.try_lock().is_ok() {
            fs::rename(&new, partial.path.join(LOCK))?;
        }
        partial.lock = Some(lock);
        Ok(partial)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Not every system removes what is open.
        self.lock = None;
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// How names of partial folders beside a new folder begin, and of those within one that is there.
fn beside(path: &Path) -> Option<OsString> {
    let mut name = path.file_name()?.to_owned();
    name.push(".");
    Some(name)
}

fn within() -> OsString {
    format!("{HIDDEN}.").into()
}

/// Removes partial folders of the folder `path` that no living run holds. What cannot be removed is left.
fn clear(path: &Path) {
    let places = [path.parent().zip(beside(path)), Some((path, within()))];
    for (folder, start) in places.into_iter().flatten() {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let left = entries.filter(|entry| is_partial(&entry.file_name(), &start));
        for path in left.map(|entry| entry.path()).filter(|path| is_left(path)) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

fn is_partial(name: &OsStr, start: &OsStr) -> bool {
    let rest = name
        .as_encoded_bytes()
        .strip_prefix(start.as_encoded_bytes());
    let number = rest.and_then(|rest| rest.strip_suffix(ENDING.as_bytes()));
    number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

/// Whether a partial folder's run has ended: it has a lock, and nobody holds it.
fn is_left(path: &Path) -> bool {
    let lock = File::options().write(true).open(path.join(LOCK));
    lock.is_ok_and(|lock| match lock.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
    })
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// Moves every file of a folder to its place in another one.
fn rename_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            rename_all(&path, &target)?;
        } else {
            fs::rename(&path, &target)?;
        }
    }
    Ok(())
}

/// Whether two paths are of one folder.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// Whether a name stays within the folder that it is joined to.
pub(super) fn is_within(name: &Path) -> bool {
    name.components()
        .all(|part| matches!(part, Component::Normal(_)))
}

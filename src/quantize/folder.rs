//! A folder whose files are written under another name, and have their own when all are whole.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// A folder that is being made.
#[derive(Debug)]
pub(super) struct NewFolder {
    /// Where the files are to be.
    path: PathBuf,
    /// Where they are written.
    partial: PathBuf,
    /// Whether `path` is there, with files in it.
    is_shared: bool,
}

impl NewFolder {
    /// # Errors
    ///
    /// [`Error::Occupied`] if there is something at `path` but an empty folder, unless `force`; [`Error::Write`].
    pub(super) fn create(path: &Path, force: bool) -> Result<Self> {
        let is_free = match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(_) => fs::symlink_metadata(path).is_err(),
        };
        let may_share = force && path.is_dir();
        if !is_free && !may_share {
            return Err(Error::Occupied {
                path: path.to_owned(),
                problem: "there is something already",
            });
        }
        let path = std::path::absolute(path).map_err(Error::write(path))?;
        let partial = Self::partial(&path, is_free);
        fs::create_dir_all(&partial).map_err(Error::write(&path))?;
        Ok(Self {
            path,
            partial,
            is_shared: !is_free,
        })
    }

    /// On the same disk: beside a new folder, within one that is there.
    fn partial(path: &Path, is_free: bool) -> PathBuf {
        let ending = format!(".{}.partial", std::process::id());
        match path.file_name() {
            Some(name) if is_free => {
                let mut name = name.to_owned();
                name.push(ending);
                path.with_file_name(name)
            }
            _ => path.join(format!(".diptych{ending}")),
        }
    }

    /// Where the files are as long as they are not finished.
    pub(super) fn partial_path(&self) -> &Path {
        &self.partial
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
        let file = self.partial.join(name);
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
    pub(super) fn finish(self) -> Result<PathBuf> {
        let done = match self.is_shared {
            true => rename_all(&self.partial, &self.path),
            false => {
                // An empty folder may be there, which not every system renames over.
                let _ = fs::remove_dir(&self.path);
                fs::rename(&self.partial, &self.path)
            }
        };
        done.map_err(Error::write(&self.path))?;
        Ok(self.path.clone())
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        // Gone when it was finished.
        let _ = fs::remove_dir_all(&self.partial);
    }
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

//! Which models lie in the cache, and how one is removed from it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::cache::repository_name;
use super::{Hub, HubModel};
use crate::bundle::{BundleOptions, Layout, choose, list};
use crate::error::{Error, Result};

/// A model of a hub that lies in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedModel {
    /// `OWNER/NAME`.
    pub repository: String,
    /// Its commits in the cache, with the branches and tags that they were when they were fetched.
    pub revisions: Vec<CachedRevision>,
    /// Bytes that all of it takes, files that are not whole yet among them.
    pub bytes: u64,
}

/// A commit of a model in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedRevision {
    /// The commit.
    pub commit: String,
    /// Branches and tags.
    pub names: Vec<String>,
    /// How its files are laid out, `None` where it is no model of a kind that is known here.
    pub layout: Option<Layout>,
    /// The folder of its files.
    pub path: PathBuf,
}

impl Hub {
    /// The models in the cache, by name. Those that other programs fetched are among them.
    ///
    /// # Cost
    ///
    /// A look at every file's size.
    ///
    /// # Errors
    ///
    /// [`Error::NoCache`]; [`Error::Read`] if the cache is there and cannot be read.
    pub fn cached_models(&self) -> Result<Vec<CachedModel>> {
        let root = self.root()?;
        if !root.exists() {
            return Ok(Vec::new());
        }
        let mut models = Vec::new();
        for entry in fs::read_dir(root).map_err(Error::read(root))? {
            let entry = entry.map_err(Error::read(root))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(repository) = repository_name(&name) {
                models.push(CachedModel {
                    repository,
                    revisions: revisions(&entry.path()),
                    bytes: size(&entry.path()),
                });
            }
        }
        models.sort_by(|a, b| a.repository.cmp(&b.repository));
        Ok(models)
    }

    /// Removes a model from the cache, all its revisions; it says how many bytes that freed.
    ///
    /// # Errors
    ///
    /// [`Error::NotInCache`] if it is not there; [`Error::Write`] if it cannot be removed.
    pub fn remove_cached(&self, model: &HubModel) -> Result<u64> {
        let root = self.root()?;
        let folder = root.join(model.folder());
        if !folder.is_dir() {
            return Err(super::not_in_cache(model, "it".to_owned()));
        }
        // Held until all is gone. They are left behind: another program may wait at one, and must not pass where a third
        // finds none and makes a new one.
        let _locks = lock_all(&root.join(".locks").join(model.folder()))?;
        let bytes = size(&folder);
        fs::remove_dir_all(&folder).map_err(Error::write(&folder))?;
        Ok(bytes)
    }
}

/// The locks of all contents that were ever fetched.
fn lock_all(folder: &Path) -> Result<Vec<File>> {
    let mut locks = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let lock = File::open(&path).map_err(Error::write(&path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => Error::write(&path)(error),
            TryLockError::WouldBlock => {
                let busy = "another program is fetching this model, wait until it is done";
                Error::write(&path)(io::Error::other(busy))
            }
        })?;
        locks.push(lock);
    }
    Ok(locks)
}

fn revisions(folder: &Path) -> Vec<CachedRevision> {
    let refs = folder.join("refs");
    let files = WalkDir::new(&refs).into_iter().flatten();
    let names: Vec<(String, String)> = files
        .filter(|entry| entry.file_type().is_file())
        .filter_map(|entry| {
            let name = entry.path().strip_prefix(&refs).ok()?;
            let commit = fs::read_to_string(entry.path()).ok()?;
            Some((
                commit.trim().to_owned(),
                name.to_string_lossy().replace('\\', "/"),
            ))
        })
        .collect();
    let snapshots = fs::read_dir(folder.join("snapshots")).into_iter().flatten();
    let mut revisions: Vec<CachedRevision> = snapshots
        .flatten()
        .map(|entry| {
            let commit = entry.file_name().to_string_lossy().into_owned();
            let names = names.iter().filter(|(of, _)| *of == commit);
            CachedRevision {
                names: names.map(|(_, name)| name.clone()).collect(),
                layout: layout(&entry.path()),
                path: entry.path(),
                commit,
            }
        })
        .collect();
    revisions.sort_by(|a, b| a.commit.cmp(&b.commit));
    revisions
}

fn layout(snapshot: &Path) -> Option<Layout> {
    let BundleOptions {
        towers, precisions, ..
    } = BundleOptions::default();
    let choice = choose(snapshot, &list(snapshot), towers, &precisions);
    Some(choice.ok()??.layout)
}

/// Bytes of the files in a folder. Links count nothing, so that a content counts once.
fn size(folder: &Path) -> u64 {
    let entries = WalkDir::new(folder).into_iter().flatten();
    let files = entries.filter(|entry| entry.file_type().is_file());
    files
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .sum()
}

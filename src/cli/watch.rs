//! Waiting until something changes in folders.
//!
//! The system tells of changes; bursts are taken together. A folder that is unmounted, removed or put in place of another
//! sends no word of it, so each is looked at now and then, and watched anew when it has come back.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use diptych::{has_image_ending, index};
use notify_debouncer_full::notify::{RecommendedWatcher, RecursiveMode};
use notify_debouncer_full::{DebounceEventResult, Debouncer, RecommendedCache, new_debouncer};

use super::report;

/// Changes that follow each other faster are one.
const QUIET: Duration = Duration::from_secs(1);
/// How often folders are looked at that may have gone or come.
const LOOK: Duration = Duration::from_secs(5);
/// How often a folder is walked that the system does not watch, and how long a run that failed waits for the next.
const WALK: Duration = Duration::from_secs(60);

/// Folders of photos and files of texts that are watched.
pub(super) struct Watch {
    roots: Vec<Root>,
    /// The folder of the index, whose own files are no photos.
    index: Option<PathBuf>,
    debouncer: Debouncer<RecommendedWatcher, RecommendedCache>,
    events: Receiver<DebounceEventResult>,
    /// When a run failed that has not been made up for.
    failed: Option<Instant>,
}

struct Root {
    path: PathBuf,
    is_of_texts: bool,
    /// Which folder it was when it was last watched.
    identity: Option<Identity>,
    /// Walked at this time, where the system does not watch it.
    unwatched: Option<Instant>,
}

impl Root {
    fn new(path: &Path, is_of_texts: bool) -> Self {
        Self {
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            is_of_texts,
            identity: None,
            unwatched: None,
        }
    }
}

impl Watch {
    /// Watches photos at `paths` and files of `texts` from now on, for the index at `index`.
    ///
    /// # Errors
    ///
    /// If the system watches nothing at all.
    pub(super) fn new(paths: &[PathBuf], texts: &[PathBuf], index: &Path) -> Result<Self> {
        let (sender, events) = channel();
        let debouncer =
            new_debouncer(QUIET, None, sender).context("changes cannot be watched here")?;
        let photos = paths.iter().map(|path| Root::new(path, false));
        let texts = texts.iter().map(|path| Root::new(path, true));
        let mut watch = Self {
            roots: photos.chain(texts).collect(),
            index: index::address(index).is_none().then(|| index.to_owned()),
            debouncer,
            events,
            failed: None,
        };
        // What is there now, the first run looks at.
        watch.renew();
        Ok(watch)
    }

    /// Says that the last run failed: before long, everything is to be looked at again.
    pub(super) fn try_again(&mut self) {
        self.failed = Some(Instant::now());
    }

    /// The paths of photos in which something may have changed, once something has; none if it was texts alone.
    ///
    /// # Errors
    ///
    /// If the system has stopped watching for good.
    pub(super) fn wait(&mut self) -> Result<Vec<PathBuf>> {
        loop {
            let mut changed: BTreeSet<usize> = match self.events.recv_timeout(LOOK) {
                Ok(Ok(events)) => {
                    let is_change =
                        |event: &&notify_debouncer_full::DebouncedEvent| !event.kind.is_access();
                    let paths: Vec<PathBuf> = events
                        .iter()
                        .filter(is_change)
                        .flat_map(|event| event.paths.clone())
                        .filter(|path| !self.is_of_index(path))
                        .collect();
                    self.roots_of(&paths)
                }
                // Some events were lost: anything may have changed.
                Ok(Err(_)) => (0..self.roots.len()).collect(),
                Err(RecvTimeoutError::Timeout) => BTreeSet::new(),
                Err(RecvTimeoutError::Disconnected) => {
                    anyhow::bail!("changes are no longer watched")
                }
            };
            changed.extend(self.renew());
            let is_news = !changed.is_empty();
            let is_due = |since: Instant| is_news || since.elapsed() >= WALK;
            if self.failed.is_some_and(is_due) {
                changed.extend(0..self.roots.len());
            }
            if !changed.is_empty() {
                self.failed = None;
                let changed = changed.into_iter().map(|number| &self.roots[number]);
                let photos = changed.filter(|root| !root.is_of_texts);
                return Ok(photos.map(|root| root.path.clone()).collect());
            }
        }
    }

    /// Whether a path is of a file of the index, which a run changes itself.
    fn is_of_index(&self, path: &Path) -> bool {
        let real = |path: &Path| path.canonicalize().ok();
        let index = self.index.as_deref().and_then(real);
        index.is_some()
            && path.parent().and_then(real) == index
            && !has_image_ending(path)
            && !path.is_dir()
    }

    /// The numbers of the roots that `paths` lie in.
    fn roots_of(&self, paths: &[PathBuf]) -> BTreeSet<usize> {
        let is_touched = |root: &Root| {
            let real = root
                .path
                .canonicalize()
                .unwrap_or_else(|_| root.path.clone());
            paths
                .iter()
                .any(|path| path.starts_with(&root.path) || path.starts_with(&real))
        };
        let numbered = self.roots.iter().enumerate();
        let touched = numbered.filter(|(_, root)| is_touched(root));
        touched.map(|(number, _)| number).collect()
    }

    /// Watches what has come, has come back or is another folder now; the numbers of the roots to look at.
    fn renew(&mut self) -> Vec<usize> {
        let mut changed = Vec::new();
        for (number, root) in self.roots.iter_mut().enumerate() {
            let identity = identity(&root.path);
            if identity != root.identity {
                changed.push(number);
                let _ = self.debouncer.unwatch(&root.path);
                let mode = match root.is_of_texts {
                    true => RecursiveMode::NonRecursive,
                    false => RecursiveMode::Recursive,
                };
                let is_there = identity.is_some();
                let watched = is_there.then(|| self.debouncer.watch(&root.path, mode));
                root.unwatched = match watched {
                    Some(Err(error)) => {
                        let path = root.path.display();
                        let seconds = WALK.as_secs();
                        report::notice(&format!(
                            "{path}: cannot be watched ({error}), so it is walked every {seconds} seconds"
                        ));
                        Some(Instant::now())
                    }
                    _ => None,
                };
                root.identity = identity;
            } else if root.unwatched.is_some_and(|since| since.elapsed() >= WALK) {
                root.unwatched = Some(Instant::now());
                changed.push(number);
            }
        }
        changed
    }
}

/// Which folder or file lies at a path: another one after a disk was unmounted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity(u64, u64);

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    path.metadata()
        .ok()
        .map(|metadata| Identity(metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<Identity> {
    path.metadata().ok().map(|_| Identity(0, 0))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_of_the_index_are_no_news() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("index");
        fs::create_dir_all(index.join("below")).unwrap();
        let watch = Watch::new(&[folder.path().to_owned()], &[], &index).unwrap();
        for (name, is_of_index) in [
            ("index/catalog.sqlite-wal", true),
            ("index/rows-1.i16", true),
            ("index/photo.png", false),
            ("index/below", false),
            ("index/below/photo.png", false),
            ("catalog.sqlite", false),
        ] {
            let path = folder.path().join(name);
            assert_eq!(watch.is_of_index(&path), is_of_index, "{name}");
        }
    }
}

//! Waiting until something changes in folders.
//!
//! The system tells of changes; bursts are taken together. A folder that is unmounted, removed or put in place of another
//! sends no word of it, so each is looked at now and then, and watched anew when it has come back.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use notify_debouncer_full::notify::{RecommendedWatcher, RecursiveMode};
use notify_debouncer_full::{DebounceEventResult, Debouncer, RecommendedCache, new_debouncer};

use super::report;

/// Changes that follow each other faster are one.
const QUIET: Duration = Duration::from_secs(1);
/// How often folders are looked at that may have gone or come.
const LOOK: Duration = Duration::from_secs(5);
/// How often a folder is walked that the system does not watch.
const WALK: Duration = Duration::from_secs(60);

/// Folders that are watched.
pub(super) struct Watch {
    roots: Vec<Root>,
    debouncer: Debouncer<RecommendedWatcher, RecommendedCache>,
    events: Receiver<DebounceEventResult>,
}

struct Root {
    path: PathBuf,
    /// Which folder it was when it was last watched.
    identity: Option<Identity>,
    /// Walked at this time, where the system does not watch it.
    unwatched: Option<Instant>,
}

impl Watch {
    /// Watches `paths` from now on.
    ///
    /// # Errors
    ///
    /// If the system watches nothing at all.
    pub(super) fn new(paths: &[PathBuf]) -> Result<Self> {
        let (sender, events) = channel();
        let debouncer =
            new_debouncer(QUIET, None, sender).context("changes cannot be watched here")?;
        let roots = paths.iter().map(|path| Root {
            path: std::path::absolute(path).unwrap_or_else(|_| path.clone()),
            identity: None,
            unwatched: None,
        });
        let mut watch = Self {
            roots: roots.collect(),
            debouncer,
            events,
        };
        watch.renew();
        Ok(watch)
    }

    /// The paths in which something may have changed, once something has.
    ///
    /// # Errors
    ///
    /// If the system has stopped watching for good.
    pub(super) fn wait(&mut self) -> Result<Vec<PathBuf>> {
        loop {
            let mut changed = match self.events.recv_timeout(LOOK) {
                Ok(Ok(events)) => {
                    let is_change =
                        |event: &&notify_debouncer_full::DebouncedEvent| !event.kind.is_access();
                    let paths: Vec<PathBuf> = events
                        .iter()
                        .filter(is_change)
                        .flat_map(|event| event.paths.clone())
                        .collect();
                    self.roots_of(&paths)
                }
                // Some events were lost: anything may have changed.
                Ok(Err(_)) => self.roots.iter().map(|root| root.path.clone()).collect(),
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => {
                    anyhow::bail!("changes are no longer watched")
                }
            };
            changed.extend(self.renew());
            changed.sort();
            changed.dedup();
            if !changed.is_empty() {
                return Ok(changed);
            }
        }
    }

    fn roots_of(&self, paths: &[PathBuf]) -> Vec<PathBuf> {
        let is_touched = |root: &&Root| {
            let real = root
                .path
                .canonicalize()
                .unwrap_or_else(|_| root.path.clone());
            paths
                .iter()
                .any(|path| path.starts_with(&root.path) || path.starts_with(&real))
        };
        self.roots
            .iter()
            .filter(is_touched)
            .map(|root| root.path.clone())
            .collect()
    }

    /// Watches what has come back or is another folder now; the paths that are to be walked.
    fn renew(&mut self) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        for root in &mut self.roots {
            let identity = identity(&root.path);
            if identity != root.identity {
                // What was never seen was walked before it was watched.
                if root.identity.is_some() || identity.is_none() {
                    changed.push(root.path.clone());
                }
                let _ = self.debouncer.unwatch(&root.path);
                let watched = identity
                    .is_some()
                    .then(|| self.debouncer.watch(&root.path, RecursiveMode::Recursive));
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
                changed.push(root.path.clone());
            }
        }
        changed
    }
}

/// Which folder or file lies at a path: another one after a disk was unmounted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity(u64, u64);

#[cfg(unix)]
fn identity(path: &std::path::Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    path.metadata()
        .ok()
        .map(|metadata| Identity(metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(path: &std::path::Path) -> Option<Identity> {
    path.metadata().ok().map(|_| Identity(0, 0))
}

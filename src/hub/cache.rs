//! The cache that all programs of the hub share: where it lies, and how a repository lies in it.
//!
//! `models--OWNER--NAME/` holds `blobs/` (contents, named by their hash), `snapshots/COMMIT/` (links to them, named as in
//! the repository) and `refs/` (which commit a branch or tag was). `.locks/` beside the repositories holds a lock for
//! each blob that is being fetched. Python writes and reads the same.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::name::{HubModel, is_commit};
use crate::cache;
use crate::error::{Error, Result};

/// Where the cache is: `HF_HUB_CACHE`, otherwise `hub` in the hub's home.
pub(super) fn default_root() -> Option<PathBuf> {
    named("HF_HUB_CACHE").or_else(|| Some(home()?.join("hub")))
}

/// The hub's home, which all its programs share: `HF_HOME`, otherwise `huggingface` in the user's cache folder, which
/// these programs take to be `~/.cache` on every system.
pub(super) fn home() -> Option<PathBuf> {
    let user = || named("HOME").or_else(|| named("USERPROFILE"));
    named("HF_HOME").or_else(|| {
        let cache = named("XDG_CACHE_HOME").or_else(|| Some(user()?.join(".cache")));
        Some(cache?.join("huggingface"))
    })
}

fn named(name: &str) -> Option<PathBuf> {
    let value = env::var_os(name).filter(|value| !value.is_empty())?;
    let path = PathBuf::from(value);
    match (path.strip_prefix("~"), env::var_os("HOME")) {
        (Ok(rest), Some(home)) => Some(Path::new(&home).join(rest)),
        _ => Some(path),
    }
}

/// A repository in the cache; nothing of it need be there.
#[derive(Debug)]
pub(super) struct Repository {
    root: PathBuf,
    folder: String,
}

impl Repository {
    pub(super) fn new(root: &Path, model: &HubModel) -> Self {
        Self {
            root: root.to_owned(),
            folder: model.folder(),
        }
    }

    fn path(&self) -> PathBuf {
        self.root.join(&self.folder)
    }

    /// The commit that a revision is, as far as the cache knows.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = fs::read_to_string(self.path().join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_word(commit))
    }

    /// Notes which commit a revision is.
    pub(super) fn note(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit {
            return Ok(());
        }
        let file = self.path().join("refs").join(revision);
        write_whole(&file, commit.as_bytes()).map_err(Error::write(&file))
    }

    /// The folder of the files of a commit.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.path().join("snapshots").join(commit)
    }

    /// The file of a content, by its hash.
    pub(super) fn blob(&self, hash: &str) -> PathBuf {
        self.path().join("blobs").join(hash)
    }

    /// The lock that whoever fetches a content holds.
    pub(super) fn lock(&self, hash: &str) -> PathBuf {
        let locks = self.root.join(".locks").join(&self.folder);
        locks.join(format!("{hash}.lock"))
    }

    /// Puts a content into a commit's folder under its name there.
    pub(super) fn link(&self, hash: &str, commit: &str, name: &str) -> Result<()> {
        let target = self.snapshot(commit).join(name);
        let linked = make_parent(&target).and_then(|()| {
            link(
                &self.blob(hash),
                &target,
                name.matches('/').count(),
                symlink,
            )
        });
        linked.map_err(Error::write(&target))
    }

    /// Where the names of all files of a commit are kept. The shared cache has no place for them.
    fn listing_file(&self, commit: &str) -> Option<PathBuf> {
        let name = format!("{}@{commit}", self.folder);
        Some(cache::folder()?.join("listings").join(name))
    }

    /// The names of all files of a commit, if they were kept.
    pub(super) fn listing(&self, commit: &str) -> Option<BTreeSet<String>> {
        let text = fs::read_to_string(self.listing_file(commit)?).ok()?;
        Some(text.lines().map(str::to_owned).collect())
    }

    pub(super) fn keep_listing(&self, commit: &str, names: &BTreeSet<String>) {
        let Some(file) = self.listing_file(commit) else {
            return;
        };
        let text: String = names.iter().map(|name| format!("{name}\n")).collect();
        cache::keep(&file, |path| fs::write(path, text));
    }
}

/// `OWNER/NAME` of what the cache calls `models--OWNER--NAME`.
pub(super) fn repository_name(folder: &str) -> Option<String> {
    let (owner, name) = folder.strip_prefix("models--")?.split_once("--")?;
    Some(format!("{owner}/{name}"))
}

/// The repository that a snapshot's folder is of, `None` for any other folder.
pub(super) fn repository_of(snapshot: &Path) -> Option<String> {
    let snapshots = snapshot
        .parent()
        .filter(|folder| folder.ends_with("snapshots"))?;
    repository_name(snapshots.parent()?.file_name()?.to_str()?)
}

/// Whether a commit, as a file states it, can be the name of a folder.
pub(super) fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

pub(super) fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

/// A name beside `file` that nobody else uses, in this program or another.
fn beside(file: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let (program, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{program}-{count}.partial"));
    name.into()
}

/// A file that is whole or not there.
fn write_whole(file: &Path, content: &[u8]) -> io::Result<()> {
    make_parent(file)?;
    let partial = beside(file);
    fs::write(&partial, content)?;
    fs::rename(&partial, file)
}

/// Makes `target`, `depth` folders below its snapshot, the content of `blob`: as a relative link, or as a file of its own
/// where `symlink` cannot make one.
///
/// It is renamed into its place, so that other programs, which may do the same, never see it missing.
fn link(
    blob: &Path,
    target: &Path,
    depth: usize,
    symlink: fn(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    if target.is_file() {
        return Ok(());
    }
    let name = blob.file_name().unwrap_or_default();
    let relative = Path::new(&"../".repeat(depth + 2)).join("blobs").join(name);
    let partial = beside(target);
    symlink(&relative, &partial).or_else(|_| fs::copy(blob, &partial).map(|_| ()))?;
    fs::rename(&partial, target)
}

#[cfg(unix)]
fn symlink(original: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(original, link)
}

#[cfg(windows)]
fn symlink(original: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(original, link)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(root: &Path) -> Repository {
        Repository::new(root, &"a/b".parse().unwrap())
    }

    #[test]
    fn a_content_is_found_under_its_name() {
        let root = tempfile::tempdir().unwrap();
        let repository = repository(root.path());
        let blob = repository.blob("0a");
        write_whole(&blob, b"weights").unwrap();
        repository.link("0a", "c1", "onnx/model.onnx").unwrap();
        let file = repository.snapshot("c1").join("onnx/model.onnx");
        assert_eq!(fs::read(&file).unwrap(), b"weights");
        assert_eq!(file.canonicalize().unwrap(), blob.canonicalize().unwrap());
        // As it is where links are not possible: a file of its own.
        let copy = root.path().join("models--a--b/snapshots/c2/model.onnx");
        make_parent(&copy).unwrap();
        link(&blob, &copy, 0, |_, _| {
            Err(io::ErrorKind::Unsupported.into())
        })
        .unwrap();
        assert_eq!(fs::read(&copy).unwrap(), b"weights");
        assert!(!copy.is_symlink());
    }

    #[test]
    fn a_snapshot_is_called_by_its_repository() {
        let name = |path: &str| repository_of(Path::new(path));
        assert_eq!(
            name("/x/models--a--b-c/snapshots/0a").as_deref(),
            Some("a/b-c")
        );
        assert_eq!(
            (name("/x/models--a--b"), name("/x/snapshots/0a")),
            (None, None)
        );
    }

    #[test]
    fn a_revision_is_known_once_it_was_noted() {
        let root = tempfile::tempdir().unwrap();
        let repository = repository(root.path());
        assert_eq!(repository.commit("refs/pr/1"), None);
        repository.note("refs/pr/1", "c1").unwrap();
        assert_eq!(repository.commit("refs/pr/1").as_deref(), Some("c1"));
        let commit = "0123456789012345678901234567890123456789";
        assert_eq!(repository.commit(commit).as_deref(), Some(commit));
        write_whole(&root.path().join("models--a--b/refs/odd"), b"../../x").unwrap();
        assert_eq!(repository.commit("odd"), None);
    }
}

//! What has happened in folders since they were indexed: new, changed, copied, moved and vanished files.
//!
//! Knows files, not models. A file is the same while its size and time are; where they are not, its content decides, so
//! that a file that was renamed, copied or only touched is never encoded again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder, escape};
use sha2::{Digest, Sha256};
use walkdir::{DirEntry, WalkDir};

use super::place::Place;
use super::{Hash, Item};
use crate::error::{Error, Result};
use crate::hex::sha256;
use crate::image_file;

/// The file that says of a folder that a quarantine lies in it.
pub(crate) const QUARANTINE_JOURNAL: &str = "diptych-journal.jsonl";

/// Which files of a folder are found. Hidden ones never are, and neither is what lies in a quarantine.
#[derive(Debug, Clone, Default)]
pub struct WalkOptions {
    /// Patterns of files and folders to leave out: without a slash of names at any depth, with one of paths from the
    /// folder that is walked. One that begins with `./` or `../` is of a path from the current folder; one that begins
    /// with a slash is also of a whole path.
    pub exclude: Vec<String>,
    /// Whether links to folders are followed. Links to files always are.
    pub follow: bool,
}

/// What tells without reading that a file is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// In bytes.
    pub size: u64,
    /// When its content was changed last, in nanoseconds since 1970.
    pub modified: i64,
}

impl Stat {
    /// Of a file that is there.
    pub fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
        let nanoseconds = match modified.duration_since(UNIX_EPOCH) {
            Ok(after) => after.as_nanos() as i64,
            Err(before) => -(before.duration().as_nanos() as i64),
        };
        Self {
            size: metadata.len(),
            modified: nanoseconds,
        }
    }
}

/// A file that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Where.
    pub place: Place,
    /// How it was then.
    pub stat: Stat,
}

/// What lies in some files and folders.
#[derive(Debug, Default)]
pub struct Found {
    /// Image files, each once.
    pub files: Vec<FoundFile>,
    /// What could not be read: nothing is known of what lies there.
    pub failures: Vec<Error>,
    /// Files and folders that could not be read.
    unknown: Vec<PathBuf>,
    /// The files and folders that were walked, absolute.
    pub roots: Vec<PathBuf>,
}

/// What there is to do.
#[derive(Debug, Default, PartialEq)]
pub struct Todo {
    /// Files that are as they were.
    pub unchanged: usize,
    /// Files to encode.
    pub encode: Vec<FoundFile>,
    /// Files whose content has a row, or will have one when [`Todo::encode`] is done.
    pub copies: Vec<Item>,
    /// Items whose files are no longer there.
    pub vanished: Vec<Place>,
    /// Folders in which nothing was found, though the index has items of them: those that were walked, if they hold no
    /// image, and those below, if they hold nothing at all. A disk that is not there looks like this, and so nothing in
    /// them counts as vanished but what was moved elsewhere.
    pub emptied: Vec<PathBuf>,
}

/// The image files at `paths` and below them.
///
/// # Errors
///
/// [`Error::Pattern`] for a pattern that cannot be read. What could not be walked stands in [`Found::failures`].
pub fn walk(paths: &[PathBuf], options: &WalkOptions) -> Result<Found> {
    let exclude = patterns(&options.exclude)?;
    let mut found = Found::default();
    let mut seen = HashSet::new();
    for path in paths {
        match absolute(path) {
            Ok(root) => found.walk(&root, &exclude, options.follow, &mut seen),
            Err(error) => found.fail(path, error),
        }
    }
    Ok(found)
}

/// With links to the root itself resolved, so that a folder has one name; what is in it keeps its names.
fn absolute(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Ok(path) if path.is_dir() => Ok(path),
        // A link to a file is named as it is, and so is a file that is not there any more.
        _ => {
            let path = std::path::absolute(path)?;
            let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
            Ok(match (parent, path.file_name()) {
                (Some(parent), Some(name)) => parent.join(name),
                _ => path,
            })
        }
    }
}

impl Found {
    fn walk(&mut self, root: &Path, exclude: &Patterns, follow: bool, seen: &mut HashSet<PathBuf>) {
        self.roots.push(root.to_owned());
        let is_shown = |entry: &DirEntry| {
            let is_left_out =
                || is_hidden(entry) || exclude.match_entry(root, entry) || is_quarantine(entry);
            entry.depth() == 0 || !is_left_out()
        };
        for entry in WalkDir::new(root)
            .follow_links(follow)
            .sort_by_file_name()
            .into_iter()
            .filter_entry(is_shown)
        {
            match entry {
                Ok(entry) => self.take(&entry, seen),
                Err(error) => {
                    let path = error.path().unwrap_or(root).to_owned();
                    let text = error.to_string();
                    self.fail(
                        &path,
                        error
                            .into_io_error()
                            .unwrap_or_else(|| io::Error::other(text)),
                    );
                }
            }
        }
    }

    fn take(&mut self, entry: &DirEntry, seen: &mut HashSet<PathBuf>) {
        let is_named = entry.depth() == 0;
        if entry.file_type().is_dir() || !(is_named || image_file::has_image_ending(entry.path())) {
            return;
        }
        // Of what a link leads to. A link that leads nowhere is nothing to index.
        let metadata = match entry.path().metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_named => return,
            Err(error) => return self.fail(entry.path(), error),
        };
        if !metadata.is_file() {
            return;
        }
        if let Ok(place) = Place::of_image(entry.path())
            && seen.insert(entry.path().to_owned())
        {
            self.files.push(FoundFile {
                place,
                stat: Stat::of(&metadata),
            });
        }
    }

    fn fail(&mut self, path: &Path, error: io::Error) {
        self.unknown.push(path.to_owned());
        self.failures.push(Error::read(path)(error));
    }

    /// The folders that look like a disk that is not there, though there is an item in them at each of `places`.
    fn emptied(&self, places: &[&Place]) -> Vec<PathBuf> {
        let holds_nothing = |root: &&PathBuf| {
            root.is_dir()
                && !self
                    .files
                    .iter()
                    .any(|file| file.place.folder.starts_with(root))
                && places.iter().any(|place| place.folder.starts_with(root))
        };
        let mut emptied: BTreeSet<PathBuf> =
            self.roots.iter().filter(holds_nothing).cloned().collect();
        // An unmounted disk leaves the folder that it was mounted on, without the folders of its own.
        let folders: BTreeSet<&Path> = places.iter().map(|place| &*place.folder).collect();
        for folder in folders {
            let mut below_roots = folder
                .ancestors()
                .take_while(|folder| !self.roots.iter().any(|root| root == folder));
            if let Some(there) = below_roots.find(|folder| folder.is_dir())
                && !emptied.iter().any(|known| there.starts_with(known))
                && is_empty(there)
            {
                emptied.insert(there.to_owned());
            }
        }
        emptied.into_iter().collect()
    }
}

fn is_empty(folder: &Path) -> bool {
    folder
        .read_dir()
        .is_ok_and(|mut entries| entries.next().is_none())
}

/// What to do so that an index that holds `known` under the roots of `found` holds what was found.
///
/// `sizes` are those of all items of the index, and `has_row` says whether content has a row: a file is read here only
/// if it is not known at its place and something of its size is elsewhere.
///
/// # Errors
///
/// Those of `has_row`. A file that cannot be read is left to whoever encodes it.
pub fn compare(
    known: &[Item],
    found: &Found,
    sizes: &HashSet<u64>,
    has_row: impl Fn(&Hash) -> Result<bool>,
) -> Result<Todo> {
    let mut left: HashMap<&Place, &Item> = known.iter().map(|item| (&item.place, item)).collect();
    let mut todo = Todo::default();
    let mut changed = Vec::new();
    for file in &found.files {
        match left.remove(&file.place) {
            Some(item) if item.stat() == file.stat => {
                todo.unchanged += 1;
            }
            _ => changed.push(file),
        }
    }
    let mut of_size: HashMap<u64, usize> = HashMap::new();
    for file in &changed {
        *of_size.entry(file.stat.size).or_default() += 1;
    }
    let mut coming = HashSet::new();
    for file in changed {
        let may_be_known = sizes.contains(&file.stat.size) || of_size[&file.stat.size] > 1;
        match may_be_known.then(|| hash_file(&file.place.path())) {
            Some(Ok((hash, stat))) if has_row(&hash)? || !coming.insert(hash) => {
                todo.copies.push(Item {
                    place: file.place.clone(),
                    size: stat.size,
                    modified: stat.modified,
                    hash,
                    text: None,
                    taken: None,
                });
            }
            _ => todo.encode.push(file.clone()),
        }
    }
    // What is found elsewhere just now was moved, whatever has become of its folder.
    let arrived: HashSet<Hash> = todo.copies.iter().map(|item| item.hash).collect();
    let is_moved = |item: &&Item| arrived.contains(&item.hash);
    let (moved, missing): (Vec<&Item>, Vec<&Item>) = left.into_values().partition(is_moved);
    let mut vanished: Vec<&Place> = missing.iter().map(|item| &item.place).collect();
    todo.emptied = found.emptied(&vanished);
    let lies_in = |place: &Place, folders: &[PathBuf]| {
        let path = place.path();
        folders.iter().any(|folder| path.starts_with(folder))
    };
    vanished.retain(|place| !lies_in(place, &todo.emptied));
    vanished.extend(moved.iter().map(|item| &item.place));
    vanished.retain(|place| !lies_in(place, &found.unknown));
    todo.vanished = vanished.into_iter().cloned().collect();
    todo.vanished.sort();
    Ok(todo)
}

/// The hash of a file's bytes, and how the file was then.
///
/// # Errors
///
/// [`Error::Read`].
pub fn hash_file(path: &Path) -> Result<(Hash, Stat)> {
    hash_of(path).map_err(Error::read(path))
}

fn hash_of(path: &Path) -> io::Result<(Hash, Stat)> {
    let file = open_file(path)?;
    let stat = Stat::of(&file.metadata()?);
    Ok((first_half(&sha256(file)?), stat))
}

/// Opens a file to read it, and nothing else that may stand in its place by now: a pipe would wait for a writer.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no file, expected one"))
    }
}

/// The hash that an index knows a text by: another than that of a file that holds it.
pub fn hash_text(text: &str) -> Hash {
    hash(&[b"text: ", text.as_bytes()].concat())
}

/// The hash that an index knows content by.
pub fn hash(bytes: &[u8]) -> Hash {
    first_half(&Sha256::digest(bytes))
}

fn first_half(digest: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(&digest[..16]);
    hash
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}

fn is_quarantine(entry: &DirEntry) -> bool {
    entry.file_type().is_dir() && entry.path().join(QUARANTINE_JOURNAL).is_file()
}

/// Patterns of names, of paths from the folder that is walked, and of whole paths.
#[derive(Debug)]
struct Patterns {
    names: GlobSet,
    paths: GlobSet,
    whole: GlobSet,
}

impl Patterns {
    fn match_entry(&self, root: &Path, entry: &DirEntry) -> bool {
        let path = entry.path().strip_prefix(root).unwrap_or(entry.path());
        self.names.is_match(entry.file_name())
            || self.paths.is_match(path)
            || self.whole.is_match(entry.path())
    }
}

fn patterns(texts: &[String]) -> Result<Patterns> {
    let unreadable = |text: &str| {
        let pattern = text.to_owned();
        move |source: globset::Error| Error::Pattern {
            pattern,
            source: source.into(),
        }
    };
    let pattern = |pattern: &str, text: &str| {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        glob.map_err(unreadable(text))
    };
    let [mut names, mut paths, mut whole] = [(); 3].map(|()| GlobSetBuilder::new());
    for text in texts {
        let is_from_here = ["./", "../"].iter().any(|start| text.starts_with(start));
        if is_from_here || Path::new(text).is_absolute() {
            for path in whole_paths(text) {
                whole.add(pattern(&path, text)?);
            }
        }
        let inner = pattern(text.trim_matches('/'), text)?;
        if text.trim_end_matches('/').contains('/') {
            paths.add(inner);
        } else {
            names.add(inner);
        }
    }
    let built = |set: GlobSetBuilder| set.build().map_err(unreadable(""));
    Ok(Patterns {
        names: built(names)?,
        paths: built(paths)?,
        whole: built(whole)?,
    })
}

/// The patterns of whole paths that `text` stands for: as it is written, and with links resolved, as folders are named
/// that are walked. What is there is no pattern, whatever its name holds.
fn whole_paths(text: &str) -> Vec<String> {
    let absolute = std::path::absolute(text).unwrap_or_default();
    let mut path = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => drop(path.pop()),
            component => path.push(component),
        }
    }
    let is_there = path.symlink_metadata().is_ok();
    let Some(folder) = path.ancestors().skip(1).find(|folder| folder.is_dir()) else {
        return Vec::new();
    };
    let rest = path.strip_prefix(folder).unwrap_or(&path);
    let rest = rest.to_string_lossy().into_owned();
    let rest = if is_there { escape(&rest) } else { rest };
    let real = folder.canonicalize().ok();
    let folders = [Some(folder), real.as_deref()].into_iter().flatten();
    let folders = folders.filter_map(Path::to_str);
    folders
        .map(|folder| format!("{}/{rest}", escape(folder.trim_end_matches('/'))))
        .collect()
}

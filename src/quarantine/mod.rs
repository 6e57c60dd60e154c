//! Near-duplicates out of the way: files moved as a plan says, and back again.
//!
//! Nothing is ever lost: a move is written down before it is made, nothing is written over, and a file leaves its place
//! when it stands, whole, in the other. It knows files, neither models nor indexes.
//!
//! `plan.rs` is what is to be moved, `journal.rs` what was, `moves.rs` how one file is.

mod journal;
mod moves;
mod plan;

use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf};

pub use moves::is_same_file;
pub use plan::{Plan, PlannedFile, PlannedGroup};

use crate::error::{Error, Result};
use crate::index::Stat;
use journal::{Entry, Journal};
use moves::Meeting;

/// What became of a file.
#[derive(Debug)]
pub enum Fate {
    /// It was moved.
    Moved {
        /// In bytes.
        size: u64,
    },
    /// An earlier run moved it.
    Before,
    /// It stays where it is.
    Left(Reason),
}

/// Why a file stays where it is.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reason {
    /// It is not there.
    Missing,
    /// Its size or time is another than when the plan was made.
    Changed,
    /// It is a link or no file at all.
    NotAFile,
    /// It lies in the folder of the quarantine already.
    Inside,
    /// The file that is to be kept in its place is not as it was.
    NotKept(PathBuf),
    /// It is the file that is to be kept, under another name.
    SameFile(PathBuf),
    /// Something else stands where it would go.
    Occupied(PathBuf),
    /// The system refused.
    Failed(Error),
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Missing => formatter.write_str("not there any more"),
            Reason::Changed => formatter.write_str("changed since the plan was made"),
            Reason::NotAFile => formatter.write_str("a link or no file"),
            Reason::Inside => formatter.write_str("lies in the quarantine already"),
            Reason::NotKept(kept) => write!(
                formatter,
                "{}, which would be kept in its place, is gone or changed",
                kept.display()
            ),
            Reason::SameFile(kept) => {
                write!(
                    formatter,
                    "the same file as {}, which is kept",
                    kept.display()
                )
            }
            Reason::Occupied(place) => {
                write!(formatter, "another file stands at {}", place.display())
            }
            Reason::Failed(error) => error.fmt(formatter),
        }
    }
}

/// A folder that takes files in and gives them back.
///
/// # Example
///
/// ```
/// use diptych::index::Stat;
/// use diptych::quarantine::{Plan, PlannedFile, PlannedGroup, Quarantine};
///
/// let folder = tempfile::tempdir()?;
/// let planned = |name: &str| -> std::io::Result<PlannedFile> {
///     let path = folder.path().join(name);
///     std::fs::write(&path, "pixels")?;
///     Ok(PlannedFile::new(path.clone(), Stat::of(&path.metadata()?)))
/// };
/// let group = PlannedGroup { keep: planned("a.jpg")?, moves: vec![planned("b.jpg")?] };
/// let copy = group.moves[0].path.clone();
///
/// let mut quarantine = Quarantine::open(&folder.path().join("quarantine"))?;
/// quarantine.carry_out(&Plan::new(vec![group]), |_, _| ())?;
/// assert!(!copy.exists());
/// quarantine.undo(|_, _| ());
/// assert!(copy.exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Quarantine {
    folder: PathBuf,
    journal: Journal,
}

impl Quarantine {
    /// The quarantine in `folder`, which is made if it is not there. It is held until it is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Write`], also where another process holds it; [`Error::Config`] for a journal that is none.
    pub fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::write(folder))?;
        Self::assemble(folder, true)
    }

    /// The quarantine that is in `folder`.
    ///
    /// # Errors
    ///
    /// Those of [`Quarantine::open`]; [`Error::Read`] if there is none.
    pub fn reopen(folder: &Path) -> Result<Self> {
        Self::assemble(folder, false)
    }

    fn assemble(folder: &Path, is_new: bool) -> Result<Self> {
        let folder = folder.canonicalize().map_err(Error::read(folder))?;
        let journal = Journal::open(&folder, is_new)?;
        Ok(Self { folder, journal })
    }

    /// How many places of it files were moved to.
    pub fn len(&self) -> usize {
        self.journal.newest_first().len()
    }

    /// Whether no file was ever moved to it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Moves every file of the plan that is not to be kept here, in folders as they had, and tells `each` what became of
    /// it.
    ///
    /// What an earlier run began, it finishes.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] if a move cannot be written down: it is not made, and nothing after it. What goes wrong with one
    /// file is told to `each`.
    pub fn carry_out(&mut self, plan: &Plan, mut each: impl FnMut(&Path, Fate)) -> Result<()> {
        let root = plan.common_folder();
        for group in &plan.groups {
            for file in &group.moves {
                let fate = self.put_away(&root, &group.keep, file)?;
                each(&file.path, fate);
            }
        }
        Ok(())
    }

    fn put_away(&mut self, root: &Path, keep: &PlannedFile, file: &PlannedFile) -> Result<Fate> {
        let known = self.journal.latest(&file.path);
        let known = known.map(|entry| self.folder.join(&entry.to));
        if !stands(&file.path) {
            let is_here = known.is_some_and(|place| stands(&place));
            return Ok(if is_here {
                Fate::Before
            } else {
                Fate::Left(Reason::Missing)
            });
        }
        if let Some(reason) = self.obstacle(keep, file) {
            return Ok(Fate::Left(reason));
        }
        // A move that was begun goes on, and so does a copy.
        let begun = known.filter(|place| may_go_on(&file.path, place));
        let to = match begun {
            Some(place) => place,
            None => self.write_down(root, file)?,
        };
        Ok(moved(&file.path, &to))
    }

    fn obstacle(&self, keep: &PlannedFile, file: &PlannedFile) -> Option<Reason> {
        let found = file.path.symlink_metadata().ok();
        if !found.as_ref().is_some_and(fs::Metadata::is_file) {
            return Some(Reason::NotAFile);
        }
        if found.map(|metadata| Stat::of(&metadata)) != Some(file.stat()) {
            return Some(Reason::Changed);
        }
        let kept = keep.path.metadata().ok();
        if kept.map(|metadata| Stat::of(&metadata)) != Some(keep.stat()) {
            return Some(Reason::NotKept(keep.path.clone()));
        }
        if moves::is_same_file(&keep.path, &file.path) {
            return Some(Reason::SameFile(keep.path.clone()));
        }
        let real = file.path.canonicalize().unwrap_or_default();
        real.starts_with(&self.folder).then_some(Reason::Inside)
    }

    /// Writes down where a file goes.
    fn write_down(&mut self, root: &Path, file: &PlannedFile) -> Result<PathBuf> {
        let to = free_place(&self.folder, &below(root, &file.path));
        self.journal.append(Entry {
            from: file.path.clone(),
            to: to.strip_prefix(&self.folder).unwrap_or(&to).to_owned(),
            size: file.size,
            modified: file.modified,
        })?;
        Ok(to)
    }

    /// Moves every file that the journal names back where it was, the last first, and tells `each` what became of it.
    pub fn undo(&mut self, mut each: impl FnMut(&Path, Fate)) {
        for entry in self.journal.newest_first() {
            let here = self.folder.join(below(Path::new(""), &entry.to));
            each(&entry.from, put_back(&here, &entry.from));
        }
    }
}

fn put_back(here: &Path, to: &Path) -> Fate {
    match (stands(here), stands(to)) {
        (false, true) => Fate::Before,
        (false, false) => Fate::Left(Reason::Missing),
        (true, false) => moved(here, to),
        (true, true) if moves::is_one_name(here, to) => Fate::Before,
        // A move here that was cut off: what came of it is left in favour of the whole file.
        (true, true) => match moves::meet(here, to) {
            Ok(Meeting::Same | Meeting::Less) => fate(to, fs::remove_file(here).map(|()| true)),
            _ => moved(here, to),
        },
    }
}

fn moved(from: &Path, to: &Path) -> Fate {
    let size = from.symlink_metadata().map_or(0, |metadata| metadata.len());
    match fate(to, moves::carry(from, to)) {
        Fate::Moved { .. } => Fate::Moved { size },
        left => left,
    }
}

/// What the answer of a move to `to` means.
fn fate(to: &Path, answer: std::io::Result<bool>) -> Fate {
    match answer {
        Ok(true) => Fate::Moved { size: 0 },
        Ok(false) => Fate::Left(Reason::Occupied(to.to_owned())),
        Err(error) => Fate::Left(Reason::Failed(Error::write(to)(error))),
    }
}

/// Whether a move between two places can go on: nothing is at the second, or the beginning of what is at the first.
fn may_go_on(from: &Path, to: &Path) -> bool {
    let begun = || matches!(moves::meet(from, to), Ok(Meeting::Same | Meeting::More));
    !stands(to) || begun()
}

/// Whether anything has this name, be it a link that leads nowhere.
fn stands(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// A path from `root` down, without anything that could lead out again.
fn below(root: &Path, path: &Path) -> PathBuf {
    let rest = path.strip_prefix(root).unwrap_or(path);
    let is_name = |component: &Component<'_>| matches!(component, Component::Normal(_));
    rest.components().filter(is_name).collect()
}

/// The place in `folder` for a file, with a number where its own is taken.
fn free_place(folder: &Path, relative: &Path) -> PathBuf {
    let wanted = folder.join(relative);
    let stem = wanted.file_stem().unwrap_or_default().to_owned();
    let numbered = |number: u32| {
        let mut name = stem.clone();
        name.push(format!("-{number}"));
        if let Some(ending) = wanted.extension() {
            name.push(".");
            name.push(ending);
        }
        wanted.with_file_name(name)
    };
    let places = std::iter::once(wanted.clone()).chain((1..).map(numbered));
    places
        .into_iter()
        .find(|place| !stands(place))
        .unwrap_or(wanted)
}

#[cfg(test)]
mod tests;

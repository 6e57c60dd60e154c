//! Rows with what they are of, in a folder that other programs read: what `export` writes and `import` reads.
//!
//! Two layouts. `npy` keeps everything that an index knows: `rows.npy` in float32 and `items.jsonl`, whose line i is
//! about row i (`lines.rs`). `clip-retrieval` is what that program writes: `img_emb/img_emb_0.npy` or
//! `text_emb/text_emb_0.npy` in float16, and `metadata/metadata_0.parquet`, whose row i is about row i (`table.rs`).
//! Beside either, `model.json` says which model made the rows.

mod lines;
mod table;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use diptych::index::Hash;
use diptych::{Embeddings, Item, Kind, NpyReader, NpyWriter, Place, Precision};
use serde::{Deserialize, Serialize};

const ROWS: &str = "rows.npy";
const ITEMS: &str = "items.jsonl";
const MODEL: &str = "model.json";
const METADATA: &str = "metadata";

/// How rows lie in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Layout {
    /// rows.npy (float32) and items.jsonl
    Npy,
    /// img_emb or text_emb (.npy, float16) and metadata (.parquet), as clip-retrieval has it
    ClipRetrieval,
}

impl Layout {
    /// As the program's options name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Layout::Npy => "npy",
            Layout::ClipRetrieval => "clip-retrieval",
        }
    }

    /// The layout of what lies in `folder`.
    fn of(folder: &Path) -> Result<Self> {
        let is_there = |name: &str| folder.join(name).exists();
        if is_there(ROWS) {
            Ok(Layout::Npy)
        } else if is_there(emb_folder(Kind::Image)) || is_there(emb_folder(Kind::Text)) {
            Ok(Layout::ClipRetrieval)
        } else {
            bail!(
                "{}: no rows in it: expected {ROWS} and {ITEMS}, or img_emb or text_emb and {METADATA}",
                folder.display()
            )
        }
    }

    /// Whether it can say what an item is of.
    pub(super) fn can_name(self, item: &Item) -> bool {
        // A column of texts holds Unicode alone.
        self == Layout::Npy || item.place.path().to_str().is_some()
    }
}

/// Where clip-retrieval keeps rows of a kind, and how their files' names begin.
fn emb_folder(kind: Kind) -> &'static str {
    match kind {
        Kind::Image => "img_emb",
        Kind::Text => "text_emb",
    }
}

/// Which model made the rows of a folder, as `model.json` says it.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    model: String,
}

/// A folder that is written under another name, and has its own when it is whole.
#[derive(Debug)]
struct NewFolder {
    path: PathBuf,
    partial: PathBuf,
}

impl NewFolder {
    /// # Errors
    ///
    /// If something is there already, other than an empty folder, or it cannot be made.
    fn create(path: &Path) -> Result<Self> {
        let is_free = match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(_) => !path.exists(),
        };
        if !is_free {
            bail!(
                "{}: there is something already, expected a new or empty folder; name another, or remove it",
                path.display()
            );
        }
        let path = std::path::absolute(path)?;
        let mut name = path
            .file_name()
            .context("the root is no new folder")?
            .to_owned();
        name.push(format!(".{}.partial", std::process::id()));
        let partial = path.with_file_name(name);
        fs::create_dir_all(&partial).with_context(|| unwritable(&path))?;
        Ok(Self { path, partial })
    }

    fn finish(&self) -> Result<()> {
        // An empty folder may be there, which not every system renames over.
        let _ = fs::remove_dir(&self.path);
        fs::rename(&self.partial, &self.path).with_context(|| unwritable(&self.path))
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        // Gone when it was finished.
        let _ = fs::remove_dir_all(&self.partial);
    }
}

fn unwritable(path: &Path) -> String {
    format!("{}: cannot be written", path.display())
}

/// Rows that are being written to a folder.
pub(super) struct Export {
    folder: NewFolder,
    rows: NpyWriter,
    items: Items,
}

/// What the rows are of.
enum Items {
    Lines(BufWriter<File>),
    Table(Box<table::Writer>),
}

impl Export {
    /// A new folder in a layout, for rows of `width` values that `model` made. `kind` is that of all items, where the
    /// layout asks for one.
    ///
    /// # Errors
    ///
    /// If something is at `path` already, or it cannot be written.
    pub(super) fn create(
        path: &Path,
        layout: Layout,
        kind: Kind,
        model: &str,
        width: usize,
    ) -> Result<Self> {
        let folder = NewFolder::create(path)?;
        let partial = &folder.partial;
        let made = Made {
            model: model.to_owned(),
        };
        fs::write(partial.join(MODEL), serde_json::to_string(&made)? + "\n")
            .with_context(|| unwritable(path))?;
        let (rows, items) = match layout {
            Layout::Npy => {
                let file = File::create(partial.join(ITEMS)).with_context(|| unwritable(path))?;
                let rows = NpyWriter::create(&partial.join(ROWS), width)?;
                (rows, Items::Lines(BufWriter::new(file)))
            }
            Layout::ClipRetrieval => {
                let name = emb_folder(kind);
                for name in [name, METADATA] {
                    fs::create_dir(partial.join(name)).with_context(|| unwritable(path))?;
                }
                let rows = partial.join(format!("{name}/{name}_0.npy"));
                let rows = NpyWriter::create_with(&rows, width, Precision::Half)?;
                let file = partial.join(METADATA).join("metadata_0.parquet");
                (
                    rows,
                    Items::Table(Box::new(table::Writer::create(&file, kind)?)),
                )
            }
        };
        Ok(Self {
            folder,
            rows,
            items,
        })
    }

    /// Adds items with their rows.
    pub(super) fn add(&mut self, items: &[Item], rows: &Embeddings) -> Result<()> {
        self.rows.write(rows)?;
        match &mut self.items {
            Items::Lines(file) => items.iter().try_for_each(|item| {
                writeln!(file, "{}", lines::line(item)?)
                    .with_context(|| unwritable(&self.folder.path))
            }),
            Items::Table(table) => table.add(items),
        }
    }

    /// Gives the folder its name.
    pub(super) fn finish(mut self) -> Result<()> {
        self.rows.flush()?;
        match self.items {
            Items::Lines(mut file) => file
                .flush()
                .and_then(|()| file.get_ref().sync_all())
                .with_context(|| unwritable(&self.folder.path))?,
            Items::Table(table) => table.finish()?,
        }
        // Some systems rename no folder of open files.
        drop(self.rows);
        self.folder.finish()
    }
}

/// An item as a folder tells of it. What it does not tell is found where the item is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    /// Its path may be relative.
    pub(super) place: Place,
    /// `None` for an image.
    pub(super) text: Option<String>,
    pub(super) stated: Stated,
}

/// What is stated of an image file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Stated {
    pub(super) size: Option<u64>,
    /// In nanoseconds since 1970.
    pub(super) modified: Option<i64>,
    pub(super) hash: Option<Hash>,
    /// In nanoseconds since 1970.
    pub(super) taken: Option<i64>,
}

/// Rows that can be read from a folder.
pub(super) struct Import {
    /// What made them, where that is stated.
    pub(super) model: Option<String>,
    /// One after the other.
    pub(super) parts: Vec<Part>,
}

/// A file of rows, and what they are of.
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) rows: NpyReader,
    pub(super) records: Box<dyn Iterator<Item = Result<Record>>>,
}

impl Import {
    /// What lies in `folder`, in its own layout unless one is given.
    ///
    /// # Errors
    ///
    /// If there is nothing, a file is damaged, there are not as many items as rows, or rows are of different widths.
    pub(super) fn open(folder: &Path, layout: Option<Layout>) -> Result<Self> {
        let layout = match layout {
            Some(layout) => layout,
            None => Layout::of(folder)?,
        };
        let parts = match layout {
            Layout::Npy => vec![npy_part(folder)?],
            Layout::ClipRetrieval => clip_retrieval_parts(folder)?,
        };
        let import = Self {
            model: model(folder)?,
            parts,
        };
        import.require_one_width()?;
        Ok(import)
    }

    /// The number of all rows.
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.rows.left()).sum()
    }

    /// The width of all rows.
    pub(super) fn width(&self) -> usize {
        self.parts.first().map_or(0, |part| part.rows.width())
    }

    fn require_one_width(&self) -> Result<()> {
        for part in &self.parts {
            let (found, expected) = (part.rows.width(), self.width());
            if found != expected {
                bail!(
                    "{}: rows are {found} wide, expected {expected} as in {}",
                    part.path.display(),
                    self.parts[0].path.display()
                );
            }
        }
        Ok(())
    }
}

/// What `model.json` says, if there is one.
fn model(folder: &Path) -> Result<Option<String>> {
    let path = folder.join(MODEL);
    let Ok(text) = fs::read_to_string(&path) else {
        return Ok(None);
    };
    let made: Made = serde_json::from_str(&text)
        .with_context(|| format!("{}: expected {{\"model\": …}}", path.display()))?;
    Ok(Some(made.model))
}

fn npy_part(folder: &Path) -> Result<Part> {
    let (path, items) = (folder.join(ROWS), folder.join(ITEMS));
    let rows = NpyReader::open(&path)?;
    require_as_many(&path, rows.left(), &items, count(lines::read(&items)?)?)?;
    Ok(Part {
        path,
        rows,
        records: Box::new(lines::read(&items)?),
    })
}

/// How many there are. All are read before anything is changed, since one that cannot be read must not end an import half
/// way.
fn count(mut records: impl Iterator<Item = Result<Record>>) -> Result<usize> {
    records.try_fold(0, |count, record| record.map(|_| count + 1))
}

fn require_as_many(path: &Path, rows: usize, items: &Path, count: usize) -> Result<()> {
    if rows == count {
        return Ok(());
    }
    bail!(
        "{}: {count} items, expected {rows}, as many as {} has rows",
        items.display(),
        path.display()
    )
}

/// The files of images, then those of texts. Their names end in a number, by which they have their metadata.
fn clip_retrieval_parts(folder: &Path) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for kind in [Kind::Image, Kind::Text] {
        let name = emb_folder(kind);
        for path in npy_files(&folder.join(name))? {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let Some(number) = stem.strip_prefix(&format!("{name}_")) else {
                bail!(
                    "{}: expected the name {name}_0.npy, or another number",
                    path.display()
                );
            };
            let items = folder
                .join(METADATA)
                .join(format!("metadata_{number}.parquet"));
            let rows = NpyReader::open(&path)?;
            require_as_many(
                &path,
                rows.left(),
                &items,
                count(table::Reader::open(&items, kind)?)?,
            )?;
            parts.push(Part {
                path,
                rows,
                records: Box::new(table::Reader::open(&items, kind)?),
            });
        }
    }
    if parts.is_empty() {
        bail!(
            "{}: no rows in it: expected img_emb/img_emb_0.npy or text_emb/text_emb_0.npy",
            folder.display()
        );
    }
    Ok(parts)
}

/// In the order of their names; none where there is no such folder.
fn npy_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("{}: cannot be read", folder.display()))?
            .path();
        if path.extension().is_some_and(|ending| ending == "npy") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Hashes as files state them.
fn hash_of(digits: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    if digits.len() != 2 * hash.len() || !digits.is_ascii() {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).ok()?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(hash)
}

fn digits_of(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_32_digits() {
        let hash = [0, 1, 15, 16, 255, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17];
        assert_eq!(hash_of(&digits_of(&hash)), Some(hash));
        for bad in ["", "00", &"0".repeat(31), &"g".repeat(32), &"é".repeat(16)] {
            assert_eq!(hash_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_folder_that_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        drop(NewFolder::create(&path).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::create_dir(&path).unwrap();
        let new = NewFolder::create(&path).unwrap();
        fs::write(new.partial.join("file"), "").unwrap();
        new.finish().unwrap();
        drop(new);
        assert!(path.join("file").exists());
        let error = NewFolder::create(&path).unwrap_err().to_string();
        assert!(error.contains("there is something already"), "{error}");
    }
}

//! `diptych import`: rows that others made, with what they are of, into an index.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use diptych::index::{Stat, hash, hash_text};
use diptych::{Bundle, Embeddings, Index, Item, Place, Towers};
use ndarray::{ArrayView1, Axis};

use super::exchange::{Import, Layout, Part, Record};
use super::output::Output;
use super::report::Report;
use super::rows::RowsArgument;
use super::store::{self, IndexArgument};
use super::{Common, ImageArguments, Outcome};

/// Rows in memory at once, written together.
const CHUNK: usize = 4096;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What diptych export or clip-retrieval wrote
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    #[command(flatten)]
    index: IndexArgument,
    /// How rows lie in the folder; without it, as its files tell
    #[arg(long, value_name = "LAYOUT", value_enum)]
    layout: Option<Layout>,
    /// Where paths that are relative begin; without it, in the current folder
    #[arg(long, value_name = "FOLDER")]
    base: Option<PathBuf>,
    /// Take the rows for those of --model though the folder says that another made them. Where it says nothing, as
    /// clip-retrieval's do, they are always taken for those of --model, as long as they are as wide: that they are is
    /// for you to know
    #[arg(long)]
    trust_model: bool,
    /// Print what was done as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    rows: RowsArgument,
    #[command(flatten)]
    images: ImageArguments,
}

/// What was done, as it is printed.
#[derive(Debug, Default, serde::Serialize)]
pub(super) struct Imported {
    /// Items in the index now.
    pub(super) items: usize,
    pub(super) imported: usize,
    /// Of those imported: content that had a row already, which it keeps.
    pub(super) known: usize,
    /// Of those imported: images whose files are not there.
    pub(super) missing: usize,
    pub(super) failed: usize,
}

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<Outcome> {
    let import = Import::open(&arguments.folder, arguments.layout)?;
    let bundle = common.bundle(Towers::All)?;
    let identity = store::identity(&bundle, &arguments.images, arguments.rows.rows)?;
    require_rows_of(&import, &bundle, &identity, arguments, common)?;
    let mut report = common.report(import.len(), "items");
    if import.len() == 0 {
        return Ok(report.finish());
    }
    let mut index = open(&arguments.index, &identity, import.width())?;
    let mut run = Run {
        index: &mut index,
        base: match &arguments.base {
            Some(base) => std::path::absolute(base)?,
            None => std::env::current_dir().context("the current folder cannot be read")?,
        },
        folders: HashMap::new(),
        summary: Imported::default(),
    };
    for part in import.parts {
        run.take(part, &mut report)?;
    }
    let mut summary = run.summary;
    summary.items = index.stats()?.items();
    summary.failed = report.failed();
    Output::new(arguments.json).imported(&summary)?;
    Ok(report.finish())
}

/// Refuses rows that the model did not make, as far as that can be known.
fn require_rows_of(
    import: &Import,
    bundle: &Bundle,
    identity: &str,
    arguments: &Arguments,
    common: &Common,
) -> Result<()> {
    match &import.model {
        Some(made) if !arguments.trust_model => {
            if store::is_same(made, identity) {
                return Ok(());
            }
            bail!(
                "{}: rows are of {made}, not of {identity}; give their own model with --model, or add --trust-model if \
                 it is the same",
                arguments.folder.display()
            );
        }
        _ => {}
    }
    let options = arguments.rows.encoder_options(common, Towers::Image);
    let encoder = common.open(bundle.clone(), &options)?;
    encoder.require_one_row()?;
    let (found, expected) = (import.width(), encoder.width());
    if import.len() > 0 && found != expected {
        bail!(
            "{}: rows are {found} wide, expected {expected} as {identity} makes them",
            arguments.folder.display()
        );
    }
    Ok(())
}

/// The index that takes the rows, made if there is none.
fn open(argument: &IndexArgument, identity: &str, width: usize) -> Result<Index> {
    let folder = argument.folder()?;
    if !Index::exists(&folder) {
        return Ok(Index::create(&folder, identity, width)?);
    }
    let index = Index::open_to_write(&folder)?;
    store::require_same(&index, identity)?;
    if index.width() != width {
        bail!(
            "{}: its rows are {} wide, and those to import {width}",
            folder.display(),
            index.width()
        );
    }
    Ok(index)
}

/// An index that takes rows.
struct Run<'a> {
    index: &'a mut Index,
    base: PathBuf,
    /// Folders by their names in what is imported, with links resolved.
    folders: HashMap<PathBuf, PathBuf>,
    summary: Imported,
}

impl Run<'_> {
    /// Takes every row of a part that has a direction.
    fn take(&mut self, mut part: Part, report: &mut Report) -> Result<()> {
        let mut number = 0;
        while part.rows.left() > 0 {
            let values = part.rows.next_rows(CHUNK)?;
            let (mut items, mut rows) = (Vec::new(), Vec::new());
            for row in values.outer_iter() {
                let record = part.records.next().context("an item for every row")??;
                match unit_row(&row.to_vec()).and_then(|row| Ok((self.item(record, &row)?, row))) {
                    Ok((item, row)) => {
                        items.push(item);
                        rows.push(row);
                    }
                    Err(error) => {
                        let path = part.path.display();
                        report.fail(&format!("{path}: row {number} left out: {error:#}"), None);
                    }
                }
                number += 1;
                report.advance();
            }
            self.add(&items, &rows)?;
        }
        Ok(())
    }

    fn add(&mut self, items: &[Item], rows: &[Embeddings]) -> Result<()> {
        for item in items {
            self.summary.known += usize::from(self.index.knows(&item.hash)?);
        }
        let rows = Embeddings::concat(self.index.width(), rows)?;
        self.index.add(items, &rows)?;
        self.summary.imported += items.len();
        Ok(())
    }

    /// The item that a record tells of. What it does not state is read from the file.
    fn item(&mut self, record: Record, row: &Embeddings) -> Result<Item> {
        let Record {
            place,
            text,
            stated,
        } = record;
        let place = self.absolute(&place);
        if let Some(text) = text {
            return Ok(Item {
                place,
                size: text.len() as u64,
                modified: stated.modified.unwrap_or(0),
                hash: hash_text(&text),
                text: Some(text),
                taken: None,
            });
        }
        let (stat, hash) = match (stated.size, stated.modified, stated.hash) {
            (Some(size), Some(modified), Some(hash)) => (Stat { size, modified }, hash),
            _ => self.look(&place.path(), row)?,
        };
        Ok(Item {
            place,
            size: stat.size,
            modified: stat.modified,
            hash,
            text: None,
            taken: stated.taken,
        })
    }

    /// What an image file is now. One that is not there is known by its row, and counts as changed when it comes back.
    fn look(&mut self, path: &Path, row: &Embeddings) -> Result<(Stat, diptych::index::Hash)> {
        let unreadable = || format!("{}: cannot be read", path.display());
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.summary.missing += 1;
                let bytes: Vec<u8> = row
                    .as_slice()
                    .iter()
                    .flat_map(|v| v.to_le_bytes())
                    .collect();
                let nothing = Stat {
                    size: 0,
                    modified: 0,
                };
                return Ok((nothing, hash(&bytes)));
            }
            Err(error) => return Err(error).with_context(unreadable),
        };
        let metadata = file.metadata().with_context(unreadable)?;
        let bytes = fs::read(path).with_context(unreadable)?;
        Ok((Stat::of(&metadata), hash(&bytes)))
    }

    /// With the name that `index` would give it: its folder as the system resolves it, where there is one.
    fn absolute(&mut self, place: &Place) -> Place {
        let base = &self.base;
        let folder = self.folders.entry(place.folder.clone()).or_insert_with(|| {
            let folder = base.join(&place.folder);
            folder.canonicalize().unwrap_or(folder)
        });
        Place {
            folder: folder.clone(),
            name: place.name.clone(),
        }
    }
}

/// A row by itself, brought to unit length.
fn unit_row(row: &[f32]) -> Result<Embeddings> {
    let row = ArrayView1::from(row).insert_axis(Axis(0)).to_owned();
    match Embeddings::new(row) {
        Err(diptych::Error::NoDirection { problem, .. }) => bail!("it {problem}"),
        row => Ok(row?),
    }
}

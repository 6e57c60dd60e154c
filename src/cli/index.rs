//! `diptych index`: makes an index hold what folders and files of texts hold.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use diptych::index::{self, Found, FoundFile, Todo, WalkOptions};
use diptych::{Bundle, DualEncoder, Embeddings, Index, Item, ItemFilter, Kind, Place, Towers};

use super::inputs::Images;
use super::output::Output;
use super::report::Report;
use super::store::{self, IndexArgument};
use super::{Common, ImageArguments, Outcome, rows};

/// Rows are on the disk after this time or this many, whichever comes first: what a power cut costs.
const COMMIT_TIME: Duration = Duration::from_secs(2);
const COMMIT_ROWS: usize = 1024;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Photos and folders of photos
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    index: IndexArgument,
    /// Leave out files and folders of this name (*.png, .thumbs) or path (raw/**) below PATH; may be given several times
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Follow links to folders
    #[arg(long)]
    follow: bool,
    /// Print what was done as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    images: ImageArguments,
}

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<Outcome> {
    let options = WalkOptions {
        exclude: arguments.exclude.clone(),
        follow: arguments.follow,
    };
    let mut run = Run::open(arguments, common)?;
    let found = index::walk(&arguments.paths, &options)?;
    let (summary, outcome) = run.bring_up_to_date(&found)?;
    let mut output = Output::new(arguments.json);
    output.indexed(&summary)?;
    Ok(outcome)
}

/// What was done, as it is printed.
#[derive(Debug, Default, serde::Serialize)]
pub(super) struct Summary {
    /// Items in the index now.
    pub(super) items: usize,
    pub(super) encoded: usize,
    /// Copied, renamed, moved or touched.
    pub(super) known: usize,
    pub(super) unchanged: usize,
    pub(super) removed: usize,
    pub(super) failed: usize,
}

/// An index that is being brought up to date.
struct Run<'a> {
    common: &'a Common,
    images: &'a ImageArguments,
    bundle: Bundle,
    identity: String,
    folder: PathBuf,
    index: Option<Index>,
    encoder: Option<DualEncoder>,
}

impl<'a> Run<'a> {
    fn open(arguments: &'a Arguments, common: &'a Common) -> Result<Self> {
        let bundle = Bundle::open(common.model()?)?;
        let identity = store::identity(&bundle, &arguments.images)?;
        let folder = arguments.index.folder()?;
        let index = if Index::exists(&folder) {
            let index = Index::open_to_write(&folder)?;
            store::require_same(&index, &identity)?;
            Some(index)
        } else {
            None
        };
        Ok(Self {
            common,
            images: &arguments.images,
            bundle,
            identity,
            folder,
            index,
            encoder: None,
        })
    }

    /// The image tower and the index that takes its rows, opened when they are first needed.
    fn ready(&mut self) -> Result<(&DualEncoder, &mut Index)> {
        if self.encoder.is_none() {
            let options = self.common.encoder_options(Towers::Image);
            self.encoder = Some(DualEncoder::open_with(&self.bundle.path, &options)?);
        }
        let encoder = self
            .encoder
            .as_ref()
            .context("the encoder was just opened")?;
        if self.index.is_none() {
            self.index = Some(Index::create(
                &self.folder,
                &self.identity,
                encoder.width(),
            )?);
        }
        Ok((
            encoder,
            self.index.as_mut().context("the index was just opened")?,
        ))
    }

    fn bring_up_to_date(&mut self, found: &Found) -> Result<(Summary, Outcome)> {
        let todo = self.todo(found)?;
        let failures = failures(found, &todo);
        let total = todo.encode.len() + failures.paths.len() + failures.failures.len();
        let mut report = self.common.report(total, "images");
        let mut summary = Summary {
            unchanged: todo.unchanged,
            ..Summary::default()
        };
        self.encode(&todo.encode, failures, &mut report, &mut summary)?;
        self.finish(todo, &mut report, &mut summary)?;
        summary.failed = report.failed();
        // Nothing to encode is what a second run should find.
        let outcome = if total == 0 && summary.items > 0 {
            Outcome::Done
        } else {
            report.finish()
        };
        Ok((summary, outcome))
    }

    fn todo(&self, found: &Found) -> Result<Todo> {
        let Some(index) = &self.index else {
            return Ok(index::compare(&[], found, &Default::default(), |_| {
                Ok(false)
            })?);
        };
        let filter = ItemFilter {
            kind: Some(Kind::Image),
            within: found.roots.clone(),
            ..ItemFilter::default()
        };
        let mut known = index.items(&filter)?;
        // A root that is a file is no folder of others.
        for root in &found.roots {
            let place = Place::of_image(root).ok();
            known.extend(
                place
                    .map(|place| index.item(&place))
                    .transpose()?
                    .flatten()
                    .map(|(item, _)| item),
            );
        }
        Ok(index::compare(&known, found, &index.sizes()?, |hash| {
            index.knows(hash)
        })?)
    }

    fn encode(
        &mut self,
        files: &[FoundFile],
        mut images: Images,
        report: &mut Report,
        summary: &mut Summary,
    ) -> Result<()> {
        images.paths = files.iter().map(|file| file.place.path()).collect();
        if images.len() == 0 {
            return Ok(());
        }
        let mut options = self.common.pipeline_options(self.images);
        options.identify = true;
        let (encoder, index) = self.ready()?;
        let mut batch = Batch::new(index);
        let outcome = rows::encode(encoder, &images, &options, report, |item| {
            if let (Ok(row), Some(identity)) = (item.row, item.identity) {
                let place = Place::of_image(item.path)?;
                summary.encoded += 1;
                let item = Item {
                    place,
                    size: identity.stat.size,
                    modified: identity.stat.modified,
                    hash: identity.hash,
                    text: None,
                };
                batch.add(item, row)?;
            }
            Ok(())
        });
        // What is encoded stays, whatever ended it.
        batch.commit()?;
        outcome
    }

    /// Names what needs no encoding, and forgets what is gone.
    fn finish(&mut self, todo: Todo, report: &mut Report, summary: &mut Summary) -> Result<()> {
        let Some(index) = &mut self.index else {
            return Ok(());
        };
        let mut copies = Vec::new();
        for copy in todo.copies {
            if index.knows(&copy.hash)? {
                copies.push(copy);
            } else {
                let path = copy.place.path();
                report.fail(
                    &format!(
                        "{}: has the same content as an image that failed",
                        path.display()
                    ),
                    None,
                );
            }
        }
        index.add_copies(&copies)?;
        index.remove(&todo.vanished)?;
        summary.known = copies.len();
        summary.removed = todo.vanished.len();
        let stats = index.stats()?;
        summary.items = stats.images + stats.texts;
        Ok(())
    }
}

/// What could not be walked, and folders that look like a disk that is not there.
fn failures(found: &Found, todo: &Todo) -> Images {
    let mut images = Images::default();
    for error in &found.failures {
        images.fail_with(error.to_string());
    }
    for folder in &todo.emptied {
        images.fail_with(format!(
            "{}: nothing found, though the index has images of it; kept, in case a disk is not there (diptych remove forgets them)",
            folder.display()
        ));
    }
    images
}

/// Rows that wait to be written.
struct Batch<'a> {
    index: &'a mut Index,
    items: Vec<Item>,
    rows: Vec<Embeddings>,
    since: Instant,
}

impl<'a> Batch<'a> {
    fn new(index: &'a mut Index) -> Self {
        Self {
            index,
            items: Vec::new(),
            rows: Vec::new(),
            since: Instant::now(),
        }
    }

    fn add(&mut self, item: Item, row: &Embeddings) -> Result<()> {
        self.items.push(item);
        self.rows.push(row.clone());
        if self.items.len() >= COMMIT_ROWS || self.since.elapsed() >= COMMIT_TIME {
            self.commit()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        let rows = Embeddings::concat(self.index.width(), &std::mem::take(&mut self.rows))?;
        self.index.add(&std::mem::take(&mut self.items), &rows)?;
        self.since = Instant::now();
        Ok(())
    }
}

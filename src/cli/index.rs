//! `diptych index`: makes an index hold what folders and files of texts hold.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use diptych::index::{self, Found, Store, WalkOptions};
use diptych::{Bundle, DualEncoder, EncoderOptions, Error, Index, Item, Kind, Rows, Towers};

use super::indexing::{self, Summary};
use super::inputs::Images;
use super::output::{Output, counted};
use super::rows::RowsArgument;
use super::store::{self, IndexArgument};
use super::watch::Watch;
use super::{Common, ImageArguments, Outcome, captions, report};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Photos and folders of photos
    #[arg(required_unless_present_any = ["texts", "reindex"], value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// A file of texts: one JSON object a line with "id" and "text"; may be given several times
    #[arg(long, value_name = "FILE.jsonl")]
    texts: Vec<PathBuf>,
    #[command(flatten)]
    index: IndexArgument,
    /// Leave out files and folders of this name (*.png, thumbs) or path (raw/**) below PATH, or of this path from the current
    /// folder (./raw) or as a whole (/photos/raw); may be given several times
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Follow links to folders
    #[arg(long)]
    follow: bool,
    /// Go on for ever: index again whenever something has changed
    #[arg(long, requires = "paths", conflicts_with = "reindex")]
    watch: bool,
    /// Move an index over to the model of --model: encode everything again, then take the old rows' place. Goes on where it
    /// was stopped, and waits for files that are out of reach; until it is done, the old rows are found
    #[arg(long, conflicts_with_all = ["paths", "texts"])]
    reindex: bool,
    /// Print what was done as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    rows: RowsArgument,
    #[command(flatten)]
    images: ImageArguments,
}

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<Outcome> {
    let mut run = Run::open(arguments, common)?;
    let mut output = Output::new(arguments.json);
    if arguments.reindex {
        let (summary, outcome) = run.reindex()?;
        output.indexed(&summary)?;
        return Ok(outcome);
    }
    // Before the first run, so that what comes in meanwhile is not missed.
    let watch = || Watch::new(&arguments.paths, &arguments.texts, &run.location);
    let watch = arguments.watch.then(watch).transpose()?;
    let (summary, outcome) = run.bring_up_to_date(&arguments.paths)?;
    output.indexed(&summary)?;
    let Some(mut watch) = watch else {
        return Ok(outcome);
    };
    loop {
        let changed = watch.wait()?;
        match run.bring_up_to_date(&changed) {
            Ok((summary, _)) if summary.has_changes() => output.indexed(&summary)?,
            Ok(_) => {}
            // A full disk or a file that is not there just now: it may pass.
            Err(error) => {
                report::fatal(&error);
                watch.try_again();
            }
        }
    }
}

/// An index that is being brought up to date.
struct Run<'a> {
    arguments: &'a Arguments,
    common: &'a Common,
    options: WalkOptions,
    bundle: Bundle,
    identity: String,
    location: PathBuf,
    /// `None` until there is something to put in.
    index: Option<Box<dyn Store>>,
    encoder: Option<DualEncoder>,
}

impl<'a> Run<'a> {
    fn open(arguments: &'a Arguments, common: &'a Common) -> Result<Self> {
        check_rows(arguments)?;
        let bundle = common.bundle(Towers::All)?;
        let identity = store::identity(&bundle, &arguments.images, arguments.rows.rows)?;
        let location = arguments.index.location()?;
        let index = match arguments.reindex {
            true => None,
            false => open_if_there(&location, &identity)?,
        };
        Ok(Self {
            arguments,
            common,
            options: WalkOptions {
                exclude: arguments.exclude.clone(),
                follow: arguments.follow,
            },
            bundle,
            identity,
            location,
            index,
            encoder: None,
        })
    }

    /// The encoder with the tower that is asked for, and the index that takes its rows.
    fn ready(&mut self, towers: Towers) -> Result<(&DualEncoder, &mut dyn Store)> {
        let options = self.arguments.rows.encoder_options(self.common, towers);
        let encoder = kept_encoder(&mut self.encoder, self.common, &self.bundle, &options)?;
        let index = match self.index.take() {
            Some(index) => index,
            None => index::create_store(&self.location, &self.identity, encoder.width())?,
        };
        Ok((encoder, self.index.insert(index).as_mut()))
    }

    /// Makes the index hold what `paths` hold now, and the files of texts.
    fn bring_up_to_date(&mut self, paths: &[PathBuf]) -> Result<(Summary, Outcome)> {
        let found = index::walk(paths, &self.options)?;
        let mut summary = Summary::default();
        let mut outcome = self.bring_images(&found, &mut summary)?;
        for file in &self.arguments.texts {
            outcome = outcome.and(self.bring_texts(file, &mut summary)?);
        }
        if let Some(index) = &self.index {
            summary.items = index.stats()?.items();
        }
        if summary.items == 0 && outcome == Outcome::Done {
            report::notice("nothing to index");
            outcome = Outcome::Incomplete;
        }
        Ok((summary, outcome))
    }

    fn bring_images(&mut self, found: &Found, summary: &mut Summary) -> Result<Outcome> {
        let todo = indexing::todo(self.index.as_deref(), found)?;
        let mut images = indexing::failures(found, &todo);
        images.paths = todo.encode.iter().map(|file| file.place.path()).collect();
        let mut report = self.common.report(images.len(), "images");
        summary.unchanged += todo.unchanged;
        if !images.paths.is_empty() {
            let options = self.common.pipeline_options(&self.arguments.images);
            let (encoder, index) = self.ready(Towers::Image)?;
            indexing::encode(encoder, index, &images, options, &mut report, summary)?;
        } else {
            images
                .failures
                .iter()
                .for_each(|failure| report.fail(&failure.message, None));
        }
        if let Some(index) = &mut self.index {
            indexing::finish(index.as_mut(), todo, &mut report, summary)?;
        }
        summary.failed += report.failed();
        Ok(report.finish_quietly())
    }

    fn bring_texts(&mut self, file: &Path, summary: &mut Summary) -> Result<Outcome> {
        let read = captions::read(file)?;
        let (todo, unchanged) = captions::compare(self.index.as_deref(), &read)?;
        let mut report = self
            .common
            .report(todo.encode.len() + read.failures.len(), "texts");
        read.failures
            .iter()
            .for_each(|failure| report.fail(failure, None));
        summary.unchanged += unchanged;
        if !todo.encode.is_empty() {
            let is_quiet = self.common.quiet;
            let (encoder, index) = self.ready(Towers::Text)?;
            captions::encode(encoder, index, &todo.encode, &report, is_quiet)?;
            summary.encoded += todo.encode.len();
        }
        if let Some(index) = &mut self.index {
            index.add_copies(&todo.copies)?;
            index.remove(&todo.vanished)?;
            summary.known += todo.copies.len();
            summary.removed += todo.vanished.len();
        }
        summary.failed += report.failed();
        Ok(report.finish_quietly())
    }

    /// Moves the index over to another model.
    fn reindex(&mut self) -> Result<(Summary, Outcome)> {
        if let Some(address) = index::address(&self.location) {
            bail!(
                "{address}: only an index in a folder is moved over; make another collection with diptych index"
            );
        }
        let mut old = Index::open_to_write(&self.location)?;
        let options = self
            .arguments
            .rows
            .encoder_options(self.common, Towers::All);
        let encoder = kept_encoder(&mut self.encoder, self.common, &self.bundle, &options)?;
        let mut next = old.begin_next(&self.identity, encoder.width())?;
        let mut waiting = indexing::left(&old, &mut next)?;
        let mut summary = Summary {
            unchanged: next.stats()?.items(),
            ..Summary::default()
        };
        let mut report = self.common.report(waiting.len(), "images and texts");
        let options = self.common.pipeline_options(&self.arguments.images);
        let mut unread = Vec::new();
        // At first one item of each content, whose row the others then have; where it failed, they come too.
        for is_last in [false, true] {
            waiting = indexing::name_known(&mut next, waiting, &report, &mut summary)?;
            let mut contents = HashSet::new();
            let is_due = |item: &Item| contents.insert(item.hash) || is_last;
            let (due, later): (Vec<Item>, Vec<Item>) = waiting.into_iter().partition(is_due);
            let (texts, images): (Vec<Item>, Vec<Item>) =
                due.into_iter().partition(|item| item.kind() == Kind::Text);
            let files = Images {
                paths: images.iter().map(|item| item.place.path()).collect(),
                ..Images::default()
            };
            let options = options.clone();
            let failed = indexing::encode(
                encoder,
                &mut next,
                &files,
                options,
                &mut report,
                &mut summary,
            )?;
            let failed: HashSet<PathBuf> = failed.into_iter().collect();
            let is_unread = |item: &Item| failed.contains(&item.place.path());
            unread.extend(images.into_iter().filter(is_unread));
            captions::encode(encoder, &mut next, &texts, &report, self.common.quiet)?;
            summary.encoded += texts.len();
            waiting = later;
        }
        let unread = indexing::name_known(&mut next, unread, &report, &mut summary)?;
        summary.failed = report.failed();
        if !unread.is_empty() {
            let files = counted(unread.len(), "file");
            report::notice(&format!(
                "{files} could not be read, so the index is not moved over yet; what is encoded is kept. Mount the disk \
                 that is not there and run this again, or let diptych remove PATH forget the files first"
            ));
            summary.items = old.stats()?.items();
            return Ok((summary, report.finish_quietly().and(Outcome::Incomplete)));
        }
        summary.items = old.take_over(next)?.stats()?.items();
        Ok((summary, report.finish_quietly()))
    }
}

/// Refuses kinds of rows that an index cannot hold beside others.
fn check_rows(arguments: &Arguments) -> Result<()> {
    match arguments.rows.rows {
        Some(Rows::Patches) => bail!(
            "--rows patches: an index holds one row for each image; take cls, mean or pooled, or write them with diptych \
             embed --rows patches"
        ),
        Some(rows) if !arguments.texts.is_empty() => bail!(
            "--rows {rows} makes rows of images alone, which no text's row lies near: index texts without it, with \
             another --index"
        ),
        _ => Ok(()),
    }
}

/// The encoder that is kept, or another in its place where it lacks the tower that is asked for.
fn kept_encoder<'k>(
    kept: &'k mut Option<DualEncoder>,
    common: &Common,
    bundle: &Bundle,
    options: &EncoderOptions,
) -> Result<&'k DualEncoder> {
    let has_tower = |encoder: &DualEncoder| match options.towers {
        Towers::Image => encoder.image_tower().is_ok(),
        _ => encoder.text_tower().is_ok(),
    };
    let encoder = match kept.take().filter(has_tower) {
        Some(encoder) => encoder,
        None => common.open(bundle.clone(), options)?,
    };
    encoder.require_one_row()?;
    Ok(kept.insert(encoder))
}

/// The index at `location`, if there is one, to write rows of `identity` to.
fn open_if_there(location: &Path, identity: &str) -> Result<Option<Box<dyn Store>>> {
    match index::open_store_to_write(location) {
        Ok(index) => {
            store::require_same(index.as_ref(), identity)?;
            Ok(Some(index))
        }
        Err(Error::NoIndex { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

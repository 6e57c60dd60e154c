//! `diptych embed`: photos and texts to rows, in the order asked.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{ArgMatches, Args};
use diptych::{DualEncoder, Embeddings, ImageTower, NpyWriter, Towers};

use super::inputs::{self, Images};
use super::output::{Name, Output};
use super::report::Report;
use super::rows::RowsArgument;
use super::{Common, ImageArguments, Outcome, report, rows};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Photos, folders of photos, or - for one photo on standard input
    #[arg(value_name = "PATH", required_unless_present_any = ["text", "texts"])]
    paths: Vec<PathBuf>,
    /// A text
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    text: Vec<String>,
    /// A file of texts, one a line
    #[arg(long, value_name = "FILE")]
    texts: Vec<PathBuf>,
    /// Write the rows to a .npy file (float32, N × D; with --rows patches N × P × D), their names to a .jsonl file beside it
    #[arg(long, short, value_name = "ROWS.npy", conflicts_with = "json")]
    output: Option<PathBuf>,
    /// Print one JSON object a line, which is what is done without --output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    rows: RowsArgument,
    #[command(flatten)]
    images: ImageArguments,
}

/// At which place on the command line each argument stood.
#[derive(Debug, Default)]
pub(super) struct Order {
    paths: Vec<usize>,
    text: Vec<usize>,
    texts: Vec<usize>,
}

impl Order {
    pub(super) fn of(matches: &ArgMatches) -> Self {
        let places = |name| {
            matches
                .indices_of(name)
                .map(Iterator::collect)
                .unwrap_or_default()
        };
        Self {
            paths: places("paths"),
            text: places("text"),
            texts: places("texts"),
        }
    }
}

/// Items of one kind that were asked for one after the other.
#[derive(Debug)]
enum Run {
    Images(Images),
    Texts(Vec<String>),
}

impl Run {
    fn len(&self) -> usize {
        match self {
            Run::Images(images) => images.len(),
            Run::Texts(texts) => texts.len(),
        }
    }
}

pub(super) fn run(arguments: &Arguments, common: &Common, order: &Order) -> Result<Outcome> {
    let runs = runs(arguments, order)?;
    let has = |is: fn(&Run) -> bool| runs.iter().any(is);
    let towers = match (
        has(|run| matches!(run, Run::Images(_))),
        has(|run| matches!(run, Run::Texts(_))),
    ) {
        (true, false) => Towers::Image,
        (false, true) => Towers::Text,
        _ => Towers::All,
    };
    if let (Some(rows), true) = (arguments.rows.rows, towers != Towers::Image) {
        bail!(
            "--rows {rows} makes rows of images alone, which no text's row lies near: embed texts without it"
        );
    }
    let options = arguments.rows.encoder_options(common, towers);
    let encoder = common.open(common.bundle(towers)?, &options)?;
    if towers == Towers::All {
        encoder.image_tower()?;
        encoder.text_tower()?;
    }
    let mut report = common.report(runs.iter().map(Run::len).sum(), "images and texts");
    let patches = encoder.image_tower().ok().and_then(ImageTower::patches);
    let mut sink = Sink::open(arguments.output.as_deref(), encoder.width(), patches)?;
    let options = common.pipeline_options(&arguments.images);
    let outcome = runs.iter().try_for_each(|run| match run {
        Run::Images(images) => rows::encode(&encoder, images, &options, &mut report, |item| {
            match item.row {
                Ok(row) => sink.row(Name::Path(&item.path.to_string_lossy()), row),
                Err(message) => sink.failure(item.path, message),
            }
        }),
        Run::Texts(texts) => embed_texts(&encoder, texts, common, &mut sink, &report),
    });
    // What is there stays, whatever ended it.
    sink.flush()?;
    outcome?;
    Ok(report.finish())
}

/// What was asked for, as it stood on the command line; neighbours of one kind are put together.
fn runs(arguments: &Arguments, order: &Order) -> Result<Vec<Run>> {
    enum Item<'a> {
        Path(&'a PathBuf),
        Text(&'a String),
        Texts(&'a PathBuf),
    }
    let paths = order
        .paths
        .iter()
        .zip(arguments.paths.iter().map(Item::Path));
    let text = order.text.iter().zip(arguments.text.iter().map(Item::Text));
    let texts = order
        .texts
        .iter()
        .zip(arguments.texts.iter().map(Item::Texts));
    let mut items: Vec<(&usize, Item<'_>)> = paths.chain(text).chain(texts).collect();
    items.sort_by_key(|(place, _)| **place);

    let mut runs: Vec<Run> = Vec::new();
    for (_, item) in items {
        let run = match item {
            Item::Path(path) => Run::Images(Images::find(std::slice::from_ref(path))),
            Item::Text(text) => Run::Texts(vec![text.clone()]),
            Item::Texts(file) => Run::Texts(inputs::texts(file)?),
        };
        match (runs.last_mut(), run) {
            (Some(Run::Images(before)), Run::Images(images)) => before.append(images),
            (Some(Run::Texts(before)), Run::Texts(texts)) => before.extend(texts),
            (_, run) => runs.push(run),
        }
    }
    Ok(runs)
}

fn embed_texts(
    encoder: &DualEncoder,
    texts: &[String],
    common: &Common,
    sink: &mut Sink,
    report: &Report,
) -> Result<()> {
    let tower = encoder.text_tower()?;
    let mut cut = Vec::new();
    // Large enough for texts of like length to meet, small enough for rows to appear on the way.
    for texts in texts.chunks(64 * encoder.batch()) {
        let encoded = tower.encode(texts, encoder.batch())?;
        for (text, row) in texts.iter().zip(encoded.rows.split()) {
            report.around(|| sink.row(Name::Text(text), &row))?;
            report.advance();
        }
        cut.extend(encoded.cut.iter().map(|&index| &texts[index]));
    }
    if let (Some(first), false) = (cut.first(), common.quiet) {
        report::cut(
            cut.len(),
            tower.tokenizer().settings().context_length,
            first,
        );
    }
    Ok(())
}

/// Where rows go.
enum Sink {
    Lines {
        output: Output,
        /// How many patches lie below each other and side by side, where each has a row.
        patches: Option<(usize, usize)>,
    },
    Files {
        rows: NpyWriter,
        names: BufWriter<File>,
        path: PathBuf,
        unflushed: usize,
    },
}

impl Sink {
    fn open(output: Option<&Path>, width: usize, patches: Option<(usize, usize)>) -> Result<Self> {
        let Some(output) = output else {
            let output = Output::new(true);
            return Ok(Sink::Lines { output, patches });
        };
        if output
            .extension()
            .is_none_or(|extension| extension != "npy")
        {
            bail!("{}: expected a file name ending in .npy", output.display());
        }
        let path = output.with_extension("jsonl");
        let names = File::create(&path)
            .with_context(|| format!("{}: cannot be written", path.display()))?;
        Ok(Sink::Files {
            rows: match patches {
                None => NpyWriter::create(output, width)?,
                Some((down, across)) => NpyWriter::create_grouped(output, down * across, width)?,
            },
            names: BufWriter::new(names),
            path,
            unflushed: 0,
        })
    }

    fn row(&mut self, name: Name<'_>, row: &Embeddings) -> Result<()> {
        match self {
            Sink::Lines {
                output,
                patches: None,
            } => Ok(output.embedding(name, row.row(0))?),
            Sink::Lines {
                output,
                patches: Some(patches),
            } => Ok(output.patches(name, *patches, row)?),
            Sink::Files {
                rows,
                names,
                path,
                unflushed,
            } => {
                rows.write(row)?;
                writeln!(names, "{}", serde_json::to_string(&name)?)
                    .with_context(|| format!("{}: cannot be written", path.display()))?;
                *unflushed += 1;
                if *unflushed == 256 {
                    self.flush()
                } else {
                    Ok(())
                }
            }
        }
    }

    fn failure(&mut self, path: &Path, message: &str) -> Result<()> {
        match self {
            Sink::Lines { output, .. } => Ok(output.failure(path, message)?),
            // Line i of the names is row i of the rows, so what has no row has no line.
            Sink::Files { .. } => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<()> {
        if let Sink::Files {
            rows,
            names,
            path,
            unflushed,
        } = self
        {
            names
                .flush()
                .with_context(|| format!("{}: cannot be written", path.display()))?;
            rows.flush()?;
            *unflushed = 0;
        }
        Ok(())
    }
}

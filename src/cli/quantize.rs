//! `diptych quantize`: a smaller bundle of a model, and what it costs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use diptych::quantize::{Draft, GraphSizes, Quantization, Weights, check};
use diptych::verify::{Cost, Record, cost};
use diptych::{Bundle, BundleOptions, EncoderOptions, Towers, runtime};

use super::inputs::number_within;
use super::output::Output;
use super::{Common, Outcome, report};

/// The first ONNX Runtime that multiplies blocks of 8 bits.
const BLOCKS_SINCE: (u32, u32) = (1, 22);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The model, in place of --model
    #[arg(value_name = "MODEL")]
    bundle: Option<PathBuf>,
    /// How weights are kept
    #[arg(long, value_name = "FORM", value_enum)]
    to: Form,
    /// The folder to make. It has this name when it is whole
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Write into a folder that is there, over files of the same names
    #[arg(long)]
    force: bool,
    /// The lowest cosine that a row may have with what it was; below, the bundle is written all the same and the exit
    /// code is 1
    #[arg(long, value_name = "COSINE", default_value_t = 0.95, value_parser = cosine)]
    min_cosine: f64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How weights are kept.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    /// 8 bits, multiplied as whole numbers: the fastest, a quarter of the size
    Int8,
    /// 8 bits with a scale for each 32 weights: nearer to what it was, a little over a quarter of the size
    Q8Block,
    /// 16 bits, computed in 32: the same rows at the same speed, half of the size
    Fp16,
}

impl From<Form> for Quantization {
    fn from(form: Form) -> Self {
        match form {
            Form::Int8 => Self::Int8,
            Form::Q8Block => Self::Q8Block,
            Form::Fp16 => Self::Fp16,
        }
    }
}

/// What was made, as it is printed.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) folder: PathBuf,
    pub(super) to: Quantization,
    /// Whether the folder opens as this bundle only where its precision is named, since it holds others too.
    pub(super) is_one_of_several: bool,
    pub(super) graphs: Vec<GraphSizes>,
    pub(super) cost: Cost,
    pub(super) min_cosine: f64,
}

impl Made {
    pub(super) fn weights(&self) -> Weights {
        Weights::sum(&self.graphs)
    }

    pub(super) fn holds(&self) -> bool {
        self.cost.lowest() >= self.min_cosine
    }
}

fn cosine(text: &str) -> Result<f64, String> {
    number_within(text, -1.0..=1.0)
}

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<Outcome> {
    let mut common = common.clone();
    common.model = arguments.bundle.clone().or(common.model);
    // Graphs are written whole, whatever a caller keeps of their rows.
    common.dim = None;
    let to = Quantization::from(arguments.to);
    let bundle = common.bundle(Towers::All)?;
    if bundle.text_bundle.is_some() {
        bail!(
            "{}: two models become no one bundle: give each by itself",
            bundle.name()
        );
    }
    let can_begin = check(&bundle, &arguments.output, arguments.force);
    can_begin.map_err(|error| named(error, common.model.is_none()))?;
    if to == Quantization::Q8Block {
        require_blocks(&runtime::start(common.notice())?.version)?;
    }
    let options = common.encoder_options(Towers::All);
    // First, since it shows whether model and device open at all.
    let before = record(&common, bundle.clone(), &options)?;
    let draft = Draft::make(&bundle, to, &arguments.output, arguments.force)?;
    // What no file states is said once.
    let quiet = EncoderOptions {
        notice: |_| (),
        ..options
    };
    let after = record_of_draft(&common, &draft, &quiet)?;
    let cost = cost(&before, &after)?;
    let graphs = draft.graphs().to_vec();
    let folder = draft.finish()?;
    let made = Made {
        is_one_of_several: is_one_of_several(&folder, to, &graphs),
        folder: arguments.output.clone(),
        to,
        graphs,
        cost,
        min_cosine: arguments.min_cosine,
    };
    Output::new(arguments.json).quantized(&made)?;
    if made.holds() {
        return Ok(Outcome::Done);
    }
    report::notice(&format!(
        "the lowest cosine is {}, expected {} or more: {} is written, but look whether it is good enough{}; --min-cosine \
         asks for less",
        made.cost.lowest(),
        made.min_cosine,
        made.folder.display(),
        nearer(to)
    ));
    Ok(Outcome::Incomplete)
}

/// Forms that are nearer to what a model was.
fn nearer(to: Quantization) -> &'static str {
    match to {
        Quantization::Int8 => ", or take --to q8-block or fp16",
        Quantization::Q8Block => ", or take --to fp16",
        Quantization::Fp16 => "",
    }
}

/// Why quantising cannot begin. Of the bundled model there is no other precision to name.
fn named(error: diptych::Error, is_bundled: bool) -> anyhow::Error {
    match error {
        diptych::Error::Quantized { found, .. } if is_bundled => anyhow!(
            "the bundled model has weights of {found} already: name another one, diptych quantize MODEL, whose weights are of \
             float32"
        ),
        other => other.into(),
    }
}

/// That an ONNX Runtime of this version multiplies blocks of 8 bits. A version that nobody can read is tried.
fn require_blocks(version: &str) -> Result<()> {
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < BLOCKS_SINCE => bail!(
            "--to q8-block needs ONNX Runtime {}.{} or later, found {version}; take --to int8",
            BLOCKS_SINCE.0,
            BLOCKS_SINCE.1
        ),
        _ => Ok(()),
    }
}

fn record(common: &Common, bundle: Bundle, options: &EncoderOptions) -> Result<Record> {
    Ok(Record::of(&common.open(bundle, options)?)?)
}

/// What the draft gives, whose errors have the names that its files will have.
fn record_of_draft(common: &Common, draft: &Draft, options: &EncoderOptions) -> Result<Record> {
    let record = draft
        .bundle()
        .map_err(Into::into)
        .and_then(|bundle| record(common, bundle, options));
    let named = |error: anyhow::Error| match error.downcast() {
        Ok(error) => draft.named(error).into(),
        Err(other) => other,
    };
    record.map_err(named).context("the quantised graph")
}

/// Whether other graphs than the new ones are taken from the folder where no precision is named.
fn is_one_of_several(folder: &Path, to: Quantization, graphs: &[GraphSizes]) -> bool {
    let names = |options: &BundleOptions| {
        let bundle = Bundle::open_with(folder, options).ok()?;
        let image = bundle.image.map(|files| files.graph);
        let text = bundle.text.map(|files| files.graph);
        let all = image.into_iter().chain(text);
        let is_new = |graph: &PathBuf| graphs.iter().any(|new| folder.join(&new.name) == *graph);
        Some(all.into_iter().all(|graph| is_new(&graph)))
    };
    let named = BundleOptions {
        precisions: to.precision().parse().unwrap_or_default(),
        ..Default::default()
    };
    names(&BundleOptions::default()) != Some(true) && names(&named) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_runtimes_know_no_blocks() {
        for old in ["1.20.1", "1.21.0", "0.99"] {
            let said = require_blocks(old).unwrap_err().to_string();
            assert!(
                said.contains(&format!("1.22 or later, found {old};")),
                "{said}"
            );
        }
        for new in ["1.22.0", "1.22", "1.31.1", "2.0.0", "git-abc"] {
            assert!(require_blocks(new).is_ok(), "{new}");
        }
    }
}

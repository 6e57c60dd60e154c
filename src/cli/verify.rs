//! `diptych verify`: whether a model gives what its reference gives, and if not, where and why.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use diptych::Towers;
use diptych::verify::{Record, compare, self_check};

use super::inputs::number_within;
use super::output::Output;
use super::rows::RowsArgument;
use super::{Common, Outcome};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The model, in place of --model
    #[arg(value_name = "MODEL")]
    bundle: Option<PathBuf>,
    /// Write what the model gives for the program's own pictures and texts to this file
    #[arg(long, value_name = "FILE", conflicts_with = "against")]
    record: Option<PathBuf>,
    /// Compare with the record in this file, and say what differs first and why
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// How far from cosine 1 a row may be
    #[arg(long, value_name = "DISTANCE", default_value_t = 1e-5, value_parser = tolerance)]
    tolerance: f64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    rows: RowsArgument,
}

fn tolerance(text: &str) -> Result<f64, String> {
    number_within(text, 0.0..=1.0)
}

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<Outcome> {
    let mut common = common.clone();
    common.model = arguments.bundle.clone().or(common.model);
    let options = arguments.rows.encoder_options(&common, Towers::All);
    let open = || common.open(common.bundle(Towers::All)?, &options);
    let mut output = Output::new(arguments.json);
    match (&arguments.record, &arguments.against) {
        (Some(file), _) => {
            Record::of(&open()?)?.write(file)?;
            output.recorded(file)?;
            Ok(Outcome::Done)
        }
        (None, Some(file)) => {
            // Read first, since opening a model takes longer than finding that a record is none.
            let record = Record::read(file)?;
            let comparison = compare(&open()?, &record, arguments.tolerance)?;
            output.compared(&record, &comparison)?;
            Ok(outcome(comparison.is_equal()))
        }
        (None, None) => {
            let checks = self_check(open()?, &options)?;
            output.self_checked(&checks)?;
            Ok(outcome(checks.iter().all(|check| check.holds)))
        }
    }
}

fn outcome(holds: bool) -> Outcome {
    if holds {
        Outcome::Done
    } else {
        Outcome::Incomplete
    }
}

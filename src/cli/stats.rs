//! `diptych stats`: how much an index holds.

use anyhow::Result;
use clap::Args;
use diptych::index::Stats;
use serde_json::json;

use super::Outcome;
use super::output::Output;
use super::store::IndexArgument;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    index: IndexArgument,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    let index = arguments.index.open_store()?;
    let location = index.location();
    // An address stays as it is.
    let location = location.canonicalize().unwrap_or(location);
    let Stats {
        images,
        texts,
        rows,
        freed,
        width,
        model,
        bytes,
    } = index.stats()?;
    let facts = [
        ("index", json!(location.to_string_lossy())),
        ("model", json!(model)),
        ("images", json!(images)),
        ("texts", json!(texts)),
        ("rows", json!(rows)),
        ("unused rows", json!(freed)),
        ("width", json!(width)),
        ("bytes", json!(bytes)),
    ];
    Output::new(arguments.json).facts(&facts)?;
    Ok(Outcome::Done)
}

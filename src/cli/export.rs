//! `diptych export`: the rows of an index with what they are of, for other programs.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use diptych::{Embeddings, Index, Item, ItemFilter, Kind};

use super::exchange::{Export, Layout};
use super::filter::FilterArguments;
use super::output::Output;
use super::report::Report;
use super::store::IndexArgument;
use super::{Common, Outcome, report};

/// Rows in memory at once.
const CHUNK: usize = 1024;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    index: IndexArgument,
    /// The folder to make. It has this name when it is whole
    #[arg(long, short, value_name = "FOLDER")]
    output: PathBuf,
    /// How rows lie in the folder
    #[arg(long, value_name = "LAYOUT", value_enum, default_value = "npy")]
    layout: Layout,
    /// Print what was done as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filter: FilterArguments,
}

/// What was done, as it is printed.
#[derive(Debug, serde::Serialize)]
pub(super) struct Exported {
    /// Items in the folder.
    pub(super) items: usize,
    /// Items whose names the layout cannot tell.
    pub(super) failed: usize,
    /// Values of a row.
    pub(super) width: usize,
    pub(super) layout: &'static str,
}

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<Outcome> {
    let index = arguments.index.open()?;
    let filter = filter(arguments, &index, common)?;
    let chunks = index.chunks(&filter, CHUNK)?;
    let mut report = common.report(chunks.left(), "items");
    if chunks.left() == 0 {
        arguments.filter.say_unknown(&index, &[])?;
        return Ok(report.finish());
    }
    let kind = filter.kind.unwrap_or(Kind::Image);
    let width = index.width();
    let (folder, layout) = (&arguments.output, arguments.layout);
    let mut export = Export::create(folder, layout, kind, &index.model(), width)?;
    let mut items = 0;
    for chunk in chunks {
        let (chunk, rows) = chunk?;
        let (chunk, rows) = nameable(layout, chunk, rows, &mut report);
        export.add(&chunk, &rows)?;
        items += chunk.len();
        report.advance_by(chunk.len());
    }
    if items == 0 {
        return Ok(report.finish());
    }
    export.finish()?;
    Output::new(arguments.json).exported(&Exported {
        items,
        failed: report.failed(),
        width,
        layout: layout.name(),
    })?;
    Ok(report.finish())
}

/// What is exported: everything, or one kind where the layout can tell no two apart.
fn filter(arguments: &Arguments, index: &Index, common: &Common) -> Result<ItemFilter> {
    if arguments.layout == Layout::Npy {
        return arguments.filter.filter_of_any_kind();
    }
    let filter = arguments.filter.filter(index)?;
    let stats = index.stats()?;
    let is_given = arguments.filter.filter_of_any_kind()?.kind.is_some();
    if stats.images > 0 && stats.texts > 0 && !is_given && !common.quiet {
        report::notice(
            "images alone are exported, since this layout holds one kind; --kind texts exports texts to another folder",
        );
    }
    Ok(filter)
}

/// The items that the layout can name, with their rows.
fn nameable(
    layout: Layout,
    items: Vec<Item>,
    rows: Embeddings,
    report: &mut Report,
) -> (Vec<Item>, Embeddings) {
    let (mut kept, mut numbers) = (Vec::new(), Vec::new());
    for (number, item) in items.into_iter().enumerate() {
        if layout.can_name(&item) {
            kept.push(item);
            numbers.push(number);
        } else {
            let path = item.place.path();
            let message = format!(
                "{}: left out, since its name is not Unicode; --layout npy can tell it",
                path.display()
            );
            report.fail(&message, None);
            report.advance();
        }
    }
    if numbers.len() == rows.len() {
        return (kept, rows);
    }
    let rows = rows.select(&numbers);
    (kept, rows)
}

//! `diptych cluster`: an index's photos in groups, each named by a label.

use std::num::NonZeroUsize;

use anyhow::Result;
use clap::Args;
use diptych::{Clusters, Item, Towers, ZeroShot, top_k};

use super::classes::ClassArguments;
use super::filter::FilterArguments;
use super::output::Output;
use super::store::{self, IndexArgument};
use super::{Common, Outcome, report};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    index: IndexArgument,
    /// How many groups to make, fewer where fewer photos differ; without it, as many, up to 32, as set them apart best
    #[arg(long, value_name = "N")]
    groups: Option<NonZeroUsize>,
    #[command(flatten)]
    classes: ClassArguments,
    /// Print one JSON object a line for each group: group, label, score, size and items, each with path and score
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filter: FilterArguments,
}

/// A group as it is printed.
#[derive(Debug)]
pub(super) struct Group<'a> {
    /// Counted from 1.
    pub(super) number: usize,
    /// The label nearest to its centre.
    pub(super) label: &'a str,
    /// The cosine of label and centre.
    pub(super) score: f32,
    /// Its items with their cosine to the centre, the nearest first.
    pub(super) items: Vec<(&'a Item, f32)>,
}

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<Outcome> {
    arguments.classes.labels()?;
    let index = arguments.index.open()?;
    let bundle = common.bundle(Towers::All)?;
    store::require_same_model(&index, &bundle)?;
    let (items, rows) = index.rows(&arguments.filter.filter(&index)?)?;
    if items.is_empty() {
        arguments.filter.say_unknown(&index, &[])?;
        if !common.quiet {
            report::notice("nothing found");
        }
        return Ok(Outcome::Incomplete);
    }
    let classes = arguments.classes.open(&bundle, rows.width(), common)?;
    let clusters = match arguments.groups {
        Some(groups) => Clusters::new(&rows, groups.get())?,
        None => Clusters::fitting(&rows)?,
    };
    let mut output = Output::new(arguments.json);
    for group in named(&clusters, &classes, &items)? {
        output.cluster(&group)?;
    }
    Ok(Outcome::Done)
}

fn named<'a>(
    clusters: &Clusters,
    classes: &'a ZeroShot,
    items: &'a [Item],
) -> Result<Vec<Group<'a>>> {
    let scores = clusters.centres().scores(classes.classes())?;
    let mut groups = Vec::new();
    for (scores, members) in scores.outer_iter().zip(clusters.members()) {
        let (label, score) = top_k(&scores.to_vec(), 1)[0];
        groups.push(Group {
            number: groups.len() + 1,
            label: &classes.labels()[label],
            score,
            items: members
                .into_iter()
                .map(|(row, score)| (&items[row], score))
                .collect(),
        });
    }
    Ok(groups)
}

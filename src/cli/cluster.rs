//! `diptych cluster`: an index's photos in groups, each named by a label.

use std::num::NonZeroUsize;

use anyhow::{Result, bail};
use clap::Args;
use diptych::{Bundle, Clusters, Index, Item, Towers, ZeroShot, top_k};

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
    /// The label nearest to its centre, with their cosine; none where the model knows no words.
    pub(super) label: Option<(&'a str, f32)>,
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
    let classes = classes(arguments, &index, &bundle, rows.width(), common)?;
    let clusters = match arguments.groups {
        Some(groups) => Clusters::new(&rows, groups.get())?,
        None => Clusters::fitting(&rows)?,
    };
    let mut output = Output::new(arguments.json);
    for group in named(&clusters, classes.as_ref(), &items)? {
        output.cluster(&group)?;
    }
    Ok(Outcome::Done)
}

/// The labels to name groups by; none where the index's rows are in no space of words.
fn classes(
    arguments: &Arguments,
    index: &Index,
    bundle: &Bundle,
    width: usize,
    common: &Common,
) -> Result<Option<ZeroShot>> {
    let why = match store::rows_of(index) {
        Some(rows) => format!("the index holds rows {rows} of images, which no words lie near"),
        None if bundle.text.is_none() => "the model has no text tower".to_owned(),
        None => return Ok(Some(arguments.classes.open(bundle, width, common)?)),
    };
    if arguments.classes.are_given() {
        bail!("{why}, so groups cannot be named by labels: leave --labels and --labels-file out");
    }
    if !common.quiet {
        report::notice(&format!("{why}: groups have no names"));
    }
    Ok(None)
}

fn named<'a>(
    clusters: &Clusters,
    classes: Option<&'a ZeroShot>,
    items: &'a [Item],
) -> Result<Vec<Group<'a>>> {
    let scores = classes.map(|classes| clusters.centres().scores(classes.classes()));
    let scores = scores.transpose()?;
    let mut groups = Vec::new();
    for (number, members) in clusters.members().into_iter().enumerate() {
        let label = classes.zip(scores.as_ref()).map(|(classes, scores)| {
            let (label, score) = top_k(&scores.row(number).to_vec(), 1)[0];
            (classes.labels()[label].as_str(), score)
        });
        groups.push(Group {
            number: number + 1,
            label,
            items: members
                .into_iter()
                .map(|(row, score)| (&items[row], score))
                .collect(),
        });
    }
    Ok(groups)
}

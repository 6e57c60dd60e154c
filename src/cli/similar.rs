//! `diptych similar`: groups of near-duplicates, the best of each first, and a plan that moves the others away.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use diptych::index::Stat;
use diptych::quarantine::{self, Plan, PlannedFile, PlannedGroup};
use diptych::{Item, Place, image_size};

use super::filter::{self, FilterArguments};
use super::output::{Output, counted};
use super::report::{self, Report};
use super::store::IndexArgument;
use super::{Common, Outcome};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    index: IndexArgument,
    /// How near others must be to the best of their group (cosine, -1 to 1)
    #[arg(long, value_name = "SCORE", default_value_t = 0.95, allow_negative_numbers = true, value_parser = filter::score)]
    threshold: f32,
    /// Write a plan that moves all but the best of each group away, for diptych quarantine; nothing is moved yet
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Print one JSON object a line for each group: group and items, each with path, score and keep
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filter: FilterArguments,
}

type Group = Vec<(Item, f32)>;

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<Outcome> {
    if let Some(plan) = arguments.plan.as_ref().filter(|plan| plan.exists()) {
        bail!(
            "{}: there is a file already, expected a new name for the plan",
            plan.display()
        );
    }
    let index = arguments.index.open()?;
    let filter = arguments.filter.filter(&index)?;
    let items = index.items(&filter)?;
    if items.is_empty() {
        arguments.filter.say_unknown(&index, &[])?;
        return Ok(nothing(common));
    }
    let mut report = common.report(items.len(), "files");
    let merits = merits(&items, &report);
    let better = |a: &Item, b: &Item| merits.get(&a.place).cmp(&merits.get(&b.place));
    let mut groups = index.similar(arguments.threshold, &filter, better)?;
    for group in &mut groups {
        drop_stale(group, &merits, &mut report);
        drop_same(group);
    }
    groups.retain(|group| group.len() > 1);
    let outcome = print(&groups, arguments, common, &mut report)?;
    Ok(match report.finish() {
        Outcome::Done => outcome,
        Outcome::Incomplete => Outcome::Incomplete,
    })
}

fn nothing(common: &Common) -> Outcome {
    if !common.quiet {
        report::notice("nothing found");
    }
    Outcome::Incomplete
}

fn print(
    groups: &[Group],
    arguments: &Arguments,
    common: &Common,
    report: &mut Report,
) -> Result<Outcome> {
    if groups.is_empty() {
        return Ok(nothing(common));
    }
    let mut output = Output::new(arguments.json);
    for (group, number) in groups.iter().zip(1..) {
        report.around(|| output.similar(number, group))?;
    }
    if let Some(path) = &arguments.plan {
        let plan = Plan::new(planned(groups, report));
        plan.write(path)?;
        say_planned(&plan, path, common);
    }
    Ok(Outcome::Done)
}

fn say_planned(plan: &Plan, path: &Path, common: &Common) {
    if common.quiet {
        return;
    }
    let files = plan.groups.iter().map(|group| group.moves.len()).sum();
    let files = counted(files, "file");
    let path = path.display();
    report::notice(&format!(
        "{files} to move: look at {path}, then run diptych quarantine {path} --to FOLDER"
    ));
}

/// What makes one file better than another that shows the same: the lesser is the better.
///
/// A file that is not as it was indexed is no use, and a link would lose what it leads to. Then more pixels are better,
/// more bytes, more age.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Merit {
    is_stale: bool,
    is_link: bool,
    pixels: Reverse<u64>,
    size: Reverse<u64>,
    modified: i64,
    place: Place,
}

fn merits(items: &[Item], report: &Report) -> HashMap<Place, Merit> {
    let merit = |item: &Item| {
        report.advance();
        (item.place.clone(), Merit::of(item))
    };
    items.iter().map(merit).collect()
}

impl Merit {
    fn of(item: &Item) -> Self {
        let mut merit = Self {
            is_stale: false,
            is_link: false,
            pixels: Reverse(0),
            size: Reverse(item.size),
            modified: item.modified,
            place: item.place.clone(),
        };
        if item.text.is_some() {
            return merit;
        }
        let path = item.place.path();
        let found = path.metadata().map(|metadata| Stat::of(&metadata));
        merit.is_stale = !found.is_ok_and(|found| found == item.stat());
        merit.is_link = path.is_symlink();
        if let (false, Ok((width, height))) = (merit.is_stale, image_size(&path)) {
            merit.pixels = Reverse(u64::from(width) * u64::from(height));
        }
        merit
    }
}

/// Leaves out what is not what its row is of any more.
fn drop_stale(group: &mut Group, merits: &HashMap<Place, Merit>, report: &mut Report) {
    group.retain(|(item, _)| {
        let is_stale = merits.get(&item.place).is_some_and(|merit| merit.is_stale);
        if is_stale {
            let path = item.place.path();
            let what = "gone or changed since it was indexed, left out; diptych index brings the index up to date";
            report.fail(&format!("{}: {what}", path.display()), None);
        }
        !is_stale
    });
}

/// Leaves out what is no copy: other names of the best file, and of the others, other ways to them by links to folders.
/// Other names of the others stay, since all of them are copies of the best.
fn drop_same(group: &mut Group) {
    let best = group.first().map(|(item, _)| item.place.clone());
    let mut seen = HashSet::new();
    group.retain(|(item, _)| {
        let path = item.place.path();
        let is_way_to_another = path.canonicalize().is_ok_and(|real| !seen.insert(real));
        let is_best_again = best.as_ref().is_some_and(|best| {
            *best != item.place && quarantine::is_same_file(&best.path(), &path)
        });
        !is_way_to_another && !is_best_again
    });
}

/// What is to be moved; links stay, and so does what a plan cannot name.
fn planned(groups: &[Group], report: &mut Report) -> Vec<PlannedGroup> {
    let mut planned = Vec::new();
    for group in groups {
        let mut files = group
            .iter()
            .filter_map(|(item, score)| planned_file(item, *score, report));
        if let Some(keep) = files.next() {
            let moves: Vec<PlannedFile> = files.collect();
            planned.push(PlannedGroup { keep, moves });
        }
    }
    planned.retain(|group| !group.moves.is_empty());
    planned
}

fn planned_file(item: &Item, score: f32, report: &mut Report) -> Option<PlannedFile> {
    let path = item.place.path();
    if item.text.is_some() || path.is_symlink() {
        return None;
    }
    if path.to_str().is_none() {
        let what = "not in the plan, which holds names in UTF-8 alone";
        report.fail(&format!("{}: {what}", path.display()), None);
        return None;
    }
    let mut file = PlannedFile::new(path, item.stat());
    file.score = Some(score);
    Some(file)
}

//! `diptych quarantine`: near-duplicates out of the way as a plan says, and back again.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use diptych::quarantine::{Fate, Plan, Quarantine};

use super::output::Output;
use super::report::Report;
use super::{Common, Outcome};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A plan that diptych similar --plan wrote
    #[arg(
        value_name = "PLAN",
        required_unless_present = "undo",
        conflicts_with = "undo"
    )]
    plan: Option<PathBuf>,
    /// The folder that files are moved to, each with the folders that it lay in. Nothing there is written over, and
    /// diptych index leaves it out
    #[arg(
        long,
        value_name = "FOLDER",
        required_unless_present = "undo",
        conflicts_with = "undo"
    )]
    to: Option<PathBuf>,
    /// Move everything in this folder back to where it was
    #[arg(long, value_name = "FOLDER")]
    undo: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was done, as it is printed.
#[derive(Debug, Default, serde::Serialize)]
pub(super) struct Summary {
    pub(super) moved: usize,
    /// Of the files that were moved.
    pub(super) bytes: u64,
    /// Moved by an earlier run.
    pub(super) before: usize,
    /// Left where they are.
    pub(super) skipped: usize,
}

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<Outcome> {
    let mut tally = Tally::default();
    let folder = match &arguments.undo {
        Some(folder) => {
            let mut quarantine = Quarantine::reopen(folder)?;
            tally.begin(quarantine.len(), common);
            quarantine.undo(|path, fate| tally.take(path, &fate));
            folder
        }
        None => {
            let plan = Plan::read(arguments.plan.as_deref().context("no plan given")?)?;
            let folder = arguments.to.as_ref().context("no folder given")?;
            let files = plan.groups.iter().map(|group| group.moves.len()).sum();
            tally.begin(files, common);
            let mut quarantine = Quarantine::open(folder)?;
            quarantine.carry_out(&plan, |path, fate| tally.take(path, &fate))?;
            folder
        }
    };
    let mut output = Output::new(arguments.json);
    output.quarantined(&tally.summary, folder, arguments.undo.is_some())?;
    Ok(tally.report.map_or(Outcome::Incomplete, Report::finish))
}

/// What has become of the files so far.
#[derive(Debug, Default)]
struct Tally {
    summary: Summary,
    report: Option<Report>,
}

impl Tally {
    fn begin(&mut self, files: usize, common: &Common) {
        self.report = Some(common.report(files, "files"));
    }

    fn take(&mut self, path: &Path, fate: &Fate) {
        match fate {
            Fate::Moved { size } => {
                self.summary.moved += 1;
                self.summary.bytes += size;
            }
            Fate::Before => self.summary.before += 1,
            Fate::Left(reason) => {
                self.summary.skipped += 1;
                if let Some(report) = &mut self.report {
                    report.fail(&format!("{}: not moved: {reason}", path.display()), None);
                }
            }
        }
        if let Some(report) = &self.report {
            report.advance();
        }
    }
}

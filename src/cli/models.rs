//! `diptych models`: which models of hubs lie in the cache, and which are good to begin with.

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use diptych::{CachedModel, HubModel, Layout};
use serde::{Deserialize, Serialize};

use super::output::Output;
use super::{Common, Outcome, report};

/// Good first choices. Figures stand there only with where they come from.
const SUGGESTED: &str = include_str!("../../assets/models.json");

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    /// Name some good first choices, which are fetched when a command is given one with --model
    #[arg(long)]
    suggest: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Remove a model from the cache, all its revisions; what Python's programs fetched of it too
    Rm {
        /// OWNER/NAME
        #[arg(value_name = "NAME", value_parser = without_revision)]
        name: HubModel,
    },
}

/// A name with a revision would seem to remove that revision alone.
fn without_revision(text: &str) -> Result<HubModel> {
    if text.contains('@') {
        bail!("found {text}, expected OWNER/NAME: all revisions of a model are removed together");
    }
    Ok(text.parse()?)
}

/// A model in the cache, as it is printed.
#[derive(Debug, Serialize)]
pub(super) struct Kept {
    pub(super) name: String,
    /// Bytes on the disk.
    pub(super) bytes: u64,
    /// How its files are laid out; none where it is no model that diptych knows.
    pub(super) layout: Option<&'static str>,
    /// Branches, tags and commits.
    pub(super) revisions: Vec<String>,
}

/// A good first choice, as it is printed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Suggested {
    pub(super) name: String,
    pub(super) note: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<String>,
    pub(super) languages: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) accuracy: Option<String>,
}

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<Outcome> {
    let mut output = Output::new(arguments.json);
    if let Some(Action::Rm { name }) = &arguments.action {
        let bytes = common.hub().remove_cached(name)?;
        output.model_removed(name.repository(), bytes)?;
        return Ok(Outcome::Done);
    }
    if arguments.suggest {
        let suggested: Vec<Suggested> =
            serde_json::from_str(SUGGESTED).context("the list of good first choices")?;
        suggested.iter().try_for_each(|one| output.suggested(one))?;
        return Ok(Outcome::Done);
    }
    let kept: Vec<Kept> = common
        .hub()
        .cached_models()?
        .into_iter()
        .map(kept)
        .collect();
    if kept.is_empty() && !common.quiet {
        report::notice("no model is in the cache; diptych models --suggest names some");
    }
    let width = kept.iter().map(|one| one.name.len()).max().unwrap_or(0);
    kept.iter()
        .try_for_each(|one| output.kept_model(one, width))?;
    Ok(Outcome::Done)
}

fn kept(model: CachedModel) -> Kept {
    let layout = model.revisions.iter().find_map(|revision| revision.layout);
    let mut revisions = Vec::new();
    for revision in model.revisions {
        match revision.names.is_empty() {
            true => revisions.push(revision.commit),
            false => revisions.extend(revision.names),
        }
    }
    Kept {
        name: model.repository,
        bytes: model.bytes,
        layout: layout.map(Layout::name),
        revisions,
    }
}

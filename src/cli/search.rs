//! `diptych search`: the photos or texts of an index that fit words and images.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use diptych::{Bundle, DualEncoder, Hit, Index, ItemFilter, Kind, SearchOptions, Towers};

use super::output::{HitStyle, Output};
use super::store::{self, IndexArgument};
use super::{Common, ImageArguments, Outcome, dates, query, report};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What to find: words, or the path of an image. Several are added up: "red car" +photo.jpg -night 2:beach, where -
    /// leads away from what follows and 2: counts it twice
    #[arg(required = true, value_name = "QUERY")]
    query: Vec<String>,
    #[command(flatten)]
    index: IndexArgument,
    /// Print the best N; 0 prints all
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
    /// Leave out the first N
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: usize,
    /// Leave out hits of a lower score (cosine, -1 to 1)
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true, value_parser = score)]
    min_score: Option<f32>,
    #[command(flatten)]
    filter: FilterArguments,
    /// Print one JSON object a line: path, score and rank
    #[arg(long, conflicts_with = "print0")]
    json: bool,
    /// Print paths alone
    #[arg(long)]
    paths: bool,
    /// Print paths alone, each followed by a NUL instead of a line end, for xargs -0
    #[arg(long)]
    print0: bool,
    #[command(flatten)]
    images: ImageArguments,
}

/// Which items of an index a command looks at.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which items")]
pub(super) struct FilterArguments {
    /// Only below this folder; may be given several times
    #[arg(long = "in", value_name = "FOLDER")]
    within: Vec<PathBuf>,
    /// Not below this folder; may be given several times
    #[arg(long = "not-in", value_name = "FOLDER")]
    not_within: Vec<PathBuf>,
    /// Only files changed at this time or later: 2024-07-31, 2024, 7d (seven days back from now)
    #[arg(long, value_name = "TIME", value_parser = dates::since)]
    since: Option<i64>,
    /// Only files changed up to this time; a date takes in all of it
    #[arg(long, value_name = "TIME", value_parser = dates::until)]
    until: Option<i64>,
    /// Images or texts; without it, images if there are any
    #[arg(long, value_name = "KIND")]
    kind: Option<KindArgument>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArgument {
    Images,
    Texts,
}

impl FilterArguments {
    pub(super) fn filter(&self, index: &Index) -> Result<ItemFilter> {
        let kind = match self.kind {
            Some(KindArgument::Images) => Kind::Image,
            Some(KindArgument::Texts) => Kind::Text,
            // Texts lie nearer to a text than any image does, and would hide all images.
            None if index.has_images()? => Kind::Image,
            None => Kind::Text,
        };
        let absolute = |paths: &[PathBuf]| -> Result<Vec<PathBuf>> {
            let absolute =
                |path: &PathBuf| path.canonicalize().or_else(|_| std::path::absolute(path));
            Ok(paths.iter().map(absolute).collect::<Result<_, _>>()?)
        };
        Ok(ItemFilter {
            kind: Some(kind),
            within: absolute(&self.within)?,
            not_within: absolute(&self.not_within)?,
            since: self.since,
            until: self.until,
        })
    }
}

fn score(text: &str) -> Result<f32, String> {
    let value: Option<f32> = text.parse().ok();
    value
        .filter(|value| (-1.0..=1.0).contains(value))
        .ok_or_else(|| "expected a cosine from -1 to 1".to_owned())
}

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<Outcome> {
    let terms = query::parse(&arguments.query)?;
    let index = arguments.index.open()?;
    let bundle = Bundle::open(common.model()?)?;
    store::require_same_model(&index, &store::identity(&bundle, &arguments.images)?)?;
    let towers = match query::kinds(&terms) {
        (true, false) => Towers::Text,
        (false, true) => Towers::Image,
        _ => Towers::All,
    };
    let encoder = DualEncoder::open_with(&bundle.path, &common.encoder_options(towers))?;
    let row = query::encode(
        &encoder,
        &terms,
        &common.pipeline_options(&arguments.images).image,
    )?;
    let options = SearchOptions {
        limit: arguments.limit,
        offset: arguments.offset,
        min_score: arguments.min_score,
        filter: arguments.filter.filter(&index)?,
    };
    let hits = index.search(&row, &options)?;
    print(&hits, arguments)?;
    if hits.is_empty() {
        if !common.quiet {
            report::notice("nothing found");
        }
        return Ok(Outcome::Incomplete);
    }
    Ok(Outcome::Done)
}

fn print(hits: &[Hit], arguments: &Arguments) -> Result<()> {
    let style = match arguments {
        Arguments { json: true, .. } => HitStyle::Json,
        Arguments { print0: true, .. } => HitStyle::Nul,
        Arguments { paths: true, .. } => HitStyle::Paths,
        _ => HitStyle::Lines,
    };
    let mut output = Output::new(arguments.json);
    for hit in hits {
        output.hit(hit, style)?;
    }
    Ok(())
}

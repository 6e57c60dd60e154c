//! `diptych search`: the photos or texts of an index that fit words and images.

use anyhow::Result;
use clap::Args;
use diptych::{Bundle, DualEncoder, Hit, SearchOptions, Towers};

use super::filter::{self, FilterArguments};
use super::output::{HitStyle, Output};
use super::store::{self, IndexArgument};
use super::{Common, ImageArguments, Outcome, query, report};

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
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true, value_parser = filter::score)]
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

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<Outcome> {
    let terms = query::parse(&arguments.query)?;
    let index = arguments.index.open()?;
    let bundle = Bundle::open(common.model()?)?;
    store::require_same_model(&index, &bundle)?;
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

//! `diptych search`: the photos or texts of an index that fit words and images.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};
use diptych::{Error, Hit, Kind, SearchOptions, Towers, pipeline};
use image::RgbImage;

use super::filter::{self, FilterArguments};
use super::output::{HitStyle, Output};
use super::report::Report;
use super::rows::RowsArgument;
use super::sheet::{self, Cell, Line, Sheet};
use super::store::{self, IndexArgument};
use super::terminal::{self, Protocol, Show};
use super::{Common, ImageArguments, Outcome, query, report};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What to find: words, or the path of an image. Several are added up: "red car" +photo.jpg -night 2:beach, where -
    /// leads away from what follows and 2: counts it twice
    #[arg(required = true, value_name = "QUERY")]
    query: Vec<OsString>,
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
    /// Print one JSON object a line: path, score and rank
    #[arg(long, conflicts_with = "print0")]
    json: bool,
    /// Print paths alone
    #[arg(long)]
    paths: bool,
    /// Print paths alone, each followed by a NUL instead of a line end, for xargs -0
    #[arg(long)]
    print0: bool,
    /// Show the photos in the terminal too: by kitty's protocol, iTerm2's or sixel, as the terminal can. It is known by
    /// its environment; where that says nothing, try --show=kitty, --show=iterm or --show=sixel
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "auto", value_enum, hide_possible_values = true, conflicts_with_all = ["json", "paths", "print0"])]
    show: Option<Show>,
    /// Draw a contact sheet too: every photo that was found, small, with its name, rank and score; a photo that is not
    /// there any more is an empty cell. FILE ends in .jpg, .jpeg, .png, .webp or .html, a page whose photos lead to
    /// their files
    #[arg(long, value_name = "FILE", value_parser = PathBufValueParser::new().try_map(sheet::target))]
    sheet: Option<sheet::Target>,
    #[command(flatten)]
    images: ImageArguments,
    #[command(flatten)]
    filter: FilterArguments,
}

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<Outcome> {
    let terms = query::parse(&arguments.query)?;
    for folder in query::names_of_folders(&terms).filter(|_| !common.quiet) {
        report::notice(&format!(
            "{folder}: searched as words, though a folder has this name; --in {folder} searches in it alone"
        ));
    }
    let index = arguments.index.open_store()?;
    let bundle = common.bundle(Towers::All)?;
    store::require_same_model(index.as_ref(), &bundle)?;
    let towers = match query::kinds(&terms) {
        (true, false) => Towers::Text,
        (false, true) => Towers::Image,
        _ => Towers::All,
    };
    let rows = store::rows_of(index.as_ref());
    if let (Some(rows), true) = (rows, towers != Towers::Image) {
        bail!("the index holds rows {rows} of images, which no words lie near: search by an image");
    }
    let options = RowsArgument { rows }.encoder_options(common, towers);
    let encoder = common.open(bundle, &options)?;
    let row = query::encode(
        &encoder,
        &terms,
        &common.pipeline_options(&arguments.images).image,
    )?;
    let options = SearchOptions {
        limit: arguments.limit,
        offset: arguments.offset,
        min_score: arguments.min_score,
        filter: arguments.filter.filter(index.as_ref())?,
    };
    let is_of_texts = options.filter.kind == Some(Kind::Text);
    if arguments.sheet.is_some() && is_of_texts {
        bail!("--sheet shows photos, and texts are searched: leave it out, or add --kind images");
    }
    let hits = index.search(&row, &options)?;
    arguments.filter.say_unknown(index.as_ref(), &hits)?;
    if hits.is_empty() {
        if !common.quiet {
            report::notice("nothing found");
        }
        return Ok(Outcome::Incomplete);
    }
    let mut output = Output::new(arguments.json);
    let protocol = protocol(arguments, common, is_of_texts);
    if protocol.is_none() {
        print(&hits, arguments, &mut output)?;
    }
    if protocol.is_none() && arguments.sheet.is_none() {
        return Ok(Outcome::Done);
    }
    with_photos(&hits, arguments, common, protocol, &mut output)
}

/// How photos are shown, if they can be and shall.
fn protocol(arguments: &Arguments, common: &Common, is_of_texts: bool) -> Option<Protocol> {
    let protocol = match arguments.show? {
        _ if is_of_texts => Err("no pictures are shown: texts have none"),
        show => show.protocol(),
    };
    match protocol {
        Ok(protocol) => Some(protocol),
        Err(why) => {
            if !common.quiet {
                report::notice(why);
            }
            None
        }
    }
}

fn print(hits: &[Hit], arguments: &Arguments, output: &mut Output) -> Result<()> {
    let style = match arguments {
        Arguments { json: true, .. } => HitStyle::Json,
        Arguments { print0: true, .. } => HitStyle::Nul,
        Arguments { paths: true, .. } => HitStyle::Paths,
        _ => HitStyle::Lines,
    };
    for hit in hits {
        output.hit(hit, style)?;
    }
    Ok(())
}

/// The photos that were found, shown one after the other with their lines, and put on a sheet.
fn with_photos(
    hits: &[Hit],
    arguments: &Arguments,
    common: &Common,
    protocol: Option<Protocol>,
    output: &mut Output,
) -> Result<Outcome> {
    let target = arguments.sheet.as_ref();
    let title = arguments.query.join(OsStr::new(" "));
    let title = title.to_string_lossy();
    let mut sheet = target
        .map(|target| Sheet::new(target, &title, hits.len(), 1))
        .transpose()?;
    let sides = target.map_or(terminal::THUMBNAIL, sheet::Target::thumbnail);
    let paths: Vec<PathBuf> = hits.iter().map(|hit| hit.item.place.path()).collect();
    // A bar would stand among the photos.
    let is_barless = common.quiet || protocol.is_some();
    let mut report = Report::new(hits.len(), "photos", is_barless);
    let mut hits = hits.iter();
    let mut outcome = Ok(());
    let options = common.pipeline_options(&arguments.images);
    pipeline::small_copies(&paths, sides, &options, |path, photo| {
        let Some(hit) = hits.next() else { return false };
        if let Err(error) = &photo {
            report.fail(&report::about(path, error), Some(error));
        }
        outcome =
            show(hit, photo.as_ref(), protocol, output, &report).and_then(|()| match &mut sheet {
                Some(sheet) => sheet.add(Cell {
                    path,
                    photo: photo.as_ref().map_err(word),
                    lines: vec![line(hit)],
                }),
                None => Ok(()),
            });
        report.advance();
        outcome.is_ok()
    });
    outcome?;
    if let (Some(sheet), false) = (&sheet, common.quiet) {
        report::notice(&sheet.summary());
    }
    Ok(report.finish())
}

/// A hit in the terminal: its photo, and its line under that.
fn show(
    hit: &Hit,
    photo: Result<&RgbImage, &Error>,
    protocol: Option<Protocol>,
    output: &mut Output,
    report: &Report,
) -> Result<()> {
    let Some(protocol) = protocol else {
        return Ok(());
    };
    let escape = photo.ok().map(|photo| protocol.escape(photo)).transpose()?;
    report.around(|| {
        output.picture(&escape.unwrap_or_default())?;
        Ok(output.hit(hit, HitStyle::Lines)?)
    })
}

/// Why a photo is not on the sheet.
fn word(error: &Error) -> &'static str {
    match error {
        Error::Read { source, .. } if source.kind() == ErrorKind::NotFound => "missing",
        _ => "failed",
    }
}

/// What a sheet says of a hit.
fn line(hit: &Hit) -> Line {
    Line {
        text: format!("{}.", hit.rank),
        figure: format!("{:.4}", hit.score),
        stands_out: true,
    }
}

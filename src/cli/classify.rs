//! `diptych classify`: labels × photos.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};
use diptych::{
    Bundle, Calibration, ClassCache, DualEncoder, Embeddings, Layout, Prediction, Towers, ZeroShot,
};

use super::classes::{self, ClassArguments};
use super::inputs::Images;
use super::output::{NONE_OF_THESE, Output, figure};
use super::sheet::{self, Cell, Line, Sheet};
use super::{Common, ImageArguments, Outcome, report, rows};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Photos, folders of photos, or - for one photo on standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    classes: ClassArguments,
    /// Print the best N labels of each photo
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// Leave out labels of a lower probability (0 to 1); a photo without any is "none of these". Without it, labels
    /// are left out whose score (cosine) is below what the model's diptych.json states as none_below; 0 leaves out none
    #[arg(long, value_name = "P", value_parser = probability)]
    threshold: Option<f32>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Draw a contact sheet too: every photo, small, with its name and its best labels, up to three; a photo that
    /// failed is an empty cell. FILE ends in .jpg, .jpeg, .png, .webp or .html. More than 500 photos make several pictures,
    /// with -1, -2 and so on before the ending, but one page of HTML
    #[arg(long, value_name = "FILE", value_parser = PathBufValueParser::new().try_map(sheet::target))]
    sheet: Option<sheet::Target>,
    #[command(flatten)]
    images: ImageArguments,
}

fn probability(text: &str) -> Result<f32, String> {
    let value: Option<f32> = text.parse().ok();
    value
        .filter(|value| (0.0..=1.0).contains(value))
        .ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<Outcome> {
    let labels = arguments.classes.labels()?;
    let images = Images::find(&arguments.paths);
    let bundle = common.bundle(Towers::All)?;
    let templates = arguments.classes.templates(&bundle)?;
    let (encoder, classes) = open(common, &bundle, &labels, &templates)?;
    let calibration = *encoder.calibration();
    let bar = Bar::new(arguments.threshold, bundle.head.none_below);
    if matches!(bar, Bar::Probability(_)) && calibration.logits(&[0.0]).is_none() {
        bail!(
            "--threshold needs probabilities, and no file of this bundle states its scale and bias; see diptych.json in onnx/README.md"
        );
    }

    let mut sheet = match &arguments.sheet {
        Some(target) => Some(Sheet::new(
            target,
            "Photos and their labels",
            images.len(),
            arguments.top.into(),
        )?),
        None => None,
    };
    let mut output = Output::new(arguments.json);
    let mut report = common.report(images.len(), "images");
    let mut options = common.pipeline_options(&arguments.images);
    options.thumbnail = arguments.sheet.as_ref().map(sheet::Target::thumbnail);
    rows::encode(&encoder, &images, &options, &mut report, |item| {
        let answer = match item.row {
            Ok(row) => {
                let predictions = best(&classes, row, &calibration, bar, arguments.top)?;
                output.predictions(item.path, &predictions)?;
                Some(predictions)
            }
            Err(message) => {
                output.failure(item.path, message)?;
                None
            }
        };
        match &mut sheet {
            Some(sheet) => sheet.add(Cell {
                path: item.path,
                photo: item.thumbnail.ok_or("failed"),
                lines: answer.as_deref().map(lines).unwrap_or_default(),
            }),
            None => Ok(()),
        }
    })?;
    if !common.quiet && !arguments.json {
        report::notice(&summary(&labels, &templates, &calibration, bar));
    }
    if let (Some(sheet), false) = (&sheet, common.quiet) {
        report::notice(&sheet.summary());
    }
    Ok(report.finish())
}

/// The encoder, without its text tower where the class matrix is in the cache.
fn open(
    common: &Common,
    bundle: &Bundle,
    labels: &[String],
    templates: &[String],
) -> Result<(DualEncoder, ZeroShot)> {
    let cache = ClassCache::new(bundle, labels, templates)?;
    if let Some(classes) = cache.read() {
        // One graph of both towers is loaded whole anyway, and may have to be asked for its scale.
        let towers = if bundle.layout == Layout::Combined {
            Towers::All
        } else {
            Towers::Image
        };
        let encoder = common.open(bundle.clone(), &common.encoder_options(towers))?;
        // A file that somebody else wrote there is as good as none.
        encoder.require_one_row()?;
        if classes.classes().width() == encoder.width() {
            return Ok((encoder, classes));
        }
    }
    let encoder = common.open(bundle.clone(), &common.encoder_options(Towers::All))?;
    encoder.image_tower()?;
    encoder.require_one_row()?;
    let classes = classes::encode(&encoder, &cache, labels, templates, common)?;
    Ok((encoder, classes))
}

/// What a label must reach to be named.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bar {
    Nothing,
    Probability(f32),
    /// A cosine.
    Score(f32),
}

impl Bar {
    /// `--threshold`, a probability, in place of what the bundle states, a cosine.
    fn new(threshold: Option<f32>, none_below: Option<f32>) -> Self {
        match (threshold, none_below) {
            (Some(0.0), _) | (None, None) => Bar::Nothing,
            (Some(probability), _) => Bar::Probability(probability),
            (None, Some(score)) => Bar::Score(score),
        }
    }

    fn is_reached(self, prediction: &Prediction<'_>) -> bool {
        match self {
            Bar::Nothing => true,
            Bar::Probability(least) => prediction.probability >= Some(least),
            Bar::Score(least) => prediction.score >= least,
        }
    }
}

/// The best labels of one image: at most `top`, each over the bar.
fn best<'a>(
    classes: &'a ZeroShot,
    row: &Embeddings,
    calibration: &Calibration,
    bar: Bar,
    top: u16,
) -> diptych::Result<Vec<Prediction<'a>>> {
    let mut predictions = classes.classify(row, calibration)?.swap_remove(0);
    predictions.retain(|prediction| bar.is_reached(prediction));
    predictions.truncate(top.into());
    Ok(predictions)
}

/// What a sheet says of a photo: its labels, of which the first stands out.
fn lines(predictions: &[Prediction<'_>]) -> Vec<Line> {
    if predictions.is_empty() {
        return vec![Line {
            text: NONE_OF_THESE.to_owned(),
            ..Line::default()
        }];
    }
    let line = |(place, prediction): (usize, &Prediction<'_>)| Line {
        text: prediction.label.to_owned(),
        figure: figure(prediction).trim_start().to_owned(),
        stands_out: place == 0,
    };
    predictions.iter().enumerate().map(line).collect()
}

/// Probabilities depend on labels, templates and scale, and "none of these" on a bar that nobody may have typed;
/// whoever compares answers must see these.
fn summary(labels: &[String], templates: &[String], calibration: &Calibration, bar: Bar) -> String {
    let template = match templates {
        [template] => format!("template {template:?}"),
        templates => format!("{} templates", templates.len()),
    };
    let scale = calibration.scale.map_or_else(
        || "scale unknown".to_owned(),
        |scale| format!("scale {scale:.2}"),
    );
    let bar = match bar {
        Bar::Score(score) => format!(", none of these below score {score}"),
        Bar::Nothing | Bar::Probability(_) => String::new(),
    };
    let noun = if labels.len() == 1 { "label" } else { "labels" };
    format!(
        "{} {noun}, {template}, {scale}, {}{bar}",
        labels.len(),
        calibration.activation.name()
    )
}

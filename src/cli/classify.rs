//! `diptych classify`: labels × photos.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use diptych::{
    Bundle, Calibration, ClassCache, DualEncoder, Embeddings, Layout, Prediction, Towers, ZeroShot,
};

use super::inputs::{self, Images};
use super::output::Output;
use super::{Common, ImageArguments, Outcome, report, rows};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Photos, folders of photos, or - for one photo on standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The labels to choose from, separated by commas; without it, several hundred everyday ones
    #[arg(long, value_name = "A,B,C", conflicts_with = "labels_file")]
    labels: Option<String>,
    /// A file of labels, one a line; blank lines and lines that begin with # are left out
    #[arg(long, value_name = "FILE")]
    labels_file: Option<PathBuf>,
    /// A sentence with {} where the label goes; may be given several times, the mean is taken
    #[arg(long = "template", value_name = "TEXT", conflicts_with = "prompts")]
    templates: Vec<String>,
    /// A set of templates: plain, openai-7, openai-80, or a file with one a line
    #[arg(long, value_name = "NAME")]
    prompts: Option<String>,
    /// Print the best N labels of each photo
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// Leave out labels of a lower probability (0 to 1); a photo without any is "none of these"
    #[arg(long, value_name = "P", value_parser = probability)]
    threshold: Option<f32>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
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
    let labels = inputs::labels(
        arguments.labels.as_deref(),
        arguments.labels_file.as_deref(),
    )?;
    let templates = inputs::templates(&arguments.templates, arguments.prompts.as_deref())?;
    let images = Images::find(&arguments.paths);
    let (encoder, classes) = open(common, &labels, &templates)?;
    let calibration = *encoder.calibration();
    if arguments.threshold.is_some() && calibration.logits(&[0.0]).is_none() {
        bail!(
            "--threshold needs probabilities, and no file of this bundle states its scale and bias; see diptych.json in onnx/README.md"
        );
    }

    let mut output = Output::new(arguments.json);
    let mut report = common.report(images.len(), "images");
    let options = common.pipeline_options(&arguments.images);
    rows::encode(
        &encoder,
        &images,
        &options,
        &mut report,
        |path, row| match row {
            Ok(row) => {
                Ok(output.predictions(path, &best(&classes, row, &calibration, arguments)?)?)
            }
            Err(message) => Ok(output.failure(path, message)?),
        },
    )?;
    if !common.quiet && !arguments.json {
        report::notice(&summary(&labels, &templates, &calibration));
    }
    Ok(report.finish())
}

/// The encoder, without its text tower where the class matrix is in the cache.
fn open(
    common: &Common,
    labels: &[String],
    templates: &[String],
) -> Result<(DualEncoder, ZeroShot)> {
    let model = common.model()?;
    let bundle = Bundle::open(&model)?;
    let cache = ClassCache::new(&bundle, labels, templates)?;
    if let Some(classes) = cache.read() {
        // One graph of both towers is loaded whole anyway, and may have to be asked for its scale.
        let towers = if bundle.layout == Layout::Combined {
            Towers::All
        } else {
            Towers::Image
        };
        let encoder = DualEncoder::open_with(&model, &common.encoder_options(towers))?;
        // A file that somebody else wrote there is as good as none.
        if classes.classes().width() == encoder.width() {
            return Ok((encoder, classes));
        }
    }
    let encoder = DualEncoder::open_with(&model, &common.encoder_options(Towers::All))?;
    encoder.image_tower()?;
    let classes = ZeroShot::new(&encoder, labels, templates)?;
    if let (Some(first), false) = (classes.cut().first(), common.quiet) {
        let limit = encoder.text_tower()?.tokenizer().settings().context_length;
        report::cut(classes.cut().len(), limit, first);
    }
    cache.keep(&classes);
    Ok((encoder, classes))
}

/// The best labels of one image, cut at `--threshold` and `--top`.
fn best<'a>(
    classes: &'a ZeroShot,
    row: &Embeddings,
    calibration: &Calibration,
    arguments: &Arguments,
) -> diptych::Result<Vec<Prediction<'a>>> {
    let mut predictions = classes.classify(row, calibration)?.swap_remove(0);
    let is_sure = |prediction: &Prediction<'_>| prediction.probability >= arguments.threshold;
    predictions.retain(is_sure);
    predictions.truncate(arguments.top.into());
    Ok(predictions)
}

/// Probabilities depend on labels, templates and scale; whoever compares them must see these.
fn summary(labels: &[String], templates: &[String], calibration: &Calibration) -> String {
    let template = match templates {
        [template] => format!("template {template:?}"),
        templates => format!("{} templates", templates.len()),
    };
    let scale = calibration.scale.map_or_else(
        || "scale unknown".to_owned(),
        |scale| format!("scale {scale:.2}"),
    );
    let noun = if labels.len() == 1 { "label" } else { "labels" };
    format!(
        "{} {noun}, {template}, {scale}, {}",
        labels.len(),
        calibration.activation.name()
    )
}

//! Why a model differs from a record: what is usually done wrongly is tried until the record's own numbers come out.

mod ids;
mod image_rows;
mod options;
mod pixels;
mod text_rows;

use super::compare::{Comparison, StageName, Verdict, distances};
use super::record::Record;
use crate::embedding::Embeddings;
use crate::encoder::{DualEncoder, ScaleOrigin};
use crate::error::Result;

/// Why a stage differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The stage.
    pub stage: StageName,
    /// What is done otherwise.
    pub kind: CauseKind,
    /// What was tried and what came out, in one sentence.
    pub explanation: String,
}

/// What is done otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CauseKind {
    /// An option such as `--dim`, of the run that made the record or of this one.
    Options,
    /// Start or end token.
    EndToken,
    /// How many ids a text may have.
    ContextLength,
    /// What follows the ids of a text.
    Padding,
    /// How texts are cleaned or cut into pieces.
    Cleaning,
    /// Which tokens there are.
    Vocabulary,
    /// To how many pixels.
    Size,
    /// Crop, squash or padding, and how sides are rounded.
    Resize,
    /// How pixels are weighed.
    Filter,
    /// The same filter, computed by a program that rounds otherwise.
    Resampler,
    /// Red before blue, or blue before red.
    Channels,
    /// What levels become.
    MeanAndStd,
    /// The graph itself.
    Weights,
    /// The step from scores to logits.
    Scale,
    /// Nothing that was tried gives the record's numbers.
    Unknown,
}

impl CauseKind {
    /// As it is printed, such as "mean and std".
    pub fn name(self) -> &'static str {
        match self {
            CauseKind::Options => "options",
            CauseKind::EndToken => "end token",
            CauseKind::ContextLength => "context length",
            CauseKind::Padding => "padding",
            CauseKind::Cleaning => "cleaning",
            CauseKind::Vocabulary => "vocabulary",
            CauseKind::Size => "size",
            CauseKind::Resize => "resize",
            CauseKind::Filter => "filter",
            CauseKind::Resampler => "resampler",
            CauseKind::Channels => "order of channels",
            CauseKind::MeanAndStd => "mean and std",
            CauseKind::Weights => "weights",
            CauseKind::Scale => "scale",
            CauseKind::Unknown => "unknown",
        }
    }
}

/// The causes of what differs: of pictures, texts and scale each at the first stage that does.
pub(super) fn find(
    encoder: &DualEncoder,
    comparison: &Comparison,
    found: &Record,
    record: &Record,
    tolerance: f64,
) -> Result<Vec<Cause>> {
    let differs = |name| {
        let mut stages = comparison.stages.iter();
        stages.any(|stage| stage.name == name && stage.verdict == Verdict::Differs)
    };
    let both = [found, record];
    let mut causes = Vec::new();
    if let (Some(found), Some(expected)) = (&found.texts, &record.texts) {
        let texts = text_rows::Texts::new(encoder, found, expected, tolerance)?;
        if differs(StageName::Ids) {
            causes.extend(of_ids(&texts, both)?);
        } else if differs(StageName::TextRows) {
            let dim = options::dim(StageName::TextRows, texts.rows(), both, tolerance);
            causes.push(dim.map_or_else(|| text_rows::find(&texts), Ok)?);
        }
    }
    if let (Some(found), Some(expected)) = (&found.images, &record.images) {
        let images = image_rows::Images::new(encoder, found, expected, tolerance)?;
        if differs(StageName::Pixels) {
            causes.extend(pixels::find(&images)?);
        } else if differs(StageName::ImageRows) {
            causes.extend(of_image_rows(encoder, &images, both, tolerance)?);
        }
    }
    // Options come first, since all else may follow from them; one may explain the rows of both towers.
    causes.sort_by_key(|cause| match (cause.kind, cause.stage) {
        (CauseKind::Options, StageName::TextRows) => 1,
        (CauseKind::Options, _) => 0,
        _ => 2,
    });
    causes.dedup_by(|b, a| a.kind == CauseKind::Options && a.explanation == b.explanation);
    if differs(StageName::Scale) {
        causes.push(scale(encoder, record));
    }
    Ok(causes)
}

/// Of other ids: options that differ, or else what is done otherwise.
fn of_ids(texts: &text_rows::Texts<'_>, both: [&Record; 2]) -> Result<Vec<Cause>> {
    let causes = options::of_texts(texts, both)?;
    match causes.is_empty() {
        true => ids::find(texts),
        false => Ok(causes),
    }
}

/// Of other rows of equal pictures: options that differ, or else the graph.
fn of_image_rows(
    encoder: &DualEncoder,
    images: &image_rows::Images<'_>,
    both: [&Record; 2],
    tolerance: f64,
) -> Result<Vec<Cause>> {
    let rows = options::rows(encoder, images, both)?;
    let dim = options::dim(StageName::ImageRows, images.rows(), both, tolerance);
    let causes: Vec<Cause> = rows.into_iter().chain(dim).collect();
    match causes.is_empty() {
        true => Ok(vec![image_rows::find(images)?]),
        false => Ok(causes),
    }
}

fn cause(stage: StageName, kind: CauseKind, explanation: impl Into<String>) -> Cause {
    Cause {
        stage,
        kind,
        explanation: explanation.into(),
    }
}

/// Whether every row lies within `tolerance` of the one beside it.
fn are_equal(found: &[Embeddings], expected: &[Embeddings], tolerance: f64) -> bool {
    distances(found, expected).is_some_and(|all| all.iter().all(|&far| far <= tolerance))
}

/// What rows look like whose inputs are equal and that nothing tried explains.
fn of_graph(stage: StageName, found: &[Embeddings], expected: &[Embeddings]) -> Cause {
    let Some(mut distances) = distances(found, expected) else {
        let explanation = "rows of another width: the graph is of another model, or another of its outputs is meant";
        return cause(stage, CauseKind::Weights, explanation);
    };
    distances.sort_by(f64::total_cmp);
    let middle = 1.0 - distances[distances.len() / 2];
    let explanation = if middle > 0.99 {
        "the same weights in another precision (half, quantised), or a graph exported with a slightly other operation \
         (quick_gelu for gelu)"
    } else if middle > 0.6 {
        "weights that are related: another checkpoint or a quantised one, or another activation (quick_gelu for gelu) or \
         output of the graph"
    } else {
        "other weights: the graph is of another model, or its rows are of another output than the record's"
    };
    let explanation = format!(
        "the graph is fed the same and gives rows of cosine {middle:.4} (median) with the record's: {explanation}"
    );
    cause(stage, CauseKind::Weights, explanation)
}

fn scale(encoder: &DualEncoder, record: &Record) -> Cause {
    let calibration = encoder.calibration();
    let own = calibration.scale;
    let is_near = |a: f32, b: f32| (a - b).abs() <= 1e-3 * b.abs();
    let explanation = match (own, record.scale) {
        (Some(own), Some(other)) if is_near(own, other) => head(encoder, record),
        (Some(own), Some(other)) if is_near(own.ln(), other) => {
            format!("the record's {other} is the logarithm of {own}: it is to be its exponential")
        }
        (Some(own), Some(other)) if is_near(own, other.ln()) => format!(
            "{own} is the logarithm of the record's {other}: logit_scale in diptych.json is what scores are multiplied by"
        ),
        (own, Some(other)) if own.is_none() || calibration.origin == ScaleOrigin::Assumed => {
            format!("no file states it: write \"logit_scale\": {other} into diptych.json")
        }
        (_, Some(other)) => {
            format!("a file states another: \"logit_scale\" in diptych.json should be {other}")
        }
        (_, None) => head(encoder, record),
    };
    cause(StageName::Scale, CauseKind::Scale, explanation)
}

/// What of the head differs where the scale does not: activation or bias.
fn head(encoder: &DualEncoder, record: &Record) -> String {
    match &record.activation {
        Some(activation) if activation != encoder.calibration().activation.name() => {
            format!("the families differ: write \"activation\": \"{activation}\" into diptych.json")
        }
        _ => {
            let bias = record.bias.unwrap_or(0.0);
            format!("another bias: write \"logit_bias\": {bias} into diptych.json")
        }
    }
}

//! The shapes of JSON lines that `output.rs` prints.

use std::borrow::Cow;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use diptych::quantize::GraphSizes;
use diptych::verify::{Changed, Check, Comparison, Cosines, Record};
use diptych::{Item, Prediction};
use serde::Serialize;

use super::output::Name;
use super::quantize::Made;

/// What was quantised, and what that costs.
#[derive(Debug, Serialize)]
pub(super) struct MadeLine<'a> {
    pub(super) model: Cow<'a, str>,
    /// The precision to name with the model, where its folder holds others.
    pub(super) precision: Option<&'a str>,
    pub(super) to: &'a str,
    pub(super) graphs: Vec<GraphLine<'a>>,
    pub(super) weights: WeightsLine,
    pub(super) images: Option<CosinesLine>,
    pub(super) texts: Option<CosinesLine>,
    pub(super) photos: usize,
    pub(super) changed: Vec<ChangedLine<'a>>,
    pub(super) min_cosine: f64,
    pub(super) holds: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct GraphLine<'a> {
    pub(super) graph: &'a str,
    pub(super) bytes_before: u64,
    pub(super) bytes: u64,
}

/// What weights became, as parts of all their values.
#[derive(Debug, Serialize)]
pub(super) struct WeightsLine {
    pub(super) in_8_bits: f64,
    pub(super) in_16_bits: f64,
    pub(super) as_before: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct CosinesLine {
    pub(super) rows: usize,
    pub(super) lowest_cosine: f64,
    pub(super) mean_cosine: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct ChangedLine<'a> {
    pub(super) photo: &'a str,
    pub(super) before: &'a str,
    pub(super) after: &'a str,
}

impl<'a> MadeLine<'a> {
    pub(super) fn of(made: &'a Made) -> Self {
        let cosines = |cosines: Option<Cosines>| {
            cosines.map(|cosines| CosinesLine {
                rows: cosines.rows,
                lowest_cosine: cosines.lowest,
                mean_cosine: cosines.mean,
            })
        };
        let graph = |graph: &'a GraphSizes| GraphLine {
            graph: &graph.name,
            bytes_before: graph.before,
            bytes: graph.after,
        };
        let [in_8_bits, in_16_bits, as_before] = made.weights().shares();
        let weights = WeightsLine {
            in_8_bits,
            in_16_bits,
            as_before,
        };
        let changed = |changed: &'a Changed| ChangedLine {
            photo: &changed.photo,
            before: &changed.before,
            after: &changed.after,
        };
        Self {
            model: made.folder.to_string_lossy(),
            precision: made.is_one_of_several.then(|| made.to.precision()),
            to: made.to.name(),
            graphs: made.graphs.iter().map(graph).collect(),
            weights,
            images: cosines(made.cost.images),
            texts: cosines(made.cost.texts),
            photos: made.cost.photos,
            changed: made.cost.changed.iter().map(changed).collect(),
            min_cosine: made.min_cosine,
            holds: made.holds(),
        }
    }
}

// The lines of JSON. Numbers are f32 all the way, so that they are printed with the digits that they have.

#[derive(Serialize)]
pub(super) struct PredictionsLine<'a> {
    pub(super) path: Cow<'a, str>,
    pub(super) predictions: Vec<PredictionLine<'a>>,
}

#[derive(Serialize)]
pub(super) struct PredictionLine<'a> {
    pub(super) label: &'a str,
    pub(super) score: f32,
    pub(super) logit: Option<f32>,
    pub(super) probability: Option<f32>,
}

impl<'a> From<&Prediction<'a>> for PredictionLine<'a> {
    fn from(prediction: &Prediction<'a>) -> Self {
        let Prediction {
            label,
            score,
            logit,
            probability,
        } = *prediction;
        Self {
            label,
            score,
            logit,
            probability,
        }
    }
}

#[derive(Serialize)]
pub(super) struct EmbeddingLine<'a> {
    #[serde(flatten)]
    pub(super) name: Name<'a>,
    pub(super) embedding: &'a [f32],
}

#[derive(Serialize)]
pub(super) struct PatchesLine<'a> {
    #[serde(flatten)]
    pub(super) name: Name<'a>,
    /// How many patches lie below each other, and side by side.
    pub(super) grid: (usize, usize),
    pub(super) embeddings: Vec<&'a [f32]>,
}

/// What an item is: an image by its path; a text by its file, its id there, and itself.
#[derive(Serialize)]
pub(super) struct ItemName<'a> {
    pub(super) path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<&'a str>,
}

impl<'a> From<&'a Item> for ItemName<'a> {
    fn from(item: &'a Item) -> Self {
        let Item { place, text, .. } = item;
        let text = text.as_deref();
        let (file, id) = match text {
            Some(_) => (
                Cow::Borrowed(&*place.folder),
                Some(place.name.to_string_lossy()),
            ),
            None => (Cow::Owned(place.path()), None),
        };
        Self {
            path: file.to_string_lossy().into_owned(),
            path_base64: path_base64(&file),
            id,
            text,
        }
    }
}

/// A path that is not Unicode, byte for byte.
pub(super) fn path_base64(path: &Path) -> Option<String> {
    let bytes = path.as_os_str().as_encoded_bytes();
    path.to_str().is_none().then(|| STANDARD.encode(bytes))
}

#[derive(Serialize)]
pub(super) struct HitLine<'a> {
    #[serde(flatten)]
    pub(super) name: ItemName<'a>,
    pub(super) score: f32,
    pub(super) rank: usize,
}

#[derive(Serialize)]
pub(super) struct SimilarLine<'a> {
    pub(super) group: usize,
    pub(super) items: Vec<SimilarItem<'a>>,
}

#[derive(Serialize)]
pub(super) struct SimilarItem<'a> {
    #[serde(flatten)]
    pub(super) name: ItemName<'a>,
    pub(super) score: f32,
    pub(super) keep: bool,
}

#[derive(Serialize)]
pub(super) struct ClusterLine<'a> {
    pub(super) group: usize,
    pub(super) label: Option<&'a str>,
    pub(super) score: Option<f32>,
    pub(super) size: usize,
    pub(super) items: Vec<ClusterItem<'a>>,
}

#[derive(Serialize)]
pub(super) struct ClusterItem<'a> {
    #[serde(flatten)]
    pub(super) name: ItemName<'a>,
    pub(super) score: f32,
}

#[derive(Serialize)]
pub(super) struct FailureLine<'a> {
    pub(super) path: Cow<'a, str>,
    pub(super) error: &'a str,
}

#[derive(Serialize)]
pub(super) struct ChecksLine<'a> {
    pub(super) holds: bool,
    pub(super) checks: Vec<CheckLine<'a>>,
}

#[derive(Serialize)]
pub(super) struct CheckLine<'a> {
    pub(super) check: &'static str,
    pub(super) holds: bool,
    pub(super) detail: &'a str,
}

impl<'a> ChecksLine<'a> {
    pub(super) fn of(checks: &'a [Check]) -> Self {
        let lines = checks.iter().map(|check| CheckLine {
            check: check.name,
            holds: check.holds,
            detail: &check.detail,
        });
        Self {
            holds: checks.iter().all(|check| check.holds),
            checks: lines.collect(),
        }
    }
}

#[derive(Serialize)]
pub(super) struct RecordedLine<'a> {
    pub(super) record: Cow<'a, str>,
}

#[derive(Serialize)]
pub(super) struct ComparisonLine<'a> {
    pub(super) equal: bool,
    pub(super) first_difference: Option<&'static str>,
    pub(super) made_by: String,
    pub(super) stages: Vec<StageLine<'a>>,
    pub(super) causes: Vec<CauseLine<'a>>,
    pub(super) remarks: &'a [String],
}

#[derive(Serialize)]
pub(super) struct CauseLine<'a> {
    pub(super) stage: &'static str,
    pub(super) cause: &'static str,
    pub(super) why: &'a str,
}

#[derive(Serialize)]
pub(super) struct StageLine<'a> {
    pub(super) stage: &'static str,
    pub(super) verdict: &'static str,
    pub(super) detail: &'a str,
}

impl<'a> ComparisonLine<'a> {
    pub(super) fn of(record: &Record, comparison: &'a Comparison) -> Self {
        let stages = comparison.stages.iter().map(|stage| StageLine {
            stage: stage.name.name(),
            verdict: stage.verdict.name(),
            detail: &stage.detail,
        });
        let causes = comparison.causes.iter().map(|cause| CauseLine {
            stage: cause.stage.name(),
            cause: cause.kind.name(),
            why: &cause.explanation,
        });
        Self {
            causes: causes.collect(),
            equal: comparison.is_equal(),
            first_difference: comparison.first_difference().map(|stage| stage.name.name()),
            made_by: record.made_by(),
            stages: stages.collect(),
            remarks: &comparison.remarks,
        }
    }
}

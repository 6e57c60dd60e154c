//! What a model gives beside what a record says it should give, stage by stage.

use std::path::Path;

use super::causes::{self, Cause};
use super::record::{ImageRecord, Record, TextRecord, unit_rows};
use crate::embedding::Embeddings;
use crate::encoder::DualEncoder;
use crate::error::Result;
use crate::preprocess::Reference;

/// How far values that a graph is fed may lie beside the record's. They are of the order of 1, and a step of one level
/// is 0.008 at least.
const VALUE_TOLERANCE: f32 = 1e-4;

/// How far a scale may lie beside the record's, as a part of it: a scale may be measured, or be kept as a logarithm.
const SCALE_TOLERANCE: f32 = 1e-4;

/// How far a bias may lie beside the record's.
const BIAS_TOLERANCE: f32 = 1e-3;

/// What a model gives, beside a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Every stage, in the order in which a fault would go through them.
    pub stages: Vec<Stage>,
    /// Why they differ: of texts, of pictures and of the scale each at its first stage that does.
    pub causes: Vec<Cause>,
    /// What is worth knowing and no difference.
    pub remarks: Vec<String>,
}

impl Comparison {
    /// The first stage that differs.
    pub fn first_difference(&self) -> Option<&Stage> {
        self.stages
            .iter()
            .find(|stage| stage.verdict == Verdict::Differs)
    }

    /// Whether no stage differs and at least one of ids, pixels and rows could be compared.
    pub fn is_equal(&self) -> bool {
        let is_compared =
            |stage: &Stage| stage.name != StageName::Scale && stage.verdict == Verdict::Equal;
        self.first_difference().is_none() && self.stages.iter().any(is_compared)
    }
}

/// A stage on the way from a picture or a text to a probability.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Which one.
    pub name: StageName,
    /// How it compares.
    pub verdict: Verdict,
    /// The figures: how many differ, and by how much.
    pub detail: String,
}

/// The name of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageName {
    /// Texts as token ids, with the padding that the graph sees.
    Ids,
    /// Pictures as levels after resize and crop, and as the values that the graph is fed.
    Pixels,
    /// What the image graph makes of them.
    ImageRows,
    /// What the text graph makes of the ids.
    TextRows,
    /// The step from scores to logits and probabilities.
    Scale,
}

impl StageName {
    /// As it is printed: "ids", "pixels", "image rows", "text rows" or "scale".
    pub fn name(self) -> &'static str {
        match self {
            StageName::Ids => "ids",
            StageName::Pixels => "pixels",
            StageName::ImageRows => "image rows",
            StageName::TextRows => "text rows",
            StageName::Scale => "scale",
        }
    }
}

/// How a stage compares with the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Within the tolerance.
    Equal,
    /// Further away.
    Differs,
    /// The record or the model has nothing there.
    NotCompared,
}

impl Verdict {
    /// As it is printed: "equal", "differs" or "not compared".
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Equal => "equal",
            Verdict::Differs => "differs",
            Verdict::NotCompared => "not compared",
        }
    }

    fn of(is_equal: bool) -> Self {
        if is_equal {
            Verdict::Equal
        } else {
            Verdict::Differs
        }
    }
}

/// What `encoder` gives, beside `record`.
///
/// Ids and levels of pixels must be equal (of [`Reference::Torchvision`], which makes none, within one), values that the
/// graph is fed within 1e-4, rows within `tolerance` of cosine
/// 1, the scale within a ten-thousandth of itself, the bias within 1e-3.
///
/// # Cost
///
/// That of [`Record::of`]; where something differs, some hundred times that of preparing the pictures, and some ten
/// times that of encoding them and the texts.
///
/// # Errors
///
/// Those of [`Record::of`]; [`Error::Config`](crate::Error::Config) if the record holds something that cannot be.
pub fn compare(encoder: &DualEncoder, record: &Record, tolerance: f64) -> Result<Comparison> {
    // One that was not read from a file was not looked at yet.
    record.require(Path::new("record"))?;
    let found = Record::of(encoder)?;
    let [pixels, image_rows] = match (&found.images, &record.images) {
        (Some(found), Some(expected)) => [
            pixels(found, expected, makes_levels(encoder)),
            image_stage(found, expected, tolerance)?,
        ],
        (found, expected) => [StageName::Pixels, StageName::ImageRows]
            .map(|name| missing(name, found.is_none(), expected.is_none(), "images")),
    };
    let mut remarks = Vec::new();
    let [ids, text_rows] = match (&found.texts, &record.texts) {
        (Some(found), Some(expected)) => {
            let rows = text_stage(found, expected, tolerance)?;
            [ids(found, expected, rows.verdict, &mut remarks), rows]
        }
        (found, expected) => [StageName::Ids, StageName::TextRows]
            .map(|name| missing(name, found.is_none(), expected.is_none(), "texts")),
    };
    let scale = scale(&found, record);
    let mut comparison = Comparison {
        stages: vec![ids, pixels, image_rows, text_rows, scale],
        causes: Vec::new(),
        remarks,
    };
    comparison.causes = causes::find(encoder, &comparison, &found, record, tolerance)?;
    Ok(comparison)
}

/// A model that lacks what the record has is not the record's. What the record lacks, it says nothing of.
fn missing(name: StageName, model_lacks: bool, record_lacks: bool, what: &str) -> Stage {
    let who = if record_lacks { "record" } else { "model" };
    Stage {
        name,
        verdict: match model_lacks && !record_lacks {
            true => Verdict::Differs,
            false => Verdict::NotCompared,
        },
        detail: format!("the {who} has no {what}"),
    }
}

/// Differing ids of any text; differing padding only where the rows differ too, since a graph may look past it.
fn ids(
    found: &[TextRecord],
    expected: &[TextRecord],
    rows: Verdict,
    remarks: &mut Vec<String>,
) -> Stage {
    let pairs = || found.iter().zip(expected);
    let others: Vec<_> = pairs().filter(|(a, b)| a.ids != b.ids).collect();
    let padded = pairs().find(|(a, b)| b.padding.is_some() && a.padding != b.padding);
    let (verdict, detail) = match (others.first(), padded) {
        (Some((a, b)), _) => {
            let count = format!("{} of {} texts", others.len(), found.len());
            (
                Verdict::Differs,
                format!("{count}; {}", first_other_id(a, b)),
            )
        }
        (None, Some((a, b))) if rows == Verdict::Differs => {
            let [a, b] = [a, b].map(|text| padding(text.padding));
            (
                Verdict::Differs,
                format!("padding {a}, in the record {b}; the texts' own ids are equal"),
            )
        }
        (None, padded) => {
            if let Some((a, b)) = padded {
                let [a, b] = [a, b].map(|text| padding(text.padding));
                remarks.push(format!(
                    "padding is {a}, in the record {b}, which changes no row"
                ));
            }
            (Verdict::Equal, format!("{} texts", found.len()))
        }
    };
    Stage {
        name: StageName::Ids,
        verdict,
        detail,
    }
}

fn first_other_id(found: &TextRecord, expected: &TextRecord) -> String {
    let (a, b) = (&found.ids, &expected.ids);
    let place = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let id = |ids: &[i64]| {
        ids.get(place)
            .map_or_else(|| "nothing".to_owned(), ToString::to_string)
    };
    let start: String = found.text.chars().take(30).collect();
    format!(
        "{start:?} has {} ids, in the record {}; the first to differ is number {}: {}, in the record {}",
        a.len(),
        b.len(),
        place + 1,
        id(a),
        id(b)
    )
}

fn padding(pads: Option<super::record::Pads>) -> String {
    pads.map_or_else(
        || "none that the graph sees".to_owned(),
        |pads| format!("with id {} to {}", pads.id, pads.length),
    )
}

/// How many levels of two equally large pictures differ, and by how much.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct LevelsBeside {
    pub(super) levels: usize,
    pub(super) differing: usize,
    pub(super) sum: u64,
    pub(super) most: u8,
}

impl LevelsBeside {
    pub(super) fn add(&mut self, found: &[u8], expected: &[u8]) {
        self.levels += found.len();
        for distance in found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)) {
            self.differing += usize::from(distance > 0);
            self.sum += u64::from(distance);
            self.most = self.most.max(distance);
        }
    }

    /// The mean distance of all levels.
    pub(super) fn mean(self) -> f64 {
        self.sum as f64 / self.levels.max(1) as f64
    }

    pub(super) fn share(self) -> f64 {
        self.differing as f64 / self.levels.max(1) as f64
    }
}

/// Whether pictures are levels between their resize and what the graph is fed. Where they are floats all along, levels
/// are rounded for the record alone, and a last bit may turn one.
fn makes_levels(encoder: &DualEncoder) -> bool {
    let tower = encoder.image_tower();
    tower.is_ok_and(|tower| tower.preprocess().reference != Reference::Torchvision)
}

fn pixels(found: &[ImageRecord], expected: &[ImageRecord], makes_levels: bool) -> Stage {
    let size = |image: &ImageRecord| (image.height, image.width);
    let pairs = || found.iter().zip(expected);
    let (verdict, detail) = if let Some((a, b)) = pairs().find(|(a, b)| size(a) != size(b)) {
        let [(a, b), (c, d)] = [a, b].map(size);
        (
            Verdict::Differs,
            format!("{a} x {b} pixels, in the record {c} x {d}"),
        )
    } else {
        let mut levels = LevelsBeside::default();
        pairs().for_each(|(a, b)| levels.add(&a.pixels, &b.pixels));
        let others = pairs().filter(|(a, b)| a.hash != b.hash).count();
        let values = furthest_value(found, expected);
        let are_levels_equal = others == 0 && levels.differing == 0;
        let is_rounding = !makes_levels && levels.most <= 1;
        let is_equal = (are_levels_equal || is_rounding) && values <= VALUE_TOLERANCE;
        let detail = match is_equal && !makes_levels {
            true => format!("{} pictures, values within {values:.1e}", found.len()),
            false => told(levels, others, found.len(), values),
        };
        (Verdict::of(is_equal), detail)
    };
    Stage {
        name: StageName::Pixels,
        verdict,
        detail,
    }
}

fn told(levels: LevelsBeside, others: usize, pictures: usize, values: f32) -> String {
    let levels = match (others, levels.differing) {
        (0, 0) => format!("{pictures} pictures, every level"),
        (_, 0) => format!(
            "{others} of {pictures} pictures differ, in less than one level of {}",
            levels.levels
        ),
        _ => format!(
            "{:.1} % of levels differ, in {others} of {pictures} pictures; by {:.2} on average, {} at most",
            100.0 * levels.share(),
            levels.mean(),
            levels.most
        ),
    };
    if values > VALUE_TOLERANCE {
        format!("{levels}; the values made of them differ by up to {values:.3}")
    } else {
        levels
    }
}

/// The largest distance of two values that the graph is fed. Infinite where one is not finite.
fn furthest_value(found: &[ImageRecord], expected: &[ImageRecord]) -> f32 {
    let pairs = found.iter().zip(expected);
    let distances = pairs.flat_map(|(a, b)| {
        let values = a.values().into_iter().zip(b.values());
        values.map(|(a, b)| (a - b).abs()).collect::<Vec<_>>()
    });
    distances.fold(0.0, |most, distance| {
        if distance.is_nan() {
            f32::INFINITY
        } else {
            most.max(distance)
        }
    })
}

fn image_stage(found: &[ImageRecord], expected: &[ImageRecord], tolerance: f64) -> Result<Stage> {
    let found = unit_rows(found.iter().map(|image| &image.row))?;
    let expected = unit_rows(expected.iter().map(|image| &image.row))?;
    Ok(rows(StageName::ImageRows, &found, &expected, tolerance))
}

fn text_stage(found: &[TextRecord], expected: &[TextRecord], tolerance: f64) -> Result<Stage> {
    let found = unit_rows(found.iter().map(|text| &text.row))?;
    let expected = unit_rows(expected.iter().map(|text| &text.row))?;
    Ok(rows(StageName::TextRows, &found, &expected, tolerance))
}

fn rows(name: StageName, found: &[Embeddings], expected: &[Embeddings], tolerance: f64) -> Stage {
    let widths = [found, expected].map(|rows| rows[0].width());
    let (verdict, detail) = match distances(found, expected) {
        None => (
            Verdict::Differs,
            format!("{} wide, in the record {}", widths[0], widths[1]),
        ),
        Some(distances) => {
            let others = distances.iter().filter(|&&far| far > tolerance).count();
            let furthest = distances.iter().copied().fold(0.0, f64::max);
            let count = match others {
                0 => format!("{} rows", found.len()),
                _ => format!("{others} of {} rows", found.len()),
            };
            let detail = format!("{count}, the furthest {furthest:.1e} from cosine 1");
            (Verdict::of(others == 0), detail)
        }
    };
    Stage {
        name,
        verdict,
        detail,
    }
}

/// How far from cosine 1 each row is from the one beside it, or nothing if they are not equally wide.
pub(super) fn distances(found: &[Embeddings], expected: &[Embeddings]) -> Option<Vec<f64>> {
    let pairs = || found.iter().zip(expected);
    if pairs().any(|(a, b)| a.width() != b.width()) {
        return None;
    }
    Some(pairs().map(|(a, b)| distance(a.row(0), b.row(0))).collect())
}

/// How far from cosine 1 two unit rows are. Summed from their difference, where the product would lose what is below
/// 1e-7.
pub(super) fn distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = a
        .iter()
        .zip(b)
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    squares.sum::<f64>() / 2.0
}

fn scale(found: &Record, expected: &Record) -> Stage {
    let mut differing = Vec::new();
    let mut equal = Vec::new();
    let mut put = |is_equal: bool, what: &str, found: String, expected: String| {
        if is_equal {
            equal.push(format!("{what} {found}"));
        } else {
            differing.push(format!("{what} {found}, in the record {expected}"));
        }
    };
    if let (Some(a), Some(b)) = (&found.activation, &expected.activation) {
        put(a == b, "activation", a.clone(), b.clone());
    }
    for (what, a, b, tolerance) in [
        ("scale", found.scale, expected.scale, None),
        ("bias", found.bias, expected.bias, Some(BIAS_TOLERANCE)),
    ] {
        if let Some(b) = b {
            let tolerance = tolerance.unwrap_or(SCALE_TOLERANCE * b.abs());
            let is_equal = a.is_some_and(|a| (a - b).abs() <= tolerance);
            let a = a.map_or_else(|| "not stated".to_owned(), |a| a.to_string());
            put(is_equal, what, a, b.to_string());
        }
    }
    let verdict = match (differing.is_empty(), expected.scale) {
        (false, _) => Verdict::Differs,
        (true, Some(_)) => Verdict::Equal,
        (true, None) => Verdict::NotCompared,
    };
    let detail = match verdict {
        Verdict::Differs => differing.join("; "),
        Verdict::Equal => equal.join(", "),
        Verdict::NotCompared => "the record has none".to_owned(),
    };
    Stage {
        name: StageName::Scale,
        verdict,
        detail,
    }
}

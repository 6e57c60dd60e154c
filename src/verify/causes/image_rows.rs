//! Other image rows from the same pixels, and what the search for causes needs of pictures.

use image::RgbImage;

use super::{Cause, CauseKind, are_equal, cause, of_graph};
use crate::embedding::Embeddings;
use crate::encoder::DualEncoder;
use crate::error::Result;
use crate::preprocess::Preprocess;
use crate::tower::ImageTower;
use crate::verify::compare::{LevelsBeside, StageName};
use crate::verify::probes;
use crate::verify::record::{ImageRecord, unit_rows};

/// Means and deviations that many models share.
const KNOWN: [(&str, [f64; 3], [f64; 3]); 4] = [
    (
        "OpenAI's",
        [0.481_454_66, 0.457_827_5, 0.408_210_73],
        [0.268_629_54, 0.261_302_58, 0.275_777_11],
    ),
    ("ImageNet's", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ("0.5 everywhere", [0.5; 3], [0.5; 3]),
    ("0 and 1, levels from 0 to 1", [0.0; 3], [1.0; 3]),
];

/// How far a mean or a deviation that was worked out from values may be off.
const MEAN_TOLERANCE: f64 = 1e-4;

/// Pictures, what the model makes of them, and what the record has.
pub(super) struct Images<'a> {
    tower: &'a ImageTower,
    pictures: Vec<RgbImage>,
    found: &'a [ImageRecord],
    expected: &'a [ImageRecord],
    rows: Vec<Embeddings>,
    expected_rows: Vec<Embeddings>,
    tolerance: f64,
}

/// What levels from 0 to 1 are reduced by and divided by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Normalisation {
    pub(super) mean: [f64; 3],
    pub(super) std: [f64; 3],
}

/// Values worked out from a record: in which order the channels are, and how levels become values.
pub(super) struct Order {
    pub(super) is_swapped: bool,
    /// Nothing if no mean and no std lead from the levels to the values.
    normalisation: Option<Normalisation>,
}

impl Normalisation {
    /// The one that many models share and that this is, within what a fit can tell.
    fn known(self) -> Option<(&'static str, Self)> {
        let mut known = KNOWN
            .into_iter()
            .map(|(name, mean, std)| (name, Self { mean, std }));
        known.find(|(_, known)| self.is_near(*known))
    }

    pub(super) fn told(self) -> String {
        let list = |values: [f64; 3]| values.map(|value| format!("{value:.4}")).join(", ");
        let figures = format!("mean {} and std {}", list(self.mean), list(self.std));
        match self.known() {
            Some((name, _)) => format!("{figures} ({name})"),
            None if self.std.iter().all(|std| *std < 0.01) => {
                format!("{figures} (levels that were not divided by 255)")
            }
            None => figures,
        }
    }

    /// The constants themselves, where they are known ones.
    fn exact(self) -> Self {
        self.known().map_or(self, |(_, known)| known)
    }

    fn is_near(self, other: Self) -> bool {
        let pairs = self.mean.into_iter().chain(self.std);
        let mut pairs = pairs.zip(other.mean.into_iter().chain(other.std));
        pairs.all(|(a, b)| (a - b).abs() < MEAN_TOLERANCE)
    }
}

impl<'a> Images<'a> {
    pub(super) fn new(
        encoder: &'a DualEncoder,
        found: &'a [ImageRecord],
        expected: &'a [ImageRecord],
        tolerance: f64,
    ) -> Result<Self> {
        let pictures = probes::pictures()?;
        Ok(Self {
            tower: encoder.image_tower()?,
            pictures: pictures.into_iter().map(|picture| picture.image).collect(),
            found,
            expected,
            rows: unit_rows(found.iter().map(|image| &image.row))?,
            expected_rows: unit_rows(expected.iter().map(|image| &image.row))?,
            tolerance,
        })
    }

    pub(super) fn preprocess(&self) -> &Preprocess {
        self.tower.preprocess()
    }

    pub(super) fn pictures(&self) -> impl Iterator<Item = &RgbImage> {
        self.pictures.iter()
    }

    pub(super) fn expected(&self) -> impl Iterator<Item = &ImageRecord> {
        self.expected.iter()
    }

    /// Height and width of the model's pictures.
    pub(super) fn size(&self) -> (u32, u32) {
        (self.found[0].height, self.found[0].width)
    }

    /// Height and width of the record's pictures.
    pub(super) fn record_size(&self) -> (u32, u32) {
        (self.expected[0].height, self.expected[0].width)
    }

    /// How far the model's pixels are from the record's.
    pub(super) fn levels_beside(&self) -> LevelsBeside {
        let mut levels = LevelsBeside::default();
        for (a, b) in self.found.iter().zip(self.expected) {
            levels.add(&a.pixels, &b.pixels);
        }
        levels
    }

    /// How the model's levels become values.
    pub(super) fn normalisation(&self) -> Normalisation {
        let preprocess = self.preprocess();
        // Without a rescale the values are of levels to 255.
        let unit = preprocess.rescale.map_or(255.0, |factor| factor * 255.0);
        Normalisation {
            mean: preprocess.mean.map(|mean| mean / unit),
            std: preprocess.std.map(|std| std / unit),
        }
    }

    /// How the record's levels become its values, if otherwise than the model's; an error if in no way that is known.
    pub(super) fn other_normalisation(&self) -> Option<Result<Normalisation, &'static str>> {
        match self.order_of_channels().normalisation {
            None => Some(Err(
                "the record's values are no scale and shift of its levels, in RGB or in BGR",
            )),
            Some(normalisation) if normalisation.is_near(self.normalisation()) => None,
            Some(normalisation) => Some(Ok(normalisation.exact())),
        }
    }

    /// Works out from the record's levels and values in which order its channels are, and its mean and std.
    pub(super) fn order_of_channels(&self) -> Order {
        let order = |is_swapped| Order {
            is_swapped,
            normalisation: fitted(self.expected, is_swapped),
        };
        let [plain, swapped] = [false, true].map(order);
        if plain.normalisation.is_none() && swapped.normalisation.is_some() {
            swapped
        } else {
            plain
        }
    }

    /// The model's rows and the record's, picture by picture.
    pub(super) fn rows(&self) -> [&[Embeddings]; 2] {
        [&self.rows, &self.expected_rows]
    }

    /// Whether `other` gives the record's rows.
    pub(super) fn are_those_of(&self, other: &DualEncoder) -> Result<bool> {
        let rows: Result<Vec<_>> = self
            .pictures
            .iter()
            .map(|picture| other.encode_images(std::slice::from_ref(picture)))
            .collect();
        Ok(are_equal(&rows?, &self.expected_rows, self.tolerance))
    }

    /// Whether the rows would be the record's with pictures prepared so. Nothing if the graph takes none of that size.
    pub(super) fn would_be_equal(
        &self,
        preprocess: &Preprocess,
        is_swapped: bool,
    ) -> Result<Option<bool>> {
        if self.size() != self.record_size() {
            return Ok(None);
        }
        let mut rows = Vec::new();
        for picture in &self.pictures {
            let mut picture = picture.clone();
            if is_swapped {
                swapped(&mut picture);
            }
            let mut values = vec![0.0; self.tower.values()];
            preprocess.write(&picture, &mut values);
            rows.push(self.tower.encode_prepared(values)?);
        }
        Ok(Some(are_equal(&rows, &self.expected_rows, self.tolerance)))
    }
}

/// Blue before red.
pub(super) fn swapped(pixels: &mut [u8]) {
    pixels
        .chunks_exact_mut(3)
        .for_each(|pixel| pixel.swap(0, 2));
}

/// The mean and std that lead from the levels of a record to its values, by least squares; nothing if none do.
fn fitted(images: &[ImageRecord], is_swapped: bool) -> Option<Normalisation> {
    let mut all = Normalisation {
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    for channel in 0..3 {
        let of = if is_swapped { 2 - channel } else { channel };
        let pairs: Vec<(f64, f64)> = images
            .iter()
            .flat_map(|image| {
                let levels = image.levels().into_iter().skip(of).step_by(3);
                let values = image.values().into_iter().skip(channel).step_by(3);
                levels
                    .map(|level| f64::from(level) / 255.0)
                    .zip(values.map(f64::from))
                    .collect::<Vec<_>>()
            })
            .collect();
        let (slope, start) = line(&pairs)?;
        all.std[channel] = 1.0 / slope;
        all.mean[channel] = -start / slope;
    }
    Some(all)
}

/// Slope and start of the line through points that lie on one.
fn line(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let count = points.len() as f64;
    let sum = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>();
    let (x, y) = (sum(|point| point.0) / count, sum(|point| point.1) / count);
    let spread = points
        .iter()
        .map(|point| (point.0 - x).powi(2))
        .sum::<f64>();
    let both = points
        .iter()
        .map(|point| (point.0 - x) * (point.1 - y))
        .sum::<f64>();
    let slope = both / spread;
    let start = y - slope * x;
    let is_line = points
        .iter()
        .all(|point| (slope * point.0 + start - point.1).abs() <= 1e-3 * slope.abs());
    (is_line && slope > 0.0 && slope.is_finite()).then_some((slope, start))
}

/// Why the rows differ where pixels and values do not.
pub(super) fn find(images: &Images<'_>) -> Result<Cause> {
    let own = images.preprocess().clone();
    let stage = StageName::ImageRows;
    // Swapped before they are normalised, or mean and std with them.
    let (mut mean, mut std) = (own.mean, own.std);
    mean.reverse();
    std.reverse();
    let reversed = Preprocess {
        mean,
        std,
        ..own.clone()
    };
    let is_bgr = |preprocess: &Preprocess| images.would_be_equal(preprocess, true);
    if is_bgr(&own)? == Some(true) || is_bgr(&reversed)? == Some(true) {
        let explanation = "fed with blue before red, the graph gives the record's rows: it was exported for BGR, or the \
                           record's model was fed so";
        return Ok(cause(stage, CauseKind::Channels, explanation));
    }
    let unscaled = ("levels from 0 to 255", [0.0; 3], [1.0 / 255.0; 3]);
    for (name, mean, std) in KNOWN.into_iter().chain([unscaled]) {
        let other = Preprocess {
            rescale: Some(1.0 / 255.0),
            mean,
            std,
            ..own.clone()
        };
        if images.would_be_equal(&other, false)? == Some(true) {
            let explanation = format!(
                "fed with mean and std of {name}, the graph gives the record's rows: the graph or the record normalises \
                 where the other does not"
            );
            return Ok(cause(stage, CauseKind::MeanAndStd, explanation));
        }
    }
    Ok(of_graph(stage, &images.rows, &images.expected_rows))
}

//! What can be said of a model without a record of its reference.

use image::{RgbImage, imageops};
use ndarray::Array2;

use super::compare::distance;
use super::probes::{self, Picture};
use crate::embedding::Embeddings;
use crate::encoder::{DualEncoder, EncoderOptions};
use crate::error::Result;

/// How far from cosine 1 a row may be from that of the same input beside others, or on other threads.
const STEADY: f64 = 1e-5;

/// The highest cosine that rows of different inputs may have.
const DIFFERENT: f32 = 0.995;

/// Of how many photos one may fail: small models, and no model that works, go wrong on one.
const FAILING: usize = 2;

/// Something that holds of a model, or does not.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// What is looked at, in a word or two.
    pub name: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// The figures, and where it does not hold, what usually causes that.
    pub detail: String,
}

/// Looks at what must hold of the model in `encoder`, which was opened with `options`, whatever its reference gives:
///
/// - rows are of unit length,
/// - neither a second run nor the batch nor the number of threads changes a row by more than 1e-5 of cosine 1,
/// - rows of different pictures, and of different captions, differ,
/// - a photo that is cut and darkened a little stays nearest to itself,
/// - photos fit their own captions best; this in a model of both towers alone.
///
/// The last two need trained weights and, for the captions, a model that knows English.
///
/// # Cost
///
/// Opens the model once more, when it has let go of `encoder`, and encodes some fifty small pictures and texts.
///
/// # Errors
///
/// Those of [`DualEncoder::from_bundle`], [`DualEncoder::encode_images`] and [`DualEncoder::encode_texts`].
pub fn self_check(encoder: DualEncoder, options: &EncoderOptions) -> Result<Vec<Check>> {
    encoder.require_one_row()?;
    let pictures = probes::pictures()?;
    let first = Rows::of(&encoder, &pictures, encoder.batch())?;
    let again = Rows::of(&encoder, &pictures, encoder.batch())?;
    let alone = Rows::of(&encoder, &pictures, 1)?;
    let copies = copies(&encoder, &pictures)?;
    let bundle = encoder.bundle().clone();
    drop(encoder);

    let threads = if options.threads == 1 { 2 } else { 1 };
    let options = EncoderOptions {
        threads,
        // What no file states was said when `encoder` was opened.
        notice: |_| (),
        ..options.clone()
    };
    let other = DualEncoder::from_bundle(bundle, &options)?;
    let other = Rows::of(&other, &pictures, other.batch())?;
    let mut checks = vec![
        first.unit_length(),
        first.same(
            "repetition",
            &again,
            "run again",
            "a graph with steps that are left to chance",
        ),
        first.same(
            "batches",
            &alone,
            "beside others and alone",
            "a quantised graph whose steps depend on the batch, or padding that the graph sees",
        ),
        first.same(
            "threads",
            &other,
            &format!(
                "on {threads} thread{} and on others",
                if threads == 1 { "" } else { "s" }
            ),
            "a graph whose sums depend on who adds them, by more than rounding",
        ),
        first.different(),
    ];
    checks.extend(
        first
            .images
            .as_ref()
            .zip(copies)
            .map(|(images, copies)| stay(images, &copies, &pictures)),
    );
    checks.extend(first.captions(&pictures)?);
    Ok(checks)
}

/// Rows of all pictures and of the texts, where there is a tower for them.
struct Rows {
    images: Option<Embeddings>,
    texts: Option<Embeddings>,
}

impl Rows {
    /// Encoded in runs of `batch`.
    fn of(encoder: &DualEncoder, pictures: &[Picture], batch: usize) -> Result<Self> {
        let images: Vec<RgbImage> = pictures
            .iter()
            .map(|picture| picture.image.clone())
            .collect();
        let all_images = || -> Result<Embeddings> {
            let parts: Result<Vec<_>> = images
                .chunks(batch)
                .map(|images| encoder.encode_images(images))
                .collect();
            Embeddings::concat(encoder.width(), &parts?)
        };
        let all_texts = || -> Result<Embeddings> {
            let texts = probes::texts();
            let parts: Result<Vec<_>> = texts
                .chunks(batch)
                .map(|texts| encoder.encode_texts(texts))
                .collect();
            Embeddings::concat(encoder.width(), &parts?)
        };
        Ok(Self {
            images: encoder.image_tower().is_ok().then(all_images).transpose()?,
            texts: encoder.text_tower().is_ok().then(all_texts).transpose()?,
        })
    }

    fn each(&self) -> impl Iterator<Item = &Embeddings> {
        self.images.iter().chain(&self.texts)
    }

    fn unit_length(&self) -> Check {
        let rows = || {
            self.each()
                .flat_map(|rows| (0..rows.len()).map(|row| rows.row(row)))
        };
        let norm = |row: &[f32]| {
            let squares = row.iter().map(|value| f64::from(*value).powi(2));
            squares.sum::<f64>().sqrt()
        };
        let furthest = rows()
            .map(|row| (norm(row) - 1.0).abs())
            .fold(0.0, f64::max);
        Check {
            name: "unit length",
            holds: furthest <= STEADY,
            detail: format!(
                "{} rows, the furthest {furthest:.1e} from length 1",
                rows().count()
            ),
        }
    }

    fn same(&self, name: &'static str, other: &Self, how: &str, usual: &str) -> Check {
        let pairs = self.each().zip(other.each());
        let distances =
            pairs.flat_map(|(a, b)| (0..a.len()).map(|row| distance(a.row(row), b.row(row))));
        let furthest = distances.fold(0.0, f64::max);
        let holds = furthest <= STEADY;
        let usual = if holds {
            String::new()
        } else {
            format!("; usually {usual}")
        };
        Check {
            name,
            holds,
            detail: format!("{how}: rows at most {furthest:.1e} from cosine 1{usual}"),
        }
    }

    /// No two pictures and no two captions have nearly the same row.
    fn different(&self) -> Check {
        let captions = self.texts.as_ref().map(captions);
        let highest = self
            .images
            .iter()
            .chain(&captions)
            .map(highest_cosine)
            .fold(-1.0, f32::max);
        let holds = highest < DIFFERENT;
        let usual = if holds {
            ""
        } else {
            "; usually the output of the graph is not that of its rows, or its input is not used"
        };
        Check {
            name: "differences",
            holds,
            detail: format!(
                "rows of different inputs have a cosine of {highest:.3} at most{usual}"
            ),
        }
    }

    /// Photos and their captions.
    fn captions(&self, pictures: &[Picture]) -> Result<Option<Check>> {
        let (Some(images), Some(texts)) = (&self.images, &self.texts) else {
            return Ok(None);
        };
        let photos: Vec<usize> = (0..pictures.len())
            .filter(|&number| pictures[number].caption.is_some())
            .collect();
        let scores = images.select(&photos).scores(&captions(texts))?;
        let own = own_first(&scores);
        let holds = own + FAILING >= photos.len();
        let usual = if holds {
            ""
        } else {
            ", where chance gives 1; usually weights that were not trained, towers of two models, pictures or texts that \
             are prepared otherwise than in training, or a model that knows no English; a record of its reference tells \
             (--against)"
        };
        Ok(Some(Check {
            name: "captions",
            holds,
            detail: format!(
                "{own} of {} photos fit their own caption best{usual}",
                photos.len()
            ),
        }))
    }
}

/// The rows of the photos' captions, which are the last of all texts.
fn captions(texts: &Embeddings) -> Embeddings {
    let count = probes::texts().len();
    let first = count - probes::captions().len();
    texts.select(&(first..count).collect::<Vec<_>>())
}

/// The highest cosine of two different rows.
fn highest_cosine(rows: &Embeddings) -> f32 {
    let scores = rows.rows().dot(&rows.rows().t());
    let pairs = scores.indexed_iter().filter(|((a, b), _)| a < b);
    pairs.map(|(_, &score)| score).fold(-1.0, f32::max)
}

/// In how many rows the score on the diagonal is the highest.
fn own_first(scores: &Array2<f32>) -> usize {
    let rows = scores.outer_iter().enumerate();
    let is_first = |(own, row): (usize, ndarray::ArrayView1<'_, f32>)| {
        row.iter()
            .enumerate()
            .all(|(other, &score)| other == own || score < row[own])
    };
    rows.map(is_first).filter(|&is_first| is_first).count()
}

/// A row of each picture with a twentieth cut off every side, and darker.
fn copies(encoder: &DualEncoder, pictures: &[Picture]) -> Result<Option<Embeddings>> {
    let copy = |picture: &Picture| {
        let (width, height) = picture.image.dimensions();
        let (left, top) = (width / 20, height / 20);
        let cut = imageops::crop_imm(
            &picture.image,
            left,
            top,
            width - 2 * left,
            height - 2 * top,
        );
        imageops::brighten(&cut.to_image(), -20)
    };
    let copies: Vec<RgbImage> = pictures.iter().map(copy).collect();
    let has_tower = encoder.image_tower().is_ok();
    has_tower
        .then(|| encoder.encode_images(&copies))
        .transpose()
}

/// Copies of photos stay nearest to what they are of.
fn stay(images: &Embeddings, copies: &Embeddings, pictures: &[Picture]) -> Check {
    let photos: Vec<usize> = (0..pictures.len())
        .filter(|&number| pictures[number].caption.is_some())
        .collect();
    let scores = copies
        .select(&photos)
        .rows()
        .dot(&images.select(&photos).rows().t());
    let own = own_first(&scores);
    let holds = own + 1 >= photos.len();
    let usual = if holds {
        ""
    } else {
        "; usually weights that were not trained, or pictures that reach the graph scrambled"
    };
    Check {
        name: "likeness",
        holds,
        detail: format!(
            "{own} of {} photos, cut and darkened a little, stay nearest to themselves{usual}",
            photos.len()
        ),
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn rows(values: Array2<f32>) -> Rows {
        Rows {
            images: Some(Embeddings::new(values).unwrap()),
            texts: None,
        }
    }

    #[test]
    fn rows_that_move_are_found() {
        let still = rows(array![[1.0, 0.0], [0.0, 1.0]]);
        // 1 - cos(0.01) is 5e-5, 1 - cos(0.001) is 5e-7.
        for (angle, holds) in [(0.01_f32, false), (0.001, true)] {
            let moved = rows(array![[1.0, 0.0], [angle.sin(), angle.cos()]]);
            let check = still.same("batches", &moved, "twice", "chance");
            assert_eq!(check.holds, holds, "{check:?}");
            assert_eq!(check.detail.contains("usually chance"), !holds);
        }
    }

    #[test]
    fn rows_that_are_all_alike_are_found() {
        assert!(rows(array![[1.0, 0.0], [0.0, 1.0]]).different().holds);
        assert!(
            !rows(array![[1.0, 0.0], [0.0, 1.0], [1.0, 0.05]])
                .different()
                .holds
        );
    }

    #[test]
    fn own_ones_come_first_or_not() {
        assert_eq!(own_first(&array![[0.9, 0.1], [0.2, 0.1]]), 1);
        // A tie tells nothing.
        assert_eq!(own_first(&array![[0.5, 0.5], [0.5, 0.5]]), 0);
    }
}

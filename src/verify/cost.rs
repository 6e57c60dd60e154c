//! What a change of a model costs: how far its rows are from those that it had, and which photos it now takes for others.

use super::compare::distances;
use super::probes;
use super::record::{Record, unit_rows};
use crate::embedding::{Embeddings, top_k};
use crate::error::{Error, Result};

/// How far the rows of a changed model are from those that it had.
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    /// Of pictures, where both models have a tower for them.
    pub images: Option<Cosines>,
    /// Of texts, where both models have a tower for them.
    pub texts: Option<Cosines>,
    /// How many photos were set beside captions: none where a tower is missing.
    pub photos: usize,
    /// Those that another caption fits best now.
    pub changed: Vec<Changed>,
}

/// Cosines of rows with those that they were.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cosines {
    /// How many rows.
    pub rows: usize,
    /// The lowest cosine.
    pub lowest: f64,
    /// The mean of all.
    pub mean: f64,
}

/// A photo that another caption fits best now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The photo's name.
    pub photo: String,
    /// The caption that fitted it best.
    pub before: String,
    /// The one that does now.
    pub after: String,
}

impl Cost {
    /// The lowest cosine of all rows; 1 where there are none.
    pub fn lowest(&self) -> f64 {
        let both = self.images.iter().chain(&self.texts);
        both.fold(1.0, |lowest, cosines| lowest.min(cosines.lowest))
    }
}

/// What the change from the model of record `before` to that of record `after` costs.
///
/// # Errors
///
/// [`Error::Width`] if rows are not as wide as they were; [`Error::NoDirection`] if one is none.
pub fn cost(before: &Record, after: &Record) -> Result<Cost> {
    let [images, texts] = [rows_of_images, rows_of_texts]
        .map(|rows| Ok((rows(before)?, rows(after)?)))
        .map(|both: Result<_>| both.map(|(before, after)| before.zip(after)));
    let (images, texts) = (images?, texts?);
    let changed = match (&images, &texts) {
        (Some(images), Some(texts)) => changed(images, texts)?,
        _ => Vec::new(),
    };
    let photos = match (&images, &texts) {
        (Some(_), Some(_)) => probes::captions().len(),
        _ => 0,
    };
    let cosines = |rows: Option<(Vec<Embeddings>, Vec<Embeddings>)>| {
        rows.map(|(before, after)| cosines(&before, &after))
            .transpose()
    };
    Ok(Cost {
        images: cosines(images)?,
        texts: cosines(texts)?,
        photos,
        changed,
    })
}

type Rows = Vec<Embeddings>;

fn rows_of_images(record: &Record) -> Result<Option<Rows>> {
    let images = record.images.as_ref();
    let rows = images.map(|images| unit_rows(images.iter().map(|image| &image.row)));
    rows.transpose()
}

fn rows_of_texts(record: &Record) -> Result<Option<Rows>> {
    let texts = record.texts.as_ref();
    let rows = texts.map(|texts| unit_rows(texts.iter().map(|text| &text.row)));
    rows.transpose()
}

fn cosines(before: &[Embeddings], after: &[Embeddings]) -> Result<Cosines> {
    let width = |rows: &[Embeddings]| rows.first().map_or(0, Embeddings::width);
    let distances = distances(after, before).ok_or(Error::Width {
        found: width(after),
        expected: width(before),
    })?;
    let cosines = || distances.iter().map(|far| 1.0 - far);
    Ok(Cosines {
        rows: distances.len(),
        lowest: cosines().fold(1.0, f64::min),
        mean: cosines().sum::<f64>() / distances.len().max(1) as f64,
    })
}

/// Photos whose best caption is another one than before.
fn changed(images: &(Rows, Rows), texts: &(Rows, Rows)) -> Result<Vec<Changed>> {
    let (captions, photos) = (probes::captions(), probes::photos());
    let best = |images: &[Embeddings], texts: &[Embeddings]| -> Result<Vec<usize>> {
        let first = texts.len() - captions.len();
        let texts = Embeddings::concat(texts[0].width(), &texts[first..])?;
        let best = |(place, _): &(usize, String)| {
            let scores = images[*place].scores(&texts)?;
            let scores: Vec<f32> = scores.iter().copied().collect();
            Ok(top_k(&scores, 1)[0].0)
        };
        photos.iter().map(best).collect()
    };
    let before = best(&images.0, &texts.0)?;
    let after = best(&images.1, &texts.1)?;
    let of = |((_, name), (before, after)): (&(usize, String), (&usize, &usize))| Changed {
        photo: name.clone(),
        before: captions[*before].clone(),
        after: captions[*after].clone(),
    };
    let pairs = photos.iter().zip(before.iter().zip(&after));
    Ok(pairs
        .filter(|(_, (before, after))| before != after)
        .map(of)
        .collect())
}

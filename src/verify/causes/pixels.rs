//! Other pixels: which other way of preparing pictures gives the record's.

use image::RgbImage;

use super::image_rows::{Images, Normalisation, swapped};
use super::{Cause, CauseKind, cause};
use crate::error::Result;
use crate::preprocess::{Preprocess, Reference, Resize};
use crate::resample::Filter;
use crate::verify::compare::{LevelsBeside, StageName};
use crate::verify::record::{hash, kept_pixels};

/// A way of preparing that may be the record's.
#[derive(Debug, Clone)]
struct Candidate {
    preprocess: Preprocess,
    is_swapped: bool,
}

/// A candidate with how far its pixels are from the record's.
struct Tried {
    candidate: Candidate,
    levels: LevelsBeside,
    changes: Vec<(CauseKind, String)>,
}

/// The causes of other pixels or values: one for each setting that has to change.
pub(super) fn find(images: &Images<'_>) -> Result<Vec<Cause>> {
    let (count, mut best) = nearest(images);
    let mut causes = of_levels(images, &best, count);
    let order = images.order_of_channels();
    if order.is_swapped {
        let explanation = "the record's graph is fed blue before red";
        causes.push(cause(StageName::Pixels, CauseKind::Channels, explanation));
    }
    match images.other_normalisation() {
        Some(Ok(other)) => {
            causes.push(of_values(other, images.normalisation()));
            other.put_into(&mut best.candidate.preprocess);
        }
        Some(Err(problem)) => causes.push(cause(StageName::Pixels, CauseKind::Unknown, problem)),
        None => (),
    }
    // What only comes near cannot be put right here.
    if best.levels.differing == 0 {
        let is_swapped = best.candidate.is_swapped != order.is_swapped;
        confirm(images, &best.candidate.preprocess, is_swapped, &mut causes)?;
    }
    Ok(causes)
}

/// The causes of other levels: what the best of `count` candidates does otherwise.
fn of_levels(images: &Images<'_>, best: &Tried, count: usize) -> Vec<Cause> {
    let of_changes = |how: &str| -> Vec<Cause> {
        let changes = best.changes.iter();
        changes
            .map(|(kind, change)| cause(StageName::Pixels, *kind, format!("{change} {how}")))
            .collect()
    };
    if best.levels.differing == 0 {
        if best.has_hashes(images) {
            return of_changes("gives every level of the record");
        }
        let mut causes = of_changes("gives all the levels that the record keeps");
        let others = "levels differ that the record does not keep, by few or by little".to_owned();
        causes.push(cause(StageName::Pixels, CauseKind::Resampler, others));
        return causes;
    }
    let Some(close) = best.close(images) else {
        let explanation = format!(
            "none of {count} ways of preparing (filters, crop, squash, padding, sizes, BGR) gives the record's pixels"
        );
        return vec![cause(StageName::Pixels, CauseKind::Unknown, explanation)];
    };
    let mut causes = of_changes("comes nearest");
    causes.push(cause(StageName::Pixels, CauseKind::Resampler, close));
    causes
}

fn of_values(record: Normalisation, own: Normalisation) -> Cause {
    let explanation = format!(
        "the record's values are of {}, the bundle's of {}",
        record.told(),
        own.told()
    );
    cause(StageName::Pixels, CauseKind::MeanAndStd, explanation)
}

/// Says at the end of the last cause whether the rows come out as well once all that was found is put right.
fn confirm(
    images: &Images<'_>,
    preprocess: &Preprocess,
    is_swapped: bool,
    causes: &mut [Cause],
) -> Result<()> {
    let is_found = causes.iter().all(|cause| cause.kind != CauseKind::Unknown);
    let Some(last) = causes.last_mut().filter(|_| is_found) else {
        return Ok(());
    };
    let Some(are_equal) = images.would_be_equal(preprocess, is_swapped)? else {
        return Ok(());
    };
    last.explanation += if are_equal {
        "; put right, the image rows are the record's too"
    } else {
        "; put right, the image rows still differ, so something else does too"
    };
    Ok(())
}

/// How many candidates there are, and the one whose pixels are nearest; of equals that with the fewest changes.
fn nearest(images: &Images<'_>) -> (usize, Tried) {
    let (height, width) = images.record_size();
    let mut candidates: Vec<Tried> = geometries(images.preprocess(), height, width)
        .into_iter()
        .flat_map(|preprocess| {
            [false, true].map(|is_swapped| Candidate {
                preprocess: preprocess.clone(),
                is_swapped,
            })
        })
        .map(|candidate| Tried {
            changes: changes(images, &candidate),
            levels: LevelsBeside::default(),
            candidate,
        })
        .collect();
    candidates.sort_by_key(|tried| tried.changes.len());
    let count = candidates.len();
    let mut best: Option<Tried> = None;
    for tried in candidates {
        let limit = best.as_ref().map_or(u64::MAX, |best| best.levels.sum);
        if let Some(levels) = try_on(images, &tried.candidate, limit) {
            best = Some(Tried { levels, ..tried });
        }
    }
    let best = best.unwrap_or_else(|| unreachable!("some candidates are of the record's size"));
    (count, best)
}

/// How far a candidate's pixels are from the record's, or nothing once they are no nearer than `limit`.
fn try_on(images: &Images<'_>, candidate: &Candidate, limit: u64) -> Option<LevelsBeside> {
    let mut levels = LevelsBeside::default();
    for (picture, expected) in images.pictures().zip(images.expected()) {
        if candidate
            .preprocess
            .output_size(picture.width(), picture.height())
            != (expected.width, expected.height)
        {
            return None;
        }
        levels.add(
            &kept_pixels(&prepared(picture, candidate)),
            &expected.pixels,
        );
        if levels.sum >= limit {
            return None;
        }
    }
    Some(levels)
}

fn prepared(picture: &RgbImage, candidate: &Candidate) -> RgbImage {
    let mut pixels = candidate.preprocess.pixels(picture);
    if candidate.is_swapped {
        swapped(&mut pixels);
    }
    pixels
}

/// The bundle's own way, and all others that give pictures of this size.
fn geometries(own: &Preprocess, height: u32, width: u32) -> Vec<Preprocess> {
    let mut all = vec![own.clone()];
    for reference in [
        own.reference,
        Reference::Transformers,
        Reference::OpenClip,
        Reference::Immich,
    ] {
        for filter in [own.filter].into_iter().chain(Filter::ALL) {
            for (resize, crop, fill) in shapes(own, height, width) {
                let candidate = Preprocess {
                    reference,
                    resize,
                    filter,
                    crop,
                    fill,
                    ..own.clone()
                };
                if !all.contains(&candidate) {
                    all.push(candidate);
                }
            }
        }
    }
    // Any size before the crop; with other filters too there would be too many.
    let side = height.min(width);
    for side in side..=side + side / 2 {
        let candidate = Preprocess {
            resize: Some(Resize::Shortest(side)),
            crop: Some((height, width)),
            ..own.clone()
        };
        if !all.contains(&candidate) {
            all.push(candidate);
        }
    }
    all
}

type Shape = (Option<Resize>, Option<(u32, u32)>, [u8; 3]);

/// Ways to come from any picture to this size.
fn shapes(own: &Preprocess, height: u32, width: u32) -> Vec<Shape> {
    let crop = Some((height, width));
    let side = height.min(width);
    let mut shapes: Vec<Shape> = vec![
        (own.resize, own.crop, own.fill),
        (Some(Resize::Shortest(side)), crop, [0; 3]),
        // 256 to 224 and its kin: evaluation of image classifiers.
        (Some(Resize::Shortest(side * 8 / 7)), crop, [0; 3]),
        (Some(Resize::Squash { height, width }), None, [0; 3]),
        (Some(Resize::Cover { height, width }), crop, [0; 3]),
        (None, crop, own.fill),
    ];
    for fill in [own.fill, [0; 3], [114; 3], [127; 3], [128; 3], [255; 3]] {
        shapes.push((Some(Resize::Longest { height, width }), crop, fill));
    }
    shapes
}

/// What a candidate does otherwise than the bundle, in words.
fn changes(images: &Images<'_>, candidate: &Candidate) -> Vec<(CauseKind, String)> {
    let (own, other) = (images.preprocess(), &candidate.preprocess);
    let mut changes = Vec::new();
    if (own.resize, own.crop, own.fill) != (other.resize, other.crop, other.fill) {
        let kind = match images.size() == images.record_size() {
            true => CauseKind::Resize,
            false => CauseKind::Size,
        };
        changes.push((kind, format!("{} in place of {}", shape(other), shape(own))));
    }
    if own.filter != other.filter {
        let change = format!("{} in place of {}", other.filter.name(), own.filter.name());
        changes.push((CauseKind::Filter, change));
    }
    if own.reference != other.reference {
        let change = format!(
            "sides and offsets rounded as {} does, in place of {}",
            other.reference.name(),
            own.reference.name()
        );
        changes.push((CauseKind::Resize, change));
    }
    if candidate.is_swapped {
        changes.push((CauseKind::Channels, "BGR in place of RGB".to_owned()));
    }
    changes
}

fn shape(preprocess: &Preprocess) -> String {
    let size = |(height, width): (u32, u32)| format!("{height} x {width}");
    let resize = match preprocess.resize {
        None => "no resize".to_owned(),
        Some(Resize::Shortest(side)) => format!("shortest side to {side}"),
        Some(Resize::Cover { height, width }) => format!("to cover {}", size((height, width))),
        Some(Resize::Longest { height, width }) => {
            let level = preprocess.fill[0];
            format!(
                "longest side into {} on level {level}",
                size((height, width))
            )
        }
        Some(Resize::Squash { height, width }) => format!("squash to {}", size((height, width))),
    };
    match preprocess.crop {
        Some(crop) if !matches!(preprocess.resize, Some(Resize::Longest { .. })) => {
            format!("{resize} and crop to {}", size(crop))
        }
        _ => resize,
    }
}

impl Tried {
    /// Whether the levels are the record's, of all pictures and also where it keeps no more than their hash.
    fn has_hashes(&self, images: &Images<'_>) -> bool {
        let mut pairs = images.pictures().zip(images.expected());
        pairs.all(|(picture, expected)| hash(&prepared(picture, &self.candidate)) == expected.hash)
    }

    /// How near the pixels are, where they are near enough to be of the same settings in another program.
    fn close(&self, images: &Images<'_>) -> Option<String> {
        let present = images.levels_beside();
        let is_near = self.levels.mean() < 1.0
            && (self.changes.is_empty() || self.levels.mean() < present.mean() / 3.0);
        is_near.then(|| {
            format!(
                "{:.1} % of levels differ, by {} at most: another program's resize (transformers' torchvision back-end, \
                 which is its default, or OpenCV); rows may differ by more than 1e-5 for it, see --tolerance",
                100.0 * self.levels.share(),
                self.levels.most
            )
        })
    }
}

impl Normalisation {
    fn put_into(self, preprocess: &mut Preprocess) {
        preprocess.rescale = Some(1.0 / 255.0);
        (preprocess.mean, preprocess.std) = (self.mean, self.std);
    }
}

//! Pillow's resampler for 8-bit RGB, bit for bit.
//!
//! Models are trained on images that Pillow shrank, so its rounding is part of what they expect: weights in 22-bit fixed
//! point, one pass along rows and one along columns, 8 bits between the two. Other resamplers of the same name differ
//! by up to six levels. Which size to resize to, and what to cut out, is `preprocess`'s concern.

use std::ops::Range;

use image::RgbImage;

/// Bits after the point of a weight: 32 less 8 for the level and 2 for sums below 0 or over 1.
const WEIGHT_BITS: u32 = 32 - 8 - 2;

/// Half a level, from which sums start so that the shift at their end rounds.
const HALF: i32 = 1 << (WEIGHT_BITS - 1);

/// Bytes of a pixel.
const CHANNELS: usize = 3;

/// How the pixels of a resized image are weighed, by Pillow's names.
///
/// All but [`Filter::Nearest`] widen with the shrink factor, which is what other libraries call antialiasing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filter {
    /// The one pixel under the centre.
    Nearest,
    /// The mean of all pixels under the output pixel.
    Box,
    /// A triangle, one pixel to each side.
    Bilinear,
    /// A Hamming-windowed sinc, one pixel to each side.
    Hamming,
    /// The cubic with a = −0.5 (Catmull-Rom), two pixels to each side. OpenCV's has a = −0.75.
    Bicubic,
    /// A sinc windowed by a sinc, three pixels to each side.
    Lanczos,
}

impl Filter {
    /// Every filter.
    pub const ALL: [Filter; 6] = [
        Filter::Nearest,
        Filter::Box,
        Filter::Bilinear,
        Filter::Hamming,
        Filter::Bicubic,
        Filter::Lanczos,
    ];

    /// The filter that Pillow numbers so, as `resample` in a `preprocessor_config.json` states it.
    ///
    /// # Example
    ///
    /// ```
    /// use diptych::Filter;
    ///
    /// assert_eq!(Filter::from_code(3), Some(Filter::Bicubic));
    /// assert_eq!(Filter::from_code(6), None);
    /// ```
    pub fn from_code(code: u64) -> Option<Filter> {
        Filter::ALL.into_iter().find(|filter| filter.code() == code)
    }

    /// The filter of this name in any case, as `interpolation` in open_clip's configs states it.
    ///
    /// # Example
    ///
    /// ```
    /// use diptych::Filter;
    ///
    /// assert_eq!(Filter::from_name("bicubic"), Some(Filter::Bicubic));
    /// assert_eq!(Filter::from_name("random"), None);
    /// ```
    pub fn from_name(name: &str) -> Option<Filter> {
        Filter::ALL
            .into_iter()
            .find(|filter| filter.name().eq_ignore_ascii_case(name))
    }

    /// Pillow's number for the filter.
    pub fn code(self) -> u64 {
        match self {
            Filter::Nearest => 0,
            Filter::Lanczos => 1,
            Filter::Bilinear => 2,
            Filter::Bicubic => 3,
            Filter::Box => 4,
            Filter::Hamming => 5,
        }
    }

    /// Pillow's name for the filter, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Filter::Nearest => "nearest",
            Filter::Box => "box",
            Filter::Bilinear => "bilinear",
            Filter::Hamming => "hamming",
            Filter::Bicubic => "bicubic",
            Filter::Lanczos => "lanczos",
        }
    }

    /// How far from the centre pixels count, in pixels of the smaller of the two images.
    pub(crate) fn support(self) -> f64 {
        match self {
            Filter::Nearest => 0.0,
            Filter::Box => 0.5,
            Filter::Bilinear | Filter::Hamming => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    /// The weight, before normalising, of a pixel at distance `x` from the centre.
    pub(crate) fn weight(self, x: f64) -> f64 {
        let distance = x.abs();
        match self {
            // Open on one side, closed on the other, so that a pixel on the border of two counts once.
            Filter::Nearest | Filter::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Filter::Bilinear => (1.0 - distance).max(0.0),
            Filter::Hamming if distance == 0.0 => 1.0,
            Filter::Hamming if distance >= 1.0 => 0.0,
            // The constants are C floats that widen: 0.54 in f64 would be another number.
            Filter::Hamming => {
                let angle = distance * std::f64::consts::PI;
                angle.sin() / angle * (f64::from(0.54_f32) + f64::from(0.46_f32) * angle.cos())
            }
            Filter::Bicubic if distance < 1.0 => (1.5 * distance - 2.5) * distance * distance + 1.0,
            Filter::Bicubic if distance < 2.0 => {
                (((distance - 5.0) * distance + 8.0) * distance - 4.0) * -0.5
            }
            Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Filter::Bicubic | Filter::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let angle = x * std::f64::consts::PI;
    angle.sin() / angle
}

/// The image resized to `width` × `height`, equal to Pillow's `Image.resize` to the last bit.
///
/// # Cost
///
/// For each output column and input row, twice the filter's support times the shrink factor: every input pixel is
/// multiplied about four times per channel with [`Filter::Bicubic`]. Memory is the output and one image of its width and
/// the input's height.
///
/// # Panics
///
/// If the image or the size asked for has a side of 0: neither is an image.
///
/// # Source
///
/// Pillow, `src/libImaging/Resample.c` and, for [`Filter::Nearest`], `ImagingScaleAffine` in `Geometry.c`. Equal to version 13; up to 12,
/// very tall images differ, see `rows_first` in the source. Equality holds where `sin` and `cos` come from the same C library; only [`Filter::Hamming`] and [`Filter::Lanczos`] use them.
///
/// # Example
///
/// ```
/// use diptych::{Filter, resize};
/// use image::{Rgb, RgbImage};
///
/// let stripes = RgbImage::from_fn(4, 2, |x, _| Rgb([if x < 2 { 0 } else { 100 }; 3]));
/// let small = resize(&stripes, 2, 1, Filter::Box);
/// assert_eq!(small.as_raw(), &[0, 0, 0, 100, 100, 100]);
/// ```
pub fn resize(image: &RgbImage, width: u32, height: u32, filter: Filter) -> RgbImage {
    resize_window(image, [width, height], [0..width, 0..height], filter)
}

/// The part `window` (columns, rows) of the image resized to `size` (width, height).
///
/// Equal to resizing and then cropping, for less work: weights depend on the whole size, but only those of the window are
/// computed and only the pixels that they need are read. A thin strip blown up to a giant costs no more than its window.
///
/// # Panics
///
/// If the image or `size` has a side of 0, or the window does not lie within `size`.
pub(crate) fn resize_window(
    image: &RgbImage,
    size: [u32; 2],
    window: [Range<u32>; 2],
    filter: Filter,
) -> RgbImage {
    let (from_width, from_height) = image.dimensions();
    let [width, height] = size;
    let [columns, rows] = window;
    assert!(
        from_width.min(from_height).min(width).min(height) > 0,
        "an image has no side of 0"
    );
    assert!(
        columns.start <= columns.end && columns.end <= width,
        "columns within the width"
    );
    assert!(
        rows.start <= rows.end && rows.end <= height,
        "rows within the height"
    );
    if filter == Filter::Nearest {
        let columns = nearest(from_width, width, columns);
        let rows = nearest(from_height, height, rows);
        return pick(image, &columns, &rows);
    }
    let mut columns = Taps::new(from_width, width, columns, filter);
    let mut rows = Taps::new(from_height, height, rows, filter);
    let stride = from_width as usize * CHANNELS;
    let blended = if rows_first([from_width, from_height], size) {
        let needed = columns.rebase();
        let part = needed.start * CHANNELS..needed.end * CHANNELS;
        let short = blend_rows(image.as_raw(), stride, part, &rows);
        blend_columns(&short, needed.len() * CHANNELS, &columns)
    } else {
        let needed = rows.rebase();
        let source = &image.as_raw()[needed.start * stride..needed.end * stride];
        let narrow = blend_columns(source, stride, &columns);
        let stride = columns.len() * CHANNELS;
        blend_rows(&narrow, stride, 0..stride, &rows)
    };
    // Lengths come from ranges of u32, and the vector is made of them.
    RgbImage::from_vec(columns.len() as u32, rows.len() as u32, blended).unwrap_or_default()
}

/// Whether rows are blended before columns: where the height loses over twice as many pixels as the width.
///
/// The order shows in the result, because levels are rounded and clipped between the passes. Pillow before 13 always
/// blended columns first; see its pull request 9549.
fn rows_first(from: [u32; 2], to: [u32; 2]) -> bool {
    let [across, down] = [0, 1].map(|axis| i64::from(from[axis]) - i64::from(to[axis]));
    down > (2 * across).max(0)
}

/// For each position of `window`, the pixel that it shows, or none where rounding errors add up to past the edge.
///
/// Positions are summed up step by step as Pillow does: multiplying would round otherwise.
fn nearest(from: u32, to: u32, window: Range<u32>) -> Vec<Option<u32>> {
    let step = f64::from(from) / f64::from(to);
    let mut position = step * 0.5;
    let mut picked = Vec::with_capacity(window.len());
    for index in 0..window.end {
        if index >= window.start {
            picked.push(Some(position as u32).filter(|&pixel| pixel < from));
        }
        position += step;
    }
    picked
}

fn pick(image: &RgbImage, columns: &[Option<u32>], rows: &[Option<u32>]) -> RgbImage {
    // Lengths come from ranges of u32.
    let mut picked = RgbImage::new(columns.len() as u32, rows.len() as u32);
    for (target, row) in picked.rows_mut().zip(rows) {
        let Some(row) = *row else { continue };
        for (pixel, column) in target.zip(columns) {
            if let Some(column) = *column {
                *pixel = *image.get_pixel(column, row);
            }
        }
    }
    picked
}

/// For each position of an axis, which pixels are weighed and how.
#[derive(Debug)]
struct Taps {
    /// The pixels that each position weighs.
    spans: Vec<Range<usize>>,
    /// The weights of all positions, in turn, in fixed point.
    weights: Vec<i32>,
}

impl Taps {
    /// The taps of the positions `window` of an axis that goes from `from` pixels to `to`.
    fn new(from: u32, to: u32, window: Range<u32>, filter: Filter) -> Taps {
        let mut taps = Taps {
            spans: Vec::with_capacity(window.len()),
            weights: Vec::new(),
        };
        let mut exact = Vec::new();
        for position in window {
            if from == to {
                // Pillow skips the pass; a weight of one gives the same.
                let pixel = position as usize;
                taps.spans.push(pixel..pixel + 1);
                taps.weights.push(1 << WEIGHT_BITS);
                continue;
            }
            taps.spans
                .push(weigh(from, to, position, filter, &mut exact));
            taps.weights
                .extend(exact.iter().map(|&weight| to_fixed(weight)));
        }
        taps
    }

    fn len(&self) -> usize {
        self.spans.len()
    }

    /// The pixels that any position weighs; from then on spans count from the first of them.
    fn rebase(&mut self) -> Range<usize> {
        // Spans ascend in both their ends.
        let first = self.spans.first().map_or(0, |span| span.start);
        let last = self.spans.last().map_or(0, |span| span.end);
        for span in &mut self.spans {
            *span = span.start - first..span.end - first;
        }
        first..last
    }

    /// Each position's pixels and their weights.
    fn iter(&self) -> impl Iterator<Item = (Range<usize>, &[i32])> {
        let mut rest = self.weights.as_slice();
        self.spans.iter().map(move |span| {
            let (weights, after) = rest.split_at(span.len());
            rest = after;
            (span.clone(), weights)
        })
    }
}

/// The pixels that `position` weighs; their weights, which sum to 1, go to `weights`.
fn weigh(
    from: u32,
    to: u32,
    position: u32,
    filter: Filter,
    weights: &mut Vec<f64>,
) -> Range<usize> {
    // Pillow holds the box to resize in C floats.
    let scale = f64::from(from as f32) / f64::from(to);
    let shrink = scale.max(1.0);
    let support = filter.support() * shrink;
    let centre = (f64::from(position) + 0.5) * scale;
    // `as` cuts towards 0 like a C cast, and takes what is below 0 to 0.
    let first = (centre - support + 0.5) as usize;
    let last = ((centre + support + 0.5) as usize).min(from as usize);
    let per_pixel = 1.0 / shrink;
    weights.clear();
    weights.extend(
        (first..last).map(|pixel| filter.weight((pixel as f64 - centre + 0.5) * per_pixel)),
    );
    let sum: f64 = weights.iter().fold(0.0, |sum, weight| sum + weight);
    if sum != 0.0 {
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }
    first..last.max(first)
}

/// The weight in fixed point, halves away from 0.
fn to_fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << WEIGHT_BITS);
    // `as` cuts towards 0.
    (if weight < 0.0 {
        scaled - 0.5
    } else {
        scaled + 0.5
    }) as i32
}

/// The level of a sum: halves up, then kept within 0 to 255.
fn to_level(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

/// Rows of `stride` bytes, each resampled.
fn blend_columns(source: &[u8], stride: usize, columns: &Taps) -> Vec<u8> {
    let width = columns.len() * CHANNELS;
    if stride == 0 || width == 0 {
        return Vec::new();
    }
    let mut blended = vec![0; source.len() / stride * width];
    for (row, target) in source
        .chunks_exact(stride)
        .zip(blended.chunks_exact_mut(width))
    {
        for (pixel, (span, weights)) in target.chunks_exact_mut(CHANNELS).zip(columns.iter()) {
            let sums = weigh_pixels(&row[span.start * CHANNELS..span.end * CHANNELS], weights);
            pixel.copy_from_slice(&sums.map(to_level));
        }
    }
    blended
}

#[inline]
fn weigh_pixels(pixels: &[u8], weights: &[i32]) -> [i32; CHANNELS] {
    let mut sums = [HALF; CHANNELS];
    for (pixel, &weight) in pixels.chunks_exact(CHANNELS).zip(weights) {
        for (sum, &level) in sums.iter_mut().zip(pixel) {
            *sum += i32::from(level) * weight;
        }
    }
    sums
}

/// The bytes `part` of rows that are each weighed from rows of `stride` bytes.
fn blend_rows(source: &[u8], stride: usize, part: Range<usize>, rows: &Taps) -> Vec<u8> {
    let mut blended = vec![0; rows.len() * part.len()];
    if part.is_empty() {
        return blended;
    }
    let mut sums = vec![0; part.len()];
    for (target, (span, weights)) in blended.chunks_exact_mut(part.len()).zip(rows.iter()) {
        sums.fill(HALF);
        let span = &source[span.start * stride..span.end * stride];
        for (row, &weight) in span.chunks_exact(stride).zip(weights) {
            for (sum, &level) in sums.iter_mut().zip(&row[part.clone()]) {
                *sum += i32::from(level) * weight;
            }
        }
        for (level, &sum) in target.iter_mut().zip(&sums) {
            *level = to_level(sum);
        }
    }
    blended
}

#[cfg(test)]
mod tests {
    use image::{Rgb, imageops};
    use proptest::prelude::*;

    use super::*;

    /// A filter's curve, written down anew.
    fn curve(filter: Filter, x: f64) -> f64 {
        let pi_x = std::f64::consts::PI * x.abs();
        match (filter, x.abs()) {
            (Filter::Box, _) if -0.5 < x && x <= 0.5 => 1.0,
            (Filter::Bilinear, d) if d < 1.0 => 1.0 - d,
            (Filter::Hamming, 0.0) => 1.0,
            (Filter::Hamming, d) if d < 1.0 => {
                pi_x.sin() / pi_x * (f64::from(0.54_f32) + f64::from(0.46_f32) * pi_x.cos())
            }
            (Filter::Bicubic, d) if d < 1.0 => (1.5 * d - 2.5) * d * d + 1.0,
            (Filter::Bicubic, d) if d < 2.0 => (((d - 5.0) * d + 8.0) * d - 4.0) * -0.5,
            (Filter::Lanczos, 0.0) => 1.0,
            (Filter::Lanczos, _) if (-3.0..3.0).contains(&x) => {
                let third = std::f64::consts::PI * (x / 3.0);
                let pi_x = std::f64::consts::PI * x;
                pi_x.sin() / pi_x * (third.sin() / third)
            }
            _ => 0.0,
        }
    }

    /// The level at `position` of a line of `from` levels that becomes `to` long: the formula, with nothing kept or cut.
    fn slow_level(
        line: &dyn Fn(u32) -> u8,
        from: u32,
        to: u32,
        position: u32,
        filter: Filter,
    ) -> u8 {
        if from == to {
            return line(position);
        }
        let scale = f64::from(from) / f64::from(to);
        let shrink = scale.max(1.0);
        let reach = shrink
            * match filter {
                Filter::Box => 0.5,
                Filter::Bicubic => 2.0,
                Filter::Lanczos => 3.0,
                _ => 1.0,
            };
        let centre = (f64::from(position) + 0.5) * scale;
        let first = (centre - reach + 0.5).max(0.0) as u32;
        let end = ((centre + reach + 0.5) as u32).min(from);
        let weight = |at: u32| curve(filter, (f64::from(at) - centre + 0.5) * (1.0 / shrink));
        let mut total = 0.0;
        for at in first..end {
            total += weight(at);
        }
        let mut sum = 1_i64 << 21;
        for at in first..end {
            let fixed = (weight(at) / total * 4_194_304.0).abs() + 0.5;
            sum += (fixed as i64) * (weight(at) / total).signum() as i64 * i64::from(line(at));
        }
        (sum >> 22).clamp(0, 255) as u8
    }

    fn slow_columns(image: &RgbImage, width: u32, filter: Filter) -> RgbImage {
        RgbImage::from_fn(width, image.height(), |x, y| {
            Rgb([0, 1, 2].map(|channel| {
                let line = |at| image.get_pixel(at, y)[channel];
                slow_level(&line, image.width(), width, x, filter)
            }))
        })
    }

    fn turned(image: &RgbImage) -> RgbImage {
        RgbImage::from_fn(image.height(), image.width(), |x, y| *image.get_pixel(y, x))
    }

    fn slow_rows(image: &RgbImage, height: u32, filter: Filter) -> RgbImage {
        turned(&slow_columns(&turned(image), height, filter))
    }

    fn slow_nearest(image: &RgbImage, width: u32, height: u32) -> RgbImage {
        let along = |from: u32, to: u32, position: u32| {
            let step = f64::from(from) / f64::from(to);
            let mut at = step * 0.5;
            for _ in 0..position {
                at += step;
            }
            at as u32
        };
        RgbImage::from_fn(width, height, |x, y| {
            let x = along(image.width(), width, x);
            let y = along(image.height(), height, y);
            image
                .get_pixel_checked(x, y)
                .copied()
                .unwrap_or(Rgb([0; 3]))
        })
    }

    fn slow_resize(image: &RgbImage, width: u32, height: u32, filter: Filter) -> RgbImage {
        let lost = |from: u32, to: u32| i64::from(from) - i64::from(to);
        let across = lost(image.width(), width);
        let down = lost(image.height(), height);
        if filter == Filter::Nearest {
            slow_nearest(image, width, height)
        } else if down > 0 && down > 2 * across {
            slow_columns(&slow_rows(image, height, filter), width, filter)
        } else {
            slow_rows(&slow_columns(image, width, filter), height, filter)
        }
    }

    fn filters() -> impl Strategy<Value = Filter> {
        prop::sample::select(Filter::ALL.as_slice())
    }

    /// Sides of one pixel, a few, and enough for several shapes of window.
    fn sides() -> impl Strategy<Value = u32> {
        prop_oneof![Just(1_u32), 2..5_u32, 5..40_u32, 100..300_u32]
    }

    fn images() -> impl Strategy<Value = RgbImage> {
        (sides(), sides(), any::<u32>(), any::<bool>()).prop_map(
            |(width, height, seed, is_harsh)| {
                RgbImage::from_fn(width, height, |x, y| {
                    let mut state =
                        seed ^ (x.wrapping_mul(0x9E37_79B1)) ^ (y.wrapping_mul(0x85EB_CA77));
                    Rgb([0; 3].map(|_: u8| {
                        state = state.wrapping_mul(0x2C1B_3C6D).rotate_left(13) ^ 0x5BD1_E995;
                        let level = (state >> 24) as u8;
                        if is_harsh { 255 * (level & 1) } else { level }
                    }))
                })
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn equals_the_formula(image in images(), width in sides(), height in sides(), filter in filters()) {
            prop_assert_eq!(resize(&image, width, height, filter), slow_resize(&image, width, height, filter));
        }

        #[test]
        fn a_window_is_a_crop(
            image in images(), width in sides(), height in sides(), filter in filters(), cut in any::<[u16; 4]>(),
        ) {
            let span = |side: u32, a: u16, b: u16| {
                let [a, b] = [a, b].map(|end| u32::from(end) % (side + 1));
                a.min(b)..a.max(b)
            };
            let columns = span(width, cut[0], cut[1]);
            let rows = span(height, cut[2], cut[3]);
            let whole = resize(&image, width, height, filter);
            let (wide, high) = (columns.end - columns.start, rows.end - rows.start);
            let crop = imageops::crop_imm(&whole, columns.start, rows.start, wide, high).to_image();
            let window = resize_window(&image, [width, height], [columns, rows], filter);
            prop_assert_eq!(window.as_raw(), crop.as_raw());
        }
    }

    /// A row of grey levels.
    fn row<const N: usize>(levels: [u8; N]) -> RgbImage {
        let bytes: Vec<u8> = levels.iter().flat_map(|&level| [level; 3]).collect();
        RgbImage::from_vec(N as u32, 1, bytes).expect("three bytes a level")
    }

    #[test]
    fn by_hand() {
        // Halving with a triangle: pixels at distances ¾, ¼, ¼, ¾ of its half width weigh 1/4, 3/4, 3/4, 1/4; at the
        // edge the pixel that is missing takes its part with it: (3 · 0 + 3 · 100 + 200) / 7 = 71.4.
        assert_eq!(
            resize(&row([0, 100, 200, 40]), 2, 1, Filter::Bilinear),
            row([71, 117])
        );
        // The mean, halves up.
        assert_eq!(resize(&row([0, 1, 2, 4]), 2, 1, Filter::Box), row([1, 3]));
        assert_eq!(
            resize(&row([1, 2, 3, 4]), 2, 1, Filter::Nearest),
            row([2, 4])
        );
        // Overshoot is clipped.
        assert_eq!(
            resize(&row([0, 0, 255, 255]), 8, 1, Filter::Bicubic).as_raw()[..3],
            [0, 0, 0]
        );
    }

    #[test]
    fn sizes_that_stay_are_copied() {
        let image = row([3, 1, 4, 1, 5]);
        for filter in Filter::ALL {
            assert_eq!(resize(&image, 5, 1, filter), image);
        }
    }

    #[test]
    fn a_giant_costs_only_its_window() {
        let thread = RgbImage::from_pixel(1, 60_000, Rgb([7; 3]));
        let size = [224, 224 * 60_000];
        let window = [0..224, 6_719_888..6_720_112];
        let cut = resize_window(&thread, size, window, Filter::Bicubic);
        assert!(cut.iter().all(|&level| level == 7));
        assert_eq!(cut.dimensions(), (224, 224));
    }

    #[test]
    fn tall_images_lose_rows_first() {
        assert!(!rows_first([4000, 3000], [298, 224]));
        assert!(!rows_first([3000, 4000], [224, 298]));
        assert!(!rows_first([100, 140], [50, 40]));
        assert!(rows_first([100, 141], [50, 40]));
        assert!(rows_first([100, 41], [120, 40]));
        assert!(!rows_first([100, 40], [500, 45]));
    }

    #[test]
    fn filters_have_one_code_and_one_name() {
        for filter in Filter::ALL {
            assert_eq!(Filter::from_code(filter.code()), Some(filter));
            assert_eq!(Filter::from_name(filter.name()), Some(filter));
            assert_eq!(
                Filter::from_name(&filter.name().to_uppercase()),
                Some(filter)
            );
        }
        assert_eq!(Filter::from_name("cubic"), None);
    }
}

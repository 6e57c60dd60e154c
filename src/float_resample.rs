//! torchvision's resampler for tensors of floats, with antialiasing: nothing is rounded to levels on the way.
//!
//! What `resample` is to Pillow. The arithmetic is that of PyTorch in f32, in its order, so that only the last bits
//! differ. Which size to resize to, and what to cut out, is `preprocess`'s concern.

use std::ops::Range;

use image::RgbImage;

use crate::resample::Filter;

/// Values of a pixel.
const CHANNELS: usize = 3;

/// The image resized to `size` (width, height), each level as the number that `scaled` has for it: row by row, red,
/// green, blue.
///
/// # Cost
///
/// Every level of the image is multiplied about twice; memory is the output and one image of its width and the input's
/// height, in f32.
///
/// # Panics
///
/// If the image or `size` has a side of 0.
///
/// # Source
///
/// torchvision's `resize` of a float tensor with `antialias=True`, which is PyTorch's `upsample_bilinear2d_aa` and
/// `upsample_bicubic2d_aa` on a processor: [`Filter::Bilinear`] and [`Filter::Bicubic`], to within 2e-6 of values from
/// 0 to 1. It knows no other filter with antialiasing; theirs are Pillow's weights.
pub(crate) fn resize_floats(
    image: &RgbImage,
    size: [u32; 2],
    filter: Filter,
    scaled: &[f32; 256],
) -> Vec<f32> {
    let (from_width, from_height) = image.dimensions();
    let sides = [from_width, from_height, size[0], size[1]];
    assert!(!sides.contains(&0), "an image has no side of 0");
    let columns = taps(from_width, size[0], filter);
    let rows = taps(from_height, size[1], filter);
    let stride = from_width as usize * CHANNELS;
    let width = columns.len() * CHANNELS;
    let mut narrow = Vec::with_capacity(from_height as usize * width);
    let mut values = vec![0.0; stride];
    for row in image.as_raw().chunks_exact(stride) {
        for (value, &level) in values.iter_mut().zip(row) {
            *value = scaled[usize::from(level)];
        }
        narrow.extend(columns.iter().flat_map(|tap| tap.weigh(&values)));
    }
    let mut resized = vec![0.0; rows.len() * width];
    for (target, tap) in resized.chunks_exact_mut(width).zip(&rows) {
        let span = &narrow[tap.span.start * width..tap.span.end * width];
        for (row, &weight) in span.chunks_exact(width).zip(&tap.weights) {
            for (sum, &value) in target.iter_mut().zip(row) {
                *sum += value * weight;
            }
        }
    }
    resized
}

/// The pixels that a position of an axis weighs, and their weights, which sum to 1.
struct Tap {
    span: Range<usize>,
    weights: Vec<f32>,
}

impl Tap {
    /// The position's pixel, out of a row's.
    fn weigh(&self, row: &[f32]) -> [f32; CHANNELS] {
        let mut sums = [0.0; CHANNELS];
        let pixels = &row[self.span.start * CHANNELS..self.span.end * CHANNELS];
        for (pixel, &weight) in pixels.chunks_exact(CHANNELS).zip(&self.weights) {
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum += value * weight;
            }
        }
        sums
    }
}

/// The taps of an axis that goes from `from` pixels to `to`.
///
/// What PyTorch holds in f32 is held in f32 here, which moves the weights of wide images by more than rounding would:
/// the centres and the support. The rest is computed in f64 and then rounded, as its C++ does.
fn taps(from: u32, to: u32, filter: Filter) -> Vec<Tap> {
    let scale = from as f32 / to as f32;
    let shrink = scale.max(1.0);
    let support = filter.support() as f32 * shrink;
    let per_pixel = 1.0 / shrink;
    // `as` cuts towards 0 like a C cast, and takes what is below 0 to 0.
    let cut = |end: f32| (f64::from(end) + 0.5) as usize;
    let tap = |position: u32| {
        let centre = (f64::from(scale) * (f64::from(position) + 0.5)) as f32;
        let first = cut(centre - support).min(from as usize - 1);
        let last = cut(centre + support).clamp(first + 1, from as usize);
        let weight = |pixel: usize| {
            let distance = (f64::from(pixel as f32 - centre) + 0.5) * f64::from(per_pixel);
            filter.weight(f64::from(distance as f32)) as f32
        };
        let mut weights: Vec<f32> = (first..last).map(weight).collect();
        let sum: f32 = weights.iter().sum();
        if sum != 0.0 {
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        Tap {
            span: first..last,
            weights,
        }
    };
    (0..to).map(tap).collect()
}

#[cfg(test)]
mod tests {
    use image::Rgb;
    use proptest::prelude::*;

    use super::*;
    use crate::resample::resize;

    fn levels() -> [f32; 256] {
        std::array::from_fn(|level| level as f32)
    }

    #[test]
    fn nothing_is_rounded() {
        let image = RgbImage::from_fn(2, 1, |x, _| Rgb([x as u8, 0, 255]));
        let half = resize_floats(&image, [1, 1], Filter::Bilinear, &levels());
        assert_eq!(half, [0.5, 0.0, 255.0]);
    }

    #[test]
    fn the_same_size_is_the_same_image() {
        let image = RgbImage::from_fn(7, 5, |x, y| Rgb([(x * y) as u8, x as u8, y as u8]));
        let values = resize_floats(&image, [7, 5], Filter::Bicubic, &levels());
        let expected: Vec<f32> = image.iter().map(|&level| f32::from(level)).collect();
        assert_eq!(values, expected);
    }

    proptest! {
        /// Pillow's is the same but for its rounding: half a level for each of two passes.
        #[test]
        fn near_to_pillows(width in 1..60u32, height in 1..60u32, wide in 1..40u32, high in 1..40u32) {
            let image = RgbImage::from_fn(width, height, |x, y| Rgb([(x * 37 + y * 91) as u8, (x * x) as u8, (y * 5) as u8]));
            let floats = resize_floats(&image, [wide, high], Filter::Bilinear, &levels());
            let pillows = resize(&image, wide, high, Filter::Bilinear);
            for (value, &level) in floats.iter().zip(pillows.iter()) {
                prop_assert!((value - f32::from(level)).abs() <= 1.01, "{value} beside {level}");
            }
        }
    }
}

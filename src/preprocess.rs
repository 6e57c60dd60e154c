//! Images to what an image tower eats: resized, cropped or padded, scaled and normalised as the model's reference does it.
//!
//! Plain data and arithmetic: where the settings come from is `bundle`'s concern, how a file becomes pixels
//! `image_file`'s, how pixels are weighed `resample`'s.

use std::ops::Range;

use image::{Rgb, RgbImage};
use ndarray::Array3;

use crate::float_resample::resize_floats;
use crate::resample::{Filter, resize, resize_window};

/// Channels of a tensor.
const CHANNELS: usize = 3;

/// The program whose arithmetic is followed.
///
/// All agree on what to do and differ in how they round: a photo of 640 × 427 is cut one pixel further left by
/// one than by another, and normalised values differ in their last bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reference {
    /// `transformers`' Pillow back-end (`CLIPImageProcessorPil` and its kin). Its torchvision back-end resizes otherwise.
    ///
    /// Sizes are cut to whole pixels, the crop's offset is rounded down, and the larger half of a padding goes to the
    /// left and the top. Levels are scaled in f64, then normalised in f32.
    Transformers,
    /// `open_clip`'s `image_transform_v2`, on an image that is RGB already.
    ///
    /// [`Resize::Shortest`] cuts to whole pixels; [`Resize::Cover`] and [`Resize::Longest`] round halves to even, and so
    /// does the crop's offset. The larger half of a padding goes to the right and the bottom.
    OpenClip,
    /// `transformers`' torchvision back-end as DINOv3 uses it (`DINOv3ViTImageProcessor`): levels are scaled first, then
    /// resized as f32, never rounded to levels again.
    ///
    /// Sizes are cut to whole pixels, the crop's offset is rounded down, and the larger half of a padding goes to the
    /// right and the bottom.
    Torchvision,
    /// immich's machine-learning service.
    ///
    /// Like open_clip's, but the ratio of the sides is rounded before it is multiplied, which changes the size for one
    /// shape in some thousands; the crop's offset is rounded towards 0; and normalising multiplies by 1 / std.
    Immich,
}

impl Reference {
    /// As `diptych info` names it.
    pub fn name(self) -> &'static str {
        match self {
            Reference::Transformers => "transformers, Pillow back-end",
            Reference::OpenClip => "open_clip",
            Reference::Torchvision => {
                "transformers, torchvision back-end, rescaled before the resize"
            }
            Reference::Immich => "immich's machine-learning service",
        }
    }
}

/// The size that an image is resized to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resize {
    /// The shorter side becomes this long, the ratio is kept.
    Shortest(u32),
    /// The smallest size of the image's ratio that covers this box.
    ///
    /// What open_clip does for "shortest" where the model's size is not a square. It leaves out the filter there, so that
    /// it is always [`Filter::Bicubic`], whatever the config says.
    Cover {
        /// Height of the box.
        height: u32,
        /// Width of the box.
        width: u32,
    },
    /// The largest size of the image's ratio that fits into this box.
    Longest {
        /// Height of the box.
        height: u32,
        /// Width of the box.
        width: u32,
    },
    /// Exactly this size, whatever becomes of the ratio.
    Squash {
        /// The height.
        height: u32,
        /// The width.
        width: u32,
    },
}

/// What a model wants done to an image, step by step in the order of the fields.
///
/// # Example
///
/// ```
/// use diptych::{Filter, Preprocess, Reference, Resize};
/// use image::{Rgb, RgbImage};
///
/// let preprocess = Preprocess {
///     reference: Reference::OpenClip,
///     resize: Some(Resize::Shortest(2)),
///     filter: Filter::Bicubic,
///     crop: Some((2, 2)),
///     fill: [0; 3],
///     rescale: Some(1.0 / 255.0),
///     mean: [0.5; 3],
///     std: [0.5; 3],
/// };
/// let white = RgbImage::from_pixel(8, 4, Rgb([255; 3]));
/// assert_eq!(preprocess.output_size(8, 4), (2, 2));
/// assert_eq!(preprocess.tensor(&white), ndarray::Array3::<f32>::ones((3, 2, 2)));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocess {
    /// Whose rounding is followed.
    pub reference: Reference,
    /// The size to resize to, if any.
    pub resize: Option<Resize>,
    /// How pixels are weighed when resizing.
    pub filter: Filter,
    /// Height and width that are cut from the centre, if any; what is smaller is padded.
    pub crop: Option<(u32, u32)>,
    /// The colour of padding. Only open_clip's "longest" has another than black.
    pub fill: [u8; 3],
    /// What levels of 0 to 255 are multiplied with, if anything; 1/255 as a rule.
    pub rescale: Option<f64>,
    /// What is taken off each channel: red, green, blue.
    pub mean: [f64; 3],
    /// What each channel is then divided by.
    pub std: [f64; 3],
}

impl Preprocess {
    /// Width and height of what an image of `width` × `height` becomes.
    pub fn output_size(&self, width: u32, height: u32) -> (u32, u32) {
        self.crop
            .map_or_else(|| self.resized(width, height), |(high, wide)| (wide, high))
    }

    /// The image resized and cropped or padded, before levels become numbers.
    ///
    /// # Cost
    ///
    /// One pass over those of the image's pixels that end up within the crop; see [`resize`](crate::resize).
    ///
    /// # Panics
    ///
    /// If the image has a side of 0.
    ///
    /// # Source
    ///
    /// Equal to the last bit to what the reference makes of the same RGB pixels. [`Reference::Torchvision`] makes no
    /// levels; these are the nearest to its numbers.
    pub fn pixels(&self, image: &RgbImage) -> RgbImage {
        if self.reference == Reference::Torchvision {
            return self.nearest_levels(image);
        }
        let (width, height) = self.resized(image.width(), image.height());
        let (wide, high) = self.output_size(image.width(), image.height());
        let left = self.offset(width, wide);
        let top = self.offset(height, high);
        let window = [within(left, wide, width), within(top, high, height)];
        let cut = resize_window(image, [width, height], window, self.filter);
        if cut.dimensions() == (wide, high) {
            return cut;
        }
        let mut padded = RgbImage::from_pixel(wide, high, Rgb(self.fill));
        image::imageops::replace(&mut padded, &cut, (-left).max(0), (-top).max(0));
        padded
    }

    /// Writes the image as the tower's input: red, then green, then blue, each row by row.
    ///
    /// # Shape and units
    ///
    /// 3 × H × W, H and W as [`Preprocess::output_size`] states; levels times `rescale`, less `mean`, over `std`.
    ///
    /// # Panics
    ///
    /// If the image has a side of 0, or `out` has another length than 3 · H · W.
    ///
    /// # Source
    ///
    /// Equal to the last bit to the reference's f32: the operations are done in its order and precision, once for each
    /// of the 256 levels. [`Reference::Torchvision`]'s sums are equal to within 1e-5 of a value, of the order of 1.
    pub fn write(&self, image: &RgbImage, out: &mut [f32]) {
        if self.reference == Reference::Torchvision {
            return self.write_floats(image, out);
        }
        let pixels = self.pixels(image);
        let plane = pixels.len() / CHANNELS;
        assert_eq!(out.len(), pixels.len(), "out holds 3 x H x W values");
        if plane == 0 {
            return;
        }
        for (channel, values) in out.chunks_exact_mut(plane).enumerate() {
            let table = self.table(channel);
            for (value, pixel) in values.iter_mut().zip(pixels.chunks_exact(CHANNELS)) {
                *value = table[usize::from(pixel[channel])];
            }
        }
    }

    /// [`Preprocess::write`] where levels are scaled before the image is resized.
    fn write_floats(&self, image: &RgbImage, out: &mut [f32]) {
        let floats = self.floats(image);
        let plane = floats.len() / CHANNELS;
        assert_eq!(out.len(), floats.len(), "out holds 3 x H x W values");
        for (channel, values) in out.chunks_exact_mut(plane.max(1)).enumerate() {
            let (mean, std) = (self.mean[channel] as f32, self.std[channel] as f32);
            for (value, pixel) in values.iter_mut().zip(floats.chunks_exact(CHANNELS)) {
                *value = (pixel[channel] - mean) / std;
            }
        }
    }

    /// The image as scaled levels, resized and cropped or padded with zeros: row by row, red, green, blue.
    fn floats(&self, image: &RgbImage) -> Vec<f32> {
        let (width, height) = self.resized(image.width(), image.height());
        let (wide, high) = self.output_size(image.width(), image.height());
        let scaled: [f32; 256] = std::array::from_fn(|level| self.scaled(level as f64));
        let floats = match self.filter {
            // Picks, and blends nothing.
            Filter::Nearest => {
                let picked = resize(image, width, height, self.filter);
                picked
                    .iter()
                    .map(|&level| scaled[usize::from(level)])
                    .collect()
            }
            filter => resize_floats(image, [width, height], filter, &scaled),
        };
        if (wide, high) == (width, height) {
            return floats;
        }
        let (left, top) = (self.offset(width, wide), self.offset(height, high));
        let [columns, rows] = [within(left, wide, width), within(top, high, height)];
        let mut cut = vec![0.0; wide as usize * high as usize * CHANNELS];
        for row in rows.clone() {
            let begin = |x: u32, y: u32, width: u32| (y * width + x) as usize * CHANNELS;
            let from = begin(columns.start, row, width);
            // Neither offset is below 0 where it is taken off.
            let to = begin((-left).max(0) as u32, (i64::from(row) - top) as u32, wide);
            let length = columns.len() * CHANNELS;
            cut[to..to + length].copy_from_slice(&floats[from..from + length]);
        }
        cut
    }

    fn nearest_levels(&self, image: &RgbImage) -> RgbImage {
        let (wide, high) = self.output_size(image.width(), image.height());
        let unit = self.rescale.unwrap_or(1.0) as f32;
        let level = |value: f32| (value / unit).round() as u8;
        let levels = self.floats(image).into_iter().map(level).collect();
        RgbImage::from_vec(wide, high, levels).unwrap_or_default()
    }

    /// The image as the tower's input, 3 × H × W; see [`Preprocess::write`].
    ///
    /// # Panics
    ///
    /// If the image has a side of 0.
    pub fn tensor(&self, image: &RgbImage) -> Array3<f32> {
        let (width, height) = self.output_size(image.width(), image.height());
        let mut tensor = Array3::zeros((CHANNELS, height as usize, width as usize));
        if let Some(out) = tensor.as_slice_mut() {
            self.write(image, out);
        }
        tensor
    }

    /// Width and height after resizing. Never 0, where the references would refuse a strip that shrinks to nothing.
    fn resized(&self, width: u32, height: u32) -> (u32, u32) {
        let (wide, high) = match self.resize {
            None => (width, height),
            Some(Resize::Squash { height, width }) => (width, height),
            Some(Resize::Shortest(size)) if width <= height => {
                (size, self.longer_side(size, height, width))
            }
            Some(Resize::Shortest(size)) => (self.longer_side(size, width, height), size),
            Some(Resize::Cover {
                height: high,
                width: wide,
            }) => {
                let [down, across] = ratios(width, height, wide, high);
                self.divided(width, height, down.min(across))
            }
            Some(Resize::Longest {
                height: high,
                width: wide,
            }) => {
                let [down, across] = ratios(width, height, wide, high);
                match self.reference {
                    // Multiplies by the inverse ratio instead, which rounds otherwise.
                    Reference::Transformers => {
                        let scale = (f64::from(high) / f64::from(height))
                            .min(f64::from(wide) / f64::from(width));
                        (
                            (f64::from(width) * scale) as u32,
                            (f64::from(height) * scale) as u32,
                        )
                    }
                    Reference::OpenClip | Reference::Torchvision | Reference::Immich => {
                        self.divided(width, height, down.max(across))
                    }
                }
            }
        };
        (wide.max(1), high.max(1))
    }

    /// How long the longer side becomes when the shorter becomes `size`, cut to whole pixels.
    fn longer_side(&self, size: u32, longer: u32, shorter: u32) -> u32 {
        let [size, longer, shorter] = [size, longer, shorter].map(f64::from);
        let exact = match self.reference {
            Reference::Transformers | Reference::OpenClip | Reference::Torchvision => {
                size * longer / shorter
            }
            Reference::Immich => longer / shorter * size,
        };
        exact as u32
    }

    /// Both sides over `ratio`, halves to even.
    fn divided(&self, width: u32, height: u32, ratio: f64) -> (u32, u32) {
        let divide = |side: u32| (f64::from(side) / ratio).round_ties_even() as u32;
        (divide(width), divide(height))
    }

    /// Where a crop of length `to` starts on a side of length `from`; below 0 where it is padded.
    fn offset(&self, from: u32, to: u32) -> i64 {
        let spare = i64::from(from) - i64::from(to);
        match self.reference {
            Reference::Transformers => spare.div_euclid(2),
            Reference::Torchvision | Reference::Immich => spare / 2,
            Reference::OpenClip if spare < 0 => spare / 2,
            // Halves to even: 1.5 becomes 2, 2.5 too.
            Reference::OpenClip => (spare as f64 / 2.0).round_ties_even() as i64,
        }
    }

    /// What each level of a channel becomes.
    fn table(&self, channel: usize) -> [f32; 256] {
        // All three hold mean and std in f32.
        let mean = self.mean[channel] as f32;
        let std = self.std[channel] as f32;
        std::array::from_fn(|level| {
            let scaled = self.scaled(level as f64);
            match self.reference {
                Reference::Transformers | Reference::OpenClip | Reference::Torchvision => {
                    (scaled - mean) / std
                }
                Reference::Immich => scaled * (1.0 / std) - mean / std,
            }
        })
    }

    /// A level times `rescale`.
    fn scaled(&self, level: f64) -> f32 {
        match (self.rescale, self.reference) {
            (None, _) => level as f32,
            (Some(factor), Reference::Transformers) => (level * factor) as f32,
            // A tensor of levels times a number is f32 times f32.
            (Some(factor), Reference::Torchvision) => level as f32 * factor as f32,
            // Both divide by 255 in f32, which is not the same as multiplying by 1/255.
            (Some(factor), Reference::OpenClip | Reference::Immich) => {
                level as f32 / factor.recip() as f32
            }
        }
    }
}

/// The part of a side of length `from` that a crop of `length` at `offset` shows.
fn within(offset: i64, length: u32, from: u32) -> Range<u32> {
    // Both ends lie within 0 and `from`.
    let clip = |end: i64| end.clamp(0, i64::from(from)) as u32;
    clip(offset)..clip(offset + i64::from(length))
}

/// How often a box goes into an image, by height and by width.
fn ratios(width: u32, height: u32, wide: u32, high: u32) -> [f64; 2] {
    [
        f64::from(height) / f64::from(high),
        f64::from(width) / f64::from(wide),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REFERENCES: [Reference; 3] = [
        Reference::Transformers,
        Reference::OpenClip,
        Reference::Immich,
    ];

    fn settings(
        reference: Reference,
        resize: Option<Resize>,
        crop: Option<(u32, u32)>,
    ) -> Preprocess {
        Preprocess {
            reference,
            resize,
            filter: Filter::Bicubic,
            crop,
            fill: [9; 3],
            rescale: Some(1.0 / 255.0),
            mean: [0.48145466, 0.4578275, 0.40821073],
            std: [0.26862954, 0.26130258, 0.27577711],
        }
    }

    fn resized(reference: Reference, resize: Resize, width: u32, height: u32) -> (u32, u32) {
        settings(reference, Some(resize), None).output_size(width, height)
    }

    #[test]
    fn sizes_are_cut_to_whole_pixels() {
        for reference in REFERENCES {
            // 298.67 and 335.74.
            let size = |width, height| resized(reference, Resize::Shortest(224), width, height);
            assert_eq!(size(4000, 3000), (298, 224));
            assert_eq!(size(3000, 4000), (224, 298));
            assert_eq!(size(640, 427), (335, 224));
            assert_eq!(size(7, 7), (224, 224));
        }
    }

    #[test]
    fn immich_rounds_the_ratio_first() {
        // 224 · 2022 / 448 is 1011, but 2022 / 448 is a little less than 4.513…
        let size = |reference| resized(reference, Resize::Shortest(224), 448, 2022);
        assert_eq!(size(Reference::Transformers), (224, 1011));
        assert_eq!(size(Reference::OpenClip), (224, 1011));
        assert_eq!(size(Reference::Immich), (224, 1010));
    }

    #[test]
    fn boxes_are_filled_or_covered() {
        let longest = Resize::Longest {
            height: 40,
            width: 40,
        };
        let cover = Resize::Cover {
            height: 40,
            width: 20,
        };
        // 100 / 2.5 and 61 / 2.5 = 24.4; 63 / 2.5 = 25.2.
        assert_eq!(resized(Reference::OpenClip, longest, 100, 61), (40, 24));
        assert_eq!(resized(Reference::Transformers, longest, 100, 63), (40, 25));
        // 64 / 2.5 = 25.6: one rounds, the other cuts.
        assert_eq!(resized(Reference::OpenClip, longest, 100, 64), (40, 26));
        assert_eq!(resized(Reference::Transformers, longest, 100, 64), (40, 25));
        assert_eq!(resized(Reference::OpenClip, cover, 100, 50), (80, 40));
        assert_eq!(resized(Reference::OpenClip, cover, 10, 100), (20, 200));
        assert_eq!(resized(Reference::OpenClip, longest, 500, 1), (40, 1));
    }

    #[test]
    fn margins_of_half_a_pixel() {
        for (reference, offsets) in [
            // Margins of ½, 1½, 2½, −½, −1½.
            (Reference::Transformers, [0, 1, 2, -1, -2]),
            (Reference::OpenClip, [0, 2, 2, 0, -1]),
            (Reference::Torchvision, [0, 1, 2, 0, -1]),
            (Reference::Immich, [0, 1, 2, 0, -1]),
        ] {
            let found =
                [33, 35, 37, 31, 29].map(|from| settings(reference, None, None).offset(from, 32));
            assert_eq!(found, offsets, "{reference:?}");
        }
    }

    #[test]
    fn levels_by_hand() {
        for reference in REFERENCES {
            let mut preprocess = settings(reference, None, None);
            let level = f32::from(200_u8) / 255.0;
            let (mean, std) = (0.457_827_5_f32, 0.261_302_6_f32);
            let value = preprocess.table(1)[200];
            let expected = match reference {
                Reference::Immich => level * (1.0 / std) - mean / std,
                _ => (level - mean) / std,
            };
            assert_eq!(value, expected, "{reference:?}");
            preprocess.rescale = None;
            preprocess.mean = [0.0; 3];
            preprocess.std = [2.0; 3];
            assert_eq!(preprocess.table(0)[200], 100.0);
        }
    }

    #[test]
    fn planes_follow_each_other() {
        let mut preprocess = settings(Reference::OpenClip, None, None);
        (preprocess.rescale, preprocess.mean, preprocess.std) = (None, [0.0; 3], [1.0; 3]);
        let image = RgbImage::from_vec(2, 1, vec![1, 2, 3, 4, 5, 6]).expect("two pixels");
        let mut out = [0.0; 6];
        preprocess.write(&image, &mut out);
        assert_eq!(out, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(preprocess.tensor(&image).shape(), [3, 1, 2]);
    }

    /// A side's pixels after the reference's own steps: each its position in the source, or none where it is padding.
    fn slow_side(reference: Reference, from: i64, to: i64) -> Vec<Option<i64>> {
        let mut side: Vec<Option<i64>> = (0..from).map(Some).collect();
        let start = match reference {
            Reference::Transformers => {
                let new = to.max(from);
                let before = (new - from + 1) / 2;
                side.splice(0..0, (0..before).map(|_| None));
                side.resize(new as usize, None);
                // Floor division.
                let start = (f64::from((from - to) as i32) / 2.0).floor() as i64;
                start + before
            }
            Reference::OpenClip | Reference::Torchvision => {
                let missing = (to - from).max(0);
                side.splice(0..0, (0..missing / 2).map(|_| None));
                side.extend((0..(missing + 1) / 2).map(|_| None));
                let spare = side.len() as i64 - to;
                // Halves to even: 4 k + 1 halves go down, 4 k + 3 up.
                spare / 2 + i64::from(spare % 4 == 3 && reference == Reference::OpenClip)
            }
            Reference::Immich => (from as f64 / 2.0 - to as f64 / 2.0) as i64,
        };
        (start..start + to)
            .map(|at| {
                usize::try_from(at)
                    .ok()
                    .and_then(|at| side.get(at).copied().flatten())
            })
            .collect()
    }

    proptest! {
        #[test]
        fn crops_are_the_references_own(
            width in 1..60_u32, height in 1..60_u32, wide in 1..60_u32, high in 1..60_u32, which in 0..4_usize,
        ) {
            let reference = *REFERENCES.get(which).unwrap_or(&Reference::Torchvision);
            // Padded after levels have become numbers.
            let fill = if reference == Reference::Torchvision { 0 } else { 9 };
            let image = RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, 1]));
            let columns = slow_side(reference, width.into(), wide.into());
            let rows = slow_side(reference, height.into(), high.into());
            let expected = RgbImage::from_fn(wide, high, |x, y| match (columns[x as usize], rows[y as usize]) {
                (Some(column), Some(row)) => *image.get_pixel(column as u32, row as u32),
                _ => Rgb([fill; 3]),
            });
            prop_assert_eq!(settings(reference, None, Some((high, wide))).pixels(&image), expected);
        }

        #[test]
        fn sides_are_python_s(width in 1..5000_u32, height in 1..5000_u32, size in 1..400_u32) {
            let (short, long) = (u64::from(width.min(height)), u64::from(width.max(height)));
            let exact = u64::from(size) * long / short;
            for reference in [Reference::Transformers, Reference::OpenClip] {
                let (wide, high) = resized(reference, Resize::Shortest(size), width, height);
                prop_assert_eq!(u64::from(wide.min(high)), u64::from(size));
                prop_assert_eq!(u64::from(wide.max(high)), exact);
                prop_assert_eq!(wide > high, width > height && exact > u64::from(size));
            }
        }
    }
}

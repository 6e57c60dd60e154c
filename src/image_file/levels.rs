//! Samples of whatever kind to 8-bit RGB: grey to three channels, alpha dropped or blended, 16 bits to 8, CMYK, YCbCr.

/// Pixels being made, row after row.
#[derive(Debug)]
pub(super) struct Canvas {
    bytes: Vec<u8>,
    background: Option<[u8; 3]>,
}

impl Canvas {
    /// Nothing yet, with room for `pixels`. Alpha is blended onto `background`, or dropped if there is none.
    pub(super) fn new(pixels: usize, background: Option<[u8; 3]>) -> Canvas {
        Canvas {
            bytes: Vec::with_capacity(pixels.saturating_mul(3)),
            background,
        }
    }

    /// Adds pixels of 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha) levels.
    pub(super) fn add(&mut self, levels: &[u8], channels: usize) {
        match channels {
            1 => self
                .bytes
                .extend(levels.iter().flat_map(|&level| [level; 3])),
            2 => {
                let (pixels, _) = levels.as_chunks();
                pixels
                    .iter()
                    .for_each(|&[level, alpha]| self.add_transparent([level; 3], alpha));
            }
            4 => {
                let (pixels, _) = levels.as_chunks();
                pixels.iter().for_each(|&[red, green, blue, alpha]| {
                    self.add_transparent([red, green, blue], alpha);
                });
            }
            _ => self.bytes.extend_from_slice(levels),
        }
    }

    /// Adds one pixel.
    pub(super) fn add_transparent(&mut self, color: [u8; 3], alpha: u8) {
        let color = match self.background {
            Some(background) => blend(color, alpha, background),
            None => color,
        };
        self.bytes.extend_from_slice(&color);
    }

    /// The pixels.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// The colour laid over an opaque background, as Pillow's `alpha_composite` rounds it.
fn blend(color: [u8; 3], alpha: u8, background: [u8; 3]) -> [u8; 3] {
    let alpha = u32::from(alpha);
    std::array::from_fn(|channel| {
        let over = u32::from(color[channel]) * alpha;
        let under = u32::from(background[channel]) * (255 - alpha);
        // Seven more bits than the level has, rounded before they are cut off.
        let sum = ((over + under) << 7) + (0x80 << 7);
        ((((sum >> 8) + sum) >> 8) >> 7) as u8
    })
}

/// 16 bits to 8, rounded. Pillow clips grey at 255 and cuts RGB to the high byte: neither is the picture.
pub(super) fn narrow(sample: u16) -> u8 {
    ((u32::from(sample) * 255 + 32_767) / 65_535) as u8
}

/// Floating-point samples as Pillow shows its mode F: clipped to levels, fractions cut off.
pub(super) fn clip(sample: f32) -> u8 {
    // `as` cuts towards 0, clips, and takes NaN to 0.
    sample as u8
}

/// Ink to light, as Pillow's `cmyk2rgb` rounds it.
pub(super) fn cmyk_to_rgb([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    let light = 255 - u32::from(black);
    [cyan, magenta, yellow].map(|ink| {
        let product = u32::from(ink) * light + 128;
        (light - ((product >> 8) + product) / 256) as u8
    })
}

/// JPEG's colour space to RGB, in libjpeg's 16-bit fixed point.
pub(super) fn ycbcr_to_rgb([luma, blue, red]: [u8; 3]) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let fixed = |factor: f64| (factor * 65_536.0 + 0.5) as i32;
    let [luma, blue, red] = [i32::from(luma), i32::from(blue) - 128, i32::from(red) - 128];
    [
        luma + ((fixed(1.402) * red + HALF) >> 16),
        luma + ((HALF - fixed(0.344_14) * blue - fixed(0.714_14) * red) >> 16),
        luma + ((fixed(1.772) * blue + HALF) >> 16),
    ]
    .map(|level| level.clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits_round() {
        assert_eq!([0, 128, 129, 65_535].map(narrow), [0, 0, 1, 255]);
        for level in 0..=255 {
            assert_eq!(u16::from(narrow(level * 257)), level);
        }
    }

    #[test]
    fn floats_are_cut() {
        assert_eq!(
            [-1.0, 0.9, 254.9, 256.0, f32::NAN].map(clip),
            [0, 0, 254, 255, 0]
        );
    }

    #[test]
    fn ink_is_taken_from_light() {
        assert_eq!(cmyk_to_rgb([0, 0, 0, 0]), [255; 3]);
        assert_eq!(cmyk_to_rgb([0, 0, 0, 255]), [0; 3]);
        assert_eq!(cmyk_to_rgb([255, 0, 128, 0]), [0, 255, 127]);
    }

    #[test]
    fn gray_has_no_hue() {
        assert_eq!(ycbcr_to_rgb([77, 128, 128]), [77; 3]);
        assert_eq!(ycbcr_to_rgb([76, 85, 255]), [254, 0, 0]);
    }

    #[test]
    fn alpha_is_dropped_or_blended() {
        let levels = [10, 20, 30, 0, 10, 20, 30, 255];
        let mut canvas = Canvas::new(2, None);
        canvas.add(&levels, 4);
        assert_eq!(canvas.into_bytes(), [10, 20, 30, 10, 20, 30]);
        let mut canvas = Canvas::new(3, Some([255, 255, 0]));
        canvas.add(&levels, 4);
        canvas.add_transparent([0, 255, 0], 128);
        assert_eq!(canvas.into_bytes(), [255, 255, 0, 10, 20, 30, 127, 255, 0]);
    }
}

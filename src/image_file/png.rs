//! PNG: every depth and colour type, interlaced or not; of an animation the default image.

use std::io::Cursor;

use ::png::{BitDepth, Decoder, Info, Limits, Transformations};
use image::RgbImage;

use super::levels::{Canvas, narrow};
use super::orientation::Orientation;
use super::{Fault, Reading};

/// The keyword under which ImageMagick and others keep EXIF as text.
const EXIF_KEYWORD: &str = "Raw profile type exif";

/// The keyword under which XMP is kept.
const XMP_KEYWORD: &str = "XML:com.adobe.xmp";

pub(super) fn decode(
    bytes: &[u8],
    options: &Reading<'_>,
) -> Result<(RgbImage, Orientation), Fault> {
    let limit = usize::try_from(options.max_bytes()).unwrap_or(usize::MAX);
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: limit });
    // Fewer than 8 bits, palettes and colour keys become 8 bits a sample, with alpha where there is any.
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(Fault::decode)?;
    let (width, height) = reader.info().size();
    options.check(width, height, 3, bytes.len())?;
    let (color, depth) = reader.output_color_type();
    let channels = color.samples();

    let is_interlaced = reader.info().interlaced;
    let mut image = vec![0; width as usize * height as usize * 3];
    let mut levels = Vec::new();
    for place in places(width, height, is_interlaced) {
        let row = reader.next_row().map_err(Fault::decode)?;
        let row = row.ok_or_else(|| Fault::decode("rows are missing"))?;
        let mut canvas = Canvas::new(width as usize, options.background);
        if depth == BitDepth::Sixteen {
            let (samples, _) = row.data().as_chunks();
            levels.clear();
            levels.extend(
                samples
                    .iter()
                    .map(|&sample| narrow(u16::from_be_bytes(sample))),
            );
            canvas.add(&levels, channels);
        } else {
            canvas.add(row.data(), channels);
        }
        place.put(&canvas.into_bytes(), &mut image, width as usize * 3);
    }
    // Metadata may stand behind the pixels; if it is damaged, there is none.
    let _ = reader.finish();
    let orientation = if options.exif {
        orientation(reader.info())
    } else {
        Orientation::UPRIGHT
    };
    if orientation.is_sideways() {
        options.check(width, height, 6, bytes.len())?;
    }
    let image = RgbImage::from_vec(width, height, image).unwrap_or_default();
    Ok((image, orientation))
}

/// Where the pixels of one stored row belong.
#[derive(Debug, Clone, Copy)]
struct Place {
    left: usize,
    step: usize,
    top: usize,
}

impl Place {
    fn put(self, row: &[u8], image: &mut [u8], stride: usize) {
        let target = &mut image[self.top * stride..][..stride];
        if self.step == 1 {
            target[self.left * 3..].copy_from_slice(row);
            return;
        }
        let (pixels, _) = target.as_chunks_mut::<3>();
        let (row, _) = row.as_chunks::<3>();
        for (pixel, &new) in pixels
            .iter_mut()
            .skip(self.left)
            .step_by(self.step)
            .zip(row)
        {
            *pixel = new;
        }
    }
}

/// The places of all rows, in the order in which they are stored.
fn places(width: u32, height: u32, is_interlaced: bool) -> impl Iterator<Item = Place> {
    // The passes of Adam7: first column, column step, first row, row step.
    const PASSES: [[usize; 4]; 7] = [
        [0, 8, 0, 8],
        [4, 8, 0, 8],
        [0, 4, 4, 8],
        [2, 4, 0, 4],
        [0, 2, 2, 4],
        [1, 2, 0, 2],
        [0, 1, 1, 2],
    ];
    let passes: &[[usize; 4]] = if is_interlaced {
        &PASSES
    } else {
        &[[0, 1, 0, 1]]
    };
    passes
        .iter()
        .filter(move |[left, ..]| *left < width as usize)
        .flat_map(move |&[left, step, top, down]| {
            (top..height as usize)
                .step_by(down)
                .map(move |top| Place { left, step, top })
        })
}

fn orientation(info: &Info<'_>) -> Orientation {
    let text_exif = || {
        let compressed = info.compressed_latin1_text.iter();
        let plain = info.uncompressed_latin1_text.iter();
        compressed
            .filter(|chunk| chunk.keyword == EXIF_KEYWORD)
            .find_map(|chunk| chunk.get_text().ok())
            .or_else(|| {
                plain
                    .filter(|chunk| chunk.keyword == EXIF_KEYWORD)
                    .map(|chunk| chunk.text.clone())
                    .next()
            })
            .and_then(|text| unhex(&text))
    };
    let exif = match &info.exif_metadata {
        Some(exif) => Some(exif.to_vec()),
        None => text_exif(),
    };
    let xmp = info
        .utf8_text
        .iter()
        .filter(|chunk| chunk.keyword == XMP_KEYWORD)
        .find_map(|chunk| chunk.get_text().ok());
    Orientation::read(exif.as_deref(), xmp.as_deref().map(str::as_bytes))
}

/// The bytes that a raw profile spells: a blank line, a name, a length, then lines of hexadecimal digits.
fn unhex(profile: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = profile
        .split('\n')
        .skip(3)
        .flat_map(str::bytes)
        .filter(|digit| !digit.is_ascii_whitespace())
        .map(|digit| char::from(digit).to_digit(16).map(|value| value as u8))
        .collect::<Option<_>>()?;
    let (pairs, _) = digits.as_chunks();
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_has_one_place() {
        for (width, height) in [(1, 1), (2, 1), (1, 5), (9, 10), (4, 3)] {
            for is_interlaced in [false, true] {
                let mut seen = vec![0; width * height];
                for place in places(width as u32, height as u32, is_interlaced) {
                    for column in (place.left..width).step_by(place.step) {
                        seen[place.top * width + column] += 1;
                    }
                }
                assert_eq!(seen, vec![1; width * height], "{width} x {height}");
            }
        }
    }

    #[test]
    fn raw_profiles_are_hexadecimal() {
        assert_eq!(
            unhex("\nexif\n       4\n4949\n2a00\n"),
            Some(b"II*\0".to_vec())
        );
        assert_eq!(unhex("\nexif\n 1\nzz"), None);
    }
}

//! TIFF: the first page; grey, palette, RGB, CMYK and YCbCr of 1 to 32 bits, with or without alpha.

use std::io::Cursor;

use ::tiff::decoder::{Decoder, DecodingResult, Limits};
use ::tiff::tags::Tag;
use ::tiff::{ColorType, TiffError};
use image::RgbImage;

use super::levels::{Canvas, clip, cmyk_to_rgb, narrow, ycbcr_to_rgb};
use super::orientation::{Entry, Orientation};
use super::{Fault, Reading};

/// What tag `ExtraSamples` says of alpha that colours are multiplied with already.
const PREMULTIPLIED: u16 = 1;

/// The number of tag `PhotometricInterpretation`.
const PHOTOMETRIC: u16 = 262;

/// What it says of grey.
const BLACK_IS_ZERO: u16 = 1;

/// What it says of indices into a palette.
const PALETTE: u16 = 3;

/// What tag `PlanarConfiguration` says of one plane after the other.
const PLANES: u16 = 2;

pub(super) fn decode(
    bytes: &[u8],
    options: &Reading<'_>,
) -> Result<(RgbImage, Orientation), Fault> {
    // The decoder knows no palettes: it is told that the indices are grey.
    let indices = as_gray(bytes, options);
    let is_palette = indices.is_some();
    let file = bytes.len() * if is_palette { 2 } else { 1 };
    let bytes = indices.as_deref().unwrap_or(bytes);
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(fault)?;
    let (width, height) = decoder.dimensions().map_err(fault)?;
    // Pillow applies TIFF's own orientation on loading, whether asked to or not.
    let orientation = tag(&mut decoder, Tag::Orientation)?;
    let orientation = Orientation::new(orientation.first().copied().unwrap_or(1));
    let kind = decoder.colortype().map_err(fault)?;
    let is_copied = kind != ColorType::RGB(8)
        || orientation.is_sideways()
        || tag(&mut decoder, Tag::PlanarConfiguration)?.first() == Some(&PLANES);
    let own = u64::from(kind.bit_depth()) * u64::from(kind.num_samples()) / 8;
    let per_pixel = own.max(1) + if is_copied { 3 } else { 0 };
    options.check(width, height, per_pixel, file)?;

    let mut decoder = decoder.with_limits(limits(options));
    let levels = levels(&mut decoder, kind, width as usize, is_palette)?;
    let pixels = if kind == ColorType::RGB(8) {
        levels
    } else {
        let mut canvas = Canvas::new(width as usize * height as usize, options.background);
        if is_palette {
            add_indices(&mut canvas, &levels, &tag(&mut decoder, Tag::ColorMap)?);
        } else {
            let extra = tag(&mut decoder, Tag::ExtraSamples)?;
            add(
                &mut canvas,
                kind,
                &levels,
                extra.first() == Some(&PREMULTIPLIED),
            )?;
        }
        canvas.into_bytes()
    };
    let image = RgbImage::from_vec(width, height, pixels);
    let image = image.ok_or_else(|| Fault::decode("pixels are missing"))?;
    Ok((image, orientation))
}

type File<'a> = Decoder<Cursor<&'a [u8]>>;

fn fault(error: TiffError) -> Fault {
    Fault::decode(error)
}

/// The values of a tag, none if it is not there.
fn tag(decoder: &mut File<'_>, tag: Tag) -> Result<Vec<u16>, Fault> {
    let values = decoder.find_tag_unsigned_vec(tag).map_err(fault)?;
    Ok(values.unwrap_or_default())
}

fn limits(options: &Reading<'_>) -> Limits {
    let most = usize::try_from(options.max_bytes()).unwrap_or(usize::MAX);
    let mut limits = Limits::default();
    limits.decoding_buffer_size = most;
    limits.intermediate_buffer_size = most;
    limits.ifd_value_size = most;
    limits
}

/// All samples, pixel after pixel; see [`to_levels`].
fn levels(
    decoder: &mut File<'_>,
    kind: ColorType,
    width: usize,
    is_palette: bool,
) -> Result<Vec<u8>, Fault> {
    let mut samples = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut samples).map_err(fault)?;
    if layout.planes > 1 {
        let levels = to_levels(samples, kind, width, is_palette)?;
        return Ok(interleave(&levels, layout.planes));
    }
    let row = width * usize::from(kind.num_samples());
    to_levels(samples, kind, row, is_palette)
}

/// Every sample as a level or, for palettes, an index; rows of `row` samples.
fn to_levels(
    samples: DecodingResult,
    kind: ColorType,
    row: usize,
    is_index: bool,
) -> Result<Vec<u8>, Fault> {
    match samples {
        DecodingResult::U8(bytes) => match kind.bit_depth() {
            8 => Ok(bytes),
            bits @ (1 | 2 | 4) => Ok(unpack(&bytes, bits, row, is_index)),
            bits => Err(Fault::decode(format!("samples of {bits} bits"))),
        },
        DecodingResult::U16(samples) => Ok(samples.into_iter().map(narrow).collect()),
        // Pillow's mode I: clipped.
        DecodingResult::U32(samples) => Ok(samples
            .into_iter()
            .map(|sample| sample.min(255) as u8)
            .collect()),
        DecodingResult::I32(samples) => Ok(samples
            .into_iter()
            .map(|sample| sample.clamp(0, 255) as u8)
            .collect()),
        DecodingResult::I16(samples) => Ok(samples
            .into_iter()
            .map(|sample| sample.clamp(0, 255) as u8)
            .collect()),
        DecodingResult::F32(samples) => Ok(samples.into_iter().map(clip).collect()),
        DecodingResult::F64(samples) => Ok(samples
            .into_iter()
            .map(|sample| clip(sample as f32))
            .collect()),
        _ => Err(Fault::decode("samples of an unknown kind")),
    }
}

/// Samples of 1, 2 or 4 bits, each row of which starts at a byte.
fn unpack(bytes: &[u8], bits: u8, row: usize, is_index: bool) -> Vec<u8> {
    let per_byte = usize::from(8 / bits);
    let highest = (1_u16 << bits) as u8 - 1;
    let scale = if is_index { 1 } else { 255 / highest };
    bytes
        .chunks(row.div_ceil(per_byte).max(1))
        .flat_map(|packed| {
            packed
                .iter()
                .flat_map(move |&byte| {
                    (1..=8 / bits).map(move |place| (byte >> (8 - place * bits) & highest) * scale)
                })
                .take(row)
        })
        .collect()
}

/// One plane after the other to pixel after pixel.
fn interleave(planes: &[u8], count: usize) -> Vec<u8> {
    let length = planes.len() / count;
    (0..length * count)
        .map(|at| planes[at % count * length + at / count])
        .collect()
}

fn add(
    canvas: &mut Canvas,
    kind: ColorType,
    levels: &[u8],
    is_premultiplied: bool,
) -> Result<(), Fault> {
    match kind {
        ColorType::Gray(_) => canvas.add(levels, 1),
        ColorType::GrayA(_) | ColorType::Multiband { num_samples: 2, .. } => canvas.add(levels, 2),
        ColorType::RGB(_) => canvas.add(levels, 3),
        ColorType::RGBA(_) if is_premultiplied => {
            let (pixels, _) = levels.as_chunks::<4>();
            for &[red, green, blue, alpha] in pixels {
                canvas.add_transparent([red, green, blue].map(|level| divide(level, alpha)), alpha);
            }
        }
        ColorType::RGBA(_) => canvas.add(levels, 4),
        ColorType::CMYK(_) => {
            let (pixels, _) = levels.as_chunks();
            pixels
                .iter()
                .for_each(|&inks| canvas.add(&cmyk_to_rgb(inks), 3));
        }
        ColorType::YCbCr(_) => {
            let (pixels, _) = levels.as_chunks();
            pixels
                .iter()
                .for_each(|&pixel| canvas.add(&ycbcr_to_rgb(pixel), 3));
        }
        kind => return Err(Fault::decode(format!("colours of kind {kind:?}"))),
    }
    Ok(())
}

/// The file with palette indices declared as grey, if it holds such and memory for a copy is allowed.
fn as_gray(bytes: &[u8], options: &Reading<'_>) -> Option<Vec<u8>> {
    if bytes.len() as u64 > options.max_bytes() / 2 {
        return None;
    }
    let entry = Entry::find(bytes, PHOTOMETRIC).filter(|entry| entry.value == PALETTE)?;
    let mut bytes = bytes.to_vec();
    let is_little = bytes.starts_with(b"II");
    let value = if is_little {
        BLACK_IS_ZERO.to_le_bytes()
    } else {
        BLACK_IS_ZERO.to_be_bytes()
    };
    bytes
        .get_mut(entry.at..entry.at + 2)?
        .copy_from_slice(&value);
    Some(bytes)
}

/// Adds the colour of each index.
fn add_indices(canvas: &mut Canvas, indices: &[u8], colors: &[u16]) {
    // All reds, then all greens, then all blues, of 16 bits, of which Pillow keeps the high byte.
    let third = colors.len() / 3;
    let palette: [[u8; 3]; 256] = std::array::from_fn(|index| {
        [0, 1, 2].map(|channel| match colors.get(channel * third + index) {
            Some(&value) if index < third => (value >> 8) as u8,
            _ => 0,
        })
    });
    for &index in indices {
        canvas.add(&palette[usize::from(index)], 3);
    }
}

/// A level that was multiplied with alpha, before that; rounded down as Pillow does.
fn divide(level: u8, alpha: u8) -> u8 {
    match alpha {
        0 | 255 => level,
        alpha => (255 * u16::from(level) / u16::from(alpha)).min(255) as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_unpack_row_by_row() {
        assert_eq!(
            unpack(&[0b1010_0000, 0b0110_0000], 1, 3, false),
            [255, 0, 255, 0, 255, 255]
        );
        assert_eq!(unpack(&[0b0001_1011], 2, 4, false), [0, 85, 170, 255]);
        assert_eq!(unpack(&[0x5A, 0x30], 4, 3, true), [5, 10, 3]);
    }

    #[test]
    fn planes_become_pixels() {
        assert_eq!(interleave(&[1, 2, 3, 4, 5, 6], 3), [1, 3, 5, 2, 4, 6]);
    }
}

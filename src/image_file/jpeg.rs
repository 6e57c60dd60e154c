//! JPEG by libjpeg-turbo's decoder, which is Pillow's too: grey, colour and CMYK, every level the same.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::RgbImage;
use mozjpeg::decompress::Format;
use mozjpeg::{Decompress, Marker};

use super::levels::{Canvas, cmyk_to_rgb};
use super::orientation::Orientation;
use super::{Fault, Reading};

/// Bytes of a coefficient; where a file comes in several scans, one is held for each sample.
const COEFFICIENT_BYTES: u64 = 2;

/// How APP1 begins where it holds EXIF, and where it holds XMP.
const EXIF: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

pub(super) fn decode(
    bytes: &[u8],
    options: &Reading<'_>,
) -> Result<(RgbImage, Orientation), Fault> {
    let has_scans = walk(bytes)?;
    // The C code ends on an error by unwinding, without a message of its own; what it has is freed on the way.
    catch_unwind(AssertUnwindSafe(|| read(bytes, has_scans, options))).unwrap_or_else(|payload| {
        let message = payload
            .downcast_ref::<String>()
            .map_or("damaged", String::as_str);
        Err(Fault::decode(message.to_owned()))
    })
}

fn read(
    bytes: &[u8],
    has_scans: bool,
    options: &Reading<'_>,
) -> Result<(RgbImage, Orientation), Fault> {
    let decoder = Decompress::with_markers(&[Marker::APP(1)]).from_mem(bytes)?;
    let sides = (
        u32::try_from(decoder.width()),
        u32::try_from(decoder.height()),
    );
    let (Ok(width), Ok(height)) = sides else {
        return Err(Fault::decode("its size is out of range"));
    };
    let orientation = orientation(&decoder, options);
    let channels = decoder.components().len() as u64;
    options.check(
        width,
        height,
        bytes_per_pixel(channels, has_scans, orientation),
        bytes.len(),
    )?;

    let pixels = match (channels, decoder.image()?) {
        (1, Format::Gray(mut rows)) => {
            let levels: Vec<u8> = rows.read_scanlines()?;
            let mut canvas = Canvas::new(levels.len(), None);
            canvas.add(&levels, 1);
            canvas.into_bytes()
        }
        (3, Format::RGB(mut rows)) => rows.read_scanlines::<[u8; 3]>()?.into_flattened(),
        // Pillow takes every such file for one of Adobe's, which store ink inverted.
        (4, Format::CMYK(mut rows)) => {
            let inks: Vec<[u8; 4]> = rows.read_scanlines()?;
            inks.iter()
                .flat_map(|ink| cmyk_to_rgb(ink.map(|level| 255 - level)))
                .collect()
        }
        (other, _) => {
            return Err(Fault::decode(format!(
                "expected 1, 3 or 4 components, found {other}"
            )));
        }
    };
    let image = RgbImage::from_vec(width, height, pixels);
    Ok((
        image.ok_or_else(|| Fault::decode("pixels are missing"))?,
        orientation,
    ))
}

/// What decoding holds at once: the pixels with the coefficients or samples that they come from, later the pixels
/// twice while they are turned on their side.
fn bytes_per_pixel(channels: u64, has_scans: bool, orientation: Orientation) -> u64 {
    let samples = if channels == 3 { 0 } else { channels };
    let coefficients = if has_scans {
        channels * COEFFICIENT_BYTES
    } else {
        0
    };
    let turned = if orientation.is_sideways() { 3 } else { 0 };
    3 + (samples + coefficients).max(turned)
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::decode(error.to_string())
    }
}

fn orientation(decoder: &Decompress<&[u8]>, options: &Reading<'_>) -> Orientation {
    if !options.exif {
        return Orientation::UPRIGHT;
    }
    let content = |start: &[u8]| {
        decoder
            .markers()
            .find_map(|marker| marker.data.strip_prefix(start))
    };
    Orientation::read(content(EXIF), content(XMP))
}

/// Whether the image comes in several scans, as progressive files do.
///
/// Fails if the file ends before its end marker, as Pillow does: the decoder would paint the rest grey.
fn walk(bytes: &[u8]) -> Result<bool, Fault> {
    let cut_off = || Fault::decode("the file is cut off");
    let mut scans = 0;
    let mut at = 2;
    loop {
        // To the next marker: past coded data, in which FF 00 is a byte and FF D0 to FF D7 are rests between parts.
        let rest = bytes.get(at..).unwrap_or_default();
        at += rest
            .windows(2)
            .position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xD0..=0xD7 | 0xFF))
            .ok_or_else(cut_off)?;
        match bytes[at + 1] {
            0xD9 => return Ok(scans > 1),
            // Markers that nothing belongs to.
            0x01 | 0xD8 => at += 2,
            marker => {
                scans += u32::from(marker == 0xDA);
                let length = bytes.get(at + 2..at + 4).ok_or_else(cut_off)?;
                at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
            }
        }
    }
}

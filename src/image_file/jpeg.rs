//! JPEG: baseline and progressive; grey, colour and CMYK.

use image::RgbImage;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::levels::Canvas;
use super::orientation::Orientation;
use super::{Fault, ImageOptions};

/// Bytes of a coefficient, of which a progressive file's decoder holds one for each sample.
const COEFFICIENT_BYTES: u64 = 2;

pub(super) fn decode(
    bytes: &[u8],
    options: &ImageOptions,
) -> Result<(RgbImage, Orientation), Fault> {
    let is_progressive = walk(bytes)?;
    // Not strict: Pillow too takes a file with a stray marker or a byte too many.
    let settings = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), settings);
    let fault = |error: DecodeErrors| Fault::decode(error.to_string());
    decoder.decode_headers().map_err(fault)?;
    let header = decoder.info();
    let header = header.ok_or_else(|| Fault::decode("the file has no header"))?;
    let (width, height) = (header.width.into(), header.height.into());
    let orientation = orientation(&decoder, options);
    let is_gray = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let beside = match (is_progressive, orientation.is_sideways() || is_gray) {
        (true, _) => u64::from(header.components) * COEFFICIENT_BYTES,
        (false, true) => 3,
        (false, false) => 0,
    };
    options.check(width, height, 3 + beside, bytes.len())?;
    let space = if is_gray {
        ColorSpace::Luma
    } else {
        ColorSpace::RGB
    };
    decoder.set_options(settings.jpeg_set_out_colorspace(space));
    let mut pixels = decoder.decode().map_err(fault)?;
    if is_gray {
        let mut canvas = Canvas::new(pixels.len(), None);
        canvas.add(&pixels, 1);
        pixels = canvas.into_bytes();
    }
    let image = RgbImage::from_vec(width, height, pixels);
    let image = image.ok_or_else(|| Fault::decode("pixels are missing"))?;
    Ok((image, orientation))
}

fn orientation(decoder: &JpegDecoder<ZCursor<&[u8]>>, options: &ImageOptions) -> Orientation {
    if !options.exif {
        return Orientation::UPRIGHT;
    }
    let exif = decoder.exif().map(Vec::as_slice);
    Orientation::read(exif, decoder.xmp().map(Vec::as_slice))
}

/// Whether the file is progressive.
///
/// Fails if the file ends before its end marker, as Pillow does: the decoder would paint the rest grey.
fn walk(bytes: &[u8]) -> Result<bool, Fault> {
    let cut_off = || Fault::decode("the file is cut off");
    let mut is_progressive = false;
    let mut at = 2;
    loop {
        // To the next marker: past coded data, in which FF 00 is a byte and FF D0 to FF D7 are rests between parts.
        let rest = bytes.get(at..).unwrap_or_default();
        at += rest
            .windows(2)
            .position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xD0..=0xD7 | 0xFF))
            .ok_or_else(cut_off)?;
        match bytes[at + 1] {
            0xD9 => return Ok(is_progressive),
            // Markers that nothing belongs to.
            0x01 | 0xD8 => at += 2,
            marker => {
                is_progressive |= matches!(marker, 0xC2 | 0xC6 | 0xCA | 0xCE);
                let length = bytes.get(at + 2..at + 4).ok_or_else(cut_off)?;
                at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
            }
        }
    }
}

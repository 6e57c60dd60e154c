//! WebP, BMP, PNM and QOI, through the `image` crate.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use super::levels::{Canvas, clip, narrow};
use super::orientation::Orientation;
use super::{Fault, Reading};

pub(super) fn decode(
    bytes: &[u8],
    format: ImageFormat,
    options: &Reading<'_>,
) -> Result<(RgbImage, Orientation), Fault> {
    if format == ImageFormat::WebP && !is_whole_riff(bytes) {
        return Err(Fault::decode("the file is cut off"));
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(options.max_bytes());
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(Fault::decode)?;
    let (width, height) = decoder.dimensions();
    let orientation = match options.exif {
        // Metadata that can't be read is none.
        true => Orientation::read(
            decoder.exif_metadata().ok().flatten().as_deref(),
            decoder.xmp_metadata().ok().flatten().as_deref(),
        ),
        false => Orientation::UPRIGHT,
    };
    let kind = decoder.color_type();
    let own = u64::from(kind.bytes_per_pixel());
    let copy = match kind == image::ColorType::Rgb8 && !orientation.is_sideways() {
        true => 0,
        false => 3,
    };
    let inner = match format {
        // Four bytes a pixel of a lossless file, or of an animation's canvas.
        ImageFormat::WebP => 4,
        _ => 0,
    };
    options.check(width, height, own + copy + inner, bytes.len())?;
    let image = DynamicImage::from_decoder(decoder).map_err(Fault::decode)?;
    Ok((to_rgb(image, options.background), orientation))
}

/// Whether a RIFF file is as long as it states. Of an animation the decoder would not miss the later frames; Pillow does.
fn is_whole_riff(bytes: &[u8]) -> bool {
    let stated = bytes.get(4..8).and_then(|length| length.first_chunk());
    stated.is_some_and(|&length| u64::from(u32::from_le_bytes(length)) + 8 <= bytes.len() as u64)
}

fn to_rgb(image: DynamicImage, background: Option<[u8; 3]>) -> RgbImage {
    let image = match image {
        DynamicImage::ImageRgb8(image) => return image,
        image => image,
    };
    let (width, height) = (image.width(), image.height());
    let channels = usize::from(image.color().channel_count());
    let mut canvas = Canvas::new(width as usize * height as usize, background);
    match image {
        DynamicImage::ImageLuma16(image) => add(&mut canvas, image.as_raw(), channels, narrow),
        DynamicImage::ImageLumaA16(image) => add(&mut canvas, image.as_raw(), channels, narrow),
        DynamicImage::ImageRgb16(image) => add(&mut canvas, image.as_raw(), channels, narrow),
        DynamicImage::ImageRgba16(image) => add(&mut canvas, image.as_raw(), channels, narrow),
        DynamicImage::ImageRgb32F(image) => add(&mut canvas, image.as_raw(), channels, clip),
        DynamicImage::ImageRgba32F(image) => add(&mut canvas, image.as_raw(), channels, clip),
        image => canvas.add(image.as_bytes(), channels),
    }
    RgbImage::from_vec(width, height, canvas.into_bytes()).unwrap_or_default()
}

/// Adds samples of whatever width, a few at a time, so that no second copy of all of them is made.
pub(super) fn add<S: Copy>(
    canvas: &mut Canvas,
    samples: &[S],
    channels: usize,
    to_level: fn(S) -> u8,
) {
    let mut levels = Vec::new();
    for part in samples.chunks(channels.max(1) * 4096) {
        levels.clear();
        levels.extend(part.iter().map(|&sample| to_level(sample)));
        canvas.add(&levels, channels);
    }
}

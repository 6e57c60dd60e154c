//! GIF: the first frame on its screen, as Pillow shows it.

use ::gif::{ColorOutput, DecodeOptions, MemoryLimit};
use image::RgbImage;

use super::levels::Canvas;
use super::orientation::Orientation;
use super::{Fault, Reading};

/// Bytes for each pixel: its colour and its index, once on the screen and once in the frame.
const BYTES: u64 = 3 + 1 + 1;

pub(super) fn decode(
    bytes: &[u8],
    options: &Reading<'_>,
) -> Result<(RgbImage, Orientation), Fault> {
    let mut settings = DecodeOptions::new();
    settings.set_color_output(ColorOutput::Indexed);
    let most = usize::try_from(options.max_bytes()).unwrap_or(usize::MAX);
    if let Some(most) = std::num::NonZeroU64::new(most as u64) {
        settings.set_memory_limit(MemoryLimit::Bytes(most));
    }
    let mut decoder = settings.read_info(bytes).map_err(Fault::decode)?;
    let screen = (u32::from(decoder.width()), u32::from(decoder.height()));
    let frame = decoder
        .next_frame_info()
        .map_err(Fault::decode)?
        .ok_or_else(|| Fault::decode("the file has no frame"))?;
    let [left, top, wide, high] = [frame.left, frame.top, frame.width, frame.height].map(u32::from);
    // The screen grows with a frame that goes past its edge.
    let (width, height) = (screen.0.max(left + wide), screen.1.max(top + high));
    options.check(width, height, BYTES, bytes.len())?;
    let transparent = frame.transparent;
    let local = frame.palette.clone();
    let mut indices = vec![0; decoder.buffer_size()];
    decoder
        .read_into_buffer(&mut indices)
        .map_err(Fault::decode)?;
    let palette = palette(local.as_deref().or(decoder.global_palette()));

    // Around the frame lies the transparent index, whatever its colour, or the first; never the background colour.
    let around = transparent.unwrap_or(0);
    let mut screen = vec![around; width as usize * height as usize];
    if wide > 0 {
        let rows = screen
            .chunks_exact_mut(width as usize)
            .skip(top as usize)
            .zip(indices.chunks_exact(wide as usize));
        for (row, indices) in rows {
            row[left as usize..(left + wide) as usize].copy_from_slice(indices);
        }
    }
    let mut canvas = Canvas::new(screen.len(), options.background);
    for index in screen {
        let alpha = if transparent == Some(index) { 0 } else { 255 };
        canvas.add_transparent(palette[usize::from(index)], alpha);
    }
    let image = RgbImage::from_vec(width, height, canvas.into_bytes()).unwrap_or_default();
    Ok((image, Orientation::UPRIGHT))
}

/// A colour for each index. Those that the file leaves out are greys, as in Pillow.
fn palette(colors: Option<&[u8]>) -> [[u8; 3]; 256] {
    let (colors, _) = colors.unwrap_or_default().as_chunks();
    std::array::from_fn(|index| colors.get(index).copied().unwrap_or([index as u8; 3]))
}

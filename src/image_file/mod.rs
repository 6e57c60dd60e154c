//! Files and bytes to 8-bit RGB images, as Pillow's `convert("RGB")` gives them.
//!
//! One file a format that needs care (`jpeg`, `png`, `gif`, `tiff`), one for the rest (`other`); `sniff` tells them apart,
//! `levels` turns whatever they hold into RGB, `orientation` turns it upright; `size` and `taken` read what a file
//! says of itself. What a model makes of the pixels is `preprocess`'s concern.

mod gif;
mod jpeg;
mod levels;
mod orientation;
mod other;
mod png;
mod size;
mod sniff;
mod taken;
mod tiff;

use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::ops::Deref;
use std::path::Path;

use image::RgbImage;

use crate::error::{Error, Result, Source};
use crate::room::{Room, Taken};
pub use size::image_size;
use sniff::Format;
pub(crate) use taken::taken;

/// Endings of the files that a folder is searched for, in lower case. What a file really is, its content decides.
pub const IMAGE_ENDINGS: [&str; 17] = [
    "jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff", "ppm",
    "pgm", "pbm", "pnm", "qoi",
];

/// Whether a file's name ends as those of images do.
pub fn has_image_ending(path: &Path) -> bool {
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| IMAGE_ENDINGS.contains(&ending.as_str()))
}

/// Bytes of memory that a pixel of the limit stands for: three of the image, one for what decoding needs beside it.
const BYTES_PER_PIXEL: u64 = 4;

/// How image files are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageOptions {
    /// The most pixels that are decoded, 64 Mi by default: photos of 60 megapixels, large panoramas.
    ///
    /// It bounds memory too, to four bytes a pixel, the file's own bytes among them: 256 MiB by default. Kinds of file
    /// that need more for each of their pixels are held to fewer: 44 million for a photo that has to be turned on its
    /// side, 29 million for JPEG in several scans (progressive), 24 million for WebP with alpha. So no file makes decoding need more.
    pub max_pixels: u64,
    /// Whether EXIF's orientation is applied, on by default. Off for equal numbers with references that ignore it.
    ///
    /// TIFF's own orientation is always applied, since Pillow does that on loading.
    pub exif: bool,
    /// The colour that transparent pixels are blended onto.
    ///
    /// None by default: alpha is dropped and the colour that lies under it shows, as Pillow's `convert("RGB")` does.
    /// transformers 5.24 blends onto white.
    pub background: Option<[u8; 3]>,
}

impl Default for ImageOptions {
    fn default() -> Self {
        Self {
            max_pixels: 64 << 20,
            exif: true,
            background: None,
        }
    }
}

/// The image in a file, upright, as 8-bit RGB.
///
/// The format is told by the content, whatever the file's name. Of an animation it is the first frame, of a TIFF the
/// first page.
///
/// # Cost
///
/// At most four bytes of memory for each of [`ImageOptions::max_pixels`].
///
/// # Errors
///
/// [`Error::Read`]; [`Error::NotAnImage`], which says what the file looks like instead; [`Error::ImageTooLarge`]; and
/// [`Error::ImageDecode`], for files cut off too: no pixel is made up.
///
/// # Source
///
/// Pillow 13's `Image.open`, `ImageOps.exif_transpose` and `convert("RGB")`: every level is equal, of JPEG and lossy WebP
/// too, save that samples of 16 bits are scaled with rounding where Pillow clips or cuts them, and that BMP of 16 bits a
/// pixel, and JPEG and YCbCr in TIFF, may be one level off. TIFF compressed as Group 3 fax or with Zstandard, and Lab
/// colours, cannot be read.
///
/// # Example
///
/// ```
/// use diptych::{ImageOptions, open_image};
///
/// let cat = open_image("assets/photos/cat.jpg", &ImageOptions::default())?;
/// assert!(cat.width() > 100);
/// # Ok::<(), diptych::Error>(())
/// ```
pub fn open_image(path: impl AsRef<Path>, options: &ImageOptions) -> Result<RgbImage> {
    let path = path.as_ref();
    let file = File::open(path).map_err(Error::read(path))?;
    decode_image(&read_image(file, path, options)?, path, options)
}

/// All bytes of an image file, unless there are more than decoding may take memory.
pub(crate) fn read_image(file: impl Read, path: &Path, options: &ImageOptions) -> Result<Vec<u8>> {
    let limit = options.max_bytes();
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(Error::read(path))?;
    if bytes.len() as u64 > limit {
        return Err(Fault::decode(format!("the file has over {limit} bytes")).at(path));
    }
    Ok(bytes)
}

/// The image in a file's bytes, upright, as 8-bit RGB; see [`open_image`].
///
/// # Errors
///
/// As [`open_image`], with `name` for the path; never [`Error::Read`].
pub fn decode_image(bytes: &[u8], name: &Path, options: &ImageOptions) -> Result<RgbImage> {
    decode_within(bytes, name, options, None).map(|(image, _)| image)
}

/// As [`decode_image`], with memory taken from `room`, where it is shared; it is given back when the second value is dropped.
pub(crate) fn decode_within<'a>(
    bytes: &[u8],
    name: &Path,
    options: &'a ImageOptions,
    room: Option<&'a Room>,
) -> Result<(RgbImage, Option<Taken<'a>>)> {
    let reading = Reading {
        options,
        room,
        taken: Cell::new(None),
    };
    let image = decode(bytes, name, &reading)?;
    Ok((image, reading.taken.into_inner()))
}

fn decode(bytes: &[u8], name: &Path, reading: &Reading<'_>) -> Result<RgbImage> {
    let Some(format) = Format::of(bytes) else {
        return Err(Error::NotAnImage {
            path: name.to_owned(),
            found: sniff::describe(bytes).to_owned(),
        });
    };
    let (image, orientation) = match format {
        Format::Jpeg => jpeg::decode(bytes, reading),
        Format::Png => png::decode(bytes, reading),
        Format::Gif => gif::decode(bytes, reading),
        Format::Tiff => tiff::decode(bytes, reading),
        Format::Other(format) => other::decode(bytes, format, reading),
    }
    .map_err(|fault| fault.at(name))?;
    Ok(orientation.apply(image))
}

/// The reading of one image: its options, and the memory that it has taken.
struct Reading<'a> {
    options: &'a ImageOptions,
    room: Option<&'a Room>,
    taken: Cell<Option<Taken<'a>>>,
}

impl Deref for Reading<'_> {
    type Target = ImageOptions;

    fn deref(&self) -> &ImageOptions {
        self.options
    }
}

impl ImageOptions {
    /// The most bytes of memory that decoding may take.
    fn max_bytes(&self) -> u64 {
        self.max_pixels.saturating_mul(BYTES_PER_PIXEL)
    }
}

impl Reading<'_> {
    /// Nothing, if an image of this size may be decoded from a file of `file` bytes at `per_pixel` bytes of memory more.
    /// Where memory is shared, waits until there is enough.
    fn check(&self, width: u32, height: u32, per_pixel: u64, file: usize) -> Result<(), Fault> {
        if width == 0 || height == 0 {
            return Err(Fault::decode("the image has no pixels"));
        }
        let rest = self.max_bytes().saturating_sub(file as u64);
        let limit = self.max_pixels.min(rest / per_pixel.max(1));
        if u64::from(width) * u64::from(height) > limit {
            return Err(Fault::TooLarge {
                width,
                height,
                limit,
            });
        }
        if let Some(room) = self.room {
            // What was taken for a smaller estimate is given back first: nobody waits holding anything.
            drop(self.taken.take());
            let pixels = u64::from(width) * u64::from(height);
            self.taken
                .set(Some(room.take(pixels * per_pixel + file as u64)));
        }
        Ok(())
    }
}

/// What can be wrong with an image, before it is known which file it is from.
#[derive(Debug)]
enum Fault {
    TooLarge { width: u32, height: u32, limit: u64 },
    Decode(Source),
}

impl Fault {
    fn decode(source: impl Into<Source>) -> Fault {
        Fault::Decode(source.into())
    }

    fn at(self, path: &Path) -> Error {
        let path = path.to_owned();
        match self {
            Fault::TooLarge {
                width,
                height,
                limit,
            } => Error::ImageTooLarge {
                path,
                width,
                height,
                limit,
            },
            Fault::Decode(source) => Error::ImageDecode { path, source },
        }
    }
}

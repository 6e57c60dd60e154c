//! How large an image is, from the first bytes that say so.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use image::{ImageFormat, ImageReader};

use super::Fault;
use super::sniff::{self, Format};
use crate::error::{Error, Result};

/// Bytes that tell a format.
const HEAD: u64 = 512;

/// The width and height of the image in a file, as it is stored: before any orientation.
///
/// # Cost
///
/// Reads the header alone.
///
/// # Errors
///
/// [`Error::Read`], [`Error::NotAnImage`], [`Error::ImageDecode`] for a header that is damaged. What comes after the
/// header may be damaged all the same.
///
/// # Example
///
/// ```
/// assert_eq!(diptych::image_size("assets/photos/cat.jpg")?, (1024, 768));
/// # Ok::<(), diptych::Error>(())
/// ```
pub fn image_size(path: impl AsRef<Path>) -> Result<(u32, u32)> {
    let path = path.as_ref();
    let mut file = BufReader::new(File::open(path).map_err(Error::read(path))?);
    let mut head = Vec::new();
    file.by_ref()
        .take(HEAD)
        .read_to_end(&mut head)
        .and_then(|_| file.rewind())
        .map_err(Error::read(path))?;
    let Some(format) = Format::of(&head) else {
        return Err(Error::NotAnImage {
            path: path.to_owned(),
            found: sniff::describe(&head).to_owned(),
        });
    };
    size(file, format).map_err(|fault| fault.at(path))
}

fn size(file: impl BufRead + Seek, format: Format) -> Result<(u32, u32), Fault> {
    let by_format = |file, format| {
        let reader = ImageReader::with_format(file, format);
        reader.into_dimensions().map_err(Fault::decode)
    };
    match format {
        Format::Jpeg => jpeg_size(file).map_err(Fault::decode),
        // `image` refuses the colours that it cannot decode.
        Format::Tiff => tiff::decoder::Decoder::new(file)
            .and_then(|mut decoder| decoder.dimensions())
            .map_err(Fault::decode),
        Format::Png => by_format(file, ImageFormat::Png),
        Format::Gif => by_format(file, ImageFormat::Gif),
        Format::Other(format) => by_format(file, format),
    }
}

/// Walks the segments up to the frame header; `image` would read the whole file first.
fn jpeg_size(mut file: impl BufRead + Seek) -> io::Result<(u32, u32)> {
    file.seek(SeekFrom::Start(2))?;
    loop {
        let [marker] = marker(&mut file)?;
        match marker {
            // Markers that stand alone.
            0x01 | 0xD0..=0xD8 => continue,
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                let [_, _, _, height, more_height, width, more_width] = bytes(&mut file)?;
                let side = |high, low| u32::from(u16::from_be_bytes([high, low]));
                return Ok((side(width, more_width), side(height, more_height)));
            }
            0xD9 | 0xDA => return Err(io::Error::other("no frame header before the first scan")),
            _ => {
                let length = i64::from(u16::from_be_bytes(bytes(&mut file)?));
                file.seek_relative((length - 2).max(0))?;
            }
        }
    }
}

/// The next marker: what follows one 0xFF or several.
fn marker(file: &mut impl Read) -> io::Result<[u8; 1]> {
    while bytes(file)? != [0xFF] {}
    loop {
        match bytes(file)? {
            [0xFF] => {}
            found => return Ok(found),
        }
    }
}

fn bytes<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::image_file::{ImageOptions, has_image_ending, open_image};

    #[test]
    fn sizes_are_those_of_the_pixels() {
        let options = ImageOptions {
            exif: false,
            ..ImageOptions::default()
        };
        let mut seen = 0;
        for folder in ["assets/photos", "tests/golden/images"] {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let decoded = has_image_ending(&path).then(|| open_image(&path, &options));
                // TIFF's own orientation is applied to pixels whatever the options are.
                if let Some(Ok(image)) = decoded {
                    let (width, height) = image_size(&path).unwrap();
                    let found = [(width, height), (height, width)];
                    let is_tiff = path.to_string_lossy().contains(".tif");
                    let known = &found[..1 + usize::from(is_tiff)];
                    assert!(known.contains(&image.dimensions()), "{}", path.display());
                    seen += 1;
                }
            }
        }
        assert!(seen > 30, "{seen}");
    }

    #[test]
    fn other_files_are_named() {
        assert!(matches!(
            image_size("Cargo.toml").unwrap_err(),
            Error::NotAnImage { .. }
        ));
        assert!(matches!(
            image_size("missing.jpg").unwrap_err(),
            Error::Read { .. }
        ));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.jpg");
        fs::write(&path, &fs::read("assets/photos/cat.jpg").unwrap()[..40]).unwrap();
        assert!(matches!(
            image_size(&path).unwrap_err(),
            Error::ImageDecode { .. }
        ));
    }
}

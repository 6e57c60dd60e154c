//! JPEG by libjpeg-turbo's decoder, which is Pillow's too: grey, colour and CMYK, every level the same.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::RgbImage;
use mozjpeg::Decompress;
use mozjpeg::decompress::Format;

use super::levels::{Canvas, cmyk_to_rgb};
use super::orientation::Orientation;
use super::{Fault, Reading};

#[cfg(panic = "abort")]
compile_error!(
    "diptych needs panic = \"unwind\": a damaged JPEG is reported by unwinding, else it would end the program"
);

/// Bytes of a coefficient; where a file comes in several scans, one is held for each sample.
const COEFFICIENT_BYTES: u64 = 2;

/// The most scans that are decoded: progressive files have about ten, and each takes time for the whole image, however
/// few bytes it has.
const MOST_SCANS: usize = 1000;

/// How APP1 begins where it holds EXIF, and where it holds XMP.
const EXIF: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

pub(super) fn decode(
    bytes: &[u8],
    options: &Reading<'_>,
) -> Result<(RgbImage, Orientation), Fault> {
    let segments = Segments::find(bytes)?;
    // The C code ends on an error by unwinding, without a message of its own; what it has is freed on the way.
    catch_unwind(AssertUnwindSafe(|| read(bytes, &segments, options))).unwrap_or_else(|payload| {
        let message = payload
            .downcast_ref::<String>()
            .map_or("damaged", String::as_str);
        Err(Fault::decode(message.to_owned()))
    })
}

fn read(
    bytes: &[u8],
    segments: &Segments<'_>,
    options: &Reading<'_>,
) -> Result<(RgbImage, Orientation), Fault> {
    let decoder = Decompress::new_mem(bytes)?;
    let sides = (
        u32::try_from(decoder.width()),
        u32::try_from(decoder.height()),
    );
    let (Ok(width), Ok(height)) = sides else {
        return Err(Fault::decode("its size is out of range"));
    };
    let orientation = segments.orientation(options);
    let channels = decoder.components().len() as u64;
    options.check(
        width,
        height,
        bytes_per_pixel(channels, segments.has_scans, orientation),
        bytes.len(),
    )?;

    // Each is read to the end marker: what is wrong behind the last row is an error in Pillow too.
    let pixels = match (channels, decoder.image()?) {
        (1, Format::Gray(mut rows)) => {
            let levels: Vec<u8> = rows.read_scanlines()?;
            rows.finish()?;
            let mut canvas = Canvas::new(levels.len(), None);
            canvas.add(&levels, 1);
            canvas.into_bytes()
        }
        (3, Format::RGB(mut rows)) => {
            let pixels: Vec<[u8; 3]> = rows.read_scanlines()?;
            rows.finish()?;
            pixels.into_flattened()
        }
        // Pillow takes every such file for one of Adobe's, which store ink inverted.
        (4, Format::CMYK(mut rows)) => {
            let inks: Vec<[u8; 4]> = rows.read_scanlines()?;
            rows.finish()?;
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

/// What the segments of a file tell before it is decoded.
#[derive(Debug, Default)]
struct Segments<'a> {
    /// Whether all coefficients are held until the last scan is read: of progressive files, and of those that hold one
    /// component after the other.
    has_scans: bool,
    exif: Option<&'a [u8]>,
    xmp: Option<&'a [u8]>,
}

impl<'a> Segments<'a> {
    /// Goes through the file up to its end marker.
    ///
    /// Fails if the file ends before that, as Pillow does: the decoder would paint the rest grey.
    fn find(bytes: &'a [u8]) -> Result<Segments<'a>, Fault> {
        let cut_off = || Fault::decode("the file is cut off");
        let mut segments = Segments::default();
        let mut components = 0;
        let mut scans = 0;
        let mut at = 2;
        loop {
            // To the next marker: past coded data, in which FF 00 is a byte and FF D0 to FF D7 are rests between parts.
            let rest = bytes.get(at..).unwrap_or_default();
            at += rest
                .windows(2)
                .position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xD0..=0xD7 | 0xFF))
                .ok_or_else(cut_off)?;
            let marker = bytes[at + 1];
            at += 2;
            match marker {
                0xD9 => return Ok(segments),
                // Markers that nothing belongs to.
                0x01 | 0xD8 => continue,
                _ => {}
            }
            let length = bytes.get(at..at + 2).ok_or_else(cut_off)?;
            let length = usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
            let Some(body) = bytes.get(at + 2..at + length) else {
                // Damaged data may hold what looks like a marker, of a segment that would reach beyond the file.
                if scans > 0 {
                    continue;
                }
                return Err(cut_off());
            };
            at += length;
            match marker {
                0xC0..=0xCF if !matches!(marker, 0xC4 | 0xC8 | 0xCC) => {
                    components = components.max(body.get(5).copied().unwrap_or(0));
                    segments.has_scans |= matches!(marker, 0xC2 | 0xC6 | 0xCA | 0xCE);
                }
                0xDA => {
                    scans += 1;
                    segments.has_scans |= body.first().is_none_or(|&count| count < components);
                }
                0xE1 if scans == 0 => segments.add(body),
                _ => {}
            }
            if scans > MOST_SCANS {
                return Err(Fault::decode(format!("it has over {MOST_SCANS} scans")));
            }
        }
    }

    /// Keeps the first EXIF and the last XMP, as Pillow does.
    fn add(&mut self, app1: &'a [u8]) {
        if app1.starts_with(EXIF) {
            self.exif.get_or_insert(app1);
        } else if let Some(xmp) = app1.strip_prefix(XMP) {
            self.xmp = Some(xmp);
        }
    }

    fn orientation(&self, options: &Reading<'_>) -> Orientation {
        if options.exif {
            Orientation::read(self.exif, self.xmp)
        } else {
            Orientation::UPRIGHT
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The start mark, then each segment.
    fn file(segments: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0xFF, 0xD8];
        for &(marker, body) in segments {
            bytes.extend([0xFF, marker, 0, body.len() as u8 + 2]);
            bytes.extend(body);
        }
        bytes
    }

    /// A frame's header up to the number of its components.
    const COLOUR: &[u8] = &[8, 0, 1, 0, 1, 3];

    fn has_scans(frame: u8, scans: &[u8]) -> bool {
        let mut bytes = file(&[(frame, COLOUR)]);
        for count in scans {
            bytes.extend(&file(&[(0xDA, &[*count])])[2..]);
        }
        bytes.extend([0xFF, 0xD9]);
        Segments::find(&bytes).unwrap().has_scans
    }

    #[test]
    fn coefficients_are_held_for_all_but_one_interleaved_scan() {
        assert!(!has_scans(0xC0, &[3]));
        assert!(!has_scans(0xC9, &[3]));
        assert!(has_scans(0xC0, &[1, 1, 1]));
        assert!(has_scans(0xC0, &[1]));
        // A progressive file that stops after its first scan, too.
        assert!(has_scans(0xC2, &[3]));
        assert!(has_scans(0xCA, &[3]));
    }

    #[test]
    fn a_stray_marker_in_coded_data_hides_no_end() {
        let scan = file(&[(0xC0, COLOUR), (0xDA, &[3])]);
        let stray = [7, 0xFF, 0xE5, 0xFF, 0xFE, 7, 0xFF, 0xD9];
        assert!(Segments::find(&[&scan[..], &stray].concat()).is_ok());
        assert!(Segments::find(&[&scan[..], &stray[..6]].concat()).is_err());
        assert!(Segments::find(&[&[0xFF, 0xD8][..], &stray].concat()).is_err());
    }

    #[test]
    fn scans_are_limited() {
        let scans = |count| vec![3; count];
        assert!(has_scans(0xC2, &scans(MOST_SCANS)));
        let many = file(&vec![(0xDA, &[3][..]); MOST_SCANS + 1]);
        assert!(Segments::find(&[&many[..], &[0xFF, 0xD9]].concat()).is_err());
    }

    #[test]
    fn the_first_exif_and_the_last_xmp_count() {
        let app1 = |start: &[u8], end: &[u8]| [start, end].concat();
        let (first, second) = (app1(EXIF, b"1"), app1(EXIF, b"2"));
        let (old, new) = (app1(XMP, b"old"), app1(XMP, b"new"));
        let mut bytes = file(&[(0xE1, &first), (0xE1, &old), (0xE1, &second), (0xE1, &new)]);
        bytes.extend([0xFF, 0xD9]);
        let segments = Segments::find(&bytes).unwrap();
        assert_eq!(segments.exif, Some(&first[..]));
        assert_eq!(segments.xmp, Some(&b"new"[..]));
    }
}

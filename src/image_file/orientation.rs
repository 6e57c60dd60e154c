//! How a picture was held, as EXIF or XMP state it, and turning it upright.

use image::RgbImage;
use image::imageops::{
    flip_horizontal_in_place, flip_vertical_in_place, rotate90, rotate180_in_place, rotate270,
};

/// The prefix that JPEG's EXIF segment has, and that some programs write elsewhere too.
const EXIF_PREFIX: &[u8] = b"Exif\0\0";

/// EXIF's number of an orientation: 1 is upright, 2 to 8 are the other ways to turn and mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Orientation(u8);

impl Orientation {
    pub(super) const UPRIGHT: Orientation = Orientation(1);

    /// The orientation of this number; numbers that stand for none are upright.
    pub(super) fn new(number: u16) -> Orientation {
        match number {
            2..=8 => Orientation(number as u8),
            _ => Orientation::UPRIGHT,
        }
    }

    /// What EXIF states, or else what XMP states, or else upright: the order that Pillow keeps.
    pub(super) fn read(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Orientation {
        exif.and_then(in_exif)
            .or_else(|| xmp.and_then(in_xmp))
            .map_or(Orientation::UPRIGHT, Orientation::new)
    }

    /// Whether width and height change places.
    pub(super) fn is_sideways(self) -> bool {
        self.0 >= 5
    }

    /// The image turned upright.
    pub(super) fn apply(self, mut image: RgbImage) -> RgbImage {
        // 5 and 7 are mirrored along a diagonal: a turn, then a flip.
        let mut image = match self.0 {
            5 | 6 => rotate90(&image),
            7 | 8 => rotate270(&image),
            3 => {
                rotate180_in_place(&mut image);
                image
            }
            _ => image,
        };
        match self.0 {
            2 | 5 | 7 => flip_horizontal_in_place(&mut image),
            4 => flip_vertical_in_place(&mut image),
            _ => {}
        }
        image
    }
}

/// The orientation that a block of EXIF states.
fn in_exif(mut exif: &[u8]) -> Option<u16> {
    while let Some(rest) = exif.strip_prefix(EXIF_PREFIX) {
        exif = rest;
    }
    Some(Entry::find(exif, 0x0112)?.value)
}

/// An entry of the first directory of a TIFF, which EXIF is too, with one value of 16 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// The value.
    pub(super) value: u16,
    /// Where the value stands.
    pub(super) at: usize,
}

impl Entry {
    /// The entry of this tag.
    pub(super) fn find(tiff: &[u8], tag: u16) -> Option<Entry> {
        let is_little = match tiff.get(..4)? {
            b"II*\0" => true,
            b"MM\0*" => false,
            _ => return None,
        };
        let number = |at: usize, length: usize| -> Option<usize> {
            let bytes = tiff.get(at..at.checked_add(length)?)?.iter();
            let join = |number, &byte| number << 8 | usize::from(byte);
            Some(if is_little {
                bytes.rev().fold(0, join)
            } else {
                bytes.fold(0, join)
            })
        };
        let directory = number(4, 4)?;
        // An entry is a tag, a type, a count and a value: 2, 2, 4 and 4 bytes.
        let entry = (0..number(directory, 2)?)
            .map(|index| directory + 2 + index * 12)
            .find(|&entry| number(entry, 2) == Some(usize::from(tag)))?;
        let at = entry + 8;
        let value = u16::try_from(number(at, 2)?).ok()?;
        Some(Entry { value, at })
    }
}

/// The orientation that a packet of XMP states, looked for as Pillow does, without parsing XML.
fn in_xmp(xmp: &[u8]) -> Option<u16> {
    const NAME: &[u8] = b"tiff:Orientation";
    (0..xmp.len()).find_map(|at| {
        let rest = xmp[at..].strip_prefix(NAME)?;
        let digit = rest
            .strip_prefix(b"=\"")
            .or_else(|| rest.strip_prefix(b">"))?
            .first()?;
        digit.is_ascii_digit().then(|| u16::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pixel of a level for each number.
    fn image<const N: usize>(width: u32, height: u32, levels: [u8; N]) -> RgbImage {
        let bytes = levels.iter().flat_map(|&level| [level; 3]).collect();
        RgbImage::from_vec(width, height, bytes).expect("as many levels as pixels")
    }

    #[test]
    fn eight_ways_to_hold_a_camera() {
        // 1 2 3
        // 4 5 6
        for (number, width, height, levels) in [
            (1, 3, 2, [1, 2, 3, 4, 5, 6]),
            (2, 3, 2, [3, 2, 1, 6, 5, 4]),
            (3, 3, 2, [6, 5, 4, 3, 2, 1]),
            (4, 3, 2, [4, 5, 6, 1, 2, 3]),
            (5, 2, 3, [1, 4, 2, 5, 3, 6]),
            (6, 2, 3, [4, 1, 5, 2, 6, 3]),
            (7, 2, 3, [6, 3, 5, 2, 4, 1]),
            (8, 2, 3, [3, 6, 2, 5, 1, 4]),
        ] {
            let upright = Orientation::new(number).apply(image(3, 2, [1, 2, 3, 4, 5, 6]));
            assert_eq!(upright, image(width, height, levels), "{number}");
        }
        assert_eq!(Orientation::new(0), Orientation::UPRIGHT);
        assert_eq!(Orientation::new(9), Orientation::UPRIGHT);
    }

    #[test]
    fn exif_in_either_byte_order() {
        let little = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0";
        let big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0";
        assert_eq!(in_exif(little), Some(6));
        assert_eq!(in_exif(big), Some(8));
        for end in 0..little.len() - 2 {
            assert_eq!(in_exif(&little[..end]), None);
        }
    }

    #[test]
    fn xmp_where_exif_is_silent() {
        let attribute = b"<rdf:Description tiff:Orientation=\"3\"/>".as_slice();
        let element = b"<tiff:Orientation>8</tiff:Orientation>".as_slice();
        assert_eq!(Orientation::read(None, Some(attribute)), Orientation(3));
        assert_eq!(
            Orientation::read(Some(b"II*"), Some(element)),
            Orientation(8)
        );
        assert_eq!(in_xmp(b"tiff:Orientation=\"\""), None);
        assert_eq!(in_xmp(b"tiff:Orientation"), None);
    }
}

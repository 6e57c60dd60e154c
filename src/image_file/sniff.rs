//! What bytes are, by how they begin: an image format that can be read, or a name for what they are instead.

use image::ImageFormat;

/// A format that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Jpeg,
    Png,
    Gif,
    Tiff,
    /// WebP, BMP, PNM or QOI.
    Other(ImageFormat),
}

impl Format {
    /// The format of these bytes, if it can be read.
    pub(super) fn of(bytes: &[u8]) -> Option<Format> {
        match bytes {
            [0xFF, 0xD8, 0xFF, ..] => Some(Format::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some(Format::Png),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Format::Gif),
            // 42 for TIFF, 43 for BigTIFF.
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(Format::Tiff),
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'E',
                b'B',
                b'P',
                ..,
            ] => Some(Format::Other(ImageFormat::WebP)),
            [b'B', b'M', ..] => Some(Format::Other(ImageFormat::Bmp)),
            [b'P', b'1'..=b'6', b' ' | b'\t' | b'\r' | b'\n', ..] => {
                Some(Format::Other(ImageFormat::Pnm))
            }
            [b'q', b'o', b'i', b'f', ..] => Some(Format::Other(ImageFormat::Qoi)),
            _ => None,
        }
    }
}

/// What bytes that are no such image look like.
pub(super) fn describe(bytes: &[u8]) -> &'static str {
    let head = &bytes[..bytes.len().min(512)];
    let trimmed = head.trim_ascii_start();
    let starts = |word: &str| {
        trimmed
            .get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
    };
    match head {
        [] => "an empty file",
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => describe_brand(brand),
        _ if starts("<!doctype html") || starts("<html") => "HTML",
        _ if starts("<svg") => "SVG, which is not supported",
        _ if starts("<?xml") => "XML",
        _ if starts("%PDF") => "PDF",
        [b'P', b'K', 3, 4, ..] => "a ZIP archive",
        [0, 0, 1, 0, ..] => "an icon, which is not supported",
        [0, 0, 0, 12, b'j', b'P', ..] | [0xFF, 0x4F, 0xFF, 0x51, ..] => {
            "JPEG 2000, which is not supported"
        }
        [0xFF, 0x0A, ..] | [0, 0, 0, 12, b'J', b'X', b'L', ..] => "JPEG XL, which is not supported",
        _ if is_text(head) => "text",
        _ => "unknown bytes",
    }
}

/// What an ISO base media file is, by the brand it states.
fn describe_brand(brand: &[u8]) -> &'static str {
    match brand.get(..4) {
        Some(b"avif" | b"avis") => "AVIF, which is not supported",
        Some(b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1") => {
            "HEIC, which is not supported"
        }
        _ => "a video",
    }
}

/// Whether bytes are UTF-8 without control characters; the last character may be cut in two.
fn is_text(head: &[u8]) -> bool {
    let text = match str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty()
        && text
            .chars()
            .all(|letter| !letter.is_control() || letter.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides() {
        assert_eq!(Format::of(b"\xFF\xD8\xFF\xE0"), Some(Format::Jpeg));
        assert_eq!(Format::of(b"MM\0*"), Some(Format::Tiff));
        assert_eq!(
            Format::of(b"P5\n1 1"),
            Some(Format::Other(ImageFormat::Pnm))
        );
        assert_eq!(Format::of(b"P7\n"), None);
        assert_eq!(Format::of(b"PNG"), None);
        assert_eq!(Format::of(b""), None);
    }

    #[test]
    fn others_are_named() {
        for (bytes, found) in [
            (b"".as_slice(), "an empty file"),
            (b"hello", "text"),
            ("caf\u{e9}".as_bytes(), "text"),
            (&"caf\u{e9}".as_bytes()[..4], "text"),
            (b"\n <!DOCTYPE html><p>", "HTML"),
            (b"%PDF-1.7", "PDF"),
            (b"\0\0\0\x18ftypheic", "HEIC, which is not supported"),
            (b"\0\0\0\x18ftypavif", "AVIF, which is not supported"),
            (b"\0\0\0\x18ftypisom", "a video"),
            (b"\0\0\0\x18ft", "unknown bytes"),
            (b"\0\x01\x02", "unknown bytes"),
        ] {
            assert_eq!(describe(bytes), found);
        }
    }
}

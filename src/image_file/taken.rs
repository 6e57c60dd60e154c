//! When a photo was taken, as its EXIF says.

use std::io::Cursor;

use exif::{Exif, In, Reader, Tag, Value};
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

/// When the photo in `bytes` was taken, in nanoseconds since 1970; `None` where it does not say.
///
/// A time without an offset, which is what most cameras write, is one of the user's time zone.
pub(crate) fn taken(bytes: &[u8]) -> Option<i64> {
    let exif = Reader::new()
        .read_from_container(&mut Cursor::new(bytes))
        .ok()?;
    let tags = [
        (Tag::DateTimeOriginal, Tag::OffsetTimeOriginal),
        (Tag::DateTimeDigitized, Tag::OffsetTimeDigitized),
    ];
    tags.into_iter().find_map(|(time, offset)| {
        let time = parse(&text(&exif, time)?)?;
        let zone = text(&exif, offset).and_then(|offset| parse_offset(&offset));
        let zone = zone.map_or_else(TimeZone::system, TimeZone::fixed);
        let moment = time.to_zoned_datetime(zone).ok()?;
        i64::try_from(moment.timestamp().as_nanosecond()).ok()
    })
}

fn text(exif: &Exif, tag: Tag) -> Option<String> {
    match &exif.get_field(tag, In::PRIMARY)?.value {
        Value::Ascii(parts) => Some(String::from_utf8_lossy(parts.first()?).into_owned()),
        _ => None,
    }
}

/// `2024:07:31 18:00:00`; cameras whose clock was never set write zeros, which are no date.
fn parse(text: &str) -> Option<DateTime> {
    DateTime::strptime("%Y:%m:%d %H:%M:%S", text.trim().trim_end_matches('\0')).ok()
}

/// `+02:00`.
fn parse_offset(text: &str) -> Option<Offset> {
    let (sign, rest) = match text.trim().split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let seconds = 3600 * hours.parse::<i32>().ok()? + 60 * minutes.parse::<i32>().ok()?;
    Offset::from_seconds(sign * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TIFF header with an EXIF directory that holds two texts.
    fn exif(time: &str, offset: &str) -> Vec<u8> {
        use exif::Field;
        use exif::experimental::Writer;
        let field = |tag, text: &str| Field {
            tag,
            ifd_num: In::PRIMARY,
            value: Value::Ascii(vec![text.as_bytes().to_vec()]),
        };
        let fields = [
            field(Tag::DateTimeOriginal, time),
            field(Tag::OffsetTimeOriginal, offset),
        ];
        let mut writer = Writer::new();
        fields.iter().for_each(|field| writer.push_field(field));
        let mut bytes = Cursor::new(Vec::new());
        writer.write(&mut bytes, true).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_photo_says_when_it_was_taken() {
        let hours = |time: &str, offset: &str| {
            taken(&exif(time, offset)).map(|time| time / 3_600_000_000_000)
        };
        assert_eq!(hours("1970:01:02 00:00:00", "+00:00"), Some(24));
        assert_eq!(hours("1970:01:02 00:00:00", "-05:00"), Some(29));
        assert!((0..48).contains(&hours("1970:01:02 00:00:00", "?").unwrap()));
        assert_eq!(hours("0000:00:00 00:00:00", "+00:00"), None);
        assert_eq!(hours("    :  :     :  :  ", "+00:00"), None);
        assert_eq!(taken(b"no image"), None);
    }
}

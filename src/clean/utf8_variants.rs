//! The decoding of ftfy's codec "utf-8-variants": UTF-8, CESU-8 for astral characters, and Java's two bytes for null.
//!
//! Source: ftfy 6.3.1 (Apache-2.0), ftfy/bad_codecs/utf8_variants.py; CESU-8 is Unicode Technical Report 26.

/// The text, or `None` where Python would raise `UnicodeDecodeError`.
pub(crate) fn decode(bytes: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(bytes.len());
    let (mut start, mut position) = (0, 0);
    while position < bytes.len() {
        if let Some((letter, length)) = variant_at(&bytes[position..]) {
            text.push_str(str::from_utf8(&bytes[start..position]).ok()?);
            text.push(letter);
            position += length;
            start = position;
        } else {
            position += 1;
        }
    }
    text.push_str(str::from_utf8(&bytes[start..]).ok()?);
    Some(text)
}

/// The character that the bytes open with in a way UTF-8 has no place for, and its length.
///
/// A trap kept from the original: its patterns end in `$`, which Python also matches before a final line feed. So at
/// the very end a line feed may stand for the last byte, and is swallowed. Truncations further forward only ever
/// end in an error there, as they do here in plain UTF-8.
fn variant_at(bytes: &[u8]) -> Option<(char, usize)> {
    match *bytes {
        [0xC0, 0x80, ..] | [0xC0, b'\n'] => Some(('\0', 2)),
        [
            0xED,
            second @ 0xA0..=0xAF,
            third @ 0x80..=0xBF,
            0xED,
            fifth @ 0xB0..=0xBF,
            sixth,
            ref rest @ ..,
        ] if matches!(sixth, 0x80..=0xBF) || (sixth == b'\n' && rest.is_empty()) => {
            let bits = |byte, mask| u32::from(byte & mask);
            let high = (bits(second, 0x0F) << 16) + (bits(third, 0x3F) << 10);
            let low = (bits(fifth, 0x0F) << 6) + bits(sixth, 0x3F);
            char::from_u32(0x10000 + high + low).map(|letter| (letter, 6))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn surrogate_pairs_and_java_nulls_are_read() {
        let cesu = b"\xed\xa0\xbd\xed\xb8\x8d";
        assert_eq!(decode(cesu).as_deref(), Some("😍"));
        assert_eq!(decode(b"a\xc0\x80\xc3\xa9").as_deref(), Some("a\0é"));
        assert_eq!(decode("한".as_bytes()).as_deref(), Some("한"));
    }

    #[test]
    fn lone_halves_are_errors() {
        assert_eq!(decode(b"\xed\xa0\xbd"), None);
        assert_eq!(decode(b"\xed\xb8\x8d\xed\xa0\xbd"), None);
        assert_eq!(decode(b"\xc0"), None);
        assert_eq!(decode(b"\xed\n"), None);
    }

    #[test]
    fn a_final_line_feed_stands_for_the_last_byte() {
        assert_eq!(decode(b"\xc0\n").as_deref(), Some("\0"));
        assert_eq!(decode(b"\xc0\n "), None);
        let cesu = b"\xed\xa0\xbd\xed\xb8\n";
        assert_eq!(decode(cesu).as_deref(), Some("\u{1f60a}"));
    }
}

//! ftfy's `fix_encoding`: text that was UTF-8 and was decoded as something else, decoded again.
//!
//! Whether a text looks wrong at all is `badness`; the wrong encodings are `code_page`.
//!
//! Source: ftfy 6.3.1 (Apache-2.0), `_fix_encoding_one_step_and_explain` in ftfy/__init__.py; `restore_byte_a0`,
//! `replace_lossy_sequences` and `decode_inconsistent_utf8` in ftfy/fixes.py; the expressions and `UTF8_CLUES` in
//! ftfy/chardata.py.

use std::ops::Range;

use super::badness::is_bad;
use super::characters::fix_c1_controls;
use super::code_page::{CODE_PAGES, CodePage};
use super::utf8_variants;

/// U+FFFD in UTF-8.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// The text as it was meant, or `None` where nothing is to be fixed.
pub(crate) fn fix_encoding(text: &str) -> Option<String> {
    let mut fixed = fix_once(text)?;
    while let Some(further) = fix_once(&fixed) {
        fixed = further;
    }
    Some(fixed)
}

/// One step, or `None` where it gives the same text.
///
/// The last step stands for three of ftfy's: reading the whole as Windows-1252 instead of Latin-1, with its exceptions
/// for bytes that one of the two lacks, gives just what replacing the C1 controls one by one gives.
fn fix_once(text: &str) -> Option<String> {
    if text.is_ascii() || !is_bad(text) {
        return None;
    }
    // The first page that gives valid UTF-8 ends the step, even where the result is the text itself.
    if let Some(decoded) = CODE_PAGES.iter().find_map(|page| decode_again(text, page)) {
        return (decoded != text).then_some(decoded);
    }
    decode_inconsistent_utf8(text).or_else(|| fix_c1_controls(text))
}

/// The text as UTF-8, if this page is what it was taken for.
fn decode_again(text: &str, page: &CodePage) -> Option<String> {
    let mut bytes = page.encode(text)?;
    if page.restores_spaces && altered_sequences(&bytes) {
        bytes = restore_byte_a0(&bytes);
    }
    if page.is_sloppy {
        bytes = replace_lossy_sequences(&bytes);
    }
    // Only these two bytes can begin what plain UTF-8 rejects.
    if bytes.iter().any(|byte| matches!(byte, 0xC0 | 0xED)) {
        utf8_variants::decode(&bytes)
    } else {
        String::from_utf8(bytes).ok()
    }
}

fn altered_sequences(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|start| altered_length(&bytes[start..]).is_some())
}

/// Spaces that must have been the byte 0xA0, made that byte again.
fn restore_byte_a0(bytes: &[u8]) -> Vec<u8> {
    let bytes = separate_a_grave(bytes);
    let mut restored = Vec::with_capacity(bytes.len());
    while let Some(&byte) = bytes.get(restored.len()) {
        match altered_length(&bytes[restored.len()..]) {
            Some(length) => {
                let sequence = &bytes[restored.len()..][..length];
                let restore = |&byte: &u8| if byte == b' ' { 0xA0 } else { byte };
                let sequence: Vec<u8> = sequence.iter().map(restore).collect();
                restored.extend(sequence);
            }
            None => restored.push(byte),
        }
    }
    restored
}

/// `Ã ` as `à ` with a space of its own, since `à` is mostly a word; not before another space, nor in the Portuguese
/// words that begin with it.
fn separate_a_grave(bytes: &[u8]) -> Vec<u8> {
    let endings: [&[u8]; 5] = [b" ", b"quele", b"quela", b"quilo", b"s "];
    let mut separated = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [byte, after @ ..] = rest {
        rest = after;
        separated.push(*byte);
        if let [b' ', next @ ..] = after
            && *byte == 0xC3
            && !endings.iter().any(|ending| next.starts_with(ending))
        {
            separated.extend([0xA0, b' ']);
            rest = next;
        }
    }
    separated
}

/// The length of a UTF-8 sequence at the start in which one byte 0xA0 became a space; some are left out, whose
/// characters would be less likely than what is seen. `ALTERED_UTF8_RE`.
fn altered_length(bytes: &[u8]) -> Option<usize> {
    let trail = |byte: &u8| matches!(byte, 0x80..=0xBF);
    // Neither 0xA0 itself nor 0x85, the ellipsis of Windows-1252.
    let likely_trail = |byte: &u8| trail(byte) && !matches!(byte, 0x85 | 0xA0);
    match bytes {
        [0xC2 | 0xC3 | 0xC5 | 0xCE | 0xD0 | 0xD9, b' ', ..] => Some(2),
        [0xE2 | 0xE3, b' ', third, ..] if likely_trail(third) => Some(3),
        [0xE0..=0xE3, second, b' ', ..] if likely_trail(second) => Some(3),
        [0xF0, b' ', third, fourth, ..] if trail(third) && trail(fourth) => Some(4),
        [0xF0, second, b' ', fourth, ..] if trail(second) && trail(fourth) => Some(4),
        [0xF0, second, third, b' ', ..] if trail(second) && trail(third) => Some(4),
        _ => None,
    }
}

/// Each UTF-8 sequence that lost bytes made one U+FFFD.
fn replace_lossy_sequences(bytes: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [byte, after @ ..] = rest {
        if let Some(length) = lossy_length(rest) {
            replaced.extend(REPLACEMENT);
            rest = &rest[length..];
        } else {
            replaced.push(*byte);
            rest = after;
        }
    }
    replaced
}

/// The length of a sequence at the start in which at least one byte is lost. Lost bytes are 0x1A, or one `?` in a
/// sequence. `LOSSY_UTF8_RE`, whose order is kept: the first arm that fits decides.
fn lossy_length(bytes: &[u8]) -> Option<usize> {
    let lost = |byte: &u8| matches!(byte, 0x1A | b'?');
    let trail = |byte: &u8| matches!(byte, 0x1A | 0x80..=0xBF);
    let any = |byte: &u8| lost(byte) || trail(byte);
    match bytes {
        [0xC2..=0xDF, 0x1A, ..] | [0xC2..=0xC3, b'?', ..] => Some(2),
        // The two halves of a CESU-8 pair.
        [0xED, 0xA0..=0xAF, third, 0xED, 0xB0..=0xBF, sixth, ..]
            if (lost(third) && any(sixth)) || (any(third) && lost(sixth)) =>
        {
            Some(6)
        }
        [0xE0..=0xEF, b, c, ..] if (lost(b) && trail(c)) || (trail(b) && lost(c)) => Some(3),
        [0xF0..=0xF4, b, c, d, ..]
            if (lost(b) && trail(c) && trail(d))
                || (trail(b) && lost(c) && trail(d))
                || (trail(b) && trail(c) && lost(d)) =>
        {
            Some(4)
        }
        [0x1A, ..] => Some(1),
        _ => None,
    }
}

/// Runs of characters that look like UTF-8 sequences, each fixed by itself; `None` where that changes nothing.
///
/// A run has to be shorter than the text, or this would never end.
fn decode_inconsistent_utf8(text: &str) -> Option<String> {
    let mut fixed = String::with_capacity(text.len());
    let mut copied = 0;
    for run in sequence_runs(text) {
        let part = &text[run.clone()];
        if part.len() < text.len()
            && let Some(changed) = fix_encoding(part)
        {
            fixed.push_str(&text[copied..run.start]);
            fixed.push_str(&changed);
            copied = run.end;
        }
    }
    fixed.push_str(&text[copied..]);
    (fixed != text).then_some(fixed)
}

/// Where the text holds runs of such sequences, none right after a character that is only ever the rest of one.
/// `UTF8_DETECTOR_RE`.
fn sequence_runs(text: &str) -> Vec<Range<usize>> {
    let letters: Vec<char> = text.chars().collect();
    let mut runs = Vec::new();
    let (mut index, mut position) = (0, 0);
    while index < letters.len() {
        let inside = index > 0 && continues_strictly(letters[index - 1]);
        let length = if inside {
            0
        } else {
            run_length(&letters[index..])
        };
        let taken = &letters[index..][..length.max(1)];
        let end = position + taken.iter().map(|letter| letter.len_utf8()).sum::<usize>();
        if length > 0 {
            runs.push(position..end);
        }
        index += taken.len();
        position = end;
    }
    runs
}

/// How many characters at the start form whole sequences, one after another.
fn run_length(letters: &[char]) -> usize {
    let mut length = 0;
    while let Some(sequence) = sequence_length(&letters[length..]) {
        length += sequence;
    }
    length
}

fn sequence_length(letters: &[char]) -> Option<usize> {
    match *letters {
        [a, b, ..] if begins_two(a) && continues(b) => Some(2),
        [a, b, c, ..] if begins_three(a) && continues(b) && continues(c) => Some(3),
        [a, b, c, d, ..] if begins_four(a) && [b, c, d].into_iter().all(continues) => Some(4),
        _ => None,
    }
}

/// What 0xC2 to 0xDF stand for in the Windows pages.
fn begins_two(letter: char) -> bool {
    matches!(letter, 'Â'..='ß' | 'Β'..='Ρ' | 'Σ'..='ί' | 'В'..='Я')
        || "ĀĂĆČĎĐĒĖĘĚĞĢĪİĶĹĻŁŃŅŇŌŐŘŚŞŠŢŪŮŰŲŹŻŽ".contains(letter)
}

/// What 0xE0 to 0xEF stand for.
fn begins_three(letter: char) -> bool {
    matches!(letter, 'à'..='ï' | 'ΰ'..='ο' | 'а'..='п') || "āăąćčďēėęěģīįķĺļŕź".contains(letter)
}

/// What 0xF0 and 0xF3 stand for; the bytes beside them begin nothing that is in use.
fn begins_four(letter: char) -> bool {
    matches!(letter, 'ð' | 'ó' | 'đ' | 'ğ' | 'š' | 'π' | 'σ' | 'р' | 'у')
}

/// What 0x80 to 0xBF stand for, and a space in the place of 0xA0.
fn continues(letter: char) -> bool {
    // Spaces, dashes, quotes, the bullet and the ellipsis also stand beside mojibake on their own.
    let also_alone = matches!(letter, ' ' | '–'..='―' | '‘'..='‚' | '“'..='„' | '•' | '…');
    also_alone || continues_strictly(letter)
}

/// The same, without what also stands beside mojibake on its own.
fn continues_strictly(letter: char) -> bool {
    matches!(letter, '\u{80}'..='¿' | 'Ş'..='š' | 'Ÿ'..='ž' | 'Ё'..='Ќ' | 'ё'..='ќ')
        || "ÆØæøĄąĽľŁłŒœŖŗŚśŤťƒˆˇ˘˛˜˝΄΅ΆΈΉΊΌΎΏЎЏўџҐґ†‡‰‹›€№™".contains(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(text: &str) -> String {
        fix_encoding(text).unwrap_or_else(|| text.to_owned())
    }

    #[test]
    fn whole_text_stays() {
        for text in ["plain", "café", "Ελληνικά", "Ã", "“quoted”"] {
            assert_eq!(fix_encoding(text), None, "{text}");
        }
    }

    #[test]
    fn mojibake_is_decoded_as_often_as_it_was_made() {
        assert_eq!(fixed("sÃ³"), "só");
        assert_eq!(fixed("РїСЂРёРІРµС‚"), "привет");
        assert_eq!(fixed("â”œâŒ\u{90}"), "é");
    }

    #[test]
    fn lost_spaces_and_bytes_are_allowed_for() {
        assert_eq!(fixed("voilÃ le travail"), "voilà le travail");
        assert_eq!(fixed("Ã quele"), "àquele");
        assert_eq!(fixed("â€œ like this â€\u{fffd}"), "“ like this \u{fffd}");
    }

    #[test]
    fn mojibake_beside_whole_text_is_fixed_by_itself() {
        assert_eq!(fixed("日本 Ã©"), "日本 é");
    }

    #[test]
    fn controls_become_windows_1252() {
        assert_eq!(fixed("\u{85}\u{81}"), "…\u{81}");
        assert_eq!(fixed("\u{81}"), "\u{81}");
    }
}

//! ftfy's plain replacements: C1 controls, ligatures, widths, quotes, line breaks, terminal escapes and controls.
//!
//! Each function takes one text and gives the new one, or `None` where it has nothing to change. Guesses at wrong
//! encodings are in `mojibake`.
//!
//! Source: ftfy 6.3.1 (Apache-2.0), ftfy/fixes.py and the tables of ftfy/chardata.py.

use std::iter;
use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization;

use super::code_page::windows_1252_of_control;
use super::unicode_14::KNOWN;

/// A colour or cursor command of a terminal. Python's `\d` takes the decimal digits of all scripts, as Rust's does.
static TERMINAL_ESCAPE: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = format!(r"\x1B\[[;[\d&&{KNOWN}]]*[a-zA-Z]");
    Regex::new(&pattern).expect("the constant pattern is valid")
});

/// C1 controls to what Windows-1252 has in their places; the five without such a place stay.
pub(crate) fn fix_c1_controls(text: &str) -> Option<String> {
    rewrite(text, |letter, fixed| {
        let meant = windows_1252_of_control(letter);
        meant.inspect(|&meant| fixed.push(meant)).is_some()
    })
}

/// Latin ligatures and digraphs to their letters.
pub(crate) fn fix_latin_ligatures(text: &str) -> Option<String> {
    rewrite(text, |letter, fixed| {
        let letters = ligature_letters(letter);
        letters.inspect(|letters| fixed.push_str(letters)).is_some()
    })
}

/// ftfy's table, which leaves out æ, œ and whatever else is meant as it stands.
fn ligature_letters(ligature: char) -> Option<&'static str> {
    Some(match ligature {
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        'ŉ' => "ʼn",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' => "ſt",
        'ﬆ' => "st",
        _ => return None,
    })
}

/// Fullwidth and halfwidth forms to their usual width, and the ideographic space to a space.
///
/// ftfy's table is NFKC of each character from U+FF01 to U+FFEF, one by one; so is this.
pub(crate) fn fix_character_width(text: &str) -> Option<String> {
    rewrite(text, |letter, fixed| match letter {
        '\u{3000}' => {
            fixed.push(' ');
            true
        }
        '\u{ff01}'..='\u{ffef}' => {
            let usual = iter::once(letter).nfkc();
            if usual.clone().eq([letter]) {
                return false;
            }
            fixed.extend(usual);
            true
        }
        _ => false,
    })
}

/// Curly quotes to straight ones.
pub(crate) fn uncurl_quotes(text: &str) -> Option<String> {
    rewrite(text, |letter, fixed| {
        let straight = match letter {
            '\u{2bc}' | '\u{2018}'..='\u{201b}' => '\'',
            '\u{201c}'..='\u{201f}' => '"',
            _ => return false,
        };
        fixed.push(straight);
        true
    })
}

/// Every kind of line break to `\n`.
pub(crate) fn fix_line_breaks(text: &str) -> Option<String> {
    let breaks = ['\r', '\u{2028}', '\u{2029}', '\u{85}'];
    text.contains(breaks)
        .then(|| text.replace("\r\n", "\n").replace(breaks, "\n"))
}

/// Without the escape sequences that colour a terminal.
pub(crate) fn remove_terminal_escapes(text: &str) -> Option<String> {
    TERMINAL_ESCAPE
        .is_match(text)
        .then(|| TERMINAL_ESCAPE.replace_all(text, "").into_owned())
}

/// Without the controls that show nothing. Tab, line feed, form feed, carriage return and the C1 block stay.
pub(crate) fn remove_control_characters(text: &str) -> Option<String> {
    rewrite(text, |letter, _| {
        matches!(
            letter,
            '\0'..='\u{8}'
                | '\u{b}'
                | '\u{e}'..='\u{1f}'
                | '\u{7f}'
                | '\u{206a}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffc}'
        )
    })
}

/// The text with each character that `replace` takes replaced by what it appended; `None` if it took none.
fn rewrite(text: &str, replace: impl Fn(char, &mut String) -> bool) -> Option<String> {
    let mut fixed = String::with_capacity(text.len());
    let mut changed = false;
    for letter in text.chars() {
        if replace(letter, &mut fixed) {
            changed = true;
        } else {
            fixed.push(letter);
        }
    }
    changed.then_some(fixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c1_controls_without_a_meaning_stay() {
        assert_eq!(fix_c1_controls("\u{85}\u{81}").as_deref(), Some("…\u{81}"));
        assert_eq!(fix_c1_controls("\u{81}\u{8d}\u{8f}\u{90}\u{9d}"), None);
    }

    #[test]
    fn width_composes_no_two_characters() {
        let halfwidth = "\u{ff76}\u{ff9e}\u{ffe5}\u{ff61}";
        let usual = "\u{30ab}\u{3099}\u{a5}\u{3002}";
        assert_eq!(fix_character_width(halfwidth).as_deref(), Some(usual));
        assert_eq!(fix_character_width("\u{ffef}\u{ff00}"), None);
    }

    #[test]
    fn a_carriage_return_with_a_line_feed_is_one_break() {
        assert_eq!(
            fix_line_breaks("a\r\nb\rc\r\r\n").as_deref(),
            Some("a\nb\nc\n\n")
        );
    }

    #[test]
    fn an_unfinished_escape_stays() {
        assert_eq!(remove_terminal_escapes("\x1b[1;"), None);
        assert_eq!(
            remove_terminal_escapes("\x1b[1;2Hx\x1b[m").as_deref(),
            Some("x")
        );
    }
}

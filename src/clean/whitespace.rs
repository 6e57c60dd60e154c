//! White space as Python's `str` sees it: in `split()`, `strip()` and the `\s` of `re`.
//!
//! Rust's `char::is_whitespace` is Unicode's White_Space; Python's `str.isspace` adds the four separators U+001C to
//! U+001F, whose bidirectional class is B or S.
//!
//! Source: the documentation of `str.isspace`, and CPython's `_PyUnicode_IsWhitespace`.

use std::borrow::Cow;

/// Python's `str.isspace` of one character.
pub(crate) fn is_whitespace(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '\u{1c}'..='\u{1f}')
}

/// Python's `text.strip()`.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_whitespace)
}

/// Python's `" ".join(text.split())`.
pub(crate) fn collapse(text: Cow<'_, str>) -> Cow<'_, str> {
    if is_collapsed(&text) {
        return text;
    }
    let words: Vec<&str> = text
        .split(is_whitespace)
        .filter(|word| !word.is_empty())
        .collect();
    Cow::Owned(words.join(" "))
}

/// Whether the only white space is single spaces between words.
fn is_collapsed(text: &str) -> bool {
    let mut after_space = true;
    for letter in text.chars() {
        if is_whitespace(letter) && (after_space || letter != ' ') {
            return false;
        }
        after_space = letter == ' ';
    }
    !after_space || text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_is_python_s() {
        let spaces: Vec<u32> = ('\0'..=char::MAX)
            .filter(|&letter| is_whitespace(letter))
            .map(u32::from)
            .collect();
        let mut expected: Vec<u32> = (0x09..=0x0D).chain(0x1C..=0x20).collect();
        expected.extend([0x85, 0xA0, 0x1680]);
        expected.extend(0x2000..=0x200A);
        expected.extend([0x2028, 0x2029, 0x202F, 0x205F, 0x3000]);
        assert_eq!(spaces, expected);
    }

    #[test]
    fn runs_become_one_space() {
        let collapsed = |text| collapse(Cow::Borrowed(text)).into_owned();
        assert_eq!(collapsed("\u{1c}a \u{3000}\n b\u{1f}"), "a b");
        assert_eq!(collapsed(" \t"), "");
        assert_eq!(collapsed("a\u{200b}b"), "a\u{200b}b");
    }
}

//! Lower case and composition by Unicode 14, the version of the reference, Python 3.11.
//!
//! Rust and the crates beneath follow Unicode on, and each later version gives new characters a lower case, a class to
//! be ordered by or something to compose with. So that a cleaned text depends on no version of theirs, the characters
//! that came after Unicode 14 are kept out of their hands. To Python 3.11 they are unassigned: without case and not
//! ignored beside a sigma, never reordered, never composed. Both mappings see such a character as they see an end of
//! the text, which is why cutting there changes nothing else.
//!
//! One difference is left. Two characters of Unicode 14 were given another class since: U+0295 lost its case, and
//! U+1171E is no longer ignored beside a sigma. A capital sigma beside one of them can become σ where Python 3.11 has
//! ς, or the reverse.
//!
//! Source: CPython 3.11's Objects/unicodetype_db.h and Modules/unicodedata_db.h (`unidata_version` "14.0.0"); Unicode
//! Standard Annex 15 for the stability of what is assigned.

use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization;

/// Characters of Unicode 14 and before, as an item of a bracket expression.
pub(crate) const KNOWN: &str = r"\p{Age=14.0}";

static LATER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(&format!("[^{KNOWN}]+")).expect("the constant pattern is valid"));

/// Python's `str.lower`: the full mapping of Unicode, with the rule of the final sigma and no rule of any language.
pub(crate) fn lower(text: &str) -> String {
    by_known_parts(text, str::to_lowercase)
}

/// Normalization form C; `None` where the text has it.
pub(crate) fn compose(text: &str) -> Option<String> {
    if text.is_ascii() {
        return None;
    }
    let composed = by_known_parts(text, |part| part.nfc().collect());
    (composed != text).then_some(composed)
}

/// The text with each part between later characters changed.
fn by_known_parts(text: &str, change: impl Fn(&str) -> String) -> String {
    let mut changed = String::with_capacity(text.len());
    let mut copied = 0;
    for later in LATER.find_iter(text) {
        changed.push_str(&change(&text[copied..later.start()]));
        changed.push_str(later.as_str());
        copied = later.end();
    }
    changed.push_str(&change(&text[copied..]));
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_letters_keep_their_case() {
        // U+A7CB and U+10D50 came with Unicode 16, and have a lower case there.
        assert_eq!(
            lower("\u{a7cb}A\u{10d50}ΑΣ\u{10d50}Α"),
            "\u{a7cb}a\u{10d50}ας\u{10d50}α"
        );
        assert_eq!(lower("\u{a7c9}ΑΣΑ ΑΣ"), "\u{a7ca}ασα ας");
    }

    #[test]
    fn later_marks_are_not_reordered() {
        // U+1611E to U+16129 (Gurung Khema, Unicode 16) compose there.
        assert_eq!(compose("\u{1611e}\u{1611e}"), None);
        assert_eq!(
            compose("e\u{301}\u{1611e}e\u{301}").as_deref(),
            Some("é\u{1611e}é")
        );
        assert_eq!(compose("é"), None);
    }
}

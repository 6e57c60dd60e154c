//! ftfy's test for mojibake: whether a text holds characters side by side that hardly ever meet on purpose.
//!
//! The character classes and the list of sequences are ftfy's facts; only whether one of them occurs matters here, so
//! that their order does not.
//!
//! Source: ftfy 6.3.1 (Apache-2.0), ftfy/badness.py, `MOJIBAKE_CATEGORIES` and `BADNESS_RE`.

use std::sync::LazyLock;

use regex::Regex;

use super::unicode_14::KNOWN;

// Classes of characters that mojibake shows, each the inside of a bracket expression.

/// Common in whole text too: spaces, hyphens, dashes.
const COMMON: &str = "\u{a0}\u{ad}´·–-―’…";
/// Controls that nobody writes.
const C1: &str = "\u{80}-\u{9f}";
/// Hardly ever seen outside mojibake.
const BAD: &str = "¤¦¨ª¬¯¸ºƒˆˇ˘˛˜†‡‰⌐◊\u{fffd}";
const LAW: &str = "§¶";
const CURRENCY: &str = "¢£¥₧€";
/// What opens a phrase. U+F8FF is Apple's logo.
const START: &str = "¡©«¿΄΅‘‚“„•‹\u{f8ff}";
/// What closes one.
const END: &str = "®»˝”›™";
const NUMERIC: &str = "±-³µ¹¼-¾×÷⁄№∂∆∏∑√∞∩∫≈≠≡≤≥";
/// Faces made of characters are drawn with these.
const KAOMOJI: &str = "°Ò-ÖÙ-Üò-öø-üŌŐŪŲ";
const UPPER: &str = "À-ÑØÜÝĀĂĄĆČĎĐĒĖĘĚĞĢĪİĶĹĻĽŁŃŅŇŒŘŚŞŠŢŤŮŰŸŹŻŽҐ";
const LOWER: &str = "ß-ñüāăąćčďđēėęěğģīįķĺļľłœŕśşšťźżžґﬁﬂ";
/// Capitals of other alphabets, which may end a word.
const UPPER_COMMON: &str = "ÞΆΈ-ΊΌΎΏΑ-ΫЁ-Я";
const LOWER_COMMON: &str = "ά-ωа-џ";
/// Box drawing, as code page 437 has it.
const BOX: &str = "│┌┐┘├┤┬┼═-╬▀▄█▌▐-▓";

/// Python's `\w`: letters, numbers of every kind and `_`. Rust's would add marks and joiners.
const WORD: &str = r"\p{L}\p{N}_";
/// Python's `\s`, see `whitespace`.
const SPACE: &str = r"\s\x1C-\x1F";

static UNLIKELY: LazyLock<Regex> = LazyLock::new(|| {
    let rules = [class_rules(), western_rules(), other_rules()].concat();
    Regex::new(&rules.join("|")).expect("the constant pattern is valid")
});

/// Whether the text looks as if some of it had been decoded wrongly.
pub(crate) fn is_bad(text: &str) -> bool {
    UNLIKELY.is_match(text)
}

/// Classes that do not meet.
fn class_rules() -> Vec<String> {
    let marks = format!("{BOX}{START}{END}{CURRENCY}{NUMERIC}{LAW}");
    vec![
        format!("[{C1}]"),
        format!("[{BAD}{LOWER}{UPPER}{marks}][{BAD}]"),
        format!("[a-zA-Z][{LOWER_COMMON}{UPPER_COMMON}][{BAD}]"),
        format!("[{BAD}][{LOWER}{UPPER}{marks}]"),
        format!("[{LOWER}{LOWER_COMMON}{BOX}{END}{CURRENCY}{NUMERIC}][{UPPER}]"),
        format!("[{BOX}{END}{CURRENCY}{NUMERIC}][{LOWER}]"),
        format!("[{LOWER}{BOX}{END}][{CURRENCY}]"),
        format!("[{SPACE}][{UPPER}][{CURRENCY}]"),
        format!("[{UPPER}{BOX}][{NUMERIC}{LAW}]"),
        format!("[{LOWER}{UPPER}{BOX}{CURRENCY}{END}][{START}][{NUMERIC}]"),
        format!("[{LOWER}{UPPER}{CURRENCY}{NUMERIC}{BOX}{LAW}][{END}][{START}]"),
        format!("[{CURRENCY}{NUMERIC}{BOX}][{START}]"),
        format!("[a-z][{UPPER}][{START}{CURRENCY}]"),
        format!("[{BOX}][{KAOMOJI}{END}]"),
        format!("[{LOWER}{UPPER}{CURRENCY}{NUMERIC}{START}{END}{LAW}][{BOX}]"),
        format!("[{LOWER}{UPPER}][{START}{END}][[{WORD}]&&{KNOWN}]"),
        format!("[{UPPER}]°"),
    ]
}

/// UTF-8 read as Windows-1252 or MacRoman, where the classes do not show it.
fn western_rules() -> Vec<String> {
    let arabic = format!("[ØÙ][{COMMON}{CURRENCY}{BAD}{NUMERIC}{START}ŸŠ®°µ»]");
    vec![
        "[Œœ][^A-Za-z]".to_owned(),
        format!("[ÂÃÎÐ][€œŠš¢£Ÿž\u{a0}\u{ad}®©°·»{START}{END}–—´]"),
        "×[²³]".to_owned(),
        // Arabic needs the common characters as well, and so has to show two letters.
        arabic.repeat(2),
        "à[²µ¹¼½¾]".to_owned(),
        "√[±∂†≠®™´≤≥¥µø]".to_owned(),
        "≈[°¢]".to_owned(),
        "‚Ä[ìîïòôúùû†°¢π]".to_owned(),
        "‚[âó][àä°ê]".to_owned(),
        "Ã[\u{a0}¡]".to_owned(),
        format!("[a-z][{SPACE}]?[ÃÂ] "),
        "^[ÃÂ] ".to_owned(),
        format!("[a-z.,?!{END}]Â[ {START}{END}]"),
    ]
}

/// UTF-8 read as Windows-1251, 1253 or 1257.
fn other_rules() -> Vec<String> {
    vec![
        "вЂ".to_owned(),
        format!("[ВГРС][{C1}{BAD}{START}{END}{CURRENCY}°µ][ВГРС]"),
        "ГўВЂВ.[A-Za-z ]".to_owned(),
        "β€[™\u{a0}Ά\u{ad}®°]".to_owned(),
        format!("[ΒΓΞΟ][{C1}{BAD}{START}{END}{CURRENCY}°][ΒΓΞΟ]"),
        "ā€".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::is_bad;

    #[test]
    fn whole_text_is_not_bad() {
        for text in [
            "",
            "café",
            "œuvre",
            "ΑΣ",
            "Ω 5",
            "20°C",
            "“quoted”",
            "а вы",
            "日本語",
        ] {
            assert!(!is_bad(text), "{text}");
        }
    }

    #[test]
    fn mojibake_is_bad() {
        for text in [
            "sÃ³",
            "âœ”",
            "\u{85}",
            "Ð¿",
            "Â ",
            "œ\n",
            "Ù…Ø±",
            "Р°Р",
            "ГўВЂВxa",
            "é”Ⅷ",
        ] {
            assert!(is_bad(text), "{text}");
        }
    }

    #[test]
    fn a_word_is_what_python_takes_for_one() {
        assert!(is_bad("é”x") && is_bad("é”²") && is_bad("é”_"));
        assert!(!is_bad("é”\u{301}") && !is_bad("é”\u{203f}") && !is_bad("é”\u{200d}"));
        // A letter of Unicode 16.
        assert!(!is_bad("é”\u{a7cb}"));
    }
}

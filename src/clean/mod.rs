//! What happens to a text before it is cut into tokens, equal to the Python references character for character.
//!
//! Pure text to text: no vocabulary, no model, no file. Which cleaning a model wants is the caller's knowledge; what
//! each cleaning does is here. The parts: [`repair`] is ftfy's `fix_text`, with [`mojibake`], [`badness`],
//! [`code_page`] and [`utf8_variants`] for its guesses at wrong encodings and [`characters`] for its plain
//! replacements; [`entities`] is Python's `html.unescape` and ftfy's narrower version of it; [`whitespace`] is what
//! Python calls white space, and [`unicode_14`] keeps to the version of Unicode that the reference knows.

mod badness;
mod characters;
mod code_page;
mod entities;
mod mojibake;
mod repair;
mod unicode_14;
mod utf8_variants;
mod whitespace;

use std::borrow::Cow;

use whitespace::{collapse, strip};

/// What is done to a text before it is tokenized.
///
/// Each variant is one reference's function, and gives that function's result for every string.
///
/// Source: open_clip's `tokenizer.py`, immich's `transforms.py` and transformers' `tokenization_siglip.py`, as each
/// variant says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cleaning {
    /// The text as it is.
    #[default]
    None,
    /// open_clip's `clean="lower"`, the default of its `SimpleTokenizer`: mojibake repaired, character references
    /// resolved, each run of white space made one space, all in lower case.
    Lower,
    /// open_clip's `clean="whitespace"`: as [`Cleaning::Lower`], but letters keep their case.
    Whitespace,
    /// open_clip's `clean="canonicalize"`: repaired as in [`Cleaning::Lower`], `_` made a space, ASCII punctuation
    /// removed, lower case, each run of white space made one space.
    Canonicalize,
    /// immich's `clean_text`: runs of white space made one space; nothing is repaired.
    Immich {
        /// Whether ASCII punctuation is removed and the text brought to lower case afterwards. That may leave two
        /// spaces side by side, as in the original.
        canonicalize: bool,
    },
    /// transformers' `SiglipTokenizer.canonicalize_text` with `do_lower_case=True`, its default: lower case, ASCII
    /// punctuation removed (`_` as well), runs of white space made one space; nothing is repaired.
    Siglip,
}

impl Cleaning {
    /// The cleaned text; borrowed where nothing had to change.
    ///
    /// Source: the function that each variant names.
    #[must_use]
    pub fn apply<'a>(self, text: &'a str) -> Cow<'a, str> {
        match self {
            Self::None => Cow::Borrowed(text),
            Self::Lower => lower(collapse(basic_clean(text))),
            Self::Whitespace => collapse(basic_clean(text)),
            Self::Canonicalize => canonicalize(&basic_clean(text)),
            Self::Immich { canonicalize } => {
                let text = collapse(Cow::Borrowed(text));
                if canonicalize {
                    lower(without_punctuation(text))
                } else {
                    text
                }
            }
            Self::Siglip => collapse(without_punctuation(lower(Cow::Borrowed(text)))),
        }
    }
}

/// open_clip's `basic_clean`, up to the kind of line break: what follows treats every one as white space.
fn basic_clean(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(strip(text));
    }
    let text = repair::fix_text(text);
    let text = entities::unescape(&entities::unescape(&text)).into_owned();
    Cow::Owned(strip(&text).to_owned())
}

/// Whether `basic_clean` could change nothing but outer white space and carriage returns.
///
/// In printable ASCII and white space no step of ftfy finds anything: its encoding step and every table of
/// characters need more than ASCII, its control characters and escapes are not printable, and references, ftfy's
/// and `html.unescape`'s alike, begin with `&`.
fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r' | 0x0C) && byte != b'&')
}

/// open_clip's `canonicalize_text` with no exact string kept.
fn canonicalize(text: &str) -> Cow<'static, str> {
    let text = without_punctuation(Cow::Owned(text.replace('_', " ")));
    Cow::Owned(collapse(lower(text)).into_owned())
}

/// Without the 32 characters of Python's `string.punctuation`, which are those of `is_ascii_punctuation`.
fn without_punctuation(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_punctuation()) {
        let kept = text.chars().filter(|letter| !letter.is_ascii_punctuation());
        Cow::Owned(kept.collect())
    } else {
        text
    }
}

/// Python's `str.lower`, borrowed where there is nothing to do.
fn lower(text: Cow<'_, str>) -> Cow<'_, str> {
    if text
        .bytes()
        .all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
    {
        text
    } else {
        Cow::Owned(unicode_14::lower(&text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    /// One line of tests/golden/clean/cases.jsonl, which onnx/golden/clean.py writes from the Python references.
    #[derive(Deserialize)]
    struct Case {
        text: String,
        lower: String,
        whitespace: String,
        canonicalize: String,
        immich: String,
        immich_canonicalize: String,
        siglip: String,
    }

    impl Case {
        fn expectations(&self) -> [(Cleaning, &str); 7] {
            let immich = |canonicalize| Cleaning::Immich { canonicalize };
            [
                (Cleaning::None, &self.text),
                (Cleaning::Lower, &self.lower),
                (Cleaning::Whitespace, &self.whitespace),
                (Cleaning::Canonicalize, &self.canonicalize),
                (immich(false), &self.immich),
                (immich(true), &self.immich_canonicalize),
                (Cleaning::Siglip, &self.siglip),
            ]
        }
    }

    #[test]
    fn every_golden_text_is_cleaned_as_in_python() {
        let mut count = 0;
        for line in include_str!("../../tests/golden/clean/cases.jsonl").lines() {
            let case: Case = serde_json::from_str(line).expect("a golden line is one case");
            for (cleaning, expected) in case.expectations() {
                assert_eq!(
                    cleaning.apply(&case.text),
                    expected,
                    "{cleaning:?} of {:?}",
                    case.text
                );
            }
            count += 1;
        }
        assert!(count >= 1500, "only {count} golden cases");
    }

    #[test]
    fn a_clean_text_is_borrowed() {
        let text = "a photo of a cat";
        for cleaning in [
            Cleaning::None,
            Cleaning::Lower,
            Cleaning::Whitespace,
            Cleaning::Immich { canonicalize: true },
            Cleaning::Siglip,
        ] {
            assert!(matches!(cleaning.apply(text), Cow::Borrowed(found) if found == text));
        }
    }

    #[test]
    fn what_ftfy_could_change_is_not_plain() {
        for text in ["a&b", "\x1b[0m", "a\x7f", "a\x0b", "é", "\x1c"] {
            assert!(!is_plain(text));
        }
    }

    proptest! {
        #[test]
        fn the_plain_path_agrees_with_the_long_one(text in "[ -%'-~\t\n\r\x0c]{0,40}") {
            prop_assert!(is_plain(&text));
            let long = entities::unescape(&repair::fix_text(&text)).into_owned();
            prop_assert_eq!(collapse(basic_clean(&text)), collapse(Cow::Owned(long)));
        }

        #[test]
        fn any_string_is_cleaned(text in any::<String>()) {
            for cleaning in [Cleaning::Lower, Cleaning::Whitespace, Cleaning::Canonicalize, Cleaning::Siglip] {
                let cleaned = cleaning.apply(&text);
                prop_assert_eq!(strip(&cleaned), &*cleaned);
            }
        }
    }
}

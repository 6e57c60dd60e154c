//! ftfy's `fix_text` with its default configuration: the order of the steps, and the segments they work on.
//!
//! What each step does is in the modules beside this one.
//!
//! Source: ftfy 6.3.1 (Apache-2.0), ftfy/__init__.py, `fix_text` and `fix_and_explain`.

use super::{characters, entities, mojibake, unicode_14};

/// The most code points that are repaired at once: ftfy's `max_decode_length`.
const LONGEST_SEGMENT: usize = 1_000_000;

/// One step: the new text, or `None` where it has nothing to change.
type Step = fn(&str) -> Option<String>;

/// What follows the resolution of references, in ftfy's order. Its step for surrogates is missing, since no Rust
/// string holds one.
const STEPS: [Step; 9] = [
    mojibake::fix_encoding,
    characters::fix_c1_controls,
    characters::fix_latin_ligatures,
    characters::fix_character_width,
    characters::uncurl_quotes,
    characters::fix_line_breaks,
    characters::remove_terminal_escapes,
    characters::remove_control_characters,
    unicode_14::compose,
];

/// The repaired text.
pub(crate) fn fix_text(text: &str) -> String {
    let mut fixed = String::with_capacity(text.len());
    // A trap: one `<` switches references off for its own line and for all that follow, not for those before.
    let mut resolve_references = true;
    let mut rest = text;
    while !rest.is_empty() {
        let (segment, remaining) = rest.split_at(segment_end(rest));
        resolve_references &= !segment.contains('<');
        fixed.push_str(&fix_segment(segment, resolve_references));
        rest = remaining;
    }
    fixed
}

/// Where the first segment ends, in bytes: after the first `\n`, or after a million code points.
fn segment_end(text: &str) -> usize {
    let line_end = text.find('\n').map_or(text.len(), |newline| newline + 1);
    text[..line_end]
        .char_indices()
        .nth(LONGEST_SEGMENT)
        .map_or(line_end, |(start, _)| start)
}

/// All steps, again and again until none changes anything.
///
/// The comparison is with the text at the start of a round, as in ftfy: steps that undo each other end the loop.
fn fix_segment(segment: &str, resolve_references: bool) -> String {
    let mut text = segment.to_owned();
    loop {
        let before = text.clone();
        if resolve_references && let Some(changed) = entities::unescape_unambiguous(&text) {
            text = changed;
        }
        for step in STEPS {
            if let Some(changed) = step(&text) {
                text = changed;
            }
        }
        if text == before {
            return text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_stops_references_from_its_line_on() {
        assert_eq!(fix_text("&amp;\n<&amp;\n&amp;"), "&\n<&amp;\n&amp;");
    }

    #[test]
    fn a_segment_ends_after_a_million_code_points() {
        // The cut falls between the two halves of the mojibake, so that neither side shows it.
        let padding = "x".repeat(LONGEST_SEGMENT - 1);
        let text = format!("{padding}Ã©");
        assert_eq!(fix_text(&text), text);
        assert_eq!(fix_text(&text[1..]), format!("{}é", &padding[1..]));
    }
}

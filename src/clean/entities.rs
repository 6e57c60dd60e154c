//! HTML's character references: Python's `html.unescape`, and ftfy's narrower `unescape_html`.
//!
//! The names are in entities.txt: `name=code points in hex`, with `*` after a name that HTML also takes without its
//! semicolon.
//!
//! Source: Python 3.11's Lib/html/__init__.py, and Lib/html/entities.py (`html5`) for the names, which are those of the
//! HTML standard; ftfy 6.3.1 (Apache-2.0), `unescape_html` in ftfy/fixes.py and `HTML_ENTITIES` in ftfy/chardata.py.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use super::code_page::windows_1252_of_control;

/// The longest name that Python looks at, in code points; its semicolon comes on top.
const LONGEST_NAME: usize = 32;
/// The longest name or number that ftfy looks at.
const LONGEST_UNAMBIGUOUS: usize = 24;

/// What one name stands for.
struct Entity {
    characters: String,
    /// Whether the name is known without its semicolon too.
    bare: bool,
}

static ENTITIES: LazyLock<HashMap<&'static str, Entity>> = LazyLock::new(|| {
    let entries = include_str!("entities.txt").split_whitespace();
    entries.filter_map(read_entry).collect()
});

/// One entry of entities.txt.
fn read_entry(entry: &'static str) -> Option<(&'static str, Entity)> {
    let (name, points) = entry.split_once('=')?;
    let characters = points
        .split('+')
        .filter_map(|point| u32::from_str_radix(point, 16).ok())
        .filter_map(char::from_u32)
        .collect();
    let (name, bare) = name
        .strip_suffix('*')
        .map_or((name, false), |name| (name, true));
    Some((name, Entity { characters, bare }))
}

/// Python's `html.unescape`, once over the text.
///
/// One difference is left: for a decimal number of more than 4300 digits Python raises `ValueError`; here it is a
/// number out of range like any other.
pub(crate) fn unescape(text: &str) -> Cow<'_, str> {
    replace_references(text, |rest| {
        numeric_reference(rest).or_else(|| named_reference(rest))
    })
    .map_or(Cow::Borrowed(text), Cow::Owned)
}

/// ftfy's `unescape_html`: only whole references with their semicolon, and names that were capitalized as a whole.
/// `None` where nothing changes.
pub(crate) fn unescape_unambiguous(text: &str) -> Option<String> {
    replace_references(text, unambiguous_reference)
}

/// The text with each reference replaced. `read` is given what follows a `&` and gives the characters meant and how
/// many bytes after the `&` they took.
fn replace_references(
    text: &str,
    read: impl Fn(&str) -> Option<(String, usize)>,
) -> Option<String> {
    let mut replaced = None;
    let mut copied = 0;
    let mut position = 0;
    while let Some(found) = text[position..].find('&') {
        let ampersand = position + found;
        position = ampersand + 1;
        if let Some((characters, length)) = read(&text[position..]) {
            let output = replaced.get_or_insert_with(String::new);
            output.push_str(&text[copied..ampersand]);
            output.push_str(&characters);
            position += length;
            copied = position;
        }
    }
    replaced.map(|output| output + &text[copied..])
}

/// `#` and a decimal number, or `#x` and a hexadecimal one, with or without a semicolon.
fn numeric_reference(rest: &str) -> Option<(String, usize)> {
    let number = rest.strip_prefix('#')?;
    let (digits, radix) = match number.strip_prefix(['x', 'X']) {
        Some(digits) => (digits, 16),
        None => (number, 10),
    };
    let length = digits
        .find(|digit: char| !digit.is_digit(radix))
        .unwrap_or(digits.len());
    if length == 0 {
        return None;
    }
    // Only a number beyond 32 bits fails to parse here, and those are all beyond Unicode.
    let point = u32::from_str_radix(&digits[..length], radix).unwrap_or(u32::MAX);
    let semicolon = usize::from(digits[length..].starts_with(';'));
    let taken = rest.len() - digits.len() + length + semicolon;
    Some((numbered_character(point), taken))
}

/// What a number stands for: C1 as Windows-1252, nothing at all for controls and noncharacters.
///
/// `_invalid_charrefs` comes first in the original, so that 0 and 13 are not taken for controls to drop.
fn numbered_character(point: u32) -> String {
    let Some(letter) = char::from_u32(point).filter(|&letter| letter != '\0') else {
        return "\u{fffd}".to_owned();
    };
    match letter {
        '\u{80}'..='\u{9f}' => windows_1252_of_control(letter).unwrap_or(letter).into(),
        '\u{1}'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' => String::new(),
        '\u{fdd0}'..='\u{fdef}' => String::new(),
        _ if point & 0xFFFE == 0xFFFE => String::new(),
        _ => letter.into(),
    }
}

/// A name, or the longest beginning of one that is known without a semicolon.
fn named_reference(rest: &str) -> Option<(String, usize)> {
    let ends_name = |letter| matches!(letter, '\t' | '\n' | '\u{c}' | ' ' | '<' | '&' | '#' | ';');
    let length = rest
        .char_indices()
        .take(LONGEST_NAME)
        .take_while(|&(_, letter)| !ends_name(letter))
        .last()
        .map(|(start, letter)| start + letter.len_utf8())?;
    let name = &rest[..length];
    if rest[length..].starts_with(';')
        && let Some(entity) = ENTITIES.get(name)
    {
        return Some((entity.characters.clone(), length + 1));
    }
    // Of one letter there is no name, and Python does not look.
    (2..=length).rev().find_map(|end| {
        let entity = ENTITIES
            .get(name.get(..end)?)
            .filter(|entity| entity.bare)?;
        Some((entity.characters.clone(), end))
    })
}

/// What ftfy's `_unescape_fixup` makes of a reference, where it changes one.
fn unambiguous_reference(rest: &str) -> Option<(String, usize)> {
    let sign = usize::from(rest.starts_with('#'));
    let letters = rest[sign..].bytes();
    let length = letters.take_while(u8::is_ascii_alphanumeric).count();
    let (body, after) = rest.split_at(sign + length);
    if !(1..=LONGEST_UNAMBIGUOUS).contains(&length) || !after.starts_with(';') {
        return None;
    }
    let reference = &rest[..=body.len()];
    let characters = if sign == 1 {
        let (characters, taken) = numeric_reference(reference)?;
        // A number that ends before the semicolon leaves it standing, and one that stands for a semicolon looks
        // the same to ftfy: neither is touched.
        (taken == reference.len() && characters != ";").then_some(characters)?
    } else {
        let known = ENTITIES.get(body).map(|entity| entity.characters.clone());
        known.or_else(|| capitalized_name(body))?
    };
    Some((characters, reference.len()))
}

/// `EACUTE` as É: a name in capitals whose small letters are a name, where HTML itself reads nothing in it.
///
/// ftfy asks `html.unescape` whether it reads anything: `LTCC` begins with `LT`, which needs no semicolon, and so is
/// no candidate.
fn capitalized_name(name: &str) -> Option<String> {
    if name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return None;
    }
    let entity = ENTITIES.get(name.to_ascii_lowercase().as_str())?;
    named_reference(&format!("{name};"))
        .is_none()
        .then(|| entity.characters.to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        // html.entities.html5 has 2231 names: 2125 with a semicolon, and 106 of those without one as well.
        assert_eq!(ENTITIES.len(), 2125);
        assert_eq!(ENTITIES.values().filter(|entity| entity.bare).count(), 106);
        assert!(
            ENTITIES
                .values()
                .all(|entity| !entity.characters.is_empty())
        );
    }

    #[test]
    fn names_without_a_semicolon_are_read_as_far_as_they_go() {
        assert_eq!(unescape("&notit; &notin; &amp"), "¬it; ∉ &");
        assert_eq!(unescape("&unknown; & &;"), "&unknown; & &;");
    }

    #[test]
    fn numbers_follow_html() {
        assert_eq!(unescape("&#x80;&#0;&#xD800;&#1;&#65"), "€\u{fffd}\u{fffd}A");
        assert_eq!(unescape("&#99999999999999999999;&#x;"), "\u{fffd}&#x;");
    }

    #[test]
    fn ambiguous_references_stay() {
        for text in ["&amp", "&notit;", "&#59;", "&#12ab;", "&LTCC;", "&nTILDE;"] {
            assert_eq!(unescape_unambiguous(text), None, "{text}");
        }
        let capitals = unescape_unambiguous("&EACUTE;&SZLIG;");
        assert_eq!(capitals.as_deref(), Some("ÉSS"));
    }
}

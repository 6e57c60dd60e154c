//! The ten single-byte encodings that ftfy takes for the wrong ones, as Python has them.
//!
//! Encoding only: decoding them is never asked for, but for the C1 block by Windows-1252.
//!
//! `encoding_rs` is no source for them: it has neither Latin-1 nor code page 437, and no byte for U+FFFD, which ftfy's
//! "sloppy" pages need.
//!
//! Source: Python 3.11's encodings package; ftfy 6.3.1 (Apache-2.0), ftfy/bad_codecs/sloppy.py and
//! `CHARMAP_ENCODINGS` in ftfy/chardata.py.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What the bytes 0x80 to 0xFF stand for, one character each.
const LATIN_1: &str = "\
    \u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\
    \u{90}\u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\
    \u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿\
    ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞß\
    àáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ";
const WINDOWS_1252: &str = "\
    €\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ\
    \u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿\
    ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞß\
    àáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ";
const WINDOWS_1251: &str = "\
    ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—\u{98}™љ›њќћџ\
    \u{a0}ЎўЈ¤Ґ¦§Ё©Є«¬\u{ad}®Ї°±Ііґµ¶·ё№є»јЅѕї\
    АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ\
    абвгдежзийклмнопрстуфхцчшщъыьэюя";
const WINDOWS_1250: &str = "\
    €\u{81}‚\u{83}„…†‡\u{88}‰Š‹ŚŤŽŹ\u{90}‘’“”•–—\u{98}™š›śťžź\
    \u{a0}ˇ˘Ł¤Ą¦§¨©Ş«¬\u{ad}®Ż°±˛ł´µ¶·¸ąş»Ľ˝ľż\
    ŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢß\
    ŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙";
const WINDOWS_1253: &str = "\
    €\u{81}‚ƒ„…†‡\u{88}‰\u{8a}‹\u{8c}\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—\u{98}™\u{9a}›\u{9c}\u{9d}\u{9e}\u{9f}\
    \u{a0}΅Ά£¤¥¦§¨©ª«¬\u{ad}®―°±²³΄µ¶·ΈΉΊ»Ό½ΎΏ\
    ΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡÒΣΤΥΦΧΨΩΪΫάέήί\
    ΰαβγδεζηθικλμνξοπρςστυφχψωϊϋόύώÿ";
const WINDOWS_1254: &str = "\
    €\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}\u{9e}Ÿ\
    \u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿\
    ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏĞÑÒÓÔÕÖ×ØÙÚÛÜİŞß\
    àáâãäåæçèéêëìíîïğñòóôõö÷øùúûüışÿ";
const WINDOWS_1257: &str = "\
    €\u{81}‚\u{83}„…†‡\u{88}‰\u{8a}‹\u{8c}¨ˇ¸\u{90}‘’“”•–—\u{98}™\u{9a}›\u{9c}¯˛\u{9f}\
    \u{a0}¡¢£¤¥¦§Ø©Ŗ«¬\u{ad}®Æ°±²³´µ¶·ø¹ŗ»¼½¾æ\
    ĄĮĀĆÄÅĘĒČÉŹĖĢĶĪĻŠŃŅÓŌÕÖ×ŲŁŚŪÜŻŽß\
    ąįāćäåęēčéźėģķīļšńņóōõö÷ųłśūüżž˙";
const ISO_8859_2: &str = "\
    \u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\
    \u{90}\u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\
    \u{a0}Ą˘Ł¤ĽŚ§¨ŠŞŤŹ\u{ad}ŽŻ°ą˛ł´ľśˇ¸šşťź˝žż\
    ŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢß\
    ŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙";
const MACROMAN: &str = "\
    ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü\
    †°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø\
    ¿¡¬√ƒ≈∆«»…\u{a0}ÀÃÕŒœ–—“”‘’÷◊ÿŸ⁄€‹›ﬁﬂ\
    ‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ\u{f8ff}ÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ";
const CODE_PAGE_437: &str = "\
    ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒ\
    áíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐\
    └┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀\
    αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// The pages in the order in which ftfy tries them.
pub(crate) static CODE_PAGES: LazyLock<[CodePage; 10]> = LazyLock::new(|| {
    [
        CodePage::new(LATIN_1, false),
        CodePage::new(WINDOWS_1252, true),
        CodePage::new(WINDOWS_1251, true),
        CodePage::new(WINDOWS_1250, true),
        CodePage::new(WINDOWS_1253, true),
        CodePage::new(WINDOWS_1254, true),
        CodePage::new(WINDOWS_1257, true),
        CodePage::new(ISO_8859_2, false),
        CodePage {
            restores_spaces: false,
            ..CodePage::new(MACROMAN, false)
        },
        CodePage::new(CODE_PAGE_437, false),
    ]
});

/// One single-byte encoding.
#[derive(Debug)]
pub(crate) struct CodePage {
    bytes: HashMap<char, u8>,
    /// One of ftfy's "sloppy" pages: unassigned bytes stand for the control of the same number, and U+FFFD, a byte
    /// that was lost, is encoded as 0x1A in the place of that control.
    pub(crate) is_sloppy: bool,
    /// Whether a space in it may once have been the byte 0xA0. Not in MacRoman, where an en dash before a space would
    /// look the same.
    pub(crate) restores_spaces: bool,
}

impl CodePage {
    fn new(upper_half: &str, is_sloppy: bool) -> Self {
        let mut bytes: HashMap<char, u8> = upper_half.chars().zip(0x80..=0xFF).collect();
        if is_sloppy {
            bytes.insert('\u{fffd}', 0x1A);
        }
        Self {
            bytes,
            is_sloppy,
            restores_spaces: true,
        }
    }

    /// The text in this encoding, or `None` where the encoding lacks one of its characters.
    pub(crate) fn encode(&self, text: &str) -> Option<Vec<u8>> {
        text.chars().map(|letter| self.byte(letter)).collect()
    }

    fn byte(&self, letter: char) -> Option<u8> {
        match u8::try_from(letter) {
            Ok(0x1A) if self.is_sloppy => None,
            Ok(ascii @ ..=0x7F) => Some(ascii),
            _ => self.bytes.get(&letter).copied(),
        }
    }
}

/// What Windows-1252 has in the place of a C1 control; `None` for its five holes and for any other character.
pub(crate) fn windows_1252_of_control(control: char) -> Option<char> {
    let place = u32::from(control)
        .checked_sub(0x80)
        .filter(|&place| place < 0x20)?;
    let meant = WINDOWS_1252.chars().nth(usize::try_from(place).ok()?)?;
    (meant != control).then_some(meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_128_characters_of_its_own() {
        for page in CODE_PAGES.iter() {
            assert_eq!(page.bytes.len(), 128 + usize::from(page.is_sloppy));
        }
    }

    #[test]
    fn a_lost_byte_is_a_substitute_in_sloppy_pages_alone() {
        let [latin_1, windows_1252, ..] = &*CODE_PAGES;
        assert_eq!(
            windows_1252.encode("€\u{81}\u{fffd}"),
            Some(vec![0x80, 0x81, 0x1A])
        );
        assert_eq!(windows_1252.encode("\u{1a}"), None);
        assert_eq!(latin_1.encode("\u{1a}é"), Some(vec![0x1A, 0xE9]));
        assert_eq!(latin_1.encode("\u{fffd}"), None);
    }

    #[test]
    fn holes_of_windows_1252_mean_nothing() {
        assert_eq!(windows_1252_of_control('\u{80}'), Some('€'));
        assert_eq!(windows_1252_of_control('\u{9f}'), Some('Ÿ'));
        for other in [
            '\u{81}', '\u{8d}', '\u{8f}', '\u{90}', '\u{9d}', '\u{7f}', '\u{a0}',
        ] {
            assert_eq!(windows_1252_of_control(other), None);
        }
    }
}

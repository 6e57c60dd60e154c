//! Text on pictures: one line at a time, from left to right, in the font that comes with the program.
//!
//! It has Latin, Greek and Cyrillic letters. Characters that it lacks become an empty box; scripts whose letters join
//! or run from right to left are not shaped.

use ab_glyph::{Font, FontRef, Glyph, PxScale, ScaleFont, point};
use anyhow::{Context, Result};
use image::{Rgb, RgbImage};
use unicode_normalization::UnicodeNormalization;

const FONT: &[u8] = include_bytes!("../../assets/fonts/DejaVuSansCondensed-subset.ttf");

const ELLIPSIS: char = '…';

/// A font in one size.
#[derive(Debug)]
pub(super) struct Lettering {
    font: FontRef<'static>,
    scale: PxScale,
}

impl Lettering {
    /// Lines of `height` pixels, from the top of the highest letter to the foot of the lowest.
    ///
    /// # Errors
    ///
    /// If the font in the program is damaged.
    pub(super) fn new(height: u32) -> Result<Self> {
        Ok(Self {
            font: FontRef::try_from_slice(FONT).context("the font in the program is damaged")?,
            scale: PxScale::from(height as f32),
        })
    }

    /// The width of `text` in pixels.
    pub(super) fn width(&self, text: &str) -> f32 {
        self.advance(text.nfc())
    }

    fn advance(&self, characters: impl Iterator<Item = char>) -> f32 {
        self.glyphs(characters).fold(0.0, |_, (_, end)| end)
    }

    /// The glyphs of a line that begins at (0, 0), each with the place where it ends, in pixels.
    fn glyphs(&self, characters: impl Iterator<Item = char>) -> impl Iterator<Item = (Glyph, f32)> {
        let font = self.font.as_scaled(self.scale);
        let mut end = 0.0;
        let mut last = None;
        characters.map(move |character| {
            let id = font.glyph_id(character);
            end += last.map_or(0.0, |last| font.kern(last, id));
            last = Some(id);
            let glyph = id.with_scale_and_position(self.scale, point(end, font.ascent()));
            end += font.h_advance(id);
            (glyph, end)
        })
    }

    /// `text` if it is at most `width` pixels wide, otherwise as much of its beginning as fits before an ellipsis and
    /// its last `tail` characters.
    pub(super) fn fit(&self, text: &str, width: f32, tail: usize) -> String {
        let fits = |(_, end): &(Glyph, f32)| *end <= width;
        // Looks no further than the width, since a text may have any length.
        if self.glyphs(text.nfc()).all(|glyph| fits(&glyph)) {
            return text.nfc().collect();
        }
        let mut end: Vec<char> = text.chars().rev().take(tail).collect();
        end.push(ELLIPSIS);
        end.reverse();
        let rest = width - self.advance(end.iter().copied());
        let shown = self
            .glyphs(text.nfc())
            .take_while(|(_, end)| *end <= rest)
            .count();
        let begin: String = text.nfc().take(shown).collect();
        let end: String = end.into_iter().collect();
        format!("{}{end}", begin.trim_end())
    }

    /// Draws `text` with its upper left corner at `(x, y)`. What lies outside the picture is left out.
    pub(super) fn draw(
        &self,
        picture: &mut RgbImage,
        text: &str,
        (x, y): (f32, f32),
        colour: Rgb<u8>,
    ) {
        for (mut glyph, _) in self.glyphs(text.nfc()) {
            glyph.position += point(x, y);
            let Some(outline) = self.font.outline_glyph(glyph) else {
                continue;
            };
            let corner = outline.px_bounds().min;
            outline.draw(|column, row, coverage| {
                let (x, y) = (corner.x + column as f32, corner.y + row as f32);
                if x >= 0.0
                    && y >= 0.0
                    && let Some(pixel) = picture.get_pixel_mut_checked(x as u32, y as u32)
                {
                    blend(pixel, colour, coverage.clamp(0.0, 1.0));
                }
            });
        }
    }
}

/// Covers the part `coverage` of a pixel, from 0 to 1.
fn blend(pixel: &mut Rgb<u8>, colour: Rgb<u8>, coverage: f32) {
    for (level, ink) in pixel.0.iter_mut().zip(colour.0) {
        let (from, to) = (f32::from(*level), f32::from(ink));
        *level = (from + (to - from) * coverage).round() as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lettering() -> Lettering {
        Lettering::new(14).unwrap()
    }

    #[test]
    fn long_texts_are_shortened_to_the_width() {
        let lettering = lettering();
        assert_eq!(lettering.fit("cat", 100.0, 0), "cat");
        let label = lettering.fit("a very long label that does not fit", 100.0, 0);
        assert!(
            label.starts_with("a very") && label.ends_with('…'),
            "{label}"
        );
        let name = lettering.fit("IMG_20240101_something_long_0042.jpeg", 100.0, 9);
        assert!(
            name.starts_with("IMG_") && name.ends_with("…0042.jpeg"),
            "{name}"
        );
        for (text, tail) in [
            ("a very long label that does not fit", 0),
            ("IMG_20240101_0042.jpeg.jpeg", 9),
        ] {
            let width = lettering.width(&lettering.fit(text, 100.0, tail));
            assert!((80.0..=100.0).contains(&width), "{text}: {width}");
        }
        assert_eq!(
            lettering
                .fit(&"long ".repeat(1_000_000), 100.0, 0)
                .chars()
                .next_back(),
            Some('…')
        );
    }

    #[test]
    fn a_letter_and_its_accent_are_one_character() {
        let lettering = lettering();
        assert_eq!(lettering.fit("cafe\u{301}", 100.0, 0), "café");
        assert_eq!(lettering.width("cafe\u{301}"), lettering.width("café"));
    }

    #[test]
    fn every_text_is_drawn_within_its_line() {
        let lettering = lettering();
        for text in ["Ångström ½ éüß", "кошка", "γάτα", "猫", "🐈\u{fffd}\u{7}"] {
            let mut picture = RgbImage::from_pixel(120, 24, Rgb([255; 3]));
            lettering.draw(&mut picture, text, (5.0, 5.0), Rgb([0; 3]));
            let dark: Vec<u32> = picture
                .enumerate_pixels()
                .filter(|(_, _, pixel)| pixel.0[0] < 160)
                .map(|(_, y, _)| y)
                .collect();
            assert!(dark.len() >= 10, "{text}: {} dark pixels", dark.len());
            assert!(dark.iter().all(|y| (3..21).contains(y)), "{text}: {dark:?}");
        }
    }

    #[test]
    fn what_lies_outside_is_left_out() {
        let mut picture = RgbImage::new(10, 10);
        lettering().draw(&mut picture, "outside", (-20.0, -5.0), Rgb([255; 3]));
        assert_eq!(picture.dimensions(), (10, 10));
    }
}

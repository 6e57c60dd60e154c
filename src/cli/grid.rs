//! A contact sheet as a picture: photos in a grid, drawn in memory.
//!
//! It takes at most 70 MiB, and up to as much again for encoding WebP.

use std::io::{Seek, Write};

use anyhow::Result;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, ImageResult, Rgb, RgbImage, imageops};

use super::lettering::Lettering;
use super::output::printable;
use super::sheet::{Cell, Line};

/// The side of the square that a photo lies in.
const TILE: u32 = 168;
/// The gap between cells and around all of them.
const GAP: u32 = 16;
/// The gap between a photo and its name.
const TEXT_GAP: u32 = 4;
/// From line to line of text.
const LINE: u32 = 17;
/// The height of the letters, which leaves some room between lines.
const LETTERS: u32 = 14;
/// The least gap between a text and the figure in its line.
const FIGURE_GAP: f32 = 6.0;

const MOST_COLUMNS: usize = 10;

/// How many characters at the end of a file's name are always shown.
const NAME_TAIL: usize = 9;

const JPEG_QUALITY: u8 = 90;

const PAPER: Rgb<u8> = Rgb([255; 3]);
const MOUNT: Rgb<u8> = Rgb([240; 3]);
const DARK: Rgb<u8> = Rgb([24; 3]);
const PALE: Rgb<u8> = Rgb([112; 3]);
const ALARM: Rgb<u8> = Rgb([176, 32, 32]);

/// Where things lie on a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    columns: u32,
    /// Lines of text under a photo: its name, then what is said of it.
    lines: u32,
}

impl Layout {
    /// For `total` photos with `lines` lines under their names: about four thirds as wide as high, up to 10 columns.
    fn new(total: usize, lines: usize) -> Self {
        let columns = (total * 15 / 8).isqrt().max(total.min(4));
        Self {
            columns: columns.clamp(1, MOST_COLUMNS) as u32,
            lines: 1 + lines as u32,
        }
    }

    /// From the top of one cell to that of the next.
    fn pitch(self) -> u32 {
        TILE + TEXT_GAP + self.lines * LINE + GAP
    }

    /// Width and height of a picture of `count` photos.
    fn size(self, count: usize) -> (u32, u32) {
        let rows = (count as u32).div_ceil(self.columns);
        (GAP + self.columns * (TILE + GAP), GAP + rows * self.pitch())
    }

    /// The upper left corner of cell `index`.
    fn corner(self, index: usize) -> (u32, u32) {
        let (column, row) = (index as u32 % self.columns, index as u32 / self.columns);
        (GAP + column * (TILE + GAP), GAP + row * self.pitch())
    }
}

/// A picture that cells are drawn on.
#[derive(Debug)]
pub(super) struct Grid {
    layout: Layout,
    lettering: Lettering,
    picture: RgbImage,
}

impl Grid {
    /// The width and height in pixels that a photo has at most.
    pub(super) const THUMBNAIL: (u32, u32) = (TILE, TILE);

    /// For `total` photos, on however many pictures, with `lines` lines under their names.
    ///
    /// # Errors
    ///
    /// If the font in the program is damaged.
    pub(super) fn new(total: usize, lines: usize) -> Result<Self> {
        Ok(Self {
            layout: Layout::new(total, lines),
            lettering: Lettering::new(LETTERS)?,
            picture: RgbImage::new(0, 0),
        })
    }

    /// Begins an empty picture of `count` photos.
    pub(super) fn begin(&mut self, count: usize) {
        let (width, height) = self.layout.size(count);
        self.picture = RgbImage::from_pixel(width, height, PAPER);
    }

    /// Draws a cell at place `place` of the picture.
    pub(super) fn draw(&mut self, place: usize, cell: &Cell<'_>) {
        let corner = self.layout.corner(place);
        let mount = RgbImage::from_pixel(TILE, TILE, MOUNT);
        imageops::replace(&mut self.picture, &mount, corner.0.into(), corner.1.into());
        match cell.photo {
            Ok(photo) => self.draw_photo(corner, photo),
            Err(word) => self.draw_word(corner, word),
        }
        let name = self
            .lettering
            .fit(&printable(&cell.name()), TILE as f32, NAME_TAIL);
        self.draw_text(corner, 0, &name, PALE);
        for (number, line) in (1..self.layout.lines).zip(&cell.lines) {
            self.draw_line(corner, number, line);
        }
    }

    /// Writes the picture.
    pub(super) fn write(
        &self,
        format: ImageFormat,
        file: &mut (impl Write + Seek),
    ) -> ImageResult<()> {
        match format {
            ImageFormat::Jpeg => {
                JpegEncoder::new_with_quality(file, JPEG_QUALITY).encode_image(&self.picture)
            }
            format => self.picture.write_to(file, format),
        }
    }

    /// The photo in the middle of its tile.
    fn draw_photo(&mut self, (x, y): (u32, u32), photo: &RgbImage) {
        let x = x + TILE.saturating_sub(photo.width()) / 2;
        let y = y + TILE.saturating_sub(photo.height()) / 2;
        imageops::replace(&mut self.picture, photo, x.into(), y.into());
    }

    /// A word in the middle of the empty tile.
    fn draw_word(&mut self, (x, y): (u32, u32), word: &str) {
        let x = x as f32 + (TILE as f32 - self.lettering.width(word)) / 2.0;
        let y = y + (TILE - LETTERS) / 2;
        self.lettering
            .draw(&mut self.picture, word, (x, y as f32), ALARM);
    }

    /// A line with its figure at the right edge.
    fn draw_line(&mut self, corner: (u32, u32), number: u32, line: &Line) {
        let colour = if line.stands_out { DARK } else { PALE };
        let mut width = TILE as f32;
        if !line.figure.is_empty() {
            width -= self.lettering.width(&line.figure);
            let at = (corner.0 as f32 + width, line_top(corner, number));
            self.lettering
                .draw(&mut self.picture, &line.figure, at, colour);
            width -= FIGURE_GAP;
        }
        let text = self.lettering.fit(&printable(&line.text), width, 0);
        self.draw_text(corner, number, &text, colour);
    }

    fn draw_text(&mut self, corner: (u32, u32), number: u32, text: &str, colour: Rgb<u8>) {
        let at = (corner.0 as f32, line_top(corner, number));
        self.lettering.draw(&mut self.picture, text, at, colour);
    }
}

/// The top of line `number` under a photo, counted from 0.
fn line_top(corner: (u32, u32), number: u32) -> f32 {
    (corner.1 + TILE + TEXT_GAP + number * LINE) as f32
}

#[cfg(test)]
mod tests {
    use super::super::sheet::MOST_PHOTOS;
    use super::*;

    impl Grid {
        /// The middle of the tile at `place` of a picture for `total` photos.
        pub(in super::super) fn middle_of(total: usize, lines: usize, place: usize) -> (u32, u32) {
            let (x, y) = Layout::new(total, lines).corner(place);
            (x + TILE / 2, y + TILE / 2)
        }
    }

    #[test]
    fn grids_are_as_wide_as_their_photos_need() {
        let columns =
            [0, 1, 2, 3, 4, 5, 14, 40, 200, 500, 10_000].map(|total| Layout::new(total, 3).columns);
        assert_eq!(columns, [1, 1, 2, 3, 4, 4, 5, 8, 10, 10, 10]);
    }

    #[test]
    fn cells_fill_the_sheet_and_do_not_overlap() {
        for (total, lines) in [(1, 1), (3, 2), (14, 3), (500, 3)] {
            let layout = Layout::new(total, lines);
            let (width, height) = layout.size(total);
            let cell = layout.pitch() - GAP;
            let corners: Vec<(u32, u32)> = (0..total).map(|index| layout.corner(index)).collect();
            assert_eq!(corners[0], (GAP, GAP));
            assert_eq!(
                corners.iter().map(|(x, _)| x + TILE + GAP).max(),
                Some(width)
            );
            assert_eq!(
                corners.iter().map(|(_, y)| y + cell + GAP).max(),
                Some(height)
            );
            for pair in corners.windows(2) {
                let ((x, y), (next_x, next_y)) = (pair[0], pair[1]);
                let is_beside = next_y == y && next_x == x + TILE + GAP;
                let is_below = next_x == GAP && next_y == y + cell + GAP;
                assert!(is_beside || is_below, "{pair:?}");
            }
        }
    }

    #[test]
    fn the_largest_sheet_is_one_that_every_format_allows() {
        let (width, height) = Layout::new(MOST_PHOTOS, 3).size(MOST_PHOTOS);
        assert!(width.max(height) <= 16_383, "{width} x {height}");
        assert!(width * height * 3 <= 70 << 20, "{width} x {height}");
    }
}

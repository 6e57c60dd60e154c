//! Contact sheets: photos in a grid, each with its name and its answer under it.
//!
//! The photos come small from the pipeline, which decodes each of them once. A sheet is drawn in memory (at most
//! 70 MiB, and up to as much again for encoding WebP) and written when its last photo is there; a run that is cut off
//! before that leaves no file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use diptych::Prediction;
use diptych::pipeline::STDIN;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageError, ImageFormat, Rgb, RgbImage, imageops};

use super::lettering::Lettering;
use super::output::{NONE_OF_THESE, figure, printable};

/// The width and height in pixels that a photo has on a sheet at most.
pub(super) const THUMBNAIL: (u32, u32) = (TILE, TILE);

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

/// The most labels that a photo has under it.
const MOST_LABELS: u16 = 3;
/// The most photos on a sheet. 10 columns of 50 stay within the 16,383 pixels that WebP allows a side.
const MOST_PHOTOS: usize = 500;
const MOST_COLUMNS: usize = 10;

/// How many characters at the end of a file's name are always shown.
const NAME_TAIL: usize = 9;

const JPEG_QUALITY: u8 = 90;

const PAPER: Rgb<u8> = Rgb([255; 3]);
const MOUNT: Rgb<u8> = Rgb([240; 3]);
const DARK: Rgb<u8> = Rgb([24; 3]);
const PALE: Rgb<u8> = Rgb([112; 3]);
const ALARM: Rgb<u8> = Rgb([176, 32, 32]);

const FORMATS: [(&str, ImageFormat); 4] = [
    ("jpg", ImageFormat::Jpeg),
    ("jpeg", ImageFormat::Jpeg),
    ("png", ImageFormat::Png),
    ("webp", ImageFormat::WebP),
];

/// A file that a sheet can be written to.
#[derive(Debug, Clone)]
pub(super) struct Target {
    path: PathBuf,
    format: ImageFormat,
}

/// The target that the argument of `--sheet` names.
///
/// # Errors
///
/// What to write instead, if its ending is no format, it is a folder, or its folder is not there.
pub(super) fn target(path: PathBuf) -> Result<Target, String> {
    let ending = path.extension().and_then(|ending| ending.to_str());
    let format = ending.and_then(|ending| {
        let known = FORMATS
            .iter()
            .find(|(known, _)| ending.eq_ignore_ascii_case(known));
        known.map(|(_, format)| *format)
    });
    let format = format.ok_or("expected a name that ends in .jpg, .jpeg, .png or .webp")?;
    if path.is_dir() {
        return Err("this is a folder, expected the name of a file".to_owned());
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    match folder {
        Some(folder) if !folder.is_dir() => Err(format!(
            "there is no folder {}; make it first",
            folder.display()
        )),
        _ => Ok(Target { path, format }),
    }
}

impl Target {
    /// The file of sheet `number`, counted from 1, out of `count`.
    fn file(&self, number: usize, count: usize) -> PathBuf {
        if count == 1 {
            return self.path.clone();
        }
        let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_owned();
        let mut name = part(self.path.file_stem());
        name.push(format!("-{number}."));
        name.push(part(self.path.extension()));
        self.path.with_file_name(name)
    }

    /// Writes `picture` to `file`, which is whole or not there at all.
    fn write(&self, picture: &RgbImage, file: &Path) -> Result<()> {
        let partial = file.with_extension(format!("{}.partial", std::process::id()));
        let written = encode(picture, self.format, &partial)
            .and_then(|()| fs::rename(&partial, file).map_err(ImageError::IoError));
        if written.is_err() {
            let _ = fs::remove_file(&partial);
        }
        written.with_context(|| format!("{}: sheet cannot be written", file.display()))
    }
}

fn encode(picture: &RgbImage, format: ImageFormat, path: &Path) -> Result<(), ImageError> {
    let mut file = BufWriter::new(File::create(path)?);
    match format {
        ImageFormat::Jpeg => {
            JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY).encode_image(picture)?;
        }
        format => picture.write_to(&mut file, format)?,
    }
    file.flush()
        .and_then(|()| file.get_ref().sync_all())
        .map_err(|error: io::Error| error.into())
}

/// Where things lie on a sheet, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    columns: u32,
    /// Lines of text under a photo: its name, then its labels.
    lines: u32,
}

impl Layout {
    /// For `total` photos with up to `labels` labels each: about four thirds as wide as high, up to 10 columns.
    fn new(total: usize, labels: u16) -> Self {
        let columns = (total * 15 / 8).isqrt().max(total.min(4));
        Self {
            columns: columns.clamp(1, MOST_COLUMNS) as u32,
            lines: 1 + u32::from(labels.min(MOST_LABELS)),
        }
    }

    /// From the top of one cell to that of the next.
    fn pitch(self) -> u32 {
        TILE + TEXT_GAP + self.lines * LINE + GAP
    }

    /// Width and height of a sheet of `count` photos.
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

/// The sheets of a run, of which one is being drawn.
#[derive(Debug)]
pub(super) struct Sheet {
    target: Target,
    layout: Layout,
    lettering: Lettering,
    total: usize,
    added: usize,
    picture: RgbImage,
}

impl Sheet {
    /// Sheets of `total` photos, with up to `labels` labels each.
    ///
    /// # Errors
    ///
    /// If the font in the program is damaged.
    pub(super) fn new(target: &Target, total: usize, labels: u16) -> Result<Self> {
        Ok(Self {
            target: target.clone(),
            layout: Layout::new(total, labels),
            lettering: Lettering::new(LETTERS)?,
            total,
            added: 0,
            picture: RgbImage::new(0, 0),
        })
    }

    /// Draws the next photo with its best labels, `None` if it failed. The last one of a sheet writes the sheet.
    ///
    /// # Errors
    ///
    /// If the sheet cannot be written.
    pub(super) fn add(
        &mut self,
        path: &Path,
        thumbnail: Option<&RgbImage>,
        answer: Option<&[Prediction<'_>]>,
    ) -> Result<()> {
        let (sheet, place) = (self.added / MOST_PHOTOS, self.added % MOST_PHOTOS);
        let count = MOST_PHOTOS.min(self.total - sheet * MOST_PHOTOS);
        if place == 0 {
            let (width, height) = self.layout.size(count);
            self.picture = RgbImage::from_pixel(width, height, PAPER);
        }
        let corner = self.layout.corner(place);
        self.draw_photo(corner, thumbnail);
        self.draw_name(corner, path);
        match answer {
            Some(predictions) => self.draw_answer(corner, predictions),
            None => self.draw_failed(corner),
        }
        self.added += 1;
        if place + 1 == count {
            let sheets = self.total.div_ceil(MOST_PHOTOS);
            self.target
                .write(&self.picture, &self.target.file(sheet + 1, sheets))?;
        }
        Ok(())
    }

    /// Where the sheets are, for people.
    pub(super) fn summary(&self) -> String {
        let sheets = self.total.div_ceil(MOST_PHOTOS);
        let first = self.target.file(1, sheets);
        match sheets {
            0 => "no photos, no sheet".to_owned(),
            1 => format!("sheet in {}", first.display()),
            _ => format!(
                "{sheets} sheets of up to {MOST_PHOTOS} photos in {} to {}",
                first.display(),
                self.target.file(sheets, sheets).display()
            ),
        }
    }

    /// The photo in the middle of its tile.
    fn draw_photo(&mut self, (x, y): (u32, u32), thumbnail: Option<&RgbImage>) {
        let mount = RgbImage::from_pixel(TILE, TILE, MOUNT);
        imageops::replace(&mut self.picture, &mount, x.into(), y.into());
        if let Some(photo) = thumbnail {
            let x = x + TILE.saturating_sub(photo.width()) / 2;
            let y = y + TILE.saturating_sub(photo.height()) / 2;
            imageops::replace(&mut self.picture, photo, x.into(), y.into());
        }
    }

    fn draw_name(&mut self, corner: (u32, u32), path: &Path) {
        let name = match path.file_name() {
            _ if path == Path::new(STDIN) => "standard input".into(),
            Some(name) => name.to_string_lossy(),
            None => path.to_string_lossy(),
        };
        let name = self
            .lettering
            .fit(&printable(&name), TILE as f32, NAME_TAIL);
        self.draw_line(corner, 0, &name, PALE);
    }

    /// The best labels, each with its figure at the right edge; the first stands out.
    fn draw_answer(&mut self, corner: (u32, u32), predictions: &[Prediction<'_>]) {
        if predictions.is_empty() {
            self.draw_line(corner, 1, NONE_OF_THESE, PALE);
        }
        let shown = (self.layout.lines - 1) as usize;
        for (line, prediction) in (1..).zip(predictions.iter().take(shown)) {
            let colour = if line == 1 { DARK } else { PALE };
            let figure = figure(prediction);
            let figure = figure.trim_start();
            let width = TILE as f32 - self.lettering.width(figure);
            let label = self
                .lettering
                .fit(&printable(prediction.label), width - 6.0, 0);
            self.draw_line(corner, line, &label, colour);
            let at = (corner.0 as f32 + width, self.line(corner, line));
            self.lettering.draw(&mut self.picture, figure, at, colour);
        }
    }

    /// The word "failed" in the middle of the empty tile.
    fn draw_failed(&mut self, (x, y): (u32, u32)) {
        const WORD: &str = "failed";
        let x = x as f32 + (TILE as f32 - self.lettering.width(WORD)) / 2.0;
        let y = y + (TILE - LETTERS) / 2;
        self.lettering
            .draw(&mut self.picture, WORD, (x, y as f32), ALARM);
    }

    fn draw_line(&mut self, corner: (u32, u32), line: u32, text: &str, colour: Rgb<u8>) {
        let at = (corner.0 as f32, self.line(corner, line));
        self.lettering.draw(&mut self.picture, text, at, colour);
    }

    /// The top of line `line` under a photo, counted from 0.
    fn line(&self, corner: (u32, u32), line: u32) -> f32 {
        (corner.1 + TILE + TEXT_GAP + line * LINE) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_as_wide_as_their_photos_need() {
        let columns =
            [0, 1, 2, 3, 4, 5, 14, 40, 200, 500, 10_000].map(|total| Layout::new(total, 3).columns);
        assert_eq!(columns, [1, 1, 2, 3, 4, 4, 5, 8, 10, 10, 10]);
    }

    #[test]
    fn cells_fill_the_sheet_and_do_not_overlap() {
        for (total, labels) in [(1, 1), (3, 2), (14, 3), (500, 9)] {
            let layout = Layout::new(total, labels);
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
        let (width, height) = Layout::new(MOST_PHOTOS, MOST_LABELS).size(MOST_PHOTOS);
        assert!(width.max(height) <= 16_383, "{width} x {height}");
        assert!(width * height * 3 <= 70 << 20, "{width} x {height}");
    }

    #[test]
    fn endings_and_folders_are_checked() {
        for good in ["a.jpg", "a.JPEG", "./a.b.png", "a.webp"] {
            assert!(target(good.into()).is_ok(), "{good}");
        }
        for (bad, said) in [
            ("a.bmp", "ends in .jpg"),
            ("a", "ends in .jpg"),
            (".png", "ends in .jpg"),
            ("no such/a.png", "there is no folder no such"),
        ] {
            assert!(target(bad.into()).unwrap_err().contains(said), "{bad}");
        }
        let folder = tempfile::tempdir().unwrap();
        let named = folder.path().join("folder.png");
        fs::create_dir(&named).unwrap();
        assert!(target(named).unwrap_err().contains("this is a folder"));
    }

    #[test]
    fn several_sheets_are_numbered() {
        let target = target("a.b.png".into()).unwrap();
        assert_eq!(target.file(1, 1), Path::new("a.b.png"));
        assert_eq!(target.file(2, 3), Path::new("a.b-2.png"));
    }

    #[test]
    fn photos_beyond_a_sheet_go_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let target = target(folder.path().join("all.png")).unwrap();
        let total = MOST_PHOTOS + 3;
        let mut sheet = Sheet::new(&target, total, 1).unwrap();
        for index in 0..total {
            let photo = RgbImage::from_pixel(100, 100, Rgb([index as u8, 0, 200]));
            sheet
                .add(Path::new("photo.png"), Some(&photo), Some(&[]))
                .unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["all-1.png", "all-2.png"]);
        let last = image::open(folder.path().join("all-2.png"))
            .unwrap()
            .to_rgb8();
        let layout = Layout::new(total, 1);
        assert_eq!(last.dimensions(), layout.size(3));
        let (x, y) = layout.corner(2);
        let middle = last.get_pixel(x + TILE / 2, y + TILE / 2);
        assert_eq!(*middle, Rgb([(total - 1) as u8, 0, 200]));
        assert!(
            sheet.summary().starts_with("2 sheets"),
            "{}",
            sheet.summary()
        );
    }
}

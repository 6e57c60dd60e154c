//! Contact sheets: photos, small, each with its name and up to three lines under it, in a file.
//!
//! What a sheet holds and where it goes stands here. `grid.rs` draws one as a picture, `page.rs` writes one as a page
//! of HTML. A run that is cut off leaves no sheet.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use diptych::pipeline::STDIN;
use image::{ImageFormat, RgbImage};

use super::grid::Grid;
use super::page::Page;

/// The most lines that a photo has under its name.
const MOST_LINES: usize = 3;
/// The most photos on a picture. 10 columns of 50 stay within the 16,383 pixels that WebP allows a side.
pub(super) const MOST_PHOTOS: usize = 500;

const FORMATS: [(&str, Format); 5] = [
    ("jpg", Format::Picture(ImageFormat::Jpeg)),
    ("jpeg", Format::Picture(ImageFormat::Jpeg)),
    ("png", Format::Picture(ImageFormat::Png)),
    ("webp", Format::Picture(ImageFormat::WebP)),
    ("html", Format::Page),
];

/// What a sheet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Picture(ImageFormat),
    Page,
}

/// A photo on a sheet, with what is written under it.
#[derive(Debug)]
pub(super) struct Cell<'a> {
    pub(super) path: &'a Path,
    /// The photo, small, or the word that says why there is none.
    pub(super) photo: Result<&'a RgbImage, &'a str>,
    /// What is said of it; those beyond the third are left out.
    pub(super) lines: Vec<Line>,
}

/// A line of text under a photo.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// At the left edge, shortened where it does not fit.
    pub(super) text: String,
    /// At the right edge, whole.
    pub(super) figure: String,
    pub(super) stands_out: bool,
}

impl<'a> Cell<'a> {
    /// The name that stands under the photo.
    pub(super) fn name(&self) -> Cow<'a, str> {
        match self.path.file_name() {
            _ if self.is_standard_input() => "standard input".into(),
            Some(name) => name.to_string_lossy(),
            None => self.path.to_string_lossy(),
        }
    }

    pub(super) fn is_standard_input(&self) -> bool {
        self.path == Path::new(STDIN)
    }
}

/// A file that a sheet can be written to.
#[derive(Debug, Clone)]
pub(super) struct Target {
    path: PathBuf,
    format: Format,
}

/// The target that the argument of `--sheet` names.
///
/// # Errors
///
/// What to write instead, if its ending is no format, it is a folder, or its folder is not there.
pub(super) fn target(path: PathBuf) -> Result<Target, String> {
    let ending = path.extension().and_then(OsStr::to_str);
    let format = ending.and_then(|ending| {
        let is_it = |(known, _): &&(&str, Format)| ending.eq_ignore_ascii_case(known);
        FORMATS.iter().find(is_it).map(|(_, format)| *format)
    });
    let format = format.ok_or("expected a name that ends in .jpg, .jpeg, .png, .webp or .html")?;
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
    /// The width and height in pixels that a photo has on the sheet at most.
    pub(super) fn thumbnail(&self) -> (u32, u32) {
        match self.format {
            Format::Picture(_) => Grid::THUMBNAIL,
            Format::Page => Page::THUMBNAIL,
        }
    }

    /// The file of sheet `number`, counted from 1, out of `count`.
    fn file(&self, number: usize, count: usize) -> PathBuf {
        if count == 1 {
            return self.path.clone();
        }
        let part = |part: Option<&OsStr>| part.unwrap_or_default().to_owned();
        let mut name = part(self.path.file_stem());
        name.push(format!("-{number}."));
        name.push(part(self.path.extension()));
        self.path.with_file_name(name)
    }
}

/// A file that is written under another name, and has its own when it is whole.
#[derive(Debug)]
pub(super) struct NewFile {
    path: PathBuf,
    partial: PathBuf,
    file: Option<BufWriter<File>>,
}

impl NewFile {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        let file = File::create(&partial).with_context(|| unwritable(path))?;
        Ok(Self {
            path: path.to_owned(),
            partial,
            file: Some(BufWriter::new(file)),
        })
    }

    /// Has `write` add to the file.
    pub(super) fn add<E: Into<anyhow::Error>>(
        &mut self,
        write: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
    ) -> Result<()> {
        let file = self.file.as_mut().context("the file is open")?;
        let written = write(file).map_err(Into::into);
        written.with_context(|| unwritable(&self.path))
    }

    /// Gives the file its name.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.add(|file| file.flush().and_then(|()| file.get_ref().sync_all()))?;
        // Closed before it is renamed, as some systems ask.
        self.file = None;
        let renamed = fs::rename(&self.partial, &self.path);
        if renamed.is_err() {
            let _ = fs::remove_file(&self.partial);
        }
        renamed.with_context(|| unwritable(&self.path))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = fs::remove_file(&self.partial);
        }
    }
}

fn unwritable(path: &Path) -> String {
    format!("{}: sheet cannot be written", path.display())
}

/// The sheets of a run, of which one is being drawn.
#[derive(Debug)]
pub(super) struct Sheet {
    target: Target,
    total: usize,
    added: usize,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Picture(ImageFormat, Box<Grid>),
    Page(Page),
}

impl Sheet {
    /// Sheets of `total` photos, with up to `lines` lines each; `title` heads a page.
    ///
    /// # Errors
    ///
    /// If the font in the program is damaged, or a page cannot be written.
    pub(super) fn new(target: &Target, title: &str, total: usize, lines: usize) -> Result<Self> {
        let form = match target.format {
            Format::Picture(format) => {
                let grid = Grid::new(total, lines.min(MOST_LINES))?;
                Form::Picture(format, Box::new(grid))
            }
            Format::Page => Form::Page(Page::create(&target.path, title)?),
        };
        Ok(Self {
            target: target.clone(),
            total,
            added: 0,
            form,
        })
    }

    /// Puts the next photo on its sheet. The last one of a sheet finishes the sheet.
    ///
    /// # Errors
    ///
    /// If the sheet cannot be written.
    pub(super) fn add(&mut self, mut cell: Cell<'_>) -> Result<()> {
        cell.lines.truncate(MOST_LINES);
        let (sheet, place) = (self.added / MOST_PHOTOS, self.added % MOST_PHOTOS);
        let file = self.target.file(sheet + 1, self.sheets());
        self.added += 1;
        match &mut self.form {
            Form::Picture(format, grid) => {
                let count = MOST_PHOTOS.min(self.total - sheet * MOST_PHOTOS);
                if place == 0 {
                    grid.begin(count);
                }
                grid.draw(place, &cell);
                if place + 1 == count {
                    let mut file = NewFile::create(&file)?;
                    file.add(|file| grid.write(*format, file))?;
                    file.finish()?;
                }
            }
            Form::Page(page) => {
                page.add(&cell)?;
                if self.added == self.total {
                    page.finish()?;
                }
            }
        }
        Ok(())
    }

    /// How many sheets there are.
    fn sheets(&self) -> usize {
        match self.form {
            Form::Picture(..) => self.total.div_ceil(MOST_PHOTOS),
            Form::Page(_) => self.total.min(1),
        }
    }

    /// Where the sheets are, for people.
    pub(super) fn summary(&self) -> String {
        let sheets = self.sheets();
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
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn endings_and_folders_are_checked() {
        for good in ["a.jpg", "a.JPEG", "./a.b.png", "a.webp", "a.html"] {
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

    fn fill(target: &Target, total: usize) -> Sheet {
        let mut sheet = Sheet::new(target, "all", total, 1).unwrap();
        for index in 0..total {
            let photo = RgbImage::from_pixel(100, 100, Rgb([index as u8, 0, 200]));
            let cell = Cell {
                path: Path::new("photo.png"),
                photo: Ok(&photo),
                lines: Vec::new(),
            };
            sheet.add(cell).unwrap();
        }
        sheet
    }

    #[test]
    fn photos_beyond_a_picture_go_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let target = target(folder.path().join("all.png")).unwrap();
        let total = MOST_PHOTOS + 3;
        let sheet = fill(&target, total);
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["all-1.png", "all-2.png"]);
        let last = image::open(folder.path().join("all-2.png"))
            .unwrap()
            .to_rgb8();
        let middle = Grid::middle_of(total, 1, 2);
        assert_eq!(
            *last.get_pixel(middle.0, middle.1),
            Rgb([(total - 1) as u8, 0, 200])
        );
        assert!(
            sheet.summary().starts_with("2 sheets"),
            "{}",
            sheet.summary()
        );
    }

    #[test]
    fn a_page_holds_any_number_of_photos() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all.html");
        let sheet = fill(&target(path.clone()).unwrap(), MOST_PHOTOS + 3);
        let page = fs::read_to_string(&path).unwrap();
        assert_eq!(page.matches("<figure>").count(), MOST_PHOTOS + 3);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(
            sheet.summary().starts_with("sheet in "),
            "{}",
            sheet.summary()
        );
    }

    #[test]
    fn a_file_that_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let target = target(folder.path().join("all.html")).unwrap();
        drop(Sheet::new(&target, "all", 2, 1).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

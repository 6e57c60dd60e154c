//! What leaves an index and comes into one: contact sheets, pictures in the terminal, exports, imports.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::golden;
use diptych::{Filter, ImageOptions, open_image, resize};
use image::{RgbImage, imageops};
use serde_json::Value;
use tempfile::TempDir;

/// A small model of both towers.
const MODEL: &str = "transformers-clip";

/// An index of photos that may be moved and removed, in folders that vanish.
struct Fixture {
    folder: TempDir,
}

impl Fixture {
    /// Three photos under these names, indexed.
    fn new(names: [&str; 3]) -> Self {
        let fixture = Self::empty();
        let photos = ["lossless.webp", "orientation-6.jpg", "size-640x427.png"];
        for (name, photo) in names.iter().zip(photos) {
            let path = fixture.photos().join(name);
            fs::copy(golden("images").join(photo), path).unwrap();
        }
        fixture.index();
        fixture
    }

    fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("photos")).unwrap();
        Self { folder }
    }

    fn index(&self) {
        let output = self.run(&["index"], &[self.photos().as_os_str()]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn photos(&self) -> PathBuf {
        self.path("photos")
    }

    /// The program with the small model and this index.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_diptych"));
        command
            .env_remove("DIPTYCH_MODEL")
            .env("DIPTYCH_INDEX", self.path("index"))
            .arg("--model")
            .arg(golden("bundles").join(MODEL))
            .args(arguments);
        command
    }

    fn run(&self, arguments: &[&str], more: &[&std::ffi::OsStr]) -> Output {
        self.command(arguments).args(more).output().unwrap()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let lines = output.stdout.split(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// The photo in a file, in `sides` (width, height), as what is shown of it should be.
fn small(path: &Path, sides: (u32, u32)) -> RgbImage {
    let photo = open_image(path, &ImageOptions::default()).unwrap();
    let (width, height) = photo.dimensions();
    let scale = (f64::from(sides.0) / f64::from(width)).min(f64::from(sides.1) / f64::from(height));
    let side = |side: u32| (f64::from(side) * scale.min(1.0)).round() as u32;
    resize(&photo, side(width), side(height), Filter::Bicubic)
}

/// How far two pictures of one size are from each other, in levels on average.
fn distance(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let levels = a.as_raw().iter().zip(b.as_raw());
    let sum: f64 = levels.map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
    sum / a.as_raw().len() as f64
}

#[test]
fn a_sheet_shows_the_hits_in_their_order() {
    let fixture = Fixture::new(["a.webp", "b.jpg", "c.png"]);
    let sheet = fixture.path("hits.png");
    let output = fixture.run(
        &["search", "a cat", "--json", "--sheet"],
        &[sheet.as_os_str()],
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let hits = lines(&output);
    assert_eq!(hits.len(), 3);
    let picture = image::open(&sheet).unwrap().to_rgb8();
    // One line under the names; measures as in tests/cli.rs.
    assert_eq!(picture.dimensions(), (16 + 3 * 184, 16 + 168 + 4 + 34 + 16));
    for (place, hit) in (0..).zip(&hits) {
        let expected = small(Path::new(hit["path"].as_str().unwrap()), (168, 168));
        let (width, height) = expected.dimensions();
        let (x, y) = (
            16 + place * 184 + (168 - width) / 2,
            16 + (168 - height) / 2,
        );
        let found = imageops::crop_imm(&picture, x, y, width, height).to_image();
        assert_eq!(found, expected, "{hit}");
    }
    let said = stderr(&output);
    assert!(
        said.contains("sheet in ") && said.contains("hits.png"),
        "{said}"
    );
}

#[test]
#[cfg(unix)]
fn a_page_shows_the_hits_whatever_their_names_are() {
    use std::os::unix::ffi::OsStringExt;

    let fixture = Fixture::new(["<b>&\"'#%.webp", "plain b.jpg", "c.png"]);
    let odd = fixture
        .photos()
        .join(std::ffi::OsString::from_vec(b"odd-\xff.png".to_vec()));
    fs::rename(fixture.photos().join("c.png"), &odd).unwrap();
    fixture.index();
    let sheet = fixture.path("hits.html");
    let query = "<script>alert(1)</script>";
    let output = fixture.run(&["search", query, "--sheet"], &[sheet.as_os_str()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let page = fs::read_to_string(&sheet).unwrap();
    assert!(page.contains("<h1>&lt;script&gt;alert(1)&lt;/script&gt;</h1>"));
    assert!(!page.contains("<script") && !page.contains("<b>"));
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("name=\"viewport\""));
    assert!(!page.contains("http"), "it needs another file");

    let folder = fixture.photos();
    let folder = folder.to_str().unwrap();
    for (file, url) in [
        (
            Path::new(folder).join("<b>&\"'#%.webp"),
            "%3Cb%3E%26%22%27%23%25.webp",
        ),
        (Path::new(folder).join("plain b.jpg"), "plain%20b.jpg"),
        (odd.clone(), "odd-%FF.png"),
    ] {
        let link = format!("<a href=\"file://{folder}/{url}\"");
        let (_, cell) = page.split_once(&link).unwrap_or_else(|| panic!("{link}"));
        let (_, data) = cell.split_once("src=\"data:image/jpeg;base64,").unwrap();
        let jpeg = STANDARD.decode(data.split_once('"').unwrap().0).unwrap();
        let found = image::load_from_memory(&jpeg).unwrap().to_rgb8();
        let expected = small(&file, (360, 360));
        let distance = distance(&found, &expected);
        assert!(distance < 20.0, "{}: {distance}", file.display());
        let (_, text) = cell.split_once("<figcaption>").unwrap();
        let text = text.split_once("</figcaption>").unwrap().0;
        assert!(text.contains("class=\"figure\""), "{text}");
    }
    assert!(
        page.contains("&lt;b&gt;&amp;&quot;&#39;#%.webp</div>"),
        "{page}"
    );
}

#[test]
fn a_photo_that_is_not_there_is_an_empty_cell() {
    let fixture = Fixture::new(["a.webp", "b.jpg", "c.png"]);
    fs::remove_file(fixture.photos().join("a.webp")).unwrap();
    fs::write(fixture.photos().join("c.png"), b"no image").unwrap();
    for name in ["hits.html", "hits.jpg"] {
        let sheet = fixture.path(name);
        let output = fixture.run(&["search", "a cat", "--sheet"], &[sheet.as_os_str()]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            stdout(&output).lines().count(),
            3,
            "the hits are printed all the same"
        );
        let said = stderr(&output);
        assert!(said.contains("a.webp: cannot be read"), "{said}");
        assert!(said.contains("2 of 3 photos failed"), "{said}");
        assert!(sheet.is_file());
    }
    let page = fs::read_to_string(fixture.path("hits.html")).unwrap();
    assert_eq!(page.matches("<div class=\"none\">missing</div>").count(), 1);
    assert_eq!(page.matches("<div class=\"none\">failed</div>").count(), 1);
    assert_eq!(page.matches("<img ").count(), 1);
}

#[test]
fn a_search_that_finds_nothing_leaves_no_sheet() {
    let fixture = Fixture::new(["a.webp", "b.jpg", "c.png"]);
    let sheet = fixture.path("hits.html");
    let arguments = ["search", "a cat", "--min-score", "1", "--sheet"];
    let output = fixture.run(&arguments, &[sheet.as_os_str()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!sheet.exists());
}

/// The pictures among the lines, by protocol, with the lines that follow each.
fn kitty_pictures(output: &str) -> Vec<RgbImage> {
    let mut pictures = Vec::new();
    let mut encoded = String::new();
    for piece in output.split("\x1b_G").skip(1) {
        let (control, rest) = piece.split_once(';').unwrap();
        let data = rest.split_once("\x1b\\").unwrap().0;
        assert!(data.len() <= 4096);
        assert_eq!(
            encoded.is_empty(),
            control.contains("a=T,f=100"),
            "{control}"
        );
        encoded.push_str(data);
        if control.ends_with("m=0") {
            let png = STANDARD.decode(std::mem::take(&mut encoded)).unwrap();
            pictures.push(image::load_from_memory(&png).unwrap().to_rgb8());
        }
    }
    assert!(encoded.is_empty());
    pictures
}

fn iterm_pictures(output: &str) -> Vec<RgbImage> {
    let pieces = output.split("\x1b]1337;File=inline=1;").skip(1);
    pieces
        .map(|piece| {
            let data = piece.split_once(':').unwrap().1;
            let png = STANDARD.decode(data.split_once('\x07').unwrap().0).unwrap();
            image::load_from_memory(&png).unwrap().to_rgb8()
        })
        .collect()
}

#[test]
fn photos_are_shown_in_the_terminal_by_three_protocols() {
    let fixture = Fixture::new(["a.webp", "b.jpg", "c.png"]);
    let hits = lines(&fixture.run(&["search", "a cat", "--json"], &[]));
    let expected: Vec<RgbImage> = hits
        .iter()
        .map(|hit| small(Path::new(hit["path"].as_str().unwrap()), (320, 240)))
        .collect();
    assert_eq!(expected.len(), 3);
    let shown = |how: &str| {
        let output = fixture.run(&["search", "a cat", how], &[]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let text = stdout(&output);
        for hit in &hits {
            assert!(text.contains(&format!("  {}\n", hit["path"].as_str().unwrap())));
        }
        text
    };
    assert_eq!(kitty_pictures(&shown("--show=kitty")), expected);
    assert_eq!(iterm_pictures(&shown("--show=iterm")), expected);
    let sixels = shown("--show=sixel");
    for (picture, expected) in sixels.split("\x1bP0;1;0q").skip(1).zip(&expected) {
        let (width, height) = expected.dimensions();
        assert!(picture.starts_with(&format!("\"1;1;{width};{height}#0;2;")));
        let picture = picture.split_once("\x1b\\").unwrap().0;
        assert_eq!(picture.matches('-').count() as u32, height.div_ceil(6));
    }
}

#[test]
fn without_a_terminal_hits_are_printed_plainly() {
    let fixture = Fixture::new(["a.webp", "b.jpg", "c.png"]);
    let output = fixture
        .command(&["search", "--show", "a cat", "-night"])
        .env("TERM", "xterm-kitty")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!stdout(&output).contains('\x1b'));
    assert_eq!(stdout(&output).lines().count(), 3);
    let said = stderr(&output);
    assert!(
        said.contains("no pictures are shown: standard output is not a terminal"),
        "{said}"
    );
    let output = fixture.run(&["search", "--show=kitty", "--json", "a cat"], &[]);
    assert_eq!(output.status.code(), Some(2));
}

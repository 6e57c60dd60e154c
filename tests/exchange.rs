//! What leaves an index and comes into one: contact sheets, pictures in the terminal, exports, imports.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{golden, root, stderr};
use diptych::{Filter, ImageOptions, open_image, resize};
use image::{RgbImage, imageops};
use serde_json::{Value, json};
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
    assert_eq!(page.matches("<a href=").count(), 1);
}

#[test]
fn classify_has_pages_too() {
    let fixture = Fixture::empty();
    let photo = fixture.photos().join("a.webp");
    fs::copy(golden("images/lossless.webp"), &photo).unwrap();
    let page = fixture.path("labels.html");
    let arguments = ["classify", "--labels", "cat,<dog>", "--sheet"];
    let output = fixture.run(&arguments, &[page.as_os_str(), photo.as_os_str()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let page = fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<a href=\"file://").count(), 1);
    assert_eq!(page.matches("<div class=\"line").count(), 2);
    assert_eq!(page.matches(" %</span>").count(), 2);
    assert_eq!(page.matches("<span>&lt;dog&gt;</span>").count(), 1);
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

/// Everything below a folder, by its path in it.
fn files(folder: &Path) -> Vec<String> {
    let mut files: Vec<String> = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let path = entry.path().strip_prefix(folder).unwrap();
            path.to_str().unwrap().to_owned()
        })
        .collect();
    files.sort();
    files
}

fn succeed(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
}

/// What a search of everything gives, from a second index that holds what was exported.
fn imported(fixture: &Fixture, folder: &Path) -> (Output, Vec<Value>) {
    let other = fixture.path("other");
    let output = fixture
        .command(&["import", "--json"])
        .arg(folder)
        .env("DIPTYCH_INDEX", &other)
        .output()
        .unwrap();
    let hits = fixture
        .command(&["search", "a cat", "--json", "--limit", "0"])
        .env("DIPTYCH_INDEX", &other)
        .output()
        .unwrap();
    (output, lines(&hits))
}

fn assert_same_hits(found: &[Value], expected: &[Value], within: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found["path"], expected["path"]);
        let distance = found["score"].as_f64().unwrap() - expected["score"].as_f64().unwrap();
        assert!(distance.abs() < within, "{found} {expected}");
    }
}

#[test]
fn npy_is_rows_and_lines_and_comes_back() {
    let fixture = Fixture::new(["a.webp", "b.jpg", "c.png"]);
    let out = fixture.path("out");
    let output = fixture.run(&["export", "--output"], &[out.as_os_str()]);
    succeed(&output);
    assert_eq!(
        stdout(&output),
        "3 items exported, rows of 24 values, layout npy; 0 failed\n"
    );
    assert_eq!(files(&out), ["items.jsonl", "model.json", "rows.npy"]);
    let rows = common::npy2::<f32>(&out.join("rows.npy"));
    assert_eq!(rows.dim(), (3, 24));
    for row in rows.outer_iter() {
        assert!((row.dot(&row) - 1.0).abs() < 1e-5);
    }
    let items = common::list_of_lines(&out.join("items.jsonl"));
    for (item, name) in items.iter().zip(["a.webp", "b.jpg", "c.png"]) {
        let path = fixture.photos().join(name);
        let keys: Vec<&String> = item.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["hash", "modified", "path", "size"]);
        assert_eq!(item["path"], path.to_str().unwrap());
        assert_eq!(item["size"], fs::metadata(&path).unwrap().len());
        assert_eq!(item["hash"].as_str().unwrap().len(), 32);
    }

    let (output, found) = imported(&fixture, &out);
    succeed(&output);
    assert_eq!(
        lines(&output)[0],
        json!({"items": 3, "imported": 3, "known": 0, "missing": 0, "failed": 0})
    );
    let expected = lines(&fixture.run(&["search", "a cat", "--json"], &[]));
    assert_same_hits(&found, &expected, 1e-5);
    // What was imported is as if it had been indexed.
    let output = fixture
        .command(&["index", "--json"])
        .arg(fixture.photos())
        .env("DIPTYCH_INDEX", fixture.path("other"))
        .output()
        .unwrap();
    assert_eq!(lines(&output)[0]["unchanged"], 3, "{}", stdout(&output));
    // And once more changes nothing.
    let (output, again) = imported(&fixture, &out);
    succeed(&output);
    assert_eq!(lines(&output)[0]["known"], 3);
    assert_eq!(again, found);
}

#[test]
fn clip_retrieval_is_halves_and_a_table_and_comes_back() {
    let fixture = Fixture::new(["a.webp", "b ü.jpg", "c.png"]);
    let out = fixture.path("out");
    let arguments = ["export", "--json", "--layout", "clip-retrieval", "--output"];
    let output = fixture.run(&arguments, &[out.as_os_str()]);
    succeed(&output);
    assert_eq!(
        lines(&output)[0],
        json!({"items": 3, "failed": 0, "width": 24, "layout": "clip-retrieval"})
    );
    assert_eq!(
        files(&out),
        [
            "img_emb/img_emb_0.npy",
            "metadata/metadata_0.parquet",
            "model.json"
        ]
    );
    let header = fs::read(out.join("img_emb/img_emb_0.npy")).unwrap();
    assert!(String::from_utf8_lossy(&header[..128]).contains("'<f2'"));
    let (output, found) = imported(&fixture, &out);
    succeed(&output);
    assert_eq!(lines(&output)[0]["missing"], 0);
    let expected = lines(&fixture.run(&["search", "a cat", "--json"], &[]));
    // The layout's rows are f16.
    assert_same_hits(&found, &expected, 2e-4);
}

#[test]
fn exports_are_of_what_the_filters_leave() {
    let fixture = Fixture::new(["a.webp", "b.jpg", "c.png"]);
    let inner = fixture.photos().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::rename(fixture.photos().join("a.webp"), inner.join("a.webp")).unwrap();
    fixture.index();
    let out = fixture.path("out");
    let arguments = [inner.as_os_str(), "--output".as_ref(), out.as_os_str()];
    succeed(&fixture.run(&["export", "--in"], &arguments));
    let items = common::list_of_lines(&out.join("items.jsonl"));
    assert_eq!(items.len(), 1);
    assert_eq!(items[0]["path"], inner.join("a.webp").to_str().unwrap());

    // A folder that holds something is left alone.
    let output = fixture.run(&["export", "--output"], &[out.as_os_str()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("there is something already"));
    assert_eq!(common::list_of_lines(&out.join("items.jsonl")).len(), 1);
    // Nothing found is no folder.
    let none = fixture.path("none");
    let arguments = ["export", "--since", "2200", "--output"];
    let output = fixture.run(&arguments, &[none.as_os_str()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("no items to work on"),
        "{}",
        stderr(&output)
    );
    assert_eq!(
        files(fixture.folder.path())
            .iter()
            .filter(|path| path.contains("none"))
            .count(),
        0
    );
}

#[test]
#[cfg(unix)]
fn odd_names_come_back_by_npy_and_are_left_out_of_tables() {
    use std::os::unix::ffi::OsStringExt;

    let fixture = Fixture::new(["a\n\"b\".webp", "b.jpg", "c.png"]);
    let odd = fixture
        .photos()
        .join(std::ffi::OsString::from_vec(b"odd-\xff.png".to_vec()));
    fs::rename(fixture.photos().join("c.png"), odd).unwrap();
    fixture.index();
    let out = fixture.path("out");
    succeed(&fixture.run(&["export", "--output"], &[out.as_os_str()]));
    let (output, _) = imported(&fixture, &out);
    succeed(&output);
    let paths = |index: &str| {
        let arguments = ["search", "a cat", "--print0"];
        let output = fixture
            .command(&arguments)
            .env("DIPTYCH_INDEX", fixture.path(index))
            .output()
            .unwrap();
        output.stdout
    };
    assert_eq!(paths("other"), paths("index"));
    assert!(paths("other").windows(6).any(|part| part == b"-\xff.png"));

    let table = fixture.path("table");
    let arguments = ["export", "--layout", "clip-retrieval", "--output"];
    let output = fixture.run(&arguments, &[table.as_os_str()]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains("left out, since its name is not Unicode; --layout npy"),
        "{said}"
    );
    assert!(
        stdout(&output).starts_with("2 items exported"),
        "{}",
        stdout(&output)
    );
    fs::remove_dir_all(fixture.path("other")).unwrap();
    let (output, found) = imported(&fixture, &table);
    succeed(&output);
    assert_eq!(found.len(), 2);
}

/// A folder of rows that somebody else made.
fn others(fixture: &Fixture, name: &str, rows: &[[f32; 24]], items: &str) -> PathBuf {
    let folder = fixture.path(name);
    fs::create_dir(&folder).unwrap();
    let header = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, 24), }}",
        rows.len()
    );
    let mut file = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    file.extend(format!("{header:<117}\n").bytes());
    file.extend(rows.iter().flatten().flat_map(|value| value.to_le_bytes()));
    fs::write(folder.join("rows.npy"), file).unwrap();
    fs::write(folder.join("items.jsonl"), items).unwrap();
    folder
}

fn unit(axis: usize) -> [f32; 24] {
    std::array::from_fn(|index| f32::from(u8::from(index == axis)))
}

#[test]
fn rows_without_a_direction_are_left_out() {
    let fixture = Fixture::empty();
    let mut bad = unit(0);
    bad[3] = f32::NAN;
    let rows = [unit(0), bad, [0.0; 24], unit(1).map(|value| 7.0 * value)];
    let items = r#"{"path": "a.jpg"}
{"path": "b.jpg"}
{"path": "c.jpg"}
{"path": "d.jpg"}
"#;
    let folder = others(&fixture, "rows", &rows, items);
    let (output, found) = imported(&fixture, &folder);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        lines(&output)[0],
        json!({"items": 2, "imported": 2, "known": 0, "missing": 2, "failed": 2})
    );
    let said = stderr(&output);
    assert!(
        said.contains("rows.npy: row 1 left out: it holds a value that is not finite"),
        "{said}"
    );
    assert!(
        said.contains("rows.npy: row 2 left out: it is all zeros"),
        "{said}"
    );
    assert_eq!(found.len(), 2);
    let here = std::env::current_dir().unwrap().canonicalize().unwrap();
    for hit in &found {
        let path = Path::new(hit["path"].as_str().unwrap());
        assert_eq!(path.parent(), Some(here.as_path()));
    }
}

#[test]
fn the_last_row_of_a_place_counts() {
    let fixture = Fixture::empty();
    let items = "{\"path\": \"/p/a.jpg\"}\n{\"path\": \"/p/b.jpg\"}\n{\"path\": \"/p/a.jpg\"}\n";
    let folder = others(&fixture, "rows", &[unit(0), unit(1), unit(2)], items);
    let (output, found) = imported(&fixture, &folder);
    succeed(&output);
    assert_eq!(lines(&output)[0]["items"], 2);
    assert_eq!(found.len(), 2);
    let out = fixture.path("out");
    let output = fixture
        .command(&["export", "--output"])
        .arg(&out)
        .env("DIPTYCH_INDEX", fixture.path("other"))
        .output()
        .unwrap();
    succeed(&output);
    let rows = common::npy2::<f32>(&out.join("rows.npy"));
    assert_eq!(rows.row(0).to_vec(), unit(2));
    assert_eq!(rows.row(1).to_vec(), unit(1));
}

#[test]
fn a_folder_that_does_not_add_up_changes_nothing() {
    let fixture = Fixture::empty();
    let good = "{\"path\": \"/p/a.jpg\"}\n";
    for (name, rows, items, said) in [
        (
            "few",
            2,
            good,
            "items.jsonl: 1 items, expected 2, as many as",
        ),
        ("many", 0, good, "items.jsonl: 1 items, expected 0"),
        (
            "broken",
            1,
            "{\"path\": 3}\n",
            "items.jsonl: line 1 is not of an item",
        ),
        ("no-path", 1, "{}\n", "expected a path, or a text"),
    ] {
        let folder = others(&fixture, name, &vec![unit(0); rows], items);
        let (output, _) = imported(&fixture, &folder);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(
            stderr(&output).contains(said),
            "{name}: {}",
            stderr(&output)
        );
        assert!(!fixture.path("other").exists(), "{name}");
    }
    let folder = others(&fixture, "cut", &[unit(0)], good);
    let rows = fs::read(folder.join("rows.npy")).unwrap();
    fs::write(folder.join("rows.npy"), &rows[..rows.len() - 1]).unwrap();
    let (output, _) = imported(&fixture, &folder);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("it is cut off"),
        "{}",
        stderr(&output)
    );
    let (output, _) = imported(&fixture, &fixture.photos());
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("no rows in it: expected rows.npy"));
}

#[test]
fn rows_of_another_model_are_refused() {
    let fixture = Fixture::new(["a.webp", "b.jpg", "c.png"]);
    let out = fixture.path("out");
    succeed(&fixture.run(&["export", "--output"], &[out.as_os_str()]));
    fs::write(out.join("model.json"), "{\"model\": \"other@0123\"}").unwrap();
    let (output, _) = imported(&fixture, &out);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(
        said.contains("rows are of other@0123, not of transformers-clip@"),
        "{said}"
    );
    assert!(said.contains("--trust-model"), "{said}");
    let output = fixture.run(&["import", "--trust-model"], &[out.as_os_str()]);
    succeed(&output);
    assert_eq!(
        stdout(&output),
        "3 items in the index: 3 imported, 3 of them of known content, 0 of files that are not there, 0 failed\n"
    );
}

#[test]
fn texts_go_out_and_come_in_by_both_layouts() {
    let fixture = Fixture::empty();
    let items = r#"{"path": "/texts.csv", "id": "7", "text": "a cat"}
{"text": "a \"dog\""}
"#;
    let folder = others(&fixture, "rows", &[unit(0), unit(1)], items);
    let (output, expected) = imported(&fixture, &folder);
    succeed(&output);
    assert_eq!(expected.len(), 2);
    let own = folder.join("items.jsonl");
    let own = own.to_str().unwrap();
    let mut places: Vec<_> = expected
        .iter()
        .map(|hit| (hit["path"].as_str().unwrap(), hit["id"].as_str().unwrap()))
        .collect();
    places.sort_unstable();
    let mut wanted = [("/texts.csv", "7"), (own, "2")];
    wanted.sort_unstable();
    assert_eq!(places, wanted);
    for layout in ["npy", "clip-retrieval"] {
        let out = fixture.path(layout);
        let output = fixture
            .command(&["export", "--layout", layout, "--output"])
            .arg(&out)
            .env("DIPTYCH_INDEX", fixture.path("other"))
            .output()
            .unwrap();
        succeed(&output);
        fs::remove_dir_all(fixture.path("other")).unwrap();
        let (output, found) = imported(&fixture, &out);
        succeed(&output);
        assert_eq!(found, expected, "{layout}");
    }
    assert_eq!(
        files(&fixture.path("clip-retrieval"))[1..],
        ["model.json", "text_emb/text_emb_0.npy"]
    );
}

/// What clip-retrieval writes: see tests/data/README.md.
#[test]
fn a_table_of_pyarrow_is_read() {
    let fixture = Fixture::empty();
    let (output, found) = imported(&fixture, &root("tests/data/clip-retrieval"));
    succeed(&output);
    assert_eq!(
        lines(&output)[0],
        json!({"items": 6, "imported": 6, "known": 0, "missing": 3, "failed": 0})
    );
    let mut paths: Vec<_> = found
        .iter()
        .map(|hit| hit["path"].as_str().unwrap())
        .collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        ["/photos/a b.jpg", "/photos/dog.png", "/photos/ü/katze.jpg"]
    );
    let texts = fixture
        .command(&["search", "a cat", "--json", "--kind", "texts"])
        .env("DIPTYCH_INDEX", fixture.path("other"))
        .output()
        .unwrap();
    let mut texts: Vec<_> = lines(&texts)
        .iter()
        .map(|hit| hit["text"].as_str().unwrap().to_owned())
        .collect();
    texts.sort_unstable();
    assert_eq!(texts, ["a dog", "eine Katze", "two letters"]);
}

#[test]
fn a_table_that_is_damaged_is_an_error() {
    let fixture = Fixture::empty();
    let good = root("tests/data/clip-retrieval");
    let folder = fixture.path("damaged");
    fs::create_dir_all(folder.join("img_emb")).unwrap();
    fs::create_dir_all(folder.join("metadata")).unwrap();
    let rows = "img_emb/img_emb_0.npy";
    fs::copy(good.join(rows), folder.join(rows)).unwrap();
    let table = fs::read(good.join("metadata/metadata_0.parquet")).unwrap();
    let bad = folder.join("metadata/metadata_0.parquet");
    let cut: Vec<usize> = (0..table.len()).step_by(211).collect();
    assert!(cut.len() > 5);
    for length in cut {
        fs::write(&bad, &table[..length]).unwrap();
        let (output, _) = imported(&fixture, &folder);
        assert_eq!(output.status.code(), Some(2), "{length}");
        assert!(stderr(&output).contains("metadata_0.parquet: cannot be read as Parquet"));
    }
    fs::remove_file(&bad).unwrap();
    let (output, _) = imported(&fixture, &folder);
    assert_eq!(output.status.code(), Some(2));
    assert!(!fixture.path("other").exists());
}

/// What is exported, as pandas and NumPy read it; `DIPTYCH_PYTHON` names a Python that has pyarrow.
#[test]
#[ignore = "needs pyarrow"]
fn pandas_reads_what_is_exported() {
    let python = std::env::var("DIPTYCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let fixture = Fixture::new(["a.webp", "b ü.jpg", "c.png"]);
    for layout in ["npy", "clip-retrieval"] {
        let out = fixture.path(layout);
        let arguments = ["export", "--layout", layout, "--output"];
        succeed(&fixture.run(&arguments, &[out.as_os_str()]));
        let output = Command::new(&python)
            .arg("-c")
            .arg(READ)
            .arg(&out)
            .output()
            .unwrap();
        succeed(&output);
        let found = lines(&output).swap_remove(0);
        assert_eq!(found["shape"], json!([3, 24]), "{layout}");
        let paths = found["paths"].as_array().unwrap();
        for (path, name) in paths.iter().zip(["a.webp", "b ü.jpg", "c.png"]) {
            assert_eq!(path, fixture.photos().join(name).to_str().unwrap());
        }
        assert!((found["norm"].as_f64().unwrap() - 1.0).abs() < 1e-3);
        assert_eq!(
            found["type"],
            if layout == "npy" {
                "float32"
            } else {
                "float16"
            }
        );
    }
    let texts = fixture.path("texts");
    let items = "{\"text\": \"a cat\"}\n{\"text\": \"ein Hund, groß\"}\n";
    let folder = others(&fixture, "rows", &[unit(0), unit(1)], items);
    succeed(&imported(&fixture, &folder).0);
    let output = fixture
        .command(&["export", "--layout", "clip-retrieval", "--output"])
        .arg(&texts)
        .env("DIPTYCH_INDEX", fixture.path("other"))
        .output()
        .unwrap();
    succeed(&output);
    let output = Command::new(&python)
        .arg("-c")
        .arg(READ)
        .arg(&texts)
        .output()
        .unwrap();
    succeed(&output);
    let found = lines(&output).swap_remove(0);
    assert_eq!(found["paths"], json!(["a cat", "ein Hund, groß"]));
}

const READ: &str = r#"
import json, os, sys
import numpy, pandas
folder = sys.argv[1]
table = os.path.join(folder, "metadata", "metadata_0.parquet")
if os.path.exists(table):
    name = "img_emb" if os.path.exists(os.path.join(folder, "img_emb")) else "text_emb"
    rows = numpy.load(os.path.join(folder, name, name + "_0.npy"))
    frame = pandas.read_parquet(table)
    paths = list(frame["image_path" if name == "img_emb" else "caption"])
    assert (frame["size"] > 0).all() and (frame["hash"].str.len() == 32).all()
else:
    rows = numpy.load(os.path.join(folder, "rows.npy"))
    with open(os.path.join(folder, "items.jsonl"), encoding="utf-8") as file:
        paths = [json.loads(line)["path"] for line in file]
norm = numpy.linalg.norm(rows.astype("float64"), axis=1).mean()
print(json.dumps({"shape": rows.shape, "paths": paths, "norm": norm, "type": str(rows.dtype)}))
"#;

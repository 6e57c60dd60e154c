//! `diptych index` and `diptych search` on folders as they are: copies, odd files, kills, full disks.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Cursor};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{golden, stderr, write_photo};
use diptych::index::{Found, Stat, WalkOptions, compare, hash_file, walk};
use diptych::pipeline::{PipelineOptions, encode_files};
use diptych::{DualEncoder, Error, Index};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder of photos and a place for an index, with a small model that is quick.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("photos")).unwrap();
        Self { folder }
    }

    fn photos(&self) -> PathBuf {
        self.folder.path().join("photos").canonicalize().unwrap()
    }

    /// A photo in one colour, which no other number has.
    fn add_photo(&self, name: impl AsRef<Path>, number: u32) -> PathBuf {
        let path = self.photos().join(name);
        write_photo(&path, number);
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_diptych"));
        command
            .env("DIPTYCH_MODEL", golden("bundles/transformers-clip"))
            .env("DIPTYCH_INDEX", self.folder.path().join("index"))
            .args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What `index --json` says of the photos.
    fn index(&self) -> Value {
        let output = self.run(&["index", "--json", self.photos().to_str().unwrap()]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)))
    }

    /// What `index --json` says of the photos, with what else it says.
    fn index_with(&self, arguments: &[&str]) -> (Value, Output) {
        let photos = self.photos();
        let fixed = ["index", "--json", photos.to_str().unwrap()];
        let output = self.run(&[&fixed, arguments].concat());
        let said = serde_json::from_slice(&output.stdout);
        (
            said.unwrap_or_else(|_| panic!("{}", stderr(&output))),
            output,
        )
    }

    /// How many items the index names, 0 while there is none.
    fn items(&self) -> usize {
        let stats = Index::open(&self.folder.path().join("index")).and_then(|index| index.stats());
        stats.map_or(0, |stats| stats.items())
    }

    /// Starts `index --watch --json`, whose results are to be read from it.
    fn watch(&self, arguments: &[&str]) -> Watch {
        let photos = self.photos();
        let fixed = ["index", "--watch", "--json", photos.to_str().unwrap()];
        let log = self.folder.path().join("stderr");
        let mut child = self
            .command(&[&fixed, arguments].concat())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let (sender, said) = channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Watch { child, said, log }
    }

    /// Every hit of a query.
    fn search(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.run(&[&["search", "--json", "--limit", "0"], arguments].concat());
        assert!(output.status.code() != Some(2), "{}", stderr(&output));
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn paths(&self) -> Vec<String> {
        let path = |hit: &Value| hit["path"].as_str().unwrap().to_owned();
        self.search(&["anything"]).iter().map(path).collect()
    }
}

/// A program that watches. It ends with the test.
struct Watch {
    child: Child,
    said: Receiver<String>,
    log: PathBuf,
}

impl Watch {
    /// What it says next on standard output.
    fn next(&mut self) -> Value {
        let line = self.said.recv_timeout(Duration::from_secs(60));
        let line = line.unwrap_or_else(|_| panic!("it says nothing; {}", self.errors()));
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}, {}", self.errors()))
    }

    /// What it has said on standard error.
    fn errors(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for something that is to happen before long.
fn wait_until(what: &str, mut has_happened: impl FnMut() -> bool) {
    let started = Instant::now();
    while !has_happened() {
        assert!(started.elapsed() < Duration::from_secs(60), "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn counts(
    encoded: usize,
    known: usize,
    unchanged: usize,
    removed: usize,
    failed: usize,
    items: usize,
) -> Value {
    json!({
        "items": items, "encoded": encoded, "known": known, "unchanged": unchanged, "removed": removed, "failed": failed
    })
}

#[test]
fn only_new_content_is_encoded() {
    let desk = Desk::new();
    for (name, number) in [("a.png", 1), ("b.png", 2), ("sub/c.png", 3)] {
        desk.add_photo(name, number);
    }
    // A copy from the beginning.
    fs::copy(desk.photos().join("a.png"), desk.photos().join("same.png")).unwrap();
    assert_eq!(desk.index(), counts(3, 1, 0, 0, 0, 4));
    assert_eq!(desk.index(), counts(0, 0, 4, 0, 0, 4));

    let before = desk.search(&["anything"]);
    fs::rename(
        desk.photos().join("b.png"),
        desk.photos().join("sub/moved.png"),
    )
    .unwrap();
    fs::rename(desk.photos().join("sub"), desk.photos().join("other")).unwrap();
    fs::File::open(desk.photos().join("a.png"))
        .unwrap()
        .set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(desk.index(), counts(0, 3, 1, 2, 0, 4));
    let scores = |hits: &[Value]| -> Vec<f64> {
        hits.iter()
            .map(|hit| hit["score"].as_f64().unwrap())
            .collect()
    };
    assert_eq!(
        scores(&before),
        scores(&desk.search(&["anything"])),
        "rows stay"
    );

    desk.add_photo("a.png", 9);
    fs::remove_file(desk.photos().join("other/c.png")).unwrap();
    assert_eq!(desk.index(), counts(1, 0, 2, 1, 0, 3));
    let paths: BTreeSet<String> = desk.paths().into_iter().collect();
    let expected = ["a.png", "other/moved.png", "same.png"]
        .map(|name| desk.photos().join(name).display().to_string());
    assert_eq!(paths, BTreeSet::from(expected));
}

#[test]
fn a_search_gives_score_path_and_rank() {
    let desk = Desk::new();
    for number in 0..5 {
        desk.add_photo(format!("{number}.png"), number);
    }
    desk.index();
    let hits = desk.search(&["a photo"]);
    assert_eq!(hits.len(), 5);
    for (place, pair) in hits.windows(2).enumerate() {
        assert!(pair[0]["score"].as_f64() >= pair[1]["score"].as_f64());
        assert_eq!(pair[0]["rank"], place + 1);
    }
    assert_eq!(
        hits[0].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["path", "rank", "score"]
    );

    let photo = desk.photos().join("3.png");
    let like = desk.search(&[photo.to_str().unwrap()]);
    assert_eq!(like[0]["path"], photo.to_str().unwrap());
    assert!((like[0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-3);
    assert_eq!(desk.search(&["a photo", "--offset", "2"])[..], hits[2..]);
    let least = hits[1]["score"].to_string();
    assert_eq!(desk.search(&["a photo", "--min-score", &least]).len(), 2);
    // Away from what was best, it is last.
    let best = hits[0]["path"].as_str().unwrap();
    let away = desk.search(&["a photo", &format!("-5:{best}")]);
    assert_eq!(away[4]["path"], best);

    let lines = desk.run(&["search", "a photo", "--limit", "2"]);
    let first = format!("{:7.4}  {best}", hits[0]["score"].as_f64().unwrap());
    assert_eq!(
        String::from_utf8(lines.stdout)
            .unwrap()
            .lines()
            .next()
            .unwrap(),
        first
    );
    let paths = desk.run(&["search", "a photo", "--limit", "1", "--paths"]);
    assert_eq!(paths.stdout, format!("{best}\n").as_bytes());
    let paths = desk.run(&["search", "a photo", "--limit", "1", "--print0"]);
    assert_eq!(paths.stdout, format!("{best}\0").as_bytes());
}

#[test]
fn folders_and_times_narrow_a_search() {
    let desk = Desk::new();
    for (name, number, year) in [
        ("a/1.png", 1, 20),
        ("a/deep/2.png", 2, 30),
        ("ab/3.png", 3, 40),
    ] {
        let path = desk.add_photo(name, number);
        let time = std::time::UNIX_EPOCH + Duration::from_secs(year * 365 * 86_400);
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    }
    desk.index();
    let found = |arguments: &[&str]| -> BTreeSet<String> {
        let name = |hit: &Value| {
            Path::new(hit["path"].as_str().unwrap())
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        desk.search(&[&["x"], arguments].concat())
            .iter()
            .map(name)
            .collect()
    };
    let set = |names: &[&str]| -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    };
    let folder = desk.photos().join("a");
    let folder = folder.to_str().unwrap();
    assert_eq!(found(&["--in", folder]), set(&["1", "2"]));
    assert_eq!(found(&["--not-in", folder]), set(&["3"]));
    assert_eq!(found(&["--since", "1995"]), set(&["2", "3"]));
    assert_eq!(found(&["--until", "1999"]), set(&["1", "2"]));
    assert_eq!(
        found(&["--since", "1995", "--until", "1999-12-31"]),
        set(&["2"])
    );
    let nothing = desk.run(&["search", "x", "--since", "2015"]);
    assert_eq!(
        (nothing.status.code(), said(&nothing).as_str()),
        (Some(1), "diptych: nothing found\n")
    );
}

#[test]
fn a_folder_of_which_the_index_has_nothing_is_named() {
    let desk = Desk::new();
    desk.add_photo("a.png", 1);
    desk.index();
    let photos = desk.photos();
    let photos = photos.to_str().unwrap();
    let nothing = desk.run(&["search", "cat", "--in", "/nope"]);
    assert_eq!(nothing.status.code(), Some(1));
    let empty = "diptych: /nope: the index has nothing below this folder\n";
    assert_eq!(said(&nothing), format!("{empty}diptych: nothing found\n"));
    let one = desk.run(&["search", "cat", "--in", "/nope", "--in", photos]);
    assert_eq!((one.status.code(), said(&one).as_str()), (Some(0), empty));
    let none = desk.run(&["search", "cat", "--in", photos, "--since", "2200"]);
    assert_eq!(said(&none), "diptych: nothing found\n");
}

/// Standard error but for the last line, which names the device.
fn said(output: &Output) -> String {
    let all = stderr(output);
    all.strip_suffix("diptych: ran on cpu\n")
        .unwrap()
        .to_owned()
}

#[test]
fn a_word_that_is_a_folder_too_is_searched_and_said() {
    let desk = Desk::new();
    desk.add_photo("cat/a.png", 1);
    desk.index();
    let search = |query: &str| {
        let mut command = desk.command(&["search", "--json", query]);
        command.current_dir(desk.photos()).output().unwrap()
    };
    let words = search("cat");
    assert_eq!(String::from_utf8_lossy(&words.stdout).lines().count(), 1);
    assert!(
        stderr(&words).contains("cat: searched as words, though a folder has this name; --in cat"),
        "{}",
        stderr(&words)
    );
    for query in ["cat/", "./cat", desk.photos().to_str().unwrap()] {
        let folder = search(query);
        assert_eq!(folder.status.code(), Some(2), "{query}");
        let said = stderr(&folder);
        assert!(
            said.contains("a folder, expected words or the path of an image"),
            "{said}"
        );
    }
}

/// A JPEG that says when it was taken.
fn write_dated(path: &Path, time: &str) {
    let mut bytes = Vec::new();
    let image = RgbImage::from_pixel(8, 8, Rgb([9, 99, 199]));
    image
        .write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Jpeg)
        .unwrap();
    // A TIFF header; a directory that leads to EXIF's; that, with the time; the time.
    let mut exif =
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\x01\0\0\0\x1a\0\0\0\0".to_vec();
    exif.extend(b"\0\x01\x90\x03\0\x02\0\0\0\x14\0\0\0\x2c\0\0\0\0");
    exif.extend(time.as_bytes());
    exif.push(0);
    let length = (exif.len() as u16 + 2).to_be_bytes();
    let segment = [&[0xff, 0xe1], &length[..], &exif].concat();
    bytes.splice(2..2, segment);
    fs::write(path, bytes).unwrap();
}

#[test]
fn the_date_of_a_photo_is_when_it_was_taken() {
    let desk = Desk::new();
    write_dated(&desk.photos().join("dated.jpg"), "2011:06:15 12:00:00");
    desk.add_photo("new.png", 1);
    desk.index();
    fs::copy(
        desk.photos().join("dated.jpg"),
        desk.photos().join("copy.jpg"),
    )
    .unwrap();
    desk.index();
    let found = |arguments: &[&str]| desk.search(&[&["x"], arguments].concat()).len();
    assert_eq!(found(&["--since", "2011-06", "--until", "2011-06"]), 2);
    assert_eq!(found(&["--until", "2011-05"]), 0);
    assert_eq!(found(&["--since", "1d"]), 1);
}

#[test]
fn queries_that_make_no_sense_are_refused() {
    let desk = Desk::new();
    desk.add_photo("a.png", 1);
    let output = desk.run(&["search", "cat"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("no index there"),
        "{}",
        stderr(&output)
    );
    assert!(
        stderr(&output).contains("hint: make one with diptych index"),
        "{}",
        stderr(&output)
    );
    desk.index();
    for (query, said) in [
        (&["-night"][..], "only what is not wanted"),
        (&[""], "says nothing"),
        (&["missing.jpg"], "missing.jpg: there is no such file"),
        (&["missing.heic"], "missing.heic: there is no such file"),
        (
            &["cat", "-cat"],
            "the parts of the query cancel each other out: leave one out",
        ),
        (&["cat", "--min-score", "7"], "expected a cosine"),
        (&["cat", "--since", "yesterday"], "expected a date"),
        (&[], "required"),
    ] {
        let output = desk.run(&[&["search"], query].concat());
        assert_eq!(output.status.code(), Some(2), "{query:?}");
        assert!(
            stderr(&output).contains(said),
            "{query:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn another_model_is_refused_until_the_index_is_moved_over() {
    let desk = Desk::new();
    for number in 0..4 {
        desk.add_photo(format!("{number}.png"), number);
    }
    let texts = desk.folder.path().join("texts.jsonl");
    fs::write(&texts, "{\"id\": 1, \"text\": \"a cat\"}\n").unwrap();
    desk.index();
    desk.run(&["index", "--texts", texts.to_str().unwrap()]);
    let other = golden("bundles/open-clip");
    let other = other.to_str().unwrap();
    for command in [
        &["search", "cat"][..],
        &["index", desk.photos().to_str().unwrap()],
    ] {
        let output = desk.run(&[&["--model", other], command].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(
            stderr(&output).contains("index is of transformers-clip@"),
            "{}",
            stderr(&output)
        );
        assert!(stderr(&output).contains("--reindex"), "{}", stderr(&output));
    }
    let output = desk.run(&["--model", other, "index", "--reindex", "--json"]);
    let said: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    assert_eq!(said, counts(5, 0, 0, 0, 0, 5));
    assert!(
        desk.run(&["--model", other, "search", "cat"])
            .status
            .success()
    );
    assert_eq!(desk.run(&["search", "cat"]).status.code(), Some(2));
}

/// A desk with five photos, two of them of one content, and a text; and the model that it is to be moved over to.
fn desk_to_move_over() -> (Desk, String) {
    let desk = Desk::new();
    for (name, number) in [("a.png", 1), ("b.png", 2), ("c.png", 3), ("d/e.png", 4)] {
        desk.add_photo(name, number);
    }
    desk.add_photo("d/copy of b.png", 2);
    let texts = desk.folder.path().join("texts.jsonl");
    fs::write(&texts, "{\"id\": 1, \"text\": \"a cat\"}\n").unwrap();
    let (_, output) = desk.index_with(&["--texts", texts.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    (
        desk,
        golden("bundles/open-clip").to_str().unwrap().to_owned(),
    )
}

fn move_over(desk: &Desk, model: &str) -> (Value, Output) {
    let output = desk.run(&["--model", model, "index", "--reindex", "--json"]);
    let said = serde_json::from_slice(&output.stdout);
    (
        said.unwrap_or_else(|_| panic!("{}", stderr(&output))),
        output,
    )
}

#[test]
fn a_move_to_another_model_waits_for_files_that_are_out_of_reach() {
    let (desk, other) = desk_to_move_over();
    let away = desk.folder.path().join("away");
    fs::rename(desk.photos().join("d"), &away).unwrap();
    let (said, output) = move_over(&desk, &other);
    // The copy has its row by the photo that is there, be its own file where it may.
    assert_eq!(said, counts(4, 1, 0, 0, 1, 6));
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("d/e.png: cannot be read"), "{text}");
    assert!(
        text.contains("1 file could not be read, so the index is not moved over yet"),
        "{text}"
    );
    assert!(text.contains("diptych remove PATH"), "{text}");
    assert_eq!(desk.paths().len(), 5, "the old rows answer");

    fs::rename(&away, desk.photos().join("d")).unwrap();
    let (said, output) = move_over(&desk, &other);
    assert_eq!(said, counts(1, 0, 5, 0, 0, 6));
    assert!(output.status.success(), "{}", stderr(&output));
    let (said, _) = desk.index_with(&["--model", &other]);
    assert_eq!(said, counts(0, 0, 5, 0, 0, 6));
}

#[test]
fn what_was_forgotten_or_changed_meanwhile_does_not_come_back_with_a_move() {
    let (desk, other) = desk_to_move_over();
    let away = desk.folder.path().join("e.png");
    fs::rename(desk.photos().join("d/e.png"), &away).unwrap();
    let (_, output) = move_over(&desk, &other);
    assert_eq!(output.status.code(), Some(1), "stopped midway");
    fs::rename(&away, desk.photos().join("d/e.png")).unwrap();

    let forgotten = [
        desk.photos().join("a.png"),
        desk.folder.path().join("texts.jsonl"),
    ];
    for path in &forgotten {
        fs::remove_file(path).unwrap();
        assert!(
            desk.run(&["remove", path.to_str().unwrap()])
                .status
                .success()
        );
    }
    desk.add_photo("c.png", 9);
    assert_eq!(desk.index(), counts(1, 0, 3, 0, 0, 4));
    let (said, output) = move_over(&desk, &other);
    // c.png as it is now, and the one that was away.
    assert_eq!(said, counts(2, 0, 2, 0, 0, 4));
    assert!(output.status.success(), "{}", stderr(&output));
    let (said, _) = desk.index_with(&["--model", &other]);
    assert_eq!(said, counts(0, 0, 4, 0, 0, 4));
}

#[test]
fn bad_images_are_left_behind_by_a_move_and_named() {
    let (desk, other) = desk_to_move_over();
    fs::write(desk.photos().join("b.png"), "no image").unwrap();
    let (said, output) = move_over(&desk, &other);
    // Its copy is whole, and is encoded in its place.
    assert_eq!(said, counts(5, 0, 0, 0, 1, 5));
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("photos/b.png: not an image"), "{text}");
    assert!(!text.contains("not moved over"), "{text}");
    assert!(
        desk.run(&["--model", &other, "search", "cat"])
            .status
            .success()
    );
}

#[test]
fn texts_are_found_by_words_and_by_photos() {
    let desk = Desk::new();
    let photo = desk.add_photo("a.png", 1);
    let texts = desk.folder.path().join("texts.jsonl");
    fs::write(&texts, "{\"id\": 1, \"text\": \"a cat\", \"more\": 0}\n\n{\"id\": \"two\", \"text\": \"a dog\"}\n{\"id\": 1}\nno\n{\"id\": 3, \"text\": \" \"}\n").unwrap();
    let output = desk.run(&["index", "--json", "--texts", texts.to_str().unwrap()]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said, counts(2, 0, 0, 0, 3, 2));
    assert!(
        stderr(&output).contains(
            "line 6: expected {\"id\": \"a\", \"text\": \"a sentence\"}: the text is blank"
        ),
        "{}",
        stderr(&output)
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("line 4: expected {\"id\""),
        "{}",
        stderr(&output)
    );

    // Without an image in the index, texts are what is searched.
    let hits = desk.search(&["a dog"]);
    assert_eq!(
        (hits[0]["id"].as_str(), hits[0]["text"].as_str()),
        (Some("two"), Some("a dog"))
    );
    desk.index();
    assert_eq!(desk.search(&["a dog"])[0].get("id"), None);
    assert_eq!(
        desk.search(&[photo.to_str().unwrap(), "--kind", "texts"])
            .len(),
        2
    );

    fs::write(
        &texts,
        "{\"id\": 1, \"text\": \"a horse\"}\n{\"id\": 3, \"text\": \"a dog\"}\n",
    )
    .unwrap();
    let output = desk.run(&["index", "--json", "--texts", texts.to_str().unwrap()]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        said,
        counts(1, 1, 0, 1, 0, 3),
        "the text moved to another id keeps its row"
    );
}

#[test]
fn bad_images_are_named_and_the_rest_is_indexed() {
    let desk = Desk::new();
    desk.add_photo("good.png", 1);
    fs::write(desk.photos().join("bad.png"), "no image").unwrap();
    let output = desk.run(&["index", "--json", desk.photos().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("bad.png: not an image"),
        "{}",
        stderr(&output)
    );
    assert_eq!(desk.paths().len(), 1);
    assert_eq!(
        desk.index(),
        counts(0, 0, 1, 0, 1, 1),
        "it is looked at again"
    );
    desk.add_photo("bad.png", 2);
    assert_eq!(desk.index(), counts(1, 0, 1, 0, 0, 2));
}

#[test]
fn hidden_and_excluded_files_are_left_out() {
    let desk = Desk::new();
    for (name, number) in [
        (".a.png", 1),
        ("._b.png", 2),
        (".thumbs/c.png", 3),
        ("raw/d.png", 4),
        ("e.PNG", 5),
        ("sub/raw/f.png", 6),
        ("g.tmp.png", 7),
    ] {
        desk.add_photo(name, number);
    }
    let photos = desk.photos();
    let folder = photos.to_str().unwrap();
    let said = |arguments: &[&str]| -> Value {
        let output = desk.run(&[&["index", "--json", folder], arguments].concat());
        serde_json::from_slice(&output.stdout).unwrap()
    };
    assert_eq!(
        said(&["--exclude", "raw/*", "--exclude", "*.tmp.*"])["items"],
        2
    );
    assert_eq!(
        said(&["--exclude", "raw"])["items"],
        2,
        "what is now left out goes"
    );
    assert_eq!(said(&[])["items"], 4);
    // From the current folder, and as a whole path, be it by a link.
    let link = desk.folder.path().join("[link]");
    #[cfg(unix)]
    std::os::unix::fs::symlink(&photos, &link).unwrap();
    #[cfg(not(unix))]
    let link = photos.clone();
    let whole = format!("{folder}/sub/*");
    let by_link = link.join("raw").to_str().unwrap().to_owned();
    for (pattern, items) in [
        ("./raw", 3),
        ("./sub/../raw/", 3),
        ("./*.PNG", 3),
        ("../sub", 4),
        (&whole, 3),
        (&by_link, 3),
        ("./aw", 4),
    ] {
        let mut command = desk.command(&["index", "--json", folder, "--exclude", pattern]);
        let output = command.current_dir(&photos).output().unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["items"], items, "{pattern}");
    }
    let output = desk.run(&["index", folder, "--exclude", "[a"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("pattern \"[a\""),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_folder_that_is_gone_or_empty_loses_nothing() {
    let desk = Desk::new();
    desk.add_photo("disk/a.png", 1);
    desk.add_photo("b.png", 2);
    desk.index();
    let disk = desk.photos().join("disk");
    let away = desk.folder.path().join("away");
    fs::rename(&disk, &away).unwrap();
    for is_there in [false, true] {
        if is_there {
            fs::create_dir(&disk).unwrap();
        }
        let output = desk.run(&["index", disk.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        let said = if is_there {
            "nothing found, though the index has images"
        } else {
            "cannot be read"
        };
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
        assert_eq!(desk.paths().len(), 2);
    }
    fs::remove_dir(&disk).unwrap();
    fs::rename(&away, &disk).unwrap();
    assert_eq!(desk.index(), counts(0, 0, 2, 0, 0, 2));
}

#[test]
fn a_folder_below_that_is_there_and_empty_loses_nothing() {
    let desk = Desk::new();
    desk.add_photo("disk/2020/a.png", 1);
    desk.add_photo("disk/b.png", 2);
    desk.add_photo("other/c.png", 3);
    desk.add_photo("other/d.png", 4);
    desk.index();
    let (disk, away) = (desk.photos().join("disk"), desk.folder.path().join("away"));
    fs::rename(&disk, &away).unwrap();
    fs::create_dir(&disk).unwrap();
    fs::remove_file(desk.photos().join("other/c.png")).unwrap();
    let (said, output) = desk.index_with(&[]);
    assert_eq!(
        said,
        counts(0, 0, 1, 1, 1, 3),
        "what else is gone is forgotten"
    );
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    let expected = "photos/disk: nothing found, though the index has images of it; kept";
    assert!(text.contains(expected), "{text}");
    assert!(!text.contains("2020"), "one folder, said once: {text}");
    let output = desk.run(&["remove", disk.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(desk.index(), counts(0, 0, 1, 0, 0, 1));

    fs::remove_dir(&disk).unwrap();
    fs::rename(&away, &disk).unwrap();
    assert_eq!(desk.index(), counts(2, 0, 1, 0, 0, 3));
    // A folder that is gone was removed by somebody.
    fs::remove_dir_all(&disk).unwrap();
    assert_eq!(desk.index(), counts(0, 0, 1, 2, 0, 1));
    // And one whose photos have come up elsewhere has none any more.
    fs::create_dir(desk.photos().join("sorted")).unwrap();
    let names = ["other/d.png", "sorted/d.png"].map(|name| desk.photos().join(name));
    fs::rename(&names[0], &names[1]).unwrap();
    assert_eq!(desk.index(), counts(0, 1, 0, 1, 0, 1));
}

#[cfg(target_os = "linux")]
fn mount(arguments: &[&str], folder: &Path) {
    let status = Command::new("mount").args(arguments).arg(folder).status();
    assert!(status.unwrap().success());
}

#[cfg(target_os = "linux")]
fn unmount(folder: &Path) {
    let status = Command::new("umount").arg(folder).status();
    assert!(status.unwrap().success());
}

/// The same with a disk that is mounted below the folder that is indexed.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs the right to mount"]
fn an_unmounted_disk_loses_nothing() {
    let desk = Desk::new();
    let disk = desk.photos().join("disk");
    fs::create_dir(&disk).unwrap();
    mount(&["-t", "tmpfs", "tmpfs"], &disk);
    desk.add_photo("disk/2020/a.png", 1);
    desk.add_photo("b.png", 2);
    let before = desk.index();
    unmount(&disk);
    let (said, output) = desk.index_with(&[]);
    assert_eq!(before, counts(2, 0, 0, 0, 0, 2));
    assert_eq!(said, counts(0, 0, 1, 0, 1, 2));
    assert!(stderr(&output).contains("photos/disk: nothing found"));
    assert_eq!(desk.paths().len(), 2);
}

/// What `walk` finds, with what the pipeline then makes of the files that are new.
fn encoded(found: &Found) -> Vec<diptych::Result<()>> {
    let todo = compare(&[], found, &Default::default(), |_| Ok(false)).unwrap();
    let paths: Vec<PathBuf> = todo.encode.iter().map(|file| file.place.path()).collect();
    let encoder = DualEncoder::open(golden("bundles/transformers-clip")).unwrap();
    let options = PipelineOptions {
        identify: true,
        ..PipelineOptions::default()
    };
    let mut outcomes = Vec::new();
    let take = |encoded: diptych::pipeline::Encoded<'_>| {
        outcomes.push(encoded.row.map(|_| ()));
        true
    };
    encode_files(&encoder, &paths, &options, take).unwrap();
    outcomes
}

#[cfg(unix)]
#[test]
fn a_file_that_is_gone_or_a_pipe_once_it_is_read_is_an_error() {
    let desk = Desk::new();
    let names = ["a.png", "b.png", "c.png"].map(|name| desk.add_photo(name, 1));
    let found = walk(&[desk.photos()], &WalkOptions::default()).unwrap();
    fs::remove_file(&names[0]).unwrap();
    fs::remove_file(&names[1]).unwrap();
    let made = Command::new("mkfifo").arg(&names[1]).status().unwrap();
    assert!(made.success());
    // All are of one size, so that each is read to be compared too.
    let outcomes = encoded(&found);
    assert!(
        matches!(
            &outcomes[..],
            [Err(Error::Read { .. }), Err(Error::Read { .. }), Ok(())]
        ),
        "{outcomes:?}"
    );
    assert!(matches!(hash_file(&names[1]), Err(Error::Read { .. })));
}

#[test]
fn a_file_that_changes_while_it_is_read_is_left_for_later() {
    let desk = Desk::new();
    let path = desk.add_photo("a.png", 1);
    // Long enough to be changed while it is read.
    let file = fs::File::options().append(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(256 << 20).unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for seconds in (1..).take_while(|_| !is_over.load(Ordering::Relaxed)) {
                let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
                file.set_modified(time).unwrap();
            }
        });
        let (said, output) = desk.index_with(&[]);
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(said, counts(0, 0, 0, 0, 1, 0));
        assert_eq!(output.status.code(), Some(1));
        let text = stderr(&output);
        assert!(text.contains("a.png: changed while it was read"), "{text}");
        assert!(text.contains("hint: index it again"), "{text}");
    });
    file.set_len(length).unwrap();
    assert_eq!(desk.index(), counts(1, 0, 0, 0, 0, 1));
    let stat = Stat::of(&path.metadata().unwrap());
    let index = Index::open(&desk.folder.path().join("index")).unwrap();
    assert_eq!(index.items(&Default::default()).unwrap()[0].stat(), stat);
}

#[cfg(unix)]
#[test]
fn odd_files_are_handled() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    let desk = Desk::new();
    let photos = desk.photos();
    let odd = OsStr::from_bytes(b"not utf-8 \xff\xfe.png");
    desk.add_photo(odd, 1);
    desk.add_photo("two\nlines.png", 2);
    desk.add_photo("real/linked.png", 3);
    assert!(
        Command::new("mkfifo")
            .arg(photos.join("pipe.png"))
            .status()
            .unwrap()
            .success()
    );
    let _socket = UnixListener::bind(photos.join("socket.png")).unwrap();
    symlink(&photos, photos.join("real/loop")).unwrap();
    symlink(photos.join("nowhere.png"), photos.join("dangling.png")).unwrap();
    symlink(photos.join("real/linked.png"), photos.join("link.png")).unwrap();

    assert_eq!(
        desk.index(),
        counts(3, 1, 0, 0, 0, 4),
        "pipes, sockets and dangling links are no photos"
    );
    assert_eq!(desk.index(), counts(0, 0, 4, 0, 0, 4));
    let output = desk.run(&["search", "x", "--print0", "--limit", "0"]);
    let paths: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).collect();
    assert!(paths.contains(&photos.join(odd).as_os_str().as_bytes()));
    // Such a path is a query too, and JSON tells it byte for byte.
    let mut like = desk.command(&["search", "--json", "--limit", "1"]);
    let like = like.arg(photos.join(odd)).output().unwrap();
    let hit: Value =
        serde_json::from_slice(&like.stdout).unwrap_or_else(|_| panic!("{}", stderr(&like)));
    let bytes = STANDARD
        .decode(hit["path_base64"].as_str().unwrap())
        .unwrap();
    assert_eq!(bytes, photos.join(odd).as_os_str().as_bytes());
    assert!(
        hit["path"]
            .as_str()
            .unwrap()
            .ends_with("not utf-8 \u{fffd}\u{fffd}.png")
    );
    let hits = desk.search(&["x"]);
    let odd_ones = hits.iter().filter(|hit| hit.get("path_base64").is_some());
    assert_eq!(odd_ones.count(), 1);
    let shown = desk.run(&["search", "x"]);
    assert_eq!(
        String::from_utf8(shown.stdout).unwrap().lines().count(),
        4,
        "one line a hit"
    );

    let output = desk.run(&["index", "--json", "--follow", photos.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("real/loop"), "{}", stderr(&output));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["items"], 4);
}

#[test]
fn a_second_writer_is_told_and_readers_go_on() {
    let desk = Desk::new();
    desk.add_photo("a.png", 1);
    desk.index();
    let photos = desk.photos();
    let mut watch = desk.command(&["index", "--watch", photos.to_str().unwrap()]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    // It has the lock when it has said how much there is.
    let mut line = String::new();
    let mut said = BufReader::new(watch.stdout.take().unwrap());
    assert!(said.read_line(&mut line).unwrap() > 0);
    let output = desk.run(&["index", photos.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(
        said.contains(&format!("is being written by process {}", watch.id())),
        "{said}"
    );
    assert_eq!(desk.paths().len(), 1);

    // What comes in meanwhile is found.
    desk.add_photo("b.png", 2);
    while desk.paths().len() < 2 {
        assert!(started.elapsed() < Duration::from_secs(60), "never indexed");
        thread::sleep(Duration::from_millis(100));
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert_eq!(
        desk.index(),
        counts(0, 0, 2, 0, 0, 2),
        "the lock goes with its holder"
    );
}

/// An index that is kept in the folder that is watched wakes nobody.
#[test]
fn a_run_that_finds_nothing_new_writes_nothing() {
    let desk = Desk::new();
    desk.add_photo("a.png", 1);
    let index = desk.photos().join("index");
    let in_photos = ["--index", index.to_str().unwrap()];
    desk.index_with(&in_photos);
    let catalog = || fs::read(index.join("catalog.sqlite")).unwrap();
    let before = catalog();
    assert_eq!(desk.index_with(&in_photos).0, counts(0, 0, 1, 0, 0, 1));
    assert_eq!(catalog(), before);

    let mut watch = desk.watch(&in_photos);
    assert_eq!(watch.next(), counts(0, 0, 1, 0, 0, 1));
    desk.add_photo("b.png", 2);
    assert_eq!(watch.next(), counts(1, 0, 1, 0, 0, 2));
    let log = || fs::read(index.join("catalog.sqlite-wal")).unwrap();
    let before = log();
    thread::sleep(Duration::from_secs(4));
    assert!(log() == before, "it goes on writing");
}

#[test]
fn what_comes_in_during_the_first_run_of_a_watch_is_found() {
    const PHOTOS: usize = 1500;
    let desk = Desk::new();
    for number in 0..PHOTOS as u32 {
        desk.add_photo(format!("{number}.png"), number);
    }
    let mut watch = desk.watch(&[]);
    wait_until("rows", || desk.items() > 0);
    desk.add_photo("late.png", PHOTOS as u32);
    assert_eq!(watch.next()["encoded"], PHOTOS, "it came after the walk");
    assert_eq!(watch.next(), counts(1, 0, PHOTOS, 0, 0, PHOTOS + 1));
}

#[test]
fn a_watch_takes_bursts_and_outlives_its_folder() {
    let desk = Desk::new();
    desk.add_photo("a.png", 0);
    let later = desk.folder.path().join("later");
    let mut watch = desk.watch(&[later.to_str().unwrap()]);
    assert_eq!(
        watch.next(),
        counts(1, 0, 0, 0, 1, 1),
        "one is not there yet"
    );
    for number in 1..300 {
        desk.add_photo(format!("{}/{number}.png", number % 3), number);
    }
    wait_until("the burst", || desk.items() == 300);

    // As a disk that is unmounted: an empty folder is left.
    let (photos, away) = (desk.photos(), desk.folder.path().join("away"));
    fs::rename(&photos, &away).unwrap();
    fs::create_dir(&photos).unwrap();
    wait_until("that it is said", || {
        watch.errors().contains("nothing found, though")
    });
    assert_eq!(desk.items(), 300);
    write_photo(&away.join("new.png"), 300);
    fs::remove_dir(&photos).unwrap();
    fs::rename(&away, &photos).unwrap();
    wait_until("what came meanwhile", || desk.items() == 301);
    desk.add_photo("last.png", 301);
    wait_until("it is watched anew", || desk.items() == 302);
    write_photo(&later.join("first.png"), 302);
    wait_until("a folder that comes later", || desk.items() == 303);
}

#[test]
fn a_watch_goes_on_when_a_run_fails_and_watches_texts() {
    let desk = Desk::new();
    desk.add_photo("a.png", 1);
    let texts = desk.folder.path().join("texts.jsonl");
    fs::write(&texts, "{\"id\": 1, \"text\": \"a cat\"}\n").unwrap();
    let mut watch = desk.watch(&["--texts", texts.to_str().unwrap()]);
    assert_eq!(watch.next(), counts(2, 0, 0, 0, 0, 2));
    fs::write(&texts, "{\"id\": 1, \"text\": \"a cow\"}\n").unwrap();
    assert_eq!(watch.next(), counts(1, 0, 0, 0, 0, 2));
    fs::remove_file(&texts).unwrap();
    wait_until("that it is said", || {
        watch.errors().contains("texts.jsonl: cannot be read")
    });
    desk.add_photo("b.png", 2);
    wait_until("photos come in", || desk.items() == 3);
    fs::write(&texts, "{\"id\": 2, \"text\": \"a dog\"}\n").unwrap();
    wait_until("texts come in", || {
        desk.search(&["dog", "--kind", "texts"])[0]["text"] == "a dog"
    });
    assert!(watch.child.try_wait().unwrap().is_none());
}

/// In a short form by default; `DIPTYCH_KILLS` says how many.
#[test]
fn kills_lose_nothing_that_was_committed() {
    const PHOTOS: usize = 4000;
    let kills: usize = std::env::var("DIPTYCH_KILLS").map_or(6, |count| count.parse().unwrap());
    let desk = Desk::new();
    for number in 0..PHOTOS as u32 {
        desk.add_photo(format!("{}/{number}.png", number % 7), number);
    }
    let photos = desk.photos();
    let mut before = BTreeSet::new();
    let mut midway = 0;
    for kill in 0..kills {
        if before.len() == PHOTOS {
            fs::remove_dir_all(desk.folder.path().join("index")).unwrap();
            before.clear();
        }
        let mut index = desk.command(&["index", "-q", photos.to_str().unwrap()]);
        let mut index = index.stdout(Stdio::null()).spawn().unwrap();
        // When so many rows are named, and a little later, at moments that look random.
        let named = before.len() + 1 + kill * 7919 % 900;
        while desk.items() < named && index.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_micros(500));
        }
        thread::sleep(Duration::from_micros(kill as u64 * 7919 % 40_000));
        index.kill().unwrap();
        let was_killed = index.wait().unwrap().code().is_none();
        let paths = desk.paths();
        let now: BTreeSet<String> = paths.iter().cloned().collect();
        assert_eq!(paths.len(), now.len(), "nothing twice");
        assert!(now.is_superset(&before), "nothing lost");
        midway += usize::from(was_killed && (1..PHOTOS).contains(&now.len()));
        before = now;
    }
    assert!(
        midway > 0,
        "no kill hit a run that had named some of its rows"
    );
    let said = desk.index();
    assert_eq!(
        (&said["items"], &said["failed"]),
        (&json!(PHOTOS), &json!(0))
    );
    assert_eq!(said["unchanged"], before.len());

    let whole = Desk {
        folder: tempfile::tempdir().unwrap(),
    };
    let output = whole.run(&["index", "-q", photos.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let scores = |desk: &Desk| -> Vec<(String, i64)> {
        let score = |hit: &Value| {
            (
                hit["path"].as_str().unwrap().to_owned(),
                (hit["score"].as_f64().unwrap() * 1e4).round() as i64,
            )
        };
        let mut scores: Vec<_> = desk.search(&["a photo"]).iter().map(score).collect();
        scores.sort();
        scores
    };
    let apart = scores(&desk)
        .iter()
        .zip(&scores(&whole))
        .filter(|(a, b)| a.0 != b.0 || (a.1 - b.1).abs() > 1)
        .count();
    assert_eq!(apart, 0, "each has its own row");
}

/// Files that may not grow take some of the rows; those are found, and with more room the rest comes in.
#[cfg(unix)]
#[test]
fn a_write_that_fails_leaves_an_index_that_opens() {
    let desk = Desk::new();
    for number in 0..900 {
        desk.add_photo(format!("{number}.png"), number);
    }
    let photos = desk.photos();
    for blocks in [8, 50, 100, 200] {
        let program = env!("CARGO_BIN_EXE_diptych");
        // The limit is told by an error, where the signal is not heard.
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec {program} index \"$0\"");
        let limited = desk.command(&[]);
        let limited = limited
            .get_envs()
            .fold(Command::new("sh"), |mut command, (name, value)| {
                command.env(name, value.unwrap());
                command
            });
        let output = { limited }
            .arg("-c")
            .arg(&script)
            .arg(&photos)
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(2),
            "{blocks}: {}",
            stderr(&output)
        );
        let said = stderr(&output);
        assert!(said.contains("cannot be"), "{blocks}: {said}");
        if desk.folder.path().join("index/catalog.sqlite").exists() {
            let found = desk.run(&["search", "x", "--limit", "0", "--paths"]);
            assert!(
                found.status.code() != Some(2),
                "{blocks}: {}",
                stderr(&found)
            );
        }
    }
    assert_eq!(desk.index()["items"], 900);
}

/// The same on a file system that is full.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs the right to mount"]
fn a_full_disk_leaves_an_index_that_opens() {
    let desk = Desk::new();
    for number in 0..900 {
        desk.add_photo(format!("{number}.png"), number);
    }
    let small = desk.folder.path().join("index");
    fs::create_dir(&small).unwrap();
    mount(&["-t", "tmpfs", "-o", "size=256k", "tmpfs"], &small);
    let photos = desk.photos();
    let output = desk.run(&["index", photos.to_str().unwrap()]);
    let found = desk.run(&["search", "x", "--limit", "0", "--paths"]);
    mount(&["-t", "tmpfs", "-o", "remount,size=64m", "tmpfs"], &small);
    let after = desk.index();
    unmount(&small);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("cannot be written") && said.contains("space"),
        "{said}"
    );
    assert!(found.status.code() != Some(2), "{}", stderr(&found));
    assert_eq!(after["items"], 900);
}

/// A watch waits for room, and then takes in what found none.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs the right to mount"]
fn a_watch_outlives_a_full_disk() {
    let desk = Desk::new();
    desk.add_photo("a.png", 0);
    let small = desk.folder.path().join("index");
    fs::create_dir(&small).unwrap();
    mount(&["-t", "tmpfs", "-o", "size=256k", "tmpfs"], &small);
    let mut watch = desk.watch(&[]);
    assert_eq!(watch.next(), counts(1, 0, 0, 0, 0, 1));
    for number in 1..900 {
        desk.add_photo(format!("{number}.png"), number);
    }
    wait_until("that it is said", || watch.errors().contains("cannot be"));
    mount(&["-t", "tmpfs", "-o", "remount,size=64m", "tmpfs"], &small);
    desk.add_photo("last.png", 900);
    wait_until("the rest comes in", || desk.items() == 901);
    assert!(watch.child.try_wait().unwrap().is_none());
    drop(watch);
    unmount(&small);
}

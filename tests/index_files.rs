//! `diptych index` and `diptych search` on folders as they are: copies, odd files, kills, full disks.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Cursor};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{golden, stderr, write_photo};
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
        (nothing.status.code(), stderr(&nothing).trim()),
        (Some(1), "diptych: nothing found")
    );
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

#[test]
fn texts_are_found_by_words_and_by_photos() {
    let desk = Desk::new();
    let photo = desk.add_photo("a.png", 1);
    let texts = desk.folder.path().join("texts.jsonl");
    fs::write(&texts, "{\"id\": 1, \"text\": \"a cat\", \"more\": 0}\n\n{\"id\": \"two\", \"text\": \"a dog\"}\n{\"id\": 1}\nno\n").unwrap();
    let output = desk.run(&["index", "--json", "--texts", texts.to_str().unwrap()]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said, counts(2, 0, 0, 0, 2, 2));
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

/// In a short form by default; `DIPTYCH_KILLS` says how many.
#[test]
fn kills_lose_nothing_that_was_committed() {
    const PHOTOS: usize = 1500;
    let kills: u32 = std::env::var("DIPTYCH_KILLS").map_or(6, |count| count.parse().unwrap());
    let desk = Desk::new();
    for number in 0..PHOTOS as u32 {
        desk.add_photo(format!("{}/{number}.png", number % 7), number);
    }
    let photos = desk.photos();
    let mut before = BTreeSet::new();
    for kill in 0..kills {
        let mut index = desk.command(&["index", "-q", photos.to_str().unwrap()]);
        let mut index = index.stdout(Stdio::null()).spawn().unwrap();
        // At moments that look random, the later ones later.
        let wait = 40 + u64::from((kill * 7919) % 400);
        thread::sleep(Duration::from_millis(wait));
        index.kill().unwrap();
        index.wait().unwrap();
        if !desk.folder.path().join("index/catalog.sqlite").exists() {
            continue;
        }
        let paths = desk.paths();
        let now: BTreeSet<String> = paths.iter().cloned().collect();
        assert_eq!(paths.len(), now.len(), "nothing twice");
        assert!(now.is_superset(&before), "nothing lost");
        before = now;
    }
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
    let mount = |options: &str| {
        let arguments = [
            "-t",
            "tmpfs",
            "-o",
            options,
            "tmpfs",
            small.to_str().unwrap(),
        ];
        assert!(
            Command::new("mount")
                .args(arguments)
                .status()
                .unwrap()
                .success()
        );
    };
    mount("size=256k");
    let photos = desk.photos();
    let output = desk.run(&["index", photos.to_str().unwrap()]);
    let found = desk.run(&["search", "x", "--limit", "0", "--paths"]);
    mount("remount,size=64m");
    let after = desk.index();
    assert!(
        Command::new("umount")
            .arg(&small)
            .status()
            .unwrap()
            .success()
    );
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("cannot be written") && said.contains("space"),
        "{said}"
    );
    assert!(found.status.code() != Some(2), "{}", stderr(&found));
    assert_eq!(after["items"], 900);
}

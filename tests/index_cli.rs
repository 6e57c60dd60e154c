//! The commands that keep an index, as a user meets them: output, exit codes, messages.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{golden, root, stderr};
use diptych::{Embeddings, Index, Item, ItemFilter, Place};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Copies of photos, and an index of them.
struct Collection {
    folder: TempDir,
}

const PHOTOS: [&str; 4] = ["bee.jpg", "cat.jpg", "dog.jpg", "rocket.jpg"];

impl Collection {
    /// Four photos; of the cat also a smaller copy, in a folder, and a copy of the same bytes.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let collection = Self { folder };
        fs::create_dir_all(collection.photo("sub")).unwrap();
        for name in PHOTOS {
            fs::copy(root("assets/photos").join(name), collection.photo(name)).unwrap();
        }
        let cat = image::open(collection.photo("cat.jpg")).unwrap();
        let small = cat.thumbnail(600, 600);
        small.save(collection.photo("sub/small.jpg")).unwrap();
        fs::copy(
            collection.photo("cat.jpg"),
            collection.photo("sub/same.jpg"),
        )
        .unwrap();
        let indexed = collection.run(&["index", collection.photos().to_str().unwrap()]);
        assert_eq!(indexed.status.code(), Some(0), "{}", stderr(&indexed));
        collection
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn photos(&self) -> PathBuf {
        self.path("photos")
    }

    fn photo(&self, name: &str) -> PathBuf {
        self.path("photos").join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn index(&self) -> PathBuf {
        self.path("index")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_diptych"))
            .env_remove("DIPTYCH_MODEL")
            .env("DIPTYCH_INDEX", self.index())
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Adds two texts of one file, as indexing it would.
    fn add_texts(&self) {
        let mut index = Index::open_to_write(&self.index()).unwrap();
        let file = self.path("captions.jsonl");
        fs::write(&file, "{}\n").unwrap();
        let text = |id: &str, hash| Item {
            place: Place::of_text(&file, id),
            size: 5,
            modified: diptych::index::Stat::of(&file.metadata().unwrap()).modified,
            hash: [hash; 16],
            text: Some(format!("a {id}")),
            taken: None,
        };
        let mut values = ndarray::Array2::zeros((2, index.width()));
        values[[0, 0]] = 1.0;
        values[[1, 1]] = 1.0;
        let rows = Embeddings::new(values).unwrap();
        index.add(&[text("cat", 1), text("1#2", 2)], &rows).unwrap();
    }

    fn items(&self) -> usize {
        let index = Index::open(&self.index()).unwrap();
        index.items(&ItemFilter::default()).unwrap().len()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    stdout(output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn names(items: &Value) -> Vec<String> {
    let items = items.as_array().unwrap().iter();
    let name = |item: &Value| {
        Path::new(item["path"].as_str().unwrap())
            .file_name()
            .unwrap()
            .to_owned()
    };
    items
        .map(|item| name(item).into_string().unwrap())
        .collect()
}

#[test]
fn stats_say_how_much_there_is() {
    let collection = Collection::new();
    collection.add_texts();
    let output = collection.run(&["stats", "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let stats = &lines(&output)[0];
    let keys: Vec<_> = stats.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "bytes",
            "images",
            "index",
            "model",
            "rows",
            "texts",
            "unused_rows",
            "width"
        ]
    );
    // The same bytes twice have one row.
    assert_eq!(
        (&stats["images"], &stats["texts"], &stats["rows"]),
        (&json!(6), &json!(2), &json!(7))
    );
    assert!(stats["model"].as_str().unwrap().starts_with("tiny@"));
    assert!(stats["bytes"].as_u64().unwrap() > 0);

    let text = stdout(&collection.run(&["stats"]));
    assert!(
        text.contains("images       6\ntexts        2\nrows         7\n"),
        "{text}"
    );
}

#[test]
fn without_an_index_every_command_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none");
    for arguments in [
        &["stats"][..],
        &["check"],
        &["remove", "photos"],
        &["similar"],
        &["cluster"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_diptych"))
            .args(arguments)
            .arg("--index")
            .arg(&missing)
            .output()
            .unwrap();
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert_eq!(stdout(&output), "");
        let said = stderr(&output);
        assert!(said.contains("none: no index there\n"), "{said}");
        assert!(
            said.contains("hint: make one with diptych index PATH"),
            "{said}"
        );
        assert!(!missing.exists());
    }
}

#[test]
fn remove_forgets_files_folders_and_texts() {
    let collection = Collection::new();
    collection.add_texts();
    // What is gone from the disk can be forgotten all the same.
    fs::remove_dir_all(collection.photo("sub")).unwrap();
    let output = collection.run(&[
        "remove",
        &collection.text("photos/sub"),
        &collection.text("photos/cat.jpg"),
    ]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(stdout(&output), "3 items forgotten, 5 left in the index\n");
    assert!(collection.photo("cat.jpg").exists(), "files stay");

    let text = format!("{}#1#2", collection.text("captions.jsonl"));
    let output = collection.run(&["remove", "--json", &text]);
    assert_eq!(
        lines(&output),
        [json!({"removed": 1, "items": 4, "failed": 0})]
    );
    let output = collection.run(&["remove", "--json", &collection.text("captions.jsonl")]);
    assert_eq!(
        lines(&output),
        [json!({"removed": 1, "items": 3, "failed": 0})]
    );
    assert_eq!(collection.items(), 3);
    assert!(collection.path("captions.jsonl").exists());
}

#[test]
fn remove_names_what_is_not_there_and_does_the_rest() {
    let collection = Collection::new();
    let bee = collection.text("photos/bee.jpg");
    // A name that begins like a folder's is no folder of it.
    let (unknown, half) = (
        collection.text("photos/none.jpg"),
        collection.text("photos/su"),
    );
    let output = collection.run(&["remove", &unknown, &half, &bee, &bee]);
    assert_eq!(code(&output), 1);
    assert_eq!(stdout(&output), "1 item forgotten, 5 left in the index\n");
    let said = stderr(&output);
    assert!(
        said.contains("photos/none.jpg: not in the index\n"),
        "{said}"
    );
    assert!(said.contains("2 of 4 paths failed\n"), "{said}");
}

#[cfg(unix)]
#[test]
fn remove_knows_a_file_by_a_link_to_its_folder() {
    let collection = Collection::new();
    std::os::unix::fs::symlink(collection.photos(), collection.path("link")).unwrap();
    let output = collection.run(&[
        "remove",
        &collection.text("link/bee.jpg"),
        &collection.text("link/sub"),
    ]);
    assert_eq!(stdout(&output), "3 items forgotten, 3 left in the index\n");
}

#[test]
fn check_finds_missing_and_changed_files() {
    let collection = Collection::new();
    collection.add_texts();
    let output = collection.run(&["check"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(
        stdout(&output),
        "7 rows of 8 items, 0 damaged; files: 0 missing, 0 changed, 0 unreadable\n"
    );

    fs::remove_file(collection.photo("bee.jpg")).unwrap();
    fs::remove_file(collection.path("captions.jsonl")).unwrap();
    fs::copy(root("assets/photos/panda.jpg"), collection.photo("dog.jpg")).unwrap();
    // Touched, not changed.
    fs::copy(
        root("assets/photos/rocket.jpg"),
        collection.photo("rocket.jpg"),
    )
    .unwrap();
    let output = collection.run(&["check", "--json"]);
    assert_eq!(code(&output), 1);
    let expected = json!({
        "rows": 7,
        "items": 8,
        "damaged": [],
        "missing": [collection.text("captions.jsonl"), collection.text("photos/bee.jpg")],
        "changed": [collection.text("photos/dog.jpg")],
        "unreadable": [],
    });
    assert_eq!(lines(&output), [expected]);
    let text = stdout(&collection.run(&["check"]));
    assert!(
        text.contains(&format!(
            "changed     {}\n",
            collection.text("photos/dog.jpg")
        )),
        "{text}"
    );
    assert!(
        text.ends_with("files: 2 missing, 1 changed, 0 unreadable\n"),
        "{text}"
    );
}

#[test]
fn check_names_damaged_items_and_the_way_back() {
    let collection = Collection::new();
    let texts = collection.text("captions.jsonl");
    fs::write(&texts, "{\"id\": \"a#1\", \"text\": \"a bee\"}\n").unwrap();
    assert_eq!(code(&collection.run(&["index", "--texts", &texts])), 0);
    fs::remove_file(collection.photo("dog.jpg")).unwrap();
    // The rows of the cat and of the text.
    let width = Index::open(&collection.index()).unwrap().width();
    let path = collection.index().join("rows-1.i16");
    let mut bytes = fs::read(&path).unwrap();
    bytes[64 + 2 * width + 8] ^= 1;
    let last = bytes.len() - 5;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let output = collection.run(&["check"]);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    let hint = "hint: diptych remove what is damaged";
    assert!(stderr(&output).contains(hint), "{}", stderr(&output));
    let damaged = [
        collection.text("photos/cat.jpg"),
        collection.text("photos/sub/same.jpg"),
        format!("{texts}#a#1"),
    ];
    let mut expected: Vec<String> = damaged
        .iter()
        .map(|path| format!("damaged     {path}"))
        .collect();
    expected.push(format!("missing     {}", collection.text("photos/dog.jpg")));
    expected.push("6 rows of 7 items, 3 damaged; files: 1 missing, 0 changed, 0 unreadable".into());
    assert_eq!(stdout(&output).lines().collect::<Vec<_>>(), expected);
    let found = lines(&collection.run(&["check", "--json"]));
    assert_eq!(found[0]["damaged"], json!(damaged));
    // What it says is done.
    let [cat, copy, text] = &damaged;
    let removed = collection.run(&["remove", cat, copy, text]);
    assert_eq!(code(&removed), 0, "{}", stderr(&removed));
    let indexed = collection.run(&["index", cat, copy, "--texts", &texts]);
    assert_eq!(code(&indexed), 0, "{}", stderr(&indexed));
    let output = collection.run(&["check"]);
    assert_eq!(
        stdout(&output).lines().collect::<Vec<_>>()[1..],
        ["6 rows of 7 items, 0 damaged; files: 1 missing, 0 changed, 0 unreadable"]
    );
    assert!(!stderr(&output).contains("hint"), "{}", stderr(&output));
}

#[test]
fn another_model_is_refused() {
    let collection = Collection::new();
    let other = golden("bundles/transformers-clip");
    for command in ["check", "cluster"] {
        let output = collection.run(&[command, "--model", other.to_str().unwrap()]);
        assert_eq!((code(&output), stdout(&output).as_str()), (2, ""));
        let said = stderr(&output);
        assert!(said.contains("index is of tiny@"), "{said}");
        assert!(said.contains("hint: give the index's own model"), "{said}");
    }
}

#[test]
fn near_duplicates_come_with_the_best_first() {
    let collection = Collection::new();
    let output = collection.run(&["similar", "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let groups = lines(&output);
    assert_eq!(groups.len(), 1, "{groups:?}");
    assert_eq!(groups[0]["group"], 1);
    let items = groups[0]["items"].as_array().unwrap();
    assert_eq!(names(&groups[0]["items"])[2], "small.jpg");
    let keys: Vec<_> = items[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["keep", "path", "score"]);
    let keep: Vec<_> = items
        .iter()
        .map(|item| item["keep"].as_bool().unwrap())
        .collect();
    assert_eq!(keep, [true, false, false]);
    assert_eq!(items[1]["score"], 1.0);
    let score = items[2]["score"].as_f64().unwrap();
    assert!((0.95..1.0).contains(&score), "{score}");

    let text = stdout(&collection.run(&["similar"]));
    assert!(text.starts_with("group 1\n  keep   1.0000  "), "{text}");
    assert_eq!(text.lines().count(), 4);
}

#[test]
fn a_larger_image_is_better_than_a_larger_file() {
    let collection = Collection::new();
    // Fewer pixels, more bytes.
    let cat = image::open(collection.photo("sub/small.jpg")).unwrap();
    fs::remove_file(collection.photo("sub/small.jpg")).unwrap();
    cat.save(collection.photo("sub/small.bmp")).unwrap();
    let size = |name| collection.photo(name).metadata().unwrap().len();
    assert!(size("sub/small.bmp") > size("cat.jpg"));
    collection.run(&["index", collection.photos().to_str().unwrap()]);
    let groups = lines(&collection.run(&["similar", "--json"]));
    assert_eq!(names(&groups[0]["items"])[2], "small.bmp");
}

#[test]
fn nothing_similar_is_said() {
    let collection = Collection::new();
    let output = collection.run(&["similar", "--not-in", &collection.text("photos/sub")]);
    assert_eq!((code(&output), stdout(&output).as_str()), (1, ""));
    assert_eq!(stderr(&output), "diptych: nothing found\n");
    let output = collection.run(&["similar", "--threshold", "1.5"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("expected a cosine from -1 to 1"));
}

#[test]
fn a_file_that_changed_since_it_was_indexed_is_in_no_group() {
    let collection = Collection::new();
    fs::copy(root("assets/photos/panda.jpg"), collection.photo("cat.jpg")).unwrap();
    let output = collection.run(&["similar", "--json"]);
    assert_eq!(code(&output), 1);
    assert_eq!(
        names(&lines(&output)[0]["items"]),
        ["same.jpg", "small.jpg"]
    );
    let said = stderr(&output);
    assert!(
        said.contains("cat.jpg: gone or changed since it was indexed, left out"),
        "{said}"
    );
}

#[cfg(unix)]
#[test]
fn a_file_is_no_duplicate_of_itself() {
    let collection = Collection::new();
    let photos = collection.text("photos");
    fs::hard_link(collection.photo("cat.jpg"), collection.photo("again.jpg")).unwrap();
    fs::hard_link(collection.photo("bee.jpg"), collection.photo("bee 2.jpg")).unwrap();
    fs::hard_link(
        collection.photo("sub/same.jpg"),
        collection.photo("same 2.jpg"),
    )
    .unwrap();
    std::os::unix::fs::symlink(collection.photo("sub"), collection.photo("way")).unwrap();
    let indexed = collection.run(&["index", "--follow", &photos]);
    assert_eq!(code(&indexed), 0, "{}", stderr(&indexed));
    let plan = collection.text("plan.json");
    let groups = lines(&collection.run(&["similar", "--json", "--plan", &plan]));
    assert_eq!(groups.len(), 1, "{groups:?}");
    // The best under one name; of its copies, both names of one file; none by the link.
    let found = names(&groups[0]["items"]);
    assert_eq!(found, ["again.jpg", "same 2.jpg", "same.jpg", "small.jpg"]);
    let text = fs::read_to_string(&plan).unwrap();
    assert!(
        !text.contains("cat.jpg") && !text.contains("/way/"),
        "{text}"
    );
    let output = collection.run(&["quarantine", &plan, "--to", &collection.text("away")]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

#[test]
fn a_quarantine_in_the_folder_of_photos_is_not_indexed() {
    let collection = Collection::new();
    let (photos, plan) = (collection.text("photos"), collection.text("plan.json"));
    fs::write(collection.photo("sub/notes.txt"), "").unwrap();
    fs::remove_file(collection.photo("sub/small.jpg")).unwrap();
    collection.run(&["index", &photos]);
    let planned = collection.run(&["similar", "--plan", &plan]);
    assert!(
        stderr(&planned).contains("1 file to move: look at"),
        "{}",
        stderr(&planned)
    );
    collection.run(&["quarantine", &plan, "--to", &collection.text("photos/away")]);
    assert!(collection.photo("away/sub/same.jpg").exists());
    let indexed = collection.run(&["index", &photos]);
    assert_eq!(
        stdout(&indexed),
        "4 items in the index: 0 encoded, 0 copied or moved, 4 unchanged, 1 removed, 0 failed\n"
    );
    let similar = collection.run(&["similar"]);
    assert_eq!((code(&similar), stdout(&similar).as_str()), (1, ""));
    // Named itself, it is walked as any folder.
    let indexed = collection.run(&[
        "index",
        &collection.text("photos/away/sub/same.jpg"),
        &collection.text("photos/away"),
    ]);
    assert!(
        stdout(&indexed).starts_with("5 items in the index: 0 encoded, 1 copied"),
        "{}",
        stdout(&indexed)
    );
}

/// A collection with the plan that keeps the best cat.
fn planned() -> (Collection, String) {
    let collection = Collection::new();
    let plan = collection.text("plan.json");
    let output = collection.run(&["similar", "--json", "--plan", &plan]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("2 files to move: look at"));
    (collection, plan)
}

#[test]
fn a_plan_says_what_would_be_moved() {
    let (collection, plan) = planned();
    let text: Value = serde_json::from_str(&fs::read_to_string(&plan).unwrap()).unwrap();
    assert_eq!(text["diptych_plan"], 1);
    let group = &text["groups"][0];
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(group), ["keep", "move"]);
    assert_eq!(
        keys(&group["move"][0]),
        ["modified", "path", "score", "size"]
    );
    let path = PathBuf::from(group["move"][1]["path"].as_str().unwrap());
    assert_eq!(path, collection.photo("sub/small.jpg"));
    assert_eq!(group["move"][1]["size"], path.metadata().unwrap().len());

    let output = collection.run(&["similar", "--plan", &plan]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("plan.json: there is a file already, expected a new name"));
}

#[test]
fn quarantine_moves_there_and_back() {
    let (collection, plan) = planned();
    let (to, small) = (
        collection.text("away"),
        fs::read(collection.photo("sub/small.jpg")).unwrap(),
    );
    let output = collection.run(&["quarantine", &plan, "--to", &to]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with("2 files ("), "{text}");
    assert!(
        text.ends_with(&format!(
            "bytes) moved to {to}; 0 were there already, 0 skipped\n"
        )),
        "{text}"
    );
    assert!(!collection.photo("sub/small.jpg").exists());
    assert_eq!(
        fs::read(collection.path("away/sub/small.jpg")).unwrap(),
        small
    );
    let journal = fs::read_to_string(collection.path("away/diptych-journal.jsonl")).unwrap();
    assert_eq!(journal.lines().count(), 2);

    let again = collection.run(&["quarantine", &plan, "--to", &to, "--json"]);
    assert_eq!(code(&again), 0, "{}", stderr(&again));
    assert_eq!(
        lines(&again),
        [json!({"moved": 0, "bytes": 0, "before": 2, "skipped": 0})]
    );

    let back = collection.run(&["quarantine", "--undo", &to, "--json"]);
    assert_eq!(code(&back), 0, "{}", stderr(&back));
    assert_eq!(lines(&back)[0]["moved"], 2);
    assert_eq!(fs::read(collection.photo("sub/small.jpg")).unwrap(), small);
    // To the index nothing has happened.
    assert_eq!(code(&collection.run(&["check"])), 0);
}

#[test]
fn quarantine_skips_and_names_what_changed() {
    let (collection, plan) = planned();
    fs::write(collection.photo("sub/small.jpg"), "edited").unwrap();
    let output = collection.run(&[
        "quarantine",
        &plan,
        "--to",
        &collection.text("away"),
        "--json",
    ]);
    assert_eq!(code(&output), 1);
    let summary = &lines(&output)[0];
    assert_eq!(
        (&summary["moved"], &summary["skipped"]),
        (&json!(1), &json!(1))
    );
    let said = stderr(&output);
    assert!(
        said.contains("sub/small.jpg: not moved: changed since the plan was made\n"),
        "{said}"
    );
    assert!(said.contains("1 of 2 files failed"), "{said}");
    assert_eq!(
        fs::read_to_string(collection.photo("sub/small.jpg")).unwrap(),
        "edited"
    );
}

#[test]
fn quarantine_asks_for_a_plan_and_a_folder() {
    let (collection, plan) = planned();
    let photo = collection.text("photos/bee.jpg");
    for (arguments, said) in [
        (&["quarantine", &plan][..], "--to <FOLDER>"),
        (&["quarantine", "--to", "away"], "<PLAN>"),
        (
            &["quarantine", "--undo", "away", "--to", "there"],
            "cannot be used with",
        ),
        (
            &["quarantine", &photo, "--to", "away"],
            "bee.jpg: not valid JSON for what it should state",
        ),
        (
            &["quarantine", "--undo", &collection.text("photos")],
            "diptych-journal.jsonl: cannot be read",
        ),
    ] {
        let output = collection.run(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
    assert!(!collection.path("photos/diptych-journal.jsonl").exists());
}

#[test]
fn clusters_have_names_and_members() {
    let collection = Collection::new();
    let arguments = [
        "cluster",
        "--json",
        "--groups",
        "4",
        "--labels",
        "bee,cat,dog,rocket",
    ];
    let output = collection.run(&arguments);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let groups = lines(&output);
    let keys: Vec<_> = groups[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["group", "items", "label", "score", "size"]);
    let mut labels: Vec<_> = groups
        .iter()
        .map(|group| group["label"].as_str().unwrap())
        .collect();
    assert_eq!((labels[0], &groups[0]["size"]), ("cat", &json!(3)));
    labels.sort_unstable();
    assert_eq!(labels, ["bee", "cat", "dog", "rocket"]);
    for group in &groups {
        let items = group["items"].as_array().unwrap();
        assert_eq!(group["size"], items.len());
        let scores: Vec<f64> = items
            .iter()
            .map(|item| item["score"].as_f64().unwrap())
            .collect();
        assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    }
    assert_eq!(
        stdout(&collection.run(&arguments)),
        stdout(&output),
        "the same every time"
    );
}

#[test]
fn clusters_need_no_number_and_no_labels() {
    let collection = Collection::new();
    let output = collection.run(&["cluster"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with("group 1: cat ("), "{text}");
    assert!(text.lines().next().unwrap().ends_with("items"), "{text}");
    let members = text.lines().filter(|line| line.starts_with("  ")).count();
    assert_eq!(members, 6);

    let nothing = collection.run(&["cluster", "--in", &collection.text("elsewhere")]);
    assert_eq!((code(&nothing), stdout(&nothing).as_str()), (1, ""));
    let said = format!(
        "diptych: {}: the index has nothing below this folder\ndiptych: nothing found\n",
        collection.text("elsewhere")
    );
    assert_eq!(stderr(&nothing), said);
    assert_eq!(code(&collection.run(&["cluster", "--groups", "0"])), 2);
}

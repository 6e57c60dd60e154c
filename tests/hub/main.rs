//! Models by name: the program against a hub of the tests' own, with a cache of each test's own.

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod part;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{golden, stderr};
use diptych::{Bundle, BundleOptions, DualEncoder, EncoderOptions, Towers};
use serde_json::Value;
use server::{COMMIT, Hub, MODEL, git_sha1, is_large, sha256};
use tempfile::TempDir;

/// The bundle that hubs have where it does not matter which.
const BUNDLE: &str = "transformers-clip";

/// A user: the folders in which the program keeps things.
struct User {
    home: TempDir,
    endpoint: String,
}

impl User {
    fn of(hub: &Hub) -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            endpoint: hub.endpoint.clone(),
        }
    }

    /// The program with a model of the hub.
    fn command(&self, model: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_diptych"));
        command.args(["--model", model]).args(arguments);
        for name in [
            "DIPTYCH_MODEL",
            "DIPTYCH_PRECISION",
            "DIPTYCH_OFFLINE",
            "HF_TOKEN",
            "HF_TOKEN_PATH",
            "HF_HUB_CACHE",
            "HF_HUB_OFFLINE",
            "HTTP_PROXY",
            "http_proxy",
            "ALL_PROXY",
            "all_proxy",
        ] {
            command.env_remove(name);
        }
        // The runtime's own place in the cache is not this user's.
        let runtime = diptych::runtime::start(|_| ()).unwrap();
        command
            .env("ORT_DYLIB_PATH", &runtime.path)
            .env("HF_ENDPOINT", &self.endpoint)
            .env("HF_HOME", self.home.path())
            .env("DIPTYCH_CACHE", self.home.path().join("own"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(MODEL, arguments).output().unwrap()
    }

    fn embed_text(&self) -> Output {
        self.run(&["embed", "--text", "a cat"])
    }

    fn repository(&self) -> PathBuf {
        self.home.path().join("hub/models--someone--tiny")
    }

    fn snapshot(&self) -> PathBuf {
        self.repository().join("snapshots").join(COMMIT)
    }

    /// The names of all contents in the cache, whole or not.
    fn blobs(&self) -> Vec<String> {
        let entries = fs::read_dir(self.repository().join("blobs"))
            .into_iter()
            .flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn assert_works(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Fails unless the program could not run, and said each of `parts`.
fn assert_fails(output: &Output, parts: &[&str]) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for part in parts {
        assert!(said.contains(part), "no {part:?} in: {said}");
    }
}

fn photo() -> String {
    golden("images/plain.qoi").to_str().unwrap().to_owned()
}

/// What the program prints with the folder itself.
fn of_folder(user: &User, bundle: &str, arguments: &[&str]) -> String {
    let folder = golden("bundles").join(bundle);
    assert_works(
        &user
            .command(folder.to_str().unwrap(), arguments)
            .output()
            .unwrap(),
    )
}

/// Puts a golden bundle into a cache by hand, as Python's programs do, as the hub's model.
fn write_as_python(root: &Path, bundle: &str) {
    write_model_as_python(root, MODEL, bundle);
}

fn write_model_as_python(root: &Path, model: &str, bundle: &str) {
    let repository = root.join(format!("models--{}", model.replace('/', "--")));
    let snapshot = repository.join("snapshots").join(COMMIT);
    fs::create_dir_all(repository.join("blobs")).unwrap();
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::write(repository.join("refs/main"), COMMIT).unwrap();
    let folder = golden("bundles").join(bundle);
    for entry in walkdir::WalkDir::new(&folder) {
        let entry = entry.unwrap();
        let name = entry.path().strip_prefix(&folder).unwrap();
        let target = snapshot.join(name);
        if entry.file_type().is_dir() {
            fs::create_dir_all(&target).unwrap();
            continue;
        }
        let content = fs::read(entry.path()).unwrap();
        let is_large = is_large(&name.to_string_lossy());
        let hash = if is_large {
            sha256(&content)
        } else {
            git_sha1(&content)
        };
        fs::write(repository.join("blobs").join(&hash), content).unwrap();
        let up = "../".repeat(name.components().count() + 1);
        #[cfg(unix)]
        std::os::unix::fs::symlink(format!("{up}blobs/{hash}"), target).unwrap();
        #[cfg(not(unix))]
        fs::copy(entry.path(), target).unwrap();
    }
}

#[test]
fn a_model_by_name_is_the_model_in_its_folder() {
    let hub = Hub::with(BUNDLE);
    let user = User::of(&hub);
    let (photo, labels) = (photo(), ["--labels", "cat,dog"]);
    let classify = ["classify", "--json", labels[0], labels[1], &photo];
    let expected = of_folder(&user, BUNDLE, &classify);
    assert_eq!(assert_works(&user.run(&classify)), expected);
    let asked = hub.log().len();
    assert!(asked > 0);
    // All is there: from now on nothing is asked.
    assert_eq!(assert_works(&user.run(&classify)), expected);
    let info = |output: String| serde_json::from_str::<Value>(&output).unwrap();
    let by_name = info(assert_works(&user.run(&["info", "--json"])));
    let by_path = info(of_folder(&user, BUNDLE, &["info", "--json"]));
    for fact in ["fingerprint", "files", "layout"] {
        assert_eq!(by_name[fact], by_path[fact]);
    }
    assert_eq!(hub.log().len(), asked);
    for request in hub.log() {
        assert!(
            request
                .header("user-agent")
                .unwrap()
                .starts_with("diptych/")
        );
        assert_eq!(request.header("accept-encoding"), Some("identity"));
    }
}

#[test]
fn every_layout_can_be_fetched() {
    for bundle in [
        "combined",
        "immich",
        "open-clip",
        "siglip",
        "transformers-clip-external",
        "transformers-clip-legacy",
        "vision-dinov2",
    ] {
        let hub = Hub::with(bundle);
        let user = User::of(&hub);
        let info = |output: String| serde_json::from_str::<Value>(&output).unwrap();
        let by_name = info(assert_works(&user.run(&["info", "--json"])));
        let by_path = info(of_folder(&user, bundle, &["info", "--json"]));
        for fact in ["fingerprint", "files", "layout"] {
            assert_eq!(by_name[fact], by_path[fact], "{bundle}");
        }
        // No file was fetched that the bundle does not read, but the image processor's second place.
        let read = by_path["files"].as_array().unwrap();
        for file in walkdir::WalkDir::new(user.snapshot()) {
            let file = file.unwrap();
            let name = file
                .path()
                .strip_prefix(user.snapshot())
                .unwrap()
                .to_str()
                .unwrap();
            let is_read = read.iter().any(|file| file == name) || file.path().is_dir();
            assert!(
                is_read || name == "processor_config.json",
                "{bundle}: {name}"
            );
        }
    }
}

#[test]
fn an_image_tower_alone_needs_no_tokenizer() {
    let hub = Hub::with("vision-dinov2");
    let user = User::of(&hub);
    let photo = photo();
    let embed = ["embed", "--rows", "mean", &photo];
    let expected = of_folder(&user, "vision-dinov2", &embed);
    assert_eq!(assert_works(&user.run(&embed)), expected);
    let asked = hub.log().len();
    let offline = user.run(&["embed", "--rows", "mean", "--offline", &photo]);
    assert_eq!(assert_works(&offline), expected);
    // A whole model, whichever towers are meant.
    assert_works(&user.run(&["info"]));
    assert_fails(&user.embed_text(), &["bundle has no text tower"]);
    assert_eq!(hub.log().len(), asked);
}

#[test]
fn an_image_tower_alone_that_python_fetched_is_used() {
    let hub = Hub::with("vision-dinov2");
    let user = User::of(&hub);
    write_as_python(&user.home.path().join("hub"), "vision-dinov2");
    assert_works(&user.run(&["info"]));
    assert_works(&user.run(&["embed", &photo()]));
    assert!(hub.log().is_empty());
}

#[test]
fn texts_alone_need_no_image_tower() {
    let hub = Hub::with(BUNDLE);
    let user = User::of(&hub);
    let embed = ["embed", "--text", "a cat"];
    assert_eq!(
        assert_works(&user.run(&embed)),
        of_folder(&user, BUNDLE, &embed)
    );
    let of_images = |request: &server::Request| {
        ["vision_model", "preprocessor_config.json"]
            .iter()
            .any(|name| request.path.contains(name))
    };
    assert!(!hub.log().iter().any(of_images), "{:?}", hub.log());
    assert_eq!(
        (
            hub.count("onnx/vision_model.onnx"),
            hub.count("onnx/text_model.onnx")
        ),
        (0, 2)
    );
    // The rest comes when it is needed, and nothing twice; the list of files is known.
    let before = hub.log().len();
    assert_works(&user.run(&["embed", &photo(), "--text", "a cat"]));
    let later = hub.log().split_off(before);
    assert!(later.iter().any(of_images));
    assert!(!later.iter().any(|request| request.path.starts_with("/api/") || request.path.contains("text_model")), "{later:?}");
}

#[test]
fn the_cache_is_laid_out_as_pythons() {
    let hub = Hub::with("transformers-clip-external");
    let user = User::of(&hub);
    assert_works(&user.run(&["info"]));
    let (by_hand, fetched) = (tempfile::tempdir().unwrap(), user.repository());
    write_as_python(by_hand.path(), "transformers-clip-external");
    let by_hand = by_hand.path().join("models--someone--tiny");
    assert_eq!(
        fs::read_to_string(fetched.join("refs/main")).unwrap(),
        COMMIT
    );
    let mut links = 0;
    for entry in walkdir::WalkDir::new(user.snapshot())
        .into_iter()
        .map(Result::unwrap)
    {
        let name = entry.path().strip_prefix(&fetched).unwrap();
        if cfg!(unix) && !entry.file_type().is_dir() {
            assert_eq!(
                fs::read_link(entry.path()).unwrap(),
                fs::read_link(by_hand.join(name)).unwrap()
            );
            links += 1;
        }
    }
    assert!(links >= 4 || cfg!(not(unix)));
    // Contents and locks, by their hashes; nothing that is not whole.
    for blob in user.blobs() {
        assert_eq!(
            fs::read(fetched.join("blobs").join(&blob)).unwrap(),
            fs::read(by_hand.join("blobs").join(&blob)).unwrap()
        );
        assert!(
            user.home
                .path()
                .join(format!("hub/.locks/models--someone--tiny/{blob}.lock"))
                .is_file()
        );
    }
}

#[test]
fn what_python_fetched_is_used() {
    for bundle in ["immich", "open-clip"] {
        let hub = Hub::with(bundle);
        for offline in [&[][..], &["--offline"]] {
            let user = User::of(&hub);
            write_as_python(&user.home.path().join("hub"), bundle);
            let photo = photo();
            let arguments = [&["embed", &photo, "--text", "a cat"], offline].concat();
            let output = user.run(&arguments);
            assert_eq!(assert_works(&output), of_folder(&user, bundle, &arguments));
            assert!(
                !stderr(&output).contains("looked for"),
                "{}",
                stderr(&output)
            );
        }
        assert_eq!(hub.log(), [], "{bundle}");
    }
    // A part of it: the rest is fetched.
    let hub = Hub::with(BUNDLE);
    let user = User::of(&hub);
    write_as_python(&user.home.path().join("hub"), BUNDLE);
    fs::remove_file(user.snapshot().join("onnx/vision_model.onnx")).unwrap();
    assert_works(&user.run(&["info"]));
    // Its content was there, so that a link was enough.
    assert_eq!(
        (
            hub.count("onnx/vision_model.onnx"),
            hub.count("onnx/text_model.onnx")
        ),
        (0, 0)
    );
    assert!(user.snapshot().join("onnx/vision_model.onnx").is_file());
    // Another precision alone, which nobody asked for here.
    let user = User::of(&hub);
    write_as_python(&user.home.path().join("hub"), BUNDLE);
    let onnx = user.snapshot().join("onnx");
    for tower in ["vision_model", "text_model"] {
        let graph = onnx.join(format!("{tower}.onnx"));
        fs::rename(graph, onnx.join(format!("{tower}_quantized.onnx"))).unwrap();
    }
    assert_works(&user.run(&["info", "--offline"]));
    assert!(!onnx.join("vision_model.onnx").exists());
    assert_works(&user.run(&["info"]));
    assert!(onnx.join("vision_model.onnx").is_file());
}

#[test]
fn offline_nothing_is_asked() {
    let hub = Hub::with(BUNDLE);
    let user = User::of(&hub);
    let lacks = [
        "someone/tiny: the cache lacks any of its files, and fetching is turned off",
        "hint: run it once without --offline",
    ];
    assert_fails(
        &user.run(&["--offline", "embed", "--text", "a cat"]),
        &lacks,
    );
    for name in ["HF_HUB_OFFLINE", "DIPTYCH_OFFLINE"] {
        let output = user
            .command(MODEL, &["embed", "--text", "a cat"])
            .env(name, "1")
            .output()
            .unwrap();
        assert_fails(&output, &lacks);
    }
    assert_eq!(hub.log(), []);
    assert_works(&user.embed_text());
    let asked = hub.log().len();
    assert_works(&user.run(&["--offline", "embed", "--text", "a cat"]));
    assert_fails(
        &user.run(&["--offline", "info"]),
        &["the cache lacks preprocessor_config.json, onnx/vision_model.onnx"],
    );
    assert_eq!(hub.log().len(), asked);
}

#[test]
fn a_precision_is_chosen_from_the_hubs_list() {
    let hub = Hub::with(BUNDLE);
    hub.copy("onnx/text_model.onnx", "onnx/text_model_quantized.onnx");
    let user = User::of(&hub);
    let embed = ["embed", "--text", "a cat"];
    assert_works(&user.run(&[&["--precision", "q8"], &embed[..]].concat()));
    assert!(
        user.snapshot()
            .join("onnx/text_model_quantized.onnx")
            .is_file()
    );
    assert!(!user.snapshot().join("onnx/text_model.onnx").exists());
    assert_fails(
        &user.run(&["--precision", "q8", "info"]),
        &[
            "someone/tiny: no image graph of precision q8, found fp32",
            "hint: give one that is there with --precision",
        ],
    );
    // Without a word the plain graph is meant, though another is there already.
    assert_works(&user.run(&embed));
    assert!(user.snapshot().join("onnx/text_model.onnx").is_file());
}

#[test]
fn revisions_are_branches_tags_and_commits() {
    let hub = Hub::with(BUNDLE);
    let user = User::of(&hub);
    let embed = ["embed", "--text", "a cat"];
    let run = |model: &str| user.command(model, &embed).output().unwrap();
    assert_works(&run("hf:someone/tiny@v1"));
    assert_eq!(
        fs::read_to_string(user.repository().join("refs/v1")).unwrap(),
        COMMIT
    );
    let asked = hub.log().len();
    assert_works(&run(&format!("someone/tiny@{COMMIT}")));
    assert_eq!(hub.log().len(), asked);
    // Another name of the same commit costs one request.
    assert_works(&run("someone/tiny"));
    assert_eq!(hub.log().len(), asked + 1);
}

/// A model of PyTorch has no graphs yet; what makes them is named.
#[test]
fn weights_without_graphs_are_said() {
    let hub = Hub::with("../clip-tokenizer");
    hub.list("open_clip_model.safetensors");
    let user = User::of(&hub);
    let mut run = user.command("someone/tiny@main", &["embed", "--text", "a cat"]);
    assert_fails(
        &run.output().unwrap(),
        &[
            "not a model bundle",
            "python onnx/export.py --library open_clip hf-hub:someone/tiny -o DIR",
        ],
    );
    assert!(user.blobs().is_empty());
}

#[test]
fn a_folder_of_that_name_comes_first() {
    let hub = Hub::with(BUNDLE);
    let user = User::of(&hub);
    let here = tempfile::tempdir().unwrap();
    fs::create_dir(here.path().join("someone")).unwrap();
    let run = |model: &str| {
        user.command(model, &["embed", "--text", "a cat"])
            .current_dir(here.path())
            .output()
            .unwrap()
    };
    fs::create_dir(here.path().join(MODEL)).unwrap();
    assert_fails(
        &run(MODEL),
        &["someone/tiny: not a model bundle: found an empty folder"],
    );
    assert_eq!(hub.log(), []);
    assert_works(&run("hf:someone/tiny"));
    assert_fails(
        &run("no/such/folder"),
        &[
            "no/such/folder: there is no such folder, and it is no model of a hub, OWNER/NAME or OWNER/NAME@REVISION",
        ],
    );
}

#[test]
fn the_cache_lies_where_it_is_said_to() {
    let hub = Hub::with(BUNDLE);
    let user = User::of(&hub);
    let (named, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let embed = ["embed", "--text", "a cat"];
    let is_in = |folder: &TempDir| folder.path().join("models--someone--tiny").is_dir();
    assert_works(
        &user
            .command(MODEL, &embed)
            .env("HF_HUB_CACHE", named.path())
            .output()
            .unwrap(),
    );
    assert!(is_in(&named) && !user.repository().exists());
    let cache = ["--cache", other.path().to_str().unwrap()];
    assert_works(
        &user
            .command(MODEL, &[&cache, &embed[..]].concat())
            .env("HF_HUB_CACHE", named.path())
            .output()
            .unwrap(),
    );
    assert!(is_in(&other));
}

#[test]
fn the_library_fetches_too() {
    let hub = Hub::with(BUNDLE);
    let home = tempfile::tempdir().unwrap();
    let library = diptych::Hub {
        endpoint: hub.endpoint.clone(),
        token: None,
        cache: Some(home.path().to_owned()),
        offline: false,
        notice: |_| (),
    };
    let options = BundleOptions {
        towers: Towers::Text,
        ..Default::default()
    };
    let bundle = Bundle::from_hub(&MODEL.parse().unwrap(), &library, &options).unwrap();
    let text = EncoderOptions {
        towers: Towers::Text,
        ..Default::default()
    };
    let encoder = DualEncoder::from_bundle(bundle, &text).unwrap();
    let folder = DualEncoder::open_with(golden("bundles").join(BUNDLE), &text).unwrap();
    assert_eq!(
        encoder.encode_texts(&["a cat"]).unwrap(),
        folder.encode_texts(&["a cat"]).unwrap()
    );
    assert!(hub.count("onnx/text_model.onnx") > 0);
}

#[test]
fn models_of_the_cache_are_listed_and_removed() {
    let hub = Hub::with(BUNDLE);
    let user = User::of(&hub);
    let models = |arguments: &[&str]| user.run(&[&["models"], arguments].concat());
    let output = models(&[]);
    assert_eq!(assert_works(&output), "");
    assert!(
        stderr(&output).contains("no model is in the cache; diptych models --suggest names some")
    );

    assert_works(&user.run(&["info"]));
    // What diptych has no use for is named too: it takes room.
    let other = user
        .home
        .path()
        .join("hub/models--else--words/snapshots/0a");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("model.safetensors"), [0; 1500]).unwrap();
    let files =
        ["blobs", "refs"].map(|folder| walkdir::WalkDir::new(user.repository().join(folder)));
    let files = files
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().metadata().unwrap());
    let bytes: u64 = files
        .filter(fs::Metadata::is_file)
        .map(|metadata| metadata.len())
        .sum();
    let lines: Vec<Value> = assert_works(&models(&["--json"]))
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let layout = "transformers, a graph for each tower";
    assert_eq!(
        lines,
        [
            serde_json::json!({"name": "else/words", "bytes": 1500, "layout": null, "revisions": ["0a"]}),
            serde_json::json!({"name": MODEL, "bytes": bytes, "layout": layout, "revisions": ["main"]}),
        ]
    );
    let listed = assert_works(&models(&[]));
    assert!(
        listed.contains("1.50 kB  no model that diptych knows; 0a"),
        "{listed}"
    );
    assert!(listed.contains(&format!("  {layout}; main")), "{listed}");

    assert!(assert_works(&models(&["rm", MODEL])).starts_with("someone/tiny removed, "));
    assert!(!user.repository().exists() && other.exists());
    assert_fails(
        &models(&["rm", MODEL]),
        &["someone/tiny: the cache lacks it"],
    );
    assert_fails(&models(&["rm", "../else"]), &["not a model of a hub"]);
    assert_fails(
        &models(&["rm", "someone/tiny@v1"]),
        &["all revisions of a model are removed together"],
    );
    // It is fetched again.
    assert_works(&user.embed_text());
}

#[test]
fn suggested_models_are_names_of_models() {
    let hub = Hub::with(BUNDLE);
    let user = User::of(&hub);
    let lines = assert_works(&user.run(&["models", "--suggest", "--json"]));
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines.len() >= 3);
    for line in &lines {
        let name = line["name"].as_str().unwrap();
        assert!(
            name == "onnx/tiny" || name.parse::<diptych::HubModel>().is_ok(),
            "{name}"
        );
        // A figure comes with where it is from.
        let figure = line["accuracy"].as_str().unwrap_or("(none)");
        assert!(figure.ends_with(')'), "{figure}");
    }
    let printed = assert_works(&user.run(&["models", "--suggest"]));
    assert!(
        printed.contains("onnx/tiny, 37 MB\n    comes with diptych"),
        "{printed}"
    );
    assert_eq!(hub.log(), []);
}

#[test]
fn how_fast_a_large_file_came_is_told() {
    let hub = Hub::with(BUNDLE);
    // With two million bytes of documentation, which ends the model's message: field 6.
    let mut graph = hub.content("onnx/text_model.onnx");
    graph.extend([0x32, 0x80, 0x89, 0x7a]);
    graph.extend(vec![b'a'; 2_000_000]);
    hub.replace("onnx/text_model.onnx", graph);
    let user = User::of(&hub);
    let output = user.embed_text();
    assert_works(&output);
    let said = stderr(&output);
    let told: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("fetched"))
        .collect();
    assert_eq!(told.len(), 1, "{said}");
    assert!(
        told[0].starts_with("diptych: fetched onnx/text_model.onnx: 2."),
        "{said}"
    );
    assert!(
        told[0].contains(" MB in ") && told[0].ends_with("B/s"),
        "{said}"
    );
    let output = User::of(&hub).run(&["--quiet", "embed", "--text", "a cat"]);
    assert_works(&output);
    assert_eq!(stderr(&output), "");
}

/// An index is of a model, whichever way it was named.
#[test]
fn an_index_is_of_the_model_by_name_and_by_folder() {
    let hub = Hub::with(BUNDLE);
    let user = User::of(&hub);
    let index = user.home.path().join("index");
    let with = ["--index", index.to_str().unwrap()];
    let photos = user.home.path().join("photos");
    common::write_photo(&photos.join("a.png"), 1);
    assert_works(&user.run(&[&["index", photos.to_str().unwrap()], &with[..]].concat()));
    let stats = assert_works(&user.run(&[&["stats"], &with[..]].concat()));
    assert!(stats.contains("someone/tiny@"), "{stats}");
    let search = [&["search", "a cat"], &with[..]].concat();
    let found = assert_works(&user.run(&search));
    assert!(found.contains("a.png"), "{found}");
    assert_eq!(of_folder(&user, BUNDLE, &search), found);
}

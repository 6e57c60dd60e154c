//! The program as a user meets it: output, exit codes, messages.

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{assert_close, copy_bundle, golden, npy2, root, stderr};
use diptych::{Filter, ImageOptions, open_image, resize};
use image::{ImageFormat, RgbImage, imageops};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A small model of both towers, whose scale a file states: 40.
const MODEL: &str = "transformers-clip";

fn diptych() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diptych"));
    command.env_remove("DIPTYCH_MODEL");
    command
}

/// The program with the small model of that name.
fn with_model(name: &str, arguments: &[&str]) -> Command {
    let mut command = diptych();
    command
        .arg("--model")
        .arg(golden("bundles").join(name))
        .args(arguments);
    command
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    stdout(output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn image(name: &str) -> String {
    golden("images").join(name).to_str().unwrap().to_owned()
}

fn row(line: &Value) -> Vec<f32> {
    line["embedding"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap() as f32)
        .collect()
}

#[test]
fn classify_gives_score_logit_and_probability() {
    let output = run(&mut with_model(
        MODEL,
        &[
            "classify",
            "--json",
            "--labels",
            "cat, dog,car",
            &image("lossless.webp"),
        ],
    ));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let line = &lines(&output)[0];
    assert_eq!(
        line.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["path", "predictions"]
    );
    assert_eq!(line["path"], image("lossless.webp"));

    let predictions = line["predictions"].as_array().unwrap();
    let mut labels: Vec<_> = predictions
        .iter()
        .map(|one| one["label"].as_str().unwrap())
        .collect();
    labels.sort_unstable();
    assert_eq!(labels, ["car", "cat", "dog"]);
    let figures = |key: &str| {
        predictions
            .iter()
            .map(|one| one[key].as_f64().unwrap())
            .collect::<Vec<f64>>()
    };
    let (scores, logits, probabilities) =
        (figures("score"), figures("logit"), figures("probability"));
    assert!(scores.is_sorted_by(|a, b| a >= b));
    assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-5);
    for (score, logit) in scores.iter().zip(&logits) {
        assert!((40.0 * score - logit).abs() < 1e-4, "{score} {logit}");
    }
    let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
    assert!((logits[0].exp() / sum - probabilities[0]).abs() < 1e-5);
}

#[test]
fn a_failure_stands_in_its_place_and_in_the_exit_code() {
    let paths = [
        image("gray.png"),
        "no-such-photo.jpg".to_owned(),
        image("plain.qoi"),
    ];
    let output =
        run(with_model(MODEL, &["classify", "--json", "--labels", "cat,dog"]).args(&paths));
    assert_eq!(output.status.code(), Some(1));
    let lines = lines(&output);
    let found: Vec<&str> = lines
        .iter()
        .map(|line| line["path"].as_str().unwrap())
        .collect();
    assert_eq!(found, paths);
    assert_eq!(
        lines[1].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["error", "path"]
    );
    assert!(
        lines[1]["error"]
            .as_str()
            .unwrap()
            .starts_with("no-such-photo.jpg: cannot be read")
    );
    assert!(lines[0]["predictions"].is_array() && lines[2]["predictions"].is_array());
    assert!(
        stderr(&output).contains("diptych: 1 of 3 images failed"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn folders_are_walked_in_order_without_hidden_files() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b.png", "a.png", ".hidden.png", "sub/c.png"] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(golden("images/gray.png"), path).unwrap();
    }
    std::fs::write(folder.path().join(".gitignore"), "a.png\n").unwrap();
    std::fs::write(folder.path().join("notes.txt"), "no image").unwrap();
    let output =
        run(with_model(MODEL, &["classify", "--json", "--labels", "cat,dog"]).arg(folder.path()));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let found: Vec<String> = lines(&output)
        .iter()
        .map(|line| line["path"].as_str().unwrap().to_owned())
        .collect();
    let expected = ["a.png", "b.png", "sub/c.png"]
        .map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    assert_eq!(found, expected);
}

#[test]
fn a_folder_without_images_is_said_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(with_model(MODEL, &["classify", "--labels", "cat,dog"]).arg(folder.path()));
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("folder without images: expected files ending in jpg"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn one_image_comes_from_standard_input() {
    let mut child = with_model(MODEL, &["embed", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(&std::fs::read(image("gray.png")).unwrap())
        .unwrap();
    let piped = child.wait_with_output().unwrap();
    let named = run(&mut with_model(MODEL, &["embed", &image("gray.png")]));
    assert_eq!(lines(&piped)[0]["path"], "-");
    assert_eq!(row(&lines(&piped)[0]), row(&lines(&named)[0]));
}

#[test]
fn a_threshold_makes_none_of_these_an_answer() {
    let arguments = [
        "classify",
        "--labels",
        "cat,dog,car,tree",
        "--threshold",
        "1",
        &image("gray.png"),
    ];
    let output = run(&mut with_model(MODEL, &arguments));
    assert!(
        stdout(&output).contains("none of these"),
        "{}",
        stdout(&output)
    );
    let json = lines(&run(with_model(MODEL, &arguments).arg("--json")));
    assert_eq!(json[0]["predictions"], Value::Array(Vec::new()));
}

#[test]
fn a_sigmoid_family_has_probabilities_only_with_scale_and_bias() {
    let arguments = [
        "classify",
        "--json",
        "--labels",
        "cat,dog",
        &image("gray.png"),
    ];
    let stated = &lines(&run(&mut with_model("siglip", &arguments)))[0]["predictions"];
    for prediction in stated.as_array().unwrap() {
        let logit = 12.0 * prediction["score"].as_f64().unwrap() - 4.0;
        assert!((prediction["logit"].as_f64().unwrap() - logit).abs() < 1e-4);
        let probability = 1.0 / (1.0 + (-logit).exp());
        assert!((prediction["probability"].as_f64().unwrap() - probability).abs() < 1e-5);
    }
    let bare = &lines(&run(&mut with_model("siglip-bare", &arguments)))[0]["predictions"];
    assert!(
        bare.as_array()
            .unwrap()
            .iter()
            .all(|one| one["logit"].is_null() && one["probability"].is_null())
    );

    let output = run(with_model("siglip-bare", &arguments).args(["--threshold", "0.5"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("--threshold needs probabilities"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn rows_come_in_the_order_asked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("texts.txt");
    std::fs::write(&file, "two\n\nthree\n").unwrap();
    let (first, last) = (image("gray.png"), image("plain.qoi"));
    let output = run(&mut with_model(
        MODEL,
        &[
            "embed",
            "--text",
            "one",
            &first,
            "--texts",
            file.to_str().unwrap(),
            &last,
            "--text",
            "",
        ],
    ));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let name = |line: &Value| {
        line["text"]
            .as_str()
            .or(line["path"].as_str())
            .unwrap()
            .to_owned()
    };
    let names: Vec<String> = lines(&output).iter().map(name).collect();
    assert_eq!(names, ["one", &first, "two", "", "three", &last, ""]);
    assert!(
        lines(&output)
            .iter()
            .all(|line| (row(line).iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5)
    );
}

#[test]
fn npy_and_json_hold_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows.npy");
    let inputs = [
        image("gray.png"),
        "missing.png".to_owned(),
        image("plain.qoi"),
    ];
    let written = run(with_model(MODEL, &["embed", "--text", "a cat", "-o"])
        .arg(&rows)
        .args(&inputs));
    assert_eq!(written.status.code(), Some(1));
    assert_eq!(stdout(&written), "");
    let printed = run(with_model(MODEL, &["embed", "--text", "a cat"]).args(&inputs));

    let rows = npy2::<f32>(&rows);
    let names = std::fs::read_to_string(folder.path().join("rows.jsonl")).unwrap();
    let names: Vec<Value> = names
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let good: Vec<Value> = lines(&printed)
        .into_iter()
        .filter(|line| line["embedding"].is_array())
        .collect();
    assert_eq!((rows.nrows(), names.len(), good.len()), (3, 3, 3));
    for (index, line) in good.iter().enumerate() {
        assert_eq!(rows.row(index).to_vec(), row(line));
        assert_eq!(
            (&names[index]["path"], &names[index]["text"]),
            (&line["path"], &line["text"])
        );
    }
}

#[test]
fn a_text_too_long_is_cut_and_said() {
    let long = "word ".repeat(200);
    let output = run(&mut with_model(
        MODEL,
        &["embed", "--text", &long, "--text", "short"],
    ));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(lines(&output).len(), 2);
    assert!(
        stderr(&output).contains("1 text longer than 77 tokens was cut"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_folder_that_fails_stands_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().to_str().unwrap();
    let paths = [
        image("gray.png"),
        empty.to_owned(),
        image("plain.qoi"),
        empty.to_owned(),
    ];
    let output = run(with_model(MODEL, &["embed"]).args(&paths));
    let found: Vec<String> = lines(&output)
        .iter()
        .map(|line| line["path"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((output.status.code(), &found[..]), (Some(1), &paths[..]));
}

#[cfg(unix)]
#[test]
fn a_pipe_in_a_folder_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden("images/gray.png"), folder.path().join("a.png")).unwrap();
    let made = Command::new("mkfifo")
        .arg(folder.path().join("b.png"))
        .status()
        .unwrap();
    assert!(made.success());
    let output = run(with_model(MODEL, &["embed"]).arg(folder.path()));
    assert_eq!((output.status.code(), lines(&output).len()), (Some(0), 1));
}

#[test]
fn a_text_of_megabytes_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("texts.txt");
    std::fs::write(&file, "long words ".repeat(500_000)).unwrap();
    let output = run(with_model(MODEL, &["embed", "--texts"]).arg(&file));
    assert_eq!((output.status.code(), lines(&output).len()), (Some(0), 1));
    assert!(
        stderr(&output).contains("1 text longer than 77 tokens was cut"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn an_empty_list_of_texts_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("texts.txt");
    std::fs::write(&file, "").unwrap();
    let output = run(with_model(MODEL, &["embed", "--texts"]).arg(&file));
    assert_eq!(
        (output.status.code(), stdout(&output).as_str()),
        (Some(1), "")
    );
    assert!(
        stderr(&output).contains("no images and texts to work on"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_bundle_of_one_tower_says_so() {
    let images = "transformers-clip-f16";
    let output = run(&mut with_model(images, &["embed", &image("gray.png")]));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for arguments in [
        &["embed", "--text", "a cat"][..],
        &["classify", "--labels", "cat", &image("gray.png")],
    ] {
        let output = run(&mut with_model(images, arguments));
        assert_eq!(output.status.code(), Some(2));
        assert!(
            stderr(&output).contains("bundle has no text tower"),
            "{}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains("hint: this bundle encodes images only"),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn lists_that_make_no_sense_end_with_2_and_a_message() {
    let photo = image("gray.png");
    let cases: [(&[&str], &str); 8] = [
        (&["--labels", "cat", "--top", "0"], "0 is not in 1.."),
        (&["--labels", "cat,,dog"], "label 2 is blank"),
        (
            &["--labels", "cat,dog, cat"],
            "label \"cat\" is given twice, as label 1 and label 3",
        ),
        (
            &["--labels", "cat", "--template", "a photo"],
            "template \"a photo\" has no {} where the label goes",
        ),
        (
            &["--labels", "cat", "--prompts", "none-such"],
            "expected one of plain, openai-7, openai-80 or a file",
        ),
        (
            &["--labels-file", "none-such.txt"],
            "none-such.txt: cannot be read",
        ),
        (
            &["--labels", "cat", "--threshold", "2"],
            "expected a number from 0 to 1",
        ),
        (
            &["--labels", "cat", "--background", "reddish"],
            "expected white, black, grey or #rrggbb",
        ),
    ];
    for (arguments, message) in cases {
        let output = run(with_model(MODEL, &["classify", &photo]).args(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            stderr(&output).contains(message),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn prompts_and_templates_change_the_answer_and_are_said() {
    let photo = image("gray.png");
    let mut scores = Vec::new();
    for (arguments, said) in [
        (&["--prompts", "plain"][..], "template \"a photo of a {}.\""),
        (&["--prompts", "openai-7"], "7 templates"),
        (&["--template", "{}", "--template", "a {}"], "2 templates"),
    ] {
        let arguments = [&["classify", "--labels", "cat,dog", &photo], arguments].concat();
        let output = run(&mut with_model(MODEL, &arguments));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
        let json = run(with_model(MODEL, &arguments).arg("--json"));
        scores.push(lines(&json)[0]["predictions"][0]["score"].to_string());
    }
    assert!(
        scores[0] != scores[1] && scores[1] != scores[2],
        "{scores:?}"
    );
}

#[test]
fn quiet_leaves_standard_error_to_errors() {
    let output = run(&mut with_model(
        MODEL,
        &[
            "classify",
            "--quiet",
            "--labels",
            "cat,dog",
            &image("gray.png"),
        ],
    ));
    assert_eq!(stderr(&output), "");
    assert!(stdout(&output).contains('%'));
}

#[test]
fn info_states_what_files_and_graphs_say() {
    let output = run(&mut with_model(
        "transformers-clip-legacy",
        &["info", "--json"],
    ));
    let info = &lines(&output)[0];
    for (key, value) in [
        ("layout", "transformers, a graph for each tower"),
        ("image_size", "32 x 32"),
        ("resize", "shortest edge to 40"),
        ("filter", "bicubic"),
        ("crop", "centre 32 x 32"),
        ("activation", "softmax"),
        ("image_precision", "float32"),
        ("scale_origin", "assumed: no file states it"),
    ] {
        assert_eq!(info[key], value, "{key}");
    }
    assert_eq!(info["scale"], 100.0);
    assert_eq!(info["context_length"], 16);
    assert_eq!(info["fingerprint"].as_str().unwrap().len(), 64);
    assert!(Path::new(info["onnx_runtime_file"].as_str().unwrap()).is_file());
    for key in [
        "files",
        "mean",
        "std",
        "padding",
        "width",
        "bias",
        "onnx_runtime",
    ] {
        assert!(info.get(key).is_some(), "{key}");
    }
    let people = stdout(&run(&mut with_model("transformers-clip-legacy", &["info"])));
    assert!(people.contains("assumed: no file states it"), "{people}");
}

#[test]
fn threads_and_batch_change_no_row() {
    let arguments = [
        "embed",
        &image("lossless.webp"),
        &image("gray.png"),
        "--text",
        "a cat",
        "--text",
        "two dogs play",
    ];
    let usual = lines(&run(&mut with_model(MODEL, &arguments)));
    let other = lines(&run(with_model(MODEL, &arguments).args([
        "--threads",
        "1",
        "--batch",
        "1",
    ])));
    assert_eq!(usual.len(), 4);
    for (usual, other) in usual.iter().zip(&other) {
        assert_close(&row(usual), &row(other), common::EXACT, "threads and batch");
    }
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let mut child = with_model(MODEL, &["embed", "--quiet"])
        .arg("--texts")
        .arg(golden("texts.json"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), stderr(&output).as_str()),
        (Some(0), "")
    );
}

#[test]
fn completions_man_page_and_version_are_there() {
    for (arguments, expected) in [
        (&["completions", "bash"][..], "_diptych"),
        (&["completions", "zsh"], "#compdef diptych"),
        (&["man"], ".TH diptych"),
        (&["man", "classify"], "threshold"),
        (
            &["--version"],
            concat!("diptych ", env!("CARGO_PKG_VERSION")),
        ),
        (&["classify", "--help"], "none of these"),
    ] {
        let output = run(diptych().args(arguments));
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(stdout(&output).contains(expected), "{arguments:?}");
    }
    assert_eq!(run(diptych().arg("unknown")).status.code(), Some(2));
}

/// A copy of the small model whose `diptych.json` states `keys` too.
fn model_stating(keys: &[(&str, Value)]) -> TempDir {
    let folder = copy_bundle(MODEL);
    let path = folder.path().join("diptych.json");
    let mut stated: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (key, value) in keys {
        stated[key] = value.clone();
    }
    std::fs::write(path, stated.to_string()).unwrap();
    folder
}

/// What `classify --json` says of one photo with the model in `folder`: labels and scores.
fn answer(folder: &Path, arguments: &[&str]) -> Vec<(String, f64)> {
    let output = run(diptych()
        .args(["classify", "--json", "--labels", "cat,dog,car,tree"])
        .arg(image("lossless.webp"))
        .arg("--model")
        .arg(folder)
        .args(arguments));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let predictions = lines(&output)[0]["predictions"].clone();
    let pair = |one: &Value| {
        let label = one["label"].as_str().unwrap().to_owned();
        (label, one["score"].as_f64().unwrap())
    };
    predictions.as_array().unwrap().iter().map(pair).collect()
}

#[test]
fn none_below_is_kept_to_unless_a_threshold_is_given() {
    let all = answer(&golden("bundles").join(MODEL), &[]);
    assert_eq!(all.len(), 4);
    let between = (all[1].1 + all[2].1) / 2.0;
    let some = model_stating(&[("none_below", json!(between))]);
    assert_eq!(answer(some.path(), &[]), all[..2]);
    assert_eq!(answer(some.path(), &["--top", "1"]), all[..1]);
    assert_eq!(answer(some.path(), &["--threshold", "0"]), all);
    assert_eq!(answer(some.path(), &["--threshold", "1"]), []);

    let none = model_stating(&[("none_below", json!(1))]);
    assert_eq!(answer(none.path(), &[]), []);
    let output = run(diptych()
        .args([
            "classify",
            "--labels",
            "cat,dog",
            &image("gray.png"),
            "--model",
        ])
        .arg(none.path()));
    assert_eq!(output.status.code(), Some(0));
    assert!(
        stdout(&output).ends_with("  none of these\n"),
        "{}",
        stdout(&output)
    );
    assert!(
        stderr(&output).contains("none of these below score 1"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn templates_of_the_bundle_are_taken_unless_others_are_given() {
    let plain = golden("bundles").join(MODEL);
    let stating = model_stating(&[("templates", json!(["a {}", "one {} outside"]))]);
    let given = ["--template", "a {}", "--template", "one {} outside"];
    let expected = answer(&plain, &given);
    assert_eq!(answer(stating.path(), &[]), expected);
    assert_ne!(answer(&plain, &[]), expected);
    assert_eq!(
        answer(stating.path(), &["--prompts", "plain"]),
        answer(&plain, &[])
    );
    let other = ["--template", "a drawing of a {}"];
    assert_eq!(answer(stating.path(), &other), answer(&plain, &other));
}

#[test]
fn info_shows_none_below_and_templates() {
    let folder = model_stating(&[
        ("none_below", json!(0.25)),
        ("templates", json!(["a {}", "one {} outside"])),
    ]);
    let info = |arguments: &[&str]| {
        run(diptych()
            .arg("info")
            .args(arguments)
            .arg("--model")
            .arg(folder.path()))
    };
    let facts = &lines(&info(&["--json"]))[0];
    assert_eq!(facts["none_below"], 0.25);
    assert_eq!(facts["templates"], json!(["a {}", "one {} outside"]));
    let people = stdout(&info(&[]));
    let fact = |name: &str| {
        people
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default()
    };
    assert!(fact("none below").ends_with(" 0.25"), "{people}");
    assert!(fact("templates").ends_with(" a {}"), "{people}");

    let facts = &lines(&run(&mut with_model(MODEL, &["info", "--json"])))[0];
    assert!(facts["none_below"].is_null() && facts["templates"].is_null());
    let people = stdout(&run(&mut with_model(MODEL, &["info"])));
    assert_eq!(people.matches("not stated").count(), 2, "{people}");
}

/// The measures of a contact sheet: the side of a photo's tile, the gap around cells, the height of `labels` labels.
const TILE: u32 = 168;
const GAP: u32 = 16;

fn sheet_size(columns: u32, rows: u32, labels: u32) -> (u32, u32) {
    let cell = TILE + 4 + 17 * (1 + labels);
    (GAP + columns * (TILE + GAP), GAP + rows * (cell + GAP))
}

/// The tile of the photo in that column and row of a sheet with three labels a photo.
fn tile(sheet: &RgbImage, column: u32, row: u32) -> RgbImage {
    let (x, y) = (sheet_size(column, 0, 3).0, sheet_size(0, row, 3).1);
    imageops::crop_imm(sheet, x, y, TILE, TILE).to_image()
}

/// How far the middle of a tile is from the photo in a file, in levels on average.
fn distance(tile: &RgbImage, path: &Path, options: &ImageOptions) -> f64 {
    let photo = open_image(path, options).unwrap();
    let (width, height) = photo.dimensions();
    let scale = (f64::from(TILE) / f64::from(width.max(height))).min(1.0);
    let side = |side: u32| (f64::from(side) * scale).round() as u32;
    let small = resize(&photo, side(width), side(height), Filter::Box);
    let (x, y) = ((TILE - small.width()) / 2, (TILE - small.height()) / 2);
    let found = imageops::crop_imm(tile, x, y, small.width(), small.height()).to_image();
    let levels = found.as_raw().iter().zip(small.as_raw());
    let sum: f64 = levels.map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
    sum / found.as_raw().len() as f64
}

/// How many pixels are not of the colour that a tile has where no photo lies.
fn drawn(tile: &RgbImage) -> usize {
    tile.pixels().filter(|pixel| pixel.0 != [240; 3]).count()
}

#[test]
fn a_contact_sheet_shows_every_photo_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    for (name, format) in [
        ("sheet.jpg", ImageFormat::Jpeg),
        ("sheet.PNG", ImageFormat::Png),
        ("sheet.webp", ImageFormat::WebP),
    ] {
        let file = folder.path().join(name);
        let arguments = ["classify", "--json", "--labels", "cat,dog,car", "--sheet"];
        let output = run(with_model(MODEL, &arguments)
            .arg(&file)
            .arg(root("assets/photos")));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let bytes = std::fs::read(&file).unwrap();
        assert_eq!(image::guess_format(&bytes).unwrap(), format);
        let sheet = image::load_from_memory(&bytes).unwrap().to_rgb8();
        assert_eq!(sheet.dimensions(), sheet_size(5, 3, 3));
        let photos: Vec<Value> = lines(&output);
        assert_eq!(photos.len(), 14);
        for (index, photo) in (0..).zip(&photos) {
            let tile = tile(&sheet, index % 5, index / 5);
            let to = |photo: &Value| {
                let path = Path::new(photo["path"].as_str().unwrap());
                distance(&tile, path, &ImageOptions::default())
            };
            let other = &photos[(index as usize + 1) % photos.len()];
            assert!(to(photo) < 8.0, "{photo}: {}", to(photo));
            assert!(to(other) > 20.0, "{other}: {}", to(other));
        }
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        3,
        "a partial file is left"
    );
}

#[test]
fn a_photo_that_failed_is_an_empty_cell() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sheet.png");
    let paths = [
        image("gray.png"),
        "no-such-photo.jpg".to_owned(),
        image("plain.qoi"),
    ];
    let output = run(
        with_model(MODEL, &["classify", "--labels", "cat,dog", "--sheet"])
            .arg(&file)
            .args(&paths),
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("1 of 3 images failed"),
        "{}",
        stderr(&output)
    );
    let sheet = image::open(&file).unwrap().to_rgb8();
    assert_eq!(sheet.dimensions(), sheet_size(3, 1, 3));
    for column in [0, 2] {
        let path = Path::new(&paths[column as usize]);
        let distance = distance(&tile(&sheet, column, 0), path, &ImageOptions::default());
        assert!(distance < 8.0, "{}: {distance}", path.display());
    }
    // The word alone.
    let word = drawn(&tile(&sheet, 1, 0));
    assert!((50..1000).contains(&word), "{word} pixels");
}

#[test]
fn a_contact_sheet_reads_photos_as_the_rest_does() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sheet.png");
    let usual = ImageOptions::default();
    let stored = ImageOptions {
        exif: false,
        ..usual.clone()
    };
    let red = ImageOptions {
        background: Some([255, 0, 0]),
        ..usual.clone()
    };
    for (photo, arguments, options) in [
        ("orientation-6.jpg", &[][..], &usual),
        ("orientation-6.jpg", &["--no-exif"], &stored),
        ("rgba-checker.png", &["--background", "#ff0000"], &red),
    ] {
        let output = run(with_model(
            MODEL,
            &["classify", "--labels", "cat,dog", &image(photo), "--sheet"],
        )
        .arg(&file)
        .args(arguments));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let sheet = image::open(&file).unwrap().to_rgb8();
        let photo = image(photo);
        let small = open_image(&photo, options).unwrap();
        let tile = tile(&sheet, 0, 0);
        assert!(
            distance(&tile, Path::new(&photo), options) < 8.0,
            "{photo} {arguments:?}"
        );
        // Nothing is drawn beside a photo that is smaller than its tile.
        assert!(
            drawn(&tile) <= (small.width() * small.height()) as usize,
            "{photo} {arguments:?}"
        );
    }
}

#[test]
fn standard_input_comes_onto_a_contact_sheet() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sheet.png");
    let cat = root("assets/photos/cat.jpg");
    let mut child = with_model(
        MODEL,
        &[
            "classify", "--labels", "cat,dog", "--top", "1", "-", "--sheet",
        ],
    )
    .arg(&file)
    .stdin(Stdio::piped())
    .stdout(Stdio::null())
    .spawn()
    .unwrap();
    let bytes = std::fs::read(&cat).unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(child.wait().unwrap().success());
    let sheet = image::open(&file).unwrap().to_rgb8();
    assert_eq!(sheet.dimensions(), sheet_size(1, 1, 1));
    assert!(distance(&tile(&sheet, 0, 0), &cat, &ImageOptions::default()) < 8.0);
}

/// Before the model is looked at, which is not there.
#[test]
fn a_sheet_that_cannot_be_written_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for (name, message) in [
        (
            "sheet.bmp",
            "expected a name that ends in .jpg, .jpeg, .png, .webp or .html",
        ),
        (
            "sheet",
            "expected a name that ends in .jpg, .jpeg, .png, .webp or .html",
        ),
        ("none/sheet.png", "there is no folder"),
    ] {
        let output = run(diptych()
            .args([
                "classify",
                "--model",
                "no/such/model",
                &image("gray.png"),
                "--sheet",
            ])
            .arg(folder.path().join(name)));
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(
            stderr(&output).contains(message),
            "{name}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "", "{name}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

//! Which of several published graphs is taken, and what is said where the one asked for is not there.

mod common;

use std::fs;
use std::process::{Command, Output};

use common::{copy_bundle, stderr};
use diptych::{Bundle, BundleOptions, DualEncoder, EncoderOptions, Error, Towers};
use serde_json::Value;
use tempfile::TempDir;

/// A bundle with two graphs of each tower but for int8, which texts alone have.
fn bundle() -> TempDir {
    let folder = copy_bundle("transformers-clip");
    let copy = |from: &str, to: &str| {
        fs::copy(folder.path().join(from), folder.path().join(to)).unwrap();
    };
    copy("onnx/vision_model.onnx", "onnx/vision_model_fp16.onnx");
    copy("onnx/text_model.onnx", "onnx/text_model_fp16.onnx");
    copy("onnx/text_model.onnx", "onnx/text_model_int8.onnx");
    folder
}

fn options(precisions: &str) -> BundleOptions {
    BundleOptions {
        precisions: precisions.parse().unwrap(),
        ..Default::default()
    }
}

fn run(folder: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diptych"));
    command
        .env_remove("DIPTYCH_MODEL")
        .env_remove("DIPTYCH_PRECISION");
    command
        .arg("--model")
        .arg(folder.path())
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn files_and_fingerprint_follow_the_precision() {
    let folder = bundle();
    let files = |output: Output| -> (Vec<String>, String) {
        assert!(output.status.success(), "{}", stderr(&output));
        let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
        let graphs = facts["files"].as_array().unwrap().iter();
        let graphs = graphs.map(|file| file.as_str().unwrap().to_owned());
        (
            graphs.filter(|file| file.ends_with(".onnx")).collect(),
            facts["fingerprint"].to_string(),
        )
    };
    let (plain, plain_print) = files(run(&folder, &["info", "--json"]));
    assert_eq!(plain, ["onnx/text_model.onnx", "onnx/vision_model.onnx"]);
    let asked = ["info", "--json", "--precision", "image=fp16,text=int8"];
    let (mixed, mixed_print) = files(run(&folder, &asked));
    assert_eq!(
        mixed,
        ["onnx/text_model_int8.onnx", "onnx/vision_model_fp16.onnx"]
    );
    assert_ne!(plain_print, mixed_print);
    assert_eq!(
        files(run(&folder, &["info", "--json", "--precision", "fp32"])),
        (plain, plain_print)
    );
}

#[test]
fn a_precision_that_is_not_there_is_no_other() {
    let folder = bundle();
    let photo = common::golden("images/plain.qoi");
    let photo = photo.to_str().unwrap();
    let output = run(
        &folder,
        &["--precision", "int8", "classify", "--labels", "a,b", photo],
    );
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(
        said.contains("no image graph of precision int8, found fp16, fp32"),
        "{said}"
    );
    assert!(
        said.contains("hint: give one that is there with --precision"),
        "{said}"
    );
    // The text tower has it, and embedding texts needs no other.
    let output = run(
        &folder,
        &["--precision", "int8", "embed", "--text", "a cat"],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let output = run(
        &folder,
        &["--precision", "fp16,int8", "embed", "--text", "a cat"],
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("such as image=int8,text=fp32"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_bundle_of_one_tower_lacks_the_other() {
    let folder = bundle();
    let text = BundleOptions {
        towers: Towers::Text,
        ..options("int8")
    };
    let bundle = Bundle::open_with(folder.path(), &text).unwrap();
    assert!(bundle.image.is_none() && bundle.text.is_some());
    assert!(
        !bundle
            .files
            .iter()
            .any(|file| file.ends_with("preprocessor_config.json"))
    );
    let encoder = DualEncoder::from_bundle(
        bundle.clone(),
        &EncoderOptions {
            towers: Towers::Text,
            ..Default::default()
        },
    );
    assert_eq!(encoder.unwrap().encode_texts(&["a cat"]).unwrap().len(), 1);
    let image = EncoderOptions {
        towers: Towers::Image,
        ..Default::default()
    };
    assert!(matches!(
        DualEncoder::from_bundle(bundle, &image),
        Err(Error::NoTower { tower: "image", .. })
    ));
}

#[test]
fn one_graph_for_both_towers_serves_texts_alone() {
    let folder = copy_bundle("combined");
    let graph = folder.path().join("onnx/model.onnx");
    fs::rename(&graph, folder.path().join("onnx/model_q4.onnx")).unwrap();
    fs::copy(
        folder.path().join("onnx/model_q4.onnx"),
        folder.path().join("onnx/model_bnb4.onnx"),
    )
    .unwrap();
    // Two, neither plain nor half: without a word, none is taken for the right one.
    assert!(matches!(
        Bundle::open(folder.path()),
        Err(Error::NotABundle { .. })
    ));
    let output = run(
        &folder,
        &["--precision", "bnb4", "embed", "--text", "a cat"],
    );
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn an_index_is_of_one_precision() {
    let folder = bundle();
    let work = tempfile::tempdir().unwrap();
    let index = work.path().join("index");
    common::write_photo(&work.path().join("photos/a.png"), 1);
    let photos = work.path().join("photos");
    let with = |arguments: &[&str]| {
        run(
            &folder,
            &[arguments, &["--index", index.to_str().unwrap()]].concat(),
        )
    };
    let output = with(&["--precision", "fp16", "index", photos.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        with(&["--precision", "fp16", "search", "a cat"])
            .status
            .success()
    );
    let output = with(&["search", "a cat"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("index is of"),
        "{}",
        stderr(&output)
    );
}

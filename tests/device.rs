//! What graphs run on: what is asked for runs, is named, or is an error that says why.

mod common;

use std::path::PathBuf;
use std::process::{Command, Output};

use common::{EXACT, assert_all_close, golden, list, npy2, root, stderr};
use diptych::{Device, DualEncoder, EncoderOptions, Error};
use serde_json::Value;

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diptych"));
    for variable in ["DIPTYCH_MODEL", "DIPTYCH_PRECISION", "DIPTYCH_DEVICE"] {
        command.env_remove(variable);
    }
    command
        .current_dir(root(""))
        .args(arguments)
        .output()
        .unwrap()
}

fn last_line(output: &Output) -> String {
    stderr(output).lines().last().unwrap_or("").to_owned()
}

#[test]
fn the_last_line_of_a_run_names_the_device() {
    let photo = "assets/photos/cat.jpg";
    for arguments in [
        &["embed", photo] as &[&str],
        &["classify", "--labels", "cat,dog", photo],
        &["classify", "--device", "cpu", "--top", "1", photo],
        &["verify", "onnx/tiny"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(last_line(&output), "diptych: ran on cpu", "{arguments:?}");
        let quiet = run(&[&["--quiet"], arguments].concat());
        assert_eq!(stderr(&quiet), "", "{arguments:?}");
    }
    // Nothing was run, so nothing is said.
    assert!(!stderr(&run(&["models", "--suggest"])).contains("ran on"));
}

#[test]
fn info_names_the_device_of_each_tower() {
    let output = run(&["info", "--json"]);
    let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(facts["image_tower_on"], "cpu");
    assert_eq!(facts["text_tower_on"], "cpu");
}

/// The library that tests run on was built for processors alone.
#[test]
fn a_device_that_is_not_to_be_had_is_an_error() {
    // That for macOS has Core ML as well.
    let is_lacking = |device: &&&str| !(cfg!(target_os = "macos") && **device == "coreml");
    for device in Device::NAMES[1..].iter().filter(is_lacking) {
        let output = run(&["embed", "--device", device, "assets/photos/cat.jpg"]);
        assert_eq!(output.status.code(), Some(2), "{device}");
        assert_eq!(output.stdout, b"", "{device}: nothing ran in its place");
        let said = stderr(&output);
        assert!(said.contains(&format!("device {device}")), "{said}");
        assert!(said.contains("hint: "), "{said}");
        let why = if cfg!(feature = "default") {
            "was built without"
        } else {
            &format!("this program was built without the feature {device}")
        };
        assert!(said.contains(why), "{device}: {said}");
    }
}

#[test]
fn the_library_runs_on_no_other_device_either() {
    let options = EncoderOptions {
        device: Device::Cuda(0),
        ..Default::default()
    };
    let error = DualEncoder::open_with(root("onnx/tiny"), &options).unwrap_err();
    assert!(matches!(error, Error::NoDevice { .. }), "{error}");
}

#[test]
fn a_name_that_no_device_has_is_refused() {
    let output = run(&["info", "--device", "gpu"]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(
        said.contains("expected one of cpu, cuda, tensorrt"),
        "{said}"
    );
}

/// Every golden bundle on OpenVINO, which runs without a GPU too. The folder holds an ONNX Runtime that was built with
/// it, such as `onnxruntime/capi` of the Python package onnxruntime-openvino.
#[test]
#[ignore = "needs DIPTYCH_OPENVINO, a folder with an ONNX Runtime that has OpenVINO"]
fn golden_rows_on_openvino() {
    let folder = PathBuf::from(std::env::var_os("DIPTYCH_OPENVINO").unwrap());
    let runtime = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    assert_eq!(runtime, Some(folder), "ORT_DYLIB_PATH names it as well");
    let texts: Vec<String> = list(&golden("texts.json"))
        .into_iter()
        .map(|about| about["text"].as_str().unwrap().to_owned())
        .collect();
    for about in list(&golden("expected/bundles.json")) {
        let name = about["bundle"].as_str().unwrap();
        if about["texts"] != true {
            continue;
        }
        let options = EncoderOptions {
            device: "openvino".parse().unwrap(),
            ..Default::default()
        };
        let encoder = DualEncoder::open_with(golden("bundles").join(name), &options).unwrap();
        for (tower, placement) in encoder.placements() {
            assert_eq!(placement.device.name(), "openvino", "{name} {tower}");
            assert!(placement.nodes > placement.on_cpu, "{name} {tower}");
        }
        let expected = npy2::<f32>(&golden("expected").join(name).join("text_rows.npy"));
        let expected = diptych::Embeddings::new(expected).unwrap();
        let rows = encoder.encode_texts(&texts).unwrap();
        assert_all_close(&rows, &expected, EXACT, name);
    }
    // What is left to the processor is counted, and said in the last line of every command.
    let output = run(&["verify", "--device", "openvino", "tests/data/faults/double"]);
    let last = last_line(&output);
    assert!(
        last.contains("of its") && last.contains("nodes on cpu"),
        "{last}"
    );
    // Nothing of a first run stays behind, whether it went well or not.
    let empty = tempfile::tempdir().unwrap();
    for bundle in ["transformers-clip", "vision-dinov3"] {
        let model = golden("bundles").join(bundle);
        let output = Command::new(env!("CARGO_BIN_EXE_diptych"))
            .env("TMPDIR", empty.path())
            .args(["info", "--device", "openvino", "--model"])
            .arg(model)
            .output()
            .unwrap();
        if bundle == "vision-dinov3" {
            // OpenVINO cannot compile it.
            let said = stderr(&output);
            assert!(said.contains("device openvino cannot be used"), "{said}");
            assert!(said.contains("hint: "), "{said}");
        }
        assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
    }
    let nonsense = EncoderOptions {
        device: "openvino:NONSENSE".parse().unwrap(),
        ..Default::default()
    };
    let error = DualEncoder::open_with(root("onnx/tiny"), &nonsense).unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("nodes ran on OpenVINOExecutionProvider"),
        "{said}"
    );
}

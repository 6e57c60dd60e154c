//! Bundles with something missing, damaged or unknown: each gets a message that names it and what was expected.

mod common;

use std::fs;
use std::path::Path;

use common::{copy_bundle, golden};
use diptych::{DualEncoder, Error};

fn replace(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{}: no {from}", path.display());
    fs::write(path, text.replace(from, to)).unwrap();
}

/// The message for opening a copy of bundle `name` after `spoil`, with the folder's path taken out.
fn message(name: &str, spoil: impl Fn(&Path)) -> String {
    let folder = copy_bundle(name);
    spoil(folder.path());
    let error = DualEncoder::open(folder.path()).expect_err("a spoiled bundle opens");
    error
        .to_string()
        .replace(folder.path().to_str().unwrap(), "BUNDLE")
}

/// Fails unless the message has every one of `parts`.
fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
}

#[test]
fn folders_that_are_no_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let error = DualEncoder::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::NotABundle { .. }), "{error}");
    assert_says(
        &error.to_string(),
        &["not a model bundle: found an empty folder"],
    );
    assert_says(
        &error.hint().unwrap(),
        &[
            "onnx/vision_model.onnx",
            "visual/model.onnx",
            "visual.onnx",
            "model.onnx",
        ],
    );

    let error = DualEncoder::open("no/such/folder").unwrap_err();
    assert_says(&error.to_string(), &["no/such/folder: cannot be read"]);
    let error = DualEncoder::open(golden("images.json")).unwrap_err();
    assert_says(&error.to_string(), &["images.json: cannot be read"]);
}

/// A model of PyTorch has no graphs yet; what makes them is named.
#[test]
fn weights_without_graphs() {
    for (file, command) in [
        ("model.safetensors", "--library transformers BUNDLE -o DIR"),
        ("pytorch_model.bin", "--library transformers BUNDLE -o DIR"),
        (
            "open_clip_pytorch_model.bin",
            "--library open_clip local-dir:BUNDLE -o DIR",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), "{}").unwrap();
        fs::write(folder.path().join(file), "").unwrap();
        let error = DualEncoder::open(folder.path()).unwrap_err();
        assert_says(&error.to_string(), &["not a model bundle", file]);
        let hint = error.hint().unwrap();
        let hint = hint.replace(folder.path().to_str().unwrap(), "BUNDLE");
        assert_says(
            &hint,
            &[
                "weights of PyTorch",
                &format!("python onnx/export.py {command}"),
            ],
        );
    }
}

#[test]
fn missing_files_are_named_with_what_they_state() {
    let remove =
        |file: &'static str| move |folder: &Path| fs::remove_file(folder.join(file)).unwrap();
    let lacks = |name, file| message(name, remove(file));
    assert_says(
        &lacks("transformers-clip", "preprocessor_config.json"),
        &[
            "BUNDLE: bundle lacks preprocessor_config.json or processor_config.json, which states how images are prepared",
        ],
    );
    assert_says(
        &lacks("transformers-clip", "tokenizer.json"),
        &["lacks tokenizer.json, which states the vocabulary"],
    );
    assert_says(
        &lacks("immich", "visual/preprocess_cfg.json"),
        &["lacks visual/preprocess_cfg.json"],
    );
    assert_says(
        &lacks("open-clip", "open_clip_config.json"),
        &["lacks open_clip_config.json or"],
    );
}

#[test]
fn missing_weights_are_named() {
    let data = |folder: &Path| {
        let files = fs::read_dir(folder.join("onnx"))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let data: Vec<_> = files
            .filter(|path| path.extension().is_some_and(|end| end != "onnx"))
            .collect();
        assert_eq!(data.len(), 1, "{data:?}");
        fs::remove_file(&data[0]).unwrap();
    };
    assert_says(
        &message("transformers-clip-external", data),
        &["lacks onnx/vision_model.onnx", "the weights of a graph"],
    );
}

#[test]
fn damaged_graphs_are_named() {
    for length in [0, 10, 1000] {
        let cut = |folder: &Path| {
            let path = folder.join("onnx/text_model.onnx");
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..length]).unwrap();
        };
        assert_says(
            &message("transformers-clip", cut),
            &[
                "BUNDLE/onnx/text_model.onnx: graph cannot be loaded",
                "damaged or cut off",
            ],
        );
    }
    let pointer = |folder: &Path| {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n";
        fs::write(folder.join("visual.onnx"), pointer).unwrap();
    };
    assert_says(
        &message("open-clip", pointer),
        &["BUNDLE/visual.onnx: graph cannot be loaded"],
    );
}

#[test]
fn unknown_values_are_answered_with_the_known_ones() {
    let config = "preprocessor_config.json";
    let spoil = |file: &'static str, from: &'static str, to: &'static str| {
        move |folder: &Path| replace(&folder.join(file), from, to)
    };
    assert_says(
        &message("transformers-clip", |folder| {
            let path = folder.join(config);
            let mut json: serde_json::Value =
                serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            json["resample"] = 9.into();
            fs::write(&path, json.to_string()).unwrap();
        }),
        &["BUNDLE/preprocessor_config.json: resample is 9, expected 0 nearest, 1 lanczos"],
    );
    assert_says(
        &message(
            "transformers-clip",
            spoil(config, "CLIPImageProcessor", "DreamImageProcessor"),
        ),
        &[
            "image_processor_type is \"DreamImageProcessor\"",
            "expected one of CLIPImageProcessor",
        ],
    );
    assert_says(
        &message(
            "open-clip-squash",
            spoil("open_clip_config.json", "\"squash\"", "\"stretch\""),
        ),
        &["preprocess_cfg.resize_mode is \"stretch\", expected one of shortest, longest, squash"],
    );
    assert_says(
        &message(
            "immich-canonicalize",
            spoil("visual/preprocess_cfg.json", "\"squash\"", "\"longest\""),
        ),
        &["resize_mode is \"longest\", expected one of shortest, squash"],
    );
    assert_says(
        &message(
            "siglip",
            spoil("diptych.json", "logit_scale", "logit_scael"),
        ),
        &[
            "BUNDLE/diptych.json: logit_scael is",
            "expected no key but logit_scale",
        ],
    );
    assert_says(
        &message("transformers-clip", |folder| {
            fs::write(folder.join("config.json"), "{\"a\": 1,}").unwrap();
        }),
        &["BUNDLE/config.json: not valid JSON", "line 1"],
    );
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let other = |folder: &Path| {
        fs::copy(
            golden("clip-tokenizer/tokenizer.json"),
            folder.join("tokenizer.json"),
        )
        .unwrap();
    };
    assert_says(
        &message("transformers-clip", other),
        &[
            "tokenizer.json: vocabulary is of 49408 ids, expected at most",
            "this tokenizer is of another model",
        ],
    );
    let text = |folder: &Path| fs::write(folder.join("tokenizer.json"), "no tokenizer").unwrap();
    assert_says(
        &message("transformers-clip", text),
        &["BUNDLE/tokenizer.json: tokenizer cannot be used"],
    );
}

#[test]
fn a_tokenizer_cut_off_anywhere_is_named() {
    for part in 1..20 {
        let cut = |folder: &Path| {
            let path = folder.join("tokenizer.json");
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() * part / 20]).unwrap();
        };
        assert_says(
            &message("transformers-clip", cut),
            &["BUNDLE/tokenizer.json: tokenizer cannot be used"],
        );
    }
}

#[test]
fn a_context_without_room_for_a_text_is_refused() {
    for length in [1, 2] {
        let short = |folder: &Path| {
            let json = format!("{{\"text\": {{\"context_length\": {length}}}}}");
            fs::write(folder.join("diptych.json"), json).unwrap();
        };
        for name in ["transformers-clip", "open-clip"] {
            assert_says(
                &message(name, short),
                &["has no room beside 2 start and end tokens"],
            );
        }
    }
}

#[test]
fn figures_that_would_end_in_no_number_are_refused() {
    let write = |json: &'static str| {
        move |folder: &Path| fs::write(folder.join("diptych.json"), json).unwrap()
    };
    let said = |json| message("transformers-clip", write(json));
    assert_says(
        &said("{\"logit_scale\": 1e39}"),
        &["logit_scale is 1e+39, expected a number above 0"],
    );
    assert_says(&said("{\"logit_bias\": -1e39}"), &["logit_bias is -1e+39"]);
    assert_says(
        &said("{\"image\": {\"std\": [0, 1, 1]}}"),
        &["image.std is [0,1,1], expected three numbers above 0"],
    );
}

#[test]
fn a_bar_that_is_no_cosine_and_templates_without_place_are_refused() {
    let said = |json: &'static str| {
        message("transformers-clip", |folder| {
            fs::write(folder.join("diptych.json"), json).unwrap();
        })
    };
    for (json, found) in [
        (
            r#"{"none_below": 1.5}"#,
            "none_below is 1.5, expected a cosine",
        ),
        (
            r#"{"none_below": -25}"#,
            "none_below is -25, expected a cosine",
        ),
        (
            r#"{"none_below": "0.2"}"#,
            "none_below is \"0.2\", expected a number",
        ),
        (
            r#"{"templates": []}"#,
            "templates is [], expected at least one string",
        ),
        (
            r#"{"templates": ["a {}.", "a photo."]}"#,
            "templates is [\"a {}.\",\"a photo.\"], expected at least one string, each with {}",
        ),
        (
            r#"{"templates": ["a {}.", 3]}"#,
            "templates is [\"a {}.\",3], expected a list of strings",
        ),
        (
            r#"{"templates": "a {}."}"#,
            "templates is \"a {}.\", expected a list of strings",
        ),
    ] {
        assert_says(&said(json), &["BUNDLE/diptych.json: ", found]);
    }
}

/// One `model.onnx` has the towers that its graph has inputs for.
#[test]
fn one_graph_of_one_tower_is_a_bundle() {
    for (graph, other) in [
        ("vision_model", "tokenizer.json"),
        ("text_model", "preprocessor_config.json"),
    ] {
        let folder = copy_bundle("transformers-clip");
        let onnx = folder.path().join("onnx");
        fs::rename(
            onnx.join(format!("{graph}.onnx")),
            folder.path().join("model.onnx"),
        )
        .unwrap();
        fs::remove_dir_all(onnx).unwrap();
        fs::remove_file(folder.path().join(other)).unwrap();
        let encoder = DualEncoder::open(folder.path()).unwrap();
        let is_image = graph == "vision_model";
        assert_eq!(
            (encoder.image_tower().is_ok(), encoder.text_tower().is_ok()),
            (is_image, !is_image)
        );
    }
}

#[test]
fn graphs_in_each_others_place_are_refused() {
    let swap = |folder: &Path| {
        fs::copy(
            folder.join("onnx/text_model.onnx"),
            folder.join("onnx/vision_model.onnx"),
        )
        .unwrap();
    };
    assert_says(
        &message("transformers-clip", swap),
        &[
            "onnx/vision_model.onnx: graph has inputs input_ids",
            "expected one of pixels (float, 4 axes)",
        ],
    );
}

#[test]
fn a_size_that_the_graph_does_not_take_is_refused() {
    let size = |folder: &Path| {
        fs::write(
            folder.join("diptych.json"),
            r#"{"image": {"size": 30, "resize": "shortest"}}"#,
        )
        .unwrap();
    };
    let said = message("immich", size);
    assert_says(
        &said,
        &[
            "visual/model.onnx: graph has input",
            "expected images of 30 x 30, as the bundle's configs say",
        ],
    );
}

#[test]
fn towers_of_different_models_are_refused() {
    let other = |folder: &Path| {
        let text = common::root("onnx/tiny/onnx/text_model.onnx");
        fs::copy(text, folder.join("onnx/text_model.onnx")).unwrap();
    };
    let said = message("transformers-clip", other);
    assert_says(
        &said,
        &[
            "BUNDLE: the image tower gives rows of width",
            "the text tower of width",
        ],
    );
}

#[test]
fn a_graph_that_gives_no_number_is_an_error_never_a_row() {
    let folder = copy_bundle("transformers-clip-external");
    let data = fs::read_dir(folder.path().join("onnx"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let data = data
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end != "onnx"))
        .unwrap();
    let length = fs::metadata(&data).unwrap().len() as usize;
    // As f32, all bits set is NaN.
    fs::write(&data, vec![0xff; length]).unwrap();

    let encoder = DualEncoder::open(folder.path()).unwrap();
    let image = image::RgbImage::from_pixel(40, 40, image::Rgb([90, 120, 30]));
    let error = encoder.encode_images(&[image]).unwrap_err();
    assert!(
        matches!(
            error,
            Error::NoRow {
                item: 1,
                count: 1,
                ..
            }
        ),
        "{error}"
    );
    assert_says(
        &error.to_string(),
        &["graph gave no embedding for item 1 of 1", "not finite"],
    );
}

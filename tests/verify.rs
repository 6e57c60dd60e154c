//! `diptych verify`: a bundle passes against a record of itself, and each planted fault is named with its stage.

mod common;

use std::process::{Command, Output};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use common::{copy_bundle, golden, list, root, stderr};
use diptych::verify::{Comparison, Record, Verdict, compare};
use diptych::{Bundle, DualEncoder, Filter, ImageOptions, Reference, open_image};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::Path;

/// How far from cosine 1 a row may be, as the program has it by default.
const TOLERANCE: f64 = 1e-5;

fn bundles() -> Vec<String> {
    let name = |about: &Value| about["bundle"].as_str().unwrap().to_owned();
    list(&golden("expected/bundles.json"))
        .iter()
        .map(name)
        .collect()
}

fn verify(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_diptych"))
        .env_remove("DIPTYCH_MODEL")
        .arg("verify")
        .args(arguments)
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn every_bundle_equals_its_own_record() {
    let folder = tempfile::tempdir().unwrap();
    let names = bundles();
    assert!(names.len() >= 15);
    for name in names {
        let encoder = DualEncoder::open(golden("bundles").join(&name)).unwrap();
        let file = folder.path().join("record.json");
        Record::of(&encoder).unwrap().write(&file).unwrap();
        let record = Record::read(&file).unwrap();
        assert!(record.made_by().contains("diptych"), "{name}");
        let comparison = compare(&encoder, &record, TOLERANCE).unwrap();
        assert!(comparison.is_equal(), "{name}: {comparison:?}");
        assert_eq!(comparison.remarks, [""; 0], "{name}");
        let compared = |stage: &str| {
            let mut stages = comparison.stages.iter();
            let stage = stages.find(|found| found.name.name() == stage).unwrap();
            stage.verdict == Verdict::Equal
        };
        let has = [encoder.image_tower().is_ok(), encoder.text_tower().is_ok()];
        assert_eq!(
            [compared("image rows"), compared("text rows")],
            has,
            "{name}"
        );
        assert_eq!([compared("pixels"), compared("ids")], has, "{name}");
    }
}

#[test]
fn the_program_records_and_compares() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("record.json");
    let file = file.to_str().unwrap();
    let model = golden("bundles/siglip");
    let model = model.to_str().unwrap();

    let recorded = verify(&[model, "--record", file, "--json"]);
    assert_eq!(recorded.status.code(), Some(0), "{}", stderr(&recorded));
    assert_eq!(json(&recorded)["record"], file);

    let compared = verify(&["--model", model, "--against", file, "--json"]);
    assert_eq!(compared.status.code(), Some(0), "{}", stderr(&compared));
    let report = json(&compared);
    assert_eq!(report["equal"], true);
    assert_eq!(report["first_difference"], Value::Null);
    assert_eq!(report["stages"].as_array().unwrap().len(), 5);
}

#[test]
fn a_model_without_the_records_tower_is_not_equal() {
    let record = |name: &str| {
        let encoder = DualEncoder::open(golden("bundles").join(name)).unwrap();
        (Record::of(&encoder).unwrap(), encoder)
    };
    let (images_alone, encoder) = record("open-clip-longest");
    let texts_alone: Value = serde_json::to_value(record("siglip").0).unwrap();
    let mut texts_alone = texts_alone;
    texts_alone["images"] = Value::Null;
    texts_alone["activation"] = Value::Null;
    let texts_alone: Record = serde_json::from_value(texts_alone).unwrap();
    let both = record("siglip").0;
    let comparison = compare(&encoder, &both, TOLERANCE).unwrap();
    assert!(!comparison.is_equal());
    let of_texts = comparison
        .stages
        .iter()
        .find(|stage| stage.name.name() == "text rows");
    assert_eq!(of_texts.unwrap().detail, "the model has no texts");
    assert!(
        compare(&encoder, &images_alone, TOLERANCE)
            .unwrap()
            .is_equal()
    );
    assert!(
        !compare(&encoder, &texts_alone, TOLERANCE)
            .unwrap()
            .is_equal()
    );
}

#[test]
fn records_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("record.json");
    let encoder = DualEncoder::open(golden("bundles/open-clip")).unwrap();
    let whole = serde_json::to_value(Record::of(&encoder).unwrap()).unwrap();
    let model = golden("bundles/open-clip");
    for (pointer, value, said) in [
        ("/format", Value::from(2), "format is 2, expected 1"),
        (
            "/images/3/picture",
            Value::from("00"),
            "another version's pictures",
        ),
        (
            "/images/0/pixels",
            Value::from("AAAA"),
            "images.rings.pixels is 3, expected 3072",
        ),
        (
            "/images/0/values",
            Value::from("AAAA"),
            "images.rings.values is 3, expected 768",
        ),
        (
            "/images/2/height",
            Value::from(33),
            "images.colours is 33 x 32 pixels",
        ),
        (
            "/texts/0/padding/length",
            Value::from(1_u64 << 40),
            "a length of 65536 at most",
        ),
        (
            "/images/1/row",
            Value::from(Vec::<f32>::new()),
            "images.strip.row",
        ),
        (
            "/texts/0/text",
            Value::from("a photo of a dog"),
            "texts of this version",
        ),
        ("/texts/2/row/0", Value::from("x"), "not valid JSON"),
        ("/texts/1/row", Value::from(vec![0.0, 0.0]), "all zeros"),
        (
            "/texts/1/row",
            json!([1.0, 0.0]),
            "is 2, expected 24 values, as the first row has",
        ),
        (
            "/activation",
            json!("softplus"),
            "activation is softplus, expected one of softmax, sigmoid",
        ),
        (
            "/scale",
            json!(0.0),
            "scale is 0, expected a number above 0, or null",
        ),
        ("/scale", json!(-4.5), "scale is -4.5"),
        (
            "/texts",
            without_ids(&whole["texts"]),
            "texts.ids is none in any text",
        ),
    ] {
        let mut changed = whole.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        std::fs::write(&file, changed.to_string()).unwrap();
        let output = verify(&[model.to_str().unwrap(), "--against", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{pointer}");
        assert!(
            stderr(&output).contains(said),
            "{pointer}: {}",
            stderr(&output)
        );
        assert!(output.stdout.is_empty());
    }
}

/// Texts of a record that lost their ids.
fn without_ids(texts: &Value) -> Value {
    let mut texts = texts.clone();
    for text in texts.as_array_mut().unwrap() {
        text["ids"] = json!([]);
    }
    texts
}

/// A golden bundle's record, as JSON, and as what it is.
fn record_of(bundle: &str) -> Record {
    Record::of(&DualEncoder::open(golden("bundles").join(bundle)).unwrap()).unwrap()
}

/// Changes a JSON file of a bundle.
fn edit(folder: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|_| "{}".to_owned());
    let mut value = serde_json::from_str(&text).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// A copy of a golden bundle with a fault planted, beside the record of the right bundle.
fn planted(bundle: &str, plant: impl FnOnce(&Path)) -> Comparison {
    let copy = copy_bundle(bundle);
    plant(copy.path());
    let encoder = DualEncoder::open(copy.path()).unwrap();
    compare(&encoder, &record_of(bundle), TOLERANCE).unwrap()
}

/// Fails unless `stage` differs first, and the causes are of these kinds, in this order, with these words.
fn assert_found(comparison: &Comparison, stage: &str, causes: &[(&str, &str)]) {
    let first = comparison.first_difference().map(|stage| stage.name.name());
    assert_eq!(first, Some(stage), "{comparison:#?}");
    let kinds: Vec<&str> = comparison
        .causes
        .iter()
        .map(|cause| cause.kind.name())
        .collect();
    let expected: Vec<&str> = causes.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, expected, "{comparison:#?}");
    for (cause, (_, words)) in comparison.causes.iter().zip(causes) {
        assert!(
            cause.explanation.contains(words),
            "{words}: {}",
            cause.explanation
        );
    }
}

const ROWS_TOO: &str = "put right, the image rows are the record's too";

#[test]
fn mean_and_std_exchanged() {
    let found = planted("transformers-clip", |folder| {
        edit(folder, "preprocessor_config.json", |config| {
            config["image_mean"] = json!([0.5, 0.5, 0.5]);
            config["image_std"] = json!([0.5, 0.5, 0.5]);
        });
    });
    assert_found(
        &found,
        "pixels",
        &[("mean and std", "0.4815, 0.4578, 0.4082")],
    );
    assert!(
        found.causes[0]
            .explanation
            .contains("(OpenAI's), the bundle's of mean 0.5000")
    );
    assert!(
        found.causes[0].explanation.ends_with(ROWS_TOO),
        "{found:#?}"
    );
    assert!(
        found.stages[1]
            .detail
            .contains("every level; the values made of them differ by up to")
    );

    let found = planted("siglip", |folder| {
        edit(folder, "diptych.json", |config| {
            config["image"] = json!({"mean": [0.48145466, 0.4578275, 0.40821073]});
        });
    });
    assert_found(&found, "pixels", &[("mean and std", "(0.5 everywhere)")]);
}

#[test]
fn another_filter() {
    let found = planted("transformers-clip", |folder| {
        edit(folder, "preprocessor_config.json", |config| {
            config["resample"] = json!(2);
        });
    });
    assert_found(
        &found,
        "pixels",
        &[("filter", "bicubic in place of bilinear gives every level")],
    );
    assert!(
        found.causes[0].explanation.ends_with(ROWS_TOO),
        "{found:#?}"
    );
    assert!(
        found.stages[1]
            .detail
            .contains("% of levels differ, in 9 of 9 pictures")
    );

    let found = planted("immich-canonicalize", |folder| {
        edit(folder, "visual/preprocess_cfg.json", |config| {
            config["interpolation"] = json!("bicubic");
        });
    });
    assert_found(
        &found,
        "pixels",
        &[("filter", "bilinear in place of bicubic gives every level")],
    );
}

#[test]
fn squash_for_crop_and_crop_for_squash() {
    let found = planted("transformers-clip", |folder| {
        edit(folder, "preprocessor_config.json", |config| {
            config["size"] = json!({"height": 32, "width": 32});
            config["do_center_crop"] = json!(false);
        });
    });
    let words =
        "shortest side to 32 and crop to 32 x 32 in place of squash to 32 x 32 gives every level";
    assert_found(&found, "pixels", &[("resize", words)]);
    assert!(
        found.causes[0].explanation.ends_with(ROWS_TOO),
        "{found:#?}"
    );

    let found = planted("siglip", |folder| {
        edit(folder, "diptych.json", |config| {
            config["image"] = json!({"size": 32, "resize": "shortest"});
        });
    });
    assert_found(
        &found,
        "pixels",
        &[("resize", "squash to 32 x 32 in place of shortest side")],
    );
}

#[test]
fn another_resize_mode() {
    let mode = |folder: &Path, mode: &str| {
        edit(folder, "open_clip_config.json", |config| {
            config["preprocess_cfg"]["resize_mode"] = json!(mode);
        });
    };
    let found = planted("open-clip", |folder| mode(folder, "longest"));
    assert_found(
        &found,
        "pixels",
        &[(
            "resize",
            "shortest side to 32 and crop to 32 x 32 in place of longest side",
        )],
    );
    let found = planted("open-clip-longest", |folder| mode(folder, "shortest"));
    assert_found(
        &found,
        "pixels",
        &[(
            "resize",
            "longest side into 40 x 40 on level 114 in place of",
        )],
    );
    let found = planted("open-clip-longest", |folder| {
        edit(folder, "open_clip_config.json", |config| {
            config["preprocess_cfg"]["fill_color"] = json!(0);
        });
    });
    assert_found(
        &found,
        "pixels",
        &[(
            "resize",
            "on level 114 in place of longest side into 40 x 40 on level 0",
        )],
    );
}

#[test]
fn another_size() {
    let found = planted("transformers-clip-legacy", |folder| {
        edit(folder, "preprocessor_config.json", |config| {
            config["size"] = json!(32);
        });
    });
    let words = "shortest side to 40 and crop to 32 x 32 in place of shortest side to 32";
    assert_found(&found, "pixels", &[("resize", words)]);

    // A model of images alone, and of another side, mean and std.
    let encoder = DualEncoder::open(golden("bundles/open-clip-longest")).unwrap();
    let found = compare(&encoder, &record_of("open-clip"), TOLERANCE).unwrap();
    let words = "shortest side to 32 and crop to 32 x 32 in place of longest side into 40 x 40";
    let causes = [
        ("size", words),
        ("mean and std", "(OpenAI's)"),
        ("scale", "write \"logit_scale\": 50"),
    ];
    assert_found(&found, "ids", &causes);
    assert_eq!(
        found.stages[1].detail,
        "40 x 40 pixels, in the record 32 x 32"
    );
}

/// Two faults in the pixels and one of another kind, all found in one run.
#[test]
fn faults_at_once() {
    let found = planted("open-clip", |folder| {
        edit(folder, "open_clip_config.json", |config| {
            config["preprocess_cfg"]["resize_mode"] = json!("squash");
            config["preprocess_cfg"]["interpolation"] = json!("bilinear");
            config["preprocess_cfg"]["std"] = json!([0.5, 0.5, 0.5]);
        });
        edit(folder, "diptych.json", |config| {
            config["logit_scale"] = json!(51.0);
        });
    });
    let causes = [
        ("resize", "shortest side"),
        ("filter", "bicubic in place of bilinear"),
        ("mean and std", ROWS_TOO),
        ("scale", "should be 50"),
    ];
    assert_found(&found, "pixels", &causes);
}

/// `tokenizer.json` without the end token.
fn without_end(folder: &Path) {
    edit(folder, "tokenizer.json", |tokenizer| {
        tokenizer["post_processor"] = Value::Null;
    });
}

#[test]
fn no_end_token() {
    let found = planted("siglip", without_end);
    assert_found(
        &found,
        "ids",
        &[(
            "end token",
            "end token 1 in place of none gives the record's ids",
        )],
    );
    assert!(
        found.causes[0]
            .explanation
            .ends_with("the graph gives the record's rows"),
        "{found:#?}"
    );

    let found = planted("transformers-clip", |folder| {
        edit(folder, "tokenizer.json", |tokenizer| {
            tokenizer["post_processor"] = json!({
                "type": "TemplateProcessing",
                "single": [
                    {"SpecialToken": {"id": "<|startoftext|>", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                ],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                "special_tokens": {
                    "<|startoftext|>": {"id": "<|startoftext|>", "ids": [1512], "tokens": ["<|startoftext|>"]},
                },
            });
        });
    });
    assert_found(
        &found,
        "ids",
        &[(
            "end token",
            "end token 1513 in place of none gives the record's ids",
        )],
    );
}

#[test]
fn another_context_cleaning_or_vocabulary() {
    let found = planted("transformers-clip", |folder| {
        edit(folder, "diptych.json", |config| {
            config["text"] = json!({"context_length": 24});
        });
    });
    let words = "a context of 77 in place of 24 gives the record's ids";
    assert_found(
        &found,
        "ids",
        &[
            ("context length", words),
            ("padding", "to 77 in place of with id 1513 to 24"),
        ],
    );

    let found = planted("open-clip", |folder| {
        edit(folder, "diptych.json", |config| {
            config["text"] = json!({"clean": "whitespace"});
        });
    });
    assert_found(
        &found,
        "ids",
        &[("cleaning", "open_clip's lower gives the record's ids")],
    );

    let found = planted("transformers-clip", |folder| {
        edit(folder, "tokenizer.json", |tokenizer| {
            for (_, id) in tokenizer["model"]["vocab"].as_object_mut().unwrap() {
                let other = 1511 - id.as_i64().unwrap();
                *id = json!(if other < 0 {
                    id.as_i64().unwrap()
                } else {
                    other
                });
            }
        });
    });
    assert_found(
        &found,
        "ids",
        &[("vocabulary", "of another model than the record's tokenizer")],
    );
}

#[test]
fn padding_that_the_graph_sees() {
    let pad = |folder: &Path, id: u32| {
        edit(folder, "diptych.json", |config| {
            config["text"] = json!({"pad_id": id});
        });
    };
    let found = planted("siglip", |folder| pad(folder, 0));
    assert_found(
        &found,
        "ids",
        &[("padding", "with id 1 to 16 in place of with id 0 to 16")],
    );
    assert!(
        found.causes[0]
            .explanation
            .ends_with("the graph gives the record's rows")
    );
    assert!(
        found.stages[0]
            .detail
            .contains("the texts' own ids are equal")
    );

    let found = planted("open-clip-squash", |folder| pad(folder, 1513));
    assert_found(
        &found,
        "ids",
        &[("padding", "with id 0 to 20 in place of with id 1513 to 20")],
    );

    // A record that does not say how it was padded, as of a program that leaves that to its model.
    let mut record = serde_json::to_value(record_of("siglip")).unwrap();
    for text in record["texts"].as_array_mut().unwrap() {
        text["padding"] = Value::Null;
    }
    let copy = copy_bundle("siglip");
    pad(copy.path(), 0);
    let encoder = DualEncoder::open(copy.path()).unwrap();
    let record = serde_json::from_value(record).unwrap();
    let found = compare(&encoder, &record, TOLERANCE).unwrap();
    assert_found(
        &found,
        "text rows",
        &[(
            "padding",
            "rows with padding with id 1 to 16, here it is with id 0 to 16",
        )],
    );
}

/// A causal model does not see what follows its end token: that is worth a remark and no more.
#[test]
fn padding_that_the_graph_does_not_see() {
    let found = planted("transformers-clip", |folder| {
        edit(folder, "diptych.json", |config| {
            config["text"] = json!({"pad_id": 0});
        });
    });
    assert!(found.is_equal(), "{found:#?}");
    assert_eq!(
        found.remarks,
        ["padding is with id 0 to 77, in the record with id 1513 to 77, which changes no row"]
    );
}

#[test]
fn weights_of_another_layout() {
    let copy = |from: &str, folder: &Path, to: &str| {
        std::fs::copy(golden("bundles").join(from), folder.join(to)).unwrap();
    };
    let found = planted("transformers-clip", |folder| {
        copy("open-clip/visual.onnx", folder, "onnx/vision_model.onnx");
    });
    assert_found(&found, "image rows", &[("weights", "other weights")]);
    let found = planted("transformers-clip", |folder| {
        copy("open-clip/text.onnx", folder, "onnx/text_model.onnx");
    });
    assert_found(&found, "text rows", &[("weights", "other weights")]);
}

#[test]
fn another_scale() {
    let scale = |scale: Value| {
        planted("transformers-clip", move |folder: &Path| {
            edit(folder, "diptych.json", |config| *config = scale);
        })
    };
    for (head, words) in [
        (
            json!({"logit_scale": 41.0}),
            "\"logit_scale\" in diptych.json should be 40",
        ),
        (
            json!({"logit_scale": 3.688_879_5}),
            "3.6888795 is the logarithm of the record's 40",
        ),
        (json!({}), "no file states it: write \"logit_scale\": 40"),
        (
            json!({"logit_scale": 40.0, "activation": "sigmoid", "logit_bias": 0.0}),
            "write \"activation\": \"softmax\"",
        ),
        (
            json!({"logit_scale": 40.0, "logit_bias": -3.0}),
            "write \"logit_bias\": 0",
        ),
    ] {
        assert_found(&scale(head), "scale", &[("scale", words)]);
    }
}

/// A record with the three planes of what its graph is fed in the other order, and the rows that come of it.
fn bgr_record(bundle: &str, has_pixels: bool, has_values: bool) -> (DualEncoder, Record) {
    let encoder = DualEncoder::open(golden("bundles").join(bundle)).unwrap();
    let mut record = serde_json::to_value(Record::of(&encoder).unwrap()).unwrap();
    let turned = |value: &mut Value, size: usize| {
        let mut bytes = BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap();
        for pixel in bytes.chunks_exact_mut(3 * size) {
            let (red, rest) = pixel.split_at_mut(size);
            red.swap_with_slice(&mut rest[size..]);
        }
        *value = json!(BASE64_STANDARD.encode(bytes));
    };
    for image in record["images"].as_array_mut().unwrap() {
        let name = image["name"].as_str().unwrap();
        let path =
            ["png", "jpg"].map(|ending| root("src/verify/probes").join(format!("{name}.{ending}")));
        let path = path.iter().find(|path| path.is_file()).unwrap();
        let mut picture = open_image(path, &ImageOptions::default()).unwrap();
        picture.pixels_mut().for_each(|pixel| pixel.0.swap(0, 2));
        image["row"] = json!(encoder.encode_images(&[picture]).unwrap().row(0));
        if has_pixels {
            turned(&mut image["pixels"], 1);
            // All of a picture of 32 x 32 pixels is kept.
            let pixels = BASE64_STANDARD
                .decode(image["pixels"].as_str().unwrap())
                .unwrap();
            let digits = Sha256::digest(pixels)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>();
            image["hash"] = json!(digits);
        }
        if has_values {
            turned(&mut image["values"], 4);
        }
    }
    (encoder, serde_json::from_value(record).unwrap())
}

/// In the pixels, in the values alone, in what the graph does with them. Mean and std are 0.5 in every channel here.
#[test]
fn blue_before_red() {
    for (has_pixels, has_values, stage, words) in [
        (
            true,
            true,
            "pixels",
            "BGR in place of RGB gives every level of the record",
        ),
        (false, true, "pixels", "fed blue before red"),
        (
            false,
            false,
            "image rows",
            "fed with blue before red, the graph gives the record's rows",
        ),
    ] {
        let (encoder, record) = bgr_record("siglip", has_pixels, has_values);
        let found = compare(&encoder, &record, TOLERANCE).unwrap();
        assert_found(&found, stage, &[("order of channels", words)]);
        if stage == "pixels" {
            assert!(
                found.causes[0].explanation.ends_with(ROWS_TOO),
                "{found:#?}"
            );
        }
    }
}

/// A graph that is fed as the record says and gives the rows of pictures that are normalised otherwise.
#[test]
fn a_graph_that_normalises_itself() {
    let copy = copy_bundle("siglip");
    edit(copy.path(), "diptych.json", |config| {
        config["image"] = json!({
            "mean": [0.48145466, 0.4578275, 0.40821073],
            "std": [0.26862954, 0.26130258, 0.27577711],
        });
    });
    let others = Record::of(&DualEncoder::open(copy.path()).unwrap()).unwrap();
    let others = serde_json::to_value(others).unwrap();
    let found = changed("siglip", |record| {
        for image in 0..record["images"].as_array().unwrap().len() {
            record["images"][image]["row"] = others["images"][image]["row"].clone();
        }
    });
    assert_found(
        &found,
        "image rows",
        &[("mean and std", "fed with mean and std of OpenAI's")],
    );
}

/// The right bundle beside a changed record of itself.
fn changed(bundle: &str, change: impl FnOnce(&mut Value)) -> Comparison {
    let encoder = DualEncoder::open(golden("bundles").join(bundle)).unwrap();
    let mut record = serde_json::to_value(Record::of(&encoder).unwrap()).unwrap();
    change(&mut record);
    compare(
        &encoder,
        &serde_json::from_value(record).unwrap(),
        TOLERANCE,
    )
    .unwrap()
}

/// Rows that nothing explains are of other weights, the nearer the more alike.
#[test]
fn rows_that_nothing_explains() {
    let found = changed("open-clip", |record| {
        for key in ["images", "texts"] {
            for item in record[key].as_array_mut().unwrap() {
                item["row"] = json!([1.0, 0.0]);
            }
        }
    });
    let width = ("weights", "rows of another width");
    assert_found(&found, "image rows", &[width, width]);
    assert_eq!(found.stages[2].detail, "24 wide, in the record 2");

    for (share, words) in [
        (0.05, "in another precision"),
        (0.5, "weights that are related"),
    ] {
        let found = changed("open-clip", |record| {
            for image in record["images"].as_array_mut().unwrap() {
                // A step of this length at a right angle, as far as two values can make one.
                let row = image["row"].as_array_mut().unwrap();
                let [a, b] = [0, 1].map(|place| row[place].as_f64().unwrap());
                let length = (a * a + b * b).sqrt();
                row[0] = json!(a - share * b / length);
                row[1] = json!(b + share * a / length);
            }
        });
        assert_found(&found, "image rows", &[("weights", words)]);
    }
}

/// A text that is too long keeps its end token here; a program that cuts behind it loses it.
#[test]
fn texts_cut_behind_their_end_token() {
    let found = changed("open-clip", |record| {
        let long = record["texts"].as_array_mut().unwrap().iter_mut();
        let mut long = long.filter(|text| text["ids"].as_array().unwrap().len() == 77);
        long.next().unwrap()["ids"][76] = json!(320);
    });
    assert_found(
        &found,
        "ids",
        &[("end token", "cut before its end token, the other behind it")],
    );
    assert!(
        found.stages[0].detail.starts_with("1 of 16 texts; "),
        "{found:#?}"
    );
}

/// Pixels of no known way are not explained.
#[test]
fn pixels_of_no_known_way() {
    let encoder = DualEncoder::open(golden("bundles/open-clip")).unwrap();
    let mut record = serde_json::to_value(Record::of(&encoder).unwrap()).unwrap();
    record["images"][4]["pixels"] = json!(BASE64_STANDARD.encode([7; 3 * 32 * 32]));
    record["images"][4]["hash"] = json!("of one grey");
    let record = serde_json::from_value(record).unwrap();
    let found = compare(&encoder, &record, TOLERANCE).unwrap();
    assert_eq!(found.first_difference().unwrap().name.name(), "pixels");
    assert_eq!(found.causes[0].kind.name(), "unknown", "{found:#?}");
}

/// Levels that are off by one here and there are another program's resize, not another filter.
#[test]
fn pixels_that_come_near() {
    let encoder = DualEncoder::open(golden("bundles/open-clip")).unwrap();
    let mut record = serde_json::to_value(Record::of(&encoder).unwrap()).unwrap();
    for image in record["images"].as_array_mut().unwrap() {
        let mut pixels = BASE64_STANDARD
            .decode(image["pixels"].as_str().unwrap())
            .unwrap();
        for level in pixels.iter_mut().take(90).step_by(3) {
            *level ^= 1;
        }
        image["pixels"] = json!(BASE64_STANDARD.encode(pixels));
        image["hash"] = json!("of other pixels");
    }
    let record = serde_json::from_value(record).unwrap();
    let found = compare(&encoder, &record, TOLERANCE).unwrap();
    assert_found(
        &found,
        "pixels",
        &[("resampler", "1.0 % of levels differ, by 1 at most")],
    );
}

/// A record of sides that no model has is refused before anything of that size is made.
#[test]
fn sides_without_end_are_refused() {
    let mut record = serde_json::to_value(record_of("open-clip")).unwrap();
    for image in record["images"].as_array_mut().unwrap() {
        image["height"] = json!(4_000_000_000_u32);
    }
    let encoder = DualEncoder::open(golden("bundles/open-clip")).unwrap();
    let record: Record = serde_json::from_value(record).unwrap();
    let error = compare(&encoder, &record, TOLERANCE).unwrap_err();
    assert!(
        error.to_string().contains("expected 1 to 4096 pixels"),
        "{error}"
    );
}

/// Of a picture of 40 x 40 pixels a record keeps 32 x 32; the hash covers the rest.
#[test]
fn pixels_that_differ_where_none_are_kept() {
    let encoder = DualEncoder::open(golden("bundles/open-clip-longest")).unwrap();
    let mut record = serde_json::to_value(Record::of(&encoder).unwrap()).unwrap();
    record["images"][5]["hash"] = json!("of other pixels");
    let record = serde_json::from_value(record).unwrap();
    let found = compare(&encoder, &record, TOLERANCE).unwrap();
    assert_found(
        &found,
        "pixels",
        &[("resampler", "that the record does not keep")],
    );
    assert_eq!(
        found.stages[1].detail,
        "1 of 9 pictures differ, in less than one level of 27648"
    );
}

/// What the libraries themselves made of the PyTorch models that the bundles were exported from: `onnx/reference.py` of
/// checkpoints, `onnx/golden/records.py` of a bundle of every other family.
#[test]
fn bundles_equal_the_records_of_their_references() {
    let names = records();
    assert!(names.len() >= 28, "{names:?}");
    for name in names {
        let record = golden("records").join(format!("{name}.json"));
        let has = of_file(&record);
        let model = golden("bundles").join(&name);
        let output = against(&model, &record, &[]);
        let report = json(&output);
        assert_eq!(output.status.code(), Some(0), "{name}: {report:#}");
        assert_eq!(report["remarks"], json!([]), "{name}");
        let made_by = report["made_by"].as_str().unwrap();
        assert!(made_by.contains("torch") && !made_by.contains("diptych"));
        let [images, texts] = ["images", "texts"].map(|key| !has[key].is_null());
        let expected = [texts, images, images, texts, !has["scale"].is_null()];
        for (stage, is_there) in report["stages"].as_array().unwrap().iter().zip(expected) {
            let verdict = if is_there { "equal" } else { "not compared" };
            assert_eq!(stage["verdict"], verdict, "{name}: {report:#}");
        }
    }
}

/// None of those records is one that everything equals.
#[test]
fn no_record_of_a_reference_takes_another_filter() {
    for name in records() {
        let record = golden("records").join(format!("{name}.json"));
        let bundle = Bundle::open(golden("bundles").join(&name)).unwrap();
        let Some(images) = &bundle.image else {
            continue;
        };
        // Whose levels are floats, which no search for causes takes apart.
        if images.preprocess.reference == Reference::Torchvision {
            continue;
        }
        let other = match images.preprocess.filter {
            Filter::Bilinear => "bicubic",
            _ => "bilinear",
        };
        let copy = copy_bundle(&name);
        edit(copy.path(), "diptych.json", |config| {
            config["image"]["filter"] = json!(other);
        });
        let output = against(copy.path(), &record, &[]);
        let report = json(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {report:#}");
        assert_eq!(report["first_difference"], "pixels", "{name}");
        assert_eq!(report["causes"][0]["cause"], "filter", "{name}: {report:#}");
    }
}

/// The names of all records in tests/golden/records, which are those of bundles.
fn records() -> Vec<String> {
    let entries = std::fs::read_dir(golden("records")).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        path.file_stem().unwrap().to_str().unwrap().to_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

/// A record as JSON.
fn of_file(record: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap()
}

/// A model beside a record, by the program.
fn against(model: &Path, record: &Path, options: &[&str]) -> Output {
    let [model, record] = [model, record].map(|path| path.to_str().unwrap());
    let arguments = [model, "--against", record, "--json"];
    verify(&[&arguments, options].concat())
}

/// The same of image towers alone, of which one is fed with floats that never were levels.
#[test]
fn image_towers_alone_equal_the_records_of_their_references() {
    for name in ["vision-dinov2-registers", "vision-dinov3"] {
        let record = golden("records").join(format!("{name}.json"));
        let model = golden("bundles").join(name);
        let [model, record] = [&model, &record].map(|path| path.to_str().unwrap());
        let output = verify(&[model, "--against", record, "--json"]);
        let report = json(&output);
        assert_eq!(output.status.code(), Some(0), "{name}: {report:#}");
        assert!(report["made_by"].as_str().unwrap().contains("transformers"));
        for stage in [&report["stages"][1], &report["stages"][2]] {
            assert_eq!(stage["verdict"], "equal", "{name}: {report:#}");
        }
        let mean = verify(&[model, "--against", record, "--rows", "mean", "--json"]);
        assert_eq!(mean.status.code(), Some(1), "{name}");
        assert_eq!(json(&mean)["first_difference"], "image rows", "{name}");

        let copy = copy_bundle(name);
        edit(copy.path(), "preprocessor_config.json", |config| {
            config["image_mean"] = json!([0.5, 0.5, 0.5]);
        });
        let other = verify(&[copy.path().to_str().unwrap(), "--against", record, "--json"]);
        assert_eq!(other.status.code(), Some(1), "{name}");
        assert_eq!(json(&other)["first_difference"], "pixels", "{name}");
    }
}

/// Options of this run, of which the record was made without, or the other way round: named, and nothing else of what
/// follows from them.
#[test]
fn options_that_differ_are_named_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let recorded = |model: &str, options: &[&str]| {
        let file = folder.path().join("record.json");
        let bundle = golden("bundles").join(model);
        let [bundle, path] = [&bundle, &file].map(|path| path.to_str().unwrap());
        let output = verify(&[&[bundle, "--record", path], options].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        file
    };
    let first = |model: &str, made_with: &[&str], run_with: &[&str]| -> Value {
        let file = recorded(model, made_with);
        let model = golden("bundles").join(model);
        assert_eq!(against(&model, &file, made_with).status.code(), Some(0));
        named_alone(&against(&model, &file, run_with))
    };
    let made =
        |made: &str, run: &str| json!(format!("the record was made {made}, this run is {run}"));
    let prefix = ["--prefix", "a drawing: "];
    assert_eq!(
        first("open-clip", &prefix, &[]),
        made("with --prefix \"a drawing: \"", "without --prefix")
    );
    assert_eq!(
        first("open-clip", &[], &prefix),
        "with --prefix \"\" in place of \"a drawing: \" the ids are the record's"
    );
    assert_eq!(
        first("nllb-clip", &["--language", "fra_Latn"], &[]),
        made("with --language fra_Latn", "with --language eng_Latn")
    );
    assert_eq!(
        first("open-clip", &["--dim", "8"], &[]),
        made("with --dim 8", "without --dim")
    );
    assert_eq!(
        first("open-clip", &[], &["--dim", "8"]),
        "the record's rows cut to 8 values are those of this run: it was made without --dim, or with --dim 24"
    );
    assert_eq!(
        first("vision-dinov2", &["--rows", "mean"], &[]),
        made("with --rows mean", "with --rows cls")
    );
    assert_eq!(
        first("vision-siglip", &[], &["--rows", "mean"]),
        made("with --rows pooled", "with --rows mean")
    );
}

/// The same with records of the references, which state no options: what was done otherwise is found by trying.
#[test]
fn options_are_found_with_records_that_state_none() {
    for (name, options, said) in [
        (
            "open-clip",
            ["--dim", "8"],
            "those of this run: it was made without --dim",
        ),
        (
            "transformers-clip",
            ["--prefix", "a drawing: "],
            "with --prefix \"\" in place of \"a drawing: \"",
        ),
        (
            "nomic-text",
            ["--prefix", "search_document: "],
            "with --prefix \"search_query: \" in place of",
        ),
        (
            "nllb-clip",
            ["--language", "fra_Latn"],
            "with --language eng_Latn in place of fra_Latn",
        ),
        (
            "vision-dinov3",
            ["--rows", "mean"],
            "with --rows cls, in place of mean of last_hidden_state,",
        ),
    ] {
        let record = golden("records").join(format!("{name}.json"));
        let output = against(&golden("bundles").join(name), &record, &options);
        let why = named_alone(&output);
        assert!(why.as_str().unwrap().contains(said), "{name}: {why}");
    }
    let found = changed("open-clip", |record| {
        for key in ["images", "texts"] {
            for item in record[key].as_array_mut().unwrap() {
                item["row"].as_array_mut().unwrap().truncate(8);
            }
        }
    });
    let words = "cut to 8 values, the rows are the record's: it was made with --dim 8";
    assert_found(&found, "image rows", &[("options", words)]);
}

/// Why a model differs, where that is an option and nothing else.
fn named_alone(output: &Output) -> Value {
    let report = json(output);
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert_eq!(report["causes"].as_array().unwrap().len(), 1, "{report:#}");
    assert_eq!(report["causes"][0]["cause"], "options", "{report:#}");
    report["causes"][0]["why"].clone()
}

/// What people read names the first stage, the figures and the cause.
#[test]
fn people_read_what_differs_and_why() {
    let copy = copy_bundle("transformers-clip");
    edit(copy.path(), "preprocessor_config.json", |config| {
        config["resample"] = json!(2);
    });
    let record = golden("records/transformers-clip.json");
    let output = verify(&[
        copy.path().to_str().unwrap(),
        "--against",
        record.to_str().unwrap(),
    ]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(output.status.code(), Some(1));
    assert!(lines[0].starts_with("ids         equal "), "{text}");
    assert!(
        lines[1].starts_with("pixels      differs ") && lines[1].contains("% of levels differ"),
        "{text}"
    );
    assert!(
        lines[5].starts_with("cause in pixels: filter: bicubic in place of bilinear"),
        "{text}"
    );
    assert!(
        lines[6].starts_with("differs, first in pixels; the record was made by "),
        "{text}"
    );
}

/// What says the same in another way is equal: keys in another order, numbers for objects, defaults written out.
#[test]
fn a_config_that_says_the_same_passes() {
    let found = planted("transformers-clip", |folder| {
        edit(folder, "preprocessor_config.json", |config| {
            config["size"] = json!(32);
            config["crop_size"] = json!(32);
            config.as_object_mut().unwrap().remove("resample");
            let turned: Vec<(String, Value)> = std::mem::take(config.as_object_mut().unwrap())
                .into_iter()
                .collect();
            *config = turned.into_iter().rev().collect();
        });
        edit(folder, "diptych.json", |config| {
            config["image"] = json!({"filter": "bicubic", "resize": "shortest", "size": 32});
            config["activation"] = json!("softmax");
        });
    });
    assert!(found.is_equal(), "{found:#?}");
    assert_eq!(found.causes, []);
}

/// What holds of a bundle by itself, as `diptych verify` prints it.
fn self_check(model: &Path) -> (Option<i32>, Vec<(String, bool, String)>) {
    let output = verify(&[model.to_str().unwrap(), "--json"]);
    let report = json(&output);
    let checks = report["checks"].as_array().unwrap().iter();
    let checks = checks.map(|check| {
        let text = |key: &str| check[key].as_str().unwrap().to_owned();
        (
            text("check"),
            check["holds"].as_bool().unwrap(),
            text("detail"),
        )
    });
    let checks: Vec<_> = checks.collect();
    let holds = checks.iter().all(|(_, holds, _)| *holds);
    assert_eq!(report["holds"], holds);
    assert_eq!(
        output.status.code(),
        Some(i32::from(!holds)),
        "{}",
        stderr(&output)
    );
    (output.status.code(), checks)
}

#[test]
fn all_holds_of_the_bundled_model() {
    let (code, checks) = self_check(&root("onnx/tiny"));
    let names: Vec<&str> = checks.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "unit length",
            "repetition",
            "batches",
            "threads",
            "differences",
            "likeness",
            "captions"
        ]
    );
    assert_eq!(code, Some(0), "{checks:?}");
}

/// Random weights give steady rows that differ; that they mean nothing shows in the captions.
#[test]
fn random_weights_are_steady_and_know_no_captions() {
    for name in bundles() {
        let (_, checks) = self_check(&golden("bundles").join(&name));
        for (check, holds, detail) in &checks {
            match check.as_str() {
                "likeness" => (),
                "captions" => {
                    assert!(!holds, "{name}: {detail}");
                    assert!(
                        detail.contains("weights that were not trained"),
                        "{name}: {detail}"
                    );
                }
                _ => assert!(holds, "{name}: {check}: {detail}"),
            }
        }
        let encoder = DualEncoder::open(golden("bundles").join(&name)).unwrap();
        let has_both = encoder.image_tower().is_ok() && encoder.text_tower().is_ok();
        assert_eq!(
            checks.iter().any(|(check, ..)| check == "captions"),
            has_both,
            "{name}"
        );
    }
}

/// A trained model whose pictures come in nearly black is found out without a record.
#[test]
fn pictures_that_do_not_get_through_are_found_out() {
    let folder = tempfile::tempdir().unwrap();
    common::copy_folder(&root("onnx/tiny"), folder.path());
    edit(folder.path(), "diptych.json", |config| {
        config["image"] = json!({"std": [1e6, 1e6, 1e6]});
    });
    let (code, checks) = self_check(folder.path());
    assert_eq!(code, Some(1));
    let failing: Vec<&str> = checks
        .iter()
        .filter(|(_, holds, _)| !holds)
        .map(|(name, ..)| name.as_str())
        .collect();
    assert!(
        failing.contains(&"differences") && failing.contains(&"captions"),
        "{checks:?}"
    );
}

/// Graphs that were made with one fault each, by onnx/golden/faults.py, and two without.
#[test]
fn each_fault_fails_its_own_check() {
    for (fault, failing) in [
        ("none", &[] as &[&str]),
        ("double", &[]),
        ("batch", &["batches"]),
        ("chance", &["repetition", "batches"]),
        ("scramble", &["likeness"]),
    ] {
        let (_, checks) = self_check(&root("tests/data/faults").join(fault));
        let failed: Vec<&str> = checks
            .iter()
            .filter(|(_, holds, _)| !holds)
            .map(|(name, ..)| name.as_str())
            .collect();
        assert_eq!(failed, failing, "{fault}: {checks:?}");
    }
}

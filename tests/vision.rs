//! Image towers alone, and kinds of rows, as a user meets them: output, exit codes, messages.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{EXACT, assert_close, copy_bundle, golden, list, npy, root, stderr};
use diptych::{Bundle, DualEncoder, EncoderOptions, Error, Layout, Rows, pipeline};
use serde_json::{Value, json};
use tempfile::TempDir;

/// An image tower alone, with a class token and 2 × 3 patches.
const MODEL: &str = "vision-dinov2";

/// The program with a model and an index that is none of the user's.
fn diptych(model: &Path, index: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diptych"));
    command
        .env_remove("DIPTYCH_MODEL")
        .env("DIPTYCH_INDEX", index);
    command.arg("--model").arg(model).args(arguments);
    command.output().unwrap()
}

fn run(model: &str, arguments: &[&str]) -> Output {
    diptych(&golden("bundles").join(model), Path::new("none"), arguments)
}

fn lines(output: &Output) -> Vec<Value> {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// That a run could not be, and what it says.
fn assert_refused(output: &Output, said: &str) {
    let found = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{found}");
    assert!(found.contains(said), "expected {said:?}, found {found}");
    assert!(output.stdout.is_empty(), "{found}");
}

fn floats(values: &Value) -> Vec<f32> {
    let values = values.as_array().unwrap().iter();
    values.map(|value| value.as_f64().unwrap() as f32).collect()
}

/// The pictures of the corpus, as many as there are rows expected.
fn pictures() -> Vec<String> {
    let name = |about: Value| about["file"].as_str().unwrap().to_owned();
    let names = list(&golden("images.json")).into_iter().map(name);
    let paths = names.map(|name| golden("images").join(name).to_str().unwrap().to_owned());
    paths.collect()
}

fn photo(name: &str) -> String {
    root("assets/photos")
        .join(name)
        .to_str()
        .unwrap()
        .to_owned()
}

/// A copy of a bundle with `change` made to its config.json.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let folder = copy_bundle(name);
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(&path, config.to_string()).unwrap();
    folder
}

#[test]
fn patches_have_an_axis_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.npy");
    let mut arguments = vec!["embed", "--rows", "patches", "-o", file.to_str().unwrap()];
    let pictures = pictures();
    arguments.extend(pictures.iter().map(String::as_str));
    let output = run(MODEL, &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let found = npy::<f32>(&file);
    let expected = npy::<f32>(&golden("expected").join(MODEL).join("rows_patches.npy"));
    assert_eq!(found.shape(), expected.shape());
    assert_eq!(found.shape(), [pictures.len(), 6, 24]);
    let rows = |rows: &ndarray::ArrayD<f32>| rows.as_slice().unwrap().to_vec();
    for (found, expected) in rows(&found).chunks(24).zip(rows(&expected).chunks(24)) {
        assert_close(found, expected, EXACT, "patch");
    }
    let names = fs::read_to_string(file.with_extension("jsonl")).unwrap();
    assert_eq!(names.lines().count(), pictures.len());
}

#[test]
fn lines_hold_one_row_or_all_patches() {
    let photos = [photo("cat.jpg"), photo("dog.jpg")];
    let of = |kind: &str| {
        let output = run(MODEL, &["embed", "--rows", kind, &photos[0], &photos[1]]);
        lines(&output)
    };
    let patches = of("patches");
    let keys: Vec<_> = patches[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["embeddings", "grid", "path"]);
    assert_eq!(
        (&patches[1]["path"], &patches[1]["grid"]),
        (&json!(photos[1]), &json!([2, 3]))
    );
    let rows = patches[0]["embeddings"].as_array().unwrap();
    assert_eq!(rows.len(), 6);
    for row in rows {
        let row = floats(row);
        assert_close(&row, &row, EXACT, "unit length");
    }
    // DINOv2's own pooling is its class token's row; the mean of its patches is another.
    let [cls, pooled, mean] =
        ["cls", "pooled", "mean"].map(|kind| floats(&of(kind)[0]["embedding"]));
    assert_eq!(cls, pooled);
    assert_ne!(cls, mean);
    let own = run(MODEL, &["embed", &photos[0]]);
    assert_eq!(floats(&lines(&own)[0]["embedding"]), cls);
}

#[test]
fn kinds_that_make_no_sense_are_refused() {
    let cat = photo("cat.jpg");
    for (model, arguments, said) in [
        (
            MODEL,
            vec!["--rows", "average", &cat],
            "expected cls, mean, pooled or patches",
        ),
        (
            MODEL,
            vec!["--rows", "mean", "--text", "a cat"],
            "embed texts without it",
        ),
        (MODEL, vec!["--text", "a cat"], "bundle has no text tower"),
        (
            "transformers-clip",
            vec!["--rows", "mean", "--text", "a cat", &cat],
            "embed texts without it",
        ),
        (
            "transformers-clip",
            vec!["--rows", "mean", &cat],
            "expected an output last_hidden_state",
        ),
        (
            "combined",
            vec!["--rows", "pooled", &cat],
            "expected an output pooler_output",
        ),
        (
            "immich",
            vec!["--rows", "patches", &cat],
            "expected an output last_hidden_state",
        ),
        (
            "vision-siglip",
            vec!["--rows", "cls", &cat],
            "this one has none, take pooled, mean or patches",
        ),
        (
            "vision-siglip-headless",
            vec!["--rows", "pooled", &cat],
            "expected an output pooler_output",
        ),
    ] {
        let arguments = [vec!["embed"], arguments].concat();
        assert_refused(&run(model, &arguments), said);
    }
    let index = tempfile::tempdir().unwrap();
    let index_of = |arguments: &[&str]| {
        let arguments = [&["index", cat.as_str()][..], arguments].concat();
        diptych(&golden("bundles").join(MODEL), index.path(), &arguments)
    };
    assert_refused(
        &index_of(&["--rows", "patches"]),
        "an index holds one row for each image",
    );
    let texts = index_of(&["--rows", "mean", "--texts", "captions.jsonl"]);
    assert_refused(&texts, "index texts without it");
}

/// One row is needed wherever images are compared, and diptych.json may state another kind.
#[test]
fn patches_in_diptych_json_are_refused_where_one_row_is_needed() {
    let bundle = copy_bundle(MODEL);
    let state = |text: &str| fs::write(bundle.path().join("diptych.json"), text).unwrap();
    state(r#"{"image": {"rows": "patches"}}"#);
    let cat = photo("cat.jpg");
    let index = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| diptych(bundle.path(), index.path(), arguments);
    assert_eq!(
        lines(&run(&["embed", &cat]))[0]["embeddings"]
            .as_array()
            .unwrap()
            .len(),
        6
    );
    for arguments in [&["index", cat.as_str()][..], &["verify"]] {
        assert_refused(
            &run(arguments),
            "image tower gives 6 rows for an image, expected one",
        );
    }
    state(r#"{"image": {"rows": "average"}}"#);
    assert_refused(
        &run(&["embed", &cat]),
        "expected one of cls, mean, pooled, patches",
    );
}

#[test]
fn a_family_that_is_not_known_has_to_be_told() {
    let bundle = changed("vision-dinov2-registers", |config| {
        config["model_type"] = json!("dinov9");
    });
    let cat = photo("cat.jpg");
    let run = |arguments: &[&str]| diptych(bundle.path(), Path::new("none"), arguments);
    let output = run(&["embed", &cat]);
    assert_refused(
        &output,
        "no file states which of its outputs is an image's row",
    );
    assert!(
        stderr(&output).contains("--rows cls, mean, pooled or patches"),
        "{}",
        stderr(&output)
    );
    assert_refused(
        &run(&["embed", "--rows", "mean", &cat]),
        "whose order of tokens is known",
    );
    let [cls, pooled] = ["cls", "pooled"].map(|kind| lines(&run(&["embed", "--rows", kind, &cat])));
    assert_close(
        &floats(&cls[0]["embedding"]),
        &floats(&pooled[0]["embedding"]),
        EXACT,
        "class token",
    );
}

#[test]
fn tokens_must_be_those_that_the_config_states() {
    let cat = photo("cat.jpg");
    for (key, value, said) in [
        (
            "num_register_tokens",
            json!(3),
            "expected 8 tokens, 4 before those of 4 patches",
        ),
        (
            "patch_size",
            json!(4),
            "expected 21 tokens, 5 before those of 16 patches",
        ),
    ] {
        let bundle = changed("vision-dinov2-registers", |config| config[key] = value);
        let output = diptych(bundle.path(), Path::new("none"), &["embed", &cat]);
        assert_refused(&output, said);
    }
    let bundle = changed("vision-dinov2-registers", |config| {
        config["patch_size"] = json!("big");
    });
    let output = diptych(bundle.path(), Path::new("none"), &["embed", &cat]);
    assert_refused(&output, "patch_size is \"big\", expected a whole number");
}

/// torchvision has no other filters for floats.
#[test]
fn dinov3_is_resized_by_filters_that_its_reference_has() {
    let bundle = copy_bundle("vision-dinov3");
    let path = bundle.path().join("preprocessor_config.json");
    let text = fs::read_to_string(&path).unwrap();
    let embed = |code: u8| {
        fs::write(
            &path,
            text.replace("\"resample\": 2", &format!("\"resample\": {code}")),
        )
        .unwrap();
        diptych(
            bundle.path(),
            Path::new("none"),
            &["embed", &photo("cat.jpg")],
        )
    };
    assert_refused(&embed(1), "resample is 1, expected 2 bilinear or 3 bicubic");
    let [bilinear, bicubic] = [2, 3].map(|code| floats(&lines(&embed(code))[0]["embedding"]));
    assert_ne!(bilinear, bicubic);
}

#[test]
fn an_index_keeps_to_its_kind_of_rows() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("index");
    let photos = root("assets/photos");
    let run = |arguments: &[&str]| diptych(&golden("bundles").join(MODEL), &index, arguments);
    let made = run(&["index", photos.to_str().unwrap(), "--rows", "mean"]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));

    // The query is encoded as the index was.
    let hits = lines(&run(&[
        "search",
        &photo("cat.jpg"),
        "--json",
        "--limit",
        "2",
    ]));
    assert_eq!(hits[0]["path"], photo("cat.jpg"));
    assert!(
        (hits[0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-4,
        "{}",
        hits[0]
    );
    assert_refused(
        &run(&["search", "a cat"]),
        "rows mean of images, which no words lie near",
    );
    assert_refused(
        &run(&["index", &photo("cat.jpg")]),
        "rows mean, not of vision-dinov2@",
    );
    assert_refused(
        &run(&["index", &photo("cat.jpg"), "--rows", "pooled"]),
        "--rows",
    );

    let groups = lines(&run(&["cluster", "--groups", "3", "--json"]));
    assert_eq!(groups.len(), 3);
    assert!(
        groups
            .iter()
            .all(|group| group["label"].is_null() && group["size"] != 0)
    );
    assert_refused(
        &run(&["cluster", "--labels", "cat,dog"]),
        "cannot be named by labels",
    );
    assert_eq!(
        run(&["similar", "--threshold", "0.5"]).status.code(),
        Some(0)
    );

    let moved = run(&["index", "--reindex"]);
    assert_eq!(moved.status.code(), Some(0), "{}", stderr(&moved));
    // The model's own kind needs no name.
    assert_eq!(
        run(&["index", &photo("cat.jpg"), "--rows", "cls"])
            .status
            .code(),
        Some(0)
    );
    let by_words = run(&["search", "a cat"]);
    assert_refused(&by_words, "bundle has no text tower");
    assert!(stderr(&by_words).contains("search by an image; for words and labels choose another"));
}

#[test]
fn classify_says_that_there_is_no_text_tower() {
    let output = run(
        MODEL,
        &["classify", "--labels", "cat,dog", &photo("cat.jpg")],
    );
    assert_refused(&output, "bundle has no text tower");
    assert!(stderr(&output).contains("for words and labels choose another with --model"));
}

#[test]
fn a_record_needs_no_texts() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record.json");
    let record = record.to_str().unwrap();
    let made = run("vision-dinov3", &["verify", "--record", record]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    let same = run("vision-dinov3", &["verify", "--against", record, "--json"]);
    assert_eq!(same.status.code(), Some(0), "{}", stderr(&same));
    let other = run(
        "vision-dinov3",
        &["verify", "--against", record, "--rows", "mean", "--json"],
    );
    assert_eq!(other.status.code(), Some(1), "{}", stderr(&other));
}

#[test]
fn info_tells_layout_and_rows() {
    let facts = lines(&run("vision-siglip", &["info", "--json"])).remove(0);
    assert_eq!(facts["layout"], "transformers, an image tower alone");
    assert_eq!(
        (&facts["rows"], &facts["text_tower"]),
        (&json!("pooler_output"), &json!("none"))
    );
    assert_eq!(facts["scale"], Value::Null);
    let facts = lines(&run(
        "vision-dinov3",
        &["info", "--json", "--rows", "patches"],
    ))
    .remove(0);
    assert_eq!(facts["rows"], "patches of last_hidden_state");
    assert_eq!(facts["rows_per_image"], 12);
    assert_eq!(
        facts["as_done_by"],
        "transformers, torchvision back-end, rescaled before the resize"
    );
}

/// The pipeline hands on all rows of an image together.
#[test]
fn the_pipeline_keeps_patches_together() {
    let options = EncoderOptions {
        rows: Some(Rows::Patches),
        batch: 3,
        ..Default::default()
    };
    let encoder = DualEncoder::open_with(golden("bundles").join(MODEL), &options).unwrap();
    let paths: Vec<_> = pictures().into_iter().map(Into::into).collect();
    let expected = npy::<f32>(&golden("expected").join(MODEL).join("rows_patches.npy"));
    let expected = expected.as_slice().unwrap();
    let mut done = 0;
    pipeline::encode_files(&encoder, &paths, &Default::default(), |encoded| {
        let rows = encoded.row.unwrap();
        assert_eq!((rows.len(), rows.width()), (6, 24));
        let first = &expected[done * 6 * 24..][..24];
        assert_close(
            rows.row(0),
            first,
            EXACT,
            &encoded.path.display().to_string(),
        );
        done += 1;
        true
    })
    .unwrap();
    assert_eq!(done, paths.len());
    assert!(matches!(
        encoder.require_one_row(),
        Err(Error::SeveralRows { count: 6, .. })
    ));
}

#[test]
fn a_tower_alone_is_a_layout_of_its_own() {
    let bundle = Bundle::open(golden("bundles").join(MODEL)).unwrap();
    assert_eq!(bundle.layout, Layout::ImageAlone);
    assert!(bundle.text.is_none());
    let image = bundle.image.unwrap();
    assert_eq!(image.own_rows(), Some(Rows::Cls));
    // A projection into the space of texts goes before what a family's users take.
    let clip = Bundle::open(golden("bundles/transformers-clip")).unwrap();
    assert_eq!(clip.image.unwrap().own_rows(), None);
}

/// transformers takes the class that a family has where the file of images names none.
#[test]
fn without_a_class_the_family_decides() {
    let folder = copy_bundle("vision-vit");
    let file = folder.path().join("preprocessor_config.json");
    let about = json!({
        "do_normalize": true, "do_resize": true, "size": 16,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    });
    std::fs::write(&file, about.to_string()).unwrap();
    let bundle = diptych::Bundle::open(folder.path()).unwrap();
    let preprocess = bundle.image.unwrap().preprocess;
    let squash = diptych::Resize::Squash {
        height: 16,
        width: 16,
    };
    assert_eq!(preprocess.resize, Some(squash));
    assert_eq!(preprocess.filter, diptych::Filter::Bilinear);
    assert_eq!(preprocess.crop, None);
}

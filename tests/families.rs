//! What families published for transformers need beyond their golden values: rows cut short, two models as one, and
//! what cannot be run or is not stated.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;

use common::{EXACT, assert_close, copy_bundle, golden, list, npy2, stderr, write_photo};
use diptych::{
    Bundle, BundleOptions, DualEncoder, Embeddings, EncoderOptions, Error, ImageOptions, Towers,
    open_image,
};
use ndarray::{Array2, s};
use serde_json::{Value, json};
use tempfile::TempDir;

fn open(name: &str, options: &BundleOptions) -> DualEncoder {
    let bundle = Bundle::open_with(golden("bundles").join(name), options).unwrap();
    DualEncoder::from_bundle(bundle, &silent()).unwrap()
}

fn silent() -> EncoderOptions {
    EncoderOptions {
        notice: |_| (),
        ..Default::default()
    }
}

fn texts() -> Vec<String> {
    let text = |about: Value| about["text"].as_str().unwrap().to_owned();
    list(&golden("texts.json")).into_iter().map(text).collect()
}

fn pictures() -> Vec<image::RgbImage> {
    let open = |about: Value| {
        let file = golden("images").join(about["file"].as_str().unwrap());
        open_image(file, &ImageOptions::default()).unwrap()
    };
    list(&golden("images.json")).into_iter().map(open).collect()
}

/// The rows that a reference gives, cut and brought to unit length again.
fn cut(file: &Path, dim: usize) -> Embeddings {
    let rows: Array2<f32> = npy2(file);
    Embeddings::new(rows.slice(s![.., ..dim]).to_owned()).unwrap()
}

fn assert_rows(found: &Embeddings, expected: &Embeddings, what: &str) {
    assert_eq!(
        (found.len(), found.width()),
        (expected.len(), expected.width())
    );
    for row in 0..found.len() {
        assert_close(found.row(row), expected.row(row), EXACT, what);
    }
}

fn write(folder: &TempDir, name: &str, value: &Value) {
    fs::write(folder.path().join(name), value.to_string()).unwrap();
}

fn read(folder: &TempDir, name: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.path().join(name)).unwrap()).unwrap()
}

fn message(error: &Error) -> String {
    error.to_string()
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_diptych"))
        .args(arguments)
        .env_remove("DIPTYCH_MODEL")
        .output()
        .unwrap()
}

#[test]
fn rows_are_cut_and_brought_to_unit_length_again() {
    for (name, dim) in [
        ("jina-clip", 8),
        ("transformers-clip", 5),
        ("nomic-text", 7),
    ] {
        let options = BundleOptions {
            dim: Some(dim),
            ..Default::default()
        };
        let encoder = open(name, &options);
        assert_eq!(encoder.width(), dim);
        let expected = golden("expected").join(name);
        let rows = encoder.encode_texts(&texts()).unwrap();
        assert_rows(&rows, &cut(&expected.join("text_rows.npy"), dim), name);
        if encoder.bundle().image.is_some() {
            let rows = encoder.encode_images(&pictures()).unwrap();
            assert_rows(&rows, &cut(&expected.join("image_rows.npy"), dim), name);
        }
    }
}

#[test]
fn widths_that_rows_have_not_are_refused() {
    for asked in [0, 25, 4096] {
        let options = BundleOptions {
            dim: Some(asked),
            ..Default::default()
        };
        let bundle = Bundle::open_with(golden("bundles/tinyclip"), &options).unwrap();
        let error = DualEncoder::from_bundle(bundle, &silent()).unwrap_err();
        assert!(matches!(error, Error::Dim { width: 24, .. }), "{error:?}");
        let message = message(&error);
        assert!(
            message.ends_with(&format!(
                "its rows have 24 values and cannot be cut to {asked}, expected 1 to 24"
            )),
            "{message}"
        );
    }
}

#[test]
fn widths_that_a_model_was_not_trained_for_are_said() {
    let said = |name: &str, dim| {
        let options = BundleOptions {
            dim: Some(dim),
            ..Default::default()
        };
        let bundle = Bundle::open_with(golden("bundles").join(name), &options).unwrap();
        let about = bundle
            .unstated
            .iter()
            .find(|unstated| unstated.option == "--dim");
        about.map(ToString::to_string)
    };
    assert_eq!(said("jina-clip", 8), None);
    let other = said("jina-clip", 9).unwrap();
    assert!(
        other.contains("9, which is none of matryoshka_dimensions"),
        "{other}"
    );
    assert!(other.contains("(8, 16, 24)"), "{other}");
    assert!(said("tinyclip", 8).unwrap().contains("8 is taken"));
}

/// `truncate_dim` is what a model's own code cuts to unless it is told otherwise.
#[test]
fn a_config_may_cut_rows_too() {
    let folder = copy_bundle("jina-clip");
    let mut config = read(&folder, "config.json");
    config["truncate_dim"] = json!(16);
    write(&folder, "config.json", &config);
    assert_eq!(
        DualEncoder::open_with(folder.path(), &silent())
            .unwrap()
            .width(),
        16
    );
    let options = BundleOptions {
        dim: Some(24),
        ..Default::default()
    };
    let whole = Bundle::open_with(folder.path(), &options).unwrap();
    assert_eq!(
        DualEncoder::from_bundle(whole, &silent()).unwrap().width(),
        24
    );
}

#[test]
fn an_index_holds_rows_of_one_width() {
    let folder = tempfile::tempdir().unwrap();
    let (photos, index) = (folder.path().join("photos"), folder.path().join("index"));
    write_photo(&photos.join("a.png"), 1);
    write_photo(&photos.join("b.png"), 2);
    let (photos, index) = (photos.to_str().unwrap(), index.to_str().unwrap());
    let model = golden("bundles/jina-clip");
    let common = ["--model", model.to_str().unwrap(), "--index", index];
    let with = |command: &[&str]| run(&[command, common.as_slice()].concat());

    let made = with(&["index", photos, "--dim", "8"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let found = with(&["search", "a cat", "--dim", "8"]);
    assert!(found.status.success(), "{}", stderr(&found));
    for other in [
        &["search", "a cat"][..],
        &["search", "a cat", "--dim", "16"],
    ] {
        let refused = with(other);
        assert_eq!(refused.status.code(), Some(2), "{other:?}");
        assert!(
            stderr(&refused).contains("cut to 8, not of"),
            "{}",
            stderr(&refused)
        );
    }
    // What stands before a text changes no image's row.
    let found = with(&["search", "a cat", "--dim", "8", "--prefix", "a photo: "]);
    assert!(found.status.success(), "{}", stderr(&found));
}

fn nomic() -> (Bundle, Bundle) {
    let half = |name: &str, towers| {
        let options = BundleOptions {
            towers,
            ..Default::default()
        };
        Bundle::open_with(golden("bundles").join(name), &options).unwrap()
    };
    (
        half("nomic-vision", Towers::Image),
        half("nomic-text", Towers::Text),
    )
}

#[test]
fn a_pair_is_the_image_half_of_one_and_the_text_half_of_the_other() {
    let (image, text) = nomic();
    let alone = [image.fingerprint().unwrap(), text.fingerprint().unwrap()];
    let pair = Bundle::pair(image.clone(), text.clone()).unwrap();
    assert_eq!(pair.name(), "nomic-vision+nomic-text");
    let fingerprint = pair.fingerprint().unwrap();
    assert!(!alone.contains(&fingerprint));

    let encoder = DualEncoder::from_bundle(pair, &silent()).unwrap();
    let images = encoder.encode_images(&pictures()).unwrap();
    assert_rows(
        &images,
        &cut(&golden("expected/nomic-vision/image_rows.npy"), 16),
        "images",
    );
    let rows = encoder.encode_texts(&texts()).unwrap();
    assert_rows(
        &rows,
        &cut(&golden("expected/nomic-text/text_rows.npy"), 16),
        "texts",
    );
    assert_eq!(
        images.scores(&rows).unwrap().dim(),
        (images.len(), rows.len())
    );

    // Wherever the halves lie, and never where one is another.
    let elsewhere = copy_bundle("nomic-text");
    let moved = Bundle::open(elsewhere.path()).unwrap();
    let moved = Bundle::pair(image.clone(), moved).unwrap();
    assert_eq!(moved.fingerprint().unwrap(), fingerprint);
    write(
        &elsewhere,
        "diptych.json",
        &json!({"text": {"layer_norm": false}}),
    );
    let other = Bundle::pair(image.clone(), Bundle::open(elsewhere.path()).unwrap()).unwrap();
    assert_ne!(other.fingerprint().unwrap(), fingerprint);

    assert!(matches!(
        Bundle::pair(text.clone(), text).unwrap_err(),
        Error::NoTower { tower: "image", .. }
    ));
    assert!(matches!(
        Bundle::pair(image.clone(), image).unwrap_err(),
        Error::NoTower { tower: "text", .. }
    ));
}

#[test]
fn halves_of_other_widths_are_no_pair() {
    let (image, _) = nomic();
    let text = Bundle::open(golden("bundles/tinyclip")).unwrap();
    let pair = Bundle::pair(image, text).unwrap();
    let cut = Bundle {
        dim: Some(8),
        ..pair.clone()
    };
    for pair in [pair, cut] {
        let error = DualEncoder::from_bundle(pair, &silent()).unwrap_err();
        assert!(
            matches!(
                error,
                Error::TowersDiffer {
                    image: 16,
                    text: 24,
                    ..
                }
            ),
            "{error:?}"
        );
    }
}

#[test]
fn a_pair_is_named_with_a_plus() {
    let folder = tempfile::tempdir().unwrap();
    let photo = folder.path().join("a.png");
    write_photo(&photo, 1);
    let half = |name: &str| golden("bundles").join(name).to_str().unwrap().to_owned();
    let model = format!("{}+{}", half("nomic-vision"), half("nomic-text"));
    let photo = photo.to_str().unwrap();
    let found = run(&["classify", "--model", &model, "--labels", "cat,dog", photo]);
    assert!(found.status.success(), "{}", stderr(&found));
    assert!(
        stderr(&found).contains("--prefix says otherwise"),
        "{}",
        stderr(&found)
    );
    let info = run(&[
        "info",
        "--json",
        "--model",
        &model,
        "--prefix",
        "search_document: ",
    ]);
    let info: Value = serde_json::from_slice(&info.stdout).unwrap();
    assert_eq!(info["prefix"], "search_document: ");
    assert_eq!(info["width"], 16);
}

/// Each half of a pair may be one graph, and have a precision of its own.
#[test]
fn halves_of_a_pair_have_precisions_of_their_own() {
    let [image, text] = ["nomic-vision", "nomic-text"].map(copy_bundle);
    let graph = text.path().join("onnx/model.onnx");
    fs::rename(&graph, text.path().join("onnx/model_fp16.onnx")).unwrap();
    let [image, text] = [&image, &text].map(|half| half.path().to_str().unwrap());
    let model = format!("{image}+{text}");
    let with = |precision: &str| run(&["info", "--model", &model, "--precision", precision]);
    let found = with("image=fp32,text=fp16");
    assert!(found.status.success(), "{}", stderr(&found));
    let refused = with("image=fp16,text=fp16");
    assert!(stderr(&refused).contains("nomic-vision") || stderr(&refused).contains("fp16"));
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn a_prefix_stands_before_each_text() {
    let (_, text) = nomic();
    let encoder = DualEncoder::from_bundle(text, &silent()).unwrap();
    let own = encoder.encode_texts(&["a cat"]).unwrap();
    let options = BundleOptions {
        prefix: Some(String::new()),
        ..Default::default()
    };
    let plain = open("nomic-text", &options);
    let written = plain.encode_texts(&["search_query: a cat"]).unwrap();
    assert_rows(&own, &written, "written out");
    let other = plain.encode_texts(&["a cat"]).unwrap();
    assert!(
        own.scores(&other).unwrap()[[0, 0]] < 0.999,
        "a prefix changes a row"
    );
    assert!(
        plain
            .bundle()
            .unstated
            .iter()
            .all(|unstated| unstated.option != "--prefix")
    );
}

#[test]
fn graphs_that_take_patches_are_refused_by_name() {
    let folder = copy_bundle("siglip2");
    let mut config = read(&folder, "config.json");
    config["model_type"] = json!("siglip2");
    write(&folder, "config.json", &config);
    let message = message(&Bundle::open(folder.path()).unwrap_err());
    assert!(message.contains("model_type is \"siglip2\""), "{message}");
    assert!(message.contains("SigLIP 2 NaFlex"), "{message}");
    // Its text tower is that of every SigLIP 2.
    let options = BundleOptions {
        towers: Towers::Text,
        ..Default::default()
    };
    assert!(Bundle::open_with(folder.path(), &options).is_ok());
}

/// Rows of tokens become a text's in several ways; none is guessed.
#[test]
fn pooling_that_no_file_states_is_asked_for() {
    let folder = copy_bundle("nomic-text");
    fs::remove_dir_all(folder.path().join("1_Pooling")).unwrap();
    let error = DualEncoder::open_with(folder.path(), &silent()).unwrap_err();
    let found = message(&error);
    assert!(
        found.contains("1_Pooling/config.json") && found.contains("\"rows\""),
        "{found}"
    );
    write(
        &folder,
        "diptych.json",
        &json!({"text": {"rows": "mean", "context_length": 40}}),
    );
    let encoder = DualEncoder::open_with(folder.path(), &silent()).unwrap();
    let rows = encoder.encode_texts(&texts()).unwrap();
    assert_rows(
        &rows,
        &cut(&golden("expected/nomic-text/text_rows.npy"), 16),
        "mean",
    );
    write(
        &folder,
        "diptych.json",
        &json!({"text": {"rows": "cls", "context_length": 40}}),
    );
    let encoder = DualEncoder::open_with(folder.path(), &silent()).unwrap();
    let other = encoder.encode_texts(&["a photo of a cat"]).unwrap();
    assert!((other.row(0)[0] - rows.row(2)[0]).abs() > 1e-3);
}

/// Of a BERT, `pooler_output` is a text's row only where somebody says so; of a SigLIP it is without a word.
#[test]
fn a_pooled_output_beside_tokens_is_asked_about() {
    let folder = copy_bundle("siglip2-gemma");
    let expected = cut(&golden("expected/siglip2-gemma/text_rows.npy"), 24);
    let encode =
        |folder: &TempDir| DualEncoder::open_with(folder.path(), &silent())?.encode_texts(&texts());
    assert_rows(&encode(&folder).unwrap(), &expected, "of its family");

    let mut config = read(&folder, "config.json");
    config["model_type"] = json!("bert");
    write(&folder, "config.json", &config);
    let mut text = json!({"context_length": 64, "padding": "full"});
    write(&folder, "diptych.json", &json!({"text": text}));
    let found = message(&encode(&folder).unwrap_err());
    assert!(
        found.contains("pooler_output") && found.contains("1_Pooling/config.json"),
        "{found}"
    );
    text["rows"] = json!("pooled");
    write(&folder, "diptych.json", &json!({"text": text}));
    assert_rows(&encode(&folder).unwrap(), &expected, "as stated");
    text["rows"] = json!("cls");
    write(&folder, "diptych.json", &json!({"text": text}));
    let other = encode(&folder).unwrap().scores(&expected).unwrap();
    assert!(other[[0, 0]] < 0.99, "{}", other[[0, 0]]);
}

/// Modes of pooling and modules that are not known here matter only where the graph leaves them to be done.
#[test]
fn what_a_graph_has_pooled_is_not_pooled_again() {
    const MODES: &str = r#"{"pooling_mode_mean_tokens": false, "pooling_mode_lasttoken": true}"#;
    const MODULES: &str = r#"[{"type": "sentence_transformers.models.Transformer"},
        {"type": "sentence_transformers.models.Dense"}]"#;
    for (file, text, key) in [
        ("1_Pooling/config.json", MODES, "pooling_mode_lasttoken"),
        ("modules.json", MODULES, "models.Dense"),
    ] {
        let spoil = |name: &str| {
            let folder = copy_bundle(name);
            fs::create_dir_all(folder.path().join("1_Pooling")).unwrap();
            let mean = r#"{"pooling_mode": "mean"}"#;
            fs::write(folder.path().join("1_Pooling/config.json"), mean).unwrap();
            fs::write(folder.path().join(file), text).unwrap();
            folder
        };
        let left = DualEncoder::open_with(spoil("nomic-text").path(), &silent());
        let found = message(&left.unwrap_err());
        assert!(found.contains(file) && found.contains(key), "{found}");

        let done = spoil("tinyclip");
        let encoder = DualEncoder::open_with(done.path(), &silent()).unwrap();
        let rows = encoder.encode_texts(&texts()).unwrap();
        let expected = cut(&golden("expected/tinyclip/text_rows.npy"), 24);
        assert_rows(&rows, &expected, file);
    }
}

/// Expected ids: `AutoTokenizer` of transformers 5.24 on these files.
#[test]
fn berts_class_does_what_its_config_says() {
    const TEXT: &str = "Un Café à 貓在 é ÉTÉ Photo of TWO dogs";
    #[rustfmt::skip]
    let cases: [(&str, Value, &[i64]); 6] = [
        ("BertTokenizer", json!({}), &[2, 63, 125, 45, 112, 117, 116, 43, 75, 76, 47, 47, 131, 116, 170, 171, 172, 173, 3]),
        ("BertTokenizer", json!({"do_lower_case": false}), &[2, 1, 1, 1, 75, 76, 89, 1, 1, 171, 1, 173, 3]),
        ("BertTokenizerFast", json!({"strip_accents": false}), &[2, 63, 125, 45, 112, 117, 154, 1, 75, 76, 89, 89, 131, 154, 170, 171, 172, 173, 3]),
        ("DistilBertTokenizer", json!({"do_lower_case": false, "strip_accents": true}), &[2, 1, 1, 43, 75, 76, 47, 1, 1, 171, 1, 173, 3]),
        ("MPNetTokenizer", json!({"tokenize_chinese_chars": false}), &[2, 63, 125, 45, 112, 117, 116, 43, 75, 141, 47, 47, 131, 116, 170, 171, 172, 173, 3]),
        // A class that takes the file as it is.
        ("PreTrainedTokenizerFast", json!({"do_lower_case": false}), &[2, 63, 125, 45, 112, 117, 116, 43, 75, 76, 47, 47, 131, 116, 170, 171, 172, 173, 3]),
    ];
    for (class, changes, expected) in cases {
        let folder = copy_bundle("chinese-clip");
        let mut config = read(&folder, "tokenizer_config.json");
        config["tokenizer_class"] = json!(class);
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        write(&folder, "tokenizer_config.json", &config);
        let encoder = DualEncoder::open_with(folder.path(), &silent()).unwrap();
        let tokens = encoder.text_tower().unwrap().tokenizer().encode(&[TEXT]);
        assert_eq!(
            tokens.unwrap().ids.row(0).to_vec(),
            expected,
            "{class} {changes}"
        );
    }
}

/// Texts are padded and cut at their end; what says or means otherwise is refused.
#[test]
fn sides_other_than_the_right_are_refused() {
    let refused = |name: &str, key: &str, value: Value| {
        let folder = copy_bundle(name);
        let mut config = read(&folder, "tokenizer_config.json");
        config[key] = value;
        write(&folder, "tokenizer_config.json", &config);
        message(&Bundle::open(folder.path()).unwrap_err())
    };
    for key in ["padding_side", "truncation_side"] {
        let found = refused("tinyclip", key, json!("left"));
        assert!(found.contains(&format!("{key} is \"left\"")), "{found}");
    }
    for name in ["siglip2", "siglip2-gemma"] {
        let found = refused(name, "padding_side", Value::Null);
        assert!(found.contains("padding_side is missing"), "{found}");
    }
}

/// A graph without a mask is tried: one makes its own, the other takes padding for words.
#[test]
fn whether_a_graph_hides_padding_is_found() {
    for (name, hides) in [
        ("jina-clip", true),
        ("jina-clip-unmasked", false),
        ("tinyclip", true),
    ] {
        let encoder = open(name, &BundleOptions::default());
        let tower = encoder.text_tower().unwrap();
        assert_eq!(tower.hides_padding().unwrap(), hides, "{name}");
    }
}

/// Whether a CLIP of transformers sees its padding is asked of the graph, and of nothing that files say of images.
#[test]
fn padding_that_is_seen_is_what_open_clip_trains_with() {
    let edited = |name: &str, normalizes: bool| {
        let folder = copy_bundle(name);
        let mut config = read(&folder, "preprocessor_config.json");
        config["do_normalize"] = json!(normalizes);
        write(&folder, "preprocessor_config.json", &config);
        folder
    };
    let pads = |folder: &TempDir| {
        let encoder = DualEncoder::open_with(folder.path(), &silent()).unwrap();
        let said = encoder.bundle().unstated.iter().map(ToString::to_string);
        let said = said.filter(|line| line.contains("what pads texts")).count();
        let tokenizer = encoder.text_tower().unwrap().tokenizer();
        let end = tokenizer.id("<|endoftext|>").unwrap();
        let pad = tokenizer.settings().pad_id;
        (pad == end, pad == 0, said)
    };
    // MobileCLIP 2 S3, S4 and L-14 have no causal mask, and images that are normalised.
    let seeing = edited("mobileclip-transformers", true);
    assert_eq!(pads(&seeing), (false, true, 1));
    let encoder = DualEncoder::open_with(seeing.path(), &silent()).unwrap();
    let rows = encoder.encode_texts(&texts()).unwrap();
    let expected = golden("expected/mobileclip-transformers/text_rows.npy");
    assert_rows(&rows, &cut(&expected, 24), "padded with 0");
    // MobileCLIP B has one, and images that are not.
    for normalizes in [false, true] {
        assert_eq!(
            pads(&edited("transformers-clip", normalizes)),
            (true, false, 0)
        );
    }
    // What is stated is taken.
    let stated =
        json!({"text": {"pad_id": read(&seeing, "config.json")["text_config"]["pad_token_id"]}});
    write(&seeing, "diptych.json", &stated);
    assert_eq!(pads(&seeing), (true, false, 0));
}

/// Where files and training disagree, every run says what was taken.
#[test]
fn what_was_taken_is_said() {
    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let options = EncoderOptions {
        notice: |line| SAID.lock().unwrap().push(line.to_owned()),
        ..Default::default()
    };
    for name in [
        "mobileclip-transformers",
        "siglip2-gemma",
        "nomic-text",
        "siglip2",
        "tinyclip",
    ] {
        DualEncoder::open_with(golden("bundles").join(name), &options).unwrap();
    }
    let said = SAID.lock().unwrap();
    let about = |name: &str, words: &str| {
        let name = format!("{name}:");
        said.iter()
            .any(|line| line.contains(&name) && line.contains(words))
    };
    assert!(
        about(
            "mobileclip-transformers",
            "id 0, as open_clip trains, and not \"<|endoftext|>\""
        ),
        "{said:?}"
    );
    assert!(about("siglip2-gemma", "GemmaTokenizer"), "{said:?}");
    assert!(
        about("nomic-text", "\"search_query: \" is taken; --prefix"),
        "{said:?}"
    );
    assert!(
        !about("siglip2", "capitals") && !about("tinyclip", ""),
        "{said:?}"
    );
}

//! What open_clip's configs may say, and the language of texts: read as open_clip reads it, or refused.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{EXACT, assert_close, copy_bundle, golden, list, list_of_lines, npy2, stderr};
use diptych::{
    Bundle, BundleOptions, Cleaning, DualEncoder, EncoderOptions, Error, LanguagePlace, Pad,
    Resize, Splitting, Towers,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const CONFIG: &str = "open_clip_config.json";

/// Changes a JSON file of a bundle.
fn edit(folder: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(file);
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

/// A copy of a golden bundle with one of its files changed.
fn changed(name: &str, file: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let folder = copy_bundle(name);
    edit(folder.path(), file, change);
    folder
}

/// A copy of a golden bundle with one value in its config put to another.
fn with(name: &str, pointer: &str, value: Value) -> TempDir {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    changed(name, CONFIG, |config| {
        config.pointer_mut(parent).unwrap()[key] = value;
    })
}

fn refused(folder: &TempDir) -> String {
    Bundle::open(folder.path())
        .expect_err("a bundle that must be refused opens")
        .to_string()
}

#[test]
fn images_have_the_side_that_the_image_tower_was_made_for() {
    let side = |folder: &TempDir| {
        let image = Bundle::open(folder.path()).unwrap().image.unwrap();
        image.preprocess.resize
    };
    // As published: the pre-processing leaves it out.
    let published = copy_bundle("open-clip-hub");
    assert_eq!(side(&published), Some(Resize::Shortest(28)));
    // open_clip's factory puts the tower's side in place of one that it states.
    let other = with("open-clip-hub", "/preprocess_cfg/size", json!(224));
    assert_eq!(side(&other), Some(Resize::Shortest(28)));
    let config = |config: &mut Value| {
        config["preprocess_cfg"]["size"] = json!([28, 28]);
        let vision = config["model_cfg"]["vision_cfg"].as_object_mut().unwrap();
        vision.remove("image_size");
    };
    assert_eq!(
        side(&changed("open-clip-hub", CONFIG, config)),
        Some(Resize::Shortest(28))
    );
}

#[test]
fn what_would_change_ids_is_read_or_refused() {
    let kwargs = "/model_cfg/text_cfg/tokenizer_kwargs";
    for (name, pointer, value, said) in [
        (
            "clipa",
            "/model_cfg/text_cfg/tokenizer_mode",
            json!("clips"),
            "tokenizer_mode is \"clips\", expected no mode",
        ),
        (
            "clipa",
            kwargs,
            json!({"strip_sep_token": true, "add_prefix_space": false}),
            "add_prefix_space is false, expected no key but clean, strip_sep_token",
        ),
        (
            "clipa",
            kwargs,
            json!({"clean": "lowercase"}),
            "clean is \"lowercase\", expected one of lower, whitespace, canonicalize",
        ),
        (
            "clipa",
            kwargs,
            json!({"src_lang": "fra_Latn"}),
            "src_lang is \"fra_Latn\", expected none, since its tokenizer is not NLLB's",
        ),
        (
            "nllb-clip",
            kwargs,
            json!({"language": "fra_Latn"}),
            "language is \"fra_Latn\", expected none, since it changes nothing in open_clip",
        ),
        (
            "mobileclip",
            kwargs,
            json!({"reduction_mask": "simple"}),
            "reduction_mask is \"simple\", expected none: it drops tokens at random",
        ),
        (
            "mobileclip",
            kwargs,
            json!({"additional_special_tokens": ["<x>"]}),
            "expected no key but clean, reduction_mask",
        ),
    ] {
        let message = refused(&with(name, pointer, value));
        assert!(message.contains(said), "{name}: no {said:?} in: {message}");
    }
}

#[test]
fn padding_at_the_start_is_refused() {
    let file = "tokenizer_config.json";
    let message = refused(&changed("clipa", file, |config| {
        config["padding_side"] = json!("left");
    }));
    assert!(
        message.contains("padding_side is \"left\", expected one of right"),
        "{message}"
    );
    let message = refused(&changed("open-clip-siglip2", file, |config| {
        config.as_object_mut().unwrap().remove("padding_side");
    }));
    assert!(
        message.contains("padding_side is missing, expected \"right\": a Gemma tokenizer"),
        "{message}"
    );
    // tokenizer.json states it where the config does not, for cutting too.
    let stated = |name: &str, block: &str, side: &str| {
        let folder = changed(name, file, |config| {
            config.as_object_mut().unwrap().remove("padding_side");
        });
        edit(folder.path(), "tokenizer.json", |tokenizer| {
            tokenizer[block] = json!({"direction": side});
        });
        folder
    };
    for (name, block) in [("clipa", "truncation"), ("open-clip-siglip2", "padding")] {
        let message = refused(&stated(name, block, "Left"));
        let said = format!("tokenizer.json: {block}.direction is Left, expected Right");
        assert!(message.contains(&said), "{message}");
        if block == "padding" {
            Bundle::open(stated(name, block, "Right").path()).unwrap();
        }
    }
}

#[test]
fn special_tokens_are_those_of_the_tokenizers_class_or_asked_for() {
    let without = |name: &str, keys: &[&str]| {
        changed(name, "tokenizer_config.json", |config| {
            for key in keys {
                config.as_object_mut().unwrap().remove(*key);
            }
        })
    };
    let text = |folder: &TempDir| Bundle::open(folder.path()).unwrap().text.unwrap().text;

    let bert = text(&without("clipa", &["pad_token", "sep_token"]));
    assert_eq!(bert.pad, Pad::Token("[PAD]".to_owned()));
    assert_eq!(bert.stripped_token.as_deref(), Some("[SEP]"));
    let roberta = text(&without("open-clip-xlm-roberta", &["pad_token"]));
    assert_eq!(roberta.pad, Pad::Token("<pad>".to_owned()));

    let unknown = without("clipa", &["pad_token", "tokenizer_class"]);
    let message = refused(&unknown);
    assert!(
        message.contains("pad_token is missing, expected the token that texts are padded with"),
        "{message}"
    );
    fs::write(
        unknown.path().join("diptych.json"),
        r#"{"text": {"pad_id": 0}}"#,
    )
    .unwrap();
    assert_eq!(text(&unknown).pad, Pad::Id(0));
    let message = refused(&without("clipa", &["sep_token", "tokenizer_class"]));
    assert!(
        message.contains("strip_sep_token is true, expected false, or a sep_token"),
        "{message}"
    );
}

#[test]
fn an_empty_tokenizer_name_is_none() {
    let folder = with(
        "mobileclip",
        "/model_cfg/text_cfg/hf_tokenizer_name",
        json!(""),
    );
    let expected = Bundle::open(golden("bundles/mobileclip")).unwrap();
    let found = Bundle::open(folder.path()).unwrap();
    let settings = |bundle: &Bundle| bundle.text.clone().unwrap().text;
    assert_eq!(settings(&found), settings(&expected));
}

/// The golden bundle whose tokenizer is of the kind that a config names.
fn tokenizer_for(name: Option<&str>) -> &'static str {
    const KINDS: [(&str, &str); 7] = [
        ("bert-base", "clipa"),
        ("xlm-", "open-clip-xlm-roberta"),
        ("roberta-base", "open-clip-xlm-roberta"),
        ("nllb", "nllb-clip"),
        ("mt5", "open-clip-siglip"),
        ("SigLIP2", "open-clip-siglip2"),
        ("SigLIP", "open-clip-siglip"),
    ];
    let Some(name) = name else {
        return "mobileclip";
    };
    let kind = KINDS.iter().find(|(part, _)| name.contains(part));
    kind.unwrap_or_else(|| panic!("no bundle for {name}")).1
}

/// Every config that open_clip ships, with every tag's pre-processing, is read as open_clip reads it.
#[test]
fn every_shipped_config_is_read_as_open_clip_reads_it() {
    let lines = list_of_lines(&golden("open-clip-configs.jsonl"));
    let mut models = 0;
    for line in &lines {
        let name = line["config"]["model_cfg"]["text_cfg"]["hf_tokenizer_name"].as_str();
        let folder = copy_bundle(tokenizer_for(name));
        fs::copy(
            golden("bundles/mobileclip/visual.onnx"),
            folder.path().join("visual.onnx"),
        )
        .unwrap();
        let config = folder.path().join(CONFIG);
        fs::write(config, line["config"].to_string()).unwrap();
        let bundle = Bundle::open(folder.path());
        let bundle = bundle.unwrap_or_else(|error| panic!("{}: {error}", line["names"]));
        assert_eq!(found(&bundle), expected(line), "{}", line["names"]);
        models += line["names"].as_array().unwrap().len();
    }
    assert!(models >= 200, "only {models} models");
}

/// What a bundle says of inputs, in the words of open-clip-configs.jsonl.
fn found(bundle: &Bundle) -> Value {
    let images = &bundle.image.as_ref().unwrap().preprocess;
    let text = &bundle.text.as_ref().unwrap().text;
    let resize = match images.resize {
        Some(Resize::Shortest(side)) => json!(side),
        Some(Resize::Squash { height, width }) => json!([height, width]),
        other => panic!("{other:?}"),
    };
    let clean = match text.cleaning {
        Cleaning::Lower => "lower",
        Cleaning::Whitespace => "whitespace",
        Cleaning::Canonicalize => "canonicalize",
        other => panic!("{other:?}"),
    };
    json!({
        "images": {
            "resize": resize,
            "filter": images.filter.name(),
            "crop": images.crop.map(|(height, width)| [height, width]),
            "mean": images.mean,
            "std": images.std,
        },
        "texts": {
            "is_open_clips": text.splitting == Splitting::OpenClip,
            "context": text.context_length,
            "clean": clean,
            "strips_sep": text.stripped_token.is_some(),
        },
    })
}

fn expected(line: &Value) -> Value {
    json!({"images": line["images"], "texts": line["texts"]})
}

fn in_language(name: &str, language: &str) -> diptych::Result<DualEncoder> {
    let options = BundleOptions {
        towers: Towers::Text,
        language: Some(language.to_owned()),
        ..Default::default()
    };
    let bundle = Bundle::open_with(golden("bundles").join(name), &options)?;
    let options = EncoderOptions {
        towers: Towers::Text,
        ..Default::default()
    };
    DualEncoder::from_bundle(bundle, &options)
}

#[test]
fn a_language_asked_for_gives_the_ids_and_rows_of_a_bundle_that_states_it() {
    let texts: Vec<String> = list(&golden("texts.json"))
        .iter()
        .map(|about| about["text"].as_str().unwrap().to_owned())
        .collect();
    let given: Vec<&str> = texts.iter().map(String::as_str).collect();
    for (name, language, expected) in [
        ("nllb-clip", "fra_Latn", "nllb-clip-french"),
        ("nllb-clip-french", "eng_Latn", "nllb-clip"),
        ("immich-nllb", "deu_Latn", "immich-nllb-german"),
    ] {
        let encoder = in_language(name, language).unwrap();
        let tokens = encoder.text_tower().unwrap().tokenizer().encode(&given);
        let expected = golden("expected").join(expected);
        let ids = npy2::<i64>(&expected.join("ids.npy"));
        assert_eq!(tokens.unwrap().ids, ids, "{name} in {language}");
        let rows = encoder.encode_texts(&texts).unwrap();
        let expected = npy2::<f32>(&expected.join("text_rows.npy"));
        for (index, row) in expected.outer_iter().enumerate() {
            let what = format!("{name} in {language}, {:?}", texts[index]);
            assert_close(rows.row(index), row.as_slice().unwrap(), EXACT, &what);
        }
    }
}

#[test]
fn a_language_that_is_not_there_is_an_error_with_some_that_are() {
    for unknown in ["nld_Latn", "the", "</s>", "▁dog"] {
        let error = in_language("nllb-clip", unknown).unwrap_err();
        assert!(matches!(error, Error::NoLanguage { .. }), "{error}");
        let message = error.to_string();
        let found = "found deu_Latn, eng_Latn, fra_Latn, zho_Hans, jpn_Jpan, rus_Cyrl";
        assert!(
            message.ends_with(&format!("no language {unknown}, {found}")),
            "{message}"
        );
        assert!(error.hint().unwrap().contains("--language"));
    }
    for name in ["open-clip-xlm-roberta", "open-clip", "transformers-clip"] {
        let error = in_language(name, "eng_Latn").unwrap_err();
        assert!(matches!(error, Error::NoLanguage { .. }), "{error}");
        assert!(error.to_string().contains("marks no languages"), "{error}");
    }
}

#[test]
fn a_language_that_no_file_states_is_said() {
    let taken = |bundle: &Bundle| match &bundle.unstated[..] {
        [] => "nothing".to_owned(),
        [unstated] => {
            assert_eq!(unstated.option, "--language");
            unstated.taken.clone()
        }
        more => panic!("{more:?}"),
    };
    let open = |name: &str| Bundle::open(golden("bundles").join(name)).unwrap();
    for (name, expected) in [
        ("nllb-clip", "eng_Latn"),
        ("nllb-clip-french", "nothing"),
        ("nllb-clip-legacy", "deu_Latn"),
        ("immich-nllb", "what the tokenizer adds by itself"),
        ("immich-nllb-german", "nothing"),
        ("open-clip-xlm-roberta", "nothing"),
    ] {
        assert_eq!(taken(&open(name)), expected, "{name}");
    }
    let place = |name| open(name).text.unwrap().text.language.unwrap().place;
    assert_eq!(place("nllb-clip"), LanguagePlace::First);
    assert_eq!(place("nllb-clip-legacy"), LanguagePlace::Last);
    assert_eq!(place("immich-nllb"), LanguagePlace::Written);
    let asked = in_language("nllb-clip", "fra_Latn").unwrap();
    assert_eq!(taken(asked.bundle()), "nothing");
}

#[test]
fn a_language_is_a_part_of_the_fingerprint_but_not_of_its_files() {
    let of = |language: &str| in_language("nllb-clip", language).unwrap();
    let fingerprints = |encoder: &DualEncoder| {
        let bundle = encoder.bundle();
        let whole = bundle.fingerprint().unwrap();
        (whole, bundle.fingerprint_of_files().unwrap())
    };
    let (french, french_files) = fingerprints(&of("fra_Latn"));
    let (german, german_files) = fingerprints(&of("deu_Latn"));
    assert_ne!(french, german);
    assert_eq!(french_files, german_files);
    assert_ne!(french, french_files);
}

fn run(arguments: &[&str], language: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diptych"));
    command
        .env_remove("DIPTYCH_MODEL")
        .env_remove("DIPTYCH_LANGUAGE");
    if let Some(language) = language {
        command.env("DIPTYCH_LANGUAGE", language);
    }
    command.args(arguments).output().unwrap()
}

#[test]
fn the_program_takes_a_language_and_says_which_it_took() {
    let model = golden("bundles/nllb-clip");
    let model = model.to_str().unwrap();
    let embed = |options: &[&str], variable| {
        let arguments = ["embed", "--model", model, "--text", "ein Hund"];
        let output = run(&[&arguments, options].concat(), variable);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        (output.stdout.clone(), stderr(&output))
    };
    let (english, said) = embed(&[], None);
    assert!(
        said.contains(
            "no file states the language that texts are in: eng_Latn is taken; --language"
        ),
        "{said}"
    );
    let (german, said) = embed(&["--language", "deu_Latn"], None);
    assert!(!said.contains("language"), "{said}");
    assert_ne!(english, german);
    assert_eq!(embed(&[], Some("deu_Latn")).0, german);
    assert_eq!(
        embed(&["--language", "eng_Latn"], Some("deu_Latn")).0,
        english
    );

    let unknown = run(
        &["embed", "--model", model, "--text", "x", "--language", "de"],
        None,
    );
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("no language de, found deu_Latn, eng_Latn"));

    let info = run(
        &["info", "--model", model, "--language", "deu_Latn", "--json"],
        None,
    );
    let info: Value = serde_json::from_slice(&info.stdout).unwrap();
    assert_eq!(info["language"], "deu_Latn, before each text");
}

/// Texts of an index are in its language; a query may be in any.
#[test]
fn an_index_is_of_one_language_and_is_asked_in_any() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (index, texts) = (path("index"), path("texts.jsonl"));
    fs::write(&texts, "{\"id\": \"a\", \"text\": \"un chien\"}\n").unwrap();
    let model = golden("bundles/nllb-clip");
    let model = model.to_str().unwrap();
    let at = |command: &[&str], language: &str| {
        let common = ["--model", model, "--index", &index, "--language", language];
        run(&[command, &common[..]].concat(), None)
    };
    let indexed = at(&["index", "--texts", &texts], "fra_Latn");
    assert_eq!(indexed.status.code(), Some(0), "{}", stderr(&indexed));
    for language in ["fra_Latn", "deu_Latn"] {
        let found = at(&["search", "--kind", "texts", "ein Hund"], language);
        assert_eq!(found.status.code(), Some(0), "{}", stderr(&found));
    }
    let other = at(&["index", "--texts", &texts], "deu_Latn");
    assert_eq!(other.status.code(), Some(2), "{}", stderr(&other));
    assert!(stderr(&other).contains("in fra_Latn"), "{}", stderr(&other));
}

//! `diptych verify`: a bundle passes against a record of itself, and each planted fault is named with its stage.

mod common;

use std::process::{Command, Output};

use common::{golden, list, stderr};
use diptych::DualEncoder;
use diptych::verify::{Record, Verdict, compare};
use serde_json::Value;

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

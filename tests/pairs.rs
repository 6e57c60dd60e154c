//! Two models as one: images by the first, texts by the second.

mod common;

use std::process::Command;

use common::{EXACT, assert_all_close, golden, root, stderr};
use diptych::{Bundle, DualEncoder, EncoderOptions, ImageOptions, ScaleOrigin, open_image};

fn open(image: &str, text: &str) -> DualEncoder {
    let half = |name| Bundle::open(golden("bundles").join(name)).unwrap();
    let options = EncoderOptions {
        notice: |_| (),
        ..Default::default()
    };
    DualEncoder::from_bundle(Bundle::pair(half(image), half(text)).unwrap(), &options).unwrap()
}

/// Each half gives its own model's rows, whatever else its graph takes and gives.
#[test]
fn halves_are_those_of_their_models() {
    let photo = open_image(root("assets/photos/cat.jpg"), &ImageOptions::default()).unwrap();
    let photos = [photo];
    let texts = ["a cat", "two dogs on a bench"];
    for (image, text) in [
        ("nomic-vision", "nomic-text"),
        ("tinyclip", "combined"),
        ("combined", "tinyclip"),
        ("combined-root", "combined"),
    ] {
        let what = format!("{image}+{text}");
        let pair = open(image, text);
        let alone = |name| DualEncoder::open(golden("bundles").join(name)).unwrap();
        let rows = pair.encode_images(&photos).unwrap();
        let expected = alone(image).encode_images(&photos).unwrap();
        assert_all_close(&rows, &expected, EXACT, &what);
        let rows = pair.encode_texts(&texts).unwrap();
        let expected = alone(text).encode_texts(&texts).unwrap();
        assert_all_close(&rows, &expected, EXACT, &what);
    }
}

/// A scale that was measured of one model says nothing of two; without one that is stated, softmax has its usual one.
#[test]
fn a_pair_has_the_usual_scale() {
    for (image, text) in [("nomic-vision", "nomic-text"), ("combined", "tinyclip")] {
        let pair = open(image, text);
        let calibration = pair.calibration();
        assert_eq!(calibration.origin, ScaleOrigin::Assumed, "{image}+{text}");
        assert_eq!(calibration.scale, Some(100.0));
    }
}

#[test]
fn a_pair_classifies_and_each_notice_names_its_half() {
    let model = format!(
        "{}+{}",
        golden("bundles/nomic-vision").display(),
        golden("bundles/nomic-text").display()
    );
    let output = Command::new(env!("CARGO_BIN_EXE_diptych"))
        .current_dir(root(""))
        .args(["classify", "--labels", "cat,dog", "--threshold", "0.5"])
        .args(["--model", &model, "assets/photos/cat.jpg"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stderr(&output);
    let notices: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("no file states"))
        .collect();
    assert!(!notices.is_empty(), "{said}");
    for notice in notices {
        assert!(notice.contains("nomic-text: no file states"), "{notice}");
    }
}

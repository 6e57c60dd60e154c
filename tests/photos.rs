//! What the bundled model makes of the photos in `assets/photos`, photo by photo: its names for them, and whether a
//! sentence finds the right one.

mod common;

use std::path::PathBuf;

use common::{list_of_lines, root};
use diptych::{DualEncoder, ImageOptions, ZeroShot, open_image, top_k};

/// A line of `captions.jsonl`.
struct Photo {
    file: String,
    label: String,
    caption: String,
}

/// Photos that the model names wrongly among the everyday labels, and what it takes them for.
const MISNAMED: [(&str, &str); 5] = [
    ("astronaut.jpg", "robot"),
    ("drums.jpg", "guitar"),
    ("flower.jpg", "dandelion"),
    ("parrot.jpg", "birdcage"),
    ("temple.jpg", "harbour"),
];

/// Photos that their caption does not find first among all of them.
const NOT_FOUND: [&str; 3] = ["astronaut.jpg", "parrot.jpg", "temple.jpg"];

fn photos() -> Vec<Photo> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    list_of_lines(&root("assets/photos/captions.jsonl"))
        .iter()
        .map(|line| Photo {
            file: text(&line["file"]),
            label: text(&line["label"]),
            caption: text(&line["caption"]),
        })
        .collect()
}

fn encode(encoder: &DualEncoder, photos: &[Photo]) -> diptych::Embeddings {
    let open = |photo: &Photo| {
        let path: PathBuf = root("assets/photos").join(&photo.file);
        open_image(&path, &ImageOptions::default()).unwrap()
    };
    let images: Vec<_> = photos.iter().map(open).collect();
    encoder.encode_images(&images).unwrap()
}

fn everyday() -> Vec<String> {
    let text = std::fs::read_to_string(root("assets/labels/everyday.txt")).unwrap();
    let labels = text.lines().filter(|line| !line.starts_with('#'));
    labels.map(str::to_owned).collect()
}

#[test]
fn each_photo_gets_its_name() {
    let encoder = DualEncoder::open(root("onnx/tiny")).unwrap();
    let photos = photos();
    assert_eq!(photos.len(), 14);
    let templates = ["a photo of a {}.".to_owned()];
    let classes = ZeroShot::new(&encoder, &everyday(), &templates).unwrap();
    let rows = encode(&encoder, &photos);
    let predictions = classes.classify(&rows, encoder.calibration()).unwrap();
    for (photo, best) in photos.iter().zip(predictions) {
        let misnamed = MISNAMED.iter().find(|(file, _)| *file == photo.file);
        let expected = misnamed.map_or(photo.label.as_str(), |(_, label)| label);
        assert_eq!(best[0].label, expected, "{}", photo.file);
    }
}

#[test]
fn each_caption_finds_its_photo() {
    let encoder = DualEncoder::open(root("onnx/tiny")).unwrap();
    let photos = photos();
    let captions: Vec<&str> = photos.iter().map(|photo| photo.caption.as_str()).collect();
    let texts = encoder.encode_texts(&captions).unwrap();
    let scores = texts.scores(&encode(&encoder, &photos)).unwrap();
    for (photo, scores) in photos.iter().zip(scores.outer_iter()) {
        let (first, _) = top_k(&scores.to_vec(), 1)[0];
        let is_found = photos[first].file == photo.file;
        let expected = !NOT_FOUND.contains(&photo.file.as_str());
        assert_eq!(
            is_found, expected,
            "{} finds {}",
            photo.caption, photos[first].file
        );
    }
}

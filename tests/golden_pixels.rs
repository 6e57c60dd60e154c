//! The resampler, the decoders and the preprocessing against golden values of Pillow and the Python references.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use diptych::{Filter, ImageOptions, Preprocess, Reference, Resize, open_image, resize};
use image::RgbImage;
use serde_json::Value;

/// The most by which decoders of the same lossy file differ after shrinking, in levels.
const LOSSY_LEVELS: u8 = 12;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn json(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).expect("golden files are JSON")
}

fn list(path: &Path) -> Vec<Value> {
    let list = json(path).as_array().expect("a list").clone();
    assert!(!list.is_empty(), "{} is empty", path.display());
    list
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key}"))
}

fn number(value: &Value) -> Option<u32> {
    value
        .as_u64()
        .map(|number| u32::try_from(number).expect("a side"))
}

fn open(path: &Path) -> RgbImage {
    open_image(path, &ImageOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn resampler_equals_pillow() {
    let folder = golden().join("resample");
    for case in list(&folder.join("cases.json")) {
        let side = |key| number(&case[key]).expect("a side");
        let filter = Filter::from_name(text(&case, "filter")).expect("a filter");
        let found = resize(
            &open(&folder.join(text(&case, "input"))),
            side("width"),
            side("height"),
            filter,
        );
        assert!(found == open(&folder.join(text(&case, "output"))), "{case}");
    }
}

/// A number of both sides, a list of height and width, or an object of them.
fn sides(value: &Value) -> Option<(u32, u32)> {
    match value {
        Value::Number(_) => Some((number(value)?, number(value)?)),
        Value::Array(both) => Some((number(&both[0])?, number(&both[1])?)),
        _ => Some((number(&value["height"])?, number(&value["width"])?)),
    }
}

fn transformers(config: &Value) -> Preprocess {
    let size = &config["size"];
    let resize = match number(&size["shortest_edge"]).or_else(|| number(size)) {
        Some(shortest) => Resize::Shortest(shortest),
        None => {
            let (height, width) = sides(size).expect("a size");
            Resize::Squash { height, width }
        }
    };
    Preprocess {
        reference: Reference::Transformers,
        resize: Some(resize),
        filter: config["resample"]
            .as_u64()
            .and_then(Filter::from_code)
            .expect("a filter"),
        crop: sides(&config["crop_size"]),
        fill: [0; 3],
        rescale: None,
        mean: [0.0; 3],
        std: [1.0; 3],
    }
}

fn open_clip(config: &Value, reference: Reference) -> Preprocess {
    let (height, width) = sides(&config["size"]).expect("a size");
    let fill = number(&config["fill_color"]).expect("a level") as u8;
    let (resize, crop) = match text(config, "resize_mode") {
        "shortest" => (Resize::Shortest(height), Some((height, width))),
        "longest" => (Resize::Longest { height, width }, Some((height, width))),
        _ => (Resize::Squash { height, width }, None),
    };
    Preprocess {
        reference,
        resize: Some(resize),
        filter: Filter::from_name(text(config, "interpolation")).expect("a filter"),
        crop,
        fill: [fill; 3],
        rescale: None,
        mean: [0.0; 3],
        std: [1.0; 3],
    }
}

fn preprocess(bundle: &Path) -> Preprocess {
    let files = [
        "preprocessor_config.json",
        "visual/preprocess_cfg.json",
        "open_clip_config.json",
    ];
    let file = files
        .iter()
        .position(|file| bundle.join(file).exists())
        .expect("a config");
    let config = json(&bundle.join(files[file]));
    match file {
        0 => transformers(&config),
        1 => open_clip(&config, Reference::Immich),
        _ => open_clip(&config["preprocess_cfg"], Reference::OpenClip),
    }
}

/// Pictures, each as its bytes in RGB.
fn expected_pixels(path: &Path) -> Vec<Vec<u8>> {
    let file = BufReader::new(File::open(path).expect("golden pixels"));
    let array = npyz::NpyFile::new(file).expect("an array");
    let length = array.shape()[1..].iter().product::<u64>() as usize;
    let bytes: Vec<u8> = array.into_vec().expect("bytes");
    bytes.chunks(length).map(<[u8]>::to_vec).collect()
}

#[test]
fn pixels_equal_the_references() {
    let pictures = list(&golden().join("images.json"));
    let mut wrong = Vec::<String>::new();
    for bundle in list(&golden().join("expected/bundles.json")) {
        let name = text(&bundle, "bundle");
        let preprocess = preprocess(&golden().join("bundles").join(name));
        let refused = bundle["refused_images"].as_array().expect("a list");
        let expected = expected_pixels(&golden().join("expected").join(name).join("pixels.npy"));
        assert_eq!(expected.len(), pictures.len());
        for (picture, expected) in pictures.iter().zip(&expected) {
            if refused.contains(&picture["file"]) {
                continue;
            }
            let file = text(picture, "file");
            let image = open(&golden().join("images").join(file));
            let found = preprocess.pixels(&image);
            assert_eq!(found.len(), expected.len(), "{name}: {file}");
            let pairs = found.iter().zip(expected);
            let most = pairs.map(|(&a, &b)| a.abs_diff(b)).max().unwrap_or(0);
            let allowed = if picture["lossless"] == true {
                0
            } else {
                LOSSY_LEVELS
            };
            if most > allowed {
                wrong.push(format!("{name}: {file}: {most} levels, {allowed} allowed"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

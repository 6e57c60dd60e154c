//! Every bundle layout against its own Python reference: pixels, ids, rows, logits, as `tests/golden` holds them.

mod common;

use common::{EXACT, assert_all_close, assert_close, golden, list, npy, npy2};
use diptych::{
    DualEncoder, Embeddings, EncoderOptions, Error, Filter, ImageOptions, Rows, open_image, resize,
};
use image::RgbImage;
use serde_json::Value;

/// One bundle with what its reference makes of the corpus.
struct Case {
    name: &'static str,
    about: Value,
    encoder: DualEncoder,
}

impl Case {
    fn open(name: &'static str) -> Self {
        let about = list(&golden("expected/bundles.json"))
            .into_iter()
            .find(|about| about["bundle"] == name);
        let encoder = DualEncoder::open(golden("bundles").join(name)).unwrap();
        Self {
            name,
            about: about.unwrap_or_else(|| panic!("{name} is not in bundles.json")),
            encoder,
        }
    }

    fn expected(&self, file: &str) -> std::path::PathBuf {
        golden("expected").join(self.name).join(file)
    }

    fn has(&self, half: &str) -> bool {
        self.about[half].as_bool().unwrap()
    }

    fn is_refused(&self, file: &str) -> bool {
        self.about["refused_images"]
            .as_array()
            .is_some_and(|refused| refused.iter().any(|name| name == file))
    }
}

struct Picture {
    file: String,
    image: RgbImage,
}

fn pictures() -> Vec<Picture> {
    let open = |about: Value| {
        let file = about["file"].as_str().unwrap().to_owned();
        let image = open_image(golden("images").join(&file), &ImageOptions::default())
            .unwrap_or_else(|error| panic!("{error}"));
        Picture { file, image }
    };
    let pictures: Vec<Picture> = list(&golden("images.json")).into_iter().map(open).collect();
    assert!(pictures.len() >= 20);
    pictures
}

fn images(pictures: &[Picture]) -> Vec<RgbImage> {
    pictures
        .iter()
        .map(|picture| picture.image.clone())
        .collect()
}

fn texts() -> Vec<String> {
    let text = |about: Value| about["text"].as_str().unwrap().to_owned();
    let texts: Vec<String> = list(&golden("texts.json")).into_iter().map(text).collect();
    assert!(texts.len() >= 20);
    texts
}

/// Pixels after resize and crop: equal, of JPEG and lossy WebP too.
fn pixels(case: &Case) {
    let expected = npy::<u8>(&case.expected("pixels.npy"));
    let preprocess = case.encoder.image_tower().unwrap().preprocess();
    let pictures = pictures();
    assert_eq!(expected.shape()[0], pictures.len());
    for (picture, expected) in pictures.iter().zip(expected.outer_iter()) {
        if case.is_refused(&picture.file) {
            continue;
        }
        let found = preprocess.pixels(&picture.image);
        let differing = found
            .as_raw()
            .iter()
            .zip(&expected)
            .filter(|(a, b)| a != b)
            .count();
        assert_eq!(
            found.as_raw().len(),
            expected.len(),
            "{} {}: size",
            case.name,
            picture.file
        );
        assert_eq!(
            differing, 0,
            "{} {}: levels that differ",
            case.name, picture.file
        );
    }
}

/// How far what a graph is fed may be from the reference's, where it sums floats; values are of the order of 1.
const SUMMED: f32 = 1e-5;

/// What the graph is fed, where the reference makes no levels: within 1e-5.
fn values(case: &Case) {
    let expected = npy::<f32>(&case.expected("values.npy"));
    let tower = case.encoder.image_tower().unwrap();
    let pictures = pictures();
    assert_eq!(expected.shape()[0], pictures.len());
    for (picture, expected) in pictures.iter().zip(expected.outer_iter()) {
        let found = tower.prepare(&picture.image);
        assert_eq!(found.len(), expected.len());
        let furthest = found
            .iter()
            .zip(&expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(
            furthest <= SUMMED,
            "{} {}: a value is {furthest} beside the reference's",
            case.name,
            picture.file
        );
    }
}

/// Every kind of row: within 1e-5 of cosine 1, alone and in a batch; what the model has none of is refused.
fn kinds(case: &Case) {
    let known: Vec<&str> = case.about["rows"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(known.len() >= 2);
    let pictures = pictures();
    let images = images(&pictures);
    for rows in Rows::ALL {
        let options = EncoderOptions {
            rows: Some(rows),
            ..Default::default()
        };
        let encoder = DualEncoder::open_with(golden("bundles").join(case.name), &options);
        if !known.contains(&rows.name()) {
            let error = encoder.unwrap_err();
            assert!(matches!(error, Error::GraphInterface { .. }), "{error}");
            assert!(error.to_string().contains(rows.name()), "{error}");
            continue;
        }
        let encoder = encoder.unwrap();
        let expected = npy::<f32>(&case.expected(&format!("rows_{rows}.npy")));
        let of_each = encoder.image_tower().unwrap().rows_per_image();
        let axes = expected.shape().to_vec();
        let has_axis = axes.len() == 3;
        assert_eq!(
            (has_axis, of_each),
            (rows == Rows::Patches, if has_axis { axes[1] } else { 1 })
        );
        let found = encoder.encode_images(&images).unwrap();
        assert_eq!(found.len(), pictures.len() * of_each);
        let expected = expected.as_slice().unwrap().chunks_exact(found.width());
        for (index, expected) in expected.enumerate() {
            let what = format!(
                "{} {rows} {} of {}",
                case.name,
                index % of_each,
                pictures[index / of_each].file
            );
            assert_close(found.row(index), expected, EXACT, &what);
        }
        let alone = encoder.encode_images(&images[3..4]).unwrap();
        for patch in 0..of_each {
            let what = format!("{} {rows} {patch} alone", case.name);
            assert_close(
                alone.row(patch),
                found.row(3 * of_each + patch),
                EXACT,
                &what,
            );
        }
    }
}

/// Rows of images: within 1e-5 of cosine 1, alone and in a batch.
fn image_rows(case: &Case) {
    let expected = npy2::<f32>(&case.expected("image_rows.npy"));
    let pictures = pictures();
    let images = images(&pictures);
    let rows = case.encoder.encode_images(&images).unwrap();
    for (index, picture) in pictures.iter().enumerate() {
        if case.is_refused(&picture.file) {
            continue;
        }
        let what = format!("{} {}", case.name, picture.file);
        assert_close(
            rows.row(index),
            expected.row(index).as_slice().unwrap(),
            EXACT,
            &what,
        );
        let alone = case.encoder.encode_images(&images[index..=index]).unwrap();
        assert_close(
            alone.row(0),
            rows.row(index),
            EXACT,
            &format!("{what} alone"),
        );
    }
}

/// Ids and mask: equal.
fn ids(case: &Case) {
    let expected = npy2::<i64>(&case.expected("ids.npy"));
    let texts = texts();
    let given: Vec<&str> = texts.iter().map(String::as_str).collect();
    let tokens = case
        .encoder
        .text_tower()
        .unwrap()
        .tokenizer()
        .encode(&given)
        .unwrap();
    assert_eq!(tokens.ids.dim(), expected.dim(), "{}", case.name);
    for (index, text) in texts.iter().enumerate() {
        assert_eq!(
            tokens.ids.row(index),
            expected.row(index),
            "{} {text:?}",
            case.name
        );
    }
    if case.expected("mask.npy").is_file() {
        assert_eq!(
            tokens.mask,
            npy2::<i64>(&case.expected("mask.npy")),
            "{}: mask",
            case.name
        );
    }
    assert!(tokens.cut > 0, "the corpus has texts that are too long");
}

/// Rows of texts: within 1e-5 of cosine 1, alone and in batches of any size.
fn text_rows(case: &Case) {
    let expected = npy2::<f32>(&case.expected("text_rows.npy"));
    let texts = texts();
    let rows = case.encoder.encode_texts(&texts).unwrap();
    for (index, text) in texts.iter().enumerate() {
        let what = format!("{} {text:?}", case.name);
        assert_close(
            rows.row(index),
            expected.row(index).as_slice().unwrap(),
            EXACT,
            &what,
        );
        let alone = case.encoder.encode_texts(&[text]).unwrap();
        assert_close(
            alone.row(0),
            rows.row(index),
            EXACT,
            &format!("{what} alone"),
        );
    }
}

/// Scale, bias and activation as the files or the graph state them.
fn head(case: &Case) {
    let calibration = case.encoder.calibration();
    assert_eq!(
        calibration.activation.name(),
        case.about["activation"],
        "{}",
        case.name
    );
    match (case.about["scale"].as_f64(), calibration.scale) {
        (Some(expected), found) => {
            let found = f64::from(found.unwrap_or_else(|| panic!("{}: no scale", case.name)));
            assert!(
                (found / expected - 1.0).abs() < 1e-4,
                "{}: scale {found}, expected {expected}",
                case.name
            );
            let bias = case.about["bias"].as_f64().unwrap_or(0.0);
            assert!(
                (f64::from(calibration.bias.unwrap()) - bias).abs() < 1e-3,
                "{}: bias",
                case.name
            );
        }
        (None, found) => assert!(
            found.is_none() || calibration.origin == diptych::ScaleOrigin::Assumed,
            "{}: a scale that no file states",
            case.name
        ),
    }
}

/// Logits, where the scale is known.
fn logits(case: &Case) {
    let expected = npy2::<f32>(&case.expected("logits.npy"));
    let pictures = pictures();
    let images = images(&pictures);
    let rows = case.encoder.encode_images(&images).unwrap();
    let scores = rows
        .scores(&case.encoder.encode_texts(&texts()).unwrap())
        .unwrap();
    let scale = case.encoder.calibration().scale.unwrap();
    for (index, picture) in pictures.iter().enumerate() {
        if case.is_refused(&picture.file) {
            continue;
        }
        let found = case
            .encoder
            .calibration()
            .logits(scores.row(index).as_slice().unwrap())
            .unwrap();
        // A row within 1e-5 of cosine 1 lies up to 4.5e-3 beside its reference in angle.
        let tolerance = scale * (2.0 * EXACT).sqrt();
        for (found, expected) in found.iter().zip(expected.row(index)) {
            let what = format!("{} {}", case.name, picture.file);
            assert!(
                (found - expected).abs() <= tolerance,
                "{what}: logit {found}, expected {expected}"
            );
        }
    }
}

/// Neither the number of threads nor the size of a batch changes a row.
fn steadiness(case: &Case) {
    let path = golden("bundles").join(case.name);
    let open = |threads, batch| {
        DualEncoder::open_with(
            &path,
            &EncoderOptions {
                threads,
                batch,
                ..Default::default()
            },
        )
        .unwrap()
    };
    let (one, many) = (open(1, 1), open(4, 7));
    if case.has("texts") {
        let texts = texts();
        let [one, many] = [&one, &many].map(|encoder| encoder.encode_texts(&texts).unwrap());
        assert_all_close(&one, &many, EXACT, case.name);
    }
    if case.has("images") {
        let images: Vec<RgbImage> = pictures()
            .into_iter()
            .map(|picture| picture.image)
            .collect();
        let [one, many] = [&one, &many].map(|encoder| encoder.encode_images(&images).unwrap());
        assert_all_close(&one, &many, EXACT, case.name);
    }
}

/// A module of tests for each bundle, and one that sees to it that none is left out.
macro_rules! bundles {
    ($($module:ident: $name:literal [$($check:ident)*],)*) => {
        $(mod $module {
            $(#[test]
            fn $check() {
                super::$check(&super::Case::open($name));
            })*

            /// What the bundle has is what is checked.
            #[test]
            fn nothing_is_left_out() {
                let case = super::Case::open($name);
                let checks = [$(stringify!($check)),*];
                assert_eq!(checks.contains(&"image_rows"), case.has("images"));
                assert_eq!(checks.contains(&"text_rows"), case.has("texts"));
                assert_eq!(checks.contains(&"kinds"), case.about["rows"].is_array());
                let of_images = ["pixels", "values"];
                for check in of_images {
                    assert_eq!(checks.contains(&check), case.expected(&format!("{check}.npy")).is_file());
                }
                assert_eq!(checks.contains(&"logits"), case.expected("logits.npy").is_file());
            }
        })*

        #[test]
        fn every_bundle_is_tested() {
            let mut tested = vec![$($name),*];
            let all = list(&golden("expected/bundles.json"));
            let mut all: Vec<&str> = all.iter().map(|about| about["bundle"].as_str().unwrap()).collect();
            tested.sort_unstable();
            all.sort_unstable();
            assert_eq!(tested, all);
        }
    };
}

bundles! {
    combined: "combined" [pixels image_rows ids text_rows head logits steadiness],
    combined_root: "combined-root" [pixels image_rows ids text_rows head logits steadiness],
    immich: "immich" [pixels image_rows ids text_rows head steadiness],
    immich_canonicalize: "immich-canonicalize" [pixels image_rows ids text_rows head logits steadiness],
    open_clip: "open-clip" [pixels image_rows ids text_rows head logits steadiness],
    open_clip_longest: "open-clip-longest" [pixels image_rows head steadiness],
    open_clip_siglip: "open-clip-siglip" [pixels image_rows ids text_rows head logits steadiness],
    open_clip_squash: "open-clip-squash" [pixels image_rows ids text_rows head steadiness],
    siglip: "siglip" [pixels image_rows ids text_rows head logits steadiness],
    siglip_bare: "siglip-bare" [pixels image_rows ids text_rows head steadiness],
    transformers_clip: "transformers-clip" [pixels image_rows ids text_rows head logits steadiness],
    transformers_clip_external: "transformers-clip-external" [pixels image_rows head steadiness],
    transformers_clip_f16: "transformers-clip-f16" [pixels image_rows head steadiness],
    transformers_clip_legacy: "transformers-clip-legacy" [pixels image_rows ids text_rows head steadiness],
    transformers_clip_padded: "transformers-clip-padded" [pixels image_rows head steadiness],
    siglip2: "siglip2" [pixels image_rows ids text_rows head logits steadiness],
    siglip2_gemma: "siglip2-gemma" [ids text_rows head steadiness],
    chinese_clip: "chinese-clip" [pixels image_rows ids text_rows head logits steadiness],
    jina_clip: "jina-clip" [pixels image_rows ids text_rows head steadiness],
    jina_clip_unmasked: "jina-clip-unmasked" [ids text_rows head steadiness],
    tinyclip: "tinyclip" [pixels image_rows ids text_rows head steadiness],
    dfn: "dfn" [pixels image_rows head steadiness],
    mobileclip_transformers: "mobileclip-transformers" [pixels image_rows ids text_rows head steadiness],
    nomic_vision: "nomic-vision" [pixels image_rows head steadiness],
    nomic_text: "nomic-text" [ids text_rows head steadiness],
    vision_clip: "vision-clip" [pixels image_rows kinds head steadiness],
    vision_dinov2: "vision-dinov2" [pixels image_rows kinds head steadiness],
    vision_dinov2_registers: "vision-dinov2-registers" [pixels image_rows kinds head steadiness],
    vision_dinov3: "vision-dinov3" [values image_rows kinds head steadiness],
    vision_siglip: "vision-siglip" [pixels image_rows kinds head steadiness],
    vision_siglip_headless: "vision-siglip-headless" [pixels image_rows kinds head steadiness],
    vision_vit: "vision-vit" [pixels image_rows kinds head steadiness],
    // open_clip's families.
    clipa: "clipa" [pixels image_rows ids text_rows head steadiness],
    dfn_378: "dfn-378" [pixels image_rows head steadiness],
    immich_mclip: "immich-mclip" [pixels image_rows ids text_rows head steadiness],
    immich_siglip2: "immich-siglip2" [pixels image_rows ids text_rows head steadiness],
    immich_xlm_roberta: "immich-xlm-roberta" [ids text_rows head steadiness],
    immich_nllb: "immich-nllb" [ids text_rows head steadiness],
    immich_nllb_german: "immich-nllb-german" [ids text_rows head steadiness],
    metaclip2: "metaclip2" [pixels image_rows ids text_rows head steadiness],
    mobileclip: "mobileclip" [pixels image_rows ids text_rows head steadiness],
    mobileclip2: "mobileclip2" [pixels image_rows ids text_rows head steadiness],
    mobileclip2_l14: "mobileclip2-l14" [pixels image_rows ids text_rows head steadiness],
    nllb_clip: "nllb-clip" [pixels image_rows ids text_rows head steadiness],
    nllb_clip_french: "nllb-clip-french" [ids text_rows head steadiness],
    nllb_clip_legacy: "nllb-clip-legacy" [ids text_rows head steadiness],
    open_clip_hub: "open-clip-hub" [pixels image_rows ids text_rows head logits steadiness],
    open_clip_siglip2: "open-clip-siglip2" [pixels image_rows ids text_rows head logits steadiness],
    open_clip_xlm_roberta: "open-clip-xlm-roberta" [pixels image_rows ids text_rows head steadiness],
    pe_core: "pe-core" [pixels image_rows ids text_rows head steadiness],
    pe_core_bigg: "pe-core-bigg" [ids text_rows head steadiness],
}

/// Pillow's `Image.resize` over hard shapes, by every filter: equal.
#[test]
fn resampler_equals_pillow() {
    let open = |file: &Value| {
        open_image(
            golden("resample").join(file.as_str().unwrap()),
            &ImageOptions::default(),
        )
        .unwrap()
    };
    for case in list(&golden("resample/cases.json")) {
        let side = |key: &str| u32::try_from(case[key].as_u64().unwrap()).unwrap();
        let filter = Filter::from_name(case["filter"].as_str().unwrap()).unwrap();
        let found = resize(&open(&case["input"]), side("width"), side("height"), filter);
        assert!(found == open(&case["output"]), "{case}");
    }
}

/// How far the rows of each bundle are from its reference's, as README's table has it.
#[test]
#[ignore = "prints figures: cargo test --test golden figures -- --ignored --nocapture"]
#[allow(clippy::print_stdout, reason = "that is what it is for")]
fn figures() {
    let furthest = |found: &Embeddings, file: &std::path::Path, skipped: &dyn Fn(usize) -> bool| {
        let expected = npy2::<f32>(file);
        let rows = expected.outer_iter().enumerate();
        let rows = rows.filter(|(index, _)| !skipped(*index));
        let away = rows.map(|(index, row)| away(found.row(index), row.as_slice().unwrap()));
        format!("{:.0e}", away.fold(0.0, f64::max))
    };
    let (pictures, texts) = (pictures(), texts());
    let images = images(&pictures);
    for about in list(&golden("expected/bundles.json")) {
        let name: &'static str = about["bundle"].as_str().unwrap().to_owned().leak();
        let case = Case::open(name);
        let of_images = || {
            let rows = case.encoder.encode_images(&images).unwrap();
            let skipped = |index: usize| case.is_refused(&pictures[index].file);
            furthest(&rows, &case.expected("image_rows.npy"), &skipped)
        };
        let of_texts = || {
            let rows = case.encoder.encode_texts(&texts).unwrap();
            furthest(&rows, &case.expected("text_rows.npy"), &|_| false)
        };
        let images = if case.has("images") {
            of_images()
        } else {
            "–".to_owned()
        };
        let texts = if case.has("texts") {
            of_texts()
        } else {
            "–".to_owned()
        };
        println!(
            "| {name} | {images} | {texts} | {} |",
            about["note"].as_str().unwrap()
        );
    }
}

/// 1 less the cosine of two rows, in f64.
fn away(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    (1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).abs()
}

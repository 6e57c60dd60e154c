//! How many 640 × 480 JPEG photos a second become rows, beside ONNX Runtime alone on prepared pixels.
//!
//! `cargo bench --bench images`. The ratio says what decoding, preparing and the pipeline cost.

#![allow(clippy::print_stdout, reason = "a bench prints its table")]

mod common;

use std::path::PathBuf;

use common::{alone, cosine, medians, model, rate, run};
use diptych::pipeline::{PipelineOptions, encode_files};
use diptych::{Bundle, DualEncoder, ImageOptions, open_image};
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use ort::value::Tensor;

const PHOTOS: usize = 64;
const ROUNDS: usize = 7;

/// A photo-like picture: smooth shapes, edges and grain, different for each `seed`.
fn photo(seed: u32) -> RgbImage {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    RgbImage::from_fn(640, 480, |x, y| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let grain = (state >> 27) as f32;
        let (u, v) = (x as f32 / 640.0, y as f32 / 480.0);
        let wave = |k: f32| 110.0 + 90.0 * ((u * k + v * (k + seed as f32)).sin());
        let edge = if (x / 80 + y / 60 + seed).is_multiple_of(2) {
            20.0
        } else {
            0.0
        };
        image::Rgb([3.0, 5.0, 7.0].map(|k| (wave(k) + edge + grain) as u8))
    })
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..PHOTOS as u32)
        .map(|seed| {
            let path = folder.path().join(format!("{seed}.jpg"));
            let file = std::fs::File::create(&path).unwrap();
            JpegEncoder::new_with_quality(file, 90)
                .encode_image(&photo(seed))
                .unwrap();
            path
        })
        .collect();

    let encoder = DualEncoder::open(model()).unwrap();
    let tower = encoder.image_tower().unwrap();
    let (height, width) = tower.side();
    let options = ImageOptions::default();
    let prepared: Vec<f32> = paths
        .iter()
        .flat_map(|path| tower.prepare(&open_image(path, &options).unwrap()))
        .collect();
    let graph = Bundle::open(model()).unwrap().image.unwrap().graph;
    let mut session = alone(&graph);
    let batch = encoder.batch();
    let mut run_alone = || -> Vec<f32> {
        let mut rows = Vec::new();
        for images in prepared.chunks(batch * tower.values()) {
            let shape = [images.len() / tower.values(), 3, height, width];
            let pixels = Tensor::from_array((shape, images.to_vec())).unwrap();
            rows.extend(run(&mut session, &[pixels.into()]));
        }
        rows
    };
    let encode = || {
        let mut rows = Vec::new();
        encode_files(&encoder, &paths, &PipelineOptions::default(), |encoded| {
            rows.extend_from_slice(encoded.row.unwrap().row(0));
            true
        })
        .unwrap();
        rows
    };

    let (expected, found) = (run_alone(), encode());
    assert_eq!(expected.len(), found.len());
    for (expected, found) in expected
        .chunks(encoder.width())
        .zip(found.chunks(encoder.width()))
    {
        assert!(
            (1.0 - cosine(expected, found)).abs() < 1e-5,
            "rows differ from ONNX Runtime's"
        );
    }

    let [whole, model_alone, prepare_alone] = medians(
        ROUNDS,
        [
            &mut || drop(encode()),
            &mut || drop(run_alone()),
            &mut || {
                for path in &paths {
                    drop(tower.prepare(&open_image(path, &options).unwrap()));
                }
            },
        ],
    );
    // What the cores could do if model and preparing never waited for each other.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let limit = rate(PHOTOS, model_alone + prepare_alone / cores as u32);
    let [whole, model_alone, prepare_alone] =
        [whole, model_alone, prepare_alone].map(|time| rate(PHOTOS, time));
    println!(
        "{PHOTOS} photos of 640 x 480, JPEG, model side {height} x {width}, median of {ROUNDS} rounds"
    );
    println!("file to row, diptych                {whole:8.1} images/s");
    println!("prepared pixels, ONNX Runtime alone {model_alone:8.1} images/s");
    println!("file to prepared pixels, one thread {prepare_alone:8.1} images/s");
    println!("both at once, the limit of {cores} cores   {limit:8.1} images/s");
    println!("diptych / limit                     {:8.2}", whole / limit);
    println!(
        "diptych / ONNX Runtime alone        {:8.2}",
        whole / model_alone
    );
}

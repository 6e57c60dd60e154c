//! What the test programs share: where things lie, and one way to compare rows.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use diptych::Embeddings;
use image::{ImageFormat, Rgb, RgbImage};
use ndarray::{Array2, ArrayD, IxDyn};
use serde_json::Value;
use tempfile::TempDir;

/// How far from cosine 1 a row may be.
pub(crate) const EXACT: f32 = 1e-5;

/// A path under the repository's root.
pub(crate) fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A path under `tests/golden`.
pub(crate) fn golden(path: &str) -> PathBuf {
    root("tests/golden").join(path)
}

/// A copy of a golden bundle, to be changed.
pub(crate) fn copy_bundle(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&golden("bundles").join(name), folder.path());
    folder
}

/// Copies a folder with all that lies in it.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// What a program said on standard error.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A small photo in a file, with its folders, in a colour that no other number has.
pub(crate) fn write_photo(path: &Path, number: u32) {
    let [_, red, green, blue] = (number * 7919).to_be_bytes();
    let mut image = RgbImage::from_pixel(8, 8, Rgb([red, green, blue]));
    image.put_pixel(0, 0, Rgb([blue, red, 255 - green]));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.save_with_format(path, ImageFormat::Png).unwrap();
}

/// A list in a JSON file, which must hold something.
pub(crate) fn list(path: &Path) -> Vec<Value> {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let list: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(!list.is_empty(), "{} is empty", path.display());
    list
}

/// The lines of a JSON Lines file, which must hold something.
pub(crate) fn list_of_lines(path: &Path) -> Vec<Value> {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!lines.is_empty(), "{} is empty", path.display());
    lines
}

/// A `.npy` file.
pub(crate) fn npy<T: npyz::Deserialize>(path: &Path) -> ArrayD<T> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = npyz::NpyFile::new(&bytes[..]).unwrap();
    let shape: Vec<usize> = file.shape().iter().map(|&axis| axis as usize).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), file.into_vec().unwrap()).unwrap()
}

/// A `.npy` file of two axes.
pub(crate) fn npy2<T: npyz::Deserialize>(path: &Path) -> Array2<T> {
    npy(path).into_dimensionality().unwrap()
}

/// Fails if a row is further than `tolerance` from the row beside it.
pub(crate) fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: width");
    let cosine: f64 = found
        .iter()
        .zip(expected)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum();
    let distance = 1.0 - cosine;
    assert!(
        distance.abs() <= f64::from(tolerance),
        "{what}: cosine {cosine}, expected 1 within {tolerance}"
    );
}

/// Fails if any two rows of like position differ.
pub(crate) fn assert_all_close(
    found: &Embeddings,
    expected: &Embeddings,
    tolerance: f32,
    what: &str,
) {
    assert_eq!(found.len(), expected.len(), "{what}: rows");
    for index in 0..found.len() {
        assert_close(
            found.row(index),
            expected.row(index),
            tolerance,
            &format!("{what}, row {index}"),
        );
    }
}

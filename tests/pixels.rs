//! Image files as they come: cut off, damaged, misnamed, too large, turned.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use diptych::{Error, ImageOptions, decode_image, open_image};
use image::{ImageFormat, Rgb, RgbImage};

/// The golden pictures, whose formats are all that can be read.
fn pictures() -> BTreeMap<PathBuf, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/images");
    let files = fs::read_dir(&folder).expect("golden pictures");
    let pictures: BTreeMap<_, _> = files
        .map(|file| file.expect("a file").path())
        .map(|path| (path.clone(), fs::read(path).expect("a picture")))
        .collect();
    assert!(pictures.len() > 40, "{} pictures", pictures.len());
    pictures
}

fn decode(bytes: &[u8]) -> Result<RgbImage, Error> {
    decode_image(bytes, Path::new("test"), &ImageOptions::default())
}

fn png(image: &RgbImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image
        .write_to(&mut bytes, ImageFormat::Png)
        .expect("memory takes everything");
    bytes.into_inner()
}

#[test]
fn a_file_cut_off_is_an_error() {
    for (path, bytes) in pictures() {
        // Behind the first frame there is more that no reader misses, and of a tiny file little but its end mark.
        if path.to_string_lossy().contains("animated") || bytes.len() < 500 {
            continue;
        }
        for twentieth in 0..=16 {
            let cut = &bytes[..bytes.len() * twentieth / 20];
            assert!(decode(cut).is_err(), "{}: {twentieth}/20", path.display());
        }
    }
}

#[test]
fn a_jpeg_without_its_last_byte_is_cut_off() {
    for (path, bytes) in pictures() {
        if path.extension().is_some_and(|extension| extension == "jpg") {
            assert!(decode(&bytes).is_ok());
            let cut = decode(&bytes[..bytes.len() - 1]);
            assert!(
                matches!(cut, Err(Error::ImageDecode { .. })),
                "{}",
                path.display()
            );
        }
    }
}

/// Changes some bytes, near the beginning half of the time, where they mean most.
fn damage(bytes: &[u8], seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    let mut damaged = bytes.to_vec();
    let reach = if random(2) == 0 {
        bytes.len()
    } else {
        bytes.len().min(300)
    };
    for _ in 0..=random(8) {
        damaged[random(reach)] = random(256) as u8;
    }
    damaged
}

#[test]
fn damage_never_panics() {
    let mut read = 0;
    let mut refused = 0;
    for (_, bytes) in pictures() {
        for seed in 0..40 {
            match decode(&damage(&bytes, seed)) {
                Ok(_) => read += 1,
                Err(_) => refused += 1,
            }
        }
    }
    assert!(
        read > 100 && refused > 100,
        "{read} read, {refused} refused"
    );
}

#[test]
fn what_is_no_image_is_named() {
    for (bytes, found) in [
        (b"".as_slice(), "an empty file"),
        (b"not an image", "text"),
        (b"<!DOCTYPE html>", "HTML"),
        (b"%PDF-1.4", "PDF"),
        (b"\0\0\0\x1cftypheic", "HEIC, which is not supported"),
    ] {
        match decode(bytes) {
            Err(Error::NotAnImage { found: named, .. }) => assert_eq!(named, found),
            other => panic!("{found}: {other:?}"),
        }
    }
}

#[test]
fn the_content_decides_whatever_the_name() {
    let image = RgbImage::from_pixel(3, 2, Rgb([1, 2, 3]));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("photo.jpg");
    fs::write(&path, png(&image)).expect("a file");
    assert_eq!(
        open_image(&path, &ImageOptions::default()).expect("a PNG"),
        image
    );
}

#[test]
fn a_missing_file_is_named() {
    let path = Path::new("no/such/file.png");
    match open_image(path, &ImageOptions::default()) {
        Err(Error::Read { path: named, .. }) => assert_eq!(named, path),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_limit_is_kept_before_decoding() {
    let bytes = png(&RgbImage::new(100, 100));
    let mut options = ImageOptions {
        max_pixels: 10_000,
        ..Default::default()
    };
    assert!(decode_image(&bytes, Path::new("test"), &options).is_ok());
    options.max_pixels = 9_999;
    match decode_image(&bytes, Path::new("test"), &options) {
        Err(Error::ImageTooLarge {
            width: 100,
            height: 100,
            limit: 9_999,
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bomb_is_refused_by_its_header() {
    // A PNG that states two thousand million pixels, and holds none.
    let mut bytes = png(&RgbImage::new(1, 1));
    bytes[16..24].copy_from_slice(&[0, 0, 0xAF, 0xC8, 0, 0, 0xAF, 0xC8]);
    let crc = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    assert!(matches!(
        decode(&bytes),
        Err(Error::ImageTooLarge { width: 45_000, .. })
    ));
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1 ^ (0xEDB8_8320 * (crc & 1))
        })
    })
}

#[test]
fn orientation_can_be_left_alone() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/images");
    let upright =
        open_image(folder.join("orientation-1.png"), &ImageOptions::default()).expect("a PNG");
    let as_stored = ImageOptions {
        exif: false,
        ..Default::default()
    };
    for number in 2..=8 {
        let path = folder.join(format!("orientation-{number}.png"));
        let turned = open_image(&path, &ImageOptions::default()).expect("a PNG");
        let stored = open_image(&path, &as_stored).expect("a PNG");
        assert_ne!(turned, stored, "{number}");
        let is_sideways = number >= 5;
        assert_eq!(turned.width() == stored.height(), is_sideways, "{number}");
        assert_eq!(stored.dimensions(), upright.dimensions(), "{number}");
    }
}

#[test]
fn alpha_shows_the_background_only_if_asked() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/images");
    let path = folder.join("rgba-checker.png");
    let plain = open_image(&path, &ImageOptions::default()).expect("a PNG");
    let options = ImageOptions {
        background: Some([255; 3]),
        ..Default::default()
    };
    let white = open_image(&path, &options).expect("a PNG");
    assert_ne!(plain, white);
    assert!(
        plain
            .iter()
            .zip(white.iter())
            .all(|(under, over)| under <= over)
    );
}

//! Bad images among good ones: skipped, named, counted, within bounded memory, and nothing else lost.

#![allow(
    clippy::print_stdout,
    reason = "the figures are worth seeing with --nocapture"
)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::golden;
use serde_json::Value;

/// A PNG's signature and header, and nothing after it.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let sides = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let header = [sides, vec![8, 2, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header)].concat()
}

fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let named = [name, content].concat();
    [
        &(content.len() as u32).to_be_bytes(),
        &named[..],
        &crc32(&named).to_be_bytes(),
    ]
    .concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| {
        if crc & 1 == 1 {
            crc >> 1 ^ 0xedb8_8320
        } else {
            crc >> 1
        }
    };
    !bytes
        .iter()
        .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// Files that are no images or broken ones, and what is said of each.
fn bad_files() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let photo = fs::read(golden("images/subsampled-420.jpg")).unwrap();
    let drawing = fs::read(golden("images/palette.png")).unwrap();
    vec![
        ("empty.jpg", Vec::new(), "not an image: expected JPEG, PNG"),
        (
            "text.png",
            b"this is a text, not an image\n".to_vec(),
            "not an image: expected JPEG, PNG",
        ),
        (
            "page.webp",
            b"<!DOCTYPE html><html></html>".to_vec(),
            "not an image: expected JPEG, PNG",
        ),
        (
            "cut.jpg",
            photo[..photo.len() / 2].to_vec(),
            "image cannot be decoded",
        ),
        (
            "cut.png",
            drawing[..drawing.len() / 2].to_vec(),
            "image cannot be decoded",
        ),
        (
            "header.jpg",
            photo[..20].to_vec(),
            "image cannot be decoded",
        ),
        (
            "header.png",
            png_header(640, 480),
            "image cannot be decoded",
        ),
        (
            "huge.png",
            [
                png_header(60_000, 60_000),
                chunk(b"IDAT", b"\x78\x9c\x63\0"),
            ]
            .concat(),
            "image of 60000 x 60000 pixels is over the limit of",
        ),
    ]
}

fn embed(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diptych"));
    command
        .arg("--model")
        .arg(golden("bundles/transformers-clip"))
        .arg("embed")
        .arg(folder);
    command
}

/// A folder of every bad file between good ones.
fn mixed_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes, _) in bad_files() {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    for (index, name) in ["a.png", "d.png", "i.png", "z.png"].into_iter().enumerate() {
        let good = [
            "gray.png",
            "palette.png",
            "rgba-checker.png",
            "interlaced.png",
        ][index];
        fs::copy(golden("images").join(good), folder.path().join(name)).unwrap();
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink("/no/such/photo.jpg", folder.path().join("dangling.jpg")).unwrap();
    folder
}

#[test]
fn each_is_named_and_counted_and_the_others_are_encoded() {
    let folder = mixed_folder();
    let Output {
        status,
        stdout,
        stderr,
    } = embed(folder.path()).output().unwrap();
    let (stdout, stderr) = (
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    );
    assert_eq!(status.code(), Some(1), "{stderr}");

    let lines: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let good = lines
        .iter()
        .filter(|line| line["embedding"].is_array())
        .count();
    assert_eq!(good, 4, "{stdout}");
    let bad = bad_files();
    for (name, _, said) in &bad {
        let path = folder.path().join(name);
        let line = lines
            .iter()
            .find(|line| line["path"] == path.to_str().unwrap());
        let error = line.unwrap_or_else(|| panic!("{name} is not named"))["error"]
            .as_str()
            .unwrap();
        assert!(
            error.starts_with(path.to_str().unwrap()) && error.contains(said),
            "{name}: {error}"
        );
        assert!(stderr.contains(error), "{name}: {stderr}");
    }
    let count = if cfg!(unix) { bad.len() + 1 } else { bad.len() };
    assert!(
        stderr.contains(&format!("{count} of {} images and texts failed", count + 4)),
        "{stderr}"
    );
    assert!(
        !cfg!(unix) || stderr.contains("dangling.jpg: cannot be read"),
        "{stderr}"
    );
    assert!(
        stderr.contains("hint: raise the limit with --max-pixels"),
        "{stderr}"
    );
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn the_limit_is_an_option() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(
        golden("images/portrait-427x640.png"),
        folder.path().join("photo.png"),
    )
    .unwrap();
    let output = embed(folder.path())
        .args(["--max-pixels", "100000"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains("image of 427 x 640 pixels is over the limit of 100000 pixels"),
        "{stderr}"
    );
    assert_eq!(
        embed(folder.path()).output().unwrap().status.code(),
        Some(0)
    );
}

/// Peak memory of the program in KiB, as the kernel counts it.
#[cfg(target_os = "linux")]
fn peak(command: &mut Command) -> u64 {
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    // The figure only grows; the last look comes within a millisecond of the end.
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(kib.unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    peak
}

/// Bad files, and good ones as large as the limit allows, several at once: under 300 MB beyond the model.
#[cfg(target_os = "linux")]
#[test]
fn memory_is_bounded() {
    let small = tempfile::tempdir().unwrap();
    fs::copy(golden("images/gray.png"), small.path().join("small.png")).unwrap();
    let model = peak(embed(small.path()).args(["--threads", "2"]));

    let folder = mixed_folder();
    let wide = image::GrayImage::from_fn(8000, 8000, |x, y| image::Luma([(x / 7 + y / 5) as u8]));
    for name in ["large-1.png", "large-2.png"] {
        wide.save(folder.path().join(name)).unwrap();
    }
    let colour = image::RgbImage::from_fn(6000, 4000, |x, y| {
        image::Rgb([x as u8, y as u8, (x + y) as u8])
    });
    for name in ["photo-1.jpg", "photo-2.jpg", "photo-3.jpg", "photo-4.jpg"] {
        colour.save(folder.path().join(name)).unwrap();
    }
    let all = peak(embed(folder.path()).args(["--threads", "8"]));
    assert!(model > 10_000 && all > model, "{model} {all}");
    let beyond = (all - model) * 1024 / 1_000_000;
    println!(
        "{} MB with the model, {beyond} MB beyond it",
        model * 1024 / 1_000_000
    );
    assert!(beyond < 300, "{beyond} MB beyond the model");
}

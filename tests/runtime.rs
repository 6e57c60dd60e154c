//! ONNX Runtime missing, of the wrong kind or not to be fetched: the program says what it found and what to do.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use common::golden;
use tempfile::TempDir;

/// The program on a machine with an empty cache and no Python.
fn bare(cache: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diptych"));
    command
        .arg("--model")
        .arg(golden("bundles/transformers-clip"))
        .args(["embed", "--text", "a cat"]);
    command
        .env_remove("ORT_DYLIB_PATH")
        .env("DIPTYCH_CACHE", cache.path())
        .env("PATH", "/no/such/folder");
    command
}

fn assert_fails(output: &Output, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "no {part:?} in: {stderr}");
    }
}

fn cache() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A library that names itself ONNX Runtime of that version.
fn library_of_version(folder: &Path, version: &str) -> std::path::PathBuf {
    let (source, library) = (folder.join("old.c"), folder.join("libonnxruntime.so"));
    let code = format!(
        "static const char *version(void) {{ return \"{version}\"; }}\n\
         static struct {{ void *get_api; const char *(*version)(void); }} base = {{ 0, version }};\n\
         void *OrtGetApiBase(void) {{ return &base; }}\n"
    );
    fs::write(&source, code).unwrap();
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .status()
        .unwrap();
    assert!(status.success());
    library
}

/// A folder with a `python3` that does what `script` says.
fn python(folder: &Path, script: &str) -> String {
    let path = folder.join("python3");
    fs::write(&path, format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    folder.to_str().unwrap().to_owned()
}

#[test]
fn none_found_and_offline_names_three_ways_out() {
    let cache = self::cache();
    let output = bare(&cache).env("DIPTYCH_OFFLINE", "1").output().unwrap();
    let parts = [
        "ONNX Runtime not found: looked at ORT_DYLIB_PATH, beside the program, the cache",
        "DIPTYCH_OFFLINE",
    ];
    assert_fails(&output, &parts);
    assert_fails(
        &output,
        &[
            "hint: set ORT_DYLIB_PATH",
            "pip install onnxruntime",
            "while online",
        ],
    );
}

#[test]
fn no_python_is_said() {
    let output = bare(&cache()).output().unwrap();
    assert_fails(
        &output,
        &[
            "python3 cannot be run to fetch it",
            "hint: set ORT_DYLIB_PATH",
        ],
    );
}

#[test]
fn pips_own_words_are_passed_on() {
    let (cache, bin) = (self::cache(), self::cache());
    let path = python(bin.path(), "echo 'ERROR: No module named pip' >&2; exit 1");
    let output = bare(&cache).env("PATH", path).output().unwrap();
    assert_fails(
        &output,
        &[
            "fetching ONNX Runtime",
            "failed: ERROR: No module named pip",
        ],
    );
}

#[test]
fn a_fetched_file_that_is_not_the_pinned_wheel_is_refused() {
    let (cache, bin) = (self::cache(), self::cache());
    // The first call asks for an installed package; the second is pip, whose --dest is followed by a folder.
    let script = r#"
        [ "$1" = -c ] && exit 1
        while [ "$1" != --dest ]; do shift; done
        mkdir -p "$2" && echo forged > "$2/onnxruntime.whl""#;
    let path = python(bin.path(), script);
    let output = bare(&cache).env("PATH", path).output().unwrap();
    assert_fails(&output, &["the fetched wheel has SHA-256", "expected"]);
    let left = walkdir::WalkDir::new(cache.path())
        .into_iter()
        .filter_map(Result::ok);
    assert!(left.into_iter().all(|entry| {
        !entry
            .file_name()
            .to_string_lossy()
            .contains("libonnxruntime")
    }));
}

#[test]
fn a_library_of_an_old_version_says_which_is_needed() {
    let (cache, folder) = (self::cache(), self::cache());
    let library = library_of_version(folder.path(), "1.10.0");
    // The library itself, and the folder that it lies in.
    for path in [library.as_path(), folder.path()] {
        let output = bare(&cache).env("ORT_DYLIB_PATH", path).output().unwrap();
        assert_fails(
            &output,
            &[
                "libonnxruntime.so",
                "found version 1.10.0",
                "of version 1.20 or later",
                "hint:",
            ],
        );
    }
}

#[test]
fn a_library_for_another_architecture_says_which_is_needed() {
    let (cache, folder) = (self::cache(), self::cache());
    let library = folder.path().join("libonnxruntime.so");
    let machine: u16 = if cfg!(target_arch = "x86_64") {
        183
    } else {
        62
    };
    fs::write(
        &library,
        [
            b"\x7fELF\x02\x01\x01".as_slice(),
            &[0; 11],
            &machine.to_le_bytes(),
            &[0; 44],
        ]
        .concat(),
    )
    .unwrap();
    let output = bare(&cache)
        .env("ORT_DYLIB_PATH", &library)
        .output()
        .unwrap();
    assert_fails(
        &output,
        &[
            "found a library for",
            &format!("expected a library for {}", std::env::consts::ARCH),
        ],
    );
}

#[test]
fn a_path_that_leads_nowhere_is_named() {
    let output = bare(&cache())
        .env("ORT_DYLIB_PATH", "/no/such/libonnxruntime.so")
        .output()
        .unwrap();
    assert_fails(
        &output,
        &[
            "/no/such/libonnxruntime.so: ONNX Runtime cannot be used: found a file that cannot be read",
            "hint:",
        ],
    );
}

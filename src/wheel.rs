//! ONNX Runtime out of its published Python wheel: fetched once by pip, checked, unpacked into the cache.
//!
//! Knows which wheel fits this platform and how to get the one library out of it. It neither searches for libraries
//! that are there already nor loads any; that is the runtime's.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::cache;
use crate::hex::hex;

/// The pinned version of ONNX Runtime.
pub(crate) const VERSION: &str = "1.31.1";

/// A published wheel and the library in it.
struct Wheel {
    /// pip's name of the platform.
    platform: &'static str,
    /// SHA-256 of the wheel, as `pip hash` prints it.
    sha256: &'static str,
    /// The library's file name, under `onnxruntime/capi/`.
    library: &'static str,
}

/// The wheel for the platform that this program was built for, if one is published.
fn wheel() -> Option<Wheel> {
    let [platform, sha256, library] = match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => [
            "manylinux_2_28_x86_64",
            "5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f",
            "libonnxruntime.so.1.31.1",
        ],
        ("linux", "aarch64") => [
            "manylinux_2_28_aarch64",
            "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3",
            "libonnxruntime.so.1.31.1",
        ],
        ("macos", "aarch64") => [
            "macosx_14_0_arm64",
            "60b6b69bfe580eab576cacc5d132a0e9cf2a37fcfd18d46dd191042b1d1ed0d7",
            "libonnxruntime.1.31.1.dylib",
        ],
        ("windows", "x86_64") => [
            "win_amd64",
            "c3d91b5de31e2fc82d71bd65b2b22bddee8b49057a3a36338e9a868e0ea90c05",
            "onnxruntime.dll",
        ],
        ("windows", "aarch64") => [
            "win_arm64",
            "93800007a7023b3ab26ad72e6463d0d57d84ead49a2f6341954d91438e046bc0",
            "onnxruntime.dll",
        ],
        _ => return None,
    };
    Some(Wheel {
        platform,
        sha256,
        library,
    })
}

/// Where the unpacked library lies, or would lie once fetched.
pub(crate) fn library_in_cache() -> Option<PathBuf> {
    let folder = cache::folder()?.join(format!("onnxruntime-{VERSION}-{}", std::env::consts::ARCH));
    Some(folder.join(wheel()?.library))
}

/// The unpacked library, after fetching the wheel where it is not in the cache yet.
///
/// `notice` is told before anything is fetched. Two programs that fetch at once wait for each other, and a library is
/// written under another name and renamed, so that none is ever seen half written.
///
/// # Errors
///
/// Why it could not be had, as text: it becomes part of one message that lists all places looked at.
pub(crate) fn fetch(notice: fn(&str)) -> Result<PathBuf, String> {
    let wheel = wheel().ok_or("no ONNX Runtime is published as a wheel for this platform")?;
    if cache::is_offline() {
        return Err("fetching is turned off by DIPTYCH_OFFLINE".to_owned());
    }
    let library =
        library_in_cache().ok_or("there is no cache folder to fetch it into; set DIPTYCH_CACHE")?;
    let folder = library.parent().unwrap_or(Path::new(""));
    let failed = |error: io::Error| format!("{} cannot be written: {error}", folder.display());

    fs::create_dir_all(folder).map_err(failed)?;
    let lock = File::create(folder.join("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    if library.is_file() {
        return Ok(library);
    }
    notice(&format!(
        "fetching ONNX Runtime {VERSION} once, through pip, into {}",
        folder.display()
    ));
    let downloads = folder.join("download");
    let bytes = pip_download(&wheel, &downloads)?;
    let unpacked = unpack(&bytes, &wheel, &library);
    // What pip left is of no more use; a leftover does no harm.
    let _ = fs::remove_dir_all(&downloads);
    unpacked.map(|()| library)
}

/// The bytes of the wheel, fetched by pip into `downloads`.
fn pip_download(wheel: &Wheel, downloads: &Path) -> Result<Vec<u8>, String> {
    let python = if cfg!(windows) { "python" } else { "python3" };
    let output = Command::new(python)
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
        ])
        .args([
            "--retries",
            "2",
            "--timeout",
            "20",
            "--no-deps",
            "--only-binary=:all:",
        ])
        .args([
            "--implementation",
            "cp",
            "--python-version",
            "311",
            "--platform",
            wheel.platform,
        ])
        .arg("--dest")
        .arg(downloads)
        .arg(format!("onnxruntime=={VERSION}"))
        .output()
        .map_err(|error| format!("{python} cannot be run to fetch it: {error}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let last = words
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("it said nothing");
        return Err(format!(
            "`{python} -m pip download onnxruntime=={VERSION}` failed: {}",
            last.trim()
        ));
    }
    let failed = |error: io::Error| format!("{} cannot be read: {error}", downloads.display());
    let files = fs::read_dir(downloads).map_err(failed)?;
    let is_wheel = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "whl");
    let file = files
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(is_wheel);
    fs::read(file.ok_or("pip fetched no wheel")?).map_err(failed)
}

/// Writes the library out of the wheel's bytes, once they are known to be the pinned ones.
fn unpack(bytes: &[u8], wheel: &Wheel, library: &Path) -> Result<(), String> {
    let found = hex(&Sha256::digest(bytes));
    if found != wheel.sha256 {
        return Err(format!(
            "the fetched wheel has SHA-256 {found}, expected {}",
            wheel.sha256
        ));
    }
    let broken =
        |error: &dyn std::fmt::Display| format!("the fetched wheel cannot be unpacked: {error}");
    let mut archive =
        zip::ZipArchive::new(io::Cursor::new(bytes)).map_err(|error| broken(&error))?;
    let name = format!("onnxruntime/capi/{}", wheel.library);
    let mut content = Vec::new();
    let mut entry = archive.by_name(&name).map_err(|error| broken(&error))?;
    entry
        .read_to_end(&mut content)
        .map_err(|error| broken(&error))?;

    let partial = library.with_extension("partial");
    fs::write(&partial, content)
        .and_then(|()| fs::rename(&partial, library))
        .map_err(|error| format!("{} cannot be written: {error}", library.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wheel_with_another_hash_is_refused() {
        let wheel = Wheel {
            platform: "any",
            sha256: "00",
            library: "libonnxruntime.so",
        };
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libonnxruntime.so");
        let why = unpack(b"not the pinned bytes", &wheel, &library).unwrap_err();
        assert!(
            why.contains("SHA-256") && why.contains("expected 00"),
            "{why}"
        );
        assert!(!library.exists());
    }

    #[test]
    fn a_wheel_without_the_library_is_refused() {
        let mut archive = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        archive
            .start_file(
                "onnxruntime/other",
                zip::write::SimpleFileOptions::default(),
            )
            .unwrap();
        let bytes = archive.finish().unwrap().into_inner();
        let sha256 = hex(&Sha256::digest(&bytes));
        let wheel = Wheel {
            platform: "any",
            sha256: sha256.leak(),
            library: "libonnxruntime.so",
        };
        let why = unpack(&bytes, &wheel, Path::new("never-written")).unwrap_err();
        assert!(why.contains("cannot be unpacked"), "{why}");
    }
}

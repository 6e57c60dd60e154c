//! ONNX Runtime itself: find a library that fits, start it once for the process, say what was found.
//!
//! With `session.rs` and `provider.rs` one of the three files that know `ort`. Nothing here knows a model.

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::error::{Error, Result};
use crate::wheel;

/// The oldest ONNX Runtime that will do: the API level that `ort` is built for.
const OLDEST: &str = "1.20";

/// The ONNX Runtime that this process runs on.
#[derive(Debug)]
pub struct Runtime {
    /// The library's file.
    pub path: PathBuf,
    /// Its version, such as "1.31.1"; its build description where its name states none.
    pub version: String,
    /// What found it, such as "the cache".
    pub found_in: &'static str,
    environment: Environment,
}

impl Runtime {
    /// The environment that sessions are made in.
    ///
    /// ONNX Runtime allows one a process, so a program that runs graphs of its own through `ort` must take this one.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }
}

static STARTED: OnceLock<Runtime> = OnceLock::new();
static STARTING: Mutex<()> = Mutex::new(());

/// The ONNX Runtime of this process, found and started at the first call.
///
/// The places looked at, in order: the file or folder in `ORT_DYLIB_PATH` (when it is set, no other); beside the
/// program; the cache; an installed Python package `onnxruntime`. Where none has it, the pinned wheel is fetched once
/// through pip into the cache, unless `DIPTYCH_OFFLINE` is set; `notice` is told so first.
///
/// # Cost
///
/// About 20 ms at the first call when the library is in the cache, nothing afterwards.
///
/// # Errors
///
/// [`Error::RuntimeMissing`] when none was found or fetched; [`Error::RuntimeUnusable`] when the one in
/// `ORT_DYLIB_PATH`, or the only ones found, are of the wrong version or architecture.
pub fn start(notice: fn(&str)) -> Result<&'static Runtime> {
    let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = STARTED.get() {
        return Ok(runtime);
    }
    let runtime = find(notice)?;
    Ok(STARTED.get_or_init(|| runtime))
}

/// Looks for the library in one place.
type Look = fn() -> Option<PathBuf>;

fn find(notice: fn(&str)) -> Result<Runtime> {
    if let Some(named) = env::var_os("ORT_DYLIB_PATH").filter(|value| !value.is_empty()) {
        let named = PathBuf::from(named);
        return load(library_in(&named).unwrap_or(named), "ORT_DYLIB_PATH");
    }
    let places: [(&'static str, Look); 3] = [
        ("beside the program", beside_program),
        ("the cache", || {
            wheel::library_in_cache().filter(|library| library.is_file())
        }),
        ("the Python package onnxruntime", in_python_package),
    ];
    let mut unusable = None;
    for (place, library) in places {
        match library().map(|library| load(library, place)) {
            Some(Ok(runtime)) => return Ok(runtime),
            Some(Err(error)) => unusable = unusable.or(Some(error)),
            None => {}
        }
    }
    match wheel::fetch(notice) {
        Ok(library) => load(library, "the cache"),
        Err(fetch) => Err(unusable.unwrap_or_else(|| Error::RuntimeMissing {
            searched: [&["ORT_DYLIB_PATH"], &places.map(|(place, _)| place)[..]].concat(),
            fetch,
        })),
    }
}

fn beside_program() -> Option<PathBuf> {
    library_in(env::current_exe().ok()?.parent()?)
}

/// Asks Python where the package lies, without importing it, which would take a second.
fn in_python_package() -> Option<PathBuf> {
    const ASK: &str = "import importlib.util as u; s = u.find_spec('onnxruntime'); print(s.submodule_search_locations[0])";
    let python = if cfg!(windows) { "python" } else { "python3" };
    let output = Command::new(python)
        .args(["-c", ASK])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let package = String::from_utf8(output.stdout).ok()?;
    library_in(&Path::new(package.trim()).join("capi"))
}

/// The library in a folder, the newest by name where several versions lie there.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let entries = folder.read_dir().ok()?;
    let libraries = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_library(path));
    libraries.max_by_key(|path| version_in_name(path).map(|version| numbers(&version)))
}

fn is_library(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let rest = if cfg!(windows) {
        return name.eq_ignore_ascii_case("onnxruntime.dll");
    } else if cfg!(target_os = "macos") {
        name.strip_prefix("libonnxruntime")
            .and_then(|rest| rest.strip_suffix(".dylib"))
    } else {
        name.strip_prefix("libonnxruntime.so")
    };
    // Nothing but a version may follow: libonnxruntime_providers_shared.so is no runtime.
    rest.is_some_and(|rest| rest.chars().all(|c| c == '.' || c.is_ascii_digit()))
}

fn load(path: PathBuf, found_in: &'static str) -> Result<Runtime> {
    let expected = format!(
        "a library for {} of version {OLDEST} or later",
        env::consts::ARCH
    );
    let unusable = |found: String| Error::RuntimeUnusable {
        path: path.clone(),
        found,
        expected: expected.clone(),
    };

    let header = first_bytes(&path)
        .map_err(|error| unusable(format!("a file that cannot be read ({error})")))?;
    match architecture(&header) {
        Some(found) if found == env::consts::ARCH || found == "several architectures" => {}
        Some(found) => return Err(unusable(format!("a library for {found}"))),
        None => return Err(unusable("a file that is no library".to_owned())),
    }
    let builder = ort::init_from(&path).map_err(|error| {
        unusable(match error {
            ort::LoadDynamicError::BadVersion { version_str, .. } => {
                format!("version {version_str}")
            }
            ort::LoadDynamicError::MissingApi { .. } => {
                "a library that is not ONNX Runtime".to_owned()
            }
            other => other.to_string(),
        })
    })?;
    let environment = builder
        .with_name("diptych")
        .with_telemetry(false)
        .build()
        .map_err(|source| Error::RuntimeStart {
            source: Box::new(source),
        })?;
    // Its warnings are about graph rewriting, and its errors come back as errors.
    environment.set_log_level(LogLevel::Fatal);
    let version = version_in_name(&path).unwrap_or_else(|| ort::info().to_owned());
    Ok(Runtime {
        path,
        version,
        found_in,
        environment,
    })
}

fn version_in_name(path: &Path) -> Option<String> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = path.file_name()?.to_str()?;
    let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
    let version = digits.trim_end_matches(|c: char| !c.is_ascii_digit());
    (!version.is_empty()).then(|| version.to_owned())
}

fn numbers(version: &str) -> Vec<u32> {
    version
        .split('.')
        .map(|part| part.parse().unwrap_or(0))
        .collect()
}

fn first_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(4096).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a shared library was built for, as `std::env::consts::ARCH` spells it, from its ELF, Mach-O or PE header.
fn architecture(header: &[u8]) -> Option<&'static str> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(header.get(at..at + 2)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let known = |code: u32, codes: [u32; 2]| match code {
        code if code == codes[0] => "x86_64",
        code if code == codes[1] => "aarch64",
        _ => "another architecture",
    };
    match header.get(..4)? {
        b"\x7fELF" => Some(known(u16_at(18)?.into(), [62, 183])),
        b"\xcf\xfa\xed\xfe" => Some(known(u32_at(4)?, [0x0100_0007, 0x0100_000c])),
        b"\xca\xfe\xba\xbe" => Some("several architectures"),
        [b'M', b'Z', ..] => {
            let coff = u32_at(0x3c)? as usize;
            (header.get(coff..coff.checked_add(4)?)? == b"PE\0\0")
                .then(|| u16_at(coff + 4).map(|code| known(code.into(), [0x8664, 0xaa64])))?
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_the_architecture() {
        let elf = |machine: u16| [b"\x7fELF".as_slice(), &[0; 14], &machine.to_le_bytes()].concat();
        assert_eq!(architecture(&elf(62)), Some("x86_64"));
        assert_eq!(architecture(&elf(183)), Some("aarch64"));
        assert_eq!(architecture(&elf(243)), Some("another architecture"));
        assert_eq!(
            architecture(b"\xcf\xfa\xed\xfe\x0c\0\0\x01"),
            Some("aarch64")
        );
        assert_eq!(architecture(b"MZ"), None);
        assert_eq!(architecture(b"#!/bin/sh\n"), None);
        assert_eq!(architecture(b""), None);
        let mut pe = vec![0; 0x48];
        pe[..2].copy_from_slice(b"MZ");
        pe[0x3c] = 0x40;
        pe[0x40..0x46].copy_from_slice(b"PE\0\0\x64\x86");
        assert_eq!(architecture(&pe), Some("x86_64"));
        pe[0x3c..0x40].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(architecture(&pe), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_newest_library_of_a_folder_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "libonnxruntime.so.1.9.0",
            "libonnxruntime.so.1.31.1",
            "libonnxruntime_providers_shared.so",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let library = library_in(folder.path()).unwrap();
        assert_eq!(library.file_name().unwrap(), "libonnxruntime.so.1.31.1");
        assert_eq!(version_in_name(&library).unwrap(), "1.31.1");
    }

    #[test]
    fn a_text_is_no_library() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so");
        std::fs::write(&path, "hello").unwrap();
        let error = load(path, "a test").unwrap_err().to_string();
        assert!(
            error.contains("found a file that is no library, expected a library for"),
            "{error}"
        );
    }
}

//! Where the program keeps what it can make or fetch again: the cache folder.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The cache folder: `DIPTYCH_CACHE` if set, otherwise `diptych` in the user's cache folder as the system has it.
///
/// `None` where the environment names neither, as in a service without a home.
pub(crate) fn folder() -> Option<PathBuf> {
    let named = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(own) = named("DIPTYCH_CACHE") {
        return Some(own);
    }
    let user = if cfg!(windows) {
        named("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        named("HOME").map(|home| home.join("Library/Caches"))
    } else {
        named("XDG_CACHE_HOME").or_else(|| named("HOME").map(|home| home.join(".cache")))
    };
    user.map(|folder| folder.join("diptych"))
}

/// Keeps what `write` writes to a path as `file`, which is whole or not there. A cache that can't be written is no error:
/// what it would hold is made again.
pub(crate) fn keep<E>(file: &Path, write: impl FnOnce(&Path) -> Result<(), E>) {
    let partial = file.with_extension(format!("{}.partial", std::process::id()));
    let folder = file.parent().map_or(Ok(()), fs::create_dir_all);
    if folder.is_ok() && write(&partial).is_ok() {
        let _ = fs::rename(&partial, file);
    }
}

/// Whether the user forbids all fetching, by `DIPTYCH_OFFLINE`.
pub(crate) fn is_offline() -> bool {
    env::var_os("DIPTYCH_OFFLINE").is_some_and(|value| !value.is_empty() && value != "0")
}

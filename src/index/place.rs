//! Where an item is: a folder and a name, kept as the system has them, UTF-8 or not.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Where an item is found again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// An image's folder, or the file that holds a text. Absolute.
    pub folder: PathBuf,
    /// An image's file name, or a text's id in its file.
    pub name: OsString,
}

impl Place {
    /// The place of an image file.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] if the path has no file name, such as `..`.
    pub fn of_image(path: &Path) -> Result<Self> {
        match (path.parent(), path.file_name()) {
            (Some(folder), Some(name)) => Ok(Self {
                folder: folder.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(Error::read(path)(std::io::ErrorKind::InvalidInput.into())),
        }
    }

    /// The place of the text `id` in `file`.
    pub fn of_text(file: &Path, id: &str) -> Self {
        Self {
            folder: file.to_owned(),
            name: id.into(),
        }
    }

    /// Folder and name together. For an image, its file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }
}

/// A name as it is kept in the catalog.
#[cfg(unix)]
pub(super) fn to_bytes(name: &OsStr) -> Vec<u8> {
    std::os::unix::ffi::OsStrExt::as_bytes(name).to_owned()
}

/// A name as the system has it.
#[cfg(unix)]
pub(super) fn from_bytes(bytes: Vec<u8>) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}

/// Elsewhere names are Unicode, but for rare ones whose odd characters are replaced.
#[cfg(not(unix))]
pub(super) fn to_bytes(name: &OsStr) -> Vec<u8> {
    name.to_string_lossy().into_owned().into_bytes()
}

#[cfg(not(unix))]
pub(super) fn from_bytes(bytes: Vec<u8>) -> OsString {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

/// The paths of everything below `folder` lie from the first to before the second.
pub(super) fn below(folder: &Path) -> (Vec<u8>, Vec<u8>) {
    let separator = std::path::MAIN_SEPARATOR as u8;
    let mut first = to_bytes(folder.as_os_str());
    if first.last() != Some(&separator) {
        first.push(separator);
    }
    let mut end = first.clone();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    (first, end)
}

//! What identifies a bundle: a hash over its files and over what a caller chose of them.

use std::fs;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::Bundle;
use crate::cache;
use crate::error::{Error, Result};
use crate::hex::{hex, sha256};

impl Bundle {
    /// SHA-256 over every file of the bundle and the language asked for, as hexadecimal digits: two bundles with equal
    /// fingerprints give equal rows. It covers the files of the towers and precisions that the bundle was opened with, and
    /// what rows are cut to. Texts with another prefix lie in the same space, so what a caller puts before them is not
    /// covered.
    ///
    /// # Cost
    ///
    /// Reads all weights once, at about 1 GB a second; then it is kept in the cache folder for as long as no file
    /// changes its size or time.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] if a file cannot be read.
    pub fn fingerprint(&self) -> Result<String> {
        let files = self.fingerprint_of_files()?;
        let Some(language) = &self.asked_language else {
            return Ok(files);
        };
        Ok(hex(&Sha256::digest(format!("{files} {language}"))))
    }

    /// [`Bundle::fingerprint`] without the language asked for: equal where image rows are equal, and texts of each
    /// language are the same rows.
    ///
    /// # Errors
    ///
    /// Those of [`Bundle::fingerprint`].
    pub fn fingerprint_of_files(&self) -> Result<String> {
        let own = self.own_fingerprint()?;
        let text = self.text_bundle.as_ref();
        let text = text.map(|bundle| bundle.own_fingerprint()).transpose()?;
        if text.is_none() && self.dim.is_none() {
            return Ok(own);
        }
        let mut all = Sha256::new();
        for part in [own, text.unwrap_or_default()] {
            all.update(part);
            all.update([0]);
        }
        all.update(self.dim.map(|dim| dim.to_string()).unwrap_or_default());
        Ok(hex(&all.finalize()))
    }

    /// That of this bundle's own files alone, without what a caller chose.
    fn own_fingerprint(&self) -> Result<String> {
        let kept = self.fingerprint_file();
        let is_whole =
            |text: &String| text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let read = kept.as_ref().and_then(|kept| fs::read_to_string(kept).ok());
        if let Some(fingerprint) = read.filter(is_whole) {
            return Ok(fingerprint);
        }
        let fingerprint = self.make_fingerprint()?;
        if let Some(kept) = kept {
            cache::keep(&kept, |path| fs::write(path, &fingerprint));
        }
        Ok(fingerprint)
    }

    /// Where the fingerprint of these files is kept, as they are now.
    fn fingerprint_file(&self) -> Option<PathBuf> {
        let mut name = Sha256::new();
        for file in &self.files {
            let path = file.canonicalize().ok()?;
            let metadata = path.metadata().ok()?;
            let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            name.update(path.as_os_str().as_encoded_bytes());
            name.update([0]);
            name.update(metadata.len().to_le_bytes());
            name.update(modified.as_nanos().to_le_bytes());
        }
        let name = hex(&name.finalize());
        Some(cache::folder()?.join("fingerprints").join(name))
    }

    fn make_fingerprint(&self) -> Result<String> {
        let mut all = Sha256::new();
        for file in &self.files {
            let name = file.strip_prefix(&self.path).unwrap_or(file);
            let content = fs::File::open(file).and_then(sha256);
            let content = content.map_err(Error::read(file))?;
            // Each part is of known length or ends in NUL, so that no two lists of files look alike.
            all.update(name.to_string_lossy().replace('\\', "/"));
            all.update([0]);
            all.update(content);
        }
        Ok(hex(&all.finalize()))
    }
}

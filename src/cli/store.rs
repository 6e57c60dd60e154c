//! Which index a command works on, and whether it is of the model that is to be used.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use diptych::index::{self, Store};
use diptych::{Bundle, Error, ImageFiles, Index, Rows};

use super::ImageArguments;

/// The option of every command that works on an index.
#[derive(Debug, Args)]
pub(super) struct IndexArgument {
    /// The index: a folder, or a collection of a Qdrant server as qdrant://HOST:6334/COLLECTION; without it,
    /// diptych/index in your data folder
    #[arg(long, value_name = "DIR", env = "DIPTYCH_INDEX")]
    index: Option<PathBuf>,
}

impl IndexArgument {
    /// Where the index is, a folder or an address; it may not be there yet.
    pub(super) fn location(&self) -> Result<PathBuf> {
        match &self.index {
            Some(folder) => Ok(folder.clone()),
            None => Ok(data_folder()
                .context("no folder for the index: name one with --index")?
                .join("diptych/index")),
        }
    }

    /// The folder of the index, for commands that know no other kind.
    pub(super) fn folder(&self) -> Result<PathBuf> {
        let location = self.location()?;
        if let Some(address) = index::address(&location) {
            bail!("{address}: this command works on an index in a folder alone");
        }
        Ok(location)
    }

    pub(super) fn open(&self) -> Result<Index> {
        Ok(Index::open(&self.folder()?)?)
    }

    pub(super) fn open_store(&self) -> Result<Box<dyn Store>> {
        Ok(index::open_store(&self.location()?)?)
    }

    pub(super) fn open_store_to_write(&self) -> Result<Box<dyn Store>> {
        Ok(index::open_store_to_write(&self.location()?)?)
    }
}

/// The user's folder for data that programs keep, as the system has it.
fn data_folder() -> Option<PathBuf> {
    let named = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if cfg!(windows) {
        named("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        named("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        named("XDG_DATA_HOME").or_else(|| named("HOME").map(|home| home.join(".local/share")))
    }
}

/// What makes the rows of an index: the model's name and fingerprint, what of reading images changes their pixels, and
/// the kind of rows, where it is not the model's own.
///
/// # Errors
///
/// If the model's files cannot be read.
pub(super) fn identity(
    bundle: &Bundle,
    images: &ImageArguments,
    rows: Option<Rows>,
) -> Result<String> {
    let mut identity = model_of(bundle)?;
    if let Some(language) = &bundle.asked_language {
        identity.push_str(&format!(" in {language}"));
    }
    if images.no_exif {
        identity.push_str(" without EXIF");
    }
    if let Some([red, green, blue]) = images.background {
        identity.push_str(&format!(" on #{red:02x}{green:02x}{blue:02x}"));
    }
    let own = bundle.image.as_ref().and_then(ImageFiles::own_rows);
    if let Some(rows) = rows.filter(|&rows| Some(rows) != own) {
        identity.push_str(&format!(" rows {rows}"));
    }
    Ok(identity)
}

/// The kind of rows that an index holds, where it is not the model's own.
pub(super) fn rows_of(index: &dyn Store) -> Option<Rows> {
    let identity = index.model();
    let (_, content) = identity.rsplit_once('@')?;
    content.rsplit_once(" rows ")?.1.parse().ok()
}

/// A model's name and fingerprint, and how many values of its rows are kept, where not all. A query may be in another
/// language than the texts of an index.
fn model_of(bundle: &Bundle) -> Result<String> {
    let cut = bundle.dim.map(|dim| format!(" cut to {dim}"));
    Ok(format!(
        "{}@{}{}",
        bundle.name(),
        &bundle.fingerprint_of_files()?[..16],
        cut.unwrap_or_default()
    ))
}

/// Whether two identities are of the same rows. The model's name does not matter, its content does.
pub(super) fn is_same(a: &str, b: &str) -> bool {
    let content = |identity: &str| {
        identity
            .split_once('@')
            .map(|(_, content)| content.to_owned())
    };
    content(a) == content(b)
}

/// Refuses an index whose rows another model made.
pub(super) fn require_same(index: &dyn Store, identity: &str) -> Result<()> {
    let found = index.model();
    if is_same(&found, identity) {
        return Ok(());
    }
    Err(Error::OtherModel {
        path: index.location(),
        found,
        expected: identity.to_owned(),
    }
    .into())
}

/// Refuses an index whose rows another model than `bundle` made, however images were read for it.
pub(super) fn require_same_model(index: &dyn Store, bundle: &Bundle) -> Result<()> {
    let content = |identity: &str| {
        let content = identity.rsplit('@').next();
        content.and_then(|content| content.split(' ').next().map(str::to_owned))
    };
    let model = model_of(bundle)?;
    if content(&index.model()) == content(&model) {
        return Ok(());
    }
    require_same(index, &model)
}

/// The absolute paths by which an index may know `path`, which need not exist any more: with the links to its folder
/// resolved, as it is written, and with its own link resolved.
pub(super) fn names(path: &Path) -> Vec<PathBuf> {
    let written = std::path::absolute(path).ok();
    let through = written.as_deref().and_then(resolved);
    let own = path.canonicalize().ok();
    let mut names: Vec<PathBuf> = [through, written, own].into_iter().flatten().collect();
    names.dedup();
    names
}

/// With the links of the deepest folder that is there resolved.
fn resolved(path: &Path) -> Option<PathBuf> {
    let real = |folder: &Path| folder.canonicalize().ok();
    let mut folders = path.ancestors().skip(1);
    let (folder, real) = folders.find_map(|folder| Some((folder, real(folder)?)))?;
    Some(real.join(path.strip_prefix(folder).ok()?))
}

//! What is to be moved: near-duplicates, each with how it was when that was decided.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::index::Stat;

const VERSION: u32 = 1;

/// Groups of near-duplicates, of which one file each stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The version of the format, which also says what the file is.
    diptych_plan: u32,
    /// The groups.
    pub groups: Vec<PlannedGroup>,
}

/// Files that show the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedGroup {
    /// The file that stays.
    pub keep: PlannedFile,
    /// Those that are moved.
    #[serde(rename = "move")]
    pub moves: Vec<PlannedFile>,
}

/// A file as it was when the plan was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedFile {
    /// Absolute.
    pub path: PathBuf,
    /// In bytes.
    pub size: u64,
    /// When its content was changed last, in nanoseconds since 1970.
    pub modified: i64,
    /// The cosine with the file that stays, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
}

impl PlannedFile {
    /// A file of which only that is known.
    pub fn new(path: PathBuf, stat: Stat) -> Self {
        Self {
            path,
            size: stat.size,
            modified: stat.modified,
            score: None,
        }
    }

    pub(super) fn stat(&self) -> Stat {
        Stat {
            size: self.size,
            modified: self.modified,
        }
    }
}

impl Plan {
    /// A plan of these groups.
    pub fn new(groups: Vec<PlannedGroup>) -> Self {
        Self {
            diptych_plan: VERSION,
            groups,
        }
    }

    /// The plan in a file.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], [`Error::Json`]; [`Error::Config`] for a plan of another version, or with a path that is not
    /// absolute.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).map_err(Error::read(path))?;
        let plan: Self = serde_json::from_slice(&text).map_err(|source| Error::Json {
            path: path.to_owned(),
            source,
        })?;
        plan.check(path)?;
        Ok(plan)
    }

    fn check(&self, path: &Path) -> Result<()> {
        let config = |key: &str, found: String, expected: &str| Error::Config {
            path: path.to_owned(),
            key: key.to_owned(),
            found,
            expected: expected.to_owned(),
        };
        if self.diptych_plan != VERSION {
            let found = self.diptych_plan.to_string();
            return Err(config("diptych_plan", found, &VERSION.to_string()));
        }
        match self.paths().find(|path| !path.is_absolute()) {
            Some(found) => {
                let found = format!("{:?}", found.display().to_string());
                Err(config("path", found, "an absolute path"))
            }
            None => Ok(()),
        }
    }

    /// Writes it to a new file.
    ///
    /// # Errors
    ///
    /// [`Error::Write`], also where there is a file already or a path is not UTF-8.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        let write = |text: Vec<u8>| {
            let mut file = File::create_new(path)?;
            file.write_all(&text)?;
            file.write_all(b"\n")?;
            file.sync_all()
        };
        text.and_then(write).map_err(Error::write(path))
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let files = self
            .groups
            .iter()
            .flat_map(|group| std::iter::once(&group.keep).chain(&group.moves));
        files.map(|file| file.path.as_path())
    }

    /// The deepest folder that all files lie in, however deep.
    pub(super) fn common_folder(&self) -> PathBuf {
        let mut folders = self.paths().filter_map(Path::parent);
        let first = folders.next().unwrap_or(Path::new("")).to_owned();
        folders.fold(first, |common, folder| {
            let shared = common.components().zip(folder.components());
            shared
                .take_while(|(a, b)| a == b)
                .map(|(component, _)| component)
                .collect()
        })
    }
}

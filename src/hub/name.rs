//! Names of models on a hub, as people write them: `OWNER/NAME@REVISION`.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The revision that is meant where none is given.
const DEFAULT_REVISION: &str = "main";

/// A model of a hub, at a revision.
///
/// # Example
///
/// ```
/// let model: diptych::HubModel = "hf:someone/clip@v2".parse()?;
/// assert_eq!((model.repository(), model.revision()), ("someone/clip", "v2"));
/// let model: diptych::HubModel = "someone/clip".parse()?;
/// assert_eq!(model.revision(), "main");
/// assert!("../clip".parse::<diptych::HubModel>().is_err());
/// # Ok::<(), diptych::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubModel {
    repository: String,
    revision: String,
}

impl HubModel {
    /// `OWNER/NAME`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// A branch, a tag or a commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// How the cache names the repository's folder.
    pub(super) fn folder(&self) -> String {
        format!("models--{}", self.repository.replace('/', "--"))
    }
}

impl FromStr for HubModel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |problem: &'static str| Error::NotAHubName {
            found: text.to_owned(),
            problem,
        };
        let name = text.strip_prefix("hf:").unwrap_or(text);
        let (repository, revision) = name.split_once('@').unwrap_or((name, DEFAULT_REVISION));
        let parts: Vec<&str> = repository.split('/').collect();
        if parts.len() != 2 {
            return Err(wrong(
                "it has not one owner and one name with / between them",
            ));
        }
        if !parts.iter().all(|part| is_name(part)) {
            return Err(wrong(
                "owner and name are of letters, digits, - _ and ., without -- and .., and begin and end with none of - and .",
            ));
        }
        if !is_path(revision) {
            return Err(wrong("what follows @ is no branch, tag or commit"));
        }
        Ok(Self {
            repository: repository.to_owned(),
            revision: revision.to_owned(),
        })
    }
}

impl fmt::Display for HubModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if self.revision != DEFAULT_REVISION {
            write!(f, "@{}", self.revision)?;
        }
        Ok(())
    }
}

/// What the hub allows as an owner or a name. `--` would make two names into one folder of the cache.
fn is_name(part: &str) -> bool {
    let is_of = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    !part.is_empty()
        && part.len() <= 96
        && part.bytes().all(is_of)
        && !part.starts_with(['-', '.'])
        && !part.ends_with(['-', '.'])
        && !part.contains("--")
        && !part.contains("..")
}

/// Whether a path leads out of the folder that it is put in, on any system.
pub(super) fn leads_out(path: &str) -> bool {
    let mut parts = path.split(['/', '\\']);
    let is_absolute = path.starts_with(['/', '\\']) || path.chars().nth(1) == Some(':');
    is_absolute || parts.any(|part| part == "..")
}

/// Whether a relative path with `/` between its parts stays below the folder that it is put in, on every system.
pub(super) fn is_path(path: &str) -> bool {
    let is_part = |part: &str| !matches!(part, "" | "." | "..");
    path.split('/').all(is_part)
        && !path
            .chars()
            .any(|c| c.is_control() || matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|'))
}

/// Whether a revision is a commit, which never changes.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_paths() {
        for name in [
            "a/b",
            "hf:a/b",
            "openai/clip-vit-base-patch32",
            "a_1/b.c@refs/pr/1",
        ] {
            assert!(name.parse::<HubModel>().is_ok(), "{name}");
        }
        for path in [
            "", "clip", "./clip", "../clip", "/a/b", "a/b/c", "a/b@", "a/b@../x", "a b/c",
            "a/b--c", "~/clip", "a\\b",
        ] {
            assert!(path.parse::<HubModel>().is_err(), "{path}");
        }
        let model: HubModel = "a/b@v1".parse().unwrap();
        assert_eq!(
            (model.to_string().as_str(), model.folder().as_str()),
            ("a/b@v1", "models--a--b")
        );
    }

    #[test]
    fn paths_that_leave_their_folder_are_known() {
        assert!(is_path("onnx/model.onnx") && is_path("a..b"));
        for path in [
            "../x",
            "a/../../x",
            "/etc/x",
            "a//b",
            "",
            "c:/x",
            "a\\..\\x",
            ".",
            "a/./b",
            "nul\0",
        ] {
            assert!(!is_path(path), "{path:?}");
        }
    }
}

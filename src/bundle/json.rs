//! A JSON file read key by key, where every complaint names file, key, value found and values expected.
//!
//! Configs are read this way rather than into structs, because most keys have defaults that depend on others, and
//! because an unknown value must be answered with the known ones.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};

/// An object in a JSON file, and the dotted key at which it stands there.
#[derive(Debug, Clone)]
pub(crate) struct Json {
    path: PathBuf,
    at: String,
    value: Value,
}

impl Json {
    /// The file's content.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::read(path))?;
        let value = serde_json::from_slice(&bytes).map_err(|source| Error::Json {
            path: path.to_owned(),
            source,
        })?;
        let json = Self {
            path: path.to_owned(),
            at: String::new(),
            value,
        };
        if json.value.is_object() {
            Ok(json)
        } else {
            Err(json.wrong("", "an object"))
        }
    }

    /// The content of the first of `names` that exists in `folder`.
    pub(crate) fn open_first(folder: &Path, names: &[&str]) -> Result<Option<Self>> {
        let path = names
            .iter()
            .map(|name| folder.join(name))
            .find(|path| path.is_file());
        path.map(|path| Self::open(&path)).transpose()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The value at `key`, which may be dotted; `None` where it is absent or null.
    fn find(&self, key: &str) -> Option<&Value> {
        let value = key
            .split('.')
            .filter(|key| !key.is_empty())
            .try_fold(&self.value, |value, key| value.get(key));
        value.filter(|value| !value.is_null())
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// The error that the value at `key` is not what is `expected`.
    pub(crate) fn wrong(&self, key: &str, expected: impl Into<String>) -> Error {
        let at = [self.at.as_str(), key]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(".");
        Error::Config {
            path: self.path.clone(),
            key: if at.is_empty() {
                "the file".to_owned()
            } else {
                at
            },
            found: self
                .find(key)
                .map_or_else(|| "missing".to_owned(), Value::to_string),
            expected: expected.into(),
        }
    }

    /// The value at `key` as `read` understands it, `None` where it is absent.
    fn read<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.find(key) else {
            return Ok(None);
        };
        read(value)
            .map(Some)
            .ok_or_else(|| self.wrong(key, expected))
    }

    /// The object at `key`, from which further keys are read.
    pub(crate) fn object(&self, key: &str) -> Result<Option<Self>> {
        let at = [self.at.as_str(), key]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(".");
        let inner = |value: Value| Self {
            path: self.path.clone(),
            at,
            value,
        };
        Ok(self
            .read(key, "an object", |value| {
                value.is_object().then(|| value.clone())
            })?
            .map(inner))
    }

    pub(crate) fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.read(key, "true or false", Value::as_bool)
    }

    pub(crate) fn string(&self, key: &str) -> Result<Option<String>> {
        self.read(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    /// The list of strings at `key`.
    pub(crate) fn strings(&self, key: &str) -> Result<Option<Vec<String>>> {
        self.read(key, "a list of strings", |value| {
            let strings = value.as_array()?.iter();
            strings
                .map(|string| string.as_str().map(str::to_owned))
                .collect()
        })
    }

    /// The special token at `key`, which is stated as a string or, with its flags, as an object.
    pub(crate) fn token(&self, key: &str) -> Result<Option<String>> {
        let content = format!("{key}.content");
        self.string(if self.has(&content) { &content } else { key })
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>> {
        self.read(key, "a number", |value| {
            value.as_f64().filter(|number| number.is_finite())
        })
    }

    /// A whole number of at least 1 that counts pixels or tokens.
    pub(crate) fn count(&self, key: &str) -> Result<Option<u32>> {
        self.read(key, "a whole number from 1 to 65535", count)
    }

    /// A whole number that counts what there may be none of.
    pub(crate) fn whole(&self, key: &str) -> Result<Option<u32>> {
        self.read(key, "a whole number from 0 to 65535", |value| {
            let number = u32::try_from(value.as_u64()?).ok();
            number.filter(|&number| number <= 65535)
        })
    }

    /// A count, or two of them in brackets.
    pub(crate) fn side_or_sides(&self, key: &str) -> Result<Option<(u32, u32)>> {
        self.read(
            key,
            "a whole number from 1 to 65535, or [height, width]",
            |value| match value {
                Value::Array(sides) if sides.len() == 2 => {
                    Some((count(&sides[0])?, count(&sides[1])?))
                }
                side => count(side).map(|side| (side, side)),
            },
        )
    }

    /// An id of the vocabulary.
    pub(crate) fn id(&self, key: &str) -> Result<Option<u32>> {
        self.read(key, "an id of the vocabulary", |value| {
            u32::try_from(value.as_u64()?).ok()
        })
    }

    /// Three numbers, one a colour channel.
    pub(crate) fn channels(&self, key: &str) -> Result<Option<[f64; 3]>> {
        self.read(
            key,
            "three numbers, one for each of red, green and blue",
            |value| {
                let numbers: Option<Vec<f64>> =
                    value.as_array()?.iter().map(Value::as_f64).collect();
                numbers?.try_into().ok()
            },
        )
    }

    /// Three numbers above 0, one a colour channel, to divide by.
    pub(crate) fn divisors(&self, key: &str) -> Result<Option<[f64; 3]>> {
        let divisors = self.channels(key)?;
        match divisors.is_some_and(|divisors| divisors.iter().any(|&divisor| divisor <= 0.0)) {
            true => Err(self.wrong(
                key,
                "three numbers above 0, one for each of red, green and blue",
            )),
            false => Ok(divisors),
        }
    }

    /// The choice that the string at `key` names, out of a table of all that are known.
    pub(crate) fn choice<T: Copy>(&self, key: &str, known: &[(&str, T)]) -> Result<Option<T>> {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let find = |value: &Value| {
            known
                .iter()
                .find(|(name, _)| Some(*name) == value.as_str())
                .map(|(_, is)| *is)
        };
        self.read(key, &format!("one of {}", names.join(", ")), find)
    }

    /// An error if there is a key that is not `known`.
    pub(crate) fn refuse_unknown_keys(&self, known: &[&str]) -> Result<()> {
        let keys = self
            .value
            .as_object()
            .into_iter()
            .flat_map(|object| object.keys());
        match keys.into_iter().find(|key| !known.contains(&key.as_str())) {
            Some(unknown) => Err(self.wrong(unknown, format!("no key but {}", known.join(", ")))),
            None => Ok(()),
        }
    }
}

fn count(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?)
        .ok()
        .filter(|number| (1..=65535).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json {
            path: "config.json".into(),
            at: String::new(),
            value: serde_json::from_str(text).unwrap(),
        }
    }

    #[test]
    fn complaints_name_file_key_found_and_expected() {
        let size = json(r#"{"size": {"shortest_edge": "big", "odd": 1}}"#)
            .object("size")
            .unwrap()
            .unwrap();
        assert_eq!(
            size.count("shortest_edge").unwrap_err().to_string(),
            "config.json: size.shortest_edge is \"big\", expected a whole number from 1 to 65535"
        );
        assert_eq!(
            size.refuse_unknown_keys(&["shortest_edge"])
                .unwrap_err()
                .to_string(),
            "config.json: size.odd is 1, expected no key but shortest_edge"
        );
        let mode = json(r#"{"mode": "stretch"}"#);
        assert_eq!(
            mode.choice("mode", &[("squash", 1), ("shortest", 2)])
                .unwrap_err()
                .to_string(),
            "config.json: mode is \"stretch\", expected one of squash, shortest"
        );
    }

    #[test]
    fn absent_and_null_are_the_same() {
        let json = json(r#"{"a": null, "b": {"c": 3}}"#);
        assert!(!json.has("a") && !json.has("z") && json.has("b.c"));
        assert_eq!(json.count("a").unwrap(), None);
        assert_eq!(json.count("b.c").unwrap(), Some(3));
    }

    #[test]
    fn sides_are_one_or_two() {
        let json = json(r#"{"one": 224, "two": [336, 448], "none": [1, 2, 3], "zero": 0}"#);
        assert_eq!(json.side_or_sides("one").unwrap(), Some((224, 224)));
        assert_eq!(json.side_or_sides("two").unwrap(), Some((336, 448)));
        assert!(json.side_or_sides("none").is_err());
        assert!(json.side_or_sides("zero").is_err());
    }
}

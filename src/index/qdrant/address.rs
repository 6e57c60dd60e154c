//! Where a collection is: `qdrant://HOST:6334/COLLECTION`.

use std::fmt::{self, Display};

use crate::error::{Error, Result};

/// Where Qdrant listens for gRPC, unless it was told otherwise.
const PORT: u16 = 6334;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    text: String,
    /// As it was written: an IPv6 address in brackets.
    host: String,
    port: u16,
    is_encrypted: bool,
    pub(super) collection: String,
    /// Whether a search looks at every point, instead of at those that the server's graph leads to.
    pub(super) is_exact: bool,
}

impl Address {
    /// # Errors
    ///
    /// [`Error::Address`].
    pub(super) fn parse(text: &str) -> Result<Self> {
        Self::read(text).map_err(|problem| Error::Address {
            address: text.to_owned(),
            problem,
        })
    }

    fn read(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let (rest, option) = match rest.split_once('?') {
            Some((rest, option)) => (rest, Some(option)),
            None => (rest, None),
        };
        let (server, collection) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = host_and_port(server)?;
        if collection.is_empty() || collection.contains('/') {
            return Err(format!(
                "expected one name after the host, found {collection:?}"
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            host,
            port,
            is_encrypted: is_encrypted(scheme)?,
            collection: collection.to_owned(),
            is_exact: is_exact(option)?,
        })
    }

    /// Host and port, as messages name them.
    pub(super) fn server(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// What the client connects to.
    pub(super) fn url(&self) -> String {
        let scheme = if self.is_encrypted { "https" } else { "http" };
        format!("{scheme}://{}", self.server())
    }
}

impl Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

fn is_encrypted(scheme: &str) -> Result<bool, String> {
    match scheme {
        "qdrant" => Ok(false),
        "qdrants" => Ok(true),
        other => Err(format!("expected qdrant or qdrants, found {other:?}")),
    }
}

fn is_exact(option: Option<&str>) -> Result<bool, String> {
    match option {
        None => Ok(false),
        Some("exact") => Ok(true),
        Some(other) => Err(format!("after ? only exact is known, found {other:?}")),
    }
}

fn host_and_port(server: &str) -> Result<(String, u16), String> {
    // The colons of an IPv6 address stand in brackets.
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (server, None),
    };
    let is_odd = |letter: char| !(letter.is_alphanumeric() || ".-_[]:".contains(letter));
    if host.is_empty() || host.contains(is_odd) || (host.contains(':') && !host.starts_with('[')) {
        return Err(format!("expected a host, found {host:?}"));
    }
    let port = match port.map(str::parse) {
        None => PORT,
        Some(Ok(port)) if port > 0 => port,
        _ => return Err(format!("expected a port from 1 to 65535 after {host}:")),
    };
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_addresses() {
        for (text, url, collection, is_exact) in [
            ("qdrant://host/photos", "http://host:6334", "photos", false),
            (
                "qdrant://10.0.0.7:7000/a b",
                "http://10.0.0.7:7000",
                "a b",
                false,
            ),
            (
                "qdrants://db.example.org/photos?exact",
                "https://db.example.org:6334",
                "photos",
                true,
            ),
            (
                "qdrant://[::1]/photos",
                "http://[::1]:6334",
                "photos",
                false,
            ),
            ("qdrant://[::1]:7/photos", "http://[::1]:7", "photos", false),
        ] {
            let address = Address::parse(text).expect(text);
            assert_eq!(address.url(), url);
            assert_eq!(address.collection, collection);
            assert_eq!(address.is_exact, is_exact);
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (text, part) in [
            ("qdrant://host", "one name"),
            ("qdrant://host/", "one name"),
            ("qdrant://host/a/b", "one name"),
            ("qdrant:///photos", "a host"),
            ("qdrant://key@host/photos", "a host"),
            ("qdrant://::1/photos", "a host"),
            ("qdrant://host:/photos", "a port"),
            ("qdrant://host:0/photos", "a port"),
            ("qdrant://host:66000/photos", "a port"),
            ("qdrant://host/photos?tls", "only exact"),
            ("http://host/photos", "qdrant or qdrants"),
        ] {
            let error = Address::parse(text).expect_err(text);
            assert!(error.to_string().contains(part), "{error}");
            assert!(error.hint().is_some(), "{error}");
        }
    }
}

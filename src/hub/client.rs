//! What goes over the network: requests, redirects, statuses, patience.
//!
//! The only file that knows `ureq`. Knows a hub's routes and headers, no cache and no models.

use std::collections::BTreeSet;
use std::io::Read;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{Response, header};
use ureq::{Agent, Body};

use super::cache::is_word;
use super::name::{HubModel, is_commit, is_path, leads_out};
use crate::error::{Error, Result};

/// How often a request that failed is made again, when that may help.
pub(super) const TRIES: u32 = 5;
/// The same where no answer came at all; people without a network should not wait long to be told.
const NETWORK_TRIES: u32 = 3;
/// What is waited before a second try, and twice that before each further one.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest that a hub may make us wait at once.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A pause that is told of.
const WORTH_SAYING: Duration = Duration::from_secs(1);
/// How many redirects one request may take.
const REDIRECTS: usize = 5;
/// A list of files is no longer than this.
const LONGEST_LIST: u64 = 16 << 20;

pub(super) const TRY_LATER: &str = "try again later; what was fetched is kept";
pub(super) const REPORT: &str =
    "try again; if it stays so, tell those who run the hub that HF_ENDPOINT names, or its mirror";

/// A hub, and how it is spoken to.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    notice: fn(&str),
}

/// What a hub states of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stated {
    /// SHA-256 of the content, or SHA-1 as git makes it, as hexadecimal digits.
    pub(super) hash: String,
    /// Bytes.
    pub(super) size: u64,
}

/// The answer to a request for a file's content.
pub(super) struct Content {
    /// The first byte that comes, counted from the file's first.
    pub(super) from: u64,
    pub(super) reader: Box<dyn Read>,
}

/// A repository at a revision.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: BTreeSet<String>,
}

#[derive(Deserialize)]
struct ListingJson {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Client {
    pub(super) fn new(endpoint: &str, token: Option<String>, notice: fn(&str)) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are followed here, so that a token never goes elsewhere.
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            // Contents come as they are, so that sizes and ranges are those of the files.
            .accept_encoding("identity")
            .user_agent(concat!("diptych/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: config.new_agent(),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token,
            notice,
        }
    }

    /// The commit and the files of a model.
    pub(super) fn listing(&self, model: &HubModel, revision: &str) -> Result<Listing> {
        let encoded = encoded(revision, false);
        let path = format!("/api/models/{}/revision/{encoded}", model.repository());
        let response = self.ask(&path, Request::Get(0))?;
        let json = read_listing(response)
            .map_err(|problem| broken(&path, format!("the list of files {problem}"), REPORT))?;
        let mut files: BTreeSet<String> = json
            .siblings
            .into_iter()
            .map(|file| file.rfilename)
            .collect();
        if let Some(climbing) = files.iter().find(|file| leads_out(file)) {
            let problem = format!("the file name {climbing:?} leads out of the model's folder");
            return Err(broken(&path, problem, "do not use this model"));
        }
        // Names that some systems cannot have; no graph and no config is called so.
        files.retain(|file| is_path(file));
        let is_right = if is_commit(revision) {
            json.sha == revision
        } else {
            is_word(&json.sha)
        };
        if !is_right {
            let expected = if is_commit(revision) {
                revision
            } else {
                "hexadecimal digits"
            };
            let problem = format!("the commit is {:?}, expected {expected}", json.sha);
            return Err(broken(&path, problem, REPORT));
        }
        Ok(Listing {
            commit: json.sha,
            files,
        })
    }

    /// What the hub states of a file, without its content.
    pub(super) fn stated(&self, model: &HubModel, commit: &str, file: &str) -> Result<Stated> {
        let path = file_path(model, commit, file);
        let response = self.ask(&path, Request::Head)?;
        let text = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let hash = text("x-linked-etag")
            .or_else(|| text("etag"))
            .unwrap_or_default();
        let hash = hash
            .trim_start_matches("W/")
            .trim_matches('"')
            .to_ascii_lowercase();
        let is_hash = matches!(hash.len(), 40 | 64) && hash.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hash {
            return Err(broken(
                &path,
                format!("its ETag is {hash:?}, expected a SHA-256 or SHA-1"),
                REPORT,
            ));
        }
        let size = text("x-linked-size").or_else(|| text("content-length"));
        let size = size.and_then(|size| size.parse().ok());
        let size =
            size.ok_or_else(|| broken(&path, "its size is not stated".to_owned(), REPORT))?;
        Ok(Stated { hash, size })
    }

    /// The content of a file from byte `from` on, or all of it where the hub knows no ranges.
    pub(super) fn content(
        &self,
        model: &HubModel,
        commit: &str,
        file: &str,
        from: u64,
    ) -> Result<Content> {
        let path = file_path(model, commit, file);
        let response = self.ask(&path, Request::Get(from))?;
        let begins = match response.status().as_u16() {
            206 => range_start(&response).ok_or_else(|| {
                broken(
                    &path,
                    "the range that it gives is not stated".to_owned(),
                    REPORT,
                )
            })?,
            _ => 0,
        };
        if begins > from {
            return Err(broken(
                &path,
                format!("bytes from {begins} on came, expected from {from} on"),
                REPORT,
            ));
        }
        Ok(Content {
            from: begins,
            reader: Box::new(response.into_body().into_reader()),
        })
    }

    /// The answer to a request, made again where that may help, and only if it is a success.
    fn ask(&self, path: &str, request: Request) -> Result<Response<Body>> {
        let url = format!("{}{path}", self.endpoint);
        let mut tries = 0;
        loop {
            tries += 1;
            let response = match self.follow(&url, request) {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => response,
                Err(Error::HubUnreachable { .. }) if tries < NETWORK_TRIES => {
                    thread::sleep(pause_after(tries));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let status = response.status().as_u16();
            let pause = pause(&response, tries);
            if !may_pass(status) || tries >= TRIES || pause > LONGEST_PAUSE {
                return Err(self.refused(path, &response));
            }
            if pause >= WORTH_SAYING {
                let seconds = pause.as_secs();
                (self.notice)(&format!(
                    "hub answered {status} for {path}: waiting {seconds} s"
                ));
            }
            thread::sleep(pause);
        }
    }

    fn refused(&self, path: &str, response: &Response<Body>) -> Error {
        let code = response.headers().get("x-error-code");
        Error::HubStatus {
            path: path.to_owned(),
            status: response.status().as_u16(),
            code: code.and_then(|code| code.to_str().ok()).map(str::to_owned),
            has_token: self.token.is_some(),
        }
    }

    /// The answer to one request, after redirects. For [`Request::Head`], the redirect to another server is the answer:
    /// it states what that server would not.
    fn follow(&self, first: &str, request: Request) -> Result<Response<Body>> {
        let wrong = |problem: String| broken(path_of(first), problem, REPORT);
        let mut url = first.to_owned();
        for _ in 0..=REDIRECTS {
            let response = self.send(&url, request)?;
            let to = response.headers().get(header::LOCATION);
            let to = to.and_then(|to| to.to_str().ok());
            let (true, Some(to)) = (response.status().is_redirection(), to) else {
                return Ok(response);
            };
            let to = match to.starts_with('/') {
                true => format!("{}{to}", origin(&url)),
                false => to.to_owned(),
            };
            let states_all = response.headers().contains_key("x-linked-etag");
            if request == Request::Head && states_all && origin(&to) != origin(&url) {
                return Ok(accepted(response));
            }
            if url.starts_with("https:") && !to.starts_with("https:") {
                return Err(wrong(
                    "it redirects to where nothing is encrypted".to_owned(),
                ));
            }
            url = to;
        }
        Err(wrong(format!("it redirects more than {REDIRECTS} times")))
    }

    fn send(&self, url: &str, request: Request) -> Result<Response<Body>> {
        let mut builder = match request {
            Request::Head => self.agent.head(url),
            Request::Get(_) => self.agent.get(url),
        };
        if let Request::Get(from @ 1..) = request {
            builder = builder.header(header::RANGE, format!("bytes={from}-"));
        }
        if let Some(token) = self
            .token
            .as_ref()
            .filter(|_| origin(url) == origin(&self.endpoint))
        {
            builder = builder.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        builder.call().map_err(|source| Error::HubUnreachable {
            endpoint: without_user(origin(url)),
            path: path_of(url).to_owned(),
            source: Box::new(source),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Head,
    /// From this byte on.
    Get(u64),
}

pub(super) fn file_path(model: &HubModel, commit: &str, file: &str) -> String {
    let (commit, file) = (encoded(commit, false), encoded(file, true));
    format!("/{}/resolve/{commit}/{file}", model.repository())
}

/// A list of files, or what is wrong with it.
fn read_listing(response: Response<Body>) -> Result<ListingJson, String> {
    let mut bytes = Vec::new();
    let mut body = response.into_body().into_reader().take(LONGEST_LIST + 1);
    body.read_to_end(&mut bytes)
        .map_err(|error| format!("breaks off: {error}"))?;
    if bytes.len() as u64 > LONGEST_LIST {
        return Err(format!("is longer than {LONGEST_LIST} bytes"));
    }
    serde_json::from_slice(&bytes).map_err(|error| format!("cannot be read: {error}"))
}

/// A redirect that answers all that was asked.
fn accepted(mut response: Response<Body>) -> Response<Body> {
    *response.status_mut() = ureq::http::StatusCode::OK;
    response
}

pub(super) fn broken(path: &str, problem: String, way_out: &'static str) -> Error {
    Error::HubBroken {
        path: path.to_owned(),
        problem,
        way_out,
    }
}

/// Whether an error is of a hub that is out of reach for now, and no refusal.
pub(super) fn is_out_of_reach(error: &Error) -> bool {
    match error {
        Error::HubUnreachable { .. } => true,
        Error::HubStatus { status, .. } => may_pass(*status),
        _ => false,
    }
}

/// Whether a hub that answers so may answer otherwise later.
fn may_pass(status: u16) -> bool {
    status == 429 || status >= 500
}

/// How long to wait before the next try: as the hub says, otherwise longer each time.
fn pause(response: &Response<Body>, tries: u32) -> Duration {
    let stated = response.headers().get(header::RETRY_AFTER);
    let stated = stated.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    stated.map_or_else(|| pause_after(tries), Duration::from_secs)
}

/// What is waited after so many tries in vain.
pub(super) fn pause_after(tries: u32) -> Duration {
    PAUSE * 2u32.pow(tries.saturating_sub(1).min(6))
}

/// The first byte of `Content-Range: bytes 5-9/10`.
fn range_start(response: &Response<Body>) -> Option<u64> {
    let range = response
        .headers()
        .get(header::CONTENT_RANGE)?
        .to_str()
        .ok()?;
    range
        .strip_prefix("bytes ")?
        .split('-')
        .next()?
        .trim()
        .parse()
        .ok()
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |at| host + at);
    &url[..end]
}

/// A URL without the name and password that it may hold, which must get into no log.
pub(super) fn without_user(url: &str) -> String {
    match (url.split_once("://"), origin(url).rfind('@')) {
        (Some((scheme, _)), Some(at)) => format!("{scheme}://{}", &url[at + 1..]),
        _ => url.to_owned(),
    }
}

/// The path of a URL, without the query, which may hold a signature.
fn path_of(url: &str) -> &str {
    let path = &url[origin(url).len()..];
    path.split(['?', '#']).next().unwrap_or(path)
}

/// With every byte that has a meaning in a URL written as digits.
fn encoded(text: &str, keeps_slashes: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'/' if keeps_slashes => encoded.push('/'),
            b'-' | b'_' | b'.' | b'~' => encoded.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = "https://hub.example:8443/a/b?signature=1";
        assert_eq!(
            (origin(url), path_of(url)),
            ("https://hub.example:8443", "/a/b")
        );
        assert_eq!((origin("http://x"), path_of("http://x")), ("http://x", ""));
        assert_ne!(origin("http://x:1/"), origin("http://x:2/"));
        assert_eq!(without_user("http://me:secret@x:1/a@b"), "http://x:1/a@b");
        assert_eq!(without_user("http://x/a@b"), "http://x/a@b");
        assert_eq!(encoded("a b/ä", true), "a%20b/%C3%A4");
        assert_eq!(encoded("refs/pr/1", false), "refs%2Fpr%2F1");
    }
}

//! A hub on this machine: it speaks the routes of a hub of models, notes what it is asked, and does what goes wrong with
//! real ones. Contents of large files come from a second server, as they do there.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::common::golden;

/// The model that a hub has.
pub(crate) const MODEL: &str = "someone/tiny";
/// The commit that its branch `main` and its tag `v1` are.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// Whether it came to the server of contents.
    pub(crate) is_of_content: bool,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Whether it asks for the content of a file whose name ends so.
    pub(crate) fn gets(&self, file: &str) -> bool {
        self.method == "GET" && self.path.ends_with(file)
    }
}

/// What is answered in place of what was asked for.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    Status(u16, &'static str),
    /// So many bytes of the content, then nothing.
    Cut(usize),
    /// A content of the right length, but another one.
    Wrong,
    /// Bytes without end, and no word of how many.
    Endless,
    Redirect(String),
    /// The content, a piece every ten milliseconds.
    Slow,
    /// All of the content, whatever range is asked for.
    Whole,
    /// The same, but so many bytes of it alone.
    WholeCut(usize),
}

/// Decides what goes wrong: told the request, and how often the same was made before.
type Trouble = dyn Fn(&Request, usize) -> Option<Fault> + Send + Sync;

/// The files of a model, by name.
type Files = BTreeMap<String, Vec<u8>>;

struct State {
    /// By the names of their models.
    files: Mutex<BTreeMap<String, Files>>,
    listed: Mutex<Vec<String>>,
    log: Mutex<Vec<Request>>,
    trouble: Box<Trouble>,
    contents: String,
}

/// A hub; its threads end with the program.
pub(crate) struct Hub {
    pub(crate) endpoint: String,
    /// Where contents come from.
    pub(crate) contents: String,
    state: Arc<State>,
}

impl Hub {
    /// A hub with the golden bundle of that name, where all goes well.
    pub(crate) fn with(bundle: &str) -> Self {
        Self::troubled(bundle, |_, _| None)
    }

    pub(crate) fn troubled(
        bundle: &str,
        trouble: impl Fn(&Request, usize) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        let (hub, contents) = (listener(), listener());
        let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            files: Mutex::new(BTreeMap::from([(MODEL.to_owned(), files(bundle))])),
            listed: Mutex::new(vec![".gitattributes".to_owned(), "README.md".to_owned()]),
            log: Mutex::default(),
            trouble: Box::new(trouble),
            contents: url(&contents),
        });
        let (endpoint, contents_url) = (url(&hub), url(&contents));
        serve(hub, Arc::clone(&state), false);
        serve(contents, Arc::clone(&state), true);
        Self {
            endpoint,
            contents: contents_url,
            state,
        }
    }

    /// Adds a model, with the golden bundle of that name.
    pub(crate) fn add(&self, model: &str, bundle: &str) {
        let mut files_of = self.state.files.lock().unwrap();
        files_of.insert(model.to_owned(), files(bundle));
    }

    /// Adds a file, as a copy of another.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        self.replace(to, self.content(from));
    }

    /// Puts another content into the place of a file.
    pub(crate) fn replace(&self, file: &str, content: Vec<u8>) {
        let mut files = self.state.files.lock().unwrap();
        let files = files.get_mut(MODEL).unwrap();
        files.insert(file.to_owned(), content);
    }

    /// Adds a name to the list of files, without a file.
    pub(crate) fn list(&self, name: &str) {
        self.state.listed.lock().unwrap().push(name.to_owned());
    }

    pub(crate) fn content(&self, file: &str) -> Vec<u8> {
        self.state.files.lock().unwrap()[MODEL][file].clone()
    }

    /// All that was asked until now.
    pub(crate) fn log(&self) -> Vec<Request> {
        self.state.log.lock().unwrap().clone()
    }

    /// How often a content was asked for.
    pub(crate) fn count(&self, file: &str) -> usize {
        let hash = sha256(&self.content(file));
        self.log()
            .iter()
            .filter(|request| request.gets(file) && !request.is_of_content || request.gets(&hash))
            .count()
    }
}

pub(crate) fn sha256(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

/// The name that git gives a content.
pub(crate) fn git_sha1(content: &[u8]) -> String {
    let mut hash = Sha1::new_with_prefix(format!("blob {}\0", content.len()));
    hash.update(content);
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a hub keeps a file apart, by the SHA-256 of its content.
pub(crate) fn is_large(name: &str) -> bool {
    name.contains(".onnx") || name == "tokenizer.json"
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// The files of a golden bundle.
fn files(bundle: &str) -> Files {
    let folder = golden("bundles").join(bundle);
    let mut files = BTreeMap::new();
    for entry in walkdir::WalkDir::new(&folder) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let name = entry.path().strip_prefix(&folder).unwrap();
            files.insert(
                name.to_str().unwrap().replace('\\', "/"),
                fs::read(entry.path()).unwrap(),
            );
        }
    }
    assert!(files.len() >= 3, "{}", folder.display());
    files
}

fn serve(listener: TcpListener, state: Arc<State>, is_of_content: bool) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let state = Arc::clone(&state);
            // A client that has had enough is no fault of the server.
            thread::spawn(move || {
                let _ = answer(stream, &state, is_of_content);
            });
        }
    });
}

fn answer(mut stream: TcpStream, state: &State, is_of_content: bool) -> std::io::Result<()> {
    let Some(request) = read(&stream, is_of_content)? else {
        return Ok(());
    };
    let before = {
        let mut log = state.log.lock().unwrap();
        let same = |other: &&Request| {
            (other.is_of_content, &other.method, &other.path)
                == (is_of_content, &request.method, &request.path)
        };
        let before = log.iter().filter(same).count();
        log.push(request.clone());
        before
    };
    let fault = (state.trouble)(&request, before);
    match &fault {
        Some(Fault::Status(status, headers)) => {
            return head(
                &mut stream,
                *status,
                &format!("{headers}content-length: 0\r\n"),
            );
        }
        Some(Fault::Redirect(to)) => {
            return head(
                &mut stream,
                302,
                &format!("location: {to}\r\ncontent-length: 0\r\n"),
            );
        }
        _ => {}
    }
    let files_of = state.files.lock().unwrap().clone();
    if is_of_content {
        let content = files_of
            .values()
            .flat_map(Files::values)
            .find(|content| request.path.ends_with(&sha256(content)));
        return match content {
            Some(content) => send(&mut stream, &request, content, "", fault.as_ref()),
            None => head(&mut stream, 404, "content-length: 0\r\n"),
        };
    }
    let is_meant = |model: &&String| request.path.contains(&format!("/{model}/"));
    let model = files_of.keys().find(is_meant).map_or(MODEL, String::as_str);
    let files = &files_of[model];
    let names = files
        .keys()
        .chain(state.listed.lock().unwrap().iter())
        .cloned()
        .collect::<Vec<_>>();
    if let Some(revision) = request
        .path
        .strip_prefix(&format!("/api/models/{model}/revision/"))
    {
        if !["main", "v1", COMMIT].contains(&revision) {
            return head(
                &mut stream,
                404,
                "x-error-code: RevisionNotFound\r\ncontent-length: 0\r\n",
            );
        }
        let siblings: Vec<_> = names
            .iter()
            .map(|name| serde_json::json!({ "rfilename": name }))
            .collect();
        let json = serde_json::json!({ "sha": COMMIT, "siblings": siblings, "private": false })
            .to_string();
        return send(&mut stream, &request, json.as_bytes(), "", fault.as_ref());
    }
    let file = request
        .path
        .strip_prefix(&format!("/{model}/resolve/{COMMIT}/"));
    match file.and_then(|file| Some((file, files.get(file)?))) {
        None => {
            let code = if file.is_some() {
                "EntryNotFound"
            } else {
                "RepoNotFound"
            };
            head(
                &mut stream,
                404,
                &format!("x-error-code: {code}\r\ncontent-length: 0\r\n"),
            )
        }
        Some((name, content)) if is_large(name) => {
            let (hash, size, contents) = (sha256(content), content.len(), &state.contents);
            head(
                &mut stream,
                302,
                &format!(
                    "location: {contents}/cdn/{hash}\r\nx-repo-commit: {COMMIT}\r\nx-linked-etag: \"{hash}\"\r\nx-linked-size: {size}\r\netag: \"other\"\r\ncontent-length: 0\r\n"
                ),
            )
        }
        Some((_, content)) => {
            let headers = format!(
                "x-repo-commit: {COMMIT}\r\netag: \"{}\"\r\n",
                git_sha1(content)
            );
            send(&mut stream, &request, content, &headers, fault.as_ref())
        }
    }
}

fn read(stream: &TcpStream, is_of_content: bool) -> std::io::Result<Option<Request>> {
    let mut lines = BufReader::new(stream).lines();
    let Some(first) = lines.next() else {
        return Ok(None);
    };
    let first = first?;
    let mut words = first.split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        match line.split_once(": ") {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.to_owned()),
            None => break,
        };
    }
    Ok(Some(Request {
        is_of_content,
        method,
        path,
        headers,
    }))
}

fn head(stream: &mut TcpStream, status: u16, headers: &str) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status} Whatever\r\n{headers}connection: close\r\n\r\n"
    )
}

/// The content, or the range of it that is asked for, as far as the fault lets it.
fn send(
    stream: &mut TcpStream,
    request: &Request,
    content: &[u8],
    headers: &str,
    fault: Option<&Fault>,
) -> std::io::Result<()> {
    let range = request
        .header("range")
        .filter(|_| !matches!(fault, Some(Fault::Whole | Fault::WholeCut(_))));
    let from: usize = range.map_or(0, |range| {
        range["bytes=".len()..]
            .trim_end_matches('-')
            .parse()
            .unwrap()
    });
    let mut part = content[from.min(content.len())..].to_vec();
    if let Some(Fault::Endless) = fault {
        head(stream, 200, headers)?;
        loop {
            stream.write_all(&[0; 1 << 16])?;
        }
    }
    let length = part.len();
    match range {
        Some(_) => head(
            stream,
            206,
            &format!(
                "{headers}content-length: {length}\r\ncontent-range: bytes {from}-{}/{}\r\n",
                content.len() - 1,
                content.len()
            ),
        )?,
        None => head(
            stream,
            200,
            &format!("{headers}content-length: {length}\r\n"),
        )?,
    }
    if request.method == "HEAD" {
        return Ok(());
    }
    match fault {
        Some(Fault::Cut(bytes) | Fault::WholeCut(bytes)) => part.truncate(*bytes),
        Some(Fault::Wrong) => part.iter_mut().for_each(|byte| *byte ^= 1),
        _ => {}
    }
    for piece in part.chunks(4096) {
        stream.write_all(piece)?;
        if let Some(Fault::Slow) = fault {
            thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

//! The library's only error type.
//!
//! Variants are grouped by whose move is next: the file system's, the image's, the bundle's, the caller's, the
//! runtime's. They carry data, not prose; a repair that can be named stands in [`Error::hint`], which a program prints
//! on a line of its own.

use std::io;
use std::path::{Path, PathBuf};

/// The formats that can be read, as messages name them.
const IMAGE_FORMATS: &str = "JPEG, PNG, WebP, GIF, BMP, TIFF, PNM or QOI";

/// The cause of an error that another crate reported.
pub(crate) type Source = Box<dyn std::error::Error + Send + Sync>;

/// The result of everything fallible in this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong.
///
/// Messages are one line, lower case, without a full stop; they name the file or value, what was expected and what was
/// found. [`Error::hint`] says what to do, where that can be known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or folder could not be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes are of no image format that is known here.
    #[error("{}: not an image: expected {}, found {found}", path.display(), IMAGE_FORMATS)]
    NotAnImage {
        /// The file.
        path: PathBuf,
        /// What its first bytes look like.
        found: String,
    },
    /// The format is known, but the image is damaged, cut off or of a kind that cannot be decoded.
    #[error("{}: image cannot be decoded: {source}", path.display())]
    ImageDecode {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        source: Source,
    },
    /// The image, or decoding it, would go past a limit.
    #[error("{}: image of {width} x {height} pixels is over the limit of {limit} pixels", path.display())]
    ImageTooLarge {
        /// The file.
        path: PathBuf,
        /// Width in pixels, as its header states.
        width: u32,
        /// Height in pixels, as its header states.
        height: u32,
        /// The most pixels that are allowed.
        limit: u64,
    },
    /// The folder is of no bundle layout that is known here.
    #[error("{}: not a model bundle: found {found}", path.display())]
    NotABundle {
        /// The folder.
        path: PathBuf,
        /// What lies in it.
        found: String,
        /// The command that makes a bundle of it, where it holds a model of PyTorch.
        export: Option<String>,
    },
    /// A bundle lacks a file that it needs.
    #[error("{}: bundle lacks {file}, which states {states}", path.display())]
    MissingFile {
        /// The bundle's folder.
        path: PathBuf,
        /// The file, relative to the folder; alternatives are joined by "or".
        file: String,
        /// What is read from it.
        states: &'static str,
    },
    /// A tower has no graph of the precision that was asked for.
    #[error("{}: no {tower} graph of precision {asked}, found {found}", path.display())]
    NoPrecision {
        /// The bundle's folder or name.
        path: PathBuf,
        /// "image" or "text"; "image and text" where one graph is both.
        tower: &'static str,
        /// The precision that was asked for.
        asked: String,
        /// Those that are there.
        found: String,
    },
    /// A graph is to be quantised that is quantised already.
    #[error("{}: graph has weights of {found}, expected float32", path.display())]
    Quantized {
        /// The graph's file.
        path: PathBuf,
        /// The element type, such as "float16".
        found: &'static str,
    },
    /// Something is where a new bundle is to be.
    #[error("{}: {problem}, expected a new or empty folder", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What is there.
        problem: &'static str,
    },
    /// The text tower's tokenizer does not mark the language that was asked for.
    #[error("{}: no language {asked}, found {found}", path.display())]
    NoLanguage {
        /// The tokenizer's file, or the bundle's folder where it marks no language at all.
        path: PathBuf,
        /// The language that was asked for.
        asked: String,
        /// Some of those that are there.
        found: String,
    },
    /// What should name precisions does not.
    #[error(
        "precision is {found:?}, expected a word such as fp16, or one for a tower, such as image=int8,text=fp32"
    )]
    BadPrecision {
        /// What was given.
        found: String,
    },
    /// Rows have fewer values than were to be kept, or none were.
    #[error("{}: its rows have {width} values and cannot be cut to {asked}, expected 1 to {width}", path.display())]
    Dim {
        /// The graph.
        path: PathBuf,
        /// To how many values rows were to be cut.
        asked: usize,
        /// How many they have.
        width: usize,
    },
    /// What should name a kind of rows does not.
    #[error("rows are {found:?}, expected cls, mean, pooled or patches")]
    BadRows {
        /// What was given.
        found: String,
    },
    /// No file of a bundle says which of a graph's values are an image's row.
    #[error("{}: no file states which of its outputs is an image's row: found {found}", path.display())]
    RowsUnknown {
        /// The graph's file.
        path: PathBuf,
        /// Its outputs.
        found: String,
    },
    /// An image has several rows where one was needed.
    #[error("{}: image tower gives {count} rows for an image, expected one", path.display())]
    SeveralRows {
        /// The bundle's folder.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// What should name a model of a hub does not.
    #[error("{found}: not a model of a hub, which is OWNER/NAME or OWNER/NAME@REVISION: {problem}")]
    NotAHubName {
        /// What was given.
        found: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The environment names no place for the cache of a hub's models.
    #[error("there is no folder for the cache of models")]
    NoCache,
    /// A model of a hub, or a part of it, is not in the cache, and may not be fetched.
    #[error("{model}: the cache lacks {missing}, and fetching is turned off")]
    NotInCache {
        /// The model.
        model: String,
        /// The files that are missing, or why they cannot be used.
        missing: String,
    },
    /// No hub answers.
    #[error("{endpoint} does not answer for {path}: {source}")]
    HubUnreachable {
        /// Scheme, host and port.
        endpoint: String,
        /// The path of the request.
        path: String,
        /// What the network said.
        source: Source,
    },
    /// The hub refuses a request.
    #[error("hub answered {status}{} for {path}", code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default())]
    HubStatus {
        /// The path of the request.
        path: String,
        /// The HTTP status.
        status: u16,
        /// The hub's own word for it, where it gave one.
        code: Option<String>,
        /// Whether a token was there to be sent.
        has_token: bool,
    },
    /// What the hub sent is not what it should be.
    #[error("hub's answer for {path} cannot be used: {problem}")]
    HubBroken {
        /// The path of the request.
        path: String,
        /// What is wrong with it.
        problem: String,
        /// What to do, as one sentence.
        way_out: &'static str,
    },
    /// A JSON file could not be parsed.
    #[error("{}: not valid JSON for what it should state: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        source: serde_json::Error,
    },
    /// A config states a value that is unknown or out of range.
    #[error("{}: {key} is {found}, expected {expected}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The key, dotted where nested.
        key: String,
        /// The value found.
        found: String,
        /// The values that are known, or the range.
        expected: String,
    },
    /// A tokenizer file could not be loaded, or failed on a text.
    #[error("{}: tokenizer cannot be used: {source}", path.display())]
    Tokenizer {
        /// The tokenizer's file.
        path: PathBuf,
        /// What the tokenizer library said.
        source: Source,
    },
    /// The bundle has no tower of this kind.
    #[error("{}: bundle has no {tower} tower", path.display())]
    NoTower {
        /// The bundle's folder.
        path: PathBuf,
        /// "image" or "text".
        tower: &'static str,
    },
    /// The two towers do not give rows of the same width, so nothing can be compared.
    #[error("{}: the image tower gives rows of width {image}, the text tower of width {text}", path.display())]
    TowersDiffer {
        /// The bundle's folder.
        path: PathBuf,
        /// Width of image rows.
        image: usize,
        /// Width of text rows.
        text: usize,
    },
    /// ONNX Runtime could not load or run a graph.
    #[error("{}: graph cannot be {action}: {source}", path.display())]
    Graph {
        /// The graph's file.
        path: PathBuf,
        /// "loaded" or "run".
        action: &'static str,
        /// What ONNX Runtime said.
        source: Source,
    },
    /// A graph's inputs or outputs are not those of a tower.
    #[error("{}: graph has {found}, expected {expected}", path.display())]
    GraphInterface {
        /// The graph's file.
        path: PathBuf,
        /// What the graph has.
        found: String,
        /// What a tower needs.
        expected: String,
    },
    /// A graph gave something that has no direction: NaN, infinity, or a row of zeros.
    #[error("{}: graph gave no embedding for item {item} of {count}: the row {problem}", path.display())]
    NoRow {
        /// The graph's file.
        path: PathBuf,
        /// "holds a value that is not finite" or "is all zeros".
        problem: &'static str,
        /// The item's position in the batch, counted from 1.
        item: usize,
        /// How many items the batch had.
        count: usize,
    },
    /// Rows of different widths met.
    #[error("rows are {found} wide, expected {expected}")]
    Width {
        /// The width found.
        found: usize,
        /// The width expected.
        expected: usize,
    },
    /// A row has no direction, so it cannot be brought to unit length.
    #[error("row {row} {problem}: it has no direction")]
    NoDirection {
        /// The row, counted from 0.
        row: usize,
        /// "holds a value that is not finite" or "is all zeros".
        problem: &'static str,
    },
    /// A list that must hold something is empty.
    #[error("no {what} given")]
    Empty {
        /// "labels" or "templates".
        what: &'static str,
    },
    /// A label is blank.
    #[error("label {position} is blank")]
    BlankLabel {
        /// Its position in the list, counted from 1.
        position: usize,
    },
    /// A label stands twice in the list.
    #[error("label {label:?} is given twice, as label {first} and label {second}")]
    RepeatedLabel {
        /// The label.
        label: String,
        /// Its first position, counted from 1.
        first: usize,
        /// Its second position.
        second: usize,
    },
    /// A template has no place for the label.
    #[error("template {template:?} has no {{}} where the label goes")]
    TemplateWithoutPlace {
        /// The template.
        template: String,
    },
    /// There is no index in the folder.
    #[error("{}: no index there", path.display())]
    NoIndex {
        /// The folder.
        path: PathBuf,
    },
    /// There is an index in the folder already.
    #[error("{}: there is an index already", path.display())]
    IndexExists {
        /// The folder.
        path: PathBuf,
    },
    /// Another process writes to the index.
    #[error("{}: index is being written by {holder}", path.display())]
    Locked {
        /// The index's folder.
        path: PathBuf,
        /// Who writes, as it said itself.
        holder: String,
    },
    /// The rows of an index are of another model.
    #[error("{}: index is of {found}, not of {expected}", path.display())]
    OtherModel {
        /// The index's folder.
        path: PathBuf,
        /// What made its rows.
        found: String,
        /// What makes the rows that are to come in.
        expected: String,
    },
    /// A file of an index is not what was written.
    #[error("{}: file of the index is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do, as one sentence.
        way_back: &'static str,
    },
    /// SQLite could not read or write the catalog of an index.
    #[error("{}: catalog of the index cannot be used: {source}", path.display())]
    Catalog {
        /// The catalog.
        path: PathBuf,
        /// What SQLite said.
        source: Source,
    },
    /// Nothing can be written where an index lies, and a writer that was ended left changes that are to be written there.
    #[error("{}: catalog of the index cannot be read: changes wait in its log, and its folder cannot be written to", path.display())]
    Unfinished {
        /// The catalog.
        path: PathBuf,
    },
    /// What should be the address of a collection is none.
    #[error("{address}: not the address of a collection: {problem}")]
    Address {
        /// What was given.
        address: String,
        /// What was expected and found.
        problem: String,
    },
    /// An address was given, and the feature `qdrant` is not built in.
    #[error("{address}: built without what reaches a Qdrant server")]
    NoQdrant {
        /// The address.
        address: String,
    },
    /// No Qdrant server answers.
    #[error("{address}: no Qdrant server answers at {server}: {source}")]
    Unreachable {
        /// The collection's address.
        address: String,
        /// Host and port.
        server: String,
        /// What the network said.
        source: Source,
    },
    /// A Qdrant server wants a key, or another one.
    #[error("{address}: Qdrant server refuses the key: {source}")]
    KeyRefused {
        /// The collection's address.
        address: String,
        /// What the server said.
        source: Source,
    },
    /// A Qdrant server did not do what it was asked for.
    #[error("{address}: Qdrant server failed: {source}")]
    Server {
        /// The collection's address.
        address: String,
        /// What the server said.
        source: Source,
    },
    /// A collection is there that is no index.
    #[error("{address}: collection is not an index: {problem}")]
    NotAnIndex {
        /// The collection's address.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A pattern of paths could not be read.
    #[error("pattern {pattern:?} cannot be read: {source}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        source: Source,
    },
    /// A file became another one while it was read.
    #[error("{}: changed while it was read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// No ONNX Runtime library was found, and none could be fetched.
    #[error("ONNX Runtime not found: looked at {}; {fetch}", searched.join(", "))]
    RuntimeMissing {
        /// The places looked at, in order.
        searched: Vec<&'static str>,
        /// Why it could not be fetched either.
        fetch: String,
    },
    /// A library was found that cannot be used.
    #[error("{}: ONNX Runtime cannot be used: found {found}, expected {expected}", path.display())]
    RuntimeUnusable {
        /// The library.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What is needed.
        expected: String,
    },
    /// A name that no device has.
    #[error("device {found:?}: expected one of {}, the GPUs with their number as in cuda:1", known.join(", "))]
    UnknownDevice {
        /// What was given.
        found: String,
        /// The names that there are.
        known: &'static [&'static str],
    },
    /// A device was asked for that is not to be had.
    #[error("device {device} cannot be used: {problem}")]
    NoDevice {
        /// The device.
        device: String,
        /// Why not.
        problem: String,
        /// What to do.
        way_out: String,
    },
    /// ONNX Runtime was started in this process with other options already.
    #[error("ONNX Runtime could not be started: {source}")]
    RuntimeStart {
        /// What ONNX Runtime said.
        source: Source,
    },
}

/// What to do when a hub refuses.
fn hub_hint(status: u16, has_token: bool) -> &'static str {
    match (status, has_token) {
        (401 | 403, false) => {
            "check the name; if not everyone may have the model, give a token of yours in HF_TOKEN"
        }
        (401 | 403, true) => {
            "check the name, and whether the token in HF_TOKEN or in HF_HOME is valid and may read this model, whose \
             terms may have to be agreed to on its page"
        }
        (404, _) => "check owner, name and revision, or name a folder with --model",
        (429, true) => "wait some minutes and run it again; what was fetched is kept",
        (429, false) => {
            "wait some minutes and run it again, with a token in HF_TOKEN if you have one; what was fetched is kept"
        }
        (500.., _) => "try again later; what was fetched is kept",
        _ => "check HF_ENDPOINT",
    }
}

impl Error {
    /// What to do about it, as one sentence, where that can be known.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::ImageTooLarge { .. } => {
                "raise the limit with --max-pixels if the file is to be trusted"
            }
            Error::NotABundle {
                export: Some(command),
                ..
            } => {
                return Some(format!(
                    "these are weights of PyTorch without graphs; make a bundle of them with {command}"
                ));
            }
            Error::NotABundle { .. } => {
                "a bundle is a folder with onnx/vision_model.onnx and onnx/text_model.onnx, visual/model.onnx and \
                 textual/model.onnx, visual.onnx and text.onnx, or one model.onnx; see onnx/README.md"
            }
            Error::MissingFile { .. } => "fetch the missing file from where the bundle came from",
            Error::Quantized { .. } => {
                "start from the graphs as they were exported: --precision fp32 takes them where the bundle has them"
            }
            Error::Occupied { .. } => {
                "name another folder; --force writes into one that is there, over files of the same names alone"
            }
            Error::NoPrecision { .. } => "give one that is there with --precision",
            Error::Dim { .. } => {
                "give a width that rows have with --dim, or leave it out to keep all"
            }
            Error::RowsUnknown { .. } => {
                "say which with --rows cls, mean, pooled or patches, EncoderOptions::rows, or \"image\": {\"rows\"} in diptych.json"
            }
            Error::SeveralRows { .. } => {
                "choose another kind than patches with --rows, EncoderOptions::rows, or \"image\": {\"rows\"} in diptych.json"
            }
            Error::NoLanguage { .. } => {
                "give one that is there with --language, or leave --language and DIPTYCH_LANGUAGE out"
            }
            Error::NotAHubName { .. } => {
                "give a name such as someone/clip, or the path of a folder"
            }
            Error::NoCache => "name one with --cache, or set HF_HOME",
            Error::NotInCache { .. } => {
                "run it once without --offline, HF_HUB_OFFLINE and DIPTYCH_OFFLINE; diptych models lists what is there"
            }
            Error::HubUnreachable { .. } => {
                "check the network and HF_ENDPOINT, or name a folder with --model; what is in the cache needs no network"
            }
            Error::HubStatus {
                status, has_token, ..
            } => hub_hint(*status, *has_token),
            Error::HubBroken { way_out, .. } => way_out,
            Error::NoDevice { way_out, .. } => way_out,
            Error::NoTower { tower: "image", .. } => {
                "this bundle encodes texts only; choose another with --model"
            }
            Error::NoTower { .. } => {
                "this bundle encodes images only: embed and index them, and search by an image; for words and labels choose \
                 another with --model"
            }
            Error::TemplateWithoutPlace { .. } => "write a template such as \"a photo of a {}.\"",
            Error::NoIndex { .. } => {
                "make one with diptych index PATH, or name another with --index"
            }
            Error::Locked { .. } => "wait until it has ended; searching is possible meanwhile",
            Error::OtherModel { .. } => {
                "give the index's own model with --model, and its kind of rows with --rows, move the index over with \
                 diptych index --reindex, or make another with --index"
            }
            Error::Damaged { way_back, .. } => way_back,
            Error::Catalog { .. } => {
                "see that its folder can be read and that no other program holds the file, then try again"
            }
            Error::Unfinished { .. } => {
                "let diptych index run once where the folder can be written to, or copy the folder and name the copy with \
                 --index"
            }
            Error::Address { .. } => {
                "write qdrant://HOST:6334/COLLECTION, or qdrants:// if the server speaks TLS"
            }
            Error::NoQdrant { .. } => {
                "build it in with cargo install --path . --features qdrant, or name a folder with --index"
            }
            Error::Unreachable { .. } => {
                "start the server, or correct host and port: the one for gRPC, 6334 unless it was changed"
            }
            Error::KeyRefused { .. } => "give the server's key in the variable QDRANT_API_KEY",
            Error::NotAnIndex { .. } => "name another collection with --index",
            Error::Changed { .. } => "index it again when nothing writes to it any more",
            Error::RuntimeMissing { .. } => {
                "set ORT_DYLIB_PATH to a libonnxruntime of version 1.20 or later, or run `python3 -m pip install \
                 onnxruntime`, or run diptych once while online so that it can fetch the library"
            }
            Error::RuntimeUnusable { .. } => {
                "set ORT_DYLIB_PATH to a fitting libonnxruntime, or unset it so that one is found or fetched"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }

    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Read { path, source }
    }

    pub(crate) fn damaged(path: &Path, problem: String, way_back: &'static str) -> Error {
        Error::Damaged {
            path: path.to_owned(),
            problem,
            way_back,
        }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Write { path, source }
    }
}

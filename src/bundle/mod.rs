//! A bundle: the folder that holds a model. Recognises its layout by its files and reads its configs.
//!
//! Fills in the settings of preprocess and tokenize, which do not know that bundles exist. It loads no graph: what only
//! a graph can say (image side, context length, outputs) is reconciled by the tower.

mod choice;
mod dim;
mod family;
mod fingerprint;
mod json;
mod open_clip;
mod open_clip_text;
mod overrides;
mod sentence;
mod transformers;
mod transformers_image;
mod transformers_text;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

pub use choice::Precisions;
pub(crate) use choice::{choose, config_names, config_places, graph_name};

use crate::error::{Error, Result};
use crate::graph_file;
use crate::pooling::{ImageTokens, Rows};
use crate::preprocess::Preprocess;
use crate::tokenize::{Language, Splitting};

/// Where a template takes its label.
pub(crate) const PLACE: &str = "{}";

/// How the files of a bundle are laid out, which also says whose reference its numbers must equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// `onnx/vision_model.onnx` and `onnx/text_model.onnx` beside the configs of transformers.
    Transformers,
    /// `visual/model.onnx` and `textual/model.onnx`, as immich publishes them.
    Immich,
    /// `visual.onnx` and `text.onnx` or `textual.onnx` beside `open_clip_config.json` or `model_config.json`.
    OpenClip,
    /// One `model.onnx` that takes images and texts together, beside the configs of transformers.
    Combined,
    /// One `model.onnx` that takes images alone, beside the configs of transformers.
    ImageAlone,
}

impl Layout {
    /// As `diptych info` names it.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Transformers => "transformers, a graph for each tower",
            Layout::Immich => "immich",
            Layout::OpenClip => "open_clip, flat",
            Layout::Combined => "transformers, one graph for both towers",
            Layout::ImageAlone => "transformers, an image tower alone",
        }
    }
}

/// How logits become probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Over all labels together: they sum to 1.
    Softmax,
    /// Each label by itself.
    Sigmoid,
}

impl Activation {
    const KNOWN: [(&'static str, Activation); 2] = [
        ("softmax", Activation::Softmax),
        ("sigmoid", Activation::Sigmoid),
    ];

    /// "softmax" or "sigmoid".
    pub fn name(self) -> &'static str {
        match self {
            Activation::Softmax => "softmax",
            Activation::Sigmoid => "sigmoid",
        }
    }
}

/// What the files state about the step from scores to probabilities, and to an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Head {
    /// How logits become probabilities.
    pub activation: Activation,
    /// What a score is multiplied by, where a file states it.
    pub scale: Option<f32>,
    /// What is added to the product, where a file states it.
    pub bias: Option<f32>,
    /// The cosine, from −1 to 1, below which a label does not fit, where `diptych.json` states it: an image whose best
    /// label scores lower is none of the labels.
    ///
    /// The library leaves it to the caller; `diptych classify` keeps to it unless it is given a threshold.
    pub none_below: Option<f32>,
}

/// The image half of a bundle.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageFiles {
    /// The graph.
    pub graph: PathBuf,
    /// What the configs say is done to images.
    pub preprocess: Preprocess,
    /// What an image's row is made of, where `diptych.json` says so.
    pub rows: Option<Rows>,
    /// What the tokens of an image stand for, where the family is one whose are known.
    pub tokens: Option<ImageTokens>,
}

impl ImageFiles {
    /// The kind of row that is taken unless a caller asks for another, where files say so.
    pub fn own_rows(&self) -> Option<Rows> {
        self.rows.or(self.tokens.and_then(|tokens| tokens.usual))
    }
}

/// The text half of a bundle.
#[derive(Debug, Clone, PartialEq)]
pub struct TextFiles {
    /// The graph.
    pub graph: PathBuf,
    /// The `tokenizer.json`.
    pub tokenizer: PathBuf,
    /// What the configs say is done to texts.
    pub text: TextConfig,
}

/// What the configs state about texts; the rest is known once graph and tokenizer are open.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// How texts are cleaned.
    pub cleaning: crate::clean::Cleaning,
    /// How texts are cut into pieces.
    pub splitting: Splitting,
    /// The context length, where stated.
    pub context_length: Option<usize>,
    /// Whether padding always goes to the full context; otherwise the graph decides.
    pub is_padded_full: bool,
    /// Whether a graph without a mask is to tell padding by its id. Where one is found not to, texts are not padded;
    /// otherwise such graphs get the full context.
    pub hides_padding: bool,
    /// What padding is made of.
    pub pad: Pad,
    /// The id that padding is made of where a graph is found to see it, in place of `pad`.
    pub trained_pad: Option<u32>,
    /// The token replaced by id 0 (open_clip's `strip_sep_token`), where there is one.
    pub stripped_token: Option<String>,
    /// The size of the vocabulary that the text tower was made for, where stated.
    pub vocabulary_size: Option<usize>,
    /// What stands before each text, such as "search_query: "; most often nothing.
    pub prefix: String,
    /// What a text's row is made of where a graph gives a row for each token, where files say so.
    pub rows: Option<Rows>,
    /// Why rows of tokens cannot become a text's as files say. It holds where the graph leaves that to be done.
    pub refused_rows: Option<Refused>,
    /// Whether the tower's own pooled output (`pooler_output`) is a text's row where no file says how one is made of rows
    /// of tokens.
    pub is_pooled: bool,
    /// Whether a text's values are brought to mean 0 and variance 1 before they are cut and brought to unit length.
    pub has_layer_norm: bool,
    /// The language that texts are in, where the tokenizer marks it.
    pub language: Option<Language>,
}

/// A value of a config that is not done here, which matters only where the graph does not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The config.
    pub path: PathBuf,
    /// The key, dotted.
    pub key: String,
    /// The value.
    pub found: String,
    /// What is done here.
    pub expected: String,
}

impl Refused {
    /// As the error that it is where it matters.
    pub(crate) fn error(&self) -> Error {
        Error::Config {
            path: self.path.clone(),
            key: self.key.clone(),
            found: self.found.clone(),
            expected: self.expected.clone(),
        }
    }
}

/// What padding is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pad {
    /// A token, to be looked up in the vocabulary.
    Token(String),
    /// An id.
    Id(u32),
}

/// Which towers are meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Towers {
    /// Every tower that the bundle has.
    #[default]
    All,
    /// The image tower, which the bundle must have.
    Image,
    /// The text tower, which the bundle must have.
    Text,
}

/// Which of a bundle's files are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BundleOptions {
    /// The towers. Of one graph for both, both are meant.
    pub towers: Towers,
    /// The precisions of their graphs.
    pub precisions: Precisions,
    /// To how many values rows are cut before they are brought to unit length; `None` keeps all, or as many as a config
    /// says.
    pub dim: Option<usize>,
    /// What stands before each text, in place of what files say.
    pub prefix: Option<String>,
    /// The language that texts are in, such as "deu_Latn", for a tokenizer that marks it.
    pub language: Option<String>,
}

/// A model on disk.
///
/// # Example
///
/// ```
/// let bundle = diptych::Bundle::open("onnx/tiny")?;
/// assert_eq!(bundle.layout, diptych::Layout::Transformers);
/// assert!(bundle.image.is_some() && bundle.text.is_some());
/// # Ok::<(), diptych::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// The folder.
    pub path: PathBuf,
    /// How its files are laid out.
    pub layout: Layout,
    /// The image half, if it has one.
    pub image: Option<ImageFiles>,
    /// The text half, if it has one.
    pub text: Option<TextFiles>,
    /// The step from scores to probabilities.
    pub head: Head,
    /// The templates to put labels into, each with `{}` where the label goes, where `diptych.json` states them: at
    /// least one. The library leaves them to the caller; `diptych classify` takes them unless it is given others.
    pub templates: Option<Vec<String>>,
    /// What no file states, and was taken nonetheless.
    pub unstated: Vec<Unstated>,
    /// To how many values rows are cut before they are brought to unit length, where to fewer than all. Rows of
    /// different widths lie in different spaces.
    pub dim: Option<usize>,
    /// The bundle that the text half is of, where it is another one: see [`Bundle::pair`].
    pub text_bundle: Option<Box<Bundle>>,
    /// The language that [`BundleOptions::language`] asked for.
    pub asked_language: Option<String>,
    /// Every file that settings or weights are read from.
    pub files: Vec<PathBuf>,
}

/// Something that rows depend on and no file of the bundle states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unstated {
    /// What it is, such as "the language that texts are in".
    pub what: &'static str,
    /// What was taken in its place, such as "eng_Latn".
    pub taken: String,
    /// The option that states it, such as "--language".
    pub option: &'static str,
}

impl Unstated {
    /// The option that states the language of texts.
    pub(crate) const LANGUAGE: &str = "--language";
}

impl fmt::Display for Unstated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            taken,
            option,
        } = self;
        write!(
            f,
            "no file states {what}: {taken} is taken; {option} says otherwise"
        )
    }
}

impl Bundle {
    /// The bundle in folder `path`.
    ///
    /// # Cost
    ///
    /// Reads the configs, not the weights.
    ///
    /// # Errors
    ///
    /// [`Error::NotABundle`] if no layout fits, [`Error::MissingFile`] if one fits but a file that it needs is not
    /// there, [`Error::Config`] if a file states a value that is unknown.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &BundleOptions::default())
    }

    /// The bundle in folder `path`, with the towers and precisions that `options` ask for.
    ///
    /// # Cost
    ///
    /// That of [`Bundle::open`].
    ///
    /// # Errors
    ///
    /// Those of [`Bundle::open`]; [`Error::NoPrecision`] if a tower is there, but not in the precision asked for;
    /// [`Error::NoLanguage`] if a language is asked for, and the tokenizer marks none.
    pub fn open_with(path: impl AsRef<Path>, options: &BundleOptions) -> Result<Self> {
        let path = path.as_ref();
        fs::read_dir(path).map_err(Error::read(path))?;
        let graphs =
            find_graphs(path, options)?.ok_or_else(|| not_a_bundle(path, &entries_of(path)))?;
        let mut bundle = match graphs.layout {
            Layout::Transformers | Layout::Combined | Layout::ImageAlone => {
                transformers::open(path, &graphs)?
            }
            Layout::Immich | Layout::OpenClip => open_clip::open(path, &graphs)?,
        };
        overrides::apply(&mut bundle)?;
        dim::apply(&mut bundle, options.dim)?;
        if let (Some(prefix), Some(text)) = (&options.prefix, &mut bundle.text) {
            text.text.prefix.clone_from(prefix);
            let unstated = &mut bundle.unstated;
            unstated.retain(|unstated| unstated.option != transformers_text::PREFIX);
        }
        if let Some(language) = &options.language {
            bundle.state_language(language)?;
            bundle.asked_language = Some(language.clone());
        }
        bundle.files.sort();
        bundle.files.dedup();
        Ok(bundle)
    }

    /// The image half of one bundle and the text half of another, whose rows lie in one space: models that are
    /// published as two, such as `nomic-embed-vision-v1.5` and `nomic-embed-text-v1.5`.
    ///
    /// Nothing tells whether they do. The step from scores to probabilities is that of `image` unless `text` states a
    /// scale. The fingerprint is over both.
    ///
    /// # Errors
    ///
    /// [`Error::NoTower`] if a half is not there.
    pub fn pair(image: Bundle, text: Bundle) -> Result<Self> {
        let lacks = |bundle: &Bundle, tower| Error::NoTower {
            path: bundle.path.clone(),
            tower,
        };
        if image.image.is_none() {
            return Err(lacks(&image, "image"));
        }
        if text.text.is_none() {
            return Err(lacks(&text, "text"));
        }
        if let (Some(image), Some(of_text)) = (image.dim, text.dim)
            && image != of_text
        {
            return Err(Error::TowersDiffer {
                path: text.path,
                image,
                text: of_text,
            });
        }
        let of_text = text
            .unstated
            .iter()
            .filter(|unstated| !image.unstated.contains(unstated));
        Ok(Self {
            text: text.text.clone(),
            head: if text.head.scale.is_some() {
                text.head
            } else {
                image.head
            },
            templates: text.templates.clone().or(image.templates),
            unstated: image.unstated.iter().chain(of_text).cloned().collect(),
            dim: image.dim.or(text.dim),
            asked_language: text.asked_language.clone(),
            text_bundle: Some(Box::new(text)),
            ..image
        })
    }

    /// The folder whose files do not state it: that of the text half where a pair has it from there.
    pub(crate) fn folder_of(&self, unstated: &Unstated) -> &Path {
        match &self.text_bundle {
            Some(text) if text.unstated.contains(unstated) => &text.path,
            _ => &self.path,
        }
    }

    /// Takes `code` for the language that texts are in; whether there is such a one is seen when the tokenizer is opened.
    fn state_language(&mut self, code: &str) -> Result<()> {
        let Some(text) = &mut self.text else {
            return Ok(());
        };
        let Some(language) = &mut text.text.language else {
            return Err(Error::NoLanguage {
                path: self.path.clone(),
                asked: code.to_owned(),
                found: "a tokenizer that marks no languages".to_owned(),
            });
        };
        language.code = Some(code.to_owned());
        self.unstated
            .retain(|unstated| unstated.option != Unstated::LANGUAGE);
        Ok(())
    }

    /// The element type of most weights of the graph in file `path`, such as "float32" or "int8".
    ///
    /// # Errors
    ///
    /// [`Error::Graph`] if the file is no graph.
    pub fn precision(path: &Path) -> Result<&'static str> {
        Ok(graph_file::read(path)?.precision())
    }
}

/// The graphs of a layout.
#[derive(Debug)]
struct Graphs {
    layout: Layout,
    image: Option<PathBuf>,
    text: Option<PathBuf>,
}

/// The graphs in a folder that are meant.
fn find_graphs(path: &Path, options: &BundleOptions) -> Result<Option<Graphs>> {
    let files = list(path);
    let choice = choose(path, &files, options.towers, &options.precisions)?;
    let Some(choice) = choice else {
        return Ok(None);
    };
    let full = |name: Option<String>| name.map(|name| path.join(name));
    let graphs = Graphs {
        layout: choice.layout,
        image: full(choice.image),
        text: full(choice.text),
    };
    match (graphs.layout, graphs.image) {
        (Layout::Combined, Some(model)) => one_graph(&model).map(Some),
        (_, image) => Ok(Some(Graphs { image, ..graphs })),
    }
}

/// The names of the files in a folder, and in those of its folders that a layout knows.
pub(crate) fn list(path: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for folder in ["", "onnx/", "visual/", "textual/", "1_Pooling/"] {
        let entries = fs::read_dir(path.join(folder)).into_iter().flatten();
        let files = entries
            .flatten()
            .filter(|entry| entry.path().is_file())
            .filter_map(|entry| entry.file_name().into_string().ok());
        names.extend(files.map(|name| format!("{folder}{name}")));
    }
    names
}

/// A bundle of one graph has the towers that the graph has inputs for: pixels have four axes, ids two.
fn one_graph(model: &Path) -> Result<Graphs> {
    let axes = graph_file::read(model)?.input_axes;
    let with = |count| axes.contains(&count).then(|| model.to_owned());
    let (image, text) = (with(4), with(2));
    // What has neither is no tower; loading it will say so.
    let image = image.or_else(|| text.is_none().then(|| model.to_owned()));
    Ok(Graphs {
        layout: match text {
            Some(_) => Layout::Combined,
            None => Layout::ImageAlone,
        },
        image,
        text,
    })
}

/// The names of all that lies in a folder.
fn entries_of(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// That a folder or repository of these `names` is no bundle.
pub(crate) fn not_a_bundle(path: &Path, names: &[String]) -> Error {
    let found = match names.len() {
        0 => "an empty folder".to_owned(),
        1..=8 => names.join(", "),
        more => format!("{} and {} more", names[..8].join(", "), more - 8),
    };
    Error::NotABundle {
        path: path.to_owned(),
        found,
        export: export(path, names),
    }
}

/// The command that makes a bundle of a model of PyTorch, where there are weights of one among `names`.
fn export(path: &Path, names: &[String]) -> Option<String> {
    let is_weights = |name: &String| {
        let ending = Path::new(name)
            .extension()
            .and_then(|ending| ending.to_str());
        matches!(ending, Some("safetensors" | "bin" | "pt" | "pth"))
    };
    names.iter().find(|name| is_weights(name))?;
    let is_open_clip = names.iter().any(|name| name.starts_with("open_clip"));
    let (library, prefix) = match (is_open_clip, path.is_dir()) {
        (true, true) => ("open_clip", "local-dir:"),
        (true, false) => ("open_clip", "hf-hub:"),
        (false, _) => ("transformers", ""),
    };
    // A hub's name may have a revision, which neither library takes so.
    let name = path.display().to_string();
    let name = match path.is_dir() {
        true => name.as_str(),
        false => name.split('@').next().unwrap_or_default(),
    };
    Some(format!(
        "python onnx/export.py --library {library} {prefix}{name} -o DIR"
    ))
}

/// A graph with the data files that it keeps its weights in, all of which must be there.
fn with_weights(folder: &Path, graph: &Path) -> Result<Vec<PathBuf>> {
    let beside = graph.parent().unwrap_or(folder);
    let mut files = vec![graph.to_owned()];
    for name in graph_file::read(graph)?.external {
        let data = beside.join(&name);
        if !data.is_file() {
            let file = data
                .strip_prefix(folder)
                .unwrap_or(&data)
                .display()
                .to_string();
            return Err(Error::MissingFile {
                path: folder.to_owned(),
                file,
                states: "the weights of a graph",
            });
        }
        files.push(data);
    }
    Ok(files)
}

/// A file that must be there.
fn needed(folder: &Path, name: &str, states: &'static str) -> Result<PathBuf> {
    let path = folder.join(name);
    let missing = || Error::MissingFile {
        path: folder.to_owned(),
        file: name.to_owned(),
        states,
    };
    path.is_file().then_some(path).ok_or_else(missing)
}

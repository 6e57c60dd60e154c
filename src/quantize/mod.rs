//! A bundle whose graphs keep their weights in fewer bits: smaller files, and faster where ONNX Runtime multiplies whole
//! numbers.
//!
//! Rewrites the graphs' protobuf messages (`message.rs`, `graph.rs`) with new weights (`tensor.rs`, `pack.rs`) and nodes
//! (`rewrite.rs`), into a folder that has its name when it is whole (`folder.rs`). Runs no model: what it costs,
//! [`verify::cost`](crate::verify::cost) says.
//!
//! # Example
//!
//! ```no_run
//! use diptych::quantize::{Draft, Quantization};
//! use diptych::verify::{Record, cost};
//! use diptych::{Bundle, DualEncoder, EncoderOptions};
//!
//! let bundle = Bundle::open("clip-vit-base-patch32")?;
//! let before = Record::of(&DualEncoder::from_bundle(bundle.clone(), &EncoderOptions::default())?)?;
//! let draft = Draft::make(&bundle, Quantization::Int8, "clip-int8".as_ref(), false)?;
//! let after = Record::of(&DualEncoder::from_bundle(draft.bundle()?, &EncoderOptions::default())?)?;
//! assert!(cost(&before, &after)?.lowest() > 0.95);
//! draft.finish()?;
//! # Ok::<(), diptych::Error>(())
//! ```

mod folder;
mod graph;
mod message;
mod pack;
mod rewrite;
mod tensor;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use crate::bundle::{Bundle, BundleOptions, graph_name};
use crate::error::{Error, Result};
use crate::graph_file::no_graph;
use folder::NewFolder;
use graph::{FEWEST, Graph};
use rewrite::Failure;
use tensor::{Element, Files, Store};

/// The oldest standard operators that can be used: `Round` came with 11.
const OLDEST_OPSET: u64 = 11;

/// How weights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantization {
    /// 16-bit floats, cast back to 32 bits once, when the graph is loaded: half the file, the same speed, the same rows
    /// to within 1e-5 of cosine 1. A weight with values beyond their range (65,504), or whose values are so small that they
    /// would lose their digits, stays as it is.
    Fp16,
    /// Whole numbers of 8 bits, a scale for each 32 of a column: ONNX Runtime's `MatMulNBits`, which takes the rows that
    /// they are multiplied by to whole numbers too, 32 values at a time. The nearest of a quarter's size. ONNX Runtime
    /// multiplies 8 bits so from 1.22 on.
    Q8Block,
    /// Whole numbers of 8 bits, a scale for each column, multiplied as whole numbers by rows with a scale of their own
    /// (`MatMulInteger`). The fastest, above all on processors that have VNNI or dot products.
    Int8,
}

impl Quantization {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Int8, Self::Q8Block, Self::Fp16];

    /// As the program's options name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp16 => "fp16",
            Self::Q8Block => "q8-block",
            Self::Int8 => "int8",
        }
    }

    /// As names of graphs end, and as [`Precisions`](crate::Precisions) names it.
    pub fn precision(self) -> &'static str {
        match self {
            Self::Q8Block => "q8_block",
            other => other.name(),
        }
    }
}

/// A graph, before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphSizes {
    /// Its new name, relative to the bundle.
    pub name: String,
    /// Bytes of the old graph with its data files.
    pub before: u64,
    /// Bytes of the new one.
    pub after: u64,
    /// What its weights became.
    pub weights: Weights,
}

/// How many of a graph's values became what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weights {
    /// Whole numbers of 8 bits.
    pub in_8_bits: u64,
    /// 16-bit floats.
    pub in_16_bits: u64,
    /// What they were: small or odd ones, and numbers that are none of the model's weights.
    pub as_before: u64,
}

impl Weights {
    /// All of several graphs.
    pub fn sum(graphs: &[GraphSizes]) -> Self {
        let all = graphs.iter().map(|graph| graph.weights);
        all.fold(Self::default(), |sum, weights| Self {
            in_8_bits: sum.in_8_bits + weights.in_8_bits,
            in_16_bits: sum.in_16_bits + weights.in_16_bits,
            as_before: sum.as_before + weights.as_before,
        })
    }

    /// The parts of all values that became 8 bits, 16 bits and nothing else.
    pub fn shares(&self) -> [f64; 3] {
        let counts = [self.in_8_bits, self.in_16_bits, self.as_before];
        let all = counts.iter().sum::<u64>().max(1) as f64;
        counts.map(|count| count as f64 / all)
    }
}

/// A bundle that is whole, but does not have its name yet. What is dropped unfinished leaves nothing.
#[derive(Debug)]
pub struct Draft {
    folder: NewFolder,
    graphs: Vec<GraphSizes>,
    /// The bundle that it was made of, for what was asked for when it was opened.
    old: Bundle,
}

impl Draft {
    /// `bundle` with its graphs quantised, to become `folder`: configs, tokenizer and licences are copied; what lay in data
    /// files lies in them again.
    ///
    /// Graphs are named by their precision where the layout knows such names, otherwise as without one. Matrices that rows
    /// are multiplied by and tables that rows are looked up in are quantised; everything else (convolutions, embeddings
    /// that are added) becomes f16, weights of fewer than 256 values stay. Layer norms and softmax compute in f32, and no
    /// row depends on others of its batch.
    ///
    /// # Cost
    ///
    /// Reads each weight once; memory for the largest one, and for the new weights where they lie within a graph.
    ///
    /// # Errors
    ///
    /// [`Error::Occupied`] if there is something at `folder` but an empty folder, unless `force`, or if it is the bundle's
    /// own; [`Error::Quantized`] if most of a graph's weights are not of f32; [`Error::Graph`] if it is damaged, has no
    /// weights or is of operators before version 11; [`Error::Read`], [`Error::Write`].
    pub fn make(bundle: &Bundle, to: Quantization, folder: &Path, force: bool) -> Result<Self> {
        require_other(bundle, folder)?;
        let mut draft = Self {
            folder: NewFolder::create(folder, force)?,
            graphs: Vec::new(),
            old: bundle.clone(),
        };
        let mut weights = BTreeSet::new();
        for graph in graphs(bundle) {
            weights.extend(draft.quantize(bundle, graph, to)?);
        }
        let settings = bundle.files.iter().filter(|file| !weights.contains(*file));
        for file in settings.cloned().chain(licences(&bundle.path)) {
            draft
                .folder
                .copy(&file, &name_within(&bundle.path, &file)?)?;
        }
        Ok(draft)
    }

    /// The new bundle, to be opened and looked at, with the language, the prefix and the width of rows that the old one
    /// was opened with. It lies in another place as long as it is not finished.
    ///
    /// # Errors
    ///
    /// Those of [`Bundle::open_with`].
    pub fn bundle(&self) -> Result<Bundle> {
        let text = self.old.text.as_ref();
        let options = BundleOptions {
            language: self.old.asked_language.clone(),
            prefix: text.map(|files| files.text.prefix.clone()),
            ..Default::default()
        };
        let mut bundle = Bundle::open_with(self.folder.partial_path(), &options)?;
        bundle.dim = self.old.dim;
        bundle.unstated.clone_from(&self.old.unstated);
        Ok(bundle)
    }

    /// An error of the new bundle, with the names that its files will have: those that they have now are gone with it.
    pub fn named(&self, error: Error) -> Error {
        let name = |path: PathBuf| self.folder.final_path(&path).unwrap_or(path);
        match error {
            Error::Graph {
                path,
                action,
                source,
            } => Error::Graph {
                path: name(path),
                action,
                source: self.folder.renamed(&source.to_string()).into(),
            },
            Error::GraphInterface {
                path,
                found,
                expected,
            } => Error::GraphInterface {
                path: name(path),
                found,
                expected,
            },
            Error::Read { path, source } => Error::Read {
                path: name(path),
                source,
            },
            other => other,
        }
    }

    /// Its graphs.
    pub fn graphs(&self) -> &[GraphSizes] {
        &self.graphs
    }

    /// Gives the folder its name, or its files theirs where it was there, and says where it is.
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub fn finish(self) -> Result<PathBuf> {
        self.folder.finish()
    }

    /// Writes one graph, and gives the files that it took the place of.
    fn quantize(
        &mut self,
        bundle: &Bundle,
        graph: &Path,
        to: Quantization,
    ) -> Result<Vec<PathBuf>> {
        let old_name = name_within(&bundle.path, graph)?;
        let name = graph_name(bundle.layout, &old_name, to.precision());
        let files = Files::open(graph)?;
        let mut parsed = read(graph, &files)?;
        let data = format!("{name}_data");
        let mut store = self.store(&files, &data)?;
        let rewritten = rewrite::rewrite(&mut parsed, &files, to, &mut store);
        let stored = rewritten.and_then(|weights| {
            store.finish()?;
            Ok(weights)
        });
        let weights = stored.map_err(|failure| match failure {
            Failure::Damaged => no_graph(graph),
            Failure::Write(source) => self.folder.unwritten(&data, source),
        })?;
        self.folder.write(&name, |file| {
            let mut out = BufWriter::new(file);
            parsed.write(&mut out)?;
            io::Write::flush(&mut out)
        })?;

        let old = with_data(graph, &files);
        let new = [&name, &data].map(|name| self.folder.partial_path().join(name));
        self.graphs.push(GraphSizes {
            name,
            before: old.iter().map(|file| size(file)).sum(),
            after: new.iter().map(|file| size(file)).sum(),
            weights,
        });
        Ok(old)
    }

    /// Where new weights go: where the old ones are.
    fn store(&self, files: &Files, data: &str) -> Result<Store> {
        if !files.are_several() {
            return Ok(Store::Inside);
        }
        let file = self.folder.create_file(data)?;
        let name = Path::new(data).file_name().unwrap_or_default();
        Ok(Store::Beside {
            name: name.to_string_lossy().into_owned(),
            file: BufWriter::new(file),
            end: 0,
        })
    }
}

/// Whether [`Draft::make`] could begin, without doing any of its work: for a caller that has work to do before.
///
/// # Cost
///
/// Reads what graphs say of themselves, no weights.
///
/// # Errors
///
/// Those of [`Draft::make`], but for files that cannot be written.
pub fn check(bundle: &Bundle, folder: &Path, force: bool) -> Result<()> {
    require_other(bundle, folder)?;
    NewFolder::check(folder, force)?;
    for graph in graphs(bundle) {
        read(graph, &Files::open(graph)?)?;
    }
    Ok(())
}

/// That a new bundle does not take the place of the old one.
fn require_other(bundle: &Bundle, folder: &Path) -> Result<()> {
    match folder::is_same(&bundle.path, folder) {
        false => Ok(()),
        true => Err(Error::Occupied {
            path: folder.to_owned(),
            problem: "that is the model's own folder",
        }),
    }
}

/// The graphs of a bundle, each once.
fn graphs(bundle: &Bundle) -> BTreeSet<&PathBuf> {
    let image = bundle.image.iter().map(|files| &files.graph);
    let text = bundle.text.iter().map(|files| &files.graph);
    image.chain(text).collect()
}

/// A graph that can be quantised.
fn read<'a>(path: &Path, files: &'a Files) -> Result<Graph<'a>> {
    let graph = Graph::read(files).ok_or_else(|| no_graph(path))?;
    require(path, &graph)?;
    match graph
        .weights
        .iter()
        .find_map(|weight| weight.cut_off(files))
    {
        Some(name) => Err(Error::Graph {
            path: path.with_file_name(name),
            action: "loaded",
            source: "the graph has weights in it beyond its end: it is cut off".into(),
        }),
        None => Ok(graph),
    }
}

/// That a graph has weights of f32, most of them, and operators that are new enough. Some others may be constants.
fn require(path: &Path, graph: &Graph<'_>) -> Result<()> {
    let many = || {
        graph
            .weights
            .iter()
            .filter(|weight| weight.count() >= FEWEST)
    };
    let small = || many().filter(|weight| weight.is_small());
    let floats = many().filter(|weight| weight.is(Element::F32));
    let values = |sum: usize, weight: &tensor::Tensor<'_>| sum.saturating_add(weight.count());
    if let Some(largest) = small().max_by_key(|weight| weight.count())
        && small().fold(0, values) >= floats.fold(0, values)
    {
        return Err(Error::Quantized {
            path: path.to_owned(),
            found: largest.element_name(),
        });
    }
    let refuse = |problem: String| Error::Graph {
        path: path.to_owned(),
        action: "quantised",
        source: problem.into(),
    };
    let is_weight =
        |weight: &tensor::Tensor<'_>| weight.is(Element::F32) && weight.count() >= FEWEST;
    if !graph.weights.iter().any(is_weight) {
        return Err(refuse("it has no weights of float32".to_owned()));
    }
    match graph.opset() {
        OLDEST_OPSET.. => Ok(()),
        older => Err(refuse(format!(
            "its operators are of version {older}, expected {OLDEST_OPSET} or later; export it anew"
        ))),
    }
}

/// A graph's file with its data files.
fn with_data(graph: &Path, files: &Files) -> Vec<PathBuf> {
    let beside = files.names().map(|name| graph.with_file_name(name));
    std::iter::once(graph.to_owned()).chain(beside).collect()
}

/// What says how a model may be used.
fn licences(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_licence = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.to_ascii_uppercase();
        let starts = ["LICENSE", "LICENCE", "NOTICE"];
        path.is_file() && starts.iter().any(|start| name.starts_with(start))
    };
    entries
        .map(|entry| entry.path())
        .filter(is_licence)
        .collect()
}

/// The path of a file within the folder that it lies in, with `/` between folders.
fn name_within(folder: &Path, file: &Path) -> Result<String> {
    let within = file.strip_prefix(folder).ok();
    let name = within.filter(|name| folder::is_within(name));
    let name = name
        .and_then(Path::to_str)
        .map(|name| name.replace('\\', "/"));
    name.ok_or_else(|| Error::Read {
        path: file.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidInput, "it lies outside of its bundle"),
    })
}

fn size(path: &Path) -> u64 {
    File::open(path)
        .and_then(|file| file.metadata())
        .map_or(0, |metadata| metadata.len())
}

//! The text tower: texts to unit rows.

use std::sync::Arc;

use ndarray::Array2;

use super::{Batch, Role, RowGraph, row_output};
use crate::bundle::{Pad, TextFiles};
use crate::device::Placement;
use crate::embedding::Embeddings;
use crate::error::{Error, Result};
use crate::session::Graph;
use crate::tokenize::{Padding, TextIds, TextSettings, Tokenizer, Tokens};

/// Outputs that hold a text's row, most telling first.
const OUTPUTS: [&str; 7] = [
    "text_embeds",
    "text_embeddings",
    "text_features",
    "sentence_embedding",
    "embedding",
    "pooler_output",
    "output",
];

/// One graph that gives a row for a text, and the tokenizer that prepares the text.
#[derive(Debug)]
pub struct TextTower {
    graph: RowGraph,
    tokenizer: Tokenizer,
    width: usize,
    /// The only batch size that the graph takes, if it is fixed.
    fixed_batch: Option<usize>,
}

/// The rows of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct TextRows {
    /// A row for each text, in order.
    pub rows: Embeddings,
    /// The positions of texts that were longer than the context and were cut before their end token.
    pub cut: Vec<usize>,
}

impl TextTower {
    /// `side` is that of the bundle's images, for a graph that takes both.
    pub(crate) fn new(graph: Arc<Graph>, files: &TextFiles, side: (usize, usize)) -> Result<Self> {
        let graph = RowGraph::new(graph, Role::Ids, |graph| row_output(graph, &OUTPUTS), side)?;
        let port = graph
            .port(Role::Ids)
            .cloned()
            .unwrap_or_else(|| unreachable!("RowGraph::new needs it"));
        let tokenizer = tokenizer(&graph, port.shape[1], files)?;
        let tower = Self {
            width: graph.row_shape()?.1,
            graph,
            tokenizer,
            fixed_batch: port.shape[0],
        };
        if tower.graph.graph.is_unproved() {
            tower.encode(&[""], 1)?;
        }
        Ok(tower)
    }

    /// The width of each row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Where the graph runs, as its first run has shown.
    pub fn placement(&self) -> Placement {
        self.graph.graph.placement()
    }

    /// What turns texts into ids.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Whether the graph takes `count` texts at once.
    pub(crate) fn takes(&self, count: usize) -> bool {
        self.fixed_batch.is_none_or(|batch| batch == count)
    }

    /// The name of the output that gives rows.
    pub(crate) fn output(&self) -> &str {
        &self.graph.output.name
    }

    /// Rows for `texts`, in order, in batches of at most `batch`.
    ///
    /// Texts of like length run together, so that short ones are not padded to a long one; a row does not depend on
    /// which texts are beside it.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if a text cannot be tokenised, [`Error::Graph`] if ONNX Runtime fails, [`Error::NoRow`]
    /// if the graph gives something that is no row.
    pub fn encode<S: AsRef<str>>(&self, texts: &[S], batch: usize) -> Result<TextRows> {
        let texts: Vec<TextIds> = texts
            .iter()
            .map(|text| self.tokenizer.text_ids(text.as_ref()))
            .collect::<Result<_>>()?;
        let cut = (0..texts.len())
            .filter(|&index| texts[index].is_cut)
            .collect();
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&index| texts[index].ids.len());

        let mut parts = Vec::new();
        for positions in order.chunks(self.fixed_batch.unwrap_or(batch.max(1))) {
            parts.push(self.run(positions.iter().map(|&index| &texts[index]).collect())?);
        }
        Ok(TextRows {
            rows: Embeddings::concat(self.width, &parts)?.sorted_back(&order),
            cut,
        })
    }

    /// The row of one text whose ids and padding are given, whatever this tower's settings are.
    pub(crate) fn encode_tokens(&self, tokens: &Tokens) -> Result<Embeddings> {
        let count = self.fixed_batch.unwrap_or(1);
        let repeated = |values: &Array2<i64>| {
            let mut rows = Array2::zeros((count, values.ncols()));
            rows.assign(values);
            rows
        };
        let tokens = Tokens {
            ids: repeated(&tokens.ids),
            mask: repeated(&tokens.mask),
            cut: 0,
        };
        let batch = Batch {
            pixels: None,
            tokens: Some(&tokens),
        };
        Ok(self.graph.run(batch, count)?.first(1))
    }

    fn run(&self, mut texts: Vec<&TextIds>) -> Result<Embeddings> {
        let count = texts.len();
        // A graph of a fixed batch gets its last batch filled up with a text that is there already.
        texts.resize(self.fixed_batch.unwrap_or(count), texts[0]);
        let tokens = self.tokenizer.pad(&texts);
        let rows = self.graph.run(
            Batch {
                pixels: None,
                tokens: Some(&tokens),
            },
            texts.len(),
        )?;
        Ok(rows.first(count))
    }
}

/// The tokenizer with all that configs and graph say together.
fn tokenizer(
    graph: &RowGraph,
    fixed_length: Option<usize>,
    files: &TextFiles,
) -> Result<Tokenizer> {
    let config = &files.text;
    let context_length = fixed_length.or(config.context_length).ok_or_else(|| {
        Error::MissingFile {
            path: files
                .tokenizer
                .parent()
                .unwrap_or(&files.tokenizer)
                .to_owned(),
            file: "config.json or tokenizer_config.json".to_owned(),
            states: "how many tokens a text may have (max_position_embeddings or model_max_length)",
        }
    })?;
    // A graph that takes no mask sees the padding as it sees words, so it must get what it was trained with.
    let is_full =
        config.is_padded_full || fixed_length.is_some() || graph.port(Role::Mask).is_none();
    let mut settings = TextSettings {
        cleaning: config.cleaning,
        splitting: config.splitting,
        context_length,
        padding: if is_full {
            Padding::Full
        } else {
            Padding::Longest
        },
        pad_id: 0,
        stripped_id: None,
        language: config.language.clone(),
    };
    // Tokens become ids through the vocabulary, so the file is opened before the settings are whole.
    let tokenizer = Tokenizer::open(&files.tokenizer, settings.clone())?;
    let id = |token: &String| {
        tokenizer.id(token).ok_or_else(|| Error::Config {
            path: files.tokenizer.clone(),
            key: "vocabulary".to_owned(),
            found: format!("without {token:?}"),
            expected: "the special tokens that the bundle's configs name".to_owned(),
        })
    };
    settings.pad_id = match &config.pad {
        Pad::Token(token) => id(token)?,
        Pad::Id(id) => *id,
    };
    settings.stripped_id = config.stripped_token.as_ref().map(id).transpose()?;
    fits(&tokenizer, files)?;
    Ok(tokenizer.with_settings(settings))
}

/// Ids past the end of the graph's table would read no row, or a wrong one.
fn fits(tokenizer: &Tokenizer, files: &TextFiles) -> Result<()> {
    let size = tokenizer.vocabulary_size();
    match files.text.vocabulary_size {
        Some(expected) if size > expected => Err(Error::Config {
            path: files.tokenizer.clone(),
            key: "vocabulary".to_owned(),
            found: format!("of {size} ids"),
            expected: format!(
                "at most {expected}, as the bundle's config says: this tokenizer is of another model"
            ),
        }),
        _ => Ok(()),
    }
}

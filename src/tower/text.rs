//! The text tower: texts to unit rows.

use std::sync::{Arc, OnceLock};

use ndarray::{Array2, Axis, Zip, concatenate, stack};

use super::{
    Batch, Output, Pooling, Role, RowGraph, Rows, interface, named_rows, row_output, token_output,
};
use crate::bundle::{Pad, TextConfig, TextFiles, Unstated};
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
    POOLER,
    "output",
];
/// The output of transformers' own pooling: of a BERT the class token's row through a layer.
const POOLER: &str = "pooler_output";
/// How many of these can be nothing but a text's row.
const WHOLE: usize = 5;

/// One graph that gives a row for a text, and the tokenizer that prepares the text.
#[derive(Debug)]
pub struct TextTower {
    graph: RowGraph,
    tokenizer: Tokenizer,
    width: usize,
    /// Of a graph that is to make its own mask, whether it was found to, once that was tried.
    own_mask: Option<OnceLock<bool>>,
    /// The only batch size that the graph takes, if it is fixed.
    fixed_batch: Option<usize>,
    /// What the graph was found to depend on and no file states.
    unstated: Option<Unstated>,
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
        let config = &files.text;
        let mut graph = RowGraph::new(graph, Role::Ids, |graph| output(graph, config), side)?;
        graph.has_layer_norm = files.text.has_layer_norm;
        let port = graph
            .port(Role::Ids)
            .cloned()
            .unwrap_or_else(|| unreachable!("RowGraph::new needs it"));
        let tokenizer = tokenizer(&graph, port.shape[1], files)?;
        let is_padded = tokenizer.settings().padding == Padding::Longest;
        let has_own_mask = is_padded && graph.port(Role::Mask).is_none();
        let mut tower = Self {
            width: graph.row_shape()?.1,
            graph,
            tokenizer,
            own_mask: has_own_mask.then(OnceLock::new),
            fixed_batch: port.shape[0],
            unstated: None,
        };
        tower.take_trained_pad(&files.text)?;
        if tower.graph.graph.is_unproved() {
            tower.encode(&[""], 1)?;
        }
        Ok(tower)
    }

    /// This tower with its rows cut to `dim` values.
    pub(crate) fn cut(mut self, dim: usize) -> Result<Self> {
        self.width = self.graph.cut(dim, self.width)?;
        Ok(self)
    }

    /// Whether texts of different lengths run side by side: a graph that takes no mask, but is to make one of its own, is
    /// tried, and texts of one length alone run together where padding changes a row.
    ///
    /// # Cost
    ///
    /// Two runs of one text, once, for graphs without a mask.
    ///
    /// # Errors
    ///
    /// Those of [`TextTower::encode`].
    pub fn hides_padding(&self) -> Result<bool> {
        let Some(found) = &self.own_mask else {
            return Ok(true);
        };
        if let Some(&found) = found.get() {
            return Ok(found);
        }
        let is_same = self.is_same_padded()?;
        Ok(*found.get_or_init(|| is_same))
    }

    /// Whether a text's row is the same with padding and without.
    fn is_same_padded(&self) -> Result<bool> {
        /// How much rounding may do. A graph of 8-bit integers is off by more, and is then given no padding.
        const EQUAL: f32 = 1.0 - 1e-6;
        let tokens = self.tokenizer.encode(&["a photo of a cat"])?;
        let mut padded = tokens.clone();
        let pad = i64::from(self.tokenizer.settings().pad_id);
        let padding = |value| Array2::from_elem((1, tokens.ids.ncols()), value);
        padded.ids = concatenate![Axis(1), tokens.ids, padding(pad)];
        padded.mask = concatenate![Axis(1), tokens.mask, padding(0)];
        let scores = self
            .encode_tokens(&tokens)?
            .scores(&self.encode_tokens(&padded)?)?;
        Ok(scores[[0, 0]] >= EQUAL)
    }

    /// Pads with what the family was trained with, where the graph sees padding and its tokenizer names another id.
    fn take_trained_pad(&mut self, config: &TextConfig) -> Result<()> {
        let named = self.tokenizer.settings().pad_id;
        let is_full = self.tokenizer.settings().padding == Padding::Full;
        let may_be_seen = is_full && self.graph.port(Role::Mask).is_none();
        let Some(trained) = config.trained_pad.filter(|&id| id != named && may_be_seen) else {
            return Ok(());
        };
        if self.is_same_padded_with([named, trained])? {
            return Ok(());
        }
        let settings = TextSettings {
            pad_id: trained,
            ..self.tokenizer.settings().clone()
        };
        self.tokenizer = self.tokenizer.clone().with_settings(settings);
        self.unstated = Some(Unstated::seen_padding(trained, &config.pad));
        Ok(())
    }

    /// Whether a short text's row is the same whichever of two ids pads it. Both run together where the graph lets them,
    /// so that what a graph of 8-bit integers makes of a whole run is the same for both.
    fn is_same_padded_with(&self, pads: [u32; 2]) -> Result<bool> {
        /// How much rounding may do.
        const EQUAL: f32 = 1.0 - 1e-5;
        // The shortest there is, so that a context of any length has room for padding.
        let text = self.tokenizer.encode(&[""])?;
        // CLIP's row is that of its largest id, the end token. Where no end token is added, padding stands for it: that
        // it is read there says nothing of whether words see it.
        let words = text
            .ids
            .iter()
            .zip(&text.mask)
            .filter(|(_, mask)| **mask != 0);
        if words.map(|(&id, _)| id).max() < Some(i64::from(pads[0])) {
            return Ok(true);
        }
        let padded = |pad: u32| {
            let mut tokens = text.clone();
            Zip::from(&mut tokens.ids)
                .and(&text.mask)
                .for_each(|id, &mask| *id = if mask == 0 { i64::from(pad) } else { *id });
            tokens
        };
        let [first, second] = pads.map(padded);
        let rows = if self.fixed_batch == Some(1) {
            let parts = [self.encode_tokens(&first)?, self.encode_tokens(&second)?];
            Embeddings::concat(self.width, &parts)?
        } else {
            self.encode_tokens(&Tokens {
                ids: concatenate![Axis(0), first.ids, second.ids],
                mask: concatenate![Axis(0), first.mask, second.mask],
                cut: 0,
            })?
        };
        Ok(rows.scores(&rows)?[[0, 1]] >= EQUAL)
    }

    /// What no file states of texts, and the graph was asked for.
    pub(crate) fn unstated(&self) -> Option<&Unstated> {
        self.unstated.as_ref()
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

    /// The graph.
    pub(crate) fn graph(&self) -> &Arc<Graph> {
        &self.graph.graph
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

        let length = |&index: &usize| texts[index].ids.len();
        let lengths: Vec<usize> = order.iter().map(length).collect();
        // Tried only where it matters: a single query waits for nothing.
        let is_padded = lengths.first() == lengths.last() || self.hides_padding()?;

        let mut parts = Vec::new();
        let mut done = 0;
        while done < order.len() {
            let next = done + self.at_once(&lengths[done..], batch, is_padded);
            let positions = order[done..next].iter();
            parts.push(self.run(positions.map(|&index| &texts[index]).collect())?);
            done = next;
        }
        Ok(TextRows {
            rows: Embeddings::concat(self.width, &parts)?.sorted_back(&order),
            cut,
        })
    }

    /// How many of the next texts run together, whose `lengths` never fall; without padding, only those of one length.
    fn at_once(&self, lengths: &[usize], batch: usize, is_padded: bool) -> usize {
        /// The most ids of one run, padding included; a single text may have more. What attention takes of memory grows
        /// with it.
        const MOST: usize = 1 << 14;
        let settings = self.tokenizer.settings();
        let fits = |&(position, &length): &(usize, &usize)| {
            let padded = match settings.padding {
                Padding::Full => settings.context_length,
                Padding::Longest => length,
            };
            let is_alike = is_padded || length == lengths[0];
            position == 0 || is_alike && (position + 1) * padded <= MOST
        };
        let most = self.fixed_batch.unwrap_or(batch.max(1));
        let next = lengths.iter().take(most).enumerate();
        next.take_while(fits).count()
    }

    /// The rows of texts whose ids and padding are given, whatever this tower's settings are: no more than the graph takes
    /// at once.
    pub(crate) fn encode_tokens(&self, tokens: &Tokens) -> Result<Embeddings> {
        let texts = tokens.ids.nrows();
        let count = self.fixed_batch.unwrap_or(texts);
        let filled = |values: &Array2<i64>| {
            let row = |row: usize| values.row(row.min(texts - 1));
            let rows: Vec<_> = (0..count).map(row).collect();
            stack(Axis(0), &rows).unwrap_or_else(|_| unreachable!("rows of one array"))
        };
        let tokens = Tokens {
            ids: filled(&tokens.ids),
            mask: filled(&tokens.mask),
            cut: 0,
        };
        let batch = Batch {
            pixels: None,
            tokens: Some(&tokens),
        };
        Ok(self.graph.run(batch, count)?.first(texts))
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

/// The output that rows come from: one that holds a text's row, otherwise what files say of one that holds every token's.
///
/// A pooled output of BERT's own comes last, since few were trained to be a text's row: where files say how rows of
/// tokens are pooled, they are, and where none does, it is taken of families alone whose row it is.
fn output(graph: &Graph, config: &TextConfig) -> Result<Output> {
    const EXPECTED: &str = "1_Pooling/config.json, or \"text\": {\"rows\": \"mean\"} (or \"cls\", or \"pooled\" for a \
                            pooler_output) in diptych.json, which says how rows of tokens become a text's";
    let asked = || interface(graph, "outputs", graph.outputs(), EXPECTED);
    if named_rows(graph, &OUTPUTS[..WHOLE]).is_some() {
        return row_output(graph, &OUTPUTS);
    }
    let tokens = token_output(graph);
    if let (Some(refused), true) = (&config.refused_rows, leaves_pooling(graph)) {
        return Err(refused.error());
    }
    match (config.rows, tokens) {
        (Some(rows @ (Rows::Cls | Rows::Mean)), Some(port)) => Ok(Output {
            name: port.name.clone(),
            pooling: Some(Pooling {
                rows,
                leading: 0,
                parts: None,
            }),
        }),
        (_, None) => row_output(graph, &OUTPUTS),
        (rows, Some(_)) => {
            let output = row_output(graph, &OUTPUTS).map_err(|_| asked())?;
            let is_row = rows.is_some() || config.is_pooled || output.name != POOLER;
            is_row.then_some(output).ok_or_else(asked)
        }
    }
}

/// Whether what files say of rows of tokens is yet to be done: a graph gives such rows, or no others but BERT's pooled
/// ones.
fn leaves_pooling(graph: &Graph) -> bool {
    let is_pooler = |output: Output| output.name == POOLER;
    token_output(graph).is_some() || row_output(graph, &OUTPUTS).is_ok_and(is_pooler)
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
    // A graph that takes no mask sees the padding as it sees words, so it must get what it was trained with, unless it
    // makes its own mask.
    let sees_padding = graph.port(Role::Mask).is_none() && !config.hides_padding;
    let is_full = config.is_padded_full || fixed_length.is_some() || sees_padding;
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
    Ok(tokenizer
        .with_settings(settings)
        .with_prefix(&config.prefix))
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

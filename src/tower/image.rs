//! The image tower: RGB images to unit rows.

use std::sync::Arc;

use image::RgbImage;
use ndarray::Ix2;

use super::{
    Batch, ImageTokens, Output, Pooling, Role, RowGraph, Rows, TextTower, fixed_sides, interface,
    named_rows, row_output, token_output,
};
use crate::bundle::{Activation, ImageFiles};
use crate::device::Placement;
use crate::embedding::Embeddings;
use crate::error::{Error, Result};
use crate::preprocess::Preprocess;
use crate::session::{Graph, Port};

/// Outputs that hold an image's row in the space of texts, most telling first.
const PROJECTED: [&str; 4] = [
    "image_embeds",
    "image_embeddings",
    "image_features",
    "embedding",
];

/// Outputs that hold an image's row otherwise.
const POOLED: [&str; 2] = ["pooler_output", "output"];

/// One graph that gives a row for an image, or one for each of its patches, and what prepares the image.
#[derive(Debug)]
pub struct ImageTower {
    graph: RowGraph,
    preprocess: Preprocess,
    rows_per_image: usize,
    /// How many patches lie below each other, and side by side, where configs state their size.
    grid: Option<(usize, usize)>,
    width: usize,
    /// The only batch size that the graph takes, if it is fixed.
    fixed_batch: Option<usize>,
}

impl ImageTower {
    /// The tower of `graph`, with `rows` in place of the kind that the bundle takes. `is_alone` where there never was a
    /// text tower to share a space with.
    pub(crate) fn new(
        graph: Arc<Graph>,
        files: &ImageFiles,
        rows: Option<Rows>,
        is_alone: bool,
    ) -> Result<Self> {
        let preprocess = files.preprocess.clone();
        let stated = fixed_sides(&preprocess);
        let side = stated.unwrap_or((1, 1));
        let kinds = Kinds {
            asked: rows.or(files.rows),
            tokens: files.tokens,
            side,
            is_alone,
        };
        let graph = RowGraph::new(graph, Role::Pixels, |graph| kinds.output(graph), side)?;
        let port = graph
            .port(Role::Pixels)
            .cloned()
            .unwrap_or_else(|| unreachable!("RowGraph::new needs it"));
        check_side(&graph, &port, stated)?;
        if graph.graph.is_unproved() {
            graph.run_nothing()?;
        }
        let (rows_per_image, width) = graph.row_shape()?;
        Ok(Self {
            rows_per_image,
            grid: files.tokens.and_then(|tokens| tokens.grid(side)),
            width,
            graph,
            preprocess,
            fixed_batch: port.shape[0],
        })
    }

    /// This tower with its rows cut to `dim` values.
    pub(crate) fn cut(mut self, dim: usize) -> Result<Self> {
        self.width = self.graph.cut(dim, self.width)?;
        Ok(self)
    }

    /// How many rows an image has: one, or as many as it has patches where [`Rows::Patches`] are asked for.
    pub fn rows_per_image(&self) -> usize {
        self.rows_per_image
    }

    /// How many patches of an image lie below each other, and side by side, where each has a row.
    ///
    /// All in one line where no config states the size of a patch.
    pub fn patches(&self) -> Option<(usize, usize)> {
        let pooling = self.graph.output.pooling?;
        (pooling.rows == Rows::Patches).then(|| self.grid.unwrap_or((1, self.rows_per_image)))
    }

    /// What is made a row of, in words: the output of the graph, and what is taken of it.
    pub fn rows(&self) -> String {
        let Output { name, pooling } = &self.graph.output;
        match pooling {
            None => name.clone(),
            Some(pooling) => format!("{} of {name}", pooling.rows),
        }
    }

    /// What is done to an image before the graph sees it.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// The width of each row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Where the graph runs, as its first run has shown.
    pub fn placement(&self) -> Placement {
        self.graph.graph.placement()
    }

    /// Height and width of the graph's input, in pixels.
    pub fn side(&self) -> (usize, usize) {
        self.graph.side
    }

    /// How many values a prepared image has: 3 × height × width.
    pub fn values(&self) -> usize {
        3 * self.graph.side.0 * self.graph.side.1
    }

    /// An image as the graph wants it: 3 × height × width values, channel after channel.
    ///
    /// # Cost
    ///
    /// One resize of the image: about 10 ms for 12 megapixels.
    pub fn prepare(&self, image: &RgbImage) -> Vec<f32> {
        let mut values = vec![0.0; self.values()];
        self.preprocess.write(image, &mut values);
        values
    }

    /// Rows for images that are prepared already, laid one after the other.
    ///
    /// # Shape and units
    ///
    /// N × 3 × height × width values in, N rows out, each times [`ImageTower::rows_per_image`].
    ///
    /// # Errors
    ///
    /// [`Error::Graph`] if ONNX Runtime fails, [`Error::NoRow`] if the graph gives something that is no row.
    ///
    /// # Panics
    ///
    /// If `prepared` is not a whole number of images.
    pub fn encode_prepared(&self, prepared: Vec<f32>) -> Result<Embeddings> {
        let count = prepared.len() / self.values();
        assert_eq!(
            prepared.len(),
            count * self.values(),
            "prepared values are whole images"
        );
        if count == 0 {
            return Ok(Embeddings::empty(self.width));
        }
        match self.fixed_batch {
            Some(batch) if batch != count => self.encode_in_batches(&prepared, batch),
            _ => self.run(prepared, count),
        }
    }

    /// Batches of the graph's fixed size; the last one is filled up with nothing, whose rows are left out.
    fn encode_in_batches(&self, prepared: &[f32], batch: usize) -> Result<Embeddings> {
        let mut parts = Vec::new();
        for images in prepared.chunks(batch * self.values()) {
            let count = images.len() / self.values();
            let mut values = images.to_vec();
            values.resize(batch * self.values(), 0.0);
            parts.push(self.run(values, batch)?.first(count * self.rows_per_image));
        }
        Embeddings::concat(self.width, &parts)
    }

    /// Whether one graph gives the rows of images and of texts.
    pub(crate) fn shares_graph_with(&self, text: &TextTower) -> bool {
        Arc::ptr_eq(&self.graph.graph, text.graph())
    }

    /// Scale and bias of a graph of both towers, from one run: what it multiplies scores by to get its logits.
    ///
    /// `None` if the graph gives no logits. Under softmax the bias is 0 and one score would do; under sigmoid two
    /// scores and two logits give both.
    pub(crate) fn measure_scale(
        &self,
        text: &TextTower,
        activation: Activation,
    ) -> Result<Option<(f32, f32)>> {
        const LOGITS: &str = "logits_per_image";
        let graph = &self.graph.graph;
        if !graph.outputs().iter().any(|port| port.name == LOGITS)
            || self.fixed_batch.is_some()
            || !text.takes(2)
        {
            return Ok(None);
        }
        let tokens = text.tokenizer().encode(&["a photo of a cat", "night"])?;
        let ramp = (0..self.values())
            .map(|index| (index % 97) as f32 / 48.0 - 1.0)
            .collect();
        let batch = Batch {
            pixels: Some(([1, 3, self.graph.side.0, self.graph.side.1], ramp)),
            tokens: Some(&tokens),
        };
        let wanted = [self.graph.output.name.as_str(), text.output(), LOGITS];
        let outputs = graph.run(
            batch.feeds(graph, &self.graph.roles, self.graph.side),
            &wanted,
        )?;

        let [image, texts] =
            [0, 1].map(|index| outputs[index].clone().into_dimensionality::<Ix2>());
        let (Ok(image), Ok(texts), [1, 2]) = (image, texts, outputs[2].shape()) else {
            return Ok(None);
        };
        let scores = Embeddings::new(image)?.scores(&Embeddings::new(texts)?)?;
        let (scores, logits) = (
            scores.into_raw_vec_and_offset().0,
            outputs[2].as_slice().unwrap_or(&[0.0; 2]),
        );
        let (scale, bias) = match activation {
            Activation::Softmax => {
                let surest = usize::from(scores[1].abs() > scores[0].abs());
                (logits[surest] / scores[surest], 0.0)
            }
            Activation::Sigmoid => {
                let scale = (logits[0] - logits[1]) / (scores[0] - scores[1]);
                (scale, logits[0] - scale * scores[0])
            }
        };
        if !(scale > 0.0 && scale.is_finite() && bias.is_finite()) {
            return Err(Error::GraphInterface {
                path: graph.path().to_owned(),
                found: format!(
                    "logits {} and {} for scores {} and {}",
                    logits[0], logits[1], scores[0], scores[1]
                ),
                expected: "logits that are scores times a scale above 0".to_owned(),
            });
        }
        Ok(Some((scale, bias)))
    }

    fn run(&self, values: Vec<f32>, count: usize) -> Result<Embeddings> {
        let pixels = Some(([count, 3, self.graph.side.0, self.graph.side.1], values));
        self.graph.run(
            Batch {
                pixels,
                tokens: None,
            },
            count,
        )
    }
}

/// What is known of the kinds of rows that a graph can give.
struct Kinds {
    /// The kind that a caller or `diptych.json` asks for.
    asked: Option<Rows>,
    tokens: Option<ImageTokens>,
    /// Height and width of images.
    side: (usize, usize),
    is_alone: bool,
}

impl Kinds {
    /// The output that gives rows of the kind asked for; without one, those in the space of texts, or what the family's
    /// users take.
    fn output(&self, graph: &Graph) -> Result<Output> {
        let plain = [PROJECTED.as_slice(), &POOLED].concat();
        let usual = self.tokens.and_then(|tokens| tokens.usual);
        let is_unknown = self.tokens.is_none() && self.is_alone && token_output(graph).is_some();
        match (self.asked, usual) {
            (Some(rows), _) => self.output_of(graph, rows),
            _ if named_rows(graph, &PROJECTED).is_some() => row_output(graph, &plain),
            (None, Some(rows)) if rows != Rows::Pooled => self.output_of(graph, rows),
            (None, None) if is_unknown => {
                let outputs: Vec<String> = graph.outputs().iter().map(Port::describe).collect();
                Err(Error::RowsUnknown {
                    path: graph.path().to_owned(),
                    found: outputs.join("; "),
                })
            }
            (None, _) => row_output(graph, &plain).map_err(|error| match token_output(graph) {
                Some(_) => lacks(graph, Rows::Pooled),
                None => error,
            }),
        }
    }

    /// The output that rows of this kind come from.
    fn output_of(&self, graph: &Graph, rows: Rows) -> Result<Output> {
        let pooler = named_rows(graph, &POOLED[..1]).map(|port| port.name.clone());
        let is_same = self.tokens.is_some_and(|tokens| tokens.is_pooled_class);
        match (rows, token_output(graph), pooler) {
            (Rows::Pooled, _, Some(name)) => Ok(Output {
                name,
                pooling: None,
            }),
            (Rows::Cls, None, Some(name)) if is_same => Ok(Output {
                name,
                pooling: None,
            }),
            (Rows::Pooled, Some(port), None) if is_same => self.pooled(graph, port, Rows::Cls),
            (Rows::Pooled, ..) | (_, None, _) => Err(lacks(graph, rows)),
            (_, Some(port), _) => self.pooled(graph, port, rows),
        }
    }

    fn pooled(&self, graph: &Graph, port: &Port, rows: Rows) -> Result<Output> {
        let has_class = self.tokens.is_none_or(|tokens| tokens.has_class);
        let wrong = |expected: &str| interface(graph, "outputs", graph.outputs(), expected);
        if rows == Rows::Cls && !has_class {
            return Err(wrong(
                "a family with a class token for rows cls: this one has none, take pooled, mean or patches",
            ));
        }
        if rows != Rows::Cls && self.tokens.is_none() {
            return Err(wrong(&format!(
                "a model_type in config.json whose order of tokens is known, for rows {rows}: take cls or pooled"
            )));
        }
        Ok(Output {
            name: port.name.clone(),
            pooling: Some(Pooling {
                rows,
                leading: self.tokens.map_or(0, |tokens| tokens.leading()),
                parts: self
                    .tokens
                    .and_then(|tokens| tokens.grid(self.side))
                    .map(|(down, across)| down * across),
            }),
        })
    }
}

/// That a graph has no output for rows of this kind.
fn lacks(graph: &Graph, rows: Rows) -> Error {
    let expected = match (rows, token_output(graph)) {
        (Rows::Pooled, Some(_)) => {
            "an output pooler_output for rows pooled; --rows mean and patches need none".to_owned()
        }
        (Rows::Pooled, None) => "an output pooler_output for rows pooled".to_owned(),
        _ => format!("an output last_hidden_state, with a row for each token, for rows {rows}"),
    };
    interface(graph, "outputs", graph.outputs(), &expected)
}

/// An error unless graph and configs agree on height and width.
fn check_side(graph: &RowGraph, port: &Port, stated: Option<(usize, usize)>) -> Result<()> {
    let fixed = [port.shape[2], port.shape[3]];
    let agree = |fixed: Option<usize>, stated: usize| fixed.is_none_or(|fixed| fixed == stated);
    match stated {
        Some((height, width)) if agree(fixed[0], height) && agree(fixed[1], width) => Ok(()),
        stated => Err(Error::GraphInterface {
            path: graph.graph.path().to_owned(),
            found: format!("input {}", port.describe()),
            expected: match stated {
                Some((height, width)) => {
                    format!("images of {height} x {width}, as the bundle's configs say")
                }
                None => "configs that say to what height and width images are cropped".to_owned(),
            },
        }),
    }
}

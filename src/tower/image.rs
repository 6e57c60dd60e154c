//! The image tower: RGB images to unit rows.

use std::sync::Arc;

use image::RgbImage;
use ndarray::Ix2;

use super::{Batch, Role, RowGraph, TextTower, fixed_sides};
use crate::bundle::Activation;
use crate::device::Placement;
use crate::embedding::Embeddings;
use crate::error::{Error, Result};
use crate::preprocess::Preprocess;
use crate::session::{Graph, Port};

/// Outputs that hold an image's row, most telling first.
const OUTPUTS: [&str; 6] = [
    "image_embeds",
    "image_embeddings",
    "image_features",
    "embedding",
    "pooler_output",
    "output",
];

/// One graph that gives a row for an image, and what prepares the image.
#[derive(Debug)]
pub struct ImageTower {
    graph: RowGraph,
    preprocess: Preprocess,
    width: usize,
    /// The only batch size that the graph takes, if it is fixed.
    fixed_batch: Option<usize>,
}

impl ImageTower {
    pub(crate) fn new(graph: Arc<Graph>, preprocess: Preprocess) -> Result<Self> {
        let stated = fixed_sides(&preprocess);
        let graph = RowGraph::new(graph, Role::Pixels, &OUTPUTS, stated.unwrap_or((1, 1)))?;
        let port = graph
            .port(Role::Pixels)
            .cloned()
            .unwrap_or_else(|| unreachable!("RowGraph::new needs it"));
        check_side(&graph, &port, stated)?;
        if graph.graph.is_unproved() {
            graph.run_nothing()?;
        }
        Ok(Self {
            width: graph.row_width()?,
            graph,
            preprocess,
            fixed_batch: port.shape[0],
        })
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
    /// N × 3 × height × width values in, N rows out.
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
            parts.push(self.run(values, batch)?.first(count));
        }
        Embeddings::concat(self.width, &parts)
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
        let wanted = [self.graph.output.as_str(), text.output(), LOGITS];
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

//! A tower: one graph, what prepares its input, how its output becomes rows.
//!
//! This file knows what the inputs and outputs of a graph mean; `image.rs` and `text.rs` know what is fed to them,
//! `pooling.rs` how a row for each token becomes rows of items. A graph may hold both towers (one `model.onnx`): then the
//! half that is not asked for is fed one item of nothing.

mod image;
mod text;

use std::sync::Arc;

use ndarray::{Array2, ArrayD, ArrayViewMut1, Ix2, Ix3, s};

use crate::embedding::Embeddings;
use crate::error::{Error, Result};
use crate::pooling::{ImageTokens, Rows};
use crate::preprocess::{Preprocess, Resize};
use crate::session::{Feed, Graph, Port, Values};
use crate::tokenize::Tokens;

pub use image::ImageTower;
pub use text::{TextRows, TextTower};

/// What an input of a graph is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Pixels,
    Ids,
    Mask,
    /// Which of two joined texts a token is of: always the first.
    Segments,
}

/// The roles of a graph's inputs, in its order.
fn roles(graph: &Graph) -> Result<Vec<Role>> {
    let roles: Option<Vec<Role>> = graph.inputs().iter().map(role).collect();
    let is_once = |roles: &[Role], role| roles.iter().filter(|&&other| other == role).count() <= 1;
    roles
        .filter(|roles| is_once(roles, Role::Pixels) && is_once(roles, Role::Ids))
        .ok_or_else(|| {
            interface(
                graph,
                "inputs",
                graph.inputs(),
                "one of pixels (float, 4 axes), one of ids (int, 2 axes), or both",
            )
        })
}

fn role(port: &Port) -> Option<Role> {
    match port.shape.len() {
        4 if port.is_float() => Some(Role::Pixels),
        2 if port.is_integer() && port.name.contains("mask") => Some(Role::Mask),
        2 if port.is_integer() && port.name.contains("type") => Some(Role::Segments),
        2 if port.is_integer() => Some(Role::Ids),
        _ => None,
    }
}

/// The input of role `role`, if the graph has one.
fn input<'a>(graph: &'a Graph, roles: &[Role], role: Role) -> Option<&'a Port> {
    roles
        .iter()
        .position(|&other| other == role)
        .map(|index| &graph.inputs()[index])
}

/// The output that rows come from.
#[derive(Debug, Clone)]
struct Output {
    name: String,
    /// How it becomes rows, where it holds values of every token.
    pooling: Option<Pooling>,
}

/// How values of every token become rows of items.
#[derive(Debug, Clone, Copy)]
struct Pooling {
    rows: Rows,
    /// How many tokens at the front stand for no part of an item.
    leading: usize,
    /// How many come after them, where configs say so.
    parts: Option<usize>,
}

/// Whether an output has an axis of items and one of values. Logits are those of one task's classes, no row.
fn is_rows(port: &Port) -> bool {
    port.is_float() && port.shape.len() == 2 && !port.name.starts_with("logits")
}

/// The first of `names` that is an output with an axis of items and one of values.
fn named_rows<'a>(graph: &'a Graph, names: &[&str]) -> Option<&'a Port> {
    let find = |name: &&str| {
        let mut rows = graph.outputs().iter().filter(|port| is_rows(port));
        rows.find(|port| port.name == *name)
    };
    names.iter().find_map(find)
}

/// The output that holds one row for each item: the first of `names` that there is, otherwise the only one with two
/// axes.
///
/// Names come first because a graph may offer several: SigLIP's gives `last_hidden_state` and `pooler_output`, a graph
/// of both towers gives rows and logits.
fn row_output(graph: &Graph, names: &[&str]) -> Result<Output> {
    let mut rows = graph.outputs().iter().filter(|port| is_rows(port));
    let only = rows.next().filter(|_| rows.next().is_none());
    match named_rows(graph, names).or(only) {
        Some(port) => Ok(Output {
            name: port.name.clone(),
            pooling: None,
        }),
        None => {
            let expected = format!(
                "an output with an axis of items and one of values, named {}",
                names.join(" or ")
            );
            Err(interface(graph, "outputs", graph.outputs(), &expected))
        }
    }
}

/// The output that holds values of every token.
fn token_output(graph: &Graph) -> Option<&Port> {
    let is_tokens = |port: &&Port| port.is_float() && port.shape.len() == 3;
    let mut tokens = graph.outputs().iter().filter(is_tokens);
    let named = tokens.clone().find(|port| port.name == "last_hidden_state");
    named.or_else(|| tokens.next().filter(|_| tokens.next().is_none()))
}

fn interface(graph: &Graph, what: &str, ports: &[Port], expected: &str) -> Error {
    let found: Vec<String> = ports.iter().map(Port::describe).collect();
    Error::GraphInterface {
        path: graph.path().to_owned(),
        found: format!("{what} {}", found.join("; ")),
        expected: expected.to_owned(),
    }
}

/// What one run of a graph is fed with: images, texts or both.
#[derive(Debug, Clone, Default)]
struct Batch<'a> {
    /// Images as shape and values.
    pixels: Option<([usize; 4], Vec<f32>)>,
    tokens: Option<&'a Tokens>,
}

impl Batch<'_> {
    /// A feed for each input of the graph. An input whose half is not asked for gets one item of zeros, an image of
    /// height and width `side` where the graph takes any.
    fn feeds(self, graph: &Graph, roles: &[Role], side: (usize, usize)) -> Vec<Feed> {
        let tokens = self.tokens;
        let mut pixels = self.pixels;
        graph
            .inputs()
            .iter()
            .zip(roles)
            .map(|(port, role)| match (role, tokens) {
                (Role::Pixels, _) => match pixels.take() {
                    Some((shape, values)) => Feed {
                        shape: shape.to_vec(),
                        values: Values::Floats(values),
                    },
                    None => filled(port, &[1, 3, side.0, side.1], 0),
                },
                (Role::Ids, Some(tokens)) => integers(&tokens.ids),
                (Role::Mask, Some(tokens)) => integers(&tokens.mask),
                (Role::Segments, Some(tokens)) => integers(&Array2::zeros(tokens.ids.dim())),
                (Role::Ids | Role::Segments, None) => filled(port, &[1, 2], 0),
                (Role::Mask, None) => filled(port, &[1, 2], 1),
            })
            .collect()
    }
}

fn integers(values: &Array2<i64>) -> Feed {
    Feed {
        shape: values.shape().to_vec(),
        values: Values::Integers(values.iter().copied().collect()),
    }
}

/// One value everywhere, in the port's shape; axes of any size get those of `sizes`.
fn filled(port: &Port, sizes: &[usize], value: u8) -> Feed {
    let shape: Vec<usize> = port
        .shape
        .iter()
        .zip(sizes)
        .map(|(axis, &size)| axis.unwrap_or(size))
        .collect();
    let count = shape.iter().product();
    let values = if port.is_float() {
        Values::Floats(vec![f32::from(value); count])
    } else {
        Values::Integers(vec![i64::from(value); count])
    };
    Feed { shape, values }
}

/// A graph and the output of it that gives rows.
#[derive(Debug)]
struct RowGraph {
    graph: Arc<Graph>,
    roles: Vec<Role>,
    output: Output,
    /// Height and width of images, as the bundle's configs say.
    side: (usize, usize),
    /// Whether a row's values are brought to mean 0 and variance 1.
    has_layer_norm: bool,
    /// To how many values a row is cut, after that.
    dim: Option<usize>,
}

impl RowGraph {
    /// `graph` as a tower that needs an input of role `needs` and gives rows as `output` says.
    fn new(
        graph: Arc<Graph>,
        needs: Role,
        output: impl FnOnce(&Graph) -> Result<Output>,
        side: (usize, usize),
    ) -> Result<Self> {
        let roles = roles(&graph)?;
        if !roles.contains(&needs) {
            let expected = if needs == Role::Pixels {
                "one of pixels (float, 4 axes)"
            } else {
                "one of ids (int, 2 axes)"
            };
            return Err(interface(&graph, "inputs", graph.inputs(), expected));
        }
        let output = output(&graph)?;
        Ok(Self {
            graph,
            roles,
            output,
            side,
            has_layer_norm: false,
            dim: None,
        })
    }

    /// Cuts rows of `width` values to `dim` of them; `dim` comes back.
    fn cut(&mut self, dim: usize, width: usize) -> Result<usize> {
        if !(1..=width).contains(&dim) {
            return Err(Error::Dim {
                path: self.graph.path().to_owned(),
                asked: dim,
                width,
            });
        }
        self.dim = Some(dim);
        Ok(dim)
    }

    /// What the graph makes of one item of nothing.
    fn run_nothing(&self) -> Result<ArrayD<f32>> {
        let feeds = Batch::default().feeds(&self.graph, &self.roles, self.side);
        Ok(self.graph.run(feeds, &[&self.output.name])?.swap_remove(0))
    }

    /// How many rows an item has, and their width: what configs and graph declare, otherwise what a run of one item of
    /// nothing gives.
    fn row_shape(&self) -> Result<(usize, usize)> {
        let outputs = self.graph.outputs();
        let port = outputs.iter().find(|port| port.name == self.output.name);
        let width = port.and_then(|port| port.shape.last().copied().flatten());
        let count = match self.output.pooling {
            Some(Pooling {
                rows: Rows::Patches,
                parts,
                ..
            }) => parts,
            _ => Some(1),
        };
        if let (Some(count), Some(width)) = (count, width) {
            return Ok((count, width));
        }
        let output = self.run_nothing()?;
        let items = output.shape().first().copied().unwrap_or(1).max(1);
        let rows = self.rows(output, items, None)?;
        Ok((rows.nrows() / items, rows.ncols()))
    }

    fn port(&self, role: Role) -> Option<&Port> {
        input(&self.graph, &self.roles, role)
    }

    /// Unit rows for the `count` items of `batch`.
    fn run(&self, batch: Batch<'_>, count: usize) -> Result<Embeddings> {
        let mask = batch.tokens.map(|tokens| &tokens.mask);
        let feeds = batch.feeds(&self.graph, &self.roles, self.side);
        let output = self.graph.run(feeds, &[&self.output.name])?.swap_remove(0);
        let mut rows = self.rows(output, count, mask)?;
        if self.has_layer_norm {
            rows.rows_mut().into_iter().for_each(layer_norm);
        }
        if let Some(dim) = self.dim {
            rows.slice_collapse(s![.., ..dim]);
        }
        let of_each = (rows.nrows() / count.max(1)).max(1);
        Embeddings::new(rows).map_err(|error| match error {
            Error::NoDirection { row, problem } => Error::NoRow {
                path: self.graph.path().to_owned(),
                problem,
                item: row / of_each + 1,
                count,
            },
            other => other,
        })
    }

    /// The rows in an output of `count` items, of whatever length.
    fn rows(
        &self,
        output: ArrayD<f32>,
        count: usize,
        mask: Option<&Array2<i64>>,
    ) -> Result<Array2<f32>> {
        let shape = output.shape().to_vec();
        let wrong = |expected: String| Error::GraphInterface {
            path: self.graph.path().to_owned(),
            found: format!("output {} of shape {shape:?}", self.output.name),
            expected,
        };
        let is_whole = |items: usize| items == count;
        let Some(pooling) = self.output.pooling else {
            let rows = output.into_dimensionality::<Ix2>().ok();
            let rows = rows.filter(|rows| is_whole(rows.nrows()));
            return rows.ok_or_else(|| wrong(format!("{count} rows, one for each item")));
        };
        let hidden = output.into_dimensionality::<Ix3>().ok();
        let hidden = hidden.filter(|hidden| is_whole(hidden.dim().0));
        let hidden =
            hidden.ok_or_else(|| wrong(format!("{count} items, with a row for each token")))?;
        let tokens = hidden.dim().1;
        pooling.check(tokens).map_err(wrong)?;
        let mask = mask.map(|mask| mask.view());
        Ok(pooling.rows.pool(&hidden.view(), pooling.leading, mask))
    }
}

impl Pooling {
    /// What number of tokens was expected, unless it is this one.
    fn check(self, tokens: usize) -> std::result::Result<(), String> {
        let leading = self.leading;
        match self.parts {
            Some(parts) if tokens != leading + parts => Err(format!(
                "{} tokens, {leading} before those of {parts} patches, as the bundle's configs say",
                leading + parts
            )),
            None if tokens <= leading => Err(format!(
                "more than {leading} tokens, which come before those of patches"
            )),
            _ => Ok(()),
        }
    }
}

/// Brings a row's values to mean 0 and variance 1, as torch's `layer_norm` without weights does.
fn layer_norm(mut row: ArrayViewMut1<'_, f32>) {
    /// torch's own, against a variance of 0.
    const EPSILON: f64 = 1e-5;
    let count = row.len().max(1) as f64;
    let mean = row.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let squares = row.iter().map(|&value| (f64::from(value) - mean).powi(2));
    let scale = (squares.sum::<f64>() / count + EPSILON).sqrt().recip();
    row.mapv_inplace(|value| ((f64::from(value) - mean) * scale) as f32);
}

/// Height and width that every image comes out with, if they are the same for all.
pub(crate) fn fixed_sides(preprocess: &Preprocess) -> Option<(usize, usize)> {
    let sides = preprocess.crop.or(match preprocess.resize {
        Some(Resize::Squash { height, width }) => Some((height, width)),
        _ => None,
    });
    sides.map(|(height, width)| (height as usize, width as usize))
}

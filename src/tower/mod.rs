//! A tower: one graph, what prepares its input, how its output becomes rows.
//!
//! This file knows what the inputs and outputs of a graph mean; `image.rs` and `text.rs` know what is fed to them. A
//! graph may hold both towers (one `model.onnx`): then the half that is not asked for is fed one item of nothing.

mod image;
mod text;

use std::sync::Arc;

use ndarray::{Array2, ArrayD, Ix2};

use crate::embedding::Embeddings;
use crate::error::{Error, Result};
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

/// The output that holds one row for each item: the first of `names` that there is, otherwise the only one with two
/// axes.
///
/// Names come first because a graph may offer several: SigLIP's gives `last_hidden_state` and `pooler_output`, a graph
/// of both towers gives rows and logits.
fn row_output<'a>(graph: &'a Graph, names: &[&str]) -> Result<&'a Port> {
    let outputs = graph.outputs();
    let is_rows = |port: &&Port| port.is_float() && port.shape.len() == 2;
    let named = names.iter().find_map(|name| {
        outputs
            .iter()
            .filter(is_rows)
            .find(|port| port.name == *name)
    });
    let mut rows = outputs.iter().filter(is_rows);
    let only = rows.next().filter(|_| rows.next().is_none());
    named.or(only).ok_or_else(|| {
        let expected = format!(
            "an output with an axis of items and one of values, named {}",
            names.join(" or ")
        );
        interface(graph, "outputs", outputs, &expected)
    })
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
    output: String,
    /// Height and width of images, as the bundle's configs say.
    side: (usize, usize),
}

impl RowGraph {
    /// `graph` as a tower that needs an input of role `needs` and gives rows under one of `names`.
    fn new(graph: Arc<Graph>, needs: Role, names: &[&str], side: (usize, usize)) -> Result<Self> {
        let roles = roles(&graph)?;
        if !roles.contains(&needs) {
            let expected = if needs == Role::Pixels {
                "one of pixels (float, 4 axes)"
            } else {
                "one of ids (int, 2 axes)"
            };
            return Err(interface(&graph, "inputs", graph.inputs(), expected));
        }
        let output = row_output(&graph, names)?.name.clone();
        Ok(Self {
            graph,
            roles,
            output,
            side,
        })
    }

    /// What the graph makes of one item of nothing.
    fn run_nothing(&self) -> Result<ArrayD<f32>> {
        let feeds = Batch::default().feeds(&self.graph, &self.roles, self.side);
        Ok(self.graph.run(feeds, &[&self.output])?.swap_remove(0))
    }

    /// The width of the rows: what the graph declares, otherwise what a run of one item of nothing gives.
    fn row_width(&self) -> Result<usize> {
        let declared = self
            .graph
            .outputs()
            .iter()
            .find(|port| port.name == self.output)
            .and_then(|port| port.shape[1]);
        match declared {
            Some(width) => Ok(width),
            None => Ok(self.run_nothing()?.shape().last().copied().unwrap_or(0)),
        }
    }

    fn port(&self, role: Role) -> Option<&Port> {
        input(&self.graph, &self.roles, role)
    }

    /// Unit rows for the `count` items of `batch`.
    fn run(&self, batch: Batch<'_>, count: usize) -> Result<Embeddings> {
        let feeds = batch.feeds(&self.graph, &self.roles, self.side);
        let output = self.graph.run(feeds, &[&self.output])?.swap_remove(0);
        let shape = output.shape().to_vec();
        let rows: Option<Array2<f32>> = output
            .into_dimensionality::<Ix2>()
            .ok()
            .filter(|rows| rows.nrows() == count);
        let rows = rows.ok_or_else(|| Error::GraphInterface {
            path: self.graph.path().to_owned(),
            found: format!("output {} of shape {shape:?}", self.output),
            expected: format!("{count} rows, one for each item"),
        })?;
        Embeddings::new(rows).map_err(|error| match error {
            Error::NoDirection { row, problem } => Error::NoRow {
                path: self.graph.path().to_owned(),
                problem,
                item: row + 1,
                count,
            },
            other => other,
        })
    }
}

/// Height and width that every image comes out with, if they are the same for all.
pub(crate) fn fixed_sides(preprocess: &Preprocess) -> Option<(usize, usize)> {
    let sides = preprocess.crop.or(match preprocess.resize {
        Some(Resize::Squash { height, width }) => Some((height, width)),
        _ => None,
    });
    sides.map(|(height, width)| (height as usize, width as usize))
}

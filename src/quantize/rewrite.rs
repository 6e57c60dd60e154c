//! What becomes of each weight and of the nodes that use it.
//!
//! Matrices become whole numbers, either multiplied as such (`int8`) or block by block (`q8-block`); tables of rows
//! become whole numbers that are scaled when they are looked up; all else is kept in 16 bits and cast back when the graph
//! is loaded, which ONNX Runtime does once. Nothing here depends on other rows of a batch.

use std::collections::HashMap;
use std::io;

use super::graph::{FEWEST, Graph, Node, Role};
use super::pack::{self, BLOCK, Matrix, Packed};
use super::tensor::{Element, Files, Floats, Store, Tensor, f16_bytes, f32_bytes};
use super::{Quantization, Weights};

/// TensorProto.DataType of f32, as `Cast` takes it.
const TO_F32: i64 = Element::F32 as i64;
const TO_U8: i64 = Element::U8 as i64;

/// Of `MatMulNBits`: rows are taken to whole numbers too, block by block. Twice as fast as computing in f32.
const ACCURACY_LEVEL: i64 = 4;

/// From this version on, what `ReduceMax` reduces is an input.
const AXES_ARE_INPUTS: u64 = 18;

/// A weight in its new form.
#[derive(Debug, Clone)]
enum Small {
    /// Signed bytes, K × N, and the scales of columns.
    Columns { numbers: String, scales: String },
    /// As [`pack::blocks`] gives them.
    Blocks {
        numbers: String,
        scales: String,
        rows: usize,
        columns: usize,
    },
    /// Signed bytes, V × D, and scales, V × 1.
    Rows { numbers: String, scales: String },
}

/// Why a graph could not be rewritten.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is not what an ONNX file holds.
    Damaged,
    /// The new data file cannot be written.
    Write(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Write(error)
    }
}

/// Makes the weights of `graph` smaller, and says how many became what.
pub(super) fn rewrite<'a>(
    graph: &mut Graph<'a>,
    files: &'a Files,
    to: Quantization,
    store: &mut Store,
) -> Result<Weights, Failure> {
    let (small, weights) = shrink(graph, files, to, store)?;
    if to == Quantization::Q8Block {
        graph.use_runtimes_own();
    }
    let mut steps = match to {
        Quantization::Int8 => Some(Steps::new(graph, store)?),
        Quantization::Fp16 | Quantization::Q8Block => None,
    };
    let nodes = std::mem::take(&mut graph.nodes);
    for node in nodes {
        let inputs = node.inputs();
        let found = inputs.iter().find_map(|name| small.get(name));
        match (found, &mut steps) {
            (None, _) => graph.nodes.push(node),
            (Some(Small::Rows { numbers, scales }), _) => look_up(graph, &node, numbers, scales),
            (Some(small), steps) => multiply(graph, &node, small, steps.as_mut()),
        }
    }
    Ok(weights)
}

/// Every weight in its new form, by the name that it had; those that are cast back keep their name.
fn shrink<'a>(
    graph: &mut Graph<'a>,
    files: &'a Files,
    to: Quantization,
    store: &mut Store,
) -> Result<(HashMap<String, Small>, Weights), Failure> {
    let roles = graph.roles();
    let (mut small, mut casts) = (HashMap::new(), Vec::new());
    let mut weights = Weights::default();
    for weight in std::mem::take(&mut graph.weights) {
        let count = weight.count() as u64;
        if !weight.is(Element::F32) || weight.count() < FEWEST {
            let kept = store.keep(weight, files)?.ok_or(Failure::Damaged)?;
            graph.weights.push(kept);
            weights.as_before += count;
            continue;
        }
        let values = weight.floats(files).ok_or(Failure::Damaged)?;
        let role = match weight.shape.len() {
            2 if values.iter().all(f32::is_finite) => roles.get(&weight.name).copied(),
            _ => None,
        };
        let role = role.filter(|_| to != Quantization::Fp16);
        let became = match role.unwrap_or(Role::Other) {
            Role::Matrix { is_transposed } => {
                let matrix = matrix(&weight, &values, is_transposed);
                let form = match to {
                    Quantization::Int8 => columns(graph, store, &weight.name, &matrix)?,
                    _ => blocks(graph, store, &weight.name, &matrix)?,
                };
                small.insert(weight.name, form);
                &mut weights.in_8_bits
            }
            Role::Table => {
                let form = rows(graph, store, &weight, &values)?;
                small.insert(weight.name, form);
                &mut weights.in_8_bits
            }
            Role::Other => match half(graph, store, weight, &values, files)? {
                Some(cast) => {
                    casts.push(cast);
                    &mut weights.in_16_bits
                }
                None => &mut weights.as_before,
            },
        };
        *became += count;
    }
    casts.append(&mut graph.nodes);
    graph.nodes = casts;
    Ok((small, weights))
}

fn matrix<'a>(weight: &Tensor<'_>, values: &'a Floats<'a>, is_transposed: bool) -> Matrix<'a> {
    let (mut rows, mut columns) = (weight.shape[0], weight.shape[1]);
    if is_transposed {
        std::mem::swap(&mut rows, &mut columns);
    }
    Matrix {
        values,
        rows,
        columns,
        is_transposed,
    }
}

fn columns(
    graph: &mut Graph<'_>,
    store: &mut Store,
    name: &str,
    matrix: &Matrix<'_>,
) -> io::Result<Small> {
    let shape = [matrix.rows, matrix.columns];
    let packed = pack::columns(matrix);
    let numbers = (&shape[..], Element::I8);
    let (numbers, scales) = keep(graph, store, name, packed, numbers, &shape[1..])?;
    Ok(Small::Columns { numbers, scales })
}

fn blocks(
    graph: &mut Graph<'_>,
    store: &mut Store,
    name: &str,
    matrix: &Matrix<'_>,
) -> io::Result<Small> {
    let count = matrix.rows.div_ceil(BLOCK);
    let packed = pack::blocks(matrix);
    let shape = [matrix.columns, count, BLOCK];
    let numbers = (&shape[..], Element::U8);
    let (numbers, scales) = keep(graph, store, name, packed, numbers, &shape[..2])?;
    Ok(Small::Blocks {
        numbers,
        scales,
        rows: matrix.rows,
        columns: matrix.columns,
    })
}

fn rows(
    graph: &mut Graph<'_>,
    store: &mut Store,
    weight: &Tensor<'_>,
    values: &Floats<'_>,
) -> io::Result<Small> {
    let (count, width) = (weight.shape[0], weight.shape[1]);
    let packed = pack::rows(values, count, width);
    let numbers = (&weight.shape[..], Element::I8);
    let (numbers, scales) = keep(graph, store, &weight.name, packed, numbers, &[count, 1])?;
    Ok(Small::Rows { numbers, scales })
}

/// Puts numbers and scales into the graph, and gives their names.
fn keep(
    graph: &mut Graph<'_>,
    store: &mut Store,
    name: &str,
    packed: Packed,
    (shape, element): (&[usize], Element),
    scales: &[usize],
) -> io::Result<(String, String)> {
    let numbers = graph.fresh(&format!("{name}_int8"));
    let tensor = store.tensor(&numbers, shape, element, packed.bytes)?;
    graph.weights.push(tensor);
    let names = graph.fresh(&format!("{name}_scale"));
    let tensor = store.tensor(&names, scales, Element::F32, f32_bytes(&packed.scales))?;
    graph.weights.push(tensor);
    Ok((numbers, names))
}

/// A weight in 16 bits, and the node that gives it back in 32; what is beyond their range, or too small, stays as it is.
fn half<'a>(
    graph: &mut Graph<'a>,
    store: &mut Store,
    weight: Tensor<'a>,
    values: &Floats<'_>,
    files: &'a Files,
) -> Result<Option<Node<'a>>, Failure> {
    let Some(bytes) = f16_bytes(values) else {
        let kept = store.keep(weight, files)?.ok_or(Failure::Damaged)?;
        graph.weights.push(kept);
        return Ok(None);
    };
    let name = graph.fresh(&format!("{}_fp16", weight.name));
    let tensor = store.tensor(&name, &weight.shape, Element::F16, bytes)?;
    graph.weights.push(tensor);
    let cast = Node::new("Cast", &[&name], &[&weight.name]);
    Ok(Some(cast.with_number("to", TO_F32)))
}

/// Rows of a table, scaled as they are looked up.
fn look_up(graph: &mut Graph<'_>, node: &Node<'_>, numbers: &str, scales: &str) {
    let (ids, output) = (node.inputs()[1].clone(), node.outputs()[0].clone());
    let mut name = |step: &str| graph.fresh(&format!("{output}_{step}"));
    let (found, cast, scale) = (name("int8"), name("numbers"), name("scale"));
    let gather = |table: &str, rows: &str| Node::new("Gather", &[table, &ids], &[rows]);
    graph.nodes.extend([
        gather(numbers, &found),
        Node::new("Cast", &[&found], &[&cast]).with_number("to", TO_F32),
        gather(scales, &scale),
        Node::new("Mul", &[&cast, &scale], &[&output]),
    ]);
}

/// A product with a matrix, and what a `Gemm` adds to it.
fn multiply(graph: &mut Graph<'_>, node: &Node<'_>, small: &Small, steps: Option<&mut Steps>) {
    let (inputs, output) = (node.inputs(), node.outputs()[0].clone());
    let bias = inputs.get(2).filter(|name| !name.is_empty());
    let product = match bias {
        Some(_) => graph.fresh(&format!("{output}_product")),
        None => output.clone(),
    };
    match (small, steps) {
        (
            Small::Blocks {
                numbers,
                scales,
                rows,
                columns,
            },
            _,
        ) => {
            let node = Node::new("MatMulNBits", &[&inputs[0], numbers, scales], &[&product]);
            let attributes = [
                ("K", *rows as i64),
                ("N", *columns as i64),
                ("bits", 8),
                ("block_size", BLOCK as i64),
                ("accuracy_level", ACCURACY_LEVEL),
            ];
            let add =
                |node: Node<'static>, (name, value): (&str, i64)| node.with_number(name, value);
            let node = attributes.into_iter().fold(node.of_runtime(), add);
            graph.nodes.push(node);
        }
        (Small::Columns { numbers, scales }, Some(steps)) => {
            steps.multiply(graph, &inputs[0], [numbers, scales], &product);
        }
        (Small::Columns { .. } | Small::Rows { .. }, _) => unreachable!("of int8 and of tables"),
    }
    if let Some(bias) = bias {
        let add = Node::new("Add", &[&product, bias], &[&output]);
        graph.nodes.push(add);
    }
}

/// The steps of `int8`: rows to whole numbers, the product of whole numbers, and back.
///
/// Each row has a scale of its own. The usual `DynamicQuantizeLinear` has one for a whole batch, so that a row depends on
/// those beside it.
#[derive(Debug)]
struct Steps {
    /// 127, 128 and something above 0, as f32; 128 as a byte; the last axis, where it is an input.
    largest: String,
    middle: String,
    least: String,
    zero: String,
    axes: Option<String>,
    /// Rows that were taken to whole numbers already, with their scales.
    known: HashMap<String, [String; 2]>,
}

impl Steps {
    fn new(graph: &mut Graph<'_>, store: &mut Store) -> io::Result<Self> {
        let mut float =
            |name: &str, value: f32| graph.scalar(store, name, Element::F32, &value.to_le_bytes());
        let largest = float("quantize_largest", 127.0)?;
        let middle = float("quantize_middle", 128.0)?;
        let least = float("quantize_least", 1e-10)?;
        let zero = graph.scalar(store, "quantize_zero", Element::U8, &[128])?;
        let axes = (graph.opset() >= AXES_ARE_INPUTS)
            .then(|| graph.last_axis(store))
            .transpose()?;
        Ok(Self {
            largest,
            middle,
            least,
            zero,
            axes,
            known: HashMap::new(),
        })
    }

    /// `product` = rows × numbers × scales.
    fn multiply(
        &mut self,
        graph: &mut Graph<'_>,
        rows: &str,
        [numbers, scales]: [&str; 2],
        product: &str,
    ) {
        let [whole, scale] = self.whole_numbers(graph, rows);
        let mut name = |step: &str| graph.fresh(&format!("{product}_{step}"));
        let (sums, floats, scaled) = (name("sums"), name("floats"), name("scaled"));
        graph.nodes.extend([
            Node::new("MatMulInteger", &[&whole, numbers, &self.zero], &[&sums]),
            Node::new("Cast", &[&sums], &[&floats]).with_number("to", TO_F32),
            // In this order, since ONNX Runtime fuses the other one into an operator that knows one scale for all rows.
            Node::new("Mul", &[&floats, scales], &[&scaled]),
            Node::new("Mul", &[&scaled, &scale], &[product]),
        ]);
    }

    /// Rows as bytes around 128, and the scale of each. Made once for all that is multiplied by them.
    fn whole_numbers(&mut self, graph: &mut Graph<'_>, rows: &str) -> [String; 2] {
        if let Some(known) = self.known.get(rows) {
            return known.clone();
        }
        let mut name = |step: &str| graph.fresh(&format!("{rows}_{step}"));
        let [sizes, most, above, scale] = ["sizes", "most", "above", "scale"].map(&mut name);
        let [steps, parts, whole, moved, bytes] =
            ["steps", "parts", "whole", "moved", "int8"].map(name);
        let (largest, middle) = (&*self.largest, &*self.middle);
        let reduce = match &self.axes {
            Some(axes) => Node::new("ReduceMax", &[&sizes, axes], &[&most]),
            None => Node::new("ReduceMax", &[&sizes], &[&most]).with_numbers("axes", &[-1]),
        };
        graph.nodes.extend([
            Node::new("Abs", &[rows], &[&sizes]),
            reduce.with_number("keepdims", 1),
            Node::new("Max", &[&most, &self.least], &[&above]),
            Node::new("Div", &[&above, largest], &[&scale]),
            Node::new("Div", &[largest, &above], &[&steps]),
            Node::new("Mul", &[rows, &steps], &[&parts]),
            Node::new("Round", &[&parts], &[&whole]),
            Node::new("Add", &[&whole, middle], &[&moved]),
            Node::new("Cast", &[&moved], &[&bytes]).with_number("to", TO_U8),
        ]);
        let known = [bytes, scale];
        self.known.insert(rows.to_owned(), known.clone());
        known
    }
}

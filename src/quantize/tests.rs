//! Small graphs of every kind that is treated in its own way, run before and after; and the bundled model with its weights
//! unpacked, whose answers must stay.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use ndarray::{Array2, Axis};

use super::graph::{Graph, Node};
use super::message::Message;
use super::rewrite::rewrite;
use super::tensor::{Element, Files, Store, Tensor, f32_bytes};
use super::*;
use crate::encoder::{DualEncoder, EncoderOptions};
use crate::image_file::{ImageOptions, open_image};
use crate::runtime;
use crate::session::{Feed, GraphOptions, Values};
use crate::verify::{Record, cost};
use crate::zero_shot::ZeroShot;

const WIDTH: usize = 48;
const ROWS: usize = 5;

/// Numbers between −1 and 1 that look random.
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (f64::from(state) / f64::from(u32::MAX) * 2.0 - 1.0) as f32
    };
    (0..count).map(|_| next()).collect()
}

fn weight(name: &str, shape: &[usize], values: &[f32]) -> Tensor<'static> {
    let stored = Store::Inside.tensor(name, shape, Element::F32, f32_bytes(values));
    stored.unwrap()
}

fn square(name: &str, seed: u32) -> Tensor<'static> {
    weight(name, &[WIDTH, WIDTH], &noise(WIDTH * WIDTH, seed))
}

/// A value's name, its element type and its axes: batch, then width.
fn value(name: &str, element: i64) -> Message<'static> {
    let axis = |size: i64| Message::default().with(1, Message::default().with(1, size));
    let shape = Message::default().with(1, Message::default().with(2, "batch"));
    let shape = shape.fields.into_iter().chain(axis(WIDTH as i64).fields);
    let shape = Message {
        fields: shape.collect(),
    };
    let tensor = Message::default().with(1, element).with(2, shape);
    Message::default()
        .with(1, name)
        .with(2, Message::default().with(1, tensor))
}

/// A file of a graph from `x` to `y`.
struct Model {
    ir: i64,
    opset: i64,
    nodes: Vec<Node<'static>>,
    weights: Vec<Tensor<'static>>,
    /// Names of weights that are inputs too.
    inputs: Vec<&'static str>,
}

impl Model {
    fn new(nodes: Vec<Node<'static>>, weights: Vec<Tensor<'static>>) -> Self {
        Self {
            ir: 8,
            opset: 17,
            nodes,
            weights,
            inputs: Vec::new(),
        }
    }

    fn write(self, path: &Path) {
        let graph = Message::default()
            .with(2, "graph")
            .with(11, value("x", 1))
            .with(12, value("y", 1))
            // A field that no version of the format has.
            .with(900, "kept");
        let named = |graph: Message<'static>, name: &&'static str| graph.with(11, value(name, 1));
        let graph = self.inputs.iter().fold(graph, named);
        let opset = Message::default().with(1, "").with(2, self.opset);
        let model = Message::default()
            .with(1, self.ir)
            .with(8, opset)
            .with(7, graph);
        let bytes = written(&model);
        // Nodes and weights are added as the rewriting adds them.
        fs::write(path, bytes).unwrap();
        let files = Files::open(path).unwrap();
        let mut graph = Graph::read(&files).unwrap();
        graph.nodes = self.nodes;
        graph.weights = self.weights;
        let mut bytes = Vec::new();
        graph.write(&mut bytes).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn written(message: &Message<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.write(&mut bytes).unwrap();
    bytes
}

/// The graph in `from`, quantised, in the file `path`; and how many bytes its weights of each type take.
fn small(from: &Path, path: &Path, to: Quantization) -> HashMap<&'static str, usize> {
    let files = Files::open(from).unwrap();
    let mut graph = Graph::read(&files).unwrap();
    require(from, &graph).unwrap();
    rewrite(&mut graph, &files, to, &mut Store::Inside).unwrap();
    let mut values = HashMap::new();
    for weight in &graph.weights {
        *values.entry(weight.element_name()).or_default() += weight.count();
    }
    let mut bytes = Vec::new();
    graph.write(&mut bytes).unwrap();
    assert!(bytes.windows(4).any(|part| part == b"kept"));
    fs::write(path, bytes).unwrap();
    values
}

/// What a graph gives for rows of noise, of which the third is larger than the others by far and the fourth is zero.
fn run(path: &Path) -> Array2<f32> {
    let runtime = runtime::start(|_| ()).unwrap();
    let options = GraphOptions {
        device: Default::default(),
        threads: 1,
        spins: false,
    };
    let graph = crate::session::Graph::open(path, runtime, &options).unwrap();
    let mut rows = noise(ROWS * WIDTH, 99);
    rows[2 * WIDTH..3 * WIDTH]
        .iter_mut()
        .for_each(|value| *value *= 1e4);
    rows[3 * WIDTH..4 * WIDTH].fill(0.0);
    let feed = Feed {
        shape: vec![ROWS, WIDTH],
        values: Values::Floats(rows),
    };
    let outputs = graph.run(vec![feed], &["y"]).unwrap();
    let rows = outputs.into_iter().next().unwrap();
    rows.into_dimensionality().unwrap()
}

/// That each row is near what it was, in parts of its largest value.
fn assert_near(found: &Array2<f32>, expected: &Array2<f32>, tolerance: f32, what: &str) {
    for (found, expected) in found.axis_iter(Axis(0)).zip(expected.axis_iter(Axis(0))) {
        let largest = expected
            .iter()
            .fold(1e-6f32, |most, value| most.max(value.abs()));
        for (found, expected) in found.iter().zip(expected) {
            let far = (found - expected).abs() / largest;
            assert!(far <= tolerance, "{what}: {found}, expected {expected}");
        }
    }
}

/// Runs a model before and after, in every form, and gives how many values it has of each type.
fn in_every_form(make: impl Fn() -> Model) -> [HashMap<&'static str, usize>; 3] {
    let folder = tempfile::tempdir().unwrap();
    let (from, path) = (
        folder.path().join("old.onnx"),
        folder.path().join("new.onnx"),
    );
    make().write(&from);
    let expected = run(&from);
    Quantization::ALL.map(|to| {
        let values = small(&from, &path, to);
        let tolerance = if to == Quantization::Fp16 { 1e-3 } else { 0.03 };
        assert_near(&run(&path), &expected, tolerance, to.name());
        values
    })
}

#[test]
fn matrices_of_products() {
    let gemm = |inputs: &[&str], output: &str| {
        Node::new("Gemm", inputs, &[output]).with_number("transB", 1)
    };
    let make = |opset| {
        move || Model {
            opset,
            ..Model::new(
                vec![
                    Node::new("MatMul", &["x", "a"], &["left"]),
                    gemm(&["x", "b", "bias"], "right"),
                    Node::new("Add", &["left", "right"], &["both"]),
                    Node::new("Relu", &["both"], &["positive"]),
                    gemm(&["positive", "c"], "y"),
                ],
                vec![
                    square("a", 1),
                    square("b", 2),
                    square("c", 3),
                    weight("bias", &[WIDTH], &noise(WIDTH, 4)),
                ],
            )
        }
    };
    // From version 18 on, axes are inputs.
    for opset in [11, 17, 18, 20] {
        let [int8, blocks, half] = in_every_form(make(opset));
        assert_eq!(int8["int8"], 3 * WIDTH * WIDTH);
        // Filled up to whole blocks.
        assert_eq!(blocks["uint8"], 3 * WIDTH * 64);
        assert_eq!(half["float16"], 3 * WIDTH * WIDTH);
        for values in [int8, blocks, half] {
            assert!(values["float32"] < WIDTH * WIDTH, "{values:?}");
        }
    }
}

#[test]
fn what_is_no_matrix_to_all_is_kept_in_halves() {
    let [int8, blocks, _] = in_every_form(|| {
        Model::new(
            vec![
                // One weight from the left and from the right, one in a Gemm that halves, one of three axes.
                Node::new("MatMul", &["x", "a"], &["first"]),
                Node::new("MatMul", &["a", "a"], &["twice"]),
                Node::new("MatMul", &["first", "twice"], &["second"]),
                Node::new("Gemm", &["second", "b"], &["third"]).with_number("transA", 0),
                Node::new("MatMul", &["third", "c"], &["fourth"]),
                Node::new("ReduceSum", &["fourth", "axis"], &["y"]).with_number("keepdims", 0),
            ],
            vec![
                square("a", 1),
                square("b", 2),
                weight("c", &[1, WIDTH, WIDTH], &noise(WIDTH * WIDTH, 3)),
                Store::Inside
                    .tensor("axis", &[1], Element::I64, vec![0; 8])
                    .unwrap(),
            ],
        )
    });
    assert_eq!(int8["float16"], 2 * WIDTH * WIDTH);
    assert_eq!(int8["int8"], WIDTH * WIDTH);
    assert_eq!(blocks["uint8"], WIDTH * 64);
}

#[test]
fn tables_of_rows() {
    let ids = |ids: [i64; ROWS]| ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    let [int8, blocks, half] = in_every_form(|| {
        let ids = Store::Inside.tensor("ids", &[ROWS], Element::I64, ids([6, 0, 3, 3, 1]));
        let mut table = noise(7 * WIDTH, 5);
        table[..WIDTH].iter_mut().for_each(|value| *value *= 1e-3);
        Model::new(
            vec![
                Node::new("Gather", &["table", "ids"], &["found"]),
                Node::new("Mul", &["x", "nothing"], &["zeros"]),
                Node::new("Add", &["zeros", "found"], &["y"]),
            ],
            vec![
                weight("table", &[7, WIDTH], &table),
                weight("nothing", &[1], &[0.0]),
                ids.unwrap(),
            ],
        )
    });
    assert_eq!(int8["int8"], 7 * WIDTH);
    assert_eq!(blocks["int8"], 7 * WIDTH);
    assert_eq!(half["float16"], 7 * WIDTH);
}

#[test]
fn constants_are_weights_and_weights_no_inputs() {
    let values = in_every_form(|| {
        let constant = square("value", 7).message;
        let attribute = Message::default()
            .with(1, "value")
            .with(5, constant)
            .with(20, 4);
        let constant = Node::new("Constant", &[], &["b"]).with_attribute(attribute);
        Model {
            ir: 3,
            inputs: vec!["a"],
            ..Model::new(
                vec![
                    constant,
                    Node::new("MatMul", &["x", "a"], &["first"]),
                    Node::new("MatMul", &["first", "b"], &["y"]),
                ],
                vec![square("a", 1)],
            )
        }
    });
    assert_eq!(values[0]["int8"], 2 * WIDTH * WIDTH);
}

#[test]
fn values_beyond_halves_stay() {
    let make = || {
        let mut large = noise(WIDTH * WIDTH, 8);
        large[17] = 7e4;
        Model::new(
            vec![Node::new("MatMul", &["x", "a"], &["y"])],
            vec![weight("a", &[WIDTH, WIDTH], &large)],
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let (from, path) = (
        folder.path().join("old.onnx"),
        folder.path().join("new.onnx"),
    );
    make().write(&from);
    let values = small(&from, &path, Quantization::Fp16);
    assert_eq!(values["float32"], WIDTH * WIDTH);
    assert_near(&run(&path), &run(&from), 1e-6, "fp16");
}

/// What 16 bits would take the digits of stays in 32; what vanishes beside large values does not count.
#[test]
fn values_too_small_for_halves_stay() {
    let scaled = |scale: f32| -> Vec<f32> {
        let values = noise(WIDTH * WIDTH, 8).into_iter();
        values.map(|value| value * scale).collect()
    };
    let mut half_dead = scaled(1.0);
    half_dead
        .iter_mut()
        .step_by(2)
        .for_each(|value| *value *= 1e-9);
    let mut one_dead = scaled(0.02);
    one_dead[17] = 1e-9;
    for (values, kept) in [
        (scaled(1e-8), "float32"),
        (scaled(1e-5), "float32"),
        (half_dead, "float16"),
        (one_dead, "float16"),
        (scaled(0.02), "float16"),
        (vec![0.0; WIDTH * WIDTH], "float16"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let [from, path] = ["old.onnx", "new.onnx"].map(|name| folder.path().join(name));
        let node = Node::new("MatMul", &["x", "a"], &["y"]);
        Model::new(vec![node], vec![weight("a", &[WIDTH, WIDTH], &values)]).write(&from);
        let found = small(&from, &path, Quantization::Fp16);
        assert_eq!(found[kept], WIDTH * WIDTH, "{:?}", &values[..4]);
        assert_eq!(found.len(), 1, "{found:?}");
        let expected = run(&from);
        for (found, expected) in run(&path).iter().zip(&expected) {
            let scale = values
                .iter()
                .fold(0f32, |most, value| most.max(value.abs()));
            assert!(
                (found - expected).abs() <= 5e-3 * scale * 1e4,
                "{found}, expected {expected}"
            );
        }
    }
}

/// A small constant of other numbers makes no graph one that is quantised.
#[test]
fn most_values_say_what_a_graph_is_of() {
    let said = |bytes: usize| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.onnx");
        let constant = Store::Inside.tensor("k", &[bytes], Element::U8, vec![1; bytes]);
        let node = Node::new("MatMul", &["x", "a"], &["y"]);
        Model::new(vec![node], vec![square("a", 1), constant.unwrap()]).write(&path);
        let files = Files::open(&path).unwrap();
        read(&path, &files).map(drop)
    };
    assert!(said(300).is_ok());
    let error = said(WIDTH * WIDTH + 1).unwrap_err().to_string();
    assert!(
        error.contains("weights of uint8, expected float32"),
        "{error}"
    );
}

/// No damage ends the program: nodes without what they must have are said, and any byte may be another.
#[test]
fn damage_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.onnx");
    let make = |node: Node<'static>| {
        let product = Node::new("MatMul", &["x", "a"], &["y"]);
        let ids = Store::Inside.tensor("ids", &[1], Element::I64, vec![0; 8]);
        let weights = vec![weight("a", &[16, 16], &noise(256, 1)), ids.unwrap()];
        Model::new(vec![node, product], weights).write(&path);
    };
    let bare = |operator: &str, inputs: &[&str], outputs: &[&str]| {
        let message = Message::default().with(4, operator);
        let message = inputs
            .iter()
            .fold(message, |message, &name| message.with(1, name));
        Node::of_message(
            outputs
                .iter()
                .fold(message, |message, &name| message.with(2, name)),
        )
    };
    for node in [
        bare("Constant", &[], &[]),
        bare("Gather", &["a"], &["z"]),
        bare("Gather", &["a", "ids"], &[]),
        bare("MatMul", &["x", "a"], &[]),
        bare("MatMul", &["x"], &["z"]),
        bare("Gemm", &[], &["z"]),
    ] {
        make(node);
        let error = read(&path, &Files::open(&path).unwrap()).unwrap_err();
        assert!(error.to_string().contains("damaged or cut off"), "{error}");
    }
    make(Node::new("Gather", &["a", "ids"], &["z"]));
    let whole = fs::read(&path).unwrap();
    let mut read_again = 0;
    for place in 0..whole.len() {
        for byte in [0, 1, 0x7f, 0xff, whole[place] ^ 1, whole[place] ^ 8] {
            let mut bytes = whole.clone();
            bytes[place] = byte;
            // Under another name each time, since what is mapped must not change.
            fs::remove_file(&path).unwrap();
            fs::write(&path, &bytes).unwrap();
            let Ok(files) = Files::open(&path) else {
                continue;
            };
            let Ok(mut graph) = read(&path, &files) else {
                continue;
            };
            read_again += 1;
            let _ = rewrite(&mut graph, &files, Quantization::Int8, &mut Store::Inside);
        }
    }
    assert!(read_again > whole.len(), "{read_again}");
}

#[test]
fn old_operators_and_graphs_without_weights_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.onnx");
    let said = |model: Model| {
        model.write(&path);
        let files = Files::open(&path).unwrap();
        let error = require(&path, &Graph::read(&files).unwrap()).unwrap_err();
        error.to_string()
    };
    let model = || {
        Model::new(
            vec![Node::new("MatMul", &["x", "a"], &["y"])],
            vec![square("a", 1)],
        )
    };
    let old = said(Model {
        opset: 9,
        ..model()
    });
    assert!(old.contains("of version 9, expected 11 or later"), "{old}");
    let bare = said(Model {
        weights: Vec::new(),
        ..model()
    });
    assert!(bare.contains("has no weights of float32"), "{bare}");
}

/// The bundled model with its weights in 32 bits, as it was trained: it keeps them as `Cast(int8) × scale`, and looks up
/// rows of its table so too.
fn unpacked(folder: &Path) {
    let bundle = Bundle::open("onnx/tiny").unwrap();
    for file in &bundle.files {
        let to = folder.join(name_within(&bundle.path, file).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        match file.extension() {
            Some(ending) if ending == "onnx" => unpack(file, &to),
            _ => drop(fs::copy(file, to).unwrap()),
        }
    }
}

fn unpack(from: &Path, to: &Path) {
    let files = Files::open(from).unwrap();
    let mut graph = Graph::read(&files).unwrap();
    let tensors: HashMap<String, Tensor<'_>> = graph
        .weights
        .drain(..)
        .map(|weight| (weight.name.clone(), weight))
        .collect();
    let makers: HashMap<String, Node<'_>> = graph
        .nodes
        .iter()
        .map(|node| (node.outputs()[0].clone(), node.clone()))
        .collect();
    // The table behind a Gather, or the tensor itself, with the ids it is looked up by.
    let source = |name: &str| match makers.get(name) {
        Some(node) if node.is("Gather") => {
            Some((node.inputs()[0].clone(), Some(node.inputs()[1].clone())))
        }
        Some(_) => None,
        None => Some((name.to_owned(), None)),
    };
    let mut gone = Vec::new();
    for node in std::mem::take(&mut graph.nodes) {
        let inputs = node.inputs();
        let cast = makers.get(&inputs.first().cloned().unwrap_or_default());
        let numbers = cast.filter(|cast| node.is("Mul") && cast.is("Cast"));
        let numbers = numbers.and_then(|cast| source(&cast.inputs()[0]));
        let tensor = numbers.as_ref().and_then(|(name, _)| tensors.get(name));
        let Some(tensor) = tensor.filter(|tensor| tensor.is(Element::I8)) else {
            graph.nodes.push(node);
            continue;
        };
        let (name, ids) = numbers.unwrap();
        let (scales, _) = source(&inputs[1]).unwrap();
        let output = node.outputs()[0].clone();
        let target = if ids.is_some() {
            format!("{output}_table")
        } else {
            output.clone()
        };
        graph
            .weights
            .push(product(&target, tensor, &tensors[&scales], &files));
        gone.extend([name, scales, inputs[0].clone()]);
        if let Some(ids) = ids {
            graph
                .nodes
                .push(Node::new("Gather", &[&target, &ids], &[&output]));
            gone.extend([makers[&inputs[0]].inputs()[0].clone(), inputs[1].clone()]);
        }
    }
    graph
        .nodes
        .retain(|node| !gone.contains(&node.outputs()[0]));
    let kept = tensors
        .into_values()
        .filter(|weight| !gone.contains(&weight.name));
    graph.weights.extend(kept);
    let mut bytes = Vec::new();
    graph.write(&mut bytes).unwrap();
    fs::write(to, bytes).unwrap();
}

/// Whole numbers times scales, of which each axis is as long or 1.
fn product<'a>(
    name: &str,
    numbers: &Tensor<'a>,
    scales: &Tensor<'a>,
    files: &'a Files,
) -> Tensor<'a> {
    let wholes = numbers.message.borrowed(9).unwrap();
    let floats = scales.floats(files).unwrap();
    let values = (0..numbers.count()).map(|mut place| {
        let whole = f32::from(wholes[place].cast_signed());
        let (mut scale, mut step) = (0, 1);
        for (&length, &of_scale) in numbers.shape.iter().zip(&scales.shape).rev() {
            scale += if of_scale > 1 {
                place % length * step
            } else {
                0
            };
            step *= of_scale;
            place /= length;
        }
        whole * floats.at(scale)
    });
    let values: Vec<f32> = values.collect();
    weight(name, &numbers.shape, &values)
}

/// Sizes, rows and answers of the bundled model in every form.
#[test]
fn the_bundled_model_keeps_its_answers() {
    let folder = tempfile::tempdir().unwrap();
    unpacked(folder.path());
    let open = |bundle| DualEncoder::from_bundle(bundle, &EncoderOptions::default()).unwrap();
    let bundle = Bundle::open(folder.path()).unwrap();
    let whole = open(bundle.clone());
    let packed = open(Bundle::open("onnx/tiny").unwrap());
    let before = Record::of(&whole).unwrap();
    let same = cost(&Record::of(&packed).unwrap(), &before).unwrap();
    assert!(same.lowest() > 1.0 - 1e-6, "{same:?}");
    let answers = answers(&whole);
    assert_eq!(answers.len(), 14);
    for (to, size, lowest) in [
        (Quantization::Int8, 0.30, 0.97),
        (Quantization::Q8Block, 0.32, 0.997),
        (Quantization::Fp16, 0.51, 0.99999),
    ] {
        let work = tempfile::tempdir().unwrap();
        let draft = Draft::make(&bundle, to, &work.path().join("small"), false).unwrap();
        let [before_size, after_size] = [|g: &GraphSizes| g.before, |g: &GraphSizes| g.after]
            .map(|of| draft.graphs().iter().map(of).sum::<u64>() as f64);
        assert!(
            after_size < size * before_size,
            "{}: {:?}",
            to.name(),
            draft.graphs()
        );
        let small = open(draft.bundle().unwrap());
        let cost = cost(&before, &Record::of(&small).unwrap()).unwrap();
        assert!(cost.lowest() > lowest, "{}: {cost:?}", to.name());
        assert!(cost.changed.is_empty(), "{}: {cost:?}", to.name());
        assert_eq!(self::answers(&small), answers, "{}", to.name());
    }
}

/// The best label of each bundled photo, among a few.
fn answers(encoder: &DualEncoder) -> Vec<String> {
    let photos = fs::read_to_string("assets/photos/captions.jsonl").unwrap();
    let photos: Vec<serde_json::Value> = photos
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let labels: Vec<String> = photos
        .iter()
        .map(|photo| photo["label"].as_str().unwrap().to_owned())
        .collect();
    let templates = ["a photo of a {}.".to_owned()];
    let classes = ZeroShot::new(encoder, &labels, &templates).unwrap();
    let images = photos.iter().map(|photo| {
        let path = Path::new("assets/photos").join(photo["file"].as_str().unwrap());
        open_image(path, &ImageOptions::default()).unwrap()
    });
    let rows = encoder.encode_images(&images.collect::<Vec<_>>()).unwrap();
    let predictions = classes.classify(&rows, encoder.calibration()).unwrap();
    let best = predictions.into_iter().map(|best| best[0].label.to_owned());
    best.collect()
}

//! A graph as it is rewritten: its nodes, its weights, and who uses them (onnx.proto's ModelProto, GraphProto and
//! NodeProto).

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use super::message::{Message, Value};
use super::tensor::{Element, Files, Store, Tensor};

/// Fields of ModelProto, GraphProto, NodeProto and AttributeProto.
const IR_VERSION: u32 = 1;
const GRAPH: u32 = 7;
const OPSET: u32 = 8;
const NODE: u32 = 1;
const INITIALIZER: u32 = 5;
const INPUT: u32 = 11;
const OUTPUT: u32 = 12;
const NODE_INPUT: u32 = 1;
const NODE_OUTPUT: u32 = 2;
const ATTRIBUTE: u32 = 5;
const DOMAIN: u32 = 7;

/// The domain of ONNX Runtime's own operators.
const RUNTIMES_OWN: &str = "com.microsoft";

/// The oldest version of the format in which a weight need not be an input too.
const WEIGHTS_ALONE: u64 = 4;

/// Weights of fewer values stay as they are: a node would cost what they save.
pub(super) const FEWEST: usize = 256;

/// A graph with what stands around it.
#[derive(Debug)]
pub(super) struct Graph<'a> {
    /// All of the model but the graph.
    model: Message<'a>,
    /// All of the graph but nodes and weights.
    rest: Message<'a>,
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) weights: Vec<Tensor<'a>>,
    /// Every name that stands for a value.
    names: HashSet<String>,
}

/// An operation.
#[derive(Debug, Clone)]
pub(super) struct Node<'a>(Message<'a>);

/// What a weight is to the nodes that use it, if it is the same to all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Rows are multiplied by it, K × N; stored N × K if transposed.
    Matrix { is_transposed: bool },
    /// Rows are looked up in it.
    Table,
    /// Anything else.
    Other,
}

impl<'a> Graph<'a> {
    /// The graph in `files`, or `None` if it is none. Constants of many values become weights.
    pub(super) fn read(files: &'a Files) -> Option<Self> {
        let model = Message::read(files.graph.bytes())?;
        let rest = Message::read(model.borrowed(GRAPH)?)?;
        let (mut nodes, mut weights, mut fields) = (Vec::new(), Vec::new(), Vec::new());
        for (number, value) in rest.fields {
            match (number, value) {
                (NODE, value) => {
                    let node = Node(nested(&value)?);
                    if !node.is_whole() {
                        return None;
                    }
                    match node.constant() {
                        Some(weight) => weights.push(weight),
                        None => nodes.push(node),
                    }
                }
                (INITIALIZER, value) => weights.push(Tensor::read(nested(&value)?)?),
                other => fields.push(other),
            }
        }
        let names = |node: &Node<'_>| [node.inputs(), node.outputs()].concat();
        let names = nodes.iter().flat_map(names);
        let names = names.chain(weights.iter().map(|weight| weight.name.clone()));
        let mut graph = Self {
            names: names.collect(),
            model: model.without(&[GRAPH]),
            rest: Message { fields },
            nodes,
            weights,
        };
        graph.forget_inputs();
        Some(graph)
    }

    /// Weights that are inputs too, as old files list them, could be set by a caller and are folded by nobody.
    fn forget_inputs(&mut self) {
        let weights: HashSet<&str> = self.weights.iter().map(|w| w.name.as_str()).collect();
        self.rest.fields.retain(|(number, value)| {
            let input = (*number == INPUT).then(|| nested(value)).flatten();
            input.is_none_or(|input| !weights.contains(input.text(1)))
        });
        if self.model.number(IR_VERSION) < Some(WEIGHTS_ALONE) {
            let model = std::mem::take(&mut self.model).without(&[IR_VERSION]);
            self.model = model.with(IR_VERSION, Value::Number(WEIGHTS_ALONE));
        }
    }

    /// The version of the standard operators.
    pub(super) fn opset(&self) -> u64 {
        let sets = self.model.all(OPSET).filter_map(nested);
        let standard = sets.filter(|set| is_standard(set.text(1)));
        standard.filter_map(|set| set.number(2)).max().unwrap_or(0)
    }

    /// Allows ONNX Runtime's own operators.
    pub(super) fn use_runtimes_own(&mut self) {
        let is_own = |set: Message<'_>| set.text(1) == RUNTIMES_OWN;
        if !self.model.all(OPSET).filter_map(nested).any(is_own) {
            let set = Message::default().with(1, RUNTIMES_OWN).with(2, 1);
            self.model = std::mem::take(&mut self.model).with(OPSET, set);
        }
    }

    /// A name that nothing has yet.
    pub(super) fn fresh(&mut self, name: &str) -> String {
        let mut name = name.to_owned();
        while !self.names.insert(name.clone()) {
            name.push('_');
        }
        name
    }

    /// What each weight is to its users, by its name.
    pub(super) fn roles(&self) -> HashMap<String, Role> {
        let mut roles: HashMap<String, Role> = HashMap::new();
        let mut put = |name: &str, role| {
            let kept = roles.entry(name.to_owned()).or_insert(role);
            if *kept != role {
                *kept = Role::Other;
            }
        };
        for node in &self.nodes {
            for (place, name) in node.inputs().iter().enumerate() {
                put(name, node.role(place));
            }
            for name in node.names_within() {
                put(&name, Role::Other);
            }
        }
        for output in self.rest.all(OUTPUT).filter_map(nested) {
            put(output.text(1), Role::Other);
        }
        roles
    }

    /// The whole file. Weights go where `store` puts them.
    pub(super) fn write(self, out: &mut impl Write) -> io::Result<()> {
        let mut graph = self.rest;
        let nodes = self.nodes.into_iter().map(|node| (NODE, node.0.into()));
        let weights = self.weights.into_iter();
        let weights = weights.map(|weight| (INITIALIZER, weight.message.into()));
        graph.fields.extend(nodes.chain(weights));
        self.model.with(GRAPH, graph).write(out)
    }

    /// Adds a number that nodes need, and gives its name.
    pub(super) fn scalar(
        &mut self,
        store: &mut Store,
        name: &str,
        element: Element,
        bytes: &[u8],
    ) -> io::Result<String> {
        self.constant(store, name, &[], element, bytes)
    }

    /// Adds a list that says "the last axis", and gives its name.
    pub(super) fn last_axis(&mut self, store: &mut Store) -> io::Result<String> {
        let last = (-1i64).to_le_bytes();
        self.constant(store, "quantize_axes", &[1], Element::I64, &last)
    }

    fn constant(
        &mut self,
        store: &mut Store,
        name: &str,
        shape: &[usize],
        element: Element,
        bytes: &[u8],
    ) -> io::Result<String> {
        let name = self.fresh(name);
        let tensor = store.tensor(&name, shape, element, bytes.to_vec())?;
        self.weights.push(tensor);
        Ok(name)
    }
}

impl<'a> Node<'a> {
    /// A standard operation.
    pub(super) fn new(operator: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        let message = inputs.iter().fold(Message::default(), |message, &input| {
            message.with(NODE_INPUT, input)
        });
        let message = outputs.iter().fold(message, |message, &output| {
            message.with(NODE_OUTPUT, output)
        });
        // Names of nodes are for people; runtimes want them to differ.
        let name = format!("{}/{operator}", outputs[0]);
        Self(message.with(3, name.as_str()).with(4, operator))
    }

    /// The operation of a message, whatever it lacks.
    #[cfg(test)]
    pub(super) fn of_message(message: Message<'a>) -> Self {
        Self(message)
    }

    /// One of ONNX Runtime's own operations in place of a standard one.
    pub(super) fn of_runtime(self) -> Self {
        Self(self.0.with(DOMAIN, RUNTIMES_OWN))
    }

    pub(super) fn with_attribute(self, attribute: Message<'a>) -> Self {
        Self(self.0.with(ATTRIBUTE, attribute))
    }

    pub(super) fn with_number(self, name: &str, value: i64) -> Self {
        let attribute = Message::default().with(1, name).with(3, value).with(20, 2);
        self.with_attribute(attribute)
    }

    pub(super) fn with_numbers(self, name: &str, values: &[i64]) -> Self {
        let attribute = Message::default().with(1, name).with(20, 7);
        let add = |attribute: Message<'a>, &value: &i64| attribute.with(8, value);
        self.with_attribute(values.iter().fold(attribute, add))
    }

    pub(super) fn inputs(&self) -> Vec<String> {
        self.texts(NODE_INPUT)
    }

    pub(super) fn outputs(&self) -> Vec<String> {
        self.texts(NODE_OUTPUT)
    }

    fn texts(&self, number: u32) -> Vec<String> {
        let text = |value: &Value<'_>| {
            String::from_utf8_lossy(value.content()?)
                .into_owned()
                .into()
        };
        self.0.all(number).filter_map(text).collect()
    }

    pub(super) fn is(&self, operator: &str) -> bool {
        self.0.text(4) == operator && is_standard(self.0.text(DOMAIN))
    }

    /// Whether it has what is taken from it here, if anything is.
    fn is_whole(&self) -> bool {
        let least = match () {
            () if self.is("Constant") => 0,
            () if ["MatMul", "Gemm", "Gather"]
                .iter()
                .any(|name| self.is(name)) =>
            {
                2
            }
            () => return true,
        };
        self.inputs().len() >= least && !self.outputs().is_empty()
    }

    fn attributes(&self) -> impl Iterator<Item = Message<'a>> {
        self.0.all(ATTRIBUTE).filter_map(nested)
    }

    fn attribute(&self, name: &str) -> Option<Message<'a>> {
        self.attributes()
            .find(|attribute| attribute.text(1) == name)
    }

    fn number(&self, name: &str) -> u64 {
        let attribute = self.attribute(name);
        attribute.and_then(|a| a.number(3)).unwrap_or(0)
    }

    /// Whether an attribute of f32 has its usual value, 1.
    fn is_one(&self, name: &str) -> bool {
        let Some(attribute) = self.attribute(name) else {
            return true;
        };
        let value = attribute.all(2).last();
        value == Some(&Value::Four(1f32.to_le_bytes()))
    }

    /// What its input at `place` is to it.
    fn role(&self, place: usize) -> Role {
        let is_transposed = self.number("transB") != 0;
        let is_plain = || self.number("transA") == 0 && self.is_one("alpha") && self.is_one("beta");
        match place {
            1 if self.is("MatMul") => Role::Matrix {
                is_transposed: false,
            },
            1 if self.is("Gemm") && is_plain() => Role::Matrix { is_transposed },
            0 if self.is("Gather") && self.number("axis") == 0 => Role::Table,
            _ => Role::Other,
        }
    }

    /// Its value as a weight, if it is a constant of f32 with many values.
    fn constant(&self) -> Option<Tensor<'a>> {
        if !self.is("Constant") {
            return None;
        }
        let value = Message::read(self.attribute("value")?.borrowed(5)?)?;
        let tensor = Tensor::read(value)?;
        let is_weight = tensor.is(Element::F32) && tensor.count() >= FEWEST;
        is_weight.then(|| tensor.named(&self.outputs()[0]))
    }

    /// Every name that stands in a graph within this node, as loops and branches have one: it may be of a value outside.
    fn names_within(&self) -> Vec<String> {
        let graphs = |attribute: Message<'a>| {
            let graphs = attribute.all(6).chain(attribute.all(11));
            graphs.filter_map(nested).collect::<Vec<_>>()
        };
        let mut names = Vec::new();
        for graph in self.attributes().flat_map(graphs) {
            for node in graph.all(NODE).filter_map(nested).map(Node) {
                names.extend(node.inputs());
                names.extend(node.names_within());
            }
            let outputs = graph.all(OUTPUT).filter_map(nested);
            names.extend(outputs.map(|output| output.text(1).to_owned()));
        }
        names
    }
}

fn is_standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// The message in a field that was read.
fn nested<'a>(value: &Value<'a>) -> Option<Message<'a>> {
    match value {
        Value::Content(std::borrow::Cow::Borrowed(bytes)) => Message::read(bytes),
        Value::Message(message) => Some(message.clone()),
        _ => None,
    }
}

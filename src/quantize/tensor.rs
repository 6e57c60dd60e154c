//! A weight of a graph (onnx.proto's TensorProto): its shape, its values wherever they lie, and new ones.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use half::f16;

use super::message::{Message, Value, numbers};
use crate::error::Result;
use crate::graph_file;
use crate::mapped::Mapped;

/// Fields of TensorProto.
const DIMS: u32 = 1;
const DATA_TYPE: u32 = 2;
const FLOAT_DATA: u32 = 4;
const NAME: u32 = 8;
const RAW_DATA: u32 = 9;
const EXTERNAL_DATA: u32 = 13;
const DATA_LOCATION: u32 = 14;

/// Values in a data file begin at a multiple of this, as the format asks, so that they can be mapped.
const PAGE: u64 = 4096;

/// Element types, by their numbers in TensorProto.DataType.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    F32 = 1,
    U8 = 2,
    I8 = 3,
    I64 = 7,
    F16 = 10,
}

/// A graph's file and the data files beside it, as memory that is read when it is looked at.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) graph: Mapped,
    data: BTreeMap<String, Mapped>,
}

impl Files {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let open = |name: String| Ok((name.clone(), Mapped::open(&folder.join(name))?));
        let external = graph_file::read(path)?.external.into_iter();
        Ok(Self {
            graph: Mapped::open(path)?,
            data: external.map(open).collect::<Result<_>>()?,
        })
    }

    /// The names of the data files.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.data.keys()
    }

    /// Whether weights lie beside the graph.
    pub(super) fn are_several(&self) -> bool {
        !self.data.is_empty()
    }
}

/// A weight.
#[derive(Debug, Clone)]
pub(super) struct Tensor<'a> {
    pub(super) message: Message<'a>,
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// The number of its element type.
    element: u64,
}

impl<'a> Tensor<'a> {
    /// `None` if the message is no tensor.
    pub(super) fn read(message: Message<'a>) -> Option<Self> {
        let axes = numbers(&message, DIMS)?.into_iter();
        Some(Self {
            name: message.text(NAME).to_owned(),
            shape: axes
                .map(|axis| axis.try_into().ok())
                .collect::<Option<_>>()?,
            element: message.number(DATA_TYPE)?,
            message,
        })
    }

    /// This tensor under another name.
    pub(super) fn named(mut self, name: &str) -> Self {
        self.message = self.message.without(&[NAME]).with(NAME, name);
        name.clone_into(&mut self.name);
        self
    }

    pub(super) fn is(&self, element: Element) -> bool {
        self.element == element as u64
    }

    /// Whether it was stored in fewer bits than 32 already.
    pub(super) fn is_small(&self) -> bool {
        // float16, bfloat16, the kinds of 8 bits that weights have, and all below, but for bool.
        matches!(self.element, 2 | 3 | 10 | 16..)
    }

    /// The name of its element type, such as "float16".
    pub(super) fn element_name(&self) -> &'static str {
        graph_file::type_name(self.element)
    }

    /// How many values it has, or 0 where that cannot be.
    pub(super) fn count(&self) -> usize {
        let product = |count: usize, axis: &usize| count.checked_mul(*axis);
        self.shape.iter().try_fold(1, product).unwrap_or(0)
    }

    /// The values of a tensor of f32, or `None` if there are not as many as its shape says.
    pub(super) fn floats(&self, files: &'a Files) -> Option<Floats<'a>> {
        let bytes = match self.bytes(files) {
            Some(bytes) => Cow::Borrowed(bytes),
            None => self.float_data()?,
        };
        (bytes.len() == self.count().checked_mul(4)?).then_some(Floats(bytes))
    }

    /// The data file that ends before its values do, if that is so.
    pub(super) fn cut_off(&self, files: &Files) -> Option<String> {
        let place = self.place()??;
        let data = files.data.get(&place.location)?.bytes();
        let length = place.length.or(self.count().checked_mul(self.width()?));
        let end = place.offset.checked_add(length?)?;
        (end > data.len()).then_some(place.location)
    }

    /// How many bytes a value has, of the types that are read here.
    fn width(&self) -> Option<usize> {
        match self.element {
            1 => Some(4),
            2 | 3 | 9 => Some(1),
            7 | 11 => Some(8),
            10 | 16 => Some(2),
            _ => None,
        }
    }

    /// The little-endian bytes of its values, where it has them in one piece.
    fn bytes(&self, files: &'a Files) -> Option<&'a [u8]> {
        let Some(place) = self.place()? else {
            return self.message.borrowed(RAW_DATA);
        };
        let data = files.data.get(&place.location)?.bytes();
        let end = match place.length {
            Some(length) => place.offset.checked_add(length)?,
            None => data.len(),
        };
        data.get(place.offset..end)
    }

    /// Values in `float_data` lie one by one or packed, little-endian either way.
    fn float_data(&self) -> Option<Cow<'a, [u8]>> {
        if let Some(packed) = self.message.borrowed(FLOAT_DATA) {
            return Some(Cow::Borrowed(packed));
        }
        let one = |value: &Value<'_>| match value {
            Value::Four(bytes) => Some(*bytes),
            _ => None,
        };
        let values: Option<Vec<[u8; 4]>> = self.message.all(FLOAT_DATA).map(one).collect();
        Some(Cow::Owned(values?.concat()))
    }

    /// Where its values lie beside the graph; `Some(None)` where they lie inside.
    fn place(&self) -> Option<Option<Place>> {
        if self.message.number(DATA_LOCATION) != Some(1) {
            return Some(None);
        }
        let mut place = Place::default();
        for entry in self.message.all(EXTERNAL_DATA) {
            let entry = Message::read(entry.content()?)?;
            let value = entry.text(2);
            match entry.text(1) {
                "location" => value.clone_into(&mut place.location),
                "offset" => place.offset = value.parse().ok()?,
                "length" => place.length = Some(value.parse().ok()?),
                _ => {}
            }
        }
        Some(Some(place))
    }
}

/// Where values lie in a data file.
#[derive(Debug, Default)]
struct Place {
    location: String,
    offset: usize,
    length: Option<usize>,
}

/// Values of f32, read one by one from where they lie.
#[derive(Debug)]
pub(super) struct Floats<'a>(Cow<'a, [u8]>);

impl Floats<'_> {
    pub(super) fn at(&self, place: usize) -> f32 {
        let bytes = self.0[4 * place..].first_chunk();
        f32::from_le_bytes(*bytes.unwrap_or_else(|| unreachable!("values are whole")))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = f32> {
        let values = self.0.chunks_exact(4);
        values.map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }
}

/// Where the values of new tensors go: into the graph, or into a data file beside it, as those of the old one lay.
#[derive(Debug)]
pub(super) enum Store {
    Inside,
    Beside {
        name: String,
        file: BufWriter<File>,
        end: u64,
    },
}

impl Store {
    /// A tensor of these values, given as little-endian bytes.
    pub(super) fn tensor<'a>(
        &mut self,
        name: &str,
        shape: &[usize],
        element: Element,
        bytes: Vec<u8>,
    ) -> io::Result<Tensor<'a>> {
        let message = shape.iter().fold(Message::default(), |message, &axis| {
            message.with(DIMS, Value::Number(axis as u64))
        });
        let message = message
            .with(DATA_TYPE, Value::Number(element as u64))
            .with(NAME, name);
        let message = self.put(message, Cow::Owned(bytes))?;
        Ok(Tensor {
            message,
            name: name.to_owned(),
            shape: shape.to_vec(),
            element: element as u64,
        })
    }

    /// A tensor as it was; values that lay beside the old graph go beside the new one.
    pub(super) fn keep<'a>(
        &mut self,
        tensor: Tensor<'a>,
        files: &'a Files,
    ) -> io::Result<Option<Tensor<'a>>> {
        match tensor.place() {
            Some(None) => Ok(Some(tensor)),
            Some(Some(_)) if tensor.bytes(files).is_some() => {
                let bytes = tensor.bytes(files).unwrap_or_default();
                let bare = tensor.message.without(&[EXTERNAL_DATA, DATA_LOCATION]);
                let message = self.put(bare, Cow::Borrowed(bytes))?;
                Ok(Some(Tensor { message, ..tensor }))
            }
            _ => Ok(None),
        }
    }

    fn put<'a>(&mut self, message: Message<'a>, bytes: Cow<'a, [u8]>) -> io::Result<Message<'a>> {
        match self {
            // Some few bytes are no reason to look into another file.
            Store::Beside { .. } if bytes.len() < 1024 => Ok(message.with(RAW_DATA, bytes)),
            Store::Inside => Ok(message.with(RAW_DATA, bytes)),
            Store::Beside { name, file, end } => {
                let offset = end.next_multiple_of(PAGE);
                io::copy(&mut io::Read::take(io::repeat(0), offset - *end), file)?;
                file.write_all(&bytes)?;
                *end = offset + bytes.len() as u64;
                let pair = |key: &str, value: &str| Message::default().with(1, key).with(2, value);
                Ok(message
                    .with(EXTERNAL_DATA, pair("location", name))
                    .with(EXTERNAL_DATA, pair("offset", &offset.to_string()))
                    .with(EXTERNAL_DATA, pair("length", &bytes.len().to_string()))
                    .with(DATA_LOCATION, 1))
            }
        }
    }

    /// Sees to it that all lies on the disk.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Store::Inside => Ok(()),
            Store::Beside { file, .. } => file.into_inner()?.sync_all(),
        }
    }
}

/// Values of f32 as little-endian bytes.
pub(super) fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// How far values may be from what they were when they are kept in 16 bits, as a part of their norm. Those that f16 has
/// with all of its digits come to 2e-4. Single values, and channels that training left at almost nothing, may become 0:
/// they matter as little as their sizes, and every large weight has some.
const HALVES_ERROR: f64 = 1e-3;

/// Values as f16, or `None` if one is beyond its range, or they are so small that they lose their digits.
pub(super) fn f16_bytes(floats: &Floats<'_>) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(floats.0.len() / 2);
    let (mut norm, mut error) = (0f64, 0f64);
    for value in floats.iter() {
        let half = f16::from_f32(value);
        if !half.is_finite() {
            return None;
        }
        let (value, kept) = (f64::from(value), half.to_f64());
        norm += value * value;
        error += (value - kept) * (value - kept);
        bytes.extend(half.to_le_bytes());
    }
    (error.sqrt() <= HALVES_ERROR * norm.sqrt()).then_some(bytes)
}

//! What an `.onnx` file says of itself, read without loading it: its weights' types and data files, its inputs' kinds.
//!
//! Walks the file's protobuf fields (onnx.proto: ModelProto.graph 7, GraphProto.initializer 5 and input 11,
//! TensorProto.dims 1, data_type 2, external_data 13, ValueInfoProto.type 2, TypeProto.tensor_type 1, Tensor.shape 2,
//! TensorShapeProto.dim 1) and seeks past everything else, so that a graph of gigabytes costs a few reads.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use crate::error::{Error, Result};

/// The outside of a graph.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct GraphFile {
    /// How many values there are of each element type.
    pub(crate) values: BTreeMap<&'static str, u64>,
    /// The files beside the graph that hold weights, each once.
    pub(crate) external: Vec<String>,
    /// How many axes each input has.
    pub(crate) input_axes: Vec<usize>,
}

impl GraphFile {
    /// The element type of most values.
    pub(crate) fn precision(&self) -> &'static str {
        self.values
            .iter()
            .max_by_key(|(_, count)| **count)
            .map_or("no weights", |(name, _)| name)
    }
}

/// The weights of the graph in file `path`.
pub(crate) fn read(path: &Path) -> Result<GraphFile> {
    let file = File::open(path).map_err(Error::read(path))?;
    let size = file.metadata().map_err(Error::read(path))?.len();
    let mut fields = Fields {
        reader: BufReader::new(file),
        position: 0,
    };
    let mut weights = GraphFile::default();
    match fields.model(size, &mut weights) {
        Ok(()) => Ok(weights),
        Err(source) if source.kind() == io::ErrorKind::InvalidData => Err(no_graph(path)),
        Err(source) => Err(Error::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// That a file is no graph.
pub(crate) fn no_graph(path: &Path) -> Error {
    Error::Graph {
        path: path.to_owned(),
        action: "loaded",
        source: "it is no ONNX file, or it is damaged or cut off".into(),
    }
}

/// A field of a protobuf message: its number, and its value or the length of its content.
enum Field {
    Number(u64, u64),
    Content(u64, u64),
}

struct Fields<R> {
    reader: R,
    position: u64,
}

impl<R: Read + Seek> Fields<BufReader<R>> {
    fn model(&mut self, end: u64, weights: &mut GraphFile) -> io::Result<()> {
        let mut has_graph = false;
        while let Some(field) = self.next(end)? {
            match field {
                Field::Content(7, length) => {
                    has_graph = true;
                    self.graph(self.position + length, weights)?;
                }
                other => self.skip(&other)?,
            }
        }
        if has_graph { Ok(()) } else { Err(damaged()) }
    }

    fn graph(&mut self, end: u64, weights: &mut GraphFile) -> io::Result<()> {
        while let Some(field) = self.next(end)? {
            match field {
                Field::Content(5, length) => self.tensor(self.position + length, weights)?,
                Field::Content(11, length) => {
                    let axes = self.count_in(&[2, 1, 2, 1], self.position + length)?;
                    weights.input_axes.push(axes);
                }
                other => self.skip(&other)?,
            }
        }
        Ok(())
    }

    /// How often the last field of `path` stands in a message, by way of the others.
    fn count_in(&mut self, path: &[u64], end: u64) -> io::Result<usize> {
        let mut count = 0;
        while let Some(field) = self.next(end)? {
            match field {
                Field::Content(number, length) if number == path[0] && path.len() > 1 => {
                    count += self.count_in(&path[1..], self.position + length)?;
                }
                other => {
                    count += usize::from(
                        matches!(other, Field::Content(number, _) if number == path[0]),
                    );
                    self.skip(&other)?;
                }
            }
        }
        Ok(count)
    }

    fn tensor(&mut self, end: u64, weights: &mut GraphFile) -> io::Result<()> {
        let (mut count, mut code) = (1u64, 0);
        while let Some(field) = self.next(end)? {
            match field {
                // Axes come one by one, or packed into one field.
                Field::Number(1, axis) => count = count.saturating_mul(axis),
                Field::Content(1, length) => {
                    let end = self.position + length;
                    while self.position < end {
                        count = count.saturating_mul(self.varint()?);
                    }
                }
                Field::Number(2, number) => code = number,
                Field::Content(13, length) => self.external(self.position + length, weights)?,
                other => self.skip(&other)?,
            }
        }
        let values = weights.values.entry(type_name(code)).or_default();
        *values = values.saturating_add(count);
        Ok(())
    }

    /// One key and value of a tensor's external data; the key "location" names the file.
    fn external(&mut self, end: u64, weights: &mut GraphFile) -> io::Result<()> {
        let mut pair = [String::new(), String::new()];
        while let Some(field) = self.next(end)? {
            match field {
                Field::Content(number @ 1..=2, length) => {
                    pair[number as usize - 1] = self.text(length)?;
                }
                other => self.skip(&other)?,
            }
        }
        let [key, file] = pair;
        if key == "location" && !weights.external.contains(&file) {
            weights.external.push(file);
        }
        Ok(())
    }

    /// The next field of a message that ends at `end`.
    fn next(&mut self, end: u64) -> io::Result<Option<Field>> {
        if self.position >= end {
            return if self.position == end {
                Ok(None)
            } else {
                Err(damaged())
            };
        }
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Number(key >> 3, self.varint()?),
            1 => Field::Content(0, 8),
            2 => Field::Content(key >> 3, self.varint()?),
            5 => Field::Content(0, 4),
            _ => return Err(damaged()),
        };
        match field {
            Field::Content(_, length) if length > end.saturating_sub(self.position) => {
                Err(damaged())
            }
            field => Ok(Some(field)),
        }
    }

    fn skip(&mut self, field: &Field) -> io::Result<()> {
        if let Field::Content(_, length) = *field {
            self.reader
                .seek_relative(i64::try_from(length).map_err(|_| damaged())?)?;
            self.position += length;
        }
        Ok(())
    }

    fn text(&mut self, length: u64) -> io::Result<String> {
        // Keys and file names; a longer one is a sign of damage, not a reason to allocate.
        if length > 4096 {
            return Err(damaged());
        }
        let mut bytes = vec![0; length as usize];
        self.reader.read_exact(&mut bytes).map_err(|_| damaged())?;
        self.position += length;
        String::from_utf8(bytes).map_err(|_| damaged())
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.reader.read_exact(&mut byte).map_err(|_| damaged())?;
            self.position += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(damaged())
    }
}

fn damaged() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// Names of TensorProto.DataType, as far as weights use them.
pub(crate) fn type_name(code: u64) -> &'static str {
    match code {
        1 => "float32",
        2 => "uint8",
        3 => "int8",
        6 => "int32",
        7 => "int64",
        9 => "bool",
        10 => "float16",
        11 => "float64",
        16 => "bfloat16",
        21 => "uint4",
        22 => "int4",
        _ => "another type",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(number: u8, content: &[u8]) -> Vec<u8> {
        [
            &[number << 3 | 2, u8::try_from(content.len()).unwrap()],
            content,
        ]
        .concat()
    }

    fn read_bytes(bytes: &[u8]) -> Result<GraphFile> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        std::fs::write(&path, bytes).unwrap();
        read(&path)
    }

    /// A model of one float16 tensor of 3 × 4 in a file of its own, and one int8 tensor of 5 beside it.
    fn model() -> Vec<u8> {
        let location = [content(1, b"location"), content(2, b"model.onnx_data")].concat();
        let halves = [&[8, 3, 8, 4, 16, 10][..], &content(13, &location)].concat();
        let bytes = [&content(1, &[5])[..], &[16, 3], &content(9, &[0; 5])].concat();
        let graph = [content(2, b"name"), content(5, &halves), content(5, &bytes)].concat();
        [vec![8, 9], content(7, &graph)].concat()
    }

    #[test]
    fn types_and_files_are_found() {
        let weights = read_bytes(&model()).unwrap();
        assert_eq!(
            weights.values,
            BTreeMap::from([("float16", 12), ("int8", 5)])
        );
        assert_eq!(weights.external, ["model.onnx_data"]);
        assert_eq!(weights.precision(), "float16");
    }

    /// Two weights of 2^32 × 2^32 values each, which no number counts.
    #[test]
    fn sizes_beyond_all_numbers_are_no_overflow() {
        let axis = [8, 0x80, 0x80, 0x80, 0x80, 0x10];
        let tensor = content(5, &[&axis[..], &axis, &[16, 1]].concat());
        let weights = read_bytes(&content(7, &[tensor.clone(), tensor].concat())).unwrap();
        assert_eq!(weights.values, BTreeMap::from([("float32", u64::MAX)]));
    }

    #[test]
    fn every_cut_is_noticed() {
        let whole = model();
        for length in 0..whole.len() {
            let error = read_bytes(&whole[..length])
                .expect_err(&length.to_string())
                .to_string();
            assert!(error.contains("damaged or cut off"), "{error}");
        }
    }

    #[test]
    fn other_files_are_no_graphs() {
        for bytes in [
            &b"version https://git-lfs.github.com/spec/v1\n"[..],
            b"<!DOCTYPE html>",
            &[0xff; 64],
        ] {
            assert!(read_bytes(bytes).is_err());
        }
    }
}

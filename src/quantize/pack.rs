//! Weights in eight bits: whole numbers from −127 to 127, times a scale of a column, a row or a block.
//!
//! Pure: values in, bytes and scales out. Zero is always zero, so that what was pruned stays so.

use super::tensor::Floats;

/// The largest whole number of a weight. −128 is left out, so that both directions have as much.
const LARGEST: f32 = 127.0;

/// Weights of a block that share a scale.
pub(super) const BLOCK: usize = 32;

/// What [`blocks`] stores zero as.
const BLOCK_ZERO: i16 = 128;

/// Bytes of whole numbers, and their scales.
#[derive(Debug, PartialEq)]
pub(super) struct Packed {
    pub(super) bytes: Vec<u8>,
    pub(super) scales: Vec<f32>,
}

/// A matrix of K × N values, wherever they lie.
#[derive(Debug)]
pub(super) struct Matrix<'a> {
    pub(super) values: &'a Floats<'a>,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Whether it is stored column by column.
    pub(super) is_transposed: bool,
}

impl Matrix<'_> {
    fn at(&self, row: usize, column: usize) -> f32 {
        self.values.at(match self.is_transposed {
            true => column * self.rows + row,
            false => row * self.columns + column,
        })
    }

    /// The scale of each column between two rows.
    fn scales(&self, rows: std::ops::Range<usize>) -> Vec<f32> {
        let mut largest = vec![0f32; self.columns];
        for row in rows {
            for (column, largest) in largest.iter_mut().enumerate() {
                *largest = largest.max(self.at(row, column).abs());
            }
        }
        largest.into_iter().map(scale).collect()
    }
}

/// Signed bytes, row by row, K × N; a scale for each of the N columns.
pub(super) fn columns(matrix: &Matrix<'_>) -> Packed {
    let scales = matrix.scales(0..matrix.rows);
    let mut bytes = Vec::with_capacity(matrix.rows * matrix.columns);
    for row in 0..matrix.rows {
        let numbers = scales.iter().enumerate();
        bytes.extend(numbers.map(|(column, scale)| signed(matrix.at(row, column), *scale)));
    }
    Packed { bytes, scales }
}

/// Signed bytes, row by row; a scale for each row.
pub(super) fn rows(values: &Floats<'_>, count: usize, width: usize) -> Packed {
    let mut packed = Packed {
        bytes: Vec::with_capacity(count * width),
        scales: Vec::with_capacity(count),
    };
    for row in 0..count {
        let row = || (row * width..(row + 1) * width).map(|place| values.at(place));
        let scale = scale(row().fold(0f32, |largest, value| largest.max(value.abs())));
        packed.bytes.extend(row().map(|value| signed(value, scale)));
        packed.scales.push(scale);
    }
    packed
}

/// As `MatMulNBits` wants it: column after column, each in blocks of 32 rows, the last filled up with zeros; bytes
/// without a sign, a scale for each block.
pub(super) fn blocks(matrix: &Matrix<'_>) -> Packed {
    let count = matrix.rows.div_ceil(BLOCK);
    let mut packed = Packed {
        bytes: vec![BLOCK_ZERO as u8; matrix.columns * count * BLOCK],
        scales: vec![0.0; matrix.columns * count],
    };
    for block in 0..count {
        let rows = block * BLOCK..matrix.rows.min((block + 1) * BLOCK);
        let scales = matrix.scales(rows.clone());
        for (column, &scale) in scales.iter().enumerate() {
            let place = column * count + block;
            packed.scales[place] = scale;
            for (number, row) in rows.clone().enumerate() {
                let whole = i16::from(signed(matrix.at(row, column), scale).cast_signed());
                packed.bytes[place * BLOCK + number] = (whole + BLOCK_ZERO) as u8;
            }
        }
    }
    packed
}

/// The step between whole numbers where this is the largest value. Of nothing but zeros, any does.
fn scale(largest: f32) -> f32 {
    let scale = largest / LARGEST;
    if scale > 0.0 { scale } else { 1.0 }
}

fn signed(value: f32, scale: f32) -> u8 {
    let whole = (value / scale).round_ties_even().clamp(-LARGEST, LARGEST);
    (whole as i8).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::super::tensor::{Element, Store, f32_bytes};
    use super::*;
    use proptest::prelude::*;

    /// Values as a tensor has them.
    fn with_floats(values: &[f32], look: impl FnOnce(&Floats<'_>)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.onnx");
        // A model of an empty graph.
        std::fs::write(&path, [0x3a, 0]).unwrap();
        let files = super::super::tensor::Files::open(&path).unwrap();
        let bytes = f32_bytes(values);
        let mut message = Vec::new();
        let tensor = Store::Inside
            .tensor("w", &[values.len()], Element::F32, bytes)
            .unwrap();
        tensor.message.write(&mut message).unwrap();
        let message = super::super::message::Message::read(&message).unwrap();
        let tensor = super::super::tensor::Tensor::read(message).unwrap();
        // Leaked, since a tensor lives as long as its files.
        let files = Box::leak(Box::new(files));
        look(&tensor.floats(files).unwrap());
    }

    #[test]
    fn columns_and_rows_have_scales_of_their_own() {
        with_floats(&[1.0, -254.0, 0.0, 127.0, 0.5, 0.0], |values| {
            let mut matrix = Matrix {
                values,
                rows: 2,
                columns: 3,
                is_transposed: false,
            };
            let packed = columns(&matrix);
            assert_eq!(packed.scales, [1.0, 2.0, 1.0]);
            assert_eq!(packed.bytes, [1, 129, 0, 127, 0, 0]);
            matrix.is_transposed = true;
            // Stored as columns of two: (1, −254), (0, 127), (0.5, 0).
            let packed = columns(&matrix);
            assert_eq!(packed.scales, [2.0, 1.0, 0.5 / 127.0]);
            assert_eq!(packed.bytes, [0, 0, 127, 129, 127, 0]);
            let packed = rows(values, 2, 3);
            assert_eq!(packed.scales, [2.0, 1.0]);
            assert_eq!(packed.bytes, [0, 129, 0, 127, 0, 0]);
        });
    }

    proptest! {
        /// No value is further from what it was than half a step of its block, and what fills a block up is zero.
        #[test]
        fn blocks_are_near(values in prop::collection::vec(-3f32..3.0, 35 * 2)) {
            with_floats(&values, |floats| {
                let matrix = Matrix { values: floats, rows: 35, columns: 2, is_transposed: false };
                let packed = blocks(&matrix);
                assert_eq!((packed.bytes.len(), packed.scales.len()), (2 * 64, 4));
                for column in 0..2 {
                    for row in 0..64 {
                        let place = column * 64 + row;
                        let scale = packed.scales[place / BLOCK];
                        let found = (f32::from(packed.bytes[place]) - 128.0) * scale;
                        let expected = if row < 35 { values[row * 2 + column] } else { 0.0 };
                        assert!((found - expected).abs() <= 0.501 * scale);
                    }
                }
            });
        }
    }
}

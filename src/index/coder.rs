//! How rows and queries become bits. Pure: no file.
//!
//! Rows of a dual encoder lie in a narrow cone. What a row and a query have along its axis is a number each, known
//! exactly; the code is of what lies across the axis: the signs of its coordinates after a random rotation, and a
//! scale that makes an estimate without bias out of them. A query keeps four bits a coordinate.
//!
//! Source: RaBitQ (Gao and Long 2024), with an axis in place of a centre: texts lie far from the cone of images, and
//! the part of them that tells images apart is small.

use super::rotation::{Rotation, padded};
use super::rows::{Rows, dot};

const MAGIC: [u8; 8] = *b"diptychC";
const VERSION: u32 = 2;
/// Magic, version, width, rows the axis was made of, checksum of the axis; the axis follows.
const HEADER: usize = 32;
/// Rows whose codes lie together: their first bytes, their second bytes and so on, then their figures, a checksum, and
/// zeros up to the next line of a cache.
pub(super) const BLOCK: usize = 64;
const LINE: usize = 64;
const CHECKSUM: usize = 4;
/// A scale is stored as a share of this. Rows that spread over all coordinates have about 1.25 times their length, 2
/// at most; others may reach the limit, and their estimates are then too small.
pub(super) const LARGEST_SCALE: f32 = 4.0;
/// Rows that the axis is made of at most.
const AXIS_SAMPLE: usize = 10_000;
/// The highest level that a query's coordinate can have.
const HIGHEST_LEVEL: u8 = 15;
/// By how many deviations an estimate is wrong at most. Source: theorem 3.2 of the paper, where what is random is the
/// rotation; a row's scale tells how far its code lies from it.
const DEVIATIONS: f32 = 4.0;
/// By how much an estimate is wrong because rows and figures have 16 bits a value.
pub(super) const ROUNDING: f32 = 2e-4;
/// The sum of four of them.
pub(super) const LARGEST_ENTRY: u8 = 4 * HIGHEST_LEVEL;

/// What a block has of each row beside its bits, two bytes each, little-endian: its scale, its share along the axis, how
/// many of its bits are 1.
pub(super) type Figures = [[[u8; 2]; BLOCK]; 3];

/// The rotation, and the axis of the collection.
#[derive(Debug)]
pub(super) struct Coder {
    rotation: Rotation,
    /// The direction of the mean of all rows, or zeros where there is none.
    axis: Vec<f32>,
    /// Rows that the axis was made for.
    pub(super) basis: usize,
}

/// Bytes of the header of codes of rows of `width` values.
pub(super) fn header_length(width: usize) -> usize {
    (HEADER + 4 * width).next_multiple_of(LINE)
}

/// Bytes of a block of codes of rows of `width` values.
pub(super) fn block_length(width: usize) -> usize {
    (checked_length(width) + CHECKSUM).next_multiple_of(LINE)
}

/// Bytes of a block that its checksum is of.
fn checked_length(width: usize) -> usize {
    columns_length(width) + size_of::<Figures>()
}

fn columns_length(width: usize) -> usize {
    padded(width) / 8 * BLOCK
}

/// Whether a block is what was written.
pub(super) fn is_whole(block: &[u8], width: usize) -> bool {
    let (checked, rest) = block.split_at(checked_length(width));
    rest[..CHECKSUM] == crc32fast::hash(checked).to_le_bytes()
}

/// The columns and the figures of a block.
pub(super) fn parts(block: &[u8], width: usize) -> (&[u8], &Figures) {
    let (columns, rest) = block.split_at(columns_length(width));
    let figures = rest.as_chunks::<2>().0.as_chunks::<BLOCK>().0;
    (columns, figures.first_chunk().expect("a block has them"))
}

impl Coder {
    /// With the mean of `rows`, or of evenly spaced ones of them, as axis.
    pub(super) fn new(rows: &Rows, width: usize) -> Self {
        let step = rows.len().div_ceil(AXIS_SAMPLE).max(1);
        let mut axis = vec![0.0; width];
        let mut values = vec![0.0; width];
        for row in (0..rows.len()).step_by(step) {
            rows.read_into(row, &mut values);
            add(&mut axis, &values, 1.0);
        }
        let length = dot(&axis, &axis).sqrt();
        axis.iter_mut()
            .for_each(|value| *value /= length.max(f32::MIN_POSITIVE));
        Self {
            rotation: Rotation::new(width),
            axis,
            basis: rows.len(),
        }
    }

    pub(super) fn width(&self) -> usize {
        self.axis.len()
    }

    pub(super) fn header(&self) -> Vec<u8> {
        let axis: Vec<u8> = self
            .axis
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let mut header = Vec::from(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.extend((self.width() as u32).to_le_bytes());
        header.extend((self.basis as u64).to_le_bytes());
        header.extend(crc32fast::hash(&axis).to_le_bytes());
        header.resize(HEADER, 0);
        header.extend(axis);
        header.resize(header_length(self.width()), 0);
        header
    }

    /// What a header says; `None` if it is of something else, or damaged.
    pub(super) fn parse(bytes: &[u8], width: usize) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEADER)?;
        let axis = rest.get(..4 * width)?;
        let expected = [
            &MAGIC[..],
            &VERSION.to_le_bytes(),
            &(width as u32).to_le_bytes(),
        ]
        .concat();
        let checksum = crc32fast::hash(axis).to_le_bytes();
        if head[..16] != expected || head[24..28] != checksum {
            return None;
        }
        let axis = axis.as_chunks::<4>().0.iter();
        Some(Self {
            rotation: Rotation::new(width),
            axis: axis.map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            basis: u64::from_le_bytes(head[16..24].try_into().ok()?) as usize,
        })
    }

    /// What a row has along the axis; what it has across goes to `across`, rotated.
    fn split(&self, row: &[f32], across: &mut Vec<f32>) -> f32 {
        let along = dot(row, &self.axis);
        across.clear();
        across.extend_from_slice(row);
        add(across, &self.axis, -along);
        across.resize(self.rotation.width(), 0.0);
        self.rotation.apply(across);
        along
    }

    /// Appends a block to `bytes`: the codes of `BLOCK` rows.
    pub(super) fn encode(&self, rows: &[f32], bytes: &mut Vec<u8>) {
        let width = self.width();
        let start = bytes.len();
        bytes.resize(start + block_length(width), 0);
        let block = &mut bytes[start..];
        let (columns, figures) = block.split_at_mut(columns_length(width));
        let figures = figures.as_chunks_mut::<2>().0;
        let mut across = Vec::new();
        for (row, values) in rows.chunks_exact(width).enumerate() {
            let along = self.split(values, &mut across);
            let mut ones = 0;
            for (column, coordinates) in across.as_chunks::<8>().0.iter().enumerate() {
                let bit =
                    |byte, (place, value): (usize, &f32)| byte | (u8::from(*value >= 0.0) << place);
                let byte: u8 = coordinates.iter().enumerate().fold(0, bit);
                columns[BLOCK * column + row] = byte;
                ones += byte.count_ones() as u16;
            }
            let sum: f32 = across.iter().map(|value| value.abs()).sum();
            let root = (across.len() as f32).sqrt();
            let scale = dot(&across, &across) / sum.max(f32::MIN_POSITIVE) * root;
            let scale = (scale / LARGEST_SCALE * f32::from(u16::MAX)).round() as u16;
            let along = (along * f32::from(i16::MAX)).round() as i16;
            let of_row = [scale.to_le_bytes(), along.to_le_bytes(), ones.to_le_bytes()];
            for (number, figure) in of_row.into_iter().enumerate() {
                figures[BLOCK * number + row] = figure;
            }
        }
        let (checked, rest) = block.split_at_mut(checked_length(width));
        rest[..CHECKSUM].copy_from_slice(&crc32fast::hash(checked).to_le_bytes());
    }

    /// What a query brings to a scan.
    pub(super) fn query(&self, query: &[f32]) -> Query {
        let mut across = Vec::new();
        let along = self.split(query, &mut across);
        let largest = across
            .iter()
            .fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
        let step = 2.0 * largest / f32::from(HIGHEST_LEVEL);
        let levels: Vec<u8> = across
            .iter()
            .map(|value| ((value + largest) / step).round() as u8)
            .collect();
        let table = |levels: &[u8; 4]| {
            std::array::from_fn(|bits| {
                let is_one = |place: &usize| bits >> place & 1 == 1;
                (0..4).filter(is_one).map(|place| levels[place]).sum()
            })
        };
        let all: f32 = levels.iter().map(|level| f32::from(*level)).sum();
        Query {
            tables: levels.as_chunks().0.iter().map(table).collect(),
            along,
            of_bits: DEVIATIONS.powi(2) * dot(&across, &across) / across.len() as f32,
            of_levels: DEVIATIONS.powi(2) * step.powi(2) / 12.0,
            least: -largest,
            step,
            sum: step * all - largest * across.len() as f32,
            unit: (across.len() as f32).sqrt().recip(),
        }
    }
}

/// Adds `factor` times `values` to `sums`.
fn add(sums: &mut [f32], values: &[f32], factor: f32) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += factor * value;
    }
}

/// A query as the scan wants it: what it has across the axis, rotated, at 16 levels.
#[derive(Debug, Default)]
pub(super) struct Query {
    /// For every four coordinates, the sum of the levels of those whose bits are 1, for all 16 cases.
    pub(super) tables: Vec<[u8; 16]>,
    /// What it has along the axis.
    pub(super) along: f32,
    /// The square of by how much an estimate is wrong at most, but for one row in ten thousand, because of a row's code: for
    /// each 1 that the square of its scale has more than the square of what it has across the axis.
    pub(super) of_bits: f32,
    /// The same because of the query's levels, for each 1 of the square of a row's scale.
    pub(super) of_levels: f32,
    /// The value of level 0.
    pub(super) least: f32,
    /// From level to level.
    pub(super) step: f32,
    /// The sum of all coordinates.
    pub(super) sum: f32,
    /// The size of a coordinate of a row of unit length that has the same in all of them.
    pub(super) unit: f32,
}

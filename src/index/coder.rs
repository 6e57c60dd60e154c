//! How rows and queries become bits. Pure: no file.
//!
//! Rows of a dual encoder lie in a narrow cone. What a row and a query have along its axis is a number each, known
//! exactly; the code is of what lies across the axis: the signs of its coordinates after a random rotation, and a
//! scale that makes an estimate without bias out of them. A query keeps four bits a coordinate.
//!
//! Source: RaBitQ (Gao and Long 2024), with an axis in place of a centre: texts lie far from the cone of images, and
//! the part of them that tells images apart is small.

use super::rotation::Rotation;
use super::rows::{Rows, dot};

const MAGIC: [u8; 8] = *b"diptychC";
const VERSION: u32 = 1;
/// Magic, version, width, rows the axis was made of, checksum of the axis; the axis follows.
const HEADER: usize = 32;
/// Scale and share along the axis, 16 bits each, and a checksum.
pub(super) const FIGURES: usize = 8;
/// A scale is stored as a share of this. Rows that spread over all coordinates have about 1.25 times their length, 2
/// at most; others may reach the limit, and their estimates are then too small.
pub(super) const LARGEST_SCALE: f32 = 4.0;
/// Rows that the axis is made of at most.
const AXIS_SAMPLE: usize = 10_000;
/// Planes of bits that a query has.
pub(super) const PLANES: usize = 4;

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
    HEADER + 4 * width
}

/// Bytes of a code of a row of `width` values.
pub(super) fn record(width: usize) -> usize {
    super::rotation::padded(width) / 8 + FIGURES
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

    /// Appends the code of a row to `bytes`.
    pub(super) fn encode(&self, row: &[f32], across: &mut Vec<f32>, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        let along = self.split(row, across);
        for coordinates in across.as_chunks::<64>().0 {
            let bit =
                |word, (place, value): (usize, &f32)| word | (u64::from(*value >= 0.0) << place);
            let word: u64 = coordinates.iter().enumerate().fold(0, bit);
            bytes.extend(word.to_le_bytes());
        }
        let sum: f32 = across.iter().map(|value| value.abs()).sum();
        let scale = dot(across, across) / sum.max(f32::MIN_POSITIVE) * (across.len() as f32).sqrt();
        let scale = (scale / LARGEST_SCALE * f32::from(u16::MAX)).round() as u16;
        let along = (along * f32::from(i16::MAX)).round() as i16;
        bytes.extend(scale.to_le_bytes());
        bytes.extend(along.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[start..]);
        bytes.extend(checksum.to_le_bytes());
    }

    /// What a query brings to a scan.
    pub(super) fn query(&self, query: &[f32]) -> Query {
        let mut across = Vec::new();
        let along = self.split(query, &mut across);
        let largest = across
            .iter()
            .fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
        let step = 2.0 * largest / f32::from((1u16 << PLANES) - 1);
        let level = |value: &f32| ((value + largest) / step).round() as u64;
        let mut planes: [Vec<u64>; PLANES] = Default::default();
        for coordinates in across.as_chunks::<64>().0 {
            for (plane, words) in planes.iter_mut().enumerate() {
                let bit = |word, (place, value): (usize, &f32)| {
                    word | ((level(value) >> plane & 1) << place)
                };
                words.push(coordinates.iter().enumerate().fold(0, bit));
            }
        }
        let levels: u64 = across.iter().map(level).sum();
        Query {
            planes,
            along,
            length: dot(&across, &across).sqrt(),
            least: -largest,
            step,
            sum: step * levels as f32 - largest * across.len() as f32,
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

/// A query as the scan wants it: what it has across the axis, rotated, at 16 levels, bit by bit.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) planes: [Vec<u64>; PLANES],
    /// What it has along the axis.
    pub(super) along: f32,
    /// The length of what it has across.
    length: f32,
    /// The value of level 0.
    pub(super) least: f32,
    /// From level to level.
    pub(super) step: f32,
    /// The sum of all coordinates.
    pub(super) sum: f32,
    /// The size of a coordinate of a row of unit length that has the same in all of them.
    pub(super) unit: f32,
}

impl Query {
    /// By how much the estimate of a row whose cosine with the query reaches `cosine` is wrong at most, but for one in ten
    /// thousand.
    ///
    /// The deviation is that of the paper's theorem 3.2. It goes with what the row has across the query, which is no
    /// longer than from the one to the other, and with the steps between the query's levels.
    pub(super) fn error(&self, cosine: f32) -> f32 {
        const DEVIATIONS: f32 = 4.0;
        /// Rows and figures have 16 bits a value.
        const ROUNDING: f32 = 2e-4;
        let apart = (2.0 - 2.0 * cosine + ROUNDING).clamp(0.0, 1.0).sqrt();
        let of_bits = 0.76 * self.length * apart * self.unit;
        let of_levels = 1.26 * self.step / 12f32.sqrt();
        DEVIATIONS * of_bits.hypot(of_levels) + ROUNDING
    }
}

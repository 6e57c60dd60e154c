//! Compact codes of all rows: what a search scans before it looks at full rows.
//!
//! A code has one bit for each coordinate of the row less the centre of the collection, after a random rotation, and two
//! figures that make an estimate of a cosine out of the bits. Rows of a dual encoder lie in a narrow cone: without the
//! centre, nearly all of a bit would say where the cone is. Codes are made from the rows and can be made again; a file
//! that is missing, damaged or of another version is no error.
//!
//! Source: RaBitQ (Gao and Long 2024), with a query of four bits a coordinate.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::mapped::Mapped;
use super::rotation::Rotation;
use super::rows::{Rows, dot};
use crate::error::{Error, Result};

const MAGIC: [u8; 8] = *b"diptychC";
const VERSION: u32 = 1;
/// Magic, version, width, rows the centre was made of, checksum of the centre; the centre follows.
const HEADER: usize = 32;
/// Scale and offset, 16 bits each, and a checksum.
const FIGURES: usize = 8;
/// A scale is stored as a share of this. Rows that spread over all coordinates have about 1.25 times their length, 2
/// at most; others may reach the limit, and their estimates are then too small.
const LARGEST_SCALE: f32 = 4.0;
/// Rows that the centre is made of at most.
const CENTRE_SAMPLE: usize = 10_000;
/// A centre serves until there are this many times the rows it was made of.
const GROWTH: usize = 4;
const PLANES: usize = 4;

/// How rows become codes: the rotation, and the centre of the collection.
#[derive(Debug)]
pub(super) struct Coder {
    rotation: Rotation,
    centre: Vec<f32>,
    /// Rows that the centre was made for.
    basis: usize,
}

impl Coder {
    /// With the mean of `rows`, or of evenly spaced ones of them, as centre.
    fn new(rows: &Rows, width: usize) -> Self {
        let step = rows.len().div_ceil(CENTRE_SAMPLE).max(1);
        let mut centre = vec![0.0; width];
        let mut values = vec![0.0; width];
        let sampled = (0..rows.len()).step_by(step);
        let count = sampled.len().max(1) as f32;
        for row in sampled {
            rows.read_into(row, &mut values);
            centre
                .iter_mut()
                .zip(&values)
                .for_each(|(sum, value)| *sum += value);
        }
        centre.iter_mut().for_each(|sum| *sum /= count);
        Self {
            rotation: Rotation::new(width),
            centre,
            basis: rows.len(),
        }
    }

    fn width(&self) -> usize {
        self.centre.len()
    }

    /// Bytes of a code.
    fn record(&self) -> usize {
        self.rotation.width() / 8 + FIGURES
    }

    fn header(&self) -> Vec<u8> {
        let centre: Vec<u8> = self
            .centre
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let mut header = Vec::from(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.extend((self.width() as u32).to_le_bytes());
        header.extend((self.basis as u64).to_le_bytes());
        header.extend(crc32fast::hash(&centre).to_le_bytes());
        header.resize(HEADER, 0);
        header.extend(centre);
        header
    }

    fn parse(bytes: &[u8], width: usize) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEADER)?;
        let centre = rest.get(..4 * width)?;
        let expected = [
            &MAGIC[..],
            &VERSION.to_le_bytes(),
            &(width as u32).to_le_bytes(),
        ]
        .concat();
        let checksum = crc32fast::hash(centre).to_le_bytes();
        if head[..16] != expected || head[24..28] != checksum {
            return None;
        }
        let centre = centre
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes));
        Some(Self {
            rotation: Rotation::new(width),
            centre: centre.collect(),
            basis: u64::from_le_bytes(head[16..24].try_into().ok()?) as usize,
        })
    }

    /// The rotated difference of a row to the centre.
    fn rotated(&self, row: &[f32], residual: &mut Vec<f32>) {
        residual.clear();
        residual.extend(
            row.iter()
                .zip(&self.centre)
                .map(|(value, centre)| value - centre),
        );
        residual.resize(self.rotation.width(), 0.0);
        self.rotation.apply(residual);
    }

    /// Appends the code of a row to `bytes`.
    fn encode(&self, row: &[f32], residual: &mut Vec<f32>, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        self.rotated(row, residual);
        for coordinates in residual.as_chunks::<64>().0 {
            let bit =
                |word, (place, value): (usize, &f32)| word | (u64::from(*value >= 0.0) << place);
            let word: u64 = coordinates.iter().enumerate().fold(0, bit);
            bytes.extend(word.to_le_bytes());
        }
        let squared = dot(residual, residual);
        let sum: f32 = residual.iter().map(|value| value.abs()).sum();
        let scale = if sum > 0.0 {
            squared / sum * (residual.len() as f32).sqrt()
        } else {
            0.0
        };
        let scale = (scale / LARGEST_SCALE * f32::from(u16::MAX)).round() as u16;
        let offset = (dot(row, &self.centre) * f32::from(i16::MAX)).round() as i16;
        bytes.extend(scale.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[start..]);
        bytes.extend(checksum.to_le_bytes());
    }

    /// What a query brings to a scan.
    fn query(&self, query: &[f32]) -> Query {
        let offset = dot(query, &self.centre) - dot(&self.centre, &self.centre);
        let mut residual = Vec::new();
        self.rotated(query, &mut residual);
        let largest = residual
            .iter()
            .fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
        let step = 2.0 * largest / f32::from((1u16 << PLANES) - 1);
        let mut planes: [Vec<u64>; PLANES] = Default::default();
        for coordinates in residual.as_chunks::<64>().0 {
            let mut words = [0u64; PLANES];
            for (place, value) in coordinates.iter().enumerate() {
                let level = ((value + largest) / step).round() as u64;
                for (plane, word) in words.iter_mut().enumerate() {
                    *word |= (level >> plane & 1) << place;
                }
            }
            planes
                .iter_mut()
                .zip(words)
                .for_each(|(plane, word)| plane.push(word));
        }
        let levels: u32 = planes
            .iter()
            .enumerate()
            .map(|(plane, words)| ones(words) << plane)
            .sum();
        let sum = step * levels as f32 - largest * residual.len() as f32;
        Query {
            planes,
            least: -largest,
            step,
            sum,
            offset,
            root: (residual.len() as f32).sqrt(),
        }
    }
}

fn ones(words: &[u64]) -> u32 {
    words.iter().map(|word| word.count_ones()).sum()
}

/// A query as the scan wants it: its coordinates, less the centre and rotated, at 16 levels, bit by bit.
#[derive(Debug)]
struct Query {
    planes: [Vec<u64>; PLANES],
    /// The value of level 0.
    least: f32,
    /// From level to level.
    step: f32,
    /// The sum of all coordinates.
    sum: f32,
    /// What all estimates have in common.
    offset: f32,
    /// Of the number of coordinates.
    root: f32,
}

/// Codes that can be scanned.
#[derive(Debug)]
pub(super) struct Codes {
    map: Mapped,
    coder: Coder,
    count: usize,
}

impl Codes {
    /// The codes in the file at `path`, of the first `rows` rows at most, up to the first that is damaged. The first
    /// `trusted` were looked at before. `None` where there are none, or their centre no longer fits.
    pub(super) fn open(path: &Path, width: usize, rows: usize, trusted: usize) -> Option<Self> {
        let map = Mapped::open(path).ok()?;
        let coder = Coder::parse(map.bytes(), width)?;
        let codes = map.bytes()[HEADER + 4 * width..].chunks_exact(coder.record());
        let is_whole = |code: &[u8]| {
            let (code, checksum) = code.split_at(code.len() - 4);
            crc32fast::hash(code).to_le_bytes() == checksum
        };
        let known = trusted.min(codes.len()).min(rows);
        let checked = codes
            .take(rows)
            .skip(known)
            .take_while(|code| is_whole(code));
        let count = known + checked.count();
        (rows <= coder.basis.saturating_mul(GROWTH)).then_some(Self { map, coder, count })
    }

    /// How many rows have a code: the first ones.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// By how much the estimate of a row near `query` is too low at most, but for one in thousands.
    ///
    /// The deviation is that of the paper's theorem 3.2 for rows as far from the centre as the query.
    pub(super) fn error(&self, query: &[f32]) -> f32 {
        const DEVIATIONS: f32 = 4.0;
        let distance = |(value, centre): (&f32, &f32)| (value - centre) * (value - centre);
        let squared: f32 = query.iter().zip(&self.coder.centre).map(distance).sum();
        DEVIATIONS * 0.75 * squared / (self.coder.rotation.width() as f32).sqrt() + 0.01
    }

    /// Estimates the cosine of `query` with each row of `range`, and hands it to `each` with the row.
    pub(super) fn scan(
        &self,
        query: &[f32],
        range: std::ops::Range<usize>,
        mut each: impl FnMut(usize, f32),
    ) {
        let query = self.coder.query(query);
        let record = self.coder.record();
        let start = HEADER + 4 * self.coder.width();
        let mut estimates = [0.0; RUN];
        let mut first = range.start;
        while first < range.end {
            let count = RUN.min(range.end - first);
            let codes = &self.map.bytes()[start + first * record..start + (first + count) * record];
            scan::estimate(&query, codes, &mut estimates[..count]);
            for (row, estimate) in (first..).zip(&estimates[..count]) {
                each(row, *estimate);
            }
            first += count;
        }
    }
}

/// Rows that are estimated at once, which their codes leave in the nearest cache.
const RUN: usize = 256;

/// Writes the codes of rows that have none yet, all of them again where the centre no longer fits, to `path`.
///
/// # Errors
///
/// [`Error::Write`]; the codes are then those of fewer rows, or none.
pub(super) fn bring_up_to_date(
    path: &Path,
    codes: Option<&Codes>,
    rows: &Rows,
    width: usize,
) -> Result<()> {
    let written = match codes {
        Some(codes) if codes.len() == rows.len() => return Ok(()),
        Some(codes) => append(path, codes, rows),
        None => rewrite(path, rows, width),
    };
    written.map_err(Error::write(path))
}

fn append(path: &Path, codes: &Codes, rows: &Rows) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let start = HEADER + 4 * codes.coder.width() + codes.count * codes.coder.record();
    file.seek(SeekFrom::Start(start as u64))?;
    write(&codes.coder, rows, codes.count, file)
}

/// In another file, which then takes this one's place: whoever maps the old one keeps it.
fn rewrite(path: &Path, rows: &Rows, width: usize) -> io::Result<()> {
    let coder = Coder::new(rows, width);
    let partial: PathBuf = path.with_extension("partial");
    let mut file = File::create(&partial)?;
    file.write_all(&coder.header())?;
    write(&coder, rows, 0, file)?;
    fs::rename(&partial, path)
}

fn write(coder: &Coder, rows: &Rows, first: usize, file: File) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let mut values = vec![0.0; coder.width()];
    let (mut residual, mut bytes) = (Vec::new(), Vec::new());
    for row in first..rows.len() {
        rows.read_into(row, &mut values);
        bytes.clear();
        coder.encode(&values, &mut residual, &mut bytes);
        file.write_all(&bytes)?;
    }
    file.flush()
}

/// The inner loop, compiled for what the processor can do.
mod scan {
    #![allow(
        unsafe_code,
        reason = "a function for a processor's instructions may be called where it has them alone"
    )]

    use super::{FIGURES, LARGEST_SCALE, PLANES, Query};

    /// An estimate for each code. The fastest of three compilations of the same source.
    pub(super) fn estimate(query: &Query, codes: &[u8], estimates: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512vpopcntdq")
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
            {
                // SAFETY: the processor has these instructions.
                return unsafe { estimate_avx512(query, codes, estimates) };
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
                // SAFETY: the processor has these instructions.
                return unsafe { estimate_avx2(query, codes, estimates) };
            }
        }
        estimate_plain(query, codes, estimates);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512vl,avx512vpopcntdq,popcnt")]
    fn estimate_avx512(query: &Query, codes: &[u8], estimates: &mut [f32]) {
        estimate_plain(query, codes, estimates);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,popcnt")]
    fn estimate_avx2(query: &Query, codes: &[u8], estimates: &mut [f32]) {
        estimate_plain(query, codes, estimates);
    }

    /// Widths that models have are known to the compiler, so that it can keep a code in registers.
    #[inline(always)]
    fn estimate_plain(query: &Query, codes: &[u8], estimates: &mut [f32]) {
        match query.planes[0].len() {
            4 => estimate_words::<4>(query, codes, estimates),
            6 => estimate_words::<6>(query, codes, estimates),
            8 => estimate_words::<8>(query, codes, estimates),
            10 => estimate_words::<10>(query, codes, estimates),
            12 => estimate_words::<12>(query, codes, estimates),
            16 => estimate_words::<16>(query, codes, estimates),
            words => estimate_any(query, words, codes, estimates),
        }
    }

    #[inline(always)]
    fn estimate_words<const WORDS: usize>(query: &Query, codes: &[u8], estimates: &mut [f32]) {
        let planes: [[u64; WORDS]; PLANES] =
            std::array::from_fn(|plane| std::array::from_fn(|word| query.planes[plane][word]));
        for (code, estimate) in codes.chunks_exact(8 * WORDS + FIGURES).zip(estimates) {
            let mut bits = [0; WORDS];
            for (word, bytes) in bits.iter_mut().zip(code.as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            let (mut set, mut levels) = (0, 0);
            for word in 0..WORDS {
                set += u64::from(bits[word].count_ones());
                for (plane, words) in planes.iter().enumerate() {
                    levels += u64::from((bits[word] & words[word]).count_ones()) << plane;
                }
            }
            *estimate = finish(query, &code[8 * WORDS..], set, levels);
        }
    }

    fn estimate_any(query: &Query, words: usize, codes: &[u8], estimates: &mut [f32]) {
        for (code, estimate) in codes.chunks_exact(8 * words + FIGURES).zip(estimates) {
            let (mut set, mut levels) = (0, 0);
            for (word, bytes) in code[..8 * words].as_chunks::<8>().0.iter().enumerate() {
                let bits = u64::from_le_bytes(*bytes);
                set += u64::from(bits.count_ones());
                for (plane, words) in query.planes.iter().enumerate() {
                    levels += u64::from((bits & words[word]).count_ones()) << plane;
                }
            }
            *estimate = finish(query, &code[8 * words..], set, levels);
        }
    }

    /// From counts to a cosine: `set` bits of the code are 1, and `levels` is the sum of the query's levels there.
    #[inline(always)]
    fn finish(query: &Query, figures: &[u8], set: u64, levels: u64) -> f32 {
        let scale = u16::from_le_bytes([figures[0], figures[1]]);
        let offset = i16::from_le_bytes([figures[2], figures[3]]);
        let scale = f32::from(scale) * (LARGEST_SCALE / f32::from(u16::MAX));
        let offset = f32::from(offset) / f32::from(i16::MAX);
        let at_ones = query.least * set as f32 + query.step * levels as f32;
        query.offset + offset + scale * (2.0 * at_ones - query.sum) / query.root
    }
}

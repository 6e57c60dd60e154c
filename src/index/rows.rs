//! The file of full rows: fixed-size records, appended and mapped.
//!
//! A record is a row as whole numbers of 16 bits, the step between them as f32, so that the largest is 32,767, and a
//! checksum. That is as small as f16 and far more exact. Which records count, the catalog says; what lies behind the last
//! of them was written and never named, and is written over. A record that was named is never changed, so that a reader
//! needs no lock.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::scan::{dot_numbers, prefetch};
use crate::embedding::Embeddings;
use crate::error::{Error, Result};
use crate::mapped::Mapped;

const MAGIC: [u8; 8] = *b"diptychR";
const VERSION: u32 = 1;
/// Magic, version, width, and room to come.
pub(super) const HEADER: usize = 64;
const STEP: usize = 4;
const CHECKSUM: usize = 4;

/// The way back from a file of rows that is none.
const WAY_BACK: &str =
    "encode everything again into a new folder with --index, or restore the file";
/// The way back from a damaged row.
const WAY_BACK_OF_ROW: &str =
    "run diptych check, which names the file and says what to do, or restore the file";

/// Bytes of a record of `width` values.
pub(super) fn record(width: usize) -> usize {
    2 * width + STEP + CHECKSUM
}

fn header(width: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&(width as u32).to_le_bytes());
    header
}

/// Rows that can be read.
#[derive(Debug)]
pub(super) struct Rows {
    path: PathBuf,
    map: Mapped,
    width: usize,
    count: usize,
}

impl Rows {
    /// The first `count` rows of the file at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if it is another file, of another width, or shorter than its rows.
    pub(super) fn open(path: &Path, width: usize, count: usize) -> Result<Self> {
        let damaged = |problem: String| Error::damaged(path, problem, WAY_BACK);
        let map = Mapped::open(path).map_err(|error| match error {
            Error::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                damaged("it is missing".to_owned())
            }
            error => error,
        })?;
        let found = map.bytes().get(..HEADER).unwrap_or_default();
        if found != header(width) {
            return Err(damaged(header_problem(found, width)));
        }
        let needed = count.saturating_mul(record(width)).saturating_add(HEADER);
        if map.bytes().len() < needed {
            let length = map.bytes().len();
            return Err(damaged(format!(
                "it has {length} bytes, and its {count} rows need {needed}"
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            map,
            width,
            count,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn record(&self, row: usize) -> &[u8] {
        assert!(row < self.count, "row {row} of {}", self.count);
        let start = HEADER + row * record(self.width);
        &self.map.bytes()[start..start + record(self.width)]
    }

    /// The cosine of row `row` with a unit row.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if the row is not what was written: it might hide a hit, or be a wrong one.
    pub(super) fn score(&self, row: usize, query: &[f32]) -> Result<f32> {
        self.check(row)?;
        let (numbers, step) = self.values(row);
        Ok(step * dot_numbers(numbers, query))
    }

    /// The whole numbers of a row, and the step between them.
    fn values(&self, row: usize) -> (&[u8], f32) {
        let (numbers, rest) = self.record(row).split_at(2 * self.width);
        let step = rest.first_chunk().expect("a record has a step");
        (numbers, f32::from_le_bytes(*step))
    }

    /// Asks for a row that will soon be looked at.
    pub(super) fn prefetch(&self, row: usize) {
        const CACHE_LINE: usize = 64;
        prefetch(self.record(row), CACHE_LINE);
    }

    /// Copies row `row` to `values`, without looking at its checksum.
    pub(super) fn read_into(&self, row: usize, values: &mut [f32]) {
        let (numbers, step) = self.values(row);
        for (value, bytes) in values.iter_mut().zip(numbers.as_chunks::<2>().0) {
            *value = step * f32::from(i16::from_le_bytes(*bytes));
        }
    }

    /// Row `row`, once its checksum was found right.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if it is not what was written.
    pub(super) fn check(&self, row: usize) -> Result<()> {
        if row >= self.count {
            let problem = format!("it has no row {row}, which the catalog names");
            return Err(Error::damaged(&self.path, problem, WAY_BACK));
        }
        let record = self.record(row);
        let (checked, checksum) = record.split_at(record.len() - CHECKSUM);
        if crc32fast::hash(checked).to_le_bytes() != checksum {
            let problem = format!("row {row} is not what was written");
            return Err(Error::damaged(&self.path, problem, WAY_BACK_OF_ROW));
        }
        Ok(())
    }
}

fn header_problem(found: &[u8], width: usize) -> String {
    if found.len() < HEADER || found[..8] != MAGIC {
        return "it does not begin as a file of rows does".to_owned();
    }
    let number =
        |at: usize| u32::from_le_bytes([found[at], found[at + 1], found[at + 2], found[at + 3]]);
    let (version, found_width) = (number(8), number(12));
    if version != VERSION {
        return format!("it has format version {version}, and this diptych knows {VERSION}");
    }
    format!("its rows are {found_width} wide, and the catalog's {width}")
}

/// In several sums, which the compiler can keep in one vector.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// Rows that can be appended.
#[derive(Debug)]
pub(super) struct Appender {
    path: PathBuf,
    file: File,
    width: usize,
}

impl Appender {
    /// A new file of rows of `width` values.
    pub(super) fn create(path: &Path, width: usize) -> Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .map_err(Error::write(path))?;
        file.write_all(&header(width))
            .and_then(|()| file.sync_all())
            .map_err(Error::write(path))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            width,
        })
    }

    /// The file at `path`, which the caller knows to be whole.
    pub(super) fn open(path: &Path, width: usize) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(path);
        let mut file = file.map_err(Error::write(path))?;
        let mut found = [0; HEADER];
        file.read_exact(&mut found).map_err(Error::read(path))?;
        if found != header(width) {
            return Err(Error::damaged(
                path,
                header_problem(&found, width),
                WAY_BACK,
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            width,
        })
    }

    /// Writes `rows`, rounded, behind the first `count` records, over whatever was left there, and waits for the
    /// disk.
    pub(super) fn append(&mut self, count: usize, rows: &Embeddings) -> Result<()> {
        self.write(count, rows).map_err(Error::write(&self.path))
    }

    /// Writes the records of these rows of another file, bit for bit, as the first ones of this, and waits for the disk.
    pub(super) fn copy(&mut self, rows: &Rows, numbers: &[usize]) -> Result<()> {
        let mut file = BufWriter::with_capacity(1 << 20, &self.file);
        for &row in numbers {
            rows.check(row)?;
            file.write_all(rows.record(row))
                .map_err(Error::write(&self.path))?;
        }
        let written = file.flush().and_then(|()| self.file.sync_data());
        written.map_err(Error::write(&self.path))
    }

    fn write(&mut self, count: usize, rows: &Embeddings) -> io::Result<()> {
        let start = HEADER + count * record(self.width);
        self.file.seek(SeekFrom::Start(start as u64))?;
        let mut file = BufWriter::with_capacity(1 << 20, &self.file);
        let mut bytes = Vec::with_capacity(record(self.width));
        for index in 0..rows.len() {
            bytes.clear();
            pack(rows.row(index), &mut bytes);
            file.write_all(&bytes)?;
        }
        file.flush()?;
        drop(file);
        self.file.sync_data()
    }
}

/// Appends the record of a row.
fn pack(row: &[f32], bytes: &mut Vec<u8>) {
    let step = step_of(row);
    bytes.extend(numbers(row, step).flat_map(i16::to_le_bytes));
    bytes.extend(step.to_le_bytes());
    bytes.extend(crc32fast::hash(bytes).to_le_bytes());
}

/// The step at which the largest value of a row is the largest number.
pub(super) fn step_of(row: &[f32]) -> f32 {
    let largest = row
        .iter()
        .fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    largest / f32::from(i16::MAX)
}

/// The whole numbers nearest to the values of a row, counted in steps.
pub(super) fn numbers(row: &[f32], step: f32) -> impl Iterator<Item = i16> {
    // Beside this, an f32 has no room for fractions, and its last bits are the number. Rounding by a function takes as
    // long as all else that is done with a row.
    const NO_FRACTIONS: f32 = 1.5 * (1 << 23) as f32;
    let a_step = step.recip();
    row.iter()
        .map(move |value| (value * a_step + NO_FRACTIONS).to_bits() as i16)
}

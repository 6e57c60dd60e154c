//! The file of compact codes of all rows: what a search scans before it looks at full rows.
//!
//! Codes are made from the rows and can be made again; a file that is missing, damaged or of another version is no
//! error. `coder.rs` says what a code is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::coder::{self, Coder, Query};
use super::mapped::Mapped;
use super::parts::in_parts;
use super::rows::Rows;
use super::scan;
use crate::error::{Error, Result};

/// An axis serves until there are this many times the rows it was made of.
const GROWTH: usize = 4;
/// Rows that are estimated at once: their codes stay in the nearest cache.
const RUN: usize = 64;
/// Bytes that lie together in memory: asking for one of them is enough.
const PAGE: usize = 4096;
/// Rows whose codes are made between two writes.
const BLOCK: usize = 1 << 16;
/// Rows whose codes a thread must have to make for its start to pay.
const ROWS_A_THREAD: usize = 1000;

/// Codes that can be scanned.
#[derive(Debug)]
pub(super) struct Codes {
    map: Mapped,
    coder: Coder,
    count: usize,
}

impl Codes {
    /// The codes in the file at `path`, of the first `rows` rows at most, up to the first that is damaged. The first
    /// `trusted` were looked at before. `None` where there are none, or their axis may no longer fit.
    pub(super) fn open(path: &Path, width: usize, rows: usize, trusted: usize) -> Option<Self> {
        // Those that 32 bits can number; the rest is looked at row by row.
        let rows = rows.min(u32::MAX as usize);
        let map = Mapped::open(path).ok()?;
        let coder = Coder::parse(map.bytes(), width)?;
        let codes = map.bytes()[coder::header_length(width)..].chunks_exact(coder::record(width));
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

    /// What a query brings to a scan.
    pub(super) fn query(&self, query: &[f32]) -> Query {
        self.coder.query(query)
    }

    /// Estimates the cosine of `query` with each row of `range`, and hands it to `each` with the row.
    pub(super) fn scan(
        &self,
        query: &Query,
        range: Range<usize>,
        mut each: impl FnMut(usize, f32),
    ) {
        let mut estimates = [0.0; RUN];
        for first in range.clone().step_by(RUN) {
            let end = range.end.min(first + RUN);
            let estimates = &mut estimates[..end - first];
            let next = range.end.min(end + RUN);
            scan::prefetch(&self.map.bytes()[self.place(end)..self.place(next)], PAGE);
            scan::estimate(
                query,
                &self.map.bytes()[self.place(first)..self.place(end)],
                estimates,
            );
            for (row, estimate) in (first..).zip(estimates) {
                each(row, *estimate);
            }
        }
    }

    /// Where in the file the code of a row begins.
    fn place(&self, row: usize) -> usize {
        length(self.coder.width(), row)
    }
}

/// Bytes of a file of the codes of `rows` rows.
fn length(width: usize, rows: usize) -> usize {
    coder::header_length(width) + rows * coder::record(width)
}

/// Removes codes of more rows than the catalog names: they were made for another catalog, which may have named other
/// rows.
pub(super) fn remove_if_longer(path: &Path, width: usize, rows: usize) {
    if path
        .metadata()
        .is_ok_and(|metadata| metadata.len() > length(width, rows) as u64)
    {
        let _ = fs::remove_file(path);
    }
}

/// Writes the codes of rows that have none yet, all of them again where the axis may no longer fit, to `path`.
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
    let appended = codes.is_some_and(|codes| append(path, codes, rows).is_ok());
    if appended {
        return Ok(());
    }
    rewrite(path, rows, width).map_err(Error::write(path))
}

fn append(path: &Path, codes: &Codes, rows: &Rows) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.seek(SeekFrom::Start(codes.place(codes.count) as u64))?;
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
    let mut file = BufWriter::new(file);
    for first in (first..rows.len()).step_by(BLOCK) {
        let count = BLOCK.min(rows.len() - first);
        let parts = in_parts(count, ROWS_A_THREAD, |part| {
            encode(coder, rows, first + part.start..first + part.end)
        });
        for part in parts {
            file.write_all(&part)?;
        }
    }
    file.flush()
}

/// The codes of some rows, one after the other.
fn encode(coder: &Coder, rows: &Rows, range: Range<usize>) -> Vec<u8> {
    let mut values = vec![0.0; coder.width()];
    let (mut across, mut bytes) = (Vec::new(), Vec::new());
    for row in range {
        rows.read_into(row, &mut values);
        coder.encode(&values, &mut across, &mut bytes);
    }
    bytes
}

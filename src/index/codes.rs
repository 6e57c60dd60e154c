//! The file of compact codes of all rows: what a search scans before it looks at full rows.
//!
//! Codes are made from the rows, in blocks, and can be made again; a file that is missing, damaged or of another version is no
//! error. `coder.rs` says what a code is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::coder::{self, BLOCK, Coder, Query};
use super::parts::in_parts;
use super::rows::Rows;
use super::scan;
use crate::error::{Error, Result};
use crate::mapped::Mapped;

/// An axis serves until there are this many times the rows it was made of.
const GROWTH: usize = 4;
/// Blocks that are made between two writes.
const BLOCKS_A_WRITE: usize = 1 << 10;
/// Blocks that a thread must have to make for its start to pay.
const BLOCKS_A_THREAD: usize = 16;

/// Codes that can be scanned.
#[derive(Debug)]
pub(super) struct Codes {
    map: Mapped,
    coder: Coder,
    blocks: usize,
}

impl Codes {
    /// The codes in the file at `path`, of the first `rows` rows at most, up to the first block that is damaged. Those
    /// of the first `trusted` rows were looked at before. `None` where there are none, or their axis may no longer fit.
    pub(super) fn open(path: &Path, width: usize, rows: usize, trusted: usize) -> Option<Self> {
        // Those that 32 bits can number; the rest is looked at row by row.
        let rows = rows.min(u32::MAX as usize);
        let map = Mapped::open(path).ok()?;
        let coder = Coder::parse(map.bytes(), width)?;
        let blocks = map.bytes().get(coder::header_length(width)..)?;
        let blocks = blocks.chunks_exact(coder::block_length(width));
        let known = (trusted.min(rows) / BLOCK).min(blocks.len());
        let checked = blocks
            .take(rows / BLOCK)
            .skip(known)
            .take_while(|block| coder::is_whole(block, width));
        let blocks = known + checked.count();
        (rows <= coder.basis.saturating_mul(GROWTH)).then_some(Self { map, coder, blocks })
    }

    /// How many rows have a code: the first ones.
    pub(super) fn len(&self) -> usize {
        self.blocks * BLOCK
    }

    /// How many blocks of rows that are.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    /// What a query brings to a scan.
    pub(super) fn query(&self, query: &[f32]) -> Query {
        self.coder.query(query)
    }

    /// Estimates the cosine of `query` with each row of some blocks, and hands `each` the row, the estimate, and by how much
    /// that is wrong at most, but for one in ten thousand.
    pub(super) fn scan(
        &self,
        query: &Query,
        blocks: Range<usize>,
        mut each: impl FnMut(usize, f32, f32),
    ) {
        let width = self.coder.width();
        for block in blocks {
            let bytes = &self.map.bytes()[length(width, block)..length(width, block + 1)];
            let (columns, figures) = coder::parts(bytes, width);
            let scan::Estimates { cosines, errors } = scan::estimate(query, columns, figures);
            for (row, (cosine, error)) in (block * BLOCK..).zip(cosines.into_iter().zip(errors)) {
                each(row, cosine, error);
            }
        }
    }
}

/// Bytes of a file of so many blocks.
fn length(width: usize, blocks: usize) -> usize {
    coder::header_length(width) + blocks * coder::block_length(width)
}

/// Removes codes of more rows than the catalog names: they were made for another catalog, which may have named other
/// rows.
pub(super) fn remove_if_longer(path: &Path, width: usize, rows: usize) {
    if path
        .metadata()
        .is_ok_and(|metadata| metadata.len() > length(width, rows / BLOCK) as u64)
    {
        let _ = fs::remove_file(path);
    }
}

/// Writes the codes of rows that have none yet, all of them again where the axis may no longer fit, to `path`. The last
/// rows, which fill no block, have none.
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
    file.seek(SeekFrom::Start(
        length(codes.coder.width(), codes.blocks) as u64
    ))?;
    write(&codes.coder, rows, codes.blocks, file)
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

/// From the block `first` on: as many as the rows fill.
fn write(coder: &Coder, rows: &Rows, first: usize, mut file: File) -> io::Result<()> {
    let end = rows.len() / BLOCK;
    for first in (first..end).step_by(BLOCKS_A_WRITE) {
        let count = BLOCKS_A_WRITE.min(end - first);
        let parts = in_parts(count, BLOCKS_A_THREAD, |part| {
            encode(coder, rows, first + part.start..first + part.end)
        });
        for part in parts {
            file.write_all(&part)?;
        }
    }
    Ok(())
}

/// Some blocks, one after the other.
fn encode(coder: &Coder, rows: &Rows, blocks: Range<usize>) -> Vec<u8> {
    let mut values = vec![0.0; BLOCK * coder.width()];
    let mut bytes = Vec::new();
    for block in blocks {
        for (row, values) in (block * BLOCK..).zip(values.chunks_exact_mut(coder.width())) {
            rows.read_into(row, values);
        }
        coder.encode(&values, &mut bytes);
    }
    bytes
}

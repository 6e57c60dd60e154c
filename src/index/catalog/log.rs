//! SQLite's log (`catalog.sqlite-wal`) as bytes: whether it holds changes that SQLite would pass over in silence.
//!
//! A log is a header and frames, each a page. A checksum of each goes on from the one before it; SQLite reads until one is
//! wrong, since that is what a change looks like that a power cut ended. Only the last change can be one of those: each
//! is on the disk before the next begins. Two that end behind a wrong checksum are two that were there and are damaged.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// Where salts lie: other ones after each new beginning of the log, whose old frames stay behind the new ones.
const SALT: std::ops::Range<usize> = 8..16;
/// Magic numbers of logs: checksums of little-endian words, of big-endian words.
const MAGIC: [u32; 2] = [0x377f_0682, 0x377f_0683];
/// Of a catalog's page, where the header does not tell.
const PAGE: usize = 4096;
/// A log may be looked at while it is written. What is damaged stays so.
const LOOKS: usize = 3;

const WAY_BACK: &str = "remove this file, which gives up the changes in it, then run diptych check, and diptych index again for \
     what is lost";

/// The log of a catalog.
pub(super) fn path_of(catalog: &Path) -> PathBuf {
    let mut name = OsString::from(catalog);
    name.push("-wal");
    name.into()
}

/// Refuses a log with changes behind a damaged place.
///
/// # Errors
///
/// [`Error::Damaged`], [`Error::Read`].
pub(super) fn require_whole(catalog: &Path) -> Result<()> {
    let path = path_of(catalog);
    let mut lost = 0;
    for _ in 0..LOOKS {
        lost = match File::open(&path).and_then(|file| ends_behind_damage(BufReader::new(file))) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            found => found.map_err(Error::read(&path))?,
        };
        if lost < 2 {
            return Ok(());
        }
    }
    let problem = format!("{lost} changes end behind a place that is not what was written");
    Err(Error::damaged(&path, problem, WAY_BACK))
}

/// How many changes end at the first frame that is not as it was written, or behind it.
fn ends_behind_damage(mut log: impl Read) -> io::Result<usize> {
    let mut header = [0; HEADER];
    if !fill(&mut log, &mut header)? {
        return Ok(0);
    }
    let is_big_endian = word(&header, 0) == MAGIC[1];
    let mut sum = checksum(is_big_endian, [0; 2], &header[..24]);
    let mut is_whole = MAGIC.contains(&word(&header, 0)) && sum == words(&header, 24);
    let page = if is_whole {
        word(&header, 8) as usize
    } else {
        PAGE
    };
    let mut salt = is_whole.then(|| words(&header, 16));
    let mut frame = vec![0; FRAME_HEADER + page];
    let mut ends = 0;
    while fill(&mut log, &mut frame)? {
        // Where the header does not tell, the first frame does.
        let is_of_now = words(&frame, SALT.start) == *salt.get_or_insert(words(&frame, SALT.start));
        let was_whole = is_whole;
        if is_whole {
            sum = checksum(is_big_endian, sum, &frame[..8]);
            sum = checksum(is_big_endian, sum, &frame[FRAME_HEADER..]);
            is_whole = is_of_now && sum == words(&frame, 16);
        }
        let is_end = word(&frame, 4) != 0;
        // The first bad one counts whatever its salt is: it may be that which is damaged.
        if is_end && !is_whole && (is_of_now || was_whole) {
            ends += 1;
        }
    }
    Ok(ends)
}

/// Whether there were as many bytes.
fn fill(log: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn words(bytes: &[u8], at: usize) -> [u32; 2] {
    [word(bytes, at), word(bytes, at + 4)]
}

/// SQLite's checksum of words in pairs, which goes on from another.
fn checksum(is_big_endian: bool, [mut a, mut b]: [u32; 2], bytes: &[u8]) -> [u32; 2] {
    for pair in bytes.as_chunks::<8>().0 {
        let [first, second] = words(pair, 0).map(|word| match is_big_endian {
            true => word,
            false => word.swap_bytes(),
        });
        a = a.wrapping_add(first).wrapping_add(b);
        b = b.wrapping_add(second).wrapping_add(a);
    }
    [a, b]
}

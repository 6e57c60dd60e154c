//! Rows in NumPy's `.npy` files: N × D, row after row, written and read some at a time.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use half::f16;
use ndarray::Array2;

use crate::embedding::Embeddings;
use crate::error::{Error, Result};

/// Room for the header, so that it can be written again when N has grown. A multiple of 64, as the format asks.
const HEADER: usize = 128;

/// How many bits a value of a `.npy` file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// float16, as large sets of rows are often kept.
    Half,
    /// float32.
    #[default]
    Single,
    /// float64, NumPy's own choice.
    Double,
}

impl Precision {
    const ALL: [Self; 3] = [Self::Half, Self::Single, Self::Double];

    /// As a header names it; the lowest byte comes first in all of them.
    fn name(self) -> &'static str {
        match self {
            Self::Half => "<f2",
            Self::Single => "<f4",
            Self::Double => "<f8",
        }
    }

    /// Bytes of a value.
    fn size(self) -> usize {
        match self {
            Self::Half => 2,
            Self::Single => 4,
            Self::Double => 8,
        }
    }

    fn push(self, value: f32, bytes: &mut Vec<u8>) {
        match self {
            Self::Half => bytes.extend(f16::from_f32(value).to_le_bytes()),
            Self::Single => bytes.extend(value.to_le_bytes()),
            Self::Double => bytes.extend(f64::from(value).to_le_bytes()),
        }
    }

    fn values(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::Half => {
                let halves = bytes.as_chunks().0.iter();
                halves
                    .map(|half| f16::from_le_bytes(*half).to_f32())
                    .collect()
            }
            Self::Single => {
                let values = bytes.as_chunks().0.iter();
                values.map(|value| f32::from_le_bytes(*value)).collect()
            }
            Self::Double => {
                let values = bytes.as_chunks().0.iter();
                values
                    .map(|value| f64::from_le_bytes(*value) as f32)
                    .collect()
            }
        }
    }
}

/// A `.npy` file that rows are added to.
///
/// The header is brought up to date at every [`NpyWriter::flush`], so that a file whose writer was killed holds all
/// rows up to the last flush.
#[derive(Debug)]
pub struct NpyWriter {
    path: PathBuf,
    file: BufWriter<File>,
    width: usize,
    /// How many rows belong together, where the file has an axis for them.
    group: Option<usize>,
    precision: Precision,
    rows: usize,
}

impl NpyWriter {
    /// An empty file of float32 rows of `width`, in place of any that was there.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] if it cannot be created.
    pub fn create(path: &Path, width: usize) -> Result<Self> {
        Self::create_with(path, width, Precision::default())
    }

    /// An empty file of float32 rows of `width`, of which `group` at a time belong together, in place of any that was
    /// there: its shape is N × `group` × `width`.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] if it cannot be created.
    ///
    /// # Panics
    ///
    /// If `group` is 0.
    pub fn create_grouped(path: &Path, group: usize, width: usize) -> Result<Self> {
        assert!(group > 0, "a group has rows");
        Self::create_new(path, width, Some(group), Precision::default())
    }

    /// An empty file of rows of `width`, in place of any that was there.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] if it cannot be created.
    pub fn create_with(path: &Path, width: usize, precision: Precision) -> Result<Self> {
        Self::create_new(path, width, None, precision)
    }

    fn create_new(
        path: &Path,
        width: usize,
        group: Option<usize>,
        precision: Precision,
    ) -> Result<Self> {
        let file = File::create(path).map_err(Error::write(path))?;
        let mut writer = Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            width,
            group,
            precision,
            rows: 0,
        };
        writer.flush()?;
        Ok(writer)
    }

    /// Adds rows at the end; whole groups of them, where the file has groups.
    ///
    /// # Errors
    ///
    /// [`Error::Width`] if they are of another width, [`Error::Write`] if the file cannot be written.
    pub fn write(&mut self, rows: &Embeddings) -> Result<()> {
        if rows.width() != self.width {
            return Err(Error::Width {
                found: rows.width(),
                expected: self.width,
            });
        }
        let mut bytes = Vec::with_capacity(self.width * self.precision.size());
        for index in 0..rows.len() {
            bytes.clear();
            for value in rows.row(index) {
                self.precision.push(*value, &mut bytes);
            }
            self.file
                .write_all(&bytes)
                .map_err(Error::write(&self.path))?;
        }
        self.rows += rows.len();
        Ok(())
    }

    /// Makes the file whole: all rows written, the header true.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] if the file cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.try_flush().map_err(Error::write(&self.path))
    }

    fn try_flush(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file
            .write_all(&header(&self.shape(), self.precision))?;
        self.file.seek(SeekFrom::End(0))?;
        self.file.flush()
    }
}

impl NpyWriter {
    fn shape(&self) -> Vec<usize> {
        match self.group {
            None => vec![self.rows, self.width],
            Some(group) => vec![self.rows / group, group, self.width],
        }
    }
}

/// Version 1.0 of the format, described in NumPy's `numpy.lib.format`.
fn header(shape: &[usize], precision: Precision) -> Vec<u8> {
    let name = precision.name();
    let axes: Vec<String> = shape.iter().map(usize::to_string).collect();
    let axes = axes.join(", ");
    let dict = format!("{{'descr': '{name}', 'fortran_order': False, 'shape': ({axes}), }}");
    let length = (HEADER - 10) as u16;
    let mut header = [
        b"\x93NUMPY\x01\x00",
        &length.to_le_bytes()[..],
        dict.as_bytes(),
    ]
    .concat();
    header.resize(HEADER - 1, b' ');
    header.push(b'\n');
    header
}

/// Writes all rows to one file.
pub(crate) fn write(path: &Path, rows: &Embeddings) -> Result<()> {
    let mut writer = NpyWriter::create(path, rows.width())?;
    writer.write(rows)?;
    writer.flush()
}

/// The N × D values of a file.
pub(crate) fn read(path: &Path) -> Result<Array2<f32>> {
    let mut reader = NpyReader::open(path)?;
    reader.next_rows(reader.left())
}

/// A `.npy` file whose rows are read some at a time.
#[derive(Debug)]
pub struct NpyReader {
    path: PathBuf,
    file: BufReader<File>,
    width: usize,
    precision: Precision,
    left: usize,
}

impl NpyReader {
    /// The file at `path`: float16, float32 or float64 values on two axes.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] if it cannot be read, is no such file, or is shorter than its header says.
    pub fn open(path: &Path) -> Result<Self> {
        Self::try_open(path).map_err(Error::read(path))
    }

    fn try_open(path: &Path) -> io::Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let header = npyz::NpyHeader::from_reader(&mut file)?;
        let shape = match header.shape() {
            &[rows, width] => usize::try_from(rows).ok().zip(usize::try_from(width).ok()),
            _ => None,
        };
        let (rows, width) = shape.ok_or_else(|| wrong("expected rows on two axes"))?;
        if header.order() != npyz::Order::C {
            return Err(wrong("its columns lie first, expected its rows"));
        }
        let found = header.dtype().descr();
        let precision = Precision::ALL
            .into_iter()
            .find(|precision| found.trim_matches('\'') == precision.name())
            .ok_or_else(|| {
                wrong(&format!(
                    "its values are {found}, expected '<f2', '<f4' or '<f8'"
                ))
            })?;
        let begin = file.stream_position()?;
        let needed = (rows as u64)
            .checked_mul(width as u64)
            .and_then(|values| values.checked_mul(precision.size() as u64))
            .and_then(|bytes| bytes.checked_add(begin));
        if needed.is_none_or(|needed| file.get_ref().metadata().is_ok_and(|m| m.len() < needed)) {
            return Err(wrong("it is cut off"));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            width,
            precision,
            left: rows,
        })
    }

    /// The width of each row, D.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many rows are still to be read; at first, all of them.
    pub fn left(&self) -> usize {
        self.left
    }

    /// The next `count` rows, or those that are left; values as they stand in the file, of whatever length.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub fn next_rows(&mut self, count: usize) -> Result<Array2<f32>> {
        let count = count.min(self.left);
        let mut bytes = vec![0; count * self.width * self.precision.size()];
        let read = self.file.read_exact(&mut bytes);
        read.map_err(Error::read(&self.path))?;
        self.left -= count;
        let values = self.precision.values(&bytes);
        let rows = Array2::from_shape_vec((count, self.width), values);
        rows.map_err(|error| Error::read(&self.path)(io::Error::other(error)))
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn rows_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.npy");
        let rows = Embeddings::new(array![[3.0, 4.0], [0.0, -1.0]]).unwrap();
        let mut writer = NpyWriter::create(&path, 2).unwrap();
        assert_eq!(read(&path).unwrap().dim(), (0, 2));
        for row in rows.split() {
            writer.write(&row).unwrap();
            writer.flush().unwrap();
        }
        assert_eq!(read(&path).unwrap(), rows.rows());
        assert!(matches!(
            writer.write(&Embeddings::empty(3)),
            Err(Error::Width {
                found: 3,
                expected: 2
            })
        ));
    }

    #[test]
    fn a_file_cut_off_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.npy");
        write(&path, &Embeddings::new(array![[3.0, 4.0]]).unwrap()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 5, 100, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(read(&path).is_err(), "{length}");
        }
    }

    #[test]
    fn every_precision_comes_back_some_rows_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.npy");
        let rows = Embeddings::new(array![[3.0, 4.0], [0.0, -1.0], [1.0, 0.0]]).unwrap();
        for (precision, tolerance) in [
            (Precision::Half, 5e-4),
            (Precision::Single, 0.0),
            (Precision::Double, 0.0),
        ] {
            let mut writer = NpyWriter::create_with(&path, 2, precision).unwrap();
            writer.write(&rows).unwrap();
            writer.flush().unwrap();
            let mut reader = NpyReader::open(&path).unwrap();
            assert_eq!((reader.left(), reader.width()), (3, 2));
            let mut found = Vec::new();
            while reader.left() > 0 {
                found.extend(reader.next_rows(2).unwrap());
            }
            assert_eq!(reader.next_rows(2).unwrap().nrows(), 0);
            for (found, expected) in found.iter().zip(rows.as_slice()) {
                assert!((found - expected).abs() <= tolerance, "{precision:?}");
            }
        }
    }

    #[test]
    fn files_of_other_values_or_axes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.npy");
        write(&path, &Embeddings::new(array![[3.0, 4.0]]).unwrap()).unwrap();
        let good = std::fs::read(&path).unwrap();
        for (from, to, said) in [
            ("<f4", "<i4", "expected '<f2', '<f4' or '<f8'"),
            ("<f4", ">f4", "expected '<f2', '<f4' or '<f8'"),
            ("False", "True ", "its columns lie first"),
            ("(1, 2)", "(2,)  ", "two axes"),
            ("(1, 2)", "(9, 2)", "cut off"),
        ] {
            let at = good
                .windows(from.len())
                .position(|part| part == from.as_bytes());
            let at = at.unwrap();
            let mut bad = good.clone();
            bad[at..at + from.len()].copy_from_slice(to.as_bytes());
            std::fs::write(&path, bad).unwrap();
            let error = NpyReader::open(&path).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}

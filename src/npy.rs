//! Rows in NumPy's `.npy` files: N × D, float32, row after row.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ndarray::Array2;

use crate::embedding::Embeddings;
use crate::error::{Error, Result};

/// Room for the header, so that it can be written again when N has grown. A multiple of 64, as the format asks.
const HEADER: usize = 128;

/// A `.npy` file that rows are added to.
///
/// The header is brought up to date at every [`NpyWriter::flush`], so that a file whose writer was killed holds all
/// rows up to the last flush.
#[derive(Debug)]
pub struct NpyWriter {
    path: PathBuf,
    file: BufWriter<File>,
    width: usize,
    rows: usize,
}

impl NpyWriter {
    /// An empty file of rows of `width`, in place of any that was there.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] if it cannot be created.
    pub fn create(path: &Path, width: usize) -> Result<Self> {
        let file = File::create(path).map_err(Error::write(path))?;
        let mut writer = Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            width,
            rows: 0,
        };
        writer.flush()?;
        Ok(writer)
    }

    /// Adds rows at the end.
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
        for value in rows.as_slice() {
            self.file
                .write_all(&value.to_le_bytes())
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
        self.file.write_all(&header(self.rows, self.width))?;
        self.file.seek(SeekFrom::End(0))?;
        self.file.flush()
    }
}

/// Version 1.0 of the format, described in NumPy's `numpy.lib.format`.
fn header(rows: usize, width: usize) -> Vec<u8> {
    let dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}");
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
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let wrong = |what: &str| failed(io::Error::new(io::ErrorKind::InvalidData, what));
    let bytes = std::fs::read(path).map_err(failed)?;
    let file = npyz::NpyFile::new(&bytes[..]).map_err(failed)?;
    let [rows, width] = file.shape()[..] else {
        return Err(wrong("it has not two axes"));
    };
    if file.order() != npyz::Order::C {
        return Err(wrong("its columns lie first"));
    }
    let values: Vec<f32> = file.into_vec().map_err(failed)?;
    Array2::from_shape_vec((rows as usize, width as usize), values)
        .map_err(|_| wrong("it is cut off"))
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
}

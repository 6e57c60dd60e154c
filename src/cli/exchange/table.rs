//! `metadata_0.parquet`: what rows are of, as a table; the only file that knows Parquet.
//!
//! Of an image, clip-retrieval has `image_path`, of a text `caption`. Beside those stand here what an index knows:
//! `size`, `modified` (nanoseconds since 1970), `hash` and, where that is known of an image, `taken`; of a text, `text_path`
//! and `text_id`. A table of others may
//! have any more columns, which are passed over, and none but the first.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use diptych::{Item, Kind, Place};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::Type;

use super::{Record, Stated, digits_of, hash_of};

const IMAGE_SCHEMA: &str = "message schema {
    REQUIRED BYTE_ARRAY image_path (UTF8);
    REQUIRED INT64 size;
    REQUIRED INT64 modified;
    REQUIRED BYTE_ARRAY hash (UTF8);
    OPTIONAL INT64 taken;
}";

const TEXT_SCHEMA: &str = "message schema {
    REQUIRED BYTE_ARRAY caption (UTF8);
    REQUIRED BYTE_ARRAY text_path (UTF8);
    REQUIRED BYTE_ARRAY text_id (UTF8);
    REQUIRED INT64 size;
    REQUIRED INT64 modified;
    REQUIRED BYTE_ARRAY hash (UTF8);
}";

/// Every column that is read.
const COLUMNS: [&str; 8] = [
    "image_path",
    "caption",
    "text_path",
    "text_id",
    "size",
    "modified",
    "hash",
    "taken",
];

/// Items of a row group.
const GROUP: usize = 1 << 16;

/// A table that is being written.
pub(super) struct Writer {
    path: PathBuf,
    file: SerializedFileWriter<File>,
    waiting: Vec<Item>,
}

impl Writer {
    /// A table of items of one kind.
    pub(super) fn create(path: &Path, kind: Kind) -> Result<Self> {
        let schema = match kind {
            Kind::Image => IMAGE_SCHEMA,
            Kind::Text => TEXT_SCHEMA,
        };
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY);
        let file = File::create(path).with_context(|| unwritable(path))?;
        let schema = Arc::new(parse_message_type(schema)?);
        let file = SerializedFileWriter::new(file, schema, Arc::new(properties.build()));
        Ok(Self {
            path: path.to_owned(),
            file: file.with_context(|| unwritable(path))?,
            waiting: Vec::new(),
        })
    }

    pub(super) fn add(&mut self, items: &[Item]) -> Result<()> {
        self.waiting.extend_from_slice(items);
        if self.waiting.len() >= GROUP {
            self.write_group()
        } else {
            Ok(())
        }
    }

    fn write_group(&mut self) -> Result<()> {
        let items = std::mem::take(&mut self.waiting);
        if items.is_empty() {
            return Ok(());
        }
        let unwritable = || unwritable(&self.path);
        let mut group = self.file.next_row_group().with_context(unwritable)?;
        write_columns(&mut group, &items).with_context(unwritable)?;
        group.close().with_context(unwritable)?;
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.write_group()?;
        self.file.finish().with_context(|| unwritable(&self.path))?;
        let file = self.file.inner();
        file.sync_all().with_context(|| unwritable(&self.path))
    }
}

/// The columns in the order of the schema.
fn write_columns(group: &mut SerializedRowGroupWriter<'_, File>, items: &[Item]) -> Result<()> {
    let is_of_images = items.iter().all(|item| item.text.is_none());
    if is_of_images {
        write_texts(group, items, |item| {
            item.place.path().to_string_lossy().into()
        })?;
    } else {
        write_texts(group, items, |item| item.text.clone().unwrap_or_default())?;
        write_texts(group, items, |item| {
            item.place.folder.to_string_lossy().into()
        })?;
        write_texts(group, items, |item| {
            item.place.name.to_string_lossy().into()
        })?;
    }
    write_numbers(group, items, |item| Some(item.size as i64))?;
    write_numbers(group, items, |item| Some(item.modified))?;
    write_texts(group, items, |item| digits_of(&item.hash))?;
    if is_of_images {
        write_numbers(group, items, |item| item.taken)?;
    }
    Ok(())
}

fn write_texts(
    group: &mut SerializedRowGroupWriter<'_, File>,
    items: &[Item],
    text: impl Fn(&Item) -> String,
) -> Result<()> {
    let texts = items.iter().map(|item| text(item).into_bytes().into());
    let values: Vec<ByteArray> = texts.collect();
    let mut column = group.next_column()?.context("a column of the schema")?;
    column
        .typed::<ByteArrayType>()
        .write_batch(&values, None, None)?;
    Ok(column.close()?)
}

/// Numbers, and gaps where the column may have some.
fn write_numbers(
    group: &mut SerializedRowGroupWriter<'_, File>,
    items: &[Item],
    number: impl Fn(&Item) -> Option<i64>,
) -> Result<()> {
    let numbers: Vec<Option<i64>> = items.iter().map(number).collect();
    let values: Vec<i64> = numbers.iter().copied().flatten().collect();
    let levels: Vec<i16> = numbers
        .iter()
        .map(|number| number.is_some().into())
        .collect();
    let mut column = group.next_column()?.context("a column of the schema")?;
    column
        .typed::<Int64Type>()
        .write_batch(&values, Some(&levels), None)?;
    Ok(column.close()?)
}

fn unwritable(path: &Path) -> String {
    format!("{}: cannot be written", path.display())
}

/// A table that is read row by row.
pub(super) struct Reader {
    path: PathBuf,
    kind: Kind,
    rows: RowIter<'static>,
    read: usize,
}

impl Reader {
    /// The table at `path`, of which rows of `kind` are told.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is no table, or lacks the column that tells of `kind`.
    pub(super) fn open(path: &Path, kind: Kind) -> Result<Self> {
        guarded(|| Self::try_open(path, kind))
            .with_context(|| format!("{}: cannot be read as Parquet", path.display()))
    }

    fn try_open(path: &Path, kind: Kind) -> Result<Self> {
        let reader = SerializedFileReader::new(File::open(path)?)?;
        let metadata = reader.metadata().file_metadata();
        let schema = known_columns(metadata.schema(), main_column(kind))?;
        Ok(Self {
            path: path.to_owned(),
            kind,
            rows: RowIter::from_file_into(Box::new(reader)).project(Some(schema))?,
            read: 0,
        })
    }

    fn record(&self, row: &Row) -> Result<Record> {
        let main = main_column(self.kind);
        let told = text_in(row, main).with_context(|| format!("it has no {main}"))?;
        let id = || self.read.to_string();
        let (place, text) = match self.kind {
            Kind::Image => (Place::of_image(Path::new(told))?, None),
            Kind::Text => {
                // A text that is told without a file lies in this one.
                let file = text_in(row, "text_path").map_or(self.path.as_path(), Path::new);
                let id = text_in(row, "text_id").map_or_else(id, str::to_owned);
                (Place::of_text(file, &id), Some(told.to_owned()))
            }
        };
        Ok(Record {
            place,
            text,
            stated: Stated {
                size: number_in(row, "size").and_then(|size| size.try_into().ok()),
                modified: number_in(row, "modified"),
                hash: text_in(row, "hash").and_then(hash_of),
                taken: number_in(row, "taken"),
            },
        })
    }
}

impl Iterator for Reader {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = guarded(|| Ok(self.rows.next().transpose()?)).transpose()?;
        self.read += 1;
        let record = row.and_then(|row| self.record(&row));
        Some(record.with_context(|| {
            format!(
                "{}: row {} is not of an item",
                self.path.display(),
                self.read
            )
        }))
    }
}

/// The column that tells what a row is of.
fn main_column(kind: Kind) -> &'static str {
    match kind {
        Kind::Image => "image_path",
        Kind::Text => "caption",
    }
}

/// What is read of a schema.
fn known_columns(schema: &Type, main: &str) -> Result<Type> {
    let fields = schema.get_fields().iter();
    let known = fields.filter(|field| COLUMNS.contains(&field.name()) && field.is_primitive());
    let known: Vec<_> = known.cloned().collect();
    if !known.iter().any(|field| field.name() == main) {
        let names: Vec<&str> = schema
            .get_fields()
            .iter()
            .map(|field| field.name())
            .collect();
        bail!("expected a column {main}, found {}", names.join(", "));
    }
    Ok(Type::group_type_builder(schema.name())
        .with_fields(known)
        .build()?)
}

fn text_in<'a>(row: &'a Row, column: &str) -> Option<&'a str> {
    match field(row, column)? {
        Field::Str(text) => Some(text),
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).ok(),
        _ => None,
    }
}

fn number_in(row: &Row, column: &str) -> Option<i64> {
    match field(row, column)? {
        Field::Long(number) => Some(*number),
        Field::Int(number) => Some((*number).into()),
        _ => None,
    }
}

fn field<'a>(row: &'a Row, column: &str) -> Option<&'a Field> {
    row.get_column_iter()
        .find(|(name, _)| *name == column)
        .map(|(_, field)| field)
}

/// The library panics on some damaged files.
fn guarded<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(anyhow!("it is damaged")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, taken: Option<i64>) -> Item {
        Item {
            place: Place::of_image(&Path::new("/photos").join(name)).unwrap(),
            size: 1 << 40,
            modified: -5,
            hash: [0xab; 16],
            text: None,
            taken,
        }
    }

    fn round_trip(items: &[Item], kind: Kind) -> Vec<Record> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metadata_0.parquet");
        let mut writer = Writer::create(&path, kind).unwrap();
        writer.add(items).unwrap();
        writer.write_group().unwrap();
        writer.add(items).unwrap();
        writer.finish().unwrap();
        let records = Reader::open(&path, kind).unwrap();
        let records: Vec<Record> = records.map(Result::unwrap).collect();
        assert_eq!(records.len(), 2 * items.len());
        records
    }

    #[test]
    fn images_come_back_with_what_is_known_of_them() {
        let items = [item("a.jpg", None), item("ü \n.jpg", Some(7))];
        for (record, item) in round_trip(&items, Kind::Image)
            .iter()
            .zip(items.iter().cycle())
        {
            assert_eq!(record.place, item.place);
            let stated = Stated {
                size: Some(item.size),
                modified: Some(item.modified),
                hash: Some(item.hash),
                taken: item.taken,
            };
            assert_eq!(record.stated, stated);
        }
    }

    #[test]
    fn texts_come_back_with_their_places() {
        let items = [Item {
            place: Place::of_text(Path::new("/texts.csv"), "3"),
            text: Some("a \"cat\"\non a mat".to_owned()),
            ..item("any", None)
        }];
        for record in round_trip(&items, Kind::Text) {
            assert_eq!(
                (&record.place, &record.text),
                (&items[0].place, &items[0].text)
            );
        }
    }

    #[test]
    fn a_table_without_the_column_is_told_from_one_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metadata_0.parquet");
        Writer::create(&path, Kind::Image)
            .unwrap()
            .finish()
            .unwrap();
        assert_eq!(Reader::open(&path, Kind::Image).unwrap().count(), 0);
        let error = format!("{:#}", Reader::open(&path, Kind::Text).err().unwrap());
        assert!(
            error.contains("expected a column caption, found image_path, size"),
            "{error}"
        );
    }
}

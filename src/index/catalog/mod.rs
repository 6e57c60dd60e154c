//! What is known of each item, in SQLite: the only folder that writes SQL.
//!
//! A row is named here or it does not count. Everything that changes together is one transaction, written after the
//! rows that it names are on the disk.
//!
//! `filter.rs` says what a filter means in SQL, `sums.rs` and `log.rs` what tells that something is not as it was written,
//! `writing.rs` changes things.

mod filter;
mod log;
mod sums;
mod writing;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, params_from_iter,
};

pub(super) use writing::{Changes, NewRow};

use filter::condition;
use sums::{Tally, Told};
use writing::write_facts;

use super::place::{self, Place};
use super::rank::Allowed;
use super::{Item, ItemFilter, Kind};
use crate::error::{Error, Result};

/// "dptc": a file that says what it is.
const APPLICATION: i64 = 0x6470_7463;
const VERSION: i64 = 1;
const WAY_BACK: &str = "make a new index with diptych index --index, or restore the file";
/// How long to wait for another process that writes.
const PATIENCE: Duration = Duration::from_secs(10);

const TABLES: &str = "
    CREATE TABLE fact (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE folder (id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE) STRICT;
    CREATE TABLE content (row INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, taken INTEGER) STRICT;
    CREATE TABLE text (row INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
    CREATE TABLE freed (row INTEGER PRIMARY KEY) STRICT;
    CREATE TABLE item (
        id INTEGER PRIMARY KEY,
        folder INTEGER NOT NULL REFERENCES folder,
        name BLOB NOT NULL,
        size INTEGER NOT NULL,
        modified INTEGER NOT NULL,
        row INTEGER NOT NULL,
        time INTEGER NOT NULL,
        sum INTEGER NOT NULL,
        UNIQUE (folder, name)
    ) STRICT;
    CREATE INDEX item_by_row ON item (row);
    CREATE INDEX item_by_time ON item (time);
";

/// What an index was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) model: String,
    pub(super) width: usize,
    /// Which file of rows counts.
    pub(super) generation: u64,
    /// Rows that were named: the first ones of the file.
    pub(super) rows: usize,
    /// Another after each change.
    pub(super) edition: u64,
    pub(super) items: Tally,
    /// Rows of texts.
    pub(super) texts: Tally,
    /// Rows that no item has any more.
    pub(super) freed: Tally,
}

impl Facts {
    /// Those of an index that holds nothing.
    pub(super) fn new(model: &str, width: usize, generation: u64) -> Self {
        Self {
            model: model.to_owned(),
            width,
            generation,
            rows: 0,
            edition: 0,
            items: Tally::default(),
            texts: Tally::default(),
            freed: Tally::default(),
        }
    }

    /// Rows that items have.
    pub(super) fn used(&self) -> usize {
        self.rows.saturating_sub(self.freed.count)
    }
}

/// An item with the row that stands for it.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) item: Item,
    pub(super) row: usize,
    /// As it was written.
    sum: u32,
    /// Whether the item still adds up to that.
    is_whole: bool,
}

#[derive(Debug)]
pub(super) struct Catalog {
    path: PathBuf,
    connection: Connection,
    folders: HashMap<PathBuf, i64>,
}

impl Catalog {
    /// A new catalog.
    pub(super) fn create(path: &Path, facts: &Facts) -> Result<Self> {
        let access = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let catalog = Self::connect(path, path, access).map_err(|error| failure(path, &error))?;
        catalog.attempt(|connection| {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "application_id", APPLICATION)?;
            let transaction = connection.unchecked_transaction()?;
            transaction.execute_batch(TABLES)?;
            write_facts(&transaction, facts)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            transaction.commit()
        })?;
        Ok(catalog)
    }

    pub(super) fn open(path: &Path, is_writer: bool) -> Result<Self> {
        if !path.exists() {
            return Err(Error::damaged(path, "it is missing".to_owned(), WAY_BACK));
        }
        log::require_whole(path)?;
        let access = if is_writer {
            OpenFlags::SQLITE_OPEN_READ_WRITE
        } else {
            OpenFlags::SQLITE_OPEN_READ_ONLY
        };
        let catalog = match Self::connect(path, path, access) {
            Err(error) if !is_writer && needs_to_write(&error) => Self::open_unchanging(path)?,
            opened => opened.map_err(|error| failure(path, &error))?,
        };
        catalog.check()?;
        if is_writer {
            catalog.empty_log();
        }
        Ok(catalog)
    }

    /// A catalog that nobody is taken to change, in a folder where nothing can be written: SQLite's readers agree with
    /// writers by a file there, which they make.
    fn open_unchanging(path: &Path) -> Result<Self> {
        if log::path_of(path).metadata().is_ok_and(|log| log.len() > 0) {
            return Err(Error::Unfinished {
                path: path.to_owned(),
            });
        }
        let access = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let address = unchanging(path).map_err(Error::read(path))?;
        Self::connect(path, Path::new(&address), access).map_err(|error| failure(path, &error))
    }

    /// The catalog at `path`, by whatever name SQLite is to open it.
    fn connect(path: &Path, name: &Path, access: OpenFlags) -> rusqlite::Result<Self> {
        let connection =
            Connection::open_with_flags(name, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(PATIENCE)?;
        // Otherwise a statement is compiled again for each row or name that it is asked for.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "cache_size", -65_536)?;
        // What keeps the file from being read shows at the first look.
        connection.pragma_query_value(None, "application_id", |_| Ok(()))?;
        Ok(Self {
            path: path.to_owned(),
            connection,
            folders: HashMap::new(),
        })
    }

    /// Puts what stands in the log where it belongs and leaves the log empty: a log that is lost or damaged would take along
    /// what was reported as done. Where a reader still needs it, or the disk is full, the next change has time for it.
    fn empty_log(&self) {
        let _ = self.attempt(|connection| {
            connection.busy_timeout(Duration::ZERO)?;
            let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
            let emptied = connection.query_row(sql, [], |_| Ok(()));
            connection.busy_timeout(PATIENCE).and(emptied)
        });
    }

    fn attempt<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        work(&self.connection).map_err(|error| failure(&self.path, &error))
    }

    fn damaged(&self, problem: impl Into<String>) -> Error {
        Error::damaged(&self.path, problem.into(), WAY_BACK)
    }

    /// Whether it is a catalog of a version that is known here.
    fn check(&self) -> Result<()> {
        let number = |name| {
            self.attempt(|connection| {
                connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            })
        };
        if number("application_id")? != APPLICATION {
            return Err(self.damaged("it is not the catalog of an index"));
        }
        match number("user_version")? {
            VERSION => Ok(()),
            found => Err(self.damaged(format!(
                "it has format version {found}, and this diptych knows {VERSION}"
            ))),
        }
    }

    pub(super) fn facts(&self) -> Result<Facts> {
        let values: HashMap<String, Value> = self.attempt(|connection| {
            let mut statement = connection.prepare_cached("SELECT name, value FROM fact")?;
            statement
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })?;
        let missing = |name: &str| self.damaged(format!("it does not state {name}"));
        let number = |name: &str| match values.get(name) {
            Some(&Value::Integer(number)) => Ok(number as u64),
            _ => Err(missing(name)),
        };
        let tally = |name: &str| {
            Ok(Tally {
                count: number(name)? as usize,
                sum: number(&format!("sum of {name}"))?,
            })
        };
        let model = match values.get("model") {
            Some(Value::Text(model)) => model.clone(),
            _ => return Err(missing("model")),
        };
        let facts = Facts {
            model,
            width: number("width")? as usize,
            generation: number("generation")?,
            rows: number("rows")? as usize,
            edition: number("edition")?,
            items: tally("items")?,
            texts: tally("texts")?,
            freed: tally("freed")?,
        };
        if number("sum")? != u64::from(sums::of_facts(&facts)) {
            return Err(self.damaged("what it states of the index is not what was written"));
        }
        Ok(facts)
    }

    /// What is read until the transaction ends is of one moment, whatever others write.
    pub(super) fn moment(&self) -> Result<Transaction<'_>> {
        let moment = self.connection.unchecked_transaction();
        moment.map_err(|error| failure(&self.path, &error))
    }

    /// The log, every table as SQLite's own check sees it, every item, and whether all rows are known.
    pub(super) fn check_thoroughly(&self) -> Result<()> {
        log::require_whole(&self.path)?;
        let verdict: String = self.attempt(|connection| {
            connection.pragma_query_value(None, "integrity_check", |row| row.get(0))
        })?;
        if verdict != "ok" {
            return Err(self.damaged(verdict));
        }
        let facts = self.facts()?;
        self.items(&ItemFilter::default())?;
        self.rows("freed", facts.freed)?;
        self.rows("text", facts.texts)?;
        let used = self.used_rows()?.len();
        if used != facts.used() {
            return Err(self.damaged(format!("it names {used} rows in place of {}", facts.used())));
        }
        Ok(())
    }

    /// The row of known content.
    pub(super) fn row_of(&self, hash: &super::Hash) -> Result<Option<usize>> {
        self.attempt(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT row FROM content WHERE hash = ?1")?;
            statement
                .query_row([&hash[..]], |row| row.get(0))
                .optional()
        })
    }

    /// The sizes of all items: whether a new file can be a copy at all.
    pub(super) fn sizes(&self) -> Result<HashSet<u64>> {
        self.attempt(|connection| {
            let mut statement = connection.prepare_cached("SELECT size FROM item")?;
            let size = |row: &rusqlite::Row<'_>| Ok(row.get::<_, i64>(0)? as u64);
            statement.query_map([], size)?.collect()
        })
    }

    /// Every item that `filter` lets through, by folder and name.
    pub(super) fn items(&self, filter: &ItemFilter) -> Result<Vec<Named>> {
        let (condition, values) = condition(filter);
        let sql = format!("{ITEMS} WHERE {condition} ORDER BY folder.path, item.name");
        let items = self.named(&sql, values)?;
        if *filter == ItemFilter::default() {
            let found = Tally::of(items.iter().map(|named| named.sum));
            self.require(found, self.facts()?.items, "items")?;
        }
        Ok(items)
    }

    /// The items of a row that `filter` lets through, of which there is one at least, by folder and name.
    pub(super) fn items_of(&self, row: usize, filter: &ItemFilter) -> Result<Vec<Named>> {
        let (condition, mut values) = condition(filter);
        let sql =
            format!("{ITEMS} WHERE item.row = ? AND {condition} ORDER BY folder.path, item.name");
        values.insert(0, Value::Integer(row as i64));
        let items = self.named(&sql, values)?;
        if items.is_empty() {
            return Err(self.damaged(format!("it lacks what row {row} is of")));
        }
        Ok(items)
    }

    /// The item at a place.
    pub(super) fn item_at(&self, place: &Place) -> Result<Option<Named>> {
        let sql = format!("{ITEMS} WHERE folder.path = ? AND item.name = ?");
        let values = vec![
            Value::Blob(place::to_bytes(place.folder.as_os_str())),
            Value::Blob(place::to_bytes(&place.name)),
        ];
        Ok(self.named(&sql, values)?.pop())
    }

    fn named(&self, sql: &str, values: Vec<Value>) -> Result<Vec<Named>> {
        let items: Vec<Named> = self.attempt(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            statement
                .query_map(params_from_iter(values), read_named)?
                .collect()
        })?;
        match items.iter().find(|named| !named.is_whole) {
            None => Ok(items),
            Some(named) => {
                let path = named.item.place.path();
                let problem = format!("what it says of {} is not what was written", path.display());
                Err(self.damaged(problem))
            }
        }
    }

    fn require(&self, found: Tally, stated: Tally, what: &str) -> Result<()> {
        if found == stated {
            return Ok(());
        }
        let (found, stated) = (found.count, stated.count);
        Err(self.damaged(match found == stated {
            true => format!("its {found} {what} are not those that were written"),
            false => format!("it holds {found} {what} in place of {stated}"),
        }))
    }

    /// The rows of all items that `filter` lets through.
    ///
    /// By kind alone they are as certain as the facts. Of folders and times the items are not looked at one by one, which
    /// would take ten times as long: an item that is found was checked, of one that a damaged entry keeps out only
    /// [`Catalog::check_thoroughly`] knows.
    pub(super) fn allowed(&self, filter: &ItemFilter, facts: &Facts) -> Result<Allowed> {
        let is_of_kind_alone = *filter
            == ItemFilter {
                kind: filter.kind,
                ..ItemFilter::default()
            };
        if is_of_kind_alone {
            let freed = || self.rows("freed", facts.freed);
            let texts = || self.rows("text", facts.texts);
            return Ok(match filter.kind {
                None => Allowed::AllBut(freed()?),
                Some(Kind::Image) => Allowed::AllBut(merged(freed()?, texts()?)),
                Some(Kind::Text) => Allowed::Only(texts()?),
            });
        }
        let (condition, values) = condition(filter);
        let sql = format!("SELECT DISTINCT item.row FROM item WHERE {condition} ORDER BY item.row");
        Ok(Allowed::Only(self.numbers(&sql, values)?))
    }

    /// All rows that `table` names, in ascending order.
    fn rows(&self, table: &str, stated: Tally) -> Result<Vec<usize>> {
        let rows = self.numbers(&format!("SELECT row FROM {table} ORDER BY row"), Vec::new())?;
        self.require(Tally::of_rows(&rows), stated, &format!("{table} rows"))?;
        Ok(rows)
    }

    fn numbers(&self, sql: &str, values: Vec<Value>) -> Result<Vec<usize>> {
        self.attempt(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            statement
                .query_map(params_from_iter(values), |row| row.get(0))?
                .collect()
        })
    }

    /// Items that are texts.
    pub(super) fn count_texts(&self) -> Result<usize> {
        let sql = "SELECT count(*) FROM item WHERE row IN (SELECT row FROM text)";
        self.attempt(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            statement.query_row([], |row| row.get(0))
        })
    }

    /// Rows that are in use, in ascending order.
    pub(super) fn used_rows(&self) -> Result<Vec<usize>> {
        self.numbers("SELECT row FROM content ORDER BY row", Vec::new())
    }
}

/// All of both, in ascending order.
fn merged(mut a: Vec<usize>, b: Vec<usize>) -> Vec<usize> {
    a.extend(b);
    // Two ascending runs, which the stable sort merges.
    a.sort();
    a
}

const ITEMS: &str =
    "SELECT folder.path, item.name, item.size, item.modified, item.row, content.hash, text.text,
    content.taken, item.time, item.sum
    FROM item JOIN folder ON folder.id = item.folder JOIN content ON content.row = item.row
    LEFT JOIN text ON text.row = item.row";

fn read_named(row: &rusqlite::Row<'_>) -> rusqlite::Result<Named> {
    let (folder, name): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
    let (size, modified, hash): (i64, i64, super::Hash) = (row.get(2)?, row.get(3)?, row.get(5)?);
    let (text, taken): (Option<String>, Option<i64>) = (row.get(6)?, row.get(7)?);
    let told = Told {
        folder: &folder,
        name: &name,
        size,
        modified,
        time: row.get(8)?,
        hash: &hash,
        text: text.as_deref(),
        taken,
    };
    let sum = row.get(9)?;
    let is_whole = told.sum() == sum;
    let place = Place {
        folder: place::from_bytes(folder).into(),
        name: place::from_bytes(name),
    };
    let item = Item {
        place,
        size: size as u64,
        modified,
        hash,
        text,
        taken,
    };
    Ok(Named {
        item,
        row: row.get(4)?,
        sum,
        is_whole,
    })
}

/// Whether SQLite could not make the files that it shares with others.
fn needs_to_write(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen)
    )
}

/// The address by which SQLite takes a file for one that nobody changes, and makes none beside it.
fn unchanging(path: &Path) -> std::io::Result<String> {
    let path = std::path::absolute(path)?;
    let mut address = "file://".to_owned();
    if cfg!(windows) {
        // Before the drive.
        address.push('/');
    }
    for byte in place::to_bytes(path.as_os_str()) {
        match byte {
            b'\\' if cfg!(windows) => address.push('/'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b':' | b'.' | b'-' | b'_' => {
                address.push(byte.into());
            }
            _ => address.push_str(&format!("%{byte:02x}")),
        }
    }
    address.push_str("?immutable=1");
    Ok(address)
}

fn failure(path: &Path, error: &rusqlite::Error) -> Error {
    use rusqlite::Error as Sql;
    // Without the statement, of which nobody can make anything.
    let said = match error {
        Sql::SqlInputError { msg, .. } => msg.clone(),
        error => error.to_string(),
    };
    match (error.sqlite_error_code(), error) {
        // Statements are always the same: where one does not fit the tables, those are others.
        (Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown), _)
        | (_, Sql::SqlInputError { .. })
        // And so where a value is of another type than every one that is written.
        | (_, Sql::FromSqlConversionFailure(..) | Sql::IntegralValueOutOfRange(..))
        | (_, Sql::InvalidColumnType(..) | Sql::Utf8Error(..) | Sql::QueryReturnedNoRows) => {
            Error::damaged(path, said, WAY_BACK)
        }
        (Some(ErrorCode::DiskFull), _) => {
            Error::write(path)(std::io::ErrorKind::StorageFull.into())
        }
        // Its own cause would say the same once more.
        _ => Error::Catalog {
            path: path.to_owned(),
            source: said.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_catalog(path: &Path) -> Catalog {
        Catalog::create(path, &Facts::new("a model", 8, 1)).unwrap()
    }

    #[test]
    #[cfg(unix)]
    fn what_nobody_changes_is_read_without_a_file_beside_it() {
        use std::os::unix::ffi::OsStrExt;

        let folder = tempfile::tempdir().unwrap();
        let name = std::ffi::OsStr::from_bytes(b"100% #1? &a=\xff");
        let path = folder.path().join(name);
        drop(new_catalog(&path));
        let catalog = Catalog::open_unchanging(&path).unwrap();
        assert_eq!(catalog.facts().unwrap(), Facts::new("a model", 8, 1));
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn what_is_in_a_log_is_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.sqlite");
        drop(new_catalog(&path));
        let log = log::path_of(&path);
        std::fs::write(&log, [0; 4096]).unwrap();
        let error = Catalog::open_unchanging(&path).unwrap_err();
        assert!(matches!(error, Error::Unfinished { .. }), "{error}");
        std::fs::write(&log, []).unwrap();
        Catalog::open_unchanging(&path).unwrap();
    }

    #[test]
    fn only_what_could_not_be_written_is_read_without_writing() {
        // SQLITE_READONLY_DIRECTORY, SQLITE_CANTOPEN, SQLITE_CORRUPT, SQLITE_BUSY, SQLITE_IOERR
        for (code, expected) in [
            (1544, true),
            (14, true),
            (11, false),
            (5, false),
            (10, false),
        ] {
            let error = rusqlite::ffi::Error::new(code);
            let error = rusqlite::Error::SqliteFailure(error, None);
            assert_eq!(needs_to_write(&error), expected, "{code}");
        }
    }

    /// Otherwise one text among many images would make every search for images look at each item.
    #[test]
    fn a_filter_of_kind_alone_looks_at_no_item() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.sqlite");
        let mut catalog = new_catalog(&path);
        let item = |number: u8| Item {
            place: Place::of_text(Path::new("/a"), &number.to_string()),
            size: 1,
            modified: 0,
            hash: [number; 16],
            text: (number > 3).then(|| number.to_string()),
            taken: None,
        };
        let items: Vec<Item> = (0..6).map(item).collect();
        let changes = |removed| Changes {
            removed,
            new_rows: Vec::new(),
            items: Vec::new(),
            rows: 6,
        };
        let mut all = changes(&[]);
        for (row, item) in items.iter().enumerate() {
            all.new_rows.push(NewRow {
                row,
                hash: item.hash,
                text: item.text.as_deref(),
                taken: None,
            });
        }
        all.items = items.iter().zip(0..).collect();
        catalog.apply(&all).unwrap();
        catalog.apply(&changes(&[items[1].place.clone()])).unwrap();
        let facts = catalog.facts().unwrap();
        let allowed = |kind| {
            let filter = ItemFilter {
                kind,
                ..ItemFilter::default()
            };
            format!("{:?}", catalog.allowed(&filter, &facts).unwrap())
        };
        assert_eq!(allowed(None), "AllBut([1])");
        assert_eq!(allowed(Some(Kind::Image)), "AllBut([1, 4, 5])");
        assert_eq!(allowed(Some(Kind::Text)), "Only([4, 5])");
    }
}

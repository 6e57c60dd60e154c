//! What is known of each item, in SQLite: the only folder that writes SQL.
//!
//! A row is named here or it does not count. Everything that changes together is one transaction, written after the
//! rows that it names are on the disk.
//!
//! `filter.rs` says what a filter means in SQL, `writing.rs` changes things.

mod filter;
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
}

/// An item with the row that stands for it.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) item: Item,
    pub(super) row: usize,
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
        let catalog = Self::connect(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        )?;
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
        let access = if is_writer {
            OpenFlags::SQLITE_OPEN_READ_WRITE
        } else {
            OpenFlags::SQLITE_OPEN_READ_ONLY
        };
        let catalog = Self::connect(path, access)?;
        catalog.check()?;
        Ok(catalog)
    }

    fn connect(path: &Path, access: OpenFlags) -> Result<Self> {
        if !access.contains(OpenFlags::SQLITE_OPEN_CREATE) && !path.exists() {
            return Err(Error::damaged(path, "it is missing".to_owned(), WAY_BACK));
        }
        let connection =
            Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX);
        let connection = connection.map_err(|error| failure(path, error))?;
        let catalog = Self {
            path: path.to_owned(),
            connection,
            folders: HashMap::new(),
        };
        catalog.attempt(|connection| {
            connection.busy_timeout(PATIENCE)?;
            // Otherwise a statement is compiled again for each row or name that it is asked for.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "cache_size", -65_536)
        })?;
        Ok(catalog)
    }

    fn attempt<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        work(&self.connection).map_err(|error| failure(&self.path, error))
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
        let missing = |name| self.damaged(format!("it does not state {name}"));
        let number = |name| match values.get(name) {
            Some(&Value::Integer(number)) if number >= 0 => Ok(number as u64),
            _ => Err(missing(name)),
        };
        let model = match values.get("model") {
            Some(Value::Text(model)) => model.clone(),
            _ => return Err(missing("model")),
        };
        Ok(Facts {
            model,
            width: number("width")? as usize,
            generation: number("generation")?,
            rows: number("rows")? as usize,
            edition: number("edition")?,
        })
    }

    /// What is read until the transaction ends is of one moment, whatever others write.
    pub(super) fn moment(&self) -> Result<Transaction<'_>> {
        let moment = self.connection.unchecked_transaction();
        moment.map_err(|error| failure(&self.path, error))
    }

    /// Every table as SQLite's own check sees it, and whether the rows of all items are known.
    pub(super) fn check_thoroughly(&self) -> Result<()> {
        let verdict: String = self.attempt(|connection| {
            connection.pragma_query_value(None, "integrity_check", |row| row.get(0))
        })?;
        if verdict != "ok" {
            return Err(self.damaged(verdict));
        }
        let sql = "SELECT count(*) FROM item WHERE row NOT IN (SELECT row FROM content)";
        match self
            .attempt(|connection| connection.query_row(sql, [], |row| row.get::<_, i64>(0)))?
        {
            0 => Ok(()),
            count => Err(self.damaged(format!("{count} of its items have no row"))),
        }
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
        self.named(&sql, values)
    }

    /// The items of a row that `filter` lets through, by folder and name.
    pub(super) fn items_of(&self, row: usize, filter: &ItemFilter) -> Result<Vec<Named>> {
        let (condition, mut values) = condition(filter);
        let sql =
            format!("{ITEMS} WHERE item.row = ? AND {condition} ORDER BY folder.path, item.name");
        values.insert(0, Value::Integer(row as i64));
        self.named(&sql, values)
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
        self.attempt(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            statement
                .query_map(params_from_iter(values), read_named)?
                .collect()
        })
    }

    /// The rows of all items that `filter` lets through.
    pub(super) fn allowed(&self, filter: &ItemFilter) -> Result<Allowed> {
        let rows = |sql: &str, values: Vec<Value>| {
            self.attempt(|connection| {
                let mut statement = connection.prepare_cached(sql)?;
                statement
                    .query_map(params_from_iter(values), |row| row.get(0))?
                    .collect()
            })
        };
        if !self.narrows(filter)? {
            return Ok(Allowed::AllBut(rows(
                "SELECT row FROM freed ORDER BY row",
                Vec::new(),
            )?));
        }
        let (condition, values) = condition(filter);
        let sql = format!("SELECT DISTINCT item.row FROM item WHERE {condition} ORDER BY item.row");
        Ok(Allowed::Only(rows(&sql, values)?))
    }

    /// Whether a filter keeps anything out.
    fn narrows(&self, filter: &ItemFilter) -> Result<bool> {
        let ItemFilter {
            kind,
            within,
            not_within,
            since,
            until,
        } = filter;
        if !within.is_empty() || !not_within.is_empty() || since.is_some() || until.is_some() {
            return Ok(true);
        }
        let Some(kind) = kind else { return Ok(false) };
        let (texts, rows) = self.kinds()?;
        Ok(match kind {
            Kind::Image => texts > 0,
            Kind::Text => texts < rows || texts == 0,
        })
    }

    /// How many rows are of texts, and of anything.
    pub(super) fn kinds(&self) -> Result<(usize, usize)> {
        let texts = self.count(Table::TextRows)?;
        // Counting all rows takes longer; without texts nobody needs to know.
        let rows = match texts {
            0 => 0,
            _ => self.count(Table::Rows)?,
        };
        Ok((texts, rows))
    }

    pub(super) fn count(&self, table: Table) -> Result<usize> {
        let sql = match table {
            Table::Items => "SELECT count(*) FROM item",
            Table::Rows => "SELECT count(*) FROM content",
            Table::TextRows => "SELECT count(*) FROM text",
            Table::Texts => "SELECT count(*) FROM item WHERE row IN (SELECT row FROM text)",
            Table::Freed => "SELECT count(*) FROM freed",
        };
        self.attempt(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            statement.query_row([], |row| row.get(0))
        })
    }

    /// Rows that are in use, in ascending order.
    pub(super) fn used_rows(&self) -> Result<Vec<usize>> {
        self.attempt(|connection| {
            let mut statement = connection.prepare("SELECT row FROM content ORDER BY row")?;
            statement.query_map([], |row| row.get(0))?.collect()
        })
    }
}

/// What can be counted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Table {
    Items,
    Rows,
    TextRows,
    Texts,
    Freed,
}

const ITEMS: &str =
    "SELECT folder.path, item.name, item.size, item.modified, item.row, content.hash, text.text,
    content.taken
    FROM item JOIN folder ON folder.id = item.folder JOIN content ON content.row = item.row
    LEFT JOIN text ON text.row = item.row";

fn read_named(row: &rusqlite::Row<'_>) -> rusqlite::Result<Named> {
    let path = |bytes| PathBuf::from(place::from_bytes(bytes));
    let item = Item {
        place: Place {
            folder: path(row.get(0)?),
            name: place::from_bytes(row.get(1)?),
        },
        size: row.get::<_, i64>(2)? as u64,
        modified: row.get(3)?,
        hash: row.get(5)?,
        text: row.get(6)?,
        taken: row.get(7)?,
    };
    Ok(Named {
        item,
        row: row.get(4)?,
    })
}

fn failure(path: &Path, error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::damaged(path, error.to_string(), WAY_BACK)
        }
        Some(ErrorCode::DiskFull) => Error::write(path)(std::io::ErrorKind::StorageFull.into()),
        _ => Error::Catalog {
            path: path.to_owned(),
            source: error.into(),
        },
    }
}

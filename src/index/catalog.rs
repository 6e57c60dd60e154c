//! What is known of each item, in SQLite: the only file that writes SQL.
//!
//! A row is named here or it does not count. Everything that changes together is one transaction, written after the
//! rows that it names are on the disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, params, params_from_iter,
};

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
    CREATE TABLE content (row INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE) STRICT;
    CREATE TABLE text (row INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
    CREATE TABLE freed (row INTEGER PRIMARY KEY) STRICT;
    CREATE TABLE item (
        id INTEGER PRIMARY KEY,
        folder INTEGER NOT NULL REFERENCES folder,
        name BLOB NOT NULL,
        size INTEGER NOT NULL,
        modified INTEGER NOT NULL,
        row INTEGER NOT NULL,
        UNIQUE (folder, name)
    ) STRICT;
    CREATE INDEX item_by_row ON item (row);
    CREATE INDEX item_by_time ON item (modified);
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
}

/// An item with the row that stands for it.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) item: Item,
    pub(super) row: usize,
}

/// A row that no item had before.
#[derive(Debug)]
pub(super) struct NewRow<'a> {
    pub(super) row: usize,
    pub(super) hash: super::Hash,
    pub(super) text: Option<&'a str>,
}

/// What changes together.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    pub(super) removed: &'a [Place],
    pub(super) new_rows: Vec<NewRow<'a>>,
    pub(super) items: Vec<(&'a Item, usize)>,
    /// Rows named afterwards.
    pub(super) rows: usize,
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
        })
    }

    /// Every table as SQLite's own check sees it.
    pub(super) fn check_thoroughly(&self) -> Result<()> {
        let verdict: String = self.attempt(|connection| {
            connection.pragma_query_value(None, "integrity_check", |row| row.get(0))
        })?;
        if verdict == "ok" {
            Ok(())
        } else {
            Err(self.damaged(verdict))
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
    pub(super) fn has_size(&self, sizes: &mut dyn FnMut(u64)) -> Result<()> {
        self.attempt(|connection| {
            let mut statement = connection.prepare_cached("SELECT size FROM item")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                sizes(row.get::<_, i64>(0)? as u64);
            }
            Ok(())
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
        let (texts, rows) = self.kinds()?;
        Ok(match kind {
            None => false,
            Some(Kind::Image) => texts > 0,
            Some(Kind::Text) => texts < rows,
        })
    }

    /// How many rows are of texts, and of anything.
    pub(super) fn kinds(&self) -> Result<(usize, usize)> {
        let count = |table: &str| {
            let sql = format!("SELECT count(*) FROM {table}");
            self.attempt(|connection| {
                connection
                    .prepare_cached(&sql)?
                    .query_row([], |row| row.get(0))
            })
        };
        let texts: usize = count("text")?;
        // Counting all rows takes longer; without texts nobody needs to know.
        let rows = if texts == 0 { 0 } else { count("content")? };
        Ok((texts, rows))
    }

    pub(super) fn count(&self, table: Table) -> Result<usize> {
        let sql = match table {
            Table::Items => "SELECT count(*) FROM item",
            Table::Rows => "SELECT count(*) FROM content",
            Table::Texts => "SELECT count(*) FROM item WHERE row IN (SELECT row FROM text)",
            Table::Freed => "SELECT count(*) FROM freed",
        };
        self.attempt(|connection| connection.query_row(sql, [], |row| row.get(0)))
    }

    /// Makes all changes, or none.
    pub(super) fn apply(&mut self, changes: &Changes<'_>) -> Result<()> {
        let Self {
            path,
            connection,
            folders,
        } = self;
        let outcome = (|| {
            let transaction = connection.transaction()?;
            make_changes(&transaction, folders, changes)?;
            transaction.commit()
        })();
        outcome.map_err(|error| {
            // Ids of folders that were rolled back may be given to others.
            folders.clear();
            failure(path, error)
        })
    }

    /// Says that the rows lie in another file: `moved` holds, for each row that stays, its old and its new number.
    pub(super) fn renumber(&mut self, facts: &Facts, moved: &[(usize, usize)]) -> Result<()> {
        let Self {
            path, connection, ..
        } = self;
        let outcome = (|| {
            let transaction = connection.transaction()?;
            // Upwards: a row's new number is at most its old one, which was left by then.
            for table in ["content", "text", "item"] {
                let mut statement =
                    transaction.prepare(&format!("UPDATE {table} SET row = ?2 WHERE row = ?1"))?;
                for &(old, new) in moved.iter().filter(|(old, new)| old != new) {
                    statement.execute(params![old as i64, new as i64])?;
                }
            }
            transaction.execute("DELETE FROM freed", [])?;
            write_facts(&transaction, facts)?;
            transaction.commit()
        })();
        outcome.map_err(|error| failure(path, error))
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
    Texts,
    Freed,
}

const ITEMS: &str =
    "SELECT folder.path, item.name, item.size, item.modified, item.row, content.hash, text.text
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
    };
    Ok(Named {
        item,
        row: row.get(4)?,
    })
}

/// The SQL condition on `item` that a filter means, and its values.
fn condition(filter: &ItemFilter) -> (String, Vec<Value>) {
    let mut parts = vec!["1".to_owned()];
    let mut values = Vec::new();
    let mut folders = |paths: &[PathBuf], word: &str| {
        if paths.is_empty() {
            return;
        }
        let part = "path = ? OR (path >= ? AND path < ?) OR id = -1";
        let tests: Vec<&str> = paths.iter().map(|_| part).collect();
        parts.push(format!(
            "item.folder {word} (SELECT id FROM folder WHERE {})",
            tests.join(" OR ")
        ));
        for path in paths {
            let (first, end) = place::below(path);
            values.extend([place::to_bytes(path.as_os_str()), first, end].map(Value::Blob));
        }
    };
    folders(&filter.within, "IN");
    folders(&filter.not_within, "NOT IN");
    let times = [
        (filter.since, "item.modified >= ?"),
        (filter.until, "item.modified < ?"),
    ];
    for (time, part) in times {
        if let Some(time) = time {
            parts.push(part.to_owned());
            values.push(Value::Integer(time));
        }
    }
    match filter.kind {
        Some(Kind::Image) => parts.push("item.row NOT IN (SELECT row FROM text)".to_owned()),
        Some(Kind::Text) => parts.push("item.row IN (SELECT row FROM text)".to_owned()),
        None => {}
    }
    (parts.join(" AND "), values)
}

fn make_changes(
    transaction: &Transaction<'_>,
    folders: &mut HashMap<PathBuf, i64>,
    changes: &Changes<'_>,
) -> rusqlite::Result<()> {
    let mut left = Vec::new();
    for place in changes.removed {
        left.extend(remove_item(transaction, place)?);
    }
    for NewRow { row, hash, text } in &changes.new_rows {
        let mut insert =
            transaction.prepare_cached("INSERT INTO content (row, hash) VALUES (?1, ?2)")?;
        insert.execute(params![*row as i64, &hash[..]])?;
        if let Some(text) = text {
            let mut insert =
                transaction.prepare_cached("INSERT INTO text (row, text) VALUES (?1, ?2)")?;
            insert.execute(params![*row as i64, text])?;
        }
    }
    for (item, row) in &changes.items {
        left.extend(write_item(transaction, folders, item, *row)?);
    }
    for row in left {
        free_if_unnamed(transaction, row)?;
    }
    let mut update =
        transaction.prepare_cached("UPDATE fact SET value = ?1 WHERE name = 'rows'")?;
    update.execute([changes.rows as i64])?;
    Ok(())
}

/// Removes the item at a place; the row that it leaves.
fn remove_item(transaction: &Transaction<'_>, place: &Place) -> rusqlite::Result<Option<i64>> {
    let sql = "DELETE FROM item WHERE folder = (SELECT id FROM folder WHERE path = ?1) AND name = ?2 RETURNING row";
    let mut delete = transaction.prepare_cached(sql)?;
    let (folder, name) = (
        place::to_bytes(place.folder.as_os_str()),
        place::to_bytes(&place.name),
    );
    delete
        .query_row([folder, name], |row| row.get(0))
        .optional()
}

/// Puts an item in its place; the row of what was there before, if that was another.
fn write_item(
    transaction: &Transaction<'_>,
    folders: &mut HashMap<PathBuf, i64>,
    item: &Item,
    row: usize,
) -> rusqlite::Result<Option<i64>> {
    let folder = folder_id(transaction, folders, &item.place.folder)?;
    let name = place::to_bytes(&item.place.name);
    let mut select =
        transaction.prepare_cached("SELECT row FROM item WHERE folder = ?1 AND name = ?2")?;
    let before: Option<i64> = select
        .query_row(params![folder, name], |row| row.get(0))
        .optional()?;
    let sql = "INSERT INTO item (folder, name, size, modified, row) VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT (folder, name) DO UPDATE SET size = ?3, modified = ?4, row = ?5";
    let mut upsert = transaction.prepare_cached(sql)?;
    upsert.execute(params![
        folder,
        name,
        item.size as i64,
        item.modified,
        row as i64
    ])?;
    Ok(before.filter(|&before| before != row as i64))
}

fn folder_id(
    transaction: &Transaction<'_>,
    folders: &mut HashMap<PathBuf, i64>,
    path: &Path,
) -> rusqlite::Result<i64> {
    if let Some(&id) = folders.get(path) {
        return Ok(id);
    }
    let bytes = place::to_bytes(path.as_os_str());
    transaction
        .prepare_cached("INSERT OR IGNORE INTO folder (path) VALUES (?1)")?
        .execute([&bytes])?;
    let mut select = transaction.prepare_cached("SELECT id FROM folder WHERE path = ?1")?;
    let id = select.query_row([&bytes], |row| row.get(0))?;
    folders.insert(path.to_owned(), id);
    Ok(id)
}

fn free_if_unnamed(transaction: &Transaction<'_>, row: i64) -> rusqlite::Result<()> {
    let sql =
        "INSERT INTO freed (row) SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM item WHERE row = ?1)
        AND EXISTS (SELECT 1 FROM content WHERE row = ?1)";
    if transaction.prepare_cached(sql)?.execute([row])? > 0 {
        transaction
            .prepare_cached("DELETE FROM content WHERE row = ?1")?
            .execute([row])?;
        transaction
            .prepare_cached("DELETE FROM text WHERE row = ?1")?
            .execute([row])?;
    }
    Ok(())
}

fn write_facts(connection: &Connection, facts: &Facts) -> rusqlite::Result<()> {
    let values: [(&str, Value); 4] = [
        ("model", Value::Text(facts.model.clone())),
        ("width", Value::Integer(facts.width as i64)),
        ("generation", Value::Integer(facts.generation as i64)),
        ("rows", Value::Integer(facts.rows as i64)),
    ];
    for (name, value) in values {
        connection.execute(
            "INSERT OR REPLACE INTO fact (name, value) VALUES (?1, ?2)",
            params![name, value],
        )?;
    }
    Ok(())
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

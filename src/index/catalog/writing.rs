//! What changes a catalog: each change is one transaction.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rusqlite::types::{ToSqlOutput, Value};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::super::place::{self, Place};
use super::super::{Hash, Item};
use super::{Catalog, Facts, failure};
use crate::error::Result;

/// A row that no item had before.
#[derive(Debug)]
pub(in crate::index) struct NewRow<'a> {
    pub(in crate::index) row: usize,
    pub(in crate::index) hash: Hash,
    pub(in crate::index) text: Option<&'a str>,
    pub(in crate::index) taken: Option<i64>,
}

/// What changes together.
#[derive(Debug, Default)]
pub(in crate::index) struct Changes<'a> {
    pub(in crate::index) removed: &'a [Place],
    pub(in crate::index) new_rows: Vec<NewRow<'a>>,
    pub(in crate::index) items: Vec<(&'a Item, usize)>,
    /// Rows named afterwards.
    pub(in crate::index) rows: usize,
}

impl Catalog {
    /// Makes all changes, or none.
    pub(in crate::index) fn apply(&mut self, changes: &Changes<'_>) -> Result<()> {
        self.change(|transaction, folders| make_changes(transaction, folders, changes))
    }

    /// Says that the rows lie in another file: `moved` holds, for each row that stays, its old and its new number.
    pub(in crate::index) fn renumber(
        &mut self,
        facts: &Facts,
        moved: &[(usize, usize)],
    ) -> Result<()> {
        self.change(|transaction, _| {
            // Upwards: a row's new number is at most its old one, which was left by then.
            for table in ["content", "text", "item"] {
                let mut statement =
                    transaction.prepare(&format!("UPDATE {table} SET row = ?2 WHERE row = ?1"))?;
                for &(old, new) in moved.iter().filter(|(old, new)| old != new) {
                    statement.execute(params![old as i64, new as i64])?;
                }
            }
            transaction.execute("DELETE FROM freed", [])?;
            write_facts(transaction, facts)
        })
    }

    /// Says what `other` says, and nothing else.
    pub(in crate::index) fn take_from(&mut self, other: &Catalog) -> Result<()> {
        let edition = self.facts()?.edition;
        self.change(|transaction, folders| {
            folders.clear();
            for table in ["item", "folder", "content", "text", "freed", "fact"] {
                transaction.execute(&format!("DELETE FROM {table}"), [])?;
            }
            for table in ["fact", "freed", "text", "content", "folder", "item"] {
                copy_table(&other.connection, transaction, table)?;
            }
            transaction.execute(
                "UPDATE fact SET value = max(value, ?1) WHERE name = 'edition'",
                [edition as i64],
            )?;
            Ok(())
        })
    }

    fn change(
        &mut self,
        work: impl FnOnce(&Transaction<'_>, &mut HashMap<PathBuf, i64>) -> rusqlite::Result<()>,
    ) -> Result<()> {
        let Self {
            path,
            connection,
            folders,
        } = self;
        let outcome = (|| {
            let transaction = connection.transaction()?;
            work(&transaction, folders)?;
            transaction.execute(
                "UPDATE fact SET value = value + 1 WHERE name = 'edition'",
                [],
            )?;
            transaction.commit()
        })();
        outcome.map_err(|error| {
            // Ids of folders that were rolled back may be given to others.
            folders.clear();
            failure(path, error)
        })
    }
}

fn copy_table(from: &Connection, to: &Transaction<'_>, table: &str) -> rusqlite::Result<()> {
    let mut select = from.prepare(&format!("SELECT * FROM {table}"))?;
    let columns = select.column_count();
    let marks = vec!["?"; columns].join(", ");
    let mut insert = to.prepare(&format!("INSERT INTO {table} VALUES ({marks})"))?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            insert.raw_bind_parameter(column + 1, ToSqlOutput::Borrowed(row.get_ref(column)?))?;
        }
        insert.raw_execute()?;
    }
    Ok(())
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
    for NewRow {
        row,
        hash,
        text,
        taken,
    } in &changes.new_rows
    {
        let sql = "INSERT INTO content (row, hash, taken) VALUES (?1, ?2, ?3)";
        let mut insert = transaction.prepare_cached(sql)?;
        insert.execute(params![*row as i64, &hash[..], taken])?;
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
    let sql = "INSERT INTO item (folder, name, size, modified, row, time)
        VALUES (?1, ?2, ?3, ?4, ?5, coalesce((SELECT taken FROM content WHERE row = ?5), ?4))
        ON CONFLICT (folder, name)
        DO UPDATE SET size = ?3, modified = ?4, row = ?5, time = excluded.time";
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

pub(super) fn write_facts(connection: &Connection, facts: &Facts) -> rusqlite::Result<()> {
    let values: [(&str, Value); 5] = [
        ("model", Value::Text(facts.model.clone())),
        ("width", Value::Integer(facts.width as i64)),
        ("generation", Value::Integer(facts.generation as i64)),
        ("rows", Value::Integer(facts.rows as i64)),
        ("edition", Value::Integer(facts.edition as i64)),
    ];
    for (name, value) in values {
        connection.execute(
            "INSERT OR REPLACE INTO fact (name, value) VALUES (?1, ?2)",
            params![name, value],
        )?;
    }
    Ok(())
}

//! What changes a catalog: each change is one transaction.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rusqlite::types::{ToSqlOutput, Value};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::super::place::{self, Place};
use super::super::{Hash, Item};
use super::sums::{self, Tally, Told};
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
        self.change(|transaction, folders, facts| {
            make_changes(transaction, folders, facts, changes)
        })
    }

    /// Says that the rows lie in the file of `generation`: `moved` holds, for each row that stays, its old and its new
    /// number.
    pub(in crate::index) fn renumber(
        &mut self,
        generation: u64,
        moved: &[(usize, usize)],
    ) -> Result<()> {
        self.change(|transaction, _, facts| {
            // Upwards: a row's new number is at most its old one, which was left by then.
            for table in ["content", "text", "item"] {
                let mut statement =
                    transaction.prepare(&format!("UPDATE {table} SET row = ?2 WHERE row = ?1"))?;
                for &(old, new) in moved.iter().filter(|(old, new)| old != new) {
                    let count = statement.execute(params![old as i64, new as i64])?;
                    if table == "text" && count > 0 {
                        facts.texts.take(sums::of_row(old));
                        facts.texts.add(sums::of_row(new));
                    }
                }
            }
            transaction.execute("DELETE FROM freed", [])?;
            facts.generation = generation;
            facts.rows = moved.len();
            facts.freed = Tally::default();
            Ok(())
        })
    }

    /// Says what `other` says, and nothing else.
    pub(in crate::index) fn take_from(&mut self, other: &Catalog) -> Result<()> {
        let theirs = other.facts()?;
        self.change(|transaction, folders, facts| {
            folders.clear();
            for table in ["item", "folder", "content", "text", "freed"] {
                transaction.execute(&format!("DELETE FROM {table}"), [])?;
            }
            for table in ["freed", "text", "content", "folder", "item"] {
                copy_table(&other.connection, transaction, table)?;
            }
            *facts = Facts {
                edition: facts.edition.max(theirs.edition),
                ..theirs
            };
            Ok(())
        })
    }

    fn change(
        &mut self,
        work: impl FnOnce(
            &Transaction<'_>,
            &mut HashMap<PathBuf, i64>,
            &mut Facts,
        ) -> rusqlite::Result<()>,
    ) -> Result<()> {
        let mut facts = self.facts()?;
        let Self {
            path,
            connection,
            folders,
        } = self;
        let outcome = (|| {
            let transaction = connection.transaction()?;
            work(&transaction, folders, &mut facts)?;
            facts.edition += 1;
            write_facts(&transaction, &facts)?;
            transaction.commit()
        })();
        outcome.map_err(|error| {
            // Ids of folders that were rolled back may be given to others.
            folders.clear();
            failure(path, &error)
        })?;
        self.empty_log();
        Ok(())
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
    facts: &mut Facts,
    changes: &Changes<'_>,
) -> rusqlite::Result<()> {
    let mut left = Vec::new();
    for place in changes.removed {
        left.extend(remove_item(transaction, facts, place)?);
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
            facts.texts.add(sums::of_row(*row));
        }
    }
    for (item, row) in &changes.items {
        left.extend(write_item(transaction, folders, facts, item, *row)?);
    }
    for row in left {
        free_if_unnamed(transaction, facts, row)?;
    }
    facts.rows = changes.rows;
    Ok(())
}

/// Removes the item at a place; the row that it leaves.
fn remove_item(
    transaction: &Transaction<'_>,
    facts: &mut Facts,
    place: &Place,
) -> rusqlite::Result<Option<usize>> {
    let sql =
        "DELETE FROM item WHERE folder = (SELECT id FROM folder WHERE path = ?1) AND name = ?2
        RETURNING row, sum";
    let mut delete = transaction.prepare_cached(sql)?;
    let (folder, name) = (
        place::to_bytes(place.folder.as_os_str()),
        place::to_bytes(&place.name),
    );
    let removed = delete.query_row([folder, name], |row| Ok((row.get(0)?, row.get(1)?)));
    let Some((row, sum)) = removed.optional()? else {
        return Ok(None);
    };
    facts.items.take(sum);
    Ok(Some(row))
}

/// Puts an item in its place; the row of what was there before, if that was another.
fn write_item(
    transaction: &Transaction<'_>,
    folders: &mut HashMap<PathBuf, i64>,
    facts: &mut Facts,
    item: &Item,
    row: usize,
) -> rusqlite::Result<Option<usize>> {
    let folder = folder_id(transaction, folders, &item.place.folder)?;
    let name = place::to_bytes(&item.place.name);
    let mut select =
        transaction.prepare_cached("SELECT row, sum FROM item WHERE folder = ?1 AND name = ?2")?;
    let before: Option<(usize, u32)> = select
        .query_row(params![folder, name], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    // Those of the first item of this content.
    let sql = "SELECT taken, text FROM content LEFT JOIN text USING (row) WHERE row = ?1";
    let mut select = transaction.prepare_cached(sql)?;
    let (taken, text): (Option<i64>, Option<String>) =
        select.query_row([row as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let told = Told {
        folder: &place::to_bytes(item.place.folder.as_os_str()),
        name: &name,
        size: item.size as i64,
        modified: item.modified,
        time: taken.unwrap_or(item.modified),
        hash: &item.hash,
        text: text.as_deref(),
        taken,
    };
    let sql = "INSERT INTO item (folder, name, size, modified, row, time, sum)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
        ON CONFLICT (folder, name)
        DO UPDATE SET size = ?3, modified = ?4, row = ?5, time = ?6, sum = ?7";
    let mut upsert = transaction.prepare_cached(sql)?;
    upsert.execute(params![
        folder,
        name,
        told.size,
        told.modified,
        row as i64,
        told.time,
        told.sum()
    ])?;
    facts.items.add(told.sum());
    let Some((row_before, sum)) = before else {
        return Ok(None);
    };
    facts.items.take(sum);
    Ok(Some(row_before).filter(|&before| before != row))
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

fn free_if_unnamed(
    transaction: &Transaction<'_>,
    facts: &mut Facts,
    row: usize,
) -> rusqlite::Result<()> {
    let sql =
        "INSERT INTO freed (row) SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM item WHERE row = ?1)
        AND EXISTS (SELECT 1 FROM content WHERE row = ?1)";
    let sum = sums::of_row(row);
    let number = row as i64;
    if transaction.prepare_cached(sql)?.execute([number])? > 0 {
        facts.freed.add(sum);
        transaction
            .prepare_cached("DELETE FROM content WHERE row = ?1")?
            .execute([number])?;
        let texts = transaction
            .prepare_cached("DELETE FROM text WHERE row = ?1")?
            .execute([number])?;
        if texts > 0 {
            facts.texts.take(sum);
        }
    }
    Ok(())
}

pub(super) fn write_facts(connection: &Connection, facts: &Facts) -> rusqlite::Result<()> {
    let Facts {
        model,
        width,
        generation,
        rows,
        edition,
        items,
        texts,
        freed,
    } = facts;
    let number = |number: u64| Value::Integer(number as i64);
    let count = |count: usize| number(count as u64);
    let values = [
        ("model", Value::Text(model.clone())),
        ("width", count(*width)),
        ("generation", number(*generation)),
        ("rows", count(*rows)),
        ("edition", number(*edition)),
        ("items", count(items.count)),
        ("sum of items", number(items.sum)),
        ("texts", count(texts.count)),
        ("sum of texts", number(texts.sum)),
        ("freed", count(freed.count)),
        ("sum of freed", number(freed.sum)),
        ("sum", number(sums::of_facts(facts).into())),
    ];
    let mut insert =
        connection.prepare_cached("INSERT OR REPLACE INTO fact (name, value) VALUES (?1, ?2)")?;
    for (name, value) in values {
        insert.execute(params![name, value])?;
    }
    Ok(())
}

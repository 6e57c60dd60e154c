//! What a filter means in SQL.

use std::path::PathBuf;

use rusqlite::types::Value;

use super::super::{ItemFilter, Kind, place};

/// The condition on `item` that a filter means, and its values.
pub(super) fn condition(filter: &ItemFilter) -> (String, Vec<Value>) {
    let mut parts = vec!["1".to_owned()];
    let mut values = Vec::new();
    let mut folders = |paths: &[PathBuf], word: &str| {
        if paths.is_empty() {
            return;
        }
        // A list and not a chain of ORs, which SQLite limits to a thousand.
        let list = vec!["(?, ?, ?)"; paths.len()].join(", ");
        parts.push(format!(
            "item.folder {word} (SELECT id FROM (VALUES {list}) JOIN folder
                ON path = column1 OR (path >= column2 AND path < column3))"
        ));
        for path in paths {
            // Without a slash at the end, as folders stand in the catalog.
            let path: PathBuf = path.components().collect();
            let (first, end) = place::below(&path);
            values.extend([place::to_bytes(path.as_os_str()), first, end].map(Value::Blob));
        }
    };
    folders(&filter.within, "IN");
    folders(&filter.not_within, "NOT IN");
    let times = [
        (filter.since, "item.time >= ?"),
        (filter.until, "item.time < ?"),
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

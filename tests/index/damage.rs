//! Files that are not what was written: told by name, with a way back, and never answered from.

use std::fs;

use super::files::{named, rows_file};
use super::*;

/// That opening, or else searching, tells that `path` is damaged.
fn assert_told(folder: &Path, path: &Path, what: &str) {
    for open in [Index::open, Index::open_to_write] {
        let outcome = open(folder).and_then(|index| index.search(&rows([3]), &all()));
        let error = outcome.expect_err(what);
        let Error::Damaged { path: told, .. } = &error else {
            panic!("{what}: {error}")
        };
        assert_eq!(told, path, "{what}");
        assert!(error.hint().is_some(), "{what}");
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{what}: {error}"
        );
        assert!(!error.to_string().contains('\n'));
    }
    assert!(Index::exists(folder), "{what}");
    assert!(
        matches!(
            Index::create(folder, MODEL, WIDTH),
            Err(Error::IndexExists { .. })
        ),
        "{what}"
    );
}

/// What can happen to a file of which byte `version` is of its version.
fn damages(whole: &[u8], version: usize) -> Vec<(&'static str, Option<Vec<u8>>)> {
    let mut other = whole.to_vec();
    other[version] = 9;
    let mut foreign = whole.to_vec();
    foreign[..16].copy_from_slice(b"something other ");
    vec![
        ("missing", None),
        ("empty", Some(Vec::new())),
        ("cut in the header", Some(whole[..10].to_vec())),
        ("cut", Some(whole[..whole.len() * 2 / 3].to_vec())),
        ("of another version", Some(other)),
        ("something else", Some(foreign)),
    ]
}

fn put(path: &Path, bytes: Option<&Vec<u8>>) {
    match bytes {
        Some(bytes) => fs::write(path, bytes).unwrap(),
        None => fs::remove_file(path).unwrap(),
    }
}

#[test]
fn damaged_catalogs_and_rows_are_told_by_name() {
    let (folder, mut index) = new_index();
    add(&mut index, 0..500);
    drop(index);
    for (path, version) in [
        (folder.path().join("catalog.sqlite"), 63),
        (rows_file(folder.path()), 8),
    ] {
        let whole = fs::read(&path).unwrap();
        for (what, damage) in damages(&whole, version) {
            put(&path, damage.as_ref());
            assert_told(folder.path(), &path, what);
            fs::write(&path, &whole).unwrap();
        }
        assert_holds(&Index::open(folder.path()).unwrap(), &images(0..500));
    }
}

#[test]
fn a_catalog_that_another_program_made_is_told() {
    let (folder, index) = new_index();
    drop(index);
    let path = folder.path().join("catalog.sqlite");
    let mut bytes = fs::read(&path).unwrap();
    bytes[68..72].copy_from_slice(&[0; 4]);
    fs::write(&path, bytes).unwrap();
    let error = Index::open(folder.path()).unwrap_err();
    assert!(
        error.to_string().contains("not the catalog of an index"),
        "{error}"
    );
}

#[test]
fn a_page_of_the_catalog_that_was_written_over_is_told() {
    let (folder, mut index) = new_index();
    add(&mut index, 0..500);
    drop(index);
    let path = folder.path().join("catalog.sqlite");
    let whole = fs::read(&path).unwrap();
    for page in 1..whole.len() / 4096 {
        let mut bytes = whole.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0xa5);
        fs::write(&path, bytes).unwrap();
        let outcome = Index::open(folder.path()).and_then(|index| index.check());
        assert!(
            matches!(outcome, Err(Error::Damaged { .. })),
            "page {page}: {outcome:?}"
        );
    }
}

/// What an index says of what it holds.
fn answers(folder: &Path) -> diptych::Result<(Vec<Vec<Hit>>, Vec<Item>, index::Stats)> {
    let index = Index::open(folder)?;
    let of_kind = |kind| {
        filtered(ItemFilter {
            kind: Some(kind),
            ..ItemFilter::default()
        })
    };
    let options = [
        SearchOptions::default(),
        all(),
        of_kind(Kind::Image),
        of_kind(Kind::Text),
    ];
    let hits = options
        .iter()
        .map(|options| index.search(&rows([3]), options));
    let hits = hits.collect::<Result<_, _>>()?;
    Ok((hits, index.items(&ItemFilter::default())?, index.stats()?))
}

/// One bit of the catalog is another: what is answered is what was written, or the damage is told.
#[test]
fn no_answer_is_given_from_a_damaged_catalog() {
    let (folder, mut index) = new_index();
    add(&mut index, 0..250);
    let texts = [text("/notes.txt", "1", 500), text("/notes.txt", "2", 501)];
    index.add(&texts, &rows([500, 501])).unwrap();
    index.add_copies(&[image("/copy.jpg", 7)]).unwrap();
    index.remove(&images(40..60).map_places()).unwrap();
    drop(index);
    let expected = answers(folder.path()).unwrap();
    let path = folder.path().join("catalog.sqlite");
    let whole = fs::read(&path).unwrap();
    let mut told = 0;
    for (at, bit) in (0..whole.len()).step_by(173).zip((0..8).cycle()) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << bit;
        fs::write(&path, bytes).unwrap();
        match answers(folder.path()) {
            Ok(mut answers) => {
                answers.2.bytes = expected.2.bytes;
                assert!(answers == expected, "bit {bit} of byte {at}");
            }
            Err(Error::Damaged { path: of, .. }) => {
                assert_eq!(of, path, "bit {bit} of byte {at}");
                told += 1;
            }
            Err(error) => panic!("bit {bit} of byte {at}: {error}"),
        }
    }
    assert!(told > 50, "{told}");
}

/// As where a page lost its last entries: the tables are sound, and something is missing or too much.
#[test]
fn what_the_catalog_lost_is_missed() {
    for lost in [
        "DELETE FROM item WHERE row = 3",
        "DELETE FROM item WHERE name = CAST('copy.jpg' AS BLOB)",
        "DELETE FROM freed WHERE row = 41",
        "INSERT INTO freed VALUES (3)",
        "DELETE FROM text WHERE row = 50",
        "INSERT INTO text VALUES (3, '')",
        "DELETE FROM content WHERE row = 3",
        "DELETE FROM folder WHERE id = 1",
        "UPDATE item SET row = 4 WHERE row = 3",
        "UPDATE fact SET value = value - 1 WHERE name = 'rows'",
        "UPDATE fact SET value = 'another' WHERE name = 'model'",
    ] {
        let (folder, mut index) = new_index();
        add(&mut index, 0..50);
        index
            .add(&[text("/a.txt", "1", 500)], &rows([500]))
            .unwrap();
        index.add_copies(&[image("/copy.jpg", 7)]).unwrap();
        index.remove(&images(40..45).map_places()).unwrap();
        drop(index);
        assert!(answers(folder.path()).is_ok());
        let path = folder.path().join("catalog.sqlite");
        let catalog = rusqlite::Connection::open(&path).unwrap();
        catalog.pragma_update(None, "foreign_keys", false).unwrap();
        assert_eq!(catalog.execute(lost, []).unwrap(), 1, "{lost}");
        drop(catalog);
        let check = Index::open(folder.path()).and_then(|index| index.check().map(drop));
        for outcome in [answers(folder.path()).map(drop), check] {
            assert!(
                matches!(&outcome, Err(Error::Damaged { path: of, .. }) if *of == path),
                "{lost}: {outcome:?}"
            );
        }
    }
}

#[test]
fn a_damaged_row_is_told_whichever_bit_of_it_is() {
    // Few rows are all looked at, many are chosen by their codes.
    for count in [50, 6000] {
        let (folder, mut index) = new_index();
        add(&mut index, 0..count);
        drop(index);
        let path = rows_file(folder.path());
        let whole = fs::read(&path).unwrap();
        let record = (whole.len() - 64) / count as usize;
        for bit in (0..8 * record).step_by(29) {
            let mut bytes = whole.clone();
            bytes[64 + 7 * record + bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, bytes).unwrap();
            let index = Index::open(folder.path()).unwrap();
            let told =
                |error: Error| matches!(&error, Error::Damaged { path: told, .. } if *told == path);
            let everything = SearchOptions::default();
            assert!(
                told(index.search(&rows([7]), &everything).unwrap_err()),
                "{bit}"
            );
            assert!(told(index.item(&images([7])[0].place).unwrap_err()));
            assert!(told(index.rows(&ItemFilter::default()).unwrap_err()));
            assert_eq!(index.check().unwrap(), images([7]), "{bit}");
        }
    }
}

#[test]
fn items_of_damaged_rows_are_listed_and_come_in_again() {
    let (folder, mut index) = new_index();
    add(&mut index, 0..50);
    index.add_copies(&[image("/copy.jpg", 7)]).unwrap();
    drop(index);
    let path = rows_file(folder.path());
    let mut bytes = fs::read(&path).unwrap();
    for row in [7, 20] {
        bytes[64 + row * (2 * WIDTH + 8) + 5] ^= 1;
    }
    fs::write(&path, bytes).unwrap();
    let mut index = Index::open_to_write(folder.path()).unwrap();
    let mut damaged = vec![image("/copy.jpg", 7)];
    damaged.extend(images([7, 20]));
    assert_eq!(index.check().unwrap(), damaged);
    index.remove(&damaged.map_places()).unwrap();
    assert_eq!(index.check().unwrap(), []);
    index.add(&damaged, &rows([7, 7, 20])).unwrap();
    let whole = [images(0..50), vec![image("/copy.jpg", 7)]].concat();
    assert_holds(&index, &whole);
    index.compact().unwrap();
    assert_holds(&index, &whole);
}

#[test]
fn damaged_codes_are_made_again_or_done_without() {
    let (folder, mut index) = new_index();
    add(&mut index, 0..6000);
    drop(index);
    let path = named(folder.path(), "codes-", ".bits").remove(0);
    let whole = fs::read(&path).unwrap();
    let mut changed = whole.clone();
    let middle = changed.len() / 2;
    changed[middle..middle + 1000].fill(0xff);
    let mut all_damages = damages(&whole, 8);
    all_damages.push(("changed in the middle", Some(changed)));
    for (what, damage) in all_damages {
        put(&path, damage.as_ref());
        let reader = Index::open(folder.path()).unwrap();
        assert_holds(&reader, &images(0..6000));
        let writer = Index::open_to_write(folder.path()).unwrap();
        assert_holds(&writer, &images(0..6000));
        assert_holds(&reader, &images(0..6000));
        if !what.contains("cut") && !what.contains("middle") {
            assert_eq!(fs::read(&path).unwrap(), whole, "{what}");
        }
    }
}

/// A copy of an index as a kill would leave it, without what shares memory.
fn copy(folder: &Path) -> tempfile::TempDir {
    let copied = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name();
        if name != "lock" && name != "catalog.sqlite-shm" {
            fs::copy(folder.join(&name), copied.path().join(&name)).unwrap();
        }
    }
    copied
}

const LOG: &str = "catalog.sqlite-wal";

#[test]
fn a_log_that_is_lost_loses_nothing_that_was_done() {
    let (folder, mut index) = new_index();
    let reader = Index::open(folder.path()).unwrap();
    for numbers in [0..100, 100..101, 101..300] {
        add(&mut index, numbers.clone());
        assert_holds(&reader, &images(0..numbers.end));
        let copied = copy(folder.path());
        fs::remove_file(copied.path().join(LOG)).unwrap();
        assert_holds(
            &Index::open(copied.path()).unwrap(),
            &images(0..numbers.end),
        );
    }
    index.remove(&images(50..300).map_places()).unwrap();
    index.compact().unwrap();
    let copied = copy(folder.path());
    fs::remove_file(copied.path().join(LOG)).unwrap();
    assert_holds(&Index::open(copied.path()).unwrap(), &images(0..50));
}

/// Someone who reads for long keeps the log from being emptied.
#[test]
fn a_damaged_log_is_told_by_name() {
    let (folder, mut index) = new_index();
    add(&mut index, 0..10);
    let catalog = rusqlite::Connection::open(folder.path().join("catalog.sqlite")).unwrap();
    catalog.execute_batch("BEGIN; SELECT * FROM fact").unwrap();
    let mut ends = Vec::new();
    for number in 1..6 {
        add(&mut index, number * 10..number * 10 + 10);
        ends.push(fs::metadata(folder.path().join(LOG)).unwrap().len() as usize);
    }
    let copied = copy(folder.path());
    drop((catalog, index));
    let log = copied.path().join(LOG);
    let whole = fs::read(&log).unwrap();
    assert_eq!(ends.last(), Some(&whole.len()));
    let before_last = ends[ends.len() - 2];
    for at in (0..before_last).step_by(411) {
        let damaged = copy(copied.path());
        let log = damaged.path().join(LOG);
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        fs::write(&log, &bytes).unwrap();
        for open in [Index::open, Index::open_to_write] {
            let error = open(damaged.path()).expect_err("damage");
            assert!(
                matches!(&error, Error::Damaged { path, .. } if *path == log),
                "byte {at}: {error}"
            );
        }
        // The way back that is told.
        fs::remove_file(&log).unwrap();
        assert_holds(
            &Index::open_to_write(damaged.path()).unwrap(),
            &images(0..10),
        );
    }
    // As after a power cut: of the last change nobody was told.
    for end in [
        ends[2],
        before_last - 1,
        before_last,
        before_last + 5000,
        whole.len(),
    ] {
        let cut = copy(copied.path());
        fs::write(cut.path().join(LOG), &whole[..end]).unwrap();
        let changes = ends.iter().filter(|&&written| written <= end).count() as u32;
        assert_holds(
            &Index::open(cut.path()).unwrap(),
            &images(0..10 + 10 * changes),
        );
        let index = Index::open_to_write(cut.path()).unwrap();
        assert_holds(&index, &images(0..10 + 10 * changes));
        assert_eq!(fs::metadata(cut.path().join(LOG)).unwrap().len(), 0);
    }
}

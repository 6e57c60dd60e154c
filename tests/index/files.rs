//! What lies in the folder: compaction, rows that nothing names, copies of earlier catalogs, the first format.

use std::fs::{self, OpenOptions};
use std::io::Write;

use super::*;

pub(crate) fn named(folder: &Path, start: &str, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| {
            let name = entry.file_name().into_string().unwrap();
            name.starts_with(start) && name.ends_with(end)
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// The one file of rows.
pub(crate) fn rows_file(folder: &Path) -> PathBuf {
    let found = named(folder, "rows-", ".i16");
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn compaction_keeps_every_answer() {
    let (folder, mut index) = new_index();
    add(&mut index, 0..300);
    let texts = [text("/notes.txt", "1", 500), text("/notes.txt", "2", 501)];
    index.add(&texts, &rows([500, 501])).unwrap();
    index.add_copies(&[image("/copy.jpg", 250)]).unwrap();
    index.remove(&images(100..220).map_places()).unwrap();
    let before: Vec<Vec<Hit>> = (0..20)
        .map(|query| search(&index, query * 31, &all()))
        .collect();
    let file = rows_file(folder.path());
    index.compact().unwrap();
    assert_ne!(rows_file(folder.path()), file);
    let stats = index.stats().unwrap();
    assert_eq!((stats.rows, stats.freed), (182, 0));
    let record = 2 * WIDTH as u64 + 8;
    let file = fs::metadata(rows_file(folder.path())).unwrap();
    assert_eq!(file.len(), 64 + 182 * record);
    for open in [index, Index::open(folder.path()).unwrap()] {
        let after: Vec<Vec<Hit>> = (0..20)
            .map(|query| search(&open, query * 31, &all()))
            .collect();
        assert_eq!(before, after);
        assert_eq!(open.check().unwrap(), []);
    }
}

#[test]
fn an_index_of_which_half_was_removed_grows_smaller_by_itself() {
    let (folder, mut index) = new_index();
    add(&mut index, 0..9000);
    assert_eq!(named(folder.path(), "codes-", ".bits").len(), 1);
    index.remove(&images(0..4000).map_places()).unwrap();
    assert_eq!(index.stats().unwrap().freed, 4000);
    index.remove(&images(4000..4600).map_places()).unwrap();
    assert_eq!(index.stats().unwrap().freed, 0);
    assert_eq!(
        fs::metadata(rows_file(folder.path())).unwrap().len(),
        64 + 4400 * (2 * WIDTH as u64 + 8)
    );
    assert_eq!(named(folder.path(), "codes-", ".bits").len(), 1);
    assert_holds(&index, &images(4600..9000));
}

#[test]
fn what_was_written_and_never_named_is_not_found_and_written_over() {
    let (folder, mut index) = new_index();
    add(&mut index, 0..20);
    drop(index);
    let path = rows_file(folder.path());
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(&[0x3c; 10 * (2 * WIDTH + 8) + 7]).unwrap();
    drop(file);
    assert_holds(&Index::open(folder.path()).unwrap(), &images(0..20));
    let mut index = Index::open_to_write(folder.path()).unwrap();
    assert_holds(&index, &images(0..20));
    add(&mut index, 20..25);
    assert_holds(&index, &images(0..25));
}

/// As after a kill between rows and catalog, or when a catalog is put back from a copy.
#[test]
fn rows_and_codes_that_an_earlier_catalog_does_not_name_are_not_believed() {
    let (folder, mut index) = new_index();
    add(&mut index, 0..5000);
    drop(index);
    let catalog = folder.path().join("catalog.sqlite");
    let earlier = fs::read(&catalog).unwrap();
    let mut index = Index::open_to_write(folder.path()).unwrap();
    add(&mut index, 5000..10_000);
    drop(index);
    assert_eq!(named(folder.path(), "catalog.sqlite-", "").len(), 0);
    fs::write(&catalog, &earlier).unwrap();
    assert_holds(&Index::open(folder.path()).unwrap(), &images(0..5000));
    let mut index = Index::open_to_write(folder.path()).unwrap();
    assert_holds(&index, &images(0..5000));
    add(&mut index, 20_000..25_000);
    assert_holds(&index, &[images(0..5000), images(20_000..25_000)].concat());
    for number in 20_000..20_050 {
        assert_eq!(
            search(&index, number, &SearchOptions::default())[0]
                .item
                .size,
            u64::from(number)
        );
    }
}

#[test]
fn a_folder_that_is_no_index_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    assert!(!Index::exists(folder.path()));
    for error in [
        Index::open(folder.path()).unwrap_err(),
        Index::open_to_write(folder.path()).unwrap_err(),
    ] {
        assert!(matches!(&error, Error::NoIndex { path } if path == folder.path()));
        assert!(error.hint().is_some());
    }
}

#[test]
fn a_second_writer_is_told_who_writes() {
    let (folder, index) = new_index();
    let error = Index::open_to_write(folder.path()).unwrap_err();
    let Error::Locked { path, holder } = &error else {
        panic!("{error}")
    };
    assert_eq!(path, folder.path());
    assert_eq!(*holder, format!("process {}", std::process::id()));
    assert!(error.hint().is_some());
    assert!(matches!(
        Index::create(folder.path(), MODEL, WIDTH),
        Err(Error::Locked { .. })
    ));
    Index::open(folder.path()).unwrap();
    drop(index);
    Index::open_to_write(folder.path()).unwrap();
}

const FIRST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/index-v1");

fn first_items() -> Vec<Item> {
    let texts = [
        text("/notes/a.txt", "first", 8),
        text("/notes/a.txt", "second", 9),
    ];
    [
        images(0..6),
        texts.to_vec(),
        vec![image("/photos/deep/er/copy.jpg", 5)],
    ]
    .concat()
}

#[test]
fn an_index_of_the_first_format_opens_and_answers() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["catalog.sqlite", "rows-1.i16"] {
        fs::copy(Path::new(FIRST).join(file), folder.path().join(file)).unwrap();
    }
    assert_holds(&Index::open(folder.path()).unwrap(), &first_items());
    let mut index = Index::open_to_write(folder.path()).unwrap();
    assert_eq!(index.stats().unwrap().freed, 1);
    assert_eq!(index.model(), MODEL);
    add(&mut index, 10..12);
    assert_holds(&index, &[first_items(), images(10..12)].concat());
}

#[test]
#[ignore = "writes the index of the first format that is kept in tests/data; another format has another folder"]
fn write_an_index_of_the_first_format() {
    let _ = fs::remove_dir_all(FIRST);
    let mut index = Index::create(Path::new(FIRST), MODEL, WIDTH).unwrap();
    let items = first_items();
    let numbers: Vec<u32> = items.iter().map(|item| item.size as u32).collect();
    index.add(&items, &rows(numbers)).unwrap();
    add(&mut index, [7]);
    index.remove(&images([7]).map_places()).unwrap();
    drop(index);
    fs::remove_file(Path::new(FIRST).join("lock")).unwrap();
}

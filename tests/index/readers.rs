//! Readers that are open while a writer works.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

#[test]
fn a_reader_sees_what_a_writer_did() {
    let (folder, mut writer) = new_index();
    let reader = Index::open(folder.path()).unwrap();
    assert_holds(&reader, &[]);
    add(&mut writer, 0..100);
    assert_holds(&reader, &images(0..100));
    writer.remove(&images(20..90).map_places()).unwrap();
    let left = [images(0..20), images(90..100)].concat();
    assert_holds(&reader, &left);
    writer.compact().unwrap();
    assert_holds(&reader, &left);
    add(&mut writer, 200..210);
    assert_holds(&reader, &[left, images(200..210)].concat());
    drop(writer);
    let mut writer = Index::open_to_write(folder.path()).unwrap();
    add(&mut writer, 300..6000);
    let hits = search(&reader, 5999, &SearchOptions::default());
    assert_eq!(hits[0].item, images([5999])[0]);
}

#[test]
fn a_filter_is_looked_up_again_after_a_change() {
    let (folder, mut writer) = new_index();
    let reader = Index::open(folder.path()).unwrap();
    let options = filtered(ItemFilter {
        within: vec!["/photos".into()],
        ..ItemFilter::default()
    });
    for index in [0u32, 1, 2] {
        add(&mut writer, index * 10..index * 10 + 10);
        for index_open in [&reader, &writer] {
            assert_eq!(
                search(index_open, 1, &options).len(),
                10 * (index as usize + 1)
            );
            assert_eq!(
                search(index_open, 1, &all()).len(),
                10 * (index as usize + 1)
            );
        }
    }
    writer.remove(&images([5]).map_places()).unwrap();
    assert_eq!(search(&reader, 1, &options).len(), 29);
    assert_eq!(search(&writer, 1, &options).len(), 29);
}

/// Items 0 to 99 stay, others come and go, and the file of rows is another again and again.
#[test]
fn readers_see_right_answers_while_a_writer_works() {
    let (folder, mut writer) = new_index();
    add(&mut writer, 0..100);
    let is_done = AtomicBool::new(false);
    let (writer, searches) = thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|number| {
                let (folder, is_done) = (folder.path(), &is_done);
                scope.spawn(move || look(folder, number, is_done))
            })
            .collect();
        for round in 0..30 {
            let numbers = 1000 * (round + 1)..1000 * (round + 1) + 200;
            add(&mut writer, numbers.clone());
            writer.remove(&images(numbers).map_places()).unwrap();
            writer.compact().unwrap();
            if round % 7 == 0 {
                drop(writer);
                writer = Index::open_to_write(folder.path()).unwrap();
            }
        }
        is_done.store(true, Ordering::Relaxed);
        let searches: usize = readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .sum();
        (writer, searches)
    });
    assert!(searches > 10, "only {searches} searches in the meantime");
    assert_holds(&writer, &images(0..100));
}

fn look(folder: &Path, reader: u32, is_done: &AtomicBool) -> usize {
    let mut index = Index::open(folder).unwrap();
    let mut searches = 0;
    while !is_done.load(Ordering::Relaxed) {
        let number = (searches as u32 * 7 + reader) % 100;
        let hits = search(&index, number, &SearchOptions::default());
        assert_eq!(hits[0].item, images([number])[0]);
        hits.iter().for_each(|hit| assert_score(hit, number));
        let (item, row) = index.item(&images([number])[0].place).unwrap().unwrap();
        assert_eq!(item.size, u64::from(number));
        assert!(row.row(0)[0].is_finite());
        searches += 1;
        if searches % 20 == 0 {
            index = Index::open(folder).unwrap();
        }
    }
    searches
}

/// As a snapshot is, or the disk of someone else.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs the right to mount"]
fn where_nothing_can_be_written_an_index_is_read() {
    const INSIDE: &str = "DIPTYCH_TEST_MOUNTS";
    if std::env::var_os(INSIDE).is_none() {
        // In a namespace of its own, so that nothing stays mounted.
        let status = Command::new("unshare")
            .arg("-m")
            .arg(std::env::current_exe().unwrap())
            .args([
                "readers::where_nothing_can_be_written_an_index_is_read",
                "--exact",
                "--ignored",
            ])
            .env(INSIDE, "1")
            .status();
        return assert!(status.unwrap().success());
    }
    let folder = tempfile::tempdir().unwrap();
    let mount = |options: &str| {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(folder.path())
            .status();
        assert!(status.unwrap().success());
    };
    mount("size=64m");
    let mut index = Index::create(folder.path(), MODEL, WIDTH).unwrap();
    add(&mut index, 0..5000);
    drop(index);
    mount("remount,ro");
    let files = fs::read_dir(folder.path()).unwrap().count();
    assert_holds(&Index::open(folder.path()).unwrap(), &images(0..5000));
    let error = Index::open_to_write(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error}");
    // A writer that was killed, while a long look at the index kept the log from being emptied.
    mount("remount,rw");
    let catalog = folder.path().join("catalog.sqlite");
    let reader = rusqlite::Connection::open(catalog).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM fact").unwrap();
    let mut index = Index::open_to_write(folder.path()).unwrap();
    add(&mut index, 6000..6010);
    let entries = fs::read_dir(folder.path()).unwrap();
    let left: Vec<(PathBuf, Vec<u8>)> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    drop((index, reader));
    for (path, bytes) in left {
        fs::write(path, bytes).unwrap();
    }
    mount("remount,ro");
    let expected = [images(0..5000), images(6000..6010)].concat();
    assert_holds(&Index::open(folder.path()).unwrap(), &expected);
    mount("remount,rw");
    fs::remove_file(folder.path().join("catalog.sqlite-shm")).unwrap();
    mount("remount,ro");
    let error = Index::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Unfinished { .. }), "{error}");
    assert!(error.hint().is_some());
    mount("remount,rw");
    assert_holds(&Index::open(folder.path()).unwrap(), &expected);
    assert_eq!(files, 4, "rows, codes, catalog, lock");
}

//! Writers that are killed, and disks that are full. The writers are this program again, as processes of their own.

#![allow(
    clippy::print_stdout,
    reason = "a process tells the test that started it how far it is"
)]

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::*;

/// Names the index's folder to a writer.
const FOLDER: &str = "DIPTYCH_TEST_FOLDER";
/// Items of one commit.
const BATCH: u32 = 40;

/// This program, to run one of its tests alone, which works on `folder`.
fn itself(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            &format!("crashes::{test}"),
            "--exact",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FOLDER, folder)
        .stdout(Stdio::piped());
    command
}

/// The numbers that a writer reports, one a line.
struct Reports(Lines<BufReader<ChildStdout>>);

impl Reports {
    fn of(child: &mut Child) -> Self {
        Self(BufReader::new(child.stdout.take().unwrap()).lines())
    }
}

impl Iterator for Reports {
    type Item = u32;

    /// The first report stands behind what the test harness wrote. A line that a kill cut short is no report.
    fn next(&mut self) -> Option<u32> {
        let mut lines = self.0.by_ref().map_while(Result::ok);
        lines.find_map(|line| line.rsplit_once("done ")?.1.strip_suffix('.')?.parse().ok())
    }
}

#[test]
#[ignore = "a writer that another test starts and kills"]
fn writer() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).expect("a folder"));
    let mut index = Index::open_to_write(&folder).unwrap();
    let mut batch = (index.items(&ItemFilter::default()).unwrap().len() as u32) / BATCH;
    loop {
        add(&mut index, batch * BATCH..(batch + 1) * BATCH);
        println!("done {batch}.");
        batch += 1;
        if batch.is_multiple_of(5) {
            index.compact().unwrap();
        }
    }
}

#[test]
fn a_writer_that_is_killed_loses_nothing_that_it_reported() {
    let (folder, index) = new_index();
    drop(index);
    for round in 0..12u64 {
        let mut child = itself("writer", folder.path()).spawn().unwrap();
        let mut reports = Reports::of(&mut child);
        let seen = reports.nth((round * 5 % 7) as usize).expect("a commit");
        thread::sleep(Duration::from_micros(round * 7919 % 30_000));
        child.kill().unwrap();
        child.wait().unwrap();
        // What it reported until then waits in the pipe.
        let last = reports.last().unwrap_or(seen);
        let index = Index::open(folder.path()).unwrap();
        let count = index.items(&ItemFilter::default()).unwrap().len() as u32;
        assert!(
            count >= (last + 1) * BATCH,
            "{count} items after batch {last}"
        );
        assert_eq!(count % BATCH, 0, "a part of a commit");
        assert_holds(&index, &images(0..count));
    }
    let mut index = Index::open_to_write(folder.path()).unwrap();
    let count = index.items(&ItemFilter::default()).unwrap().len() as u32;
    add(&mut index, count..count + 10);
    assert_holds(&index, &images(0..count + 10));
}

/// Adds until the disk is full, and looks at what is left.
#[test]
#[ignore = "a writer that another test starts where there is little room"]
fn writer_in_a_small_room() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).expect("a folder"));
    let mut index = Index::create(&folder, MODEL, WIDTH).unwrap();
    let mut count = 0;
    let error = loop {
        match index.add(&images(count..count + 500), &rows(count..count + 500)) {
            Ok(()) => count += 500,
            Err(error) => break error,
        }
        assert!(count < 1_000_000, "the room is not small");
    };
    assert!(
        matches!(error, Error::Write { .. } | Error::Catalog { .. }),
        "{error}"
    );
    assert!(count > 0, "{error}");
    assert_holds(&index, &images(0..count));
    // A small change may still find room; whatever comes of it, the index is whole.
    let one = index.add(&images([count]), &rows([count]));
    let count = count + u32::from(one.is_ok());
    assert_holds(&Index::open(&folder).unwrap(), &images(0..count));
    drop(index);
    assert_holds(&Index::open(&folder).unwrap(), &images(0..count));
    println!("done {count}.");
}

/// Runs the writer by a shell that makes the room small first.
fn fill(make_small: &str, folder: &Path) -> u32 {
    let writer = itself("writer_in_a_small_room", folder);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{make_small} && exec \"$@\""), "sh"]);
    shell.arg(writer.get_program()).args(writer.get_args());
    shell.env(FOLDER, folder).stdout(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    let count = Reports::of(&mut child).last();
    assert!(child.wait().unwrap().success());
    count.expect("a report")
}

/// No file may grow past a limit, and no signal tells of it: writing fails as on a full disk.
#[test]
#[cfg(unix)]
fn where_files_cannot_grow_the_index_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("index");
    let count = fill("trap '' XFSZ && ulimit -f 600", &folder);
    let mut index = Index::open_to_write(&folder).unwrap();
    assert_holds(&index, &images(0..count));
    add(&mut index, count..count + 5000);
    assert_holds(&index, &images(0..count + 5000));
}

#[test]
#[ignore = "needs the right to mount"]
fn on_a_full_disk_the_index_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mount = format!(
        "mount -t tmpfs -o size=3m tmpfs '{}'",
        folder.path().display()
    );
    // In a namespace of its own, so that nothing stays mounted.
    let inside = std::env::var_os("DIPTYCH_TEST_UNSHARED").is_some();
    if inside {
        let count = fill(&mount, &folder.path().join("index"));
        assert!(count > 1000);
        return;
    }
    let status = Command::new("unshare")
        .arg("-m")
        .arg(std::env::current_exe().unwrap())
        .args([
            "crashes::on_a_full_disk_the_index_stays_as_it_was",
            "--exact",
            "--ignored",
        ])
        .env("DIPTYCH_TEST_UNSHARED", "1")
        .status();
    assert!(status.unwrap().success());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

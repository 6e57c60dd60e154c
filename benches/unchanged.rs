//! How long `diptych index` takes over 100,000 files of which none has changed, beside a walk that only asks for their
//! sizes.
//!
//! `cargo bench --bench unchanged`.

#![allow(clippy::print_stdout, reason = "a bench prints its table")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use diptych::{Embeddings, Index, Item, index};
use ndarray::Array2;

const FILES: usize = 100_000;
const FOLDERS: usize = 100;
const ROUNDS: usize = 5;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let (photos, place) = (folder.path().join("photos"), folder.path().join("index"));
    fill(&photos);
    // One photo, so that the program makes the index and says in it what its rows are of.
    let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/photos/cat.jpg");
    run(&place, &photo);
    name_all(&place, &photos);

    let (mut walks, mut runs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        assert_eq!(walked(&photos), FILES);
        walks.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let said = run(&place, &photos);
        runs.push(start.elapsed().as_secs_f64());
        let unchanged = serde_json::from_str::<serde_json::Value>(&said).unwrap();
        assert_eq!(unchanged["unchanged"], FILES, "{said}");
        assert_eq!(unchanged["encoded"], 0, "{said}");
    }
    walks.sort_by(f64::total_cmp);
    runs.sort_by(f64::total_cmp);
    let (walk, run) = (walks[ROUNDS / 2], runs[ROUNDS / 2]);
    println!("{FILES} files in {FOLDERS} folders, medians of {ROUNDS} rounds in turn");
    println!("walk, with the size of each file     {walk:8.2} s");
    println!(
        "diptych index, nothing changed       {run:8.2} s, {:.1} times",
        run / walk
    );
}

/// Files that are looked at, but never opened.
fn fill(photos: &Path) {
    for number in 0..FOLDERS {
        let folder = photos.join(format!("{number:03}"));
        fs::create_dir_all(&folder).unwrap();
        for file in 0..FILES / FOLDERS {
            let path = folder.join(format!("IMG_{file:04}.jpg"));
            fs::write(path, number.to_le_bytes()).unwrap();
        }
    }
}

/// Gives every file a row.
fn name_all(place: &Path, photos: &Path) {
    let found = index::walk(&[photos.to_owned()], &index::WalkOptions::default()).unwrap();
    let mut index = Index::open_to_write(place).unwrap();
    let width = index.width();
    for (number, files) in found.files.chunks(FILES / 4).enumerate() {
        let item = |(row, file): (usize, &index::FoundFile)| Item {
            place: file.place.clone(),
            size: file.stat.size,
            modified: file.stat.modified,
            hash: index::hash(&(number * FILES + row).to_le_bytes()),
            text: None,
            taken: None,
        };
        let items: Vec<Item> = files.iter().enumerate().map(item).collect();
        let value = |(row, place): (usize, usize)| ((row * 31 + place * 17) % 29) as f32 - 14.0;
        let rows = Array2::from_shape_fn((files.len(), width), value);
        index.add(&items, &Embeddings::new(rows).unwrap()).unwrap();
    }
}

fn run(place: &Path, path: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_diptych"))
        .args(["index", "-q", "--json", "--index"])
        .args([place, path])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn walked(photos: &Path) -> usize {
    let entries = walkdir::WalkDir::new(photos).into_iter();
    let files = entries.filter(|entry| {
        let metadata = entry.as_ref().unwrap().metadata().unwrap();
        metadata.is_file() && metadata.len() > 0
    });
    files.count()
}

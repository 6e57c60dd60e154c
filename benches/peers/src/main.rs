//! The same rows and queries as in `benches/search.rs`, in USearch's graph of neighbours, in a plain loop, and in
//! diptych's index.
//!
//! `cargo run --release` in this folder; `-- --million` for ten times as many rows.

#[path = "../../rows/mod.rs"]
#[allow(dead_code, reason = "benches/search.rs prints more of it")]
mod rows;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use diptych::{Embeddings, Index, Item, ItemFilter, Place, SearchOptions, index};
use ndarray::ArrayView2;
use rows::{Source, WIDTH, dot, exact, percentiles, recall, threads, times};
use usearch::{IndexOptions, MetricKind, ScalarKind};

const TOP: usize = 10;
const QUERIES: usize = 100;
const TIMED: usize = 300;
/// The filter keeps one row in so many.
const FOLDERS: usize = 500;
const BATCH: usize = 50_000;
/// How many neighbours USearch keeps an eye on while it searches: what it does by default, and more for more recall.
const EXPANSIONS: [usize; 3] = [64, 256, 1024];

fn main() {
    let source = Source::open();
    measure(&source, 100_000);
    if std::env::args().any(|argument| argument == "--million") {
        measure(&source, 1_000_000);
    }
}

/// What is asked, and what is right.
struct Task {
    images: Vec<f32>,
    queries: Vec<f32>,
    truth: Vec<Vec<(usize, f32)>>,
}

impl Task {
    fn query(&self, number: usize) -> &[f32] {
        &self.queries[number % self.truth.len() * WIDTH..][..WIDTH]
    }

    /// Prints how often `search` finds what is right, and how long it takes.
    fn judge(&self, what: &str, search: impl Fn(&[f32]) -> Vec<usize>) {
        let found: Vec<Vec<usize>> = (0..self.truth.len())
            .map(|number| search(self.query(number)))
            .collect();
        let score =
            |query, row: usize| dot(&self.images[row * WIDTH..][..WIDTH], self.query(query));
        let recall = recall(&found, &self.truth, score);
        assert!(recall > 0.1, "{what} finds nothing");
        let (median, late) = percentiles(times(TIMED, |number| drop(search(self.query(number)))));
        println!("{what:40} recall@{TOP} {recall:.4} {median:8.2} ms {late:8.2} ms (p50, p99)");
    }

    fn time(&self, what: &str, search: impl Fn(&[f32], usize) -> usize) {
        assert_eq!(search(self.query(0), 1), TOP);
        let times = times(TIMED, |number| drop(search(self.query(number), number)));
        let (median, late) = percentiles(times);
        println!("{what:40}                  {median:8.2} ms {late:8.2} ms (p50, p99)");
    }
}

fn measure(source: &Source, count: usize) {
    println!("\n{count} rows of images around {}", source.name);
    let images = source.images(count, 1);
    let folder = tempfile::tempdir().unwrap();
    let ours = diptych(&folder.path().join("index"), &images);
    let theirs = usearch(&folder.path().join("usearch"), &images);
    for (kind, queries) in [
        ("images", source.images(QUERIES, 2)),
        ("texts", source.texts[..QUERIES * WIDTH].to_vec()),
    ] {
        let truth = queries
            .chunks(WIDTH)
            .map(|query| exact(&images, query, TOP))
            .collect();
        let task = Task {
            images: images.clone(),
            queries,
            truth,
        };
        task.judge(&format!("diptych, {kind}"), |query| {
            found(&ours, query, ItemFilter::default())
        });
        task.judge(&format!("plain loop over f32 rows, {kind}"), |query| {
            let best = exact(&images, query, TOP).into_iter();
            best.map(|(row, _)| row).collect()
        });
        for expansion in EXPANSIONS {
            theirs.change_expansion_search(expansion);
            let search = |query: &[f32]| keys(&theirs.search(query, TOP).unwrap().keys);
            task.judge(&format!("USearch, {kind}, expansion {expansion}"), search);
        }
        theirs.change_expansion_search(EXPANSIONS[0]);
        task.time(
            &format!("diptych, {kind}, in a folder of 0.2 %"),
            |query, number| {
                let within = vec![format!("/photos/{}", number % FOLDERS).into()];
                found(
                    &ours,
                    query,
                    ItemFilter {
                        within,
                        ..ItemFilter::default()
                    },
                )
                .len()
            },
        );
        task.time(&format!("USearch, {kind}, in 0.2 %"), |query, number| {
            let is_in = |key: u64| key as usize % FOLDERS == number % FOLDERS;
            theirs
                .filtered_search(query, TOP, is_in)
                .unwrap()
                .keys
                .len()
        });
    }
}

fn keys(keys: &[u64]) -> Vec<usize> {
    keys.iter().map(|key| *key as usize).collect()
}

fn embeddings(values: &[f32]) -> Embeddings {
    let rows = ArrayView2::from_shape((values.len() / WIDTH, WIDTH), values).unwrap();
    Embeddings::new(rows.to_owned()).unwrap()
}

fn report(what: &str, count: usize, time: Duration, bytes: u64) {
    let (rate, megabytes) = (count as f64 / time.as_secs_f64(), bytes as f64 / 1e6);
    println!("{what:40} insert {rate:9.0} rows/s, {megabytes:8.1} MB on the disk");
}

fn diptych(folder: &Path, images: &[f32]) -> Index {
    let count = images.len() / WIDTH;
    let item = |row: usize| Item {
        place: Place {
            folder: format!("/photos/{}", row % FOLDERS).into(),
            name: row.to_string().into(),
        },
        size: 1,
        modified: 0,
        hash: index::hash(&row.to_le_bytes()),
        text: None,
        taken: None,
    };
    let items: Vec<Item> = (0..count).map(item).collect();
    let mut made = Index::create(folder, "a model", WIDTH).unwrap();
    let start = Instant::now();
    for (items, values) in items.chunks(BATCH).zip(images.chunks(BATCH * WIDTH)) {
        made.add(items, &embeddings(values)).unwrap();
    }
    report(
        "diptych",
        count,
        start.elapsed(),
        made.stats().unwrap().bytes,
    );
    made
}

fn found(index: &Index, query: &[f32], filter: ItemFilter) -> Vec<usize> {
    let options = SearchOptions {
        filter,
        ..SearchOptions::default()
    };
    let hits = index.search(&embeddings(query), &options).unwrap();
    let number = |name: &std::ffi::OsStr| name.to_str()?.parse().ok();
    hits.iter()
        .map(|hit| number(&hit.item.place.name).unwrap())
        .collect()
}

fn usearch(file: &Path, images: &[f32]) -> usearch::Index {
    let options = IndexOptions {
        dimensions: WIDTH,
        metric: MetricKind::IP,
        quantization: ScalarKind::F16,
        ..IndexOptions::default()
    };
    let made = usearch::new_index(&options).unwrap();
    let count = images.len() / WIDTH;
    made.reserve_capacity_and_threads(count, threads()).unwrap();
    let start = Instant::now();
    let size = count.div_ceil(threads());
    thread::scope(|scope| {
        for (part, rows) in images.chunks(size * WIDTH).enumerate() {
            let made = &made;
            scope.spawn(move || {
                for (row, values) in rows.chunks(WIDTH).enumerate() {
                    made.add((part * size + row) as u64, values).unwrap();
                }
            });
        }
    });
    let time = start.elapsed();
    made.save(file.to_str().unwrap()).unwrap();
    report("USearch, f16", count, time, file.metadata().unwrap().len());
    made
}

//! How long a search takes over 100,000 images, how often it finds what a plain loop over all rows finds, and what the
//! index costs to make and to keep.
//!
//! `cargo bench --bench search`; `-- --million` for ten times as many. Another vector index on the same rows:
//! `benches/peers`.

#![allow(clippy::print_stdout, reason = "a bench prints its table")]

mod rows;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use diptych::{Embeddings, Hit, Index, Item, ItemFilter, Place, SearchOptions, index};
use ndarray::ArrayView2;
use rows::{Source, WIDTH, exact, mean_cosine, percentiles, recall, times};

const TOP: usize = 10;
/// Queries of each kind whose best rows are looked up by the plain loop.
const JUDGED: usize = 500;
/// Searches of each kind that are timed.
const TIMED: usize = 1000;
/// One folder in so many is what the filter keeps: 0.2 %.
const FOLDERS: usize = 500;
/// Rows that are added at a time.
const BATCH: usize = 50_000;
/// Names the index that a new process is to open, and to search once.
const COLD: &str = "DIPTYCH_BENCH_COLD";

fn main() {
    if let Some(folder) = std::env::var_os(COLD) {
        return search_once(Path::new(&folder));
    }
    let source = Source::open();
    measure(&source, 100_000);
    if std::env::args().any(|argument| argument == "--million") {
        measure(&source, 1_000_000);
    }
}

fn measure(source: &Source, count: usize) {
    let folder = tempfile::tempdir().unwrap();
    let images = source.images(count, 1);
    let queries = source.images(JUDGED, 2);
    println!("\n{count} rows of images around {}", source.name);
    println!(
        "mean cosine of two images                  {:12.2}",
        mean_cosine(&images, &images)
    );
    println!(
        "mean cosine of an image and a text         {:12.2}",
        mean_cosine(&source.texts, &images)
    );
    let rate = insert(folder.path(), &images);
    let index = Index::open(folder.path()).unwrap();
    judge(
        &index,
        &images,
        &[("images", &queries), ("texts", &source.texts)],
    );
    println!("insert                                     {rate:12.0} rows/s");
    weigh(folder.path(), count);
    cold(folder.path());
}

fn name(row: usize) -> String {
    format!("{row:07}.jpg")
}

fn folder_of(row: usize) -> PathBuf {
    format!("/photos/{:03}", row % FOLDERS).into()
}

fn item(row: usize) -> Item {
    Item {
        place: Place {
            folder: folder_of(row),
            name: name(row).into(),
        },
        size: 100_000 + row as u64,
        modified: row as i64,
        hash: index::hash(&row.to_le_bytes()),
        text: None,
        taken: None,
    }
}

fn embeddings(values: &[f32]) -> Embeddings {
    let shape = (values.len() / WIDTH, WIDTH);
    Embeddings::new(ArrayView2::from_shape(shape, values).unwrap().to_owned()).unwrap()
}

/// Rows a second, on the disk, with their codes.
fn insert(folder: &Path, images: &[f32]) -> f64 {
    let count = images.len() / WIDTH;
    let items: Vec<Item> = (0..count).map(item).collect();
    let mut index = Index::create(folder, "a model", WIDTH).unwrap();
    let mut seconds = 0.0;
    for (items, values) in items.chunks(BATCH).zip(images.chunks(BATCH * WIDTH)) {
        let rows = embeddings(values);
        let start = Instant::now();
        index.add(items, &rows).unwrap();
        seconds += start.elapsed().as_secs_f64();
    }
    assert_eq!(index.stats().unwrap().rows, count);
    count as f64 / seconds
}

/// The numbers of the rows that were found.
fn numbers(hits: &[Hit]) -> Vec<usize> {
    let number = |hit: &Hit| {
        hit.item
            .place
            .name
            .to_str()?
            .strip_suffix(".jpg")?
            .parse()
            .ok()
    };
    hits.iter().map(|hit| number(hit).unwrap()).collect()
}

fn within_a_folder(number: usize) -> SearchOptions {
    SearchOptions {
        filter: ItemFilter {
            within: vec![folder_of(number)],
            ..ItemFilter::default()
        },
        ..SearchOptions::default()
    }
}

/// Recall first, then times, for each kind of query.
fn judge(index: &Index, images: &[f32], kinds: &[(&str, &[f32])]) {
    let everything = SearchOptions::default();
    let queries: Vec<Vec<&[f32]>> = kinds
        .iter()
        .map(|(_, rows)| rows.chunks(WIDTH).take(JUDGED).collect())
        .collect();
    let found: Vec<Vec<Vec<usize>>> = queries
        .iter()
        .map(|queries| {
            let search = |query: &&[f32]| index.search(&embeddings(query), &everything).unwrap();
            queries
                .iter()
                .map(|query| numbers(&search(query)))
                .collect()
        })
        .collect();
    let loops = times(20, |number| drop(exact(images, queries[0][number], TOP)));
    for ((queries, found), (kind, _)) in queries.iter().zip(&found).zip(kinds) {
        let truth: Vec<_> = queries
            .iter()
            .map(|query| exact(images, query, TOP))
            .collect();
        let score =
            |query: usize, row: usize| rows::dot(&images[row * WIDTH..][..WIDTH], queries[query]);
        let recall = recall(found, &truth, score);
        println!("recall@{TOP}, {kind:6}                           {recall:12.4}");
        assert!(recall >= 0.999, "the best rows are not found");
    }
    for (number, query) in queries.iter().flatten().enumerate() {
        assert_filter_is_exact(index, images, query, number);
    }
    for ((kind, _), queries) in kinds.iter().zip(&queries) {
        let queries: Vec<Embeddings> = queries.iter().map(|query| embeddings(query)).collect();
        let query = |number: usize| &queries[number % queries.len()];
        let all = times(TIMED, |number| {
            drop(index.search(query(number), &everything).unwrap());
        });
        let filtered = times(TIMED, |number| {
            drop(
                index
                    .search(query(number), &within_a_folder(number))
                    .unwrap(),
            );
        });
        print_times(&format!("search, {kind}"), all);
        print_times(&format!("search in a folder of 0.2 %, {kind}"), filtered);
    }
    print_times("plain loop over f32 rows, all cores", loops);
}

fn print_times(what: &str, times: Vec<std::time::Duration>) {
    let (median, late) = percentiles(times);
    println!("{what:42} {median:9.2} ms {late:9.2} ms (p50, p99)");
}

fn assert_filter_is_exact(index: &Index, images: &[f32], query: &[f32], number: usize) {
    let options = within_a_folder(number);
    let hits = index.search(&embeddings(query), &options).unwrap();
    let rows = (number % FOLDERS..images.len() / WIDTH).step_by(FOLDERS);
    let mut scores: Vec<f32> = rows
        .map(|row| rows::dot(&images[row * WIDTH..][..WIDTH], query))
        .collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    assert_eq!(hits.len(), TOP);
    for (hit, score) in hits.iter().zip(scores) {
        assert_eq!(hit.item.place.folder, folder_of(number));
        assert!((hit.score - score).abs() < 1e-4, "{} {score}", hit.score);
    }
}

fn weigh(folder: &Path, count: usize) {
    let mut all = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (name, length) = (entry.file_name(), entry.metadata().unwrap().len());
        all += length;
        if length > 100 {
            let megabytes = length as f64 / 1e6;
            println!("{:42} {megabytes:9.1} MB", name.display());
        }
    }
    let ratio = all as f64 / (count * WIDTH * 2) as f64;
    println!("all files / rows in f16 alone              {ratio:12.2}");
}

/// Opens and searches in processes of their own.
fn cold(folder: &Path) {
    let mut all = Vec::new();
    let mut resident = 0.0;
    for _ in 0..7 {
        let program = std::env::current_exe().unwrap();
        let output = Command::new(program).env(COLD, folder).output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let (time, megabytes) = text.trim().split_once(' ').unwrap();
        all.push(time.parse::<f64>().unwrap());
        resident = megabytes.parse().unwrap();
    }
    all.sort_by(f64::total_cmp);
    println!(
        "open and search, in a new process          {:9.2} ms (median of 7)",
        all[3]
    );
    println!("of its codes in memory then                {resident:9.1} MB");
}

fn search_once(folder: &Path) {
    let query = embeddings(
        &(0..WIDTH)
            .map(|place| (place % 7) as f32 - 3.0)
            .collect::<Vec<_>>(),
    );
    let start = Instant::now();
    let index = Index::open(folder).unwrap();
    let hits = index.search(&query, &SearchOptions::default()).unwrap();
    let time = start.elapsed();
    assert_eq!(hits.len(), TOP);
    println!("{} {}", time.as_secs_f64() * 1e3, codes_in_memory());
}

/// Megabytes of mapped codes that this process has in memory, as Linux tells; elsewhere 0.
fn codes_in_memory() -> f64 {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let of_codes = maps.lines().skip_while(|line| !line.ends_with(".bits"));
    let resident = of_codes.filter_map(|line| line.strip_prefix("Rss:")).next();
    let kilobytes = resident.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) * 1.024e-3
}

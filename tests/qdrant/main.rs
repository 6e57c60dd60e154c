//! An index on a Qdrant server.
//!
//! The contract runs against a stand-in that comes with the tests, and against a real server where QDRANT_URL names one:
//! `QDRANT_URL=qdrant://localhost:6334 cargo test --features qdrant --test qdrant -- --ignored`.

#[path = "../common/mod.rs"]
mod common;
mod stand_in;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{golden, stderr, write_photo};
use diptych::index::{Collection, Store};
use diptych::{Embeddings, Error, Hit, Index, Item, ItemFilter, Kind, Place, SearchOptions};
use ndarray::Array2;
use serde_json::Value;
use stand_in::StandIn;
use tempfile::TempDir;
use tonic::{Code, Status};

const WIDTH: usize = 24;
const MODEL: &str = "a model@0123456789abcdef";
/// Of a score here and one that was reckoned in another order.
const CLOSE: f32 = 1e-5;

/// More rows than a request holds, in all kinds of folders.
fn items(count: usize) -> Vec<Item> {
    let folders = [
        "/photos",
        "/photos/2024",
        "/photos/2024/may",
        "/photos2",
        "/texts.jsonl",
    ];
    let item = |number: usize| {
        let folder = folders[number % folders.len()];
        Item {
            place: Place {
                folder: folder.into(),
                name: name(number),
            },
            size: number as u64 % 7,
            modified: number as i64 * 500_000_000 + number as i64 % 3,
            hash: hash(number),
            text: (folder == "/texts.jsonl").then(|| format!("text {number}")),
            // Some photos were taken in another order.
            taken: (number % 4 == 1 && folder != "/texts.jsonl")
                .then(|| (600 - number as i64) * 500_000_000),
        }
    };
    (0..count).map(item).collect()
}

fn time(item: &Item) -> i64 {
    item.taken.unwrap_or(item.modified)
}

fn hash(number: usize) -> [u8; 16] {
    (number as u128 * 0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

/// Some names are not UTF-8, where the system has such.
fn name(number: usize) -> std::ffi::OsString {
    #[cfg(unix)]
    if number % 10 == 3 {
        use std::os::unix::ffi::OsStringExt;
        let bytes = [b"odd \xff ".as_slice(), number.to_string().as_bytes()].concat();
        return std::ffi::OsString::from_vec(bytes);
    }
    format!("{number}.jpg").into()
}

/// Rows that lie as if thrown, the same ones each time.
fn rows(count: usize) -> Embeddings {
    let mut state = 1_u32;
    let mut value = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    Embeddings::new(Array2::from_shape_simple_fn((count, WIDTH), &mut value)).unwrap()
}

fn query() -> Embeddings {
    rows(7).select(&[6])
}

fn all() -> SearchOptions {
    SearchOptions {
        limit: 0,
        ..SearchOptions::default()
    }
}

fn filtered(filter: ItemFilter) -> SearchOptions {
    SearchOptions { filter, ..all() }
}

/// What a search must find, reckoned plainly.
fn expected(items: &[Item], rows: &Embeddings, options: &SearchOptions) -> Vec<Hit> {
    let query = query();
    let score = |at: usize| -> f32 {
        let pairs = rows.row(at).iter().zip(query.row(0));
        pairs.map(|(a, b)| a * b).sum()
    };
    let filter = &options.filter;
    let passes = |item: &Item| {
        let is_in = |folder: &PathBuf| item.place.folder.starts_with(folder);
        filter.kind.is_none_or(|kind| kind == item.kind())
            && (filter.within.is_empty() || filter.within.iter().any(is_in))
            && !filter.not_within.iter().any(is_in)
            && filter.since.is_none_or(|since| time(item) >= since)
            && filter.until.is_none_or(|until| time(item) < until)
    };
    let mut hits: Vec<Hit> = (0..items.len())
        .filter(|&at| passes(&items[at]))
        .map(|at| Hit {
            item: items[at].clone(),
            score: score(at),
            rank: 0,
        })
        .filter(|hit| options.min_score.is_none_or(|least| hit.score >= least))
        .collect();
    hits.sort_by(|a, b| b.score.total_cmp(&a.score));
    for (hit, rank) in hits.iter_mut().zip(1..) {
        hit.rank = rank;
    }
    let hits = hits.into_iter().skip(options.offset);
    match options.limit {
        0 => hits.collect(),
        limit => hits.take(limit).collect(),
    }
}

fn assert_same_hits(found: &[Hit], expected: &[Hit], what: &str) {
    assert!(!expected.is_empty(), "{what}: nothing to find");
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.item, expected.item, "{what}");
        assert_eq!(found.rank, expected.rank, "{what}");
        let distance = (found.score - expected.score).abs();
        assert!(
            distance <= CLOSE,
            "{what}: {} and {}",
            found.score,
            expected.score
        );
    }
}

/// Every filter, by a name.
fn searches() -> Vec<(&'static str, SearchOptions)> {
    let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
    let filter = ItemFilter::default;
    vec![
        ("all", all()),
        ("ten", SearchOptions::default()),
        (
            "later ones",
            SearchOptions {
                limit: 5,
                offset: 20,
                ..all()
            },
        ),
        (
            "good ones",
            SearchOptions {
                min_score: Some(0.1),
                ..all()
            },
        ),
        (
            "images",
            filtered(ItemFilter {
                kind: Some(Kind::Image),
                ..filter()
            }),
        ),
        (
            "texts",
            filtered(ItemFilter {
                kind: Some(Kind::Text),
                ..filter()
            }),
        ),
        (
            "below",
            filtered(ItemFilter {
                within: paths(&["/photos"]),
                ..filter()
            }),
        ),
        (
            "below two",
            filtered(ItemFilter {
                within: paths(&["/photos/2024/may", "/photos2"]),
                ..filter()
            }),
        ),
        (
            "not below",
            filtered(ItemFilter {
                not_within: paths(&["/photos/2024"]),
                ..filter()
            }),
        ),
        (
            "since",
            filtered(ItemFilter {
                since: Some(100 * 500_000_000 + 1),
                ..filter()
            }),
        ),
        (
            "until",
            filtered(ItemFilter {
                until: Some(100 * 500_000_000 + 2),
                ..filter()
            }),
        ),
        (
            "everything at once",
            SearchOptions {
                limit: 30,
                offset: 1,
                min_score: Some(-0.5),
                filter: ItemFilter {
                    kind: Some(Kind::Image),
                    within: paths(&["/photos", "/photos2"]),
                    not_within: paths(&["/photos/2024/may"]),
                    since: Some(10 * 500_000_000),
                    until: Some(500 * 500_000_000 + 1),
                },
            },
        ),
    ]
}

/// What any Qdrant server must do.
fn keep_the_contract(address: &str) {
    let exact = format!("{address}?exact");
    assert!(matches!(
        Collection::open(&exact),
        Err(Error::NoIndex { .. })
    ));
    let mut collection = Collection::create(&exact, MODEL, WIDTH).unwrap();
    assert!(matches!(
        Collection::create(&exact, MODEL, WIDTH),
        Err(Error::IndexExists { .. })
    ));
    assert!(collection.has_images().unwrap(), "as long as it is empty");
    assert!(collection.search(&query(), &all()).unwrap().is_empty());

    let (items, rows) = (items(600), rows(600));
    collection.add(&items, &rows).unwrap();
    // The same again changes nothing.
    collection
        .add(&items[..300], &rows.select(&Vec::from_iter(0..300)))
        .unwrap();
    hold_what_was_added(&Collection::open(&exact).unwrap(), &items, &rows);
    change_and_remove(Collection::open_to_write(&exact).unwrap(), &items, &rows);
}

fn hold_what_was_added(collection: &dyn Store, items: &[Item], rows: &Embeddings) {
    assert_eq!(
        (collection.model().as_str(), collection.width()),
        (MODEL, WIDTH)
    );
    for (name, options) in searches() {
        let found = collection.search(&query(), &options).unwrap();
        assert_same_hits(&found, &expected(items, rows, &options), name);
    }
    let least = collection.search(&query(), &all()).unwrap()[3].score;
    let options = SearchOptions {
        min_score: Some(least),
        ..all()
    };
    let found = collection.search(&query(), &options).unwrap();
    assert_eq!(found.len(), 4, "the least score counts");

    let mut sorted = items.to_vec();
    sorted.sort_by(|a, b| a.place.cmp(&b.place));
    assert_eq!(collection.items(&ItemFilter::default()).unwrap(), sorted);
    assert_eq!(collection.sizes().unwrap(), HashSet::from_iter(0..7));
    let stats = collection.stats().unwrap();
    assert_eq!((stats.images, stats.texts, stats.rows), (480, 120, 600));
    assert!(collection.has_images().unwrap());
    assert!(collection.knows(&items[5].hash).unwrap());
    assert!(!collection.knows(&[7; 16]).unwrap());
    assert_eq!(
        collection.at(&items[13].place).unwrap().as_ref(),
        Some(&items[13])
    );
    let wider = Embeddings::new(Array2::ones((1, WIDTH + 1))).unwrap();
    assert!(matches!(
        collection.search(&wider, &all()),
        Err(Error::Width { .. })
    ));
}

/// Items of the same content, by place.
fn copies_of(item: &Item, count: usize) -> Vec<Item> {
    let copy = |number| Item {
        place: Place {
            folder: "/many".into(),
            name: format!("{number:04}.jpg").into(),
        },
        ..item.clone()
    };
    (0..count).map(copy).collect()
}

fn change_and_remove(mut collection: Collection, items: &[Item], rows: &Embeddings) {
    let copies: Vec<Item> = items[..300]
        .iter()
        .map(|item| Item {
            place: Place {
                folder: "/copies".into(),
                ..item.place.clone()
            },
            ..item.clone()
        })
        .collect();
    collection.add_copies(&copies).unwrap();
    let within = vec!["/copies".into()];
    let options = filtered(ItemFilter {
        within,
        ..ItemFilter::default()
    });
    let found = collection.search(&query(), &options).unwrap();
    assert_same_hits(&found, &expected(&copies, rows, &options), "copies");

    // More equal ones than a search asks for at first, and more items than a page holds.
    let many = copies_of(&items[7], 500);
    collection.add_copies(&many).unwrap();
    assert_eq!(
        collection.items(&ItemFilter::default()).unwrap().len(),
        1400
    );
    let within = vec!["/many".into()];
    let options = SearchOptions {
        limit: 20,
        offset: 30,
        ..filtered(ItemFilter {
            within,
            ..ItemFilter::default()
        })
    };
    let found = collection.search(&query(), &options).unwrap();
    let found: Vec<&Item> = found.iter().map(|hit| &hit.item).collect();
    assert_eq!(found, Vec::from_iter(&many[30..50]), "equal ones by place");
    let places: Vec<Place> = many.into_iter().map(|item| item.place).collect();
    collection.remove(&places).unwrap();

    let gone: Vec<Place> = items.iter().map(|item| item.place.clone()).collect();
    collection.remove(&gone).unwrap();
    collection.remove(&gone[..2]).unwrap();
    assert_eq!(collection.stats().unwrap().rows, 300);
    assert!(collection.at(&gone[0]).unwrap().is_none());
    // An item that has changed takes its own place.
    let changed = Item {
        size: 99,
        hash: [9; 16],
        ..copies[0].clone()
    };
    collection
        .add(std::slice::from_ref(&changed), &rows.select(&[400]))
        .unwrap();
    assert_eq!(collection.at(&changed.place).unwrap(), Some(changed));
    assert_eq!(collection.stats().unwrap().rows, 300);
}

#[test]
fn the_stand_in_keeps_the_contract() {
    let server = StandIn::start();
    keep_the_contract(&server.address("contract"));
    assert_eq!(server.largest_upsert("contract"), 256);
    assert_eq!(
        server.indexed("contract"),
        ["kind", "folders", "hash", "second", "nanosecond"]
    );
}

#[test]
#[ignore = "needs QDRANT_URL"]
fn a_real_server_keeps_the_contract() {
    let url = std::env::var("QDRANT_URL").expect("QDRANT_URL, as qdrant://localhost:6334");
    let now = std::time::SystemTime::now();
    let now = now
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    let name = format!("diptych-test-{now}");
    keep_the_contract(&format!("{}/{name}", url.trim_end_matches('/')));
    forget(&url, &name);
}

fn forget(url: &str, collection: &str) {
    let url = url
        .replacen("qdrants://", "https://", 1)
        .replacen("qdrant://", "http://", 1);
    let client = qdrant_client::Qdrant::from_url(&url)
        .api_key(std::env::var("QDRANT_API_KEY"))
        .skip_compatibility_check()
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(client.delete_collection(collection))
        .unwrap();
}

#[test]
fn scores_are_those_of_an_index_in_a_folder() {
    let server = StandIn::start();
    let mut remote = Collection::create(&server.address("both"), MODEL, WIDTH).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut local = Index::create(folder.path(), MODEL, WIDTH).unwrap();
    let (items, rows) = (items(200), rows(200));
    remote.add(&items, &rows).unwrap();
    local.add(&items, &rows).unwrap();
    for (name, options) in searches() {
        let (found, expected) = (
            remote.search(&query(), &options),
            local.search(&query(), &options),
        );
        let (found, expected) = (found.unwrap(), expected.unwrap());
        assert_eq!(found.len(), expected.len(), "{name}");
        for (found, expected) in found.iter().zip(&expected) {
            // A folder's rows are of 16 bits.
            assert!((found.score - expected.score).abs() <= 1e-3, "{name}");
        }
    }
}

#[test]
fn what_passes_is_waited_for() {
    let server = StandIn::start();
    let mut collection = Collection::create(&server.address("busy"), MODEL, WIDTH).unwrap();
    let (items, rows) = (items(300), rows(300));
    server.fail(
        "upsert",
        [Code::Unavailable, Code::DeadlineExceeded].map(|code| Status::new(code, "busy")),
    );
    let mut slow_down = Status::resource_exhausted("too many requests");
    slow_down
        .metadata_mut()
        .insert("retry-after", "1".parse().unwrap());
    server.fail("upsert", [slow_down]);
    let start = Instant::now();
    collection.add(&items, &rows).unwrap();
    assert!(
        start.elapsed() >= Duration::from_secs(1),
        "what the server asked for"
    );
    assert_eq!(collection.stats().unwrap().rows, 300);
    server.fail("query", [Status::unavailable("restarting")]);
    assert_eq!(collection.search(&query(), &all()).unwrap().len(), 300);
}

#[test]
fn what_does_not_pass_is_said_at_once() {
    let server = StandIn::start();
    let mut collection = Collection::create(&server.address("full"), MODEL, WIDTH).unwrap();
    server.fail("upsert", [Status::invalid_argument("Wrong input: no room")]);
    let error = collection.add(&items(1), &rows(1)).unwrap_err();
    assert!(matches!(error, Error::Server { .. }), "{error:?}");
    let address = server.address("full");
    assert_eq!(
        error.to_string(),
        format!("{address}: Qdrant server failed: Wrong input: no room")
    );
    assert_eq!(server.calls("upsert"), 1);
}

#[test]
fn a_server_that_comes_back_is_found_again() {
    let server = StandIn::start();
    let port = server.port;
    let mut collection = Collection::create(&server.address("again"), MODEL, WIDTH).unwrap();
    collection.add(&items(3), &rows(3)).unwrap();
    drop(server);
    let coming = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        let server = StandIn::start_at(port);
        Collection::create(&server.address("again"), MODEL, WIDTH).unwrap();
        server
    });
    // The new one knows nothing: what counts is that it is asked.
    let start = Instant::now();
    while collection.add(&items(3), &rows(3)).is_err() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "it never came back"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(collection.stats().unwrap().rows, 3);
    drop(coming.join());
}

#[test]
fn where_nobody_answers_host_and_port_are_named() {
    let server = StandIn::start();
    let (address, port) = (server.address("photos"), server.port);
    drop(server);
    let start = Instant::now();
    let error = Collection::open(&address).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(20));
    let text = error.to_string();
    assert!(
        text.contains(&format!("no Qdrant server answers at 127.0.0.1:{port}: ")),
        "{text}"
    );
    assert!(error.hint().unwrap().contains("6334"));
}

#[test]
fn who_only_listens_is_not_waited_for_long() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("qdrant://{}/photos", silent.local_addr().unwrap());
    let start = Instant::now();
    let error = Collection::open(&address).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(25));
}

#[test]
fn a_collection_of_others_is_refused() {
    let server = StandIn::start();
    server.forget_metadata();
    let address = server.address("others");
    let error = Collection::create(&address, MODEL, WIDTH).unwrap_err();
    assert!(matches!(error, Error::NotAnIndex { .. }), "{error}");
    assert!(error.to_string().contains("1.16"), "{error}");
    assert!(matches!(
        Collection::open(&address),
        Err(Error::NotAnIndex { .. })
    ));
}

/// Photos, and the program that indexes them.
struct Desk {
    folder: TempDir,
    server: StandIn,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let desk = Self {
            folder,
            server: StandIn::start(),
        };
        for (name, number) in [
            ("a.png", 1),
            ("b.png", 2),
            ("sub/c.png", 3),
            ("sub/deep/d.png", 4),
        ] {
            desk.add_photo(name, number);
        }
        desk
    }

    fn photos(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("photos")
    }

    fn add_photo(&self, name: impl AsRef<Path>, number: u32) {
        let path = self.photos().join(name);
        write_photo(&path, number);
    }

    fn run(&self, index: &str, arguments: &[&str]) -> Output {
        self.command(index, arguments).output().unwrap()
    }

    fn command(&self, index: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_diptych"));
        command
            .env("DIPTYCH_MODEL", golden("bundles/transformers-clip"))
            .env("DIPTYCH_INDEX", index)
            .env_remove("QDRANT_API_KEY")
            .args(arguments);
        command
    }

    /// The two stores.
    fn indexes(&self) -> [String; 2] {
        let folder = self.folder.path().join("index");
        [
            folder.to_str().unwrap().to_owned(),
            self.server.address("photos"),
        ]
    }
}

fn lines(output: &Output) -> Vec<Value> {
    assert_ne!(output.status.code(), Some(2), "{}", stderr(output));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Lines of hits, with scores that are near each other taken for equal.
fn assert_same_lines(a: &[Value], b: &[Value], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (a, b) in a.iter().zip(b) {
        let (mut a, mut b) = (a.clone(), b.clone());
        let scores = [&mut a, &mut b].map(|line| line["score"].take());
        let [one, other] = scores.map(|score| score.as_f64().unwrap());
        assert!((one - other).abs() < 1e-3, "{what}: {one} and {other}");
        assert_eq!(a, b, "{what}");
    }
}

#[test]
fn the_program_does_the_same_on_both() {
    let desk = Desk::new();
    let photos = desk.photos();
    let (photos, sub) = (photos.to_str().unwrap(), photos.join("sub"));
    let texts = desk.folder.path().join("texts.jsonl");
    fs::write(
        &texts,
        "{\"id\": \"1\", \"text\": \"a red square\"}\n{\"id\": \"2\", \"text\": \"night\"}\n",
    )
    .unwrap();
    let index = [
        "index",
        "--json",
        photos,
        "--texts",
        texts.to_str().unwrap(),
    ];
    let both = |arguments: &[&str]| desk.indexes().map(|index| desk.run(&index, arguments));
    let summaries = |what: &str| {
        let [local, remote] = both(&index).map(|output| lines(&output));
        assert_eq!(local, remote, "{what}");
        local[0].clone()
    };
    assert_eq!(summaries("at first")["encoded"], 6);
    assert_eq!(summaries("again")["unchanged"], 6);
    fs::copy(sub.join("c.png"), sub.join("copy.png")).unwrap();
    fs::rename(desk.photos().join("b.png"), desk.photos().join("moved.png")).unwrap();
    let summary = summaries("copied and moved");
    assert_eq!(
        (&summary["known"], &summary["removed"]),
        (&2.into(), &1.into())
    );

    let sub = sub.to_str().unwrap();
    for search in [
        vec!["red"],
        vec!["red", "--in", sub],
        vec!["red", "--not-in", sub],
        vec!["red", "--since", "1d"],
        vec!["red", "--kind", "texts"],
        vec!["red", "--limit", "2", "--offset", "1"],
    ] {
        let arguments = [&["search", "--json"], search.as_slice()].concat();
        let [local, remote] = both(&arguments).map(|output| lines(&output));
        assert!(!local.is_empty(), "{search:?}");
        assert_same_lines(&local, &remote, &format!("{search:?}"));
    }
    for output in both(&["search", "red", "--until", "1990"]) {
        assert_eq!(output.status.code(), Some(1));
    }
    let [local, remote] = both(&["remove", "--json", sub]).map(|output| lines(&output));
    assert_eq!(local, remote);
    assert_eq!(remote[0]["removed"], 3);
    let [local, remote] = both(&["stats", "--json"]).map(|output| lines(&output).remove(0));
    for fact in ["model", "images", "texts", "width"] {
        assert_eq!(local[fact], remote[fact], "{fact}");
    }
    assert_eq!(remote["index"], desk.indexes()[1].as_str());
}

#[test]
fn the_program_refuses_rows_of_another_model() {
    let desk = Desk::new();
    let photos = desk.photos();
    let photos = photos.to_str().unwrap();
    let [_, remote] = desk.indexes();
    assert!(desk.run(&remote, &["index", photos]).status.success());
    let messages = [vec!["index", photos], vec!["search", "red"]].map(|arguments| {
        let output = desk
            .command(&remote, &arguments)
            .env("DIPTYCH_MODEL", golden("bundles/open-clip"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        stderr(&output)
    });
    for message in messages {
        assert!(
            message.contains(&format!("{remote}: index is of transformers-clip@")),
            "{message}"
        );
    }
    let output = desk.run(&remote, &["index", "--reindex"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("another collection"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn the_program_gives_the_key_that_it_was_given() {
    let desk = Desk::new();
    let [_, remote] = desk.indexes();
    desk.server.require_key("secret");
    let index = ["index", desk.photos().to_str().unwrap()].map(str::to_owned);
    let index = index.each_ref().map(String::as_str);
    let output = desk.run(&remote, &index);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("refuses the key"),
        "{}",
        stderr(&output)
    );
    assert!(
        stderr(&output).contains("QDRANT_API_KEY"),
        "{}",
        stderr(&output)
    );
    let output = desk
        .command(&remote, &index)
        .env("QDRANT_API_KEY", "secret")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn the_program_says_what_is_wrong_with_an_address() {
    let desk = Desk::new();
    let output = desk.run("qdrant://host/a/b", &["search", "red"]);
    assert_eq!(output.status.code(), Some(2));
    let message = stderr(&output);
    assert!(
        message.contains("qdrant://host/a/b: not the address of a collection"),
        "{message}"
    );
    assert!(
        message.contains("hint: write qdrant://HOST:6334/COLLECTION"),
        "{message}"
    );
    let address = StandIn::start().address("photos");
    let output = desk.run(&address, &["search", "red"]);
    assert_eq!(output.status.code(), Some(2));
    let message = stderr(&output);
    assert!(
        message.contains(&format!(
            "{address}: no Qdrant server answers at 127.0.0.1:"
        )),
        "{message}"
    );
    assert!(message.contains("hint: start the server"), "{message}");
    let output = desk.run(&desk.indexes()[1], &["check"]);
    assert_eq!(output.status.code(), Some(2));
    let message = stderr(&output);
    assert!(message.contains("an index in a folder alone"), "{message}");
}

//! What an index promises: what is found, by whom, and after what.

mod crashes;
mod damage;
mod files;
mod filters;
mod next;
mod readers;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use diptych::{Embeddings, Error, Hit, Index, Item, ItemFilter, Kind, Place, SearchOptions, index};
use ndarray::Array2;
use tempfile::TempDir;

/// No multiple of anything.
const WIDTH: usize = 27;
const MODEL: &str = "a model";

/// The row of content `number`: random, and always the same.
fn row(number: u32) -> Vec<f32> {
    let mut state = u64::from(number) + 1;
    let mut value = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.4
    };
    // The first values of neighbours are alike.
    (0..WIDTH + 8).map(|_| value()).skip(8).collect()
}

fn rows(numbers: impl IntoIterator<Item = u32>) -> Embeddings {
    let values: Vec<f32> = numbers.into_iter().flat_map(row).collect();
    Embeddings::new(Array2::from_shape_vec((values.len() / WIDTH, WIDTH), values).unwrap()).unwrap()
}

fn cosine(a: u32, b: u32) -> f32 {
    let rows = rows([a, b]);
    rows.row(0)
        .iter()
        .zip(rows.row(1))
        .map(|(a, b)| a * b)
        .sum()
}

/// An image of content `number`, changed at time `number`.
fn image(path: impl AsRef<Path>, number: u32) -> Item {
    Item {
        place: Place::of_image(path.as_ref()).unwrap(),
        size: u64::from(number),
        modified: i64::from(number),
        hash: index::hash(&number.to_le_bytes()),
        text: None,
        taken: None,
    }
}

/// A text of content `number`.
fn text(file: &str, id: &str, number: u32) -> Item {
    Item {
        place: Place::of_text(Path::new(file), id),
        text: Some(format!("text {number}")),
        taken: None,
        ..image("/x", number)
    }
}

/// Images `/photos/NUMBER.jpg`.
fn images(numbers: impl IntoIterator<Item = u32>) -> Vec<Item> {
    let image = |number| image(format!("/photos/{number}.jpg"), number);
    numbers.into_iter().map(image).collect()
}

fn add(index: &mut Index, numbers: impl IntoIterator<Item = u32> + Clone) {
    index.add(&images(numbers.clone()), &rows(numbers)).unwrap();
}

fn new_index() -> (TempDir, Index) {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::create(folder.path(), MODEL, WIDTH).unwrap();
    (folder, index)
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

fn search(index: &Index, number: u32, options: &SearchOptions) -> Vec<Hit> {
    index.search(&rows([number]), options).unwrap()
}

/// The paths of hits, sorted.
fn paths(hits: &[Hit]) -> Vec<PathBuf> {
    let paths: BTreeSet<PathBuf> = hits.iter().map(|hit| hit.item.place.path()).collect();
    assert_eq!(paths.len(), hits.len(), "a place twice");
    paths.into_iter().collect()
}

/// That everything in the index is found by its own row, with the score it must have, and nothing else is there.
fn assert_holds(index: &Index, expected: &[Item]) {
    let mut items = index.items(&ItemFilter::default()).unwrap();
    let mut expected = expected.to_vec();
    items.sort_by(|a, b| a.place.cmp(&b.place));
    expected.sort_by(|a, b| a.place.cmp(&b.place));
    assert_eq!(items, expected);
    let hits = search(index, 1_000_003, &all());
    assert_eq!(hits.len(), expected.len());
    for (hit, rank) in hits.iter().zip(1..) {
        assert_score(hit, 1_000_003);
        assert_eq!(hit.rank, rank);
    }
    assert!(hits.is_sorted_by(|a, b| a.score >= b.score));
    for item in expected.iter().step_by(expected.len() / 50 + 1) {
        let hits = search(index, item.size as u32, &SearchOptions::default());
        assert!((hits[0].score - 1.0).abs() < 1e-3);
        assert!(hits.iter().all(|hit| hit.score.abs() <= 1.0), "{hits:?}");
        let of_content = hits.iter().filter(|hit| hit.item.hash == item.hash);
        assert!(of_content.clone().any(|hit| hit.item == *item));
        of_content.for_each(|hit| assert_eq!(hit.score, hits[0].score));
    }
    assert_eq!(index.check().unwrap(), []);
}

/// That a hit has the score of its content, which its size names.
fn assert_score(hit: &Hit, query: u32) {
    let expected = cosine(query, hit.item.size as u32);
    assert!(
        (hit.score - expected).abs() < 1e-3,
        "{hit:?}: expected {expected}"
    );
}

#[test]
fn items_are_added_found_removed_and_added_again() {
    let (folder, mut index) = new_index();
    assert_holds(&index, &[]);
    add(&mut index, 0..100);
    assert_holds(&index, &images(0..100));
    let places: Vec<Place> = images(10..60).into_iter().map(|item| item.place).collect();
    index.remove(&places).unwrap();
    index.remove(&places).unwrap();
    let left = [images(0..10), images(60..100)].concat();
    assert_holds(&index, &left);
    let stats = index.stats().unwrap();
    assert_eq!(
        (stats.images, stats.texts, stats.rows, stats.freed),
        (50, 0, 50, 50)
    );
    add(&mut index, 10..60);
    assert_holds(&index, &images(0..100));
    drop(index);
    let index = Index::open(folder.path()).unwrap();
    assert_holds(&index, &images(0..100));
    assert_eq!((index.width(), index.model().as_str()), (WIDTH, MODEL));
    assert_eq!(index.folder(), folder.path());
}

#[test]
fn items_of_the_same_content_share_a_row() {
    let (_folder, mut index) = new_index();
    let twins = [
        image("/a/1.jpg", 1),
        image("/b/1.jpg", 1),
        image("/a/2.jpg", 2),
    ];
    index.add(&twins, &rows([1, 1, 2])).unwrap();
    index.add_copies(&[image("/c/1.jpg", 1)]).unwrap();
    let stats = index.stats().unwrap();
    assert_eq!((stats.images, stats.rows), (4, 2));
    let hits = search(&index, 1, &all());
    assert_eq!(hits.len(), 4);
    assert_eq!(
        paths(&hits[..3]),
        [
            Path::new("/a/1.jpg"),
            Path::new("/b/1.jpg"),
            Path::new("/c/1.jpg")
        ]
    );
    let place = |path| Place::of_image(Path::new(path)).unwrap();
    index
        .remove(&[place("/a/1.jpg"), place("/c/1.jpg")])
        .unwrap();
    assert_eq!(index.stats().unwrap().rows, 2);
    assert!(index.knows(&twins[1].hash).unwrap());
    index.remove(&[place("/b/1.jpg")]).unwrap();
    assert!(!index.knows(&twins[1].hash).unwrap());
    assert_holds(&index, &[image("/a/2.jpg", 2)]);
    assert_eq!(index.sizes().unwrap(), [2].into());
}

#[test]
fn an_item_takes_the_place_of_what_was_there() {
    let (_folder, mut index) = new_index();
    add(&mut index, 0..5);
    let changed = image("/photos/3.jpg", 33);
    index
        .add(std::slice::from_ref(&changed), &rows([33]))
        .unwrap();
    let touched = Item {
        modified: 77,
        ..image("/photos/4.jpg", 4)
    };
    index.add_copies(std::slice::from_ref(&touched)).unwrap();
    let expected = [images(0..3), vec![changed.clone(), touched]].concat();
    assert_holds(&index, &expected);
    assert!(!index.knows(&image("/x", 3).hash).unwrap());
    // Twice in one call: the later one counts.
    let twice = [image("/photos/9.jpg", 8), image("/photos/9.jpg", 9)];
    index.add(&twice, &rows([8, 9])).unwrap();
    assert_holds(&index, &[expected, images([9])].concat());
    let (item, row) = index.item(&changed.place).unwrap().unwrap();
    assert_eq!(item, changed);
    let cosine: f32 = row
        .row(0)
        .iter()
        .zip(rows([33]).row(0))
        .map(|(a, b)| a * b)
        .sum();
    assert!((cosine - 1.0).abs() < 1e-3);
    assert!(
        index
            .item(&image("/photos/77.jpg", 1).place)
            .unwrap()
            .is_none()
    );
}

#[test]
fn texts_and_images_lie_in_one_index() {
    let (_folder, mut index) = new_index();
    let of_kind = |kind| {
        filtered(ItemFilter {
            kind: Some(kind),
            ..ItemFilter::default()
        })
    };
    add(&mut index, 0..3);
    assert_eq!(search(&index, 1, &of_kind(Kind::Image)).len(), 3);
    assert_eq!(search(&index, 1, &of_kind(Kind::Text)).len(), 0);
    assert!(index.has_images().unwrap());
    let texts = [text("/notes/a.txt", "1", 10), text("/notes/a.txt", "2", 11)];
    index.add(&texts, &rows([10, 11])).unwrap();
    assert_holds(&index, &[images(0..3), texts.to_vec()].concat());
    let stats = index.stats().unwrap();
    assert_eq!((stats.images, stats.texts), (3, 2));
    let hits = search(&index, 1, &of_kind(Kind::Text));
    assert_eq!(hits.len(), 2);
    assert!(
        hits.iter()
            .all(|hit| hit.item.kind() == Kind::Text && texts.contains(&hit.item))
    );
    let hits = search(&index, 10, &of_kind(Kind::Image));
    assert!(hits.len() == 3 && hits.iter().all(|hit| hit.item.kind() == Kind::Image));
    index.remove(&images(0..3).map_places()).unwrap();
    assert_eq!(search(&index, 1, &of_kind(Kind::Image)).len(), 0);
    assert!(!index.has_images().unwrap());
}

trait Places {
    fn map_places(&self) -> Vec<Place>;
}

impl Places for Vec<Item> {
    fn map_places(&self) -> Vec<Place> {
        self.iter().map(|item| item.place.clone()).collect()
    }
}

#[test]
fn rows_of_another_width_are_refused() {
    let (folder, mut index) = new_index();
    let wide = Embeddings::new(Array2::ones((1, WIDTH + 1))).unwrap();
    let expected = |error| matches!(error, Error::Width { found, expected } if (found, expected) == (WIDTH + 1, WIDTH));
    assert!(expected(index.add(&images([1]), &wide).unwrap_err()));
    assert!(expected(index.search(&wide, &all()).unwrap_err()));
    assert_holds(&index, &[]);
    drop(index);
    assert!(matches!(
        Index::create(folder.path(), MODEL, WIDTH),
        Err(Error::IndexExists { .. })
    ));
}

#[test]
fn similar_items_come_in_groups() {
    let (_folder, mut index) = new_index();
    let near = |number: u32, by: f32| {
        let mut values = row(number);
        values
            .iter_mut()
            .zip(row(number + 1))
            .for_each(|(value, other)| *value += by * other);
        values
    };
    let values = [row(1), near(1, 0.02), row(2), near(1, 0.2), row(5), row(6)].concat();
    let rows = Embeddings::new(Array2::from_shape_vec((6, WIDTH), values).unwrap()).unwrap();
    let mut items = images(0..6);
    items.push(Item {
        place: image("/photos/twin.jpg", 4).place,
        ..items[4].clone()
    });
    let first_six: Vec<Item> = items[..6].to_vec();
    index.add(&first_six, &rows).unwrap();
    index.add_copies(&items[6..]).unwrap();
    let groups = |least| {
        let groups = index
            .similar(least, &ItemFilter::default(), |a, b| {
                b.modified.cmp(&a.modified)
            })
            .unwrap();
        let names = |group: &Vec<(Item, f32)>| -> Vec<String> {
            group
                .iter()
                .map(|(item, _)| item.place.name.to_string_lossy().into_owned())
                .collect()
        };
        groups.iter().map(names).collect::<Vec<_>>()
    };
    assert_eq!(
        groups(0.999),
        [vec!["4.jpg", "twin.jpg"], vec!["1.jpg", "0.jpg"]]
    );
    assert_eq!(
        groups(0.97),
        [vec!["4.jpg", "twin.jpg"], vec!["3.jpg", "1.jpg", "0.jpg"]]
    );
}

//! Indexes that move over to another model.

use std::fs;

use super::files::{named, rows_file};
use super::*;

const NEW: &str = "a new model";

/// Rows of the new model are wider.
fn wide(numbers: impl IntoIterator<Item = u32>) -> Embeddings {
    let values: Vec<f32> = numbers
        .into_iter()
        .flat_map(|number| [row(number), row(number + 1)].concat())
        .collect();
    Embeddings::new(Array2::from_shape_vec((values.len() / WIDTH / 2, 2 * WIDTH), values).unwrap())
        .unwrap()
}

fn add_wide(index: &mut Index, numbers: std::ops::Range<u32>) {
    index.add(&images(numbers.clone()), &wide(numbers)).unwrap();
}

fn assert_found_wide(index: &Index, numbers: std::ops::Range<u32>) {
    assert_eq!(
        index.items(&ItemFilter::default()).unwrap().len(),
        numbers.len()
    );
    for number in numbers {
        let hits = index
            .search(&wide([number]), &SearchOptions::default())
            .unwrap();
        assert_eq!(hits[0].item, images([number])[0]);
    }
    assert_eq!(index.check().unwrap(), []);
}

#[test]
fn the_next_index_takes_over_and_the_old_one_answers_until_then() {
    let (folder, mut index) = new_index();
    add(&mut index, 0..50);
    let reader = Index::open(folder.path()).unwrap();
    let mut next = index.begin_next(NEW, 2 * WIDTH).unwrap();
    assert_eq!((next.model().as_str(), next.width()), (NEW, 2 * WIDTH));
    add_wide(&mut next, 0..30);
    assert_holds(&index, &images(0..50));
    assert_holds(&reader, &images(0..50));
    let mut index = index.take_over(next).unwrap();
    assert_found_wide(&index, 0..30);
    assert_found_wide(&reader, 0..30);
    assert_eq!(reader.model(), NEW);
    assert!(matches!(
        Index::open_to_write(folder.path()),
        Err(Error::Locked { .. })
    ));
    rows_file(folder.path());
    assert!(named(folder.path(), "next", "").is_empty());
    add_wide(&mut index, 30..40);
    assert_found_wide(&reader, 0..40);
    drop((index, reader));
    assert_found_wide(&Index::open(folder.path()).unwrap(), 0..40);
}

#[test]
fn one_that_was_abandoned_goes_on_where_it_was() {
    let (folder, mut index) = new_index();
    add(&mut index, 0..50);
    let mut next = index.begin_next(NEW, 2 * WIDTH).unwrap();
    add_wide(&mut next, 0..10);
    drop((next, index));
    // The old index lives on, and its rows move to another file.
    let mut index = Index::open_to_write(folder.path()).unwrap();
    index.remove(&images(40..50).map_places()).unwrap();
    index.compact().unwrap();
    add(&mut index, 60..70);
    let expected = [images(0..40), images(60..70)].concat();
    assert_holds(&index, &expected);
    let mut next = index.begin_next(NEW, 2 * WIDTH).unwrap();
    assert_found_wide(&next, 0..10);
    index.compact().unwrap();
    add_wide(&mut next, 10..20);
    next.compact().unwrap();
    assert_holds(&index, &expected);
    let index = index.take_over(next).unwrap();
    assert_found_wide(&index, 0..20);
    rows_file(folder.path());
}

#[test]
fn one_for_a_third_model_begins_anew() {
    let (folder, mut index) = new_index();
    add(&mut index, 0..5);
    let mut next = index.begin_next(NEW, 2 * WIDTH).unwrap();
    add_wide(&mut next, 0..10);
    drop(next);
    let next = index.begin_next("a third", WIDTH).unwrap();
    assert!(next.items(&ItemFilter::default()).unwrap().is_empty());
    assert_eq!(named(folder.path(), "rows-", "").len(), 2);
    drop(next);
    fs::write(folder.path().join("next.sqlite"), "no catalog").unwrap();
    let mut next = index.begin_next("a third", WIDTH).unwrap();
    add(&mut next, 0..3);
    let index = index.take_over(next).unwrap();
    assert_holds(&index, &images(0..3));
}

#[test]
fn the_lock_is_held_as_long_as_either_lives() {
    let (folder, mut index) = new_index();
    let next = index.begin_next(NEW, WIDTH).unwrap();
    drop(index);
    assert!(matches!(
        Index::open_to_write(folder.path()),
        Err(Error::Locked { .. })
    ));
    drop(next);
    Index::open_to_write(folder.path()).unwrap();
}

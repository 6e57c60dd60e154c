//! Rows, codes and ranking against slow oracles.

use std::collections::BTreeSet;
use std::fs;

use ndarray::Array2;
use proptest::prelude::*;
use tempfile::TempDir;

use super::coder::{self, BLOCK};
use super::codes::{self, Codes};
use super::rank::{Allowed, Ranked, Scored};
use super::rotation::split_mix;
use super::rows::{Appender, Rows, numbers, step_of};
use crate::embedding::Embeddings;

/// Random rows around one direction, as close to it as `cone` says: 0 for rows in all directions.
fn cone(count: usize, width: usize, cone: f32, seed: u64) -> Embeddings {
    let mut state = seed;
    let mut value = || {
        let uniform = |state: &mut u64| split_mix(state) as f32 / u64::MAX as f32 - 0.5;
        uniform(&mut state) + uniform(&mut state) + uniform(&mut state)
    };
    let mut rows = Array2::from_shape_simple_fn((count, width), &mut value);
    for mut row in rows.outer_iter_mut() {
        for (place, value) in row.iter_mut().enumerate() {
            *value += cone * (0.5 + (place % 3) as f32);
        }
    }
    Embeddings::new(rows).unwrap()
}

/// The first rows of `all` again and again, each a little changed.
fn near_copies(all: &Embeddings, of: usize, by: f32, seed: u64) -> Embeddings {
    let noise = cone(all.len(), all.width(), 0.0, seed);
    let mut rows = Array2::zeros((all.len(), all.width()));
    for (index, mut row) in rows.outer_iter_mut().enumerate() {
        for (place, value) in row.iter_mut().enumerate() {
            *value = all.row(index % of)[place] + by * noise.row(index)[place];
        }
    }
    Embeddings::new(rows).unwrap()
}

/// Files of rows and of codes of the first of them.
struct Files {
    folder: TempDir,
    width: usize,
    count: usize,
}

impl Files {
    fn new(rows: &Embeddings, coded: usize) -> Self {
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
            width: rows.width(),
            count: rows.len(),
        };
        let mut appender =
            Appender::create(&files.folder.path().join("rows"), rows.width()).unwrap();
        appender.append(0, rows).unwrap();
        if coded > 0 {
            files.make_codes(coded);
        }
        files
    }

    fn rows(&self) -> Rows {
        self.first_rows(self.count)
    }

    fn first_rows(&self, count: usize) -> Rows {
        Rows::open(&self.folder.path().join("rows"), self.width, count).unwrap()
    }

    /// Makes codes of the first `count` rows, behind those that are there.
    fn make_codes(&self, count: usize) {
        let path = self.folder.path().join("codes");
        let known = Codes::open(&path, self.width, count, 0);
        codes::bring_up_to_date(&path, known.as_ref(), &self.first_rows(count), self.width)
            .unwrap();
    }

    fn codes(&self) -> Option<Codes> {
        Codes::open(&self.folder.path().join("codes"), self.width, self.count, 0)
    }
}

/// The cosine of a query with a row as it is stored.
fn exact(row: &[f32], query: &[f32]) -> f64 {
    let step = step_of(row);
    let stored = numbers(row, step).map(|number| f64::from(f32::from(number) * step));
    stored.zip(query).map(|(a, b)| a * f64::from(*b)).sum()
}

/// All rows that are allowed, by score.
fn full_sort(
    rows: &Embeddings,
    query: &[f32],
    is_allowed: impl Fn(usize) -> bool,
) -> Vec<(usize, f64)> {
    let mut all: Vec<(usize, f64)> = (0..rows.len())
        .filter(|&row| is_allowed(row))
        .map(|row| (row, exact(rows.row(row), query)))
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all
}

/// Whether `found` is the beginning of `all`, but for rows whose scores are equal to within rounding.
fn assert_same(found: &[Scored], all: &[(usize, f64)], count: usize) {
    assert_eq!(found.len(), count.min(all.len()));
    let rows: BTreeSet<usize> = found.iter().map(|(row, _)| *row).collect();
    assert_eq!(rows.len(), found.len(), "a row twice");
    for ((row, score), (expected_row, expected)) in found.iter().zip(all) {
        assert!(
            (f64::from(*score) - expected).abs() < 2e-6,
            "row {row} with {score} where {expected_row} with {expected} belongs"
        );
        let own = all
            .iter()
            .find(|(other, _)| other == row)
            .expect("an allowed row");
        assert!((own.1 - f64::from(*score)).abs() < 2e-6, "row {row}");
    }
}

#[test]
fn numbers_are_the_nearest() {
    let row = cone(1, 1000, 0.5, 1);
    let step = step_of(row.row(0));
    for (value, number) in row.row(0).iter().zip(numbers(row.row(0), step)) {
        let off = f64::from(*value) / f64::from(step) - f64::from(number);
        assert!(off.abs() < 0.51, "{value} {number}");
    }
    assert_eq!(
        numbers(&[-1.0, 1.0, 0.0], step_of(&[1.0])).collect::<Vec<_>>(),
        [-32767, 32767, 0]
    );
}

#[test]
fn estimates_keep_within_their_bound() {
    for width in [2, 20, 63, 64, 100, 384, 512, 640, 768, 1000, 1024] {
        for narrow in [0.0, 0.5] {
            let rows = cone(448, width, narrow, 1);
            let files = Files::new(&rows, rows.len());
            let codes = files.codes().unwrap();
            let queries = [
                cone(8, width, narrow, 2),
                cone(8, width, 0.0, 3),
                rows.clone().first(8),
            ];
            let queries = Embeddings::concat(width, &queries).unwrap();
            let (mut outside, mut largest) = (0, 0.0);
            for query in 0..queries.len() {
                let values = queries.row(query);
                let query = codes.query(values);
                codes.scan(&query, 0..codes.blocks(), |row, estimate, error| {
                    let exact = exact(rows.row(row), values) as f32;
                    outside += usize::from((estimate - exact).abs() > error);
                    largest = error.max(largest);
                });
            }
            assert!(
                outside <= 11,
                "{width} wide, {narrow}: {outside} of 10752 outside"
            );
            // A bound that says nothing would hold too.
            let most = 4.5 / (width as f32).sqrt();
            assert!(largest < most, "{width} wide, {narrow}: {largest}");
        }
    }
}

#[test]
fn rows_in_an_odd_place_have_codes_too() {
    let opposite = Array2::from_shape_fn((64, 2), |(row, place)| {
        [[1.0, 0.0], [-1.0, 0.0]][row % 2][place]
    });
    // One row, all rows the same, rows of one coordinate: no axis to speak of, or nothing across it.
    for rows in [
        cone(1, 64, 0.0, 1),
        Embeddings::new(Array2::ones((70, 100))).unwrap(),
        Embeddings::new(Array2::eye(64)).unwrap(),
        Embeddings::new(opposite).unwrap(),
    ] {
        let files = Files::new(&rows, rows.len());
        let codes = files.codes().unwrap();
        assert_eq!(codes.len(), rows.len() / BLOCK * BLOCK);
        for query in 0..rows.len() {
            codes.scan(
                &codes.query(rows.row(query)),
                0..codes.blocks(),
                |row, estimate, _| {
                    let exact = exact(rows.row(row), rows.row(query)) as f32;
                    assert!((estimate - exact).abs() < 0.5, "{estimate} {exact}");
                },
            );
        }
    }
}

#[test]
fn codes_grow_by_whole_blocks_and_end_where_one_is_damaged() {
    let rows = cone(300, 100, 0.5, 1);
    let files = Files::new(&rows, 100);
    assert_eq!(files.codes().unwrap().len(), 64);
    files.make_codes(250);
    assert_eq!(files.codes().unwrap().len(), 192);
    let path = files.folder.path().join("codes");
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    let block = coder::block_length(100);
    damaged[whole.len() - block] ^= 4;
    fs::write(&path, &damaged).unwrap();
    assert_eq!(files.codes().unwrap().len(), 128);
    files.make_codes(250);
    assert_eq!(fs::read(&path).unwrap(), whole);
    for place in [0, 8, 12, 40] {
        let mut damaged = whole.clone();
        damaged[place] ^= 1;
        fs::write(&path, damaged).unwrap();
        assert!(files.codes().is_none(), "byte {place}");
    }
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(files.codes().unwrap().len(), 128);
    fs::write(&path, []).unwrap();
    assert!(files.codes().is_none());
}

#[test]
fn an_axis_serves_until_there_are_four_times_the_rows() {
    let rows = cone(401, 64, 0.5, 1);
    let files = Files::new(&rows, 100);
    let path = files.folder.path().join("codes");
    assert_eq!(Codes::open(&path, 64, 400, 0).unwrap().len(), 64);
    assert!(Codes::open(&path, 64, 401, 0).is_none());
    files.make_codes(401);
    assert_eq!(files.codes().unwrap().len(), 384);
}

#[test]
fn reaching_finds_what_a_full_sort_finds() {
    for width in [64, 100, 512] {
        let all = cone(3000, width, 0.5, 4);
        for by in [0.02, 0.2, 0.5] {
            let rows = near_copies(&all, 700, by, 5);
            let files = Files::new(&rows, 2800);
            let (stored, codes) = (files.rows(), files.codes());
            let ranked = Ranked {
                rows: &stored,
                codes: codes.as_ref(),
            };
            let even: Vec<usize> = (0..rows.len()).step_by(2).collect();
            for query in (0..rows.len()).step_by(97) {
                let query = rows.row(query);
                for least in [0.8, 0.93, 0.99] {
                    let found = ranked
                        .reaching(query, &Allowed::Only(even.clone()), least)
                        .unwrap();
                    let mut expected = full_sort(&rows, query, |row| row % 2 == 0);
                    expected.retain(|(_, score)| *score >= f64::from(least));
                    assert_same(&found, &expected, expected.len());
                }
            }
        }
    }
}

/// Rows of which codes choose a part.
const MANY: usize = 8000;

/// Rows with copies among them, codes of some, and what may be found.
fn check_best(width: usize, coded: usize, allowed: &Allowed, narrow: f32, count: usize, seed: u64) {
    let mut rows = cone(MANY, width, narrow, seed);
    if seed.is_multiple_of(2) {
        rows = near_copies(&rows, MANY - 100, 0.0, seed);
    }
    let files = Files::new(&rows, coded);
    let (stored, codes) = (files.rows(), files.codes());
    assert_eq!(codes.as_ref().map_or(0, Codes::len), coded / BLOCK * BLOCK);
    let ranked = Ranked {
        rows: &stored,
        codes: codes.as_ref(),
    };
    let is_allowed = |row: usize| match allowed {
        Allowed::AllBut(rows) => rows.binary_search(&row).is_err(),
        Allowed::Only(rows) => rows.binary_search(&row).is_ok(),
    };
    for query in [
        cone(1, width, narrow, seed + 1),
        cone(1, width, 0.0, seed + 2),
    ] {
        let found = ranked.best(query.row(0), allowed, count).unwrap();
        assert_same(&found, &full_sort(&rows, query.row(0), is_allowed), count);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn best_equals_a_full_sort(
        width in prop::sample::select(vec![64usize, 65, 100, 384, 1024]),
        coded in prop::sample::select(vec![0usize, 2000, 5000, MANY]),
        but in any::<bool>(),
        rows in prop::collection::btree_set(0..MANY, 0..MANY - 100),
        narrow in prop::sample::select(vec![0f32, 0.5]),
        count in prop::sample::select(vec![0usize, 1, 10, 25, 5000]),
        seed in 0u64..1000,
    ) {
        let rows: Vec<usize> = rows.into_iter().collect();
        let allowed = if but { Allowed::AllBut(rows) } else { Allowed::Only(rows) };
        check_best(width, coded, &allowed, narrow, count, seed);
    }
}

#[test]
fn every_path_to_the_best_equals_a_full_sort() {
    let only = |step: usize| Allowed::Only((0..MANY).step_by(step).collect());
    let but = |step: usize| Allowed::AllBut((0..MANY).step_by(step).collect());
    for (coded, allowed) in [
        (0, but(7)),
        (MANY, Allowed::AllBut(Vec::new())),
        (5000, Allowed::AllBut(Vec::new())),
        (MANY, but(2)),
        (MANY, only(100)),
        (MANY, only(2)),
        (5000, only(1)),
        (5000, only(2)),
        (0, only(2)),
        (MANY, Allowed::Only(Vec::new())),
    ] {
        check_best(512, coded, &allowed, 0.5, 10, 7);
        check_best(72, coded, &allowed, 0.5, 10, 8);
    }
}

#[test]
fn rows_of_equal_score_come_in_their_order() {
    let rows = near_copies(&cone(MANY, 64, 0.5, 1), 10, 0.0, 1);
    let files = Files::new(&rows, MANY);
    let (stored, codes) = (files.rows(), files.codes());
    let ranked = Ranked {
        rows: &stored,
        codes: codes.as_ref(),
    };
    let found = ranked
        .best(rows.row(3), &Allowed::AllBut(Vec::new()), 5)
        .unwrap();
    let found: Vec<usize> = found.into_iter().map(|(row, _)| row).collect();
    assert_eq!(found, [3, 13, 23, 33, 43]);
}

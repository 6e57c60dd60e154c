//! Rows in groups: spherical k-means, which is k-means where closeness is the cosine.
//!
//! Pure, and the same every time: seeds are drawn by k-means++ from a fixed state. How many groups there are, and where
//! they begin, is found on a sample, so that the work is bounded; then all rows are put in groups from there.

use std::cmp::Reverse;

use ndarray::Array2;

use crate::embedding::{Embeddings, top_k};
use crate::error::{Error, Result};

/// Rows that the number of groups and their beginnings are found on, at least.
const SAMPLE: usize = 2048;
/// Rows of the sample for each group, at least.
const SAMPLE_PER_GROUP: usize = 16;
/// Numbers of groups that are tried.
const CANDIDATES: [usize; 12] = [2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 25, 32];
/// Beginnings that are tried for each number of groups.
const STARTS: usize = 4;
/// Rounds after which it is enough.
const ROUNDS: usize = 50;
/// Rows that are compared with all centres at once.
const BLOCK: usize = 4096;
/// Rows nearer to each other than this are one row, rounded differently.
const NOTHING: f64 = 1e-6;
const SEED: u64 = 0x6469_7074_7963_6821;

/// Rows in groups around centres, the largest group first.
///
/// # Example
///
/// ```
/// use diptych::{Clusters, Embeddings};
/// use ndarray::array;
///
/// let rows = Embeddings::new(array![[1.0, 0.1], [0.0, 1.0], [1.0, 0.0], [1.0, -0.1]])?;
/// let clusters = Clusters::new(&rows, 2)?;
/// let members: Vec<usize> = clusters.members()[0].iter().map(|(row, _)| *row).collect();
/// assert_eq!(members, [2, 0, 3]);
/// # Ok::<(), diptych::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Clusters {
    group_of: Vec<usize>,
    scores: Vec<f32>,
    centres: Embeddings,
}

impl Clusters {
    /// `groups` groups, at least one; fewer where fewer rows differ.
    ///
    /// # Cost
    ///
    /// N × groups × D for each of at most 50 rounds.
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] if there is no row.
    pub fn new(rows: &Embeddings, groups: usize) -> Result<Self> {
        let begun = Self::begin(&sample(rows, groups)?, groups.max(1))?;
        Ok(Self::settle(rows, begun.centres)?.ordered())
    }

    /// As many groups, up to 32, as set the rows apart best, by the simplified silhouette of a sample.
    ///
    /// # Cost
    ///
    /// A few seconds for the sample, then as [`Clusters::new`].
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] if there is no row.
    ///
    /// # Source
    ///
    /// Hruschka and others, "Evolving clusters in gene-expression data", 2006: the silhouette with distances to
    /// centres in place of those to all rows.
    pub fn fitting(rows: &Embeddings) -> Result<Self> {
        let sample = sample(rows, 1)?;
        let mut best = Self::begin(&sample, 1)?;
        let mut most = 0.0;
        for groups in CANDIDATES
            .into_iter()
            .filter(|groups| 2 * groups <= sample.len())
        {
            let begun = Self::begin(&sample, groups)?;
            let silhouette = begun.silhouette(&sample)?;
            if silhouette > most {
                (best, most) = (begun, silhouette);
            }
        }
        Ok(Self::settle(rows, best.centres)?.ordered())
    }

    /// The group of each row.
    pub fn group_of(&self) -> &[usize] {
        &self.group_of
    }

    /// The centre of each group: a unit row.
    pub fn centres(&self) -> &Embeddings {
        &self.centres
    }

    /// For each group its rows with their cosine to the centre, the nearest first.
    pub fn members(&self) -> Vec<Vec<(usize, f32)>> {
        let mut members = vec![Vec::new(); self.centres.len()];
        for (row, (&group, &score)) in self.group_of.iter().zip(&self.scores).enumerate() {
            members[group].push((row, score));
        }
        for group in &mut members {
            group.sort_by(|a: &(usize, f32), b| b.1.total_cmp(&a.1));
        }
        members
    }

    /// The best of several beginnings, settled.
    fn begin(rows: &Embeddings, groups: usize) -> Result<Self> {
        let mut state = SEED;
        let mut best: Option<Self> = None;
        for _ in 0..STARTS {
            let begun = Self::settle(rows, seeds(rows, groups, &mut state))?;
            if best
                .as_ref()
                .is_none_or(|best| begun.total() > best.total())
            {
                best = Some(begun);
            }
        }
        best.ok_or(Error::Empty { what: "rows" })
    }

    /// Centres and groups in turn, until no row changes its group.
    fn settle(rows: &Embeddings, centres: Embeddings) -> Result<Self> {
        let mut settled = Self::around(rows, centres)?;
        for _ in 0..ROUNDS {
            let next = Self::around(rows, settled.means(rows)?)?;
            let is_done = next.group_of == settled.group_of;
            settled = next;
            if is_done {
                break;
            }
        }
        Ok(settled)
    }

    /// Every row in the group of its nearest centre.
    fn around(rows: &Embeddings, centres: Embeddings) -> Result<Self> {
        let (mut group_of, mut scores) = (Vec::new(), Vec::new());
        for block in rows.chunks(BLOCK) {
            for row in block.scores(&centres)?.outer_iter() {
                let (group, score) = nearest(row.iter().copied());
                group_of.push(group);
                scores.push(score);
            }
        }
        Ok(Self {
            group_of,
            scores,
            centres,
        })
    }

    /// The mean of each group. A group without rows goes to a row that lies far from its centre.
    fn means(&self, rows: &Embeddings) -> Result<Embeddings> {
        let sums = self.sums(rows);
        let mut empty = Vec::new();
        let mut means = self.centres.rows().to_owned();
        for (group, mut mean) in means.outer_iter_mut().enumerate() {
            let sum = sums.row(group);
            if !self.group_of.contains(&group) {
                empty.push(group);
            } else if sum.dot(&sum) > NOTHING {
                mean.assign(&sum.mapv(|value| value as f32));
            }
            // Rows that cancel out keep the centre that they had.
        }
        for (group, row) in empty.iter().zip(self.furthest(empty.len())) {
            means.row_mut(*group).assign(&rows.rows().row(row));
        }
        Embeddings::new(means)
    }

    fn sums(&self, rows: &Embeddings) -> Array2<f64> {
        let mut sums = Array2::zeros(self.centres.rows().dim());
        for (row, &group) in rows.rows().outer_iter().zip(&self.group_of) {
            sums.row_mut(group)
                .zip_mut_with(&row, |sum: &mut f64, &value| *sum += f64::from(value));
        }
        sums
    }

    /// The `count` rows that lie furthest from their centres.
    fn furthest(&self, count: usize) -> Vec<usize> {
        let lacks: Vec<f32> = self.scores.iter().map(|score| -score).collect();
        top_k(&lacks, count)
            .into_iter()
            .map(|(row, _)| row)
            .collect()
    }

    /// How near all rows lie to their centres.
    fn total(&self) -> f64 {
        self.scores.iter().map(|&score| f64::from(score)).sum()
    }

    /// How much nearer rows lie to their own centre than to the next: from 0 to 1, on average.
    fn silhouette(&self, rows: &Embeddings) -> Result<f64> {
        let mut sizes = vec![0_usize; self.centres.len()];
        self.group_of.iter().for_each(|&group| sizes[group] += 1);
        let scores = rows.scores(&self.centres)?;
        let mut sum = 0.0;
        for (scores, &group) in scores.outer_iter().zip(&self.group_of) {
            let others = scores
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != group);
            let next = others.map(|(_, &score)| score).fold(-1.0, f32::max);
            let (own, next) = (1.0 - f64::from(scores[group]), 1.0 - f64::from(next));
            // A row by itself says nothing.
            if sizes[group] > 1 && next > NOTHING {
                sum += (next - own) / next;
            }
        }
        Ok(sum / rows.len() as f64)
    }

    /// The largest group first, of equal ones that of the first row; none without rows.
    fn ordered(self) -> Self {
        let members = self.members();
        let first = |group: &usize| members[*group].iter().map(|(row, _)| *row).min();
        let mut order: Vec<usize> = (0..members.len()).collect();
        order.retain(|&group| !members[group].is_empty());
        order.sort_by_key(|group| (Reverse(members[*group].len()), first(group)));
        let mut place = vec![0; members.len()];
        for (new, &old) in order.iter().enumerate() {
            place[old] = new;
        }
        Self {
            group_of: self.group_of.into_iter().map(|old| place[old]).collect(),
            scores: self.scores,
            centres: self.centres.select(&order),
        }
    }
}

/// Rows from all over, evenly.
fn sample(rows: &Embeddings, groups: usize) -> Result<Embeddings> {
    if rows.is_empty() {
        return Err(Error::Empty { what: "rows" });
    }
    let wanted = SAMPLE.max(groups.saturating_mul(SAMPLE_PER_GROUP));
    let count = wanted.min(rows.len());
    let numbers: Vec<usize> = (0..count).map(|place| place * rows.len() / count).collect();
    Ok(rows.select(&numbers))
}

/// The largest of some scores and its position, the first of equal ones.
fn nearest(scores: impl Iterator<Item = f32>) -> (usize, f32) {
    scores
        .enumerate()
        .fold((0, f32::NEG_INFINITY), |best, next| {
            if next.1 > best.1 { next } else { best }
        })
}

/// Rows to begin with, each drawn by how far it lies from those before it.
///
/// # Source
///
/// Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", 2007. The squared distance of unit rows is
/// twice what their cosine lacks of 1.
fn seeds(rows: &Embeddings, groups: usize, state: &mut u64) -> Embeddings {
    let mut distances = vec![1.0; rows.len()];
    let mut chosen = Vec::new();
    while chosen.len() < groups && distances.iter().any(|&distance| distance > 0.0) {
        let row = draw(&distances, state);
        chosen.push(row);
        let scores = rows.rows().dot(&rows.rows().row(row));
        for (distance, &score) in distances.iter_mut().zip(&scores) {
            let to_row = 1.0 - f64::from(score);
            *distance = distance.min(if to_row > NOTHING { to_row } else { 0.0 });
        }
        distances[row] = 0.0;
    }
    rows.select(&chosen)
}

/// A position, drawn by the weights, of which one at least is not 0.
fn draw(weights: &[f64], state: &mut u64) -> usize {
    let share = (split_mix(state) >> 11) as f64 / (1_u64 << 53) as f64;
    let mut left = share * weights.iter().sum::<f64>();
    let mut last = 0;
    for (position, &weight) in weights
        .iter()
        .enumerate()
        .filter(|(_, weight)| **weight > 0.0)
    {
        last = position;
        left -= weight;
        if left < 0.0 {
            break;
        }
    }
    last
}

/// The next of a row of numbers that look random (SplitMix64).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `count` rows around each of `groups` axes, the groups in turn.
    fn bundles(groups: usize, count: usize, spread: f32) -> Embeddings {
        let mut state = 7;
        let mut values = Array2::zeros((groups * count, 8));
        for (number, mut row) in values.outer_iter_mut().enumerate() {
            row.mapv_inplace(|_: f32| {
                spread * ((split_mix(&mut state) >> 40) as f32 / (1 << 24) as f32 - 0.5)
            });
            row[number % groups] += 1.0;
        }
        Embeddings::new(values).unwrap()
    }

    fn rows(values: &[f32]) -> Option<Embeddings> {
        let count = values.len() / 3;
        let values = Array2::from_shape_vec((count, 3), values[..3 * count].to_vec()).unwrap();
        Embeddings::new(values).ok()
    }

    /// How near all rows lie to the means of their groups.
    fn total(rows: &Embeddings, group_of: &[usize], groups: usize) -> f64 {
        let mut total = 0.0;
        for group in 0..groups {
            // The length of a sum of unit rows is the sum of their cosines with its direction.
            let mut sum = [0.0; 3];
            for row in (0..rows.len()).filter(|&row| group_of[row] == group) {
                for (sum, &value) in sum.iter_mut().zip(rows.row(row)) {
                    *sum += f64::from(value);
                }
            }
            total += sum.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
        }
        total
    }

    /// The best that any division into groups can reach.
    fn optimum(rows: &Embeddings, groups: usize) -> f64 {
        let divisions = groups.pow(rows.len() as u32);
        let total_of = |number: usize| {
            let digit = |row: usize| number / groups.pow(row as u32) % groups;
            let group_of: Vec<usize> = (0..rows.len()).map(digit).collect();
            total(rows, &group_of, groups)
        };
        (0..divisions).map(total_of).fold(0.0, f64::max)
    }

    #[test]
    fn bundles_are_found_and_counted() {
        for groups in [2, 3, 5, 8] {
            let rows = bundles(groups, 20, 0.3);
            let clusters = Clusters::fitting(&rows).unwrap();
            assert_eq!(clusters.centres().len(), groups);
            let expected: Vec<usize> = (0..rows.len()).map(|row| row % groups).collect();
            assert_eq!(clusters.group_of(), expected);
            assert_eq!(clusters, Clusters::new(&rows, groups).unwrap());
        }
    }

    #[test]
    fn a_sample_is_enough_to_find_them() {
        let rows = bundles(6, 1000, 0.3);
        let clusters = Clusters::fitting(&rows).unwrap();
        assert_eq!(clusters.centres().len(), 6);
        assert!(
            clusters
                .members()
                .iter()
                .all(|members| members.len() == 1000)
        );
    }

    #[test]
    fn rows_that_do_not_differ_are_one_group() {
        let one = bundles(1, 1, 0.3);
        let same = Embeddings::concat(8, &vec![one.clone(); 9]).unwrap();
        for clusters in [Clusters::new(&same, 4), Clusters::fitting(&same)] {
            assert_eq!(clusters.unwrap().group_of(), [0; 9]);
        }
        assert_eq!(Clusters::fitting(&one).unwrap().group_of(), [0]);
        assert_eq!(Clusters::new(&one, 0).unwrap().group_of(), [0]);
        assert!(Clusters::fitting(&Embeddings::empty(8)).is_err());
    }

    #[test]
    fn draws_follow_the_weights() {
        let mut state = 1;
        let mut counts = [0; 4];
        for _ in 0..8000 {
            counts[draw(&[0.0, 1.0, 3.0, 0.0], &mut state)] += 1;
        }
        assert_eq!((counts[0], counts[3]), (0, 0));
        assert!((1800..2200).contains(&counts[1]), "{counts:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_division_is_better_by_much(values in prop::collection::vec(-1f32..1.0, 6..21), groups in 1usize..4) {
            let Some(rows) = rows(&values) else { return Ok(()) };
            let clusters = Clusters::new(&rows, groups).unwrap();
            let found = total(&rows, clusters.group_of(), groups);
            let best = optimum(&rows, groups);
            prop_assert!(found <= best + 1e-6);
            // Four beginnings find the best division of seven rows nearly always, and one that is not far from it otherwise.
            prop_assert!(found >= 0.75 * best, "{} of {}", found, best);
        }

        #[test]
        fn rows_are_with_their_nearest_centre(
            values in prop::collection::vec(-1f32..1.0, 3..120),
            groups in 1usize..9,
        ) {
            let Some(rows) = rows(&values) else { return Ok(()) };
            let clusters = Clusters::new(&rows, groups).unwrap();
            prop_assert_eq!(&clusters, &Clusters::new(&rows, groups).unwrap());
            let members = clusters.members();
            prop_assert!(members.len() <= groups);
            prop_assert!(members.iter().all(|members| !members.is_empty()));
            prop_assert!(members.is_sorted_by_key(|members| Reverse(members.len())));
            prop_assert_eq!(members.iter().map(Vec::len).sum::<usize>(), rows.len());
            let scores = rows.scores(clusters.centres()).unwrap();
            for (group, members) in members.iter().enumerate() {
                prop_assert!(members.is_sorted_by(|a, b| a.1 >= b.1));
                for &(row, score) in members {
                    let most = scores.row(row).iter().copied().fold(-1.0, f32::max);
                    prop_assert!(scores[[row, group]] >= most - 1e-6);
                    prop_assert!((score - most).abs() < 1e-6);
                }
            }
        }
    }
}

//! Unit rows and the arithmetic over them: cosines, softmax, sigmoid, ranking.
//!
//! Pure: no model, no file, no thread. Whatever leaves a tower becomes [`Embeddings`], which brings each row to unit
//! length once; from then on a dot product is a cosine.

use std::cmp::Ordering;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, concatenate, s};

use crate::error::{Error, Result};

/// N rows of D values, each row of unit length.
///
/// The one currency of the library: towers give it out, everything after the towers takes it. The dot product of two
/// rows is always their cosine, from −1 to 1.
///
/// # Example
///
/// ```
/// use diptych::Embeddings;
/// use ndarray::array;
///
/// let images = Embeddings::new(array![[3.0, 4.0], [0.0, 2.0]])?;
/// let texts = Embeddings::new(array![[0.0, 1.0]])?;
/// assert_eq!(images.row(0), [0.6, 0.8]);
/// assert_eq!(images.scores(&texts)?, array![[0.8], [1.0]]);
/// # Ok::<(), diptych::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    rows: Array2<f32>,
}

impl Embeddings {
    /// Rows brought to unit length.
    ///
    /// # Shape and units
    ///
    /// N × D in, N × D out. Norms are summed in f64, so that rows that are of unit length already keep their values
    /// to within one rounding.
    ///
    /// # Errors
    ///
    /// [`Error::NoDirection`] for a row that holds NaN or infinity, or is all zeros.
    pub fn new(mut rows: Array2<f32>) -> Result<Self> {
        for (index, mut row) in rows.outer_iter_mut().enumerate() {
            let squared: f64 = row
                .iter()
                .map(|&value| f64::from(value) * f64::from(value))
                .sum();
            // f64 holds the square of every finite f32, so a sum that is not finite had an input that was not.
            if !squared.is_finite() {
                return Err(Error::NoDirection {
                    row: index,
                    problem: "holds a value that is not finite",
                });
            }
            if squared == 0.0 {
                return Err(Error::NoDirection {
                    row: index,
                    problem: "is all zeros",
                });
            }
            let scale = squared.sqrt().recip();
            row.mapv_inplace(|value| (f64::from(value) * scale) as f32);
        }
        // Rows are handed out as slices, which needs them to lie one after the other.
        Ok(Self {
            rows: rows.as_standard_layout().into_owned(),
        })
    }

    /// No rows, of width `width`.
    pub fn empty(width: usize) -> Self {
        Self {
            rows: Array2::zeros((0, width)),
        }
    }

    /// The number of rows, N.
    pub fn len(&self) -> usize {
        self.rows.nrows()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The width of each row, D.
    pub fn width(&self) -> usize {
        self.rows.ncols()
    }

    /// Row `index`.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`Embeddings::len`].
    pub fn row(&self, index: usize) -> &[f32] {
        let width = self.width();
        &self.as_slice()[index * width..(index + 1) * width]
    }

    /// All rows as an N × D view.
    pub fn rows(&self) -> ArrayView2<'_, f32> {
        self.rows.view()
    }

    /// All values, row after row.
    pub fn as_slice(&self) -> &[f32] {
        self.rows.as_slice().unwrap_or_default()
    }

    /// The rows of all `parts`, in order.
    ///
    /// # Errors
    ///
    /// [`Error::Width`] if a part is not `width` wide.
    pub fn concat(width: usize, parts: &[Embeddings]) -> Result<Self> {
        if let Some(part) = parts.iter().find(|part| part.width() != width) {
            return Err(Error::Width {
                found: part.width(),
                expected: width,
            });
        }
        let views: Vec<_> = parts.iter().map(Embeddings::rows).collect();
        let rows = concatenate(Axis(0), &views).unwrap_or_else(|_| Array2::zeros((0, width)));
        Ok(Self { rows })
    }

    /// The first `count` rows.
    pub(crate) fn first(mut self, count: usize) -> Self {
        self.rows.slice_collapse(s![..count, ..]);
        Self {
            rows: self.rows.as_standard_layout().into_owned(),
        }
    }

    /// The rows of these numbers, in their order.
    ///
    /// # Panics
    ///
    /// If a number is not below [`Embeddings::len`].
    pub fn select(&self, numbers: &[usize]) -> Self {
        Self {
            rows: self.rows.select(Axis(0), numbers),
        }
    }

    /// Each row by itself.
    pub fn split(&self) -> impl Iterator<Item = Embeddings> {
        self.chunks(1)
    }

    /// The rows in runs of `count`; the last may be shorter.
    pub(crate) fn chunks(&self, count: usize) -> impl Iterator<Item = Embeddings> {
        self.rows.axis_chunks_iter(Axis(0), count).map(|rows| Self {
            rows: rows.to_owned(),
        })
    }

    /// The rows in the order they had before they were sorted: row `i` here belongs at position `order[i]`.
    pub(crate) fn sorted_back(&self, order: &[usize]) -> Self {
        let mut rows = Array2::zeros(self.rows.dim());
        for (row, &position) in self.rows.outer_iter().zip(order) {
            rows.row_mut(position).assign(&row);
        }
        Self { rows }
    }

    /// The unit row in the middle of all rows: their mean, brought to unit length.
    ///
    /// # Errors
    ///
    /// [`Error::NoDirection`] if there is no row, or the rows cancel out.
    ///
    /// # Source
    ///
    /// How open_clip's `build_zero_shot_classifier` joins the templates of a label: each unit row, their mean, unit
    /// length again. A mean of raw rows is something else.
    pub fn mean(&self) -> Result<Self> {
        let nothing = || Array1::zeros(self.width());
        let mean = self.rows.mean_axis(Axis(0)).unwrap_or_else(nothing);
        Self::new(mean.insert_axis(Axis(0)))
    }

    /// The unit row in the direction of a weighted sum of rows; a negative weight leads away from a row.
    ///
    /// # Errors
    ///
    /// [`Error::NoDirection`] if the rows cancel out, or there is none.
    ///
    /// # Panics
    ///
    /// If there are not as many weights as rows.
    ///
    /// # Example
    ///
    /// ```
    /// use diptych::Embeddings;
    /// use ndarray::array;
    ///
    /// let rows = Embeddings::new(array![[1.0, 0.0], [0.0, 1.0]])?;
    /// assert_eq!(rows.weighted(&[3.0, 4.0])?.row(0), [0.6, 0.8]);
    /// # Ok::<(), diptych::Error>(())
    /// ```
    pub fn weighted(&self, weights: &[f32]) -> Result<Self> {
        assert_eq!(weights.len(), self.len(), "a weight for each row");
        let weights = ArrayView1::from(weights);
        Self::new(weights.dot(&self.rows).insert_axis(Axis(0)))
    }

    /// The cosine of each row with each row of `other`.
    ///
    /// # Shape and units
    ///
    /// N × M, from −1 to 1.
    ///
    /// # Errors
    ///
    /// [`Error::Width`] if the widths differ.
    pub fn scores(&self, other: &Embeddings) -> Result<Array2<f32>> {
        if self.width() != other.width() {
            return Err(Error::Width {
                found: other.width(),
                expected: self.width(),
            });
        }
        Ok(self.rows.dot(&other.rows.t()))
    }
}

/// Probabilities that sum to 1: e^x over the sum of all e^x.
///
/// Computed in f64 after the largest logit is taken off, so that no logit can overflow.
///
/// # Example
///
/// ```
/// let probabilities = diptych::softmax(&[1000.0, 1000.0]);
/// assert_eq!(probabilities, [0.5, 0.5]);
/// ```
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits
        .iter()
        .map(|&logit| f64::from(logit - largest).exp())
        .collect();
    let sum: f64 = powers.iter().sum();
    powers
        .into_iter()
        .map(|power| (power / sum) as f32)
        .collect()
}

/// The probability of one logit by itself: 1 / (1 + e^−x).
pub fn sigmoid(logit: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(logit)).exp())) as f32
}

/// The positions and values of the `k` largest scores, largest first; equal scores by position.
///
/// # Cost
///
/// O(N + k log k).
///
/// # Example
///
/// ```
/// assert_eq!(diptych::top_k(&[0.1, 0.9, 0.9], 2), [(1, 0.9), (2, 0.9)]);
/// ```
pub fn top_k(scores: &[f32], k: usize) -> Vec<(usize, f32)> {
    let mut ranked: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
    if k < ranked.len() {
        ranked.select_nth_unstable_by(k, by_score);
        ranked.truncate(k);
    }
    ranked.sort_unstable_by(by_score);
    ranked
}

fn by_score(a: &(usize, f32), b: &(usize, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_without_a_direction_are_refused() {
        for (bad, problem) in [
            (f32::NAN, "holds a value that is not finite"),
            (f32::INFINITY, "holds a value that is not finite"),
            (0.0, "is all zeros"),
        ] {
            let error = Embeddings::new(array![[1.0, 0.0], [bad, 0.0]]).unwrap_err();
            let Error::NoDirection {
                row: 1,
                problem: found,
            } = error
            else {
                panic!("{error}")
            };
            assert_eq!(found, problem);
        }
    }

    #[test]
    fn the_largest_and_smallest_values_keep_their_direction() {
        let rows = Embeddings::new(array![[f32::MAX, f32::MAX], [f32::MIN_POSITIVE, 0.0]]).unwrap();
        assert!((rows.row(0)[0] - 0.5f32.sqrt()).abs() < 1e-7);
        assert_eq!(rows.row(1), [1.0, 0.0]);
    }

    #[test]
    fn unit_rows_stay_as_they_are() {
        let once = Embeddings::new(array![[0.3, -1.7, 4.0, 0.02]]).unwrap();
        let twice = Embeddings::new(once.rows().to_owned()).unwrap();
        for (a, b) in once.as_slice().iter().zip(twice.as_slice()) {
            assert!((a - b).abs() <= f32::EPSILON / 2.0, "{a} {b}");
        }
    }

    #[test]
    fn columns_may_lie_first() {
        let rows = Embeddings::new(array![[3.0, 0.0], [4.0, 1.0]].reversed_axes()).unwrap();
        assert_eq!(rows.row(0), [0.6, 0.8]);
    }

    #[test]
    fn widths_must_agree() {
        let (a, b) = (Embeddings::empty(2), Embeddings::empty(3));
        assert!(matches!(
            a.scores(&b),
            Err(Error::Width {
                found: 3,
                expected: 2
            })
        ));
        assert!(matches!(
            Embeddings::concat(2, &[b]),
            Err(Error::Width {
                found: 3,
                expected: 2
            })
        ));
    }

    #[test]
    fn concat_of_nothing_is_empty() {
        assert_eq!(Embeddings::concat(4, &[]).unwrap(), Embeddings::empty(4));
    }

    #[test]
    fn mean_is_of_unit_rows_and_of_unit_length() {
        let rows = Embeddings::new(array![[10.0, 0.0], [0.0, 1.0]]).unwrap();
        let mean = rows.mean().unwrap();
        assert!((mean.row(0)[0] - mean.row(0)[1]).abs() < 1e-7);
        assert!(Embeddings::empty(3).mean().is_err());
        assert!(
            Embeddings::new(array![[1.0, 0.0], [-1.0, 0.0]])
                .unwrap()
                .mean()
                .is_err()
        );
    }

    #[test]
    fn sigmoid_has_no_overflow() {
        assert_eq!(
            [sigmoid(0.0), sigmoid(1e30), sigmoid(-1e30)],
            [0.5, 1.0, 0.0]
        );
    }

    proptest! {
        #[test]
        fn top_k_equals_a_full_sort(scores in prop::collection::vec(-3i8..3, 0..40), k in 0usize..50) {
            let scores: Vec<f32> = scores.into_iter().map(f32::from).collect();
            let mut all: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
            all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap());
            all.truncate(k);
            prop_assert_eq!(top_k(&scores, k), all);
        }

        #[test]
        fn scores_equal_three_loops(values in prop::collection::vec(-1f32..1.0, 24)) {
            let rows = Array2::from_shape_vec((6, 4), values).unwrap() + 0.01;
            let Ok(rows) = Embeddings::new(rows) else { return Ok(()) };
            let scores = rows.scores(&rows).unwrap();
            for i in 0..6 {
                for j in 0..6 {
                    let mut sum = 0.0;
                    for d in 0..4 {
                        sum += f64::from(rows.row(i)[d]) * f64::from(rows.row(j)[d]);
                    }
                    prop_assert!((f64::from(scores[[i, j]]) - sum).abs() < 1e-6);
                }
            }
        }

        #[test]
        fn softmax_sums_to_one(logits in prop::collection::vec(-1e4f32..1e4, 1..50)) {
            let probabilities = softmax(&logits);
            prop_assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            let order = |values: &[f32]| top_k(values, 1)[0].0;
            prop_assert_eq!(probabilities[order(&probabilities)], probabilities[order(&logits)]);
        }
    }
}

//! Which values of a transformer's output are an item's row: one token's, a mean, the pooled ones, or every patch's.
//!
//! Plain data and arithmetic over arrays. Which output of a graph they are read from is the tower's concern; which kind
//! a family's users take, and which of its tokens stand for no part of an image, `bundle` says.

use std::fmt;
use std::str::FromStr;

use ndarray::{Array2, ArrayView2, ArrayView3, Axis, s};

use crate::error::Error;

/// What an item's row is made of, where a graph gives a row for each token (`last_hidden_state`).
///
/// Rows of two kinds lie in two spaces: none of one can be compared with any of the other. Whatever the kind, each row
/// is brought to unit length as the last step.
///
/// # Example
///
/// ```
/// use diptych::Rows;
///
/// assert_eq!("mean".parse::<Rows>()?, Rows::Mean);
/// assert_eq!(Rows::Patches.to_string(), "patches");
/// assert!("average".parse::<Rows>().is_err());
/// # Ok::<(), diptych::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rows {
    /// That of the first token: an image's class token, as the last layer and its norm give it.
    Cls,
    /// The mean of all tokens that stand for a part of the item: patches of an image without class token and registers,
    /// tokens of a text without padding.
    Mean,
    /// What the model itself makes of all tokens (`pooler_output`): of DINOv2 and DINOv3 the class token's row, of ViT a
    /// layer above it, of SigLIP a head that attends to all patches.
    Pooled,
    /// That of each patch: several rows for an image, row by row from the top left corner.
    Patches,
}

impl Rows {
    /// Every kind.
    pub const ALL: [Rows; 4] = [Rows::Cls, Rows::Mean, Rows::Pooled, Rows::Patches];

    /// As options and `diptych.json` name it.
    pub fn name(self) -> &'static str {
        match self {
            Rows::Cls => "cls",
            Rows::Mean => "mean",
            Rows::Pooled => "pooled",
            Rows::Patches => "patches",
        }
    }

    /// Rows out of what a transformer gives for each token.
    ///
    /// # Shape and units
    ///
    /// N × T × D in; N × D out, of patches N · (T − `leading`) × D, item after item. `leading` tokens at the front stand
    /// for no part of the item. `mask`, N × T, is 1 for a token and 0 for padding; without it, all are tokens. Lengths
    /// are what they come to. [`Rows::Pooled`] is here the first token's, for models whose own pooling that is.
    ///
    /// # Panics
    ///
    /// If there are fewer than `leading` tokens, or `mask` is not N × T.
    ///
    /// # Source
    ///
    /// `last_hidden_state[:, 0]` and `last_hidden_state[:, leading:].mean(1)`; with a mask, the `cls_token` and
    /// `mean_tokens` of sentence-transformers' `Pooling`. Summed in f64.
    pub(crate) fn pool(
        self,
        hidden: &ArrayView3<'_, f32>,
        leading: usize,
        mask: Option<ArrayView2<'_, i64>>,
    ) -> Array2<f32> {
        let parts = hidden.slice(s![.., leading.., ..]);
        let mask_of_parts = mask.map(|mask| mask.slice_move(s![.., leading..]));
        match self {
            Rows::Cls | Rows::Pooled => first(hidden, mask),
            Rows::Mean => mean(&parts, mask_of_parts),
            Rows::Patches => each(&parts),
        }
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Rows {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Rows::ALL.into_iter().find(|rows| rows.name() == text);
        known.ok_or_else(|| Error::BadRows {
            found: text.to_owned(),
        })
    }
}

/// What the tokens of an image stand for, in the order in which a family of vision transformers gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageTokens {
    /// Whether a class token comes first.
    pub has_class: bool,
    /// How many tokens come next that stand for no part of the image: registers.
    pub registers: usize,
    /// Height and width of a patch in pixels, where a config states them. Patches come last, row by row.
    pub patch: Option<(u32, u32)>,
    /// Whether the family's own pooling is the class token's row, so that a graph need not give it.
    pub is_pooled_class: bool,
    /// The kind of row that the family's users take, unless that depends on what the graph gives.
    pub usual: Option<Rows>,
}

impl ImageTokens {
    /// How many tokens come before those of patches.
    pub fn leading(&self) -> usize {
        usize::from(self.has_class) + self.registers
    }

    /// How many patches lie below each other, and side by side, in an image of this height and width, where the size of
    /// a patch is known; what is left over at the bottom and the right belongs to none.
    pub(crate) fn grid(&self, (height, width): (usize, usize)) -> Option<(usize, usize)> {
        let (high, wide) = self.patch?;
        Some((height / high as usize, width / wide as usize))
    }
}

/// The first token that is not padding, of each item.
fn first(hidden: &ArrayView3<'_, f32>, mask: Option<ArrayView2<'_, i64>>) -> Array2<f32> {
    let mut rows = Array2::zeros((hidden.dim().0, hidden.dim().2));
    for (item, (tokens, mut row)) in hidden.outer_iter().zip(rows.outer_iter_mut()).enumerate() {
        let is_token = |mask: ArrayView2<'_, i64>| mask.row(item).iter().position(|&one| one != 0);
        row.assign(&tokens.row(mask.and_then(is_token).unwrap_or(0)));
    }
    rows
}

/// The mean of the tokens that are not padding, of each item; zeros where all are.
fn mean(hidden: &ArrayView3<'_, f32>, mask: Option<ArrayView2<'_, i64>>) -> Array2<f32> {
    let mut rows = Array2::zeros((hidden.dim().0, hidden.dim().2));
    for (item, (tokens, mut row)) in hidden.outer_iter().zip(rows.outer_iter_mut()).enumerate() {
        let is_token = |token: usize| mask.is_none_or(|mask| mask[[item, token]] != 0);
        let taken: Vec<usize> = (0..tokens.nrows())
            .filter(|&token| is_token(token))
            .collect();
        let count = taken.len().max(1) as f64;
        for (value, column) in row.iter_mut().zip(tokens.axis_iter(Axis(1))) {
            let sum: f64 = taken.iter().map(|&token| f64::from(column[token])).sum();
            *value = (sum / count) as f32;
        }
    }
    rows
}

/// Every token's row, item after item.
fn each(hidden: &ArrayView3<'_, f32>) -> Array2<f32> {
    let (items, tokens, width) = hidden.dim();
    let values = hidden.iter().copied().collect();
    Array2::from_shape_vec((items * tokens, width), values)
        .unwrap_or_else(|_| unreachable!("as many values as the axes say"))
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, array};

    use super::*;

    /// Two items of four tokens, one value wide: 0, 1, 2, 3 and 10, 11, 12, 13.
    fn hidden() -> Array3<f32> {
        Array3::from_shape_fn((2, 4, 1), |(item, token, _)| (10 * item + token) as f32)
    }

    #[test]
    fn kinds_take_the_tokens_that_they_say() {
        let pool = |rows: Rows, leading| rows.pool(&hidden().view(), leading, None);
        assert_eq!(pool(Rows::Cls, 2), array![[0.0], [10.0]]);
        assert_eq!(pool(Rows::Pooled, 2), array![[0.0], [10.0]]);
        assert_eq!(pool(Rows::Mean, 0), array![[1.5], [11.5]]);
        assert_eq!(pool(Rows::Mean, 2), array![[2.5], [12.5]]);
        assert_eq!(pool(Rows::Patches, 2), array![[2.0], [3.0], [12.0], [13.0]]);
    }

    #[test]
    fn padding_is_no_token() {
        // Padded on the right and on the left.
        let mask = array![[1, 1, 1, 0], [0, 0, 1, 1]];
        let pool = |rows: Rows, leading| rows.pool(&hidden().view(), leading, Some(mask.view()));
        assert_eq!(pool(Rows::Cls, 0), array![[0.0], [12.0]]);
        assert_eq!(pool(Rows::Mean, 0), array![[1.0], [12.5]]);
        assert_eq!(pool(Rows::Mean, 1), array![[1.5], [12.5]]);
    }

    #[test]
    fn patches_are_whole_ones() {
        let tokens = ImageTokens {
            has_class: true,
            registers: 4,
            patch: Some((14, 7)),
            is_pooled_class: true,
            usual: Some(Rows::Cls),
        };
        assert_eq!(tokens.leading(), 5);
        assert_eq!(tokens.grid((28, 30)), Some((2, 4)));
    }
}

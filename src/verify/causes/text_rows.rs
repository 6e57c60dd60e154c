//! Other text rows from the same ids, and what the search for causes needs of texts.

use ndarray::Array2;

use super::{Cause, CauseKind, are_equal, cause, of_graph};
use crate::embedding::Embeddings;
use crate::encoder::DualEncoder;
use crate::error::Result;
use crate::tokenize::{Padding, Tokenizer, Tokens};
use crate::tower::TextTower;
use crate::verify::compare::StageName;
use crate::verify::record::{Pads, TextRecord, unit_rows};

/// Texts, what the model makes of them, and what the record has.
pub(super) struct Texts<'a> {
    tower: &'a TextTower,
    /// Where the vocabulary lies.
    pub(super) tokenizer_file: &'a std::path::Path,
    pub(super) found: &'a [TextRecord],
    pub(super) expected: &'a [TextRecord],
    rows: Vec<Embeddings>,
    expected_rows: Vec<Embeddings>,
    tolerance: f64,
}

impl<'a> Texts<'a> {
    pub(super) fn new(
        encoder: &'a DualEncoder,
        found: &'a [TextRecord],
        expected: &'a [TextRecord],
        tolerance: f64,
    ) -> Result<Self> {
        let tower = encoder.text_tower()?;
        Ok(Self {
            tower,
            tokenizer_file: tower.tokenizer().path(),
            found,
            expected,
            rows: unit_rows(found.iter().map(|text| &text.row))?,
            expected_rows: unit_rows(expected.iter().map(|text| &text.row))?,
            tolerance,
        })
    }

    /// The model's rows and the record's, text by text.
    pub(super) fn rows(&self) -> [&[Embeddings]; 2] {
        [&self.rows, &self.expected_rows]
    }

    pub(super) fn tokenizer(&self) -> &Tokenizer {
        self.tower.tokenizer()
    }

    /// A sentence on whether the rows would be the record's with the record's own ids, where that can be run.
    pub(super) fn confirmed(&self) -> &'static str {
        match self.padding_that_fits() {
            Some(_) => "; fed with the record's ids, the graph gives the record's rows",
            None => {
                "; fed with the record's ids, the graph still gives other rows, so something else differs too"
            }
        }
    }

    /// The padding with which the record's ids give the record's rows.
    pub(super) fn padding_that_fits(&self) -> Option<Option<Pads>> {
        let mut ids: Vec<i64> = [0, 1].to_vec();
        ids.extend(
            self.expected
                .iter()
                .filter_map(|text| text.ids.last().copied()),
        );
        ids.extend(self.own_padding().map(|pads| pads.id));
        ids.sort_unstable();
        ids.dedup();
        let length = self.tokenizer().settings().context_length;
        let stated = self.expected[0].padding;
        let guesses = ids.into_iter().map(|id| Some(Pads { length, id }));
        let all = [stated, self.own_padding(), None]
            .into_iter()
            .chain(guesses);
        all.into_iter().find(|&padding| self.fits(padding))
    }

    pub(super) fn own_padding(&self) -> Option<Pads> {
        self.found[0].padding
    }

    /// Whether the record's ids, padded so, give the record's rows. A graph that does not take them does not.
    fn fits(&self, padding: Option<Pads>) -> bool {
        let mut texts = self.expected.iter().zip(&self.expected_rows);
        let is_equal = |(text, expected): (&TextRecord, &Embeddings)| {
            let row = self.tower.encode_tokens(&padded(&text.ids, padding));
            let expected = std::slice::from_ref(expected);
            row.is_ok_and(|row| are_equal(&[row], expected, self.tolerance))
        };
        texts.all(is_equal)
    }
}

/// One text's ids with padding after them, which the mask leaves out.
fn padded(ids: &[i64], padding: Option<Pads>) -> Tokens {
    let length = padding
        .map_or(ids.len(), |pads| pads.length.max(ids.len()))
        .max(1);
    let mut all = Array2::from_elem((1, length), padding.map_or(0, |pads| pads.id));
    let mut mask = Array2::zeros((1, length));
    for (column, &id) in ids.iter().enumerate() {
        all[[0, column]] = id;
        mask[[0, column]] = 1;
    }
    Tokens {
        ids: all,
        mask,
        cut: 0,
    }
}

/// Why the rows differ where the ids do not.
pub(super) fn find(texts: &Texts<'_>) -> Result<Cause> {
    let stage = StageName::TextRows;
    Ok(match texts.padding_that_fits() {
        Some(padding) => {
            let explanation = format!(
                "padding: the graph gives the record's rows with padding {}, here it is {}",
                told(padding),
                told(texts.own_padding())
            );
            cause(stage, CauseKind::Padding, explanation)
        }
        None if texts.tokenizer().settings().padding == Padding::Full => {
            let mut found = of_graph(stage, &texts.rows, &texts.expected_rows);
            found.explanation += "; other paddings do not explain it";
            found
        }
        None => of_graph(stage, &texts.rows, &texts.expected_rows),
    })
}

pub(super) fn told(padding: Option<Pads>) -> String {
    padding.map_or_else(
        || "none".to_owned(),
        |pads| format!("with id {} to {}", pads.id, pads.length),
    )
}

//! The best rows for a query: codes choose candidates, full rows decide.

use super::codes::Codes;
use super::parts::in_parts;
use super::rows::Rows;

/// Rows of one collection, with the codes of the first of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranked<'a> {
    pub(super) rows: &'a Rows,
    pub(super) codes: Option<&'a Codes>,
}

/// Which rows may be found.
#[derive(Debug, Clone)]
pub(super) enum Allowed {
    /// All but these, in ascending order.
    AllBut(Vec<usize>),
    /// These alone, in ascending order.
    Only(Vec<usize>),
}

/// Candidates whose full rows are looked at, for each row that is wanted, and at least. Measured in `benches/search.rs`.
const CANDIDATES_EACH: usize = 40;
const FEWEST_CANDIDATES: usize = 1000;
/// One more candidate for so many rows: the more there are, the closer they lie.
const ROWS_A_CANDIDATE: usize = 400;
/// Fewer allowed rows than one in so many are looked at directly.
const DIRECT: usize = 64;
/// Codes, and rows, that a thread must have for its start to pay.
const CODES_A_THREAD: usize = 50_000;
const ROWS_A_THREAD: usize = 1000;

/// A row and its cosine with the query.
pub(super) type Scored = (usize, f32);

impl Ranked<'_> {
    /// The `count` best rows of `allowed`, best first, rows of equal score in their order.
    pub(super) fn best(&self, query: &[f32], allowed: &Allowed, count: usize) -> Vec<Scored> {
        let wanted =
            (CANDIDATES_EACH * count).max(FEWEST_CANDIDATES) + self.rows.len() / ROWS_A_CANDIDATE;
        let coded = self.codes.map_or(0, Codes::len);
        let mut candidates: Vec<usize> = match (allowed, self.codes) {
            (Allowed::Only(rows), _) if rows.len() <= coded / DIRECT + wanted => rows.clone(),
            (_, Some(codes)) if wanted < coded => {
                let tail = coded..self.rows.len();
                let found = self.candidates(codes, query, allowed, wanted);
                found
                    .into_iter()
                    .chain(tail)
                    .filter(|&row| allowed.contains(row))
                    .collect()
            }
            _ => (0..self.rows.len())
                .filter(|&row| allowed.contains(row))
                .collect(),
        };
        candidates.sort_unstable();
        let mut scored = self.scored(query, &candidates);
        keep_best(&mut scored, count);
        scored
    }

    /// The rows of `allowed` whose cosine with `query` reaches `least`, best first.
    pub(super) fn reaching(&self, query: &[f32], allowed: &Allowed, least: f32) -> Vec<Scored> {
        let coded = self.codes.map_or(0, Codes::len);
        let found = self.codes.map_or_else(Vec::new, |codes| {
            let least = least - codes.error(query, least);
            in_parts(coded, CODES_A_THREAD, |part| {
                let mut found = Vec::new();
                codes.scan(query, part, |row, estimate| {
                    if estimate >= least {
                        found.push(row);
                    }
                });
                found
            })
            .concat()
        });
        let tail = coded..self.rows.len();
        let candidates: Vec<usize> = found
            .into_iter()
            .chain(tail)
            .filter(|&row| allowed.contains(row))
            .collect();
        let mut scored = self.scored(query, &candidates);
        scored.retain(|(_, score)| *score >= least);
        scored.sort_unstable_by(by_score);
        scored
    }

    /// The cosines of some rows.
    fn scored(&self, query: &[f32], candidates: &[usize]) -> Vec<Scored> {
        let score = |rows: &[usize]| -> Vec<Scored> {
            let mut scratch = vec![0.0; query.len()];
            rows.iter()
                .map(|&row| (row, self.rows.score(row, query, &mut scratch)))
                .collect()
        };
        in_parts(candidates.len(), ROWS_A_THREAD, |part| {
            score(&candidates[part])
        })
        .concat()
    }

    /// The rows of the `wanted` best estimates.
    fn candidates(
        &self,
        codes: &Codes,
        query: &[f32],
        allowed: &Allowed,
        wanted: usize,
    ) -> Vec<usize> {
        let parts = in_parts(codes.len(), CODES_A_THREAD, |part| {
            let mut best = Best::new(wanted);
            codes.scan(query, part, |row, estimate| {
                if estimate > best.least && allowed.contains(row) {
                    best.offer((row, estimate));
                }
            });
            best.kept
        });
        let mut best = parts.concat();
        keep_best(&mut best, wanted);
        best.into_iter().map(|(row, _)| row).collect()
    }
}

impl Allowed {
    fn contains(&self, row: usize) -> bool {
        match self {
            Allowed::AllBut(rows) => rows.is_empty() || rows.binary_search(&row).is_err(),
            Allowed::Only(rows) => rows.binary_search(&row).is_ok(),
        }
    }
}

/// The best so far, in a buffer that is cut now and then.
#[derive(Debug)]
struct Best {
    wanted: usize,
    kept: Vec<Scored>,
    /// What an estimate must exceed to be of use.
    least: f32,
}

impl Best {
    fn new(wanted: usize) -> Self {
        Self {
            wanted,
            kept: Vec::with_capacity(2 * wanted),
            least: f32::NEG_INFINITY,
        }
    }

    fn offer(&mut self, scored: Scored) {
        self.kept.push(scored);
        if self.kept.len() == 2 * self.wanted {
            self.kept.select_nth_unstable_by(self.wanted - 1, by_score);
            self.kept.truncate(self.wanted);
            self.least = self.kept[self.wanted - 1].1;
        }
    }
}

/// Leaves the `count` best, best first.
fn keep_best(scored: &mut Vec<Scored>, count: usize) {
    if count < scored.len() && count > 0 {
        scored.select_nth_unstable_by(count - 1, by_score);
    }
    scored.truncate(count);
    scored.sort_unstable_by(by_score);
}

fn by_score(a: &Scored, b: &Scored) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

//! The best rows for a query: codes choose candidates, full rows decide.

use std::ops::Range;

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

/// Candidates that are kept, for each row that is wanted, and at least. Measured in `benches/search.rs`.
const CANDIDATES_EACH: usize = 100;
const FEWEST_CANDIDATES: usize = 3000;
/// One more candidate for so many rows: the more there are, the closer they lie.
const ROWS_A_CANDIDATE: usize = 200;
/// Candidates whose full rows are looked at first, for each row that is wanted.
const FIRST_EACH: usize = 20;
/// Fewer allowed rows than one in so many are looked at directly.
const DIRECT: usize = 32;
/// Codes, and rows, that a thread must have for its start to pay.
const CODES_A_THREAD: usize = 40_000;
const ROWS_A_THREAD: usize = 1000;

/// A row and its cosine with the query.
pub(super) type Scored = (usize, f32);

impl Ranked<'_> {
    /// The `count` best rows of `allowed`, best first, rows of equal score in their order.
    pub(super) fn best(&self, query: &[f32], allowed: &Allowed, count: usize) -> Vec<Scored> {
        let total = self.rows.len();
        let least = FEWEST_CANDIDATES + total / ROWS_A_CANDIDATE;
        let wanted = least.max(CANDIDATES_EACH * count);
        let mut scored = match (allowed, self.codes) {
            (_, _) if count == 0 => Vec::new(),
            (Allowed::Only(rows), _) if rows.len() <= total / DIRECT + wanted => {
                self.scored(query, rows)
            }
            (_, Some(codes)) if wanted < codes.len() => {
                self.best_by_codes(codes, query, allowed, count, wanted)
            }
            _ => self.scored(query, &allowed.among(0..total)),
        };
        keep_best(&mut scored, count);
        scored.sort_unstable_by(by_score);
        scored
    }

    /// The `count` best rows and others: of the best `wanted` by their codes, and of all that have none.
    ///
    /// Candidates whose estimate cannot be so wrong that they reach what the first of them have reached are left out.
    fn best_by_codes(
        &self,
        codes: &Codes,
        query: &[f32],
        allowed: &Allowed,
        count: usize,
        wanted: usize,
    ) -> Vec<Scored> {
        let mut candidates = self.candidates(codes, query, allowed, wanted);
        let first = (FIRST_EACH * count).min(candidates.len());
        if first > 0 && first < candidates.len() {
            candidates.select_nth_unstable_by(first - 1, by_score);
        }
        let (first, others) = candidates.split_at(first);
        let uncoded = allowed.among(codes.len()..self.rows.len());
        let rows: Vec<usize> = first.iter().map(|(row, _)| *row).chain(uncoded).collect();
        let mut scored = self.scored(query, &rows);
        keep_best(&mut scored, count);
        let reached = scored.get(count - 1).map_or(-1.0, |(_, score)| *score);
        let least = reached - codes.error(query, reached);
        let others = others.iter().filter(|(_, estimate)| *estimate >= least);
        let mut others: Vec<usize> = others.map(|(row, _)| *row).collect();
        others.sort_unstable();
        scored.extend(self.scored(query, &others));
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
        let found = found.into_iter().chain(coded..self.rows.len());
        let candidates: Vec<usize> = found.filter(|&row| allowed.contains(row)).collect();
        let mut scored = self.scored(query, &candidates);
        scored.retain(|(_, score)| *score >= least);
        scored.sort_unstable_by(by_score);
        scored
    }

    /// The cosines of some rows.
    fn scored(&self, query: &[f32], rows: &[usize]) -> Vec<Scored> {
        let score = |&row: &usize| (row, self.rows.score(row, query));
        let parts = in_parts(rows.len(), ROWS_A_THREAD, |part| {
            rows[part].iter().map(score).collect::<Vec<_>>()
        });
        parts.concat()
    }

    /// The rows of the `wanted` best estimates, in no order.
    fn candidates(
        &self,
        codes: &Codes,
        query: &[f32],
        allowed: &Allowed,
        wanted: usize,
    ) -> Vec<Scored> {
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
        best
    }
}

impl Allowed {
    fn contains(&self, row: usize) -> bool {
        match self {
            Allowed::AllBut(rows) => rows.is_empty() || rows.binary_search(&row).is_err(),
            Allowed::Only(rows) => rows.binary_search(&row).is_ok(),
        }
    }

    /// Those of `rows`.
    fn among(&self, rows: Range<usize>) -> Vec<usize> {
        rows.filter(|&row| self.contains(row)).collect()
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
            keep_best(&mut self.kept, self.wanted);
            self.least = self.kept[self.wanted - 1].1;
        }
    }
}

/// Leaves the `count` best, the least of them last, the others in no order.
fn keep_best(scored: &mut Vec<Scored>, count: usize) {
    if count <= scored.len() && count > 0 {
        scored.select_nth_unstable_by(count - 1, by_score);
    }
    scored.truncate(count);
}

fn by_score(a: &Scored, b: &Scored) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

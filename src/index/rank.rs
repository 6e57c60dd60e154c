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

/// Rows of the best estimates that are looked at first, for each row that is wanted, and at least.
const FIRST_EACH: usize = 8;
const FEWEST_FIRST: usize = 1000;
/// Estimates that are kept beyond those: as many for each row that is wanted, and one for so many rows.
const KEPT_EACH: usize = 40;
const ROWS_A_KEPT: usize = 100;
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
        let coded = self.codes.map_or(0, Codes::len);
        let first = (FIRST_EACH * count).max(FEWEST_FIRST);
        let kept = first + KEPT_EACH * count + self.rows.len() / ROWS_A_KEPT;
        let mut scored = match (allowed, self.codes) {
            (Allowed::Only(rows), _) if rows.len() <= coded / DIRECT + first => {
                self.scored(query, rows)
            }
            (_, Some(codes)) if kept < coded => {
                let estimates = self.estimates(codes, query, allowed, kept);
                let mut scored = self.decided(codes, query, &estimates, first, count);
                scored.extend(self.scored(query, &allowed.among(coded..self.rows.len())));
                scored
            }
            _ => self.scored(query, &allowed.among(0..self.rows.len())),
        };
        keep_best(&mut scored, count);
        scored
    }

    /// The cosines of the rows of `estimates`, which are in order, that may be among the `count` best: the `first` of
    /// them, and then those whose estimate is not too low to be as good, wrong as it may be.
    fn decided(
        &self,
        codes: &Codes,
        query: &[f32],
        estimates: &[Scored],
        first: usize,
        count: usize,
    ) -> Vec<Scored> {
        let rows = |estimates: &[Scored]| -> Vec<usize> {
            let mut rows: Vec<usize> = estimates.iter().map(|(row, _)| *row).collect();
            rows.sort_unstable();
            rows
        };
        let (first, rest) = estimates.split_at(first.min(estimates.len()));
        let mut scored = self.scored(query, &rows(first));
        keep_best(&mut scored, count);
        if let Some(&(_, least)) = scored.last() {
            let least = least - codes.error(query, least);
            let may_be = rest.partition_point(|(_, estimate)| *estimate >= least);
            scored.extend(self.scored(query, &rows(&rest[..may_be])));
        }
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
        let candidates = allowed.among(found.into_iter().chain(coded..self.rows.len()));
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

    /// The `wanted` best estimates, best first.
    fn estimates(
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
    /// Those of `rows` that may be found.
    fn among(&self, rows: impl Iterator<Item = usize>) -> Vec<usize> {
        rows.filter(|&row| self.contains(row)).collect()
    }

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

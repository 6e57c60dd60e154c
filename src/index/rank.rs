//! The best rows for a query: codes choose candidates, full rows decide.

use std::ops::Range;

use super::coder::Query;
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
const FEWEST_CANDIDATES: usize = 4000;
/// One more candidate for so many rows: the more there are, the closer they lie.
const ROWS_A_CANDIDATE: usize = 150;
/// Candidates whose full rows are looked at first, for each row that is wanted.
const FIRST_EACH: usize = 20;
/// Fewer allowed rows than one in so many are looked at directly.
const DIRECT: usize = 32;
/// Places, and rows at each of them, that tell beforehand how good the best estimates will be.
const SAMPLED_PLACES: usize = 256;
const SAMPLED_ROWS: usize = 32;
/// Codes, and rows, that a thread must have for its start to pay.
const CODES_A_THREAD: usize = 20_000;
const ROWS_A_THREAD: usize = 500;

/// Rows that are asked for before they are looked at.
const AHEAD: usize = 4;

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
        let coded = codes.query(query);
        let mut candidates = candidates(codes, &coded, allowed, wanted);
        let first = (FIRST_EACH * count).min(candidates.len());
        if first < candidates.len() {
            candidates.select_nth_unstable_by(first, |a, b| b.cmp(a));
        }
        let (first, others) = candidates.split_at(first);
        let uncoded = allowed.among(codes.len()..self.rows.len());
        let first = first.iter().map(|candidate| candidate.row());
        let mut scored = self.scored(query, &first.chain(uncoded).collect::<Vec<_>>());
        keep_best(&mut scored, count);
        let reached = scored.get(count - 1).map_or(-1.0, |(_, score)| *score);
        let least = reached - coded.error(reached);
        let others = others.iter().filter(|other| other.estimate() >= least);
        let mut others: Vec<usize> = others.map(|other| other.row()).collect();
        others.sort_unstable();
        scored.extend(self.scored(query, &others));
        scored
    }

    /// The rows of `allowed` whose cosine with `query` reaches `least`, best first.
    pub(super) fn reaching(&self, query: &[f32], allowed: &Allowed, least: f32) -> Vec<Scored> {
        let coded = self.codes.map_or(0, Codes::len);
        let found = self.codes.map_or_else(Vec::new, |codes| {
            let query = codes.query(query);
            let least = least - query.error(least);
            in_parts(coded, CODES_A_THREAD, |part| {
                let mut found = Vec::new();
                codes.scan(&query, part, |row, estimate| {
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
        let parts = in_parts(rows.len(), ROWS_A_THREAD, |part| {
            let rows = &rows[part];
            let score = |(place, &row): (usize, &usize)| {
                if let Some(&ahead) = rows.get(place + AHEAD) {
                    self.rows.prefetch(ahead);
                }
                (row, self.rows.score(row, query))
            };
            rows.iter().enumerate().map(score).collect::<Vec<_>>()
        });
        parts.concat()
    }
}

/// The rows of the `wanted` best estimates, in no order.
fn candidates(codes: &Codes, query: &Query, allowed: &Allowed, wanted: usize) -> Vec<Estimated> {
    let floor = floor(codes, query, allowed, wanted);
    let found = above(codes, query, allowed, wanted, floor);
    if found.len() < wanted && floor > f32::NEG_INFINITY {
        return above(codes, query, allowed, wanted, f32::NEG_INFINITY);
    }
    found
}

/// Of the rows whose estimates exceed `floor`, the `wanted` best.
fn above(
    codes: &Codes,
    query: &Query,
    allowed: &Allowed,
    wanted: usize,
    floor: f32,
) -> Vec<Estimated> {
    let parts = in_parts(codes.len(), CODES_A_THREAD, |part| {
        let mut best = Best::new(wanted, floor);
        codes.scan(query, part, |row, estimate| {
            if estimate > best.least && allowed.contains(row) {
                best.offer(row, estimate);
            }
        });
        best.kept
    });
    let mut best = Best::new(wanted, floor);
    best.kept = parts.concat();
    best.cut();
    best.kept
}

/// What the `wanted` best estimates probably exceed, as a few rows here and there tell.
fn floor(codes: &Codes, query: &Query, allowed: &Allowed, wanted: usize) -> f32 {
    let step = codes.len() / SAMPLED_PLACES;
    let mut sample = Vec::with_capacity(SAMPLED_PLACES * SAMPLED_ROWS);
    for first in (0..SAMPLED_PLACES).map(|place| place * step) {
        codes.scan(
            query,
            first..first + SAMPLED_ROWS.min(step),
            |row, estimate| {
                if allowed.contains(row) {
                    sample.push(estimate);
                }
            },
        );
    }
    // As many again to half, since the sample may be a little too good.
    let rank = wanted * SAMPLED_PLACES * SAMPLED_ROWS / codes.len() * 3 / 2;
    if rank >= sample.len() {
        return f32::NEG_INFINITY;
    }
    *sample.select_nth_unstable_by(rank, |a, b| b.total_cmp(a)).1
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

/// A row and the estimate of its cosine in one number, which is larger the better the estimate is and, of equal ones,
/// the earlier the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Estimated(u64);

impl Estimated {
    fn new(row: usize, estimate: f32) -> Self {
        let bits = estimate.to_bits();
        let ordered = if bits >> 31 == 0 {
            bits | 1 << 31
        } else {
            !bits
        };
        Self(u64::from(ordered) << 32 | u64::from(!(row as u32)))
    }

    fn row(self) -> usize {
        !(self.0 as u32) as usize
    }

    fn estimate(self) -> f32 {
        let ordered = (self.0 >> 32) as u32;
        let bits = if ordered >> 31 == 1 {
            ordered & !(1 << 31)
        } else {
            !ordered
        };
        f32::from_bits(bits)
    }
}

/// The best so far, in a buffer that is cut now and then.
#[derive(Debug)]
struct Best {
    wanted: usize,
    kept: Vec<Estimated>,
    /// What an estimate must exceed to be of use.
    least: f32,
}

impl Best {
    /// The best that exceed `least`.
    fn new(wanted: usize, least: f32) -> Self {
        Self {
            wanted,
            kept: Vec::new(),
            least,
        }
    }

    fn offer(&mut self, row: usize, estimate: f32) {
        self.kept.push(Estimated::new(row, estimate));
        if self.kept.len() == 2 * self.wanted {
            self.cut();
            self.least = self.kept[self.wanted - 1].estimate();
        }
    }

    /// Leaves the best, the least of them last.
    fn cut(&mut self) {
        if self.wanted < self.kept.len() {
            self.kept
                .select_nth_unstable_by(self.wanted - 1, |a, b| b.cmp(a));
        }
        self.kept.truncate(self.wanted);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_ordered_with_their_rows() {
        let estimates = [-1.0, -0.5, -0.0, 0.0, 1e-9, 0.5, 0.75, 1.0];
        let mut all = Vec::new();
        for estimate in estimates {
            for row in [u32::MAX as usize, 70_000, 1, 0] {
                let estimated = Estimated::new(row, estimate);
                assert_eq!(estimated.row(), row);
                assert_eq!(estimated.estimate().to_bits(), estimate.to_bits());
                all.push(estimated);
            }
        }
        assert!(all.is_sorted());
    }
}

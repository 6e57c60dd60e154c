//! The best rows for a query: codes choose candidates, full rows decide.

use std::ops::Range;

use super::coder::{BLOCK, Query};
use super::codes::Codes;
use super::parts::in_parts;
use super::rows::Rows;
use crate::error::Result;

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
const FEWEST_CANDIDATES: usize = 5000;
/// One more candidate for so many rows: the more there are, the closer they lie.
const ROWS_A_CANDIDATE: usize = 50;
/// Candidates whose full rows are looked at first, for each row that is wanted.
const FIRST_EACH: usize = 20;
/// Fewer allowed rows than one in so many are looked at directly.
const DIRECT: usize = 32;
/// Rows of a sample whose full rows are looked at, for each row that is wanted.
const FIRST_OF_SAMPLE: usize = 5;
/// Blocks of codes that tell beforehand how good the best estimates will be.
const SAMPLED_BLOCKS: usize = 128;
/// Blocks of codes, and rows, that a thread must have for its start to pay.
const BLOCKS_A_THREAD: usize = 500;
const ROWS_A_THREAD: usize = 500;

/// Rows that are asked for before they are looked at.
const AHEAD: usize = 4;

/// A row and its cosine with the query.
pub(super) type Scored = (usize, f32);

impl Ranked<'_> {
    /// The `count` best rows of `allowed`, best first, rows of equal score in their order.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`](crate::Error::Damaged) if a full row that was looked at is not what was written.
    pub(super) fn best(
        &self,
        query: &[f32],
        allowed: &Allowed,
        count: usize,
    ) -> Result<Vec<Scored>> {
        let total = self.rows.len();
        let least = FEWEST_CANDIDATES + total / ROWS_A_CANDIDATE;
        let wanted = least.max(CANDIDATES_EACH * count);
        let mut scored = match (allowed, self.codes) {
            (_, _) if count == 0 => Ok(Vec::new()),
            (Allowed::Only(rows), _) if rows.len() <= total / DIRECT + wanted => {
                self.scored(query, rows)
            }
            (_, Some(codes)) if wanted < codes.len() => {
                self.best_by_codes(codes, query, allowed, count, wanted)
            }
            _ => self.scored(query, &allowed.among(0..total)),
        }?;
        keep_best(&mut scored, count);
        scored.sort_unstable_by(by_score);
        Ok(scored)
    }

    /// The `count` best rows and others: of the best `wanted` by their codes, and of all that have none.
    ///
    /// Candidates that cannot reach what others have reached are left out: others of a sample at first, then the first of
    /// the candidates.
    fn best_by_codes(
        &self,
        codes: &Codes,
        query: &[f32],
        allowed: &Allowed,
        count: usize,
        wanted: usize,
    ) -> Result<Vec<Scored>> {
        let coded = codes.query(query);
        let step = codes.blocks().div_ceil(SAMPLED_BLOCKS);
        let mut sample = sample(codes, &coded, allowed, step);
        let floor = floor(&mut sample, wanted / step);
        let (_, reached) = self.first(query, &mut sample, FIRST_OF_SAMPLE * count, count)?;
        let mut candidates = above(codes, &coded, allowed, wanted, floor.max(reached));
        if candidates.len() < wanted && floor > reached {
            candidates = above(codes, &coded, allowed, wanted, reached);
        }
        let (mut scored, reached) =
            self.first(query, &mut candidates, FIRST_EACH * count, count)?;
        let others = candidates.iter().skip(FIRST_EACH * count);
        let others = others.filter(|other| other.most() >= reached);
        let mut others: Vec<usize> = others.map(|other| other.row()).collect();
        others.sort_unstable();
        others.extend(allowed.among(codes.len()..self.rows.len()));
        scored.extend(self.scored(query, &others)?);
        Ok(scored)
    }

    /// The scores of the best `number` of `candidates`, which are put first, and what `count` of them reach.
    fn first(
        &self,
        query: &[f32],
        candidates: &mut [Candidate],
        number: usize,
        count: usize,
    ) -> Result<(Vec<Scored>, f32)> {
        if number < candidates.len() {
            candidates.select_nth_unstable_by(number, |a, b| b.cmp(a));
        }
        let first = candidates.iter().take(number);
        let rows: Vec<usize> = first.map(|candidate| candidate.row()).collect();
        let mut scored = self.scored(query, &rows)?;
        keep_best(&mut scored, count);
        let reached = scored.get(count - 1).map_or(-1.0, |(_, score)| *score);
        Ok((scored, reached))
    }

    /// The rows of `allowed` whose cosine with `query` reaches `least`, best first.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`](crate::Error::Damaged), as everything that looks at full rows.
    pub(super) fn reaching(
        &self,
        query: &[f32],
        allowed: &Allowed,
        least: f32,
    ) -> Result<Vec<Scored>> {
        let coded = self.codes.map_or(0, Codes::len);
        let found = self.codes.map_or_else(Vec::new, |codes| {
            let query = codes.query(query);
            in_parts(codes.blocks(), BLOCKS_A_THREAD, |part| {
                let mut found = Vec::new();
                codes.scan(&query, part, |row, estimate, error| {
                    if estimate + error >= least {
                        found.push(row);
                    }
                });
                found
            })
            .concat()
        });
        let found = found.into_iter().chain(coded..self.rows.len());
        let candidates: Vec<usize> = found.filter(|&row| allowed.contains(row)).collect();
        let mut scored = self.scored(query, &candidates)?;
        scored.retain(|(_, score)| *score >= least);
        scored.sort_unstable_by(by_score);
        Ok(scored)
    }

    /// The cosines of some rows.
    fn scored(&self, query: &[f32], rows: &[usize]) -> Result<Vec<Scored>> {
        let parts = in_parts(rows.len(), ROWS_A_THREAD, |part| {
            let rows = &rows[part];
            let score = |(place, &row): (usize, &usize)| {
                if let Some(&ahead) = rows.get(place + AHEAD) {
                    self.rows.prefetch(ahead);
                }
                Ok((row, self.rows.score(row, query)?))
            };
            rows.iter().enumerate().map(score).collect()
        });
        let parts: Result<Vec<Vec<Scored>>> = parts.into_iter().collect();
        Ok(parts?.concat())
    }
}

/// Of the rows whose cosines may exceed `floor`, the `wanted` best.
fn above(
    codes: &Codes,
    query: &Query,
    allowed: &Allowed,
    wanted: usize,
    floor: f32,
) -> Vec<Candidate> {
    let parts = in_parts(codes.blocks(), BLOCKS_A_THREAD, |part| {
        let mut best = Best::new(wanted, floor);
        codes.scan(query, part, |row, estimate, error| {
            let most = estimate + error;
            if most > best.least && allowed.contains(row) {
                best.offer(row, most);
            }
        });
        best.kept
    });
    let mut best = Best::new(wanted, floor);
    best.kept = parts.concat();
    best.cut();
    best.kept
}

/// The rows of one block in `step`.
fn sample(codes: &Codes, query: &Query, allowed: &Allowed, step: usize) -> Vec<Candidate> {
    let mut sample = Vec::with_capacity(SAMPLED_BLOCKS * BLOCK);
    for block in (0..codes.blocks()).step_by(step) {
        codes.scan(query, block..block + 1, |row, estimate, error| {
            if allowed.contains(row) {
                sample.push(Candidate::new(row, estimate + error));
            }
        });
    }
    sample
}

/// What so many candidates of a sample, and as many again to half, may reach: a sample may be a little too good.
fn floor(sample: &mut [Candidate], wanted: usize) -> f32 {
    let rank = wanted + wanted / 2;
    if rank >= sample.len() {
        return f32::NEG_INFINITY;
    }
    let (_, least, _) = sample.select_nth_unstable_by(rank, |a, b| b.cmp(a));
    least.most()
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

/// A row and what its cosine is at most, as its code tells, in one number, which is larger the more that is and, of equal
/// ones, the earlier the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate(u64);

impl Candidate {
    fn new(row: usize, most: f32) -> Self {
        let bits = most.to_bits();
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

    fn most(self) -> f32 {
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
    kept: Vec<Candidate>,
    /// What a candidate must exceed to be of use.
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

    fn offer(&mut self, row: usize, most: f32) {
        self.kept.push(Candidate::new(row, most));
        if self.kept.len() == 2 * self.wanted {
            self.cut();
            self.least = self.kept[self.wanted - 1].most();
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
    fn candidates_are_ordered_with_their_rows() {
        let cosines = [-1.0, -0.5, -0.0, 0.0, 1e-9, 0.5, 0.75, 1.0];
        let mut all = Vec::new();
        for most in cosines {
            for row in [u32::MAX as usize, 70_000, 1, 0] {
                let candidate = Candidate::new(row, most);
                assert_eq!(candidate.row(), row);
                assert_eq!(candidate.most().to_bits(), most.to_bits());
                all.push(candidate);
            }
        }
        assert!(all.is_sorted());
    }
}

//! Work on many rows, shared between threads.

use std::ops::Range;

/// Runs `work` on parts of `count` rows, one for each core where each has `least` rows, and gives back what came of each,
/// in order.
///
/// Beside this thread on some that wait for work: starting them takes as long as a search of 10,000 rows.
pub(super) fn in_parts<T: Send>(
    count: usize,
    least: usize,
    work: impl Fn(Range<usize>) -> T + Sync,
) -> Vec<T> {
    let parts = (count / least).clamp(1, rayon::current_num_threads());
    let size = count.div_ceil(parts);
    let part = |number: usize| (number * size).min(count)..((number + 1) * size).min(count);
    let mut others: Vec<Option<T>> = (1..parts).map(|_| None).collect();
    let first = rayon::in_place_scope(|scope| {
        let work = &work;
        for (other, number) in others.iter_mut().zip(1..) {
            scope.spawn(move |_| *other = Some(work(part(number))));
        }
        work(part(0))
    });
    std::iter::once(first)
        .chain(others.into_iter().flatten())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_rows_in_order() {
        for count in [0, 1, 2, 3, 7, 100, 101] {
            let parts = in_parts(count, 1, |part| part.collect::<Vec<_>>());
            assert_eq!(parts.concat(), (0..count).collect::<Vec<_>>());
        }
    }
}

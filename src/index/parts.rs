//! Work on many rows, shared between threads.

use std::ops::Range;
use std::sync::OnceLock;
use std::thread;

/// Runs `work` on parts of `count` rows, one for each core where each has `least` rows, and gives back what came of each,
/// in order.
pub(super) fn in_parts<T: Send>(
    count: usize,
    least: usize,
    work: impl Fn(Range<usize>) -> T + Sync,
) -> Vec<T> {
    let parts = (count / least).clamp(1, cores());
    let size = count.div_ceil(parts);
    let part = |number: usize| (number * size).min(count)..((number + 1) * size).min(count);
    thread::scope(|scope| {
        let work = &work;
        let others: Vec<_> = (1..parts)
            .map(|number| scope.spawn(move || work(part(number))))
            .collect();
        let mut results = vec![work(part(0))];
        results.extend(others.into_iter().map(|other| match other.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }));
        results
    })
}

/// Asked once: on Linux the answer is read from several files.
fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
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

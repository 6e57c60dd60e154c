//! The inner loops of a search, each compiled three times: for what any processor can do, and for what many can.
//!
//! All compilations do the same operations in the same order, and so give the same results.

#![allow(
    unsafe_code,
    reason = "a function for a processor's instructions may be called where it has them alone"
)]

use super::coder::{FIGURES, LARGEST_SCALE, PLANES, Query};

/// An estimate for each code.
pub(super) fn estimate(query: &Query, codes: &[u8], estimates: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        if has_avx512() {
            // SAFETY: the processor has these instructions.
            return unsafe { estimate_avx512(query, codes, estimates) };
        }
        if has_avx2() {
            // SAFETY: the processor has these instructions.
            return unsafe { estimate_avx2(query, codes, estimates) };
        }
    }
    estimate_plain(query, codes, estimates);
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vpopcntdq")
        && is_x86_feature_detected!("popcnt")
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512vpopcntdq,popcnt")]
fn estimate_avx512(query: &Query, codes: &[u8], estimates: &mut [f32]) {
    estimate_plain(query, codes, estimates);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
fn estimate_avx2(query: &Query, codes: &[u8], estimates: &mut [f32]) {
    estimate_plain(query, codes, estimates);
}

/// Widths that models have are known to the compiler, so that it can keep a query in registers.
#[inline(always)]
fn estimate_plain(query: &Query, codes: &[u8], estimates: &mut [f32]) {
    match query.planes[0].len() {
        4 => estimate_words::<4>(query, codes, estimates),
        6 => estimate_words::<6>(query, codes, estimates),
        8 => estimate_words::<8>(query, codes, estimates),
        10 => estimate_words::<10>(query, codes, estimates),
        12 => estimate_words::<12>(query, codes, estimates),
        16 => estimate_words::<16>(query, codes, estimates),
        _ => estimate_any(query, codes, estimates),
    }
}

#[inline(always)]
fn estimate_words<const WORDS: usize>(query: &Query, codes: &[u8], estimates: &mut [f32]) {
    let planes: [[u64; WORDS]; PLANES] =
        std::array::from_fn(|plane| std::array::from_fn(|word| query.planes[plane][word]));
    for (code, estimate) in codes.chunks_exact(8 * WORDS + FIGURES).zip(estimates) {
        let (bytes, figures) = code.split_at(8 * WORDS);
        let bytes = bytes.as_chunks::<8>().0;
        // Word by word, and both counts in one number, so that one vector holds all counts and is summed once.
        let mut counts = [0; WORDS];
        for word in 0..WORDS {
            let bits = u64::from_le_bytes(bytes[word]);
            let mut levels = 0;
            for (plane, words) in planes.iter().enumerate() {
                levels += u64::from((bits & words[word]).count_ones()) << plane;
            }
            counts[word] = levels | u64::from(bits.count_ones()) << 32;
        }
        let counts: u64 = counts.iter().sum();
        *estimate = finish(query, figures, counts >> 32, counts & 0xffff_ffff);
    }
}

#[inline(always)]
fn estimate_any(query: &Query, codes: &[u8], estimates: &mut [f32]) {
    let words = query.planes[0].len();
    for (code, estimate) in codes.chunks_exact(8 * words + FIGURES).zip(estimates) {
        let (bits, figures) = code.split_at(8 * words);
        let (mut set, mut levels) = (0, 0);
        for (word, bytes) in bits.as_chunks::<8>().0.iter().enumerate() {
            let bits = u64::from_le_bytes(*bytes);
            set += u64::from(bits.count_ones());
            for (plane, words) in query.planes.iter().enumerate() {
                levels += u64::from((bits & words[word]).count_ones()) << plane;
            }
        }
        *estimate = finish(query, figures, set, levels);
    }
}

/// From counts to a cosine: `set` bits of the code are 1, and `levels` is the sum of the query's levels there.
#[inline(always)]
fn finish(query: &Query, figures: &[u8], set: u64, levels: u64) -> f32 {
    let scale = u16::from_le_bytes([figures[0], figures[1]]);
    let along = i16::from_le_bytes([figures[2], figures[3]]);
    let scale = f32::from(scale) * (LARGEST_SCALE / f32::from(u16::MAX));
    let along = f32::from(along) * (1.0 / f32::from(i16::MAX));
    let at_ones = query.least * set as f32 + query.step * levels as f32;
    query.along * along + scale * query.unit * (2.0 * at_ones - query.sum)
}

/// Asks for bytes that will soon be looked at, one in so many: waiting for them one after the other is what a search of
/// many rows would mostly do.
#[inline(always)]
pub(super) fn prefetch(bytes: &[u8], step: usize) {
    #[cfg(target_arch = "x86_64")]
    for byte in bytes.iter().step_by(step) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: nothing happens but that the byte comes nearer.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(byte).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, step);
}

/// The dot product of a row of 16-bit numbers, little-endian, with a query.
pub(super) fn dot_fixed(row: &[u8], query: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    {
        if has_avx512() {
            // SAFETY: the processor has these instructions.
            return unsafe { dot_fixed_avx512(row, query) };
        }
        if has_avx2() {
            // SAFETY: the processor has these instructions.
            return unsafe { dot_fixed_avx2(row, query) };
        }
    }
    dot_fixed_plain(row, query)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512vpopcntdq,popcnt")]
fn dot_fixed_avx512(row: &[u8], query: &[f32]) -> f32 {
    dot_fixed_plain(row, query)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
fn dot_fixed_avx2(row: &[u8], query: &[f32]) -> f32 {
    dot_fixed_plain(row, query)
}

/// In several sums, which the compiler can keep in vectors.
#[inline(always)]
fn dot_fixed_plain(row: &[u8], query: &[f32]) -> f32 {
    const LANES: usize = 32;
    let value = |bytes: [u8; 2]| f32::from(i16::from_le_bytes(bytes));
    let (numbers, _) = row.as_chunks::<2>();
    let (number_chunks, number_rest) = numbers.as_chunks::<LANES>();
    let (query_chunks, query_rest) = query.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (numbers, values) in number_chunks.iter().zip(query_chunks) {
        for lane in 0..LANES {
            sums[lane] += value(numbers[lane]) * values[lane];
        }
    }
    let rest = number_rest.iter().zip(query_rest);
    let rest: f32 = rest.map(|(bytes, of_query)| value(*bytes) * of_query).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A query and codes of random bits, of `words` words.
    fn random(words: usize, count: usize) -> (Query, Vec<u8>) {
        let mut state = 1u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.rotate_left(29) ^ (state >> 7)
        };
        let mut query = Query::default();
        query.planes.iter_mut().for_each(|plane| {
            plane.extend((0..words).map(|_| next()));
        });
        let codes = (0..count * (8 * words + FIGURES)).map(|_| next() as u8);
        (query, codes.collect())
    }

    /// By the formula, bit by bit.
    fn by_bits(query: &Query, code: &[u8]) -> f32 {
        let words = query.planes[0].len();
        let mut sum = 0.0;
        for place in 0..64 * words {
            let bit = |bytes: u64| bytes >> (place % 64) & 1;
            let level: u64 = query
                .planes
                .iter()
                .enumerate()
                .map(|(plane, words)| bit(words[place / 64]) << plane)
                .sum();
            let value = f64::from(query.least) + f64::from(query.step) * level as f64;
            let is_set = code[place / 8] >> (place % 8) & 1 == 1;
            sum += if is_set { value } else { -value };
        }
        let figures = &code[8 * words..];
        let scale = f64::from(u16::from_le_bytes([figures[0], figures[1]])) / 65535.0 * 4.0;
        let along = f64::from(i16::from_le_bytes([figures[2], figures[3]])) / 32767.0;
        (f64::from(query.along) * along + scale * sum * f64::from(query.unit)) as f32
    }

    #[test]
    fn every_compilation_gives_what_the_formula_says() {
        for words in [1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 16, 20] {
            let (mut query, codes) = random(words, 37);
            let levels: u32 = query
                .planes
                .iter()
                .enumerate()
                .map(|(plane, words)| {
                    words.iter().map(|word| word.count_ones()).sum::<u32>() << plane
                })
                .sum();
            query.unit = (64.0 * words as f32).sqrt().recip();
            (query.along, query.least, query.step) = (0.6, -0.15, 0.02);
            query.sum = query.least * 64.0 * words as f32 + query.step * levels as f32;
            let mut plain = [0.0; 37];
            estimate_plain(&query, &codes, &mut plain);
            for (code, estimate) in codes.chunks(8 * words + FIGURES).zip(plain) {
                let expected = by_bits(&query, code);
                assert!(
                    (estimate - expected).abs() < 1e-3,
                    "{words} words: {estimate} {expected}"
                );
            }
            let mut found = [0.0; 37];
            estimate(&query, &codes, &mut found);
            assert_eq!(found, plain, "{words} words, fastest");
            #[cfg(target_arch = "x86_64")]
            if has_avx2() {
                // SAFETY: the processor has these instructions.
                unsafe { estimate_avx2(&query, &codes, &mut found) };
                assert_eq!(found, plain, "{words} words, AVX2");
            }
        }
    }

    #[test]
    fn every_compilation_of_the_dot_product_is_the_same() {
        for width in [1, 31, 32, 100, 512, 1000] {
            let values: Vec<f32> = (0..width)
                .map(|place| (place * 37 % 101) as f32 / 101.0 - 0.4)
                .collect();
            let numbers = (0..width).map(|place| (place * 7919 % 65536 - 32768) as i16);
            let row: Vec<u8> = numbers.clone().flat_map(i16::to_le_bytes).collect();
            let expected: f64 = numbers
                .zip(&values)
                .map(|(number, value)| f64::from(number) * f64::from(*value))
                .sum();
            let plain = dot_fixed_plain(&row, &values);
            assert!(
                (f64::from(plain) - expected).abs() < 0.05 * f64::from(width),
                "{width}"
            );
            assert_eq!(dot_fixed(&row, &values), plain);
            #[cfg(target_arch = "x86_64")]
            if has_avx2() {
                // SAFETY: the processor has these instructions.
                assert_eq!(unsafe { dot_fixed_avx2(&row, &values) }, plain);
            }
        }
    }
}

//! The inner loops of a search, each twice: for any processor, and for AVX2. Both give the same results, bit for bit.

#![allow(
    unsafe_code,
    reason = "a function for a processor's instructions may be called where it has them alone"
)]

use super::coder::{BLOCK, Figures, LARGEST_SCALE, Query, ROUNDING};

/// What codes tell of the cosines of the rows of a block.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Estimates {
    pub(super) cosines: [f32; BLOCK],
    /// By how much each is wrong at most, but for one in ten thousand.
    pub(super) errors: [f32; BLOCK],
}

/// Rows whose levels an AVX2 register holds as bytes.
#[cfg(target_arch = "x86_64")]
const HALF: usize = BLOCK / 2;
/// Up to so many tables, the sum of all levels of a row has 16 bits.
#[cfg(target_arch = "x86_64")]
const TABLES_OF_16_BITS: usize = u16::MAX as usize / super::coder::LARGEST_ENTRY as usize;

/// Estimates for a block of codes: its columns, and its figures.
pub(super) fn estimate(query: &Query, columns: &[u8], figures: &Figures) -> Estimates {
    #[cfg(target_arch = "x86_64")]
    {
        if has_avx2() && query.tables.len() <= TABLES_OF_16_BITS {
            // SAFETY: the processor has these instructions.
            return unsafe { estimate_avx2(query, columns, figures) };
        }
    }
    finish(query, &levels_plain(&query.tables, columns), figures)
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn estimate_avx2(query: &Query, columns: &[u8], figures: &Figures) -> Estimates {
    finish(query, &levels_avx2(&query.tables, columns), figures)
}

/// For each row of a block, the sum of the query's levels where its code has ones.
///
/// Each half byte of a code is the number of an entry in a table of its own.
fn levels_plain(tables: &[[u8; 16]], columns: &[u8]) -> [u32; BLOCK] {
    let mut levels = [0; BLOCK];
    for ([low, high], column) in tables
        .as_chunks::<2>()
        .0
        .iter()
        .zip(columns.as_chunks::<BLOCK>().0)
    {
        for (level, byte) in levels.iter_mut().zip(column) {
            *level += u32::from(low[usize::from(byte & 15)]);
            *level += u32::from(high[usize::from(byte >> 4)]);
        }
    }
    levels
}

/// Looks up 32 entries at once. Four of them have a sum that fits a byte; sums of those are kept in 16 bits, of even and of
/// odd rows apart.
///
/// Source: André, Kermarrec, Le Scouarnec 2015 ("Cache locality is not enough"), in the layout of FAISS's fast scan.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn levels_avx2(tables: &[[u8; 16]], columns: &[u8]) -> [u32; BLOCK] {
    use std::arch::x86_64::{
        __m256i, _mm_loadu_si128, _mm256_add_epi8, _mm256_add_epi16, _mm256_and_si256,
        _mm256_broadcastsi128_si256, _mm256_loadu_si256, _mm256_set1_epi8, _mm256_set1_epi16,
        _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16, _mm256_storeu_si256,
    };
    let (low, even_rows) = (_mm256_set1_epi8(15), _mm256_set1_epi16(255));
    let mut even = [_mm256_setzero_si256(); 2];
    let mut odd = [_mm256_setzero_si256(); 2];
    let tables = tables.as_chunks::<4>().0.iter();
    for (tables, columns) in tables.zip(columns.as_chunks::<{ 2 * BLOCK }>().0) {
        let mut entries = [_mm256_setzero_si256(); 4];
        for (entries, table) in entries.iter_mut().zip(tables) {
            // SAFETY: a table has 16 bytes.
            *entries =
                _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(table.as_ptr().cast()) });
        }
        for half in 0..2 {
            let mut sums = _mm256_setzero_si256();
            for column in 0..2 {
                let codes = &columns[BLOCK * column + HALF * half..][..HALF];
                // SAFETY: half a column has 32 bytes.
                let codes: __m256i = unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) };
                let front = _mm256_and_si256(codes, low);
                let back = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low);
                let front = _mm256_shuffle_epi8(entries[2 * column], front);
                let back = _mm256_shuffle_epi8(entries[2 * column + 1], back);
                sums = _mm256_add_epi8(sums, _mm256_add_epi8(front, back));
            }
            even[half] = _mm256_add_epi16(even[half], _mm256_and_si256(sums, even_rows));
            odd[half] = _mm256_add_epi16(odd[half], _mm256_srli_epi16::<8>(sums));
        }
    }
    let mut levels = [0; BLOCK];
    for (half, (even, odd)) in levels
        .as_chunks_mut::<HALF>()
        .0
        .iter_mut()
        .zip(even.into_iter().zip(odd))
    {
        let mut sums = [[0u16; HALF / 2]; 2];
        for (sums, vector) in sums.iter_mut().zip([even, odd]) {
            // SAFETY: it has room for 16 sums.
            unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), vector) };
        }
        let [even, odd] = sums;
        for (pair, (even, odd)) in half
            .as_chunks_mut::<2>()
            .0
            .iter_mut()
            .zip(even.into_iter().zip(odd))
        {
            *pair = [u32::from(even), u32::from(odd)];
        }
    }
    levels
}

/// From levels to cosines.
#[inline(always)]
fn finish(query: &Query, levels: &[u32; BLOCK], [scales, alongs, ones]: &Figures) -> Estimates {
    let mut cosines = [0.0; BLOCK];
    let mut errors = [0.0; BLOCK];
    for row in 0..BLOCK {
        let scale = f32::from(u16::from_le_bytes(scales[row]));
        let along = f32::from(i16::from_le_bytes(alongs[row]));
        let scale = scale * (LARGEST_SCALE / f32::from(u16::MAX));
        let along = along * (1.0 / f32::from(i16::MAX));
        let ones = f32::from(u16::from_le_bytes(ones[row]));
        let at_ones = query.least * ones + query.step * levels[row] as f32;
        cosines[row] = query.along * along + scale * query.unit * (2.0 * at_ones - query.sum);
        let squared = scale * scale;
        let beside = (squared - (1.0 - along * along)).max(0.0);
        errors[row] = (query.of_bits * beside + query.of_levels * squared).sqrt() + ROUNDING;
    }
    Estimates { cosines, errors }
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
pub(super) fn dot_numbers(row: &[u8], query: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    {
        if has_avx2() {
            // SAFETY: the processor has these instructions.
            return unsafe { dot_numbers_avx2(row, query) };
        }
    }
    dot_numbers_plain(row, query)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn dot_numbers_avx2(row: &[u8], query: &[f32]) -> f32 {
    dot_numbers_plain(row, query)
}

/// In several sums, which the compiler can keep in vectors.
#[inline(always)]
fn dot_numbers_plain(row: &[u8], query: &[f32]) -> f32 {
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
    use super::super::coder::LARGEST_ENTRY;
    use super::*;

    /// Bytes that look random.
    fn random() -> impl FnMut() -> u8 {
        let mut state = 1u64;
        move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        }
    }

    /// By the formula, half byte by half byte.
    fn by_halves(query: &Query, columns: &[u8], figures: &Figures, row: usize) -> f64 {
        let code = columns.chunks(BLOCK).map(|column| column[row]);
        let halves = code.flat_map(|byte| [byte & 15, byte >> 4]);
        let levels: u64 = halves
            .zip(&query.tables)
            .map(|(half, table)| u64::from(table[usize::from(half)]))
            .sum();
        let ones = f64::from(u16::from_le_bytes(figures[2][row]));
        let sum = f64::from(query.least) * ones + f64::from(query.step) * levels as f64;
        let scale = f64::from(u16::from_le_bytes(figures[0][row])) / 65535.0 * 4.0;
        let along = f64::from(i16::from_le_bytes(figures[1][row])) / 32767.0;
        f64::from(query.along) * along
            + scale * f64::from(query.unit) * (2.0 * sum - f64::from(query.sum))
    }

    #[test]
    fn estimates_are_what_the_formula_says_on_any_processor() {
        for words in [1, 2, 3, 6, 8, 10, 12, 16, 68, 80] {
            let mut next = random();
            let table = |_| std::array::from_fn(|_| next() % (LARGEST_ENTRY + 1));
            let query = Query {
                tables: (0..16 * words).map(table).collect(),
                along: 0.6,
                least: -0.15,
                step: 0.02,
                sum: -0.4,
                unit: (64.0 * words as f32).sqrt().recip(),
                ..Query::default()
            };
            let columns: Vec<u8> = (0..8 * words * BLOCK).map(|_| next()).collect();
            let mut pairs = |_| std::array::from_fn(|_| [next(), next()]);
            let figures: Figures = std::array::from_fn(&mut pairs);
            let plain = finish(&query, &levels_plain(&query.tables, &columns), &figures);
            for (row, estimate) in plain.cosines.into_iter().enumerate() {
                let expected = by_halves(&query, &columns, &figures, row);
                let difference = (f64::from(estimate) - expected).abs();
                assert!(
                    difference < 1e-5 * expected.abs().max(1000.0),
                    "{words} words, row {row}: {estimate} {expected}"
                );
            }
            assert_eq!(estimate(&query, &columns, &figures), plain, "{words} words");
        }
    }

    #[test]
    fn the_dot_product_is_the_same_on_any_processor() {
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
            let plain = dot_numbers_plain(&row, &values);
            assert!(
                (f64::from(plain) - expected).abs() < 0.05 * f64::from(width),
                "{width}"
            );
            assert_eq!(dot_numbers(&row, &values), plain);
        }
    }
}

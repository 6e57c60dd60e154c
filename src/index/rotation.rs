//! A fixed random rotation, after which every coordinate says about as much as any other.
//!
//! Random signs and Hadamard transforms in turn: D log D additions in place of a D × D matrix. Widths that are no power
//! of two are covered by two overlapping transforms, at the front and at the back in turn.

/// The rotation of rows of one width, padded with zeros to a multiple of 64.
#[derive(Debug, Clone)]
pub(super) struct Rotation {
    width: usize,
    /// The width of a transform: the largest power of two that fits.
    span: usize,
    /// For each round a sign, 1 or −1, for each coordinate.
    signs: [Vec<f32>; ROUNDS],
}

/// With four rounds, every coordinate of a width like 384 has met every other.
const ROUNDS: usize = 4;
/// Part of the format of codes: another seed makes other codes.
const SEED: u64 = 0x6469_7074_7963_6821;

impl Rotation {
    pub(super) fn new(width: usize) -> Self {
        let width = padded(width);
        let mut state = SEED;
        let mut sign = || {
            if split_mix(&mut state) >> 63 == 0 {
                1.0
            } else {
                -1.0
            }
        };
        Self {
            width,
            span: 1 << width.ilog2(),
            signs: [(); ROUNDS].map(|()| (0..width).map(|_| sign()).collect()),
        }
    }

    /// The width of rotated rows.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Rotates `values`, which are as wide as [`Rotation::width`]: their lengths and angles stay.
    pub(super) fn apply(&self, values: &mut [f32]) {
        let scale = (self.span as f32).sqrt().recip();
        for (round, signs) in self.signs.iter().enumerate() {
            values
                .iter_mut()
                .zip(signs)
                .for_each(|(value, sign)| *value *= sign);
            let start = if round % 2 == 0 {
                0
            } else {
                self.width - self.span
            };
            let part = &mut values[start..start + self.span];
            hadamard(part);
            part.iter_mut().for_each(|value| *value *= scale);
        }
    }
}

/// Coordinates come in words of 64 bits.
pub(super) fn padded(width: usize) -> usize {
    width.next_multiple_of(64)
}

/// The Walsh–Hadamard transform, not scaled, of a multiple of 16 values.
fn hadamard(values: &mut [f32]) {
    // Steps shorter than a vector are only fast where their length is known.
    for block in values.as_chunks_mut::<16>().0 {
        step(block, 1);
        step(block, 2);
        step(block, 4);
        step(block, 8);
    }
    let mut half = 16;
    while half < values.len() {
        step(values, half);
        half *= 2;
    }
}

/// Sums and differences of values that lie `half` apart.
#[inline(always)]
fn step(values: &mut [f32], half: usize) {
    for pair in values.chunks_exact_mut(2 * half) {
        let (front, back) = pair.split_at_mut(half);
        for (a, b) in front.iter_mut().zip(back) {
            (*a, *b) = (*a + *b, *a - *b);
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014).
pub(super) fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::rows::dot;
    use super::*;

    #[test]
    fn lengths_and_angles_stay() {
        for width in [1, 63, 64, 100, 384, 512, 640, 768] {
            let rotation = Rotation::new(width);
            let row = |seed: usize| -> Vec<f32> {
                let mut row: Vec<f32> = (0..width)
                    .map(|i| ((i * 7 + seed * 13) % 11) as f32 - 5.0)
                    .collect();
                row.resize(rotation.width(), 0.0);
                row
            };
            let (mut a, mut b) = (row(1), row(2));
            let before = [dot(&a, &a), dot(&a, &b)];
            rotation.apply(&mut a);
            rotation.apply(&mut b);
            for (before, after) in before.iter().zip([dot(&a, &a), dot(&a, &b)]) {
                assert!(
                    (before - after).abs() <= 1e-4 * before.abs().max(1.0),
                    "{width}: {before} {after}"
                );
            }
        }
    }

    #[test]
    fn one_coordinate_spreads_over_all() {
        for width in [64, 384, 512, 768] {
            let rotation = Rotation::new(width);
            for place in [0, width / 2, width - 1] {
                let mut row = vec![0.0; width];
                row[place] = 1.0;
                rotation.apply(&mut row);
                let largest = row
                    .iter()
                    .fold(0f32, |largest, value| largest.max(value.abs()));
                assert!(largest < 0.35, "{width}, {place}: {largest}");
            }
        }
    }
}

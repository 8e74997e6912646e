//! Fixed-base tables: multiples of the 256 Lagrange points, so that `delta · L_slot` is a few dozen additions and no
//! doubling.
//!
//! With windows of `w` bits a signed integer below `2^248` in magnitude has the digits `d_k` in `[−2^(w−1), 2^(w−1)]`,
//! `delta = Σ_k d_k · 2^(wk)`, and the table holds `m · 2^(wk) · L_i` for `m` in `1..=2^(w−1)`. Memory:
//! `256 · windows · 2^(w−1)` points of 104 bytes: 13 MB at 4 bits, 109 MB at 8.

use super::{Point, Sum};
use crate::key::SlotScalar;
use crate::parallel;

/// Bits of a slot scalar's magnitude (spec §1).
const SCALAR_BITS: usize = 248;

/// Multiples of each base.
pub struct Table {
    window_bits: usize,
    /// `multiples[((slot · windows) + k) << (w−1) | (m − 1)] = m · 2^(wk) · base_slot`.
    multiples: Vec<Point>,
}

impl Table {
    /// Tables of `bases` (256 of them in use) with windows of `window_bits` bits (2 to 12).
    pub fn new(bases: &[Point], window_bits: u8) -> Self {
        let window_bits = window_bits as usize;
        let rows = parallel::map(bases, |base| row(base, window_bits));
        Self { window_bits, multiples: rows.concat() }
    }

    /// Bytes that the table takes.
    pub fn bytes(&self) -> usize {
        size_of_val(self.multiples.as_slice())
    }

    /// `sum += (new − old) · base_slot`. Complete: what the sum meets on its way may be equal, opposite or infinity.
    pub fn accumulate(&self, sum: &mut Sum, slot: u8, new: &SlotScalar, old: &SlotScalar) {
        let (negative, magnitude) = SlotScalar::difference(new, old);
        let half = 1 << (self.window_bits - 1);
        let first = slot as usize * windows(self.window_bits) * half;
        let mut carry = 0;
        for k in 0..windows(self.window_bits) {
            // d = next window + carry; above half it becomes d − 2^w and carries one up.
            let digit = bits(&magnitude, k * self.window_bits, self.window_bits) + carry;
            let borrowed = digit > half;
            carry = borrowed as usize;
            let size = if borrowed { 2 * half - digit } else { digit };
            if size != 0 {
                let multiple = self.multiples[first + k * half + size - 1];
                *sum += if borrowed != negative { -multiple } else { multiple };
            }
        }
        debug_assert_eq!(carry, 0, "the top window has room for the carry");
    }
}

/// Windows that hold 248 bits and the last carry.
fn windows(window_bits: usize) -> usize {
    SCALAR_BITS / window_bits + 1
}

/// `width` bits of a little-endian integer from bit `start` on; zeros above its end.
fn bits(limbs: &[u64; 4], start: usize, width: usize) -> usize {
    let (limb, shift) = (start / 64, start % 64);
    let low = limbs.get(limb).map_or(0, |limb| limb >> shift);
    let high = if shift == 0 { 0 } else { limbs.get(limb + 1).map_or(0, |limb| limb << (64 - shift)) };
    ((low | high) & ((1 << width) - 1)) as usize
}

/// One base's multiples, all windows, brought to affine form together.
fn row(base: &Point, window_bits: usize) -> Vec<Point> {
    let half = 1usize << (window_bits - 1);
    let mut sums = Vec::with_capacity(windows(window_bits) * half);
    let mut shifted = *base;
    for _ in 0..windows(window_bits) {
        let mut multiple = Sum::ZERO;
        for _ in 0..half {
            multiple += shifted;
            sums.push(multiple);
        }
        // The last multiple is 2^(w−1) times the base; its double starts the next window.
        shifted = multiple.double().to_point();
    }
    Sum::to_points(&sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::{Scalar, msm};
    use crate::setup;

    #[test]
    fn every_window_width_agrees_with_plain_multiplication() {
        let bases = &setup::lagrange()[..2];
        let scalars: Vec<SlotScalar> =
            (0..6u8).map(|i| SlotScalar::node(&crate::curve::PointBytes([i; 48]))).chain([SlotScalar::EMPTY]).collect();
        for window_bits in [2, 3, 4, 5, 7, 8] {
            let table = Table::new(bases, window_bits);
            for (new, old) in scalars.iter().flat_map(|new| scalars.iter().map(move |old| (new, old))) {
                let mut sum = Sum::ZERO;
                table.accumulate(&mut sum, 1, new, old);
                let naive = msm(&bases[1..], &[Scalar::from(new) - Scalar::from(old)]);
                assert_eq!(sum.to_point(), naive, "window {window_bits}, {new:?} - {old:?}");
            }
        }
    }
}

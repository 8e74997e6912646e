//! Fixed-base tables: multiples of the 256 Lagrange points, so that `delta · L_slot` is a few dozen additions and no
//! doubling.
//!
//! With windows of `w` bits a signed integer has the digits `d_k` in `[−2^(w−1), 2^(w−1)]`, `delta = Σ_k d_k · 2^(wk)`,
//! and the table holds `m · 2^(wk) · L_i` for `m` in `1..=2^(w−1)`: `256 · windows · 2^(w−1)` points. Differences of slots
//! are below `2^248` in magnitude; windows reach to `2^254`, so that proofs, whose scalars fill the field, use the same
//! table, and a round in which nobody has a digit is left out. A point takes 96 bytes for the scalar kernel and 128 for the vector kernel, whose limbs have 52 bits:
//!
//! | window | windows | additions a delta | scalar | vector |
//! |---|---|---|---|---|
//! | 4 bits | 64 | ≤ 63 | 13 MB | 17 MB |
//! | 8 bits | 32 | ≤ 32 | 101 MB | 134 MB |
//! | 10 bits | 26 | ≤ 25 | 327 MB | 436 MB |
//! | 12 bits | 22 | ≤ 21 | 1.1 GB | 1.5 GB |

use super::ark::{Base, Point, Scalar};
use super::batch::{Affine, Kernel, add_in_place};
use crate::key::SlotScalar;
use crate::parallel;

/// Bits of the magnitude of a scalar of the field, taken nearest to zero.
const SCALAR_BITS: usize = 254;

/// A signed multiple of one base: `(new − old) · base_slot`.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    slot: u8,
    negative: bool,
    magnitude: [u64; 4],
}

impl Term {
    /// What a slot adds to its node's commitment when it goes from `old` to `new`.
    pub fn new(slot: u8, old: &SlotScalar, new: &SlotScalar) -> Self {
        let (negative, magnitude) = SlotScalar::difference(new, old);
        Self { slot, negative, magnitude }
    }

    pub(super) fn slot(&self) -> u8 {
        self.slot
    }

    #[cfg(target_arch = "x86_64")]
    pub(super) fn is_negative(&self) -> bool {
        self.negative
    }

    /// The magnitude in little-endian limbs.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn magnitude(&self) -> &[u64; 4] {
        &self.magnitude
    }

    /// `scalar · base_slot`.
    pub fn of_scalar(slot: u8, scalar: &Scalar) -> Self {
        let (negative, magnitude) = scalar.signed_limbs();
        Self { slot, negative, magnitude }
    }
}

/// Multiples of each base, in the form of one kernel.
pub struct Table {
    window_bits: usize,
    entries: Entries,
}

/// `[((slot · windows) + k) << (w−1) | (m − 1)] = m · 2^(wk) · base_slot`.
enum Entries {
    Scalar(Vec<Affine>),
    #[cfg(target_arch = "x86_64")]
    Ifma(Vec<super::ifma::Entry>),
}

/// Where a term's multiple of one window stands: the entry and whether it is to be negated; `None` for the digit zero.
type Digit = Option<(u32, bool)>;

impl Table {
    /// Tables of `bases` (256 of them in use) with windows of `window_bits` bits (2 to 12), for a kernel that this
    /// machine has.
    pub fn new(bases: &[Point], window_bits: u8, kernel: Kernel) -> Self {
        let window_bits = window_bits as usize;
        let length = windows(window_bits) << (window_bits - 1);
        let entries = match kernel {
            Kernel::Scalar => Entries::Scalar(rows(bases, length, |base, room| row(base, window_bits, room))),
            #[cfg(target_arch = "x86_64")]
            Kernel::Ifma => Entries::Ifma(rows(bases, length, |base, room| super::ifma::row(base, window_bits, room))),
        };
        Self { window_bits, entries }
    }

    /// Bytes that the table takes.
    pub fn bytes(&self) -> usize {
        match &self.entries {
            Entries::Scalar(entries) => size_of_val(entries.as_slice()),
            #[cfg(target_arch = "x86_64")]
            Entries::Ifma(entries) => size_of_val(entries.as_slice()),
        }
    }

    /// For each group of terms the base point and the sum of the terms: `base + Σ terms`. Groups are independent.
    pub fn sums(&self, groups: &[(Point, &[Term])]) -> Vec<Point> {
        match &self.entries {
            Entries::Scalar(entries) => super::batch::sums(self, entries, groups),
            #[cfg(target_arch = "x86_64")]
            Entries::Ifma(entries) => super::ifma::sums(self, entries, groups),
        }
    }

    /// The entries of a table for the vector kernel.
    #[cfg(all(test, target_arch = "x86_64"))]
    pub(super) fn vector_entries(&self) -> &[super::ifma::Entry] {
        match &self.entries {
            Entries::Ifma(entries) => entries,
            Entries::Scalar(_) => panic!("a table for the scalar kernel"),
        }
    }

    /// See [`crate::Committer::bare_additions`].
    pub(crate) fn bare_additions(&self, additions: usize, cold: bool) -> u64 {
        match &self.entries {
            Entries::Scalar(entries) => super::batch::bare_additions(entries, additions, cold),
            #[cfg(target_arch = "x86_64")]
            Entries::Ifma(entries) => super::ifma::bare_additions(entries, additions, cold),
        }
    }

    /// Bits of a window.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn window_bits(&self) -> usize {
        self.window_bits
    }

    /// Windows of a term.
    pub(super) fn windows(&self) -> usize {
        windows(self.window_bits)
    }

    /// The digits of a term, window by window from the lowest, handed to `each`.
    ///
    /// The partial sums `S_k = Σ_{j<k} d_j · 2^(wj)` of a term are either zero, when all its digits so far are, or not
    /// zero and below `2^(wk)` in magnitude, where the next multiple is at least `2^(wk)`. So a partial sum never meets
    /// the next multiple or its negative: no exceptional addition within a term. (As integers; modulo `r` neither, since
    /// sum and difference of the two are below `r` in magnitude.)
    pub(super) fn digits(&self, term: &Term, mut each: impl FnMut(usize, Digit)) {
        let half = 1usize << (self.window_bits - 1);
        let windows = self.windows();
        let first = term.slot as usize * windows * half;
        let mut carry = 0;
        for k in 0..windows {
            // d = next window + carry; above half it becomes d − 2^w and carries one up.
            let digit = bits(&term.magnitude, k * self.window_bits, self.window_bits) + carry;
            let borrowed = digit > half;
            carry = borrowed as usize;
            let size = if borrowed { 2 * half - digit } else { digit };
            let entry = (first + k * half + size).wrapping_sub(1) as u32;
            each(k, (size != 0).then_some((entry, borrowed != term.negative)));
        }
        debug_assert_eq!(carry, 0, "the top window has room for the carry");
    }
}

/// Asks the processor for both cache lines of an entry that will be read later.
#[inline]
#[allow(unsafe_code)]
pub(super) fn prefetch<T>(entry: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let first: *const i8 = std::ptr::from_ref(entry).cast();
        let last = first.wrapping_add(size_of::<T>().saturating_sub(1));
        // SAFETY: a prefetch reads nothing and cannot fail.
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(first);
            _mm_prefetch::<_MM_HINT_T1>(last);
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = entry;
}

/// The bases' rows of `length` entries, one after the other in one piece of memory, in huge pages where the system gives
/// them: entries are read at random, and with small pages nearly each of them would be looked up in the page table first.
/// A thread has one room to work in, at whose end the row is found: memory is slow to be had.
#[allow(unsafe_code)]
fn rows<T: Copy + Send + Sync, R: Default>(
    bases: &[Point],
    length: usize,
    row: impl for<'a> Fn(&Point, &'a mut R) -> &'a [T] + Sync + Send,
) -> Vec<T> {
    let mut entries: Vec<T> = Vec::with_capacity(length * bases.len());
    advise_huge_pages(entries.spare_capacity_mut());
    let room = &mut entries.spare_capacity_mut()[..length * bases.len()];
    parallel::fill(room, length, |index, part, room: &mut R| {
        let row = row(&bases[index], room);
        assert_eq!(row.len(), part.len(), "every row is of this length");
        for (place, entry) in part.iter_mut().zip(row) {
            place.write(*entry);
        }
    });
    // SAFETY: every entry of every part has been written.
    unsafe { entries.set_len(length * bases.len()) };
    entries
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn advise_huge_pages<T>(room: &mut [std::mem::MaybeUninit<T>]) {
    const HUGE_PAGE: usize = 2 << 20;
    let bytes = room.as_mut_ptr_range();
    let start = (bytes.start as usize).next_multiple_of(HUGE_PAGE);
    let end = bytes.end as usize / HUGE_PAGE * HUGE_PAGE;
    if start < end {
        // SAFETY: the range lies within memory that is ours, and the advice changes no content. Whether it is taken is
        // the system's to say, so that the answer does not matter.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn advise_huge_pages<T>(_room: &mut [std::mem::MaybeUninit<T>]) {}

/// Windows that hold 254 bits and the last carry.
pub(super) fn windows(window_bits: usize) -> usize {
    SCALAR_BITS / window_bits + 1
}

/// `width` bits of a little-endian integer from bit `start` on; zeros above its end.
#[inline]
fn bits(limbs: &[u64; 4], start: usize, width: usize) -> usize {
    let (limb, shift) = (start / 64, start % 64);
    let low = limbs.get(limb).map_or(0, |limb| limb >> shift);
    let high = if shift == 0 { 0 } else { limbs.get(limb + 1).map_or(0, |limb| limb << (64 - shift)) };
    ((low | high) & ((1 << width) - 1)) as usize
}

/// Where a row is made.
#[derive(Default)]
struct Room {
    entries: Vec<Affine>,
    left: Vec<Affine>,
    right: Vec<Affine>,
    inverses: Vec<Base>,
}

/// One base's multiples, window after window. `m + i` times the window's base for `i` in `1..=m` are the first `m`
/// multiples plus the `m`-th: each doubling of the count is one batch of additions, over all windows together.
fn row<'a>(base: &Point, window_bits: usize, room: &'a mut Room) -> &'a [Affine] {
    let Room { entries, left, right, inverses } = room;
    let half = 1usize << (window_bits - 1);
    let windows = windows(window_bits);
    let mut shifted = Vec::with_capacity(windows);
    let mut sum = super::Sum::from(*base);
    for _ in 0..windows {
        shifted.push(sum);
        for _ in 0..window_bits {
            sum = sum.double();
        }
    }
    entries.clear();
    entries.resize(windows * half, Affine::INFINITY);
    for (k, point) in super::Sum::to_points(&shifted).iter().enumerate() {
        entries[k * half] = Affine::from(point);
    }
    let mut count = 1;
    while count < half {
        left.clear();
        right.clear();
        for window in entries.chunks_exact(half) {
            left.extend_from_slice(&window[..count]);
            right.extend(std::iter::repeat_n(window[count - 1], count));
        }
        add_in_place(left, right, inverses);
        for (window, sums) in entries.chunks_exact_mut(half).zip(left.chunks_exact(count)) {
            window[count..2 * count].copy_from_slice(sums);
        }
        count *= 2;
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::{Scalar, Sum};
    use crate::setup;

    #[test]
    fn digits_reach_every_edge() {
        // 1, all ones, a window of exactly half, one above half, carries through every window, the highest bit alone.
        let magnitudes = [
            [1, 0, 0, 0],
            [u64::MAX; 4],
            [0x80, 0, 0, 0],
            [0x81, 0, 0, 0],
            [0x8080_8080_8080_8080; 4],
            [0x7f7f_7f7f_7f7f_7f7f; 4],
            [0x2020_0802_0080_2008; 4],
            [0, 0, 0, 1 << 55],
        ];
        let bases = &setup::lagrange()[..4];
        for kernel in Kernel::available() {
            for window_bits in [2, 4, 8, 10] {
                let table = Table::new(bases, window_bits, kernel);
                for (mut magnitude, bits) in magnitudes.into_iter().flat_map(|m| [(m, 248), (m, 253)]) {
                    magnitude[3] &= (1 << (bits - 192)) - 1;
                    let scalar = magnitude.iter().rev().fold(Scalar::ZERO, |sum, limb| {
                        sum * Scalar::from_u128(1 << 64) + Scalar::from_u128(*limb as u128)
                    });
                    let product = Sum::of_product(&bases[3], &scalar).to_point();
                    // Alone, and among so many that the rounds are gone through.
                    for (negative, count) in [(false, 1), (true, 1), (false, 400), (true, 400)] {
                        let term = [Term { slot: 3, negative, magnitude }];
                        let sums = table.sums(&vec![(Point::INFINITY, &term[..]); count]);
                        let expected = if negative { -product } else { product };
                        assert_eq!(sums, vec![expected; count], "{magnitude:x?}, {window_bits} bits, {kernel:?}");
                    }
                }
            }
        }
    }
}

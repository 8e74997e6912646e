//! Each term's sum of table multiples, window by window, eight terms a vector and all vectors together.
//!
//! A round adds one multiple to each term. It goes over the vectors twice: forwards it makes the running product of the
//! differences `x2 − x1`, backwards it takes the inverse of that product apart again and adds. Vectors go in pairs, two
//! interleaved multiplications at a time, so that there are two running products; one inversion serves both.
//!
//! Bounds of coordinates, in multiples of `p`, at the start of round `k` (from 0): `x < 2 + 4k`, `y < 2 + 2k` (a table
//! entry is below 2). With at most 128 windows every product's operands stay far below the multiplier's `2^34 · p^2`; the
//! last step brings both below 2.
//!
//! Memory: [`Vector`], 2 KiB for eight terms, and [`Digits`], 36 bytes for eight terms and a window.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::cell::RefCell;

use super::field::{LANES, Lanes, Packed, add, blend, invert, mul2, multiple_of_p, one, products, sub, sub_both, zero};
use super::point::{Entry, load_x, load_y, store};
use crate::curve::table::{Table, Term, prefetch};

/// Where the multiples of eight terms stand in the table, for one window.
#[derive(Clone, Copy, Default)]
pub(super) struct Digits {
    /// Any place where there is no digit.
    pub(super) at: [u32; LANES],
    /// Lanes with a digit other than zero.
    pub(super) some: u8,
    /// Lanes whose multiple is to be negated.
    pub(super) negate: u8,
}

/// Eight terms on their way through the rounds.
#[repr(align(64))]
struct Vector {
    x: Lanes,
    y: Lanes,
    /// `x2 − x1`, one in lanes that add nothing.
    dx: Lanes,
    /// The product of the differences before this one in its running product.
    prefix: Lanes,
    /// Lanes that add something in this round.
    adds: u8,
    /// Lanes that have met a digit other than zero.
    started: u8,
}

/// Room to work in, kept by each thread: half a megabyte that the system need not clear for every chunk.
#[derive(Default)]
struct Room {
    digits: Vec<Digits>,
    vectors: Vec<Vector>,
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

/// The sum of each term's multiples, below `2p`; infinity for a term of zero.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn term_sums(table: &Table, entries: &[Entry], terms: &[Term]) -> Vec<Entry> {
    // Vectors come in pairs; the last ones may have idle lanes.
    let count = terms.len().div_ceil(2 * LANES) * 2;
    let mut room = ROOM.take();
    let Room { digits, vectors } = &mut room;
    digits.clear();
    digits.resize(table.windows() * count, Digits::default());
    for (vector, eight) in terms.chunks(LANES).enumerate() {
        recode(table, eight, |k, eight| digits[k * count + vector] = eight);
    }
    let (zero, one) = (zero(), one());
    if vectors.len() < count {
        vectors.resize_with(count, || Vector { x: zero, y: zero, dx: one, prefix: one, adds: 0, started: 0 });
    }
    let vectors = &mut vectors[..count];
    vectors.iter_mut().for_each(|vector| vector.started = 0);
    let mut rounds = digits.chunks_exact(count).enumerate().filter(|(_, round)| round.iter().any(|d| d.some != 0));
    let mut next = rounds.next();
    if let Some((_, digits)) = next {
        digits.iter().flat_map(|digits| digits.at).for_each(|at| prefetch(&entries[at as usize]));
    }
    while let Some((k, digits)) = next {
        next = rounds.next();
        round(entries, vectors, k as u64, digits, next.map_or(&[], |(_, digits)| digits));
    }
    let mut sums = Vec::with_capacity(count * LANES);
    for vector in vectors {
        let (x, y) = (blend(vector.started, &zero, &vector.x), blend(vector.started, &zero, &vector.y));
        let [x, y] = mul2([&x, &y], [&one, &one]);
        sums.extend(store(&x, &y));
    }
    sums.truncate(terms.len());
    ROOM.set(room);
    sums
}

/// Adds the multiples of window `k` and asks for those of the next round.
#[target_feature(enable = "avx512f,avx512ifma")]
fn round(entries: &[Entry], vectors: &mut [Vector], k: u64, digits: &[Digits], next: &[Digits]) {
    let (x_bound, y_bound) = (2 + 4 * k, 2 + 2 * k);
    let (kx, ky) = (multiple_of_p(x_bound), multiple_of_p(y_bound));
    let k_sum = multiple_of_p(x_bound + 2);
    let kx_next = multiple_of_p(x_bound + 4);
    let one = one();

    let mut product = [one, one];
    for (pair, digits) in vectors.chunks_exact_mut(2).zip(digits.chunks_exact(2)) {
        begin(&mut pair[0], entries, &digits[0], &one, &kx);
        begin(&mut pair[1], entries, &digits[1], &one, &kx);
        (pair[0].prefix, pair[1].prefix) = (product[0], product[1]);
        product = mul2([&product[0], &product[1]], [&pair[0].dx, &pair[1].dx]);
    }
    let [both, _] = mul2([&product[0], &one], [&product[1], &one]);
    // Within a term no two points of an addition share an `x`: see `Table::digits`.
    let both = invert(&both).expect("no addition within a term is exceptional");
    let mut inverse = mul2([&both, &both], [&product[1], &product[0]]);
    let mut next = next.chunks_exact(2).rev();
    for (pair, digits) in vectors.chunks_exact_mut(2).zip(digits.chunks_exact(2)).rev() {
        let [a, b] = pair else { unreachable!("vectors come in pairs") };
        // Spread between the multiplications: as one burst they would wait for each other.
        let later = next.next();
        let ask = |half: usize, lanes: std::ops::Range<usize>| {
            if let Some(later) = later {
                later[half].at[lanes].iter().for_each(|at| prefetch(&entries[*at as usize]));
            }
        };
        ask(0, 0..4);
        let inverse_dx = mul2([&inverse[0], &inverse[1]], [&a.prefix, &b.prefix]);
        inverse = mul2([&inverse[0], &inverse[1]], [&a.dx, &b.dx]);
        ask(0, 4..8);
        let (y0, y1) = (multiple_y(entries, &digits[0]), multiple_y(entries, &digits[1]));
        let dy = [sub(&y0, &a.y, &ky), sub(&y1, &b.y, &ky)];
        let slope = mul2([&dy[0], &dy[1]], [&inverse_dx[0], &inverse_dx[1]]);
        ask(1, 0..4);
        let square = products([&slope[0], &slope[1]], [&slope[0], &slope[1]]);
        let x3 = [third_x(&square[0], a, &kx, &k_sum), third_x(&square[1], b, &kx, &k_sum)];
        let run = [sub(&a.x, &x3[0], &kx_next), sub(&b.x, &x3[1], &kx_next)];
        ask(1, 4..8);
        let rise = products([&slope[0], &slope[1]], [&run[0], &run[1]]);
        let y3 = [sub(&rise[0], &a.y, &ky), sub(&rise[1], &b.y, &ky)];
        (a.x, b.x) = (blend(a.adds, &a.x, &x3[0]), blend(b.adds, &b.x, &x3[1]));
        (a.y, b.y) = (blend(a.adds, &a.y, &y3[0]), blend(b.adds, &b.y, &y3[1]));
    }
}

/// Takes up a vector's multiples of this round: lanes that have not started take them as they are, the others want
/// `x2 − x1`.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn begin(vector: &mut Vector, entries: &[Entry], digits: &Digits, one: &Lanes, kx: &Packed) {
    let x = load_x(digits.at.map(|at| &entries[at as usize]));
    let starts = digits.some & !vector.started;
    if starts != 0 {
        vector.x = blend(starts, &vector.x, &x);
        vector.y = blend(starts, &vector.y, &multiple_y(entries, digits));
    }
    vector.adds = digits.some & vector.started;
    vector.started |= digits.some;
    vector.dx = blend(vector.adds, one, &sub(&x, &vector.x, kx));
}

/// `±y` of the multiples, at most `2p`.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn multiple_y(entries: &[Entry], digits: &Digits) -> Lanes {
    let y = load_y(digits.at.map(|at| &entries[at as usize]));
    blend(digits.negate, &y, &sub(&zero(), &y, &multiple_of_p(2)))
}

/// `x3 = λ² − x1 − x2`, with `x2 = dx + x1 − kx`: `λ² − 2·x1 − dx + kx`, which is below `x_bound + 4`.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn third_x(square: &Lanes, vector: &Vector, kx: &Packed, k_sum: &Packed) -> Lanes {
    // dx = x2 − x1 + kx ⇒ −x1 − x2 + k_sum = −2·x1 − dx + kx + k_sum
    let constant: Packed = std::array::from_fn(|i| kx[i] + k_sum[i]);
    sub_both(square, &add(&vector.x, &vector.x), &vector.dx, &constant)
}

/// The digits of at most eight terms, window by window from the lowest: [`Table::digits`], all lanes at once.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn recode(table: &Table, terms: &[Term], mut each: impl FnMut(usize, Digits)) {
    let window_bits = table.window_bits();
    let half = 1u64 << (window_bits - 1);
    let lane = |of: &dyn Fn(&Term) -> u64| -> __m512i {
        let lanes: [u64; LANES] = std::array::from_fn(|lane| terms.get(lane).map_or(0, of));
        // SAFETY: eight limbs are a vector.
        unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
    };
    let limbs: [__m512i; 4] = std::array::from_fn(|limb| lane(&|term| term.magnitude()[limb]));
    let mut first = lane(&|term| term.slot() as u64 * table.windows() as u64 * half);
    let negative = terms.iter().enumerate().fold(0u8, |mask, (i, term)| mask | (term.is_negative() as u8) << i);
    let splat = |value: u64| _mm512_set1_epi64(value as i64);
    let (zero, one, half_lanes, mask) = (splat(0), splat(1), splat(half), splat(2 * half - 1));
    let mut carry = zero;
    for k in 0..table.windows() {
        // d = next window + carry; above half it becomes d − 2^w and carries one up.
        let (limb, shift) = (k * window_bits / 64, k * window_bits % 64);
        let mut digit = _mm512_srl_epi64(limbs[limb], _mm_cvtsi64_si128(shift as i64));
        if shift + window_bits > 64 && limb < 3 {
            let above = _mm512_sll_epi64(limbs[limb + 1], _mm_cvtsi64_si128(64 - shift as i64));
            digit = _mm512_or_si512(digit, above);
        }
        digit = _mm512_add_epi64(_mm512_and_si512(digit, mask), carry);
        let borrowed = _mm512_cmpgt_epi64_mask(digit, half_lanes);
        carry = _mm512_maskz_mov_epi64(borrowed, one);
        let size = _mm512_mask_sub_epi64(digit, borrowed, splat(2 * half), digit);
        let some = _mm512_cmpneq_epi64_mask(size, zero);
        // The entry of m stands at m − 1.
        let at = _mm512_maskz_sub_epi64(some, _mm512_add_epi64(first, size), one);
        let mut digits = Digits { at: [0; LANES], some, negate: borrowed ^ negative };
        // SAFETY: `at` has room for eight.
        unsafe { _mm256_storeu_si256(digits.at.as_mut_ptr().cast(), _mm512_cvtepi64_epi32(at)) };
        each(k, digits);
        first = _mm512_add_epi64(first, half_lanes);
    }
}

//! The vector kernel: what `batch.rs` describes, eight additions at a time.
//!
//! Vectors go through a round in pairs, two interleaved multiplications at a time, so that there are two running
//! products; one inversion serves both. Bounds of coordinates, in multiples of `p`, at the start of round `k` (from 0):
//! `x < 2 + 3k`, `y < 2 + 2k` (a table entry is below 1). With at most 128 windows every product's operands stay far
//! below the multiplier's `2^34 · p^2`; `mul` brings both below 2 at the end.
//!
//! Memory: [`Vector`], 2.6 KiB for eight terms, and four bytes for each digit: a chunk stays within a core's 1 MiB.
#![allow(unsafe_code)]

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

use super::ark::{Base, Point};
use super::batch::{Affine, add_in_place, in_chunks};
use super::ifma::{
    LANES, Lanes, Packed, add, blend, gather, invert, mul, mul2, multiple_of_p, one, pack, spread, sub, sub_both,
    unpack_element, zero,
};
use super::table::{Table, Term};
use super::{Sum, batch};

/// Terms below which a chunk is summed up one by one: there a round's inversion costs more than it saves.
const TERMS_MIN: usize = 12;

/// A point in memory: coordinates in the lanes' form, below `2p`; two cache lines. Infinity is all zeros.
#[derive(Clone, Copy)]
#[repr(C, align(128))]
pub(super) struct Entry {
    x: Packed,
    y: Packed,
}

impl Entry {
    const INFINITY: Self = Self { x: [0; 8], y: [0; 8] };

    pub(super) fn new(point: &Affine) -> Self {
        Self { x: pack(&point.x), y: pack(&point.y) }
    }

    fn is_infinity(&self) -> bool {
        self.x == [0; 8] && self.y == [0; 8]
    }

    fn affine(&self) -> Affine {
        Affine { x: unpack_element(&self.x), y: unpack_element(&self.y) }
    }
}

/// A digit in four bytes: 0 for the digit zero, else `(entry + 1) · 2 + sign`.
fn encode_digit(digit: super::table::Digit) -> u32 {
    digit.map_or(0, |(entry, negate)| (entry + 1) << 1 | negate as u32)
}

/// Eight terms on their way through the rounds.
#[repr(align(64))]
struct Vector {
    x: Lanes,
    y: Lanes,
    /// Of this round's multiple.
    multiple_y: Lanes,
    /// `x2 − x1`, one in lanes that add nothing.
    dx: Lanes,
    /// The product of the differences before this one in its running product.
    prefix: Lanes,
    /// Lanes that add something in this round.
    adds: u8,
    /// Lanes that have met a digit other than zero.
    started: u8,
}

/// `base + Σ terms` for each group. The table exists, so the machine has the instructions.
pub(super) fn sums(table: &Table, entries: &[Entry], groups: &[(Point, &[Term])]) -> Vec<Point> {
    assert!(super::ifma::available(), "a table of this kind was made on a machine with the instructions");
    in_chunks(groups, |groups| {
        let terms: usize = groups.iter().map(|(_, terms)| terms.len()).sum();
        if terms < TERMS_MIN {
            return one_by_one(table, entries, groups);
        }
        // SAFETY: asserted above.
        unsafe { chunk_sums(table, entries, groups) }
    })
}

/// The arithmetic of `additions` additions and nothing else: products of differences, their way back, the formulas.
pub(super) fn bare_additions(entries: &[Entry], additions: usize) -> u64 {
    assert!(super::ifma::available(), "a table of this kind was made on a machine with the instructions");
    // SAFETY: asserted above.
    unsafe { bare_lanes(entries, additions) }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn bare_lanes(entries: &[Entry], additions: usize) -> u64 {
    const VECTORS: usize = 16;
    let lanes = |at: usize, coordinate: fn(&Entry) -> &Packed| {
        // SAFETY: each pointer is to one packed coordinate.
        unsafe { gather(std::array::from_fn(|lane| coordinate(&entries[8 * at + lane]).as_ptr())) }
    };
    let point = |at| (lanes(at, |entry| &entry.x), lanes(at, |entry| &entry.y));
    let mut sums: [(Lanes, Lanes); VECTORS] = std::array::from_fn(point);
    let multiples: [(Lanes, Lanes); VECTORS] = std::array::from_fn(|at| point(at + VECTORS));
    let [k2, k4, k6] = [2, 4, 6].map(multiple_of_p);
    let mut inverse = [one(), one()];
    for i in 0..additions.div_ceil(2 * LANES) {
        let at = 2 * i % VECTORS;
        let [(x0, y0), (x1, y1)] = [sums[at], sums[at + 1]];
        let [(u0, v0), (u1, v1)] = [multiples[at], multiples[at + 1]];
        let dx = [sub(&u0, &x0, &k6), sub(&u1, &x1, &k6)];
        let product = mul2([&inverse[0], &inverse[1]], [&dx[0], &dx[1]]);
        let own = mul2([&product[0], &product[1]], [&dx[0], &dx[1]]);
        inverse = mul2([&inverse[0], &inverse[1]], [&own[0], &own[1]]);
        let dy = [sub(&v0, &y0, &k4), sub(&v1, &y1, &k4)];
        let slope = mul2([&dy[0], &dy[1]], [&own[0], &own[1]]);
        let square = mul2([&slope[0], &slope[1]], [&slope[0], &slope[1]]);
        let x3 = [sub_both(&square[0], &u0, &u0, &k4), sub_both(&square[1], &u1, &u1, &k4)];
        let run = [sub(&x0, &x3[0], &k6), sub(&x1, &x3[1], &k6)];
        let rise = mul2([&slope[0], &slope[1]], [&run[0], &run[1]]);
        sums[at] = (x3[0], sub(&rise[0], &v0, &k2));
        sums[at + 1] = (x3[1], sub(&rise[1], &v1, &k2));
    }
    let mut out = [Entry::INFINITY; LANES];
    sums.iter().fold(0, |bits, (x, y)| {
        store(x, y, &mut out);
        bits ^ out[0].x[0] ^ out[7].y[0]
    })
}

/// For few terms: plain additions, then one inversion.
fn one_by_one(table: &Table, entries: &[Entry], groups: &[(Point, &[Term])]) -> Vec<Point> {
    let sum = |(base, terms): &(Point, &[Term])| {
        let mut sum = Sum::from(*base);
        for term in *terms {
            table.digits(term, |_, digit| {
                let Some((entry, negate)) = digit else { return };
                let point = Point::from(entries[entry as usize].affine());
                sum += if negate { -point } else { point };
            });
        }
        sum
    };
    Sum::to_points(&groups.iter().map(sum).collect::<Vec<_>>())
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn chunk_sums(table: &Table, entries: &[Entry], groups: &[(Point, &[Term])]) -> Vec<Point> {
    let terms: Vec<&Term> = groups.iter().flat_map(|(_, terms)| terms.iter()).collect();
    let mut sums = term_sums(table, entries, &terms).into_iter();
    let mut items = Vec::with_capacity(terms.len() + groups.len());
    let mut lengths = Vec::with_capacity(groups.len());
    for (base, terms) in groups {
        let before = items.len();
        // A difference of zero has no sum: what is added up has no infinity in it.
        items.extend(sums.by_ref().take(terms.len()).filter(|sum| !sum.is_infinity()));
        let base = Affine::from(base);
        items.extend((!base.is_infinity()).then(|| Entry::new(&base)));
        lengths.push(items.len() - before);
    }
    add_up(items, lengths).iter().map(|entry| Point::from(entry.affine())).collect()
}

/// The sum of each term's multiples.
#[target_feature(enable = "avx512f,avx512ifma")]
fn term_sums(table: &Table, entries: &[Entry], terms: &[&Term]) -> Vec<Entry> {
    let windows = table.windows();
    // Vectors come in pairs; the last ones may have idle lanes.
    let vectors = terms.len().div_ceil(2 * LANES) * 2;
    let lanes = vectors * LANES;
    let mut digits = vec![0u32; windows * lanes];
    for (index, term) in terms.iter().enumerate() {
        table.digits(term, |k, digit| digits[k * lanes + index] = encode_digit(digit));
    }
    let (zero, one) = (zero(), one());
    let fresh = || Vector { x: zero, y: zero, multiple_y: zero, dx: one, prefix: one, adds: 0, started: 0 };
    let mut vectors: Vec<Vector> = (0..vectors).map(|_| fresh()).collect();
    for (k, round) in digits.chunks_exact(lanes).enumerate() {
        if round.iter().all(|digit| *digit == 0) {
            continue;
        }
        let (x_bound, y_bound) = (2 + 3 * k as u64, 2 + 2 * k as u64);
        let (kx, ky) = (multiple_of_p(x_bound), multiple_of_p(y_bound));
        let k_sum = multiple_of_p(x_bound + 1);
        let kx_next = multiple_of_p(x_bound + 3);

        let mut product = [one, one];
        for (pair, digits) in vectors.chunks_exact_mut(2).zip(round.chunks_exact(2 * LANES)) {
            for (vector, digits) in pair.iter_mut().zip(digits.chunks_exact(LANES)) {
                begin(vector, entries, digits, &one, &kx);
            }
            (pair[0].prefix, pair[1].prefix) = (product[0], product[1]);
            product = mul2([&product[0], &product[1]], [&pair[0].dx, &pair[1].dx]);
        }
        let both = invert(&mul(&product[0], &product[1]));
        // Within a term no two points of an addition share an `x`: see `Table::digits`.
        let both = both.expect("no addition within a term is exceptional");
        let mut inverse = mul2([&both, &both], [&product[1], &product[0]]);
        let mut next = digits_after(&digits, k, lanes).rchunks_exact(2 * LANES);
        for pair in vectors.chunks_exact_mut(2).rev() {
            // Spread between the multiplications: as one burst they would wait for each other.
            let mut later = next.next().unwrap_or(&[]).chunks_exact(4);
            let mut prefetch = || prefetch(entries, later.next().unwrap_or(&[]));
            let [a, b] = pair else { unreachable!("vectors come in pairs") };
            prefetch();
            let inverse_dx = mul2([&inverse[0], &inverse[1]], [&a.prefix, &b.prefix]);
            inverse = mul2([&inverse[0], &inverse[1]], [&a.dx, &b.dx]);
            prefetch();
            let dy = [sub(&a.multiple_y, &a.y, &ky), sub(&b.multiple_y, &b.y, &ky)];
            let slope = mul2([&dy[0], &dy[1]], [&inverse_dx[0], &inverse_dx[1]]);
            prefetch();
            let square = mul2([&slope[0], &slope[1]], [&slope[0], &slope[1]]);
            // x1 + x2 = 2·x1 + (x2 − x1); dx carries x_bound·p with it, so x2 is taken back out of it.
            let x3 = [third_x(&square[0], a, &kx, &k_sum), third_x(&square[1], b, &kx, &k_sum)];
            let run = [sub(&a.x, &x3[0], &kx_next), sub(&b.x, &x3[1], &kx_next)];
            prefetch();
            let rise = mul2([&slope[0], &slope[1]], [&run[0], &run[1]]);
            let y3 = [sub(&rise[0], &a.y, &ky), sub(&rise[1], &b.y, &ky)];
            for (vector, (x3, y3)) in pair.iter_mut().zip(x3.iter().zip(&y3)) {
                vector.x = blend(vector.adds, &vector.x, x3);
                vector.y = blend(vector.adds, &vector.y, y3);
            }
        }
    }
    let mut sums = vec![Entry::INFINITY; lanes];
    for (vector, sums) in vectors.iter().zip(sums.chunks_exact_mut(LANES)) {
        let [x, y] = mul2([&vector.x, &vector.y], [&one, &one]);
        store(&x, &y, sums);
    }
    sums.truncate(terms.len());
    sums
}

/// Loads a vector's multiples of this round: lanes that have not started take them as they are, the others want
/// `x2 − x1`.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn begin(vector: &mut Vector, entries: &[Entry], digits: &[u32], one: &Lanes, kx: &Packed) {
    let (mut some, mut negate) = (0u8, 0u8);
    let mut at = [0usize; LANES];
    for (lane, digit) in digits.iter().enumerate() {
        some |= ((*digit != 0) as u8) << lane;
        negate |= ((digit & 1) as u8) << lane;
        at[lane] = (digit >> 1).saturating_sub(1) as usize;
    }
    let entry = at.map(|at| &entries[at]);
    // SAFETY: each pointer is to one packed coordinate.
    let (x, y) = unsafe { (gather(entry.map(|e| e.x.as_ptr())), gather(entry.map(|e| e.y.as_ptr()))) };
    let y = blend(negate, &y, &sub(&zero(), &y, &multiple_of_p(1)));
    let sets = some & !vector.started;
    vector.adds = some & vector.started;
    vector.started |= some;
    vector.x = blend(sets, &vector.x, &x);
    vector.y = blend(sets, &vector.y, &y);
    vector.multiple_y = y;
    vector.dx = blend(vector.adds, one, &sub(&x, &vector.x, kx));
}

/// `x3 = λ² − x1 − x2`, with `x2 = dx + x1 − kx`: `λ² − 2·x1 − dx + kx`, which is below `2 + 1 + x_bound`.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn third_x(square: &Lanes, vector: &Vector, kx: &Packed, k_sum: &Packed) -> Lanes {
    // dx = x2 − x1 + kx ⇒ −x1 − x2 + k_sum = −2·x1 − dx + kx + k_sum
    let constant: Packed = std::array::from_fn(|i| kx[i] + k_sum[i]);
    sub_both(square, &add(&vector.x, &vector.x), &vector.dx, &constant)
}

fn digits_after(digits: &[u32], round: usize, lanes: usize) -> &[u32] {
    digits.get((round + 1) * lanes..(round + 2) * lanes).unwrap_or(&[])
}

/// Asks for the entries of these digits, which the next round will load.
#[inline]
fn prefetch(entries: &[Entry], digits: &[u32]) {
    for digit in digits {
        let entry = &raw const entries[(digit >> 1).saturating_sub(1) as usize];
        // SAFETY: a prefetch reads nothing, and both lines are the entry's.
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(entry.cast());
            _mm_prefetch::<_MM_HINT_T1>(entry.cast::<i8>().add(64));
        }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store(x: &Lanes, y: &Lanes, entries: &mut [Entry]) {
    let (x, y) = (spread(x), spread(y));
    for (lane, entry) in entries.iter_mut().enumerate() {
        *entry = Entry { x: x[lane], y: y[lane] };
    }
}

/// The sum of each list (`items`, list after list), pair by pair, all lists together. Complete: pairs that the vector
/// additions cannot take make the rest of this chunk go the scalar way, a few times the cost.
#[target_feature(enable = "avx512f,avx512ifma")]
fn add_up(mut items: Vec<Entry>, mut lengths: Vec<usize>) -> Vec<Entry> {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    while lengths.iter().any(|length| *length > 1) {
        left.clear();
        right.clear();
        let mut rest = items.as_slice();
        for length in &lengths {
            let (list, others) = rest.split_at(*length);
            rest = others;
            for pair in list.chunks_exact(2) {
                left.push(pair[0]);
                right.push(pair[1]);
            }
        }
        if !add_pairs(&mut left, &right) {
            return add_up_completely(&items, &lengths);
        }
        // Behind the sums of a list stays its odd item.
        let (mut sums, mut kept, mut from) = (left.iter(), 0, 0);
        for length in &mut lengths {
            let pairs = *length / 2;
            for sum in sums.by_ref().take(pairs) {
                items[kept] = *sum;
                kept += 1;
            }
            if *length % 2 == 1 {
                items[kept] = items[from + *length - 1];
                kept += 1;
            }
            from += *length;
            *length = length.div_ceil(2);
        }
        items.truncate(kept);
    }
    let mut items = items.into_iter();
    lengths.iter().map(|length| items.by_ref().take(*length).next().unwrap_or(Entry::INFINITY)).collect()
}

fn add_up_completely(items: &[Entry], lengths: &[usize]) -> Vec<Entry> {
    let mut rest = items.iter();
    let lists = lengths.iter().map(|length| rest.by_ref().take(*length).map(Entry::affine).collect());
    batch::add_up(lists.collect()).iter().map(Entry::new).collect()
}

/// `left_i += right_i`; false, and `left` is unspecified, if two points of a pair share an `x` or one is infinity.
#[target_feature(enable = "avx512f,avx512ifma")]
fn add_pairs(left: &mut [Entry], right: &[Entry]) -> bool {
    if left.len() < LANES {
        let mut sums: Vec<Affine> = left.iter().map(Entry::affine).collect();
        let right: Vec<Affine> = right.iter().map(Entry::affine).collect();
        add_in_place(&mut sums, &right, &mut Vec::<Base>::new());
        for (place, sum) in left.iter_mut().zip(&sums) {
            *place = Entry::new(sum);
        }
        return sums.iter().all(|sum| !sum.is_infinity());
    }
    let one = one();
    let (k2, k4, k6) = (multiple_of_p(2), multiple_of_p(4), multiple_of_p(6));
    // The last vector reaches back over lanes that the one before it has had, and leaves those alone.
    let last = left.len() - LANES;
    let starts: Vec<usize> = (0..left.len()).step_by(LANES).map(|start| start.min(last)).collect();
    let idle = |index: usize| if index + 1 == starts.len() { index * LANES - starts[index] } else { 0 };
    let load = |entries: &[Entry], start: usize| {
        let lanes: [&Entry; LANES] = std::array::from_fn(|lane| &entries[start + lane]);
        // SAFETY: each pointer is to one packed coordinate.
        unsafe { (gather(lanes.map(|e| e.x.as_ptr())), gather(lanes.map(|e| e.y.as_ptr()))) }
    };
    let mut work: Vec<(Lanes, Lanes)> = Vec::with_capacity(starts.len());
    let mut product = one;
    for (index, start) in starts.iter().enumerate() {
        let dx = sub(&load(right, *start).0, &load(left, *start).0, &k2);
        let dx = blend(((1u16 << idle(index)) - 1) as u8, &dx, &one);
        work.push((dx, product));
        product = mul(&product, &dx);
    }
    let Some(mut inverse) = invert(&product) else { return false };
    for (index, (start, (dx, prefix))) in starts.iter().zip(&work).enumerate().rev() {
        let ((x1, y1), (x2, y2)) = (load(left, *start), load(right, *start));
        let [inverse_dx, rest] = mul2([&inverse, &inverse], [prefix, dx]);
        inverse = rest;
        let slope = mul(&sub(&y2, &y1, &k2), &inverse_dx);
        let x3 = sub_both(&mul(&slope, &slope), &x1, &x2, &k4);
        let y3 = sub(&mul(&slope, &sub(&x1, &x3, &k6)), &y1, &k2);
        let [x3, y3] = mul2([&x3, &y3], [&one, &one]);
        let mut sums = [Entry::INFINITY; LANES];
        store(&x3, &y3, &mut sums);
        let idle = idle(index);
        left[start + idle..start + LANES].copy_from_slice(&sums[idle..]);
    }
    true
}

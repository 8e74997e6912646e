//! The vector kernel: what `curve/batch.rs` describes, eight additions at a time.
//!
//! A batch goes through two steps, each spread over the threads: the terms' own sums (`rounds.rs`), then each
//! group's terms and base (`merge.rs`). Terms do not depend on each other, so they are taken in the order of their slots:
//! then the entries that a round reads lie together. A batch of few terms has no use for either (`few.rs`).
#![allow(unsafe_code)]

use super::field::{LANES, Lanes, available, mul2, multiple_of_p, one, products, sub, sub_both};
use super::merge::{self, Addition};
use super::point::{Entry, enter, leave, load_x, load_y, store};
use super::{few, rounds};
use crate::curve::ark::{Point, Sum};
use crate::curve::batch::{Affine, by_slot, in_chunks};
use crate::curve::bucket::Item;
use crate::curve::table::{Table, Term, prefetch, windows};
use crate::parallel;

/// Terms that go through the rounds together: more share an inversion, fewer stay in the cache.
const CHUNK_TERMS: usize = 2048;
/// Terms a thread below which rounds do not pay.
const ROUNDS_TERMS_MIN: usize = 192;

/// `base + Σ terms` for each group. The table exists, so the machine has the instructions.
pub(in crate::curve) fn sums(table: &Table, entries: &[Entry], groups: &[(Point, &[Term])]) -> Vec<Point> {
    assert!(available(), "a table of this kind was made on a machine with the instructions");
    let terms = groups.iter().map(|(_, terms)| terms.len()).sum::<usize>();
    if terms < ROUNDS_TERMS_MIN * parallel::threads() {
        // SAFETY: asserted above.
        return in_chunks(groups, |groups| unsafe { few::sums(table, entries, groups) });
    }
    sums_by_rounds(table, entries, groups)
}

fn sums_by_rounds(table: &Table, entries: &[Entry], groups: &[(Point, &[Term])]) -> Vec<Point> {
    let terms: Vec<Term> = groups.iter().flat_map(|(_, terms)| terms.iter().copied()).collect();
    let (sorted, places) = by_slot(&terms);
    // As many chunks as make the same number for each thread.
    let chunks = terms.len().div_ceil(CHUNK_TERMS).next_multiple_of(parallel::threads());
    let chunk = terms.len().div_ceil(chunks).next_multiple_of(2 * LANES);
    let sorted: Vec<&[Term]> = sorted.chunks(chunk).collect();
    // SAFETY: whoever has such entries has asked for the instructions.
    let sums = parallel::map(&sorted, |terms| unsafe { rounds::term_sums(table, entries, terms) });

    // Of each chunk of groups: theirs, and the places of the sums of their terms.
    let mut parts = Vec::with_capacity(chunks + 1);
    let (mut rest, mut start, mut held) = (places.as_slice(), 0, 0);
    for (index, (_, terms)) in groups.iter().enumerate() {
        held += terms.len();
        if held >= chunk || index + 1 == groups.len() {
            let (own, others) = rest.split_at(held);
            parts.push((&groups[start..=index], own));
            (rest, start, held) = (others, index + 1, 0);
        }
    }
    let merged = parallel::map(&parts, |(groups, places)| {
        let sums = places.iter().map(|place| &sums[*place as usize / chunk][*place as usize % chunk]);
        // SAFETY: whoever has such entries has asked for the instructions.
        unsafe { merge::merge(groups, sums) }
    });
    merged.concat()
}

/// What the bucket method needs of the kernel.
impl Item for Entry {
    fn enter(points: &[Affine]) -> Vec<Self> {
        assert!(available(), "entries are for machines with the instructions");
        // SAFETY: asserted above.
        unsafe { enter(points.iter().copied()) }
    }

    fn leave(items: &[Self]) -> Vec<Point> {
        assert!(available(), "entries are for machines with the instructions");
        // SAFETY: asserted above.
        unsafe { leave(items) }
    }

    fn is_infinity(&self) -> bool {
        self.is_infinity()
    }

    fn add_up(items: Vec<Self>, lengths: Vec<usize>) -> Vec<Self> {
        assert!(available(), "entries are for machines with the instructions");
        // SAFETY: asserted above.
        unsafe { merge::add_up(items, lengths) }
    }
}

/// Where a row is made.
#[derive(Default)]
pub(in crate::curve) struct RowRoom {
    entries: Vec<Entry>,
    additions: Vec<Addition>,
    passes: Vec<[merge::Pass; 2]>,
}

/// A table's row: the multiples `m · 2^(wk) · base` for `m` in `1..=2^(w−1)`, window after window.
pub(in crate::curve) fn row<'a>(base: &Point, window_bits: usize, room: &'a mut RowRoom) -> &'a [Entry] {
    assert!(available(), "tables of this kind are for machines with the instructions");
    let RowRoom { entries, additions, passes } = room;
    let (half, windows) = (1usize << (window_bits - 1), windows(window_bits));
    // Every 2^j · base, of which the first `w` of each window are multiples that doubling the count would not reach.
    let mut doublings = Vec::with_capacity(windows * window_bits);
    let mut sum = Sum::from(*base);
    for _ in 0..windows * window_bits {
        doublings.push(sum);
        sum = sum.double();
    }
    let powers = Sum::to_points(&doublings);
    // SAFETY: asserted above.
    let powers = unsafe { enter(powers.iter().map(Affine::from)) };
    entries.clear();
    entries.resize(windows * half, Entry::INFINITY);
    for (window, powers) in entries.chunks_exact_mut(half).zip(powers.chunks_exact(window_bits)) {
        for (j, power) in powers.iter().enumerate() {
            window[(1 << j) - 1] = *power;
        }
    }
    // m + i for i < m are the first m − 1 multiples plus the m-th, over all windows together.
    for count in (1..window_bits - 1).map(|j| 1u32 << j) {
        additions.clear();
        for window in (0..windows as u32).map(|k| k * half as u32) {
            let of = |i| Addition { sum: window + count + i, left: window + i, right: window + count - 1 };
            additions.extend((0..count - 1).map(of));
        }
        // SAFETY: asserted above.
        let done = unsafe { merge::add(entries, additions, passes) };
        assert!(done, "different multiples of a point of prime order differ in x");
    }
    entries
}

/// The arithmetic of `additions` additions and nothing else: products of differences, their way back, the formulas. With
/// `cold` the multiples come from all over the table, asked for some additions ahead; without from a few cache lines.
pub(in crate::curve) fn bare_additions(entries: &[Entry], additions: usize, cold: bool) -> u64 {
    assert!(available(), "a table of this kind was made on a machine with the instructions");
    // SAFETY: asserted above.
    unsafe { bare_lanes(entries, additions, if cold { entries.len() } else { 256 }) }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn bare_lanes(entries: &[Entry], additions: usize, reach: usize) -> u64 {
    const VECTORS: usize = 16;
    let mut sums: [[Lanes; 2]; VECTORS] = std::array::from_fn(|at| {
        let lanes: [&Entry; LANES] = std::array::from_fn(|lane| &entries[8 * at + lane]);
        [load_x(lanes), load_y(lanes)]
    });
    // Multiplying by an odd number walks all over the table, with every step elsewhere.
    let place = |i: usize| ((i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) * reach) >> 32;
    let lanes = |i: usize| -> [&Entry; LANES] { std::array::from_fn(|lane| &entries[place(i * LANES + lane)]) };
    let [k2, k4, k6] = [2, 4, 6].map(multiple_of_p);
    let mut inverse = [one(), one()];
    for i in 0..additions.div_ceil(2 * LANES) {
        lanes(2 * i + VECTORS).into_iter().chain(lanes(2 * i + 1 + VECTORS)).for_each(prefetch);
        let at = 2 * i % VECTORS;
        let [[x0, y0], [x1, y1]] = [sums[at], sums[at + 1]];
        let (u, v) = (lanes(2 * i), lanes(2 * i + 1));
        let [u0, v0, u1, v1] = [load_x(u), load_y(u), load_x(v), load_y(v)];
        let dx = [sub(&u0, &x0, &k6), sub(&u1, &x1, &k6)];
        let product = mul2([&inverse[0], &inverse[1]], [&dx[0], &dx[1]]);
        let own = mul2([&product[0], &product[1]], [&dx[0], &dx[1]]);
        inverse = mul2([&inverse[0], &inverse[1]], [&own[0], &own[1]]);
        let dy = [sub(&v0, &y0, &k4), sub(&v1, &y1, &k4)];
        let slope = mul2([&dy[0], &dy[1]], [&own[0], &own[1]]);
        let square = products([&slope[0], &slope[1]], [&slope[0], &slope[1]]);
        let x3 = [sub_both(&square[0], &u0, &u0, &k4), sub_both(&square[1], &u1, &u1, &k4)];
        let run = [sub(&x0, &x3[0], &k6), sub(&x1, &x3[1], &k6)];
        let rise = products([&slope[0], &slope[1]], [&run[0], &run[1]]);
        sums[at] = [x3[0], sub(&rise[0], &v0, &k2)];
        sums[at + 1] = [x3[1], sub(&rise[1], &v1, &k2)];
    }
    sums.iter().fold(0, |bits, [x, y]| {
        let sums = store(x, y);
        bits ^ sums[0].x[0] ^ sums[7].y[0]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::{Kernel, PointBytes, Scalar};
    use crate::key::SlotScalar;
    use crate::setup;

    /// Both ways of this kernel, whatever the number of terms and threads, against the scalar kernel.
    #[test]
    fn few_terms_and_many_agree_with_the_scalar_kernel() {
        if !available() {
            eprintln!("skipped: this machine has no AVX-512 IFMA");
            return;
        }
        let scalar = |i: usize| SlotScalar::node(&PointBytes([i as u8; 48]));
        let wide = |i: usize| Scalar::from_u128(3).pow(1 << 40) * Scalar::from_u128(i as u128);
        let own = |i: usize| match i % 7 {
            0 => Term::new(i as u8, &scalar(i), &scalar(i)),
            1 => Term::new(i as u8, &scalar(i), &SlotScalar::EMPTY),
            2 => Term::of_scalar(i as u8, &wide(i)),
            _ => Term::new((i / 3) as u8, &scalar(i), &scalar(i / 2)),
        };
        let terms: Vec<Term> = (0..700).map(own).collect();
        let point = |i: usize| if i.is_multiple_of(3) { Point::INFINITY } else { setup::lagrange()[i % 256] };
        for window_bits in [2, 4, 8, 9] {
            let tables =
                [Kernel::Scalar, Kernel::Ifma].map(|kernel| Table::new(setup::lagrange(), window_bits, kernel));
            for (count, most) in [(1, 1), (2, 2), (3, 3), (5, 5), (8, 1), (17, 4), (600, 1), (700, 9), (700, 700)] {
                let groups: Vec<(Point, &[Term])> =
                    terms[..count].chunks(most).enumerate().map(|(i, terms)| (point(i), terms)).collect();
                let expected = tables[0].sums(&groups);
                let entries = tables[1].vector_entries();
                // SAFETY: the machine has the instructions.
                let few = unsafe { few::sums(&tables[1], entries, &groups) };
                assert_eq!(few, expected, "{count} terms, windows of {window_bits} bits, few");
                let many = sums_by_rounds(&tables[1], entries, &groups);
                assert_eq!(many, expected, "{count} terms, windows of {window_bits} bits, many");
            }
        }
    }
}

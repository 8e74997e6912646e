//! Sums of table multiples, many at once: the additions are *batch-affine*, so that thousands of them share one field
//! inversion and each costs five multiplications and a squaring.
//!
//! ```text
//! λ = (y2 − y1)/(x2 − x1)    x3 = λ² − x1 − x2    y3 = λ·(x1 − x3) − y1
//! ```
//!
//! Order of work, for groups of terms `base + Σ ±m · L_slot`: the terms of neighbouring groups make a *chunk* that fits
//! in a core's cache. A chunk goes through the windows in rounds, one addition for each term and round; then the terms'
//! sums and the bases are added up pair by pair within each group, all groups together. Within a term no addition is
//! exceptional ([`Table::digits`]); adding up may meet equal points, opposite points and infinity (an attacker can
//! arrange that), and handles them at a bounded cost a pair.
//!
//! This file holds what the kernels share and the scalar kernel; `ifma/` does the same eight lanes wide.

use std::ops::Range;

use super::ark::{Base, Point};
use super::table::{Table, Term, prefetch};
use crate::parallel;

/// Terms that go through the rounds together: more share an inversion, fewer stay in the cache.
const CHUNK_TERMS: usize = 2048;
/// Terms below which work is not spread over threads.
const CHUNK_TERMS_MIN: usize = 96;

/// How the field is computed; every kernel gives the same bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kernel {
    /// One element at a time, on any machine.
    Scalar,
    /// Eight at a time, with AVX-512 IFMA.
    #[cfg(target_arch = "x86_64")]
    Ifma,
}

impl Kernel {
    /// The kernels that this machine has, the fastest first.
    pub fn available() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        if super::ifma::available() {
            return vec![Self::Ifma, Self::Scalar];
        }
        vec![Self::Scalar]
    }

    /// The kernel's name, for tables of figures.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Self::Ifma => "ifma",
        }
    }
}

/// A point by its coordinates; infinity is `(0, 0)`, which is not on the curve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Affine {
    pub(super) x: Base,
    pub(super) y: Base,
}

impl Affine {
    pub(super) const INFINITY: Self = Self { x: Base::ZERO, y: Base::ZERO };

    pub(super) fn is_infinity(&self) -> bool {
        self.x.is_zero() && self.y.is_zero()
    }
}

impl From<&Point> for Affine {
    fn from(point: &Point) -> Self {
        point.coordinates().map_or(Self::INFINITY, |(x, y)| Self { x, y })
    }
}

impl From<Affine> for Point {
    fn from(affine: Affine) -> Self {
        if affine.is_infinity() { Self::INFINITY } else { Self::from_coordinates(affine.x, affine.y) }
    }
}

/// Cuts groups into chunks of about equal work for the threads there are, and hands each to `work`.
pub(super) fn in_chunks<'a>(
    groups: &[(Point, &'a [Term])],
    work: impl Fn(&[(Point, &'a [Term])]) -> Vec<Point> + Sync + Send,
) -> Vec<Point> {
    let terms: usize = groups.iter().map(|(_, terms)| terms.len()).sum();
    let threads = parallel::threads();
    // As many chunks as make the same number for each thread.
    let rounds = terms.div_ceil(CHUNK_TERMS * threads).max(1);
    let target = terms.div_ceil(rounds * threads).max(CHUNK_TERMS_MIN);
    let mut chunks: Vec<Range<usize>> = Vec::new();
    let (mut start, mut held) = (0, 0);
    for (index, (_, terms)) in groups.iter().enumerate() {
        held += terms.len();
        if held >= target {
            chunks.push(start..index + 1);
            (start, held) = (index + 1, 0);
        }
    }
    if start < groups.len() {
        chunks.push(start..groups.len());
    }
    match chunks.as_slice() {
        [_] => work(groups),
        _ => parallel::map(&chunks, |chunk| work(&groups[chunk.clone()])).concat(),
    }
}

/// The scalar kernel: `base + Σ terms` for each group.
pub(super) fn sums(table: &Table, entries: &[Affine], groups: &[(Point, &[Term])]) -> Vec<Point> {
    in_chunks(groups, |groups| {
        let terms: Vec<Term> = groups.iter().flat_map(|(_, terms)| terms.iter().copied()).collect();
        let (sorted, places) = by_slot(&terms);
        let sums = sum_terms(table, entries, &sorted);
        let mut places = places.iter();
        let lists = groups.iter().map(|(base, terms)| {
            let own = places.by_ref().take(terms.len()).map(|place| sums[*place as usize]);
            let base = Affine::from(base);
            own.chain((!base.is_infinity()).then_some(base)).collect()
        });
        add_up(lists.collect()).into_iter().map(Point::from).collect()
    })
}

/// The terms sorted by slot, and where each of them stands then: so the entries that a round reads lie together.
pub(super) fn by_slot(terms: &[Term]) -> (Vec<Term>, Vec<u32>) {
    let mut starts = [0u32; 257];
    for term in terms {
        starts[term.slot() as usize + 1] += 1;
    }
    for slot in 0..256 {
        starts[slot + 1] += starts[slot];
    }
    let mut places = Vec::with_capacity(terms.len());
    let mut sorted = terms.to_vec();
    for term in terms {
        let place = &mut starts[term.slot() as usize];
        sorted[*place as usize] = *term;
        places.push(*place);
        *place += 1;
    }
    (sorted, places)
}

/// An addition of a round, between the two passes over it.
struct Pending {
    /// Which term's sum.
    term: u32,
    multiple: Multiple,
    /// `x2 − x1`.
    dx: Base,
    /// The product of the differences before this one.
    prefix: Base,
}

/// An entry of the table and whether it is to be negated.
#[derive(Clone, Copy)]
struct Multiple {
    entry: u32,
    negate: bool,
}

impl Multiple {
    fn of(&self, entries: &[Affine]) -> Affine {
        let Affine { x, y } = entries[self.entry as usize];
        Affine { x, y: if self.negate { -y } else { y } }
    }
}

/// The sum of each term's multiples, all terms together, window by window: once forwards for the product of all
/// differences, once backwards to take its inverse apart and add.
fn sum_terms(table: &Table, entries: &[Affine], terms: &[Term]) -> Vec<Affine> {
    let windows = table.windows();
    let mut digits: Vec<Option<Multiple>> = vec![None; windows * terms.len()];
    for (index, term) in terms.iter().enumerate() {
        table.digits(term, |k, digit| {
            digits[k * terms.len() + index] = digit.map(|(entry, negate)| Multiple { entry, negate });
        });
    }
    let mut sums = vec![Affine::INFINITY; terms.len()];
    let mut pending: Vec<Pending> = Vec::with_capacity(terms.len());
    for (k, round) in digits.chunks_exact(terms.len()).enumerate() {
        pending.clear();
        let mut product = Base::ONE;
        for (index, multiple) in round.iter().enumerate() {
            let Some(multiple) = *multiple else { continue };
            if sums[index].is_infinity() {
                sums[index] = multiple.of(entries);
                continue;
            }
            let dx = entries[multiple.entry as usize].x - sums[index].x;
            pending.push(Pending { term: index as u32, multiple, dx, prefix: product });
            product = product * dx;
        }
        // Within a term no two points of an addition share an `x`: see `Table::digits`.
        let mut inverse = product.inverse().expect("no addition within a term is exceptional");
        let next = digits.get((k + 1) * terms.len()..(k + 2) * terms.len()).unwrap_or(&[]);
        for Pending { term, multiple, dx, prefix } in pending.iter().rev() {
            if let Some(Some(later)) = next.get(*term as usize) {
                prefetch(&entries[later.entry as usize]);
            }
            let inverse_dx = inverse * *prefix;
            inverse = inverse * *dx;
            let sum = &mut sums[*term as usize];
            let multiple = multiple.of(entries);
            *sum = add_with(sum, &multiple, (multiple.y - sum.y) * inverse_dx);
        }
    }
    sums
}

/// The arithmetic of `additions` additions and nothing else: products of differences, their way back, the formulas. With
/// `cold` the multiples come from all over the table; without from a few cache lines.
pub(super) fn bare_additions(entries: &[Affine], additions: usize, cold: bool) -> u64 {
    let reach = if cold { entries.len() } else { 256 };
    let mut sums = entries[..256].to_vec();
    let mut inverse = Base::ONE;
    for i in 0..additions {
        // Multiplying by an odd number walks all over the table, with every step elsewhere.
        let walk = (i as u64 + 300).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let multiple = entries[((walk * reach as u64) >> 32) as usize];
        let sum = &mut sums[i % 256];
        let difference = multiple.x - sum.x;
        let product = inverse * difference;
        let own = product * difference;
        inverse = inverse * own;
        *sum = add_with(sum, &multiple, (multiple.y - sum.y) * own);
    }
    sums.iter().fold(0, |bits, sum| bits ^ sum.y.montgomery_limbs()[0])
}

/// The third point of the line through two points with the slope `λ`, mirrored.
fn add_with(a: &Affine, b: &Affine, slope: Base) -> Affine {
    let x = slope.square() - a.x - b.x;
    Affine { x, y: slope * (a.x - x) - a.y }
}

/// The sum of each list, pair by pair, all lists together. Complete.
pub(super) fn add_up(mut lists: Vec<Vec<Affine>>) -> Vec<Affine> {
    let (mut left, mut right, mut inverses) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        for pair in lists.iter().flat_map(|list| list.chunks_exact(2)) {
            left.push(pair[0]);
            right.push(pair[1]);
        }
        if left.is_empty() {
            break;
        }
        add_in_place(&mut left, &right, &mut inverses);
        let mut sums = left.iter().copied();
        for list in &mut lists {
            let (pairs, odd) = (list.len() / 2, list.len() % 2);
            if pairs > 0 {
                let last = list.last().copied();
                list.truncate(pairs);
                for (place, sum) in list.iter_mut().zip(&mut sums) {
                    *place = sum;
                }
                list.extend(last.filter(|_| odd == 1));
            }
        }
    }
    lists.into_iter().map(|list| list.first().copied().unwrap_or(Affine::INFINITY)).collect()
}

/// `left_i += right_i`, with one inversion. Complete: equal, opposite and infinite points are allowed. `inverses` is
/// room to work in.
pub(super) fn add_in_place(left: &mut [Affine], right: &[Affine], inverses: &mut Vec<Base>) {
    inverses.clear();
    inverses.extend(left.iter().zip(right).map(|(a, b)| match b.x - a.x {
        // Equal or opposite: the tangent's divisor 2y, which is zero for opposite points only (no point has order 2).
        difference if difference.is_zero() => a.y + b.y,
        difference => difference,
    }));
    Base::invert_all(inverses);
    for ((a, b), inverse) in left.iter_mut().zip(right).zip(inverses) {
        *a = if a.is_infinity() {
            *b
        } else if b.is_infinity() {
            *a
        } else if a.x != b.x {
            add_with(a, b, (b.y - a.y) * *inverse)
        } else if a.y == b.y {
            // λ = 3x²/2y
            let square = a.x.square();
            add_with(a, b, (square.double() + square) * *inverse)
        } else {
            Affine::INFINITY
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::{PointBytes, Scalar, Sum, naive_msm};
    use crate::key::SlotScalar;
    use crate::setup;

    fn scalar(byte: u8) -> SlotScalar {
        SlotScalar::node(&PointBytes([byte; 48]))
    }

    fn naive(base: &Point, terms: &[(u8, SlotScalar, SlotScalar)]) -> Point {
        let points: Vec<Point> = terms.iter().map(|(slot, ..)| setup::lagrange()[*slot as usize]).collect();
        let scalars: Vec<Scalar> = terms.iter().map(|(_, old, new)| Scalar::from(new) - Scalar::from(old)).collect();
        let mut sum = Sum::from(naive_msm(&points, &scalars));
        sum += *base;
        sum.to_point()
    }

    #[test]
    fn every_kernel_and_window_agrees_with_plain_multiplication() {
        let some = setup::lagrange()[200];
        let full: Vec<_> = (0..=255u8).map(|slot| (slot, scalar(slot), scalar(slot.wrapping_mul(3)))).collect();
        // (base, [(slot, old, new)])
        type Terms = Vec<(u8, SlotScalar, SlotScalar)>;
        let mut groups: Vec<(Point, Terms)> = vec![
            (Point::INFINITY, vec![]),
            (some, vec![]),
            (Point::INFINITY, vec![(7, SlotScalar::EMPTY, scalar(1))]),
            (some, vec![(7, scalar(1), SlotScalar::EMPTY)]),
            // Twice the same, and the same with both signs: P + P and P − P when added up.
            (Point::INFINITY, vec![(7, SlotScalar::EMPTY, scalar(1)); 2]),
            (Point::INFINITY, vec![(7, SlotScalar::EMPTY, scalar(1)), (7, scalar(1), SlotScalar::EMPTY)]),
            (some, vec![(7, SlotScalar::EMPTY, scalar(1)), (7, scalar(1), SlotScalar::EMPTY)]),
            (some, vec![(9, scalar(2), scalar(2))]),
            (Point::INFINITY, full[..255].to_vec()),
            (some, full),
        ];
        // The base is the term's own opposite, or its equal.
        let own = naive(&Point::INFINITY, &[(7, scalar(1), scalar(4))]);
        groups.push((-own, vec![(7, scalar(1), scalar(4))]));
        groups.push((own, vec![(7, scalar(1), scalar(4))]));
        for i in 0..300usize {
            let terms = (0..i % 5).map(|j| ((i * 7 + j * 31) as u8, scalar((i + j) as u8), scalar(i as u8)));
            groups.push((if i % 2 == 0 { some } else { Point::INFINITY }, terms.collect()));
        }
        let expected: Vec<Point> = groups.iter().map(|(base, terms)| naive(base, terms)).collect();
        let terms: Vec<Vec<Term>> = groups
            .iter()
            .map(|(_, terms)| terms.iter().map(|(slot, old, new)| Term::new(*slot, old, new)).collect())
            .collect();
        let batch: Vec<(Point, &[Term])> = groups.iter().zip(&terms).map(|((base, _), t)| (*base, &t[..])).collect();
        for kernel in Kernel::available() {
            for window_bits in [2, 3, 5, 8] {
                let table = Table::new(setup::lagrange(), window_bits, kernel);
                assert_eq!(table.sums(&batch), expected, "{} with windows of {window_bits} bits", kernel.name());
                assert_eq!(table.sums(&batch[8..9]), expected[8..9]);
            }
        }
    }
}

//! Sums of lists of points, eight additions at a time and all lists together: half of each list is added to the other
//! half until one point is left.

use super::field::{LANES, Lanes, blend, invert, mul2, multiple_of_p, one, products, sub, sub_both};
use super::point::{Entry, enter, leave, load_x, load_y, store};
use crate::curve::batch::Affine;
use crate::curve::table::Term;
use crate::curve::{Point, batch};

/// An addition by the places of its operands: `items[sum] = items[left] + items[right]`.
#[derive(Clone, Copy)]
pub(super) struct Addition {
    pub(super) sum: u32,
    pub(super) left: u32,
    pub(super) right: u32,
}

/// The sum of each list; `items` are the lists one after the other, without a point at infinity, and `lengths` theirs.
/// Complete: where the vector additions cannot add a pair, the rest goes the scalar way, a few times the cost.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn add_up(mut items: Vec<Entry>, mut lengths: Vec<usize>) -> Vec<Entry> {
    // The places of what is left of each list.
    let mut places: Vec<u32> = (0..items.len() as u32).collect();
    let mut additions = Vec::with_capacity(items.len() / 2);
    let mut work = Vec::new();
    while lengths.iter().any(|length| *length > 1) {
        additions.clear();
        let mut left_over = Vec::with_capacity(places.len());
        let mut rest = places.as_slice();
        for length in &lengths {
            let (list, others) = rest.split_at(*length);
            rest = others;
            for pair in list.chunks(2) {
                left_over.push(pair[0]);
                if let [left, right] = *pair {
                    additions.push(Addition { sum: left, left, right });
                }
            }
        }
        if !add(&mut items, &additions, &mut work) {
            return add_up_completely(&items, &places, &lengths);
        }
        places = left_over;
        lengths.iter_mut().for_each(|length| *length = length.div_ceil(2));
    }
    let mut places = places.iter();
    let sum = |length: &usize| places.by_ref().take(*length).next().map_or(Entry::INFINITY, |at| items[*at as usize]);
    lengths.iter().map(sum).collect()
}

/// [`add_up`] by the scalar kernel, for the lists of items at these places.
#[target_feature(enable = "avx512f,avx512ifma")]
fn add_up_completely(items: &[Entry], places: &[u32], lengths: &[usize]) -> Vec<Entry> {
    let points = leave(&places.iter().map(|at| items[*at as usize]).collect::<Vec<_>>());
    let mut points = points.iter().map(Affine::from);
    let lists = lengths.iter().map(|length| points.by_ref().take(*length).collect());
    enter(batch::add_up(lists.collect()))
}

/// What an addition keeps between the two passes: `x2 − x1`, and the product of those before it.
pub(super) type Pass = [Lanes; 2];

/// Carries out additions whose results are nobody's operand; false, and nothing is written, if the two points of one
/// share an `x`. None of them is infinity.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn add(items: &mut [Entry], additions: &[Addition], work: &mut Vec<[Pass; 2]>) -> bool {
    let one = one();
    let (k2, k4, k6) = (multiple_of_p(2), multiple_of_p(4), multiple_of_p(6));
    work.clear();
    let mut product = [one, one];
    for pair in additions.chunks(2 * LANES) {
        let dx = [difference(items, pair, 0), difference(items, pair, 1)];
        work.push([[dx[0], product[0]], [dx[1], product[1]]]);
        product = mul2([&product[0], &product[1]], [&dx[0], &dx[1]]);
    }
    let [both, _] = mul2([&product[0], &one], [&product[1], &one]);
    let Some(both) = invert(&both) else { return false };
    let mut inverse = mul2([&both, &both], [&product[1], &product[0]]);
    for (pair, [[dx0, prefix0], [dx1, prefix1]]) in additions.chunks(2 * LANES).zip(work.iter()).rev() {
        let inverse_dx = mul2([&inverse[0], &inverse[1]], [prefix0, prefix1]);
        inverse = mul2([&inverse[0], &inverse[1]], [dx0, dx1]);
        let (left0, right0, _) = operands(items, pair, 0);
        let (left1, right1, _) = operands(items, pair, 1);
        let [x1, x2] = [[load_x(left0), load_x(left1)], [load_x(right0), load_x(right1)]];
        let y1 = [load_y(left0), load_y(left1)];
        let dy = [sub(&load_y(right0), &y1[0], &k2), sub(&load_y(right1), &y1[1], &k2)];
        let slope = mul2([&dy[0], &dy[1]], [&inverse_dx[0], &inverse_dx[1]]);
        let square = products([&slope[0], &slope[1]], [&slope[0], &slope[1]]);
        let x3 = [sub_both(&square[0], &x1[0], &x2[0], &k4), sub_both(&square[1], &x1[1], &x2[1], &k4)];
        let run = [sub(&x1[0], &x3[0], &k6), sub(&x1[1], &x3[1], &k6)];
        let rise = products([&slope[0], &slope[1]], [&run[0], &run[1]]);
        let y3 = [sub(&rise[0], &y1[0], &k2), sub(&rise[1], &y1[1], &k2)];
        for (i, eight) in pair.chunks(LANES).enumerate() {
            // Below 2p again.
            let [x, y] = mul2([&x3[i], &y3[i]], [&one, &one]);
            for (addition, sum) in eight.iter().zip(store(&x, &y)) {
                items[addition.sum as usize] = sum;
            }
        }
    }
    true
}

/// `x2 − x1` of the first or second eight of these additions; one in idle lanes.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn difference(items: &[Entry], pair: &[Addition], half: usize) -> Lanes {
    let (left, right, idle) = operands(items, pair, half);
    blend(idle, &sub(&load_x(right), &load_x(left), &multiple_of_p(2)), &one())
}

/// The operands of the first or second eight of these additions; idle lanes have those of the first addition.
#[inline]
fn operands<'a>(items: &'a [Entry], pair: &[Addition], half: usize) -> ([&'a Entry; LANES], [&'a Entry; LANES], u8) {
    let mut idle = 0;
    let lanes: [&Addition; LANES] = std::array::from_fn(|lane| {
        pair.get(half * LANES + lane).unwrap_or_else(|| {
            idle |= 1 << lane;
            &pair[0]
        })
    });
    (lanes.map(|a| &items[a.left as usize]), lanes.map(|a| &items[a.right as usize]), idle)
}

/// `base + Σ` of each group's terms, whose sums come one after the other.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn merge<'a>(groups: &[(Point, &[Term])], mut sums: impl Iterator<Item = &'a Entry>) -> Vec<Point> {
    let mut bases = enter(groups.iter().map(|(base, _)| Affine::from(base))).into_iter();
    let mut items = Vec::with_capacity(2 * groups.len());
    let mut lengths = Vec::with_capacity(groups.len());
    for (_, terms) in groups {
        let before = items.len();
        // A difference of zero has no sum: what is added up has no infinity in it.
        items.extend(sums.by_ref().take(terms.len()).filter(|sum| !sum.is_infinity()));
        items.extend(bases.next().filter(|base| !base.is_infinity()));
        lengths.push(items.len() - before);
    }
    leave(&add_up(items, lengths))
}

//! `Σ_j w_j · P_j` with weights of 128 bits, by buckets (Pippenger's method), every addition batch-affine.
//!
//! A weight has the signed digits `d_k` in `[−2^(c−1), 2^(c−1)]`, `w = Σ_k d_k · 2^(ck)`. Window by window, `±P_j` goes
//! into the bucket `|d|`; the buckets are summed up, all of them together; and
//!
//! ```text
//! W_k = Σ_m m·B_m = 2^h · Σ_a a·R_a + Σ_b b·Q_b        m = 2^h·a + b
//! R_a = Σ_b B_(2^h·a + b)    Q_b = Σ_a B_(2^h·a + b)
//! Σ_j w_j·P_j = Σ_k 2^(ck) · W_k
//! ```
//!
//! so that a bucket costs two more batch-affine additions, and only the few `R` and `Q` are weighed one by one.
//!
//! Points may be any of the curve, inside the subgroup or not, equal or opposite: additions are complete. Memory: the
//! points twice (with both signs), and a copy for each thread.

use super::ark::{Point, Sum};
use super::batch::{self, Affine, Kernel};
use crate::parallel;

const WEIGHT_BITS: usize = 128;

/// A point as a kernel keeps it in memory.
pub(super) trait Item: Copy + Send + Sync {
    fn enter(points: &[Affine]) -> Vec<Self>;
    fn leave(items: &[Self]) -> Vec<Point>;
    fn is_infinity(&self) -> bool;
    /// The sum of each list (`items`, list after list), all lists together; infinity of an empty one. No item may be
    /// infinity; equal and opposite ones are allowed.
    fn add_up(items: Vec<Self>, lengths: Vec<usize>) -> Vec<Self>;
}

impl Item for Affine {
    fn enter(points: &[Affine]) -> Vec<Self> {
        points.to_vec()
    }

    fn leave(items: &[Self]) -> Vec<Point> {
        items.iter().copied().map(Point::from).collect()
    }

    fn is_infinity(&self) -> bool {
        self.is_infinity()
    }

    fn add_up(items: Vec<Self>, lengths: Vec<usize>) -> Vec<Self> {
        let mut items = items.into_iter();
        batch::add_up(lengths.iter().map(|length| items.by_ref().take(*length).collect()).collect())
    }
}

/// `Σ_j weights_j · points_j`, by the fastest kernel of this machine.
///
/// # Panics
/// If the two differ in length.
pub fn weighted_sum(points: &[Point], weights: &[u128]) -> Point {
    weighted_sum_by(Kernel::available()[0], points, weights)
}

fn weighted_sum_by(kernel: Kernel, points: &[Point], weights: &[u128]) -> Point {
    assert_eq!(points.len(), weights.len(), "one weight a point");
    match kernel {
        Kernel::Scalar => by_buckets::<Affine>(points, weights),
        #[cfg(target_arch = "x86_64")]
        Kernel::Ifma => by_buckets::<super::ifma::Entry>(points, weights),
    }
}

fn by_buckets<T: Item>(points: &[Point], weights: &[u128]) -> Point {
    // Infinity adds nothing.
    let (points, weights): (Vec<Affine>, Vec<u128>) = points
        .iter()
        .zip(weights)
        .filter(|(point, weight)| !point.is_infinity() && **weight != 0)
        .map(|(point, weight)| (Affine::from(point), *weight))
        .unzip();
    let opposite: Vec<Affine> = points.iter().map(|point| Affine { x: point.x, y: -point.y }).collect();
    let signed = [T::enter(&points), T::enter(&opposite)];
    let window_bits = window_bits(points.len());
    let windows: Vec<Vec<i16>> = digits(&weights, window_bits);
    let sums = parallel::map(&windows, |digits| window_sum(&signed, digits, window_bits));
    let mut sum = Sum::ZERO;
    for window in sums.iter().rev() {
        for _ in 0..window_bits {
            sum = sum.double();
        }
        sum += *window;
    }
    sum.to_point()
}

/// Windows that hold the weight and the last carry.
fn windows(window_bits: usize) -> usize {
    WEIGHT_BITS / window_bits + 1
}

/// The width that makes the fewest additions.
fn window_bits(points: usize) -> usize {
    // What a window costs beside its additions (inversions, the few sums weighed one by one), in additions.
    const FIXED: usize = 1000;
    let cost = |bits: usize| windows(bits) * (points + 3 * (1 << (bits - 1)) + FIXED);
    (2..=14).min_by_key(|bits| cost(*bits)).expect("the range is not empty")
}

/// Window by window from the lowest, the digit of each weight.
fn digits(weights: &[u128], window_bits: usize) -> Vec<Vec<i16>> {
    let (full, half) = (1i32 << window_bits, 1i32 << (window_bits - 1));
    let mut windows = vec![vec![0; weights.len()]; windows(window_bits)];
    for (index, weight) in weights.iter().enumerate() {
        let (mut rest, mut carry) = (*weight, 0);
        for window in &mut windows {
            let digit = (rest & (full as u128 - 1)) as i32 + carry;
            carry = (digit > half) as i32;
            window[index] = (digit - carry * full) as i16;
            rest >>= window_bits;
        }
        debug_assert_eq!(carry, 0, "the top window has room for the carry");
    }
    windows
}

/// `W = Σ_m m·B_m`, with `B_m` the sum of the points that have the digit `m`, less those that have `−m`. `signed` are the
/// points and their opposites.
fn window_sum<T: Item>(signed: &[Vec<T>; 2], digits: &[i16], window_bits: usize) -> Sum {
    // Bucket 0 takes what adds nothing.
    let mut lengths = vec![0usize; (1 << (window_bits - 1)) + 1];
    for digit in digits {
        lengths[digit.unsigned_abs() as usize] += 1;
    }
    let mut next = Vec::with_capacity(lengths.len());
    let mut count = 0;
    for length in &lengths[1..] {
        next.push(count);
        count += length;
    }
    let Some(any) = signed[0].first() else { return Sum::ZERO };
    let mut items = vec![*any; count];
    for (index, digit) in digits.iter().enumerate().filter(|(_, digit)| **digit != 0) {
        let place = &mut next[digit.unsigned_abs() as usize - 1];
        items[*place] = signed[(*digit < 0) as usize][index];
        *place += 1;
    }
    lengths.remove(0);
    let buckets = T::add_up(items, lengths);

    // Rows a = 1, 2, … and columns b = 1, 2, …; row and column 0 count for nothing.
    let low_bits = window_bits / 2;
    let (rows, columns) = (buckets.len() >> low_bits, (1 << low_bits) - 1);
    let row = |a: usize| (a << low_bits..(a + 1) << low_bits).step_by(1);
    let column = |b: usize| (b..buckets.len() + 1).step_by(1 << low_bits);
    let (mut items, mut lengths) = (Vec::with_capacity(2 * buckets.len()), Vec::with_capacity(rows + columns));
    for list in (1..=rows).map(row).chain((1..=columns).map(column)) {
        let before = items.len();
        let buckets = list.filter_map(|m| buckets.get(m - 1));
        items.extend(buckets.filter(|bucket| !bucket.is_infinity()).copied());
        lengths.push(items.len() - before);
    }
    let sums = T::leave(&T::add_up(items, lengths));
    let mut sum = weigh(&sums[..rows]);
    for _ in 0..low_bits {
        sum = sum.double();
    }
    sum += weigh(&sums[rows..]);
    sum
}

/// `Σ_i i · points_i`, counted from 1: each sum from the end down to `i` is in it once.
fn weigh(points: &[Point]) -> Sum {
    let (mut tail, mut sum) = (Sum::ZERO, Sum::ZERO);
    for point in points.iter().rev() {
        tail += *point;
        sum += tail;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::{PointBytes, Scalar, naive_msm};
    use crate::setup;

    /// A point of order 3 on the curve: `x = 0`, `y² = 4`.
    fn of_order_three() -> Point {
        let mut bytes = [0; 48];
        bytes[0] = 0x80;
        let point = Point::decode(&PointBytes(bytes)).unwrap();
        let mut thrice = Sum::from(point).double();
        thrice += point;
        assert!(thrice.to_point().is_infinity() && !point.is_in_subgroup());
        point
    }

    fn naive(points: &[Point], weights: &[u128]) -> Point {
        let mut sum = Sum::ZERO;
        for (point, weight) in points.iter().zip(weights) {
            let mut product = Sum::ZERO;
            for bit in (0..WEIGHT_BITS).rev() {
                product = product.double();
                if weight >> bit & 1 == 1 {
                    product += *point;
                }
            }
            sum += product;
        }
        sum.to_point()
    }

    #[test]
    fn buckets_agree_with_doubling_and_adding() {
        let strange = of_order_three();
        let base = setup::lagrange();
        let half = 0x8080_8080_8080_8080_8080_8080_8080_8080u128;
        let edges = [1, 2, 3, 0, u128::MAX, u128::MAX - 1, 1 << 127, half, half + 1, half - 1, 0x7f, 0x80, 0x81];
        let random = |i: usize| {
            let hash = blake3::hash(&i.to_le_bytes());
            u128::from_le_bytes(hash.as_bytes()[..16].try_into().unwrap())
        };
        let weights = |count: usize| -> Vec<u128> { (0..count).map(|i| *edges.get(i).unwrap_or(&random(i))).collect() };
        let cycle =
            |points: &[Point], count: usize| -> Vec<Point> { points.iter().cycle().take(count).copied().collect() };
        let sum_of_two = {
            let mut sum = Sum::from(base[0]);
            sum += strange;
            sum.to_point()
        };
        let sets: Vec<(Vec<Point>, Vec<u128>)> = vec![
            (vec![], vec![]),
            (vec![Point::INFINITY, base[3]], vec![7, 0]),
            (cycle(base, 200), weights(200)),
            // Equal and opposite points, infinity, and points outside the subgroup.
            (cycle(&[base[0], -base[0], base[1], Point::INFINITY, strange, -strange, sum_of_two], 300), weights(300)),
            (cycle(&[base[0]], 64), vec![5; 64]),
            (cycle(&[base[0], -base[0]], 64), vec![u128::MAX; 64]),
            (cycle(&[strange], 90), vec![random(0); 90]),
        ];
        for (index, (points, weights)) in sets.iter().enumerate() {
            let expected = naive(points, weights);
            for kernel in Kernel::available() {
                assert_eq!(weighted_sum_by(kernel, points, weights), expected, "set {index}, {kernel:?}");
            }
        }
        // Enough for wide windows.
        let (points, weights) = (cycle(base, 5000), weights(5000));
        let scalars: Vec<Scalar> = weights.iter().map(|weight| Scalar::from_u128(*weight)).collect();
        let expected = naive_msm(&points, &scalars);
        for kernel in Kernel::available() {
            assert_eq!(weighted_sum_by(kernel, &points, &weights), expected, "{kernel:?}");
        }
    }

    #[test]
    fn digits_give_the_weight_at_every_width() {
        for weight in [0, 1, u128::MAX, 1 << 127, 0x5555 << 100, u128::MAX / 3] {
            for bits in 2..=14 {
                let windows = digits(&[weight], bits);
                let mut sum = 0u128;
                for digit in windows.iter().rev() {
                    assert!(digit[0].unsigned_abs() <= 1 << (bits - 1));
                    sum = (sum << bits).wrapping_add_signed(digit[0] as i128);
                }
                assert_eq!(sum, weight);
            }
        }
    }
}

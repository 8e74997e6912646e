//! `Σ_j s_j · P_j` for points of the prime-order subgroup and scalars that fill the field.
//!
//! Scalars are halved by the curve's endomorphism `σ(x, y) = (β·x, y)`, `β³ = 1`: with `X = 0xd201000000010000`, up to its
//! sign the curve's parameter, `[X²]P = −σ²(P)` in the subgroup, and
//!
//! ```text
//! s = a + b·X²    0 ≤ a < X² < 2^128    0 ≤ b ≤ r/X² < 2^128    s·P = a·P + b·(−σ²(P))
//! ```
//!
//! Of a point of the curve outside the subgroup, `P + T` with `T` of an order that divides the cofactor, it makes `s·P` and
//! some cofactor part, which no pairing sees. Many points go through buckets ([`weighted_sum`]), few share their doublings.

use std::sync::OnceLock;

use super::ark::Base;
use super::bucket::weighted_sum;
use super::{Point, Scalar, Sum};

/// The curve's parameter without its sign.
const PARAMETER: u64 = 0xd201_0000_0001_0000;
/// Points up to which doublings are shared: buckets are for more.
const FEW: usize = 28;
/// Bits of a digit where points are few, and the multiples `1, 3, 5, …` that such digits pick from.
const DIGIT_BITS: usize = 5;
const ODD_MULTIPLES: usize = 1 << (DIGIT_BITS - 2);
/// A half scalar's digits: its bits and a carry.
const DIGITS: usize = 129;

/// `Σ_j scalars_j · points_j`, up to the cofactor parts of points outside the subgroup.
///
/// # Panics
/// If the two differ in length.
pub fn msm(points: &[Point], scalars: &[Scalar]) -> Point {
    assert_eq!(points.len(), scalars.len(), "one scalar a point");
    let terms = points.iter().zip(scalars).filter(|(point, scalar)| !point.is_infinity() && !scalar.is_zero());
    let (points, halves): (Vec<Point>, Vec<[u128; 2]>) = terms.map(|(point, scalar)| (*point, halves(scalar))).unzip();
    if points.len() <= FEW {
        return sum_of_few(&points, &halves);
    }
    let images: Vec<Point> = points.iter().map(image).collect();
    let (low, high): (Vec<u128>, Vec<u128>) = halves.iter().map(|[low, high]| (*low, *high)).unzip();
    weighted_sum(&[points, images].concat(), &[low, high].concat())
}

/// `(a, b)` with `s = a + b·X²`.
fn halves(scalar: &Scalar) -> [u128; 2] {
    // s = (b·X + r_2)·X + r_1
    let (once, r_1) = divide(scalar.limbs());
    let (b, r_2) = divide(once);
    let a = r_2 as u128 * PARAMETER as u128 + r_1 as u128;
    [a, b[0] as u128 | (b[1] as u128) << 64]
}

/// Quotient and remainder of an integer by `X`.
fn divide(limbs: [u64; 4]) -> ([u64; 4], u64) {
    let (mut quotient, mut rest) = ([0; 4], 0u64);
    for (place, limb) in quotient.iter_mut().zip(limbs).rev() {
        let part = (rest as u128) << 64 | limb as u128;
        (*place, rest) = ((part / PARAMETER as u128) as u64, (part % PARAMETER as u128) as u64);
    }
    (quotient, rest)
}

/// `−σ²(P)`, which is `[X²]P` in the subgroup.
fn image(point: &Point) -> Point {
    point.coordinates().map_or(Point::INFINITY, |(x, y)| Point::from_coordinates(beta_squared() * x, -y))
}

/// `β²`, of the two primitive cube roots of one the one that makes [`image`] a multiplication by `X²`.
fn beta_squared() -> Base {
    static BETA_SQUARED: OnceLock<Base> = OnceLock::new();
    *BETA_SQUARED.get_or_init(|| {
        let parameter = Scalar::from_u128(PARAMETER as u128);
        let multiple = Sum::of_product(&Point::generator(), &(parameter * parameter)).to_point();
        let [x, multiple_x] = [Point::generator(), multiple].map(|p| p.coordinates().expect("not infinity").0);
        multiple_x * x.inverse().expect("the generator's x is not zero")
    })
}

/// Both halves of all scalars together from the highest bit down.
fn sum_of_few(points: &[Point], halves: &[[u128; 2]]) -> Point {
    // P, 3P, 5P, … of each point.
    let mut multiples = Vec::with_capacity(points.len() * ODD_MULTIPLES);
    for point in points {
        let (mut multiple, twice) = (Sum::from(*point), Sum::from(*point).double());
        for _ in 0..ODD_MULTIPLES {
            multiples.push(multiple);
            multiple += twice;
        }
    }
    let multiples = Sum::to_points(&multiples);
    let images: Vec<Point> = multiples.iter().map(image).collect();
    let digits: Vec<[[i8; DIGITS]; 2]> = halves.iter().map(|both| both.map(digits)).collect();
    let mut sum = Sum::ZERO;
    for bit in (0..DIGITS).rev() {
        sum = sum.double();
        for (index, digits) in digits.iter().enumerate() {
            for (digit, multiples) in digits.iter().map(|digits| digits[bit]).zip([&multiples, &images]) {
                if digit != 0 {
                    let multiple = multiples[index * ODD_MULTIPLES + digit.unsigned_abs() as usize / 2];
                    sum += if digit < 0 { -multiple } else { multiple };
                }
            }
        }
    }
    sum.to_point()
}

/// Digits `d_k` with `half = Σ_k d_k · 2^k`, each odd and below `2^(DIGIT_BITS−1)` in magnitude, or zero; of `DIGIT_BITS`
/// neighbours at most one is not.
fn digits(half: u128) -> [i8; DIGITS] {
    let mut digits = [0; DIGITS];
    // What is left at bit k is (rest + carry)·2^k.
    let (mut rest, mut carry, mut k) = (half, 0, 0);
    while k < DIGITS {
        if rest as i8 & 1 == carry {
            (rest, k) = (rest >> 1, k + 1);
        } else {
            let digit = (rest as i8 & ((1 << DIGIT_BITS) - 1)) + carry;
            carry = digit >> (DIGIT_BITS - 1);
            digits[k] = digit - (carry << DIGIT_BITS);
            (rest, k) = (rest >> DIGIT_BITS, k + DIGIT_BITS);
        }
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::{PointBytes, naive_msm};
    use crate::setup;

    fn scalars(count: usize) -> Vec<Scalar> {
        let parameter = Scalar::from_u128(PARAMETER as u128);
        let square = parameter * parameter;
        let edges = [
            Scalar::ZERO,
            Scalar::ONE,
            -Scalar::ONE,
            parameter,
            square,
            square - Scalar::ONE,
            -square,
            Scalar::from_u128(u128::MAX),
            Scalar::from_u128(1 << 127),
            Scalar::from_u128(0x5555_5555_5555_5555_5555_5555_5555_5555),
        ];
        let mut scalar = Scalar::from_u128(3).pow(1 << 40);
        let more = (0..).map(|_| {
            scalar = scalar * scalar + Scalar::ONE;
            scalar
        });
        edges.into_iter().chain(more).take(count).collect()
    }

    #[test]
    fn halves_and_digits_give_the_scalar_back() {
        let square = Scalar::from_u128((PARAMETER as u128).pow(2));
        for scalar in scalars(300) {
            let [low, high] = halves(&scalar);
            assert!(low < (PARAMETER as u128).pow(2));
            assert_eq!(Scalar::from_u128(low) + square * Scalar::from_u128(high), scalar);
            for half in [low, high] {
                let digits = digits(half);
                assert!(digits.iter().all(|digit| *digit == 0 || (digit & 1 == 1 && digit.abs() < 16)));
                let back = digits.iter().rev().fold(Scalar::ZERO, |sum, digit| {
                    let size = Scalar::from_u128(digit.unsigned_abs() as u128);
                    sum + sum + if *digit < 0 { -size } else { size }
                });
                assert_eq!(back, Scalar::from_u128(half));
            }
        }
    }

    #[test]
    fn multiples_add_up() {
        let scalars = scalars(300);
        let mut points: Vec<Point> = setup::lagrange().to_vec();
        points.extend([Point::INFINITY, Point::generator(), -Point::generator(), points[0], -points[1]]);
        points.extend(points.clone());
        for count in [0, 1, 2, 3, 10, FEW - 1, FEW, FEW + 1, FEW + 2, 100, 270] {
            for from in [0, 1, 2, 250] {
                let (points, scalars) = (&points[from..from + count], &scalars[..count]);
                assert_eq!(msm(points, scalars), naive_msm(points, scalars), "{count} from {from}");
            }
            let same = vec![points[7]; count];
            assert_eq!(msm(&same, &scalars[..count]), naive_msm(&same, &scalars[..count]), "{count} times the same");
        }
    }

    #[test]
    fn a_cofactor_part_stays_one() {
        let three = Point::decode(&PointBytes(std::array::from_fn(|i| if i == 0 { 0x80 } else { 0 }))).unwrap();
        let scalars = scalars(FEW + 1);
        for count in [1, 5, FEW + 1] {
            let inside = &setup::lagrange()[..count];
            let outside: Vec<Point> = inside
                .iter()
                .map(|point| {
                    let mut sum = Sum::from(*point);
                    sum += three;
                    sum.to_point()
                })
                .collect();
            let mut difference = Sum::from(msm(&outside, &scalars[..count]));
            difference += -msm(inside, &scalars[..count]);
            let mut thrice = difference.double();
            thrice += difference;
            assert!(thrice.to_point().is_infinity());
        }
    }
}

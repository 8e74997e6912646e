//! What judges foreign points, on blst: decoding, subgroup checks and pairings.
//!
//! Both libraries keep an element of the base field as six limbs of its Montgomery form to `2^384`, so that a point goes
//! from one to the other by copying.
#![allow(unsafe_code)]

use std::sync::OnceLock;

use ::blst::{
    BLST_ERROR, blst_fp, blst_fp_eucl_inverse, blst_fp6, blst_fp12, blst_miller_loop_lines, blst_p1_affine,
    blst_p1_affine_in_g1, blst_p1_uncompress, blst_p2_affine, blst_p2_uncompress, blst_precompute_lines,
};

use super::ark::Base;
use super::{G2Point, NotAPoint, Point, PointBytes};

/// Lines of a Miller loop.
const LINES: usize = 68;

/// A point of G2 with the lines of its Miller loop, so that a pairing need not walk it again.
#[derive(Clone, Debug)]
pub struct G2Lines(Vec<blst_fp6>);

impl G2Lines {
    /// The lines of a point.
    pub fn of(point: &G2Point) -> Self {
        let mut affine = blst_p2_affine::default();
        // SAFETY: 96 bytes are read, a point is written.
        let verdict = unsafe { blst_p2_uncompress(&mut affine, point.encode().as_ptr()) };
        assert_eq!(verdict, BLST_ERROR::BLST_SUCCESS, "both libraries know the points of G2");
        let mut lines = vec![blst_fp6::default(); LINES];
        // SAFETY: there is room for the lines.
        unsafe { blst_precompute_lines(lines.as_mut_ptr(), &affine) };
        Self(lines)
    }

    fn of_generator() -> &'static Self {
        static ONE: OnceLock<G2Lines> = OnceLock::new();
        ONE.get_or_init(|| Self::of(&G2Point::generator()))
    }

    /// The Miller loop of `e(point, self)`.
    fn miller_loop(&self, point: &Point) -> blst_fp12 {
        let mut value = blst_fp12::default(); // one
        if !point.is_infinity() {
            // SAFETY: there are as many lines as a loop reads.
            unsafe { blst_miller_loop_lines(&mut value, self.0.as_ptr(), &affine(point)) };
        }
        value
    }
}

/// `e(a, [1]₂) = e(b, q)`, by one product of two Miller loops and one final exponentiation.
pub fn pairings_agree(a: &Point, b: &Point, q: &G2Lines) -> bool {
    blst_fp12::finalverify(&G2Lines::of_generator().miller_loop(a), &q.miller_loop(b))
}

pub(super) fn decode(bytes: &PointBytes) -> Result<Point, NotAPoint> {
    let mut affine = blst_p1_affine::default();
    // SAFETY: 48 bytes are read, a point is written.
    match unsafe { blst_p1_uncompress(&mut affine, bytes.0.as_ptr()) } {
        // The second: `x = 0`, a point of order 3. It is written all the same, and it is on the curve.
        BLST_ERROR::BLST_SUCCESS | BLST_ERROR::BLST_POINT_NOT_IN_GROUP => Ok(point(&affine)),
        _ => Err(NotAPoint),
    }
}

/// Of an element that is not zero.
pub(super) fn inverse(element: &Base) -> Base {
    let mut inverse = blst_fp::default();
    // SAFETY: an element is read and one is written.
    unsafe { blst_fp_eucl_inverse(&mut inverse, &blst_fp { l: element.montgomery_limbs() }) };
    Base::from_montgomery_limbs(inverse.l)
}

pub(super) fn is_in_subgroup(point: &Point) -> bool {
    // SAFETY: a point is read.
    unsafe { blst_p1_affine_in_g1(&affine(point)) }
}

/// Infinity is `(0, 0)` there.
fn affine(point: &Point) -> blst_p1_affine {
    let limbs = |element: Base| blst_fp { l: element.montgomery_limbs() };
    point.coordinates().map_or(blst_p1_affine::default(), |(x, y)| blst_p1_affine { x: limbs(x), y: limbs(y) })
}

/// The library writes reduced coordinates of points of the curve only.
fn point(affine: &blst_p1_affine) -> Point {
    let [x, y] = [affine.x, affine.y].map(|fp| Base::from_montgomery_limbs(fp.l));
    if x.is_zero() && y.is_zero() { Point::INFINITY } else { Point::from_coordinates(x, y) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::portable;
    use super::*;
    use crate::curve::Sum;
    use crate::setup;

    /// The base field's modulus, big-endian.
    const MODULUS: [u8; 48] = [
        0x1a, 0x01, 0x11, 0xea, 0x39, 0x7f, 0xe6, 0x9a, 0x4b, 0x1b, 0xa7, 0xb6, 0x43, 0x4b, 0xac, 0xd7, 0x64, 0x77,
        0x4b, 0x84, 0xf3, 0x85, 0x12, 0xbf, 0x67, 0x30, 0xd2, 0xa0, 0xf6, 0xb0, 0xf6, 0x24, 0x1e, 0xab, 0xff, 0xfe,
        0xb1, 0x53, 0xff, 0xff, 0xb9, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xaa, 0xab,
    ];

    fn small(x: u8) -> [u8; 48] {
        let mut bytes = [0; 48];
        bytes[47] = x;
        bytes
    }

    fn sum(points: &[Point]) -> Point {
        let mut sum = Sum::ZERO;
        points.iter().for_each(|point| sum += *point);
        sum.to_point()
    }

    /// Points of the curve of every kind: of order 1, 3, r, and whatever else small `x` give.
    fn points() -> Vec<Point> {
        let with_x = |x| portable::decode(&PointBytes(flagged(small(x), 0x80)));
        let mut points: Vec<Point> = (0..60).filter_map(|x| with_x(x).ok()).collect();
        let three = points[0];
        assert_eq!(sum(&[three; 3]), Point::INFINITY);
        points.extend([Point::INFINITY, -three, Point::generator(), -Point::generator()]);
        points.extend(setup::lagrange()[..8].iter().flat_map(|point| [*point, sum(&[*point, three])]));
        points
    }

    fn flagged(mut bytes: [u8; 48], flags: u8) -> [u8; 48] {
        bytes[0] |= flags;
        bytes
    }

    #[test]
    fn both_libraries_decode_the_same_encodings() {
        let mut bodies: Vec<[u8; 48]> = (0..40).map(small).collect();
        for step in [0, 1, 2, 0x54, 0x55] {
            for body in [MODULUS[47].wrapping_add(step), MODULUS[47].wrapping_sub(step)] {
                bodies.push(MODULUS);
                bodies.last_mut().unwrap()[47] = body;
            }
        }
        bodies.push(flagged([0xff; 48], 0));
        bodies.extend(points().iter().map(|point| flagged(point.encode().0, 0)).map(|mut bytes| {
            bytes[0] &= 0x1f;
            bytes
        }));
        let mut accepted = 0;
        for body in &bodies {
            for flags in (0..8).map(|bits| bits << 5) {
                let bytes = PointBytes(flagged(*body, flags));
                let decoded = decode(&bytes);
                assert_eq!(decoded, portable::decode(&bytes), "{bytes}");
                if let Ok(point) = decoded {
                    assert_eq!(point.encode(), bytes);
                    accepted += 1;
                }
            }
        }
        assert!(accepted > bodies.len() / 2, "{accepted} of {} bodies", bodies.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn both_libraries_decode_any_bytes_alike(bytes in any::<[[u8; 16]; 3]>(), flags in 0..8u8) {
            let mut bytes: [u8; 48] = bytes.concat().try_into().unwrap();
            // The highest byte of the modulus is 0x1a; below it half of all `x` are on the curve.
            bytes[0] = (bytes[0] % 0x1b) | (flags << 5);
            let decoded = decode(&PointBytes(bytes));
            assert_eq!(decoded, portable::decode(&PointBytes(bytes)));
            if let Ok(point) = decoded {
                assert_eq!(is_in_subgroup(&point), portable::is_in_subgroup(&point));
            }
        }
    }

    #[test]
    fn both_libraries_know_the_subgroup() {
        let inside = points().iter().filter(|point| is_in_subgroup(point)).count();
        assert_eq!(inside, 1 + 2 + 8, "infinity, the generator both ways, eight of the basis");
        for point in points() {
            assert_eq!(is_in_subgroup(&point), portable::is_in_subgroup(&point), "{point:?}");
        }
    }

    #[test]
    fn both_libraries_agree_about_pairings() {
        let tau = Point::decode(&setup::tau_g1()).unwrap();
        let (one, three) = (Point::generator(), points()[0]);
        let portable_tau = portable::G2Lines::of(&setup::tau_g2_point());
        let mut held = 0;
        for a in [tau, one, -tau, Point::INFINITY, sum(&[tau, three]), three] {
            for b in [one, tau, -one, Point::INFINITY, sum(&[one, three]), three] {
                let agree = pairings_agree(&a, &b, setup::tau_g2());
                assert_eq!(agree, portable::pairings_agree(&a, &b, &portable_tau), "{a:?} {b:?}");
                held += agree as usize;
            }
        }
        // A cofactor part does not change the pairing: (τ, τ + 3rd) with (1, 1 + 3rd), (−τ, −1), infinity and 3rd.
        assert_eq!(held, 4 + 1 + 4);
    }

    #[test]
    fn both_libraries_invert_alike() {
        let one = Base::ONE;
        let mut element = Base::power_of_two(200);
        for _ in 0..200 {
            element = element * element + one;
            assert_eq!(inverse(&element), portable::inverse(&element));
            assert_eq!(inverse(&-element) * -element, one);
        }
        assert_eq!((inverse(&one), inverse(&-one)), (one, -one));
        assert_eq!(Base::ZERO.inverse(), None);
    }
}

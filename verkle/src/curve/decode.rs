//! Decoding many points at once, where square roots are found sixteen at a time; the vector kernel's twin of
//! [`Point::decode`].

use super::ark::Base;
use super::ifma::{ROOTS, roots};
use super::{NotAPoint, Point, PointBytes};

/// What the bytes of an encoding say.
enum Said {
    NotAPoint,
    Infinity,
    /// A point with this `x`, of the two the one whose `y` is above `(p−1)/2` or not.
    Finite {
        x: Base,
        large: bool,
    },
}

/// The flags of the highest three bits.
const COMPRESSED: u8 = 0x80;
const INFINITY: u8 = 0x40;
const LARGE: u8 = 0x20;

impl Said {
    fn by(bytes: &PointBytes) -> Self {
        let flags = bytes.0[0];
        if *bytes == PointBytes::INFINITY {
            return Self::Infinity;
        }
        if flags & COMPRESSED == 0 || flags & INFINITY != 0 {
            return Self::NotAPoint;
        }
        let mut x = bytes.0;
        x[0] &= !(COMPRESSED | INFINITY | LARGE);
        match Base::from_be_bytes(&x) {
            Some(x) => Self::Finite { x, large: flags & LARGE != 0 },
            None => Self::NotAPoint,
        }
    }

    /// `x³ + 4`.
    fn square(&self) -> Base {
        match self {
            Self::Finite { x, .. } => *x * x.square() + Base::ONE.double().double(),
            _ => Base::ZERO,
        }
    }
}

/// [`Point::decode`] of at most [`ROOTS`] encodings, on a machine that has the instructions.
pub(super) fn decode_together(encodings: &[PointBytes]) -> Vec<Result<Point, NotAPoint>> {
    let said: Vec<Said> = encodings.iter().map(Said::by).collect();
    let squares: Vec<Base> = said.iter().map(Said::square).collect();
    let point = |((said, square), root): ((&Said, &Base), Base)| match said {
        Said::NotAPoint => Err(NotAPoint),
        Said::Infinity => Ok(Point::INFINITY),
        Said::Finite { .. } if root.square() != *square => Err(NotAPoint),
        // No point has y = 0.
        Said::Finite { x, large } => {
            Ok(Point::from_coordinates(*x, if root.is_large() == *large { root } else { -root }))
        }
    };
    said.iter().zip(&squares).zip(roots(&squares)).map(point).collect()
}

/// Points that are decoded together.
pub(super) const TOGETHER: usize = ROOTS;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ifma;
    use super::*;

    fn alike(encodings: &[PointBytes]) -> usize {
        let alone: Vec<_> = encodings.iter().map(Point::decode).collect();
        assert_eq!(Point::decode_many(encodings), alone);
        if ifma::available() {
            for (together, alone) in encodings.chunks(TOGETHER).zip(alone.chunks(TOGETHER)) {
                assert_eq!(decode_together(together), alone);
            }
        }
        alone.iter().filter(|point| point.is_ok()).count()
    }

    #[test]
    fn edges_are_decoded_as_each_alone() {
        let modulus = Base::from_be_bytes(&[0; 48]).unwrap() - Base::ONE;
        let mut bodies: Vec<[u8; 48]> = Vec::new();
        for last in 0..40 {
            let mut body = [0; 48];
            body[47] = last;
            bodies.push(body);
            // p − 1 and its neighbours.
            let mut body = modulus.to_be_bytes();
            body[47] = body[47].wrapping_add(last).wrapping_sub(20);
            bodies.push(body);
        }
        bodies.push([0xff; 48]);
        let flagged = |(flags, mut body): (u8, [u8; 48])| {
            body[0] = (body[0] & 0x1f) | flags << 5;
            PointBytes(body)
        };
        let all: Vec<PointBytes> =
            (0..8).flat_map(|flags| bodies.iter().map(move |b| (flags, *b))).map(flagged).collect();
        let accepted = alike(&all);
        assert!(accepted > bodies.len() / 2, "{accepted} of {}", all.len());
        for count in 0..40 {
            alike(&all[..count]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_decoded_as_each_alone(all in prop::collection::vec(any::<([[u8; 16]; 3], u8)>(), 0..40)) {
            let encodings: Vec<PointBytes> = all
                .iter()
                .map(|(bytes, flags)| {
                    let mut bytes: [u8; 48] = bytes.concat().try_into().unwrap();
                    // Mostly compressed and finite, with an `x` that is mostly below the modulus.
                    let flags = if flags % 8 < 6 { COMPRESSED | flags & LARGE } else { *flags & 0xe0 };
                    bytes[0] = (bytes[0] % 0x1b) | flags;
                    PointBytes(bytes)
                })
                .collect();
            alike(&encodings);
        }
    }
}

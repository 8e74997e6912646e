//! The curve's types on arkworks: the fields, points and sums, all that does not need to be fast.

use std::ops::{Add, AddAssign, Mul, Neg, Sub};

use ark_bls12_381::{Fq, Fr, G1Affine, G1Projective, G2Affine};
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{AdditiveGroup, BigInteger, BigInteger256, BigInteger384, Field, PrimeField, Zero};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};

use super::{NotAPoint, PointBytes};
use crate::key::SlotScalar;

/// An element of the scalar field `Fr`, below `r`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scalar(pub(super) Fr);

impl Scalar {
    /// The zero of the field.
    pub const ZERO: Self = Self(Fr::ZERO);
    /// The one of the field.
    pub const ONE: Self = Self(Fr::ONE);

    /// 64 little-endian bytes as an integer, modulo `r`: a transcript's challenge (spec §6).
    pub fn from_wide(bytes: &[u8; 64]) -> Self {
        Self(Fr::from_le_bytes_mod_order(bytes))
    }

    /// A small integer.
    pub fn from_u128(value: u128) -> Self {
        Self(Fr::from(value))
    }

    /// 32 big-endian bytes; `None` when the integer is not below `r`.
    pub fn from_be_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let limb = |i: usize| u64::from_be_bytes(bytes[8 * i..8 * i + 8].try_into().expect("eight bytes"));
        Fr::from_bigint(BigInteger256::new([limb(3), limb(2), limb(1), limb(0)])).map(Self)
    }

    /// The integer below `r` in little-endian limbs.
    pub(super) fn limbs(&self) -> [u64; 4] {
        self.0.into_bigint().0
    }

    /// The integer below `r` as 32 little-endian bytes.
    pub fn to_le_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.limbs()) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        bytes
    }

    /// The integer nearest to zero that is this modulo `r`: its sign (true when negative) and its magnitude, below
    /// `r/2 < 2^254`, in little-endian limbs.
    pub(super) fn signed_limbs(&self) -> (bool, [u64; 4]) {
        let (positive, negative) = (self.0.into_bigint(), (-self.0).into_bigint());
        if negative < positive { (true, negative.0) } else { (false, positive.0) }
    }

    /// The multiplicative inverse; `None` of zero.
    pub fn inverse(&self) -> Option<Self> {
        self.0.inverse().map(Self)
    }

    /// `self^exponent`.
    pub fn pow(&self, exponent: u64) -> Self {
        Self(self.0.pow([exponent]))
    }

    /// Whether this is zero.
    pub fn is_zero(&self) -> bool {
        self.0.is_zero()
    }

    /// Inverts every element in place with one inversion; zeros stay.
    pub fn invert_all(scalars: &mut [Self]) {
        let mut inner: Vec<Fr> = scalars.iter().map(|scalar| scalar.0).collect();
        ark_ff::batch_inversion(&mut inner);
        for (scalar, inverse) in scalars.iter_mut().zip(inner) {
            scalar.0 = inverse;
        }
    }
}

impl From<&SlotScalar> for Scalar {
    fn from(slot: &SlotScalar) -> Self {
        Self(Fr::from_bigint(BigInteger256::new(slot.limbs())).expect("a slot scalar is below 2^248"))
    }
}

impl Add for Scalar {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Scalar {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Mul for Scalar {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self(self.0 * other.0)
    }
}

impl Neg for Scalar {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl AddAssign for Scalar {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

/// Limbs of an element of the base field, 64 bits each, little-endian.
pub(super) const BASE_LIMBS: usize = 6;
/// The base field's modulus `p`.
#[cfg(target_arch = "x86_64")]
pub(super) const BASE_MODULUS: [u64; BASE_LIMBS] = Fq::MODULUS.0;

/// An element of the base field, where points have their coordinates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Base(Fq);

impl Base {
    pub(super) const ZERO: Self = Self(Fq::ZERO);
    pub(super) const ONE: Self = Self(Fq::ONE);

    /// `a·2^384 mod p`, the form in which the library keeps an element.
    pub(super) fn montgomery_limbs(&self) -> [u64; BASE_LIMBS] {
        self.0.0.0
    }

    /// The reverse of [`Base::montgomery_limbs`]; the integer must be below `p`.
    #[cfg(any(target_arch = "x86_64", not(any(target_family = "wasm", feature = "portable"))))]
    pub(super) fn from_montgomery_limbs(limbs: [u64; BASE_LIMBS]) -> Self {
        Self(Fq::new_unchecked(BigInteger384::new(limbs)))
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.is_zero()
    }

    pub(super) fn double(&self) -> Self {
        Self(self.0.double())
    }

    pub(super) fn square(&self) -> Self {
        Self(self.0.square())
    }

    /// 48 big-endian bytes; `None` when the integer is not below `p`.
    pub(super) fn from_be_bytes(bytes: &[u8; 48]) -> Option<Self> {
        let limb = |i: usize| u64::from_be_bytes(bytes[8 * i..8 * i + 8].try_into().expect("eight bytes"));
        let limbs = [limb(5), limb(4), limb(3), limb(2), limb(1), limb(0)];
        Fq::from_bigint(BigInteger384::new(limbs)).map(Self)
    }

    /// The reverse of [`Base::from_be_bytes`].
    #[cfg(test)]
    pub(super) fn to_be_bytes(self) -> [u8; 48] {
        self.0.into_bigint().to_bytes_be().try_into().expect("48 bytes an element")
    }

    /// Whether the integer is above `(p−1)/2`.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn is_large(&self) -> bool {
        self.0.into_bigint() > Fq::MODULUS_MINUS_ONE_DIV_TWO
    }

    /// The inverse; `None` of zero.
    pub(super) fn inverse(&self) -> Option<Self> {
        (!self.is_zero()).then(|| super::judge::inverse(self))
    }

    /// [`Base::inverse`] by this library.
    #[cfg(any(test, target_family = "wasm", feature = "portable"))]
    pub(super) fn inverse_portably(&self) -> Self {
        Self(self.0.inverse().expect("only zero has no inverse"))
    }

    /// Inverts every element in place with one inversion; zeros stay.
    pub(super) fn invert_all(elements: &mut [Self]) {
        // (prefix products) · (inverse of all) · (suffix products)
        let mut prefix = Vec::with_capacity(elements.len());
        let mut product = Self::ONE;
        for element in elements.iter().filter(|element| !element.is_zero()) {
            prefix.push(product);
            product = product * *element;
        }
        let Some(mut inverse) = product.inverse() else { return };
        for element in elements.iter_mut().rev().filter(|element| !element.is_zero()) {
            let before = prefix.pop().expect("one prefix an element");
            (*element, inverse) = (before * inverse, inverse * *element);
        }
    }
}

/// What the vector kernel needs to change between its form of an element and this one.
#[cfg(target_arch = "x86_64")]
impl Base {
    pub(super) fn power_of_two(exponent: u64) -> Self {
        Self(Fq::from(2u64).pow([exponent]))
    }

    pub(super) fn inverse_power_of_two(exponent: u64) -> Self {
        Self(Self::power_of_two(exponent).0.inverse().expect("a power of two is not zero"))
    }
}

impl Add for Base {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Base {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Mul for Base {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self(self.0 * other.0)
    }
}

impl Neg for Base {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

/// A point of the curve (affine), or infinity. Not necessarily in the prime-order subgroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Point(pub(super) G1Affine);

impl Point {
    /// The neutral element.
    pub const INFINITY: Self = Self(G1Affine::identity());

    /// The generator of the group.
    pub fn generator() -> Self {
        Self(G1Affine::generator())
    }

    /// `c48(P)`.
    pub fn encode(&self) -> PointBytes {
        let mut bytes = [0; 48];
        self.0.serialize_compressed(&mut bytes[..]).expect("a point of G1 has 48 bytes");
        PointBytes(bytes)
    }

    /// `x ‖ y`, big-endian, 96 bytes; zeros for infinity. How a store keeps a commitment: reading it takes no root.
    pub fn to_affine_bytes(&self) -> [u8; 96] {
        let mut bytes = [0; 96];
        if let Some((x, y)) = self.0.xy() {
            bytes[..48].copy_from_slice(&x.into_bigint().to_bytes_be());
            bytes[48..].copy_from_slice(&y.into_bigint().to_bytes_be());
        }
        bytes
    }

    /// The reverse of [`Point::to_affine_bytes`]; checks the curve's equation and that both coordinates are reduced.
    pub fn from_affine_bytes(bytes: &[u8; 96]) -> Result<Self, NotAPoint> {
        if *bytes == [0; 96] {
            return Ok(Self::INFINITY);
        }
        let coordinate = |half: &[u8]| {
            let element = Base::from_be_bytes(half.try_into().expect("48 bytes a coordinate"));
            element.map(|element| element.0).ok_or(NotAPoint)
        };
        let point = G1Affine::new_unchecked(coordinate(&bytes[..48])?, coordinate(&bytes[48..])?);
        if point.is_on_curve() { Ok(Self(point)) } else { Err(NotAPoint) }
    }

    /// `(x, y)`; `None` for infinity.
    pub(super) fn coordinates(&self) -> Option<(Base, Base)> {
        self.0.xy().map(|(x, y)| (Base(x), Base(y)))
    }

    /// The point with these coordinates, which must be on the curve.
    pub(super) fn from_coordinates(x: Base, y: Base) -> Self {
        Self(G1Affine::new_unchecked(x.0, y.0))
    }

    /// 64 bits that differ from point to point, for tables of them: a part of `x` in the library's form, which is at hand.
    pub fn fingerprint(&self) -> u64 {
        self.0.x.0.0[0]
    }

    /// Whether this is the neutral element.
    pub fn is_infinity(&self) -> bool {
        self.0.is_zero()
    }
}

impl Neg for Point {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

/// A sum of points that has not been brought to affine form yet. Additions are complete: equal points, opposite
/// points and infinity are all allowed.
#[derive(Clone, Copy, Debug)]
pub struct Sum(G1Projective);

impl Sum {
    /// The empty sum.
    pub const ZERO: Self = Self(G1Projective::ZERO);

    /// The point `(x/z², y/z³)`, which must be on the curve; `z` is not zero.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn from_jacobian(x: Base, y: Base, z: Base) -> Self {
        Self(G1Projective::new_unchecked(x.0, y.0, z.0))
    }

    /// Twice this sum.
    pub fn double(&self) -> Self {
        Self(self.0.double())
    }

    /// `scalar` times a point.
    pub fn of_product(point: &Point, scalar: &Scalar) -> Self {
        Self(point.0 * scalar.0)
    }

    /// Brings many sums to affine form, `(X/Z², Y/Z³)`, with one inversion.
    pub fn to_points(sums: &[Self]) -> Vec<Point> {
        let mut inverses: Vec<Base> = sums.iter().map(|sum| Base(sum.0.z)).collect();
        Base::invert_all(&mut inverses);
        let affine = |(sum, inverse): (&Self, Base)| {
            let square = inverse.square();
            match inverse.is_zero() {
                true => Point::INFINITY,
                false => Point::from_coordinates(Base(sum.0.x) * square, Base(sum.0.y) * square * inverse),
            }
        };
        sums.iter().zip(inverses).map(affine).collect()
    }

    /// Brings one sum to affine form.
    pub fn to_point(&self) -> Point {
        Self::to_points(&[*self])[0]
    }
}

impl From<Point> for Sum {
    fn from(point: Point) -> Self {
        Self(point.0.into_group())
    }
}

impl AddAssign<Point> for Sum {
    fn add_assign(&mut self, point: Point) {
        self.0 += point.0;
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

/// A point of G2, in the subgroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct G2Point(pub(super) G2Affine);

impl G2Point {
    /// The generator of the group.
    pub fn generator() -> Self {
        Self(G2Affine::generator())
    }

    /// Decodes the 96-byte compressed encoding, subgroup checked.
    pub fn decode(bytes: &[u8; 96]) -> Result<Self, NotAPoint> {
        G2Affine::deserialize_compressed(&bytes[..]).map(Self).map_err(|_| NotAPoint)
    }

    /// The reverse of [`G2Point::decode`].
    pub fn encode(&self) -> [u8; 96] {
        let mut bytes = [0; 96];
        self.0.serialize_compressed(&mut bytes[..]).expect("a point of G2 has 96 bytes");
        bytes
    }
}

/// `ω = 7^((r−1)/256)`, a primitive 256th root of unity (spec §2).
pub fn root_of_unity_256() -> Scalar {
    Scalar(domain().group_gen)
}

/// `[ℓ_i(τ)]` for `i` in 0..256 from `[τ^k]` for `k` in 0..256: the inverse Fourier transform in the group, since
/// `ℓ_i(X) = 1/256 · Σ_k ω^(−ik) · X^k`.
pub fn lagrange_basis(monomial: &[Point; 256]) -> Vec<Point> {
    let mut sums: Vec<G1Projective> = monomial.iter().map(|point| point.0.into_group()).collect();
    domain().ifft_in_place(&mut sums);
    G1Projective::normalize_batch(&sums).into_iter().map(Point).collect()
}

fn domain() -> Radix2EvaluationDomain<Fr> {
    Radix2EvaluationDomain::new(256).expect("256 divides r - 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affine_bytes_round_trip_and_refuse_what_is_off_the_curve() {
        let doubled = Sum::from(Point::generator()).double().to_point();
        for point in [Point::INFINITY, Point::generator(), -doubled] {
            assert_eq!(Point::from_affine_bytes(&point.to_affine_bytes()), Ok(point));
            assert_eq!(Point::decode(&point.encode()), Ok(point));
        }
        let mut bytes = doubled.to_affine_bytes();
        bytes[95] ^= 1;
        assert_eq!(Point::from_affine_bytes(&bytes), Err(NotAPoint));
        assert_eq!(Point::from_affine_bytes(&[0xff; 96]), Err(NotAPoint));
    }

    #[test]
    fn the_root_of_unity_is_the_one_of_the_spec() {
        // (r − 1)/256 by shifting r − 1, whose low byte is zero.
        let mut exponent = Fr::MODULUS;
        exponent.sub_with_borrow(&BigInteger256::from(1u64));
        exponent >>= 8;
        assert_eq!(root_of_unity_256().0, Fr::from(7u64).pow(exponent));
        assert_ne!(root_of_unity_256().pow(128), Scalar::ONE);
        assert_eq!(root_of_unity_256().pow(256), Scalar::ONE);
    }

    #[test]
    fn the_group_used_has_order_r() {
        let product = Sum::of_product(&Point::generator(), &Scalar(Fr::from(-1i64)));
        assert_eq!(product.to_point(), -Point::generator());
    }
}

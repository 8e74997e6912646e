//! Field arithmetic eight lanes wide.
//!
//! A [`Lanes`] holds eight elements of the base field, limb by limb: limb `i` of lane `j` is lane `j` of vector `i`. The
//! radix is `2^52`, eight limbs, 416 bits, where `p` has 381; so sums and differences are not reduced, they only must
//! stay *bounded*. In Montgomery form with `R = 2^416`:
//!
//! | operation | operands below | result below |
//! |---|---|---|
//! | `mul(a, b)` | `a·b < 2^34 · p^2` | `2p`, limbs below `2^52` |
//! | `add(a, b)` | `a, b` | `a + b` |
//! | `sub(a, b, k·p)` | `b ≤ k·p` | `a + k·p` |
//!
//! All limbs are carried, below `2^52` (the multiplier reads 52 bits of each), after every operation but `products`, whose
//! results go into differences only.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::sync::LazyLock;

pub(super) use super::product::products;
use crate::curve::ark::{BASE_LIMBS, Base};

/// Lanes of a vector.
pub(super) const LANES: usize = 8;
/// Limbs of an element.
pub(super) const LIMBS: usize = 8;
const RADIX_BITS: usize = 52;
const MASK: u64 = (1 << RADIX_BITS) - 1;

/// Eight field elements. Montgomery form, `R = 2^416`, not reduced.
pub(super) type Lanes = [__m512i; LIMBS];

/// A field element in memory: radix `2^52`, Montgomery form with `R = 2^416`, below `2p`.
pub(super) type Packed = [u64; LIMBS];

/// Whether this machine has the instructions.
pub(in crate::curve) fn available() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512ifma")
}

/// `k·p` in radix `2^52`, for `k` below `2^34`.
pub(super) const fn multiple_of_p(k: u64) -> Packed {
    let mut limbs = [0; LIMBS];
    let (mut i, mut carry) = (0, 0u128);
    while i < LIMBS {
        let product = P[i] as u128 * k as u128 + carry;
        limbs[i] = product as u64 & MASK;
        carry = product >> RADIX_BITS;
        i += 1;
    }
    limbs
}

/// `p` in radix `2^52`.
pub(super) const P: [u64; LIMBS] = repack(&crate::curve::ark::BASE_MODULUS);

/// `−p^(−1) mod 2^52`, by Newton's iteration.
pub(super) const P_INVERSE_NEGATED: u64 = {
    let (mut inverse, mut i) = (1u64, 0);
    while i < 6 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(P[0].wrapping_mul(inverse)));
        i += 1;
    }
    inverse.wrapping_neg() & MASK
};

/// Six limbs of 64 bits as eight of 52.
pub(super) const fn repack(limbs: &[u64; BASE_LIMBS]) -> [u64; LIMBS] {
    let mut out = [0; LIMBS];
    let mut i = 0;
    while i < LIMBS {
        let (limb, shift) = (RADIX_BITS * i / 64, RADIX_BITS * i % 64);
        let mut value = if limb < BASE_LIMBS { limbs[limb] >> shift } else { 0 };
        if shift > 64 - RADIX_BITS && limb + 1 < BASE_LIMBS {
            value |= limbs[limb + 1] << (64 - shift);
        }
        out[i] = value & MASK;
        i += 1;
    }
    out
}

/// The reverse of [`repack`], for a value below `2^384`.
pub(super) fn unpack(limbs: &Packed) -> [u64; BASE_LIMBS] {
    let mut out = [0; BASE_LIMBS];
    for (i, limb) in limbs.iter().enumerate() {
        let (at, shift) = (RADIX_BITS * i / 64, RADIX_BITS * i % 64);
        if at < BASE_LIMBS {
            out[at] |= limb << shift;
        }
        if shift > 64 - RADIX_BITS && at + 1 < BASE_LIMBS {
            out[at + 1] |= limb >> (64 - shift);
        }
    }
    out
}

/// The integer below `p` of a Montgomery form `a·2^384`, repacked: `a` itself.
pub(super) fn repack_element(element: &Base) -> Packed {
    repack(&(*element * Base::inverse_power_of_two(384)).montgomery_limbs())
}

/// A field element as the lanes take it.
pub(super) fn pack(element: &Base) -> Packed {
    // Montgomery form there is a·2^384, here a·2^416 = (a·2^32)·2^384.
    repack(&(*element * *SHIFT).montgomery_limbs())
}

static SHIFT: LazyLock<Base> = LazyLock::new(|| Base::power_of_two(32));
static INVERSE_SHIFT: LazyLock<Base> = LazyLock::new(|| Base::inverse_power_of_two(32));

/// The reverse of [`pack`], for a value below `8p`.
pub(super) fn unpack_element(limbs: &Packed) -> Base {
    Base::from_montgomery_limbs(unpack_reduced(limbs)) * *INVERSE_SHIFT
}

/// The value modulo `p`, for a value below `8p < 2^384`.
fn unpack_reduced(limbs: &Packed) -> [u64; BASE_LIMBS] {
    let mut value = unpack(limbs);
    while !less(&value, &crate::curve::ark::BASE_MODULUS) {
        let mut borrow = false;
        for (limb, p) in value.iter_mut().zip(&crate::curve::ark::BASE_MODULUS) {
            let (difference, under) = limb.overflowing_sub(*p);
            let (difference, under_again) = difference.overflowing_sub(borrow as u64);
            (*limb, borrow) = (difference, under | under_again);
        }
    }
    value
}

fn less(a: &[u64; BASE_LIMBS], b: &[u64; BASE_LIMBS]) -> bool {
    a.iter().rev().lt(b.iter().rev())
}

#[target_feature(enable = "avx512f")]
#[inline]
fn splat(value: u64) -> __m512i {
    _mm512_set1_epi64(value as i64)
}

/// Zero in every lane.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn zero() -> Lanes {
    [_mm512_setzero_si512(); LIMBS]
}

/// One in Montgomery form in every lane: `2^416 mod p`.
#[target_feature(enable = "avx512f")]
pub(super) fn one() -> Lanes {
    static ONE: LazyLock<Packed> = LazyLock::new(|| pack(&Base::ONE));
    splat_all(&ONE)
}

/// The same element in every lane.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn splat_all(element: &Packed) -> Lanes {
    std::array::from_fn(|i| splat(element[i]))
}

/// The least representative of each lane, for values below `2p`.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn least(a: &Lanes, p: &Packed) -> Lanes {
    // a − p, whose highest limb is negative where that is below zero.
    let reduced = carried(std::array::from_fn(|i| _mm512_sub_epi64(a[i], splat(p[i]))));
    let below = _mm512_cmplt_epi64_mask(reduced[LIMBS - 1], _mm512_setzero_si512());
    blend(below, &reduced, a)
}

/// Brings limbs of signed 64 bits whose sum is not negative below `2^52` each.
#[target_feature(enable = "avx512f")]
#[inline]
fn carried(mut limbs: Lanes) -> Lanes {
    let mask = splat(MASK);
    for i in 0..LIMBS - 1 {
        limbs[i + 1] = _mm512_add_epi64(limbs[i + 1], _mm512_srai_epi64::<52>(limbs[i]));
        limbs[i] = _mm512_and_si512(limbs[i], mask);
    }
    limbs
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn add(a: &Lanes, b: &Lanes) -> Lanes {
    carried(std::array::from_fn(|i| _mm512_add_epi64(a[i], b[i])))
}

/// `a − b + k·p`, with `kp` from [`multiple_of_p`].
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn sub(a: &Lanes, b: &Lanes, kp: &Packed) -> Lanes {
    carried(std::array::from_fn(|i| _mm512_add_epi64(_mm512_sub_epi64(a[i], b[i]), splat(kp[i]))))
}

/// `a − b − c + k·p`.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn sub_both(a: &Lanes, b: &Lanes, c: &Lanes, kp: &Packed) -> Lanes {
    carried(std::array::from_fn(|i| {
        _mm512_add_epi64(_mm512_sub_epi64(a[i], _mm512_add_epi64(b[i], c[i])), splat(kp[i]))
    }))
}

/// Lane by lane `b` where the mask's bit is set, else `a`.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn blend(mask: __mmask8, a: &Lanes, b: &Lanes) -> Lanes {
    std::array::from_fn(|i| _mm512_mask_blend_epi64(mask, a[i], b[i]))
}

/// Two independent Montgomery products, interleaved: while one waits for its chain of multiply-adds the other goes on.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn mul2(a: [&Lanes; 2], b: [&Lanes; 2]) -> [Lanes; 2] {
    let [t, u] = products(a, b);
    [carried(t), carried(u)]
}

/// One Montgomery product in each lane.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn mul(a: &Lanes, b: &Lanes) -> Lanes {
    let n = splat(P_INVERSE_NEGATED);
    let zero = _mm512_setzero_si512();
    let mut t = [zero; LIMBS + 1];
    for b_i in b {
        for j in 0..LIMBS {
            t[j] = _mm512_madd52lo_epu64(t[j], a[j], *b_i);
        }
        let q = _mm512_madd52lo_epu64(zero, t[0], n);
        for j in 0..LIMBS {
            t[j] = _mm512_madd52lo_epu64(t[j], q, splat(P[j]));
        }
        let carry = _mm512_srli_epi64::<52>(t[0]);
        for j in 0..LIMBS {
            t[j] = _mm512_madd52hi_epu64(t[j + 1], a[j], *b_i);
        }
        for j in 0..LIMBS {
            t[j] = _mm512_madd52hi_epu64(t[j], q, splat(P[j]));
        }
        t[0] = _mm512_add_epi64(t[0], carry);
        t[LIMBS] = zero;
    }
    carried(std::array::from_fn(|i| t[i]))
}

/// Eight elements in memory, as lanes.
///
/// # Safety
/// Each pointer is to [`LIMBS`] limbs that may be read.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) unsafe fn gather(elements: [*const u64; LANES]) -> Lanes {
    // SAFETY: the caller's promise.
    let r = elements.map(|element| unsafe { _mm512_loadu_si512(element.cast()) });
    transpose(r)
}

/// Row `i`, column `j` to row `j`, column `i`.
#[target_feature(enable = "avx512f")]
#[inline]
fn transpose(r: [__m512i; 8]) -> [__m512i; 8] {
    // Pairs of 64-bit columns, then pairs of 128-bit columns, then of 256.
    let s: [__m512i; 8] = std::array::from_fn(|i| match i % 2 {
        0 => _mm512_unpacklo_epi64(r[i], r[i + 1]),
        _ => _mm512_unpackhi_epi64(r[i - 1], r[i]),
    });
    // s[0]: rows 0,1 columns 0,2,4,6; s[1]: rows 0,1 columns 1,3,5,7; s[2], s[3]: rows 2,3; …
    let quad = |a: __m512i, b: __m512i| {
        // columns (0,4) and (2,6) of a pair of rows beside those of the next pair
        (_mm512_shuffle_i64x2::<0x88>(a, b), _mm512_shuffle_i64x2::<0xdd>(a, b))
    };
    let (e0, e1) = quad(s[0], s[2]); // rows 0,1,2,3: columns (0,4), (2,6)
    let (e2, e3) = quad(s[4], s[6]); // rows 4,5,6,7
    let (o0, o1) = quad(s[1], s[3]); // columns (1,5), (3,7)
    let (o2, o3) = quad(s[5], s[7]);
    let pair = |a: __m512i, b: __m512i| (_mm512_shuffle_i64x2::<0x88>(a, b), _mm512_shuffle_i64x2::<0xdd>(a, b));
    let (c0, c4) = pair(e0, e2);
    let (c2, c6) = pair(e1, e3);
    let (c1, c5) = pair(o0, o2);
    let (c3, c7) = pair(o1, o3);
    [c0, c1, c2, c3, c4, c5, c6, c7]
}

/// The lanes one by one: what [`gather`] takes.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn spread(lanes: &Lanes) -> [Packed; LANES] {
    transpose(*lanes).map(|row| {
        let mut out = [0; LIMBS];
        // SAFETY: `out` has room for a vector.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), row) };
        out
    })
}

/// Lane `j` of the result is lane `j + N` of the operand, round about.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn rotate<const N: i32>(a: &Lanes) -> Lanes {
    std::array::from_fn(|i| _mm512_alignr_epi64::<N>(a[i], a[i]))
}

/// The inverses of eight elements; `None` if one of them is zero. Below `2p`.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn invert(v: &Lanes) -> Option<Lanes> {
    // Products of 2, 4 and 8 neighbouring lanes; the last is the product of all, in every lane.
    let two = mul(v, &rotate::<1>(v));
    let four = mul(&two, &rotate::<2>(&two));
    let all = mul(&four, &rotate::<4>(&four));
    let inverse = unpack_element(&spread(&all)[0]).inverse()?;
    let inverse = pack(&inverse).map(|limb| splat(limb));
    // 1/v_j = v_(j+1) · (v_(j+2)·v_(j+3)) · (v_(j+4) … v_(j+7)) / all
    let others = mul(&rotate::<1>(v), &mul(&rotate::<2>(&two), &rotate::<4>(&four)));
    Some(mul(&others, &inverse))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements() -> Vec<Base> {
        let mut elements: Vec<Base> = vec![Base::power_of_two(0), Base::power_of_two(52), Base::power_of_two(380)];
        elements.push(Base::from_montgomery_limbs([0; 6]));
        elements.push(elements[3] - elements[0]); // p − 1
        elements.push(Base::from_montgomery_limbs([1, 0, 0, 0, 0, 0]));
        let mut x = Base::power_of_two(77);
        while elements.len() < 40 {
            x = x * x + elements[elements.len() % 5];
            elements.push(x);
        }
        elements
    }

    /// # Safety
    /// The machine has the instructions.
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn agree_with_the_scalar_field() {
        let elements = elements();
        let lanes = |at: usize| {
            let packed: Vec<Packed> = (0..8).map(|i| pack(&elements[(at + i) % elements.len()])).collect();
            // SAFETY: each pointer is to one packed element.
            unsafe { gather(std::array::from_fn(|i| packed[i].as_ptr())) }
        };
        let expect = |got: &Lanes, at: usize, want: &dyn Fn(usize) -> Base| {
            for (i, lane) in spread(got).iter().enumerate() {
                assert!(lane.iter().all(|limb| *limb <= MASK));
                assert_eq!(unpack_element(lane), want((at + i) % elements.len()), "lane {i} from {at}");
            }
        };
        let count = elements.len();
        for at in 0..count {
            let (a, b) = (lanes(at), lanes(at * 3 + 1));
            let other = |i: usize| elements[(i + count - at % count + at * 3 + 1) % count];
            expect(&a, at, &|i| elements[i]);
            expect(&add(&a, &b), at, &|i| elements[i] + other(i));
            expect(&sub(&a, &b, &multiple_of_p(2)), at, &|i| elements[i] - other(i));
            expect(&mul(&a, &b), at, &|i| elements[i] * other(i));
            let [first, second] = mul2([&a, &b], [&b, &b]);
            expect(&first, at, &|i| elements[i] * other(i));
            expect(&second, at, &|i| other(i) * other(i));
            // Operands at the bound: a·b < 2^34 p^2.
            let wide = (0..10).fold(a, |sum, _| add(&sum, &sum));
            let product = mul(&wide, &wide);
            expect(&product, at, &|i| {
                let wide = elements[i] * Base::power_of_two(10);
                wide * wide
            });
            let safe = add(&a, &one());
            match invert(&safe) {
                Some(inverse) => expect(&mul(&inverse, &safe), at, &|_| elements[0]),
                None => assert!(spread(&safe).iter().any(|lane| unpack_element(lane).is_zero())),
            }
        }
    }

    #[test]
    fn lanes_agree_with_the_scalar_field() {
        if !available() {
            eprintln!("skipped: this machine has no AVX-512 IFMA");
            return;
        }
        // SAFETY: the machine has the instructions.
        unsafe { agree_with_the_scalar_field() }
    }
}

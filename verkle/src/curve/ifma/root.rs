//! Square roots sixteen at a time: since `p ≡ 3 mod 4`, `a^((p+1)/4)` is a root of `a` if `a` has one.
#![allow(unsafe_code)]

use super::field::{LANES, Lanes, Packed, gather, mul2, one, pack, spread, unpack_element};
use crate::curve::ark::{BASE_LIMBS, BASE_MODULUS, Base};

/// Elements of one exponentiation: two interleaved vectors.
pub(in crate::curve) const ROOTS: usize = 2 * LANES;

/// `(p+1)/4`, which is `(p−3)/4 + 1`, in little-endian limbs.
const EXPONENT: [u64; BASE_LIMBS] = {
    let mut limbs = [0; BASE_LIMBS];
    let mut i = 0;
    while i < BASE_LIMBS {
        let above = if i + 1 < BASE_LIMBS { BASE_MODULUS[i + 1] } else { 0 };
        limbs[i] = BASE_MODULUS[i] >> 2 | above << 62;
        i += 1;
    }
    assert!(limbs[0] != u64::MAX, "one more carries no further");
    limbs[0] += 1;
    limbs
};
/// Bits of the exponent that are taken at a time.
const WINDOW_BITS: usize = 4;

/// Of each element its root, or anything if it has none. At most [`ROOTS`] elements, on a machine that has the instructions.
pub(in crate::curve) fn roots(elements: &[Base]) -> Vec<Base> {
    assert!(super::available() && elements.len() <= ROOTS);
    let mut packed = [Packed::default(); ROOTS];
    for (place, element) in packed.iter_mut().zip(elements) {
        *place = pack(element);
    }
    // SAFETY: asserted above.
    let roots = unsafe { powers(&packed) };
    roots[..elements.len()].iter().map(unpack_element).collect()
}

/// `a^((p+1)/4)`, below `2p`.
#[target_feature(enable = "avx512f,avx512ifma")]
fn powers(elements: &[Packed; ROOTS]) -> [Packed; ROOTS] {
    // SAFETY: each pointer is to one packed element.
    let lanes = |from: usize| unsafe { gather(std::array::from_fn(|lane| elements[from + lane].as_ptr())) };
    let elements = [lanes(0), lanes(LANES)];
    let product = |a: &[Lanes; 2], b: &[Lanes; 2]| mul2([&a[0], &a[1]], [&b[0], &b[1]]);
    let mut table = [[one(); 2]; 1 << WINDOW_BITS];
    for power in 1..table.len() {
        table[power] = product(&table[power - 1], &elements);
    }
    let digit = |at: usize| (EXPONENT[at / 64] >> (at % 64)) as usize & (table.len() - 1);
    let mut power = [one(); 2];
    for at in (0..64 * BASE_LIMBS).step_by(WINDOW_BITS).rev() {
        for _ in 0..WINDOW_BITS {
            power = product(&power, &power);
        }
        if digit(at) != 0 {
            power = product(&power, &table[digit(at)]);
        }
    }
    let [low, high] = power.map(|lanes| spread(&lanes));
    std::array::from_fn(|i| if i < LANES { low[i] } else { high[i - LANES] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_of_squares_are_found() {
        if !super::super::available() {
            eprintln!("skipped: this machine has no AVX-512 IFMA");
            return;
        }
        let mut element = Base::power_of_two(300);
        for count in 0..=ROOTS {
            let mut elements = vec![Base::ZERO, Base::ONE, -Base::ONE];
            while elements.len() < count {
                element = element * element + Base::ONE;
                elements.push(element);
            }
            elements.truncate(count);
            let squares: Vec<Base> = elements.iter().map(Base::square).collect();
            for (element, root) in elements.iter().zip(roots(&squares)) {
                assert!(root == *element || root == -*element);
            }
            // Minus one is no square, and neither is minus a square.
            let others: Vec<Base> = squares.iter().map(|square| -*square).collect();
            for (square, root) in others.iter().zip(roots(&others)) {
                assert!(square.is_zero() || root.square() != *square);
            }
        }
    }
}

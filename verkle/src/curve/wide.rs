//! Sums of products in the scalar field, reduced once for many: a product of four limbs by four costs a third of a
//! product modulo `r`.

use ark_bls12_381::{Fr, FrConfig};
use ark_ff::{BigInt, BigInteger, MontConfig, PrimeField};

use super::Scalar;
use crate::key::SlotScalar;

/// `Σ_j a_j · b_j` as an integer, of at most [`WideSum::TERMS_MAX`] terms.
#[derive(Clone, Copy, Debug)]
pub struct WideSum([u64; 8]);

impl WideSum {
    /// The empty sum.
    pub const ZERO: Self = Self([0; 8]);
    /// `a_j < r < 2^255` and `b_j < 2^248`, so that `2^9` products stay below `2^512`.
    pub const TERMS_MAX: usize = 512;

    /// Adds `a · b`.
    #[inline]
    pub fn add_product(&mut self, a: &Scalar, b: &SlotScalar) {
        // `a` is kept as `a·2^256 mod r`, and so the sum is.
        let (a, b) = (a.0.0.0, b.limbs());
        let mut product = [0u64; 8];
        for i in 0..4 {
            let mut carry = 0;
            for j in 0..4 {
                let limb = product[i + j] as u128 + a[j] as u128 * b[i] as u128 + carry as u128;
                (product[i + j], carry) = (limb as u64, (limb >> 64) as u64);
            }
            product[i + 4] = carry;
        }
        let mut carry = false;
        for (sum, limb) in self.0.iter_mut().zip(product) {
            let (partial, over) = sum.overflowing_add(limb);
            let (total, over_again) = partial.overflowing_add(carry as u64);
            (*sum, carry) = (total, over | over_again);
        }
        debug_assert!(!carry, "more than TERMS_MAX products");
    }

    /// The sum modulo `r`.
    pub fn reduce(&self) -> Scalar {
        let [low, high] = [0, 4].map(|at| below_r(self.0[at..at + 4].try_into().expect("four limbs")));
        // low + high·2^256
        Scalar(low + high * two_to_256())
    }

    /// Whether nothing but zeros was added.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 8]
    }
}

/// The element whose form in memory is this integer.
fn below_r(limbs: [u64; 4]) -> Fr {
    let mut integer = BigInt::new(limbs);
    // 2^256 < 3·r
    while integer >= Fr::MODULUS {
        integer.sub_with_borrow(&Fr::MODULUS);
    }
    Fr::new_unchecked(integer)
}

/// `2^256`, by which a product moves the high half's form to its place.
fn two_to_256() -> Fr {
    // The form of an element is it times 2^256; that of 2^256 is 2^512 mod r.
    const FORM: BigInt<4> = <FrConfig as MontConfig<4>>::R2;
    Fr::new_unchecked(FORM)
}

#[cfg(test)]
mod tests {
    use ark_ff::Field;

    use super::*;
    use crate::curve::PointBytes;

    #[test]
    fn sums_of_products_are_those_of_the_field() {
        assert_eq!(two_to_256(), Fr::from(2u64).pow([256]));
        assert!(WideSum::ZERO.is_zero() && WideSum::ZERO.reduce().is_zero());
        let mut largest = [0xff; 32];
        largest[31] = 0;
        let largest = SlotScalar::from_le_bytes(&largest);
        let mut a = -Scalar::ONE;
        // The form of −1/2^256 is the largest integer below `r`.
        let widest = Scalar(-Fr::new_unchecked(BigInt::one()));
        for terms in [1, 2, 3, 17, 511, 512] {
            let (mut wide, mut plain) = (WideSum::ZERO, Scalar::ZERO);
            let (mut widest_sum, mut widest_plain) = (WideSum::ZERO, Scalar::ZERO);
            for j in 0..terms {
                let b = if j % 5 == 0 { largest } else { SlotScalar::node(&PointBytes([j as u8; 48])) };
                wide.add_product(&a, &b);
                plain += a * Scalar::from(&b);
                widest_sum.add_product(&widest, &largest);
                widest_plain += widest * Scalar::from(&largest);
                a = a * a + Scalar::from_u128(j);
            }
            assert_eq!(wide.reduce(), plain, "{terms} terms");
            assert_eq!(widest_sum.reduce(), widest_plain, "{terms} of the largest terms");
        }
    }
}

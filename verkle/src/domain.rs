//! The evaluation domain `ω^0 … ω^255` (spec §2) and division by `X − ω^z` on it.

use std::sync::OnceLock;

use crate::curve::{Scalar, root_of_unity_256};

/// Slots of a node.
pub const WIDTH: usize = 256;

/// The powers of `ω` and the inverses of their differences.
pub struct Domain {
    /// `ω^i`.
    powers: [Scalar; WIDTH],
    /// `1/(ω^k − 1)` for `k` in 1..256; entry 0 is unused.
    inverses: [Scalar; WIDTH],
}

impl Domain {
    /// The one domain, computed on first use.
    pub fn shared() -> &'static Self {
        static DOMAIN: OnceLock<Domain> = OnceLock::new();
        DOMAIN.get_or_init(Self::new)
    }

    fn new() -> Self {
        let omega = root_of_unity_256();
        let mut powers = [Scalar::ONE; WIDTH];
        for i in 1..WIDTH {
            powers[i] = powers[i - 1] * omega;
        }
        let mut inverses = powers.map(|power| power - Scalar::ONE);
        Scalar::invert_all(&mut inverses);
        Self { powers, inverses }
    }

    /// `x_i = ω^i`.
    pub fn point(&self, slot: u8) -> Scalar {
        self.powers[slot as usize]
    }

    /// `1/(ω^i − ω^z) = ω^(−z)/(ω^(i−z) − 1)`.
    ///
    /// # Panics
    /// If `i = z`.
    fn inverse_difference(&self, i: u8, z: u8) -> Scalar {
        assert_ne!(i, z, "a difference of equal points has no inverse");
        self.powers[z.wrapping_neg() as usize] * self.inverses[i.wrapping_sub(z) as usize]
    }

    /// The quotient `q(X) = (f(X) − y)/(X − ω^z)` with `y = f(ω^z)`, as its values on the domain, added to `sum`.
    ///
    /// `q_i = (f_i − y)/(ω^i − ω^z)` for `i ≠ z`. At `z` it is the derivative `f'(ω^z) = −Σ_{i≠z} q_i · ω^(i−z)`,
    /// since `ℓ_i'(ω^z) = ω^(i−z)/(ω^z − ω^i)`.
    pub fn add_quotient(&self, sum: &mut [Scalar; WIDTH], f: &[Scalar; WIDTH], z: u8) {
        let y = f[z as usize];
        let mut at_z = Scalar::ZERO;
        for i in (0..=255u8).filter(|&i| i != z) {
            let q_i = (f[i as usize] - y) * self.inverse_difference(i, z);
            at_z = at_z - q_i * self.powers[i.wrapping_sub(z) as usize];
            sum[i as usize] += q_i;
        }
        sum[z as usize] += at_z;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `f(x)` by Horner from coefficients.
    fn evaluate(coefficients: &[Scalar], x: Scalar) -> Scalar {
        coefficients.iter().rev().fold(Scalar::ZERO, |value, &c| value * x + c)
    }

    #[test]
    fn a_quotient_times_its_divisor_is_the_polynomial() {
        let domain = Domain::shared();
        // q of degree 254, f = q·(X − x_z) + y
        let q: Vec<Scalar> = (0..255u64).map(|i| Scalar::from_u128(i as u128 * 7919 + 13).pow(i + 3)).collect();
        for z in [0, 1, 200, 255] {
            let x_z = domain.point(z);
            let y = Scalar::from_u128(99);
            let f = std::array::from_fn(|i| {
                let x = domain.point(i as u8);
                evaluate(&q, x) * (x - x_z) + y
            });
            let mut sum = [Scalar::ONE; WIDTH];
            domain.add_quotient(&mut sum, &f, z);
            for i in 0..=255u8 {
                assert_eq!(sum[i as usize], evaluate(&q, domain.point(i)) + Scalar::ONE, "slot {i}, opened at {z}");
            }
        }
    }
}

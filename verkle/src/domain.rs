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

    /// `1/(t − ω^z)` for the slots asked for, zero for the others; `None` when `t` is in the domain.
    pub fn inverse_distances(&self, t: Scalar, slots: impl IntoIterator<Item = u8>) -> Option<[Scalar; WIDTH]> {
        if t.pow(WIDTH as u64) == Scalar::ONE {
            return None;
        }
        let mut distances = [Scalar::ZERO; WIDTH];
        for z in slots {
            distances[z as usize] = t - self.powers[z as usize];
        }
        Scalar::invert_all(&mut distances);
        Some(distances)
    }

    /// The quotient `q(X) = (f(X) − y)/(X − ω^z)` with `y = f(ω^z)`, as its values on the domain, added to `sum`. `scaled`
    /// is `ω^(−z) · f`.
    ///
    /// `q_i = (f_i − y)/(ω^i − ω^z) = ω^(−z)·(f_i − y) · 1/(ω^(i−z) − 1)` for `i ≠ z`. At `z` it is the derivative
    /// `f'(ω^z) = −Σ_{i≠z} q_i · ω^(i−z)`, since `ℓ_i'(ω^z) = ω^(i−z)/(ω^z − ω^i)`; and
    /// `q_i · ω^(i−z) = q_i + ω^(−z)·(f_i − y)`, since `ω^k/(ω^k − 1) = 1 + 1/(ω^k − 1)`.
    pub fn add_quotient(&self, sum: &mut [Scalar; WIDTH], scaled: &[Scalar; WIDTH], z: u8) {
        let y = scaled[z as usize];
        let mut at_z = Scalar::ZERO;
        for i in (0..=255u8).filter(|&i| i != z) {
            let difference = scaled[i as usize] - y;
            let q_i = difference * self.inverses[i.wrapping_sub(z) as usize];
            at_z = at_z - q_i - difference;
            sum[i as usize] += q_i;
        }
        sum[z as usize] += at_z;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_inverted_where_asked() {
        let domain = Domain::shared();
        let t = Scalar::from_u128(11);
        let inverses = domain.inverse_distances(t, [3, 255]).unwrap();
        for z in 0..=255u8 {
            let product = inverses[z as usize] * (t - domain.point(z));
            assert_eq!(product, if [3, 255].contains(&z) { Scalar::ONE } else { Scalar::ZERO });
            assert!(domain.inverse_distances(domain.point(z), []).is_none());
        }
    }

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
                (evaluate(&q, x) * (x - x_z) + y) * domain.point(z.wrapping_neg())
            });
            let mut sum = [Scalar::ONE; WIDTH];
            domain.add_quotient(&mut sum, &f, z);
            for i in 0..=255u8 {
                assert_eq!(sum[i as usize], evaluate(&q, domain.point(i)) + Scalar::ONE, "slot {i}, opened at {z}");
            }
        }
    }
}

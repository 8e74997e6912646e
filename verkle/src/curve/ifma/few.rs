//! Few terms, eight lanes wide: no inversion is shared, so none is made until the end.
//!
//! A term's windows are dealt out to as many lanes as fill a vector, neighbouring windows to a lane; each lane adds up its
//! multiples in the coordinates `(X, Y, ZZ, ZZZ)` with `x = X/ZZ`, `y = Y/ZZZ`, `ZZ³ = ZZZ²`, and the lanes of a term are
//! then added up by halves. Formulas: `madd-2008-s` and `add-2008-s` of the Explicit-Formulas Database (short
//! Weierstrass, XYZZ).
//!
//! None of these additions is exceptional: a lane's sum is a multiple of `2^(wk)` for its lowest window `k`, and what it
//! meets, from windows below `k`, is smaller than that and not zero ([`Table::digits`]). What may be infinity is kept
//! apart by a mask. Adding up a group's terms and its base may be exceptional and is left to the library's complete
//! addition.

use super::field::{
    LANES, Lanes, add, blend, least, mul2, multiple_of_p, one, products, rotate, splat_all, spread, sub, sub_both,
    unpack, zero,
};
use super::point::{Entry, LEAVE, load_x, load_y};
use super::rounds::{Digits, recode};
use crate::curve::ark::{Base, Point, Sum};
use crate::curve::table::{Table, Term};

/// Eight sums. Bounds, in multiples of `p`: `x < 8`, `y < 4`, the others below 2.
struct Sums {
    x: Lanes,
    y: Lanes,
    zz: Lanes,
    zzz: Lanes,
    /// Lanes whose sum is not infinity.
    live: u8,
}

/// `base + Σ terms` for each group.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn sums(table: &Table, entries: &[Entry], groups: &[(Point, &[Term])]) -> Vec<Point> {
    let terms: Vec<Term> = groups.iter().flat_map(|(_, terms)| terms.iter().copied()).collect();
    let mut sums = term_sums(table, entries, &terms).into_iter();
    let of_group = |(base, terms): &(Point, &[Term])| {
        let mut sum = Sum::ZERO;
        sums.by_ref().take(terms.len()).for_each(|term| sum += term);
        sum += *base;
        sum
    };
    Sum::to_points(&groups.iter().map(of_group).collect::<Vec<_>>())
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn term_sums(table: &Table, entries: &[Entry], terms: &[Term]) -> Vec<Sum> {
    // Lanes of a term: a power of two, so that a term does not straddle two vectors.
    let lanes = match terms.len() {
        0 | 1 => 8,
        2 => 4,
        3 | 4 => 2,
        _ => 1,
    };
    let steps = table.windows().div_ceil(lanes);
    let vectors = (terms.len() * lanes).div_ceil(LANES);
    let mut digits = vec![Digits::default(); steps * vectors];
    for (index, eight) in terms.chunks(LANES).enumerate() {
        recode(table, eight, |k, of_terms| {
            for (i, at) in of_terms.at.iter().enumerate().take(eight.len()) {
                let lane = (index * LANES + i) * lanes + k / steps;
                let digits = &mut digits[k % steps * vectors + lane / LANES];
                digits.at[lane % LANES] = *at;
                digits.some |= (of_terms.some >> i & 1) << (lane % LANES);
                digits.negate |= (of_terms.negate >> i & 1) << (lane % LANES);
            }
        });
    }
    let mut sums = Vec::with_capacity(vectors * LANES);
    for vector in 0..vectors {
        let mut eight = Sums { x: zero(), y: zero(), zz: zero(), zzz: zero(), live: 0 };
        for digits in digits.iter().skip(vector).step_by(vectors) {
            eight.add_multiples(entries, digits);
        }
        if lanes == 8 {
            eight.add_rotated::<4>();
        }
        if lanes >= 4 {
            eight.add_rotated::<2>();
        }
        if lanes >= 2 {
            eight.add_rotated::<1>();
        }
        sums.extend(eight.leave().into_iter().step_by(lanes));
    }
    sums.truncate(terms.len());
    sums
}

impl Sums {
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn add_multiples(&mut self, entries: &[Entry], digits: &Digits) {
        let [k2, k4, k6, k8] = [2, 4, 6, 8].map(multiple_of_p);
        let multiples = digits.at.map(|at| &entries[at as usize]);
        let (x2, y2) = (load_x(multiples), load_y(multiples));
        let y2 = blend(digits.negate, &y2, &sub(&zero(), &y2, &k2));
        let [u2, s2] = mul2([&x2, &y2], [&self.zz, &self.zzz]);
        let (p, r) = (sub(&u2, &self.x, &k8), sub(&s2, &self.y, &k4));
        let [pp, rr] = mul2([&p, &r], [&p, &r]);
        let [ppp, q] = mul2([&p, &self.x], [&pp, &pp]);
        let x3 = sub_both(&rr, &ppp, &add(&q, &q), &k6);
        let [rise, drop] = products([&r, &self.y], [&sub(&q, &x3, &k8), &ppp]);
        let y3 = sub(&rise, &drop, &k2);
        let [zz3, zzz3] = mul2([&self.zz, &self.zzz], [&pp, &ppp]);
        let (adds, starts) = (digits.some & self.live, digits.some & !self.live);
        let one = one();
        self.x = blend(starts, &blend(adds, &self.x, &x3), &x2);
        self.y = blend(starts, &blend(adds, &self.y, &y3), &y2);
        self.zz = blend(starts, &blend(adds, &self.zz, &zz3), &one);
        self.zzz = blend(starts, &blend(adds, &self.zzz, &zzz3), &one);
        self.live |= digits.some;
    }

    /// Adds to lane `j` the lane `j + N`, round about.
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn add_rotated<const N: i32>(&mut self) {
        let [k2, k6, k8] = [2, 6, 8].map(multiple_of_p);
        let (x2, y2) = (rotate::<N>(&self.x), rotate::<N>(&self.y));
        let (zz2, zzz2) = (rotate::<N>(&self.zz), rotate::<N>(&self.zzz));
        let [u1, u2] = mul2([&self.x, &x2], [&zz2, &self.zz]);
        let [s1, s2] = mul2([&self.y, &y2], [&zzz2, &self.zzz]);
        let (p, r) = (sub(&u2, &u1, &k2), sub(&s2, &s1, &k2));
        let [pp, rr] = mul2([&p, &r], [&p, &r]);
        let [ppp, q] = mul2([&p, &u1], [&pp, &pp]);
        let x3 = sub_both(&rr, &ppp, &add(&q, &q), &k6);
        let [rise, drop] = products([&r, &s1], [&sub(&q, &x3, &k8), &ppp]);
        let y3 = sub(&rise, &drop, &k2);
        let [zz, zzz] = mul2([&self.zz, &self.zzz], [&zz2, &zzz2]);
        let [zz3, zzz3] = mul2([&zz, &zzz], [&pp, &ppp]);
        let live2 = self.live.rotate_right(N as u32);
        let (adds, takes) = (self.live & live2, !self.live & live2);
        self.x = blend(takes, &blend(adds, &self.x, &x3), &x2);
        self.y = blend(takes, &blend(adds, &self.y, &y3), &y2);
        self.zz = blend(takes, &blend(adds, &self.zz, &zz3), &zz2);
        self.zzz = blend(takes, &blend(adds, &self.zzz, &zzz3), &zzz2);
        self.live |= live2;
    }

    /// The sums as the library has them: with `Z = ZZZ`, `x = X·ZZ²/Z²` and `y = Y·ZZZ²/Z³`.
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn leave(&self) -> [Sum; LANES] {
        let (factor, p) = (splat_all(&LEAVE), multiple_of_p(1));
        let [zz_square, zzz_square] = mul2([&self.zz, &self.zzz], [&self.zz, &self.zzz]);
        let [x, y] = mul2([&self.x, &self.y], [&zz_square, &zzz_square]);
        let [x, y] = mul2([&x, &y], [&factor, &factor]);
        let [z, _] = mul2([&self.zzz, &factor], [&factor, &factor]);
        let [x, y, z] =
            [&x, &y, &z].map(|lanes| spread(&least(lanes, &p)).map(|e| Base::from_montgomery_limbs(unpack(&e))));
        std::array::from_fn(|lane| match self.live >> lane & 1 {
            1 => Sum::from_jacobian(x[lane], y[lane], z[lane]),
            _ => Sum::ZERO,
        })
    }
}

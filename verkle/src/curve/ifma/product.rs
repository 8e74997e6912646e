//! The multiplication of `field.rs`, in assembly: two independent Montgomery products, interleaved.
//!
//! For each limb `b_i`, with `n = −p^(−1) mod 2^52`:
//!
//! ```text
//! t += lo(a·b_i)    q = lo(t_0·n)    t += lo(q·p)    t = t / 2^52    t += hi(a·b_i) + hi(q·p)
//! ```
//!
//! The sixteen limbs of both `t` stay in registers and change their names from one step to the next, which is the
//! division; `a` and `p` are read where they lie. A compiler keeps `a` in registers, too, has not enough of them, and
//! needs half as long again for moving them about; `field::mul` is the same in intrinsics, and the tests compare the two.

#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::_mm512_setzero_si512;

use super::field::{LIMBS, Lanes, P, P_INVERSE_NEGATED};

/// `p`, then `−p^(−1) mod 2^52`.
static CONSTANTS: [u64; LIMBS + 1] = {
    let mut constants = [P_INVERSE_NEGATED; LIMBS + 1];
    let mut i = 0;
    while i < LIMBS {
        constants[i] = P[i];
        i += 1;
    }
    constants
};

/// `x·y` of one limb by one limb into both accumulators: `t += part(a_j · b_i)`.
macro_rules! times_a {
    ($part:literal, $t:literal, $u:literal, $j:literal) => {
        concat!(
            "vpmadd52",
            $part,
            " zmm",
            $t,
            ", zmm24, [{a0} + 64*",
            $j,
            "]\n",
            "vpmadd52",
            $part,
            " zmm",
            $u,
            ", zmm25, [{a1} + 64*",
            $j,
            "]\n",
        )
    };
}

/// `t += part(q · p_j)`.
macro_rules! times_p {
    ($part:literal, $t:literal, $u:literal, $j:literal) => {
        concat!(
            "vpmadd52",
            $part,
            " zmm",
            $t,
            ", zmm26, [{p} + 8*",
            $j,
            "]{{1to8}}\n",
            "vpmadd52",
            $part,
            " zmm",
            $u,
            ", zmm27, [{p} + 8*",
            $j,
            "]{{1to8}}\n",
        )
    };
}

/// One limb of `b`. The registers are named from the limb of weight one upwards; after the step the first of them is the
/// highest limb.
macro_rules! step {
    (
        $i:literal,
        $t0:literal $t1:literal $t2:literal $t3:literal $t4:literal $t5:literal $t6:literal $t7:literal,
        $u0:literal $u1:literal $u2:literal $u3:literal $u4:literal $u5:literal $u6:literal $u7:literal
    ) => {
        concat!(
            "vmovdqu64 zmm24, [{b0} + 64*",
            $i,
            "]\n",
            "vmovdqu64 zmm25, [{b1} + 64*",
            $i,
            "]\n",
            times_a!("luq", $t0, $u0, 0),
            "vpxorq zmm26, zmm26, zmm26\n",
            "vpxorq zmm27, zmm27, zmm27\n",
            "vpmadd52luq zmm26, zmm",
            $t0,
            ", zmm28\n",
            "vpmadd52luq zmm27, zmm",
            $u0,
            ", zmm28\n",
            times_a!("luq", $t1, $u1, 1),
            times_a!("luq", $t2, $u2, 2),
            times_a!("luq", $t3, $u3, 3),
            times_a!("luq", $t4, $u4, 4),
            times_p!("luq", $t0, $u0, 0),
            times_a!("luq", $t5, $u5, 5),
            times_a!("luq", $t6, $u6, 6),
            times_a!("luq", $t7, $u7, 7),
            "vpsrlq zmm",
            $t0,
            ", zmm",
            $t0,
            ", 52\n",
            "vpsrlq zmm",
            $u0,
            ", zmm",
            $u0,
            ", 52\n",
            times_p!("luq", $t1, $u1, 1),
            times_p!("luq", $t2, $u2, 2),
            times_p!("luq", $t3, $u3, 3),
            "vpaddq zmm",
            $t1,
            ", zmm",
            $t1,
            ", zmm",
            $t0,
            "\n",
            "vpaddq zmm",
            $u1,
            ", zmm",
            $u1,
            ", zmm",
            $u0,
            "\n",
            "vpxorq zmm",
            $t0,
            ", zmm",
            $t0,
            ", zmm",
            $t0,
            "\n",
            "vpxorq zmm",
            $u0,
            ", zmm",
            $u0,
            ", zmm",
            $u0,
            "\n",
            times_p!("luq", $t4, $u4, 4),
            times_p!("luq", $t5, $u5, 5),
            times_p!("luq", $t6, $u6, 6),
            times_p!("luq", $t7, $u7, 7),
            times_a!("huq", $t1, $u1, 0),
            times_a!("huq", $t2, $u2, 1),
            times_a!("huq", $t3, $u3, 2),
            times_a!("huq", $t4, $u4, 3),
            times_p!("huq", $t1, $u1, 0),
            times_a!("huq", $t5, $u5, 4),
            times_a!("huq", $t6, $u6, 5),
            times_a!("huq", $t7, $u7, 6),
            times_a!("huq", $t0, $u0, 7),
            times_p!("huq", $t2, $u2, 1),
            times_p!("huq", $t3, $u3, 2),
            times_p!("huq", $t4, $u4, 3),
            times_p!("huq", $t5, $u5, 4),
            times_p!("huq", $t6, $u6, 5),
            times_p!("huq", $t7, $u7, 6),
            times_p!("huq", $t0, $u0, 7),
        )
    };
}

/// Two Montgomery products below `2p`, whose limbs are not carried: below `2^58` each.
///
/// Never inlined: the registers are all taken, and six copies of this would not stay in the instruction cache.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline(never)]
pub(super) fn products(a: [&Lanes; 2], b: [&Lanes; 2]) -> [Lanes; 2] {
    let mut t = [_mm512_setzero_si512(); LIMBS];
    let mut u = t;
    // SAFETY: the five pointers are to as many limbs as are read: `LIMBS` vectors of each operand and all constants.
    // Memory is not written, and every register that changes is declared.
    unsafe {
        asm!(
            "vpbroadcastq zmm28, [{p} + 64]",
            step!(0, 0 1 2 3 4 5 6 7, 8 9 10 11 12 13 14 15),
            step!(1, 1 2 3 4 5 6 7 0, 9 10 11 12 13 14 15 8),
            step!(2, 2 3 4 5 6 7 0 1, 10 11 12 13 14 15 8 9),
            step!(3, 3 4 5 6 7 0 1 2, 11 12 13 14 15 8 9 10),
            step!(4, 4 5 6 7 0 1 2 3, 12 13 14 15 8 9 10 11),
            step!(5, 5 6 7 0 1 2 3 4, 13 14 15 8 9 10 11 12),
            step!(6, 6 7 0 1 2 3 4 5, 14 15 8 9 10 11 12 13),
            step!(7, 7 0 1 2 3 4 5 6, 15 8 9 10 11 12 13 14),
            a0 = in(reg) a[0].as_ptr(),
            a1 = in(reg) a[1].as_ptr(),
            b0 = in(reg) b[0].as_ptr(),
            b1 = in(reg) b[1].as_ptr(),
            p = in(reg) CONSTANTS.as_ptr(),
            inout("zmm0") t[0], inout("zmm1") t[1], inout("zmm2") t[2], inout("zmm3") t[3],
            inout("zmm4") t[4], inout("zmm5") t[5], inout("zmm6") t[6], inout("zmm7") t[7],
            inout("zmm8") u[0], inout("zmm9") u[1], inout("zmm10") u[2], inout("zmm11") u[3],
            inout("zmm12") u[4], inout("zmm13") u[5], inout("zmm14") u[6], inout("zmm15") u[7],
            out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _, out("zmm28") _,
            options(pure, readonly, nostack),
        );
    }
    [t, u]
}

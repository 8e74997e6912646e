//! Points in the lanes' form: table entries and sums, and the way there from the library's form and back.
#![allow(unsafe_code)]

use std::sync::LazyLock;

use super::field::{
    LANES, Lanes, Packed, gather, least, mul2, multiple_of_p, repack, repack_element, splat_all, spread, unpack,
};
use crate::curve::ark::{Base, Point};
use crate::curve::batch::Affine;

/// A point in memory: coordinates in the lanes' form, below `2p`; two cache lines. Infinity is all zeros.
#[derive(Clone, Copy)]
#[repr(C, align(128))]
pub(in crate::curve) struct Entry {
    pub(super) x: Packed,
    pub(super) y: Packed,
}

impl Entry {
    pub(super) const INFINITY: Self = Self { x: [0; 8], y: [0; 8] };

    pub(super) fn is_infinity(&self) -> bool {
        self.x == [0; 8] && self.y == [0; 8]
    }
}

/// The `x` of eight entries.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load_x(entries: [&Entry; LANES]) -> Lanes {
    // SAFETY: each pointer is to one packed coordinate.
    unsafe { gather(entries.map(|entry| entry.x.as_ptr())) }
}

/// The `y` of eight entries.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load_y(entries: [&Entry; LANES]) -> Lanes {
    // SAFETY: each pointer is to one packed coordinate.
    unsafe { gather(entries.map(|entry| entry.y.as_ptr())) }
}

/// Eight entries from their coordinates, which must be below `2p`.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn store(x: &Lanes, y: &Lanes) -> [Entry; LANES] {
    let (x, y) = (spread(x), spread(y));
    std::array::from_fn(|lane| Entry { x: x[lane], y: y[lane] })
}

// Montgomery form in the library is a·2^384, here a·2^416; a product here is divided by 2^416.
/// `2^448`: from there to here.
static ENTER: LazyLock<Packed> = LazyLock::new(|| repack_element(&Base::power_of_two(448)));
/// `2^384`: from here to there.
pub(super) static LEAVE: LazyLock<Packed> = LazyLock::new(|| repack_element(&Base::power_of_two(384)));

/// Points in the lanes' form.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn enter(points: impl IntoIterator<Item = Affine>) -> Vec<Entry> {
    let repacked =
        |point: Affine| Entry { x: repack(&point.x.montgomery_limbs()), y: repack(&point.y.montgomery_limbs()) };
    let mut entries: Vec<Entry> = points.into_iter().map(repacked).collect();
    let factor = splat_all(&ENTER);
    for eight in entries.chunks_mut(LANES) {
        let [x, y] = multiplied(eight, &factor);
        eight.copy_from_slice(&store(&x, &y)[..eight.len()]);
    }
    entries
}

/// Points in the library's form.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn leave(entries: &[Entry]) -> Vec<Point> {
    let factor = splat_all(&LEAVE);
    let p = multiple_of_p(1);
    let mut points = Vec::with_capacity(entries.len());
    for eight in entries.chunks(LANES) {
        let [x, y] = multiplied(eight, &factor);
        let coordinates = store(&least(&x, &p), &least(&y, &p));
        points.extend(coordinates[..eight.len()].iter().map(|entry| {
            let element = |limbs: &Packed| Base::from_montgomery_limbs(unpack(limbs));
            Point::from(Affine { x: element(&entry.x), y: element(&entry.y) })
        }));
    }
    points
}

/// The coordinates of at most eight entries, times a factor; lanes without an entry repeat the first.
#[target_feature(enable = "avx512f,avx512ifma")]
fn multiplied(eight: &[Entry], factor: &Lanes) -> [Lanes; 2] {
    let entries = std::array::from_fn(|lane| eight.get(lane).unwrap_or(&eight[0]));
    mul2([&load_x(entries), &load_y(entries)], [factor, factor])
}

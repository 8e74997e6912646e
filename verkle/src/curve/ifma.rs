//! The vector kernel: eight additions at a time, with AVX-512's 52-bit multiply-add (IFMA).
//!
//! `field` is arithmetic in lanes, `product` its multiplication; `point` brings points into the lanes' form and back.
//! `batch` is what the table calls: `rounds` and `merge` for many terms, `few` for few. `root` is for decoding points. Everything here is `unsafe` to
//! call on a machine without the instructions; [`available`] tells.

mod batch;
mod few;
mod field;
mod merge;
mod point;
mod product;
mod root;
mod rounds;

pub(super) use batch::{bare_additions, row, sums};
pub(super) use field::available;
pub(super) use point::Entry;
pub(super) use root::{ROOTS, roots};

//! Work spread over the caller's rayon pool where there is much of it: to wake a thread takes longer than a little of it.

use rayon::prelude::*;

/// Items of about half a microsecond each from which on threads pay.
const MANY: usize = 512;

/// `work(item)` for each item, in order of the items.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    if items.len() < MANY { items.iter().map(work).collect() } else { items.par_iter().map(work).collect() }
}

/// The same, of items that are given away.
pub(crate) fn map_into<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    if items.len() < MANY { items.into_iter().map(work).collect() } else { items.into_par_iter().map(work).collect() }
}

/// Both, at the same time if they are of so many items.
pub(crate) fn join(items: usize, a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
    if items < MANY {
        a();
        b();
    } else {
        rayon::join(a, b);
    }
}

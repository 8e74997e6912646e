//! Work spread over the caller's rayon pool; one after the other where there are no threads (wasm).

/// `work(item)` for each item, in order of the items.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    use rayon::prelude::*;
    items.par_iter().map(work).collect()
}

#[cfg(target_family = "wasm")]
pub(crate) fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    items.iter().map(work).collect()
}

/// Items of about a microsecond each from which on threads pay.
const MANY: usize = 256;

/// [`map`] for items of about a microsecond each: few of them are done here and now, since to wake a thread takes longer.
pub(crate) fn map_light<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    map_from(MANY, items, work)
}

/// [`map`], here and now when there are fewer than `items_min` items.
pub(crate) fn map_from<T: Sync, R: Send>(
    items_min: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync + Send,
) -> Vec<R> {
    if items.len() < items_min { items.iter().map(work).collect() } else { map(items, work) }
}

/// Both; at the same time where there are threads and this many items of about a microsecond pay for waking one.
pub(crate) fn join_light<A: Send, B: Send>(
    items: usize,
    a: impl FnOnce() -> A + Send,
    b: impl FnOnce() -> B + Send,
) -> (A, B) {
    #[cfg(not(target_family = "wasm"))]
    if items >= MANY {
        return rayon::join(a, b);
    }
    let _ = items;
    (a(), b())
}

/// Fills memory part by part: `work(index, part, room)`, each thread with a room of its own.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn fill<T: Send, R: Default>(memory: &mut [T], part: usize, work: impl Fn(usize, &mut [T], &mut R) + Sync) {
    use rayon::prelude::*;
    let parts = memory.par_chunks_mut(part).enumerate();
    parts.for_each_init(R::default, |room, (index, part)| work(index, part, room));
}

#[cfg(target_family = "wasm")]
pub(crate) fn fill<T: Send, R: Default>(memory: &mut [T], part: usize, work: impl Fn(usize, &mut [T], &mut R) + Sync) {
    let mut room = R::default();
    memory.chunks_mut(part).enumerate().for_each(|(index, part)| work(index, part, &mut room));
}

/// Threads that [`map`] may use.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn threads() -> usize {
    rayon::current_num_threads()
}

#[cfg(target_family = "wasm")]
pub(crate) fn threads() -> usize {
    1
}

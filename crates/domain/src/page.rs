//! Lists are read in pages, bounded in number and bytes.

use alloc::vec::Vec;

/// A page that reaches this many bytes gets no further item: 1 MiB.
pub const PAGE_BYTES: usize = 1 << 20;

/// One page of a list ordered by id.
#[derive(Clone, PartialEq, Debug)]
pub struct Page<T> {
    /// At most as many as requested, and fewer if they are large: see [`PAGE_BYTES`].
    pub items: Vec<T>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// The next items: at least one, at most `most`, and no further one once they take [`PAGE_BYTES`].
pub(crate) fn page<T>(items: impl Iterator<Item = T>, most: usize, bytes: impl Fn(&T) -> usize) -> Page<T> {
    let (mut items, mut page, mut total) = (items.peekable(), Vec::new(), 0);
    while page.len() < most
        && total < PAGE_BYTES
        && let Some(item) = items.next()
    {
        total += bytes(&item);
        page.push(item);
    }
    Page { items: page, more: items.peek().is_some() }
}

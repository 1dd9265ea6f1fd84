//! Values by a small index, which is reused after its value is removed.
//!
//! It grows in chunks of one size. A vector would double, and moving a million tickets takes longer than a tick may.

use alloc::vec::Vec;

/// Values per chunk.
const PIECE: usize = 1_024;

pub(crate) struct Slab<T> {
    /// Each chunk has its final length, except for the last.
    pieces: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { pieces: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// The index that the value keeps until it is removed.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            if let Some(place) = self.place(number) {
                *place = Some(value);
            }
            return number;
        }
        if self.pieces.last().is_none_or(|piece| piece.len() == PIECE) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        let before = (self.pieces.len() - 1) * PIECE;
        let at = self.pieces.last_mut().map_or(0, |piece| {
            piece.push(Some(value));
            piece.len() - 1
        });
        u32::try_from(before + at).unwrap_or(u32::MAX)
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let value = self.place(number)?.take()?;
        self.free.push(number);
        Some(value)
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        let number = number as usize;
        self.pieces.get(number / PIECE)?.get(number % PIECE)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.place(number)?.as_mut()
    }

    fn place(&mut self, number: u32) -> Option<&mut Option<T>> {
        let number = number as usize;
        self.pieces.get_mut(number / PIECE)?.get_mut(number % PIECE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_numbers_and_numbers_are_used_again() {
        let mut slab = Slab::default();
        let end = 3 * PIECE as u32 + 7;
        for value in 0..end {
            assert_eq!(slab.insert(value), value);
        }
        assert!((0..end).all(|number| slab.get(number) == Some(&number)));
        assert_eq!((slab.remove(5), slab.remove(5), slab.get(5)), (Some(5), None, None));
        assert_eq!((slab.insert(70), slab.insert(71), slab.get(5)), (5, end, Some(&70)));
        if let Some(value) = slab.get_mut(5) {
            *value += 1;
        }
        assert_eq!((slab.get(5), slab.get(end + 1)), (Some(&71), None));
    }

    #[test]
    fn values_do_not_move_when_it_grows() {
        let mut slab = Slab::default();
        slab.insert(0_usize);
        let place: *const usize = slab.get(0).unwrap();
        for value in 1..10 * PIECE {
            slab.insert(value);
        }
        assert!(core::ptr::eq(place, slab.get(0).unwrap()));
    }
}

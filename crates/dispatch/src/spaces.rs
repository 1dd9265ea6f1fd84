//! Spare buffers for what drivers send.

use std::sync::Mutex;

use bytes::BytesMut;

use crate::lock;

/// Maximum read from a driver at a time, in bytes: the parts for one device are written together.
pub(crate) const READ_BYTES: usize = 256 << 10;
/// Spare buffers of [`READ_BYTES`]: on most machines as many as are in use at a time.
const MAX_SPACES: usize = 8;

/// Read buffers for all drivers: only drivers with a message being carried out or partly received hold one.
#[derive(Default)]
pub(crate) struct Spaces(Mutex<Vec<BytesMut>>);

impl Spaces {
    /// An empty buffer of at least this many bytes.
    pub(crate) fn take(&self, at_least: usize) -> BytesMut {
        let spare = lock(&self.0).pop().filter(|space| space.capacity() >= at_least);
        spare.unwrap_or_else(|| BytesMut::with_capacity(at_least.max(READ_BYTES)))
    }

    /// Keeps the buffer if it still has its size and nobody else holds a part of it.
    pub(crate) fn give_back(&self, mut space: BytesMut) {
        space.clear();
        if space.try_reclaim(READ_BYTES) {
            let mut spaces = lock(&self.0);
            if spaces.len() < MAX_SPACES {
                spaces.push(space);
            }
        }
    }
}

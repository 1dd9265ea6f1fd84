//! Converts between a machine's types and the bytes of the log.
//!
//! Plain function pointers, because the stored records are defined elsewhere (and are the same for every log), and so
//! that neither the machine nor its host has to know the format.

use std::error::Error;
use std::fmt;
use std::io;

use sortie_domain::machine::Machine;

use crate::log::PieceSink;

/// The pieces of a stored snapshot, in order, until the first error.
pub type StoredPieces<'a> = dyn Iterator<Item = io::Result<Vec<u8>>> + 'a;

/// Encodes and decodes what a machine stores.
pub struct Codec<M: Machine> {
    /// Appends the stored form of an event.
    pub encode_event: fn(&M::Event, &mut Vec<u8>),
    /// Reads an event's stored form.
    pub decode_event: fn(&[u8]) -> Result<M::Event, DecodeError>,
    /// Passes the stored form of a snapshot to the sink, piece by piece, so that it is never held as a whole. Stops at
    /// the sink's first error.
    pub encode_snapshot: fn(&M::Snapshot, PieceSink<'_>) -> io::Result<()>,
    /// Reads a snapshot's stored form from its pieces, as they were passed to the sink.
    pub decode_snapshot: fn(&mut StoredPieces<'_>) -> Result<M::Snapshot, DecodeError>,
}

impl<M: Machine> Clone for Codec<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Machine> Copy for Codec<M> {}

impl<M: Machine> fmt::Debug for Codec<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec")
    }
}

/// Why stored bytes could not be read.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DecodeError(Box<dyn Error + Send + Sync>);

impl DecodeError {
    /// Takes the decoder's own error, or a text.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(source.into())
    }
}

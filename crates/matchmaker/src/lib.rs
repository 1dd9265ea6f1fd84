//! The matchmaker's connections to the outside.
//!
//! | module or function | contents |
//! |---|---|
//! | [`Work`] | performs its effects: a server for a match, seats of a running one, hooks |
//! | [`hooks`] | custom logic in any language, over HTTP |
//! | [`link`] | news about its matches at the broker, and which of them have free seats |
//! | [`report_faults`] | logs which matches of hooks' answers are ignored |
//! | [`codec`] | conversion between its types and its log |
//!
//! The machine and the broker have separate logs and know each other only by match ids. There is no cursor of one log
//! in the other: a cursor is only correct if it moves in the same commit as its consequences, and two logs share no
//! commits. Instead all commands between the two are idempotent, and after a restart of either, comparing their states
//! finds what was missed.

mod faults;
pub mod hooks;
pub mod link;
mod seats;
mod work;

pub use faults::report_faults;
pub use hooks::{HookError, HookOptions, Hooks};
pub use link::follow;
pub use work::Work;

use sortie_domain::matchmaking::Matchmaker;
use sortie_engine::{Codec, DecodeError};
use sortie_wire::stored::matchmaker as stored;

/// Converts between the matchmaker's types and its log.
#[must_use]
pub fn codec() -> Codec<Matchmaker> {
    Codec {
        encode_event: stored::encode_event,
        decode_event: |bytes| stored::decode_event(bytes).map_err(DecodeError::new),
        encode_snapshot: stored::write_snapshot,
        decode_snapshot: |pieces| stored::read_snapshot(pieces).map_err(DecodeError::new),
    }
}

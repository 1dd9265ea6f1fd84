//! The matchmaker's ties to the world.
//!
//! | where | what |
//! |---|---|
//! | [`Work`] | carries out its effects: a server for a match, seats of a running one, hooks |
//! | [`hooks`] | own logic in any language, over HTTP |
//! | [`link`] | what becomes of its matches at the broker, and which of them have free seats |
//! | [`report_faults`] | says in the process's log which matches of hooks' answers are ignored |
//! | [`codec`] | between its types and its log |
//!
//! The machine and the broker have logs of their own and know each other by match ids only. Why no cursor of one log
//! within the other: a cursor is right only if it moves in the same commit as what it has led to, and two logs have no
//! commit in common. Instead every command of one to the other can be repeated without harm, and after a restart of
//! either what was missed is found by comparing their states.

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

/// Between the matchmaker's types and its log.
#[must_use]
pub fn codec() -> Codec<Matchmaker> {
    Codec {
        encode_event: stored::encode_event,
        decode_event: |bytes| stored::decode_event(bytes).map_err(DecodeError::new),
        encode_snapshot: stored::write_snapshot,
        decode_snapshot: |pieces| stored::read_snapshot(pieces).map_err(DecodeError::new),
    }
}

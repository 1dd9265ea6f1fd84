//! Netcode 1.02 connect tokens: the pass that lets one client id into one server. We mint it, the player carries it,
//! and the game server opens it with the private key that it shares with us.
//!
//! The format is [the standard of netcode](https://github.com/mas-bandwidth/netcode/blob/main/STANDARD.md), but
//! implementations disagree about bytes, so a token always has one [`Dialect`]. Hence our own minter rather than one of
//! the libraries: each speaks only its own dialect, draws keys and reads clocks on its own. This crate is pure: the
//! nonce, the session keys and the times are arguments, so the same arguments yield the same bytes.
//!
//! [`mint`] makes a token of 2048 bytes, [`open`] returns its content, [`read_public`] what a client can read without
//! the private key. [`renet_framed`] adds the prefix that renet's own reader expects.
#![no_std]

extern crate alloc;

mod codec;
mod dialect;
mod key;
mod token;

pub use dialect::{Dialect, UnknownDialect};
pub use key::{BadKey, KEY_BYTES, PrivateKey};
pub use token::{
    Drawn, MAX_SERVER_ADDRESSES, MintError, NONCE_BYTES, OpenError, PublicPart, RENET_FRAMED_BYTES,
    TOKEN_BYTES, Token, TokenSpec, USER_DATA_BYTES, mint, open, read_public, renet_framed,
};

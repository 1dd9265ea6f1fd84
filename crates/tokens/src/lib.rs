//! Netcode 1.02 connect tokens: the pass that lets one client id into one server, made by us, carried by the
//! player, opened by the game server with the private key that it shares with us.
//!
//! The format is [the standard of netcode](https://github.com/mas-bandwidth/netcode/blob/main/STANDARD.md), but
//! implementations disagree about bytes, so a token is always of one [`Dialect`]. Hence a minter of our own
//! rather than one of the libraries: none of them speaks more than its own dialect, and each draws keys and
//! reads clocks by itself. This crate is pure: the nonce, the session keys and the times come in as arguments,
//! so the same arguments give the same bytes.
//!
//! [`mint`] makes a token of 2048 bytes, [`open`] gives back what is in it, [`read_public`] what a client can
//! read without the private key. [`renet_framed`] adds what renet's own reader wants in front.
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

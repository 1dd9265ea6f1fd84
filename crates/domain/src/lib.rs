//! The rules of Sortie, and nothing else: no I/O, no clock, no randomness, no async, no locks, no logging.
//!
//! Each machine is a plain struct that takes a command and the time and returns events, answers and its next deadline.
//! [`machine`] states the contract, [`broker`] brings matches and servers together, [`matchmaking`] forms matches from
//! tickets. Neither knows the other: what both use is in separate modules, such as [`match_spec`], [`properties`],
//! [`connection`] and [`requirements`].
//!
//! The crate is `no_std`, so that impurity does not compile.
#![no_std]

extern crate alloc;

pub mod broker;
mod causes;
pub mod connection;
pub mod content;
pub mod game;
pub mod ids;
pub mod machine;
pub mod match_spec;
pub mod matchmaking;
pub mod page;
pub mod properties;
mod ranks;
pub mod refusal;
pub mod requirements;
pub mod size;
pub mod text;
pub mod time;
pub mod waits;
mod words;

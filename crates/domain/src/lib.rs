//! The rules of Sortie, and nothing else: no I/O, no clock, no randomness, no async, no locks, no logging.
//!
//! Each machine is a plain struct that takes a command and the time and gives events, answers and its next
//! deadline; [`machine`] states the contract, [`broker`] is the one that brings matches and servers together,
//! [`matchmaking`] the one that makes matches of tickets.
//! The crate is `no_std`, so that impurity does not compile.
#![no_std]

extern crate alloc;

pub mod broker;
pub mod content;
pub mod ids;
pub mod machine;
pub mod matchmaking;
pub mod size;
pub mod time;

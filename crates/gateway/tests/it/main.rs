//! The gateway over real HTTP and websockets, in front of a real engine with a broker and scripted game servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod accepting;
mod again;
mod doors;
mod edge;
mod faults;
mod harness;
mod hostile;
mod leaving;
mod one_place;
mod players;
mod queues;
mod seats;
mod tokens;
mod waiting;
mod websocket;

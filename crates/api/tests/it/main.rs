//! The API as its callers meet it: a real broker on a real log behind a real socket.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken expectation fails the test"
)]

mod auth;
mod bad_input;
mod catena;
mod connections;
mod docs;
mod event_stream;
mod events;
mod explain;
mod explained_to_players;
mod grpc;
mod harness;
mod hostile_calls;
mod hostile_http;
mod hostile_http2;
mod native;
mod one_place;
mod openapi;
mod ownership;
mod player_rights;
mod schemas;
mod shares;
mod ticket_events;
mod ticket_explain;
mod tickets;

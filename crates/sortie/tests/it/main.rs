//! The `sortie` binary as its users meet it: over the network and on the command line, with clients and game servers
//! that share no code with it wherever there are such.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod arena;
mod bad_input;
mod config;
mod control_plane;
mod data_folder;
mod demo;
mod example;
mod fleets;
mod game_servers;
mod idle_peers;
mod keys;
mod memory;
mod python;
mod remote_commands;
mod restart;
mod signals;
mod site;

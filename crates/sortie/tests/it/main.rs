//! The `sortie` binary as its users meet it: over the network and on the command line, with clients and game servers
//! that share no code with it wherever there are such.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod adoption;
mod arena;
mod bad_input;
mod bench;
mod clock;
mod completions;
mod config;
mod control_plane;
mod copies;
mod crash_loop;
mod data_folder;
mod demo;
mod description;
mod disk_full;
mod dispatch;
mod dispatch_conformance;
mod dispatch_soak;
mod dispatch_tunnel;
mod dispatcher;
mod example;
mod explained_tickets;
mod fleets;
mod game_servers;
mod genres;
mod idle_peers;
mod keys;
mod matchmaker;
mod memory;
mod metrics;
mod ordered_stop;
mod pages;
mod players;
mod python;
mod queue;
mod ready;
mod remote_commands;
mod restart;
mod sidecar;
mod signals;
mod site;
mod system_limits;
mod tls;
mod torture;

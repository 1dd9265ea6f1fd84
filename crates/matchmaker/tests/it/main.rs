//! The matchmaker hosted: two engines with logs of their own, joined; kills between the two logs; hooks that fail.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, too, fail by panicking")]

mod backfill;
mod hooks;
mod joined;
mod kills;
mod python_hooks;
mod telling;
mod world;

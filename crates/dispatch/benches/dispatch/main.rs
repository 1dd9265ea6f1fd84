//! The data path, against a plain relay without frames and a minimal websocket relay with them, in one run.
//!
//! `cargo bench -p sortie-dispatch --bench dispatch` (a part of it: `-- up down echo udp memory library`)
//!
//! Each relay is a process of its own; this one is the devices and the driver, the driver without a websocket library, so
//! that it is not what is measured. Machine and load decide the figures, so only ratios of one run mean anything: relays
//! take turns, and the median of the rounds counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]
#![allow(missing_docs, reason = "nothing here is public")]
#![allow(
    clippy::disallowed_methods,
    reason = "the load sleeps while it is counted, and a relay ends with its parent"
)]

mod cases;
mod driver;
mod library;
mod load;
mod relays;

use std::collections::BTreeSet;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let Some(("relay", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return relays::run(rest);
    }
    let wanted: BTreeSet<&str> = arguments.iter().map(String::as_str).collect();
    let all: [(&str, fn()); 6] = [
        ("library", library::run),
        ("up", cases::up),
        ("down", cases::down),
        ("echo", cases::echo),
        ("udp", cases::udp),
        ("memory", cases::memory),
    ];
    for (name, case) in all {
        if wanted.is_empty() || wanted.contains(name) {
            case();
        }
    }
}

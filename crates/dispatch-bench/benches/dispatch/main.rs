//! The data path, against a plain relay without frames and a minimal websocket relay with them, in one run; and which
//! websocket library reads fastest.
//!
//! `cargo bench -p sortie-dispatch-bench` (a part of it: `-- up down echo udp memory library`; as JSON at its end: `json`)
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]
#![allow(missing_docs, reason = "nothing here is public")]

mod library;

use sortie_dispatch_bench::{BenchOptions, Case, relay, run};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let Some(("relay", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return relay(rest).unwrap();
    }
    let is_wanted = |name: &str| {
        arguments.iter().all(|argument| argument == "json")
            || arguments.iter().any(|argument| argument == name)
    };
    if is_wanted("library") {
        library::run();
    }
    let mut options = BenchOptions::new(std::env::current_exe().unwrap(), vec!["relay".into()]);
    options.cases = Case::ALL.into_iter().filter(|case| is_wanted(case.name())).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let report = runtime.block_on(run(options, |line| println!("{line}"))).unwrap();
    if arguments.iter().any(|argument| argument == "json") {
        println!("{}", serde_json::to_string_pretty(&report).unwrap());
    }
}

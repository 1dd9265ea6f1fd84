//! The data path, against a plain relay without frames and a minimal websocket relay with them, in one run; and which
//! websocket library reads fastest.
//!
//! `cargo bench -p sortie-bench`. Arguments after `--`: cases (`up down echo udp memory library`), sizes and devices
//! (`bytes=1024,16384`, `devices=1`), `rounds=5`, and `json` for all figures as JSON at the end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]
#![allow(missing_docs, reason = "nothing here is public")]

mod library;

use sortie_bench::data_path::{BenchOptions, Case, relay, run};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let Some(("relay", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return relay(rest).unwrap();
    }
    let mut options = BenchOptions::new(std::env::current_exe().unwrap(), vec!["relay".into()]);
    let (mut wanted, mut is_json) = (Vec::new(), false);
    let numbers = |list: &str| list.split(',').map(|number| number.parse().unwrap()).collect::<Vec<usize>>();
    for argument in &arguments {
        match argument.split_once('=') {
            Some(("bytes", list)) => options.sizes = numbers(list),
            Some(("devices", list)) => options.devices = numbers(list),
            Some(("rounds", count)) => options.rounds = count.parse().unwrap(),
            _ if argument == "json" => is_json = true,
            _ => wanted.push(argument.as_str()),
        }
    }
    let is_wanted = |name: &str| wanted.is_empty() || wanted.contains(&name);
    if is_wanted("library") {
        library::run();
    }
    options.cases = Case::ALL.into_iter().filter(|case| is_wanted(case.name())).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let report = runtime.block_on(run(options, |line| println!("{line}"))).unwrap();
    if is_json {
        println!("{}", serde_json::to_string_pretty(&report).unwrap());
    }
}

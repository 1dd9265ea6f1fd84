//! `sortie bench dispatch`: what goes through a dispatcher, against relays that do less, in one run.
//!
//! What is measured is in `crates/dispatch-bench`, which `cargo bench` runs, too; each relay is a process of this
//! program.

use std::process::ExitCode;

use serde_json::json;
use sortie_dispatch_bench::{BenchError, BenchOptions, Case};

use super::Outcome;
use super::load::Errors;
use crate::cli::{BenchDispatch, DispatchCase, DispatchRelay};
use crate::commands::output::line;
use crate::failure::Failure;

/// The hidden subcommand that a relay is started by.
const RELAY: [&str; 2] = ["bench", "dispatch-relay"];

pub(super) async fn run(options: &BenchDispatch) -> Result<Outcome, Failure> {
    let arguments = RELAY.map(Into::into).to_vec();
    let mut bench = BenchOptions::new(std::env::current_exe()?, arguments);
    bench.sizes.clone_from(&options.sizes);
    bench.devices.clone_from(&options.devices);
    (bench.rounds, bench.time, bench.idle_devices) = (options.rounds, options.lasting, options.idle_devices);
    if !options.cases.is_empty() {
        bench.cases = options.cases.iter().copied().map(measured).collect();
    }
    let is_for_people = !options.json;
    // Rows are shown as they are known: all of them take minutes.
    let show = move |row: &str| {
        if is_for_people {
            let _nobody_reads = line(row);
        }
    };
    let report = sortie_dispatch_bench::run(bench, show).await?;
    let mut document = serde_json::to_value(&report)?;
    document["bench"] = json!("dispatch");
    Ok(Outcome { json: document, text: Vec::new(), errors: Errors::default() })
}

const fn measured(case: DispatchCase) -> Case {
    match case {
        DispatchCase::Up => Case::Up,
        DispatchCase::Down => Case::Down,
        DispatchCase::Echo => Case::Echo,
        DispatchCase::Udp => Case::Udp,
        DispatchCase::Memory => Case::Memory,
    }
}

/// A relay, until whoever started it ends it.
pub(super) async fn relay(options: DispatchRelay) -> Result<ExitCode, Failure> {
    let (tell, told) = tokio::sync::oneshot::channel::<Result<(), BenchError>>();
    // It has a runtime of its own, which this one would be in the way of.
    std::thread::spawn(move || {
        let _nobody_waits = tell.send(sortie_dispatch_bench::relay(&options.arguments));
    });
    told.await??;
    Ok(ExitCode::SUCCESS)
}

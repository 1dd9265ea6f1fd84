//! `sortie bench dispatch`: what goes through a dispatcher, against relays that do less, in one run. Each relay is a
//! process of this program.

use serde_json::json;

use crate::Outcome;
use crate::cli::{DispatchOptions, RelayOptions};
use crate::data_path::{self, BenchError, BenchOptions};
use crate::failure::Failure;
use crate::load::Errors;

/// The hidden subcommand that starts a relay.
const RELAY: [&str; 2] = ["bench", "dispatch-relay"];

pub(crate) async fn run(options: &DispatchOptions, show: fn(&str)) -> Result<Outcome, Failure> {
    let arguments = RELAY.map(Into::into).to_vec();
    let mut bench = BenchOptions::new(std::env::current_exe()?, arguments);
    bench.sizes.clone_from(&options.sizes);
    bench.devices.clone_from(&options.devices);
    (bench.rounds, bench.time, bench.idle_devices) = (options.rounds, options.lasting, options.idle_devices);
    if !options.cases.is_empty() {
        bench.cases.clone_from(&options.cases);
    }
    // Rows are shown as soon as they are known: all of them take minutes.
    let report = data_path::run(bench, show).await?;
    let mut document = serde_json::to_value(&report)?;
    document["bench"] = json!("dispatch");
    Ok(Outcome { json: document, text: Vec::new(), errors: Errors::default() })
}

/// A relay, until the process that started it ends it.
pub(crate) async fn relay(options: RelayOptions) -> Result<(), Failure> {
    let (tell, told) = tokio::sync::oneshot::channel::<Result<(), BenchError>>();
    // It has a runtime of its own, which this one would disturb.
    std::thread::spawn(move || {
        let _nobody_waits = tell.send(data_path::relay(&options.arguments));
    });
    Ok(told.await??)
}

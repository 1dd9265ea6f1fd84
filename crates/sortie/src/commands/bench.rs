//! `sortie bench`: the benchmarks, from the command line.

use std::process::ExitCode;

use sortie_bench::{Program, Report};
use sortie_config::LogFormat;

use super::output::{line, note};
use super::signals::Signals;
use crate::broker::codec;
use crate::cli::Bench;
use crate::failure::Failure;
use crate::logging;

pub(crate) async fn run(options: Bench) -> Result<ExitCode, Failure> {
    logging::start("warn", LogFormat::Text);
    let mut signals = Signals::listen()?;
    // Everything that was started ends when the work is dropped.
    tokio::select! {
        found = sortie_bench::run(options, Program { codec, show }) => {
            let found = found.map_err(|failure| Failure::new(failure.to_string()))?;
            found.as_ref().map_or(Ok(ExitCode::SUCCESS), report)
        }
        _ = signals.next() => Err(Failure::new("interrupted")),
    }
}

fn show(row: &str) {
    let _nobody_reads = line(row);
}

fn report(report: &Report) -> Result<ExitCode, Failure> {
    if report.for_programs {
        line(&report.json)?;
    } else {
        report.text.iter().try_for_each(line)?;
    }
    for example in &report.examples {
        note(format_args!("sortie: {example}"));
    }
    if report.failed_calls == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    note(format_args!("sortie: {} calls failed", report.failed_calls));
    Ok(ExitCode::FAILURE)
}

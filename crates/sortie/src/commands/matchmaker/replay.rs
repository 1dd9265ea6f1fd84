//! `sortie matchmaker replay`: the recorded tickets under several sets of rules, side by side.

use std::collections::BTreeSet;

use comfy_table::{Table, presets};
use serde_json::json;
use sortie_replay::quality::measures;
use sortie_replay::{Percentiles, QueueReport, Recording, Report, Rules, replay};

use super::recorded;
use crate::cli::MatchmakerReplay;
use crate::commands::config;
use crate::commands::output::line;
use crate::failure::Failure;

/// Name of the recording's own rules in the table.
const RECORDED: &str = "as recorded";

pub(super) fn run(options: &MatchmakerReplay) -> Result<(), Failure> {
    let recording = recorded::of(&options.source)?;
    if recording.arrivals.is_empty() {
        return Err(Failure::new(format!("{} contains no tickets", options.source.display())));
    }
    let rules = rules(options, &recording)?;
    let all = rules.iter().flat_map(|rules| rules.settings.iter().map(|(_, settings)| &**settings));
    let measures = measures(all);
    let reports = rules.iter().map(|rules| replay(&recording.arrivals, rules, &measures));
    let reports: Vec<Report> = reports.collect::<Result<_, _>>()?;
    if options.json {
        return line(json!({
            "tickets": recording.arrivals.len(),
            "refused_by_hooks": recording.refused,
            "left_out": recording.beyond,
            "replays": serde_json::to_value(&reports)?,
        }));
    }
    show(&recording, &reports)
}

/// The rules of the recording, if it has any, then those of each configuration.
fn rules(options: &MatchmakerReplay, recording: &Recording) -> Result<Vec<Rules>, Failure> {
    let mut rules = Vec::new();
    if !recording.settings.is_empty() {
        rules.push(Rules { name: RECORDED.to_owned(), settings: recording.settings.clone() });
    }
    for path in &options.configs {
        let config = config::load_file(Some(path.clone()))?;
        let missing = || Failure::new(format!("{} has no section `matchmaker`", path.display()));
        let settings = config.matchmaker.ok_or_else(missing)?.settings;
        rules.push(Rules::fixed(&path.display().to_string(), settings));
    }
    if rules.is_empty() {
        return Err(Failure::new("an exported file contains no rules: name a configuration with --config"));
    }
    Ok(rules)
}

fn show(recording: &Recording, reports: &[Report]) -> Result<(), Failure> {
    line(format_args!("{} tickets", recording.arrivals.len()))?;
    if recording.refused > 0 {
        line(format_args!("{} more were refused by hooks and are left out", recording.refused))?;
    }
    if recording.beyond > 0 {
        line(format_args!("{} more are left out, because there are too many", recording.beyond))?;
    }
    let queues: BTreeSet<&String> = reports.iter().flat_map(|report| report.queues.keys()).collect();
    let none = QueueReport::default();
    for queue in queues {
        let of_queue: Vec<&QueueReport> =
            reports.iter().map(|report| report.queues.get(queue).unwrap_or(&none)).collect();
        line(format_args!("\nqueue {queue}"))?;
        line(table(reports, &of_queue))?;
    }
    Ok(())
}

fn table(reports: &[Report], of_queue: &[&QueueReport]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(std::iter::once("").chain(reports.iter().map(|report| report.rules.as_str())));
    let mut row = |name: &str, cell: &dyn Fn(&QueueReport) -> String| {
        table.add_row(std::iter::once(name.to_owned()).chain(of_queue.iter().map(|queue| cell(queue))));
    };
    row("tickets", &|queue| queue.tickets.to_string());
    row("matched", &|queue| of_all(queue.matched, queue.tickets));
    row("unmatched", &|queue| of_all(queue.unmatched(), queue.tickets));
    row("  timed out", &|queue| queue.timed_out.to_string());
    row("  refused", &|queue| queue.refused.to_string());
    row("  failed", &|queue| queue.failed.to_string());
    row("cancelled", &|queue| queue.left.to_string());
    row("matches", &|queue| queue.matches.to_string());
    row("players in a match", &|queue| {
        queue.players_per_match.map_or_else(|| "–".to_owned(), |players| format!("{players:.1}"))
    });
    row("wait, seconds", &|queue| {
        let seconds = queue.wait_ms.map(|Percentiles { p50, p95, max }| Percentiles {
            p50: p50 / 1e3,
            p95: p95 / 1e3,
            max: max / 1e3,
        });
        percentiles(seconds)
    });
    let names: BTreeSet<&String> = of_queue.iter().flat_map(|queue| queue.quality.keys()).collect();
    // A measure without any value belongs to other queues.
    let measured =
        |name: &&&String| of_queue.iter().any(|queue| queue.quality.get(**name).is_some_and(Option::is_some));
    for name in names.iter().filter(measured) {
        row(name, &|queue| percentiles(queue.quality.get(*name).copied().flatten()));
    }
    table
}

fn of_all(count: usize, all: usize) -> String {
    format!("{count} ({:.1} %)", count as f64 * 100.0 / all.max(1) as f64)
}

fn percentiles(found: Option<Percentiles>) -> String {
    found.map_or_else(
        || "–".to_owned(),
        |Percentiles { p50, p95, max }| format!("p50 {p50:.1}, p95 {p95:.1}, max {max:.1}"),
    )
}

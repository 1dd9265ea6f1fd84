//! `sortie bench matchmaker`: how long the matchmaker's ticks take with many waiting tickets, and how fast it works off
//! a crowd, against a plain scan in the same run. The loads are in `crates/load`, which `cargo bench` runs, too.

use serde_json::{Value, json};
use sortie_load::crowd::Crowd;
use sortie_load::hostile::{self, Found, Hostile};
use sortie_load::kinds::{self, Kind, Kinds};
use sortie_load::steady::{Plan, Steady};
use sortie_load::times::{Times, millis};
use sortie_load::{Case, crowd, steady};

use crate::Outcome;
use crate::cli::{MatchmakerCase, MatchmakerOptions};
use crate::failure::Failure;
use crate::load::Errors;

pub(crate) async fn run(options: &MatchmakerOptions, show: fn(&str)) -> Result<Outcome, Failure> {
    let (mut kinds, mut hostile) = (Vec::new(), Vec::new());
    if options.queues.is_empty() {
        for tickets in options.tickets.iter().copied() {
            (kinds, hostile) = long_searches(tickets, show, kinds, hostile).await?;
        }
    }
    let cases = if options.kinds {
        Vec::new()
    } else if options.queues.is_empty() {
        Case::ALL.to_vec()
    } else {
        options.queues.iter().copied().map(case).collect()
    };
    let (mut steady, mut crowds) = (Vec::new(), Vec::new());
    for case in cases {
        for tickets in options.tickets.iter().copied() {
            let plan = Plan {
                arrivals: options.arrivals,
                warm_up: options.warm_up,
                seconds: options.seconds,
                ..Plan::new(case, tickets)
            };
            // This thread has nothing else to do, and the work must be interruptible.
            let found = tokio::task::spawn_blocking(move || steady::run(plan)).await??;
            let crowd = tokio::task::spawn_blocking(move || crowd::run(case, tickets)).await??;
            // Shown as soon as they are known: all of them take minutes.
            show(&found.to_string());
            show(&crowd.to_string());
            steady.push(of_steady(&found));
            crowds.push(of_crowd(&crowd));
        }
    }
    let document = json!({
        "bench": "matchmaker", "steady": steady, "crowds": crowds, "kinds": kinds, "hostile": hostile,
    });
    Ok(Outcome { json: document, text: Vec::new(), errors: Errors::default() })
}

/// Each kind of rule and pool that makes searches long, and hostile inputs: the results so far, and the number of
/// tickets.
async fn long_searches(
    tickets: u32,
    show: fn(&str),
    mut kinds: Vec<Value>,
    mut hostile: Vec<Value>,
) -> Result<(Vec<Value>, Vec<Value>), Failure> {
    for kind in Kind::ALL {
        let found = tokio::task::spawn_blocking(move || kinds::run(kind, tickets)).await??;
        show(&found.to_string());
        kinds.push(of_kind(&found));
    }
    for input in Hostile::ALL {
        let found = tokio::task::spawn_blocking(move || hostile::run(input, tickets)).await??;
        show(&found.to_string());
        hostile.push(of_hostile(&found));
    }
    Ok((kinds, hostile))
}

fn of_kind(found: &Kinds) -> Value {
    json!({
        "kind": found.kind.name(),
        "tickets": found.tickets,
        "tickets_matched": found.matched,
        "searches_that_go_on": found.unfinished,
        "ticks": times(&found.ticks),
        "inputs": times(&found.inputs),
        "longest_ms": millis(found.longest()),
        "goal_ms": millis(kinds::GOAL),
    })
}

fn of_hostile(found: &Found) -> Value {
    json!({
        "input": found.hostile.name(),
        "tickets": found.tickets,
        "ticks": times(&found.ticks),
        "inputs": times(&found.inputs),
        "explanations": times(&found.explained),
        "deadlines": times(&found.deadlines),
        "start_ms": millis(found.outstanding),
        "longest_ms": millis(found.longest()),
        "goal_ms": millis(hostile::GOAL),
    })
}

const fn case(case: MatchmakerCase) -> Case {
    match case {
        MatchmakerCase::Equality => Case::Equality,
        MatchmakerCase::Skill => Case::Skill,
        MatchmakerCase::Parties => Case::Parties,
    }
}

fn of_steady(found: &Steady) -> Value {
    json!({
        "queue": found.plan.case.name(),
        "waiting": { "least": found.waited.0, "most": found.waited.1 },
        "arrivals_per_second": found.plan.arrivals,
        "tickets_matched": found.matched.0,
        "matches": found.matched.1,
        "tickets_expired": found.expired,
        "tickets_matched_per_second": found.rate(),
        "busy": found.busy(),
        "ticks": times(&found.ticks),
        "starts": times(&found.starts),
        "bytes_per_ticket": found.bytes,
        "backlog": found.backlog,
        "searches_cut": found.cut_searches,
        "scan_ms": { "arrival": millis(found.scan.each), "tick": millis(found.scan_of_a_tick()) },
    })
}

fn of_crowd(found: &Crowd) -> Value {
    let scan = found.scan.map(|(share, took)| json!({ "matched_share": share, "ms": millis(took) }));
    json!({
        "queue": found.case.name(),
        "tickets": found.tickets,
        "tickets_matched": found.matched,
        "tickets_matched_per_second": found.rate(),
        "ticks": times(&found.ticks),
        "scan": scan,
    })
}

/// CPU time in milliseconds, and the longest in wall time.
fn times(times: &Times) -> Value {
    let at = |thousandths| millis(times.processor(thousandths));
    json!({
        "count": times.count(),
        "p50_ms": at(500),
        "p99_ms": at(990),
        "p999_ms": at(999),
        "longest_ms": at(1_000),
        "longest_on_the_wall_ms": millis(times.wall(1_000)),
    })
}

//! An explanation as text, in one line: for players who wait.
//!
//! It is in one place because the gateway and the API describe the same tickets and must not contradict each other.

use super::model::{LostMatch, Status};
use super::{ByType, ExpectedWait, Explanation, Failure, IgnoredMatches, KeptOut, SizeGap};
use crate::text::is_deceptive;
use crate::time::Timestamp;
use crate::words::{Ordinal, seconds};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What players hear once a match is formed.
pub const FINDING_SERVER: &str = "a match was found; a server is looked for";

/// What players of a ticket on hold hear.
pub const ON_HOLD: &str = "on hold: one of its players is in a match of another queue";

/// The state of a ticket, in one line: place, tickets in reach, when it demands less, expected wait.
#[must_use]
pub fn summary(explanation: &Explanation, now: Timestamp) -> String {
    let queue = &explanation.queue;
    match (explanation.status, explanation.ahead) {
        (Status::InProgress, Some(ahead)) => {
            let place = Ordinal(ahead + 1);
            let (reach, next) = (reach(explanation), widens(explanation, now));
            let search = if explanation.searching { "; still searching for a match" } else { "" };
            let wait = expected(explanation);
            format!("waiting for players: {place} in queue {queue}{reach}{search}{next}{wait}")
        }
        (Status::InProgress, None) if explanation.on_hold => format!("{ON_HOLD} (queue {queue})"),
        // A hook looks at it, or its players have to agree.
        (Status::InProgress, None) => format!("waiting in queue {queue}"),
        (Status::FindingServer, _) => FINDING_SERVER.to_string(),
        (Status::Completed, _) => "the match is ready".to_string(),
        (Status::Failed, _) => "no match could be made".to_string(),
        (Status::Cancelled, _) => match explanation.cancelled {
            Some(cause) => format!("the ticket was cancelled: {}", cause.text()),
            None => "the ticket was cancelled".to_string(),
        },
        (Status::TimedOut, _) => "no match was found in time".to_string(),
    }
}

fn reach(explanation: &Explanation) -> String {
    if let Some(rule) = &explanation.held_by {
        return format!(", held back by the rule `{rule}`");
    }
    // No ticket was looked at: either there is none, or this is the short form.
    if explanation.looked_at == 0 {
        return String::new();
    }
    let wanted = explanation.players_wanted.map(|most| format!(" of {most}")).unwrap_or_default();
    let players = explanation.players_in_reach;
    let kept = explanation.kept_out.first().map(|kept| {
        let tickets = if kept.tickets == 1 { "ticket" } else { "tickets" };
        format!(", the rule `{}` keeps {} {tickets} out", kept.rule, kept.tickets)
    });
    let gap = explanation.size_gap.as_ref();
    let sizes = gap.map(|gap| format!(", {}", cannot_make(gap))).unwrap_or_default();
    format!(", {players}{wanted} players in reach{sizes}{}", kept.unwrap_or_default())
}

/// Maximum number of tickets that are listed individually in a sum of sizes.
const MAX_SUMMANDS: usize = 10;
/// Maximum number of teams for which a match is written like `3v3`.
const MAX_SIDES: u32 = 4;

/// Like `parties of 2+2+2 cannot make 3v3`.
fn cannot_make(gap: &SizeGap) -> String {
    let tickets: usize = gap.sizes.iter().map(|(_, count)| count).sum();
    let all: Vec<String> = if tickets <= MAX_SUMMANDS {
        let each =
            gap.sizes.iter().rev().flat_map(|(size, count)| (0..*count).map(move |_| size.to_string()));
        each.collect()
    } else {
        gap.sizes.iter().rev().map(|(size, count)| format!("{count}×{size}")).collect()
    };
    let sum = all.join("+");
    let match_of = if (2..=MAX_SIDES).contains(&gap.teams) {
        (0..gap.teams).map(|_| gap.team.to_string()).collect::<Vec<_>>().join("v")
    } else if gap.teams == 1 {
        format!("one team of {}", gap.team)
    } else {
        format!("{} teams of {}", gap.teams, gap.team)
    };
    format!("parties of {sum} cannot make {match_of}")
}

/// Which sizes cannot fill the teams, and what is missing, as a sentence.
#[must_use]
pub fn of_sizes(gap: &SizeGap) -> String {
    let missing: Vec<String> = gap.missing.iter().map(|(size, count)| of_size(*size, *count)).collect();
    let missing = if missing.is_empty() {
        String::new()
    } else {
        format!("; {} more would fill the teams", missing.join(" and "))
    };
    format!("There are enough players, but {} without splitting a party{missing}.", cannot_make(gap))
}

fn of_size(size: u16, count: usize) -> String {
    match (size, count) {
        (1, 1) => "1 single player".to_string(),
        (1, count) => format!("{count} single players"),
        (size, 1) => format!("1 party of {size}"),
        (size, count) => format!("{count} parties of {size}"),
    }
}

/// What a rule keeps out, as a sentence, including tickets that it keeps out only because of a value's type.
#[must_use]
pub fn of_rule(kept: &KeptOut) -> String {
    let tickets = |count: usize| if count == 1 { "1 ticket".to_string() } else { format!("{count} tickets") };
    let by_type = kept.by_type.as_ref().map(|ByType { property, own, theirs, tickets: count }| {
        let (own, theirs, property) = (shown(own), shown(theirs), shown(property));
        format!(
            "; {} of them only because of a JSON type: `{property}` is {own} in this ticket and {theirs} there",
            *count
        )
    });
    format!("The rule `{}` keeps {} out{}.", kept.rule, tickets(kept.tickets), by_type.unwrap_or_default())
}

/// Which matches of a hook were ignored, in a sentence. `with_problem` adds the problem, which may name other tickets.
#[must_use]
pub fn of_ignored(ignored: &IgnoredMatches, with_problem: bool) -> String {
    let IgnoredMatches { hook, count, first, .. } = ignored;
    let matches = if *count == 1 { "1 match was".to_string() } else { format!("{count} matches were") };
    let problem = if with_problem { format!(": {first}") } else { String::new() };
    format!(
        "In an answer of the hook `{hook}`, which forms the matches of the queue, {matches} ignored{problem}."
    )
}

/// Why a ticket failed, in a sentence.
#[must_use]
pub fn of_failure(failure: &Failure) -> String {
    let Failure { cause, detail, hook, match_id } = failure;
    let reason = if detail.is_empty() { String::new() } else { format!(": {}", shown(detail)) };
    let by = hook.as_ref().map(|hook| format!(" (the hook `{hook}`)")).unwrap_or_default();
    let from = match_id.as_ref().map(|id| format!(" It was in the match {id}.")).unwrap_or_default();
    format!("The ticket failed because {}{by}{reason}.{from}", cause.text())
}

/// How often a ticket returned because no server was found, and why the last time, as a sentence.
#[must_use]
pub fn of_requeues(requeues: u32, lost: Option<&LostMatch>) -> String {
    let times = if requeues == 1 { "once".to_string() } else { format!("{requeues} times") };
    let last = lost.map(|LostMatch { match_id, reason }| {
        let reason = if reason.is_empty() { String::new() } else { format!(" ({})", shown(reason)) };
        let which = if requeues == 1 { "the match" } else { "the last time the match" };
        format!(": {which} {match_id}{reason}")
    });
    format!("It returned to the queue {times} because no server was found{}.", last.unwrap_or_default())
}

/// Text from outside, with deceptive characters escaped.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_deceptive(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

fn widens(explanation: &Explanation, now: Timestamp) -> String {
    let at = explanation.widens_at.filter(|at| *at > now);
    at.map(|at| format!("; its demands relax in {}", seconds(at.since(now)))).unwrap_or_default()
}

/// The expected wait; if it is unknown, at least how long others waited.
fn expected(explanation: &Explanation) -> String {
    match (explanation.expected_wait, explanation.typical_wait) {
        (Some(ExpectedWait { seen: 0, p90, .. }), _) => format!("; at most {} more", seconds(p90)),
        (Some(ExpectedWait { p50, .. }), _) => format!("; about {} more", seconds(p50)),
        (None, Some((half, most))) => {
            format!("; half of the last waited at most {}, nine in ten {}", seconds(half), seconds(most))
        }
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use alloc::vec::Vec;
    use core::time::Duration;

    use super::*;
    use crate::ids::{QueueId, TicketId};
    use crate::matchmaking::KeptOut;
    use crate::matchmaking::model::CancelCause;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn waiting() -> Explanation {
        Explanation {
            ticket: TicketId::new("t").unwrap(),
            queue: QueueId::new("2v2").unwrap(),
            status: Status::InProgress,
            waited: Duration::from_secs(3),
            ahead: Some(2),
            looked_at: 0,
            not_looked_at: 0,
            in_reach: 0,
            named: Vec::new(),
            players_in_reach: 1,
            players_wanted: Some(4),
            team_wanted: 2,
            kept_out: Vec::new(),
            held_by: None,
            searching: false,
            size_gap: None,
            match_id: None,
            requeues: 0,
            on_hold: false,
            lost: None,
            ignored: None,
            failure: None,
            cancelled: None,
            widens_at: None,
            expires_at: None,
            typical_wait: None,
            expected_wait: None,
        }
    }

    #[test]
    fn a_glance_says_the_place_and_nothing_that_it_does_not_know() {
        assert_eq!(summary(&waiting(), NOW), "waiting for players: 3rd in queue 2v2");
    }

    #[test]
    fn whoever_waits_hears_of_others_of_time_and_of_what_keeps_them_apart() {
        let found = Explanation {
            looked_at: 5,
            players_in_reach: 3,
            kept_out: Vec::from([KeptOut { rule: Box::from("skill"), tickets: 3, by_type: None }]),
            widens_at: Some(NOW + Duration::from_millis(5_000)),
            typical_wait: Some((Duration::from_secs(12), Duration::from_secs(40))),
            ..waiting()
        };
        let said = "waiting for players: 3rd in queue 2v2, 3 of 4 players in reach, the rule `skill` keeps 3 tickets out; \
            its demands relax in 5.0 s; half of the last waited at most 12 s, nine in ten 40 s";
        assert_eq!(summary(&found, NOW), said);
        let wait = |seen, p50, p90| {
            let (p50, p90) = (Duration::from_secs(p50), Duration::from_secs(p90));
            let expected_wait = Some(ExpectedWait { seen, p50, p90 });
            summary(&Explanation { expected_wait, ..found.clone() }, NOW)
        };
        assert!(wait(7, 20, 50).ends_with("; its demands relax in 5.0 s; about 20 s more"));
        assert!(wait(0, 50, 50).ends_with("; at most 50 s more"));
        let held = Explanation { held_by: Some(Box::from("level")), widens_at: Some(NOW), ..found };
        let said = summary(&held, NOW);
        assert!(said.contains("held back by the rule `level`") && !said.contains("demands relax"), "{said}");
    }

    #[test]
    fn sizes_types_and_failures_are_put_in_plain_words() {
        let gap = SizeGap { teams: 2, team: 3, sizes: Vec::from([(2, 3)]), missing: Vec::from([(1, 2)]) };
        let said = "There are enough players, but parties of 2+2+2 cannot make 3v3 without splitting a party; \
            2 single players more would fill the teams.";
        assert_eq!(of_sizes(&gap), said);
        let found = Explanation {
            looked_at: 2,
            players_in_reach: 6,
            players_wanted: Some(6),
            size_gap: Some(gap),
            ..waiting()
        };
        let said = "waiting for players: 3rd in queue 2v2, 6 of 6 players in reach, parties of 2+2+2 cannot make 3v3";
        assert_eq!(summary(&found, NOW), said);
        let searching = Explanation { searching: true, ..waiting() };
        let said = "waiting for players: 3rd in queue 2v2; still searching for a match";
        assert_eq!(summary(&searching, NOW), said);
        let many = SizeGap { teams: 12, team: 5, sizes: Vec::from([(2, 1), (4, 30)]), missing: Vec::new() };
        let said = "There are enough players, but parties of 30×4+1×2 cannot make 12 teams of 5 without splitting a party.";
        assert_eq!(of_sizes(&many), said);
        let by_type = ByType {
            property: Box::from("level"),
            own: Box::from("40"),
            theirs: Box::from("\"40\u{202e}\""),
            tickets: 1,
        };
        let kept = KeptOut { rule: Box::from("same level"), tickets: 2, by_type: Some(by_type) };
        let said = "The rule `same level` keeps 2 tickets out; 1 of them only because of a JSON type: `level` is 40 in \
            this ticket and \"40\\u{202e}\" there.";
        assert_eq!(of_rule(&kept), said);
        let cause = crate::matchmaking::model::FailCause::Refused;
        let failure = Failure { cause, detail: "banned".into(), hook: None, match_id: None };
        assert_eq!(
            of_failure(&failure),
            "The ticket failed because a rule of the operator refused it: banned."
        );
    }

    #[test]
    fn every_status_has_words() {
        let said = |status| summary(&Explanation { status, ahead: None, ..waiting() }, NOW);
        assert_eq!(said(Status::InProgress), "waiting in queue 2v2");
        for status in
            [Status::FindingServer, Status::Completed, Status::Failed, Status::Cancelled, Status::TimedOut]
        {
            assert!(!said(status).is_empty());
        }
        let held = Explanation { on_hold: true, ahead: None, ..waiting() };
        assert_eq!(
            summary(&held, NOW),
            "on hold: one of its players is in a match of another queue (queue 2v2)"
        );
        let cancelled = Some(CancelCause::MatchedElsewhere);
        let over = Explanation { status: Status::Cancelled, ahead: None, cancelled, ..waiting() };
        assert_eq!(
            summary(&over, NOW),
            "the ticket was cancelled: one of its players got a match in another queue"
        );
    }
}

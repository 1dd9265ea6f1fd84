//! An explanation in words, in one line: for whoever waits to play.
//!
//! One place, because the gateway and the API tell of the same tickets and must not tell different things.

use super::model::Status;
use super::{ExpectedWait, Explanation};
use crate::broker::words::{Ordinal, seconds};
use crate::time::Timestamp;
use alloc::format;
use alloc::string::{String, ToString};

/// What players hear once a match is formed.
pub const FINDING_SERVER: &str = "a match was found; a server is looked for";

/// Where a ticket stands, in one line: place, who is in reach, when it demands less, what to expect.
#[must_use]
pub fn summary(explanation: &Explanation, now: Timestamp) -> String {
    let queue = &explanation.queue;
    match (explanation.status, explanation.ahead) {
        (Status::InProgress, Some(ahead)) => {
            let place = Ordinal(ahead + 1);
            let (reach, next) = (reach(explanation), widens(explanation, now));
            let wait = expected(explanation);
            format!("waiting for players: {place} in queue {queue}{reach}{next}{wait}")
        }
        // A hook looks at it, or its players have to agree.
        (Status::InProgress, None) => format!("waiting in queue {queue}"),
        (Status::FindingServer, _) => FINDING_SERVER.to_string(),
        (Status::Completed, _) => "the match is ready".to_string(),
        (Status::Failed, _) => "no match could be made".to_string(),
        (Status::Cancelled, _) => "the ticket was cancelled".to_string(),
        (Status::TimedOut, _) => "no match was found in time".to_string(),
    }
}

fn reach(explanation: &Explanation) -> String {
    if let Some(rule) = &explanation.held_by {
        return format!(", held back by the rule `{rule}`");
    }
    // Nobody was looked at: either there is nobody, or this is but a glance.
    if explanation.looked_at == 0 {
        return String::new();
    }
    let wanted = explanation.players_wanted.map(|most| format!(" of {most}")).unwrap_or_default();
    let players = explanation.players_in_reach;
    let kept = explanation.kept_out.first().map(|kept| {
        let tickets = if kept.tickets == 1 { "ticket" } else { "tickets" };
        format!(", the rule `{}` keeps {} {tickets} out", kept.rule, kept.tickets)
    });
    format!(", {players}{wanted} players in reach{}", kept.unwrap_or_default())
}

fn widens(explanation: &Explanation, now: Timestamp) -> String {
    let at = explanation.widens_at.filter(|at| *at > now);
    at.map(|at| format!("; it demands less in {}", seconds(at.since(now)))).unwrap_or_default()
}

/// Where nothing tells of this ticket, at least how long others waited.
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
            kept_out: Vec::from([KeptOut { rule: Box::from("skill"), tickets: 3 }]),
            widens_at: Some(NOW + Duration::from_millis(5_000)),
            typical_wait: Some((Duration::from_secs(12), Duration::from_secs(40))),
            ..waiting()
        };
        let said = "waiting for players: 3rd in queue 2v2, 3 of 4 players in reach, the rule `skill` keeps 3 tickets out; \
            it demands less in 5.0 s; half of the last waited at most 12 s, nine in ten 40 s";
        assert_eq!(summary(&found, NOW), said);
        let wait = |seen, p50, p90| {
            let (p50, p90) = (Duration::from_secs(p50), Duration::from_secs(p90));
            let expected_wait = Some(ExpectedWait { seen, p50, p90 });
            summary(&Explanation { expected_wait, ..found.clone() }, NOW)
        };
        assert!(wait(7, 20, 50).ends_with("; it demands less in 5.0 s; about 20 s more"));
        assert!(wait(0, 50, 50).ends_with("; at most 50 s more"));
        let held = Explanation { held_by: Some(Box::from("level")), widens_at: Some(NOW), ..found };
        let said = summary(&held, NOW);
        assert!(said.contains("held back by the rule `level`") && !said.contains("demands less"), "{said}");
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
    }
}

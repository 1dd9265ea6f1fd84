//! From the events of a log to a recording.

use std::sync::Arc;
use std::time::Duration;

use sortie_domain::ids::{HookId, PlayerId, QueueId, TicketId};
use sortie_domain::machine::Record;
use sortie_domain::matchmaking::model::{CancelCause, Check, FailCause, Named, TicketSpec};
use sortie_domain::matchmaking::{Event, Settings};
use sortie_domain::time::Timestamp;
use sortie_replay::{Recorder, Recording, lines};

use crate::replays::ticket;

fn id(id: &str) -> TicketId {
    TicketId::new(id).unwrap()
}

fn named(ticket: &str) -> Named {
    Named { ticket: id(ticket), players: vec![PlayerId::new(ticket).unwrap()] }
}

/// Records these events, one per second.
fn recording(events: Vec<Event>) -> Recording {
    let mut recorder = Recorder::new();
    recorder.begin(Arc::new(Settings::default()));
    for (seq, event) in (1..).zip(events) {
        recorder.note(&Record { seq, time: Timestamp::from_millis(seq * 1_000), event });
    }
    recorder.finish()
}

fn started(ticket: &str, spec: TicketSpec, is_checked: bool) -> Event {
    let check = is_checked
        .then(|| Check { hook: HookId::new("bans").unwrap(), until: Timestamp::from_millis(99_000) });
    Event::TicketStarted {
        id: id(ticket),
        queue: spec.queue.clone(),
        spec: Arc::new(spec),
        check,
        place: None,
    }
}

#[test]
fn tickets_wait_from_when_hooks_have_accepted_them() {
    let checked = Event::TicketChecked {
        id: id("b"),
        spec: Arc::new(ticket("b", 1_500.0)),
        queue: QueueId::new("other").unwrap(),
        check: None,
        moves: 1,
    };
    let found = recording(vec![
        started("a", ticket("a", 1_000.0), false),
        started("b", ticket("b", 1_400.0), true),
        checked,
        started("c", ticket("c", 1_000.0), true),
        Event::TicketFailed {
            ticket: named("c"),
            cause: FailCause::Refused,
            detail: "banned".into(),
            hook: None,
            match_id: None,
        },
        Event::TicketCancelled { ticket: named("a"), cause: CancelCause::Requested },
        Event::TicketCancelled { ticket: named("b"), cause: CancelCause::NotAccepted },
    ]);
    let seen: Vec<_> = found
        .arrivals
        .iter()
        .map(|arrival| (arrival.id.as_str(), arrival.at.as_millis(), arrival.spec.queue.as_str()))
        .collect();
    assert_eq!(seen, [("a", 1_000, "q"), ("b", 3_000, "other")]);
    let left: Vec<_> = found.arrivals.iter().map(|arrival| arrival.left_at).collect();
    assert_eq!(left, [Some(Timestamp::from_millis(6_000)), None]);
    let rating = found.arrivals[1].spec.players().next().unwrap().ratings["mmr"];
    assert_eq!((rating, found.refused, found.beyond), (1_500.0, 1, 0));
}

#[test]
fn settings_are_kept_with_their_times() {
    let settings = Settings { tick: Duration::from_millis(7), ..Settings::default() };
    let found = recording(vec![
        started("a", ticket("a", 0.0), false),
        Event::Configured { settings: Arc::new(settings.clone()) },
        Event::Reconfigured { settings: Arc::new(Settings::default()) },
    ]);
    let kept: Vec<_> =
        found.settings.iter().map(|(from, settings)| (from.as_millis(), &**settings)).collect();
    assert_eq!(kept, [(0, &Settings::default()), (2_000, &settings), (3_000, &Settings::default())]);
}

/// Who is replaced, or matched in another queue, has not left: what becomes of that under other rules is for the replay to find
/// out.
#[test]
fn tickets_that_are_replaced_or_matched_elsewhere_did_not_leave() {
    let next = TicketSpec { replaces: Some(id("a")), ..ticket("a", 1_000.0) };
    let found = recording(vec![
        started("a", ticket("a", 1_000.0), false),
        started("b", ticket("b", 1_000.0), false),
        Event::TicketCancelled { ticket: named("a"), cause: CancelCause::Replaced },
        started("a2", next, false),
        Event::TicketCancelled { ticket: named("b"), cause: CancelCause::MatchedElsewhere },
    ]);
    let text: String = found.arrivals.iter().map(|arrival| lines::write(arrival) + "\n").collect();
    let read = lines::read(text.as_bytes()).unwrap();
    for arrivals in [&found.arrivals, &read] {
        let seen: Vec<_> = arrivals
            .iter()
            .map(|arrival| (arrival.id.as_str(), arrival.at.as_millis(), arrival.left_at))
            .collect();
        assert_eq!(seen, [("a", 1_000, None), ("b", 2_000, None), ("a2", 4_000, None)]);
        assert_eq!(arrivals[2].spec.replaces, Some(id("a")));
    }
}

//! A log that ends long before, or after, what the clock says.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use sortie_domain::broker::Event;
use sortie_domain::broker::model::CancelCause;
use sortie_domain::ids::{MatchId, PlayerId, QueueId, TicketId};
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::matchmaking;
use sortie_domain::matchmaking::model::{Party, Player, TicketSpec};
use sortie_domain::properties::Properties;
use sortie_domain::time::Timestamp;
use sortie_engine::log::{Batch, Log as _};
use sortie_engine::{EmbeddedLog, LogOptions};
use sortie_wire::stored;

use crate::control_plane::{ControlPlane, Events};
use crate::site::{Site, idle_fleet};

const HOUR: Duration = Duration::from_secs(3600);

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap())
}

/// A control plane of which these records are all there is.
fn site(events: &[(Timestamp, Event)]) -> Site {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    write(&site.path("data"), events, stored::encode_event);
    site
}

fn write<E>(folder: &Path, events: &[(Timestamp, E)], encode: fn(&E, &mut Vec<u8>)) {
    let mut log = EmbeddedLog::open(folder, LogOptions::default()).unwrap();
    let mut batch = Batch::new(1);
    for (time, event) in events {
        batch.push(*time, |out| encode(event, out));
    }
    log.append(&batch).unwrap();
}

/// A control plane whose broker is idle, and whose matchmaker has a ticket, both since `then`.
fn site_with_ticket(then: Timestamp) -> Site {
    let cancelled = Event::MatchCancelled { id: id(), players: Vec::new(), cause: CancelCause::Abandoned };
    let site = site(&[(then, queued()), (then, cancelled)]);
    site.configure(&json!({
        "dev": true, "fleets": {"quiet": idle_fleet()},
        "matchmaker": {"queues": {"duel": {"players_per_team": 1, "ticket_expiration": "30s"}}},
    }));
    let queue = QueueId::new("duel").unwrap();
    let players = vec![Player::new(PlayerId::new("p").unwrap())];
    let spec = TicketSpec {
        queue: queue.clone(),
        parties: vec![Party { id: None, players }],
        leader: None,
        properties: Properties::default(),
        latencies: BTreeMap::new(),
        idempotency_key: None,
        ttl: None,
        replaces: None,
    };
    let id = TicketId::new("ticket-1").unwrap();
    let started =
        matchmaking::Event::TicketStarted { id, spec: spec.into(), queue, check: None, place: None };
    std::fs::create_dir(site.data("matchmaker")).unwrap();
    write(&site.data("matchmaker"), &[(then, started)], stored::matchmaker::encode_event);
    site
}

/// The last record of the broker.
fn last_seq(site: &Site) -> u64 {
    EmbeddedLog::open(&site.path("data"), LogOptions::default()).unwrap().reader().last_seq()
}

fn id() -> MatchId {
    MatchId::new("match-1").unwrap()
}

fn queued() -> Event {
    let spec = MatchSpec { players: vec![PlayerId::new("p").unwrap()], ..MatchSpec::default() };
    Event::MatchQueued { id: id(), spec: spec.into() }
}

#[tokio::test]
async fn a_clock_far_ahead_of_a_log_with_a_match_needs_leave() {
    let site = site(&[(now() - HOUR - Duration::from_secs(60), queued())]);
    let said = site.refused(&[]).await;
    assert!(said.contains("the clock says") && said.contains("--accept-clock"), "{said}");
    let control_plane = site.up(&["--accept-clock"]).await;
    control_plane.event("sortie.match.failed", Some("match-1")).await;
    control_plane.kill().await;
    site.up(&[]).await.stop().await;
}

#[tokio::test]
async fn a_long_pause_without_a_match_needs_no_leave() {
    let then = now() - 60 * HOUR;
    let cancelled = Event::MatchCancelled { id: id(), players: Vec::new(), cause: CancelCause::Abandoned };
    let site = site(&[(then, queued()), (then, cancelled)]);
    site.up(&[]).await.stop().await;
}

/// The uptime of the machine says how much time has passed since the last start, however long that is.
#[tokio::test]
async fn a_clock_that_was_moved_ahead_needs_leave_even_if_nothing_lives() {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    site.up(&[]).await.stop().await;
    let edit = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut reading = serde_json::from_slice(&std::fs::read(site.data("clock.json")).unwrap()).unwrap();
        change(&mut reading);
        std::fs::write(site.data("clock.json"), reading.to_string()).unwrap();
    };
    let earlier = |reading: &mut serde_json::Value, name: &str, millis: u64| {
        reading[name] = (reading[name].as_u64().unwrap() - millis).into();
    };
    edit(&|reading| earlier(reading, "wall_millis", 61 * 60_000));
    let said = site.refused(&[]).await;
    assert!(said.contains("the clock says") && said.contains("has moved 1h"), "{said}");
    site.up(&["--accept-clock"]).await.stop().await;
    site.up(&[]).await.stop().await;
    // A wall clock that went with the time, one that was set back, another start of the machine, and nothing of use.
    edit(&|reading| earlier(reading, "wall_millis", 59 * 60_000));
    site.up(&[]).await.stop().await;
    edit(&|reading| reading["wall_millis"] = (reading["wall_millis"].as_u64().unwrap() + 7_200_000).into());
    site.up(&[]).await.stop().await;
    edit(&|reading| {
        earlier(reading, "wall_millis", 7_200_000);
        reading["boot_id"] = "another".into();
    });
    site.up(&[]).await.stop().await;
    std::fs::write(site.data("clock.json"), "{").unwrap();
    site.up(&[]).await.stop().await;
}

/// Its configuration would be a record of the broker, and its servers would be started or stopped.
#[tokio::test]
async fn where_the_matchmaker_is_refused_the_broker_has_done_nothing() {
    let site = site_with_ticket(now() - HOUR - Duration::from_secs(60));
    let before = last_seq(&site);
    let said = site.refused(&[]).await;
    assert!(said.contains("the log of the matchmaker ends at") && said.contains("--accept-clock"), "{said}");
    assert_eq!(last_seq(&site), before);
    assert!(!site.data("servers").exists());

    let log = site.data("matchmaker/log/00000000000000000001.log");
    let sound = std::fs::read(&log).unwrap();
    let mut damaged = sound.clone();
    damaged[60] ^= 1;
    std::fs::write(&log, damaged).unwrap();
    let said = site.refused(&["--accept-clock"]).await;
    assert!(said.contains("is damaged at byte") && said.contains(log.to_str().unwrap()), "{said}");
    assert_eq!(last_seq(&site), before);
    assert!(!site.data("servers").exists());

    std::fs::write(&log, sound).unwrap();
    let control_plane = site.up(&["--accept-clock"]).await;
    let mut events = Events::of(control_plane.request("GET", "/v1/events?of=matchmaker&from=earliest")).await;
    events.find("sortie.ticket.timed_out", Some("ticket-1")).await;
    assert!(last_seq_of(&control_plane).await > before);
    control_plane.stop().await;
}

async fn last_seq_of(control_plane: &ControlPlane) -> u64 {
    let told = control_plane.request("GET", "/metrics").send().await.unwrap().text().await.unwrap();
    let begin = "sortie_log_last_seq{log=\"broker\"} ";
    told.lines().find_map(|line| line.strip_prefix(begin)).expect(begin).parse().unwrap()
}

#[tokio::test]
async fn a_ticket_that_waits_needs_no_leave_within_the_hour() {
    let site = site_with_ticket(now() - HOUR + Duration::from_secs(120));
    site.up(&[]).await.stop().await;
}

/// As after a first start whose clock was wrong. Its dates are wrong for long, its durations are right.
#[tokio::test]
async fn after_a_first_start_in_the_year_2100_deadlines_come_in_time() {
    const YEAR: u32 = 365 * 24;
    let later = now() + 74 * YEAR * HOUR;
    let cancelled = Event::MatchCancelled { id: id(), players: Vec::new(), cause: CancelCause::Abandoned };
    let site = site(&[(later, queued()), (later, cancelled)]);
    site.configure(&json!({
        "dev": true, "fleets": {"quiet": idle_fleet()}, "broker": {"match_pickup_time": "2s"},
    }));
    let control_plane = site.up(&[]).await;
    assert!(site.stderr().contains("stamps run a tenth slower"), "{}", site.stderr());
    let submitted = control_plane.submit(json!({"players": ["q"]})).await;
    let stamp = async |kind: &str| {
        let event = control_plane.event(kind, Some(&submitted)).await;
        let stamp = humantime::parse_rfc3339(event["time"].as_str().unwrap()).unwrap();
        stamp.duration_since(UNIX_EPOCH).unwrap()
    };
    let queued_at = stamp("sortie.match.queued").await;
    assert!(queued_at >= Duration::from_millis(later.as_millis()), "it never goes back");
    let failed_at = stamp("sortie.match.failed").await;
    assert!(failed_at - queued_at < Duration::from_secs(30), "{:?}", failed_at - queued_at);
    control_plane.stop().await;
    // The next start has nothing against a log that is ahead.
    site.up(&[]).await.stop().await;
}

#[tokio::test]
async fn a_log_that_is_ahead_of_the_clock_is_gone_on_with() {
    let later = now() + HOUR;
    let site = site(&[(later, queued())]);
    let control_plane = site.up(&[]).await;
    let submitted = control_plane.submit(json!({"players": ["q"]})).await;
    let event = control_plane.event("sortie.match.queued", Some(&submitted)).await;
    let stamp = humantime::parse_rfc3339(event["time"].as_str().unwrap()).unwrap();
    let stamp = stamp.duration_since(UNIX_EPOCH).unwrap();
    assert!(stamp >= Duration::from_millis(later.as_millis()), "{event}");
    assert!(site.stderr().contains("stamps run a tenth slower"), "{}", site.stderr());
    control_plane.stop().await;
}

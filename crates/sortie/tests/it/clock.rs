//! A log that ends long before, or after, what the clock says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use sortie_domain::broker::Event;
use sortie_domain::broker::model::{CancelCause, MatchSpec};
use sortie_domain::ids::{MatchId, PlayerId};
use sortie_domain::time::Timestamp;
use sortie_engine::log::{Batch, Log as _};
use sortie_engine::{EmbeddedLog, LogOptions};
use sortie_wire::stored;

use crate::site::{Site, idle_fleet};

const HOUR: Duration = Duration::from_secs(3600);

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap())
}

/// A control plane of which these records are all there is.
fn site(events: &[(Timestamp, Event)]) -> Site {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    let mut log = EmbeddedLog::open(&site.path("data"), LogOptions::default()).unwrap();
    let mut batch = Batch::new(1);
    for (time, event) in events {
        batch.push(*time, |out| stored::encode_event(event, out));
    }
    log.append(&batch).unwrap();
    site
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

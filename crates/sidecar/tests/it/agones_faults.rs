//! Failures around a game server built for Agones.

use std::time::Duration;

use sortie_sidecar::backend::BackendError;
use sortie_sidecar::manager::{Manager, ManagerOptions};
use sortie_sidecar::source::agones::{AgonesOptions, AgonesSource, Counter, HealthOptions};
use sortie_wire::agones::sdk::Empty;
use sortie_wire::catena::server_manager::RequestMatchResponse;
use tonic::Code;

use crate::agones_site::{ControlPlane, Heard, Site, game, options, ready, refused, until, within};

fn asked() -> Heard {
    Heard::Asked { requirements: String::new() }
}

fn ready_heard(match_id: &str) -> Heard {
    Heard::Ready { match_id: match_id.to_owned(), connection_details: "127.0.0.1".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_gone_with_its_match() {
    let health = HealthOptions {
        period: Duration::from_millis(300),
        failure_threshold: 1,
        initial_delay: Duration::ZERO,
    };
    let mut site = Site::start(AgonesOptions { health: Some(health), ..options() }, None).await;
    site.control_plane.give("m1");
    let (_sdk, mut states) = ready(&site).await;
    until(&mut states, "Unhealthy").await;
    assert_eq!(site.heard().await, asked());
    assert_eq!(site.heard().await, ready_heard("m1"));
    assert_eq!(site.heard().await, Heard::Ended { match_id: "m1".to_owned(), hints: 1 });
    site.ended().await;
}

#[tokio::test]
async fn a_new_watch_begins_with_the_current_state() {
    let mut site = Site::start(options(), None).await;
    let (_sdk, states) = ready(&site).await;
    assert_eq!(site.heard().await, asked());
    drop(states);
    site.control_plane.give("m1");
    assert_eq!(site.heard().await, ready_heard("m1"));
    let mut again = site.sdk().await.watch_game_server(Empty {}).await.unwrap().into_inner();
    let state = within(again.message()).await.unwrap().unwrap();
    assert_eq!(state.status.unwrap().state, "Allocated");
    assert_eq!(state.object_meta.unwrap().annotations["sortie.dev/match-id"], "m1");
    site.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_question_is_asked_again_later() {
    let mut site = Site::start(options(), None).await;
    site.control_plane.answer(Err(refused(Code::PermissionDenied)));
    site.control_plane.give("m1");
    let (_sdk, mut states) = ready(&site).await;
    until(&mut states, "Allocated").await;
    assert_eq!(site.heard().await, asked());
    assert_eq!(site.heard().await, asked());
    assert_eq!(site.heard().await, ready_heard("m1"));
    site.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_match_is_refused_must_exit() {
    let mut site = Site::start(options(), None).await;
    site.control_plane.fail(Some(refused(Code::FailedPrecondition)));
    site.control_plane.give("m1");
    let (_sdk, mut states) = ready(&site).await;
    until(&mut states, "Allocated").await;
    until(&mut states, "Shutdown").await;
    assert_eq!(site.heard().await, asked());
    site.ended().await;
}

#[tokio::test(start_paused = true)]
async fn the_hint_to_exit_is_the_state_shutdown() {
    let site = Site::start(options(), None).await;
    site.control_plane.answer(Ok(RequestMatchResponse { hint_flags: 1, ..Default::default() }));
    let (mut sdk, mut states) = ready(&site).await;
    until(&mut states, "Shutdown").await;
    sdk.shutdown(Empty {}).await.unwrap();
    site.ended().await;
}

#[tokio::test(start_paused = true)]
async fn an_absent_control_plane_does_no_harm() {
    let mut site = Site::start(options(), None).await;
    site.control_plane.answer(Err(BackendError::Away("test".to_owned())));
    let (_sdk, mut states) = ready(&site).await;
    assert_eq!(site.heard().await, asked());
    assert_eq!(site.heard().await, asked(), "it is asked again");
    site.control_plane.fail(Some(BackendError::Away("test".to_owned())));
    site.control_plane.give("m1");
    let state = until(&mut states, "Allocated").await;
    assert_eq!(state.object_meta.unwrap().annotations["sortie.dev/match-id"], "m1");
    site.control_plane.fail(None);
    assert_eq!(site.heard().await, ready_heard("m1"), "it hears of it when it is back");
    site.stop().await;
}

#[tokio::test]
async fn a_restarted_sidecar_resumes_the_match() {
    let (control_plane, ears) = ControlPlane::new();
    let manager = Manager::new(ManagerOptions::default(), control_plane.clone(), None);
    let mut site = Site::with(options(), manager.clone(), control_plane.clone(), ears).await;
    control_plane.give("m1");
    let (sdk, states) = ready(&site).await;
    assert_eq!(site.heard().await, asked());
    assert_eq!(site.heard().await, ready_heard("m1"));
    drop((sdk, states));
    let ears = site.stop().await;

    let mut site = Site::with(options(), manager, control_plane, ears).await;
    let mut sdk = site.sdk().await;
    let server = sdk.get_game_server(Empty {}).await.unwrap().into_inner();
    assert_eq!(server.status.unwrap().state, "Allocated");
    assert_eq!(server.object_meta.unwrap().labels["sortie.dev/match-id"], "m1");
    sdk.ready(Empty {}).await.unwrap();
    assert_eq!(site.heard().await, Heard::Ended { match_id: "m1".to_owned(), hints: 0 });
    assert_eq!(site.heard().await, asked());
    site.stop().await;
}

#[tokio::test]
async fn a_restarted_sidecar_requests_a_match_for_an_idle_server() {
    let (control_plane, ears) = ControlPlane::new();
    let manager = Manager::new(ManagerOptions::default(), control_plane.clone(), None);
    let mut site = Site::with(options(), manager.clone(), control_plane.clone(), ears).await;
    let (sdk, states) = ready(&site).await;
    assert_eq!(site.heard().await, asked());
    drop((sdk, states));
    let ears = site.stop().await;

    let mut site = Site::with(options(), manager, control_plane, ears).await;
    assert_eq!(site.heard().await, Heard::Withdrawn);
    assert!(site.ears.try_recv().is_err(), "nobody has called");
    site.control_plane.give("m1");
    let mut states = site.sdk().await.watch_game_server(Empty {}).await.unwrap().into_inner();
    let state = until(&mut states, "Allocated").await;
    assert_eq!(state.object_meta.unwrap().annotations["sortie.dev/match-id"], game("m1").match_id);
    site.stop().await;
}

#[tokio::test]
async fn reports_during_the_shutdown_are_forwarded() {
    let mut site = Site::start(options(), None).await;
    site.control_plane.give("m1");
    let (mut sdk, mut states) = ready(&site).await;
    until(&mut states, "Allocated").await;
    assert_eq!(site.heard().await, asked());
    assert_eq!(site.heard().await, ready_heard("m1"));
    sdk.shutdown(Empty {}).await.unwrap();
    let mut ears = site.stop().await;
    assert_eq!(ears.try_recv(), Ok(Heard::Ended { match_id: "m1".to_owned(), hints: 1 }));
}

#[tokio::test]
async fn invalid_settings_are_refused_with_their_key() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: sortie_serving::ListenAddr = taken.local_addr().unwrap().into();
    let counters = [("rooms".to_owned(), Counter { count: 2, capacity: 1 })].into();
    for (options, key) in [
        (AgonesOptions { grpc_listen: address.clone(), ..options() }, "GrpcListenAddr: "),
        (AgonesOptions { http_listen: address, ..options() }, "HttpListenAddr: "),
        (AgonesOptions { counters, ..options() }, "Counters.rooms: "),
    ] {
        let error = AgonesSource::bind(options).await.unwrap_err();
        assert!(error.problem.starts_with(key), "{error}");
        assert_eq!(error.source_name, "agones_sdk_event_source");
    }
}

//! The whole life of a game server built for Agones, over gRPC.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sortie_sidecar::source::agones::{AgonesOptions, Counter, List};
use sortie_wire::agones::sdk::{Duration as Seconds, Empty, KeyValue};
use sortie_wire::agones::{alpha, beta};
use tonic::Code;

use crate::agones_site::{Heard, Late, Site, options, ready, until, within};

fn asked() -> Heard {
    Heard::Asked { requirements: String::new() }
}

fn announced(match_id: &str, address: &str) -> Heard {
    Heard::Ready { match_id: match_id.to_owned(), connection_details: address.to_owned() }
}

fn ended(match_id: &str, hints: u32) -> Heard {
    Heard::Ended { match_id: match_id.to_owned(), hints }
}

#[tokio::test(start_paused = true)]
async fn a_server_plays_two_matches_and_shuts_down() {
    let with_port = AgonesOptions { ports: vec![("game".to_owned(), 9000)], ..options() };
    let mut site = Site::start(with_port, None).await;
    let (mut sdk, mut states) = ready(&site).await;
    assert_eq!(site.heard().await, asked());
    site.control_plane.give("m1");
    let state = until(&mut states, "Allocated").await;
    let meta = state.object_meta.unwrap();
    assert_eq!(meta.annotations["sortie.dev/match-id"], "m1");
    assert_eq!(meta.annotations["sortie.dev/match-properties"], r#"{"map":"lake"}"#);
    assert_eq!(meta.annotations["sortie.dev/player-ids"], r#"["p1"]"#);
    assert!(meta.annotations.contains_key("agones.dev/last-allocated"));
    assert_eq!(site.heard().await, announced("m1", "127.0.0.1:9000"));

    sdk.ready(Empty {}).await.unwrap();
    assert_eq!(site.heard().await, ended("m1", 0));
    let state = until(&mut states, "Ready").await;
    assert!(!state.object_meta.unwrap().annotations.contains_key("sortie.dev/match-id"));
    assert_eq!(site.heard().await, asked());
    site.control_plane.give("m2");
    until(&mut states, "Allocated").await;
    assert_eq!(site.heard().await, announced("m2", "127.0.0.1:9000"));

    sdk.shutdown(Empty {}).await.unwrap();
    until(&mut states, "Shutdown").await;
    assert_eq!(site.heard().await, ended("m2", 1));
    assert!(within(states.message()).await.unwrap().is_none(), "the stream ends in order");
    site.ended().await;
}

#[tokio::test]
async fn requirements_and_identity_come_from_the_settings() {
    let named = AgonesOptions {
        requirements: "MatchProperties.map == 'lake'".to_owned(),
        name: "gs-1".to_owned(),
        namespace: "games".to_owned(),
        health: Some(Default::default()),
        ..options()
    };
    let mut site = Site::start(named, None).await;
    let (mut sdk, _states) = ready(&site).await;
    let requirements = "MatchProperties.map == 'lake'".to_owned();
    assert_eq!(site.heard().await, Heard::Asked { requirements });
    let server = sdk.get_game_server(Empty {}).await.unwrap().into_inner();
    let (meta, health) = (server.object_meta.unwrap(), server.spec.unwrap().health.unwrap());
    assert_eq!((meta.name.as_str(), meta.namespace.as_str()), ("gs-1", "games"));
    assert!(meta.uid.starts_with("server-"), "{}", meta.uid);
    assert_eq!((health.disabled, health.period_seconds, health.failure_threshold), (false, 5, 3));
    site.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_resolvers_address_is_reported_once_known() {
    let mut site = Site::start(options(), Some(Arc::new(Late(Mutex::new(2))))).await;
    let (mut sdk, mut states) = ready(&site).await;
    assert_eq!(site.heard().await, asked());
    site.control_plane.give("m1");
    until(&mut states, "Allocated").await;
    assert_eq!(site.heard().await, announced("m1", "203.0.113.9:7777"));
    let status = sdk.get_game_server(Empty {}).await.unwrap().into_inner().status.unwrap();
    assert_eq!((status.address.as_str(), status.ports[0].port), ("203.0.113.9", 7777));
    assert_eq!(status.addresses[0].r#type, "ExternalIP");
    site.stop().await;
}

#[tokio::test]
async fn players_come_when_the_server_sets_the_label() {
    let labelled = AgonesOptions { ready_label: true, ..options() };
    let mut site = Site::start(labelled, None).await;
    let (mut sdk, mut states) = ready(&site).await;
    assert_eq!(site.heard().await, asked());
    site.control_plane.give("m1");
    until(&mut states, "Allocated").await;
    let label = KeyValue { key: "loading".to_owned(), value: "true".to_owned() };
    sdk.set_label(label).await.unwrap();
    assert!(site.ears.try_recv().is_err());
    let label = KeyValue { key: "match-ready".to_owned(), value: "true".to_owned() };
    sdk.set_label(label).await.unwrap();
    assert_eq!(site.heard().await, announced("m1", "127.0.0.1"));
    let note = KeyValue { key: "mode".to_owned(), value: "duel".to_owned() };
    sdk.set_annotation(note).await.unwrap();
    let meta = sdk.get_game_server(Empty {}).await.unwrap().into_inner().object_meta.unwrap();
    assert_eq!(meta.labels["agones.dev/sdk-match-ready"], "true");
    assert_eq!(meta.annotations["agones.dev/sdk-mode"], "duel");
    site.stop().await;
}

#[tokio::test]
async fn a_server_that_is_taken_or_reserved_is_not_given_a_match() {
    let mut site = Site::start(options(), None).await;
    let (mut sdk, mut states) = ready(&site).await;
    assert_eq!(site.heard().await, asked());
    sdk.allocate(Empty {}).await.unwrap();
    until(&mut states, "Allocated").await;
    assert_eq!(site.heard().await, Heard::Withdrawn);
    sdk.reserve(Seconds { seconds: 1 }).await.unwrap();
    until(&mut states, "Reserved").await;
    assert!(site.ears.try_recv().is_err());
    site.control_plane.give("m1");
    let state = until(&mut states, "Allocated").await;
    assert_eq!(state.object_meta.unwrap().labels["sortie.dev/match-id"], "m1");
    site.stop().await;
}

#[tokio::test]
async fn counters_and_lists_start_as_configured() {
    let counted = AgonesOptions {
        counters: [("rooms".to_owned(), Counter { count: 1, capacity: 4 })].into(),
        lists: [("teams".to_owned(), List { capacity: 2, values: vec!["red".to_owned()] })].into(),
        ..options()
    };
    let site = Site::start(counted, None).await;
    let mut sdk = beta::sdk_client::SdkClient::new(site.channel().await);
    let update = |name: &str, count_diff| beta::UpdateCounterRequest {
        counter_update_request: Some(beta::CounterUpdateRequest {
            name: name.to_owned(),
            count: None,
            capacity: None,
            count_diff,
        }),
    };
    assert_eq!(sdk.update_counter(update("rooms", 2)).await.unwrap().into_inner().count, 3);
    assert_eq!(sdk.update_counter(update("rooms", 2)).await.unwrap_err().code(), Code::OutOfRange);
    assert_eq!(sdk.update_counter(update("rooms", -4)).await.unwrap_err().code(), Code::OutOfRange);
    assert_eq!(sdk.update_counter(update("cats", 1)).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(sdk.update_counter(update("rooms", 0)).await.unwrap_err().code(), Code::InvalidArgument);
    let add = |value: &str| beta::AddListValueRequest { name: "teams".to_owned(), value: value.to_owned() };
    assert_eq!(sdk.add_list_value(add("blue")).await.unwrap().into_inner().values, ["red", "blue"]);
    assert_eq!(sdk.add_list_value(add("blue")).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(sdk.add_list_value(add("green")).await.unwrap_err().code(), Code::OutOfRange);
    let list = beta::List { name: "teams".to_owned(), capacity: 1, values: Vec::new() };
    let mask = |path: &str| Some(prost_types::FieldMask { paths: vec![path.to_owned()] });
    let request = beta::UpdateListRequest { list: Some(list.clone()), update_mask: mask("capacity") };
    assert_eq!(sdk.update_list(request).await.unwrap().into_inner().values, ["red"]);
    let request = beta::UpdateListRequest { list: Some(list), update_mask: mask("size") };
    assert_eq!(sdk.update_list(request).await.unwrap_err().code(), Code::InvalidArgument);
    let status = site.sdk().await.get_game_server(Empty {}).await.unwrap().into_inner().status.unwrap();
    assert_eq!((status.counters["rooms"].count, status.lists["teams"].capacity), (3, 1));
    site.stop().await;
}

#[tokio::test]
async fn players_are_counted() {
    let site = Site::start(AgonesOptions { player_capacity: 1, ..options() }, None).await;
    let mut sdk = alpha::sdk_client::SdkClient::new(site.channel().await);
    let player = |id: &str| alpha::PlayerId { player_id: id.to_owned() };
    assert!(sdk.player_connect(player("p1")).await.unwrap().into_inner().bool);
    assert!(!sdk.player_connect(player("p1")).await.unwrap().into_inner().bool);
    assert_eq!(sdk.player_connect(player("p2")).await.unwrap_err().code(), Code::OutOfRange);
    sdk.set_player_capacity(alpha::Count { count: 2 }).await.unwrap();
    assert!(sdk.player_connect(player("p2")).await.unwrap().into_inner().bool);
    assert!(sdk.player_disconnect(player("p1")).await.unwrap().into_inner().bool);
    assert!(!sdk.is_player_connected(player("p1")).await.unwrap().into_inner().bool);
    assert_eq!(sdk.get_connected_players(alpha::Empty {}).await.unwrap().into_inner().list, ["p2"]);
    assert_eq!(sdk.get_player_count(alpha::Empty {}).await.unwrap().into_inner().count, 1);
    assert_eq!(sdk.get_player_capacity(alpha::Empty {}).await.unwrap().into_inner().count, 2);
    site.stop().await;
}

#[tokio::test]
async fn health_is_a_stream_that_lasts_as_long_as_the_sidecar() {
    let site = Site::start(options(), None).await;
    let mut sdk = site.sdk().await;
    let (sender, beats) = tokio::sync::mpsc::channel(1);
    let beats = futures::stream::unfold(beats, |mut beats| async move {
        let beat: Option<Empty> = beats.recv().await;
        beat.map(|beat| (beat, beats))
    });
    let call = tokio::spawn(async move { sdk.health(beats).await });
    sender.send(Empty {}).await.unwrap();
    sender.send(Empty {}).await.unwrap();
    site.stop().await;
    within(call).await.unwrap().unwrap();
    drop(sender);
}

#[tokio::test]
async fn a_server_that_reports_its_health_stays() {
    let watched = AgonesOptions {
        health: Some(sortie_sidecar::source::agones::HealthOptions {
            period: Duration::from_secs(3_600),
            failure_threshold: 1,
            initial_delay: Duration::ZERO,
        }),
        ..options()
    };
    let site = Site::start(watched, None).await;
    let mut sdk = site.sdk().await;
    sdk.health(futures::stream::iter([Empty {}])).await.unwrap();
    let status = sdk.get_game_server(Empty {}).await.unwrap().into_inner().status.unwrap();
    assert_eq!(status.state, "Scheduled");
    site.stop().await;
}

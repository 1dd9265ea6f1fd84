//! The Catena calls over gRPC.

use std::collections::BTreeSet;

use sortie_wire::any::Any;
use sortie_wire::catena::events::event::Payload;
use sortie_wire::catena::events::events_client::EventsClient;
use sortie_wire::catena::events::{
    AdminEmitUpdateEventRequest, EmitUpdateEventRequest, Event, SubscribeToEventsByTagRequest,
    SubscribeToEventsRequest,
};
use sortie_wire::catena::match_broker::catena_match_broker_client::CatenaMatchBrokerClient;
use sortie_wire::catena::match_broker::*;
use sortie_wire::catena::matchmaking::{MatchmakingStatusUpdateType, NewMatchEvent};
use sortie_wire::catena::server_manager::catena_server_manager_client::CatenaServerManagerClient;
use sortie_wire::catena::server_manager::*;
use sortie_wire::status::{self, Status};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::harness::{Server, soon};

pub(crate) async fn channel(server: &Server) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    soon(endpoint.connect()).await.unwrap()
}

fn new_match(id: &str, players: &[&str]) -> Option<Event> {
    let game = Match {
        match_id: id.into(),
        player_ids: players.iter().map(ToString::to_string).collect(),
        ..Match::default()
    };
    let payload = Some(Payload::NewMatchEvent(NewMatchEvent { r#match: Some(game) }));
    Some(Event { payload, ..Event::default() })
}

#[tokio::test]
async fn a_match_goes_through_its_whole_life() {
    let server = Server::start().await;
    let channel = channel(&server).await;
    let mut manager = CatenaServerManagerClient::new(channel.clone());
    let mut broker = CatenaMatchBrokerClient::new(channel.clone());
    let mut events = EventsClient::new(channel);

    let mut subscribe = Request::new(SubscribeToEventsRequest {});
    subscribe.metadata_mut().insert("catena-session-id", "p1".parse().unwrap());
    let mut heard = soon(events.subscribe_to_events(subscribe)).await.unwrap().into_inner();
    let first = soon(heard.message()).await.unwrap().unwrap().event.unwrap();
    assert!(matches!(first.payload, Some(Payload::EmptyEvent(_))));

    let emit = EmitUpdateEventRequest { nested_event: new_match("m1", &["p1"]), ..Default::default() };
    assert!(soon(events.emit_update_event(emit)).await.unwrap().into_inner().broadcast_success);
    let queued = soon(broker.list_queued_matches(ListQueuedMatchesRequest {})).await.unwrap().into_inner();
    assert_eq!(queued.matches[0].match_id, "m1");
    let request = RequestMatchRequest { server_id: "s1".into(), ..Default::default() };
    let offer = soon(manager.request_match(request)).await.unwrap().into_inner().r#match.unwrap();
    assert_eq!((offer.match_id.as_str(), &offer.player_ids), ("m1", &vec!["p1".to_owned()]));
    let ready = MatchReadyRequest {
        server_id: "s1".into(),
        match_id: "m1".into(),
        connection_details: "a:1".into(),
        ..Default::default()
    };
    assert_eq!(soon(manager.match_ready(ready)).await.unwrap().into_inner().match_id, "m1");

    for (kind, message) in [
        (MatchmakingStatusUpdateType::FindingServer, "waiting for a server"),
        (MatchmakingStatusUpdateType::Completed, "a:1"),
    ] {
        let event = soon(heard.message()).await.unwrap().unwrap().event.unwrap();
        let Some(Payload::MatchmakingStatusUpdateEvent(update)) = event.payload else { panic!("{event:?}") };
        assert_eq!(
            (update.r#type(), update.message.as_str(), update.ticket_id.as_str()),
            (kind, message, "m1")
        );
        assert_eq!(event.recipient_id, "p1");
    }

    let listed = soon(manager.list_servers(ListServersRequest {})).await.unwrap().into_inner();
    assert_eq!(listed.servers[0].matches[0].connection_string, "a:1");
    let active = AdminGetActiveMatchByIdRequest { match_id: "m1".into() };
    soon(broker.admin_get_active_match_by_id(active)).await.unwrap();
    let end = EndMatchRequest { server_id: "s1".into(), match_id: "m1".into(), ..Default::default() };
    soon(manager.end_match(end)).await.unwrap();
    let active = soon(broker.admin_list_active_matches(AdminListActiveMatchesRequest {})).await.unwrap();
    assert_eq!(active.into_inner().matches, []);
}

#[tokio::test]
async fn a_late_call_carries_its_answer_in_the_details() {
    let server = Server::start().await;
    server.submit(&["p1"]).await;
    let mut manager = CatenaServerManagerClient::new(channel(&server).await);
    let request = RequestMatchRequest { server_id: "s1".into(), ..Default::default() };
    let offer = soon(manager.request_match(request)).await.unwrap().into_inner().r#match.unwrap();
    server.clock.advance(std::time::Duration::from_secs(31));
    let late = MatchReadyRequest {
        server_id: "s1".into(),
        match_id: offer.match_id.clone(),
        connection_details: "a:1".into(),
        ..Default::default()
    };
    let refused = soon(manager.match_ready(late)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let status = Status::from(&refused);
    assert_eq!(status::reason(&status).as_deref(), Some("match_not_held"));
    let answer = status.details.iter().find_map(Any::unpack::<MatchReadyResponse>).unwrap();
    assert_eq!((answer.match_id, answer.hint_flags), (offer.match_id, HintFlag::Shutdown as u32));
}

#[tokio::test]
async fn bad_requests_name_the_field_and_leave_no_trace() {
    let server = Server::start().await;
    let channel = channel(&server).await;
    let mut manager = CatenaServerManagerClient::new(channel.clone());
    let mut broker = CatenaMatchBrokerClient::new(channel.clone());
    let mut events = EventsClient::new(channel);
    let before = server.last_seq().await;
    let refused = [
        ("serverId", soon(manager.request_match(RequestMatchRequest::default())).await.err()),
        (
            "hintFlags",
            soon(manager.request_match(RequestMatchRequest {
                server_id: "s".into(),
                hint_flags: 64,
                ..Default::default()
            }))
            .await
            .err(),
        ),
        (
            "fastSchedule",
            soon(broker.admin_x_reconfigure_match_broker(AdminXReconfigureMatchBrokerRequest {
                fast_schedule: Some(7),
                ..Default::default()
            }))
            .await
            .err(),
        ),
        (
            "nestedEvent",
            soon(events.admin_emit_update_event(AdminEmitUpdateEventRequest::default())).await.err(),
        ),
        (
            "eventTags",
            soon(events.subscribe_to_events_by_tag(SubscribeToEventsByTagRequest::default())).await.err(),
        ),
    ];
    for (field, refused) in refused {
        let refused = refused.unwrap_or_else(|| panic!("{field} was taken"));
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(field), "{refused:?}");
    }
    let nobody = soon(events.subscribe_to_events(SubscribeToEventsRequest {})).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);
    assert_eq!(server.last_seq().await, before);
}

#[tokio::test]
async fn an_absent_setting_is_left_alone_and_a_zero_is_not() {
    let server = Server::start().await;
    let mut broker = CatenaMatchBrokerClient::new(channel(&server).await);
    let change =
        AdminXReconfigureMatchBrokerRequest { delay_allocation_seconds: Some(0), ..Default::default() };
    soon(broker.admin_x_reconfigure_match_broker(change)).await.unwrap();
    let config =
        soon(broker.admin_x_get_match_broker_config(AdminXGetMatchBrokerConfigRequest {})).await.unwrap();
    let config = config.into_inner();
    assert_eq!((config.delay_allocation_seconds, config.match_pickup_time_seconds), (0, 90));
}

#[tokio::test]
async fn new_matches_are_told_by_tag() {
    let server = Server::start().await;
    let mut events = EventsClient::new(channel(&server).await);
    let request =
        SubscribeToEventsByTagRequest { event_tags: vec!["new-match".into()], ..Default::default() };
    let mut heard = soon(events.subscribe_to_events_by_tag(request)).await.unwrap().into_inner();
    soon(heard.message()).await.unwrap().unwrap();
    let id = server.submit(&["p1"]).await;
    let told = soon(heard.message()).await.unwrap().unwrap();
    let Some(Payload::NewMatchEvent(event)) = told.event.unwrap().payload else { panic!("another event") };
    assert_eq!(event.r#match.unwrap().match_id, id);
}

#[tokio::test]
async fn reflection_lists_every_service() {
    let server = Server::start().await;
    let mut client = ServerReflectionClient::new(channel(&server).await);
    let ask = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut answers = soon(client.server_reflection_info(tokio_stream_of(ask))).await.unwrap().into_inner();
    let answer = soon(answers.message()).await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(listed) = answer else { panic!("{answer:?}") };
    let names: BTreeSet<_> = listed.service.into_iter().map(|service| service.name).collect();
    for name in [
        "catena.catena_server_manager.CatenaServerManager",
        "catena.catena_match_broker.CatenaMatchBroker",
        "catena.events.Events",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ] {
        assert!(names.contains(name), "{name} is not among {names:?}");
    }
}

fn tokio_stream_of<T: Send + 'static>(item: T) -> impl futures::Stream<Item = T> + Send + 'static {
    futures::stream::once(std::future::ready(item))
}

#[tokio::test]
async fn health_follows_the_broker() {
    use tonic_health::pb::health_check_response::ServingStatus;

    let mut server = Server::start().await;
    let mut client = HealthClient::new(channel(&server).await);
    let ask = |service: &str| HealthCheckRequest { service: service.into() };
    let name = "catena.events.Events";
    let answer = soon(client.check(ask(name))).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
    assert_eq!(soon(client.check(ask("nobody"))).await.unwrap_err().code(), Code::NotFound);
    let mut watch = soon(client.watch(ask(""))).await.unwrap().into_inner();
    assert_eq!(soon(watch.message()).await.unwrap().unwrap().status(), ServingStatus::Serving);
    server.stop_engine().await;
    assert_eq!(soon(watch.message()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
}

#[tokio::test]
async fn a_method_that_is_not_there_is_unimplemented() {
    let server = Server::start().await;
    let response =
        server.request("POST", "/catena.events.Events/Nothing").header("content-type", "application/grpc");
    let response = soon(response.send()).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["grpc-status"]),
        (200, &"12".parse().unwrap())
    );
}

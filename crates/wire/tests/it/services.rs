//! The descriptors: which services and methods there are, and rules the code relies on.

use prost::Message as _;
use prost_types::field_descriptor_proto::Type;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use sortie_wire::FILE_DESCRIPTOR_SET;

fn files() -> Vec<FileDescriptorProto> {
    FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file
}

/// `package.Service/Method`, with ` stream` for a stream of answers.
fn methods() -> Vec<String> {
    let mut methods = Vec::new();
    for file in files() {
        for service in &file.service {
            for method in &service.method {
                assert!(!method.client_streaming());
                let stream = if method.server_streaming() { " stream" } else { "" };
                methods.push(format!("{}.{}/{}{stream}", file.package(), service.name(), method.name()));
            }
        }
    }
    methods.sort();
    methods
}

#[test]
fn services_have_the_published_methods() {
    let published = [
        (
            "catena.catena_server_manager.CatenaServerManager",
            "RequestMatch, MatchReady, EndMatch, ListServers, AdminAllocateServer, AdminDeallocateServer",
        ),
        (
            "catena.catena_match_broker.CatenaMatchBroker",
            "GetServiceHealth, ListQueuedMatches, AdminListActiveMatches, AdminGetActiveMatchById, \
          AdminEndActiveMatch, AdminGetAvailableAllocators, AdminGetConfiguredAllocators, \
          AdminXGetMatchBrokerConfig, AdminXReconfigureMatchBroker",
        ),
        (
            "catena.catena_matchmaking.CatenaMatchmaking",
            "StartMatchmaking, CancelMatchmaking, GetMatchmakingStatus, ServerStartMatchmaking, \
          ServerCancelMatchmaking, ServerGetMatchmakingStatus, ListTickets, GetServiceHealth, \
          AdminXGetMatchmakerConfig, AdminXReconfigureMatchmaker",
        ),
        (
            "catena.events.Events",
            "SubscribeToEvents stream, SubscribeToEventsByTag stream, EmitUpdateEvent, AdminEmitUpdateEvent",
        ),
    ];
    let named = published
        .iter()
        .flat_map(|(service, methods)| methods.split(", ").map(move |method| format!("{service}/{method}")));
    let mut published: Vec<String> = named.collect();
    published.sort();
    assert_eq!(methods(), published);
}

#[test]
fn fields_beside_those_of_catena_have_numbers_that_catenas_never_reach() {
    let of = |message: &str| {
        let files = files();
        let mut messages = files.iter().flat_map(|file| &file.message_type);
        let fields = messages.find(|found| found.name() == message).unwrap().field.clone();
        fields.into_iter().map(|field| (field.name().to_owned(), field.number())).collect::<Vec<_>>()
    };
    let named = |fields: &[(&str, i32)]| {
        fields.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect::<Vec<_>>()
    };
    let request = [
        ("server_id", 1),
        ("requirements", 2),
        ("hint_flags", 3),
        ("max_matches", 1001),
        ("wait_seconds", 1002),
    ];
    assert_eq!(of("RequestMatchRequest"), named(&request));
    assert_eq!(of("RequestMatchResponse"), named(&[("match", 1), ("hint_flags", 2), ("matches", 1001)]));
}

#[test]
fn hint_fields_are_bit_sets_and_nothing_else_is_unsigned() {
    let mut hint_fields = 0;
    for file in files() {
        for message in &file.message_type {
            for field in &message.field {
                let is_hints = field.name() == "hint_flags";
                hint_fields += usize::from(is_hints);
                let is_unsigned = field.r#type() == Type::Uint32;
                assert_eq!(is_hints, is_unsigned, "{}.{}.{}", file.package(), message.name(), field.name());
            }
        }
    }
    assert_eq!(hint_fields, 6);
}

#[test]
fn reflection_shows_published_packages_without_comments_and_with_their_imports() {
    let files = files();
    for file in &files {
        let package = file.package();
        assert!(package.starts_with("catena.") || package.starts_with("google."), "{package}");
        assert!(file.source_code_info.is_none());
        for import in &file.dependency {
            assert!(files.iter().any(|other| other.name() == import), "{import} is missing");
        }
    }
}

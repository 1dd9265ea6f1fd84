//! Who may call what: one row per call, for HTTP and gRPC together. Calls without a row are not served.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::http::Method;

use crate::auth::Permission::{self, Admin, Client, GameServerMatch};

/// Who may make a call: anybody; holders of one of some permissions (administrators have all); or these and every
/// signed-in player, for the player's own data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Anybody,
    Holders(&'static [Permission]),
    HoldersAndPlayers(&'static [Permission]),
}

const ANYBODY: Access = Access::Anybody;
const GAME_SERVER: Access = Access::Holders(&[GameServerMatch]);
const CLIENT: Access = Access::Holders(&[Client]);
const CLIENT_OR_PLAYER: Access = Access::HoldersAndPlayers(&[Client]);
/// Calls about a match from both sides: the backend that submitted it and the server that runs it.
const CLIENT_OR_GAME_SERVER: Access = Access::Holders(&[Client, GameServerMatch]);
const ADMIN: Access = Access::Holders(&[Admin]);

/// One call: who may make it, `METHOD /path` over HTTP, `package.Service/Method` over gRPC.
pub(crate) struct Rule {
    pub(crate) access: Access,
    pub(crate) http: &'static [&'static str],
    pub(crate) grpc: &'static [&'static str],
}

const fn both(access: Access, http: &'static [&'static str], grpc: &'static [&'static str]) -> Rule {
    Rule { access, http, grpc }
}

const fn http(access: Access, http: &'static [&'static str]) -> Rule {
    Rule { access, http, grpc: &[] }
}

const fn grpc(access: Access, grpc: &'static [&'static str]) -> Rule {
    Rule { access, http: &[], grpc }
}

/// Every call.
#[rustfmt::skip]
pub(crate) const RULES: &[Rule] = &[
    both(GAME_SERVER, &["POST /api/v1/server/request_match"], &["catena.catena_server_manager.CatenaServerManager/RequestMatch"]),
    both(GAME_SERVER, &["POST /api/v1/server/match_ready"], &["catena.catena_server_manager.CatenaServerManager/MatchReady"]),
    both(GAME_SERVER, &["POST /api/v1/server/end_match"], &["catena.catena_server_manager.CatenaServerManager/EndMatch"]),
    both(ADMIN, &["POST /api/v1/servers", "GET /api/v1/servers"], &["catena.catena_server_manager.CatenaServerManager/ListServers"]),
    both(ADMIN, &["POST /api/v1/server/allocate"], &["catena.catena_server_manager.CatenaServerManager/AdminAllocateServer"]),
    both(ADMIN, &["POST /api/v1/server/deallocate"], &["catena.catena_server_manager.CatenaServerManager/AdminDeallocateServer"]),

    both(ANYBODY, &["GET /api/v1/matchbroker/healthz"], &["catena.catena_match_broker.CatenaMatchBroker/GetServiceHealth"]),
    both(CLIENT, &["GET /api/v1/matches"], &["catena.catena_match_broker.CatenaMatchBroker/ListQueuedMatches"]),
    both(ADMIN, &["GET /api/v1/matchbroker/admin/list-active-matches"], &["catena.catena_match_broker.CatenaMatchBroker/AdminListActiveMatches"]),
    both(ADMIN, &["GET /api/v1/matchbroker/admin/match/{matchId}"], &["catena.catena_match_broker.CatenaMatchBroker/AdminGetActiveMatchById"]),
    both(ADMIN, &["DELETE /api/v1/matchbroker/admin/delete/{matchId}"], &["catena.catena_match_broker.CatenaMatchBroker/AdminEndActiveMatch"]),
    both(ADMIN, &["GET /api/v1/matchbroker/admin/allocators/available"], &["catena.catena_match_broker.CatenaMatchBroker/AdminGetAvailableAllocators"]),
    both(ADMIN, &["GET /api/v1/matchbroker/admin/allocators/configured"], &["catena.catena_match_broker.CatenaMatchBroker/AdminGetConfiguredAllocators"]),
    both(ADMIN, &["GET /api/v1/matchbroker/admin/config"], &["catena.catena_match_broker.CatenaMatchBroker/AdminXGetMatchBrokerConfig"]),
    both(ADMIN, &["POST /api/v1/matchbroker/admin/reconfigure"], &["catena.catena_match_broker.CatenaMatchBroker/AdminXReconfigureMatchBroker"]),

    both(CLIENT_OR_PLAYER, &["POST /api/v1/matchmaking/start"], &["catena.catena_matchmaking.CatenaMatchmaking/StartMatchmaking"]),
    both(CLIENT_OR_PLAYER, &["POST /api/v1/matchmaking/cancel"], &["catena.catena_matchmaking.CatenaMatchmaking/CancelMatchmaking"]),
    both(CLIENT_OR_PLAYER, &["GET /api/v1/matchmaking/{ticketId}"], &["catena.catena_matchmaking.CatenaMatchmaking/GetMatchmakingStatus"]),
    both(CLIENT, &["POST /api/v1/matchmaking/server/start"], &["catena.catena_matchmaking.CatenaMatchmaking/ServerStartMatchmaking"]),
    both(CLIENT, &["POST /api/v1/matchmaking/server/cancel"], &["catena.catena_matchmaking.CatenaMatchmaking/ServerCancelMatchmaking"]),
    both(CLIENT, &["GET /api/v1/matchmaking/server/{ticketId}"], &["catena.catena_matchmaking.CatenaMatchmaking/ServerGetMatchmakingStatus"]),
    both(CLIENT, &["GET /api/v1/matchmaking/tickets"], &["catena.catena_matchmaking.CatenaMatchmaking/ListTickets"]),
    both(ANYBODY, &["GET /api/v1/matchmaking/healthz"], &["catena.catena_matchmaking.CatenaMatchmaking/GetServiceHealth"]),
    both(ADMIN, &["GET /api/v1/matchmaking/admin/config"], &["catena.catena_matchmaking.CatenaMatchmaking/AdminXGetMatchmakerConfig"]),
    both(ADMIN, &["POST /api/v1/matchmaking/admin/config"], &["catena.catena_matchmaking.CatenaMatchmaking/AdminXReconfigureMatchmaker"]),

    both(CLIENT_OR_PLAYER, &["GET /api/v1/events/subscribe"], &["catena.events.Events/SubscribeToEvents"]),
    both(CLIENT, &["GET /api/v1/events/subscribe/tags"], &["catena.events.Events/SubscribeToEventsByTag"]),
    both(CLIENT, &["POST /api/v1/events/emit"], &["catena.events.Events/EmitUpdateEvent"]),
    both(ADMIN, &["POST /api/v1/admin/events/emit"], &["catena.events.Events/AdminEmitUpdateEvent"]),

    http(CLIENT, &["POST /v1/matches", "GET /v1/matches", "DELETE /v1/matches/{id}"]),
    http(CLIENT_OR_GAME_SERVER, &["GET /v1/matches/{id}", "GET /v1/matches/{id}/seats"]),
    http(CLIENT, &["GET /v1/matches/{id}/explain"]),
    http(CLIENT, &["POST /v1/matches/{id}/seats"]),
    http(CLIENT_OR_PLAYER, &["POST /v1/tickets", "GET /v1/tickets", "GET /v1/tickets/{id}", "DELETE /v1/tickets/{id}"]),
    http(CLIENT_OR_PLAYER, &["POST /v1/tickets/{id}/renew"]),
    http(CLIENT_OR_PLAYER, &["POST /v1/tickets/{id}/accept", "POST /v1/tickets/{id}/decline", "GET /v1/tickets/{id}/explain"]),
    http(CLIENT_OR_PLAYER, &["GET /v1/queues"]),
    http(GAME_SERVER, &["POST /v1/seats/{id}/claim", "PUT /v1/matches/{id}/free-seats"]),
    http(CLIENT_OR_GAME_SERVER, &["DELETE /v1/seats/{id}"]),
    http(ADMIN, &["GET /v1/servers"]),
    http(CLIENT, &["GET /v1/fleets"]),
    http(CLIENT, &["GET /v1/events"]),

    http(ANYBODY, &["GET /healthz", "GET /readyz"]),
    http(ANYBODY, &["GET /openapi.json", "GET /docs", "GET /docs/{file}"]),
    grpc(ANYBODY, &["grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch"]),
    grpc(ANYBODY, &["grpc.reflection.v1.ServerReflection/ServerReflectionInfo"]),
    grpc(ANYBODY, &["grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"]),
];

/// Every call: `METHOD /path` for those over HTTP, `POST /package.Service/Method` for those over gRPC.
#[must_use]
pub fn calls() -> Vec<String> {
    let http = RULES.iter().flat_map(|rule| rule.http).map(ToString::to_string);
    let grpc = RULES.iter().flat_map(|rule| rule.grpc).map(|name| format!("POST /{name}"));
    http.chain(grpc).collect()
}

/// The calls under one path.
#[derive(Default, Debug)]
pub(crate) struct Entry {
    methods: Vec<(Method, Access)>,
}

impl Entry {
    /// Who may call it with `method`; `None` if nobody can.
    pub(crate) fn access(&self, method: &Method) -> Option<Access> {
        // The router answers HEAD with the handler of GET.
        let wanted = if *method == Method::HEAD { &Method::GET } else { method };
        self.methods.iter().find(|(method, _)| method == wanted).map(|(_, access)| *access)
    }

    /// The methods, for a header.
    pub(crate) fn allowed(&self) -> String {
        self.methods.iter().map(|(method, _)| method.as_str()).collect::<Vec<_>>().join(", ")
    }
}

static BY_PATH: LazyLock<HashMap<String, Entry>> = LazyLock::new(|| {
    let mut by_path: HashMap<String, Entry> = HashMap::new();
    for rule in RULES {
        for (method, path) in rule.http.iter().filter_map(|line| line.split_once(' ')) {
            if let Ok(method) = method.parse() {
                by_path.entry(path.to_owned()).or_default().methods.push((method, rule.access));
            }
        }
        for name in rule.grpc {
            by_path.entry(format!("/{name}")).or_default().methods.push((Method::POST, rule.access));
        }
    }
    by_path
});

/// The calls under `path`: the path of a request, or the pattern of a route.
pub(crate) fn find(path: &str) -> Option<&'static Entry> {
    BY_PATH.get(path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::router::http_routes;

    #[test]
    fn the_http_routes_are_those_that_have_a_rule() {
        let ruled: Vec<_> = RULES.iter().flat_map(|rule| rule.http).map(ToString::to_string).collect();
        let served = http_routes().listed().to_vec();
        assert_eq!(BTreeSet::from_iter(&ruled), BTreeSet::from_iter(&served));
        assert_eq!(
            (ruled.len(), served.len()),
            (BTreeSet::from_iter(&ruled).len(), ruled.len()),
            "a route twice"
        );
    }

    #[test]
    fn the_grpc_methods_are_those_that_have_a_rule() {
        let sets = [
            sortie_wire::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut published = BTreeSet::new();
        for set in sets {
            for file in FileDescriptorSet::decode(set).unwrap().file {
                for service in &file.service {
                    let name = |method| format!("{}.{}/{method}", file.package(), service.name());
                    published.extend(service.method.iter().map(|method| name(method.name())));
                }
            }
        }
        let ruled = RULES.iter().flat_map(|rule| rule.grpc).map(ToString::to_string).collect();
        assert_eq!(published, ruled);
    }

    #[test]
    fn head_is_get_and_nothing_else_is() {
        let entry = find("/v1/matches").unwrap();
        assert_eq!(entry.access(&Method::HEAD), Some(CLIENT));
        assert_eq!(entry.access(&Method::PUT), None);
        assert_eq!(entry.allowed(), "POST, GET");
    }
}

//! Service `catena.catena_server_manager.CatenaServerManager`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use sortie_domain::broker::model::{Server, ServerState};
use sortie_domain::broker::{Broker, Command, Hints, MAX_OFFERS, MAX_REQUEST_WAIT, Offer, Refusal, Reply};
use sortie_domain::connection::Connection;
use sortie_domain::ids::{MatchId, PlayerId};
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::size::Size;
use sortie_engine::CallError;
use sortie_wire::any::Any;
use sortie_wire::catena::match_broker::Match;
use sortie_wire::catena::server_manager::{
    AdminAllocateServerRequest, AdminAllocateServerResponse, AdminDeallocateServerRequest,
    AdminDeallocateServerResponse, EndMatchRequest, EndMatchResponse, ListServersRequest,
    ListServersResponse, MatchReadyRequest, MatchReadyResponse, RequestMatchRequest, RequestMatchResponse,
    ServerInfo, ServerMatchInfo,
};
use sortie_wire::hints::UnknownHints;

use super::convert::{match_message, order, server_state};
use super::{match_id, refused, server_id};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::servers::{self, Checked, Purpose};
use crate::state::Api;

/// Servers queried from the broker at once, so that listing them does not block other calls.
const SERVERS_AT_ONCE: usize = 1_000;

/// Maximum size of a match, in bytes, that is repeated in an answer with several: gRPC clients accept 4 MiB by default.
const MAX_TWICE_BYTES: usize = (2 << 20) - (64 << 10);

/// A server asks for one or several matches. If it is willing to wait, the call is held as long as the broker's
/// settings allow.
pub(crate) async fn request_match(
    api: Api,
    caller: Caller,
    request: RequestMatchRequest,
) -> Result<RequestMatchResponse, ApiError> {
    let (server, hints) = (server_id(&request.server_id)?, hints(request.hint_flags)?);
    let most = within("maxMatches", request.max_matches, 1..=u64::from(MAX_OFFERS))?;
    let wait = within("waitSeconds", request.wait_seconds, 0..=MAX_REQUEST_WAIT.as_secs())?;
    if servers::check(&api, &caller, &server, Purpose::Register).await? == Checked::Forgotten {
        let hint_flags = Hints::SHUTDOWN.bits();
        return Ok(RequestMatchResponse { hint_flags, ..RequestMatchResponse::default() });
    }
    let waits = hints.has(Hints::WILLING_TO_WAIT) || wait.is_some_and(|seconds| seconds > 0);
    let command = Command::RequestMatch {
        server,
        requirements: request.requirements,
        hints,
        most: most.and_then(|most| u32::try_from(most).ok()).unwrap_or(1),
        wait: wait.map(Duration::from_secs),
    };
    let _wait = if waits { Some(api.shares.wait_for_match(&caller)?) } else { None };
    match api.call_held(command).await.map_err(refused)? {
        Some(Reply::Requested { offer, more, hints }) if most.is_some() => {
            Ok(several(offer.as_ref(), &more, hints))
        }
        Some(Reply::Requested { offer, hints, .. }) => Ok(RequestMatchResponse {
            r#match: offer.as_ref().map(offered),
            hint_flags: hints.bits(),
            ..RequestMatchResponse::default()
        }),
        // As if it had waited in full without a match: it asks again, and reaches the next process or a 503.
        None => Ok(RequestMatchResponse::default()),
        Some(other) => Err(ApiError::unexpected(&other)),
    }
}

/// The answer to a server that accepts several matches at once.
fn several(first: Option<&Offer>, more: &[Offer], hints: Hints) -> RequestMatchResponse {
    let bytes = |offer: &Offer| offer.spec.byte_size() + offer.players.byte_size();
    let fits_twice = |offer: &Offer| bytes(offer) <= MAX_TWICE_BYTES;
    RequestMatchResponse {
        r#match: first.filter(|offer| fits_twice(offer)).map(offered),
        hint_flags: hints.bits(),
        matches: first.into_iter().chain(more).map(offered).collect(),
    }
}

fn offered(offer: &Offer) -> Match {
    match_message(&offer.match_id, &offer.players, &offer.spec)
}

/// The number in `field`, if it was sent.
fn within(field: &str, sent: Option<i32>, range: RangeInclusive<u64>) -> Result<Option<u64>, ApiError> {
    let Some(sent) = sent else { return Ok(None) };
    let number = u64::try_from(sent).ok().filter(|number| range.contains(number));
    let problem = || ApiError::field(field, format!("must be {} to {}", range.start(), range.end()));
    number.map(Some).ok_or_else(problem)
}

/// A server is ready for a match's players.
pub(crate) async fn match_ready(
    api: Api,
    caller: Caller,
    request: MatchReadyRequest,
) -> Result<MatchReadyResponse, ApiError> {
    let server = server_id(&request.server_id)?;
    servers::check(&api, &caller, &server, Purpose::Report).await?;
    let command = Command::MatchReady {
        server,
        match_id: match_id(&request.match_id)?,
        connection: Connection {
            details: request.connection_details.into(),
            per_player: per_player(request.per_player_connection_details)?,
        },
        hints: hints(request.hint_flags)?,
    };
    let answer = |(match_id, hints): (MatchId, Hints)| MatchReadyResponse {
        match_id: match_id.as_str().to_owned(),
        hint_flags: hints.bits(),
    };
    noted(api.call(command).await, |late| Any::pack(&answer(late))).map(answer)
}

/// A match is over.
pub(crate) async fn end_match(
    api: Api,
    caller: Caller,
    request: EndMatchRequest,
) -> Result<EndMatchResponse, ApiError> {
    let server = server_id(&request.server_id)?;
    servers::check(&api, &caller, &server, Purpose::Report).await?;
    let command = Command::EndMatch {
        server,
        match_id: match_id(&request.match_id)?,
        hints: hints(request.hint_flags)?,
    };
    let answer = |(match_id, hints): (MatchId, Hints)| EndMatchResponse {
        match_id: match_id.as_str().to_owned(),
        hint_flags: hints.bits(),
    };
    noted(api.call(command).await, |late| Any::pack(&answer(late))).map(answer)
}

/// Every server that is known.
pub(crate) async fn list_servers(api: Api, _: ListServersRequest) -> Result<ListServersResponse, ApiError> {
    let mut response = ListServersResponse::default();
    let mut after = None;
    loop {
        let page = api.query(move |broker| {
            let page = broker.servers(after.as_ref(), SERVERS_AT_ONCE);
            let infos: Vec<_> = page.items.iter().map(|server| server_info(broker, server)).collect();
            (infos, page.items.into_iter().next_back().filter(|_| page.more))
        });
        let (infos, last) = page.await?;
        response.servers.extend(infos);
        match last {
            Some(server) => after = Some(server.id),
            None => return Ok(response),
        }
    }
}

/// An administrator starts a server, for a match if the request has one.
pub(crate) async fn admin_allocate_server(
    api: Api,
    request: AdminAllocateServerRequest,
) -> Result<AdminAllocateServerResponse, ApiError> {
    let (id, spec) = match &request.r#match {
        Some(game) => order("match", game).map(|(id, spec)| (id, Some(spec)))?,
        None => (None, None::<MatchSpec>),
    };
    let reply = api.call(Command::AllocateServer { id, spec }).await;
    match reply.map_err(|error| refused(error).renamed(|field| Some(format!("match.{field}"))))? {
        Reply::Allocated { server, .. } => {
            Ok(AdminAllocateServerResponse { server_id: server.as_str().to_owned() })
        }
        other => Err(ApiError::unexpected(&other)),
    }
}

/// An administrator stops a server.
pub(crate) async fn admin_deallocate_server(
    api: Api,
    request: AdminDeallocateServerRequest,
) -> Result<AdminDeallocateServerResponse, ApiError> {
    let server = server_id(&request.server_id)?;
    match api.call(Command::DeallocateServer { server }).await.map_err(refused)? {
        Reply::Deallocated { state, matches } => Ok(AdminDeallocateServerResponse {
            success: true,
            state: server_state(state).into(),
            matches: matches.into_iter().map(|(id, connection)| match_info(&id, connection)).collect(),
        }),
        other => Err(ApiError::unexpected(&other)),
    }
}

fn hints(bits: u32) -> Result<Hints, ApiError> {
    Hints::from_bits(bits).ok_or_else(|| {
        let text = UnknownHints { bits }.to_string();
        let problem = text.split_once(": ").map_or(text.as_str(), |(_, problem)| problem);
        ApiError::field("hintFlags", problem)
    })
}

fn per_player(details: BTreeMap<String, String>) -> Result<BTreeMap<PlayerId, Arc<str>>, ApiError> {
    let details = details.into_iter().map(|(player, details)| {
        let player = PlayerId::new(&player).map_err(|problem| {
            ApiError::field("perPlayerConnectionDetails", format!("a player's id {problem}"))
        })?;
        Ok((player, details.into()))
    });
    details.collect()
}

/// Converts the reply to a report about a match. A report that comes too late is refused, and the refusal carries the
/// answer with its hints, so that the server can still be told to exit.
fn noted(
    reply: Result<Reply, CallError<Refusal>>,
    late: impl FnOnce((MatchId, Hints)) -> Any,
) -> Result<(MatchId, Hints), ApiError> {
    match reply {
        Ok(Reply::Noted { match_id, hints }) => Ok((match_id, hints)),
        Ok(other) => Err(ApiError::unexpected(&other)),
        Err(error) => {
            let answer = match &error {
                CallError::Refused(refusal @ Refusal::MatchNotHeld { match_id, .. }) => {
                    Some(late((match_id.clone(), refusal.hints())))
                }
                _ => None,
            };
            let error = refused(error);
            Err(answer.into_iter().fold(error, ApiError::with_answer))
        }
    }
}

fn server_info(broker: &Broker, server: &Server) -> ServerInfo {
    ServerInfo {
        server_id: server.id.as_str().to_owned(),
        requested_match: server.state != ServerState::Pending,
        matches: server.matches.iter().map(|id| match_info(id, broker.connection(id))).collect(),
        is_full: matches!(server.state, ServerState::Full | ServerState::Draining { .. }),
        originating_allocator: server
            .fleet
            .as_ref()
            .map(|fleet| fleet.as_str().to_owned())
            .unwrap_or_default(),
    }
}

fn match_info(id: &MatchId, connection: Option<Arc<str>>) -> ServerMatchInfo {
    ServerMatchInfo {
        match_id: id.as_str().to_owned(),
        connection_string: connection.map(|details| details.as_ref().to_owned()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use sortie_domain::properties::Properties;

    use super::*;

    fn offer(id: &str, players: usize) -> Offer {
        let properties = Properties::parse(&format!(r#"{{"x":"{}"}}"#, "x".repeat(60_000))).unwrap();
        let players: Vec<_> = (0..players).map(|n| PlayerId::new(&format!("p{n}")).unwrap()).collect();
        let player_properties = players.iter().map(|player| (player.clone(), properties.clone())).collect();
        Offer {
            server: sortie_domain::ids::ServerId::new("s").unwrap(),
            match_id: MatchId::new(id).unwrap(),
            spec: Arc::new(MatchSpec { players: players.clone(), player_properties, ..MatchSpec::default() }),
            players,
            pickup: 1,
            again: false,
        }
    }

    #[test]
    fn a_match_too_large_to_stand_twice_in_an_answer_is_in_the_list_only() {
        let small = several(Some(&offer("a", 1)), &[offer("b", 1)], Hints::NONE);
        assert_eq!(small.r#match.as_ref(), small.matches.first());
        assert_eq!(small.matches.len(), 2);
        let large = several(Some(&offer("a", 40)), &[], Hints::NONE);
        assert_eq!((large.r#match, large.matches.len()), (None, 1));
    }
}

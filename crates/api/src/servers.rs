//! Which game servers a caller speaks for, and what it may do with their matches: every call of a game server is
//! checked here.
//!
//! Calls of a server that is gone reach the broker, which tells it to exit and changes nothing.

use sortie_domain::broker::model::Match;
use sortie_domain::broker::{Broker, Refusal};
use sortie_domain::ids::{FleetId, MatchId, SeatId, ServerId};

use crate::auth::Caller;
use crate::codes;
use crate::error::ApiError;
use crate::holders::{Holder, MAX_REMEMBERED, ServersOfKey, SpeaksFor};
use crate::state::Api;

/// Servers queried at once, so that other calls are not blocked.
const ASKED_AT_ONCE: usize = 1_000;

/// What the broker knows about a server id.
enum Known {
    /// It is live, and was started for this fleet, if for any.
    Live(Option<FleetId>),
    Gone,
    Unknown,
}

impl Known {
    fn of(broker: &Broker, server: &ServerId) -> Self {
        match broker.find_server(server) {
            Some(known) => Self::Live(known.fleet.clone()),
            None if broker.is_gone(server) => Self::Gone,
            None => Self::Unknown,
        }
    }
}

/// What a call about a server is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To register it, if it is not yet.
    Register,
    /// To report about it; the broker refuses wrong reports, and tells a server that is gone to exit.
    Report,
    /// For actions that only a live server may do.
    Act,
}

fn not_yours(server: &ServerId) -> ApiError {
    codes::FORBIDDEN.error(format!("this API key does not speak for the game server {server}"))
}

fn nothing_there() -> ApiError {
    codes::FORBIDDEN.error("this is not on a game server that this API key speaks for")
}

/// How to answer a call for a server that the caller speaks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Checked {
    /// With the broker's answer.
    Go,
    /// With a hint to exit: it has been gone for so long that the broker would register it again.
    Forgotten,
}

/// Checks that the caller speaks for `server`.
///
/// # Errors
/// `forbidden` if it does not.
pub(crate) async fn check(
    api: &Api,
    caller: &Caller,
    server: &ServerId,
    purpose: Purpose,
) -> Result<Checked, ApiError> {
    let holder = match caller.servers() {
        SpeaksFor::All => return Ok(Checked::Go),
        SpeaksFor::Itself(own) if own != server => return Err(not_yours(server)),
        SpeaksFor::Itself(_) => Some(Holder::Itself),
        SpeaksFor::Registered { key, .. } => Some(*key),
        SpeaksFor::None | SpeaksFor::Fleets(_) => None,
    };
    if holder.is_some_and(|holder| api.holders.has_lately(server, holder)) {
        return Ok(Checked::Go);
    }
    let asked = server.clone();
    let known = api.query(move |broker| Known::of(broker, &asked)).await?;
    if !speaks_for(api, caller, server, &known, purpose).await? {
        return Err(not_yours(server));
    }
    let forgotten = matches!((holder, known), (Some(Holder::Itself), Known::Unknown));
    Ok(if forgotten { Checked::Forgotten } else { Checked::Go })
}

async fn speaks_for(
    api: &Api,
    caller: &Caller,
    server: &ServerId,
    known: &Known,
    purpose: Purpose,
) -> Result<bool, ApiError> {
    match (caller.servers(), known) {
        (SpeaksFor::None, _) => return Ok(false),
        (SpeaksFor::All, _) => return Ok(true),
        (SpeaksFor::Itself(own), _) if own != server => return Ok(false),
        // The broker changes nothing for a server that is gone.
        (_, Known::Gone) => return Ok(purpose != Purpose::Act),
        (SpeaksFor::Itself(_), Known::Unknown) => return Ok(purpose != Purpose::Act),
        (SpeaksFor::Itself(_), Known::Live(_)) => {}
        (SpeaksFor::Fleets(fleets), known) => {
            let ServersOfKey::OfFleets(fleets) = &**fleets else { return Ok(false) };
            return Ok(matches!(known, Known::Live(Some(fleet)) if fleets.contains(fleet)));
        }
        (SpeaksFor::Registered { .. }, Known::Unknown) if purpose != Purpose::Register => {
            return Ok(purpose == Purpose::Report);
        }
        // It has a key of its own, or one that an older version gave it.
        (SpeaksFor::Registered { inherited: false, .. }, Known::Live(Some(_)))
            if api.options.auth.knows_servers() =>
        {
            return Ok(false);
        }
        (SpeaksFor::Registered { .. }, _) => {}
    }
    let holder = match caller.servers() {
        SpeaksFor::Registered { key, .. } => *key,
        _ => Holder::Itself,
    };
    make_room(api).await?;
    Ok(api.holders.take(server, holder, matches!(known, Known::Live(_))))
}

/// Forgets the owners of servers that are gone, if there are too many to remember.
///
/// # Errors
/// `too_many` if there are still too many.
async fn make_room(api: &Api) -> Result<(), ApiError> {
    if !api.holders.is_full() {
        return Ok(());
    }
    for ids in api.holders.overdue().chunks(ASKED_AT_ONCE) {
        let ids = ids.to_vec();
        let dead = api.query(move |broker| {
            ids.into_iter().filter(|id| broker.find_server(id).is_none()).collect::<Vec<_>>()
        });
        api.holders.forget(&dead.await?);
    }
    if api.holders.is_full() { Err(ApiError::too_many("game servers", MAX_REMEMBERED)) } else { Ok(()) }
}

/// Checks that a match is on a server that the caller speaks for; clients see all matches. Unknown matches pass,
/// because the call itself reports them.
///
/// # Errors
/// `match_not_found` if it is not, so that nobody can try ids.
pub(crate) async fn check_visible(api: &Api, caller: &Caller, id: &MatchId) -> Result<(), ApiError> {
    if caller.is_client() {
        return Ok(());
    }
    let wanted = id.clone();
    let place = api.query(move |broker| broker.find_match(&wanted).map(|game| Place::of(broker, game)));
    match place.await? {
        Some(place) if !is_at_own(api, caller, &place).await? => {
            Err(Refusal::MatchNotFound(id.clone()).into())
        }
        _ => Ok(()),
    }
}

/// Checks that the caller may act on a match; unknown matches pass, because the call itself reports them. Returns the
/// server that the command is about, if it can only be one.
///
/// # Errors
/// `forbidden` if it is on another server, or `named` is another one.
pub(crate) async fn check_match(
    api: &Api,
    caller: &Caller,
    id: &MatchId,
    named: Option<ServerId>,
) -> Result<Option<ServerId>, ApiError> {
    let wanted = id.clone();
    let place = api.query(move |broker| broker.find_match(&wanted).map(|game| Place::of(broker, game)));
    check_place(api, caller, place.await?, named, false).await
}

/// The same about a seat and its match.
///
/// # Errors
/// As those of [`check_match`].
pub(crate) async fn check_seat(
    api: &Api,
    caller: &Caller,
    id: &SeatId,
    named: Option<ServerId>,
) -> Result<Option<ServerId>, ApiError> {
    let wanted = id.clone();
    let place = api.query(move |broker| broker.match_of_seat(&wanted).map(|game| Place::of(broker, game)));
    check_place(api, caller, place.await?, named, false).await
}

/// Checks that the caller may release a seat; clients may release any.
///
/// # Errors
/// `forbidden` if its match is not on a server that the caller speaks for.
pub(crate) async fn check_release(api: &Api, caller: &Caller, id: &SeatId) -> Result<(), ApiError> {
    if caller.is_client() {
        return Ok(());
    }
    let wanted = id.clone();
    let place = api.query(move |broker| broker.match_of_seat(&wanted).map(|game| Place::of(broker, game)));
    check_place(api, caller, place.await?, None, true).await.map(drop)
}

async fn check_place(
    api: &Api,
    caller: &Caller,
    place: Option<Place>,
    named: Option<ServerId>,
    gives_back: bool,
) -> Result<Option<ServerId>, ApiError> {
    if let SpeaksFor::All = caller.servers() {
        return Ok(named);
    }
    if let (SpeaksFor::Itself(own), Some(named)) = (caller.servers(), &named)
        && own != named
    {
        return Err(not_yours(named));
    }
    match &place {
        // A match without a server can only have its seats released.
        Some(Place { server: None }) if !gives_back && caller.servers().registers_itself() => {}
        Some(place) if !is_at_own(api, caller, place).await? => return Err(nothing_there()),
        _ => {}
    }
    Ok(match caller.servers() {
        SpeaksFor::Itself(own) => Some(own.clone()),
        _ => named.or_else(|| place?.server.map(|(server, _)| server)),
    })
}

/// Where a match is.
struct Place {
    server: Option<(ServerId, Known)>,
}

impl Place {
    fn of(broker: &Broker, game: &Match) -> Self {
        let server = game.server.as_ref().map(|server| (server.clone(), Known::of(broker, server)));
        Self { server }
    }
}

async fn is_at_own(api: &Api, caller: &Caller, place: &Place) -> Result<bool, ApiError> {
    match &place.server {
        None => Ok(matches!(caller.servers(), SpeaksFor::All)),
        Some((server, known)) => speaks_for(api, caller, server, known, Purpose::Act).await,
    }
}

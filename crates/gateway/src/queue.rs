//! Gets one player a seat through a queue of the matchmaker: finds or starts a ticket, waits until its match can be
//! played, takes the seat in it, mints the token.
//!
//! The ticket belongs to the matchmaker and outlives the connection; `desk` decides for how long. Likewise the seat
//! belongs to the broker: a player who goes away before the token arrives finds seat and token again, until the seat
//! expires.

use std::collections::BTreeMap;
use std::pin::pin;

use serde_json::{Map, Value};
use sortie_domain::broker::model::{Match, MatchState, Seat, SeatState};
use sortie_domain::broker::{self, Broker};
use sortie_domain::ids::{Draw, FleetId, MatchId, PlayerId, QueueId, RegionId, TicketId};
use sortie_domain::machine::Moment;
use sortie_domain::matchmaking::model::{
    CancelCause, Party, Player, Ticket, TicketEnd, TicketSpec, TicketState, whole_millis,
};
use sortie_domain::matchmaking::settings::{Hook, Settings};
use sortie_domain::matchmaking::words::summary;
use sortie_domain::matchmaking::{Command, Matchmaker, Refusal};
use sortie_domain::properties::Properties;
use sortie_domain::time::Timestamp;
use sortie_engine::CallError;

use crate::Inner;
use crate::admission::{Admission, Given, Way, token};
use crate::attempts::Attempts;
use crate::desk::{Desk, Entered, Found, Visit, key};
use crate::error::JoinError;
use crate::feedback::Feedback;
use crate::follow::{Followed, Reserved, is_unreachable};
use crate::games::Candidates;
use crate::join::now;
use crate::options::GameFleet;
use crate::progress::Progress;
use crate::vote;

/// Maximum number of look-ups of a player's ticket if other connections of the same player come and go.
const MAX_LOOKS: u32 = 16;
/// Why a queue cannot be entered.
const NO_SERVER: &str =
    "its matches have no game server, so there is no token for them: start tickets through the API";
const NO_VOTE: &str = "its players have to accept their matches, and an unidentified player cannot do that over \
    plain HTTP: send a player token, or use the websocket";

/// A player's request to a queue.
pub(crate) struct Entry {
    pub(crate) queue: QueueId,
    pub(crate) properties: Properties,
    /// The properties that the player has sent.
    told: Properties,
    pub(crate) latencies: BTreeMap<RegionId, u32>,
    /// The fleets of the game, if one is named.
    pub(crate) candidates: Option<Candidates>,
    /// Whether the player is identified beyond this request.
    pub(crate) is_known: bool,
    /// Whether the player can accept a match.
    pub(crate) can_vote: bool,
}

/// A player's input for a ticket, unchecked.
#[derive(Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) queue: &'a str,
    pub(crate) properties: Option<&'a Value>,
    pub(crate) latencies: Option<&'a Value>,
}

impl Entry {
    /// Checks a player's input. Rules and servers see the requested game as `game` and `version`.
    ///
    /// # Errors
    /// [`JoinError::Invalid`], naming the field.
    pub(crate) fn new(
        told: Told<'_>,
        candidates: Option<Candidates>,
        is_known: bool,
        can_vote: bool,
    ) -> Result<Self, JoinError> {
        let queue = QueueId::new(told.queue).map_err(|bad| JoinError::invalid("queue", bad.to_string()))?;
        let mut properties = match told.properties {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(properties)) => properties.clone(),
            Some(_) => return Err(JoinError::invalid("properties", "must be a JSON object")),
        };
        let text = |properties: Map<String, Value>| {
            if properties.is_empty() { String::new() } else { Value::Object(properties).to_string() }
        };
        let checked = |properties: Map<String, Value>| {
            Properties::parse(&text(properties)).map_err(|problem| JoinError::invalid("properties", problem))
        };
        let judged = checked(properties.clone())?;
        if let Some(candidate) = candidates.as_ref().and_then(|candidates| candidates.first()) {
            properties.insert("game".to_owned(), candidate.fleet.game.name.as_str().into());
            properties.insert("version".to_owned(), candidate.fleet.game.version.as_str().into());
        }
        let properties = checked(properties)?;
        let latencies = told.latencies.map(latencies).transpose()?.unwrap_or_default();
        Ok(Self { queue, properties, told: judged, latencies, candidates, is_known, can_vote })
    }

    fn spec(&self, player: &PlayerId, id: &TicketId) -> TicketSpec {
        TicketSpec {
            queue: self.queue.clone(),
            parties: vec![Party { id: None, players: vec![Player::new(player.clone())] }],
            leader: Some(player.clone()),
            properties: self.properties.clone(),
            latencies: self.latencies.clone(),
            idempotency_key: key(id),
            ttl: None,
            replaces: None,
        }
    }
}

fn latencies(told: &Value) -> Result<BTreeMap<RegionId, u32>, JoinError> {
    let wrong =
        || JoinError::invalid("latencies", r#"must be milliseconds by region, like {"eu": 30, "us": 110}"#);
    let regions = match told {
        Value::Null => return Ok(BTreeMap::new()),
        Value::Object(regions) => regions,
        _ => return Err(wrong()),
    };
    let read = |(region, latency): (&String, &Value)| {
        let region = RegionId::new(region).ok()?;
        Some((region, whole_millis(latency.as_f64()?)?))
    };
    regions.iter().map(|region| read(region).ok_or_else(wrong)).collect()
}

/// Waits in the queue and takes the seat.
///
/// # Errors
/// [`JoinError`]; the ticket, if it is not over, stays for a while.
pub(crate) async fn play(
    gateway: &Inner,
    player: &PlayerId,
    entry: &Entry,
    mut attempts: Attempts<'_>,
    progress: &mut Progress<'_>,
) -> Result<Admission, JoinError> {
    let Some(desk) = &gateway.desk else { return Err(JoinError::NoQueues) };
    let queueing = Queueing { gateway, desk, player, entry };
    let mut next = None;
    loop {
        let place = match next.take() {
            Some(reserved) => Place::Match(reserved),
            None => queueing.enter().await?,
        };
        let visit = match place {
            Place::Ticket(visit) => visit,
            Place::Match(reserved) => {
                match gateway.follow(*reserved, attempts.is_first(), progress).await? {
                    Followed::Admitted(admission) => return Ok(admission),
                    Followed::Lost => attempts.lost()?,
                    Followed::Unreachable => attempts.unreachable().await?,
                }
                continue;
            }
        };
        progress.send(Feedback::SessionRequestAccepted(visit.ticket.to_string())).await;
        match queueing.by_ticket(visit, progress).await? {
            Came::In(admission) => return Ok(*admission),
            Came::Back(reserved) => next = Some(reserved),
            Came::Lost => attempts.lost()?,
            Came::Unreachable => attempts.unreachable().await?,
            // The player still waits; changes of a party are limited elsewhere.
            Came::On => {}
        }
    }
}

/// The result of a ticket.
enum Came<'a> {
    In(Box<Admission>),
    /// The seat that the player has taken another way.
    Back(Box<Reserved<'a>>),
    /// A match that was over before its player came.
    Lost,
    /// A match that nobody can connect to.
    Unreachable,
    /// Another ticket with the player in it has taken its place.
    On,
}

struct Queueing<'a> {
    gateway: &'a Inner,
    desk: &'a Desk,
    player: &'a PlayerId,
    entry: &'a Entry,
}

/// A seat in a match that can be played.
struct Seated {
    seat: Seat,
    game: Match,
    fleet: GameFleet,
}

/// Where a player waits or plays.
enum Place<'a> {
    /// In the queue.
    Ticket(Visit),
    /// In a match.
    Match(Box<Reserved<'a>>),
}

/// What the matchmaker knows about a player's ticket.
enum Known {
    /// It waits, is in a match, or its players can connect; in the requested queue.
    Good(Ticket),
    /// It waits in another queue, or is in a match of it.
    Elsewhere(Ticket),
    None,
}

/// The state of a waiting ticket.
enum Standing {
    /// With a text for the player.
    Waiting(String),
    /// The player has to accept a match by then.
    Asked(Timestamp, String),
    /// The broker is looking for a server.
    FindingServer(MatchId, String),
    Completed(MatchId),
    Over(TicketEnd),
    Forgotten,
}

impl<'a> Queueing<'a> {
    /// The player's existing ticket, or a new one. A player who is in a match already needs none.
    async fn enter(&self) -> Result<Place<'a>, JoinError> {
        for _ in 0..MAX_LOOKS {
            match self.desk.find(self.player, self.entry.is_known) {
                Found::Ticket(visit) => match self.known(Some(visit.ticket.clone())).await? {
                    Known::Good(_) => return Ok(Place::Ticket(visit)),
                    Known::Elsewhere(ticket) => return Err(self.waits(&ticket)),
                    Known::None => visit.over(),
                },
                Found::Soon(news) => {
                    let mut soon = pin!(news.notified());
                    soon.as_mut().enable();
                    // It may have started in between.
                    if matches!(self.desk.find(self.player, self.entry.is_known), Found::Soon(_)) {
                        soon.await;
                    }
                }
                Found::Nothing => {
                    if let Some(place) = self.begin().await? {
                        return Ok(place);
                    }
                }
            }
        }
        Err(JoinError::EntersTwice)
    }

    /// Waits for a ticket's match and takes the seat in it.
    async fn by_ticket(&self, visit: Visit, progress: &mut Progress<'_>) -> Result<Came<'a>, JoinError> {
        let match_id = match self.wait(&visit, progress).await {
            Ok(match_id) => match_id,
            Err(error) if self.goes_on(&error).await? => {
                visit.over();
                return Ok(Came::On);
            }
            Err(error) => {
                if error.is_end_of_ticket() {
                    visit.over();
                }
                let back = if error.is_ticket_called_off() { self.led_back().await? } else { None };
                return back.map(Came::Back).ok_or(error);
            }
        };
        let (visit, came) = match self.seat(&match_id).await {
            Ok(Some(seated)) => match self.admit(seated, visit).await? {
                Ok(admission) => return Ok(Came::In(Box::new(admission))),
                Err(visit) => (visit, Came::Unreachable),
            },
            Ok(None) if self.was_unreachable(&match_id).await? => (visit, Came::Unreachable),
            Ok(None) => (visit, Came::Lost),
            Err(error @ JoinError::Refused(broker::Refusal::AlreadyInMatch { .. })) => {
                let reserved = self.led_back().await?.ok_or(error)?;
                visit.over();
                return Ok(Came::Back(reserved));
            }
            Err(error) => return Err(error),
        };
        tracing::debug!(ticket = %visit.ticket, "the match of a ticket is over, entering again");
        visit.over();
        Ok(came)
    }

    /// Whether a match is over because another of its players could not connect to it.
    async fn was_unreachable(&self, match_id: &MatchId) -> Result<bool, JoinError> {
        let id = match_id.clone();
        let found = self.gateway.broker.query(move |broker| broker.find_match(&id).map(is_unreachable));
        Ok(found.await? == Some(true))
    }

    /// The seat that the player has another way.
    async fn led_back(&self) -> Result<Option<Box<Reserved<'a>>>, JoinError> {
        if !self.entry.is_known {
            return Ok(None);
        }
        let found = self.gateway.lead_back(self.player, self.entry.candidates.as_ref()).await?;
        Ok(found.map(Box::new))
    }

    /// A ticket that another caller has started for the player, the match that the player is in, or a new ticket;
    /// `None` if another connection was faster.
    async fn begin(&self) -> Result<Option<Place<'a>>, JoinError> {
        match self.known(None).await? {
            Known::Good(ticket) => {
                let visit = self.desk.enter(self.player, &Entered::Known(&ticket), self.entry.is_known);
                return Ok(visit.map(Place::Ticket));
            }
            Known::Elsewhere(ticket) => return Err(self.waits(&ticket)),
            Known::None => {}
        }
        if let Some(reserved) = self.led_back().await? {
            return Ok(Some(Place::Match(reserved)));
        }
        self.check_ratings().await?;
        let draw = || getrandom::u64().map_err(|_| JoinError::NoRandomness);
        let moment = Moment { now: now(), entropy: [draw()?, draw()?] };
        let id = TicketId::draw(&mut Draw::new(moment));
        // Recorded before the start, so that the ticket is cancelled if the player goes away during it.
        let Some(visit) = self.desk.enter(self.player, &Entered::New(&id), self.entry.is_known) else {
            return Ok(None);
        };
        let spec = self.entry.spec(self.player, &id);
        match self.desk.maker.call(Command::Start { id: Some(id), spec }).await {
            Ok(_) => {
                visit.started();
                if self.entry.is_known && self.gives_way(&visit.ticket).await? {
                    visit.over();
                    return Ok(self.led_back().await?.map(Place::Match));
                }
                Ok(Some(Place::Ticket(visit)))
            }
            Err(CallError::Refused(refusal)) => {
                visit.over();
                Err(JoinError::TicketRefused(Box::new(refusal)))
            }
            Err(CallError::Unavailable(why)) => Err(why.into()),
        }
    }

    /// Whether the ticket was cancelled because the player has taken a seat in the meantime.
    async fn gives_way(&self, ticket: &TicketId) -> Result<bool, JoinError> {
        let first = self.entry.candidates.as_ref().and_then(|candidates| candidates.first());
        let name = first.map(|candidate| candidate.fleet.game.name.clone());
        self.gateway.gives_way(self.player, name, ticket).await
    }

    /// Refuses ratings that players send about themselves.
    async fn check_ratings(&self) -> Result<(), JoinError> {
        let options = &self.gateway.options;
        if options.dev || options.may_rate_themselves {
            return Ok(());
        }
        let (queue, told) = (self.entry.queue.clone(), self.entry.told.clone());
        let said = self
            .desk
            .maker
            .query(move |maker| maker.rated(&queue).iter().find_map(|rated| rated.said_in_properties(&told)));
        said.await?.map_or(Ok(()), |field| Err(JoinError::RatesItself(field)))
    }

    fn waits(&self, ticket: &Ticket) -> JoinError {
        let (player, ticket) = (self.player.clone(), ticket.id.clone());
        JoinError::TicketRefused(Box::new(Refusal::PlayerWaits { player, ticket }))
    }

    /// Whether another ticket with the player in it has replaced the one that ended with `error`.
    async fn goes_on(&self, error: &JoinError) -> Result<bool, JoinError> {
        let JoinError::TicketOver(end) = error else { return Ok(false) };
        let replaced = **end == TicketEnd::Cancelled(CancelCause::Replaced);
        Ok(replaced && matches!(self.known(None).await?, Known::Good(_)))
    }

    /// What is known about this ticket, or about the player's ticket in the queue.
    async fn known(&self, id: Option<TicketId>) -> Result<Known, JoinError> {
        let (player, queue) = (self.player.clone(), self.entry.queue.clone());
        let can_vote = self.entry.can_vote;
        let known = self.desk.maker.query(move |maker| {
            let settings = maker.settings();
            if let Some(own) = settings.queues.get(&queue) {
                if does_without_a_server(settings, &queue) {
                    return Err(NO_SERVER);
                }
                if own.accept.is_some() && !can_vote {
                    return Err(NO_VOTE);
                }
            }
            // A hook may have sent it on to another queue.
            let is_there = |ticket: &Ticket| ticket.queue == queue || ticket.spec.queue == queue;
            let ticket = match &id {
                Some(id) => maker.ticket(id),
                None => in_queue(maker, &player, is_there),
            };
            let Some(ticket) = ticket else { return Ok(Known::None) };
            let is_there = is_there(ticket);
            Ok(match &ticket.state {
                TicketState::Over { end: TicketEnd::Completed { .. }, .. } if is_there => {
                    Known::Good(ticket.clone())
                }
                TicketState::Over { .. } => Known::None,
                _ if is_there => Known::Good(ticket.clone()),
                _ => Known::Elsewhere(ticket.clone()),
            })
        });
        known.await?.map_err(|problem| JoinError::invalid("queue", problem))
    }

    /// Waits until a match that is made of the ticket can be played.
    async fn wait(&self, visit: &Visit, progress: &mut Progress<'_>) -> Result<MatchId, JoinError> {
        let mut is_due = false;
        loop {
            let mut news = pin!(visit.news.notified());
            // Events from here on notify.
            news.as_mut().enable();
            let text = match self.standing(visit.ticket.clone(), progress.wanted()).await? {
                Standing::Waiting(text) => text,
                Standing::FindingServer(match_id, text) if progress.wanted() => {
                    self.finding_server(match_id).await.unwrap_or(text)
                }
                Standing::FindingServer(_, text) => text,
                Standing::Asked(_, text) if progress.wanted() => text,
                // A player who gets a single answer would not hear about it in time.
                Standing::Asked(until, _) => {
                    return Err(JoinError::AcceptFirst { ticket: visit.ticket.clone(), until });
                }
                Standing::Completed(match_id) => return Ok(match_id),
                Standing::Over(end) => return Err(JoinError::TicketOver(Box::new(end))),
                Standing::Forgotten => return Err(JoinError::TicketForgotten),
            };
            if progress.wanted() && is_due {
                progress.report(text).await;
            } else if progress.wanted() {
                progress.news(text).await;
            }
            is_due = tokio::select! {
                () = news => false,
                () = progress.due(), if progress.wanted() => true,
            };
        }
    }

    async fn standing(&self, id: TicketId, in_words: bool) -> Result<Standing, JoinError> {
        let in_full = in_words && self.desk.may_explain();
        let (now, player) = (now(), self.player.clone());
        Ok(self.desk.maker.query(move |maker| standing(maker, &id, &player, in_full, now)).await?)
    }

    /// Why there is no server yet; `None` if the broker does not know the match.
    async fn finding_server(&self, match_id: MatchId) -> Option<String> {
        let asked = self.gateway.broker.query(move |broker| broker.standing(&match_id)).await;
        let standing = asked.ok().flatten()?;
        Some(format!("a match was found; {}", broker::words::summary(&standing)))
    }

    /// The player's seat in the match, with the fleet that plays it; `None` if the match is over.
    async fn seat(&self, match_id: &MatchId) -> Result<Option<Seated>, JoinError> {
        let broker = &self.gateway.broker;
        let id = match_id.clone();
        let Some((fleet, _)) = broker.query(move |broker| ready_match(broker, &id)).await? else {
            return Ok(None);
        };
        let fleet = self.fleet(fleet.as_ref())?;
        let (player, ttl) = (self.player.clone(), fleet.seat_ttl);
        let elsewhere = self.gateway.elsewhere();
        let reserve = broker::Command::ReserveSeat { match_id: match_id.clone(), player, ttl, elsewhere };
        let (seat, game) = match broker.call(reserve).await {
            Ok(broker::Reply::Seated { seat, game, .. }) => (seat, game),
            Ok(_) => return Err(JoinError::OtherReply),
            // Taken by another connection of this player, or by the matchmaker for a ticket that takes a free seat.
            Err(CallError::Refused(broker::Refusal::AlreadySeated(_))) => {
                match self.taken_seat(match_id, fleet).await? {
                    Some(found) => found,
                    None => return Ok(None),
                }
            }
            Err(CallError::Refused(
                broker::Refusal::MatchOver { .. }
                | broker::Refusal::MatchNotFound(_)
                | broker::Refusal::MatchFull(_),
            )) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Seated { seat, game, fleet: fleet.clone() }))
    }

    /// The player's existing seat, with a renewed deadline to claim it; `None` if it is gone.
    async fn taken_seat(
        &self,
        match_id: &MatchId,
        fleet: &GameFleet,
    ) -> Result<Option<(Seat, Match)>, JoinError> {
        let (id, player) = (match_id.clone(), self.player.clone());
        let found = self.gateway.broker.query(move |broker| {
            let (_, game) = ready_match(broker, &id)?;
            Some(game.seats.of_player(&player)?.state)
        });
        let Some(state) = found.await? else { return Ok(None) };
        if matches!(state, SeatState::Claimed { .. }) && !self.gateway.options.rejoin {
            return Err(JoinError::AlreadyPlays);
        }
        let (match_id, player) = (match_id.clone(), self.player.clone());
        let (ttl, elsewhere) = (fleet.seat_ttl, self.gateway.elsewhere());
        let rejoin = broker::Command::Rejoin { match_id, player, ttl, elsewhere };
        match self.gateway.broker.call(rejoin).await {
            Ok(broker::Reply::Seated { seat, game, .. }) => Ok(Some((seat, game))),
            Ok(_) => Err(JoinError::OtherReply),
            Err(CallError::Refused(_)) => Ok(None),
            Err(CallError::Unavailable(why)) => Err(why.into()),
        }
    }

    /// How tokens for a fleet's servers are made. A server outside any game's fleets is assumed to run the requested
    /// game.
    fn fleet(&self, id: Option<&FleetId>) -> Result<&GameFleet, JoinError> {
        let games = &self.gateway.options.games;
        let named = id.and_then(|id| games.iter().find(|game| game.fleet == *id));
        let asked = || Some(&self.entry.candidates.as_ref()?.first()?.fleet);
        named.or_else(asked).ok_or(JoinError::NoGame)
    }

    /// The admission to the match; the visit again if nobody can connect to it.
    async fn admit(&self, seated: Seated, visit: Visit) -> Result<Result<Admission, Visit>, JoinError> {
        let Seated { seat, game, fleet } = seated;
        let MatchState::Ready { connection, .. } = &game.state else { return Err(JoinError::MatchesEnded) };
        let expires_at = seat.claimable_until().ok_or(JoinError::MatchesEnded)?;
        let details = connection.for_player(&seat.player);
        let Some(address) = self.gateway.reach(&seat.match_id, details, self.gateway.lookup_until()).await?
        else {
            return Ok(Err(visit));
        };
        let token = token(&self.gateway.options, &fleet, &seat, expires_at, address)?;
        let (given, way) = (Given::Ticket(visit), Way::Queue);
        Ok(Ok(Admission { address, token, given, way, player_key: None }))
    }
}

/// The player's ticket in the queue; if there is none and the player may not wait in another queue, the oldest ticket.
fn in_queue<'a>(
    maker: &'a Matchmaker,
    player: &PlayerId,
    is_there: impl Fn(&Ticket) -> bool,
) -> Option<&'a Ticket> {
    let most = maker.settings().queues_per_player as usize;
    let has_room = maker.tickets_of(player).count() < most;
    maker
        .tickets_of(player)
        .find(|ticket| is_there(ticket))
        .or_else(|| maker.tickets_of(player).next().filter(|_| !has_room))
}

fn does_without_a_server(settings: &Settings, queue: &QueueId) -> bool {
    let own = settings.queues.get(queue).map(|queue| &queue.hooks);
    let mut hooks = settings.hooks.iter().chain(own.into_iter().flatten());
    hooks.any(|hook| matches!(hook, Hook::PeerToPeerHost(_)))
}

/// A playable match, and the fleet of its server.
fn ready_match(broker: &Broker, id: &MatchId) -> Option<(Option<FleetId>, Match)> {
    let game = broker.find_match(id).filter(|game| matches!(game.state, MatchState::Ready { .. }))?;
    let server = game.server.as_ref().and_then(|server| broker.allocation_of(server));
    Some((server.map(|order| order.fleet.clone()), game.clone()))
}

fn standing(maker: &Matchmaker, id: &TicketId, player: &PlayerId, in_full: bool, now: Timestamp) -> Standing {
    let Some(ticket) = maker.ticket(id) else { return Standing::Forgotten };
    match &ticket.state {
        TicketState::Over { end: TicketEnd::Completed { match_id, .. }, .. } => {
            Standing::Completed(match_id.clone())
        }
        TicketState::Over { end, .. } => Standing::Over(end.clone()),
        TicketState::Proposed { match_id, .. } => {
            let Some(formation) = maker.formation(match_id) else { return Standing::Forgotten };
            let text = vote::words(formation, player, now);
            match vote::accept_by(formation, player) {
                Some(until) => Standing::Asked(until, text),
                None => Standing::Waiting(text),
            }
        }
        TicketState::FindingServer { match_id, .. } => {
            let known = maker.glance(id, now);
            known.map_or(Standing::Forgotten, |known| {
                Standing::FindingServer(match_id.clone(), summary(&known, now))
            })
        }
        _ => {
            let known = if in_full { maker.explain(id, now) } else { maker.glance(id, now) };
            known.map_or(Standing::Forgotten, |known| Standing::Waiting(summary(&known, now)))
        }
    }
}

//! Service `catena.events.Events`: events for players, and matches that arrive as events.

use std::sync::Arc;

use futures::Stream;
use futures::stream::unfold;
use sortie_domain::broker::event::Event as BrokerEvent;
use sortie_domain::broker::{Broker, Command};
use sortie_domain::ids::MatchId;
use sortie_domain::machine::Record;
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::matchmaking::{Event as MakerEvent, Matchmaker};
use sortie_engine::{Cursor, Handle, SubscribeError, Subscription, Unavailable};
use sortie_wire::catena::events::{
    AdminEmitUpdateEventRequest, AdminEmitUpdateEventResponse, EmitUpdateEventRequest,
    EmitUpdateEventResponse, EmptyEvent, Event, SubscribeToEventsByTagRequest,
    SubscribeToEventsByTagResponse, SubscribeToEventsResponse, event::Payload,
};
use sortie_wire::catena::matchmaking::NewMatchEvent;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::convert::{match_message, order};
use super::refused;
use crate::auth::{Caller, Pass};
use crate::codes;
use crate::error::ApiError;
use crate::player_feed::{Listener, Position};
use crate::shares::OpenStream;
use crate::state::Api;

/// The tag of events about a new match.
pub(crate) const NEW_MATCH: &str = "new-match";

/// The path of the match in a request that emits one.
const NEW_MATCH_PATH: &str = "nestedEvent.newMatchEvent.match";

/// A backend submits a match.
pub(crate) async fn emit_update_event(
    api: Api,
    request: EmitUpdateEventRequest,
) -> Result<EmitUpdateEventResponse, ApiError> {
    emit(&api, request.nested_event).await?;
    Ok(EmitUpdateEventResponse { broadcast_success: true })
}

/// An administrator submits a match.
pub(crate) async fn admin_emit_update_event(
    api: Api,
    request: AdminEmitUpdateEventRequest,
) -> Result<AdminEmitUpdateEventResponse, ApiError> {
    emit(&api, request.nested_event).await?;
    Ok(AdminEmitUpdateEventResponse { broadcast_success: true })
}

async fn emit(api: &Api, event: Option<Event>) -> Result<(), ApiError> {
    let Some(Payload::NewMatchEvent(event)) = event.and_then(|event| event.payload) else {
        let problem = "must have a newMatchEvent: other events are not accepted";
        return Err(codes::UNSUPPORTED_EVENT.error(problem).about("nestedEvent"));
    };
    let Some(game) = event.r#match else {
        return Err(ApiError::field(NEW_MATCH_PATH, "is missing"));
    };
    let (id, spec) = order(NEW_MATCH_PATH, &game)?;
    let reply = api.call(Command::SubmitMatch { id, spec }).await;
    reply.map_err(|error| refused(error).renamed(|field| Some(format!("{NEW_MATCH_PATH}.{field}"))))?;
    Ok(())
}

/// Streams a player the news of its tickets and matches: everything after the event `from`, or without it their current
/// state and everything after that. The first event is empty: it shows that the stream is open.
pub(crate) async fn subscribe_to_events(
    api: Api,
    caller: &Caller,
    from: Option<Position>,
) -> Result<impl Stream<Item = Result<SubscribeToEventsResponse, ApiError>> + Send + use<>, ApiError> {
    let player = caller.player()?;
    let pulse = Pulse::new(&api, caller)?;
    let listener = api.player_feed.listen(player, from).await?;
    let stream = PlayerStream { pulse, listener };
    Ok(unfold(Some(stream), |stream| async move {
        let mut stream = stream?;
        let event = stream.next().await.and_then(|event| stream.pulse.pass.check().map(|()| event));
        let open = event.is_ok().then_some(stream);
        Some((event.map(|event| SubscribeToEventsResponse { event: Some(event) }), open))
    }))
}

/// Streams events with certain tags. The first one is empty.
///
/// A new match is one that the broker accepts, from any source, or one of the matchmaker's that needs no broker because
/// its players connect to one of themselves.
pub(crate) async fn subscribe_to_events_by_tag(
    api: Api,
    caller: &Caller,
    request: SubscribeToEventsByTagRequest,
) -> Result<impl Stream<Item = Result<SubscribeToEventsByTagResponse, ApiError>> + Send + use<>, ApiError> {
    if !request.event_tags.iter().any(|tag| tag == NEW_MATCH) {
        let problem = format!("must have `{NEW_MATCH}`: no event has another tag");
        return Err(ApiError::field("eventTags", problem));
    }
    let pulse = Pulse::new(&api, caller)?;
    let permit = api.log_stream()?;
    let broker = api.options.broker.clone();
    let of_broker = broker.subscribe(Cursor::Latest);
    let of_maker = api.options.matchmaker.as_ref().map(|maker| maker.subscribe(Cursor::Latest));
    let stream = TagStream { pulse, broker, of_broker, of_maker, formed: None, _permit: permit };
    Ok(unfold(Some(stream), |stream| async move {
        let mut stream = stream?;
        let response = stream.next().await.and_then(|event| stream.pulse.pass.check().map(|()| event));
        let open = response.is_ok().then_some(stream);
        Some((response, open))
    }))
}

/// What every stream has in addition to its events: its share of the caller's limit, a first event, signs of life, and
/// an end, also when its key is revoked, which is noticed when there is something to send.
struct Pulse {
    _open: OpenStream,
    opened: bool,
    heartbeat: Interval,
    closing: CancellationToken,
    pass: Pass,
}

impl Pulse {
    fn new(api: &Api, caller: &Caller) -> Result<Self, ApiError> {
        let open = api.shares.stream(caller)?;
        let period = api.options.limits.heartbeat;
        let mut heartbeat = interval_at(Instant::now() + period, period);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let closing = api.options.closing.clone();
        Ok(Self { _open: open, opened: false, heartbeat, closing, pass: caller.pass() })
    }

    /// Whether this is the first call.
    fn is_first(&mut self) -> bool {
        !std::mem::replace(&mut self.opened, true)
    }

    /// An empty event when it is time for one; the end of the stream when the process ends.
    async fn beat(&mut self) -> Result<Event, ApiError> {
        tokio::select! {
            biased;
            () = self.closing.cancelled() => Err(Unavailable::ShuttingDown.into()),
            _ = self.heartbeat.tick() => Ok(empty()),
        }
    }
}

fn empty() -> Event {
    Event { payload: Some(Payload::EmptyEvent(EmptyEvent {})), ..Event::default() }
}

struct PlayerStream {
    pulse: Pulse,
    listener: Listener,
}

impl PlayerStream {
    async fn next(&mut self) -> Result<Event, ApiError> {
        if self.pulse.is_first() {
            return Ok(empty());
        }
        // Shutdown is checked first, so that a dense stream of events cannot delay it.
        tokio::select! {
            biased;
            beat = self.pulse.beat() => beat,
            event = self.listener.next() => event,
        }
    }
}

struct TagStream {
    pulse: Pulse,
    broker: Handle<Broker>,
    of_broker: Subscription<Broker>,
    of_maker: Option<Subscription<Matchmaker>>,
    /// The match that the newest event of the matchmaker has formed.
    formed: Option<(MatchId, Arc<MatchSpec>)>,
    _permit: OwnedSemaphorePermit,
}

impl TagStream {
    async fn next(&mut self) -> Result<SubscribeToEventsByTagResponse, ApiError> {
        if self.pulse.is_first() {
            return Ok(SubscribeToEventsByTagResponse { event: Some(empty()), event_tags: Vec::new() });
        }
        loop {
            tokio::select! {
                biased;
                beat = self.pulse.beat() => {
                    return Ok(SubscribeToEventsByTagResponse { event: Some(beat?), event_tags: Vec::new() });
                }
                record = self.of_broker.next() => {
                    let record = record?;
                    if let BrokerEvent::MatchQueued { id, spec } = &record.event {
                        let at = Position { broker: record.seq, maker: 0 };
                        return Ok(new_match(at, id, spec));
                    }
                }
                record = next_of(&mut self.of_maker) => {
                    let record = record?;
                    if let Some((id, spec)) = self.without_server(&record.event).await? {
                        let at = Position { broker: 0, maker: record.seq };
                        return Ok(new_match(at, &id, &spec));
                    }
                }
            }
        }
    }

    /// A match that is now ready and that the broker never hears about: the event after the one that formed it makes it
    /// ready.
    async fn without_server(
        &mut self,
        event: &MakerEvent,
    ) -> Result<Option<(MatchId, Arc<MatchSpec>)>, ApiError> {
        let formed = self.formed.take();
        match event {
            MakerEvent::MatchFormed { id, spec, .. } => {
                self.formed = Some((id.clone(), Arc::clone(spec)));
                Ok(None)
            }
            MakerEvent::MatchReady { id, .. } => {
                let Some(formed) = formed.filter(|(of, _)| of == id) else { return Ok(None) };
                let id = id.clone();
                let known = self.broker.query(move |broker| broker.find_match(&id).is_some()).await?;
                Ok((!known).then_some(formed))
            }
            _ => Ok(None),
        }
    }
}

async fn next_of(
    of_maker: &mut Option<Subscription<Matchmaker>>,
) -> Result<Arc<Record<MakerEvent>>, SubscribeError> {
    match of_maker {
        Some(of_maker) => of_maker.next().await,
        None => std::future::pending().await,
    }
}

fn new_match(at: Position, id: &MatchId, spec: &MatchSpec) -> SubscribeToEventsByTagResponse {
    let game = match_message(id, &spec.players, spec);
    let event = Event {
        event_id: at.to_string(),
        payload: Some(Payload::NewMatchEvent(NewMatchEvent { r#match: Some(game) })),
        ..Event::default()
    };
    SubscribeToEventsByTagResponse { event: Some(event), event_tags: vec![NEW_MATCH.to_owned()] }
}

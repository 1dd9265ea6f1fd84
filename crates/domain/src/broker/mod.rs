//! The broker: brings matches and servers together.
//!
//! | module | contents |
//! |---|---|
//! | [`model`] | its data types |
//! | [`command`], [`event`] | commands, replies, refusals; decisions |
//! | `match_lifecycle` | queued → picked up → ready → ended, cancelled or failed |
//! | `server_lifecycle` | pending → available → full → draining → gone; the game servers' calls |
//! | `allocation_lifecycle` | from the order for a server until nothing is left of it |
//! | [`address`] | connection details as an address; which ones are refused |
//! | `seats` | drop-in play: reserve, claim, release, expire; free places reported by servers |
//! | `placement` | which server gets which match, and when a new server is ordered |
//! | `timers` | every deadline, and what it ends |
//! | `state`, `indexes` | the durable state, how events change it; indexes over its records |
//! | `seating` | the seats of a match, and their counts |
//! | `budget`, `sizes` | how many bytes may wait |
//! | `kept`, `past` | records of the past, within a budget of bytes |
//! | `looking` | searches for a server, or for a match, over several steps |
//! | `queue`, `verdicts` | which is the oldest match that fits; how many are older |
//! | `askers`, `free`, `idle` | which is the first server that a match fits; which servers are free, and how old they are |
//! | `fleets` | fleets' terms for the matches that their servers take |
//! | `classes` | queued matches by the fleets that may take them, for ordering |
//! | `untold` | matches that servers may never have heard about |
//! | `waiting` | calls that are answered later |
//! | [`explain`], [`words`] | why a match still waits or why it failed: as data, and as text |
//! | [`conjuncts`] | what requirements demand, part by part |
//!
//! One turn takes one input: first due timers fire, then the input is processed, then what follows from both (servers
//! are ordered, watchers are answered). Rules read the state and emit events; only `state` changes anything.
//!
//! A turn is bounded ([`Step::is_full`]): each loop checks before each piece of work whether there is room, and the
//! rest is due at once. The rest is found again from the state (timers, [draining](model::GoneCause) servers with
//! matches to fail, fleets that are not configured any more, matches without a server) or belongs to calls, which a
//! restart forgets as well. While more is due than fits, only ticks work on it, so that no input waits for all of it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

pub mod address;
mod allocation_lifecycle;
pub mod always;
mod askers;
mod budget;
mod classes;
mod collecting;
pub mod command;
pub mod conjuncts;
pub mod event;
pub mod explain;
mod fleets;
mod free;
mod idle;
mod indexes;
mod kept;
mod looking;
mod match_lifecycle;
pub mod model;
mod past;
mod placement;
mod queries;
mod queue;
mod recent;
mod seating;
mod seats;
mod server_lifecycle;
mod settings;
mod sizes;
mod state;
mod timers;
mod untold;
mod verdicts;
mod waiting;
mod warm;
pub mod words;

pub use command::{Command, Hints, Offer, Refusal, Reply, SeatsElsewhere};
pub use event::{Effect, Event};
pub use explain::{Explanation, Standing};
pub use fleets::Unnamed;
pub use kept::{CLOSED_SEATS_KEPT, FINISHED_KEPT, GONE_KEPT, ORDERS_KEPT_FOR, PastOrder};
pub use past::Past;
pub use queries::FleetView;
pub use state::{Configured, FIRST_BACKOFF, MAX_BACKOFF, Snapshot};
pub use timers::LEAVE_TIME;
pub use untold::AGAIN_AFTER;

use crate::ids::{Draw, FleetId, MatchId, SeatId, ServerId};
use crate::machine::{Answer, CallId, Machine, Moment, Record, Step};
use crate::requirements::{Requirement, Requirements};
use crate::time::Timestamp;
use crate::waits::Waits;
use collecting::Collected;
use fleets::AllTerms;
use free::{Expected, FreeServers};
use looking::Looking;
use model::AllocationState;
use recent::Recent;
use server_lifecycle::Asking;
use state::State;
use untold::Untold;
use waiting::{Waiters, Watchers};

/// Maximum number of matches that wait for a server.
pub const MAX_QUEUED: usize = 1_000_000;
/// Maximum number of servers known at a time.
pub const MAX_SERVERS: usize = 100_000;
/// Maximum number of matches in one answer to a server.
pub const MAX_OFFERS: u32 = 32;
/// Maximum bytes of all matches of one answer, by [`Size`](crate::size::Size); a single match may take more.
pub const MAX_OFFERS_BYTES: usize = 1 << 20;
/// Maximum time for which a server may ask to be held until a match fits, or to collect several.
pub const MAX_REQUEST_WAIT: Duration = Duration::from_secs(300);
/// Maximum number of servers' calls that wait for a match.
pub const MAX_WAITERS: usize = 100_000;
/// Maximum number of them from one server.
pub const MAX_WAITERS_OF_SERVER: usize = 64;
/// Maximum number of calls that wait for news of a match, and of calls that wait for a match to be ready.
pub const MAX_WATCHERS: usize = 1_000_000;
/// Maximum number of them for one match: all of them are answered in one step.
pub const MAX_WATCHERS_OF_MATCH: usize = 20_000;
/// Maximum number of seats that are remembered because more than one call was told about them: an answer that cannot be
/// sent is taken back at once, so that few others come in between. Also of servers that are remembered because they
/// were told to exit.
const MAX_TOLD: usize = 10_000;

/// Maximum number of matches that are remembered because their players cannot connect.
const MAX_UNREACHABLE: usize = 10_000;

/// Quarters of a step that timers may fill, and the schedule after them, so that neither can starve the other or the
/// work that follows from both.
const QUARTERS_FOR_TIMERS: usize = 2;
const QUARTERS_FOR_SCHEDULE: usize = 3;
const WHOLE_STEP: usize = 4;

/// The machine that brings matches and servers together.
pub struct Broker {
    state: State,
    requirements: Requirements,
    /// The configured fleets' terms for their matches.
    terms: AllTerms,
    /// The assumed requirement of a server that has not called.
    anything: Arc<Requirement>,
    beside: Beside,
    #[cfg(feature = "broken-rules")]
    broken: Option<BrokenRule>,
}

/// The newest things that callers were told.
struct Told<K>(Recent<K, ()>);

impl<K: Ord + Clone> Default for Told<K> {
    fn default() -> Self {
        Self(Recent::new(MAX_TOLD))
    }
}

/// The newest matches whose servers sent an address that leads nowhere.
struct Unreachable(Recent<MatchId, Timestamp>);

impl Default for Unreachable {
    fn default() -> Self {
        Self(Recent::new(MAX_UNREACHABLE))
    }
}

/// State that a restart may forget.
#[derive(Default)]
struct Beside {
    waiters: Waiters,
    watchers: Watchers,
    /// Each server's last requirements.
    heard: BTreeMap<ServerId, Arc<Requirement>>,
    /// Free servers that are expected to take a certain queued match at their next call.
    expected: Expected,
    /// Free servers that no queued match counts on; gathered when first needed.
    free: Option<FreeServers>,
    /// Searches that steps had no work left for.
    looking: Looking,
    /// How long matches waited lately.
    waits: Waits,
    /// Seats that were returned again to players who asked for another.
    told_again: Told<SeatId>,
    /// Servers that were told to exit. A later call under the id of a server that registered itself comes from a new
    /// one.
    told_to_exit: Told<ServerId>,
    /// Matches whose players cannot connect, and until when no players are sent to them.
    unreachable: Unreachable,
    /// Fleets of which an unreachable server was replaced at once, and until when the next such server counts as a
    /// failure of its fleet. Expired entries are removed when it is used.
    spared: BTreeMap<FleetId, Timestamp>,
    /// Matches that servers may never have heard about.
    untold: Untold,
    /// Matches collected by calls that went away, by server; at most [`MAX_OFFERS`] matches for each of
    /// [`MAX_WAITERS`].
    forsaken: Vec<(ServerId, Vec<Collected>)>,
    /// Calls that wait for a match to be ready.
    awaiting: Watchers,
    /// Matches with news that some watchers have not been told.
    news: BTreeSet<MatchId>,
    /// Decided matches for which some waiting calls have not been answered.
    decided: BTreeSet<MatchId>,
    /// When the schedule last ordered servers.
    scheduled_at: Timestamp,
    /// Whether more was due than fits into a step, which ticks catch up with.
    behind: bool,
    /// Whether the last step may have ended before everything that follows from the state was done.
    unsettled: bool,
    /// When deadlines were last checked.
    ticked_at: Timestamp,
}

/// Rules that the simulation breaks on purpose, to prove that it notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BrokenRule {
    /// A match that one server has is offered to another.
    OfferHeldMatch,
    /// A match that could not be delivered goes back to the queue regardless of its state.
    ReturnAlways,
    /// Matches wait in the queue forever.
    ForgetPickupTimer,
    /// Servers may prepare forever.
    ForgetReadyTimer,
    /// Fleets grow beyond their maximum.
    ExceedMax,
    /// Servers that are not wanted are not stopped.
    ForgetStop,
    /// Places are given twice.
    OversellSeats,
    /// A seat is claimed twice.
    ClaimTwice,
    /// A server's free places are promised to others although players are on their way to them.
    IgnoreReserved,
    /// Unclaimed seats are kept forever.
    KeepSeats,
    /// A match is acknowledged and not recorded.
    LoseMatch,
    /// A refused call leaves an event.
    RefuseWithTrace,
    /// State changes without an event.
    ChangeWithoutEvent,
    /// Players hear twice that they can connect.
    ReadyTwice,
    /// Matches stay with a server that exited.
    KeepMatchesOfExited,
    /// The youngest match goes first.
    YoungestFirst,
    /// A step does all work, however much.
    UnboundedStep,
    /// Servers are given matches that may outlast them.
    IgnoreAge,
    /// Old servers of a warm pool are retired before their replacements are ready.
    RetireBeforeReplaced,
    /// The servers of a warm pool that are equally old are replaced at the same time, even if the fleet has no room.
    AgeTogether,
    /// A server is told to exit while it has a match.
    ShutDownHolding,
    /// Servers take matches of other fleets' games.
    IgnoreFleet,
    /// A draining server stays after its last match.
    KeepDrained,
    /// A server is ordered for a match that fails a moment later.
    OrderForOverdue,
    /// A server that asks again does not hear about the match that it has.
    ForgetLostAnswer,
    /// A server gets another match before those of a lost answer.
    OthersBeforeLost,
    /// What a call has collected stays with its server when the call goes away.
    KeepCollected,
    /// Players who ask again get another seat.
    SeatTwice,
    /// Players who have a seat get another one in another match of the game.
    SeatElsewhere,
}

impl BrokenRule {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::OfferHeldMatch,
        Self::ReturnAlways,
        Self::ForgetPickupTimer,
        Self::ForgetReadyTimer,
        Self::ExceedMax,
        Self::ForgetStop,
        Self::OversellSeats,
        Self::ClaimTwice,
        Self::IgnoreReserved,
        Self::KeepSeats,
        Self::LoseMatch,
        Self::RefuseWithTrace,
        Self::ChangeWithoutEvent,
        Self::ReadyTwice,
        Self::KeepMatchesOfExited,
        Self::YoungestFirst,
        Self::UnboundedStep,
        Self::IgnoreAge,
        Self::RetireBeforeReplaced,
        Self::AgeTogether,
        Self::ShutDownHolding,
        Self::IgnoreFleet,
        Self::KeepDrained,
        Self::OrderForOverdue,
        Self::ForgetLostAnswer,
        Self::OthersBeforeLost,
        Self::KeepCollected,
        Self::SeatTwice,
        Self::SeatElsewhere,
    ];
}

impl Broker {
    /// An empty broker.
    #[must_use]
    pub fn new() -> Self {
        Self::with_state(State::new())
    }

    fn with_state(state: State) -> Self {
        let mut requirements = Requirements::new();
        let terms = AllTerms::of(&state, &mut requirements);
        Self {
            state,
            requirements,
            terms,
            anything: Arc::new(Requirement::none()),
            beside: Beside::default(),
            #[cfg(feature = "broken-rules")]
            broken: None,
        }
    }

    /// Breaks one rule, for a simulation that has to notice.
    #[cfg(feature = "broken-rules")]
    pub const fn break_rule(&mut self, rule: BrokenRule) {
        self.broken = Some(rule);
    }

    #[cfg(feature = "broken-rules")]
    fn broken(&self, rule: BrokenRule) -> bool {
        self.broken == Some(rule)
    }

    #[cfg(not(feature = "broken-rules"))]
    #[allow(clippy::unused_self, reason = "the same call as with the feature")]
    const fn broken(&self, _: BrokenRule) -> bool {
        false
    }
}

impl Broker {
    fn apply_record(&mut self, record: &Record<Event>) {
        self.state.apply(record);
        if matches!(record.event, Event::Configured { .. }) {
            self.note_terms();
        }
    }
}

impl Default for Broker {
    fn default() -> Self {
        Self::new()
    }
}

/// The processing of one input.
struct Turn<'a> {
    broker: &'a mut Broker,
    step: &'a mut Step<Broker>,
    now: Timestamp,
    draw: Draw,
    /// Quarters of the step that may currently be filled.
    quarters: usize,
    /// Whether a server may now be ordered for a match that had none.
    reconsider: bool,
}

impl<'a> Turn<'a> {
    fn new(broker: &'a mut Broker, at: Moment, step: &'a mut Step<Broker>) -> Self {
        let draw = Draw::new(at);
        broker.note_untold();
        broker.requirements.begin_step();
        Self { broker, step, now: at.now, draw, quarters: WHOLE_STEP, reconsider: false }
    }

    const fn state(&self) -> &State {
        &self.broker.state
    }

    fn broken(&self, rule: BrokenRule) -> bool {
        self.broker.broken(rule)
    }

    /// Whether to leave further work for a later step.
    fn is_full(&self) -> bool {
        self.step.is_filled(self.quarters) && !self.broken(BrokenRule::UnboundedStep)
    }

    /// Emits a decision: the event is applied at once and is logged with this step.
    fn emit(&mut self, event: Event) {
        if let Some(id) = event.match_id()
            && self.broker.beside.watchers.watch(id)
        {
            self.broker.beside.news.insert(id.clone());
        }
        if let Some(id) = event.match_id()
            && event.is_decision()
            && self.broker.beside.awaiting.watch(id)
        {
            self.broker.beside.decided.insert(id.clone());
        }
        self.reconsider |= matches!(
            event,
            Event::Configured { .. }
                | Event::Reconfigured { .. }
                | Event::MatchReturned { .. }
                | Event::ServerGone { .. }
                | Event::AllocationStopOrdered { .. }
                | Event::AllocationEnded { .. }
        );
        let server = self.broker.state.server_of(&event).cloned();
        if let (Some(server), Some(id)) = (&server, event.match_id())
            && !matches!(event, Event::MatchPickedUp { .. })
        {
            self.broker.beside.untold.remove(server, id);
        }
        if let Event::MatchReady { id, server, .. } = &event {
            self.note_wait(id, server);
        }
        let record = Record { seq: self.broker.state.seq + 1, time: self.now, event };
        self.broker.apply_record(&record);
        let expected = record.event.match_id().and_then(|id| self.broker.beside.expected.server_for(id));
        for server in expected.cloned().into_iter().chain(server) {
            self.note_free(&server);
        }
        self.step.push(record);
    }

    fn note_wait(&mut self, id: &MatchId, server: &ServerId) {
        let Some(game) = self.state().matches.get(id) else { return };
        let wait = self.now.since(game.queued_at);
        let fleet = self.state().servers.get(server).and_then(|server| server.fleet.clone());
        self.broker.beside.waits.note(fleet, wait);
    }

    fn answer(&mut self, call: CallId, answer: Answer<Broker>) {
        self.step.answers.push((call, answer));
    }

    /// Carries out a command; `None` if the call is kept for later.
    fn carry_out(&mut self, call: CallId, command: Command) -> Result<Option<Reply>, Refusal> {
        match command {
            Command::Configure { settings, fleets } => self.configure(settings, fleets).map(Some),
            Command::Reconfigure { change } => self.reconfigure(&change).map(Some),
            Command::SubmitMatch { id, spec } => self.submit(id, spec).map(Some),
            Command::CancelMatch { id } => self.cancel(&id).map(Some),
            Command::EndActiveMatch { id } => self.end_active(&id).map(Some),
            Command::RequestMatch { server, requirements, hints, most, wait } => {
                self.request_match(call, &server, &requirements, Asking { hints, most, wait })
            }
            Command::MatchReady { server, match_id, connection, hints } => {
                self.match_ready(&server, &match_id, connection, hints).map(Some)
            }
            Command::EndMatch { server, match_id, hints } => {
                self.end_match(&server, &match_id, hints).map(Some)
            }
            Command::AllocateServer { id, spec } => self.allocate_server(id, spec).map(Some),
            Command::DeallocateServer { server } => self.deallocate_server(&server).map(Some),
            Command::Join { fleet, player, capacity, ttl, properties, beside, rejoin } => {
                if let Some(seated) = self.own_seat(&fleet, &beside, &player, ttl, rejoin)? {
                    return Ok(Some(seated));
                }
                self.check_other_versions(&fleet, &player, rejoin)?;
                self.join(&fleet, player, capacity, ttl, properties).map(Some)
            }
            Command::Rejoin { match_id, player, ttl, elsewhere } => {
                self.rejoin(&match_id, player, ttl, elsewhere).map(Some)
            }
            Command::ReportUnreachable { match_id } => Ok(Some(self.report_unreachable(&match_id))),
            Command::ReserveSeat { match_id, player, ttl, elsewhere } => {
                self.reserve_seat(&match_id, player, ttl, elsewhere).map(Some)
            }
            Command::ClaimSeat { seat, server } => self.claim_seat(&seat, server.as_ref()).map(Some),
            Command::ReleaseSeat { seat } => self.release_seat(&seat).map(Some),
            Command::ReportFreePlaces { match_id, server, free } => {
                self.report_free_places(&match_id, server.as_ref(), free).map(Some)
            }
            Command::WatchMatch { id, seen } => self.watch(call, id, seen),
            Command::AwaitReady { match_id, seat } => self.await_ready(call, match_id, &seat),
            Command::AllocationStarted { allocation } => Ok(Some(self.allocation_started(&allocation))),
            Command::AllocationFailed { allocation, error } => {
                Ok(Some(self.allocation_failed(&allocation, &error)))
            }
            Command::AllocationStopped { allocation } => Ok(Some(self.allocation_stopped(&allocation))),
            Command::ServerExited { allocation, status } => {
                Ok(Some(self.server_exited(&allocation, &status)))
            }
        }
    }

    /// Does what follows from the input, until the step is full: drained servers are dismissed, servers are ordered,
    /// watchers are answered.
    fn settle(&mut self) {
        while !self.is_full() && self.clear_server() {}
        self.retire_replaced();
        if core::mem::take(&mut self.reconsider) {
            self.order_for_queued();
        }
        self.keep_warm();
        self.tell_watchers();
        self.broker.beside.unsettled = self.is_full();
    }

    fn tell_watchers(&mut self) {
        while !self.is_full() {
            let beside = &mut self.broker.beside;
            let (of, calls) = match (beside.news.first(), beside.decided.first()) {
                (Some(id), _) => (id.clone(), &mut beside.watchers),
                (None, Some(id)) => (id.clone(), &mut beside.awaiting),
                (None, None) => break,
            };
            let Some(call) = calls.take_of(&of) else {
                if !beside.news.remove(&of) {
                    beside.decided.remove(&of);
                }
                continue;
            };
            let news = self.find(&of).map(|game| Reply::Match(game.clone()));
            self.answer(call, news);
        }
    }
}

impl Machine for Broker {
    type Command = Command;
    type Event = Event;
    type Reply = Reply;
    type Refusal = Refusal;
    type Effect = Effect;
    type Snapshot = Snapshot;

    fn handle(&mut self, at: Moment, call: CallId, command: Command, step: &mut Step<Self>) {
        let mut turn = Turn::new(self, at, step);
        turn.fire_due_for_input();
        let before = turn.step.records.len();
        let result = turn.carry_out(call, command);
        // If rules are broken on purpose, the simulation checks instead.
        debug_assert!(
            cfg!(feature = "broken-rules") || result.is_ok() || turn.step.records.len() == before,
            "a refused command left an event"
        );
        match result {
            Ok(Some(reply)) => turn.answer(call, Ok(reply)),
            Ok(None) => {}
            Err(refusal) => {
                if turn.broken(BrokenRule::RefuseWithTrace) {
                    let settings = turn.state().settings.clone();
                    turn.emit(Event::Reconfigured { settings });
                }
                turn.answer(call, Err(refusal));
            }
        }
        turn.settle();
    }

    fn tick(&mut self, at: Moment, step: &mut Step<Self>) {
        let mut turn = Turn::new(self, at, step);
        turn.go_on();
        turn.fire_due();
        turn.reconsider = true;
        turn.settle();
        self.beside.ticked_at = at.now;
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.earliest_deadline()
    }

    fn abandon(&mut self, call: CallId) {
        if let Some(waiter) = self.beside.waiters.take_call(call)
            && !waiter.collecting.matches.is_empty()
        {
            self.beside.forsaken.push((waiter.server, waiter.collecting.matches));
        }
        self.beside.watchers.take_call(call);
        self.beside.awaiting.take_call(call);
    }

    fn undelivered(&mut self, at: Moment, answer: &Answer<Self>, step: &mut Step<Self>) {
        let mut turn = Turn::new(self, at, step);
        turn.fire_due_for_input();
        match answer {
            Ok(Reply::Requested { offer, more, .. }) => {
                offer.iter().chain(more).for_each(|offer| turn.take_back(offer));
            }
            Ok(Reply::Seated { seat, again: false, .. }) => turn.give_back(seat),
            _ => {}
        }
        turn.settle();
    }

    fn apply(&mut self, record: &Record<Event>) {
        self.apply_record(record);
        self.beside.free = None;
        self.beside.unsettled = true;
    }

    fn last_seq(&self) -> u64 {
        self.state.seq
    }

    fn effect(&self, event: &Event) -> Option<Effect> {
        match event {
            Event::AllocationOrdered { allocation, server, fleet, .. } => Some(Effect::Start {
                allocation: allocation.clone(),
                server: server.clone(),
                fleet: fleet.clone(),
            }),
            Event::AllocationStopOrdered { allocation, .. } => {
                let order = self.state.allocations.get(allocation)?;
                Some(Effect::Stop {
                    allocation: order.id.clone(),
                    server: order.server.clone(),
                    fleet: order.fleet.clone(),
                })
            }
            _ => None,
        }
    }

    fn outstanding(&self) -> Vec<Effect> {
        let effects = self.state.allocations.values().filter_map(|order| {
            let (allocation, server, fleet) = (order.id.clone(), order.server.clone(), order.fleet.clone());
            match order.state {
                AllocationState::Ordered => Some(Effect::Start { allocation, server, fleet }),
                AllocationState::Stopping => Some(Effect::Stop { allocation, server, fleet }),
                AllocationState::Started | AllocationState::Live | AllocationState::Leaving { .. } => None,
            }
        });
        effects.collect()
    }

    fn snapshot(&self) -> Snapshot {
        self.state.snapshot()
    }

    fn restore(snapshot: Snapshot) -> Self {
        let mut broker = Self::with_state(State::restore(snapshot));
        broker.beside.unsettled = broker.state.seq > 0;
        broker
    }
}

//! The matchmaker: forms matches from tickets.
//!
//! | where | what |
//! |---|---|
//! | [`model`], [`settings`] | its data; the settings of queues, rules and hooks |
//! | [`entity`] | tickets as Catena's contract sends them |
//! | [`command`], [`event`] | commands, answers and refusals; decisions, and what players hear about them |
//! | `ticket_lifecycle` | started, validated, waiting; cancellation |
//! | `replacing` | tickets that take the places of others |
//! | `several` | players who wait in several queues at once |
//! | `match_lifecycle` | chosen, accepted, checked, formed; how a match is dissolved |
//! | `backfill`, `offers` | free seats of running matches; the index over them |
//! | `hooks` | the built-in ones, and how hooks stack |
//! | [`rounds`] | when a hook that forms matches is asked, and about which tickets |
//! | `forming` | a tick: which tickets are looked at, and what happens with the matches found |
//! | `search` | looks for a match with a given ticket; continues in later ticks |
//! | `sizes`, `packing` | whether sizes fill teams; how tickets do |
//! | `pools`, `rules`, `documents` | which tickets reach one another; their demands over time; expressions' input |
//! | `values` | values of properties, as keys and as expressions see them |
//! | `rated` | numbers that players may not state themselves, because rules judge by them |
//! | [`order`] | the content of a ticket's order; idempotency keys |
//! | `names`, `slab`, `json` | finding things by text, and by number; members of JSON objects |
//! | `due` | what the next ticks look at |
//! | `fair`, `alarms` | queues take turns in a tick; when tickets demand less, by queue |
//! | `timers`, `firsts` | deadlines and what they end; the next one |
//! | `state`, `kept` | the durable state, its indexes, how events change it; retention of what is over |
//! | [`explain`], [`words`] | why a ticket still waits: as data; as text |
//!
//! It knows the broker, or any other component that finds servers, by effects and commands only: a formed match goes
//! out by [`Effect::Submit`], and comes back as ready, as over, or without a server.
//!
//! Commands change tickets; ticks form matches, so that the cost of a tick follows what changed since the last one, and
//! is bounded. [`forming`] says how, and why no waiting ticket is passed over.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

mod alarms;
pub mod backfill;
pub mod command;
mod documents;
mod due;
pub mod entity;
pub mod event;
pub mod explain;
pub mod fair;
mod firsts;
pub mod forming;
pub mod gaps;
mod hooks;
mod json;
mod keepalive;
mod kept;
pub mod match_lifecycle;
mod mixes;
pub mod model;
mod names;
mod offers;
pub mod order;
mod packing;
mod pools;
mod queries;
mod rated;
mod replacing;
pub mod rounds;
mod rules;
mod search;
pub mod settings;
mod several;
mod sizes;
mod slab;
mod state;
mod ticket_lifecycle;
mod timers;
mod values;
pub mod words;

pub use command::{Command, FormedMatch, MatchVerdict, Refusal, Reply, TicketVerdict};
pub use event::{Effect, Event, Notice};
pub use explain::{ByType, ExpectedWait, Explanation, Failure, IgnoredMatches, KeptOut};
pub use gaps::SizeGap;
pub use keepalive::{MAX_TTL, MIN_TTL};
pub use kept::OVER_KEPT;
pub use rated::Rated;
pub use replacing::MAX_REPLACED;
pub use rounds::{AnswerFault, FORM_BATCH, FORM_BYTES, HookFault, IgnoredCause};
pub use rules::number_of;
pub use settings::Settings;
pub use state::Snapshot;

use crate::connection::Connection;
use crate::ids::{Draw, MatchId, QueueId, TicketId};
use crate::machine::{Answer, CallId, Machine, Moment, Record, Step};
use crate::size::Size;
use crate::time::Timestamp;
use crate::waits::Waits;
use documents::Documents;
use due::Due;
use forming::WORK_PER_TICK;
use match_lifecycle::HookAnswer;
use model::{DissolveCause, Formation, SeatOffer, Stage, TicketState};
use offers::Offers;
use pools::Pools;
use rounds::Rounds;
use search::{COMPARISONS_PER_TURN, Unfinished, Verdicts};
use several::WORK_OF_CANCELS;
use state::State;
use timers::WORK_OF_DEADLINES;

/// Maximum number of tickets that are not over.
pub const MAX_TICKETS: usize = 2_000_000;
/// The machine that forms matches from tickets.
pub struct Matchmaker {
    state: State,
    beside: Beside,
    #[cfg(feature = "broken-rules")]
    broken: Option<BrokenRule>,
    /// Comparisons per turn of a search, if not the default.
    #[cfg(feature = "broken-rules")]
    turn: Option<u64>,
    /// What one step may cancel of players who can connect, if not the default.
    #[cfg(feature = "broken-rules")]
    cancels: Option<u64>,
}

/// Rules that the simulation breaks on purpose, to show that it would notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BrokenRule {
    /// A player who waits may start a second ticket.
    StartTwice,
    /// Tickets of a match can be used for another one.
    MatchTwice,
    /// Tickets never expire.
    ForgetExpiry,
    /// Demands of tickets never widen.
    ForgetWidening,
    /// Tickets that return are not looked at.
    ForgetReturned,
    /// One of the tickets of a dissolved match does not return.
    LoseReturned,
    /// A ticket is acknowledged and not recorded.
    LoseTicket,
    /// A hook that does not answer never times out.
    ForgetHook,
    /// Players may take forever to accept a match.
    ForgetAcceptance,
    /// One player accepts for all.
    AcceptForAll,
    /// Free seats are assigned twice.
    OversellSeats,
    /// Players hear twice that they can connect.
    ReadyTwice,
    /// A refused call leaves an event.
    RefuseWithTrace,
    /// State changes without an event.
    ChangeWithoutEvent,
    /// The broker does not hear that a match is no longer wanted.
    ForgetWithdrawal,
    /// Settings that were changed at run time are lost by a restart.
    ForgetReconfigured,
    /// The youngest suitable tickets are chosen.
    FormNewest,
    /// The oldest suitable ticket is chosen first, then the youngest.
    FillNewest,
    /// Of the matches in several pools, the one with the oldest ticket is not taken.
    FormElsewhere,
    /// Tickets with different values of an equality are put together.
    ForgetEqual,
    /// Tickets that are far apart are put together.
    ForgetDistance,
    /// Expressions that compare two tickets, and lists of blocked players, are ignored.
    ForgetPairs,
    /// Players are put into regions that are not acceptable to them.
    ForgetLatency,
    /// A match gets the best region of one of its tickets.
    AnyRegion,
    /// Teams may be arbitrarily uneven.
    ForgetBalance,
    /// Teams may be smaller than any ticket asks for.
    ForgetSize,
    /// A step does all the work that there is, without a bound.
    UnboundedStep,
    /// A search that was cut does not continue.
    ForgetUnfinished,
    /// Large teams, whose mixes of sizes are not computed, are never filled.
    SmallTeamsOnly,
    /// Candidates are the oldest, whatever their sizes.
    CandidatesOfOneSize,
    /// If the oldest make no even teams, no match is formed.
    OutlierKeepsAll,
    /// Evaluating an expression on two tickets takes a whole turn, and its result is forgotten.
    PairsAreDear,
    /// Tickets whose distance has relaxed are not found far from their own number.
    FewCells,
    /// Deadlines wait until every possible match is formed.
    DeadlinesLast,
    /// A hook that forms matches is only asked about tickets that arrived since, and only if there are any.
    AskOnlyNew,
    /// A ticket only looks at a few of the oldest offers of free seats of its queue.
    FewOffers,
    /// Tickets live on without renewal.
    ForgetKeepAlive,
    /// Time in which the process was down counts as time without renewal.
    ForgetRestart,
    /// Tickets whose players are in a match by another ticket are matched.
    MatchOnHold,
    /// Players who can connect still wait in other queues.
    ForgetElsewhere,
    /// Players hear that they can connect before all their other tickets are over.
    ReadyTooSoon,
    /// A ticket that replaces another one goes to the end of the queue.
    LosePlace,
    /// A ticket that replaces another one loses the reason why the last match was lost.
    ForgetLoss,
    /// Tickets in a match are replaced.
    ReplaceMatched,
    /// The queue with the oldest ticket to be looked at is served first, whatever that costs.
    OldestQueueFirst,
}

impl BrokenRule {
    /// All rules.
    pub const ALL: &'static [Self] = &[
        Self::StartTwice,
        Self::MatchTwice,
        Self::ForgetExpiry,
        Self::ForgetWidening,
        Self::ForgetReturned,
        Self::LoseReturned,
        Self::LoseTicket,
        Self::ForgetHook,
        Self::ForgetAcceptance,
        Self::AcceptForAll,
        Self::OversellSeats,
        Self::ReadyTwice,
        Self::RefuseWithTrace,
        Self::ChangeWithoutEvent,
        Self::ForgetWithdrawal,
        Self::ForgetReconfigured,
        Self::FormNewest,
        Self::FillNewest,
        Self::FormElsewhere,
        Self::ForgetEqual,
        Self::ForgetDistance,
        Self::ForgetPairs,
        Self::ForgetLatency,
        Self::AnyRegion,
        Self::ForgetBalance,
        Self::ForgetSize,
        Self::UnboundedStep,
        Self::ForgetUnfinished,
        Self::SmallTeamsOnly,
        Self::CandidatesOfOneSize,
        Self::OutlierKeepsAll,
        Self::PairsAreDear,
        Self::FewCells,
        Self::DeadlinesLast,
        Self::AskOnlyNew,
        Self::FewOffers,
        Self::ForgetKeepAlive,
        Self::ForgetRestart,
        Self::MatchOnHold,
        Self::ForgetElsewhere,
        Self::ReadyTooSoon,
        Self::LosePlace,
        Self::ForgetLoss,
        Self::ReplaceMatched,
        Self::OldestQueueFirst,
    ];
}

/// Whether `rule` is the broken one; never without the feature.
fn is_broken(broken: Option<BrokenRule>, rule: BrokenRule) -> bool {
    cfg!(feature = "broken-rules") && broken == Some(rule)
}

/// What a restart may forget.
#[derive(Default)]
struct Beside {
    /// Whether the volatile data was rebuilt from the state since the machine was restored.
    awake: bool,
    /// When that happened: clients could renew their tickets from then on.
    awake_since: Timestamp,
    pools: Pools,
    due: Due,
    offers: Offers,
    /// When matches were last formed.
    formed_at: Timestamp,
    /// The last tick was not completed.
    carried: bool,
    /// Whose deadlines were last processed.
    fired: Option<timers::Due>,
    rounds: Rounds,
    /// Connection details of matches whose players still have other tickets to be cancelled. After a restart, the
    /// broker sends them again; those of matches without a server are found again.
    ready: BTreeMap<MatchId, Arc<Connection>>,
    /// The match of these that last had its turn.
    told: Option<MatchId>,
    /// Answers of hooks that form matches, whose rest is taken by the next ticks.
    answers: BTreeMap<QueueId, HookAnswer>,
    /// Searches that continue in the next ticks, and their cached verdicts on pairs of tickets.
    unfinished: Unfinished,
    verdicts: Verdicts,
    /// Searches that were not finished in one turn.
    cut_searches: u64,
    documents: Documents,
    /// Recent waits of tickets.
    waits: Waits<QueueId>,
}

impl Matchmaker {
    /// A matchmaker without queues.
    #[must_use]
    pub fn new() -> Self {
        Self::with_state(State::new())
    }

    fn with_state(state: State) -> Self {
        Self {
            state,
            beside: Beside::default(),
            #[cfg(feature = "broken-rules")]
            broken: None,
            #[cfg(feature = "broken-rules")]
            turn: None,
            #[cfg(feature = "broken-rules")]
            cancels: None,
        }
    }

    /// Breaks one rule, for a simulation that must notice.
    #[cfg(feature = "broken-rules")]
    pub const fn break_rule(&mut self, rule: BrokenRule) {
        self.broken = Some(rule);
    }

    /// Bounds each turn of a search to this number of comparisons, for a simulation in which few searches finish in
    /// one.
    #[cfg(feature = "broken-rules")]
    pub const fn limit_turns(&mut self, comparisons: u64) {
        self.turn = Some(comparisons);
    }

    /// Bounds the cost of cancelling other tickets of players who can connect, per step and in comparisons of two
    /// numbers, for a simulation in which this rarely fits into one step.
    #[cfg(feature = "broken-rules")]
    pub const fn limit_cancels(&mut self, comparisons: u64) {
        self.cancels = Some(comparisons);
    }

    #[cfg(feature = "broken-rules")]
    fn cancels(&self) -> u64 {
        self.cancels.unwrap_or(WORK_OF_CANCELS)
    }

    #[cfg(not(feature = "broken-rules"))]
    #[allow(clippy::unused_self, reason = "the same call as with the feature")]
    const fn cancels(&self) -> u64 {
        WORK_OF_CANCELS
    }

    #[cfg(feature = "broken-rules")]
    fn turn(&self) -> u64 {
        self.turn.unwrap_or(COMPARISONS_PER_TURN)
    }

    #[cfg(not(feature = "broken-rules"))]
    #[allow(clippy::unused_self, reason = "the same call as with the feature")]
    const fn turn(&self) -> u64 {
        COMPARISONS_PER_TURN
    }

    fn broken(&self, rule: BrokenRule) -> bool {
        is_broken(self.broken_rule(), rule)
    }

    #[cfg(feature = "broken-rules")]
    const fn broken_rule(&self) -> Option<BrokenRule> {
        self.broken
    }

    #[cfg(not(feature = "broken-rules"))]
    #[allow(clippy::unused_self, reason = "the same call as with the feature")]
    const fn broken_rule(&self) -> Option<BrokenRule> {
        None
    }

    /// Begins to rebuild the volatile data, unless that was done since the last restart.
    fn wake(&mut self, now: Timestamp) {
        if !self.beside.awake {
            self.beside.awake = true;
            self.beside.awake_since = now;
            self.take_over_rules();
            self.beside.ready = self.hosted().collect();
        }
    }

    /// Matches whose players connect to one of them and have yet to hear so, with the connection details.
    fn hosted(&self) -> impl Iterator<Item = (MatchId, Arc<Connection>)> {
        let formations = self.state.formations.values().filter(|_| hooks::hosts_any(&self.state));
        let formed = formations.filter(|of| of.stage == Stage::FindingServer { submitted: false });
        formed.filter_map(|of| Some((of.id.clone(), Arc::new(self.host_of(of)?))))
    }

    /// The connection details of a match that needs no server.
    fn host_of(&self, formation: &Formation) -> Option<Connection> {
        hooks::host_address(&self.state, &formation.queue, &formation.spec).ok().flatten()
    }

    /// Applies the rules in force. Tickets that must be looked at again because of them are left to ticks: with many
    /// waiting tickets, it is more than one step may do.
    fn take_over_rules(&mut self) {
        self.beside.verdicts.forget_all();
        for queue in self.beside.pools.configure(self.state.queues()) {
            self.beside.unfinished.forget(&queue);
            if self.state.index.lines.contains_key(&queue) {
                self.beside.due.sweeps.insert(queue.clone(), 0);
            }
            if self.state.index.open_offers.contains_key(&queue) {
                self.beside.due.offer_sweeps.insert(queue, None);
            }
        }
    }
}

impl Default for Matchmaker {
    fn default() -> Self {
        Self::new()
    }
}

/// One input being worked on.
struct Turn<'a> {
    maker: &'a mut Matchmaker,
    step: &'a mut Step<Matchmaker>,
    now: Timestamp,
    draw: Draw,
    /// The cost of this turn, in comparisons of two numbers.
    work: u64,
}

impl<'a> Turn<'a> {
    fn new(maker: &'a mut Matchmaker, at: Moment, step: &'a mut Step<Matchmaker>) -> Self {
        maker.wake(at.now);
        Self { maker, step, now: at.now, draw: Draw::new(at), work: 0 }
    }

    const fn state(&self) -> &State {
        &self.maker.state
    }

    /// Whether another piece of work may begin: the work limit is not reached, and the step is not full.
    fn has_room(&self, most: u64) -> bool {
        self.work < most && !self.is_full()
    }

    /// Whether further work is left for a later step.
    fn is_full(&self) -> bool {
        self.step.is_full() && !self.broken(BrokenRule::UnboundedStep)
    }

    fn broken(&self, rule: BrokenRule) -> bool {
        self.maker.broken(rule)
    }

    /// Decides: the event is applied at once and is logged with this step.
    fn emit(&mut self, event: Event) {
        self.take_from_pools(&event);
        let record = Record { seq: self.state().seq + 1, time: self.now, event };
        self.maker.state.apply(&record);
        self.note_due(&record.event);
        self.note_settled();
        self.step.push(record);
    }

    /// Tickets that no longer wait after this event.
    fn take_from_pools(&mut self, event: &Event) {
        let mut take = |id: &TicketId| {
            if let Some(ticket) = self.maker.state.ticket(id) {
                self.maker.beside.pools.remove(ticket.place);
                self.maker.beside.due.forget(&ticket.queue, ticket.place);
                self.maker.beside.unfinished.remove(ticket.place);
            }
        };
        match event {
            Event::TicketCancelled { ticket, .. }
            | Event::TicketFailed { ticket, .. }
            | Event::TicketTimedOut { ticket }
            | Event::SeatsTaken { ticket, .. } => take(&ticket.ticket),
            // Those of a new match are removed when it begins.
            _ => {}
        }
    }

    /// The ticket at this place is now in a match.
    fn take_place(&mut self, place: u64) {
        if let Some(ticket) = self.maker.state.tickets.get(&place) {
            self.maker.beside.due.forget(&ticket.queue, place);
        }
        self.maker.beside.unfinished.remove(place);
        if !self.broken(BrokenRule::MatchTwice) {
            self.maker.beside.pools.remove(place);
        }
    }

    /// Marks what must be looked at because of an event.
    fn note_due(&mut self, event: &Event) {
        let forgets = self.broken(BrokenRule::ForgetReturned);
        let (state, beside) = (&self.maker.state, &mut self.maker.beside);
        let mut note = |id: &TicketId| {
            if let Some(ticket) = state.ticket(id)
                && ticket.state == TicketState::Waiting
            {
                beside.due.note(&ticket.queue, ticket.place);
            }
        };
        if let Event::TicketReturned { ticket, .. } = event {
            note(&ticket.ticket);
        }
        match event {
            Event::Configured { .. } | Event::Reconfigured { .. } => self.maker.take_over_rules(),
            Event::TicketStarted { id, check: None, .. } | Event::TicketChecked { id, check: None, .. } => {
                note(id);
            }
            Event::MatchDissolved { .. } if forgets => {}
            Event::MatchDissolved { returned, .. } => returned.iter().for_each(|named| note(&named.ticket)),
            Event::SeatsOffered { offer } => {
                let SeatOffer { match_id, queue, .. } = &**offer;
                beside.offers.remove(match_id);
                if let Some(offered) = state.offers.get(match_id).filter(|offered| offered.free > 0) {
                    let when = state.queue(queue).map(|queue| queue.backfill).unwrap_or_default();
                    beside.due.note_offer(when, queue, (offered.place, match_id.clone()), 0);
                }
            }
            Event::SeatsWithdrawn { match_id }
            | Event::SeatsTaken { match_id, .. }
            | Event::TicketSeated { match_id, .. }
            | Event::TicketReturned { match_id, .. } => match state.offers.get(match_id) {
                Some(offered) if offered.free > 0 => beside.offers.refile(match_id, offered.free),
                _ => beside.offers.remove(match_id),
            },
            _ => {}
        }
    }

    fn carry_out(&mut self, command: Command) -> Result<Reply, Refusal> {
        match command {
            Command::Configure { settings } => self.configure(settings),
            Command::Reconfigure { settings } => self.reconfigure(settings),
            Command::Start { id, spec } => self.start(id, spec),
            Command::Cancel { id } => self.cancel(&id),
            Command::Renew { id } => self.renew(&id),
            Command::Accept { match_id, player } => self.accept(&match_id, player),
            Command::Decline { match_id, player } => self.decline(&match_id, &player),
            Command::TicketValidated { ticket, hook, outcome } => {
                Ok(self.ticket_validated(&ticket, &hook, outcome))
            }
            Command::MatchesFormed { queue, round, matches } => {
                Ok(self.matches_formed(&queue, round, matches))
            }
            Command::MatchChecked { match_id, hook, outcome } => {
                Ok(self.match_checked(&match_id, &hook, outcome))
            }
            Command::Submitted { match_id } => Ok(self.submitted(match_id)),
            Command::Withdrawn { match_id } => Ok(self.withdrawn(match_id)),
            Command::NoServer { match_id, reason } => {
                Ok(self.no_server(&match_id, DissolveCause::NoServer, &reason))
            }
            Command::MatchReady { match_id, connection } => {
                Ok(self.match_ready(&match_id, Arc::new(connection)))
            }
            Command::MatchEnded { match_id, reason } => Ok(self.match_ended(&match_id, &reason)),
            Command::OfferSeats { offer } => self.offer_seats(offer),
            Command::WithdrawSeats { match_id } => Ok(self.withdraw_seats(match_id)),
            Command::Seated { ticket, match_id, connection } => self.seated(&ticket, match_id, connection),
            Command::NotSeated { ticket, match_id } => Ok(self.not_seated(&ticket, &match_id)),
        }
    }

    fn configure(&mut self, settings: Settings) -> Result<Reply, Refusal> {
        check_settings(&settings)?;
        let state = self.state();
        let in_force = self.broken(BrokenRule::ForgetReconfigured).then_some(&state.settings);
        let written = in_force.or(state.configured.as_ref());
        if written.is_none_or(|written| **written != settings) {
            self.emit(Event::Configured { settings: Arc::new(settings) });
        }
        Ok(Reply::Done)
    }

    fn reconfigure(&mut self, settings: Settings) -> Result<Reply, Refusal> {
        check_settings(&settings)?;
        if *self.state().settings != settings {
            self.emit(Event::Reconfigured { settings: Arc::new(settings) });
        }
        Ok(Reply::Done)
    }
}

fn check_settings(settings: &Settings) -> Result<(), Refusal> {
    let (bytes, limit) = (settings.byte_size(), settings::MAX_SETTINGS_BYTES);
    if bytes > limit {
        return Err(Refusal::TooLarge(alloc::format!(
            "settings: queues, rules and hooks have {bytes} bytes, at most {limit} are allowed"
        )));
    }
    settings.check().map_err(|problem| Refusal::field("settings", problem))
}

impl Machine for Matchmaker {
    type Command = Command;
    type Event = Event;
    type Reply = Reply;
    type Refusal = Refusal;
    type Effect = Effect;
    type Snapshot = Snapshot;

    fn handle(&mut self, at: Moment, call: CallId, command: Command, step: &mut Step<Self>) {
        let mut turn = Turn::new(self, at, step);
        let before = turn.step.records.len();
        let answer = turn.carry_out(command);
        debug_assert!(
            cfg!(feature = "broken-rules") || answer.is_ok() || turn.step.records.len() == before,
            "a refused command left an event"
        );
        if answer.is_err() && turn.broken(BrokenRule::RefuseWithTrace) {
            let settings = Arc::clone(&turn.state().settings);
            turn.emit(Event::Reconfigured { settings });
        }
        turn.step.answers.push((call, answer));
    }

    fn tick(&mut self, at: Moment, step: &mut Step<Self>) {
        let mut turn = Turn::new(self, at, step);
        // Each of them has its own share of every tick, which the others cannot use up. Deadlines come first: tickets
        // that are over take no part in forming.
        if turn.broken(BrokenRule::DeadlinesLast) {
            turn.form();
            turn.fire_due(WORK_PER_TICK);
            turn.work = 0;
            turn.tell_all_ready();
        } else {
            turn.fire_due(WORK_OF_DEADLINES);
            turn.work = 0;
            turn.tell_all_ready();
            turn.work = 0;
            turn.form();
        }
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.earliest_deadline()
    }

    /// No call is kept for later.
    fn abandon(&mut self, _: CallId) {}

    /// A ticket outlives the connection that it was started over.
    fn undelivered(&mut self, _: Moment, _: &Answer<Self>, _: &mut Step<Self>) {}

    fn apply(&mut self, record: &Record<Event>) {
        self.state.apply(record);
        if self.beside.awake {
            self.beside = Beside::default();
        }
    }

    fn last_seq(&self) -> u64 {
        self.state.seq
    }

    fn effect(&self, event: &Event) -> Option<Effect> {
        match event {
            Event::TicketStarted { id, .. } | Event::TicketChecked { id, .. } => self.validation(id),
            Event::MatchProposed { id, .. }
            | Event::MatchChecked { id, .. }
            | Event::MatchFormed { id, .. } => self.work_on(id),
            Event::MatchDissolved { id, withdraw: true, .. } => {
                Some(Effect::Withdraw { match_id: id.clone() })
            }
            Event::SeatsTaken { match_id, ticket, .. } => {
                Some(Effect::Seat { match_id: match_id.clone(), ticket: ticket.clone() })
            }
            Event::RoundBegun { queue, .. } => self.forming_round(queue),
            _ => None,
        }
    }

    fn outstanding(&self) -> Vec<Effect> {
        let state = &self.state;
        let deadlines = state.index.deadlines.values().flatten();
        let tickets = deadlines.filter_map(|(_, owner)| match owner {
            state::Owner::Ticket(id) => self.validation(id),
            state::Owner::Round(queue) => self.forming_round(queue),
            state::Owner::Seating(match_id, id) => {
                Some(Effect::Seat { match_id: match_id.clone(), ticket: state.named(id)? })
            }
            state::Owner::Formation(_) => None,
        });
        let matches = state.formations.keys().filter_map(|id| self.work_on(id));
        let withdrawing = state.withdrawing.iter().map(|id| Effect::Withdraw { match_id: id.clone() });
        tickets.chain(matches).chain(withdrawing).collect()
    }

    fn snapshot(&self) -> Snapshot {
        self.state.snapshot()
    }

    fn restore(snapshot: Snapshot) -> Self {
        Self::with_state(State::restore(snapshot))
    }
}

/// Effects, derived from the state alone.
impl Matchmaker {
    fn validation(&self, id: &TicketId) -> Option<Effect> {
        let ticket = self.state.ticket(id)?;
        let TicketState::Validating(check) = &ticket.state else { return None };
        Some(Effect::ValidateTicket {
            hook: check.hook.clone(),
            ticket: id.clone(),
            queue: ticket.queue.clone(),
            spec: Arc::clone(&ticket.spec),
        })
    }

    fn work_on(&self, id: &MatchId) -> Option<Effect> {
        let formation = self.state.formations.get(id)?;
        let spec = Arc::clone(&formation.spec);
        match &formation.stage {
            Stage::Checking(check) => Some(Effect::CheckMatch {
                hook: check.hook.clone(),
                match_id: id.clone(),
                queue: formation.queue.clone(),
                teams: Arc::clone(&formation.teams),
                spec,
            }),
            Stage::FindingServer { submitted: false } if self.host_of(formation).is_some() => None,
            Stage::FindingServer { submitted: false } => Some(Effect::Submit { match_id: id.clone(), spec }),
            Stage::Accepting { .. } | Stage::FindingServer { submitted: true } => None,
        }
    }

    fn forming_round(&self, queue: &QueueId) -> Option<Effect> {
        let round = self.state.rounds.get(queue)?;
        let hook = round.check.as_ref()?.hook.clone();
        Some(Effect::FormMatches { hook, queue: queue.clone(), round: round.number })
    }
}

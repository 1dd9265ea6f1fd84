//! A broker with a clock that only moves when a test says so, and all its callers.
//!
//! The table is the host in small: it ticks at every deadline and keeps the log. When it is dropped it replays
//! that log, so every example also shows that its events are the whole truth.

use std::collections::BTreeMap;
use std::time::Duration;

use sortie_domain::broker::model::{
    Allocation, FastSchedule, Fleet, FleetHealth, Match, Server, Settings, SettingsChange,
};
use sortie_domain::broker::{Broker, Command, Effect, Event, Hints, Offer, Refusal, Reply};
use sortie_domain::connection::Connection;
use sortie_domain::ids::{AllocationId, FleetId, IdempotencyKey, MatchId, PlayerId, SeatId, ServerId};
use sortie_domain::machine::{Answer, CallId, Machine, Moment, Record, STEP_BYTES, STEP_RECORDS, Step};
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::properties::Properties;
use sortie_domain::time::Timestamp;

/// When every example begins: any moment but zero, which means "never" to some rules.
const BEGIN: u64 = 1_700_000_000_000;
/// Maximum number of deadlines at one moment; beyond it the broker counts as looping.
const MAX_TICKS: u32 = 100_000;

/// Maximum that one piece of work adds to a full step: bytes of records, and records with answers.
const PIECE: (usize, usize) = (6 << 20, 200);

pub(crate) const MS: Duration = Duration::from_millis(1);

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn game(id: &str) -> MatchId {
    MatchId::new(id).unwrap()
}

pub(crate) fn server(id: &str) -> ServerId {
    ServerId::new(id).unwrap()
}

pub(crate) fn player(id: &str) -> PlayerId {
    PlayerId::new(id).unwrap()
}

pub(crate) fn players(ids: &[&str]) -> Vec<PlayerId> {
    ids.iter().map(|id| player(id)).collect()
}

pub(crate) fn fleet_id(id: &str) -> FleetId {
    FleetId::new(id).unwrap()
}

pub(crate) fn key(text: &str) -> Option<IdempotencyKey> {
    Some(IdempotencyKey::new(text).unwrap())
}

/// A fleet that takes any match, with room for ten servers.
pub(crate) fn fleet(id: &str) -> Fleet {
    Fleet {
        id: fleet_id(id),
        game: None,
        is_default: false,
        requirements: String::new(),
        max: 10,
        warm: 0,
        ready_deadline: secs(60),
        max_run_time: None,
        preference: 0,
    }
}

/// A match for these players.
pub(crate) fn spec(ids: &[&str]) -> MatchSpec {
    MatchSpec { players: players(ids), ..MatchSpec::default() }
}

/// A match with these properties.
pub(crate) fn with_properties(json: &str) -> MatchSpec {
    MatchSpec { properties: Properties::parse(json).unwrap(), ..MatchSpec::default() }
}

pub(crate) fn bound_to(fleet: &str) -> MatchSpec {
    MatchSpec { fleet: Some(fleet_id(fleet)), ..MatchSpec::default() }
}

pub(crate) fn at(details: &str) -> Connection {
    Connection { details: details.into(), per_player: BTreeMap::new() }
}

pub(crate) fn on(fast_schedule: FastSchedule) -> Settings {
    Settings { fast_schedule, ..Settings::default() }
}

pub(crate) fn request(server: &ServerId, requirements: &str, hints: Hints) -> Command {
    Command::RequestMatch {
        server: server.clone(),
        requirements: requirements.into(),
        hints,
        most: 1,
        wait: None,
    }
}

pub(crate) fn ready(server: &ServerId, id: &MatchId, details: &str, hints: Hints) -> Command {
    Command::MatchReady { server: server.clone(), match_id: id.clone(), connection: at(details), hints }
}

pub(crate) fn end(server: &ServerId, id: &MatchId, hints: Hints) -> Command {
    Command::EndMatch { server: server.clone(), match_id: id.clone(), hints }
}

pub(crate) fn submit(id: &MatchId, spec: MatchSpec) -> Command {
    Command::SubmitMatch { id: Some(id.clone()), spec }
}

pub(crate) fn claim(seat: &SeatId, server: &ServerId) -> Command {
    Command::ClaimSeat { seat: seat.clone(), server: Some(server.clone()) }
}

/// The result of a call.
pub(crate) enum Asked {
    Answered(Box<Answer<Broker>>),
    Kept(CallId),
}

pub(crate) struct Table {
    pub(crate) broker: Broker,
    pub(crate) log: Vec<Record<Event>>,
    pub(crate) effects: Vec<Effect>,
    answers: BTreeMap<CallId, Answer<Broker>>,
    now: u64,
    inputs: u64,
}

impl Table {
    /// A broker without fleets, with the default settings.
    pub(crate) fn new() -> Self {
        Self::with(Settings::default(), Vec::new())
    }

    pub(crate) fn with_fleets(fleets: Vec<Fleet>) -> Self {
        Self::with(Settings::default(), fleets)
    }

    pub(crate) fn with(settings: Settings, fleets: Vec<Fleet>) -> Self {
        let mut table = Self {
            broker: Broker::new(),
            log: Vec::new(),
            effects: Vec::new(),
            answers: BTreeMap::new(),
            now: BEGIN,
            inputs: 0,
        };
        table.done(Command::Configure { settings, fleets });
        table
    }

    fn moment(&mut self) -> Moment {
        self.inputs += 1;
        let entropy = [self.inputs.wrapping_mul(0x9e37_79b9_7f4a_7c15), !self.inputs];
        Moment { now: Timestamp::from_millis(self.now), entropy }
    }

    fn take(&mut self, step: Step<Broker>) {
        let count = step.records.len() + step.answers.len();
        assert!(step.bytes() <= STEP_BYTES + PIECE.0, "a step of {} bytes", step.bytes());
        assert!(count <= STEP_RECORDS + PIECE.1, "a step of {count} records and answers");
        for record in step.records {
            self.effects.extend(self.broker.effect(&record.event));
            self.log.push(record);
        }
        for (call, answer) in step.answers {
            assert!(self.answers.insert(call, answer).is_none(), "{call:?} was answered twice");
        }
    }

    /// Ticks at every deadline up to `until`, as a host does.
    fn run_until(&mut self, until: u64) {
        for _ in 0..MAX_TICKS {
            let due = self.broker.next_deadline().map(Timestamp::as_millis).filter(|due| *due <= until);
            let Some(due) = due else {
                self.now = until;
                return;
            };
            self.now = self.now.max(due);
            let mut step = Step::new();
            let moment = self.moment();
            self.broker.tick(moment, &mut step);
            self.take(step);
        }
        panic!("the broker's next deadline stays at {:?}", self.broker.next_deadline());
    }

    pub(crate) fn advance(&mut self, duration: Duration) {
        let until = self.now + u64::try_from(duration.as_millis()).unwrap();
        self.run_until(until);
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    /// Moves the clock without a tick, as if the process had been stopped.
    pub(crate) fn stop_for(&mut self, duration: Duration) {
        self.now += u64::try_from(duration.as_millis()).unwrap();
    }

    /// One tick, if something is due; returns whether it was.
    pub(crate) fn tick(&mut self) -> bool {
        let due = self.broker.next_deadline().is_some_and(|due| due <= self.now());
        if due {
            let (moment, mut step) = (self.moment(), Step::new());
            self.broker.tick(moment, &mut step);
            self.take(step);
        }
        due
    }

    /// One input and nothing after it; returns its results.
    pub(crate) fn input(&mut self, command: Command) -> (CallId, usize) {
        let (moment, mut step) = (self.moment(), Step::new());
        let call = CallId(self.inputs);
        self.broker.handle(moment, call, command, &mut step);
        let count = step.records.len() + step.answers.len();
        self.take(step);
        (call, count)
    }

    pub(crate) fn ask(&mut self, command: Command) -> Asked {
        let (call, _) = self.input(command);
        self.run_until(self.now);
        match self.answers.remove(&call) {
            Some(answer) => Asked::Answered(Box::new(answer)),
            None => Asked::Kept(call),
        }
    }

    pub(crate) fn ok(&mut self, command: Command) -> Reply {
        let asked = format!("{command:?}");
        match self.ask(command) {
            Asked::Answered(answer) => answer.unwrap_or_else(|refusal| panic!("{asked}: {refusal}")),
            Asked::Kept(_) => panic!("{asked} was kept"),
        }
    }

    pub(crate) fn done(&mut self, command: Command) {
        assert_eq!(self.ok(command), Reply::Done);
    }

    /// Sends a command that must be refused with `code`, without effect.
    pub(crate) fn refused(&mut self, code: &str, command: Command) -> Refusal {
        let (before, asked) = (self.log.len(), format!("{command:?}"));
        let refusal = match self.ask(command) {
            Asked::Answered(answer) => answer.expect_err(&asked),
            Asked::Kept(_) => panic!("{asked} was kept"),
        };
        assert_eq!(refusal.code(), code, "{asked}: {refusal}");
        assert_eq!(self.kinds_since(before), [""; 0], "{asked} was refused and left a trace");
        refusal
    }

    pub(crate) fn kept(&mut self, command: Command) -> CallId {
        let asked = format!("{command:?}");
        match self.ask(command) {
            Asked::Answered(answer) => panic!("{asked} was answered: {answer:?}"),
            Asked::Kept(call) => call,
        }
    }

    /// The answer to a kept call so far.
    pub(crate) fn answer(&mut self, call: CallId) -> Option<Answer<Broker>> {
        self.answers.remove(&call)
    }

    pub(crate) fn abandon(&mut self, call: CallId) {
        self.broker.abandon(call);
    }

    pub(crate) fn undelivered(&mut self, reply: Reply) {
        let mut step = Step::new();
        let moment = self.moment();
        self.broker.undelivered(moment, &Ok(reply), &mut step);
        self.take(step);
        self.run_until(self.now);
    }

    /// Events decided since the log had `mark` of them.
    pub(crate) fn since(&self, mark: usize) -> impl Iterator<Item = &Event> {
        self.log[mark..].iter().map(|record| &record.event)
    }

    /// Their kinds without the common prefix.
    pub(crate) fn kinds_since(&self, mark: usize) -> Vec<&'static str> {
        self.since(mark).map(|event| event.kind().trim_start_matches("sortie.")).collect()
    }

    pub(crate) fn mark(&self) -> usize {
        self.log.len()
    }

    pub(crate) fn last_event(&self) -> &Event {
        &self.log.last().unwrap().event
    }

    /// The broker is killed and comes back with nothing but its snapshot.
    pub(crate) fn restart(&mut self) {
        self.broker = Broker::restore(self.broker.snapshot());
        self.answers.clear();
        self.run_until(self.now);
    }
}

/// What tests check.
impl Table {
    pub(crate) fn find(&self, id: &MatchId) -> &Match {
        self.broker.find_match(id).unwrap_or_else(|| panic!("no match {id}"))
    }

    /// The state of a match, and why it ended where it is over: `"queued"`, `"failed: pickup_timeout"`.
    pub(crate) fn state(&self, id: &MatchId) -> String {
        let state = &self.find(id).state;
        state.reason().map_or_else(|| state.name().into(), |reason| format!("{}: {reason}", state.name()))
    }

    pub(crate) fn known_server(&self, id: &ServerId) -> Option<Server> {
        self.broker.servers(None, usize::MAX).items.into_iter().find(|known| known.id == *id)
    }

    /// The state of a server; `"gone"` where it is not listed.
    pub(crate) fn server_state(&self, id: &ServerId) -> &'static str {
        self.known_server(id).map_or("gone", |known| known.state.name())
    }

    pub(crate) fn allocations(&self) -> Vec<Allocation> {
        self.broker.allocations().cloned().collect()
    }

    /// The state of an allocation; `"ended"` where it is not listed.
    pub(crate) fn allocation_state(&self, id: &AllocationId) -> &'static str {
        let found = self.broker.allocations().find(|known| known.id == *id);
        found.map_or("ended", |known| known.state.name())
    }

    pub(crate) fn health(&self, id: &str) -> FleetHealth {
        let fleets = self.broker.fleets(None, usize::MAX).items;
        fleets.into_iter().find(|view| view.fleet.id.as_str() == id).unwrap().health
    }

    /// Fleets of the servers ordered since the log had `mark` events, and the matches they were ordered for.
    pub(crate) fn orders_since(&self, mark: usize) -> Vec<(String, Option<MatchId>)> {
        let orders = self.since(mark).filter_map(|event| match event {
            Event::AllocationOrdered { fleet, for_match, .. } => Some((fleet.to_string(), for_match.clone())),
            _ => None,
        });
        orders.collect()
    }

    /// How often the platform was told to stop a server.
    pub(crate) fn stops(&self, id: &ServerId) -> usize {
        let stops = self.effects.iter().filter(|effect| matches!(effect, Effect::Stop { .. }));
        stops.filter(|effect| matches!(effect, Effect::Stop { server, .. } if server == id)).count()
    }
}

/// The actions of people and servers.
impl Table {
    /// Submits a match under a given id.
    /// Live matches and those that are over, page by page.
    pub(crate) fn all_matches(&self) -> Vec<Match> {
        let mut all: Vec<Match> = Vec::new();
        loop {
            let page = self.broker.matches(&[], all.last().map(|game| &game.id), 1_000);
            all.extend(page.items);
            if !page.more {
                return all;
            }
        }
    }

    pub(crate) fn submit(&mut self, id: &str, spec: MatchSpec) -> MatchId {
        let id = game(id);
        assert_eq!(self.ok(submit(&id, spec)), Reply::Submitted { match_id: id.clone() });
        id
    }

    /// A server's call that is answered at once.
    pub(crate) fn request(
        &mut self,
        server: &ServerId,
        requirements: &str,
        hints: Hints,
    ) -> (Option<Offer>, Hints) {
        match self.ok(request(server, requirements, hints)) {
            Reply::Requested { offer, hints, .. } => (offer, hints),
            other => panic!("{other:?}"),
        }
    }

    /// The match that the server gets when it asks for any.
    pub(crate) fn poll(&mut self, server: &ServerId) -> Option<MatchId> {
        let (offer, hints) = self.request(server, "", Hints::NONE);
        assert_eq!(hints, Hints::NONE, "{server} was told to leave");
        offer.map(|offer| offer.match_id)
    }

    /// The match that the server gets when it asks for any, and ignores those that it has already.
    pub(crate) fn poll_new(&mut self, server: &ServerId) -> Option<MatchId> {
        loop {
            let (offer, _) = self.request(server, "", Hints::NONE);
            match offer {
                Some(offer) if offer.again => {}
                offer => return offer.map(|offer| offer.match_id),
            }
        }
    }

    /// The hints with which a server that asks for a match is sent away.
    pub(crate) fn sent_away(&mut self, server: &ServerId) -> Hints {
        let (offer, hints) = self.request(server, "", Hints::NONE);
        assert_eq!(offer, None);
        hints
    }

    /// The match in the answer to a kept call.
    pub(crate) fn offered(&mut self, call: CallId) -> Option<Offer> {
        match self.answer(call)? {
            Ok(Reply::Requested { offer, .. }) => offer,
            other => panic!("{other:?}"),
        }
    }

    /// A call to `MatchReady` or `EndMatch`; the hints that come back.
    pub(crate) fn noted(&mut self, command: Command) -> Hints {
        match self.ok(command) {
            Reply::Noted { hints, .. } => hints,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn ready(&mut self, server: &ServerId, id: &MatchId) -> Hints {
        self.noted(ready(server, id, "203.0.113.7:7777", Hints::NONE))
    }

    pub(crate) fn end(&mut self, server: &ServerId, id: &MatchId) -> Hints {
        self.noted(end(server, id, Hints::NONE))
    }

    pub(crate) fn change(&mut self, change: SettingsChange) {
        self.done(Command::Reconfigure { change });
    }

    /// A match on a server.
    pub(crate) fn picked_up(&mut self, id: &str, server: &ServerId) -> MatchId {
        let id = self.submit(id, spec(&[&format!("player of {id}")]));
        assert_eq!(self.poll_new(server).as_ref(), Some(&id));
        id
    }

    /// A match that its players can join.
    pub(crate) fn running(&mut self, id: &str, server: &ServerId) -> MatchId {
        let id = self.picked_up(id, server);
        assert_eq!(self.ready(server, &id), Hints::NONE);
        id
    }

    /// An administrator orders a server without a match.
    pub(crate) fn order(&mut self) -> Allocation {
        match self.ok(Command::AllocateServer { id: None, spec: None }) {
            Reply::Allocated { server, match_id: None } => self.allocation_of(&server),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn allocation_of(&self, server: &ServerId) -> Allocation {
        self.broker.allocation_of(server).unwrap_or_else(|| panic!("{server} has no allocation")).clone()
    }

    /// The allocation ordered for a queued match.
    pub(crate) fn allocation_for(&self, id: &MatchId) -> Option<Allocation> {
        self.broker.allocation_for(id).cloned()
    }

    pub(crate) fn started(&mut self, allocation: &Allocation) {
        self.done(Command::AllocationStarted { allocation: allocation.id.clone() });
    }

    pub(crate) fn start_failed(&mut self, allocation: &Allocation) {
        let (allocation, error) = (allocation.id.clone(), "no capacity".into());
        self.done(Command::AllocationFailed { allocation, error });
    }

    pub(crate) fn stopped(&mut self, allocation: &Allocation) {
        self.done(Command::AllocationStopped { allocation: allocation.id.clone() });
    }

    pub(crate) fn exited(&mut self, allocation: &Allocation) {
        let (allocation, status) = (allocation.id.clone(), "exit status 1".into());
        self.done(Command::ServerExited { allocation, status });
    }

    /// An ordered server that has started and asked for a match without getting one.
    pub(crate) fn idle_server(&mut self) -> ServerId {
        let order = self.order();
        self.started(&order);
        assert_eq!(self.poll(&order.server), None);
        order.server
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut replayed = Broker::new();
        self.log.iter().for_each(|record| replayed.apply(record));
        assert!(replayed.snapshot() == self.broker.snapshot(), "replaying the log gives another state");
        let bytes = |broker: &Broker| (broker.waiting_bytes(), broker.kept_bytes());
        assert_eq!(bytes(&replayed), bytes(&self.broker));
        let restored = Broker::restore(self.broker.snapshot());
        assert_eq!(bytes(&restored), bytes(&self.broker), "counted again after a restart");
        let outstanding = |broker: &Broker| format!("{:?}", broker.outstanding());
        assert_eq!(outstanding(&replayed), outstanding(&self.broker));
    }
}

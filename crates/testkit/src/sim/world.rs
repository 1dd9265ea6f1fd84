//! The agenda of one run: inputs to the broker, commits to the log, crashes, answers, and the next actions of all
//! participants.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use sortie_domain::broker::{
    BrokenRule, Broker, Command, Event, Hints, Offer, Refusal, Reply, SeatsElsewhere, Snapshot,
};
use sortie_domain::connection::Connection;
use sortie_domain::ids::{AllocationId, FleetId, IdempotencyKey, MatchId, PlayerId, SeatId, ServerId};
use sortie_domain::machine::{Answer, CallId, Machine, Moment, Record, Step};
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::properties::Properties;
use sortie_domain::time::Timestamp;

use super::actors::{Caller, Manner, PROPERTIES, Server};
use super::platform::Platform;
use super::steps::new_step;
use super::{Failure, Report};

/// Virtual time during which clients come, in milliseconds.
const BUSY_TIME: u64 = 15 * 60 * 1000;
/// Virtual time after that, longer than any timer, in milliseconds.
const REST_TIME: u64 = 30 * 60 * 1000;
/// Maximum number of inputs; a run that exceeds it does not terminate.
const MAX_INPUTS: u64 = 50_000;

/// Players of a large match.
const MANY_PLAYERS: usize = 40;

/// An entry of the agenda.
#[derive(Clone, Debug)]
enum Task {
    /// A deadline of the broker.
    Tick,
    /// The decisions become durable.
    Commit,
    /// The process is killed and started again.
    Crash,
    /// A client, a player or an administrator does something.
    Client,
    /// A server does something.
    Server(ServerId),
    /// A player comes to the server with a seat.
    Arrive(SeatId),
    /// The platform performs the first effect of an allocation.
    Perform(AllocationId),
    /// The platform reports that a process has ended.
    TellExit(AllocationId),
    /// The host tells the broker that an answer found nobody.
    Undelivered(Box<Answer<Broker>>),
    /// A caller hangs up.
    HangUp(CallId),
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) rng: Rng,
    pub(super) now: u64,
    pub(super) broker: Broker,
    broken: Option<BrokenRule>,
    pub(super) log: Vec<Record<Event>>,
    snapshot: Option<Snapshot>,
    pub(super) step: Step<Broker>,
    agenda: BTreeMap<(u64, u64), Task>,
    pub(super) count: u64,
    pub(super) calls: BTreeMap<CallId, Caller>,
    pub(super) gone: BTreeSet<CallId>,
    pub(super) platform: Platform,
    pub(super) servers: BTreeMap<ServerId, Server>,
    pub(super) matches: BTreeSet<MatchId>,
    pub(super) cancelled: BTreeSet<MatchId>,
    pub(super) readied: BTreeSet<MatchId>,
    pub(super) claimed: BTreeSet<SeatId>,
    /// Matches given to servers in answers that got lost.
    pub(super) unheard: BTreeMap<MatchId, ServerId>,
    /// Pickups of matches that an answer has reported, or may have reported before the last crash.
    pub(super) told: BTreeSet<(MatchId, u32)>,
    /// Records up to this one, and this many answers of the step, have been checked.
    pub(super) looked_at: (u64, usize),
    pub(super) seats: Vec<SeatId>,
    specs: Vec<(MatchSpec, MatchId)>,
    busy: bool,
    pub(super) report: Report,
    pub(super) problem: Option<String>,
}

impl World {
    pub(super) fn new(seed: u64, broken: Option<BrokenRule>) -> Self {
        let mut world = Self {
            seed,
            rng: Rng::with_seed(seed),
            now: 1_700_000_000_000,
            broker: Broker::new(),
            broken,
            log: Vec::new(),
            snapshot: None,
            step: new_step(),
            agenda: BTreeMap::new(),
            count: 0,
            calls: BTreeMap::new(),
            gone: BTreeSet::new(),
            platform: Platform::default(),
            servers: BTreeMap::new(),
            matches: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            readied: BTreeSet::new(),
            claimed: BTreeSet::new(),
            unheard: BTreeMap::new(),
            told: BTreeSet::new(),
            looked_at: (0, 0),
            seats: Vec::new(),
            specs: Vec::new(),
            busy: true,
            report: Report::default(),
            problem: None,
        };
        world.break_rule();
        world
    }

    fn break_rule(&mut self) {
        if let Some(rule) = self.broken {
            self.broker.break_rule(rule);
        }
    }

    pub(super) fn run(mut self) -> Result<Report, Failure> {
        let command = self.configuration();
        self.input(command, Caller::Admin);
        self.plan(0, Task::Client);
        for _ in 0..self.rng.usize(0..3) {
            self.register_stranger();
        }
        let end = self.now + BUSY_TIME;
        while self.problem.is_none() {
            if self.busy && self.now >= end {
                self.quiesce();
            }
            let Some(((time, _), task)) = self.agenda.pop_first() else { break };
            if time > end + REST_TIME {
                break;
            }
            self.now = self.now.max(time);
            self.carry_out(task);
            self.check_state();
            if self.report.inputs > MAX_INPUTS {
                self.fail("the run does not come to an end".into());
            }
        }
        self.commit();
        self.check_end();
        self.report.events = self.log.len() as u64;
        self.report.matches = self.matches.len() as u64;
        self.report.ready = self.readied.len() as u64;
        self.report.claims = self.claimed.len() as u64;
        self.report.processes = self.platform.started;
        match self.problem {
            None => Ok(self.report),
            Some(problem) => {
                Err(Failure { machine: "broker", seed: self.seed, inputs: self.report.inputs, problem })
            }
        }
    }

    pub(super) fn fail(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }

    fn plan(&mut self, delay: u64, task: Task) {
        self.count += 1;
        self.agenda.insert((self.now + delay, self.count), task);
    }

    /// Each server has one next thing to do.
    fn plan_server(&mut self, delay: u64, id: ServerId) {
        self.agenda.retain(|_, task| !matches!(task, Task::Server(of) if *of == id));
        self.plan(delay, Task::Server(id));
    }

    pub(super) fn moment(&mut self) -> Moment {
        Moment { now: self.time(), entropy: [self.rng.u64(..), self.rng.u64(..)] }
    }

    pub(super) const fn time(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    /// No new clients; the fleets are removed. Everything in flight must end without further input.
    fn quiesce(&mut self) {
        self.busy = false;
        let settings = self.broker.settings().clone();
        self.input(Command::Configure { settings, fleets: Vec::new() }, Caller::Admin);
    }

    fn carry_out(&mut self, task: Task) {
        match task {
            Task::Tick => self.tick(),
            Task::Commit => self.commit(),
            Task::Crash => self.crash(),
            Task::Client => self.client(),
            Task::Server(id) => self.server(&id),
            Task::Arrive(seat) => {
                self.input(Command::ClaimSeat { seat: seat.clone(), server: None }, Caller::Claim(seat));
            }
            Task::Perform(allocation) => self.perform(&allocation),
            Task::TellExit(allocation) => self.tell_exit(&allocation),
            Task::Undelivered(answer) => {
                let at = self.moment();
                self.broker.undelivered(at, &answer, &mut self.step);
                self.check_step();
                self.after_input();
            }
            Task::HangUp(call) => {
                let Some(caller) = self.calls.get(&call).cloned() else { return };
                self.gone.insert(call);
                self.broker.abandon(call);
                // A server may hang up because it has exited.
                if let Caller::Request(server) = caller
                    && self.rng.bool()
                {
                    self.exit(&server, "killed by signal 9");
                }
            }
        }
    }

    pub(super) fn plan_tick(&mut self) {
        self.agenda.retain(|_, task| !matches!(task, Task::Tick));
        if let Some(deadline) = self.broker.next_deadline() {
            self.plan(deadline.as_millis().saturating_sub(self.now), Task::Tick);
        }
    }

    /// Sends the broker one command. Due timers run first, so that any trace that a refused command leaves is its own.
    pub(super) fn input(&mut self, command: Command, caller: Caller) -> CallId {
        self.catch_up();
        if self.step.is_full() {
            self.commit();
        }
        let at = self.moment();
        self.count += 1;
        let call = CallId(self.count);
        self.calls.insert(call, caller);
        let (records, answers) = (self.step.records.len(), self.step.answers.len());
        // Work left by an earlier step may be done with this input.
        let settled = self.is_settled();
        let (expected, free) = (self.expected_offer(&command), self.expected_free(&command));
        let again = self.expected_again(&command);
        self.broker.handle(at, call, command, &mut self.step);
        self.check_step();
        self.check_again(call, again.as_ref(), answers);
        if let Some(expected) = expected {
            self.check_offer(call, &expected, answers);
        }
        self.check_places(call, free, answers);
        let refused = self.step.answers[answers..].iter().any(|(to, answer)| *to == call && answer.is_err());
        if refused && settled && self.step.records.len() > records {
            self.fail(format!("6: a refused command left {:?}", self.step.records[records].event));
        }
        self.after_input();
        call
    }

    /// The answers decided since `from` to a call.
    pub(super) fn answer_since(&self, call: CallId, from: usize) -> Option<&Answer<Broker>> {
        self.step.answers[from..].iter().find(|(to, _)| *to == call).map(|(_, answer)| answer)
    }

    pub(super) fn after_input(&mut self) {
        self.report.inputs += 1;
        match self.rng.u32(0..1000) {
            0 => self.plan(0, Task::Crash),
            1..700 => self.commit(),
            _ => {
                let delay = self.rng.u64(0..300);
                self.plan(delay, Task::Commit);
            }
        }
        self.plan_tick();
    }

    /// The decisions are durable: effects begin, answers go out.
    pub(super) fn commit(&mut self) {
        let Step { records, answers, .. } = std::mem::replace(&mut self.step, new_step());
        self.looked_at.1 = 0;
        for record in &records {
            if let Some(effect) = self.broker.effect(&record.event) {
                self.begin(effect);
            }
        }
        self.log.extend(records);
        if self.rng.u8(0..40) == 0 {
            self.snapshot = Some(self.broker.snapshot());
        }
        for (call, answer) in answers {
            self.note_told(&answer);
            self.deliver(call, answer);
        }
    }

    fn begin(&mut self, effect: sortie_domain::broker::Effect) {
        let allocation = effect.allocation().clone();
        if self.platform.queue(effect) {
            let delay = self.rng.u64(1..4000);
            self.plan(delay, Task::Perform(allocation));
        }
    }

    /// The process dies with everything that is not in the log, and another one takes over.
    fn crash(&mut self) {
        self.report.crashes += 1;
        // A large step becomes durable in parts, and the process may die between two of them.
        let Step { mut records, .. } = std::mem::replace(&mut self.step, new_step());
        records.truncate(self.rng.usize(0..=records.len()));
        self.log.extend(records);
        self.looked_at = (self.log.last().map_or(0, |record| record.seq), 0);
        let callers = std::mem::take(&mut self.calls);
        self.gone.clear();
        self.agenda.retain(|_, task| !matches!(task, Task::Undelivered(_) | Task::Commit | Task::HangUp(_)));
        self.broker = self.recovered();
        self.tell_all();
        self.break_rule();
        self.check_replay();
        // Effects in flight at the platform are lost; the new process starts again with the outstanding ones.
        self.platform.effects.clear();
        self.agenda.retain(|_, task| !matches!(task, Task::Perform(_)));
        for effect in self.broker.outstanding() {
            self.begin(effect);
        }
        for caller in callers.into_values() {
            self.lost(caller);
        }
        if !self.busy {
            self.quiesce();
        }
        self.plan_tick();
    }

    fn recovered(&self) -> Broker {
        let durable = self.log.last().map_or(0, |record| record.seq);
        let kept = self.snapshot.clone().filter(|snapshot| snapshot.seq <= durable);
        let mut broker = kept.map_or_else(Broker::new, Broker::restore);
        for record in self.log.iter().skip(usize::try_from(broker.last_seq()).unwrap_or(usize::MAX)) {
            broker.apply(record);
        }
        broker
    }

    /// The caller gets no answer, and knows that it gets none.
    fn lost(&mut self, caller: Caller) {
        let delay = self.rng.u64(1..2000);
        match caller {
            Caller::Request(server) => {
                if let Some(server) = self.servers.get_mut(&server) {
                    server.asking = false;
                }
                self.plan_server(delay, server);
            }
            Caller::Ready(server, _) | Caller::End(server, _) => self.plan_server(delay, server),
            Caller::Outcome(allocation) => self.plan(delay, Task::Perform(allocation)),
            Caller::Exit(allocation) => self.plan(delay, Task::TellExit(allocation)),
            _ => {}
        }
    }

    fn deliver(&mut self, call: CallId, answer: Answer<Broker>) {
        let Some(caller) = self.calls.remove(&call) else { return };
        if self.gone.remove(&call) {
            self.lost(caller);
            let delay = self.rng.u64(0..2000);
            return self.plan(delay, Task::Undelivered(Box::new(answer)));
        }
        let over_network = !matches!(caller, Caller::Outcome(_) | Caller::Exit(_) | Caller::Admin);
        if over_network && self.rng.u8(0..60) == 0 {
            self.note_unheard(&caller, &answer);
            return self.lost(caller);
        }
        match (caller, answer) {
            (Caller::Submitter, Ok(Reply::Submitted { match_id })) => self.acknowledged(match_id),
            (Caller::Canceller(id), Ok(_)) => drop(self.cancelled.insert(id)),
            (Caller::Request(server), answer) => self.requested(&server, answer),
            (Caller::Ready(server, id), answer) => self.ready_answered(&server, &id, &answer),
            (Caller::End(server, id), answer) => self.end_answered(&server, &id, &answer),
            (Caller::Player, Ok(Reply::Seated { seat, game, again })) => {
                if self.rng.bool() {
                    let delay = self.rng.u64(0..25_000);
                    self.plan(delay, Task::Arrive(seat.id.clone()));
                }
                self.check_one_place(&seat, &game, again);
                self.seats.push(seat.id);
                self.acknowledged(game.id);
            }
            (Caller::Claim(seat), Ok(_)) => self.claimed_by(&seat),
            (Caller::Outcome(allocation), _) => self.next_effect(allocation),
            (Caller::Exit(allocation), Ok(_)) => drop(self.platform.exits.remove(&allocation)),
            _ => {}
        }
    }

    fn next_effect(&mut self, allocation: AllocationId) {
        if self.platform.done(&allocation) {
            self.plan(1, Task::Perform(allocation));
        }
    }

    fn acknowledged(&mut self, id: MatchId) {
        self.matches.insert(id);
    }

    // --- the platform ---------------------------------------------------------------------------------------

    fn perform(&mut self, allocation: &AllocationId) {
        if self.rng.u8(0..10) == 0 {
            // The platform did not answer; the host retries.
            let delay = self.rng.u64(100..5000);
            return self.plan(delay, Task::Perform(allocation.clone()));
        }
        let stopped = self.platform.running.get(allocation).map(|process| process.server.clone());
        let fail = self.rng.u8(0..12) == 0;
        let (started, outcome) = self.platform.perform(allocation, fail);
        if let Some(id) = started {
            let server = Server::new(id.clone(), Some(allocation.clone()), &mut self.rng);
            self.servers.insert(id.clone(), server);
            let delay = self.rng.u64(10..8000);
            self.plan_server(delay, id);
        }
        if let Some(server) = stopped
            && !self.platform.running.contains_key(allocation)
        {
            self.kill(&server);
        }
        if let Some(outcome) = outcome {
            self.input(outcome, Caller::Outcome(allocation.clone()));
        }
    }

    fn kill(&mut self, id: &ServerId) {
        if let Some(server) = self.servers.get_mut(id) {
            server.alive = false;
            server.holds.clear();
            server.ready.clear();
        }
    }

    fn exit(&mut self, id: &ServerId, status: &str) {
        let Some(server) = self.servers.get(id) else { return };
        self.platform.exit(server, status);
        let allocation = server.allocation.clone();
        self.kill(id);
        if let Some(allocation) = allocation {
            let delay = self.rng.u64(0..500);
            self.plan(delay, Task::TellExit(allocation));
        }
    }

    fn tell_exit(&mut self, allocation: &AllocationId) {
        if let Some(status) = self.platform.exits.get(allocation).cloned() {
            let command = Command::ServerExited { allocation: allocation.clone(), status };
            self.input(command, Caller::Exit(allocation.clone()));
        }
    }

    // --- game servers ---------------------------------------------------------------------------------------

    fn register_stranger(&mut self) {
        let name = format!("stranger {}", self.count);
        if let Ok(id) = ServerId::new(&name) {
            self.servers.insert(id.clone(), Server::new(id.clone(), None, &mut self.rng));
            self.plan_server(1, id);
        }
    }

    fn server(&mut self, id: &ServerId) {
        let Some(server) = self.servers.get(id).filter(|server| server.alive) else { return };
        let (manner, asking) = (server.manner, server.asking);
        if manner == Manner::Silent || (!self.busy && server.holds.is_empty()) {
            return;
        }
        if manner == Manner::Lies && self.rng.bool() {
            self.lie(id);
        }
        let Some(server) = self.servers.get(id) else { return };
        let unready = server.holds.difference(&server.ready).next().cloned();
        let (running, room) = (server.ready.first().cloned(), server.holds.len() < server.room);
        match (unready, running) {
            (Some(_), _) if manner == Manner::Crashes => self.exit(id, "killed by signal 11"),
            (Some(_), _) if manner == Manner::NeverReady => {}
            (Some(game), _) if self.rng.u8(0..20) == 0 => self.hand_back(id, &game),
            (Some(game), _) => self.say_ready(id, &game),
            (None, Some(game)) if self.rng.u8(0..3) == 0 => self.say_free(id, &game),
            (None, Some(game)) if !room || self.rng.bool() => self.say_end(id, &game),
            _ if asking || !self.busy => {}
            _ => self.ask(id),
        }
        let delay = self.rng.u64(200..20_000);
        self.plan_server(delay, id.clone());
    }

    fn ask(&mut self, id: &ServerId) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.asking = true;
        let hints = match self.rng.u8(0..60) {
            0..3 => server.hints.with(Hints::FULL),
            3 => server.hints.with(Hints::WITHDRAW),
            4 => {
                // A server that sends this hint has dropped the matches that it is not ready for.
                server.drop_unready();
                server.hints.with(Hints::SHUTDOWN)
            }
            _ => server.hints,
        };
        let requirements = server.requirements.to_owned();
        let most = u32::try_from(server.room.saturating_sub(server.holds.len())).unwrap_or(1).max(1);
        let wait = (self.rng.u8(0..3) == 0).then(|| Duration::from_secs(self.rng.u64(0..20)));
        let command = Command::RequestMatch { server: id.clone(), requirements, hints, most, wait };
        let call = self.input(command, Caller::Request(id.clone()));
        if self.rng.u8(0..10) == 0 {
            // Often just after the request, when an answer may be decided and not yet durable.
            let delay = if self.rng.bool() { self.rng.u64(0..100) } else { self.rng.u64(0..10_000) };
            self.plan(delay, Task::HangUp(call));
        }
    }

    fn requested(&mut self, id: &ServerId, answer: Answer<Broker>) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.asking = false;
        let Ok(Reply::Requested { offer, more, hints }) = answer else { return };
        if hints.has(Hints::SHUTDOWN) && server.manner != Manner::Stubborn && server.alive {
            return self.exit(id, "exit status 0");
        }
        let is_alive = server.alive;
        for offer in offer.into_iter().chain(more).filter(|_| is_alive) {
            self.given(id, offer);
        }
        let delay = self.rng.u64(1..3000);
        self.plan_server(delay, id.clone());
    }

    fn given(&mut self, id: &ServerId, offer: Offer) {
        let other =
            self.servers.values().find(|server| server.id != *id && server.holds.contains(&offer.match_id));
        if let Some(other) = other {
            let problem = format!("1: match {} went to {id} while {} holds it", offer.match_id, other.id);
            return self.fail(problem);
        }
        if let Some(server) = self.servers.get_mut(id) {
            server.holds.insert(offer.match_id);
        }
    }

    fn say_ready(&mut self, id: &ServerId, game: &MatchId) {
        let connection =
            Connection { details: format!("{id}:7777").as_str().into(), ..Connection::default() };
        let hints = *self.rng.choice(&[Hints::NONE, Hints::FULL, Hints::NOT_FULL]).unwrap_or(&Hints::NONE);
        let repeats = self.servers.get(id).is_some_and(|server| server.manner == Manner::Repeats);
        for _ in 0..=usize::from(repeats) {
            let command = Command::MatchReady {
                server: id.clone(),
                match_id: game.clone(),
                connection: connection.clone(),
                hints,
            };
            self.input(command, Caller::Ready(id.clone(), game.clone()));
        }
    }

    fn ready_answered(&mut self, id: &ServerId, game: &MatchId, answer: &Answer<Broker>) {
        let Some(server) = self.servers.get_mut(id) else { return };
        match answer {
            Ok(_) => {
                self.readied.insert(game.clone());
                if server.holds.contains(game) {
                    server.ready.insert(game.clone());
                }
            }
            Err(Refusal::MatchNotHeld { shutdown, .. }) => {
                server.drop_match(game);
                if *shutdown && server.manner != Manner::Stubborn && server.alive {
                    self.exit(id, "exit status 0");
                }
            }
            Err(_) => server.drop_match(game),
        }
    }

    fn say_end(&mut self, id: &ServerId, game: &MatchId) {
        let choices =
            [Hints::NONE, Hints::NONE, Hints::SHUTDOWN, Hints::WILLING_TO_SHUTDOWN, Hints::NOT_FULL];
        let hints = *self.rng.choice(&choices).unwrap_or(&Hints::NONE);
        let Some(server) = self.servers.get_mut(id) else { return };
        if hints.has(Hints::SHUTDOWN) {
            server.drop_unready();
        }
        let repeats = server.manner == Manner::Repeats;
        for _ in 0..=usize::from(repeats) {
            let command = Command::EndMatch { server: id.clone(), match_id: game.clone(), hints };
            self.input(command, Caller::End(id.clone(), game.clone()));
        }
        if hints.has(Hints::SHUTDOWN) && self.rng.u8(0..4) != 0 {
            self.exit(id, "exit status 0");
        }
    }

    /// Sends back a match that it has and is not ready for.
    fn hand_back(&mut self, id: &ServerId, game: &MatchId) {
        let hints = if self.rng.bool() { Hints::FULL } else { Hints::WITHDRAW };
        let Some(server) = self.servers.get_mut(id) else { return };
        server.drop_match(game);
        let command = Command::EndMatch { server: id.clone(), match_id: game.clone(), hints };
        self.input(command, Caller::End(id.clone(), game.clone()));
    }

    fn end_answered(&mut self, id: &ServerId, game: &MatchId, answer: &Answer<Broker>) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.drop_match(game);
        let shutdown = match answer {
            Ok(Reply::Noted { hints, .. }) => hints.has(Hints::SHUTDOWN),
            Err(refusal) => refusal.hints().has(Hints::SHUTDOWN),
            Ok(_) => false,
        };
        if shutdown && server.manner != Manner::Stubborn && server.alive {
            self.exit(id, "exit status 0");
        }
    }

    /// Reports on a match or a seat that does not belong to it.
    fn lie(&mut self, id: &ServerId) {
        let matches: Vec<_> = self.matches.iter().cloned().collect();
        let Some(game) = self.rng.choice(&matches).cloned() else { return };
        match self.rng.u8(0..4) {
            0 => self.say_ready(id, &game),
            3 => self.say_free(id, &game),
            1 => {
                let command =
                    Command::EndMatch { server: id.clone(), match_id: game.clone(), hints: Hints::NONE };
                self.input(command, Caller::End(id.clone(), game));
            }
            _ => self.claim(Some(id.clone())),
        }
    }

    // --- clients, players, administrators -------------------------------------------------------------------

    fn client(&mut self) {
        if !self.busy {
            return;
        }
        match self.rng.u8(0..24) {
            0..6 => self.submit(),
            // Many at once are due at once.
            6 => (0..self.rng.usize(1..60)).for_each(|_| self.submit()),
            7..12 => self.join(),
            12..15 => self.claim(None),
            15 => self.release(),
            16 => self.reserve(),
            17 | 18 => self.watch(),
            19 => self.cancel(),
            20 => self.admin(),
            21 => self.garbage(),
            22 => self.register_stranger(),
            _ => {}
        }
        let delay = self.rng.u64(10..12_000);
        self.plan(delay, Task::Client);
    }

    fn submit(&mut self) {
        let again = self.rng.choice(&self.specs).cloned().filter(|_| self.rng.u8(0..6) == 0);
        if let Some((spec, id)) = again {
            let command = Command::SubmitMatch { id: Some(id), spec };
            self.input(command, Caller::Submitter);
            return;
        }
        let many = self.rng.u8(0..20) == 0;
        let most = if many { MANY_PLAYERS } else { self.rng.usize(0..5) };
        let players = (0..most).filter_map(|n| PlayerId::new(&format!("p{}-{n}", self.count)).ok());
        let players: Vec<_> = players.collect();
        let properties = self.rng.choice(&PROPERTIES).and_then(|text| Properties::parse(text).ok());
        let key = IdempotencyKey::new(&format!("key-{}", self.count)).ok().filter(|_| self.rng.bool());
        let spec = MatchSpec {
            capacity: (!many && self.rng.bool()).then_some(4),
            players,
            properties: properties.unwrap_or_default(),
            idempotency_key: key,
            ..MatchSpec::default()
        };
        let Ok(id) = MatchId::new(&format!("m-{}", self.count)) else { return };
        self.specs.push((spec.clone(), id.clone()));
        self.input(Command::SubmitMatch { id: Some(id), spec }, Caller::Submitter);
    }

    fn join(&mut self) {
        let (Some(player), Ok(fleet)) =
            (self.joiner(), FleetId::new(if self.rng.bool() { "a" } else { "b" }))
        else {
            return;
        };
        let command = Command::Join {
            fleet,
            player,
            capacity: self.rng.u32(1..5),
            ttl: Duration::from_secs(self.rng.u64(1..40)),
            properties: Properties::default(),
            beside: [].into(),
            rejoin: true,
        };
        let call = self.input(command, Caller::Player);
        if self.rng.u8(0..8) == 0 {
            self.plan(0, Task::HangUp(call));
        }
    }

    fn claim(&mut self, server: Option<ServerId>) {
        // Mostly recent ones, whose seat may still exist.
        let late = self.seats.len().saturating_sub(self.rng.usize(1..12));
        if let Some(seat) = self.rng.choice(&self.seats[late..]).cloned() {
            self.input(Command::ClaimSeat { seat: seat.clone(), server }, Caller::Claim(seat));
        }
    }

    fn release(&mut self) {
        if let Some(seat) = self.rng.choice(&self.seats).cloned() {
            self.input(Command::ReleaseSeat { seat }, Caller::Release);
        }
    }

    fn some_match(&mut self) -> Option<MatchId> {
        let matches: Vec<_> = self.matches.iter().cloned().collect();
        self.rng.choice(&matches).cloned()
    }

    fn reserve(&mut self) {
        let (Some(match_id), Some(player)) = (self.some_match(), self.joiner()) else { return };
        let (ttl, elsewhere) = (Duration::from_secs(20), SeatsElsewhere::All);
        self.input(Command::ReserveSeat { match_id, player, ttl, elsewhere }, Caller::Player);
    }

    fn watch(&mut self) {
        let Some(id) = self.some_match() else { return };
        let seen = self.log.last().map_or(0, |record| record.seq);
        let call = self.input(Command::WatchMatch { id, seen }, Caller::Watcher);
        let delay = self.rng.u64(0..60_000);
        self.plan(delay, Task::HangUp(call));
    }

    fn cancel(&mut self) {
        let Some(id) = self.some_match() else { return };
        let command = if self.rng.bool() {
            Command::CancelMatch { id: id.clone() }
        } else {
            Command::EndActiveMatch { id: id.clone() }
        };
        self.input(command, Caller::Canceller(id));
    }

    fn admin(&mut self) {
        let command = match self.rng.u8(0..4) {
            0 => Command::AllocateServer { id: None, spec: None },
            1 => Command::AllocateServer { id: None, spec: Some(MatchSpec::default()) },
            2 => {
                let servers: Vec<_> = self.servers.keys().cloned().collect();
                let Some(server) = self.rng.choice(&servers).cloned() else { return };
                Command::DeallocateServer { server }
            }
            _ => Command::Reconfigure { change: self.change() },
        };
        self.input(command, Caller::Admin);
    }

    fn garbage(&mut self) {
        let Ok(server) = ServerId::new("nobody") else { return };
        let Ok(unknown) = MatchId::new("never heard of") else { return };
        let command = match self.rng.u8(0..4) {
            0 => Command::RequestMatch {
                server,
                requirements: "a ==".into(),
                hints: Hints::WILLING_TO_WAIT,
                most: 1,
                wait: None,
            },
            1 => Command::CancelMatch { id: unknown },
            2 => Command::EndMatch { server, match_id: unknown, hints: Hints::SHUTDOWN },
            _ => Command::SubmitMatch {
                id: None,
                spec: MatchSpec { capacity: Some(0), ..MatchSpec::default() },
            },
        };
        self.input(command, Caller::Admin);
    }
}

//! A calm world: the warm pool of one fleet, whose servers all start at once, behave well and age together. In the
//! large simulation too much happens at once to say how many servers a pool must have; here it can be said exactly.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use sortie_domain::broker::model::{Fleet, Settings};
use sortie_domain::broker::{BrokenRule, Broker, Command, Effect, Event, Hints, LEAVE_TIME, Reply};
use sortie_domain::ids::{AllocationId, FleetId, ServerId};
use sortie_domain::machine::{CallId, Machine as _, Moment, Record, Step};
use sortie_domain::time::Timestamp;

/// Maximum number of servers of the warm pool.
const MAX_WARM: u32 = 9;
/// Maximum number of servers for which the fleet has room beyond its warm pool.
const MAX_ROOM: u32 = 3;
/// For how many lifetimes of a server the pool is watched.
const LIFETIMES: u32 = 3;
/// Maximum number of inputs; a run that exceeds it does not terminate.
const MAX_INPUTS: u32 = 5_000;
/// How long the broker holds the call of a server, so that few inputs are about nothing.
const WAIT: Duration = Duration::from_secs(3600);

/// An entry of the agenda.
enum Task {
    /// The process of an order runs and its server calls for the first time.
    Begin(AllocationId, ServerId),
    /// A server asks for a match.
    Ask(ServerId),
    /// The process of a server that was told to exit ends.
    Exit(ServerId),
    /// The broker is replaced by one that has replayed the log.
    Restart,
}

pub(super) struct Pool {
    rng: Rng,
    now: u64,
    broker: Broker,
    broken: Option<BrokenRule>,
    fleet: Fleet,
    settings: Settings,
    agenda: BTreeMap<(u64, u64), Task>,
    count: u64,
    log: Vec<Record<Event>>,
    calls: BTreeMap<CallId, ServerId>,
    processes: BTreeMap<ServerId, AllocationId>,
    /// Whether the pool has once been full.
    was_full: bool,
}

impl Pool {
    pub(super) fn new(seed: u64, broken: Option<BrokenRule>) -> Option<Self> {
        let mut rng = Rng::with_seed(seed);
        let warm = rng.u32(1..=MAX_WARM);
        let fleet = Fleet {
            id: FleetId::new("pool").ok()?,
            game: None,
            is_default: false,
            requirements: String::new(),
            max: warm + rng.u32(0..=MAX_ROOM),
            warm,
            ready_deadline: Duration::from_secs(rng.u64(10..90)),
            max_run_time: None,
            preference: 0,
        };
        let match_max_run_time = Duration::from_secs(rng.u64(60..3600));
        let settings = Settings { match_max_run_time, wait: WAIT, ..Settings::default() };
        // Twice as long as it takes to replace all servers one after another, in rounds that are a power of two.
        let least = (fleet.ready_deadline + LEAVE_TIME) * 2 * warm.next_power_of_two();
        let server_max_lifetime = settings.longest_match() + least + Duration::from_secs(rng.u64(1..4000));
        let settings = Settings { server_max_lifetime, ..settings };
        let mut broker = Broker::new();
        if let Some(rule) = broken {
            broker.break_rule(rule);
        }
        Some(Self {
            rng,
            now: 1_700_000_000_000,
            broker,
            broken,
            fleet,
            settings,
            agenda: BTreeMap::new(),
            count: 0,
            log: Vec::new(),
            calls: BTreeMap::new(),
            processes: BTreeMap::new(),
            was_full: false,
        })
    }

    /// Runs the pool.
    ///
    /// # Errors
    /// The invariant that did not hold, and the number of inputs before.
    pub(super) fn run(mut self) -> Result<(), (u64, String)> {
        let command =
            Command::Configure { settings: self.settings.clone(), fleets: vec![self.fleet.clone()] };
        let end = self.now + millis(self.settings.server_max_lifetime) * u64::from(LIFETIMES);
        for _ in 0..self.rng.u64(0..3) {
            let delay = self.rng.u64(0..end - self.now);
            self.plan(delay, Task::Restart);
        }
        self.input(command, None);
        for input in 0..MAX_INPUTS {
            self.check().map_err(|problem| (input.into(), problem))?;
            let due = self.broker.next_deadline().map(Timestamp::as_millis);
            let first = self.agenda.first_key_value().map(|((time, _), _)| *time);
            let Some(next) = due.into_iter().chain(first).min().filter(|next| *next <= end) else {
                return Ok(());
            };
            self.now = self.now.max(next);
            if due.is_some_and(|due| due <= self.now) {
                self.tick();
            } else if let Some((_, task)) = self.agenda.pop_first() {
                self.carry_out(task);
            }
        }
        Err((MAX_INPUTS.into(), "the run does not come to an end".into()))
    }

    fn plan(&mut self, delay: u64, task: Task) {
        self.count += 1;
        self.agenda.insert((self.now + delay, self.count), task);
    }

    fn moment(&mut self) -> Moment {
        let now = Timestamp::from_millis(self.now);
        Moment { now, entropy: [self.rng.u64(..), self.rng.u64(..)] }
    }

    fn carry_out(&mut self, task: Task) {
        match task {
            Task::Begin(allocation, server) => {
                self.processes.insert(server.clone(), allocation.clone());
                self.input(Command::AllocationStarted { allocation }, None);
                self.ask(server);
            }
            Task::Ask(server) => self.ask(server),
            Task::Exit(server) => {
                let Some(allocation) = self.processes.remove(&server) else { return };
                self.input(Command::ServerExited { allocation, status: "exit status 0".into() }, None);
            }
            Task::Restart => self.restart(),
        }
    }

    fn ask(&mut self, server: ServerId) {
        let hints = Hints::WILLING_TO_WAIT;
        let command = Command::RequestMatch {
            server: server.clone(),
            requirements: String::new(),
            hints,
            most: 1,
            wait: None,
        };
        self.input(command, Some(server));
    }

    fn restart(&mut self) {
        self.broker = Broker::new();
        for record in &self.log {
            self.broker.apply(record);
        }
        if let Some(rule) = self.broken {
            self.broker.break_rule(rule);
        }
        for server in std::mem::take(&mut self.calls).into_values() {
            let delay = self.rng.u64(1..2000);
            self.plan(delay, Task::Ask(server));
        }
    }

    fn tick(&mut self) {
        let at = self.moment();
        let mut step = Step::new();
        self.broker.tick(at, &mut step);
        self.commit(step);
    }

    fn input(&mut self, command: Command, caller: Option<ServerId>) {
        let at = self.moment();
        let mut step = Step::new();
        self.count += 1;
        let call = CallId(self.count);
        if let Some(server) = caller {
            self.calls.insert(call, server);
        }
        self.broker.handle(at, call, command, &mut step);
        self.commit(step);
    }

    fn commit(&mut self, step: Step<Broker>) {
        let effects: Vec<_> =
            step.records.iter().filter_map(|record| self.broker.effect(&record.event)).collect();
        self.log.extend(step.records);
        for effect in effects {
            self.begin(effect);
        }
        for (call, answer) in step.answers {
            let Some(server) = self.calls.remove(&call) else { continue };
            let told = matches!(answer, Ok(Reply::Requested { hints, .. }) if hints.has(Hints::SHUTDOWN));
            let delay = self.rng.u64(1..millis(LEAVE_TIME) / 2);
            self.plan(
                if told { delay } else { 1 },
                if told { Task::Exit(server) } else { Task::Ask(server) },
            );
        }
    }

    fn begin(&mut self, effect: Effect) {
        match effect {
            Effect::Start { allocation, server, .. } => {
                // All servers of the first pool are born at once.
                let longest = millis(self.fleet.ready_deadline);
                let delay = if self.was_full { self.rng.u64(1..longest) } else { 1000 };
                self.plan(delay, Task::Begin(allocation, server));
            }
            // Every server exits in time.
            Effect::Stop { .. } => {}
        }
    }

    /// The pool stays full; one server may be missing if the fleet may not have more of them.
    fn check(&mut self) -> Result<(), String> {
        let Some(view) = self.broker.fleets(None, 1).items.pop() else { return Ok(()) };
        let (idle, warm) = (view.idle, self.fleet.warm as usize);
        self.was_full |= idle >= warm;
        let least = if self.fleet.max > self.fleet.warm { warm } else { warm - 1 };
        if self.was_full && idle < least {
            return Err(format!(
                "3: a warm pool of {warm} servers, with at most {}, has {idle} of them",
                self.fleet.max
            ));
        }
        if view.live > self.fleet.max as usize {
            return Err(format!("3: a fleet runs {} servers, its maximum is {}", view.live, self.fleet.max));
        }
        Ok(())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

//! A matchmaker in virtual time, with a log. When it is dropped, replaying the log must give the same state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sortie_domain::connection::Connection;
use sortie_domain::ids::{HookId, MatchId, PlayerId, QueueId, RegionId, TicketId};
use sortie_domain::machine::{Answer, CallId, Machine, Moment, Record, Step};
use sortie_domain::matchmaking::model::{Formation, Party, Player, Status, Ticket, TicketSpec};
use sortie_domain::matchmaking::settings::{Hook, HookPoint, OnFailure, OutsideHook, Queue, Settings};
use sortie_domain::matchmaking::{Command, Effect, Event, Matchmaker, Refusal, Reply};
use sortie_domain::properties::Properties;
use sortie_domain::time::Timestamp;

const BEGIN: u64 = 1_700_000_000_000;
/// Maximum number of ticks in one advance of time, before the matchmaker counts as stuck.
const MAX_TICKS: usize = 100_000;

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn queue_id(id: &str) -> QueueId {
    QueueId::new(id).unwrap()
}

pub(crate) fn player_id(id: &str) -> PlayerId {
    PlayerId::new(id).unwrap()
}

pub(crate) fn ticket_id(id: &str) -> TicketId {
    TicketId::new(id).unwrap()
}

pub(crate) fn region(id: &str) -> RegionId {
    RegionId::new(id).unwrap()
}

pub(crate) fn hook_id(id: &str) -> HookId {
    HookId::new(id).unwrap()
}

/// A ticket of these players, in one party, for queue `q`.
pub(crate) fn spec(players: &[&str]) -> TicketSpec {
    TicketSpec {
        queue: queue_id("q"),
        parties: vec![Party {
            id: None,
            players: players.iter().map(|id| Player::new(player_id(id))).collect(),
        }],
        leader: None,
        properties: Properties::default(),
        latencies: BTreeMap::new(),
        idempotency_key: None,
        ttl: None,
        replaces: None,
    }
}

pub(crate) fn with_properties(json: &str, spec: TicketSpec) -> TicketSpec {
    TicketSpec { properties: Properties::parse(json).unwrap(), ..spec }
}

/// The same rating for every player.
pub(crate) fn rated(rating: f64, mut spec: TicketSpec) -> TicketSpec {
    for player in spec.parties.iter_mut().flat_map(|party| &mut party.players) {
        player.ratings.insert("mmr".into(), rating);
    }
    spec
}

pub(crate) fn far_from(latencies: &[(&str, u32)], spec: TicketSpec) -> TicketSpec {
    let latencies = latencies.iter().map(|(id, latency)| (region(id), *latency)).collect();
    TicketSpec { latencies, ..spec }
}

pub(crate) fn outside(id: &str, about: HookPoint, on_failure: OnFailure) -> Hook {
    Hook::Outside(OutsideHook {
        id: hook_id(id),
        about,
        timeout: secs(5),
        on_failure,
        interval: None,
        address: None,
    })
}

pub(crate) fn at(details: &str) -> Connection {
    Connection { details: details.into(), per_player: BTreeMap::new() }
}

pub(crate) struct Table {
    pub(crate) maker: Matchmaker,
    pub(crate) log: Vec<Record<Event>>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) now: u64,
    /// In bytes.
    pub(crate) largest_step: usize,
    inputs: u64,
}

impl Table {
    /// One queue, `q`.
    pub(crate) fn with(queue: Queue) -> Self {
        Self::configured(settings([("q", queue)]))
    }

    pub(crate) fn configured(settings: Settings) -> Self {
        let mut table = Self {
            maker: Matchmaker::new(),
            log: Vec::new(),
            effects: Vec::new(),
            now: BEGIN,
            largest_step: 0,
            inputs: 0,
        };
        table.done(Command::Configure { settings });
        table
    }

    fn moment(&mut self) -> Moment {
        self.inputs += 1;
        let entropy = [self.inputs.wrapping_mul(0x9e37_79b9_7f4a_7c15), !self.inputs];
        Moment { now: Timestamp::from_millis(self.now), entropy }
    }

    pub(crate) fn time(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    fn take(&mut self, step: Step<Matchmaker>) -> Option<Answer<Matchmaker>> {
        self.largest_step = self.largest_step.max(step.bytes());
        for record in step.records {
            assert_eq!(record.seq, self.log.len() as u64 + 1);
            self.effects.extend(self.maker.effect(&record.event));
            self.log.push(record);
        }
        assert!(step.answers.len() <= 1);
        step.answers.into_iter().next().map(|(_, answer)| answer)
    }

    /// Ticks at every deadline until then, like a host.
    pub(crate) fn advance(&mut self, duration: Duration) {
        let until = self.now + u64::try_from(duration.as_millis()).unwrap();
        for _ in 0..MAX_TICKS {
            let due = self.maker.next_deadline().map(Timestamp::as_millis).filter(|due| *due <= until);
            let Some(due) = due else {
                self.now = until;
                return;
            };
            self.now = self.now.max(due);
            let (at, mut step) = (self.moment(), Step::new());
            self.maker.tick(at, &mut step);
            self.take(step);
        }
        panic!("the matchmaker's next deadline stays at {:?}", self.maker.next_deadline());
    }

    /// One tick, if one is due.
    pub(crate) fn advance_once(&mut self) {
        if self.maker.next_deadline().is_some_and(|due| due.as_millis() <= self.now) {
            let (at, mut step) = (self.moment(), Step::new());
            self.maker.tick(at, &mut step);
            self.take(step);
        }
    }

    /// Longer than a tick.
    pub(crate) fn tick(&mut self) {
        self.advance(Duration::from_millis(150));
    }

    pub(crate) fn ask(&mut self, command: Command) -> Answer<Matchmaker> {
        let (at, mut step) = (self.moment(), Step::new());
        self.maker.handle(at, CallId(self.inputs), command, &mut step);
        self.take(step).expect("every call is answered at once")
    }

    pub(crate) fn ok(&mut self, command: Command) -> Reply {
        let asked = format!("{command:?}");
        self.ask(command).unwrap_or_else(|refusal| panic!("{asked}: {refusal}"))
    }

    pub(crate) fn done(&mut self, command: Command) {
        assert_eq!(self.ok(command), Reply::Done);
    }

    /// Sends a command that must be refused with `code`, without a trace.
    pub(crate) fn refused(&mut self, code: &str, command: Command) -> String {
        let (before, asked) = (self.log.len(), format!("{command:?}"));
        let refusal: Refusal = self.ask(command).expect_err(&asked);
        assert_eq!(refusal.code(), code, "{asked}: {refusal}");
        assert!(Refusal::CODES.contains(&refusal.code()));
        assert_eq!(self.log.len(), before, "{asked} was refused and left a trace");
        refusal.to_string()
    }

    /// The matchmaker is killed and restored from nothing but its snapshot.
    pub(crate) fn restart(&mut self) {
        self.maker = Matchmaker::restore(self.maker.snapshot());
    }

    pub(crate) fn start(&mut self, id: &str, spec: TicketSpec) -> TicketId {
        let id = ticket_id(id);
        let started = self.ok(Command::Start { id: Some(id.clone()), spec });
        assert_eq!(started, Reply::Started { ticket: id.clone() });
        id
    }

    /// A ticket of one player of the same name.
    pub(crate) fn solo(&mut self, id: &str) -> TicketId {
        self.start(id, spec(&[id]))
    }

    pub(crate) fn cancel(&mut self, id: &str) {
        self.ok(Command::Cancel { id: ticket_id(id) });
    }

    pub(crate) fn find(&self, id: &str) -> &Ticket {
        self.maker.ticket(&ticket_id(id)).unwrap_or_else(|| panic!("no ticket {id}"))
    }

    pub(crate) fn status(&self, id: &str) -> Status {
        self.find(id).status()
    }

    /// The matches that wait for a server, by team, each ticket by its id; in the order in which they were formed.
    pub(crate) fn formed(&self) -> Vec<Vec<Vec<String>>> {
        let formed = self.log.iter().filter_map(|record| match &record.event {
            Event::MatchFormed { teams, .. } => Some(
                teams
                    .iter()
                    .map(|team| team.iter().map(|named| named.ticket.to_string()).collect())
                    .collect(),
            ),
            _ => None,
        });
        formed.collect()
    }

    /// The matches as sets of tickets.
    pub(crate) fn together(&self) -> Vec<BTreeSet<String>> {
        self.formed().into_iter().map(|teams| teams.into_iter().flatten().collect()).collect()
    }

    /// The only match that is being made.
    pub(crate) fn formation(&self) -> Formation {
        let mut formations = self.maker.formations();
        let only = formations.next().expect("a match is being made").clone();
        assert_eq!(formations.next(), None);
        only
    }

    pub(crate) fn match_of(&self, id: &str) -> MatchId {
        self.find(id).match_id().unwrap_or_else(|| panic!("{id} is in no match")).clone()
    }

    pub(crate) fn no_server(&mut self, match_id: &MatchId) {
        self.done(Command::NoServer { match_id: match_id.clone(), reason: "all fleets are full".into() });
    }

    pub(crate) fn ready(&mut self, match_id: &MatchId) {
        let connection = at("203.0.113.7:7777");
        self.done(Command::MatchReady { match_id: match_id.clone(), connection });
    }

    /// What the players of a ticket heard, in order.
    pub(crate) fn heard(&self, id: &str) -> Vec<Status> {
        let mut heard = Vec::new();
        for record in &self.log {
            let mut players = Vec::new();
            let notices = record.event.notices(&mut players);
            heard.extend(
                notices.iter().filter(|notice| notice.ticket.as_str() == id).map(|notice| notice.status),
            );
        }
        heard
    }
}

pub(crate) fn settings<const N: usize>(queues: [(&str, Queue); N]) -> Settings {
    let queues = queues.into_iter().map(|(id, queue)| (queue_id(id), queue)).collect();
    Settings { queues, ..Settings::default() }
}

pub(crate) fn ids(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(ToString::to_string).collect()
}

impl Drop for Table {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut replayed = Matchmaker::new();
        self.log.iter().for_each(|record| replayed.apply(record));
        let state = self.maker.snapshot();
        assert!(replayed.snapshot() == state, "replaying the log gives another state");
        let restored = Matchmaker::restore(state.clone());
        assert!(restored.snapshot() == state, "a snapshot does not survive being restored");
        assert_eq!(replayed.next_deadline(), restored.next_deadline());
        let outstanding = |maker: &Matchmaker| format!("{:?}", maker.outstanding());
        assert_eq!(outstanding(&replayed), outstanding(&self.maker));
        assert_eq!(outstanding(&restored), outstanding(&self.maker));
        check_players(&self.maker);
    }
}

/// No player is in two tickets of one queue that are not over, nor in two matches, and every ticket in a match is in
/// that match.
pub(crate) fn check_players(maker: &Matchmaker) {
    let snapshot = maker.snapshot();
    let (mut players, mut playing) = (BTreeSet::new(), BTreeSet::new());
    for ticket in snapshot.tickets.values() {
        for player in ticket.spec.players() {
            let first = players.insert((player.id.clone(), ticket.queue.clone()));
            assert!(first, "{} is in two tickets of {}", player.id, ticket.queue);
            let first = !ticket.is_in_match() || playing.insert(player.id.clone());
            assert!(first, "{} is in two matches", player.id);
        }
    }
    let mut seated = BTreeSet::new();
    for formation in snapshot.formations.values() {
        for named in formation.tickets() {
            assert!(seated.insert(named.ticket.clone()), "{} is in two matches", named.ticket);
            let ticket = maker.ticket(&named.ticket).expect("tickets of a match are known");
            assert_eq!(ticket.match_id(), Some(&formation.id), "{ticket:?}");
        }
    }
}

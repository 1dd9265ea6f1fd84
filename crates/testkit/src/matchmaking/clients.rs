//! Clients: parties that want to play, players who accept or decline, administrators who change the queues.

use std::time::Duration;

use sortie_domain::ids::{HookId, IdempotencyKey, MatchId, PlayerId, QueueId, RegionId, TicketId};
use sortie_domain::matchmaking::model::{Party, Player, TicketSpec};
use sortie_domain::matchmaking::settings::{
    About, Backfill, ExpirationAction, Hook, HookPoint, Measure, Need, OnFailure, OutsideHook, Queue, Rule,
    RuleKind, WidenStep,
};
use sortie_domain::matchmaking::{Command, Event};
use sortie_domain::properties::Properties;

use super::world::{Caller, Task, World};

/// Number of players: few, so that they come twice.
const PLAYERS: u32 = 60;
/// Queues; there may be fewer at a time.
const QUEUES: [&str; 3] = ["a", "b", "c"];
/// Maximum number of queues in which a player may wait at once.
pub(super) const MAX_QUEUES: usize = 3;
/// Numbers of teams and players, and fewest players.
const SIZES: [(u32, u32, u32); 6] = [(2, 1, 1), (2, 1, 1), (2, 2, 1), (1, 3, 2), (2, 3, 2), (3, 1, 1)];

impl World {
    pub(super) fn client(&mut self) {
        if !self.busy {
            return;
        }
        match self.rng.u8(0..40) {
            0..23 => self.start(),
            // Many at once are matched, and expire, at once.
            23 => {
                self.burst();
                // So that there is much to form when something ends.
                if let Some(delay) = self.next_end() {
                    self.plan(delay, Task::Burst);
                }
            }
            24..27 => self.cancel(),
            27 => self.configure(),
            28 => self.start_again(),
            29..32 => {
                // Sometimes many at once, so that the suitable one is behind others in the queue.
                let most = if self.rng.u8(0..4) == 0 { 8 } else { 1 };
                for _ in 0..most {
                    self.count += 1;
                    if let Ok(id) = MatchId::new(&format!("running-{}", self.count)) {
                        self.offer(id, Vec::new());
                    }
                }
            }
            32 => {
                if let Some(id) = self.some_running() {
                    self.offer(id, Vec::new());
                }
            }
            33 => {
                if let Some(match_id) = self.some_running() {
                    self.input(Command::WithdrawSeats { match_id }, Caller::Other);
                }
            }
            34 => self.garbage(),
            35..38 => self.renew(),
            38 => (0..self.rng.usize(1..4)).for_each(|_| self.replace()),
            _ => {}
        }
        let delay = self.rng.u64(0..1000);
        self.plan(delay, Task::Client);
    }

    pub(super) fn burst(&mut self) {
        (0..self.rng.usize(1..40)).for_each(|_| self.start());
    }

    fn start(&mut self) {
        let Some(spec) = self.spec() else { return };
        self.count += 1;
        let id = TicketId::new(&format!("t-{}", self.count)).ok().filter(|_| self.rng.bool());
        self.input(Command::Start { id, spec: spec.clone() }, Caller::Starter(spec));
    }

    /// A player leaves or joins a party; sometimes it is another party, or one that cannot be replaced.
    fn replace(&mut self) {
        let tickets = self.maker.tickets(0, 100).items;
        let Some(old) = self.rng.choice(&tickets).cloned() else { return };
        let Some(mut spec) = self.spec() else { return };
        let mut players: Vec<Player> = old.spec.players().cloned().collect();
        match self.rng.u8(0..4) {
            0 => players.clear(),
            1 if players.len() > 1 => players.truncate(players.len() - 1),
            1 | 2 if players.len() < 3 => {}
            _ => spec.parties.clear(),
        }
        players.extend(spec.players().take(1).cloned());
        spec.leader = players.first().map(|player| player.id.clone());
        spec.parties = vec![Party { id: None, players }];
        spec.queue = old.spec.queue.clone();
        spec.replaces = Some(old.id);
        self.count += 1;
        let id = TicketId::new(&format!("r-{}", self.count)).ok().filter(|_| self.rng.bool());
        self.input(Command::Start { id, spec: spec.clone() }, Caller::Starter(spec));
    }

    /// A client that got no answer retries.
    fn start_again(&mut self) {
        let late = self.specs.len().saturating_sub(5);
        let known: Vec<_> = self.specs.get(late..).unwrap_or_default().to_vec();
        if let Some((id, spec)) = self.rng.choice(&known).cloned() {
            self.input(Command::Start { id, spec: spec.clone() }, Caller::Starter(spec));
        }
    }

    fn cancel(&mut self) {
        let tickets: Vec<TicketId> =
            self.maker.tickets(0, 100).items.into_iter().map(|ticket| ticket.id).collect();
        if let Some(id) = self.rng.choice(&tickets).cloned() {
            self.input(Command::Cancel { id: id.clone() }, Caller::Canceller(id));
        }
    }

    /// Some clients are still there.
    fn renew(&mut self) {
        let tickets = self.maker.tickets(0, 100).items.into_iter();
        let renewed: Vec<TicketId> =
            tickets.filter(|ticket| ticket.spec.ttl.is_some()).map(|ticket| ticket.id).collect();
        for id in renewed {
            if self.rng.u8(0..3) > 0 {
                self.input(Command::Renew { id }, Caller::Other);
            }
        }
    }

    /// Most players accept; some decline, some say nothing.
    pub(super) fn consider(&mut self, match_id: MatchId, player: PlayerId) {
        match self.rng.u8(0..20) {
            0 => self.input(Command::Decline { match_id, player }, Caller::Other),
            1 => {}
            _ => self.input(Command::Accept { match_id, player }, Caller::Other),
        }
    }

    fn garbage(&mut self) {
        let (Ok(match_id), Ok(player), Ok(id)) =
            (MatchId::new("nothing"), PlayerId::new("nobody"), TicketId::new("never"))
        else {
            return;
        };
        let command = match self.rng.u8(0..4) {
            0 => Command::Cancel { id },
            1 => Command::Accept { match_id, player },
            2 => Command::NoServer { match_id, reason: "what".into() },
            _ => Command::MatchEnded { match_id, reason: "what".into() },
        };
        self.input(command, Caller::Other);
    }

    fn spec(&mut self) -> Option<TicketSpec> {
        let mut players = Vec::new();
        let rating = f64::from(self.rng.u32(0..10)) * 30.0;
        for _ in 0..*self.rng.choice(&[1, 1, 1, 2, 2, 3])? {
            let mut player = Player::new(PlayerId::new(&format!("p{}", self.rng.u32(0..PLAYERS))).ok()?);
            player.ratings.insert("mmr".into(), rating);
            if self.rng.u8(0..10) == 0 {
                player.blocked.extend(PlayerId::new(&format!("p{}", self.rng.u32(0..PLAYERS))));
            }
            players.push(player);
        }
        let latency = |rng: &mut fastrand::Rng| *rng.choice(&[20_u32, 60, 120]).unwrap_or(&20);
        let regions = ["eu", "us"].into_iter().filter_map(|id| RegionId::new(id).ok());
        let latencies = regions.map(|region| (region, latency(&mut self.rng))).collect();
        let properties = *self.rng.choice(&[r#"{"map":"forest"}"#, r#"{"map":"desert"}"#, ""])?;
        self.count += 1;
        let key = IdempotencyKey::new(&format!("key-{}", self.count)).ok().filter(|_| self.rng.bool());
        Some(TicketSpec {
            queue: QueueId::new(self.rng.choice(&QUEUES)?).ok()?,
            leader: players.first().map(|player| player.id.clone()),
            parties: vec![Party { id: None, players }],
            properties: Properties::parse(properties).unwrap_or_default(),
            latencies,
            idempotency_key: key,
            ttl: (self.rng.u8(0..4) == 0).then(|| Duration::from_secs(self.rng.u64(1..15))),
            replaces: None,
        })
    }

    /// The first settings, or other ones: a queue changes, goes, or comes back, in the operator's file or at run time.
    pub(super) fn configure(&mut self) {
        let first = self.settings.queues.is_empty();
        let changed: Vec<&str> =
            if first { QUEUES.to_vec() } else { self.rng.choice(&QUEUES).copied().into_iter().collect() };
        for name in changed {
            let Ok(id) = QueueId::new(name) else { continue };
            if !first && self.rng.u8(0..4) == 0 {
                self.settings.queues.remove(&id);
            } else {
                let queue = self.queue();
                self.settings.queues.insert(id, queue);
            }
        }
        self.settings.status_expiration = Duration::from_secs(3_600);
        self.settings.queues_per_player = self.rng.u32(1..=MAX_QUEUES as u32);
        let settings = self.settings.clone();
        if !first && self.rng.u8(0..3) > 0 {
            return self.input(Command::Reconfigure { settings }, Caller::Other);
        }
        self.file = settings;
        // An edited file is read at once, or at the next start.
        if first || self.rng.bool() {
            self.read_file();
        } else {
            self.settings = self.maker.settings().clone();
        }
    }

    /// Applies the operator's file; changes made at run time stay if the file is unchanged.
    pub(super) fn read_file(&mut self) {
        let records = self.log.iter().chain(&self.step.records).rev();
        let written = records.clone().find_map(|record| match &record.event {
            Event::Configured { settings } => Some(settings),
            _ => None,
        });
        let is_known = written.is_some_and(|written| **written == self.file);
        let expected = if is_known { self.maker.settings().clone() } else { self.file.clone() };
        self.input(Command::Configure { settings: self.file.clone() }, Caller::Other);
        if *self.maker.settings() != expected {
            self.fail("6: the settings are neither the newest file nor what was changed since".into());
        }
        self.settings = expected;
    }

    fn queue(&mut self) -> Queue {
        let (teams, players_per_team, min_players_per_team) = *self.rng.choice(&SIZES).unwrap_or(&(2, 1, 1));
        let actions = [ExpirationAction::Drop, ExpirationAction::Minimum];
        let backfills = [Backfill::Off, Backfill::First, Backfill::Last];
        Queue {
            teams,
            players_per_team,
            min_players_per_team,
            ticket_expiration: Duration::from_secs(self.rng.u64(20..60)),
            expiration_action: self.rng.choice(&actions).copied().unwrap_or_default(),
            accept: (self.rng.u8(0..3) == 0).then(|| Duration::from_secs(4)),
            backfill: self.rng.choice(&backfills).copied().unwrap_or_default(),
            seat_timeout: Duration::from_secs(5),
            max_requeues: self.rng.u32(0..3),
            properties: Properties::default(),
            hooks: self.hooks(),
            rules: self.rules(),
        }
    }

    fn hooks(&mut self) -> Vec<Hook> {
        let mut hooks = Vec::new();
        let points = [
            ("v", HookPoint::ValidateTicket, 4),
            ("w", HookPoint::ValidateTicket, 6),
            ("f", HookPoint::FormMatch, 6),
            ("n", HookPoint::NewMatch, 4),
        ];
        for (name, about, one_in) in points {
            let on_failure = if self.rng.bool() { OnFailure::Accept } else { OnFailure::Refuse };
            let Ok(id) = HookId::new(name) else { continue };
            if self.rng.u8(0..one_in) == 0 {
                let timeout = Duration::from_secs(3);
                hooks.push(Hook::Outside(OutsideHook {
                    id,
                    about,
                    timeout,
                    on_failure,
                    interval: None,
                    address: None,
                }));
            }
        }
        hooks.extend([Hook::TeamData, Hook::PartyMembership].into_iter().filter(|_| self.rng.bool()));
        hooks
    }

    fn rules(&mut self) -> Vec<Rule> {
        let (after, about) = (Duration::from_secs, About::Pair);
        let step = |seconds, value| WidenStep { after: after(seconds), value };
        let property = || "mmr".into();
        let skill =
            RuleKind::Distance { property: property(), measure: Measure::Average, most: 30.0, missing: 0.0 };
        let balance = RuleKind::Balance { property: property(), most: 60.0, missing: 0.0 };
        let pair =
            |expression: &str, need| RuleKind::Expression { expression: expression.into(), about, need };
        let alike = "ticket.size == candidate.size || ticket.properties.map == candidate.properties.map";
        let favourite = "candidate.properties.map == 'forest'";
        let all = [
            Rule {
                relax_after: Some(after(15)),
                ..Rule::new("map", RuleKind::Equal { property: "map".into() })
            },
            Rule { widen: vec![step(4, 60.0), step(9, 150.0)], ..Rule::new("skill", skill) },
            Rule { widen: vec![step(7, 130.0)], ..Rule::new("ping", RuleKind::Latency { most: 70.0 }) },
            Rule { relax_after: Some(after(12)), ..Rule::new("blocks", RuleKind::NotBlocked) },
            Rule { relax_after: Some(after(10)), ..Rule::new("fair", balance) },
            Rule { relax_after: Some(after(11)), ..Rule::new("alike", pair(alike, Need::Required)) },
            Rule { relax_after: Some(after(13)), ..Rule::new("taste", pair(favourite, Need::Preferred)) },
        ];
        if self.rng.u8(0..3) == 0 {
            // With a single rule, more tickets meet the others.
            return self.rng.choice(all).into_iter().collect();
        }
        // Rules that compare every two tickets are rarer, because they make the others matter less.
        let wanted = |rule: &Rule| matches!(rule.kind, RuleKind::Expression { .. });
        all.into_iter().filter(|rule| self.rng.u8(0..if wanted(rule) { 4 } else { 2 }) == 0).collect()
    }
}

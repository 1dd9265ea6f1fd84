//! The matchmaker's environment: hooks, the broker, and running matches with their seats. All of them are slow, fail,
//! do things twice, and lose answers.

use std::collections::{BTreeMap, BTreeSet};

use sortie_domain::connection::Connection;
use sortie_domain::ids::{MatchId, PlayerId, QueueId, TicketId};
use sortie_domain::matchmaking::model::{Named, SeatOffer, TicketSpec};
use sortie_domain::matchmaking::{Command, Effect, FormedMatch, MatchVerdict, TicketVerdict};
use sortie_domain::properties::Properties;

use super::world::{Caller, Task, World};

/// What became of a match at the broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Ready,
    NoServer,
    Ended,
}

/// A match that waits for a server, or did.
struct OutsideMatch {
    players: Vec<PlayerId>,
    fate: Option<Fate>,
    told: bool,
    withdrawn: bool,
}

#[derive(Default)]
pub(super) struct Outside {
    games: BTreeMap<MatchId, OutsideMatch>,
    /// Running matches, with their real number of free seats.
    running: BTreeMap<MatchId, usize>,
    /// Tickets that have seats.
    seated: BTreeSet<(MatchId, TicketId)>,
}

impl Outside {
    /// The matchmaker knows what became of a match.
    pub(super) fn told(&mut self, id: &MatchId) {
        if let Some(game) = self.games.get_mut(id) {
            game.told = true;
        }
    }

    /// Whoever finds servers compares what it knows with the matches that the matchmaker still looks for servers for, and says
    /// again what became of these.
    pub(super) fn compare(&mut self, looks: impl Fn(&MatchId) -> bool) -> Vec<MatchId> {
        let missed = self.games.iter_mut().filter(|(id, game)| game.told && looks(id));
        missed
            .map(|(id, game)| {
                game.told = false;
                id.clone()
            })
            .collect()
    }

    /// A match that still waits for a server although the matchmaker will hear nothing about it.
    pub(super) fn first_unwanted(&self, wanted: impl Fn(&MatchId) -> bool) -> Option<&MatchId> {
        let mut left = self.games.iter().filter(|(_, game)| !game.withdrawn);
        let unwanted =
            left.find(|(id, game)| game.fate.is_none_or(|fate| fate == Fate::Ready) && !wanted(id));
        unwanted.map(|(id, _)| id)
    }

    fn seat(&mut self, match_id: &MatchId, named: &Named) -> bool {
        let key = (match_id.clone(), named.ticket.clone());
        if self.seated.contains(&key) {
            return true;
        }
        let needs = named.players.len();
        let Some(free) = self.running.get_mut(match_id).filter(|free| **free >= needs) else { return false };
        *free -= needs;
        self.seated.insert(key)
    }
}

impl World {
    /// Performs an effect; the host retries it until it has an outcome.
    pub(super) fn perform(&mut self, number: u64) {
        let Some(effect) = self.effects.get(&number).cloned() else { return };
        if self.rng.u8(0..10) == 0 {
            let delay = self.rng.u64(100..5000);
            return self.plan(delay, Task::Perform(number));
        }
        let silent = self.rng.u8(0..8) == 0;
        let Some(outcome) = self.outcome(effect, silent) else {
            self.effects.remove(&number);
            return;
        };
        match self.rng.u8(0..12) {
            // Done, but the outcome is lost: it is done again.
            0 => {
                let delay = self.rng.u64(100..5000);
                self.plan(delay, Task::Perform(number));
            }
            1 => {
                self.input(outcome.clone(), Caller::Outcome(number));
                self.input(outcome, Caller::Other);
            }
            _ => self.input(outcome, Caller::Outcome(number)),
        }
    }

    /// The outcome of an effect; the matchmaker itself gives up on silent hooks.
    fn outcome(&mut self, effect: Effect, silent: bool) -> Option<Command> {
        Some(match effect {
            Effect::ValidateTicket { .. } | Effect::FormMatches { .. } | Effect::CheckMatch { .. }
                if silent =>
            {
                return None;
            }
            Effect::ValidateTicket { hook, ticket, .. } => {
                let outcome = self.ticket_verdict();
                Command::TicketValidated { ticket, hook, outcome }
            }
            Effect::FormMatches { queue, round, .. } => {
                let tickets = self.maker.asked_about(&queue, round)?;
                let formed = (self.rng.u8(0..5) > 0).then(|| self.form(&queue, &tickets));
                let malformed = || Err("no match".to_owned());
                let matches = formed.map(|formed| {
                    let mut all: Vec<Result<FormedMatch, String>> = formed.into_iter().map(Ok).collect();
                    if self.rng.bool() {
                        all.insert(0, malformed());
                    }
                    all
                });
                Command::MatchesFormed { queue, round, matches }
            }
            Effect::CheckMatch { hook, match_id, .. } => {
                let outcome = self.match_verdict();
                Command::MatchChecked { match_id, hook, outcome }
            }
            Effect::Submit { match_id, spec } => {
                self.take_match(&match_id, spec.players.clone());
                Command::Submitted { match_id }
            }
            Effect::Withdraw { match_id } => {
                let game = self.outside.games.entry(match_id.clone());
                let nobody = OutsideMatch { players: Vec::new(), fate: None, told: true, withdrawn: true };
                game.or_insert(nobody).withdrawn = true;
                Command::Withdrawn { match_id }
            }
            Effect::Seat { match_id, ticket } if self.outside.seat(&match_id, &ticket) => {
                let connection = Connection::default();
                Command::Seated { ticket: ticket.ticket, match_id, connection }
            }
            Effect::Seat { match_id, ticket } => Command::NotSeated { ticket: ticket.ticket, match_id },
        })
    }

    fn ticket_verdict(&mut self) -> TicketVerdict {
        match self.rng.u8(0..8) {
            0 => TicketVerdict::Refuse { reason: "not today".into() },
            1 => TicketVerdict::Failed,
            2 => TicketVerdict::Accept {
                queue: QueueId::new("a").ok(),
                properties: None,
                ratings: BTreeMap::new(),
            },
            3 => TicketVerdict::Accept {
                queue: None,
                properties: Properties::parse(r#"{"map":"forest"}"#).ok(),
                ratings: BTreeMap::new(),
            },
            4 => TicketVerdict::Accept {
                queue: None,
                properties: None,
                ratings: PlayerId::new("p1")
                    .into_iter()
                    .map(|id| (id, [("mmr".into(), 90.0)].into()))
                    .collect(),
            },
            _ => TicketVerdict::ACCEPT,
        }
    }

    fn match_verdict(&mut self) -> MatchVerdict {
        match self.rng.u8(0..6) {
            0 => MatchVerdict::Refuse { reason: "not these".into() },
            1 => MatchVerdict::Failed,
            _ => MatchVerdict::Accept { properties: None, player_properties: BTreeMap::new() },
        }
    }

    /// Matches as a hook forms them; some are malformed on purpose.
    fn form(
        &mut self,
        queue: &QueueId,
        tickets: &[(TicketId, std::sync::Arc<TicketSpec>)],
    ) -> Vec<FormedMatch> {
        let Some(settings) = self.settings.queues.get(queue) else { return Vec::new() };
        let (teams, size) = (settings.teams.max(1) as usize, settings.players_per_team as usize);
        let alone = tickets.iter().filter(|(_, spec)| spec.size() == size).map(|(id, _)| id.clone());
        let alone: Vec<TicketId> = alone.collect();
        let chunks = alone.chunks(teams).map(|chunk| FormedMatch {
            teams: chunk.iter().map(|id| vec![id.clone()]).collect(),
            region: None,
        });
        let mut formed: Vec<FormedMatch> = chunks.collect();
        if self.rng.bool() {
            formed.extend(formed.first().cloned());
        }
        formed
    }

    fn take_match(&mut self, id: &MatchId, players: Vec<PlayerId>) {
        if self.outside.games.contains_key(id) {
            return;
        }
        self.outside
            .games
            .insert(id.clone(), OutsideMatch { players, fate: None, told: false, withdrawn: false });
        let delay = self.rng.u64(1..20_000);
        self.plan(delay, Task::News(id.clone()));
    }

    /// Once decided, the outcome of a match is reported until the matchmaker has it.
    pub(super) fn tell_news(&mut self, id: &MatchId) {
        let fate = match self.rng.u8(0..10) {
            0..2 => Fate::NoServer,
            2 => Fate::Ended,
            _ => Fate::Ready,
        };
        let Some(game) = self.outside.games.get_mut(id).filter(|game| !game.told && !game.withdrawn) else {
            return;
        };
        let (fate, players) = (*game.fate.get_or_insert(fate), game.players.clone());
        let (match_id, reason) = (id.clone(), "no machines left".to_owned());
        let command = match fate {
            Fate::Ready => Command::MatchReady { match_id, connection: Connection::default() },
            Fate::NoServer => Command::NoServer { match_id, reason },
            Fate::Ended => Command::MatchEnded { match_id, reason },
        };
        self.input(command, Caller::News(id.clone()));
        if fate == Fate::Ready && self.busy && self.rng.bool() {
            self.offer(id.clone(), players);
        }
    }

    /// A running match has free seats, or claims to.
    pub(super) fn offer(&mut self, match_id: MatchId, players: Vec<PlayerId>) {
        let queues: Vec<QueueId> = self.settings.queues.keys().cloned().collect();
        let Some(queue) = self.rng.choice(&queues).cloned() else { return };
        let seats = self.rng.u32(1..5);
        let real = if self.rng.u8(0..5) == 0 { 0 } else { seats as usize };
        self.outside.running.insert(match_id.clone(), real);
        let properties = Properties::parse(r#"{"map":"forest"}"#).unwrap_or_default();
        let ratings = BTreeMap::from([("mmr".into(), 100.0)]);
        let offer = SeatOffer { match_id, queue, seats, region: None, properties, ratings, players };
        self.input(Command::OfferSeats { offer }, Caller::Other);
    }

    pub(super) fn some_running(&mut self) -> Option<MatchId> {
        let running: Vec<MatchId> = self.outside.running.keys().cloned().collect();
        self.rng.choice(&running).cloned()
    }
}

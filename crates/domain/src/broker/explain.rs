//! Why a match still waits, or why it failed: as data. [`words`](super::words) turns it into text.
//!
//! It runs on the machine's thread, so it reads a bounded part of the state, however many matches wait and servers are
//! free, and counts what it left out. Nothing here changes anything or reads a clock: a backoff is over when the
//! machine has acted on its end.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;

use jmespath::ast::Ast;

use super::Broker;
use super::conjuncts::parts;
use super::fleets::Unnamed;
use super::idle::Idle;
use super::indexes::is_idle;
use super::match_lifecycle::MAX_PICKUPS;
use super::model::{
    AllocationState, CancelCause, EndCause, FailReason, Fleet, GoneCause, Match, MatchState, SeatState,
    ServerState,
};
use crate::ids::{FleetId, MatchId, ServerId};
use crate::requirements::{self, Document, Verdict};
use crate::time::Timestamp;
use crate::waits::TypicalWait;

/// Maximum number of fleets in one explanation.
pub const MAX_FLEETS: usize = 100;
/// Maximum number of groups of waiting servers, and of other free servers, that one explanation checks.
pub const MAX_SERVERS_LOOKED_AT: usize = 1_000;
/// Maximum number of groups of servers in one explanation: the largest ones.
pub const MAX_GROUPS: usize = 20;
/// Maximum number of servers named for one group.
pub const MAX_SERVERS_NAMED: usize = 5;
/// Maximum number of parts of a requirement that are checked separately; one with more is checked as a whole.
const MAX_PARTS: usize = 16;
/// Shown as found if the evaluation of a requirement was stopped, or was not started.
const TOO_COSTLY: &str = "too much to evaluate the expression on it";
/// Maximum length of a requirement or value that is shown, in characters.
const MAX_SHOWN: usize = 200;

/// The state of a match, as its players hear it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It waits for a server.
    Queued {
        /// Number of older matches in the queue; `None` if that is not known.
        ahead: Option<usize>,
        /// Whether a server had it before.
        returned: bool,
        /// Why the last server gave it back.
        lost: Option<FailReason>,
        /// Where its server will come from; `None` if nothing is in progress.
        prospect: Option<Prospect>,
    },
    /// A server has it.
    PickedUp,
    /// Players can connect.
    Ready,
    /// Ended normally.
    Ended(EndCause),
    /// Failed.
    Failed(FailReason),
    /// Cancelled.
    Cancelled(CancelCause),
}

impl From<&MatchState> for Standing {
    fn from(state: &MatchState) -> Self {
        match state {
            MatchState::Queued => Self::Queued { ahead: None, returned: false, lost: None, prospect: None },
            MatchState::PickedUp { .. } => Self::PickedUp,
            MatchState::Ready { .. } => Self::Ready,
            MatchState::Ended { cause, .. } => Self::Ended(*cause),
            MatchState::Failed { reason, .. } => Self::Failed(*reason),
            MatchState::Cancelled { cause, .. } => Self::Cancelled(*cause),
        }
    }
}

/// Where the server of a queued match will come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prospect {
    /// One is ordered for it; its platform has not answered.
    Ordered,
    /// One is ordered for it and runs, but has not called yet.
    Started,
    /// A free one is expected to take it.
    Free,
    /// Every fleet that could start one runs its maximum.
    Full,
    /// A fleet that could start one has just failed and backs off.
    BackingOff,
    /// None of the fleets takes such a match.
    NoFleet,
}

/// Everything that is known about the reasons for a match's state.
#[derive(Clone, PartialEq, Debug)]
pub struct Explanation {
    /// The match.
    pub match_id: MatchId,
    /// The summary.
    pub standing: Standing,
    /// Name of its state, and of the reason if it is over.
    pub state: (&'static str, Option<&'static str>),
    /// When it was queued first.
    pub queued_at: Timestamp,
    /// Since when it is in its state.
    pub since: Timestamp,
    /// How often a server has taken it.
    pub pickups: u32,
    /// Maximum number of pickups before it fails.
    pub max_pickups: u32,
    /// Why the last server gave it back.
    pub lost: Option<FailReason>,
    /// The one fleet whose servers may take it; `None` for any.
    pub bound_to: Option<FleetId>,
    /// Where it goes if it names no game, is not bound to a fleet, and some fleets name games.
    pub unnamed: Option<Unnamed>,
    /// The server that has it, or had it last.
    pub server: Option<Holder>,
    /// The server that is ordered for it.
    pub order: Option<Order>,
    /// The free server that is expected to take it.
    pub expected: Option<ServerId>,
    /// Servers without a match or asking for one; `None` if the match does not lack a server.
    pub servers: Option<FreeServers>,
    /// Fleets in the order in which they are tried.
    pub fleets: Vec<FleetAccount>,
    /// Number of fleets that were left out.
    pub fleets_unlisted: usize,
    /// Pending timers, soonest first.
    pub timers: Vec<Timer>,
    /// Recent waits, as seen by this process; `None` if there were none yet.
    pub typical_wait: Option<TypicalWait>,
}

/// What became of the servers that had a match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Losses {
    /// How often a server has taken it.
    pub pickups: u32,
    /// Maximum number of pickups before it fails.
    pub max_pickups: u32,
    /// Why the last of them did not play it; `None` if it never got it.
    pub reason: Option<FailReason>,
}

/// The server that has a match, or had it last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// The server.
    pub server: ServerId,
    /// Its fleet, while it is known.
    pub fleet: Option<FleetId>,
    /// Why it is gone; `None` while it exists, or after the reason was forgotten.
    pub gone: Option<GoneCause>,
}

/// A server that is ordered for a match.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// The id that it will send.
    pub server: ServerId,
    /// Its fleet.
    pub fleet: FleetId,
    /// How far it has come.
    pub state: AllocationState,
    /// When it was ordered.
    pub ordered_at: Timestamp,
}

/// Servers without a match or asking for one, compared with one match.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FreeServers {
    /// The largest groups, largest first, at most [`MAX_GROUPS`].
    pub groups: Vec<ServerGroup>,
    /// Approximate number of further servers.
    pub unlisted: usize,
    /// Number of free servers of fleets that may not take the match.
    pub of_other_fleets: usize,
}

/// Servers of one fleet that ask for the same requirements.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerGroup {
    /// Their fleet; `None` for those that registered themselves.
    pub fleet: Option<FleetId>,
    /// Their requirements, truncated to a readable length; `None` for servers that have not called since a restart.
    pub requirements: Option<String>,
    /// Number of servers.
    pub count: usize,
    /// Some of them, at most [`MAX_SERVERS_NAMED`].
    pub servers: Vec<ServerId>,
    /// The parts of their requirements that the match does not meet; empty if it fits or that is not known.
    pub unmet: Vec<Unmet>,
}

/// A part of a requirement that a match does not meet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unmet {
    /// The part, truncated to a readable length.
    pub requirement: String,
    /// The match's value as JSON, truncated likewise; `None` if it is not meaningful.
    pub found: Option<String>,
}

/// A fleet, compared with one match.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FleetAccount {
    /// The fleet.
    pub fleet: FleetId,
    /// What it can do for the match.
    pub state: FleetState,
    /// Which parts of its requirements the match does not meet.
    pub unmet: Vec<Unmet>,
    /// Servers that it runs or starts.
    pub live: usize,
    /// Maximum number of servers at a time.
    pub max: u32,
    /// Its servers without a match.
    pub idle: usize,
    /// Its servers that have not called yet.
    pub pending: usize,
    /// When the oldest of those was ordered.
    pub starting_since: Option<Timestamp>,
    /// Starts that failed since the last server that worked.
    pub failures: u32,
    /// The platform's last error.
    pub last_error: Option<Arc<str>>,
    /// When it is asked again.
    pub backoff_until: Option<Timestamp>,
}

/// What a fleet can do for a match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FleetState {
    /// Its requirements refuse the match.
    FilteredOut,
    /// It starts a server for the match.
    Starting,
    /// It failed and backs off.
    BackingOff,
    /// It runs its maximum of servers.
    Full,
    /// It can start a server.
    Room,
}

impl FleetState {
    /// The name, as it leaves the system.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FilteredOut => "filtered_out",
            Self::Starting => "starting",
            Self::BackingOff => "backing_off",
            Self::Full => "full",
            Self::Room => "room",
        }
    }
}

/// A pending timer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timer {
    /// What it ends or starts.
    pub kind: TimerKind,
    /// When.
    pub at: Timestamp,
}

/// What a timer ends or starts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TimerKind {
    /// The match has waited too long for a server.
    Pickup,
    /// The match was prepared for too long.
    Ready,
    /// The match ran for too long.
    Run,
    /// The match's server is too old.
    Lifetime,
    /// The first unclaimed seat is free again.
    Seat,
    /// The schedule orders a server for the match.
    Schedule,
    /// The server ordered from this fleet for the match is given up.
    ReadyDeadline(FleetId),
    /// A fleet that failed is asked again.
    Backoff(FleetId),
}

impl Broker {
    /// The state of a match, live or recently over. Cheap enough to be called every few seconds for every match.
    #[must_use]
    pub fn standing(&self, id: &MatchId) -> Option<Standing> {
        self.requirements.begin_step();
        let game = self.find_match(id)?;
        let mut standing = Standing::from(&game.state);
        if let Standing::Queued { ahead, returned, lost, prospect } = &mut standing {
            *ahead = self.place_in_queue(id);
            *returned = game.pickups > 0;
            *lost = game.lost;
            *prospect = self.prospect(game);
        }
        Some(standing)
    }

    fn prospect(&self, game: &Match) -> Option<Prospect> {
        if let Some(order) = self.allocation_for(&game.id) {
            let ordered = order.state == AllocationState::Ordered;
            return Some(if ordered { Prospect::Ordered } else { Prospect::Started });
        }
        if self.expected_for(&game.id).is_some() {
            return Some(Prospect::Free);
        }
        if self.state.fleets.is_empty() {
            // Only servers that register themselves can come.
            return None;
        }
        let document = Document::new(&game.id, &game.spec);
        let states =
            self.open_fleets(game).take(MAX_FLEETS).map(|fleet| self.fleet_state(fleet, game, &document));
        let states: Vec<FleetState> = states.filter(|state| *state != FleetState::FilteredOut).collect();
        if states.contains(&FleetState::Room) {
            return None;
        }
        Some(if states.is_empty() {
            Prospect::NoFleet
        } else if states.contains(&FleetState::BackingOff) {
            Prospect::BackingOff
        } else {
            Prospect::Full
        })
    }

    /// The free server that is expected to take the match at its next call.
    fn expected_for(&self, id: &MatchId) -> Option<&ServerId> {
        let server = self.beside.expected.server_for(id)?;
        self.state.servers.get(server).is_some_and(is_idle).then_some(server)
    }

    /// The fleets that the match's own binding allows, in the order in which they are tried.
    fn open_fleets<'a>(&'a self, game: &'a Match) -> impl Iterator<Item = &'a Fleet> {
        let bound = game.spec.fleet.as_ref();
        let bound_or_all = bound.map_or(&self.state.preferred[..], core::slice::from_ref);
        bound_or_all.iter().filter_map(|id| self.state.fleets.get(id))
    }

    fn fleet_state(&self, fleet: &Fleet, game: &Match, document: &Document<'_>) -> FleetState {
        // Already known if servers were ordered for the match.
        let place = (game.state == MatchState::Queued).then_some(game.queued_seq);
        if self.may_take(&fleet.id, &game.spec, document, place) != Some(true) {
            return FleetState::FilteredOut;
        }
        if self.allocation_for(&game.id).is_some_and(|order| order.fleet == fleet.id) {
            return FleetState::Starting;
        }
        let live = self.state.index.live.get(&fleet.id).map_or(0, BTreeSet::len);
        if live >= fleet.max as usize {
            FleetState::Full
        } else if self.backoff_until(&fleet.id).is_some() {
            FleetState::BackingOff
        } else {
            FleetState::Room
        }
    }

    /// An explanation may take as much work as a step; expressions beyond that are not evaluated, and count as not
    /// fitting.
    fn verdict(&self, text: &str, document: &Document<'_>) -> Verdict {
        if self.requirements.is_spent() {
            return Verdict::TooCostly;
        }
        self.requirements.verdict_of_text(text, document)
    }

    fn backoff_until(&self, fleet: &FleetId) -> Option<Timestamp> {
        let until = self.state.health.get(fleet)?.backoff_until;
        (until > self.beside.ticked_at).then_some(until)
    }

    /// Explains the state of a match, live or recently over.
    #[must_use]
    pub fn explain(&self, id: &MatchId) -> Option<Explanation> {
        let (game, standing) = (self.find_match(id)?, self.standing(id)?);
        let since = match &game.state {
            MatchState::Queued => game.queued_at,
            MatchState::PickedUp { at }
            | MatchState::Ready { at, .. }
            | MatchState::Ended { at, .. }
            | MatchState::Failed { at, .. }
            | MatchState::Cancelled { at, .. } => *at,
        };
        // For a match without its properties it is unknown what would have fitted.
        let wants_fleet = !game.stripped && matches!(standing, Standing::Queued { .. } | Standing::Failed(_));
        let wants_server = wants_fleet
            && matches!(standing, Standing::Queued { .. } | Standing::Failed(FailReason::PickupTimeout));
        let document = Document::new(&game.id, &game.spec);
        let fleets = self.open_fleets(game).take(if wants_fleet { MAX_FLEETS } else { 0 });
        let fleets: Vec<FleetAccount> =
            fleets.map(|fleet| self.fleet_account(fleet, game, &document)).collect();
        let all_fleets = if wants_fleet { self.open_fleets(game).count() } else { 0 };
        Some(Explanation {
            match_id: id.clone(),
            state: (game.state.name(), game.state.reason()),
            queued_at: game.queued_at,
            since,
            pickups: game.pickups,
            max_pickups: MAX_PICKUPS,
            lost: game.lost,
            bound_to: game.spec.fleet.clone(),
            unnamed: if wants_fleet { self.unnamed(&game.spec, &document) } else { None },
            server: game.server.as_ref().map(|server| self.holder(server)),
            order: self.order_of(id),
            expected: self.expected_for(id).cloned(),
            servers: wants_server.then(|| self.free_servers(game, &document)),
            fleets_unlisted: all_fleets - fleets.len(),
            timers: self.timers_of(game, &fleets),
            fleets,
            typical_wait: self.beside.waits.typical(game.spec.fleet.as_ref()),
            standing,
        })
    }

    /// What became of the servers that had a queued match; `None` if none had it, or it is not queued. Very cheap.
    #[must_use]
    pub fn losses(&self, id: &MatchId) -> Option<Losses> {
        let game = self.find_match(id).filter(|game| game.state == MatchState::Queued && game.pickups > 0)?;
        Some(Losses { pickups: game.pickups, max_pickups: MAX_PICKUPS, reason: game.lost })
    }

    fn holder(&self, server: &ServerId) -> Holder {
        let known = self.state.servers.get(server);
        let gone = match known.map(|known| known.state) {
            None => self.state.kept.gone.get(server).map(|gone| gone.cause),
            Some(ServerState::Draining { cause }) => Some(cause),
            Some(_) => None,
        };
        Holder { server: server.clone(), fleet: known.and_then(|known| known.fleet.clone()), gone }
    }

    fn order_of(&self, id: &MatchId) -> Option<Order> {
        let order = self.allocation_for(id)?;
        Some(Order {
            server: order.server.clone(),
            fleet: order.fleet.clone(),
            state: order.state,
            ordered_at: order.ordered_at,
        })
    }

    fn fleet_account(&self, fleet: &Fleet, game: &Match, document: &Document<'_>) -> FleetAccount {
        let (index, id) = (&self.state.index, &fleet.id);
        let state = self.fleet_state(fleet, game, document);
        let refused = state == FleetState::FilteredOut;
        let pending = index.pending.get(id);
        let health = self.state.health.get(id).cloned().unwrap_or_default();
        FleetAccount {
            fleet: id.clone(),
            state,
            unmet: if refused { self.unmet_by_fleet(fleet, game, document) } else { Vec::new() },
            live: index.live.get(id).map_or(0, BTreeSet::len),
            max: fleet.max,
            idle: index.idle.get(&Some(id.clone())).map_or(0, Idle::len),
            pending: pending.map_or(0, BTreeSet::len),
            starting_since: pending.and_then(|pending| pending.first()).map(|(at, _)| *at),
            failures: health.failures,
            last_error: health.last_error,
            backoff_until: self.backoff_until(id),
        }
    }

    /// What the match does not meet of a fleet's terms: the game it runs, and its requirements.
    fn unmet_by_fleet(&self, fleet: &Fleet, game: &Match, document: &Document<'_>) -> Vec<Unmet> {
        let names_game = document.names_game();
        let about_game =
            self.terms.get(&fleet.id).map_or("", |terms| terms.about_game(&game.spec, names_game));
        if about_game.is_empty() {
            return self.unmet(&fleet.requirements, document);
        }
        let said = [about_game, &fleet.requirements];
        let refusing = said.into_iter().filter(|text| self.verdict(text, document) != Verdict::Fits);
        refusing.flat_map(|text| self.unmet(text, document)).collect()
    }

    /// The parts of an expression that the match does not meet; the whole expression if no part can be blamed.
    fn unmet(&self, text: &str, document: &Document<'_>) -> Vec<Unmet> {
        if self.verdict(text, document) == Verdict::TooCostly {
            return Vec::from([Unmet { requirement: cut(text), found: Some(TOO_COSTLY.to_string()) }]);
        }
        let parts = parts(text);
        let parts = if parts.len() > MAX_PARTS { Vec::from([text]) } else { parts };
        let failing = parts.into_iter().filter(|part| self.verdict(part, document) == Verdict::DoesNotFit);
        let failing: Vec<Unmet> = failing.map(|part| self.unmet_part(part, document)).collect();
        if failing.is_empty() { Vec::from([Unmet { requirement: cut(text), found: None }]) } else { failing }
    }

    fn unmet_part(&self, part: &str, document: &Document<'_>) -> Unmet {
        let ast = requirements::parse(part).ok().flatten();
        let asked = match &ast {
            Some(Ast::Comparison { lhs, rhs, .. }) => match (&**lhs, &**rhs) {
                (side, Ast::Literal { .. }) | (Ast::Literal { .. }, side) => Some(side),
                _ => None,
            },
            Some(path @ (Ast::Field { .. } | Ast::Subexpr { .. })) => Some(path),
            _ => None,
        };
        let asked = asked.filter(|_| !self.requirements.is_spent());
        let found = asked.and_then(|asked| self.requirements.value(part, asked, document));
        Unmet { requirement: cut(part), found: found.map(|value| cut(&value.to_string())) }
    }

    fn free_servers(&self, game: &Match, document: &Document<'_>) -> FreeServers {
        let bound = game.spec.fleet.as_ref();
        let mut found = Gathered::default();
        let groups = self.beside.waiters.groups();
        let groups = groups.filter(|((_, fleet), _, _)| bound.is_none() || fleet.as_ref() == bound);
        for ((text, fleet), count, servers) in groups.take(MAX_SERVERS_LOOKED_AT) {
            found.add((fleet.clone(), Some(Arc::clone(text))), count, servers);
        }
        let idle = self.state.index.idle.iter();
        let (open, other): (Vec<_>, Vec<_>) =
            idle.partition(|(fleet, _)| bound.is_none() || fleet.as_ref() == bound);
        let free = open.iter().flat_map(|(fleet, idle)| idle.iter().map(move |server| (*fleet, server)));
        for (fleet, server) in free.take(MAX_SERVERS_LOOKED_AT) {
            if self.beside.waiters.of_server(server) > 0 {
                continue;
            }
            let heard = self.beside.heard.get(server).map(|requirement| Arc::clone(requirement.text()));
            found.add((fleet.clone(), heard), 1, core::iter::once(server));
        }
        let all: usize = open.iter().map(|(_, idle)| idle.len()).sum();
        let skipped = all.saturating_sub(found.counted);
        let (groups, cut) = found.largest();
        let group = |(key, members)| self.server_group(key, members, game, document);
        FreeServers {
            groups: groups.into_iter().map(group).collect(),
            unlisted: skipped + cut,
            of_other_fleets: other.iter().map(|(_, idle)| idle.len()).sum(),
        }
    }

    fn server_group(
        &self,
        (fleet, asked): GroupKey,
        group: Members,
        game: &Match,
        document: &Document<'_>,
    ) -> ServerGroup {
        let refused = asked.as_ref().filter(|text| self.verdict(text, document) != Verdict::Fits);
        let of = fleet.as_ref().and_then(|fleet| self.state.fleets.get(fleet));
        let place = (game.state == MatchState::Queued).then_some(game.queued_seq);
        let of = of.filter(|fleet| self.may_take(&fleet.id, &game.spec, document, place) == Some(false));
        let mut unmet = of.map_or_else(Vec::new, |fleet| self.unmet_by_fleet(fleet, game, document));
        unmet.extend(refused.into_iter().flat_map(|text| self.unmet(text, document)));
        ServerGroup {
            fleet,
            unmet,
            requirements: asked.as_deref().map(cut),
            count: group.count,
            servers: group.named,
        }
    }

    fn timers_of(&self, game: &Match, fleets: &[FleetAccount]) -> Vec<Timer> {
        let mut timers = Vec::new();
        let mut add = |kind, at| timers.push(Timer { kind, at });
        let settings = &self.state.settings;
        match &game.state {
            MatchState::Queued => {
                add(TimerKind::Pickup, game.queued_at + settings.match_pickup_time);
                if let Some(order) = self.allocation_for(&game.id) {
                    let deadline = order.ordered_at + self.ready_deadline(&order.fleet);
                    add(TimerKind::ReadyDeadline(order.fleet.clone()), deadline);
                } else {
                    add(TimerKind::Schedule, self.scheduled_for(game));
                    let backing_off = fleets.iter().filter(|fleet| fleet.state == FleetState::BackingOff);
                    for (fleet, until) in
                        backing_off.filter_map(|fleet| Some((&fleet.fleet, fleet.backoff_until?)))
                    {
                        add(TimerKind::Backoff(fleet.clone()), until);
                    }
                }
            }
            MatchState::PickedUp { at } => add(TimerKind::Ready, *at + settings.match_ready_time),
            MatchState::Ready { at, .. } => {
                add(TimerKind::Run, *at + settings.match_max_run_time);
                let unclaimed = game.seats.values().filter_map(|seat| match seat.state {
                    SeatState::Reserved { expires_at } => expires_at,
                    SeatState::Claimed { .. } => None,
                });
                let first = unclaimed.min();
                first.into_iter().for_each(|at| add(TimerKind::Seat, at));
            }
            MatchState::Ended { .. } | MatchState::Failed { .. } | MatchState::Cancelled { .. } => {}
        }
        let server = game.server.as_ref().filter(|_| !game.state.is_over());
        if let Some(server) = server.and_then(|server| self.state.servers.get(server))
            && settings.lifetime_ends_matches
        {
            add(TimerKind::Lifetime, server.born_at + settings.server_max_lifetime);
        }
        timers.sort_by(|a, b| (a.at, &a.kind).cmp(&(b.at, &b.kind)));
        timers
    }

    /// The first run of the schedule for which the match has waited long enough.
    fn scheduled_for(&self, game: &Match) -> Timestamp {
        let settings = &self.state.settings;
        let next = self.beside.scheduled_at + settings.schedule_frequency;
        let missing = (game.queued_at + settings.delay_allocation).since(next).as_millis();
        let periods = missing.div_ceil(settings.schedule_frequency.as_millis().max(1));
        next + settings.schedule_frequency.saturating_mul(u32::try_from(periods).unwrap_or(u32::MAX))
    }
}

type GroupKey = (Option<FleetId>, Option<Arc<str>>);

#[derive(Default)]
struct Members {
    count: usize,
    named: Vec<ServerId>,
}

/// Servers by their requirements.
#[derive(Default)]
struct Gathered {
    groups: BTreeMap<GroupKey, Members>,
    counted: usize,
}

impl Gathered {
    fn add<'a>(&mut self, key: GroupKey, count: usize, servers: impl Iterator<Item = &'a ServerId>) {
        self.counted += count;
        let group = self.groups.entry(key).or_default();
        group.count += count;
        let room = MAX_SERVERS_NAMED.saturating_sub(group.named.len());
        group.named.extend(servers.take(room).cloned());
    }

    /// The largest groups, and how many servers are in the others.
    fn largest(self) -> (Vec<(GroupKey, Members)>, usize) {
        let mut groups: Vec<_> = self.groups.into_iter().collect();
        groups.sort_by_key(|(_, group)| Reverse(group.count));
        let cut = groups.iter().skip(MAX_GROUPS).map(|(_, group)| group.count).sum();
        groups.truncate(MAX_GROUPS);
        (groups, cut)
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        None => text.to_string(),
        Some((at, _)) => alloc::format!("{}…", &text[..at]),
    }
}

//! The settings of the matchmaker: queues, their rules and hooks. All of it can be changed while it runs.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::model::MAX_TICKET_PLAYERS;
use crate::ids::{HookId, QueueId};
use crate::match_spec::MAX_PLAYERS;
use crate::properties::Properties;
use crate::requirements;
use crate::size::{ENTRY_BYTES, Size};

/// Maximum size of all settings together, in bytes, so that one record holds them.
pub const MAX_SETTINGS_BYTES: usize = 4 << 20;
/// Maximum number of queues.
pub const MAX_QUEUES: usize = 1_000;
/// Maximum number of rules of one queue.
pub const MAX_RULES: usize = 32;
/// Maximum number of rules of one queue that compare numbers by distance.
pub const MAX_DISTANCES: usize = 4;
/// Maximum number of rules of one queue that ask for equality.
pub const MAX_EQUALITIES: usize = 8;
/// Maximum number of them that relax.
pub const MAX_RELAXING_EQUALITIES: usize = 3;
/// Maximum number of steps in which one rule widens.
pub const MAX_STEPS: usize = 16;
/// Maximum number of hooks of the matchmaker, or of one queue.
pub const MAX_HOOKS: usize = 16;
/// Maximum number of queues in which one player may wait at once. Every change of one of its tickets looks at all the
/// others.
pub const MAX_QUEUES_PER_PLAYER: u32 = 4;
/// Maximum duration of a setting.
const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

/// The settings of the matchmaker.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// All queues, by name.
    pub queues: BTreeMap<QueueId, Queue>,
    /// How long the status of a ticket is available after its end.
    pub status_expiration: Duration,
    /// The interval at which matches are formed from what has changed since.
    pub tick: Duration,
    /// Asked about the tickets and matches of every queue, in order, before the queue's own.
    pub hooks: Vec<Hook>,
    /// Budget for what waits, in bytes by [`Size`]: tickets that are not over, matches that are being made, offers of
    /// free seats. What exceeds it is refused.
    pub waiting_bytes: u64,
    /// Budget in bytes for what is over and still available. If it is exceeded, properties are dropped first, then
    /// tickets, oldest first.
    pub kept_bytes: u64,
    /// The number of queues in which one player may wait at once, with one ticket in each; at most
    /// [`MAX_QUEUES_PER_PLAYER`].
    pub queues_per_player: u32,
}

/// Default of [`OutsideHook::interval`].
pub const FORM_INTERVAL: Duration = Duration::from_secs(5);
/// Minimum [`OutsideHook::interval`].
pub const MIN_FORM_INTERVAL: Duration = Duration::from_millis(100);
/// Default of [`Settings::waiting_bytes`].
pub const WAITING_BYTES: u64 = 512 << 20;
/// Default of [`Settings::kept_bytes`].
pub const KEPT_BYTES: u64 = 128 << 20;

impl Default for Settings {
    fn default() -> Self {
        Self {
            queues: BTreeMap::new(),
            status_expiration: Duration::from_secs(10 * 60),
            tick: Duration::from_millis(100),
            hooks: Vec::new(),
            waiting_bytes: WAITING_BYTES,
            kept_bytes: KEPT_BYTES,
            queues_per_player: 1,
        }
    }
}

/// One queue.
#[derive(Clone, PartialEq, Debug)]
pub struct Queue {
    /// Teams per match; 1 is a match without teams, 0 is one match of the waiting tickets when a ticket expires.
    pub teams: u32,
    /// Players per full team.
    pub players_per_team: u32,
    /// Minimum number of players per team. The size asked for sinks to it in equal steps as a ticket nears expiry.
    pub min_players_per_team: u32,
    /// Maximum wait of a ticket.
    pub ticket_expiration: Duration,
    /// What happens then.
    pub expiration_action: ExpirationAction,
    /// How long players have to accept a match; `None` if they are not asked.
    pub accept: Option<Duration>,
    /// Whether tickets take free seats of running matches.
    pub backfill: Backfill,
    /// How long a ticket waits for free seats before it returns to the queue.
    pub seat_timeout: Duration,
    /// How often a ticket returns to its place for lack of a server before it fails.
    pub max_requeues: u32,
    /// Properties of every match of the queue, regardless of its tickets: they are used to choose its server.
    pub properties: Properties,
    /// Asked about the tickets and matches of this queue, in order.
    pub hooks: Vec<Hook>,
    /// What tickets of one match must have in common.
    pub rules: Vec<Rule>,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            teams: 2,
            players_per_team: 1,
            min_players_per_team: 1,
            ticket_expiration: Duration::from_secs(120),
            expiration_action: ExpirationAction::Drop,
            accept: None,
            backfill: Backfill::Off,
            seat_timeout: Duration::from_secs(30),
            max_requeues: 3,
            properties: Properties::default(),
            hooks: Vec::new(),
            rules: Vec::new(),
        }
    }
}

/// What happens to a ticket that reaches its queue's maximum wait.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum ExpirationAction {
    /// It times out.
    #[default]
    Drop,
    /// It gets a match of the waiting tickets, with teams of at least the minimum; if there is none, it times out.
    Minimum,
}

/// Whether tickets take free seats of running matches.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Backfill {
    /// Never.
    #[default]
    Off,
    /// Before a new match is formed.
    First,
    /// If no new match can be formed.
    Last,
}

/// Custom behaviour for tickets or matches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hook {
    /// Sends a ticket to the queue for its number of players.
    QueueByPartySize(BTreeMap<u32, QueueId>),
    /// Only takes tickets whose leader is one of the players, and adds the party to the players' properties.
    PartyMembership,
    /// Writes the teams into the match's properties, and its team into each player's.
    TeamData,
    /// No server is needed: everybody connects to the address in the first player's property of this name.
    PeerToPeerHost(Box<str>),
    /// External logic.
    Outside(OutsideHook),
}

/// External logic, called by an effect; its outcome is a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutsideHook {
    /// Its name, unique among the hooks of the matchmaker and of one queue.
    pub id: HookId,
    /// What it is asked about.
    pub about: HookPoint,
    /// The timeout of its answer.
    pub timeout: Duration,
    /// What happens if it fails or does not answer in time.
    pub on_failure: OnFailure,
    /// For a hook that forms matches: the time after an answer until it is asked again about tickets that still wait,
    /// if nothing is new; `None` is [`FORM_INTERVAL`].
    pub interval: Option<Duration>,
    /// How it is called, so that a removed queue keeps its hooks over a restart; `None` if that is not known: it was
    /// stored before addresses were, or comes from a test.
    pub address: Option<HookAddress>,
}

/// How an external hook is called. It holds no secret, only where that is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HookAddress {
    /// `http` or `https`, without credentials.
    pub url: Box<str>,
    /// Maximum number of concurrent calls for one queue.
    pub concurrency: u32,
    /// Number of consecutive failures after which it is not called for a while.
    pub breaker_failures: u32,
    /// For how long.
    pub breaker_pause: Duration,
    /// The environment variable with the key that is sent along.
    pub key_env: Option<Box<str>>,
}

/// What a hook is asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HookPoint {
    /// A ticket, before it waits.
    ValidateTicket,
    /// The waiting tickets of a queue: it forms the matches.
    FormMatch,
    /// A match, before a server is looked for.
    NewMatch,
}

/// What happens if a hook fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnFailure {
    /// As if it had accepted; if it should have formed matches, the queue's rules form them.
    Accept,
    /// As if it had refused; if it should have formed matches, none are formed.
    Refuse,
}

/// One rule of a queue. If it widens, each ticket's demand follows from its own wait, and a match must meet the demands
/// of each of its tickets.
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    /// Its name, for people.
    pub name: Box<str>,
    /// What it demands.
    pub kind: RuleKind,
    /// The number that it allows after some time, for rules with a number; each step is later and larger than the one
    /// before.
    pub widen: Vec<WidenStep>,
    /// When it no longer demands anything.
    pub relax_after: Option<Duration>,
}

/// After a wait of `after`, `value` is allowed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct WidenStep {
    /// The ticket's wait.
    pub after: Duration,
    /// The number allowed.
    pub value: f64,
}

/// What a rule demands.
#[derive(Clone, PartialEq, Debug)]
pub enum RuleKind {
    /// Equal values of a ticket's property.
    Equal {
        /// The property's name; nested names are joined by dots.
        property: Box<str>,
    },
    /// Numbers that are close to one another.
    Distance {
        /// Name of the rating, or of a number among the ticket's properties.
        property: Box<str>,
        /// How a ticket of several players gets its number.
        measure: Measure,
        /// The initial maximum distance.
        most: f64,
        /// The number of a player without one.
        missing: f64,
    },
    /// A region that is acceptable to all players.
    Latency {
        /// The initial maximum round trip, in milliseconds.
        most: f64,
    },
    /// An expression that is true for every two tickets of a match, in both directions, or for each ticket.
    Expression {
        /// JMESPath over `{"ticket": …, "candidate": …}`.
        expression: String,
        /// Its scope.
        about: About,
        /// Whether a match must meet it.
        need: Need,
    },
    /// Players never play with players that they have blocked.
    NotBlocked,
    /// Teams of similar strength: the most even division into teams is used.
    Balance {
        /// Name of the rating.
        property: Box<str>,
        /// The initial maximum difference of the teams' averages; [`f64::INFINITY`] for as even as possible.
        most: f64,
        /// The rating of a player without one.
        missing: f64,
    },
}

/// How a ticket of several players gets its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Measure {
    /// It is one of the ticket's properties.
    Ticket,
    /// The average of its players' ratings.
    Average,
    /// The largest of its players' ratings.
    Max,
}

/// The scope of an expression.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum About {
    /// Every two tickets.
    Pair,
    /// Every ticket.
    Ticket,
}

/// Whether a match must meet an expression.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// It must.
    Required,
    /// Tickets that meet it are preferred to older ones that do not.
    Preferred,
}

impl Rule {
    /// A rule that does not widen.
    #[must_use]
    pub fn new(name: &str, kind: RuleKind) -> Self {
        Self { name: name.into(), kind, widen: Vec::new(), relax_after: None }
    }

    /// What it allows after a wait: `None` if it no longer demands anything. Rules without a number allow 0.
    #[must_use]
    pub fn allows(&self, waited: Duration) -> Option<f64> {
        if self.relax_after.is_some_and(|after| after <= waited) {
            return None;
        }
        let reached = self.widen.iter().rev().find(|step| step.after <= waited);
        Some(reached.map_or_else(|| self.first(), |step| step.value))
    }

    /// When it next allows more, after a wait.
    #[must_use]
    pub fn widens_after(&self, waited: Duration) -> Option<Duration> {
        let steps = self.widen.iter().map(|step| step.after).chain(self.relax_after);
        steps.filter(|after| *after > waited).min()
    }

    const fn first(&self) -> f64 {
        match &self.kind {
            RuleKind::Distance { most, .. } | RuleKind::Latency { most } | RuleKind::Balance { most, .. } => {
                *most
            }
            RuleKind::Equal { .. } | RuleKind::Expression { .. } | RuleKind::NotBlocked => 0.0,
        }
    }

    fn check(&self) -> Result<(), String> {
        let numbered = matches!(
            self.kind,
            RuleKind::Distance { .. } | RuleKind::Latency { .. } | RuleKind::Balance { .. }
        );
        if !numbered && !self.widen.is_empty() {
            return Err("has no number that could widen; use `relax_after`".to_string());
        }
        if self.widen.len() > MAX_STEPS {
            return Err(format!("has {} steps, at most {MAX_STEPS} are allowed", self.widen.len()));
        }
        if self.first().is_nan() || self.first() < 0.0 {
            return Err("allows less than 0".to_string());
        }
        let mut before = (Duration::ZERO, self.first());
        for step in &self.widen {
            if step.after <= before.0 || step.value.is_nan() || step.value <= before.1 {
                return Err("must widen: each step later and larger than the one before".to_string());
            }
            before = (step.after, step.value);
        }
        if self.relax_after.is_some_and(|after| after <= before.0) {
            return Err("must relax after its last step".to_string());
        }
        self.check_kind()
    }

    fn check_kind(&self) -> Result<(), String> {
        match &self.kind {
            RuleKind::Expression { expression, about, need } => {
                if (*about, *need) == (About::Ticket, Need::Preferred) {
                    return Err("is preferred, so it has to compare two tickets".to_string());
                }
                requirements::check(expression).map_err(|problem| problem.to_string())
            }
            RuleKind::Distance { missing, .. } | RuleKind::Balance { missing, .. }
                if !missing.is_finite() =>
            {
                Err("`missing` must be a number".to_string())
            }
            _ => Ok(()),
        }
    }
}

impl Queue {
    /// Players of a full match; `None` if unlimited.
    #[must_use]
    pub const fn full(&self) -> Option<u32> {
        let teams = if self.teams == 0 { 1 } else { self.teams };
        if self.players_per_team == 0 { None } else { Some(teams.saturating_mul(self.players_per_team)) }
    }

    /// The team size that a ticket asks for after a wait.
    #[must_use]
    pub fn wanted(&self, waited: Duration) -> u32 {
        let steps = self.players_per_team.saturating_sub(self.min_players_per_team);
        let whole = self.ticket_expiration.as_millis().max(1);
        let taken = waited.as_millis().saturating_mul(u128::from(steps) + 1) / whole;
        self.players_per_team - u32::try_from(taken).unwrap_or(u32::MAX).min(steps)
    }

    /// When a ticket next asks for less, after a wait.
    #[must_use]
    pub fn wants_less_after(&self, waited: Duration) -> Option<Duration> {
        let steps = self.players_per_team.saturating_sub(self.min_players_per_team);
        let taken = self.players_per_team - self.wanted(waited);
        let next = (taken < steps).then(|| {
            let whole = self.ticket_expiration.as_millis().saturating_mul(u128::from(taken) + 1);
            whole.div_ceil(u128::from(steps) + 1)
        })?;
        Some(Duration::from_millis(u64::try_from(next).unwrap_or(u64::MAX)))
    }

    /// The hook that forms this queue's matches, if there is one.
    #[must_use]
    pub fn former(&self) -> Option<&OutsideHook> {
        self.hooks.iter().find_map(|hook| match hook {
            Hook::Outside(hook) if hook.about == HookPoint::FormMatch => Some(hook),
            _ => None,
        })
    }

    fn check(&self, settings: &Settings) -> Result<(), String> {
        let full = self.full().unwrap_or(0) as usize;
        if full > MAX_PLAYERS {
            return Err(format!("has matches of {full} players, at most {MAX_PLAYERS} are allowed"));
        }
        if self.teams > 0 && self.players_per_team == 0 {
            return Err("`players_per_team` must be at least 1; only with `teams` 0 may it be 0".to_string());
        }
        if self.players_per_team > 0 && self.min_players_per_team > self.players_per_team {
            return Err("`min_players_per_team` must be at most `players_per_team`".to_string());
        }
        if self.teams > 0 && self.min_players_per_team == 0 {
            return Err("`min_players_per_team` must be at least 1".to_string());
        }
        if self.ticket_expiration < Duration::from_secs(1) || self.ticket_expiration > YEAR {
            return Err("`ticket_expiration` must be 1 second to 366 days".to_string());
        }
        if self.accept.is_some_and(|accept| accept.is_zero() || accept > YEAR) {
            return Err("`accept` must be more than 0 and at most 366 days".to_string());
        }
        self.check_rules()?;
        self.check_hooks(settings)
    }

    fn check_rules(&self) -> Result<(), String> {
        if self.rules.len() > MAX_RULES {
            return Err(format!("has {} rules, at most {MAX_RULES} are allowed", self.rules.len()));
        }
        let mut names = BTreeSet::new();
        for rule in &self.rules {
            rule.check().map_err(|problem| format!("rule `{}` {problem}", rule.name))?;
            if !names.insert(&rule.name) {
                return Err(format!("has two rules `{}`", rule.name));
            }
        }
        let count = |wanted: fn(&Rule) -> bool| self.rules.iter().filter(|rule| wanted(rule)).count();
        let equal = |rule: &Rule| matches!(rule.kind, RuleKind::Equal { .. });
        let limits = [
            ("latency", count(|rule| matches!(rule.kind, RuleKind::Latency { .. })), 1),
            ("balance", count(|rule| matches!(rule.kind, RuleKind::Balance { .. })), 1),
            ("distance", count(|rule| matches!(rule.kind, RuleKind::Distance { .. })), MAX_DISTANCES),
            ("equality", count(equal), MAX_EQUALITIES),
            (
                "relaxing equality",
                count(|rule| matches!(rule.kind, RuleKind::Equal { .. }) && rule.relax_after.is_some()),
                MAX_RELAXING_EQUALITIES,
            ),
        ];
        match limits.iter().find(|(_, found, most)| found > most) {
            Some((kind, found, most)) => {
                Err(format!("has {found} rules of the kind {kind}, at most {most} are allowed"))
            }
            None => Ok(()),
        }
    }

    fn check_hooks(&self, settings: &Settings) -> Result<(), String> {
        check_hooks(settings.hooks.iter().chain(&self.hooks))?;
        let formers = self
            .hooks
            .iter()
            .filter(|hook| matches!(hook, Hook::Outside(hook) if hook.about == HookPoint::FormMatch));
        if formers.count() > 1 {
            return Err("has more than one hook that forms matches".to_string());
        }
        for hook in settings.hooks.iter().chain(&self.hooks) {
            let Hook::QueueByPartySize(queues) = hook else { continue };
            if let Some(unknown) = queues.values().find(|queue| !settings.queues.contains_key(*queue)) {
                return Err(format!("sends tickets to queue {unknown}, which is not configured"));
            }
        }
        for hook in &self.hooks {
            let Hook::QueueByPartySize(queues) = hook else { continue };
            let sends_on = |queue: &&QueueId| {
                let hooks = settings.queues.get(*queue).map(|queue| queue.hooks.as_slice());
                hooks.unwrap_or_default().iter().any(|hook| matches!(hook, Hook::QueueByPartySize(_)))
            };
            if let Some(queue) = queues.values().find(sends_on) {
                return Err(format!(
                    "sends tickets to queue {queue}, which sends them on; name the last one"
                ));
            }
        }
        Ok(())
    }
}

fn check_hooks<'a>(hooks: impl Iterator<Item = &'a Hook>) -> Result<(), String> {
    let mut ids = BTreeSet::new();
    let mut count = 0;
    for hook in hooks {
        count += 1;
        if let Hook::Outside(hook) = hook {
            if !ids.insert(&hook.id) {
                return Err(format!("has two hooks {}", hook.id));
            }
            if hook.timeout.is_zero() || hook.timeout > YEAR {
                return Err(format!("hook {}: `timeout` must be more than 0", hook.id));
            }
            if hook.interval.is_some_and(|interval| !(MIN_FORM_INTERVAL..=YEAR).contains(&interval)) {
                return Err(format!("hook {}: `interval` must be at least 100 ms", hook.id));
            }
        }
    }
    if count > 2 * MAX_HOOKS {
        return Err(format!("has {count} hooks, at most {} are allowed", 2 * MAX_HOOKS));
    }
    Ok(())
}

impl Settings {
    /// Returns an error for the first setting that is out of range.
    ///
    /// # Errors
    /// What is wrong, with the queue and the rule.
    pub fn check(&self) -> Result<(), String> {
        if self.queues.len() > MAX_QUEUES {
            return Err(format!("{} queues, at most {MAX_QUEUES} are allowed", self.queues.len()));
        }
        if self.status_expiration > YEAR {
            return Err("`status_expiration` must be at most 366 days".to_string());
        }
        if self.tick > Duration::from_secs(60) {
            return Err("`tick` must be at most 60 seconds".to_string());
        }
        if !(1..=MAX_QUEUES_PER_PLAYER).contains(&self.queues_per_player) {
            return Err(format!("`queues_per_player` must be 1 to {MAX_QUEUES_PER_PLAYER}"));
        }
        let forms = |hook: &Hook| matches!(hook, Hook::Outside(hook) if hook.about == HookPoint::FormMatch);
        if self.hooks.iter().any(forms) {
            return Err("`hooks`: a hook that forms matches belongs to one queue".to_string());
        }
        for (id, queue) in &self.queues {
            queue.check(self).map_err(|problem| format!("queue {id} {problem}"))?;
        }
        Ok(())
    }
}

impl Size for Settings {
    fn byte_size(&self) -> usize {
        ENTRY_BYTES + self.queues.byte_size() + self.hooks.byte_size()
    }
}

impl Size for Queue {
    fn byte_size(&self) -> usize {
        // Up to ten numbers in addition to the lists.
        4 * ENTRY_BYTES + self.properties.byte_size() + self.hooks.byte_size() + self.rules.byte_size()
    }
}

impl Size for Hook {
    fn byte_size(&self) -> usize {
        let content = match self {
            Self::QueueByPartySize(queues) => {
                queues.values().map(|queue| ENTRY_BYTES + queue.byte_size()).sum()
            }
            Self::PartyMembership | Self::TeamData => 0,
            Self::PeerToPeerHost(property) => property.byte_size(),
            Self::Outside(hook) => {
                let address = hook.address.as_ref().map_or(0, |HookAddress { url, key_env, .. }| {
                    ENTRY_BYTES + url.byte_size() + key_env.as_ref().map_or(0, |name| name.byte_size())
                });
                ENTRY_BYTES + hook.id.byte_size() + address
            }
        };
        ENTRY_BYTES + content
    }
}

impl Size for Rule {
    fn byte_size(&self) -> usize {
        let text = match &self.kind {
            RuleKind::Equal { property }
            | RuleKind::Distance { property, .. }
            | RuleKind::Balance { property, .. } => property.byte_size(),
            RuleKind::Expression { expression, .. } => expression.byte_size(),
            RuleKind::Latency { .. } | RuleKind::NotBlocked => 0,
        };
        2 * ENTRY_BYTES + self.name.byte_size() + text + ENTRY_BYTES * self.widen.len()
    }
}

/// Maximum number of players of a ticket of this queue, so that they fit on one team.
#[must_use]
pub fn largest_ticket(queue: &Queue) -> usize {
    match queue.players_per_team as usize {
        0 => MAX_TICKET_PLAYERS,
        most => most.min(MAX_TICKET_PLAYERS),
    }
}

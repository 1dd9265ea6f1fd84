//! The section `matchmaker`: from the tree to the machine's settings and the addresses of hooks.
//!
//! The machine checks its settings itself, and reports one error at a time without a key. So everything is checked here
//! first, with the key that is wrong; the machine's errors are reported too, in case it is ever stricter.

mod hooks;
mod queues;
mod rules;
pub(crate) mod show;
pub(crate) mod warnings;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use sortie_domain::ids::{HookId, QueueId};
use sortie_domain::matchmaking::Settings;
use sortie_domain::matchmaking::settings::{Hook, MAX_QUEUES, MAX_QUEUES_PER_PLAYER};

use crate::parse::{self, YEAR};
use crate::secret::Secret;
use crate::section::Section;

pub(crate) use hooks::{HookKind, Hooks};
pub(crate) use rules::RuleName;

/// Names of choices.
pub(crate) mod names {
    pub(crate) use super::hooks::ON_FAILURE;
    pub(crate) use super::queues::{BACKFILLS, EXPIRATION_ACTIONS};
    pub(crate) use super::rules::MEASURES;
}

/// Minimum and maximum time between two ticks.
const TICKS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

/// Minimum and maximum size of a budget, in bytes.
const BUDGETS: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 40;

/// The matchmaker.
#[derive(Clone, PartialEq, Debug)]
pub struct MatchmakerConfig {
    /// The machine's settings.
    pub settings: Settings,
    /// Where external hooks are called: those of every queue under `None`, those of one queue under its name.
    pub hooks: BTreeMap<(Option<QueueId>, HookId), HookConfig>,
}

/// Where a hook is, and how it is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HookConfig {
    /// Called with `POST`.
    pub url: String,
    /// Maximum time of a call, including the wait for its turn.
    pub timeout: Duration,
    /// Maximum number of concurrent calls for one queue.
    pub concurrency: u32,
    /// After this many failures in a row it is not called for a while.
    pub breaker_failures: u32,
    /// For how long.
    pub breaker_pause: Duration,
    /// Sent along, so that the hook can authenticate the caller.
    pub key: Option<HookKey>,
}

/// A key that is sent to a hook, and its source.
#[derive(Clone, PartialEq, Eq)]
pub struct HookKey {
    /// The environment variable of this name.
    pub variable: String,
    /// The key: 1 to 4096 printable ASCII characters.
    pub key: Secret,
}

impl fmt::Debug for HookKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookKey").field("variable", &self.variable).finish_non_exhaustive()
    }
}

/// The section; `Some(None)` if it does not exist.
pub(crate) fn read(section: &Section<'_>, given: bool) -> Option<Option<MatchmakerConfig>> {
    let status_expiration = section.get("status_expiration", parse::duration(Duration::ZERO..=YEAR));
    let tick = section.get("tick", parse::duration(TICKS));
    let waiting_bytes = section.get("waiting_bytes", parse::size(BUDGETS));
    let kept_bytes = section.get("kept_bytes", parse::size(BUDGETS));
    let queues_per_player = section.get("queues_per_player", parse::integer(1..=MAX_QUEUES_PER_PLAYER));
    let names = section.section("queues");
    let known: Vec<&str> = names.iter().flat_map(Section::names).collect();
    let own = hooks::read(section, &known, None);
    let queues = names.as_ref().and_then(|names| queues::read(names, own.as_ref()));
    let (mut own, queues) = (own?, queues?);
    if !given {
        return Some(None);
    }
    let mut settings = Settings {
        queues: BTreeMap::new(),
        status_expiration: status_expiration?,
        tick: tick?,
        hooks: own.settings,
        waiting_bytes: waiting_bytes?,
        kept_bytes: kept_bytes?,
        queues_per_player: queues_per_player?,
    };
    for queue in queues {
        own.places.extend(queue.hooks);
        settings.queues.insert(queue.id, queue.settings);
    }
    if sends_on(section, &settings) {
        return None;
    }
    if let Err(problem) = settings.check() {
        section.refuse(problem);
        return None;
    }
    Some(Some(MatchmakerConfig { settings, hooks: own.places }))
}

/// Whether a queue sends tickets to one that sends them on, which is reported: their final queue would be unclear.
fn sends_on(section: &Section<'_>, settings: &Settings) -> bool {
    let routes = |hook: &Hook| match hook {
        Hook::QueueByPartySize(queues) => Some(queues.clone()),
        _ => None,
    };
    let sends = |id: &QueueId| {
        settings.queues.get(id).is_some_and(|queue| queue.hooks.iter().any(|hook| routes(hook).is_some()))
    };
    let mut found = false;
    for (id, queue) in &settings.queues {
        let targets = queue.hooks.iter().filter_map(routes).flat_map(BTreeMap::into_values);
        for target in targets.filter(sends).collect::<BTreeSet<_>>() {
            let text = format!(
                "send tickets to the queue {target}, which sends them on; name the one where they end up"
            );
            section.problem_below(&["queues", id.as_str(), "hooks"], text);
            found = true;
        }
    }
    found
}

/// Whether there are too many queues, which is reported.
fn too_many_queues(section: &Section<'_>) -> bool {
    let count = section.names().len();
    if count > MAX_QUEUES {
        section.refuse(format!("has {count} queues, at most {MAX_QUEUES} are allowed"));
    }
    count > MAX_QUEUES
}

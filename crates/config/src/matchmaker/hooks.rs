//! Hooks: what the machine asks, and where external ones are called.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use sortie_config_file::kind_of;
use sortie_domain::ids::{HookId, QueueId};
use sortie_domain::matchmaking::model::MAX_TICKET_PLAYERS;
use sortie_domain::matchmaking::settings::{
    Hook, HookAddress, HookPoint, MAX_HOOKS, MIN_FORM_INTERVAL, OnFailure, OutsideHook,
};

use super::queues::one_of;
use super::{HookConfig, HookKey};
use crate::keys;
use crate::parse::{self, HOUR};
use crate::secret::Secret;
use crate::section::Section;

/// Minimum and maximum timeout of a call.
const TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
/// Maximum number of concurrent calls.
const MAX_CONCURRENCY: u32 = 1_000;
/// Maximum number of failures before a hook is paused.
const MAX_FAILURES: u32 = 1_000;
/// Maximum length of a property's name, in characters.
const MAX_NAME: usize = 128;
/// Maximum length of a key, in bytes.
const MAX_KEY_BYTES: usize = 4_096;

/// Names of [`OnFailure`].
pub(crate) const ON_FAILURE: &[&str] = &["accept", "refuse"];

/// What a hook's `kind` can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HookKind {
    QueueByPartySize,
    PartyMembership,
    TeamData,
    PeerToPeerHost,
    Outside(HookPoint),
}

/// Interval at which a hook that forms matches is asked again.
const INTERVALS: std::ops::RangeInclusive<Duration> = MIN_FORM_INTERVAL..=HOUR;

/// Keys of hooks that are called over HTTP.
const OUTSIDE: &[&str] =
    &["name", "url", "timeout", "on_failure", "concurrency", "breaker_failures", "breaker_pause", "key_env"];

/// Keys of a hook that forms matches.
const FORM_MATCH: &[&str] = &[
    "name",
    "url",
    "timeout",
    "on_failure",
    "concurrency",
    "breaker_failures",
    "breaker_pause",
    "key_env",
    "interval",
];

impl HookKind {
    pub(crate) const NAMES: &'static [&'static str] = &[
        "queue_by_party_size",
        "party_membership",
        "team_data",
        "peer_to_peer_host",
        "validate_ticket",
        "form_match",
        "new_match",
    ];

    fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "queue_by_party_size" => Self::QueueByPartySize,
            "party_membership" => Self::PartyMembership,
            "team_data" => Self::TeamData,
            "peer_to_peer_host" => Self::PeerToPeerHost,
            "validate_ticket" => Self::Outside(HookPoint::ValidateTicket),
            "form_match" => Self::Outside(HookPoint::FormMatch),
            "new_match" => Self::Outside(HookPoint::NewMatch),
            _ => return None,
        })
    }

    /// The kind of a hook.
    pub(crate) const fn of(hook: &Hook) -> Self {
        match hook {
            Hook::QueueByPartySize(_) => Self::QueueByPartySize,
            Hook::PartyMembership => Self::PartyMembership,
            Hook::TeamData => Self::TeamData,
            Hook::PeerToPeerHost(_) => Self::PeerToPeerHost,
            Hook::Outside(hook) => Self::Outside(hook.about),
        }
    }

    /// The name in the configuration, and the keys that belong to it.
    pub(crate) const fn keys(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::QueueByPartySize => ("queue_by_party_size", &["queues"]),
            Self::PartyMembership => ("party_membership", &[]),
            Self::TeamData => ("team_data", &[]),
            Self::PeerToPeerHost => ("peer_to_peer_host", &["property"]),
            Self::Outside(HookPoint::ValidateTicket) => ("validate_ticket", OUTSIDE),
            Self::Outside(HookPoint::FormMatch) => ("form_match", FORM_MATCH),
            Self::Outside(HookPoint::NewMatch) => ("new_match", OUTSIDE),
        }
    }
}

/// Hooks of the matchmaker, or of one queue.
pub(crate) struct Hooks {
    /// In the machine's form, in order.
    pub(crate) settings: Vec<Hook>,
    /// Where the external ones are called.
    pub(crate) places: BTreeMap<(Option<QueueId>, HookId), HookConfig>,
}

/// The list `hooks` of the matchmaker, or of the queue `of` in addition to those of the matchmaker. `queues` are the
/// existing names.
pub(super) fn read(
    section: &Section<'_>,
    queues: &[&str],
    of: Option<(&str, Option<&Hooks>)>,
) -> Option<Hooks> {
    let list = section.list("hooks");
    let whole = section.raw("hooks").is_none_or(|value| value.is_null() || value.is_array());
    let given = section.raw("hooks").and_then(Value::as_array).map_or(0, Vec::len);
    if given > MAX_HOOKS {
        section.problem("hooks", format!("has {given} entries, at most {MAX_HOOKS} are allowed"));
        return None;
    }
    let queue = match of {
        // An invalid name was reported.
        Some((name, _)) => Some(QueueId::new(name).ok()?),
        None => None,
    };
    let common = of.and_then(|(_, common)| common);
    let mut hooks = Hooks { settings: Vec::new(), places: BTreeMap::new() };
    let mut complete = whole && list.len() == given;
    for section in &list {
        let read = hook(section, queues, queue.is_some());
        let added = read.and_then(|read| hooks.add(section, queue.as_ref(), common, read));
        complete &= added.is_some();
    }
    complete.then_some(hooks)
}

impl Hooks {
    fn add(
        &mut self,
        section: &Section<'_>,
        queue: Option<&QueueId>,
        common: Option<&Self>,
        (hook, place): (Hook, Option<HookConfig>),
    ) -> Option<()> {
        if let (Hook::Outside(outside), Some(place)) = (&hook, place) {
            let of_all = (None, outside.id.clone());
            let own = (queue.cloned(), outside.id.clone());
            if self.places.contains_key(&own)
                || common.is_some_and(|common| common.places.contains_key(&of_all))
            {
                section.problem("name", format!("{:?} names an earlier hook too", outside.id.as_str()));
                return None;
            }
            let forms =
                |hook: &Hook| matches!(hook, Hook::Outside(hook) if hook.about == HookPoint::FormMatch);
            if forms(&hook) && self.settings.iter().any(forms) {
                section.problem(
                    "kind",
                    "is `form_match`, as an earlier hook's: one forms the matches of a queue",
                );
                return None;
            }
            self.places.insert(own, place);
        }
        self.settings.push(hook);
        Some(())
    }
}

/// One hook, and where it is called if it is external.
fn hook(section: &Section<'_>, queues: &[&str], of_queue: bool) -> Option<(Hook, Option<HookConfig>)> {
    let kind = section.get("kind", parse::choice(HookKind::NAMES, HookKind::by_name));
    let id = section
        .optional("name", |value| HookId::new(parse::text(value)?).map_err(|problem| problem.to_string()));
    let url = section.optional("url", parse::fetched_url);
    let timeout = section.get("timeout", parse::duration(TIMEOUTS));
    let on_failure = section.get("on_failure", parse::choice(ON_FAILURE, on_failure));
    let concurrency = section.get("concurrency", parse::integer(1..=MAX_CONCURRENCY));
    let breaker_failures = section.get("breaker_failures", parse::integer(1..=MAX_FAILURES));
    let breaker_pause = section.get("breaker_pause", parse::duration(Duration::from_millis(10)..=HOUR));
    // Missing keys are left to the machine: settings that were stored before the key existed stay the same.
    let interval = section.optional("interval", parse::duration(INTERVALS));
    let key = key(section);
    let by_size = section.optional("queues", |value| by_size(value, queues));
    let printable = |character: char| !character.is_control();
    let property =
        section.optional("property", parse::characters(1..=MAX_NAME, printable, "printable characters"));
    let kind = kind?;
    if !belongs(section, kind) {
        return None;
    }
    let missing = |key: &str| {
        section.problem(key, format!("is required with the kind `{}`", kind.keys().0));
        None
    };
    let hook = match kind {
        HookKind::QueueByPartySize => {
            Hook::QueueByPartySize(by_size?.or_else(|| missing("queues").map(|(): ()| BTreeMap::new()))?)
        }
        HookKind::PartyMembership => Hook::PartyMembership,
        HookKind::TeamData => Hook::TeamData,
        HookKind::PeerToPeerHost => {
            Hook::PeerToPeerHost(property?.unwrap_or_else(|| DEFAULT_ADDRESS.to_owned()).into())
        }
        HookKind::Outside(HookPoint::FormMatch) if !of_queue => {
            section.problem("kind", "is `form_match`, which belongs to one queue: move it under that queue");
            return None;
        }
        HookKind::Outside(about) => {
            if id == Some(None) {
                missing("name").unwrap_or(());
            }
            if url == Some(None) {
                missing("url").unwrap_or(());
            }
            let id = id??;
            let key = key?;
            let url = url??;
            let address = HookAddress {
                url: url.as_str().into(),
                concurrency: concurrency?,
                breaker_failures: breaker_failures?,
                breaker_pause: breaker_pause?,
                key_env: key.as_ref().map(|key| key.variable.as_str().into()),
            };
            let (timeout, on_failure, interval) = (timeout?, on_failure?, interval?);
            let address = Some(address);
            let hook = OutsideHook { id, about, timeout, on_failure, interval, address };
            if key.is_some() && parse::is_open_to_others(&url) {
                section.warn("url", "is not https: anyone between here and there can read the key");
            }
            let place = HookConfig {
                url,
                timeout,
                concurrency: concurrency?,
                breaker_failures: breaker_failures?,
                breaker_pause: breaker_pause?,
                key,
            };
            return Some((Hook::Outside(hook), Some(place)));
        }
    };
    Some((hook, None))
}

/// The player's property with the address of a host, unless configured otherwise.
const DEFAULT_ADDRESS: &str = "address";

fn on_failure(name: &str) -> Option<OnFailure> {
    match name {
        "accept" => Some(OnFailure::Accept),
        "refuse" => Some(OnFailure::Refuse),
        _ => None,
    }
}

/// Whether every given key belongs to the kind; others are reported.
fn belongs(section: &Section<'_>, kind: HookKind) -> bool {
    let (name, keys) = kind.keys();
    let strangers = section.names().filter(|key| *key != "kind" && !keys.contains(key));
    let strangers: Vec<&str> = strangers.filter(|key| section.given(key)).collect();
    for key in &strangers {
        let known = keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        let takes = if known.is_empty() { "takes nothing else".to_owned() } else { format!("takes {known}") };
        section.problem(key, format!("means nothing with the kind `{name}`, which {takes}"));
    }
    strangers.is_empty()
}

/// Queues by number of players.
fn by_size(value: &Value, queues: &[&str]) -> Result<BTreeMap<u32, QueueId>, String> {
    let table = value
        .as_object()
        .ok_or_else(|| format!("must be a table of numbers of players to queues, is {}", kind_of(value)))?;
    let (mut good, mut faults) = (BTreeMap::new(), Vec::new());
    for (size, queue) in table {
        let number = size.parse().ok().filter(|size| (1..=MAX_TICKET_PLAYERS as u32).contains(size));
        let Some(number) = number else {
            let size = parse::quoted(size);
            faults.push(format!("{size} must be a number of players, 1 to {MAX_TICKET_PLAYERS}"));
            continue;
        };
        match one_of(queues, queue) {
            Ok(queue) => drop(good.insert(number, queue)),
            Err(fault) => faults.push(format!("{size} {fault}")),
        }
    }
    if table.is_empty() {
        faults.push("must name at least one queue".to_owned());
    }
    if faults.is_empty() { Ok(good) } else { Err(faults.join("; ")) }
}

fn key(section: &Section<'_>) -> Option<Option<HookKey>> {
    let variable = section.optional("key_env", |value| {
        let name = parse::variable_name(value)?;
        if name.starts_with(keys::PREFIX) {
            return Err(format!("must not begin with {}, as settings do", keys::PREFIX));
        }
        Ok(name)
    })?;
    let Some(variable) = variable else { return Some(None) };
    let Some(text) = section.variable(&variable) else {
        section.problem("key_env", format!("names the variable {variable}, which is not set"));
        return None;
    };
    if text.is_empty() || text.len() > MAX_KEY_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem = format!("leads to a key that is not 1 to {MAX_KEY_BYTES} printable ASCII characters");
        section.problem("key_env", problem);
        return None;
    }
    Some(Some(HookKey { variable, key: Secret::of(text.as_bytes()) }))
}

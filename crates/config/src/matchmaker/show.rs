//! The section as `sortie config show` writes it.

use std::collections::BTreeMap;

use sortie_domain::ids::{HookId, QueueId};
use sortie_domain::matchmaking::settings::{
    Backfill, ExpirationAction, Hook, Measure, OnFailure, OutsideHook, Queue, Rule, RuleKind,
};
use sortie_domain::properties::Properties;
use toml::Table;

use super::{HookConfig, HookKind, MatchmakerConfig, rules};
use crate::parse::show_size;
use crate::show::{put, put_some, shown};

type Places = BTreeMap<(Option<QueueId>, HookId), HookConfig>;

pub(crate) fn table(config: &MatchmakerConfig) -> Table {
    let MatchmakerConfig { settings, hooks: places } = config;
    let mut table = Table::new();
    put(&mut table, "status_expiration", shown(settings.status_expiration));
    put(&mut table, "tick", shown(settings.tick));
    put(&mut table, "waiting_bytes", show_size(settings.waiting_bytes));
    put(&mut table, "kept_bytes", show_size(settings.kept_bytes));
    put(&mut table, "queues_per_player", settings.queues_per_player);
    put(&mut table, "hooks", hooks(&settings.hooks, None, places));
    let mut queues = Table::new();
    for (id, settings) in &settings.queues {
        put(&mut queues, id.as_str(), queue(id, settings, places));
    }
    put(&mut table, "queues", queues);
    table
}

fn queue(id: &QueueId, queue: &Queue, places: &Places) -> Table {
    let mut table = Table::new();
    put(&mut table, "teams", queue.teams);
    put(&mut table, "players_per_team", queue.players_per_team);
    put(&mut table, "min_players_per_team", queue.min_players_per_team);
    put(&mut table, "ticket_expiration", shown(queue.ticket_expiration));
    let action = match queue.expiration_action {
        ExpirationAction::Drop => "drop",
        ExpirationAction::Minimum => "minimum",
    };
    put(&mut table, "expiration_action", action);
    put_some(&mut table, "accept", queue.accept.map(shown));
    let backfill = match queue.backfill {
        Backfill::Off => "off",
        Backfill::First => "first",
        Backfill::Last => "last",
    };
    put(&mut table, "backfill", backfill);
    put(&mut table, "seat_timeout", shown(queue.seat_timeout));
    put(&mut table, "max_requeues", queue.max_requeues);
    put_some(&mut table, "properties", properties(&queue.properties));
    put(&mut table, "hooks", hooks(&queue.hooks, Some(id), places));
    let mut rules = Table::new();
    for one in &queue.rules {
        put(&mut rules, &one.name, rule(one));
    }
    put(&mut table, "rules", rules);
    table
}

fn properties(properties: &Properties) -> Option<Table> {
    serde_json::from_str(properties.text()?).ok()
}

fn hooks(hooks: &[Hook], of: Option<&QueueId>, places: &Places) -> Vec<Table> {
    hooks.iter().map(|one| hook(one, of, places)).collect()
}

fn hook(hook: &Hook, of: Option<&QueueId>, places: &Places) -> Table {
    let mut table = Table::new();
    put(&mut table, "kind", HookKind::of(hook).keys().0);
    match hook {
        Hook::QueueByPartySize(queues) => {
            let mut by_size = Table::new();
            for (size, queue) in queues {
                put(&mut by_size, &size.to_string(), queue.as_str());
            }
            put(&mut table, "queues", by_size);
        }
        Hook::PartyMembership | Hook::TeamData => {}
        Hook::PeerToPeerHost(property) => put(&mut table, "property", &**property),
        Hook::Outside(hook) => {
            if let Some(place) = places.get(&(of.cloned(), hook.id.clone())) {
                outside(&mut table, hook, place);
            }
        }
    }
    table
}

fn outside(table: &mut Table, hook: &OutsideHook, place: &HookConfig) {
    put(table, "name", hook.id.as_str());
    put(table, "url", place.url.as_str());
    put(table, "timeout", shown(hook.timeout));
    let on_failure = match hook.on_failure {
        OnFailure::Accept => "accept",
        OnFailure::Refuse => "refuse",
    };
    put(table, "on_failure", on_failure);
    put(table, "concurrency", place.concurrency);
    put(table, "breaker_failures", place.breaker_failures);
    put(table, "breaker_pause", shown(place.breaker_pause));
    put_some(table, "interval", hook.interval.map(shown));
    put_some(table, "key_env", place.key.as_ref().map(|key| key.variable.as_str()));
}

fn rule(rule: &Rule) -> Table {
    let mut table = Table::new();
    put(&mut table, "kind", rules::name_of(&rule.kind));
    match &rule.kind {
        RuleKind::Equal { property } => put(&mut table, "property", &**property),
        RuleKind::Distance { property, measure, most, missing } => {
            put(&mut table, "property", &**property);
            let measure = match measure {
                Measure::Ticket => "ticket",
                Measure::Average => "average",
                Measure::Max => "max",
            };
            put(&mut table, "measure", measure);
            put(&mut table, "most", *most);
            put(&mut table, "missing", *missing);
        }
        RuleKind::Latency { most } => put(&mut table, "most", *most),
        RuleKind::Expression { expression, .. } => put(&mut table, "expression", expression.as_str()),
        RuleKind::NotBlocked => {}
        RuleKind::Balance { property, most, missing } => {
            put(&mut table, "property", &**property);
            put_some(&mut table, "most", most.is_finite().then_some(*most));
            put(&mut table, "missing", *missing);
        }
    }
    let steps: Vec<Table> = rule.widen.iter().map(step).collect();
    if !steps.is_empty() {
        put(&mut table, "widen", steps);
    }
    put_some(&mut table, "relax_after", rule.relax_after.map(shown));
    table
}

fn step(step: &sortie_domain::matchmaking::settings::WidenStep) -> Table {
    let mut table = Table::new();
    put(&mut table, "after", shown(step.after));
    put(&mut table, "most", step.value);
    table
}

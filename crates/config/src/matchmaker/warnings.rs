//! Settings of queues that are each allowed but conflict.

use sortie_domain::ids::QueueId;
use sortie_domain::matchmaking::Settings;
use sortie_domain::matchmaking::settings::{
    Backfill, ExpirationAction, Hook, OnFailure, Queue, largest_ticket,
};

use super::MatchmakerConfig;
use crate::section::Section;

/// Reports every contradiction as a warning below `top`.
pub(crate) fn warn(top: &Section<'_>, config: &MatchmakerConfig) {
    let settings = &config.settings;
    if settings.queues.is_empty() {
        top.warn_below(
            &["matchmaker", "queues"],
            "has no queue, so no ticket can be started. Configure one, or leave `[matchmaker]` out",
        );
    }
    for (id, queue) in &settings.queues {
        sizes(top, id, queue);
        rules(top, id, queue);
        hooks(top, id, queue, settings);
    }
    routes(top, &["matchmaker", "hooks"], &settings.hooks, settings);
}

fn of_queue(top: &Section<'_>, id: &QueueId, keys: &[&str], text: impl Into<String>) {
    top.warn_below(&[&["matchmaker", "queues", id.as_str()], keys].concat(), text);
}

fn sizes(top: &Section<'_>, id: &QueueId, queue: &Queue) {
    let minimum = queue.expiration_action == ExpirationAction::Minimum;
    if queue.full().is_none() && !minimum && queue.former().is_none() {
        let text = "is `drop`, but a match without a number of players is made of the waiting tickets when a ticket expires: \
                    no match is ever formed. Make it `minimum`, or give `players_per_team`";
        of_queue(top, id, &["expiration_action"], text);
    }
    if minimum && queue.teams > 0 && queue.min_players_per_team == queue.players_per_team {
        let text = "is `minimum`, but `min_players_per_team` is as large as `players_per_team`: a ticket that expires gets \
                    no smaller match. Make that smaller";
        of_queue(top, id, &["expiration_action"], text);
    }
}

fn rules(top: &Section<'_>, id: &QueueId, queue: &Queue) {
    let longest = queue.ticket_expiration;
    let shown = humantime::format_duration(longest);
    for rule in &queue.rules {
        if rule.widen.iter().any(|step| step.after >= longest) {
            let text = format!(
                "has a step that is never reached: `ticket_expiration` of the queue is {shown}. Make it earlier"
            );
            of_queue(top, id, &["rules", &rule.name, "widen"], text);
        }
        if rule.relax_after.is_some_and(|after| after >= longest) {
            let text =
                format!("is never reached: `ticket_expiration` of the queue is {shown}. Make it shorter");
            of_queue(top, id, &["rules", &rule.name, "relax_after"], text);
        }
    }
    let never_used = queue.former().is_some_and(|hook| hook.on_failure == OnFailure::Refuse);
    if never_used && !queue.rules.is_empty() {
        let text = "are never used: a hook forms the matches, and if it fails (`on_failure` is `refuse`) no matches are formed";
        of_queue(top, id, &["rules"], text);
    }
}

fn hooks(top: &Section<'_>, id: &QueueId, queue: &Queue, settings: &Settings) {
    let stack = || settings.hooks.iter().chain(&queue.hooks);
    let hosted = stack().any(|hook| matches!(hook, Hook::PeerToPeerHost(_)));
    if hosted && queue.backfill != Backfill::Off {
        let text =
            "is on, but with a hook `peer_to_peer_host` matches have no server that could have free seats";
        of_queue(top, id, &["backfill"], text);
    }
    routes(top, &["matchmaker", "queues", id.as_str(), "hooks"], &queue.hooks, settings);
}

/// Parties that are sent to a queue whose teams are too small for them.
fn routes(top: &Section<'_>, keys: &[&str], hooks: &[Hook], settings: &Settings) {
    let routes = hooks.iter().filter_map(|hook| match hook {
        Hook::QueueByPartySize(queues) => Some(queues),
        _ => None,
    });
    for (size, id) in routes.flatten() {
        let Some(most) = settings.queues.get(id).map(largest_ticket) else { continue };
        if *size as usize > most {
            let text = format!(
                "send parties of {size} players to the queue {id}, which takes at most {most}: they are refused"
            );
            top.warn_below(keys, text);
        }
    }
}

//! Settings that are each allowed but conflict: requirements that no match can meet, timers that prevent each other
//! from firing.
//!
//! A warning here is certain, so readers need not ask whether the setting is intended. Requirements are therefore
//! compared only by what the domain can prove: equalities that contradict each other.

use std::collections::BTreeMap;
use std::time::Duration;

use sortie_domain::broker::always::is_always_met;
use sortie_domain::broker::conjuncts::Conjuncts;
use sortie_domain::broker::model::{FastSchedule, Fleet};
use sortie_domain::game::GameVersion;
use sortie_domain::properties::Properties;

use crate::matchmaker;
use crate::model::{Config, FleetConfig};
use crate::netcode::{KeySource, NetcodeKey};
use crate::players::{PlayerKeys, PlayersConfig};
use crate::secret::SecretSource;
use crate::section::Section;

/// Reports every contradiction as a warning below `top`, and possibly intended ones as remarks.
pub(crate) fn warn(top: &Section<'_>, config: &Config) {
    timers_of_broker(top, config);
    timers_of_gateway(top, config);
    for fleet in &config.fleets {
        timers_of_fleet(top, config, fleet);
        warm_pool(top, config, fleet);
        fleet.allocator.warn(top, config, fleet);
        requirements(top, fleet);
        takes_anything(top, config, fleet);
    }
    matches_without_a_game(top, config);
    games_without_a_fleet(top, config);
    if let Some(matchmaker) = &config.matchmaker {
        matchmaker::warnings::warn(top, matchmaker);
    }
}

fn shown(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(duration)
}

fn timers_of_broker(top: &Section<'_>, config: &Config) {
    let broker = &config.broker;
    let lifetime = broker.server_max_lifetime;
    let warn = |key, text: String| top.warn_below(&["broker", key], text);
    if broker.lifetime_ends_matches {
        if lifetime < broker.match_max_run_time {
            warn(
                "server_max_lifetime",
                format!(
                    "is shorter than `match_max_run_time`, which is {}: a server that becomes too old is stopped with \
                     the matches on it. Make it longer than the longest match",
                    shown(broker.match_max_run_time)
                ),
            );
        }
    } else if lifetime <= broker.longest_match() {
        warn(
            "server_max_lifetime",
            format!(
                "is not longer than `match_ready_time` and `match_max_run_time` together, which are {}: servers take \
                 matches for the first half of it and outlive it with them. Make it longer",
                shown(broker.longest_match())
            ),
        );
    }
    if broker.lifetime_ends_matches && lifetime <= broker.match_ready_time {
        warn(
            "match_ready_time",
            format!(
                "is not shorter than `server_max_lifetime`, which is {}: it never fires, because the server is \
                 stopped before. Make it shorter",
                shown(lifetime)
            ),
        );
    }
    // In the other modes a server is ordered at once, and the schedule only retries.
    if broker.fast_schedule != FastSchedule::OnSchedule {
        return;
    }
    let (delay, longest) = (broker.delay_allocation, broker.match_pickup_time);
    if delay >= longest {
        warn(
            "delay_allocation",
            format!(
                "is not shorter than `match_pickup_time`, which is {}: with `fast_schedule` 0 every match fails \
                 before a server may be ordered for it. Make it shorter",
                shown(longest)
            ),
        );
    } else if delay + broker.schedule_frequency > longest {
        warn(
            "schedule_frequency",
            format!(
                "does not guarantee a run of the schedule between `delay_allocation` and `match_pickup_time`, {} and \
                 {}: with `fast_schedule` 0 matches fail for which no server was ever ordered. Make it at most {}",
                shown(delay),
                shown(longest),
                shown(longest - delay)
            ),
        );
    }
}

fn timers_of_gateway(top: &Section<'_>, config: &Config) {
    let wait = config.gateway.wait_deadline;
    let slow = config.fleets.iter().filter(|fleet| fleet.game.is_some() && fleet.fleet.ready_deadline > wait);
    for fleet in slow {
        let text = format!(
            "is shorter than the `ready_deadline` of the fleet {}, which is {}: players are sent away while the \
             server that was started for them may still come. Make it longer, or the other shorter",
            fleet.fleet.id,
            shown(fleet.fleet.ready_deadline)
        );
        top.warn_below(&["gateway", "wait_deadline"], text);
    }
}

fn timers_of_fleet(top: &Section<'_>, config: &Config, fleet: &FleetConfig) {
    let (broker, id) = (&config.broker, fleet.fleet.id.as_str());
    let warn = |keys: &[&str], text: String| {
        top.warn_below(&[&["fleets", id][..], keys].concat(), text);
    };
    let deadline = fleet.fleet.ready_deadline;
    if deadline >= broker.server_max_lifetime {
        warn(
            &["ready_deadline"],
            format!(
                "is not shorter than `broker.server_max_lifetime`, which is {}: it never fires, because the server is \
                 stopped before. Make it shorter",
                shown(broker.server_max_lifetime)
            ),
        );
    }
    if deadline > broker.match_pickup_time {
        warn(
            &["ready_deadline"],
            format!(
                "is longer than `broker.match_pickup_time`, which is {}: a match fails while the server that was \
                 ordered for it may still come. Make it shorter, or the other longer",
                shown(broker.match_pickup_time)
            ),
        );
    }
    if fleet.game.is_some() && fleet.seat_ttl > broker.match_max_run_time {
        warn(
            &["seat_ttl"],
            format!(
                "is longer than `broker.match_max_run_time`, which is {}: the match is over before a seat that \
                 nobody claims is given to somebody else. Make it shorter",
                shown(broker.match_max_run_time)
            ),
        );
    }
    let Some(longest) = fleet.allocator.max_run_time() else { return };
    let warn = |text: String| warn(&[fleet.allocator.platform(), "max_run_time"], text);
    if !broker.lifetime_ends_matches && longest <= broker.longest_match() {
        warn(format!(
            "is not longer than `broker.match_ready_time` and `broker.match_max_run_time` together, which are {}: \
             servers take matches for the first half of it and are stopped with those that last too long. Make it longer",
            shown(broker.longest_match())
        ));
    } else if longest < broker.match_max_run_time {
        warn(format!(
            "is shorter than `broker.match_max_run_time`, which is {}: servers are stopped with the matches on \
             them. Make it longer than the longest match",
            shown(broker.match_max_run_time)
        ));
    }
    if deadline >= longest {
        warn(format!(
            "is not longer than `ready_deadline`, which is {}: a server is stopped while it may still become \
             ready. Make it longer",
            shown(deadline)
        ));
    }
}

/// A warm pool whose old servers cannot be replaced before they are too old for a match.
fn warm_pool(top: &Section<'_>, config: &Config, fleet: &FleetConfig) {
    let Fleet { id, warm, max, .. } = &fleet.fleet;
    if *warm == 0 || config.broker.lifetime_ends_matches {
        return;
    }
    let keys = ["fleets", id.as_str(), "max"];
    if !config.broker.replaces_in_time(&fleet.fleet) {
        let text = format!(
            "leaves too little room for replacements: if the {warm} `warm` servers are equally old, some of them are \
             too old for a match before they are replaced. Make it larger, up to {}, or \
             `broker.server_max_lifetime` longer",
            warm.saturating_mul(2)
        );
        top.warn_below(&keys, text);
    } else if max == warm {
        let text = format!(
            "is not larger than `warm`: while an old server is replaced, {} of {warm} `warm` servers are ready. To \
             keep all of them ready, set it to {} or more",
            warm - 1,
            warm.saturating_add(1)
        );
        top.remark_below(&keys, text);
    }
}

/// Variables from which `sortie dispatch` takes its secret.
const SECRETS_OF_DISPATCHERS: [&str; 2] = ["PLACE_SERVER_SECRET", "SERVER_SECRET"];

/// Variables with secrets of the control plane, and what they contain.
pub(crate) fn secret_variables(config: &Config) -> BTreeMap<&str, &'static str> {
    let dispatchers = SECRETS_OF_DISPATCHERS.map(|name| (name, "the secret of dispatchers"));
    let mut variables = BTreeMap::from(dispatchers);
    if let Some(PlayersConfig { keys: PlayerKeys::Secret(SecretSource::Variable(name), _), .. }) =
        &config.players
    {
        variables.insert(name, "the secret that player tokens are checked with (`players.secret_env`)");
    }
    if let Some((SecretSource::Variable(name), _)) = &config.dispatch.secret {
        variables.insert(name, "the secret of the dispatcher (`dispatch.secret_env`)");
    }
    if let Some(KeySource::Variable(name)) = config.netcode_key.as_ref().map(NetcodeKey::source) {
        let text = "the key that connect tokens are sealed with (`netcode.key_env`; servers that need it get it as \
                    SORTIE_NETCODE_KEY)";
        variables.insert(name, text);
    }
    let hooks = config.matchmaker.iter().flat_map(|matchmaker| matchmaker.hooks.values());
    let keys = hooks.filter_map(|hook| hook.key.as_ref());
    variables
        .extend(keys.map(|key| (key.variable.as_str(), "the key that is sent to a hook (its `key_env`)")));
    variables
}

/// What an expression demands; nothing if it is invalid, which is reported elsewhere.
fn demands(text: &str) -> Conjuncts {
    Conjuncts::of(text).unwrap_or_default()
}

/// The requirements of the fleet's own servers, if they are known.
fn of_servers(fleet: &FleetConfig) -> Option<&str> {
    if let Some(text) = &fleet.server_requirements {
        return Some(text);
    }
    fleet.allocator.server_requirements()
}

/// The properties of a match that the gateway makes, whichever fleet it is for.
fn properties(game: &GameVersion) -> Properties {
    let properties = serde_json::json!({"game": game.name, "version": game.version});
    Properties::parse(&properties.to_string()).unwrap_or_default()
}

/// A fleet without `game` and `requirements` next to others, which do not get the matches that it takes first. Without
/// other fleets that may well be intended.
fn takes_anything(top: &Section<'_>, config: &Config, fleet: &FleetConfig) {
    let is_open = fleet.game.is_none() && is_always_met(&fleet.fleet.requirements).unwrap_or(false);
    if !is_open {
        return;
    }
    let says = if fleet.fleet.requirements.is_empty() {
        "has neither `game` nor `requirements`"
    } else {
        "has no `game`, and its `requirements` are met by every match"
    };
    let keys = ["fleets", fleet.fleet.id.as_str()];
    if config.fleets.len() > 1 {
        let text = format!(
            "{says}: its servers take any match, including those for other fleets. Say which matches it is \
             for"
        );
        top.warn_below(&keys, text);
    } else {
        top.remark_below(&keys, format!("{says}: its servers take any match"));
    }
}

/// The default fleet takes matches that name no game only if every fleet has a game.
fn matches_without_a_game(top: &Section<'_>, config: &Config) {
    if config.gateway.default_fleet.is_none() {
        return;
    }
    let without: Vec<_> = config.fleets.iter().filter(|fleet| fleet.game.is_none()).collect();
    let open = |fleet: &&FleetConfig| is_always_met(&fleet.fleet.requirements).unwrap_or(true);
    if without.is_empty() || without.iter().any(open) {
        return;
    }
    let names: Vec<_> = without.iter().map(|fleet| fleet.fleet.id.as_str()).collect();
    let (which, what, those) = match names.as_slice() {
        [only] => (format!("the fleet {only} has none"), "its", "that one"),
        all => (format!("the fleets {} have none", all.join(", ")), "their", "those"),
    };
    let text = format!(
        "gets no matches that name no `game`, because {which}: those that do not meet {what} `requirements` find no \
         fleet. If the default fleet is to have them, give {those} a `game`"
    );
    top.remark_below(&["gateway", "default_fleet"], text);
}

fn requirements(top: &Section<'_>, fleet: &FleetConfig) {
    let own = demands(&fleet.fleet.requirements);
    let servers = of_servers(fleet).map(demands).unwrap_or_default();
    let warn = |key, text: String| top.warn_below(&["fleets", fleet.fleet.id.as_str(), key], text);
    let own_key = "requirements";
    let servers_key =
        if fleet.server_requirements.is_some() { "server_requirements" } else { fleet.allocator.platform() };
    for (key, demands) in [(own_key, &own), (servers_key, &servers)] {
        if let Some(found) = demands.contradiction(demands) {
            warn(key, format!("can never be met: {found}. Take one of the two out, or join them by `||`"));
        }
    }
    if let Some(found) = own.contradiction(&servers) {
        warn(
            own_key,
            format!(
                "and what the fleet's own servers ask for can never both be met: {found}. Servers are started for \
                 matches that they then refuse. Make the two alike"
            ),
        );
    }
    let Some(game) = &fleet.game else { return };
    for (key, demands) in [(own_key, &own), (servers_key, &servers)] {
        if let Some(found) = demands.contradiction_with(&properties(game)) {
            warn(
                key,
                format!(
                    "{} the matches that the gateway makes for this fleet: {} would have to be {}, and is {}. Players \
                     never get a seat. Ask for the fleet's `game` and `version`, or leave them out",
                    if key == own_key { "never accepts" } else { "contains a filter that never accepts" },
                    found.path,
                    found.one,
                    found.other
                ),
            );
        }
    }
}

/// Games and versions that players can name but no fleet can ever run.
fn games_without_a_fleet(top: &Section<'_>, config: &Config) {
    let takes = |fleet: &FleetConfig, game: &GameVersion| {
        let (own, servers) =
            (demands(&fleet.fleet.requirements), of_servers(fleet).map(demands).unwrap_or_default());
        let properties = properties(game);
        own.contradiction(&own).is_none()
            && own.contradiction(&servers).is_none()
            && servers.contradiction(&servers).is_none()
            && own.contradiction_with(&properties).is_none()
            && servers.contradiction_with(&properties).is_none()
    };
    let games: std::collections::BTreeSet<&GameVersion> =
        config.fleets.iter().filter_map(|fleet| fleet.game.as_ref()).collect();
    let default = config.gateway.default_fleet.as_ref();
    let default = config.fleets.iter().find(|fleet| Some(&fleet.fleet.id) == default);
    for game in games {
        let mut fleets = config.fleets.iter().filter(|fleet| fleet.game.as_ref() == Some(game));
        if fleets.any(|fleet| takes(fleet, game)) {
            continue;
        }
        let (name, version) = (&game.name, &game.version);
        let text = format!(
            "no fleet can ever take the game {name} in version {version}: see the warnings of the fleets that have it"
        );
        let is_default = default.is_some_and(|fleet| fleet.game.as_ref() == Some(game));
        top.warn_below(if is_default { &["gateway", "default_fleet"] } else { &["fleets"] }, text);
    }
}

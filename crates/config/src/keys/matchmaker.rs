//! The rows of `matchmaker`: queues, rules and hooks.

use super::Kind::{Choice, Duration, Number, Size, Table, Text};
use super::Presence::{Default, Optional, Required};
use super::{KeyDoc, count, key};
use crate::matchmaker::{HookKind, RuleName, names};

/// What the keys of a hook mean: the matchmaker's and each queue's have the same.
struct HookMeanings {
    outside: &'static str,
    kind: &'static str,
    name: &'static str,
    url: &'static str,
    timeout: &'static str,
    on_failure: &'static str,
    concurrency: &'static str,
    breaker_failures: &'static str,
    breaker_pause: &'static str,
    interval: &'static str,
    key_env: &'static str,
    queues: &'static str,
    property: &'static str,
}

const HOOK: HookMeanings = HookMeanings {
    outside: "required with `validate_ticket`, `form_match` and `new_match`",
    kind: "What has a say about tickets and matches, in the order of the list, the matchmaker's before the queue's. The last three are called by HTTP; `form_match` only under a queue. At most 16.",
    name: "Names a hook that is called: each once among the matchmaker's and one queue's.",
    url: "Called by `POST` with JSON: `http` or `https`, without user, query or fragment.",
    timeout: "Longest time of a call, the wait for its turn included, 10ms to 1m.",
    on_failure: "What happens where it fails: as if it had no objection (`form_match`: the rules form), or as if it had refused (`form_match`: nobody does).",
    concurrency: "Calls at a time for one queue, 1 to 1000; further ones wait.",
    breaker_failures: "After so many failures in a row it is not called for `breaker_pause`, 1 to 1000; then one call tries.",
    breaker_pause: "How long it is left alone then, 10ms to 1h.",
    interval: "`form_match`: how long after an answer it is asked again about those who still wait, 100ms to 1h, where nothing is new.",
    key_env: "Name of the environment variable with a key that is sent as `authorization: Bearer …`.",
    queues: "`queue_by_party_size`: the queue for each number of players, like `{ 1 = \"solo\", 2 = \"duo\" }`.",
    property: "`peer_to_peer_host`: the first player's property with the address that all connect to.",
};

/// In the order of a file.
pub(super) static MATCHMAKER: &[KeyDoc] = &[
    key(
        "matchmaker.status_expiration",
        Duration,
        Default("10m"),
        "How long the status of a ticket that is over can be asked for, up to 366d. The matchmaker runs where the table `[matchmaker]` is there, even if it is empty.",
    ),
    key(
        "matchmaker.waiting_bytes",
        Size,
        Default("512MiB"),
        "Bytes of tickets that are not over, matches that are being made and offers of free seats, 1MiB to 1TiB. What comes beyond them gets 429 (`too_many`). A ticket of one player with a rating takes some 1,600 bytes, so a million of them need 2GiB; the process takes about twice as much memory.",
    ),
    key(
        "matchmaker.kept_bytes",
        Size,
        Default("128MiB"),
        "Bytes of tickets that are over and can still be asked for, 1MiB to 1TiB. Beyond them the properties of all go first, then the tickets, the oldest first, before `status_expiration`.",
    ),
    key("matchmaker.tick", Duration, Default("100ms"), "Matches are formed so often, 1ms to 1m."),
    key("matchmaker.hooks[].kind", Choice(HookKind::NAMES), Required, HOOK.kind),
    key("matchmaker.hooks[].name", Text, Optional(HOOK.outside), HOOK.name),
    key("matchmaker.hooks[].url", Text, Optional(HOOK.outside), HOOK.url),
    key("matchmaker.hooks[].timeout", Duration, Default("2s"), HOOK.timeout),
    key("matchmaker.hooks[].on_failure", Choice(names::ON_FAILURE), Default("accept"), HOOK.on_failure),
    count("matchmaker.hooks[].concurrency", "calls", Default("16"), HOOK.concurrency),
    count("matchmaker.hooks[].breaker_failures", "calls", Default("5"), HOOK.breaker_failures),
    key("matchmaker.hooks[].breaker_pause", Duration, Default("10s"), HOOK.breaker_pause),
    key("matchmaker.hooks[].key_env", Text, Optional("no key is sent"), HOOK.key_env),
    key(
        "matchmaker.hooks[].queues",
        Table,
        Optional("required with the kind `queue_by_party_size`"),
        HOOK.queues,
    ),
    key("matchmaker.hooks[].property", Text, Optional("`address`"), HOOK.property),
    count(
        "matchmaker.queues.<name>.teams",
        "teams",
        Default("2"),
        "Teams of a match. 1: no teams. 0: a match of the tickets that wait when a ticket expires, or of `players_per_team` before that.",
    ),
    count(
        "matchmaker.queues.<name>.players_per_team",
        "players",
        Optional("allowed only with `teams` 0, where it means no limit"),
        "Players of a full team. A match has at most 1000.",
    ),
    count(
        "matchmaker.queues.<name>.min_players_per_team",
        "players",
        Optional("`players_per_team`: teams are full; 1 with `teams` 0"),
        "Players that a team has at least: the size asked for sinks to it in equal steps as a ticket nears expiry.",
    ),
    key(
        "matchmaker.queues.<name>.ticket_expiration",
        Duration,
        Default("2m"),
        "Longest wait of a ticket, 1s to 366d.",
    ),
    key(
        "matchmaker.queues.<name>.expiration_action",
        Choice(names::EXPIRATION_ACTIONS),
        Default("drop"),
        "What happens then: it times out, or gets a match of the tickets that wait with teams of at least the minimum.",
    ),
    key(
        "matchmaker.queues.<name>.accept",
        Duration,
        Optional("nobody is asked"),
        "How long players have to accept a match, 1s to 1h. Who does not leaves; the others return to their place.",
    ),
    key(
        "matchmaker.queues.<name>.backfill",
        Choice(names::BACKFILLS),
        Default("off"),
        "Whether tickets take free seats of running matches: before a new match is formed, or where none can be.",
    ),
    key(
        "matchmaker.queues.<name>.seat_timeout",
        Duration,
        Default("30s"),
        "How long a ticket waits for such seats before it returns to its place, 1s to 1h.",
    ),
    count(
        "matchmaker.queues.<name>.max_requeues",
        "times",
        Default("3"),
        "How often a ticket returns to its place when no server could be had, before it fails: up to 1000.",
    ),
    key(
        "matchmaker.queues.<name>.properties",
        Table,
        Optional("only those in which all tickets of a match agree"),
        "Properties of every match, like `{game = \"arena\", version = \"1\"}`: what its server is found by. They come before those of tickets.",
    ),
    key("matchmaker.queues.<name>.hooks[].kind", Choice(HookKind::NAMES), Required, HOOK.kind),
    key("matchmaker.queues.<name>.hooks[].name", Text, Optional(HOOK.outside), HOOK.name),
    key("matchmaker.queues.<name>.hooks[].url", Text, Optional(HOOK.outside), HOOK.url),
    key("matchmaker.queues.<name>.hooks[].timeout", Duration, Default("2s"), HOOK.timeout),
    key(
        "matchmaker.queues.<name>.hooks[].on_failure",
        Choice(names::ON_FAILURE),
        Default("accept"),
        HOOK.on_failure,
    ),
    count("matchmaker.queues.<name>.hooks[].concurrency", "calls", Default("16"), HOOK.concurrency),
    count("matchmaker.queues.<name>.hooks[].breaker_failures", "calls", Default("5"), HOOK.breaker_failures),
    key("matchmaker.queues.<name>.hooks[].breaker_pause", Duration, Default("10s"), HOOK.breaker_pause),
    key("matchmaker.queues.<name>.hooks[].interval", Duration, Optional("5s"), HOOK.interval),
    key("matchmaker.queues.<name>.hooks[].key_env", Text, Optional("no key is sent"), HOOK.key_env),
    key(
        "matchmaker.queues.<name>.hooks[].queues",
        Table,
        Optional("required with the kind `queue_by_party_size`"),
        HOOK.queues,
    ),
    key("matchmaker.queues.<name>.hooks[].property", Text, Optional("`address`"), HOOK.property),
    key(
        "matchmaker.queues.<name>.rules.<name>.kind",
        Choice(RuleName::NAMES),
        Required,
        "What tickets of one match must have in common. A queue has at most 32 rules.",
    ),
    key(
        "matchmaker.queues.<name>.rules.<name>.property",
        Text,
        Optional("required with `equal`, `distance` and `balance`"),
        "Name of the property or rating that is compared; names of nested properties are joined by dots.",
    ),
    key(
        "matchmaker.queues.<name>.rules.<name>.measure",
        Choice(names::MEASURES),
        Optional("`average`"),
        "`distance`: how a ticket of several players gets its number: from its own properties, or from its players' ratings.",
    ),
    key(
        "matchmaker.queues.<name>.rules.<name>.most",
        Number,
        Optional("required with `distance` and `latency`; with `balance`: as even as can be"),
        "What is allowed at first, 0 to 1e12: the distance, the round trip in milliseconds, or how far the averages of teams may be apart.",
    ),
    key(
        "matchmaker.queues.<name>.rules.<name>.missing",
        Number,
        Optional("0"),
        "`distance` and `balance`: the number of a player who has none, -1e12 to 1e12.",
    ),
    key(
        "matchmaker.queues.<name>.rules.<name>.expression",
        Text,
        Optional("required with `required`, `preferred` and `ticket`"),
        "JMESPath over `{ticket, candidate}`, each `{id, size, players, properties, ratings, player_properties}`; with `ticket` over `{ticket}`.",
    ),
    key(
        "matchmaker.queues.<name>.rules.<name>.relax_after",
        Duration,
        Optional("it holds for good"),
        "After this wait of a ticket it demands nothing any more, 1ms to 366d.",
    ),
    key(
        "matchmaker.queues.<name>.rules.<name>.widen[].after",
        Duration,
        Required,
        "A ticket that has waited for so long, 1ms to 366d, …",
    ),
    key(
        "matchmaker.queues.<name>.rules.<name>.widen[].most",
        Number,
        Required,
        "… is allowed this in place of the rule's own `most`. Each step is later and larger than the one before; at most 16.",
    ),
];

//! A recording as lines of JSON, one per ticket: `{"at": "2026-01-31T12:00:00.000Z", "ticket": {…}, "left_at": null}`.
//!
//! The ticket has the same form as in events and hooks (`sortie_wire::documents`). Only `at`, and in `ticket` a `queue`
//! and at least one player are required, so that other programs can write such files easily.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sortie_domain::ids::{BadId, PlayerId, QueueId, RegionId, TicketId};
use sortie_domain::matchmaking::model::{MAX_LATENCY, Party, Player, TicketSpec, whole_millis};
use sortie_domain::properties::Properties;
use sortie_domain::time::Timestamp;
use sortie_wire::documents;

use crate::recording::{Arrival, MAX_ARRIVALS};

/// Maximum length of a line, in bytes.
pub const MAX_LINE_BYTES: usize = 4 << 20;

/// Why a file is not a recording.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct BadLine {
    /// Counts from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// A ticket as a line, without the line break.
#[must_use]
pub fn write(arrival: &Arrival) -> String {
    let time = |at: Timestamp| {
        humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + Duration::from_millis(at.as_millis()))
            .to_string()
    };
    json!({
        "at": time(arrival.at),
        "ticket": documents::ticket_spec(&arrival.id, &arrival.spec),
        "left_at": arrival.left_at.map(time),
    })
    .to_string()
}

/// The tickets of a file, sorted by time. Skips empty lines.
///
/// # Errors
/// [`BadLine`]: the first bad line.
pub fn read(mut file: impl BufRead) -> Result<Vec<Arrival>, BadLine> {
    let mut arrivals = Vec::new();
    let mut bytes = Vec::new();
    for line in 1.. {
        let bad = |problem: String| BadLine { line, problem };
        bytes.clear();
        let mut within = std::io::Read::take(&mut file, MAX_LINE_BYTES as u64 + 1);
        let length = within.read_until(b'\n', &mut bytes).map_err(|error| bad(error.to_string()))?;
        if length == 0 {
            break;
        }
        if length > MAX_LINE_BYTES {
            return Err(bad(format!("is longer than {MAX_LINE_BYTES} bytes")));
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        if arrivals.len() == MAX_ARRIVALS {
            return Err(bad(format!("is one too many: at most {MAX_ARRIVALS} tickets can be replayed")));
        }
        let read: Line = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
        arrivals.push(read.arrival(line).map_err(bad)?);
    }
    arrivals.sort_by_key(|arrival| arrival.at);
    Ok(arrivals)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    at: String,
    ticket: Ticket,
    #[serde(default)]
    left_at: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ticket {
    #[serde(default)]
    ticket_id: Option<String>,
    queue: String,
    parties: Vec<PartyLine>,
    #[serde(default)]
    leader: Option<String>,
    #[serde(default)]
    properties: Option<Map<String, Value>>,
    #[serde(default)]
    latencies: BTreeMap<String, f64>,
    /// The ticket that it replaces.
    #[serde(default)]
    replaces: Option<String>,
    /// Ignored: `left_at` says when its players left.
    #[serde(default, rename = "ttl")]
    _ttl: Option<u64>,
    /// Ignored: each line is a ticket.
    #[serde(default, rename = "idempotency_key")]
    _idempotency_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PartyLine {
    #[serde(default)]
    id: Option<String>,
    players: Vec<PlayerLine>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlayerLine {
    id: String,
    #[serde(default)]
    ratings: BTreeMap<String, f64>,
    #[serde(default)]
    latencies: BTreeMap<String, f64>,
    #[serde(default)]
    blocked: Vec<String>,
    #[serde(default)]
    properties: Option<Map<String, Value>>,
}

impl Line {
    fn arrival(self, line: usize) -> Result<Arrival, String> {
        let ticket = self.ticket;
        let named = ticket.ticket_id.unwrap_or_else(|| format!("line-{line}"));
        let parties = ticket.parties.into_iter().map(PartyLine::party).collect::<Result<_, _>>()?;
        let replaces = ticket.replaces.map(|id| TicketId::new(&id).map_err(|bad| of("replaces", &bad)));
        let spec = TicketSpec {
            queue: QueueId::new(&ticket.queue).map_err(|bad| of("queue", &bad))?,
            parties,
            leader: ticket.leader.map(|id| player_id("leader", &id)).transpose()?,
            properties: properties(ticket.properties)?,
            latencies: latencies(ticket.latencies)?,
            idempotency_key: None,
            ttl: None,
            replaces: replaces.transpose()?,
        };
        let at = time("at", &self.at)?;
        let left_at = self.left_at.map(|at| time("left_at", &at)).transpose()?;
        if left_at.is_some_and(|left| left < at) {
            return Err("left_at: must not be before `at`".to_owned());
        }
        let id = TicketId::new(&named).map_err(|bad| of("ticket_id", &bad))?;
        Ok(Arrival { id, at, spec: Arc::new(spec), left_at })
    }
}

impl PartyLine {
    fn party(self) -> Result<Party, String> {
        let players = self.players.into_iter().map(PlayerLine::player).collect::<Result<_, _>>()?;
        Ok(Party { id: self.id.map(Into::into), players })
    }
}

impl PlayerLine {
    fn player(self) -> Result<Player, String> {
        let blocked = self.blocked.iter().map(|id| player_id("blocked", id)).collect::<Result<_, _>>()?;
        Ok(Player {
            id: player_id("id", &self.id)?,
            ratings: self.ratings.into_iter().map(|(name, rating)| (name.into(), rating)).collect(),
            latencies: latencies(self.latencies)?,
            blocked,
            properties: properties(self.properties)?,
        })
    }
}

fn of(field: &str, bad: &BadId) -> String {
    format!("{field}: {bad}")
}

fn player_id(field: &str, id: &str) -> Result<PlayerId, String> {
    PlayerId::new(id).map_err(|bad| of(field, &bad))
}

fn properties(given: Option<Map<String, Value>>) -> Result<Properties, String> {
    let text = given.filter(|given| !given.is_empty()).map(|given| Value::Object(given).to_string());
    Properties::parse(&text.unwrap_or_default()).map_err(|problem| format!("properties: {problem}"))
}

fn latencies(given: BTreeMap<String, f64>) -> Result<BTreeMap<RegionId, u32>, String> {
    let read = |(region, measured): (String, f64)| {
        let region = RegionId::new(&region).map_err(|bad| of("latencies", &bad))?;
        let too_far = || format!("latencies: must be milliseconds from 0 to {MAX_LATENCY}");
        Ok((region, whole_millis(measured).ok_or_else(too_far)?))
    };
    given.into_iter().map(read).collect()
}

fn time(field: &str, text: &str) -> Result<Timestamp, String> {
    let wrong = || format!("{field}: must be a time like 2026-01-31T12:00:00Z");
    let time = humantime::parse_rfc3339(text).map_err(|_| wrong())?;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| wrong())?;
    u64::try_from(since.as_millis()).map(Timestamp::from_millis).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{"at": "2026-01-31T12:00:01.5Z", "left_at": "2026-01-31T12:00:09Z", "ticket": {
        "ticket_id": "t-1", "queue": "ranked", "replaces": "t-0", "leader": "ann", "properties": {"map": "forest"}, "latencies": {"eu": 20},
        "parties": [{"id": "p", "players": [{"id": "ann", "ratings": {"mmr": 1500.5}, "latencies": {"us": 90},
        "blocked": ["bob"], "properties": {"level": 3}}]}]}}"#;

    fn line(text: &str) -> String {
        text.replace('\n', " ")
    }

    #[test]
    fn what_is_written_is_read_again() {
        let read_once = read(line(FULL).as_bytes()).unwrap();
        let arrival = read_once.first().unwrap();
        assert_eq!(arrival.id.as_str(), "t-1");
        assert_eq!(arrival.left_at.unwrap().since(arrival.at), Duration::from_millis(7_500));
        assert_eq!(read(write(arrival).as_bytes()).unwrap(), read_once);
    }

    #[test]
    fn few_fields_are_required_and_tickets_are_sorted_by_time() {
        let least = r#"{"at": "2026-01-31T12:00:00Z", "ticket": {"queue": "q", "parties": [{"players": [{"id": "bob"}]}]}}"#;
        let file = format!("{}\n\n{least}\n", line(FULL));
        let ids: Vec<_> =
            read(file.as_bytes()).unwrap().into_iter().map(|arrival| arrival.id.to_string()).collect();
        assert_eq!(ids, ["line-3", "t-1"]);
    }

    #[test]
    fn fractions_of_latencies_are_rounded_up() {
        let text = line(FULL)
            .replace(r#"{"eu": 20}"#, r#"{"eu": 20.4}"#)
            .replace(r#"{"us": 90}"#, r#"{"us": 90.0}"#);
        let read = read(text.as_bytes()).unwrap();
        let spec = &read.first().unwrap().spec;
        let of_player = &spec.players().next().unwrap().latencies;
        let millis = |latencies: &BTreeMap<RegionId, u32>| latencies.values().copied().collect::<Vec<_>>();
        assert_eq!((millis(&spec.latencies), millis(of_player)), (vec![21], vec![90]));
    }

    #[test]
    fn problems_are_reported_with_their_line() {
        let long = format!("\"{}\"", "x".repeat(MAX_LINE_BYTES));
        for (text, says) in [
            ("{}", "missing field"),
            ("[", "EOF"),
            (&line(FULL).replace("12:00:01.5Z", "noon"), "at: must be a time"),
            (&line(FULL).replace("12:00:09Z", "12:00:01.4Z"), "left_at: must not be before"),
            (&line(FULL).replace(r#"{"eu": 20}"#, r#"{"eu": -0.5}"#), "latencies: must be milliseconds"),
            (
                &line(FULL).replace(r#"{"us": 90}"#, r#"{"us": 4294967295.5}"#),
                "latencies: must be milliseconds",
            ),
            (&line(FULL).replace("ranked", "a b\u{e9}"), "queue: "),
            (&line(FULL).replace("\"leader\"", "\"chief\""), "unknown field `chief`"),
            (&long, "is longer than"),
        ] {
            let error = read(format!("\n{text}").as_bytes()).unwrap_err();
            assert_eq!(error.line, 2);
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}

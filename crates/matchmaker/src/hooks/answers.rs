//! Parses hooks' answers. Unknown fields are ignored; a known field with a wrong value makes the answer invalid,
//! because nobody knows what its writer meant. If the answer has several matches, only the match with that field is
//! invalid.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use sortie_domain::ids::{PlayerId, QueueId, RegionId, TicketId};
use sortie_domain::matchmaking::match_lifecycle::MAX_FORMED;
use sortie_domain::matchmaking::{FormedMatch, MatchVerdict, TicketVerdict};
use sortie_domain::properties::Properties;
use sortie_wire::json::not_a_list;

/// Maximum length of a reason, in characters; longer ones are truncated.
const MAX_REASON: usize = 500;
/// The text for players if a hook gives no reason.
const NO_REASON: &str = "it was refused";

#[derive(Deserialize)]
struct Verdict {
    accept: bool,
    reason: Option<String>,
    queue: Option<String>,
    properties: Option<Box<RawValue>>,
    player_properties: Option<BTreeMap<String, Box<RawValue>>>,
    ratings: Option<BTreeMap<String, BTreeMap<Box<str>, f64>>>,
}

#[derive(Deserialize)]
struct Matches {
    matches: Vec<Value>,
}

#[derive(Deserialize)]
struct Formed {
    teams: Vec<Vec<String>>,
    region: Option<String>,
}

fn parse<T: DeserializeOwned>(answer: &[u8]) -> Result<T, String> {
    let document = not_a_list(answer).map_err(|list| list.to_string())?;
    serde_json::from_slice(document).map_err(|error| error.to_string())
}

/// An answer to `validate_ticket`.
pub(super) fn ticket(answer: &[u8]) -> Result<TicketVerdict, String> {
    let verdict: Verdict = parse(answer)?;
    if !verdict.accept {
        return Ok(TicketVerdict::Refuse { reason: reason(verdict.reason) });
    }
    let queue =
        verdict.queue.map(|queue| QueueId::new(&queue).map_err(|problem| format!("queue: {problem}")));
    let ratings = verdict.ratings.unwrap_or_default().into_iter().map(|(player, own)| {
        let player = PlayerId::new(&player).map_err(|problem| format!("ratings: {problem}"))?;
        Ok::<_, String>((player, own))
    });
    Ok(TicketVerdict::Accept {
        ratings: ratings.collect::<Result<_, _>>()?,
        queue: queue.transpose()?,
        properties: verdict.properties.as_deref().map(properties).transpose()?,
    })
}

/// An answer to `new_match`.
pub(super) fn of_match(answer: &[u8]) -> Result<MatchVerdict, String> {
    let verdict: Verdict = parse(answer)?;
    if !verdict.accept {
        return Ok(MatchVerdict::Refuse { reason: reason(verdict.reason) });
    }
    let of_players = verdict.player_properties.unwrap_or_default().into_iter().map(|(player, own)| {
        let player = PlayerId::new(&player).map_err(|problem| format!("player_properties: {problem}"))?;
        Ok::<_, String>((player, properties(&own)?))
    });
    Ok(MatchVerdict::Accept {
        player_properties: of_players.collect::<Result<_, _>>()?,
        properties: verdict.properties.as_deref().map(properties).transpose()?,
    })
}

/// An answer to `form_match`: each match, or what is wrong with it.
pub(super) fn matches(answer: &[u8]) -> Result<Vec<Result<FormedMatch, String>>, String> {
    let Matches { matches } = parse(answer)?;
    if matches.len() > MAX_FORMED {
        return Err(format!("{} matches, at most {MAX_FORMED} are allowed", matches.len()));
    }
    Ok(matches.into_iter().map(formed).collect())
}

fn formed(formed: Value) -> Result<FormedMatch, String> {
    let formed: Formed = serde_json::from_value(formed).map_err(|error| error.to_string())?;
    let ticket = |id: String| TicketId::new(&id).map_err(|problem| format!("teams: {problem}"));
    let team = |team: Vec<String>| team.into_iter().map(ticket).collect();
    let region = formed.region.map(|id| RegionId::new(&id).map_err(|problem| format!("region: {problem}")));
    let teams = formed.teams.into_iter().map(team).collect::<Result<_, String>>()?;
    Ok(FormedMatch { teams, region: region.transpose()? })
}

/// Kept as text: as a value, long numbers would lose digits.
fn properties(properties: &RawValue) -> Result<Properties, String> {
    Properties::parse(properties.get()).map_err(|problem| format!("properties: {problem}"))
}

fn reason(reason: Option<String>) -> String {
    let reason: String = reason.unwrap_or_default().chars().take(MAX_REASON).collect();
    if reason.trim().is_empty() { NO_REASON.to_owned() } else { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_about_tickets() {
        let plain = ticket(br#"{"accept": true, "more": 1, "reason": null}"#);
        assert_eq!(plain, Ok(TicketVerdict::ACCEPT));
        let changed = ticket(
            br#"{"accept": true, "queue": "vip", "properties": {"level": 3}, "ratings": {"ann": {"mmr": 1500}}}"#,
        );
        let wanted = TicketVerdict::Accept {
            ratings: [(PlayerId::new("ann").unwrap(), [("mmr".into(), 1500.0)].into())].into(),
            queue: Some(QueueId::new("vip").unwrap()),
            properties: Some(Properties::parse(r#"{"level": 3}"#).unwrap()),
        };
        assert_eq!(changed, Ok(wanted));
        let refused = |reason: &str| TicketVerdict::Refuse { reason: reason.to_owned() };
        assert_eq!(ticket(br#"{"accept": false, "reason": "banned"}"#), Ok(refused("banned")));
        assert_eq!(ticket(br#"{"accept": false}"#), Ok(refused(NO_REASON)));
        let long = format!(r#"{{"accept": false, "reason": "{}"}}"#, "ä".repeat(1_000));
        assert_eq!(ticket(long.as_bytes()), Ok(refused(&"ä".repeat(MAX_REASON))));
    }

    #[test]
    fn what_is_no_verdict_is_an_error() {
        for answer in [
            &b""[..],
            b"[]",
            b"[true]",
            b"true",
            br#"{"accept": "yes"}"#,
            br#"{"reason": "none"}"#,
            br#"{"accept": true, "properties": [1]}"#,
            br#"{"accept": true, "ratings": {"ann": {"mmr": "high"}}}"#,
            b"\xff",
        ] {
            assert!(ticket(answer).is_err() && of_match(answer).is_err() && matches(answer).is_err());
        }
        assert!(ticket(br#"{"accept": true, "queue": ""}"#).is_err());
        assert!(of_match(br#"{"accept": true, "player_properties": {"": {}}}"#).is_err());
        let long = format!(r#"{{"accept": true, "properties": {{"a": "{}"}}}}"#, "x".repeat(70_000));
        assert!(ticket(long.as_bytes()).is_err(), "longer than properties may be");
        let many = format!(r#"{{"matches": [{}]}}"#, vec![r#"{"teams": []}"#; MAX_FORMED + 1].join(","));
        assert!(matches(many.as_bytes()).is_err());
    }

    #[test]
    fn matches_and_verdicts_about_them() {
        let formed = matches(br#"{"matches": [{"teams": [["a"], ["b", "c"]], "region": "eu"}]}"#).unwrap();
        let [Ok(only)] = &formed[..] else { panic!("{formed:?}") };
        assert_eq!((only.teams.len(), only.teams[1].len()), (2, 2));
        assert_eq!(only.region.as_ref().map(RegionId::as_str), Some("eu"));
        let verdict = of_match(br#"{"accept": true, "player_properties": {"ann": {"x": 1}}}"#).unwrap();
        let MatchVerdict::Accept { properties: None, player_properties } = verdict else {
            panic!("{verdict:?}")
        };
        assert_eq!(player_properties.len(), 1);
    }

    #[test]
    fn a_malformed_match_spoils_no_other() {
        let malformed = [
            "{}",
            r#"{"teams": null}"#,
            r#"{"teams": [["a"], ["b"]], "region": "\ud83d\ude00"}"#,
            r#"{"teams": [["a"], "b"]}"#,
            r#"{"teams": [[""], ["b"]]}"#,
            "null",
            "7",
            r#""a""#,
            "[[[\"a\"]]]",
        ];
        for wrong in malformed {
            let text = format!(r#"{{"matches": [{{"teams": [["a"]]}}, {wrong}, {{"teams": [["b"]]}}]}}"#);
            let read = matches(text.as_bytes()).unwrap();
            assert!(matches!(&read[..], [Ok(_), Err(_), Ok(_)]), "{wrong}: {read:?}");
        }
        assert!(matches(br#"{"matches": {}}"#).is_err(), "no list of matches at all");
    }

    #[test]
    fn properties_are_taken_over_digit_by_digit() {
        let own = r#"{"id": 123456789012345678901234567890, "of": [1.0, 1e2, 0.10]}"#;
        let text =
            format!(r#"{{"accept": true, "properties": {own}, "player_properties": {{"ann": {own}}}}}"#);
        let MatchVerdict::Accept { properties, player_properties } = of_match(text.as_bytes()).unwrap()
        else {
            panic!()
        };
        assert_eq!(properties.unwrap().text(), Some(own));
        assert_eq!(player_properties[&PlayerId::new("ann").unwrap()].text(), Some(own));
        let TicketVerdict::Accept { properties, .. } = ticket(text.as_bytes()).unwrap() else { panic!() };
        assert_eq!(properties.unwrap().text(), Some(own));
    }
}

//! What this sidecar holds: servers, their matches, and the rules that fill in what a call leaves out.
//!
//! A plain struct without clock, disk or network, so that every rule can be tested in isolation; time is an argument,
//! measured from the start of the manager. A server's matches are kept in order of arrival: the order in which they are
//! given and named.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sortie_wire::catena::server_manager::{Match, MatchReadyRequest};

use crate::resolver::Address;

/// Maximum number of servers per sidecar. Beyond it, the one that has been silent longest and holds nothing is removed.
pub const MAX_SERVERS: usize = 1_000;
/// Maximum number of matches of all servers of one sidecar.
pub const MAX_MATCHES: usize = 1_000;
/// Maximum number of matches named in an error.
const MAX_NAMED: usize = 10;

/// State of a server, in the words of the Catena sidecar's own API.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServerState {
    /// It is known, and has not asked for a match yet.
    Started,
    /// It has asked for a match and holds none.
    Ready,
    /// It holds at least one match.
    InMatch,
    /// It said that it is exiting.
    Done,
    /// It is gone.
    Terminated,
}

/// State of a match.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Stage {
    /// The backend assigned it; players cannot connect yet. It is kept complete until then, so that it can be given
    /// again.
    Taken(Match),
    /// Players may connect.
    Ready(Reach),
}

/// Where players connect, as reported to the backend.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Reach {
    pub(super) details: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) per_player: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct HeldMatch {
    pub(super) id: String,
    pub(super) stage: Stage,
    /// An answer with it has reached the game server, as far as this sidecar can tell.
    pub(super) given: bool,
    /// The backend's hints when it assigned the match.
    pub(super) hints: u32,
    /// The backend must be told again that it is ready.
    pub(super) untold: bool,
    /// The backend does not know it.
    pub(super) disowned: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Server {
    pub(super) source: String,
    pub(super) state: ServerState,
    pub(super) heard: Duration,
    /// Questions for a match that the server currently waits for.
    pub(super) asking: usize,
    /// It has asked at least once.
    pub(super) has_asked: bool,
    /// Its event source knows whether it is alive, so that silence means nothing.
    pub(super) vouched_for: bool,
    /// Hints of answers that came when the server was no longer waiting.
    pub(super) owed_hints: u32,
    pub(super) address: Option<Address>,
    pub(super) matches: Vec<HeldMatch>,
}

/// A limit has been reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TooMany {
    pub(super) what: &'static str,
    pub(super) limit: usize,
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "too many {}: a sidecar holds at most {}", self.what, self.limit)
    }
}

/// All servers.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Held {
    pub(super) servers: BTreeMap<String, Server>,
}

impl Held {
    /// Registers the server, or records a sign of life. Returns the server that was removed to make room.
    pub(super) fn register(
        &mut self,
        id: &str,
        source: &str,
        now: Duration,
    ) -> Result<Option<String>, TooMany> {
        let mut evicted = None;
        match self.servers.get_mut(id) {
            // A server that was given up and calls again is a new one.
            Some(server) if server.state == ServerState::Terminated => server.state = ServerState::Started,
            Some(_) => {}
            None => evicted = self.make_room()?,
        }
        let server = self.servers.entry(id.to_owned()).or_insert_with(|| Server {
            source: source.to_owned(),
            state: ServerState::Started,
            heard: now,
            asking: 0,
            has_asked: false,
            vouched_for: false,
            owed_hints: 0,
            address: None,
            matches: Vec::new(),
        });
        server.heard = server.heard.max(now);
        Ok(evicted)
    }

    fn make_room(&mut self) -> Result<Option<String>, TooMany> {
        if self.servers.len() < MAX_SERVERS {
            return Ok(None);
        }
        let idle = self.servers.iter().filter(|(_, server)| server.matches.is_empty() && server.asking == 0);
        match idle.min_by_key(|(_, server)| server.heard).map(|(id, _)| id.clone()) {
            Some(id) => {
                self.servers.remove(&id);
                Ok(Some(id))
            }
            None => Err(TooMany { what: "servers", limit: MAX_SERVERS }),
        }
    }

    pub(super) fn heard(&mut self, id: &str, now: Duration) {
        if let Some(server) = self.servers.get_mut(id) {
            server.heard = server.heard.max(now);
        }
    }

    /// A question for a match begins. There must be room for the match it may bring.
    pub(super) fn asks(&mut self, id: &str) -> Result<(), TooMany> {
        let matches: usize = self.servers.values().map(|server| server.matches.len() + server.asking).sum();
        if matches >= MAX_MATCHES {
            return Err(TooMany { what: "matches", limit: MAX_MATCHES });
        }
        if let Some(server) = self.servers.get_mut(id) {
            server.asking += 1;
            server.has_asked = true;
            if server.matches.is_empty() {
                server.state = ServerState::Ready;
            }
        }
        Ok(())
    }

    /// A question has ended, or nobody waits for its answer any more.
    pub(super) fn asked(&mut self, id: &str, now: Duration) {
        if let Some(server) = self.servers.get_mut(id) {
            server.asking = server.asking.saturating_sub(1);
            server.heard = server.heard.max(now);
        }
    }

    /// The backend assigned `game` to the server. Returns false if the server is gone.
    pub(super) fn hold(&mut self, id: &str, game: Match, hints: u32) -> bool {
        let Some(server) = self.servers.get_mut(id).filter(|server| server.state != ServerState::Terminated)
        else {
            return false;
        };
        server.state = ServerState::InMatch;
        let fresh = HeldMatch {
            id: game.match_id.clone(),
            stage: Stage::Taken(game),
            given: false,
            hints,
            untold: false,
            disowned: false,
        };
        match server.matches.iter_mut().find(|held| held.id == fresh.id) {
            Some(held) => *held = fresh,
            None => server.matches.push(fresh),
        }
        true
    }

    /// The first match that the server may not know about; from here on it counts as given.
    pub(super) fn give(&mut self, id: &str) -> Option<(Match, u32)> {
        let server = self.servers.get_mut(id)?;
        server.matches.iter_mut().filter(|held| !held.given).find_map(|held| match &held.stage {
            Stage::Taken(game) => {
                held.given = true;
                Some((game.clone(), held.hints))
            }
            Stage::Ready(_) => None,
        })
    }

    /// Whether the server may not know about the match yet, and whether it is asking right now; `None` if it knows.
    pub(super) fn ungiven(&self, id: &str, match_id: &str) -> Option<bool> {
        let server = self.servers.get(id).filter(|server| server.state != ServerState::Terminated)?;
        let held = server.matches.iter().find(|held| held.id == match_id)?;
        (!held.given && matches!(held.stage, Stage::Taken(_))).then_some(server.asking > 0)
    }

    /// Takes an ungiven match away from a server that is not asking: it will not be given to anybody.
    pub(super) fn take_ungiven(&mut self, id: &str, match_id: &str) -> bool {
        let is_free = self.ungiven(id, match_id) == Some(false);
        if is_free && let Some(held) = self.find(id, match_id) {
            held.given = true;
        }
        is_free
    }

    /// Whether the server is gone and holds nothing.
    pub(super) fn is_over(&self, id: &str) -> bool {
        self.servers
            .get(id)
            .is_none_or(|server| server.state == ServerState::Terminated && server.matches.is_empty())
    }

    /// The match that a call means if it names none.
    ///
    /// A match that the backend has disowned is meant only if there is no other: after taking a new match, a server's
    /// calls are about the new one.
    pub(super) fn only_match(&self, id: &str) -> Result<String, String> {
        let matches = self.servers.get(id).map_or(&[][..], |server| &server.matches);
        let mut owned = matches.iter().filter(|held| !held.disowned);
        match (owned.next(), owned.next(), matches) {
            (Some(only), None, _) => Ok(only.id.clone()),
            (None, _, [only]) => Ok(only.id.clone()),
            (None, _, []) => Err(format!("must be given: server {id} holds no match")),
            _ => {
                let names: Vec<_> = matches.iter().take(MAX_NAMED).map(|held| held.id.as_str()).collect();
                let more = if matches.len() > MAX_NAMED { ", …" } else { "" };
                let (count, names) = (matches.len(), names.join(", "));
                Err(format!("must be given: server {id} holds {count} matches: {names}{more}"))
            }
        }
    }

    /// Players may connect.
    pub(super) fn ready(&mut self, request: &MatchReadyRequest) {
        let Some(server) = self.servers.get_mut(&request.server_id) else { return };
        let ready = HeldMatch {
            id: request.match_id.clone(),
            stage: Stage::Ready(Reach {
                details: request.connection_details.clone(),
                per_player: request.per_player_connection_details.clone(),
            }),
            given: true,
            hints: 0,
            untold: false,
            disowned: false,
        };
        match server.matches.iter_mut().find(|held| held.id == ready.id) {
            Some(held) => *held = ready,
            None => server.matches.push(ready),
        }
        if server.state != ServerState::Terminated {
            server.state = ServerState::InMatch;
        }
    }

    /// A match is over. Returns true if the server exits and holds nothing more, so that what was kept for it is free.
    pub(super) fn end(&mut self, id: &str, match_id: &str, exits: bool) -> bool {
        let Some(server) = self.servers.get_mut(id) else { return false };
        server.matches.retain(|held| held.id != match_id);
        if !server.matches.is_empty() || server.state == ServerState::Terminated {
            return false;
        }
        server.state = if exits { ServerState::Done } else { ServerState::Ready };
        exits
    }

    /// The backend does not know the match.
    pub(super) fn disown(&mut self, id: &str, match_id: &str) {
        if let Some(held) = self.find(id, match_id) {
            held.disowned = true;
            held.untold = false;
        }
    }

    /// The backend knows that the match is ready.
    pub(super) fn told(&mut self, id: &str, match_id: &str) {
        if let Some(held) = self.find(id, match_id) {
            held.untold = false;
        }
    }

    fn find(&mut self, id: &str, match_id: &str) -> Option<&mut HeldMatch> {
        self.servers.get_mut(id)?.matches.iter_mut().find(|held| held.id == match_id)
    }

    /// The backend may have forgotten everything: returns the servers with something to report.
    pub(super) fn all_untold(&mut self) -> Vec<String> {
        let mut servers = Vec::new();
        for (id, server) in &mut self.servers {
            if server.state == ServerState::Terminated {
                continue;
            }
            for held in &mut server.matches {
                held.untold = matches!(held.stage, Stage::Ready(_)) && !held.disowned;
            }
            if server.matches.iter().any(|held| held.untold) {
                servers.push(id.clone());
            }
        }
        servers
    }

    /// The server's next match that must be reported again.
    pub(super) fn untold(&self, id: &str) -> Option<MatchReadyRequest> {
        let mut untold = self.servers.get(id)?.matches.iter().filter(|held| held.untold);
        untold.find_map(|held| match &held.stage {
            Stage::Ready(reach) => Some(MatchReadyRequest {
                server_id: id.to_owned(),
                match_id: held.id.clone(),
                connection_details: reach.details.clone(),
                hint_flags: 0,
                per_player_connection_details: reach.per_player.clone(),
            }),
            Stage::Taken(_) => None,
        })
    }

    /// The server is gone: returns its matches, which must be ended. `None` if it is unknown or already gone.
    pub(super) fn gone(&mut self, id: &str) -> Option<Vec<String>> {
        let server = self.servers.get_mut(id).filter(|server| server.state != ServerState::Terminated)?;
        server.state = ServerState::Terminated;
        Some(self.matches_of(id))
    }

    /// Servers that are gone, whose matches have not been ended yet.
    pub(super) fn unfinished(&self) -> Vec<String> {
        let gone = self.servers.iter().filter(|(_, server)| server.state == ServerState::Terminated);
        gone.map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn matches_of(&self, id: &str) -> Vec<String> {
        let matches = self.servers.get(id).map_or(&[][..], |server| &server.matches);
        matches.iter().map(|held| held.id.clone()).collect()
    }

    /// Forgets a server that is gone and has not come back.
    pub(super) fn forget(&mut self, id: &str) {
        if self.servers.get(id).is_some_and(|server| server.state == ServerState::Terminated) {
            self.servers.remove(id);
        }
    }

    /// Servers that have been silent for `after`.
    pub(super) fn silent(&self, now: Duration, after: Duration) -> Vec<String> {
        let silent = self.watched().filter(|(_, server)| server.heard.saturating_add(after) <= now);
        silent.map(|(id, _)| id.clone()).collect()
    }

    /// When the next server will have been silent for `after`, if nothing is heard.
    pub(super) fn next_silence(&self, after: Duration) -> Option<Duration> {
        self.watched().map(|(_, server)| server.heard.saturating_add(after)).min()
    }

    fn watched(&self) -> impl Iterator<Item = (&String, &Server)> {
        let speaks = |server: &Server| server.asking == 0 && !server.vouched_for;
        self.servers
            .iter()
            .filter(move |(_, server)| speaks(server) && server.state != ServerState::Terminated)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::manager::stored;

    const SECOND: Duration = Duration::from_secs(1);

    fn game(id: &str) -> Match {
        Match { match_id: id.to_owned(), match_properties: "{\"a\":1}".to_owned(), ..Match::default() }
    }

    fn ready(id: &str, match_id: &str) -> MatchReadyRequest {
        MatchReadyRequest {
            server_id: id.to_owned(),
            match_id: match_id.to_owned(),
            connection_details: format!("h:{match_id}"),
            ..MatchReadyRequest::default()
        }
    }

    fn holding(matches: &[&str]) -> Held {
        let mut held = Held::default();
        held.register("s", "x", Duration::ZERO).unwrap();
        for id in matches {
            assert!(held.hold("s", game(id), 0));
        }
        held
    }

    #[test]
    fn a_match_is_given_once_in_the_order_of_arrival() {
        let mut held = holding(&["b", "a"]);
        let given: Vec<_> = std::iter::from_fn(|| held.give("s")).map(|(game, _)| game.match_id).collect();
        assert_eq!(given, ["b", "a"]);
        // The backend assigns one again: it may not have been heard about.
        held.hold("s", game("b"), 4);
        assert_eq!(held.give("s"), Some((game("b"), 4)));
        assert_eq!(held.matches_of("s"), ["b", "a"]);
    }

    #[test]
    fn the_match_meant_is_the_one_that_the_backend_knows() {
        let mut held = holding(&["a", "b"]);
        assert!(held.only_match("s").unwrap_err().contains("2 matches: a, b"));
        held.disown("s", "a");
        assert_eq!(held.only_match("s").unwrap(), "b");
        held.disown("s", "b");
        assert!(held.only_match("s").is_err());
        held.end("s", "b", false);
        assert_eq!(held.only_match("s").unwrap(), "a");
    }

    #[test]
    fn many_matches_are_not_all_named() {
        let ids: Vec<_> = (0..20).map(|number| format!("m{number}")).collect();
        let held = holding(&ids.iter().map(String::as_str).collect::<Vec<_>>());
        let text = held.only_match("s").unwrap_err();
        assert!(text.contains("20 matches: m0, ") && text.ends_with("m9, …"), "{text}");
    }

    #[test]
    fn a_server_goes_from_state_to_state() {
        let mut held = holding(&[]);
        let state = |held: &Held| held.servers["s"].state;
        assert_eq!(state(&held), ServerState::Started);
        held.asks("s").unwrap();
        assert_eq!(state(&held), ServerState::Ready);
        held.hold("s", game("a"), 0);
        assert_eq!(state(&held), ServerState::InMatch);
        assert!(!held.end("s", "a", false));
        assert_eq!(state(&held), ServerState::Ready);
        held.ready(&ready("s", "b"));
        assert!(held.end("s", "b", true), "it exits and holds nothing");
        assert_eq!(state(&held), ServerState::Done);
        assert_eq!(held.gone("s"), Some(Vec::new()));
        assert_eq!(held.gone("s"), None);
        assert!(!held.hold("s", game("c"), 0), "the server is gone");
        held.register("s", "x", SECOND).unwrap();
        held.forget("s");
        assert_eq!(state(&held), ServerState::Started, "it came back before it was forgotten");
    }

    #[test]
    fn only_ready_matches_that_are_not_disowned_are_reported_again() {
        let mut held = holding(&["a", "b", "c"]);
        held.ready(&ready("s", "b"));
        held.ready(&ready("s", "c"));
        held.disown("s", "c");
        assert_eq!(held.all_untold(), ["s"]);
        assert_eq!(held.untold("s"), Some(ready("s", "b")));
        held.told("s", "b");
        assert_eq!(held.untold("s"), None);
    }

    #[test]
    fn silence_is_counted_from_the_last_sign_of_life() {
        let mut held = holding(&[]);
        assert_eq!(held.next_silence(5 * SECOND), Some(5 * SECOND));
        held.heard("s", 3 * SECOND);
        assert!(held.silent(7 * SECOND, 5 * SECOND).is_empty());
        assert_eq!(held.silent(8 * SECOND, 5 * SECOND), ["s"]);
        held.asks("s").unwrap();
        assert!(held.silent(100 * SECOND, 5 * SECOND).is_empty(), "it waits for an answer");
        held.asked("s", 100 * SECOND);
        assert_eq!(held.silent(105 * SECOND, 5 * SECOND), ["s"]);
        held.servers.get_mut("s").unwrap().vouched_for = true;
        assert_eq!(held.next_silence(5 * SECOND), None);
    }

    #[test]
    fn beyond_the_limit_a_server_replaces_one_that_holds_nothing() {
        let mut held = holding(&["a"]);
        for number in 1..MAX_SERVERS as u32 {
            held.register(&format!("x{number}"), "x", SECOND * number).unwrap();
        }
        assert_eq!(held.register("new", "x", SECOND * 5_000), Ok(Some("x1".to_owned())));
        assert!(held.servers.contains_key("s"), "it was silent longest, but it has a match");
        for server in held.servers.values_mut() {
            server.asking = 1;
        }
        let too_many = held.register("newer", "x", SECOND).unwrap_err();
        assert_eq!(too_many.to_string(), "too many servers: a sidecar holds at most 1000");
        assert_eq!(held.asks("s").unwrap_err().what, "matches", "each question may bring one");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Register(u8),
        Asks(u8),
        Asked(u8),
        Hold(u8, u8),
        Give(u8),
        Ready(u8, u8),
        End(u8, u8, bool),
        Disown(u8, u8),
        AllUntold,
        Told(u8, u8),
        Gone(u8),
        Forget(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        let (server, id) = (0..3_u8, 0..4_u8);
        prop_oneof![
            server.clone().prop_map(Step::Register),
            server.clone().prop_map(Step::Asks),
            server.clone().prop_map(Step::Asked),
            (server.clone(), id.clone()).prop_map(|(server, id)| Step::Hold(server, id)),
            server.clone().prop_map(Step::Give),
            (server.clone(), id.clone()).prop_map(|(server, id)| Step::Ready(server, id)),
            (server.clone(), id.clone(), any::<bool>()).prop_map(|(s, id, exits)| Step::End(s, id, exits)),
            (server.clone(), id.clone()).prop_map(|(server, id)| Step::Disown(server, id)),
            Just(Step::AllUntold),
            (server.clone(), id).prop_map(|(server, id)| Step::Told(server, id)),
            server.clone().prop_map(Step::Gone),
            server.prop_map(Step::Forget),
        ]
    }

    fn take(held: &mut Held, step: &Step) {
        let (s, m) = (|server: &u8| format!("s{server}"), |id: &u8| format!("m{id}"));
        match step {
            Step::Register(server) => drop(held.register(&s(server), "x", Duration::ZERO)),
            Step::Asks(server) => drop(held.asks(&s(server))),
            Step::Asked(server) => held.asked(&s(server), Duration::ZERO),
            Step::Hold(server, id) => drop(held.hold(&s(server), game(&m(id)), 0)),
            Step::Give(server) => drop(held.give(&s(server))),
            Step::Ready(server, id) => held.ready(&ready(&s(server), &m(id))),
            Step::End(server, id, exits) => drop(held.end(&s(server), &m(id), *exits)),
            Step::Disown(server, id) => held.disown(&s(server), &m(id)),
            Step::AllUntold => drop(held.all_untold()),
            Step::Told(server, id) => held.told(&s(server), &m(id)),
            Step::Gone(server) => drop(held.gone(&s(server))),
            Step::Forget(server) => held.forget(&s(server)),
        }
    }

    /// The state without what a restart forgets.
    fn without_memory(mut held: Held) -> Held {
        for server in held.servers.values_mut() {
            server.has_asked = server.state != ServerState::Started;
            (server.heard, server.asking, server.vouched_for, server.owed_hints) =
                (Duration::ZERO, 0, false, 0);
            for game in &mut server.matches {
                (game.given, game.untold, game.hints) = (false, false, 0);
            }
        }
        held
    }

    proptest! {
        #[test]
        fn arbitrary_calls_keep_the_state_consistent_and_storable(
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let mut held = Held::default();
            for step in &steps {
                take(&mut held, step);
                for (id, server) in &held.servers {
                    let mut ids: Vec<_> = server.matches.iter().map(|held| &held.id).collect();
                    ids.sort_unstable();
                    ids.dedup();
                    prop_assert_eq!(ids.len(), server.matches.len(), "{} holds one twice", id);
                    let is_in_match = server.state == ServerState::InMatch;
                    let may_hold = is_in_match || matches!(server.state, ServerState::Terminated | ServerState::Started);
                    prop_assert!(server.matches.is_empty() || may_hold, "{} is {:?}", id, server.state);
                    prop_assert!(!is_in_match || !server.matches.is_empty(), "{} is in no match", id);
                    for game in &server.matches {
                        prop_assert!(!game.untold || matches!(game.stage, Stage::Ready(_)) && !game.disowned);
                    }
                    if let Ok(only) = held.only_match(id) {
                        prop_assert!(server.matches.iter().any(|game| game.id == only));
                    }
                }
            }
            let kept = stored::read_held(&stored::write_held(&held));
            prop_assert_eq!(kept, Ok(without_memory(held)));
        }
    }
}

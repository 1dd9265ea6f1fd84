//! What this sidecar holds: servers, their matches, and the rules that fill in what a call leaves out.
//!
//! A plain struct without clock, disk or network, so that every rule can be tested by itself; time is passed in, as the
//! time since the manager began. Matches of a server are kept in the order in which they came: that is the order in
//! which they are given and named.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sortie_wire::catena::server_manager::{Match, MatchReadyRequest};

use crate::resolver::Address;

/// Most servers that one sidecar holds. Beyond it the one that was silent longest and holds nothing makes room.
pub const MAX_SERVERS: usize = 1_000;
/// Most matches that all servers of one sidecar hold.
pub const MAX_MATCHES: usize = 1_000;
/// Most matches that an error names.
const MAX_NAMED: usize = 10;

/// Where a server is in its life, in the words of the Catena sidecar's own API.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServerState {
    /// It is known, and has not asked for a match yet.
    Started,
    /// It has asked for a match and holds none.
    Ready,
    /// It holds at least one match.
    InMatch,
    /// It said that it is about to exit.
    Done,
    /// It is gone.
    Terminated,
}

/// How far a match has come.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Stage {
    /// The backend gave it; players cannot connect yet. The whole of it is kept until then, to be given again.
    Taken(Match),
    /// Players may connect.
    Ready(Reach),
}

/// Where players connect, as the backend was told.
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
    /// An answer with it has reached the game server, as far as can be known here.
    pub(super) given: bool,
    /// What the backend hinted at when it gave it.
    pub(super) hints: u32,
    /// The backend has to be told again that it is ready.
    pub(super) untold: bool,
    /// The backend said that it knows nothing of it.
    pub(super) disowned: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Server {
    pub(super) source: String,
    pub(super) state: ServerState,
    pub(super) heard: Duration,
    /// Questions for a match that the server waits for right now.
    pub(super) asking: usize,
    /// It has asked at least once.
    pub(super) has_asked: bool,
    /// Its event source knows by itself whether it lives, so that silence says nothing.
    pub(super) vouched_for: bool,
    /// Hints of answers that came when the server no longer waited for them.
    pub(super) owed_hints: u32,
    pub(super) address: Option<Address>,
    pub(super) matches: Vec<HeldMatch>,
}

/// No further server or match is taken.
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
    /// Knows the server from here on; a sign of life from one that is known. Gives the server that made room for it.
    pub(super) fn register(
        &mut self,
        id: &str,
        source: &str,
        now: Duration,
    ) -> Result<Option<String>, TooMany> {
        let mut evicted = None;
        match self.servers.get_mut(id) {
            // One that was given up and speaks again is another one.
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

    /// A question for a match begins. It has to find room for what it may bring.
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

    /// The backend gave `game` to the server. False where the server is gone.
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

    /// The first match that the server may not know of; it counts as given from here on.
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

    /// The one match that a call means which names none.
    ///
    /// A match that the backend has disowned is meant only if there is no other: what a server says after it took a new
    /// one is about the new one.
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

    /// A match is over. True if the server exits and holds nothing more, so that what was kept for it is free.
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

    /// The backend may have forgotten everything: the servers that have something to tell.
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

    /// The next thing that the backend has to be told again about the server.
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

    /// The server is gone: its matches are to be ended. `None` if it is not known, or known to be gone.
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

    /// Forgets a server that is gone, and has not come back since.
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

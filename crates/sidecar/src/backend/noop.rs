//! A stand-in for a backend: it has matches from a file, or none at all, and accepts everything else.
//!
//! For developing a game server without a control plane.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use sortie_wire::catena::server_manager::{
    EndMatchRequest, EndMatchResponse, Match, MatchReadyRequest, MatchReadyResponse, RequestMatchRequest,
    RequestMatchResponse,
};

use super::{Backend, BackendError};

/// Maximum size of the file of matches, in bytes: 16 MiB.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Options of `noop_backend`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NoopOptions {
    /// A JSON file with a list of `{"matchId", "playerIds", "matchProperties", "playerProperties"}`; properties are
    /// objects, or JSON texts of objects. Without a file there are no matches.
    pub matches: Option<PathBuf>,
    /// Starts again after the last match, appending `-2`, then `-3` and so on to the ids.
    pub repeat: bool,
}

/// Why the file is unusable.
#[derive(Debug, thiserror::Error)]
pub enum NoopError {
    /// It cannot be read.
    #[error("the file of matches {path} cannot be read: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It is not a list of matches.
    #[error("the file of matches {path}: {problem}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// `noop_backend`.
#[derive(Debug)]
pub struct NoopBackend {
    matches: Vec<Match>,
    repeat: bool,
    /// Number of matches given.
    given: Mutex<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    #[serde(alias = "match_id")]
    match_id: String,
    #[serde(default, alias = "player_ids")]
    player_ids: Vec<String>,
    #[serde(default, alias = "match_properties")]
    match_properties: Option<Value>,
    #[serde(default, alias = "player_properties")]
    player_properties: BTreeMap<String, Value>,
}

impl NoopBackend {
    /// Reads the matches.
    ///
    /// # Errors
    /// [`NoopError`]
    pub fn new(options: &NoopOptions) -> Result<Self, NoopError> {
        let matches = options.matches.as_deref().map_or(Ok(Vec::new()), read)?;
        Ok(Self { matches, repeat: options.repeat, given: Mutex::default() })
    }

    fn next(&self) -> Option<Match> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let round = given.checked_div(self.matches.len())?;
        if round > 0 && !self.repeat {
            return None;
        }
        let mut game = self.matches.get(*given % self.matches.len())?.clone();
        if round > 0 {
            game.match_id = format!("{}-{}", game.match_id, round + 1);
        }
        *given += 1;
        Some(game)
    }
}

fn read(path: &Path) -> Result<Vec<Match>, NoopError> {
    let failed = |source| NoopError::Read { path: path.to_owned(), source };
    let wrong = |problem: String| NoopError::Content { path: path.to_owned(), problem };
    let mut content = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(wrong(format!("it is longer than {MAX_FILE_BYTES} bytes")));
    }
    let entries: Vec<Entry> = serde_json::from_slice(&content)
        .map_err(|error| wrong(format!("it must be a list of matches in JSON: {error}")))?;
    let mut ids = std::collections::BTreeSet::new();
    let matches = entries.into_iter().enumerate().map(|(index, entry)| {
        if entry.match_id.is_empty() || !ids.insert(entry.match_id.clone()) {
            return Err(wrong(format!("[{index}].matchId: must be an id that no other match has")));
        }
        game(entry).map_err(|problem| wrong(format!("[{index}].{problem}")))
    });
    matches.collect()
}

fn game(entry: Entry) -> Result<Match, String> {
    let match_properties = match entry.match_properties {
        None | Some(Value::Null) => String::new(),
        Some(value) => properties(value).map_err(|problem| format!("matchProperties: {problem}"))?,
    };
    let players = entry.player_properties.into_iter().map(|(player, value)| {
        let text = properties(value).map_err(|problem| format!("playerProperties[{player:?}]: {problem}"))?;
        Ok::<_, String>((player, text))
    });
    let player_properties = players.collect::<Result<_, _>>()?;
    Ok(Match { match_id: entry.match_id, player_ids: entry.player_ids, match_properties, player_properties })
}

/// The JSON text of an object, given as an object or as text.
fn properties(value: Value) -> Result<String, &'static str> {
    const WRONG: &str = "must be an object, or the JSON text of one";
    match value {
        Value::Object(_) => Ok(value.to_string()),
        Value::String(text) if text.is_empty() => Ok(text),
        Value::String(text) => match serde_json::from_str::<Value>(&text) {
            Ok(Value::Object(_)) => Ok(text),
            _ => Err(WRONG),
        },
        _ => Err(WRONG),
    }
}

#[async_trait]
impl Backend for NoopBackend {
    fn name(&self) -> &'static str {
        "noop_backend"
    }

    async fn request_match(&self, _: RequestMatchRequest) -> Result<RequestMatchResponse, BackendError> {
        Ok(RequestMatchResponse { r#match: self.next(), ..RequestMatchResponse::default() })
    }

    async fn match_ready(&self, request: MatchReadyRequest) -> Result<MatchReadyResponse, BackendError> {
        Ok(MatchReadyResponse { match_id: request.match_id, hint_flags: 0 })
    }

    async fn end_match(&self, request: EndMatchRequest) -> Result<EndMatchResponse, BackendError> {
        Ok(EndMatchResponse { match_id: request.match_id, hint_flags: 0 })
    }
}

//! The files' JSON. Separate types, so that the stored form does not change when a type of the program does; messages
//! are stored in their canonical JSON form, which other programs know.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sortie_wire::json;

use super::held::{Held, HeldMatch, MAX_MATCHES, MAX_SERVERS, Reach, Server, ServerState, Stage};
use super::queue::{Call, Queue};
use crate::resolver::Address;

/// Version of the format of all files.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct File<T> {
    version: u32,
    #[serde(flatten)]
    content: T,
}

#[derive(Serialize, Deserialize)]
struct Ids {
    /// By event source.
    ids: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Servers {
    servers: Vec<StoredServer>,
}

#[derive(Serialize, Deserialize)]
struct StoredServer {
    id: String,
    source: String,
    state: ServerState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<StoredAddress>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    matches: Vec<StoredMatch>,
}

#[derive(Serialize, Deserialize)]
struct StoredAddress {
    host: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum StoredStage {
    /// JSON of a `Match`.
    Taken(String),
    Ready(Reach),
}

#[derive(Serialize, Deserialize)]
struct StoredMatch {
    id: String,
    #[serde(default)]
    disowned: bool,
    stage: StoredStage,
}

#[derive(Serialize, Deserialize)]
struct Calls {
    calls: Vec<StoredCall>,
}

#[derive(Serialize, Deserialize)]
struct StoredCall {
    source: String,
    call: StoredMessage,
}

/// The JSON of the request.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum StoredMessage {
    MatchReady(String),
    EndMatch(String),
}

fn read<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if version != VERSION {
        return Err(format!("it has version {version}, and only {VERSION} is supported"));
    }
    serde_json::from_slice::<File<T>>(bytes).map(|file| file.content).map_err(|error| error.to_string())
}

fn write<T: Serialize>(content: T) -> Vec<u8> {
    // Only strings, numbers and maps with string keys, which always serialize.
    serde_json::to_vec(&File { version: VERSION, content }).unwrap_or_default()
}

/// A message's canonical JSON, which is always UTF-8.
fn text<T: Serialize>(message: &T) -> String {
    json::encode(message).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

fn message<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    json::decode(text.as_bytes()).map_err(|error| error.to_string())
}

pub(super) fn write_ids(ids: &BTreeMap<String, String>) -> Vec<u8> {
    write(Ids { ids: ids.clone() })
}

pub(super) fn read_ids(bytes: &[u8]) -> Result<BTreeMap<String, String>, String> {
    read::<Ids>(bytes).map(|file| file.ids)
}

pub(super) fn write_held(held: &Held) -> Vec<u8> {
    let servers = held.servers.iter().map(|(id, server)| StoredServer {
        id: id.clone(),
        source: server.source.clone(),
        state: server.state,
        address: server
            .address
            .as_ref()
            .map(|address| StoredAddress { host: address.host.clone(), port: address.port }),
        matches: server.matches.iter().map(stored_match).collect(),
    });
    write(Servers { servers: servers.collect() })
}

fn stored_match(held: &HeldMatch) -> StoredMatch {
    let stage = match &held.stage {
        Stage::Taken(game) => StoredStage::Taken(text(game)),
        Stage::Ready(reach) => StoredStage::Ready(reach.clone()),
    };
    StoredMatch { id: held.id.clone(), disowned: held.disowned, stage }
}

/// The stored state. After a restart it is unknown whether a taken match has reached the game server, so it counts as
/// not given; nor whether the backend still knows a ready one.
pub(super) fn read_held(bytes: &[u8]) -> Result<Held, String> {
    let stored: Servers = read(bytes)?;
    let matches: usize = stored.servers.iter().map(|server| server.matches.len()).sum();
    if stored.servers.len() > MAX_SERVERS || matches > MAX_MATCHES {
        return Err(format!("it holds more than {MAX_SERVERS} servers or {MAX_MATCHES} matches"));
    }
    let mut held = Held::default();
    for server in stored.servers {
        let matches = server.matches.into_iter().map(read_match).collect::<Result<_, _>>()?;
        let read = Server {
            source: server.source,
            state: server.state,
            heard: Duration::ZERO,
            asking: 0,
            has_asked: server.state != ServerState::Started,
            vouched_for: false,
            owed_hints: 0,
            address: server.address.map(|address| Address { host: address.host, port: address.port }),
            matches,
        };
        held.servers.insert(server.id, read);
    }
    Ok(held)
}

fn read_match(stored: StoredMatch) -> Result<HeldMatch, String> {
    let stage = match stored.stage {
        StoredStage::Taken(game) => Stage::Taken(message(&game)?),
        StoredStage::Ready(reach) => Stage::Ready(reach),
    };
    Ok(HeldMatch { id: stored.id, stage, given: false, hints: 0, untold: false, disowned: stored.disowned })
}

pub(super) fn write_queue(queue: &Queue) -> Vec<u8> {
    let calls = queue.iter().map(|queued| {
        let call = match &queued.call {
            Call::MatchReady(request) => StoredMessage::MatchReady(text(request)),
            Call::EndMatch(request) => StoredMessage::EndMatch(text(request)),
        };
        StoredCall { source: queued.source.clone(), call }
    });
    write(Calls { calls: calls.collect() })
}

pub(super) fn read_queue(bytes: &[u8]) -> Result<Queue, String> {
    let mut queue = Queue::default();
    for stored in read::<Calls>(bytes)?.calls {
        let call = match &stored.call {
            StoredMessage::MatchReady(text) => Call::MatchReady(message(text)?),
            StoredMessage::EndMatch(text) => Call::EndMatch(message(text)?),
        };
        queue.push(&stored.source, call);
    }
    Ok(queue)
}

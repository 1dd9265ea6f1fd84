//! The messages of the sidecar's own API, as in `contract/catena/sidecar-servermanager.swagger.json` and
//! `contract/catena/sidecar-hub.swagger.json`.
//!
//! Not protobuf: their field numbers are not published, and HTTP does not need them. Like protobuf's JSON, fields are
//! read in lowerCamelCase and in snake_case, and always written.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::manager::ServerState;

/// How to start a server.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all(serialize = "camelCase"), default)]
pub(super) struct ServerProfile {
    #[serde(alias = "profileId")]
    pub(super) profile_id: String,
    pub(super) command: String,
    pub(super) args: Vec<String>,
    pub(super) remote: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RegisterProfilesRequest {
    pub(super) profiles: Vec<ServerProfile>,
}

#[derive(Debug, Serialize)]
pub(super) struct RegisterProfilesResponse {}

#[derive(Debug, Serialize)]
pub(super) struct GetProfilesResponse {
    pub(super) profiles: Vec<ServerProfile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LaunchServerRequest {
    #[serde(alias = "profileId")]
    pub(super) profile_id: String,
    pub(super) subscribe: bool,
    #[serde(alias = "argumentOverride")]
    pub(super) argument_override: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct LaunchServerResponse {
    pub(super) payload: LaunchServerPayload,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LaunchServerPayload {
    pub(super) server_data: Server,
    pub(super) message: String,
}

/// A line of a stream, in the format of grpc-gateway.
#[derive(Debug, Serialize)]
pub(super) struct Line<T> {
    pub(super) result: T,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RegisterServerRequest {
    #[serde(alias = "profileId")]
    pub(super) profile_id: String,
    #[serde(deserialize_with = "int32")]
    pub(super) port: i32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RegisterServerResponse {
    pub(super) server_id: String,
}

#[derive(Debug, Serialize)]
pub(super) struct GetAllServersResponse {
    pub(super) servers: Vec<Server>,
}

#[derive(Debug, Serialize)]
pub(super) struct TerminateServerResponse {
    pub(super) terminated: bool,
    pub(super) message: String,
}

#[derive(Debug, Serialize)]
pub(super) struct HealthcheckResponse {
    pub(super) message: &'static str,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Server {
    pub(super) server_id: String,
    #[serde(serialize_with = "state_name")]
    pub(super) state: ServerState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connection_details: Option<ServerConnectionDetails>,
}

/// Where players reach a server. Its `payload` is left out, because its capacity is not known here.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct ServerConnectionDetails {
    pub(super) port: u16,
    pub(super) host: String,
}

#[derive(Debug, Serialize)]
pub(super) struct GetAllSidecarsResponse {
    pub(super) sidecars: [Sidecar; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sidecar {
    pub(super) id: String,
    pub(super) hostname: String,
    #[serde(serialize_with = "int64")]
    pub(super) grpc_port: u16,
    #[serde(serialize_with = "int64")]
    pub(super) http_port: u16,
}

fn state_name<S: Serializer>(state: &ServerState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match state {
        ServerState::Started => "STATE_STARTED",
        ServerState::Ready => "STATE_READY",
        ServerState::InMatch => "STATE_IN_MATCH",
        ServerState::Done => "STATE_DONE",
        ServerState::Terminated => "STATE_TERMINATED",
    })
}

/// 64-bit integers are written as strings.
fn int64<S: Serializer>(number: &u16, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// 32-bit integers are read as numbers or as strings.
fn int32<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Plain(i32),
        Quoted(String),
    }
    match Number::deserialize(deserializer) {
        Ok(Number::Plain(number)) => Ok(number),
        Ok(Number::Quoted(text)) => text.parse().map_err(|_| D::Error::custom("must be a whole number")),
        Err(_) => Err(D::Error::custom("must be a whole number of 32 bits")),
    }
}

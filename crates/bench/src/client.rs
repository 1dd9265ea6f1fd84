//! One HTTP/2 connection to a control plane, used for everything in a benchmark: gRPC, and plain HTTP for calls without
//! a gRPC form, like submitting a match.

use std::future::poll_fn;
use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, Request};
use serde::Deserialize;
use sortie_wire::catena::server_manager::catena_server_manager_client::CatenaServerManagerClient;
use sortie_wire::catena::server_manager::{
    EndMatchRequest, ListServersRequest, MatchReadyRequest, RequestMatchRequest, RequestMatchResponse,
};
use tonic::body::Body;
use tonic::client::GrpcService as _;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::failure::Failure;

/// Maximum wait for a connection.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Maximum size of an answer, in bytes: the list of all servers is the longest.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    channel: Channel,
    servers: CatenaServerManagerClient<Channel>,
    health: HealthClient<Channel>,
    key: Option<MetadataValue<Ascii>>,
}

#[derive(Deserialize)]
struct Submitted {
    match_id: String,
}

impl Connection {
    pub(crate) async fn open(url: &str, key: Option<&str>) -> Result<Self, Failure> {
        let endpoint = Endpoint::from_shared(url.to_owned())
            .map_err(|error| Failure::of(format!("{url} is not the address of a control plane"), error))?;
        let channel = endpoint.connect_timeout(CONNECT_TIME).connect().await;
        let channel = channel.map_err(|error| Failure::of(format!("cannot reach {url}"), root(&error)))?;
        let key = key.map(|key| format!("Bearer {key}").parse::<MetadataValue<Ascii>>()).transpose();
        Ok(Self {
            servers: CatenaServerManagerClient::new(channel.clone())
                .max_decoding_message_size(MAX_ANSWER_BYTES),
            health: HealthClient::new(channel.clone()),
            channel,
            key: key.map_err(|_| Failure::new("the API key contains invalid characters"))?,
        })
    }

    fn message<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(key) = &self.key {
            request.metadata_mut().insert("authorization", key.clone());
        }
        request
    }

    /// `grpc.health.v1.Health/Check`
    pub(crate) async fn check_health(&mut self) -> Result<(), Failure> {
        self.health.check(HealthCheckRequest::default()).await?;
        Ok(())
    }

    /// `RequestMatch`; the response has no match if none fits.
    pub(crate) async fn request_match(
        &mut self,
        server: &str,
        requirements: &str,
        hint_flags: u32,
    ) -> Result<RequestMatchResponse, Failure> {
        let (server_id, requirements) = (server.to_owned(), requirements.to_owned());
        let request = RequestMatchRequest { server_id, requirements, hint_flags, ..Default::default() };
        let request = self.message(request);
        Ok(self.servers.request_match(request).await?.into_inner())
    }

    /// `MatchReady`
    pub(crate) async fn match_ready(
        &mut self,
        server: &str,
        game: &str,
        address: &str,
    ) -> Result<(), Failure> {
        let request = self.message(MatchReadyRequest {
            server_id: server.to_owned(),
            match_id: game.to_owned(),
            connection_details: address.to_owned(),
            ..MatchReadyRequest::default()
        });
        self.servers.match_ready(request).await?;
        Ok(())
    }

    /// `EndMatch`
    pub(crate) async fn end_match(&mut self, server: &str, game: &str) -> Result<(), Failure> {
        let (server_id, match_id) = (server.to_owned(), game.to_owned());
        let request = self.message(EndMatchRequest { server_id, match_id, hint_flags: 0 });
        self.servers.end_match(request).await?;
        Ok(())
    }

    /// Servers that have asked for a match and whose ids have this prefix.
    pub(crate) async fn count_servers(&mut self, prefix: &str) -> Result<usize, Failure> {
        let request = self.message(ListServersRequest::default());
        let servers = self.servers.list_servers(request).await?.into_inner().servers;
        Ok(servers
            .iter()
            .filter(|known| known.requested_match && known.server_id.starts_with(prefix))
            .count())
    }

    /// `POST /v1/matches`; returns the match's id.
    pub(crate) async fn submit(&mut self, order: String) -> Result<String, Failure> {
        let (_, answer) = self.http(Method::POST, "/v1/matches", order).await?;
        Ok(serde_json::from_slice::<Submitted>(&answer)?.match_id)
    }

    /// A call over plain HTTP, which must succeed.
    pub(crate) async fn http(
        &mut self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<(HeaderMap, Vec<u8>), Failure> {
        let mut request = Request::builder().method(method).uri(path);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key.as_encoded_bytes());
        }
        let request = request.body(Body::new(axum::body::Body::from(body)))?;
        poll_fn(|context| self.channel.poll_ready(context)).await?;
        let (head, body) = self.channel.call(request).await?.into_parts();
        let body = axum::body::to_bytes(axum::body::Body::new(body), MAX_ANSWER_BYTES).await?;
        if head.status.is_success() {
            return Ok((head.headers, body.to_vec()));
        }
        Err(Failure::of(format!("{path}: {}", head.status), String::from_utf8_lossy(&body)))
    }
}

/// The innermost error, which the others only wrap.
fn root(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), root)
}

/// One worker per call in flight, spread over the connections.
pub(crate) fn workers<W>(
    connections: &[Connection],
    count: usize,
    make: impl Fn(Connection, usize) -> W,
) -> Vec<W> {
    connections.iter().cycle().take(count).enumerate().map(|(index, of)| make(of.clone(), index)).collect()
}

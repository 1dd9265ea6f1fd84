//! A websocket's opening.
//!
//! By our own connection and not by the library's, so that the choice of TLS, roots and deadlines stays in one place. The
//! token goes in a header and not in the query, which proxies log.

use std::io;
use std::sync::Arc;

use sortie_dispatch::Protocol;
use sortie_tls::RootsError;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::http::{StatusCode, Uri};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, handshake};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use tokio_util::either::Either;

use crate::options::{TokenError, TunnelOptions};

/// Longest message of a dispatcher, in bytes: those of Sortie are at most 64 KiB and a head.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Longest reason of a refusal that is repeated, in characters.
const MAX_REASON: usize = 300;

pub(crate) type Websocket = WebSocketStream<Either<TcpStream, TlsStream<TcpStream>>>;

/// Why there is no websocket.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// There is no token to show.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// Nobody can be trusted.
    #[error("{0}")]
    Roots(#[from] RootsError),
    /// The dispatcher's host is no name that a certificate can have.
    #[error("{0:?} is no name that a certificate can be for")]
    Name(String),
    /// The dispatcher refused.
    #[error("the dispatcher refused with {status}: {reason}")]
    Refused {
        /// The HTTP status of its answer.
        status: u16,
        /// What it said.
        reason: String,
    },
    /// There is no way to it.
    #[error("no connection: {0}")]
    Io(#[from] io::Error),
    /// It does not speak websocket.
    #[error("no websocket: {0}")]
    Websocket(Box<tungstenite::Error>),
    /// It took too long.
    #[error("the dispatcher did not answer in time")]
    TooSlow,
}

impl ConnectError {
    /// Whether another try will not help before somebody has changed something.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Token(_) | Self::Roots(_) | Self::Name(_) => true,
            // A conflict and an overload pass.
            Self::Refused { status, .. } => {
                (400..500).contains(status) && ![408, 409, 425, 429].contains(status)
            }
            Self::Io(_) | Self::Websocket(_) | Self::TooSlow => false,
        }
    }
}

impl From<tungstenite::Error> for ConnectError {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Http(answer) => Self::Refused {
                status: answer.status().as_u16(),
                reason: reason(answer.status(), answer.body().as_deref().unwrap_or_default()),
            },
            tungstenite::Error::Io(error) => Self::Io(error),
            error => Self::Websocket(Box::new(error)),
        }
    }
}

/// What a refusal says: the text in its document, where it is one of the contract.
fn reason(status: StatusCode, body: &[u8]) -> String {
    let document = serde_json::from_slice::<serde_json::Value>(body).ok();
    let text = document.as_ref().and_then(|document| document.get("error")?.as_str());
    let text = text.unwrap_or_else(|| status.canonical_reason().unwrap_or("no reason"));
    text.chars().filter(|character| !character.is_control()).take(MAX_REASON).collect()
}

/// Opens the websocket for a port.
pub(crate) async fn open(options: &TunnelOptions, protocol: Protocol) -> Result<Websocket, ConnectError> {
    let request = request(options, protocol)?;
    let opened = async {
        let stream = connection(options).await?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let (websocket, _): (_, handshake::client::Response) =
            client_async_with_config(request, stream, Some(config)).await?;
        Ok(websocket)
    };
    timeout(options.limits.open_time, opened).await.unwrap_or(Err(ConnectError::TooSlow))
}

fn request(options: &TunnelOptions, protocol: Protocol) -> Result<ClientRequestBuilder, ConnectError> {
    let url = options.dispatcher.websocket(protocol, options.port, &options.accept);
    let url: Uri = url.parse().map_err(|_| ConnectError::Name(options.dispatcher.host().to_owned()))?;
    let request = ClientRequestBuilder::new(url);
    Ok(match options.token.token()? {
        Some(token) => request.with_header("Authorization", format!("Bearer {}", token.text())),
        None => request,
    })
}

async fn connection(
    options: &TunnelOptions,
) -> Result<Either<TcpStream, TlsStream<TcpStream>>, ConnectError> {
    let endpoint = &options.dispatcher;
    let (host, port) = (endpoint.host(), endpoint.port());
    if !endpoint.is_tls() {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        return Ok(Either::Left(stream));
    }
    let mut config = sortie_tls::client_config(options.ca.as_deref())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from(host.to_owned()).map_err(|_| ConnectError::Name(host.to_owned()))?;
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(Either::Right(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_repeated_and_sorted() {
        let said = reason(StatusCode::CONFLICT, br#"{"error": "port 7777 is in use by another program"}"#);
        assert_eq!(said, "port 7777 is in use by another program");
        for body in [&b""[..], b"<html>", b"{}", b"{\"error\": 7}", b"\xff"] {
            assert_eq!(reason(StatusCode::BAD_GATEWAY, body), "Bad Gateway");
        }
        let long = serde_json::json!({"error": format!("\u{1b}[2J{}", "a".repeat(1_000))}).to_string();
        assert_eq!(reason(StatusCode::BAD_REQUEST, long.as_bytes()).len(), MAX_REASON);
        for (status, lasts) in
            [(400, true), (401, true), (403, true), (422, true), (409, false), (503, false)]
        {
            assert_eq!(
                ConnectError::Refused { status, reason: String::new() }.is_lasting(),
                lasts,
                "{status}"
            );
        }
    }
}

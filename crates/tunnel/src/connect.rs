//! Opening a websocket.
//!
//! Over our own connection rather than the library's, so that the choice of TLS, roots and deadlines stays in one
//! place. The token goes in a header rather than the query, which proxies log.

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

/// Maximum size of a dispatcher's message, in bytes: Sortie's are at most 64 KiB plus a head.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Maximum length of the reason of a refusal, in characters; longer ones are cut.
const MAX_REASON: usize = 300;

pub(crate) type Websocket = WebSocketStream<Either<TcpStream, TlsStream<TcpStream>>>;

/// Why there is no websocket.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The token is unusable.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// There are no trusted roots.
    #[error("{0}")]
    Roots(#[from] RootsError),
    /// A certificate cannot name the dispatcher's host.
    #[error("{0:?} is not a name that a certificate can be for")]
    Name(String),
    /// The dispatcher refused.
    #[error("the dispatcher refused with {status}: {reason}")]
    Refused {
        /// The HTTP status of its answer.
        status: u16,
        /// Its reason.
        reason: String,
    },
    /// It cannot be reached.
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
    /// Whether retrying is useless until somebody changes something.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Token(_) | Self::Roots(_) | Self::Name(_) => true,
            // Conflicts and overload are temporary.
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

/// The reason of a refusal: the text in its document, if it follows the contract.
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

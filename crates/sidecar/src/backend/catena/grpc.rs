//! The contract over gRPC.

use std::io;
use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use reqwest::Url;
use sortie_wire::catena::server_manager::catena_server_manager_client::CatenaServerManagerClient;
use sortie_wire::catena::server_manager::{
    EndMatchRequest, EndMatchResponse, MatchReadyRequest, MatchReadyResponse, RequestMatchRequest,
    RequestMatchResponse,
};
use sortie_wire::status::Status;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Response};
use tower::service_fn;
use url::Position;

use super::{ALIVE_PERIOD, CONNECT_TIME, CatenaBackendError, MAX_ANSWER_BYTES, last_cause, meaning};
use crate::backend::BackendError;

/// A client for one backend.
#[derive(Debug)]
pub(super) struct Grpc {
    client: CatenaServerManagerClient<Channel>,
    bearer: Option<MetadataValue<Ascii>>,
}

impl Grpc {
    pub(super) fn plain(url: &Url, bearer: Option<&str>) -> Result<Self, CatenaBackendError> {
        Self::new(endpoint(url, "http")?.connect_lazy(), bearer)
    }

    /// TLS with our own connector rather than tonic's, so that the choice of library, provider and roots stays in one
    /// place.
    pub(super) fn over_tls(
        url: &Url,
        bearer: Option<&str>,
        ca: Option<&Path>,
    ) -> Result<Self, CatenaBackendError> {
        let mut config = sortie_tls::client_config(ca)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = url.port().unwrap_or(443);
        let name =
            ServerName::try_from(host.clone()).map_err(|_| CatenaBackendError::Url(url.to_string()))?;
        let connect = service_fn(move |_: Uri| {
            let (connector, host, name) = (connector.clone(), host.clone(), name.clone());
            async move {
                let stream = TcpStream::connect((host.as_str(), port)).await?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(TokioIo::new(connector.connect(name, stream).await?))
            }
        });
        Self::new(endpoint(url, "https")?.connect_with_connector_lazy(connect), bearer)
    }

    fn new(channel: Channel, bearer: Option<&str>) -> Result<Self, CatenaBackendError> {
        let bearer = bearer.map(str::parse::<MetadataValue<Ascii>>).transpose();
        let mut bearer = bearer.map_err(|_| CatenaBackendError::ApiKey)?;
        if let Some(bearer) = &mut bearer {
            bearer.set_sensitive(true);
        }
        let client = CatenaServerManagerClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        Ok(Self { client, bearer })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(bearer) = &self.bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        request
    }

    pub(super) async fn request_match(
        &self,
        request: RequestMatchRequest,
    ) -> Result<RequestMatchResponse, BackendError> {
        answer(self.client.clone().request_match(self.request(request)).await)
    }

    pub(super) async fn match_ready(
        &self,
        request: MatchReadyRequest,
    ) -> Result<MatchReadyResponse, BackendError> {
        answer(self.client.clone().match_ready(self.request(request)).await)
    }

    pub(super) async fn end_match(&self, request: EndMatchRequest) -> Result<EndMatchResponse, BackendError> {
        answer(self.client.clone().end_match(self.request(request)).await)
    }
}

fn endpoint(url: &Url, scheme: &str) -> Result<Endpoint, CatenaBackendError> {
    let wrong = || CatenaBackendError::Url(url.to_string());
    if !matches!(url.path(), "" | "/") {
        return Err(wrong());
    }
    let authority = &url[Position::BeforeHost..Position::AfterPort];
    if !url.has_host() {
        return Err(wrong());
    }
    // The endpoint's scheme must not mention TLS, or tonic would set it up itself; the origin has the real scheme.
    let origin: Uri = format!("{scheme}://{authority}").parse().map_err(|_| wrong())?;
    let endpoint = Endpoint::from_shared(format!("http://{authority}")).map_err(|_| wrong())?;
    Ok(endpoint
        .origin(origin)
        .connect_timeout(CONNECT_TIME)
        .http2_keep_alive_interval(ALIVE_PERIOD)
        .keep_alive_timeout(CONNECT_TIME)
        .tcp_nodelay(true))
}

fn answer<T>(result: Result<Response<T>, tonic::Status>) -> Result<T, BackendError> {
    result.map(Response::into_inner).map_err(|error| {
        let mut status = Status::from(&error);
        if std::error::Error::source(&error).is_some() {
            status.message = last_cause(&error);
        }
        meaning(status)
    })
}

//! A scripted control plane, and the Agones source in front of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, Method};
use serde_json::Value;
use sortie_sidecar::backend::{Backend, BackendError};
use sortie_sidecar::manager::{Manager, ManagerOptions};
use sortie_sidecar::resolver::{Address, ResolveError, Resolver};
use sortie_sidecar::source::agones::{AgonesOptions, AgonesSource};
use sortie_sidecar::source::{EventSource, SourceError};
use sortie_wire::agones::sdk::{Empty, GameServer, sdk_client::SdkClient};
use sortie_wire::catena::server_manager::{
    EndMatchRequest, EndMatchResponse, Match, MatchReadyRequest, MatchReadyResponse, RequestMatchRequest,
    RequestMatchResponse,
};
use sortie_wire::status::{Status, refusal};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

/// Timeout for anything that must happen.
const DEADLINE: Duration = Duration::from_secs(120);

/// Maximum number of calls before a test looks at them.
const MAX_HEARD: usize = 256;

/// The hint of a server that takes no match.
const FULL: u32 = 8;

/// A call that the control plane received.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Heard {
    Asked {
        requirements: String,
    },
    /// The request was withdrawn.
    Withdrawn,
    Ready {
        match_id: String,
        connection_details: String,
    },
    Ended {
        match_id: String,
        hints: u32,
    },
}

/// Answers in order; a request for a match waits until there is an answer.
pub(crate) struct ControlPlane {
    answers: Mutex<VecDeque<Result<RequestMatchResponse, BackendError>>>,
    /// If set, the answer to everything else.
    failure: Mutex<Option<BackendError>>,
    more: Notify,
    heard: mpsc::Sender<Heard>,
}

impl ControlPlane {
    pub(crate) fn new() -> (Arc<Self>, mpsc::Receiver<Heard>) {
        let (heard, ears) = mpsc::channel(MAX_HEARD);
        let (answers, failure, more) = (Mutex::default(), Mutex::default(), Notify::new());
        (Arc::new(Self { answers, failure, more, heard }), ears)
    }

    pub(crate) fn answer(&self, answer: Result<RequestMatchResponse, BackendError>) {
        self.answers.lock().unwrap().push_back(answer);
        self.more.notify_one();
    }

    pub(crate) fn give(&self, match_id: &str) {
        self.answer(Ok(RequestMatchResponse { r#match: Some(game(match_id)), ..Default::default() }));
    }

    pub(crate) fn fail(&self, failure: Option<BackendError>) {
        *self.failure.lock().unwrap() = failure;
    }

    fn failure(&self) -> Result<(), BackendError> {
        self.failure.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Backend for ControlPlane {
    fn name(&self) -> &'static str {
        "scripted"
    }

    async fn request_match(
        &self,
        request: RequestMatchRequest,
    ) -> Result<RequestMatchResponse, BackendError> {
        if request.hint_flags & FULL != 0 {
            let _ = self.heard.try_send(Heard::Withdrawn);
            // Also answers the open request.
            self.answer(Ok(RequestMatchResponse::default()));
            return Ok(RequestMatchResponse::default());
        }
        let _ = self.heard.try_send(Heard::Asked { requirements: request.requirements });
        loop {
            let more = self.more.notified();
            let answer = self.answers.lock().unwrap().pop_front();
            match answer {
                Some(answer) => return answer,
                None => more.await,
            }
        }
    }

    async fn match_ready(&self, request: MatchReadyRequest) -> Result<MatchReadyResponse, BackendError> {
        self.failure()?;
        let MatchReadyRequest { match_id, connection_details, .. } = request;
        let _ = self.heard.try_send(Heard::Ready { match_id: match_id.clone(), connection_details });
        Ok(MatchReadyResponse { match_id, hint_flags: 0 })
    }

    async fn end_match(&self, request: EndMatchRequest) -> Result<EndMatchResponse, BackendError> {
        self.failure()?;
        let EndMatchRequest { match_id, hint_flags, .. } = request;
        let _ = self.heard.try_send(Heard::Ended { match_id: match_id.clone(), hints: hint_flags });
        Ok(EndMatchResponse { match_id, hint_flags: 0 })
    }
}

/// Knows the address only after this many failures.
pub(crate) struct Late(pub(crate) Mutex<u32>);

#[async_trait]
impl Resolver for Late {
    fn name(&self) -> &'static str {
        "late"
    }

    async fn resolve(&self, _: &str) -> Result<Address, ResolveError> {
        let mut failures = self.0.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(ResolveError("not yet".to_owned()));
        }
        Ok(Address { host: "203.0.113.9".to_owned(), port: Some(7777) })
    }

    fn release(&self, _: &str) {}
}

pub(crate) fn game(match_id: &str) -> Match {
    Match {
        match_id: match_id.to_owned(),
        player_ids: vec!["p1".to_owned()],
        match_properties: r#"{"map":"lake"}"#.to_owned(),
        player_properties: [("p1".to_owned(), "{}".to_owned())].into(),
    }
}

pub(crate) fn refused(code: Code) -> BackendError {
    let status: Status = refusal(code, "test", "no");
    BackendError::Refused(status)
}

/// Free ports, no health checks, and otherwise the defaults.
pub(crate) fn options() -> AgonesOptions {
    AgonesOptions {
        grpc_listen: "127.0.0.1:0".parse().unwrap(),
        http_listen: "127.0.0.1:0".parse().unwrap(),
        health: None,
        ..AgonesOptions::default()
    }
}

/// A running source.
pub(crate) struct Site {
    pub(crate) control_plane: Arc<ControlPlane>,
    pub(crate) ears: mpsc::Receiver<Heard>,
    pub(crate) grpc: String,
    pub(crate) http: String,
    closing: CancellationToken,
    running: JoinHandle<Result<(), SourceError>>,
    client: Client,
}

impl Site {
    pub(crate) async fn start(options: AgonesOptions, resolver: Option<Arc<dyn Resolver>>) -> Self {
        let (control_plane, ears) = ControlPlane::new();
        let manager = Manager::new(ManagerOptions::default(), control_plane.clone(), resolver);
        Self::with(options, manager, control_plane, ears).await
    }

    pub(crate) async fn with(
        options: AgonesOptions,
        manager: Manager,
        control_plane: Arc<ControlPlane>,
        ears: mpsc::Receiver<Heard>,
    ) -> Self {
        let source = AgonesSource::bind(options).await.unwrap();
        let grpc = format!("http://{}", source.grpc_address().unwrap());
        let http = format!("http://{}", source.http_address().unwrap());
        let closing = CancellationToken::new();
        let running = tokio::spawn(Box::new(source).run(manager, closing.clone()));
        let client = sortie_tls::http_client(&http, None).unwrap().build().unwrap();
        Self { control_plane, ears, grpc, http, closing, running, client }
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(self.grpc.clone()).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn sdk(&self) -> SdkClient<Channel> {
        SdkClient::new(self.channel().await)
    }

    /// The next call that the control plane receives.
    pub(crate) async fn heard(&mut self) -> Heard {
        within(self.ears.recv()).await.unwrap()
    }

    /// One call over HTTP: returns status and document.
    pub(crate) async fn call(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let method: Method = method.parse().unwrap();
        let request = self.client.request(method, format!("{}{path}", self.http)).body(body.to_owned());
        let response = within(request.send()).await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/json");
        let status = response.status().as_u16();
        (status, within(response.json()).await.unwrap())
    }

    pub(crate) async fn stream(&self, path: &str) -> reqwest::Response {
        within(self.client.get(format!("{}{path}", self.http)).send()).await.unwrap()
    }

    /// Waits until the source ends on its own.
    pub(crate) async fn ended(self) {
        within(self.running).await.unwrap().unwrap();
    }

    /// Ends the source as at the end of the process. Returns what the control plane received.
    pub(crate) async fn stop(self) -> mpsc::Receiver<Heard> {
        self.closing.cancel();
        within(self.running).await.unwrap().unwrap();
        self.ears
    }
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("it must happen")
}

/// The next state with this name that a watcher sees.
pub(crate) async fn until(states: &mut Streaming<GameServer>, name: &str) -> GameServer {
    loop {
        let state = within(states.message()).await.unwrap().expect("the stream goes on");
        if state.status.as_ref().unwrap().state == name {
            return state;
        }
    }
}

/// A server that is ready and watches.
pub(crate) async fn ready(site: &Site) -> (SdkClient<Channel>, Streaming<GameServer>) {
    let mut sdk = site.sdk().await;
    let states = sdk.watch_game_server(Empty {}).await.unwrap().into_inner();
    sdk.ready(Empty {}).await.unwrap();
    (sdk, states)
}

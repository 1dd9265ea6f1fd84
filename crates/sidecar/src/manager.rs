//! The servers and matches that this sidecar holds, and every call about them.
//!
//! What is missing in a call is filled in: a server id is made once and kept, a match id is the server's one match, the
//! address is the resolver's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sortie_wire::catena::server_manager::{
    EndMatchRequest, EndMatchResponse, MatchReadyRequest, MatchReadyResponse, RequestMatchRequest,
    RequestMatchResponse,
};
use sortie_wire::status::{Status, refusal};
use tonic::Code;
use uuid::Uuid;

use crate::backend::{Backend, BackendError};
use crate::resolver::{Address, ResolveError, Resolver};

/// What the manager may do by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManagerOptions {
    /// The resolver's address replaces what a game server sent.
    pub override_connection_details: bool,
    /// Missing ids are filled in.
    pub auto_populate_ids: bool,
}

/// Holds the servers and matches. Cheap to clone.
#[derive(Clone)]
pub struct Manager(Arc<Shared>);

struct Shared {
    options: ManagerOptions,
    backend: Arc<dyn Backend>,
    resolver: Option<Arc<dyn Resolver>>,
    /// Matches by server.
    servers: Mutex<BTreeMap<String, BTreeSet<String>>>,
    /// Ids that were made, by the event source that they were made for.
    made: Mutex<BTreeMap<&'static str, String>>,
}

impl Manager {
    /// A manager that holds nothing yet.
    #[must_use]
    pub fn new(
        options: ManagerOptions,
        backend: Arc<dyn Backend>,
        resolver: Option<Arc<dyn Resolver>>,
    ) -> Self {
        let shared = Shared { options, backend, resolver, servers: Mutex::default(), made: Mutex::default() };
        Self(Arc::new(shared))
    }

    /// A new server id that is never given again.
    #[must_use]
    pub fn new_server_id(&self) -> String {
        format!("server-{}", Uuid::now_v7())
    }

    /// The id of the one game server of an event source whose calls name none: made once, and kept over restarts.
    pub fn server_id_of(&self, source: &'static str) -> String {
        locked(&self.0.made).entry(source).or_insert_with(|| self.new_server_id()).clone()
    }

    /// Asks the backend for a match, and registers the server. While the backend is away the answer is that there is no
    /// match now. A match in the answer is held from here on: it is in every later answer to the question which match
    /// the server has, until [`Self::end_match`].
    ///
    /// # Errors
    /// What the game server is to be told.
    pub async fn request_match(
        &self,
        source: &'static str,
        mut request: RequestMatchRequest,
    ) -> Result<RequestMatchResponse, Status> {
        self.fill_server(source, &mut request.server_id)?;
        let server_id = request.server_id.clone();
        locked(&self.0.servers).entry(server_id.clone()).or_default();
        match self.0.backend.request_match(request).await {
            Ok(response) => {
                if let Some(found) = &response.r#match {
                    locked(&self.0.servers).entry(server_id).or_default().insert(found.match_id.clone());
                }
                Ok(response)
            }
            Err(BackendError::Away(_)) => Ok(RequestMatchResponse::default()),
            Err(BackendError::Refused(status)) => Err(status),
        }
    }

    /// Says that players may connect. Once this has returned without an error the backend hears of it, however long it
    /// is away and whether or not this process lives.
    ///
    /// # Errors
    /// What the game server is to be told.
    pub async fn match_ready(
        &self,
        source: &'static str,
        mut request: MatchReadyRequest,
    ) -> Result<MatchReadyResponse, Status> {
        self.fill_server(source, &mut request.server_id)?;
        self.fill_match(&request.server_id, &mut request.match_id)?;
        self.0.backend.match_ready(request).await.map_err(told)
    }

    /// Says that a match is over; as sure as [`Self::match_ready`].
    ///
    /// # Errors
    /// What the game server is to be told.
    pub async fn end_match(
        &self,
        source: &'static str,
        mut request: EndMatchRequest,
    ) -> Result<EndMatchResponse, Status> {
        self.fill_server(source, &mut request.server_id)?;
        self.fill_match(&request.server_id, &mut request.match_id)?;
        if let Some(matches) = locked(&self.0.servers).get_mut(&request.server_id) {
            matches.remove(&request.match_id);
        }
        self.0.backend.end_match(request).await.map_err(told)
    }

    /// The server is there, though it called nothing: its health was heard of.
    pub fn heard_from(&self, server_id: &str) {
        let _ = server_id;
    }

    /// The server is gone: its matches end, and its address is free again.
    pub async fn server_gone(&self, server_id: &str, why: &str) {
        let held = locked(&self.0.servers).remove(server_id).unwrap_or_default();
        tracing::info!(server_id, why, matches = held.len(), "a server is gone");
        for match_id in held {
            let request = EndMatchRequest { server_id: server_id.to_owned(), match_id, hint_flags: 1 };
            let _ = self.0.backend.end_match(request).await;
        }
        if let Some(resolver) = &self.0.resolver {
            resolver.release(server_id);
        }
    }

    /// Where players reach the server; `None` without a resolver.
    ///
    /// # Errors
    /// [`ResolveError`]
    pub async fn address_of(&self, server_id: &str) -> Result<Option<Address>, ResolveError> {
        match &self.0.resolver {
            Some(resolver) => resolver.resolve(server_id).await.map(Some),
            None => Ok(None),
        }
    }

    fn fill_server(&self, source: &'static str, server_id: &mut String) -> Result<(), Status> {
        if server_id.is_empty() {
            if !self.0.options.auto_populate_ids {
                return Err(refusal(Code::InvalidArgument, "invalid_field", "serverId: must be given"));
            }
            *server_id = self.server_id_of(source);
        }
        Ok(())
    }

    fn fill_match(&self, server_id: &str, match_id: &mut String) -> Result<(), Status> {
        if !match_id.is_empty() {
            return Ok(());
        }
        let servers = locked(&self.0.servers);
        let mut held = servers.get(server_id).into_iter().flatten();
        match (held.next(), held.next()) {
            (Some(only), None) => {
                only.clone_into(match_id);
                Ok(())
            }
            _ => Err(refusal(Code::InvalidArgument, "invalid_field", "matchId: must be given")),
        }
    }
}

fn told(error: BackendError) -> Status {
    match error {
        BackendError::Refused(status) => status,
        BackendError::Away(why) => refusal(Code::Unavailable, "unavailable", why),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

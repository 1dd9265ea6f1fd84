//! State shared by all requests.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::ControlOptions;
use super::profiles::Profiles;
use super::servers::{Servers, Terms};
use crate::http_answer::Refused;
use crate::manager::Manager;

/// Maximum number of concurrent streams: open panels, and callers that follow a server they launched.
pub const MAX_STREAMS: usize = 64;

/// The right to a stream. Returned when dropped.
pub(super) type StreamPermit = OwnedSemaphorePermit;

/// State shared by all requests. Cheap to clone.
#[derive(Clone)]
pub(super) struct Control(Arc<Shared>);

pub(super) struct Shared {
    pub(super) options: ControlOptions,
    pub(super) manager: Manager,
    pub(super) servers: Servers,
    /// Id of this sidecar: generated once and kept.
    pub(super) id: String,
    pub(super) began: SystemTime,
    pub(super) closing: CancellationToken,
    profiles: Mutex<Profiles>,
    streams: Arc<Semaphore>,
}

impl Deref for Control {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Control {
    pub(super) fn new(options: ControlOptions, manager: Manager, closing: CancellationToken) -> Self {
        let terms = Terms {
            environment: options.environment.clone(),
            pass_environment: options.pass_environment.clone(),
            stop_deadline: options.stop_deadline,
        };
        // An id of its own among those that the manager generates and keeps.
        let made = manager.server_id_of("sidecar");
        let id = format!("sidecar-{}", made.strip_prefix("server-").unwrap_or(&made));
        Self(Arc::new(Shared {
            servers: Servers::new(manager.clone(), terms),
            options,
            manager,
            id,
            began: SystemTime::now(),
            closing,
            profiles: Mutex::default(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        }))
    }
}

impl Shared {
    pub(super) fn profiles(&self) -> MutexGuard<'_, Profiles> {
        self.profiles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stream_permit(&self) -> Result<StreamPermit, Refused> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            let text = format!("too many streams: at most {MAX_STREAMS} may be open");
            Refused::new(Code::ResourceExhausted, "too_many", text)
        })
    }
}

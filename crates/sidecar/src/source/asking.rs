//! Asking for matches on behalf of a game server that does not ask by itself.

use std::time::Duration;

use sortie_wire::catena::server_manager::{Match, RequestMatchRequest};
use sortie_wire::hints::HintFlag;
use sortie_wire::status::Status;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::manager::Manager;

/// What came of asking.
pub(super) enum Asked {
    /// A match to play.
    Match(Box<Match>),
    /// The backend wants no more of this server.
    ShutDown,
    /// The sidecar ends.
    Closing,
}

/// Asks until there is something to say.
pub(super) async fn next_match(
    manager: &Manager,
    source: &'static str,
    server_id: &str,
    requirements: &str,
    pace: Duration,
    closing: &CancellationToken,
) -> Result<Asked, Status> {
    let hints = HintFlag::WillingToWait as u32 | HintFlag::WillingToShutdown as u32;
    let asking = async {
        loop {
            let next = Instant::now() + pace;
            let request = RequestMatchRequest {
                server_id: server_id.to_owned(),
                requirements: requirements.to_owned(),
                hint_flags: hints,
            };
            let response = manager.request_match(source, request).await?;
            if let Some(game) = response.r#match {
                return Ok(Asked::Match(Box::new(game)));
            }
            if wants_shutdown(response.hint_flags) {
                return Ok(Asked::ShutDown);
            }
            sleep_until(next).await;
        }
    };
    tokio::select! {
        () = closing.cancelled() => Ok(Asked::Closing),
        asked = asking => asked,
    }
}

/// Whether hints of the backend say that the server is to take no more matches.
pub(super) fn wants_shutdown(hint_flags: u32) -> bool {
    hint_flags & HintFlag::Shutdown as u32 != 0
}

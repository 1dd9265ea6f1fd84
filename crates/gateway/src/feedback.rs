//! Progress messages to a player who waits for a seat, in the JSON of bevygap's clients.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::Inner;
use crate::admission::{Admission, Given};
use crate::error::JoinError;
use crate::join::{Wish, join};

/// Maximum number of queued feedback messages to one player.
const FEEDBACK_QUEUE: usize = 16;

/// One message to a waiting player.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub(crate) enum Feedback {
    /// The request was understood.
    Acknowledged,
    /// A seat is reserved, or a ticket is in the queue: the id.
    SessionRequestAccepted(String),
    /// The progress, as text.
    ProgressReport(String),
    /// The player can connect.
    SessionReady {
        /// Connect token in base64.
        token: String,
        /// The server's address.
        ip: String,
        /// Its port.
        port: u16,
        /// Digest of the server's WebTransport certificate; empty if it has none.
        cert_digest: String,
        /// For a guest: identifies the guest when sent as `player_key` with the next request.
        #[serde(skip_serializing_if = "Option::is_none")]
        player_key: Option<String>,
    },
    /// No seat: an HTTP status, and why.
    Error(u16, String),
}

impl Feedback {
    pub(crate) fn error(error: &JoinError) -> Self {
        Self::Error(error.status(), error.to_string())
    }

    fn ready(admission: &Admission) -> Self {
        Self::SessionReady {
            token: admission.token.clone(),
            ip: admission.address.ip().to_string(),
            port: admission.address.port(),
            cert_digest: String::new(),
            player_key: admission.player_key.clone(),
        }
    }

    pub(crate) fn to_json(&self) -> String {
        // Strings and numbers always have a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Sends feedback while a player waits; sends nothing if the player gets a single answer.
pub(crate) struct Reports(Option<mpsc::Sender<Feedback>>);

impl Reports {
    pub(crate) const NONE: Self = Self(None);

    pub(crate) const fn wanted(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) async fn send(&self, feedback: Feedback) {
        if let Some(sender) = &self.0 {
            // Fails only if the receiver is gone, and then this task is dropped too.
            let _ = sender.send(feedback).await;
        }
    }
}

/// A message on its way to the player.
pub(crate) struct Outgoing {
    pub(crate) feedback: Feedback,
    /// What the message gives the player: kept once the message is sent.
    pub(crate) given: Option<Given>,
}

/// A join with its feedback, driven by calls of `next`. Dropping it releases the seat, or leaves the ticket to be found
/// again.
pub(crate) struct Joining {
    join: Option<BoxFuture<'static, Result<Admission, JoinError>>>,
    reports: mpsc::Receiver<Feedback>,
    last: Option<Outgoing>,
}

impl Joining {
    pub(crate) fn start(gateway: Arc<Inner>, wish: Wish) -> Self {
        let (sender, reports) = mpsc::channel(FEEDBACK_QUEUE);
        let join = join(gateway, wish, Reports(Some(sender))).boxed();
        Self { join: Some(join), reports, last: None }
    }

    /// The next message; `None` after the last. A dropped future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Outgoing> {
        while let Some(join) = &mut self.join {
            tokio::select! {
                biased;
                Some(feedback) = self.reports.recv() => return Some(Outgoing { feedback, given: None }),
                joined = join => {
                    self.join = None;
                    self.last = Some(last(joined));
                }
            }
        }
        match self.reports.try_recv() {
            Ok(feedback) => Some(Outgoing { feedback, given: None }),
            Err(_) => self.last.take(),
        }
    }
}

fn last(joined: Result<Admission, JoinError>) -> Outgoing {
    match joined {
        Ok(admission) => Outgoing { feedback: Feedback::ready(&admission), given: Some(admission.given) },
        Err(error) => Outgoing { feedback: Feedback::error(&error), given: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feedback_has_the_json_that_clients_read() {
        let ready = Feedback::SessionReady {
            token: "dG9r".to_owned(),
            ip: "1.2.3.4".to_owned(),
            port: 7777,
            cert_digest: String::new(),
            player_key: None,
        };
        for (feedback, json) in [
            (Feedback::Acknowledged, r#""Acknowledged""#),
            (Feedback::SessionRequestAccepted("seat-1".to_owned()), r#"{"SessionRequestAccepted":"seat-1"}"#),
            (Feedback::ProgressReport("a \"b\"".to_owned()), r#"{"ProgressReport":"a \"b\""}"#),
            (ready, r#"{"SessionReady":{"token":"dG9r","ip":"1.2.3.4","port":7777,"cert_digest":""}}"#),
            (Feedback::Error(503, "no".to_owned()), r#"{"Error":[503,"no"]}"#),
        ] {
            assert_eq!(feedback.to_json(), json);
        }
    }
}

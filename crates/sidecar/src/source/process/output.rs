//! A program's output: forwarded to the sidecar's log, and searched for the line that reports readiness.
//!
//! A pipe rather than a file: reading slowly slows down the program and fills no disk. It is always read, even if
//! nobody waits for a line, because a full pipe would stop the program.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use regex::bytes::Regex;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::lines::Lines;

/// Bytes per read.
const PIECE_BYTES: usize = 8 * 1024;
/// Number of lines kept for the report of a failure.
const KEPT_LINES: usize = 10;
/// Timeout for the end of the output once the program has ended. A process that left its group may hold it open.
const ENDED_WITHIN: Duration = Duration::from_secs(1);

/// The output of one program. When dropped, it is no longer read.
pub(super) struct Output {
    readers: JoinSet<()>,
    heard: Arc<Heard>,
}

struct Heard {
    server_id: String,
    pattern: Option<Regex>,
    matched: CancellationToken,
    last: Mutex<VecDeque<String>>,
}

impl Output {
    /// For a program of this server, searched for `pattern`.
    pub(super) fn new(server_id: String, pattern: Option<Regex>) -> Self {
        let heard = Heard { server_id, pattern, matched: CancellationToken::new(), last: Mutex::default() };
        Self { readers: JoinSet::new(), heard: Arc::new(heard) }
    }

    /// Reads one of its streams. Needs a runtime.
    pub(super) fn read(&mut self, from: impl AsyncRead + Unpin + Send + 'static, stream: &'static str) {
        self.readers.spawn(read(from, stream, Arc::clone(&self.heard)));
    }

    /// Returns when a line has matched the pattern.
    pub(super) async fn matched(&self) {
        self.heard.matched.cancelled().await;
    }

    /// Reads to the end, and returns the last lines.
    pub(super) async fn end(mut self) -> String {
        let to_the_end = async { while self.readers.join_next().await.is_some() {} };
        if timeout(ENDED_WITHIN, to_the_end).await.is_err() {
            tracing::debug!(server_id = self.heard.server_id, "a leftover process holds the output open");
        }
        let last = self.heard.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

async fn read(mut from: impl AsyncRead + Unpin, stream: &'static str, heard: Arc<Heard>) {
    let mut lines = Lines::default();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = from.read(&mut piece).await.unwrap_or(0);
        match piece.get(..read) {
            Some(bytes) if !bytes.is_empty() => {
                lines.push(bytes, |line, text| heard.line(stream, line, text));
            }
            _ => break,
        }
    }
    lines.end(|line, text| heard.line(stream, line, text));
}

impl Heard {
    fn line(&self, stream: &'static str, line: &[u8], text: String) {
        tracing::info!(server_id = self.server_id, stream, line = text, "the program printed");
        if self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(line)) {
            self.matched.cancel();
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == KEPT_LINES {
            last.pop_front();
        }
        last.push_back(text);
    }
}

//! The position of a listening player: one cursor over two logs.
//!
//! A place in the broker's log and one in the matchmaker's: everything up to both has been told. All listeners hear the
//! logs in the same order, which may differ after a restart; each event is identified by its place in its own log, so
//! that resuming neither repeats nor misses events, whatever the order was before.

use std::fmt;

use axum::http::{HeaderMap, HeaderValue};

use crate::error::ApiError;

/// The header that resumes a stream, the same over HTTP and gRPC.
pub(crate) const LAST_EVENT_ID: &str = "last-event-id";

/// The equivalent parameter, for clients that can't send headers.
pub(crate) const LAST_EVENT_ID_PARAM: &str = "lastEventId";

/// Everything up to these places has been told. Without a matchmaker the second is 0.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Position {
    /// In the broker's log.
    pub(crate) broker: u64,
    /// In the matchmaker's log.
    pub(crate) maker: u64,
}

impl Position {
    /// The later place in each log.
    pub(crate) fn max(self, other: Self) -> Self {
        Self { broker: self.broker.max(other.broker), maker: self.maker.max(other.maker) }
    }

    /// Whether it is behind or at `other`, in both logs.
    pub(crate) const fn is_within(self, other: Self) -> bool {
        self.broker <= other.broker && self.maker <= other.maker
    }

    /// Reads the id of an event.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (broker, maker) = text.split_once('.').unwrap_or((text, "0"));
        Some(Self { broker: number(broker)?, maker: number(maker)? })
    }
}

/// Digits only: `parse` would accept a sign as well.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.maker {
            0 => write!(f, "{}", self.broker),
            maker => write!(f, "{}.{maker}", self.broker),
        }
    }
}

/// Where to resume a stream: from the header, otherwise the parameter.
pub(crate) fn resumed(headers: &HeaderMap, param: Option<&str>) -> Result<Option<Position>, ApiError> {
    let header = headers.get(LAST_EVENT_ID).map(HeaderValue::to_str).map(|text| text.unwrap_or("?"));
    let (name, text) = match (header.filter(|text| !text.is_empty()), param) {
        (Some(text), _) => (LAST_EVENT_ID, text),
        (None, Some(text)) => (LAST_EVENT_ID_PARAM, text),
        (None, None) => return Ok(None),
    };
    let bad = || ApiError::field(name, "must be the eventId of an event of such a stream, like 12 or 12.34");
    Position::parse(text).map(Some).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_written() {
        for position in [Position { broker: 7, maker: 0 }, Position { broker: 0, maker: 9 }] {
            assert_eq!(Position::parse(&position.to_string()), Some(position));
        }
        for bad in ["", ".", "1.", ".1", "1.2.3", "-1", "+1", "1.+2", "x", "18446744073709551616"] {
            assert_eq!(Position::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_header_counts_more_than_the_parameter() {
        let headers: HeaderMap =
            [(LAST_EVENT_ID.parse().unwrap(), "3.4".parse().unwrap())].into_iter().collect();
        assert_eq!(resumed(&headers, Some("1")).unwrap(), Some(Position { broker: 3, maker: 4 }));
        assert_eq!(resumed(&HeaderMap::new(), Some("1")).unwrap(), Some(Position { broker: 1, maker: 0 }));
        assert_eq!(resumed(&HeaderMap::new(), None).unwrap(), None);
        assert!(resumed(&HeaderMap::new(), Some("x")).is_err());
    }
}

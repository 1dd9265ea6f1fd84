//! Dispatch tokens: short-lived, for some ports and devices, with optional quotas.
//!
//! Random texts rather than signed documents, because the bytes that a token has used must be kept anyway, and because
//! such a token is useless once the process is gone. Only digests of tokens are kept.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::time::Instant;

use crate::accept::AcceptList;
use crate::frame::Protocol;
use crate::lock;

/// Random bytes in a token.
const TOKEN_BYTES: usize = 32;
/// How much of its rate an unused token may use at once, as time.
const BURST: Duration = Duration::from_secs(1);

/// What a token allows.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// `None` means both.
    pub(crate) protocol: Option<Protocol>,
    pub(crate) ports: Vec<RangeInclusive<u16>>,
    pub(crate) accept: AcceptList,
    pub(crate) life: Duration,
    /// Quota of device bytes, both ways and over all websockets together.
    pub(crate) max_bytes: Option<u64>,
    /// Device bytes per second, both ways and over all websockets together.
    pub(crate) bytes_per_second: Option<u64>,
}

/// Why a token is not issued.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum IssueError {
    #[error("there are {0} dispatch tokens already: try again when some have expired")]
    TooMany(usize),
    #[error("the system has no random numbers")]
    Entropy,
}

/// Why a token does not let a driver in. Never reveals whether the token once existed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum ScopeError {
    #[error("port: the token is not for this port")]
    Port,
    #[error("accept: the token is not for all of these addresses")]
    Accept,
    #[error("the token is not for this protocol")]
    Protocol,
    #[error("the token has used up its bytes")]
    UsedUp,
}

/// A token that was issued.
pub(crate) struct Issued {
    pub(crate) token: String,
    pub(crate) expires_at: SystemTime,
}

/// Every valid token.
pub(crate) struct Tokens {
    max: usize,
    grants: Mutex<BTreeMap<[u8; 32], Arc<Grant>>>,
}

/// A token, as it is stored.
pub(crate) struct Grant {
    scope: Scope,
    expires: Instant,
    allowance: Arc<Allowance>,
}

impl Tokens {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, grants: Mutex::default() }
    }

    pub(crate) fn issue(&self, scope: Scope) -> Result<Issued, IssueError> {
        let mut random = [0; TOKEN_BYTES];
        getrandom::fill(&mut random).map_err(|_| IssueError::Entropy)?;
        let token = Base64UrlUnpadded::encode_string(&random);
        let now = Instant::now();
        let expires_at = SystemTime::now() + scope.life;
        let mut grants = lock(&self.grants);
        if grants.len() >= self.max {
            grants.retain(|_, grant| grant.expires > now);
        }
        if grants.len() >= self.max {
            return Err(IssueError::TooMany(self.max));
        }
        let allowance = Arc::new(Allowance::new(scope.max_bytes, scope.bytes_per_second));
        grants.insert(digest(&token), Arc::new(Grant { expires: now + scope.life, scope, allowance }));
        Ok(Issued { token, expires_at })
    }

    /// What `token` allows, if it exists and has not expired.
    pub(crate) fn find(&self, token: &str) -> Option<Arc<Grant>> {
        // Looked up by digest: the duration of the search reveals nothing about the tokens.
        let grant = lock(&self.grants).get(&digest(token)).cloned()?;
        (grant.expires > Instant::now()).then_some(grant)
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

impl Grant {
    /// Lets a driver in.
    pub(crate) fn admit(
        &self,
        protocol: Protocol,
        port: u16,
        accept: &AcceptList,
    ) -> Result<Arc<Allowance>, ScopeError> {
        if self.scope.protocol.is_some_and(|only| only != protocol) {
            return Err(ScopeError::Protocol);
        }
        if !self.scope.ports.iter().any(|range| range.contains(&port)) {
            return Err(ScopeError::Port);
        }
        if !self.scope.accept.covers(accept) {
            return Err(ScopeError::Accept);
        }
        if self.allowance.is_used_up() {
            return Err(ScopeError::UsedUp);
        }
        Ok(Arc::clone(&self.allowance))
    }
}

/// What a token still allows.
pub(crate) struct Allowance {
    bytes_per_second: Option<u64>,
    state: Mutex<Left>,
}

struct Left {
    bytes: Option<u64>,
    /// When everything let through so far would have passed at the token's rate.
    paid: Instant,
}

/// Whether bytes may pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Passage {
    /// They may, but the next ones not before this.
    After(Instant),
    Free,
    UsedUp,
}

impl Allowance {
    fn new(max_bytes: Option<u64>, bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, state: Mutex::new(Left { bytes: max_bytes, paid: Instant::now() }) }
    }

    fn is_used_up(&self) -> bool {
        lock(&self.state).bytes == Some(0)
    }

    /// Counts bytes that pass now.
    pub(crate) fn charge(&self, bytes: usize) -> Passage {
        let now = Instant::now();
        let mut left = lock(&self.state);
        if let Some(budget) = &mut left.bytes {
            match budget.checked_sub(bytes as u64) {
                Some(less) => *budget = less,
                None => {
                    *budget = 0;
                    return Passage::UsedUp;
                }
            }
        }
        let Some(rate) = self.bytes_per_second else { return Passage::Free };
        let takes = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        let begins = left.paid.max(now.checked_sub(BURST).unwrap_or(now));
        left.paid = begins + takes;
        if left.paid > now { Passage::After(left.paid) } else { Passage::Free }
    }

    /// Whether a datagram may pass now: datagrams do not wait.
    pub(crate) fn has_rate(&self) -> bool {
        self.bytes_per_second.is_none() || lock(&self.state).paid <= Instant::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope {
            protocol: None,
            ports: vec![6000..=6009],
            accept: AcceptList::parse("10.0.0.0/8", 4).unwrap(),
            life: Duration::from_secs(60),
            max_bytes: None,
            bytes_per_second: None,
        }
    }

    fn accept(text: &str) -> AcceptList {
        AcceptList::parse(text, 4).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_valid_for_its_scope_and_lifetime() {
        let tokens = Tokens::new(2);
        let token = tokens.issue(Scope { protocol: Some(Protocol::Udp), ..scope() }).unwrap().token;
        let grant = tokens.find(&token).unwrap();
        let admit = |protocol, port, list: &str| grant.admit(protocol, port, &accept(list)).err();
        assert_eq!(admit(Protocol::Udp, 6009, "10.1.0.0/16"), None);
        assert_eq!(admit(Protocol::Tcp, 6009, "10.1.0.0/16"), Some(ScopeError::Protocol));
        assert_eq!(admit(Protocol::Udp, 6010, "10.1.0.0/16"), Some(ScopeError::Port));
        assert_eq!(admit(Protocol::Udp, 6009, "0.0.0.0/0"), Some(ScopeError::Accept));
        assert!(tokens.find("another").is_none());
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(tokens.find(&token).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn expired_tokens_make_room() {
        let tokens = Tokens::new(1);
        tokens.issue(scope()).unwrap();
        assert_eq!(tokens.issue(scope()).err(), Some(IssueError::TooMany(1)));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(tokens.issue(scope()).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_are_used_up() {
        let allowance = Allowance::new(Some(100), None);
        assert_eq!(allowance.charge(60), Passage::Free);
        assert_eq!(allowance.charge(40), Passage::Free);
        assert!(allowance.is_used_up());
        assert_eq!(allowance.charge(1), Passage::UsedUp);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_holds_over_time() {
        let allowance = Allowance::new(None, Some(1_000));
        tokio::time::advance(Duration::from_secs(10)).await;
        let start = Instant::now();
        // One second's worth at once, and after that no more than the rate.
        assert_eq!(allowance.charge(1_000), Passage::Free);
        assert!(allowance.has_rate());
        assert_eq!(allowance.charge(500), Passage::After(start + Duration::from_millis(500)));
        assert!(!allowance.has_rate());
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(allowance.has_rate());
    }
}

//! Why a platform did not carry out a call, in classes that are the same for all platforms.

use std::time::Duration;

/// Attempts to start one server before its order counts as failed, for transient errors: about 16 seconds with the
/// engine's usual pauses.
pub const MAX_START_ATTEMPTS: u32 = 7;
/// Attempts if the platform has no capacity: few, because another fleet may have some.
pub const MAX_CAPACITY_ATTEMPTS: u32 = 3;
/// Attempts if one retry may help, and more will not: with new credentials, or a new server.
pub const MAX_REPEATED_ATTEMPTS: u32 = 2;
/// Maximum total pause that one order grants a throttling platform, over all its attempts. After that the order fails
/// in this fleet, so that another one gets it.
pub const MAX_START_PAUSE: Duration = Duration::from_secs(30);
/// Maximum pause before a stop is retried.
pub const MAX_STOP_PAUSE: Duration = Duration::from_secs(60);

/// The class of an error, which decides the reaction to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorClass {
    /// Too many calls. The platform has done nothing, and may say when to retry.
    Throttled {
        /// When to retry, from now.
        retry_after: Option<Duration>,
    },
    /// There is no machine for the server: other fleets may have one.
    NoCapacity,
    /// The quota of the account is used up, until somebody changes it.
    Quota,
    /// Something else temporarily holds what is needed: a lock, a port, an object that is being changed.
    Conflict,
    /// The call may have worked: a timeout, a lost connection, an internal error.
    UnknownOutcome,
    /// The credentials are wrong or expired, or lack permissions.
    Auth,
    /// The platform will never do it with this configuration: a wrong program, version, size or name.
    Invalid,
    /// The server's image or build cannot be fetched.
    Image,
    /// The server was created and ended, or hung, before it ran.
    BootFailed,
    /// The platform is currently unavailable and has done nothing: no connection, or a machine that cannot start
    /// processes or write files.
    Unreachable,
    /// The server that the call was about has vanished.
    Lost,
}

/// The reaction to an error of a start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StartRule {
    /// Attempts in the same fleet until the order counts as failed; 1 means at once. The broker then avoids the fleet
    /// for a while and orders elsewhere.
    pub attempts: u32,
    /// The server may exist: [`crate::Allocator::describe`] is asked before another attempt, and before a failure is
    /// reported.
    pub looks_first: bool,
    /// The attempt may have left something, which is stopped before a failure is reported.
    pub takes_back: bool,
}

impl ErrorClass {
    /// The reaction to an error of this class when a server was to be started.
    #[must_use]
    pub fn start_rule(self) -> StartRule {
        let rule = |attempts, looks_first, takes_back| StartRule { attempts, looks_first, takes_back };
        match self {
            Self::Throttled { .. } | Self::Unreachable => rule(MAX_START_ATTEMPTS, false, false),
            Self::Conflict => rule(MAX_START_ATTEMPTS, false, true),
            Self::UnknownOutcome => rule(MAX_START_ATTEMPTS, true, true),
            Self::NoCapacity => rule(MAX_CAPACITY_ATTEMPTS, false, false),
            Self::Auth => rule(MAX_REPEATED_ATTEMPTS, false, false),
            Self::Image | Self::BootFailed => rule(MAX_REPEATED_ATTEMPTS, false, true),
            Self::Quota | Self::Invalid | Self::Lost => rule(1, false, false),
        }
    }

    /// When the platform wants a retry, from now, if it said so.
    #[must_use]
    pub const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after } => retry_after,
            _ => None,
        }
    }
}

/// Why a platform did not carry out a call.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct AllocatorError {
    /// Decides the reaction.
    pub class: ErrorClass,
    /// What was wrong and what to do, for the operator; contains no secret.
    pub message: String,
}

impl AllocatorError {
    /// An error of `class`.
    #[must_use]
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    /// An error that stays until somebody changes something.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Invalid, message)
    }

    /// The platform is currently unavailable and has done nothing.
    #[must_use]
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Unreachable, message)
    }
}

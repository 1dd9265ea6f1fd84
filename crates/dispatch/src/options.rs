//! A dispatcher's options: who may use it, which ports it may open, and every limit.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use zeroize::Zeroizing;

/// The shared secret that drivers send. `Debug` output does not show it.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// A secret: any text except an empty one.
    ///
    /// # Errors
    /// [`OptionsError::Secret`] if it is empty.
    pub fn new(text: String) -> Result<Self, OptionsError> {
        let text = Zeroizing::new(text);
        if text.is_empty() { Err(OptionsError::Secret) } else { Ok(Self(text)) }
    }

    /// Constant time: the duration reveals only the length.
    pub(crate) fn is(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Recognizes operators by the headers of a request: callers who may see statistics and create dispatch tokens without
/// the secret. Called for every request, so it must be quick.
#[derive(Clone)]
pub struct Operators(Arc<dyn Fn(&HeaderMap) -> bool + Send + Sync>);

impl Operators {
    /// Operators that `know` recognizes.
    pub fn new(know: impl Fn(&HeaderMap) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(know))
    }

    pub(crate) fn know(&self, headers: &HeaderMap) -> bool {
        (self.0)(headers)
    }
}

impl fmt::Debug for Operators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Operators(…)")
    }
}

/// The answer of `…/version`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// Version of the program.
    pub version: String,
    /// The commit that it was built from.
    pub commit: String,
    /// When it was built.
    pub build_time: String,
    /// Version of the platform that it belongs to.
    pub platform_version: Option<String>,
}

/// How a dispatcher behaves.
#[derive(Clone, Debug)]
pub struct DispatchOptions {
    /// What drivers and operators send. Without it and without `operators`, everyone is let in: for development on
    /// loopback only. Without it but with `operators`, drivers need a dispatch token.
    pub secret: Option<Secret>,
    /// Who else may see statistics and make dispatch tokens.
    pub operators: Option<Operators>,
    /// Addresses of this machine to open device ports on.
    pub hosts: Vec<IpAddr>,
    /// Ports that drivers may open.
    pub allowed_ports: Vec<RangeInclusive<u16>>,
    /// Whether datagrams go only to addresses that have already sent one to the port.
    pub only_to_peers_that_spoke: bool,
    /// The answer of `…/version`.
    pub version: Version,
    /// Every limit.
    pub limits: Limits,
}

impl Default for DispatchOptions {
    fn default() -> Self {
        Self {
            secret: None,
            operators: None,
            hosts: vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            allowed_ports: vec![1..=u16::MAX],
            only_to_peers_that_spoke: true,
            version: Version {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                commit: "unknown".to_owned(),
                build_time: "unknown".to_owned(),
                platform_version: None,
            },
            limits: Limits::default(),
        }
    }
}

/// Every limit of a dispatcher, each with its unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Concurrent drivers, i.e. websockets.
    pub drivers: usize,
    /// Concurrent drivers of one port.
    pub drivers_per_port: usize,
    /// Open ports, TCP and UDP together.
    pub ports: usize,
    /// Connected devices (TCP); any beyond are disconnected at once.
    pub devices: usize,
    /// Entries of an accept list.
    pub accept_entries: usize,
    /// Size of a driver's message, in bytes.
    pub message_bytes: usize,
    /// Bytes that wait to be sent to one driver. At this limit, its devices are no longer read (TCP), or the oldest
    /// datagrams are dropped (UDP).
    pub driver_queue_bytes: usize,
    /// The same for all drivers together.
    pub queue_bytes: usize,
    /// Bytes that wait to be written to one device.
    pub device_backlog_bytes: usize,
    /// The same for all devices together.
    pub backlog_bytes: usize,
    /// A driver that takes nothing for this long while something waits for it is disconnected.
    pub driver_stall: Duration,
    /// If the port has other devices, a device is disconnected once its driver has had to wait for room in its backlog
    /// for this long and half of it was never free in between: the driver's messages to the other devices wait until
    /// then.
    pub device_patience: Duration,
    /// A device that takes nothing for this long while something waits for it is disconnected.
    pub device_stall: Duration,
    /// How long a device that has shut its sending side stays connected after its driver's last bytes.
    pub half_close_time: Duration,
    /// Number of such devices; beyond it, the one that has waited longest is disconnected.
    pub half_closed: usize,
    /// Interval between two pings.
    pub ping_period: Duration,
    /// A driver that sends nothing for this long after a ping is disconnected.
    pub ping_deadline: Duration,
    /// How long a driver has to read the close frame, and a device to read the end of the connection.
    pub close_time: Duration,
    /// Senders of datagrams that a port remembers; beyond it, the oldest are forgotten.
    pub udp_peers_per_port: usize,
    /// Dispatch tokens that are valid at the same time.
    pub tokens: usize,
    /// Maximum lifetime of a dispatch token.
    pub token_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            drivers: 4_096,
            drivers_per_port: 256,
            ports: 2_048,
            devices: 16_384,
            accept_entries: 256,
            message_bytes: 1 << 20,
            driver_queue_bytes: 1 << 20,
            queue_bytes: 256 << 20,
            device_backlog_bytes: 1 << 20,
            backlog_bytes: 256 << 20,
            driver_stall: Duration::from_secs(10),
            device_patience: Duration::from_secs(2),
            device_stall: Duration::from_secs(60),
            half_close_time: Duration::from_secs(10),
            half_closed: 1_024,
            ping_period: Duration::from_secs(20),
            ping_deadline: Duration::from_secs(20),
            close_time: Duration::from_secs(5),
            udp_peers_per_port: 65_536,
            tokens: 10_000,
            token_time: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// Minimum size of a driver's queue, in bytes: four reads from devices, or twice the longest datagram.
pub const MIN_QUEUE_BYTES: usize = 256 << 10;

/// Why options are invalid.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum OptionsError {
    /// The secret is empty.
    #[error("the secret is empty: give one, or none at all to let everyone in")]
    Secret,
    /// There is no address to open ports on.
    #[error("hosts is empty: name an address of this machine, 0.0.0.0 for all of IPv4, :: for all of IPv6")]
    Hosts,
    /// A queue is too small for the largest single message.
    #[error("{name} is {bytes} bytes: it must be at least {MIN_QUEUE_BYTES}")]
    Queue {
        /// The limit's name.
        name: &'static str,
        /// Its value.
        bytes: usize,
    },
    /// A queue is larger than can be counted.
    #[error("{name} is {bytes} bytes: it may be at most {max}")]
    TooLarge {
        /// The limit's name.
        name: &'static str,
        /// Its value.
        bytes: usize,
        /// The maximum.
        max: usize,
    },
    /// The process cannot get random numbers.
    #[error("the system has no random numbers")]
    Entropy,
}

impl DispatchOptions {
    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        if self.hosts.is_empty() {
            return Err(OptionsError::Hosts);
        }
        let limits = &self.limits;
        let max = u32::MAX as usize;
        for (name, bytes) in [
            ("driver_queue_bytes", limits.driver_queue_bytes),
            ("queue_bytes", limits.queue_bytes),
            ("device_backlog_bytes", limits.device_backlog_bytes),
            ("backlog_bytes", limits.backlog_bytes),
        ] {
            if bytes < MIN_QUEUE_BYTES {
                return Err(OptionsError::Queue { name, bytes });
            }
            if name == "driver_queue_bytes" && bytes > max {
                return Err(OptionsError::TooLarge { name, bytes, max });
            }
        }
        Ok(())
    }

    /// Whether everyone may do everything.
    pub(crate) const fn is_open(&self) -> bool {
        self.secret.is_none() && self.operators.is_none()
    }

    pub(crate) fn allows(&self, port: u16) -> bool {
        self.allowed_ports.iter().any(|range| range.contains(&port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_compared_and_not_shown() {
        let secret = Secret::new("hush".to_owned()).unwrap();
        assert!(secret.is("hush"));
        assert!(!secret.is("hus") && !secret.is("hush!") && !secret.is("rush"));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(Secret::new(String::new()).unwrap_err(), OptionsError::Secret);
    }

    #[test]
    fn options_that_cannot_work_are_refused() {
        assert_eq!(DispatchOptions::default().check(), Ok(()));
        let nowhere = DispatchOptions { hosts: Vec::new(), ..DispatchOptions::default() };
        assert_eq!(nowhere.check(), Err(OptionsError::Hosts));
        let mut tiny = DispatchOptions::default();
        tiny.limits.queue_bytes = 1;
        assert_eq!(tiny.check(), Err(OptionsError::Queue { name: "queue_bytes", bytes: 1 }));
    }
}

//! Every open port and its drivers.
//!
//! A driver joins before its websocket is opened. So a port that cannot be opened is still reported as an HTTP answer,
//! and a device that connects as soon as the driver knows of the port finds it open.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use thiserror::Error;

use crate::accept::AcceptList;
use crate::bind;
use crate::driver::{Counted, Driver};
use crate::frame::Protocol;
use crate::lock;
use crate::options::{DispatchOptions, OptionsError};
use crate::outbound::{End, Outbound, close_code};
use crate::shared::Shared;
use crate::tcp::{self, TcpPort};
use crate::tokens::{Allowance, Tokens};
use crate::udp::UdpPort;

/// Why a driver cannot have its port.
#[derive(Debug, Error)]
pub(crate) enum JoinError {
    #[error("the dispatcher is shutting down: try again in a moment")]
    Closing,
    #[error("port {0} is not one of those that the configuration allows")]
    Forbidden(u16),
    #[error("port {port} is in use by another program")]
    InUse { port: u16 },
    #[error("port {0} may not be opened by this process: it lacks the right to")]
    NotPermitted(u16),
    #[error("port {port} cannot be opened: {error}")]
    System { port: u16, error: io::Error },
    #[error("there are {0} drivers already")]
    TooManyDrivers(usize),
    #[error("port {port} has {max} drivers already")]
    TooManyOnPort { port: u16, max: usize },
    #[error("{0} ports are open already")]
    TooManyPorts(usize),
}

impl JoinError {
    fn of_system(port: u16, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { port },
            io::ErrorKind::PermissionDenied => Self::NotPermitted(port),
            _ => Self::System { port, error },
        }
    }
}

/// Every open port.
pub(crate) struct Hub {
    pub(crate) options: DispatchOptions,
    pub(crate) tokens: Tokens,
    pub(crate) shared: Arc<Shared>,
    /// Locked while a port opens or closes, so that it never does both.
    ports: tokio::sync::Mutex<Ports>,
    /// Counters of drivers that have left.
    past: Mutex<Counted>,
    is_closing: AtomicBool,
}

#[derive(Default)]
struct Ports {
    tcp: BTreeMap<u16, Arc<TcpPort>>,
    udp: BTreeMap<u16, Arc<UdpPort>>,
    drivers: usize,
}

/// A port that a driver has joined.
#[derive(Clone)]
pub(crate) enum Port {
    Tcp(Arc<TcpPort>),
    Udp(Arc<UdpPort>),
}

impl Port {
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    fn drivers(&self) -> Arc<[Arc<Driver>]> {
        match self {
            Self::Tcp(port) => port.drivers(),
            Self::Udp(port) => port.drivers(),
        }
    }

    fn join(&self, driver: Arc<Driver>) {
        match self {
            Self::Tcp(port) => port.join(driver),
            Self::Udp(port) => port.join(driver),
        }
    }

    /// `true` if no driver is left.
    fn leave(&self, driver: &Arc<Driver>) -> bool {
        match self {
            Self::Tcp(port) => port.leave(driver),
            Self::Udp(port) => port.leave(driver),
        }
    }

    pub(crate) fn number(&self) -> u16 {
        match self {
            Self::Tcp(port) => port.number,
            Self::Udp(port) => port.number,
        }
    }

    /// Carries out the messages of a driver.
    pub(crate) async fn carry_out(&self, driver: &Arc<Driver>, messages: &mut Vec<Bytes>) -> Result<(), End> {
        match self {
            Self::Tcp(port) => tcp::carry_out(port, driver, messages).await,
            Self::Udp(port) => port.carry_out(driver, messages).await,
        }
    }
}

impl Ports {
    fn get(&self, protocol: Protocol, number: u16) -> Option<Port> {
        match protocol {
            Protocol::Tcp => self.tcp.get(&number).cloned().map(Port::Tcp),
            Protocol::Udp => self.udp.get(&number).cloned().map(Port::Udp),
        }
    }

    fn all(&self) -> impl Iterator<Item = Port> {
        let tcp = self.tcp.values().cloned().map(Port::Tcp);
        tcp.chain(self.udp.values().cloned().map(Port::Udp))
    }

    fn open(
        &mut self,
        protocol: Protocol,
        number: u16,
        options: &DispatchOptions,
        shared: &Arc<Shared>,
    ) -> io::Result<Port> {
        match protocol {
            Protocol::Tcp => {
                let port = TcpPort::open(number, bind::listen(&options.hosts, number)?, Arc::clone(shared))?;
                self.tcp.insert(number, Arc::clone(&port));
                Ok(Port::Tcp(port))
            }
            Protocol::Udp => {
                let port = UdpPort::open(number, bind::receive(&options.hosts, number)?, Arc::clone(shared))?;
                self.udp.insert(number, Arc::clone(&port));
                Ok(Port::Udp(port))
            }
        }
    }
}

/// A driver's request for a port.
pub(crate) struct JoinRequest {
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) accept: AcceptList,
    pub(crate) allowance: Option<Arc<Allowance>>,
}

/// A driver and its port. [`Hub::leave`] ends it.
pub(crate) struct Joined {
    pub(crate) driver: Arc<Driver>,
    pub(crate) port: Port,
}

impl Hub {
    pub(crate) fn new(options: DispatchOptions) -> Result<Self, OptionsError> {
        options.check()?;
        Ok(Self {
            tokens: Tokens::new(options.limits.tokens),
            shared: Arc::new(Shared::new(&options)),
            ports: tokio::sync::Mutex::default(),
            past: Mutex::default(),
            is_closing: AtomicBool::new(false),
            options,
        })
    }

    /// Opens the port if no driver has it yet, and adds the driver.
    pub(crate) async fn join(&self, request: JoinRequest) -> Result<Joined, JoinError> {
        let limits = &self.shared.limits;
        if !self.options.allows(request.port) {
            return Err(JoinError::Forbidden(request.port));
        }
        let mut ports = self.ports.lock().await;
        if self.is_closing.load(Ordering::Acquire) {
            return Err(JoinError::Closing);
        }
        if ports.drivers >= limits.drivers {
            return Err(JoinError::TooManyDrivers(limits.drivers));
        }
        let port = match ports.get(request.protocol, request.port) {
            Some(port) if port.drivers().len() >= limits.drivers_per_port => {
                return Err(JoinError::TooManyOnPort { port: request.port, max: limits.drivers_per_port });
            }
            Some(port) => port,
            None if ports.tcp.len() + ports.udp.len() >= limits.ports => {
                return Err(JoinError::TooManyPorts(limits.ports));
            }
            None => ports
                .open(request.protocol, request.port, &self.options, &self.shared)
                .map_err(|error| JoinError::of_system(request.port, error))?,
        };
        ports.drivers += 1;
        let outbound = Outbound::new(limits.driver_queue_bytes, Arc::clone(&self.shared.queued));
        let driver =
            Arc::new(Driver::new(self.shared.next_id(), request.accept, outbound, request.allowance));
        port.join(Arc::clone(&driver));
        Ok(Joined { driver, port })
    }

    /// Removes a driver, and closes its port if no other driver has it.
    pub(crate) async fn leave(&self, joined: Joined) {
        let Joined { driver, port } = joined;
        let mut ports = self.ports.lock().await;
        ports.drivers -= 1;
        lock(&self.past).add(&driver.counted());
        if port.leave(&driver) {
            match port {
                Port::Tcp(port) => {
                    port.close().await;
                    ports.tcp.remove(&port.number);
                }
                Port::Udp(port) => {
                    port.close().await;
                    ports.udp.remove(&port.number);
                }
            }
        }
    }

    /// Tells every driver that the dispatcher is shutting down, and waits for a graceful end of all connections, at
    /// most for `deadline`.
    pub(crate) async fn shut_down(&self, deadline: Duration) {
        let ports: Vec<Port> = {
            let ports = self.ports.lock().await;
            self.is_closing.store(true, Ordering::Release);
            ports.all().collect()
        };
        for driver in ports.iter().flat_map(|port| port.drivers().to_vec()) {
            let end = End::new(close_code::GOING_AWAY, "the dispatcher is shutting down");
            driver.outbound.end(End { flush: true, ..end });
        }
        self.shared.tracker.close();
        if tokio::time::timeout(deadline, self.shared.tracker.wait()).await.is_err() {
            tracing::warn!("devices or drivers are still connected: disconnecting them now");
            for port in &ports {
                if let Port::Tcp(port) = port {
                    port.break_off();
                }
            }
        }
    }

    /// Drivers and devices of each port, in the shape of the contract.
    pub(crate) async fn listing(&self) -> Listing {
        let ports = self.ports.lock().await;
        let mut listing = Listing::default();
        for (number, port) in &ports.tcp {
            listing.tcp_listeners.insert(*number, port.drivers().len());
            let devices = port.connected();
            if devices > 0 {
                listing.tcp_clients.insert(*number, devices);
            }
        }
        for (number, port) in &ports.udp {
            listing.udp_listeners.insert(*number, port.drivers().len());
        }
        listing
    }

    pub(crate) async fn stats(&self) -> DispatchStats {
        let ports = self.ports.lock().await;
        let mut total = *lock(&self.past);
        let mut devices = 0;
        let mut listed = Vec::new();
        for port in ports.all() {
            let (protocol, connected) = match &port {
                Port::Tcp(port) => (Protocol::Tcp, port.connected()),
                Port::Udp(_) => (Protocol::Udp, 0),
            };
            devices += connected;
            let drivers: Vec<_> = port.drivers().iter().map(|driver| DriverStats::of(driver)).collect();
            for driver in &drivers {
                total.add(&driver.counted);
            }
            listed.push(PortStats { protocol, port: port.number(), devices: connected, drivers });
        }
        DispatchStats {
            drivers: ports.drivers,
            devices,
            turned_away_devices: self.shared.turned_away.load(Ordering::Relaxed),
            queued_bytes: self.shared.queued.used(),
            backlog_bytes: self.shared.backlog.used(),
            total,
            ports: listed,
        }
    }
}

/// Drivers and devices of each port: the answer of `GET /api/dispatch/v1`.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, JsonSchema)]
#[schemars(rename = "DispatchListing")]
pub struct Listing {
    /// Drivers of each UDP port.
    pub udp_listeners: BTreeMap<u16, usize>,
    /// Drivers of each TCP port.
    pub tcp_listeners: BTreeMap<u16, usize>,
    /// Connected devices of each TCP port that has any.
    pub tcp_clients: BTreeMap<u16, usize>,
}

/// Traffic of a dispatcher: the answer of `GET /v1/dispatch/stats`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct DispatchStats {
    /// Connected drivers.
    pub drivers: usize,
    /// Connected devices (TCP).
    pub devices: usize,
    /// Devices that were disconnected at once because there were too many.
    pub turned_away_devices: u64,
    /// Bytes that wait for drivers.
    pub queued_bytes: usize,
    /// Bytes that wait for devices.
    pub backlog_bytes: usize,
    /// Since the start, including drivers that have left.
    pub total: Counted,
    /// Every open port.
    pub ports: Vec<PortStats>,
}

/// One open port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[schemars(rename = "DispatchPort")]
pub struct PortStats {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
    /// Connected devices (TCP).
    pub devices: usize,
    /// Its drivers.
    pub drivers: Vec<DriverStats>,
}

/// One driver.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[schemars(rename = "DispatchDriver")]
pub struct DriverStats {
    /// Its number, never reused.
    pub id: u64,
    /// The devices that it accepts.
    pub accept: Vec<String>,
    /// Bytes that wait for the driver.
    pub queued_bytes: usize,
    /// Its traffic.
    #[serde(flatten)]
    pub counted: Counted,
}

impl DriverStats {
    fn of(driver: &Driver) -> Self {
        Self {
            id: driver.id,
            accept: driver.accept.entries().collect(),
            queued_bytes: driver.outbound.queued_bytes(),
            counted: driver.counted(),
        }
    }
}

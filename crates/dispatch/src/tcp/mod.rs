//! A TCP port: its listeners, its drivers, its devices.
//!
//! | where | what |
//! |---|---|
//! | `device` | a device's connection, from OPENED to CLOSED: the task that reads it |
//! | `audience` | the drivers that receive a device's bytes |
//! | `writes` | what drivers write to a device |
//! | `orders` | a driver's messages, grouped by device |

mod audience;
mod device;
mod orders;
mod writes;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::driver::Driver;
use crate::lock;
use crate::shared::Shared;

pub(crate) use device::{Device, used_up};
pub(crate) use orders::{carry_out, refused};

/// Pause after accepting failed because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An open port.
pub(crate) struct TcpPort {
    pub(crate) number: u16,
    pub(crate) shared: Arc<Shared>,
    drivers: Mutex<Arc<[Arc<Driver>]>>,
    /// Incremented with each change of `drivers`.
    generation: AtomicU64,
    devices: Mutex<BTreeMap<u64, Arc<Device>>>,
    closing: CancellationToken,
    doors: Mutex<Vec<JoinHandle<()>>>,
}

impl TcpPort {
    /// Starts accepting connections.
    ///
    /// # Errors
    /// Errors of the listeners.
    pub(crate) fn open(
        number: u16,
        listeners: Vec<std::net::TcpListener>,
        shared: Arc<Shared>,
    ) -> std::io::Result<Arc<Self>> {
        let port = Arc::new(Self {
            number,
            shared,
            drivers: Mutex::new(Arc::new([])),
            generation: AtomicU64::new(0),
            devices: Mutex::default(),
            closing: CancellationToken::new(),
            doors: Mutex::default(),
        });
        for listener in listeners {
            let listener = TcpListener::from_std(listener)?;
            let door = tokio::spawn(Arc::clone(&port).let_in(listener));
            lock(&port.doors).push(door);
        }
        Ok(port)
    }

    /// Closes the listeners. After this, the port can be opened again.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        let doors = std::mem::take(&mut *lock(&self.doors));
        for door in doors {
            let _ = door.await;
        }
    }

    pub(crate) fn join(&self, driver: Arc<Driver>) {
        let mut drivers = lock(&self.drivers);
        *drivers = drivers.iter().cloned().chain([driver]).collect();
        drop(drivers);
        self.tell_devices();
    }

    /// `true` if no driver is left.
    pub(crate) fn leave(&self, driver: &Arc<Driver>) -> bool {
        let mut drivers = lock(&self.drivers);
        *drivers = drivers.iter().filter(|other| !Arc::ptr_eq(other, driver)).cloned().collect();
        let is_empty = drivers.is_empty();
        drop(drivers);
        self.tell_devices();
        is_empty
    }

    fn tell_devices(&self) {
        self.generation.fetch_add(1, Ordering::Release);
        let devices: Vec<_> = lock(&self.devices).values().cloned().collect();
        for device in devices {
            device.look_again();
        }
    }

    pub(crate) fn drivers(&self) -> Arc<[Arc<Driver>]> {
        Arc::clone(&lock(&self.drivers))
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn device(&self, id: u64) -> Option<Arc<Device>> {
        lock(&self.devices).get(&id).cloned()
    }

    /// Connected devices, except those that only wait for an answer.
    pub(crate) fn connected(&self) -> usize {
        lock(&self.devices).values().filter(|device| device.is_connected()).count()
    }

    /// Whether a device has a driver to itself, as far as can be told without asking each.
    fn has_one_device(&self) -> bool {
        lock(&self.devices).len() <= 1
    }

    /// Ends every connection at once.
    pub(crate) fn break_off(&self) {
        let devices: Vec<_> = lock(&self.devices).values().cloned().collect();
        for device in devices {
            device.break_off();
        }
    }

    async fn let_in(self: Arc<Self>, listener: TcpListener) {
        loop {
            let came = tokio::select! {
                biased;
                () = self.closing.cancelled() => return,
                came = listener.accept() => came,
            };
            match came {
                Ok((stream, peer)) => self.welcome(stream, peer),
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(port = self.number, %error, "a device could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn welcome(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let ip = peer.ip().to_canonical();
        if !self.accepts(ip) {
            tracing::debug!(port = self.number, %ip, "no driver accepts this device");
            return;
        }
        let Some(place) = self.shared.place_for_device() else {
            tracing::warn!(port = self.number, %ip, "too many devices: this one is disconnected");
            return;
        };
        let id = self.shared.next_id();
        let (reading, device) = Device::new(id, ip, stream, place);
        lock(&self.devices).insert(id, Arc::clone(&device));
        self.shared.tracker.spawn(device::run(device, reading, Arc::clone(self)));
    }

    fn accepts(&self, ip: IpAddr) -> bool {
        lock(&self.drivers).iter().any(|driver| driver.accept.contains(ip))
    }
}

/// The fault lies with one connection; the next can be accepted at once.
fn is_of_the_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

//! The drivers that receive a device's bytes.

use std::sync::Arc;

use super::{Device, TcpPort};
use crate::driver::Driver;
use crate::frame::Kind;
use crate::message::bare;
use crate::outbound::Reserved;

/// The drivers that accept a device and know about it.
#[derive(Default)]
pub(crate) struct Audience {
    members: Vec<Arc<Driver>>,
    /// The port's generation when this was last updated; 0 before that.
    generation: u64,
}

/// Room for one message with each driver of an audience.
pub(crate) enum Rooms<'a> {
    /// The usual case.
    One(Reserved<'a>),
    Many(Vec<Reserved<'a>>),
}

impl Audience {
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn members(&self) -> &[Arc<Driver>] {
        &self.members
    }

    pub(crate) fn is_current(&self, port: &TcpPort) -> bool {
        self.generation == port.generation()
    }

    /// Adds drivers that have come, announcing the device to each before anything else, and removes those that have
    /// gone. May be cancelled and started again.
    pub(crate) async fn renew(&mut self, device: &Device, port: &TcpPort) {
        while !self.is_current(port) {
            let generation = port.generation();
            let drivers = port.drivers();
            self.members.retain(|member| drivers.iter().any(|driver| Arc::ptr_eq(driver, member)));
            for driver in drivers.iter().filter(|driver| driver.accept.contains(device.ip)) {
                if self.members.iter().any(|member| Arc::ptr_eq(driver, member)) {
                    continue;
                }
                if let Some(room) = driver.outbound.reserve().await {
                    room.send(device.id, bare(&device.head, Kind::Opened));
                    self.members.push(Arc::clone(driver));
                }
            }
            self.generation = generation;
        }
    }

    /// Tells every driver that the device will send nothing more. The device counts until then, so that devices that
    /// wait for a slow driver are bounded.
    pub(crate) async fn farewell(&mut self, device: &Device) {
        while let Some(driver) = self.members.pop() {
            let room = driver.outbound.reserve().await;
            if self.members.is_empty() {
                // Before the last driver knows: a driver that knows may let another device in.
                device.leave_place();
            }
            if let Some(room) = room {
                room.send(device.id, bare(&device.head, Kind::Closed));
            }
        }
        device.leave_place();
    }

    /// Room for a message with every driver. No driver's room is held while waiting for another's, so that one stalled
    /// driver takes nothing from the others. `None` once a driver is leaving.
    pub(crate) async fn reserve(&self) -> Option<Rooms<'_>> {
        if let [only] = self.members.as_slice() {
            return only.outbound.reserve().await.map(Rooms::One);
        }
        let mut waited = None;
        loop {
            let mut rooms = Vec::with_capacity(self.members.len());
            let mut full = None;
            for (place, driver) in self.members.iter().enumerate() {
                match waited.take_if(|(waited_for, _)| *waited_for == place) {
                    Some((_, room)) => rooms.push(room),
                    None => match driver.outbound.try_reserve() {
                        Some(room) => rooms.push(room),
                        None => {
                            full = Some(place);
                            break;
                        }
                    },
                }
            }
            let Some(place) = full else { return Some(Rooms::Many(rooms)) };
            drop((rooms, waited.take()));
            let room = self.members.get(place)?.outbound.reserve().await?;
            waited = Some((place, room));
        }
    }
}

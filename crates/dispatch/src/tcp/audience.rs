//! The drivers that a device's bytes are for.

use std::sync::Arc;

use super::{Device, TcpPort};
use crate::driver::Driver;
use crate::frame::Kind;
use crate::message::bare;
use crate::outbound::Reserved;

/// The drivers that accept a device and know of it.
#[derive(Default)]
pub(crate) struct Audience {
    members: Vec<Arc<Driver>>,
    /// The port's when this was last looked at; 0 before that.
    generation: u64,
}

/// Room for one message with each of an audience.
pub(crate) enum Rooms<'a> {
    /// As almost always.
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

    /// Takes in drivers that have come, each of which is told of the device before anything else of it, and leaves out
    /// those that have gone. May be broken off and begun again.
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

    /// Tells everyone that the device will send nothing more. It keeps its place among the devices until then, so that
    /// those that wait for a slow driver have a limit.
    pub(crate) async fn farewell(&mut self, device: &Device) {
        while let Some(driver) = self.members.pop() {
            let room = driver.outbound.reserve().await;
            if self.members.is_empty() {
                // Before the last one knows: who is told may let another in.
                device.leave_place();
            }
            if let Some(room) = room {
                room.send(device.id, bare(&device.head, Kind::Closed));
            }
        }
        device.leave_place();
    }

    /// Room for a message with everyone. Nobody's room is held while another's is waited for, so that one driver that
    /// stalls takes nothing from the others. `None` once somebody is leaving.
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

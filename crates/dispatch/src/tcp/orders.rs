//! A driver's messages, grouped by device.
//!
//! Several messages to one device become one system call: one read of the driver's connection is written device by
//! device, in the order of each device's own messages. Nobody can tell, because there is no order between connections.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::TcpPort;
use super::device::used_up;
use crate::driver::Driver;
use crate::frame::{Frame, FrameError, Kind, into_payload};
use crate::outbound::{End, close_code};
use crate::shared::HalfClosed as _;
use crate::tokens::Passage;

/// Something to do with one device.
struct DeviceOrder {
    id: u64,
    /// `None` means close.
    payload: Option<Bytes>,
}

/// Carries out `messages` and empties it. An invalid message ends the websocket, after all messages before it have been
/// carried out.
pub(crate) async fn carry_out(
    port: &TcpPort,
    driver: &Arc<Driver>,
    messages: &mut Vec<Bytes>,
) -> Result<(), End> {
    let mut wrong = None;
    let mut orders = Vec::with_capacity(messages.len());
    for message in messages.drain(..) {
        match order(message) {
            Ok(order) if wrong.is_none() => orders.push(order),
            Ok(_) => {}
            Err(end) => {
                wrong.get_or_insert(end);
            }
        }
    }
    let bytes = orders.iter().filter_map(|order| order.payload.as_ref()).map(Bytes::len).sum();
    let passage = driver.allowance.as_ref().map_or(Passage::Free, |allowance| allowance.charge(bytes));
    if passage == Passage::UsedUp {
        return Err(used_up());
    }
    if orders.iter().zip(orders.iter().skip(1)).any(|(one, next)| one.id != next.id) {
        orders.sort_by_key(|order| order.id);
    }
    let mut orders = orders.into_iter().peekable();
    while let Some(first) = orders.next() {
        let id = first.id;
        let same = std::iter::from_fn(|| orders.next_if(|order| order.id == id));
        let group = [first].into_iter().chain(same).collect();
        carry_out_for(port, driver, id, group).await;
    }
    if let Passage::After(time) = passage {
        driver.hold(true);
        tokio::time::sleep_until(time).await;
        driver.hold(false);
    }
    wrong.map_or(Ok(()), Err)
}

async fn carry_out_for(port: &TcpPort, driver: &Driver, id: u64, orders: Vec<DeviceOrder>) {
    // The device has disconnected: not an error.
    let Some(device) = port.device(id) else {
        driver.counters.unsent(orders.len());
        return;
    };
    if !driver.accept.contains(device.ip) {
        driver.counters.refused(orders.len());
        tracing::debug!(port = port.number, driver = driver.id, id, "a driver may not write to this device");
        return;
    }
    let mut pieces = VecDeque::with_capacity(orders.len());
    let mut closes = false;
    for order in orders {
        match order.payload {
            // Nothing is written after a close.
            None => {
                closes = true;
                break;
            }
            Some(payload) if payload.is_empty() => {}
            Some(payload) => pieces.push_back(payload),
        }
    }
    if !pieces.is_empty() {
        device.write(port, driver, pieces).await;
    }
    if closes {
        device.close();
    }
}

fn order(message: Bytes) -> Result<DeviceOrder, End> {
    let frame = Frame::decode(&message).map_err(refused)?;
    let (id, payload_bytes) = (frame.id, frame.payload.len());
    match frame.kind {
        Kind::Write => Ok(DeviceOrder { id, payload: Some(into_payload(message, payload_bytes)) }),
        Kind::Close => Ok(DeviceOrder { id, payload: None }),
        kind => Err(refused(FrameError::UnknownKind(kind as u8))),
    }
}

/// Ends a driver that sent an invalid message.
pub(crate) fn refused(error: FrameError) -> End {
    let code = match error {
        FrameError::UnknownKind(_) => close_code::POLICY,
        _ => close_code::MALFORMED,
    };
    End::new(code, error.to_string())
}

//! The messages of a driver, sorted by device.
//!
//! Several messages to one device become one system call: what came in one read of the driver's connection is written
//! device by device, in the order of each device's own messages. Nobody can tell, because connections have no order
//! between each other.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::TcpPort;
use super::device::used_up;
use crate::driver::Driver;
use crate::frame::{Frame, FrameError, Kind, into_payload};
use crate::outbound::{End, close_code};
use crate::tokens::Passage;

/// What is to be done with one device.
struct Order {
    id: u64,
    /// `None` to close it.
    payload: Option<Bytes>,
}

/// Does what `messages` say, and leaves it empty. A message that is no order ends the websocket, after all before it
/// have been carried out.
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

async fn carry_out_for(port: &TcpPort, driver: &Driver, id: u64, orders: Vec<Order>) {
    // A device that has gone meanwhile is nothing to complain of.
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
            // Nothing is written after it.
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

fn order(message: Bytes) -> Result<Order, End> {
    let frame = Frame::decode(&message).map_err(refused)?;
    let (id, payload_bytes) = (frame.id, frame.payload.len());
    match frame.kind {
        Kind::Write => Ok(Order { id, payload: Some(into_payload(message, payload_bytes)) }),
        Kind::Close => Ok(Order { id, payload: None }),
        kind => Err(refused(FrameError::UnknownKind(kind as u8))),
    }
}

/// The end of a driver that sends what is no order.
pub(crate) fn refused(error: FrameError) -> End {
    let code = match error {
        FrameError::UnknownKind(_) => close_code::POLICY,
        _ => close_code::MALFORMED,
    };
    End::new(code, error.to_string())
}

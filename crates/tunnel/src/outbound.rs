//! What goes to the dispatcher: frames as messages, in one queue, first come first served.
//!
//! The queue is short, and senders wait while it is full: a dispatcher that reads slowly slows down the reading from
//! local connections, and local datagrams wait in their sockets, which drop the excess.

use std::io;
use std::net::IpAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use sortie_dispatch::frame::{Head, Kind};
use tokio::sync::mpsc;

/// Maximum number of messages that wait to be sent: each has at most [`READ_BYTES`] and a head, or one datagram.
pub(crate) const QUEUE_MESSAGES: usize = 64;
/// Maximum read from a local connection at a time, in bytes.
pub(crate) const READ_BYTES: usize = 32 << 10;
/// Length of a frame's size field, the last part of its head, in bytes.
const SIZE_BYTES: usize = 4;

pub(crate) type Outbound = mpsc::Sender<Bytes>;

/// The message that disconnects a device.
pub(crate) fn close(head: &Head) -> Bytes {
    let mut message = BytesMut::with_capacity(head.len());
    head.encode(Kind::Close, 0, &mut message);
    message.freeze()
}

/// The message that sends a datagram.
pub(crate) fn write(ip: IpAddr, port: u16, datagram: &[u8]) -> Bytes {
    let head = Head::new(ip, port.into());
    let mut message = BytesMut::with_capacity(head.len() + datagram.len());
    head.encode(Kind::Write, u32::try_from(datagram.len()).unwrap_or(u32::MAX), &mut message);
    message.put_slice(datagram);
    message.freeze()
}

/// A message into which a device's bytes are read, behind its head, so that they are not copied.
pub(crate) struct Draft {
    message: BytesMut,
    head_bytes: usize,
}

impl Draft {
    /// Reads once with `read`, which appends. `None` at the end of the input.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) fn read(
        head: &Head,
        read: impl FnOnce(&mut BytesMut) -> io::Result<usize>,
    ) -> io::Result<Option<Bytes>> {
        let mut message = BytesMut::with_capacity(head.len() + READ_BYTES);
        head.encode(Kind::Write, 0, &mut message);
        let mut draft = Self { message, head_bytes: head.len() };
        if read(&mut draft.message)? == 0 { Ok(None) } else { Ok(Some(draft.finish())) }
    }

    fn finish(mut self) -> Bytes {
        let bytes = u32::try_from(self.message.len().saturating_sub(self.head_bytes)).unwrap_or(u32::MAX);
        let size = self.message.get_mut(self.head_bytes.saturating_sub(SIZE_BYTES)..self.head_bytes);
        if let Some(size) = size {
            size.copy_from_slice(&bytes.to_be_bytes());
        }
        self.message.freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sortie_dispatch::frame::Frame;

    use super::*;

    proptest! {
        #[test]
        fn what_is_read_becomes_a_frame(ip: IpAddr, id: u64, bytes in prop::collection::vec(any::<u8>(), 1..5_000)) {
            let head = Head::new(ip, id);
            let message = Draft::read(&head, |space| {
                space.put_slice(&bytes);
                Ok(bytes.len())
            });
            let message = message.unwrap().unwrap();
            let frame = Frame::decode(&message).unwrap();
            prop_assert_eq!((frame.kind, frame.id, frame.payload), (Kind::Write, id, &bytes[..]));
            prop_assert_eq!(frame.ip(), Some(ip.to_canonical()));
        }

        #[test]
        fn a_datagram_becomes_a_frame(ip: IpAddr, port: u16, datagram: Vec<u8>) {
            let message = write(ip, port, &datagram);
            let frame = Frame::decode(&message).unwrap();
            prop_assert_eq!((frame.kind, frame.id, frame.payload), (Kind::Write, port.into(), &datagram[..]));
            prop_assert_eq!(frame.ip(), Some(ip.to_canonical()));
        }
    }

    #[test]
    fn nothing_read_is_no_message() {
        let head = Head::new(IpAddr::from([192, 0, 2, 7]), 258);
        assert_eq!(Draft::read(&head, |_| Ok(0)).unwrap(), None);
        let frame = close(&head);
        assert_eq!(Frame::decode(&frame).unwrap().kind, Kind::Close);
    }
}

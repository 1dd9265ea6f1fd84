//! Frames: what a driver and the dispatcher send each other, one frame per websocket message.
//!
//! ```text
//! u8    kind
//! text  IP address of the device, then a zero byte
//! u64   TCP: number of the device; UDP: its port        all integers big endian
//! u32   number of bytes that follow
//! bytes
//! ```
//!
//! Pure and without copies: reading borrows from the message, and writing produces only the head, in the caller's
//! buffer, so that the bytes of a device stay where they were read. The golden bytes are in `contract/golden/dispatch`.

use std::fmt::Write as _;
use std::net::IpAddr;

use bytes::{BufMut, Bytes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Maximum length of an address as text, in bytes: a fully written IPv4-mapped IPv6 address.
pub const MAX_ADDRESS_BYTES: usize = 45;
/// Maximum length of a frame's head, in bytes.
pub const MAX_HEAD_BYTES: usize = 1 + MAX_ADDRESS_BYTES + 1 + 8 + 4;
/// Bytes of a head after the address.
const AFTER_ADDRESS_BYTES: usize = 8 + 4;

/// The transport protocol of a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "DispatchProtocol")]
pub enum Protocol {
    /// Device connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// What a frame is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// To the driver: a device has connected (TCP).
    Opened = 0,
    /// To the driver: a device will send nothing more (TCP).
    Closed = 1,
    /// To the driver: bytes from a device.
    Received = 2,
    /// From the driver: bytes for a device.
    Write = 3,
    /// From the driver: disconnect a device once everything before this has been written to it (TCP).
    Close = 4,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Opened, Self::Closed, Self::Received, Self::Write, Self::Close];

    const fn has_payload(self) -> bool {
        matches!(self, Self::Received | Self::Write)
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// The first byte is not a known kind.
    #[error("{0} is not a type of frame: send 3 (WRITE) or 4 (CLOSE)")]
    UnknownKind(u8),
    /// Fewer bytes than a head has, or than the head announces.
    #[error("the frame is cut off")]
    Truncated,
    /// More bytes than the head announces.
    #[error("the frame has {0} bytes more than its size says")]
    TooLong(usize),
    /// The address has no zero byte after it, or is not valid text.
    #[error("the address is not a text of at most 45 bytes followed by a zero byte")]
    Address,
    /// A frame of a kind without bytes has bytes.
    #[error("only WRITE and RECEIVED frames have bytes")]
    Payload,
}

/// A frame, borrowed from its message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// Kind of frame.
    pub kind: Kind,
    /// The device's IP address as text, not validated: see [`Frame::ip`].
    pub address: &'a str,
    /// TCP: number of the device; UDP: its port.
    pub id: u64,
    /// Bytes that were received or are to be written.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Parses a websocket message.
    ///
    /// # Errors
    /// [`FrameError`] if it is not exactly one whole frame.
    pub fn decode(message: &'a [u8]) -> Result<Self, FrameError> {
        let (kind, rest) = message.split_first().ok_or(FrameError::Truncated)?;
        let kind = Kind::from_byte(*kind).ok_or(FrameError::UnknownKind(*kind))?;
        let end = rest.iter().take(MAX_ADDRESS_BYTES + 1).position(|byte| *byte == 0);
        let end = end.ok_or(if rest.len() > MAX_ADDRESS_BYTES {
            FrameError::Address
        } else {
            FrameError::Truncated
        })?;
        let (address, rest) = rest.split_at(end);
        let address = str::from_utf8(address).map_err(|_| FrameError::Address)?;
        // The zero byte.
        let rest = rest.get(1..).unwrap_or_default();
        let (id, rest) = rest.split_first_chunk::<8>().ok_or(FrameError::Truncated)?;
        let (size, payload) = rest.split_first_chunk::<4>().ok_or(FrameError::Truncated)?;
        let size = u32::from_be_bytes(*size) as usize;
        if size > 0 && !kind.has_payload() {
            return Err(FrameError::Payload);
        }
        match payload.len().checked_sub(size) {
            None => Err(FrameError::Truncated),
            Some(0) => Ok(Self { kind, address, id: u64::from_be_bytes(*id), payload }),
            Some(more) => Err(FrameError::TooLong(more)),
        }
    }

    /// The address; an IPv4-mapped one as IPv4. `None` if the text is not an address.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
    }

    /// Appends the frame to `to`. Copies the payload; use [`Head`] where that matters.
    pub fn encode(&self, to: &mut impl BufMut) {
        to.put_u8(self.kind as u8);
        to.put_slice(self.address.as_bytes());
        to.put_u8(0);
        to.put_u64(self.id);
        to.put_u32(u32::try_from(self.payload.len()).unwrap_or(u32::MAX));
        to.put_slice(self.payload);
    }
}

/// `message` without the head of `frame`, which was parsed from it. No copy.
#[must_use]
pub fn into_payload(mut message: Bytes, payload_bytes: usize) -> Bytes {
    message.split_off(message.len().saturating_sub(payload_bytes))
}

/// The common part of all frames about one device, written once and reused.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// A kind, an address, its zero byte, a number.
    bytes: [u8; MAX_HEAD_BYTES - 4],
    length: u8,
}

impl Head {
    /// For the device with this address and number or port. Writes an IPv4-mapped address as IPv4.
    #[must_use]
    pub fn new(ip: IpAddr, id: u64) -> Self {
        let mut text = Text { bytes: [0; MAX_HEAD_BYTES - 4], length: 1 };
        // The longest address fits, and a write that does not fit writes nothing.
        let _ = write!(text, "{}", ip.to_canonical());
        text.push(&[0]);
        text.push(&id.to_be_bytes());
        Self { bytes: text.bytes, length: text.length }
    }

    /// Length of a head in bytes, including its size field.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.length) + 4
    }

    /// Always false: a head has at least a kind.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends the head of a frame with `payload_bytes` bytes, which the caller appends.
    pub fn encode(&self, kind: Kind, payload_bytes: u32, to: &mut impl BufMut) {
        to.put_u8(kind as u8);
        to.put_slice(self.bytes.get(1..usize::from(self.length)).unwrap_or_default());
        to.put_u32(payload_bytes);
    }
}

/// A text that is written without allocation.
struct Text {
    bytes: [u8; MAX_HEAD_BYTES - 4],
    length: u8,
}

impl Text {
    fn push(&mut self, more: &[u8]) {
        let start = usize::from(self.length);
        if let Some(place) = self.bytes.get_mut(start..start + more.len()) {
            place.copy_from_slice(more);
            self.length += more.len() as u8;
        }
    }
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        // The part after the address must fit as well.
        if usize::from(self.length) + text.len() + AFTER_ADDRESS_BYTES > self.bytes.len() + 4 {
            return Err(std::fmt::Error);
        }
        self.push(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_frame_is_refused() {
        let mut write = Vec::new();
        Frame { kind: Kind::Write, address: "192.0.2.7", id: 258, payload: b"\x00\xff" }.encode(&mut write);
        for end in 0..write.len() {
            assert_eq!(Frame::decode(&write[..end]), Err(FrameError::Truncated), "{end} bytes");
        }
        let mut more = write.clone();
        more.push(0);
        assert_eq!(Frame::decode(&more), Err(FrameError::TooLong(1)));
        assert_eq!(Frame::decode(&[9, 0]), Err(FrameError::UnknownKind(9)));
        let endless = [vec![3], vec![b'1'; 64]].concat();
        assert_eq!(Frame::decode(&endless), Err(FrameError::Address));
        let no_text = [&[3, 0xff, 0][..], &[0; 12]].concat();
        assert_eq!(Frame::decode(&no_text), Err(FrameError::Address));
        let mut close = write;
        close[0] = Kind::Close as u8;
        assert_eq!(Frame::decode(&close), Err(FrameError::Payload));
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let frame = Frame { kind: Kind::Write, address: "::ffff:192.0.2.7", id: 1, payload: b"" };
        assert_eq!(frame.ip(), Some(IpAddr::from([192, 0, 2, 7])));
        let (mut mapped, mut plain) = (Vec::new(), Vec::new());
        Head::new("::ffff:192.0.2.7".parse().unwrap(), 1).encode(Kind::Opened, 0, &mut mapped);
        Head::new("192.0.2.7".parse().unwrap(), 1).encode(Kind::Opened, 0, &mut plain);
        assert_eq!(mapped, plain);
        assert_eq!(Frame { address: "example.org", ..frame }.ip(), None);
    }

    fn kind() -> impl Strategy<Value = Kind> {
        prop::sample::select(Kind::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(kind in kind(), ip: IpAddr, id: u64, payload: Vec<u8>) {
            let payload = if kind.has_payload() { payload } else { Vec::new() };
            let address = ip.to_canonical().to_string();
            let frame = Frame { kind, address: &address, id, payload: &payload };
            let mut message = Vec::new();
            frame.encode(&mut message);
            prop_assert_eq!(Frame::decode(&message), Ok(frame));
            prop_assert_eq!(frame.ip(), Some(ip.to_canonical()));
            let head = Head::new(ip, id);
            let mut by_head = Vec::new();
            head.encode(kind, payload.len() as u32, &mut by_head);
            prop_assert_eq!(by_head.len(), head.len());
            by_head.extend_from_slice(&payload);
            prop_assert_eq!(&by_head, &message);
            prop_assert_eq!(into_payload(message.into(), payload.len()), payload);
        }

        #[test]
        fn any_bytes_are_a_frame_or_are_refused(message: Vec<u8>) {
            if let Ok(frame) = Frame::decode(&message) {
                let mut again = Vec::new();
                frame.encode(&mut again);
                prop_assert_eq!(again, message);
            }
        }
    }
}

//! Frames: what a driver and the dispatcher say to each other, one frame a websocket message.
//!
//! ```text
//! u8    kind
//! text  IP address of the device, then a zero byte
//! u64   TCP: number of the device; UDP: its port        all integers big endian
//! u32   number of bytes that follow
//! bytes
//! ```
//!
//! Pure, and without a copy: reading borrows from the message, and writing is of the head alone, into a buffer that the
//! caller has, so that the bytes of a device stay where they were read to. The golden bytes are in
//! `contract/golden/dispatch`.

use std::fmt::Write as _;
use std::net::IpAddr;

use bytes::{BufMut, Bytes};
use thiserror::Error;

/// Longest text of an address, in bytes: an IPv4-mapped IPv6 address, written out.
pub const MAX_ADDRESS_BYTES: usize = 45;
/// Longest head of a frame, in bytes.
pub const MAX_HEAD_BYTES: usize = 1 + MAX_ADDRESS_BYTES + 1 + 8 + 4;
/// Bytes of a head after the address.
const AFTER_ADDRESS_BYTES: usize = 8 + 4;

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
    /// From the driver: disconnect a device, once everything before has been written to it (TCP).
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

/// Why bytes are no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// The first byte is no kind of frame.
    #[error("{0} is no type of frame: send 3 (WRITE) or 4 (CLOSE)")]
    UnknownKind(u8),
    /// There are fewer bytes than a head has, or than the head announces.
    #[error("the frame is cut off")]
    Truncated,
    /// There are more bytes than the head announces.
    #[error("the frame has {0} bytes more than its size says")]
    TooLong(usize),
    /// There is no zero byte where an address ends at the latest, or the address is no text.
    #[error("the address is no text of at most 45 bytes with a zero byte after it")]
    Address,
    /// Bytes follow in a frame of a kind that has none.
    #[error("only WRITE and RECEIVED frames have bytes")]
    Payload,
}

/// A frame, borrowed from the message that it came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// What it is about.
    pub kind: Kind,
    /// The device's IP address, as text. Nothing says that it is one: see [`Frame::ip`].
    pub address: &'a str,
    /// TCP: number of the device; UDP: its port.
    pub id: u64,
    /// What was received or is to be written.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads a message of a websocket.
    ///
    /// # Errors
    /// [`FrameError`] if it is anything but one whole frame.
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

    /// The address, an IPv4-mapped one as IPv4. `None` if the text is none.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
    }

    /// Appends the frame to `to`. The payload is copied; [`Head`] is for where that matters.
    pub fn encode(&self, to: &mut impl BufMut) {
        to.put_u8(self.kind as u8);
        to.put_slice(self.address.as_bytes());
        to.put_u8(0);
        to.put_u64(self.id);
        to.put_u32(u32::try_from(self.payload.len()).unwrap_or(u32::MAX));
        to.put_slice(self.payload);
    }
}

/// What is left of `message` when the head of `frame`, which was read from it, is taken off. No copy.
#[must_use]
pub fn into_payload(mut message: Bytes, payload_bytes: usize) -> Bytes {
    message.split_off(message.len().saturating_sub(payload_bytes))
}

/// What all frames about one device have in common, written once and used for each of them.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// A kind, an address, its zero byte, a number.
    bytes: [u8; MAX_HEAD_BYTES - 4],
    length: u8,
}

impl Head {
    /// For the device with that address and number or port. An IPv4-mapped address is written as IPv4.
    #[must_use]
    pub fn new(ip: IpAddr, id: u64) -> Self {
        let mut text = Text { bytes: [0; MAX_HEAD_BYTES - 4], length: 1 };
        // The longest address fits, and a write that does not fit writes nothing.
        let _ = write!(text, "{}", ip.to_canonical());
        text.push(&[0]);
        text.push(&id.to_be_bytes());
        Self { bytes: text.bytes, length: text.length }
    }

    /// Bytes of a head with its size.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.length) + 4
    }

    /// Never: a head has at least a kind.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends the head of a frame with that many bytes, which the caller appends.
    pub fn encode(&self, kind: Kind, payload_bytes: u32, to: &mut impl BufMut) {
        to.put_u8(kind as u8);
        to.put_slice(self.bytes.get(1..usize::from(self.length)).unwrap_or_default());
        to.put_u32(payload_bytes);
    }
}

/// A text that is written without allocating.
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
        // What comes after the address has to fit too.
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

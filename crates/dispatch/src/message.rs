//! Messages to a driver: a frame in a websocket message, with its heads in front of bytes that stay where they were
//! read.

use std::io::Write as _;

use bytes::{Buf as _, Bytes, BytesMut};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{Frame as WebsocketFrame, FrameHeader};

use crate::frame::{Head, Kind, MAX_HEAD_BYTES};

/// Maximum length of the head of a websocket message from a server, in bytes: RFC 6455, section 5.2.
const MAX_WEBSOCKET_HEAD_BYTES: usize = 10;
/// Maximum length of both heads of a message, in bytes.
pub(crate) const MAX_HEADS_BYTES: usize = MAX_WEBSOCKET_HEAD_BYTES + MAX_HEAD_BYTES;
/// Maximum number of a device's bytes in one message, so that the whole message is within [`READ_BYTES`].
pub(crate) const PAYLOAD_BYTES: usize = READ_BYTES - MAX_HEADS_BYTES;
/// Maximum size of a TCP device's message including its heads, in bytes.
pub(crate) const READ_BYTES: usize = 64 << 10;
/// Maximum length of the reason in a close frame, in bytes: RFC 6455, section 5.5.
const MAX_REASON_BYTES: usize = 123;

/// Both heads of a message.
pub(crate) struct Heads {
    bytes: [u8; MAX_HEADS_BYTES],
    length: usize,
}

impl Heads {
    pub(crate) fn new(head: &Head, kind: Kind, payload_bytes: usize) -> Self {
        let mut bytes = [0; MAX_HEADS_BYTES];
        let mut rest = &mut bytes[..];
        let header = FrameHeader { opcode: OpCode::Data(Data::Binary), ..FrameHeader::default() };
        // There is room for the longest head, and no message reaches 4 GiB.
        let _ = header.format((head.len() + payload_bytes) as u64, &mut rest);
        head.encode(kind, payload_bytes as u32, &mut rest);
        let length = MAX_HEADS_BYTES - rest.len();
        Self { bytes, length }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// A whole message without a device's bytes.
pub(crate) fn bare(head: &Head, kind: Kind) -> Bytes {
    Bytes::copy_from_slice(Heads::new(head, kind, 0).as_slice())
}

/// Writes the heads into the [`MAX_HEADS_BYTES`] of `space` that were reserved in front of the bytes read, and takes
/// both out as one message. The remaining capacity stays in `space`.
pub(crate) fn seal(space: &mut BytesMut, head: &Head) -> Bytes {
    let payload_bytes = space.len().saturating_sub(MAX_HEADS_BYTES);
    let heads = Heads::new(head, Kind::Received, payload_bytes);
    let start = MAX_HEADS_BYTES - heads.length;
    if let Some(place) = space.get_mut(start..MAX_HEADS_BYTES) {
        place.copy_from_slice(heads.as_slice());
    }
    let mut message = space.split();
    message.advance(start);
    message.freeze()
}

/// A ping.
pub(crate) fn ping() -> Bytes {
    written(WebsocketFrame::ping(Bytes::new()))
}

/// The answer to a ping with that payload.
pub(crate) fn pong(payload: Bytes) -> Bytes {
    written(WebsocketFrame::pong(payload))
}

/// A close frame. Truncates a reason that is too long.
pub(crate) fn close(code: u16, reason: &str) -> Bytes {
    let mut end = reason.len().min(MAX_REASON_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let reason = reason.get(..end).unwrap_or_default();
    let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
    written(WebsocketFrame::close(Some(frame)))
}

fn written(frame: WebsocketFrame) -> Bytes {
    let mut bytes = Vec::with_capacity(MAX_REASON_BYTES + 4);
    // Writing to a vector cannot fail.
    let _ = frame.format(&mut bytes);
    let _ = bytes.flush();
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;

    /// How an independent reader sees it: the payload of one whole, unmasked binary message.
    fn payload(message: &[u8]) -> Vec<u8> {
        let mut socket = tungstenite::protocol::frame::FrameSocket::new(message);
        let frame = socket.read(None).unwrap().unwrap();
        assert!(frame.header().is_final && frame.header().mask.is_none());
        assert_eq!(frame.header().opcode, OpCode::Data(Data::Binary));
        assert!(socket.read(None).unwrap().is_none(), "nothing comes after it");
        frame.into_payload().to_vec()
    }

    #[test]
    fn sealed_messages_of_every_length_of_length() {
        let head = Head::new([192, 0, 2, 7].into(), 9);
        let mut space = BytesMut::new();
        for bytes in [0, 1, 100, 101, 103, 104, 125, 126, 1_000, 65_507, PAYLOAD_BYTES] {
            space.resize(MAX_HEADS_BYTES, 0);
            space.resize(MAX_HEADS_BYTES + bytes, 7);
            let message = seal(&mut space, &head);
            assert!(message.len() <= READ_BYTES.max(bytes + MAX_HEADS_BYTES));
            let payload = payload(&message);
            let frame = Frame::decode(&payload).unwrap();
            assert_eq!((frame.kind, frame.address, frame.id), (Kind::Received, "192.0.2.7", 9));
            assert!(frame.payload.len() == bytes && frame.payload.iter().all(|byte| *byte == 7));
        }
        let frame = payload(&bare(&head, Kind::Opened));
        assert_eq!(Frame::decode(&frame).unwrap().kind, Kind::Opened);
    }

    #[test]
    fn reasons_are_cut_between_characters() {
        let message = close(1008, &"ä".repeat(100));
        assert_eq!(message.len(), 2 + 2 + 122);
        assert!(str::from_utf8(&message[4..]).is_ok());
    }
}

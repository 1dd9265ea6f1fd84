//! Parses a driver's websocket: RFC 6455 from the server's side, without a connection.
//!
//! Not a library, because none reads into a buffer that the caller owns and reuses: tungstenite clears the buffer for
//! each read, and needs a new one while a message of the last read is alive. The tests compare it with tungstenite.

use bytes::{Buf as _, Bytes, BytesMut};

/// Maximum payload of a control frame, in bytes: RFC 6455, section 5.5.
const MAX_CONTROL_BYTES: usize = 125;
/// Bytes of a mask.
const MASK_BYTES: usize = 4;

/// A whole message, or a control frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A binary message.
    Message(Bytes),
    /// A ping, to be answered with the same bytes.
    Ping(Bytes),
    /// An answer to a ping, or an unsolicited one.
    Pong,
    /// The other side closes, with this code if it sent one.
    Close(Option<u16>),
}

/// Why bytes end a websocket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Violation {
    /// A violation of the protocol.
    Protocol(&'static str),
    /// A message is longer than allowed.
    TooLong,
    /// A text message, which is never allowed.
    Text,
}

/// Parses messages, fragmented or not.
#[derive(Debug)]
pub struct Messages {
    max_bytes: usize,
    /// The fragments of a message so far.
    begun: Option<BytesMut>,
    /// Length of the next frame as far as it is known, in bytes.
    needed: usize,
}

/// The head of a frame.
struct Head {
    is_final: bool,
    opcode: u8,
    mask: [u8; MASK_BYTES],
    /// Length of the head.
    length: usize,
    payload_bytes: u64,
}

impl Messages {
    /// For messages of at most `max_bytes`.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, begun: None, needed: 0 }
    }

    /// Bytes of the next frame, as far as known.
    #[must_use]
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// Takes the next event off `from`, without a copy if it is not fragmented. `None` if more bytes are needed.
    ///
    /// # Errors
    /// [`Violation`]; everything after it is meaningless.
    pub fn next(&mut self, from: &mut BytesMut) -> Result<Option<Event>, Violation> {
        loop {
            let Some(frame) = self.frame(from)? else { return Ok(None) };
            if let Some(event) = self.event(frame)? {
                return Ok(Some(event));
            }
        }
    }

    /// The next frame with its payload unmasked.
    fn frame(&mut self, from: &mut BytesMut) -> Result<Option<(Head, BytesMut)>, Violation> {
        self.needed = 0;
        let Some(head) = head(from)? else { return Ok(None) };
        self.check(&head)?;
        // It is not longer than `max_bytes` or than a control frame.
        let payload_bytes = head.payload_bytes as usize;
        if from.len() < head.length + payload_bytes {
            self.needed = head.length + payload_bytes;
            return Ok(None);
        }
        let mut payload = from.split_to(head.length + payload_bytes);
        payload.advance(head.length);
        unmask(&mut payload, head.mask);
        Ok(Some((head, payload)))
    }

    fn check(&self, head: &Head) -> Result<(), Violation> {
        let is_control = head.opcode >= 8;
        if is_control && (!head.is_final || head.payload_bytes > MAX_CONTROL_BYTES as u64) {
            return Err(Violation::Protocol(
                "a control frame must not be fragmented and has at most 125 bytes",
            ));
        }
        let begun_bytes = self.begun.as_ref().map_or(0, BytesMut::len);
        match (head.opcode, &self.begun) {
            (1, _) => return Err(Violation::Text),
            (0, None) => return Err(Violation::Protocol("a message begins with a continuation frame")),
            (2, Some(_)) => return Err(Violation::Protocol("a message begins before the last one ended")),
            (0 | 2 | 8..=10, _) => {}
            _ => return Err(Violation::Protocol("a frame has an unknown opcode")),
        }
        if !is_control && head.payload_bytes > (self.max_bytes - begun_bytes) as u64 {
            return Err(Violation::TooLong);
        }
        Ok(())
    }

    /// `None` after a fragment that is not the last.
    fn event(&mut self, (head, payload): (Head, BytesMut)) -> Result<Option<Event>, Violation> {
        Ok(match (head.opcode, self.begun.take()) {
            (2, _) if head.is_final => Some(Event::Message(payload.freeze())),
            // A copy, so that a fragment does not keep its whole read buffer alive.
            (2, _) => {
                self.begun = Some(payload.as_ref().into());
                None
            }
            (0, begun) => {
                let mut begun = begun.unwrap_or_default();
                begun.extend_from_slice(&payload);
                if head.is_final {
                    return Ok(Some(Event::Message(begun.freeze())));
                }
                self.begun = Some(begun);
                None
            }
            (opcode, begun) => {
                self.begun = begun;
                Some(match opcode {
                    8 => Event::Close(close_code(&payload)?),
                    9 => Event::Ping(payload.freeze()),
                    _ => Event::Pong,
                })
            }
        })
    }
}

/// RFC 6455, section 5.2.
fn head(bytes: &[u8]) -> Result<Option<Head>, Violation> {
    let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(Violation::Protocol("a frame has reserved bits set"));
    }
    if second & 0x80 == 0 {
        return Err(Violation::Protocol("a frame of a client is not masked"));
    }
    let (payload_bytes, rest) = match second & 0x7f {
        126 => match rest.split_first_chunk() {
            Some((length, rest)) => (u16::from_be_bytes(*length).into(), rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from_be_bytes(*length), rest),
            None => return Ok(None),
        },
        short => (short.into(), rest),
    };
    let Some((mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
    let length = bytes.len() - rest.len();
    let (is_final, opcode) = (first & 0x80 != 0, first & 0x0f);
    Ok(Some(Head { is_final, opcode, mask: *mask, length, payload_bytes }))
}

/// Eight bytes at a time, which the compiler vectorizes.
fn unmask(bytes: &mut [u8], mask: [u8; MASK_BYTES]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = bytes.as_chunks_mut();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// RFC 6455, sections 5.5.1 and 7.4.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        let is_empty = payload.is_empty();
        return if is_empty { Ok(None) } else { Err(Violation::Protocol("a close code is cut off")) };
    };
    if str::from_utf8(reason).is_err() {
        return Err(Violation::Protocol("the reason of a close frame is not valid UTF-8"));
    }
    match u16::from_be_bytes(*code) {
        code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => Ok(Some(code)),
        _ => Err(Violation::Protocol("a close code must not be sent")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
    use tungstenite::protocol::frame::{Frame, FrameHeader};
    use tungstenite::protocol::{Role, WebSocketConfig};
    use tungstenite::{Error, Message, WebSocket};

    use super::*;

    const MAX_BYTES: usize = 70_000;

    fn frame(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
        let mask = Some([1, 2, 3, 0xf4]);
        let header = FrameHeader { is_final, opcode, mask, ..FrameHeader::default() };
        let mut bytes = Vec::new();
        Frame::from_payload(header, payload.to_vec().into()).format(&mut bytes).unwrap();
        bytes
    }

    fn data(is_first: bool) -> OpCode {
        OpCode::Data(if is_first { Data::Binary } else { Data::Continue })
    }

    /// All events in `bytes`, fed in pieces of `step`.
    fn events(bytes: &[u8], step: usize) -> (Vec<Event>, Option<Violation>) {
        let (mut messages, mut buffer) = (Messages::new(MAX_BYTES), BytesMut::new());
        let mut events = Vec::new();
        for piece in bytes.chunks(step.max(1)) {
            buffer.extend_from_slice(piece);
            loop {
                match messages.next(&mut buffer) {
                    Ok(Some(event)) => events.push(event),
                    Ok(None) => break,
                    Err(violation) => return (events, Some(violation)),
                }
            }
        }
        (events, None)
    }

    /// The events that tungstenite finds, and whether it reports an error.
    fn by_library(bytes: &[u8]) -> (Vec<Event>, bool) {
        struct Once<'a>(&'a [u8]);
        impl std::io::Read for Once<'_> {
            fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
                match self.0.read(to)? {
                    0 => Err(std::io::ErrorKind::WouldBlock.into()),
                    bytes => Ok(bytes),
                }
            }
        }
        impl std::io::Write for Once<'_> {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let config = WebSocketConfig::default().max_message_size(Some(MAX_BYTES));
        let config = config.max_frame_size(Some(MAX_BYTES));
        let mut socket = WebSocket::from_raw_socket(Once(bytes), Role::Server, Some(config));
        let mut events = Vec::new();
        loop {
            events.push(match socket.read() {
                Ok(Message::Binary(message)) => Event::Message(message),
                Ok(Message::Ping(payload)) => Event::Ping(payload),
                Ok(Message::Pong(_)) => Event::Pong,
                // How it reports a code that must not be sent.
                Ok(Message::Close(Some(close))) if close.reason == "Protocol violation" => {
                    return (events, true);
                }
                Ok(Message::Close(close)) => {
                    events.push(Event::Close(close.map(|close| close.code.into())));
                    return (events, false);
                }
                Ok(_) => return (events, true),
                Err(Error::Io(_)) => return (events, false),
                Err(_) => return (events, true),
            });
        }
    }

    #[test]
    fn messages_of_every_length_of_length() {
        for bytes in [0, 1, 7, 8, 125, 126, 65_535, 65_536, MAX_BYTES] {
            let payload: Vec<u8> = (0..bytes).map(|place| place as u8).collect();
            let message = frame(data(true), true, &payload);
            let expected = (vec![Event::Message(payload.into())], None);
            assert_eq!(events(&message, message.len()), expected);
            assert_eq!(events(&message, 1 + bytes / 3), expected);
        }
    }

    #[test]
    fn parts_are_put_together_with_control_frames_between_them() {
        let all = [
            frame(data(true), false, b"one "),
            frame(OpCode::Control(Control::Ping), true, b"there?"),
            frame(data(false), false, b"two "),
            frame(OpCode::Control(Control::Pong), true, b""),
            frame(data(false), true, b"three"),
        ];
        let expected = [Event::Ping("there?".into()), Event::Pong, Event::Message("one two three".into())];
        for step in [1, 5, 1_000] {
            assert_eq!(events(&all.concat(), step), (expected.to_vec(), None));
        }
    }

    #[test]
    fn violations_are_detected() {
        let long = vec![7; MAX_BYTES + 1];
        let half = vec![7; MAX_BYTES / 2 + 1];
        let protocol = |bytes: &[u8]| {
            assert!(matches!(events(bytes, 1).1, Some(Violation::Protocol(_))), "{bytes:x?}");
        };
        protocol(&[0x82, 0x00]);
        protocol(&[0xc2, 0x80, 0, 0, 0, 0]);
        protocol(&[0x83, 0x80, 0, 0, 0, 0]);
        protocol(&frame(data(false), true, b"second"));
        protocol(&[frame(data(true), false, b"one"), frame(data(true), true, b"two")].concat());
        protocol(&frame(OpCode::Control(Control::Ping), false, b""));
        protocol(&frame(OpCode::Control(Control::Ping), true, &[7; 126]));
        protocol(&frame(OpCode::Control(Control::Close), true, &[3]));
        protocol(&frame(OpCode::Control(Control::Close), true, &1006_u16.to_be_bytes()));
        protocol(&frame(OpCode::Control(Control::Close), true, &[3, 0xe8, 0xff]));
        assert_eq!(events(&frame(OpCode::Data(Data::Text), true, b"text"), 1).1, Some(Violation::Text));
        assert_eq!(events(&frame(data(true), true, &long), 1_000).1, Some(Violation::TooLong));
        let parts = [frame(data(true), false, &half), frame(data(false), true, &half)].concat();
        assert_eq!(events(&parts, 1_000).1, Some(Violation::TooLong));
        let endless = [&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat();
        assert_eq!(events(&endless, 1).1, Some(Violation::TooLong));
    }

    #[test]
    fn what_is_needed_is_known() {
        let (mut messages, mut buffer) = (Messages::new(MAX_BYTES), BytesMut::new());
        let message = frame(data(true), true, &[7; 1_000]);
        buffer.extend_from_slice(&message[..20]);
        assert_eq!(messages.next(&mut buffer), Ok(None));
        assert_eq!(messages.needed(), message.len());
        buffer.extend_from_slice(&message[20..]);
        assert!(messages.next(&mut buffer).unwrap().is_some());
        assert_eq!((messages.next(&mut buffer), messages.needed()), (Ok(None), 0));
    }

    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        let opcode = prop_oneof![4 => Just(2_u8), 2 => Just(0), 1 => 8_u8..=10, 1 => 0_u8..16];
        let payload = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..130),
            (65_500_usize..65_600).prop_map(|bytes| vec![7; bytes]),
        ];
        (opcode, prop::bool::weighted(0.8), payload)
            .prop_map(|(opcode, is_final, payload)| frame(OpCode::from(opcode), is_final, &payload))
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_library(
            frames in prop::collection::vec(any_frame(), 0..6),
            cut in 0_usize..20,
            step in prop_oneof![1_usize..50, 1_000_usize..100_000],
        ) {
            let mut bytes = frames.concat();
            bytes.truncate(bytes.len().saturating_sub(cut));
            let (theirs, is_at_fault) = by_library(&bytes);
            let (mut ours, violation) = events(&bytes, step);
            // Nothing counts after a close frame.
            if let Some(end) = ours.iter().position(|event| matches!(event, Event::Close(_))) {
                ours.truncate(end + 1);
                prop_assert_eq!(ours, theirs);
            } else {
                prop_assert_eq!(&ours, &theirs);
                // A head is enough to detect a violation.
                let is_cut = cut > 0 && violation.is_some();
                prop_assert!(violation.is_some() == is_at_fault || is_cut, "{:?}", violation);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, step in 1_usize..50) {
            let (together, apart) = (events(&bytes, bytes.len()), events(&bytes, step));
            prop_assert_eq!(together, apart);
        }
    }
}

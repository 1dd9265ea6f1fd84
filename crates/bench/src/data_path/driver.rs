//! The driver's side of a websocket, on blocking sockets, with as little of the protocol as necessary.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use sortie_dispatch::frame::{Frame, Kind, MAX_HEAD_BYTES};

use super::BenchError;

const BUFFER_BYTES: usize = 256 << 10;
/// Maximum size of the heads: of the websocket, and of a frame.
const HEADS_BYTES: usize = 10 + MAX_HEAD_BYTES;
/// Maximum size of the response to a websocket request, in bytes.
const MAX_ANSWER_BYTES: usize = 4 << 10;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A driver's end of a websocket.
pub(crate) struct Driver {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Remaining bytes of a payload.
    skip: usize,
}

/// A message to a driver.
pub(crate) struct Seen<'a> {
    pub(crate) kind: u8,
    pub(crate) id: u64,
    /// Length of its payload.
    pub(crate) bytes: usize,
    /// How much of it has arrived.
    pub(crate) payload: &'a [u8],
}

impl Driver {
    pub(crate) fn open(relay_port: u16, protocol: &str, port: u16) -> Result<Self, BenchError> {
        let mut answer = Vec::new();
        let stream = handshake(relay_port, protocol, port, &mut answer)
            .map_err(BenchError::io("opening a websocket"))?;
        if !answer.starts_with(b"HTTP/1.1 101") {
            return Err(BenchError::Answer(String::from_utf8_lossy(&answer).into_owned()));
        }
        Ok(Self { stream, buffer: vec![0; BUFFER_BYTES], start: 0, end: 0, skip: 0 })
    }

    /// Reads once, and shows each message as soon as its heads have arrived. `false` at the end.
    pub(crate) fn read(&mut self, mut each: impl FnMut(Seen<'_>)) -> bool {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let space = self.buffer.get_mut(self.end..).unwrap_or_default();
        let Ok(bytes @ 1..) = self.stream.read(space) else { return false };
        self.end += bytes;
        loop {
            let skipped = self.skip.min(self.end - self.start);
            (self.start, self.skip) = (self.start + skipped, self.skip - skipped);
            let there = self.buffer.get(self.start..self.end).unwrap_or_default();
            let Some((head, length)) = websocket_head(there) else { return true };
            // Payloads may arrive later, but heads must be complete.
            if there.len() < (head + length).min(HEADS_BYTES) {
                return true;
            }
            let frame = there.get(head..).unwrap_or_default();
            if let Some(seen) =
                seen(frame, length).filter(|_| there.first().is_some_and(|byte| byte & 15 == 2))
            {
                each(seen);
            }
            self.skip = head + length;
        }
    }

    /// The ids of this many devices, in the order of their arrival.
    pub(crate) fn opened(&mut self, devices: usize) -> Result<Vec<u64>, BenchError> {
        let mut ids = Vec::new();
        while ids.len() < devices {
            let is_open = self.read(|seen| {
                if seen.kind == Kind::Opened as u8 {
                    ids.push(seen.id);
                }
            });
            if !is_open {
                return Err(BenchError::Load);
            }
        }
        Ok(ids)
    }
}

fn handshake(relay_port: u16, protocol: &str, port: u16, answer: &mut Vec<u8>) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", relay_port))?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET /api/server/{protocol}_dispatch?port={port}&accept=127.0.0.1 HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    while !answer.ends_with(b"\r\n\r\n") && answer.len() < MAX_ANSWER_BYTES {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        answer.extend(byte);
    }
    Ok(stream)
}

/// The frame that begins with `frame` and is `length` bytes long.
fn seen(frame: &[u8], length: usize) -> Option<Seen<'_>> {
    let zero = frame.iter().skip(1).position(|byte| *byte == 0)? + 1;
    let id = u64::from_be_bytes(*frame.get(zero + 1..)?.first_chunk()?);
    let start = zero + 13;
    let payload = frame.get(start..frame.len().min(length))?;
    Some(Seen { kind: *frame.first()?, id, bytes: length.checked_sub(start)?, payload })
}

/// Length of the head, and of the message.
fn websocket_head(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes.get(1)? {
        126 => Some((4, u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into())),
        127 => Some((10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize)),
        short => Some((2, short.into())),
    }
}

/// Appends a message of a driver, masked as the protocol requires.
pub fn write_message(id: u64, payload: &[u8], to: &mut Vec<u8>) {
    let mut frame = Vec::with_capacity(payload.len() + MAX_HEAD_BYTES);
    Frame { kind: Kind::Write, address: "127.0.0.1", id, payload }.encode(&mut frame);
    to.push(0x82);
    match frame.len() {
        short @ 0..126 => to.push(0x80 | short as u8),
        middle @ 126..65_536 => {
            to.push(0x80 | 126);
            to.extend((middle as u16).to_be_bytes());
        }
        long => {
            to.push(0x80 | 127);
            to.extend((long as u64).to_be_bytes());
        }
    }
    to.extend(MASK);
    to.extend(frame.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};

    use super::*;

    #[test]
    fn messages_are_what_a_library_reads() {
        for bytes in [0, 100, 1_000, 70_000] {
            let mut written = Vec::new();
            write_message(258, &vec![7; bytes], &mut written);
            let mut socket = WebSocket::from_raw_socket(io::Cursor::new(written), Role::Server, None);
            let message = socket.read().unwrap().into_data();
            let frame = Frame::decode(&message).unwrap();
            assert_eq!((frame.kind, frame.id, frame.payload), (Kind::Write, 258, &vec![7; bytes][..]));
        }
    }

    #[test]
    fn messages_to_drivers_are_read_as_they_come() {
        let mut frame = Vec::new();
        Frame { kind: Kind::Received, address: "127.0.0.1", id: 9, payload: b"hello" }.encode(&mut frame);
        let all = seen(&frame, frame.len()).unwrap();
        assert_eq!((all.kind, all.id, all.bytes, all.payload), (2, 9, 5, &b"hello"[..]));
        let part = seen(&frame[..frame.len() - 3], frame.len()).unwrap();
        assert_eq!((part.bytes, part.payload), (5, &b"he"[..]));
        assert!(seen(&frame[..8], frame.len()).is_none());
        assert_eq!(websocket_head(&[0x82, 5]), Some((2, 5)));
        assert_eq!(websocket_head(&[0x82, 126, 1, 0]), Some((4, 256)));
        assert_eq!(websocket_head(&[0x82, 126, 1]), None);
    }
}

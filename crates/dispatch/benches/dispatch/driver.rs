//! The driver's side, by blocking sockets, and by no more of the websocket protocol than is needed.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use sortie_dispatch::frame::{Frame, Kind};

const BUFFER_BYTES: usize = 256 << 10;
/// Longest heads: of the websocket, and of a frame.
const HEADS_BYTES: usize = 10 + 58;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A driver's end of a websocket.
pub(crate) struct Driver {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of a payload that are still to come.
    skip: usize,
}

impl Driver {
    pub(crate) fn open(relay_port: u16, protocol: &str, port: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", relay_port)).unwrap();
        stream.set_nodelay(true).unwrap();
        let request = format!(
            "GET /api/server/{protocol}_dispatch?port={port}&accept=127.0.0.1 HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
        Self { stream, buffer: vec![0; BUFFER_BYTES], start: 0, end: 0, skip: 0 }
    }

    /// Reads once, and shows each message: its kind, its id, the length of its payload, and what of that has arrived.
    /// `false` at the end.
    pub(crate) fn read(&mut self, mut each: impl FnMut(u8, u64, usize, &[u8])) -> bool {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let Ok(bytes @ 1..) = self.stream.read(&mut self.buffer[self.end..]) else { return false };
        self.end += bytes;
        loop {
            let skipped = self.skip.min(self.end - self.start);
            (self.start, self.skip) = (self.start + skipped, self.skip - skipped);
            let there = &self.buffer[self.start..self.end];
            let Some((head, length)) = websocket_head(there) else { return true };
            // Payloads may come later, heads have to be there.
            if there.len() < (head + length).min(HEADS_BYTES) {
                return true;
            }
            if there[0] & 0x0f == 2 {
                let frame = &there[head..];
                let zero = frame.iter().skip(1).position(|byte| *byte == 0).unwrap() + 1;
                let id = u64::from_be_bytes(frame[zero + 1..zero + 9].try_into().unwrap());
                let payload = zero + 13;
                let arrived = frame.len().min(length);
                each(frame[0], id, length - payload, &frame[payload.min(arrived)..arrived]);
            }
            self.skip = head + length;
        }
    }

    /// The ids of so many devices, in the order of their coming.
    pub(crate) fn opened(&mut self, devices: usize) -> Vec<u64> {
        let mut ids = Vec::new();
        while ids.len() < devices {
            assert!(self.read(|kind, id, _, _| {
                if kind == Kind::Opened as u8 {
                    ids.push(id);
                }
            }));
        }
        ids
    }
}

/// Length of the head, and of the message.
fn websocket_head(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes.get(1)? {
        126 => Some((4, u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into())),
        127 => Some((10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize)),
        short => Some((2, short.into())),
    }
}

/// Appends a message of a driver, masked as it has to be.
pub(crate) fn write_message(id: u64, payload: &[u8], to: &mut Vec<u8>) {
    let mut frame = Vec::with_capacity(payload.len() + 58);
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

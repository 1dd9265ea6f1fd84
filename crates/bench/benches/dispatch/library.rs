//! Which websocket library reads drivers' messages faster: from memory, so that nothing else is measured.
//!
//! Compared with the dispatcher's own reader. Writing is not compared: heads are written in front of bytes that are not
//! copied, which no library does.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use fastwebsockets::{Role as FastRole, WebSocketError, after_handshake_split};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use rustix::time::{ClockId, clock_gettime};
use sortie_bench::data_path::write_message;
use sortie_dispatch::websocket::{Event, Messages};

const TOTAL_BYTES: usize = 128 << 20;
/// Size of one read, in bytes.
const READ_BYTES: usize = 64 << 10;
const ROUNDS: usize = 5;

#[derive(Clone, Copy)]
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn next(&mut self, max: usize) -> &[u8] {
        let (now, rest) = self.0.split_at(max.min(READ_BYTES).min(self.0.len()));
        self.0 = rest;
        now
    }
}

impl Read for Source<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let bytes = self.next(to.len());
        to[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

impl Write for Source<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Source<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let max = to.remaining();
        to.put_slice(self.next(max));
        Poll::Ready(Ok(()))
    }
}

fn tungstenite(stream: &[u8]) -> usize {
    let config = WebSocketConfig::default().read_buffer_size(READ_BYTES);
    let mut socket = WebSocket::from_raw_socket(Source(stream), Role::Server, Some(config));
    let mut messages = 0;
    while let Ok(Message::Binary(_)) = socket.read() {
        messages += 1;
    }
    messages
}

fn fastwebsockets(stream: &[u8]) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut reading, _) = after_handshake_split(Source(stream), tokio::io::sink(), FastRole::Server);
        let mut messages = 0;
        while reading.read_frame::<_, WebSocketError>(&mut async |_| Ok(())).await.is_ok() {
            messages += 1;
        }
        messages
    })
}

/// CPU time of this thread, without that of other work on the machine.
fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn own(stream: &[u8]) -> usize {
    let (mut reader, mut buffer) = (Messages::new(1 << 20), BytesMut::new());
    let mut source = Source(stream);
    let mut messages = 0;
    while !source.0.is_empty() {
        // As in the dispatcher, messages of the last read are gone by now, so that their space is reused.
        buffer.reserve(READ_BYTES);
        buffer.extend_from_slice(source.next(READ_BYTES));
        while let Ok(Some(Event::Message(_))) = reader.next(&mut buffer) {
            messages += 1;
        }
    }
    messages
}

pub(crate) fn run() {
    println!("\nwebsocket libraries, reading WRITE frames from memory: ns of CPU a message");
    println!("| bytes | tungstenite | fastwebsockets | sortie |\n|---|---|---|---|");
    for size in [64, 1024, 16 << 10] {
        let mut stream = Vec::new();
        let mut count = 0;
        while stream.len() < TOTAL_BYTES {
            write_message(1, &vec![7; size], &mut stream);
            count += 1;
        }
        let best = |read: fn(&[u8]) -> usize| {
            let times = (0..ROUNDS).map(|_| {
                let start = cpu_time();
                assert_eq!(read(&stream), count);
                (cpu_time() - start).as_nanos() as f64 / count as f64
            });
            times.fold(f64::INFINITY, f64::min)
        };
        println!("| {size} | {:.0} | {:.0} | {:.0} |", best(tungstenite), best(fastwebsockets), best(own));
    }
}

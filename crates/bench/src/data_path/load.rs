//! Devices, and the driver's side of a plain relay: each side in one thread, the same for every relay.
//!
//! Senders use no runtime: the cost of sending limits what can be measured of a relay.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{BenchError, pause};

/// Size of a read or write in bulk, in bytes.
const BUFFER_BYTES: usize = 64 << 10;
/// The minimal relay opens its port only after it has accepted the driver: number of attempts to connect, and the time
/// between them.
const MAX_TRIES: u32 = 400;
const BETWEEN_TRIES: Duration = Duration::from_millis(5);
/// Pause after a round in which no connection could take anything.
const PAUSE: Duration = Duration::from_micros(20);

/// The role of one side of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Sends messages of that many bytes, one by one.
    Send(usize),
    /// Sends as much as possible at a time.
    Pour,
    /// Reads and counts.
    Count,
    /// Sends a message, waits for its echo.
    Ask(usize),
    /// Echoes what arrives.
    Echo,
}

/// The counts.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) bytes: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) is_over: AtomicBool,
    /// Times of echoes, in nanoseconds, once they are requested.
    echoes: Mutex<Vec<u64>>,
    is_counting: AtomicBool,
}

impl Counts {
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Counts for a while: bytes and echoes, from now on.
    pub(crate) fn measure(&self, time: Duration) -> f64 {
        self.is_counting.store(true, Ordering::Relaxed);
        let before = self.bytes.load(Ordering::Relaxed);
        pause(time);
        self.is_counting.store(false, Ordering::Relaxed);
        (self.bytes.load(Ordering::Relaxed) - before) as f64
    }

    pub(crate) fn take_echoes(&self) -> Vec<u64> {
        std::mem::take(&mut *self.echoes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note_echo(&self, since: Instant) {
        if self.is_counting.load(Ordering::Relaxed) {
            let nanos = since.elapsed().as_nanos() as u64;
            self.echoes.lock().unwrap_or_else(PoisonError::into_inner).push(nanos);
        }
    }
}

/// A side of the load: one thread.
pub(crate) type Player = JoinHandle<Result<(), BenchError>>;

/// This many devices, connected to `port`, which all do the same until the end.
pub(crate) fn devices(port: u16, count: usize, part: Part, counts: Arc<Counts>) -> Player {
    std::thread::spawn(move || {
        let streams = (0..count).map(|_| connected(port)).collect::<io::Result<Vec<_>>>();
        play(streams.map_err(BenchError::io("connecting devices"))?, part, &counts)
    })
}

/// A connection to a port that may not be open yet.
pub(crate) fn connected(port: u16) -> io::Result<std::net::TcpStream> {
    let mut tries = 0;
    loop {
        match std::net::TcpStream::connect(("127.0.0.1", port)) {
            Err(_) if tries < MAX_TRIES => pause(BETWEEN_TRIES),
            other => return other,
        }
        tries += 1;
    }
}

/// The driver's side of a plain relay, on `listener`.
pub(crate) fn plain_driver(
    listener: std::net::TcpListener,
    count: usize,
    part: Part,
    counts: Arc<Counts>,
) -> Player {
    std::thread::spawn(move || {
        let streams = (0..count).map(|_| Ok(listener.accept()?.0)).collect::<io::Result<Vec<_>>>();
        play(streams.map_err(BenchError::io("accepting connections of a plain relay"))?, part, &counts)
    })
}

fn play(streams: Vec<std::net::TcpStream>, part: Part, counts: &Arc<Counts>) -> Result<(), BenchError> {
    for stream in &streams {
        let set = stream.set_nodelay(true).and_then(|()| stream.set_nonblocking(true));
        set.map_err(BenchError::io("setting up connections"))?;
    }
    match part {
        Part::Send(bytes) => send(streams, bytes, counts),
        Part::Pour => send(streams, BUFFER_BYTES, counts),
        Part::Count | Part::Ask(_) | Part::Echo => answer(streams, part, counts)?,
    }
    Ok(())
}

/// Sends a message to each in turn until the end, in one piece if possible.
fn send(mut streams: Vec<std::net::TcpStream>, bytes: usize, counts: &Counts) {
    let message = vec![7; bytes];
    let mut unsent = vec![0; streams.len()];
    while !counts.is_over() {
        let mut is_stuck = true;
        for (stream, unsent) in streams.iter_mut().zip(&mut unsent) {
            let rest = if *unsent == 0 { bytes } else { *unsent };
            match stream.write(message.get(..rest).unwrap_or_default()) {
                Ok(written) => (*unsent, is_stuck) = (rest - written, false),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
        if is_stuck {
            pause(PAUSE);
        }
    }
}

fn answer(streams: Vec<std::net::TcpStream>, part: Part, counts: &Arc<Counts>) -> Result<(), BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(BenchError::io("starting a runtime"))?.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for stream in streams {
            let stream = TcpStream::from_std(stream).map_err(BenchError::io("setting up connections"))?;
            let counts = Arc::clone(counts);
            tasks.spawn(async move {
                // A relay that ends closes its connections.
                let _ = answer_one(stream, part, &counts).await;
            });
        }
        while !counts.is_over() && !tasks.is_empty() {
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
        Ok(())
    })
}

async fn answer_one(mut stream: TcpStream, part: Part, counts: &Counts) -> io::Result<()> {
    let mut buffer = vec![7; BUFFER_BYTES];
    if let Part::Ask(bytes) = part {
        buffer.truncate(bytes);
        loop {
            let start = Instant::now();
            stream.write_all(&buffer).await?;
            stream.read_exact(&mut buffer).await?;
            counts.note_echo(start);
        }
    }
    loop {
        let bytes = stream.read(&mut buffer).await?;
        if bytes == 0 {
            return Ok(());
        }
        counts.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if part == Part::Echo {
            stream.write_all(buffer.get(..bytes).unwrap_or_default()).await?;
        }
    }
}

//! Devices, and the driver's side of a plain relay: tasks of one thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What one side of a connection does.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    /// Sends messages of that many bytes, each by itself.
    Send(usize),
    /// Sends as much as it can at a time.
    Pour,
    /// Reads and counts.
    Count,
    /// Sends a message, waits for its echo.
    Ask(usize),
    /// Sends back what comes.
    Echo,
}

/// What has been counted.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) bytes: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) is_over: AtomicBool,
    /// Times of echoes, in nanoseconds, once they are asked for.
    pub(crate) echoes: std::sync::Mutex<Vec<u64>>,
    pub(crate) is_counting: AtomicBool,
}

impl Counts {
    /// Counts for a while, after a while: bytes and messages a second.
    pub(crate) fn measure(&self, warm_up: Duration, time: Duration) -> (f64, f64) {
        std::thread::sleep(warm_up);
        self.is_counting.store(true, Ordering::Relaxed);
        let read = || (self.bytes.load(Ordering::Relaxed), self.messages.load(Ordering::Relaxed));
        let (start, before) = (Instant::now(), read());
        std::thread::sleep(time);
        let (after, took) = (read(), start.elapsed().as_secs_f64());
        ((after.0 - before.0) as f64 / took, (after.1 - before.1) as f64 / took)
    }
}

fn on_a_thread(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work);
    })
}

/// So many devices, connected to `port`, which all do the same until it is over.
pub(crate) fn devices(port: u16, count: usize, part: Part, counts: Arc<Counts>) -> JoinHandle<()> {
    on_a_thread(async move {
        let mut streams = Vec::new();
        for _ in 0..count {
            streams.push(connected(port).await);
        }
        play(streams, part, counts).await;
    })
}

/// The minimal relay opens its port only after it has let the driver in.
async fn connected(port: u16) -> TcpStream {
    loop {
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(stream) => return stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// The driver's side of a plain relay, on `listener`.
pub(crate) fn plain_driver(
    listener: std::net::TcpListener,
    count: usize,
    part: Part,
    counts: Arc<Counts>,
) -> JoinHandle<()> {
    on_a_thread(async move {
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let mut streams = Vec::new();
        for _ in 0..count {
            streams.push(listener.accept().await.unwrap().0);
        }
        play(streams, part, counts).await;
    })
}

async fn play(streams: Vec<TcpStream>, part: Part, counts: Arc<Counts>) {
    let mut tasks = tokio::task::JoinSet::new();
    for stream in streams {
        stream.set_nodelay(true).unwrap();
        let counts = Arc::clone(&counts);
        tasks.spawn(async move {
            let _ = play_one(stream, part, &counts).await;
        });
    }
    while !counts.is_over.load(Ordering::Relaxed) && !tasks.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn play_one(mut stream: TcpStream, part: Part, counts: &Counts) -> std::io::Result<()> {
    let mut buffer = vec![7; 64 << 10];
    match part {
        Part::Send(bytes) => loop {
            stream.write_all(&buffer[..bytes]).await?;
        },
        Part::Pour => loop {
            stream.write_all(&buffer).await?;
        },
        Part::Count => loop {
            let bytes = stream.read(&mut buffer).await?;
            if bytes == 0 {
                return Ok(());
            }
            counts.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        },
        Part::Ask(bytes) => loop {
            let start = Instant::now();
            stream.write_all(&buffer[..bytes]).await?;
            stream.read_exact(&mut buffer[..bytes]).await?;
            if counts.is_counting.load(Ordering::Relaxed) {
                counts.echoes.lock().unwrap().push(start.elapsed().as_nanos() as u64);
            }
        },
        Part::Echo => loop {
            let bytes = stream.read(&mut buffer).await?;
            if bytes == 0 {
                return Ok(());
            }
            stream.write_all(&buffer[..bytes]).await?;
        },
    }
}

//! Devices that come and go, are slow, or read nothing; peers.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Tally;
use crate::dispatcher::pattern;
use crate::site::soon;

/// How long a peer waits for its datagram to come back before it counts as lost.
const LOSS: Duration = Duration::from_secs(1);
/// What a slow device reads at a time, in bytes, and its pause after it.
const SIP_BYTES: usize = 8 << 10;
const SIP_PAUSE: Duration = Duration::from_millis(1);

/// What a device does from its connection to its end.
#[derive(Clone, Copy)]
pub(super) enum Manners {
    /// Sends, and reads it back.
    Talks(usize),
    /// The same, and reads slowly.
    TalksSlowly(usize),
    /// Connects and leaves.
    Leaves,
    /// Sends, and breaks off with what comes back unread.
    BreaksOff(usize),
}

impl Manners {
    pub(super) fn quick(random: &mut fastrand::Rng) -> Self {
        match random.u8(..20) {
            0 => Self::Leaves,
            1 | 2 => Self::BreaksOff(random.usize(1..100_000)),
            3 => Self::Talks(random.usize(100_000..1_000_000)),
            4..10 => Self::Talks(random.usize(1_000..70_000)),
            _ => Self::Talks(random.usize(0..1_000)),
        }
    }

    pub(super) fn slow(random: &mut fastrand::Rng) -> Self {
        match random.u8(..4) {
            0 => Self::BreaksOff(random.usize(100_000..1_000_000)),
            _ => Self::TalksSlowly(random.usize(10_000..300_000)),
        }
    }
}

/// From an address of its own, of some millions: so there are ports for all.
async fn connect(port: u16, random: &mut fastrand::Rng) -> TcpStream {
    let ip = Ipv4Addr::new(127, random.u8(..), random.u8(..), random.u8(1..255));
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((ip, 0).into()).unwrap();
    soon("a connection", socket.connect((Ipv4Addr::LOCALHOST, port).into())).await.unwrap()
}

/// One device after the other.
pub(super) async fn come_and_go(
    port: u16,
    manners: fn(&mut fastrand::Rng) -> Manners,
    mut random: fastrand::Rng,
    stop: CancellationToken,
    tally: Arc<Tally>,
) {
    while !stop.is_cancelled() {
        let stream = connect(port, &mut random).await;
        let whose = random.usize(..);
        let bytes = match manners(&mut random) {
            Manners::Leaves => 0,
            Manners::Talks(bytes) => talk(stream, whose, bytes, None).await,
            Manners::TalksSlowly(bytes) => talk(stream, whose, bytes, Some(SIP_PAUSE)).await,
            Manners::BreaksOff(bytes) => break_off(stream, whose, bytes).await,
        };
        Tally::count(&tally.visits, 1);
        Tally::count(&tally.bytes, bytes as u64);
    }
}

/// Sends, sends nothing more, and reads until the driver ends it: everything, in order, and nothing else.
async fn talk(mut stream: TcpStream, whose: usize, bytes: usize, pause: Option<Duration>) -> usize {
    let sent = pattern(whose, bytes);
    let (mut reading, mut writing) = stream.split();
    let write = async {
        writing.write_all(&sent).await.unwrap();
        writing.shutdown().await.unwrap();
    };
    let ((), heard) = soon("an echo", async { tokio::join!(write, read(&mut reading, pause)) }).await;
    assert!(heard == sent, "{} bytes came back of {bytes} to {whose}, or others", heard.len());
    bytes
}

async fn read(from: &mut (impl AsyncRead + Unpin), pause: Option<Duration>) -> Vec<u8> {
    let mut heard = Vec::new();
    let Some(pause) = pause else {
        from.read_to_end(&mut heard).await.unwrap();
        return heard;
    };
    let mut sip = vec![0; SIP_BYTES];
    loop {
        let bytes = from.read(&mut sip).await.unwrap();
        if bytes == 0 {
            return heard;
        }
        heard.extend_from_slice(&sip[..bytes]);
        sleep(pause).await;
    }
}

async fn break_off(mut stream: TcpStream, whose: usize, bytes: usize) -> usize {
    // The driver of a device that reads nothing may be kept from reading, and then so is this.
    let _partly = timeout(LOSS, stream.write_all(&pattern(whose, bytes))).await;
    stream.set_zero_linger().unwrap();
    0
}

/// A datagram that says which one it is, unless it is empty.
fn datagram(number: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number);
    let bytes = match random.u8(..10) {
        0 => return Vec::new(),
        1 => random.usize(9_000..65_507 - 8),
        2..5 => random.usize(1_000..2_100),
        _ => random.usize(0..200),
    };
    [&number.to_be_bytes()[..], &pattern(number as usize, bytes)].concat()
}

/// Sends one datagram after the other, each when the one before has come back or is lost.
pub(super) async fn peer(port: u16, mut random: fastrand::Rng, stop: CancellationToken, tally: Arc<Tally>) {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, random.u8(1..255)), 0)).await.unwrap();
    let (mut heard, mut number) = (vec![0; 65_535], random.u64(..));
    while !stop.is_cancelled() {
        number = number.wrapping_add(1);
        let sent = datagram(number);
        socket.send_to(&sent, (Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let back = async {
            loop {
                let bytes = socket.recv(&mut heard).await.unwrap();
                let came = &heard[..bytes];
                if came == sent {
                    return;
                }
                // One that counted as lost: it says which one it is, and is that.
                let late = came.first_chunk::<8>().map(|number| datagram(u64::from_be_bytes(*number)));
                assert!(late.unwrap_or_default() == came, "{bytes} bytes that nobody sent");
            }
        };
        let counter =
            if timeout(LOSS, back).await.is_ok() { &tally.datagrams } else { &tally.lost_datagrams };
        Tally::count(counter, 1);
    }
}

//! The cases, each with each relay in turn.

use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use sortie_dispatch::frame::Kind;

use crate::driver::{Driver, write_message};
use crate::load::{Counts, Part, devices, plain_driver};
use crate::relays::{Relay, Running};

const WARM_UP: Duration = Duration::from_millis(200);
const TIME: Duration = Duration::from_millis(800);
const ROUNDS: usize = 5;
const SIZES: [usize; 3] = [64, 1024, 16 << 10];
const COUNTS: [usize; 2] = [1, 100];
const IDLE_DEVICES: usize = 5_000;
/// What a driver sends at a time, in bytes.
const BLOCK_BYTES: usize = 64 << 10;

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What one round has shown: some figures.
type Figures = [f64; 3];

/// Each relay in turns; the medians of what `round` finds.
fn turns(mut round: impl FnMut(Relay) -> Figures) -> [Figures; 3] {
    let mut found = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for (relay, found) in Relay::ALL.into_iter().zip(&mut found) {
            found.push(round(relay));
        }
    }
    found.map(|rounds: Vec<Figures>| {
        [0, 1, 2].map(|figure| median(rounds.iter().map(|round| round[figure]).collect()))
    })
}

/// The load of one round on a TCP port: bytes a second, CPU seconds a second of the relay.
fn tcp_round(relay: Relay, count: usize, device: Part, plain: Part, size: usize) -> (f64, f64, Arc<Counts>) {
    let port = free_port();
    let (up, down) = (Arc::new(Counts::default()), Arc::new(Counts::default()));
    let counts = if matches!(device, Part::Send(_)) { Arc::clone(&up) } else { Arc::clone(&down) };
    let (running, driver) = if relay == Relay::Plain {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap().port();
        let running = Running::start(relay, Some(("tcp", port, to)));
        (running, plain_driver(listener, count, plain, Arc::clone(&up)))
    } else {
        let running = Running::start(relay, None);
        let driver = Driver::open(running.port, "tcp", port);
        let counts = Arc::clone(&up);
        (running, thread::spawn(move || play_driver(driver, count, plain, size, &counts)))
    };
    let players = devices(port, count, device, Arc::clone(&down));
    thread::sleep(WARM_UP);
    let cpu = running.cpu();
    let start = Instant::now();
    let (bytes, _) = counts.measure(WARM_UP, TIME);
    let cpu = (running.cpu() - cpu) / start.elapsed().as_secs_f64();
    up.is_over.store(true, Ordering::Relaxed);
    down.is_over.store(true, Ordering::Relaxed);
    drop(running);
    players.join().unwrap();
    driver.join().unwrap();
    (bytes, cpu, down)
}

fn play_driver(mut driver: Driver, count: usize, part: Part, size: usize, counts: &Counts) {
    match part {
        Part::Count => {
            while driver.read(|kind, _, bytes, _| {
                if kind == Kind::Received as u8 {
                    counts.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                }
            }) {}
        }
        Part::Pour => {
            let ids = driver.opened(count);
            let mut block = Vec::new();
            let mut messages = 0;
            while block.len() < BLOCK_BYTES || messages < ids.len() {
                write_message(ids[messages % ids.len()], &vec![7; size], &mut block);
                messages += 1;
            }
            while driver.stream.write_all(&block).is_ok() {}
        }
        _ => {
            let mut answers = Vec::new();
            while driver.read(|kind, id, bytes, payload| {
                if kind == Kind::Received as u8 {
                    assert_eq!(bytes, payload.len(), "it is short");
                    write_message(id, payload, &mut answers);
                }
            }) {
                if driver.stream.write_all(&answers).is_err() {
                    return;
                }
                answers.clear();
            }
        }
    }
}

fn throughput(title: &str, round: impl Fn(Relay, usize, usize) -> (f64, f64)) {
    println!("\n{title}: messages/s (CPU of the relay, µs a message)");
    println!(
        "| bytes | devices | plain (a) | naive (b) | sortie | sortie/a | sortie/b |\n|---|---|---|---|---|---|---|"
    );
    for size in SIZES {
        for count in COUNTS {
            let [plain, naive, sortie] = turns(|relay| {
                let (bytes, cpu) = round(relay, count, size);
                let messages = bytes / size as f64;
                [messages, cpu / messages * 1e6, 0.0]
            });
            let show = |figures: Figures| format!("{:.0} ({:.2})", figures[0], figures[1]);
            println!(
                "| {size} | {count} | {} | {} | {} | {:.2} | {:.2} |",
                show(plain),
                show(naive),
                show(sortie),
                sortie[0] / plain[0],
                sortie[0] / naive[0]
            );
        }
    }
}

pub(crate) fn up() {
    throughput("device to driver", |relay, count, size| {
        let (bytes, cpu, _) = tcp_round(relay, count, Part::Send(size), Part::Count, size);
        (bytes, cpu)
    });
}

pub(crate) fn down() {
    throughput("driver to device", |relay, count, size| {
        let (bytes, cpu, _) = tcp_round(relay, count, Part::Count, Part::Pour, size);
        (bytes, cpu)
    });
}

pub(crate) fn echo() {
    println!("\necho of 64 bytes, µs: p50, p99 (echoes/s)");
    println!(
        "| devices | plain (a) | naive (b) | sortie | p50 sortie/b | p99 sortie/b |\n|---|---|---|---|---|---|"
    );
    for count in COUNTS {
        let [plain, naive, sortie] = turns(|relay| {
            let (_, _, counts) = tcp_round(relay, count, Part::Ask(64), Part::Echo, 64);
            let mut echoes = std::mem::take(&mut *counts.echoes.lock().unwrap());
            echoes.sort_unstable();
            let at = |share: f64| echoes[(echoes.len() as f64 * share) as usize] as f64 / 1000.0;
            [at(0.5), at(0.99), echoes.len() as f64 / TIME.as_secs_f64()]
        });
        let show = |figures: Figures| format!("{:.1}, {:.1} ({:.0})", figures[0], figures[1], figures[2]);
        println!(
            "| {count} | {} | {} | {} | {:.2} | {:.2} |",
            show(plain),
            show(naive),
            show(sortie),
            sortie[0] / naive[0],
            sortie[1] / naive[1]
        );
    }
}

pub(crate) fn udp() {
    println!("\ndatagrams to the driver: received/s, loss (CPU of the relay, µs a datagram)");
    println!("| bytes | plain (a) | naive (b) | sortie | received sortie/b |\n|---|---|---|---|---|");
    for size in [64, 1200] {
        let [plain, naive, sortie] = turns(|relay| udp_round(relay, size));
        let show =
            |figures: Figures| format!("{:.0}, {:.1} % ({:.2})", figures[0], figures[1] * 100.0, figures[2]);
        println!(
            "| {size} | {} | {} | {} | {:.2} |",
            show(plain),
            show(naive),
            show(sortie),
            sortie[0] / naive[0]
        );
    }
}

fn udp_round(relay: Relay, size: usize) -> Figures {
    let port = free_port();
    let counts = Arc::new(Counts::default());
    let counting = Arc::clone(&counts);
    let (running, driver) = if relay == Relay::Plain {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let running = Running::start(relay, Some(("udp", port, socket.local_addr().unwrap().port())));
        let count = move || {
            let mut buffer = vec![0; 65_536];
            while !counting.is_over.load(Ordering::Relaxed) {
                if socket.recv(&mut buffer).is_ok() {
                    counting.messages.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        (running, thread::spawn(count))
    } else {
        let running = Running::start(relay, None);
        let mut driver = Driver::open(running.port, "udp", port);
        let count = move || {
            while driver.read(|_, _, _, _| {
                counting.messages.fetch_add(1, Ordering::Relaxed);
            }) {}
        };
        (running, thread::spawn(count))
    };
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    // The minimal relay opens its port only after it has let the driver in.
    thread::sleep(WARM_UP);
    let (mut sent, payload) = (0_u64, vec![7; size]);
    let (cpu, start) = (running.cpu(), Instant::now());
    while start.elapsed() < TIME {
        for _ in 0..64 {
            sent += u64::from(socket.send(&payload).is_ok());
        }
    }
    let took = start.elapsed().as_secs_f64();
    // What is on its way arrives.
    thread::sleep(WARM_UP);
    let cpu = running.cpu() - cpu;
    let received = counts.messages.load(Ordering::Relaxed) as f64;
    counts.is_over.store(true, Ordering::Relaxed);
    drop(running);
    driver.join().unwrap();
    [received / took, 1.0 - received / sent as f64, cpu / received * 1e6]
}

pub(crate) fn memory() {
    println!("\nmemory of {IDLE_DEVICES} idle devices, resident bytes a device");
    for relay in [Relay::Naive, Relay::Sortie] {
        let running = Running::start(relay, None);
        let port = free_port();
        let mut driver = Driver::open(running.port, "tcp", port);
        thread::sleep(WARM_UP);
        let before = running.resident();
        let mut idle = Vec::new();
        for _ in 0..IDLE_DEVICES {
            idle.push(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
        }
        driver.opened(IDLE_DEVICES);
        thread::sleep(WARM_UP);
        let name = if relay == Relay::Naive { "naive (b)" } else { "sortie" };
        println!("{name}: {}", (running.resident() - before) / IDLE_DEVICES);
        let mut all = idle;
        for device in &mut all {
            device.write_all(&[7; 100]).unwrap();
        }
        thread::sleep(WARM_UP * 2);
        println!("{name}, after each has sent 100 bytes: {}", (running.resident() - before) / IDLE_DEVICES);
    }
}

//! The cases; in each, the relays take turns.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sortie_dispatch::frame::Kind;

use super::driver::{Driver, write_message};
use super::load::{Counts, Part, Player, connected, devices, plain_driver};
use super::relays::{Relay, Running};
use super::report::{self, BenchReport, Echo, Figures, Memory, Throughput, Udp};
use super::{BenchError, BenchOptions, Case, pause, raise_file_limit};

/// Warm-up before anything is counted.
const WARM_UP: Duration = Duration::from_millis(200);
/// Time for data in flight to arrive.
const AFTERWARDS: Duration = Duration::from_millis(200);
/// Minimum size of a driver's write, in bytes.
const BLOCK_BYTES: usize = 64 << 10;
/// Size of a message that is echoed, in bytes.
const ECHO_BYTES: usize = 64;
/// Size of datagrams, in bytes.
const UDP_BYTES: [usize; 2] = [64, 1_200];
/// Number of datagrams between two looks at the clock.
const UDP_BURST: usize = 64;
/// Bytes that each idle device sends once.
const ONCE_BYTES: usize = 100;

pub(crate) fn run(
    options: &BenchOptions,
    is_over: &AtomicBool,
    mut line: impl FnMut(&str),
) -> Result<BenchReport, BenchError> {
    let is_nothing = options.sizes.contains(&0) || options.devices.contains(&0) || options.time.is_zero();
    if is_nothing || options.rounds == 0 || options.idle_devices == 0 {
        return Err(BenchError::Nothing);
    }
    raise_file_limit();
    let mut report = BenchReport::default();
    for case in &options.cases {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        match case {
            Case::Up | Case::Down => throughput(options, *case == Case::Up, &mut report, &mut line)?,
            Case::Echo => echo(options, &mut report, &mut line)?,
            Case::Udp => udp(options, &mut report, &mut line)?,
            Case::Memory => {
                let found = memory(options)?;
                line(&found.text());
                report.memory = Some(found);
            }
        }
    }
    Ok(report)
}

fn free_port() -> Result<u16, BenchError> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    Ok(listener.map_err(BenchError::io("looking for a free port"))?.port())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The figures of one round.
type Round<const N: usize> = [f64; N];

/// Lets the relays take turns; returns the medians of the figures of `round`.
fn turns<const N: usize>(
    rounds: usize,
    mut round: impl FnMut(Relay) -> Result<Round<N>, BenchError>,
) -> Result<[Figures<f64>; N], BenchError> {
    let mut found = BTreeMap::<Relay, [Vec<f64>; N]>::new();
    for _ in 0..rounds {
        for relay in Relay::ALL {
            let kept = found.entry(relay).or_insert_with(|| [const { Vec::new() }; N]);
            for (kept, figure) in kept.iter_mut().zip(round(relay)?) {
                kept.push(figure);
            }
        }
    }
    let mut places = 0..N;
    Ok([(); N].map(|()| {
        let place = places.next().unwrap_or_default();
        let of = |relay| found.get(&relay).and_then(|kept| kept.get(place)).cloned().unwrap_or_default();
        Figures { plain: Relay::Plain, minimal: Relay::Minimal, sortie: Relay::Sortie }
            .map(|relay| median(of(relay)))
    }))
}

/// Load on a TCP port.
struct Load {
    devices: usize,
    device: Part,
    driver: Part,
    /// Size of a driver's write, in bytes.
    bytes: usize,
    time: Duration,
}

/// The result of one round.
struct Shown {
    bytes_per_second: f64,
    /// CPU seconds of the relay per second.
    cpu: f64,
    echoes: Vec<u64>,
}

impl Load {
    fn round(&self, options: &BenchOptions, relay: Relay) -> Result<Shown, BenchError> {
        let port = free_port()?;
        let (up, down) = (Arc::new(Counts::default()), Arc::new(Counts::default()));
        let (running, driver) = self.driver(options, relay, port, &up)?;
        let players = devices(port, self.devices, self.device, Arc::clone(&down));
        pause(WARM_UP);
        let (cpu, start) = (running.cpu()?, Instant::now());
        let counts = if matches!(self.device, Part::Send(_)) { &up } else { &down };
        let bytes = counts.measure(self.time);
        let took = start.elapsed().as_secs_f64();
        let cpu = running.cpu()? - cpu;
        up.end();
        down.end();
        drop(running);
        players.join().map_err(|_| BenchError::Load)??;
        driver.join().map_err(|_| BenchError::Load)??;
        Ok(Shown { bytes_per_second: bytes / took, cpu: cpu / took, echoes: down.take_echoes() })
    }

    fn driver(
        &self,
        options: &BenchOptions,
        relay: Relay,
        port: u16,
        counts: &Arc<Counts>,
    ) -> Result<(Running, Player), BenchError> {
        let (count, part, bytes, counts) = (self.devices, self.driver, self.bytes, Arc::clone(counts));
        if relay == Relay::Plain {
            let listener =
                TcpListener::bind("127.0.0.1:0").map_err(BenchError::io("listening for a plain relay"))?;
            let to = listener.local_addr().map_err(BenchError::io("listening for a plain relay"))?.port();
            let running = Running::start(options, relay, Some(("tcp", port, to)))?;
            return Ok((running, plain_driver(listener, count, part, counts)));
        }
        let running = Running::start(options, relay, None)?;
        let driver = Driver::open(running.port, "tcp", port)?;
        Ok((running, thread::spawn(move || play_driver(driver, count, part, bytes, &counts))))
    }
}

fn play_driver(
    mut driver: Driver,
    devices: usize,
    part: Part,
    bytes: usize,
    counts: &Counts,
) -> Result<(), BenchError> {
    match part {
        Part::Pour => {
            let block = block(&driver.opened(devices)?, bytes);
            while driver.stream.write_all(&block).is_ok() {}
        }
        Part::Echo => {
            let mut answers = Vec::new();
            while driver.read(|seen| {
                if seen.kind == Kind::Received as u8 {
                    write_message(seen.id, seen.payload, &mut answers);
                }
            }) && driver.stream.write_all(&answers).is_ok()
            {
                answers.clear();
            }
        }
        Part::Send(_) | Part::Count | Part::Ask(_) => {
            while driver.read(|seen| {
                if seen.kind == Kind::Received as u8 {
                    counts.bytes.fetch_add(seen.bytes as u64, Ordering::Relaxed);
                }
            }) {}
        }
    }
    Ok(())
}

/// Messages to each device in turn.
fn block(ids: &[u64], bytes: usize) -> Vec<u8> {
    let (mut block, payload) = (Vec::new(), vec![7; bytes]);
    while block.len() < BLOCK_BYTES {
        for id in ids {
            write_message(*id, &payload, &mut block);
        }
    }
    block
}

fn throughput(
    options: &BenchOptions,
    is_up: bool,
    report: &mut BenchReport,
    line: &mut impl FnMut(&str),
) -> Result<(), BenchError> {
    line(report::THROUGHPUT);
    for bytes in &options.sizes {
        for devices in &options.devices {
            let (device, driver) =
                if is_up { (Part::Send(*bytes), Part::Count) } else { (Part::Count, Part::Pour) };
            let load = Load { devices: *devices, device, driver, bytes: *bytes, time: options.time };
            let [messages, cpu_micros] = turns(options.rounds, |relay| {
                let shown = load.round(options, relay)?;
                let messages = shown.bytes_per_second / *bytes as f64;
                Ok([messages, shown.cpu / messages * 1e6])
            })?;
            let found = Throughput { is_up, bytes: *bytes, devices: *devices, messages, cpu_micros };
            line(&found.row());
            report.throughput.push(found);
        }
    }
    Ok(())
}

fn echo(
    options: &BenchOptions,
    report: &mut BenchReport,
    line: &mut impl FnMut(&str),
) -> Result<(), BenchError> {
    line(report::ECHO);
    for devices in &options.devices {
        let part = Part::Ask(ECHO_BYTES);
        let load = Load { devices: *devices, device: part, driver: Part::Echo, bytes: 0, time: options.time };
        let [p50_micros, p99_micros, echoes, cpu_micros] = turns(options.rounds, |relay| {
            let mut shown = load.round(options, relay)?;
            shown.echoes.sort_unstable();
            let count = shown.echoes.len() as f64;
            let at = |share: f64| {
                shown.echoes.get((count * share) as usize).map_or(f64::NAN, |nanos| *nanos as f64 / 1e3)
            };
            let echoes = count / options.time.as_secs_f64();
            Ok([at(0.5), at(0.99), echoes, shown.cpu / echoes * 1e6])
        })?;
        let found = Echo { devices: *devices, p50_micros, p99_micros, echoes, cpu_micros };
        line(&found.row());
        report.echo.push(found);
    }
    Ok(())
}

fn udp(
    options: &BenchOptions,
    report: &mut BenchReport,
    line: &mut impl FnMut(&str),
) -> Result<(), BenchError> {
    line(report::UDP);
    for bytes in UDP_BYTES {
        let [received, loss, cpu_micros] = turns(options.rounds, |relay| udp_round(options, relay, bytes))?;
        let found = Udp { bytes, received, loss, cpu_micros };
        line(&found.row());
        report.udp.push(found);
    }
    Ok(())
}

/// Counts datagrams for a driver.
fn udp_driver(
    options: &BenchOptions,
    relay: Relay,
    port: u16,
    counts: &Arc<Counts>,
) -> Result<(Running, thread::JoinHandle<()>), BenchError> {
    let doing = "receiving from a plain relay";
    let counts = Arc::clone(counts);
    if relay == Relay::Plain {
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(BenchError::io(doing))?;
        socket.set_read_timeout(Some(AFTERWARDS / 2)).map_err(BenchError::io(doing))?;
        let to = socket.local_addr().map_err(BenchError::io(doing))?.port();
        let running = Running::start(options, relay, Some(("udp", port, to)))?;
        let count = move || {
            let mut buffer = vec![0; 1 << 16];
            while !counts.is_over() {
                if socket.recv(&mut buffer).is_ok() {
                    counts.messages.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        return Ok((running, thread::spawn(count)));
    }
    let running = Running::start(options, relay, None)?;
    let mut driver = Driver::open(running.port, "udp", port)?;
    let count = move || {
        while driver.read(|_| {
            counts.messages.fetch_add(1, Ordering::Relaxed);
        }) {}
    };
    Ok((running, thread::spawn(count)))
}

fn udp_round(options: &BenchOptions, relay: Relay, bytes: usize) -> Result<Round<3>, BenchError> {
    let port = free_port()?;
    let counts = Arc::new(Counts::default());
    let (running, driver) = udp_driver(options, relay, port, &counts)?;
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(BenchError::io("sending datagrams"))?;
    socket.connect(("127.0.0.1", port)).map_err(BenchError::io("sending datagrams"))?;
    // The minimal relay opens its port only after it has accepted the driver.
    pause(WARM_UP);
    let (mut sent, payload) = (0_u64, vec![7; bytes]);
    let (cpu, start) = (running.cpu()?, Instant::now());
    while start.elapsed() < options.time {
        for _ in 0..UDP_BURST {
            sent += u64::from(socket.send(&payload).is_ok());
        }
    }
    let took = start.elapsed().as_secs_f64();
    pause(AFTERWARDS);
    let cpu = running.cpu()? - cpu;
    let received = counts.messages.load(Ordering::Relaxed) as f64;
    counts.end();
    drop(running);
    driver.join().map_err(|_| BenchError::Load)?;
    Ok([received / took, 1.0 - received / sent as f64, cpu / received * 1e6])
}

fn memory(options: &BenchOptions) -> Result<Memory, BenchError> {
    let (minimal, _) = idle(options, Relay::Minimal)?;
    let (sortie, sortie_after_use) = idle(options, Relay::Sortie)?;
    Ok(Memory { devices: options.idle_devices, minimal, sortie, sortie_after_use })
}

/// Resident bytes per idle device, and per device that has been used.
fn idle(options: &BenchOptions, relay: Relay) -> Result<(usize, usize), BenchError> {
    let running = Running::start(options, relay, None)?;
    let port = free_port()?;
    let mut driver = Driver::open(running.port, "tcp", port)?;
    pause(WARM_UP);
    let before = running.resident()?;
    let mut devices = Vec::new();
    for _ in 0..options.idle_devices {
        devices.push(connected(port).map_err(BenchError::io("connecting devices"))?);
    }
    driver.opened(options.idle_devices)?;
    let each = || -> Result<usize, BenchError> {
        pause(AFTERWARDS);
        Ok(running.resident()?.saturating_sub(before) / options.idle_devices)
    };
    let idle = each()?;
    for device in &mut devices {
        device.write_all(&[7; ONCE_BYTES]).map_err(BenchError::io("sending by devices"))?;
    }
    Ok((idle, each()?))
}

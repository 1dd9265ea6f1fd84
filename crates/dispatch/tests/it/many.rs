//! Many devices, many ports, many drivers.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sortie_dispatch::DispatchOptions;
use sortie_dispatch::frame::Kind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

use crate::harness::{
    Driver, World, device, device_from, exactly, free_port, options, pattern, rest, secret, soon,
};

/// Device connections that still have a descriptor. Not all descriptors, because other tests have some too.
fn sockets_of(port: u16) -> usize {
    // Those with the port on their own side, in any state that may have a descriptor behind it.
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let own = format!(":{port:04X}");
    let is_held = |line: &&str| {
        let mut fields = line.split_whitespace();
        let (local, state, inode) =
            (fields.nth(1).unwrap_or(""), fields.nth(1).unwrap_or(""), fields.nth(5).unwrap_or("0"));
        local.ends_with(&own) && state != "0A" && inode != "0"
    };
    table.lines().skip(1).filter(is_held).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bursts_of_connections_are_all_heard() {
    const BURST: usize = 64;
    const DEVICES: usize = 5_000;
    let world = World::start(options()).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.1").await;
    let mut total = 0;
    while total < DEVICES {
        let count = BURST.min(DEVICES - total);
        // Each sends its number at once.
        let devices = join_all((0..count).map(async |number| {
            let mut device = device(port).await;
            device.write_all(&((total + number) as u32).to_be_bytes()).await.unwrap();
            device
        }))
        .await;
        let mut ids = BTreeMap::new();
        while ids.values().filter(|name: &&Vec<u8>| name.len() == 4).count() < count {
            let said = driver.hear().await.unwrap();
            match said.kind {
                Kind::Opened => assert!(ids.insert(said.id, Vec::new()).is_none()),
                Kind::Received => {
                    ids.get_mut(&said.id).expect("opened first").extend_from_slice(&said.payload);
                }
                _ => {}
            }
        }
        let mut names: Vec<_> = ids.values().cloned().collect();
        names.sort();
        let expected: Vec<_> =
            (total..total + count).map(|name| (name as u32).to_be_bytes().to_vec()).collect();
        assert_eq!(names, expected);
        for id in ids.keys() {
            driver.write(*id, &id.to_be_bytes()).await;
        }
        let mut answers: Vec<_> = join_all(devices.into_iter().map(async |mut device| {
            let mut answer = [0; 8];
            soon(device.read_exact(&mut answer)).await.unwrap();
            u64::from_be_bytes(answer)
        }))
        .await;
        answers.sort_unstable();
        assert_eq!(answers, ids.keys().copied().collect::<Vec<_>>());
        let mut closed = 0;
        while closed < count {
            closed += usize::from(driver.hear().await.unwrap().kind == Kind::Closed);
        }
        total += count;
    }
    assert!(world.dispatch.listing().await.tcp_clients.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_slower_than_a_hundred_devices_gets_every_byte() {
    const DEVICES: usize = 100;
    const BYTES: usize = 400_000;
    let world = World::start(options()).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.1").await;
    let devices = join_all((0..DEVICES).map(async |_| device(port).await)).await;
    let senders: Vec<_> = devices
        .into_iter()
        .enumerate()
        .map(|(number, mut device)| {
            tokio::spawn(async move {
                device.write_all(&(number as u32).to_be_bytes()).await.unwrap();
                device.write_all(&pattern(number as u64, 0, BYTES)).await.unwrap();
                device.shutdown().await.unwrap();
                device
            })
        })
        .collect();
    let mut heard: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut closed = 0;
    let mut messages = 0_u32;
    while closed < DEVICES {
        let said = driver.hear().await.unwrap();
        match said.kind {
            Kind::Opened => assert!(heard.insert(said.id, Vec::new()).is_none()),
            Kind::Received => heard.get_mut(&said.id).unwrap().extend_from_slice(&said.payload),
            _ => closed += 1,
        }
        messages += 1;
        if messages.is_multiple_of(16) {
            // Slower than the devices.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(heard.len(), DEVICES);
    let mut numbers = Vec::new();
    for bytes in heard.values() {
        let (number, bytes) = bytes.split_first_chunk::<4>().unwrap();
        let number = u32::from_be_bytes(*number);
        assert!(*bytes == pattern(number.into(), 0, BYTES), "device {number}");
        numbers.push(number as usize);
    }
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..DEVICES));
    for sender in senders {
        soon(sender).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_to_a_hundred_devices_arrive_whole() {
    const DEVICES: usize = 100;
    const PARTS: usize = 200;
    let world = World::start(options()).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.1").await;
    let devices = join_all((0..DEVICES).map(async |_| device(port).await)).await;
    let mut ids = Vec::new();
    for _ in 0..DEVICES {
        ids.push(driver.expect(Kind::Opened).await.id);
    }
    let readers: Vec<_> = devices
        .into_iter()
        .map(|mut device| {
            tokio::spawn(async move {
                let mut all = Vec::new();
                device.read_to_end(&mut all).await.unwrap();
                all
            })
        })
        .collect();
    for part in 0..PARTS {
        for id in &ids {
            driver.write(*id, &pattern(*id, part * 500, 500)).await;
        }
    }
    for id in &ids {
        driver.close_device(*id).await;
    }
    // The system does not say which device got which number: their bytes do.
    let mut expected: Vec<_> = ids.iter().map(|id| pattern(*id, 0, PARTS * 500)).collect();
    let mut found = Vec::new();
    for reader in readers {
        found.push(soon(reader).await.unwrap());
    }
    expected.sort();
    found.sort();
    assert!(found == expected);
}

/// Counts OPENED, CLOSED and RECEIVED messages, until `closed` devices are closed. Each makes room for another.
async fn count_frames(driver: &mut Driver, closed: usize, room: &Semaphore) -> [usize; 3] {
    let mut kinds = [0_usize; 3];
    while kinds[1] < closed {
        let said = driver.hear().await.unwrap();
        kinds[said.kind as usize] += 1;
        if said.kind == Kind::Closed {
            room.add_permits(1);
        }
    }
    kinds
}

/// Devices that connect one after another from an address of their own. Most reset their connection, so that the system
/// keeps nothing of it; every tenth ends it gracefully.
async fn connect_and_close(port: u16, last: u8, count: usize, room: Arc<Semaphore>) {
    for number in 0..count {
        room.acquire().await.unwrap().forget();
        let mut device = device_from(last, port).await;
        if number % 3 == 0 {
            device.write_all(b"hello").await.unwrap();
        }
        if number % 10 != 0 {
            device.set_zero_linger().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_connections_leave_nothing_behind() {
    const ADDRESSES: u8 = 4;
    const EACH: usize = 25_000;
    const ALL: usize = ADDRESSES as usize * EACH;
    /// A connection that is reset before the system has put it in the port's accept queue is lost: so there is room for
    /// all.
    const AT_A_TIME: usize = 1_000;
    let world = World::start(options()).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.0/8").await;
    let room = Arc::new(Semaphore::new(AT_A_TIME));
    let devices: Vec<_> = (1..=ADDRESSES)
        .map(|last| tokio::spawn(connect_and_close(port, last, EACH, Arc::clone(&room))))
        .collect();
    let kinds = count_frames(&mut driver, ALL, &room).await;
    for all in devices {
        soon(all).await.unwrap();
    }
    assert_eq!((kinds[0], kinds[1]), (ALL, ALL));
    assert_eq!(world.dispatch.stats().await.devices, 0);
    // Those that only shut their sending side may be waiting for an answer: at most as many as the limit, and none once
    // the driver has gone.
    until_sockets_are(port, options().limits.half_closed).await;
    drop(driver);
    until_sockets_are(port, 0).await;
}

async fn until_sockets_are(port: u16, max: usize) {
    soon(async {
        while sockets_of(port) > max {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Descriptors that this process may have, after raising the limit.
fn descriptors() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    maximum.map_or(usize::MAX, |max| max as usize)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_devices_ports_and_drivers_hold_at_full_load() {
    const PORTS: usize = 1_000;
    const ON_ONE: usize = 100;
    /// Descriptors of the tests that run alongside this one, and of its own websockets and listeners.
    const OTHER_DESCRIPTORS: usize = 3_000 + 2 * (PORTS + ON_ONE) + PORTS;
    // Both ends of a connection are in this process.
    let max = (descriptors() - OTHER_DESCRIPTORS) / 2 / PORTS * PORTS;
    let count = max.min(10_000);
    if count < 10_000 {
        eprintln!(
            "with the descriptors that this process may have, there are {count} devices and not 10,000"
        );
    }
    let mut exact = DispatchOptions { hosts: vec![Ipv4Addr::LOCALHOST.into()], ..options() };
    exact.limits.devices = count;
    exact.limits.ports = PORTS;
    exact.limits.drivers = PORTS + ON_ONE - 1;
    exact.limits.drivers_per_port = ON_ONE;
    let world = World::start(exact).await;
    let mut drivers = Vec::new();
    while drivers.len() < PORTS {
        let port = free_port();
        drivers.push((port, world.tcp(port, "127.0.0.0/8").await));
    }
    let first = drivers[0].0;
    let mut beside = Vec::new();
    while beside.len() < ON_ONE - 1 {
        beside.push(world.tcp(first, "127.0.0.0/8").await);
    }
    let refused = async |port: u16| {
        let path = format!("/api/server/tcp_dispatch?bearer_token={}&port={port}&accept=127.0.0.1", secret());
        world.open(&path).await.err().unwrap()
    };
    let (status, text) = refused(first).await;
    assert!(status == 503 && text.contains("there are 1099 drivers already"), "{status} {text}");
    drop(beside.pop());
    world.until(|stats| stats.drivers == PORTS + ON_ONE - 2).await;
    let (status, text) = refused(free_port()).await;
    assert!(status == 503 && text.contains("1000 ports are open already"), "{status} {text}");

    let mut devices = Vec::new();
    while devices.len() < count {
        let port = drivers[devices.len() % PORTS].0;
        devices.push(device_from((devices.len() % 200) as u8 + 1, port).await);
    }
    world.until(|stats| stats.devices == count).await;
    assert_eq!(rest(&mut device(first).await).await.unwrap_or_default(), b"");
    world.until(|stats| stats.turned_away_devices == 1).await;

    // Every device is heard by all drivers that should hear it, and answered.
    for (number, device) in devices.iter_mut().enumerate() {
        device.write_all(&(number as u32).to_be_bytes()).await.unwrap();
    }
    let each = count / PORTS;
    for (place, (_, driver)) in drivers.iter_mut().enumerate() {
        let names = names(driver, each).await;
        for (id, name) in &names {
            assert_eq!(*name as usize % PORTS, place);
            driver.write(*id, &name.to_be_bytes()).await;
        }
    }
    for driver in &mut beside {
        assert!(names(driver, each).await.values().all(|name| (*name as usize).is_multiple_of(PORTS)));
    }
    for (number, device) in devices.iter_mut().enumerate() {
        assert_eq!(exactly(device, 4).await, (number as u32).to_be_bytes());
    }
    drop((drivers, beside));
    world.until(|stats| stats.drivers == 0 && stats.ports.is_empty() && stats.devices == 0).await;
    for device in &mut devices {
        assert_eq!(rest(device).await.unwrap(), b"");
    }
}

/// The messages of all devices, four bytes each.
async fn names(driver: &mut Driver, devices: usize) -> BTreeMap<u64, u32> {
    let mut names = BTreeMap::new();
    while names.len() < devices {
        let said = driver.hear().await.unwrap();
        if said.kind == Kind::Received {
            names.insert(said.id, u32::from_be_bytes(said.payload[..].try_into().unwrap()));
        }
    }
    names
}

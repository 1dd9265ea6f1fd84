//! Many devices, many ports, many drivers.

use std::collections::BTreeMap;

use futures::future::join_all;
use sortie_dispatch::frame::Kind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{World, device, free_port, options, pattern, soon};

/// Connections of devices that still have a descriptor. Not descriptors in all, which other tests have, too.
fn sockets_of(port: u16) -> usize {
    // Those with the port at their own side, in any state in which a descriptor may be behind them.
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
        // Each says who it is at once.
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
            // Slower than they are.
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_leave_nothing_behind() {
    const ROUNDS: usize = 100;
    const ROUND: usize = 100;
    let world = World::start(options()).await;
    let port = free_port();
    let driver = world.tcp(port, "127.0.0.1").await;
    let (_, mut frames) = futures::StreamExt::split(driver.socket);
    let counts = tokio::spawn(async move {
        let mut kinds = [0_usize; 3];
        while kinds[1] < ROUNDS * ROUND {
            let message = soon(futures::StreamExt::next(&mut frames)).await.unwrap().unwrap();
            assert!(!message.is_close(), "{message:?}");
            if message.is_binary() {
                kinds[usize::from(message.into_data()[0])] += 1;
            }
        }
        (kinds, frames)
    });
    for _ in 0..ROUNDS {
        let devices = join_all((0..ROUND).map(async |number| {
            let mut device = device(port).await;
            device.write_all(b"hello").await.unwrap();
            if number % 2 == 0 {
                device.set_zero_linger().unwrap();
            }
        }))
        .await;
        drop(devices);
    }
    let (kinds, frames) = soon(counts).await.unwrap();
    assert_eq!((kinds[0], kinds[1]), (ROUNDS * ROUND, ROUNDS * ROUND));
    assert_eq!(world.dispatch.stats().await.devices, 0);
    // Those that only sent an end may be waiting for an answer: not more than there may be, and none once the driver has gone.
    until_sockets_are(port, options().limits.half_closed).await;
    drop(frames);
    until_sockets_are(port, 0).await;
}

async fn until_sockets_are(port: u16, most: usize) {
    soon(async {
        while sockets_of(port) > most {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_ports() {
    const PORTS: usize = 1_000;
    let world = World::start(options()).await;
    let mut drivers = Vec::new();
    while drivers.len() < PORTS {
        let port = free_port();
        let path = format!(
            "/api/server/tcp_dispatch?bearer_token={}&port={port}&accept=127.0.0.1",
            crate::harness::secret()
        );
        // Another test may have taken it meanwhile.
        if let Ok(driver) = world.open(&path).await {
            drivers.push((port, driver));
        }
    }
    assert_eq!(world.dispatch.listing().await.tcp_listeners.len(), PORTS);
    for (port, driver) in drivers.iter_mut().step_by(50) {
        let mut device = device(*port).await;
        let id = driver.expect(Kind::Opened).await.id;
        device.write_all(b"hello").await.unwrap();
        assert_eq!(driver.receive(id, 5).await, b"hello");
    }
    drop(drivers);
    world.until(|stats| stats.drivers == 0 && stats.ports.is_empty()).await;
}

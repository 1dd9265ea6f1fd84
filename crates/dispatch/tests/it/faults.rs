//! Drivers and devices that stall, vanish, or send anything at all.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use proptest::prelude::*;
use sortie_dispatch::DispatchOptions;
use sortie_dispatch::frame::Kind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{World, device, exactly, free_port, options, pattern, rest, secret, soon};

/// More than all buffers of one connection hold.
const MUCH: usize = 48 << 20;

fn short() -> DispatchOptions {
    let mut options = options();
    options.limits.driver_stall = Duration::from_millis(300);
    options.limits.device_patience = Duration::from_millis(300);
    options
}

#[tokio::test]
async fn a_driver_that_never_reads_is_disconnected_and_the_others_go_on() {
    let world = World::start(short()).await;
    let port = free_port();
    let mut good = world.tcp(port, "127.0.0.1").await;
    let mut stalled = world.tcp(port, "127.0.0.1").await;
    let mut device = device(port).await;
    let id = good.expect(Kind::Opened).await.id;
    let sends = tokio::spawn(async move {
        device.write_all(&pattern(1, 0, MUCH)).await.unwrap();
        device
    });
    assert!(good.receive(id, MUCH).await == pattern(1, 0, MUCH));
    let _device = soon(sends).await.unwrap();
    world.until(|stats| stats.drivers == 1).await;
    // It learns the reason when it reads at last: within the deadline for that, which a slow machine may have missed.
    let (code, reason) = stalled.closed().await;
    assert!(code == 1008 && reason.contains("stalled") || code == 1006, "{code} {reason}");
}

#[tokio::test]
async fn a_stalled_driver_is_told_why() {
    let mut patient = short();
    patient.limits.close_time = Duration::from_secs(30);
    let world = World::start(patient).await;
    let port = free_port();
    let mut stalled = world.tcp(port, "127.0.0.1").await;
    let mut device = device(port).await;
    let id = stalled.expect(Kind::Opened).await.id;
    let sends = tokio::spawn(async move {
        let _ = device.write_all(&pattern(1, 0, MUCH)).await;
    });
    world.until(|stats| stats.drivers == 0).await;
    let mut all = Vec::new();
    let (code, reason) = loop {
        match stalled.hear().await {
            Ok(said) => all.extend_from_slice(&said.payload),
            Err(end) => break end,
        }
    };
    assert_eq!(code, 1008);
    assert!(reason.contains("stalled"), "{reason}");
    assert!(all == pattern(1, 0, all.len()), "what came before it is whole: {id}");
    soon(sends).await.unwrap();
}

#[tokio::test]
async fn memory_for_a_slow_driver_has_a_limit() {
    let world = World::start(options()).await;
    let limit = options().limits.driver_queue_bytes;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.1").await;
    let mut senders = Vec::new();
    for _ in 0..20 {
        let mut device = device(port).await;
        senders.push(tokio::spawn(async move {
            let bytes = MUCH / 10;
            device.write_all(&vec![7; bytes]).await.unwrap();
            device
        }));
    }
    world.until(|stats| stats.queued_bytes > limit / 2).await;
    let mut received = 0;
    while received < 20 * (MUCH / 10) {
        let said = driver.hear().await.unwrap();
        received += said.payload.len();
        if received.is_multiple_of(7) {
            assert!(world.dispatch.stats().await.queued_bytes <= limit);
        }
    }
    for sender in senders {
        soon(sender).await.unwrap();
    }
}

#[tokio::test]
async fn a_device_that_never_reads_holds_up_only_itself() {
    let mut small = short();
    small.limits.device_backlog_bytes = sortie_dispatch::MIN_QUEUE_BYTES;
    let world = World::start(small).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.1").await;
    let deaf = device(port).await;
    let deaf_id = driver.expect(Kind::Opened).await.id;
    let mut good = device(port).await;
    let good_id = driver.expect(Kind::Opened).await.id;
    let reader = tokio::spawn(async move {
        let all = exactly(&mut good, MUCH / 1024).await;
        (good, all)
    });
    for start in (0..MUCH / 1024).step_by(1024) {
        for _ in 0..16 {
            driver.write(deaf_id, &[7; 1 << 16]).await;
        }
        driver.write(good_id, &pattern(2, start, 1024)).await;
    }
    let (_good, all) = soon(reader).await.unwrap();
    assert!(all == pattern(2, 0, MUCH / 1024));
    // It took nothing for too long, and no other device was harmed.
    assert_eq!(driver.expect(Kind::Closed).await.id, deaf_id);
    world.until(|stats| stats.devices == 1 && stats.backlog_bytes == 0).await;
    drop(deaf);
}

#[tokio::test]
async fn a_device_alone_with_its_driver_slows_it_and_loses_nothing() {
    let mut small = options();
    small.limits.device_backlog_bytes = sortie_dispatch::MIN_QUEUE_BYTES;
    small.limits.device_patience = Duration::from_millis(50);
    let world = World::start(small).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.1").await;
    let mut slow = device(port).await;
    let id = driver.expect(Kind::Opened).await.id;
    let sends = tokio::spawn(async move {
        for start in (0..MUCH).step_by(1 << 16) {
            driver.write(id, &pattern(3, start, 1 << 16)).await;
        }
        driver
    });
    // Nothing is read until the driver has to wait …
    let mut last = u64::MAX;
    world
        .until(|stats| {
            let now = stats.total.written_bytes;
            now > 0 && std::mem::replace(&mut last, now) == now
        })
        .await;
    // … and for longer than allowed for a device with neighbours: one that connects now finds it disconnected.
    let other = free_port();
    let mut busy = world.tcp(other, "127.0.0.1").await;
    let _deaf = device(other).await;
    let deaf_id = busy.expect(Kind::Opened).await.id;
    let _neighbour = device(other).await;
    busy.expect(Kind::Opened).await;
    for _ in (0..MUCH).step_by(1 << 16) {
        busy.write(deaf_id, &[7; 1 << 16]).await;
    }
    assert_eq!(busy.expect(Kind::Closed).await.id, deaf_id);
    drop(busy);
    world.until(|stats| stats.drivers == 1).await;
    let stats = world.dispatch.stats().await;
    assert!(stats.backlog_bytes <= 2 * sortie_dispatch::MIN_QUEUE_BYTES);
    let port = stats.ports.iter().find(|one| one.port == port).unwrap();
    assert!(port.drivers[0].counted.written_bytes < MUCH as u64, "the driver has to wait");
    assert!(exactly(&mut slow, MUCH).await == pattern(3, 0, MUCH));
    soon(sends).await.unwrap();
}

#[tokio::test]
async fn a_driver_that_vanishes_leaves_devices_with_a_clean_end() {
    let world = World::start(options()).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.1").await;
    let mut device = device(port).await;
    let id = driver.expect(Kind::Opened).await.id;
    driver.write(id, b"half a wor").await;
    assert_eq!(exactly(&mut device, 10).await, b"half a wor");
    let tokio_tungstenite::MaybeTlsStream::Plain(stream) = driver.socket.get_ref() else { panic!() };
    stream.set_zero_linger().unwrap();
    drop(driver);
    assert_eq!(rest(&mut device).await.unwrap(), b"");
    world.until(|stats| stats.drivers == 0).await;
    world.tcp(port, "127.0.0.1").await;
}

#[tokio::test]
async fn a_driver_killed_mid_stream_takes_nothing_from_another() {
    let world = World::start(options()).await;
    let port = free_port();
    let mut stays = world.tcp(port, "127.0.0.1").await;
    let mut killed = world.tcp(port, "127.0.0.1").await;
    let (mut reading, mut writing) = device(port).await.into_split();
    let id = stays.expect(Kind::Opened).await.id;
    killed.expect(Kind::Opened).await;
    let up = tokio::spawn(async move {
        writing.write_all(&pattern(1, 0, MUCH)).await.unwrap();
        writing
    });
    let dies = tokio::spawn(async move {
        // It is in the middle of receiving, and of sending a message.
        killed.receive(id, MUCH / 8).await;
        killed.write(id, b"a whole one").await;
        let tokio_tungstenite::MaybeTlsStream::Plain(mut stream) = killed.socket.into_inner() else {
            panic!()
        };
        stream.write_all(&[0x82, 0xfe, 0x40, 0, 1, 2, 3, 4, 5]).await.unwrap();
        // Only after this, so that the device has the whole message: a reset discards bytes that were not read yet.
        let mut whole = [0; 11];
        reading.read_exact(&mut whole).await.unwrap();
        assert_eq!(&whole, b"a whole one");
        stream.set_zero_linger().unwrap();
        reading
    });
    assert!(stays.receive(id, MUCH).await == pattern(1, 0, MUCH));
    let mut reading = soon(dies).await.unwrap();
    world.until(|stats| stats.drivers == 1).await;
    stays.write(id, b"still here").await;
    let mut answer = [0; 10];
    soon(reading.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"still here");
    soon(up).await.unwrap();
}

#[tokio::test]
async fn a_device_that_reads_too_slowly_is_disconnected() {
    let mut small = short();
    small.limits.device_backlog_bytes = sortie_dispatch::MIN_QUEUE_BYTES;
    let world = World::start(small).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.1").await;
    let mut slow = device(port).await;
    let slow_id = driver.expect(Kind::Opened).await.id;
    let mut good = device(port).await;
    let good_id = driver.expect(Kind::Opened).await.id;
    let trickle = tokio::spawn(async move {
        let mut few = [0; 1 << 14];
        while slow.read(&mut few).await.is_ok_and(|bytes| bytes > 0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    while world.dispatch.stats().await.devices == 2 {
        driver.write(slow_id, &[7; 1 << 16]).await;
    }
    driver.write(good_id, b"at last").await;
    assert_eq!(exactly(&mut good, 7).await, b"at last");
    soon(trickle).await.unwrap();
}

#[tokio::test]
async fn devices_that_come_and_go_beside_a_stalled_driver_have_a_limit() {
    let mut few = options();
    few.limits.devices = 20;
    let world = World::start(few).await;
    let port = free_port();
    let stalled = world.tcp(port, "127.0.0.1").await;
    let mut talker = device(port).await;
    let talks = tokio::spawn(async move {
        let _ = talker.write_all(&pattern(1, 0, MUCH)).await;
    });
    let mut last = u64::MAX;
    world
        .until(|stats| {
            let now = stats.total.received_bytes;
            now > 0 && std::mem::replace(&mut last, now) == now
        })
        .await;
    // No driver can be told about them, so they still count.
    while world.dispatch.stats().await.turned_away_devices == 0 {
        device(port).await.set_zero_linger().unwrap();
    }
    drop(stalled);
    world.until(|stats| stats.devices == 0 && stats.drivers == 0).await;
    soon(talks).await.unwrap();
}

#[tokio::test]
async fn a_driver_that_answers_no_ping_is_disconnected() {
    let mut quick = options();
    quick.limits.ping_period = Duration::from_millis(50);
    quick.limits.ping_deadline = Duration::from_millis(100);
    let world = World::start(quick).await;
    // A driver that reads and never answers.
    let mut stream = TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
    let request = format!(
        "GET /api/server/tcp_dispatch?bearer_token={}&port={}&accept=127.0.0.1 HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        secret(),
        free_port()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    soon(stream.read_to_end(&mut all)).await.unwrap();
    let end = all.windows(2).rposition(|pair| pair == 1011_u16.to_be_bytes()).expect("a close frame");
    assert_eq!(all[end - 2], 0x88);
    world.until(|stats| stats.drivers == 0).await;
}

#[tokio::test]
async fn a_websocket_that_is_never_completed_leaves_no_port() {
    let world = World::start(options()).await;
    let port = free_port();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
        let request = format!(
            "GET /api/server/tcp_dispatch?bearer_token={}&port={port}&accept=127.0.0.1 HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
            secret()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.set_zero_linger().unwrap();
        drop(stream);
    }
    world.until(|stats| stats.drivers == 0 && stats.ports.is_empty()).await;
    world.tcp(port, "127.0.0.1").await;
}

#[tokio::test]
async fn bytes_that_are_no_websocket_end_it() {
    let world = World::start(options()).await;
    let port = free_port();
    // Unmasked, with reserved bits, an unknown opcode, a fragmented control frame.
    for bytes in [
        &[0x82, 0x01, 0x00][..],
        &[0xf2, 0x80, 0, 0, 0, 0],
        &[0x83, 0x80, 0, 0, 0, 0],
        &[0x09, 0x80, 0, 0, 0, 0],
    ] {
        let driver = world.tcp(port, "127.0.0.1").await;
        let tokio_tungstenite::MaybeTlsStream::Plain(mut stream) = driver.socket.into_inner() else {
            panic!()
        };
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        soon(stream.read_to_end(&mut answer)).await.unwrap();
        assert_eq!(answer[0], 0x88, "{bytes:x?}: {answer:x?}");
        assert_eq!(answer[2..4], 1002_u16.to_be_bytes(), "{bytes:x?}");
    }
}

#[test]
fn arbitrary_messages_leave_the_port_intact() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (world, ports) = runtime.block_on(async {
        let world = World::start(options()).await;
        (world, [free_port(), free_port()])
    });
    let frame =
        (0_u8..6, "[0-9a-f.:]{0,50}", any::<u64>(), prop::collection::vec(any::<u8>(), 0..40), 0_usize..100);
    let message = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        frame.prop_map(|(kind, address, id, payload, cut)| {
            let size = (payload.len() as u32).to_be_bytes();
            let mut all = [&[kind], address.as_bytes(), &[0], &id.to_be_bytes(), &size, &payload].concat();
            all.truncate(all.len().saturating_sub(cut.saturating_sub(60)));
            all
        }),
    ];
    let config = ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let messages = prop::collection::vec(message, 1..8);
    runner
        .run(&messages, |messages| {
            runtime.block_on(async {
                for is_stream in [true, false] {
                    let port = ports[usize::from(is_stream)];
                    let mut driver = if is_stream {
                        world.tcp(port, "127.0.0.1").await
                    } else {
                        world.udp(port, "127.0.0.1").await
                    };
                    for message in &messages {
                        if driver
                            .socket
                            .send(tokio_tungstenite::tungstenite::Message::binary(message.clone()))
                            .await
                            .is_err()
                        {
                            break;
                        }
                    }
                    let _ = driver.socket.close(None).await;
                    while let Some(Ok(_)) = soon(driver.socket.next()).await {}
                }
            });
            Ok(())
        })
        .unwrap();
    runtime.block_on(async {
        let mut driver = world.tcp(ports[1], "127.0.0.1").await;
        let mut device = device(ports[1]).await;
        let id = driver.expect(Kind::Opened).await.id;
        device.write_all(b"fine").await.unwrap();
        driver.receive(id, 4).await;
    });
}

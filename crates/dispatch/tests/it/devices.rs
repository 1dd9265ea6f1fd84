//! TCP devices: order, wholeness, ends.

use sortie_dispatch::DispatchOptions;
use sortie_dispatch::frame::Kind;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::{World, device, device_from, exactly, free_port, options, pattern, rest, soon};

#[tokio::test]
async fn a_device_speaks_and_is_answered() {
    let world = World::start(options()).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.1").await;
    let mut device = device(port).await;
    let opened = driver.expect(Kind::Opened).await;
    assert_eq!(opened.address, "127.0.0.1");
    device.write_all(b"hello").await.unwrap();
    let received = driver.expect(Kind::Received).await;
    assert_eq!(
        (received.id, received.address, &received.payload[..]),
        (opened.id, opened.address, &b"hello"[..])
    );
    driver.write(opened.id, b"hi there").await;
    assert_eq!(exactly(&mut device, 8).await, b"hi there");
    drop(device);
    assert_eq!(driver.expect(Kind::Closed).await.id, opened.id);
    assert!(world.dispatch.listing().await.tcp_clients.is_empty(), "it is not counted once it is told");
}

#[tokio::test]
async fn the_port_is_open_when_the_upgrade_is_answered() {
    let world = World::start(options()).await;
    for _ in 0..20 {
        let port = free_port();
        let mut driver = world.tcp(port, "127.0.0.1").await;
        let _device = device(port).await;
        driver.expect(Kind::Opened).await;
    }
}

#[tokio::test]
async fn bytes_arrive_whole_and_in_order_both_ways() {
    const BYTES: usize = 8 << 20;
    let world = World::start(options()).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.1").await;
    let (mut reading, mut writing) = device(port).await.into_split();
    let id = driver.expect(Kind::Opened).await.id;
    let up = tokio::spawn(async move {
        writing.write_all(&pattern(1, 0, BYTES)).await.unwrap();
        writing
    });
    assert!(driver.receive(id, BYTES).await == pattern(1, 0, BYTES));
    let down = tokio::spawn(async move {
        let mut all = vec![0; BYTES];
        tokio::io::AsyncReadExt::read_exact(&mut reading, &mut all).await.unwrap();
        all
    });
    for start in (0..BYTES).step_by(10_000) {
        driver.write(id, &pattern(2, start, 10_000.min(BYTES - start))).await;
    }
    assert!(soon(down).await.unwrap() == pattern(2, 0, BYTES));
    soon(up).await.unwrap();
}

#[tokio::test]
async fn a_device_that_has_shut_its_sending_side_is_still_answered() {
    let world = World::start(options()).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.1").await;
    let mut device = device(port).await;
    let id = driver.expect(Kind::Opened).await.id;
    device.write_all(b"question").await.unwrap();
    device.shutdown().await.unwrap();
    assert_eq!(driver.receive(id, 8).await, b"question");
    assert_eq!(driver.expect(Kind::Closed).await.id, id);
    for part in ["an", "swer"] {
        driver.write(id, part.as_bytes()).await;
    }
    driver.close_device(id).await;
    assert_eq!(rest(&mut device).await.unwrap(), b"answer");
}

#[tokio::test]
async fn a_half_closed_device_is_disconnected_after_a_while() {
    let mut short = options();
    short.limits.half_close_time = std::time::Duration::from_millis(20);
    let world = World::start(short).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.1").await;
    let mut device = device(port).await;
    driver.expect(Kind::Opened).await;
    device.shutdown().await.unwrap();
    assert_eq!(rest(&mut device).await.unwrap(), b"");
    driver.expect(Kind::Closed).await;
}

#[tokio::test]
async fn beyond_the_limit_the_oldest_half_closed_device_is_disconnected() {
    let mut few = options();
    few.limits.half_closed = 1;
    few.limits.half_close_time = std::time::Duration::from_secs(600);
    let world = World::start(few).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.1").await;
    let mut first = device(port).await;
    driver.expect(Kind::Opened).await;
    first.shutdown().await.unwrap();
    driver.expect(Kind::Closed).await;
    let mut second = device(port).await;
    let id = driver.expect(Kind::Opened).await.id;
    second.shutdown().await.unwrap();
    driver.expect(Kind::Closed).await;
    assert_eq!(rest(&mut first).await.unwrap(), b"");
    driver.write(id, b"still here").await;
    assert_eq!(exactly(&mut second, 10).await, b"still here");
}

#[tokio::test]
async fn close_flushes_what_was_written_before_it() {
    const BYTES: usize = 6 << 20;
    let world = World::start(options()).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.1").await;
    let mut device = device(port).await;
    let id = driver.expect(Kind::Opened).await.id;
    // The device sends too, and bytes that nobody reads must not discard the bytes in flight to it.
    device.write_all(&[7; 1000]).await.unwrap();
    driver.receive(id, 1000).await;
    let reader = tokio::spawn(async move {
        device.write_all(&[8; 1000]).await.unwrap();
        rest(&mut device).await
    });
    for start in (0..BYTES).step_by(1 << 16) {
        driver.write(id, &pattern(3, start, 1 << 16)).await;
    }
    driver.close_device(id).await;
    assert!(soon(reader).await.unwrap().unwrap() == pattern(3, 0, BYTES));
    while driver.hear().await.unwrap().kind != Kind::Closed {}
}

#[tokio::test]
async fn writes_after_close_go_nowhere() {
    let world = World::start(options()).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.1").await;
    let mut device = device(port).await;
    let id = driver.expect(Kind::Opened).await.id;
    driver.write(id, b"before").await;
    driver.close_device(id).await;
    driver.write(id, b"after").await;
    driver.close_device(id).await;
    driver.write(id + 1000, b"nobody").await;
    assert_eq!(rest(&mut device).await.unwrap(), b"before");
    driver.expect(Kind::Closed).await;
}

#[tokio::test]
async fn a_device_that_is_reset_is_closed_once() {
    let world = World::start(options()).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.1").await;
    for _ in 0..10 {
        let device = device(port).await;
        let id = driver.expect(Kind::Opened).await.id;
        device.set_zero_linger().unwrap();
        drop(device);
        assert_eq!(driver.expect(Kind::Closed).await.id, id);
    }
    world.until(|stats| stats.devices == 0).await;
}

#[tokio::test]
async fn devices_that_nobody_accepts_are_disconnected() {
    let world = World::start(options()).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.2,127.1.0.0/16").await;
    let mut stranger = device_from(3, port).await;
    assert_eq!(rest(&mut stranger).await.unwrap_or_default(), b"");
    let _known = device_from(2, port).await;
    assert_eq!(driver.expect(Kind::Opened).await.address, "127.0.0.2");
}

#[tokio::test]
async fn ipv6_and_mapped_addresses() {
    let world = World::start(options()).await;
    let port = free_port();
    let mut driver = world.tcp(port, "::1,::ffff:127.0.0.1").await;
    let Ok(mut over_ipv6) = TcpStream::connect(("::1", port)).await else {
        // This machine has no IPv6.
        return;
    };
    let opened = driver.expect(Kind::Opened).await;
    assert_eq!(opened.address, "::1");
    driver.say(Kind::Write, "::1", opened.id, b"six").await;
    assert_eq!(exactly(&mut over_ipv6, 3).await, b"six");
    let _over_ipv4 = device(port).await;
    assert_eq!(driver.expect(Kind::Opened).await.address, "127.0.0.1");
}

#[tokio::test]
async fn one_socket_for_both_families_reports_ipv4() {
    let hosts = vec!["::".parse().unwrap()];
    let world = World::start(DispatchOptions { hosts, ..options() }).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.0/8").await;
    let _device = device(port).await;
    assert_eq!(driver.expect(Kind::Opened).await.address, "127.0.0.1");
}

#[tokio::test]
async fn too_many_devices_are_turned_away() {
    let mut few = options();
    few.limits.devices = 2;
    let world = World::start(few).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.1").await;
    let first = device(port).await;
    let _second = device(port).await;
    let id = driver.expect(Kind::Opened).await.id;
    driver.expect(Kind::Opened).await;
    assert_eq!(rest(&mut device(port).await).await.unwrap_or_default(), b"");
    assert_eq!(world.dispatch.stats().await.turned_away_devices, 1);
    drop(first);
    assert_eq!(driver.expect(Kind::Closed).await.id, id);
    let _third = device(port).await;
    driver.expect(Kind::Opened).await;
}

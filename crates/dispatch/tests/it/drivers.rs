//! Several drivers of one port, what each may do, and how they end.

use std::time::Duration;

use futures::SinkExt as _;
use sortie_dispatch::frame::Kind;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{World, device, device_from, exactly, free_port, options, rest, soon};

#[tokio::test]
async fn each_driver_hears_the_devices_that_it_accepts() {
    let world = World::start(options()).await;
    let port = free_port();
    let mut all = world.tcp(port, "127.0.0.0/8").await;
    let mut two = world.tcp(port, "127.0.0.2").await;
    let mut first = device_from(1, port).await;
    let one = all.expect(Kind::Opened).await.id;
    let mut second = device_from(2, port).await;
    let other = all.expect(Kind::Opened).await.id;
    assert_eq!(two.expect(Kind::Opened).await.id, other);
    first.write_all(b"only all").await.unwrap();
    assert_eq!(all.receive(one, 8).await, b"only all");
    second.write_all(b"both").await.unwrap();
    assert_eq!(all.receive(other, 4).await, b"both");
    assert_eq!(two.receive(other, 4).await, b"both");
    // Any of them may write.
    two.write(other, b"from two").await;
    assert_eq!(exactly(&mut second, 8).await, b"from two");
    all.write(other, b"from all").await;
    assert_eq!(exactly(&mut second, 8).await, b"from all");
}

#[tokio::test]
async fn a_driver_may_not_touch_the_devices_of_another() {
    let world = World::start(options()).await;
    let port = free_port();
    let mut owner = world.tcp(port, "127.0.0.1").await;
    let mut thief = world.tcp(port, "127.0.0.9").await;
    let mut device = device(port).await;
    let id = owner.expect(Kind::Opened).await.id;
    thief.write(id, b"stolen").await;
    thief.close_device(id).await;
    world.until(|stats| stats.total.refused_messages == 2).await;
    owner.write(id, b"mine").await;
    assert_eq!(exactly(&mut device, 4).await, b"mine");
    device.write_all(b"still here").await.unwrap();
    assert_eq!(owner.receive(id, 10).await, b"still here");
}

#[tokio::test]
async fn a_later_driver_gets_opened_before_bytes() {
    let world = World::start(options()).await;
    let port = free_port();
    let mut early = world.tcp(port, "127.0.0.1").await;
    let mut device = device(port).await;
    let id = early.expect(Kind::Opened).await.id;
    let mut late = world.tcp(port, "127.0.0.1").await;
    assert_eq!(late.expect(Kind::Opened).await.id, id);
    device.write_all(b"hello").await.unwrap();
    assert_eq!(late.receive(id, 5).await, b"hello");
    assert_eq!(early.receive(id, 5).await, b"hello");
}

#[tokio::test]
async fn a_device_ends_with_the_last_driver_that_accepts_it() {
    let world = World::start(options()).await;
    let port = free_port();
    let mut all = world.tcp(port, "127.0.0.0/8").await;
    let mut two = world.tcp(port, "127.0.0.2").await;
    let mut first = device_from(1, port).await;
    all.expect(Kind::Opened).await;
    let mut second = device_from(2, port).await;
    let id = two.expect(Kind::Opened).await.id;
    drop(all);
    assert_eq!(rest(&mut first).await.unwrap(), b"");
    second.write_all(b"go on").await.unwrap();
    assert_eq!(two.receive(id, 5).await, b"go on");
    drop(two);
    assert_eq!(rest(&mut second).await.unwrap(), b"");
    world.until(|stats| stats.ports.is_empty()).await;
}

#[tokio::test]
async fn a_port_can_be_had_again_at_once() {
    let world = World::start(options()).await;
    let port = free_port();
    for _ in 0..20 {
        let mut driver = world.tcp(port, "127.0.0.1").await;
        let _device = device(port).await;
        driver.expect(Kind::Opened).await;
        soon(driver.socket.close(None)).await.unwrap();
        assert_eq!(driver.closed().await.0, 1000);
        let mut datagrams = world.udp(port, "127.0.0.1").await;
        soon(datagrams.socket.close(None)).await.unwrap();
        datagrams.closed().await;
    }
    world.until(|stats| stats.drivers == 0).await;
}

#[tokio::test]
async fn an_invalid_frame_closes_with_a_reason() {
    let world = World::start(options()).await;
    let write = |address: &[u8], size: u32, payload: &[u8]| {
        [&[3], address, &[0], &1_u64.to_be_bytes(), &size.to_be_bytes(), payload].concat()
    };
    let cases = [
        (vec![], 1007),
        (vec![3], 1007),
        (vec![9, 0], 1008),
        (vec![0; 14], 1008),
        (write(b"127.0.0.1", 10, b"short"), 1007),
        (write(b"127.0.0.1", 1, b"long"), 1007),
        (write(&[b'1'; 60], 0, b""), 1007),
        (write(&[0xff], 0, b""), 1007),
        ([vec![4], write(b"127.0.0.1", 1, b"x")[1..].to_vec()].concat(), 1007),
    ];
    let port = free_port();
    for (message, code) in cases {
        let mut driver = world.tcp(port, "127.0.0.1").await;
        driver.send(message.clone()).await;
        let (found, reason) = driver.closed().await;
        assert_eq!(found, code, "{message:?}: {reason}");
        assert!(!reason.is_empty());
    }
    // The port still works.
    let mut driver = world.tcp(port, "127.0.0.1").await;
    let mut device = device(port).await;
    let id = driver.expect(Kind::Opened).await.id;
    device.write_all(b"fine").await.unwrap();
    assert_eq!(driver.receive(id, 4).await, b"fine");
}

#[tokio::test]
async fn text_and_too_long_messages_close_with_a_reason() {
    let mut small = options();
    small.limits.message_bytes = 1000;
    let world = World::start(small).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.1").await;
    soon(driver.socket.send(Message::text("hello"))).await.unwrap();
    assert_eq!(driver.closed().await.0, 1003);
    let mut driver = world.tcp(port, "127.0.0.1").await;
    driver.send(vec![3; 1001]).await;
    let (code, reason) = driver.closed().await;
    assert_eq!(code, 1009);
    assert!(reason.contains("1000 bytes"), "{reason}");
}

#[tokio::test]
async fn messages_before_an_invalid_one_are_carried_out() {
    let world = World::start(options()).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.1").await;
    let mut device = device(port).await;
    let id = driver.expect(Kind::Opened).await.id;
    driver.write(id, b"before").await;
    driver.send(vec![99]).await;
    assert_eq!(driver.closed().await.0, 1008);
    assert_eq!(rest(&mut device).await.unwrap(), b"before");
}

#[tokio::test]
async fn pings_are_answered_and_sent() {
    let mut quick = options();
    quick.limits.ping_period = Duration::from_millis(20);
    let world = World::start(quick).await;
    let mut driver = world.tcp(free_port(), "127.0.0.1").await;
    soon(driver.socket.send(Message::Ping("are you there".into()))).await.unwrap();
    let (mut has_ping, mut has_pong) = (false, false);
    while !(has_ping && has_pong) {
        match soon(futures::StreamExt::next(&mut driver.socket)).await.unwrap().unwrap() {
            Message::Pong(payload) => has_pong = payload == "are you there",
            Message::Ping(_) => has_ping = true,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_driver_that_does_nothing_but_answer_pings_stays() {
    let mut quick = options();
    quick.limits.ping_period = Duration::from_millis(20);
    quick.limits.ping_deadline = Duration::from_secs(1);
    let world = World::start(quick).await;
    let mut driver = world.tcp(free_port(), "127.0.0.1").await;
    // Twice the allowed silence.
    for _ in 0..100 {
        let heard = soon(futures::StreamExt::next(&mut driver.socket)).await.unwrap().unwrap();
        assert!(heard.is_ping(), "{heard:?}");
    }
}

#[tokio::test]
async fn the_dispatcher_shuts_down_gracefully() {
    let world = World::start(options()).await;
    let port = free_port();
    let mut driver = world.tcp(port, "127.0.0.1").await;
    let mut datagrams = world.udp(port, "127.0.0.1").await;
    let mut device = device(port).await;
    let id = driver.expect(Kind::Opened).await.id;
    driver.write(id, b"the last words").await;
    assert_eq!(exactly(&mut device, 4).await, b"the ");
    let dispatch = world.dispatch.clone();
    let ends = tokio::spawn(async move { dispatch.shutdown(Duration::from_secs(30)).await });
    let (code, reason) = driver.closed().await;
    assert_eq!(code, 1001);
    assert!(!reason.is_empty());
    assert_eq!(datagrams.closed().await.0, 1001);
    assert_eq!(rest(&mut device).await.unwrap(), b"last words");
    drop((driver, datagrams, device));
    soon(ends).await.unwrap();
    let path = format!("/api/server/tcp_dispatch?bearer_token=a+shared+secret&port={port}&accept=127.0.0.1");
    assert_eq!(world.open(&path).await.err().unwrap().0, 503);
    assert_eq!(world.dispatch.stats().await.drivers, 0);
}

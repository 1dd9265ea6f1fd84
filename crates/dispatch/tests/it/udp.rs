//! Datagrams.

use std::net::SocketAddr;

use sortie_dispatch::DispatchOptions;
use sortie_dispatch::frame::Kind;
use tokio::net::UdpSocket;

use crate::harness::{Said, World, free_port, options, pattern, soon};

/// Maximum length of a datagram over IPv4: RFC 768 and RFC 791.
const MAX_DATAGRAM_BYTES: usize = 65_507;

async fn sender(last: u8, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, last], 0))).await.unwrap();
    socket.connect(("127.0.0.1", port)).await.unwrap();
    socket
}

fn port_of(socket: &UdpSocket) -> u64 {
    socket.local_addr().unwrap().port().into()
}

async fn datagram(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES + 1];
    let bytes = soon(socket.recv(&mut buffer)).await.unwrap();
    buffer.truncate(bytes);
    buffer
}

#[tokio::test]
async fn datagrams_come_and_go_whole() {
    let world = World::start(options()).await;
    let port = free_port();
    let mut driver = world.udp(port, "127.0.0.1").await;
    let device = sender(1, port).await;
    for bytes in [0, 1, 512, 2048, 2049, 9000, MAX_DATAGRAM_BYTES] {
        let sent = pattern(1, 0, bytes);
        device.send(&sent).await.unwrap();
        let Said { address, id, payload, .. } = driver.expect(Kind::Received).await;
        assert_eq!((address.as_str(), id), ("127.0.0.1", port_of(&device)));
        assert!(payload == sent, "{bytes} bytes");
        driver.write(id, &sent).await;
        assert!(datagram(&device).await == sent, "{bytes} bytes");
    }
    // In quick succession, including empty ones.
    for number in 0..100 {
        device.send(&vec![number; usize::from(number % 3)]).await.unwrap();
    }
    for number in 0..100 {
        assert_eq!(driver.expect(Kind::Received).await.payload, vec![number; usize::from(number % 3)]);
    }
}

#[tokio::test]
async fn each_driver_gets_datagrams_of_accepted_peers() {
    let world = World::start(options()).await;
    let port = free_port();
    let mut all = world.udp(port, "127.0.0.0/8").await;
    let mut two = world.udp(port, "127.0.0.2").await;
    let (first, second, stranger) = (sender(1, port).await, sender(2, port).await, sender(3, port).await);
    first.send(b"first").await.unwrap();
    second.send(b"second").await.unwrap();
    assert_eq!(all.expect(Kind::Received).await.payload, "first");
    assert_eq!(all.expect(Kind::Received).await.payload, "second");
    assert_eq!(two.expect(Kind::Received).await.payload, "second");
    drop(all);
    world.until(|stats| stats.drivers == 1).await;
    // It is ignored, as is an address that only the other driver accepted.
    stranger.send(b"stranger").await.unwrap();
    second.send(b"again").await.unwrap();
    assert_eq!(two.expect(Kind::Received).await.payload, "again");
}

#[tokio::test]
async fn datagrams_go_only_to_accepted_addresses_that_sent_one() {
    let world = World::start(options()).await;
    let port = free_port();
    let mut driver = world.udp(port, "127.0.0.1").await;
    let (device, silent) = (sender(1, port).await, sender(1, port).await);
    let stranger = sender(3, port).await;
    stranger.send(b"hello").await.unwrap();
    device.send(b"hello").await.unwrap();
    driver.expect(Kind::Received).await;
    driver.write(port_of(&silent), b"unasked").await;
    driver.say(Kind::Write, "127.0.0.3", port_of(&stranger), b"not accepted").await;
    driver.say(Kind::Write, "255.255.255.255", 9, b"everybody").await;
    driver.write(0, b"port 0").await;
    world.until(|stats| stats.total.refused_messages == 4).await;
    driver.write(port_of(&device), b"fine").await;
    assert_eq!(datagram(&device).await, b"fine");
    assert!(silent.try_recv(&mut [0; 10]).is_err() && stranger.try_recv(&mut [0; 10]).is_err());
}

#[tokio::test]
async fn datagrams_may_go_to_silent_peers_if_configured() {
    let world = World::start(DispatchOptions { only_to_peers_that_spoke: false, ..options() }).await;
    let port = free_port();
    let mut driver = world.udp(port, "127.0.0.1,::1").await;
    let device = sender(1, port).await;
    driver.write(port_of(&device), b"unasked").await;
    assert_eq!(datagram(&device).await, b"unasked");
    if let Ok(over_ipv6) = UdpSocket::bind("[::1]:0").await {
        driver.say(Kind::Write, "::1", port_of(&over_ipv6), b"six").await;
        assert_eq!(datagram(&over_ipv6).await, b"six");
    }
}

#[tokio::test]
async fn ipv6_and_mapped_addresses() {
    for hosts in [vec!["0.0.0.0".parse().unwrap(), "::".parse().unwrap()], vec!["::".parse().unwrap()]] {
        let world = World::start(DispatchOptions { hosts, ..options() }).await;
        let port = free_port();
        let mut driver = world.udp(port, "::1,::ffff:127.0.0.1").await;
        let device = sender(1, port).await;
        device.send(b"four").await.unwrap();
        let said = driver.expect(Kind::Received).await;
        assert_eq!(said.address, "127.0.0.1");
        driver.say(Kind::Write, "::ffff:127.0.0.1", said.id, b"back").await;
        assert_eq!(datagram(&device).await, b"back");
        let Ok(over_ipv6) = UdpSocket::bind("[::1]:0").await else { return };
        over_ipv6.send_to(b"six", ("::1", port)).await.unwrap();
        let said = driver.expect(Kind::Received).await;
        assert_eq!((said.address.as_str(), &said.payload[..]), ("::1", &b"six"[..]));
        driver.say(Kind::Write, "::1", said.id, b"back").await;
        assert_eq!(datagram(&over_ipv6).await, b"back");
    }
}

#[tokio::test]
async fn an_invalid_message_closes_and_leaves_the_port_intact() {
    let world = World::start(options()).await;
    let port = free_port();
    let mut well = world.udp(port, "127.0.0.1").await;
    for (kind, address, id, code) in [
        (Kind::Write, "example.org", 9, 1007),
        (Kind::Write, "", 9, 1007),
        (Kind::Write, "127.0.0.1", 65_536, 1007),
        (Kind::Close, "127.0.0.1", 9, 1008),
        (Kind::Received, "127.0.0.1", 9, 1008),
    ] {
        let mut driver = world.udp(port, "127.0.0.1").await;
        driver.say(kind, address, id, b"").await;
        let (found, reason) = driver.closed().await;
        assert_eq!(found, code, "{kind:?} {address}: {reason}");
    }
    let device = sender(1, port).await;
    device.send(b"fine").await.unwrap();
    assert_eq!(well.expect(Kind::Received).await.payload, "fine");
}

#[tokio::test]
async fn datagrams_that_cannot_be_sent_stop_nothing() {
    let world = World::start(DispatchOptions { only_to_peers_that_spoke: false, ..options() }).await;
    let port = free_port();
    let mut driver = world.udp(port, "127.0.0.1,255.255.255.255").await;
    let device = sender(1, port).await;
    driver.write(port_of(&device), &[7; MAX_DATAGRAM_BYTES + 1]).await;
    driver.say(Kind::Write, "255.255.255.255", 9, b"everybody").await;
    driver.write(port_of(&device), b"fine").await;
    assert_eq!(datagram(&device).await, b"fine");
    world.until(|stats| stats.total.unsent_messages == 2).await;
}

#[tokio::test]
async fn a_driver_that_does_not_read_loses_the_oldest_datagrams() {
    let mut small = options();
    small.limits.driver_queue_bytes = sortie_dispatch::MIN_QUEUE_BYTES;
    let world = World::start(small).await;
    let port = free_port();
    let mut slow = world.udp(port, "127.0.0.1").await;
    let device = sender(1, port).await;
    let mut last = 0_u32;
    // Until some were dropped, which takes as many as the driver's connection holds.
    while world.dispatch.stats().await.total.dropped_messages < 100 {
        for _ in 0..100 {
            last += 1;
            device.send(&[&last.to_be_bytes()[..], &[0; 1020]].concat()).await.unwrap();
        }
        let stats = world.dispatch.stats().await;
        assert!(
            stats.queued_bytes <= sortie_dispatch::MIN_QUEUE_BYTES + (64 << 10),
            "{}",
            stats.queued_bytes
        );
    }
    // The newest datagrams are there in the end, and nothing comes out of order.
    world.until(|stats| stats.total.received_messages >= u64::from(last)).await;
    let mut heard = 0;
    let mut count = 0;
    while heard < last {
        let said = slow.expect(Kind::Received).await;
        let number = u32::from_be_bytes(said.payload[..4].try_into().unwrap());
        assert!(number > heard, "{number} after {heard}");
        heard = number;
        count += 1;
    }
    assert!(count < last);
    let stats = world.dispatch.stats().await;
    assert_eq!(stats.total.dropped_messages, u64::from(last - count));
}

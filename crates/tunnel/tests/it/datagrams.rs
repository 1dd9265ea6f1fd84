//! UDP through a tunnel.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use sortie_tunnel::Protocol;
use tokio::net::UdpSocket;

use crate::harness::{Dispatcher, Tunnel, options, pattern, socket, soon};

/// Sends a datagram to the port.
async fn say(peer: &UdpSocket, port: u16, datagram: &[u8]) {
    peer.send_to(datagram, (Ipv4Addr::LOCALHOST, port)).await.unwrap();
}

/// The next datagram, and its sender.
async fn hear(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut datagram = vec![0; 65_535];
    let (bytes, from) = soon(socket.recv_from(&mut datagram)).await.unwrap();
    datagram.truncate(bytes);
    (datagram, from)
}

#[tokio::test]
async fn each_peer_has_a_socket_of_its_own() {
    let dispatcher = Dispatcher::start().await;
    let (server, local) = socket().await;
    let options = options(dispatcher.address, Protocol::Udp, local);
    let port = options.port;
    let tunnel = Tunnel::start(options).await;
    let ((one, _), (other, _)) = (socket().await, socket().await);
    let mut seen = Vec::new();
    for (number, bytes) in [0, 1, 64, 1_200, 9_000, 65_507].into_iter().enumerate() {
        for (peer, name) in [(&one, 0), (&other, 1)] {
            let datagram = pattern(number * 2 + name, bytes);
            say(peer, port, &datagram).await;
            let (heard, from) = hear(&server).await;
            assert!(heard == datagram, "{} bytes of {bytes}", heard.len());
            seen.push((name, from));
            let answer = pattern(100 + number, bytes);
            server.send_to(&answer, from).await.unwrap();
            let (heard, from) = hear(peer).await;
            assert!(heard == answer, "{} bytes of {bytes}", heard.len());
            assert_eq!(from.port(), port);
        }
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 2, "{seen:?}");
    tunnel.stop().await;
}

#[tokio::test]
async fn an_idle_socket_is_closed() {
    let dispatcher = Dispatcher::start().await;
    let (server, local) = socket().await;
    let mut options = options(dispatcher.address, Protocol::Udp, local);
    options.limits.peer_idle = Duration::from_millis(50);
    let port = options.port;
    let _tunnel = Tunnel::start(options).await;
    let (peer, _) = socket().await;
    say(&peer, port, b"hello").await;
    let (_, from) = hear(&server).await;
    // Nobody listens there any more, as soon as another socket can have the port.
    soon(async {
        while UdpSocket::bind((Ipv4Addr::UNSPECIFIED, from.port())).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    say(&peer, port, b"again").await;
    assert_eq!(hear(&server).await.0, b"again");
}

#[tokio::test]
async fn beyond_the_limit_a_silent_peer_makes_room_and_a_busy_one_does_not() {
    let dispatcher = Dispatcher::start().await;
    let (server, local) = socket().await;
    for (rest, is_let_in) in [(Duration::ZERO, true), (Duration::from_secs(600), false)] {
        let mut options = options(dispatcher.address, Protocol::Udp, local);
        (options.limits.peers, options.limits.peer_rest) = (1, rest);
        let port = options.port;
        let tunnel = Tunnel::start(options).await;
        let ((one, _), (other, _)) = (socket().await, socket().await);
        say(&one, port, b"one").await;
        assert_eq!(hear(&server).await.0, b"one");
        say(&other, port, b"other").await;
        if is_let_in {
            assert_eq!(hear(&server).await.0, b"other");
        }
        // Every accepted datagram came before this one.
        say(&one, port, b"last").await;
        assert_eq!(hear(&server).await.0, b"last");
        tunnel.stop().await;
    }
}

#[tokio::test]
async fn a_late_local_server_gets_later_datagrams() {
    let dispatcher = Dispatcher::start().await;
    let (server, local) = socket().await;
    drop(server);
    let options = options(dispatcher.address, Protocol::Udp, local);
    let port = options.port;
    let _tunnel = Tunnel::start(options).await;
    let (peer, _) = socket().await;
    for _ in 0..3 {
        say(&peer, port, b"is anybody there?").await;
    }
    dispatcher.until(|stats| stats.total.received_messages == 3 && stats.queued_bytes == 0).await;
    let server = UdpSocket::bind(local).await.unwrap();
    // The last earlier datagrams may still be in flight.
    say(&peer, port, b"now?").await;
    while hear(&server).await.0 != b"now?" {}
}

#[tokio::test]
async fn the_local_server_sees_the_same_peer_after_the_dispatcher_was_restarted() {
    let dispatcher = Dispatcher::start().await;
    let (server, local) = socket().await;
    let options = options(dispatcher.address, Protocol::Udp, local);
    let port = options.port;
    let tunnel = Tunnel::start(options).await;
    let (peer, _) = socket().await;
    say(&peer, port, b"before").await;
    let (_, first) = hear(&server).await;
    let address = dispatcher.stop().await;
    server.send_to(b"nobody hears this", first).await.unwrap();
    let dispatcher = Dispatcher::at(address, None).await;
    dispatcher.until(|stats| stats.drivers == 1).await;
    say(&peer, port, b"after").await;
    assert_eq!(hear(&server).await, (b"after".to_vec(), first));
    server.send_to(b"answer", first).await.unwrap();
    assert_eq!(hear(&peer).await.0, b"answer");
    tunnel.stop().await;
}

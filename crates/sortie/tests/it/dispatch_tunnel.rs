//! `sortie dispatch tunnel`: a server that only its own machine can reach, reached through a dispatcher.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::dispatcher::{Dispatcher, SECRET, SECRET_VARIABLE, device, free_port, pattern, rest};
use crate::site::{Site, finish, fixed_address, ports, soon};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A local server for both protocols at one port, which sends back what comes.
struct Echo {
    listener: TcpListener,
    socket: UdpSocket,
}

impl Echo {
    async fn bind(port: u16) -> Self {
        Self {
            listener: TcpListener::bind((HERE, port)).await.unwrap(),
            socket: UdpSocket::bind((HERE, port)).await.unwrap(),
        }
    }

    /// At any port.
    async fn start() -> u16 {
        let port = free_port();
        tokio::spawn(Self::bind(port).await.run());
        port
    }

    async fn run(self) {
        let mut datagram = vec![0; 65_535];
        loop {
            tokio::select! {
                accepted = self.listener.accept() => {
                    let (mut stream, _) = accepted.unwrap();
                    tokio::spawn(async move {
                        let (mut reading, mut writing) = stream.split();
                        let _reset = tokio::io::copy(&mut reading, &mut writing).await;
                    });
                }
                received = self.socket.recv_from(&mut datagram) => {
                    // An error is of a peer that has gone.
                    if let Ok((bytes, from)) = received {
                        self.socket.send_to(&datagram[..bytes], from).await.unwrap();
                    }
                }
            }
        }
    }
}

/// Sends so many bytes and reads as many back.
async fn exchange(stream: &mut TcpStream, whose: usize, bytes: usize) {
    let sent = pattern(whose, bytes);
    let (mut reading, mut writing) = stream.split();
    let mut heard = vec![0; bytes];
    let both = async { tokio::try_join!(writing.write_all(&sent), reading.read_exact(&mut heard)) };
    soon("an echo", both).await.unwrap();
    assert!(heard == sent, "bytes of {whose}");
}

/// Sends a datagram until it comes back: one may get lost while something restarts, and others may come late.
async fn exchange_datagram(peer: &UdpSocket, port: u16, bytes: usize) {
    let sent = pattern(port.into(), bytes);
    let mut heard = vec![0; 65_535];
    let echo = async {
        loop {
            peer.send_to(&sent, (HERE, port)).await.unwrap();
            let answer = tokio::time::timeout(Duration::from_secs(1), peer.recv(&mut heard)).await;
            if answer.is_ok_and(|received| heard[..received.unwrap()] == sent) {
                return;
            }
        }
    };
    soon("an echo", echo).await;
}

#[tokio::test]
async fn the_arena_is_played_through_it() {
    let (dispatched, (local, _)) = (free_port(), ports(1));
    let public = format!("127.0.0.1:{dispatched}");
    let process = json!({
        "path": Path::new(env!("CARGO_BIN_EXE_sortie")),
        "arguments": ["arena", "serve", "--public-address", public],
        "ports": format!("{local}-{local}"),
    });
    let fleet = json!({"max": 1, "game": "arena", "version": "1", "capacity": 4, "local_process": process});
    let (site, away) = (Site::with_config(&json!({"dev": true, "fleets": {"behind": fleet}})), Site::new());
    let dispatcher = Dispatcher::start(&away).await;
    let tunnel = dispatcher.tunnel(&away, dispatched, &format!("127.0.0.1:{local}"), &["--udp"]).await;
    assert_eq!(tunnel.said, [format!("udp on {public}")]);
    let control_plane = site.up(&[]).await;
    let play =
        ["arena", "play", "--players", "3", "--for", "2s", "--game", "arena", "--version", "1", "--json"];
    let played = control_plane.run_ok(&site, &play).await.json();
    assert_eq!((&played["players_joined"], &played["players_left"]), (&json!(3), &json!(3)), "{played}");
    assert_eq!(played["failures"], json!({}));
    assert!(played["updates"].as_u64() > Some(0), "{played}");
    // The match was played where the dispatcher is, and ended when everybody had left.
    let ready = control_plane.event("sortie.match.ready", None).await;
    assert_eq!(ready["data"]["connection"]["details"], json!(public));
    control_plane.event("sortie.match.ended", Some(ready["subject"].as_str().unwrap())).await;
    let mut events = control_plane.events().await;
    for _ in 0..3 {
        let closed = events.find("sortie.seat.closed", None).await;
        assert_eq!(closed["data"]["end"], "released", "{closed}");
    }
    let total = dispatcher.stats().await["total"].clone();
    for way in ["received_messages", "written_messages"] {
        assert!(total[way].as_u64() > Some(100), "{way}: {total}");
    }
    control_plane.stop().await;
    tunnel.stop().await;
    dispatcher.process.stop().await;
}

#[tokio::test]
async fn both_protocols_go_through_it_whatever_is_restarted() {
    let site = Site::new();
    let (local, dispatched, address) = (Echo::start().await, free_port(), fixed_address());
    let to = format!("127.0.0.1:{local}");
    let dispatcher = Dispatcher::at(&site, &address).await;
    let tunnel = dispatcher.tunnel(&site, dispatched, &to, &[]).await;
    assert_eq!(
        tunnel.said,
        [format!("tcp on 127.0.0.1:{dispatched}"), format!("udp on 127.0.0.1:{dispatched}")]
    );
    let (peer, mut first, mut second) =
        (UdpSocket::bind((HERE, 0)).await.unwrap(), device(dispatched).await, device(dispatched).await);
    for bytes in [1, 1_000, 700_000] {
        exchange(&mut first, 1, bytes).await;
        exchange(&mut second, 2, bytes).await;
    }
    for bytes in [0, 1, 1_200, 65_507] {
        exchange_datagram(&peer, dispatched, bytes).await;
    }
    // The tunnel is killed: nothing is left of it at the dispatcher, and its devices have an end.
    tunnel.kill().await;
    assert_eq!((rest(&mut first).await, rest(&mut second).await), (vec![], vec![]));
    dispatcher
        .until("the end of its ports", |stats| stats["drivers"] == 0 && stats["ports"] == json!([]))
        .await;
    let tunnel = dispatcher.tunnel(&site, dispatched, &to, &[]).await;
    exchange(&mut device(dispatched).await, 3, 100_000).await;
    exchange_datagram(&peer, dispatched, 1_200).await;
    // The dispatcher is killed: the tunnel comes back to the next one by itself.
    let mut cut = device(dispatched).await;
    exchange(&mut cut, 4, 1_000).await;
    dispatcher.process.kill().await;
    assert_eq!(rest(&mut cut).await, b"");
    let dispatcher = Dispatcher::at(&site, &address).await;
    dispatcher.until("both websockets", |stats| stats["drivers"] == 2).await;
    exchange(&mut device(dispatched).await, 5, 100_000).await;
    exchange_datagram(&peer, dispatched, 1_200).await;
    tunnel.stop().await;
    assert_eq!(dispatcher.stats().await["drivers"], 0);
    dispatcher.process.stop().await;
}

#[tokio::test]
async fn a_local_server_may_come_late_and_go() {
    let site = Site::new();
    let (local, dispatched) = (free_port(), free_port());
    let dispatcher = Dispatcher::start(&site).await;
    let tunnel = dispatcher.tunnel(&site, dispatched, &format!("localhost:{local}"), &[]).await;
    assert_eq!(rest(&mut device(dispatched).await).await, b"");
    let peer = UdpSocket::bind((HERE, 0)).await.unwrap();
    peer.send_to(b"lost", (HERE, dispatched)).await.unwrap();
    for round in 0..2 {
        let echo = tokio::spawn(Echo::bind(local).await.run());
        let mut stream = device(dispatched).await;
        exchange(&mut stream, round, 10_000).await;
        exchange_datagram(&peer, dispatched, 100).await;
        drop(stream);
        echo.abort();
        assert!(echo.await.unwrap_err().is_cancelled());
        assert_eq!(rest(&mut device(dispatched).await).await, b"");
    }
    let log = tunnel.log();
    assert!(log.contains("the local server accepts no connections") && log.contains("is back"), "{log}");
    assert!(!log.contains(SECRET), "{log}");
    tunnel.stop().await;
}

#[tokio::test]
async fn only_whom_the_dispatcher_knows_gets_a_port() {
    let site = Site::new();
    let (local, dispatched) = (Echo::start().await, free_port());
    let dispatcher = Dispatcher::start(&site).await;
    let (url, to) = (format!("ws://{}", dispatcher.address), format!("127.0.0.1:{local}"));
    let port = dispatched.to_string();
    let arguments = ["dispatch", "tunnel", "--url", &url, "--to", &to, "--port", &port];
    for (secret, said) in
        [("wrong", "the dispatcher refused with 401"), ("", "the dispatcher refused with 401")]
    {
        let mut command = site.sortie(&arguments);
        command.env(SECRET_VARIABLE, secret);
        let refused = finish(command).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{}", refused.stderr);
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    let with_secret = format!("{url}?bearer_token={SECRET}");
    let refused =
        site.run(&["dispatch", "tunnel", "--url", &with_secret, "--to", &to, "--port", &port]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("--url") && !refused.stderr.contains(SECRET), "{}", refused.stderr);

    // A token for this port and for nobody but this machine.
    let http = sortie_tls::http_client(&url, None).unwrap().build().unwrap();
    let wish = json!({"ports": [dispatched], "accept": ["127.0.0.0/8"], "protocol": "tcp"}).to_string();
    let tokens = format!("http://{}/v1/dispatch/tokens", dispatcher.address);
    let issued = soon("a token", http.post(tokens).bearer_auth(SECRET).body(wish).send()).await.unwrap();
    assert_eq!(issued.status(), 201);
    let issued: serde_json::Value = issued.json().await.unwrap();
    std::fs::write(site.path("token"), format!("{}\n", issued["token"].as_str().unwrap())).unwrap();
    let flags = ["--tcp", "--accept", "127.0.0.1", "--token-file", "token"];
    let tunnel = dispatcher.tunnel(&site, dispatched, &to, &flags).await;
    assert_eq!(tunnel.said, [format!("tcp on 127.0.0.1:{dispatched}")]);
    exchange(&mut device(dispatched).await, 1, 10_000).await;
    let listed = dispatcher.stats().await;
    assert_eq!(listed["ports"][0]["drivers"][0]["accept"], json!(["127.0.0.1"]));
    let refused = site.run(&[&arguments[..], &flags[1..2], &["0.0.0.0/0"], &flags[3..]].concat()).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("the dispatcher refused with 403"), "{}", refused.stderr);
    tunnel.stop().await;
}

//! TCP through a tunnel.

use std::time::Duration;

use sortie_tunnel::{Limits, Protocol};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::harness::{
    Dispatcher, Tunnel, device, echo, exactly, exchange, listener, options, pattern, rest, soon,
};

#[tokio::test]
async fn many_devices_have_connections_of_their_own() {
    const DEVICES: usize = 20;
    const BYTES: usize = 300_000;
    let dispatcher = Dispatcher::start().await;
    let (listener, local) = listener().await;
    tokio::spawn(echo(listener));
    let options = options(dispatcher.address, Protocol::Tcp, local);
    let port = options.port;
    let tunnel = Tunnel::start(options).await;
    let mut devices = JoinSet::new();
    for number in 0..DEVICES {
        devices.spawn(async move {
            let mut device = device(port).await;
            let (mut reading, mut writing) = device.split();
            let (sent, mut received) = (pattern(number, BYTES), Vec::new());
            let write = async {
                writing.write_all(&sent).await.unwrap();
                // The echo of the last bytes is read after this.
                writing.shutdown().await.unwrap();
            };
            let read = async { reading.read_to_end(&mut received).await.unwrap() };
            soon(async { tokio::join!(write, read) }).await;
            assert!(received == sent, "device {number} got {} bytes that are not its own", received.len());
        });
    }
    while let Some(ended) = devices.join_next().await {
        ended.unwrap();
    }
    dispatcher.until(|stats| stats.devices == 0).await;
    tunnel.stop().await;
}

#[tokio::test]
async fn a_device_that_sends_nothing_more_is_still_answered() {
    let dispatcher = Dispatcher::start().await;
    let (listener, local) = listener().await;
    let options = options(dispatcher.address, Protocol::Tcp, local);
    let port = options.port;
    let _tunnel = Tunnel::start(options).await;
    let mut device = device(port).await;
    device.write_all(b"what is it?").await.unwrap();
    device.shutdown().await.unwrap();
    let (mut server, _) = soon(listener.accept()).await.unwrap();
    assert_eq!(rest(&mut server).await.unwrap(), b"what is it?");
    let answer = pattern(1, 500_000);
    let (answered, got) = tokio::join!(
        async {
            server.write_all(&answer).await.unwrap();
            drop(server);
        },
        rest(&mut device)
    );
    assert_eq!(((), got.unwrap() == answer), (answered, true));
}

#[tokio::test]
async fn a_local_server_that_closes_disconnects_its_device_after_its_last_bytes() {
    let dispatcher = Dispatcher::start().await;
    let (listener, local) = listener().await;
    let options = options(dispatcher.address, Protocol::Tcp, local);
    let port = options.port;
    let _tunnel = Tunnel::start(options).await;
    let mut device = device(port).await;
    let (mut server, _) = soon(listener.accept()).await.unwrap();
    let last = pattern(2, 500_000);
    let write = async {
        server.write_all(&last).await.unwrap();
        drop(server);
    };
    let ((), got) = tokio::join!(write, rest(&mut device));
    assert!(got.unwrap() == last);
    dispatcher.until(|stats| stats.devices == 0).await;
}

#[tokio::test]
async fn while_the_local_server_is_away_devices_are_disconnected() {
    let dispatcher = Dispatcher::start().await;
    let (listener, local) = listener().await;
    drop(listener);
    let options = options(dispatcher.address, Protocol::Tcp, local);
    let port = options.port;
    let _tunnel = Tunnel::start(options).await;
    assert_eq!(rest(&mut device(port).await).await.unwrap(), b"");
    tokio::spawn(echo(TcpListener::bind(local).await.unwrap()));
    assert_eq!(exchange(&mut device(port).await, b"hello").await, b"hello");
}

#[tokio::test]
async fn devices_beyond_the_limit_are_disconnected() {
    let dispatcher = Dispatcher::start().await;
    let (listener, local) = listener().await;
    tokio::spawn(echo(listener));
    let mut options = options(dispatcher.address, Protocol::Tcp, local);
    options.limits.connections = 1;
    let port = options.port;
    let _tunnel = Tunnel::start(options).await;
    let mut first = device(port).await;
    assert_eq!(exchange(&mut first, b"first").await, b"first");
    assert_eq!(rest(&mut device(port).await).await.unwrap(), b"");
    assert_eq!(exchange(&mut first, b"still").await, b"still");
}

#[tokio::test]
async fn a_local_connection_that_takes_nothing_loses_its_device_and_no_other() {
    let dispatcher = Dispatcher::start().await;
    let (listener, local) = listener().await;
    let mut options = options(dispatcher.address, Protocol::Tcp, local);
    let patience = Duration::from_millis(200);
    options.limits = Limits { connection_bytes: 256 << 10, patience, ..Limits::default() };
    let port = options.port;
    let _tunnel = Tunnel::start(options).await;
    let mut good = device(port).await;
    let (good_server, _) = soon(listener.accept()).await.unwrap();
    let mut bad = device(port).await;
    let (_bad_server, _) = soon(listener.accept()).await.unwrap();
    let echo = tokio::spawn(async move {
        let mut stream = good_server;
        let (mut reading, mut writing) = stream.split();
        tokio::io::copy(&mut reading, &mut writing).await.unwrap();
    });
    // The device is disconnected when too much waits for it; until then nobody reads what it sends.
    let flood = async {
        let bytes = pattern(3, 64 << 10);
        while bad.write_all(&bytes).await.is_ok() {}
    };
    soon(flood).await;
    for round in 0..10 {
        let bytes = pattern(round, 50_000);
        assert!(exchange(&mut good, &bytes).await == bytes);
    }
    drop(good);
    soon(echo).await.unwrap();
}

#[tokio::test]
async fn a_device_alone_sends_no_faster_than_the_local_server_reads() {
    const BYTES: usize = 32 << 20;
    let dispatcher = Dispatcher::start().await;
    let (listener, local) = listener().await;
    let mut options = options(dispatcher.address, Protocol::Tcp, local);
    options.limits.lone_patience = Duration::from_secs(60);
    let port = options.port;
    let _tunnel = Tunnel::start(options).await;
    let device = device(port).await;
    let (mut server, _) = soon(listener.accept()).await.unwrap();
    let sent = pattern(4, BYTES);
    let expected = sent.clone();
    let sending = tokio::spawn(async move {
        let mut device = device;
        device.write_all(&sent).await.unwrap();
        device.shutdown().await.unwrap();
        device
    });
    // The backpressure reaches the dispatcher: bytes that the tunnel does not read wait there.
    dispatcher.until(|stats| stats.queued_bytes > 500_000).await;
    assert!(!sending.is_finished());
    assert!(rest(&mut server).await.unwrap() == expected);
    let _device = soon(sending).await.unwrap();
}

#[tokio::test]
async fn a_device_that_reads_nothing_holds_up_only_its_own_server() {
    let dispatcher = Dispatcher::start().await;
    let (listener, local) = listener().await;
    let mut options = options(dispatcher.address, Protocol::Tcp, local);
    options.limits.half_close_limit = Duration::from_millis(200);
    let port = options.port;
    let _tunnel = Tunnel::start(options).await;
    let mut good = device(port).await;
    let (mut to_good, _) = soon(listener.accept()).await.unwrap();
    let _mute = device(port).await;
    let (mut to_mute, _) = soon(listener.accept()).await.unwrap();
    tokio::spawn(async move {
        let (mut reading, mut writing) = to_good.split();
        tokio::io::copy(&mut reading, &mut writing).await
    });
    let flood = tokio::spawn(async move {
        let bytes = pattern(5, 64 << 10);
        while to_mute.write_all(&bytes).await.is_ok() {}
    });
    dispatcher.until(|stats| stats.backlog_bytes > 0).await;
    for round in 0..10 {
        let bytes = pattern(round, 50_000);
        assert!(exchange(&mut good, &bytes).await == bytes);
    }
    // The dispatcher disconnects the device, and so its server's connection ends too, whatever it still sends.
    soon(flood).await.unwrap();
}

#[tokio::test]
async fn the_shutdown_delivers_data_in_flight() {
    let dispatcher = Dispatcher::start().await;
    let (listener, local) = listener().await;
    let options = options(dispatcher.address, Protocol::Tcp, local);
    let port = options.port;
    let tunnel = Tunnel::start(options).await;
    let mut device = device(port).await;
    let (mut server, _) = soon(listener.accept()).await.unwrap();
    device.write_all(b"up").await.unwrap();
    assert_eq!(exactly(&mut server, 2).await, b"up");
    server.write_all(b"down").await.unwrap();
    assert_eq!(exactly(&mut device, 4).await, b"down");
    tunnel.stop().await;
    assert_eq!(rest(&mut device).await.unwrap(), b"");
    assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
    dispatcher.until(|stats| stats.drivers == 0).await;
}

//! `sortie dispatch` as a process, tunnels to it, and devices.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::ready::Ready;
use crate::site::{Site, ports, soon};

/// What drivers of these tests show.
pub(crate) const SECRET: &str = "a secret of the tests";

/// Where the secret is, for `sortie` and whatever else reads it.
pub(crate) const SECRET_VARIABLE: &str = "PLACE_SERVER_SECRET";

/// `sortie dispatch`; killed when dropped.
pub(crate) struct Dispatcher {
    pub(crate) process: Ready,
    /// `127.0.0.1:port`, where drivers come to.
    pub(crate) address: String,
}

impl Dispatcher {
    pub(crate) async fn start(site: &Site) -> Self {
        Self::at(site, "127.0.0.1:0").await
    }

    pub(crate) async fn at(site: &Site, address: &str) -> Self {
        let mut command = site.sortie(&["dispatch", "--listen", address]);
        command.env(SECRET_VARIABLE, SECRET).env("SG_ENV", "production");
        let process = Ready::start(site, "dispatch", command).await;
        let address = process.said.iter().find_map(|line| line.strip_prefix("listening on http://"));
        let address = address.unwrap_or_else(|| panic!("{:?}", process.said)).to_owned();
        Self { process, address }
    }

    /// Status and document of a GET by somebody with the secret.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let url = format!("http://{}{path}", self.address);
        let http = sortie_tls::http_client(&url, None).unwrap().build().unwrap();
        let answer = soon(path, http.get(&url).bearer_auth(SECRET).send()).await.unwrap();
        (answer.status().as_u16(), soon(path, answer.json()).await.unwrap())
    }

    pub(crate) async fn stats(&self) -> Value {
        let (status, stats) = self.get("/v1/dispatch/stats").await;
        assert_eq!(status, 200, "{stats}");
        stats
    }

    /// Waits until statistics are as asked for.
    pub(crate) async fn until(&self, what: &str, mut wanted: impl FnMut(&Value) -> bool) {
        soon(what, async {
            while !wanted(&self.stats().await) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// `sortie dispatch tunnel` from this port to a local one, with these flags, once it is ready.
    pub(crate) async fn tunnel(&self, site: &Site, port: u16, to: &str, flags: &[&str]) -> Ready {
        let (url, port) = (format!("ws://{}", self.address), port.to_string());
        let mut command = site.sortie(&["dispatch", "tunnel", "--url", &url, "--port", &port, "--to", to]);
        command.args(flags).env(SECRET_VARIABLE, SECRET);
        Ready::start(site, "tunnel", command).await
    }
}

/// A port that is free for both protocols, and that the system gives to no connection meanwhile.
pub(crate) fn free_port() -> u16 {
    let is_free = |port: &u16| {
        let address = (Ipv4Addr::UNSPECIFIED, *port);
        TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
    };
    (0..10).map(|_| ports(1).0).find(is_free).expect("a free port")
}

pub(crate) async fn device(port: u16) -> TcpStream {
    soon("a connection", TcpStream::connect((Ipv4Addr::LOCALHOST, port))).await.unwrap()
}

/// Bytes until the other side ends, in order or not.
pub(crate) async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _reset = soon("the end of a connection", stream.read_to_end(&mut all)).await;
    all
}

/// Bytes that show where they belong: to `whose`, and in order.
pub(crate) fn pattern(whose: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|place| (place.wrapping_mul(31) ^ (place >> 8) ^ whose.wrapping_mul(97)) as u8).collect()
}

//! The UDP socket and the netcode protocol on it: connected clients, and bytes to and from them.
//!
//! Nothing here waits: a datagram that cannot be sent now is dropped, as the network might have done. The protocol
//! resends what matters to it, and so does the game.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use renetcode::{NETCODE_USER_DATA_BYTES, NetcodeServer, ServerAuthentication, ServerConfig, ServerResult};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::packet_guard;
use crate::protocol::{Farewell, ServerMessage};
use crate::server::ServeError;
use crate::server::options::ServeOptions;
use crate::world::MAX_PLAYERS;

/// Datagrams received before anything else gets its turn.
const MAX_DATAGRAMS_PER_TURN: usize = 256;
/// Maximum size of a datagram, in bytes.
const DATAGRAM_BYTES: usize = 65_536;
/// Connections beyond the maximum number of players, for players who are leaving or not yet admitted.
const SPARE_CONNECTIONS: usize = 32;
/// Number of times that a farewell is sent, because it is not acknowledged.
const FAREWELL_COPIES: usize = 3;
/// Maximum length of a seat id, in bytes.
const MAX_SEAT_ID_BYTES: usize = 128;

/// Something that came over the network.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// A client with a valid token; `seat_id` is the one that the token names, if any.
    Connected { client_id: u64, seat_id: Option<String> },
    /// A message of a connected client.
    Message { client_id: u64, bytes: Vec<u8> },
    /// A client has left or timed out.
    Gone { client_id: u64 },
}

pub(crate) struct Door {
    socket: UdpSocket,
    netcode: NetcodeServer,
    updated: Instant,
    /// The address that players connect to.
    address: String,
    buffer: Vec<u8>,
}

impl Door {
    /// Opens the socket and determines the addresses that tokens may name.
    pub(crate) async fn open(options: &ServeOptions) -> Result<Self, ServeError> {
        let bind = options.bind;
        let socket =
            UdpSocket::bind(bind).await.map_err(|source| ServeError::Bind { address: bind, source })?;
        let bound = socket.local_addr().map_err(|source| ServeError::Bind { address: bind, source })?;
        let local = reachable(bound);
        let mut addresses = BTreeSet::from([local]);
        if let Some(public) = &options.public_address {
            addresses.extend(resolve(public).await?);
        }
        let netcode = NetcodeServer::new(ServerConfig {
            current_time: unix_time(),
            max_clients: options.max_matches * MAX_PLAYERS + SPARE_CONNECTIONS,
            protocol_id: options.protocol_id,
            public_addresses: addresses.into_iter().collect(),
            authentication: ServerAuthentication::Secure { private_key: options.netcode_key.bytes() },
        });
        let address = options.public_address.clone().unwrap_or_else(|| local.to_string());
        tracing::info!(%bound, %address, "listening for players");
        Ok(Self { socket, netcode, updated: Instant::now(), address, buffer: vec![0; DATAGRAM_BYTES] })
    }

    /// `host:port` for players.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether anybody is connected.
    pub(crate) fn is_empty(&self) -> bool {
        self.netcode.connected_clients() == 0
    }

    /// Waits for datagrams.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Receives the datagrams that are there.
    pub(crate) fn receive(&mut self) -> Vec<Arrival> {
        self.pass_time();
        let mut arrivals = Vec::new();
        for _ in 0..MAX_DATAGRAMS_PER_TURN {
            match self.socket.try_recv_from(&mut self.buffer) {
                Ok((length, from)) => arrivals.extend(self.take_in(length, from)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Some systems report here that an earlier datagram was undeliverable; the socket still works.
                Err(error) => tracing::debug!(%error, "receiving a datagram"),
            }
        }
        arrivals
    }

    fn take_in(&mut self, length: usize, from: SocketAddr) -> Option<Arrival> {
        let datagram = self.buffer.get_mut(..length)?;
        if !packet_guard::is_safe(datagram) {
            return None;
        }
        match self.netcode.process_packet(from, datagram) {
            ServerResult::None => None,
            ServerResult::PacketToSend { addr, payload } => {
                send(&self.socket, addr, payload);
                None
            }
            ServerResult::Payload { client_id, payload } => {
                Some(Arrival::Message { client_id, bytes: payload.to_vec() })
            }
            ServerResult::ClientConnected { client_id, addr, user_data, payload } => {
                send(&self.socket, addr, payload);
                Some(Arrival::Connected { client_id, seat_id: seat_id(&user_data) })
            }
            ServerResult::ClientDisconnected { client_id, .. } => Some(Arrival::Gone { client_id }),
        }
    }

    /// Keeps connections alive, and drops those that have timed out.
    pub(crate) fn tick(&mut self) -> Vec<Arrival> {
        self.pass_time();
        let mut gone = Vec::new();
        for client_id in self.netcode.clients_id() {
            match self.netcode.update_client(client_id) {
                ServerResult::PacketToSend { addr, payload } => send(&self.socket, addr, payload),
                ServerResult::ClientDisconnected { addr, payload, .. } => {
                    if let Some(payload) = payload {
                        send(&self.socket, addr, payload);
                    }
                    gone.push(Arrival::Gone { client_id });
                }
                _ => {}
            }
        }
        gone
    }

    /// Sends a message, once.
    pub(crate) fn send(&mut self, client_id: u64, message: &ServerMessage) {
        match self.netcode.generate_payload_packet(client_id, &message.encode()) {
            Ok((address, packet)) => send(&self.socket, address, packet),
            Err(error) => tracing::debug!(%error, "a message was not sent"),
        }
    }

    /// Sends a client the reason for its dismissal, and disconnects it.
    pub(crate) fn dismiss(&mut self, client_id: u64, reason: Farewell) {
        if !self.netcode.is_client_connected(client_id) {
            return;
        }
        for _ in 0..FAREWELL_COPIES {
            self.send(client_id, &ServerMessage::Farewell(reason));
        }
        if let ServerResult::ClientDisconnected { addr, payload: Some(packet), .. } =
            self.netcode.disconnect(client_id)
        {
            for _ in 0..FAREWELL_COPIES {
                send(&self.socket, addr, packet);
            }
        }
    }

    /// Dismisses everybody.
    pub(crate) fn close(&mut self, reason: Farewell) {
        for client_id in self.netcode.clients_id() {
            self.dismiss(client_id, reason);
        }
    }

    fn pass_time(&mut self) {
        let now = Instant::now();
        self.netcode.update(now - self.updated);
        self.updated = now;
    }
}

fn send(socket: &UdpSocket, to: SocketAddr, packet: &[u8]) {
    if let Err(error) = socket.try_send_to(packet, to) {
        tracing::debug!(%error, "a datagram was not sent");
    }
}

/// Time since the Unix epoch, used for the expiry of tokens.
fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The address of a socket for clients on the same machine.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

async fn resolve(address: &str) -> Result<Vec<SocketAddr>, ServeError> {
    let unusable = |reason: String| ServeError::PublicAddress { address: address.to_owned(), reason };
    let found: Vec<_> =
        tokio::net::lookup_host(address).await.map_err(|error| unusable(error.to_string()))?.collect();
    if found.is_empty() {
        return Err(unusable("the name has no address".to_owned()));
    }
    Ok(found)
}

/// The seat id at the start of a token's user data, padded with zeros; `None` if there is none.
fn seat_id(user_data: &[u8; NETCODE_USER_DATA_BYTES]) -> Option<String> {
    let length = user_data.iter().position(|byte| *byte == 0).unwrap_or(user_data.len());
    let id = &user_data[..length];
    let is_id = (1..=MAX_SEAT_ID_BYTES).contains(&length) && id.iter().all(u8::is_ascii_graphic);
    if is_id { String::from_utf8(id.to_vec()).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_data(start: &[u8]) -> [u8; NETCODE_USER_DATA_BYTES] {
        let mut data = [0; NETCODE_USER_DATA_BYTES];
        data[..start.len()].copy_from_slice(start);
        data
    }

    #[test]
    fn a_seat_id_is_printable_and_padded_with_zeros() {
        assert_eq!(seat_id(&user_data(b"seat-1")).as_deref(), Some("seat-1"));
        assert_eq!(seat_id(&user_data(b"seat-1\0rest")).as_deref(), Some("seat-1"));
        assert_eq!(seat_id(&user_data(b"")), None);
        assert_eq!(seat_id(&user_data(b"seat\n1")), None);
        assert_eq!(seat_id(&user_data(&[0xff; 8])), None);
        assert_eq!(seat_id(&[b'x'; NETCODE_USER_DATA_BYTES]), None);
    }

    #[test]
    fn a_socket_on_all_interfaces_is_reached_by_loopback() {
        assert_eq!(reachable("0.0.0.0:7".parse().unwrap()), "127.0.0.1:7".parse().unwrap());
        assert_eq!(reachable("[::]:7".parse().unwrap()), "[::1]:7".parse().unwrap());
        assert_eq!(reachable("10.0.0.1:7".parse().unwrap()), "10.0.0.1:7".parse().unwrap());
    }
}

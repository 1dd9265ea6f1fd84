//! One bot's UDP socket and the netcode protocol on it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use renetcode::{ClientAuthentication, ConnectToken, DisconnectReason, NetcodeClient};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::packet_guard;
use crate::protocol::{DecodeError, Inputs, ServerMessage};

/// Maximum size of a server's datagram, in bytes; a larger one is not a packet of the protocol.
const DATAGRAM_BYTES: usize = 2048;
/// Number of times that a disconnect is sent, because it is not acknowledged.
const DISCONNECT_COPIES: usize = 3;

pub(crate) struct Link {
    socket: UdpSocket,
    netcode: NetcodeClient,
    updated: Instant,
}

impl Link {
    /// Opens a socket to the token's server and begins to connect.
    pub(crate) async fn open(token: ConnectToken) -> io::Result<Self> {
        let connect_token = ClientAuthentication::Secure { connect_token: token };
        let netcode = NetcodeClient::new(Duration::ZERO, connect_token).map_err(io::Error::other)?;
        let local: SocketAddr = match netcode.server_addr() {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let mut link = Self { socket: UdpSocket::bind(local).await?, netcode, updated: Instant::now() };
        link.keep_up();
        Ok(link)
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.netcode.is_connected()
    }

    /// Why the connection ended; `None` while there is one or it is being made.
    pub(crate) fn disconnected(&self) -> Option<DisconnectReason> {
        self.netcode.disconnect_reason()
    }

    /// The server's next message; `None` for a packet that carries none.
    pub(crate) async fn receive(&mut self) -> io::Result<Option<Result<ServerMessage, DecodeError>>> {
        let mut buffer = [0; DATAGRAM_BYTES];
        let (length, from) = self.socket.recv_from(&mut buffer).await?;
        let datagram = &mut buffer[..length];
        if from != self.netcode.server_addr() || !packet_guard::is_safe(datagram) {
            return Ok(None);
        }
        let message = self.netcode.process_packet(datagram).map(ServerMessage::decode);
        // An answer to a challenge is sent at once, not with the next tick.
        self.keep_up();
        Ok(message)
    }

    /// Lets the protocol send what is due and detect timeouts.
    pub(crate) fn keep_up(&mut self) {
        let now = Instant::now();
        let passed = now - self.updated;
        self.updated = now;
        if let Some((packet, to)) = self.netcode.update(passed) {
            send(&self.socket, to, packet);
        }
    }

    /// Sends inputs, once.
    pub(crate) fn send(&mut self, inputs: &Inputs) {
        match self.netcode.generate_payload_packet(&inputs.encode()) {
            Ok((to, packet)) => send(&self.socket, to, packet),
            Err(error) => tracing::debug!(%error, "inputs were not sent"),
        }
    }

    /// Disconnects, so that the server need not wait for a timeout.
    pub(crate) fn leave(&mut self) {
        if !self.netcode.is_connected() {
            return;
        }
        if let Ok((to, packet)) = self.netcode.disconnect() {
            for _ in 0..DISCONNECT_COPIES {
                send(&self.socket, to, packet);
            }
        }
    }
}

fn send(socket: &UdpSocket, to: SocketAddr, packet: &[u8]) {
    if let Err(error) = socket.try_send_to(packet, to) {
        tracing::debug!(%error, "a datagram was not sent");
    }
}

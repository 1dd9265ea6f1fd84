//! Protects renetcode from datagrams that would make it panic.
//!
//! `renetcode` 2.0 trusts the length of the sequence number in a packet's first byte: it indexes eight bytes with up to
//! fifteen, cuts a sixteen-byte tag off data that may be shorter, and increments a sequence number that may be the
//! maximum. All of this happens before the packet's tag is verified, so anybody who can forge the address of a
//! connected peer could crash the process with one datagram.

/// Length of the tag at the end of every encrypted packet, in bytes.
const TAG_BYTES: usize = 16;
/// Maximum length of a sequence number that is accepted, in bytes: 2^56 packets are more than any connection sends.
const MAX_SEQUENCE_BYTES: usize = 7;
/// Kind of the only packet that is not encrypted as a whole.
const KIND_CONNECTION_REQUEST: u8 = 0;

/// Whether a datagram is safe for renetcode.
pub(crate) fn is_safe(datagram: &[u8]) -> bool {
    let Some(first) = datagram.first() else { return false };
    let (kind, sequence_bytes) = (first & 0xf, usize::from(first >> 4));
    kind == KIND_CONNECTION_REQUEST
        || (sequence_bytes <= MAX_SEQUENCE_BYTES && datagram.len() > sequence_bytes + TAG_BYTES)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use renetcode::{
        ClientAuthentication, ConnectToken, NetcodeClient, NetcodeServer, ServerAuthentication, ServerConfig,
        ServerResult,
    };

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn peer() -> SocketAddr {
        "127.0.0.1:4000".parse().unwrap()
    }

    /// Sends the client's pending data to the server and the answer back.
    fn exchange(client: &mut NetcodeClient, server: &mut NetcodeServer) {
        let packet = client.update(Duration::ZERO).unwrap().0.to_vec();
        assert!(is_safe(&packet));
        let answer = match server.process_packet(peer(), &mut packet.clone()) {
            ServerResult::PacketToSend { payload, .. } | ServerResult::ClientConnected { payload, .. } => {
                payload.to_vec()
            }
            other => panic!("{other:?}"),
        };
        assert!(is_safe(&answer));
        client.process_packet(&mut answer.clone());
    }

    fn connected_pair() -> (NetcodeClient, NetcodeServer) {
        let public: SocketAddr = "127.0.0.1:5000".parse().unwrap();
        let mut server = NetcodeServer::new(ServerConfig {
            current_time: Duration::ZERO,
            max_clients: 1,
            protocol_id: 1,
            public_addresses: vec![public],
            authentication: ServerAuthentication::Secure { private_key: KEY },
        });
        let connect_token =
            ConnectToken::generate(Duration::ZERO, 1, 30, 9, 5, vec![public], None, &KEY).unwrap();
        let mut client =
            NetcodeClient::new(Duration::ZERO, ClientAuthentication::Secure { connect_token }).unwrap();
        exchange(&mut client, &mut server);
        exchange(&mut client, &mut server);
        assert!(client.is_connected() && server.is_client_connected(9));
        (client, server)
    }

    proptest! {
        #[test]
        fn no_datagram_let_through_stops_a_peer(
            first in any::<u8>(),
            rest in prop_oneof![vec(any::<u8>(), 0..40), vec(Just(255u8), 0..40), vec(any::<u8>(), 0..1400)],
        ) {
            let (mut client, mut server) = connected_pair();
            let mut datagram = vec![first];
            datagram.extend(rest);
            if is_safe(&datagram) {
                server.process_packet(peer(), &mut datagram.clone());
                client.process_packet(&mut datagram);
            }
        }
    }

    #[test]
    fn lengths_that_lie_are_stopped() {
        assert!(!is_safe(&[]));
        assert!(!is_safe(&[0xf5; 1400]));
        assert!(!is_safe(&[0x85; 1400]));
        assert!(!is_safe(&[0x75; 23]));
        assert!(is_safe(&[0x75; 24]));
    }
}

//! Our tokens between a real renetcode client and server, over UDP on the loopback interface.
//!
//! Both are driven in lockstep with virtual time: each packet sent is awaited by the other side, and a refusal (the
//! request arrived, no answer) is recognized without waiting.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use renetcode::{
    ClientAuthentication, ConnectToken, NETCODE_MAX_PACKET_BYTES, NetcodeClient, NetcodeServer,
    ServerAuthentication, ServerConfig, ServerResult,
};
use sortie_tokens::{Dialect, Drawn, PrivateKey, TokenSpec, mint, read_public, renet_framed};

const KEY: [u8; 32] = *b"an example very very secret key.";
const PROTOCOL_ID: u64 = 0x1122_3344_5566_7788;
const CLIENT_ID: u64 = 0xfedc_ba98_7654_3210;
const CREATED: u64 = 1_795_238_165;
const EXPIRES: u64 = CREATED + 30;
const USER_DATA: [u8; 256] = [0xa5; 256];
/// Makes a broken test fail rather than hang.
const GIVE_UP: Duration = Duration::from_secs(10);

struct Server {
    socket: UdpSocket,
    netcode: NetcodeServer,
}

/// A server's reaction to one packet.
#[derive(PartialEq, Eq, Debug)]
enum Answer {
    Nothing,
    Reply,
    Connected { client_id: u64, user_data: Box<[u8; 256]> },
    Payload { client_id: u64, payload: Vec<u8> },
}

impl Server {
    fn start(ip: IpAddr, at: u64) -> Self {
        let socket = socket(ip);
        let netcode = NetcodeServer::new(ServerConfig {
            current_time: Duration::from_secs(at),
            max_clients: 4,
            protocol_id: PROTOCOL_ID,
            public_addresses: vec![socket.local_addr().unwrap()],
            authentication: ServerAuthentication::Secure { private_key: KEY },
        });
        Self { socket, netcode }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    fn answer_one_packet(&mut self) -> Answer {
        let mut buffer = [0; NETCODE_MAX_PACKET_BYTES];
        let (len, from) = self.socket.recv_from(&mut buffer).unwrap();
        match self.netcode.process_packet(from, &mut buffer[..len]) {
            ServerResult::None => Answer::Nothing,
            ServerResult::PacketToSend { addr, payload } => {
                self.socket.send_to(payload, addr).unwrap();
                Answer::Reply
            }
            ServerResult::ClientConnected { client_id, addr, user_data, payload } => {
                self.socket.send_to(payload, addr).unwrap();
                Answer::Connected { client_id, user_data }
            }
            ServerResult::Payload { client_id, payload } => {
                Answer::Payload { client_id, payload: payload.to_vec() }
            }
            other @ ServerResult::ClientDisconnected { .. } => panic!("{other:?}"),
        }
    }
}

struct Client {
    socket: UdpSocket,
    netcode: NetcodeClient,
}

impl Client {
    fn new(connect_token: ConnectToken) -> Self {
        let socket = socket(connect_token.server_addresses[0].unwrap().ip());
        let authentication = ClientAuthentication::Secure { connect_token };
        let netcode = NetcodeClient::new(Duration::from_secs(CREATED), authentication).unwrap();
        Self { socket, netcode }
    }

    fn send(&mut self) {
        let (packet, to) = self.netcode.update(Duration::from_millis(300)).unwrap();
        self.socket.send_to(packet, to).unwrap();
    }

    fn receive(&mut self) {
        let mut buffer = [0; NETCODE_MAX_PACKET_BYTES];
        let (len, _) = self.socket.recv_from(&mut buffer).unwrap();
        assert_eq!(self.netcode.process_packet(&mut buffer[..len]), None);
    }
}

fn socket(ip: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.set_read_timeout(Some(GIVE_UP)).unwrap();
    socket
}

fn token(server: SocketAddr, dialect: Dialect, key: [u8; 32]) -> [u8; 2048] {
    let spec = TokenSpec {
        protocol_id: PROTOCOL_ID,
        create_timestamp: CREATED,
        expire_timestamp: EXPIRES,
        timeout_seconds: 5,
        client_id: CLIENT_ID,
        server_addresses: vec![server],
        user_data: USER_DATA,
    };
    let drawn = Drawn::from_random(&std::array::from_fn(|i| 100 + i as u8));
    mint(&spec, &drawn, dialect, &PrivateKey::new(key)).unwrap()
}

fn renet_token(token: &[u8; 2048]) -> ConnectToken {
    let read = ConnectToken::read(&mut renet_framed(CLIENT_ID, token).as_slice()).unwrap();
    assert_eq!(read.client_id, CLIENT_ID);
    read
}

fn connects(ip: IpAddr) {
    let mut server = Server::start(ip, CREATED + 1);
    let token = token(server.address(), Dialect::Renet, KEY);
    let mut client = Client::new(renet_token(&token));

    client.send();
    assert_eq!(server.answer_one_packet(), Answer::Reply, "challenge");
    client.receive();
    client.send();
    let connected = Answer::Connected { client_id: CLIENT_ID, user_data: Box::new(USER_DATA) };
    assert_eq!(server.answer_one_packet(), connected);
    client.receive();
    assert!(client.netcode.is_connected());
    assert_eq!(server.netcode.user_data(CLIENT_ID), Some(USER_DATA));

    let (to, packet) = client.netcode.generate_payload_packet(b"to the server").unwrap();
    client.socket.send_to(packet, to).unwrap();
    let payload = Answer::Payload { client_id: CLIENT_ID, payload: b"to the server".to_vec() };
    assert_eq!(server.answer_one_packet(), payload);
}

/// The server leaves the first packet of a client with this token unanswered.
fn refused(server: &mut Server, token: ConnectToken) {
    let mut client = Client::new(token);
    client.send();
    assert_eq!(server.answer_one_packet(), Answer::Nothing);
}

/// Like [`refused`], for a token that the server accepts.
fn taken(server: &mut Server, token: ConnectToken) {
    let mut client = Client::new(token);
    client.send();
    assert_eq!(server.answer_one_packet(), Answer::Reply);
}

#[test]
fn a_renet_token_connects_over_ipv4() {
    connects(Ipv4Addr::LOCALHOST.into());
}

#[test]
fn a_renet_token_connects_over_ipv6() {
    connects(Ipv6Addr::LOCALHOST.into());
}

#[test]
fn a_token_is_taken_until_it_expires() {
    for (at, verdict) in [(EXPIRES - 1, taken as fn(&mut Server, ConnectToken)), (EXPIRES, refused)] {
        let mut server = Server::start(Ipv4Addr::LOCALHOST.into(), at);
        let token = token(server.address(), Dialect::Renet, KEY);
        verdict(&mut server, renet_token(&token));
    }
}

#[test]
fn a_token_of_another_key_is_refused() {
    let mut server = Server::start(Ipv4Addr::LOCALHOST.into(), CREATED);
    let token = token(server.address(), Dialect::Renet, [9; 32]);
    refused(&mut server, renet_token(&token));
}

#[test]
fn a_standard_token_is_taken_over_ipv4_and_refused_over_ipv6() {
    let mut server = Server::start(Ipv4Addr::LOCALHOST.into(), CREATED);
    let ipv4 = token(server.address(), Dialect::Standard, KEY);
    taken(&mut server, renet_token(&ipv4));

    let mut server = Server::start(Ipv6Addr::LOCALHOST.into(), CREATED);
    let ipv6 = token(server.address(), Dialect::Standard, KEY);
    let mut read = renet_token(&ipv6);
    assert_ne!(read.server_addresses[0], Some(server.address()));
    // The client would not even find the server; the packet is sent there anyway, and the server misses its own
    // address.
    read.server_addresses[0] = Some(server.address());
    refused(&mut server, read);
}

#[test]
fn a_lightyear_token_is_refused_by_client_and_server() {
    let mut server = Server::start(Ipv4Addr::LOCALHOST.into(), CREATED);
    let token = token(server.address(), Dialect::Lightyear, KEY);
    assert!(ConnectToken::read(&mut renet_framed(CLIENT_ID, &token).as_slice()).is_err());

    // A client that could read it would still be refused, because the sealed part has the other byte order.
    let public = read_public(&token, Dialect::Lightyear).unwrap();
    let mut server_addresses = [None; 32];
    server_addresses[0] = Some(server.address());
    let read = ConnectToken {
        client_id: CLIENT_ID,
        version_info: *b"NETCODE 1.02\0",
        protocol_id: public.protocol_id,
        create_timestamp: public.create_timestamp,
        expire_timestamp: public.expire_timestamp,
        xnonce: public.drawn.nonce,
        server_addresses,
        client_to_server_key: public.drawn.client_to_server_key,
        server_to_client_key: public.drawn.server_to_client_key,
        private_data: token[61..1085].try_into().unwrap(),
        timeout_seconds: public.timeout_seconds,
    };
    refused(&mut server, read);
}

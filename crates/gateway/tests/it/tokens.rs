//! Players' tokens, as used by game clients and servers.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use renetcode::{
    ClientAuthentication, ConnectToken, NETCODE_MAX_PACKET_BYTES, NetcodeClient, NetcodeServer,
    ServerAuthentication, ServerConfig, ServerResult,
};
use sortie_gateway::GameFleet;
use sortie_tokens::{Dialect, renet_framed};

use crate::harness::{KEY, PROTOCOL_ID, Script, World, arena, check, details, opened, options, seat_of};

/// Only so that a broken test fails rather than hangs.
const GIVE_UP: Duration = Duration::from_secs(10);

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(GIVE_UP)).unwrap();
    socket
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> (usize, SocketAddr) {
    socket.recv_from(buffer).unwrap()
}

/// The address of this test binary's only game server that speaks netcode.
static GAME_SERVER: OnceLock<SocketAddr> = OnceLock::new();

#[tokio::test]
async fn a_player_connects_with_its_token_and_the_server_learns_the_seat() {
    let socket = socket();
    GAME_SERVER.set(socket.local_addr().unwrap()).unwrap();
    let connection = |_, _: &_| details(&GAME_SERVER.get().unwrap().to_string());
    let renet = GameFleet { dialect: Dialect::Renet, ..arena(4) };
    let world = World::start(Script { connection, ..Script::default() }, options(vec![renet])).await;
    let answer = world.join().await;
    let token = opened(&answer["connect_token"], Dialect::Renet);
    let address = GAME_SERVER.get().unwrap().to_string();
    check(&world, &token, &address).await;

    let bytes: [u8; 2048] =
        STANDARD.decode(answer["connect_token"].as_str().unwrap()).unwrap().try_into().unwrap();
    let connect_token =
        ConnectToken::read(&mut renet_framed(token.spec.client_id, &bytes).as_slice()).unwrap();
    let (client_id, user_data) = handshake(&socket, connect_token);
    assert_eq!(client_id, token.spec.client_id);
    assert!(user_data.starts_with(seat_of(&token).as_str().as_bytes()));
}

/// Connects a real client to a real server; returns what the server learns about it.
fn handshake(server: &UdpSocket, connect_token: ConnectToken) -> (u64, [u8; 256]) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut netcode = NetcodeServer::new(ServerConfig {
        current_time: now,
        max_clients: 4,
        protocol_id: PROTOCOL_ID,
        public_addresses: vec![server.local_addr().unwrap()],
        authentication: ServerAuthentication::Secure { private_key: KEY },
    });
    let client = socket();
    let mut player = NetcodeClient::new(now, ClientAuthentication::Secure { connect_token }).unwrap();
    let mut buffer = [0; NETCODE_MAX_PACKET_BYTES];
    loop {
        let (packet, to) = player.update(Duration::from_millis(300)).unwrap();
        client.send_to(packet, to).unwrap();
        let (length, from) = receive(server, &mut buffer);
        match netcode.process_packet(from, &mut buffer[..length]) {
            ServerResult::PacketToSend { addr, payload } => {
                server.send_to(payload, addr).unwrap();
            }
            ServerResult::ClientConnected { client_id, user_data, .. } => return (client_id, *user_data),
            other => panic!("the server does not let the client in: {other:?}"),
        }
        let (length, _) = receive(&client, &mut buffer);
        player.process_packet(&mut buffer[..length]);
    }
}

#[tokio::test]
async fn tokens_are_of_the_fleets_dialect() {
    let lightyear = GameFleet { dialect: Dialect::Lightyear, ..arena(4) };
    let world = World::start(Script::default(), options(vec![lightyear])).await;
    let mut chunks = world.stream("/matchmaker/request/arena/1.0").await;
    let ready = chunks.until("SessionReady").await;
    check(&world, &opened(&ready["token"], Dialect::Lightyear), "127.0.0.1:7001").await;
}

#[tokio::test]
async fn a_server_may_give_an_ipv6_address_or_a_host_name() {
    let connection = |number, _: &_| details(if number == 1 { "[::1]:7777" } else { "localhost:7778" });
    let world = World::start(Script { connection, ..Script::default() }, options(vec![arena(1)])).await;
    let answer = world.join().await;
    assert_eq!(answer["gameserver_ip"], "::1");
    assert_eq!(answer["link"], "[::1]:7777");
    check(&world, &opened(&answer["connect_token"], Dialect::Standard), "[::1]:7777").await;
    let answer = world.join().await;
    assert_eq!(answer["gameserver_port"], 7778);
    let ip: std::net::IpAddr = answer["gameserver_ip"].as_str().unwrap().parse().unwrap();
    assert!(ip.is_loopback());
}

#[tokio::test]
async fn a_player_gets_the_connection_details_meant_for_it() {
    let connection = |_, offer: &sortie_domain::broker::Offer| {
        let mut connection = details("10.0.0.1:1000");
        let one = sortie_domain::ids::PlayerId::new("one").unwrap();
        assert!(offer.players.contains(&one));
        connection.per_player.insert(one, "10.0.0.2:2000".into());
        connection
    };
    let options = sortie_gateway::GatewayOptions { dev: true, ..options(vec![arena(2)]) };
    let world = World::start(Script { connection, ..Script::default() }, options).await;
    for (header, player, link) in
        [("catena-session-id", "one", "10.0.0.2:2000"), ("session-id", "two", "10.0.0.1:1000")]
    {
        let request = world.http.post(world.url("/wannaplay")).header(header, player);
        let answer: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["link"], link);
    }
    assert_eq!(world.matches().await.len(), 1);
}

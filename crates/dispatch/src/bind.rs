//! Opens ports for devices.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// Connections waiting to be accepted; the system may allow fewer.
const BACKLOG: i32 = 16_384;
/// A device's connection that is idle this long is probed, and probed again at this interval.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Kernel receive buffer for datagrams, in bytes; the system may allow less.
const RECEIVE_BYTES: usize = 4 << 20;

/// One listening socket per host. Device connections inherit no-delay and keep-alive from it.
pub(crate) fn listen(hosts: &[IpAddr], port: u16) -> io::Result<Vec<std::net::TcpListener>> {
    each(hosts, |host| {
        let socket = socket(hosts, host, Type::STREAM, Protocol::TCP)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(host, port).into())?;
        let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE);
        socket.set_tcp_keepalive(&keep_alive)?;
        socket.set_tcp_nodelay(true)?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    })
}

/// One datagram socket per host.
pub(crate) fn receive(hosts: &[IpAddr], port: u16) -> io::Result<Vec<std::net::UdpSocket>> {
    each(hosts, |host| {
        let socket = socket(hosts, host, Type::DGRAM, Protocol::UDP)?;
        // The system may grant less.
        let _ = socket.set_recv_buffer_size(RECEIVE_BYTES);
        socket.bind(&SocketAddr::new(host, port).into())?;
        Ok(socket.into())
    })
}

/// Skips IPv6 if the machine lacks it and IPv4 was requested too.
fn each<S>(hosts: &[IpAddr], open: impl Fn(IpAddr) -> io::Result<S>) -> io::Result<Vec<S>> {
    let has_ipv4 = hosts.iter().any(IpAddr::is_ipv4);
    let mut sockets = Vec::with_capacity(hosts.len());
    for host in hosts {
        match open(*host) {
            Ok(socket) => sockets.push(socket),
            Err(error) if host.is_ipv6() && host.is_unspecified() && has_ipv4 && has_no_ipv6(&error) => {
                tracing::debug!(%error, "this machine has no IPv6");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(sockets)
}

fn has_no_ipv6(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(nix::errno::Errno::from_raw);
    matches!(code, Some(nix::errno::Errno::EAFNOSUPPORT | nix::errno::Errno::EADDRNOTAVAIL))
}

fn socket(hosts: &[IpAddr], host: IpAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let domain = if host.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, kind, Some(protocol))?;
    if host.is_ipv6() {
        // This socket also takes IPv4 if no other socket does.
        socket.set_only_v6(!host.is_unspecified() || hosts.contains(&Ipv4Addr::UNSPECIFIED.into()))?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_told() {
        let hosts = [Ipv4Addr::LOCALHOST.into()];
        let first = listen(&hosts, 0).unwrap();
        let port = first[0].local_addr().unwrap().port();
        assert_eq!(listen(&hosts, port).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        listen(&hosts, port).unwrap();
    }

    #[test]
    fn both_families_share_a_port() {
        let hosts = [IpAddr::from([0, 0, 0, 0]), "::".parse().unwrap()];
        let port = receive(&hosts[..1], 0).unwrap()[0].local_addr().unwrap().port();
        assert!(!receive(&hosts, port).unwrap().is_empty());
    }
}

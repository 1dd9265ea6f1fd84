//! Checks whether a port of this machine answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

/// Local addresses that a program may listen on.
const HERE: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
/// Pause between attempts.
const PAUSE: Duration = Duration::from_millis(100);
/// Timeout for connecting.
const CONNECTED_WITHIN: Duration = Duration::from_secs(1);
/// Time for the kernel to report that a UDP port is not in use.
const REFUSED_WITHIN: Duration = Duration::from_millis(200);

/// Returns when the port answers.
pub(super) async fn answers(port: u16, is_udp: bool) {
    loop {
        for address in HERE {
            let is_there = match is_udp {
                true => has_udp(address, port).await,
                false => takes_connections(address, port).await,
            };
            if is_there {
                return;
            }
        }
        sleep(PAUSE).await;
    }
}

async fn takes_connections(address: IpAddr, port: u16) -> bool {
    matches!(timeout(CONNECTED_WITHIN, TcpStream::connect((address, port))).await, Ok(Ok(_)))
}

/// The kernel answers a datagram to an unused port; from a port in use there may be no answer, because few game servers
/// answer strangers.
async fn has_udp(address: IpAddr, port: u16) -> bool {
    let ask = async {
        let socket = UdpSocket::bind((address, 0)).await?;
        socket.connect((address, port)).await?;
        socket.send(&[0]).await?;
        socket.recv(&mut [0; 1]).await
    };
    match timeout(REFUSED_WITHIN, ask).await {
        Ok(answer) => answer.is_ok(),
        Err(_nobody_refused) => true,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn ports_that_somebody_has_answer() {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        answers(tcp.local_addr().unwrap().port(), false).await;
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        answers(udp.local_addr().unwrap().port(), true).await;
    }

    #[tokio::test]
    async fn ports_that_nobody_has_do_not() {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port();
        assert!(!takes_connections(HERE[0], tcp).await);
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port();
        assert!(!has_udp(HERE[0], udp).await);
    }
}

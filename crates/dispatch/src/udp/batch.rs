//! Many datagrams per system call: `recvmmsg` and `sendmmsg`.
//!
//! With `nix`, because tokio has neither. Not with `quinn-udp`: it forbids fragmentation, so that datagrams beyond the
//! path's MTU cannot be sent, and requests a time stamp and other things with each datagram. The kernel's own merging
//! of datagrams (GRO) stays off: it is for streams of one sender, and merges nothing on loopback.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;

use bytes::Bytes;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Datagrams per system call.
pub(super) const BATCH: usize = 64;
/// Maximum length of a datagram plus one, in bytes.
const SLOT_BYTES: usize = 64 << 10;

thread_local! {
    /// One per receiving thread, not one per port: each is 4 MiB, although little of it is resident.
    static TRAY: RefCell<Option<Tray>> = const { RefCell::new(None) };
}

/// Receive buffers. The headers keep the length of the addresses that they last had.
struct Tray {
    slots: Vec<u8>,
    ipv4: MultiHeaders<SockaddrStorage>,
    ipv6: MultiHeaders<SockaddrStorage>,
}

impl Default for Tray {
    fn default() -> Self {
        Self {
            slots: vec![0; BATCH * SLOT_BYTES],
            ipv4: MultiHeaders::preallocate(BATCH, None),
            ipv6: MultiHeaders::preallocate(BATCH, None),
        }
    }
}

/// Passes each datagram that is there, up to [`BATCH`], to `each`, with its sender. Returns their number.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if there is none; other errors of the system.
pub(super) fn receive(
    socket: &UdpSocket,
    is_ipv6: bool,
    mut each: impl FnMut(SocketAddr, &[u8]),
) -> io::Result<usize> {
    TRAY.with_borrow_mut(|tray| {
        let Tray { slots, ipv4, ipv6 } = tray.get_or_insert_default();
        let headers = if is_ipv6 { ipv6 } else { ipv4 };
        let mut slices: Vec<_> = slots.chunks_mut(SLOT_BYTES).map(|slot| [IoSliceMut::new(slot)]).collect();
        let received = socket.try_io(Interest::READABLE, || {
            let flags = MsgFlags::MSG_DONTWAIT;
            Ok(recvmmsg(socket.as_raw_fd(), headers, slices.iter_mut(), flags, None)?)
        })?;
        let mut count = 0;
        for datagram in received {
            count += 1;
            if let Some(sender) = datagram.address.as_ref().and_then(address) {
                each(sender, datagram.iovs().next().unwrap_or_default());
            }
        }
        Ok(count)
    })
}

fn address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(ipv4) = address.as_sockaddr_in() {
        return Some((ipv4.ip(), ipv4.port()).into());
    }
    address.as_sockaddr_in6().map(|ipv6| (ipv6.ip(), ipv6.port()).into())
}

/// Sends as many as can be sent at once, starting with the first, at most [`BATCH`].
///
/// # Errors
/// The error of the first datagram: [`io::ErrorKind::WouldBlock`] if the system takes nothing now.
pub(super) fn send(socket: &UdpSocket, datagrams: &[(SocketAddr, Bytes)]) -> io::Result<usize> {
    let datagrams = datagrams.get(..BATCH).unwrap_or(datagrams);
    let slices: Vec<_> = datagrams.iter().map(|(_, bytes)| [IoSlice::new(bytes)]).collect();
    let receivers: Vec<_> = datagrams.iter().map(|(to, _)| Some(SockaddrStorage::from(*to))).collect();
    let mut headers = MultiHeaders::preallocate(datagrams.len(), None);
    socket.try_io(Interest::WRITABLE, || {
        let (socket, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        Ok(sendmmsg(socket, &mut headers, &slices, &receivers, [], flags)?.count())
    })
}

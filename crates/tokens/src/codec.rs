//! Integers and addresses as each dialect encodes them.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::dialect::Dialect;
use crate::token::{MAX_SERVER_ADDRESSES, OpenError};

const IPV4: u8 = 1;
const IPV6: u8 = 2;

/// Maximum length of one address: type, 16 octets, port.
pub(crate) const MAX_ADDRESS_BYTES: usize = 1 + 16 + 2;

/// Writes a buffer from its start. The caller ensures that there is room: all lengths are constant except the number of
/// addresses, which [`crate::mint`] checks.
pub(crate) struct Writer<'a> {
    buffer: &'a mut [u8],
    at: usize,
    dialect: Dialect,
}

impl<'a> Writer<'a> {
    pub(crate) const fn new(buffer: &'a mut [u8], dialect: Dialect) -> Self {
        Self { buffer, at: 0, dialect }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len();
        self.buffer[self.at..end].copy_from_slice(bytes);
        self.at = end;
    }

    fn little_endian<const N: usize>(&mut self, mut bytes: [u8; N]) {
        if self.dialect.big_endian() {
            bytes.reverse();
        }
        self.bytes(&bytes);
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.little_endian(value.to_le_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.little_endian(value.to_le_bytes());
    }

    /// The count, then each address. At most [`MAX_SERVER_ADDRESSES`].
    pub(crate) fn addresses(&mut self, addresses: &[SocketAddr]) {
        self.little_endian((addresses.len() as u32).to_le_bytes());
        for address in addresses {
            match address.ip() {
                IpAddr::V4(ip) => {
                    self.bytes(&[IPV4]);
                    self.bytes(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    self.bytes(&[IPV6]);
                    self.bytes(&ipv6_octets(ip.octets(), self.dialect));
                }
            }
            self.little_endian(address.port().to_le_bytes());
        }
    }
}

/// Reads a buffer from its start, and never beyond its end.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    len: usize,
    dialect: Dialect,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(buffer: &'a [u8], dialect: Dialect) -> Self {
        Self { rest: buffer, len: buffer.len(), dialect }
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], OpenError> {
        let (bytes, rest) =
            self.rest.split_first_chunk().ok_or(OpenError::WrongLength { bytes: self.len })?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn little_endian<const N: usize>(&mut self) -> Result<[u8; N], OpenError> {
        let mut bytes = self.bytes()?;
        if self.dialect.big_endian() {
            bytes.reverse();
        }
        Ok(bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, OpenError> {
        self.little_endian().map(u64::from_le_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, OpenError> {
        self.little_endian().map(i32::from_le_bytes)
    }

    pub(crate) fn addresses(&mut self) -> Result<Vec<SocketAddr>, OpenError> {
        let count = u32::from_le_bytes(self.little_endian()?);
        // Before any allocation: the count is untrusted.
        if count == 0 || count > MAX_SERVER_ADDRESSES as u32 {
            return Err(OpenError::AddressCount { count });
        }
        (0..count).map(|_| self.address()).collect()
    }

    fn address(&mut self) -> Result<SocketAddr, OpenError> {
        let [kind] = self.bytes()?;
        let ip = match kind {
            IPV4 => IpAddr::V4(Ipv4Addr::from(self.bytes::<4>()?)),
            IPV6 => IpAddr::V6(Ipv6Addr::from(ipv6_octets(self.bytes()?, self.dialect))),
            kind => return Err(OpenError::AddressType { kind }),
        };
        let port = u16::from_le_bytes(self.little_endian()?);
        Ok(SocketAddr::new(ip, port))
    }
}

/// Converts between network order and the dialect's order: the same step both ways.
fn ipv6_octets(mut octets: [u8; 16], dialect: Dialect) -> [u8; 16] {
    if dialect.swaps_ipv6_words() {
        for word in octets.chunks_exact_mut(2) {
            word.reverse();
        }
    }
    octets
}

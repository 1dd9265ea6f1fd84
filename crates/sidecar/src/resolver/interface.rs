//! `interface_resolver`: the address of a network interface, for a machine that has a public address itself, or whose
//! players are in the same network.
//!
//! Without a name, it is the interface of the default route. To find it, a UDP socket is connected to an address
//! reserved for documentation: the system looks up the route, and sends nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::OnceLock;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::ports::{PortRange, Ports};
use super::{Address, OptionsError, ResolveError, Resolver};

/// An address that only the default route leads to: RFC 5737.
const FAR_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);
/// The same for IPv6: RFC 3849.
const FAR_V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 9);
/// Maximum number of names in an error.
const MAX_LISTED: usize = 20;

/// Options of `interface_resolver`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct InterfaceOptions {
    /// Its name, like `eth0`; by default, that of the default route.
    pub interface: Option<String>,
    /// The kind of address; by default IPv4, or IPv6 if there is no IPv4.
    pub family: Option<Family>,
    /// The port of every server.
    pub port: Option<u16>,
    /// Ports, one per server.
    pub available_ports: Vec<PortRange>,
}

/// A kind of IP address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4
    Ipv4,
    /// IPv6
    Ipv6,
}

impl Family {
    const fn has(self, ip: IpAddr) -> bool {
        matches!((self, ip), (Self::Ipv4, IpAddr::V4(_)) | (Self::Ipv6, IpAddr::V6(_)))
    }
}

/// The address of an interface. It is looked up for the first server and cached: if it changed, players who have it
/// would be lost anyway.
#[derive(Debug)]
pub struct InterfaceResolver {
    interface: Option<String>,
    family: Option<Family>,
    host: OnceLock<String>,
    ports: Ports,
}

impl InterfaceResolver {
    /// A resolver for this interface, which need not be up yet.
    ///
    /// # Errors
    /// [`OptionsError`]
    pub fn new(options: InterfaceOptions) -> Result<Self, OptionsError> {
        let ports = match (options.port, options.available_ports.as_slice()) {
            (Some(_), [_, ..]) => {
                return Err(OptionsError::new("Port", "give Port or AvailablePorts, not both"));
            }
            (Some(0), _) => return Err(OptionsError::new("Port", "must be a port from 1 to 65535")),
            (port @ Some(_), []) => Ports::fixed(port),
            (None, ranges) => Ports::of(ranges)?,
        };
        if options.interface.as_ref().is_some_and(String::is_empty) {
            return Err(OptionsError::new(
                "Interface",
                "must not be empty: leave it out for the default route",
            ));
        }
        Ok(Self { interface: options.interface, family: options.family, host: OnceLock::new(), ports })
    }

    fn find(&self) -> Result<IpAddr, ResolveError> {
        let families = self.family.map_or_else(|| vec![Family::Ipv4, Family::Ipv6], |family| vec![family]);
        let Some(interface) = &self.interface else {
            let found = families.iter().find_map(|family| by_default_route(*family).ok());
            return found.ok_or_else(|| {
                let kind = self.kind();
                let problem = format!("this machine has no default route{kind}: name an Interface");
                ResolveError(problem)
            });
        };
        let interfaces = if_addrs::get_if_addrs()
            .map_err(|error| ResolveError(format!("the network interfaces cannot be listed: {error}")))?;
        let addresses: Vec<IpAddr> =
            interfaces.iter().filter(|one| one.name == *interface).map(if_addrs::Interface::ip).collect();
        let mut fit = families
            .iter()
            .filter_map(|family| addresses.iter().copied().find(|ip| family.has(*ip) && !is_link_local(*ip)));
        fit.next().ok_or_else(|| {
            let mut names: Vec<_> = interfaces.iter().map(|one| one.name.clone()).collect();
            names.sort();
            names.dedup();
            names.truncate(MAX_LISTED);
            let (kind, names) = (self.kind(), names.join(", "));
            ResolveError(format!(
                "network interface {interface:?} has no address{kind}; those that have one are: {names}"
            ))
        })
    }

    const fn kind(&self) -> &'static str {
        match self.family {
            None => "",
            Some(Family::Ipv4) => " of IPv4",
            Some(Family::Ipv6) => " of IPv6",
        }
    }
}

/// Valid only on its own link; for IPv6, only together with the interface's name there.
const fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn by_default_route(family: Family) -> io::Result<IpAddr> {
    let (here, far) = match family {
        Family::Ipv4 => (SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), FAR_V4),
        Family::Ipv6 => (SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), FAR_V6),
    };
    let socket = UdpSocket::bind(here)?;
    socket.connect(far)?;
    Ok(socket.local_addr()?.ip())
}

#[async_trait]
impl Resolver for InterfaceResolver {
    fn name(&self) -> &'static str {
        "interface_resolver"
    }

    async fn resolve(&self, server_id: &str) -> Result<Address, ResolveError> {
        let host = match self.host.get() {
            Some(host) => host.clone(),
            None => {
                let found = self.find()?.to_string();
                self.host.get_or_init(|| found).clone()
            }
        };
        Ok(Address { host, port: self.ports.get(server_id)? })
    }

    fn release(&self, server_id: &str) {
        self.ports.release(server_id);
    }

    fn claim(&self, server_id: &str, port: u16) {
        self.ports.claim(server_id, port);
    }
}

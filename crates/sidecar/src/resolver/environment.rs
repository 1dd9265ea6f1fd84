//! `docker_resolver` and `kubernetes_resolver`: the address is in environment variables.
//!
//! A container cannot find out where players reach it. Its own address, its gateway and `host.docker.internal` work
//! only from its machine, and only Docker knows which port of the machine is published for it: asking would need
//! Docker's socket, which is equivalent to root on the machine. So both must be given by the environment or the
//! settings. In a pod the downward API can do so: `status.hostIP` as `NODE_IP`.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Address, OptionsError, ResolveError, Resolver};
use crate::settings::Variables;

/// Where Docker users usually put the address of the machine.
const DOCKER_ADDRESS: [&str; 1] = ["HOST_IP"];
/// Usual names for fields of the downward API, most likely reachable for players first.
const KUBERNETES_ADDRESS: [&str; 3] = ["NODE_IP", "HOST_IP", "POD_IP"];

/// Options of `docker_resolver`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DockerOptions {
    /// Where players reach the machine; by default, the variable in `address_env`.
    pub host_address: Option<Address>,
    /// The variable with that address; by default `HOST_IP`.
    pub address_env: Option<String>,
    /// The published port.
    pub port: Option<u16>,
    /// The variable with the published port.
    pub port_env: Option<String>,
}

/// Options of `kubernetes_resolver`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct KubernetesOptions {
    /// The variable with the address; by default the first of `NODE_IP`, `HOST_IP` and `POD_IP` that is set.
    pub address_env: Option<String>,
    /// The host port.
    pub port: Option<u16>,
    /// The variable with the host port.
    pub port_env: Option<String>,
}

/// The same address for every server.
#[derive(Debug)]
pub struct EnvironmentResolver {
    name: &'static str,
    address: Address,
}

impl EnvironmentResolver {
    /// `docker_resolver`.
    ///
    /// # Errors
    /// [`OptionsError`]: a variable is missing, or does not contain an address or a port.
    pub fn docker(options: &DockerOptions, variables: &Variables) -> Result<Self, OptionsError> {
        let address = match (&options.host_address, &options.address_env) {
            (Some(_), Some(_)) => {
                return Err(OptionsError::new("HostAddress", "give HostAddress or AddressEnv, not both"));
            }
            (Some(address), None) => address.clone(),
            (None, name) => {
                let advice = "Start the container with `--env HOST_IP=…`, the address where players reach this \
                              machine, or give HostAddress";
                address(name.as_deref(), &DOCKER_ADDRESS, variables, advice)?
            }
        };
        let port = port(options.port, options.port_env.as_deref(), variables)?;
        Ok(Self::new("docker_resolver", address, port))
    }

    /// `kubernetes_resolver`.
    ///
    /// # Errors
    /// Like [`Self::docker`].
    pub fn kubernetes(options: &KubernetesOptions, variables: &Variables) -> Result<Self, OptionsError> {
        let advice = "Give the container the field `status.hostIP` as NODE_IP by the downward API, or name another \
                      variable in AddressEnv";
        let address = address(options.address_env.as_deref(), &KUBERNETES_ADDRESS, variables, advice)?;
        let port = port(options.port, options.port_env.as_deref(), variables)?;
        Ok(Self::new("kubernetes_resolver", address, port))
    }

    fn new(name: &'static str, address: Address, port: Option<u16>) -> Self {
        let port = port.or(address.port);
        Self { name, address: Address { port, ..address } }
    }
}

/// The address in the variable `name`, or in the first of the `usual` ones that is set.
fn address(
    name: Option<&str>,
    usual: &[&str],
    variables: &Variables,
    advice: &str,
) -> Result<Address, OptionsError> {
    let names = name.map_or_else(|| usual.to_vec(), |name| vec![name]);
    let given = |name: &&str| variables.get(*name).is_some_and(|text| !text.trim().is_empty());
    let Some(name) = names.iter().copied().find(given) else {
        let names = names.join(", ");
        let problem = format!("no address: of the environment, {names} is not set. {advice}");
        return Err(OptionsError::new("AddressEnv", problem));
    };
    let text = variables.get(name).map(|text| text.trim()).unwrap_or_default();
    text.parse()
        .map_err(|error| OptionsError::new("AddressEnv", format!("the environment variable {name} {error}")))
}

fn port(fixed: Option<u16>, name: Option<&str>, variables: &Variables) -> Result<Option<u16>, OptionsError> {
    let name = match (fixed, name) {
        (Some(_), Some(_)) => return Err(OptionsError::new("Port", "give Port or PortEnv, not both")),
        (Some(0), None) => return Err(OptionsError::new("Port", "must be a port from 1 to 65535")),
        (fixed, None) => return Ok(fixed),
        (None, Some(name)) => name,
    };
    let wrong = |problem: String| OptionsError::new("PortEnv", problem);
    let text = variables.get(name).ok_or_else(|| {
        wrong(format!("the environment variable {name} is not set: give it the published port"))
    })?;
    let port = text.trim().parse().ok().filter(|port| *port != 0);
    port.map(Some).ok_or_else(|| {
        wrong(format!("the environment variable {name} must hold a port from 1 to 65535, is {text:?}"))
    })
}

#[async_trait]
impl Resolver for EnvironmentResolver {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn resolve(&self, _: &str) -> Result<Address, ResolveError> {
        Ok(self.address.clone())
    }

    fn release(&self, _: &str) {}
}

//! `edgegap_resolver`: the address from the environment of an Edgegap deployment.
//!
//! `ARBITRIUM_PUBLIC_IP` is the address, `ARBITRIUM_PORTS_MAPPING` the ports as JSON: `{"ports": {"gameport": {"name",
//! "internal", "external", "protocol"}}}`. Players need the external one. The mapping is parsed leniently, because it
//! is described only in Edgegap's documentation and not in its specification.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Address, OptionsError, ResolveError, Resolver};
use crate::settings::Variables;

/// The variable with the address.
const ADDRESS: &str = "ARBITRIUM_PUBLIC_IP";
/// The variable with the ports.
const PORTS: &str = "ARBITRIUM_PORTS_MAPPING";
/// Maximum number of names in an error.
const MAX_LISTED: usize = 20;

/// Options of `edgegap_resolver`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct EdgegapOptions {
    /// Which port of the app version players use; required if there are several.
    pub port_name: Option<String>,
}

/// The address of the deployment, the same for every server.
#[derive(Debug)]
pub struct EdgegapResolver(Address);

#[derive(Deserialize)]
struct Mapping {
    #[serde(default)]
    ports: BTreeMap<String, Port>,
}

#[derive(Deserialize)]
struct Port {
    external: Value,
}

impl EdgegapResolver {
    /// A resolver for the deployment that this process is in.
    ///
    /// # Errors
    /// [`OptionsError`]: not an Edgegap deployment, or it has no such port.
    pub fn new(options: &EdgegapOptions, variables: &Variables) -> Result<Self, OptionsError> {
        let given = |name: &str| variables.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
        let Some(host) = given(ADDRESS) else {
            let problem =
                format!("the environment variable {ADDRESS} is not set: this is not an Edgegap deployment");
            return Err(OptionsError::new("", problem));
        };
        let address: Address = host
            .parse()
            .map_err(|error| OptionsError::new("", format!("the environment variable {ADDRESS} {error}")))?;
        let port = match given(PORTS) {
            Some(text) => port(options.port_name.as_deref(), text)?,
            None => by_name(options.port_name.as_deref(), variables)?,
        };
        Ok(Self(Address { host: address.host, port }))
    }
}

/// The only port in the mapping, or the one with this name; `None` if the mapping is empty and no name is given.
fn port(name: Option<&str>, mapping: &str) -> Result<Option<u16>, OptionsError> {
    let wrong = |problem: String| OptionsError::new("PortName", problem);
    let mapping: Mapping = serde_json::from_str(mapping).map_err(|error| {
        wrong(format!("the environment variable {PORTS} is not a mapping of ports: {error}"))
    })?;
    let names = mapping.ports.keys().take(MAX_LISTED).cloned().collect::<Vec<_>>().join(", ");
    let mut ports = mapping.ports.iter();
    let (name, port) = match (name, ports.next(), ports.next()) {
        (None, None, _) => return Ok(None),
        (None, Some(only), None) => only,
        (None, Some(_), Some(_)) => {
            return Err(wrong(format!("must be given, as there are several ports: {names}")));
        }
        (Some(name), ..) => {
            let found = mapping.ports.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.ok_or_else(|| wrong(format!("there is no port {name:?}; there are: {names}")))?
        }
    };
    let number = match &port.external {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64().and_then(|number| u16::try_from(number).ok()),
    };
    let number = number.filter(|number| *number != 0);
    number
        .map(Some)
        .ok_or_else(|| wrong(format!("port {name:?} has no external port from 1 to 65535 in {PORTS}")))
}

/// Without a mapping, a named port has a variable of its own.
fn by_name(name: Option<&str>, variables: &Variables) -> Result<Option<u16>, OptionsError> {
    let Some(name) = name else { return Ok(None) };
    let variable = format!("ARBITRIUM_PORT_{}_EXTERNAL", name.to_uppercase());
    let number =
        variables.get(&variable).and_then(|text| text.trim().parse().ok()).filter(|number| *number != 0);
    number.map(Some).ok_or_else(|| {
        let problem =
            format!("neither of the environment variables {PORTS} and {variable} contains this port");
        OptionsError::new("PortName", problem)
    })
}

#[async_trait]
impl Resolver for EdgegapResolver {
    fn name(&self) -> &'static str {
        "edgegap_resolver"
    }

    async fn resolve(&self, _: &str) -> Result<Address, ResolveError> {
        Ok(self.0.clone())
    }

    fn release(&self, _: &str) {}
}

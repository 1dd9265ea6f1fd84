//! From the configuration to the options of a dispatcher.

use sortie_config::{DispatchConfig, DispatchLimits};
use sortie_dispatch::{DispatchOptions, Limits, Operators, Secret, Version};

use crate::failure::Failure;

/// What this program was built from, where the build says so.
const COMMIT: Option<&str> = option_env!("SORTIE_BUILD_COMMIT");
const BUILD_TIME: Option<&str> = option_env!("SORTIE_BUILD_TIME");
const UNKNOWN: &str = "unknown";
/// How a dispatcher with this configuration behaves.
pub(crate) fn options(
    config: &DispatchConfig,
    secret: Option<Secret>,
    operators: Option<Operators>,
) -> DispatchOptions {
    DispatchOptions {
        secret,
        operators,
        hosts: config.hosts.clone(),
        allowed_ports: config.allowed_ports.clone(),
        only_to_peers_that_spoke: config.only_to_peers_that_spoke,
        version: Version {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: COMMIT.unwrap_or(UNKNOWN).to_owned(),
            build_time: BUILD_TIME.unwrap_or(UNKNOWN).to_owned(),
            platform_version: None,
        },
        limits: limits(&config.limits),
    }
}

pub(super) fn limits(config: &DispatchLimits) -> Limits {
    let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    Limits {
        drivers: count(config.drivers),
        drivers_per_port: count(config.drivers_per_port),
        ports: count(config.ports),
        devices: count(config.devices),
        accept_entries: count(config.accept_entries),
        message_bytes: bytes(config.message),
        driver_queue_bytes: bytes(config.driver_queue),
        queue_bytes: bytes(config.queue),
        device_backlog_bytes: bytes(config.device_backlog),
        backlog_bytes: bytes(config.backlog),
        driver_stall: config.driver_stall,
        device_patience: config.device_patience,
        device_stall: config.device_stall,
        half_close_time: config.half_close_time,
        half_closed: count(config.half_closed),
        ping_period: config.ping_period,
        ping_deadline: config.ping_deadline,
        close_time: config.close_time,
        udp_peers_per_port: count(config.udp_peers_per_port),
        tokens: count(config.tokens),
        token_time: config.token_time,
    }
}

/// The secret of the configuration.
pub(crate) fn configured_secret(config: &DispatchConfig) -> Result<Option<Secret>, Failure> {
    let Some((_, secret)) = &config.secret else { return Ok(None) };
    let text = String::from_utf8(secret.bytes().to_vec());
    let text = text.map_err(|_| Failure::new("dispatch: the secret is no UTF-8 text"))?;
    Ok(Some(Secret::new(text)?))
}

#[cfg(test)]
mod tests {
    use sortie_config::Config;

    use super::*;

    #[test]
    fn the_defaults_of_the_configuration_are_those_of_the_dispatcher() {
        let config = Config::load(None, std::iter::empty(), sortie_config::Overrides::default()).unwrap();
        let (found, wanted) = (options(&config.dispatch, None, None), DispatchOptions::default());
        assert_eq!(found.limits, wanted.limits);
        assert_eq!((found.hosts, found.allowed_ports), (wanted.hosts, wanted.allowed_ports));
        assert_eq!(found.only_to_peers_that_spoke, wanted.only_to_peers_that_spoke);
        assert_eq!(found.version.version, wanted.version.version);
    }
}

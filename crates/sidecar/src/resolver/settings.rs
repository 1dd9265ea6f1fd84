//! The resolvers' settings, and the resolver that they select.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::ec2::{Ec2Options, Ec2Resolver};
use super::edgegap::{EdgegapOptions, EdgegapResolver};
use super::environment::{DockerOptions, EnvironmentResolver, KubernetesOptions};
use super::fixed::{StaticOptions, StaticResolver};
use super::interface::{InterfaceOptions, InterfaceResolver};
use super::{OptionsError, Resolver};
use crate::settings::{Block, Note, SettingsError, Variables};

/// Every resolver, by its name in the settings.
pub const RESOLVERS: [&str; 6] = [
    "static_resolver",
    "ec2_resolver",
    "edgegap_resolver",
    "docker_resolver",
    "kubernetes_resolver",
    "interface_resolver",
];

/// The resolver in use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ResolverSettings {
    /// `static_resolver`
    Static(StaticOptions),
    /// `ec2_resolver`
    Ec2(Ec2Options),
    /// `edgegap_resolver`
    Edgegap(EdgegapOptions),
    /// `docker_resolver`
    Docker(DockerOptions),
    /// `kubernetes_resolver`
    Kubernetes(KubernetesOptions),
    /// `interface_resolver`
    Interface(InterfaceOptions),
}

impl ResolverSettings {
    /// The options in the block of the resolver `name`.
    pub(crate) fn read(name: &str, block: &Block, warnings: &mut Vec<Note>) -> Result<Self, SettingsError> {
        let [fixed, ec2, edgegap, docker, kubernetes, _] = RESOLVERS;
        Ok(if name == fixed {
            Self::Static(block.read(warnings)?)
        } else if name == ec2 {
            Self::Ec2(block.read(warnings)?)
        } else if name == edgegap {
            Self::Edgegap(block.read(warnings)?)
        } else if name == docker {
            Self::Docker(block.read(warnings)?)
        } else if name == kubernetes {
            Self::Kubernetes(block.read(warnings)?)
        } else {
            Self::Interface(block.read(warnings)?)
        })
    }

    /// Its name in the settings.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        let [fixed, ec2, edgegap, docker, kubernetes, interface] = RESOLVERS;
        match self {
            Self::Static(_) => fixed,
            Self::Ec2(_) => ec2,
            Self::Edgegap(_) => edgegap,
            Self::Docker(_) => docker,
            Self::Kubernetes(_) => kubernetes,
            Self::Interface(_) => interface,
        }
    }

    fn resolver(&self, variables: &Variables) -> Result<Arc<dyn Resolver>, OptionsError> {
        Ok(match self {
            Self::Static(options) => Arc::new(StaticResolver::new(options.clone())),
            Self::Ec2(options) => Arc::new(Ec2Resolver::new(options)?),
            Self::Edgegap(options) => Arc::new(EdgegapResolver::new(options, variables)?),
            Self::Docker(options) => Arc::new(EnvironmentResolver::docker(options, variables)?),
            Self::Kubernetes(options) => Arc::new(EnvironmentResolver::kubernetes(options, variables)?),
            Self::Interface(options) => Arc::new(InterfaceResolver::new(options.clone())?),
        })
    }
}

impl Serialize for ResolverSettings {
    /// Only the options.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Static(options) => options.serialize(serializer),
            Self::Ec2(options) => options.serialize(serializer),
            Self::Edgegap(options) => options.serialize(serializer),
            Self::Docker(options) => options.serialize(serializer),
            Self::Kubernetes(options) => options.serialize(serializer),
            Self::Interface(options) => options.serialize(serializer),
        }
    }
}

/// The resolver that the settings select, if any. It sends no request yet.
///
/// # Errors
/// [`SettingsError`] with the path of the key: an option is invalid, or an environment variable is missing.
pub fn from_settings(
    settings: Option<&ResolverSettings>,
    variables: &Variables,
) -> Result<Option<Arc<dyn Resolver>>, SettingsError> {
    let Some(settings) = settings else { return Ok(None) };
    settings.resolver(variables).map(Some).map_err(|OptionsError { key, problem }| {
        let dot = if key.is_empty() { "" } else { "." };
        SettingsError::at(format!("app.resolver.configs.{}{dot}{key}", settings.name()), problem)
    })
}

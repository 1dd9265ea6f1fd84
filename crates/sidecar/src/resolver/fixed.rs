//! `static_resolver`: the address is in the settings, for machines with a fixed address.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Address, ResolveError, Resolver};

/// Options of `static_resolver`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StaticOptions {
    /// The address of every server; without a port, each server keeps its own.
    pub address: Address,
}

/// Always the same address.
#[derive(Debug)]
pub struct StaticResolver(Address);

impl StaticResolver {
    /// A resolver with this address.
    #[must_use]
    pub fn new(options: StaticOptions) -> Self {
        Self(options.address)
    }
}

#[async_trait]
impl Resolver for StaticResolver {
    fn name(&self) -> &'static str {
        "static_resolver"
    }

    async fn resolve(&self, _: &str) -> Result<Address, ResolveError> {
        Ok(self.0.clone())
    }

    fn release(&self, _: &str) {}
}

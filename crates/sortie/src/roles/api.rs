//! The API of a control plane, and the description of everything at its port.

use axum::Router;
use std::sync::Arc;

use sortie_api::{ApiOptions, Auth, Check, ConfiguredAllocator, LeadsBack, NamingOthers, PlayerRights};
use sortie_config::Config;
use sortie_domain::broker::Broker;
use sortie_domain::matchmaking::Matchmaker;
use sortie_engine::{Handle, SystemClock};
use sortie_openapi::Description;
use sortie_serving::Allowances;
use tokio_util::sync::CancellationToken;

use crate::edge;
use crate::platforms;
use crate::role::Role;

/// What the API is made of, in addition to its configuration.
pub(crate) struct ApiParts {
    pub(crate) auth: Auth,
    pub(crate) player_calls: Allowances,
    pub(crate) broker: Handle<Broker>,
    pub(crate) matchmaker: Option<Handle<Matchmaker>>,
    pub(crate) leads_back: Option<LeadsBack>,
    pub(crate) descriptions: Vec<Description>,
    pub(crate) checks: Vec<Check>,
    pub(crate) closing: CancellationToken,
}

/// The API.
pub(crate) struct ApiRole {
    router: Router,
}

impl ApiRole {
    pub(crate) fn new(config: &Config, parts: ApiParts) -> Self {
        let allocators = config.fleets.iter().map(|fleet| ConfiguredAllocator {
            name: fleet.fleet.id.to_string(),
            description: fleet.description.clone(),
            requirements: fleet.fleet.requirements.clone(),
            raw_configuration: fleet.raw_configuration(),
        });
        let router = sortie_api::router(ApiOptions {
            broker: parts.broker,
            matchmaker: parts.matchmaker,
            clock: Arc::new(SystemClock::start()),
            auth: parts.auth,
            player_rights: player_rights(config),
            leads_back: parts.leads_back,
            allocators: allocators.collect(),
            available_allocators: platforms::names().map(str::to_owned).collect(),
            source: "/sortie".to_owned(),
            limits: edge::api_limits(config),
            player_calls: parts.player_calls,
            described: parts.descriptions,
            checks: parts.checks,
            closing: parts.closing,
        });
        Self { router }
    }
}

fn player_rights(config: &Config) -> PlayerRights {
    PlayerRights {
        may_name_others: match config.player_rights.may_name_others {
            sortie_config::NamingOthers::No => NamingOthers::No,
            sortie_config::NamingOthers::PartyHook => NamingOthers::PartyHook,
            sortie_config::NamingOthers::Yes => NamingOthers::Yes,
        },
        may_rate_themselves: config.player_rights.may_rate_themselves,
    }
}

impl Role for ApiRole {
    fn router(&self) -> Router {
        self.router.clone()
    }
}

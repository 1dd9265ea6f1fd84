//! The gateway of a control plane: it serves players where there is a key for their connect tokens.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use futures::future::{BoxFuture, FutureExt as _};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::registry::Unit;
use sortie_api::{Auth, LeadsBack, Permission};
use sortie_config::{Config, Players};
use sortie_domain::broker::Broker;
use sortie_domain::matchmaking::Matchmaker;
use sortie_engine::Handle;
use sortie_gateway::{GameFleet, Gateway, GatewayOptions, LATENCY_BOUNDS, Latencies, SpeaksForPlayers};
use sortie_metrics::{Collector, Distribution, Samples};
use sortie_openapi::Description;
use sortie_tokens::Dialect;
use tokio_util::sync::CancellationToken;

use crate::edge;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::role::Role;

/// The gateway.
pub(crate) struct GatewayRole(Gateway);

impl GatewayRole {
    /// `None` without a key for connect tokens.
    ///
    /// # Errors
    /// [`Failure`] if the fleets' games do not fit together.
    pub(crate) fn open(
        config: &Config,
        (keys, auth): (&Keys, &Auth),
        (broker, matchmaker): (&Handle<Broker>, Option<Handle<Matchmaker>>),
        closing: &CancellationToken,
    ) -> Result<Option<Self>, Failure> {
        let Some(key) = keys.netcode.clone() else { return Ok(None) };
        let default = config.gateway.default_fleet.as_ref();
        let default = default.and_then(|id| config.fleets.iter().find(|fleet| fleet.fleet.id == *id));
        let options = GatewayOptions {
            matchmaker,
            reconnect_grace: config.gateway.reconnect_grace,
            rejoin: config.gateway.rejoin,
            default_game: default.and_then(|fleet| fleet.game.clone()),
            wait_deadline: config.gateway.wait_deadline,
            progress_interval: config.gateway.progress_interval,
            per_address: edge::address_limits(config),
            player_calls: keys.player_calls.clone(),
            closing: closing.clone(),
            trusted_proxies: config.gateway.trusted_proxies.clone(),
            cors_origins: config.gateway.cors_origins.clone(),
            loopback_replacement: config.gateway.loopback_ip_replacement,
            dev: config.dev,
            players: keys.players.clone(),
            must_sign_in: config.gateway.players == Players::SignedIn,
            speaks_for_players: (!config.dev).then(|| speaks_for_players(auth)),
            may_rate_themselves: config.player_rights.may_rate_themselves,
            ..GatewayOptions::new(game_fleets(config), key)
        };
        Ok(Some(Self(Gateway::new(broker.clone(), options)?)))
    }

    /// The match that a player is led back to.
    pub(crate) fn leads_back(&self) -> LeadsBack {
        let gateway = self.0.clone();
        Arc::new(move |broker, player, now| gateway.own_match(broker, player, now))
    }
}

/// The fleets that players may ask for by game.
fn game_fleets(config: &Config) -> Vec<GameFleet> {
    let fleets = config.fleets.iter().filter_map(|fleet| {
        Some(GameFleet {
            game: fleet.game.clone()?,
            fleet: fleet.fleet.id.clone(),
            preference: fleet.fleet.preference,
            capacity: fleet.capacity,
            seat_ttl: fleet.seat_ttl,
            dialect: dialect(fleet.dialect),
            protocol_id: fleet.protocol_id,
            properties: serde_json::Map::new(),
        })
    });
    fleets.collect()
}

fn speaks_for_players(auth: &Auth) -> SpeaksForPlayers {
    let auth = auth.clone();
    Arc::new(move |headers| auth.permits(headers, Permission::Client))
}

const fn dialect(dialect: sortie_config::Dialect) -> Dialect {
    match dialect {
        sortie_config::Dialect::Standard => Dialect::Standard,
        sortie_config::Dialect::Renet => Dialect::Renet,
        sortie_config::Dialect::Lightyear => Dialect::Lightyear,
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfPath {
    path: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfReason {
    reason: &'static str,
}

/// The numbers of the gateway.
struct Numbers(Gateway);

#[async_trait]
impl Collector for Numbers {
    async fn collect(&self, samples: &mut Samples) {
        let stats = self.0.stats();
        samples.gauge("gateway_waiting_players", "Players who wait for a seat", None, stats.waiting as u64);
        let paths = [("warm", stats.warm), ("cold", stats.cold), ("queue", stats.queued)];
        let paths = paths.map(|(path, latencies)| (OfPath { path }, distribution(&latencies)));
        let help = "How long joins took that led to a seat: on a running server (warm), on one that had to be started \
                    (cold), by a ticket of the matchmaker (queue)";
        samples.histograms("gateway_join", help, Some(Unit::Seconds), paths.to_vec());
        let failed = stats.failed.into_iter().map(|(reason, count)| (OfReason { reason }, count));
        samples.counters(
            "gateway_join_failures",
            "Joins that failed, since the start",
            None,
            failed.collect(),
        );
        let help = "Players who went away before they had an answer, since the start";
        samples.counter("gateway_abandoned_joins", help, None, stats.abandoned);
    }
}

fn distribution(latencies: &Latencies) -> Distribution {
    let bounds = LATENCY_BOUNDS.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
    Distribution { buckets: bounds.zip(latencies.counts).collect(), sum: latencies.sum.as_secs_f64() }
}

impl Role for GatewayRole {
    fn router(&self) -> Router {
        sortie_gateway::router(self.0.clone())
    }

    fn description(&self) -> Option<Description> {
        Some(sortie_gateway::description())
    }

    fn metrics(&self) -> Option<Arc<dyn Collector>> {
        Some(Arc::new(Numbers(self.0.clone())))
    }

    fn drained(&self) -> Option<BoxFuture<'static, ()>> {
        let gateway = self.0.clone();
        Some(async move { gateway.closed().await }.boxed())
    }
}

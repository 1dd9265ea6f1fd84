//! What the API is made of, and its limits.

use std::sync::Arc;
use std::time::Duration;

use sortie_domain::broker::Broker;
use sortie_domain::broker::model::Match;
use sortie_domain::ids::PlayerId;
use sortie_domain::matchmaking::Matchmaker;
use sortie_domain::time::Timestamp;
use sortie_engine::{Clock, Handle};
use sortie_openapi::Description;
use sortie_serving::Allowances;
use tokio_util::sync::CancellationToken;

use crate::auth::Auth;

/// The parts of the API.
pub struct ApiOptions {
    /// The broker that answers.
    pub broker: Handle<Broker>,
    /// The matchmaker that answers; without one its calls are refused.
    pub matchmaker: Option<Handle<Matchmaker>>,
    /// The clock for explanations.
    pub clock: Arc<dyn Clock>,
    /// Who may call.
    pub auth: Auth,
    /// What players may put into tickets that they start without a key.
    pub player_rights: PlayerRights,
    /// Finds the match that a player is led back to, if there is a gateway: players of such a match cannot start
    /// tickets.
    pub leads_back: Option<LeadsBack>,
    /// The fleets' allocators, in the order in which they are tried.
    pub allocators: Vec<ConfiguredAllocator>,
    /// Names of the allocators that this build has.
    pub available_allocators: Vec<String>,
    /// `source` of CloudEvents: a URI reference.
    pub source: String,
    /// Limits of requests and streams.
    pub limits: Limits,
    /// How often one player may call; shared with the other parts that take players' calls.
    pub player_calls: Allowances,
    /// Descriptions of other routes on the same port.
    pub described: Vec<Description>,
    /// What `/readyz` asks the other parts of the process.
    pub checks: Vec<Check>,
    /// Cancelled when the process shuts down: streams and held calls end, health reports it.
    pub closing: CancellationToken,
}

/// Something that is wrong although calls are served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Its stable name.
    pub code: &'static str,
    /// In words, for operators and for anybody else: health checks need no key.
    pub message: String,
}

/// What is wrong with a part of the process at the moment.
pub type Check = Arc<dyn Fn() -> Vec<Problem> + Send + Sync>;

/// One configured use of an allocator, as operators see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfiguredAllocator {
    /// The fleet's id.
    pub name: String,
    /// A description for operators.
    pub description: String,
    /// JMESPath over the match document; empty takes any match.
    pub requirements: String,
    /// Its configuration as a JSON text, without secrets.
    pub raw_configuration: String,
}

/// Limits of requests and streams.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Limits of requests.
    pub serving: sortie_serving::Limits,
    /// Maximum number of concurrent streams of players' events.
    pub player_streams: usize,
    /// Maximum number of concurrent streams that follow the whole log: CloudEvents, events by tag.
    pub log_streams: usize,
    /// Maximum number of concurrent streams about one player.
    pub streams_per_player: usize,
    /// Maximum number of concurrent streams of one key.
    pub streams_per_key: usize,
    /// Maximum number of concurrent calls that wait for news of a match.
    pub waits: usize,
    /// The same for one key.
    pub waits_per_key: usize,
    /// Maximum number of concurrent watches of health and conversations about reflection.
    pub watches: usize,
    /// The same for one address (IPv6: one /64).
    pub watches_per_address: usize,
    /// Time between signs of life on a stream, and maximum wait for news of a match.
    pub heartbeat: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            serving: sortie_serving::Limits::default(),
            player_streams: 50_000,
            log_streams: 4_000,
            streams_per_player: 16,
            streams_per_key: 1_000,
            waits: 50_000,
            waits_per_key: 10_000,
            watches: 4_096,
            watches_per_address: 16,
            heartbeat: Duration::from_secs(15),
        }
    }
}

/// What players may put into tickets that they start without a key. The default is the safe one.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PlayerRights {
    /// Whether a player may start tickets for others too.
    pub may_name_others: NamingOthers,
    /// Whether ratings and other numbers that rules use are accepted from players.
    pub may_rate_themselves: bool,
}

/// Whether a player may start tickets for others too.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum NamingOthers {
    /// Never.
    No,
    /// In queues with the hooks `party_membership` and `validate_ticket`; the latter checks who belongs together.
    #[default]
    PartyHook,
    /// In every queue.
    Yes,
}

/// Finds the live match that a player is led back to; `None` if there is none.
pub type LeadsBack = Arc<dyn for<'a> Fn(&'a Broker, &PlayerId, Timestamp) -> Option<&'a Match> + Send + Sync>;

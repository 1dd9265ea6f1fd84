//! The data folder at a start: its files checked, its lock held, its logs open. Nothing outside of it is touched here.
//! Every reason in the folder to refuse a start is found here, except for the clock, which is checked against replayed
//! machines ([`crate::machine_start`]).

use sortie_allocators::local_process::orders_of_running;
use sortie_config::Config;
use sortie_domain::ids::AllocationId;
use sortie_domain::time::Timestamp;
use sortie_engine::EmbeddedLog;
use sortie_engine::log::{Log, create_folder};
use sortie_wire::cloud_event::rfc3339;

use crate::boot_clock;
use crate::failure::Failure;
use crate::installation::Installation;
use crate::presence::Presence;
use crate::private;
use crate::roles::matchmaker;
use crate::room::Unwritten;
use crate::used::{self, Accepted, Opening};

/// The data folder of this process.
pub(crate) struct Opened {
    pub(crate) log: EmbeddedLog,
    /// `None` if no matchmaker is configured.
    pub(crate) log_of_matchmaker: Option<Box<dyn Log>>,
    pub(crate) installation: Installation,
    pub(crate) presence: Option<Presence>,
    /// What there was no room for.
    pub(crate) unwritten: Unwritten,
}

impl Opened {
    /// Opens the data folder of the configuration; creates it if necessary.
    ///
    /// # Errors
    /// [`Failure`] if it may not or cannot be used.
    pub(crate) async fn open(config: &Config, accepted: Accepted) -> Result<Self, Failure> {
        create_folder(&config.data)
            .map_err(|error| Failure::of(format!("cannot create {}", config.data.display()), error))?;
        // First, because a folder that may not be used must not be changed either.
        Installation::check(&config.data)?;
        private::check_user(&config.data)?;
        // After that, because it holds the folder's lock.
        let log = Opening::of(&config.data, used::BROKER, config.log.retention, accepted)?.open()?;
        boot_clock::check(&config.data, accepted.clock)?;
        let mut unwritten = Unwritten::default();
        let mut installation = installation(config, &log, &mut unwritten)?;
        let presence = Presence::claim(installation.id()).await?;
        let log_of_matchmaker = matchmaker::open(config, &mut installation, accepted)?;
        check_servers(&installation, log.last_alive(), accepted).await?;
        private::tighten(&config.data);
        Ok(Self { log, log_of_matchmaker, installation, presence, unwritten })
    }
}

/// The installation of the data folder. If there is no room for a new id, it is written later, provided that the log
/// has anything to serve until then.
fn installation(
    config: &Config,
    log: &EmbeddedLog,
    unwritten: &mut Unwritten,
) -> Result<Installation, Failure> {
    let mut installation = Installation::open(&config.data)?;
    if installation.is_kept()? {
        used::note(&mut installation, &config.data, used::BROKER)?;
        return Ok(installation);
    }
    let own = installation.clone();
    if log.reader().last_seq() > 0 {
        unwritten.write(move || own.keep())?;
    } else {
        own.keep()?;
    }
    used::note(&mut installation, &config.data, used::BROKER)?;
    Ok(installation)
}

/// Refuses the start if game servers of this installation run that were ordered after the end of the log: the log was
/// replaced by an older one, and the servers would be stopped as unknown. Changes nothing.
async fn check_servers(
    installation: &Installation,
    log_ends: Timestamp,
    accepted: Accepted,
) -> Result<(), Failure> {
    // A log of an earlier version does not say when it ended.
    if accepted.loss || log_ends == Timestamp::ZERO {
        return Ok(());
    }
    let running = orders_of_running(installation.id())
        .await
        .map_err(|error| Failure::of("cannot look for game servers that run", error))?;
    let later: Vec<_> =
        running.iter().filter(|order| drawn_at(order).is_some_and(|drawn| drawn > log_ends)).collect();
    let Some(first) = later.first() else { return Ok(()) };
    Err(Failure::new(format!(
        "{} game servers of this installation run that were started after its log ends, at {}; the first one is \
         {first}. The data folder is older than it was, as if a backup had been put back. Nothing was changed. Put the \
         newest files back, or continue without what happened since with `sortie up --accept-loss`, which stops these servers",
        later.len(),
        rfc3339(log_ends),
    )))
}

/// When the broker generated this id.
fn drawn_at(order: &AllocationId) -> Option<Timestamp> {
    let (_, id) = order.as_str().split_once('-')?;
    let (seconds, nanos) = uuid::Uuid::parse_str(id).ok()?.get_timestamp()?.to_unix();
    Some(Timestamp::from_millis(seconds.checked_mul(1000)?.checked_add(u64::from(nanos / 1_000_000))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_says_when_it_was_given() {
        let of = |id: &str| drawn_at(&AllocationId::new(id).unwrap());
        // The first 48 bits of a uuid of version 7 are milliseconds since 1970.
        let drawn = of("allocation-0192e0c4-0000-7000-8000-000000000001");
        assert_eq!(drawn, Some(Timestamp::from_millis(0x0192_e0c4_0000)));
        for other in ["allocation-1", "x", "allocation-0192e0c4-0000-4000-8000-000000000001"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}

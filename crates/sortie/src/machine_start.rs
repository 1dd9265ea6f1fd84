//! Starting a machine on its log: what is refused, what an operator may accept, and what waits until there is room.
//!
//! Every machine is prepared before any of them runs, so that a start is refused before anything outside is changed.

use std::time::Duration;

use sortie_domain::broker::Broker;
use sortie_domain::machine::Machine;
use sortie_domain::matchmaking::Matchmaker;
use sortie_engine::supervisor::{OnFailure, Stage, Supervisor};
use sortie_engine::{
    CallError, ClockGuard, Engine, Handle, Hosted, Parts, Prepared, StartError, Unavailable,
};
use sortie_wire::cloud_event::rfc3339;

use crate::failure::Failure;
use crate::used::Accepted;

/// Pause between attempts to apply the configuration.
const CONFIGURE_PAUSE: Duration = Duration::from_millis(500);

/// Whether a match is queued or running.
pub(crate) fn broker_is_live(broker: &Broker) -> bool {
    broker.queued().next().is_some() || broker.active().next().is_some()
}

/// Whether a ticket waits.
pub(crate) fn matchmaker_is_live(matchmaker: &Matchmaker) -> bool {
    !matchmaker.tickets(0, 1).items.is_empty() || matchmaker.formations().next().is_some()
}

/// Replays the log of the machine `name`, which does not act yet.
pub(crate) async fn prepare<M: Hosted>(
    name: &str,
    parts: Parts<M>,
    is_live: fn(&M) -> bool,
    accepted: Accepted,
) -> Result<Prepared<M>, Failure> {
    let guard = ClockGuard { accept: accepted.clock, is_live };
    Engine::prepare(parts, guard).await.map_err(|error| match error {
        StartError::ClockAhead { last, now } => Failure::new(format!(
            "the clock says {}, but the log of the {name} ends at {}: either the clock is wrong, then set it, or this \
             control plane was off for that long. Start with --accept-clock if that is so: deadlines that have passed \
             in that time then fire at once, which ends matches and tickets, and timestamps continue from the clock's time",
            rfc3339(now),
            rfc3339(last),
        )),
        other => other.into(),
    })
}

/// A configuration that could not be applied yet.
pub(crate) struct Pending<M: Hosted> {
    name: &'static str,
    machine: Handle<M>,
    command: Box<dyn Fn() -> M::Command + Send + Sync>,
}

/// Applies a configuration. If the machine's log accepts nothing at the moment, its content can still be read, so that
/// does not prevent the start: the attempt is returned then.
pub(crate) async fn configure<M: Hosted>(
    name: &'static str,
    machine: &Handle<M>,
    command: impl Fn() -> M::Command + Send + Sync + 'static,
) -> Result<Option<Pending<M>>, Failure>
where
    <M as Machine>::Refusal: std::fmt::Display,
{
    match machine.call(command()).await {
        Ok(_) => Ok(None),
        Err(CallError::Unavailable(why)) if may_pass(why) => {
            tracing::error!(%why, "the configuration of the {name} is not in force; existing data can be read");
            Ok(Some(Pending { name, machine: machine.clone(), command: Box::new(command) }))
        }
        Err(error) => Err(Failure::of(format!("cannot configure the {name}"), error)),
    }
}

const fn may_pass(why: Unavailable) -> bool {
    match why {
        Unavailable::DiskFull
        | Unavailable::DiskFailed
        | Unavailable::Interrupted
        | Unavailable::Overloaded => true,
        Unavailable::BatchTooLarge | Unavailable::ShuttingDown | Unavailable::Stopped => false,
    }
}

type Problem = Box<dyn std::error::Error + Send + Sync>;

/// Retries until the configuration is applied.
pub(crate) fn spawn_configure<M: Hosted>(supervisor: &mut Supervisor, pending: Option<Pending<M>>)
where
    <M as Machine>::Refusal: std::fmt::Display,
{
    let Some(Pending { name, machine, command }) = pending else { return };
    let task = "the configuration that waits for room";
    supervisor.spawn(task, Stage::Work, OnFailure::StopAll, move |stop| async move {
        let attempts = async {
            loop {
                match machine.call(command()).await {
                    Ok(_) => return Ok::<_, Problem>(()),
                    Err(CallError::Unavailable(why)) if may_pass(why) => {
                        tokio::time::sleep(CONFIGURE_PAUSE).await;
                    }
                    Err(CallError::Unavailable(_)) => return Ok(()),
                    Err(CallError::Refused(refusal)) => {
                        return Err(format!("cannot configure the {name}: {refusal}").into());
                    }
                }
            }
        };
        tokio::select! {
            done = attempts => done.inspect(|()| tracing::info!("the configuration of the {name} is in force")),
            () = stop.stopped() => Ok(()),
        }
    });
}

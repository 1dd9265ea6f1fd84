//! Performs the matchmaker's effects.

use std::sync::OnceLock;

use async_trait::async_trait;
use sortie_domain::broker::{self, Broker};
use sortie_domain::ids::{HookId, MatchId, QueueId};
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::matchmaking::model::marked;
use sortie_domain::matchmaking::{Command, Effect, Matchmaker, TicketVerdict};
use sortie_engine::{CallError, Handle, Performer, Retry};
use tokio::sync::Semaphore;

use crate::hooks::{HookOptions, Hooks};
use crate::seats::Seats;

/// Performs the matchmaker's effects: matches go to the broker, questions to hooks.
///
/// Calls of hooks are never retried: the configuration says what a failure means, and players wait.
pub struct Work {
    broker: Handle<Broker>,
    hooks: Hooks,
    seats: Seats,
    /// Who is asked which tickets the hook of a round may use.
    maker: OnceLock<Handle<Matchmaker>>,
    /// One round's tickets are read at a time: the machine does nothing else meanwhile.
    reading: Semaphore,
}

impl Work {
    /// Submits matches to `broker` and calls `hooks`; no `form_match` hook before [`Work::connect`].
    #[must_use]
    pub fn new(broker: Handle<Broker>, hooks: Hooks) -> Self {
        let (maker, reading) = (OnceLock::new(), Semaphore::new(1));
        Self { seats: Seats::new(broker.clone()), broker, hooks, maker, reading }
    }

    /// Whose effects these are. Only the first counts.
    pub fn connect(&self, maker: Handle<Matchmaker>) {
        self.maker.get_or_init(|| maker);
    }

    /// What a hook makes of the tickets of a round; `None` where the round is over.
    async fn form(&self, hook: &HookId, queue: QueueId, round: u64) -> Result<Option<Command>, Retry> {
        let maker = self.maker.get().ok_or_else(|| Retry::because("the matchmaker is not connected yet"))?;
        let of = queue.clone();
        let turn = self.reading.acquire().await.map_err(|closed| Retry::because(closed.to_string()))?;
        let asked = maker.query(move |maker| maker.asked_about(&of, round)).await;
        drop(turn);
        let Some(tickets) = asked.map_err(|why| Retry::because(why.to_string()))? else { return Ok(None) };
        let matches = if tickets.is_empty() {
            Some(Vec::new())
        } else {
            self.know(&queue, hook).await?;
            self.hooks.form_matches(&queue, hook, round, &tickets).await.ok()
        };
        Ok(Some(Command::MatchesFormed { queue, round, matches }))
    }

    /// Lets a hook be called that is not configured any more: the hook of a removed queue, whose tickets keep it.
    async fn know(&self, queue: &QueueId, hook: &HookId) -> Result<(), Retry> {
        if self.hooks.knows(queue, hook) {
            return Ok(());
        }
        let maker = self.maker.get().ok_or_else(|| Retry::because("the matchmaker is not connected yet"))?;
        let (of, id) = (queue.clone(), hook.clone());
        let found = maker.query(move |maker| maker.hook(&of, &id).cloned()).await;
        let found = found.map_err(|why| Retry::because(why.to_string()))?;
        let Some((timeout, address)) = found.and_then(|hook| Some((hook.timeout, hook.address?))) else {
            return Ok(());
        };
        let learned = HookOptions::stored(timeout, address).and_then(|options| {
            let learned = self.hooks.learn(queue, hook, options);
            learned.map_err(|why| why.to_string())
        });
        if let Err(problem) = learned {
            tracing::warn!(%queue, %hook, %problem, "a hook of a removed queue cannot be called; its default applies");
        }
        Ok(())
    }

    async fn submit(&self, match_id: MatchId, spec: MatchSpec) -> Result<Command, Retry> {
        let spec = marked(&match_id, spec);
        let command = broker::Command::SubmitMatch { id: Some(match_id.clone()), spec };
        match self.broker.call(command).await {
            Ok(_) => Ok(Command::Submitted { match_id }),
            // Retry: there will be room again.
            Err(CallError::Refused(
                refusal @ (broker::Refusal::TooMany { .. } | broker::Refusal::OverBudget { .. }),
            )) => Err(Retry::because(refusal.to_string())),
            Err(CallError::Refused(refusal)) => {
                Ok(Command::NoServer { match_id, reason: refusal.to_string() })
            }
            Err(CallError::Unavailable(why)) => Err(Retry::because(why.to_string())),
        }
    }

    async fn withdraw(&self, match_id: MatchId) -> Result<Command, Retry> {
        match self.broker.call(broker::Command::CancelMatch { id: match_id.clone() }).await {
            // Refused: it never got there, or is over.
            Ok(_) | Err(CallError::Refused(_)) => Ok(Command::Withdrawn { match_id }),
            Err(CallError::Unavailable(why)) => Err(Retry::because(why.to_string())),
        }
    }
}

#[async_trait]
impl Performer<Matchmaker> for Work {
    /// Effects for one match run in order, so that a match is never withdrawn before it is submitted, and released
    /// seats are never those of a later ticket of the same player.
    fn key(&self, effect: &Effect) -> String {
        match effect {
            Effect::ValidateTicket { ticket, .. } => format!("ticket {ticket}"),
            Effect::FormMatches { queue, .. } => format!("queue {queue}"),
            Effect::CheckMatch { match_id, .. }
            | Effect::Submit { match_id, .. }
            | Effect::Withdraw { match_id }
            | Effect::Seat { match_id, .. } => format!("match {match_id}"),
        }
    }

    /// A hook may be slow for one queue, which must not slow down other queues or the broker.
    fn group(&self, effect: &Effect) -> String {
        match effect {
            Effect::ValidateTicket { queue, hook, .. }
            | Effect::FormMatches { queue, hook, .. }
            | Effect::CheckMatch { queue, hook, .. } => format!("hook {hook} of {queue}"),
            Effect::Submit { .. } | Effect::Withdraw { .. } | Effect::Seat { .. } => "broker".to_owned(),
        }
    }

    async fn perform(&self, effect: Effect) -> Result<Option<Command>, Retry> {
        let outcome = match effect {
            Effect::ValidateTicket { hook, ticket, queue, spec } => {
                self.know(&queue, &hook).await?;
                let outcome = self.hooks.validate_ticket(&queue, &hook, &ticket, &spec).await;
                Command::TicketValidated { ticket, hook, outcome: outcome.unwrap_or(TicketVerdict::Failed) }
            }
            Effect::FormMatches { hook, queue, round } => return self.form(&hook, queue, round).await,
            Effect::CheckMatch { hook, match_id, queue, teams, spec } => {
                self.know(&queue, &hook).await?;
                let outcome = self.hooks.check_match(&queue, &hook, &match_id, &teams, &spec).await;
                let outcome = outcome.unwrap_or(sortie_domain::matchmaking::MatchVerdict::Failed);
                Command::MatchChecked { match_id, hook, outcome }
            }
            Effect::Submit { match_id, spec } => self.submit(match_id, (*spec).clone()).await?,
            Effect::Withdraw { match_id } => self.withdraw(match_id).await?,
            Effect::Seat { match_id, ticket } => self.seats.take(match_id, ticket).await?,
        };
        Ok(Some(outcome))
    }

    async fn refused(&self, effect: Effect) -> Result<(), Retry> {
        match effect {
            Effect::Seat { match_id, ticket } => self.seats.give_back(&match_id, &ticket.ticket).await,
            _ => Ok(()),
        }
    }
}

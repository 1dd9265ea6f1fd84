//! Commands in flight to the matchmaker: in order for one match, concurrent for different matches.

use std::collections::{BTreeMap, VecDeque};

use sortie_domain::ids::MatchId;
use sortie_domain::matchmaking::{Command, Matchmaker};
use sortie_engine::{CallError, Handle};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Ended, PAUSE};

/// Maximum number of commands that wait for an answer, or for an earlier one; at the limit reading of the broker's log
/// pauses.
const MAX_TOLD_AT_ONCE: usize = 1_024;

pub(super) struct Telling {
    maker: Handle<Matchmaker>,
    /// One task for each match with a command in flight. Dropping it withdraws commands without an answer.
    running: JoinSet<(MatchId, Result<(), Ended>)>,
    /// The next commands for each of them.
    behind: BTreeMap<MatchId, VecDeque<Command>>,
    count: usize,
}

impl Telling {
    pub(super) fn new(maker: Handle<Matchmaker>) -> Self {
        Self { maker, running: JoinSet::new(), behind: BTreeMap::new(), count: 0 }
    }

    pub(super) const fn has_room(&self) -> bool {
        self.count < MAX_TOLD_AT_ONCE
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    pub(super) fn is_telling(&self, id: &MatchId) -> bool {
        self.behind.contains_key(id)
    }

    /// Queues a command about a match behind earlier ones.
    pub(super) fn tell(&mut self, id: MatchId, command: Command) {
        self.count += 1;
        if let Some(behind) = self.behind.get_mut(&id) {
            behind.push_back(command);
        } else {
            self.behind.insert(id.clone(), VecDeque::new());
            self.start(id, command);
        }
    }

    fn start(&mut self, id: MatchId, command: Command) {
        let maker = self.maker.clone();
        self.running.spawn(async move {
            let told = tell(&maker, command).await;
            (id, told)
        });
    }

    /// Returns when the matchmaker has answered one of them; at once if there are none.
    pub(super) async fn told(&mut self) -> Result<(), Ended> {
        let Some(told) = self.running.join_next().await else { return Ok(()) };
        // Tasks are not aborted and do not panic, unless the process ends.
        let (id, told) = told.map_err(|_| Ended::Engine)?;
        self.count -= 1;
        let next = self.behind.get_mut(&id).and_then(VecDeque::pop_front);
        match next {
            Some(command) => self.start(id, command),
            None => drop(self.behind.remove(&id)),
        }
        told
    }

    /// Returns when there is room for another command.
    pub(super) async fn make_room(&mut self) -> Result<(), Ended> {
        while !self.has_room() {
            self.told().await?;
        }
        Ok(())
    }

    /// Returns when the matchmaker has answered all.
    pub(super) async fn finish(&mut self) -> Result<(), Ended> {
        while !self.is_idle() {
            self.told().await?;
        }
        Ok(())
    }
}

/// Returns when the matchmaker has answered. A refused command is of no use to it.
async fn tell(maker: &Handle<Matchmaker>, command: Command) -> Result<(), Ended> {
    loop {
        match maker.call(command.clone()).await {
            Ok(_) => return Ok(()),
            Err(CallError::Refused(refusal)) if matches!(command, Command::OfferSeats { .. }) => {
                tracing::warn!(%refusal, "free seats of a match cannot be offered to tickets");
                return Ok(());
            }
            Err(CallError::Refused(refusal)) => {
                tracing::debug!(%refusal, "the matchmaker refused news from the broker");
                return Ok(());
            }
            Err(CallError::Unavailable(why)) => {
                if matches!(Ended::from(why), Ended::Engine) {
                    return Err(Ended::Engine);
                }
                sleep(PAUSE).await;
            }
        }
    }
}

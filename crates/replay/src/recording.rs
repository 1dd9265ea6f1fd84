//! Which tickets came, when, and when they were called off.

use std::collections::BTreeMap;
use std::sync::Arc;

use sortie_domain::ids::TicketId;
use sortie_domain::machine::Record;
use sortie_domain::matchmaking::model::{CancelCause, FailCause, TicketSpec};
use sortie_domain::matchmaking::{Event, Settings};
use sortie_domain::time::Timestamp;

/// Most tickets of one recording.
pub const MAX_ARRIVALS: usize = 10_000_000;

/// A ticket that came.
#[derive(Clone, PartialEq, Debug)]
pub struct Arrival {
    /// Its id.
    pub id: TicketId,
    /// From when it waited: when hooks elsewhere had nothing against it (any more).
    pub at: Timestamp,
    /// What was asked for, after those hooks.
    pub spec: Arc<TicketSpec>,
    /// When it was called off on request, where it was.
    pub left_at: Option<Timestamp>,
}

/// What is known of a time.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Recording {
    /// The tickets, by time.
    pub arrivals: Vec<Arrival>,
    /// The settings, and from when on; those that were in force at the beginning come first.
    pub settings: Vec<(Timestamp, Arc<Settings>)>,
    /// Tickets that a hook elsewhere refused, which are left out.
    pub refused: usize,
    /// Tickets beyond [`MAX_ARRIVALS`], which are left out.
    pub beyond: usize,
}

/// Makes a recording of events.
#[derive(Default)]
pub struct Recorder {
    found: Recording,
    by_id: BTreeMap<TicketId, usize>,
    /// Tickets that hooks elsewhere look at.
    checking: BTreeMap<TicketId, Arc<TicketSpec>>,
}

impl Recorder {
    /// A recorder that knows no event.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The settings in force before the first event, where they are known.
    pub fn begin(&mut self, settings: Arc<Settings>) {
        self.found.settings.insert(0, (Timestamp::ZERO, settings));
    }

    /// The next event of the log.
    pub fn note(&mut self, record: &Record<Event>) {
        let at = record.time;
        match &record.event {
            Event::Configured { settings } | Event::Reconfigured { settings } => {
                self.found.settings.push((at, Arc::clone(settings)));
            }
            Event::TicketStarted { id, spec, check: None, .. } => self.arrived(id, at, spec),
            Event::TicketStarted { id, spec, check: Some(_), .. } => {
                self.checking.insert(id.clone(), Arc::clone(spec));
            }
            Event::TicketChecked { id, spec, queue, check: None, .. } => {
                self.checking.remove(id);
                let mut spec = Arc::clone(spec);
                // A hook may have sent it there.
                Arc::make_mut(&mut spec).queue = queue.clone();
                self.arrived(id, at, &spec);
            }
            Event::TicketCancelled { ticket, cause: CancelCause::Requested | CancelCause::Abandoned } => {
                self.left(&ticket.ticket, at);
            }
            Event::TicketFailed { ticket, cause: FailCause::Refused, .. }
                if self.checking.remove(&ticket.ticket).is_some() =>
            {
                self.found.refused += 1;
            }
            _ => {}
        }
    }

    fn arrived(&mut self, id: &TicketId, at: Timestamp, spec: &Arc<TicketSpec>) {
        if self.found.arrivals.len() >= MAX_ARRIVALS {
            self.found.beyond += 1;
            return;
        }
        self.by_id.insert(id.clone(), self.found.arrivals.len());
        self.found.arrivals.push(Arrival { id: id.clone(), at, spec: Arc::clone(spec), left_at: None });
    }

    fn left(&mut self, id: &TicketId, at: Timestamp) {
        self.checking.remove(id);
        let at_index = self.by_id.get(id).and_then(|index| self.found.arrivals.get_mut(*index));
        if let Some(arrival) = at_index {
            arrival.left_at = Some(at);
        }
    }

    /// What was recorded.
    #[must_use]
    pub fn finish(self) -> Recording {
        self.found
    }
}

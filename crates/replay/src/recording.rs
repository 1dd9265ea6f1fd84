//! Which tickets came, when, and when they were cancelled.

use std::collections::BTreeMap;
use std::sync::Arc;

use sortie_domain::ids::TicketId;
use sortie_domain::machine::Record;
use sortie_domain::matchmaking::model::{CancelCause, FailCause, TicketSpec};
use sortie_domain::matchmaking::{Event, Settings};
use sortie_domain::time::Timestamp;

/// Maximum number of tickets in a recording.
pub const MAX_ARRIVALS: usize = 10_000_000;

/// A ticket in a recording.
#[derive(Clone, PartialEq, Debug)]
pub struct Arrival {
    /// Its id.
    pub id: TicketId,
    /// When it began to wait: once all external hooks had accepted it.
    pub at: Timestamp,
    /// The request, after those hooks.
    pub spec: Arc<TicketSpec>,
    /// When it was cancelled on request, if it was.
    pub left_at: Option<Timestamp>,
}

/// The recorded tickets and settings of a period.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Recording {
    /// The tickets, sorted by time.
    pub arrivals: Vec<Arrival>,
    /// The settings, each with its start time, beginning with those that were initially in force.
    pub settings: Vec<(Timestamp, Arc<Settings>)>,
    /// Number of tickets that an external hook refused; they are left out.
    pub refused: usize,
    /// Number of tickets beyond [`MAX_ARRIVALS`]; they are left out.
    pub beyond: usize,
}

/// Builds a recording from events.
#[derive(Default)]
pub struct Recorder {
    found: Recording,
    by_id: BTreeMap<TicketId, usize>,
    /// Tickets that external hooks are checking.
    checking: BTreeMap<TicketId, Arc<TicketSpec>>,
}

impl Recorder {
    /// A recorder without events.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the settings in force before the first event, if known.
    pub fn begin(&mut self, settings: Arc<Settings>) {
        self.found.settings.insert(0, (Timestamp::ZERO, settings));
    }

    /// Adds the next event of the log.
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
                // A hook may have moved it there.
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

    /// The finished recording.
    #[must_use]
    pub fn finish(self) -> Recording {
        self.found
    }
}

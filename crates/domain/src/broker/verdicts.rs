//! What is remembered about expressions that have to be evaluated: how far each has been tried on the queue, and which
//! matches fitted.
//!
//! An expression is tried on matches from the oldest on, and only until one fits. So each expression has a place (up to
//! which only the recorded places fit) and a few fitting places. The expensive verdict about each pair of an expression
//! and a match is computed only once although it is not stored. A table of verdicts would be as large as expressions
//! times matches.
//!
//! A step does a limited amount of this work. Tried matches are remembered, so that an interrupted search resumes in
//! the next step where it stopped.
//!
//! Matches that only servers of one fleet may take are tried separately from those for any server, so that servers of
//! other fleets neither evaluate nor skip them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use crate::ids::FleetId;
use crate::requirements::{Requirements, Search};

/// Maximum number of remembered expressions. Those used least recently are forgotten first.
const MAX_REMEMBERED: usize = 10_000;
/// Maximum number of fitting places kept for one expression and fleet. There is more than one only if matches came back
/// to old places.
const MAX_FITTING: usize = 64;
/// Maximum number of remembered pairs of an expression and a fleet; one takes at most about 1 KiB.
const MAX_PROGRESS: usize = 50_000;

/// Places of matches, by the one fleet whose servers may take them.
pub(crate) type ByFleet = BTreeMap<Option<FleetId>, BTreeSet<u64>>;

#[derive(Default)]
pub(crate) struct Verdicts {
    by_text: BTreeMap<Arc<str>, Remembered>,
    by_use: BTreeMap<u64, Arc<str>>,
    uses: u64,
    /// Pairs of an expression and a fleet in `by_text`.
    progress: usize,
    returned: Returned,
}

#[derive(Default)]
struct Remembered {
    used: u64,
    progress: BTreeMap<Option<FleetId>, Progress>,
}

/// How far an expression has been tried on the matches of one fleet.
#[derive(Default)]
struct Progress {
    /// Places up to this one have been tried, except for matches that came back since.
    seen: u64,
    /// Returns up to this one have been tried.
    returns_seen: u64,
    /// Those of them that fit; some may have left the queue.
    fitting: BTreeSet<u64>,
}

/// Matches that came back to a place that some expression had passed.
#[derive(Default)]
struct Returned {
    count: u64,
    by_number: BTreeMap<u64, u64>,
    by_place: BTreeMap<u64, u64>,
    /// The furthest place that any expression has been tried on.
    furthest: u64,
}

impl Verdicts {
    /// A match was added at this place.
    pub(crate) fn enter(&mut self, place: u64) {
        let returned = &mut self.returned;
        if place <= returned.furthest {
            returned.count += 1;
            returned.by_number.insert(returned.count, place);
            returned.by_place.insert(place, returned.count);
        }
    }

    /// The match at this place was removed.
    pub(crate) fn leave(&mut self, place: u64) {
        if let Some(number) = self.returned.by_place.remove(&place) {
            self.returned.by_number.remove(&number);
        }
    }

    /// The oldest of `places`, those of matches for `fleet` or for any server, that fits the expression `text`, if it
    /// is before `end`. `fits` is called once for each place, while `requirements` have work left in this step.
    pub(crate) fn oldest(
        &mut self,
        requirements: &Requirements,
        text: &Arc<str>,
        places: &BTreeSet<u64>,
        fleet: Option<&FleetId>,
        end: Option<u64>,
        mut fits: impl FnMut(u64) -> bool,
    ) -> Search<u64> {
        self.remember(text);
        let Some(remembered) = self.by_text.get_mut(text) else { return Search::Nothing };
        let known = &mut self.progress;
        let progress = remembered.progress.entry(fleet.cloned()).or_insert_with(|| {
            *known += 1;
            Progress { returns_seen: self.returned.count, ..Progress::default() }
        });
        let found = progress.first(requirements, places, end, &self.returned, &mut fits);
        self.returned.furthest = self.returned.furthest.max(progress.seen);
        found
    }

    /// Marks the expression as used, and remembers it.
    fn remember(&mut self, text: &Arc<str>) {
        let is_known = self.by_text.contains_key(text);
        while (self.by_text.len() >= MAX_REMEMBERED && !is_known) || self.progress >= MAX_PROGRESS {
            let oldest = self.by_use.values().find(|oldest| *oldest != text).cloned();
            let Some(oldest) = oldest else { break };
            if let Some(forgotten) = self.by_text.remove(&oldest) {
                self.by_use.remove(&forgotten.used);
                self.progress -= forgotten.progress.len();
            }
        }
        self.uses += 1;
        let remembered = self.by_text.entry(Arc::clone(text)).or_default();
        self.by_use.remove(&remembered.used);
        remembered.used = self.uses;
        self.by_use.insert(self.uses, Arc::clone(text));
    }

    /// Records the verdict about one match, if the expression has been tried on all before it.
    pub(crate) fn note(
        &mut self,
        text: &str,
        places: &ByFleet,
        of: &Option<FleetId>,
        place: u64,
        fits: bool,
    ) {
        let Some(progress) = self.by_text.get_mut(text).and_then(|found| found.progress.get_mut(of)) else {
            return;
        };
        let next = places.get(of).and_then(|places| places.range(progress.seen + 1..).next());
        if next == Some(&place) {
            progress.seen = place;
            self.returned.furthest = self.returned.furthest.max(place);
            if fits {
                progress.keep(place);
            }
        }
    }
}

impl Progress {
    /// The first fitting place, if it is before `end`.
    fn first(
        &mut self,
        requirements: &Requirements,
        places: &BTreeSet<u64>,
        end: Option<u64>,
        returned: &Returned,
        fits: &mut impl FnMut(u64) -> bool,
    ) -> Search<u64> {
        for (number, place) in returned.by_number.range(self.returns_seen + 1..) {
            if requirements.is_spent() {
                return Search::Unfinished;
            }
            requirements.spend(1);
            // Places further ahead are tried in their turn.
            let is_new = *place <= self.seen && places.contains(place) && !self.fitting.contains(place);
            if is_new && fits(*place) {
                self.keep(*place);
            }
            self.returns_seen = *number;
        }
        self.returns_seen = returned.count;
        while let Some(place) = self.fitting.first().copied() {
            if places.contains(&place) {
                return Search::Found(place);
            }
            self.fitting.pop_first();
        }
        let ahead = places.range(self.seen + 1..).copied();
        for place in ahead.take_while(|place| end.is_none_or(|end| *place < end)) {
            if requirements.is_spent() {
                return Search::Unfinished;
            }
            self.seen = place;
            if fits(place) {
                self.keep(place);
                return Search::Found(place);
            }
        }
        Search::Nothing
    }

    /// If there are too many, the youngest is forgotten, and places from there on are tried again.
    fn keep(&mut self, place: u64) {
        self.fitting.insert(place);
        if self.fitting.len() > MAX_FITTING
            && let Some(youngest) = self.fitting.pop_last()
        {
            self.seen = self.seen.min(youngest.saturating_sub(1));
        }
    }
}

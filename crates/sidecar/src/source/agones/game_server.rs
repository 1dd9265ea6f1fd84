//! The game server in Agones' terms: its state, its metadata, its match, and its timers.
//!
//! A plain struct without clock or network: every input carries the time since the source began, and the caller reads
//! afterwards what to do outside. A match ends as soon as the server is no longer the one allocated for it, whichever
//! call causes that.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use humantime::format_rfc3339_nanos;
use serde_json::Value;
use sortie_wire::catena::server_manager::Match;

use super::counts::Counts;
use super::options::HealthOptions;
use super::refusal::Refusal;

/// Prefix of labels and annotations that the server sets itself.
const SDK_PREFIX: &str = "agones.dev/sdk-";
/// The annotation with the time of the latest allocation.
const LAST_ALLOCATED: &str = "agones.dev/last-allocated";
/// The match id, as a label and as an annotation.
const MATCH_ID: &str = "sortie.dev/match-id";
/// The match's annotations: properties as sent, a JSON array of players, a JSON object of each player's properties.
const MATCH_PROPERTIES: &str = "sortie.dev/match-properties";
const PLAYER_IDS: &str = "sortie.dev/player-ids";
const PLAYER_PROPERTIES: &str = "sortie.dev/player-properties";
/// The label with which the server reports that players may connect.
const READY_LABEL: &str = "match-ready";
/// The value of that label that means no.
const NOT_READY: &str = "false";

/// Maximum size of all labels and of all annotations that the server sets, names and values together, in bytes: the
/// limit of Kubernetes for annotations.
pub const MAX_METADATA_BYTES: usize = 256 << 10;

/// State of the server, in the words of Agones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// It has not reported ready.
    Scheduled,
    /// It can get a match.
    Ready,
    /// It asked for a time without matches.
    Reserved,
    /// It has a match, or has allocated itself.
    Allocated,
    /// It is done, or must exit.
    Shutdown,
    /// It was silent for too long.
    Unhealthy,
}

impl State {
    /// As game servers read it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "Scheduled",
            Self::Ready => "Ready",
            Self::Reserved => "Reserved",
            Self::Allocated => "Allocated",
            Self::Shutdown => "Shutdown",
            Self::Unhealthy => "Unhealthy",
        }
    }

    const fn is_over(self) -> bool {
        matches!(self, Self::Shutdown | Self::Unhealthy)
    }
}

/// Reports for the control plane, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Report {
    /// The match is over, the server goes on.
    Ended {
        /// Its id.
        match_id: String,
    },
    /// The server is gone, and so is its match.
    Gone {
        /// For the log.
        why: &'static str,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Held {
    match_id: String,
    /// Players may connect, according to the server.
    is_open: bool,
    /// The control plane knows that.
    is_announced: bool,
}

/// One game server.
#[derive(Clone, Debug)]
pub(super) struct GameServer {
    health: Option<HealthOptions>,
    waits_for_label: bool,
    began: SystemTime,
    state: State,
    version: u64,
    counts: Counts,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    held: Option<Held>,
    /// When the clock of its health began: at the first call, because before that there is no server that could be
    /// silent.
    expected_since: Option<Duration>,
    has_called: bool,
    last_health: Duration,
    reserved_until: Option<Duration>,
    reports: VecDeque<Report>,
}

impl GameServer {
    /// A server that has not called yet. `began` is the wall clock's time at zero.
    pub(super) fn new(
        health: Option<HealthOptions>,
        waits_for_label: bool,
        counts: Counts,
        began: SystemTime,
    ) -> Self {
        Self {
            health,
            waits_for_label,
            began,
            state: State::Scheduled,
            version: 1,
            counts,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            held: None,
            expected_since: None,
            has_called: false,
            last_health: Duration::ZERO,
            reserved_until: None,
            reports: VecDeque::new(),
        }
    }

    pub(super) const fn state(&self) -> State {
        self.state
    }

    /// Incremented with every change that game servers can see.
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    pub(super) const fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(super) const fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    pub(super) const fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// When the source began, in whole seconds since 1970.
    pub(super) fn began(&self) -> i64 {
        let since = self.began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }

    /// Its state is final.
    pub(super) const fn is_over(&self) -> bool {
        self.state.is_over()
    }

    /// It has called.
    pub(super) const fn is_known(&self) -> bool {
        self.has_called
    }

    /// Whether [`Self::take_report`] has something.
    pub(super) fn has_reports(&self) -> bool {
        !self.reports.is_empty()
    }

    /// Whether it should get a match.
    pub(super) fn wants_match(&self) -> bool {
        self.state == State::Ready && self.has_called
    }

    /// The match that must be reported as ready.
    pub(super) fn unannounced(&self) -> Option<&str> {
        let due = self.held.as_ref().filter(|held| held.is_open && !held.is_announced);
        due.map(|held| held.match_id.as_str())
    }

    /// The oldest pending report. To be taken before a match is requested.
    pub(super) fn take_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// Returns a report that could not be made; it stays first.
    pub(super) fn put_back(&mut self, report: Report) {
        self.reports.push_front(report);
    }

    /// The next time at which [`Self::tick`] changes something.
    pub(super) fn deadline(&self) -> Option<Duration> {
        [self.silent_at(), self.reserved_until].into_iter().flatten().min()
    }

    /// Advances time.
    pub(super) fn tick(&mut self, now: Duration) {
        if self.silent_at().is_some_and(|silent_at| silent_at <= now) {
            self.end(State::Unhealthy, "its health was not heard of");
        } else if self.reserved_until.is_some_and(|until| until <= now) {
            self.enter(State::Ready);
        }
    }

    /// Records any call. The first one starts the clock of its health.
    pub(super) fn called(&mut self, now: Duration) {
        self.has_called = true;
        self.expected_since.get_or_insert(now);
    }

    /// Records a sign of health.
    pub(super) fn heard(&mut self, now: Duration) {
        self.last_health = now;
    }

    /// It can get a match; the previous one is over.
    pub(super) fn ready(&mut self) {
        self.enter(State::Ready);
    }

    /// It is allocated: by its match, or by its own decision.
    pub(super) fn allocate(&mut self, now: Duration) {
        if !self.is_over() {
            self.allocated(now);
        }
    }

    /// It must not get a match for this many seconds; without limit if not positive.
    pub(super) fn reserve(&mut self, seconds: i64, now: Duration) {
        self.enter(State::Reserved);
        let seconds = u64::try_from(seconds).unwrap_or(0);
        if self.state == State::Reserved && seconds > 0 {
            self.reserved_until = Some(now.saturating_add(Duration::from_secs(seconds)));
        }
    }

    /// It is done.
    pub(super) fn shutdown(&mut self) {
        self.end(State::Shutdown, "it shut down");
    }

    /// The control plane wants it to exit.
    pub(super) fn told_to_exit(&mut self) {
        self.end(State::Shutdown, "it was told to exit");
    }

    /// The control plane refuses the match as ready. Only the server's exit can undo what it has begun: a server that
    /// was told about one match and then another may mix them up.
    pub(super) fn match_refused(&mut self, match_id: &str) {
        if self.held.as_ref().is_some_and(|held| held.match_id == match_id) {
            self.end(State::Shutdown, "its match was refused");
        }
    }

    /// The server was running before this source began, with a ready match or none; it may or may not call.
    pub(super) fn resume(&mut self, match_id: Option<&str>, now: Duration) {
        self.expected_since = Some(now);
        self.state = State::Ready;
        if let Some(match_id) = match_id {
            self.state = State::Allocated;
            self.labels.insert(MATCH_ID.to_owned(), match_id.to_owned());
            self.annotations.insert(MATCH_ID.to_owned(), match_id.to_owned());
            self.held = Some(Held { match_id: match_id.to_owned(), is_open: true, is_announced: true });
        }
        self.changed();
    }

    /// Assigns a match. If the server no longer wants one, it ends at once, so that nobody waits for it.
    pub(super) fn assigned(&mut self, game: &Match, now: Duration) {
        if !self.wants_match() {
            self.reports.push_back(Report::Ended { match_id: game.match_id.clone() });
            return;
        }
        let is_open = !self.waits_for_label;
        self.labels.remove(&own(READY_LABEL));
        self.labels.insert(MATCH_ID.to_owned(), game.match_id.clone());
        self.annotations.extend(described(game));
        self.held = Some(Held { match_id: game.match_id.clone(), is_open, is_announced: false });
        self.allocated(now);
    }

    /// The control plane knows that players of the match may connect.
    pub(super) fn announced(&mut self, match_id: &str) {
        if let Some(held) = self.held.as_mut().filter(|held| held.match_id == match_id) {
            held.is_announced = true;
        }
    }

    /// Sets one of the server's own labels.
    pub(super) fn set_label(&mut self, key: &str, value: String) -> Result<(), Refusal> {
        let says_ready = key == READY_LABEL && value != NOT_READY;
        set(&mut self.labels, key, value)?;
        if let Some(held) = self.held.as_mut().filter(|_| says_ready) {
            held.is_open = true;
        }
        self.changed();
        Ok(())
    }

    /// Sets one of the server's own annotations.
    pub(super) fn set_annotation(&mut self, key: &str, value: String) -> Result<(), Refusal> {
        set(&mut self.annotations, key, value)?;
        self.changed();
        Ok(())
    }

    /// Changes its counts.
    pub(super) fn count<T>(
        &mut self,
        change: impl FnOnce(&mut Counts) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let changed = change(&mut self.counts)?;
        self.changed();
        Ok(changed)
    }

    /// Something outside of this struct has changed, e.g. its address.
    pub(super) fn changed(&mut self) {
        self.version += 1;
    }

    fn silent_at(&self) -> Option<Duration> {
        let health = self.health.filter(|_| !self.is_over())?;
        let since = self.expected_since?.saturating_add(health.initial_delay).max(self.last_health);
        Some(since.saturating_add(health.period.saturating_mul(health.failure_threshold)))
    }

    fn allocated(&mut self, now: Duration) {
        self.state = State::Allocated;
        self.reserved_until = None;
        let time = self.began.checked_add(now).unwrap_or(self.began);
        self.annotations.insert(LAST_ALLOCATED.to_owned(), format_rfc3339_nanos(time).to_string());
        self.changed();
    }

    /// Enters any state except the final ones and `Allocated`.
    fn enter(&mut self, state: State) {
        if self.is_over() {
            return;
        }
        if let Some(held) = self.drop_match() {
            self.reports.push_back(Report::Ended { match_id: held.match_id });
        }
        self.state = state;
        self.reserved_until = None;
        self.changed();
    }

    fn end(&mut self, state: State, why: &'static str) {
        if self.is_over() {
            return;
        }
        self.drop_match();
        self.reports.push_back(Report::Gone { why });
        self.state = state;
        self.reserved_until = None;
        self.changed();
    }

    fn drop_match(&mut self) -> Option<Held> {
        let held = self.held.take()?;
        self.labels.remove(MATCH_ID);
        for name in [MATCH_ID, MATCH_PROPERTIES, PLAYER_IDS, PLAYER_PROPERTIES] {
            self.annotations.remove(name);
        }
        Some(held)
    }
}

fn own(key: &str) -> String {
    format!("{SDK_PREFIX}{key}")
}

fn set(entries: &mut BTreeMap<String, String>, key: &str, value: String) -> Result<(), Refusal> {
    if key.is_empty() {
        return Err(Refusal::Field("key: must be given".to_owned()));
    }
    let name = own(key);
    let others = entries.iter().filter(|(held, _)| held.starts_with(SDK_PREFIX) && **held != name);
    let bytes: usize = others.map(|(name, value)| name.len() + value.len()).sum();
    if bytes + name.len() + value.len() > MAX_METADATA_BYTES {
        return Err(Refusal::TooMuch(format!(
            "names and values would have more than {MAX_METADATA_BYTES} bytes together"
        )));
    }
    entries.insert(name, value);
    Ok(())
}

/// The annotations of a match. Properties that are not JSON stay plain text.
fn described(game: &Match) -> [(String, String); 4] {
    let parsed = |text: &String| {
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()));
        if text.is_empty() { Value::Object(serde_json::Map::new()) } else { value }
    };
    let players = game.player_properties.iter().map(|(player, text)| (player.clone(), parsed(text)));
    let per_player = Value::Object(players.collect());
    let ids = Value::Array(game.player_ids.iter().cloned().map(Value::String).collect());
    [
        (MATCH_ID.to_owned(), game.match_id.clone()),
        (MATCH_PROPERTIES.to_owned(), game.match_properties.clone()),
        (PLAYER_IDS.to_owned(), ids.to_string()),
        (PLAYER_PROPERTIES.to_owned(), per_player.to_string()),
    ]
}

#[cfg(test)]
mod tests;

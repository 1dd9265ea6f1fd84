//! The broker's settings.

use core::time::Duration;

use super::model::Fleet;
use super::timers::LEAVE_TIME;

/// When a new server is ordered for a match (`FastSchedule` of the Catena settings).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum FastSchedule {
    /// 0: only on the schedule, for matches that have waited for the allocation delay.
    OnSchedule,
    /// 1: at once, unless a known free server could take the match.
    #[default]
    UnlessFree,
    /// 2: at once, one new server for every match.
    Always,
}

/// The broker's settings; all of them can be changed while it runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// When a new server is ordered.
    pub fast_schedule: FastSchedule,
    /// How old a server may become. It gets no match that could outlast it: see [`Settings::last_pickup_age`].
    pub server_max_lifetime: Duration,
    /// Whether a server that reaches [`Settings::server_max_lifetime`] is stopped as failed with the matches on it, as
    /// in Catena. Otherwise matches end by their own limits, and the server is dismissed after its last one.
    pub lifetime_ends_matches: bool,
    /// Maximum wait in the queue.
    pub match_pickup_time: Duration,
    /// Maximum time from pickup to ready.
    pub match_ready_time: Duration,
    /// Maximum time from ready to end.
    pub match_max_run_time: Duration,
    /// Time between attempts to order servers for queued matches.
    pub schedule_frequency: Duration,
    /// How long a match waits for existing servers before the schedule orders one.
    pub delay_allocation: Duration,
    /// How long a server that is willing to wait is held.
    pub wait: Duration,
    /// How long a server that registered itself may not come back after a match on it did not become ready in time, or
    /// got an address that leads nowhere.
    pub suspect_time: Duration,
    /// Maximum bytes of everything that waits and runs: queued and live matches with their contents, servers,
    /// allocations.
    pub waiting_bytes: u64,
    /// Maximum bytes of records of the past: finished matches, servers that are gone, seats that are over, and orders
    /// that are remembered for their ids and idempotency keys.
    pub kept_bytes: u64,
}

/// Maximum number of rounds in which the servers of a warm pool are replaced one after another.
const MAX_ROUNDS: u32 = 1 << 20;

/// Minimum of a budget of bytes: room for some of the largest matches.
pub const MIN_BUDGET_BYTES: u64 = 16 * 1024 * 1024;

impl Default for Settings {
    fn default() -> Self {
        Self {
            fast_schedule: FastSchedule::default(),
            server_max_lifetime: Duration::from_secs(24 * 3600),
            lifetime_ends_matches: false,
            match_pickup_time: Duration::from_secs(90),
            match_ready_time: Duration::from_secs(30),
            match_max_run_time: Duration::from_secs(120 * 60),
            schedule_frequency: Duration::from_secs(30),
            delay_allocation: Duration::from_secs(30),
            wait: Duration::from_secs(30),
            suspect_time: Duration::from_secs(60),
            waiting_bytes: 512 * 1024 * 1024,
            kept_bytes: 128 * 1024 * 1024,
        }
    }
}

/// New values for some settings; `None` leaves one as it is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SettingsChange {
    /// See [`Settings::fast_schedule`].
    pub fast_schedule: Option<FastSchedule>,
    /// See [`Settings::server_max_lifetime`].
    pub server_max_lifetime: Option<Duration>,
    /// See [`Settings::match_pickup_time`].
    pub match_pickup_time: Option<Duration>,
    /// See [`Settings::match_ready_time`].
    pub match_ready_time: Option<Duration>,
    /// See [`Settings::match_max_run_time`].
    pub match_max_run_time: Option<Duration>,
    /// See [`Settings::schedule_frequency`].
    pub schedule_frequency: Option<Duration>,
    /// See [`Settings::delay_allocation`].
    pub delay_allocation: Option<Duration>,
    /// See [`Settings::wait`].
    pub wait: Option<Duration>,
}

/// A time in the lives of idle servers of a warm pool at which some of them have to be replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplacementStage {
    /// The age of the servers.
    pub age: Duration,
    /// How many servers of that age or older need not be replaced yet: the youngest of them.
    pub spared: usize,
}

/// Maximum time until a replacement is ready and the server that it replaces has made room for the next one.
const fn round_of_replacements(fleet: &Fleet) -> Duration {
    fleet.ready_deadline.saturating_add(LEAVE_TIME)
}

impl Settings {
    /// These settings with some of them changed.
    #[must_use]
    pub fn with(&self, change: &SettingsChange) -> Self {
        Self {
            fast_schedule: change.fast_schedule.unwrap_or(self.fast_schedule),
            server_max_lifetime: change.server_max_lifetime.unwrap_or(self.server_max_lifetime),
            match_pickup_time: change.match_pickup_time.unwrap_or(self.match_pickup_time),
            match_ready_time: change.match_ready_time.unwrap_or(self.match_ready_time),
            match_max_run_time: change.match_max_run_time.unwrap_or(self.match_max_run_time),
            schedule_frequency: change.schedule_frequency.unwrap_or(self.schedule_frequency),
            delay_allocation: change.delay_allocation.unwrap_or(self.delay_allocation),
            wait: change.wait.unwrap_or(self.wait),
            ..self.clone()
        }
    }

    /// Maximum time from the pickup of a match to its end.
    #[must_use]
    pub const fn longest_match(&self) -> Duration {
        self.match_ready_time.saturating_add(self.match_max_run_time)
    }

    /// How old a server of the fleet may become; `None` means a server without a fleet.
    fn lifetime(&self, fleet: Option<&Fleet>) -> Duration {
        let of_fleet = fleet.and_then(|fleet| fleet.max_run_time);
        of_fleet.map_or(self.server_max_lifetime, |longest| longest.min(self.server_max_lifetime))
    }

    /// The age from which a server of the fleet gets no further match, so that even the longest one ends within the
    /// server's lifetime, which is [`Settings::server_max_lifetime`] or the fleet's [`Fleet::max_run_time`], whichever
    /// is shorter. If it is too short for the longest match, servers take matches for the first half of it, and outlive
    /// it until those are over, unless their platform stops them. `None` if servers are stopped with the matches on
    /// them.
    #[must_use]
    pub fn last_pickup_age(&self, fleet: Option<&Fleet>) -> Option<Duration> {
        if self.lifetime_ends_matches {
            return None;
        }
        let lifetime = self.lifetime(fleet);
        let age = lifetime.saturating_sub(self.longest_match());
        Some(if age.is_zero() { lifetime / 2 } else { age })
    }

    /// When the idle servers of a warm pool are replaced, the last stage of their lives first: so that each replacement
    /// is ready before its server becomes too old for another match, although the fleet has room for few replacements
    /// at a time. None if servers are stopped with the matches on them.
    pub fn replacement_stages(&self, fleet: &Fleet) -> impl Iterator<Item = ReplacementStage> + use<> {
        let last = self.last_pickup_age(Some(fleet));
        let room = fleet.max.saturating_sub(fleet.warm);
        let at_once = room.max(1);
        let rounds = fleet.warm.div_ceil(at_once).clamp(1, MAX_ROUNDS).next_power_of_two();
        // Half of the time in which servers take matches is for their replacement, at most.
        let most = last.unwrap_or_default() / 2 / rounds;
        // A fleet without room for a replacement has no use for a server that goes early, unless others follow it.
        let first = if room == 0 { Duration::ZERO } else { fleet.ready_deadline.min(most) };
        let next = round_of_replacements(fleet).min(most);
        last.into_iter().flat_map(move |last| {
            (0..=rounds.trailing_zeros()).map(move |stage| {
                let ahead = 1_u32 << stage;
                let spared = if stage == 0 { 0 } else { at_once as usize * (ahead / 2) as usize };
                ReplacementStage { age: last.saturating_sub(first + next * (ahead - 1)), spared }
            })
        })
    }

    /// Whether all servers of the fleet's warm pool can be replaced in time, if they are equally old.
    #[must_use]
    pub fn replaces_in_time(&self, fleet: &Fleet) -> bool {
        let rounds = fleet.warm.div_ceil(fleet.max.saturating_sub(fleet.warm).max(1));
        let time = round_of_replacements(fleet).saturating_mul(rounds.saturating_sub(1));
        self.last_pickup_age(Some(fleet)).is_none_or(|last| time <= last / 2)
    }

    /// The first setting that is out of range: its name and what is wrong.
    ///
    /// # Errors
    /// `(field, problem)`.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);
        let second = Duration::from_secs(1);
        let timers = [
            ("server_max_lifetime", self.server_max_lifetime, second),
            ("match_pickup_time", self.match_pickup_time, second),
            ("match_ready_time", self.match_ready_time, second),
            ("match_max_run_time", self.match_max_run_time, second),
            ("schedule_frequency", self.schedule_frequency, second),
            ("delay_allocation", self.delay_allocation, Duration::ZERO),
            ("wait", self.wait, Duration::ZERO),
            ("suspect_time", self.suspect_time, Duration::ZERO),
        ];
        for (field, value, least) in timers {
            if value < least {
                return Err((field, "must be at least 1 second"));
            }
            if value > YEAR {
                return Err((field, "must be at most 366 days"));
            }
        }
        for (field, bytes) in [("waiting_bytes", self.waiting_bytes), ("kept_bytes", self.kept_bytes)] {
            if bytes < MIN_BUDGET_BYTES {
                return Err((field, "must be at least 16 MiB"));
            }
        }
        Ok(())
    }
}

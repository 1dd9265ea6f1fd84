//! The broker's configuration, and administrators' changes to it.

use std::time::Duration;

use sortie_domain::broker::Command;
use sortie_domain::broker::model::{FastSchedule, Fleet, Settings, SettingsChange};
use sortie_domain::game::GameVersion;
use sortie_domain::ids::FleetId;

use super::world::World;

impl World {
    pub(super) fn change(&mut self) -> SettingsChange {
        let modes = [FastSchedule::OnSchedule, FastSchedule::UnlessFree, FastSchedule::Always];
        SettingsChange {
            fast_schedule: self.rng.choice(&modes).copied(),
            match_pickup_time: Some(Duration::from_secs(self.rng.u64(5..200))),
            match_ready_time: self.rng.bool().then(|| Duration::from_secs(self.rng.u64(2..60))),
            schedule_frequency: Some(Duration::from_secs(self.rng.u64(1..40))),
            delay_allocation: Some(Duration::from_secs(self.rng.u64(0..40))),
            ..SettingsChange::default()
        }
    }

    pub(super) fn configuration(&mut self) -> Command {
        // Sometimes none names a game, sometimes each does.
        let named = self.rng.u8(0..4);
        let is_default = self.rng.bool();
        let max_run_time = (self.rng.u8(0..3) == 0).then(|| Duration::from_secs(self.rng.u64(60..900)));
        // Two games, or two versions of one.
        let second = if self.rng.bool() { "chess" } else { "duel" };
        let fleet = |id: &str, requirements: &str, max: u32, warm: u32, preference: i32| {
            let game = |bit: u8, name: &str, version: &str| {
                let game = GameVersion { name: name.into(), version: version.into() };
                (named & bit != 0).then_some(game)
            };
            let is_first = id == "a";
            Some(Fleet {
                id: FleetId::new(id).ok()?,
                game: if is_first { game(1, "duel", "1") } else { game(2, second, "2") },
                is_default: is_default && is_first,
                requirements: requirements.into(),
                max,
                warm,
                ready_deadline: Duration::from_secs(10),
                max_run_time,
                preference,
            })
        };
        let warm = self.rng.u32(0..3);
        let max = (warm + self.rng.u32(0..4)).max(1);
        let fleets = [
            fleet("a", "MatchProperties.map != 'desert'", max, warm, 0),
            fleet("b", "", self.rng.u32(1..4), 0, self.rng.i32(-1..2)),
        ];
        let settings = Settings {
            server_max_lifetime: Duration::from_secs(self.rng.u64(60..900)),
            match_max_run_time: Duration::from_secs(self.rng.u64(20..600)),
            lifetime_ends_matches: self.rng.u8(0..4) == 0,
            suspect_time: Duration::from_secs(self.rng.u64(0..100)),
            ..Settings::default().with(&self.change())
        };
        Command::Configure { settings, fleets: fleets.into_iter().flatten().collect() }
    }
}

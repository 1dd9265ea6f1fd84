//! How a virtual server behaves, according to the settings file.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;

use super::behaviour::Behaviour;
use super::planner::Plan;
use crate::source::{BadSetting, at_a_time, within};

/// Maximum number of concurrent matches.
const MAX_MATCHES: u32 = 1000;
/// Range of the interval between requests: faster would be a load test, and slower would not be a server.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(24 * 3600);
/// Maximum of all other durations.
const MAX_DURATION: Duration = Duration::from_secs(7 * 24 * 3600);
/// Maximum weight of a behaviour, so that their sum cannot overflow.
const MAX_WEIGHT: u32 = 1_000_000;

/// The settings block `virtual_server_event_source`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default)]
pub struct VirtualServerSettings {
    /// Which of the strategies below, by its name with or without `_strategy`. Default: `continuous_strategy`.
    #[serde(alias = "Strategy")]
    pub strategy: String,
    /// Address sent to players if there is no resolver. Default: `127.0.0.1:7777`.
    #[serde(rename = "ConnectionDetails")]
    pub connection_details: String,
    /// Which matches it requests: a JMESPath expression over the match document. Default: any.
    #[serde(rename = "Requirements")]
    pub requirements: String,
    /// One match after another.
    #[serde(alias = "continuous")]
    pub continuous_strategy: StrategySettings,
    /// One match; then the event source is done.
    #[serde(alias = "once")]
    pub once_strategy: StrategySettings,
    /// Several concurrent matches, all on one server.
    #[serde(alias = "parallel")]
    pub parallel_strategy: ParallelSettings,
    /// Breaks the rules on purpose: for tests of a backend.
    #[serde(alias = "chaos")]
    pub chaos_strategy: ChaosSettings,
}

impl Default for VirtualServerSettings {
    fn default() -> Self {
        Self {
            strategy: "continuous_strategy".to_owned(),
            connection_details: "127.0.0.1:7777".to_owned(),
            requirements: String::new(),
            continuous_strategy: StrategySettings::default(),
            once_strategy: StrategySettings::default(),
            parallel_strategy: ParallelSettings::default(),
            chaos_strategy: ChaosSettings::default(),
        }
    }
}

/// Common to all strategies.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct StrategySettings {
    /// Minimum time between two requests for a match, 10 ms to 24 h. Default: 5 s.
    #[serde(with = "crate::settings::duration")]
    pub request_interval: Duration,
    /// From taking a match to reporting it as ready, up to 7 days. Default: none.
    #[serde(with = "crate::settings::duration")]
    pub ready_delay: Duration,
    /// From reporting a match as ready to its end, up to 7 days. Default: as `RequestInterval`.
    #[serde(with = "crate::settings::duration::optional")]
    pub match_duration: Option<Duration>,
}

impl Default for StrategySettings {
    fn default() -> Self {
        Self { request_interval: Duration::from_secs(5), ready_delay: Duration::ZERO, match_duration: None }
    }
}

/// `parallel_strategy`. It also has the keys of [`StrategySettings`].
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ParallelSettings {
    /// Maximum number of concurrent matches, 1 to 1000. Default: 2.
    pub matches: u32,
    /// See [`StrategySettings::request_interval`].
    #[serde(with = "crate::settings::duration")]
    pub request_interval: Duration,
    /// See [`StrategySettings::ready_delay`].
    #[serde(with = "crate::settings::duration")]
    pub ready_delay: Duration,
    /// See [`StrategySettings::match_duration`].
    #[serde(with = "crate::settings::duration::optional")]
    pub match_duration: Option<Duration>,
}

impl Default for ParallelSettings {
    fn default() -> Self {
        let StrategySettings { request_interval, ready_delay, match_duration } = StrategySettings::default();
        Self { matches: 2, request_interval, ready_delay, match_duration }
    }
}

/// `chaos_strategy`. It also has the keys of [`StrategySettings`].
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ChaosSettings {
    /// Maximum number of concurrent matches, 1 to 1000. Default: 1.
    pub matches: u32,
    /// Relative weights of the behaviours: `normal`, `late_ready`, `never_ready`, `double_end`, `end_before_ready`,
    /// `wrong_match_id`, `silent_after_taking`, `ready_twice`, `never_ends`. Default: all the same.
    pub behaviours: BTreeMap<String, u32>,
    /// The same seed and the same matches yield the same behaviours. Default: random, and logged.
    pub seed: Option<u64>,
    /// How late `late_ready` is, up to 7 days. Default: 35 s, which is beyond a usual deadline of 30 s.
    #[serde(with = "crate::settings::duration")]
    pub late_by: Duration,
    /// How long a match that is never ended keeps the server from requesting another, up to 7 days. Default: 1 min.
    #[serde(with = "crate::settings::duration")]
    pub forget_after: Duration,
    /// See [`StrategySettings::request_interval`].
    #[serde(with = "crate::settings::duration")]
    pub request_interval: Duration,
    /// See [`StrategySettings::ready_delay`].
    #[serde(with = "crate::settings::duration")]
    pub ready_delay: Duration,
    /// See [`StrategySettings::match_duration`].
    #[serde(with = "crate::settings::duration::optional")]
    pub match_duration: Option<Duration>,
}

impl Default for ChaosSettings {
    fn default() -> Self {
        let StrategySettings { request_interval, ready_delay, match_duration } = StrategySettings::default();
        Self {
            matches: 1,
            behaviours: Behaviour::ALL.iter().map(|behaviour| (behaviour.name().to_owned(), 1)).collect(),
            seed: None,
            late_by: Duration::from_secs(35),
            forget_after: Duration::from_secs(60),
            request_interval,
            ready_delay,
            match_duration,
        }
    }
}

impl VirtualServerSettings {
    /// The chosen strategy as a plan, and the seed of its random choices.
    pub(super) fn plan(&self) -> Result<(Plan, Option<u64>), BadSetting> {
        let chosen = self.strategy.strip_suffix("_strategy").unwrap_or(&self.strategy);
        let plan = match chosen {
            "continuous" => self.continuous_strategy.plan("continuous_strategy")?,
            "once" => {
                let plan = self.once_strategy.plan("once_strategy")?;
                Plan { total: Some(1), ..plan }
            }
            "parallel" => self.parallel_strategy.plan()?,
            "chaos" => return Ok((self.chaos_strategy.plan()?, self.chaos_strategy.seed)),
            _ => {
                let problem = format!(
                    "must be continuous_strategy, once_strategy, parallel_strategy or chaos_strategy, is {:?}",
                    self.strategy
                );
                return Err(BadSetting::new("strategy", problem));
            }
        };
        Ok((plan, None))
    }
}

impl StrategySettings {
    fn plan(&self, block: &str) -> Result<Plan, BadSetting> {
        let key = |name: &str| format!("{block}.{name}");
        within(&key("RequestInterval"), self.request_interval, &INTERVALS)?;
        within(&key("ReadyDelay"), self.ready_delay, &(Duration::ZERO..=MAX_DURATION))?;
        let duration = self.match_duration.unwrap_or(self.request_interval);
        within(&key("MatchDuration"), duration, &(Duration::ZERO..=MAX_DURATION))?;
        Ok(Plan {
            interval: self.request_interval,
            ready_delay: self.ready_delay,
            duration,
            at_a_time: 1,
            total: None,
            late_by: Duration::ZERO,
            forget_after: Duration::ZERO,
            weights: vec![(Behaviour::Normal, 1)],
        })
    }
}

impl ParallelSettings {
    fn plan(&self) -> Result<Plan, BadSetting> {
        let Self { matches, request_interval, ready_delay, match_duration } = *self;
        let common = StrategySettings { request_interval, ready_delay, match_duration };
        let block = "parallel_strategy";
        Ok(Plan {
            at_a_time: at_a_time(&format!("{block}.Matches"), matches, MAX_MATCHES)?,
            ..common.plan(block)?
        })
    }
}

impl ChaosSettings {
    fn plan(&self) -> Result<Plan, BadSetting> {
        let Self { matches, request_interval, ready_delay, match_duration, .. } = *self;
        let common = StrategySettings { request_interval, ready_delay, match_duration };
        let block = "chaos_strategy";
        let weights = self.weights()?;
        for (name, duration) in [("LateBy", self.late_by), ("ForgetAfter", self.forget_after)] {
            within(&format!("{block}.{name}"), duration, &(Duration::ZERO..=MAX_DURATION))?;
        }
        Ok(Plan {
            at_a_time: at_a_time(&format!("{block}.Matches"), matches, MAX_MATCHES)?,
            late_by: self.late_by,
            forget_after: self.forget_after,
            weights,
            ..common.plan(block)?
        })
    }

    fn weights(&self) -> Result<Vec<(Behaviour, u32)>, BadSetting> {
        let key = "chaos_strategy.Behaviours";
        let mut weights = Vec::with_capacity(self.behaviours.len());
        for (name, weight) in &self.behaviours {
            let Some(behaviour) = Behaviour::of_name(name) else {
                let names = Behaviour::ALL.map(Behaviour::name).join(", ");
                return Err(BadSetting::new(
                    format!("{key}.{name}"),
                    format!("no such behaviour; there are {names}"),
                ));
            };
            if *weight > MAX_WEIGHT {
                let problem = format!("must be from 0 to {MAX_WEIGHT}, is {weight}");
                return Err(BadSetting::new(format!("{key}.{name}"), problem));
            }
            if *weight > 0 {
                weights.push((behaviour, *weight));
            }
        }
        if weights.is_empty() {
            return Err(BadSetting::new(key, "must give at least one behaviour a weight above 0"));
        }
        Ok(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Plan, String> {
        let settings: VirtualServerSettings =
            serde_json::from_str(json).map_err(|error| error.to_string())?;
        settings.plan().map(|(plan, _)| plan).map_err(|error| error.to_string())
    }

    #[test]
    fn the_block_of_the_catena_sidecar_is_read() {
        let json = r#"{"strategy": "continuous_strategy", "continuous_strategy": {"RequestInterval": "7s"}}"#;
        let plan = read(json).unwrap();
        let seven = Duration::from_secs(7);
        assert_eq!((plan.interval, plan.duration, plan.ready_delay), (seven, seven, Duration::ZERO));
        assert_eq!((plan.at_a_time, plan.total), (1, None));
        assert_eq!(read("{}").unwrap().interval, Duration::from_secs(5));
    }

    #[test]
    fn each_strategy_has_two_names() {
        for (chosen, block) in [("once", "once_strategy"), ("once_strategy", "once")] {
            let json = format!(r#"{{"strategy": "{chosen}", "{block}": {{"MatchDuration": "1m30s"}}}}"#);
            let plan = read(&json).unwrap();
            assert_eq!((plan.total, plan.duration), (Some(1), Duration::from_secs(90)));
        }
        let parallel = read(r#"{"strategy": "parallel", "parallel": {"Matches": 9}}"#).unwrap();
        assert_eq!(parallel.at_a_time, 9);
        let chaos =
            r#"{"strategy": "chaos", "chaos": {"Behaviours": {"never_ends": 2, "normal": 0}, "Seed": 3}}"#;
        assert_eq!(read(chaos).unwrap().weights, [(Behaviour::NeverEnds, 2)]);
        assert_eq!(read(r#"{"strategy": "chaos"}"#).unwrap().weights.len(), Behaviour::ALL.len());
    }

    #[test]
    fn each_error_names_its_key() {
        for (json, beginning) in [
            (r#"{"strategy": "often"}"#, "strategy: must be continuous_strategy, once_strategy"),
            (
                r#"{"continuous_strategy": {"RequestInterval": "1ms"}}"#,
                "continuous_strategy.RequestInterval: must",
            ),
            (
                r#"{"strategy": "once", "once": {"ReadyDelay": "9days"}}"#,
                "once_strategy.ReadyDelay: must be from 0s",
            ),
            (
                r#"{"strategy": "parallel", "parallel": {"Matches": 0}}"#,
                "parallel_strategy.Matches: must be from 1",
            ),
            (
                r#"{"strategy": "chaos", "chaos": {"Behaviours": {"odd": 1}}}"#,
                "chaos_strategy.Behaviours.odd: no such",
            ),
            (r#"{"strategy": "chaos", "chaos": {"Behaviours": {}}}"#, "chaos_strategy.Behaviours: must give"),
            (
                r#"{"strategy": "chaos", "chaos": {"Behaviours": {"normal": 4294967295}}}"#,
                "chaos_strategy.Behaviours.normal: must",
            ),
            (r#"{"continuous_strategy": {"RequestInterval": 5}}"#, "invalid type: integer `5`"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.starts_with(beginning), "{error}");
        }
    }
}

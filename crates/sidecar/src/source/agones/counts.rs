//! A game server's own counts: counters, lists and players.
//!
//! Agones applies changes later and in batches, and answers with the expected result; here they are applied at once, so
//! that answers show the actual state.

use std::collections::BTreeMap;

use super::refusal::{Refusal, quoted};

/// Maximum number of values in a list, as in Agones.
pub const MAX_LIST_VALUES: i64 = 1_000;
/// Maximum length of a list's value and of a player's id, in bytes.
pub const MAX_VALUE_BYTES: usize = 1_024;
/// Maximum number of connected players, whatever capacity the server sets.
pub const MAX_PLAYERS: usize = 10_000;

/// A number from zero to its capacity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counter {
    /// Its value.
    pub count: i64,
    /// Its maximum.
    pub capacity: i64,
}

/// Distinct values, in order of arrival.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct List {
    /// Maximum number of values, up to [`MAX_LIST_VALUES`].
    pub capacity: i64,
    /// The values.
    pub values: Vec<String>,
}

/// The connected players.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Players {
    pub(super) capacity: i64,
    /// In order of arrival.
    pub(super) ids: Vec<String>,
}

/// A change of a counter. `None` leaves a value unchanged; the capacity is set first, the difference is added last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct CounterChange {
    pub(super) capacity: Option<i64>,
    pub(super) count: Option<i64>,
    pub(super) difference: i64,
}

/// A change of a list. `None` leaves a value unchanged.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct ListChange {
    pub(super) capacity: Option<i64>,
    pub(super) values: Option<Vec<String>>,
}

impl Counter {
    /// Validates it as a setting.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        Self::default().changed(&CounterChange {
            capacity: Some(self.capacity),
            count: Some(self.count),
            difference: 0,
        })?;
        Ok(())
    }

    fn changed(self, change: &CounterChange) -> Result<Self, Refusal> {
        let capacity = change.capacity.unwrap_or(self.capacity);
        if capacity < 0 {
            return Err(Refusal::Range(format!("the capacity is {capacity}, it must not be negative")));
        }
        let within = |count: i64| match count {
            count if (0..=capacity).contains(&count) => Ok(count),
            _ => Err(Refusal::Range(format!("the count is {count}, it must be within 0 and {capacity}"))),
        };
        let mut count = match change.count {
            Some(count) => within(count)?,
            None => self.count.min(capacity),
        };
        if change.difference != 0 {
            count = within(count.saturating_add(change.difference))?;
        }
        Ok(Self { count, capacity })
    }
}

impl List {
    /// Validates it as a setting.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let change = ListChange { capacity: Some(self.capacity), values: Some(self.values.clone()) };
        let list = Self::default().changed(change)?;
        match list.values.len() == self.values.len() {
            true => Ok(()),
            false => Err(Refusal::Range(format!(
                "has {} values, at most {} different ones are allowed",
                self.values.len(),
                self.capacity
            ))),
        }
    }

    /// As in Agones, repeated values count once and those beyond the capacity are dropped.
    fn changed(&self, change: ListChange) -> Result<Self, Refusal> {
        let capacity = change.capacity.unwrap_or(self.capacity);
        if !(0..=MAX_LIST_VALUES).contains(&capacity) {
            let problem = format!("the capacity is {capacity}, it must be within 0 and {MAX_LIST_VALUES}");
            return Err(Refusal::Range(problem));
        }
        let mut list = Self { capacity, values: Vec::new() };
        for value in change.values.unwrap_or_else(|| self.values.clone()) {
            short(&value)?;
            if list.has_room() && !list.values.contains(&value) {
                list.values.push(value);
            }
        }
        Ok(list)
    }

    fn has_room(&self) -> bool {
        usize::try_from(self.capacity).is_ok_and(|capacity| self.values.len() < capacity)
    }
}

/// Counters and lists by name, and players.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    pub(super) counters: BTreeMap<String, Counter>,
    pub(super) lists: BTreeMap<String, List>,
    pub(super) players: Players,
}

impl Counts {
    pub(super) fn counter(&self, name: &str) -> Result<Counter, Refusal> {
        self.counters.get(name).copied().ok_or_else(|| Refusal::NotFound(format!("counter {}", quoted(name))))
    }

    pub(super) fn list(&self, name: &str) -> Result<&List, Refusal> {
        self.lists.get(name).ok_or_else(|| no_list(name))
    }

    /// Applies all of the change or, on error, nothing.
    pub(super) fn change_counter(&mut self, name: &str, change: &CounterChange) -> Result<Counter, Refusal> {
        if *change == CounterChange::default() {
            return Err(Refusal::Field("count, capacity or countDiff must be given".to_owned()));
        }
        let changed = self.counter(name)?.changed(change)?;
        self.counters.insert(name.to_owned(), changed);
        Ok(changed)
    }

    /// Applies all of the change or, on error, nothing.
    pub(super) fn change_list(&mut self, name: &str, change: ListChange) -> Result<List, Refusal> {
        let changed = self.list(name)?.changed(change)?;
        self.lists.insert(name.to_owned(), changed.clone());
        Ok(changed)
    }

    pub(super) fn add_value(&mut self, name: &str, value: String) -> Result<List, Refusal> {
        short(&value)?;
        let list = self.lists.get_mut(name).ok_or_else(|| no_list(name))?;
        if list.values.contains(&value) {
            let problem = format!("value {} in list {}", quoted(&value), quoted(name));
            return Err(Refusal::Exists(problem));
        }
        if !list.has_room() {
            let problem = format!("list {} is full, its capacity is {}", quoted(name), list.capacity);
            return Err(Refusal::Range(problem));
        }
        list.values.push(value);
        Ok(list.clone())
    }

    pub(super) fn remove_value(&mut self, name: &str, value: &str) -> Result<List, Refusal> {
        let list = self.lists.get_mut(name).ok_or_else(|| no_list(name))?;
        let place =
            list.values.iter().position(|held| held == value).ok_or_else(|| {
                Refusal::NotFound(format!("value {} in list {}", quoted(value), quoted(name)))
            })?;
        list.values.remove(place);
        Ok(list.clone())
    }

    /// Returns `false` if the player was already connected.
    pub(super) fn connect(&mut self, player: String) -> Result<bool, Refusal> {
        short(&player)?;
        let Players { capacity, ids } = &mut self.players;
        if ids.contains(&player) {
            return Ok(false);
        }
        let max = usize::try_from(*capacity).unwrap_or(0).min(MAX_PLAYERS);
        if ids.len() >= max {
            return Err(Refusal::Range(format!("players are at their capacity of {max}")));
        }
        ids.push(player);
        Ok(true)
    }

    /// Returns `false` if the player was not connected.
    pub(super) fn disconnect(&mut self, player: &str) -> bool {
        let ids = &mut self.players.ids;
        let place = ids.iter().position(|held| held == player);
        place.is_some_and(|place| ids.remove(place) == player)
    }

    pub(super) fn set_player_capacity(&mut self, capacity: i64) -> Result<(), Refusal> {
        if capacity < 0 {
            return Err(Refusal::Range(format!("the capacity is {capacity}, it must not be negative")));
        }
        self.players.capacity = capacity;
        Ok(())
    }
}

fn no_list(name: &str) -> Refusal {
    Refusal::NotFound(format!("list {}", quoted(name)))
}

fn short(value: &str) -> Result<(), Refusal> {
    match value.len() {
        bytes if bytes > MAX_VALUE_BYTES => {
            Err(Refusal::Field(format!("a value has {bytes} bytes, at most {MAX_VALUE_BYTES} are allowed")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts() -> Counts {
        let counters = [("rooms".to_owned(), Counter { count: 1, capacity: 3 })];
        let lists = [("teams".to_owned(), List { capacity: 2, values: vec!["red".to_owned()] })];
        Counts { counters: counters.into(), lists: lists.into(), players: Players::default() }
    }

    #[test]
    fn a_counter_changes_wholly_or_not_at_all() {
        let mut counts = counts();
        let grown = CounterChange { capacity: Some(5), difference: 4, ..CounterChange::default() };
        assert_eq!(counts.change_counter("rooms", &grown), Ok(Counter { count: 5, capacity: 5 }));
        let over = CounterChange { capacity: Some(9), count: Some(10), difference: 0 };
        assert!(matches!(counts.change_counter("rooms", &over), Err(Refusal::Range(_))));
        assert_eq!(counts.counter("rooms"), Ok(Counter { count: 5, capacity: 5 }));
        let shrunk = CounterChange { capacity: Some(2), ..CounterChange::default() };
        assert_eq!(counts.change_counter("rooms", &shrunk), Ok(Counter { count: 2, capacity: 2 }));
    }

    #[test]
    fn out_of_range_unknown_and_empty_changes_are_refused() {
        let mut counts = counts();
        let by = |difference| CounterChange { difference, ..CounterChange::default() };
        for difference in [3, -2, i64::MAX, i64::MIN] {
            assert!(matches!(counts.change_counter("rooms", &by(difference)), Err(Refusal::Range(_))));
        }
        let negative = CounterChange { capacity: Some(-1), ..CounterChange::default() };
        assert!(matches!(counts.change_counter("rooms", &negative), Err(Refusal::Range(_))));
        assert!(matches!(counts.change_counter("rooms", &by(0)), Err(Refusal::Field(_))));
        assert!(matches!(counts.change_counter("cats", &by(1)), Err(Refusal::NotFound(_))));
        assert_eq!(counts, super::tests::counts());
    }

    #[test]
    fn a_list_holds_each_value_once_up_to_its_capacity() {
        let mut counts = counts();
        assert!(matches!(counts.add_value("teams", "red".to_owned()), Err(Refusal::Exists(_))));
        assert_eq!(counts.add_value("teams", "blue".to_owned()).unwrap().values, ["red", "blue"]);
        assert!(matches!(counts.add_value("teams", "green".to_owned()), Err(Refusal::Range(_))));
        assert!(matches!(counts.remove_value("teams", "green"), Err(Refusal::NotFound(_))));
        assert_eq!(counts.remove_value("teams", "red").unwrap().values, ["blue"]);
        assert!(matches!(counts.remove_value("cats", "red"), Err(Refusal::NotFound(_))));
        let long = "x".repeat(MAX_VALUE_BYTES + 1);
        assert!(matches!(counts.add_value("teams", long), Err(Refusal::Field(_))));
    }

    #[test]
    fn a_list_is_replaced_where_the_change_says_so() {
        let mut counts = counts();
        let values = ["a", "b", "a", "c"].map(str::to_owned).to_vec();
        let replaced = ListChange { capacity: None, values: Some(values) };
        assert_eq!(counts.change_list("teams", replaced).unwrap().values, ["a", "b"]);
        let shrunk = ListChange { capacity: Some(1), values: None };
        assert_eq!(counts.change_list("teams", shrunk).unwrap().values, ["a"]);
        for capacity in [-1, MAX_LIST_VALUES + 1] {
            let change = ListChange { capacity: Some(capacity), values: None };
            assert!(matches!(counts.change_list("teams", change), Err(Refusal::Range(_))));
        }
    }

    #[test]
    fn players_are_counted_once_and_up_to_the_capacity() {
        let mut counts = counts();
        assert!(matches!(counts.connect("p1".to_owned()), Err(Refusal::Range(_))));
        counts.set_player_capacity(1).unwrap();
        assert_eq!(counts.connect("p1".to_owned()), Ok(true));
        assert_eq!(counts.connect("p1".to_owned()), Ok(false));
        assert!(matches!(counts.connect("p2".to_owned()), Err(Refusal::Range(_))));
        assert!(counts.disconnect("p1"));
        assert!(!counts.disconnect("p1"));
        assert!(matches!(counts.set_player_capacity(-1), Err(Refusal::Range(_))));
    }

    #[test]
    fn settings_that_no_change_could_lead_to_are_refused() {
        assert!(Counter { count: 4, capacity: 3 }.check().is_err());
        assert!(Counter { count: 0, capacity: -1 }.check().is_err());
        assert_eq!(Counter { count: 3, capacity: 3 }.check(), Ok(()));
        assert!(List { capacity: 1, values: vec!["a".to_owned(), "b".to_owned()] }.check().is_err());
        assert!(List { capacity: 2, values: vec!["a".to_owned(), "a".to_owned()] }.check().is_err());
        assert!(List { capacity: MAX_LIST_VALUES + 1, values: Vec::new() }.check().is_err());
        assert_eq!(List { capacity: 1, values: vec!["a".to_owned()] }.check(), Ok(()));
    }

    proptest! {
        #[test]
        fn counters_and_lists_never_leave_their_bounds(
            changes in proptest::collection::vec((any::<Option<i64>>(), any::<Option<i64>>(), any::<i64>(), -2i64..6, "[ab]{1}"), 1..40),
        ) {
            let mut counts = counts();
            for (capacity, count, difference, small, value) in changes {
                let change = CounterChange { capacity, count, difference };
                let _ = counts.change_counter("rooms", &change);
                let by = CounterChange { difference: small, ..CounterChange::default() };
                let _ = counts.change_counter("rooms", &by);
                let _ = counts.change_list("teams", ListChange { capacity: Some(small), values: None });
                let _ = counts.add_value("teams", value.clone());
                let _ = counts.set_player_capacity(small);
                let _ = counts.connect(value);
                let Counter { count, capacity } = counts.counter("rooms").unwrap();
                prop_assert!((0..=capacity).contains(&count));
                let list = counts.list("teams").unwrap();
                prop_assert!(list.values.len() <= usize::try_from(list.capacity).unwrap());
                let different: std::collections::BTreeSet<_> = list.values.iter().collect();
                prop_assert_eq!(different.len(), list.values.len());
            }
        }
    }
}

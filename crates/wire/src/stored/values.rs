//! How single values are stored: ids, times, causes, texts, and lists and maps of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdSet;
use sortie_domain::broker::model::{CancelCause, EndCause, FailReason, FastSchedule, GoneCause, SeatEnd};
use sortie_domain::ids::{
    AllocationId, FleetId, HookId, IdempotencyKey, MatchId, PlayerId, QueueId, RegionId, SeatId, ServerId,
    TicketId,
};
use sortie_domain::properties::Properties;
use sortie_domain::time::Timestamp;

use super::tables::{causes, choices};
use super::{FieldProblem, Place, Stored, StoredError, log};

macro_rules! as_they_are {
    ($($kind:ty),*) => {$(
        impl Stored<$kind> for $kind {
            fn store(&self) -> $kind {
                self.clone()
            }

            fn load(form: $kind, _: Place) -> Result<Self, StoredError> {
                Ok(form)
            }
        }
    )*};
}

as_they_are!(bool, u32, i32, u64, String);

/// NaN equals nothing, not even itself, so no state has it.
impl Stored<Self> for f64 {
    fn store(&self) -> Self {
        *self
    }

    fn load(form: Self, place: Place) -> Result<Self, StoredError> {
        if form.is_nan() { Err(place.has(FieldProblem::NotANumber)) } else { Ok(form) }
    }
}

macro_rules! ids {
    ($($kind:ty),*) => {$(
        impl Stored<String> for $kind {
            fn store(&self) -> String {
                self.as_str().to_owned()
            }

            fn load(form: String, place: Place) -> Result<Self, StoredError> {
                Self::new(&form).map_err(|problem| place.has(FieldProblem::BadId(problem)))
            }
        }
    )*};
}

ids!(MatchId, PlayerId, ServerId, SeatId, AllocationId, FleetId, IdempotencyKey);
ids!(TicketId, QueueId, RegionId, HookId);

causes!(EndCause, FailReason, CancelCause, SeatEnd, GoneCause);

choices! { log: FastSchedule { OnSchedule, UnlessFree, Always } }

impl Stored<u64> for Timestamp {
    fn store(&self) -> u64 {
        self.as_millis()
    }

    fn load(form: u64, _: Place) -> Result<Self, StoredError> {
        Ok(Self::from_millis(form))
    }
}

/// Milliseconds of `duration`, rounded up as in the domain: a deadline never fires early.
pub(crate) fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

impl Stored<u64> for Duration {
    fn store(&self) -> u64 {
        whole_millis(*self)
    }

    fn load(form: u64, _: Place) -> Result<Self, StoredError> {
        Ok(Self::from_millis(form))
    }
}

impl Stored<String> for Arc<str> {
    fn store(&self) -> String {
        String::from(&**self)
    }

    fn load(form: String, _: Place) -> Result<Self, StoredError> {
        Ok(Self::from(form))
    }
}

impl Stored<String> for Box<str> {
    fn store(&self) -> String {
        String::from(&**self)
    }

    fn load(form: String, _: Place) -> Result<Self, StoredError> {
        Ok(Self::from(form))
    }
}

impl Stored<String> for Properties {
    fn store(&self) -> String {
        self.text().unwrap_or_default().to_owned()
    }

    fn load(form: String, place: Place) -> Result<Self, StoredError> {
        Self::parse(&form).map_err(|problem| place.has(FieldProblem::BadProperties(problem)))
    }
}

impl<T: Stored<Form>, Form> Stored<Form> for Arc<T> {
    fn store(&self) -> Form {
        T::store(self)
    }

    fn load(form: Form, place: Place) -> Result<Self, StoredError> {
        T::load(form, place).map(Self::new)
    }
}

impl<T: Stored<Form>, Form> Stored<Option<Form>> for Option<T> {
    fn store(&self) -> Option<Form> {
        self.as_ref().map(T::store)
    }

    fn load(form: Option<Form>, place: Place) -> Result<Self, StoredError> {
        form.map(|form| T::load(form, place)).transpose()
    }
}

impl<T: Stored<Form>, Form> Stored<Vec<Form>> for Vec<T> {
    fn store(&self) -> Vec<Form> {
        self.iter().map(T::store).collect()
    }

    fn load(form: Vec<Form>, place: Place) -> Result<Self, StoredError> {
        form.into_iter().map(|form| T::load(form, place)).collect()
    }
}

impl<T: Stored<String> + Ord> Stored<Vec<String>> for BTreeSet<T> {
    fn store(&self) -> Vec<String> {
        self.iter().map(Stored::store).collect()
    }

    fn load(form: Vec<String>, place: Place) -> Result<Self, StoredError> {
        form.into_iter().map(|form| Stored::load(form, place)).collect()
    }
}

impl<T: Stored<String> + Ord + Clone> Stored<Vec<String>> for OrdSet<T> {
    fn store(&self) -> Vec<String> {
        self.iter().map(Stored::store).collect()
    }

    fn load(form: Vec<String>, place: Place) -> Result<Self, StoredError> {
        form.into_iter().map(|form| Stored::load(form, place)).collect()
    }
}

impl<K: Stored<Key> + Ord, T: Stored<Form>, Key: Ord, Form> Stored<BTreeMap<Key, Form>> for BTreeMap<K, T> {
    fn store(&self) -> BTreeMap<Key, Form> {
        self.iter().map(|(key, value)| (key.store(), value.store())).collect()
    }

    fn load(form: BTreeMap<Key, Form>, place: Place) -> Result<Self, StoredError> {
        let entry = |(key, value)| Ok((K::load(key, place)?, T::load(value, place)?));
        form.into_iter().map(entry).collect()
    }
}

/// The `.proto` file spells the names and numbers of the domain.
#[cfg(test)]
macro_rules! same_causes {
    ($package:ident: $($kind:ident = $prefix:literal;)*) => {$({
        for cause in $kind::ALL {
            let form = $package::$kind::try_from(cause.store()).unwrap();
            assert_eq!(form.as_str_name(), format!("{}_{}", $prefix, cause.name().to_uppercase()));
        }
        let beyond = i32::try_from($kind::ALL.len()).unwrap() + 1;
        assert!($package::$kind::try_from(beyond).is_err(), "{} has a number that the domain lacks", $prefix);
    })*};
}

#[cfg(test)]
pub(crate) use same_causes;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_have_the_names_and_numbers_of_the_domain() {
        same_causes! { log:
            EndCause = "END_CAUSE";
            FailReason = "FAIL_REASON";
            CancelCause = "CANCEL_CAUSE";
            SeatEnd = "SEAT_END";
            GoneCause = "GONE_CAUSE";
        }
    }
}

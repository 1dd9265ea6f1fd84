//! Ids: one type for each kind of object, so that a seat id cannot be passed as a match id.
//!
//! Ids that we make are `<kind>-<uuidv7>` ([RFC 9562](https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-7)):
//! they sort by age and show their kind. Ids from others are kept unchanged, within [`MAX_ID_BYTES`].

use alloc::format;
use alloc::sync::Arc;
use core::fmt;

use crate::machine::Moment;
use crate::size::Size;

/// Maximum length of an id, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// Why a text is not a valid id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadId {
    /// It has no characters.
    Empty,
    /// It is longer than [`MAX_ID_BYTES`].
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// It has a character that is not printable ASCII.
    Unprintable {
        /// Byte position of the first such character.
        at: usize,
    },
}

impl fmt::Display for BadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "must not be empty"),
            Self::TooLong { bytes } => write!(f, "has {bytes} bytes, at most {MAX_ID_BYTES} are allowed"),
            Self::Unprintable { at } => {
                write!(f, "has a character at byte {at} that is not printable ASCII")
            }
        }
    }
}

impl core::error::Error for BadId {}

fn check(text: &str) -> Result<(), BadId> {
    if text.is_empty() {
        return Err(BadId::Empty);
    }
    if text.len() > MAX_ID_BYTES {
        return Err(BadId::TooLong { bytes: text.len() });
    }
    // 0x20 (space) to 0x7e are the printable characters of ASCII.
    match text.bytes().position(|byte| !(0x20..=0x7e).contains(&byte)) {
        Some(at) => Err(BadId::Unprintable { at }),
        None => Ok(()),
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The word before the dash in ids that we make.
            pub const KIND: &'static str = $kind;

            /// Parses an id as it was sent.
            ///
            /// # Errors
            /// [`BadId`] unless it is 1 to [`MAX_ID_BYTES`] characters of printable ASCII.
            pub fn new(text: &str) -> Result<Self, BadId> {
                check(text).map(|()| Self(Arc::from(text)))
            }

            /// The next id of this kind from `draw`.
            #[must_use]
            pub fn draw(draw: &mut Draw) -> Self {
                Self(Arc::from(format!("{}-{}", $kind, draw.uuid())))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Size for $name {
            fn byte_size(&self) -> usize {
                self.0.byte_size()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

ids! {
    /// Identifies a match.
    MatchId = "match";
    /// Identifies a player, with the id of the player's own backend.
    PlayerId = "player";
    /// Identifies a game server process.
    ServerId = "server";
    /// Identifies a seat.
    SeatId = "seat";
    /// Identifies an allocation; also its idempotency key at the platform.
    AllocationId = "allocation";
    /// Identifies a fleet: the key of its block in the configuration.
    FleetId = "fleet";
    /// Identifies a ticket: a request to play, by a player or a party.
    TicketId = "ticket";
    /// Identifies a queue of the matchmaker: the key of its block in the configuration.
    QueueId = "queue";
    /// Identifies a region that latencies are measured to.
    RegionId = "region";
    /// Identifies a hook of the matchmaker: the key of its block in the configuration.
    HookId = "hook";
    /// Chosen by a caller, so that an order that is sent twice is carried out once.
    IdempotencyKey = "key";
}

/// Creates ids from the time and the random bits of one [`Moment`].
///
/// Two draws from different moments differ because their entropy does; the n-th id of one moment differs from
/// the others by the mixed-in counter.
#[derive(Debug)]
pub struct Draw {
    at: Moment,
    count: u64,
}

impl Draw {
    /// Ids for one step.
    #[must_use]
    pub const fn new(at: Moment) -> Self {
        Self { at, count: 0 }
    }

    /// 64 random bits: for client ids, which are random numbers.
    pub fn bits(&mut self) -> u64 {
        self.count += 1;
        mix(self.at.entropy[0] ^ mix(self.at.entropy[1].wrapping_add(self.count)))
    }

    fn uuid(&mut self) -> Uuid {
        let (high, low) = (self.bits(), self.bits());
        let time = self.at.now.as_millis() & 0xffff_ffff_ffff;
        Uuid {
            high: (time << 16) | 0x7000 | (high & 0x0fff),
            low: (low & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000,
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014):
/// a bijection that spreads every input bit over the output.
pub(crate) const fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

struct Uuid {
    high: u64,
    low: u64,
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { high, low } = self;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;
    use alloc::collections::BTreeSet;
    use alloc::string::ToString;

    fn moment(entropy: u64) -> Moment {
        Moment { now: Timestamp::from_millis(0x0192_3456_789a), entropy: [entropy, !entropy] }
    }

    #[test]
    fn drawn_ids_are_uuid_version_7_with_the_time_in_front() {
        let id = MatchId::draw(&mut Draw::new(moment(7))).to_string();
        assert!(id.starts_with("match-01923456-789a-7"), "{id}");
        assert_eq!(id.len(), "match-".len() + 36);
        assert!(matches!(id.as_bytes()["match-".len() + 19], b'8' | b'9' | b'a' | b'b'), "variant of {id}");
    }

    #[test]
    fn drawn_ids_differ_within_and_between_moments() {
        let mut seen = BTreeSet::new();
        for entropy in 0..200 {
            let mut draw = Draw::new(moment(entropy));
            for _ in 0..20 {
                assert!(seen.insert(ServerId::draw(&mut draw)));
            }
        }
    }

    #[test]
    fn ids_of_others_are_taken_as_they_are_within_limits() {
        assert_eq!(ServerId::new("my server #1").unwrap().as_str(), "my server #1");
        assert_eq!(ServerId::new(""), Err(BadId::Empty));
        assert_eq!(ServerId::new("a\nb"), Err(BadId::Unprintable { at: 1 }));
        assert_eq!(ServerId::new("né"), Err(BadId::Unprintable { at: 1 }));
        assert_eq!(ServerId::new(&"x".repeat(129)), Err(BadId::TooLong { bytes: 129 }));
        assert!(ServerId::new(&"x".repeat(128)).is_ok());
    }
}

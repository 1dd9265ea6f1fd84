//! The three formats that are all called netcode 1.02.

use core::fmt;
use core::str::FromStr;

/// The byte layout of a token: a property of the game server's netcode library.
///
/// Each library refuses tokens of the others, except that standard and renet tokens are identical while all server
/// addresses are IPv4.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Dialect {
    /// The C reference and its bindings: little-endian integers, IPv6 addresses as eight little-endian words.
    Standard,
    /// renet and renetcode: little-endian integers, IPv6 addresses as 16 octets.
    Renet,
    /// Lightyear: big-endian integers, IPv6 addresses as 16 octets.
    Lightyear,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 3] = [Self::Standard, Self::Renet, Self::Lightyear];

    /// Its name in configuration: `standard`, `renet` or `lightyear`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Renet => "renet",
            Self::Lightyear => "lightyear",
        }
    }

    /// Whether integers are big-endian.
    pub(crate) const fn big_endian(self) -> bool {
        matches!(self, Self::Lightyear)
    }

    /// Whether the two bytes of each word of an IPv6 address are swapped relative to network order.
    pub(crate) const fn swaps_ipv6_words(self) -> bool {
        matches!(self, Self::Standard)
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Dialect {
    type Err = UnknownDialect;

    fn from_str(text: &str) -> Result<Self, UnknownDialect> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == text).ok_or(UnknownDialect)
    }
}

/// A text that is not a [`Dialect`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownDialect;

impl fmt::Display for UnknownDialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown dialect of connect tokens: use standard, renet or lightyear")
    }
}

impl core::error::Error for UnknownDialect {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn names_go_both_ways() {
        for dialect in Dialect::ALL {
            assert_eq!(dialect.to_string().parse(), Ok(dialect));
        }
        assert_eq!("Renet".parse::<Dialect>(), Err(UnknownDialect));
        assert_eq!("".parse::<Dialect>(), Err(UnknownDialect));
    }
}

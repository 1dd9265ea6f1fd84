//! Conjunctions of equalities, `a.b == 'x' && c == 'y'`: nearly every game server asks with one, and a hash can answer
//! them.
//!
//! A conjunction is a set of paths with a required value for each. Matches are filed under a hash of their values at
//! those paths, so one look-up finds the candidates of every conjunction over the same paths, and the conjunction
//! itself then decides about each. So the hash may put unequal values together, but must never separate values that
//! count as equal, and there is one trap: fractions are compared with a tolerance of a few units in the last place,
//! which no hash can follow everywhere. They are therefore filed by ranges of 64 neighbours; an expression that asks
//! for one so close to the end of its range that the tolerance reaches into the next does not count as a conjunction,
//! and is evaluated like any other. Short decimals lie in the middle; whole numbers are compared, and filed, exactly.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use jmespath::ast::{Ast, Comparator};
use jmespath::{Rcvar, Variable};

use super::document::{Document, PROPERTIES};
use super::numbers::{equal, whole};
use crate::ids::{FleetId, mix};

/// Names of fields, from the document inwards; never empty.
pub(crate) type Path = Vec<Box<str>>;
/// Different paths, in order.
pub(crate) type Paths = Arc<[Path]>;

/// The values that a match must have at certain paths.
pub(crate) struct Conjunction {
    paths: Paths,
    /// One for each path.
    values: Vec<Rcvar>,
    hash: u64,
}

impl Conjunction {
    /// The conjunction that every match fits.
    pub(super) fn of_nothing() -> Self {
        Self::new(BTreeMap::new())
    }

    /// The expression as a conjunction, if it is one.
    pub(super) fn of(ast: &Ast) -> Option<Self> {
        let mut equalities = BTreeMap::new();
        collect(ast, &mut equalities).then(|| Self::new(equalities))
    }

    fn new(equalities: BTreeMap<Path, Rcvar>) -> Self {
        let (paths, values): (Vec<_>, Vec<_>) = equalities.into_iter().unzip();
        let mut hash = Hash::new(0);
        values.iter().for_each(|value| hash.value(value));
        Self { paths: paths.into(), values, hash: hash.value }
    }

    pub(crate) const fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Where matches are filed that may fit and that only servers of `fleet`, or any server, may take.
    pub(crate) fn key(&self, fleet: Option<&FleetId>) -> u64 {
        of_fleet(self.hash, fleet)
    }

    pub(crate) fn fits(&self, document: &Document<'_>) -> bool {
        self.paths.iter().zip(&self.values).all(|(path, value)| equal(&document.at(path), value))
    }
}

/// Where a match is filed among those looked up by these paths.
pub(crate) fn key(paths: &[Path], document: &Document<'_>, fleet: Option<&FleetId>) -> u64 {
    let mut hash = Hash::new(0);
    paths.iter().for_each(|path| hash.value(&document.at(path)));
    of_fleet(hash.value, fleet)
}

fn of_fleet(hash: u64, fleet: Option<&FleetId>) -> u64 {
    let mut hash = Hash::new(hash);
    if let Some(fleet) = fleet {
        hash.text(fleet.as_str());
    }
    hash.value
}

/// Whether `ast` is a conjunction of equalities over different paths.
fn collect(ast: &Ast, into: &mut BTreeMap<Path, Rcvar>) -> bool {
    match ast {
        Ast::And { lhs, rhs, .. } => collect(lhs, into) && collect(rhs, into),
        Ast::Comparison { comparator: Comparator::Equal, lhs, rhs, .. } => {
            let (side, value) = match (&**lhs, &**rhs) {
                (Ast::Literal { value, .. }, side) | (side, Ast::Literal { value, .. }) => (side, value),
                _ => return false,
            };
            let Some(path) = path_of(side) else { return false };
            // Matches are filed by small values only: the players' properties are most of a document.
            if path.first().is_some_and(|name| &**name == PROPERTIES) {
                return false;
            }
            // The same path twice is nearly always a contradiction: many candidates, none of which fits.
            can_be_filed(value) && into.insert(path, Rcvar::clone(value)).is_none()
        }
        _ => false,
    }
}

/// The paths at which `one` and `other` must have equal values if `ast` is true, as in `one.a.b == other.a.b && …`.
pub(super) fn shared_paths(ast: &Ast, (one, other): (&str, &str), found: &mut Vec<Path>) {
    match ast {
        Ast::And { lhs, rhs, .. } => {
            shared_paths(lhs, (one, other), found);
            shared_paths(rhs, (one, other), found);
        }
        Ast::Comparison { comparator: Comparator::Equal, lhs, rhs, .. } => {
            let (Some(a), Some(b)) = (path_of(lhs), path_of(rhs)) else { return };
            if let ([first, a @ ..], [second, b @ ..]) = (&*a, &*b)
                && [(one, other), (other, one)].contains(&(&**first, &**second))
                && a == b
                && !a.is_empty()
            {
                found.push(a.to_vec());
            }
        }
        _ => {}
    }
}

/// The path of an expression that consists of nothing else.
pub(crate) fn path_of(ast: &Ast) -> Option<Path> {
    let mut path = Path::new();
    walk(ast, &mut path).then_some(path)
}

fn walk(ast: &Ast, path: &mut Path) -> bool {
    match ast {
        Ast::Field { name, .. } => {
            path.push(name.as_str().into());
            true
        }
        Ast::Subexpr { lhs, rhs, .. } => walk(lhs, path) && walk(rhs, path),
        _ => false,
    }
}

/// Whether everything equal to `value` is filed in one place.
fn can_be_filed(value: &Variable) -> bool {
    match value {
        Variable::Null | Variable::Bool(_) | Variable::String(_) => true,
        Variable::Number(number) => whole(value).is_some() || number.as_f64().is_some_and(is_amid_its_range),
        Variable::Array(items) => items.iter().all(|item| can_be_filed(item)),
        Variable::Object(fields) => fields.values().all(|field| can_be_filed(field)),
        Variable::Expref(_) => false,
    }
}

/// Two to the power of this many neighbouring numbers are filed together.
const RANGE_BITS: u32 = 6;
/// Maximum distance of equal numbers, in neighbours: the difference is less than 2⁻⁵² of the sum, which is four units
/// in the last place of the larger number, or up to eight of the smaller.
const TOLERANCE: u64 = 8;
/// Beyond these, where sums overflow or numbers are no longer normal, the library's equality differs.
const NORMAL: core::ops::RangeInclusive<f64> = 1e-100..=1e100;

fn is_amid_its_range(number: f64) -> bool {
    let bits = number.abs().to_bits();
    number == 0.0 || (NORMAL.contains(&number.abs()) && range(bits - TOLERANCE) == range(bits + TOLERANCE))
}

/// Numbers of one sign are ordered as their bits are. Short ones end in zero bits, so half a range is added.
const fn range(bits: u64) -> u64 {
    (bits + (1 << (RANGE_BITS - 1))) >> RANGE_BITS
}

/// Maximum number of words of a value that are hashed. No literal is longer, so values that differ only beyond them fit
/// none.
const MAX_WORDS: u32 = 2 * super::MAX_EXPRESSION_BYTES as u32;

/// The hash is not secret, so clients can craft values that are filed together. Look-ups give up after a few candidates
/// that do not fit, and fall back to evaluation.
struct Hash {
    value: u64,
    words: u32,
}

impl Hash {
    const fn new(value: u64) -> Self {
        Self { value, words: 0 }
    }

    const fn word(&mut self, word: u64) {
        if self.words < MAX_WORDS {
            self.words += 1;
            self.value = mix(self.value ^ word);
        }
    }

    const fn is_full(&self) -> bool {
        self.words >= MAX_WORDS
    }

    fn text(&mut self, text: &str) {
        self.word(text.len() as u64);
        for chunk in text.as_bytes().chunks(8) {
            if self.is_full() {
                return;
            }
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    fn value(&mut self, value: &Variable) {
        if self.is_full() {
            return;
        }
        match value {
            Variable::Null => self.word(0),
            Variable::Bool(value) => self.word(1 + u64::from(*value)),
            Variable::String(text) => {
                self.word(3);
                self.text(text);
            }
            Variable::Number(number) => {
                self.word(4);
                match whole(value) {
                    Some(whole) => self.whole(whole),
                    None => self.number(number.as_f64()),
                }
            }
            Variable::Array(items) => {
                self.word(5);
                self.word(items.len() as u64);
                items.iter().for_each(|item| self.value(item));
            }
            Variable::Object(fields) => {
                self.word(6);
                self.word(fields.len() as u64);
                for (name, field) in fields {
                    self.text(name);
                    self.value(field);
                }
            }
            Variable::Expref(_) => self.word(7),
        }
    }

    /// They are equal only if exactly equal, and never equal to others.
    const fn whole(&mut self, number: i128) {
        self.word(2);
        self.word(number.cast_unsigned() as u64);
        self.word((number >> 64).cast_unsigned() as u64);
    }

    fn number(&mut self, number: Option<f64>) {
        let number = number.unwrap_or_default();
        self.word(u64::from(number.is_sign_negative()));
        self.word(range(number.abs().to_bits()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conjunction(text: &str) -> Option<Conjunction> {
        Conjunction::of(&jmespath::parse(text).unwrap())
    }

    #[test]
    fn conjunctions_of_equalities_are_recognised() {
        let paths = |text| conjunction(text).map(|found| found.paths.concat().join("/"));
        for (text, expected) in [
            ("a == 'x'", Some("a")),
            ("'x' == a.b", Some("a/b")),
            ("b == `1` && (a.\"c d\".e == `null` && `[1, {\"x\": 2.5}]` == c)", Some("a/c d/e/b/c")),
            ("a | b == 'x'", None),
            ("a == 'x' && b", None),
            ("a == 'x' || b == 'y'", None),
            ("a == 'x' && a == 'x'", None),
            ("!(a == 'x')", None),
            ("a == b", None),
            ("'x' == 'x'", None),
            ("a[0] == 'x'", None),
            ("length(a) == `1`", None),
            ("a != 'x'", None),
        ] {
            assert_eq!(paths(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn equal_numbers_are_filed_together_or_not_at_all() {
        let mut filed = 0;
        for base in [1.0, 0.71, 1e99, 1e-99, 3.0, 4096.0, 0.1, 1.0 / 3.0, 76_561_198_000_000_000.0] {
            for step in -200..200_i64 {
                let number = f64::from_bits(f64::to_bits(base).wrapping_add_signed(step));
                let value = Variable::from_serializable(number).unwrap();
                let Some(found) = can_be_filed(&value).then_some(number) else { continue };
                filed += 1;
                for away in -10..10_i64 {
                    let other = f64::from_bits(found.to_bits().wrapping_add_signed(away));
                    let other = Variable::from_serializable(other).unwrap();
                    let hash = |value: &Variable| {
                        let mut hash = Hash::new(0);
                        hash.value(value);
                        hash.value
                    };
                    assert!(!equal(&value, &other) || hash(&value) == hash(&other), "{value} {other}");
                }
            }
        }
        assert!(filed > 1_000, "{filed}");
    }

    #[test]
    fn integers_and_short_decimals_can_be_filed() {
        for text in ["0", "-0.0", "1", "1.0", "-17", "0.5", "2500", "1e10", "9007199254740992"] {
            assert!(can_be_filed(&Variable::from_json(text).unwrap()), "{text}");
        }
        for text in ["1e300", "1e-300", "[1e300]", "{\"a\":1e300}"] {
            assert!(!can_be_filed(&Variable::from_json(text).unwrap()), "{text}");
        }
    }
}

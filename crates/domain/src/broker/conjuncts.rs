//! What an expression demands, part by part: read from its text and its parsed tree, never by trying matches.
//!
//! Two uses: to find which part of a requirement refused a match, and to detect before any match is made that two
//! requirements can never both be met. The latter has to be sound, not complete: it handles equalities of a path with a
//! literal that are joined by `&&`, and ignores the rest.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use jmespath::ast::{Ast, Comparator};
use jmespath::{Rcvar, Variable};

use crate::ids::MatchId;
use crate::match_spec::MatchSpec;
use crate::properties::Properties;
use crate::requirements::{self, Document, InvalidRequirements, Path, equal, path_of, whole};

/// Numbers closer than this, relative to the larger, count as equal: the interpreter compares loosely.
const SAME_NUMBER: f64 = 1e-6;

/// `path == literal`, as part of an expression that is true only if this is.
#[derive(Clone, PartialEq, Debug)]
pub struct Equality {
    /// Names from the document's top.
    path: Path,
    literal: Rcvar,
}

impl Equality {
    /// The path as it is written in an expression.
    #[must_use]
    pub fn path(&self) -> String {
        let plain = |name: &str| {
            name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
                && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
        };
        let quoted = |name: &str| if plain(name) { name.to_string() } else { string(name) };
        self.path.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(".")
    }

    /// The literal as JSON.
    #[must_use]
    pub fn literal(&self) -> String {
        self.literal.to_string()
    }
}

fn string(text: &str) -> String {
    Variable::String(text.to_string()).to_string()
}

/// The equalities that an expression demands.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Conjuncts {
    /// In the order of the expression.
    pub equalities: Vec<Equality>,
    /// Whether the expression demands nothing else.
    pub complete: bool,
}

impl Conjuncts {
    /// Reads an expression; an empty one demands nothing.
    ///
    /// # Errors
    /// [`InvalidRequirements`] if it is not a valid expression.
    pub fn of(text: &str) -> Result<Self, InvalidRequirements> {
        let mut found = Self { equalities: Vec::new(), complete: true };
        if let Some(ast) = requirements::parse(text)? {
            found.gather(&ast);
        }
        Ok(found)
    }

    fn gather(&mut self, ast: &Ast) {
        match ast {
            Ast::And { lhs, rhs, .. } => {
                self.gather(lhs);
                self.gather(rhs);
            }
            Ast::Comparison { comparator: Comparator::Equal, lhs, rhs, .. } => {
                let sides = match (&**lhs, &**rhs) {
                    (side, Ast::Literal { value, .. }) | (Ast::Literal { value, .. }, side) => {
                        path_of(side).map(|path| Equality { path, literal: Rcvar::clone(value) })
                    }
                    _ => None,
                };
                self.complete &= sides.is_some();
                self.equalities.extend(sides);
            }
            _ => self.complete = false,
        }
    }

    /// Why no match at all meets both these demands and `other`'s; `None` if there may be one.
    #[must_use]
    pub fn contradiction(&self, other: &Self) -> Option<Contradiction> {
        self.equalities.iter().find_map(|here| {
            let mut same_path = other.equalities.iter().filter(|there| there.path == here.path);
            let there = same_path.find(|there| differ(&here.literal, &there.literal))?;
            let (path, one, other) = (here.path(), here.literal(), there.literal());
            Some(Contradiction { path, one, other })
        })
    }

    /// Why no match with exactly these properties meets the demands; `None` if one may. `one` is the demand, `other`
    /// the match's value.
    #[must_use]
    pub fn contradiction_with(&self, properties: &Properties) -> Option<Contradiction> {
        // Only the properties are checked, so the id does not matter.
        let id = MatchId::new("match").ok()?;
        let spec = MatchSpec { properties: properties.clone(), ..MatchSpec::default() };
        let document = Document::new(&id, &spec);
        let of_properties = |demand: &&Equality| {
            demand.path.len() > 1 && demand.path.first().is_some_and(|first| **first == *"MatchProperties")
        };
        self.equalities.iter().filter(of_properties).find_map(|demand| {
            let found = document.at(&demand.path);
            let contradiction =
                Contradiction { path: demand.path(), one: demand.literal(), other: found.to_string() };
            differ(&demand.literal, &found).then_some(contradiction)
        })
    }
}

/// Two values that one path would need at the same time, as JSON.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contradiction {
    /// The path.
    pub path: String,
    /// The value that one side demands.
    pub one: String,
    /// The value that the other side demands or has.
    pub other: String,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be {} and {}", self.path, self.one, self.other)
    }
}

/// Whether no value equals both.
fn differ(one: &Variable, other: &Variable) -> bool {
    match (one, other) {
        (one, other) if whole(one).is_some() || whole(other).is_some() => !equal(one, other),
        (Variable::Number(one), Variable::Number(other)) => match (one.as_f64(), other.as_f64()) {
            (Some(one), Some(other)) => {
                let distance = if one > other { one - other } else { other - one };
                let size = one.max(-one).max(other.max(-other)).max(1.0);
                distance > SAME_NUMBER * size
            }
            _ => false,
        },
        // They may contain numbers.
        (Variable::Array(_), Variable::Array(_)) | (Variable::Object(_), Variable::Object(_)) => false,
        (one, other) => one != other,
    }
}

/// The parts of an expression that all have to be true, as they are written; the expression itself if it has none.
pub(super) fn parts(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    split(text, &mut found);
    // Unless the split agrees with the parser's, the expression is not split.
    let same = requirements::parse(text).is_ok_and(|ast| ast.is_some_and(|ast| leaves(&ast) == found.len()));
    if same { found } else { Vec::from([text.trim()]) }
}

fn leaves(ast: &Ast) -> usize {
    match ast {
        Ast::And { lhs, rhs, .. } => leaves(lhs) + leaves(rhs),
        _ => 1,
    }
}

fn split<'a>(text: &'a str, found: &mut Vec<&'a str>) {
    let text = text.trim();
    let marks = top_level(text);
    // `||` and `|` bind weaker than `&&`.
    if marks.iter().any(|(_, mark)| *mark == b'|') {
        return found.push(text);
    }
    let ands: Vec<usize> = marks.iter().filter(|(_, mark)| *mark == b'&').map(|(at, _)| *at).collect();
    if ands.is_empty() {
        let inner = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        return match inner.filter(|_| closes_last(text, &marks)) {
            Some(inner) => split(inner, found),
            None => found.push(text),
        };
    }
    let mut from = 0;
    for at in ands {
        split(&text[from..at], found);
        from = at + 2;
    }
    split(&text[from..], found);
}

/// Whether the last character is the only closing bracket at the top level.
fn closes_last(text: &str, marks: &[(usize, u8)]) -> bool {
    let mut closing = marks.iter().filter(|(_, mark)| *mark == b')');
    closing.next().is_some_and(|(at, _)| *at + 1 == text.len()) && closing.next().is_none()
}

/// `&&` (as `&`), `|` and brackets that close (as `)`), each outside of brackets and quotes, with their places.
fn top_level(text: &str) -> Vec<(usize, u8)> {
    let bytes = text.as_bytes();
    let (mut marks, mut depth, mut quote, mut at) = (Vec::new(), 0_usize, None, 0);
    while let Some(byte) = bytes.get(at).copied() {
        match quote {
            Some(_) if byte == b'\\' => at += 1,
            Some(open) if byte == open => quote = None,
            Some(_) => {}
            None => match byte {
                b'\'' | b'"' | b'`' => quote = Some(byte),
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        marks.push((at, b')'));
                    }
                }
                b'|' if depth == 0 => marks.push((at, b'|')),
                b'&' if depth == 0 && bytes.get(at + 1) == Some(&b'&') => {
                    marks.push((at, b'&'));
                    at += 1;
                }
                _ => {}
            },
        }
        at += 1;
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Conjuncts {
        Conjuncts::of(text).unwrap()
    }

    #[test]
    fn equalities_are_read_from_both_sides_and_through_brackets() {
        let found =
            of("MatchProperties.map == 'desert' && (`2` == MatchProperties.\"a b\".n && MatchId == 'm')");
        let shown: Vec<_> = found.equalities.iter().map(|one| (one.path(), one.literal())).collect();
        let expected =
            [("MatchProperties.map", "\"desert\""), ("MatchProperties.\"a b\".n", "2"), ("MatchId", "\"m\"")];
        assert_eq!(shown, expected.map(|(path, literal)| (path.to_string(), literal.to_string())));
        assert!(found.complete && of("").complete);
    }

    #[test]
    fn what_is_no_equality_of_a_path_is_left_out() {
        for text in
            ["a || b == 'c'", "a != 'b'", "length(a) == `1`", "a[0] == 'b'", "a == b", "!(a == 'b')", "a"]
        {
            let found = of(text);
            assert!(found.equalities.is_empty() && !found.complete, "{text}: {found:?}");
        }
        let found = of("a == 'b' && c > `1`");
        assert_eq!((found.equalities.len(), found.complete), (1, false));
    }

    #[test]
    fn contradictions_are_certain_ones_only() {
        let never = |one: &str, other: &str| of(one).contradiction(&of(other));
        let found = never("m.a == 'x' && b > `1`", "c == 'd' && m.a == 'y'").unwrap();
        assert_eq!(found.to_string(), r#"m.a cannot be "x" and "y""#);
        assert!(never("a == `1`", "a == '1'").is_some() && never("a == `1`", "a == `2`").is_some());
        assert!(never("a == 'x' && a == 'y'", "").is_none(), "the other demands nothing");
        for (one, other) in [
            ("a == 'x'", "a == 'x'"),
            ("a == 'x'", "b == 'y'"),
            ("a == `1`", "a == `1.0`"),
            ("a == `[1]`", "a == `[1.0]`"),
            ("a == 'x'", "a == 'x' || a == 'y'"),
            ("a == 'x'", "a != 'x'"),
            ("a == 'x'", "a.b == 'y'"),
        ] {
            assert!(never(one, other).is_none(), "{one} | {other}");
        }
    }

    #[test]
    fn known_properties_decide_what_stands_below_them() {
        let properties = Properties::parse(r#"{"game": "arena", "deep": {"n": 1}}"#).unwrap();
        let never = |text: &str| of(text).contradiction_with(&properties);
        assert!(never("MatchProperties.game == 'arena' && MatchProperties.deep.n == `1`").is_none());
        let found = never("MatchProperties.map == 'x'").unwrap();
        assert_eq!(
            (found.path.as_str(), found.one.as_str(), found.other.as_str()),
            ("MatchProperties.map", "\"x\"", "null")
        );
        assert!(never("MatchId == 'm'").is_none() && never("MatchProperties == `{}`").is_none());
    }

    #[test]
    fn an_expression_falls_into_the_parts_that_must_all_be_true() {
        for (text, expected) in [
            ("a", &["a"][..]),
            ("a && b", &["a", "b"]),
            (" (a == 'x && y' && b[?c && d]) && !e ", &["a == 'x && y'", "b[?c && d]", "!e"]),
            ("a || b && c", &["a || b && c"]),
            ("(a || b) && c", &["a || b", "c"]),
            ("(a) == (b)", &["(a) == (b)"]),
            ("a && b | c", &["a && b | c"]),
            ("contains(a, 'b') && sort_by(c, &d)", &["contains(a, 'b')", "sort_by(c, &d)"]),
            (r#"a == 'it\'s && b' && `"x\`&&"`"#, &[r"a == 'it\'s && b'", r#"`"x\`&&"`"#]),
        ] {
            assert_eq!(parts(text), expected, "{text}");
        }
    }
}

//! JSON objects as text: members that are not needed are not parsed into a tree.
//!
//! Parsing a text into a tree takes twenty times as long as finding its members, and the tree takes thirty times the
//! memory; and texts are written by players. So the members of an object are found in its text, and only compared
//! values are parsed. Every text here was validated when it arrived.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};

use jmespath::Variable;

use crate::content::same_content;

/// Maximum length of values that are compared by their meaning, in bytes; longer ones are compared as texts.
pub(crate) const MAX_READ: usize = 1_024;
/// Maximum nesting of values in which differences of types are looked for; deeper values are compared as a whole.
const MAX_NESTING: usize = 8;

/// The members of a JSON object, in text order: names with their quotes, values as they are written.
pub(crate) struct Members<'a> {
    rest: &'a str,
}

/// The members of the object `text`; none if it is not an object.
pub(crate) fn members(text: &str) -> Members<'_> {
    Members { rest: text.trim_start().strip_prefix('{').unwrap_or_default() }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let begin = self.rest.trim_start_matches([',', ' ', '\t', '\n', '\r']);
        let (name, rest) = begin.split_at_checked(text_end(begin)?)?;
        let value = rest.trim_start().strip_prefix(':')?.trim_start();
        let (value, rest) = value.split_at_checked(value_end(value))?;
        self.rest = rest;
        Some((name, value.trim_end()))
    }
}

/// The end of the quoted text at the beginning of `text`.
fn text_end(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().enumerate();
    if bytes.next()?.1 != b'"' {
        return None;
    }
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The end of the value at the beginning of `text`.
fn value_end(text: &str) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b',' | b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// A name without its quotes.
pub(crate) fn name(quoted: &str) -> Cow<'_, str> {
    let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let read = Variable::from_json(quoted).ok().and_then(|value| value.as_string().cloned());
    Cow::Owned(read.unwrap_or_else(|| inner.to_string()))
}

/// The members of an object by name; of several with the same name, the last.
pub(crate) fn by_name(text: &str) -> BTreeMap<Cow<'_, str>, &str> {
    members(text).map(|(quoted, value)| (name(quoted), value)).collect()
}

/// The value at a path of names; the last of several.
pub(crate) fn at_path<'a>(text: &'a str, path: &[String]) -> Option<&'a str> {
    let mut found = text;
    for of in path {
        found = members(found).filter(|(quoted, _)| name(quoted) == of.as_str()).last()?.1;
    }
    Some(found)
}

/// Whether two values are equal. `reads` counts down the values that may be parsed; after that, texts are compared.
pub(crate) fn equal(one: &str, other: &str, reads: &mut usize) -> bool {
    if one == other {
        return true;
    }
    if *reads == 0 || one.len() > MAX_READ || other.len() > MAX_READ {
        return false;
    }
    *reads -= 1;
    same_content(one, other)
}

/// Where two values that would be equal but for the types of some values in them first differ: `40` and `"40"`, also
/// within lists and objects. A path like `.level` or `[0]`, empty for the values themselves, and the two values there.
pub(crate) fn apart_by_type<'a>(one: &'a str, other: &'a str) -> Option<(String, &'a str, &'a str)> {
    if one.len() > MAX_READ || other.len() > MAX_READ {
        return None;
    }
    let mut first = None;
    compare(one, other, &mut String::new(), &mut first, MAX_NESTING).then_some(())?;
    first
}

/// Whether two values are equal but for types; notes where the first of these differs.
fn compare<'a>(
    one: &'a str,
    other: &'a str,
    path: &mut String,
    first: &mut Option<(String, &'a str, &'a str)>,
    depth: usize,
) -> bool {
    if one == other {
        return true;
    }
    let (Some(begin), Some(_)) = (one.chars().next(), other.chars().next()) else { return false };
    if !matches!(begin, '[' | '{') || !other.starts_with(begin) || depth == 0 {
        if same_but_for_type(one, other) {
            first.get_or_insert_with(|| (path.clone(), one, other));
            return true;
        }
        return same_content(one, other);
    }
    let length = path.len();
    let mut goes_on = |one: &'a str, other: &'a str, step: &str, path: &mut String| {
        path.push_str(step);
        let same = compare(one, other, path, first, depth - 1);
        path.truncate(length);
        same
    };
    if begin == '[' {
        let (mut ours, mut theirs) = (items(one), items(other));
        for at in 0.. {
            match (ours.next(), theirs.next()) {
                (None, None) => break,
                (Some(a), Some(b)) if goes_on(a, b, &alloc::format!("[{at}]"), path) => {}
                _ => return false,
            }
        }
        return true;
    }
    let (ours, theirs) = (by_name(one), by_name(other));
    ours.len() == theirs.len()
        && ours
            .iter()
            .zip(&theirs)
            .all(|((name, a), (of, b))| name == of && goes_on(a, b, &alloc::format!(".{name}"), path))
}

/// Whether two values, one of them in quotes, would be equal but for their types: `40` and `"40"`.
fn same_but_for_type(one: &str, other: &str) -> bool {
    let (text, plain) = match (one.starts_with('"'), other.starts_with('"')) {
        (true, false) => (one, other),
        (false, true) => (other, one),
        _ => return false,
    };
    if plain.starts_with(['{', '[']) {
        return false;
    }
    let text = name(text);
    let is_number = |text: &str| super::values::as_number(text).is_some();
    text.trim() == plain || (is_number(plain) && is_number(text.trim()) && same_content(text.trim(), plain))
}

/// The items of a list, as they are written; none if it is not a list.
fn items(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text.trim_start().strip_prefix('[').unwrap_or_default();
    core::iter::from_fn(move || {
        let begin = rest.trim_start_matches([',', ' ', '\t', '\n', '\r']);
        let (item, behind) = begin.split_at_checked(value_end(begin))?;
        rest = behind;
        Some(item.trim_end()).filter(|item| !item.is_empty())
    })
}

/// A text as JSON.
pub(crate) fn quoted(text: &str) -> String {
    Variable::String(text.to_string()).to_string()
}

/// A list of texts as JSON.
pub(crate) fn list<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut out = String::from("[");
    for (at, text) in texts.enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(&quoted(text));
    }
    out.push(']');
    out
}

/// Appends a member to an object that is being written and has its opening brace.
pub(crate) fn push(out: &mut String, quoted: &str, value: &str) {
    if out.len() > 1 {
        out.push(',');
    }
    out.push_str(quoted);
    out.push(':');
    out.push_str(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn members_are_found_whatever_stands_in_them() {
        let text = r#" { "a" : 1 , "b":{"a":[2,"}",{"c":","}]}, "\u0063":"x\"y\\", "d":[ ] ,"e":-1.5e3}"#;
        let found: Vec<_> = members(text).map(|(quoted, value)| (name(quoted).into_owned(), value)).collect();
        let expected = [
            ("a", "1"),
            ("b", r#"{"a":[2,"}",{"c":","}]}"#),
            ("c", r#""x\"y\\""#),
            ("d", "[ ]"),
            ("e", "-1.5e3"),
        ];
        assert_eq!(found.len(), expected.len());
        for ((name, value), (wanted, of)) in found.iter().zip(expected) {
            assert_eq!((name.as_str(), *value), (wanted, of));
        }
        assert_eq!(members("{}").count() + members("").count() + members(" { } ").count(), 0);
    }

    #[test]
    fn of_several_members_with_one_name_the_last_counts() {
        let path = ["a".to_string()];
        assert_eq!(at_path(r#"{"a":1,"b":2,"\u0061":3}"#, &path), Some("3"));
        assert_eq!(by_name(r#"{"a":1,"a":2}"#).into_values().collect::<Vec<_>>(), ["2"]);
    }

    #[test]
    fn values_are_found_at_paths() {
        let path = |path: &str| path.split('.').map(ToString::to_string).collect::<Vec<_>>();
        let text = r#"{"a":{"b":{"c":7}},"d":[{"b":1}]}"#;
        assert_eq!(at_path(text, &path("a.b.c")), Some("7"));
        assert_eq!(at_path(text, &path("a.b")), Some(r#"{"c":7}"#));
        assert_eq!(at_path(text, &path("d.b")), None, "a list has no members");
        assert_eq!(at_path(text, &path("a.x.c")), None);
    }

    #[test]
    fn values_that_differ_by_their_type_only_are_told() {
        let long = alloc::format!(r#"{{"a":"{}","level":[1,{{"min":40}}]}}"#, "x".repeat(100));
        for (one, other, at) in [
            ("40", r#""40""#, ("", "40", r#""40""#)),
            (r#""4e1""#, "40", ("", r#""4e1""#, "40")),
            ("true", r#""true""#, ("", "true", r#""true""#)),
            (r#""null""#, "null", ("", r#""null""#, "null")),
            ("[40]", r#"[ "40" ]"#, ("[0]", "40", r#""40""#)),
            (r#"[1.0, "2", 3]"#, "[1,2,3]", ("[1]", r#""2""#, "2")),
            (r#"{"b":{"c":["7"]},"a":1}"#, r#"{"a":1,"b":{"c":[7]}}"#, (".b.c[0]", r#""7""#, "7")),
            (&long, &long.replace("40", r#""40""#), (".level[1].min", "40", r#""40""#)),
            (
                "76561197980428154",
                r#""76561197980428154""#,
                ("", "76561197980428154", r#""76561197980428154""#),
            ),
        ] {
            let (path, own, theirs) = at;
            assert_eq!(apart_by_type(one, other), Some((path.to_string(), own, theirs)), "{one} {other}");
        }
        for (one, other) in [
            ("40", "40"),
            ("40", r#""41""#),
            (r#""40""#, r#""40 ""#),
            ("[1]", r#""[1]""#),
            ("[1]", "[1.0]"),
            ("[40,1]", r#"["40",2]"#),
            ("[40]", r#"["40","40"]"#),
            (r#"{"a":40}"#, r#"{"b":"40"}"#),
            (r#"{"a":40}"#, r#"{"a":"40","b":1}"#),
            ("[]", "{}"),
            ("76561197980428154", r#""76561197980428155""#),
        ] {
            assert_eq!(apart_by_type(one, other), None, "{one} {other}");
        }
    }

    #[test]
    fn values_are_equal_by_what_they_mean_while_reading_is_allowed() {
        let mut reads = 2;
        assert!(equal("1", "1", &mut reads) && reads == 2);
        for (one, other) in [("[0]", "[-0.0]"), (r#"{"a":[1]}"#, r#"{"a":[1.0]}"#), ("1e2", "100")] {
            assert!(equal(one, other, &mut 1), "{one} {other}");
        }
        for (one, other) in
            [("76561197980428154", "76561197980428155"), ("9007199254740992", "9007199254740993")]
        {
            assert!(!equal(one, other, &mut 1), "{one} {other}");
        }
        assert!(equal(r#"{"a":1,"b":[2]}"#, r#"{ "b":[2],"a":1}"#, &mut reads) && reads == 1);
        assert!(!equal("1", "2", &mut reads) && reads == 0);
        assert!(!equal("[1]", "[ 1 ]", &mut reads));
    }
}

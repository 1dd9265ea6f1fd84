//! JSON by its content: whether two texts have the same content, and a digest to compare contents later without the
//! text.
//!
//! * Spaces and the order of an object's keys do not matter; the order of an array does.
//! * Numbers are compared by their exact decimal value: `1`, `1.0` and `10e-1` are the same number, so are `0` and
//!   `-0`, but `9007199254740992` and `9007199254740993` are not.
//! * Strings are compared by their characters: `"\u0061"` is `"a"`. Characters are not normalized any further.
//! * If an object has a key twice, the last value counts, as in the match document.
//! * A text that is not JSON, or is nested deeper than [`MAX_DEPTH`], only equals itself.
//!
//! The digest is SipHash-1-3 with 128 bits and a zero key. It is stored, so its input must never change. It
//! distinguishes honest contents: two of them collide with a probability of 2⁻¹²⁸. A deliberate collision gains
//! nothing: a digest is only compared under an id or a key that the sender chose, and a match of both only tells the
//! sender "you have ordered this before", with the id that a refusal contains as well.

use alloc::string::String;
use alloc::vec::Vec;
use core::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// Maximum nesting of arrays and objects whose content is compared; Sortie's JSON parsers accept no more.
pub const MAX_DEPTH: usize = 128;

/// A digest of a content: equal for equal contents.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Digest([u64; 2]);

impl Digest {
    /// Its stored form.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        for (to, half) in bytes.chunks_exact_mut(8).zip(self.0) {
            to.copy_from_slice(&half.to_le_bytes());
        }
        bytes
    }

    /// From its stored form.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        let number = u128::from_le_bytes(bytes);
        Self([number as u64, (number >> 64) as u64])
    }

    /// The digest of the content of a JSON text.
    #[must_use]
    pub fn of_json(text: &str) -> Self {
        let mut digest = Digester::default();
        let mut reader = Reader { text, at: 0 };
        let whole = reader.value(&mut digest, MAX_DEPTH).filter(|()| {
            reader.skip_space();
            reader.at == text.len()
        });
        if whole.is_none() {
            digest = Digester::default();
            digest.tagged(b'?', text.as_bytes());
        }
        digest.finish()
    }
}

/// Whether two JSON texts have the same content.
#[must_use]
pub fn same_content(one: &str, other: &str) -> bool {
    one == other || Digest::of_json(one) == Digest::of_json(other)
}

/// Digests parts, each with a tag and its length, so that different sequences of parts are different bytes.
#[derive(Default)]
pub(crate) struct Digester(SipHasher13);

impl Digester {
    pub(crate) fn tag(&mut self, tag: u8) {
        self.0.write(&[tag]);
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.0.write(&number.to_le_bytes());
    }

    pub(crate) fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        self.tag(tag);
        self.number(bytes.len() as u64);
        self.0.write(bytes);
    }

    pub(crate) fn digest(&mut self, digest: Digest) {
        self.0.write(&digest.to_bytes());
    }

    pub(crate) fn finish(&self) -> Digest {
        let hash = self.0.finish128();
        Digest([hash.h1, hash.h2])
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Takes the bytes that are `wanted`.
    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = rest.bytes().position(|byte| !wanted(byte)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }

    fn value(&mut self, into: &mut Digester, depth: usize) -> Option<()> {
        self.skip_space();
        match self.peek()? {
            b'{' => self.object(into, depth.checked_sub(1)?),
            b'[' => self.array(into, depth.checked_sub(1)?),
            b'"' => self.string(into),
            b'-' | b'0'..=b'9' => self.number(into),
            _ => self.word(into),
        }
    }

    fn word(&mut self, into: &mut Digester) -> Option<()> {
        let tag = match self.take_while(|byte| byte.is_ascii_lowercase()) {
            "null" => b'n',
            "true" => b't',
            "false" => b'f',
            _ => return None,
        };
        into.tag(tag);
        Some(())
    }

    fn array(&mut self, into: &mut Digester, depth: usize) -> Option<()> {
        into.tag(b'[');
        self.list(b'[', b']', |reader| reader.value(into, depth))?;
        into.tag(b']');
        Some(())
    }

    /// Members are digested one by one and sorted by their keys' digests.
    fn object(&mut self, into: &mut Digester, depth: usize) -> Option<()> {
        let mut members: Vec<(Digest, Digest)> = Vec::new();
        self.list(b'{', b'}', |reader| {
            reader.skip_space();
            let (mut key, mut value) = (Digester::default(), Digester::default());
            reader.string(&mut key)?;
            reader.skip_space();
            reader.take(b':')?;
            reader.value(&mut value, depth)?;
            members.push((key.finish(), value.finish()));
            Some(())
        })?;
        // The sort is stable: of several members with one key, the last one written comes first here.
        members.reverse();
        members.sort_by_key(|(key, _)| *key);
        members.dedup_by_key(|(key, _)| *key);
        into.tag(b'{');
        into.number(members.len() as u64);
        for (key, value) in members {
            into.digest(key);
            into.digest(value);
        }
        Some(())
    }

    /// Items between two brackets, with commas between them.
    fn list(&mut self, open: u8, close: u8, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take(open)?;
        self.skip_space();
        if self.take(close).is_some() {
            return Some(());
        }
        loop {
            item(self)?;
            self.skip_space();
            if self.take(close).is_some() {
                return Some(());
            }
            self.take(b',')?;
        }
    }

    fn string(&mut self, into: &mut Digester) -> Option<()> {
        self.take(b'"')?;
        let plain = self.take_while(|byte| byte != b'"' && byte != b'\\');
        if self.take(b'"').is_some() {
            into.tagged(b'"', plain.as_bytes());
            return Some(());
        }
        let mut characters = String::from(plain);
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => characters.push(self.escape()?),
                _ => characters.push_str(self.take_while(|byte| byte != b'"' && byte != b'\\')),
            }
        }
        self.take(b'"')?;
        into.tagged(b'"', characters.as_bytes());
        Some(())
    }

    fn escape(&mut self) -> Option<char> {
        self.take(b'\\')?;
        let escaped = self.peek()?;
        self.at += 1;
        Some(match escaped {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.code_point(),
            _ => return None,
        })
    }

    /// The code point after `\u`: one unit of UTF-16, or a surrogate pair.
    fn code_point(&mut self) -> Option<char> {
        let first = self.unit()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(u32::from(first));
        }
        self.take(b'\\')?;
        self.take(b'u')?;
        char::decode_utf16([first, self.unit()?]).next()?.ok()
    }

    fn unit(&mut self) -> Option<u16> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        let all = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        u16::from_str_radix(digits, 16).ok().filter(|_| all)
    }

    /// The significant digits and the power of ten of the last of them.
    fn number(&mut self, into: &mut Digester) -> Option<()> {
        let start = self.at;
        let negative = self.take(b'-').is_some();
        let whole = self.take_while(|byte| byte.is_ascii_digit());
        let point = self.take(b'.').is_some();
        let fraction = if point { self.take_while(|byte| byte.is_ascii_digit()) } else { "" };
        if whole.is_empty() || (point && fraction.is_empty()) || (whole.len() > 1 && whole.starts_with('0')) {
            return None;
        }
        let exponent = match self.peek() {
            Some(b'e' | b'E') => self.exponent()?,
            _ => Some(0),
        };
        let digits = [whole, fraction].concat();
        let significant = digits.trim_start_matches('0').trim_end_matches('0');
        if significant.is_empty() {
            into.tagged(b'0', b"");
            return Some(());
        }
        let trailing = digits.len() - digits.trim_end_matches('0').len();
        let power = exponent
            .and_then(|exponent| exponent.checked_sub(fraction.len() as i64)?.checked_add(trailing as i64));
        match power {
            Some(power) => {
                into.tagged(if negative { b'-' } else { b'+' }, significant.as_bytes());
                into.number(power.cast_unsigned());
            }
            // Exponents beyond 64 bits: equal only if they are written identically.
            None => into.tagged(b'e', self.text.get(start..self.at)?.as_bytes()),
        }
        Some(())
    }

    /// The number after `e`; the inner value is `None` if it exceeds 64 bits.
    fn exponent(&mut self) -> Option<Option<i64>> {
        self.at += 1;
        let negative = self.take(b'-').is_some();
        if !negative {
            self.take(b'+');
        }
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        if digits.is_empty() {
            return None;
        }
        let size: Option<i64> = digits.parse().ok();
        Some(size.map(|size| if negative { -size } else { size }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) {
        assert!(same_content(one, other), "{one} is {other}");
        assert!(same_content(other, one), "{other} is {one}");
    }

    fn different(one: &str, other: &str) {
        assert!(!same_content(one, other), "{one} is not {other}");
    }

    #[test]
    fn spaces_and_the_order_of_keys_do_not_matter() {
        same(r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1.0}"#);
        same(" {\n\t\"a\" : [ 1 , { } ] }\r\n", r#"{"a":[1,{}]}"#);
        same(r#"{"a":{"x":1,"y":[{"p":1,"q":2}]},"b":0}"#, r#"{"b":0,"a":{"y":[{"q":2,"p":1}],"x":1}}"#);
        different(r#"{"a":1}"#, r#"{"a":1,"b":null}"#);
        different(r#"{"a":1,"b":2}"#, r#"{"a":2,"b":1}"#);
        different("{}", "[]");
    }

    #[test]
    fn the_order_of_arrays_and_where_they_end_matters() {
        different("[1,2]", "[2,1]");
        different("[[1],2]", "[[1,2]]");
        different("[[],[]]", "[[[]]]");
        different("[1,2]", "[12]");
        different(r#"["ab","c"]"#, r#"["a","bc"]"#);
        different("[]", "[null]");
    }

    #[test]
    fn numbers_are_compared_by_their_exact_value() {
        for (one, other) in [
            ("1", "1.0"),
            ("1", "10e-1"),
            ("1", "1E+0"),
            ("100", "1e2"),
            ("0", "-0"),
            ("0", "-0.0e7"),
            ("0.5", "5e-1"),
            ("-12.50", "-1.25e1"),
            ("1e23", "100000000000000000000000"),
            ("0e99999999999999999999", "0"),
        ] {
            same(one, other);
        }
        for (one, other) in [
            ("1", "-1"),
            ("1", "10"),
            ("1", "1.0000000000000000000001"),
            ("9007199254740992", "9007199254740993"),
            ("18446744073709551615", "18446744073709551616"),
            ("0.1", "0.10000000000000001"),
            ("1e400", "1e401"),
            ("1e99999999999999999999", "1e99999999999999999998"),
            ("1", r#""1""#),
            ("0", "false"),
            ("null", "0"),
        ] {
            different(one, other);
        }
    }

    #[test]
    fn strings_are_compared_by_their_characters() {
        same(r#""a\/\u0062\n""#, "\"a/b\\u000a\"");
        same(r#""\ud83d\ude00é""#, "\"\u{1f600}\\u00e9\"");
        same(r#"{"\u0061":1}"#, r#"{"a":1}"#);
        different(r#""a""#, r#""A""#);
        // A composed and a decomposed é are different characters.
        different("\"\u{e9}\"", "\"e\u{301}\"");
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        same(r#"{"a":1,"a":2}"#, r#"{"a":2}"#);
        same(r#"{"a":1,"b":0,"\u0061":2}"#, r#"{"b":0,"a":2}"#);
        different(r#"{"a":1,"a":2}"#, r#"{"a":1}"#);
    }

    #[test]
    fn what_is_not_json_is_only_the_same_as_itself() {
        let bad = [
            "",
            "{",
            "[1,]",
            "{\"a\"}",
            "01",
            "1.",
            "-",
            "1e",
            "tru",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\\u+123\"",
            "1 2",
            "[",
            "\"",
            "nul l",
        ];
        for text in bad {
            same(text, text);
            different(text, &alloc::format!("{text} "));
            different(text, "null");
        }
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        same(&deep(MAX_DEPTH), &alloc::format!(" {}", deep(MAX_DEPTH)));
        different(&deep(MAX_DEPTH + 1), &alloc::format!(" {}", deep(MAX_DEPTH + 1)));
        different(&deep(1_000_000), "[]");
    }

    /// Digests are stored: these must stay the same forever.
    #[test]
    fn digests_never_change() {
        let hex = |text| {
            let bytes = Digest::of_json(text).to_bytes();
            bytes.iter().map(|byte| alloc::format!("{byte:02x}")).collect::<String>()
        };
        assert_eq!(hex("{}"), "ec65c86c44a3d1fc5cc056f8226f60e5");
        assert_eq!(hex(r#"{"a":[1.50,"x",null,true],"b":{"c":-2}}"#), "2103fabd9914263342c6ca7a3486703f");
        let digest = Digest::of_json("[1]");
        assert_eq!(Digest::from_bytes(digest.to_bytes()), digest);
    }
}

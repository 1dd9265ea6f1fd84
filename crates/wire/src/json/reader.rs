//! A layer between serde_json and the generated code while a message is read.
//!
//! The generated code asks for a type (a struct with these fields, a map, a string), which distinguishes a message's
//! field from a key of a map. So this layer handles `null`, reads hint flags, and keeps the path that errors need.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::iter;

use serde::Deserialize as _;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use crate::hints::{self, Hints};

/// The path from an error up to the document, filled while the error passes up.
#[derive(Default)]
pub(super) struct Trail(RefCell<Vec<Segment>>);

enum Segment {
    Field(String),
    Key(String),
    Index(usize),
}

impl Trail {
    fn passed(&self, segment: Segment) {
        self.0.borrow_mut().push(segment);
    }

    pub(super) fn path(&self) -> String {
        let mut path = String::new();
        for segment in self.0.borrow().iter().rev() {
            // Writing to a string cannot fail.
            let _ = match segment {
                Segment::Field(name) if path.is_empty() => write!(path, "{name}"),
                Segment::Field(name) => write!(path, ".{name}"),
                Segment::Key(key) => write!(path, "[{key:?}]"),
                Segment::Index(index) => write!(path, "[{index}]"),
            };
        }
        path
    }
}

/// A value of a document.
pub(super) struct Reader<'t, D> {
    inner: D,
    trail: &'t Trail,
    /// Whether it is a field of a message, where `null` is allowed, unlike in lists and maps.
    is_field: bool,
}

impl<'t, D> Reader<'t, D> {
    pub(super) const fn new(inner: D, trail: &'t Trail) -> Self {
        Self { inner, trail, is_field: false }
    }

    /// A visitor between the document and `visitor`, which turns the `null` of a field into `default`.
    const fn between<V>(&self, visitor: V, default: NullIs) -> Between<'t, V> {
        let null = if self.is_field { default } else { NullIs::Refused };
        Between { visitor, trail: self.trail, null, is_message: false }
    }
}

/// The value of a `null`, depending on the type that the generated code asks for.
#[derive(Clone, Copy)]
enum NullIs {
    Refused,
    Zero,
    False,
    Text,
    List,
    Map,
}

macro_rules! read_as {
    ($($method:ident = $default:ident,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            let between = self.between(visitor, NullIs::$default);
            self.inner.deserialize_any(between)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Reader<'_, D> {
    type Error = D::Error;

    // JSON values have their own type; the generated code asks for "any" if it accepts a number or a string.
    read_as! {
        deserialize_any = Zero,
        deserialize_bool = False,
        deserialize_i8 = Zero, deserialize_i16 = Zero, deserialize_i32 = Zero, deserialize_i64 = Zero,
        deserialize_u8 = Zero, deserialize_u16 = Zero, deserialize_u32 = Zero, deserialize_u64 = Zero,
        deserialize_i128 = Zero, deserialize_u128 = Zero, deserialize_f32 = Zero, deserialize_f64 = Zero,
        deserialize_char = Text, deserialize_str = Text, deserialize_string = Text,
        deserialize_bytes = Text, deserialize_byte_buf = Text,
        deserialize_seq = List,
        deserialize_map = Map,
        deserialize_unit = Refused,
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let between = self.between(visitor, NullIs::Refused);
        self.inner.deserialize_option(between)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let between = Between { is_message: true, ..self.between(visitor, NullIs::Refused) };
        self.inner.deserialize_any(between)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    /// Straight to serde_json, which skips a value of any depth without recursion.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_ignored_any(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_identifier(visitor)
    }
}

/// Passes a value on to `visitor`, and wraps lists and objects.
struct Between<'t, V> {
    visitor: V,
    trail: &'t Trail,
    null: NullIs,
    is_message: bool,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Between<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<V::Value, E> {
        self.visitor.visit_bool(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<V::Value, E> {
        self.visitor.visit_i64(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<V::Value, E> {
        self.visitor.visit_u64(value)
    }

    /// Canonical JSON accepts `3.0` and `3e2` as whole numbers.
    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        // Up to here every whole number has an exact float.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if value.fract() == 0.0 && value.abs() <= EXACT {
            return self.visitor.visit_i64(value as i64);
        }
        self.visitor.visit_f64(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<V::Value, E> {
        self.visitor.visit_str(value)
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<V::Value, E> {
        self.visitor.visit_borrowed_str(value)
    }

    fn visit_string<E: Error>(self, value: String) -> Result<V::Value, E> {
        self.visitor.visit_string(value)
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        match self.null {
            NullIs::Refused => self.visitor.visit_unit(),
            NullIs::Zero => self.visitor.visit_u64(0),
            NullIs::False => self.visitor.visit_bool(false),
            NullIs::Text => self.visitor.visit_str(""),
            NullIs::List => self.visitor.visit_seq(SeqDeserializer::<_, E>::new(iter::empty::<()>())),
            NullIs::Map => self.visitor.visit_map(MapDeserializer::<_, E>::new(iter::empty::<((), ())>())),
        }
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(Reader::new(deserializer, self.trail))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_seq(List { inner, trail: self.trail, index: 0 })
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let Self { visitor, trail, is_message, .. } = self;
        visitor.visit_map(Object { inner, trail, is_message, key: Cow::Borrowed("") })
    }
}

/// The elements of a list.
struct List<'t, A> {
    inner: A,
    trail: &'t Trail,
    index: usize,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for List<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let element = self.inner.next_element_seed(Value { seed, trail: self.trail, is_field: false });
        if element.is_err() {
            self.trail.passed(Segment::Index(self.index));
        }
        self.index += 1;
        element
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

/// The members of an object: fields of a message, or entries of a map.
struct Object<'de, 't, A> {
    inner: A,
    trail: &'t Trail,
    is_message: bool,
    /// The key whose value comes next.
    key: Cow<'de, str>,
}

impl<'de, A: MapAccess<'de>> Object<'de, '_, A> {
    fn read_value<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        if self.is_message && hints::FIELD_NAMES.contains(&self.key.as_ref()) {
            let value = Value { seed: HintsSeed, trail: self.trail, is_field: true };
            let bits = self.inner.next_value_seed(value)?;
            return seed.deserialize(bits.into_deserializer());
        }
        self.inner.next_value_seed(Value { seed, trail: self.trail, is_field: self.is_message })
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Object<'de, '_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let Some(key) = self.inner.next_key_seed(KeySeed)? else { return Ok(None) };
        let value = seed.deserialize(key.as_ref().into_deserializer())?;
        self.key = key;
        Ok(Some(value))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let value = self.read_value(seed);
        if value.is_err() {
            let key = self.key.clone().into_owned();
            self.trail.passed(if self.is_message { Segment::Field(key) } else { Segment::Key(key) });
        }
        value
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

/// Reads a nested value.
struct Value<'t, S> {
    seed: S,
    trail: &'t Trail,
    is_field: bool,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Value<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.seed.deserialize(Reader { inner, trail: self.trail, is_field: self.is_field })
    }
}

struct HintsSeed;

impl<'de> DeserializeSeed<'de> for HintsSeed {
    type Value = u32;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u32, D::Error> {
        Hints::deserialize(deserializer).map(|hints| hints.0)
    }
}

/// Reads a key, without a copy if the document has it without escapes.
struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text))
    }
}

//! `google.protobuf.Any`: a message of any type inside another.
//!
//! prost's own `Any` has no JSON form; pbjson's neither. This one is the same on the wire. Its canonical JSON form is
//! that of the message inside, with its type next to the fields: `{"@type": "type.googleapis.com/…", …}`.
//!
//! Only types of the contract have this form, and only those without an `Any` themselves (nesting could exhaust the
//! stack). All others, such as a game's own, are bytes: `{"@type": "…", "value": "<base64>"}`, in output and input. So
//! an event that Sortie does not know still reaches clients that do.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::{Message, Name};
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::ser::{Error as _, SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::json::{self, JsonError};

/// A message with its type.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Any {
    /// `type.googleapis.com/` and the full name of the message.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message, encoded.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

impl Any {
    /// Wraps `message`.
    #[must_use]
    pub fn pack<M: Message + Name>(message: &M) -> Self {
        Self { type_url: M::type_url(), value: message.encode_to_vec() }
    }

    /// The message inside; `None` if it is of another type or its bytes are broken.
    #[must_use]
    pub fn unpack<M: Message + Name + Default>(&self) -> Option<M> {
        if name_in(&self.type_url) == M::full_name() { M::decode(self.value.as_slice()).ok() } else { None }
    }

    fn shown(&self) -> Option<Map<String, Value>> {
        (codec(name_in(&self.type_url))?.show)(&self.value)
    }
}

/// The full name of the message: what follows the last slash of a type URL.
fn name_in(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or_default()
}

struct Codec {
    show: fn(&[u8]) -> Option<Map<String, Value>>,
    read: fn(Value) -> Result<Vec<u8>, JsonError>,
}

impl Codec {
    fn of<M: Message + Default + Serialize + DeserializeOwned>() -> Self {
        Self {
            show: |bytes| match serde_json::to_value(M::decode(bytes).ok()?) {
                Ok(Value::Object(fields)) => Some(fields),
                _ => None,
            },
            read: |value| json::decode_value::<M>(value).map(|message| message.encode_to_vec()),
        }
    }
}

fn codec(name: &str) -> Option<Codec> {
    include!(concat!(env!("OUT_DIR"), "/any_codecs.rs"))
}

impl Serialize for Any {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.type_url.is_empty() {
            return Err(S::Error::custom("an Any without a type has no JSON form"));
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("@type", &self.type_url)?;
        match self.shown() {
            Some(fields) => {
                for (name, field) in &fields {
                    map.serialize_entry(name, field)?;
                }
            }
            None => map.serialize_entry("value", &STANDARD.encode(&self.value))?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(deserializer)?;
        let Some(Value::String(type_url)) = fields.remove("@type") else {
            return Err(D::Error::custom(
                "needs a field \"@type\" with the type of the message, as a string",
            ));
        };
        let value = match codec(name_in(&type_url)) {
            Some(codec) => (codec.read)(Value::Object(fields)).map_err(D::Error::custom)?,
            None => opaque(&fields).ok_or_else(|| {
                D::Error::custom(
                    "\"@type\" is not a type of this API: its bytes must be in \"value\", as base64",
                )
            })?,
        };
        Ok(Self { type_url, value })
    }
}

fn opaque(fields: &Map<String, Value>) -> Option<Vec<u8>> {
    match fields.get("value") {
        None if fields.is_empty() => Some(Vec::new()),
        Some(Value::String(text)) if fields.len() == 1 => STANDARD.decode(text).ok(),
        _ => None,
    }
}

//! Canonical JSON of the messages, in and out.
//!
//! The serde implementations that pbjson generates do most of it: they write lowerCamelCase, enums as names and 64-bit
//! integers as strings, omit defaults, also read snake_case, numbers for enums and for 64-bit integers, and ignore
//! unknown fields. [`decode`] and [`encode`] add what is missing:
//!
//! * `null` in a field is its default value,
//! * a whole number may be written `3.0`,
//! * hint flags (see [`crate::hints`]),
//! * errors say which field is wrong, as a path.
//!
//! So messages go through these two functions, never through serde_json alone. Both work in one pass between serde_json
//! and the generated code (`reader`, `writer`): rewriting a tree of JSON values could not tell a message's field from a
//! key of a map.

mod reader;
mod writer;

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use reader::{Reader, Trail};
use writer::HintNames;

/// Maximum size of a document for [`decode`], in bytes: the same as tonic's limit for a gRPC message.
pub const MAX_DOCUMENT_BYTES: usize = 4 * 1024 * 1024;

/// Maximum length of a path in a [`JsonError`], in bytes. Keys of maps are the sender's text.
pub const MAX_PATH_BYTES: usize = 160;

/// Maximum length of a message in a [`JsonError`], in bytes. It may quote the sender's text.
pub const MAX_MESSAGE_BYTES: usize = 480;

/// Why a document cannot be read as a message, or a message not be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JsonError {
    /// The field: `match.playerIds[0]`, `playerProperties["p1"]`; empty for the document itself.
    pub path: String,
    /// What is wrong and what would be right, without the path.
    pub message: String,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

impl std::error::Error for JsonError {}

impl JsonError {
    fn new(trail: &Trail, error: &serde_json::Error) -> Self {
        let message = plain(&error.to_string());
        Self { path: cut(trail.path(), MAX_PATH_BYTES), message: cut(message, MAX_MESSAGE_BYTES) }
    }
}

/// A document is a list although it has to be an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListForObject;

impl fmt::Display for ListForObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be an object, not a list")
    }
}

impl std::error::Error for ListForObject {}

/// `document`, which is to be read as a type with fields: serde would accept a list of them, in their order.
///
/// # Errors
/// [`ListForObject`]
pub fn not_a_list(document: &[u8]) -> Result<&[u8], ListForObject> {
    if document.trim_ascii_start().first() == Some(&b'[') { Err(ListForObject) } else { Ok(document) }
}

/// Rewrites the two messages of generated code that do not say what is expected.
fn plain(message: &str) -> String {
    message
        .replace(
            "data did not match any variant of untagged enum Content",
            "must be a number, or a number in a string",
        )
        .replace("expected expected one of", "expected one of")
}

fn cut(mut text: String, limit: usize) -> String {
    const MARK: &str = "…";
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit - MARK.len()));
        text.push_str(MARK);
    }
    text
}

/// Reads one message from a whole document.
///
/// # Errors
/// [`JsonError`] if the document is longer than [`MAX_DOCUMENT_BYTES`], is not JSON, or is not the JSON of a `T`.
pub fn decode<T: DeserializeOwned>(document: &[u8]) -> Result<T, JsonError> {
    if document.len() > MAX_DOCUMENT_BYTES {
        let message = format!("has {} bytes, at most {MAX_DOCUMENT_BYTES} are allowed", document.len());
        return Err(JsonError { path: String::new(), message });
    }
    let trail = Trail::default();
    let mut json = serde_json::Deserializer::from_slice(document);
    T::deserialize(Reader::new(&mut json, &trail))
        .and_then(|message| json.end().map(|()| message))
        .map_err(|error| JsonError::new(&trail, &error))
}

/// Reads one message from a tree of JSON values.
pub(crate) fn decode_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, JsonError> {
    let trail = Trail::default();
    T::deserialize(Reader::new(value, &trail)).map_err(|error| JsonError::new(&trail, &error))
}

/// Writes one message, without spaces or line ends.
///
/// # Errors
/// [`JsonError`] if an enum field has a number without a name, which can only come from a gRPC peer, or an `Any` has no
/// type. Never for a message from [`decode`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, JsonError> {
    let mut document = Vec::new();
    let mut json = serde_json::Serializer::with_formatter(&mut document, HintNames::default());
    match message.serialize(&mut json) {
        Ok(()) => Ok(document),
        Err(error) => Err(JsonError::new(&Trail::default(), &error)),
    }
}

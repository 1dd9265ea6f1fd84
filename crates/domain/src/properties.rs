//! What people say of matches, players and tickets: a JSON object as text, passed on as it came.

use alloc::string::{String, ToString as _};
use alloc::sync::Arc;

use crate::content::Digest;
use crate::size::Size;

/// Maximum length of the JSON text of one set of properties, in bytes.
pub const MAX_PROPERTIES_BYTES: usize = 64 * 1024;

/// A JSON object as text, exactly as it was sent; a blank text counts as `{}`. Equal if the texts are;
/// [`Properties::content`] compares the contents.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Properties(Option<(Arc<str>, Digest)>);

impl Properties {
    /// Parses properties as they were sent.
    ///
    /// # Errors
    /// What is wrong if the text is neither blank nor a JSON object, or longer than [`MAX_PROPERTIES_BYTES`].
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self(None));
        }
        let written = Self::written(text)?;
        match jmespath::Variable::from_json(text) {
            Ok(value) if value.is_object() => Ok(written),
            Ok(_) => Err("must be a JSON object".to_string()),
            Err(problem) => Err(alloc::format!("must be a JSON object: {problem}")),
        }
    }

    /// Wraps the text of a JSON object that this crate has written.
    ///
    /// # Errors
    /// What is wrong, if it is longer than [`MAX_PROPERTIES_BYTES`].
    pub(crate) fn written(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PROPERTIES_BYTES {
            return Err(alloc::format!(
                "has {} bytes, at most {MAX_PROPERTIES_BYTES} are allowed",
                text.len()
            ));
        }
        Ok(Self(Some((Arc::from(text), Digest::of_json(text)))))
    }

    /// The text; `None` if nothing was sent.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.0.as_ref().map(|(text, _)| &**text)
    }

    /// The digest of their content: the same for `{"a":1,"b":2}` and `{"b":2,"a":1.0}`, and for nothing and `{}`. It is
    /// precomputed.
    #[must_use]
    pub fn content(&self) -> Digest {
        self.0.as_ref().map_or_else(|| Digest::of_json("{}"), |(_, content)| *content)
    }

    /// Whether both have the same content.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        self == other || self.content() == other.content()
    }
}

impl Size for Properties {
    fn byte_size(&self) -> usize {
        self.text().map_or(0, Size::byte_size)
    }
}

//! The parameters of a query string: each at most once unless it is a list, none unknown. Also the parameter of a path.

use std::fmt;
use std::str::FromStr;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::Uri;

use crate::error::ApiError;

/// Maximum number of parameters of a request.
const MAX_PARAMS: usize = 64;

/// The one parameter in the path.
pub(crate) fn path_param(name: &str, param: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    param.map(|Path(text)| text).map_err(|_| ApiError::field(name, "must be UTF-8"))
}

/// Parameters that have not been read yet.
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// The parameters of `uri`.
    pub(crate) fn of(uri: &Uri) -> Result<Self, ApiError> {
        let query = uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
        let params: Vec<_> = pairs.take(MAX_PARAMS + 1).collect();
        if params.len() > MAX_PARAMS {
            return Err(ApiError::too_many("query parameters", MAX_PARAMS));
        }
        Ok(Self(params))
    }

    /// Every value of `name`, in order.
    pub(crate) fn all(&mut self, name: &str) -> Vec<String> {
        self.0.extract_if(.., |(key, _)| key == name).map(|(_, value)| value).collect()
    }

    /// The value of `name`.
    pub(crate) fn one(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        let mut values = self.all(name);
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(ApiError::field(name, "is given more than once")),
        }
    }

    /// The value of `name`; `what` describes it in the error.
    pub(crate) fn parsed<T: FromStr>(
        &mut self,
        name: &str,
        what: impl fmt::Display,
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| ApiError::field(name, format!("must be {what}")))
    }

    /// Refuses unknown parameters, so that a misspelt one is not ignored.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        match self.0.first() {
            Some((name, _)) => Err(ApiError::field(shown(name), "is not a parameter of this call")),
            None => Ok(()),
        }
    }
}

/// A caller's name for something, truncated for display.
fn shown(name: &str) -> &str {
    const MAX_BYTES: usize = 64;
    &name[..name.floor_char_boundary(MAX_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::of(&format!("/x?{query}").parse().unwrap()).unwrap()
    }

    #[test]
    fn each_is_taken_once_and_nothing_is_left_over() {
        let mut given = params("a=1&b=x%20y&b=z");
        assert_eq!(given.parsed::<i32>("a", "a number").unwrap(), Some(1));
        assert_eq!(given.all("b"), ["x y", "z"]);
        assert_eq!(given.one("c").unwrap(), None);
        given.finish().unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        let twice = params("a=1&a=2").one("a").unwrap_err().message();
        assert_eq!(twice, "a: is given more than once");
        let text = params("a=ten").parsed::<i32>("a", "a number").unwrap_err().message();
        assert_eq!(text, "a: must be a number");
        let unknown = params("limt=1").finish().unwrap_err().message();
        assert_eq!(unknown, "limt: is not a parameter of this call");
    }
}

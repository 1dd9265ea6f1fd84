//! Arguments and variables with placeholders.
//!
//! Parsed once, together with the settings: a placeholder that can never have a value is an error then, rather than at
//! the first match. Values are inserted unchanged, in one pass: placeholders in them are not replaced, and no shell
//! sees them.

use std::ffi::{OsStr, OsString};

/// A placeholder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Placeholder {
    MatchId,
    Port,
    PublicAddress,
    MatchFile,
    ServerId,
    /// A property of the match, by its name.
    Property(String),
}

/// A text with placeholders.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Template(Vec<Piece>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(String),
    Value(Placeholder),
}

impl Template {
    /// Parses `{match_id}`, `{port}`, `{public_address}`, `{match_file}`, `{server_id}` and `{property:NAME}`; any
    /// other brace is left unchanged.
    pub(super) fn read(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            plain.push_str(before);
            match after.split_once('}').and_then(|(name, after)| Some((Placeholder::of_name(name)?, after))) {
                Some((placeholder, after)) => {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    pieces.push(Piece::Value(placeholder));
                    rest = after;
                }
                None => {
                    plain.push('{');
                    rest = after;
                }
            }
        }
        plain.push_str(rest);
        pieces.push(Piece::Text(plain));
        Self(pieces)
    }

    pub(super) fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Value(placeholder) => Some(placeholder),
        })
    }

    /// The text with the values that `value` returns.
    pub(super) fn fill<E>(
        &self,
        mut value: impl FnMut(&Placeholder) -> Result<OsString, E>,
    ) -> Result<OsString, E> {
        let mut filled = OsString::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => filled.push(OsStr::new(text)),
                Piece::Value(placeholder) => filled.push(value(placeholder)?),
            }
        }
        Ok(filled)
    }
}

impl Placeholder {
    fn of_name(name: &str) -> Option<Self> {
        match name {
            "match_id" => Some(Self::MatchId),
            "port" => Some(Self::Port),
            "public_address" => Some(Self::PublicAddress),
            "match_file" => Some(Self::MatchFile),
            "server_id" => Some(Self::ServerId),
            _ => name.strip_prefix("property:").map(|name| Self::Property(name.to_owned())),
        }
    }

    /// Whether it has a value only once there is a match.
    pub(super) fn is_of_match(&self) -> bool {
        matches!(self, Self::MatchId | Self::Property(_))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn filled(text: &str) -> OsString {
        let value = |placeholder: &Placeholder| match placeholder {
            Placeholder::Port => Ok::<_, Infallible>("7001".into()),
            Placeholder::Property(name) => Ok(format!("<{name}>").into()),
            _ => Ok("{port}; rm -rf $HOME".into()),
        };
        Template::read(text).fill(value).unwrap()
    }

    #[test]
    fn placeholders_are_replaced_once_and_other_braces_are_left() {
        assert_eq!(filled("--port={port}"), "--port=7001");
        assert_eq!(filled("{match_id}/{port}"), "{port}; rm -rf $HOME/7001");
        assert_eq!(filled("{property:map}{property:}"), "<map><>");
        assert_eq!(filled(r#"{"port":{port},"é":{}}{"#), r#"{"port":7001,"é":{}}{"#);
        assert_eq!(filled("{{port}}"), "{7001}");
        assert_eq!(filled("{Port}"), "{Port}");
        assert_eq!(filled(""), "");
    }

    #[test]
    fn the_placeholders_of_a_text_are_known() {
        let template = Template::read("{server_id}-{property:mode}");
        let all: Vec<_> = template.placeholders().collect();
        assert_eq!(all, [&Placeholder::ServerId, &Placeholder::Property("mode".to_owned())]);
        assert!(!all[0].is_of_match() && all[1].is_of_match());
    }
}

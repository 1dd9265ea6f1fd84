//! Passes a match to a program: as variables, as arguments, and as a JSON document.
//!
//! A match comes from outside and includes text of players, so nothing in it is trusted: invalid JSON, NUL bytes and
//! anything longer than the kernel passes on are refused before a program is started.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::Serialize;
use serde_json::value::RawValue;
use sortie_wire::catena::server_manager::Match;

use super::template::{Placeholder, Template};

/// Maximum length of an argument, and of a variable with its name, in bytes: the limit of Linux (`MAX_ARG_STRLEN` in
/// the kernel's `binfmts.h`), without the terminating NUL byte.
const MAX_VALUE_BYTES: usize = 128 * 1024 - 1;
/// Maximum total length of a program's arguments and variables, in bytes: half of the default limit of Linux.
const MAX_VALUES_BYTES: usize = 1024 * 1024;
/// Maximum length of a JSON document, in bytes.
const MAX_DOCUMENT_BYTES: usize = 16 * 1024 * 1024;

/// The variables that are set; settings cannot replace them.
mod variable {
    pub(super) const SERVER_ID: &str = "SORTIE_SERVER_ID";
    pub(super) const PORT: &str = "SORTIE_PORT";
    pub(super) const PUBLIC_ADDRESS: &str = "SORTIE_PUBLIC_ADDRESS";
    pub(super) const MATCH_FILE: &str = "SORTIE_MATCH_FILE";
    pub(super) const MATCH_ID: &str = "SORTIE_MATCH_ID";
    pub(super) const PLAYER_IDS: &str = "SORTIE_PLAYER_IDS";
    pub(super) const MATCH_PROPERTIES: &str = "SORTIE_MATCH_PROPERTIES";
    pub(super) const PLAYER_PROPERTIES: &str = "SORTIE_PLAYER_PROPERTIES";
}

/// Why a match cannot be passed to the program.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum HandoverError {
    /// Properties are not a JSON object.
    #[error("{what} is not a JSON object; correct it where the match is made")]
    NotJson {
        /// The value's name.
        what: String,
    },
    /// A value cannot be an argument or a variable.
    #[error(
        "{what} contains a NUL byte, which is impossible in arguments and variables; set MatchFile to pass it as a file"
    )]
    Nul {
        /// The value's name.
        what: String,
    },
    /// A value, or the total, is longer than the kernel passes on.
    #[error("{what} has {bytes} bytes, more than {max}; set MatchFile to pass matches as a file")]
    TooLong {
        /// The value's name.
        what: String,
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// `{port}` or `{public_address}` is used, and there is none.
    #[error("the server has no port; set PortRange, or a resolver that knows ports")]
    NoPort,
}

/// A match that can be passed completely.
#[derive(Debug)]
pub(super) struct HandoverMatch {
    pub(super) match_id: String,
    player_ids: Vec<String>,
    match_properties: Box<RawValue>,
    properties: Members,
    player_properties: BTreeMap<String, Box<RawValue>>,
}

impl HandoverMatch {
    pub(super) fn read(game: Match) -> Result<Self, HandoverError> {
        let (match_properties, properties) = object("matchProperties", &game.match_properties)?;
        let mut player_properties = BTreeMap::new();
        for (player, text) in game.player_properties {
            let (raw, _) = object("playerProperties", &text)?;
            player_properties.insert(player, raw);
        }
        Ok(Self {
            match_id: game.match_id,
            player_ids: game.player_ids,
            match_properties,
            properties,
            player_properties,
        })
    }

    /// A property as an argument: text without its quotes, anything else as JSON, a missing one as an empty text.
    fn property(&self, name: &str) -> String {
        let Some(raw) = self.properties.get(name) else { return String::new() };
        serde_json::from_str::<String>(raw.get()).unwrap_or_else(|_not_a_text| raw.get().to_owned())
    }
}

/// The members of a JSON object, by name.
type Members = BTreeMap<String, Box<RawValue>>;

/// Parses text as a JSON object; returns it with its members.
fn object(what: &str, text: &str) -> Result<(Box<RawValue>, Members), HandoverError> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    let read = || {
        let members = serde_json::from_str(text)?;
        serde_json::from_str::<Box<RawValue>>(text).map(|raw| (raw, members))
    };
    read().map_err(|_error| HandoverError::NotJson { what: what.to_owned() })
}

/// Address of the server, and location of its match file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) server_id: &'a str,
    pub(super) port: Option<u16>,
    pub(super) public_address: Option<&'a str>,
    pub(super) match_file: Option<&'a Path>,
}

/// Arguments and variables of one program.
#[derive(Debug, Default)]
pub(super) struct Handed {
    pub(super) arguments: Vec<OsString>,
    pub(super) variables: BTreeMap<OsString, OsString>,
}

impl Handed {
    /// For a program for `game`, or for one that is started before there is a match.
    pub(super) fn new(
        arguments: &[Template],
        variables: &BTreeMap<String, Template>,
        around: &Surroundings<'_>,
        game: Option<&HandoverMatch>,
    ) -> Result<Self, HandoverError> {
        let fill = |template: &Template| template.fill(|placeholder| around.value(placeholder, game));
        let mut handed = Self::default();
        for argument in arguments {
            handed.arguments.push(fill(argument)?);
        }
        for (name, value) in variables {
            handed.variables.insert(name.into(), fill(value)?);
        }
        for (name, value) in around.variables(game) {
            handed.variables.insert(name.into(), value);
        }
        handed.check()?;
        Ok(handed)
    }

    fn check(&self) -> Result<(), HandoverError> {
        let mut sum = 0_usize;
        for (index, argument) in self.arguments.iter().enumerate() {
            sum += checked(|| format!("Args[{index}]"), argument, 0)?;
        }
        for (name, value) in &self.variables {
            sum += checked(|| format!("the variable {}", name.to_string_lossy()), value, name.len() + 1)?;
        }
        if sum > MAX_VALUES_BYTES {
            let what = "everything together".to_owned();
            return Err(HandoverError::TooLong { what, bytes: sum, max: MAX_VALUES_BYTES });
        }
        Ok(())
    }
}

/// The length of a value to which `more` bytes will be added.
fn checked(what: impl Fn() -> String, value: &OsStr, more: usize) -> Result<usize, HandoverError> {
    let bytes = value.len() + more;
    if bytes > MAX_VALUE_BYTES {
        return Err(HandoverError::TooLong { what: what(), bytes, max: MAX_VALUE_BYTES });
    }
    if value.as_bytes().contains(&0) {
        return Err(HandoverError::Nul { what: what() });
    }
    Ok(bytes)
}

impl Surroundings<'_> {
    fn value(
        &self,
        placeholder: &Placeholder,
        game: Option<&HandoverMatch>,
    ) -> Result<OsString, HandoverError> {
        let game_value = |value: fn(&HandoverMatch) -> String| game.map(value).unwrap_or_default();
        Ok(match placeholder {
            Placeholder::MatchId => game_value(|game| game.match_id.clone()).into(),
            Placeholder::Property(name) => game.map(|game| game.property(name)).unwrap_or_default().into(),
            Placeholder::ServerId => self.server_id.into(),
            Placeholder::MatchFile => self.match_file.map(|path| path.as_os_str().into()).unwrap_or_default(),
            Placeholder::Port => self.port.ok_or(HandoverError::NoPort)?.to_string().into(),
            Placeholder::PublicAddress => self.public_address.ok_or(HandoverError::NoPort)?.into(),
        })
    }

    fn variables(&self, game: Option<&HandoverMatch>) -> BTreeMap<&'static str, OsString> {
        let mut variables = BTreeMap::from([(variable::SERVER_ID, self.server_id.into())]);
        variables.extend(self.port.map(|port| (variable::PORT, port.to_string().into())));
        variables.extend(self.public_address.map(|address| (variable::PUBLIC_ADDRESS, address.into())));
        variables.extend(self.match_file.map(|path| (variable::MATCH_FILE, path.into())));
        let Some(game) = game else { return variables };
        variables.insert(variable::MATCH_ID, (&game.match_id).into());
        if self.match_file.is_none() {
            variables.insert(variable::PLAYER_IDS, json(&game.player_ids).into());
            variables.insert(variable::MATCH_PROPERTIES, game.match_properties.get().into());
            variables.insert(variable::PLAYER_PROPERTIES, json(&game.player_properties).into());
        }
        variables
    }

    /// The match as one line of JSON, without the line break.
    pub(super) fn document(&self, game: &HandoverMatch) -> Result<String, HandoverError> {
        let document = Document {
            match_id: &game.match_id,
            player_ids: &game.player_ids,
            match_properties: &game.match_properties,
            player_properties: &game.player_properties,
            server_id: self.server_id,
            port: self.port,
            public_address: self.public_address,
        };
        // In JSON, line breaks can only stand between tokens: within a text they are escaped.
        let text = json(&document).replace(['\n', '\r'], " ");
        if text.len() > MAX_DOCUMENT_BYTES {
            let what = "the match as JSON".to_owned();
            return Err(HandoverError::TooLong { what, bytes: text.len(), max: MAX_DOCUMENT_BYTES });
        }
        Ok(text)
    }
}

/// Content of a match file or line.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    match_id: &'a str,
    player_ids: &'a [String],
    match_properties: &'a RawValue,
    player_properties: &'a BTreeMap<String, Box<RawValue>>,
    server_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_address: Option<&'a str>,
}

/// Maps with string keys, lists of texts and raw JSON: serializing them cannot fail.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const AROUND: Surroundings<'_> = Surroundings {
        server_id: "server-1",
        port: Some(7001),
        public_address: Some("203.0.113.5:7001"),
        match_file: None,
    };

    fn game(match_properties: &str) -> Match {
        Match {
            match_id: "m-1".to_owned(),
            player_ids: vec!["p1".to_owned(), "p\"2".to_owned()],
            match_properties: match_properties.to_owned(),
            player_properties: [
                ("p1".to_owned(), r#"{"skill": 7}"#.to_owned()),
                ("p\"2".to_owned(), String::new()),
            ]
            .into(),
        }
    }

    fn handed(arguments: &[&str], around: &Surroundings<'_>, game: Match) -> Result<Handed, HandoverError> {
        let arguments: Vec<_> = arguments.iter().map(|text| Template::read(text)).collect();
        Handed::new(&arguments, &BTreeMap::new(), around, Some(&HandoverMatch::read(game)?))
    }

    #[test]
    fn a_match_is_handed_over_as_variables_and_arguments() {
        let properties =
            r#"{"map": "dust {port}", "rounds": 3, "bots": [1, 2], "big": 12345678901234567890123}"#;
        let arguments = [
            "--map={property:map}",
            "{property:rounds}",
            "{property:bots}",
            "{property:big}",
            "x{property:no}",
        ];
        let handed = handed(&arguments, &AROUND, game(properties)).unwrap();
        assert_eq!(handed.arguments, ["--map=dust {port}", "3", "[1, 2]", "12345678901234567890123", "x"]);
        let variable = |name: &str| handed.variables.get(OsStr::new(name)).and_then(|value| value.to_str());
        assert_eq!(variable("SORTIE_MATCH_ID"), Some("m-1"));
        assert_eq!(variable("SORTIE_SERVER_ID"), Some("server-1"));
        assert_eq!(variable("SORTIE_PORT"), Some("7001"));
        assert_eq!(variable("SORTIE_PUBLIC_ADDRESS"), Some("203.0.113.5:7001"));
        assert_eq!(variable("SORTIE_PLAYER_IDS"), Some(r#"["p1","p\"2"]"#));
        assert_eq!(variable("SORTIE_MATCH_PROPERTIES"), Some(properties));
        let players: Value = serde_json::from_str(variable("SORTIE_PLAYER_PROPERTIES").unwrap()).unwrap();
        assert_eq!(players, json!({"p1": {"skill": 7}, "p\"2": {}}));
        assert_eq!(variable("SORTIE_MATCH_FILE"), None);
    }

    #[test]
    fn with_a_file_the_long_parts_are_in_it_alone() {
        let around = Surroundings { match_file: Some(Path::new("/run/match.json")), ..AROUND };
        let long = format!(r#"{{"x": "{}"}}"#, "y".repeat(2 * MAX_VALUES_BYTES));
        let handed = handed(&["{match_file}"], &around, game(&long)).unwrap();
        assert_eq!(handed.arguments, ["/run/match.json"]);
        let names: Vec<_> = handed.variables.keys().map(|name| name.to_str().unwrap()).collect();
        let expected = [
            "SORTIE_MATCH_FILE",
            "SORTIE_MATCH_ID",
            "SORTIE_PORT",
            "SORTIE_PUBLIC_ADDRESS",
            "SORTIE_SERVER_ID",
        ];
        assert_eq!(names, expected);
        let document =
            around.document(&HandoverMatch::read(game("{\n\"a\": \"b\\n\"\r\n}")).unwrap()).unwrap();
        assert!(!document.contains('\n') && !document.contains('\r'));
        let document: Value = serde_json::from_str(&document).unwrap();
        let expected = json!({
            "matchId": "m-1", "playerIds": ["p1", "p\"2"], "matchProperties": {"a": "b\n"},
            "playerProperties": {"p1": {"skill": 7}, "p\"2": {}},
            "serverId": "server-1", "port": 7001, "publicAddress": "203.0.113.5:7001",
        });
        assert_eq!(document, expected);
    }

    #[test]
    fn invalid_values_are_refused_by_name() {
        let wrong = |result: Result<Handed, HandoverError>| result.unwrap_err().to_string();
        for text in ["[1]", "nonsense", "{\"a\": 1", "7"] {
            assert!(
                wrong(handed(&[], &AROUND, game(text))).starts_with("matchProperties is not a JSON object")
            );
        }
        let mut players = game("{}");
        players.player_properties.insert("p1".to_owned(), "no".to_owned());
        assert!(wrong(handed(&[], &AROUND, players)).starts_with("playerProperties is not a JSON object"));
        let nul = game(r#"{"map": "a\u0000b"}"#);
        assert!(
            wrong(handed(&["a", "{property:map}"], &AROUND, nul)).starts_with("Args[1] contains a NUL byte")
        );
        let mut nul = game("{}");
        nul.match_id = "m\0".to_owned();
        let error = wrong(handed(&[], &AROUND, nul));
        assert!(error.starts_with("the variable SORTIE_MATCH_ID contains a NUL byte"), "{error}");
        let long = format!(r#"{{"x": "{}"}}"#, "y".repeat(MAX_VALUE_BYTES));
        let error = wrong(handed(&[], &AROUND, game(&long)));
        assert!(error.starts_with("the variable SORTIE_MATCH_PROPERTIES has 131"), "{error}");
        let long = format!(r#"{{"x": "{}"}}"#, "y".repeat(100_000));
        let error = wrong(handed(&["{property:x}"; 11], &AROUND, game(&long)));
        assert!(error.starts_with("everything together has 12"), "{error}");
        let around = Surroundings { port: None, public_address: None, ..AROUND };
        assert_eq!(handed(&["{port}"], &around, game("{}")).unwrap_err(), HandoverError::NoPort);
    }

    proptest! {
        #[test]
        fn any_text_is_passed_unchanged_or_refused(value in any::<String>()) {
            let properties = json!({ "x": value }).to_string();
            let handed = handed(&["{property:x}"], &AROUND, game(&properties));
            if value.contains('\0') {
                prop_assert!(handed.is_err());
            } else {
                prop_assert_eq!(handed.unwrap().arguments, [OsString::from(value)]);
            }
        }

        #[test]
        fn a_document_is_one_line_that_says_the_same(text in any::<String>(), blank in "[ \n\r\t]{0,4}") {
            let properties = format!("{{{blank}\"x\":{blank}{}}}", json!(text));
            let document = AROUND.document(&HandoverMatch::read(game(&properties)).unwrap()).unwrap();
            prop_assert!(!document.contains(['\n', '\r']));
            let read: Value = serde_json::from_str(&document).unwrap();
            prop_assert_eq!(&read["matchProperties"]["x"], &json!(text));
        }
    }
}

//! How a program is run for each match, according to the settings file.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use regex::bytes::{Regex, RegexBuilder};
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

use super::template::{Placeholder, Template};
use crate::resolver::ports::PortRange;
use crate::source::{BadSetting, at_a_time, within};

/// Maximum number of concurrent programs.
const MAX_MATCHES: u32 = 256;
/// Range of the interval between requests for a match.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(24 * 3600);
/// Range of the program's deadlines.
const DEADLINES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(24 * 3600);
/// Maximum size of a compiled pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 1024 * 1024;

/// The settings block `process_event_source`.
///
/// In `Args` and the values of `Env`, the placeholders `{match_id}`, `{port}`, `{public_address}`, `{match_file}`,
/// `{server_id}` and `{property:NAME}`, a property of the match, are replaced; any other brace is left unchanged. A
/// property that a match does not have is empty. No shell sees any of them, but a program may take an argument that
/// begins with `-` for an option: `--map={property:map}` avoids that.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ProcessSettings {
    /// The game server: a path, or a name to look up in `PATH`. Required. The process that it becomes is the server;
    /// when it exits, the processes left in its process group are killed.
    pub command: String,
    /// Its arguments. Default: none.
    pub args: Vec<String>,
    /// Added to the environment inherited from the sidecar; may replace anything except the variables that contain the
    /// match. Default: none.
    pub env: BTreeMap<String, String>,
    /// Its working folder. Default: the sidecar's own.
    pub working_directory: Option<PathBuf>,
    /// When it is started. Default: `on_match`.
    pub start: Start,
    /// The match is passed as a JSON file, whose path is in `SORTIE_MATCH_FILE` and `{match_file}`; only its owner can
    /// read it, and it is removed when the program has ended. The variables for players and properties are then not
    /// set, so that a match may exceed the 128 KiB of a variable. For a program started `ahead`, the complete file
    /// appears when there is a match. Default: false.
    pub match_file: bool,
    /// The match is passed as one line of JSON on standard input, which stays open until the program ends. Default:
    /// false.
    pub match_line: bool,
    /// It is ready when a line of its output, standard or error, matches this regular expression (in its first 4096
    /// bytes). Without this and `ReadyPort`, it is ready at once. Default: none.
    pub ready_pattern: Option<String>,
    /// It is ready when this port of this machine answers: a number or `{port}`, with `/tcp` (the default: it accepts
    /// connections) or `/udp` (the kernel does not report the port as unused). Default: none.
    pub ready_port: Option<PortText>,
    /// Time to become ready, 10 ms to 24 h; after that the match is given up. Default: 30 s.
    #[serde(with = "crate::settings::duration")]
    pub ready_deadline: Duration,
    /// Time from SIGTERM to SIGKILL, both sent to its whole process group, 10 ms to 24 h. Default: 10 s.
    #[serde(with = "crate::settings::duration")]
    pub stop_deadline: Duration,
    /// Maximum number of concurrent matches, each with its own process and server id, 1 to 256. Default: 1.
    pub matches: u32,
    /// Its port is taken from these, free for TCP and UDP: `"7000-7099"`, or a single one. Default: the resolver's
    /// port.
    pub port_range: Option<PortText>,
    /// Which matches it requests: a JMESPath expression over the match document. Default: any.
    pub requirements: String,
    /// Minimum time between two unsuccessful requests for a match, 10 ms to 24 h. Default: 1 s.
    #[serde(with = "crate::settings::duration")]
    pub request_interval: Duration,
}

/// When a program is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// When there is a match for it.
    #[default]
    OnMatch,
    /// Before there is a match, which is requested when the program is ready.
    Ahead,
}

/// A port, or ports, as a number or as text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PortText(pub String);

impl<'de> Deserialize<'de> for PortText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PortVisitor).map(Self)
    }
}

struct PortVisitor;

impl Visitor<'_> for PortVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port, as a number or as text")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

impl Default for ProcessSettings {
    fn default() -> Self {
        Self {
            command: String::new(),
            args: Vec::new(),
            env: BTreeMap::new(),
            working_directory: None,
            start: Start::default(),
            match_file: false,
            match_line: false,
            ready_pattern: None,
            ready_port: None,
            ready_deadline: Duration::from_secs(30),
            stop_deadline: Duration::from_secs(10),
            matches: 1,
            port_range: None,
            requirements: String::new(),
            request_interval: Duration::from_secs(1),
        }
    }
}

impl fmt::Debug for ProcessSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Operators put credentials into the environment: names are enough.
        let env: Vec<_> = self.env.keys().collect();
        let Self { command, args, working_directory, start, matches, .. } = self;
        f.debug_struct("ProcessSettings")
            .field("command", command)
            .field("args", args)
            .field("env", &env)
            .field("working_directory", working_directory)
            .field("start", start)
            .field("matches", matches)
            .finish_non_exhaustive()
    }
}

/// When a program counts as ready.
pub(super) enum Ready {
    AtOnce,
    /// A line of its output matches.
    Pattern(Regex),
    /// A port answers.
    Port(ReadyPort),
}

/// A port that answers when a program is ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ReadyPort {
    /// `None`: the assigned one.
    pub(super) number: Option<u16>,
    pub(super) is_udp: bool,
}

/// Validated settings.
pub(super) struct Checked {
    pub(super) command: PathBuf,
    pub(super) args: Vec<Template>,
    pub(super) env: BTreeMap<String, Template>,
    pub(super) working_directory: Option<PathBuf>,
    pub(super) start: Start,
    pub(super) match_file: bool,
    pub(super) match_line: bool,
    pub(super) ready: Ready,
    pub(super) ready_deadline: Duration,
    pub(super) stop_deadline: Duration,
    pub(super) matches: usize,
    pub(super) port_range: Option<PortRange>,
    pub(super) requirements: String,
    pub(super) request_interval: Duration,
    /// Variables of the sidecar that programs inherit in addition to those of every game server.
    pub(super) pass_environment: Vec<String>,
}

impl ProcessSettings {
    pub(super) fn check(self) -> Result<Checked, BadSetting> {
        let ready = self.ready()?;
        let matches = at_a_time("Matches", self.matches, MAX_MATCHES)?;
        let port_range = self.port_range.as_ref().map(port_range).transpose()?;
        if port_range.as_ref().is_some_and(|(_, count)| *count < matches) {
            let problem = format!("must have a port for each of the {matches} concurrent Matches");
            return Err(BadSetting::new("PortRange", problem));
        }
        let durations = [
            ("ReadyDeadline", self.ready_deadline, DEADLINES),
            ("StopDeadline", self.stop_deadline, DEADLINES),
            ("RequestInterval", self.request_interval, INTERVALS),
        ];
        for (key, duration, range) in durations {
            within(key, duration, &range)?;
        }
        if self.command.is_empty() || self.command.contains('\0') {
            return Err(BadSetting::new("Command", "must name the program to run"));
        }
        let mut args = Vec::with_capacity(self.args.len());
        for (index, text) in self.args.iter().enumerate() {
            args.push(self.template(&format!("Args[{index}]"), text)?);
        }
        let mut env = BTreeMap::new();
        for (name, text) in &self.env {
            let key = format!("Env.{name}");
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(BadSetting::new(
                    key,
                    "is not the name of a variable: it must not be empty or contain =",
                ));
            }
            env.insert(name.clone(), self.template(&key, text)?);
        }
        Ok(Checked {
            command: self.command.into(),
            args,
            env,
            working_directory: self.working_directory,
            start: self.start,
            match_file: self.match_file,
            match_line: self.match_line,
            ready,
            ready_deadline: self.ready_deadline,
            stop_deadline: self.stop_deadline,
            matches,
            port_range: port_range.map(|(range, _)| range),
            requirements: self.requirements,
            request_interval: self.request_interval,
            pass_environment: Vec::new(),
        })
    }

    fn template(&self, key: &str, text: &str) -> Result<Template, BadSetting> {
        if text.contains('\0') {
            return Err(BadSetting::new(key, "must not contain a NUL byte"));
        }
        let template = Template::read(text);
        for placeholder in template.placeholders() {
            if self.start == Start::Ahead && placeholder.is_of_match() {
                let problem = "names a value of the match, which a program that is started \"ahead\" cannot have: pass \
                               it over by MatchFile or MatchLine";
                return Err(BadSetting::new(key, problem));
            }
            if *placeholder == Placeholder::MatchFile && !self.match_file {
                return Err(BadSetting::new(key, "names {match_file}: set MatchFile to true"));
            }
        }
        Ok(template)
    }

    fn ready(&self) -> Result<Ready, BadSetting> {
        match (&self.ready_pattern, &self.ready_port) {
            (None, None) => Ok(Ready::AtOnce),
            (Some(_), Some(_)) => {
                Err(BadSetting::new("ReadyPort", "cannot be used together with ReadyPattern: keep one"))
            }
            (Some(pattern), None) => {
                let regex = RegexBuilder::new(pattern).size_limit(MAX_PATTERN_BYTES).build();
                let problem = |error| format!("is not a usable regular expression: {error}");
                regex.map(Ready::Pattern).map_err(|error| BadSetting::new("ReadyPattern", problem(error)))
            }
            (None, Some(text)) => ReadyPort::read(&text.0).map(Ready::Port).ok_or_else(|| {
                let right = "must be a port like 7777 or \"{port}\", optionally with /tcp or /udp";
                BadSetting::new("ReadyPort", format!("{right}, is {:?}", text.0))
            }),
        }
    }
}

impl Ready {
    pub(super) fn pattern(&self) -> Option<Regex> {
        match self {
            Self::Pattern(pattern) => Some(pattern.clone()),
            Self::AtOnce | Self::Port(_) => None,
        }
    }
}

impl ReadyPort {
    fn read(text: &str) -> Option<Self> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let is_udp = match protocol {
            "tcp" => false,
            "udp" => true,
            _ => return None,
        };
        match number {
            "{port}" => Some(Self { number: None, is_udp }),
            _ => Some(Self { number: Some(port(number)?), is_udp }),
        }
    }
}

/// The range, and its number of ports.
fn port_range(text: &PortText) -> Result<(PortRange, usize), BadSetting> {
    let (first, last) = text.0.split_once('-').unwrap_or((&text.0, &text.0));
    let range = || {
        let (first, last) = (port(first.trim())?, port(last.trim())?);
        Some((PortRange::new(first, last).ok()?, (first..=last).len()))
    };
    range().ok_or_else(|| {
        BadSetting::new("PortRange", format!("must be ports like \"7000-7099\", is {:?}", text.0))
    })
}

fn port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_number && *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Checked, String> {
        let settings: ProcessSettings = serde_json::from_str(json).map_err(|error| error.to_string())?;
        settings.check().map_err(|error| error.to_string())
    }

    #[test]
    fn one_key_is_enough() {
        let checked = read(r#"{"Command": "game"}"#).unwrap();
        assert!(matches!(checked.ready, Ready::AtOnce));
        assert_eq!((checked.start, checked.matches), (Start::OnMatch, 1));
        assert_eq!(checked.ready_deadline, Duration::from_secs(30));
        assert_eq!(checked.stop_deadline, Duration::from_secs(10));
        assert_eq!(checked.port_range, None);
    }

    #[test]
    fn ports_are_numbers_or_text() {
        let port = |text: &str| match read(&format!(r#"{{"Command": "game", "ReadyPort": {text}}}"#)) {
            Ok(Checked { ready: Ready::Port(port), .. }) => Some((port.number, port.is_udp)),
            _ => None,
        };
        assert_eq!(port("7777"), Some((Some(7777), false)));
        assert_eq!(port("\"7777/udp\""), Some((Some(7777), true)));
        assert_eq!(port("\"{port}\""), Some((None, false)));
        assert_eq!(port("\"{port}/udp\""), Some((None, true)));
        for wrong in ["0", "-1", "65536", "\"+7\"", "\"7/sctp\"", "\"\"", "true"] {
            assert_eq!(port(wrong), None, "{wrong}");
        }
        let range = |text: &str| {
            read(&format!(r#"{{"Command": "game", "PortRange": {text}}}"#)).map(|checked| checked.port_range)
        };
        assert_eq!(range("\"7000-7009\""), Ok(Some(PortRange::new(7000, 7009).unwrap())));
        assert_eq!(range("7000"), Ok(Some(PortRange::new(7000, 7000).unwrap())));
        for wrong in ["\"7009-7000\"", "\"7000-\"", "\"0-1\"", "\"a-b\""] {
            assert!(range(wrong).unwrap_err().starts_with("PortRange: must be ports"), "{wrong}");
        }
    }

    #[test]
    fn each_error_names_its_key() {
        for (json, beginning) in [
            (r"{}", "Command: must name"),
            (r#"{"Command": "game", "Matches": 0}"#, "Matches: must be from 1 to 256, is 0"),
            (
                r#"{"Command": "game", "Matches": 2, "PortRange": 7000}"#,
                "PortRange: must have a port for each",
            ),
            (r#"{"Command": "game", "ReadyDeadline": "0s"}"#, "ReadyDeadline: must be from 10ms to 1day"),
            (
                r#"{"Command": "game", "ReadyPattern": "("}"#,
                "ReadyPattern: is not a usable regular expression",
            ),
            (
                r#"{"Command": "game", "ReadyPattern": "a{9999}{9999}"}"#,
                "ReadyPattern: is not a usable regular expression",
            ),
            (
                r#"{"Command": "game", "ReadyPattern": "a", "ReadyPort": 7}"#,
                "ReadyPort: cannot be used together",
            ),
            (r#"{"Command": "game", "Args": ["a", "{match_file}"]}"#, "Args[1]: names {match_file}"),
            (r#"{"Command": "game", "Start": "ahead", "Args": ["{match_id}"]}"#, "Args[0]: names a value"),
            (
                r#"{"Command": "game", "Start": "ahead", "Env": {"A": "{property:x}"}}"#,
                "Env.A: names a value",
            ),
            (r#"{"Command": "game", "Env": {"A=B": ""}}"#, "Env.A=B: is not the name"),
            (r#"{"Command": "game", "Args": ["\u0000"]}"#, "Args[0]: must not contain a NUL"),
            (r#"{"Command": "game", "Start": "later"}"#, "unknown variant `later`"),
        ] {
            let error = read(json).err().expect(json);
            assert!(error.starts_with(beginning), "{error}");
        }
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let json = r#"{"Command": "game", "Env": {"DATABASE_URL": "secret"}}"#;
        let settings: ProcessSettings = serde_json::from_str(json).unwrap();
        let shown = format!("{settings:?}");
        assert!(shown.contains("DATABASE_URL") && !shown.contains("secret"), "{shown}");
    }
}

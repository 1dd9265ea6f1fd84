//! The settings of a Catena node's match broker and matchmaker as an equivalent configuration.
//!
//! What has no counterpart here is left out and noted, never guessed; what Sortie requires and Catena lacks is chosen
//! and noted. The result is checked like any configuration before it is shown, so that it can be used as it is. Values
//! that nobody asked for are not repeated: settings of other platforms contain secrets.
//!
//! The settings are read as Catena reads them: keys in any case, `//` comments, trailing commas, numbers in quotes.

mod arguments;
mod block;
mod fleet;
mod matchmaker;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};
use sortie_config_file::{Format, kind_of, parse, read_text};
use toml::Table;

use crate::checked;
use crate::finding::{Finding, Findings, MAX_FINDINGS, Problems};
use crate::load::Overrides;
use crate::parse::{SECOND, YEAR};
use crate::section::{Reading, Section};
use block::Block;

/// The result of an import.
#[derive(Clone, PartialEq, Eq)]
pub struct CatenaImport {
    /// A whole `sortie.toml`. It contains the values of game servers' environment variables, which may be secrets.
    pub toml: String,
    /// What could not be imported unchanged, one sentence each, without secrets.
    pub notes: Vec<String>,
}

impl std::fmt::Debug for CatenaImport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CatenaImport").field("notes", &self.notes).finish_non_exhaustive()
    }
}

/// A configuration equivalent to the settings in the file at `path`.
///
/// # Errors
/// [`Problems`] if the file cannot be read, is not JSON, has neither match broker nor matchmaker settings, or some of
/// them are invalid.
pub fn import_catena(path: &Path) -> Result<CatenaImport, Problems> {
    let problem = |text: String| Problems::one(path.display().to_string(), text);
    let text = read_text(path).map_err(problem)?;
    let tree = match parse(Format::CommentedJson, &text).map_err(problem)? {
        Value::Object(tree) => tree,
        other => return Err(problem(format!("must hold an object at its top, is {}", kind_of(&other)))),
    };
    let mut import = Import::default();
    let table = import.settings(&tree);
    import.problems.problems()?;
    let written = table.to_string();
    check(&written)?;
    Ok(CatenaImport { toml: opening(&import.notes) + &written, notes: import.notes })
}

/// The state of an import.
#[derive(Default)]
struct Import {
    notes: Vec<String>,
    problems: Findings,
}

/// A duration of the match broker: its key and its unit in seconds in Catena, its key and its minimum in Sortie.
type Timer = (&'static str, u32, &'static str, Duration);

const TIMERS: [Timer; 6] = [
    ("ServerMaxLifetimeMinutes", 60, "server_max_lifetime", SECOND),
    ("MatchPickupTimeSeconds", 1, "match_pickup_time", SECOND),
    ("MatchReadyTimeSeconds", 1, "match_ready_time", SECOND),
    ("MatchMaxRunTimeMinutes", 60, "match_max_run_time", SECOND),
    ("ScheduleFrequencySeconds", 1, "schedule_frequency", SECOND),
    ("DelayAllocationSeconds", 1, "delay_allocation", Duration::ZERO),
];

/// Catena's default lifetime of a server, in minutes; Sortie's differs. All other defaults are the same.
const DEFAULT_LIFETIME: u32 = 10;
/// Catena's minimum interval of the schedule, in seconds.
const MIN_FREQUENCY: u32 = 30;

impl Import {
    fn note(&mut self, path: &str, text: impl std::fmt::Display) {
        self.notes.push(format!("{path}: {text}"));
    }

    fn problem(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.problems.push(Finding { path: path.into(), text: text.into(), set_by: None });
    }

    /// Notes what was not read.
    fn left_over(&mut self, block: &Block<'_>) {
        let names: Vec<_> = block.untaken().take(MAX_FINDINGS).collect();
        for name in names {
            self.note(&name, "has no counterpart and was left out");
        }
    }

    fn settings(&mut self, tree: &Map<String, Value>) -> Table {
        let Some(mut top) = Block::of(self, "", tree) else { return Table::new() };
        let catena = top.take("Catena").and_then(|(path, value)| Block::open(self, path, value));
        let (mut own, mut rest) = (catena, Some(top));
        let mut of = |name| {
            let blocks = [&mut own, &mut rest].into_iter().flatten();
            blocks.filter_map(|block| block.take(name)).next()
        };
        let (broker, matchmaker) = (of("MatchBroker"), of("Matchmaker"));
        if broker.is_none() && matchmaker.is_none() {
            self.problem(
                "MatchBroker",
                "is not there, neither under Catena nor at the top, and no Matchmaker either: nothing to take over",
            );
            return Table::new();
        }
        let mut table = Table::new();
        if let Some(broker) = broker.and_then(|(path, value)| Block::open(self, path, value)) {
            table = self.match_broker(broker);
        }
        if let Some(block) = matchmaker.and_then(|(path, value)| Block::open(self, path, value)) {
            let matchmaker = self.matchmaker(block);
            table.insert("matchmaker".to_owned(), matchmaker.into());
        }
        for block in [rest, own].into_iter().flatten() {
            self.left_over(&block);
        }
        table
    }

    fn match_broker(&mut self, mut block: Block<'_>) -> Table {
        let mut broker = Table::new();
        match block.whole(self, "FastSchedule") {
            Some((_, mode @ 0..=2)) => {
                broker.insert("fast_schedule".to_owned(), i64::from(mode).into());
            }
            Some((path, other)) => self.problem(path, format!("must be 0, 1 or 2, is {other}")),
            None => {
                let path = block.path_of("FastSchedule");
                self.note(&path, "is not given; 1 was used, which is the default here");
            }
        }
        broker.insert("lifetime_ends_matches".to_owned(), true.into());
        for (theirs, unit, ours, least) in TIMERS {
            let Some((path, number)) = block.whole(self, theirs) else {
                if ours == "server_max_lifetime" {
                    broker.insert(ours.to_owned(), shown(seconds(DEFAULT_LIFETIME, unit)).into());
                }
                continue;
            };
            if ours == "schedule_frequency" && (1..MIN_FREQUENCY).contains(&number) {
                self.note(&path, format!("{number} was used, although Catena's minimum is {MIN_FREQUENCY}"));
            }
            let lasting = self.within(&path, seconds(number, unit), least, YEAR);
            broker.insert(ours.to_owned(), shown(lasting).into());
        }
        let fleets = self.fleets(&mut block);
        self.left_over(&block);
        let mut table = Table::new();
        table.insert("broker".to_owned(), broker.into());
        if !fleets.is_empty() {
            table.insert("fleets".to_owned(), fleets.into());
        }
        table
    }

    /// The duration itself, or the closest that Sortie allows.
    fn within(&mut self, path: &str, lasting: Duration, least: Duration, most: Duration) -> Duration {
        let taken = lasting.clamp(least, most);
        if taken != lasting {
            let (asked, taken) = (shown(lasting), shown(taken));
            self.note(
                path,
                format!("is {asked}, out of range here; {taken} was used, the closest that is allowed"),
            );
        }
        taken
    }
}

fn seconds(number: u32, unit: u32) -> Duration {
    Duration::from_secs(u64::from(number) * u64::from(unit))
}

fn shown(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// The beginning of the file: comments that say what differs.
fn opening(notes: &[String]) -> String {
    let mut text = "# Made from the settings of a Catena node by `sortie config import-catena`.\n".to_owned();
    if !notes.is_empty() {
        text += "# Not taken over as it was:\n";
    }
    for note in notes {
        // A line break would end the comment.
        let line: String = note.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
        text += &format!("#  * {line}\n");
    }
    text + "\n"
}

/// The warnings of `sortie config check`.
fn check(written: &str) -> Result<(), Problems> {
    let internal = |text: String| Problems::one("the outcome", text);
    let tree = match parse(Format::Toml, written).map_err(internal)? {
        Value::Object(tree) => tree,
        _ => Map::new(),
    };
    let reading = Reading {
        base: None,
        origins: BTreeMap::new(),
        environment: BTreeMap::new(),
        problems: RefCell::default(),
        warnings: RefCell::default(),
        remarks: RefCell::default(),
    };
    checked::config(&Section::top(&reading, &tree), Overrides::default());
    reading.problems.into_inner().problems()
}

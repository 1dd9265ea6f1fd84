//! Catena's allocators as fleets.

use serde_json::Value;
use sortie_config_file::kind_of;
use sortie_domain::requirements;
use toml::Table;

use super::block::Block;
use super::{Import, arguments, seconds, shown};
use crate::parse::{DAY, SECOND, YEAR, quoted};

/// The only allocator whose fleets can be imported: processes on the broker's machine.
const LOCAL: &str = "CatenaLocalBareMetalAllocator";
/// Maximum number of servers of a fleet, and its number of ports: Catena has no such limit, and Sortie needs one.
const SERVERS: u16 = 50;
/// The first port of the first fleet.
const FIRST_PORT: u16 = 7800;
/// Maximum number of fleets, so that there are enough ports.
const MAX_FLEETS: u16 = 1_000;
/// Maximum length of a description, in characters.
const MAX_DESCRIPTION: usize = 1_000;
/// Texts that Sortie replaces and Catena did not.
const PLACEHOLDERS: [&str; 3] = ["{port}", "{server_id}", "{fleet}"];

impl Import {
    /// A fleet for each allocator of local processes, by name.
    pub(super) fn fleets(&mut self, block: &mut Block<'_>) -> Table {
        let mut fleets = Table::new();
        let Some((path, value)) = block.take("Allocators") else { return fleets };
        let Value::Array(entries) = value else {
            self.problem(path, format!("must be a list, is {}", kind_of(value)));
            return fleets;
        };
        if entries.len() > usize::from(MAX_FLEETS) {
            self.problem(path, format!("has {} entries, at most {MAX_FLEETS} are allowed", entries.len()));
            return fleets;
        }
        for ((index, entry), preference) in entries.iter().enumerate().zip(0_u16..) {
            let Some(block) = Block::open(self, format!("{path}[{index}]"), entry) else { continue };
            if let Some(mut fleet) = self.fleet(block, preference) {
                fleet.insert("preference".to_owned(), i64::from(preference).into());
                fleets.insert(format!("local-{preference}"), fleet.into());
            }
        }
        fleets
    }

    fn fleet(&mut self, mut block: Block<'_>, place: u16) -> Option<Table> {
        let path = block.path_of("Allocator");
        let Some((_, class)) = block.text(self, "Allocator") else {
            self.problem(path, "must name the allocator's class");
            return None;
        };
        if class != LOCAL {
            let class = quoted(class);
            self.note(&path, format!("{class} was left out: configure a fleet for its platform by hand"));
            return None;
        }
        let mut fleet = Table::new();
        if let Some((path, text)) = block.text(self, "AllocatorDescription") {
            let cut: String = text.chars().take(MAX_DESCRIPTION).collect();
            if cut != text {
                self.note(&path, format!("was cut to {MAX_DESCRIPTION} characters"));
            }
            fleet.insert("description".to_owned(), cut.into());
        }
        if let Some((path, text)) = block.text(self, "Requirements") {
            // Without them the fleet would take any match, so it is left out as a whole.
            if let Err(problem) = requirements::check(text) {
                self.note(&path, format!("the fleet was left out: {problem}"));
                return None;
            }
            fleet.insert("requirements".to_owned(), text.into());
        }
        let path = block.path_of("Configuration");
        match block.block(self, "Configuration") {
            Some(configuration) => self.local(configuration, &mut fleet, place),
            None => self.problem(path, "must be there, with a GameServerPath"),
        }
        self.left_over(&block);
        Some(fleet)
    }

    fn local(&mut self, mut block: Block<'_>, fleet: &mut Table, place: u16) {
        let mut local = Table::new();
        let path = block.path_of("GameServerPath");
        match block.text(self, "GameServerPath") {
            Some((_, program)) => {
                if !program.starts_with('/') {
                    self.note(
                        &path,
                        "is not an absolute path; here it starts at the folder of the configuration file",
                    );
                }
                local.insert("path".to_owned(), program.into());
            }
            None => self.problem(path.as_str(), "must be there: the game server's program"),
        }
        if let Some((path, value)) = block.take("GameServerArguments") {
            local.insert("arguments".to_owned(), self.arguments(&path, value).into());
        }
        if let Some((path, value)) = block.take("GameServerEnvironment") {
            local.insert("environment".to_owned(), self.environment(&path, value).into());
        }
        if let Some((path, number)) = block.whole(self, "ReadyDeadlineSeconds") {
            let deadline = self.within(&path, seconds(number, 1), SECOND, DAY);
            fleet.insert("ready_deadline".to_owned(), shown(deadline).into());
        }
        if let Some(reaper) = block.block(self, "ReaperConfiguration") {
            self.reaper(reaper, &mut local);
        }
        let first = FIRST_PORT + place * SERVERS;
        let last = first + SERVERS - 1;
        let chosen = format!(
            "has no limit of servers, which is required here: max = {SERVERS} and the ports {first}-{last} were \
             chosen"
        );
        self.note(block.path(), chosen);
        local.insert("ports".to_owned(), format!("{first}-{last}").into());
        fleet.insert("max".to_owned(), i64::from(SERVERS).into());
        fleet.insert("allocator".to_owned(), "local_process".into());
        fleet.insert("local_process".to_owned(), local.into());
        self.left_over(&block);
    }

    fn reaper(&mut self, mut block: Block<'_>, local: &mut Table) {
        if let Some((path, number)) = block.whole(self, "AllocatorReaperPeriodSeconds") {
            let period = self.within(&path, seconds(number, 1), SECOND, DAY);
            local.insert("reaper_period".to_owned(), shown(period).into());
        }
        if let Some((path, number)) = block.whole(self, "MaxRunTimeMinutes") {
            let longest = self.within(&path, seconds(number, 60), SECOND, YEAR);
            local.insert("max_run_time".to_owned(), shown(longest).into());
        }
        self.left_over(&block);
    }

    fn arguments(&mut self, path: &str, value: &Value) -> Vec<String> {
        let arguments = match value {
            Value::String(text) => arguments::split(text),
            Value::Array(list) if list.iter().all(Value::is_string) => {
                list.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
            }
            other => {
                self.problem(path, format!("must be text or a list of texts, is {}", kind_of(other)));
                Vec::new()
            }
        };
        self.placeholders(path, arguments.iter().map(String::as_str));
        arguments
    }

    fn environment(&mut self, path: &str, value: &Value) -> Table {
        let Value::Object(variables) = value else {
            self.problem(path, format!("must be an object of texts, is {}", kind_of(value)));
            return Table::new();
        };
        let mut table = Table::new();
        for (name, value) in variables {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(value) => value.to_string(),
                Value::Null => continue,
                other => {
                    self.problem(
                        crate::parse::join(path, name),
                        format!("must be text, is {}", kind_of(other)),
                    );
                    continue;
                }
            };
            self.placeholders(path, std::iter::once(text.as_str()));
            table.insert(name.clone(), text.into());
        }
        table
    }

    fn placeholders<'a>(&mut self, path: &str, mut texts: impl Iterator<Item = &'a str>) {
        let found = texts.find_map(|text| PLACEHOLDERS.into_iter().find(|name| text.contains(name)));
        if let Some(name) = found {
            self.note(path, format!("holds `{name}`, which is filled in here"));
        }
    }
}

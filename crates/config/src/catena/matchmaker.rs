//! Catena's queues as queues.
//!
//! Catena names hooks by classes, whose names are not published: built-in ones are recognized by their names, and each
//! is noted. A class of the operator's own has to become a hook that is called over HTTP.

use serde_json::Value;
use sortie_config_file::kind_of;
use sortie_domain::ids::QueueId;
use sortie_domain::matchmaking::settings::MAX_QUEUES;
use toml::Table;

use super::block::Block;
use super::{Import, seconds, shown};
use crate::parse::{SECOND, YEAR, quoted};

/// Parts of Catena's hook names, in lower case without separators, and the matching kind.
const HOOKS: [(&str, &str); 4] = [
    ("partymembership", "party_membership"),
    ("teamdata", "team_data"),
    ("peertopeer", "peer_to_peer_host"),
    ("p2p", "peer_to_peer_host"),
];
/// The same for the hook whose settings are in its own code.
const BY_PARTY_SIZE: &str = "partysize";

impl Import {
    pub(super) fn matchmaker(&mut self, mut block: Block<'_>) -> Table {
        let mut table = Table::new();
        if let Some((path, minutes)) = block.whole(self, "StatusExpirationMinutes") {
            let lasting = self.within(&path, seconds(minutes, 60), std::time::Duration::ZERO, YEAR);
            table.insert("status_expiration".to_owned(), shown(lasting).into());
        }
        self.hooks(&mut block, &mut table);
        let mut queues = Table::new();
        if let Some((path, value)) = block.take("MatchmakingQueues") {
            self.queues(&path, value, &mut queues);
        }
        if !queues.is_empty() {
            table.insert("queues".to_owned(), queues.into());
        }
        self.left_over(&block);
        table
    }

    fn queues(&mut self, path: &str, value: &Value, queues: &mut Table) {
        let Value::Object(entries) = value else {
            self.problem(path, format!("must be an object of queues, is {}", kind_of(value)));
            return;
        };
        if entries.len() > MAX_QUEUES {
            self.problem(path, format!("has {} entries, at most {MAX_QUEUES} are allowed", entries.len()));
            return;
        }
        for (name, entry) in entries {
            let Some(mut block) = Block::open(self, crate::parse::join(path, name), entry) else { continue };
            let name = self.name(&mut block, name);
            if let Err(problem) = QueueId::new(&name) {
                self.problem(block.path(), format!("the queue's name {problem}"));
                continue;
            }
            let queue = self.queue(block);
            if queues.insert(name.clone(), queue.into()).is_some() {
                self.problem(path, format!("has the queue {} twice", quoted(&name)));
            }
        }
    }

    /// The queue's name in tickets.
    fn name(&mut self, block: &mut Block<'_>, key: &str) -> String {
        match block.text(self, "QueueName") {
            Some((path, name)) if name != key => {
                self.note(&path, "differs from its key; it was used, not the key");
                name.to_owned()
            }
            _ => key.to_owned(),
        }
    }

    fn queue(&mut self, mut block: Block<'_>) -> Table {
        let mut table = Table::new();
        let teams = block.whole(self, "Teams");
        if teams.is_none() {
            let path = block.path_of("Teams");
            self.note(&path, "is not given; 1 was used, a match without teams");
        }
        let teams = teams.map_or(1, |(_, teams)| teams);
        table.insert("teams".to_owned(), i64::from(teams).into());
        let per_team = block.whole(self, "PlayersPerTeam");
        if let Some((_, players)) = &per_team {
            table.insert("players_per_team".to_owned(), i64::from(*players).into());
        }
        if teams > 0 && per_team.is_none_or(|(_, players)| players == 0) {
            let path = block.path_of("PlayersPerTeam");
            self.problem(path, "must be at least 1 if there are teams");
        }
        let action = self.action(&mut block, &mut table);
        self.minimum(&mut block, &mut table, teams, action);
        if let Some((path, number)) = block.whole(self, "TicketExpirationSeconds") {
            let lasting = self.within(&path, seconds(number, 1), SECOND, YEAR);
            table.insert("ticket_expiration".to_owned(), shown(lasting).into());
        }
        if let Some((path, _)) = block.text(self, "CustomStrategy") {
            let text = "was left out: declare the queue's rules, or put its logic behind a hook `form_match`";
            self.note(&path, text);
        }
        self.hooks(&mut block, &mut table);
        self.left_over(&block);
        table
    }

    /// Whether an expiring ticket gets a match of the waiting tickets.
    fn action(&mut self, block: &mut Block<'_>, table: &mut Table) -> bool {
        let Some((path, action)) = block.text(self, "ExpirationAction") else { return false };
        let name = action.trim().to_lowercase();
        if !matches!(name.as_str(), "drop" | "minimum") {
            self.problem(path, "must be drop or minimum");
            return false;
        }
        table.insert("expiration_action".to_owned(), name.as_str().into());
        name == "minimum"
    }

    /// 0 and no value mean the same in Catena.
    fn minimum(&mut self, block: &mut Block<'_>, table: &mut Table, teams: u32, to_minimum: bool) {
        let given = block.whole(self, "MinPlayersPerTeam").filter(|(_, least)| *least > 0);
        let least = match given {
            Some((_, least)) => least,
            None if teams > 0 && to_minimum => {
                let path = block.path_of("MinPlayersPerTeam");
                self.note(&path, "is not given; 1 was used, the smallest team");
                1
            }
            None => return,
        };
        table.insert("min_players_per_team".to_owned(), i64::from(least).into());
    }

    fn hooks(&mut self, block: &mut Block<'_>, table: &mut Table) {
        let Some((path, class)) = block.text(self, "CustomHooks") else { return };
        let letters: String = class.chars().filter(char::is_ascii_alphanumeric).collect();
        let letters = letters.to_lowercase();
        if letters.contains(BY_PARTY_SIZE) {
            let text = "was left out: say which queue is for which number of players in a hook `queue_by_party_size`";
            self.note(&path, text);
            return;
        }
        match HOOKS.iter().find(|(says, _)| letters.contains(says)) {
            Some((_, kind)) => {
                self.note(&path, format!("became the hook `{kind}`, judging by its name"));
                let mut hook = Table::new();
                hook.insert("kind".to_owned(), (*kind).into());
                table.insert("hooks".to_owned(), vec![hook].into());
            }
            None => {
                let text = "was left out: put its logic behind hooks `validate_ticket` and `new_match`, which are called by \
                            HTTP";
                self.note(&path, text);
            }
        }
    }
}

//! What the log says, event by event, and whether it makes sense in itself.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Places in the life of a match that are its last.
const OVER: [&str; 3] = ["ended", "failed", "cancelled"];

#[derive(Default)]
pub(super) struct MatchHistory {
    pub(super) state: &'static str,
    /// Idempotency key of its order.
    pub(super) key: Option<String>,
    holder: Option<String>,
    /// Every server that had it.
    pub(super) holders: BTreeSet<String>,
    pub(super) ready_on: Option<String>,
    pub(super) reason: Option<String>,
}

impl MatchHistory {
    pub(super) fn is_over(&self) -> bool {
        OVER.contains(&self.state)
    }
}

#[derive(Default)]
pub(super) struct Seat {
    pub(super) claimed: bool,
    /// It may be claimed once more.
    renewed: bool,
    closed: bool,
}

/// An order for a server.
#[derive(Default)]
pub(super) struct Order {
    pub(super) server: String,
    pub(super) started: bool,
    pub(super) unwanted: bool,
    pub(super) ended: bool,
}

#[derive(Default)]
pub(super) struct History {
    /// Every event as it was read, to be compared with a later reading.
    pub(super) texts: Vec<String>,
    pub(super) games: BTreeMap<String, MatchHistory>,
    pub(super) seats: BTreeMap<String, Seat>,
    pub(super) orders: BTreeMap<String, Order>,
    servers: BTreeSet<String>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

impl History {
    pub(super) fn game(&self, id: &str) -> &MatchHistory {
        self.games.get(id).unwrap_or_else(|| panic!("{id} is not in the log"))
    }

    /// Orders of which something may run.
    pub(super) fn live(&self) -> usize {
        self.orders.values().filter(|order| !order.ended).count()
    }

    /// Takes the next event, which must be the one after the last.
    pub(super) fn take(&mut self, event: &Value) {
        self.texts.push(event.to_string());
        assert_eq!(event["id"], self.texts.len().to_string(), "an event is missing");
        let kind = event["type"].as_str().unwrap();
        let (area, what) = kind.strip_prefix("sortie.").unwrap().split_once('.').unwrap();
        let data = &event["data"];
        match area {
            "match" => self.of_match(what, data),
            "seat" => self.of_seat(what, data),
            "allocation" => self.of_order(what, data),
            _ => {}
        }
    }

    fn of_match(&mut self, what: &str, data: &Value) {
        let id = text(&data["match_id"]);
        let game = self.games.entry(id.clone()).or_default();
        let expect = |from: &[&str]| assert!(from.contains(&game.state), "{id}: {what} from {}", game.state);
        let server = || text(&data["server_id"]);
        match what {
            "queued" => {
                expect(&[""]);
                game.state = "queued";
                game.key = data["idempotency_key"].as_str().map(ToOwned::to_owned);
            }
            "picked_up" => {
                expect(&["queued"]);
                game.state = "picked_up";
                game.holders.insert(server());
                game.holder = Some(server());
            }
            "returned" => {
                expect(&["picked_up"]);
                assert_eq!(game.holder, Some(server()), "{id} is returned by another");
                (game.state, game.holder) = ("queued", None);
            }
            "ready" => {
                expect(&["picked_up"]);
                assert_eq!(game.holder, Some(server()), "{id} is ready on another");
                (game.state, game.ready_on) = ("ready", Some(server()));
            }
            over => {
                expect(&["queued", "picked_up", "ready"]);
                game.state = OVER.into_iter().find(|known| *known == over).unwrap();
                game.reason = data["reason"].as_str().map(ToOwned::to_owned);
            }
        }
    }

    fn of_seat(&mut self, what: &str, data: &Value) {
        let id = text(&data["seat_id"]);
        let seat = self.seats.entry(id.clone()).or_default();
        match what {
            "claimed" => {
                let may = !seat.claimed || std::mem::take(&mut seat.renewed);
                assert!(may && !seat.closed, "{id} is claimed twice, or after its end");
                seat.claimed = true;
            }
            "renewed" => {
                assert!(!seat.closed, "{id} is renewed after its end");
                seat.renewed = seat.claimed;
            }
            "closed" => {
                assert!(!seat.closed, "{id} ends twice");
                seat.closed = true;
            }
            _ => {}
        }
    }

    fn of_order(&mut self, what: &str, data: &Value) {
        let id = text(&data["allocation_id"]);
        let order = self.orders.entry(id.clone()).or_default();
        assert!(!order.ended, "{id}: {what} after its end");
        match what {
            "ordered" => {
                order.server = text(&data["server_id"]);
                assert!(self.servers.insert(order.server.clone()), "{} is ordered twice", order.server);
            }
            "started" => order.started = true,
            "stop_ordered" => order.unwanted = true,
            "ended" => order.ended = true,
            _ => {}
        }
    }
}

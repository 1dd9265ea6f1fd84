//! Every call, once for both transports: takes a message, returns a message or a refusal.
#![allow(
    clippy::needless_pass_by_value,
    reason = "all calls have one shape, whatever they do with the message"
)]

use sortie_wire::agones::{alpha, beta, sdk};

use super::counts::{Counter, CounterChange, List, ListChange};
use super::desk::Desk;
use super::game_server::GameServer;
use super::refusal::{Refusal, quoted};

type Answer<T> = Result<T, Refusal>;

pub(super) fn ready(desk: &Desk, _: sdk::Empty) -> Answer<sdk::Empty> {
    desk.call(|game_server, _| game_server.ready());
    Ok(sdk::Empty {})
}

pub(super) fn allocate(desk: &Desk, _: sdk::Empty) -> Answer<sdk::Empty> {
    desk.call(GameServer::allocate);
    Ok(sdk::Empty {})
}

pub(super) fn shutdown(desk: &Desk, _: sdk::Empty) -> Answer<sdk::Empty> {
    desk.call(|game_server, _| game_server.shutdown());
    Ok(sdk::Empty {})
}

pub(super) fn health(desk: &Desk, _: sdk::Empty) -> Answer<sdk::Empty> {
    desk.call(GameServer::heard);
    Ok(sdk::Empty {})
}

pub(super) fn get_game_server(desk: &Desk, _: sdk::Empty) -> Answer<sdk::GameServer> {
    desk.call(|_, _| ());
    Ok(desk.show())
}

pub(super) fn set_label(desk: &Desk, request: sdk::KeyValue) -> Answer<sdk::Empty> {
    desk.call(|game_server, _| game_server.set_label(&request.key, request.value))?;
    Ok(sdk::Empty {})
}

pub(super) fn set_annotation(desk: &Desk, request: sdk::KeyValue) -> Answer<sdk::Empty> {
    desk.call(|game_server, _| game_server.set_annotation(&request.key, request.value))?;
    Ok(sdk::Empty {})
}

pub(super) fn reserve(desk: &Desk, request: sdk::Duration) -> Answer<sdk::Empty> {
    desk.call(|game_server, now| game_server.reserve(request.seconds, now));
    Ok(sdk::Empty {})
}

pub(super) fn get_counter(desk: &Desk, request: beta::GetCounterRequest) -> Answer<beta::Counter> {
    let counter = desk.call(|game_server, _| game_server.counts().counter(&request.name))?;
    Ok(counter_message(request.name, counter))
}

pub(super) fn update_counter(desk: &Desk, request: beta::UpdateCounterRequest) -> Answer<beta::Counter> {
    let Some(wanted) = request.counter_update_request else {
        return Err(Refusal::Field("counterUpdateRequest: must be given".to_owned()));
    };
    let change =
        CounterChange { capacity: wanted.capacity, count: wanted.count, difference: wanted.count_diff };
    let counter =
        desk.call(|game_server, _| game_server.count(|counts| counts.change_counter(&wanted.name, &change)))?;
    Ok(counter_message(wanted.name, counter))
}

pub(super) fn get_list(desk: &Desk, request: beta::GetListRequest) -> Answer<beta::List> {
    let list = desk.call(|game_server, _| game_server.counts().list(&request.name).cloned())?;
    Ok(list_message(request.name, list))
}

pub(super) fn update_list(desk: &Desk, request: beta::UpdateListRequest) -> Answer<beta::List> {
    let (Some(wanted), Some(mask)) = (request.list, request.update_mask) else {
        return Err(Refusal::Field("list and update_mask: must be given".to_owned()));
    };
    let stranger = mask.paths.iter().find(|path| !matches!(path.as_str(), "name" | "capacity" | "values"));
    if let Some(stranger) = stranger {
        let problem = format!("update_mask: a list has capacity and values, and no {}", quoted(stranger));
        return Err(Refusal::Field(problem));
    }
    let names = |field: &str| mask.paths.iter().any(|path| path == field);
    let change = ListChange {
        capacity: names("capacity").then_some(wanted.capacity),
        values: names("values").then_some(wanted.values),
    };
    let list =
        desk.call(|game_server, _| game_server.count(|counts| counts.change_list(&wanted.name, change)))?;
    Ok(list_message(wanted.name, list))
}

pub(super) fn add_list_value(desk: &Desk, request: beta::AddListValueRequest) -> Answer<beta::List> {
    let beta::AddListValueRequest { name, value } = request;
    let list = desk.call(|game_server, _| game_server.count(|counts| counts.add_value(&name, value)))?;
    Ok(list_message(name, list))
}

pub(super) fn remove_list_value(desk: &Desk, request: beta::RemoveListValueRequest) -> Answer<beta::List> {
    let beta::RemoveListValueRequest { name, value } = request;
    let list = desk.call(|game_server, _| game_server.count(|counts| counts.remove_value(&name, &value)))?;
    Ok(list_message(name, list))
}

pub(super) fn player_connect(desk: &Desk, request: alpha::PlayerId) -> Answer<alpha::Bool> {
    let bool = desk.call(|game_server, _| game_server.count(|counts| counts.connect(request.player_id)))?;
    Ok(alpha::Bool { bool })
}

pub(super) fn player_disconnect(desk: &Desk, request: alpha::PlayerId) -> Answer<alpha::Bool> {
    let bool =
        desk.call(|game_server, _| game_server.count(|counts| Ok(counts.disconnect(&request.player_id))))?;
    Ok(alpha::Bool { bool })
}

pub(super) fn set_player_capacity(desk: &Desk, request: alpha::Count) -> Answer<alpha::Empty> {
    desk.call(|game_server, _| game_server.count(|counts| counts.set_player_capacity(request.count)))?;
    Ok(alpha::Empty {})
}

pub(super) fn get_player_capacity(desk: &Desk, _: alpha::Empty) -> Answer<alpha::Count> {
    let count = desk.call(|game_server, _| game_server.counts().players.capacity);
    Ok(alpha::Count { count })
}

pub(super) fn get_player_count(desk: &Desk, _: alpha::Empty) -> Answer<alpha::Count> {
    let count = desk.call(|game_server, _| game_server.counts().players.ids.len());
    Ok(alpha::Count { count: i64::try_from(count).unwrap_or(i64::MAX) })
}

pub(super) fn is_player_connected(desk: &Desk, request: alpha::PlayerId) -> Answer<alpha::Bool> {
    let bool = desk.call(|game_server, _| game_server.counts().players.ids.contains(&request.player_id));
    Ok(alpha::Bool { bool })
}

pub(super) fn get_connected_players(desk: &Desk, _: alpha::Empty) -> Answer<alpha::PlayerIdList> {
    let list = desk.call(|game_server, _| game_server.counts().players.ids.clone());
    Ok(alpha::PlayerIdList { list })
}

fn counter_message(name: String, counter: Counter) -> beta::Counter {
    beta::Counter { name, count: counter.count, capacity: counter.capacity }
}

fn list_message(name: String, list: List) -> beta::List {
    beta::List { name, capacity: list.capacity, values: list.values }
}

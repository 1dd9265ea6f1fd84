//! Tickets become matches, matches get servers or do not, and players hear of each step once.

use std::time::Duration;

use sortie_domain::broker::model::MatchState;
use sortie_domain::matchmaking::Command;
use sortie_domain::matchmaking::model::{Status, TicketEnd, TicketState};
use sortie_domain::matchmaking::settings::Queue;

use crate::world::{World, duel, settings};

#[tokio::test]
async fn two_tickets_play_on_a_server_and_their_players_hear_each_step_once() {
    let world = World::new(settings(&[("duel", duel())])).await;
    let (ann, ben) = (world.ticket("duel", &["ann"]).await, world.ticket("duel", &["ben"]).await);
    let match_id = world.serve("server").await;
    for ticket in [&ann, &ben] {
        let ticket = world.until_status(ticket, Status::Completed).await;
        let TicketState::Over { end: TicketEnd::Completed { match_id: of, connection }, .. } = ticket.state
        else {
            panic!("{ticket:?}")
        };
        assert_eq!((of, &*connection.details), (match_id.clone(), "server:7777"));
        assert_eq!(world.heard(&ticket.id).await, ["IN_PROGRESS", "FINDING_SERVER", "COMPLETED"]);
    }
    assert_eq!(world.matches_queued().await, 1);
}

#[tokio::test]
async fn without_a_server_tickets_return_to_their_place_a_set_number_of_times() {
    let queue = Queue { max_requeues: 1, ..duel() };
    let world = World::new(settings(&[("duel", queue)])).await;
    let (ann, _) = (world.ticket("duel", &["ann"]).await, world.ticket("duel", &["ben"]).await);
    let place = world.find(&ann).await.place;
    for _ in 0..2 {
        world.until_broker("a match in the queue", |broker| broker.queue_length() == 1).await;
        world.pass(Duration::from_secs(91));
        world.until_broker("that it fails", |broker| broker.queue_length() == 0).await;
    }
    let ticket = world.until_status(&ann, Status::Failed).await;
    assert_eq!((ticket.requeues, ticket.place), (1, place));
    let TicketState::Over { end: TicketEnd::Failed { detail, .. }, .. } = ticket.state else { panic!() };
    assert_eq!(&*detail, "no server could be obtained in time");
    let heard = ["IN_PROGRESS", "FINDING_SERVER", "IN_PROGRESS", "FINDING_SERVER", "FAILED"];
    assert_eq!(world.heard(&ann).await, heard);
}

#[tokio::test]
async fn a_server_that_gives_the_match_up_is_no_server() {
    let world = World::new(settings(&[("duel", duel())])).await;
    let (ann, _) = (world.ticket("duel", &["ann"]).await, world.ticket("duel", &["ben"]).await);
    let match_id = world.pick_up("server").await;
    world.end("server", &match_id).await;
    let ticket = world.until_status(&ann, Status::Failed).await;
    let TicketState::Over { end: TicketEnd::Failed { detail, .. }, .. } = ticket.state else { panic!() };
    assert_eq!(&*detail, "the game server gave the match up before it was ready");
}

#[tokio::test]
async fn a_match_that_nobody_wants_any_more_is_taken_back() {
    let world = World::new(settings(&[("duel", duel())])).await;
    let (ann, ben) = (world.ticket("duel", &["ann"]).await, world.ticket("duel", &["ben"]).await);
    let match_id = world.pick_up("server").await;
    world.maker().call(Command::Cancel { id: ann }).await.unwrap();
    world
        .until_broker("that the match is cancelled", move |broker| {
            matches!(broker.find_match(&match_id).unwrap().state, MatchState::Cancelled { .. })
        })
        .await;
    world.until_status(&ben, Status::InProgress).await;
    assert_eq!(world.heard(&ben).await, ["IN_PROGRESS", "FINDING_SERVER", "IN_PROGRESS"]);
}

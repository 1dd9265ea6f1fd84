//! Free seats of running matches: who waits gets them, each once, and none when they are gone.

use std::time::Duration;

use sortie_domain::broker::{self, Broker};
use sortie_domain::ids::{MatchId, SeatId};
use sortie_domain::matchmaking::model::Status;
use sortie_domain::matchmaking::settings::{Backfill, Queue};

use crate::world::{World, player, settings, soon};

/// Co-op for three that begins with two.
fn coop() -> Queue {
    Queue {
        teams: 1,
        players_per_team: 3,
        min_players_per_team: 2,
        ticket_expiration: Duration::from_secs(3600),
        backfill: Backfill::First,
        ..Queue::default()
    }
}

/// A match of two that runs, with one place free.
async fn running(world: &World) -> MatchId {
    // A form of the match that does not wait for the third: any source of matches may make one.
    let spec = broker::model::MatchSpec {
        players: vec![player("ann"), player("ben")],
        properties: broker::model::Properties::parse(r#"{"queue_name": "coop"}"#).unwrap(),
        capacity: Some(3),
        ..broker::model::MatchSpec::default()
    };
    world.broker().call(broker::Command::SubmitMatch { id: None, spec }).await.unwrap();
    world.serve("server").await
}

fn seats(id: &MatchId) -> impl Fn(&Broker) -> Vec<(SeatId, String)> + Clone + Send + 'static {
    let id = id.clone();
    move |broker| {
        let seats = broker.find_match(&id).unwrap().seats.values();
        seats.map(|seat| (seat.id.clone(), seat.player.to_string())).collect()
    }
}

#[tokio::test]
async fn a_ticket_gets_the_free_seat_of_a_running_match_and_the_next_waits_for_one() {
    let world = World::new(settings(&[("coop", coop())])).await;
    let match_id = running(&world).await;
    let cleo = world.ticket("coop", &["cleo"]).await;
    let ticket = world.until_status(&cleo, Status::Completed).await;
    assert_eq!(ticket.match_id(), Some(&match_id));
    assert_eq!(world.heard(&cleo).await, ["IN_PROGRESS", "FINDING_SERVER", "COMPLETED"]);
    let taken = world.broker().query(seats(&match_id)).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].1, "cleo");

    let dora = world.ticket("coop", &["dora"]).await;
    world.broker().call(broker::Command::ReleaseSeat { seat: taken[0].0.clone() }).await.unwrap();
    world.until_status(&dora, Status::Completed).await;
    let taken = world.broker().query(seats(&match_id)).await.unwrap();
    assert_eq!((taken.len(), taken[0].1.as_str()), (1, "dora"));
}

#[tokio::test]
async fn offers_are_found_after_a_restart_and_end_with_the_match() {
    let mut world = World::new(settings(&[("coop", coop())])).await;
    world.kill_maker();
    let match_id = running(&world).await;
    world.start_maker().await;
    let offered = |world: &World, wanted: bool| {
        let (maker, match_id) = (world.maker(), match_id.clone());
        async move {
            let mut events = maker.subscribe(sortie_engine::Cursor::Earliest);
            loop {
                let id = match_id.clone();
                if maker.query(move |maker| maker.offered(&id).is_some()).await.unwrap() == wanted {
                    return;
                }
                events.next().await.unwrap();
            }
        }
    };
    soon("the offer", offered(&world, true)).await;
    world.end("server", &match_id).await;
    soon("its end", offered(&world, false)).await;
    let cleo = world.ticket("coop", &["cleo"]).await;
    assert_eq!(world.find(&cleo).await.status(), Status::InProgress);
}

#[tokio::test]
async fn a_party_gets_seats_for_all_or_none() {
    // The three who come are too few for a match of their own, whatever they hear of first.
    let queue = Queue { players_per_team: 6, min_players_per_team: 6, ..coop() };
    let world = World::new(settings(&[("coop", queue)])).await;
    let match_id = running(&world).await;
    let pair = world.ticket("coop", &["cleo", "dora"]).await;
    let one = world.ticket("coop", &["eve"]).await;
    world.until_status(&one, Status::Completed).await;
    assert_eq!(world.find(&pair).await.status(), Status::InProgress);
    let taken = world.broker().query(seats(&match_id)).await.unwrap();
    assert_eq!((taken.len(), taken[0].1.as_str()), (1, "eve"));
}

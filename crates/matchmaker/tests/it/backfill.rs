//! Free seats of running matches: waiting tickets get them, each once, and none when they are gone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use sortie_domain::broker::{self, Broker, SeatsElsewhere};
use sortie_domain::ids::{MatchId, SeatId, TicketId};
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::matchmaking::model::{Named, Status};
use sortie_domain::matchmaking::settings::{Backfill, Queue};
use sortie_domain::matchmaking::{Command, Effect, Event, Matchmaker};
use sortie_domain::properties::Properties;
use sortie_engine::{Performer, Retry};
use sortie_matchmaker::{Hooks, Work};
use tokio::sync::{Notify, Semaphore};

use crate::world::{HookMap, World, player, settings, soon};

/// Takes seats and reports it when a test permits it.
struct Slow {
    work: Work,
    taken: Notify,
    told: Semaphore,
}

#[async_trait]
impl Performer<Matchmaker> for Slow {
    fn key(&self, effect: &Effect) -> String {
        self.work.key(effect)
    }

    async fn perform(&self, effect: Effect) -> Result<Option<Command>, Retry> {
        let outcome = self.work.perform(effect).await?;
        self.taken.notify_one();
        self.told.acquire().await.unwrap().forget();
        Ok(outcome)
    }

    async fn refused(&self, effect: Effect) -> Result<(), Retry> {
        self.work.refused(effect).await
    }
}

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

/// A running match of two, with one place free.
async fn running(world: &World) -> MatchId {
    running_on(world, "server", Some(3)).await
}

async fn running_on(world: &World, server: &str, capacity: Option<u32>) -> MatchId {
    // A match that does not wait for the third: any source of matches may submit one.
    let spec = MatchSpec {
        players: vec![player("ann"), player("ben")],
        properties: Properties::parse(r#"{"queue_name": "coop"}"#).unwrap(),
        capacity,
        ..MatchSpec::default()
    };
    world.broker().call(broker::Command::SubmitMatch { id: None, spec }).await.unwrap();
    world.serve(server).await
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
    // The three who come are too few for their own match, whatever they hear about first.
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

#[tokio::test]
async fn a_server_that_says_of_free_places_gets_players_for_those_and_no_more() {
    let world = World::new(settings(&[("coop", coop())])).await;
    let match_id = running_on(&world, "server", None).await;
    let pair = world.ticket("coop", &["cleo", "dora"]).await;
    world.say_free("server", &match_id, 2).await;
    let ticket = world.until_status(&pair, Status::Completed).await;
    assert_eq!(ticket.match_id(), Some(&match_id));

    let third = world.ticket("coop", &["eve"]).await;
    let other = running_on(&world, "other", None).await;
    world.say_free("other", &other, 1).await;
    let ticket = world.until_status(&third, Status::Completed).await;
    assert_eq!(ticket.match_id(), Some(&other));
    let taken = world.broker().query(seats(&match_id)).await.unwrap();
    let taken: BTreeSet<_> = taken.iter().map(|(_, player)| player.as_str()).collect();
    assert_eq!(taken, BTreeSet::from(["cleo", "dora"]));
}

#[tokio::test]
async fn seats_that_are_promised_are_not_promised_again_by_what_the_server_says() {
    let world = World::new(settings(&[("coop", coop())])).await;
    let full = running_on(&world, "server", None).await;
    world.say_free("server", &full, 2).await;
    let pair = world.ticket("coop", &["cleo", "dora"]).await;
    world.until_status(&pair, Status::Completed).await;
    // Nobody has come yet. Reporting less and then the same again makes the link check, and there is nothing to offer.
    world.say_free("server", &full, 1).await;
    world.say_free("server", &full, 2).await;
    let eve = world.ticket("coop", &["eve"]).await;
    let other = running_on(&world, "other", None).await;
    world.say_free("other", &other, 1).await;
    let ticket = world.until_status(&eve, Status::Completed).await;
    assert_eq!(ticket.match_id(), Some(&other));

    // A player who leaves makes room, once the server reports it.
    let fay = world.ticket("coop", &["fay"]).await;
    let taken = world.broker().query(seats(&full)).await.unwrap();
    for (seat, _) in &taken {
        world.broker().call(broker::Command::ClaimSeat { seat: seat.clone(), server: None }).await.unwrap();
    }
    world.say_free("server", &full, 0).await;
    world.broker().call(broker::Command::ReleaseSeat { seat: taken[0].0.clone() }).await.unwrap();
    world.say_free("server", &full, 1).await;
    let ticket = world.until_status(&fay, Status::Completed).await;
    assert_eq!(ticket.match_id(), Some(&full));
}

#[tokio::test]
async fn a_storm_of_what_a_server_says_makes_few_offers() {
    const REPORTS: usize = 400;
    let world = World::new(settings(&[("coop", coop())])).await;
    let match_id = running_on(&world, "server", None).await;
    let reports = (0..REPORTS).map(|n| world.say_free("server", &match_id, 1 + u32::from(n % 2 == 0)));
    soon("all reports", join_all(reports)).await;
    let cleo = world.ticket("coop", &["cleo"]).await;
    world.until_status(&cleo, Status::Completed).await;
    let last = world.maker().stats().last_seq;
    let (mut events, mut offers) = (world.maker().subscribe(sortie_engine::Cursor::Earliest), 0);
    while events.next_seq() <= last {
        let record = events.next().await.unwrap();
        offers += usize::from(matches!(record.event, Event::SeatsOffered { .. }));
    }
    assert!(offers * 4 < REPORTS, "{offers} offers of {REPORTS} reports");
}

#[tokio::test]
async fn seats_that_were_taken_for_a_ticket_that_was_called_off_are_given_back_at_once() {
    let mut world = World::new(settings(&[("coop", coop())])).await;
    world.kill_maker();
    let work = Work::new(world.broker(), Hooks::new(HookMap::new()).unwrap());
    let slow = Arc::new(Slow { work, taken: Notify::new(), told: Semaphore::new(0) });
    world.start_maker_with(Arc::clone(&slow) as _).await;
    world.link();
    let match_id = running(&world).await;
    let cleo = world.ticket("coop", &["cleo"]).await;
    soon("a seat", slow.taken.notified()).await;
    assert_eq!(world.broker().query(seats(&match_id)).await.unwrap().len(), 1);
    world.maker().call(Command::Cancel { id: cleo.clone() }).await.unwrap();
    slow.told.add_permits(2);
    let found = seats(&match_id);
    // The broker's clock stands still, so that no seat expires.
    world.until_broker("no seat", move |broker| found(broker).is_empty()).await;
    let dora = world.ticket("coop", &["dora"]).await;
    let ticket = world.until_status(&dora, Status::Completed).await;
    assert_eq!(ticket.match_id(), Some(&match_id));
    assert_eq!(world.find(&cleo).await.status(), Status::Cancelled);
}

#[tokio::test]
async fn a_seat_that_a_player_has_from_elsewhere_is_never_given_back() {
    let mut world = World::new(settings(&[("coop", coop())])).await;
    world.kill_maker();
    let match_id = running(&world).await;
    let reserve = broker::Command::ReserveSeat {
        match_id: match_id.clone(),
        player: player("cleo"),
        ttl: Duration::from_secs(60),
        elsewhere: SeatsElsewhere::Ignored,
    };
    world.broker().call(reserve).await.unwrap();
    let before = world.broker().query(seats(&match_id)).await.unwrap();
    let work = Work::new(world.broker(), Hooks::new(HookMap::new()).unwrap());
    // The second has no place for dora, so that none of its players gets one.
    for (players, is_seated) in [(&["cleo"][..], true), (&["cleo", "dora"], false)] {
        let ticket = Named {
            ticket: TicketId::new("ticket-1").unwrap(),
            players: players.iter().map(|id| player(id)).collect(),
        };
        let effect = || Effect::Seat { match_id: match_id.clone(), ticket: ticket.clone() };
        let outcome = work.perform(effect()).await.unwrap();
        assert_eq!(matches!(outcome, Some(Command::Seated { .. })), is_seated, "{players:?}");
        work.refused(effect()).await.unwrap();
        assert_eq!(world.broker().query(seats(&match_id)).await.unwrap(), before, "{players:?}");
    }
}

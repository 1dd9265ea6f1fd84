//! News of different matches is sent concurrently, news of each match in order.

use futures::future::join_all;
use sortie_domain::ids::{MatchId, TicketId};
use sortie_domain::matchmaking::model::{Stage, Status};

use crate::world::{World, duel, settings, soon};

/// This many duels whose matches servers have taken, with their first tickets; the matchmaker knows that the broker has
/// them.
async fn taken(world: &World, count: usize) -> Vec<(TicketId, String, MatchId)> {
    let tickets = join_all((0..count).map(|n| async move {
        let ann = world.ticket("duel", &[&format!("ann-{n:03}")]).await;
        let ben = world.ticket("duel", &[&format!("ben-{n:03}")]).await;
        (ann, ben)
    }));
    let tickets = tickets.await;
    let servers: Vec<String> = (0..count).map(|n| format!("server-{n:03}")).collect();
    let matches =
        join_all(servers.iter().map(|server| async move { (server.clone(), world.pick_up(server).await) }))
            .await;
    let submitted = async {
        let all = move |maker: &sortie_domain::matchmaking::Matchmaker| {
            let known = |stage: &Stage| matches!(stage, Stage::FindingServer { submitted: true });
            maker.formations().filter(|formation| known(&formation.stage)).count() == count
        };
        while !world.maker().query(all).await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    soon("that all are at the broker", submitted).await;
    let mut found = Vec::new();
    for (ann, ben) in tickets {
        // Tickets are paired in the order of arrival, so a ticket's match is looked up.
        for ticket in [ann, ben] {
            let Some(id) = world.find(&ticket).await.match_id().cloned() else {
                panic!("{ticket} is in no match")
            };
            if let Some((server, id)) = matches.iter().find(|(_, of)| *of == id) {
                found.push((ticket, server.clone(), id.clone()));
            }
        }
    }
    found
}

#[tokio::test]
async fn many_matches_are_told_of_in_one_commit() {
    const COUNT: usize = 60;
    let world = World::new(settings(&[("duel", duel())])).await;
    let tickets = taken(&world, COUNT).await;
    assert_eq!(tickets.len(), 2 * COUNT);
    let mut matches: Vec<(String, MatchId)> =
        tickets.iter().map(|(_, server, id)| (server.clone(), id.clone())).collect();
    matches.sort();
    matches.dedup();
    let (maker, before) = (world.maker(), world.maker().stats().batches);
    let (begun, go_on) = world.disk.hold_next_sync();
    let (server, first) = &matches[0];
    world.ready(server, first).await;
    soon("the first commit", begun).await.unwrap();
    join_all(matches[1..].iter().map(|(server, id)| world.ready(server, id))).await;
    let all_wait = async {
        while maker.stats().queued < COUNT - 1 {
            tokio::task::yield_now().await;
        }
    };
    soon("that all others wait for the next commit", all_wait).await;
    go_on.send(()).unwrap();
    for (ticket, ..) in &tickets {
        world.until_status(ticket, Status::Completed).await;
    }
    assert_eq!(maker.stats().batches - before, 2);
}

#[tokio::test]
async fn of_one_match_the_news_come_in_order() {
    let world = World::new(settings(&[("duel", duel())])).await;
    let tickets = taken(&world, 2).await;
    let (_, server, id) = &tickets[0];
    let (_, other, later) = tickets.iter().find(|(_, _, of)| of != id).unwrap();
    let (begun, go_on) = world.disk.hold_next_sync();
    world.ready(server, id).await;
    soon("the first commit", begun).await.unwrap();
    // Ready and over while the matchmaker can record neither.
    world.ready(other, later).await;
    world.end(other, later).await;
    world.end(server, id).await;
    go_on.send(()).unwrap();
    for (ticket, ..) in &tickets {
        world.until_status(ticket, Status::Completed).await;
        let heard = world.heard(ticket).await;
        assert_eq!(heard, ["IN_PROGRESS", "FINDING_SERVER", "COMPLETED"]);
    }
}

/// More than a page of each machine's state.
#[tokio::test]
async fn states_are_compared_page_by_page_and_nothing_is_left_out() {
    const COUNT: usize = 600;
    let mut world = World::new(settings(&[("duel", duel())])).await;
    let tickets = taken(&world, COUNT).await;
    world.unlink();
    let mut matches: Vec<(&String, &MatchId)> = tickets.iter().map(|(_, server, id)| (server, id)).collect();
    matches.sort();
    matches.dedup();
    join_all(matches.iter().map(|(server, id)| world.ready(server, id))).await;
    world.link();
    for (ticket, ..) in &tickets {
        world.until_status(ticket, Status::Completed).await;
    }
}

//! Kills between the two logs: events that one of them has and the other lacks are made up for, once.

use std::sync::Arc;

use async_trait::async_trait;
use sortie_domain::broker::model::MatchState;
use sortie_domain::matchmaking::model::Status;
use sortie_domain::matchmaking::settings::Queue;
use sortie_domain::matchmaking::{Command, Effect, Matchmaker};
use sortie_engine::{Performer, Retry};
use sortie_matchmaker::{Hooks, Work};
use tokio::sync::mpsc;

use crate::world::{HookMap, World, duel, settings, soon};

/// Buffer of effects that a test has not read yet.
const EFFECTS: usize = 100;

/// Performs effects and never reports: the process ends in between.
struct Silent {
    work: Work,
    done: mpsc::Sender<&'static str>,
}

#[async_trait]
impl Performer<Matchmaker> for Silent {
    fn key(&self, effect: &Effect) -> String {
        self.work.key(effect)
    }

    async fn perform(&self, effect: Effect) -> Result<Option<Command>, Retry> {
        let what = match effect {
            Effect::Submit { .. } => "submit",
            Effect::Withdraw { .. } => "withdraw",
            _ => "other",
        };
        self.work.perform(effect).await?;
        self.done.try_send(what).unwrap();
        std::future::pending().await
    }
}

/// Restarts the matchmaker so that the outcome of its outside work does not get into its log.
async fn silence(world: &mut World) -> mpsc::Receiver<&'static str> {
    world.kill_maker();
    let (done, told) = mpsc::channel(EFFECTS);
    let work = Work::new(world.broker(), Hooks::new(HookMap::new()).unwrap());
    world.start_maker_with(Arc::new(Silent { work, done })).await;
    told
}

#[tokio::test]
async fn a_match_that_was_submitted_and_not_noted_is_submitted_once() {
    let mut world = World::new(settings(&[("duel", duel())])).await;
    let mut told = silence(&mut world).await;
    let (ann, ben) = (world.ticket("duel", &["ann"]).await, world.ticket("duel", &["ben"]).await);
    assert_eq!(soon("the match at the broker", told.recv()).await, Some("submit"));
    world.kill_maker();
    world.start_maker().await;
    world.serve("server").await;
    for ticket in [ann, ben] {
        world.until_status(&ticket, Status::Completed).await;
        assert_eq!(world.heard(&ticket).await, ["IN_PROGRESS", "FINDING_SERVER", "COMPLETED"]);
    }
    assert_eq!(world.matches_queued().await, 1);
}

#[tokio::test]
async fn what_happened_to_a_match_while_the_matchmaker_was_away_is_made_up_for() {
    let mut world = World::new(settings(&[("duel", duel())])).await;
    let mut told = silence(&mut world).await;
    let ann = world.ticket("duel", &["ann"]).await;
    world.ticket("duel", &["ben"]).await;
    soon("the match at the broker", told.recv()).await;
    world.kill_maker();
    world.serve("server").await;
    world.start_maker().await;
    world.until_status(&ann, Status::Completed).await;
    assert_eq!(world.heard(&ann).await, ["IN_PROGRESS", "FINDING_SERVER", "COMPLETED"]);
}

#[tokio::test]
async fn a_match_that_came_to_nothing_meanwhile_gives_its_tickets_back() {
    let mut world = World::new(settings(&[("duel", Queue { max_requeues: 5, ..duel() })])).await;
    let mut told = silence(&mut world).await;
    let (ann, ben) = (world.ticket("duel", &["ann"]).await, world.ticket("duel", &["ben"]).await);
    soon("the match at the broker", told.recv()).await;
    world.kill_maker();
    let first = world.pick_up("server").await;
    world.end("server", &first).await;
    world.start_maker().await;
    let second = world.serve("server").await;
    assert_ne!(first, second);
    for ticket in [ann, ben] {
        let ticket = world.until_status(&ticket, Status::Completed).await;
        assert_eq!((ticket.requeues, ticket.match_id()), (1, Some(&second)));
    }
    assert_eq!(world.matches_queued().await, 2);
}

#[tokio::test]
async fn a_match_that_was_withdrawn_and_not_noted_is_cancelled_and_no_other() {
    let mut world = World::new(settings(&[("duel", duel())])).await;
    let mut told = silence(&mut world).await;
    let (ann, ben) = (world.ticket("duel", &["ann"]).await, world.ticket("duel", &["ben"]).await);
    assert_eq!(soon("the match at the broker", told.recv()).await, Some("submit"));
    // The lane of the match still waits for that outcome, so the next process does the withdrawal.
    world.maker().call(Command::Cancel { id: ann }).await.unwrap();
    let mut told = silence(&mut world).await;
    assert_eq!(soon("the withdrawal", told.recv()).await, Some("withdraw"));
    world.kill_maker();
    world.start_maker().await;
    world.until_broker("that the match is cancelled", |broker| broker.queue_length() == 0).await;
    world.ticket("duel", &["cleo"]).await;
    let match_id = world.serve("server").await;
    let ticket = world.until_status(&ben, Status::Completed).await;
    assert_eq!(ticket.match_id(), Some(&match_id));
    assert_eq!(world.matches_queued().await, 2);
}

#[tokio::test]
async fn a_kill_of_both_loses_nothing() {
    let mut world = World::new(settings(&[("duel", duel())])).await;
    let ann = world.ticket("duel", &["ann"]).await;
    world.kill_both();
    world.start_broker().await;
    world.start_maker().await;
    world.ticket("duel", &["ben"]).await;
    let match_id = world.pick_up("server").await;
    world.kill_both();
    world.start_broker().await;
    world.start_maker().await;
    world.ready("server", &match_id).await;
    world.until_status(&ann, Status::Completed).await;
    assert_eq!(world.heard(&ann).await, ["IN_PROGRESS", "FINDING_SERVER", "COMPLETED"]);
}

#[tokio::test]
async fn tickets_outlive_a_broker_that_has_lost_its_log() {
    let mut world = World::new(settings(&[("duel", Queue { max_requeues: 5, ..duel() })])).await;
    let (ann, ben) = (world.ticket("duel", &["ann"]).await, world.ticket("duel", &["ben"]).await);
    let first = world.pick_up("server").await;
    world.until(&ann, "that the match is submitted", |ticket| ticket.match_id() == Some(&first)).await;
    let submitted = {
        let first = first.clone();
        move |maker: &Matchmaker| {
            let stage = maker.formation(&first).map(|formation| formation.stage.clone());
            stage == Some(sortie_domain::matchmaking::model::Stage::FindingServer { submitted: true })
        }
    };
    let mut events = world.maker().subscribe(sortie_engine::Cursor::Earliest);
    let noted = async {
        while !world.maker().query(submitted.clone()).await.unwrap() {
            events.next().await.unwrap();
        }
    };
    soon("that it is noted", noted).await;
    world.kill_both();
    world.lose_brokers_log();
    world.start_broker().await;
    world.start_maker().await;
    let second = world.serve("server").await;
    for ticket in [ann, ben] {
        let ticket = world.until_status(&ticket, Status::Completed).await;
        assert_eq!(ticket.match_id(), Some(&second));
    }
    world
        .until_broker("the match that runs", move |broker| {
            broker.find_match(&first).is_none()
                && matches!(broker.find_match(&second).unwrap().state, MatchState::Ready { .. })
        })
        .await;
}

//! Effects: until they have an outcome, in order for each key, again after a restart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sortie_engine::{EffectLimits, EngineOptions, Performer, Retry};
use sortie_retry::Backoff;
use tempfile::tempdir;
use tokio::sync::{Notify, Semaphore};

use crate::disk::{Fault, FaultyDisk};
use crate::toy::{Command, Event, Job, Journal, Setup, Toy, await_event, state};

/// Lanes of one group of effects.
const GROUP: u64 = 1_000;
/// The group whose effects only wait.
const WAITING: u64 = 9;

/// Finishes each job after as many failures as a test wants, when the test permits it.
pub(crate) struct Worker {
    /// Number of attempts that may begin.
    pub(crate) leave: Semaphore,
    pub(crate) begun: Journal<Job>,
    pub(crate) on_begin: Notify,
    /// Jobs whose outcome the machine had no use for, with how many attempts had begun by then.
    undone: Journal<(u64, usize)>,
    failures: Mutex<BTreeMap<u64, u32>>,
    panics: Mutex<BTreeMap<u64, u32>>,
}

impl Worker {
    pub(crate) fn with_leave(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            leave: Semaphore::new(permits),
            begun: Journal::default(),
            on_begin: Notify::new(),
            undone: Journal::default(),
            failures: Mutex::default(),
            panics: Mutex::default(),
        })
    }

    fn begun(&self) -> Vec<u64> {
        self.begun.lock().unwrap().iter().map(|job| job.job).collect()
    }

    pub(crate) async fn await_begun(&self, count: usize) {
        loop {
            let notified = self.on_begin.notified();
            if self.begun.lock().unwrap().len() >= count {
                return;
            }
            notified.await;
        }
    }
}

/// Counts down; true while there was something left.
fn use_up(counts: &Mutex<BTreeMap<u64, u32>>, job: u64) -> bool {
    let mut counts = counts.lock().unwrap();
    let left = counts.entry(job).or_default();
    let any = *left > 0;
    *left = left.saturating_sub(1);
    any
}

#[async_trait::async_trait]
impl Performer<Toy> for Worker {
    fn key(&self, job: &Job) -> String {
        format!("lane-{}", job.lane)
    }

    fn group(&self, job: &Job) -> String {
        format!("group-{}", job.lane / GROUP)
    }

    fn only_waits(&self, job: &Job) -> bool {
        job.lane / GROUP == WAITING
    }

    async fn perform(&self, job: Job) -> Result<Option<Command>, Retry> {
        self.begun.lock().unwrap().push(job.clone());
        self.on_begin.notify_waiters();
        self.leave.acquire().await.unwrap().forget();
        if use_up(&self.panics, job.job) {
            panic!("told to");
        }
        if use_up(&self.failures, job.job) {
            return Err(Retry::because("told to"));
        }
        Ok(Some(Command::Done(job.job)))
    }

    async fn refused(&self, job: Job) -> Result<(), Retry> {
        self.undone.lock().unwrap().push((job.job, self.begun().len()));
        if use_up(&self.failures, job.job) { Err(Retry::because("told to")) } else { Ok(()) }
    }
}

pub(crate) fn with(worker: &Arc<Worker>) -> Setup {
    let effects = EffectLimits {
        backoff: Backoff { first: Duration::from_millis(1), max: Duration::from_millis(4) },
        ..EffectLimits::default()
    };
    Setup {
        performer: Arc::clone(worker) as _,
        options: EngineOptions { effects, ..EngineOptions::default() },
        ..Setup::default()
    }
}

#[tokio::test]
async fn an_effect_is_tried_until_it_has_an_outcome() {
    let (data, worker) = (tempdir().unwrap(), Worker::with_leave(100));
    worker.failures.lock().unwrap().insert(1, 5);
    worker.panics.lock().unwrap().insert(1, 2);
    let engine = with(&worker).start(data.path()).await;
    let handle = engine.handle();
    handle.call(Command::Start { lane: 1, job: 1 }).await.unwrap();
    await_event(&handle, Event::Finished(1)).await;
    assert_eq!(worker.begun(), [1; 8]);
    assert!(state(&handle).await.jobs.is_empty());
}

/// A group that is stuck with its own and the shared permits leaves another group its own.
#[tokio::test]
async fn a_stuck_group_holds_no_permits_of_another() {
    let (data, worker) = (tempdir().unwrap(), Worker::with_leave(0));
    let mut setup = with(&worker);
    (setup.options.effects.concurrent, setup.options.effects.of_group) = (2, 1);
    let engine = setup.start(data.path()).await;
    let handle = engine.handle();
    for job in 1..=10 {
        handle.call(Command::Start { lane: job, job }).await.unwrap();
    }
    worker.await_begun(3).await;
    handle.call(Command::Start { lane: GROUP, job: 11 }).await.unwrap();
    handle.call(Command::Start { lane: GROUP + 1, job: 12 }).await.unwrap();
    worker.await_begun(4).await;
    let begun = worker.begun();
    assert_eq!(begun.iter().filter(|job| **job <= 10).count(), 3, "{begun:?}");
    // Attempts that waited for a permit continue when there is one.
    worker.leave.add_permits(100);
    for job in 1..=12 {
        await_event(&handle, Event::Finished(job)).await;
    }
}

#[tokio::test]
async fn effects_that_only_wait_hold_no_permits() {
    let (data, worker) = (tempdir().unwrap(), Worker::with_leave(0));
    let mut setup = with(&worker);
    (setup.options.effects.concurrent, setup.options.effects.of_group) = (1, 1);
    let engine = setup.start(data.path()).await;
    let handle = engine.handle();
    for job in 1..=10 {
        handle.call(Command::Start { lane: WAITING * GROUP + job, job }).await.unwrap();
    }
    handle.call(Command::Start { lane: 1, job: 11 }).await.unwrap();
    worker.await_begun(11).await;
    worker.leave.add_permits(100);
    await_event(&handle, Event::Finished(11)).await;
}

#[tokio::test]
async fn what_the_machine_has_no_use_for_is_undone_before_the_next_of_its_key() {
    let (data, worker) = (tempdir().unwrap(), Worker::with_leave(0));
    let engine = with(&worker).start(data.path()).await;
    let handle = engine.handle();
    for job in [1, 2] {
        handle.call(Command::Start { lane: 1, job }).await.unwrap();
    }
    worker.await_begun(1).await;
    handle.call(Command::Done(1)).await.unwrap();
    worker.leave.add_permits(1);
    worker.await_begun(2).await;
    assert_eq!(*worker.undone.lock().unwrap(), [(1, 1)]);
    worker.leave.add_permits(1);
    await_event(&handle, Event::Finished(2)).await;
    assert_eq!(worker.begun(), [1, 2]);
}

#[tokio::test]
async fn effects_of_one_key_run_in_order_and_others_beside_them() {
    let (data, worker) = (tempdir().unwrap(), Worker::with_leave(0));
    worker.failures.lock().unwrap().insert(11, 3);
    let engine = with(&worker).start(data.path()).await;
    let handle = engine.handle();
    for (lane, job) in [(1, 11), (1, 12), (2, 21), (1, 13), (3, 31)] {
        handle.call(Command::Start { lane, job }).await.unwrap();
    }
    // Nothing may continue, so only the lanes' first jobs have begun.
    worker.await_begun(3).await;
    let mut begun = worker.begun();
    begun.sort_unstable();
    assert_eq!(begun, [11, 21, 31]);
    assert_eq!(handle.stats().pending_effects, 5);
    worker.leave.add_permits(100);
    await_event(&handle, Event::Finished(13)).await;
    let lane_1: Vec<_> = worker.begun().into_iter().filter(|job| (10..20).contains(job)).collect();
    assert_eq!(lane_1, [11, 11, 11, 11, 12, 13]);
    for job in [21, 31] {
        await_event(&handle, Event::Finished(job)).await;
    }
}

#[tokio::test]
async fn a_lane_that_emptied_begins_anew() {
    let (data, worker) = (tempdir().unwrap(), Worker::with_leave(1000));
    let engine = with(&worker).start(data.path()).await;
    let handle = engine.handle();
    for job in 0..50 {
        handle.call(Command::Start { lane: 1, job }).await.unwrap();
        await_event(&handle, Event::Finished(job)).await;
    }
    assert_eq!(worker.begun(), (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn no_more_attempts_run_at_once_than_allowed() {
    let (data, worker) = (tempdir().unwrap(), Worker::with_leave(0));
    let mut setup = with(&worker);
    // One permit of the group and one shared permit.
    (setup.options.effects.concurrent, setup.options.effects.of_group) = (1, 1);
    let engine = setup.start(data.path()).await;
    let handle = engine.handle();
    for job in 0..6 {
        handle.call(Command::Start { lane: job, job }).await.unwrap();
    }
    for finished in 1..=6 {
        worker.await_begun((finished + 1).min(6)).await;
        assert!(worker.begun().len() <= finished + 1);
        worker.leave.add_permits(1);
    }
    for job in 0..6 {
        await_event(&handle, Event::Finished(job)).await;
    }
}

#[tokio::test]
async fn outstanding_effects_run_after_a_crash() {
    let (data, worker) = (tempdir().unwrap(), Worker::with_leave(0));
    let engine = with(&worker).start(data.path()).await;
    for job in 1..=3 {
        engine.handle().call(Command::Start { lane: job, job }).await.unwrap();
    }
    worker.await_begun(3).await;
    drop(engine);
    let worker = Worker::with_leave(100);
    let engine = with(&worker).start(data.path()).await;
    for job in 1..=3 {
        await_event(&engine.handle(), Event::Finished(job)).await;
    }
}

#[tokio::test]
async fn an_outcome_that_could_not_be_written_is_asked_for_again() {
    let (data, worker, disk) = (tempdir().unwrap(), Worker::with_leave(0), Arc::new(FaultyDisk::new()));
    let engine = Setup { disk: Arc::clone(&disk) as _, ..with(&worker) }.start(data.path()).await;
    let handle = engine.handle();
    handle.call(Command::Start { lane: 1, job: 1 }).await.unwrap();
    worker.await_begun(1).await;
    disk.set(Fault::Full);
    worker.leave.add_permits(2);
    worker.await_begun(3).await;
    disk.set(Fault::None);
    worker.leave.add_permits(100);
    await_event(&handle, Event::Finished(1)).await;
    assert_eq!(state(&handle).await.finished, [1]);
}

#[tokio::test]
async fn effects_of_records_that_did_not_become_durable_do_not_run() {
    let (data, worker, disk) = (tempdir().unwrap(), Worker::with_leave(100), Arc::new(FaultyDisk::new()));
    let engine = Setup { disk: Arc::clone(&disk) as _, ..with(&worker) }.start(data.path()).await;
    let handle = engine.handle();
    disk.set(Fault::Full);
    handle.call(Command::Start { lane: 1, job: 1 }).await.unwrap_err();
    disk.set(Fault::None);
    handle.call(Command::Start { lane: 1, job: 2 }).await.unwrap();
    await_event(&handle, Event::Finished(2)).await;
    assert_eq!(worker.begun(), [2]);
}

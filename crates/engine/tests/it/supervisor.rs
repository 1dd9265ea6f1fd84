//! Tasks, and the order in which they end.

use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use sortie_engine::supervisor::{OnFailure, Stage, Supervisor};
use tokio::sync::oneshot;

use crate::toy::Journal;

const LONG: Duration = Duration::from_secs(600);

/// A task that records its name when it is told to stop.
fn note_stop(supervisor: &mut Supervisor, name: &'static str, stage: Stage, journal: &Journal<&'static str>) {
    let journal = Arc::clone(journal);
    supervisor.spawn(name, stage, OnFailure::StopAll, |stop| async move {
        stop.stopped().await;
        // Others of a later stage would get their turn here if they had been told already.
        tokio::task::yield_now().await;
        journal.lock().unwrap().push(name);
        Ok(())
    });
}

#[tokio::test]
async fn stages_stop_one_after_another() {
    let (mut supervisor, journal) = (Supervisor::new(), Arc::new(Mutex::new(Vec::new())));
    note_stop(&mut supervisor, "engine", Stage::Base, &journal);
    note_stop(&mut supervisor, "bridge", Stage::Work, &journal);
    note_stop(&mut supervisor, "listener", Stage::Door, &journal);
    let outcome = supervisor.run(ready(()), LONG).await;
    assert_eq!((outcome.failed, outcome.broken_off), (None, vec![]));
    assert_eq!(*journal.lock().unwrap(), ["listener", "bridge", "engine"]);
}

#[tokio::test]
async fn a_failure_or_a_panic_that_matters_stops_everything_in_order() {
    for panics in [false, true] {
        let (mut supervisor, journal) = (Supervisor::new(), Arc::new(Mutex::new(Vec::new())));
        note_stop(&mut supervisor, "listener", Stage::Door, &journal);
        supervisor.spawn("bad", Stage::Work, OnFailure::StopAll, move |_| async move {
            assert!(!panics, "port taken");
            Err("port taken".into())
        });
        let outcome = supervisor.run(pending(), LONG).await;
        let text = outcome.to_string();
        assert!(text.contains("bad") && text.contains("port taken"), "{text}");
        assert_eq!(outcome.failed.map(|(name, _)| name), Some("bad"));
        assert_eq!(*journal.lock().unwrap(), ["listener"]);
    }
}

#[tokio::test]
async fn a_failure_that_does_not_matter_and_a_quiet_end_stop_nothing() {
    let mut supervisor = Supervisor::new();
    let (failing, on_failing) = oneshot::channel::<()>();
    supervisor.spawn("webhook", Stage::Work, OnFailure::GoOn, |_| async move {
        let _held = failing;
        Err("gone".into())
    });
    supervisor.spawn("once", Stage::Base, OnFailure::StopAll, |_| async { Ok(()) });
    let outcome = supervisor.run(async { on_failing.await.unwrap_err().to_string().clear() }, LONG).await;
    assert_eq!((outcome.failed, outcome.broken_off), (None, vec![]));
}

#[tokio::test]
async fn what_does_not_stop_by_the_deadline_is_broken_off_and_named() {
    let (mut supervisor, journal) = (Supervisor::new(), Arc::new(Mutex::new(Vec::new())));
    supervisor.spawn("stuck", Stage::Door, OnFailure::StopAll, |_| pending());
    note_stop(&mut supervisor, "engine", Stage::Base, &journal);
    let engine_told = supervisor.signal(Stage::Base);
    let outcome = supervisor.run(ready(()), Duration::from_millis(1)).await;
    assert!(outcome.broken_off.contains(&"stuck"), "{outcome}");
    assert!(engine_told.is_stopped());
}

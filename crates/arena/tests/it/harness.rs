//! Starts game servers and bots, and stops them when dropped.

use std::future::Future;
use std::time::Duration;

use sortie_arena::{
    Arrivals, BotEvent, NetcodeKey, PlayOptions, PlaySummary, ServeError, ServeOptions, ServeSummary, play,
    serve,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::platform::{KEY, PROTOCOL_ID, Platform};

/// A test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const EVENT_QUEUE: usize = 10_000;

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("what was awaited did not happen")
}

/// A task that can be told to stop, and is aborted on drop.
pub(crate) struct Running<T> {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<T>,
}

impl<T: Send + 'static> Running<T> {
    fn spawn<F: Future<Output = T> + Send + 'static>(start: impl FnOnce(oneshot::Receiver<()>) -> F) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop: Some(stop), task: tokio::spawn(start(stopped)) }
    }

    pub(crate) async fn stop(mut self) -> T {
        self.stop.take().unwrap().send(()).unwrap();
        self.finished().await
    }

    pub(crate) async fn finished(mut self) -> T {
        within(&mut self.task).await.unwrap()
    }

    /// Vanishes without saying so.
    pub(crate) fn vanish(self) {}
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn told(stopped: oneshot::Receiver<()>) {
    if stopped.await.is_err() {
        std::future::pending::<()>().await;
    }
}

pub(crate) struct Arena;

impl Arena {
    pub(crate) fn start(
        platform: &Platform,
        change: impl FnOnce(&mut ServeOptions),
    ) -> Running<Result<ServeSummary, ServeError>> {
        let bind = "127.0.0.1:0".parse().unwrap();
        let mut options =
            ServeOptions::new(platform.url(), "server-1".to_owned(), NetcodeKey::new(KEY), PROTOCOL_ID, bind);
        options.empty_after = Duration::from_millis(50);
        change(&mut options);
        Running::spawn(|stopped| serve(options, told(stopped)))
    }
}

/// Bots that play for exactly this long, and their events.
pub(crate) fn bots(
    platform: &Platform,
    arrivals: Arrivals,
    play_for: Duration,
) -> (mpsc::Receiver<BotEvent>, Running<PlaySummary>) {
    let mut options = PlayOptions::new(platform.url(), arrivals, 42);
    options.play_for = play_for..=play_for;
    options.game = Some("arena".to_owned());
    let (events, heard) = mpsc::channel(EVENT_QUEUE);
    let running = Running::spawn(|stopped| async move {
        let observe = |event: &BotEvent| events.try_send(event.clone()).unwrap();
        play(options, told(stopped), observe).await.unwrap()
    });
    (heard, running)
}

pub(crate) async fn play_bots(platform: &Platform, players: u32, play_for: Duration) -> PlaySummary {
    let arrivals = Arrivals::Spread { players, over: Duration::from_millis(50) };
    let (_events, playing) = bots(platform, arrivals, play_for);
    playing.finished().await
}

/// The next event of this kind.
pub(crate) async fn hear(
    events: &mut mpsc::Receiver<BotEvent>,
    wanted: impl Fn(&BotEvent) -> bool,
) -> BotEvent {
    within(async {
        loop {
            let event = events.recv().await.expect("the bots have ended");
            if wanted(&event) {
                return event;
            }
        }
    })
    .await
}

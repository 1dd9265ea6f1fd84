//! Lets bytes gather under load, so that one system call reads what would otherwise take ten.
//!
//! If a device sends without a pause and its bytes are read as soon as they arrive, most of the time goes into system
//! calls. Waiting a few microseconds lets more bytes arrive. Tokio's timers have millisecond resolution, so one kernel
//! timer serves everybody. [`Pace`] decides who waits, and when: never for a lone packet, and never for a device that
//! is being answered.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Notify;

/// How long bytes gather.
const GATHER: Duration = Duration::from_micros(60);
/// Size of what a timer returns when read, the number of times it fired, in bytes: timerfd_create(2).
const FIRED_BYTES: usize = 8;
/// Reads at most this far apart belong to one stream.
const QUICK: Duration = Duration::from_micros(250);
/// This many quick reads in a row count as load.
const LOAD_READS: u8 = 8;
/// A read of this many bytes is worth its system call: no need to gather.
const WORTHY_BYTES: usize = 12 << 10;
/// If this many bytes come after a wait, the wait slows the stream down.
const FULL_BYTES: usize = 48 << 10;

/// One timer for everybody who lets bytes gather.
#[derive(Default)]
pub(crate) struct Gather {
    timer: OnceLock<Option<Receiver>>,
    is_set: AtomicBool,
    fired: Notify,
}

impl Gather {
    /// Waits for about [`GATHER`], or for the rest of it if others wait already. Returns at once if the system has no
    /// such timer.
    pub(crate) async fn pause(&self) {
        let Some(timer) = self.timer.get_or_init(|| timer().ok()) else { return };
        let fired = self.fired.notified();
        if self.is_set.swap(true, Ordering::AcqRel) {
            return fired.await;
        }
        let _lead = Lead(self);
        if set(timer).is_err() {
            return;
        }
        // Reading the timer clears it. It may seem to have fired only because nobody has read it since the last time.
        while timer.readable().await.is_ok()
            && let Err(error) = timer.try_read(&mut [0; FIRED_BYTES])
            && error.kind() == io::ErrorKind::WouldBlock
        {}
    }
}

/// The task that waits for the timer itself. When dropped, all others go on.
struct Lead<'a>(&'a Gather);

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.0.is_set.store(false, Ordering::Release);
        self.0.fired.notify_waiters();
    }
}

/// Tokio sees it as a pipe: of everything tokio can poll without `unsafe`, a pipe is the closest to a timer.
fn timer() -> io::Result<Receiver> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    Receiver::from_owned_fd_unchecked(timerfd_create(TimerfdClockId::Monotonic, flags)?)
}

fn set(timer: &Receiver) -> rustix::io::Result<()> {
    let once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let value = Timespec { tv_sec: 0, tv_nsec: GATHER.as_nanos() as _ };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: once, it_value: value })?;
    Ok(())
}

/// How fast a peer sends.
pub(crate) struct Pace {
    last: Instant,
    quick: u8,
    answers: u32,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { last: now, quick: 0, answers: 0 }
    }

    /// Records a read. `answers` is how often the sender was written to.
    pub(crate) fn note(&mut self, now: Instant, bytes: usize, answers: u32) {
        let enough = if self.is_load() { FULL_BYTES } else { WORTHY_BYTES };
        let follows = now.duration_since(self.last) <= QUICK && answers == self.answers;
        let is_quick = follows && bytes < enough;
        self.quick = if is_quick { self.quick.saturating_add(1) } else { 0 };
        (self.last, self.answers) = (now, answers);
    }

    /// Whether it pays to let bytes gather.
    pub(crate) fn is_load(&self) -> bool {
        self.quick >= LOAD_READS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stream_without_answers_is_load() {
        let start = Instant::now();
        let at = |micros: u64| start + Duration::from_micros(micros);
        let after = |step: u64, bytes: usize, answered: u32| {
            let mut pace = Pace::new(start);
            for read in 0..20_u32 {
                pace.note(at(step * (1 + u64::from(read))), bytes, read * answered);
            }
            pace
        };
        assert!(after(50, 64, 0).is_load());
        assert!(!after(50, 64, 1).is_load(), "a device that is being answered");
        assert!(!after(1_000, 64, 0).is_load(), "single packets");
        assert!(!after(50, WORTHY_BYTES, 0).is_load(), "enough at a time as it is");
        let mut pace = after(50, 64, 0);
        pace.note(at(1_050), WORTHY_BYTES, 0);
        assert!(pace.is_load(), "it is enough because it was waited for");
        pace.note(at(1_100), FULL_BYTES, 0);
        assert!(!pace.is_load(), "it would be enough without");
        let mut pace = after(50, 64, 0);
        pace.note(at(10_000), 64, 0);
        assert!(!pace.is_load(), "the stream has paused");
    }

    #[tokio::test]
    async fn a_pause_ends() {
        let gather = Gather::default();
        for _ in 0..3 {
            tokio::join!(gather.pause(), gather.pause());
        }
    }
}

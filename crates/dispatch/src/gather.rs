//! Lets bytes gather while much is coming, so that one system call fetches what would take ten.
//!
//! A device that sends without a pause is read as often as it sends, when its bytes are read as soon as they come: most
//! of the time then goes into system calls. To wait for some microseconds lets more come. Timers of tokio have
//! milliseconds, so the wait is on a timer of the kernel, one for all. Who waits, and when, is [`Pace`]: never a lone
//! packet, and never a device that is being answered.

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
/// What a timer has to say: how often it has fired, in bytes: timerfd_create(2).
const FIRED_BYTES: usize = 8;
/// Reads with no more than this between them are of one stream.
const QUICK: Duration = Duration::from_micros(250);
/// So many quick reads, one after the other, are load.
const LOAD_READS: u8 = 8;
/// A read of so many bytes is worth its system call without a wait: nothing has to gather.
const WORTHY_BYTES: usize = 12 << 10;
/// With so many bytes after a wait, the wait has become a brake.
const FULL_BYTES: usize = 48 << 10;

/// One timer for whoever lets bytes gather.
#[derive(Default)]
pub(crate) struct Gather {
    timer: OnceLock<Option<Receiver>>,
    is_set: AtomicBool,
    fired: Notify,
}

impl Gather {
    /// Waits for about [`GATHER`], or for the rest of it if others wait already; where the system has no such timer, not
    /// at all.
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
        // Once it is read, the timer is quiet. It may look as if it had fired when it is only that nobody has looked.
        while timer.readable().await.is_ok()
            && let Err(error) = timer.try_read(&mut [0; FIRED_BYTES])
            && error.kind() == io::ErrorKind::WouldBlock
        {}
    }
}

/// Whoever waits for the timer itself. Dropped, all others go on.
struct Lead<'a>(&'a Gather);

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.0.is_set.store(false, Ordering::Release);
        self.0.fired.notify_waiters();
    }
}

/// Seen by tokio as a pipe, because of what it can wait for without `unsafe`, a pipe is what a timer is most like.
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

/// How fast somebody sends.
pub(crate) struct Pace {
    last: Instant,
    quick: u8,
    answers: u32,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { last: now, quick: 0, answers: 0 }
    }

    /// Takes note of a read. `answers` is how often the sender was written to.
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

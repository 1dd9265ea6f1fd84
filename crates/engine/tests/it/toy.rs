//! A machine that does a little of everything a machine may do: it counts, keeps calls, sets deadlines, asks for
//! effects and takes back answers that did not arrive.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sortie_domain::machine::{Answer, CallId, Machine, Moment, Record, Step};
use sortie_domain::size::{ENTRY_BYTES, Size};
use sortie_domain::time::Timestamp;
use sortie_engine::log::{Disk, PieceSink, SystemDisk};
use sortie_engine::{
    Clock, Codec, Cursor, DecodeError, EmbeddedLog, Engine, EngineOptions, Entropy, Handle, LogOptions,
    ManualClock, Parts, Performer, Retry, StoredPieces, Subscription,
};
use tokio::sync::oneshot;

pub(crate) enum Command {
    /// Adds to the sum.
    Add(u64),
    /// Adds one, this often.
    Burst(u64),
    /// Writes this many bytes.
    Pad(usize),
    /// Is refused.
    Refuse,
    /// Is answered without an event.
    Poll,
    /// Is kept until the sum is at least this.
    WaitFor(u64),
    /// Adds this, after reporting that it is being handled and waiting for permission to continue.
    Hold(u64, oneshot::Sender<()>, Receiver<()>),
    /// Sets an alarm.
    Alarm(Duration),
    /// Asks for a job in a lane.
    Start { lane: u64, job: u64 },
    /// A job's outcome.
    Done(u64),
    /// A bug.
    Panic,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Event {
    Added(u64),
    Woken(u64),
    TakenBack(u64),
    AlarmSet(u64),
    Rang(u64),
    Started { lane: u64, job: u64 },
    Finished(u64),
    Padded(usize),
}

#[derive(PartialEq, Debug)]
pub(crate) enum Reply {
    Sum(u64),
    Woken(u64),
    Fine,
}

#[derive(PartialEq, Debug)]
pub(crate) struct No;

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Job {
    pub(crate) lane: u64,
    pub(crate) job: u64,
}

#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) struct State {
    pub(crate) seq: u64,
    pub(crate) sum: u64,
    pub(crate) taken_back: u64,
    pub(crate) alarms: BTreeSet<u64>,
    pub(crate) jobs: BTreeMap<u64, u64>,
    pub(crate) finished: Vec<u64>,
    pub(crate) entropy_seen: u64,
}

#[derive(Default)]
pub(crate) struct Toy {
    pub(crate) state: State,
    pub(crate) waiting: Vec<(CallId, u64)>,
    pub(crate) abandoned: Vec<CallId>,
}

impl Toy {
    fn emit(&mut self, at: Moment, event: Event, step: &mut Step<Self>) {
        let record = Record { seq: self.state.seq + 1, time: at.now, event };
        self.apply(&record);
        step.push(record);
        let sum = self.state.sum;
        let ready: Vec<_> = self.waiting.extract_if(.., |(_, least)| *least <= sum).collect();
        for (call, least) in ready {
            self.emit(at, Event::Woken(least), step);
            step.answers.push((call, Ok(Reply::Woken(least))));
        }
    }
}

impl Size for Event {
    fn byte_size(&self) -> usize {
        match self {
            Self::Padded(bytes) => ENTRY_BYTES + bytes,
            _ => ENTRY_BYTES,
        }
    }
}

impl Machine for Toy {
    type Command = Command;
    type Event = Event;
    type Reply = Reply;
    type Refusal = No;
    type Effect = Job;
    type Snapshot = State;

    fn handle(&mut self, at: Moment, call: CallId, command: Command, step: &mut Step<Self>) {
        let reply = match command {
            Command::Add(amount) => {
                self.emit(at, Event::Added(amount), step);
                Reply::Sum(self.state.sum)
            }
            Command::Burst(times) => {
                (0..times).for_each(|_| self.emit(at, Event::Added(1), step));
                Reply::Sum(self.state.sum)
            }
            Command::Pad(bytes) => {
                self.emit(at, Event::Padded(bytes), step);
                Reply::Fine
            }
            Command::Refuse => return step.answers.push((call, Err(No))),
            Command::Poll => Reply::Sum(self.state.sum),
            Command::WaitFor(least) => return self.waiting.push((call, least)),
            Command::Hold(amount, entered, leave) => {
                entered.send(()).unwrap();
                leave.recv().unwrap();
                self.emit(at, Event::Added(amount), step);
                Reply::Woken(amount)
            }
            Command::Alarm(after) => {
                self.emit(at, Event::AlarmSet((at.now + after).as_millis()), step);
                Reply::Fine
            }
            Command::Start { lane, job } => {
                self.emit(at, Event::Started { lane, job }, step);
                Reply::Fine
            }
            Command::Done(job) if self.state.jobs.contains_key(&job) => {
                self.emit(at, Event::Finished(job), step);
                Reply::Fine
            }
            Command::Done(_) => return step.answers.push((call, Err(No))),
            Command::Panic => panic!("told to"),
        };
        step.answers.push((call, Ok(reply)));
    }

    fn tick(&mut self, at: Moment, step: &mut Step<Self>) {
        while !step.is_full()
            && let Some(due) = self.state.alarms.first().copied().filter(|due| *due <= at.now.as_millis())
        {
            self.emit(at, Event::Rang(due), step);
        }
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.state.alarms.first().copied().map(Timestamp::from_millis)
    }

    fn abandon(&mut self, call: CallId) {
        self.waiting.retain(|(waiting, _)| *waiting != call);
        self.abandoned.push(call);
    }

    fn undelivered(&mut self, at: Moment, answer: &Answer<Self>, step: &mut Step<Self>) {
        if let Ok(Reply::Woken(amount)) = answer {
            self.emit(at, Event::TakenBack(*amount), step);
        }
    }

    fn apply(&mut self, record: &Record<Event>) {
        assert_eq!(record.seq, self.state.seq + 1, "records follow one another");
        self.state.seq = record.seq;
        match record.event {
            Event::Added(amount) => self.state.sum += amount,
            Event::Woken(_) | Event::Padded(_) => {}
            Event::TakenBack(amount) => self.state.taken_back += amount,
            Event::AlarmSet(due) => drop(self.state.alarms.insert(due)),
            Event::Rang(due) => drop(self.state.alarms.remove(&due)),
            Event::Started { lane, job } => drop(self.state.jobs.insert(job, lane)),
            Event::Finished(job) => {
                self.state.jobs.remove(&job);
                self.state.finished.push(job);
            }
        }
    }

    fn last_seq(&self) -> u64 {
        self.state.seq
    }

    fn effect(&self, event: &Event) -> Option<Job> {
        match *event {
            Event::Started { lane, job } => Some(Job { lane, job }),
            _ => None,
        }
    }

    fn outstanding(&self) -> Vec<Job> {
        self.state.jobs.iter().map(|(&job, &lane)| Job { lane, job }).collect()
    }

    fn snapshot(&self) -> State {
        self.state.clone()
    }

    fn restore(state: State) -> Self {
        Self { state, ..Self::default() }
    }
}

fn numbers(bytes: &[u8]) -> Result<VecDeque<u64>, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(DecodeError::new)?;
    text.split_whitespace().map(|word| word.parse().map_err(DecodeError::new)).collect()
}

fn encode_event(event: &Event, out: &mut Vec<u8>) {
    let text = match event {
        Event::Added(n) => format!("1 {n}"),
        Event::Woken(n) => format!("2 {n}"),
        Event::TakenBack(n) => format!("3 {n}"),
        Event::AlarmSet(n) => format!("4 {n}"),
        Event::Rang(n) => format!("5 {n}"),
        Event::Started { lane, job } => format!("6 {lane} {job}"),
        Event::Finished(n) => format!("7 {n}"),
        Event::Padded(n) => format!("8 {n}"),
    };
    out.extend_from_slice(text.as_bytes());
    if let Event::Padded(bytes) = event {
        out.resize(out.len() + bytes, b' ');
    }
}

fn decode_event(bytes: &[u8]) -> Result<Event, DecodeError> {
    let mut numbers = numbers(bytes)?;
    Ok(match numbers.make_contiguous() {
        [1, n] => Event::Added(*n),
        [2, n] => Event::Woken(*n),
        [3, n] => Event::TakenBack(*n),
        [4, n] => Event::AlarmSet(*n),
        [5, n] => Event::Rang(*n),
        [6, lane, job] => Event::Started { lane: *lane, job: *job },
        [7, n] => Event::Finished(*n),
        [8, n] => Event::Padded(usize::try_from(*n).map_err(DecodeError::new)?),
        _ => return Err(DecodeError::new("not an event")),
    })
}

fn encode_snapshot(state: &State, sink: PieceSink<'_>) -> io::Result<()> {
    let mut text = format!("{} {} {} {}", state.seq, state.sum, state.taken_back, state.alarms.len());
    state.alarms.iter().for_each(|alarm| write!(text, " {alarm}").unwrap());
    write!(text, " {}", state.jobs.len()).unwrap();
    state.jobs.iter().for_each(|(job, lane)| write!(text, " {job} {lane}").unwrap());
    state.finished.iter().for_each(|job| write!(text, " {job}").unwrap());
    // In many pieces of arbitrary length.
    text.as_bytes().chunks(7).try_for_each(sink)
}

fn decode_snapshot(pieces: &mut StoredPieces<'_>) -> Result<State, DecodeError> {
    let bytes = pieces.collect::<io::Result<Vec<_>>>().map_err(DecodeError::new)?.concat();
    let mut rest = numbers(&bytes)?;
    let mut next = || rest.pop_front().ok_or_else(|| DecodeError::new("too short"));
    let mut state = State { seq: next()?, sum: next()?, taken_back: next()?, ..State::default() };
    for _ in 0..next()? {
        state.alarms.insert(next()?);
    }
    for _ in 0..next()? {
        state.jobs.insert(next()?, next()?);
    }
    state.finished = rest.into_iter().collect();
    Ok(state)
}

pub(crate) fn codec() -> Codec<Toy> {
    Codec { encode_event, decode_event, encode_snapshot, decode_snapshot }
}

/// Leaves every job undone and reports it only once.
pub(crate) struct Idle;

#[async_trait::async_trait]
impl Performer<Toy> for Idle {
    fn key(&self, job: &Job) -> String {
        job.lane.to_string()
    }

    async fn perform(&self, _: Job) -> Result<Option<Command>, Retry> {
        Ok(None)
    }
}

/// A test's options for its engine.
pub(crate) struct Setup {
    pub(crate) log: LogOptions,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) performer: Arc<dyn Performer<Toy>>,
    pub(crate) options: EngineOptions,
}

pub(crate) const START: Timestamp = Timestamp::from_millis(1_000_000);

impl Default for Setup {
    fn default() -> Self {
        Self {
            log: LogOptions::default(),
            disk: Arc::new(SystemDisk),
            clock: Arc::new(ManualClock::at(START)),
            performer: Arc::new(Idle),
            options: EngineOptions::default(),
        }
    }
}

impl Setup {
    pub(crate) fn parts(self, data: &Path) -> Parts<Toy> {
        let log = EmbeddedLog::open_on(data, self.log, self.disk).unwrap();
        Parts {
            name: "toy",
            log: Box::new(log),
            codec: codec(),
            empty: Box::new(Toy::default),
            performer: self.performer,
            clock: self.clock,
            entropy: Entropy::seeded(1),
            options: self.options,
        }
    }

    pub(crate) async fn start(self, data: &Path) -> Engine<Toy> {
        Engine::start(self.parts(data)).await.unwrap()
    }
}

pub(crate) async fn state(handle: &Handle<Toy>) -> State {
    handle.query(|toy| toy.state.clone()).await.unwrap()
}

/// Events in order until `last` has come.
pub(crate) async fn events_until(subscription: &mut Subscription<Toy>, last: &Event) -> Vec<Event> {
    let mut events = Vec::new();
    while events.last() != Some(last) {
        events.push(subscription.next().await.unwrap().event.clone());
    }
    events
}

pub(crate) async fn await_event(handle: &Handle<Toy>, event: Event) {
    events_until(&mut handle.subscribe(Cursor::Earliest), &event).await;
}

/// Lets `future` take its first step; it must not be ready.
pub(crate) fn begin<F: Future>(future: F) -> Pin<Box<F>> {
    let mut future = Box::pin(future);
    let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Pending), "was ready at once");
    future
}

/// The other side of [`Command::Hold`].
pub(crate) struct Held {
    pub(crate) entered: oneshot::Receiver<()>,
    pub(crate) leave: SyncSender<()>,
}

pub(crate) fn hold(amount: u64) -> (Command, Held) {
    let ((entered, on_entered), (leave, on_leave)) = (oneshot::channel(), sync_channel(1));
    (Command::Hold(amount, entered, on_leave), Held { entered: on_entered, leave })
}

/// Records what it was asked to do; the test decides what it does.
pub(crate) type Journal<T> = Arc<Mutex<Vec<T>>>;

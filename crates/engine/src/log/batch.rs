//! Records on their way into the log or out of it, still encoded.

use sortie_domain::time::Timestamp;

/// Bytes before each record's payload: time (u64) and payload length (u32), little-endian.
const RECORD_HEAD_BYTES: usize = 12;

/// Consecutive records that become durable together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    first_seq: u64,
    count: u32,
    last_time: Timestamp,
    body: Vec<u8>,
}

/// One record of a [`Batch`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawRecord<'a> {
    /// Sequence number in the log.
    pub seq: u64,
    /// When it was decided.
    pub time: Timestamp,
    /// The encoded event.
    pub payload: &'a [u8],
}

impl Batch {
    /// An empty batch whose first record will be `first_seq`.
    #[must_use]
    pub const fn new(first_seq: u64) -> Self {
        Self { first_seq, count: 0, last_time: Timestamp::ZERO, body: Vec::new() }
    }

    /// A batch from its stored form; `None` unless `body` contains exactly `count` records.
    pub(super) fn from_body(first_seq: u64, count: u32, body: Vec<u8>) -> Option<Self> {
        first_seq.checked_add(u64::from(count))?;
        let mut batch = Self { first_seq, count, last_time: Timestamp::ZERO, body };
        let mut records = batch.records();
        let (mut whole, mut last_time) = (0, Timestamp::ZERO);
        for record in records.by_ref() {
            (whole, last_time) = (whole + 1, record.time);
        }
        let exact = whole == count as usize && records.rest.is_empty();
        batch.last_time = last_time;
        exact.then_some(batch)
    }

    /// Adds a record; `encode` appends its payload.
    pub fn push(&mut self, time: Timestamp, encode: impl FnOnce(&mut Vec<u8>)) {
        self.body.extend_from_slice(&time.as_millis().to_le_bytes());
        let length_at = self.body.len();
        self.body.extend_from_slice(&[0; 4]);
        encode(&mut self.body);
        // A payload of 4 GiB or more would wrap here; the log refuses a batch long before that.
        let length = (self.body.len() - length_at - 4) as u32;
        self.body[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        self.count += 1;
        self.last_time = time;
    }

    /// The current size, for [`Batch::cut`].
    pub(crate) const fn mark(&self) -> (u32, usize) {
        (self.count, self.body.len())
    }

    /// Removes what was pushed since `mark`.
    pub(crate) fn cut(&mut self, mark: (u32, usize)) {
        let (count, bytes) = mark;
        self.count = count;
        self.body.truncate(bytes);
    }

    /// Sequence number of the first record.
    #[must_use]
    pub const fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// Sequence number of the last record; one less than [`Batch::first_seq`] while it is empty.
    #[must_use]
    pub const fn last_seq(&self) -> u64 {
        (self.first_seq + self.count as u64).saturating_sub(1)
    }

    /// The time of the last record; [`Timestamp::ZERO`] while it is empty.
    #[must_use]
    pub const fn last_time(&self) -> Timestamp {
        self.last_time
    }

    /// Number of records.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.count
    }

    /// Whether it has no records.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The records as they are stored.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The records in order.
    #[must_use]
    pub fn records(&self) -> BatchRecords<'_> {
        BatchRecords { seq: self.first_seq, rest: &self.body }
    }
}

/// The records of a [`Batch`], in order.
#[derive(Clone, Debug)]
pub struct BatchRecords<'a> {
    seq: u64,
    rest: &'a [u8],
}

impl<'a> Iterator for BatchRecords<'a> {
    type Item = RawRecord<'a>;

    fn next(&mut self) -> Option<RawRecord<'a>> {
        let (head, rest) = self.rest.split_first_chunk::<RECORD_HEAD_BYTES>()?;
        let (time, length) = head.split_first_chunk::<8>()?;
        let length = u32::from_le_bytes(*length.first_chunk::<4>()?) as usize;
        let (payload, rest) = rest.split_at_checked(length)?;
        let record =
            RawRecord { seq: self.seq, time: Timestamp::from_millis(u64::from_le_bytes(*time)), payload };
        self.rest = rest;
        self.seq += 1;
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Batch {
        let mut batch = Batch::new(7);
        batch.push(Timestamp::from_millis(1), |out| out.extend_from_slice(b"one"));
        batch.push(Timestamp::from_millis(2), |_| ());
        batch
    }

    #[test]
    fn records_come_back_as_they_were_pushed() {
        let batch = sample();
        let records: Vec<_> = batch.records().map(|r| (r.seq, r.time.as_millis(), r.payload)).collect();
        assert_eq!(records, [(7, 1, &b"one"[..]), (8, 2, &b""[..])]);
        assert_eq!((batch.first_seq(), batch.last_seq(), batch.len()), (7, 8, 2));
    }

    #[test]
    fn a_body_that_is_not_exactly_its_records_is_none() {
        let whole = sample().body().to_vec();
        assert!(Batch::from_body(7, 2, whole.clone()).is_some());
        assert!(Batch::from_body(7, 1, whole.clone()).is_none());
        assert!(Batch::from_body(7, 3, whole.clone()).is_none());
        assert!(Batch::from_body(u64::MAX, 2, whole.clone()).is_none());
        for cut in 0..whole.len() {
            assert!(Batch::from_body(7, 2, whole[..cut].to_vec()).is_none(), "cut at {cut}");
        }
    }
}

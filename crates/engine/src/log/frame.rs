//! One batch as bytes of a segment file.
//!
//! All numbers are little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | the segment's mark |
//! | 4 | length of the body |
//! | 4 | CRC-32 of everything after it, begun with the mark |
//! | 8 | sequence number of the first record |
//! | 4 | number of records |
//! | … | the body: per record time (8), length (4), payload |
//!
//! The mark is random for each segment. With a constant, callers that can put bytes into an event could write something
//! that looks like a frame inside a frame; after a power cut at the wrong moment it would be taken for proof of damage.
//! A random mark also keeps reused old disk blocks from being mistaken for frames.

use std::io::{self, Read};

use crc32fast::Hasher;

use super::batch::Batch;

/// Maximum size of a frame's body, in bytes: 16 MiB.
pub const MAX_BATCH_BYTES: usize = 16 << 20;

pub(super) const FRAME_HEAD_BYTES: usize = 24;

/// The unit that a disk writes atomically, in bytes.
const SECTOR_BYTES: usize = 512;

/// Appends `batch` to `out`; returns the frame's checksum.
pub(super) fn encode(mark: u32, batch: &Batch, out: &mut Vec<u8>) -> u32 {
    let (first_seq, count) = (batch.first_seq().to_le_bytes(), batch.len().to_le_bytes());
    let checksum = checksum(mark, first_seq, count, batch.body());
    out.extend_from_slice(&mark.to_le_bytes());
    out.extend_from_slice(&(batch.body().len() as u32).to_le_bytes());
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(&first_seq);
    out.extend_from_slice(&count);
    out.extend_from_slice(batch.body());
    checksum
}

fn checksum(mark: u32, first_seq: [u8; 8], count: [u8; 4], body: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(mark);
    hasher.update(&first_seq);
    hasher.update(&count);
    hasher.update(body);
    hasher.finalize()
}

struct Head {
    body_bytes: usize,
    checksum: u32,
    first_seq: [u8; 8],
    count: [u8; 4],
}

/// The head in `bytes`, unless they cannot be a head.
fn head(mark: u32, bytes: &[u8; FRAME_HEAD_BYTES]) -> Option<Head> {
    let (found, rest) = bytes.split_first_chunk::<4>()?;
    let (body_bytes, rest) = rest.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let (first_seq, count) = rest.split_first_chunk::<8>()?;
    let body_bytes = u32::from_le_bytes(*body_bytes) as usize;
    (u32::from_le_bytes(*found) == mark && body_bytes <= MAX_BATCH_BYTES).then_some(Head {
        body_bytes,
        checksum: u32::from_le_bytes(*checksum),
        first_seq: *first_seq,
        count: *count.first_chunk::<4>()?,
    })
}

/// Reads one frame from `source`, of which `remaining` bytes are left, with its checksum. `Ok(None)` if there is no
/// complete and valid frame.
pub(super) fn read(mark: u32, source: &mut impl Read, remaining: u64) -> io::Result<Option<(Batch, u32)>> {
    if remaining < FRAME_HEAD_BYTES as u64 {
        return Ok(None);
    }
    let mut bytes = [0; FRAME_HEAD_BYTES];
    source.read_exact(&mut bytes)?;
    let Some(head) = head(mark, &bytes) else { return Ok(None) };
    if remaining - (FRAME_HEAD_BYTES as u64) < head.body_bytes as u64 {
        return Ok(None);
    }
    let mut body = vec![0; head.body_bytes];
    source.read_exact(&mut body)?;
    if checksum(mark, head.first_seq, head.count, &body) != head.checksum {
        return Ok(None);
    }
    let batch = Batch::from_body(u64::from_le_bytes(head.first_seq), u32::from_le_bytes(head.count), body);
    Ok(batch.filter(|batch| !batch.is_empty()).map(|batch| (batch, head.checksum)))
}

/// Whether `bytes`, which begin at the offset `at` of a file and are not a valid frame, begin with a frame that was
/// written completely and changed later: its head announces `next_seq`, all of it is there, and no disk sector that it
/// touches is all zeros. A frame torn by a kill or a power cut lacks some of its sectors, or its end.
pub(super) fn is_changed(mark: u32, bytes: &[u8], at: u64, next_seq: u64) -> bool {
    let Some((first, _)) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>() else { return false };
    let Some(head) = head(mark, first).filter(|head| u64::from_le_bytes(head.first_seq) == next_seq) else {
        return false;
    };
    let Some(mut rest) = bytes.get(..FRAME_HEAD_BYTES + head.body_bytes) else { return false };
    let mut room = SECTOR_BYTES - (at % SECTOR_BYTES as u64) as usize;
    while !rest.is_empty() {
        let (sector, after) = rest.split_at(room.min(rest.len()));
        let unwritten = if after.is_empty() { sector.last() == Some(&0) } else { is_zero(sector) };
        if unwritten {
            return false;
        }
        (rest, room) = (after, SECTOR_BYTES);
    }
    true
}

pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Whether a valid frame begins anywhere in `bytes`.
pub(super) fn any_in(mark: u32, bytes: &[u8]) -> bool {
    let starts = bytes.windows(FRAME_HEAD_BYTES).enumerate();
    starts.filter(|(_, window)| window.starts_with(&mark.to_le_bytes())).any(|(at, _)| {
        let mut rest = &bytes[at..];
        let remaining = rest.len() as u64;
        matches!(read(mark, &mut rest, remaining), Ok(Some(_)))
    })
}

//! One file of the embedded log: `<first sequence number, 20 digits>.log`.
//!
//! A head, then frames. The head is durable before the first frame is written, so a file that is longer than a head but
//! has no valid one is damaged, and one that is not longer was never begun.
//!
//! A head of version 2 names the end of the segment before, so that a segment is sealed by the one after it: a file
//! that was cut, changed or taken from elsewhere does not match its neighbours. All numbers are little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | magic |
//! | 4 | version |
//! | 4 | mark |
//! | 8 | first sequence number |
//! | 8 | first sequence number of the segment before, 0 if there is none (from version 2 on) |
//! | 8 | length of the segment before, in bytes (from version 2 on) |
//! | 4 | chain of the segment before (from version 2 on) |
//! | 4 | CRC-32 of all of the above |
//!
//! The chain of a segment is the CRC-32 over the checksums of its head and its frames, in order.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::batch::Batch;
use super::disk::{Disk, private, sync_folder};
use super::end::EndRecord;
use super::errors::OpenError;
use super::frame;

const MAGIC: &[u8; 8] = b"SORTILOG";
/// The version that is written.
pub(super) const VERSION: u32 = 2;
/// The version whose segments do not name the one before.
const UNCHAINED: u32 = 1;

const UNCHAINED_HEAD_BYTES: u64 = 28;
/// Length of a head of [`VERSION`].
pub(super) const HEAD_BYTES: u64 = 48;

/// At most this many bytes of frames are skipped to find a record.
const PLACE_SPACING_BYTES: u64 = 256 << 10;

const READ_BUFFER_BYTES: usize = 128 << 10;

/// A frame's position, so that a reader does not have to begin at the file's start.
#[derive(Clone, Copy, Debug)]
struct Place {
    seq: u64,
    at: u64,
}

/// The end of a segment, as recorded in the next one.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Seal {
    /// 0 if there is no segment.
    pub(super) first_seq: u64,
    pub(super) bytes: u64,
    pub(super) chain: u32,
}

/// The durable part of one file.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) mark: u32,
    pub(super) first_seq: u64,
    /// One less than `first_seq` while it has no record.
    pub(super) last_seq: u64,
    pub(super) bytes: u64,
    pub(super) chain: u32,
    /// The end of the segment before; `None` in files of a version without it.
    pub(super) before: Option<Seal>,
    head_bytes: u64,
    places: Vec<Place>,
}

/// The result of scanning a file.
#[derive(Debug)]
pub(super) enum Scan {
    /// Valid up to `Segment::bytes`.
    Sound { segment: Segment, rest: Rest },
    /// Nothing can be read: its head is damaged, or another file has its name.
    Unreadable(&'static str),
    /// Creation was interrupted before anything could be written to it.
    Unbegun,
}

/// What follows the valid part of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rest {
    Nothing,
    /// Zeros: the file was extended in advance.
    Unused,
    /// A torn batch.
    Torn,
    /// Data that was written completely and changed later; how that is known.
    Changed(&'static str),
}

pub(super) fn file_name(first_seq: u64) -> String {
    format!("{first_seq:020}.log")
}

/// The first sequence number in the name of `path`, unless it is not a segment's name.
pub(super) fn first_seq_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let first_seq = name.strip_suffix(".log")?.parse().ok()?;
    (file_name(first_seq) == name && first_seq > 0).then_some(first_seq)
}

impl Segment {
    /// Creates the file with its head, durably. On failure no file is left, if the disk allows that.
    pub(super) fn create(
        folder: &Path,
        first_seq: u64,
        mark: u32,
        before: Seal,
        disk: &dyn Disk,
    ) -> io::Result<(Self, File)> {
        let path = folder.join(file_name(first_seq));
        let mut options = OpenOptions::new();
        let file = private(options.read(true).write(true).create(true).truncate(true)).open(&path)?;
        let head = Head { version: VERSION, mark, first_seq, before };
        let (bytes, chain) = head.encode();
        let written =
            disk.write(&file, 0, &bytes).and_then(|()| disk.sync(&file)).and_then(|()| sync_folder(folder));
        if let Err(error) = written {
            // If it stays, the next open finds it without frames and removes it.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok((Self::empty(path, &head, chain), file))
    }

    fn empty(path: PathBuf, head: &Head, chain: u32) -> Self {
        Self {
            path,
            mark: head.mark,
            first_seq: head.first_seq,
            last_seq: head.first_seq - 1,
            bytes: head.bytes(),
            chain,
            before: (head.version != UNCHAINED).then_some(head.before),
            head_bytes: head.bytes(),
            places: Vec::new(),
        }
    }

    /// Records that a frame of `frame_bytes` is now durable.
    pub(super) fn grow(&mut self, batch: &Batch, frame_bytes: u64, checksum: u32) {
        if self.places.last().is_none_or(|place| self.bytes - place.at >= PLACE_SPACING_BYTES) {
            self.places.push(Place { seq: batch.first_seq(), at: self.bytes });
        }
        self.last_seq = batch.last_seq();
        self.bytes += frame_bytes;
        self.chain = chained(self.chain, checksum);
    }

    /// Its current end.
    pub(super) const fn seal(&self) -> Seal {
        Seal { first_seq: self.first_seq, bytes: self.bytes, chain: self.chain }
    }

    /// Whether `next` follows directly and was written after it.
    pub(super) fn is_before(&self, next: &Self) -> bool {
        self.last_seq + 1 == next.first_seq && next.before.is_none_or(|before| before == self.seal())
    }

    /// Where to start reading to find `seq`.
    pub(super) fn place_before(&self, seq: u64) -> u64 {
        let after = self.places.partition_point(|place| place.seq <= seq);
        let place = after.checked_sub(1).and_then(|index| self.places.get(index));
        place.map_or(self.head_bytes, |place| place.at)
    }

    /// Reads the whole file and checks it, also against `end`.
    pub(super) fn scan(path: &Path, first_seq: u64, end: Option<&EndRecord>) -> Result<Scan, OpenError> {
        let fail = |source| OpenError::Io { doing: "read", path: path.to_owned(), source };
        let mut file = File::open(path).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        let (head, chain) = match read_head(&mut file).map_err(fail)? {
            FoundHead::Sound(head, chain) if head.first_seq == first_seq => (head, chain),
            FoundHead::Sound(..) => return Ok(Scan::Unreadable("its head and its name disagree")),
            FoundHead::Version(version) => {
                return Err(OpenError::UnknownVersion { file: path.to_owned(), version, known: VERSION });
            }
            FoundHead::Bad if length <= HEAD_BYTES => return Ok(Scan::Unbegun),
            FoundHead::Bad => return Ok(Scan::Unreadable("its head is damaged")),
        };
        let end = end.filter(|end| end.seal.first_seq == first_seq);
        if end.is_some_and(|end| end.mark != head.mark) {
            return Ok(Scan::Unreadable("it is not the file that was written here"));
        }
        let mut segment = Self::empty(path.to_owned(), &head, chain);
        let mut at_end = end.is_none_or(|end| end.seal == segment.seal());
        let mut frames = Frames::open(path, segment.mark, segment.bytes, length).map_err(fail)?;
        while let Some((batch, checksum)) = frames.next().map_err(fail)? {
            if batch.first_seq() != segment.last_seq + 1 {
                let rest = Rest::Changed("its records do not follow those before");
                return Ok(Scan::Sound { segment, rest });
            }
            segment.grow(&batch, frames.at - segment.bytes, checksum);
            at_end |= end.is_some_and(|end| end.seal == segment.seal());
        }
        if !at_end && end.is_some_and(|end| end.seal.bytes <= segment.bytes) {
            return Ok(Scan::Unreadable("its content is not what was written here"));
        }
        let rest = rest(&segment, length).map_err(fail)?;
        Ok(Scan::Sound { segment, rest })
    }
}

/// What follows the valid part in a file of `length` bytes.
fn rest(segment: &Segment, length: u64) -> io::Result<Rest> {
    if segment.bytes == length {
        return Ok(Rest::Nothing);
    }
    let mut file = File::open(&segment.path)?;
    file.seek(SeekFrom::Start(segment.bytes))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(if frame::is_zero(&bytes) {
        Rest::Unused
    } else if frame::any_in(segment.mark, &bytes) {
        Rest::Changed("a batch is damaged, but there are valid ones after it")
    } else if frame::is_changed(segment.mark, &bytes, segment.bytes, segment.last_seq + 1) {
        Rest::Changed("a batch is complete, but is not what was written")
    } else {
        Rest::Torn
    })
}

fn chained(chain: u32, checksum: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(chain);
    hasher.update(&checksum.to_le_bytes());
    hasher.finalize()
}

struct Head {
    version: u32,
    mark: u32,
    first_seq: u64,
    before: Seal,
}

impl Head {
    const fn bytes(&self) -> u64 {
        if self.version == UNCHAINED { UNCHAINED_HEAD_BYTES } else { HEAD_BYTES }
    }

    /// Its bytes, and the chain that starts with them.
    fn encode(&self) -> (Vec<u8>, u32) {
        let mut bytes = Vec::with_capacity(HEAD_BYTES as usize);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&self.mark.to_le_bytes());
        bytes.extend_from_slice(&self.first_seq.to_le_bytes());
        bytes.extend_from_slice(&self.before.first_seq.to_le_bytes());
        bytes.extend_from_slice(&self.before.bytes.to_le_bytes());
        bytes.extend_from_slice(&self.before.chain.to_le_bytes());
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        (bytes, checksum)
    }
}

enum FoundHead {
    /// With the chain that starts with it.
    Sound(Head, u32),
    Version(u32),
    Bad,
}

fn read_head(file: &mut File) -> io::Result<FoundHead> {
    let mut bytes = Vec::new();
    file.take(HEAD_BYTES).read_to_end(&mut bytes)?;
    Ok(parse_head(&bytes).unwrap_or(FoundHead::Bad))
}

fn parse_head(bytes: &[u8]) -> Option<FoundHead> {
    let (version, _) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    let version = u32::from_le_bytes(*version);
    let length = match version {
        UNCHAINED => UNCHAINED_HEAD_BYTES,
        // Of an unknown version only one thing is certain: some head length has a valid checksum.
        VERSION => HEAD_BYTES,
        _ => return is_other_version(bytes).then_some(FoundHead::Version(version)),
    };
    let (content, checksum) = bytes.get(..length as usize)?.split_last_chunk::<4>()?;
    if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let rest = content.get(MAGIC.len() + 4..)?;
    let (mark, rest) = rest.split_first_chunk::<4>()?;
    let (first_seq, rest) = rest.split_first_chunk::<8>()?;
    let head = Head {
        version,
        mark: u32::from_le_bytes(*mark),
        first_seq: u64::from_le_bytes(*first_seq),
        before: parse_seal(rest).unwrap_or_default(),
    };
    (head.first_seq > 0).then_some(FoundHead::Sound(head, u32::from_le_bytes(*checksum)))
}

fn parse_seal(bytes: &[u8]) -> Option<Seal> {
    let (first_seq, rest) = bytes.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    Some(Seal {
        first_seq: u64::from_le_bytes(*first_seq),
        bytes: u64::from_le_bytes(*length),
        chain: u32::from_le_bytes(*rest.first_chunk::<4>()?),
    })
}

/// Whether a head of one of the known lengths ends with its checksum: then it is a later version, not a damaged version
/// number.
fn is_other_version(bytes: &[u8]) -> bool {
    [UNCHAINED_HEAD_BYTES, HEAD_BYTES].into_iter().any(|length| {
        let head = bytes.get(..length as usize).and_then(|head| head.split_last_chunk::<4>());
        head.is_some_and(|(content, checksum)| crc32fast::hash(content) == u32::from_le_bytes(*checksum))
    })
}

/// The frames of a file, in order.
pub(super) struct Frames {
    source: BufReader<File>,
    mark: u32,
    /// Offset of the next frame.
    pub(super) at: u64,
    end: u64,
}

impl Frames {
    pub(super) fn open(path: &Path, mark: u32, at: u64, end: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(at))?;
        Ok(Self { source: BufReader::with_capacity(READ_BUFFER_BYTES, file), mark, at, end })
    }

    /// The next frame with its checksum; `None` at the end, or at something that is not a valid frame.
    pub(super) fn next(&mut self) -> io::Result<Option<(Batch, u32)>> {
        let found = frame::read(self.mark, &mut self.source, self.end.saturating_sub(self.at))?;
        if let Some((batch, _)) = &found {
            self.at += (frame::FRAME_HEAD_BYTES + batch.body().len()) as u64;
        }
        Ok(found)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.end
    }
}

//! One file of the embedded log: `<first sequence number, 20 digits>.log`.
//!
//! A head of [`HEAD_BYTES`], then frames. The head is durable before the first frame is written, so a file that
//! is longer than a sound head but has none is damaged, and one that is not longer was never begun.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::batch::Batch;
use super::disk::{Disk, private, sync_folder};
use super::errors::OpenError;
use super::frame;

const MAGIC: &[u8; 8] = b"SORTILOG";
const VERSION: u32 = 1;

/// Magic (8), version (4), mark (4), first sequence number (8), CRC-32 of all that (4).
pub(super) const HEAD_BYTES: u64 = 28;

/// At most this many bytes of frames are passed over to find a record.
const PLACE_SPACING_BYTES: u64 = 256 << 10;

const READ_BUFFER_BYTES: usize = 128 << 10;

/// A frame's position, so that a reader need not begin at the file's start.
#[derive(Clone, Copy, Debug)]
struct Place {
    seq: u64,
    at: u64,
}

/// What is known of one file: its durable part.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) mark: u32,
    pub(super) first_seq: u64,
    /// One less than `first_seq` while it has no record.
    pub(super) last_seq: u64,
    pub(super) bytes: u64,
    places: Vec<Place>,
}

/// What opening found in a file.
pub(super) enum Scan {
    /// Sound up to `Segment::bytes`.
    Sound { segment: Segment, rest: Rest },
    /// Creation was interrupted before anything could be written to it.
    Unbegun,
}

/// What follows the sound part of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rest {
    Nothing,
    /// Zeros: the file was lengthened ahead of its use.
    Unused,
    /// A batch that was broken off.
    Torn,
}

pub(super) fn file_name(first_seq: u64) -> String {
    format!("{first_seq:020}.log")
}

/// The first sequence number in the name of `path`, unless it is no segment's name.
pub(super) fn first_seq_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let first_seq = name.strip_suffix(".log")?.parse().ok()?;
    (file_name(first_seq) == name).then_some(first_seq)
}

impl Segment {
    fn empty(path: PathBuf, mark: u32, first_seq: u64) -> Self {
        Self { path, mark, first_seq, last_seq: first_seq - 1, bytes: HEAD_BYTES, places: Vec::new() }
    }

    /// Creates the file with its head, durably. On failure no file is left, if the disk allows that.
    pub(super) fn create(
        folder: &Path,
        first_seq: u64,
        mark: u32,
        disk: &dyn Disk,
    ) -> io::Result<(Self, File)> {
        let path = folder.join(file_name(first_seq));
        let mut options = OpenOptions::new();
        let file = private(options.read(true).write(true).create(true).truncate(true)).open(&path)?;
        let written = disk
            .write(&file, 0, &head(mark, first_seq))
            .and_then(|()| disk.sync(&file))
            .and_then(|()| sync_folder(folder));
        if let Err(error) = written {
            // Left behind, it would be found without frames and be removed when the log is opened.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok((Self::empty(path, mark, first_seq), file))
    }

    /// Takes note of a frame of `frame_bytes` that is now durable.
    pub(super) fn grow(&mut self, batch: &Batch, frame_bytes: u64) {
        if self.places.last().is_none_or(|place| self.bytes - place.at >= PLACE_SPACING_BYTES) {
            self.places.push(Place { seq: batch.first_seq(), at: self.bytes });
        }
        self.last_seq = batch.last_seq();
        self.bytes += frame_bytes;
    }

    /// Where to begin reading to find `seq`.
    pub(super) fn place_before(&self, seq: u64) -> u64 {
        let after = self.places.partition_point(|place| place.seq <= seq);
        after.checked_sub(1).and_then(|index| self.places.get(index)).map_or(HEAD_BYTES, |place| place.at)
    }

    /// Reads the whole file and checks it.
    pub(super) fn scan(path: &Path, first_seq: u64, is_last: bool) -> Result<Scan, OpenError> {
        let fail = |source| OpenError::Io { doing: "read", path: path.to_owned(), source };
        let damaged = |offset, what| OpenError::Damaged { file: path.to_owned(), offset, what };
        let mut file = File::open(path).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        let mark = match read_head(&mut file, length).map_err(fail)? {
            Head::Sound { mark, first_seq: found } if found == first_seq => mark,
            Head::Sound { .. } => return Err(damaged(0, "its head and its name disagree")),
            Head::Version(version) => {
                return Err(OpenError::UnknownVersion { file: path.to_owned(), version, known: VERSION });
            }
            Head::Bad if is_last && length <= HEAD_BYTES => return Ok(Scan::Unbegun),
            Head::Bad => return Err(damaged(0, "its head is not sound")),
        };
        let mut segment = Self::empty(path.to_owned(), mark, first_seq);
        let mut frames = Frames::open(path, mark, HEAD_BYTES, length).map_err(fail)?;
        while let Some(batch) = frames.next().map_err(fail)? {
            if batch.first_seq() != segment.last_seq + 1 {
                return Err(damaged(segment.bytes, "its records do not follow those before"));
            }
            segment.grow(&batch, frames.at - segment.bytes);
        }
        if segment.bytes == length {
            return Ok(Scan::Sound { segment, rest: Rest::Nothing });
        }
        if !is_last {
            return Err(damaged(segment.bytes, "it breaks off, but there are later log files"));
        }
        let bytes = read_from(path, segment.bytes).map_err(fail)?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(Scan::Sound { segment, rest: Rest::Unused });
        }
        if frame::any_in(mark, &bytes) {
            return Err(damaged(segment.bytes, "a batch is broken, but there are sound ones after it"));
        }
        Ok(Scan::Sound { segment, rest: Rest::Torn })
    }
}

fn head(mark: u32, first_seq: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES as usize);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&mark.to_le_bytes());
    bytes.extend_from_slice(&first_seq.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

enum Head {
    Sound { mark: u32, first_seq: u64 },
    Version(u32),
    Bad,
}

fn read_head(file: &mut File, length: u64) -> io::Result<Head> {
    if length < HEAD_BYTES {
        return Ok(Head::Bad);
    }
    let mut bytes = [0; HEAD_BYTES as usize];
    file.read_exact(&mut bytes)?;
    Ok(parse_head(&bytes).unwrap_or(Head::Bad))
}

fn parse_head(bytes: &[u8; HEAD_BYTES as usize]) -> Option<Head> {
    let (content, checksum) = bytes.split_last_chunk::<4>()?;
    let rest = content.strip_prefix(MAGIC)?;
    if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
        return Some(Head::Version(version));
    }
    let (mark, rest) = rest.split_first_chunk::<4>()?;
    let first_seq = u64::from_le_bytes(*rest.first_chunk::<8>()?);
    (first_seq > 0).then_some(Head::Sound { mark: u32::from_le_bytes(*mark), first_seq })
}

fn read_from(path: &Path, at: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at))?;
    let mut rest = Vec::new();
    file.read_to_end(&mut rest)?;
    Ok(rest)
}

/// The frames of a file, in order.
pub(super) struct Frames {
    source: BufReader<File>,
    mark: u32,
    /// Where the next frame begins.
    pub(super) at: u64,
    end: u64,
}

impl Frames {
    pub(super) fn open(path: &Path, mark: u32, at: u64, end: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(at))?;
        Ok(Self { source: BufReader::with_capacity(READ_BUFFER_BYTES, file), mark, at, end })
    }

    /// The next frame; `None` at the end, or at something that is no sound frame.
    pub(super) fn next(&mut self) -> io::Result<Option<Batch>> {
        let batch = frame::read(self.mark, &mut self.source, self.end.saturating_sub(self.at))?;
        if let Some(batch) = &batch {
            self.at += (frame::FRAME_HEAD_BYTES + batch.body().len()) as u64;
        }
        Ok(batch)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.end
    }
}

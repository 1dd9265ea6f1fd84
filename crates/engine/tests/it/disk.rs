//! Disks that fail when told to.

use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use sortie_engine::log::{Disk, SystemDisk};
use tokio::sync::oneshot;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    None,
    /// Half of what is written arrives, then there is no space.
    Full,
    /// What is written arrives, but cannot be synced.
    SyncFails,
    /// Half of what is written arrives, and cannot be removed again.
    FullAndCutFails,
}

/// A disk with a [`Fault`] that tests choose.
pub(crate) struct FaultyDisk {
    fault: Mutex<Fault>,
    /// The fault that occurs after this many more syncs.
    later: Mutex<Option<(u32, Fault)>>,
    pub(crate) operations: AtomicU64,
}

impl FaultyDisk {
    pub(crate) fn new() -> Self {
        Self { fault: Mutex::new(Fault::None), later: Mutex::new(None), operations: AtomicU64::new(0) }
    }

    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    pub(crate) fn fail_after_syncs(&self, syncs: u32, fault: Fault) {
        *self.later.lock().unwrap() = Some((syncs, fault));
    }

    fn synced(&self) {
        let mut later = self.later.lock().unwrap();
        match *later {
            Some((1, fault)) => {
                *later = None;
                self.set(fault);
            }
            Some((more, fault)) => *later = Some((more - 1, fault)),
            None => {}
        }
    }

    fn fault(&self) -> Fault {
        self.operations.fetch_add(1, Ordering::SeqCst);
        *self.fault.lock().unwrap()
    }
}

impl Disk for FaultyDisk {
    fn write(&self, mut file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        match self.fault() {
            Fault::None | Fault::SyncFails => SystemDisk.write(file, at, bytes),
            Fault::Full | Fault::FullAndCutFails => {
                file.seek(SeekFrom::Start(at))?;
                file.write_all(&bytes[..bytes.len() / 2])?;
                Err(ErrorKind::StorageFull.into())
            }
        }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        match self.fault() {
            Fault::SyncFails => Err(io::Error::other("I/O error")),
            _ => SystemDisk.sync(file).inspect(|()| self.synced()),
        }
    }

    fn resize(&self, file: &File, length: u64) -> io::Result<()> {
        match self.fault() {
            Fault::FullAndCutFails => Err(io::Error::other("I/O error")),
            _ => SystemDisk.resize(file, length),
        }
    }
}

/// A disk whose next sync reports that it has begun and waits for permission to continue.
pub(crate) struct GatedDisk {
    gate: Mutex<Option<(oneshot::Sender<()>, Receiver<()>)>>,
}

impl GatedDisk {
    pub(crate) fn new() -> Self {
        Self { gate: Mutex::new(None) }
    }

    pub(crate) fn hold_next_sync(&self, entered: oneshot::Sender<()>, leave: Receiver<()>) {
        *self.gate.lock().unwrap() = Some((entered, leave));
    }
}

impl Disk for GatedDisk {
    fn sync(&self, file: &File) -> io::Result<()> {
        let gate = self.gate.lock().unwrap().take();
        if let Some((entered, leave)) = gate {
            entered.send(()).unwrap();
            leave.recv().unwrap();
        }
        SystemDisk.sync(file)
    }
}

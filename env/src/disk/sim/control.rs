//! The hand of a test on a simulated disk: power cuts, errors, a full disk, bit rot.
//!
//! Crash points are enumerated so: run the workload once and read [`SimDiskControl::operation_count`];
//! then, for each number up to it, run it again from the same seed with
//! [`SimDiskControl::crash_at_operation`], and for each [`Survival`] restart a
//! [`SimDiskControl::fork`] of what is left, open it and check it.
//! [`SimDiskControl::fingerprint`] tells states that were checked before.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::super::{Disk, Side};
use super::SimDisk;

/// What a power cut leaves of the changes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing: only what was synced.
    SyncedOnly,
    /// All of them: they had just reached the medium.
    Everything,
    /// All, but of the file that was written last a seeded part of its unsynced changes.
    LastFileTorn,
    /// A seeded part: of each directory's names a prefix, of each file's writes a subset, and
    /// of each of those some of its sectors of 512 bytes.
    Random,
}

/// The kinds of calls that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// Reading from a file, or listing a directory.
    Read,
    /// Writing to a file, or setting its length.
    Write,
    /// Syncing a file or a directory. The writes that the sync was for are lost.
    Sync,
}

/// Breaks one simulated disk. Clones break the same one.
#[derive(Clone, Debug)]
pub struct SimDiskControl(SimDisk);

impl SimDiskControl {
    pub(in crate::disk) fn new(disk: SimDisk) -> SimDiskControl {
        SimDiskControl(disk)
    }

    /// The changes made since the disk was created: creates, renames, removes, writes, lengths,
    /// syncs. Reads are not counted, since a crash at a read is a crash at the next change.
    pub fn operation_count(&self) -> u64 {
        self.0.state().operation_count()
    }

    /// Begins to record changes, or ends it; forgets those of before.
    pub fn record_operations(&self, is_on: bool) {
        self.0.state().set_recording(is_on);
    }

    /// The changes recorded, a line each: its number, what it was, and to which file. For the
    /// message of a failed crash test, and for tests of what a module does to the disk.
    pub fn recorded_operations(&self) -> Vec<String> {
        self.0.state().recorded().to_vec()
    }

    /// Cuts the power during the change with this number (the first is 1): the change is left
    /// pending, it and all later calls fail until [`SimDiskControl::restart`].
    pub fn crash_at_operation(&self, number: u64) {
        self.0.state().set_crash_at(Some(number));
    }

    /// Cuts the power now: all calls fail until [`SimDiskControl::restart`].
    pub fn power_off(&self) {
        self.0.state().set_off();
    }

    /// Whether the power is off, by [`SimDiskControl::power_off`] or at a planned operation.
    pub fn is_off(&self) -> bool {
        self.0.state().is_off()
    }

    /// Starts the machine again, cutting the power first if it is on. What was not synced
    /// survives as far as `survival` says; handles and locks from before are dead; injected
    /// faults are over.
    pub fn restart(&self, survival: Survival) {
        self.0.state().restart(survival);
    }

    /// A second disk in the state of this one, with its own chances. Handles stay with the first.
    pub fn fork(&self, seed: u64) -> (Disk, SimDiskControl) {
        let mut state = self.0.state().clone();
        state.reseed(seed);
        let disk = SimDisk(Arc::new(Mutex::new(state)));
        (Disk(Side::Sim(disk.clone())), SimDiskControl(disk))
    }

    /// Equal for equal names and contents, as a process sees them now.
    pub fn fingerprint(&self) -> u64 {
        self.0.state().fingerprint()
    }

    /// Lets the `nth` call of a kind from now (1 is the next) fail with `EIO`.
    pub fn fail_nth(&self, kind: OperationKind, nth: u64) {
        self.0.state().add_fault(kind, nth);
    }

    /// Lets every write and sync from now on fail with `EIO`, as on a device that breaks, until
    /// [`SimDiskControl::restart`]. Some of what was to be written may be there. Reads go on.
    pub fn fail_writes(&self) {
        self.0.state().set_writes_fail();
    }

    /// Whether every write and sync fails.
    pub fn writes_fail(&self) -> bool {
        self.0.state().writes_fail()
    }

    /// Lets files grow by so many bytes in all, then fails with `ENOSPC`; `None` lifts the limit.
    pub fn limit_space(&self, bytes_left: Option<u64>) {
        self.0.state().set_space_left(bytes_left);
    }

    /// While set, every [`super::super::File::read_cached_at`] misses.
    pub fn set_page_cache_cold(&self, is_cold: bool) {
        self.0.state().set_page_cache_cold(is_cold);
    }

    /// Inverts bit number `bit` of a file, counted from the lowest bit of its first byte.
    /// One behind its end changes nothing.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> io::Result<()> {
        self.0.state().flip_bit(path, bit)
    }
}

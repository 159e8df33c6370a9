//! A disk that can lose power between any two operations.
//!
//! Readers see written data at once, but it is on the platter only after a sync. A killed process loses no written
//! data; a machine that loses power preserves any part of the unsynced data. A disk that lies loses data that it
//! reported as synced, too.

use crate::rng::Rng;

/// How a disk behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiskProfile {
    /// Percent of syncs that are lost without an error.
    pub(crate) lies_percent: u64,
    /// Percent of the steps of a replacement that fail with an error.
    pub(crate) fails_percent: u64,
    /// Milliseconds that a step takes, at most.
    pub(crate) step_ms: u64,
}

/// The machine lost power, or the process was killed, before this operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    Crashed,
    Failed,
}

/// One content of the file that is replaced as a whole.
#[derive(Debug, Clone)]
struct Version {
    bytes: Option<Vec<u8>>,
    is_synced: bool,
}

#[derive(Debug, Clone)]
enum Change {
    Length(u64),
    Write(u64, Vec<u8>),
}

#[derive(Debug)]
pub(crate) struct Disk {
    profile: DiskProfile,
    rng: Rng,
    /// The number of operations until the crash; `None` while none is armed.
    countdown: Option<u64>,
    is_down: bool,
    /// What the directory names, on the platter.
    named: Version,
    /// Later names that may not be on the platter, oldest first.
    renamed: Vec<Version>,
    /// A file that is written in place: on the platter, as it is read, and the difference.
    platter: Vec<u8>,
    shown: Vec<u8>,
    unsynced: Vec<Change>,
    pub(crate) lost_syncs: u64,
    pub(crate) operations: u64,
    /// How often the surviving state was not the last synced one, or was torn.
    pub(crate) torn: u64,
}

const SECTOR: usize = 512;

impl Disk {
    pub(crate) fn new(profile: DiskProfile, rng: Rng) -> Self {
        Self {
            profile,
            rng,
            countdown: None,
            is_down: false,
            named: Version { bytes: None, is_synced: true },
            renamed: Vec::new(),
            platter: Vec::new(),
            shown: Vec::new(),
            unsynced: Vec::new(),
            lost_syncs: 0,
            operations: 0,
            torn: 0,
        }
    }

    /// Stops the machine before the operation after `operations` more.
    pub(crate) fn arm(&mut self, operations: u64) {
        self.countdown = Some(operations);
    }

    pub(crate) fn is_down(&self) -> bool {
        self.is_down
    }

    /// Performs nothing more, until the next start.
    pub(crate) fn stop(&mut self) {
        self.is_down = true;
    }

    /// Milliseconds that the next step takes.
    pub(crate) fn step_ms(&mut self) -> u64 {
        self.rng.below(self.profile.step_ms + 1)
    }

    /// One operation begins.
    pub(crate) fn begin(&mut self) -> Result<(), Trouble> {
        if self.is_down {
            return Err(Trouble::Crashed);
        }
        self.operations += 1;
        if let Some(left) = &mut self.countdown {
            if *left == 0 {
                self.is_down = true;
                return Err(Trouble::Crashed);
            }
            *left -= 1;
        }
        Ok(())
    }

    fn is_lost(&mut self) -> bool {
        let lost = self.rng.percent(self.profile.lies_percent);
        self.lost_syncs += u64::from(lost);
        lost
    }

    /// Whether this step fails with an error.
    pub(crate) fn fails(&mut self) -> Result<(), Trouble> {
        if self.rng.percent(self.profile.fails_percent) { Err(Trouble::Failed) } else { Ok(()) }
    }

    // ---- the file that is replaced whole ----

    pub(crate) fn content(&self) -> Option<&[u8]> {
        self.renamed.last().unwrap_or(&self.named).bytes.as_deref()
    }

    /// A temporary file was written; returns whether it is on the platter now.
    pub(crate) fn sync_beside(&mut self) -> bool {
        !self.is_lost()
    }

    /// The name leads to other bytes, or to none.
    pub(crate) fn rename(&mut self, bytes: Option<Vec<u8>>, is_synced: bool) {
        self.renamed.push(Version { bytes, is_synced });
    }

    pub(crate) fn sync_directory(&mut self) {
        if !self.is_lost()
            && let Some(last) = self.renamed.pop()
        {
            self.named = last;
            self.renamed.clear();
        }
    }

    // ---- the file that is written in place ----

    pub(crate) fn len(&self) -> u64 {
        self.shown.len() as u64
    }

    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> bool {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let part = from.checked_add(out.len()).and_then(|to| self.shown.get(from..to));
        part.map(|part| out.copy_from_slice(part)).is_some()
    }

    pub(crate) fn set_len(&mut self, length: u64) {
        apply(&mut self.shown, &Change::Length(length));
        self.unsynced.push(Change::Length(length));
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        let change = Change::Write(offset, data.to_vec());
        apply(&mut self.shown, &change);
        self.unsynced.push(change);
    }

    /// The machine stops in the middle of a write.
    pub(crate) fn write_half(&mut self, offset: u64, data: &[u8]) {
        let n = usize::try_from(self.rng.below(data.len() as u64 + 1)).unwrap_or(0);
        self.write(offset, &data[..n]);
    }

    pub(crate) fn sync(&mut self) {
        if !self.is_lost() {
            for change in self.unsynced.drain(..) {
                apply(&mut self.platter, &change);
            }
        }
    }

    // ---- the crash ----

    /// The machine restarts with what survived: after a kill everything, after a loss of power the synced data and any
    /// part of the rest.
    pub(crate) fn restart(&mut self, lost_power: bool) {
        (self.is_down, self.countdown) = (false, None);
        if !lost_power {
            return;
        }
        // Renames reach the platter in their order.
        let n = usize::try_from(self.rng.below(self.renamed.len() as u64 + 1)).unwrap_or(0);
        self.renamed.truncate(n);
        if let Some(last) = self.renamed.pop() {
            self.named = last;
        }
        self.renamed.clear();
        if !self.named.is_synced {
            self.torn += 1;
            if let Some(bytes) = &mut self.named.bytes {
                tear(bytes, &mut self.rng);
            }
            self.named.is_synced = true;
        }
        if !self.unsynced.is_empty() {
            self.torn += 1;
        }
        for change in std::mem::take(&mut self.unsynced) {
            match self.rng.below(4) {
                0 | 1 => apply(&mut self.platter, &change),
                // Sectors are written whole, and in any order.
                2 => {
                    if let Change::Write(offset, data) = &change {
                        for (i, sector) in data.chunks(SECTOR).enumerate() {
                            if self.rng.percent(50) {
                                let at = offset + (i * SECTOR) as u64;
                                apply(&mut self.platter, &Change::Write(at, sector.to_vec()));
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        self.shown.clone_from(&self.platter);
    }
}

fn apply(to: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => to.resize(usize::try_from(*length).unwrap_or(0), 0),
        Change::Write(offset, data) => {
            let from = usize::try_from(*offset).unwrap_or(0);
            if to.len() < from + data.len() {
                to.resize(from + data.len(), 0);
            }
            to[from..from + data.len()].copy_from_slice(data);
        }
    }
}

/// The surviving part of bytes that were never synced.
fn tear(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let cut = usize::try_from(rng.below(bytes.len() as u64 + 1)).unwrap_or(0);
    match rng.below(5) {
        0 => bytes.clear(),
        1 => bytes.truncate(cut),
        2 => bytes[cut..].fill(0),
        3 => bytes.fill(0),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{Disk, DiskProfile, Trouble};
    use crate::rng::Rng;

    fn disk(lies_percent: u64, seed: u64) -> Disk {
        Disk::new(DiskProfile { lies_percent, fails_percent: 0, step_ms: 0 }, Rng::new(seed))
    }

    fn replace(disk: &mut Disk, text: &str) {
        let synced = disk.sync_beside();
        disk.rename(Some(text.into()), synced);
        disk.sync_directory();
    }

    #[test]
    fn synced_data_survives_and_the_last_rename_may() {
        let mut seen = [0; 2];
        for seed in 0..100 {
            let mut disk = disk(0, seed);
            replace(&mut disk, "one");
            let synced = disk.sync_beside();
            disk.rename(Some("two".into()), synced);
            assert_eq!(disk.content(), Some(&b"two"[..]));
            disk.restart(true);
            match disk.content() {
                Some(b"one") => seen[0] += 1,
                Some(b"two") => seen[1] += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(seen[0] > 20 && seen[1] > 20, "{seen:?}");
    }

    #[test]
    fn a_lying_disk_tears_synced_data_and_a_kill_loses_nothing() {
        let torn = (0..100).filter(|seed| {
            let mut disk = disk(100, *seed);
            replace(&mut disk, "some text");
            disk.restart(false);
            assert_eq!(disk.content(), Some(&b"some text"[..]));
            disk.restart(true);
            disk.content().is_some_and(|bytes| bytes != b"some text")
        });
        assert!(torn.count() > 10);
    }

    #[test]
    fn unsynced_sectors_survive_one_by_one() {
        let mut partly = 0;
        for seed in 0..100 {
            let mut disk = disk(0, seed);
            disk.set_len(2048);
            disk.sync();
            disk.write(0, &[7; 2048]);
            disk.restart(true);
            let mut all = [0; 2048];
            assert!(disk.read(0, &mut all) && !disk.read(1, &mut all));
            let whole: Vec<u8> = all.chunks(512).map(|sector| sector[0]).collect();
            assert!(all.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
            partly += u32::from(whole.contains(&0) && whole.contains(&7));
        }
        assert!(partly > 10, "{partly}");
    }

    #[test]
    fn the_machine_stops_before_the_requested_operation() {
        let mut disk = disk(0, 1);
        disk.arm(2);
        assert_eq!([disk.begin(), disk.begin(), disk.begin()], [Ok(()), Ok(()), Err(Trouble::Crashed)]);
        assert_eq!(disk.begin(), Err(Trouble::Crashed));
        disk.restart(false);
        assert_eq!(disk.begin(), Ok(()));
    }
}

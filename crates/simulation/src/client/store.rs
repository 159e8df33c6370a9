//! The client's stores over a simulated disk: its file trait, and redb's storage backend.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ringcentral_events::{FileLock, Files};
use tokio::sync::Notify;

use crate::core::Shared;
use crate::disk::{Disk, Trouble};

/// The disk of the machine, which outlives its processes.
#[derive(Clone)]
pub(crate) struct SimDisk {
    disk: Arc<Mutex<Disk>>,
    shared: Shared,
    /// Signals that the machine stopped at an operation.
    bell: Arc<Notify>,
    /// Another reference exists while a process holds the lock.
    lock: Arc<Mutex<std::sync::Weak<()>>>,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimDisk")
    }
}

impl SimDisk {
    pub(crate) fn new(disk: Disk, shared: Shared) -> Self {
        Self { disk: Arc::new(Mutex::new(disk)), shared, bell: Arc::default(), lock: Arc::default() }
    }

    pub(crate) fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the machine stops at an operation.
    pub(crate) async fn stopped(&self) {
        while !self.disk().is_down() {
            self.bell.notified().await;
        }
    }

    /// Begins an operation; an error if the process has crashed.
    fn begin(&self, what: &str) -> io::Result<()> {
        let begun = self.disk().begin();
        self.shared.with(|core| core.note(format_args!("disk {what}: {begun:?}")));
        match begun {
            Ok(()) => Ok(()),
            Err(Trouble::Failed) => Err(io::Error::other("the disk failed")),
            Err(Trouble::Crashed) => {
                self.bell.notify_one();
                Err(io::Error::other("the machine stopped"))
            }
        }
    }

    /// An operation that a crash can interrupt.
    async fn step(&self, what: &str) -> io::Result<()> {
        let ms = self.disk().step_ms();
        tokio::time::sleep(Duration::from_millis(ms)).await;
        if self.begin(what).is_err() {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    fn may_fail(&self) -> io::Result<()> {
        self.disk().fails().map_err(|_| io::Error::other("the disk failed"))
    }
}

#[async_trait]
impl Files for SimDisk {
    async fn read(&self, _: &Path, _: u64) -> io::Result<Option<Vec<u8>>> {
        self.step("read").await?;
        Ok(self.disk().content().map(<[u8]>::to_vec))
    }

    async fn replace(&self, _: &Path, bytes: Vec<u8>) -> io::Result<()> {
        self.step("write beside").await?;
        self.may_fail()?;
        self.step("sync beside").await?;
        self.may_fail()?;
        let synced = self.disk().sync_beside();
        self.step("rename").await?;
        self.may_fail()?;
        self.disk().rename(Some(bytes), synced);
        self.step("sync directory").await?;
        self.may_fail()?;
        self.disk().sync_directory();
        Ok(())
    }

    async fn remove(&self, _: &Path) -> io::Result<()> {
        self.step("remove").await?;
        self.disk().rename(None, true);
        self.step("sync directory").await?;
        self.disk().sync_directory();
        Ok(())
    }

    async fn try_lock(&self, _: &Path) -> io::Result<FileLock> {
        self.step("lock").await?;
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.strong_count() > 0 {
            return Ok(FileLock::Busy { process: None });
        }
        let held = Arc::new(());
        *lock = Arc::downgrade(&held);
        Ok(FileLock::Held(Box::new(held)))
    }
}

/// redb calls in place, and gets an error from the crash on.
impl redb::StorageBackend for SimDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk().len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.disk().is_down() {
            return Err(io::Error::other("the machine stopped"));
        }
        if self.disk().read(offset, out) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.begin("set length")?;
        self.disk().set_len(length);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.begin("sync")?;
        self.disk().sync();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let was_down = self.disk().is_down();
        if let Err(stopped) = self.begin("write") {
            if !was_down {
                self.disk().write_half(offset, data);
            }
            return Err(stopped);
        }
        self.disk().write(offset, data);
        Ok(())
    }
}

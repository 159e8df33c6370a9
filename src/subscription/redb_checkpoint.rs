//! Positions of many subscriptions in one embedded database.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, StorageBackend, TableDefinition};

use super::checkpoint::Checkpoint;
use super::resume::ResumeToken;
use crate::auth::StoreLock;
use crate::durable;
use crate::error::{Disposition, Error, ErrorKind, Result};

/// Resume tokens as text, keyed by the subscriptions' names.
const PLACES: TableDefinition<'_, &str, &str> = TableDefinition::new("ringcentral-events-places-v1");

/// Stores the positions of many subscriptions in one [redb](https://docs.rs/redb) database file: for apps with more
/// subscriptions than they want files, or that have such a database anyway (feature `redb`).
///
/// A save is one transaction, synced to the disk before it counts as done. Only one process can open the file. Clones
/// share it. One subscription at a time uses a name; a second one gets [`Busy`](ErrorKind::Busy).
#[derive(Clone)]
pub struct RedbCheckpoints(Arc<Inner>);

struct Inner {
    database: Database,
    path: PathBuf,
    /// Whether calls run in place: a backend in memory does not block.
    in_place: bool,
    /// The names that subscriptions hold.
    claimed: Mutex<HashSet<String>>,
    /// A dropped save runs to its end, and the next one waits for it: an older one never overtakes a newer one (found
    /// 5.3).
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl fmt::Debug for RedbCheckpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbCheckpoints").field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl RedbCheckpoints {
    /// Opens the database at `path`, or creates it. Blocks meanwhile; its directory must exist.
    ///
    /// # Errors
    /// [`Store`](ErrorKind::Store) when it cannot be opened, is not a database or no regular file (a symbolic link, a
    /// pipe), or can be read or written by other users; [`Busy`](ErrorKind::Busy) when it is open already, in this process or another.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path: PathBuf = path.into();
        let database = undamaged(&path, || open(&path))?.map_err(|error| match &error {
            redb::Error::DatabaseAlreadyOpen => {
                Error::new(ErrorKind::Busy, format!("the database {} is open already", path.display()))
                    .with_source(error)
            }
            redb::Error::Io(inner) if durable::is_refusal(inner) => {
                Error::new(ErrorKind::Store, format!("the database {} {inner}", path.display()))
                    .with_disposition(Disposition::Fatal)
            }
            _ => Error::new(ErrorKind::Store, format!("the database {} cannot be opened", path.display()))
                .with_source(error),
        })?;
        Ok(Self::new(database, path, false))
    }

    /// Opens a database in your own storage, for tests that let a disk fail. `name` replaces the path in errors. The
    /// backend is called in place, so it must not block.
    ///
    /// # Errors
    /// [`Store`](ErrorKind::Store) when it cannot be opened or is not a database.
    pub fn open_backend(name: impl Into<PathBuf>, backend: impl redb::StorageBackend) -> Result<Self> {
        let path: PathBuf = name.into();
        let open = || prepared(backend);
        let database = undamaged(&path, open)?.map_err(|error| {
            Error::new(ErrorKind::Store, format!("the database {} cannot be opened", path.display())).with_source(error)
        })?;
        Ok(Self::new(database, path, true))
    }

    fn new(database: Database, path: PathBuf, in_place: bool) -> Self {
        Self(Arc::new(Inner { database, path, in_place, claimed: Mutex::default(), turn: Arc::default() }))
    }

    /// The checkpoint of the subscription that this app calls `name`.
    #[must_use]
    pub fn checkpoint(&self, name: impl Into<String>) -> RedbCheckpoint {
        RedbCheckpoint { all: self.clone(), name: name.into() }
    }
}

/// The library panics on some torn files, where it should return an error.
fn undamaged<T>(path: &Path, open: impl FnOnce() -> T) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(open)).map_err(|_| {
        Error::new(ErrorKind::Store, format!("the database {} is damaged", path.display()))
            .with_disposition(Disposition::Fatal)
    })
}

fn open(path: &Path) -> Result<Database, redb::Error> {
    if let Some(found) = durable::check_path(path)? {
        durable::check_private(&found)?;
    } else {
        durable::check_directory(path, false)?;
    }
    // The file holds a session's recovery token: only its owner may read it.
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = durable::strict(&mut options).open(path)?;
    let opened = file.metadata()?;
    durable::check_regular(&opened)?;
    durable::check_private(&opened)?;
    prepared(FileBackend::new(file)?)
}

/// What a database file begins with.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

/// The library writes `MAGIC` last when it makes a file, and refuses a file without it: one
/// whose making was cut off by a crash could never be opened again. Such a file holds nothing
/// behind its first page, and is emptied. Any other file stays as it is.
fn empty_if_unfinished(backend: &impl StorageBackend) -> std::io::Result<()> {
    const PAGE: usize = 4096;
    let (length, mut page) = (backend.len()?, [0; PAGE]);
    for from in (0..length).step_by(PAGE) {
        let part = &mut page[..PAGE.min(usize::try_from(length - from).unwrap_or(PAGE))];
        backend.read(from, part)?;
        let must_be_zero = if from == 0 {
            let begin = &part[..MAGIC.len().min(part.len())];
            let written = begin.iter().zip(&MAGIC).take_while(|(byte, magic)| byte == magic).count();
            if written == MAGIC.len() {
                return Ok(());
            }
            &begin[written..]
        } else {
            &part[..]
        };
        if must_be_zero.iter().any(|byte| *byte != 0) {
            return Ok(());
        }
    }
    if length > 0 {
        backend.set_len(0)?;
        backend.sync_data()?;
    }
    Ok(())
}

/// With the table in it.
fn prepared(backend: impl StorageBackend) -> Result<Database, redb::Error> {
    empty_if_unfinished(&backend)?;
    let database = Database::builder().create_with_backend(backend)?;
    let write = database.begin_write()?;
    write.open_table(PLACES)?;
    write.commit()?;
    Ok(database)
}

/// The checkpoint of one subscription, of [`RedbCheckpoints`].
#[derive(Clone, Debug)]
pub struct RedbCheckpoint {
    all: RedbCheckpoints,
    name: String,
}

/// Releases a name when it is dropped.
struct Claim {
    all: Arc<Inner>,
    name: String,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.all.claimed.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

impl RedbCheckpoint {
    /// Runs `work` where blocking is allowed. Dropping the call does not interrupt it.
    async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Database, &str) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T> {
        let turn = self.all.0.turn.clone().lock_owned().await;
        let (all, name) = (self.all.0.clone(), self.name.clone());
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            let message = format!("the position {:?} in {} cannot be {what}", self.name, self.all.0.path.display());
            Error::new(ErrorKind::Store, message).with_source(error)
        };
        let run = move || {
            let done = work(&all.database, &name);
            drop(turn);
            done
        };
        if self.all.0.in_place {
            return run().map_err(|error| failed(error.into()));
        }
        match tokio::task::spawn_blocking(run).await {
            Ok(outcome) => outcome.map_err(|error| failed(error.into())),
            Err(panicked) => Err(failed(panicked.into())),
        }
    }
}

#[async_trait]
impl Checkpoint for RedbCheckpoint {
    async fn load(&self) -> Result<Option<ResumeToken>> {
        let read = |database: &Database, name: &str| {
            let table = database.begin_read()?.open_table(PLACES)?;
            Ok(table.get(name)?.map(|text| text.value().to_owned()))
        };
        let text = self.blocking("read", read).await?;
        let corrupt = |error| {
            let path = self.all.0.path.display();
            let message = format!("the database {path} holds no readable position as {:?}", self.name);
            Error::new(ErrorKind::Store, message).with_disposition(Disposition::Fatal).with_source(error)
        };
        text.map(|text| text.parse().map_err(corrupt)).transpose()
    }

    async fn save(&self, token: &ResumeToken) -> Result<()> {
        let text = token.to_secret();
        let write = move |database: &Database, name: &str| {
            let write = database.begin_write()?;
            write.open_table(PLACES)?.insert(name, text.expose())?;
            Ok(write.commit()?)
        };
        self.blocking("written", write).await
    }

    async fn lock(&self) -> Result<Option<StoreLock>> {
        let all = self.all.0.clone();
        if !all.claimed.lock().unwrap_or_else(PoisonError::into_inner).insert(self.name.clone()) {
            let message = format!(
                "the position {:?} in {} is in use by another subscription of this process",
                self.name,
                all.path.display()
            );
            return Err(Error::new(ErrorKind::Busy, message));
        }
        Ok(Some(StoreLock::new(Claim { all, name: self.name.clone() })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: &str) -> ResumeToken {
        let proven = super::super::continuity::Proven::all(std::time::SystemTime::UNIX_EPOCH);
        ResumeToken::new(id.into(), String::new(), None, proven)
    }

    #[tokio::test]
    async fn each_subscription_has_its_own_position_and_all_survive_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("places.redb");
        let all = RedbCheckpoints::open(&path).unwrap();
        let (one, other) = (all.checkpoint("one"), all.checkpoint("other"));
        assert_eq!(one.load().await.unwrap(), None);
        for id in ["a", "b"] {
            one.save(&token(id)).await.unwrap();
        }
        other.save(&token("c")).await.unwrap();
        let busy = RedbCheckpoints::open(&path).unwrap_err();
        assert_eq!(busy.kind(), ErrorKind::Busy);
        drop((one, other, all));
        let all = RedbCheckpoints::open(&path).unwrap();
        assert_eq!(all.checkpoint("one").load().await.unwrap(), Some(token("b")));
        assert_eq!(all.checkpoint("other").load().await.unwrap(), Some(token("c")));
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
            assert_eq!(mode & 0o077, 0, "for nobody else to read");
        }
    }

    #[tokio::test]
    async fn a_corrupt_checkpoint_database_is_an_error_not_a_fresh_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("places.redb");
        std::fs::write(&path, "{}".repeat(4096)).unwrap();
        #[cfg(unix)]
        {
            let error = RedbCheckpoints::open(&path).unwrap_err();
            assert!(error.to_string().contains("chmod 600"), "{error}");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&path, mode).unwrap();
        }
        assert_eq!(RedbCheckpoints::open(&path).unwrap_err().kind(), ErrorKind::Store);
        std::fs::remove_file(&path).unwrap();
        let all = RedbCheckpoints::open(&path).unwrap();
        let write = all.0.database.begin_write().unwrap();
        write.open_table(PLACES).unwrap().insert("one", "{\"v\":99}").unwrap();
        write.commit().unwrap();
        let error = all.checkpoint("one").load().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.to_string().contains("places.redb"), "{error}");
        assert_eq!(RedbCheckpoints::open(directory.path()).unwrap_err().kind(), ErrorKind::Store);
    }

    #[tokio::test]
    async fn one_name_is_used_by_one_subscription_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let all = RedbCheckpoints::open(directory.path().join("places.redb")).unwrap();
        let held = all.checkpoint("one").lock().await.unwrap();
        let error = all.clone().checkpoint("one").lock().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.to_string().contains("\"one\""), "{error}");
        let _other = all.checkpoint("other").lock().await.unwrap();
        drop(held);
        assert!(all.checkpoint("one").lock().await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_dropped_save_never_overtakes_a_later_one() {
        let directory = tempfile::tempdir().unwrap();
        let all = RedbCheckpoints::open(directory.path().join("places.redb")).unwrap();
        let one = all.checkpoint("one");
        let (go, wait) = std::sync::mpsc::channel();
        let mut older = Box::pin(one.blocking("written", move |database, name| {
            let _released = wait.recv();
            let write = database.begin_write()?;
            write.open_table(PLACES)?.insert(name, token("older").to_secret().expose())?;
            Ok(write.commit()?)
        }));
        assert!(futures_util::poll!(&mut older).is_pending());
        drop(older);
        let newest = token("newer");
        let mut newer = Box::pin(one.save(&newest));
        assert!(futures_util::poll!(&mut newer).is_pending());
        assert!(one.all.0.turn.try_lock().is_err(), "the older one has the turn");
        go.send(()).unwrap();
        newer.await.unwrap();
        assert_eq!(one.load().await.unwrap(), Some(token("newer")));
    }

    /// Keeps what is written, for another beginning with a part of it; after so many
    /// operations the machine stops.
    #[derive(Clone, Debug)]
    struct Bytes(Arc<Mutex<Vec<u8>>>, Arc<std::sync::atomic::AtomicUsize>);

    impl Bytes {
        fn new(bytes: Vec<u8>, operations: usize) -> Self {
            Self(Arc::new(Mutex::new(bytes)), Arc::new(operations.into()))
        }

        fn step(&self) -> std::io::Result<()> {
            use std::sync::atomic::Ordering::SeqCst;
            let left = self.1.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
            left.map(drop).map_err(|_| std::io::Error::other("the machine stopped"))
        }
    }

    impl StorageBackend for Bytes {
        fn len(&self) -> std::io::Result<u64> {
            Ok(self.0.lock().unwrap().len() as u64)
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
            let (bytes, from) = (self.0.lock().unwrap(), usize::try_from(offset).unwrap());
            let part = bytes.get(from..from + out.len()).ok_or(std::io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(part);
            Ok(())
        }
        fn set_len(&self, len: u64) -> std::io::Result<()> {
            self.step()?;
            self.0.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
            Ok(())
        }
        fn sync_data(&self) -> std::io::Result<()> {
            self.step()
        }
        fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
            let from = usize::try_from(offset).unwrap();
            let stopped = self.step();
            // In the midst of it.
            let n = if stopped.is_ok() { data.len() } else { data.len().min(5) };
            self.0.lock().unwrap()[from..from + n].copy_from_slice(&data[..n]);
            stopped
        }
    }

    #[tokio::test]
    async fn a_database_whose_making_was_cut_off_anywhere_can_be_made_again() {
        let mut cut_off = 0;
        for operations in 0.. {
            let half = Bytes::new(Vec::new(), operations);
            let made = RedbCheckpoints::open_backend("half", half.clone()).is_ok();
            let bytes = half.0.lock().unwrap().clone();
            let all = RedbCheckpoints::open_backend("again", Bytes::new(bytes, usize::MAX)).unwrap();
            assert_eq!(all.checkpoint("one").load().await.unwrap(), None, "{operations}");
            if made {
                break;
            }
            cut_off += 1;
        }
        assert!(cut_off > 5, "{cut_off}");
    }

    #[test]
    fn a_file_that_is_no_unfinished_database_is_not_emptied() {
        for (begin, end) in [(&b""[..], 1_u8), (b"red ", 0), (b"text", 0), (&MAGIC[..], 0)] {
            let mut bytes = begin.to_vec();
            bytes.resize(10_000, 0);
            bytes[9_999] = end;
            let file = Bytes::new(bytes.clone(), usize::MAX);
            empty_if_unfinished(&file).unwrap();
            assert_eq!(*file.0.lock().unwrap(), bytes, "{begin:?}");
        }
    }

    #[tokio::test]
    async fn a_torn_database_is_an_error_and_no_panic() {
        let whole = Bytes::new(Vec::new(), usize::MAX);
        let all = RedbCheckpoints::open_backend("whole", whole.clone()).unwrap();
        all.checkpoint("one").save(&token("a")).await.unwrap();
        drop(all);
        let bytes = whole.0.lock().unwrap().clone();
        let mut refused = 0;
        for cut in [0, 64, 128, 192, 256, 320, 512, 4096, 8192, bytes.len() - 4096] {
            for keeps_length in [true, false] {
                let mut torn = bytes[..cut].to_vec();
                if keeps_length {
                    torn.resize(bytes.len(), 0);
                }
                match RedbCheckpoints::open_backend("torn", Bytes::new(torn, usize::MAX)) {
                    // It is empty, or the place is there, or the reading says that it is not.
                    Ok(all) => drop(all.checkpoint("one").load().await),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Store, "{cut}");
                        refused += 1;
                    }
                }
            }
        }
        assert!(refused > 4, "{refused}");
    }

    #[tokio::test]
    async fn a_storage_of_ones_own_can_stand_in() {
        let all = RedbCheckpoints::open_backend("memory", redb::backends::InMemoryBackend::new()).unwrap();
        let one = all.checkpoint("one");
        assert_eq!(one.load().await.unwrap(), None);
        one.save(&token("a")).await.unwrap();
        assert_eq!(one.load().await.unwrap(), Some(token("a")));
        let damaged = redb::backends::InMemoryBackend::new();
        StorageBackend::set_len(&damaged, 4096).unwrap();
        damaged.write(0, b"no database").unwrap();
        let error = RedbCheckpoints::open_backend("memory", damaged).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.to_string().contains("the database memory"), "{error}");
    }
}

//! Stores a stream's position, so that a crash loses nothing.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::acknowledged::Acknowledged;
use super::redelivery::{ATTEMPTS, DELAY, Redeliveries};
use super::resume::ResumeToken;
use crate::auth::StoreLock;
use crate::delivery::Delivery;
use crate::durable::{FileLock, Files, WholeFile};
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::guard::guarded;

/// Stores the position of one subscription's stream across restarts and crashes. Set by
/// [`SubscriptionBuilder::checkpoint`](crate::SubscriptionBuilder::checkpoint).
///
/// A save replaces the previous one atomically: after a crash during it the store must contain the former token or the
/// new one. The subscription saves one token at a time. A save that takes longer than 30 s is dropped: it must not take
/// effect after a later one.
#[async_trait]
pub trait Checkpoint: Send + Sync + fmt::Debug + 'static {
    /// The last saved token; `None` if none was ever saved.
    ///
    /// # Errors
    /// [`Store`](ErrorKind::Store) when the stored token cannot be read. The subscription then does not start: a fresh
    /// start would lose events silently.
    async fn load(&self) -> Result<Option<ResumeToken>>;

    /// Stores `token`, as [`to_secret`](ResumeToken::to_secret) or serde write it. Must return only when the token
    /// would survive a crash of the process.
    ///
    /// # Errors
    /// [`Store`](ErrorKind::Store) when it cannot be stored.
    async fn save(&self, token: &ResumeToken) -> Result<()>;

    /// Locks the store for one subscription, until the returned lock is dropped. Two subscriptions on one store would
    /// take over each other's, replace its filters and delete it. A start waits up to 10 s for a subscription that is
    /// ending.
    ///
    /// Default: no lock, which is correct if nothing else uses the store.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy), without a wait, while another subscription holds the lock; its text names that one if
    /// possible.
    async fn lock(&self) -> Result<Option<StoreLock>> {
        Ok(None)
    }
}

#[async_trait]
impl<T: Checkpoint + ?Sized> Checkpoint for Arc<T> {
    async fn load(&self) -> Result<Option<ResumeToken>> {
        (**self).load().await
    }

    async fn save(&self, token: &ResumeToken) -> Result<()> {
        (**self).save(token).await
    }

    async fn lock(&self) -> Result<Option<StoreLock>> {
        (**self).lock().await
    }
}

/// When an event counts as finished: finished events are not delivered again after a restart, all others are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AckMode {
    /// When the stream is polled for the next one. Right for a loop that processes one event after the other. The
    /// default. Saved in the background within a second, so a crash repeats the events of that second; before a planned
    /// end that keeps the subscription ([`OnDrop::Keep`](crate::OnDrop)) call `ack`.
    #[default]
    OnNext,
    /// When [`Subscription::ack`](crate::Subscription::ack) or
    /// [`SubscriptionHandle::ack`](crate::SubscriptionHandle::ack) is called. For readers that pass events to other
    /// tasks, or that need the position to be stored before they continue.
    Explicit,
}

/// Stores the position in memory: for a stream that restarts within the same process, and for tests. Clones share it,
/// and one subscription at a time uses it.
#[derive(Clone, Debug, Default)]
pub struct MemoryCheckpoint {
    token: Arc<Mutex<Option<ResumeToken>>>,
    /// Another reference exists while a subscription holds the lock.
    claim: Arc<Mutex<Weak<()>>>,
}

impl MemoryCheckpoint {
    /// Makes an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Checkpoint for MemoryCheckpoint {
    async fn load(&self) -> Result<Option<ResumeToken>> {
        Ok(self.token.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn save(&self, token: &ResumeToken) -> Result<()> {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        Ok(())
    }

    async fn lock(&self) -> Result<Option<StoreLock>> {
        let mut claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        if claim.strong_count() > 0 {
            let busy = "the checkpoint in memory is in use by another subscription of this process";
            return Err(Error::new(ErrorKind::Busy, busy));
        }
        let held = Arc::new(());
        *claim = Arc::downgrade(&held);
        Ok(Some(StoreLock::new(held)))
    }
}

/// Stores the position in a file, which is replaced atomically and synced, so that after a crash it contains the former
/// position or the new one. Use one file for each subscription.
///
/// A subscription locks a file beside it, with `.lock` appended to its name, for its whole life: a second one on the
/// same path, in this process or another, gets [`Busy`](ErrorKind::Busy). A file that other users can read or write is
/// refused before anything is read, and so is what is no regular file: a symbolic link, a directory, a pipe.
#[derive(Clone, Debug)]
pub struct FileCheckpoint {
    file: WholeFile,
}

impl FileCheckpoint {
    /// Some thousand keys take some hundred KiB; a larger file is not a checkpoint.
    const LIMIT: u64 = 16 << 20;

    /// Stores the position at `path`. Its directory must exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { file: WholeFile::new(path, "checkpoint", Self::LIMIT) }
    }

    /// Uses other [`Files`] than the machine's.
    #[must_use]
    pub fn with_files(self, files: impl Files) -> Self {
        Self { file: self.file.over(files) }
    }
}

#[async_trait]
impl Checkpoint for FileCheckpoint {
    async fn load(&self) -> Result<Option<ResumeToken>> {
        let Some(bytes) = self.file.read().await? else { return Ok(None) };
        let text = std::str::from_utf8(&bytes).map_err(|_| Error::config("it is not text"));
        text.and_then(str::parse).map(Some).map_err(|error| {
            let corrupt =
                self.file.error(ErrorKind::Store, "holds no readable position; delete it to begin with new events");
            corrupt.with_disposition(Disposition::Fatal).with_source(error)
        })
    }

    async fn save(&self, token: &ResumeToken) -> Result<()> {
        self.file.replace(token.to_secret().expose().as_bytes().to_vec()).await
    }

    async fn lock(&self) -> Result<Option<StoreLock>> {
        let process = match self.file.try_lock().await? {
            FileLock::Held(file) => return Ok(Some(StoreLock::new(file))),
            FileLock::Busy { process } => process,
        };
        let of = match process {
            Some(id) if id == std::process::id() => " of this process".to_owned(),
            Some(id) => format!(" (process {id})"),
            None => String::new(),
        };
        Err(self.file.error(ErrorKind::Busy, format_args!("is in use by another subscription{of}")))
    }
}

/// The time between two saves in the background.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// The deadline of a save.
const SAVE_WITHIN: Duration = Duration::from_secs(30);
/// The pause before a failed save is repeated.
const SAVE_AGAIN: Duration = Duration::from_secs(5);
/// How long a start waits for a subscription that is ending: a drop deletes within 5 s.
const CLAIM_WITHIN: Duration = Duration::from_secs(10);
/// How often a start tries to get the lock.
const CLAIM_EVERY: Duration = Duration::from_millis(100);

/// Locks the store for a subscription that starts.
pub(super) async fn claim(store: &dyn Checkpoint) -> Result<Option<Arc<StoreLock>>> {
    let give_up = Instant::now() + CLAIM_WITHIN;
    loop {
        match store_call("locked", async { store.lock().await }).await {
            Err(error) if error.kind() == ErrorKind::Busy && Instant::now() < give_up => sleep(CLAIM_EVERY).await,
            outcome => return outcome.map(|lock| lock.map(Arc::new)),
        }
    }
}

/// The stored position.
pub(super) async fn load(store: &dyn Checkpoint) -> Result<Option<ResumeToken>> {
    store_call("read", async { store.load().await }).await
}

/// A call of a user's store, which may hang or panic.
async fn store_call<T>(verb: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Err(Error::new(ErrorKind::Store, format!("the checkpoint could not be {verb} within 30 s")));
    timeout(SAVE_WITHIN, guarded("the checkpoint", call)).await.unwrap_or_else(late)
}

/// What a subscription's reader has acknowledged, and the task that saves it.
///
/// Only [`run`](Self::run) saves, one token at a time, and dropping an `ack` drops no save: an older token never
/// replaces a newer one (found 5.3).
#[derive(Debug)]
pub(super) struct Keeper {
    acknowledged: Mutex<Acknowledged>,
    changed: Notify,
    redeliveries: Mutex<Redeliveries>,
}

/// A caller that waits until what is acknowledged is saved.
type Waiting = oneshot::Sender<Result<()>>;

impl Keeper {
    pub(super) fn new(acknowledged: Acknowledged) -> Self {
        Self { acknowledged: Mutex::new(acknowledged), changed: Notify::new(), redeliveries: Mutex::default() }
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&Acknowledged) -> T) -> T {
        read(&self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what is acknowledged; it is saved soon if `change` returns that there is something to save.
    pub(super) fn change(&self, change: impl FnOnce(&mut Acknowledged) -> bool) {
        if change(&mut self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)) {
            self.changed.notify_one();
        }
    }

    /// Acknowledges one delivery; that is saved soon.
    pub(super) fn acknowledge(&self, number: u64) -> Result<()> {
        let mut outcome = Ok(());
        self.change(|acknowledged| {
            acknowledged.acknowledge(number).unwrap_or_else(|error| {
                outcome = Err(error);
                false
            })
        });
        let mut redeliveries = self.redeliveries();
        if outcome.is_ok() && !redeliveries.is_empty() {
            redeliveries.remove(|it| it == number);
        }
        outcome
    }

    pub(super) fn redeliveries(&self) -> MutexGuard<'_, Redeliveries> {
        self.redeliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a delivery come again after `after`.
    pub(super) fn give_back(&self, number: u64, delivery: Delivery, after: Duration) -> Result<()> {
        let mut redeliveries = self.redeliveries();
        redeliveries.admit(&delivery)?;
        let mut acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        if acknowledged.give_back(number)? >= ATTEMPTS {
            acknowledged.undo_give_back(number);
            let text = format!("the delivery with the number {number} was tried {ATTEMPTS} times");
            return Err(Error::config(text));
        }
        drop(acknowledged);
        let after = after.clamp(*DELAY.start(), *DELAY.end());
        redeliveries.push(Some(Instant::now() + after), number, delivery);
        Ok(())
    }

    /// Lets a delivery come again at once, which nothing has tried.
    pub(super) fn put_back(&self, number: u64, delivery: Delivery) {
        let mut redeliveries = self.redeliveries();
        // Beyond what is tracked, a restart repeats it all the same.
        let _ = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).put_back(number);
        redeliveries.push(None, number, delivery);
    }

    async fn save(&self, store: &dyn Checkpoint) -> Result<()> {
        match self.read(Acknowledged::token) {
            Some(token) => store_call("written", async { store.save(&token).await }).await,
            // Nothing was read: the token of the previous run is still valid.
            None => Ok(()),
        }
    }

    /// Saves changes, at once for a waiting caller, until `asked` is closed and no save is in progress. Holds the lock
    /// until then.
    pub(super) async fn run(
        self: Arc<Self>,
        store: Arc<dyn Checkpoint>,
        mut asked: mpsc::Receiver<Waiting>,
        claim: Option<Arc<StoreLock>>,
    ) {
        let mut not_before = Instant::now();
        loop {
            let mut waiting = Vec::new();
            tokio::select! {
                biased;
                one = asked.recv() => match one {
                    Some(one) => waiting.push(one),
                    None => break,
                },
                () = async {
                    sleep_until(not_before).await;
                    self.changed.notified().await;
                } => {}
            }
            while let Ok(one) = asked.try_recv() {
                waiting.push(one);
            }
            // Changes up to now are in this save.
            let _included = self.changed.notified().now_or_never();
            let outcome = self.save(&*store).await;
            not_before = Instant::now() + if outcome.is_ok() { SAVE_EVERY } else { SAVE_AGAIN };
            if let Err(error) = &outcome {
                tracing::warn!(%error, "failed to save the position in the stream");
                self.changed.notify_one();
            }
            for one in waiting {
                // A caller that stopped waiting has the save nevertheless.
                let _gone = one.send(outcome.clone());
            }
        }
        drop(claim);
    }
}

#[cfg(test)]
mod tests {
    use super::super::progress::{Progress, Step};
    use super::super::stream::Acks;
    use super::*;

    fn token(id: &str) -> ResumeToken {
        let endpoint = super::super::endpoint::Endpoint { id: id.into(), fingerprint: String::new(), owner: None };
        let proven = super::super::continuity::Proven::all(std::time::SystemTime::UNIX_EPOCH);
        ResumeToken::new(endpoint.id, endpoint.fingerprint, None, proven)
    }

    #[tokio::test]
    async fn a_file_keeps_the_last_token_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = FileCheckpoint::new(directory.path().join("place.json"));
        assert_eq!(file.load().await.unwrap(), None);
        for id in ["a", "b"] {
            file.save(&token(id)).await.unwrap();
            assert_eq!(file.load().await.unwrap(), Some(token(id)));
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_corrupt_checkpoint_is_an_error_not_a_fresh_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("place.json");
        for bytes in [&b""[..], b"{", b"\xff\xfe", b"{\"v\":99}"] {
            FileCheckpoint::new(&path).save(&token("a")).await.unwrap();
            std::fs::write(&path, bytes).unwrap();
            let error = FileCheckpoint::new(&path).load().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Store, "{bytes:?}");
            assert!(error.to_string().contains("place.json holds no readable position; delete it"), "{error}");
        }
        let nowhere = FileCheckpoint::new(directory.path().join("no/such/place.json"));
        for error in [
            nowhere.save(&token("a")).await.unwrap_err(),
            nowhere.load().await.unwrap_err(),
            nowhere.lock().await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Store);
            assert!(error.to_string().contains("no/such does not exist; create it"), "{error}");
        }
    }

    #[tokio::test]
    async fn memory_is_shared_by_its_clones() {
        let memory = MemoryCheckpoint::new();
        memory.clone().save(&token("a")).await.unwrap();
        assert_eq!(memory.load().await.unwrap(), Some(token("a")));
    }

    #[tokio::test]
    async fn one_subscription_at_a_time_locks_a_checkpoint_and_busy_names_the_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("place.json");
        let memory = MemoryCheckpoint::new();
        let pairs: [[Arc<dyn Checkpoint>; 2]; 2] = [
            [Arc::new(memory.clone()), Arc::new(memory)],
            // Also through an `Arc`, and by another path to the same file.
            [
                Arc::new(FileCheckpoint::new(&path)),
                Arc::new(Arc::new(FileCheckpoint::new(directory.path().join("./place.json")))),
            ],
        ];
        for [one, other] in pairs {
            let held = one.lock().await.unwrap();
            assert!(held.is_some());
            let error = other.lock().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Busy);
            assert!(error.to_string().ends_with("in use by another subscription of this process"), "{error}");
            drop(held);
            assert!(other.lock().await.unwrap().is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_waits_ten_seconds_for_a_subscription_that_ends() {
        let memory = MemoryCheckpoint::new();
        for (seconds, free) in [(9, true), (11, false)] {
            let held = memory.lock().await.unwrap();
            let release = tokio::spawn(async move {
                sleep(Duration::from_secs(seconds)).await;
                drop(held);
            });
            let claimed = claim(&memory).await;
            assert_eq!(claimed.is_ok(), free, "{claimed:?}");
            release.await.unwrap();
        }
    }

    /// Completes a save when allowed, and records the result of each.
    #[derive(Debug)]
    struct Slow {
        saved: Mutex<Vec<String>>,
        begun: std::sync::atomic::AtomicUsize,
        go: tokio::sync::Semaphore,
        panics: bool,
    }

    impl Slow {
        fn new(allowed: usize, panics: bool) -> Self {
            let go = tokio::sync::Semaphore::new(allowed);
            Self { saved: Mutex::default(), begun: Default::default(), go, panics }
        }
    }

    #[async_trait]
    impl Checkpoint for Slow {
        async fn load(&self) -> Result<Option<ResumeToken>> {
            assert!(!self.panics, "a user's panic");
            std::future::pending().await
        }

        async fn save(&self, token: &ResumeToken) -> Result<()> {
            self.begun.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            self.go.acquire().await.unwrap().forget();
            assert!(!self.panics, "a user's panic");
            self.saved.lock().unwrap().push(token.subscription_id().to_string());
            Ok(())
        }
    }

    fn mark(id: &str) -> Step {
        let endpoint =
            Arc::new(super::super::endpoint::Endpoint { id: id.into(), fingerprint: String::new(), owner: None });
        let at = std::time::SystemTime::UNIX_EPOCH;
        let mark = super::super::resume::Mark {
            cursor: crate::control::Cursor::at(at),
            endpoint,
            proven: super::super::continuity::Proven::all(at),
        };
        Step::Mark(mark)
    }

    fn acks(store: &Arc<Slow>, claim: Option<Arc<StoreLock>>) -> Acks {
        Acks::new(Progress::default(), Some((store.clone(), AckMode::Explicit)), claim)
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_ack_runs_to_its_end_before_the_next_save_begins() {
        let store = Arc::new(Slow::new(0, false));
        let acks = acks(&store, None);
        acks.pass(mark("older"));
        let mut older = Box::pin(acks.ack());
        assert!(futures_util::poll!(&mut older).is_pending());
        tokio::task::yield_now().await;
        drop(older);
        let begun = || store.begun.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(begun(), 1, "the older save is under way");
        acks.pass(mark("newer"));
        let mut newer = Box::pin(acks.ack());
        assert!(futures_util::poll!(&mut newer).is_pending());
        tokio::task::yield_now().await;
        assert_eq!(begun(), 1, "one at a time");
        store.go.add_permits(9);
        newer.await.unwrap();
        assert_eq!(*store.saved.lock().unwrap(), ["older", "newer"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_checkpoint_is_locked_until_its_last_save_has_ended() {
        let (store, memory) = (Arc::new(Slow::new(0, false)), MemoryCheckpoint::new());
        let claim = memory.lock().await.unwrap().map(Arc::new);
        let acks = acks(&store, claim);
        acks.pass(mark("last"));
        assert!(futures_util::poll!(Box::pin(acks.ack())).is_pending());
        tokio::task::yield_now().await;
        drop(acks);
        tokio::task::yield_now().await;
        assert_eq!(memory.lock().await.unwrap_err().kind(), ErrorKind::Busy);
        store.go.add_permits(1);
        while memory.lock().await.is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(*store.saved.lock().unwrap(), ["last"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_checkpoint_that_hangs_or_panics_is_an_error_and_saving_continues() {
        for (panics, kind) in [(false, ErrorKind::Store), (true, ErrorKind::Internal)] {
            let store = Arc::new(Slow::new(usize::from(panics), panics));
            assert_eq!(load(&*store).await.unwrap_err().kind(), kind, "panics: {panics}");
            let acks = acks(&store, None);
            acks.pass(mark("a"));
            for _ in 0..2 {
                store.go.add_permits(usize::from(panics));
                assert_eq!(acks.ack().await.unwrap_err().kind(), kind, "panics: {panics}");
            }
        }
    }
}

//! Where a stream's place is kept, so that a crash costs nothing.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::progress::Progress;
use super::resume::ResumeToken;
use crate::durable;
use crate::error::{Error, ErrorKind, Result};

/// Keeps the place of one subscription's stream across restarts and crashes. Set
/// by [`SubscriptionBuilder::checkpoint`](crate::SubscriptionBuilder::checkpoint).
///
/// A save replaces what was saved before, in one step: after a crash in the midst
/// of it there must be the former token or the new one. The subscription saves one
/// token at a time.
#[async_trait]
pub trait Checkpoint: Send + Sync + fmt::Debug + 'static {
    /// What was saved last; `None` if nothing ever was.
    ///
    /// # Errors
    /// [`Store`](ErrorKind::Store) when there is something that cannot be read. The
    /// subscription then does not start: to begin anew would lose events quietly.
    async fn load(&self) -> Result<Option<ResumeToken>>;

    /// Keeps `token`, as [`to_secret`](ResumeToken::to_secret) or serde write it. Done only
    /// when it would survive a crash of the process.
    ///
    /// # Errors
    /// [`Store`](ErrorKind::Store) when it cannot be kept.
    async fn save(&self, token: &ResumeToken) -> Result<()>;
}

#[async_trait]
impl<T: Checkpoint + ?Sized> Checkpoint for Arc<T> {
    async fn load(&self) -> Result<Option<ResumeToken>> {
        (**self).load().await
    }

    async fn save(&self, token: &ResumeToken) -> Result<()> {
        (**self).save(token).await
    }
}

/// When an event counts as finished: what is finished by then is not delivered
/// again after a restart, everything else is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AckMode {
    /// When the stream is polled for the next one. Right for a loop that handles
    /// one event after the other. The default. Saved in the background within a
    /// second, so that a crash repeats as much; before a planned end that keeps the
    /// subscription ([`OnDrop::Keep`](crate::OnDrop)) call `ack`.
    #[default]
    OnNext,
    /// When [`Subscription::ack`](crate::Subscription::ack) is called. For readers
    /// that hand events on to other tasks, or that need the place to be safe before
    /// they go on.
    Explicit,
}

/// Keeps the place in memory: for a stream that is begun anew in the same process,
/// and for tests. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryCheckpoint(Arc<Mutex<Option<ResumeToken>>>);

impl MemoryCheckpoint {
    /// With nothing saved.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Checkpoint for MemoryCheckpoint {
    async fn load(&self) -> Result<Option<ResumeToken>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn save(&self, token: &ResumeToken) -> Result<()> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        Ok(())
    }
}

/// Keeps the place in a file, which is replaced whole and synced, so that after a
/// crash there is the former place or the new one. One file for each subscription.
#[derive(Clone, Debug)]
pub struct FileCheckpoint {
    path: PathBuf,
}

impl FileCheckpoint {
    /// Some thousand keys take some hundred KiB; a file that is larger is none of ours.
    const LIMIT: u64 = 16 << 20;

    /// Keeps the place at `path`. Its directory must exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Runs `work` where blocking is allowed. A dropped call does not stop it half way.
    async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(PathBuf) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let path = self.path.clone();
        let outcome = tokio::task::spawn_blocking(move || work(path)).await.map_err(std::io::Error::other);
        outcome.and_then(|done| done).map_err(|error| {
            Error::new(ErrorKind::Store, format!("the checkpoint {} cannot be {what}", self.path.display()))
                .with_source(error)
        })
    }
}

#[async_trait]
impl Checkpoint for FileCheckpoint {
    async fn load(&self) -> Result<Option<ResumeToken>> {
        let text = self.blocking("read", |path| durable::read(&path, Self::LIMIT)).await?;
        let corrupt = |error| {
            let message = format!("the checkpoint {} holds no place that can be read", self.path.display());
            Error::new(ErrorKind::Store, message).with_source(error)
        };
        text.map(|text| text.parse().map_err(corrupt)).transpose()
    }

    async fn save(&self, token: &ResumeToken) -> Result<()> {
        let text = token.to_secret();
        self.blocking("written", move |path| durable::replace(&path, text.expose().as_bytes())).await
    }
}

/// The time between two saves in the background.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// No save may take longer.
const SAVE_WITHIN: Duration = Duration::from_secs(30);
/// The time after which one that failed is tried again.
const SAVE_AGAIN: Duration = Duration::from_secs(5);

/// What a subscription's reader has finished, and where that is kept.
#[derive(Debug)]
pub(super) struct Keeper {
    store: Arc<dyn Checkpoint>,
    finished: Mutex<Progress>,
    /// One save at a time, so that none is overtaken by an older one.
    saving: tokio::sync::Mutex<()>,
    changed: Notify,
}

impl Keeper {
    pub(super) fn new(store: Arc<dyn Checkpoint>, finished: Progress) -> Self {
        Self { store, finished: Mutex::new(finished), saving: tokio::sync::Mutex::new(()), changed: Notify::new() }
    }

    /// Changes what is finished; it is saved soon.
    pub(super) fn finish(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.finished.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// Saves what is finished by now.
    pub(super) async fn save(&self) -> Result<()> {
        let _turn = self.saving.lock().await;
        let token = self.finished.lock().unwrap_or_else(PoisonError::into_inner).token();
        match token {
            Some(token) => timeout(SAVE_WITHIN, self.store.save(&token))
                .await
                .unwrap_or_else(|_| Err(Error::new(ErrorKind::Store, "the checkpoint did not keep the place in time"))),
            // Nothing was read: what a former run left is still good.
            None => Ok(()),
        }
    }

    /// Saves what changes, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            self.changed.notified().await;
            match self.save().await {
                Ok(()) => sleep(SAVE_EVERY).await,
                Err(error) => {
                    tracing::warn!(%error, "the place in the stream cannot be kept");
                    self.changed.notify_one();
                    sleep(SAVE_AGAIN).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: &str) -> ResumeToken {
        let place = super::super::driver::Place { id: id.into(), fingerprint: String::new() };
        ResumeToken::new(place.id, place.fingerprint, None, std::time::SystemTime::UNIX_EPOCH)
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
    async fn what_is_no_token_is_an_error_and_not_a_new_beginning() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("place.json");
        for bytes in [&b""[..], b"{", b"\xff\xfe", b"{\"v\":99}"] {
            std::fs::write(&path, bytes).unwrap();
            let error = FileCheckpoint::new(&path).load().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Store, "{bytes:?}");
            assert!(error.to_string().contains("place.json"), "{error}");
        }
        let nowhere = FileCheckpoint::new(directory.path().join("no/such/place.json"));
        assert_eq!(nowhere.save(&token("a")).await.unwrap_err().kind(), ErrorKind::Store);
    }

    #[tokio::test]
    async fn memory_is_shared_by_its_clones() {
        let memory = MemoryCheckpoint::new();
        memory.clone().save(&token("a")).await.unwrap();
        assert_eq!(memory.load().await.unwrap(), Some(token("a")));
    }
}

//! Token stores, which outlive the process.

use std::any::Any;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::durable::{FileLock, Files, WholeFile};
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::secret::Secret;

/// A stored session: both tokens, their times, and their owner.
///
/// Times are wall-clock times, since a store outlives the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTokens {
    pub(crate) server: String,
    pub(crate) client_id: String,
    pub(crate) access_token: Secret,
    pub(crate) expires_at: SystemTime,
    pub(crate) refresh_token: Option<Secret>,
    pub(crate) refresh_expires_at: Option<SystemTime>,
    pub(crate) scope: String,
    pub(crate) owner_id: Option<String>,
}

/// Room for the JSON of any session.
const DOCUMENT: usize = 16 << 10;

/// The JSON form; seconds since 1970.
#[derive(Serialize, Deserialize)]
struct Document {
    server: String,
    client_id: String,
    #[serde(serialize_with = "exposed")]
    access_token: Secret,
    expires_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "exposed_if_any")]
    refresh_token: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_expires_at: Option<u64>,
    #[serde(default)]
    scope: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner_id: Option<String>,
}

/// The document itself is a [`Secret`].
fn exposed<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

fn exposed_if_any<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(Secret::expose).serialize(serializer)
}

impl StoredTokens {
    /// The session as one JSON object, for your own store. All of it is secret.
    ///
    /// # Errors
    /// [`Store`](ErrorKind::Store) if JSON cannot represent one of the texts.
    pub fn to_json(&self) -> Result<Secret> {
        let document = Document {
            server: self.server.clone(),
            client_id: self.client_id.clone(),
            access_token: self.access_token.clone(),
            expires_at: seconds(self.expires_at),
            refresh_token: self.refresh_token.clone(),
            refresh_expires_at: self.refresh_expires_at.map(seconds),
            scope: self.scope.clone(),
            owner_id: self.owner_id.clone(),
        };
        // In one piece: growing would leave copies of the tokens behind.
        let mut json = Zeroizing::new(Vec::with_capacity(DOCUMENT));
        let written = serde_json::to_writer(&mut *json, &document).ok();
        let text = written.and_then(|()| std::str::from_utf8(&json).ok());
        text.map(Secret::from).ok_or_else(|| Error::new(ErrorKind::Store, "the tokens cannot be written as JSON"))
    }

    /// Parses the output of [`to_json`](Self::to_json).
    ///
    /// # Errors
    /// [`Store`](ErrorKind::Store) if `json` has another form.
    pub fn from_json(json: &str) -> Result<Self> {
        // The parser's message quotes values, so it is dropped.
        let document: Document = serde_json::from_str(json).map_err(|_| {
            Error::new(ErrorKind::Store, "the stored tokens are not of the expected form")
                .with_disposition(Disposition::Fatal)
        })?;
        Ok(Self {
            server: document.server,
            client_id: document.client_id,
            access_token: document.access_token,
            expires_at: moment(document.expires_at),
            refresh_token: document.refresh_token,
            refresh_expires_at: document.refresh_expires_at.map(moment),
            scope: document.scope,
            owner_id: document.owner_id,
        })
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn moment(seconds: u64) -> SystemTime {
    // A time outside the clock's range counts as expired.
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Stores the session of one user and app.
///
/// Refresh tokens are single use: [`OAuth`](super::OAuth) saves each new session *before* it uses
/// it, so that a restart finds the valid one. Calls never overlap for one `OAuth`. Create errors
/// with [`Error::new`]`(`[`ErrorKind::Store`]`, …)`.
#[async_trait]
pub trait TokenStore: Send + Sync + fmt::Debug + 'static {
    /// The last saved session, if there is one.
    async fn load(&self) -> Result<Option<StoredTokens>>;
    /// Replaces the stored session with `tokens`; durable on return.
    async fn save(&self, tokens: &StoredTokens) -> Result<()>;
    /// Deletes the session, if there is one.
    async fn clear(&self) -> Result<()>;

    /// Locks the store against renewals by other processes until the returned value is dropped, so
    /// that two processes make one renewal. May wait. Default: no lock, which is right for a single
    /// process.
    ///
    /// Cancel safe: a dropped call holds nothing.
    async fn lock(&self) -> Result<Option<StoreLock>> {
        Ok(None)
    }
}

#[async_trait]
impl<T: TokenStore + ?Sized> TokenStore for Arc<T> {
    async fn load(&self) -> Result<Option<StoredTokens>> {
        (**self).load().await
    }

    async fn save(&self, tokens: &StoredTokens) -> Result<()> {
        (**self).save(tokens).await
    }

    async fn clear(&self) -> Result<()> {
        (**self).clear().await
    }

    async fn lock(&self) -> Result<Option<StoreLock>> {
        (**self).lock().await
    }
}

/// Holds the lock of a [`TokenStore`] until dropped.
pub struct StoreLock(#[allow(dead_code, reason = "held for its drop")] Box<dyn Any + Send + Sync>);

impl StoreLock {
    /// A lock that is released by dropping `guard`.
    #[must_use]
    pub fn new(guard: impl Any + Send + Sync) -> Self {
        Self(Box::new(guard))
    }
}

impl fmt::Debug for StoreLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreLock")
    }
}

/// Stores the session for the life of the process. The default.
#[derive(Debug, Default)]
pub struct MemoryTokenStore(Mutex<Option<StoredTokens>>);

impl MemoryTokenStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn replace(&self, tokens: Option<StoredTokens>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = tokens;
    }
}

#[async_trait]
impl TokenStore for MemoryTokenStore {
    async fn load(&self) -> Result<Option<StoredTokens>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn save(&self, tokens: &StoredTokens) -> Result<()> {
        self.replace(Some(tokens.clone()));
        Ok(())
    }

    async fn clear(&self) -> Result<()> {
        self.replace(None);
        Ok(())
    }
}

/// Stores the session in a file that only its owner may read (0600 on Unix).
///
/// A save writes a new file beside it, syncs it and renames it over the old one: after a crash the
/// file holds the old session or the new one, never half of either. While one process renews the
/// session, others with the same file wait for the result; the lock is a file beside it with the
/// suffix `.lock`.
///
/// A file that other users can read or write is refused before anything is read, and so is what is
/// no regular file: a symbolic link, a directory, a pipe. The error names it and the way out. The
/// directory's permissions are yours to set: whoever can write to it can replace the file.
#[derive(Clone, Debug)]
pub struct FileTokenStore {
    file: WholeFile,
}

impl FileTokenStore {
    /// Far larger than any session.
    const LIMIT: u64 = 1024 * 1024;

    /// Stores the session at `path`. Its directory must exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { file: WholeFile::new(path, "token file", Self::LIMIT) }
    }

    /// Replaces the file system access.
    #[must_use]
    pub fn with_files(self, files: impl Files) -> Self {
        Self { file: self.file.over(files) }
    }
}

#[async_trait]
impl TokenStore for FileTokenStore {
    async fn load(&self) -> Result<Option<StoredTokens>> {
        let Some(bytes) = self.file.read().await?.map(Zeroizing::new) else { return Ok(None) };
        let tokens = std::str::from_utf8(&bytes).ok().and_then(|text| StoredTokens::from_json(text).ok());
        tokens.map(Some).ok_or_else(|| self.file.error(ErrorKind::Store, CORRUPT).with_disposition(Disposition::Fatal))
    }

    async fn save(&self, tokens: &StoredTokens) -> Result<()> {
        self.file.replace(tokens.to_json()?.expose().as_bytes().to_vec()).await
    }

    async fn clear(&self) -> Result<()> {
        self.file.remove().await
    }

    async fn lock(&self) -> Result<Option<StoreLock>> {
        loop {
            match self.file.try_lock().await? {
                FileLock::Held(file) => return Ok(Some(StoreLock::new(file))),
                FileLock::Busy { .. } => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }
}

/// Follows the name of a file.
const CORRUPT: &str = "is corrupt; delete it, and log in again";
/// Interval between attempts to take a lock.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(n: u32) -> StoredTokens {
        StoredTokens {
            server: "https://h/".into(),
            client_id: "app".into(),
            access_token: Secret::new(format!("access-{n}")),
            expires_at: moment(1_700_000_000),
            refresh_token: Some(Secret::new(format!("refresh-{n}"))),
            refresh_expires_at: Some(moment(1_800_000_000)),
            scope: "ReadMessages".into(),
            owner_id: Some("7".into()),
        }
    }

    #[test]
    fn tokens_round_trip_through_json_and_are_never_shown() {
        let tokens = tokens(1);
        let json = tokens.to_json().unwrap();
        assert_eq!(StoredTokens::from_json(json.expose()).unwrap(), tokens);
        assert!(!format!("{tokens:?}").contains("access-1") && !format!("{tokens:?}").contains("refresh-1"));
        let error = StoredTokens::from_json(r#"{"access_token":7,"server":"s3cret"}"#).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(!format!("{error:?}").contains("s3cret"));
        let odd = json.expose().replace("1700000000", "18446744073709551615");
        assert_eq!(StoredTokens::from_json(&odd).unwrap().expires_at, SystemTime::UNIX_EPOCH);
    }

    #[tokio::test]
    async fn a_file_is_replaced_in_one_step_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens.json");
        let store = FileTokenStore::new(&path);
        assert_eq!(store.load().await.unwrap(), None);
        store.clear().await.unwrap();
        for n in 1..=2 {
            store.save(&tokens(n)).await.unwrap();
            assert_eq!(store.load().await.unwrap(), Some(tokens(n)));
        }
        let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["tokens.json"]);
        store.clear().await.unwrap();
        assert!(!path.exists());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn only_the_owner_may_read_the_file_even_if_anyone_could_before() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens.json");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        FileTokenStore::new(&path).save(&tokens(1)).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_corrupt_file_is_an_error_that_names_it_and_quotes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens.json");
        let store = FileTokenStore::new(&path);
        let half = tokens(1).to_json().unwrap();
        for broken in [&b""[..], b"\xff\xfe", b"{}", &half.expose().as_bytes()[..60]] {
            store.save(&tokens(1)).await.unwrap();
            std::fs::write(&path, broken).unwrap();
            let error = store.load().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Store);
            assert!(error.to_string().ends_with("tokens.json is corrupt; delete it, and log in again"), "{error}");
            assert!(!format!("{error:?}").contains("access-1"));
        }
    }

    #[tokio::test]
    async fn a_failed_save_is_an_error_and_leaves_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let missing = FileTokenStore::new(directory.path().join("no/such/tokens.json"));
        let error = missing.save(&tokens(1)).await.unwrap_err();
        // It may have been unmounted, so a save is tried again; a start is refused before anything is sent.
        assert_eq!((error.kind(), error.disposition()), (ErrorKind::Store, Disposition::Retry { after: None }));
        for (error, is_final) in [(error, false), (missing.load().await.unwrap_err(), true)] {
            let cure = "no/such does not exist; create it, or give another path";
            assert!(error.to_string().contains("tokens.json") && error.to_string().ends_with(cure), "{error}");
            assert_eq!((error.kind(), error.disposition() == Disposition::Fatal), (ErrorKind::Store, is_final));
        }
        // A directory in the way: the rename fails, and the temporary file is removed.
        let path = directory.path().join("tokens.json");
        std::fs::create_dir_all(path.join("child")).unwrap();
        assert!(FileTokenStore::new(&path).save(&tokens(1)).await.is_err());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(FileTokenStore::new("/").save(&tokens(1)).await.is_err());
    }
}

//! Places of many subscriptions in one embedded database.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use redb::{Database, ReadableDatabase, TableDefinition};

use super::checkpoint::Checkpoint;
use super::resume::ResumeToken;
use crate::error::{Error, ErrorKind, Result};

/// By the names of the subscriptions, their resume tokens as text.
const PLACES: TableDefinition<'_, &str, &str> = TableDefinition::new("ringcentral-events-places-v1");

/// Keeps the places of many subscriptions in one [redb](https://docs.rs/redb) database
/// file: for apps with more subscriptions than they want files, or that have such a
/// database anyway (feature `redb`).
///
/// A save is one transaction, synced to the disk before it counts as done. Only one
/// process can have the file open. Clones share it.
#[derive(Clone)]
pub struct RedbCheckpoints {
    database: Arc<Database>,
    path: Arc<Path>,
}

impl fmt::Debug for RedbCheckpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbCheckpoints").field("path", &self.path).finish_non_exhaustive()
    }
}

impl RedbCheckpoints {
    /// Opens the database at `path`, or makes one. Blocks while it does; its
    /// directory must exist.
    ///
    /// # Errors
    /// [`Store`](ErrorKind::Store) when it cannot be opened, is none, or is open in
    /// another process.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path: PathBuf = path.into();
        let failed = |error: redb::Error| {
            let message = format!("the database {} cannot be opened", path.display());
            Error::new(ErrorKind::Store, message).with_source(error)
        };
        // The file holds what a session is continued with: for its owner's eyes only.
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(|error| failed(redb::Error::Io(error)))?;
        let database = Database::builder().create_file(file).map_err(|error| failed(error.into()))?;
        let prepare = || -> Result<(), redb::Error> {
            let write = database.begin_write()?;
            write.open_table(PLACES)?;
            Ok(write.commit()?)
        };
        prepare().map_err(failed)?;
        Ok(Self { database: Arc::new(database), path: path.into() })
    }

    /// The place of the subscription that this app calls `name`.
    #[must_use]
    pub fn checkpoint(&self, name: impl Into<String>) -> RedbCheckpoint {
        RedbCheckpoint { all: self.clone(), name: name.into() }
    }
}

/// The place of one subscription, of [`RedbCheckpoints`].
#[derive(Clone, Debug)]
pub struct RedbCheckpoint {
    all: RedbCheckpoints,
    name: String,
}

impl RedbCheckpoint {
    /// Runs `work` where blocking is allowed. A dropped call does not stop it half way.
    async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Database, &str) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T> {
        let (database, name) = (self.all.database.clone(), self.name.clone());
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            let message = format!("the place {:?} in {} cannot be {what}", self.name, self.all.path.display());
            Error::new(ErrorKind::Store, message).with_source(error)
        };
        match tokio::task::spawn_blocking(move || work(&database, &name)).await {
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
            let message = format!("what {} holds as {:?} is no place", self.all.path.display(), self.name);
            Error::new(ErrorKind::Store, message).with_source(error)
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: &str) -> ResumeToken {
        ResumeToken::new(id.into(), String::new(), None, std::time::SystemTime::UNIX_EPOCH)
    }

    #[tokio::test]
    async fn each_subscription_has_its_own_place_and_all_survive_the_process() {
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
        assert_eq!(busy.kind(), ErrorKind::Store);
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
    async fn what_is_no_database_or_no_place_is_an_error_and_not_a_new_beginning() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("places.redb");
        std::fs::write(&path, "{}".repeat(4096)).unwrap();
        assert_eq!(RedbCheckpoints::open(&path).unwrap_err().kind(), ErrorKind::Store);
        std::fs::remove_file(&path).unwrap();
        let all = RedbCheckpoints::open(&path).unwrap();
        let write = all.database.begin_write().unwrap();
        write.open_table(PLACES).unwrap().insert("one", "{\"v\":99}").unwrap();
        write.commit().unwrap();
        let error = all.checkpoint("one").load().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.to_string().contains("places.redb"), "{error}");
        assert_eq!(RedbCheckpoints::open(directory.path()).unwrap_err().kind(), ErrorKind::Store);
    }
}

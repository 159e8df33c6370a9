//! Files that hold one small thing and are replaced whole.

use std::any::Any;
use std::ffi::OsString;
use std::fmt;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::random::{Random as _, SystemRandom};

/// The files under [`FileCheckpoint`](crate::FileCheckpoint) and
/// [`FileTokenStore`](crate::auth::FileTokenStore), as a trait: for another kind of
/// storage, or for a test that lets a disk fail. Default: the machine's own.
///
/// For one path the crate makes one call after the other, and runs each to its end.
/// An error of the kind [`InvalidInput`](io::ErrorKind::InvalidInput) is final; any other
/// may pass.
#[async_trait]
pub trait Files: fmt::Debug + Send + Sync + 'static {
    /// The content of a file; `None` where there is no file.
    ///
    /// # Errors
    /// When it cannot be read, or is longer than `limit` bytes: it is never cut.
    async fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>>;

    /// Replaces the content of a file atomically, or creates the file. After a crash
    /// during it the file has the former content or the new one; once it returns, it has
    /// the new one. Only the owner may read it.
    ///
    /// # Errors
    /// When that is not certain.
    async fn replace(&self, path: &Path, bytes: Vec<u8>) -> io::Result<()>;

    /// Removes a file. No file is success.
    ///
    /// # Errors
    /// When it may still be there.
    async fn remove(&self, path: &Path) -> io::Result<()>;

    /// Locks a file against every other process, and within this one, if it is free. It
    /// need not exist, and a [`replace`](Self::replace) does not end the lock.
    ///
    /// # Errors
    /// When it cannot be known whether it is free.
    async fn try_lock(&self, path: &Path) -> io::Result<FileLock>;
}

#[async_trait]
impl<T: Files + ?Sized> Files for Arc<T> {
    async fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        (**self).read(path, limit).await
    }

    async fn replace(&self, path: &Path, bytes: Vec<u8>) -> io::Result<()> {
        (**self).replace(path, bytes).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        (**self).remove(path).await
    }

    async fn try_lock(&self, path: &Path) -> io::Result<FileLock> {
        (**self).try_lock(path).await
    }
}

/// The result of [`Files::try_lock`].
#[derive(Debug)]
pub enum FileLock {
    /// Locked until this is dropped, or the process ends.
    Held(Box<dyn Any + Send + Sync>),
    /// Another holds it.
    Busy {
        /// The id of its process, where that is known.
        process: Option<u32>,
    },
}

/// The machine's files. What blocks runs where blocking is allowed.
#[derive(Clone, Copy, Debug)]
struct LocalFiles;

impl LocalFiles {
    async fn blocking<T: Send + 'static>(
        path: &Path,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || work(&path)).await.map_err(io::Error::other)?
    }
}

#[async_trait]
impl Files for LocalFiles {
    async fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        Self::blocking(path, move |path| read(path, limit)).await
    }

    async fn replace(&self, path: &Path, bytes: Vec<u8>) -> io::Result<()> {
        Self::blocking(path, move |path| replace(&mut Disk, path, &bytes)).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        Self::blocking(path, |path| match std::fs::remove_file(resolve(path)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .await
    }

    async fn try_lock(&self, path: &Path) -> io::Result<FileLock> {
        Self::blocking(path, try_lock).await
    }
}

/// One file, with one reader or writer of this process at a time.
///
/// A dropped call runs to its end, and the next one waits for that: an older save never
/// overtakes a newer one (found 5.3).
#[derive(Clone, Debug)]
pub(crate) struct WholeFile {
    files: Arc<dyn Files>,
    path: Arc<Path>,
    /// What the file is called in errors.
    what: &'static str,
    limit: u64,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl WholeFile {
    pub(crate) fn new(path: impl Into<PathBuf>, what: &'static str, limit: u64) -> Self {
        let path: PathBuf = path.into();
        Self { files: Arc::new(LocalFiles), path: path.into(), what, limit, turn: Arc::default() }
    }

    pub(crate) fn over(self, files: impl Files) -> Self {
        Self { files: Arc::new(files), ..self }
    }

    /// The file's bytes; `None` where there is no file.
    pub(crate) async fn read(&self) -> Result<Option<Vec<u8>>> {
        let (files, path, limit) = (self.files.clone(), self.path.clone(), self.limit);
        self.run("read", async move { files.read(&path, limit).await }).await
    }

    /// Replaces the file's content in one step.
    pub(crate) async fn replace(&self, bytes: Vec<u8>) -> Result<()> {
        let (files, path) = (self.files.clone(), self.path.clone());
        self.run("written", async move { files.replace(&path, bytes).await }).await
    }

    /// Removes the file. No file is success.
    pub(crate) async fn remove(&self) -> Result<()> {
        let (files, path) = (self.files.clone(), self.path.clone());
        self.run("removed", async move { files.remove(&path).await }).await
    }

    /// Locks the file for this process and within it, if it is free.
    pub(crate) async fn try_lock(&self) -> Result<FileLock> {
        let (files, path) = (self.files.clone(), self.path.clone());
        self.run("locked", async move { files.try_lock(&path).await }).await
    }

    /// An error that names the file.
    pub(crate) fn error(&self, kind: ErrorKind, problem: impl fmt::Display) -> Error {
        Error::new(kind, format!("the {} {} {problem}", self.what, self.path.display()))
    }

    async fn run<T: Send + 'static>(
        &self,
        verb: &'static str,
        work: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> Result<T> {
        let turn = self.turn.clone().lock_owned().await;
        let run = async move {
            let done = work.await;
            drop(turn);
            done
        };
        let failure = match tokio::spawn(run).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(failure)) => failure,
            Err(ended) => io::Error::other(ended),
        };
        if let Some(refused) = failure.get_ref().and_then(|inner| inner.downcast_ref::<Refused>()) {
            // Trying again cannot help, and the text names the way out.
            return Err(self.error(ErrorKind::Store, refused).with_disposition(Disposition::Fatal));
        }
        let error = self.error(ErrorKind::Store, format_args!("cannot be {verb}"));
        let is_final = failure.kind() == io::ErrorKind::InvalidInput;
        let error = if is_final { error.with_disposition(Disposition::Fatal) } else { error };
        Err(error.with_source(failure))
    }
}

/// Why a file is not used; worded to follow the file's name.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

fn refused(why: impl Into<String>) -> io::Error {
    io::Error::other(Refused(why.into()))
}

/// Whether an error is one of this module's own refusals, with the way out in its text.
#[cfg(feature = "redb")]
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Refused>())
}

/// Refuses what is not an ordinary file. To open a pipe would wait for its other end,
/// perhaps for ever (found 8).
pub(crate) fn check_regular(found: &Metadata) -> io::Result<()> {
    if found.is_file() {
        Ok(())
    } else {
        Err(refused("is not a regular file; give the path of a file, or of nothing yet"))
    }
}

/// Refuses a file that other users could read or change: it holds secrets, and where a
/// stream continues.
#[cfg(unix)]
pub(crate) fn check_private(found: &Metadata) -> io::Result<()> {
    let mode = std::os::unix::fs::MetadataExt::mode(found) & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(refused(format!(
        "can be read or written by other users (mode {mode:04o}); run `chmod 600` on it, or remove it"
    )))
}

#[cfg(not(unix))]
pub(crate) fn check_private(_found: &Metadata) -> io::Result<()> {
    Ok(())
}

/// The file that `path` leads to, so that a symbolic link stays one.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match std::fs::canonicalize(path) {
        Ok(real) => Ok(real),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path.to_owned()),
        Err(error) => Err(error),
    }
}

fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    match std::fs::metadata(path) {
        Ok(found) => check_regular(&found)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let opened = file.metadata()?;
    check_regular(&opened)?;
    check_private(&opened)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(refused(format!("is larger than {limit} bytes: it is another program's; give another path")));
    }
    Ok(Some(bytes))
}

/// The steps of a replacement, so that a test can lose power between any two of them.
trait Steps {
    /// Makes a file, readable by the owner only.
    fn write_new(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    fn sync_file(&mut self, path: &Path) -> io::Result<()>;
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    fn sync_directory(&mut self, directory: &Path) -> io::Result<()>;
    fn remove(&mut self, path: &Path) -> io::Result<()>;
}

/// The machine's disk.
struct Disk;

impl Steps for Disk {
    fn write_new(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        private(OpenOptions::new().write(true).create_new(true)).open(path)?.write_all(bytes)
    }

    fn sync_file(&mut self, path: &Path) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_directory(&mut self, directory: &Path) -> io::Result<()> {
        // Directories cannot be opened as files elsewhere.
        if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}

/// Puts `bytes` at `path` in one step, readable by the owner only: after a crash
/// there is the former content or the new one, never half of either.
fn replace(disk: &mut impl Steps, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = resolve(path)?;
    if let Ok(found) = std::fs::symlink_metadata(&path)
        && !found.is_symlink()
    {
        check_regular(&found)?;
    }
    let (directory, name) = place(&path)?;
    // A name that no other process has taken: nothing else depends on it.
    let mut random = [0_u8; 9];
    SystemRandom.fill(&mut random)?;
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}.tmp", URL_SAFE_NO_PAD.encode(random)));
    let beside = directory.join(beside);
    let outcome = disk
        .write_new(&beside, bytes)
        .and_then(|()| disk.sync_file(&beside))
        .and_then(|()| disk.rename(&beside, &path));
    if outcome.is_err() {
        // The first failure is the one to report; this only tidies up after it.
        let _tidied = disk.remove(&beside);
    }
    outcome.and_then(|()| disk.sync_directory(directory))
}

fn place(path: &Path) -> io::Result<(&Path, &std::ffi::OsStr)> {
    let name = path.file_name().ok_or_else(|| refused("names no file; give the path of a file"))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((directory, name))
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// A process id and a line break take no more.
const HOLDER_LIMIT: u64 = 16;

/// A file that is locked until this is dropped.
struct Locked(std::fs::File);

impl Drop for Locked {
    /// Closing the file is not enough: a child process that is being started shares it until
    /// it runs its program, and the lock with it.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "a lock could not be released");
        }
    }
}

/// Locks a file beside `path`, with `.lock` at its name's end: `path` itself is
/// replaced by each save, and a lock would go with it.
fn try_lock(path: &Path) -> io::Result<FileLock> {
    let path = resolve(path)?;
    let (directory, name) = place(&path)?;
    let mut beside = name.to_owned();
    beside.push(".lock");
    let mut file = open_lock(&directory.join(&beside))?;
    match file.try_lock() {
        Ok(()) => {
            // Only for the error that another gets: the lock holds without it.
            let _named = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            Ok(FileLock::Held(Box::new(Locked(file))))
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let read = file.take(HOLDER_LIMIT).read_to_string(&mut holder);
            Ok(FileLock::Busy { process: read.ok().and_then(|_| holder.trim().parse().ok()) })
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Opens a lock file, or makes it. A symbolic link is not followed: its target would
/// be made, with the rights of this process, by whoever can write to the directory.
fn open_lock(path: &Path) -> io::Result<File> {
    let not_ours = || {
        let name = path.file_name().unwrap_or_default().display();
        refused(format!("cannot be locked: {name} beside it is not a regular file; remove that"))
    };
    // A file that is removed or exchanged between two steps is looked at again.
    for _ in 0..8 {
        let made = private(OpenOptions::new().read(true).write(true).create_new(true)).open(path);
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            outcome => return outcome,
        }
        let found = match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found?,
        };
        if !found.is_file() {
            return Err(not_ours());
        }
        match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => {
                let opened = opened?;
                if is_same(&found, &opened.metadata()?) {
                    return Ok(opened);
                }
            }
        }
    }
    Err(not_ours())
}

#[cfg(unix)]
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn is_same(_one: &Metadata, other: &Metadata) -> bool {
    other.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: impl Into<PathBuf>) -> WholeFile {
        WholeFile::new(path, "test file", 64)
    }

    async fn content(file: &WholeFile) -> Option<Vec<u8>> {
        file.read().await.unwrap()
    }

    #[tokio::test]
    async fn a_file_is_missing_written_replaced_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(directory.path().join("it"));
        assert_eq!(content(&file).await, None);
        for text in ["one", "two", ""] {
            file.replace(text.into()).await.unwrap();
            assert_eq!(content(&file).await, Some(text.into()));
        }
        let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["it"], "nothing is left beside it");
        file.remove().await.unwrap();
        file.remove().await.unwrap();
        assert_eq!(content(&file).await, None);
    }

    #[tokio::test]
    async fn a_file_that_is_too_large_is_refused_by_name_and_not_cut() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(directory.path().join("it"));
        std::fs::write(directory.path().join("it"), "x".repeat(65)).unwrap();
        #[cfg(unix)]
        private_now(&directory.path().join("it"));
        let error = file.read().await.unwrap_err();
        assert!(error.to_string().contains("it is larger than 64 bytes"), "{error}");
        assert_eq!(error.disposition(), Disposition::Fatal);
    }

    #[cfg(unix)]
    fn private_now(path: &Path) {
        set_mode(path, 0o600);
    }

    #[cfg(unix)]
    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }

    #[cfg(unix)]
    fn fifo(path: &Path) {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_file_that_is_not_regular_is_refused_without_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let (pipe, folder) = (directory.path().join("pipe"), directory.path().join("folder"));
        fifo(&pipe);
        std::fs::create_dir(&folder).unwrap();
        for path in [&pipe, &folder] {
            for error in [file(path).read().await.unwrap_err(), file(path).replace(vec![1]).await.unwrap_err()] {
                assert!(error.to_string().contains("is not a regular file"), "{error}");
                assert_eq!((error.kind(), error.disposition()), (ErrorKind::Store, Disposition::Fatal));
            }
        }
        let nameless = file("/").replace(vec![1]).await.unwrap_err();
        assert_eq!(nameless.disposition(), Disposition::Fatal, "{nameless}");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_file_that_others_may_read_or_write_is_refused_with_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it");
        std::fs::write(&path, "secret").unwrap();
        for mode in [0o666, 0o644, 0o640, 0o620, 0o602, 0o604, 0o601] {
            set_mode(&path, mode);
            let error = file(&path).read().await.unwrap_err().to_string();
            assert!(error.contains(&format!("(mode {mode:04o})")) && error.contains("chmod 600"), "{error}");
        }
        for mode in [0o600, 0o400, 0o700] {
            set_mode(&path, mode);
            assert_eq!(content(&file(&path)).await, Some("secret".into()));
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_symbolic_link_stays_one_and_its_target_is_read_and_written() {
        let directory = tempfile::tempdir().unwrap();
        let (link, target) = (directory.path().join("link"), directory.path().join("target"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(content(&file(&link)).await, None, "a link to nothing is no file");
        std::fs::write(&target, "old").unwrap();
        private_now(&target);
        assert_eq!(content(&file(&link)).await, Some("old".into()));
        file(&link).replace("new".into()).await.unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        // Both names are one file, and so is their lock.
        let _held = file(&link).try_lock().await.unwrap();
        assert!(matches!(file(&target).try_lock().await.unwrap(), FileLock::Busy { .. }));
    }

    #[tokio::test]
    async fn a_lock_excludes_others_until_it_is_dropped_and_names_its_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it");
        let FileLock::Held(held) = file(&path).try_lock().await.unwrap() else { panic!("it is free") };
        let FileLock::Busy { process } = file(&path).try_lock().await.unwrap() else { panic!("it is held") };
        #[cfg(unix)]
        assert_eq!(process, Some(std::process::id()));
        let _ = process;
        // The lock outlives a save, which replaces the file.
        file(&path).replace(vec![1]).await.unwrap();
        assert!(matches!(file(&path).try_lock().await.unwrap(), FileLock::Busy { .. }));
        drop(held);
        assert!(matches!(file(&path).try_lock().await.unwrap(), FileLock::Held(_)));
    }

    #[test]
    fn a_lock_is_released_though_a_child_process_still_shares_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it");
        let held = super::try_lock(&path).unwrap();
        let FileLock::Held(lock) = held else { panic!("it is free") };
        let shared = lock.downcast_ref::<Locked>().unwrap().0.try_clone().unwrap();
        drop(lock);
        assert!(matches!(super::try_lock(&path).unwrap(), FileLock::Held(_)));
        drop(shared);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_lock_follows_no_symbolic_link_and_opens_no_pipe() {
        let directory = tempfile::tempdir().unwrap();
        let (path, lock, target) =
            (directory.path().join("it"), directory.path().join("it.lock"), directory.path().join("target"));
        std::os::unix::fs::symlink(&target, &lock).unwrap();
        let error = file(&path).try_lock().await.unwrap_err();
        assert!(error.to_string().contains("it.lock beside it is not a regular file"), "{error}");
        assert!(!target.exists(), "its target is not made");
        std::fs::write(&target, "precious").unwrap();
        file(&path).try_lock().await.unwrap_err();
        assert_eq!(std::fs::read(&target).unwrap(), b"precious");
        std::fs::remove_file(&lock).unwrap();
        fifo(&lock);
        file(&path).try_lock().await.unwrap_err();
    }

    #[tokio::test]
    async fn a_dropped_save_never_overtakes_a_later_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(directory.path().join("it"));
        let (go, wait) = std::sync::mpsc::channel();
        let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let flag = ended.clone();
        let path = file.path.clone();
        let slow = async move {
            let work = move |path: &Path| {
                let _released = wait.recv();
                let done = replace(&mut Disk, path, b"older");
                flag.store(true, std::sync::atomic::Ordering::SeqCst);
                done
            };
            LocalFiles::blocking(&path, work).await
        };
        let mut older = Box::pin(file.run("written", slow));
        assert!(futures_util::poll!(&mut older).is_pending());
        drop(older);
        let mut newer = Box::pin(file.replace("newer".into()));
        assert!(futures_util::poll!(&mut newer).is_pending());
        go.send(()).unwrap();
        newer.await.unwrap();
        assert!(ended.load(std::sync::atomic::Ordering::SeqCst), "the older one came first");
        assert_eq!(content(&file).await, Some("newer".into()));
    }

    /// A disk whose power can fail: what was not synced may be lost, or half of it.
    struct Failing {
        /// How many steps are done before the power fails.
        steps: usize,
        /// The new file: how much of it is certain to survive.
        new: Option<(Vec<u8>, usize)>,
        renamed: bool,
        directory_synced: bool,
    }

    impl Failing {
        fn step(&mut self) -> io::Result<()> {
            self.steps = self.steps.checked_sub(1).ok_or_else(|| io::Error::other("the power failed"))?;
            Ok(())
        }

        /// What may be at the path afterwards.
        fn left(&self) -> Vec<Vec<u8>> {
            let mut all = Vec::new();
            if !self.directory_synced {
                all.push(b"old".to_vec());
            }
            if let (true, Some((bytes, synced))) = (self.renamed, &self.new) {
                all.extend((*synced..=bytes.len()).map(|length| bytes[..length].to_vec()));
            }
            all
        }
    }

    impl Steps for Failing {
        fn write_new(&mut self, _path: &Path, bytes: &[u8]) -> io::Result<()> {
            self.step()?;
            self.new = Some((bytes.to_vec(), 0));
            Ok(())
        }

        fn sync_file(&mut self, _path: &Path) -> io::Result<()> {
            self.step()?;
            let (bytes, synced) = self.new.as_mut().unwrap();
            *synced = bytes.len();
            Ok(())
        }

        fn rename(&mut self, _from: &Path, _to: &Path) -> io::Result<()> {
            self.step()?;
            assert!(self.new.is_some());
            self.renamed = true;
            Ok(())
        }

        fn sync_directory(&mut self, _directory: &Path) -> io::Result<()> {
            self.step()?;
            self.directory_synced = self.renamed;
            Ok(())
        }

        fn remove(&mut self, _path: &Path) -> io::Result<()> {
            self.step()
        }
    }

    #[test]
    fn whenever_the_power_fails_the_old_or_the_new_is_there_and_after_a_success_the_new() {
        let mut successes = 0;
        for steps in 0..8 {
            let mut disk = Failing { steps, new: None, renamed: false, directory_synced: false };
            let outcome = replace(&mut disk, Path::new("/nowhere/it"), b"new");
            let left = disk.left();
            assert!(left.iter().all(|it| it == b"old" || it == b"new"), "{steps}: {left:?}");
            if outcome.is_ok() {
                successes += 1;
                assert_eq!(left, [b"new".to_vec()], "{steps}");
            }
        }
        assert_eq!(successes, 4, "four steps, and then it is done");
    }

    /// Files in memory.
    #[derive(Debug, Default)]
    struct Memory(std::sync::Mutex<std::collections::BTreeMap<PathBuf, Vec<u8>>>);

    #[async_trait]
    impl Files for Memory {
        async fn read(&self, path: &Path, _limit: u64) -> io::Result<Option<Vec<u8>>> {
            Ok(self.0.lock().unwrap().get(path).cloned())
        }

        async fn replace(&self, path: &Path, bytes: Vec<u8>) -> io::Result<()> {
            // Slow, so that a later call could overtake it.
            tokio::task::yield_now().await;
            self.0.lock().unwrap().insert(path.to_owned(), bytes);
            Ok(())
        }

        async fn remove(&self, path: &Path) -> io::Result<()> {
            self.0.lock().unwrap().remove(path);
            Ok(())
        }

        async fn try_lock(&self, _path: &Path) -> io::Result<FileLock> {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }

    #[tokio::test]
    async fn other_files_can_stand_in_and_a_dropped_save_runs_to_its_end() {
        let memory = Arc::new(Memory::default());
        let file = file("/nowhere/it").over(memory.clone());
        assert_eq!(content(&file).await, None);
        let mut dropped = Box::pin(file.replace(b"older".to_vec()));
        assert!(futures_util::poll!(&mut dropped).is_pending());
        drop(dropped);
        file.replace(b"newer".to_vec()).await.unwrap();
        assert_eq!(content(&file).await, Some(b"newer".to_vec()));
        assert_eq!(file.try_lock().await.unwrap_err().disposition(), Disposition::Fatal);
        file.remove().await.unwrap();
        assert_eq!(content(&file).await, None);
    }
}

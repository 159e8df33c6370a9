//! Files that hold one small thing and are replaced whole.

use std::ffi::OsString;
use std::fmt;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::random::{Random as _, SystemRandom};

/// One file, with one reader or writer of this process at a time.
///
/// Calls run where blocking is allowed. A dropped call runs to its end, and the next
/// one waits for that: an older save never overtakes a newer one (found 5.3).
#[derive(Clone, Debug)]
pub(crate) struct WholeFile {
    path: Arc<Path>,
    /// What the file is called in errors.
    what: &'static str,
    limit: u64,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl WholeFile {
    pub(crate) fn new(path: impl Into<PathBuf>, what: &'static str, limit: u64) -> Self {
        let path: PathBuf = path.into();
        Self { path: path.into(), what, limit, turn: Arc::default() }
    }

    /// The file's bytes; `None` where there is no file.
    pub(crate) async fn read(&self) -> Result<Option<Vec<u8>>> {
        let limit = self.limit;
        self.blocking("read", move |path| read(path, limit)).await
    }

    /// Replaces the file's content in one step.
    pub(crate) async fn replace(&self, bytes: Vec<u8>) -> Result<()> {
        self.blocking("written", move |path| replace(path, &bytes)).await
    }

    /// Removes the file. No file is success.
    pub(crate) async fn remove(&self) -> Result<()> {
        self.blocking("removed", |path| match std::fs::remove_file(resolve(path)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .await
    }

    /// Locks the file for this process and within it, if it is free.
    pub(crate) async fn try_lock(&self) -> Result<Lock> {
        self.blocking("locked", try_lock).await
    }

    /// An error that names the file.
    pub(crate) fn error(&self, kind: ErrorKind, problem: impl fmt::Display) -> Error {
        Error::new(kind, format!("the {} {} {problem}", self.what, self.path.display()))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        verb: &'static str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = self.turn.clone().lock_owned().await;
        let path = self.path.clone();
        let run = move || {
            let done = work(&path);
            drop(turn);
            done
        };
        let failure = match tokio::task::spawn_blocking(run).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(failure)) => failure,
            Err(ended) => io::Error::other(ended),
        };
        Err(match failure.get_ref().and_then(|inner| inner.downcast_ref::<Refused>()) {
            // Trying again cannot help, and the text names the way out.
            Some(refused) => self.error(ErrorKind::Store, refused).with_disposition(Disposition::Fatal),
            None => self.error(ErrorKind::Store, format_args!("cannot be {verb}")).with_source(failure),
        })
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

/// Puts `bytes` at `path` in one step, readable by the owner only: after a crash
/// there is the former content or the new one, never half of either.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
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
    let outcome = write_new(&beside, bytes).and_then(|()| std::fs::rename(&beside, &path));
    if outcome.is_err() {
        // The first failure is the one to report; this only tidies up after it.
        let _tidied = std::fs::remove_file(&beside);
    }
    outcome.and_then(|()| sync_directory(directory))
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

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = private(OpenOptions::new().write(true).create_new(true)).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a rename durable.
#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_directory: &Path) -> io::Result<()> {
    // Directories cannot be opened as files elsewhere.
    Ok(())
}

/// What came of a try to lock.
#[derive(Debug)]
pub(crate) enum Lock {
    /// Locked until the file is dropped, or the process ends.
    Held(File),
    /// Another holds it; its process, where it says so.
    Busy { process: Option<u32> },
}

/// A process id and a line break take no more.
const HOLDER_LIMIT: u64 = 16;

/// Locks a file beside `path`, with `.lock` at its name's end: `path` itself is
/// replaced by each save, and a lock would go with it.
fn try_lock(path: &Path) -> io::Result<Lock> {
    let path = resolve(path)?;
    let (directory, name) = place(&path)?;
    let mut beside = name.to_owned();
    beside.push(".lock");
    let mut file = open_lock(&directory.join(&beside))?;
    match file.try_lock() {
        Ok(()) => {
            // Only for the error that another gets: the lock holds without it.
            let _named = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            Ok(Lock::Held(file))
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let read = file.take(HOLDER_LIMIT).read_to_string(&mut holder);
            Ok(Lock::Busy { process: read.ok().and_then(|_| holder.trim().parse().ok()) })
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
    async fn what_is_not_a_regular_file_is_refused_and_not_waited_for() {
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
        assert!(matches!(file(&target).try_lock().await.unwrap(), Lock::Busy { .. }));
    }

    #[tokio::test]
    async fn a_lock_excludes_others_until_it_is_dropped_and_names_its_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it");
        let Lock::Held(held) = file(&path).try_lock().await.unwrap() else { panic!("it is free") };
        let Lock::Busy { process } = file(&path).try_lock().await.unwrap() else { panic!("it is held") };
        #[cfg(unix)]
        assert_eq!(process, Some(std::process::id()));
        let _ = process;
        // The lock outlives a save, which replaces the file.
        file(&path).replace(vec![1]).await.unwrap();
        assert!(matches!(file(&path).try_lock().await.unwrap(), Lock::Busy { .. }));
        drop(held);
        assert!(matches!(file(&path).try_lock().await.unwrap(), Lock::Held(_)));
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
        let mut older = Box::pin(file.blocking("written", move |path| {
            let _released = wait.recv();
            let done = replace(path, b"older");
            flag.store(true, std::sync::atomic::Ordering::SeqCst);
            done
        }));
        assert!(futures_util::poll!(&mut older).is_pending());
        drop(older);
        let mut newer = Box::pin(file.replace("newer".into()));
        assert!(futures_util::poll!(&mut newer).is_pending());
        go.send(()).unwrap();
        newer.await.unwrap();
        assert!(ended.load(std::sync::atomic::Ordering::SeqCst), "the older one came first");
        assert_eq!(content(&file).await, Some("newer".into()));
    }
}

//! Files that hold one small thing and are replaced whole.

use std::any::Any;
use std::ffi::OsString;
use std::fmt;
use std::fs::{File, FileType, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

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
        let bytes = Zeroizing::new(bytes);
        let replace = move |path: &Path| {
            check_path(path)?;
            check_directory(path, true)?;
            replace(&mut Disk, path, &bytes)
        };
        Self::blocking(path, replace).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        Self::blocking(path, remove).await
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
            // The text names the way out. Trying again helps only where the cause may pass.
            let error = self.error(ErrorKind::Store, refused);
            return Err(if refused.passes { error } else { error.with_disposition(Disposition::Fatal) });
        }
        let error = self.error(ErrorKind::Store, format_args!("cannot be {verb}"));
        let is_final = failure.kind() == io::ErrorKind::InvalidInput;
        let error = if is_final { error.with_disposition(Disposition::Fatal) } else { error };
        Err(error.with_source(failure))
    }
}

/// Why a file is not used; worded to follow the file's name.
#[derive(Debug)]
struct Refused {
    why: String,
    passes: bool,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Refused {}

fn refused(why: impl Into<String>) -> io::Error {
    io::Error::other(Refused { why: why.into(), passes: false })
}

/// Whether an error is one of this module's own refusals, with the way out in its text.
#[cfg(feature = "redb")]
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Refused>())
}

/// Refuses what is not an ordinary file, by the name of what it is: the target of a symbolic
/// link is chosen by whoever made the link, and reading a pipe would wait for its other end,
/// perhaps for ever (found 8).
pub(crate) fn check_regular(found: &Metadata) -> io::Result<()> {
    let kind = found.file_type();
    let what = match kind {
        _ if kind.is_file() => return Ok(()),
        _ if kind.is_symlink() => "is a symbolic link; give the path of the file itself",
        _ if kind.is_dir() => "is a directory; give the path of a file in it",
        _ => special(kind),
    };
    Err(refused(what))
}

#[cfg(unix)]
fn special(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;
    match kind {
        _ if kind.is_fifo() => "is a pipe (FIFO); give the path of a regular file",
        _ if kind.is_socket() => "is a socket; give the path of a regular file",
        _ => "is a device; give the path of a regular file",
    }
}

#[cfg(not(unix))]
fn special(_kind: FileType) -> &'static str {
    "is not a regular file; give the path of one"
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

/// Refuses a path whose directory does not exist. `passes`: the directory may have been there before, as that of a
/// volume, and come back.
pub(crate) fn check_directory(path: &Path, passes: bool) -> io::Result<()> {
    let (directory, _) = place(path)?;
    let what = match std::fs::metadata(directory) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => "is a file; give another path",
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            "does not exist; create it, or give another path"
        }
        Err(error) => return Err(error),
    };
    let why = format!("cannot be used: its directory {} {what}", directory.display());
    Err(io::Error::other(Refused { why, passes }))
}

/// The file at `path`, checked; `None` if it does not exist.
pub(crate) fn check_path(path: &Path) -> io::Result<Option<Metadata>> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => check_regular(&found).map(|()| Some(found)),
        // A component of the path may be a file: `check_directory` names it.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Another program may put a link or a pipe in place of a file after it was checked: the first is not followed, and
/// the second is opened without waiting.
#[cfg(unix)]
pub(crate) fn strict(options: &mut OpenOptions) -> &mut OpenOptions {
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NOFOLLOW | libc::O_NONBLOCK)
}

#[cfg(not(unix))]
pub(crate) fn strict(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    if check_path(path)?.is_none() {
        // Nothing could be saved there either, which shows here before anything is sent.
        check_directory(path, false)?;
        return Ok(None);
    }
    let file = match strict(OpenOptions::new().read(true)).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let opened = file.metadata()?;
    check_regular(&opened)?;
    check_private(&opened)?;
    // In one piece: growing would leave copies of the secrets behind.
    let most = limit.saturating_add(1);
    let mut bytes = Vec::with_capacity(usize::try_from(opened.len().min(limit)).unwrap_or_default() + 1);
    file.take(most).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(refused(format!("is larger than {limit} bytes: it is another program's; give another path")));
    }
    Ok(Some(bytes))
}

fn remove(path: &Path) -> io::Result<()> {
    if check_path(path)?.is_none() {
        return Ok(());
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
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
    let (directory, name) = place(path)?;
    // A name that no other process has taken: nothing else depends on it.
    let mut random = [0_u8; 9];
    SystemRandom.fill(&mut random)?;
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}.tmp", URL_SAFE_NO_PAD.encode(random)));
    let beside = directory.join(beside);
    let outcome =
        disk.write_new(&beside, bytes).and_then(|()| disk.sync_file(&beside)).and_then(|()| disk.rename(&beside, path));
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
    check_path(path)?;
    check_directory(path, true)?;
    let (directory, name) = place(path)?;
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
        match strict(OpenOptions::new().read(true).write(true)).open(path) {
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
mod tests;

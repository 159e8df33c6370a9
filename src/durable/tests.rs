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
async fn what_is_not_a_regular_file_is_refused_by_name_without_waiting_and_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name| directory.path().join(name);
    fifo(&at("pipe"));
    std::fs::create_dir(at("folder")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    std::fs::write(at("target"), "precious").unwrap();
    private_now(&at("target"));
    std::os::unix::fs::symlink(at("target"), at("link")).unwrap();
    std::os::unix::fs::symlink(at("nothing"), at("dangling")).unwrap();
    std::os::unix::fs::symlink(at("pipe"), at("to pipe")).unwrap();
    for (name, what) in [
        ("pipe", "is a pipe (FIFO)"),
        ("folder", "is a directory"),
        ("socket", "is a socket"),
        ("link", "is a symbolic link; give the path of the file itself"),
        ("dangling", "is a symbolic link"),
        ("to pipe", "is a symbolic link"),
    ] {
        let (file, before) = (file(at(name)), std::fs::symlink_metadata(at(name)).unwrap());
        let errors = [
            file.read().await.unwrap_err(),
            file.replace(vec![1]).await.unwrap_err(),
            file.remove().await.unwrap_err(),
            file.try_lock().await.unwrap_err(),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(text.starts_with("the test file ") && text.contains(&format!("{name} {what}")), "{error}");
            assert_eq!((error.kind(), error.disposition()), (ErrorKind::Store, Disposition::Fatal));
        }
        assert!(is_same(&before, &std::fs::symlink_metadata(at(name)).unwrap()), "{name} is another file");
    }
    assert_eq!(std::fs::read(at("target")).unwrap(), b"precious");
    assert!(!at("nothing").exists(), "the target of a link is not made");
    let device = file("/dev/null").read().await.unwrap_err();
    assert!(device.to_string().contains("is a device"), "{device}");
    let nameless = file("/").replace(vec![1]).await.unwrap_err();
    assert_eq!(nameless.disposition(), Disposition::Fatal, "{nameless}");
}

/// The check of a path comes before the opening; another program may act in between.
#[cfg(unix)]
#[test]
fn a_pipe_or_link_that_replaces_a_checked_file_is_not_waited_for_and_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (pipe, link) = (directory.path().join("pipe"), directory.path().join("link"));
    fifo(&pipe);
    std::fs::write(directory.path().join("target"), "precious").unwrap();
    std::os::unix::fs::symlink(directory.path().join("target"), &link).unwrap();
    let opened = strict(OpenOptions::new().read(true)).open(&pipe).unwrap();
    assert!(check_regular(&opened.metadata().unwrap()).is_err());
    let refused = strict(OpenOptions::new().read(true)).open(&link).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ELOOP));
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
async fn a_directory_may_be_reached_by_a_symbolic_link() {
    let directory = tempfile::tempdir().unwrap();
    let (link, target) = (directory.path().join("link"), directory.path().join("target"));
    std::fs::create_dir(&target).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    file(link.join("it")).replace("new".into()).await.unwrap();
    assert_eq!(content(&file(target.join("it"))).await, Some("new".into()));
    // Both names are one file, and so is their lock.
    let _held = file(link.join("it")).try_lock().await.unwrap();
    assert!(matches!(file(target.join("it")).try_lock().await.unwrap(), FileLock::Busy { .. }));
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

//! Files that hold one small thing and are replaced whole.

use std::io::{self, Read as _, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The text of a file, or of its first `limit` bytes; `None` where there is none.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Option<String>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map(Some).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Puts `bytes` at `path` in one step, readable by the owner only: after a crash
/// there is the former content or the new one, never half of either.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut random = [0_u8; 9];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}.tmp", URL_SAFE_NO_PAD.encode(random)));
    let beside = directory.join(beside);
    let outcome = write_new(&beside, bytes).and_then(|()| std::fs::rename(&beside, path));
    if outcome.is_err() {
        // The first failure is the one to report; this only tidies up after it.
        let _tidied = std::fs::remove_file(&beside);
    }
    outcome.and_then(|()| sync_directory(directory))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a rename durable.
#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    std::fs::File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_directory: &Path) -> io::Result<()> {
    // Directories cannot be opened as files elsewhere.
    Ok(())
}

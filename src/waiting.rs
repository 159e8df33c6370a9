//! What a call waits for, reported to whoever waits for the call.
//!
//! The waits lie deep in a call: for the rate group, for a pause between two logins. The
//! task that makes the call puts up a [`Board`]; what waits within it posts that there,
//! and takes it down when it waits no more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::error::{Error, ErrorKind};
use crate::words::words;

/// Why the next try is put off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitCause {
    /// The user and app have sent what their rate group allows, or are in the penalty of
    /// a 429.
    RateLimit,
    /// The service named the time (`Retry-After`).
    RetryAfter,
    /// The tries before failed: the pauses between them grow.
    BackOff,
}

words!("cause of a wait", WaitCause {
    RateLimit = "rate_limit",
    RetryAfter = "retry_after",
    BackOff = "back_off",
});

impl WaitCause {
    /// Why one waits after `error`.
    pub(crate) fn after(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::RateLimited => Self::RateLimit,
            _ if error.retry_after().is_some() => Self::RetryAfter,
            _ => Self::BackOff,
        }
    }
}

/// Shorter waits are not reported.
pub(crate) const REPORTED_WAIT: Duration = Duration::from_secs(2);

tokio::task_local! {
    static BOARD: Board;
}

/// A wait, and until when at the latest.
pub(crate) type Waiting = (Instant, WaitCause);

/// Where waits are posted.
#[derive(Clone, Debug)]
pub(crate) struct Board(Arc<Shared>);

/// Readers are woken in the order in which they wait, so that a simulated run can be
/// repeated: the receivers of a `tokio::sync::watch` are woken in a random order.
#[derive(Debug)]
struct Shared {
    posts: Mutex<Posts>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Posts {
    /// Counts the changes; a post has the number of its change.
    changes: u64,
    posted: Vec<(u64, Waiting)>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Posts> {
        // Every change is whole before anything can panic.
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change; its number.
    fn change(&self, change: impl FnOnce(&mut Posts)) -> u64 {
        let mut posts = self.lock();
        posts.changes += 1;
        let number = posts.changes;
        change(&mut posts);
        drop(posts);
        self.changed.notify_waiters();
        number
    }
}

impl Board {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared { posts: Mutex::default(), changed: Notify::new() }))
    }

    /// Runs `call` with this board up.
    pub(crate) fn during<F: Future>(&self, call: F) -> impl Future<Output = F::Output> + use<F> {
        BOARD.scope(self.clone(), call)
    }

    pub(crate) fn reader(&self) -> BoardReader {
        BoardReader { board: self.0.clone(), seen: self.0.lock().changes }
    }

    fn post(&self, waiting: Waiting) -> Posted {
        let id = self.0.change(|posts| posts.posted.push((posts.changes, waiting)));
        Posted { board: self.clone(), id }
    }
}

/// Reads a [`Board`].
#[derive(Clone, Debug)]
pub(crate) struct BoardReader {
    board: Arc<Shared>,
    /// The change that was seen last.
    seen: u64,
}

impl BoardReader {
    /// The wait that ends last.
    pub(crate) fn current(&self) -> Option<Waiting> {
        self.board.lock().posted.iter().map(|(_, waiting)| *waiting).max_by_key(|(until, _)| *until)
    }

    /// Returns when something was posted or taken down. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        loop {
            let changed = self.board.changed.notified();
            let changes = self.board.lock().changes;
            if changes != self.seen {
                self.seen = changes;
                return;
            }
            changed.await;
        }
    }
}

struct Posted {
    board: Board,
    id: u64,
}

impl Drop for Posted {
    fn drop(&mut self) {
        self.board.0.change(|posts| posts.posted.retain(|(id, _)| *id != self.id));
    }
}

/// Posts that `what` waits until `until`, while it does. Without a board it is not posted. A long wait is logged as a
/// warning: a start that waits has no status yet.
pub(crate) async fn during<F: Future>(until: Instant, cause: WaitCause, what: F) -> F::Output {
    posted(until, cause, None, what).await
}

async fn posted<F: Future>(until: Instant, cause: WaitCause, error: Option<&Error>, what: F) -> F::Output {
    let wait = until.saturating_duration_since(Instant::now());
    if wait > REPORTED_WAIT {
        let (seconds, cause, error) = (wait.as_secs_f32().ceil(), cause.as_str(), error.map(tracing::field::debug));
        tracing::warn!(seconds, cause, error, "waiting before the next attempt");
    }
    let _posted = BOARD.try_with(|board| board.post((until, cause))).ok();
    what.await
}

/// Waits before the call that failed with `error` is repeated.
pub(crate) async fn pause(wait: Duration, error: &Error) {
    let until = Instant::now() + wait;
    posted(until, WaitCause::after(error), Some(error), sleep_until(until)).await;
}

/// Posts the entries of another board, while `what` runs.
pub(crate) async fn forward<F: Future>(mut from: BoardReader, what: F) -> F::Output {
    let mut what = std::pin::pin!(what);
    loop {
        let current = from.current();
        let _posted = current.and_then(|waiting| BOARD.try_with(|board| board.post(waiting)).ok());
        tokio::select! {
            biased;
            output = &mut what => return output,
            () = from.changed() => {}
        }
    }
}

/// The warnings that a test's thread logs.
#[cfg(test)]
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<std::sync::Mutex<Vec<u8>>>);

#[cfg(test)]
impl Warnings {
    /// Records them for as long as the guard lives.
    pub(crate) fn recorded() -> (Self, tracing::subscriber::DefaultGuard) {
        let warnings = Self::default();
        let writer = warnings.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (warnings, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

#[cfg(test)]
impl std::io::Write for Warnings {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_of_more_than_two_seconds_is_a_warning_with_its_cause() {
        let (warnings, _recorded) = Warnings::recorded();
        for seconds in [1, 2, 59] {
            let until = Instant::now() + Duration::from_secs(seconds);
            during(until, WaitCause::RateLimit, sleep_until(until)).await;
        }
        let lines = warnings.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("seconds=59") && lines[0].contains("rate_limit"), "{lines:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_after_an_error_is_a_warning_with_the_error_and_what_to_do() {
        let (warnings, _recorded) = Warnings::recorded();
        let error = Error::new(ErrorKind::Network, "no connection to h:9").with_help(Some("check h"));
        pause(Duration::from_secs(3), &error).await;
        let lines = warnings.lines();
        assert!(lines[0].contains("no connection to h:9; check h"), "{lines:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_wait_shows_while_it_lasts_and_through_another_task() {
        let (board, start) = (Board::new(), Instant::now());
        let mut reader = board.reader();
        assert_eq!(reader.current(), None);
        let sleep = move |seconds, cause| {
            let until = start + Duration::from_secs(seconds);
            during(until, cause, tokio::time::sleep_until(until))
        };
        let inner = Board::new();
        let from = inner.reader();
        let other = tokio::spawn(inner.during(sleep(30, WaitCause::RateLimit)));
        let calls = tokio::spawn(board.during(async move {
            tokio::join!(sleep(10, WaitCause::BackOff), forward(from, other)).1.unwrap();
        }));
        while reader.current().is_none_or(|(until, _)| until < start + Duration::from_secs(30)) {
            reader.changed().await;
        }
        assert_eq!(reader.current(), Some((start + Duration::from_secs(30), WaitCause::RateLimit)));
        calls.await.unwrap();
        assert_eq!(reader.current(), None);
        assert_eq!(start.elapsed().as_secs(), 30);
        // Without a board nothing is posted, and nothing fails.
        during(start, WaitCause::BackOff, async {}).await;
    }
}

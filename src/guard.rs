//! Panics of code that users give to the crate.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

use crate::error::{Disposition, Error, ErrorKind, Result};

/// Runs a call of a user's code. A panic in it becomes an error, so that it ends neither
/// the task that called nor what that task has to clean up (found 8).
///
/// Retried as passing trouble is: what panics once need not panic again. The panic's own
/// text stays with the panic hook, since it may quote secrets.
pub(crate) async fn guarded<T>(what: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
    AssertUnwindSafe(call).catch_unwind().await.unwrap_or_else(|_| Err(panicked(what)))
}

/// The error that stands for a panic.
pub(crate) fn panicked(what: &str) -> Error {
    tracing::error!(what, "code given to the crate panicked");
    let retry = Disposition::Retry { after: None };
    Error::new(ErrorKind::Internal, format!("{what} panicked")).with_disposition(retry)
}

//! Client assertions, by which an app authenticates without its secret.

use std::fmt;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, ErrorKind, Result};
use crate::secret::Secret;

type Ask = dyn Fn() -> BoxFuture<'static, Result<Secret>> + Send + Sync;

/// The source of a request's `client_assertion`.
#[derive(Clone)]
pub(super) enum Assertion {
    Fixed(Secret),
    Fresh(Arc<Ask>),
}

impl Assertion {
    pub(super) fn fresh<F, Fut>(ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Secret>> + Send + 'static,
    {
        Self::Fresh(Arc::new(move || ask().boxed()))
    }

    /// The assertion for one request; an error after `deadline`.
    pub(super) async fn get(&self, deadline: Instant) -> Result<Secret> {
        let assertion = match self {
            Self::Fixed(assertion) => assertion.clone(),
            Self::Fresh(ask) => {
                let late = |_| Error::new(ErrorKind::Timeout, "the client assertion did not come in time");
                timeout_at(deadline, ask()).await.map_err(late)??
            }
        };
        if assertion.expose().is_empty() { Err(Error::config("the client assertion is empty")) } else { Ok(assertion) }
    }
}

impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed(_) => "Assertion::Fixed(..)",
            Self::Fresh(_) => "Assertion::Fresh(..)",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_assertion_has_a_deadline_and_is_never_empty_or_shown() {
        let soon = || Instant::now() + Duration::from_secs(5);
        let fixed = Assertion::Fixed(Secret::new("s3cret"));
        assert_eq!(fixed.get(soon()).await.unwrap().expose(), "s3cret");
        let fresh = Assertion::fresh(|| async { Ok(Secret::new("fr3sh")) });
        assert_eq!(fresh.get(soon()).await.unwrap().expose(), "fr3sh");
        assert!(!format!("{fixed:?} {fresh:?}").contains("s3cret"));

        let refused = Assertion::fresh(|| async { Err(Error::new(ErrorKind::Store, "the vault is shut")) });
        let silent = Assertion::fresh(std::future::pending);
        let empty = Assertion::fresh(|| async { Ok(Secret::new("")) });
        for (assertion, kind) in [(refused, ErrorKind::Store), (silent, ErrorKind::Timeout), (empty, ErrorKind::Config)]
        {
            assert_eq!(assertion.get(soon()).await.unwrap_err().kind(), kind, "{assertion:?}");
        }
    }
}

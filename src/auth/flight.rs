//! One operation, many who wait for it.

use tokio::sync::watch;

use super::AccessToken;
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::waiting::{Board, BoardReader, forward};

/// What a flight ends with; `None` when it was not about getting a token.
pub(super) type Outcome = Result<Option<AccessToken>>;

/// The seat of one who waits.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    outcome: watch::Receiver<Option<Outcome>>,
    waits: BoardReader,
}

impl Flight {
    /// Runs `operation` in a task of its own, to its end: a caller who goes away
    /// must not lose a rotated token. The operation has its own deadlines.
    pub(super) fn start(operation: impl Future<Output = Outcome> + Send + 'static) -> Result<Self> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|error| Error::config("a login needs a Tokio runtime").with_source(error))?;
        let (sender, receiver) = watch::channel(None);
        // Another task than the callers': what it waits for is passed on to them.
        let board = Board::new();
        let waits = board.reader();
        let operation = board.during(operation);
        runtime.spawn(async move { sender.send_replace(Some(operation.await)) });
        Ok(Self { outcome: receiver, waits })
    }

    /// Whether it can still bring something: not if it panicked, or if its
    /// runtime is gone.
    pub(super) fn is_alive(&self) -> bool {
        self.outcome.borrow().is_some() || self.outcome.has_changed().is_ok()
    }

    /// Cancel safe: the operation goes on.
    pub(super) async fn wait(mut self) -> Outcome {
        // A panic of a user's store or assertion, perhaps: what panics once need not again.
        let ended = || {
            let error = Error::new(ErrorKind::Internal, "the login ended without a result");
            Err(error.with_disposition(Disposition::Retry { after: None }))
        };
        match forward(self.waits.clone(), self.outcome.wait_for(Option::is_some)).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(ended),
            Err(_) => ended(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flight_that_panics_is_an_error_for_all_who_wait() {
        let flight = Flight::start(async { panic!("a test's panic") }).unwrap();
        let other = flight.clone();
        assert_eq!(flight.wait().await.unwrap_err().kind(), ErrorKind::Internal);
        assert!(!other.is_alive());
    }

    #[tokio::test]
    async fn a_flight_lands_though_nobody_waits() {
        let (sender, landed) = tokio::sync::oneshot::channel();
        let flight = Flight::start(async {
            let _sent = sender.send(());
            Ok(None)
        })
        .unwrap();
        drop(flight);
        landed.await.unwrap();
    }

    #[test]
    fn a_flight_without_a_runtime_is_an_error() {
        assert_eq!(Flight::start(async { Ok(None) }).unwrap_err().kind(), ErrorKind::Config);
    }
}

//! One operation, many who wait for it.

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

use super::AccessToken;
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::waiting::{Board, BoardReader, forward};

/// What a flight ends with; `None` when it was not about getting a token.
pub(super) type Outcome = Result<Option<AccessToken>>;

/// The seat of one who waits. Those who wait are woken in the order in which they came, so
/// that a simulated run can be repeated: the receivers of a `tokio::sync::watch` are woken
/// in a random order.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    /// `None` where the operation panicked or its runtime is gone.
    outcome: Shared<BoxFuture<'static, Option<Outcome>>>,
    waits: BoardReader,
}

impl Flight {
    /// Runs `operation` to its end in a separate task: a caller that is dropped must
    /// not lose a rotated token. The operation has its own deadlines.
    pub(super) fn start(operation: impl Future<Output = Outcome> + Send + 'static) -> Result<Self> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|error| Error::config("a login needs a Tokio runtime").with_source(error))?;
        // Another task than the callers': what it waits for is passed on to them.
        let board = Board::new();
        let waits = board.reader();
        let operation = runtime.spawn(board.during(operation));
        Ok(Self { outcome: operation.map(Result::ok).boxed().shared(), waits })
    }

    /// Whether it can still return a result: not if it panicked, or if its runtime is
    /// gone.
    pub(super) fn is_alive(&self) -> bool {
        self.outcome.clone().now_or_never().is_none_or(|outcome| outcome.is_some())
    }

    /// Cancel safe: the operation continues.
    pub(super) async fn wait(self) -> Outcome {
        forward(self.waits.clone(), self.outcome).await.unwrap_or_else(|| {
            // Perhaps a panic of a user's store or assertion, which need not happen again.
            let error = Error::new(ErrorKind::Internal, "the login ended without a result");
            Err(error.with_disposition(Disposition::Retry { after: None }))
        })
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
    async fn those_who_wait_are_woken_in_the_order_in_which_they_came() {
        let (land, landed) = tokio::sync::oneshot::channel::<()>();
        let flight = Flight::start(async {
            let _ = landed.await;
            Ok(None)
        })
        .unwrap();
        let woken = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut waiters = Vec::new();
        for n in 0..64 {
            let (flight, woken) = (flight.clone(), woken.clone());
            waiters.push(tokio::spawn(async move {
                flight.wait().await.unwrap();
                woken.lock().unwrap().push(n);
            }));
            tokio::task::yield_now().await;
        }
        land.send(()).unwrap();
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert_eq!(*woken.lock().unwrap(), (0..64).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_flight_completes_without_a_waiting_caller() {
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

//! Detects when all subscriptions have ended at the service, including those that were never
//! returned.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ringcentral_events::control::{ControlPlane, DeliveryModeRequest};
use ringcentral_events::transport::{Link, Target, Transport, TransportBinding, TransportKind};
use ringcentral_events::{Error, ErrorKind, Result};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A transport that every subscription's task holds until it ends: then everything it created is
/// deleted, even if the program no longer waits for it.
#[derive(Debug)]
struct Held {
    transport: Arc<dyn Transport>,
    held: mpsc::Sender<Infallible>,
}

/// The tasks of all subscriptions on one transport.
pub(crate) struct Tasks(mpsc::Receiver<Infallible>);

/// `transports`, and the tasks that will hold them.
pub(crate) fn held(transports: Vec<Arc<dyn Transport>>) -> (Vec<Arc<dyn Transport>>, Tasks) {
    let (held, tasks) = mpsc::channel(1);
    let hold = |transport| -> Arc<dyn Transport> { Arc::new(Held { transport, held: held.clone() }) };
    (transports.into_iter().map(hold).collect(), Tasks(tasks))
}

impl Tasks {
    /// Waits until they have ended and the transport is not held elsewhere.
    ///
    /// # Errors
    /// If that takes too long.
    pub(crate) async fn over_within(mut self, bound: Duration) -> Result<()> {
        timeout(bound, async { while self.0.recv().await.is_some() {} }).await.map_err(|_| {
            let message = "the service did not answer pending requests; a subscription may be left there";
            Error::new(ErrorKind::Timeout, message)
        })
    }
}

#[async_trait]
impl Transport for Held {
    fn kind(&self) -> TransportKind {
        self.transport.kind()
    }

    fn delivery_mode(&self) -> DeliveryModeRequest {
        self.transport.delivery_mode()
    }

    fn bind(&self, control: &Arc<dyn ControlPlane>) -> Option<TransportBinding> {
        let mut session = self.transport.bind(control)?;
        session.transport = Arc::new(Self { transport: session.transport, held: self.held.clone() });
        Some(session)
    }

    async fn open(&self, target: Target) -> Result<Box<dyn Link>> {
        self.transport.open(target).await
    }
}

#[cfg(test)]
mod tests {
    use ringcentral_events::transport::PubNub;
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tasks_end_with_the_last_holder() {
        let bound = Duration::from_secs(9);
        let pubnub = || -> Vec<Arc<dyn Transport>> { vec![Arc::new(PubNub::builder().build().unwrap())] };
        let (mut transports, tasks) = held(pubnub());
        let transport = transports.remove(0);
        assert_eq!(transport.kind(), TransportKind::PubNub);
        let other = Arc::clone(&transport);
        drop(transport);
        let start = Instant::now();
        tokio::spawn(async move {
            sleep(bound / 2).await;
            drop(other);
        });
        tasks.over_within(bound).await.unwrap();
        assert!(start.elapsed() >= bound / 2);
        let (_kept, tasks) = held(pubnub());
        assert_eq!(tasks.over_within(bound).await.unwrap_err().kind(), ErrorKind::Timeout);
    }
}

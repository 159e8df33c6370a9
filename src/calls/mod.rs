//! Calls that ended, joined with their records, recordings and voicemails.
//!
//! A telephony event says that a party left; how long the call was, where its recording is and whether it left a
//! voicemail is in other resources, and there only some time later. [`CompletedCalls`] reads them: give it every item of
//! a subscription's stream, and take ended calls from [`next`](CompletedCalls::next).
//!
//! ```no_run
//! use ringcentral_events::calls::CompletedCalls;
//! use ringcentral_events::{Client, Result, Subscription};
//!
//! # async fn run(client: Client, mut subscription: Subscription) -> Result<()> {
//! let mut calls = CompletedCalls::new(client);
//! loop {
//!     let call = tokio::select! {
//!         Some(call) = calls.next() => call,
//!         Some(delivery) = subscription.next() => {
//!             calls.apply(&delivery?);
//!             continue;
//!         }
//!         else => break, // the subscription has ended, and so have all calls
//!     };
//!     let seconds = call.record().and_then(|record| record.duration);
//!     println!("{seconds:?} s, {} recordings, {:?}", call.recordings.len(), call.missing);
//! }
//! # Ok(())
//! # }
//! ```

mod completed;
mod joiner;
mod read;
pub(crate) mod session;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep_until};

use crate::delivery::Delivery;
use crate::error::Result;
use crate::event::Notification;
use crate::rest::Client;
use joiner::{Answer, Joiner, Step};

pub use completed::{CallCompleted, CallPart, MissingPart, MissingReason};

/// As long as [`CallLogSync`](crate::catch_up::CallLogSync) waits for a record.
const WITHIN: Duration = Duration::from_secs(180);
const LEAST: Duration = Duration::from_secs(35);
const MOST: Duration = Duration::from_secs(3_600);

/// Joins ended calls with their records in the call log, their recordings and voicemails.
///
/// A call has ended when every party that its events name is `Disconnected` or `Gone`. Repeated and reordered events
/// change nothing: each party has the state of the highest sequence number. An ended call that continues, as after a
/// transfer, is open again.
///
/// Each ended call is delivered once, when everything was found or at the [deadline](Self::within), with what is
/// [`missing`](CallCompleted::missing) and why. After a gap, and after 15 min without an event, the service is asked
/// whether an open call still exists, so that a call whose end was missed is delivered as well. A call that began and
/// ended within a gap is known only if the subscription's catch-up sources find it.
///
/// Requests go through the client and its rate limits: one reading of the call log (rate group Heavy) for all waiting
/// calls of an extension or account, at most every 12 s; one request (Light) for each recording, voicemail and check of
/// an open call. Permissions: `ReadCallLog`, `ReadCallRecording`, `ReadMessages`, `CallControl`.
///
/// Memory: at most 10 000 calls and 32 MiB of their events; beyond that the oldest are delivered with what is known.
pub struct CompletedCalls {
    client: Client,
    joiner: Joiner,
    account_wide: bool,
    /// The request under way. Here and not in [`next`](Self::next), so that dropping that future repeats nothing.
    flight: Option<Flight>,
}

type Flight = Pin<Box<dyn Future<Output = Result<Answer>> + Send>>;

impl fmt::Debug for CompletedCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletedCalls").field("pending", &self.pending()).finish_non_exhaustive()
    }
}

impl CompletedCalls {
    /// Sends its requests through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, joiner: Joiner::new(WITHIN, Instant::now()), account_wide: false, flight: None }
    }

    /// Reads the account's call log instead of those of the extensions that the events name: one reading for all calls,
    /// which an app needs whose calls end on more than about ten extensions within 3 min. The login must be permitted to
    /// read it. Default: off, except for events of the account.
    #[must_use]
    pub fn account_wide(self, yes: bool) -> Self {
        Self { account_wide: yes, ..self }
    }

    /// How long after its end a call waits for what belongs to it. Default 3 min, at least 35 s, at most an hour.
    /// Documented are 15 to 30 s until a call enters the log; a recording may take longer.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.joiner.set_within(within.clamp(LEAST, MOST));
        self
    }

    /// Takes in one item of the stream. Call it for each item, in the order of the stream.
    pub fn apply(&mut self, delivery: &Delivery) {
        match delivery {
            Delivery::Notification(notification) => self.take_in(notification),
            // Ends of calls may have been in it.
            Delivery::Resumed(_) | Delivery::Undecodable(_) => self.joiner.missed(Instant::now()),
            Delivery::Gap(_) | Delivery::FiltersDisabled(_) => {}
        }
    }

    fn take_in(&mut self, notification: &Notification) {
        let Some(session) = notification.event().telephony_session() else { return };
        let at = session.event_time.as_ref().or(notification.timestamp()).and_then(|at| at.system_time());
        let at: SystemTime = at.unwrap_or_else(|| notification.received_at());
        let scope = read::scope(notification, self.account_wide);
        self.joiner.event(session, &scope, at, notification.raw().get().len(), Instant::now());
    }

    /// The next ended call; `None` if no call is open or waiting. Cancel safe.
    pub async fn next(&mut self) -> Option<CallCompleted> {
        loop {
            match self.joiner.step(Instant::now()) {
                Step::Deliver(call) => return Some(*call),
                Step::Ask(request) => self.flight = Some(Box::pin(read::ask(self.client.clone(), request))),
                Step::Wait(None) => return None,
                Step::Wait(Some(until)) => match &mut self.flight {
                    Some(flight) => tokio::select! {
                        biased;
                        answer = flight => {
                            self.flight = None;
                            self.joiner.answered(answer, Instant::now());
                        }
                        () = sleep_until(until) => {}
                    },
                    None => sleep_until(until).await,
                },
            }
        }
    }

    /// Declares that no more events come, as at the end of a stream: open calls are checked at once, and delivered as
    /// [`NotEnded`](MissingReason::NotEnded) if they still exist. Then [`next`](Self::next) returns `None` within the
    /// deadline of the last call.
    pub fn finish(&mut self) {
        self.joiner.finish(Instant::now());
    }

    /// Number of calls that are open, or wait to be joined or read.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.joiner.pending()
    }

    /// Number of calls that could not be delivered, since they exceeded the bounds of memory and
    /// [`next`](Self::next) was not called.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.joiner.dropped()
    }
}

//! The present state of calls and presence: list, then watch.
//!
//! Events report changes. What *is* - which calls are there now, who is busy - takes a list first, every event after it
//! in order, and another list after each gap. [`StateView`] does that: give it every item of a subscription's stream, ask
//! it what is there, and learn from [`next`](StateView::next) what changed.
//!
//! ```no_run
//! use ringcentral_events::state::{StateChange, StateView};
//! use ringcentral_events::{Client, EventFilter, Result};
//!
//! # async fn run(client: Client) -> Result<()> {
//! let filters = [EventFilter::telephony_sessions(), EventFilter::detailed_presence()];
//! let mut subscription = client.subscribe(filters.clone()).start().await?;
//! let mut state = StateView::new(client, &filters);
//! loop {
//!     tokio::select! {
//!         change = state.next() => match change {
//!             StateChange::Call(id) => println!("{id}: {:?}", state.call(&id)),
//!             StateChange::CallEnded(id) => println!("{id} ended"),
//!             StateChange::Presence(id) => println!("{id}: {:?}", state.presence(&id)),
//!             StateChange::Current => println!("{} calls now", state.calls().count()),
//!             _ => {}
//!         },
//!         delivery = subscription.next() => match delivery {
//!             Some(delivery) => state.apply(&delivery?),
//!             None => break,
//!         },
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod change;
mod core;
mod read;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use tokio::time::{Instant, sleep_until};

pub use self::change::StateChange;
use self::core::{Answer, State, Step};
use crate::delivery::Delivery;
use crate::error::{Error, Result};
use crate::event::{Event, EventFilter, Notification, Presence, TelephonySession, TelephonySessionId};
use crate::ids::ExtensionId;
use crate::rest::Client;

/// The present calls and presence of what a subscription covers.
///
/// - **Lists** are read at the beginning and after each gap that was not proven complete: presence of the extension
///   (rate group Light) or account (Heavy, page by page); the calls under way (Heavy), and each of them (Light), since
///   that list lags: a second reading 10 s later closes the lag.
/// - **Events** are applied in the order of their sequence numbers, for each party of a call and each extension; repeated
///   and older ones change nothing, and neither do those that a newer list includes.
/// - **A gap** makes the view [`Stale`](StateChange::Stale) until the lists were read again, or until it is proven that
///   every missing event was delivered.
///
/// Suitable filters: telephony sessions and presence, of an extension or an account, without parameters that leave
/// events out (`statusCode`, `direction`, `missedCall`, `phoneNumber`). Presence of monitored lines and favorites is
/// known from events only. Permissions: `ReadPresence`; `ReadCallLog` and `CallControl` for calls. A refused list is tried
/// again every 10 min; the view is stale until then, and [`last_error`](Self::last_error) says why.
///
/// Memory: at most 10 000 calls and 20 000 extensions. Beyond that further ones are left out, and the view stays stale.
pub struct StateView {
    client: Client,
    lists: Vec<read::List>,
    state: State,
    /// The request under way. Here and not in [`next`](Self::next), so that dropping that future repeats nothing.
    flight: Option<Flight>,
}

type Flight = Pin<Box<dyn Future<Output = Result<Answer>> + Send>>;

impl fmt::Debug for StateView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateView").field("is_current", &self.is_current()).finish_non_exhaustive()
    }
}

impl StateView {
    /// A view of what `filters` cover, the filters of the subscription. Sends its requests through `client`.
    #[must_use]
    pub fn new(client: Client, filters: &[EventFilter]) -> Self {
        let lists = read::lists(&client, filters);
        let state = State::new(lists.iter().map(read::List::what), Instant::now());
        Self { client, lists, state, flight: None }
    }

    /// Takes in one item of the stream. Call it for each item, in the order of the stream.
    pub fn apply(&mut self, delivery: &Delivery) {
        let now = Instant::now();
        match delivery {
            Delivery::Notification(notification) => self.take_in(notification, now),
            Delivery::Gap(_) => self.state.gap(),
            Delivery::Resumed(resumed) => self.state.resumed(resumed.complete, now),
            Delivery::Undecodable(_) => self.state.relist(now),
            Delivery::FiltersDisabled(_) => {}
        }
    }

    fn take_in(&mut self, notification: &Notification, now: Instant) {
        let event = notification.event();
        if let Some(session) = event.telephony_session() {
            return self.state.call_event(session, now);
        }
        let (in_body, sequence) = match event {
            Event::ExtensionDnd(it) => (it.extension_id.as_ref(), None),
            _ => match event.presence() {
                Some(it) => (it.extension_id.as_ref(), it.sequence),
                None => return,
            },
        };
        let (extension, Some(body)) = (notification.extension(in_body), notification.raw_body()) else { return };
        if !extension.is_empty() {
            let at = notification.timestamp().and_then(|at| at.system_time());
            self.state.presence_event(ExtensionId::new(extension), body, sequence, at);
        }
    }

    /// The next change. Waits until there is one; reads the lists meanwhile. Cancel safe.
    pub async fn next(&mut self) -> StateChange {
        loop {
            match self.state.step(Instant::now()) {
                Step::Change(change) => return change,
                Step::Ask(request) => self.flight = Some(read::ask(&self.client, &self.lists, request)),
                Step::Wait(until) => match (&mut self.flight, until) {
                    (Some(flight), _) => {
                        let answer = flight.await;
                        self.flight = None;
                        self.state.answered(answer, Instant::now());
                    }
                    (None, Some(until)) => sleep_until(until).await,
                    (None, None) => std::future::pending().await,
                },
            }
        }
    }

    /// The calls that are there.
    pub fn calls(&self) -> impl Iterator<Item = &TelephonySession> {
        self.state.calls()
    }

    /// A call, if it is there.
    #[must_use]
    pub fn call(&self, id: &TelephonySessionId) -> Option<&TelephonySession> {
        self.state.call(id)
    }

    /// The known presence of every extension.
    pub fn presences(&self) -> impl Iterator<Item = (&ExtensionId, &Presence)> {
        self.state.presences()
    }

    /// The presence of an extension, if it is known.
    #[must_use]
    pub fn presence(&self, extension: &ExtensionId) -> Option<&Presence> {
        self.state.presence(extension)
    }

    /// Whether the view is the present state: lists were read, and no event is missing since.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.state.is_current()
    }

    /// Why the last list could not be read; `None` once all were.
    #[must_use]
    pub fn last_error(&self) -> Option<&Error> {
        self.state.last_error()
    }
}

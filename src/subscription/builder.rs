//! Configures a subscription.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use super::checkpoint::{self, AckMode, Checkpoint};
use super::driver;
use super::ending::{self, Shutdown};
use super::handle::SubscriptionHandle;
use super::machine::Settings;
use super::ports::Ports;
use super::progress::Progress;
use super::reconcile::Pace;
use super::resume::ResumeToken;
use super::setup::{Route, Setup};
use super::stream::{Acks, Subscription};
use super::{failover, polled};
use crate::auth::StoreLock;
use crate::batches;
use crate::catch_up::CatchUp;
use crate::clock::Clock;
use crate::control::ControlPlane;
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventFilter;
use crate::ids::SubscriptionId;
use crate::kind::TransportKind;
use crate::policy::{BackoffPolicy, RenewalPolicy};
use crate::registry::Registry;
use crate::status::{Status, StatusWatch};
use crate::system::System;
use crate::telemetry;
use crate::transport::{Transport, TransportBinding};

/// How many bytes of decoded deliveries may wait for the reader, as they arrived.
const DECODED_BYTES: usize = 256 << 10;
/// Commands are answered at once, so that no more than a few wait.
const COMMANDS: usize = 8;
/// The time between two audits of the subscription: a silent loss is noticed within a minute, including the answer. 1.3
/// of 50 light calls a minute.
const AUDIT_EVERY: Duration = Duration::from_secs(45);

/// What happens to the service's subscription when a [`Subscription`] is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDrop {
    /// It is deleted, in the background, within 5 s. The default: orphaned subscriptions count against the limit of the
    /// user and app.
    Delete,
    /// It stays until its lease ends: for planned restarts with a [`ResumeToken`].
    Keep,
}

/// Configures a [`Subscription`]. Made by [`Client::subscribe`](crate::rest::Client::subscribe).
#[must_use = "nothing happens until `start`"]
#[derive(Debug)]
pub struct SubscriptionBuilder {
    control: Arc<dyn ControlPlane>,
    registry: Arc<Registry>,
    filters: Vec<EventFilter>,
    transport: Option<Arc<dyn Transport>>,
    fallbacks: Vec<Arc<dyn Transport>>,
    failover: failover::Terms,
    expires_in: Option<Duration>,
    settings: Settings,
    buffer: NonZeroUsize,
    queue_bytes: usize,
    dedup_window: (usize, Duration),
    adopt: Option<SubscriptionId>,
    resume: Option<ResumeToken>,
    checkpoint: Option<Arc<dyn Checkpoint>>,
    claim: Option<Arc<StoreLock>>,
    ack: AckMode,
    leftovers: Vec<SubscriptionId>,
    catch_up: Vec<Arc<dyn CatchUp>>,
    pace: Pace,
    enrich: bool,
    on_drop: OnDrop,
    close_within: Duration,
    clock: Clock,
    system: System,
    /// The channel of its status, if it is watched from before the start.
    status: Option<watch::Sender<Status>>,
}

impl SubscriptionBuilder {
    /// A larger buffer would be memory without a bound: its deliveries are decoded.
    const LARGEST_BUFFER: NonZeroUsize = NonZeroUsize::MIN.saturating_add(65_535);
    /// The longest time limit that may be set.
    const LONGEST_BOUND: Duration = Duration::from_secs(24 * 60 * 60);

    /// Configures a subscription over your own control plane.
    pub fn new(control: impl ControlPlane, filters: impl IntoIterator<Item = EventFilter>) -> Self {
        Self::with_registry(Arc::new(control), Arc::default(), filters)
    }

    pub(crate) fn with_registry(
        control: Arc<dyn ControlPlane>,
        registry: Arc<Registry>,
        filters: impl IntoIterator<Item = EventFilter>,
    ) -> Self {
        let system = control.system().unwrap_or_default();
        Self {
            control,
            registry,
            filters: filters.into_iter().collect(),
            transport: None,
            fallbacks: Vec::new(),
            failover: failover::Terms::default(),
            expires_in: None,
            settings: Settings { audit_every: Some(AUDIT_EVERY), ..Settings::default() },
            buffer: NonZeroUsize::new(256).unwrap_or(NonZeroUsize::MIN),
            queue_bytes: 8 << 20,
            dedup_window: (8192, Duration::from_secs(30 * 60)),
            adopt: None,
            resume: None,
            checkpoint: None,
            claim: None,
            ack: AckMode::default(),
            leftovers: Vec::new(),
            catch_up: Vec::new(),
            pace: Pace::default(),
            enrich: false,
            on_drop: OnDrop::Delete,
            close_within: Duration::from_secs(10),
            clock: system.clock(),
            system,
            status: None,
        }
    }

    /// Watches the status from before [`start`](Self::start) on: the cause of a wait is
    /// in [`Status::waiting`], and logged at `warn`.
    ///
    /// ```no_run
    /// # async fn run(client: ringcentral_events::Client) -> ringcentral_events::Result<()> {
    /// use ringcentral_events::{EventFilter, transport::WebSocket};
    ///
    /// let transport = WebSocket::builder().build()?;
    /// let mut builder = client.subscribe([EventFilter::instant_message()]).transport(transport);
    /// let mut status = builder.status();
    /// tokio::spawn(async move {
    ///     while let Some(status) = status.changed().await {
    ///         if let Some(wait) = status.waiting {
    ///             println!("waiting until {:?}: {}", wait.until, wait.cause.as_str());
    ///         }
    ///     }
    /// });
    /// let subscription = builder.start().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn status(&mut self) -> StatusWatch {
        let transport = self.transport.as_ref().map_or(TransportKind::WebSocket, |transport| transport.kind());
        let status = self.status.get_or_insert_with(|| watch::Sender::new(Status::starting(transport)));
        StatusWatch::new(status.subscribe())
    }

    /// Sets the transport of the events. Default: [`transport`](crate::transport)`::WebSocket`, which
    /// is what RingCentral offers new apps; without the feature `websocket` there is no default, and
    /// [`start`](Self::start) fails.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// Like [`transport`](Self::transport), with a transport that several subscriptions share, including its
    /// connections.
    pub fn shared_transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Adds a transport to use when the one before it, in the given order, is refused or does not deliver for a minute
    /// ([`fail_over_after`](Self::fail_over_after)): WebSocket, then PubNub, then [`Poll`](crate::transport::Poll), for example.
    ///
    /// The reader sees one stream. A change is a possible [`Gap`](crate::Delivery::Gap) with its end, which catch-up
    /// sources fill like any other; an event that both transports deliver arrives once. Duplicates are recognized by
    /// their content, since it is not published whether the service gives an event one uuid for both: of two events
    /// that are equal to the byte, within seconds of a change, one may be taken for a duplicate of the other.
    /// [`Status::transport`](crate::Status::transport) names the one in use. While one that is not the first is in use,
    /// the first is tried again now and then, unless it was refused.
    pub fn fall_back_to(mut self, transport: impl Transport) -> Self {
        self.fallbacks.push(Arc::new(transport));
        self
    }

    /// How long a transport may deliver nothing before the next one replaces it, if [there are
    /// several](Self::fall_back_to). Default 60 s: catch-up sources replace it meanwhile. At least 1 s; more than a
    /// year counts as a year.
    pub fn fail_over_after(mut self, down: Duration) -> Self {
        self.failover.after = down;
        self
    }

    /// After how long in use of a later transport an earlier one is tried again; twice as long after each vain attempt,
    /// up to 6 h. Default 10 min; at least 1 s; more than a year counts as a year.
    pub fn return_after(mut self, used: Duration) -> Self {
        self.failover.back_after = used;
        self
    }

    /// The lifetime to request (`expiresIn`), in whole seconds. Default: the service's own, which for PubNub is also
    /// the longest that it grants (15 min). The granted lifetime applies, not the requested one. At most ten years, the
    /// documented maximum.
    pub fn expires_in(mut self, lifetime: Duration) -> Self {
        self.expires_in = Some(lifetime.min(RenewalPolicy::MAX_LIFETIME));
        self
    }

    /// When to renew. Default: [`RenewalPolicy::default`].
    pub fn renewal(mut self, policy: RenewalPolicy) -> Self {
        self.settings.renewal = policy;
        self
    }

    /// How long to wait between attempts. Default: [`BackoffPolicy::default`]. A link is reopened after 4 s at most,
    /// and for the first minute or so a lease is requested as often, with any cap of the policy: buffers at the service
    /// hold seconds of events.
    pub fn backoff(mut self, policy: BackoffPolicy) -> Self {
        self.settings.backoff = policy;
        self
    }

    /// How many decoded deliveries may wait for the reader. Default 256: small, since undecoded events wait before
    /// that. At most 65 536. Deliveries that arrive together are one batch, for which the reader's task wakes up once.
    /// Of large ones fewer wait: 256 KiB and one more, in bytes as they arrived.
    pub fn buffer(mut self, deliveries: NonZeroUsize) -> Self {
        self.buffer = deliveries.min(Self::LARGEST_BUFFER);
        self
    }

    /// How many bytes of undecoded payloads may wait. Default 8 MiB: some minutes at the service's highest rate. Events
    /// that do not fit become a [`Delivery::Gap`](crate::Delivery::Gap).
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// How many events are remembered to recognize duplicates, and for how long. Default 8192 and 30 min: PubNub
    /// retains some hundred messages for at most 20 min, so nothing older can come again.
    pub fn dedup_window(mut self, events: NonZeroUsize, keep: Duration) -> Self {
        self.dedup_window = (events.get(), keep);
        self
    }

    /// How long [`start`](Self::start) may take, including retries, and the deletion of subscriptions that it created
    /// in vain. Default 150 s: the service's penalty for too many requests is 60 s, and one in the login and one in the
    /// creation must not end the start.
    pub fn start_within(mut self, bound: Duration) -> Self {
        self.settings.start_within = bound;
        self
    }

    /// How long [`Subscription::close`] may take to delete the subscription. Default 10 s. An unanswered deletion is
    /// repeated after each third of it.
    pub fn close_within(mut self, bound: Duration) -> Self {
        self.close_within = bound;
        self
    }

    /// What happens to the service's subscription when this one is dropped. Default [`OnDrop::Delete`].
    pub fn on_drop(mut self, what: OnDrop) -> Self {
        self.on_drop = what;
        self
    }

    /// Takes over an existing subscription, such as one that remains after a crash, instead of creating one. If it is
    /// gone, another is created, and a [`Delivery::Gap`](crate::Delivery::Gap) reports it. If its filters differ, they
    /// are replaced.
    ///
    /// Without a [`ResumeToken`] it is unknown which events were processed: events of the previous minute are delivered
    /// too, as far as the service still has them, and older ones are not requested.
    pub fn adopt(mut self, id: SubscriptionId) -> Self {
        self.adopt = Some(id);
        self
    }

    /// Continues where another process stopped. Like [`adopt`](Self::adopt), and events since then are delivered as far
    /// as the service still has them; otherwise a [`Delivery::Gap`](crate::Delivery::Gap) reports it.
    pub fn resume(mut self, from: ResumeToken) -> Self {
        self.resume = Some(from);
        self
    }

    /// Stores the position in the stream in `checkpoint`, and continues from the stored one, like
    /// [`resume`](Self::resume). A crash at any point loses nothing: unfinished events ([`ack_mode`](Self::ack_mode))
    /// are delivered again, or a [`Delivery::Gap`](crate::Delivery::Gap) reports a possible loss.
    ///
    /// The checkpoint belongs to this subscription until it has ended: while another one uses it,
    /// [`start`](Self::start) waits up to 10 s and then fails with [`Busy`](ErrorKind::Busy).
    ///
    /// The first position is stored before [`start`](Self::start) returns. After a clean end the next start reports the
    /// time in between as a gap, since no subscription existed.
    pub fn checkpoint(mut self, checkpoint: impl Checkpoint) -> Self {
        self.checkpoint = Some(Arc::new(checkpoint));
        self
    }

    /// When an event counts as finished. Default: [`AckMode::OnNext`].
    pub fn ack_mode(mut self, mode: AckMode) -> Self {
        self.ack = mode;
        self
    }

    /// Subscriptions that an earlier run of this app created and did not delete: they are deleted if the service says
    /// that there are too many (`SUB-505`). Those that this client created itself and could not delete always are; no
    /// others ever.
    pub fn leftovers(mut self, ids: impl IntoIterator<Item = SubscriptionId>) -> Self {
        self.leftovers.extend(ids);
        self
    }

    /// Adds a source that is queried for missed events after a gap, and that replaces push during a long outage.
    /// Sources that cover none of the filters are never queried.
    pub fn catch_up(mut self, source: impl CatchUp) -> Self {
        self.catch_up.push(Arc::new(source));
        self
    }

    /// Like [`catch_up`](Self::catch_up), for several sources, such as
    /// [`catch_up::standard`](crate::catch_up::standard).
    pub fn catch_up_all(mut self, sources: impl IntoIterator<Item = Arc<dyn CatchUp>>) -> Self {
        self.catch_up.extend(sources);
        self
    }

    /// Whether a message-store notification, which only counts changes, is replaced by the changed messages. Default:
    /// no.
    ///
    /// With it, such a notification is not delivered. It makes [`MessageSync`](crate::catch_up::MessageSync), which
    /// must be one of the catch-up sources, do one incremental sync per burst of notifications, and the found messages
    /// are delivered: one notification per message, with the message in
    /// [`records`](crate::event::MessageStore::records) and [`Origin::CatchUp`](crate::Origin). Transient errors are
    /// retried; if the source is refused for good, the counts are delivered again.
    pub fn enrich_messages(mut self, on: bool) -> Self {
        self.enrich = on;
        self
    }

    /// How long push may be down before catch-up sources are polled instead. Default 20 s: most interruptions are
    /// shorter, and push delivers the events that wait at the service. More than a year counts as a year.
    pub fn poll_after(mut self, down: Duration) -> Self {
        self.pace.poll_after = down;
        self
    }

    /// How often catch-up sources are polled when nothing is pushed, or during a long outage of push: at the start
    /// of the range after an event was found, and then less and less often, up to its end. Default 10 s to 30 s, which
    /// keeps one source well within each of the service's rate groups; at least 1 s. A poll that exceeds the rate of the
    /// user and app waits.
    pub fn poll_every(mut self, range: RangeInclusive<Duration>) -> Self {
        self.pace.poll_every = range.into_inner();
        self
    }

    /// Creates the subscription and starts reading.
    ///
    /// Returns when the service has created it. From then on nothing is lost silently: the transport reads from before
    /// the creation, even if it connects later ([`Phase::Live`](crate::Phase::Live)).
    ///
    /// Dropping the future leaves no orphan: a subscription that was created meanwhile is deleted in the background.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for invalid settings, or without a [`transport`](Self::transport) if the feature
    /// `websocket` is off; [`ErrorKind::TransportRefused`] or [`ErrorKind::Permission`] when
    /// the service refuses; the message names the remedy; [`ErrorKind::Timeout`] when transient errors last longer than
    /// [`start_within`](Self::start_within); [`ErrorKind::Store`] when the [`checkpoint`](Self::checkpoint) cannot be
    /// read, or the first position cannot be stored; [`ErrorKind::Busy`] when another subscription uses it.
    pub async fn start(self) -> Result<Subscription> {
        let by = self.start_by();
        let (mut subscription, started) = in_time(by, self.restored()).await?.launch()?;
        begun(&mut subscription, started, by).await?;
        Ok(subscription)
    }

    /// Like [`start`](Self::start), unless `stop` completes first: then the created subscription is deleted again, and
    /// an unanswered creation awaited, all within [`close_within`](Self::close_within), and the result is `None`.
    ///
    /// For programs that may be stopped during their start: dropping `start` leaves that to the background, which ends
    /// with the process.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_unless(self, stop: impl Future<Output = ()>) -> Result<Option<Subscription>> {
        let mut stop = std::pin::pin!(stop);
        let by = self.start_by();
        let restored = tokio::select! {
            biased;
            restored = in_time(by, self.restored()) => restored?,
            () = &mut stop => return Ok(None),
        };
        let (mut subscription, started) = restored.launch()?;
        let begun = tokio::select! {
            biased;
            begun = begun(&mut subscription, started, by) => Some(begun),
            () = stop => None,
        };
        match begun {
            Some(begun) => begun.map(|()| Some(subscription)),
            None => {
                subscription.close().await;
                Ok(None)
            }
        }
    }

    /// The deadline of a start that begins now.
    fn start_by(&self) -> Instant {
        Instant::now() + self.settings.start_within.min(Self::LONGEST_BOUND)
    }

    /// Adds the default transport, and continues from the checkpoint. The load counts towards the start's time limit.
    async fn restored(mut self) -> Result<Self> {
        let began = Instant::now();
        if self.transport.is_none() {
            self.transport = Some(default_transport()?);
        }
        if let Some(checkpoint) = &self.checkpoint {
            if self.adopt.is_some() || self.resume.is_some() {
                return Err(Error::config("a checkpoint contains the position: give no token or id in addition"));
            }
            self.claim = checkpoint::claim(&**checkpoint).await?;
            self.resume = checkpoint::load(&**checkpoint).await?;
        }
        self.settings.start_within = self.settings.start_within.saturating_sub(began.elapsed());
        Ok(self)
    }

    fn launch(mut self) -> Result<(Subscription, oneshot::Receiver<Result<()>>)> {
        let followed = self.status.take();
        let read = self.resume.as_ref().map(Progress::after).unwrap_or_default();
        let checkpoint = self.checkpoint.clone().map(|store| (store, self.ack));
        let claim = self.claim.clone();
        let transports: Vec<_> = self.transport.iter().chain(&self.fallbacks).cloned().collect();
        let bindings: Vec<_> =
            transports.into_iter().map(|transport| (transport.bind(&self.control), transport)).collect();
        let caller = bindings.iter().find_map(|(binding, _)| binding.as_ref()?.caller.clone());
        let clock = self.clock.clone();
        let setup = self.check(bindings)?;
        let transport = setup.transport.kind();
        let (out, batches) = batches::channel(DECODED_BYTES);
        let (commands_in, commands) = mpsc::channel(COMMANDS);
        let (shutdown, shutdown_out) = watch::channel(None::<Shutdown>);
        let status_in = followed.unwrap_or_else(|| watch::Sender::new(Status::starting(transport)));
        let now = clock.wall();
        status_in.send_modify(|status| (status.transport, status.since) = (transport, Some(now)));
        let status = status_in.subscribe();
        let (started_in, started) = oneshot::channel();
        let started_in = Some(started_in);
        let ports = Ports {
            out,
            commands,
            shutdown: shutdown_out,
            status: status_in,
            started: started_in,
            claim: claim.clone(),
        };
        tokio::spawn(driver::run(setup, ports).instrument(telemetry::subscription(transport)));
        // Made before the wait, so that dropping the wait drops it, which ends the task.
        let handle = SubscriptionHandle::new(commands_in, StatusWatch::new(status)).with_caller(caller);
        let acks = Acks::new(read, checkpoint, claim);
        let subscription = Subscription::new(batches, shutdown, handle, acks, telemetry::Yields::new(clock));
        Ok((subscription, started))
    }

    fn check(self, bindings: Vec<(Option<TransportBinding>, Arc<dyn Transport>)>) -> Result<Setup> {
        if self.filters.is_empty() {
            return Err(Error::config("a subscription needs at least one event filter"));
        }
        if self.expires_in.is_some_and(|lifetime| lifetime.as_secs() == 0) {
            return Err(Error::config("expires_in must be at least one second"));
        }
        if self.queue_bytes == 0 {
            return Err(Error::config("queue_bytes must not be zero"));
        }
        if self.adopt.is_some() && self.resume.is_some() {
            return Err(Error::config("a resume token names the subscription to adopt: give only one of them"));
        }
        if [self.settings.start_within, self.close_within].iter().any(|bound| *bound > Self::LONGEST_BOUND) {
            return Err(Error::config("start_within and close_within must be at most a day"));
        }
        let (least, most) = self.pace.poll_every;
        if least < Duration::from_secs(1) || least > most || most > Self::LONGEST_BOUND {
            return Err(Error::config("poll_every must be from a second to a day, the shorter time first"));
        }
        if self.enrich && !self.catch_up.iter().any(|source| source.covers_messages()) {
            return Err(Error::config("enrich_messages needs MessageSync among the catch-up sources"));
        }
        self.settings.renewal.check()?;
        if [self.failover.after, self.failover.back_after].iter().any(|time| *time < Duration::from_secs(1)) {
            return Err(Error::config("fail_over needs at least a second each"));
        }
        let mut routes = Vec::with_capacity(bindings.len());
        let begun = polled::first_positions(self.catch_up);
        for (binding, transport) in bindings {
            routes.push(match binding {
                Some(TransportBinding { control, transport, polls: true, has_address, .. }) => {
                    let control = polled::beginning(control, &begun, self.filters.clone(), self.fallbacks.is_empty())?;
                    Route { control, transport, has_address, polls: true }
                }
                binding => {
                    let (control, transport, has_address) = match binding {
                        Some(binding) => (binding.control, binding.transport, binding.has_address),
                        None => (self.control.clone(), transport, true),
                    };
                    let control =
                        if self.enrich { polled::enriching(control, &begun, self.filters.clone()) } else { control };
                    Route { control, transport, has_address, polls: false }
                }
            });
        }
        let first = routes.first().cloned().ok_or_else(|| Error::config("a subscription needs a transport"))?;
        let Route { control, transport, has_address, polls } = first;
        let pace = Pace { alone: polls, ..self.pace };
        let catch_up = polled::erased(begun);
        Ok(Setup {
            control,
            transport,
            has_address,
            polls,
            routes,
            failover: self.failover,
            registry: self.registry,
            filters: self.filters.iter().map(ToString::to_string).collect(),
            expires_in: self.expires_in.map(|lifetime| lifetime.as_secs()),
            settings: self.settings,
            queue_bytes: self.queue_bytes,
            item_bytes: DECODED_BYTES.div_ceil(self.buffer.get()),
            dedup_window: self.dedup_window,
            adopt: self.adopt,
            resume: self.resume.map(Box::new),
            leftovers: self.leftovers,
            catch_up,
            pace,
            enrich: self.enrich,
            ending: ending::Terms {
                delete_on_drop: self.on_drop == OnDrop::Delete,
                close_within: self.close_within,
                drop_within: Duration::from_secs(5),
            },
            clock: self.clock,
            seed: u64::from_le_bytes(self.system.random_bytes()?),
        })
    }

    #[cfg(test)]
    pub(super) fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }
}

/// Never another transport than WebSocket: what is built in must not change what a program does.
#[cfg(feature = "websocket")]
fn default_transport() -> Result<Arc<dyn Transport>> {
    Ok(Arc::new(crate::transport::WebSocket::builder().build()?))
}

#[cfg(not(feature = "websocket"))]
fn default_transport() -> Result<Arc<dyn Transport>> {
    Err(Error::config(
        "no transport is set, and the default, WebSocket, needs the feature `websocket` of ringcentral-events: \
         enable it, or set another one with `transport`",
    ))
}

/// Waits for the creation, and stores the first position.
async fn begun(subscription: &mut Subscription, started: oneshot::Receiver<Result<()>>, by: Instant) -> Result<()> {
    let anew = subscription.needs_first_position();
    start_result(started).await?;
    if anew { in_time(by, subscription.save_first_position()).await } else { Ok(()) }
}

/// Waits for the checkpoint within the start's time limit (found 6.12).
async fn in_time<T>(by: Instant, work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::new(ErrorKind::Store, "the checkpoint did not answer within the time of the start");
    timeout_at(by, work).await.map_err(late)?
}

async fn start_result(started: oneshot::Receiver<Result<()>>) -> Result<()> {
    started.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "the subscription's task ended")))
}

//! One poll after the other.

use std::fmt;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use ::pubnub::core::{PubNubError, Transport as _, TransportResponse};
use async_trait::async_trait;
use futures_util::future::{BoxFuture, FutureExt as _, pending};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tracing::{debug, trace};

use super::answer::{self, Answer, Message};
use super::burst::Burst;
use super::http::HttpTransport;
use super::pace::Pace;
use super::request::Endpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{Coverage, Cursor, Frame, Link, LinkEvent, SuspectedLoss};

/// A first poll that is not answered by then is being held, or is lost.
const PROBE_AFTER: Duration = Duration::from_millis(250);
/// While a poll is held, this often it is noted that the process runs. An answer that is
/// read long after the last note may have waited here for as long (found 1.3).
const AWAKE_EVERY: Duration = Duration::from_secs(5);

/// At the end of a subscription the service tells its time within this, or the path is dead.
const TIME_WITHIN: Duration = Duration::from_secs(2);
/// What waits is answered at once (pubnub.md §3.2): a poll of a service that is there has
/// nothing to wait for once it was held for this long.
const HELD: Duration = Duration::from_millis(500);

/// What the service's buffer is thought to hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tuning {
    pub(super) buffer_size: usize,
    pub(super) buffer_age: Duration,
}

/// A poll under way. Kept in the link, so that a dropped `next` neither breaks it
/// off nor repeats it.
struct Poll {
    sent_at: Instant,
    /// When this process was last seen running while it was held.
    awake_at: Instant,
    answer: BoxFuture<'static, Result<TransportResponse, PubNubError>>,
}

/// The subscription is about to end, and waits to know whether something is unread.
struct Check {
    /// Whether the service told its time, in time; `None` once it did.
    time: Option<BoxFuture<'static, bool>>,
}

impl Check {
    /// Whether the service is there; never, once that is known. Cancel safe.
    async fn is_alive(&mut self) -> bool {
        match &mut self.time {
            Some(time) => {
                let alive = time.await;
                self.time = None;
                alive
            }
            None => pending().await,
        }
    }
}

pub(super) struct PubNubLink {
    http: HttpTransport,
    tuning: Tuning,
    endpoint: Endpoint,
    cursor: Cursor,
    /// Everything that was published before this instant was read.
    last_good: Option<Instant>,
    burst: Burst,
    pace: Pace,
    pause: Option<Pin<Box<Sleep>>>,
    poll: Option<Poll>,
    check: Option<Check>,
    probe: Probe,
}

impl fmt::Debug for PubNubLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PubNubLink").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

impl PubNubLink {
    pub(super) fn new(
        http: HttpTransport,
        tuning: Tuning,
        endpoint: Endpoint,
        cursor: Cursor,
        last_good: Option<Instant>,
    ) -> Self {
        // A cursor with a region came with an answer: this link continues one that failed.
        let burst = Burst::new(tuning.buffer_size, cursor.region.is_some());
        Self {
            http,
            tuning,
            burst,
            endpoint,
            cursor,
            last_good,
            pace: Pace::default(),
            pause: None,
            poll: None,
            check: None,
            probe: Probe::Unarmed,
        }
    }

    /// Takes the answer of the poll sent at `sent_at`. No await in here: what the
    /// answer held is either returned or still to be asked for.
    fn take(
        &mut self,
        answer: Result<TransportResponse, PubNubError>,
        sent_at: Instant,
        awake_at: Instant,
    ) -> Result<LinkEvent> {
        let held = sent_at.elapsed();
        let read = match answer {
            Ok(response) => {
                let body = response.body.as_deref().unwrap_or_default();
                answer::read(response.status, &response.headers, body, self.http.now())
            }
            Err(error) => Err(answer::failure(&error)),
        };
        let Answer { frames, cursor } = read.inspect_err(|error| {
            debug!(kind = ?error.kind(), status = error.status(), "poll failed");
            self.burst.fault();
        })?;
        debug!(events = frames.len(), ?held, "poll answered");

        // The pause ends when the poll was sent: from then on the service held it and
        // would have answered. The next one begins when this answer came, and not when
        // a process that stood still got to read it.
        let now = Instant::now();
        let stood_still = now.saturating_duration_since(awake_at) > AWAKE_EVERY * 2;
        if stood_still {
            self.burst.fault();
        }
        let came = if stood_still { awake_at } else { now };
        let pause = self.last_good.replace(came).map(|good| sent_at.saturating_duration_since(good));
        let (suspected_loss, coverage) = match pause.filter(|pause| *pause > self.tuning.buffer_age) {
            Some(pause) => {
                self.burst.fault();
                (Some(SuspectedLoss::BufferAged { pause }), Coverage::Cut { asked: sent_at })
            }
            None => {
                let (events, cut) = self.burst.answered(frames.len(), held);
                let coverage = if cut { Coverage::Cut { asked: sent_at } } else { Coverage::Whole { asked: sent_at } };
                (events.map(|events| SuspectedLoss::BufferFull { events }), coverage)
            }
        };
        let progress = !frames.is_empty() && cursor != self.cursor;
        self.pause = self.pace.after(held, progress).map(|gap| Box::pin(sleep(gap)));
        self.cursor = cursor.clone();
        let frames = frames.into_iter().map(stamped(self.http.now())).collect();
        Ok(LinkEvent::Batch { frames, cursor, coverage, suspected_loss })
    }
}

/// Puts the same time on every frame of an answer.
fn stamped(received_at: SystemTime) -> impl FnMut(Message) -> Frame {
    move |Message { body, position, sent_at }| {
        let frame = Frame::new(body, received_at).at(position).sent(sent_at);
        trace!(weight = frame.weight(), "frame");
        frame
    }
}

#[async_trait]
impl Link for PubNubLink {
    async fn next(&mut self) -> Result<LinkEvent> {
        if let Some(pause) = &mut self.pause {
            pause.await;
            self.pause = None;
        }
        let poll = self.poll.get_or_insert_with(|| {
            let (http, request) = (self.http.clone(), self.endpoint.subscribe(&self.cursor, self.http.deadline()));
            let now = Instant::now();
            Poll { sent_at: now, awake_at: now, answer: async move { http.send(request).await }.boxed() }
        });
        loop {
            tokio::select! {
                biased;
                answer = &mut poll.answer => {
                    let (sent_at, awake_at) = (poll.sent_at, poll.awake_at);
                    self.poll = None;
                    self.probe = Probe::Done;
                    return self.take(answer, sent_at, awake_at);
                }
                () = self.probe.alive(&self.http, &self.endpoint) => return Ok(LinkEvent::Alive),
                alive = is_alive(&mut self.check), if self.check.is_some() => if !alive {
                    self.check = None;
                    return Err(Error::new(ErrorKind::Timeout, "PubNub did not say its time beside a poll that is held"));
                },
                () = sleep_until(poll.sent_at + HELD), if self.check.as_ref().is_some_and(|check| check.time.is_none()) => {
                    self.check = None;
                    return Ok(LinkEvent::Answered { asked: poll.sent_at });
                }
                () = sleep_until(poll.awake_at + AWAKE_EVERY) => poll.awake_at = Instant::now(),
            }
        }
    }

    /// Asks again at the same position, since the connection of the poll that is held may be
    /// dead, and beside it for the time.
    fn check(&mut self) {
        self.poll = None;
        let (http, request) = (self.http.clone(), self.endpoint.time());
        let time = async move { timeout(TIME_WITHIN, http.send(request)).await.is_ok_and(|answer| is_life(&answer)) };
        self.check = Some(Check { time: Some(time.boxed()) });
    }

    /// Breaks the poll off and says so to the service, within 2 s. The service
    /// needs neither: a closed poll is a clean end, so a leave that fails is not
    /// an error.
    async fn close(self: Box<Self>) {
        let Self { http, endpoint, poll, probe, .. } = *self;
        drop((poll, probe));
        match http.send(endpoint.leave()).await {
            Ok(response) => debug!(status = response.status, "left"),
            Err(_) => debug!("leave was not answered"),
        }
    }
}

async fn is_alive(check: &mut Option<Check>) -> bool {
    match check {
        Some(check) => check.is_alive().await,
        None => pending().await,
    }
}

/// Whether `answer` to the question for the time proves the service alive. A
/// proxy or a gateway in between has other answers, and they prove only itself.
pub(super) fn is_life(answer: &Result<TransportResponse, PubNubError>) -> bool {
    answer.as_ref().is_ok_and(|response| (200..300).contains(&response.status))
}

/// Asks once per link whether somebody is there. A poll from an old position is
/// held without a word, which looks the same as a dead path.
enum Probe {
    Unarmed,
    Waiting(Pin<Box<Sleep>>),
    Asking(BoxFuture<'static, bool>),
    Done,
}

impl Probe {
    /// Comes back when the service's answer proved it; else never. The poll itself will tell
    /// what is wrong, so a failure here is none. Cancel safe.
    async fn alive(&mut self, http: &HttpTransport, endpoint: &Endpoint) {
        loop {
            match self {
                Self::Unarmed => *self = Self::Waiting(Box::pin(sleep(PROBE_AFTER))),
                Self::Waiting(delay) => {
                    delay.await;
                    let (http, request) = (http.clone(), endpoint.time());
                    *self = Self::Asking(async move { is_life(&http.send(request).await) }.boxed());
                }
                Self::Asking(answered) => {
                    let alive = answered.await;
                    *self = Self::Done;
                    if alive {
                        return;
                    }
                }
                Self::Done => pending().await,
            }
        }
    }
}

//! One poll after the other.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use ::pubnub::core::{PubNubError, Transport as _, TransportResponse};
use async_trait::async_trait;
use futures_util::future::{BoxFuture, FutureExt as _, pending};
use tokio::time::{Instant, Sleep, sleep};
use tracing::{debug, trace};

use super::answer::{self, Answer, Message};
use super::http::HttpTransport;
use super::pace::Pace;
use super::request::Endpoint;
use crate::clock::wall_now;
use crate::error::Result;
use crate::transport::{Cursor, Frame, Link, LinkEvent, SuspectedLoss};

/// A first poll that is not answered by then is being held, or is lost.
const PROBE_AFTER: Duration = Duration::from_millis(250);

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
    answer: BoxFuture<'static, Result<TransportResponse, PubNubError>>,
}

pub(super) struct PubNubLink {
    http: HttpTransport,
    tuning: Tuning,
    endpoint: Endpoint,
    cursor: Cursor,
    /// When the last good answer came, on this link or the one before.
    last_good: Option<Instant>,
    /// Whether something failed since. A new link that continues another starts
    /// so: that one ended for a reason.
    faulted: bool,
    pace: Pace,
    pause: Option<Pin<Box<Sleep>>>,
    poll: Option<Poll>,
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
        Self {
            http,
            tuning,
            endpoint,
            cursor,
            last_good,
            faulted: true,
            pace: Pace::default(),
            pause: None,
            poll: None,
            probe: Probe::Unarmed,
        }
    }

    /// Takes the answer of the poll sent at `sent_at`. No await in here: what the
    /// answer held is either returned or still to be asked for.
    fn take(&mut self, answer: Result<TransportResponse, PubNubError>, sent_at: Instant) -> Result<LinkEvent> {
        let held = sent_at.elapsed();
        let read = match answer {
            Ok(response) => {
                let body = response.body.as_deref().unwrap_or_default();
                answer::read(response.status, &response.headers, body, wall_now())
            }
            Err(error) => Err(answer::failure(&error)),
        };
        let Answer { frames, cursor } = read.inspect_err(|error| {
            debug!(kind = ?error.kind(), status = error.status(), "poll failed");
            self.faulted = true;
        })?;
        debug!(events = frames.len(), ?held, "poll answered");

        // The pause ends when the poll was sent: from then on the service held it
        // and would have answered.
        let last_good = self.last_good.replace(Instant::now()).filter(|_| self.faulted);
        self.faulted = false;
        let pause = last_good.map(|last_good| sent_at.saturating_duration_since(last_good));
        let suspected_loss = suspect(self.tuning, pause, frames.len());
        let progress = !frames.is_empty() && cursor != self.cursor;
        self.pause = self.pace.after(held, progress).map(|gap| Box::pin(sleep(gap)));
        self.cursor = cursor.clone();
        Ok(LinkEvent::Batch { frames: frames.into_iter().map(stamped()).collect(), cursor, suspected_loss })
    }
}

/// Puts the same time on every frame of an answer.
fn stamped() -> impl FnMut(Message) -> Frame {
    let received_at = wall_now();
    move |Message { body, position }| {
        let frame = Frame::new(body, received_at).at(position);
        trace!(weight = frame.weight(), "frame");
        frame
    }
}

/// Why events may be missing: `pause` since the last good answer, given only when
/// something failed since.
fn suspect(tuning: Tuning, pause: Option<Duration>, events: usize) -> Option<SuspectedLoss> {
    match pause {
        Some(pause) if pause > tuning.buffer_age => Some(SuspectedLoss::BufferAged { pause }),
        _ if events >= tuning.buffer_size => Some(SuspectedLoss::BufferFull { events }),
        _ => None,
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
            Poll { sent_at: Instant::now(), answer: async move { http.send(request).await }.boxed() }
        });
        tokio::select! {
            biased;
            answer = &mut poll.answer => {
                let sent_at = poll.sent_at;
                self.poll = None;
                self.probe = Probe::Done;
                self.take(answer, sent_at)
            }
            () = self.probe.alive(&self.http, &self.endpoint) => Ok(LinkEvent::Alive),
        }
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

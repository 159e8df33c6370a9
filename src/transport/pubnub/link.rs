//! Sends one poll after the other.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use ::pubnub::core::{PubNubError, Transport as _, TransportResponse};
use async_trait::async_trait;
use futures_util::future::{BoxFuture, FutureExt as _, pending};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tracing::{Instrument as _, Span, debug, trace};

use super::answer::{self, Answer, Damaged, Message, Read};
use super::burst::Burst;
use super::http::HttpTransport;
use super::pace::Pace;
use super::request::Endpoint;
use crate::control::Cursor;
use crate::error::{Error, ErrorKind, Result};
use crate::policy::doubled;
use crate::telemetry::Polled;
use crate::transport::{Coverage, Frame, Link, LinkBatch, LinkEvent, PossibleLoss};

/// A first poll without an answer by then is held by the service, or lost.
const PROBE_AFTER: Duration = Duration::from_millis(250);
/// How often a link notes, during a poll, that the process is running. An answer that is read long after the last note
/// may have waited in this machine for as long (found 1.3).
const AWAKE_EVERY: Duration = Duration::from_secs(5);

/// The deadline for the service's time or present position; without an answer the path is dead.
const PRESENT_WITHIN: Duration = Duration::from_secs(2);
/// The service answers a poll at once if messages are waiting (pubnub.md §3.2): if it is alive and has held a poll for
/// this long, none are.
const HELD: Duration = Duration::from_millis(500);
/// The first poll of a link is repeated sooner: only that proves on a quiet channel that nothing is missing. An address
/// may change more often than other polls are repeated.
const FIRST_AGAIN: Duration = Duration::from_secs(15);
/// How many times an answer is requested before its readable part must do (found 6.5), and the waits in between.
const DAMAGED_TRIES: u32 = 5;
const DAMAGED_PAUSE: Duration = Duration::from_millis(100);

/// Assumptions about the service's buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tuning {
    pub(super) buffer_size: usize,
    pub(super) buffer_age: Duration,
    /// A poll without a byte of an answer by then is repeated: its connection may be dead, and repeating it from the
    /// same position loses nothing. The service would hold it for 280 s.
    pub(super) ask_again: Duration,
}

/// A poll in flight. The link owns it, so that a dropped `next` neither aborts it nor repeats it.
struct Poll {
    sent_at: Instant,
    /// When this process was last known to run while the poll was held.
    awake_at: Instant,
    /// When part of its answer arrived first, so that it is not held.
    begun: Arc<OnceLock<Instant>>,
    span: Span,
    /// `None`: the service still holds it.
    answer: BoxFuture<'static, Result<Option<TransportResponse>, PubNubError>>,
}

/// The result of an answer.
enum Taken {
    Event(LinkEvent),
    /// The same poll must be repeated.
    Again,
    /// The answer names no position; only the service's time can serve as the next one.
    Behind(Damaged, Instant),
}

/// The subscription is about to end or has moved, and needs to know whether something is unread.
struct Check {
    asked: Instant,
    /// A poll that was held for so long has nothing to wait for.
    held: Duration,
    /// The service's present position, if it arrives in time; `None` once it did.
    present: Option<BoxFuture<'static, Option<Cursor>>>,
}

impl Check {
    /// The present position, if the service is alive; pends for ever once that is known. Cancel safe.
    async fn present(&mut self) -> Option<Cursor> {
        match &mut self.present {
            Some(answer) => {
                let present = answer.await;
                self.present = None;
                // The answer to a poll takes as long as this one did.
                self.held = HELD + self.asked.elapsed();
                present
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
    /// The region that answered last.
    region: Option<String>,
    /// Everything that was published before this instant has been read.
    last_good: Option<Instant>,
    burst: Burst,
    pace: Pace,
    pause: Option<Pin<Box<Sleep>>>,
    poll: Option<Poll>,
    /// Whether no poll was answered or repeated yet.
    is_first: bool,
    check: Option<Check>,
    probe: Probe,
    /// The request for the present position that precedes a repeated poll, and when it was sent: its answer names the
    /// region, which a held poll does not. Then how long the poll has to be held to prove anything, and until when.
    ahead: Option<(Instant, BoxFuture<'static, Option<Cursor>>)>,
    hold: Option<Duration>,
    held_by: Option<Instant>,
    /// How many answers in a row from this position were damaged.
    damaged: u32,
    /// Whether the answer before from this position had null instead of a list of messages.
    null_before: bool,
    /// The event to report next.
    next: Option<LinkEvent>,
    /// Whether the present poll repeats one that got no byte of an answer.
    asked_again: bool,
    /// Whether a time request since then got no answer.
    unproven: bool,
    /// A damaged answer, and the time request whose answer gives the next position.
    behind: Option<(Damaged, Instant, BoxFuture<'static, Option<Cursor>>)>,
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
        // A cursor with a region came from an answer: this link continues one that failed.
        let burst = Burst::new(tuning.buffer_size, cursor.detail().is_some());
        Self {
            http,
            tuning,
            burst,
            endpoint,
            region: cursor.detail().map(str::to_owned),
            cursor,
            last_good,
            pace: Pace::default(),
            pause: None,
            poll: None,
            is_first: true,
            check: None,
            probe: Probe::Unarmed,
            ahead: None,
            hold: None,
            held_by: None,
            damaged: 0,
            null_before: false,
            next: None,
            asked_again: false,
            unproven: false,
            behind: None,
        }
    }

    /// The present position, if the service answers soon.
    fn present(&self) -> BoxFuture<'static, Option<Cursor>> {
        let (http, request) = (self.http.clone(), self.endpoint.present());
        let present = async move {
            let response = timeout(PRESENT_WITHIN, http.send(request)).await.ok()?.ok()?;
            let body = response.body.as_deref().unwrap_or_default();
            match answer::read(response.status, &response.headers, body).ok()? {
                Read::Whole(Answer { cursor, .. }) => Some(cursor),
                Read::Damaged(_) => None,
            }
        };
        present.boxed()
    }

    /// A possible loss, if the present position, requested at `asked`, is of another region. A poll that is held says
    /// nothing about the region.
    fn moved(&mut self, present: &Cursor, asked: Instant) -> Option<LinkEvent> {
        self.moves_to(present).then(|| {
            let batch = LinkBatch::new(Vec::new(), self.cursor.clone(), Coverage::Cut { asked });
            LinkEvent::Batch(batch.with_possible_loss(Some(PossibleLoss::RegionChanged)))
        })
    }

    /// Whether another region answers than before: the only sign that it took over, without all events of the former
    /// one (pubnub.md §7, row 8).
    fn moves_to(&mut self, cursor: &Cursor) -> bool {
        let Some(now) = cursor.detail() else { return false };
        self.region.replace(now.to_owned()).is_some_and(|before| before != now)
    }

    /// The path to the service is dead.
    fn unanswered(&mut self) -> Error {
        self.burst.fault();
        Error::new(ErrorKind::Timeout, "PubNub answers neither a poll nor a time request")
    }

    /// Processes the answer of the poll sent at `sent_at`. Contains no await: the answer is either returned as a whole
    /// or requested again.
    fn take(
        &mut self,
        answer: Result<TransportResponse, PubNubError>,
        sent_at: Instant,
        awake_at: Instant,
        begun: Option<Instant>,
        span: &Span,
    ) -> Result<Taken> {
        let held = sent_at.elapsed();
        // A large answer over a slow path takes long, though it waited for nothing.
        let began = begun.map_or(held, |begun| begun.saturating_duration_since(sent_at));
        let read = match answer {
            Ok(response) => {
                let body = response.body.as_deref().unwrap_or_default();
                answer::read(response.status, &response.headers, body)
            }
            Err(error) => Err(answer::failure(&error)),
        };
        let read = read.inspect_err(|error| {
            debug!(kind = ?error.kind(), status = error.status(), "poll failed");
            Polled::PubNub.failed(span, error);
            self.burst.fault();
        })?;
        let Answer { frames, cursor, is_null } = match read {
            Read::Whole(answer) => answer,
            Read::Damaged(damaged) => {
                let error = Error::new(ErrorKind::Protocol, "part of PubNub's answer cannot be read");
                Polled::PubNub.failed(span, &error);
                return Ok(self.take_damaged(damaged, sent_at));
            }
        };
        Polled::PubNub.answered(span, frames.len());
        // Behind another position a null instead of a list may hide messages. A server that writes it for an empty list
        // does so again.
        if is_null && cursor != self.cursor && !std::mem::replace(&mut self.null_before, true) {
            debug!("the list of messages is null");
            self.burst.fault();
            self.pause = Some(Box::pin(sleep(DAMAGED_PAUSE)));
            return Ok(Taken::Again);
        }
        (self.damaged, self.null_before) = (0, false);
        debug!(events = frames.len(), ?held, "poll answered");

        // The pause ends when the poll was sent: from then on the service held it and would have answered. The next
        // pause begins when this answer arrived, not when a suspended process got to read it.
        let now = Instant::now();
        let stood_still = now.saturating_duration_since(awake_at) > AWAKE_EVERY * 2;
        if stood_still {
            self.burst.fault();
        }
        let came = if stood_still { awake_at } else { now };
        let pause = self.last_good.replace(came).map(|good| sent_at.saturating_duration_since(good));
        let before = self.located(&cursor);
        let is_elsewhere = self.moves_to(&cursor);
        let (possible_loss, coverage) = match pause.filter(|pause| *pause > self.tuning.buffer_age) {
            Some(pause) => {
                self.burst.fault();
                (Some(PossibleLoss::BufferAged { pause }), Coverage::Cut { asked: sent_at })
            }
            None if is_elsewhere => {
                self.burst.fault();
                (Some(PossibleLoss::RegionChanged), Coverage::Cut { asked: sent_at })
            }
            None => {
                let (events, cut) = self.burst.answered(frames.len(), began);
                let coverage = if cut { Coverage::Cut { asked: sent_at } } else { Coverage::Whole { asked: sent_at } };
                (events.map(|events| PossibleLoss::BufferFull { events }), coverage)
            }
        };
        let progress = !frames.is_empty() && cursor != self.cursor;
        self.pause = self.pace.after(held, progress).map(|gap| Box::pin(sleep(gap)));
        self.cursor = cursor.clone();
        let frames: Vec<Frame> = frames.into_iter().map(stamped(self.http.now())).collect();
        let before = before.filter(|_| !frames.is_empty());
        let batch = LinkEvent::Batch(LinkBatch::new(frames, cursor, coverage).with_possible_loss(possible_loss));
        Ok(Taken::Event(match before {
            Some(before) => {
                self.next = Some(batch);
                LinkEvent::At(before)
            }
            None => batch,
        }))
    }

    /// The present position, with the region of the first answer that names one: a process that continues from before
    /// that answer recognizes another region by it.
    fn located(&self, answered: &Cursor) -> Option<Cursor> {
        let region = answered.detail().filter(|_| self.region.is_none())?;
        Some(self.cursor.clone().with_detail(Some(region.to_owned())))
    }

    /// A held poll proves that nothing newer than its position exists, as an empty answer would, which takes 280 s
    /// (pubnub.md §3.2, §3.3): this poll was sent at `sent_at`, and the service, which had just answered, would have
    /// answered it by now. An event may have left the service's buffer before the poll arrived: a possible loss, which
    /// no event need reveal. `None` where this process was suspended and may not have read what is there.
    fn held(&mut self, sent_at: Instant, due: Instant) -> Option<LinkEvent> {
        let stood_still = due.elapsed() > AWAKE_EVERY;
        if stood_still {
            return None;
        }
        let pause = self.last_good.replace(sent_at).map(|good| sent_at.saturating_duration_since(good));
        let pause = pause.filter(|pause| *pause > self.tuning.buffer_age);
        self.burst.answered(0, HELD);
        let (coverage, possible_loss) = match pause {
            None => (Coverage::Whole { asked: sent_at }, None),
            Some(pause) => (Coverage::Cut { asked: sent_at }, Some(PossibleLoss::BufferAged { pause })),
        };
        Some(LinkEvent::Batch(
            LinkBatch::new(Vec::new(), self.cursor.clone(), coverage).with_possible_loss(possible_loss),
        ))
    }

    /// Repeats the poll, since the next answer may be better; after some attempts moves past the answer, with its
    /// readable part.
    fn take_damaged(&mut self, damaged: Damaged, asked: Instant) -> Taken {
        self.burst.fault();
        self.damaged += 1;
        debug!(tries = self.damaged, messages = damaged.frames.len(), "part of PubNub's answer cannot be read");
        if self.damaged < DAMAGED_TRIES {
            self.pause = Some(Box::pin(sleep(doubled(DAMAGED_PAUSE, self.damaged, Duration::MAX))));
            return Taken::Again;
        }
        match damaged.cursor.clone().filter(|cursor| *cursor != self.cursor) {
            Some(cursor) => Taken::Event(self.go_on(damaged, cursor, asked)),
            None => Taken::Behind(Damaged { has_all: false, ..damaged }, asked),
        }
    }

    fn go_on(&mut self, Damaged { frames, has_all, .. }: Damaged, cursor: Cursor, asked: Instant) -> LinkEvent {
        (self.damaged, self.null_before) = (0, false);
        let is_elsewhere = self.moves_to(&cursor);
        self.cursor = cursor.clone();
        let frames: Vec<Frame> = frames.into_iter().map(stamped(self.http.now())).collect();
        // The loss is known now, so nothing before it remains uncertain.
        self.last_good = Some(Instant::now());
        let (coverage, possible_loss) = match (has_all, is_elsewhere) {
            (true, false) => (Coverage::Whole { asked }, None),
            (true, true) => (Coverage::Cut { asked }, Some(PossibleLoss::RegionChanged)),
            (false, _) => (Coverage::Cut { asked }, Some(PossibleLoss::Unreadable)),
        };
        LinkEvent::Batch(LinkBatch::new(frames, cursor, coverage).with_possible_loss(possible_loss))
    }
}

/// Stamps every frame of an answer with the same time.
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
        if let Some(next) = self.next.take() {
            return Ok(next);
        }
        loop {
            if let Some(pause) = &mut self.pause {
                pause.await;
                self.pause = None;
            }
            if let Some((_, _, time)) = &mut self.behind {
                let time = time.await;
                let cursor = time.filter(|cursor| *cursor != self.cursor).ok_or_else(|| {
                    self.burst.fault();
                    Error::new(ErrorKind::Protocol, "PubNub's answer cannot be read, and the next position is unknown")
                });
                let behind = self.behind.take();
                let cursor = cursor?;
                if let Some((damaged, asked, _)) = behind {
                    return Ok(self.go_on(damaged, cursor, asked));
                }
            }
            if let Some((asked, present)) = &mut self.ahead {
                let (asked, present, took) = (*asked, present.await, asked.elapsed());
                self.ahead = None;
                if let Some(present) = present {
                    // The poll follows over a connection that works, and needs no time request beside it. Its answer
                    // would take about as long. In another region it would be held although events are missing.
                    (self.unproven, self.probe) = (false, Probe::Done);
                    self.hold = Some((took * 3).max(HELD));
                    let located = self.located(&present);
                    if let Some(event) = self.moved(&present, asked) {
                        return Ok(event);
                    }
                    if let Some(located) = located {
                        self.cursor = located.clone();
                        self.next = Some(LinkEvent::At(located));
                    }
                    return Ok(LinkEvent::Alive);
                }
            }
            let hold = self.hold.take();
            let held_by = &mut self.held_by;
            let poll = self.poll.get_or_insert_with(|| {
                let (http, request) = (self.http.clone(), self.endpoint.subscribe(&self.cursor, self.http.deadline()));
                let held = self.tuning.ask_again;
                let held = if self.is_first { held.min(FIRST_AGAIN) } else { held };
                let now = Instant::now();
                *held_by = hold.map(|hold| now + hold);
                let begun = Arc::new(OnceLock::new());
                let span = Polled::PubNub.span();
                let answer = {
                    let begun = begun.clone();
                    async move { http.poll(request, held, &begun).await }.instrument(span.clone()).boxed()
                };
                Poll { sent_at: now, awake_at: now, begun, span, answer }
            });
            // Then no message is waiting; this needs the service's answer beside the poll.
            let held_by =
                self.check.as_ref().filter(|check| check.present.is_none()).map(|check| poll.sent_at + check.held);
            tokio::select! {
                biased;
                answer = &mut poll.answer => {
                    let (sent_at, awake_at, begun) = (poll.sent_at, poll.awake_at, poll.begun.get().copied());
                    let span = poll.span.clone();
                    self.poll = None;
                    self.probe = Probe::Done;
                    self.held_by = None;
                    self.is_first = false;
                    let taken = match answer {
                        // Neither the poll nor the time request was answered.
                        Ok(None) if self.unproven => {
                            let error = self.unanswered();
                            Polled::PubNub.failed(&span, &error);
                            return Err(error);
                        }
                        Ok(None) => {
                            self.probe = Probe::Unarmed;
                            self.asked_again = true;
                            self.ahead = Some((Instant::now(), self.present()));
                            continue;
                        }
                        Ok(Some(response)) => self.take(Ok(response), sent_at, awake_at, begun, &span)?,
                        Err(error) => self.take(Err(error), sent_at, awake_at, begun, &span)?,
                    };
                    (self.asked_again, self.unproven) = (false, false);
                    match taken {
                        Taken::Event(event) => return Ok(event),
                        Taken::Again => {}
                        Taken::Behind(damaged, asked) => {
                            let (http, request) = (self.http.clone(), self.endpoint.time());
                            let time = async move {
                                let response = http.send(request).await.ok()?;
                                answer::time(response.status, response.body.as_deref().unwrap_or_default())
                            };
                            self.behind = Some((damaged, asked, time.boxed()));
                        }
                    }
                }
                proven = self.probe.proven(&self.http, &self.endpoint) => match proven {
                    true => {
                        self.unproven = false;
                        return Ok(LinkEvent::Alive);
                    }
                    // One poll may fail because of a proxy: the poll's own result will show.
                    false if self.asked_again => return Err(self.unanswered()),
                    false => self.unproven = true,
                },
                present = present(&mut self.check), if self.check.is_some() => match (present, &self.check) {
                    (Some(present), Some(Check { asked, .. })) => {
                        let asked = *asked;
                        (self.poll, self.held_by) = (None, None);
                        if let Some(event) = self.moved(&present, asked) {
                            return Ok(event);
                        }
                    }
                    _ => {
                        self.check = None;
                        return Err(Error::new(ErrorKind::Timeout, "PubNub did not answer a time request during a held poll"));
                    }
                },
                () = sleep_until(held_by.unwrap_or(poll.sent_at)), if held_by.is_some() && poll.begun.get().is_none() => {
                    // Its answer may have begun meanwhile, and holds what was unread.
                    if poll.begun.get().is_none() {
                        self.check = None;
                        return Ok(LinkEvent::Answered { asked: poll.sent_at });
                    }
                }
                () = sleep_until(self.held_by.unwrap_or(poll.sent_at)), if self.held_by.is_some() => {
                    let due = self.held_by.take().unwrap_or(poll.sent_at);
                    let (sent_at, begun) = (poll.sent_at, poll.begun.get().is_some());
                    if !begun && let Some(event) = self.held(sent_at, due) {
                        return Ok(event);
                    }
                }
                () = sleep_until(poll.awake_at + AWAKE_EVERY) => poll.awake_at = Instant::now(),
            }
        }
    }

    /// Asks for the present position, and after its answer asks again from the same position: the held poll's
    /// connection may be dead, while the one that was used last, which the next request takes, has just proved to be
    /// alive.
    fn check(&mut self) {
        self.check = Some(Check { asked: Instant::now(), held: HELD, present: Some(self.present()) });
    }

    /// Aborts the poll and sends a leave to the service, within 2 s. The service needs neither: a closed poll is a
    /// clean end, so a failed leave is not an error.
    async fn close(self: Box<Self>) {
        let Self { http, endpoint, poll, probe, .. } = *self;
        drop((poll, probe));
        match http.send(endpoint.leave()).await {
            Ok(response) => debug!(status = response.status, "left"),
            Err(_) => debug!("no answer to the leave request"),
        }
    }
}

async fn present(check: &mut Option<Check>) -> Option<Cursor> {
    match check {
        Some(check) => check.present().await,
        None => pending().await,
    }
}

/// Whether `answer` to a time request proves that the service is alive. A proxy or a gateway in between answers
/// differently, which proves only itself.
pub(super) fn is_life(answer: &Result<TransportResponse, PubNubError>) -> bool {
    answer.as_ref().is_ok_and(|response| (200..300).contains(&response.status))
}

/// Checks that the service is alive, for each poll that is not answered soon. A poll from an old position is held
/// silently, which looks the same as a dead path.
enum Probe {
    Unarmed,
    Waiting(Pin<Box<Sleep>>),
    Asking(BoxFuture<'static, Result<TransportResponse, PubNubError>>),
    Done,
}

impl Probe {
    /// Returns `true` when the service's answer proved that it is alive, `false` when no answer arrived; otherwise
    /// pends for ever, since the poll will show the cause. Cancel safe.
    async fn proven(&mut self, http: &HttpTransport, endpoint: &Endpoint) -> bool {
        loop {
            match self {
                Self::Unarmed => *self = Self::Waiting(Box::pin(sleep(PROBE_AFTER))),
                Self::Waiting(delay) => {
                    delay.await;
                    let (http, request) = (http.clone(), endpoint.time());
                    *self = Self::Asking(async move { http.send(request).await }.boxed());
                }
                Self::Asking(answer) => {
                    let answer = answer.await;
                    *self = Self::Done;
                    if answer.is_err() || is_life(&answer) {
                        return answer.is_ok();
                    }
                }
                Self::Done => pending().await,
            }
        }
    }
}

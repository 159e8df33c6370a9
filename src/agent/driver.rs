//! The polling task: runs the machine's actions and reports their results to it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::{Instrument as _, Span};

use super::answer::{self, Batch, Unread, session_exists};
use super::delivery::{AgentDelivery, EndReason, SessionEnded};
use super::desk::Roster;
use super::event::{AgentEvent, AgentNotification, AgentOrigin, RemoteEnd};
use super::machine::{self, Answer, Doubt, EndSeen, Machine, Next, Outcome, Report, SessionOrigin};
use super::proven::{Made, Proven};
use super::queued_batch::QueuedBatch;
use super::shared::{AgentCursor, Shared, StreamStart};
use crate::auth::AccessToken;
use crate::batches::Sender;
use crate::delivery::{Gap, Resumed, Undecodable};
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::status::Phase;
use crate::telemetry::{self, AgentLifecycle, Polled};

/// A queued batch's overhead in bytes.
const BATCH_OVERHEAD: usize = 256;

pub(crate) struct Driver {
    shared: Arc<Shared>,
    machine: Machine,
    cursor: AgentCursor,
    /// The number of this stream.
    stream: u64,
    /// The previous stream was dropped with unread events that the service does not send again.
    discarded: bool,
    batches: u64,
    roster: Roster,
    out: Sender<QueuedBatch>,
    refused: Option<AccessToken>,
    /// Where a gap begins.
    proven: Proven,
    last_error: Option<Error>,
    ended: Option<SessionEnded>,
    meter: AgentLifecycle,
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, start: &StreamStart, out: Sender<QueuedBatch>) -> Self {
        let meter = AgentLifecycle::new(shared.status.borrow().phase);
        Self {
            machine: Machine::new(shared.settings.rules, start.origin, start.doubt),
            cursor: start.cursor.clone(),
            stream: start.stream,
            discarded: start.discarded,
            batches: 0,
            roster: start.roster.clone(),
            out,
            refused: None,
            proven: start.proven.clone(),
            last_error: None,
            ended: None,
            meter,
            shared,
        }
    }

    pub(crate) async fn run(mut self) {
        if self.discarded {
            let report = self.machine.discarded();
            self.deliver(&report, Vec::new(), None, None, 0);
        }
        loop {
            self.check_end_requested();
            let next = self.machine.next(now());
            if !matches!(next, Next::Nothing(_)) {
                self.tell_status();
            }
            match next {
                Next::Wait(until) => tokio::time::sleep_until(until.into()).await,
                Next::Poll { timeout } => self.poll(timeout).await,
                Next::Refresh => self.refresh().await,
                Next::Establish { may_start } => self.establish(may_start).await,
                Next::Nothing(outcome) => return self.finish(outcome),
            }
        }
    }

    async fn poll(&mut self, ask: Duration) {
        if !self.out.has_room(0) {
            let limit = self.shared.settings.queue_bytes;
            tracing::warn!(limit, "the reader is slow: polling is paused, and the session may end meanwhile");
            self.out.room().await;
        }
        let within = ask.saturating_add(self.shared.settings.margin);
        let token = match self.shared.api.token(within).await {
            Ok(token) => token,
            Err(error) => return self.on_transient_error(error),
        };
        let span = Polled::Agent.span();
        let events = self.poll_with(token, ask, within).instrument(span.clone()).await;
        match &self.last_error {
            Some(error) => Polled::Agent.failed(&span, error),
            None => Polled::Agent.answered(&span, events),
        }
    }

    /// Polls, and takes in the answer; how many events it had. `last_error` is the poll's from then on.
    async fn poll_with(&mut self, token: AccessToken, ask: Duration, within: Duration) -> usize {
        let started = now();
        self.proven.asked(self.shared.settings.moment());
        // Until its answer is read, since this task may be dropped meanwhile.
        self.doubt(Doubt::Unanswered.max(self.machine.doubt()));
        let polled = self.shared.api.poll(self.cursor.secret(), &token, ask, within).await;
        let elapsed = now().saturating_duration_since(started);
        let answer = match polled {
            Ok(answer) => answer,
            Err(error) => {
                let report = self.report_to_machine(answer::no_answer(&error), elapsed);
                tracing::debug!(%error, "poll failed");
                self.last_error = Some(error);
                self.deliver(&report, Vec::new(), None, None, 0);
                return 0;
            }
        };
        let means = answer::classify(&answer);
        if (answer.status == http::StatusCode::OK || means == Answer::Quiet)
            && let Some(date) = answer::date(&answer)
        {
            self.proven.dated(tokio::time::Instant::now(), date);
        }
        if answer.status == http::StatusCode::OK {
            return self.batch(&answer, elapsed);
        }
        if means != Answer::Quiet {
            let error = answer::error("poll for events", &answer, &[self.cursor.secret(), token.secret()]);
            tracing::debug!(%error, "poll refused");
            self.last_error = Some(error);
        }
        if means == Answer::Over {
            let message = answer::words(&answer, &[self.cursor.secret(), token.secret()]);
            self.ended = Some(SessionEnded { reason: EndReason::Conflict, message });
        }
        if means == Answer::Unauthorized {
            self.refused = Some(token);
        }
        let report = self.report_to_machine(means, elapsed);
        self.deliver(&report, Vec::new(), None, None, 0);
        if means == Answer::Quiet {
            self.good(&answer, Made::Quiet { timeout: ask });
            let mut start = self.shared.stream_start();
            if start.stream == self.stream {
                start.proven = self.proven.clone();
            }
        }
        0
    }

    /// How many events the answer has.
    fn batch(&mut self, answer: &crate::http::Answer, elapsed: Duration) -> usize {
        let batch = match Batch::read(&answer.body) {
            Ok(batch) => batch,
            Err(Unread::Garbled(reason)) => {
                self.undecodable(answer, reason, elapsed);
                return 0;
            }
            Err(Unread::TooMany) => {
                let report = self.report_to_machine(Answer::TooLarge, elapsed);
                let error = Error::new(ErrorKind::Protocol, "the batch exceeds the limit of events");
                self.last_error = Some(error.with_status(answer.status.as_u16()));
                self.deliver(&report, Vec::new(), None, None, 0);
                return 0;
            }
        };
        let count = batch.events.len();
        let at = self.shared.settings.system.now();
        self.batches += 1;
        let number = self.batches;
        let read = |(index, raw)| AgentNotification::new(raw, number, index, at);
        let mut events: Vec<AgentNotification> = batch.events.into_iter().enumerate().map(read).collect();
        // It opens the following events, but the service need not send it first.
        events.sort_by_key(|event| !matches!(event.event(), AgentEvent::AgentSessionStart(_)));
        let facts = machine::Batch {
            moves: batch.next.is_some(),
            new_id: batch.next.as_ref().is_some_and(|next| next != self.cursor.secret()),
            has_events: !events.is_empty(),
            has_start: matches!(events.first().map(AgentNotification::event), Some(AgentEvent::AgentSessionStart(_))),
            missed: answer::says_missed(&answer.headers),
            end: events.iter().filter_map(|event| end_of(event.event())).max(),
        };
        let newest = events.iter().filter_map(AgentNotification::happened_at).max();
        let report = self.ask_machine(Answer::Batch(facts), elapsed);
        if report.end_refused {
            let mut start = self.shared.stream_start();
            start.refused_ends += 1;
            self.shared.ended_here.store(false, Ordering::Release);
        }
        if matches!(self.machine.next(now()), Next::Nothing(Outcome::Ended)) {
            self.ended = events.iter().rev().find_map(|event| ended_by(event.event()));
        }
        let gone = if report.is_snapshot {
            events = events.into_iter().map(|event| event.with_origin(AgentOrigin::Snapshot)).collect();
            self.roster.reconcile(&events)
        } else {
            self.roster.take_in(&events);
            Vec::new()
        };
        let weight = events.len() * (size_of::<AgentNotification>() + size_of::<Result<AgentDelivery>>());
        let mut items: Vec<AgentDelivery> =
            events.into_iter().map(|it| AgentDelivery::Notification(Box::new(it))).collect();
        if !gone.is_empty() {
            items.push(AgentDelivery::ContactsGone(gone));
        }
        // A gap before this answer begins where the previous answer proved that everything was read.
        let markers = self.markers(&report);
        self.good(answer, Made::Batch { newest });
        self.cursor = batch.next.map_or_else(|| self.cursor.clone(), AgentCursor::new);
        self.send(markers, items, None, Some(self.cursor.clone()), answer.body.len() + weight);
        count
    }

    fn undecodable(&mut self, answer: &crate::http::Answer, reason: String, elapsed: Duration) {
        let transient = machine::Transient { doubt: Doubt::Unanswered, ..machine::Transient::default() };
        let report = self.report_to_machine(Answer::Transient(transient), elapsed);
        self.last_error = Some(Error::new(ErrorKind::Protocol, reason.clone()).with_status(answer.status.as_u16()));
        let raw = String::from_utf8_lossy(&answer.body).into_owned().into_boxed_str();
        let odd =
            AgentDelivery::Undecodable(Undecodable { reason, raw, received_at: self.shared.settings.system.now() });
        self.deliver(&report, vec![odd], None, None, answer.body.len());
    }

    async fn refresh(&mut self) {
        let Some(refused) = self.refused.clone() else { return self.machine.refreshed() };
        match self.shared.api.refresh(&refused).await {
            Ok(_) => {
                self.refused = None;
                self.machine.refreshed();
            }
            Err(error) => self.on_transient_error(error),
        }
    }

    async fn establish(&mut self, may_start: bool) {
        let api = &self.shared.api;
        let station = &self.shared.settings.station;
        let established = match api.join(station.agent()).await {
            Ok(id) => Ok((id, SessionOrigin::Joined)),
            Err(error) if may_start && matches!(error.status(), Some(404 | 409)) => match api.start(station).await {
                Ok(id) => Ok((id, SessionOrigin::Started)),
                // Another session started in between: the next attempt can join it.
                Err(error) if session_exists(&error) => Err(error.with_disposition(Disposition::Retry { after: None })),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match established {
            Ok((id, origin)) => {
                tracing::info!(started = origin == SessionOrigin::Started, "session re-established");
                let cursor = AgentCursor::new(id);
                if !self.adopt(cursor.clone(), origin) {
                    return;
                }
                self.machine.established(origin);
                self.doubt(self.machine.doubt());
                if origin == SessionOrigin::Started {
                    // The contacts of the previous session do not exist in this one.
                    let gone = self.roster.drain();
                    if !gone.is_empty() {
                        self.deliver(&Report::default(), vec![AgentDelivery::ContactsGone(gone)], None, None, 0);
                    }
                }
                if self.shared.ended_here.load(Ordering::Acquire) {
                    // The end was requested meanwhile: the new session is an orphan.
                    if let Err(error) = self.shared.api.end(cursor.secret(), &[]).await {
                        tracing::warn!(%error, "failed to end an orphaned session");
                    }
                }
            }
            Err(error) => self.on_transient_error(error),
        }
    }

    /// A request other than a poll failed.
    fn on_transient_error(&mut self, error: Error) {
        tracing::debug!(%error, "could not obtain a token or session");
        let is_refusal = matches!(error.kind(), ErrorKind::Auth | ErrorKind::Permission);
        match answer::passing(&error) {
            Some(after) => self.machine.on_transient_error(after, now(), self.shared.settings.system.jitter()),
            // The cause may have passed at the next attempt, unless the login itself is refused.
            None if is_refusal && !error.is_login_refused() => {
                self.machine.on_transient_error(None, now(), self.shared.settings.system.jitter())
            }
            None => self.machine.refused(),
        }
        self.last_error = Some(error);
    }

    /// Adopts the id of a joined or started session for the next poll. `false` if another stream has taken over.
    fn adopt(&mut self, next: AgentCursor, origin: SessionOrigin) -> bool {
        let mut start = self.shared.stream_start();
        if start.stream != self.stream {
            return false;
        }
        (start.cursor, start.origin) = (next.clone(), origin);
        self.cursor = next;
        true
    }

    fn report_to_machine(&mut self, answer: Answer, elapsed: Duration) -> Report {
        let report = self.ask_machine(answer, elapsed);
        self.doubt(self.machine.doubt());
        report
    }

    fn ask_machine(&mut self, answer: Answer, elapsed: Duration) -> Report {
        self.check_end_requested();
        self.machine.answered(answer, elapsed, now(), self.shared.settings.system.jitter())
    }

    fn check_end_requested(&mut self) {
        if self.shared.ended_here.load(Ordering::Acquire) {
            self.machine.ended_here();
        }
    }

    /// Records for the next stream whether an answer may have been lost.
    fn doubt(&self, doubt: Doubt) {
        let mut start = self.shared.stream_start();
        if start.stream == self.stream {
            start.doubt = doubt;
        }
    }

    fn good(&mut self, answer: &crate::http::Answer, made: Made) {
        // A quiet answer after one that may be lost does not prove that the lost one was empty: a gap that is noticed
        // later begins before it.
        if self.machine.doubt() == Doubt::No {
            self.proven.answered(answer::date(answer), made);
        }
        self.last_error = None;
    }

    /// Delivers the gap, the events, and the end of the gap.
    fn deliver(
        &mut self,
        report: &Report,
        items: Vec<AgentDelivery>,
        last: Option<Result<AgentDelivery>>,
        after: Option<AgentCursor>,
        bytes: usize,
    ) {
        let markers = self.markers(report);
        self.send(markers, items, last, after, bytes);
    }

    /// The beginning and the end of a gap.
    fn markers(&self, report: &Report) -> [Option<AgentDelivery>; 2] {
        let now = self.shared.settings.moment();
        let gap = report.gap.clone().map(|(cause, certainty)| {
            tracing::info!(cause = cause.as_str(), certainty = certainty.as_str(), "events may be missing");
            let since = self.proven.since(now);
            AgentDelivery::Gap(Gap { cause, certainty, since, until: None, lost: None, filters: Vec::new() })
        });
        let resumed = report.resumed.then(|| {
            let at = self.proven.time(now);
            AgentDelivery::Resumed(Resumed { complete: false, at, recreated: None, unrecovered: Vec::new() })
        });
        [gap, resumed]
    }

    fn send(
        &mut self,
        [gap, resumed]: [Option<AgentDelivery>; 2],
        items: Vec<AgentDelivery>,
        last: Option<Result<AgentDelivery>>,
        after: Option<AgentCursor>,
        bytes: usize,
    ) {
        let items: VecDeque<_> = gap.into_iter().chain(items).chain(resumed).map(Ok).chain(last).collect();
        if items.is_empty() && after.is_none() {
            return;
        }
        // The position moves together with the delivery: if the stream is dropped in between, the next one polls for
        // the same events again.
        let mut start = self.shared.stream_start();
        if start.stream != self.stream {
            return;
        }
        if let Some(after) = &after {
            (start.cursor, start.origin, start.doubt) = (after.clone(), SessionOrigin::Continued, self.machine.doubt());
        }
        start.proven = self.proven.clone();
        // The lock is held, so the reader exists; its drop empties the channel.
        self.out.send(QueuedBatch { items, after, proven: self.proven.clone() }, bytes + BATCH_OVERHEAD);
    }

    fn tell_status(&mut self) {
        let (phase, failed_attempts) = (self.machine.phase(), self.machine.failures());
        self.shared.status.send_if_modified(|status| {
            let is_new = status.phase != phase || status.failed_attempts != failed_attempts;
            if is_new {
                tracing::info!(phase = phase.as_str(), failed_attempts, "agent session");
                status.phase = phase;
                status.failed_attempts = failed_attempts;
                status.last_error = self.last_error.clone().map(Arc::new);
            }
            is_new
        });
        self.meter.changed(phase);
    }

    /// Sends the last item, and the final status.
    fn finish(mut self, outcome: Outcome) {
        let ended_here = self.shared.ended_here.load(Ordering::Acquire);
        let ended = match outcome {
            Outcome::Ended | Outcome::Conflict => {
                let reason = if ended_here { EndReason::Asked } else { EndReason::Conflict };
                let mut ended = self.ended.take().unwrap_or(SessionEnded { reason: reason.clone(), message: None });
                if ended.reason == EndReason::Conflict {
                    ended.reason = reason;
                }
                Some(ended)
            }
            Outcome::Invalid | Outcome::Refused | Outcome::GaveUp => None,
        };
        let last = match &ended {
            Some(ended) => Ok(AgentDelivery::SessionEnded(ended.clone())),
            None => Err(self.last_word(outcome)),
        };
        tracing::info!(?outcome, "the agent session's stream ends");
        let error = last.as_ref().err().cloned().map(Arc::new);
        if let Some(error) = &error {
            telemetry::failed(&Span::current(), error);
        }
        self.meter.changed(Phase::Closed);
        self.shared.status.send_modify(|status| {
            status.phase = Phase::Closed;
            status.ended = ended;
            status.last_error = error;
        });
        let gap = self.machine.last_gap();
        self.deliver(&Report { gap, ..Report::default() }, Vec::new(), Some(last), None, 0);
    }

    fn last_word(&self, outcome: Outcome) -> Error {
        let last = self.last_error.clone();
        match (outcome, last) {
            (Outcome::GaveUp, Some(last)) => {
                let message = "polls failed for longer than `give_up_after`";
                Error::new(last.kind(), message)
                    .with_status_of(&last)
                    .with_disposition(Disposition::Fatal)
                    .with_source(last)
            }
            (_, Some(last)) => {
                let keeps = last.disposition() == Disposition::Recreate;
                if keeps { last } else { last.with_disposition(Disposition::Fatal) }
            }
            (_, None) => Error::new(ErrorKind::Internal, "the stream ended without a reason"),
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn end_of(event: &AgentEvent) -> Option<EndSeen> {
    match event {
        AgentEvent::AgentSessionEnd(end) => Some(EndSeen::Own { success: end.success != Some(false) }),
        AgentEvent::RemoteAgentSessionEnd(end) => {
            Some(EndSeen::Remote { unpolled: end.reason() == Some(RemoteEnd::SessionTimeout) })
        }
        _ => None,
    }
}

fn ended_by(event: &AgentEvent) -> Option<SessionEnded> {
    match event {
        AgentEvent::AgentSessionEnd(end) => {
            Some(SessionEnded { reason: EndReason::Asked, message: end.message.clone() })
        }
        AgentEvent::RemoteAgentSessionEnd(end) => {
            let reason = EndReason::Remote(end.reason().unwrap_or_else(|| "".into()));
            Some(SessionEnded { reason, message: end.message.clone() })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;

//! The task that polls: does what the machine says, and tells it what came of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::answer::{self, Batch, Unread};
use super::builder::is_there;
use super::delivery::{AgentDelivery, EndReason, SessionEnded};
use super::desk::Roster;
use super::event::{AgentEvent, AgentNotification, AgentOrigin};
use super::machine::{self, Answer, Begun, Doubt, EndSeen, Machine, Next, Outcome, Verdict};
use super::proven::Proven;
use super::session::{AgentCursor, Place, Shared};
use super::stream::{Backlog, Parcel};
use crate::auth::AccessToken;
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::subscription::{Delivery, Gap, Phase, Resumed, Undecodable};

/// What a parcel weighs beside its bytes.
const PARCEL_WEIGHT: usize = 256;

pub(crate) struct Driver {
    shared: Arc<Shared>,
    machine: Machine,
    cursor: AgentCursor,
    /// Which stream this is.
    stream: u64,
    /// The stream before was dropped with something unread that is not told again.
    discarded: bool,
    batches: u64,
    roster: Roster,
    backlog: Arc<Backlog>,
    out: mpsc::UnboundedSender<Parcel>,
    refused: Option<AccessToken>,
    /// Where a gap begins.
    proven: Proven,
    last_error: Option<Error>,
    ended: Option<SessionEnded>,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        place: &Place,
        backlog: Arc<Backlog>,
        out: mpsc::UnboundedSender<Parcel>,
    ) -> Self {
        Self {
            machine: Machine::new(shared.settings.rules, place.begun, place.doubt),
            cursor: place.cursor.clone(),
            stream: place.stream,
            discarded: place.discarded,
            batches: 0,
            roster: place.roster.clone(),
            backlog,
            out,
            refused: None,
            proven: place.proven.clone(),
            last_error: None,
            ended: None,
            shared,
        }
    }

    pub(crate) async fn run(mut self) {
        if self.discarded {
            let verdict = self.machine.discarded();
            self.deliver(&verdict, Vec::new(), None, None, 0);
        }
        loop {
            self.hear_of_the_end();
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
        let limit = self.shared.settings.queue_bytes;
        if self.backlog.is_over(limit) {
            tracing::warn!(
                limit,
                "the reader is slow: no poll until it has read on, and the session may end meanwhile"
            );
            self.backlog.room(limit).await;
        }
        let within = ask.saturating_add(self.shared.settings.margin);
        let token = match self.shared.api.token(within).await {
            Ok(token) => token,
            Err(error) => return self.stumbled(error),
        };
        let begun = now();
        self.proven.asked(self.shared.settings.moment());
        // Until its answer is read: this task may be dropped meanwhile.
        self.doubt(Doubt::Unanswered.max(self.machine.doubt()));
        let polled = self.shared.api.poll(self.cursor.secret(), &token, ask, within).await;
        let elapsed = now().saturating_duration_since(begun);
        let answer = match polled {
            Ok(answer) => answer,
            Err(error) => {
                let verdict = self.tell_machine(answer::no_answer(&error), elapsed);
                tracing::debug!(%error, "a poll failed");
                self.last_error = Some(error);
                return self.deliver(&verdict, Vec::new(), None, None, 0);
            }
        };
        let means = answer::verdict(&answer);
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
            tracing::debug!(%error, "a poll was refused");
            self.last_error = Some(error);
        }
        if means == Answer::Over {
            let message = answer::words(&answer, &[self.cursor.secret(), token.secret()]);
            self.ended = Some(SessionEnded { reason: EndReason::Conflict, message });
        }
        if means == Answer::Unauthorized {
            self.refused = Some(token);
        }
        let verdict = self.tell_machine(means, elapsed);
        self.deliver(&verdict, Vec::new(), None, None, 0);
        if means == Answer::Quiet {
            self.good(&answer);
            let mut place = self.shared.place();
            if place.stream == self.stream {
                place.proven = self.proven.clone();
            }
        }
    }

    fn batch(&mut self, answer: &crate::http::Answer, elapsed: Duration) {
        let batch = match Batch::read(&answer.body) {
            Ok(batch) => batch,
            Err(Unread::Garbled(reason)) => return self.undecodable(answer, reason, elapsed),
            Err(Unread::TooMany) => {
                let verdict = self.tell_machine(Answer::TooLarge, elapsed);
                let error = Error::new(ErrorKind::Protocol, "the batch has more events than are read");
                self.last_error = Some(error.with_status(answer.status.as_u16()));
                return self.deliver(&verdict, Vec::new(), None, None, 0);
            }
        };
        let at = self.shared.settings.system.now();
        self.batches += 1;
        let number = self.batches;
        let read = |(index, raw)| AgentNotification::new(raw, number, index, at);
        let mut events: Vec<AgentNotification> = batch.events.into_iter().enumerate().map(read).collect();
        // It opens what follows, and need not come first.
        events.sort_by_key(|event| !matches!(event.event(), AgentEvent::AgentSessionStart(_)));
        let facts = machine::Batch {
            moves: batch.next.is_some(),
            new_id: batch.next.as_ref().is_some_and(|next| next != self.cursor.secret()),
            has_events: !events.is_empty(),
            has_start: matches!(events.first().map(AgentNotification::event), Some(AgentEvent::AgentSessionStart(_))),
            missed: answer::says_missed(&answer.headers),
            end: events.iter().filter_map(|event| end_of(event.event())).max(),
        };
        let verdict = self.ask_machine(Answer::Batch(facts), elapsed);
        if verdict.end_refused {
            let mut place = self.shared.place();
            place.refused_ends += 1;
            self.shared.ended_here.store(false, Ordering::Release);
        }
        if matches!(self.machine.next(now()), Next::Nothing(Outcome::Ended)) {
            self.ended = events.iter().rev().find_map(|event| ended_by(event.event()));
        }
        let gone = if verdict.is_snapshot {
            events = events.into_iter().map(|event| event.with_origin(AgentOrigin::Snapshot)).collect();
            self.roster.reconcile(&events)
        } else {
            self.roster.take_in(&events);
            Vec::new()
        };
        let weight = events.len() * (size_of::<AgentNotification>() + size_of::<Result<AgentDelivery>>());
        let mut items: Vec<AgentDelivery> = events.into_iter().map(|it| Delivery::Notification(Box::new(it))).collect();
        if !gone.is_empty() {
            items.push(Delivery::ContactsGone(gone));
        }
        // A gap before this answer begins where the one before it proved that all was read.
        let markers = self.markers(&verdict);
        self.good(answer);
        self.cursor = batch.next.map_or_else(|| self.cursor.clone(), AgentCursor::new);
        self.send(markers, items, None, Some(self.cursor.clone()), answer.body.len() + weight);
    }

    fn undecodable(&mut self, answer: &crate::http::Answer, reason: String, elapsed: Duration) {
        let trouble = machine::Trouble { doubt: Doubt::Unanswered, ..machine::Trouble::default() };
        let verdict = self.tell_machine(Answer::Trouble(trouble), elapsed);
        self.last_error = Some(Error::new(ErrorKind::Protocol, reason.clone()).with_status(answer.status.as_u16()));
        let raw = String::from_utf8_lossy(&answer.body).into_owned().into_boxed_str();
        let odd = Delivery::Undecodable(Undecodable { reason, raw, received_at: self.shared.settings.system.now() });
        self.deliver(&verdict, vec![odd], None, None, answer.body.len());
    }

    async fn refresh(&mut self) {
        let Some(refused) = self.refused.clone() else { return self.machine.refreshed() };
        match self.shared.api.refresh(&refused).await {
            Ok(_) => {
                self.refused = None;
                self.machine.refreshed();
            }
            Err(error) => self.stumbled(error),
        }
    }

    async fn establish(&mut self, may_start: bool) {
        let api = &self.shared.api;
        let station = &self.shared.settings.station;
        let established = match api.join(station.agent()).await {
            Ok(id) => Ok((id, Begun::Joined)),
            Err(error) if may_start && matches!(error.status(), Some(404 | 409)) => match api.start(station).await {
                Ok(id) => Ok((id, Begun::Started)),
                // It came into being in between: it can be joined soon.
                Err(error) if is_there(&error) => Err(error.with_disposition(Disposition::Retry { after: None })),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match established {
            Ok((id, begun)) => {
                tracing::info!(started = begun == Begun::Started, "a session is there again");
                let cursor = AgentCursor::new(id);
                if !self.adopt(cursor.clone(), begun) {
                    return;
                }
                self.machine.established(begun);
                self.doubt(self.machine.doubt());
                if begun == Begun::Started {
                    // Those of the session before are not in this one.
                    let gone = self.roster.drain();
                    if !gone.is_empty() {
                        self.deliver(&Verdict::default(), vec![Delivery::ContactsGone(gone)], None, None, 0);
                    }
                }
                if self.shared.ended_here.load(Ordering::Acquire) {
                    // The end was asked for meanwhile: what came into being by that has
                    // no one who wants it.
                    if let Err(error) = self.shared.api.end(cursor.secret(), &[]).await {
                        tracing::warn!(%error, "a session that nobody wants could not be ended");
                    }
                }
            }
            Err(error) => self.stumbled(error),
        }
    }

    /// Something else than a poll failed.
    fn stumbled(&mut self, error: Error) {
        tracing::debug!(%error, "no token or no session");
        let is_refusal = matches!(error.kind(), ErrorKind::Auth | ErrorKind::Permission);
        match answer::passing(&error) {
            Some(after) => self.machine.stumbled(after, now(), self.shared.settings.system.jitter()),
            // It may be over at the next try, unless the login itself is refused.
            None if is_refusal && !error.is_login_refused() => {
                self.machine.stumbled(None, now(), self.shared.settings.system.jitter())
            }
            None => self.machine.refused(),
        }
        self.last_error = Some(error);
    }

    /// Makes the id of a session that was joined or started the one to poll with. `false` if
    /// another stream has taken over.
    fn adopt(&mut self, next: AgentCursor, begun: Begun) -> bool {
        let mut place = self.shared.place();
        if place.stream != self.stream {
            return false;
        }
        (place.cursor, place.begun) = (next.clone(), begun);
        self.cursor = next;
        true
    }

    fn tell_machine(&mut self, answer: Answer, elapsed: Duration) -> Verdict {
        let verdict = self.ask_machine(answer, elapsed);
        self.doubt(self.machine.doubt());
        verdict
    }

    fn ask_machine(&mut self, answer: Answer, elapsed: Duration) -> Verdict {
        self.hear_of_the_end();
        self.machine.answered(answer, elapsed, now(), self.shared.settings.system.jitter())
    }

    fn hear_of_the_end(&mut self) {
        if self.shared.ended_here.load(Ordering::Acquire) {
            self.machine.ended_here();
        }
    }

    /// Keeps for the next stream whether an answer may have been lost.
    fn doubt(&self, doubt: Doubt) {
        let mut place = self.shared.place();
        if place.stream == self.stream {
            place.doubt = doubt;
        }
    }

    fn good(&mut self, answer: &crate::http::Answer) {
        // A quiet answer behind one that may be lost does not prove that nothing was in that
        // one: a gap that is noticed later begins before it.
        if self.machine.doubt() == Doubt::No {
            self.proven.answered(answer::date(answer));
        }
        self.last_error = None;
    }

    /// The gap, what came, and that it goes on.
    fn deliver(
        &mut self,
        verdict: &Verdict,
        items: Vec<AgentDelivery>,
        last: Option<Result<AgentDelivery>>,
        after: Option<AgentCursor>,
        bytes: usize,
    ) {
        let markers = self.markers(verdict);
        self.send(markers, items, last, after, bytes);
    }

    /// The beginning and the end of a gap.
    fn markers(&self, verdict: &Verdict) -> [Option<AgentDelivery>; 2] {
        let now = self.shared.settings.moment();
        let gap = verdict.gap.clone().map(|(cause, certainty)| {
            tracing::info!(cause = cause.as_str(), certainty = certainty.as_str(), "events may be missing");
            let since = self.proven.since(now);
            Delivery::Gap(Gap { cause, certainty, since, until: None, lost: None, filters: Vec::new() })
        });
        let resumed = verdict.resumed.then(|| {
            let at = self.proven.time(now);
            Delivery::Resumed(Resumed { complete: false, at, recreated: None, left_open: Vec::new() })
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
        let weight = bytes + PARCEL_WEIGHT;
        // The place moves with what is handed out, in one step: a stream that is dropped in
        // between leaves the next one to poll for it again.
        let mut place = self.shared.place();
        if place.stream != self.stream {
            return;
        }
        if let Some(after) = &after {
            (place.cursor, place.begun, place.doubt) = (after.clone(), Begun::Continued, self.machine.doubt());
        }
        place.proven = self.proven.clone();
        self.backlog.add(weight);
        // The lock is held, so the reader is there; its drop takes what is in the channel.
        let _ = self.out.send(Parcel { items, after, proven: self.proven.clone(), weight });
    }

    fn tell_status(&self) {
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
    }

    /// The last item, and the status that goes with it.
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
            Some(ended) => Ok(Delivery::SessionEnded(ended.clone())),
            None => Err(self.last_word(outcome)),
        };
        tracing::info!(?outcome, "the agent session's stream ends");
        let error = last.as_ref().err().cloned().map(Arc::new);
        self.shared.status.send_modify(|status| {
            status.phase = Phase::Closed;
            status.ended = ended;
            status.last_error = error;
        });
        let gap = self.machine.last_gap();
        self.deliver(&Verdict { gap, ..Verdict::default() }, Vec::new(), Some(last), None, 0);
    }

    fn last_word(&self, outcome: Outcome) -> Error {
        let last = self.last_error.clone();
        match (outcome, last) {
            (Outcome::GaveUp, Some(last)) => {
                let message = "polls failed for longer than they are tried";
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
        AgentEvent::RemoteAgentSessionEnd(_) => Some(EndSeen::Remote),
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
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::agent::AgentSession;
    use crate::auth::StaticToken;

    #[tokio::test]
    async fn what_a_dropped_stream_had_not_read_is_no_beginning_for_the_next() {
        let builder = AgentSession::builder(StaticToken::new(AccessToken::new("t"))).base_url("http://127.0.0.1:9");
        let session = builder.resume(AgentCursor::from_text("S0")).unwrap();
        let shared = session.shared();
        let events = session.events().unwrap();
        {
            // As its task does after the session was lost and started again.
            let mut place = shared.place();
            (place.cursor, place.begun) = (AgentCursor::from_text("S1"), Begun::Started);
        }
        drop(events);
        // What the old place is answered with tells what is, and not what is new.
        let place = shared.place();
        assert_eq!((place.cursor.expose(), place.begun), ("S0", Begun::Continued));
    }

    #[tokio::test]
    async fn a_task_whose_stream_is_gone_moves_nothing_and_tells_nothing() {
        let builder = AgentSession::builder(StaticToken::new(AccessToken::new("t"))).base_url("http://127.0.0.1:9");
        let session = builder.resume(AgentCursor::from_text("S0")).unwrap();
        let shared = session.shared();
        let answer = |id: &str| crate::http::Answer {
            status: http::StatusCode::OK,
            headers: http::HeaderMap::new(),
            body: format!(r#"{{"sessionId":"{id}","events":[{{"Type":"Mute"}}]}}"#).into(),
        };
        let (sender, mut parcels) = mpsc::unbounded_channel();
        let mut driver = Driver::new(shared.clone(), &shared.place(), Arc::default(), sender);
        driver.batch(&answer("S1"), Duration::ZERO);
        assert_eq!(session.newest_cursor().expose(), "S1");
        assert_eq!(parcels.try_recv().unwrap().items.len(), 1);
        shared.place().stream += 1;
        driver.batch(&answer("S2"), Duration::ZERO);
        assert_eq!(session.newest_cursor().expose(), "S1");
        assert!(parcels.try_recv().is_err());
    }

    /// An answer, and the seconds that it takes; `None` never comes.
    type Timed = (u64, Option<crate::http::Answer>);

    /// Answers to polls.
    #[derive(Clone, Debug)]
    struct Script(Arc<std::sync::Mutex<VecDeque<Timed>>>);

    #[async_trait::async_trait]
    impl crate::agent::client::Calls for Script {
        async fn token(&self, _life: Duration) -> Result<AccessToken> {
            Ok(AccessToken::new("t"))
        }

        async fn refresh(&self, _refused: &AccessToken) -> Result<AccessToken> {
            Ok(AccessToken::new("t"))
        }

        async fn poll(
            &self,
            _id: &crate::secret::Secret,
            _token: &AccessToken,
            _ask: Duration,
            _within: Duration,
        ) -> Result<crate::http::Answer> {
            let (takes, answer) = self.0.lock().unwrap().pop_front().unwrap();
            tokio::time::sleep(Duration::from_secs(takes)).await;
            answer.ok_or_else(|| Error::new(ErrorKind::Timeout, "no answer").with_unclear(true))
        }

        async fn start(&self, _station: &crate::agent::builder::Station) -> Result<crate::secret::Secret> {
            unreachable!("no session is started")
        }

        async fn join(&self, _agent: Option<&str>) -> Result<crate::secret::Secret> {
            unreachable!("no session is joined")
        }

        async fn end(&self, _id: &crate::secret::Secret, _query: &[(&str, String)]) -> Result<()> {
            Ok(())
        }

        async fn set_state(&self, _id: &crate::secret::Secret, _state: &str, _reason: Option<&str>) -> Result<()> {
            Ok(())
        }
    }

    fn answer(status: u16, date: Option<u64>, body: &str) -> crate::http::Answer {
        let mut headers = http::HeaderMap::new();
        if let Some(seconds) = date {
            let date = format!("Sun, 06 Nov 1994 08:{:02}:{:02} GMT", seconds / 60, seconds % 60);
            headers.insert(http::header::DATE, date.parse().unwrap());
        }
        crate::http::Answer {
            status: http::StatusCode::from_u16(status).unwrap(),
            headers,
            body: body.to_owned().into(),
        }
    }

    fn start(date: Option<u64>, id: &str) -> crate::http::Answer {
        answer(200, date, &format!(r#"{{"sessionId":"{id}","events":[{{"Type":"AgentSessionStart"}}]}}"#))
    }

    fn session(polls: Vec<Timed>) -> AgentSession {
        let script = Script(Arc::new(std::sync::Mutex::new(polls.into())));
        let builder = AgentSession::builder(StaticToken::new(AccessToken::new("t")));
        builder.session(script, AgentCursor::from_text("S0"), Begun::Started)
    }

    /// The gaps of four polls, as cause and beginning.
    async fn gaps(session: &AgentSession) -> Vec<(crate::subscription::GapCause, Option<SystemTime>)> {
        let shared = session.shared();
        let (sender, mut parcels) = mpsc::unbounded_channel();
        let mut driver = Driver::new(shared.clone(), &shared.place(), Arc::default(), sender);
        for _ in 0..4 {
            driver.poll(Duration::from_secs(60)).await;
        }
        let mut gaps = Vec::new();
        while let Ok(parcel) = parcels.try_recv() {
            gaps.extend(parcel.items.into_iter().filter_map(|item| match item {
                Ok(Delivery::Gap(gap)) => Some((gap.cause, gap.since)),
                _ => None,
            }));
        }
        gaps
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_date_a_gap_begins_when_the_last_poll_left_that_was_answered_without_doubt() {
        // What is polled for, and for how long before it is noticed events may be missing.
        for (polls, seconds) in [
            // The path swallows everything for 54 s, and the first answer behind it is a snapshot.
            (vec![(1, Some(start(None, "S1"))), (27, None), (27, None), (1, Some(start(None, "S2")))], 56),
            // A quiet answer behind one that may be lost proves nothing of that one.
            (
                vec![
                    (1, Some(start(None, "S1"))),
                    (27, None),
                    (60, Some(answer(304, None, ""))),
                    (1, Some(start(None, "S2"))),
                ],
                89,
            ),
            // Without that, it does: until its poll left.
            (
                vec![
                    (1, Some(start(None, "S1"))),
                    (60, Some(answer(304, None, ""))),
                    (27, None),
                    (1, Some(start(None, "S2"))),
                ],
                88,
            ),
        ] {
            let session = session(polls);
            let gaps = gaps(&session).await;
            let [(crate::subscription::GapCause::AnswerLost, Some(since))] = gaps[..] else { panic!("{gaps:?}") };
            let before = session.shared().settings.system.now().duration_since(since).unwrap();
            assert!(before >= Duration::from_secs(seconds), "{before:?} {seconds}");
        }
    }

    /// A poll that is held for a minute proves that nothing was missed in it.
    #[tokio::test(start_paused = true)]
    async fn a_gap_begins_at_the_date_of_the_last_answer_that_proves_something() {
        let base = SystemTime::UNIX_EPOCH + Duration::from_secs(784_108_800);
        for (polls, seconds) in [
            (
                vec![
                    (1, Some(start(Some(1), "S1"))),
                    (60, Some(answer(304, Some(61), ""))),
                    (27, None),
                    (1, Some(start(Some(89), "S2"))),
                ],
                61,
            ),
            // A quiet answer behind one that may be lost proves nothing of that one.
            (
                vec![
                    (1, Some(start(Some(1), "S1"))),
                    (27, None),
                    (60, Some(answer(304, Some(88), ""))),
                    (1, Some(start(Some(89), "S2"))),
                ],
                1,
            ),
        ] {
            let gaps = gaps(&session(polls)).await;
            let since = base + Duration::from_secs(seconds) - Duration::from_secs(1);
            assert_eq!(gaps, [(crate::subscription::GapCause::AnswerLost, Some(since))]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_gap_is_not_before_its_beginning_by_a_clock_that_is_slow() {
        // The service is years ahead of this machine, or behind it.
        for year in [1994, 9000] {
            let mut polls: Vec<Timed> = vec![
                (1, Some(start(None, "S1"))),
                (27, None),
                (1, Some(start(Some(30), "S2"))),
                (1, Some(answer(304, None, ""))),
            ];
            for answer in polls.iter_mut().filter_map(|(_, answer)| answer.as_mut()) {
                if let Some(date) = answer.headers.get_mut(http::header::DATE) {
                    *date = date.to_str().unwrap().replace("1994", &year.to_string()).parse().unwrap();
                }
            }
            let session = session(polls);
            let shared = session.shared();
            let (sender, mut parcels) = mpsc::unbounded_channel();
            let mut driver = Driver::new(shared.clone(), &shared.place(), Arc::default(), sender);
            for _ in 0..4 {
                driver.poll(Duration::from_secs(60)).await;
            }
            let mut times = Vec::new();
            while let Ok(parcel) = parcels.try_recv() {
                times.extend(parcel.items.into_iter().filter_map(|item| match item {
                    Ok(Delivery::Gap(gap)) => gap.since,
                    Ok(Delivery::Resumed(resumed)) => Some(resumed.at),
                    _ => None,
                }));
            }
            assert!(times.len() == 2 && times[0] < times[1], "{year}: {times:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_after_another_one_knows_up_to_when_events_were_delivered() {
        use futures_util::StreamExt as _;

        let base = SystemTime::UNIX_EPOCH + Duration::from_secs(784_108_800);
        // How many answers of the first stream are read, and where the second one's gap begins.
        for (read, seconds) in [(2, 2), (1, 1)] {
            let session = session(vec![
                (1, Some(start(Some(1), "S1"))),
                (1, Some(answer(200, Some(2), r#"{"sessionId":"S2","events":[{"Type":"Mute"}]}"#))),
                (60, None),
                (1, Some(start(Some(90), "S3"))),
                (60, None),
            ]);
            let mut events = session.events().unwrap();
            for _ in 0..read {
                assert!(matches!(events.next().await, Some(Ok(Delivery::Notification(_)))));
            }
            // The second answer is there, read or not.
            tokio::time::sleep(Duration::from_secs(5)).await;
            drop(events);
            // Its third poll is cut, so the next one takes the fourth.
            let mut events = session.events().unwrap();
            let Some(Ok(Delivery::Gap(gap))) = events.next().await else { panic!("no gap") };
            assert_eq!(gap.since, Some(base + Duration::from_secs(seconds) - Duration::from_secs(1)), "{read}");
        }
    }

    /// A service with a large answer for every poll, and a reader that does not read.
    #[tokio::test(start_paused = true)]
    async fn what_waits_for_a_reader_is_bounded_by_its_bytes() {
        let large = |n: u32| {
            let data = "x".repeat(10_000);
            answer(200, None, &format!(r#"{{"sessionId":"S{n}","events":[{{"Type":"Mute","Data":"{data}"}}]}}"#))
        };
        let polls: Vec<_> = (1..=1000).map(|n| (0, Some(large(n)))).collect();
        let script = Script(Arc::new(std::sync::Mutex::new(polls.into())));
        let builder = AgentSession::builder(StaticToken::new(AccessToken::new("t"))).queue_bytes(100_000);
        let session = builder.session(script.clone(), AgentCursor::from_text("S0"), Begun::Started);
        let mut events = session.events().unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
        let left = || script.0.lock().unwrap().len();
        // Each weighs more than its text, and the last one may go beyond the bound.
        assert!((1000 - 11..1000).contains(&left()), "{}", left());
        let before = left();
        for _ in 0..5 {
            futures_util::StreamExt::next(&mut events).await.unwrap().unwrap();
        }
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(before > left() && before - left() <= 6, "polls go on as far as there is room: {}", left());
    }
}

//! Delivers items to the reader, and handles its requests.

use tokio::time::timeout;

use super::*;

impl Driver {
    pub(super) fn hand_out(&mut self, out: &mpsc::Sender<Handed>) -> Result<(), ()> {
        loop {
            self.report_undecrypted();
            self.sealed = self.is_sealed();
            if self.sealed || !self.queue.is_ready() {
                break;
            }
            let permit = match out.try_reserve() {
                Ok(permit) => permit,
                Err(mpsc::error::TrySendError::Full(())) => return Ok(()),
                Err(mpsc::error::TrySendError::Closed(())) => return Err(()),
            };
            let item = self.queue.pop();
            if let Some(Item::Marker(Delivery::Gap(gap))) = &item
                && gap.cause == GapCause::Overflow
                && gap.lost.is_some()
            {
                let (since, filters) = (gap.since, gap.filters.clone());
                self.refill(since, filters);
            }
            if let Some(handed) = item.and_then(|item| self.decode(item)) {
                permit.send(handed);
            }
        }
        let is_live = self.machine.phase() == machine::Phase::Live;
        self.routes.observe(Instant::now(), is_live, self.queue.is_empty());
        if out.is_closed() { Err(()) } else { Ok(()) }
    }

    /// Whether the next payload waits for the service's answer about the key: no known one decrypts it, and the service
    /// may have changed the key without notice, or in a renewal whose answer is in transit or lost (found 1.5).
    pub(super) fn is_sealed(&mut self) -> bool {
        if !self.needs_key() {
            return false;
        }
        // At the end nothing waits. Without a lease, or an address, there is no key to ask for.
        let is_held = self.machine.expires_at().is_some() && self.setup.has_address;
        let Some(lease) = self.lease.as_ref().filter(|_| is_held && !self.ending.has_begun()) else { return false };
        let sealed = self.key_wait.sealed(Instant::now(), self.machine.is_renewing());
        if sealed.ask {
            let has_room = self.setup.control.rate_budget().is_none_or(|budget| budget.has_room_to_look());
            if has_room {
                self.calls.start_passing(ops::ask_for_key(self.setup.control.clone(), lease.id.clone()));
            } else {
                self.key_wait.failed(Instant::now());
            }
        }
        // Events that wait cost no others their room.
        sealed.wait && !self.queue.is_full()
    }

    fn needs_key(&self) -> bool {
        self.queue.next_frame().is_some_and(|(frame, keys)| needs_key(frame, &keys.and_then(&self.keys)))
    }

    /// Events that no key decrypts are a possible gap, which begins with the last decrypted event.
    fn report_undecrypted(&mut self) {
        if self.undecrypted.is_empty() {
            return;
        }
        let is_over = self.queue.next_frame().is_some_and(|(frame, keys)| {
            let FrameBody::Payload(raw) = &frame.body else { return false };
            crate::codec::decode(raw, &keys.and_then(&self.keys)).is_ok()
        });
        let ends = self.ending.has_begun() && self.queue.is_empty();
        let Some(span) = self.undecrypted.due(Instant::now(), is_over, ends) else { return };
        let interval = self.ledger.unopened(span);
        let gap = self.reported(GapCause::KeyUnknown, interval);
        if let Some(mark) = self.held_mark.take() {
            self.queue.push_mark_first(mark);
        }
        self.refill(Some(interval.since), gap.filters.clone());
        self.queue.push_first(Item::Marker(Delivery::Gap(gap)));
    }

    /// Turns a waiting item into the reader's; `None` for a duplicate.
    pub(super) fn decode(&mut self, item: Item) -> Option<Handed> {
        let (frame, keys, emitted) = match item {
            Item::Frame { frame, keys, emitted } => (frame, keys, emitted),
            Item::Found { found, at } => return self.found(found, at),
            Item::Marker(delivery) => return Some(Handed::Delivery { delivery, traces: Traces::default() }),
            Item::End { resumed, .. } => {
                return Some(Handed::Delivery { delivery: Delivery::Resumed(resumed), traces: Traces::default() });
            }
            // A restart continues before events that no gap reports yet.
            Item::Mark(mark) if !self.undecrypted.is_empty() => {
                self.held_mark = Some(mark);
                return None;
            }
            Item::Mark(mark) => return Some(Handed::Step(Step::Mark(mark))),
            Item::Position { source, position } => return Some(Handed::Step(Step::Position { source, position })),
        };
        let received_at = frame.received_at;
        let position = frame.position.clone();
        let sent = frame.sent_at;
        let (mut repeated, mut about) = (false, None);
        let (key, delivery) = match read(frame, &keys.and_then(&self.keys)) {
            Ok(notification) => {
                self.learn_owner(&notification);
                // Delivered unchanged: its own key does not depend on earlier events.
                let owned = notification.clone().owned_by(self.owner.as_ref());
                if let Some(sent) = sent {
                    self.ledger.prove(Instant::now(), Proof::Decrypted { sent });
                }
                repeated = !self.routes.admit(&owned, Instant::now());
                let key = notification.dedup_key_at(position.as_deref());
                // A count that two subscriptions push waits for its messages once.
                if !repeated && !self.seen.holds(key, Instant::now()) && self.is_enriched(&notification) {
                    self.seen.admit(key, Instant::now());
                    return None;
                }
                about = Some(About::of(&owned));
                (key, Delivery::Notification(Box::new(notification)))
            }
            Err(Unreadable { reason, raw, sealed }) => {
                tracing::warn!(%reason, subscription = self.id_for_log(), "undecodable payload");
                if sealed {
                    self.undecrypted.add(Instant::now(), emitted);
                }
                let key = DedupKey::over(2, &[&raw, position.as_deref().unwrap_or_default()]);
                (key, Delivery::Undecodable(Undecodable { reason, raw, received_at }))
            }
        };
        // Both are called: each counts the events.
        let now = Instant::now();
        repeated |= !self.seen.admit(key, now);
        repeated = repeated || about.as_ref().is_some_and(|about| !self.subjects.admit_pushed(about, now));
        if repeated {
            tracing::trace!(subscription = self.id_for_log(), "a repetition");
            return None;
        }
        // Without a source no pushed event is ever found again.
        let about = about.filter(|_| self.recovery.can_ask());
        self.recovery.plan.delivered(now.into_std(), about.as_ref().map_or(0, About::len));
        let subjects = about.map(About::keys).unwrap_or_default();
        Some(Handed::Delivery {
            delivery,
            traces: Traces { key: Some(key), subjects, found: false, at: Some(received_at) },
        })
    }

    /// The first event that names its extension shows what `~` stands for.
    pub(super) fn learn_owner(&mut self, notification: &Notification) {
        if self.owner.is_none() {
            let written = || self.filters.own_extension(&[notification.event_uri()]);
            self.owner = notification.owner_id().cloned().or_else(written);
            if let Some(place) = self.listening.as_mut().filter(|_| self.owner.is_some()) {
                Arc::make_mut(place).owner.clone_from(&self.owner);
            }
        }
    }

    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Update { filters, answer } => {
                if !self.ending.has_ended() {
                    match self.filters.change(filters, answer, self.machine.update_pending()) {
                        Ok(()) => self.give(Input::Update),
                        Err(answer) => {
                            let busy = Error::new(ErrorKind::Busy, "another change of this subscription is pending");
                            drop(answer.send(Err(busy)));
                        }
                    }
                }
            }
            Command::Revalidate => {
                self.give(Input::Slept { by: Duration::ZERO });
                if self.setup.polls {
                    self.recovery.plan.poll_now(Instant::now().into_std());
                }
            }
        }
    }

    pub(super) fn shut_down(&mut self, how: Shutdown) {
        let phase = self.machine.phase();
        let is_polled = self.setup.polls || self.recovery.plan.has_news();
        let Request { unread, delete, within, linger } = self.ending.request(how, phase, is_polled);
        match unread {
            Unread::Report(cause) => {
                let gap = self.ledger.possible(Instant::now(), &[Loss::Read]);
                let since = self.recovery.untold_since().map_or(gap.since, |untold| untold.min(gap.since));
                if cause == GapCause::NotPolled {
                    self.polls_end(GapCause::NotPolled);
                }
                self.end_unread(cause, Interval { since, ..gap });
            }
            Unread::Check => self.drain(),
            Unread::Ignore => {}
        }
        self.give(Input::Close { delete, within, linger });
        match how {
            Shutdown::Drain => {}
            Shutdown::Discard => self.discard_queue(),
            Shutdown::Dropped => self.queue = Queue::new(self.setup.queue_bytes),
        }
    }

    /// A possible gap without an end marker, since nothing follows it.
    pub(super) fn end_unread(&mut self, cause: GapCause, interval: Interval) {
        self.queue.push_marker(Delivery::Gap(self.reported(cause, interval)));
    }

    pub(super) fn discard_queue(&mut self) {
        let (mut lost, mut gaps, mut since) = (0, 0, None::<SystemTime>);
        let mut began = |at: Option<SystemTime>| since = since.into_iter().chain(at).min();
        while let Some(item) = self.queue.pop() {
            match item {
                Item::Frame { emitted, .. } => {
                    lost += 1;
                    began(Some(emitted.from));
                }
                Item::Marker(Delivery::Gap(gap)) => {
                    gaps += 1;
                    lost += gap.lost.unwrap_or(0);
                    began(gap.since);
                }
                Item::Found { at, .. } => {
                    lost += 1;
                    began(Some(at));
                }
                Item::Marker(_) | Item::End { .. } | Item::Mark(_) | Item::Position { .. } => {}
            }
        }
        if lost + gaps > 0 {
            let certainty = if lost > 0 { Certainty::Certain } else { Certainty::Possible };
            let lost = (gaps == 0).then_some(lost);
            let (cause, until) = (GapCause::Discarded, Some(self.ledger.latest(self.now().to)));
            let filters = self.filters.since(since.unwrap_or(SystemTime::UNIX_EPOCH)).to_vec();
            self.queue.push_marker(Delivery::Gap(Gap { cause, certainty, since, until, lost, filters }));
        }
    }

    pub(super) fn reader_gone(&mut self) {
        if !self.ending.is_dropped() {
            self.shut_down(Shutdown::Dropped);
        }
        self.queue = Queue::new(self.setup.queue_bytes);
    }

    pub(super) fn report_start(&mut self, started: &mut Option<oneshot::Sender<Result<()>>>) {
        let (now, phase) = (Instant::now(), self.machine.phase());
        let outcome = match self.ending.start(now, phase, self.cleanup.is_settled(now)) {
            Start::Pending => return,
            Start::Succeeded => Ok(()),
            Start::Failed(end) => Err(self.failures.of_end(end).unwrap_or_else(|| {
                Error::new(ErrorKind::Closed, "the subscription was closed while it was being created")
            })),
        };
        if let Some(started) = started.take() {
            let refused = started.send(outcome).is_err();
            if refused {
                self.reader_gone();
            }
        }
    }

    pub(super) fn is_over(&self) -> bool {
        let is_settled = self.cleanup.is_settled(Instant::now());
        self.ending.has_ended() && self.queue.is_empty() && is_settled && self.links.is_drained()
    }

    /// Reports the end; then calls in flight get a limited time, so that a late grant leaves no orphan.
    pub(super) async fn last_words(&mut self, out: mpsc::Sender<Handed>) {
        self.links.take_all().for_each(|link| self.calls.start(ops::part(link)));
        if let Some(error) = self.ending.end().and_then(|end| self.failures.of_end(end)) {
            // A dropped reader needs no end.
            drop(out.send(Handed::End(error)).await);
        }
        drop(out);
        while let Some(done) = self.calls.next_lasting().await {
            self.done(done);
        }
    }

    /// After a panic of the task: deletes its subscriptions, within a limited time.
    pub(super) async fn abandon(mut self: Box<Self>) {
        tracing::error!(subscription = self.id_for_log(), "the subscription's task panicked");
        drop(self.links.take_all());
        let mut calls = std::mem::replace(&mut self.calls, Calls::new()).without_passing();
        let mut held = self.routes.retired(|_| false);
        if self.ending.deletes_when_dropped() {
            held.extend(self.lease.as_ref().map(|lease| (self.routes.leased(), lease.id.clone())));
        }
        held.iter().for_each(|(route, id)| calls.start(ops::discard(self.control_of(*route), id.clone())));
        let (control, registry) = (self.setup.control.clone(), self.setup.registry.clone());
        drop(self);
        let deleting = async {
            while let Some(done) = calls.next_lasting().await {
                match done {
                    Done::Discarded { id, gone: true, .. } => registry.gone(&id),
                    Done::Discarded { id, gone: false, .. } => registry.left_over(&id),
                    // The result of a call in flight is not needed now.
                    Done::Lease { result, .. } => {
                        let made = result.ok().filter(|info| held.iter().all(|(_, id)| *id != info.id));
                        made.into_iter().for_each(|info| calls.start(ops::discard(control.clone(), info.id)));
                    }
                    _ => {}
                }
            }
        };
        if timeout(END_WITHIN, deleting).await.is_err() {
            held.iter().for_each(|(_, id)| registry.left_over(id));
        }
    }

    pub(super) fn publish(&mut self, status: &watch::Sender<Status>) {
        let (now, wall) = (Instant::now(), self.setup.clock.wall());
        let facts = Facts {
            phase: self.machine.phase(),
            transport: self.setup.transport.kind(),
            id: self.lease.as_ref().map(|lease| &lease.id),
            expires_at: self.machine.expires_at(),
            failed_attempts: self.machine.failed_attempts(),
            is_polling: self.recovery.plan.is_polling(now.into_std()),
            is_poll_failing: self.setup.polls && !self.recovery.plan.is_well(),
            is_settled: self.cleanup.is_settled(now),
            has_ended: self.ending.has_ended(),
            is_deleted: self.machine.is_deleted() && self.cleanup.is_clean(now),
            call_waits: self.calls.longest_wait(),
            next_attempt: self.machine.waits_until().map(Instant::from_std),
        };
        status.send_if_modified(|status| {
            let Some(new) = self.report.update(now, wall, facts, &mut self.failures, status) else { return false };
            if let Some(wait) = new.waiting.filter(|wait| status.waiting != Some(*wait)) {
                tracing::warn!(
                    cause = wait.cause.as_str(),
                    seconds = wait.until.duration_since(wall).unwrap_or_default().as_secs(),
                    phase = new.phase.as_str(),
                    subscription = facts.id.map(SubscriptionId::as_str),
                    "waiting before the next try"
                );
            }
            *status = new;
            true
        });
    }
}

/// An unreadable payload; `sealed`: another key might decrypt it.
struct Unreadable {
    reason: String,
    raw: Box<str>,
    sealed: bool,
}

fn read(frame: Frame, ciphers: &[&crate::codec::Cipher]) -> Result<Notification, Unreadable> {
    let unreadable = |reason, raw| Unreadable { reason, raw, sealed: false };
    let raw = match frame.body {
        FrameBody::Payload(raw) => raw,
        FrameBody::Malformed { raw, reason } => return Err(unreadable(reason.to_owned(), raw)),
    };
    let json = match crate::codec::decode(&raw, ciphers) {
        Ok(json) => json,
        Err(error) => {
            return Err(Unreadable {
                sealed: is_for_want_of_a_key(&error),
                ..unreadable(error.to_string(), raw.get().into())
            });
        }
    };
    Notification::parse(json, Origin::Push, frame.received_at)
        .map_err(|malformed| unreadable(malformed.to_string(), malformed.raw().get().into()))
}

/// Whether another key could decrypt a payload that these do not.
fn needs_key(frame: &Frame, ciphers: &[&crate::codec::Cipher]) -> bool {
    let FrameBody::Payload(raw) = &frame.body else { return false };
    // A payload that is not a string is not encrypted.
    raw.get().starts_with('"') && crate::codec::decode(raw, ciphers).is_err_and(|error| is_for_want_of_a_key(&error))
}

fn is_for_want_of_a_key(error: &DecodeError) -> bool {
    match error {
        DecodeError::NoKey { .. }
        | DecodeError::Padding { .. }
        | DecodeError::Utf8 { .. }
        | DecodeError::Json { .. } => true,
        DecodeError::Base64 { .. } | DecodeError::Length { .. } | DecodeError::NotAnObject { .. } => false,
    }
}

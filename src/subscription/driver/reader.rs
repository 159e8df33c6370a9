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
        let Some(lease) = self.lease.as_ref().filter(|_| is_held && self.ending_since.is_none()) else { return false };
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
        let ends = self.ending_since.is_some() && self.queue.is_empty();
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
        repeated = repeated || about.as_ref().is_some_and(|about| !self.told.admit_pushed(about, now));
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
                if self.end.is_none() {
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
        self.shutdown = Some(how);
        let phase = self.machine.phase();
        let is_polled = (self.setup.polls || self.recovery.plan.has_news()) && phase == machine::Phase::Live;
        // A subscription that continues another process's has not read the events since then.
        if is_polled || matches!(phase, machine::Phase::Connecting | machine::Phase::Reconnecting) {
            // Events that wait at the service are deleted with the subscription.
            let cause = if is_polled { GapCause::NotPolled } else { GapCause::EndedOffline };
            let gap = self.ledger.possible(Instant::now(), &[Loss::Read]);
            let since = self.recovery.untold_since().map_or(gap.since, |untold| untold.min(gap.since));
            if is_polled {
                self.polls_end(GapCause::NotPolled);
            }
            self.end_unread(cause, Interval { since, ..gap });
        } else if how == Shutdown::Drain && phase == machine::Phase::Live {
            self.drain();
        }
        let (delete, within) = match how {
            Shutdown::Drain | Shutdown::Discard => (true, self.setup.close_within),
            Shutdown::Dropped => (self.setup.delete_on_drop, self.setup.drop_within),
        };
        self.give(Input::Close { delete, within, linger: how == Shutdown::Drain });
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
        if self.shutdown != Some(Shutdown::Dropped) {
            self.shut_down(Shutdown::Dropped);
        }
        self.queue = Queue::new(self.setup.queue_bytes);
    }

    pub(super) fn report_start(&mut self, started: &mut Option<oneshot::Sender<Result<()>>>) {
        let outcome = match (self.machine.phase(), self.end) {
            (machine::Phase::Starting, None) => return,
            // It ends before it began: the end reports the result.
            (machine::Phase::Closing, None) => return,
            // Orphans are being deleted, within the deadline of the start.
            (_, Some(_))
                if !self.cleanup.is_settled(Instant::now()) && self.start_by.is_some_and(|by| by > Instant::now()) =>
            {
                return;
            }
            (_, Some(end)) => match self.failures.of_end(end) {
                Some(error) => Err(error),
                None => Err(Error::new(ErrorKind::Closed, "the subscription was closed while it was being created")),
            },
            (_, None) => Ok(()),
        };
        self.start_by = None;
        if let Some(started) = started.take() {
            let refused = started.send(outcome).is_err();
            if refused {
                self.reader_gone();
            }
        }
    }

    pub(super) fn is_over(&self) -> bool {
        let is_settled = self.cleanup.is_settled(Instant::now());
        self.end.is_some() && self.queue.is_empty() && is_settled && self.links.is_drained()
    }

    /// Reports the end; then calls in flight get a limited time, so that a late grant leaves no orphan.
    pub(super) async fn last_words(&mut self, out: mpsc::Sender<Handed>) {
        self.links.take_all().for_each(|link| self.calls.start(ops::part(link)));
        if let Some(error) = self.end.and_then(|end| self.failures.of_end(end)) {
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
        if self.setup.delete_on_drop {
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
        let phase = match self.machine.phase() {
            machine::Phase::Starting => Phase::Starting,
            machine::Phase::Connecting => Phase::Connecting,
            // The sources show the health of a polled subscription.
            machine::Phase::Live if self.setup.polls && !self.recovery.plan.is_well() => Phase::Reconnecting,
            machine::Phase::Live => Phase::Live,
            machine::Phase::Reconnecting => Phase::Reconnecting,
            machine::Phase::Recreating => Phase::Recreating,
            machine::Phase::Closing => Phase::Closing,
            machine::Phase::Closed if !self.cleanup.is_settled(Instant::now()) => Phase::Closing,
            machine::Phase::Closed => Phase::Closed,
        };
        if phase == Phase::Live && status.borrow().phase != Phase::Live {
            self.failures.recovered();
        }
        let id = self.lease.as_ref().map(|lease| lease.id.clone());
        let attempts = self.machine.failed_attempts();
        let transport = self.setup.transport.kind();
        let expires_at = self.expires_at();
        let is_clean = self.cleanup.is_clean(Instant::now());
        let is_polling = self.end.is_none() && self.recovery.plan.is_polling(Instant::now().into_std());
        let waiting = self.next_try(phase);
        status.send_if_modified(|status| {
            let new_error = self
                .failures
                .last()
                .is_some_and(|new| status.last_error.as_ref().is_none_or(|old| !Arc::ptr_eq(old, new)));
            let changed = status.phase != phase
                || status.transport != transport
                || status.subscription_id != id
                || status.is_polling != is_polling
                || status.failed_attempts != attempts
                || status.waiting != waiting
                || status.last_error.is_some() != self.failures.last().is_some()
                || new_error
                || status.expires_at != expires_at;
            if changed {
                *status = Status {
                    phase,
                    subscription_id: id.clone(),
                    transport,
                    expires_at,
                    is_polling,
                    failed_attempts: attempts,
                    waiting,
                    last_error: self.failures.last().cloned(),
                    deleted: self.end.is_some() && self.machine.is_deleted() && is_clean,
                };
            }
            changed
        });
    }

    pub(super) fn expires_at(&mut self) -> Option<SystemTime> {
        let end = self.machine.expires_at();
        if self.expiry.map(|(told, _)| told) != end {
            self.expiry = end.and_then(|end| {
                let left = end.saturating_duration_since(Instant::now().into_std());
                Some((end, self.setup.clock.wall().checked_add(left)?))
            });
        }
        self.expiry.map(|(_, wall)| wall)
    }
}

impl Driver {
    /// What the next attempt on the way to `Live` waits for, if that is worth reporting.
    fn next_try(&mut self, phase: Phase) -> Option<Wait> {
        let now = Instant::now();
        let by_machine = || {
            let until = Instant::from_std(self.machine.waits_until()?);
            Some((until, self.failures.wait_cause()))
        };
        let found = match phase {
            Phase::Live | Phase::Closing | Phase::Closed => None,
            Phase::Starting | Phase::Connecting | Phase::Reconnecting | Phase::Recreating => {
                self.calls.longest_wait().or_else(by_machine)
            }
        };
        if self.waiting.map(|(waiting, _)| waiting) != found {
            self.waiting = found.map(|(until, cause)| {
                let left = until.saturating_duration_since(now);
                let wait = (left > WORTH_TELLING).then(|| {
                    tracing::warn!(
                        cause = cause.as_str(),
                        seconds = left.as_secs(),
                        phase = phase.as_str(),
                        subscription = self.id_for_log(),
                        "waiting before the next try"
                    );
                    Wait::new(self.setup.clock.wall() + left, cause)
                });
                ((until, cause), wait)
            });
        }
        self.waiting.and_then(|(_, wait)| wait)
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

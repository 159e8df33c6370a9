//! From a frame to a delivery: keys, repetitions, and the items that wait for the reader. Pure.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use foldhash::quality::FixedState;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::continuity::Span;
use super::key_wait::{KeyWait, Undecrypted};
use super::keys::Keys;
use super::progress::Traces;
use super::queue::{Item, Queue};
use super::resume::{Mark, ResumeToken};
use crate::codec::{self, Cipher, DecodeError};
use crate::control::DeliveryMode;
use crate::dedup::{About, Seen, Subjects};
use crate::delivery::{Delivery, Undecodable};
use crate::error::Result;
use crate::event::{DedupKey, Notification, Origin};
use crate::ids::ExtensionId;
use crate::transport::{Frame, FrameBody};

/// How many frames are remembered to recognize repetitions, and for how long: several times an answer as large as the
/// largest buffer.
const FRAMES: usize = 4096;
const FRAMES_FOR: Duration = Duration::from_secs(30 * 60);

/// A payload that was read, or could not be.
#[derive(Debug)]
pub(super) struct Opened {
    key: DedupKey,
    received_at: SystemTime,
    pub(super) delivery: Delivery,
}

/// An event that was not delivered before.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) delivery: Delivery,
    pub(super) traces: Traces,
    /// How many subjects it has that a source may find again.
    pub(super) subjects: usize,
}

/// Owns the waiting items, the keys that open them, and what was delivered.
///
/// Inputs: frames and found events, the service's keys, the reader's demand. Answers: whether an item may be delivered
/// now, whether the service is to be asked for the key, and what an item is to the reader: a new event, a repetition, or
/// an undecodable payload. Undecrypted events are reported once as the span of a possible gap.
#[derive(Debug)]
pub(super) struct Intake {
    queue: Queue,
    /// The most bytes that wait.
    limit: usize,
    keys: Keys,
    /// The requests for a key.
    key_wait: KeyWait,
    /// The first waiting payload may be encrypted with a key that is in transit.
    awaits_key: bool,
    /// Delivered events that no key decrypted and that no gap reports yet.
    undecrypted: Undecrypted,
    /// The newest position behind those.
    held_mark: Option<Mark>,
    /// Recent frames, by their position and text.
    frames: Seen<u64>,
    /// Delivered events, by their keys.
    events: Seen,
    /// The subjects of delivered events.
    subjects: Subjects,
    uris: CanonicalUris,
    /// The extension that `~` stands for, once the service has written it out.
    owner: Option<ExtensionId>,
}

impl Intake {
    /// `window`: how many events are remembered, and for how long.
    pub(super) fn new(limit: usize, window: (usize, Duration), resume: Option<&ResumeToken>, now: Instant) -> Self {
        let mut events = Seen::new(window.0, window.1);
        for key in resume.iter().flat_map(|token| &token.seen) {
            events.admit(*key, now);
        }
        Self {
            queue: Queue::new(limit),
            limit,
            keys: Keys::default(),
            key_wait: KeyWait::default(),
            awaits_key: false,
            undecrypted: Undecrypted::default(),
            held_mark: None,
            frames: Seen::new(FRAMES, FRAMES_FOR),
            events,
            subjects: resume.map_or_else(Subjects::default, |it| Subjects::restored(&it.pushed, &it.found, now)),
            uris: CanonicalUris::default(),
            owner: resume.and_then(|token| token.owner.clone()),
        }
    }

    /// The waiting items.
    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    pub(super) fn queue_mut(&mut self) -> &mut Queue {
        &mut self.queue
    }

    /// The reader is gone: no item is delivered.
    pub(super) fn drop_items(&mut self) {
        self.queue = Queue::new(self.limit);
    }

    /// Whether a frame arrived before. Without a position two events of one text look the same.
    pub(super) fn has_seen(&mut self, frame: &Frame, now: Instant) -> bool {
        frame.position.is_some() && self.frames.holds(frame_key(frame), now)
    }

    /// A frame arrived. `emitted`: when its event was, as far as known; `filters`: those that were in force then.
    pub(super) fn arrived(&mut self, now: Instant, frame: Frame, emitted: Span, filters: &Arc<[String]>) {
        self.frames.admit(frame_key(&frame), now);
        self.queue.push_frame(frame, &self.keys, emitted, filters);
    }

    /// The service described the subscription. Fails for an unusable key.
    pub(super) fn learn_key(&mut self, mode: &DeliveryMode) -> Result<()> {
        if self.add_key(mode)? {
            self.key_wait.learned();
        }
        Ok(())
    }

    /// The service answered the request for the key. Fails for an unusable one.
    pub(super) fn key_answered(&mut self, now: Instant, mode: &DeliveryMode) -> Result<()> {
        let added = self.add_key(mode);
        self.key_wait.answered(now, matches!(added, Ok(true)));
        added.map(|_| ())
    }

    /// Returns whether the key was unknown.
    fn add_key(&mut self, mode: &DeliveryMode) -> Result<bool> {
        match &mode.encryption_key {
            Some(key) => self.keys.add(mode.encryption_algorithm.as_deref(), key),
            None => Ok(false),
        }
    }

    /// The request for the key failed, or was not sent.
    pub(super) fn key_unanswered(&mut self, now: Instant) {
        self.key_wait.failed(now);
    }

    /// The answer to the request is about a former subscription.
    pub(super) fn key_outdated(&mut self) {
        self.key_wait = KeyWait::default();
    }

    /// Returns whether to ask the service for the key, if that is possible: no known one decrypts the next payload, and
    /// the service may have changed the key without notice, or in a renewal whose answer is in transit or lost (found
    /// 1.5). The payload waits for the answer.
    pub(super) fn needs_key(&mut self, now: Instant, can_ask: bool, is_renewing: bool) -> bool {
        self.awaits_key = false;
        let (keys, mut lacks_key) = (&self.keys, false);
        // What can be decrypted waits as plain text from now on: it is decrypted once.
        self.queue.open_first(|raw, valid| {
            let opened = codec::decode(raw, &valid.and_then(keys));
            lacks_key = opened.as_ref().is_err_and(is_for_want_of_a_key);
            opened.ok()
        });
        if !can_ask || !lacks_key {
            return false;
        }
        let needed = self.key_wait.needed(now, is_renewing);
        // Events that wait cost no others their room.
        self.awaits_key = needed.wait && !self.queue.is_full();
        needed.ask
    }

    /// The next item, if it is a payload, and the keys that may open it.
    fn next_payload(&self) -> Option<(&RawValue, Vec<&Cipher>)> {
        let (frame, keys) = self.queue.next_frame()?;
        let FrameBody::Payload(raw) = &frame.body else { return None };
        Some((raw, keys.and_then(&self.keys)))
    }

    /// Whether an item may be delivered now.
    pub(super) fn is_ready(&self) -> bool {
        !self.awaits_key && self.queue.is_ready()
    }

    /// When the undecrypted events were emitted that are to be reported now, as a possible gap before all waiting items;
    /// `is_ending`: no more arrive.
    pub(super) fn undecrypted_due(&mut self, now: Instant, is_ending: bool) -> Option<Span> {
        if self.undecrypted.is_empty() {
            return None;
        }
        let is_over = self.next_payload().is_some_and(|(raw, ciphers)| codec::decode(raw, &ciphers).is_ok());
        let span = self.undecrypted.due(now, is_over, is_ending && self.queue.is_empty())?;
        if let Some(mark) = self.held_mark.take() {
            self.queue.push_mark_first(mark);
        }
        Some(span)
    }

    /// Takes the next item. A restart continues before events that no gap reports yet, so a position behind them is held
    /// back.
    pub(super) fn next(&mut self) -> Option<Item> {
        match self.queue.pop()? {
            Item::Mark(mark) if !self.undecrypted.is_empty() => {
                self.held_mark = Some(mark);
                None
            }
            item => Some(item),
        }
    }

    /// Reads a frame with the keys that were valid when it arrived, or newer ones.
    pub(super) fn open(&mut self, now: Instant, mut frame: Frame, keys: &Keys, emitted: Span) -> Opened {
        let (received_at, position) = (frame.received_at, frame.position.take());
        let position = position.as_deref();
        let (key, delivery) = match read(frame, || keys.and_then(&self.keys)) {
            Ok(notification) => {
                let key = notification.dedup_key_at(position, &self.uris.of(&notification));
                (key, Delivery::Notification(Box::new(notification)))
            }
            Err(Unreadable { reason, raw, needs_key }) => {
                if needs_key {
                    self.undecrypted.add(now, emitted);
                }
                let key = DedupKey::over(2, &[&raw, position.unwrap_or_default()]);
                (key, Delivery::Undecodable(Undecodable { reason, raw, received_at }))
            }
        };
        Opened { key, received_at, delivery }
    }

    /// Whether an event was not delivered before.
    pub(super) fn is_first(&mut self, opened: &Opened, now: Instant) -> bool {
        !self.events.holds(opened.key, now)
    }

    /// Whether the subjects of a pushed event matter: a source found events before, or may find this one (`can_ask`).
    pub(super) fn compares_subjects(&self, can_ask: bool) -> bool {
        can_ask || !self.subjects.has_found_nothing()
    }

    /// Other deliveries take the place of this event.
    pub(super) fn replaced(&mut self, opened: &Opened, now: Instant) {
        self.events.admit(opened.key, now);
    }

    /// A pushed event as it is delivered; `None` for a repetition. `about`: its subjects, with its owner, if it is new;
    /// `is_copy`: another subscription delivered it; `can_ask`: a source may find it again.
    pub(super) fn admit(
        &mut self,
        Opened { key, received_at, delivery }: Opened,
        about: Option<About>,
        is_copy: bool,
        can_ask: bool,
        now: Instant,
    ) -> Option<Admitted> {
        // A copy counts as delivered, too.
        let is_new = self.events.admit(key, now);
        if is_copy || !is_new {
            return None;
        }
        if about.as_ref().is_some_and(|about| !self.subjects.admit_pushed(about, can_ask, now)) {
            return None;
        }
        let about = about.filter(|_| can_ask);
        let count = about.as_ref().map_or(0, About::len);
        let subjects = about.map(About::keys).unwrap_or_default();
        let traces = Traces { key: Some(key), subjects, found: false, at: Some(received_at) };
        Some(Admitted { delivery, traces, subjects: count })
    }

    /// Whether a found state, if it is one, differs from the last delivered one.
    pub(super) fn admit_state(&mut self, state: Option<(DedupKey, DedupKey)>) -> bool {
        state.is_none_or(|(subject, state)| self.subjects.admit_state(subject, state))
    }

    /// An event that a source found, with its owner, as it is delivered; `None` for a repetition.
    pub(super) fn admit_found(
        &mut self,
        notification: Notification,
        at: SystemTime,
        now: Instant,
    ) -> Option<(Delivery, Traces)> {
        let subjects = notification.subject_keys();
        // Events without a distinguishable subject are compared by their text: sources overlap on purpose.
        let (key, subjects) = if subjects.is_empty() {
            let key = notification.dedup_key();
            (Some(self.events.admit(key, now).then_some(key)?), subjects)
        } else if notification.origin() == Origin::Snapshot {
            (None, subjects)
        } else {
            (None, self.subjects.admit_found(&About::found(&notification), now)?)
        };
        let delivery = Delivery::Notification(Box::new(notification));
        Some((delivery, Traces { key, subjects, found: true, at: Some(at) }))
    }

    /// Whether an event with this subject was delivered.
    pub(super) fn is_known(&mut self, subject: DedupKey, now: Instant) -> bool {
        self.subjects.is_known(subject, now)
    }

    /// The last delivered states may be outdated.
    pub(super) fn forget_states(&mut self) {
        self.subjects.forget_states();
    }

    /// The extension that `~` stands for.
    pub(super) fn owner(&self) -> Option<&ExtensionId> {
        self.owner.as_ref()
    }

    /// Learns what `~` stands for. Returns it when it becomes known.
    pub(super) fn learn_owner(&mut self, find: impl FnOnce() -> Option<ExtensionId>) -> Option<&ExtensionId> {
        if self.owner.is_some() {
            return None;
        }
        self.owner = find();
        self.owner.as_ref()
    }

    /// An event that names its owner. The delivered one stays as it came: its key does not depend on earlier events.
    pub(super) fn owned<'a>(&self, notification: &'a Notification) -> Cow<'a, Notification> {
        match &self.owner {
            Some(owner) if notification.owner_id().is_none() => Cow::Owned(notification.clone().owned_by(Some(owner))),
            _ => Cow::Borrowed(notification),
        }
    }

    /// When [`needs_key`](Self::needs_key) or [`undecrypted_due`](Self::undecrypted_due) may change.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let key = self.key_wait.next().filter(|_| self.awaits_key);
        key.into_iter().chain(self.undecrypted.next()).min()
    }
}

/// The canonical forms of the newest event URIs: a subscription has few filters and many events.
#[derive(Debug, Default)]
struct CanonicalUris(VecDeque<(Box<str>, Box<str>)>);

impl CanonicalUris {
    /// How many, and the longest: others are worked out each time.
    const REMEMBERED: usize = 8;
    const LONGEST: usize = 512;

    fn of(&mut self, notification: &Notification) -> Cow<'_, str> {
        let uri = notification.event_uri();
        if uri.len() > Self::LONGEST {
            return notification.canonical_uri().into();
        }
        let at = self.0.iter().position(|(known, _)| **known == *uri).unwrap_or_else(|| {
            self.0.truncate(Self::REMEMBERED - 1);
            self.0.push_front((uri.into(), notification.canonical_uri().into()));
            0
        });
        Cow::Borrowed(&self.0[at].1)
    }
}

/// The key by which a repeated frame is recognized, in this process only.
fn frame_key(frame: &Frame) -> u64 {
    let text = match &frame.body {
        FrameBody::Payload(raw) => raw.get(),
        FrameBody::Malformed { raw, .. } => raw,
    };
    // A fixed seed, so that a run of the simulation can be repeated.
    FixedState::default().hash_one((text, &frame.position))
}

/// An unreadable payload; `needs_key`: another key might decrypt it.
struct Unreadable {
    reason: String,
    raw: Box<str>,
    needs_key: bool,
}

fn read<'a>(frame: Frame, ciphers: impl FnOnce() -> Vec<&'a Cipher>) -> Result<Notification, Unreadable> {
    let unreadable = |reason, raw| Unreadable { reason, raw, needs_key: false };
    let raw = match frame.body {
        FrameBody::Payload(raw) => raw,
        FrameBody::Malformed { raw, reason } => return Err(unreadable(reason.to_owned(), raw)),
    };
    let json = codec::decode_owned(raw, ciphers).map_err(|(raw, error)| Unreadable {
        needs_key: is_for_want_of_a_key(&error),
        ..unreadable(error.to_string(), raw.get().into())
    })?;
    Notification::parse(json, Origin::Push, frame.received_at)
        .map_err(|malformed| unreadable(malformed.to_string(), malformed.raw().get().into()))
}

/// Whether another key could decrypt a payload that these do not.
fn is_for_want_of_a_key(error: &DecodeError) -> bool {
    match error {
        DecodeError::NoKey { .. }
        | DecodeError::Padding { .. }
        | DecodeError::Utf8 { .. }
        | DecodeError::Json { .. } => true,
        DecodeError::Base64 { .. } | DecodeError::Length { .. } | DecodeError::NotAnObject { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::continuity::Proven;
    use super::super::endpoint::Endpoint;
    use super::*;
    use crate::control::Cursor;
    use crate::secret::Secret;

    const OLD_KEY: &str = "e0bMTqmumPfFUbwzppkSbA==";
    const NEW_KEY: &str = "pdj+XYIRRBryWS2k33qXiA==";

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn at(n: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + secs(n)
    }

    fn span(n: u64) -> Span {
        Span { from: at(n), to: at(n) }
    }

    fn intake() -> Intake {
        Intake::new(1 << 20, (100, secs(600)), None, Instant::now())
    }

    fn mode(key: &str) -> DeliveryMode {
        let key = Some(Secret::new(key));
        DeliveryMode { encryption_key: key, encryption_algorithm: Some("AES".to_owned()), ..DeliveryMode::default() }
    }

    fn missed_call(n: u64, extension: &str) -> String {
        let uri = format!("/restapi/v1.0/account/~/extension/{extension}/missed-calls");
        format!(r#"{{"uuid":"{n}","event":"{uri}","body":{{"sessionId":"{n}"}}}}"#)
    }

    fn event(n: u64) -> String {
        missed_call(n, "~")
    }

    fn frame(text: String, position: Option<&str>) -> Frame {
        let raw = RawValue::from_string(text).unwrap();
        Frame::new(FrameBody::Payload(raw), at(9)).at(position.map(Into::into))
    }

    fn sealed(key: &str, n: u64) -> Frame {
        let cipher = Cipher::from_delivery_mode(Some("AES"), &Secret::new(key)).unwrap();
        frame(format!("\"{}\"", cipher.encrypt(event(n).as_bytes(), [0; 16]).unwrap()), None)
    }

    fn arrive(intake: &mut Intake, frame: Frame, n: u64) {
        intake.arrived(Instant::now(), frame, span(n), &Arc::from([]));
    }

    fn mark(n: u64) -> Mark {
        let endpoint = Endpoint { id: "s".into(), fingerprint: String::new(), owner: None };
        Mark { cursor: Cursor::at(at(n)), endpoint: Arc::new(endpoint), proven: Proven::all(at(n)) }
    }

    fn parse(text: String, origin: Origin) -> Notification {
        Notification::parse(RawValue::from_string(text).unwrap(), origin, at(9)).unwrap()
    }

    /// Delivers the next item, if it is a frame: its uuid, `"undecodable"`, or `"repeated"`.
    fn deliver(intake: &mut Intake, is_copy: bool) -> String {
        let Some(Item::Frame { frame, keys, emitted }) = intake.next() else { panic!("a frame") };
        let now = Instant::now();
        let opened = intake.open(now, frame, &keys, emitted);
        let about = match &opened.delivery {
            Delivery::Notification(it) => Some(About::of(&intake.owned(it))),
            _ => None,
        };
        match intake.admit(opened, about, is_copy, true, now).map(|it| it.delivery) {
            Some(Delivery::Notification(it)) => it.uuid().unwrap().to_owned(),
            Some(Delivery::Undecodable(_)) => "undecodable".to_owned(),
            Some(other) => panic!("{other:?}"),
            None => "repeated".to_owned(),
        }
    }

    #[test]
    fn each_event_is_delivered_once() {
        let mut intake = intake();
        for (n, is_copy, want) in
            [(1, false, "1"), (1, false, "repeated"), (2, true, "repeated"), (2, false, "repeated"), (3, false, "3")]
        {
            arrive(&mut intake, frame(event(n), None), n);
            assert_eq!(deliver(&mut intake, is_copy), want, "{n} {is_copy}");
        }
        let found =
            |n: u64| parse(format!(r#"{{"event":"{}","body":{{"sessionId":"{n}"}}}}"#, missed_uri()), Origin::CatchUp);
        let now = Instant::now();
        assert!(intake.admit_found(found(3), at(9), now).is_none(), "it was pushed");
        let (_, traces) = intake.admit_found(found(4), at(9), now).unwrap();
        assert_eq!((traces.key, traces.found, traces.at), (None, true, Some(at(9))));
        assert!(traces.subjects.iter().all(|subject| intake.is_known(*subject, now)) && !traces.subjects.is_empty());
        assert!(intake.admit_found(found(4), at(9), now).is_none());
        arrive(&mut intake, frame(event(4), None), 4);
        assert_eq!(deliver(&mut intake, false), "repeated", "it was found");
    }

    #[test]
    fn a_remembered_uri_gives_the_same_key_and_few_are_remembered() {
        let mut uris = CanonicalUris::default();
        let long = "9".repeat(CanonicalUris::LONGEST);
        let extensions = ["~", "1", &long].into_iter().map(str::to_owned).chain((2..40).map(|n: u64| n.to_string()));
        for extension in extensions.collect::<Vec<_>>().iter().cycle().take(120) {
            let notification = parse(missed_call(7, extension), Origin::Push);
            assert_eq!(
                notification.dedup_key_at(None, &uris.of(&notification)),
                notification.dedup_key(),
                "{extension}"
            );
            assert!(
                uris.0.len() <= CanonicalUris::REMEMBERED
                    && uris.0.iter().all(|(uri, _)| uri.len() <= CanonicalUris::LONGEST)
            );
        }
        let notification = parse(missed_call(7, "~"), Origin::Push);
        for _ in 0..2 {
            uris.of(&notification);
            assert_eq!(uris.0.iter().filter(|(uri, _)| **uri == *notification.event_uri()).count(), 1);
        }
    }

    /// A subscription without a source that has found nothing spends no time on subjects.
    #[test]
    fn subjects_matter_once_a_source_may_find_events_or_has_found_some() {
        let mut intake = intake();
        assert!(!intake.compares_subjects(false) && intake.compares_subjects(true));
        let found = parse(missed_call(1, "~").replace(r#""uuid":"1","#, ""), Origin::CatchUp);
        assert!(intake.admit_found(found, at(9), Instant::now()).is_some());
        assert!(intake.compares_subjects(false));
        let mut intake = self::intake();
        assert!(intake.admit_state(Some((DedupKey::from_bytes([1; 16]), DedupKey::from_bytes([2; 16])))));
        assert!(intake.compares_subjects(false));
    }

    fn missed_uri() -> &'static str {
        "/restapi/v1.0/account/~/extension/~/missed-calls"
    }

    #[test]
    fn events_without_a_subject_are_known_by_their_text_and_states_always_pass() {
        let (mut intake, now) = (intake(), Instant::now());
        let plain = || parse(r#"{"event":"/x","body":{}}"#.to_owned(), Origin::CatchUp);
        let (_, traces) = intake.admit_found(plain(), at(9), now).unwrap();
        assert_eq!((traces.key, traces.subjects.len()), (Some(plain().dedup_key()), 0));
        assert!(intake.admit_found(plain(), at(9), now).is_none());
        let state = || parse(format!(r#"{{"event":"{}","body":{{"sessionId":"1"}}}}"#, missed_uri()), Origin::Snapshot);
        for _ in 0..2 {
            let (_, traces) = intake.admit_found(state(), at(9), now).unwrap();
            assert!(traces.key.is_none() && !traces.subjects.is_empty());
        }
        let key = |n: &str| DedupKey::over(1, &[n]);
        assert!(intake.admit_state(None));
        for (state, is_new) in [("a", true), ("a", false), ("b", true)] {
            assert_eq!(intake.admit_state(Some((key("of"), key(state)))), is_new, "{state}");
        }
        intake.forget_states();
        assert!(intake.admit_state(Some((key("of"), key("b")))));
    }

    #[test]
    fn a_source_recognizes_the_subjects_of_pushed_events_if_there_is_one() {
        let now = Instant::now();
        for can_ask in [true, false] {
            let mut intake = intake();
            let opened = intake.open(now, frame(event(1), None), &Keys::default(), span(1));
            let owned = parse(event(1), Origin::Push);
            let admitted = intake.admit(opened, Some(About::of(&owned)), false, can_ask, now).unwrap();
            let known = owned.subject_keys().into_iter().all(|subject| intake.is_known(subject, now));
            assert_eq!(known, can_ask, "only what a source can find again takes memory");
            assert_eq!((admitted.subjects, admitted.traces.subjects.is_empty()), (usize::from(can_ask), !can_ask));
            let traces = admitted.traces;
            assert_eq!((traces.key, traces.found, traces.at), (Some(owned.dedup_key()), false, Some(at(9))));
        }
    }

    #[test]
    fn an_event_whose_place_others_take_counts_as_delivered() {
        let (mut intake, now) = (intake(), Instant::now());
        let mut open = || intake.open(now, frame(event(1), None), &Keys::default(), span(1));
        let (one, other) = (open(), open());
        assert!(intake.is_first(&one, now));
        intake.replaced(&one, now);
        assert!(!intake.is_first(&other, now));
        assert!(intake.admit(other, None, false, true, now).is_none());
    }

    #[test]
    fn a_frame_is_known_again_by_its_position_and_text() {
        let (mut intake, now) = (intake(), Instant::now());
        arrive(&mut intake, frame(event(1), Some("7")), 1);
        arrive(&mut intake, frame(event(2), None), 2);
        for (n, position, is_known) in
            [(1, Some("7"), true), (1, Some("8"), false), (2, Some("7"), false), (2, None, false)]
        {
            assert_eq!(intake.has_seen(&frame(event(n), position), now), is_known, "{n} {position:?}");
        }
        let malformed = |raw: &str| {
            let body = FrameBody::Malformed { raw: raw.into(), reason: "bad" };
            Frame::new(body, at(9)).at(Some("9".into()))
        };
        arrive(&mut intake, malformed("a"), 3);
        assert!(intake.has_seen(&malformed("a"), now) && !intake.has_seen(&malformed("b"), now));
    }

    /// Found 1.5.
    #[test]
    fn the_next_payload_waits_for_its_key_if_that_can_be_asked_for() {
        let now = Instant::now();
        let fill = |intake: &mut Intake| (0..9_000).for_each(|n| arrive(intake, sealed(OLD_KEY, n), n));
        type Step = fn(&mut Intake);
        // The first frame, what happens, whether it can be asked for, and whether to ask and to deliver.
        let cases: [(&str, Frame, Step, bool, bool, bool); 6] = [
            ("known", sealed(OLD_KEY, 1), |_| {}, true, false, true),
            ("not encrypted", frame(event(1), None), |_| {}, true, false, true),
            ("not decodable", frame("\"-\"".to_owned(), None), |_| {}, true, false, true),
            ("unknown", sealed(NEW_KEY, 1), |_| {}, true, true, false),
            ("at the end", sealed(NEW_KEY, 1), |_| {}, false, false, true),
            ("learned", sealed(NEW_KEY, 1), |it| it.learn_key(&mode(NEW_KEY)).unwrap(), true, false, true),
        ];
        for (case, frame, step, can_ask, asks, is_ready) in cases {
            let mut intake = intake();
            intake.learn_key(&mode(OLD_KEY)).unwrap();
            assert!(!intake.is_ready(), "nothing waits");
            arrive(&mut intake, frame, 1);
            step(&mut intake);
            assert_eq!(intake.needs_key(now, can_ask, false), asks, "{case}");
            assert_eq!((intake.is_ready(), intake.poll_timeout().is_some()), (is_ready, !is_ready), "{case}");
            assert!(!intake.needs_key(now, can_ask, false), "it is being asked: {case}");
        }
        let mut intake = intake();
        arrive(&mut intake, sealed(NEW_KEY, 1), 1);
        fill(&mut intake);
        assert!(intake.queue().is_full());
        assert!(intake.needs_key(now, true, false) && intake.is_ready(), "it costs no others their room");
    }

    #[test]
    fn an_answer_about_the_key_lets_the_payload_go() {
        let now = Instant::now();
        let waiting = || {
            let mut intake = intake();
            arrive(&mut intake, sealed(NEW_KEY, 1), 1);
            assert!(intake.needs_key(now, true, false));
            intake
        };
        let mut intake = waiting();
        intake.key_answered(now, &mode(NEW_KEY)).unwrap();
        assert!(!intake.needs_key(now, true, false) && intake.is_ready());
        assert_eq!(deliver(&mut intake, false), "1");
        for answer in [mode(OLD_KEY), DeliveryMode::default()] {
            let mut intake = waiting();
            intake.learn_key(&mode(OLD_KEY)).unwrap();
            intake.needs_key(now, true, false);
            intake.key_answered(now, &answer).unwrap();
            assert!(!intake.needs_key(now, true, false) && intake.is_ready(), "the service has no other key");
            assert!(!intake.needs_key(now, true, true) && !intake.is_ready(), "a renewal may bring one");
            assert_eq!(deliver(&mut intake, false), "undecodable");
        }
        let mut intake = waiting();
        assert!(intake.key_answered(now, &mode("bad")).is_err() && intake.learn_key(&mode("bad")).is_err());
        assert!(!intake.needs_key(now, true, false) && intake.is_ready());
        let mut intake = waiting();
        intake.key_unanswered(now);
        assert!(!intake.needs_key(now, true, false) && intake.needs_key(now + secs(1), true, false), "after a pause");
        let mut intake = waiting();
        intake.key_outdated();
        assert!(intake.needs_key(now, true, false), "of another subscription");
        // Another answer had a key: the next payload is asked about at once.
        let mut intake = waiting();
        intake.key_unanswered(now);
        intake.learn_key(&mode(OLD_KEY)).unwrap();
        assert!(intake.needs_key(now, true, false));
    }

    #[test]
    fn undecrypted_events_are_reported_before_what_follows_and_hold_positions_back() {
        let now = Instant::now();
        let undecrypted = || {
            let mut intake = intake();
            assert_eq!(intake.undecrypted_due(now + secs(600), true), None);
            arrive(&mut intake, sealed(NEW_KEY, 1), 1);
            assert_eq!(deliver(&mut intake, false), "undecodable");
            intake.queue_mut().push_mark(mark(1));
            assert!(intake.next().is_none(), "the position is held back");
            intake
        };
        let is_mark =
            |intake: &mut Intake| matches!(intake.next(), Some(Item::Mark(mark)) if mark.cursor == Cursor::at(at(1)));
        let soon = Instant::now() + secs(1);
        // Nothing follows.
        let mut intake = undecrypted();
        assert_eq!(intake.undecrypted_due(soon, false), None);
        let due = intake.poll_timeout().unwrap();
        assert_eq!(intake.undecrypted_due(due, false), Some(span(1)));
        assert!(intake.poll_timeout().is_none() && is_mark(&mut intake));
        // One that opens follows.
        let mut intake = undecrypted();
        arrive(&mut intake, frame(event(2), None), 2);
        assert_eq!(intake.undecrypted_due(soon, false), Some(span(1)));
        assert!(is_mark(&mut intake));
        assert_eq!(deliver(&mut intake, false), "2");
        // Another that does not.
        let mut intake = undecrypted();
        arrive(&mut intake, sealed(NEW_KEY, 2), 2);
        assert_eq!(intake.undecrypted_due(soon, true), None, "more are to be delivered");
        assert_eq!(deliver(&mut intake, false), "undecodable");
        // The end.
        assert_eq!(intake.undecrypted_due(soon, false), None);
        assert_eq!(intake.undecrypted_due(soon, true), Some(Span { from: at(1), to: at(2) }));
        // A damaged payload is not one of them.
        let mut intake = self::intake();
        arrive(&mut intake, frame("[]".to_owned(), None), 3);
        assert_eq!(deliver(&mut intake, false), "undecodable");
        assert!(intake.poll_timeout().is_none());
    }

    #[test]
    fn the_owner_is_learned_once_and_named_in_events() {
        let mut intake = intake();
        let event = parse(event(1), Origin::Push);
        assert_eq!(intake.learn_owner(|| None), None);
        assert_eq!(intake.owned(&event).owner_id(), None);
        assert_eq!(intake.learn_owner(|| Some("7".into())), Some(&"7".into()));
        assert_eq!(intake.learn_owner(|| Some("8".into())), None);
        assert_eq!((intake.owner(), intake.owned(&event).owner_id()), (Some(&"7".into()), Some(&"7".into())));
    }

    #[test]
    fn a_restart_knows_what_was_delivered_before() {
        let now = Instant::now();
        let mut token = ResumeToken::new("s".into(), String::new(), None, Proven::all(at(1)));
        token.seen = vec![parse(event(1), Origin::Push).dedup_key()];
        token.owner = Some("7".into());
        let mut intake = Intake::new(1 << 20, (100, secs(600)), Some(&token), now);
        for (n, want) in [(1, "repeated"), (2, "2")] {
            arrive(&mut intake, frame(event(n), None), n);
            assert_eq!(deliver(&mut intake, false), want);
        }
        assert_eq!(intake.owner(), Some(&"7".into()));
        arrive(&mut intake, frame(event(3), None), 3);
        intake.drop_items();
        assert!(intake.next().is_none() && intake.queue().is_empty());
    }
}

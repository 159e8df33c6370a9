//! Counts of messages that were pushed, and wait for the messages themselves. Pure.
//!
//! A pushed count names new messages by their ids and updates not at all. A source is asked
//! for the messages. What it does not find (it may be behind the push, or the message older
//! than it looks) is neither dropped nor forgotten: the count itself is delivered, the source
//! is asked again for a while, and then a gap is reported (found 3.7).

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use crate::event::{DedupKey, Event, Notification, Spelling};
use crate::ids::ExtensionId;

/// The most waiting counts; beyond it the oldest is delivered unchanged.
const WAITING: usize = 1_024;
/// How soon a count is queried that arrived during a query of the source.
const SOON: Duration = Duration::from_millis(300);
/// How long after an answer without it a count is queried again.
const AGAIN: [u64; 6] = [1, 2, 4, 8, 15, 30];

/// The service may write the login's extension by its id in one and as `~` in the other.
const SPELLINGS: [Spelling; 2] = [Spelling::Named, Spelling::Tilde];

/// What a round of the source found.
#[derive(Debug, Default)]
pub(super) struct Found {
    keys: Vec<DedupKey>,
    new: u64,
    updates: u64,
}

impl Found {
    pub(super) fn add(&mut self, notification: &Notification) {
        if let Event::MessageStore(hint) = notification.event() {
            self.keys.extend(SPELLINGS.iter().flat_map(|spelling| notification.subject_keys_by(*spelling)));
            self.new += hint.new_count();
            self.updates += hint.updated_count();
        }
    }
}

/// A waiting count.
#[derive(Debug)]
struct Count {
    /// Of the new messages that it names, each by both spellings.
    new: Vec<[DedupKey; 2]>,
    new_count: u64,
    has_updates: bool,
    at: SystemTime,
    /// Whether the source was queried since it arrived.
    asked: bool,
    /// The number of answers without it.
    missed: usize,
    /// `Some` until the count itself is delivered.
    notification: Option<Box<Notification>>,
}

impl Count {
    fn is_found(&self, found: &Found, is_known: &mut dyn FnMut(&DedupKey) -> bool) -> bool {
        let named = self.new.iter().all(|keys| keys.iter().any(|key| found.keys.contains(key) || is_known(key)));
        let named_count = u64::try_from(self.new.len()).unwrap_or(u64::MAX);
        // Two changes of one message are found as one.
        let updated = !self.has_updates || found.updates > 0;
        named && updated && (self.new_count <= named_count || found.new >= self.new_count)
    }
}

/// The actions after an answer.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Counts to deliver themselves.
    pub(super) deliver: Vec<Notification>,
    /// Since when something is missing that will not be queried again.
    pub(super) missing_since: Option<SystemTime>,
    /// When to query again.
    pub(super) again_after: Option<Duration>,
}

/// The waiting counts.
#[derive(Debug, Default)]
pub(super) struct Counts(VecDeque<Count>);

impl Counts {
    /// A count was pushed to the subscription of `owner`. Returns the oldest where too many
    /// wait.
    pub(super) fn push(
        &mut self,
        notification: Box<Notification>,
        owner: Option<&ExtensionId>,
    ) -> Option<Box<Notification>> {
        let Event::MessageStore(hint) = notification.event() else { return Some(notification) };
        let named: usize = hint.new_message_ids().count();
        let owned = notification.as_ref().clone().owned_by(owner);
        let [by_id, by_tilde] = SPELLINGS.map(|spelling| owned.subject_keys_by(spelling));
        let new = by_id.into_iter().zip(by_tilde).map(|(id, tilde)| [id, tilde]).take(named).collect();
        let count = Count {
            new,
            new_count: hint.new_count(),
            has_updates: hint.updated_count() > 0,
            at: notification.received_at(),
            asked: false,
            missed: 0,
            notification: Some(notification),
        };
        self.0.push_back(count);
        let over = (self.0.len() > WAITING).then(|| self.0.pop_front()).flatten();
        over.and_then(|count| count.notification)
    }

    /// The source is being queried.
    pub(super) fn ask(&mut self) {
        self.0.iter_mut().for_each(|count| count.asked = true);
    }

    /// The call failed without an answer: nothing was queried.
    pub(super) fn not_asked(&mut self) {
        self.0.iter_mut().for_each(|count| count.asked = false);
    }

    /// The source is no longer queried: the waiting counts are delivered unchanged.
    pub(super) fn give_up(&mut self) -> Vec<Notification> {
        let counts = std::mem::take(&mut self.0);
        counts.into_iter().filter_map(|count| count.notification).map(|it| *it).collect()
    }

    /// The source answered the whole query; `is_known`: what was delivered before.
    pub(super) fn judge(&mut self, found: &Found, mut is_known: impl FnMut(&DedupKey) -> bool) -> Judged {
        let mut judged = Judged::default();
        let sooner = |again: Option<Duration>, after| Some(again.map_or(after, |earlier: Duration| earlier.min(after)));
        self.0.retain_mut(|count| {
            if !count.asked {
                judged.again_after = sooner(judged.again_after, SOON);
                return true;
            }
            count.asked = false;
            if count.is_found(found, &mut is_known) {
                return false;
            }
            judged.deliver.extend(count.notification.take().map(|notification| *notification));
            let Some(after) = AGAIN.get(count.missed) else {
                judged.missing_since = judged.missing_since.into_iter().chain([count.at]).min();
                return false;
            };
            count.missed += 1;
            judged.again_after = sooner(judged.again_after, Duration::from_secs(*after));
            true
        });
        judged
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::Origin;

    fn hint(new: u64, updated: u64, ids: &[u64]) -> Box<Notification> {
        let change = json!({"type": "SMS", "newCount": new, "updatedCount": updated, "newMessageIds": ids});
        let body = json!({"extensionId": 2, "changes": [change]});
        let event = "/restapi/v1.0/account/1/extension/2/message-store";
        let text = json!({"uuid": "u", "event": event, "body": body}).to_string();
        let raw = serde_json::value::RawValue::from_string(text).unwrap();
        Box::new(Notification::parse(raw, Origin::Push, SystemTime::UNIX_EPOCH).unwrap())
    }

    fn found(hints: &[Box<Notification>]) -> Found {
        let mut found = Found::default();
        hints.iter().for_each(|hint| found.add(hint));
        found
    }

    #[test]
    fn a_count_is_answered_by_its_messages() {
        for (pushed, answer, is_found) in [
            (hint(1, 0, &[7]), vec![hint(1, 0, &[7])], true),
            (hint(1, 0, &[7]), vec![], false),
            (hint(1, 0, &[7]), vec![hint(1, 0, &[8])], false),
            (hint(2, 0, &[7, 8]), vec![hint(1, 0, &[7])], false),
            (hint(2, 0, &[7, 8]), vec![hint(1, 0, &[7]), hint(1, 0, &[8])], true),
            (hint(1, 0, &[]), vec![hint(1, 0, &[9])], true),
            (hint(2, 0, &[]), vec![hint(1, 0, &[9])], false),
            (hint(0, 1, &[]), vec![hint(0, 1, &[])], true),
            (hint(0, 2, &[]), vec![hint(0, 1, &[])], true),
            (hint(0, 1, &[]), vec![hint(1, 0, &[9])], false),
            (hint(1, 1, &[7]), vec![hint(1, 0, &[7])], false),
            (hint(1, 1, &[7]), vec![hint(1, 0, &[7]), hint(0, 1, &[])], true),
            (hint(0, 0, &[]), vec![], true),
        ] {
            let mut counts = Counts::default();
            let case = format!("{:?} {}", pushed.raw_body().map(|body| body.get().to_owned()), answer.len());
            assert!(counts.push(pushed, None).is_none());
            counts.ask();
            let judged = counts.judge(&found(&answer), |_| false);
            assert_eq!(judged.deliver.is_empty(), is_found, "{case}");
            assert_eq!(counts.0.is_empty(), is_found, "{case}");
        }
    }

    #[test]
    fn a_count_is_known_by_its_messages_however_the_extension_is_written() {
        let of = |extension: &str, owner: serde_json::Value| {
            let event = format!("/restapi/v1.0/account/~/extension/{extension}/message-store");
            let body = json!({"changes": [{"type": "SMS", "newCount": 1, "newMessageIds": ["7"]}]});
            let text = json!({"uuid": "u", "event": event, "ownerId": owner, "body": body}).to_string();
            let raw = serde_json::value::RawValue::from_string(text).unwrap();
            Box::new(Notification::parse(raw, Origin::Push, SystemTime::UNIX_EPOCH).unwrap())
        };
        let owner = ExtensionId::from("2");
        let (unnamed, named) = (serde_json::Value::Null, json!("2"));
        for (pushed, owner, answer) in [
            (of("2", unnamed.clone()), Some(&owner), of("~", unnamed.clone())),
            (of("~", named.clone()), None, of("~", unnamed.clone())),
            (of("2", named.clone()), None, of("~", unnamed.clone())),
            (of("~", named), None, of("2", unnamed)),
        ] {
            let found = found(&[answer]);
            for known in [false, true] {
                let mut counts = Counts::default();
                counts.push(pushed.clone(), owner);
                counts.ask();
                let nothing = Found::default();
                let is_known = |key: &DedupKey| known && found.keys.contains(key);
                let judged = counts.judge(if known { &nothing } else { &found }, is_known);
                assert!(judged.deliver.is_empty() && counts.0.is_empty(), "{pushed:?} {known}");
            }
        }
    }

    #[test]
    fn delivered_messages_are_not_queried_again() {
        let mut counts = Counts::default();
        counts.push(hint(1, 0, &[7]), None);
        counts.ask();
        assert!(counts.judge(&Found::default(), |_| true).deliver.is_empty() && counts.0.is_empty());
    }

    #[test]
    fn one_that_came_after_the_source_was_asked_waits_for_the_next_answer() {
        let mut counts = Counts::default();
        counts.ask();
        counts.push(hint(1, 0, &[7]), None);
        let judged = counts.judge(&Found::default(), |_| false);
        assert!(judged.deliver.is_empty() && judged.again_after == Some(SOON));
        counts.ask();
        assert_eq!(counts.judge(&Found::default(), |_| false).deliver.len(), 1);
    }

    #[test]
    fn a_failed_call_counts_as_no_query() {
        let mut counts = Counts::default();
        counts.push(hint(1, 0, &[7]), None);
        counts.ask();
        counts.not_asked();
        let judged = counts.judge(&Found::default(), |_| false);
        assert!(judged.deliver.is_empty() && judged.again_after == Some(SOON));
        assert_eq!(counts.give_up().len(), 1);
        assert!(counts.0.is_empty());
    }

    #[test]
    fn a_count_is_delivered_once_asked_about_again_and_reported_missing_in_the_end() {
        let mut counts = Counts::default();
        counts.push(hint(1, 0, &[7]), None);
        let mut delivered = 0;
        for after in AGAIN {
            counts.ask();
            let judged = counts.judge(&Found::default(), |_| false);
            delivered += judged.deliver.len();
            assert_eq!(judged.again_after, Some(Duration::from_secs(after)));
            assert_eq!(judged.missing_since, None);
        }
        counts.ask();
        let judged = counts.judge(&Found::default(), |_| false);
        assert_eq!((judged.missing_since, judged.again_after), (Some(SystemTime::UNIX_EPOCH), None));
        assert_eq!((delivered, judged.deliver.len(), counts.0.len()), (1, 0, 0));
    }

    #[test]
    fn too_many_are_delivered_as_they_are() {
        let mut counts = Counts::default();
        let over: Vec<_> = (0..WAITING + 3).filter_map(|_| counts.push(hint(1, 0, &[7]), None)).collect();
        assert_eq!((over.len(), counts.0.len()), (3, WAITING));
    }
}

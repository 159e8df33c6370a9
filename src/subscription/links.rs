//! Which links are opened, read, checked and closed. Pure: links are held here and never called.

use std::time::Duration;

use tokio::time::Instant;

use super::machine::LinkId;
use crate::ids::SubscriptionId;

/// How long the links are not read while the reader's queue is full: events wait at the service and in the network
/// meanwhile. A gateway wants its pings answered within 10 s (websocket-and-webhooks.md, D), and a dead link shows only
/// when it is read.
const HOLD: Duration = Duration::from_secs(7);
/// How long a link has, at the end or at an address that is left, to show whether something is unread.
const DRAIN_WITHIN: Duration = Duration::from_secs(3);

/// Counts the addresses of the subscription, so that links of a former one are distinguished.
pub(super) type Epoch = u64;

/// Whether to read the links now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    Yes,
    No,
    /// Read, and drop what does not fit.
    Dropping,
}

/// The result of the last check of the present link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Drained {
    pub(super) link: LinkId,
    /// Whether everything that was sent before the end was requested is read.
    pub(super) is_read: bool,
}

/// Owns the links `L` and the handles `O` of those that are being opened; dropping such a handle aborts the opening.
///
/// Inputs: openings and their results, changes of the address, the request to end, the fill of the reader's queue.
/// Effects: the links to check and to close. Answers: what a link's event proves, and whether links are read now.
#[derive(Debug)]
pub(super) struct Links<L, O> {
    /// The present address.
    epoch: Epoch,
    opening: Vec<Opening<O>>,
    reading: Vec<Reading<L>>,
    draining: Option<Draining>,
    /// Since when the links are not read.
    held_since: Option<Instant>,
    /// Whose the addresses are that links read.
    subscriptions: Vec<(Epoch, SubscriptionId)>,
    /// How many batches named another subscription than that of their link.
    misrouted: u64,
}

#[derive(Debug)]
struct Opening<O> {
    id: LinkId,
    epoch: Epoch,
    _handle: O,
}

#[derive(Debug)]
struct Reading<L> {
    id: LinkId,
    epoch: Epoch,
    link: L,
    /// When another address, or subscription, replaced the one that it reads.
    left_at: Option<Instant>,
    /// Whether everything that was sent before is read.
    is_read: bool,
}

/// The link that is checked at the end.
#[derive(Clone, Copy, Debug)]
struct Draining {
    link: LinkId,
    /// When the end was requested: everything that was sent before is to be read.
    asked: Instant,
}

impl<L, O> Links<L, O> {
    pub(super) fn new() -> Self {
        Self {
            epoch: 0,
            opening: Vec::new(),
            reading: Vec::new(),
            draining: None,
            held_since: None,
            subscriptions: Vec::new(),
            misrouted: 0,
        }
    }

    /// The present address.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn is_present(&self, epoch: Epoch) -> bool {
        epoch == self.epoch
    }

    /// Whether no link reads a former address, or is being opened for one. While one does, or may, only its own position
    /// covers everything.
    pub(super) fn listen_at_present_only(&self) -> bool {
        let opening = self.opening.iter().map(|opening| opening.epoch);
        self.reading.iter().map(|reading| reading.epoch).chain(opening).all(|it| it == self.epoch)
    }

    /// Whether a link reads the address, or is being opened for it.
    pub(super) fn listen_at(&self, epoch: Epoch) -> bool {
        let opening = self.opening.iter().map(|opening| opening.epoch);
        self.reading.iter().map(|reading| reading.epoch).chain(opening).any(|it| it == epoch)
    }

    /// The first address of a subscription.
    pub(super) fn begin(&mut self) {
        self.epoch += 1;
    }

    /// Another address replaces the present one. Returns the links to check: events in transit there are read, or
    /// reported as a possible loss.
    pub(super) fn leave(&mut self, now: Instant) -> impl Iterator<Item = &mut L> {
        let left = self.epoch;
        self.epoch += 1;
        for reading in self.reading.iter_mut().filter(|reading| reading.epoch == left) {
            (reading.left_at, reading.is_read) = (Some(now), false);
        }
        self.reading.iter_mut().filter(move |reading| reading.epoch == left).map(|reading| &mut reading.link)
    }

    /// A link is being opened for the present address.
    pub(super) fn open(&mut self, id: LinkId, subscription: SubscriptionId, handle: O) {
        let mut subscriptions = std::mem::take(&mut self.subscriptions);
        subscriptions.retain(|(epoch, _)| *epoch != self.epoch && self.listen_at(*epoch));
        subscriptions.push((self.epoch, subscription));
        self.subscriptions = subscriptions;
        self.opening.push(Opening { id, epoch: self.epoch, _handle: handle });
    }

    /// A link was opened. Returns it if it is to be closed, since its opening was given up meanwhile.
    pub(super) fn opened(&mut self, now: Instant, id: LinkId, link: L) -> Option<L> {
        let Some(epoch) = self.take_opening(id) else { return Some(link) };
        let left_at = (epoch != self.epoch).then_some(now);
        self.reading.push(Reading { id, epoch, link, left_at, is_read: false });
        None
    }

    /// A link could not be opened. Returns whether that matters: its opening was not given up.
    pub(super) fn not_opened(&mut self, id: LinkId) -> bool {
        self.take_opening(id).is_some()
    }

    fn take_opening(&mut self, id: LinkId) -> Option<Epoch> {
        let at = self.opening.iter().position(|opening| opening.id == id)?;
        Some(self.opening.swap_remove(at).epoch)
    }

    /// The links that are open.
    pub(super) fn reading(&mut self) -> impl Iterator<Item = (LinkId, &mut L)> {
        self.reading.iter_mut().map(|reading| (reading.id, &mut reading.link))
    }

    /// The links to read now, in the order in which their events are taken. Those of later addresses wait while a link
    /// of a former one may have older events: events of one resource arrive in order.
    pub(super) fn ready(&mut self, now: Instant) -> impl Iterator<Item = (LinkId, &mut L)> {
        let oldest = self.unread(now).map(|(epoch, _)| epoch).min();
        let is_ready = move |reading: &&mut Reading<L>| oldest.is_none_or(|oldest| reading.epoch <= oldest);
        self.reading.iter_mut().filter(is_ready).map(|reading| (reading.id, &mut reading.link))
    }

    /// The former addresses that may have unread events, and until when that is waited for. The end waits for none.
    fn unread(&self, now: Instant) -> impl Iterator<Item = (Epoch, Instant)> {
        let unread = self.reading.iter().filter(|reading| !reading.is_read && self.draining.is_none());
        let until = unread.filter_map(|reading| Some((reading.epoch, reading.left_at? + DRAIN_WITHIN)));
        until.filter(move |(_, until)| now < *until)
    }

    /// Everything that was sent over the link before its address was left is read.
    pub(super) fn read(&mut self, id: LinkId) {
        self.reading.iter_mut().filter(|reading| reading.id == id).for_each(|reading| reading.is_read = true);
    }

    /// The address that a link reads, unless it is closed.
    pub(super) fn address_of(&self, id: LinkId) -> Option<Epoch> {
        self.reading.iter().find(|reading| reading.id == id).map(|reading| reading.epoch)
    }

    /// The peer answered to a question that was sent at `asked`: whether that proves everything read that was sent
    /// before the address was left, if it was. An older question proves nothing about later events.
    pub(super) fn is_read(&self, id: LinkId, asked: Instant) -> bool {
        let left_at = self.reading.iter().find(|reading| reading.id == id).and_then(|reading| reading.left_at);
        left_at.is_none_or(|left| asked >= left)
    }

    /// A batch came from a link to the address: how many batches were misrouted, if this one is. A connection may serve
    /// several subscriptions, and none of them may get what belongs to another.
    pub(super) fn misrouted(&mut self, epoch: Epoch, named: Option<&SubscriptionId>) -> Option<u64> {
        let named = named?;
        if self.subscriptions.iter().any(|(it, subscription)| *it == epoch && subscription == named) {
            return None;
        }
        self.misrouted += 1;
        Some(self.misrouted)
    }

    /// A link ended by itself.
    pub(super) fn ended(&mut self, id: LinkId) {
        self.reading.retain(|reading| reading.id != id);
    }

    /// Closes a link, or gives up its opening. Returns it, with its address, if it is to be closed now: the one that is
    /// being checked is closed once it has shown whether something is unread.
    pub(super) fn close(&mut self, id: LinkId) -> Option<(Epoch, L)> {
        self.opening.retain(|opening| opening.id != id);
        if self.draining.is_some_and(|draining| draining.link == id) {
            return None;
        }
        let at = self.reading.iter().position(|reading| reading.id == id)?;
        let Reading { epoch, link, .. } = self.reading.swap_remove(at);
        Some((epoch, link))
    }

    /// The subscription has ended: no link is opened any more.
    pub(super) fn end(&mut self) {
        self.opening.clear();
    }

    /// Gives up all links.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = L> + use<L, O> {
        self.end();
        std::mem::take(&mut self.reading).into_iter().map(|reading| reading.link)
    }

    /// The end is requested: the link at the present address that `is_current` is to show whether something is unread.
    /// Returns it. A path that died silently looks the same as a quiet one (found 1.8).
    pub(super) fn drain(&mut self, now: Instant, is_current: impl Fn(LinkId) -> bool) -> Option<&mut L> {
        let epoch = self.epoch;
        let present = self.reading.iter_mut().find(|reading| reading.epoch == epoch && is_current(reading.id))?;
        self.draining = Some(Draining { link: present.id, asked: now });
        Some(&mut present.link)
    }

    /// The result of the check, once everything that was sent before the end is read, or cannot be. `is_read_before`:
    /// whether what was sent before an instant is read.
    pub(super) fn drained(&mut self, now: Instant, is_read_before: impl FnOnce(Instant) -> bool) -> Option<Drained> {
        let Draining { link, asked } = self.draining?;
        let is_read = is_read_before(asked);
        let may_come = self.address_of(link).is_some() && now < asked + DRAIN_WITHIN;
        if !is_read && may_come {
            return None;
        }
        self.draining = None;
        Some(Drained { link, is_read })
    }

    /// Whether no link is being checked.
    pub(super) fn is_drained(&self) -> bool {
        self.draining.is_none()
    }

    /// Whether the links are read now: not for a while when the queue is full, and after that again, dropping events
    /// that do not fit (found 6.13).
    pub(super) fn reads(&mut self, now: Instant, is_full: bool) -> Reads {
        if !is_full {
            self.held_since = None;
            return Reads::Yes;
        }
        let since = *self.held_since.get_or_insert(now);
        if now < since + HOLD {
            return Reads::No;
        }
        self.held_since = None;
        Reads::Dropping
    }

    /// When [`drained`](Self::drained), [`ready`](Self::ready) or [`reads`](Self::reads) may change.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let drained = self.draining.map(|draining| draining.asked + DRAIN_WITHIN);
        let held = self.held_since.map(|since| since + HOLD);
        drained.into_iter().chain(held).chain(self.unread(now).map(|(_, until)| until)).min()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A link is its name, and the handle of an opening is counted.
    type Named = Links<&'static str, Rc<()>>;

    fn opened(links: &mut Named, id: LinkId, name: &'static str) {
        links.open(id, "s".into(), Rc::default());
        assert_eq!(links.opened(Instant::now(), id, name), None);
    }

    fn names(links: &mut Named) -> Vec<&'static str> {
        links.reading().map(|(_, link)| *link).collect()
    }

    #[test]
    fn an_opening_that_was_given_up_is_aborted_and_its_link_closed() {
        let (mut links, now, handle) = (Named::new(), Instant::now(), Rc::new(()));
        for id in 1..=4 {
            links.open(id, "s".into(), handle.clone());
        }
        assert_eq!(links.opened(now, 1, "one"), None);
        assert!(links.not_opened(2) && !links.not_opened(2));
        assert_eq!(links.close(3), None);
        assert_eq!(Rc::strong_count(&handle), 2, "the openings that ended or were given up");
        assert_eq!(links.opened(now, 3, "three"), Some("three"));
        links.end();
        assert_eq!((links.opened(now, 4, "four"), Rc::strong_count(&handle)), (Some("four"), 1));
        assert_eq!(names(&mut links), ["one"]);
        assert_eq!(links.close(1), Some((0, "one")));
        assert_eq!((links.close(1), links.address_of(1)), (None, None));
    }

    #[test]
    fn links_of_a_former_address_are_checked_and_read_until_they_are_closed() {
        let (mut links, start) = (Named::new(), Instant::now());
        links.begin();
        opened(&mut links, 1, "a");
        links.open(2, "s".into(), Rc::default());
        let first = links.epoch();
        assert!(links.is_present(first) && links.listen_at_present_only() && links.is_read(1, start));
        assert_eq!(links.leave(start + SECOND).map(|link| *link).collect::<Vec<_>>(), ["a"]);
        assert!(!links.is_present(first) && !links.listen_at_present_only());
        assert_eq!((links.address_of(1), links.listen_at(first)), (Some(first), true));
        // A question from before it was left proves nothing about later events.
        assert!(!links.is_read(1, start) && links.is_read(1, start + SECOND));
        // A link for the former address that opens late, and one for the present address.
        assert_eq!(links.opened(start + 2 * SECOND, 2, "b"), None);
        assert!(!links.is_read(2, start + SECOND) && links.is_read(2, start + 2 * SECOND));
        opened(&mut links, 3, "c");
        assert!(links.is_read(3, start));
        assert_eq!(links.leave(start + 3 * SECOND).map(|link| *link).collect::<Vec<_>>(), ["c"]);
        assert!(links.is_read(1, start + SECOND), "it was left before");
        links.ended(1);
        assert!(links.listen_at(first));
        links.open(5, "s".into(), Rc::default());
        links.close(2);
        assert!(!links.listen_at(first));
        assert_eq!(links.address_of(3), Some(first + 1));
        links.close(3);
        links.leave(start + 4 * SECOND).for_each(drop);
        assert!(!links.listen_at_present_only(), "one that is being opened for a former address may still read there");
        links.close(5);
        links.open(4, "s".into(), Rc::default());
        assert!(links.listen_at_present_only() && links.listen_at(links.epoch()), "one that is being opened listens");
        assert_eq!(links.take_all().count(), 0);
        assert!(!links.listen_at(links.epoch()));
    }

    #[test]
    fn links_of_later_addresses_wait_for_older_events_and_not_for_long() {
        let (mut links, start) = (Named::new(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let ready = |links: &mut Named, ms| links.ready(at(ms)).map(|(_, link)| *link).collect::<Vec<_>>();
        links.begin();
        opened(&mut links, 1, "a");
        links.read(1);
        assert_eq!((ready(&mut links, 0), links.poll_timeout(at(0))), (vec!["a"], None));
        links.leave(at(0)).for_each(drop);
        opened(&mut links, 2, "b");
        assert_eq!((ready(&mut links, 0), links.poll_timeout(at(0))), (vec!["a"], Some(at(3_000))));
        links.leave(at(1_000)).for_each(drop);
        opened(&mut links, 3, "c");
        assert_eq!(ready(&mut links, 2_999), ["a"]);
        assert_eq!((ready(&mut links, 3_000), links.poll_timeout(at(3_000))), (vec!["a", "b"], Some(at(4_000))));
        links.read(1);
        assert_eq!(ready(&mut links, 1_000), ["a", "b"], "the oldest is read");
        links.read(2);
        assert_eq!((ready(&mut links, 1_000), links.poll_timeout(at(1_000))), (vec!["a", "b", "c"], None));
        links.leave(at(5_000)).for_each(drop);
        opened(&mut links, 4, "d");
        assert_eq!(ready(&mut links, 5_000), ["a", "b", "c"]);
        links.drain(at(5_000), |id| id == 4);
        assert_eq!(ready(&mut links, 5_000), ["a", "b", "c", "d"], "the end waits for no other");
    }

    #[test]
    fn a_batch_that_names_another_subscription_than_that_of_its_link_is_counted() {
        let mut links = Named::new();
        for (id, subscription) in [(1, "a"), (2, "a"), (3, "b"), (4, "c")] {
            if subscription != "a" {
                links.leave(Instant::now()).for_each(drop);
            }
            links.open(id, subscription.into(), Rc::default());
            links.opened(Instant::now(), id, "link");
            if id == 3 {
                links.ended(3);
            }
        }
        for (epoch, named, count) in [
            (0, Some("a"), None),
            (2, Some("c"), None),
            (0, None, None),
            (0, Some("c"), Some(1)),
            (2, Some("a"), Some(2)),
            (2, Some("c"), None),
            (2, Some("d"), Some(3)),
            (1, Some("b"), Some(4)),
        ] {
            let named = named.map(SubscriptionId::from);
            assert_eq!(links.misrouted(epoch, named.as_ref()), count, "{epoch} {named:?}");
        }
    }

    #[test]
    fn all_links_are_given_up_at_once() {
        let mut links = Named::new();
        opened(&mut links, 1, "a");
        opened(&mut links, 2, "b");
        assert_eq!(links.take_all().collect::<Vec<_>>(), ["a", "b"]);
        assert!(names(&mut links).is_empty());
    }

    #[test]
    fn the_present_link_is_checked_at_the_end_and_closed_after_that() {
        let start = Instant::now();
        // When it is looked at, in milliseconds; whether everything before the end is read; whether the link ended.
        for (after, is_read, has_ended, want) in [
            (0, false, false, None),
            (2_999, false, false, None),
            (3_000, false, false, Some(false)),
            (0, false, true, Some(false)),
            (0, true, false, Some(true)),
            (0, true, true, Some(true)),
            (9_000, true, false, Some(true)),
        ] {
            let mut links = Named::new();
            opened(&mut links, 1, "former");
            links.begin();
            opened(&mut links, 2, "other");
            opened(&mut links, 3, "present");
            assert!(links.drain(start, |id| id == 1).is_none(), "it reads a former address");
            assert!(links.is_drained() && links.drained(start, |_| true).is_none());
            assert_eq!(links.drain(start, |id| id == 3), Some(&mut "present"));
            assert_eq!((links.is_drained(), links.poll_timeout(start)), (false, Some(start + 3 * SECOND)));
            assert_eq!((links.close(3), links.close(2)), (None, Some((1, "other"))));
            if has_ended {
                links.ended(3);
            }
            let drained = links.drained(start + Duration::from_millis(after), |asked| {
                assert_eq!(asked, start);
                is_read
            });
            assert_eq!(drained, want.map(|is_read| Drained { link: 3, is_read }), "{after} {is_read} {has_ended}");
            assert_eq!(links.is_drained(), want.is_some());
            let closed = (want.is_some() && !has_ended).then_some((1, "present"));
            assert_eq!(links.close(3), closed);
        }
    }

    #[test]
    fn a_full_queue_holds_the_links_back_for_a_limited_time() {
        let (mut links, start) = (Named::new(), Instant::now());
        let at = |secs: u32| start + secs * SECOND;
        // At which second, whether the queue is full, and when to look again.
        for (now, is_full, want, next) in [
            (0, false, Reads::Yes, None),
            (1, true, Reads::No, Some(8)),
            (7, true, Reads::No, Some(8)),
            (8, true, Reads::Dropping, None),
            (9, true, Reads::No, Some(16)),
            (10, false, Reads::Yes, None),
            (11, true, Reads::No, Some(18)),
        ] {
            assert_eq!((links.reads(at(now), is_full), links.poll_timeout(at(now))), (want, next.map(at)), "{now}");
        }
        opened(&mut links, 1, "a");
        links.drain(at(12), |_| true);
        assert_eq!(links.poll_timeout(at(12)), Some(at(15)), "whichever is first");
    }
}

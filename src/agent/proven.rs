//! Since when events of a session may be missing. Pure.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::service_clock::{ORDER_SLACK, ServiceClock, add, sub};

/// A time by both of this machine's clocks. The monotonic one stops while the machine sleeps, and the wall clock may be
/// set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    pub(crate) wall: SystemTime,
}

/// The time up to which every event was read.
#[derive(Clone, Copy, Debug)]
struct Good {
    /// When the proving poll was sent.
    asked: Moment,
    /// By the service's clock, once the service has sent its time.
    service: Option<SystemTime>,
}

/// An answer, and what is known of when the service made it. It holds everything that happened before
/// (incontact-agent-events.md §5.4). Its `Date` may be of its sending, which a slow server delays.
#[derive(Clone, Copy, Debug)]
pub(super) enum Made {
    /// With events, of which the newest bears this time.
    Batch { newest: Option<SystemTime> },
    /// Without: once this timeout was over.
    Quiet { timeout: Duration },
}

/// The latest time before which no event can be missing. It alone decides where an agent's gap begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proven {
    clock: Option<ServiceClock>,
    /// When the newest poll was sent.
    asked: Option<Moment>,
    good: Option<Good>,
}

impl Proven {
    /// The session began at the earliest when it was requested, at `asked`.
    pub(super) fn began(asked: Moment) -> Self {
        Self { good: Some(Good { asked, service: None }), ..Self::default() }
    }

    /// A poll is sent.
    pub(super) fn asked(&mut self, now: Moment) {
        self.clock.get_or_insert_with(|| ServiceClock::new(now.at, now.wall)).compare(now.at, now.wall);
        self.asked = Some(now);
    }

    /// Its answer has the date `date` by the service's clock, and arrived at `now`.
    pub(super) fn dated(&mut self, now: Instant, date: SystemTime) {
        if let (Some(clock), Some(asked)) = (&mut self.clock, self.asked) {
            let set_back = clock.learn_date(asked.at, now, date);
            // A proof holds for an instant, and that instant has an earlier time by the clock as it is now.
            let service = self.good.as_mut().and_then(|good| good.service.as_mut());
            service.into_iter().for_each(|at| *at = sub(*at, set_back));
        }
    }

    /// No answer up to this one may have been lost.
    pub(super) fn answered(&mut self, date: Option<SystemTime>, made: Made) {
        let Some(asked) = self.asked else { return };
        let left = self.clock.as_ref().filter(|clock| clock.is_given()).map(|clock| clock.at(asked.at).from);
        let made = match made {
            // Other hosts set the times of events, and a `Date` is exact to the second.
            Made::Batch { newest } => newest.zip(date).filter(|(at, date)| *at < add(*date, ORDER_SLACK)),
            Made::Quiet { timeout } => left.map(|left| add(left, timeout)).zip(date),
        };
        self.good = Some(Good { asked, service: left.max(made.map(|(at, date)| at.min(date))) });
    }

    /// Where a gap begins that is noticed now.
    pub(super) fn since(&self, now: Moment) -> Option<SystemTime> {
        let good = self.good?;
        let by_monotonic = now.at.saturating_duration_since(good.asked.at);
        let given = || {
            // The longer of the two clocks' differences: the machine may have slept since.
            let by_wall = now.wall.duration_since(good.asked.wall).unwrap_or_default();
            let clock = self.clock.as_ref().filter(|clock| clock.is_given())?;
            Some(sub(clock.at(now.at).from, by_monotonic.max(by_wall)))
        };
        let by_machine = || sub(now.wall, by_monotonic).min(good.asked.wall);
        Some(sub(good.service.or_else(given).unwrap_or_else(by_machine), ORDER_SLACK))
    }

    /// The present time, by the clock of [`since`](Self::since), and not before that.
    pub(super) fn time(&self, now: Moment) -> SystemTime {
        let given = self.clock.as_ref().filter(|clock| clock.is_given()).map(|clock| clock.at(now.at).to);
        // The later of both clocks, as `since` is the earlier: the wall clock may have been set back meanwhile.
        let by_machine = || {
            let good = self.good.map(|good| add(good.asked.wall, now.at.saturating_duration_since(good.asked.at)));
            good.map_or(now.wall, |good| good.max(now.wall))
        };
        let time = given.unwrap_or_else(by_machine);
        let Some(since) = self.since(now) else { return time };
        let end = self.clock.as_ref().map_or(time, |clock| clock.end(since, time));
        end.max(add(since, ORDER_SLACK))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn wall(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
    }

    fn moment(start: Instant, (at, shown): (u64, u64)) -> Moment {
        Moment { at: start + Duration::from_secs(at), wall: wall(shown) }
    }

    #[test]
    fn without_a_date_a_gap_begins_when_the_last_proven_poll_was_sent() {
        let start = Instant::now();
        // When the poll was sent and when the gap is noticed, by the monotonic clock and by the wall clock; where the gap
        // begins, and where it ends.
        for (what, left, noticed, want, end) in [
            ("nothing else happens", (0, 1000), (60, 1060), 999, 1060),
            ("the wall clock goes back meanwhile", (0, 9000), (60, 5460), 5399, 9060),
            ("it goes forward", (0, 1000), (60, 4660), 999, 4660),
            ("the machine sleeps", (0, 1000), (60, 1660), 999, 1660),
        ] {
            let at = |moments| moment(start, moments);
            let mut proven = Proven::default();
            assert_eq!(proven.since(at(left)), None, "{what}");
            proven.asked(at(left));
            assert_eq!(proven.since(at(left)), None, "{what}");
            proven.answered(None, NONE);
            // A poll that failed since proves nothing.
            proven.asked(at(noticed));
            assert_eq!(proven.since(at(noticed)), Some(wall(want)), "{what}");
            assert_eq!(proven.time(at(noticed)), wall(end), "{what}");
        }
    }

    const NONE: Made = Made::Batch { newest: None };

    #[test]
    fn an_answer_proves_that_events_before_it_was_made_were_read() {
        let start = Instant::now();
        let batch = |newest| Made::Batch { newest: Some(wall(newest)) };
        let quiet = Made::Quiet { timeout: Duration::from_secs(60) };
        // When the answer was read, on the monotonic clock; its date; how it was made; where a gap begins by the
        // service's clock. The poll was sent at 5 000 s of that; this machine's clock is 4 000 s slow.
        for (what, read, date, made, want) in [
            ("a poll that is held to its timeout", 60, 5060, quiet, 5059),
            ("a poll that is held to its timeout, and answered late", 80, 5080, quiet, 5059),
            ("a poll without events that is answered at once", 0, 5000, quiet, 4999),
            ("an event", 40, 5040, batch(5040), 5039),
            ("an answer that takes long to arrive", 60, 5001, batch(5001), 5000),
            // The date is that of the sending.
            ("an answer that the service holds back", 60, 5060, batch(5020), 5019),
            ("one with events that bear no time", 60, 5060, NONE, 4999),
            ("one with an event of before", 60, 5060, batch(4000), 4999),
            // Another host's clock.
            ("one with an event of later", 60, 5060, batch(5070), 4999),
        ] {
            let mut proven = Proven::default();
            // The service's clock is known.
            proven.asked(moment(start, (0, 1000)));
            proven.dated(start, wall(5000));
            let now = moment(start, (read, 1000 + read));
            proven.dated(now.at, wall(date));
            proven.answered(Some(wall(date)), made);
            let noticed = moment(start, (200, 1200));
            proven.asked(noticed);
            assert_eq!(proven.since(noticed), Some(wall(want)), "{what}");
            let later = proven.time(noticed).duration_since(wall(want)).unwrap();
            assert!(later >= Duration::from_secs(140), "{what}: {later:?}");
        }
    }

    #[test]
    fn a_gap_that_spans_a_clock_set_back_begins_and_ends_by_both_clocks() {
        let start = Instant::now();
        let mut proven = Proven::began(moment(start, (0, 1000)));
        proven.asked(moment(start, (10, 1010)));
        proven.dated(start + Duration::from_secs(10), wall(5010));
        proven.answered(Some(wall(5010)), NONE);
        proven.asked(moment(start, (30, 1030)));
        proven.dated(start + Duration::from_secs(30), wall(4910));
        let noticed = moment(start, (40, 1040));
        let (since, until) = (proven.since(noticed).unwrap(), proven.time(noticed));
        assert!(since <= wall(4889) && since >= wall(4885), "{since:?}");
        assert!(until >= wall(5030) && until <= wall(5032), "{until:?}");
        // What is proven from then on is by the clock as it is.
        proven.asked(moment(start, (50, 1050)));
        proven.dated(start + Duration::from_secs(50), wall(4930));
        proven.answered(Some(wall(4930)), NONE);
        let noticed = moment(start, (60, 1060));
        assert_eq!(proven.since(noticed), Some(wall(4929)));
        assert!(proven.time(noticed) <= wall(4942));
    }

    #[test]
    fn an_answer_without_a_date_proves_events_before_its_poll_by_the_services_clock() {
        let start = Instant::now();
        let mut proven = Proven::began(moment(start, (0, 1000)));
        assert_eq!(proven.since(moment(start, (9, 1009))), Some(wall(999)), "of this machine");
        proven.asked(moment(start, (10, 1010)));
        proven.dated(start + Duration::from_secs(10), wall(5010));
        assert_eq!(proven.since(moment(start, (20, 1020))), Some(wall(4999)), "now of the service");
        proven.answered(Some(wall(5010)), NONE);
        proven.asked(moment(start, (30, 1030)));
        proven.answered(None, NONE);
        assert_eq!(proven.since(moment(start, (90, 1090))), Some(wall(5029)));
    }
}

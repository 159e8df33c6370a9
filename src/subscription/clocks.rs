//! Compares this machine's clocks with each other and with the service's, and decides whether the machine slept. Pure.
//!
//! The monotonic clock stands still while the machine sleeps, the wall clock does not. A wall clock that was set looks
//! the same: the service's time tells them apart.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::lease;
use super::machine::Phase;
use crate::control::SubscriptionInfo;
use crate::error::{Disposition, Result};
use crate::http::budget::Dated;
use crate::service_clock::{ServiceClock, add};

/// How often the wall clock is compared with the monotonic one.
pub(super) const CLOCK_CHECK: Duration = Duration::from_secs(15);
/// If a comparison of the clocks is later than this, the process or its runtime was frozen.
const FROZEN: Duration = Duration::from_secs(30);
/// If the service's clock is ahead of the monotonic clock by this much, the latter stood still.
const STOOD_STILL: Duration = Duration::from_secs(8);
/// How far the clocks may drift apart before it counts as a jump.
const CLOCK_SLACK: Duration = Duration::from_secs(10);

/// What a comparison of the clocks requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Audit the subscription, whose answer has the service's time, and pass it to [`Clocks::judged`].
    AskService { jumped: Duration },
    /// The process did not run for a while: check everything.
    Frozen,
}

/// What the service's answer about a jump of the wall clock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The wall clock was set: nothing was missed.
    WasSet,
    /// The machine slept.
    Slept,
    /// Nothing yet: the next comparison asks again. After a new jump the connections are not trusted meanwhile, and the
    /// lease is not considered expired.
    Unknown { is_new: bool },
}

/// The comparison of the clocks. It owns the jumps of the wall clock that are not explained yet; its inputs are readings
/// and dated answers, its results say what to do.
#[derive(Clone, Debug)]
pub(super) struct Clocks {
    /// When they were compared last, by both.
    compared: (Instant, SystemTime),
    /// When the newest answer was read that gave the service's time.
    dated: Option<Instant>,
    /// Whether such an answer showed that the monotonic clock had stood still.
    stood_still: bool,
    /// By how much the wall clock gained on the monotonic one, where it is not known why.
    jumped: Duration,
    /// Whether no answer was awaited since the last jump.
    jump_is_new: bool,
}

/// Whether the service can be asked for its time: for a subscription in a connection only while that exists.
pub(super) fn can_ask(phase: Phase, has_address: bool) -> bool {
    match phase {
        Phase::Live => true,
        Phase::Connecting | Phase::Reconnecting => has_address,
        Phase::Starting | Phase::Recreating | Phase::Closing | Phase::Closed => false,
    }
}

impl Clocks {
    pub(super) fn new(now: Instant, wall: SystemTime) -> Self {
        Self { compared: (now, wall), dated: None, stood_still: false, jumped: Duration::ZERO, jump_is_new: false }
    }

    /// When [`compare`](Self::compare) is due.
    pub(super) fn next(&self) -> Instant {
        self.compared.0 + CLOCK_CHECK
    }

    /// The newest answer that gave the service's time. An answer to any call counts: after a sleep a token for the
    /// socket is requested first. Returns by how much the service's clock was set back.
    pub(super) fn learn(&mut self, newest: Option<Dated>, clock: &mut ServiceClock) -> Duration {
        let is_new = |it: &Dated| self.dated.is_none_or(|last| it.read > last);
        let Some(Dated { asked, read, date }) = newest.filter(is_new) else { return Duration::ZERO };
        self.dated = Some(read);
        self.stood_still |= stood_still(clock, read, date);
        clock.learn_date(asked, read, date)
    }

    /// Compares the clocks, if it is time. Until the service can be asked, a jump stays unexplained.
    pub(super) fn compare(&mut self, now: Instant, wall: SystemTime, can_ask: bool) -> Option<Finding> {
        let (then, wall_then) = self.compared;
        let passed = now.saturating_duration_since(then);
        if passed < CLOCK_CHECK {
            return None;
        }
        self.compared = (now, wall);
        let gained = wall.duration_since(wall_then).unwrap_or_default().saturating_sub(passed);
        if gained > CLOCK_SLACK {
            self.jumped = self.jumped.saturating_add(gained);
            self.jump_is_new = true;
        }
        if !self.jumped.is_zero() {
            return can_ask.then(|| Finding::AskService { jumped: std::mem::take(&mut self.jumped) });
        }
        (passed > CLOCK_CHECK + FROZEN).then_some(Finding::Frozen)
    }

    /// The service's answer after the wall clock had `jumped`, to a call that was sent at `asked`; and by how much the
    /// service's clock was set back.
    ///
    /// The wall clock was set, and nothing was missed, if the service's time continued with the monotonic clock; or if
    /// the answer came over the connection that carries the events, which then survived the jump.
    pub(super) fn judged(
        &mut self,
        now: Instant,
        jumped: Duration,
        asked: Instant,
        has_address: bool,
        answer: &Result<SubscriptionInfo>,
        clock: &mut ServiceClock,
    ) -> (Verdict, Duration) {
        let is_new = std::mem::take(&mut self.jump_is_new);
        let mut set_back = Duration::ZERO;
        let was_set = match answer {
            Ok(info) => {
                let runs_on = |date| clock.is_given() && !stood_still(clock, now, date);
                let on_time = !std::mem::take(&mut self.stood_still) && info.answered_at.is_some_and(runs_on);
                if let Some(date) = info.answered_at {
                    set_back = clock.learn_date(asked, now, date);
                }
                lease::is_served(info) && (on_time || !has_address)
            }
            Err(error) if matches!(error.disposition(), Disposition::Retry { .. }) => {
                self.jumped = self.jumped.saturating_add(jumped);
                return (Verdict::Unknown { is_new }, set_back);
            }
            Err(_) => false,
        };
        (if was_set { Verdict::WasSet } else { Verdict::Slept }, set_back)
    }
}

/// Whether the `Date` of an answer read at `read` shows that the monotonic clock stood still since the service first gave
/// its time.
fn stood_still(clock: &ServiceClock, read: Instant, date: SystemTime) -> bool {
    clock.is_given() && date >= add(clock.at(read).from, STOOD_STILL)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::{Error, ErrorKind};

    const MINUTE: Duration = Duration::from_secs(60);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn ask(secs: u64) -> Option<Finding> {
        Some(Finding::AskService { jumped: Duration::from_secs(secs) })
    }

    #[test]
    fn a_jump_is_asked_about_and_a_pause_of_the_process_is_a_sleep() {
        // How much passed by each clock, in milliseconds.
        for (passed, wall_passed, can_ask, want) in [
            (14_999, 3_600_000, true, None),
            (15_000, 15_000, true, None),
            (15_000, 25_000, true, None),
            (15_000, 26_000, true, ask(11)),
            (15_000, 26_000, false, None),
            (45_000, 45_000, true, None),
            (45_001, 45_001, true, Some(Finding::Frozen)),
            (45_001, 45_001, false, Some(Finding::Frozen)),
            (60_000, 90_000, true, ask(30)),
            (60_000, 90_000, false, None),
            (15_000, 0, true, None),
        ] {
            let (start, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + 9 * MINUTE);
            let mut clocks = Clocks::new(start, wall);
            assert_eq!(clocks.next(), start + ms(15_000));
            let found = clocks.compare(start + ms(passed), wall + ms(wall_passed), can_ask);
            assert_eq!(found, want, "{passed} {wall_passed} {can_ask}");
            let compared = if passed < 15_000 { 0 } else { passed };
            assert_eq!(clocks.next(), start + ms(compared + 15_000));
        }
        // A wall clock that was set back.
        let (start, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + 9 * MINUTE);
        assert_eq!(Clocks::new(start, wall).compare(start + ms(15_000), SystemTime::UNIX_EPOCH, true), None);
    }

    #[test]
    fn jumps_add_up_until_the_service_can_be_asked_and_are_asked_about_once() {
        let (start, wall) = (Instant::now(), SystemTime::UNIX_EPOCH);
        let mut clocks = Clocks::new(start, wall);
        let mut compare = |secs, jumped, can_ask| {
            let passed = Duration::from_secs(secs);
            clocks.compare(start + passed, wall + passed + Duration::from_secs(jumped), can_ask)
        };
        assert_eq!(compare(15, 20, false), None);
        assert_eq!(compare(30, 50, false), None);
        assert_eq!(compare(45, 50, true), ask(50));
        assert_eq!(compare(60, 50, true), None);
    }

    #[test]
    fn the_service_is_asked_where_an_answer_shows_the_connection_too() {
        for (phase, with_address, without) in [
            (Phase::Live, true, true),
            (Phase::Connecting, true, false),
            (Phase::Reconnecting, true, false),
            (Phase::Starting, false, false),
            (Phase::Recreating, false, false),
            (Phase::Closing, false, false),
            (Phase::Closed, false, false),
        ] {
            assert_eq!((can_ask(phase, true), can_ask(phase, false)), (with_address, without), "{phase:?}");
        }
    }

    fn described(status: &str, date: Option<SystemTime>) -> Result<SubscriptionInfo> {
        let mut info: SubscriptionInfo =
            serde_json::from_value(json!({"id": "a", "status": status, "deliveryMode": {}})).unwrap();
        info.answered_at = date;
        Ok(info)
    }

    #[test]
    fn the_services_time_tells_a_sleep_from_a_clock_that_was_set() {
        let refused = || Err(Error::new(ErrorKind::NotFound, "x").with_status(404));
        let busy = || Err(Error::new(ErrorKind::Service, "x").with_disposition(Disposition::Retry { after: None }));
        use Verdict::{Slept, Unknown, WasSet};
        let (start, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + 9 * MINUTE);
        let (on_time, ahead) = (Some(wall), Some(wall + MINUTE));
        // By the transport with an address, and by the one without.
        for (answer, stood_still, by_address, in_connection) in [
            (described("Active", on_time), false, WasSet, WasSet),
            (described("Active", on_time), true, Slept, WasSet),
            (described("Active", ahead), false, Slept, WasSet),
            (described("Active", None), false, Slept, WasSet),
            (described("Suspended", on_time), false, Slept, Slept),
            (refused(), false, Slept, Slept),
            (busy(), false, Unknown { is_new: true }, Unknown { is_new: true }),
        ] {
            for (has_address, want) in [(true, by_address), (false, in_connection)] {
                let mut clock = ServiceClock::new(start, wall);
                let mut clocks = Clocks::new(start, wall);
                let _ = clocks.learn(Some(Dated { asked: start, read: start, date: wall }), &mut clock);
                let read = start + ms(100);
                if stood_still {
                    let _ = clocks.learn(Some(Dated { asked: start, read, date: wall + MINUTE }), &mut clock);
                }
                assert_eq!(clocks.compare(start + ms(15_000), wall + ms(75_000), true), ask(60));
                // The time that an answer gave is known from then on.
                let answer = match &answer {
                    Ok(info) if stood_still => described("Active", info.answered_at.map(|date| date + MINUTE)),
                    Ok(info) => Ok(info.clone()),
                    Err(error) => Err(error.clone()),
                };
                let now = start + ms(200);
                let (judged, _) = clocks.judged(now, MINUTE, start, has_address, &answer, &mut clock);
                assert_eq!(judged, want, "{answer:?} {stood_still} {has_address}");
                if let Ok(SubscriptionInfo { answered_at: Some(date), .. }) = answer {
                    assert!(!super::stood_still(&clock, now, date), "it has been learned");
                }
            }
        }
    }

    #[test]
    fn without_an_answer_the_jump_is_asked_about_again_and_connections_are_checked_once() {
        let (start, wall) = (Instant::now(), SystemTime::UNIX_EPOCH);
        let (mut clocks, mut clock) = (Clocks::new(start, wall), ServiceClock::new(start, wall));
        let busy = Err(Error::new(ErrorKind::Service, "x").with_disposition(Disposition::Retry { after: None }));
        let mut at = |secs: u64| {
            let (now, wall) = (start + Duration::from_secs(secs), wall + Duration::from_secs(secs + 60));
            let found = clocks.compare(now, wall, true);
            (found, clocks.judged(now, MINUTE, now, true, &busy, &mut clock).0)
        };
        assert_eq!(at(15), (ask(60), Verdict::Unknown { is_new: true }));
        assert_eq!(at(30), (ask(60), Verdict::Unknown { is_new: false }));
        // Another jump.
        let found = clocks.compare(start + ms(45_000), wall + ms(45_000 + 120_000), true);
        assert_eq!(found, ask(120));
        let (judged, _) = clocks.judged(start, 2 * MINUTE, start, true, &busy, &mut clock);
        assert_eq!(judged, Verdict::Unknown { is_new: true });
    }

    #[test]
    fn an_answer_is_learned_once() {
        let (start, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + MINUTE);
        let (mut clocks, mut clock) = (Clocks::new(start, wall), ServiceClock::new(start, wall));
        let dated = |millis, date| Some(Dated { asked: start, read: start + ms(millis), date });
        let _ = clocks.learn(dated(100, wall), &mut clock);
        let before = clock.at(start);
        // Read before that one.
        let _ = clocks.learn(dated(100, wall + MINUTE), &mut clock);
        let _ = clocks.learn(None, &mut clock);
        assert_eq!((clock.at(start), clocks.stood_still), (before, false));
        let _ = clocks.learn(dated(101, wall + MINUTE), &mut clock);
        assert!(clocks.stood_still && clock.at(start) != before);
        // An answer that is on time again changes nothing about that.
        let _ = clocks.learn(dated(102, wall + MINUTE), &mut clock);
        assert!(clocks.stood_still);
    }
}

//! A session's data for the case that its connection is lost. Pure.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::ids::SubscriptionId;
use crate::secret::Secret;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// The service notices a loss later than this side: presenting a token is worthwhile for this much longer than its
/// window. A vain attempt costs nothing.
const LATE: Duration = Duration::from_secs(30);

/// A session's recovery token (`wsc`). It must be protected like a password.
#[derive(Clone, Debug)]
pub(super) struct Wsc {
    pub(super) token: Secret,
    pub(super) sequence: Option<u64>,
}

impl Wsc {
    /// Whether this token replaces `kept`, both of one connection. Sequences count within a connection only: another
    /// connection starts anew.
    pub(super) fn replaces(&self, kept: Option<&Self>) -> bool {
        match (self.sequence, kept.and_then(|kept| kept.sequence)) {
            (Some(new), Some(old)) => new > old,
            (None | Some(_), None) => true,
            // Without a number the later one counts.
            (None, Some(_)) => true,
        }
    }
}

/// The data to continue a lost session on another connection.
#[derive(Clone, Debug)]
pub(super) struct Resumable {
    pub(super) wsc: Wsc,
    /// The subscription that lives in it; `None` if that is unknown.
    pub(super) subscription: Option<SubscriptionId>,
    /// When the peer last sent anything.
    pub(super) heard_at: Instant,
    /// How long the service retains it.
    pub(super) window: Duration,
}

impl Resumable {
    /// Whether presenting it is worthwhile.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard_at) <= self.window + LATE
    }

    /// Until when the subscription may still exist, though the service sends nothing.
    pub(super) fn until(&self) -> Instant {
        self.heard_at + self.window + LATE
    }
}

/// The result for the session whose token was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecoveryState {
    /// It continues here; the missed events follow.
    Successful,
    /// It is lost, together with its subscription.
    Failed,
}

/// The gateway's `ConnectionDetails`, within bounds. `None`: not stated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Details {
    pub(super) recovery: Option<RecoveryState>,
    pub(super) recovery_timeout: Option<Duration>,
    pub(super) recovery_buffer: Option<usize>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) absolute_timeout: Option<Duration>,
    pub(super) max_requests: Option<usize>,
}

impl Details {
    /// Reads the body of the frame, however damaged.
    pub(super) fn read(body: &str) -> Self {
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "camelCase", default)]
        struct Sent {
            recovery_state: Value,
            recovery_timeout: Value,
            recovery_buffer_size: Value,
            idle_timeout: Value,
            absolute_timeout: Value,
            max_active_requests: Value,
        }
        let sent: Sent = serde_json::from_str(body).unwrap_or_default();
        let state = sent.recovery_state.as_str().map(str::trim);
        Self {
            // Any other word than success means a failure.
            recovery: state.map(|word| {
                if word.eq_ignore_ascii_case("Successful") { RecoveryState::Successful } else { RecoveryState::Failed }
            }),
            recovery_timeout: seconds(&sent.recovery_timeout, SECOND, HOUR),
            recovery_buffer: number(&sent.recovery_buffer_size).map(|n| (n as usize).clamp(1, 100_000)),
            idle_timeout: seconds(&sent.idle_timeout, 10 * SECOND, DAY),
            absolute_timeout: seconds(&sent.absolute_timeout, 60 * SECOND, 7 * DAY),
            max_requests: number(&sent.max_active_requests).map(|n| (n as usize).clamp(1, 100)),
        }
    }

    /// These details; missing values come from `earlier` ones.
    pub(super) fn or(self, earlier: Self) -> Self {
        Self {
            recovery: self.recovery.or(earlier.recovery),
            recovery_timeout: self.recovery_timeout.or(earlier.recovery_timeout),
            recovery_buffer: self.recovery_buffer.or(earlier.recovery_buffer),
            idle_timeout: self.idle_timeout.or(earlier.idle_timeout),
            absolute_timeout: self.absolute_timeout.or(earlier.absolute_timeout),
            max_requests: self.max_requests.or(earlier.max_requests),
        }
    }

    /// How long the service retains a session without a connection.
    pub(super) fn window(&self) -> Duration {
        self.recovery_timeout.unwrap_or(180 * SECOND)
    }

    /// How many events it retains for the session.
    pub(super) fn buffer(&self) -> usize {
        self.recovery_buffer.unwrap_or(100)
    }

    pub(super) fn idle(&self) -> Duration {
        self.idle_timeout.unwrap_or(1800 * SECOND)
    }

    pub(super) fn requests(&self) -> usize {
        self.max_requests.unwrap_or(10)
    }

    /// When another connection should take over, counted from the opening; `chance` in `0..1` spreads many connections
    /// that were opened at once.
    pub(super) fn leave_after(&self, chance: f64) -> Duration {
        let absolute = self.absolute_timeout.unwrap_or(DAY);
        let share = absolute / 24;
        let margin = share.clamp(10 * SECOND, 600 * SECOND) + share.mul_f64(chance.clamp(0.0, 1.0));
        absolute - margin.min(absolute / 2)
    }
}

fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    number.filter(|number| number.is_finite() && *number >= 0.0)
}

fn seconds(value: &Value, least: Duration, most: Duration) -> Option<Duration> {
    number(value).map(|n| Duration::try_from_secs_f64(n).unwrap_or(most).clamp(least, most))
}

/// The lifetime to report to the lifecycle, so that it audits the subscription every `audit` or a little later: it
/// renews a fifth of a lifetime before its end, at least 10 s and at most two minutes, or up to half as much earlier.
/// The service's own lifetime is a day, and means nothing: the subscription lives as long as its connection's session.
pub(super) fn lease(audit: Duration) -> Duration {
    (audit * 7 / 5).max(audit + 15 * SECOND).min(audit + 180 * SECOND)
}

/// How long the answer may take, so that it arrives before that lifetime ends: a fifth of it remains when the audit
/// starts.
pub(super) fn audit_within(lease: Duration) -> Duration {
    (lease / 8).min(30 * SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wsc(sequence: Option<u64>) -> Wsc {
        Wsc { token: Secret::new("t"), sequence }
    }

    #[test]
    fn w10_the_newest_token_of_a_connection_is_used() {
        for (new, kept, replaces) in [
            (Some(1), None, true),
            (None, None, true),
            (Some(2), Some(1), true),
            (Some(1), Some(1), false),
            (Some(1), Some(2), false),
            (None, Some(7), true),
        ] {
            assert_eq!(wsc(new).replaces(kept.map(|n| wsc(Some(n))).as_ref()), replaces, "{new:?} {kept:?}");
        }
        assert!(wsc(Some(1)).replaces(Some(&wsc(None))));
    }

    #[test]
    fn terms_have_floors_and_caps_and_what_is_left_out_stays() {
        let sent = Details::read(
            r#"{"creationTime":"2021-07-02T11:40:28.805+0000","recoveryTimeout":180,"recoveryBufferSize":100,
                "idleTimeout":"1800","absoluteTimeout":86400,"maxActiveRequests":10,"recoveryState":"Successful"}"#,
        );
        assert_eq!(sent.recovery, Some(RecoveryState::Successful));
        assert_eq!((sent.window(), sent.idle()), (180 * SECOND, 1800 * SECOND));
        assert_eq!((sent.buffer(), sent.requests()), (100, 10));
        let odd = Details::read(
            r#"{"recoveryTimeout":1e99,"recoveryBufferSize":0,"idleTimeout":0,"absoluteTimeout":1e300,
                "maxActiveRequests":1e9,"recoveryState":"Maybe"}"#,
        );
        assert_eq!(odd.recovery, Some(RecoveryState::Failed));
        assert_eq!((odd.window(), odd.idle(), odd.absolute_timeout), (HOUR, 10 * SECOND, Some(7 * DAY)));
        assert_eq!((odd.buffer(), odd.requests()), (1, 100));
        for nothing in
            ["", "{}", "[]", "null", "7", "{\"recoveryTimeout\":-1,\"recoveryState\":null}", "{\"idleTimeout\":[]}"]
        {
            assert_eq!(Details::read(nothing), Details::default(), "{nothing}");
        }
        assert_eq!(Details::default().or(sent), sent);
        let shorter = Details { recovery_timeout: Some(30 * SECOND), ..Details::default() };
        assert_eq!(shorter.or(sent).window(), 30 * SECOND);
    }

    #[test]
    fn a_connection_is_left_before_its_end_and_not_by_all_at_once() {
        for (absolute, at_latest, at_earliest) in [(86_400, 85_800, 82_200), (60, 50, 47), (3_600, 3_450, 3_300)] {
            let details = Details { absolute_timeout: Some(absolute * SECOND), ..Details::default() };
            assert_eq!(details.leave_after(0.0).as_secs(), at_latest, "{absolute}");
            assert_eq!(details.leave_after(1.0).as_secs(), at_earliest, "{absolute}");
        }
        assert_eq!(Details::default().leave_after(0.0), DAY - 600 * SECOND);
    }

    #[test]
    fn a_lost_session_can_be_resumed_for_its_window_and_a_little_longer() {
        let now = Instant::now();
        let lost = Resumable { wsc: wsc(None), subscription: None, heard_at: now, window: 180 * SECOND };
        for (age, fresh) in [(0, true), (180, true), (210, true), (211, false)] {
            assert_eq!(lost.is_fresh(now + age * SECOND), fresh, "{age}");
        }
    }

    #[test]
    fn the_lease_makes_the_lifecycle_ask_as_often_as_it_should() {
        let lifetime = lease(300 * SECOND);
        assert_eq!(lifetime, 420 * SECOND);
        let policy = crate::policy::RenewalPolicy::default();
        assert_eq!(policy.renew_after(lifetime, 0.0).as_secs(), 336);
        assert_eq!(policy.renew_after(lifetime, 1.0).as_secs(), 294);
        assert_eq!((lease(30 * SECOND), lease(2400 * SECOND)), (45 * SECOND, 2580 * SECOND));
        // The answer arrives before the lease ends.
        for audit in [30, 300, 2400] {
            let lifetime = lease(audit * SECOND);
            let (late, early) = (policy.renew_after(lifetime, 0.0), policy.renew_after(lifetime, 1.0));
            assert!(early >= audit * SECOND * 97 / 100 && late <= audit * SECOND * 9 / 8 + 2 * SECOND, "{audit}");
            let left = lifetime - late;
            let within = audit_within(lifetime);
            assert!(within * 3 / 2 <= left && within <= 30 * SECOND, "{audit} {within:?} {left:?}");
        }
    }

    #[test]
    fn a7_debug_hides_the_token() {
        let kept = Wsc { token: Secret::new("W1"), sequence: Some(1) };
        let kept = Resumable { wsc: kept, subscription: None, heard_at: Instant::now(), window: SECOND };
        assert!(!format!("{kept:?}").contains("W1"));
    }
}

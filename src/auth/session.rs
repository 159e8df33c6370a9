//! The state of a login, and the decisions that follow from it. Pure.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::AccessToken;
use super::store::StoredTokens;
use crate::error::{Disposition, Error, ErrorKind};
use crate::policy::{BackoffPolicy, doubled};

/// How long before expiry a token is renewed (RingCentral's JavaScript SDK: 60 s).
const LEAD: Duration = Duration::from_secs(60);
/// With a shorter lifetime a client would only log in.
const LIFE_FLOOR: Duration = Duration::from_secs(2);
/// The documented maximum is one hour, samples have two.
const LIFE_CAP: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest documented lifetime, for responses without a valid one.
const LIFE_UNKNOWN: Duration = Duration::from_secs(600);
/// Delay after a failed early renewal (errors guide: 10 s apart), doubled by each further failure.
pub(super) const PAUSE: Duration = Duration::from_secs(10);
/// The maximum delay: the rate group of logins has a window of a minute.
const PAUSE_CAP: Duration = Duration::from_secs(60);

/// A login: its tokens, and when the access token is to be renewed and expires.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) access: AccessToken,
    pub(super) stored: StoredTokens,
    renew_at: Instant,
    expires_at: Instant,
    /// When it was granted, if in this process.
    granted_at: Option<Instant>,
}

impl Session {
    /// A new session; `asked_at` is the time before the request was sent.
    pub(super) fn granted(stored: StoredTokens, life: Duration, asked_at: Instant) -> Self {
        let session = Self::new(stored, asked_at + life, asked_at + (life - LEAD.min(life / 2)));
        Self { granted_at: Some(asked_at), ..session }
    }

    /// A stored session, which only has wall-clock times.
    pub(super) fn stored(stored: StoredTokens, wall: SystemTime, now: Instant) -> Self {
        let left = stored.expires_at.duration_since(wall).unwrap_or_default().min(LIFE_CAP);
        Self::new(stored, now + left, now + left.saturating_sub(LEAD))
    }

    fn new(stored: StoredTokens, expires_at: Instant, renew_at: Instant) -> Self {
        let mut access = AccessToken::new(stored.access_token.clone()).with_scope(&stored.scope);
        access.expires_at = Some(expires_at);
        access.owner_id.clone_from(&stored.owner_id);
        Self { access, stored, renew_at, expires_at, granted_at: None }
    }
}

/// The lifetime to assume for an `expires_in` of `seconds`.
pub(super) fn life(seconds: Option<f64>) -> Duration {
    // Zero or less must be an error of the service. A token that has expired gets a 401.
    let said = seconds.filter(|seconds| *seconds > 0.0);
    let named = said.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(LIFE_CAP));
    named.unwrap_or(LIFE_UNKNOWN).clamp(LIFE_FLOOR, LIFE_CAP)
}

/// A token refused at a younger age may never have been valid.
const YOUNG: Duration = Duration::from_secs(10);
/// Number of consecutive ones that are replaced immediately: with the initial login, that is the
/// default limit of the group `Auth` per minute.
const AT_ONCE: u32 = 4;

/// Delays logins after failures: each attempt costs a call of the small rate group `Auth`.
#[derive(Debug, Default)]
pub(super) struct Hold {
    failures: u32,
    /// Number of consecutive tokens refused immediately after their grant.
    barren: u32,
    until: Option<(Instant, Error)>,
}

impl Hold {
    /// Records a login that failed with `error`.
    pub(super) fn failed(&mut self, error: &Error, now: Instant) {
        // Unsent requests cost nothing, and permanent errors are handled elsewhere.
        let passes = matches!(error.disposition(), Disposition::Retry { .. });
        if passes && !error.sent_nothing() {
            let asked = error.retry_after().unwrap_or_default().min(BackoffPolicy::MAX_RETRY_AFTER);
            let wait = asked.max(doubled(PAUSE, self.failures, PAUSE_CAP));
            self.until = Some((now + wait, error.clone()));
            self.failures = self.failures.saturating_add(1);
        }
    }

    /// Records a successful login.
    pub(super) fn granted(&mut self, now: Instant) {
        self.failures = 0;
        self.until = (self.barren >= AT_ONCE).then(|| {
            let error = Error::new(ErrorKind::Auth, "the service refuses each token that it has just granted");
            (now + PAUSE_CAP, error)
        });
    }

    /// Records that the service refused the token of `session`.
    fn refused(&mut self, session: &Session, now: Instant) {
        let young = session.granted_at.is_some_and(|at| now.saturating_duration_since(at) < YOUNG);
        self.barren = if young { self.barren.saturating_add(1) } else { 0 };
    }

    /// The reason why no login is attempted now.
    pub(super) fn error(&self, now: Instant) -> Option<Error> {
        let (until, error) = self.until.as_ref().filter(|(until, _)| *until > now)?;
        // Without the status of a response, since no request was sent.
        let held = Error::new(error.kind(), "no login is asked for so soon after one in vain");
        let held = held.with_code(error.code().map(str::to_owned)).with_source(error.clone());
        Some(held.with_disposition(Disposition::Retry { after: Some(*until - now) }))
    }
}

/// The state of a login.
#[derive(Debug)]
pub(super) enum Phase {
    /// The store has not been read yet.
    Unread,
    /// There is no session.
    Empty,
    /// There is a session that is not saved yet, and so must not be used.
    Unsaved(Session),
    /// There is a session.
    Live {
        session: Session,
        /// The service answered its access token with 401.
        refused: bool,
        /// An early renewal failed: no other one before this.
        not_before: Option<Instant>,
        /// Number of consecutive failed renewals.
        failures: u32,
    },
    /// The service refused the credentials: new ones are needed.
    Dead(Error),
}

/// The answer to a caller.
#[derive(Debug)]
pub(super) enum Decision {
    /// This token.
    Use(AccessToken),
    /// A renewal. Not urgent if there is a valid token.
    Renew { urgent: bool },
    /// The reason why there is no token.
    Fail(Error),
}

impl Phase {
    pub(super) fn live(session: Session) -> Self {
        Self::Live { session, refused: false, not_before: None, failures: 0 }
    }

    /// Records a 401 to `token`. An outdated token changes nothing.
    pub(super) fn refuse(&mut self, token: &AccessToken, hold: &mut Hold, now: Instant) {
        if let Self::Live { session, refused, .. } = self
            && session.access.is_same(token)
            && !*refused
        {
            *refused = true;
            hold.refused(session, now);
        }
    }

    /// Records a renewal that failed with `error`; the session stays.
    pub(super) fn renewal_failed(&mut self, error: &Error, now: Instant) {
        if let Self::Live { not_before, failures, .. } = self {
            // A user's store may request any delay.
            let asked = error.retry_after().unwrap_or_default().min(BackoffPolicy::MAX_RETRY_AFTER);
            *not_before = Some(now + asked.max(doubled(PAUSE, *failures, PAUSE_CAP)));
            *failures = failures.saturating_add(1);
        }
    }

    /// Whether there is a valid access token, due for renewal or not.
    pub(super) fn is_good(&self, now: Instant) -> bool {
        match self {
            Self::Live { session, refused, .. } => !refused && now < session.expires_at,
            Self::Unread | Self::Empty | Self::Unsaved(_) | Self::Dead(_) => false,
        }
    }

    pub(super) fn decide(&self, now: Instant) -> Decision {
        match self {
            Self::Unread | Self::Empty | Self::Unsaved(_) => Decision::Renew { urgent: true },
            Self::Dead(error) => Decision::Fail(error.clone()),
            Self::Live { session, not_before, .. } => {
                let waits = not_before.is_some_and(|at| now < at);
                if !self.is_good(now) {
                    Decision::Renew { urgent: true }
                } else if now >= session.renew_at && !waits {
                    Decision::Renew { urgent: false }
                } else {
                    Decision::Use(session.access.clone())
                }
            }
        }
    }

    pub(super) fn session(&self) -> Option<&Session> {
        match self {
            Self::Unsaved(session) | Self::Live { session, .. } => Some(session),
            Self::Unread | Self::Empty | Self::Dead(_) => None,
        }
    }
}

/// There are no credentials to log in with.
pub(super) fn not_logged_in() -> Error {
    Error::new(ErrorKind::Auth, "not logged in, and nothing to log in with: the user must authorize")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn stored(expires_at: SystemTime) -> StoredTokens {
        StoredTokens {
            server: String::new(),
            client_id: String::new(),
            access_token: Secret::new("a"),
            expires_at,
            refresh_token: None,
            refresh_expires_at: None,
            scope: "A B".into(),
            owner_id: Some("7".into()),
        }
    }

    fn live(life: Duration, now: Instant) -> Phase {
        Phase::live(Session::granted(stored(SystemTime::UNIX_EPOCH), life, now))
    }

    fn word(decision: &Decision) -> &'static str {
        match decision {
            Decision::Use(_) => "use",
            Decision::Renew { urgent: true } => "renew now",
            Decision::Renew { urgent: false } => "renew",
            Decision::Fail(_) => "fail",
        }
    }

    #[test]
    fn a_token_is_renewed_a_minute_before_expiry_but_not_in_its_first_half() {
        let start = Instant::now();
        for (life, after, want) in [
            (3600, 0, "use"),
            (3600, 3539, "use"),
            (3600, 3540, "renew"),
            (3600, 3599, "renew"),
            (3600, 3600, "renew now"),
            (60, 29, "use"),
            (60, 30, "renew"),
            (2, 1, "renew"),
        ] {
            let phase = live(SECOND * life, start);
            assert_eq!(word(&phase.decide(start + SECOND * after)), want, "{life} {after}");
        }
    }

    #[test]
    fn each_phase_has_its_decision() {
        let now = Instant::now();
        assert_eq!(word(&Phase::Unread.decide(now)), "renew now");
        assert_eq!(word(&Phase::Empty.decide(now)), "renew now");
        assert_eq!(word(&Phase::Dead(not_logged_in()).decide(now)), "fail");
        let session = Session::granted(stored(SystemTime::UNIX_EPOCH), SECOND * 99, now);
        assert_eq!(word(&Phase::Unsaved(session).decide(now)), "renew now");
    }

    #[test]
    fn only_the_current_token_can_be_refused() {
        let now = Instant::now();
        let mut phase = live(SECOND * 99, now);
        phase.refuse(&AccessToken::new("older"), &mut Hold::default(), now);
        assert_eq!(word(&phase.decide(now)), "use");
        phase.refuse(&AccessToken::new("a"), &mut Hold::default(), now);
        assert_eq!(word(&phase.decide(now)), "renew now");
    }

    #[test]
    fn a_failed_early_renewal_pauses_while_the_token_is_valid() {
        let start = Instant::now();
        let mut phase = live(SECOND * 3600, start);
        let due = start + SECOND * 3540;
        phase.renewal_failed(&Error::new(ErrorKind::Service, "x"), due);
        assert_eq!(word(&phase.decide(due)), "use");
        assert_eq!(word(&phase.decide(due + PAUSE)), "renew");
        let asked =
            Error::new(ErrorKind::RateLimited, "x").with_disposition(Disposition::Retry { after: Some(SECOND * 55) });
        phase.renewal_failed(&asked, due);
        assert_eq!(word(&phase.decide(due + SECOND * 54)), "use");
        let endless =
            Error::new(ErrorKind::Store, "x").with_disposition(Disposition::Retry { after: Some(Duration::MAX) });
        live(SECOND * 3600, start).renewal_failed(&endless, due);
        assert_eq!(word(&phase.decide(due + SECOND * 60)), "renew now");
    }

    #[test]
    fn pauses_after_failed_renewals_double_up_to_a_minute_and_reset_with_a_session() {
        let start = Instant::now();
        let mut phase = live(SECOND * 3600, start);
        let mut now = start + SECOND * 3540;
        for pause in [10, 20] {
            phase.renewal_failed(&Error::new(ErrorKind::Auth, "x"), now);
            assert_eq!(word(&phase.decide(now + SECOND * pause - Duration::from_nanos(1))), "use", "{pause}");
            now += SECOND * pause;
            assert_eq!(word(&phase.decide(now)), "renew", "{pause}");
        }
        for _ in 0..99 {
            phase.renewal_failed(&Error::new(ErrorKind::Auth, "x"), now);
        }
        assert!(matches!(phase, Phase::Live { not_before: Some(at), .. } if at == now + PAUSE_CAP), "{phase:?}");
        assert!(matches!(live(SECOND, now), Phase::Live { not_before: None, failures: 0, .. }));
    }

    #[test]
    fn a_token_is_valid_until_refused_or_expired() {
        let start = Instant::now();
        let mut phase = live(SECOND * 3600, start);
        for (after, good) in [(0, true), (3540, true), (3599, true), (3600, false)] {
            assert_eq!(phase.is_good(start + SECOND * after), good, "{after}");
        }
        phase.refuse(&AccessToken::new("a"), &mut Hold::default(), start);
        assert!(!phase.is_good(start));
        for phase in [Phase::Unread, Phase::Empty, Phase::Dead(not_logged_in())] {
            assert!(!phase.is_good(start), "{phase:?}");
        }
    }

    #[test]
    fn found_6_4_tokens_refused_just_after_their_grant_are_replaced_a_few_times_at_once_and_then_each_minute() {
        let (mut hold, start) = (Hold::default(), Instant::now());
        let mut now = start;
        for pause in [None, None, None, Some(60), Some(60)] {
            let mut phase = live(SECOND * 3600, now);
            phase.refuse(&AccessToken::new("a"), &mut hold, now + SECOND);
            // Reported twice for the same token.
            phase.refuse(&AccessToken::new("a"), &mut hold, now + SECOND);
            hold.granted(now + SECOND);
            now += SECOND;
            let held = hold.error(now);
            assert_eq!(held.as_ref().and_then(Error::retry_after), pause.map(|pause| SECOND * pause), "{held:?}");
            now += SECOND * pause.unwrap_or(0);
            assert!(hold.error(now).is_none());
        }
        // A token that was valid for a while is replaced immediately.
        let mut phase = live(SECOND * 3600, now);
        phase.refuse(&AccessToken::new("a"), &mut hold, now + YOUNG);
        hold.granted(now + YOUNG);
        assert!(hold.error(now + YOUNG).is_none());
    }

    #[test]
    fn failed_logins_are_spaced_unless_they_were_never_sent() {
        let (mut hold, now) = (Hold::default(), Instant::now());
        hold.failed(&Error::new(ErrorKind::Network, "x"), now);
        hold.failed(&Error::new(ErrorKind::Auth, "refused").with_status(400), now);
        assert!(hold.error(now).is_none());
        for pause in [10, 20, 40, 60, 60] {
            hold.failed(&Error::new(ErrorKind::Service, "x").with_status(503).with_ambiguous(true), now);
            let error = hold.error(now).unwrap();
            assert_eq!((error.retry_after(), error.sent_nothing()), (Some(SECOND * pause), true));
            assert!(hold.error(now + SECOND * pause).is_none());
        }
        hold.granted(now);
        assert!(hold.error(now).is_none());
        let asked = Disposition::Retry { after: Some(SECOND * 50) };
        let penalty = Error::new(ErrorKind::RateLimited, "x").with_status(429).with_disposition(asked);
        hold.failed(&penalty, now);
        let error = hold.error(now).unwrap();
        assert_eq!((error.kind(), error.retry_after()), (ErrorKind::RateLimited, Some(SECOND * 50)));
        hold.granted(now);
        hold.failed(&Error::new(ErrorKind::Timeout, "x").with_ambiguous(true), now);
        assert_eq!(hold.error(now).and_then(|error| error.retry_after()), Some(PAUSE));
    }

    #[test]
    fn a_lifetime_has_a_floor_and_a_cap() {
        for (named, want) in [
            (Some(3600.0), SECOND * 3600),
            (Some(7199.5), Duration::from_millis(7_199_500)),
            (Some(0.1), LIFE_FLOOR),
            (Some(0.0), LIFE_UNKNOWN),
            (Some(-9.0), LIFE_UNKNOWN),
            (Some(1e300), LIFE_CAP),
            (Some(f64::NAN), LIFE_UNKNOWN),
            (Some(f64::INFINITY), LIFE_CAP),
            (None, LIFE_UNKNOWN),
        ] {
            assert_eq!(life(named), want, "{named:?}");
        }
    }

    #[test]
    fn a_stored_session_is_valid_for_the_remaining_wall_clock_time() {
        let (now, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + SECOND * 1_000);
        for (expires, want) in
            [(2_000, "use"), (1_061, "use"), (1_060, "renew"), (1_001, "renew"), (1_000, "renew now"), (3, "renew now")]
        {
            let stored = stored(SystemTime::UNIX_EPOCH + SECOND * expires);
            let phase = Phase::live(Session::stored(stored, wall, now));
            assert_eq!(word(&phase.decide(now)), want, "{expires}");
        }
        let session = Session::stored(stored(SystemTime::UNIX_EPOCH + LIFE_CAP * 9), wall, now);
        assert_eq!(session.access.expires_at, Some(now + LIFE_CAP));
        assert_eq!((session.access.owner_id(), session.access.scopes().count()), (Some("7"), 2));
    }

    proptest! {
        #[test]
        fn no_expires_in_leads_to_a_loop_or_a_panic(seconds: f64, after in 0_u64..100_000) {
            let start = Instant::now();
            let phase = live(life(Some(seconds)), start);
            // A new session is usable, and stays so for a while.
            prop_assert_eq!(word(&phase.decide(start)), "use");
            prop_assert_eq!(word(&phase.decide(start + LIFE_FLOOR / 4)), "use");
            let _ = phase.decide(start + Duration::from_secs(after));
        }
    }
}

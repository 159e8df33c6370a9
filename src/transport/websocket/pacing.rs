//! When to dial again. Pure.
//!
//! The user's rate allows four connections a minute. One subscription that cannot connect must not spend them within a
//! second and then wait for a minute: the first repeats come soon, the later ones after longer pauses.

use std::time::Duration;

use tokio::time::Instant;

/// The longest pause is this many times the shortest: beyond that the user's rate limits the dials.
const LONGEST: u32 = 8;
/// After this long without a new connection, the next one counts as the first again.
const FORGET: Duration = Duration::from_secs(60);
/// A connection that lived this long was good: its loss is not a repeated failure (found 6.14).
const GOOD_AFTER: Duration = Duration::from_secs(10);

/// One subscription's dials.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pacing {
    repeats: u32,
    last: Option<Instant>,
    next: Option<Instant>,
}

impl Pacing {
    /// The earliest time of the next dial; `None`: now.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        self.next.filter(|next| *next > now)
    }

    /// A connection that was opened at `opened_at` is lost.
    pub(super) fn lost(&mut self, opened_at: Instant, now: Instant) {
        let is_first = self.last.is_none_or(|last| last <= opened_at);
        if is_first && now.saturating_duration_since(opened_at) >= GOOD_AFTER {
            *self = Self::default();
        }
    }

    /// A dial begins. The pause before the first repeat is `base`, each further one twice as long; `chance` in `0..1`
    /// makes the following pause up to a quarter shorter, so that connections that failed together do not return
    /// together.
    pub(super) fn began(&mut self, now: Instant, base: Duration, chance: f64) {
        if self.last.is_none_or(|last| now.saturating_duration_since(last) >= FORGET) {
            self.repeats = 0;
        }
        let pause = base.saturating_mul((1 << self.repeats.min(8)).min(LONGEST));
        self.repeats = self.repeats.saturating_add(1);
        self.last = Some(now);
        self.next = Some(now + pause.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 4.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_6_14_a_good_connection_that_is_lost_makes_the_next_dial_a_first_one() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let paced = |lost_at| {
            let mut pacing = Pacing::default();
            for second in [0, 2, 6, 14] {
                pacing.began(at(second), Duration::from_secs(2), 0.0);
            }
            pacing.lost(at(14), at(lost_at));
            pacing
        };
        assert_eq!(paced(23).next(at(23)), Some(at(30)));
        let mut pacing = paced(24);
        assert_eq!(pacing.next(at(24)), None);
        // From here on, repeated failures.
        pacing.began(at(24), Duration::from_secs(2), 0.0);
        pacing.lost(at(14), at(25));
        assert_eq!(pacing.next(at(25)), Some(at(26)));
    }

    #[test]
    fn w41_the_dials_of_a_minute_are_spread_and_a_quiet_minute_resets_the_pause() {
        let start = Instant::now();
        for (chance, pauses) in
            [(0.0, [2_000, 4_000, 8_000, 16_000, 16_000]), (1.0, [1_500, 3_000, 6_000, 12_000, 12_000])]
        {
            let mut pacing = Pacing::default();
            let mut now = start;
            assert_eq!(pacing.next(now), None);
            for pause in pauses {
                pacing.began(now, Duration::from_secs(2), chance);
                let next = now + Duration::from_millis(pause);
                assert_eq!(pacing.next(now), Some(next), "{chance} {pause}");
                now = next;
                assert_eq!(pacing.next(now), None);
            }
            now += FORGET;
            pacing.began(now, Duration::from_secs(2), chance);
            assert_eq!(pacing.next(now), Some(now + Duration::from_millis(pauses[0])));
        }
    }
}

//! When to dial again. Pure.
//!
//! The user's rate has four connections a minute. One subscription that cannot
//! connect must not spend them in a second, and then wait for a minute: the first
//! repeats come soon, the later ones after longer pauses.

use std::time::Duration;

use tokio::time::Instant;

/// The longest pause is so many times the shortest: beyond that the user's rate is
/// what holds it back.
const LONGEST: u32 = 8;
/// After this long without a connection being made the next one is a first again.
const FORGET: Duration = Duration::from_secs(60);

/// One subscription's dials.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pacing {
    repeats: u32,
    last: Option<Instant>,
    next: Option<Instant>,
}

impl Pacing {
    /// Not before this; `None`: now.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        self.next.filter(|next| *next > now)
    }

    /// A dial begins. The pause before the first repeat is `base`, each further one
    /// twice as long; `chance` in `0..1` makes the pause after it up to a quarter
    /// shorter, so that many that failed together do not come again together.
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
    fn w41_the_dials_of_a_minute_are_spread_and_a_calm_minute_is_a_new_start() {
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

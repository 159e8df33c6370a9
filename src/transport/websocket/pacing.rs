//! When to dial again. Pure.
//!
//! By default the user's rate allows four connections a minute. One subscription that cannot connect must not spend them
//! within seconds and then wait for a minute: the first repeat comes soon, and the later ones are spread so that one is
//! left for as long as possible. Where the rate has room, the pauses stay short.

use std::time::Duration;

use tokio::time::Instant;

use crate::http::groups::DialRoom;

/// The longest pause is this many times the shortest, where the user's rate has room.
const LONGEST: u32 = 2;
/// After this long without a new connection, the next one counts as the first again.
const FORGET: Duration = Duration::from_secs(60);
/// A connection that lived this long was good: its loss is not a repeated failure (found 6.14).
const GOOD_AFTER: Duration = Duration::from_secs(10);

/// One subscription's dials.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pacing {
    repeats: u32,
    /// When the first of these dials began.
    first: Option<Instant>,
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

    /// A dial begins, after which `room` is left. The pause before the first repeat is `base`; `chance` in `0..1` makes
    /// the following pause up to a quarter shorter, so that connections that failed together do not return together.
    pub(super) fn began(&mut self, now: Instant, base: Duration, chance: f64, room: DialRoom) {
        if self.last.is_none_or(|last| now.saturating_duration_since(last) >= FORGET) {
            self.repeats = 0;
        }
        let first = *if self.repeats == 0 { self.first.insert(now) } else { self.first.get_or_insert(now) };
        let pause = match self.repeats {
            0 => base,
            _ => base.saturating_mul(LONGEST).max(spread(now.saturating_duration_since(first), now, base, room)),
        };
        self.repeats = self.repeats.saturating_add(1);
        self.last = Some(now);
        self.next = Some(now + pause.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 4.0));
    }
}

/// The pause after a dial of a connection that is down for `age`: in the first window each one that is left comes at a
/// multiple of the age of the one before, so that the wait is in proportion to the outage. Later they are spread evenly.
fn spread(age: Duration, now: Instant, base: Duration, room: DialRoom) -> Duration {
    if age >= room.window {
        // Made up to a quarter shorter, they still fit into the window.
        return room.window * 4 / 3 / room.limit.max(1);
    }
    let frees_in = room.frees_at.saturating_duration_since(now);
    if room.left == 0 {
        return Duration::ZERO;
    }
    let from = age.max(base).as_secs_f64().max(f64::MIN_POSITIVE);
    let all = (age + frees_in).as_secs_f64() / from;
    let next = from * all.max(1.0).powf(1.0 / f64::from(room.left.saturating_add(1)));
    Duration::try_from_secs_f64(next - age.as_secs_f64()).unwrap_or(frees_in).min(frees_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    /// Much.
    fn room(now: Instant) -> DialRoom {
        DialRoom { left: 99, limit: 100, frees_at: now + WINDOW, window: WINDOW }
    }

    /// The dials of an outage that begins now: their times in seconds. `used` were made just before.
    fn dials(limit: u32, used: u32, chance: f64, until: u64) -> Vec<f64> {
        let start = Instant::now();
        let (mut made, mut now) = (vec![start; used as usize], start);
        let mut pacing = Pacing::default();
        while now < start + Duration::from_secs(until) {
            if let Some(full) = made.len().checked_sub(limit as usize) {
                now = now.max(made[full] + WINDOW);
            }
            made.push(now);
            let counted: Vec<_> = made.iter().copied().filter(|at| *at + WINDOW > now).collect();
            let left = limit - u32::try_from(counted.len()).unwrap();
            let room = DialRoom { left, limit, frees_at: counted[0] + WINDOW, window: WINDOW };
            pacing.began(now, Duration::from_secs(2), chance, room);
            now = pacing.next(now).unwrap();
        }
        made[used as usize..].iter().map(|at| (*at - start).as_secs_f64()).collect()
    }

    /// How long the connection is away after an outage of so long.
    fn away(dials: &[f64], outage: f64) -> f64 {
        dials.iter().find(|at| **at >= outage).unwrap() - outage
    }

    #[test]
    fn found_6_1_the_dials_of_a_small_rate_are_spread_over_its_window() {
        for chance in [0.0, 0.5, 1.0] {
            // A start and a drop a moment later: three are left.
            let three = dials(4, 1, chance, 700);
            assert!(three[1] <= 2.0 && away(&three, 6.0) <= 5.0, "{three:?}");
            let four = dials(4, 0, chance, 700);
            assert!(four[1] <= 2.0 && away(&four, 3.0) <= 5.0 && four[3] >= 14.0, "{four:?}");
            for outage in 1..600 {
                let outage = f64::from(outage);
                assert!(away(&four, outage) <= 46.0, "{outage} {four:?}");
                // Evenly, once it lasts.
                assert!(outage < 75.0 || away(&four, outage) <= 20.0, "{outage} {four:?}");
            }
        }
    }

    #[test]
    fn found_6_1_where_the_rate_has_room_the_connection_is_back_within_5_s() {
        for limit in [40, 80, 8_000] {
            let dials = dials(limit, 1, 0.0, 300);
            for outage in 0..290 {
                assert!(away(&dials, f64::from(outage)) <= 5.0, "{limit} {outage} {dials:?}");
            }
        }
    }

    #[test]
    fn found_6_14_a_good_connection_that_is_lost_makes_the_next_dial_a_first_one() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let paced = |lost_at| {
            let mut pacing = Pacing::default();
            for second in [0, 2, 6, 14] {
                pacing.began(at(second), Duration::from_secs(2), 0.0, room(at(second)));
            }
            pacing.lost(at(14), at(lost_at));
            pacing
        };
        assert_eq!(paced(17).next(at(17)), Some(at(18)));
        for (lost_at, next) in [(23, 28), (24, 26)] {
            let mut pacing = paced(lost_at);
            assert_eq!(pacing.next(at(24)), None);
            pacing.began(at(24), Duration::from_secs(2), 0.0, room(at(24)));
            // From here on, repeated failures.
            pacing.lost(at(14), at(25));
            assert_eq!(pacing.next(at(25)), Some(at(next)));
        }
    }

    #[test]
    fn w41_the_dials_of_a_minute_are_spread_and_a_quiet_minute_resets_the_pause() {
        let start = Instant::now();
        for (chance, pauses) in [(0.0, [2_000, 4_000, 4_000, 4_000]), (1.0, [1_500, 3_000, 3_000, 3_000])] {
            let mut pacing = Pacing::default();
            let mut now = start;
            assert_eq!(pacing.next(now), None);
            for pause in pauses {
                pacing.began(now, Duration::from_secs(2), chance, room(now));
                let next = now + Duration::from_millis(pause);
                assert_eq!(pacing.next(now), Some(next), "{chance} {pause}");
                now = next;
                assert_eq!(pacing.next(now), None);
            }
            now += FORGET;
            pacing.began(now, Duration::from_secs(2), chance, room(now));
            assert_eq!(pacing.next(now), Some(now + Duration::from_millis(pauses[0])));
        }
    }
}

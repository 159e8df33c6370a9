//! Whether the peer is alive. Pure.
//!
//! Two questions, since each may be answered without the other: a ping asks whether the other end reads, a heartbeat
//! whether the gateway behind it works. The gateway counts only the latter as traffic, so heartbeats also prevent the
//! closing of an idle connection.

use std::time::Duration;

use tokio::time::Instant;

/// When to ask and how long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// Silence after which the peer is pinged.
    pub(super) ping_after: Duration,
    /// Silence in text frames after which a heartbeat is sent.
    pub(super) beat_after: Duration,
    /// The deadline of an answer.
    pub(super) answer_within: Duration,
}

/// The action that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Ping,
    Heartbeat,
    /// The peer did not answer.
    Dead(&'static str),
}

/// The kind of a received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A ping or a pong.
    Control,
    /// A frame of the gateway.
    Text,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Liveness {
    pace: Pace,
    /// The gateway receives something at least this often.
    beat_every: Duration,
    any_at: Instant,
    text_at: Instant,
    beat_at: Instant,
    /// When an incomplete message last grew.
    grew_at: Option<Instant>,
    /// When the unanswered question was sent.
    ping: Option<Instant>,
    beat: Option<Instant>,
}

impl Liveness {
    pub(super) fn new(pace: Pace, idle_timeout: Duration, now: Instant) -> Self {
        let mut liveness = Self {
            pace,
            beat_every: Duration::ZERO,
            any_at: now,
            text_at: now,
            beat_at: now,
            grew_at: None,
            ping: None,
            beat: None,
        };
        liveness.idle_timeout(idle_timeout);
        liveness
    }

    /// The gateway closes a connection that is silent for this long.
    pub(super) fn idle_timeout(&mut self, idle_timeout: Duration) {
        self.beat_every = (idle_timeout / 3).max(Duration::from_secs(10));
    }

    pub(super) fn heard(&mut self, what: Heard, now: Instant) {
        self.any_at = now;
        self.ping = None;
        if what == Heard::Text {
            self.text_at = now;
            self.beat = None;
        }
    }

    /// An incomplete message last grew at `at`, and delays every other answer. Once it grows no more, that is silence.
    pub(super) fn grew(&mut self, at: Instant) {
        if self.grew_at.replace(at) != Some(at) {
            self.heard(Heard::Text, at);
        }
    }

    /// Reading stopped for a while, by choice: unread data may hold the answers to earlier questions.
    pub(super) fn excuse(&mut self, now: Instant) {
        (self.any_at, self.text_at) = (now, now);
        (self.ping, self.beat) = (None, None);
    }

    /// The action that is due at `now`; call it until it returns `None`.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Due> {
        let late = |asked: Option<Instant>| asked.is_some_and(|at| now >= at + self.pace.answer_within);
        if late(self.ping) {
            return Some(Due::Dead("no answer to a ping"));
        }
        if late(self.beat) {
            return Some(Due::Dead("no answer to a heartbeat"));
        }
        if self.ping.is_none() && now >= self.any_at + self.pace.ping_after {
            self.ping = Some(now);
            return Some(Due::Ping);
        }
        if self.beat.is_none() && now >= self.beat_due() {
            self.beat = Some(now);
            self.beat_at = now;
            return Some(Due::Heartbeat);
        }
        None
    }

    fn beat_due(&self) -> Instant {
        (self.text_at + self.pace.beat_after).min(self.beat_at + self.beat_every)
    }

    /// When [`poll`](Self::poll) must be called next.
    pub(super) fn next(&self) -> Instant {
        let ping = match self.ping {
            Some(at) => at + self.pace.answer_within,
            None => self.any_at + self.pace.ping_after,
        };
        let beat = match self.beat {
            Some(at) => at + self.pace.answer_within,
            None => self.beat_due(),
        };
        ping.min(beat)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PACE: Pace = Pace {
        ping_after: Duration::from_secs(30),
        beat_after: Duration::from_secs(30),
        answer_within: Duration::from_secs(10),
    };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_message_that_grows_no_more_is_no_sign_of_life() {
        let start = Instant::now();
        let mut liveness = Liveness::new(PACE, s(300), start);
        let mut actions = Vec::new();
        for second in 0..=60 {
            liveness.grew(start + s(second.min(20)));
            while let Some(due) = liveness.poll(start + s(second)) {
                actions.push((second, due));
                if matches!(due, Due::Dead(_)) {
                    break;
                }
            }
        }
        assert_eq!(actions, [(50, Due::Ping), (50, Due::Heartbeat), (60, Due::Dead("no answer to a ping"))]);
    }

    /// The due actions, second by second; `heard` says what arrives, and heartbeats are echoed a second later or never.
    fn run(idle: u64, until: u64, echo: bool, heard: impl Fn(u64) -> Option<Heard>) -> Vec<(u64, Due)> {
        let start = Instant::now();
        let mut liveness = Liveness::new(PACE, s(idle), start);
        let (mut actions, mut owed) = (Vec::new(), false);
        for second in 1..=until {
            let now = start + s(second);
            let echoed = std::mem::take(&mut owed).then_some(Heard::Text);
            if let Some(what) = echoed.or_else(|| heard(second)) {
                liveness.heard(what, now);
            }
            while let Some(due) = liveness.poll(now) {
                actions.push((second, due));
                owed |= echo && due == Due::Heartbeat;
                if matches!(due, Due::Dead(_)) {
                    return actions;
                }
            }
            assert!(liveness.next() > now, "{second}");
        }
        actions
    }

    #[test]
    fn w12_half_open_is_noticed_within_forty_seconds() {
        let actions = run(1800, 100, false, |_| None);
        assert_eq!(actions[..2], [(30, Due::Ping), (30, Due::Heartbeat)]);
        assert!(matches!(actions[2..], [(40, Due::Dead(_))]), "{actions:?}");
    }

    #[test]
    fn found_6_13_a_pause_in_reading_is_not_a_dead_peer_and_the_peer_is_asked_again() {
        let start = Instant::now();
        let mut liveness = Liveness::new(PACE, s(1800), start);
        assert_eq!(liveness.poll(start + s(30)), Some(Due::Ping));
        assert_eq!(liveness.poll(start + s(30)), Some(Due::Heartbeat));
        liveness.excuse(start + s(45));
        assert_eq!(liveness.poll(start + s(45)), None);
        assert_eq!(liveness.next(), start + s(75));
        assert_eq!(liveness.poll(start + s(75)), Some(Due::Ping));
    }

    #[test]
    fn w13_a_pong_does_not_excuse_a_missing_heartbeat() {
        let actions = run(1800, 100, false, |second| (second > 20).then_some(Heard::Control));
        assert_eq!(actions, [(30, Due::Heartbeat), (40, Due::Dead("no answer to a heartbeat"))]);
    }

    #[test]
    fn w02_any_text_delays_the_heartbeat_up_to_a_third_of_the_gateways_limit() {
        let actions = run(1800, 1300, true, |second| (second % 20 == 0).then_some(Heard::Text));
        assert_eq!(actions, [(600, Due::Heartbeat), (1200, Due::Heartbeat)]);
        // A very low limit does not cause a storm.
        let actions = run(1, 35, false, |_| Some(Heard::Text));
        assert_eq!(actions, [(10, Due::Heartbeat), (20, Due::Heartbeat), (30, Due::Heartbeat)]);
    }

    #[test]
    fn w15_echoed_heartbeats_keep_a_quiet_connection_open_for_ever() {
        let actions = run(1800, 1000, true, |_| None);
        assert!(actions.iter().all(|(_, due)| !matches!(due, Due::Dead(_))), "{actions:?}");
        assert_eq!(actions.iter().filter(|(_, due)| *due == Due::Heartbeat).count(), 32);
    }

    proptest! {
        #[test]
        fn a_silent_peer_is_dead_within_bounds_and_an_answering_one_never(
            answers in proptest::collection::vec(any::<bool>(), 1..20), idle in 1u64..4000,
        ) {
            let start = Instant::now();
            let mut liveness = Liveness::new(PACE, s(idle), start);
            let (mut now, mut text_at) = (start, start);
            for answer in answers {
                let next = liveness.next();
                prop_assert!(next > now);
                now = next;
                prop_assert!(now - text_at <= s(40));
                let mut asked = 0;
                while let Some(due) = liveness.poll(now) {
                    if let Due::Dead(_) = due {
                        prop_assert!(now - text_at >= s(10));
                        return Ok(());
                    }
                    asked += 1;
                }
                prop_assert!((1..=2).contains(&asked));
                if answer {
                    liveness.heard(Heard::Text, now);
                    text_at = now;
                }
            }
        }
    }
}

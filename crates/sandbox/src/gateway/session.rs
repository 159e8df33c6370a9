//! A session: what outlives a socket. Pure.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::frame::Wsc;

/// Every resume token begins so; what does not is malformed.
const MARK: &str = "V1NDLX";
const TOKEN_LENGTH: usize = 46;
/// Tokens of a session that are still known, the newest.
const TOKENS: usize = 1000;

/// What a socket leaves behind for the next one.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: u64,
    /// The login it belongs to.
    pub(super) login: u64,
    /// Its socket, while it has one.
    pub(super) socket: Option<u64>,
    /// When it lost its socket.
    pub(super) lost_at: Option<Instant>,
    pub(super) subscription: Option<String>,
    pub(super) recovery_timeout: Duration,
    /// When it began, by the wall clock.
    pub(super) created: SystemTime,
    buffer_size: usize,
    sequence: u64,
    tokens: VecDeque<String>,
    /// Notifications that wait for a socket.
    missed: VecDeque<String>,
    /// Notifications that a socket took, the newest.
    sent: VecDeque<String>,
}

/// What comes of a resume token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing was offered.
    Fresh,
    /// It is no token at all.
    Malformed,
    /// The session goes on.
    Resumed(u64),
    /// A new session, with `recoveryErrorCode`.
    Failed(Option<String>),
}

/// What a verdict depends on beside the session.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) same_login: bool,
    pub(super) needs_subscription: bool,
    pub(super) take_over: bool,
    pub(super) late_code: Option<String>,
}

fn keep(list: &mut VecDeque<String>, item: String, most: usize) {
    list.push_back(item);
    while list.len() > most {
        list.pop_front();
    }
}

impl Session {
    pub(super) fn new(
        id: u64,
        login: u64,
        recovery_timeout: Duration,
        buffer_size: usize,
        sequence: u64,
        created: SystemTime,
    ) -> Self {
        Self {
            id,
            login,
            socket: None,
            lost_at: None,
            subscription: None,
            recovery_timeout,
            created,
            buffer_size,
            sequence,
            tokens: VecDeque::new(),
            missed: VecDeque::new(),
            sent: VecDeque::new(),
        }
    }

    /// A new resume token; the former ones stay good.
    pub(super) fn next_wsc(&mut self, rng: &mut fastrand::Rng) -> Wsc {
        self.sequence += 1;
        let token = super::super::state::token(rng, MARK, TOKEN_LENGTH - MARK.len());
        keep(&mut self.tokens, token.clone(), TOKENS);
        Wsc { token, sequence: self.sequence }
    }

    /// Keeps a notification for the next socket.
    pub(super) fn missed(&mut self, text: String) {
        keep(&mut self.missed, text, self.buffer_size);
    }

    /// Notes that a socket took a notification.
    pub(super) fn sent(&mut self, text: String) {
        keep(&mut self.sent, text, self.buffer_size);
    }

    /// What a new socket is sent: the newest `duplicates` of what was sent before,
    /// then what was missed; newest first if `reversed`.
    pub(super) fn replay(&mut self, duplicates: usize, reversed: bool) -> Vec<String> {
        let again = self.sent.len().saturating_sub(duplicates);
        let mut texts: Vec<String> = self.sent.iter().skip(again).cloned().collect();
        texts.extend(self.missed.drain(..));
        if reversed {
            texts.reverse();
        }
        texts
    }

    /// When its time is over.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        self.lost_at.map(|lost| super::super::state::later(lost, self.recovery_timeout))
    }
}

/// Judges an offered token for a socket of `login`.
pub(super) fn judge(sessions: &[Session], offered: Option<&str>, login: u64, rules: Rules, now: Instant) -> Verdict {
    let Some(offered) = offered else { return Verdict::Fresh };
    let shaped = offered.len() == TOKEN_LENGTH
        && offered.starts_with(MARK)
        && offered.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !shaped {
        return Verdict::Malformed;
    }
    let found = sessions.iter().find(|session| session.tokens.iter().any(|token| token == offered));
    let Some(session) = found.filter(|session| session.ends_at().is_none_or(|end| now < end)) else {
        return Verdict::Failed(rules.late_code);
    };
    if rules.same_login && session.login != login {
        return Verdict::Failed(Some("WSG-1003".into()));
    }
    if rules.needs_subscription && session.subscription.is_none() {
        return Verdict::Failed(Some("WSG-1005".into()));
    }
    if session.socket.is_some() && !rules.take_over {
        return Verdict::Failed(None);
    }
    Verdict::Resumed(session.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(size: usize) -> Session {
        Session::new(7, 1, Duration::from_secs(180), size, 0, SystemTime::UNIX_EPOCH)
    }

    fn texts(range: std::ops::Range<u32>) -> Vec<String> {
        range.map(|n| n.to_string()).collect()
    }

    #[test]
    fn the_newest_that_fit_are_replayed_once() {
        let mut session = session(3);
        for text in texts(0..5) {
            session.missed(text);
        }
        assert_eq!(session.replay(0, false), texts(2..5));
        assert!(session.replay(0, false).is_empty());
    }

    #[test]
    fn what_was_sent_can_come_again_and_in_reverse() {
        let mut session = session(10);
        texts(0..4).into_iter().for_each(|text| session.sent(text));
        session.missed("4".into());
        assert_eq!(session.replay(2, true), ["4", "3", "2"]);
        assert_eq!(session.replay(9, false), texts(0..4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_judged() {
        let now = Instant::now();
        let strict = Rules { same_login: true, needs_subscription: true, take_over: true, late_code: None };
        let mut held = session(3);
        let first = held.next_wsc(&mut fastrand::Rng::with_seed(1));
        let second = held.next_wsc(&mut fastrand::Rng::with_seed(2));
        assert_eq!((first.sequence, second.sequence), (1, 2));
        held.subscription = Some("s".into());
        held.lost_at = Some(now);
        let mut sessions = [held];
        let unknown = format!("{MARK}{}", "a".repeat(TOKEN_LENGTH - MARK.len()));
        let late = Rules { late_code: Some("WSG-1".into()), ..strict };
        let code = |code: &str| Verdict::Failed(Some(code.into()));
        for (offered, login, rules, seconds, want) in [
            (None, 1, &strict, 0, Verdict::Fresh),
            (Some("nonsense"), 1, &strict, 0, Verdict::Malformed),
            (Some(&*unknown), 1, &strict, 0, Verdict::Failed(None)),
            (Some(&*first.token), 1, &strict, 179, Verdict::Resumed(7)),
            (Some(&*second.token), 1, &strict, 179, Verdict::Resumed(7)),
            (Some(&*second.token), 1, &strict, 180, Verdict::Failed(None)),
            (Some(&*second.token), 1, &late, 180, code("WSG-1")),
            (Some(&*second.token), 2, &strict, 0, code("WSG-1003")),
            (Some(&*second.token), 2, &Rules { same_login: false, ..strict.clone() }, 0, Verdict::Resumed(7)),
        ] {
            let at = now + Duration::from_secs(seconds);
            assert_eq!(judge(&sessions, offered, login, rules.clone(), at), want, "{offered:?} {login} {seconds}");
        }
        let token = Some(&*second.token);
        (sessions[0].socket, sessions[0].lost_at) = (Some(1), None);
        assert_eq!(judge(&sessions, token, 1, strict.clone(), now), Verdict::Resumed(7));
        let polite = Rules { take_over: false, ..strict.clone() };
        assert_eq!(judge(&sessions, token, 1, polite, now), Verdict::Failed(None));
        sessions[0].subscription = None;
        assert_eq!(judge(&sessions, token, 1, strict.clone(), now), code("WSG-1005"));
        let lenient = Rules { needs_subscription: false, ..strict };
        assert_eq!(judge(&sessions, token, 1, lenient, now), Verdict::Resumed(7));
    }
}

//! A session, which outlives its sockets. Pure.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::frame::Wsc;

/// The prefix of every resume token; a token without it is malformed.
const MARK: &str = "V1NDLX";
const TOKEN_LENGTH: usize = 46;
/// Maximum number of tokens remembered per session; the newest stay.
const TOKENS: usize = 1000;

/// The state that a socket leaves to its successor.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: u64,
    /// The login it belongs to.
    pub(super) login: u64,
    /// Its current socket.
    pub(super) socket: Option<u64>,
    /// When it lost its socket.
    pub(super) lost_at: Option<Instant>,
    pub(super) subscription: Option<String>,
    pub(super) recovery_timeout: Duration,
    /// Creation time by the wall clock.
    pub(super) created: SystemTime,
    buffer_size: usize,
    sequence: u64,
    tokens: VecDeque<String>,
    /// Notifications waiting for a socket.
    missed: VecDeque<String>,
    /// The newest notifications given to a socket.
    sent: VecDeque<String>,
}

/// The result of checking a resume token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No token.
    Fresh,
    /// The text is not a token.
    Malformed,
    /// The session is resumed.
    Resumed(u64),
    /// A new session, with `recoveryErrorCode`.
    Failed(Option<String>),
}

/// The settings that affect a verdict.
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

    /// A new resume token; earlier ones stay valid.
    pub(super) fn next_wsc(&mut self, rng: &mut fastrand::Rng) -> Wsc {
        self.sequence += 1;
        let token = crate::random::token(rng, MARK, TOKEN_LENGTH - MARK.len());
        keep(&mut self.tokens, token.clone(), TOKENS);
        Wsc { token, sequence: self.sequence }
    }

    /// Stores a notification for the next socket.
    pub(super) fn missed(&mut self, text: String) {
        keep(&mut self.missed, text, self.buffer_size);
    }

    /// Records a notification given to a socket.
    pub(super) fn sent(&mut self, text: String) {
        keep(&mut self.sent, text, self.buffer_size);
    }

    /// The replay for a new socket: the newest `duplicates` of the sent events, then the missed
    /// ones; newest first if `reversed`.
    pub(super) fn replay(&mut self, duplicates: usize, reversed: bool) -> Vec<String> {
        let again = self.sent.len().saturating_sub(duplicates);
        let mut texts: Vec<String> = self.sent.iter().skip(again).cloned().collect();
        texts.extend(self.missed.drain(..));
        if reversed {
            texts.reverse();
        }
        texts
    }

    /// When it expires.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        self.lost_at.map(|lost| crate::clock::later(lost, self.recovery_timeout))
    }
}

/// Checks the token of a socket of `login`.
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
    fn the_newest_events_that_fit_are_replayed_once() {
        let mut session = session(3);
        for text in texts(0..5) {
            session.missed(text);
        }
        assert_eq!(session.replay(0, false), texts(2..5));
        assert!(session.replay(0, false).is_empty());
    }

    #[test]
    fn sent_events_can_be_replayed_and_reversed() {
        let mut session = session(10);
        texts(0..4).into_iter().for_each(|text| session.sent(text));
        session.missed("4".into());
        assert_eq!(session.replay(2, true), ["4", "3", "2"]);
        assert_eq!(session.replay(9, false), texts(0..4));
    }

    #[tokio::test(start_paused = true)]
    async fn resume_tokens_are_checked() {
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

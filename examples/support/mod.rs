//! Shared by the examples: the server to log in to, when to stop, and how to report errors.

pub(crate) mod tasks;

use std::error::Error;
use std::io;
use std::path::Path;
use std::time::Duration;

use ringcentral_events::auth::FileTokenStore;
use ringcentral_events::transport::PubNub;
use ringcentral_events::{Client, OAuth, Result, Secret};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing_subscriber::EnvFilter;

/// The variables that name a server; set all or none.
const REQUIRED: [&str; 4] = ["RC_SERVER_URL", "RC_APP_CLIENT_ID", "RC_APP_CLIENT_SECRET", "RC_USER_JWT"];
/// The PubNub server, if not the usual one.
const PUBNUB_ORIGIN: &str = "RC_PUBNUB_ORIGIN";

/// A server and an app's login there.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: Secret,
    pub(crate) jwt: Secret,
    pub(crate) pubnub_origin: Option<String>,
}

impl Server {
    /// The server from the environment; `None` if none is set.
    pub(crate) fn from_env() -> std::result::Result<Option<Self>, String> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// An empty variable counts as unset. Setting only some is a mistake that must not fall back to
    /// the sandbox.
    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> std::result::Result<Option<Self>, String> {
        let read = |name: &str| variable(name).filter(|value| !value.is_empty());
        let [url, client_id, client_secret, jwt] = REQUIRED.map(read);
        match (url, client_id, client_secret, jwt) {
            (None, None, None, None) => Ok(None),
            (Some(url), Some(client_id), Some(client_secret), Some(jwt)) => Ok(Some(Self {
                url,
                client_id,
                client_secret: client_secret.into(),
                jwt: jwt.into(),
                pubnub_origin: read(PUBNUB_ORIGIN),
            })),
            _ => {
                let missing: Vec<&str> = REQUIRED.into_iter().filter(|name| read(name).is_none()).collect();
                Err(format!("not set: {}; set all of {}, or none", missing.join(", "), REQUIRED.join(", ")))
            }
        }
    }

    /// The sandbox, as a server.
    pub(crate) fn of(sandbox: &ringcentral_sandbox::Sandbox) -> Self {
        Self {
            url: sandbox.base_url().to_owned(),
            client_id: sandbox.client_id().to_owned(),
            client_secret: sandbox.client_secret(),
            jwt: sandbox.jwt(),
            pubnub_origin: Some(sandbox.pubnub_origin().to_owned()),
        }
    }

    /// A client that logs in with its first call.
    #[allow(dead_code, reason = "each example uses its part")]
    pub(crate) fn client(&self) -> Result<Client> {
        self.client_keeping(None)
    }

    /// Like [`client`](Self::client), with a token file for later processes.
    pub(crate) fn client_keeping(&self, tokens: Option<&Path>) -> Result<Client> {
        let oauth =
            OAuth::jwt(&self.client_id, self.jwt.clone()).client_secret(self.client_secret.clone()).server(&self.url);
        let oauth = match tokens {
            Some(path) => oauth.store(FileTokenStore::new(path)),
            None => oauth,
        };
        Client::builder(oauth.build()?).build()
    }

    /// The PubNub transport.
    pub(crate) fn pubnub(&self) -> Result<PubNub> {
        let pubnub = PubNub::builder();
        match &self.pubnub_origin {
            Some(origin) => pubnub.origin(origin),
            None => pubnub,
        }
        .build()
    }
}

/// An error and all its causes on one line.
pub(crate) fn error_chain(error: &dyn Error) -> String {
    let mut story = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        story.push_str(": ");
        story.push_str(&error.to_string());
        cause = error.source();
    }
    story
}

/// `text` on one line without terminal controls: control, bidirectional and invisible characters
/// are escaped.
pub(crate) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if c.is_control() || is_format(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
        shown
    })
}

/// Bidirectional marks, line separators and zero-width characters, except the joiners that scripts
/// and emoji need.
fn is_format(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// Logs to stderr; `RUST_LOG` is the filter.
pub(crate) fn log_to_stderr() {
    let wanted = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(wanted).with_writer(io::stderr).with_ansi(false).init();
}

/// Time to delete and print everything at the end: the limit of `close` (10 s), and some for
/// standard output.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(15);
/// Time for pending work once the input has ended.
const GRACE: Duration = Duration::from_secs(10);

/// Reports when to end, and until when pending work may continue.
pub(crate) struct Stop(watch::Receiver<Option<Instant>>);

impl Stop {
    /// Ends with `signal`, without a grace period, or with `input`, with one: a user without
    /// further input still wants the result.
    pub(crate) fn when(
        signal: impl Future<Output = ()> + Send + 'static,
        input: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let (asked, stop) = watch::channel(None);
        tokio::spawn(async move {
            tokio::pin!(signal);
            tokio::select! {
                () = &mut signal => {}
                () = input => {
                    asked.send_replace(Some(Instant::now() + GRACE));
                    signal.await;
                }
            }
            asked.send_replace(Some(Instant::now()));
        });
        Self(stop)
    }

    /// Waits until it is time to end.
    pub(crate) async fn asked(&self) {
        // Fails if the task is gone, which is a reason to end as well.
        let _ = self.0.clone().wait_for(Option::is_some).await;
    }

    /// Waits for `work`; `None` if the grace period ends first.
    pub(crate) async fn grace<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut stop = self.0.clone();
        let late = async {
            let _ = stop.wait_for(Option::is_some).await;
            let until = stop.borrow().unwrap_or_else(Instant::now);
            tokio::select! {
                () = sleep_until(until) => {}
                _ = stop.wait_for(|now| now.is_some_and(|now| now < until)) => {}
            }
        };
        tokio::select! {
            biased;
            () = late => None,
            done = work => Some(done),
        }
    }
}

/// Waits for Ctrl-C or, on Unix, SIGTERM. From this call on neither ends the process by default.
#[cfg(unix)]
pub(crate) fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Waits for Ctrl-C. From this call on it does not end the process by default.
#[cfg(windows)]
pub(crate) fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
    })
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::sleep;

    use super::*;

    fn read(set: &[(&str, &str)]) -> std::result::Result<Option<Server>, String> {
        let value = |name: &str| set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        Server::from_variables(value)
    }

    #[test]
    fn variables_must_be_set_all_or_none() {
        let all = REQUIRED.map(|name| (name, "x"));
        assert!(read(&all).unwrap().is_some_and(|server| server.pubnub_origin.is_none()));
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&REQUIRED.map(|name| (name, ""))).unwrap().is_none());
        let complaint = read(&all[..2]).err().unwrap();
        assert!(complaint.starts_with("not set: RC_APP_CLIENT_SECRET, RC_USER_JWT;"), "{complaint}");
    }

    #[tokio::test(start_paused = true)]
    async fn pending_work_gets_a_grace_period_after_end_of_input_but_not_after_a_signal() {
        let stop = Stop::when(pending(), async {});
        stop.asked().await;
        assert_eq!(stop.grace(sleep(GRACE / 2)).await, Some(()));
        // One grace period for all work together.
        assert_eq!(stop.grace(sleep(GRACE)).await, None);
        let begun = Instant::now();
        let stop = Stop::when(sleep(GRACE / 4), async {});
        assert_eq!(stop.grace(sleep(GRACE / 2)).await, None);
        assert!(begun.elapsed() < GRACE / 2);
        assert_eq!(stop.grace(async {}).await, None, "no new work starts");
        let never = Stop::when(pending(), pending());
        assert_eq!(never.grace(sleep(GRACE * 2)).await, Some(()));
    }

    #[test]
    fn terminal_controls_are_escaped_and_other_text_is_unchanged() {
        for (text, want) in [
            ("plain é ☃ 👩\u{200d}🚀 \\ \"q\"", "plain é ☃ 👩\u{200d}🚀 \\ \"q\""),
            ("\u{1b}[31mred", r"\u{1b}[31mred"),
            ("a\r\nb\tc\u{7f}", r"a\u{d}\u{a}b\u{9}c\u{7f}"),
            ("\u{9b}2J\u{85}", r"\u{9b}2J\u{85}"),
            ("\u{202e}gpj.exe\u{2066}\u{200f}", r"\u{202e}gpj.exe\u{2066}\u{200f}"),
            ("\u{2028}\u{feff}\u{e0041}", r"\u{2028}\u{feff}\u{e0041}"),
        ] {
            assert_eq!(printable(text), want);
        }
    }

    #[test]
    fn an_error_chain_has_every_cause_once() {
        let error = ringcentral_events::Error::new(ringcentral_events::ErrorKind::Config, "outer")
            .with_source(io::Error::other("inner"));
        assert_eq!(error_chain(&error), "outer: inner");
    }
}

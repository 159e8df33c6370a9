//! What the examples share: where to log in, when to stop, how to tell what went
//! wrong.

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

/// The variables that name a server; all of them, or none.
const REQUIRED: [&str; 4] = ["RC_SERVER_URL", "RC_APP_CLIENT_ID", "RC_APP_CLIENT_SECRET", "RC_USER_JWT"];
/// Where PubNub is, if not where RingCentral has it.
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
    /// The server that the environment names; `None` when it names none.
    pub(crate) fn from_env() -> std::result::Result<Option<Self>, String> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// An empty variable counts as not set. Naming only some is a mistake that
    /// must not end in the sandbox.
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

    /// As [`client`](Self::client); its login is kept in a file for the next process.
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

/// An error and all its causes, in one line.
pub(crate) fn whole_story(error: &dyn Error) -> String {
    let mut story = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        story.push_str(": ");
        story.push_str(&error.to_string());
        cause = error.source();
    }
    story
}

/// `text` on one line, with nothing in it that a terminal obeys: control characters
/// and those that turn or hide text are written as escapes.
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

/// Marks of direction, separators of lines, and what takes no room, but for the
/// joiners that scripts and emoji need.
fn is_format(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// The crate's own logs go to stderr; `RUST_LOG` says which.
pub(crate) fn log_to_stderr() {
    let wanted = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(wanted).with_writer(io::stderr).with_ansi(false).init();
}

/// Within this all is deleted and written once it is time to end: what `close`
/// allows itself (10 s), and some for standard output.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(15);
/// What was begun is given so long once the input has ended.
const GRACE: Duration = Duration::from_secs(10);

/// Tells when it is time to end, and until when what was begun may go on.
pub(crate) struct Stop(watch::Receiver<Option<Instant>>);

impl Stop {
    /// It is time when `signal` is over, which leaves no time, or when `input` is,
    /// which leaves some: who has nothing more to say still wants to hear how it went.
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
        // It fails when the task is gone, which is a reason to end as well.
        let _ = self.0.clone().wait_for(Option::is_some).await;
    }

    /// Waits for `work`; `None` if it is time to end and it is not done in the time
    /// that is left.
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

/// Waits for Ctrl-C or, on Unix, SIGTERM. From this call on neither ends the
/// process by itself.
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

/// Waits for Ctrl-C. From this call on it does not end the process by itself.
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
    fn all_variables_name_a_server_none_names_none_and_some_are_a_mistake() {
        let all = REQUIRED.map(|name| (name, "x"));
        assert!(read(&all).unwrap().is_some_and(|server| server.pubnub_origin.is_none()));
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&REQUIRED.map(|name| (name, ""))).unwrap().is_none());
        let complaint = read(&all[..2]).err().unwrap();
        assert!(complaint.starts_with("not set: RC_APP_CLIENT_SECRET, RC_USER_JWT;"), "{complaint}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_begun_gets_its_time_after_the_input_and_none_after_a_signal() {
        let stop = Stop::when(pending(), async {});
        stop.asked().await;
        assert_eq!(stop.grace(sleep(GRACE / 2)).await, Some(()));
        // All of it together, not each anew.
        assert_eq!(stop.grace(sleep(GRACE)).await, None);
        let begun = Instant::now();
        let stop = Stop::when(sleep(GRACE / 4), async {});
        assert_eq!(stop.grace(sleep(GRACE / 2)).await, None);
        assert!(begun.elapsed() < GRACE / 2);
        assert_eq!(stop.grace(async {}).await, None, "nothing is begun any more");
        let never = Stop::when(pending(), pending());
        assert_eq!(never.grace(sleep(GRACE * 2)).await, Some(()));
    }

    #[test]
    fn what_a_terminal_obeys_is_escaped_and_all_else_is_left_alone() {
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
    fn a_story_has_every_cause_once() {
        let error = ringcentral_events::Error::new(ringcentral_events::ErrorKind::Config, "outer")
            .with_source(io::Error::other("inner"));
        assert_eq!(whole_story(&error), "outer: inner");
    }
}

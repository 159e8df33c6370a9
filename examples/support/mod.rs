//! Shared by the examples that subscribe: the server to log in to, the transport, and when to stop.

#![allow(dead_code, reason = "each example uses its part")]

pub(crate) mod cli;
pub(crate) mod tasks;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ringcentral_events::auth::{FileTokenStore, OAuthBuilder};
use ringcentral_events::transport::{Poll, PubNub, Transport, TransportKind, WebSocket};
use ringcentral_events::{Client, OAuth, Result, Secret};
use ringcentral_sandbox::{Fixture, Sandbox};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

#[allow(unused_imports, reason = "each example uses its part")]
pub(crate) use cli::{Failure, error_chain, log_to_stderr, printable, stop_signal};

/// The variables that name a login. If none is set, the sandbox is the server.
const LOGIN: [&str; 4] = ["RC_SERVER_URL", "RC_APP_CLIENT_ID", "RC_APP_CLIENT_SECRET", "RC_USER_JWT"];
/// The PubNub server, if not the usual one.
const PUBNUB_ORIGIN: &str = "RC_PUBNUB_ORIGIN";

/// A server and an app's login there.
pub(crate) struct Server {
    login: Login,
    pubnub_origin: Option<String>,
}

enum Login {
    Environment,
    Sandbox { url: String, client_id: String, client_secret: Secret, jwt: Secret },
}

impl Server {
    /// The server from the environment; `None` if no variable is set. Setting only some is a mistake
    /// that must not fall back to the sandbox: then the login fails.
    pub(crate) fn from_env() -> Option<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// An empty variable counts as unset.
    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let read = |name: &str| variable(name).filter(|value| !value.is_empty());
        let is_set = LOGIN.into_iter().any(|name| read(name).is_some());
        is_set.then(|| Self { login: Login::Environment, pubnub_origin: read(PUBNUB_ORIGIN) })
    }

    /// The sandbox, as a server.
    pub(crate) fn of(sandbox: &Sandbox) -> Self {
        let login = Login::Sandbox {
            url: sandbox.base_url().to_owned(),
            client_id: sandbox.client_id().to_owned(),
            client_secret: sandbox.client_secret(),
            jwt: sandbox.jwt(),
        };
        Self { login, pubnub_origin: Some(sandbox.pubnub_origin().to_owned()) }
    }

    fn login(&self) -> Result<OAuthBuilder> {
        match &self.login {
            Login::Environment => OAuth::from_env(),
            Login::Sandbox { url, client_id, client_secret, jwt } => {
                Ok(OAuth::jwt(client_id, jwt.clone()).client_secret(client_secret.clone()).server(url))
            }
        }
    }

    /// A client that logs in with its first call.
    pub(crate) fn client(&self) -> Result<Client> {
        self.client_keeping(None)
    }

    /// Like [`client`](Self::client), with a token file for later processes.
    pub(crate) fn client_keeping(&self, tokens: Option<&Path>) -> Result<Client> {
        let login = self.login()?;
        let login = match tokens {
            Some(path) => login.store(FileTokenStore::new(path)),
            None => login,
        };
        Client::builder(login.build()?).build()
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

    /// The transport of a kind. These programs serve no webhook.
    pub(crate) fn transport(&self, kind: TransportKind) -> Result<Arc<dyn Transport>> {
        Ok(match kind {
            TransportKind::PubNub => Arc::new(self.pubnub()?),
            TransportKind::Poll => Arc::new(Poll::new()),
            _ => Arc::new(WebSocket::builder().build()?),
        })
    }
}

/// The options of a [`quickstart`].
const QUICKSTART: &str = "usage: quickstart [--transport websocket|pubnub]

Prints text messages and team posts until Ctrl-C.
Login: RC_APP_CLIENT_ID, RC_APP_CLIENT_SECRET, RC_USER_JWT and RC_SERVER_URL;
without them the sandbox, an emulator of the service.";

/// Runs `run` with the client and the transport that the command line and the environment name.
pub(crate) async fn quickstart<R>(run: R) -> ExitCode
where
    R: AsyncFnOnce(Client, Arc<dyn Transport>) -> Result<()>,
{
    let option = |kind: &mut TransportKind, name: &str, parser: &mut lexopt::Parser| {
        if name != "--transport" {
            return Ok(false);
        }
        *kind = cli::transport(parser, &[TransportKind::WebSocket, TransportKind::PubNub])?;
        Ok(true)
    };
    cli::main(QUICKSTART, TransportKind::WebSocket, option, async |kind| {
        let stop = stop_signal()?;
        let (sandbox, server) = server().await?;
        let (mut transports, tasks) = tasks::held(vec![server.transport(kind)?]);
        let outcome = tokio::select! {
            outcome = run(server.client()?, transports.remove(0)) => outcome,
            () = events(sandbox.as_ref()) => Ok(()),
            () = stop => Ok(()),
        };
        tasks.over_within(LAST_WORDS).await?;
        Ok(outcome?)
    })
    .await
}

/// The server that the environment names, else a new sandbox.
pub(crate) async fn server() -> Result<(Option<Sandbox>, Server)> {
    if let Some(server) = Server::from_env() {
        return Ok((None, server));
    }
    let sandbox = Sandbox::start().await?;
    eprintln!("No RC_* variable is set: this is the sandbox, an emulator of RingCentral. Ctrl-C ends.");
    let server = Server::of(&sandbox);
    Ok((Some(sandbox), server))
}

/// Lets the sandbox send a message every few seconds, as soon as there is a subscription.
pub(crate) async fn events(sandbox: Option<&Sandbox>) {
    let Some(sandbox) = sandbox else { return std::future::pending().await };
    for number in 1.. {
        let sms = Fixture::inbound_sms("+16505550100", format!("Hello number {number}"));
        let all = [sms, Fixture::team_post(format!("Post number {number}"))];
        while sandbox.trigger_all(&all).is_empty() {
            sleep(Duration::from_millis(50)).await;
        }
        sleep(Duration::from_secs(5)).await;
    }
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

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::sleep;

    use super::*;

    #[test]
    fn a_login_in_the_environment_is_not_replaced_by_the_sandbox() {
        let read = |set: &[(&str, &str)]| {
            let value = |name: &str| set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
            Server::from_variables(value).map(|server| server.pubnub_origin)
        };
        assert_eq!(read(&[]), None);
        assert_eq!(read(&LOGIN.map(|name| (name, ""))), None);
        assert_eq!(read(&[(PUBNUB_ORIGIN, "x")]), None);
        for name in LOGIN {
            assert_eq!(read(&[(name, "x")]), Some(None), "{name}");
            assert_eq!(read(&[(name, "x"), (PUBNUB_ORIGIN, "y")]), Some(Some("y".into())), "{name}");
        }
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
}

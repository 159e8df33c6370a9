//! The REST client: tokens, deadlines, rate limits and retries for every call.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use url::Url;

use super::call::{Call, LONGEST};
use super::response::Response;
use crate::auth::{AccessToken, OAuth, TokenProvider, bearer};
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::guard::guarded;
use crate::http::budget::Permit;
use crate::http::envelope::error_from;
use crate::http::retry::{Attempts, Next};
use crate::http::{BoundedClient, PRODUCTION, RateBudget, Redirects, USER_AGENT, server_url};
use crate::policy::BackoffPolicy;
use crate::registry::Registry;
use crate::system::System;

const DEADLINE: Duration = Duration::from_secs(30);
const BODY_LIMIT: usize = 16 * 1024 * 1024;

/// RingCentral's REST API for one user and app.
///
/// Cheap to clone; clones share the connections, the tokens and the [`RateBudget`]. Every call
/// - carries the provider's access token; after a 401 it is repeated once with a new one,
/// - ends within its deadline (default 30 s), including waits and retries,
/// - waits while its rate group is closed; if that would exceed the deadline it fails immediately
///   with [`ErrorKind::RateLimited`] and nothing is sent,
/// - is retried up to three times with jittered backoff after 5xx, 408 and network errors if that
///   is safe (GET, HEAD, PUT, DELETE), otherwise only if the service certainly did not carry it out
///   (429, no connection),
/// - fails with the service's error code and request id.
///
/// ```no_run
/// # async fn run() -> ringcentral_events::Result<()> {
/// use ringcentral_events::rest::{Client, Method};
///
/// let client = Client::from_env()?; // or `Client::builder(OAuth::jwt(…)…)`
/// let answer = client.request(Method::GET, "/restapi/v1.0/account/~/extension/~/call-log").send().await?;
/// let calls: serde_json::Value = answer.json()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    server: Url,
    http: BoundedClient,
    system: System,
    tokens: Arc<dyn TokenProvider>,
    budget: RateBudget,
    backoff: BackoffPolicy,
    deadline: Duration,
    registry: Arc<Registry>,
}

impl Client {
    /// A client for the login that the environment describes: `RC_APP_CLIENT_ID`,
    /// `RC_APP_CLIENT_SECRET`, `RC_USER_JWT`, and `RC_SERVER_URL` unless it is production; see
    /// [`OAuth::from_env`](crate::OAuth::from_env). Nothing is sent.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming the variables that are missing, or the one whose value is
    /// invalid; never a value.
    pub fn from_env() -> Result<Self> {
        Self::builder(OAuth::from_env()?.build()?).build()
    }

    /// A client that uses the tokens of `tokens`.
    pub fn builder(tokens: impl TokenProvider) -> ClientBuilder {
        ClientBuilder {
            tokens: Arc::new(tokens),
            server: None,
            deadline: DEADLINE,
            backoff: BackoffPolicy::default(),
            body_limit: BODY_LIMIT,
            user_agent: None,
            system: None,
        }
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &Url {
        &self.0.server
    }

    /// The token provider.
    #[must_use]
    pub fn tokens(&self) -> &Arc<dyn TokenProvider> {
        &self.0.tokens
    }

    /// The subscriptions created through this client and its clones.
    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.0.registry
    }

    /// The HTTP client, clock and randomness.
    pub(crate) fn system(&self) -> &System {
        &self.0.system
    }

    pub(super) fn budget(&self) -> &RateBudget {
        &self.0.budget
    }

    pub(super) fn deadline(&self) -> Duration {
        self.0.deadline
    }

    pub(super) async fn run(&self, call: &Call) -> Result<Response> {
        let deadline = Instant::now() + call.deadline;
        let mut attempts = Attempts::new(call.repeat, self.0.backoff, deadline);
        let mut renewed = None;
        loop {
            let token = match renewed.take() {
                Some(token) => token,
                None => self.in_time(deadline, self.0.tokens.token()).await.map_err(Error::of_login)?,
            };
            let permit = self.0.budget.admit_with(call.mode, &call.method, call.path(), deadline).await?;
            let error = match self.attempt(call, &token, permit, deadline).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            match attempts.after(error, self.0.system.jitter()).await.map_err(last_word)? {
                Next::Refresh(error) => renewed = Some(self.renew(&token, deadline, error).await?),
                Next::Repeat => {}
            }
        }
    }

    async fn attempt(&self, call: &Call, token: &AccessToken, permit: Permit, deadline: Instant) -> Result<Response> {
        let request = call.build(&bearer(token)?);
        let started = Instant::now();
        let answer = permit.exchange(&self.0.http, request, deadline).await?;
        let status = answer.status.as_u16();
        // 304 answers a condition set by the caller.
        if answer.status.is_success() || status == 304 {
            return Ok(Response::new(answer, started));
        }
        Err(error_from(status, &answer.headers, &answer.body, &[token.secret().expose()]))
    }

    /// Gets another token after a 401. If the login is refused, the 401 is the error and the
    /// refusal its cause.
    async fn renew(&self, rejected: &AccessToken, deadline: Instant, error: Error) -> Result<AccessToken> {
        let outcome = self.in_time(deadline, self.0.tokens.refresh(rejected)).await.map_err(Error::of_login);
        outcome.map_err(|cause| match cause.kind() {
            ErrorKind::Auth => {
                let error = error.with_disposition(cause.disposition());
                if cause.is_login_refused() {
                    error.with_login_refused().with_source(cause)
                } else {
                    error.with_source(cause)
                }
            }
            _ => cause,
        })
    }

    /// Nothing of the call has been sent yet, so a missed deadline is unambiguous.
    async fn in_time<T>(&self, deadline: Instant, token: impl Future<Output = Result<T>>) -> Result<T> {
        let late = |_| Error::new(ErrorKind::Timeout, "no access token before the deadline; nothing was sent");
        timeout_at(deadline, guarded("the token provider", token)).await.map_err(late)?
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server", &self.0.server.as_str()).finish_non_exhaustive()
    }
}

/// A second 401, to a new token, is no reason to get another one immediately. It is transient: only
/// a refused login is permanent (found 6.4).
fn last_word(error: Error) -> Error {
    match error.disposition() {
        Disposition::Refresh => error.with_disposition(Disposition::Retry { after: None }),
        _ => error,
    }
}

/// Builds a [`Client`].
#[derive(Debug)]
#[must_use]
pub struct ClientBuilder {
    tokens: Arc<dyn TokenProvider>,
    server: Option<String>,
    deadline: Duration,
    backoff: BackoffPolicy,
    body_limit: usize,
    user_agent: Option<String>,
    system: Option<System>,
}

impl ClientBuilder {
    /// The server: `http(s)://host[:port]`. Default: the tokens' server
    /// ([`TokenProvider::server`]), else production, `https://platform.ringcentral.com`. `http`
    /// sends every token in plain text: for an emulator only.
    pub fn server(self, url: impl Into<String>) -> Self {
        Self { server: Some(url.into()), ..self }
    }

    /// The deadline of a call, including waits and retries. Default 30 s: long enough for two
    /// responses of a slow service, short enough to renew a 15-minute subscription several times.
    /// At most a day.
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline: deadline.min(LONGEST), ..self }
    }

    /// The delay before a retry. Default: [`BackoffPolicy::default`].
    pub fn backoff(self, backoff: BackoffPolicy) -> Self {
        Self { backoff, ..self }
    }

    /// The maximum size of a response, in bytes. Default 16 MiB: well beyond any JSON response;
    /// raise it for recordings.
    pub fn body_limit(self, bytes: usize) -> Self {
        Self { body_limit: bytes, ..self }
    }

    /// The `User-Agent`. Default: this crate's name and version.
    pub fn user_agent(self, user_agent: impl Into<String>) -> Self {
        Self { user_agent: Some(user_agent.into()), ..self }
    }

    /// HTTP client, clock and randomness. Default: those of the token provider
    /// ([`TokenProvider::system`]), else the system's.
    pub fn system(self, system: System) -> Self {
        Self { system: Some(system), ..self }
    }

    /// Builds the client. Nothing is sent.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an invalid server URL or user agent, or if TLS cannot be set up.
    pub fn build(self) -> Result<Client> {
        let server = match (&self.server, self.tokens.server()) {
            (Some(text), _) => server_url(text)?,
            (None, Some(url)) => server_url(url.as_str())?,
            (None, None) => server_url(PRODUCTION)?,
        };
        let user_agent = self.user_agent.as_deref().unwrap_or(USER_AGENT);
        let system = match self.system.or_else(|| self.tokens.system()) {
            Some(system) => system,
            None => System::checked()?,
        };
        Ok(Client(Arc::new(Inner {
            server,
            http: BoundedClient::new(system.http().clone(), user_agent, self.body_limit, Redirects::Follow)?,
            system,
            budget: self.tokens.rate_budget().unwrap_or_default(),
            tokens: self.tokens,
            backoff: self.backoff,
            deadline: self.deadline,
            registry: Arc::default(),
        })))
    }
}

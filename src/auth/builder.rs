//! The builder of an [`OAuth`].

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderValue;
use zeroize::Zeroizing;

use super::assertion::Assertion;
use super::grant::TokenOptions;
use super::oauth::{App, OAuth};
use super::session::PAUSE;
use super::store::{MemoryTokenStore, TokenStore};
use crate::error::{Error, Result};
use crate::http::{BoundedClient, PRODUCTION, Redirects, USER_AGENT, server_url};
use crate::secret::{self, Secret};
use crate::system::System;

const ANSWER_LIMIT: usize = 1024 * 1024;
/// Default deadline of a login, including retries.
const DEADLINE: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Builds an [`OAuth`]; from [`OAuth::jwt`] or [`OAuth::authorization_code`].
#[derive(Debug)]
#[must_use]
pub struct OAuthBuilder {
    client_id: String,
    client_secret: Option<Secret>,
    assertion: Option<Assertion>,
    jwt: Option<Secret>,
    server: Option<String>,
    store: Option<Arc<dyn TokenStore>>,
    options: TokenOptions,
    user_agent: Option<String>,
    system: Option<System>,
    pause: Duration,
    deadline: Duration,
}

impl OAuth {
    /// An app that logs in with a JWT from the developer console (grant
    /// `urn:ietf:params:oauth:grant-type:jwt-bearer`).
    pub fn jwt(client_id: impl Into<String>, jwt: impl Into<Secret>) -> OAuthBuilder {
        OAuthBuilder::new(client_id.into(), Some(jwt.into()))
    }

    /// An app whose users log in with their browser (grant
    /// `authorization_code`, always with PKCE): see [`authorize`](Self::authorize).
    pub fn authorization_code(client_id: impl Into<String>) -> OAuthBuilder {
        OAuthBuilder::new(client_id.into(), None)
    }
}

impl OAuthBuilder {
    fn new(client_id: String, jwt: Option<Secret>) -> Self {
        Self {
            client_id,
            client_secret: None,
            assertion: None,
            jwt,
            server: None,
            store: None,
            options: TokenOptions::default(),
            user_agent: None,
            system: None,
            pause: PAUSE,
            deadline: DEADLINE,
        }
    }

    /// The app's secret, sent as HTTP Basic. Default: none, for a public app, which sends its id in
    /// the form instead, or for one with a [`client_assertion`](Self::client_assertion).
    pub fn client_secret(self, secret: impl Into<Secret>) -> Self {
        Self { client_secret: Some(secret.into()), ..self }
    }

    /// A signed assertion instead of the app's secret (`client_assertion`, of the type
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`). Every request sends the same one;
    /// for short-lived assertions use [`client_assertion_with`](Self::client_assertion_with).
    pub fn client_assertion(self, assertion: impl Into<Secret>) -> Self {
        Self { assertion: Some(Assertion::Fixed(assertion.into())), ..self }
    }

    /// Creates a [`client_assertion`](Self::client_assertion) for each login, refresh or
    /// revocation. `make` runs within the [`deadline`](Self::deadline), and its error is the
    /// login's: transient errors of their kind are retried like the service's.
    ///
    /// ```
    /// # use ringcentral_events::{auth::OAuth, Result, Secret};
    /// # async fn sign(client_id: &str) -> Result<Secret> { Ok(Secret::new(client_id)) }
    /// # fn main() -> Result<()> {
    /// let oauth = OAuth::jwt("client id", "the user's JWT").client_assertion_with(|| sign("client id")).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn client_assertion_with<F, Fut>(self, make: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Secret>> + Send + 'static,
    {
        Self { assertion: Some(Assertion::fresh(make)), ..self }
    }

    /// The server to log in to: `http(s)://host[:port]`. Default: production,
    /// `https://platform.ringcentral.com`. `http` sends every credential in plain text: for an
    /// emulator only.
    pub fn server(self, url: impl Into<String>) -> Self {
        Self { server: Some(url.into()), ..self }
    }

    /// Where to store the session. Default: a [`MemoryTokenStore`], since a JWT can always log in
    /// again; users who logged in by browser need a [`FileTokenStore`](super::FileTokenStore) or
    /// their own store.
    pub fn store(self, store: impl TokenStore) -> Self {
        Self { store: Some(Arc::new(store)), ..self }
    }

    /// Requested lifetime of access tokens (`access_token_ttl`). Default: the service's, one or two
    /// hours. The service clamps it to 600 s to 3600 s.
    pub fn access_token_ttl(mut self, ttl: Duration) -> Self {
        self.options.access_token_ttl = Some(ttl);
        self
    }

    /// Requested lifetime of refresh tokens (`refresh_token_ttl`). Default: the service's, seven
    /// days. The service caps it (30 days in the newest specification).
    pub fn refresh_token_ttl(mut self, ttl: Duration) -> Self {
        self.options.refresh_token_ttl = Some(ttl);
        self
    }

    /// Requests only these permissions (`scope`), separated by spaces. Default: all permissions of
    /// the app.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.options.scope = Some(scope.into());
        self
    }

    /// Identifies this installation of the app (`endpoint_id`); use the same id each time. Default:
    /// none, and the service generates one.
    pub fn endpoint_id(mut self, id: impl Into<String>) -> Self {
        self.options.endpoint_id = Some(id.into());
        self
    }

    /// The `User-Agent`. Default: this crate's name and version.
    pub fn user_agent(self, user_agent: impl Into<String>) -> Self {
        Self { user_agent: Some(user_agent.into()), ..self }
    }

    /// HTTP client, clock and randomness. A [`Client`](crate::rest::Client) that uses these tokens
    /// inherits it. Default: the system's.
    pub fn system(self, system: System) -> Self {
        Self { system: Some(system), ..self }
    }

    /// Delay between retries while the service fails (408, 5xx, timeouts). Default: 10 s, by
    /// RingCentral's errors guide.
    pub fn repeat_pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Deadline of a login or refresh, including retries; a single request may take half of it.
    /// Default 30 s, as for any call; at most an hour.
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Builds the [`OAuth`]. Nothing is sent before the first token is needed.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for an invalid server URL, an empty client
    /// id, or both a secret and an assertion.
    pub fn build(self) -> Result<OAuth> {
        if self.client_id.is_empty() {
            return Err(Error::config("the client id is empty"));
        }
        if self.client_secret.is_some() && self.assertion.is_some() {
            return Err(Error::config("an app proves itself by its secret or by an assertion, not by both"));
        }
        if matches!(&self.assertion, Some(Assertion::Fixed(assertion)) if assertion.expose().is_empty()) {
            return Err(Error::config("the client assertion is empty"));
        }
        let server = server_url(self.server.as_deref().unwrap_or(PRODUCTION))?;
        let basic = match &self.client_secret {
            Some(secret) => Some(basic(&self.client_id, secret)?),
            None => None,
        };
        let user_agent = self.user_agent.as_deref().unwrap_or(USER_AGENT);
        let app = App {
            server,
            client_id: self.client_id,
            basic,
            client_secret: self.client_secret,
            assertion: self.assertion,
            jwt: self.jwt,
            options: self.options,
            pause: self.pause,
            deadline: self.deadline.min(LONGEST),
        };
        let store = self.store.unwrap_or_else(|| Arc::new(MemoryTokenStore::new()));
        let system = match self.system {
            Some(system) => system,
            None => System::checked()?,
        };
        let http = BoundedClient::new(system.http().clone(), user_agent, ANSWER_LIMIT, Redirects::Refuse)?;
        Ok(OAuth::new(app, http, system, store))
    }
}

fn basic(client_id: &str, client_secret: &Secret) -> Result<HeaderValue> {
    let pair = Zeroizing::new(format!("{client_id}:{}", client_secret.expose()));
    let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
    let value = secret::header(format!("Basic {}", *encoded));
    value.map_err(|_| Error::config("the client id or secret is not usable"))
}

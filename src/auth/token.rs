//! Access tokens, and where they come from.

use crate::error::{Error, Result};
use crate::http::RateBudget;
use crate::secret::{self, Secret};
use crate::system::System;
use async_trait::async_trait;
use http::header::HeaderValue;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use url::Url;

/// Supplies access tokens.
///
/// ```
/// use ringcentral_events::{auth::{AccessToken, TokenProvider}, Result};
///
/// #[derive(Debug)]
/// struct Vault;
///
/// #[async_trait::async_trait]
/// impl TokenProvider for Vault {
///     async fn token(&self) -> Result<AccessToken> {
///         Ok(AccessToken::new("from the vault"))
///     }
///     async fn refresh(&self, _rejected: &AccessToken) -> Result<AccessToken> {
///         self.token().await
///     }
/// }
/// ```
#[async_trait]
pub trait TokenProvider: Send + Sync + fmt::Debug + 'static {
    /// The current token. Called before each request, so it should answer from memory while the
    /// token is valid.
    ///
    /// # Errors
    /// [`Auth`](crate::ErrorKind::Auth) with [`Disposition::Fatal`](crate::Disposition) if the
    /// login itself is refused and a person must log in again: that ends subscriptions. Transient
    /// errors have their own kind, with a matching disposition.
    async fn token(&self) -> Result<AccessToken>;

    /// A replacement for `rejected`, which the service answered with 401.
    ///
    /// Single flight: if `rejected` has already been replaced, this returns the current token
    /// without a request.
    ///
    /// # Errors
    /// As for [`token`](Self::token).
    async fn refresh(&self, rejected: &AccessToken) -> Result<AccessToken>;

    /// The server that issued these tokens, if known. It is the default of a
    /// [`Client`](crate::rest::Client); an agent session (feature `agent`) reads it before each
    /// request, and there it may have a path.
    fn server(&self) -> Option<Url> {
        None
    }

    /// As [`server`](Self::server), for a caller that cannot continue without it: may ask
    /// the service. An agent session that was given no
    #[cfg_attr(feature = "agent", doc = "[`base_url`](crate::agent::AgentSessionBuilder::base_url)")]
    #[cfg_attr(not(feature = "agent"), doc = "`base_url`")]
    /// calls it after [`token`](Self::token).
    ///
    /// # Errors
    /// Why it is unknown; transient errors have their own kind and disposition.
    async fn locate_server(&self) -> Result<Option<Url>> {
        Ok(self.server())
    }

    /// The budget of the provider's own calls, if it makes any. A [`Client`](crate::rest::Client)
    /// shares it.
    fn rate_budget(&self) -> Option<RateBudget> {
        None
    }

    /// The provider's HTTP client, clock and randomness, if set. A [`Client`](crate::rest::Client)
    /// and an agent session (feature `agent`) use it as their default.
    fn system(&self) -> Option<System> {
        None
    }
}

#[async_trait]
impl<P: TokenProvider + ?Sized> TokenProvider for Arc<P> {
    async fn token(&self) -> Result<AccessToken> {
        (**self).token().await
    }

    async fn refresh(&self, rejected: &AccessToken) -> Result<AccessToken> {
        (**self).refresh(rejected).await
    }

    fn server(&self) -> Option<Url> {
        (**self).server()
    }

    async fn locate_server(&self) -> Result<Option<Url>> {
        (**self).locate_server().await
    }

    fn rate_budget(&self) -> Option<RateBudget> {
        (**self).rate_budget()
    }

    fn system(&self) -> Option<System> {
        (**self).system()
    }
}

/// An access token and its properties.
#[derive(Clone, Debug)]
pub struct AccessToken {
    secret: Secret,
    pub(super) expires_at: Option<Instant>,
    pub(super) owner_id: Option<String>,
    scopes: Arc<[Box<str>]>,
}

impl AccessToken {
    /// A token with unknown properties.
    pub fn new(secret: impl Into<Secret>) -> Self {
        Self { secret: secret.into(), expires_at: None, owner_id: None, scopes: Arc::default() }
    }

    /// Sets its remaining lifetime (`expires_in`).
    #[must_use]
    pub fn with_expires_in(self, life: Duration) -> Self {
        let now = Instant::now();
        Self { expires_at: now.checked_add(life), ..self }
    }

    /// Sets its owner (`owner_id`): the extension, and the PubNub user id.
    #[must_use]
    pub fn with_owner_id(self, owner_id: impl Into<String>) -> Self {
        Self { owner_id: Some(owner_id.into()), ..self }
    }

    /// Sets its permissions (`scope`), separated by spaces.
    #[must_use]
    pub fn with_scope(self, scope: &str) -> Self {
        Self { scopes: scope.split_whitespace().map(Box::from).collect(), ..self }
    }

    /// The token's text.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Its remaining lifetime, if known; zero after expiry.
    #[must_use]
    pub fn expires_in(&self) -> Option<Duration> {
        self.expires_at.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Its owner: the extension's id.
    #[must_use]
    pub fn owner_id(&self) -> Option<&str> {
        self.owner_id.as_deref()
    }

    /// Its permissions.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().map(AsRef::as_ref)
    }

    /// Whether `other` is the same token.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.secret == other.secret
    }
}

/// The header that carries a token.
pub(crate) fn bearer(token: &AccessToken) -> Result<HeaderValue> {
    let value = secret::header(format!("Bearer {}", token.secret().expose()));
    value.map_err(|_| Error::config("the access token cannot be sent in a header"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_shows_its_lifetime_but_never_its_text() {
        let token = AccessToken::new("t0ps3cret")
            .with_expires_in(Duration::from_secs(60))
            .with_owner_id("7")
            .with_scope(" ReadMessages  SMS ");
        assert!(!format!("{token:?} {token:#?}").contains("t0ps3cret"));
        assert_eq!((token.owner_id(), token.scopes().collect::<Vec<_>>()), (Some("7"), vec!["ReadMessages", "SMS"]));
        assert_eq!(token.expires_in(), Some(Duration::from_secs(60)));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(token.expires_in(), Some(Duration::ZERO));
        assert_eq!(AccessToken::new("x").with_expires_in(Duration::MAX).expires_in(), None);
    }
}

//! Who the client is: access tokens and where they come from.
//!
//! A [`TokenProvider`] hands out the token for each call. [`OAuth`] is the one
//! that logs in and keeps the session alive; [`StaticToken`] and [`TokenFn`]
//! serve tokens that somebody else looks after.

mod assertion;
mod bring;
mod builder;
mod code;
mod flight;
mod grant;
mod oauth;
mod session;
mod store;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use url::Url;

pub use bring::{StaticToken, TokenFn};
pub use builder::OAuthBuilder;
pub use code::AuthorizationRequest;
pub use oauth::OAuth;
pub use store::{FileTokenStore, MemoryTokenStore, StoreLock, StoredTokens, TokenStore};

use crate::error::Result;
use crate::rest::RateBudget;
use crate::secret::Secret;
use crate::system::System;

/// Hands out access tokens.
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
    /// The token to use now. Called before each request, so it should answer
    /// from memory as long as the token is good.
    ///
    /// # Errors
    /// [`Auth`](crate::ErrorKind::Auth) with [`Disposition::Fatal`](crate::Disposition) when
    /// the login itself is refused and a person must log in again: that ends subscriptions.
    /// Passing trouble by its own kind, with a disposition that says so.
    async fn token(&self) -> Result<AccessToken>;

    /// Another token instead of `rejected`, which the service answered with 401.
    ///
    /// Single flight: when `rejected` has been replaced already, the current
    /// token is the answer and nothing is requested.
    ///
    /// # Errors
    /// As for [`token`](Self::token).
    async fn refresh(&self, rejected: &AccessToken) -> Result<AccessToken>;

    /// The server these tokens are for, if the provider knows it. A
    /// [`Client`](crate::rest::Client) takes it as its default; an agent session (feature
    /// `agent`) asks before each request, and there it may have a path.
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
    /// Why it is not known; passing trouble by its own kind and disposition.
    async fn locate_server(&self) -> Result<Option<Url>> {
        Ok(self.server())
    }

    /// The budget that the provider's own calls draw from, if it makes any. A
    /// [`Client`](crate::rest::Client) shares it.
    fn rate_budget(&self) -> Option<RateBudget> {
        None
    }

    /// Where the provider itself gets HTTP, the time of day and randomness from, if it
    /// was given that. A [`Client`](crate::rest::Client) and an agent session (feature
    /// `agent`) take it as their default.
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

/// An access token and what the service said about it.
#[derive(Clone, Debug)]
pub struct AccessToken {
    secret: Secret,
    expires_at: Option<Instant>,
    owner_id: Option<String>,
    scopes: Arc<[Box<str>]>,
}

impl AccessToken {
    /// A token of which only its text is known.
    pub fn new(secret: impl Into<Secret>) -> Self {
        Self { secret: secret.into(), expires_at: None, owner_id: None, scopes: Arc::default() }
    }

    /// Says how long it is still good (`expires_in`).
    #[must_use]
    pub fn with_expires_in(self, life: Duration) -> Self {
        let now = Instant::now();
        Self { expires_at: now.checked_add(life), ..self }
    }

    /// Says whose it is (`owner_id`): the extension, and the PubNub user id.
    #[must_use]
    pub fn with_owner_id(self, owner_id: impl Into<String>) -> Self {
        Self { owner_id: Some(owner_id.into()), ..self }
    }

    /// Says what it may do (`scope`), separated by spaces.
    #[must_use]
    pub fn with_scope(self, scope: &str) -> Self {
        Self { scopes: scope.split_whitespace().map(Box::from).collect(), ..self }
    }

    /// The token's text.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// How long it is still good, if that is known; zero once it is over.
    #[must_use]
    pub fn expires_in(&self) -> Option<Duration> {
        self.expires_at.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Whose it is: the extension's id.
    #[must_use]
    pub fn owner_id(&self) -> Option<&str> {
        self.owner_id.as_deref()
    }

    /// What it may do.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().map(AsRef::as_ref)
    }

    /// Whether `other` is the same token.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.secret == other.secret
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_says_how_long_it_is_good_and_never_what_it_is() {
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

//! Caches a service's tokens, with one request at a time.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use url::Url;

use super::exchange::{Exchange, Granted};
use crate::auth::AccessToken;
use crate::error::{Disposition, ErrorKind, Result};
use crate::secret::Secret;
use crate::system::System;

/// One way to get a token.
#[async_trait]
pub(super) trait Route: fmt::Debug + Send + Sync + 'static {
    async fn login(&self, http: &Exchange) -> Result<Granted>;
    /// Values that the answer omits stay unchanged.
    async fn renew(&self, http: &Exchange, refresh: &Secret, former: &Granted) -> Result<Granted>;
    /// The URL of sessions, if no answer with a token named it. A token is granted whether or not this succeeds.
    async fn locate(&self, http: &Exchange, granted: &Granted) -> Result<Option<Url>> {
        let _ = http;
        Ok(granted.server.clone())
    }
}

/// Caches a route's tokens.
pub(super) struct Keeper<R> {
    pub(super) route: R,
    http: Exchange,
    pub(super) system: System,
    // Held during a call: that makes it single flight. A caller that is dropped releases the lock, and the next one
    // logs in again.
    current: tokio::sync::Mutex<Option<Granted>>,
    server: Mutex<Option<Url>>,
}

impl<R: Route> Keeper<R> {
    pub(super) fn new(route: R, http1_only: bool, system: Option<System>) -> Result<Self> {
        let system = match system {
            Some(system) => system,
            None => System::checked()?,
        };
        let http = Exchange::new(&system, http1_only)?;
        Ok(Self { route, http, system, current: tokio::sync::Mutex::new(None), server: Mutex::new(None) })
    }

    pub(super) async fn token(&self) -> Result<AccessToken> {
        let mut current = self.current.lock().await;
        if let Some(granted) = current.as_ref().filter(|granted| granted.is_good()) {
            return Ok(granted.access.clone());
        }
        match self.another(current.as_ref()).await {
            Ok(granted) => Ok(self.keep(&mut current, granted).await),
            // Its remaining life is short, but it is still valid: the cause may pass before it expires.
            Err(error) if matches!(error.disposition(), Disposition::Retry { .. }) => match current.as_ref() {
                Some(granted) if !granted.is_over() => Ok(granted.access.clone()),
                Some(_) | None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    pub(super) async fn refresh(&self, rejected: &AccessToken) -> Result<AccessToken> {
        let mut current = self.current.lock().await;
        if let Some(granted) = current.as_ref().filter(|granted| !granted.access.is_same(rejected)) {
            return Ok(granted.access.clone());
        }
        let granted = self.another(current.as_ref()).await?;
        Ok(self.keep(&mut current, granted).await)
    }

    pub(super) fn server(&self) -> Option<Url> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Like [`server`](Self::server); if the URL is unknown, asks the service, and the error says why that failed.
    pub(super) async fn located(&self) -> Result<Option<Url>> {
        let current = self.current.lock().await;
        match (self.server(), current.as_ref()) {
            (Some(url), _) => Ok(Some(url)),
            (None, Some(granted)) => self.locate(granted).await,
            (None, None) => Ok(None),
        }
    }

    async fn keep(&self, current: &mut Option<Granted>, granted: Granted) -> AccessToken {
        // Stored first: a dropped call must not lose a rotated token.
        let granted = current.insert(granted);
        // A session with a base URL needs no discovery, so its failure does not fail the token (found 7).
        if let Err(error) = self.locate(granted).await {
            tracing::debug!(%error, "the URL of sessions is not known yet");
        }
        granted.access.clone()
    }

    async fn locate(&self, granted: &Granted) -> Result<Option<Url>> {
        let found = self.route.locate(&self.http, granted).await?;
        if let Some(url) = &found {
            *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(url.clone());
        }
        Ok(found)
    }

    async fn another(&self, former: Option<&Granted>) -> Result<Granted> {
        if let Some((former, refresh)) = former.and_then(|former| Some((former, former.refresh.as_ref()?))) {
            match self.route.renew(&self.http, refresh, former).await {
                Ok(granted) => return Ok(granted),
                Err(error)
                    if matches!(error.disposition(), Disposition::Retry { .. }) && error.kind() != ErrorKind::Auth =>
                {
                    return Err(error);
                }
                // The renewal token is used up, but the credentials are still valid.
                Err(error) => tracing::debug!(%error, "refresh failed; logging in again"),
            }
        }
        self.route.login(&self.http).await
    }
}

impl<R: fmt::Debug> fmt::Debug for Keeper<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("route", &self.route).finish_non_exhaustive()
    }
}

/// Implements the trait for a type around a [`Keeper`].
macro_rules! provide {
    ($name:ident) => {
        #[::async_trait::async_trait]
        impl $crate::auth::TokenProvider for $name {
            async fn token(&self) -> $crate::error::Result<$crate::auth::AccessToken> {
                self.0.token().await
            }

            async fn refresh(
                &self,
                rejected: &$crate::auth::AccessToken,
            ) -> $crate::error::Result<$crate::auth::AccessToken> {
                self.0.refresh(rejected).await
            }

            /// The URL of sessions, once a token is granted.
            fn server(&self) -> Option<::url::Url> {
                self.0.server()
            }

            async fn locate_server(&self) -> $crate::error::Result<Option<::url::Url>> {
                self.0.located().await
            }

            fn system(&self) -> Option<$crate::system::System> {
                Some(self.0.system.clone())
            }
        }
    };
}
pub(super) use provide;

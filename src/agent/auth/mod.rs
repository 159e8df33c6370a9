//! The service's token providers.
//!
//! | Type | For | Credentials |
//! | --- | --- | --- |
//! | [`CentralTokens`] | the legacy Central token service | an app's name, a user's password |
//! | [`AccessKeys`] | UserHub | an access key |
//! | [`CxOneTokens`] | CXone's global authentication | an access key and a client's id and secret |
//!
//! Each is a [`TokenProvider`](crate::auth::TokenProvider): it logs in at the first call, renews before the token
//! ends, and says where sessions are served. Any other provider does as well, with
//! [`base_url`](super::AgentSessionBuilder::base_url).

mod central;
mod cxone;
mod exchange;
mod user_hub;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use url::Url;

pub use central::{CentralTokens, CentralTokensBuilder};
pub use cxone::{CxOneTokens, CxOneTokensBuilder};
pub use user_hub::{AccessKeys, AccessKeysBuilder};

use crate::auth::AccessToken;
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::secret::Secret;
use crate::system::System;
use exchange::Exchange;

/// A token with less time left counts as expired, as in the vendor's own program; for a token with a shorter life, a
/// quarter of its life.
const EARLY: Duration = Duration::from_secs(120);

/// The result of a login or a renewal.
#[derive(Clone, Debug)]
struct Granted {
    access: AccessToken,
    life: Option<Duration>,
    refresh: Option<Secret>,
    /// The URL of renewals.
    refresh_at: Option<Url>,
    /// The URL of sessions, if the answer named it.
    server: Option<Url>,
    /// The tenant, if a token named it.
    tenant: Option<String>,
}

/// One way to get a token.
#[async_trait]
trait Route: fmt::Debug + Send + Sync + 'static {
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
struct Keeper<R> {
    route: R,
    http: Exchange,
    system: System,
    // Held during a call: that makes it single flight. A caller that is dropped releases the lock, and the next one
    // logs in again.
    current: tokio::sync::Mutex<Option<Granted>>,
    server: Mutex<Option<Url>>,
}

impl<R: Route> Keeper<R> {
    fn new(route: R, http1_only: bool, system: Option<System>) -> Result<Self> {
        let system = match system {
            Some(system) => system,
            None => System::checked()?,
        };
        let http = Exchange::new(&system, http1_only)?;
        Ok(Self { route, http, system, current: tokio::sync::Mutex::new(None), server: Mutex::new(None) })
    }

    async fn token(&self) -> Result<AccessToken> {
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

    async fn refresh(&self, rejected: &AccessToken) -> Result<AccessToken> {
        let mut current = self.current.lock().await;
        if let Some(granted) = current.as_ref().filter(|granted| !granted.access.is_same(rejected)) {
            return Ok(granted.access.clone());
        }
        let granted = self.another(current.as_ref()).await?;
        Ok(self.keep(&mut current, granted).await)
    }

    fn server(&self) -> Option<Url> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Like [`server`](Self::server); if the URL is unknown, asks the service, and the error says why that failed.
    async fn located(&self) -> Result<Option<Url>> {
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

impl Granted {
    fn new(access: Secret, life: Option<Duration>) -> Self {
        let token = AccessToken::new(access);
        let access = match life {
            Some(life) => token.with_expires_in(life),
            None => token,
        };
        Self { access, life, refresh: None, refresh_at: None, server: None, tenant: None }
    }

    /// Fills the values that a renewal omitted from `former`.
    fn with_rest_of(mut self, former: &Self) -> Self {
        self.refresh = self.refresh.or_else(|| former.refresh.clone());
        self.refresh_at = self.refresh_at.or_else(|| former.refresh_at.clone());
        self.server = self.server.or_else(|| former.server.clone());
        self.tenant = self.tenant.or_else(|| former.tenant.clone());
        self
    }

    fn is_good(&self) -> bool {
        let early = EARLY.min(self.life.unwrap_or(Duration::MAX) / 4);
        self.access.expires_in().is_none_or(|left| left > early)
    }

    fn is_over(&self) -> bool {
        self.access.expires_in().is_some_and(|left| left.is_zero())
    }
}

impl<R: fmt::Debug> fmt::Debug for Keeper<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("route", &self.route).finish_non_exhaustive()
    }
}

/// The trait for a type around a [`Keeper`].
macro_rules! provide {
    ($($name:ident)+) => {$(
        #[async_trait]
        impl crate::auth::TokenProvider for $name {
            async fn token(&self) -> Result<AccessToken> {
                self.0.token().await
            }

            async fn refresh(&self, rejected: &AccessToken) -> Result<AccessToken> {
                self.0.refresh(rejected).await
            }

            /// The URL of sessions, once a token is granted.
            fn server(&self) -> Option<Url> {
                self.0.server()
            }

            async fn locate_server(&self) -> Result<Option<Url>> {
                self.0.located().await
            }

            fn system(&self) -> Option<System> {
                Some(self.0.system.clone())
            }
        }
    )+};
}
provide!(CentralTokens AccessKeys CxOneTokens);

/// A service's URL as people copy it: the path of one of its documents or calls is removed. A path that still looks
/// like one is refused: no call below it would be found.
fn service_url(text: &str, documents: &[&str]) -> Result<Url> {
    let mut url = super::builder::api_url(text)?;
    let mut parts: Vec<String> = url.path().split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    for document in documents {
        let end: Vec<&str> = document.split('/').collect();
        let ends = parts
            .len()
            .checked_sub(end.len())
            .is_some_and(|at| parts.iter().skip(at).zip(&end).all(|(part, end)| part.eq_ignore_ascii_case(end)));
        if ends {
            parts.truncate(parts.len() - end.len());
            break;
        }
    }
    let firsts = |part: &String| documents.iter().any(|it| it.split('/').any(|it| it.eq_ignore_ascii_case(part)));
    if parts.iter().any(firsts) {
        return Err(Error::config("the service's URL names one of its calls; give it without their path"));
    }
    url.set_path(&parts.join("/"));
    Ok(url)
}

/// Reads a URL that the service named. It must not drop TLS, since the token is sent there.
fn named(text: &str, by: &Url) -> Result<Url> {
    let url = super::builder::api_url(text).map_err(|error| {
        Error::new(crate::ErrorKind::Protocol, "the service returned an invalid URL")
            .with_disposition(Disposition::Fatal)
            .with_source(error)
    })?;
    if by.scheme() == "https" && url.scheme() != "https" {
        return Err(Error::new(crate::ErrorKind::Protocol, "the service named an address without TLS")
            .with_disposition(Disposition::Fatal));
    }
    Ok(url)
}

/// The service's documents that name the URLs of its parts.
const WELL_KNOWN: [&str; 2] = [".well-known/openid-configuration", ".well-known/cxone-configuration"];

fn deadline(within: Duration) -> Instant {
    Instant::now() + within
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_url_is_accepted_with_the_path_of_its_documents_and_never_doubled() {
        let documents = ["auth/token", WELL_KNOWN[0], WELL_KNOWN[1]];
        for (text, want) in [
            ("https://cxone.example", "https://cxone.example/"),
            ("https://cxone.example/", "https://cxone.example/"),
            ("https://cxone.example/auth/token", "https://cxone.example/"),
            ("https://cxone.example/Auth/Token/", "https://cxone.example/"),
            ("https://cxone.example/.well-known/openid-configuration", "https://cxone.example/"),
            (" https://cxone.example//.well-known/cxone-configuration/ ", "https://cxone.example/"),
            ("https://h:8443/tenants/auth/token", "https://h:8443/tenants"),
        ] {
            assert_eq!(service_url(text, &documents).unwrap().as_str(), want, "{text}");
        }
        for bad in [
            "https://h/auth/token/x",
            "https://h/auth/token/auth/token",
            "https://h/token",
            "https://h/.well-known/jwks",
            "https://h/.well-known/cxone-configuration?tenantId=t",
            "",
        ] {
            assert_eq!(service_url(bad, &documents).unwrap_err().kind(), crate::ErrorKind::Config, "{bad}");
        }
    }
}

//! The service's ways to a token.
//!
//! | Type | For | What it takes |
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

/// Below this a token counts as ended, as with the vendor's own program; of a token that
/// lives for less, a quarter of its life.
const EARLY: Duration = Duration::from_secs(120);

/// What a login or a renewal brings.
#[derive(Clone, Debug)]
struct Granted {
    access: AccessToken,
    life: Option<Duration>,
    refresh: Option<Secret>,
    /// Where it is renewed.
    refresh_at: Option<Url>,
    /// Where sessions are served, if the answer said so.
    server: Option<Url>,
    /// Whose sessions, if a token named its tenant.
    tenant: Option<String>,
}

/// One way to a token.
#[async_trait]
trait Route: fmt::Debug + Send + Sync + 'static {
    async fn login(&self, http: &Exchange) -> Result<Granted>;
    /// What is left out of the answer stays as it was.
    async fn renew(&self, http: &Exchange, refresh: &Secret, former: &Granted) -> Result<Granted>;
    /// Where sessions are served, where no answer with a token said so. A token is granted
    /// whether or not this succeeds.
    async fn locate(&self, http: &Exchange, granted: &Granted) -> Result<Option<Url>> {
        let _ = http;
        Ok(granted.server.clone())
    }
}

/// Keeps what a route brings.
struct Keeper<R> {
    route: R,
    http: Exchange,
    system: System,
    // Held over a call: that is the single flight. A caller that goes away lets go of it,
    // and the next one logs in again.
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
            // Not for long, but it is still good: the trouble may pass before it ends.
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

    /// As [`server`](Self::server); where it is not known, the service is asked, and the
    /// error says why not.
    async fn located(&self) -> Result<Option<Url>> {
        let current = self.current.lock().await;
        match (self.server(), current.as_ref()) {
            (Some(url), _) => Ok(Some(url)),
            (None, Some(granted)) => self.locate(granted).await,
            (None, None) => Ok(None),
        }
    }

    async fn keep(&self, current: &mut Option<Granted>, granted: Granted) -> AccessToken {
        // Kept first: whoever drops this call must not lose a token that was rotated.
        let granted = current.insert(granted);
        // Who was given a base URL needs no discovery, so that its failure takes no token
        // away (found 7).
        if let Err(error) = self.locate(granted).await {
            tracing::debug!(%error, "where sessions are served is not known yet");
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
                // The renewal token is used up: the credentials are still there.
                Err(error) => tracing::debug!(%error, "no renewal: another login"),
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

    /// What a renewal left out is as it was.
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

            /// Where sessions are served, once a token is there.
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

/// A service's URL as people copy it: with the path of one of its documents or calls,
/// which is left out. A path that still looks like one is refused: below it nothing would
/// be found.
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

/// Reads a URL that the service named. It must not lead away from TLS: the token goes
/// there.
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

/// Documents of a service that say where its parts are.
const WELL_KNOWN: [&str; 2] = [".well-known/openid-configuration", ".well-known/cxone-configuration"];

fn deadline(within: Duration) -> Instant {
    Instant::now() + within
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_url_is_taken_with_the_path_of_its_documents_and_never_doubled() {
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

//! The legacy Central token service (developer portal: "API Authentication Token").

use async_trait::async_trait;
use http::Method;
use url::Url;

use super::exchange::{Asking, Body, Exchange, Granted, Object};
use super::keeper::{Keeper, Route, provide};
use super::urls::named;
use crate::agent::builder::api_url;
use crate::error::Result;
use crate::secret::Secret;
use crate::system::System;

const TOKEN_URL: &str = "https://api.incontact.com/InContactAuthorizationServer/Token";

/// Tokens of the legacy Central token service, for a user's password.
///
/// The answer names the URL of sessions (`resource_server_base_uri`) and that of renewals; a renewal may move both.
#[derive(Debug)]
pub struct CentralTokens(pub(super) Keeper<Central>);

/// Sets up [`CentralTokens`].
#[derive(Clone, Debug)]
#[must_use]
pub struct CentralTokensBuilder {
    app: Secret,
    username: String,
    password: Secret,
    scope: String,
    url: String,
    http1_only: bool,
    system: Option<System>,
}

provide!(CentralTokens);

impl CentralTokens {
    /// `app` is `AppName@VendorName:BusinessUnitNumber`, as registered.
    pub fn builder(
        app: impl Into<Secret>,
        username: impl Into<String>,
        password: impl Into<Secret>,
    ) -> CentralTokensBuilder {
        CentralTokensBuilder {
            app: app.into(),
            username: username.into(),
            password: password.into(),
            scope: String::new(),
            url: TOKEN_URL.into(),
            http1_only: false,
            system: None,
        }
    }
}

impl CentralTokensBuilder {
    /// The scope (`AgentApi`, …), separated by spaces. Default: all scopes of the app.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = scope.into();
        self
    }

    /// The token service. Default
    /// `https://api.incontact.com/InContactAuthorizationServer/Token`, whose path is added
    /// to a URL without one.
    pub fn token_url(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }

    /// Whether to use HTTP/1.1 only. Default no: a token service that breaks HTTP/2 streams is asked over HTTP/1.1 from
    /// then on anyway.
    pub fn http1_only(mut self, only: bool) -> Self {
        self.http1_only = only;
        self
    }

    /// The source of HTTP; an agent session with these tokens inherits it. Default: the machine's own.
    pub fn system(mut self, system: System) -> Self {
        self.system = Some(system);
        self
    }

    /// Makes the provider. Sends nothing yet.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) for an invalid URL.
    pub fn build(self) -> Result<CentralTokens> {
        let url = token_url(api_url(&self.url)?);
        let Self { app, username, password, scope, http1_only, system, .. } = self;
        Keeper::new(Central { app, username, password, scope, url }, http1_only, system).map(CentralTokens)
    }
}

/// The token's URL, from that of the host or of the authorization server.
fn token_url(mut url: Url) -> Url {
    let path = url.path().trim_matches('/').to_owned();
    if path.is_empty() {
        url.set_path("InContactAuthorizationServer/Token");
    } else if path.rsplit('/').next().is_some_and(|it| it.eq_ignore_ascii_case("InContactAuthorizationServer")) {
        url.set_path(&format!("{path}/Token"));
    }
    url
}

#[derive(Debug)]
pub(super) struct Central {
    app: Secret,
    username: String,
    password: Secret,
    scope: String,
    url: Url,
}

impl Central {
    fn read(&self, object: &Object, by: &Url) -> Result<Granted> {
        let mut granted = object.granted(&["access_token"], &["refresh_token"], &["expires_in"])?;
        let url = |key| object.text(&[key]).map(|text| named(&text, by)).transpose();
        granted.refresh_at = url("refresh_token_server_uri")?;
        granted.server = url("resource_server_base_uri")?;
        Ok(granted)
    }
}

#[async_trait]
impl Route for Central {
    async fn login(&self, http: &Exchange) -> Result<Granted> {
        let form = vec![
            ("grant_type", "password".to_owned()),
            ("username", self.username.clone()),
            ("password", self.password.expose().to_owned()),
            ("scope", self.scope.clone()),
        ];
        let secrets = [&self.app, &self.password];
        let object =
            http.send(Asking::Token, Method::POST, &self.url, Some(&self.app), Body::Form(form), &secrets).await?;
        self.read(&object, &self.url)
    }

    async fn renew(&self, http: &Exchange, refresh: &Secret, former: &Granted) -> Result<Granted> {
        let url = former.refresh_at.as_ref().unwrap_or(&self.url);
        let form = vec![("grant_type", "refresh_token".to_owned()), ("refresh_token", refresh.expose().to_owned())];
        let secrets = [&self.app, refresh];
        let object = http.send(Asking::Token, Method::POST, url, Some(&self.app), Body::Form(form), &secrets).await?;
        let granted = self.read(&object, url)?;
        Ok(granted.with_rest_of(former))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_token_path_is_added_and_never_doubled() {
        for (text, want) in [
            ("https://h", "https://h/InContactAuthorizationServer/Token"),
            ("https://h/InContactAuthorizationServer/", "https://h/InContactAuthorizationServer/Token"),
            ("https://h/incontactauthorizationserver", "https://h/incontactauthorizationserver/Token"),
            ("https://h/InContactAuthorizationServer/Token", "https://h/InContactAuthorizationServer/Token"),
            ("https://h/elsewhere", "https://h/elsewhere"),
        ] {
            assert_eq!(token_url(api_url(text).unwrap()).as_str(), want, "{text}");
        }
    }
}

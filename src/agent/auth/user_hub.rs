//! UserHub: access keys.

use async_trait::async_trait;
use http::Method;
use serde_json::json;
use url::Url;

use super::exchange::{Body, Exchange};
use super::{Granted, Keeper, Route, named};
use crate::agent::builder::api_url;
use crate::error::{Error, Result};
use crate::secret::Secret;

/// Tokens of UserHub, for an access key.
#[derive(Debug)]
pub struct AccessKeys(pub(super) Keeper<UserHub>);

/// Sets up [`AccessKeys`].
#[derive(Clone, Debug)]
#[must_use]
pub struct AccessKeysBuilder {
    id: Secret,
    secret: Secret,
    url: String,
}

impl AccessKeys {
    /// `region` is that of the tenant, such as `na1`.
    pub fn builder(region: &str, id: impl Into<Secret>, secret: impl Into<Secret>) -> AccessKeysBuilder {
        AccessKeysBuilder { id: id.into(), secret: secret.into(), url: format!("https://{region}.nice-incontact.com") }
    }
}

impl AccessKeysBuilder {
    /// The service. Default `https://{region}.nice-incontact.com`.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }

    /// The provider. Sends nothing yet.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) for a region or URL that makes none.
    pub fn build(self) -> Result<AccessKeys> {
        let url = api_url(&self.url)?;
        Keeper::new(UserHub { id: self.id, secret: self.secret, url }).map(AccessKeys)
    }
}

#[derive(Debug)]
pub(super) struct UserHub {
    id: Secret,
    secret: Secret,
    url: Url,
}

impl UserHub {
    fn at(&self, path: &str) -> Result<Url> {
        at(&self.url, path)
    }
}

/// A path below a base.
pub(super) fn at(base: &Url, path: &str) -> Result<Url> {
    let text = format!("{}/{path}", base.as_str().trim_end_matches('/'));
    Url::parse(&text).map_err(|error| Error::config("the service's URL is none").with_source(error))
}

#[async_trait]
impl Route for UserHub {
    async fn login(&self, http: &Exchange) -> Result<Granted> {
        let body = json!({ "accessKeyId": self.id.expose(), "accessKeySecret": self.secret.expose() });
        let url = self.at("authentication/v1/token/access-key")?;
        let secrets = [&self.id, &self.secret];
        let object = http.send(Method::POST, &url, None, Body::Json(body), &secrets).await?;
        let mut granted = object.granted(&["access_token"], &["refresh_token"], &["expires_in"])?;
        let url = self.at(".well-known/cxone-configuration")?;
        let configuration = http.send(Method::GET, &url, None, Body::None, &[]).await?;
        granted.server = configuration.text(&["api_endpoint"]).map(|text| named(&text, &self.url)).transpose()?;
        Ok(granted)
    }

    /// The same things under other names than in a login's answer.
    async fn renew(&self, http: &Exchange, refresh: &Secret, former: &Granted) -> Result<Granted> {
        let body = json!({ "token": refresh.expose() });
        let url = self.at("public/user/refresh")?;
        let object = http.send(Method::POST, &url, None, Body::Json(body), &[refresh]).await?;
        let granted = object.granted(
            &["token", "access_token"],
            &["refreshToken", "refresh_token"],
            &["tokenExpirationTimeSec", "expires_in"],
        )?;
        Ok(granted.with_rest_of(former))
    }
}

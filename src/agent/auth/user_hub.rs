//! UserHub: access keys.

use async_trait::async_trait;
use http::Method;
use serde_json::json;
use url::Url;

use super::exchange::{Asking, Body, Exchange, Granted};
use super::keeper::{Keeper, Route, provide};
use super::urls::{WELL_KNOWN, at, named, service_url};
use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::system::System;

const LOGIN: &str = "authentication/v1/token/access-key";
const RENEWAL: &str = "public/user/refresh";

/// Tokens of UserHub, for an access key.
#[derive(Debug)]
pub struct AccessKeys(pub(super) Keeper<UserHub>);

/// Sets up [`AccessKeys`].
#[derive(Clone, Debug)]
#[must_use]
pub struct AccessKeysBuilder {
    id: Secret,
    secret: Secret,
    region: String,
    url: Option<String>,
    http1_only: bool,
    system: Option<System>,
}

provide!(AccessKeys);

impl AccessKeys {
    /// `region` is the tenant's, such as `na1`.
    pub fn builder(region: &str, id: impl Into<Secret>, secret: impl Into<Secret>) -> AccessKeysBuilder {
        let (id, secret, region) = (id.into(), secret.into(), region.trim().to_owned());
        AccessKeysBuilder { id, secret, region, url: None, http1_only: false, system: None }
    }
}

impl AccessKeysBuilder {
    /// The service. Default `https://{region}.nice-incontact.com`. The path of a call behind it is removed.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
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
    /// [`Config`](crate::ErrorKind::Config) for an invalid region or URL.
    pub fn build(self) -> Result<AccessKeys> {
        let url = match self.url {
            Some(url) => service_url(&url, &[LOGIN, RENEWAL, WELL_KNOWN[0], WELL_KNOWN[1]])?,
            // Anything else would name another host, which would receive the keys.
            None if !self.region.is_empty()
                && self.region.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-') =>
            {
                service_url(&format!("https://{}.nice-incontact.com", self.region), &[])?
            }
            None => return Err(Error::config("invalid region; a valid one looks like na1")),
        };
        Keeper::new(UserHub { id: self.id, secret: self.secret, url }, self.http1_only, self.system).map(AccessKeys)
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

#[async_trait]
impl Route for UserHub {
    async fn login(&self, http: &Exchange) -> Result<Granted> {
        let body = json!({ "accessKeyId": self.id.expose(), "accessKeySecret": self.secret.expose() });
        let url = self.at(LOGIN)?;
        let secrets = [&self.id, &self.secret];
        let object = http.send(Asking::Token, Method::POST, &url, None, Body::Json(body), &secrets).await?;
        object.granted(&["access_token"], &["refresh_token"], &["expires_in"])
    }

    /// The same values under other names than in a login's answer.
    async fn renew(&self, http: &Exchange, refresh: &Secret, former: &Granted) -> Result<Granted> {
        let body = json!({ "token": refresh.expose() });
        let url = self.at(RENEWAL)?;
        let object = http.send(Asking::Token, Method::POST, &url, None, Body::Json(body), &[refresh]).await?;
        let granted = object.granted(
            &["token", "access_token"],
            &["refreshToken", "refresh_token"],
            &["tokenExpirationTimeSec", "expires_in"],
        )?;
        Ok(granted.with_rest_of(former))
    }

    async fn locate(&self, http: &Exchange, granted: &Granted) -> Result<Option<Url>> {
        if granted.server.is_some() {
            return Ok(granted.server.clone());
        }
        let url = self.at(WELL_KNOWN[1])?;
        let configuration = http.send(Asking::Discovery, Method::GET, &url, None, Body::None, &[]).await?;
        configuration.text(&["api_endpoint"]).map(|text| named(&text, &self.url)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_cannot_name_another_host() {
        let url = |region: &str| AccessKeys::builder(region, "id", "secret").build().map(|keys| keys.0.route.url);
        assert_eq!(url("na1").unwrap().as_str(), "https://na1.nice-incontact.com/");
        for bad in ["", "h.example/", "h.example#", "u@h", "na1.evil", "na1:1"] {
            assert_eq!(url(bad).unwrap_err().kind(), crate::ErrorKind::Config, "{bad}");
        }
        let at =
            |text: &str| AccessKeys::builder("", "id", "secret").base_url(text).build().map(|keys| keys.0.route.url);
        assert_eq!(at("https://h/authentication/v1/token/access-key").unwrap().as_str(), "https://h/");
        assert_eq!(at("https://h/").unwrap().as_str(), "https://h/");
    }
}

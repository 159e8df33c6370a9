//! CXone's global authentication, for RingCentral Contact Center's customers.

use async_trait::async_trait;
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::Method;
use serde_json::json;
use serde_json::value::RawValue;
use url::Url;

use super::exchange::{Asking, Body, Exchange, Granted, Object};
use super::keeper::{Keeper, Route, provide};
use super::urls::{WELL_KNOWN, at, named, service_url};
use crate::agent::event::value::{Fields, text};
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::secret::Secret;
use crate::system::System;

const ISSUER: &str = "https://cxone.niceincontact.com";

/// Tokens of CXone's global authentication, for an access key.
///
/// The provider discovers the token service; the token or its id token names its tenant, and the tenant's configuration
/// names the URL of sessions. With [`base_url`](crate::agent::AgentSessionBuilder::base_url) that lookup may fail.
#[derive(Debug)]
pub struct CxOneTokens(pub(super) Keeper<CxOne>);

/// Sets up [`CxOneTokens`].
#[derive(Clone, Debug)]
#[must_use]
pub struct CxOneTokensBuilder {
    client: Secret,
    key_id: Secret,
    key_secret: Secret,
    issuer: String,
    who_am_i: bool,
    http1_only: bool,
    system: Option<System>,
}

provide!(CxOneTokens);

impl CxOneTokens {
    /// The registered client's id and secret, and an access key.
    pub fn builder(
        client_id: &str,
        client_secret: impl Into<Secret>,
        key_id: impl Into<Secret>,
        key_secret: impl Into<Secret>,
    ) -> CxOneTokensBuilder {
        let client_secret: Secret = client_secret.into();
        CxOneTokensBuilder {
            client: Secret::new(format!("{client_id}:{}", client_secret.expose())),
            key_id: key_id.into(),
            key_secret: key_secret.into(),
            issuer: ISSUER.into(),
            who_am_i: false,
            http1_only: false,
            system: None,
        }
    }
}

impl CxOneTokensBuilder {
    /// Where discovery begins. Default `https://cxone.niceincontact.com`. The paths `/auth/token` and
    /// `/.well-known/openid-configuration` behind it are removed.
    pub fn issuer(mut self, url: impl Into<String>) -> Self {
        self.issuer = url.into();
        self
    }

    /// Whether to ask the cluster for the host of sessions (`token/whoami`), as the vendor's own program does, instead
    /// of using the tenant's `api_endpoint`. Default no: that suffices for access keys.
    pub fn who_am_i(mut self, ask: bool) -> Self {
        self.who_am_i = ask;
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
    pub fn build(self) -> Result<CxOneTokens> {
        let issuer = service_url(&self.issuer, &["auth/token", WELL_KNOWN[0], WELL_KNOWN[1]])?;
        let Self { client, key_id, key_secret, who_am_i, http1_only, system, .. } = self;
        Keeper::new(CxOne { client, key_id, key_secret, issuer, who_am_i }, http1_only, system).map(CxOneTokens)
    }
}

#[derive(Debug)]
pub(super) struct CxOne {
    client: Secret,
    key_id: Secret,
    key_secret: Secret,
    issuer: Url,
    who_am_i: bool,
}

impl CxOne {
    async fn token_endpoint(&self, http: &Exchange) -> Result<Url> {
        let url = at(&self.issuer, WELL_KNOWN[0])?;
        let object = http.send(Asking::Discovery, Method::GET, &url, None, Body::None, &[]).await?;
        named(&needed(&object, "token_endpoint")?, &self.issuer)
    }

    fn read(object: &Object) -> Result<Granted> {
        let mut granted = object.granted(&["access_token"], &["refresh_token"], &["expires_in"])?;
        let of_id_token = || object.text(&["id_token"]).and_then(|token| tenant_of(&token));
        granted.tenant = tenant_of(granted.access.secret().expose()).or_else(of_id_token);
        Ok(granted)
    }

    async fn server(&self, http: &Exchange, token: &Secret, tenant: &str) -> Result<Url> {
        let mut url = at(&self.issuer, WELL_KNOWN[1])?;
        url.query_pairs_mut().append_pair("tenantId", tenant);
        let configuration = http.send(Asking::Discovery, Method::GET, &url, None, Body::None, &[token]).await?;
        if !self.who_am_i {
            return named(&needed(&configuration, "api_endpoint")?, &self.issuer);
        }
        let (cluster, domain) = (needed(&configuration, "cluster")?, needed(&configuration, "acdDomain")?);
        let host = cluster_host(self.issuer.scheme(), &cluster, &domain);
        let host = named(&host, &self.issuer)?;
        let url = at(&host, "incontactauthorizationserver/token/whoami")?;
        let body = Body::Json(json!({ "token": token.expose() }));
        let object = http.send(Asking::Discovery, Method::POST, &url, None, body, &[token]).await?;
        named(&needed(&object, "resource_server_base_uri")?, &url)
    }
}

/// The host of a cluster, which describes a token's rights.
fn cluster_host(scheme: &str, cluster: &str, domain: &str) -> String {
    format!("{scheme}://api-{cluster}.{domain}")
}

fn needed(object: &Object, key: &'static str) -> Result<String> {
    object.text(&[key]).ok_or_else(|| {
        Error::new(ErrorKind::Protocol, format!("the service's configuration lacks {key}"))
            .with_disposition(Disposition::Fatal)
    })
}

/// A JWT uses the URL alphabet; some issuers use the standard one, with or without padding.
const JWT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The claim `tenantId`. The signature is not checked: the token is sent only to the service.
fn tenant_of(token: &str) -> Option<String> {
    let claims = token.split('.').nth(1)?.replace('+', "-").replace('/', "_");
    let claims = JWT.decode(claims).ok()?;
    let claims: Box<RawValue> = serde_json::from_slice(&claims).ok()?;
    Fields::of(&claims)?.get(&["tenantId"]).and_then(text)
}

#[async_trait]
impl Route for CxOne {
    async fn login(&self, http: &Exchange) -> Result<Granted> {
        let form = vec![
            ("grant_type", "password".to_owned()),
            ("username", self.key_id.expose().to_owned()),
            ("password", self.key_secret.expose().to_owned()),
        ];
        let endpoint = self.token_endpoint(http).await?;
        let secrets = [&self.client, &self.key_id, &self.key_secret];
        let client = Some(&self.client);
        let object = http.send(Asking::Token, Method::POST, &endpoint, client, Body::Form(form), &secrets).await?;
        let mut granted = Self::read(&object)?;
        granted.refresh_at = Some(endpoint);
        Ok(granted)
    }

    async fn renew(&self, http: &Exchange, refresh: &Secret, former: &Granted) -> Result<Granted> {
        let Some(endpoint) = &former.refresh_at else { return self.login(http).await };
        let form = vec![("grant_type", "refresh_token".to_owned()), ("refresh_token", refresh.expose().to_owned())];
        let secrets = [&self.client, refresh];
        let client = Some(&self.client);
        let object = http.send(Asking::Token, Method::POST, endpoint, client, Body::Form(form), &secrets).await?;
        Ok(Self::read(&object)?.with_rest_of(former))
    }

    async fn locate(&self, http: &Exchange, granted: &Granted) -> Result<Option<Url>> {
        if granted.server.is_some() {
            return Ok(granted.server.clone());
        }
        let tenant = granted.tenant.as_deref().ok_or_else(|| {
            let message = "neither the token nor the id token names its tenant, whose configuration would say where \
                           sessions are served; give the session's base_url";
            Error::new(ErrorKind::Protocol, message).with_disposition(Disposition::Fatal)
        })?;
        self.server(http, granted.access.secret(), tenant).await.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_has_a_host_and_tls_is_never_dropped() {
        let issuer: Url = ISSUER.parse().unwrap();
        let host = named(&cluster_host("https", "c71", "nice-incontact.com"), &issuer).unwrap();
        assert_eq!(at(&host, "x/y").unwrap().as_str(), "https://api-c71.nice-incontact.com/x/y");
        for bad in ["http://api.example", "ftp://api.example", "https://u@api.example", "api.example", ""] {
            assert_eq!(named(bad, &issuer).unwrap_err().kind(), ErrorKind::Protocol, "{bad}");
        }
    }

    #[test]
    fn a_token_names_its_tenant_in_either_alphabet_padded_or_not() {
        use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE as URL, URL_SAFE_NO_PAD};
        // With the characters in which the alphabets differ, and of each length modulo three.
        for claims in [
            r#"{"tenantId":"t-1","x":"??>>~~"}"#,
            r#"{"tenantId":"t-1","x":"??>>~~a"}"#,
            r#"{"tenantId":"t-1","x":"??>>~~ab"}"#,
        ] {
            for engine in [&STANDARD, &STANDARD_NO_PAD, &URL, &URL_SAFE_NO_PAD] {
                let token = format!("h.{}.s", engine.encode(claims));
                assert_eq!(tenant_of(&token).as_deref(), Some("t-1"), "{token}");
            }
        }
        let token = |claims: &str| format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims));
        for bad in [token("{}"), token("[]"), "opaque".into(), "a.b.c".into(), "..".into(), String::new()] {
            assert_eq!(tenant_of(&bad), None, "{bad}");
        }
    }
}

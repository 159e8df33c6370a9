//! The authorization code flow with PKCE: the request and the redirect.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use url::Url;

use crate::error::{Error, ErrorKind, Result};
use crate::secret::Secret;
use crate::system::System;

/// A login in the user's browser: the URL to open, and the state needed when the redirect arrives.
///
/// Created by [`OAuth::authorize`](super::OAuth::authorize). Store it with the user's session (it
/// contains the PKCE verifier and the `state`), open [`url`](Self::url) in the browser, then pass
/// it and the URL of the redirect to [`OAuth::exchange`](super::OAuth::exchange).
#[derive(Clone)]
pub struct AuthorizationRequest {
    endpoint: Url,
    client_id: String,
    redirect_uri: String,
    state: Secret,
    verifier: Secret,
    brand_id: Option<String>,
    display: Option<String>,
    prompt: Option<String>,
}

impl AuthorizationRequest {
    pub(super) fn new(server: &Url, client_id: &str, redirect_uri: String, system: &System) -> Result<Self> {
        let mut endpoint = server.clone();
        endpoint.set_path("/restapi/oauth/authorize");
        Ok(Self {
            endpoint,
            client_id: client_id.to_owned(),
            redirect_uri,
            state: random_text(system)?,
            verifier: random_text(system)?,
            brand_id: None,
            display: None,
            prompt: None,
        })
    }

    /// Shows the login page of this brand (`brand_id`). Default: RingCentral's.
    #[must_use]
    pub fn brand_id(self, id: impl Into<String>) -> Self {
        Self { brand_id: Some(id.into()), ..self }
    }

    /// The form of the page (`display`: `page`, `popup`, `touch`, `mobile`). Default: the service's
    /// choice.
    #[must_use]
    pub fn display(self, display: impl Into<String>) -> Self {
        Self { display: Some(display.into()), ..self }
    }

    /// The steps shown to the user (`prompt`: `login`, `sso`, `consent`, `none`, separated by
    /// spaces). Default: the service's choice.
    #[must_use]
    pub fn prompt(self, prompt: impl Into<String>) -> Self {
        Self { prompt: Some(prompt.into()), ..self }
    }

    /// The URL for the user's browser (`GET /restapi/oauth/authorize`).
    #[must_use]
    pub fn url(&self) -> Url {
        let mut url = self.endpoint.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client_id)
            .append_pair("redirect_uri", &self.redirect_uri)
            .append_pair("state", self.state.expose())
            .append_pair("code_challenge", &challenge(self.verifier.expose()))
            .append_pair("code_challenge_method", "S256");
        for (name, value) in [("brand_id", &self.brand_id), ("display", &self.display), ("prompt", &self.prompt)] {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        url
    }

    /// The `state`, by which a web server finds the request of a redirect.
    #[must_use]
    pub fn state(&self) -> &Secret {
        &self.state
    }

    pub(super) fn redirect_uri(&self) -> &str {
        &self.redirect_uri
    }

    pub(super) fn verifier(&self) -> &Secret {
        &self.verifier
    }

    /// The code in `redirect`, after checking its `state`.
    pub(super) fn code(&self, redirect: &str) -> Result<Secret> {
        // Path and query suffice, since web servers see no more.
        let base = Url::parse(&self.redirect_uri).ok();
        let url = Url::options().base_url(base.as_ref()).parse(redirect.trim());
        let url = url.map_err(|error| Error::config("the redirect is no URL").with_source(error))?;
        let find = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let state = find("state");
        if let Some(state) = &state
            && !same(state, self.state.expose())
        {
            return Err(Error::new(ErrorKind::Auth, "the redirect belongs to another authorization request (state)"));
        }
        // An error without a state is still reported, but a code without one is not trusted.
        if let Some(error) = find("error") {
            let code: String = error.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect();
            return Err(Error::new(ErrorKind::Auth, "the user or the service declined the login").with_code(Some(code)));
        }
        if state.is_none() {
            return Err(Error::new(ErrorKind::Auth, "the redirect carries no state"));
        }
        let code = find("code").filter(|code| !code.is_empty());
        code.map(Secret::from).ok_or_else(|| Error::new(ErrorKind::Auth, "the redirect carries no code"))
    }
}

impl fmt::Debug for AuthorizationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationRequest").field("redirect_uri", &self.redirect_uri).finish_non_exhaustive()
    }
}

/// 256 random bits as 43 URL-safe characters (RFC 7636, 4.1).
fn random_text(system: &System) -> Result<Secret> {
    Ok(URL_SAFE_NO_PAD.encode(system.random_bytes::<32>()?).into())
}

fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

/// Compares in a time that depends only on the lengths.
fn same(a: &str, b: &str) -> bool {
    let differs = a.bytes().zip(b.bytes()).fold(0, |differs, (a, b)| std::hint::black_box(differs | (a ^ b)));
    a.len() == b.len() && differs == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> AuthorizationRequest {
        let server = Url::parse("https://platform.ringcentral.com").unwrap();
        AuthorizationRequest::new(&server, "app", "https://me.example/back?x=1".into(), &System::new()).unwrap()
    }

    #[test]
    fn the_challenge_is_that_of_rfc_7636() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(challenge(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn the_url_has_all_parameters_of_the_service() {
        let request = request().brand_id("1210").display("popup").prompt("login consent");
        let url = request.url();
        assert_eq!(url.path(), "/restapi/oauth/authorize");
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let challenge = challenge(request.verifier.expose());
        let want = [
            ("response_type", "code"),
            ("client_id", "app"),
            ("redirect_uri", "https://me.example/back?x=1"),
            ("state", request.state().expose()),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("brand_id", "1210"),
            ("display", "popup"),
            ("prompt", "login consent"),
        ];
        assert_eq!(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), want);
        assert_eq!(request.verifier.expose().len(), 43);
        assert_ne!(request.state(), self::request().state());
        assert_ne!(request.state(), request.verifier());
    }

    #[test]
    fn a_redirect_needs_the_state_that_was_sent() {
        let request = request();
        let state = request.state().expose();
        for (redirect, want) in [
            (format!("https://me.example/back?code=C0DE&state={state}&expires_in=60"), Ok("C0DE")),
            (format!("/back?state={state}&code=C0DE"), Ok("C0DE")),
            ("https://me.example/back?code=C0DE&state=other".into(), Err(None)),
            (format!("https://me.example/back?code=C0DE&state={state}x"), Err(None)),
            (format!("https://me.example/back?code=C0DE&state={}", &state[1..]), Err(None)),
            ("https://me.example/back?code=C0DE".into(), Err(None)),
            (format!("https://me.example/back?state={state}"), Err(None)),
            (format!("https://me.example/back?state={state}&code="), Err(None)),
            (format!("https://me.example/back?error=access_denied&state={state}"), Err(Some("access_denied"))),
            ("https://me.example/back?error=access_denied".into(), Err(Some("access_denied"))),
            ("https://me.example/back?error=access_denied&state=other".into(), Err(None)),
        ] {
            match (request.code(&redirect), want) {
                (Ok(code), Ok(want)) => assert_eq!(code.expose(), want),
                (Err(error), Err(code)) => {
                    assert_eq!((error.kind(), error.code()), (ErrorKind::Auth, code), "{redirect}");
                    let shown = format!("{error} {error:?}");
                    assert!(!shown.contains("C0DE") && !shown.contains(state), "{shown}");
                }
                (got, want) => panic!("{redirect}: {got:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn debug_shows_neither_state_nor_verifier() {
        let request = request();
        let shown = format!("{request:?}");
        assert!(!shown.contains(request.state().expose()) && !shown.contains(request.verifier().expose()));
    }
}

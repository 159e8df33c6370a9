//! One request to a token service.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use serde_json::value::RawValue;
use url::{Url, form_urlencoded};

use super::super::answer;
use super::super::event::value::{Fields, text};
use super::{Granted, deadline};
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::event::lenient::Lenient as _;
use crate::rest::USER_AGENT;
use crate::rest::wire::{Redirects, Wire};
use crate::secret::Secret;

/// All that a login takes must fit into what a poll waits for a token.
const WITHIN: Duration = Duration::from_secs(7);
const BODY_LIMIT: usize = 1024 * 1024;
/// A token that lives for longer is a fault: it would never be renewed.
const MAX_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[derive(Debug)]
pub(super) struct Exchange {
    wire: Wire,
}

/// What is sent.
pub(super) enum Body {
    None,
    Form(Vec<(&'static str, String)>),
    Json(serde_json::Value),
}

/// An object that came back.
pub(super) struct Object {
    raw: Box<RawValue>,
}

impl Exchange {
    pub(super) fn new() -> Result<Self> {
        // A redirect would take the credentials elsewhere.
        Ok(Self { wire: Wire::decoding(USER_AGENT, BODY_LIMIT, Redirects::Refuse)? })
    }

    pub(super) async fn send(
        &self,
        method: Method,
        url: &Url,
        basic: Option<&Secret>,
        body: Body,
        secrets: &[&Secret],
    ) -> Result<Object> {
        let mut request = reqwest::Request::new(method, url.clone());
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(basic) = basic {
            let value = HeaderValue::from_str(&format!("basic {}", STANDARD.encode(basic.expose())));
            let mut value = value.map_err(|_| Error::config("the credentials cannot be sent in a header"))?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let (kind, text) = match body {
            Body::None => (None, String::new()),
            Body::Form(fields) => {
                let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
                (Some("application/x-www-form-urlencoded"), form)
            }
            Body::Json(value) => (Some("application/json"), value.to_string()),
        };
        if let Some(kind) = kind {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            *request.body_mut() = Some(text.into());
        }
        let answer = self.wire.exchange(request, deadline(WITHIN)).await?;
        if answer.status != StatusCode::OK && !answer.status.is_success() {
            return Err(refused(&answer, secrets));
        }
        let body = answer.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&answer.body);
        let raw = serde_json::from_slice::<Box<RawValue>>(body).ok().filter(|raw| Fields::of(raw).is_some());
        raw.map(|raw| Object { raw }).ok_or_else(|| {
            Error::new(ErrorKind::Protocol, "the token service answered with something that is no object")
                .with_status(answer.status.as_u16())
        })
    }
}

/// What a refusal means. The credentials are refused only where the service itself says
/// so, with its reason: what stands before it passes (found 6.4).
fn refused(answer: &crate::rest::wire::Answer, secrets: &[&Secret]) -> Error {
    let said = answer::words(answer, secrets);
    let (kind, message) = match answer.status.as_u16() {
        429 => (ErrorKind::RateLimited, "too many requests for tokens"),
        408 | 500.. => (ErrorKind::Service, "the token service failed"),
        300..=399 => (ErrorKind::Protocol, "the token service sent elsewhere, which is not followed"),
        400 | 401 if said.is_some() => (ErrorKind::Auth, "the token service refused the credentials"),
        _ => (ErrorKind::Auth, "the token service turned the login away"),
    };
    let disposition = match (kind, answer.status.as_u16()) {
        (ErrorKind::Auth, 400 | 401) if said.is_some() => Disposition::Fatal,
        _ => Disposition::Retry { after: answer::wait_asked_for(&answer.headers) },
    };
    let error = match said {
        Some(said) => Error::new(kind, format!("{message}: {said}")),
        None => Error::new(kind, message),
    };
    error.with_disposition(disposition).with_status(answer.status.as_u16())
}

impl Object {
    pub(super) fn text(&self, keys: &[&str]) -> Option<String> {
        Fields::of(&self.raw)?.get(keys).and_then(text)
    }

    /// The token in the fields that are named so in this answer.
    pub(super) fn granted(&self, access: &[&str], refresh: &[&str], life: &[&str]) -> Result<Granted> {
        let token = self.text(access);
        let token =
            token.ok_or_else(|| Error::new(ErrorKind::Protocol, "the token service answered without a token"))?;
        let seconds = Fields::of(&self.raw).and_then(|fields| fields.get(life).and_then(f64::read));
        // A token that is over when it is granted would be asked for before each call.
        let seconds = seconds.filter(|seconds| *seconds > 0.0);
        let life = seconds.map(|it| Duration::try_from_secs_f64(it).unwrap_or(MAX_LIFE).min(MAX_LIFE));
        let mut granted = Granted::new(token.into(), life);
        granted.refresh = self.text(refresh).map(Secret::new);
        Ok(granted)
    }
}

//! The failure of a handler.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;
use serde_json::json;

use crate::error::Error;

/// Why a handler failed.
///
/// The platform knows two kinds. A *resource error* concerns one content and states whether a retry
/// is useful; a *server error* is an HTTP status, after which a write is attempted three times in
/// total, and a list again in the next run.
///
/// The channel's administrators see the message: put no secret into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    kind: Kind,
    message: Cow<'static, str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Resource { fatal: bool },
    Server(StatusCode),
}

impl Failure {
    /// A permanent resource error: the platform abandons this content.
    #[must_use]
    pub fn fatal(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: Kind::Resource { fatal: true }, message: message.into() }
    }

    /// A transient resource error: the platform retries.
    #[must_use]
    pub fn retry(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: Kind::Resource { fatal: false }, message: message.into() }
    }

    /// 503: the source is temporarily unavailable.
    #[must_use]
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::of(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// 404: no content has this id.
    #[must_use]
    pub fn not_found() -> Self {
        Self::of(StatusCode::NOT_FOUND, "no content has this id")
    }

    /// A server error with `status`, from 400 to 599; any other becomes 500, since the platform
    /// would read it as a success or follow a redirect.
    #[must_use]
    pub fn status(status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        let status = StatusCode::from_u16(status).ok();
        let status = status.filter(|status| status.is_client_error() || status.is_server_error());
        Self::of(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), message)
    }

    pub(super) fn of(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: Kind::Server(status), message: message.into() }
    }

    /// For a resource error, whether it is permanent; `None` for a server error.
    #[must_use]
    pub fn is_fatal(&self) -> Option<bool> {
        match self.kind {
            Kind::Resource { fatal } => Some(fatal),
            Kind::Server(_) => None,
        }
    }

    /// The HTTP status of the response: 200 for a resource error, which is in the body.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        self.status_code().as_u16()
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn status_code(&self) -> StatusCode {
        match self.kind {
            Kind::Resource { .. } => StatusCode::OK,
            Kind::Server(status) => status,
        }
    }

    /// The body: JSON for a resource error, the message for a server error.
    pub(super) fn body(&self) -> String {
        match self.kind {
            Kind::Resource { fatal } => json!({ "error": { "fatal": fatal, "message": self.message } }).to_string(),
            Kind::Server(_) => self.message.clone().into_owned(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Resource { fatal: true } => write!(f, "{} (for ever)", self.message),
            Kind::Resource { fatal: false } => write!(f, "{} (for now)", self.message),
            Kind::Server(status) => write!(f, "{} (HTTP {})", self.message, status.as_u16()),
        }
    }
}

impl std::error::Error for Failure {}

/// Your own errors become 503, so that the platform retries. The error's text is logged, not sent
/// to the platform.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        tracing::warn!(%error, "a handler failed");
        Self::unavailable("the source cannot do this now")
    }
}

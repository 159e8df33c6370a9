//! How a handler says that it failed.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;
use serde_json::json;

use crate::error::Error;

/// Why a handler could not do what was asked.
///
/// The platform knows two kinds. A *resource error* is about one content, and says
/// whether trying again is of any use; a *server error* is an HTTP status, after which
/// a write is tried three times in all, and a list again in the next run.
///
/// The message is shown to the channel's administrators: no secret in it.
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
    /// A resource error that is for ever: the platform gives this content up.
    #[must_use]
    pub fn fatal(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: Kind::Resource { fatal: true }, message: message.into() }
    }

    /// A resource error that may pass: the platform tries again.
    #[must_use]
    pub fn retry(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: Kind::Resource { fatal: false }, message: message.into() }
    }

    /// 503: the source cannot do it now.
    #[must_use]
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::of(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// 404: no content has this id.
    #[must_use]
    pub fn not_found() -> Self {
        Self::of(StatusCode::NOT_FOUND, "no content has this id")
    }

    /// A server error with `status`, from 400 to 599; any other is taken for 500,
    /// since the platform would read a success, or follow it elsewhere.
    #[must_use]
    pub fn status(status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        let status = StatusCode::from_u16(status).ok();
        let status = status.filter(|status| status.is_client_error() || status.is_server_error());
        Self::of(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), message)
    }

    pub(super) fn of(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: Kind::Server(status), message: message.into() }
    }

    /// Of a resource error whether it is for ever; `None` for a server error.
    #[must_use]
    pub fn is_fatal(&self) -> Option<bool> {
        match self.kind {
            Kind::Resource { fatal } => Some(fatal),
            Kind::Server(_) => None,
        }
    }

    /// The HTTP status that it is told with: 200 for a resource error, which is in
    /// the body.
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

    /// What is in the body: JSON of a resource error, the message of a server error.
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

/// Trouble of your own that says no more: 503, the platform tries again. The text of
/// the error goes to the log, not to the platform.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        tracing::warn!(%error, "a handler failed");
        Self::unavailable("the source cannot do this now")
    }
}

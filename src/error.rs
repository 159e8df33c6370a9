//! What goes wrong, and what to do about it.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// This crate's `Result`.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something failed.
///
/// Opaque on purpose: ask [`kind`](Self::kind) what it is, and
/// [`disposition`](Self::disposition) what to do. The text says only what this
/// layer knows; walk [`source`](StdError::source) for the rest. No token, key,
/// channel name or URL with a query is ever part of it.
///
/// A clone shares the cause with the original, so that everyone who waited for
/// one failed operation gets the whole story.
///
/// # The service's codes
///
/// The meaning of [`code`](Self::code). A status that concerns the whole service (429, 5xx) and a 401
/// outrank the code: after a 401 the crate gets another token, once.
///
#[doc = include_str!("../docs/errors.md")]
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    disposition: Disposition,
    message: Cow<'static, str>,
    status: Option<u16>,
    code: Option<String>,
    parameter: Option<String>,
    permission: Option<String>,
    request_id: Option<String>,
    help: Option<&'static str>,
    unclear: bool,
    login_refused: bool,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// What kind of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value given to a builder or a call is not usable. Nothing was sent.
    Config,
    /// The service refused the credentials or the grant: the user or the
    /// administrator must authorize again (`invalid_grant`, `invalid_client`, …).
    Auth,
    /// The app or the user lacks a permission; [`Error::permission`] names it
    /// where the service did.
    Permission,
    /// The service refused the transport itself. For PubNub this is the normal
    /// answer for new apps: use WebSocket or webhooks instead.
    TransportRefused,
    /// Too many requests (429).
    RateLimited,
    /// Too many subscriptions for this user and app (`SUB-505`).
    SubscriptionLimit,
    /// The thing asked for does not exist, or no longer (404).
    NotFound,
    /// The session of a connection is lost at the service, and the subscription
    /// that lived in it.
    SessionLost,
    /// The service refused the request for another reason (4xx).
    Rejected,
    /// The service failed (5xx).
    Service,
    /// The connection could not be made or broke.
    Network,
    /// A deadline passed.
    Timeout,
    /// The peer's answer could not be read.
    Protocol,
    /// A payload or key could not be used for decryption.
    Crypto,
    /// The user's store (tokens, checkpoints) failed.
    Store,
    /// Another change of the same subscription is still pending, or another subscription
    /// uses the same checkpoint; nothing was sent.
    Busy,
    /// The subscription, or the client, is closed.
    Closed,
    /// A panic, in a task of this crate or in code given to it.
    Internal,
}

impl ErrorKind {
    /// The kind's name in `snake_case`, for logs, metrics and messages between
    /// programs. It does not change.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Auth => "auth",
            Self::Permission => "permission",
            Self::TransportRefused => "transport_refused",
            Self::RateLimited => "rate_limited",
            Self::SubscriptionLimit => "subscription_limit",
            Self::NotFound => "not_found",
            Self::SessionLost => "session_lost",
            Self::Rejected => "rejected",
            Self::Service => "service",
            Self::Network => "network",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Crypto => "crypto",
            Self::Store => "store",
            Self::Busy => "busy",
            Self::Closed => "closed",
            Self::Internal => "internal",
        }
    }
}

impl ErrorKind {
    const ALL: [Self; 18] = [
        Self::Config,
        Self::Auth,
        Self::Permission,
        Self::TransportRefused,
        Self::RateLimited,
        Self::SubscriptionLimit,
        Self::NotFound,
        Self::SessionLost,
        Self::Rejected,
        Self::Service,
        Self::Network,
        Self::Timeout,
        Self::Protocol,
        Self::Crypto,
        Self::Store,
        Self::Busy,
        Self::Closed,
        Self::Internal,
    ];
}

/// Reads the kind's name.
///
/// # Errors
/// [`Config`](Self::Config) for an unknown name.
impl FromStr for ErrorKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let unknown =
            || Error::config(format!("error kind {:?} is not known", name.chars().take(64).collect::<String>()));
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or_else(unknown)
    }
}

impl serde::Serialize for ErrorKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for ErrorKind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'_, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What to do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disposition {
    /// A retry cannot help; it needs human action.
    Fatal,
    /// Transient: retry, and not before `after` if the service named a time.
    Retry {
        /// The service's `Retry-After`: a floor, not a suggestion.
        after: Option<Duration>,
    },
    /// The access token is no longer valid: get another, retry once.
    Refresh,
    /// The subscription is gone: create another. Events may have been lost.
    Recreate,
    /// Too many subscriptions: delete your own orphans, retry once.
    Prune,
    /// A sync token is no longer valid: do a full sync.
    Resync,
}

impl Error {
    /// An error of `kind` with the disposition that is usual for it, for your own
    /// [`TokenProvider`](crate::auth::TokenProvider),
    /// [`TokenStore`](crate::auth::TokenStore),
    /// [`ControlPlane`](crate::control::ControlPlane) or
    /// [`Transport`](crate::transport::Transport).
    ///
    /// `message` is shown to people: no secret in it.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let disposition = match kind {
            ErrorKind::Network
            | ErrorKind::Store
            | ErrorKind::Timeout
            | ErrorKind::Service
            | ErrorKind::RateLimited
            | ErrorKind::Protocol => Disposition::Retry { after: None },
            ErrorKind::NotFound | ErrorKind::SessionLost => Disposition::Recreate,
            ErrorKind::SubscriptionLimit => Disposition::Prune,
            ErrorKind::Config
            | ErrorKind::Auth
            | ErrorKind::Permission
            | ErrorKind::TransportRefused
            | ErrorKind::Rejected
            | ErrorKind::Crypto
            | ErrorKind::Busy
            | ErrorKind::Closed
            | ErrorKind::Internal => Disposition::Fatal,
        };
        Self(Box::new(Inner {
            kind,
            disposition,
            message: message.into(),
            status: None,
            code: None,
            parameter: None,
            permission: None,
            request_id: None,
            help: None,
            unclear: false,
            login_refused: false,
            source: None,
        }))
    }

    pub(crate) fn config(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// Says what to do about it, where that is not what is usual for its kind.
    #[must_use]
    pub fn with_disposition(mut self, disposition: Disposition) -> Self {
        self.0.disposition = disposition;
        self
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.0.status = Some(status);
        self
    }

    pub(crate) fn with_status_of(mut self, other: &Self) -> Self {
        self.0.status = other.0.status;
        self
    }

    pub(crate) fn with_code(mut self, code: Option<String>) -> Self {
        self.0.code = code;
        self
    }

    pub(crate) fn with_parameter(mut self, parameter: Option<String>) -> Self {
        self.0.parameter = parameter;
        self
    }

    pub(crate) fn with_permission(mut self, permission: Option<String>) -> Self {
        self.0.permission = permission;
        self
    }

    pub(crate) fn with_request_id(mut self, id: Option<String>) -> Self {
        self.0.request_id = id;
        self
    }

    pub(crate) fn with_help(mut self, help: Option<&'static str>) -> Self {
        self.0.help = help;
        self
    }

    /// Adds the cause. Its text is shown too: no secret in it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Marks a request that may have been carried out though it failed here.
    #[must_use]
    pub fn with_ambiguous(mut self, unclear: bool) -> Self {
        self.0.unclear = unclear;
        self
    }

    /// The text of this layer alone, without status and code.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What to do about it.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        self.0.disposition
    }

    /// The HTTP status, where the service answered.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The service's error code, such as `SUB-528` (`errors[0].errorCode`).
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// The parameter that the service named (`parameterName`).
    #[must_use]
    pub fn parameter(&self) -> Option<&str> {
        self.0.parameter.as_deref()
    }

    /// The permission that is missing, where it is known.
    #[must_use]
    pub fn permission(&self) -> Option<&str> {
        self.0.permission.as_deref()
    }

    /// The service's id of the request (`RCRequestId`); its support asks for it.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// Advice for a person, in English, for a known code or an unreachable host. [`Display`](fmt::Display) ends with it.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        self.0.help
    }

    /// Whether the request may have been carried out all the same: it left, and
    /// no answer that could be read said what became of it (broken connection,
    /// passed deadline, 5xx, unreadable success).
    ///
    /// After an unclear create, list what is there before you create again.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.0.unclear
    }

    /// An error of a [`TokenProvider`](crate::auth::TokenProvider): where that is final,
    /// there is nothing left to log in with.
    pub(crate) fn of_login(self) -> Self {
        let refused = self.0.kind == ErrorKind::Auth && self.0.disposition == Disposition::Fatal;
        if refused { self.with_login_refused() } else { self }
    }

    pub(crate) fn with_login_refused(mut self) -> Self {
        self.0.login_refused = true;
        self
    }

    /// Whether the login itself was refused. Other trouble with a token passes.
    pub(crate) fn is_login_refused(&self) -> bool {
        self.0.login_refused
    }

    /// Whether it is certain that the request never left this machine.
    pub(crate) fn sent_nothing(&self) -> bool {
        !self.0.unclear && self.0.status.is_none()
    }

    /// How long the service asked to wait, where it did.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self.0.disposition {
            Disposition::Retry { after } => after,
            Disposition::Fatal
            | Disposition::Refresh
            | Disposition::Recreate
            | Disposition::Prune
            | Disposition::Resync => None,
        }
    }
}

impl Error {
    /// The text without [`help`](Self::help).
    fn write_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match (self.0.status, &self.0.code) {
            (Some(status), Some(code)) => write!(f, " (HTTP {status}, {code})")?,
            (Some(status), None) => write!(f, " (HTTP {status})")?,
            (None, Some(code)) => write!(f, " ({code})")?,
            (None, None) => {}
        }
        if let Some(parameter) = &self.0.parameter {
            write!(f, ", parameter {parameter}")?;
        }
        if let Some(permission) = &self.0.permission {
            write!(f, ", permission {permission}")?;
        }
        if let Some(id) = &self.0.request_id {
            write!(f, ", request {id}")?;
        }
        Ok(())
    }

    fn write_help(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.help.map_or(Ok(()), |help| write!(f, "; {help}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_text(f)?;
        self.write_help(f)
    }
}

/// One line for people, since a `main` that returns a `Result` prints its error in this form: the
/// text, the causes, the help and the kind. `{:#?}` shows the fields.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            self.write_text(f)?;
            let mut cause = self.source();
            while let Some(error) = cause {
                write!(f, ": {error}")?;
                cause = error.source();
            }
            self.write_help(f)?;
            return write!(f, " [{}]", self.0.kind);
        }
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("disposition", &self.0.disposition)
            .field("message", &self.0.message)
            .field("status", &self.0.status)
            .field("code", &self.0.code)
            .field("parameter", &self.0.parameter)
            .field("permission", &self.0.permission)
            .field("request_id", &self.0.request_id)
            .field("help", &self.0.help)
            .field("unclear", &self.0.unclear)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_is_one_line_for_people_and_shows_the_fields_on_request() {
        let error = Error::new(ErrorKind::Auth, "the service refused the login")
            .with_status(400)
            .with_help(Some("check the JWT"))
            .with_source(Error::new(ErrorKind::Network, "the store failed").with_source(std::io::Error::other("disk")));
        let line = "the service refused the login (HTTP 400): the store failed: disk; check the JWT [auth]";
        assert_eq!(format!("{error:?}"), line);
        let fields = format!("{error:#?}");
        assert!(fields.starts_with("Error {") && fields.contains("disposition: Fatal"), "{fields}");
    }

    #[test]
    fn display_says_its_own_layer_once_and_source_the_cause() {
        let error = Error::new(ErrorKind::Rejected, "the service refused the subscription")
            .with_status(400)
            .with_code(Some("CMN-101".into()))
            .with_parameter(Some("eventFilters".into()))
            .with_request_id(Some("abc".into()))
            .with_source(std::io::Error::other("inner"));
        assert_eq!(
            error.to_string(),
            "the service refused the subscription (HTTP 400, CMN-101), parameter eventFilters, request abc"
        );
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("inner"));
    }
    #[test]
    fn a_kind_is_named_as_its_variant_is() {
        for kind in ErrorKind::ALL {
            assert_eq!(kind.to_string().replace('_', ""), format!("{kind:?}").to_lowercase());
            assert_eq!(kind.as_str().parse::<ErrorKind>().unwrap(), kind);
        }
    }
}

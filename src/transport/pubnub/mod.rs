//! PubNub long polling, on the vendor's crate.
//!
//! The module uses that crate's `Transport` trait, request, response, cursor and error types. The poll loop is our own:
//! the crate's event engine loses messages under load and stops at the first network fault. The crate's types stay in
//! this module.
//!
//! A poll names a position, and the server holds it until something newer exists, 280 s at most. The server stores no
//! state per client, so repeating a poll from the same position loses nothing while its buffer still holds the
//! messages. Hence the one rule of this module: the position moves only after an answer was read in full, or after
//! several attempts to do so failed.

mod answer;
mod burst;
mod http;
mod link;
mod pace;
mod request;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use url::Url;

use self::http::HttpTransport;
use self::link::{PubNubLink, Tuning};
use self::request::Endpoint;
use super::{Link, Target, Transport, TransportBinding, TransportKind};
use crate::control::{ControlPlane, DeliveryModeRequest};
use crate::error::{Error, Result};
use crate::http::loopback::is_loopback;

const ORIGIN: &str = "https://ringcentral.pubnubapi.com";
const POLL_DEADLINE: Duration = Duration::from_secs(310);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Together with the 10 s limit of a time request, a dead path is noticed within 60 s.
const ASK_AGAIN: Duration = Duration::from_secs(45);
const BUFFER_SIZE: usize = 100;
const BUFFER_AGE: Duration = Duration::from_secs(120);
const MAX_RESPONSE: usize = 64 << 20;

/// The PubNub transport: one long poll per subscription.
///
/// Its polls go through the HTTP client of the [`Client`](crate::rest::Client) that
/// subscribes, see [`System`](crate::System).
/// RingCentral has withdrawn PubNub for new apps and answers their attempt to
/// subscribe with an error of kind
/// [`TransportRefused`](crate::ErrorKind::TransportRefused).
///
/// What each [`Link`] promises:
///
/// - every message of an answer arrives, in order; a part of it that is not what
///   the protocol says arrives as [`FrameBody::Malformed`](super::FrameBody);
/// - messages are never filtered by time: the service's timetokens can go back;
/// - an answer that cannot be read in full is requested again, five times within three
///   seconds if it is PubNub's and otherwise as after any fault; then its readable part is
///   delivered, the rest as malformed, and a possible loss is reported
///   ([`PossibleLoss::Unreadable`](super::PossibleLoss)) unless every message was found;
/// - a poll without any byte of an answer for 45 s is repeated from the same position, and the
///   service is asked for its time in parallel, so that a dead path is noticed within 60 s;
/// - an answer as large as the service's buffer, or one after a fault and a pause
///   longer than the service keeps messages, is marked with
///   [`PossibleLoss`](super::PossibleLoss).
///
/// An answer larger than [`max_response`](PubNubBuilder::max_response) would come
/// again in the same size for the same position, so it is an error with
/// [`Disposition::Recreate`](crate::Disposition::Recreate): a new subscription
/// and a declared gap instead of a transport that hangs silently.
#[derive(Clone)]
pub struct PubNub {
    http: HttpTransport,
    tuning: Tuning,
}

impl fmt::Debug for PubNub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PubNub").field("http", &self.http).field("tuning", &self.tuning).finish()
    }
}

impl PubNub {
    /// Starts with the defaults, which suit the service.
    pub fn builder() -> PubNubBuilder {
        PubNubBuilder::default()
    }
}

#[async_trait]
impl Transport for PubNub {
    fn kind(&self) -> TransportKind {
        TransportKind::PubNub
    }

    /// Asks for encryption; by default the service encrypts for some filters only.
    fn delivery_mode(&self) -> DeliveryModeRequest {
        DeliveryModeRequest::new(TransportKind::PubNub).encryption(true)
    }

    /// Uses the control plane's [`System`](crate::System), if it has one.
    fn bind(&self, control: &Arc<dyn ControlPlane>) -> Option<TransportBinding> {
        let http = self.http.clone().with_system(control.system()?);
        let mut session = TransportBinding::new(control.clone(), Arc::new(Self { http, ..self.clone() }));
        session.has_address = true;
        Some(session)
    }

    /// Sends nothing yet.
    ///
    /// # Errors
    /// Kind `Protocol` when the service's address or key cannot be put into a
    /// path; kind `Config` when the cursor is not one of PubNub's. A timetoken of
    /// zero is refused too: it would mean "from now on", a silent loss.
    async fn open(&self, target: Target) -> Result<Box<dyn Link>> {
        let endpoint = Endpoint::new(&target)?;
        request::check(&target.cursor)?;
        Ok(Box::new(PubNubLink::new(self.http.clone(), self.tuning, endpoint, target.cursor, target.last_good)))
    }
}

/// Makes a [`PubNub`].
#[derive(Clone, Debug)]
#[must_use]
pub struct PubNubBuilder {
    origin: String,
    poll_deadline: Duration,
    connect_timeout: Duration,
    buffer_size_hint: usize,
    buffer_age: Duration,
    max_response: usize,
}

impl Default for PubNubBuilder {
    fn default() -> Self {
        Self {
            origin: ORIGIN.to_owned(),
            poll_deadline: POLL_DEADLINE,
            connect_timeout: CONNECT_TIMEOUT,
            buffer_size_hint: BUFFER_SIZE,
            buffer_age: BUFFER_AGE,
            max_response: MAX_RESPONSE,
        }
    }
}

impl PubNubBuilder {
    /// Where to poll: scheme, host, port, and an optional path prefix. Plain `http` only on loopback.
    ///
    /// Default `https://ringcentral.pubnubapi.com`, the service's own name at PubNub.
    pub fn origin(mut self, url: impl Into<String>) -> Self {
        self.origin = url.into();
        self
    }

    /// How long one poll may take, from connecting to the last byte; up to an hour.
    ///
    /// Default 310 s, as in PubNub's own clients. A poll without any byte of an answer is repeated sooner.
    pub fn poll_deadline(mut self, deadline: Duration) -> Self {
        self.poll_deadline = deadline;
        self
    }

    /// How long connecting may take, TLS included. Default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How many messages in one answer mean that the service's buffer was full
    /// and older ones may be lost.
    ///
    /// Default 100, PubNub's default buffer. PubNub raises it to 300 or 500 for
    /// some customers; RingCentral's size is not published (unverified).
    pub fn buffer_size_hint(mut self, events: usize) -> Self {
        self.buffer_size_hint = events;
        self
    }

    /// How long the service is guaranteed to retain messages. A longer pause after a fault is reported as a possible
    /// loss.
    ///
    /// Default 2 min: PubNub's documents say between 2 and 20 minutes, depending on their age.
    pub fn buffer_age(mut self, age: Duration) -> Self {
        self.buffer_age = age;
        self
    }

    /// The largest answer to read, in bytes.
    ///
    /// Default 64 MiB: 500 messages of 32 KiB, which is the largest raised buffer that
    /// PubNub names, with room for JSON escapes.
    pub fn max_response(mut self, bytes: usize) -> Self {
        self.max_response = bytes;
        self
    }

    /// Makes the transport.
    ///
    /// # Errors
    /// Kind `Config` when a value is out of its range.
    pub fn build(self) -> Result<PubNub> {
        const HOUR: Duration = Duration::from_secs(3600);
        let origin = origin(&self.origin)?;
        if self.poll_deadline.is_zero() || self.poll_deadline > HOUR {
            return Err(Error::config("poll_deadline must be above zero and at most an hour"));
        }
        if self.connect_timeout.is_zero() || self.connect_timeout > HOUR {
            return Err(Error::config("connect_timeout must be above zero and at most an hour"));
        }
        if self.buffer_size_hint == 0 {
            return Err(Error::config("buffer_size_hint must be at least 1"));
        }
        if self.buffer_age.is_zero() {
            return Err(Error::config("buffer_age must be above zero"));
        }
        if self.max_response == 0 {
            return Err(Error::config("max_response must be at least 1"));
        }
        let http = HttpTransport::new(origin, self.connect_timeout, self.poll_deadline, self.max_response);
        let (buffer_size, buffer_age) = (self.buffer_size_hint, self.buffer_age);
        let tuning = Tuning { buffer_size, buffer_age, ask_again: ASK_AGAIN };
        Ok(PubNub { http, tuning })
    }
}

/// The origin without a trailing slash, so that a path can follow.
fn origin(text: &str) -> Result<String> {
    let url = Url::parse(text).map_err(|error| Error::config("the origin is not a URL").with_source(error))?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        "http" => return Err(Error::config("the origin must be https, except on loopback")),
        _ => return Err(Error::config("the origin must be an https URL")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::config("the origin must not hold credentials"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Error::config("the origin must have no query and no fragment"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

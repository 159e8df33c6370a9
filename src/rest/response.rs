//! A successful response.

use std::borrow::Cow;
use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::error::Result;
use crate::http::Answer;
use crate::http::envelope::{date, json_error, request_id};

/// A successful, complete response.
///
/// `Debug` shows neither body nor headers.
#[derive(Clone)]
pub struct Response {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    sent_at: Instant,
}

impl Response {
    /// The answer to a request that was sent at `sent_at`.
    pub(crate) fn new(answer: Answer, sent_at: Instant) -> Self {
        Self { status: answer.status, headers: answer.headers, body: answer.body, sent_at }
    }

    /// The HTTP status: 2xx, or 304.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// A header's value, if present and text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The service's id of the request (`RCRequestId`), for its support.
    #[must_use]
    pub fn request_id(&self) -> Option<String> {
        request_id(&self.headers)
    }

    /// The body as a `T`.
    ///
    /// # Errors
    /// [`Protocol`](crate::ErrorKind::Protocol) if it is not JSON or not a `T`. The request was
    /// carried out, so the error is [unclear](crate::Error::is_ambiguous).
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| {
            json_error("the answer", &error)
                .with_status(self.status.as_u16())
                .with_request_id(self.request_id())
                .with_ambiguous(true)
        })
    }

    /// The body.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.body
    }

    /// The body as text; invalid UTF-8 becomes `U+FFFD`.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The time of the response by the service's clock (`Date`).
    pub(crate) fn answered_at(&self) -> Option<SystemTime> {
        date(&self.headers).map(SystemTime::from)
    }

    /// When the request was sent, after every wait for a login and for its turn.
    pub(crate) fn sent_at(&self) -> Instant {
        self.sent_at
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

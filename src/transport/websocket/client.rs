//! Calls over a subscription's connection.

use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Serialize;
use tokio::time::Instant;

use super::calls::REPLY_WITHIN;
use super::frame::{self, Reply};
use super::session::{SocketSession, in_time};
use super::socket::Socket;
use super::stats::{Counters, SocketStats};
use crate::error::{Error, ErrorKind, Result};
use crate::http::Answer;
use crate::rest::Response;
use crate::rest::envelope::{Envelope, error_from};
use crate::secret::Secret;

/// The longest deadline a call can have.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Makes REST calls over the connection that a subscription's events come by.
///
/// Saves a connection and its login; the answers and errors are those of
/// [`rest::Client`](crate::rest::Client). What is different: nothing is repeated,
/// the service takes only so many calls at once per connection (the others wait
/// for their turn), and neither files nor `/restapi/oauth/*` go this way.
///
/// Cheap to clone; keeps nothing alive.
#[derive(Clone)]
pub struct SocketClient {
    session: Weak<SocketSession>,
}

impl fmt::Debug for SocketClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketClient").finish_non_exhaustive()
    }
}

impl SocketClient {
    pub(super) fn new(session: Weak<SocketSession>) -> Self {
        Self { session }
    }

    /// Begins a call. `path` begins with `/` and may have a query; segments are
    /// sent as they are: escape your own.
    pub fn request(&self, method: Method, path: &str) -> SocketRequest {
        let call = check(path).map(|()| Call { method, path: path.to_owned(), body: None, deadline: REPLY_WITHIN });
        SocketRequest { client: self.clone(), call }
    }

    /// What came that nobody had asked for.
    #[must_use]
    pub fn stats(&self) -> SocketStats {
        self.session.upgrade().map(|session| Counters::read(&session.counters)).unwrap_or_default()
    }

    async fn run(&self, call: Call) -> Result<Response> {
        let deadline = Instant::now() + call.deadline;
        loop {
            let session = self.session.upgrade().ok_or_else(closed)?;
            let changed = session.changed.notified();
            let socket = session.known().held.iter().rev().find(|held| held.socket.is_usable()).cloned();
            if let Some(held) = socket {
                let socket: &Socket = &held.socket;
                return session.call(socket, &call.method, &call.path, call.body.as_deref(), deadline).await;
            }
            if !in_time(changed, deadline).await {
                return Err(Error::new(ErrorKind::Network, "no connection to the gateway before the deadline"));
            }
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the subscription is over")
}

/// What the gateway passes on.
fn check(path: &str) -> Result<()> {
    let usable = path.starts_with('/') && !path.starts_with("//") && !path.contains(['\\', '#']);
    if !usable || path.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Error::config("a call over the gateway needs a path, escaped, that begins with one /"));
    }
    if path.to_ascii_lowercase().starts_with("/restapi/oauth") {
        return Err(Error::config("the gateway passes no OAuth calls on: make them over HTTPS"));
    }
    Ok(())
}

struct Call {
    method: Method,
    path: String,
    body: Option<String>,
    deadline: Duration,
}

/// One call in the making; from [`SocketClient::request`].
///
/// What is wrong with a value shows when it is sent.
#[must_use = "a call is made by `send`"]
pub struct SocketRequest {
    client: SocketClient,
    call: Result<Call>,
}

impl fmt::Debug for SocketRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No query and no body: either may carry a secret.
        f.debug_struct("SocketRequest").finish_non_exhaustive()
    }
}

impl SocketRequest {
    /// Adds a query parameter; escaped here.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        if let Ok(call) = &mut self.call {
            let mut pair = url::form_urlencoded::Serializer::new(String::new());
            pair.append_pair(name, value);
            call.path.push(if call.path.contains('?') { '&' } else { '?' });
            call.path.push_str(&pair.finish());
        }
        self
    }

    /// Sends `value` as JSON. The gateway takes objects and text only.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        let body = serde_json::to_string(value)
            .map_err(|error| Error::config("the body cannot be written as JSON").with_source(error))
            .and_then(|body| {
                let sendable = frame::is_sendable(&body);
                let refused = || Error::config("the gateway takes a JSON object or a text as body");
                sendable.then_some(body).ok_or_else(refused)
            });
        self.call = self.call.and_then(|call| Ok(Call { body: Some(body?), ..call }));
        self
    }

    /// Within this the call ends, waits included. Default 30 s; at most an hour.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        if let Ok(call) = &mut self.call {
            call.deadline = deadline.min(LONGEST);
        }
        self
    }

    /// Sends it and waits for the reply; for a connection too, while there is none.
    ///
    /// Not cancel safe for calls that change something: a dropped call may have
    /// been carried out.
    ///
    /// # Errors
    /// Any answer but 2xx (and 304); [`Config`](ErrorKind::Config) when a value is
    /// not usable; [`Closed`](ErrorKind::Closed) when the subscription is over;
    /// [`Network`](ErrorKind::Network) and [`Timeout`](ErrorKind::Timeout) when no
    /// reply came. [`Error::is_unclear`] tells whether the service may have carried
    /// it out all the same.
    pub async fn send(self) -> Result<Response> {
        self.client.run(self.call?).await
    }
}

/// The status of a reply; where it says none, what its body says.
pub(super) fn status_of(reply: &Reply) -> u16 {
    let failed = || Envelope::read(reply.body.as_bytes()).code.is_some();
    reply.status.unwrap_or_else(|| if failed() { 400 } else { 200 })
}

/// What a reply of the service is. What quotes one of `secrets` is left out.
pub(super) fn answer(reply: Reply, secrets: &[Secret]) -> Result<Response> {
    let status = status_of(&reply);
    match StatusCode::from_u16(status) {
        Ok(code) if code.is_success() || status == 304 => {
            Ok(Response::new(Answer { status: code, headers: reply.headers, body: Bytes::from(reply.body) }))
        }
        _ => Err(error_of(status, &reply, secrets)),
    }
}

/// The gateway's own refusal of a request.
pub(super) fn refusal(reply: &Reply, secrets: &[Secret]) -> Error {
    error_of(reply.status.unwrap_or(400), reply, secrets)
}

fn error_of(status: u16, reply: &Reply, secrets: &[Secret]) -> Error {
    let secrets: Vec<&str> = secrets.iter().map(Secret::expose).collect();
    error_from(status, &reply.headers, reply.body.as_bytes(), &secrets)
}

//! Calls over a subscription's connection.

use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use http::Method;
use serde::Serialize;
use tokio::time::Instant;

use super::frame;
use super::replies::REPLY_WITHIN;
use super::session::{SocketSession, in_time};
use super::socket::Socket;
use super::stats::{Counters, SocketStats};
use crate::error::{Error, ErrorKind, Result};
use crate::rest::Response;

/// The longest deadline of a call.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Makes REST calls over the connection that carries a subscription's events.
///
/// It saves a connection and its login; the answers and errors are those of [`rest::Client`](crate::rest::Client).
/// There are three differences: no call is repeated; the service limits the concurrent calls per connection, and the
/// others wait; and neither files nor `/restapi/oauth/*` can be sent over the connection.
///
/// Cheap to clone; it does not keep the subscription alive.
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

    /// Begins a call. `path` begins with `/` and may have a query. It is sent unchanged: escape your segments.
    pub fn request(&self, method: Method, path: &str) -> SocketRequest {
        let call = check(path).map(|()| Call { method, path: path.to_owned(), body: None, deadline: REPLY_WITHIN });
        SocketRequest { client: self.clone(), call }
    }

    /// Counts of unsolicited messages.
    #[must_use]
    pub fn stats(&self) -> SocketStats {
        self.session.upgrade().map(|session| Counters::read(&session.counters)).unwrap_or_default()
    }

    async fn run(&self, call: Call) -> Result<Response> {
        let deadline = Instant::now() + call.deadline;
        loop {
            let session = self.session.upgrade().ok_or_else(closed)?;
            let changed = session.changed.notified();
            let socket = session.connections().held.iter().rev().find(|held| held.socket.is_usable()).cloned();
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
    Error::new(ErrorKind::Closed, "the subscription has ended")
}

/// Refuses paths that the gateway does not forward.
fn check(path: &str) -> Result<()> {
    let usable = path.starts_with('/') && !path.starts_with("//") && !path.contains(['\\', '#']);
    if !usable || path.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Error::config("a call over the gateway needs an escaped path that begins with one /"));
    }
    if path.to_ascii_lowercase().starts_with("/restapi/oauth") {
        return Err(Error::config("the gateway does not forward OAuth calls: make them over HTTPS"));
    }
    Ok(())
}

struct Call {
    method: Method,
    path: String,
    body: Option<String>,
    deadline: Duration,
}

/// A call under construction; from [`SocketClient::request`].
///
/// An invalid value becomes an error in [`send`](Self::send).
#[must_use = "a call is made by `send`"]
pub struct SocketRequest {
    client: SocketClient,
    call: Result<Call>,
}

impl fmt::Debug for SocketRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Hides the query and the body: either may carry a secret.
        f.debug_struct("SocketRequest").finish_non_exhaustive()
    }
}

impl SocketRequest {
    /// Adds a query parameter and escapes it.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        if let Ok(call) = &mut self.call {
            let mut pair = url::form_urlencoded::Serializer::new(String::new());
            pair.append_pair(name, value);
            call.path.push(if call.path.contains('?') { '&' } else { '?' });
            call.path.push_str(&pair.finish());
        }
        self
    }

    /// Sends `value` as JSON. The gateway accepts only objects and text.
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

    /// Sets the deadline of the call, waits included. Default 30 s; at most an hour.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        if let Ok(call) = &mut self.call {
            call.deadline = deadline.min(LONGEST);
        }
        self
    }

    /// Sends the call and waits for the reply; without a connection it first waits for one.
    ///
    /// Not cancel safe for calls that change something: the service may have carried out a dropped call.
    ///
    /// # Errors
    /// Any status but 2xx (and 304); [`Config`](ErrorKind::Config) for an invalid value; [`Closed`](ErrorKind::Closed)
    /// when the subscription has ended; [`Network`](ErrorKind::Network) and [`Timeout`](ErrorKind::Timeout) when no
    /// reply arrived. [`Error::is_ambiguous`] says whether the service may have carried out the call nevertheless.
    pub async fn send(self) -> Result<Response> {
        self.client.run(self.call?).await
    }
}

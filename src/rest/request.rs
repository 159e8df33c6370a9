//! The builder of a call.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use serde::Serialize;

use super::call::{Call, LONGEST, resolve};
use super::client::Client;
use super::response::Response;
use crate::error::{Error, Result};
use crate::http::groups::BudgetMode;
use crate::http::retry::Idempotency;

/// The builder of a call; from [`Client::request`].
///
/// Invalid values are reported by `send`.
#[derive(Debug)]
#[must_use = "a call is made by `send`"]
pub struct RequestBuilder {
    client: Client,
    call: Result<Call>,
}

impl Client {
    /// Starts a call. `path` begins with `/` or is a URL on the same server; it may have a query.
    /// Path segments are sent unescaped: escape them yourself.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        RequestBuilder::new(self.clone(), method, path)
    }
}

impl RequestBuilder {
    fn new(client: Client, method: Method, path: &str) -> Self {
        let idempotent = matches!(method, Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS);
        let call = resolve(client.server(), path).map(|url| Call {
            method,
            url,
            headers: HeaderMap::new(),
            body: None,
            repeat: if idempotent { Idempotency::Safe } else { Idempotency::IfUndone },
            mode: BudgetMode::All,
            deadline: client.deadline().min(LONGEST),
        });
        Self { client, call }
    }

    fn with(mut self, change: impl FnOnce(&mut Call) -> Result<()>) -> Self {
        let changed = self.call.as_mut().map(change);
        if let Ok(Err(error)) = changed {
            self.call = Err(error);
        }
        self
    }

    /// Adds a query parameter and escapes it.
    pub fn query(self, name: &str, value: &str) -> Self {
        self.with(|call| {
            call.url.query_pairs_mut().append_pair(name, value);
            Ok(())
        })
    }

    /// Sends `value` as JSON.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Self {
        self.with(|call| {
            let body = serde_json::to_vec(value)
                .map_err(|error| Error::config("the body cannot be written as JSON").with_source(error))?;
            call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            call.body = Some(body.into());
            Ok(())
        })
    }

    /// Sends `bytes` as `content_type`.
    pub fn body(self, bytes: impl Into<Bytes>, content_type: &str) -> Self {
        self.with(|call| {
            let value = HeaderValue::from_str(content_type);
            call.headers.insert(CONTENT_TYPE, value.map_err(|_| Error::config("no usable content type"))?);
            call.body = Some(bytes.into());
            Ok(())
        })
    }

    /// Adds a header. The client sets `Authorization`.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.with(|call| {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error::config("no usable header name"))?;
            if name == AUTHORIZATION {
                return Err(Error::config("the client itself sends the access token"));
            }
            let value = HeaderValue::from_str(value).map_err(|_| Error::config("no usable header value"))?;
            call.headers.append(name, value);
            Ok(())
        })
    }

    /// Whether sending the call twice has the same effect as once. Default by method: yes for GET,
    /// HEAD, PUT, DELETE; no for POST and PATCH. Calls that are not idempotent are retried only if
    /// the service certainly did not carry them out.
    pub fn idempotent(self, yes: bool) -> Self {
        self.repeat(if yes { Idempotency::Safe } else { Idempotency::IfUndone })
    }

    /// Makes only one attempt; the caller decides about others.
    pub(super) fn once(self) -> Self {
        self.repeat(Idempotency::Never)
    }

    /// Waits only for a penalty of its rate group, not for the predicted limit.
    pub(super) fn urgent(self) -> Self {
        self.with(|call| {
            call.mode = BudgetMode::Penalty;
            Ok(())
        })
    }

    fn repeat(self, repeat: Idempotency) -> Self {
        self.with(|call| {
            call.repeat = repeat;
            Ok(())
        })
    }

    /// The deadline of the call, including waits and retries. Default: the client's; at most a day.
    pub fn deadline(self, deadline: Duration) -> Self {
        self.with(|call| {
            call.deadline = deadline.min(LONGEST);
            Ok(())
        })
    }

    /// Sends the call and reads the response.
    ///
    /// Not cancel safe for calls with side effects: a dropped call may have been carried out.
    ///
    /// # Errors
    /// Any response but 2xx (and 304), as described at [`Client`].
    /// [`Config`](crate::ErrorKind::Config) for an invalid value in this builder; nothing was sent
    /// then. [`Error::is_ambiguous`] states whether the service may have carried it out nevertheless.
    pub async fn send(self) -> Result<Response> {
        self.client.run(&self.call?).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{AccessToken, StaticToken};
    use crate::error::ErrorKind;

    fn client() -> Client {
        Client::builder(StaticToken::new(AccessToken::new("t"))).server("https://api.example:8443").build().unwrap()
    }

    #[tokio::test]
    async fn an_unusable_value_is_a_config_error_when_sent() {
        let get = || client().request(Method::GET, "/x");
        for request in [
            client().request(Method::GET, "//evil.example/x"),
            get().header("a b", "c"),
            get().header("a", "b\nc"),
            get().header("authorization", "Bearer mine"),
            get().body("x", "text/\nplain"),
            get().json(&std::collections::HashMap::from([((1, 2), 3)])),
        ] {
            let error = request.query("a", "b").idempotent(true).send().await.unwrap_err();
            assert_eq!((error.kind(), error.is_ambiguous()), (ErrorKind::Config, false));
        }
    }

    #[test]
    fn a_method_is_safe_or_not_unless_overridden() {
        for (method, want) in [
            (Method::GET, Idempotency::Safe),
            (Method::HEAD, Idempotency::Safe),
            (Method::PUT, Idempotency::Safe),
            (Method::DELETE, Idempotency::Safe),
            (Method::POST, Idempotency::IfUndone),
            (Method::PATCH, Idempotency::IfUndone),
        ] {
            assert_eq!(client().request(method, "/x").call.unwrap().repeat, want);
        }
        let post = || client().request(Method::POST, "/x");
        assert_eq!(post().idempotent(true).call.unwrap().repeat, Idempotency::Safe);
        assert_eq!(post().once().call.unwrap().repeat, Idempotency::Never);
        assert_eq!(post().deadline(Duration::MAX).call.unwrap().deadline, LONGEST);
        assert_eq!(post().query("a b", "c&d").call.unwrap().url.query(), Some("a+b=c%26d"));
    }
}

//! The HTTP client of this crate, as a trait.
//!
//! Logins, REST calls, long polls, the WebSocket upgrade, agent sessions and the Send API all use
//! one [`HttpClient`]. The built-in one is [`ReqwestClient`]. Implement another one to use your own
//! HTTP stack, proxy or TLS, or to replace the network with a test double. It is set once, as part
//! of a [`System`](crate::System).
//!
//! An implementation sends one request and returns the response as it arrives. The crate handles
//! deadlines, size limits, redirects, decompression and retries above the trait, so that they are
//! the same for every implementation.
//!
//! Another proxy, other root certificates or another resolver need no implementation:
//! [`ReqwestClient::configured`] takes reqwest's settings.
//!
//! # Implementing it
//!
//! A client for tests that answers each request from a function:
//!
//! ```
//! use async_trait::async_trait;
//! use http::{HeaderMap, StatusCode};
//! use ringcentral_events::auth::{AccessToken, StaticToken};
//! use ringcentral_events::http::{HttpClient, HttpError, HttpRequest, HttpResponse};
//! use ringcentral_events::{Client, System};
//!
//! #[derive(Debug)]
//! struct Canned;
//!
//! #[async_trait]
//! impl HttpClient for Canned {
//!     async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
//!         assert_eq!(request.url().path(), "/restapi/v1.0/account/~/extension/~");
//!         Ok(HttpResponse::whole(StatusCode::OK, HeaderMap::new(), r#"{"id":7}"#))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> ringcentral_events::Result<()> {
//! let tokens = StaticToken::new(AccessToken::new("a token"));
//! let client = Client::builder(tokens).system(System::new().with_http(Canned)).build()?;
//! let answer = client.request(http::Method::GET, "/restapi/v1.0/account/~/extension/~").send().await?;
//! assert_eq!(answer.json::<serde_json::Value>()?["id"], 7);
//! # Ok(())
//! # }
//! ```

mod bounded;
pub(crate) mod budget;
mod builtin;
pub(crate) mod classify;
pub(crate) mod codes;
#[cfg(feature = "websocket")]
pub(crate) mod dials;
pub(crate) mod envelope;
mod exchange;
pub(crate) mod groups;
pub(crate) mod loopback;
pub(crate) mod retry;

pub(crate) use bounded::{Answer, BoundedClient, Redirects, segment, server_url};
#[cfg(feature = "websocket")]
pub(crate) use bounded::{UNREACHABLE, authority};
pub use budget::RateBudget;
pub use builtin::ReqwestClient;
pub use exchange::{ByteStream, HttpBody, HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpResponse, Purpose};
pub(crate) use exchange::{PRODUCTION, USER_AGENT};

//! RingCentral's REST API, as far as events need it, and a client for any other call with the same
//! rules.

mod call;
mod client;
pub(crate) mod control;
mod me;
mod message;
pub(crate) mod request;
mod response;

pub use client::{Client, ClientBuilder};
pub use control::RestControl;
pub use http::Method;
pub use me::CurrentUser;
pub use message::{SentCard, SentPost, SentSms};
pub use request::RequestBuilder;
pub use response::Response;

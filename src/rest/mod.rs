//! RingCentral's REST API, as far as events need it, and a client for any other call with the same
//! rules.

pub(crate) mod budget;
mod classify;
mod client;
pub(crate) mod control;
pub(crate) mod envelope;
mod message;
mod reading;
pub(crate) mod request;
mod response;
pub(crate) mod retry;
mod subscription;

#[cfg(feature = "agent")]
pub(crate) use {
    client::bearer,
    envelope::{date, retry_after},
};

pub use budget::RateBudget;
pub(crate) use classify::refuses_login;
pub use client::{Client, ClientBuilder};
pub use control::RestControl;
pub use http::Method;
pub use message::{SentPost, SentSms};
pub use request::RequestBuilder;
pub(crate) use request::segment;
pub use response::Response;
pub use subscription::{
    BlacklistedData, ControlPlane, CreateSubscription, Deletion, DeliveryMode, DisabledFilter, SocketToken,
    SubscriptionInfo, SubscriptionStatus,
};

/// Production, for API and OAuth alike.
pub(crate) const PRODUCTION: &str = "https://platform.ringcentral.com";

pub(crate) const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

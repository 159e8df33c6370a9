//! RingCentral's REST API, as far as events need it, and a client for any other call with the same
//! rules.

mod client;
pub(crate) mod control;
mod message;
mod reading;
pub(crate) mod request;
mod response;
mod subscription;

pub use client::{Client, ClientBuilder};
pub use control::RestControl;
pub use http::Method;
pub use message::{SentPost, SentSms};
pub use request::RequestBuilder;
pub use response::Response;
pub use subscription::{
    BlacklistedData, ControlPlane, CreateSubscription, Deletion, DeliveryMode, SocketToken, SubscriptionInfo,
    SubscriptionStatus,
};

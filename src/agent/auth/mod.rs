//! The service's token providers.
//!
//! | Type | For | Credentials |
//! | --- | --- | --- |
//! | [`CentralTokens`] | the legacy Central token service | an app's name, a user's password |
//! | [`AccessKeys`] | UserHub | an access key |
//! | [`CxOneTokens`] | CXone's global authentication | an access key and a client's id and secret |
//!
//! Each is a [`TokenProvider`](crate::auth::TokenProvider): it logs in at the first call, renews before the token
//! ends, and says where sessions are served. Any other provider does as well, with
//! [`base_url`](super::AgentSessionBuilder::base_url).

mod central;
mod cxone;
mod exchange;
mod keeper;
mod urls;
mod user_hub;

pub use central::{CentralTokens, CentralTokensBuilder};
pub use cxone::{CxOneTokens, CxOneTokensBuilder};
pub use user_hub::{AccessKeys, AccessKeysBuilder};

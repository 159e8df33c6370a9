//! Authentication: access tokens and their sources.
//!
//! A [`TokenProvider`] supplies the token for each call. [`OAuth`] logs in and maintains the
//! session; [`StaticToken`] and [`TokenFn`] supply tokens that are managed elsewhere.

mod assertion;
mod builder;
mod code;
mod environment;
mod external;
mod flight;
mod grant;
mod oauth;
mod session;
mod store;
mod token;
#[cfg(test)]
mod wiping_tests;

pub use builder::OAuthBuilder;
pub use code::AuthorizationRequest;
pub use external::{StaticToken, TokenFn};
pub use oauth::OAuth;
pub use store::{FileTokenStore, MemoryTokenStore, StoreLock, StoredTokens, TokenStore};
pub(crate) use token::bearer;
pub use token::{AccessToken, TokenProvider};

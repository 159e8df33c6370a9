//! Your app as a source that Engage Digital (since 2024 RingCX Digital) polls.
//!
//! The platform calls a URL of yours about every minute with signed actions, such as
//! `messages.list` and `messages.create`. Both directions are signed with the
//! channel's API access token; see [`Signer`].

mod signature;

pub use signature::{InvalidSignature, SIGNATURE_HEADER, SIGNATURE_QUERY, Signer};

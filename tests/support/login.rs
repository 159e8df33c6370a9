//! Logins at a sandbox.

use ringcentral_events::auth::{OAuthBuilder, TokenStore};
use ringcentral_events::{Client, OAuth};
use ringcentral_sandbox::Sandbox;

use super::common::ms;

pub(crate) fn oauth(sandbox: &Sandbox) -> OAuth {
    login(sandbox).build().unwrap()
}

/// A login with this token store.
pub(crate) fn oauth_with(sandbox: &Sandbox, tokens: impl TokenStore) -> OAuth {
    login(sandbox).store(tokens).build().unwrap()
}

fn login(sandbox: &Sandbox) -> OAuthBuilder {
    OAuth::jwt(sandbox.client_id(), sandbox.jwt())
        .client_secret(sandbox.client_secret())
        .server(sandbox.base_url())
        .repeat_pause(ms(50))
}

pub(crate) fn client(sandbox: &Sandbox) -> Client {
    Client::builder(oauth(sandbox)).build().unwrap()
}

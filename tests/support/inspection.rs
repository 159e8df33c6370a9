//! The secrets of a subscription's life, and all texts of `Debug` and errors.

use std::collections::BTreeSet;
use std::fmt::{Debug, Write as _};

use ringcentral_events::{Delivery, Error, Subscription};
use ringcentral_sandbox::Sandbox;

use super::subscribing::{STORE, next};

/// A word in every payload.
pub(crate) const CONTENT: &str = "pay10ad";

/// The secrets, and the texts that are shown.
#[derive(Default)]
pub(crate) struct Inspection {
    pub(crate) secrets: BTreeSet<String>,
    pub(crate) shown: String,
}

impl Inspection {
    /// Records the present secrets and those that were used before.
    pub(crate) fn learn(&mut self, sandbox: &Sandbox) {
        for held in sandbox.subscriptions() {
            self.secrets.extend([held.address.expose().to_owned(), held.subscriber_key.expose().to_owned()]);
            self.secrets.extend(held.encryption_key.map(|key| key.expose().to_owned()));
        }
        for request in sandbox.requests() {
            let bearer = request.authorization().map(|header| header.expose().split_once(' ').unwrap().1.to_owned());
            self.secrets.extend(bearer);
            self.secrets.extend(["access_token", "wsc"].into_iter().filter_map(|name| request.query(name)));
            self.secrets.extend(request.form("refresh_token"));
        }
        self.secrets.extend([sandbox.jwt(), sandbox.client_secret()].map(|secret| secret.expose().to_owned()));
        self.secrets.insert(CONTENT.to_owned());
        // A subscription over the gateway has no channel.
        self.secrets.remove("");
    }

    pub(crate) fn show(&mut self, what: &dyn Debug) {
        write!(self.shown, "\n{what:?}\n{what:#?}").unwrap();
    }

    /// Records the texts of an error and its causes.
    pub(crate) fn show_error(&mut self, error: &Error) {
        self.show(error);
        let mut next: Option<&dyn std::error::Error> = Some(error);
        while let Some(error) = next {
            write!(self.shown, "\n{error}").unwrap();
            next = error.source();
        }
    }

    pub(crate) fn show_all(&mut self, subscription: &Subscription) {
        self.show(subscription);
        self.show(&subscription.status().current());
        self.show(&subscription.handle());
        self.show(&subscription.shutdown_handle());
        let token = subscription.resume_token();
        self.show(&token);
        write!(self.shown, "\n{}", token.unwrap()).unwrap();
        if let Some(error) = subscription.status().current().last_error {
            self.show_error(&error);
        }
    }

    pub(crate) async fn next(&mut self, subscription: &mut Subscription) -> Delivery {
        let delivery = next(subscription).await;
        self.show(&delivery);
        delivery
    }

    /// Causes an event and reads up to it.
    pub(crate) async fn event(&mut self, sandbox: &Sandbox, subscription: &mut Subscription) {
        sandbox.trigger_json(STORE, &format!(r#"{{"text":"{CONTENT}"}}"#)).unwrap();
        while !matches!(self.next(subscription).await, Delivery::Notification(_)) {}
        self.learn(sandbox);
        self.show_all(subscription);
    }

    /// Asserts that none of these texts, nor those of `Debug` and errors, contains a secret.
    pub(crate) fn assert_hidden(&self, logs: [(&str, &String); 2]) {
        for (place, text) in logs.into_iter().chain([("Debug and errors", &self.shown)]) {
            for secret in &self.secrets {
                if let Some(at) = text.find(secret.as_str()) {
                    let from = text[..at].rfind('\n').map_or(0, |line| line);
                    panic!("{place} shows a secret: {}", &text[from..(at + secret.len()).min(text.len())]);
                }
            }
        }
    }
}

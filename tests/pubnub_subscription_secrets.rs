//! What a whole life of a subscription writes to the logs at any level, by
//! `tracing` and by `log`, and what `Debug` and errors show: no secret.
//!
//! One test, since loggers are for the whole process.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod capture;
mod support;

use std::collections::BTreeSet;
use std::fmt::{Debug, Write as _};

use capture::Capture;
use ringcentral_events::rest::{Client, Method};
use ringcentral_events::{Delivery, OnDrop, Phase, Subscription};
use ringcentral_sandbox::{Encryption, Fault, Operation, Rotation, Sandbox, Service, Target};
use support::*;

/// A word in every payload.
const CONTENT: &str = "pay10ad";

/// What must not be seen, and what is shown.
#[derive(Default)]
struct Inspection {
    secrets: BTreeSet<String>,
    shown: String,
}

impl Inspection {
    /// Notes the secrets that there are now.
    fn learn(&mut self, sandbox: &Sandbox) {
        for held in sandbox.subscriptions() {
            self.secrets.extend([held.address.expose().to_owned(), held.subscriber_key.expose().to_owned()]);
            self.secrets.extend(held.encryption_key.map(|key| key.expose().to_owned()));
        }
        for request in sandbox.requests() {
            let bearer = request.authorization().map(|header| header.expose().split_once(' ').unwrap().1.to_owned());
            self.secrets.extend(bearer);
            self.secrets.extend(request.form("refresh_token"));
        }
        self.secrets.extend([sandbox.jwt(), sandbox.client_secret()].map(|secret| secret.expose().to_owned()));
        self.secrets.insert(CONTENT.to_owned());
    }

    fn show(&mut self, what: &dyn Debug) {
        write!(self.shown, "\n{what:?}\n{what:#?}").unwrap();
    }

    /// Everything that an error and its causes say.
    fn show_error(&mut self, error: &ringcentral_events::Error) {
        self.show(error);
        let mut next: Option<&dyn std::error::Error> = Some(error);
        while let Some(error) = next {
            write!(self.shown, "\n{error}").unwrap();
            next = error.source();
        }
    }

    fn show_all(&mut self, subscription: &Subscription) {
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

    async fn next(&mut self, subscription: &mut Subscription) -> Delivery {
        let delivery = next(subscription).await;
        self.show(&delivery);
        delivery
    }
}

async fn event(sandbox: &Sandbox, subscription: &mut Subscription, inspection: &mut Inspection) {
    sandbox.trigger_json(STORE, &format!(r#"{{"text":"{CONTENT}"}}"#)).unwrap();
    while !matches!(inspection.next(subscription).await, Delivery::Notification(_)) {}
    inspection.learn(sandbox);
    inspection.show_all(subscription);
}

#[tokio::test]
async fn a7_no_log_no_debug_and_no_error_shows_a_secret() {
    let (ours, others) = (Capture::default(), Capture::default());
    tracing::subscriber::set_global_default(ours.clone()).unwrap();
    log::set_boxed_logger(Box::new(others.clone())).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let mut inspection = Inspection::default();

    let sandbox = quick()
        .knobs(|knobs| (knobs.encryption, knobs.send_secret_key) = (Encryption::Always, true))
        .start()
        .await
        .unwrap();
    let oauth = oauth(&sandbox);
    let client = Client::builder(oauth.clone()).build().unwrap();
    let transport = pubnub(&sandbox).poll_deadline(ms(900)).build().unwrap();
    let builder = subscribe(&client, transport.clone()).on_drop(OnDrop::Delete);
    inspection.show(&(&oauth, &client, &transport, &builder));
    let mut subscription = start(builder).await;
    inspection.learn(&sandbox);
    inspection.show(&(&sandbox, sandbox.subscriptions()));
    event(&sandbox, &mut subscription, &mut inspection).await;

    // Payloads that cannot be read.
    let id = subscription.id().unwrap();
    for data in [format!("\"{CONTENT}\""), format!(r#"["{CONTENT}"]"#), format!("\"{}\"", "QUFB".repeat(8))] {
        sandbox.publish_raw(&id, &data).unwrap();
        assert!(matches!(inspection.next(&mut subscription).await, Delivery::Undecodable(_)));
    }
    // A link in all sorts of trouble, with answers that quote its address.
    let (address, key) = {
        let held = sandbox.subscriptions().remove(0);
        (held.address.expose().to_owned(), held.subscriber_key.expose().to_owned())
    };
    let quoting =
        format!(r#"{{"error":true,"status":500,"message":"{address} {key}","payload":{{"channels":["{address}"]}}}}"#);
    for fault in [
        Fault::status(500).body(quoting.clone()),
        Fault::status(200).body(quoting.clone()),
        Fault::status(429).header("Retry-After", "0").body(quoting.clone()),
        Fault::status(302).header("Location", format!("http://127.0.0.1:9/{address}")),
        Fault::cut_json(),
        Fault::close(),
        Fault::reset_mid_body(),
        Fault::hang(),
    ] {
        let fault = sandbox.faults().inject(Target::Subscribe, fault);
        sandbox.trigger_json(STORE, &format!(r#"{{"text":"{CONTENT}"}}"#)).unwrap();
        assert!(sandbox.faults().wait_hits(fault, 1, SOON).await);
        inspection.show_all(&subscription);
        event(&sandbox, &mut subscription, &mut inspection).await;
    }
    sandbox.take_down(Service::PubNub).await;
    soon(subscription.status().wait_for(|status| status.failed_attempts >= 2)).await.unwrap();
    inspection.show_all(&subscription);
    sandbox.bring_up(Service::PubNub).await;

    // Everything new with a renewal; a token that expired; trouble with the login.
    let handle = subscription.handle();
    assert!(sandbox.rotate_on_renew(&id, Rotation::ALL));
    sandbox.expire_access_tokens();
    sandbox.faults().inject(Operation::Token, Fault::status(503).body(sandbox.jwt().expose().to_owned()));
    soon(handle.revalidate()).await.unwrap();
    assert!(sandbox.wait_requests(Operation::Renew, 2, SOON).await);
    event(&sandbox, &mut subscription, &mut inspection).await;

    // An API that quotes what it was sent.
    let bearer = sandbox.requests_to(Operation::Renew).pop().unwrap().authorization().unwrap().clone();
    let bearer = bearer.expose();
    for operation in [Operation::Update, Operation::OtherApi] {
        let quoted = serde_json::json!({"errorCode": "CMN-101", "message": bearer, "errors": []});
        sandbox.faults().inject(operation, Fault::status(400).body(quoted.to_string()));
    }
    inspection.show_error(&soon(handle.update_filters([filter(STORE)])).await.unwrap_err());
    let path = "/restapi/v1.0/account/~/extension/~";
    inspection.show_error(&soon(client.request(Method::GET, path).send()).await.unwrap_err());
    inspection.learn(&sandbox);

    // Refused, recreated, and closed. The link to the former address lingers, and
    // may be the first that is refused.
    sandbox.faults().inject(Target::Subscribe, Fault::status(403).body(quoting).times(2));
    replaced(&sandbox, &subscription, &id).await;
    event(&sandbox, &mut subscription, &mut inspection).await;
    phase(&subscription, Phase::Live).await;
    let closed = soon(subscription.close()).await;
    inspection.show(&closed);
    soon(oauth.revoke()).await.unwrap();
    inspection.learn(&sandbox);
    // A client that is refused.
    let body = format!(r#"{{"error":"invalid_grant","error_description":"{}"}}"#, sandbox.jwt().expose());
    sandbox.faults().inject(Operation::Token, Fault::status(400).body(body).until_cleared());
    let mut refused = subscribe(&client, transport).start().await;
    inspection.show_error(refused.as_mut().unwrap_err());
    inspection.show(&(&oauth, &client));
    assert!(sandbox.requests().iter().any(|request| request.operation == Operation::Revoke));

    let (ours, others) = (ours.text(), others.text());
    // The loggers were heard at all, down to the lowest level.
    assert!(ours.contains("TRACE ringcentral_events::") && ours.contains("DEBUG ringcentral_events::"), "{ours}");
    assert!(others.contains("hyper") || others.contains("reqwest"), "{others}");
    assert!(inspection.secrets.len() >= 12, "{} secrets", inspection.secrets.len());
    for (place, text) in [("tracing", &ours), ("log", &others), ("Debug and errors", &inspection.shown)] {
        for secret in &inspection.secrets {
            if let Some(at) = text.find(secret.as_str()) {
                let from = text[..at].rfind('\n').map_or(0, |line| line);
                panic!("{place} shows a secret: {}", &text[from..(at + secret.len()).min(text.len())]);
            }
        }
    }
    // What is not logged cannot leak by an encoding either: no URL of PubNub.
    for text in [&ours, &others, &inspection.shown] {
        assert!(!text.contains("/v2/subscribe/sub-c-"), "{text}");
    }
}

//! What a whole life of a WebSocket subscription, with faults in it, writes to the
//! logs at any level, by `tracing` and by `log`, and what `Debug` and errors show: no
//! login, no token of the gateway and none of its sessions, and no payload.
//!
//! One test, since loggers are for the whole process.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod capture;
mod support;

use std::collections::BTreeSet;
use std::fmt::{Debug, Write as _};
use std::sync::Arc;

use capture::Capture;
use ringcentral_events::rest::{Client, ControlPlane, CreateSubscription, Method, RestControl};
use ringcentral_events::transport::{Transport as _, WebSocket};
use ringcentral_events::{Delivery, Error, Phase, Subscription};
use ringcentral_sandbox::{AuthRefusal, Fault, Operation, Sandbox, Service, WscRotation};
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
    /// Notes the secrets that were used until now.
    fn learn(&mut self, sandbox: &Sandbox) {
        for request in sandbox.requests() {
            let bearer = request.authorization().map(|header| header.expose().split_once(' ').unwrap().1.to_owned());
            self.secrets.extend(bearer);
            self.secrets.extend(["access_token", "wsc"].into_iter().filter_map(|name| request.query(name)));
            self.secrets.extend(request.form("refresh_token"));
        }
        self.secrets.extend([sandbox.jwt(), sandbox.client_secret()].map(|secret| secret.expose().to_owned()));
        self.secrets.insert(CONTENT.to_owned());
    }

    fn show(&mut self, what: &dyn Debug) {
        write!(self.shown, "\n{what:?}\n{what:#?}").unwrap();
    }

    /// Everything that an error and its causes say.
    fn show_error(&mut self, error: &Error) {
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
        let token = subscription.resume_token().unwrap();
        write!(self.shown, "\n{token} {token:?}").unwrap();
        if let Some(error) = subscription.status().current().last_error {
            self.show_error(&error);
        }
    }

    /// Lets an event happen and reads up to it.
    async fn event(&mut self, sandbox: &Sandbox, subscription: &mut Subscription) {
        sandbox.trigger_json(STORE, &format!(r#"{{"text":"{CONTENT}"}}"#)).unwrap();
        loop {
            let delivery = next(subscription).await;
            self.show(&delivery);
            if matches!(delivery, Delivery::Notification(_)) {
                break;
            }
        }
        self.learn(sandbox);
        self.show_all(subscription);
    }
}

#[tokio::test]
async fn a7_no_log_no_debug_and_no_error_shows_a_secret_of_the_gateway() {
    let (ours, others) = (Capture::default(), Capture::default());
    tracing::subscriber::set_global_default(ours.clone()).unwrap();
    log::set_boxed_logger(Box::new(others.clone())).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let mut inspection = Inspection::default();

    let sandbox = quick()
        .knobs(|knobs| {
            knobs.gateway.wsc_rotation = WscRotation::Notifications;
            // Told, so that many connections may be made.
            let limits = &mut knobs.rate_limits;
            (limits.headers, limits.auth, limits.medium, limits.light) = (true, 100_000, 100_000, 100_000);
        })
        .start()
        .await
        .unwrap();
    let client = Client::builder(oauth(&sandbox)).build().unwrap();
    let transport =
        WebSocket::builder().ping_after(ms(300)).answer_within(ms(300)).dial_pause(ms(100)).build().unwrap();
    let builder = subscribe(&client, transport.clone());
    inspection.show(&(&client, &transport, &builder));
    let mut subscription = start(builder).await;
    inspection.event(&sandbox, &mut subscription).await;
    inspection.show(&sandbox);

    // What cannot be read.
    let id = subscription.id().unwrap();
    for text in ["pay10ad", "[{\"type\":\"ServerNotification\"},pay10ad]", "[{\"type\":\"pay10ad\",\"wsc\":7}]"] {
        assert_eq!(sandbox.send_frame(Some(&id), text), 1);
    }
    inspection.event(&sandbox, &mut subscription).await;

    // Connections that break, go silent, or are refused with what was sent quoted.
    let quoted = |sandbox: &Sandbox| {
        let last = sandbox.requests_to(Operation::Upgrade).pop().unwrap();
        let bearer = sandbox.requests_to(Operation::WsToken).pop().unwrap();
        let bearer = bearer.authorization().unwrap().expose().to_owned();
        format!("{} {:?} {bearer}", last.query("access_token").unwrap(), last.query("wsc"))
    };
    for operation in [Operation::WsToken, Operation::Upgrade] {
        for fault in [Fault::status(503), Fault::status(200), Fault::status(302), Fault::close(), Fault::reset()] {
            let text = quoted(&sandbox);
            let fault = sandbox.faults().inject(operation, fault.body(text));
            sandbox.reset_connections(Service::Gateway);
            assert!(sandbox.faults().wait_hits(fault, 1, SOON).await);
            inspection.show_all(&subscription);
            inspection.event(&sandbox, &mut subscription).await;
        }
    }
    // What happens before it is noticed may be lost.
    sandbox.black_hole_connections(Service::Gateway);
    while !matches!(next(&mut subscription).await, Delivery::Gap(_)) {}
    inspection.event(&sandbox, &mut subscription).await;

    // A session that is lost.
    sandbox.revoke_sessions();
    sandbox.reset_connections(Service::Gateway);
    replaced(&sandbox, &subscription, &id).await;
    inspection.event(&sandbox, &mut subscription).await;
    phase(&subscription, Phase::Live).await;
    inspection.show(&soon(subscription.close()).await);

    // A call over a connection, which quotes what that was opened with.
    let outer: Arc<dyn ControlPlane> = Arc::new(RestControl::new(client.clone()));
    let session = transport.session(&outer).unwrap();
    let request = CreateSubscription::new(vec![STORE.into()], transport.delivery_mode());
    let made = soon(session.control.create(&request)).await.unwrap();
    // It never saw the login itself.
    let token = sandbox.requests_to(Operation::Upgrade).pop().unwrap().query("access_token").unwrap();
    let body = serde_json::json!({"errorCode": "CMN-101", "message": format!("bad {token}")});
    let fault = sandbox.faults().inject(Operation::OtherApi, Fault::status(400).body(body.to_string()));
    let call = session.socket.as_ref().unwrap().request(Method::GET, "/restapi/v1.0/account/~/extension/~");
    inspection.show(&(&session, &call));
    inspection.show_error(&soon(call.send()).await.unwrap_err());
    assert_eq!(sandbox.faults().hits(fault), 1);
    soon(session.control.delete(&made.id)).await.unwrap();

    // A start that is refused.
    sandbox.knobs(|knobs| {
        (knobs.gateway.refusal, knobs.gateway.wstoken_ttl) = (AuthRefusal::Close4400, ms(0));
    });
    let error = soon(subscribe(&client, transport).start()).await.unwrap_err();
    inspection.show_error(&error);
    inspection.learn(&sandbox);

    let (ours, others) = (ours.text(), others.text());
    // The loggers were heard at all.
    assert!(ours.contains("DEBUG ringcentral_events::transport::websocket"), "{ours}");
    assert!(others.contains("hyper") || others.contains("reqwest"), "{others}");
    assert!(inspection.secrets.len() >= 20, "{} secrets", inspection.secrets.len());
    for (place, text) in [("tracing", &ours), ("log", &others), ("Debug and errors", &inspection.shown)] {
        for secret in &inspection.secrets {
            if let Some(at) = text.find(secret.as_str()) {
                let from = text[..at].rfind('\n').map_or(0, |line| line);
                panic!("{place} shows a secret: {}", &text[from..(at + secret.len()).min(text.len())]);
            }
        }
        assert!(!text.contains("access_token=") && !text.contains("wsc="), "{place} shows an address");
    }
}

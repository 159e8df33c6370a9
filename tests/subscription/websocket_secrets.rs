//! The logs of a WebSocket subscription's whole life, with faults, at every level, by `tracing` and by `log`, and the
//! texts of `Debug` and errors: they show no login, no token of the gateway or its sessions, and no payload.
//!
//! In a separate process, since loggers are global to the process.

use std::sync::Arc;

use crate::support::capture::Capture;
use crate::support::inspection::Inspection;
use crate::support::process::ran_alone;
use crate::support::subscribing::*;
use ringcentral_events::control::{ControlPlane, CreateSubscription};
use ringcentral_events::rest::{Client, Method, RestControl};
use ringcentral_events::transport::{SocketClient, Transport as _, WebSocket};
use ringcentral_events::{Delivery, Phase};
use ringcentral_sandbox::{AuthRefusal, Fault, Operation, Sandbox, Service, WscRotation};

#[tokio::test]
async fn a7_no_log_no_debug_and_no_error_shows_a_secret_of_the_gateway() {
    if ran_alone(module_path!(), "a7_no_log_no_debug_and_no_error_shows_a_secret_of_the_gateway").await {
        return;
    }
    let (ours, others) = Capture::install();
    let mut inspection = Inspection::default();

    let sandbox = quick()
        .behavior(|behavior| {
            behavior.gateway.wsc_rotation = WscRotation::Notifications;
            // Announced, so that many connections may be made.
            let limits = &mut behavior.rate_limits;
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

    // Undecodable payloads.
    let id = subscription.id().unwrap();
    for text in ["pay10ad", "[{\"type\":\"ServerNotification\"},pay10ad]", "[{\"type\":\"pay10ad\",\"wsc\":7}]"] {
        assert_eq!(sandbox.send_frame(Some(&id), text), 1);
    }
    inspection.event(&sandbox, &mut subscription).await;

    // Connections that break, fall silent, or are refused with the request quoted.
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
    // Events before the detection may be lost.
    sandbox.blackhole_connections(Service::Gateway);
    while !matches!(next(&mut subscription).await, Delivery::Gap(_)) {}
    inspection.event(&sandbox, &mut subscription).await;

    // A lost session.
    sandbox.revoke_sessions();
    sandbox.reset_connections(Service::Gateway);
    replaced(&sandbox, &subscription, &id).await;
    inspection.event(&sandbox, &mut subscription).await;
    phase(&subscription, Phase::Live).await;
    inspection.show(&soon(subscription.close()).await);

    // A call over a connection whose answer quotes the opening request.
    let outer: Arc<dyn ControlPlane> = Arc::new(RestControl::new(client.clone()));
    let session = transport.bind(&outer).unwrap();
    let request = CreateSubscription::new(vec![STORE.into()], transport.delivery_mode());
    let made = soon(session.control.create(&request)).await.unwrap();
    // The connection never saw the login itself.
    let token = sandbox.requests_to(Operation::Upgrade).pop().unwrap().query("access_token").unwrap();
    let body = serde_json::json!({"errorCode": "CMN-101", "message": format!("bad {token}")});
    let fault = sandbox.faults().inject(Operation::OtherApi, Fault::status(400).body(body.to_string()));
    let call = session
        .caller
        .as_ref()
        .unwrap()
        .downcast_ref::<SocketClient>()
        .unwrap()
        .request(Method::GET, "/restapi/v1.0/account/~/extension/~");
    inspection.show(&(&session, &call));
    inspection.show_error(&soon(call.send()).await.unwrap_err());
    assert_eq!(sandbox.faults().hits(fault), 1);
    soon(session.control.delete(&made.id)).await.unwrap();

    // A refused start.
    sandbox.behavior(|behavior| {
        (behavior.gateway.refusal, behavior.gateway.wstoken_ttl) = (AuthRefusal::Close4400, ms(0));
    });
    let error = soon(subscribe(&client, transport).start()).await.unwrap_err();
    inspection.show_error(&error);
    inspection.learn(&sandbox);

    let (ours, others) = (ours.text(), others.text());
    // The loggers captured something.
    assert!(ours.contains("DEBUG ringcentral_events::transport::websocket"), "{ours}");
    assert!(others.contains("hyper") || others.contains("reqwest"), "{others}");
    assert!(inspection.secrets.len() >= 20, "{} secrets", inspection.secrets.len());
    inspection.assert_hidden([("tracing", &ours), ("log", &others)]);
    for text in [&ours, &others, &inspection.shown] {
        assert!(!text.contains("access_token=") && !text.contains("wsc="), "an address is shown: {text}");
    }
}

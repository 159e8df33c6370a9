//! The logs of a subscription's whole life at every level, by `tracing` and by `log`, and the texts of `Debug` and
//! errors: they show no secret.
//!
//! In a separate process, since loggers are global to the process.

use crate::support::capture::Capture;
use crate::support::inspection::{CONTENT, Inspection};
use crate::support::process::ran_alone;
use crate::support::subscribing::*;
use ringcentral_events::rest::{Client, Method};
use ringcentral_events::{Delivery, OnDrop, Phase};
use ringcentral_sandbox::{Encryption, Fault, Operation, Rotation, Service, Target};

#[tokio::test]
async fn a7_no_log_no_debug_and_no_error_shows_a_secret() {
    if ran_alone(module_path!(), "a7_no_log_no_debug_and_no_error_shows_a_secret").await {
        return;
    }
    let (ours, others) = Capture::install();
    let mut inspection = Inspection::default();

    let sandbox = quick()
        .behavior(|behavior| (behavior.encryption, behavior.send_secret_key) = (Encryption::Always, true))
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
    inspection.event(&sandbox, &mut subscription).await;

    // Undecodable payloads.
    let id = subscription.id().unwrap();
    for data in [format!("\"{CONTENT}\""), format!(r#"["{CONTENT}"]"#), format!("\"{}\"", "QUFB".repeat(8))] {
        sandbox.publish_raw(&id, &data).unwrap();
        assert!(matches!(inspection.next(&mut subscription).await, Delivery::Undecodable(_)));
    }
    // A link with many faults, whose answers quote its address.
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
        inspection.event(&sandbox, &mut subscription).await;
    }
    sandbox.stop_service(Service::PubNub).await;
    soon(subscription.status().wait_for(|status| status.failed_attempts >= 2)).await.unwrap();
    inspection.show_all(&subscription);
    sandbox.start_service(Service::PubNub).await;

    // A renewal that changes everything; an expired token; login errors.
    let handle = subscription.handle();
    assert!(sandbox.rotate_on_renew(&id, Rotation::ALL));
    sandbox.expire_access_tokens();
    sandbox.faults().inject(Operation::Token, Fault::status(503).body(sandbox.jwt().expose().to_owned()));
    soon(handle.revalidate()).await.unwrap();
    assert!(sandbox.wait_requests(Operation::Renew, 2, SOON).await);
    inspection.event(&sandbox, &mut subscription).await;

    // An API that quotes the request.
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

    // Refused, recreated, and closed. The link to the former address lingers, and may be refused first.
    sandbox.faults().inject(Target::Subscribe, Fault::status(403).body(quoting).times(2));
    replaced(&sandbox, &subscription, &id).await;
    inspection.event(&sandbox, &mut subscription).await;
    phase(&subscription, Phase::Live).await;
    let closed = soon(subscription.close()).await;
    inspection.show(&closed);
    soon(oauth.revoke()).await.unwrap();
    inspection.learn(&sandbox);
    // A refused client.
    let body = format!(r#"{{"error":"invalid_grant","error_description":"{}"}}"#, sandbox.jwt().expose());
    sandbox.faults().inject(Operation::Token, Fault::status(400).body(body).until_cleared());
    let mut refused = subscribe(&client, transport).start().await;
    inspection.show_error(refused.as_mut().unwrap_err());
    inspection.show(&(&oauth, &client));
    assert!(sandbox.requests().iter().any(|request| request.operation == Operation::Revoke));

    let (ours, others) = (ours.text(), others.text());
    // The loggers captured something, down to the lowest level.
    assert!(ours.contains("TRACE ringcentral_events::") && ours.contains("DEBUG ringcentral_events::"), "{ours}");
    assert!(others.contains("hyper") || others.contains("reqwest"), "{others}");
    assert!(inspection.secrets.len() >= 12, "{} secrets", inspection.secrets.len());
    inspection.assert_hidden([("tracing", &ours), ("log", &others)]);
    // A text that is not logged cannot leak in any encoding: no URL of PubNub.
    for text in [&ours, &others, &inspection.shown] {
        assert!(!text.contains("/v2/subscribe/sub-c-"), "{text}");
    }
}

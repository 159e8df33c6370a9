//! The paved path: log in, subscribe, poll, receive, renew, delete.

use crate::support::bare::*;
use reqwest::Method;
use ringcentral_sandbox::{Fixture, Operation, Sandbox};
use serde_json::json;

#[tokio::test]
async fn a_bot_logs_in_subscribes_receives_renews_and_deletes() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let info = client
        .create_with(
            &[&format!("{STORE}/instant?type=SMS"), STORE],
            json!({ "transportType": "PubNub", "encryption": true }),
        )
        .await
        .1;
    assert_eq!(info["expiresIn"], 899);
    assert_eq!(info["deliveryMode"]["encryptionAlgorithm"], "AES");
    let id = info["id"].as_str().unwrap();

    let mut cursor = Cursor::start();
    assert!(client.next(&info, &mut cursor).await.is_empty(), "a handshake has no messages");
    let uuids = sandbox.trigger(&Fixture::inbound_sms("+16505550100", "ping"));
    assert_eq!(uuids.len(), 2, "the instant event and the hint");
    let messages = client.next(&info, &mut cursor).await;
    let notifications: Vec<_> = messages.iter().map(|message| notification(&info, message)).collect();
    assert_eq!(notifications[0]["uuid"], uuids[0]);
    assert_eq!(notifications[0]["body"]["subject"], "ping");
    assert_eq!(notifications[0]["subscriptionId"], id);
    assert_eq!(
        notifications[0]["event"],
        "/restapi/v1.0/account/100200300/extension/100200301/message-store/instant?type=SMS"
    );
    assert_eq!(notifications[1]["event"], "/restapi/v1.0/account/100200300/extension/100200301/message-store");
    assert_eq!(notifications[1]["body"]["changes"][0]["newCount"], 1);
    assert!(client.next(&info, &mut cursor).await.is_empty(), "the hold ends without a message");

    let (status, renewed) = client.call(Method::POST, &format!("{SUBSCRIPTION}/{id}/renew"), None).await;
    assert_eq!((status, &renewed["deliveryMode"]), (200, &info["deliveryMode"]));
    let (status, _) = client.call(Method::DELETE, &format!("{SUBSCRIPTION}/{id}"), None).await;
    assert_eq!(status, 204);
    assert!(sandbox.wait_subscriptions(0, SOON).await);
    let (status, gone) = client.call(Method::POST, &format!("{SUBSCRIPTION}/{id}/renew"), None).await;
    assert_eq!((status, &gone["errors"][0]["errorCode"]), (404, &json!("CMN-102")));

    let log = sandbox.requests_to(Operation::Poll);
    assert_eq!(log.len(), 2);
    assert!(log.iter().all(|record| record.status == Some(200)));
    let login = &sandbox.requests_to(Operation::Token)[0];
    assert_eq!(login.headers["authorization"], "(redacted)");
}

#[tokio::test]
async fn a_poll_that_waits_is_woken_by_a_message() {
    let sandbox = Sandbox::start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let info = client.subscribed(&["/team-messaging/v1/posts"]).await;
    let mut cursor = Cursor::start();
    client.next(&info, &mut cursor).await;
    let poll = tokio::spawn(client.poll(&info, &cursor).send());
    assert!(sandbox.wait_open_polls(1, SOON).await);
    sandbox.trigger_all(&[Fixture::team_post("one"), Fixture::team_post("two")]);
    let (_, answer) = body(poll.await.unwrap().unwrap()).await;
    let texts: Vec<_> = answer["m"].as_array().unwrap().iter().map(|m| &m["d"]["body"]["text"]).collect();
    assert_eq!(texts, ["one", "two"]);
    assert!(sandbox.wait_open_polls(0, SOON).await);
}

#[tokio::test]
async fn a_poll_that_is_dropped_is_no_longer_open() {
    let sandbox = Sandbox::start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let info = client.subscribed(&[STORE]).await;
    let mut cursor = Cursor::start();
    client.next(&info, &mut cursor).await;
    let poll = tokio::spawn(client.poll(&info, &cursor).send());
    assert!(sandbox.wait_open_polls(1, SOON).await);
    poll.abort();
    assert!(sandbox.wait_open_polls(0, SOON).await);
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let builder = quick().credentials("app", "client-hush", "jwt-hush");
    let mut shown = format!("{builder:?}");
    let sandbox = builder.start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let info = client.subscribed(&["/restapi/v1.0/account/~/extension/~/presence"]).await;
    let mut cursor = Cursor::start();
    client.next(&info, &mut cursor).await;
    shown += &format!("{sandbox:?} {:?} {:?} {:?}", sandbox.faults(), sandbox.subscriptions(), sandbox.gauges());
    shown += &format!("{:?}", sandbox.requests_to(Operation::Token));
    assert!(shown.contains("Token POST /restapi/oauth/token -> 200"), "{shown}");
    let mode = &info["deliveryMode"];
    for secret in ["client-hush", "jwt-hush", &client.token, mode["encryptionKey"].as_str().unwrap()] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(!shown.contains(mode["address"].as_str().unwrap()), "{shown}");
}

#[tokio::test]
async fn stopping_frees_the_ports() {
    let sandbox = Sandbox::start().await.unwrap();
    let addresses = [sandbox.base_url(), sandbox.pubnub_origin()].map(|url| url["http://".len()..].to_owned());
    sandbox.stop().await;
    for address in addresses {
        assert!(tokio::net::TcpStream::connect(&address).await.is_err());
        drop(tokio::net::TcpListener::bind(&address).await.unwrap());
    }
}

#[test]
fn a_sandbox_can_be_dropped_outside_its_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let sandbox = runtime.block_on(Sandbox::start()).unwrap();
    drop(sandbox);
    let late = runtime.block_on(Sandbox::start()).unwrap();
    drop(runtime);
    drop(late);
}

//! Every fault affects a client as documented.

use std::time::Duration;

use crate::support::bare::*;
use reqwest::Method;
use ringcentral_events::SubscriptionId;
use ringcentral_sandbox::{Fault, Fixture, Operation, Rotation, Sandbox, Service, Target};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn address(url: &str) -> &str {
    url.strip_prefix("http://").unwrap()
}

/// Sends a GET by hand; returns the socket.
async fn raw_get(origin: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address(origin)).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    stream
}

/// Reads to the end or to an error.
async fn drain(stream: &mut TcpStream) -> (Vec<u8>, Option<std::io::ErrorKind>) {
    let mut bytes = Vec::new();
    let error = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes)).await.unwrap().err();
    (bytes, error.map(|error| error.kind()))
}

async fn listening() -> (Sandbox, Client, Value, Cursor) {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let info = client.subscribed(&["/team-messaging/v1/posts"]).await;
    let mut cursor = Cursor::start();
    client.next(&info, &mut cursor).await;
    (sandbox, client, info, cursor)
}

fn texts(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["d"]["body"]["text"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn statuses_with_their_headers_and_bodies() {
    let (sandbox, client, info, cursor) = listening().await;
    for (fault, status, want) in [
        (Fault::status(503), 503, ""),
        (Fault::status(500).body("{\"error\":true}"), 500, "{\"error\":true}"),
        (Fault::html(500), 500, "<!DOCTYPE html>"),
        (Fault::html(200), 200, "<!DOCTYPE html>"),
        (Fault::status(429).header("Retry-After", "3"), 429, ""),
        (Fault::status(403), 403, ""),
    ] {
        sandbox.faults().inject(Target::Subscribe, fault);
        let answer = client.poll(&info, &cursor).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(answer.headers().contains_key("retry-after"), status == 429);
        let text = answer.text().await.unwrap();
        assert!(text.starts_with(want) && text.is_empty() == want.is_empty(), "{text}");
    }
    sandbox.faults().inject(Operation::Renew, Fault::code(401, "OAU-128").times(2));
    let path = format!("{SUBSCRIPTION}/{}/renew", info["id"].as_str().unwrap());
    for want in [401, 401, 200] {
        let (status, answer) = client.call(Method::POST, &path, None).await;
        assert_eq!(status, want);
        assert_eq!(answer["errors"][0]["errorCode"] == "OAU-128", want == 401);
    }
}

#[tokio::test]
async fn cut_json_is_a_complete_response_with_half_a_body() {
    let (sandbox, client, info, mut cursor) = listening().await;
    sandbox.trigger(&Fixture::team_post("kept"));
    sandbox.faults().inject(Operation::Poll, Fault::cut_json());
    let answer = client.poll(&info, &cursor).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let text = answer.text().await.unwrap();
    assert!(text.starts_with(r#"{"t":{"t":""#) && serde_json::from_str::<Value>(&text).is_err(), "{text}");
    assert_eq!(texts(&client.next(&info, &mut cursor).await), ["kept"], "the same cursor finds it again");
}

#[tokio::test]
async fn close_ends_the_connection_before_the_first_byte() {
    let sandbox = quick().start().await.unwrap();
    sandbox.faults().inject(Operation::Time, Fault::close());
    let (bytes, _) = drain(&mut raw_get(sandbox.pubnub_origin(), "/time/0").await).await;
    assert!(bytes.is_empty());
    let answer = http().get(format!("{}/time/0", sandbox.pubnub_origin())).send().await.unwrap();
    let now: Vec<u64> = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(now[0].to_string().len(), 17);
}

#[tokio::test]
async fn a_reset_comes_in_the_middle_of_the_body() {
    let (sandbox, client, info, mut cursor) = listening().await;
    sandbox.trigger(&Fixture::team_post(&*"x".repeat(300_000)));
    sandbox.faults().inject(Operation::Poll, Fault::reset_mid_body());
    let path = client.poll(&info, &cursor).build().unwrap();
    let target = format!("{}?{}", path.url().path(), path.url().query().unwrap());
    let (bytes, error) = drain(&mut raw_get(sandbox.pubnub_origin(), &target).await).await;
    assert_eq!(error, Some(std::io::ErrorKind::ConnectionReset));
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    // A reset also discards data that the kernel had not sent yet.
    assert!(length > 300_000 && (1..=length / 2).contains(&body.len()), "{} of {length}", body.len());
    assert_eq!(client.next(&info, &mut cursor).await.len(), 1);
}

#[tokio::test]
async fn hang_never_answers_and_sees_the_client_go() {
    let (sandbox, client, info, cursor) = listening().await;
    sandbox.trigger(&Fixture::team_post("waiting"));
    let fault = sandbox.faults().inject(Operation::Poll, Fault::hang());
    let before = sandbox.gauges().pubnub_connections;
    let path = client.poll(&info, &cursor).build().unwrap();
    let stream =
        raw_get(sandbox.pubnub_origin(), &format!("{}?{}", path.url().path(), path.url().query().unwrap())).await;
    assert!(sandbox.faults().wait_hits(fault, 1, SOON).await);
    assert_eq!(sandbox.gauges().pubnub_connections, before + 1);
    drop(stream);
    let gone = async {
        while sandbox.gauges().pubnub_connections > before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, gone).await.unwrap();
    assert_eq!(sandbox.requests_to(Operation::Poll).last().unwrap().status, None);
}

#[tokio::test]
async fn a_black_hole_takes_effect_but_stays_silent() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    sandbox.faults().inject(Operation::Create, Fault::blackhole());
    let create = tokio::spawn({
        let filters = json!({ "eventFilters": [STORE], "deliveryMode": { "transportType": "PubNub" } });
        client.request(Method::POST, SUBSCRIPTION, Some(&filters)).send()
    });
    assert!(sandbox.wait_subscriptions(1, SOON).await, "the create has its effect");
    assert!(!create.is_finished());
    create.abort();
    let (status, list) = Client { http: http(), ..client }.get(SUBSCRIPTION).await;
    assert_eq!((status, list["records"].as_array().unwrap().len()), (200, 1));
}

#[tokio::test]
async fn an_answer_can_be_lost_after_its_effect() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    sandbox.faults().inject(Operation::Create, Fault::status(502).after_effect());
    assert_eq!(client.create(&[STORE]).await.0, 502);
    assert_eq!(sandbox.subscriptions().len(), 1);
    sandbox.faults().inject(Operation::Create, Fault::close().after_effect());
    let filters = json!({ "eventFilters": [STORE], "deliveryMode": { "transportType": "PubNub" } });
    assert!(client.request(Method::POST, SUBSCRIPTION, Some(&filters)).send().await.is_err());
    assert_eq!(sandbox.subscriptions().len(), 2);
}

#[tokio::test]
async fn a_drip_is_slow_and_whole() {
    let (sandbox, client, info, mut cursor) = listening().await;
    sandbox.trigger(&Fixture::team_post("drop by drop"));
    sandbox.faults().inject(Operation::Poll, Fault::drip(64, Duration::from_millis(2)));
    assert_eq!(texts(&client.next(&info, &mut cursor).await), ["drop by drop"]);
    sandbox.faults().inject(Operation::Poll, Fault::delay(Duration::from_millis(5)));
    assert!(client.next(&info, &mut cursor).await.is_empty());
}

#[tokio::test]
async fn a_server_goes_down_and_comes_back_on_its_port_with_its_queue() {
    let (sandbox, client, info, mut cursor) = listening().await;
    for round in ["first", "second"] {
        sandbox.stop_service(Service::PubNub).await;
        assert_eq!(sandbox.gauges().pubnub_connections, 0);
        let refused = TcpStream::connect(address(sandbox.pubnub_origin())).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        sandbox.trigger(&Fixture::team_post(round));
        assert_eq!(client.get(SUBSCRIPTION).await.0, 200, "the other server stays");
        sandbox.start_service(Service::PubNub).await;
        assert_eq!(texts(&client.next(&info, &mut cursor).await), [round]);
    }
    sandbox.stop_service_for(Service::Api, Duration::from_secs(30)).await;
    assert!(client.request(Method::GET, SUBSCRIPTION, None).send().await.is_err());
    sandbox.advance(Duration::from_secs(30));
    let back = async {
        while client.request(Method::GET, SUBSCRIPTION, None).send().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, back).await.unwrap();
}

#[tokio::test]
async fn open_connections_can_be_reset_closed_and_muted() {
    let (sandbox, client, info, cursor) = listening().await;
    sandbox.behavior(|behavior| behavior.hold = Duration::from_secs(60));
    for reset in [true, false] {
        let poll = tokio::spawn(client.poll(&info, &cursor).send());
        assert!(sandbox.wait_open_polls(1, SOON).await);
        if reset {
            sandbox.reset_connections(Service::PubNub);
        } else {
            sandbox.close_connections(Service::PubNub);
        }
        assert!(poll.await.unwrap().is_err());
        assert!(sandbox.wait_open_polls(0, SOON).await);
    }
    let mut poll = tokio::spawn(client.poll(&info, &cursor).send());
    assert!(sandbox.wait_open_polls(1, SOON).await);
    sandbox.blackhole_connections(Service::PubNub);
    assert!(sandbox.wait_open_polls(0, SOON).await, "no client listens any more");
    sandbox.trigger(&Fixture::team_post("into the void"));
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut poll).await.is_err(), "but nothing comes");
    let mut cursor = cursor.clone();
    assert_eq!(texts(&Client { http: http(), ..client }.next(&info, &mut cursor).await), ["into the void"]);
    poll.abort();
}

#[tokio::test]
async fn deliveries_are_duplicated_swapped_lost_and_delayed() {
    let (sandbox, client, info, mut cursor) = listening().await;
    let post = |text: &str| sandbox.trigger(&Fixture::team_post(text));
    sandbox.faults().duplicate_next(1);
    post("twice");
    let messages = client.next(&info, &mut cursor).await;
    assert_eq!(texts(&messages), ["twice", "twice"]);
    assert_eq!(messages[0]["d"]["uuid"], messages[1]["d"]["uuid"]);
    assert_ne!(messages[0]["p"]["t"], messages[1]["p"]["t"]);
    sandbox.faults().swap_next(1);
    sandbox.trigger_all(&["a", "b", "c"].map(Fixture::team_post));
    assert_eq!(texts(&client.next(&info, &mut cursor).await), ["b", "a", "c"]);
    sandbox.faults().lose_next(1);
    sandbox.trigger_all(&["lost", "found"].map(Fixture::team_post));
    assert_eq!(texts(&client.next(&info, &mut cursor).await), ["found"]);
    sandbox.faults().delay_next(1, Duration::from_secs(60));
    sandbox.trigger_all(&["late", "early"].map(Fixture::team_post));
    assert_eq!(texts(&client.next(&info, &mut cursor).await), ["early"]);
    sandbox.advance(Duration::from_secs(60));
    assert_eq!(texts(&client.next(&info, &mut cursor).await), ["late"]);
}

#[tokio::test]
async fn odd_payloads_are_sent_unchanged() {
    let (sandbox, client, info, mut cursor) = listening().await;
    let id = SubscriptionId::new(info["id"].as_str().unwrap());
    sandbox.publish_raw(&id, r#""!! no base64 !!""#).unwrap();
    sandbox.publish_raw(&id, r#"{"plain":  1e400}"#).unwrap();
    sandbox.publish_envelope(&id, r#"{"c":"x"}"#).unwrap();
    sandbox.publish_envelope(&id, "42").unwrap();
    let answer = client.poll(&info, &cursor).send().await.unwrap().text().await.unwrap();
    assert!(answer.contains(r#""d":"!! no base64 !!""#) && answer.contains(r#""d":{"plain":  1e400}"#), "{answer}");
    assert!(answer.ends_with(r#",{"c":"x"},42]}"#), "{answer}");
    let token = answer.split('"').nth(5).unwrap();
    cursor.timetoken = token.into();
    sandbox.publish_raw(&id, "{ broken").unwrap();
    let answer = client.poll(&info, &cursor).send().await.unwrap().text().await.unwrap();
    assert!(serde_json::from_str::<Value>(&answer).is_err());
    assert!(sandbox.publish_raw(&"nobody".into(), "1").is_err());
}

#[tokio::test]
async fn subscriptions_expire_rotate_and_change_status_on_demand() {
    let (sandbox, client, info, mut cursor) = listening().await;
    let id = SubscriptionId::new(info["id"].as_str().unwrap());
    let renew = format!("{SUBSCRIPTION}/{id}/renew");
    assert!(sandbox.rotate_on_renew(&id, Rotation::ADDRESS));
    sandbox.trigger(&Fixture::team_post("old channel"));
    assert_eq!(client.next(&info, &mut cursor).await.len(), 1);
    let moved = client.call(Method::POST, &renew, None).await.1;
    assert_ne!(moved["deliveryMode"]["address"], info["deliveryMode"]["address"]);
    assert_eq!(moved["deliveryMode"]["subscriberKey"], info["deliveryMode"]["subscriberKey"]);
    let again = client.call(Method::POST, &renew, None).await.1;
    assert_eq!(again["deliveryMode"], moved["deliveryMode"], "once only");
    assert!(sandbox.rotate(&id, Rotation::SUBSCRIBER_KEY));
    sandbox.trigger(&Fixture::team_post("new key"));
    let view = client.get(&format!("{SUBSCRIPTION}/{id}")).await.1;
    assert_ne!(view["deliveryMode"]["subscriberKey"], moved["deliveryMode"]["subscriberKey"]);
    assert_eq!(texts(&client.next(&view, &mut cursor).await), ["new key"], "an old cursor works with the new key");
    assert!(sandbox.set_status(&id, "Suspended"));
    assert!(sandbox.trigger(&Fixture::team_post("nobody")).is_empty());
    let other = client.subscribed(&["/team-messaging/v1/posts"]).await;
    let forgotten = SubscriptionId::new(other["id"].as_str().unwrap());
    assert!(sandbox.forget(&forgotten) && !sandbox.forget(&forgotten));
    let (status, answer) = client.get(&format!("{SUBSCRIPTION}/{forgotten}")).await;
    assert_eq!((status, &answer["errors"][0]["errorCode"]), (404, &json!("SUB-507")));
    assert!(sandbox.expire(&id) && !sandbox.expire(&id) && !sandbox.rotate(&id, Rotation::KEY));
    assert_eq!(client.call(Method::POST, &renew, None).await.0, 404);
}

#[tokio::test]
async fn rotating_the_key_of_an_encrypted_subscription_changes_only_the_key() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    sandbox.behavior(|behavior| behavior.rotate_on_renew = Some(Rotation::KEY));
    let info = client.subscribed(&[PRESENCE]).await;
    let path = format!("{SUBSCRIPTION}/{}/renew", info["id"].as_str().unwrap());
    let (before, after) = (&info["deliveryMode"], &client.call(Method::POST, &path, None).await.1["deliveryMode"]);
    assert_eq!(before["address"], after["address"]);
    assert!(after["encryptionKey"].is_string() && before["encryptionKey"] != after["encryptionKey"]);
}

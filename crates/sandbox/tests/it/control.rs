//! The sandbox over HTTP, as a program in another language drives it.

use crate::support::bare::*;
use reqwest::Method;
use ringcentral_sandbox::{Operation, Sandbox};
use serde_json::{Value, json};

struct Control {
    http: reqwest::Client,
    base: String,
}

impl Control {
    fn of(sandbox: &Sandbox) -> Self {
        Self { http: http(), base: sandbox.base_url().to_owned() }
    }

    async fn call(&self, method: Method, path: &str, json: Value) -> (u16, Value) {
        let request = self.http.request(method, format!("{}/_sandbox/{path}", self.base)).body(json.to_string());
        body(request.send().await.unwrap()).await
    }

    async fn post(&self, path: &str, json: Value) -> Value {
        let (status, answer) = self.call(Method::POST, path, json).await;
        assert!(status == 200 || status == 204, "{path} {status} {answer}");
        answer
    }

    async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, Value::Null).await.1
    }
}

#[tokio::test]
async fn events_faults_and_state_over_http() {
    let sandbox = quick().start().await.unwrap();
    let control = Control::of(&sandbox);
    let client = Client::login(&sandbox).await;
    let info = client
        .create_with(&[STORE, "/team-messaging/v1/posts"], json!({ "transportType": "PubNub", "encryption": true }))
        .await
        .1;
    let id = info["id"].as_str().unwrap();
    let mut cursor = Cursor::start();
    client.next(&info, &mut cursor).await;

    let uuids = control.post("trigger", json!({ "fixture": "inbound_sms", "text": "hi", "count": 2 })).await;
    assert_eq!(uuids["uuids"].as_array().unwrap().len(), 2, "the store's hint; no filter matches the instant event");
    control.post("trigger", json!({ "event": STORE, "body": { "n": 1 } })).await;
    let plain = json!({ "uuid": "u", "event": "/x", "body": {} }).to_string();
    control.post("publish", json!({ "subscription": id, "encrypt": plain })).await;
    control.post("publish", json!({ "subscription": id, "data": "{\"as\":\"is\"}" })).await;
    let messages = client.next(&info, &mut cursor).await;
    assert_eq!(notification(&info, &messages[2])["body"]["n"], 1);
    assert_eq!(notification(&info, &messages[3])["uuid"], "u");
    assert_eq!(messages[4]["d"], json!({ "as": "is" }));

    let fault = control
        .post("faults", json!({ "target": { "operation": "renew" }, "fault": { "kind": "status", "status": 503 } }))
        .await;
    let renew = format!("{SUBSCRIPTION}/{id}/renew");
    assert_eq!(client.call(Method::POST, &renew, None).await.0, 503);
    assert_eq!(control.get(&format!("faults/{}", fault["id"])).await["hits"], 1);
    control.post(&format!("subscriptions/{id}/rotate"), json!({ "what": { "key": true }, "on_renew": true })).await;
    let renewed = client.call(Method::POST, &renew, None).await.1;
    assert_ne!(renewed["deliveryMode"]["encryptionKey"], info["deliveryMode"]["encryptionKey"]);

    let state = control.get("state").await;
    assert_eq!(state["subscriptions"][0]["encryption_key"], renewed["deliveryMode"]["encryptionKey"]);
    assert_eq!((&state["gauges"]["sessions"], &state["subscriptions"][0]["renewals"]), (&json!(1), &json!(1)));
    let records = control.get("requests?target=subscriptions").await;
    let operations: Vec<&str> =
        records["records"].as_array().unwrap().iter().map(|r| r["operation"].as_str().unwrap()).collect();
    assert_eq!(operations, ["create", "renew", "renew"]);
    let after = &records["records"][1]["sequence"];
    let later = control.get(&format!("requests?after={after}&target=%7B%22operation%22%3A%22renew%22%7D")).await;
    assert_eq!(later["records"].as_array().unwrap().len(), 1);
    assert!(!records.to_string().contains(&client.token));
    assert!(sandbox.requests().iter().all(|record| !record.path().starts_with("/_sandbox")));

    control.post(&format!("subscriptions/{id}/expire"), Value::Null).await;
    assert_eq!(client.call(Method::POST, &renew, None).await.0, 404);
    control.post("tokens/expire", Value::Null).await;
    assert_eq!(client.get(SUBSCRIPTION).await.0, 401);
}

#[tokio::test]
async fn settings_clock_servers_and_deliveries_over_http() {
    let sandbox = quick().start().await.unwrap();
    let control = Control::of(&sandbox);
    let (status, behavior) =
        control.call(Method::PATCH, "behavior", json!({ "ring": 300, "rate_limits": { "light": 7 } })).await;
    assert_eq!((status, &behavior["ring"], &behavior["rate_limits"]["light"]), (200, &json!(300), &json!(7)));
    assert_eq!(behavior["hold"], 200, "other behavior stay");
    assert_eq!(control.call(Method::PATCH, "behavior", json!({ "rign": 1 })).await.0, 400);
    assert_eq!(control.get("behavior").await["ring"], 300);

    let client = Client::login(&sandbox).await;
    let info = client.subscribed(&["/team-messaging/v1/posts"]).await;
    let mut cursor = Cursor::start();
    client.next(&info, &mut cursor).await;
    control.post("deliveries", json!({ "kind": "duplicate" })).await;
    control.post("servers/pubnub", json!({ "down_ms": 3_600_000 })).await;
    let down = async { while client.poll(&info, &cursor).send().await.is_ok() {} };
    tokio::time::timeout(SOON, down).await.unwrap();
    control.post("trigger", json!({ "fixture": "team_post", "text": "queued" })).await;
    control.post("servers/pubnub", json!({})).await;
    let up = async { while client.poll(&info, &cursor).send().await.is_err() {} };
    tokio::time::timeout(SOON, up).await.unwrap();
    assert_eq!(client.next(&info, &mut cursor).await.len(), 2);
    control.post("advance", json!({ "ms": 901_000 })).await;
    assert!(sandbox.subscriptions().is_empty());
    control.post("servers/api", json!({ "down_ms": 3_600_000 })).await;
    let connect = || tokio::net::TcpStream::connect(sandbox.base_url().strip_prefix("http://").unwrap());
    let gone = async { while connect().await.is_ok() {} };
    tokio::time::timeout(SOON, gone).await.unwrap();
    sandbox.advance(std::time::Duration::from_secs(3600));
    let back = async { while connect().await.is_err() {} };
    tokio::time::timeout(SOON, back).await.unwrap();
    assert_eq!(http().get(sandbox.base_url()).send().await.unwrap().status().as_u16(), 401);
    assert!(sandbox.wait_requests(Operation::OtherApi, 1, SOON).await);
}

#[tokio::test]
async fn mistakes_are_reported() {
    let sandbox = quick().start().await.unwrap();
    let control = Control::of(&sandbox);
    for (path, json, want) in [
        ("nothing", json!({}), 404),
        ("trigger", json!({ "fixture": "sunrise" }), 400),
        ("trigger", json!({ "fixture": "fax", "count": 99_999 }), 400),
        ("faults", json!({ "target": "any", "fault": { "kind": "magic" } }), 400),
        ("publish", json!({ "subscription": "nobody", "data": "1" }), 404),
        ("servers/mars", json!({}), 400),
        ("connections/api", json!({ "action": "reset" }), 400),
        ("subscriptions/nobody/expire", json!({}), 404),
    ] {
        let (status, answer) = control.call(Method::POST, path, json).await;
        assert_eq!(status, want, "{path}");
        assert!(answer["error"].is_string(), "{path}");
    }
    let page = http().get(format!("{}/_sandbox/state", sandbox.base_url())).header("origin", "https://evil.example");
    assert_eq!(page.send().await.unwrap().status().as_u16(), 403);
}

/// The names that the documentation of the control API gives.
#[tokio::test]
async fn a_black_hole_is_named_as_documented() {
    let sandbox = quick().start().await.unwrap();
    let control = Control::of(&sandbox);
    let fault = json!({ "target": "any", "fault": { "kind": "blackhole" } });
    assert!(control.post("faults", fault).await["id"].is_u64());
    control.post("connections/pubnub", json!({ "action": "blackhole" })).await;
}

//! The gateway's control API, for programs in other languages.

use crate::support::bare::*;
use crate::support::gateway::*;
use reqwest::Method;
use ringcentral_sandbox::Sandbox;
use serde_json::{Value, json};

async fn post(sandbox: &Sandbox, path: &str, json: Value) -> Value {
    let request = http().post(format!("{}/_sandbox/{path}", sandbox.base_url())).body(json.to_string());
    let (status, answer) = body(request.send().await.unwrap()).await;
    assert!(status == 200 || status == 204, "{path} {status} {answer}");
    answer
}

async fn get(sandbox: &Sandbox, path: &str) -> Value {
    body(http().get(format!("{}/_sandbox/{path}", sandbox.base_url())).send().await.unwrap()).await.1
}

#[tokio::test]
async fn settings_faults_frames_and_state_over_http() {
    let sandbox = quick().start().await.unwrap();
    let patch =
        json!({ "gateway": { "recovery_buffer_size": 7, "recovery_timeout": 30_000, "refusal": "status_401" } });
    let request = http().patch(format!("{}/_sandbox/behavior", sandbox.base_url())).body(patch.to_string());
    let (status, behavior) = body(request.send().await.unwrap()).await;
    assert_eq!(
        (status, &behavior["gateway"]["recovery_buffer_size"], &behavior["gateway"]["idle_timeout"]),
        (200, &json!(7), &json!(1_800_000))
    );
    assert_eq!(upgrade(&sandbox, "access_token=x").await.err(), Some(401));

    let client = Client::login(&sandbox).await;
    let (mut socket, details) = connect(&sandbox, &client).await;
    assert_eq!((&details[1]["recoveryBufferSize"], &details[1]["recoveryTimeout"]), (&json!(7), &json!(30)));
    let id = socket.subscribed(&[POSTS]).await;
    let state = get(&sandbox, "state").await;
    assert_eq!(state["gauges"]["open_sockets"], 1);
    assert_eq!(
        (&state["subscriptions"][0]["transport"], &state["subscriptions"][0]["connected"]),
        (&json!("WebSocket"), &json!(true))
    );

    let sent = post(&sandbox, "frames", json!({ "subscription": id, "text": "{]" })).await;
    assert_eq!((&sent["sockets"], socket.text().await.as_str()), (&json!(1), "{]"));
    assert_eq!(post(&sandbox, "frames", json!({ "text": "[]" })).await["sockets"], 1);
    assert_eq!(socket.text().await, "[]");
    let missing = http().post(format!("{}/_sandbox/frames", sandbox.base_url()));
    let missing = missing.body(json!({ "subscription": "nobody", "text": "" }).to_string());
    assert_eq!(missing.send().await.unwrap().status().as_u16(), 404);

    for (kind, want) in [
        (json!({ "kind": "error_frame", "code": "WSG-808" }), "\"WSG-808\""),
        (json!({ "kind": "garbage", "text": "what?" }), "what?"),
        (json!({ "kind": "padded", "bytes": 5000 }), "  ]"),
        (json!({ "kind": "boundary" }), "--Boundary"),
    ] {
        post(&sandbox, "faults", json!({ "target": "gateway", "fault": kind })).await;
        socket.ask("GET", SUBSCRIPTION, None).await;
        let text = socket.text().await;
        assert!(text.contains(want), "{kind}: {text}");
    }
    post(&sandbox, "faults", json!({ "target": { "operation": "notification" }, "fault": { "kind": "twice" } })).await;
    let uuids = post(&sandbox, "trigger", json!({ "fixture": "team_post" })).await;
    for _ in 0..2 {
        assert_eq!(socket.frame().await[0]["messageId"], uuids["uuids"][0]);
    }
    let target = json!({ "operation": "socket_heartbeat" });
    post(&sandbox, "faults", json!({ "target": target, "fault": { "kind": "close_code", "code": 4001 } })).await;
    socket.send(&json!([{ "type": "Heartbeat", "messageId": 1 }])).await;
    assert_eq!(socket.closed().await, Some(4001));
    let beats = get(&sandbox, "requests?target=%7B%22operation%22%3A%22socket_heartbeat%22%7D").await;
    assert_eq!(beats["records"][0]["service"], "gateway");
}

#[tokio::test]
async fn connections_and_the_server_are_cut_over_http() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let (mut socket, details) = connect(&sandbox, &client).await;
    socket.subscribed(&[POSTS]).await;
    post(&sandbox, "connections/gateway", json!({ "action": "reset" })).await;
    assert_eq!(socket.closed().await, None);
    post(&sandbox, "servers/gateway", json!({ "down_ms": 3_600_000 })).await;
    let address = sandbox.gateway_url()["ws://".len()..].trim_end_matches("/ws").to_owned();
    let down = async { while tokio::net::TcpStream::connect(&address).await.is_ok() {} };
    tokio::time::timeout(SOON, down).await.unwrap();
    post(&sandbox, "trigger", json!({ "fixture": "team_post", "text": "meanwhile" })).await;
    post(&sandbox, "servers/gateway", json!({})).await;
    let up = async { while tokio::net::TcpStream::connect(&address).await.is_err() {} };
    tokio::time::timeout(SOON, up).await.unwrap();
    let (mut socket, _) = resume(&sandbox, &client, wsc(&details)).await;
    assert_eq!(socket.posts(1).await, ["meanwhile"]);
    assert_eq!(client.call(Method::GET, SUBSCRIPTION, None).await.0, 200);
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let token = ws_token(&client).await;
    let mut socket = upgrade(&sandbox, &format!("access_token={token}")).await.unwrap();
    let details = socket.frame().await;
    socket.subscribed(&[POSTS]).await;
    let shown = format!("{sandbox:?} {:?} {:?} {:?}", sandbox.requests(), sandbox.subscriptions(), sandbox.gauges());
    assert!(shown.contains("Upgrade GET /ws -> 101"), "{shown}");
    for secret in [token.as_str(), wsc(&details)] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

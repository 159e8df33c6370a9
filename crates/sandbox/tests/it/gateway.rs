//! The paved path of the gateway: token, socket, subscription, events, heartbeat.

use crate::support::bare::*;
use crate::support::gateway::*;
use reqwest::Method;
use ringcentral_sandbox::{AuthRefusal, Fixture, Operation, Sandbox, Service, TimeFormat, Transport};
use serde_json::{Value, json};

const ACCOUNT: &str = "/restapi/v1.0/account/100200300/extension/100200301";

#[tokio::test]
async fn a_bot_connects_subscribes_receives_and_deletes() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let (status, token) = client.call(Method::POST, WSTOKEN, None).await;
    assert_eq!((status, &token["uri"], &token["expires_in"]), (200, &json!(sandbox.gateway_url()), &json!(30)));

    let (mut socket, details) = connect(&sandbox, &client).await;
    let id = details[0]["messageId"].as_str().unwrap().to_owned();
    assert_eq!(details[0]["headers"], json!({ "RCRequestId": id }));
    assert_eq!((&details[0]["status"], &details[0]["wsc"]["sequence"]), (&json!(200), &json!(1)));
    let created = details[1]["creationTime"].as_str().unwrap();
    assert!(created.ends_with("+0000"), "{created}");
    assert_eq!(
        details[1],
        json!({
            "creationTime": created, "maxConnectionsPerSession": 50, "recoveryBufferSize": 100, "recoveryTimeout": 180,
            "idleTimeout": 1800, "absoluteTimeout": 86400, "maxActiveRequests": 10,
        })
    );

    let answer = socket.create(&[&format!("{STORE}/instant?type=SMS"), POSTS]).await;
    let meta = &answer[0];
    assert_eq!((&meta["type"], &meta["status"]), (&json!("ClientRequest"), &json!(200)));
    assert_eq!(meta["headers"]["RCRequestId"], format!("{id}-1"));
    assert_eq!(meta["headers"]["X-Rate-Limit-Group"], "medium");
    assert_eq!(meta["headers"]["RoutingKey"], "SBX01");
    assert!(meta["headers"]["Content-Type"].as_str().unwrap().starts_with("application/json"));
    assert_eq!(meta["headers"]["WSG-SubscriptionId"], Value::Null);
    let info = &answer[1];
    let subscription = info["id"].as_str().unwrap();
    assert_eq!(info["uri"], format!("{SUBSCRIPTION}/{subscription}"));
    assert_eq!(info["deliveryMode"], json!({ "transportType": "WebSocket", "encryption": false }));
    assert_eq!((&info["expiresIn"], &info["status"]), (&json!(86399), &json!("Active")));
    assert_eq!(info["eventFilters"], json!([format!("{ACCOUNT}/message-store/instant?type=SMS"), POSTS]));

    let uuids = sandbox.trigger(&Fixture::inbound_sms("+16505550100", "ping"));
    let event = socket.frame().await;
    assert_eq!((&event[0]["type"], &event[0]["status"]), (&json!("ServerNotification"), &json!(200)));
    assert_eq!((&event[0]["messageId"], &event[1]["uuid"]), (&json!(uuids[0]), &json!(uuids[0])));
    assert!(event[0]["headers"]["RCRequestId"].is_string());
    assert_eq!((&event[1]["subscriptionId"], &event[1]["body"]["subject"]), (&json!(subscription), &json!("ping")));
    socket.beat().await;

    let gone = socket.call("DELETE", &format!("{SUBSCRIPTION}/{subscription}"), None).await;
    assert_eq!((&gone[0]["status"], gone.as_array().unwrap().len()), (&json!(204), 1));
    assert!(sandbox.subscriptions().is_empty());
    let operations: Vec<Operation> =
        sandbox.requests_to(ringcentral_sandbox::Target::Gateway).iter().map(|r| r.operation).collect();
    use Operation::{Create, Delete, SocketHeartbeat, Upgrade};
    assert_eq!(operations, [Upgrade, Create, SocketHeartbeat, Delete]);
    assert_eq!(sandbox.requests_to(Operation::WsToken).len(), 2);
    assert_eq!(sandbox.requests_to(Operation::Create)[0].status, Some(200));
    assert_eq!(sandbox.requests_to(Operation::Create)[0].service, Service::Gateway);
}

#[tokio::test]
async fn sockets_are_counted_and_views_show_whether_one_is_connected() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let (mut socket, _) = connect(&sandbox, &client).await;
    let id = socket.subscribed(&[POSTS]).await;
    client.subscribed(&[STORE]).await;
    let views = sandbox.subscriptions();
    assert_eq!((views[0].transport, views[0].connected, &views[0].id), (Transport::WebSocket, Some(true), &id));
    assert_eq!((views[1].transport, views[1].connected), (Transport::PubNub, None));
    assert!(views[0].address.expose().is_empty() && !views[1].address.expose().is_empty());
    let gauges = sandbox.gauges();
    assert_eq!((gauges.open_sockets, gauges.sockets_opened, gauges.gateway_connections), (1, 1, 1));
    drop(socket);
    assert!(sandbox.wait_open_sockets(0, SOON).await);
    assert_eq!(sandbox.subscriptions()[0].connected, Some(false));
    assert_eq!((sandbox.gauges().max_open_sockets, sandbox.gauges().sockets_opened), (1, 1));
}

#[tokio::test]
async fn the_token_may_come_in_a_header() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let token = ws_token(&client).await;
    let request = tokio_tungstenite::tungstenite::ClientRequestBuilder::new(sandbox.gateway_url().parse().unwrap())
        .with_header("Authorization", format!("Bearer {token}"));
    let (mut stream, _) = tokio_tungstenite::client_async(request, tcp(&sandbox).await).await.unwrap();
    let first = futures_util::StreamExt::next(&mut stream).await.unwrap().unwrap();
    assert!(first.to_text().unwrap().contains("ConnectionDetails"), "{first}");
}

#[tokio::test]
async fn an_invalid_token_is_refused_during_or_after_the_upgrade() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let (used, expired) = (ws_token(&client).await, ws_token(&client).await);
    let used = format!("access_token={used}");
    drop(upgrade(&sandbox, &used).await.unwrap());
    sandbox.advance(std::time::Duration::from_secs(30));
    let orphan = ws_token(&client).await;
    sandbox.revoke_sessions();
    let expired = format!("access_token={expired}");
    let orphan = format!("access_token={orphan}");
    for query in ["", "access_token=nonsense", &used, &expired, &orphan] {
        assert_eq!(upgrade(&sandbox, query).await.unwrap().closed().await, Some(4400), "{query}");
    }
    sandbox.behavior(|behavior| behavior.gateway.refusal = AuthRefusal::Status401);
    assert_eq!(upgrade(&sandbox, &used).await.err(), Some(401));
    assert_eq!(sandbox.gauges().sockets_opened, 1);
}

#[tokio::test]
async fn the_setting_makes_the_socket_token_reusable() {
    let sandbox = quick().behavior(|behavior| behavior.gateway.wstoken_reuse = true).start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let query = format!("access_token={}", ws_token(&client).await);
    for _ in 0..2 {
        let details = upgrade(&sandbox, &query).await.unwrap().frame().await;
        assert_eq!(details[0]["type"], "ConnectionDetails");
    }
}

#[tokio::test]
async fn permissions_can_be_missing_for_token_or_subscription() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let (mut socket, _) = connect(&sandbox, &client).await;
    sandbox.behavior(|behavior| (behavior.gateway.may_connect, behavior.gateway.may_subscribe) = (false, false));
    let (status, refused) = client.call(Method::POST, WSTOKEN, None).await;
    assert_eq!((status, &refused["errors"][0]["errorCode"]), (403, &json!("CMN-401")));
    let refused = socket.create(&[POSTS]).await;
    assert_eq!((&refused[0]["status"], &refused[1]["errors"][0]["errorCode"]), (&json!(403), &json!("SUB-528")));
    let bare = http().post(format!("{}{WSTOKEN}", sandbox.base_url())).send().await.unwrap();
    assert_eq!(bare.status().as_u16(), 401);
}

#[tokio::test]
async fn a_request_that_is_not_an_upgrade_is_refused() {
    let sandbox = quick().start().await.unwrap();
    let origin = sandbox.gateway_url().replace("ws://", "http://");
    assert_eq!(http().get(&origin).send().await.unwrap().status().as_u16(), 426);
    assert_eq!(http().get(origin.replace("/ws", "/other")).send().await.unwrap().status().as_u16(), 404);
}

#[tokio::test]
async fn sockets_per_login_are_limited() {
    let sandbox = quick().behavior(|behavior| behavior.gateway.max_connections = 2).start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let _held = [connect(&sandbox, &client).await, connect(&sandbox, &client).await];
    let query = format!("access_token={}", ws_token(&client).await);
    assert_eq!(upgrade(&sandbox, &query).await.err(), Some(429));
    let other = Client::login(&sandbox).await;
    connect(&sandbox, &other).await;
}

#[tokio::test]
async fn frames_can_be_escaped_and_pretty() {
    let sandbox = quick().start().await.unwrap();
    sandbox.behavior(|behavior| {
        (behavior.gateway.escape_slashes, behavior.gateway.pretty) = (true, true);
        behavior.gateway.creation_time_format = TimeFormat::Zulu;
        behavior.gateway.subscription_id_header = true;
    });
    let client = Client::login(&sandbox).await;
    let (mut socket, details) = connect(&sandbox, &client).await;
    assert!(details[1]["creationTime"].as_str().unwrap().ends_with('Z'));
    let asked = socket.ask("POST", SUBSCRIPTION, Some(websocket(&[POSTS]))).await;
    let text = socket.text().await;
    assert!(text.contains(r#""q\/1""#) && text.contains("\n    \"type\" : \"ClientRequest\""), "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer[0]["messageId"], asked.as_str());
    assert_eq!(answer[0]["headers"]["WSG-SubscriptionId"], answer[1]["id"]);
}

#[tokio::test]
async fn two_subscriptions_with_one_filter_get_different_or_shared_uuids() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let (mut one, _) = connect(&sandbox, &client).await;
    let (mut other, _) = connect(&sandbox, &client).await;
    one.subscribed(&[POSTS]).await;
    other.subscribed(&[POSTS]).await;
    for share in [false, true] {
        sandbox.behavior(|behavior| behavior.shared_uuid = share);
        let uuids = sandbox.trigger(&Fixture::team_post("hi"));
        assert_eq!((uuids.len(), uuids[0] == uuids[1]), (2, share));
        assert_eq!(one.frame().await[0]["messageId"], uuids[0].as_str());
        assert_eq!(other.frame().await[0]["messageId"], uuids[1].as_str());
    }
}

#[tokio::test]
async fn stopping_frees_the_port_and_ends_sockets() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let (mut socket, _) = connect(&sandbox, &client).await;
    let address = sandbox.gateway_url()["ws://".len()..].trim_end_matches("/ws").to_owned();
    sandbox.stop().await;
    assert_eq!(socket.closed().await, None);
    drop(tokio::net::TcpListener::bind(&address).await.unwrap());
}

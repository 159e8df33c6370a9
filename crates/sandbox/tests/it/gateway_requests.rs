//! REST over a socket: subscriptions, other calls, refusals, requests in flight.

use std::time::Duration;

use crate::support::bare::*;
use crate::support::gateway::*;
use reqwest::Method;
use ringcentral_sandbox::{Excess, Fault, Fixture, Operation, Target};
use serde_json::{Value, json};

#[tokio::test]
async fn filters_are_replaced_read_and_listed() {
    let sandbox =
        quick().behavior(|behavior| behavior.disabled_filters = vec!["presence".into()]).start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let (mut socket, _) = connect(&sandbox, &client).await;
    let id = socket.subscribed(&[STORE]).await;
    let path = format!("{SUBSCRIPTION}/{}", id.as_str());
    let changed = socket.call("PUT", &path, Some(json!({ "eventFilters": [POSTS, PRESENCE] }))).await;
    assert_eq!((&changed[0]["status"], &changed[1]["eventFilters"]), (&json!(200), &json!([POSTS])));
    assert_eq!(changed[1]["disabledFilters"][0]["reason"], "SUB-412");
    assert_eq!(socket.call("GET", &path, None).await[1]["eventFilters"], changed[1]["eventFilters"]);
    client.subscribed(&[STORE]).await;
    let list = socket.call("GET", &format!("{SUBSCRIPTION}/"), None).await;
    let transports: Vec<&Value> =
        list[1]["records"].as_array().unwrap().iter().map(|held| &held["deliveryMode"]["transportType"]).collect();
    assert_eq!(transports, ["WebSocket", "PubNub"]);
    let uuids = sandbox.trigger(&Fixture::team_post("new filter"));
    assert_eq!(socket.frame().await[1]["uuid"], uuids[0]);
    sandbox.advance(Duration::from_secs(1000));
    assert_eq!(socket.call("GET", &path, None).await[1]["expiresIn"], 86399, "the session renews it");
}

#[tokio::test]
async fn over_https_a_subscription_can_be_read_and_deleted_but_not_changed() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let (status, refused) = client.create_with(&[POSTS], json!({ "transportType": "WebSocket" })).await;
    assert_eq!((status, &refused["parameterName"]), (400, &json!("deliveryMode.transportType")));
    let (mut socket, _) = connect(&sandbox, &client).await;
    let (mut other, _) = connect(&sandbox, &client).await;
    let id = socket.subscribed(&[POSTS]).await;
    let path = format!("{SUBSCRIPTION}/{}", id.as_str());
    let filters = json!({ "eventFilters": [STORE] });
    for (method, path) in [(Method::PUT, path.clone()), (Method::POST, format!("{path}/renew"))] {
        let (status, refused) = client.call(method, &path, Some(&filters)).await;
        assert_eq!((status, &refused["errorCode"]), (405, &json!("SUB-511")));
    }
    assert_eq!(other.call("PUT", &path, Some(filters)).await[0]["status"], 405);
    let (status, info) = client.get(&path).await;
    assert_eq!((status, &info["uri"]), (200, &json!(format!("{}{path}", sandbox.base_url()))));
    assert_eq!(client.get(SUBSCRIPTION).await.1["records"].as_array().unwrap().len(), 1);
    assert_eq!(client.call(Method::DELETE, &path, None).await.0, 204);
    assert!(sandbox.trigger(&Fixture::team_post("nobody")).is_empty());
    socket.beat().await;
    let gone = socket.call("PUT", &path, Some(json!({ "eventFilters": [STORE] }))).await;
    assert_eq!((&gone[0]["status"], &gone[1]["errors"][0]["errorCode"]), (&json!(404), &json!("CMN-102")));
}

#[tokio::test]
async fn a_second_subscription_replaces_the_first_silently() {
    let sandbox = quick().behavior(|behavior| behavior.subscription_limit = 1).start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let (mut socket, _) = connect(&sandbox, &client).await;
    let first = socket.subscribed(&[POSTS]).await;
    let second = socket.subscribed(&[POSTS]).await;
    let ids: Vec<_> = sandbox.subscriptions().into_iter().map(|held| held.id).collect();
    assert!(ids == std::slice::from_ref(&second) && first != second);
    sandbox.trigger(&Fixture::team_post("once"));
    assert_eq!(socket.frame().await[1]["subscriptionId"], second.as_str());
    socket.beat().await;

    let (mut other, _) = connect(&sandbox, &client).await;
    let refused = other.create(&[POSTS]).await;
    assert_eq!((&refused[0]["status"], &refused[1]["errors"][0]["errorCode"]), (&json!(403), &json!("SUB-505")));
}

#[tokio::test]
async fn no_frame_announces_a_removed_subscription() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let (mut socket, _) = connect(&sandbox, &client).await;
    let id = socket.subscribed(&[POSTS]).await;
    assert!(sandbox.forget(&id));
    assert!(sandbox.trigger(&Fixture::team_post("lost")).is_empty());
    socket.beat().await;
    let gone = socket.call("GET", &format!("{SUBSCRIPTION}/{}", id.as_str()), None).await;
    assert_eq!(gone[1]["errors"][0]["errorCode"], "SUB-507");
}

#[tokio::test]
async fn any_rest_call_goes_over_the_socket_but_logins_do_not() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let (mut socket, _) = connect(&sandbox, &client).await;
    let sms = json!({ "from": { "phoneNumber": sandbox.phone_number() }, "to": [{ "phoneNumber": "+16505550100" }],
        "text": "over the socket" });
    let sent = socket.call("POST", "/restapi/v1.0/account/~/extension/~/sms", Some(sms)).await;
    assert_eq!(sent[0]["status"], 200, "{sent}");
    assert_eq!(sandbox.sent_messages()[0].text, "over the socket");
    for n in 0..3 {
        sandbox.trigger(&Fixture::team_post(format!("post {n}")));
    }
    let posts = format!("/team-messaging/v1/chats/{}/posts", sandbox.chat_id());
    let request = json!([
        { "type": "ClientRequest", "messageId": "x", "method": "GET", "path": posts, "query": { "recordCount": 2 },
          "headers": { "X-User-Agent": "demo/1", "Authorization": "Bearer nonsense" } }
    ]);
    socket.send(&request).await;
    let page = socket.frame().await;
    assert_eq!((&page[0]["status"], page[1]["records"].as_array().unwrap().len()), (&json!(200), 2), "{page}");
    let record = sandbox.requests_to(Target::path(posts)).pop().unwrap();
    assert_eq!(
        (record.query("recordCount").as_deref(), &record.headers["x-user-agent"]),
        (Some("2"), &"demo/1".parse().unwrap())
    );

    for path in ["/restapi/oauth/wstoken", "/restapi/oauth/token", "/_sandbox/state", "/nothing"] {
        let refused = socket.call("POST", path, Some(json!({}))).await;
        assert_eq!((&refused[0]["status"], &refused[1]["errorCode"]), (&json!(404), &json!("AGW-404")), "{path}");
    }
}

#[tokio::test]
async fn socket_requests_share_the_budgets_of_https() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let (mut socket, _) = connect(&sandbox, &client).await;
    sandbox.behavior(|behavior| (behavior.rate_limits.enforce, behavior.rate_limits.light) = (true, 1));
    let first = socket.call("GET", SUBSCRIPTION, None).await;
    assert_eq!((&first[0]["status"], &first[0]["headers"]["X-Rate-Limit-Remaining"]), (&json!(200), &json!("0")));
    let second = socket.call("GET", SUBSCRIPTION, None).await;
    assert_eq!((&second[0]["status"], &second[0]["headers"]["Retry-After"]), (&json!(429), &json!("60")));
    assert_eq!(client.get(SUBSCRIPTION).await.0, 429, "one budget");
}

#[tokio::test]
async fn a_frame_that_is_not_a_request_gets_an_error_frame() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let (mut socket, _) = connect(&sandbox, &client).await;
    for (text, id) in [
        (r#"[{"type":"ClientRequest","messageId":"n","method":"GET","path":"/x"},null]"#, Some("n")),
        (r#"[{"type":"ClientRequest","messageId":"n","method":"GET","path":"/x"},7]"#, Some("n")),
        (r#"[{"type":"Tea","messageId":"t"}]"#, Some("t")),
        ("{}", None),
        ("{", None),
    ] {
        socket.send_text(text).await;
        let error = socket.frame().await;
        assert_eq!((&error[0]["type"], &error[0]["status"]), (&json!("Error"), &json!(400)), "{text}");
        assert_eq!(error[1]["errorCode"], "WSG-808");
        assert!(id.is_none_or(|id| error[0]["messageId"] == id), "{error}");
    }
    let message = tokio_tungstenite::tungstenite::Message::binary(b"bytes".to_vec());
    futures_util::SinkExt::send(&mut socket.stream, message).await.unwrap();
    assert_eq!(socket.frame().await[0]["type"], "Error");
    let bodies: Vec<_> = sandbox.requests_to(Operation::OtherFrame).iter().map(|record| record.body.len()).collect();
    assert_eq!((bodies.len(), bodies[3], bodies[5]), (6, 2, 5));
    socket.beat().await;
}

#[tokio::test]
async fn requests_beyond_the_maximum_are_refused_or_queued() {
    let sandbox = quick().behavior(|behavior| behavior.gateway.max_active_requests = 2).start().await.unwrap();
    let client = Client::login(&sandbox).await;
    for excess in [Excess::Refuse, Excess::Queue] {
        sandbox.behavior(|behavior| behavior.gateway.excess_requests = excess);
        let (mut socket, _) = connect(&sandbox, &client).await;
        sandbox.faults().inject(Operation::List, Fault::delay(Duration::from_secs(600)).times(2));
        let slow = [socket.ask("GET", SUBSCRIPTION, None).await, socket.ask("GET", SUBSCRIPTION, None).await];
        let quick = socket.ask("GET", "/restapi/v1.0", None).await;
        if excess == Excess::Refuse {
            let refused = socket.frame().await;
            assert_eq!((&refused[0]["messageId"], &refused[0]["status"]), (&json!(&quick), &json!(429)));
        } else {
            socket.beat().await;
        }
        sandbox.advance(Duration::from_secs(600));
        let [first, second] = slow;
        let order = if excess == Excess::Refuse { vec![first, second] } else { vec![first, quick, second] };
        for id in order {
            assert_eq!(socket.frame().await[0]["messageId"], id.as_str(), "a waiting one takes the first free place");
        }
    }
}

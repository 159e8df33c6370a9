//! Usage taken from test suites that others wrote for the live service (found 9).

use crate::support::bare::*;
use crate::support::gateway::{POSTS, connect};
use reqwest::Method;
use ringcentral_sandbox::{Fixture, OldCallLog, Sandbox, SentKind};
use serde_json::{Value, json};

const EXTENSION: &str = "/restapi/v1.0/account/~/extension/~";
const INSTANT: &str = "/restapi/v1.0/account/~/extension/~/message-store/instant?type=SMS";

async fn logged_in() -> (Sandbox, Client) {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    (sandbox, client)
}

fn message(from: &str, to: &str) -> Value {
    json!({ "from": { "phoneNumber": from }, "to": [{ "phoneNumber": to }], "text": "hello" })
}

#[tokio::test]
async fn sms_and_mms_are_accepted_as_json_and_as_multipart() {
    let (sandbox, client) = logged_in().await;
    let own = sandbox.phone_number().to_owned();
    let json = message(&own, "+12055550143").to_string();
    let (from, to) =
        (json!({ "phoneNumber": own }).to_string(), json!([{ "phoneNumber": "+12055550143" }]).to_string());
    let part = |head: &str, data: &str| format!("--b0\r\n{head}\r\n\r\n{data}\r\n");
    let field = |name: &str, data: &str| part(&format!("Content-Disposition: form-data; name=\"{name}\""), data);
    let file = part(
        "Content-Disposition: form-data; name=\"attachment\"; filename=\"a.png\"\r\nContent-Type: image/png",
        "png",
    );
    let one = part(
        "Content-Disposition: form-data; name=\"json\"; filename=\"r.json\"\r\nContent-Type: application/json",
        &json,
    );
    let fields = [field("from", &from), field("to", &to), field("text", "hello")].concat();
    let bare = part("Content-Type: application/json", &json);
    for path in ["sms", "mms"] {
        for (kind, body, attached) in [
            ("application/json", json.clone(), 0),
            ("multipart/form-data; boundary=b0", format!("{one}{file}--b0--\r\n"), 1),
            ("multipart/form-data; boundary=b0", format!("{fields}{file}{file}--b0--"), 2),
            ("multipart/mixed; boundary=\"b0\"", format!("{bare}--b0--"), 0),
        ] {
            let request = client.request(Method::POST, &format!("{EXTENSION}/{path}"), None);
            let sent = request.header("content-type", kind).body(body).send().await.unwrap();
            let (status, answer) = read(sent).await;
            assert_eq!((status, &answer["subject"]), (200, &json!("hello")), "{path} {kind}: {answer}");
            let attachments = answer["attachments"].as_array().unwrap();
            let media = attachments.iter().filter(|it| it["type"] == "MmsAttachment");
            assert_eq!(media.filter(|it| it["contentType"] == "image/png").count(), attached, "{path} {kind}");
        }
        // A picture needs no text; a message without both is invalid.
        for (file, want) in [(file.as_str(), 200), ("", 400)] {
            let body = format!("{}{}{file}--b0--", field("from", &from), field("to", &to));
            let request = client.request(Method::POST, &format!("{EXTENSION}/{path}"), None);
            let sent = request.header("content-type", "multipart/form-data; boundary=b0").body(body).send();
            assert_eq!(sent.await.unwrap().status().as_u16(), want, "{path}");
        }
    }
}

async fn read(response: reqwest::Response) -> (u16, Value) {
    body(response).await
}

#[tokio::test]
async fn a_message_to_oneself_is_sent_and_received() {
    let (sandbox, client) = logged_in().await;
    let info = client.subscribed(&[INSTANT, STORE]).await;
    let mut cursor = Cursor::start();
    client.next(&info, &mut cursor).await;
    let own = sandbox.phone_number().to_owned();
    let sms = format!("{EXTENSION}/sms");
    assert_eq!(client.call(Method::POST, &sms, Some(&message(&own, &own))).await.0, 200);
    let store = client.get(&format!("{EXTENSION}/message-store")).await.1;
    let directions: Vec<&Value> = store["records"].as_array().unwrap().iter().map(|it| &it["direction"]).collect();
    assert_eq!(directions, ["Inbound", "Outbound"]);
    let mut events = Vec::new();
    while events.len() < 3 {
        events.extend(client.next(&info, &mut cursor).await);
    }
    let bodies: Vec<Value> = events.iter().map(|it| notification(&info, it)).collect();
    let instant = bodies.iter().filter(|it| it["event"].as_str().unwrap().contains("instant")).count();
    assert_eq!((bodies.len(), instant), (3, 1), "{bodies:?}");
    // A message to another number is only sent.
    assert_eq!(client.call(Method::POST, &sms, Some(&message(&own, "+12055550143"))).await.0, 200);
    let pager = json!({ "from": { "extensionNumber": "101" }, "to": [{ "extensionNumber": "101" }], "text": "x" });
    assert_eq!(client.call(Method::POST, &format!("{EXTENSION}/company-pager"), Some(&pager)).await.0, 200);
    let store = client.get(&format!("{EXTENSION}/message-store")).await.1;
    let count = |kind: &str, direction: &str| {
        let records = store["records"].as_array().unwrap().iter();
        records.filter(|it| it["type"] == kind && it["direction"] == direction).count()
    };
    assert_eq!([count("SMS", "Inbound"), count("SMS", "Outbound")], [1, 2]);
    assert_eq!([count("Pager", "Inbound"), count("Pager", "Outbound")], [1, 1]);
}

#[tokio::test]
async fn presence_is_set_delivered_and_read_in_bulk() {
    let (sandbox, client) = logged_in().await;
    let info = client.subscribed(&[PRESENCE]).await;
    let mut cursor = Cursor::start();
    client.next(&info, &mut cursor).await;
    let path = format!("{EXTENSION}/presence");
    let wish = json!({ "userStatus": "Busy", "dndStatus": "DoNotAcceptAnyCalls", "message": "at lunch" });
    let (status, answer) = client.call(Method::PUT, &path, Some(&wish)).await;
    assert_eq!((status, &answer["presenceStatus"], &answer["message"]), (200, &json!("Busy"), &json!("at lunch")));
    assert_eq!(client.get(&path).await.1["dndStatus"], "DoNotAcceptAnyCalls");
    let received = client.next(&info, &mut cursor).await;
    assert_eq!(notification(&info, &received[0])["body"]["userStatus"], "Busy");
    for bad in [json!({ "userStatus": "Asleep" }), json!({ "dndStatus": 7 })] {
        assert_eq!(client.call(Method::PUT, &path, Some(&bad)).await.0, 400, "{bad}");
    }
    let other = "/restapi/v1.0/account/~/extension/100200302/presence";
    assert_eq!(client.call(Method::PUT, other, Some(&wish)).await.0, 403);

    let several = format!("/restapi/v1.0/account/~/extension/{},100200302,7/presence", sandbox.extension_id());
    let answer = client.request(Method::GET, &several, None).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 207);
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("multipart/mixed; boundary="));
    let text = answer.text().await.unwrap();
    let parts: Vec<Value> = text
        .split("\r\n\r\n")
        .skip(1)
        .filter_map(|part| serde_json::from_str(part.split("\r\n").next()?).ok())
        .collect();
    let statuses: Vec<&Value> = parts[0]["response"].as_array().unwrap().iter().map(|it| &it["status"]).collect();
    assert_eq!(statuses, [200, 200, 404]);
    assert_eq!(
        (parts.len(), &parts[1]["userStatus"], &parts[2]["userStatus"]),
        (4, &json!("Busy"), &json!("Available"))
    );
    let accept = "application/vnd.ringcentral.multipart+json";
    let answer = client.request(Method::GET, &several, None).header("accept", accept).send().await.unwrap();
    let (status, answer) = body(answer).await;
    assert_eq!((status, &answer[2]["resourceId"], &answer[2]["status"]), (207, &json!("7"), &json!(404)));
}

#[tokio::test]
async fn the_requested_refresh_token_lifetime_is_capped_at_the_apps() {
    let sandbox = quick().start().await.unwrap();
    let jwt = sandbox.jwt();
    for (asked, want) in
        [("60", 60), ("1", 1), ("604800", 604_800), ("9999999999", 604_800), ("0", 604_800), ("x", 604_800)]
    {
        let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
        let (status, answer) =
            token(&sandbox, &[grant, ("assertion", jwt.expose()), ("refresh_token_ttl", asked)]).await;
        assert_eq!((status, &answer["refresh_token_expires_in"]), (200, &json!(want)), "{asked}");
    }
}

#[tokio::test]
async fn missing_resources_are_named_as_the_service_names_them() {
    let (_sandbox, client) = logged_in().await;
    let (status, answer) = client.get("/restapi/v1.0/no/such/thing").await;
    assert_eq!(
        (status, &answer["errorCode"], &answer["message"]),
        (404, &json!("AGW-404"), &json!("Resource not found"))
    );
}

#[tokio::test]
async fn with_a_latency_a_later_subscriber_gets_the_event() {
    let (sandbox, client) = logged_in().await;
    sandbox.behavior(|behavior| behavior.event_latency = ms(300));
    let early = client.subscribed(&[STORE]).await;
    assert!(sandbox.trigger(&Fixture::inbound_sms("+12055550143", "x")).is_empty(), "for whom is not known yet");
    let late = client.subscribed(&[STORE]).await;
    let id = early["id"].as_str().unwrap();
    assert_eq!(client.call(Method::DELETE, &format!("{SUBSCRIPTION}/{id}"), None).await.0, 204);
    let mut cursor = Cursor::start();
    let mut events = client.next(&late, &mut cursor).await;
    while events.is_empty() {
        events = client.next(&late, &mut cursor).await;
    }
    assert_eq!(events.len(), 1);
}

/// The call-log test of `@rc-ex/core` begins years ago and continues with `recordCount`.
#[tokio::test]
async fn a_call_log_sync_from_long_ago_is_cut_or_refused() {
    let (sandbox, client) = logged_in().await;
    let path = format!("{EXTENSION}/call-log-sync?syncType=FSync&recordCount=10&dateFrom=2001-01-01T00:00:00Z");
    let (status, first) = client.get(&path).await;
    assert_eq!(status, 200, "{first}");
    let token = first["syncInfo"]["syncToken"].as_str().unwrap();
    let next = format!("{EXTENSION}/call-log-sync?syncType=ISync&recordCount=5&syncToken={token}");
    assert_eq!(client.get(&next).await.0, 200);
    sandbox.behavior(|behavior| behavior.account.old_call_log = OldCallLog::Refuse);
    assert_eq!(client.get(&path).await.0, 400);
}

/// Resources that share a request: their parts, as the default and as the JSON form has them.
async fn parts(client: &Client, path: &str) -> (Vec<u64>, Vec<Value>) {
    let text = client.request(Method::GET, path, None).send().await.unwrap();
    assert_eq!(text.status().as_u16(), 207, "{path}");
    let text = text.text().await.unwrap();
    assert!(text.starts_with("--Boundary"), "{text}");
    let accept = "application/vnd.ringcentral.multipart+json";
    let answer = client.request(Method::GET, path, None).header("accept", accept).send().await.unwrap();
    let (status, all) = body(answer).await;
    assert_eq!(status, 207, "{path}");
    let all = all.as_array().unwrap();
    for part in all {
        assert!(text.contains(&part["body"].to_string()), "{text} lacks {part}");
    }
    let statuses = all.iter().map(|it| it["status"].as_u64().unwrap()).collect();
    (statuses, all.iter().map(|it| it["body"].clone()).collect())
}

#[tokio::test]
async fn messages_and_extensions_are_read_and_deleted_in_bulk() {
    let (sandbox, client) = logged_in().await;
    for text in ["one", "two"] {
        sandbox.trigger(&Fixture::inbound_sms("+12055550143", text));
    }
    let ids: Vec<String> = sandbox.stored_messages().iter().map(|it| it["id"].to_string()).collect();
    let both = format!("{STORE}/{},{}", ids[0], ids[1]);
    let (statuses, bodies) = parts(&client, &format!("{both},7")).await;
    assert_eq!((statuses, &bodies[1]["subject"]), (vec![200, 200, 404], &json!("two")));
    assert_eq!(client.call(Method::DELETE, &format!("{both},7"), None).await.0, 404, "all or none");
    assert_eq!(client.call(Method::DELETE, &both, None).await.0, 204);
    assert!(sandbox.stored_messages().iter().all(|it| it["availability"] == "Deleted"));

    let several = format!("/restapi/v1.0/account/~/extension/{},100200302,7", sandbox.extension_id());
    let (statuses, bodies) = parts(&client, &several).await;
    assert_eq!((statuses, &bodies[1]["id"]), (vec![200, 200, 404], &json!(100_200_302)));
}

#[tokio::test]
async fn each_attachment_of_a_message_is_served_at_its_address() {
    let (sandbox, client) = logged_in().await;
    for fixture in [Fixture::inbound_sms("+12055550143", "hello"), Fixture::fax("+12055550143")] {
        sandbox.trigger(&fixture);
    }
    for record in sandbox.stored_messages() {
        let attachment = &record["attachments"][0];
        let path = attachment["uri"].as_str().unwrap().strip_prefix(sandbox.base_url()).unwrap();
        let answer = client.request(Method::GET, path, None).send().await.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        assert_eq!((answer.status().as_u16(), kind.as_str()), (200, attachment["contentType"].as_str().unwrap()));
        let text = answer.text().await.unwrap();
        assert!(record["type"] == "Fax" || text == "hello", "{text}");
        assert_eq!(client.get(&format!("{path}9")).await.0, 404);
    }
}

#[tokio::test]
async fn a_fax_is_sent_as_multipart_and_stored() {
    let (sandbox, client) = logged_in().await;
    let info = client.subscribed(&[STORE]).await;
    let mut cursor = Cursor::start();
    client.next(&info, &mut cursor).await;
    let json = json!({ "to": [{ "phoneNumber": "+12055550143" }], "coverPageText": "see below" });
    let part = |head: &str, data: &str| format!("--b0\r\nContent-Disposition: form-data; {head}\r\n\r\n{data}\r\n");
    let whole = part("name=\"json\"; filename=\"r.json\"\r\nContent-Type: application/json", &json.to_string());
    let file = part("name=\"attachment\"; filename=\"a.txt\"\r\nContent-Type: text/plain", "hello world");
    let fields = part("name=\"to\"", "+12055550143");
    for (body, want) in [
        (format!("{whole}{file}--b0--\r\n"), 200),
        (format!("{fields}{file}--b0--\r\n"), 200),
        (format!("{fields}--b0--\r\n"), 400),
        (format!("{file}--b0--\r\n"), 400),
    ] {
        let request = client.request(Method::POST, &format!("{EXTENSION}/fax"), None);
        let request = request.header("content-type", "multipart/form-data; boundary=b0").body(body.clone());
        let (status, answer) = read(request.send().await.unwrap()).await;
        assert_eq!(status, want, "{body}: {answer}");
        if want == 200 {
            assert_eq!((&answer["type"], &answer["direction"]), (&json!("Fax"), &json!("Outbound")));
            let events = client.next(&info, &mut cursor).await;
            assert_eq!(notification(&info, &events[0])["body"]["changes"][0]["type"], "Fax");
        }
    }
    let sent: Vec<SentKind> = sandbox.sent_messages().iter().map(|it| it.kind).collect();
    assert_eq!(sent, [SentKind::Fax, SentKind::Fax]);
}

#[tokio::test]
async fn a_post_is_read_changed_and_deleted_by_its_id() {
    let (sandbox, client) = logged_in().await;
    let info = client.subscribed(&["/team-messaging/v1/posts"]).await;
    let mut cursor = Cursor::start();
    client.next(&info, &mut cursor).await;
    let posts = format!("/team-messaging/v1/chats/{}/posts", sandbox.chat_id());
    let (_, post) = client.call(Method::POST, &posts, Some(&json!({ "text": "helo" }))).await;
    let path = format!("{posts}/{}", post["id"].as_str().unwrap());
    assert_eq!(client.get(&path).await.1["text"], "helo");
    let change = json!({ "text": "hello" });
    assert_eq!(client.call(Method::PATCH, &path, Some(&change)).await.1["text"], "hello");
    assert_eq!(client.call(Method::DELETE, &path, None).await.0, 204);
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(client.call(method, &path, None).await.0, 404);
    }
    assert_eq!(client.call(Method::PATCH, &path, Some(&change)).await.0, 404);
    let mut kinds = Vec::new();
    while kinds.len() < 3 {
        let events = client.next(&info, &mut cursor).await;
        kinds.extend(events.iter().map(|it| notification(&info, it)["body"]["eventType"].clone()));
    }
    assert_eq!(kinds, ["PostAdded", "PostChanged", "PostRemoved"]);
}

#[tokio::test]
async fn a_replay_does_not_follow_its_details_in_one_read_by_default() {
    let (sandbox, _) = logged_in().await;
    sandbox
        .behavior(|behavior| assert!(behavior.gateway.replay_delay >= ms(20), "{:?}", behavior.gateway.replay_delay));
}

#[tokio::test]
async fn an_unknown_refresh_token_is_named_as_the_service_names_it() {
    let sandbox = quick().start().await.unwrap();
    let (status, answer) = token(&sandbox, &[("grant_type", "refresh_token"), ("refresh_token", "stale")]).await;
    assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")));
    assert_eq!(
        (&answer["error_description"], &answer["errors"][0]["errorCode"]),
        (&json!("Token not found"), &json!("OAU-213"))
    );
}

#[tokio::test]
async fn a_socket_serves_a_little_longer_than_its_login() {
    let (sandbox, client) = logged_in().await;
    let (mut socket, _) = connect(&sandbox, &client).await;
    let id = socket.subscribed(&[POSTS]).await;
    let (app, secret) = (sandbox.client_id(), sandbox.client_secret());
    let revoke = http().post(format!("{}/restapi/oauth/revoke", sandbox.base_url()));
    let form = format!("token={}", client.token);
    let revoke = revoke.header("content-type", "application/x-www-form-urlencoded").body(form);
    assert_eq!(revoke.basic_auth(app, Some(secret.expose())).send().await.unwrap().status().as_u16(), 200);
    assert_eq!(client.get(SUBSCRIPTION).await.0, 401);
    let frame = socket.call("DELETE", &format!("{SUBSCRIPTION}/{id}"), None).await;
    assert_eq!(frame[0]["status"], 204, "{frame}");
    sandbox.advance(ms(2_000));
    assert_eq!(socket.closed().await, Some(1000));
}

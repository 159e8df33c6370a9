//! The subscription resource, limits, and the matching of events and filters.

use std::time::Duration;

use crate::support::bare::*;
use reqwest::Method;
use ringcentral_sandbox::{Encryption, Fixture, Refusal, Sandbox, SentKind, TimeFormat};
use serde_json::{Value, json};

const POSTS: &str = "/team-messaging/v1/posts";
const SMS: &str = "/restapi/v1.0/account/~/extension/~/message-store/instant?type=SMS";

fn code(answer: &Value) -> &str {
    answer["errors"][0]["errorCode"].as_str().unwrap_or_default()
}

async fn logged_in() -> (Sandbox, Client) {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    (sandbox, client)
}

#[tokio::test]
async fn an_answer_has_the_service_s_form() {
    let (sandbox, client) = logged_in().await;
    let answer = client
        .request(
            Method::POST,
            SUBSCRIPTION,
            Some(&json!({ "eventFilters": [STORE], "deliveryMode": { "transportType": "PubNub" } })),
        )
        .send()
        .await
        .unwrap();
    let headers = answer.headers().clone();
    assert_eq!(headers["x-rate-limit-group"], "medium");
    assert_eq!(
        (&headers["x-rate-limit-limit"], &headers["x-rate-limit-remaining"]),
        (&"40".parse().unwrap(), &"39".parse().unwrap())
    );
    assert_eq!(headers["x-rate-limit-window"], "60");
    assert_eq!(headers["rcrequestid"].len(), 36);
    assert!(headers.contains_key("date"));
    let (status, info) = body(answer).await;
    assert_eq!(status, 200);
    let id = info["id"].as_str().unwrap();
    assert_eq!(info["uri"], format!("{}{SUBSCRIPTION}/{id}", sandbox.base_url()));
    assert_eq!(info["eventFilters"], json!(["/restapi/v1.0/account/100200300/extension/100200301/message-store"]));
    assert_eq!((&info["status"], &info["expiresIn"]), (&json!("Active"), &json!(899)));
    assert!(info["expirationTime"].as_str().unwrap().ends_with('Z'));
    let mode = &info["deliveryMode"];
    assert_eq!((&mode["transportType"], &mode["encryption"]), (&json!("PubNub"), &json!(false)));
    assert!(mode.get("encryptionKey").is_none() && mode.get("secretKey").is_none());
    let (digits, hex) = mode["address"].as_str().unwrap().split_once('_').unwrap();
    assert!(digits.len() == 14 && hex.len() == 8, "{mode}");
    assert!(mode["subscriberKey"].as_str().unwrap().starts_with("sub-c-"));
    let (_, list) = client.get(SUBSCRIPTION).await;
    assert_eq!(list["records"].as_array().unwrap().len(), 1);
    assert_eq!(client.get(&format!("{SUBSCRIPTION}/{id}")).await.1["id"], id);
}

#[tokio::test]
async fn bad_requests_are_refused_as_the_service_does() {
    let (sandbox, client) = logged_in().await;
    sandbox.behavior(|behavior| behavior.invalid_filters = vec!["/forbidden".into()]);
    let pubnub = json!({ "transportType": "PubNub" });
    for (request, status, want, parameter) in [
        (json!({ "deliveryMode": pubnub }), 400, "CMN-101", "eventFilters"),
        (json!({ "eventFilters": [], "deliveryMode": pubnub }), 400, "CMN-101", "eventFilters"),
        (json!({ "eventFilters": [""], "deliveryMode": pubnub }), 400, "CMN-101", "eventFilters"),
        (json!({ "eventFilters": [7], "deliveryMode": pubnub }), 400, "CMN-101", "eventFilters"),
        (json!({ "eventFilters": [STORE], "deliveryMode": pubnub, "expiresIn": 0 }), 400, "CMN-101", "expiresIn"),
        (json!({ "eventFilters": [STORE] }), 400, "CMN-101", "deliveryMode.transportType"),
        (
            json!({ "eventFilters": [STORE], "deliveryMode": { "transportType": "Pigeon" } }),
            400,
            "CMN-101",
            "deliveryMode.transportType",
        ),
        (json!({ "eventFilters": ["nonsense"], "deliveryMode": pubnub }), 400, "SUB-508", ""),
        (json!({ "eventFilters": ["/restapi/v1.0/forbidden/x"], "deliveryMode": pubnub }), 400, "SUB-508", ""),
        (
            json!({ "eventFilters": ["/restapi/v1.0/subscription/~?threshold=60&interval=15"], "deliveryMode": pubnub }),
            400,
            "SUB-515",
            "",
        ),
    ] {
        let (got, answer) = client.call(Method::POST, SUBSCRIPTION, Some(&request)).await;
        assert_eq!((got, code(&answer)), (status, want), "{request} {answer}");
        assert_eq!(answer["parameterName"].as_str().unwrap_or_default(), parameter, "{answer}");
    }
    let unreadable = client.request(Method::POST, SUBSCRIPTION, None).body("{").send().await.unwrap();
    assert_eq!(code(&body(unreadable).await.1), "CMN-103");
    let (status, answer) = client.get("/restapi/v1.0/nowhere").await;
    assert_eq!((status, &answer["errorCode"], &answer["errors"]), (404, &json!("AGW-404"), &json!([])));
    assert!(sandbox.subscriptions().is_empty());
}

#[tokio::test]
async fn pubnub_can_be_refused() {
    let (sandbox, client) = logged_in().await;
    for (refusal, status, want) in
        [(Refusal::Sub528, 403, "SUB-528"), (Refusal::Cmn401, 403, "CMN-401"), (Refusal::BadParameter, 400, "CMN-101")]
    {
        sandbox.behavior(|behavior| behavior.refuse_pubnub = Some(refusal));
        let (got, answer) = client.create(&[STORE]).await;
        assert_eq!((got, code(&answer)), (status, want));
    }
}

#[tokio::test]
async fn the_twenty_first_subscription_is_one_too_many() {
    let (sandbox, client) = logged_in().await;
    for _ in 0..20 {
        client.subscribed(&[STORE]).await;
    }
    let (status, answer) = client.create(&[STORE]).await;
    assert_eq!((status, code(&answer)), (403, "SUB-505"));
    sandbox.advance(Duration::from_secs(901));
    client.subscribed(&[STORE]).await;
}

#[tokio::test]
async fn a_subscription_expires_and_a_renewal_prolongs_it() {
    let (sandbox, client) = logged_in().await;
    let request = json!({ "eventFilters": [POSTS], "deliveryMode": { "transportType": "PubNub" }, "expiresIn": 600 });
    let info = client.call(Method::POST, SUBSCRIPTION, Some(&request)).await.1;
    assert_eq!(info["expiresIn"], 599);
    let path = format!("{SUBSCRIPTION}/{}", info["id"].as_str().unwrap());
    sandbox.advance(Duration::from_secs(500));
    assert!(client.get(&path).await.1["expiresIn"].as_u64().unwrap() <= 99);
    let renewed = client.call(Method::POST, &format!("{path}/renew"), None).await.1;
    assert_eq!(renewed["expiresIn"], 599, "the lifetime asked for first is granted again");
    let put = client.call(Method::PUT, &path, None).await.1;
    assert_eq!((&put["expiresIn"], &put["eventFilters"]), (&json!(599), &renewed["eventFilters"]));
    sandbox.advance(Duration::from_secs(601));
    assert!(sandbox.trigger(&Fixture::team_post("late")).is_empty(), "publishing stops");
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::PUT, path.clone()),
        (Method::POST, format!("{path}/renew")),
        (Method::DELETE, path),
    ] {
        let (status, answer) = client.call(method, &path, None).await;
        assert_eq!((status, code(&answer), &answer["parameterName"]), (404, "CMN-102", &json!("subscriptionId")));
    }
}

#[tokio::test]
async fn an_update_replaces_the_filters_and_may_turn_encryption_on() {
    let (sandbox, client) = logged_in().await;
    let info = client.subscribed(&[POSTS]).await;
    let path = format!("{SUBSCRIPTION}/{}", info["id"].as_str().unwrap());
    let put = client.call(Method::PUT, &path, Some(&json!({ "eventFilters": [PRESENCE] }))).await.1;
    assert_eq!(put["deliveryMode"]["address"], info["deliveryMode"]["address"]);
    assert_eq!(put["deliveryMode"]["encryptionAlgorithm"], "AES", "presence is always encrypted");
    assert!(sandbox.trigger(&Fixture::team_post("no more")).is_empty());
    assert_eq!(sandbox.trigger(&Fixture::presence("Busy", "NoCall")).len(), 1);
    assert_eq!(code(&client.call(Method::PUT, &path, Some(&json!({ "eventFilters": ["bad"] }))).await.1), "SUB-508");
}

#[tokio::test]
async fn encryption_follows_the_request_the_filter_or_the_setting() {
    let (sandbox, client) = logged_in().await;
    let telephony = "/restapi/v1.0/account/~/telephony/sessions";
    for (setting, filter, asked, want) in [
        (Encryption::Service, POSTS, json!(false), false),
        (Encryption::Service, POSTS, json!(true), true),
        (Encryption::Service, POSTS, json!("true"), true),
        (Encryption::Service, PRESENCE, json!(false), true),
        (Encryption::Service, telephony, json!(null), true),
        (Encryption::Never, PRESENCE, json!(true), false),
        (Encryption::Always, POSTS, json!(false), true),
    ] {
        sandbox.behavior(|behavior| behavior.encryption = setting);
        let (_, info) = client.create_with(&[filter], json!({ "transportType": "PubNub", "encryption": asked })).await;
        let mode = &info["deliveryMode"];
        assert_eq!((mode["encryption"] == true, mode["encryptionKey"].is_string()), (want, want), "{filter} {asked}");
    }
}

#[tokio::test]
async fn responses_can_take_the_odd_observed_forms() {
    let (sandbox, client) = logged_in().await;
    for (format, end) in [(TimeFormat::PlusFour, "+0000"), (TimeFormat::PlusTwo, "+00"), (TimeFormat::NoFraction, "Z")]
    {
        sandbox.behavior(|behavior| behavior.time_format = format);
        let info = client.subscribed(&[POSTS]).await;
        let time = info["expirationTime"].as_str().unwrap();
        assert!(time.ends_with(end) && time.contains('.') == (format != TimeFormat::NoFraction), "{time}");
    }
    sandbox.behavior(|behavior| {
        behavior.send_expires_in = false;
        behavior.relative_uri = true;
        behavior.expand_tilde = false;
        behavior.send_secret_key = true;
        behavior.disabled_filters = vec!["/presence/line".into()];
        behavior.clock_skew_ms = -600_000;
    });
    let line = format!("{PRESENCE}/line");
    let answer = client
        .request(
            Method::POST,
            SUBSCRIPTION,
            Some(&json!({ "eventFilters": [STORE, line], "deliveryMode": { "transportType": "PubNub" } })),
        )
        .send()
        .await
        .unwrap();
    let date = answer.headers()["date"].to_str().unwrap().to_owned();
    let (_, info) = body(answer).await;
    assert!(info.get("expiresIn").is_none() && info["uri"].as_str().unwrap().starts_with("/restapi/"));
    assert_eq!(info["eventFilters"], json!([STORE]));
    assert_eq!(info["disabledFilters"][0]["filter"], line);
    assert_eq!(info["disabledFilters"][0]["reason"], "SUB-412");
    assert!(info["deliveryMode"]["secretKey"].as_str().unwrap().starts_with("sec-c-"));
    let created = info["creationTime"].as_str().unwrap();
    assert!(date.contains(&created[11..16]), "{date} and {created} are of one clock");
    assert_eq!(sandbox.trigger(&Fixture::message_store("SMS", 1)).len(), 1, "filters with ~ are served all the same");
}

#[tokio::test]
async fn budgets_are_spent_and_each_try_restarts_the_penalty() {
    let sandbox = Sandbox::builder().behavior(|behavior| behavior.rate_limits.light = 3).start().await.unwrap();
    let client = Client::login(&sandbox).await;
    for left in ["2", "1", "0"] {
        let answer = client.request(Method::GET, SUBSCRIPTION, None).send().await.unwrap();
        assert_eq!(answer.headers()["x-rate-limit-remaining"], left);
    }
    let refused = client.request(Method::GET, SUBSCRIPTION, None).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"60".parse().unwrap()));
    client.subscribed(&[STORE]).await;
    sandbox.advance(Duration::from_secs(50));
    assert_eq!(client.get(SUBSCRIPTION).await.0, 429);
    sandbox.advance(Duration::from_secs(50));
    assert_eq!(client.get(SUBSCRIPTION).await.0, 429, "the try before started the penalty anew");
    sandbox.advance(Duration::from_secs(61));
    assert_eq!(client.get(SUBSCRIPTION).await.0, 200);
}

#[tokio::test]
async fn each_fixture_reaches_its_filter() {
    let (sandbox, client) = logged_in().await;
    let base = "/restapi/v1.0/account/~/extension/~";
    for (filter, fixture, field) in [
        (format!("{base}/message-store/instant?type=SMS"), Fixture::inbound_sms("+1", "x"), "/subject"),
        (format!("{base}/message-store?type=Fax"), Fixture::fax("+1"), "/changes/0/newMessageIds/0"),
        (format!("{base}/fax?direction=Inbound"), Fixture::fax("+1"), "/faxPageCount"),
        (format!("{base}/voicemail"), Fixture::voicemail("+1"), "/vmTranscriptionStatus"),
        ("/restapi/v1.0/glip/posts".into(), Fixture::team_post("x"), "/eventType"),
        (format!("{base}/presence"), Fixture::presence("Busy", "Ringing"), "/telephonyStatus"),
        ("/restapi/v1.0/account/~/presence".into(), Fixture::presence("Busy", "Ringing"), "/sequence"),
        (
            format!("{base}/presence?detailedTelephonyState=true"),
            Fixture::presence("Busy", "Ringing"),
            "/activeCalls/0/sessionId",
        ),
        (
            format!("{base}/presence?detailedTelephonyState=true&sipData=true"),
            Fixture::presence("Busy", "Ringing"),
            "/activeCalls/0/sipData/callId",
        ),
        (
            "/restapi/v1.0/account/~/telephony/sessions".into(),
            Fixture::telephony_session("Answered"),
            "/parties/0/status/code",
        ),
    ] {
        let info = client.subscribed(&[&filter]).await;
        let mut cursor = Cursor::start();
        client.next(&info, &mut cursor).await;
        sandbox.trigger(&fixture);
        let messages = client.next(&info, &mut cursor).await;
        assert_eq!(messages.len(), 1, "{filter}");
        let notification = notification(&info, &messages[0]);
        assert!(notification["body"].pointer(field).is_some(), "{filter} {notification}");
        let query = filter.split_once('?').map_or("", |(_, query)| query);
        assert!(notification["event"].as_str().unwrap().ends_with(query), "{notification}");
        client.call(Method::DELETE, &format!("{SUBSCRIPTION}/{}", info["id"].as_str().unwrap()), None).await;
    }
}

#[tokio::test]
async fn a_subscription_gets_one_notification_where_its_filters_overlap() {
    let (sandbox, client) = logged_in().await;
    let detailed = format!("{PRESENCE}?detailedTelephonyState=true");
    let info = client.subscribed(&[PRESENCE, &detailed]).await;
    let mut cursor = Cursor::start();
    client.next(&info, &mut cursor).await;
    assert_eq!(sandbox.trigger(&Fixture::presence("Busy", "Ringing")).len(), 1);
    let message = notification(&info, &client.next(&info, &mut cursor).await[0]);
    assert!(message["body"]["activeCalls"].is_array(), "the richest one");
}

#[tokio::test]
async fn a_custom_event_is_passed_on_byte_for_byte() {
    let (sandbox, client) = logged_in().await;
    let info = client.subscribed(&["/restapi/v1.0/account/~/something/new"]).await;
    let mut cursor = Cursor::start();
    client.next(&info, &mut cursor).await;
    let uri = "/restapi/v1.0/account/~/something/new";
    let uuids = sandbox.trigger_json(uri, r#"{"z":1.00,"a":99999999999999999999}"#).unwrap();
    let text = client.poll(&info, &cursor).send().await.unwrap().text().await.unwrap();
    assert!(text.contains(&uuids[0]) && text.contains(r#""body":{"z":1.00,"a":99999999999999999999}"#), "{text}");
    assert!(sandbox.trigger_json(uri, "{").is_err());
}

#[tokio::test]
async fn messages_from_a_bot_are_recorded_and_cause_events() {
    let (sandbox, client) = logged_in().await;
    let info = client.subscribed(&[STORE, POSTS]).await;
    let mut cursor = Cursor::start();
    client.next(&info, &mut cursor).await;
    let base = "/restapi/v1.0/account/~/extension/~";
    let sms = json!({ "from": { "phoneNumber": sandbox.phone_number() }, "to": [{ "phoneNumber": "+16505550100" }], "text": "pong" });
    let (status, sent) = client.call(Method::POST, &format!("{base}/sms"), Some(&sms)).await;
    assert_eq!((status, &sent["direction"]), (200, &json!("Outbound")));
    let pager = json!({ "to": [{ "extensionNumber": "102" }], "text": "page" });
    assert_eq!(client.call(Method::POST, &format!("{base}/company-pager"), Some(&pager)).await.0, 200);
    let chat = format!("/team-messaging/v1/chats/{}/posts", sandbox.chat_id());
    let (status, post) = client.call(Method::POST, &chat, Some(&json!({ "text": "posted" }))).await;
    assert_eq!((status, &post["creatorId"]), (200, &json!(sandbox.extension_id())));
    assert!(sandbox.wait_sent_messages(3, SOON).await);
    let kinds: Vec<_> = sandbox.sent_messages().iter().map(|sent| (sent.kind, sent.text.clone())).collect();
    assert_eq!(
        kinds,
        [(SentKind::Sms, "pong".into()), (SentKind::Pager, "page".into()), (SentKind::Post, "posted".to_owned())]
    );
    let messages = client.next(&info, &mut cursor).await;
    assert_eq!(messages[0]["d"]["body"]["changes"][0]["type"], "SMS");
    assert_eq!(messages[1]["d"]["body"]["changes"][0]["type"], "Pager");
    assert_eq!(messages[2]["d"]["body"]["eventType"], "PostAdded");

    sandbox.trigger(&Fixture::inbound_sms("+16505550100", "thanks"));
    let (_, list) = client.get(&format!("{base}/message-store?direction=Inbound&perPage=1")).await;
    assert_eq!((&list["records"][0]["subject"], &list["paging"]["totalElements"]), (&json!("thanks"), &json!(1)));
    let (status, one) = client.get(&format!("{base}/message-store/{}", sent["id"])).await;
    assert_eq!((status, &one["subject"]), (200, &json!("pong")));
    assert_eq!(client.get(&format!("{base}/message-store/1")).await.0, 404);
    assert_eq!(client.get(&chat).await.1["records"][0]["text"], "posted");
    assert_eq!(client.get("/team-messaging/v1/chats").await.1["records"][0]["id"], sandbox.chat_id());
    assert_eq!(client.get(&format!("{base}/presence")).await.1["presenceStatus"], "Available");
    let foreign = json!({ "from": { "phoneNumber": "+1999" }, "to": [{ "phoneNumber": "+1" }], "text": "x" });
    assert_eq!(code(&client.call(Method::POST, &format!("{base}/sms"), Some(&foreign)).await.1), "MSG-304");
    assert_eq!(client.get("/restapi/v1.0/account/7/extension/~").await.0, 404);
}

#[tokio::test]
async fn a_change_of_an_incoming_webhook_is_published_under_its_own_filter() {
    let (sandbox, client) = logged_in().await;
    client.subscribed(&[POSTS]).await;
    assert!(sandbox.trigger(&Fixture::team_webhook("7", "WebhookCreated")).is_empty());
    client.subscribed(&["/restapi/v1.0/glip/webhooks"]).await;
    assert_eq!(sandbox.trigger(&Fixture::team_webhook("7", "WebhookDeleted")).len(), 1);
}

#[tokio::test]
async fn a_permission_that_app_or_user_lacks_is_named_to_subscriptions_and_calls() {
    let (sandbox, client) = logged_in().await;
    let store = format!("{STORE}?availability=Alive");
    for (app, user, want) in [("ReadMessages", "", "CMN-401"), ("", "ReadMessages", "CMN-408")] {
        sandbox.behavior(|behavior| {
            (behavior.app_lacks, behavior.user_lacks) = (vec![app.into()], vec![user.into()]);
        });
        let asked = json!({ "eventFilters": [POSTS, store], "deliveryMode": { "transportType": "PubNub" } });
        for (method, path, body) in [(Method::POST, SUBSCRIPTION, Some(asked)), (Method::GET, STORE, None)] {
            let (status, refused) = client.call(method, path, body.as_ref()).await;
            assert_eq!((status, code(&refused)), (403, want), "{refused}");
            assert_eq!(refused["errors"][0]["permissionName"], "ReadMessages");
        }
        // `SMS` is enough for the filter of text messages.
        let others = json!({ "eventFilters": [POSTS, SMS], "deliveryMode": { "transportType": "PubNub" } });
        assert_eq!(client.call(Method::POST, SUBSCRIPTION, Some(&others)).await.0, 200);
        sandbox.behavior(|behavior| {
            let lacked = if app.is_empty() { &mut behavior.user_lacks } else { &mut behavior.app_lacks };
            lacked.push("SMS".into());
        });
        let (status, refused) = client.call(Method::POST, SUBSCRIPTION, Some(&others)).await;
        assert_eq!((status, code(&refused)), (403, want), "{refused}");
    }
}

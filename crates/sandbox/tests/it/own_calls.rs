//! The sandbox's client, adaptive cards, and answers of a test's own.

use ringcentral_events::ErrorKind;
use ringcentral_events::rest::Method;
use ringcentral_sandbox::{Operation, Sandbox, SentKind, Target};
use serde_json::{Value, json};

fn card(text: &str) -> Value {
    json!({ "type": "AdaptiveCard", "version": "1.3", "body": [{ "type": "TextBlock", "text": text }] })
}

#[tokio::test]
async fn a_client_of_the_sandbox_logs_in_and_calls_without_settings() {
    let sandbox = Sandbox::start().await.unwrap();
    let client = sandbox.client().unwrap();
    assert_eq!(client.me().await.unwrap().id, sandbox.extension_id());
    assert_eq!(sandbox.requests_to(Operation::Token).len(), 1);
}

#[tokio::test]
async fn a_card_is_posted_read_changed_and_deleted() {
    let sandbox = Sandbox::start().await.unwrap();
    let client = sandbox.client().unwrap();
    let sent = client.post_card(sandbox.chat_id(), &card("Approve?")).await.unwrap();
    let [seen] = &sandbox.sent_messages()[..] else { panic!("{:?}", sandbox.sent_messages()) };
    assert_eq!((seen.kind, &seen.to[..], &seen.id), (SentKind::Card, &[sandbox.chat_id().to_owned()][..], &sent.id));
    assert_eq!(serde_json::from_str::<Value>(&seen.text).unwrap(), card("Approve?"));
    let [post] = &sandbox.stored_posts()[..] else { panic!("{:?}", sandbox.stored_posts()) };
    assert_eq!(post["attachments"], json!([{ "id": sent.id, "type": "AdaptiveCard" }]));

    let path = format!("/team-messaging/v1/adaptive-cards/{}", sent.id);
    client.request(Method::PUT, &path).json(&card("Approved.")).send().await.unwrap();
    let read: Value = client.request(Method::GET, &path).send().await.unwrap().json().unwrap();
    assert_eq!(
        (&read["body"][0]["text"], &read["creator"]["id"]),
        (&json!("Approved."), &json!(sandbox.extension_id()))
    );
    client.request(Method::DELETE, &path).send().await.unwrap();
    let gone = client.request(Method::GET, &path).send().await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_is_no_card_is_refused_with_its_parameter() {
    let sandbox = Sandbox::start().await.unwrap();
    let client = sandbox.client().unwrap();
    for (body, parameter) in
        [(json!({ "version": "1.3", "body": [] }), "type"), (json!({ "type": "AdaptiveCard", "body": [] }), "version")]
    {
        let error = client.post_card(sandbox.chat_id(), &body).await.unwrap_err();
        assert_eq!((error.status(), error.parameter()), (Some(400), Some(parameter)), "{error}");
    }
    assert!(sandbox.sent_messages().is_empty());
}

#[tokio::test]
async fn a_stub_answers_calls_that_the_sandbox_does_not_know_and_records_them() {
    let sandbox = Sandbox::start().await.unwrap();
    let client = sandbox.client().unwrap();
    let path = "/restapi/v1.0/account/~/extension/~/ring-out";
    let call = json!({ "to": { "phoneNumber": "+16505550100" } });
    let ring_out = async || client.request(Method::POST, path).json(&call).send().await;
    assert_eq!(ring_out().await.unwrap_err().status(), Some(404));
    sandbox.stub(Method::POST, path, 201, json!({ "id": "7" })).unwrap();
    let answer = ring_out().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.json::<Value>().unwrap()), (201, json!({ "id": "7" })));
    let seen = sandbox.requests_to(Target::path(path));
    assert_eq!(
        seen.iter().map(|seen| (seen.status, seen.json().unwrap())).collect::<Vec<_>>(),
        [(Some(404), call.clone()), (Some(201), call.clone()),]
    );
    // A known call too.
    sandbox.stub(Method::GET, "/restapi/v1.0/account/~/extension/~", 200, json!({ "id": 7 })).unwrap();
    assert_eq!(client.me().await.unwrap().id, "7");
    assert_eq!(sandbox.stub(Method::GET, "/x", 99, Value::Null).unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_stub_needs_a_token_and_can_be_set_over_http() {
    let sandbox = Sandbox::start().await.unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = |path: &str| format!("{}{path}", sandbox.base_url());
    let stub = |body: Value| http.post(url("/_sandbox/stubs")).body(body.to_string()).send();
    let set = stub(json!({ "method": "GET", "path": "/x/{id}", "body": [1] })).await.unwrap();
    assert_eq!(set.status(), 204);
    assert_eq!(http.get(url("/x/1")).send().await.unwrap().status(), 401);
    let answer = sandbox.client().unwrap().request(Method::GET, "/x/1").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.json::<Value>().unwrap()), (200, json!([1])));
    for bad in [json!({ "method": "GET" }), json!({ "method": "G T", "path": "/x" }), json!({ "path": "/x" })] {
        assert_eq!(stub(bad.clone()).await.unwrap().status(), 400, "{bad}");
    }
    let bad = json!({ "method": "GET", "path": "/x", "status": 99 });
    assert_eq!(stub(bad).await.unwrap().status(), 400);
}

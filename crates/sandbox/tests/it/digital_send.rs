//! The sandbox's Send API, called by this crate's client and by hand.

use std::time::Duration;

use crate::support::digital::{Forum, TOKEN, agent, customer, signer};
use ringcentral_events::ErrorKind;
use ringcentral_events::digital::{
    Attachment, CollectionName, Message, Messages, PrivateMessage, PrivateMessages, SIGNATURE_HEADER, SendApi, Signer,
    Source, SourceEndpoint, SourceOption, Typing,
};
use ringcentral_events::policy::BackoffPolicy;
use ringcentral_sandbox::digital::{DigitalChannel, Origin, RefusalForm, SourceAt};
use ringcentral_sandbox::{Fault, Operation, Sandbox};
use serde_json::{Value, json};

const MESSAGES: CollectionName = CollectionName::Messages;
const PATIENCE: Duration = Duration::from_secs(60);

fn api(channel: &DigitalChannel) -> SendApi {
    let backoff = BackoffPolicy::new().base(Duration::from_millis(1)).cap(Duration::from_millis(5));
    SendApi::builder(channel.send_url(), TOKEN).backoff(backoff).build().unwrap()
}

async fn forum(sandbox: &Sandbox) -> (Forum, DigitalChannel) {
    let forum = Forum::new();
    let endpoint = SourceEndpoint::builder(forum.source(), TOKEN).build().unwrap();
    let channel = sandbox.digital_channel(SourceAt::endpoint(endpoint), TOKEN).unwrap();
    assert!(channel.save().await.is_clean());
    (forum, channel)
}

/// A chat source: typing, no lists.
async fn chat(sandbox: &Sandbox) -> DigitalChannel {
    let source = Source::builder()
        .option(SourceOption::ViewMessaging)
        .option(SourceOption::PrivateMessagesText)
        .option(SourceOption::MessagingTypingIndicator)
        .read_marks()
        .create(PrivateMessages, |new| async move {
            let mut message = PrivateMessage::new("pm-1", agent(), customer());
            message.body = new.body;
            Ok(message)
        })
        .build()
        .unwrap();
    let endpoint = SourceEndpoint::builder(source, TOKEN).build().unwrap();
    let channel = sandbox.digital_channel(SourceAt::endpoint(endpoint), TOKEN).unwrap();
    assert!(channel.save().await.is_clean());
    channel
}

async fn post(url: &str, body: Vec<u8>, signature: Option<String>) -> (u16, String) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = http.post(url).body(body).timeout(PATIENCE);
    if let Some(signature) = signature {
        request = request.header(SIGNATURE_HEADER, signature);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn pushed_contents_appear_at_once_and_are_not_duplicated_by_lists() {
    let sandbox = Sandbox::start().await.unwrap();
    let (forum, channel) = forum(&sandbox).await;
    let api = api(&channel);
    let message = forum.message("m-1", "t-1", None);
    forum.messages.put(message.clone());
    api.create(Messages, &message).await.unwrap();
    let content = channel.wait_content(MESSAGES, "m-1", PATIENCE).await.unwrap();
    assert_eq!((content.origin, content.listed, content.text("body")), (Origin::Pushed, 0, Some("text of m-1")));
    assert!(channel.run().await.is_clean(), "a list may contain pushed contents");
    let content = channel.content(MESSAGES, "m-1").unwrap();
    assert_eq!((content.origin, content.listed), (Origin::Pushed, 1));
    assert_eq!(channel.contents(MESSAGES).len(), 1);

    // An agent replies to a pushed message, and an unknown thread is created.
    let mut other = forum.message("m-2", "t-new", Some("m-1"));
    other.attachments = vec![Attachment::of("a.txt", b"abc")];
    api.create(Messages, &other).await.unwrap();
    assert_eq!(channel.content(CollectionName::Threads, "t-new").unwrap().text("title"), Some("text of m-2"));
    api.create_user(&agent()).await.unwrap();
    assert_eq!(channel.puppet().as_deref(), Some("agent-1"));
    let actions: Vec<_> = channel.received().into_iter().map(|received| received.action).collect();
    assert_eq!(actions, ["messages.create", "messages.create", "users.create"]);
    assert_eq!(sandbox.requests_to(Operation::SendApi).len(), 3);
}

#[tokio::test]
async fn refusals_reach_the_client_with_their_kind() {
    let sandbox = Sandbox::start().await.unwrap();
    let (forum, channel) = forum(&sandbox).await;
    let whole = forum.message("m-1", "t-1", None);
    for form in [RefusalForm::Text, RefusalForm::Json] {
        sandbox.behavior(|behavior| behavior.digital.refusal_form = form);
        let send = api(&channel);
        for (outcome, kind, part) in [
            (send.send("messages.shiny", &json!({})).await, ErrorKind::Rejected, "Invalid action"),
            (
                send.send("messages.create", &json!({ "id": "m-1" })).await,
                ErrorKind::Rejected,
                "Invalid resource format",
            ),
            (send.mark_as_read("m-1").await, ErrorKind::Rejected, "Invalid action"),
            (
                SendApi::builder(channel.send_url(), "another").build().unwrap().create(Messages, &whole).await,
                ErrorKind::Auth,
                "Invalid signature",
            ),
            (
                SendApi::builder(format!("{}0", channel.send_url()), TOKEN)
                    .build()
                    .unwrap()
                    .create(Messages, &whole)
                    .await,
                ErrorKind::NotFound,
                "Source not found",
            ),
        ] {
            let error = outcome.unwrap_err();
            assert!(error.kind() == kind && error.to_string().contains(part), "{form:?} {part}: {error}");
        }
    }
    assert_eq!(channel.count(), 0);
}

#[tokio::test]
async fn typing_and_the_rate_of_requests_are_limited() {
    let sandbox = Sandbox::start().await.unwrap();
    let channel = chat(&sandbox).await;
    let mut typing = Typing::default();
    typing.thread_id = Some("t-1".into());
    typing.preview = Some("Hel".into());
    // Two processes of one source: their clients do not share state.
    let (one, two) = (api(&channel), api(&channel));
    one.typing_start(&typing).await.unwrap();
    let error = two.typing_start(&typing).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::RateLimited, Some(429)));
    one.typing_stop(&typing).await.unwrap();
    one.mark_as_read("pm-1").await.unwrap();
    assert_eq!(channel.received().last().unwrap().params["id"], "pm-1");
    // The same client would delay this one.
    api(&channel).typing_start(&typing).await.unwrap();
    sandbox.advance(Duration::from_secs(2));
    api(&channel).typing_start(&typing).await.unwrap();

    sandbox.behavior(|behavior| {
        behavior.digital.send_limit = Some(4);
        behavior.digital.send_window = Duration::from_secs(3600);
        behavior.digital.retry_after = Some(9);
    });
    let body = json!({ "action": "users.create", "params": agent() }).to_string().into_bytes();
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(post(channel.send_url(), body.clone(), Some(signer().sign(&body))).await.0);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429]);
    sandbox.advance(Duration::from_secs(3600));
    assert_eq!(post(channel.send_url(), body.clone(), Some(signer().sign(&body))).await.0, 200);
}

#[tokio::test]
async fn requests_by_hand_are_checked_in_their_order() {
    let sandbox = Sandbox::start().await.unwrap();
    let (_, channel) = forum(&sandbox).await;
    let url = channel.send_url();
    let signed = |body: &[u8]| Some(signer().sign(body));
    let other = Signer::new("another").unwrap();
    let big = vec![b' '; 20_971_521];
    for (body, signature, want) in [
        (&b"{"[..], None, (422, "Invalid signature")),
        (b"{", Some(other.sign(b"{")), (422, "Invalid signature")),
        (b"{", signed(b"{"), (400, "Bad request")),
        (b"[]", signed(b"[]"), (400, "Invalid request format")),
        (b"{\"action\":\"x\"}", signed(b"{\"action\":\"x\"}"), (400, "Invalid request format")),
        (&big, None, (413, "Invalid request size (max: 20971520 bytes)")),
    ] {
        let (status, text) = post(url, body.to_vec(), signature).await;
        assert_eq!((status, text.as_str()), want);
    }
    // With the signature in the query, and another host name.
    let body = json!({ "action": "users.create", "params": customer() }).to_string().into_bytes();
    let by_query = format!("{url}?signature={}", signer().sign(&body));
    assert_eq!(post(&by_query, body, None).await, (200, "ok".into()));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    assert_eq!(http.get(url).send().await.unwrap().status().as_u16(), 401, "nothing to get here");
}

#[tokio::test]
async fn after_a_429_clones_of_one_client_wait_together() {
    let sandbox = Sandbox::start().await.unwrap();
    let (forum, channel) = forum(&sandbox).await;
    sandbox.behavior(|behavior| {
        behavior.digital.send_limit = Some(1);
        behavior.digital.send_window = Duration::from_millis(900);
        behavior.digital.retry_after = Some(1);
    });
    let first = api(&channel);
    first.create(Messages, &forum.message("m-0", "t-1", None)).await.unwrap();
    // This one hits the limit, and retries after a second.
    let (limited, message) = (first.clone(), forum.message("m-1", "t-1", None));
    let limited = tokio::spawn(async move { limited.create(Messages, &message).await });
    assert!(sandbox.wait_requests(Operation::SendApi, 2, PATIENCE).await);
    let answered = |it: &ringcentral_sandbox::Recorded| it.status == Some(429);
    assert!(sandbox.wait_for(answered, PATIENCE).await.is_some());
    // A call with a deadline fails without being sent. The first answer arrives at an unknown time,
    // so the call is repeated; each would hit the limit.
    let mut typing = Typing::default();
    typing.thread_id = Some("t-1".into());
    typing.preview = Some("x".into());
    let error = loop {
        match first.typing_stop(&typing).await.unwrap_err() {
            error if error.status().is_none() => break error,
            error => assert_eq!(error.kind(), ErrorKind::RateLimited, "{error}"),
        }
    };
    assert!(error.to_string().contains("nothing was sent"), "{error}");
    assert!(error.retry_after().is_some_and(|wait| wait <= Duration::from_secs(1)), "{error}");
    let before = sandbox.requests_to(Operation::SendApi).len();
    let hurried = SendApi::builder(channel.send_url(), TOKEN).deadline(Duration::from_millis(700)).build().unwrap();
    assert_eq!(hurried.create(Messages, &forum.message("m-2", "t-1", None)).await.unwrap_err().status(), Some(429));
    // Another client does not know the limit.
    assert_eq!(sandbox.requests_to(Operation::SendApi).len(), before + 1);
    // A clone waits as long as the client that hit the limit.
    first.clone().create(Messages, &forum.message("m-3", "t-1", None)).await.unwrap();
    limited.await.unwrap().unwrap();
    assert!(channel.content(MESSAGES, "m-1").is_some() && channel.content(MESSAGES, "m-3").is_some());
    let records = sandbox.requests_to(Operation::SendApi);
    let of = |id: &str| records.iter().find(|it| String::from_utf8_lossy(&it.body).contains(id)).unwrap().at;
    let apart = of("m-3").duration_since(of("m-1")).unwrap();
    assert!(apart >= Duration::from_millis(900), "sent after {apart:?}, a second was asked for");
}

#[tokio::test]
async fn ten_megabytes_are_accepted_and_transient_errors_retried() {
    let sandbox = Sandbox::start().await.unwrap();
    let (forum, channel) = forum(&sandbox).await;
    sandbox.faults().inject(Operation::SendApi, Fault::status(503).times(2));
    let mut message: Message = forum.message("m-1", "t-1", None);
    api(&channel).create(Messages, &message).await.unwrap();
    message.attachments = vec![Attachment::of("a.bin", &vec![7; 10 << 20])];
    api(&channel).create(Messages, &message).await.unwrap();
    let content = Value::Object(channel.content(MESSAGES, "m-1").unwrap().content);
    assert_eq!(content["attachments"][0]["content"].as_str().unwrap().len(), (10_usize << 20).div_ceil(3) * 4);
    assert_eq!(sandbox.requests_to(Operation::SendApi).len(), 4);
    // A dropped channel is no longer a source.
    let (url, body) = (channel.send_url().to_owned(), b"{}".to_vec());
    drop(channel);
    let answer = post(&url, body.clone(), Some(signer().sign(&body))).await;
    assert_eq!(answer, (422, "Source not found".into()));
}

//! The Send API's client against a server that checks its requests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::digital::{TOKEN, agent, customer, date, signer};
use axum::Router;
use axum::extract::State;
use bytes::Bytes;
use http::{HeaderMap, Uri};
use ringcentral_events::ErrorKind;
use ringcentral_events::digital::{
    Attachment, Message, Messages, PrivateMessage, PrivateMessages, SIGNATURE_HEADER, SendApi, StructuredContent,
    Thread, Threads, Typing, User,
};
use ringcentral_events::policy::BackoffPolicy;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Answers from a script, then with `ok`; records every body.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<(u16, &'static str)>>>,
    bodies: Arc<Mutex<Vec<Bytes>>>,
}

async fn answer(State(script): State<Script>, uri: Uri, headers: HeaderMap, body: Bytes) -> (http::StatusCode, String) {
    assert_eq!(uri.to_string(), "/realtime/sdk/5f3a0e6b7c8d9e0f1a2b3c4d");
    assert_eq!(headers["content-type"], "application/json");
    signer().verify(&body, headers[SIGNATURE_HEADER].to_str().unwrap()).unwrap();
    script.bodies.lock().unwrap().push(body);
    let (status, text) = script.answers.lock().unwrap().pop_front().unwrap_or((200, "ok"));
    (http::StatusCode::from_u16(status).unwrap(), text.to_owned())
}

struct Server {
    script: Script,
    url: String,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(answers: &[(u16, &'static str)]) -> Self {
        let script = Script { answers: Arc::new(Mutex::new(answers.iter().copied().collect())), ..Script::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/realtime/sdk/5f3a0e6b7c8d9e0f1a2b3c4d", listener.local_addr().unwrap());
        let router = Router::new()
            .fallback(answer)
            .layer(axum::extract::DefaultBodyLimit::max(32 << 20))
            .with_state(script.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { script, url, task }
    }

    fn api(&self) -> SendApi {
        let backoff = BackoffPolicy::new().base(Duration::from_millis(1)).cap(Duration::from_millis(5));
        SendApi::builder(self.url.as_str(), TOKEN).backoff(backoff).build().unwrap()
    }

    fn bodies(&self) -> Vec<Value> {
        self.script.bodies.lock().unwrap().iter().map(|body| serde_json::from_slice(body).unwrap()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn message(text: &str) -> Message {
    let mut message = Message::new("m-42", customer());
    message.thread_id = Some("t-1".into());
    message.body = Some(text.into());
    message
}

#[tokio::test]
async fn every_action_is_sent_signed() {
    let server = Server::start(&[]).await;
    let api = server.api();
    api.create(Messages, &message("Hello")).await.unwrap();
    let mut private = PrivateMessage::new("pm-1", customer(), agent());
    private.attachments = vec![Attachment::of("a.txt", b"abc")];
    api.create(PrivateMessages, &private).await.unwrap();
    api.create(Threads, &Thread::new("t-9", "News")).await.unwrap();
    api.create_user(&agent()).await.unwrap();
    api.mark_as_read("m-44").await.unwrap();
    let mut typing = Typing::default();
    typing.thread_id = Some("t-2".into());
    typing.preview = Some("Hel".into());
    api.typing_start(&typing).await.unwrap();
    api.typing_stop(&typing).await.unwrap();
    api.send("messages.shiny", &json!({ "id": "m-1" })).await.unwrap();

    let user = json!({
        "id": "cust-7", "screenname": "Ana", "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
    });
    let bodies = server.bodies();
    assert_eq!(
        bodies[0],
        json!({
            "action": "messages.create",
            "params": { "id": "m-42", "thread_id": "t-1", "author": user, "body": "Hello" },
        })
    );
    let actions: Vec<_> = bodies.iter().map(|body| body["action"].as_str().unwrap()).collect();
    assert_eq!(
        actions,
        [
            "messages.create",
            "private_messages.create",
            "threads.create",
            "users.create",
            "status.mark_as_read",
            "typing.start",
            "typing.stop",
            "messages.shiny"
        ]
    );
    assert_eq!(bodies[5]["params"], json!({ "thread_id": "t-2", "preview": "Hel" }));
    assert_eq!(bodies[4]["params"], json!({ "id": "m-44" }));
}

#[tokio::test]
async fn transient_errors_are_retried_with_the_same_bytes_and_refusals_are_not() {
    let server = Server::start(&[(503, "busy"), (500, ""), (200, "<html>")]).await;
    server.api().create(Messages, &message("Hello")).await.unwrap();
    let bodies = server.script.bodies.lock().unwrap().clone();
    assert_eq!(bodies.len(), 4);
    assert!(bodies.iter().all(|body| *body == bodies[0]));

    for (status, text, kind, calls) in [
        (422, "Invalid signature", ErrorKind::Auth, 1),
        (422, "Source not found", ErrorKind::NotFound, 1),
        (400, "Bad request", ErrorKind::Rejected, 1),
        (302, "", ErrorKind::Protocol, 1),
        (503, "", ErrorKind::Service, 4),
    ] {
        let server = Server::start(&[(status, text); 9]).await;
        let error = server.api().create(Messages, &message("Hello")).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (kind, Some(status)), "{text}");
        assert_eq!(server.bodies().len(), calls, "{status} {text}");
        assert!(!format!("{error} {error:?}").contains(TOKEN));
    }
}

#[tokio::test]
async fn typing_is_limited_by_thread_before_it_is_sent_and_never_repeated() {
    let server =
        Server::start(&[(200, "ok"), (429, "too many typing requests, please try again in a few seconds")]).await;
    let api = server.api();
    let typing = |thread: &str| {
        let mut typing = Typing::default();
        typing.thread_id = Some(thread.into());
        typing.in_reply_to_id = Some("m-1".into());
        typing.preview = Some("x".into());
        typing
    };
    api.typing_start(&typing("t-1")).await.unwrap();
    let error = api.typing_start(&typing("t-1")).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::RateLimited, None), "nothing was sent");
    assert!(error.retry_after().unwrap() <= Duration::from_secs(2));
    let error = api.typing_start(&typing("t-2")).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::RateLimited, Some(429)), "the service's word");
    assert_eq!(server.bodies().len(), 2);
    api.typing_stop(&typing("t-1")).await.unwrap();
    api.typing_start(&typing("t-1")).await.unwrap();
    assert_eq!(server.bodies().len(), 4);
}

#[tokio::test]
async fn contents_that_the_service_would_refuse_are_not_sent() {
    let server = Server::start(&[]).await;
    let api = server.api();
    let changed = |change: &dyn Fn(&mut Message)| {
        let mut message = message("Hello");
        change(&mut message);
        message
    };
    let both = {
        let mut both = Attachment::of("a", b"a");
        both.url = Some("https://files.example.com/a".into());
        both
    };
    let mut nameless = Attachment::of("a", b"a");
    nameless.filename = None;
    for (why, message) in [
        ("no id", changed(&|it| it.id.clear())),
        ("no author", changed(&|it| it.author = None)),
        ("an author without an id", changed(&|it| it.author = Some(User::new("", "Ana", date("2026-01-01"))))),
        ("an author without a name", changed(&|it| it.author = Some(User::new("a", "", date("2026-01-01"))))),
        ("no body", changed(&|it| it.body = None)),
        ("an empty body", changed(&|it| it.body = Some(String::new()))),
        ("a long body", changed(&|it| it.body = Some("é".repeat(20_001)))),
        ("an attachment of two kinds", changed(&|it| it.attachments = vec![both.clone()])),
        ("an attachment without a name", changed(&|it| it.attachments = vec![nameless.clone()])),
        ("an empty attachment", changed(&|it| it.attachments = vec![Attachment::default()])),
        ("a bad card", changed(&|it| it.structured_content = Some(StructuredContent::default()))),
        (
            "a card of a customer",
            changed(&|it| {
                it.structured_content = Some(StructuredContent::template("a", []));
                it.author.as_mut().unwrap().puppetizable = Some(false);
            }),
        ),
        ("20 MiB", changed(&|it| it.attachments = vec![Attachment::of("a", &vec![0; 16 << 20])])),
    ] {
        let error = api.create(Messages, &message).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{why}: {error}");
    }
    let mut private = PrivateMessage::new("pm-1", customer(), agent());
    private.body = Some("Hi".into());
    private.recipient = None;
    let mut typing = Typing::default();
    let mut errors = vec![
        api.create(PrivateMessages, &private).await.unwrap_err(),
        api.create(Threads, &Thread::default()).await.unwrap_err(),
        api.create_user(&User::default()).await.unwrap_err(),
        api.mark_as_read("").await.unwrap_err(),
        api.typing_start(&typing).await.unwrap_err(),
        api.typing_stop(&typing).await.unwrap_err(),
    ];
    typing.in_reply_to_id = Some("m-1".into());
    errors.push(api.typing_start(&typing).await.unwrap_err());
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    }
    assert!(server.bodies().is_empty());
    // At the limits.
    api.create(Messages, &message(&"é".repeat(20_000))).await.unwrap();
    let mut large = message("");
    large.attachments = vec![Attachment::of("a", &vec![0; 14 << 20])];
    api.create(Messages, &large).await.unwrap();
}

#[tokio::test]
async fn a_missing_or_silent_server_is_an_error_within_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/realtime/sdk/1", listener.local_addr().unwrap());
    let api = SendApi::builder(url.as_str(), TOKEN).deadline(Duration::from_millis(300)).build().unwrap();
    // No accept: the system completes the connection, and no response arrives.
    let error = api.create(Messages, &message("Hello")).await.unwrap_err();
    assert_eq!((error.kind(), error.is_ambiguous()), (ErrorKind::Timeout, true), "{error}");
    // Bound without listening, so that no other process takes the port.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/realtime/sdk/1", closed.local_addr().unwrap());
    let api = SendApi::builder(url.as_str(), TOKEN).deadline(Duration::from_millis(300)).build().unwrap();
    let error = api.create(Messages, &message("Hello")).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Network | ErrorKind::Timeout), "{error}");
}

#[test]
fn invalid_endpoints_are_refused_without_showing_secrets() {
    let good = "https://example.digital.ringcentral.com/realtime/sdk/1?key=hunter2";
    for (url, token) in [
        ("", TOKEN),
        ("example.com/realtime", TOKEN),
        ("ftp://example.com/realtime", TOKEN),
        ("https://user:hunter2@example.com/realtime", TOKEN),
        (good, ""),
    ] {
        let error = SendApi::builder(url, token).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    for deadline in [Duration::ZERO, Duration::from_secs(601)] {
        assert_eq!(SendApi::builder(good, TOKEN).deadline(deadline).build().unwrap_err().kind(), ErrorKind::Config);
    }
    let builder = SendApi::builder(good, TOKEN);
    let shown = format!("{builder:?}");
    let shown = format!("{shown} {:?}", builder.build().unwrap());
    assert!(!shown.contains("hunter2") && !shown.contains(TOKEN), "{shown}");
}

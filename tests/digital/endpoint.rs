//! The endpoint's refusals, their order, and the signature of every response.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::support::digital::{TOKEN, act, agent, ask, body_of, checked, endpoint, signed, signer};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::{Method, Request};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full, StreamBody};
use proptest::prelude::*;
use ringcentral_events::ErrorKind;
use ringcentral_events::digital::{
    Date, Failure, MemoryFeed, Message, Messages, SIGNATURE_HEADER, Source, SourceBuilder, SourceEndpoint, SourceOption,
};
use serde_json::json;
use tower_service::Service as _;

const INFO: &str = r#"{"action":"implementation.info","time":"2026-01-02T03:04:05Z"}"#;

/// A source that counts its writes.
fn counting() -> (SourceBuilder, Arc<AtomicUsize>) {
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let builder = Source::builder().list(Messages, MemoryFeed::new()).create(Messages, move |_| {
        let id = count.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok(Message::new(format!("m-{id}"), agent())))
    });
    (builder, written)
}

fn create() -> String {
    body_of("messages.create", Some(json!({ "author_id": "agent-1", "body": "Hi" })))
}

#[tokio::test]
async fn only_signed_actions_are_performed() {
    let (builder, written) = counting();
    let endpoint = endpoint(builder.build().unwrap());
    let body = create();
    let good = signer().sign(body.as_bytes());
    let other = ringcentral_events::digital::Signer::new("another token").unwrap().sign(body.as_bytes());
    let post = |headers: &[&str]| {
        let request = headers.iter().fold(Request::post("/"), |it, value| it.header(SIGNATURE_HEADER, *value));
        request.body(Bytes::from(body.clone())).unwrap()
    };
    for (why, request) in [
        ("no header", post(&[])),
        ("empty header", post(&[""])),
        ("another token's", post(&[&other])),
        ("cut", post(&[&good[..126]])),
        ("upper case", post(&[&good.to_uppercase()])),
        ("twice", post(&[&good, &good])),
        ("a bad and a good one", post(&["00", &good])),
        ("two in one", post(&[&format!("{good},{good}")])),
        ("no text", {
            let mut request = post(&[]);
            request.headers_mut().insert(SIGNATURE_HEADER, http::HeaderValue::from_bytes(b"\xff").unwrap());
            request
        }),
        ("another byte in the body", {
            let (head, _) = post(&[&good]).into_parts();
            Request::from_parts(head, Bytes::from(body.replace("Hi", "Ho")))
        }),
        ("a line break after the body", {
            let (head, _) = post(&[&good]).into_parts();
            Request::from_parts(head, Bytes::from(format!("{body}\n")))
        }),
        ("in a query that is not asked for", {
            let uri = format!("/?signature={good}");
            Request::post(uri).body(Bytes::from(body.clone())).unwrap()
        }),
    ] {
        assert_eq!(checked(&endpoint.handle(request).await), (422, "invalid signature".into()), "{why}");
    }
    assert_eq!(written.load(Ordering::SeqCst), 0, "nothing is written");
    assert_eq!(checked(&endpoint.handle(post(&[&good])).await).0, 200);
    assert_eq!(written.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_signature_may_be_in_the_query_if_enabled() {
    let (builder, written) = counting();
    let source = builder.build().unwrap();
    let endpoint = SourceEndpoint::builder(source, TOKEN).query_signature(true).build().unwrap();
    let body = create();
    let good = signer().sign(body.as_bytes());
    let post = |uri: String, header: Option<&str>| {
        let request = header.into_iter().fold(Request::post(uri), |it, value| it.header(SIGNATURE_HEADER, value));
        request.body(Bytes::from(body.clone())).unwrap()
    };
    for (why, request) in [
        ("a bad header beside it", post(format!("/?signature={good}"), Some("00"))),
        ("two of them", post(format!("/?signature={good}&signature={good}"), None)),
        ("another name", post(format!("/?Signature={good}"), None)),
        ("a bad one", post("/?signature=00".into(), None)),
        ("none", post("/".into(), None)),
    ] {
        assert_eq!(checked(&endpoint.handle(request).await).0, 422, "{why}");
    }
    assert_eq!(written.load(Ordering::SeqCst), 0, "nothing is written");
    for (why, request) in [
        ("alone", post(format!("/?signature={good}"), None)),
        ("after others", post(format!("/?dimelo_smcc_sdk=1&signature={good}"), None)),
        ("a bad one beside a good header", post("/?signature=00".into(), Some(&good))),
    ] {
        assert_eq!(checked(&endpoint.handle(request).await).0, 200, "{why}");
    }
    assert_eq!(written.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn every_form_of_the_same_json_is_accepted() {
    let source = Source::builder()
        .create(Messages, |new| {
            assert_eq!(new.body.as_deref(), Some("Ça va ? 😀 <b>ok</b> & merci/"));
            std::future::ready(Ok(Message::new("m-1", agent())))
        })
        .build()
        .unwrap();
    let endpoint = endpoint(source);
    for body in [
        r#"{"action":"messages.create","params":{"author_id":"agent-1","body":"Ça va ? 😀 <b>ok</b> & merci/"}}"#,
        r#"{"action":"messages.create","params":{"author_id":"agent-1","body":"\u00c7a va ? \ud83d\ude00 \u003cb\u003eok\u003c/b\u003e \u0026 merci\/"}}"#,
        "{ \"params\": {\n \"body\": \"Ça va ? 😀 <b>ok</b> & merci/\", \"author_id\": \"agent-1\", \"more\": [1] },\n \"action\": \"messages.create\" }\n",
        r#"{"action":"messages.create","params":{"author_id":"agent-1","body":"\u00C7a va ? 😀 <b>ok<\/b> & merci/"},"time":null}"#,
    ] {
        assert_eq!(ask(&endpoint, body).await.0, 200, "{body}");
    }
}

#[tokio::test]
async fn checks_run_in_the_documented_order() {
    let (builder, written) = counting();
    let source = builder.build().unwrap();
    let endpoint = SourceEndpoint::builder(source, TOKEN).body_limit(1024).build().unwrap();
    let large = Bytes::from(" ".repeat(1025));
    let get = |body: Bytes| Request::get("/").body(body).unwrap();
    assert_eq!(checked(&endpoint.handle(get(large.clone())).await).0, 413);
    assert_eq!(checked(&endpoint.handle(signed(large)).await), (413, "the body is too large".into()));
    for method in [Method::GET, Method::PUT, Method::HEAD, Method::DELETE] {
        let mut request = signed(INFO);
        *request.method_mut() = method.clone();
        let answer = endpoint.handle(request).await;
        assert_eq!(checked(&answer).0, 405, "{method}");
        assert_eq!(answer.headers()[http::header::ALLOW], "POST");
    }
    assert_eq!(checked(&endpoint.handle(Request::post("/").body(Bytes::from("no JSON")).unwrap()).await).0, 422);
    for (body, why) in [
        ("", "the body is not JSON"),
        ("no JSON", "the body is not JSON"),
        ("{\"action\":\"messages.list\"", "the body is not JSON"),
        ("{\"action\":\"messages.list\"} x", "the body is not JSON"),
        ("[]", "the body is not a JSON object"),
        ("null", "the body is not a JSON object"),
        ("\"messages.list\"", "the body is not a JSON object"),
        ("{}", "the body has no text for an action"),
        (r#"{"action":null}"#, "the body has no text for an action"),
        (r#"{"action":7}"#, "the body has no text for an action"),
        (r#"{"action":["messages.list"]}"#, "the body has no text for an action"),
        (r#"{"action":""}"#, "the action is not two words with a dot between them"),
        (r#"{"action":"messages"}"#, "the action is not two words with a dot between them"),
        (r#"{"action":"messages.list.all"}"#, "the action is not two words with a dot between them"),
        (r#"{"action":"messages. list"}"#, "the action is not two words with a dot between them"),
        (r#"{"action":"messages.list","params":["a"]}"#, "the parameters are not a JSON object"),
        (r#"{"action":"messages.list","params":7}"#, "the parameters are not a JSON object"),
        (r#"{"action":"messages.list","params":"a"}"#, "the parameters are not a JSON object"),
        (r#"{"action":"messages.show","params":{}}"#, "the parameter id is missing"),
        (r#"{"action":"messages.delete","params":{"id":""}}"#, "the parameter id is missing"),
        (r#"{"action":"messages.create","params":{"body":"Hi"}}"#, "the parameter author_id is missing"),
        (r#"{"action":"messages.create","params":{"author_id":"a","body":""}}"#, "the parameter body is missing"),
        (r#"{"action":"messages.show","params":{"id":"m-1"}}"#, "unknown action"),
        (r#"{"action":"messages.spam","params":{"id":"m-1"}}"#, "unknown action"),
        (r#"{"action":"messages.reply","params":{"id":"m-1"}}"#, "unknown action"),
        (r#"{"action":"threads.list"}"#, "unknown action"),
        (r#"{"action":"users.create"}"#, "unknown action"),
        (r#"{"action":"typing.start"}"#, "unknown action"),
        (r#"{"action":"messaging.queuing_update"}"#, "unknown action"),
    ] {
        assert_eq!(ask(&endpoint, body).await, (400, why.into()), "{body}");
    }
    let (status, why) = checked(&endpoint.handle(signed(&b"{\"action\":\"\xff\"}"[..])).await);
    assert_eq!((status, why.as_str()), (400, "the body is not UTF-8"));
    assert_eq!(written.load(Ordering::SeqCst), 0, "nothing is written");
}

#[tokio::test]
async fn an_action_outside_its_time_window_is_refused() {
    let source = Source::builder().build().unwrap();
    let endpoint = SourceEndpoint::builder(source, TOKEN).max_age(Duration::from_secs(900)).build().unwrap();
    let at = |time: &str| format!(r#"{{"action":"implementation.info","time":"{time}"}}"#);
    assert_eq!(ask(&endpoint, at(&Date::now().to_string())).await.0, 200);
    for old in [
        at("2012-10-01T17:18:40Z"),
        at("2999-01-01T00:00:00Z"),
        at("now"),
        r#"{"action":"implementation.info"}"#.into(),
    ] {
        let want = (422, "the action's time is too far from now".to_owned());
        assert_eq!(ask(&endpoint, old.clone()).await, want, "{old}");
    }
}

#[tokio::test]
async fn failures_are_reported_in_the_protocols_form() {
    for (failure, status, body, content_type) in [
        (Failure::fatal("locked"), 200, r#"{"error":{"fatal":true,"message":"locked"}}"#, "application/json"),
        (Failure::retry("busy"), 200, r#"{"error":{"fatal":false,"message":"busy"}}"#, "application/json"),
        (Failure::unavailable("storage"), 503, "storage", "text/plain; charset=utf-8"),
        (Failure::status(409, "no"), 409, "no", "text/plain; charset=utf-8"),
        (Failure::status(204, "odd"), 500, "odd", "text/plain; charset=utf-8"),
        (Failure::status(302, "odd"), 500, "odd", "text/plain; charset=utf-8"),
        (Failure::status(7, "odd"), 500, "odd", "text/plain; charset=utf-8"),
        (
            ringcentral_events::Error::new(ErrorKind::Store, "secret path").into(),
            503,
            "the source cannot do this now",
            "text/plain; charset=utf-8",
        ),
    ] {
        assert_eq!(failure.http_status(), status);
        let given = failure.clone();
        let source = Source::builder().delete(Messages, move |_| std::future::ready(Err(given.clone()))).build();
        let endpoint = endpoint(source.unwrap());
        let request = signed(body_of("messages.delete", Some(json!({ "id": "m-1" }))));
        let answer = endpoint.handle(request).await;
        assert_eq!(checked(&answer), (status, body.to_owned()), "{failure}");
        assert_eq!(answer.headers()[http::header::CONTENT_TYPE], content_type, "{failure}");
    }
}

#[tokio::test]
async fn a_panic_becomes_a_signed_error() {
    let source = Source::builder()
        .show(Messages, |id| async move { if id == "now" { panic!("token hunter2") } else { Ok(None) } })
        .delete(Messages, |id| -> std::future::Ready<Result<Message, Failure>> { panic!("before the future: {id}") })
        .build()
        .unwrap();
    let endpoint = endpoint(source);
    let failed = (500, "the source failed".to_owned());
    assert_eq!(ask(&endpoint, body_of("messages.show", Some(json!({ "id": "now" })))).await, failed);
    assert_eq!(ask(&endpoint, body_of("messages.delete", Some(json!({ "id": "m-1" })))).await, failed);
    assert_eq!(act(&endpoint, "messages.show", json!({ "id": "m-1" })).await, json!({}));
}

#[tokio::test(start_paused = true)]
async fn slow_reads_are_aborted_and_slow_writes_are_not() {
    struct Ends(Arc<AtomicUsize>);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (shown, ended, deleted) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (show, end, delete) = (Arc::clone(&shown), Arc::clone(&ended), Arc::clone(&deleted));
    let source = Source::builder()
        .show(Messages, move |_| {
            let (show, guard) = (Arc::clone(&show), Ends(Arc::clone(&end)));
            async move {
                tokio::time::sleep(Duration::from_secs(60)).await;
                show.fetch_add(1, Ordering::SeqCst);
                drop(guard);
                Ok(None)
            }
        })
        .delete(Messages, move |id| {
            let delete = Arc::clone(&delete);
            async move {
                tokio::time::sleep(Duration::from_secs(60)).await;
                delete.fetch_add(1, Ordering::SeqCst);
                Ok(Message::new(id, agent()))
            }
        })
        .build()
        .unwrap();
    let endpoint = SourceEndpoint::builder(source, TOKEN).max_concurrent(1).build().unwrap();
    let late = (503, "the source did not answer in time".to_owned());
    let begun = tokio::time::Instant::now();
    assert_eq!(ask(&endpoint, body_of("messages.show", Some(json!({ "id": "m-1" })))).await, late);
    assert_eq!(begun.elapsed(), Duration::from_secs(8));
    tokio::task::yield_now().await;
    assert_eq!(ended.load(Ordering::SeqCst), 1, "the reader is gone");
    assert_eq!(ask(&endpoint, body_of("messages.delete", Some(json!({ "id": "m-1" })))).await, late);
    // It is still running and takes the only slot.
    let full = (503, "too many actions are under way".to_owned());
    assert_eq!(ask(&endpoint, INFO).await, full);
    tokio::time::sleep(Duration::from_secs(53)).await;
    assert_eq!((shown.load(Ordering::SeqCst), deleted.load(Ordering::SeqCst)), (0, 1));
    assert_eq!(ask(&endpoint, INFO).await.0, 200);
}

#[tokio::test]
async fn a_write_runs_to_its_end_after_its_caller_disconnects() {
    let (begin, begun) = tokio::sync::oneshot::channel();
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let (finish, finished) = tokio::sync::oneshot::channel();
    let channels = Arc::new(std::sync::Mutex::new(Some((begin, gone, finish))));
    let source = Source::builder()
        .delete(Messages, move |id| {
            let (begin, gone, finish) = channels.lock().unwrap().take().unwrap();
            async move {
                begin.send(()).unwrap();
                gone.await.unwrap();
                finish.send(()).unwrap();
                Ok(Message::new(id, agent()))
            }
        })
        .build()
        .unwrap();
    let endpoint = endpoint(source);
    let request = signed(body_of("messages.delete", Some(json!({ "id": "m-1" }))));
    let call = tokio::spawn(async move { endpoint.handle(request).await });
    begun.await.unwrap();
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    go.send(()).unwrap();
    finished.await.unwrap();
}

/// A body that announces a size and must not be read.
struct Untouchable(u64);

impl Body for Untouchable {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("the body is read")
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_streaming_body_is_read_up_to_its_limit() {
    let source = Source::builder().build().unwrap();
    let mut endpoint = SourceEndpoint::builder(source, TOKEN).body_limit(1024).build().unwrap();
    let signature = signer().sign(INFO.as_bytes());
    let post = || Request::post("/").header(SIGNATURE_HEADER, &signature);
    let whole = |answer: http::Response<Full<Bytes>>| {
        let (head, body) = answer.into_parts();
        let body = body.collect().now_or_never().unwrap().unwrap().to_bytes();
        checked(&http::Response::from_parts(head, body))
    };

    let pieces =
        stream::iter(INFO.as_bytes().chunks(7)).map(|it| Ok::<_, Infallible>(Frame::data(Bytes::from_static(it))));
    let answer = endpoint.call(post().body(StreamBody::new(pieces)).unwrap()).await.unwrap();
    assert_eq!(whole(answer).0, 200);

    let answer = endpoint.call(post().body(Untouchable(1025)).unwrap()).await.unwrap();
    assert_eq!(whole(answer), (413, "the body is too large".into()));
    let answer = endpoint.call(Request::get("/").body(Untouchable(5)).unwrap()).await.unwrap();
    assert_eq!(whole(answer).0, 405);

    let endless = stream::repeat_with(|| Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b' '; 100]))));
    let answer = endpoint.call(post().body(StreamBody::new(endless)).unwrap()).await.unwrap();
    assert_eq!(whole(answer).0, 413);

    let silent = stream::pending::<Result<Frame<Bytes>, Infallible>>();
    let answer = endpoint.call(post().body(StreamBody::new(silent)).unwrap()).await.unwrap();
    assert_eq!(whole(answer), (408, "the body did not arrive in time".into()));

    let broken = stream::iter([Ok(Frame::data(Bytes::from_static(b"{"))), Err(std::io::Error::other("gone"))]);
    let answer = endpoint.call(post().body(StreamBody::new(broken)).unwrap()).await.unwrap();
    assert_eq!(whole(answer), (400, "the body broke off".into()));
}

#[test]
fn without_a_runtime_there_is_still_a_response() {
    let endpoint = endpoint(Source::builder().build().unwrap());
    let answer = endpoint.handle(signed(INFO)).now_or_never().unwrap();
    assert_eq!(checked(&answer), (500, "the source has no runtime".into()));
}

#[test]
fn a_setting_out_of_its_range_is_refused() {
    let builder = || SourceEndpoint::builder(Source::builder().build().unwrap(), TOKEN);
    let zero = Duration::ZERO;
    for (why, builder) in [
        ("no token", SourceEndpoint::builder(Source::builder().build().unwrap(), "")),
        ("no body", builder().body_limit(1023)),
        ("any body", builder().body_limit((64 << 20) + 1)),
        ("no time", builder().deadline(zero)),
        ("any time", builder().deadline(Duration::from_secs(601))),
        ("no age", builder().max_age(zero)),
        ("no action", builder().max_concurrent(0)),
        ("any number of actions", builder().max_concurrent(usize::MAX)),
    ] {
        assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::Config, "{why}");
    }
    assert!(builder().body_limit(64 << 20).deadline(Duration::from_secs(600)).build().is_ok());
}

#[test]
fn no_secret_is_shown() {
    let source = Source::builder().option(SourceOption::MessagesText).build().unwrap();
    let builder = SourceEndpoint::builder(source, TOKEN);
    let shown = format!("{builder:?}");
    let shown = format!("{shown} {:?}", builder.build().unwrap());
    assert!(!shown.contains(TOKEN), "{shown}");
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::hash_map(
                prop_oneof![
                    Just("id".to_owned()),
                    Just("since_id".to_owned()),
                    Just("author_id".to_owned()),
                    Just("body".to_owned()),
                    Just("attachments".to_owned()),
                    Just("structured_content".to_owned()),
                    Just("content_id".to_owned()),
                    any::<String>(),
                ],
                inner,
                0..6
            )
            .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

fn run(endpoint: &SourceEndpoint, request: Request<Bytes>) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    checked(&runtime.block_on(endpoint.handle(request)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_are_refused_with_a_signed_answer(
        body in proptest::collection::vec(any::<u8>(), 0..400), header in any::<Option<Vec<u8>>>(), sign: bool,
    ) {
        let endpoint = endpoint(counting().0.build().unwrap());
        let mut request = if sign { signed(body) } else { Request::post("/").body(body.into()).unwrap() };
        if let Some(value) = header.and_then(|bytes| http::HeaderValue::from_bytes(&bytes).ok()) {
            request.headers_mut().append(SIGNATURE_HEADER, value);
        }
        let (status, _) = run(&endpoint, request);
        prop_assert!(matches!(status, 400 | 422), "{status}");
    }

    #[test]
    fn any_parameters_are_accepted_or_refused(
        action in prop_oneof![
            Just("messages.list"), Just("messages.create"), Just("messages.show"), Just("messages.delete"),
            Just("private_messages.create"), Just("threads.create"), Just("messages.spam"),
            Just("messaging.queuing_update"), Just("typing.start"), Just("implementation.info"),
        ],
        params in any_json(),
    ) {
        let source = counting().0
            .show(Messages, |_| std::future::ready(Ok(None)))
            .delete(Messages, |id| std::future::ready(Ok(Message::new(id, agent()))))
            .custom(Messages, "spam", |it| std::future::ready(Ok(Message::new(it.id, agent()))))
            .queuing_update(|_| std::future::ready(Ok(())));
        let (status, body) = run(&endpoint(source.build().unwrap()), signed(body_of(action, Some(params))));
        prop_assert!(matches!(status, 200 | 400), "{status} {body}");
        if status == 200 {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{body}");
        }
    }
}

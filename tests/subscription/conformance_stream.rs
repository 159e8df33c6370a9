//! The conformance rows of payloads, the stream and tokens, end to end: P2, P4,
//! S1, S3, S6, A1, A2, A3, A5. `conformance_rows` has the table of all rows and
//! their tests.

use std::sync::{Arc, Mutex};

use crate::support::subscribing::*;
use async_trait::async_trait;
use futures_util::future::join_all;
use ringcentral_events::auth::{MemoryTokenStore, StoredTokens, TokenStore};
use ringcentral_events::rest::{Client, Method};
use ringcentral_events::{Delivery, ErrorKind, GapCause, OAuth, Phase, Result, Secret};
use ringcentral_sandbox::{Behavior, Encryption, Fault, Operation, Sandbox, Target, encrypt, encrypt_unpadded};

const EXTENSION: &str = "/restapi/v1.0/account/~/extension/~";

#[tokio::test]
async fn p2_undecodable_payloads_are_delivered_and_the_stream_continues() {
    let sandbox = quick().behavior(|behavior| behavior.encryption = Encryption::Always).start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    let held = sandbox.subscriptions().remove(0);
    let key = held.encryption_key.unwrap();
    let other = Secret::new("e0bMTqmumPfFUbwzppkSbA==");
    let quoted = |text: String| format!("\"{text}\"");
    let event = r#"{"uuid":"u","event":"/restapi/v1.0/account/1/extension/2/message-store","body":{"n":7}}"#;
    let bad = [
        quoted(encrypt(&other, event.as_bytes()).unwrap()),
        quoted(encrypt_unpadded(&key, &[0; 32]).unwrap()),
        quoted("not/base64!".into()),
        quoted("AAAA".into()),
        quoted(String::new()),
        quoted(encrypt(&key, b"\xff\xfe").unwrap()),
        quoted(encrypt(&key, b"no JSON").unwrap()),
        quoted(encrypt(&key, b"[1]").unwrap()),
        quoted(encrypt(&key, br#"{"uuid":"no event"}"#).unwrap()),
        "17".into(),
        "null".into(),
        "[]".into(),
        "{}".into(),
    ];
    publish(&sandbox, [1]);
    for data in &bad {
        sandbox.publish_raw(&held.id, data).unwrap();
    }
    // Not encrypted, although the others are; white space in base64.
    sandbox.publish_raw(&held.id, event).unwrap();
    let second = event.replace("\"u\"", "\"v\"").replace('7', "8");
    let mut spaced = encrypt(&key, second.as_bytes()).unwrap();
    spaced.insert_str(10, "\\n ");
    sandbox.publish_raw(&held.id, &quoted(spaced)).unwrap();
    publish(&sandbox, [2]);

    let journal = Journal::upto(&mut subscription, 2).await;
    assert_eq!(journal.events(), [1, 7, 8, 2]);
    assert_eq!(journal.undecodable().len(), bad.len(), "{:?}", journal.undecodable());
    assert!(journal.undecodable().iter().all(|it| !it.reason.is_empty()));
    // A payload that another key might decrypt is a possible gap; the others are not.
    let gaps = journal.gaps();
    assert!(!gaps.is_empty() && gaps.iter().all(|gap| gap.cause == GapCause::KeyUnknown), "{gaps:?}");
    assert_eq!(subscription.status().current().phase, Phase::Live);
    close_undecrypted(&sandbox, subscription).await;
}

#[tokio::test]
async fn p2_plain_objects_are_read_when_encryption_is_off() {
    let sandbox = quick().behavior(|behavior| behavior.encryption = Encryption::Never).start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    publish(&sandbox, 1..=5);
    Journal::upto(&mut subscription, 5).await.assert_only(1..=5);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn p4_a_poll_without_messages_is_not_an_error() {
    let sandbox = quick().behavior(|behavior| behavior.hold = ms(100)).start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    assert!(sandbox.wait_requests(Operation::Poll, 8, SOON).await);
    let now = subscription.status().current();
    assert!(now.is_healthy() && now.failed_attempts == 0 && now.last_error.is_none(), "{now:?}");
    publish(&sandbox, [1]);
    Journal::upto(&mut subscription, 1).await.assert_only([1]);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn p4_a_malformed_answer_and_a_403_are_reported() {
    for (fault, kind) in [(Fault::html(200), ErrorKind::Protocol), (Fault::status(403), ErrorKind::Rejected)] {
        let sandbox = quick().start().await.unwrap();
        let subscription = live(&sandbox).await;
        let mut status = subscription.status();
        sandbox.faults().inject(Target::Subscribe, fault.until_cleared());
        let seen = soon(status.wait_for(|status| status.last_error.is_some())).await.unwrap();
        assert!(!seen.is_healthy());
        assert_eq!(seen.last_error.unwrap().kind(), kind);
        sandbox.faults().clear_all();
        phase(&subscription, Phase::Live).await;
        drop(subscription);
        assert!(sandbox.wait_subscriptions(0, SOON).await);
    }
}

#[tokio::test]
async fn s1_a_panic_of_one_reader_stops_no_other() {
    let sandbox = quick().start().await.unwrap();
    let (mut doomed, mut other) = (live(&sandbox).await, live(&sandbox).await);
    let reading = tokio::spawn(async move {
        next(&mut doomed).await;
        panic!("a handler of the app fails");
    });
    publish(&sandbox, [1]);
    assert!(soon(reading).await.unwrap_err().is_panic());
    assert!(sandbox.wait_subscriptions(1, SOON).await, "the reader's subscription went with it");
    publish(&sandbox, [2]);
    Journal::upto(&mut other, 2).await.assert_only(1..=2);
    close(&sandbox, other).await;
}

#[tokio::test]
async fn s3_the_services_order_is_preserved() {
    const SESSIONS: &str = "/restapi/v1.0/account/~/extension/~/telephony/sessions";
    const PRESENCE: &str = "/restapi/v1.0/account/~/extension/~/presence";
    let sandbox = quick().start().await.unwrap();
    let builder = client(&sandbox).subscribe([filter(SESSIONS), filter(PRESENCE)]).backoff(eager());
    let mut subscription = start(builder.transport(pubnub(&sandbox).build().unwrap())).await;
    let mut expected = Vec::new();
    for n in 1..=60_i64 {
        // Three resources in turn; links break now and then.
        let (uri, body) = match n % 3 {
            0 => (PRESENCE, format!(r#"{{"extensionId":"100200301","sequence":{n}}}"#)),
            call => (SESSIONS, format!(r#"{{"telephonySessionId":"s-{call}","sequence":{n},"parties":[]}}"#)),
        };
        assert_eq!(sandbox.trigger_json(uri, &body).unwrap().len(), 1);
        expected.push(n);
        if n % 20 == 0 {
            sandbox.reset_connections(ringcentral_sandbox::Service::PubNub);
        }
    }
    // The service itself may deliver two events of a resource in the wrong order: they arrive in that order, with their
    // sequence numbers.
    sandbox.faults().swap_next(1);
    for n in [61_i64, 62] {
        let body = format!(r#"{{"telephonySessionId":"s-1","sequence":{n},"parties":[]}}"#);
        sandbox.trigger_json(SESSIONS, &body).unwrap();
    }
    expected.extend([62, 61]);
    let mut sequences = Vec::new();
    while sequences.len() < expected.len() {
        let Delivery::Notification(event) = next(&mut subscription).await else { panic!() };
        sequences.push(event.sequence().unwrap().number);
    }
    assert_eq!(sequences, expected);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn the_last_error_is_the_one_that_ended_the_stream() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    // The login is refused, which needs human action.
    sandbox.faults().inject(Operation::Renew, Fault::code(401, "OAU-213").until_cleared());
    sandbox.faults().inject(Operation::Token, Fault::code(400, "OAU-211").until_cleared());
    sandbox.faults().inject(Operation::Delete, Fault::code(403, "AGW-401").until_cleared());
    soon(subscription.handle().revalidate()).await.unwrap();
    let error = loop {
        match soon(subscription.next()).await.expect("an error before the end") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), error.code()), (ErrorKind::Auth, Some("OAU-213")), "{error:?}");
    assert!(soon(subscription.next()).await.is_none());
}

#[tokio::test]
async fn found_6_4_auth_errors_do_not_end_the_stream() {
    for (times, fault) in [
        (2, Fault::code(401, "OAU-213")),
        (3, Fault::code(401, "OAU-210")),
        (1, Fault::code(401, "OAU-211")),
        (1, Fault::code(401, "TokenExpired")),
        (2, Fault::status(401)),
        (1, Fault::code(403, "CMN-401")),
        (1, Fault::status(403)),
        (1, Fault::code(400, "OAU-210")),
    ] {
        let sandbox = quick().start().await.unwrap();
        let mut subscription = live(&sandbox).await;
        let case = format!("{fault:?}");
        sandbox.faults().inject(Operation::Renew, fault.times(times));
        soon(subscription.handle().revalidate()).await.unwrap();
        assert!(sandbox.wait_requests(Operation::Renew, times as usize + 1, SOON).await, "{case}");
        publish(&sandbox, [1]);
        Journal::upto(&mut subscription, 1).await.assert_only([1]);
        assert!(subscription.status().current().is_healthy(), "{case}");
        close(&sandbox, subscription).await;
    }
}

#[tokio::test]
async fn s5_a_killed_process_receives_unacknowledged_events_again() {
    let sandbox = quick().start().await.unwrap();
    let builder = || subscribe(&client(&sandbox), pubnub(&sandbox).build().unwrap());
    // A separate runtime represents the process: it ends with all its tasks, and without the work of a drop or a close.
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let first = builder();
    let mut first = soon(doomed.spawn(start(first))).await.unwrap();
    publish_at_once(&sandbox, 1..=5);
    Journal::upto(&mut first, 2).await.assert_only(1..=2);
    let acknowledged = first.resume_token().unwrap();
    Journal::upto(&mut first, 4).await.assert_only(3..=4);
    doomed.shutdown_background();
    std::mem::forget(first);
    publish(&sandbox, 6..=8);
    assert!(sandbox.wait_open_polls(0, SOON).await);

    let mut second = start(builder().resume(acknowledged)).await;
    publish(&sandbox, [9]);
    Journal::upto(&mut second, 9).await.assert_only(3..=9);
    assert_eq!(sandbox.requests_to(Operation::Create).len(), 1);
    close(&sandbox, second).await;
}

#[tokio::test]
async fn s6_draining_delivers_received_events_and_deletes() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    publish_at_once(&sandbox, 1..=20);
    assert!(sandbox.wait_caught_up(SOON).await);
    let shutdown = subscription.shutdown_handle();
    shutdown.drain();
    let mut journal = Journal::default();
    while let Some(delivery) = soon(subscription.next()).await {
        journal.entries.push_back(delivery.unwrap().into());
    }
    journal.assert_only(1..=20);
    assert!(soon(shutdown.finished()).await);
    assert!(sandbox.wait_subscriptions(0, SOON).await);
}

#[tokio::test]
async fn s6_discarding_counts_the_discarded_events() {
    let sandbox = quick().start().await.unwrap();
    let builder = subscribe(&client(&sandbox), pubnub(&sandbox).build().unwrap()).buffer(std::num::NonZeroUsize::MIN);
    let mut subscription = start(builder).await;
    publish_at_once(&sandbox, 1..=50);
    assert!(sandbox.wait_caught_up(SOON).await);
    let shutdown = subscription.shutdown_handle();
    shutdown.discard();
    let mut journal = Journal::default();
    while let Some(delivery) = soon(subscription.next()).await {
        journal.entries.push_back(delivery.unwrap().into());
    }
    let lost: u64 = journal.gaps().iter().map(|gap| gap.lost.unwrap()).sum();
    assert_eq!(journal.gaps().last().unwrap().cause, GapCause::Discarded);
    assert_eq!(journal.events().len() as u64 + lost, 50);
    assert!(soon(shutdown.finished()).await);
}

async fn get(client: &Client) -> Result<u16> {
    Ok(client.request(Method::GET, EXTENSION).send().await?.status().as_u16())
}

#[tokio::test]
async fn a1_a_hundred_callers_with_an_expired_token_cause_one_refresh() {
    // A hundred calls leave room in the rate group for the check of the subscription before its deletion.
    let announced = |behavior: &mut Behavior| (behavior.rate_limits.headers, behavior.rate_limits.light) = (true, 1000);
    let sandbox = quick().behavior(announced).start().await.unwrap();
    let client = client(&sandbox);
    get(&client).await.unwrap();
    let subscription = start(subscribe(&client, pubnub(&sandbox).build().unwrap())).await;
    sandbox.expire_access_tokens();
    let before = sandbox.requests_to(Operation::Token).len();
    let answers = soon(join_all((0..100).map(|_| get(&client)))).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(200))), "{answers:?}");
    assert_eq!(sandbox.requests_to(Operation::Token).len(), before + 1);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn a2_token_errors_lose_no_event() {
    let sandbox = quick().start().await.unwrap();
    let client = client(&sandbox);
    let mut subscription = start(subscribe(&client, pubnub(&sandbox).build().unwrap())).await;
    let (id, handle) = (subscription.id(), subscription.handle());
    sandbox.expire_access_tokens();
    let failing = sandbox.faults().inject(Operation::Token, Fault::status(503).until_cleared());
    soon(handle.revalidate()).await.unwrap();
    assert!(sandbox.faults().wait_hits(failing, 2, SOON).await);
    publish(&sandbox, 1..=5);
    let mut journal = Journal::upto(&mut subscription, 5).await;
    sandbox.faults().clear(failing);
    let renewed =
        |request: &ringcentral_sandbox::Recorded| request.operation == Operation::Renew && request.status == Some(200);
    assert!(sandbox.wait_for(renewed, SOON).await.is_some());
    publish(&sandbox, [6]);
    journal.read_to(&mut subscription, 6).await;
    journal.assert_only(1..=6);
    assert_eq!(subscription.id(), id);
    let grants: Vec<_> =
        sandbox.requests_to(Operation::Token).iter().map(|it| it.form("grant_type").unwrap()).collect();
    assert!(grants[1..].iter().all(|grant| grant == "refresh_token"), "the refresh token was preserved: {grants:?}");
    close(&sandbox, subscription).await;
}

/// Checks, at each save, whether the service has seen the token already.
#[derive(Debug)]
struct Watching {
    inner: MemoryTokenStore,
    sandbox: Arc<Sandbox>,
    used_before_saved: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl TokenStore for Watching {
    async fn load(&self) -> Result<Option<StoredTokens>> {
        self.inner.load().await
    }

    async fn save(&self, tokens: &StoredTokens) -> Result<()> {
        let stored = tokens.to_json()?;
        let used = self.sandbox.requests().into_iter().find(|request| {
            let token = request.authorization().and_then(|header| header.expose().strip_prefix("Bearer "));
            token.is_some_and(|token| stored.expose().contains(token))
        });
        self.used_before_saved.lock().unwrap().extend(used.map(|request| format!("{request:?}")));
        self.inner.save(tokens).await
    }

    async fn clear(&self) -> Result<()> {
        self.inner.clear().await
    }
}

#[tokio::test]
async fn a3_a_rotated_token_is_stored_before_it_is_used() {
    let sandbox = Arc::new(quick().start().await.unwrap());
    let used_before_saved = Arc::<Mutex<Vec<String>>>::default();
    let store = Watching {
        inner: MemoryTokenStore::new(),
        sandbox: sandbox.clone(),
        used_before_saved: used_before_saved.clone(),
    };
    let oauth = OAuth::jwt(sandbox.client_id(), sandbox.jwt())
        .client_secret(sandbox.client_secret())
        .server(sandbox.base_url())
        .store(store)
        .build()
        .unwrap();
    let client = Client::builder(oauth).build().unwrap();
    for _ in 0..4 {
        join_all((0..10).map(|_| get(&client))).await.into_iter().collect::<Result<Vec<_>>>().unwrap();
        sandbox.expire_access_tokens();
    }
    assert_eq!(sandbox.requests_to(Operation::Token).len(), 4);
    assert_eq!(*used_before_saved.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a5_a_permanently_refused_login_ends_the_stream_with_its_error() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    let handle = subscription.handle();
    publish(&sandbox, [1]);
    Journal::upto(&mut subscription, 1).await.assert_only([1]);
    sandbox.revoke_sessions();
    let body = r#"{"error":"invalid_grant","error_description":"Invalid JWT","errors":[{"errorCode":"OAU-251"}]}"#;
    let refused = sandbox.faults().inject(Operation::Token, Fault::status(400).body(body).until_cleared());
    soon(handle.revalidate()).await.unwrap();
    let error = loop {
        match soon(subscription.next()).await.expect("an error before the end") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Auth, "{error:?}");
    assert!(soon(subscription.next()).await.is_none(), "one error, then nothing");
    // The refresh token, then the JWT: each refused once and not retried.
    assert!(sandbox.faults().hits(refused) <= 2, "{}", sandbox.faults().hits(refused));
}

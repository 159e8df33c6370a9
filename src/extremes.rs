//! Every setting of a builder with absurd values (found 8): refused as invalid, or
//! bounded. None panics, then or when it is used.

use std::time::Duration;

use crate::auth::{AccessToken, FileTokenStore, OAuth, StaticToken, TokenProvider as _, TokenStore as _};
use crate::catch_up::MessageSync;
use crate::error::{ErrorKind, Result};
use crate::event::EventFilter;
use crate::policy::{BackoffPolicy, RenewalPolicy};
use crate::rest::Client;
use crate::{Checkpoint as _, FileCheckpoint};

const TIMES: [Duration; 4] = [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(u64::MAX), Duration::MAX];
const SIZES: [usize; 3] = [0, 1, usize::MAX];

fn texts() -> [String; 5] {
    ["".into(), "\0".into(), "\u{202e}\r\n".into(), "x".repeat(1 << 20), "é/?#%00".into()]
}

/// A URL without a listener.
const NOWHERE: &str = "http://127.0.0.1:9";

fn token() -> StaticToken {
    StaticToken::new(AccessToken::new("t"))
}

/// Refused as a setting, if at all.
fn built<T>(what: &str, made: Result<T>) -> Option<T> {
    made.map_err(|error| assert_eq!(error.kind(), ErrorKind::Config, "{what}: {error}")).ok()
}

#[tokio::test(start_paused = true)]
async fn no_setting_of_a_client_panics() {
    let builder = || Client::builder(token()).server(NOWHERE);
    let mut made = Vec::new();
    for time in TIMES {
        let backoff = BackoffPolicy::new().base(time).cap(time);
        made.push((format!("{time:?}"), builder().deadline(time).backoff(backoff).build()));
    }
    for size in SIZES {
        made.push((format!("{size}"), builder().body_limit(size).build()));
    }
    for text in texts() {
        made.push(("agent".into(), builder().user_agent(text.clone()).build()));
        made.push(("server".into(), builder().server(text).build()));
    }
    for (what, client) in made {
        if let Some(client) = built(&what, client) {
            client.request(http::Method::GET, "/restapi/v1.0").deadline(Duration::MAX).send().await.unwrap_err();
            client.request(http::Method::GET, "/restapi/v1.0").send().await.unwrap_err();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_setting_of_a_login_panics() {
    let builder = || OAuth::jwt("id", "jwt").client_secret("secret").server(NOWHERE);
    let mut made = Vec::new();
    for time in TIMES {
        made.push((format!("{time:?}"), builder().deadline(time).build()));
        made.push((format!("pause {time:?}"), builder().repeat_pause(time).build()));
        made.push((format!("life {time:?}"), builder().access_token_ttl(time).refresh_token_ttl(time).build()));
    }
    for text in texts() {
        made.push(("id".into(), OAuth::jwt(text.clone(), text.clone()).server(NOWHERE).build()));
        made.push((
            "secret".into(),
            builder().client_secret(text.clone()).scope(text.clone()).endpoint_id(text).build(),
        ));
    }
    for (what, oauth) in made {
        if let Some(oauth) = built(&what, oauth) {
            oauth.token().await.unwrap_err();
        }
    }
}

#[cfg(feature = "pubnub")]
#[test]
fn no_setting_of_the_pubnub_transport_panics() {
    use crate::transport::PubNub;
    for time in TIMES {
        for builder in [
            PubNub::builder().poll_deadline(time),
            PubNub::builder().connect_timeout(time),
            PubNub::builder().buffer_age(time),
        ] {
            built(&format!("{time:?}"), builder.build());
        }
    }
    for size in SIZES {
        built("size", PubNub::builder().buffer_size_hint(size).build());
        built("size", PubNub::builder().max_response(size).build());
    }
    for text in texts() {
        built("origin", PubNub::builder().origin(text).build());
    }
}

#[cfg(feature = "websocket")]
#[test]
fn no_setting_of_the_websocket_transport_panics() {
    use crate::transport::WebSocket;
    let builder = WebSocket::builder;
    for time in TIMES {
        for builder in [
            builder().ping_after(time),
            builder().heartbeat_after(time),
            builder().answer_within(time),
            builder().connect_timeout(time),
            builder().details_within(time),
            builder().dial_pause(time),
            builder().audit_every(time),
        ] {
            built(&format!("{time:?}"), builder.build());
        }
    }
    for size in SIZES {
        built("size", builder().max_message(size).inbox_bytes(size).build());
    }
}

#[cfg(feature = "digital")]
#[test]
fn no_setting_of_the_digital_source_panics() {
    use crate::digital::{SendApi, Source, SourceEndpoint};
    for time in TIMES {
        let endpoint = || Source::builder().build().map(|source| SourceEndpoint::builder(source, "token"));
        built("deadline", endpoint().and_then(|it| it.deadline(time).build()));
        built("age", endpoint().and_then(|it| it.max_age(time).build()));
        built("send", SendApi::builder(NOWHERE, "token").deadline(time).build());
    }
    for size in SIZES {
        let endpoint = || Source::builder().build().map(|source| SourceEndpoint::builder(source, "token"));
        built("body", endpoint().and_then(|it| it.body_limit(size).build()));
        built("at once", endpoint().and_then(|it| it.max_concurrent(size).build()));
        built("page", Source::builder().page(size).build());
    }
    for text in texts() {
        built("send", SendApi::builder(text.clone(), text).build());
    }
}

#[cfg(feature = "agent")]
#[tokio::test(start_paused = true)]
async fn no_setting_of_an_agent_session_panics() {
    use crate::agent::auth::{AccessKeys, CentralTokens, CxOneTokens};
    use crate::agent::{AgentCursor, AgentSession};
    let builder = || AgentSession::builder(token()).base_url(NOWHERE).phone_number("1");
    let mut all = Vec::new();
    for time in TIMES {
        all.push(builder().poll_timeout(time));
        all.push(builder().margin(time));
        all.push(builder().give_up_after(time.min(Duration::from_secs(3600))));
        all.push(builder().inactivity_timeout(time));
        all.push(builder().backoff(BackoffPolicy::new().base(time).cap(time)).give_up_after(Duration::from_secs(60)));
    }
    for size in SIZES {
        all.push(builder().queue_bytes(size).body_limit(size));
    }
    for text in texts() {
        all.push(builder().application(text.clone()).as_agent(text.clone()).application_context(text.clone()));
        all.push(builder().version(text.clone()));
        all.push(builder().base_url(text));
    }
    for builder in all {
        if let Some(session) = built("session", builder.resume(AgentCursor::from_text("S0"))) {
            let mut events = session.events().unwrap();
            // No server answers, so it ends with an error.
            while let Some(Ok(_)) = events.next().await {}
        }
    }
    // One that never gives up is still there after a year.
    let session = builder().give_up_after(Duration::MAX).resume(AgentCursor::from_text("S0")).unwrap();
    let mut events = session.events().unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(3600), events.next()).await.is_err());
    for text in texts() {
        built(
            "central",
            CentralTokens::builder(text.clone(), text.clone(), text.clone()).token_url(text.clone()).build(),
        );
        built("keys", AccessKeys::builder(&text, text.clone(), text.clone()).build());
        built("keys", AccessKeys::builder("na1", "i", "s").base_url(text.clone()).build());
        built("cxone", CxOneTokens::builder(&text, text.clone(), text.clone(), text.clone()).issuer(text).build());
    }
}

#[tokio::test]
async fn no_path_of_a_file_panics() {
    let folder = tempfile::tempdir().unwrap();
    for path in texts() {
        let text = path;
        // A path that names a file is tried in a separate folder, where its lock is created.
        let path = if text.is_empty() { text.clone().into() } else { folder.path().join(&text) };
        let place = FileCheckpoint::new(&path);
        let tokens = FileTokenStore::new(&path);
        for error in [place.load().await.err(), place.lock().await.err(), tokens.load().await.err()] {
            assert!(error.is_none_or(|error| error.kind() == ErrorKind::Store), "{text:.20}");
        }
    }
}

#[test]
fn no_setting_of_a_policy_or_source_panics() {
    let client = Client::builder(token()).server(NOWHERE).build().unwrap();
    for time in TIMES {
        let policy = BackoffPolicy::new().base(time).cap(time);
        for attempt in [0, 1, u32::MAX] {
            for random in [0.0, 1.0, f64::NAN, f64::INFINITY] {
                let wait = policy.delay(attempt, Some(time), random);
                assert!(wait <= BackoffPolicy::MAX_RETRY_AFTER);
            }
        }
        let renewal = RenewalPolicy::default().min_lead(time).max_lead(time);
        for chance in [0.0, 1.0, f64::NAN] {
            let after = renewal.renew_after(RenewalPolicy::lifetime(time), if chance.is_nan() { 0.5 } else { chance });
            assert!(after >= RenewalPolicy::FLOOR);
        }
        drop(MessageSync::new(client.clone()).reach(time));
        let _token = AccessToken::new("t").with_expires_in(time);
    }
    for size in SIZES {
        drop(MessageSync::new(client.clone()).page_size(size));
    }
    for text in texts() {
        let _filter = text.parse::<EventFilter>();
    }
}

//! Syncs of messages and of the call log.

use std::time::Duration;

use crate::support::bare::*;
use ringcentral_sandbox::{Fixture, Sandbox, SandboxBuilder};
use serde_json::{Value, json};

const MESSAGES: &str = "/restapi/v1.0/account/~/extension/~/message-sync";
const CALLS: &str = "/restapi/v1.0/account/~/extension/~/call-log-sync";
/// A little longer than the call log shows a call late.
const SETTLED: Duration = Duration::from_secs(16);

async fn logged_in(builder: SandboxBuilder) -> (Sandbox, Client) {
    let sandbox = builder.start().await.unwrap();
    let client = Client::login(&sandbox).await;
    (sandbox, client)
}

/// The answer to a full sync.
async fn full(client: &Client, path: &str) -> Value {
    let (status, answer) = client.get(&format!("{path}?syncType=FSync&recordCount=1")).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

/// The answer to an incremental sync with the token of `earlier`.
async fn changed(client: &Client, path: &str, earlier: &Value) -> (u16, Value) {
    let token = earlier["syncInfo"]["syncToken"].as_str().unwrap();
    client.get(&format!("{path}?syncType=ISync&syncToken={token}")).await
}

fn count(answer: &Value) -> usize {
    answer["records"].as_array().unwrap().len()
}

fn refusal(answer: &Value) -> (&Value, &Value) {
    (&answer["errors"][0]["errorCode"], &answer["errors"][0]["parameterName"])
}

#[tokio::test]
async fn the_setting_sets_how_far_a_sync_reaches_back_before_its_token() {
    for (overlap, want) in [(Duration::ZERO, 0), (Duration::from_secs(600), 1)] {
        let (sandbox, client) = logged_in(quick().behavior(|behavior| behavior.account.sync_overlap = overlap)).await;
        sandbox.trigger_all(&[Fixture::inbound_sms("+12055550143", "x"), Fixture::missed_call("+12055550143")]);
        sandbox.advance(SETTLED + Duration::from_secs(60));
        for path in [MESSAGES, CALLS] {
            let first = full(&client, path).await;
            let (status, answer) = changed(&client, path, &first).await;
            assert_eq!((status, count(&answer)), (200, want), "{path} {overlap:?}");
        }
    }
}

#[tokio::test]
async fn the_settings_set_the_lifetime_of_sync_tokens() {
    let (sandbox, client) = logged_in(quick().behavior(|behavior| {
        behavior.account.message_token_life = Duration::from_secs(600);
        behavior.account.call_log_token_life = Duration::from_secs(900);
    }))
    .await;
    let (messages, calls) = (full(&client, MESSAGES).await, full(&client, CALLS).await);
    sandbox.advance(Duration::from_secs(500));
    assert_eq!(changed(&client, MESSAGES, &messages).await.0, 200);
    sandbox.advance(Duration::from_secs(200));
    let (status, answer) = changed(&client, MESSAGES, &messages).await;
    assert_eq!((status, refusal(&answer).0), (400, &json!("MSG-333")));
    assert_eq!(changed(&client, CALLS, &calls).await.0, 200);
    sandbox.advance(Duration::from_secs(300));
    let (status, answer) = changed(&client, CALLS, &calls).await;
    assert_eq!((status, refusal(&answer)), (400, (&json!("CLG-102"), &json!("syncToken"))));
}

#[tokio::test]
async fn the_setting_limits_the_calls_of_one_sync() {
    let (sandbox, client) = logged_in(quick().behavior(|behavior| behavior.account.call_log_limit = 2)).await;
    let asked = async |count: u32| client.get(&format!("{CALLS}?syncType=FSync&recordCount={count}")).await.0;
    assert_eq!((asked(2).await, asked(3).await), (200, 400));
    let first = full(&client, CALLS).await;
    for (calls, want) in [(2, 200), (1, 400)] {
        sandbox.trigger_all(&vec![Fixture::missed_call("+12055550143"); calls]);
        sandbox.advance(SETTLED);
        let (status, answer) = changed(&client, CALLS, &first).await;
        assert_eq!(status, want, "{answer}");
        if want == 400 {
            assert_eq!(refusal(&answer), (&json!("CLG-104"), &json!("syncToken")));
        }
    }
}

#[tokio::test]
async fn the_setting_decides_whether_a_sync_shows_changes_of_messages_older_than_its_frame() {
    for (hides, want) in [(true, 0), (false, 1)] {
        let (sandbox, client) =
            logged_in(quick().behavior(|behavior| behavior.account.frame_hides_older = hides)).await;
        sandbox.trigger(&Fixture::inbound_sms("+12055550143", "x"));
        let id = sandbox.stored_messages()[0]["id"].as_u64().unwrap();
        sandbox.advance(Duration::from_secs(600));
        let begins = full(&client, MESSAGES).await["syncInfo"]["syncTime"].as_str().unwrap().to_owned();
        let (_, framed) = client.get(&format!("{MESSAGES}?syncType=FSync&dateFrom={begins}")).await;
        assert_eq!(count(&framed), 0, "{framed}");
        sandbox.trigger(&Fixture::message_read(id));
        let (status, answer) = changed(&client, MESSAGES, &framed).await;
        assert_eq!((status, count(&answer)), (200, want), "{answer}");
    }
}

//! The PubNub server: the rows of the emulator checklist.

use std::time::Duration;

use crate::support::bare::*;
use ringcentral_sandbox::{Fixture, Overflow, Sandbox};
use serde_json::{Value, json};

const POSTS: &str = "/team-messaging/v1/posts";

async fn listening() -> (Sandbox, Client, Value, Cursor) {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let info = client.subscribed(&[POSTS]).await;
    let mut cursor = Cursor::start();
    client.next(&info, &mut cursor).await;
    (sandbox, client, info, cursor)
}

fn post(sandbox: &Sandbox, numbers: std::ops::Range<u64>) {
    let bodies: Vec<String> = numbers.map(|number| format!(r#"{{"n":{number}}}"#)).collect();
    assert!(!sandbox.trigger_json_all(POSTS, &bodies).unwrap().is_empty());
}

fn numbers(messages: &[Value]) -> Vec<u64> {
    messages.iter().map(|message| message["d"]["body"]["n"].as_u64().unwrap()).collect()
}

async fn get(sandbox: &Sandbox, path: &str) -> (u16, String, String) {
    let answer = http().get(format!("{}{path}", sandbox.pubnub_origin())).send().await.unwrap();
    let content_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    (answer.status().as_u16(), content_type, answer.text().await.unwrap())
}

#[tokio::test]
async fn an_envelope_has_the_service_s_fields_and_settings_leave_them_out() {
    let (sandbox, client, info, mut cursor) = listening().await;
    post(&sandbox, 0..1);
    let message = &client.next(&info, &mut cursor).await[0];
    let mode = &info["deliveryMode"];
    assert_eq!(
        (&message["c"], &message["b"], &message["k"]),
        (&mode["address"], &mode["address"], &mode["subscriberKey"])
    );
    assert_eq!((&message["a"], &message["f"], &message["p"]["r"]), (&json!("1"), &json!(514), &json!(12)));
    assert_eq!(message["p"]["t"], cursor.timetoken);
    assert!(message.get("e").is_none());
    sandbox.behavior(|behavior| {
        behavior.omit = ["a", "f", "b", "k"].map(String::from).to_vec();
        behavior.event_type = 77;
    });
    post(&sandbox, 1..2);
    let message = &client.next(&info, &mut cursor).await[0];
    let mut keys: Vec<&str> = message.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["c", "d", "e", "i", "p", "s"]);
    assert_eq!(message["e"], 77);
}

#[tokio::test]
async fn timetokens_only_grow_and_any_cursor_finds_later_messages() {
    let (sandbox, client, info, start) = listening().await;
    post(&sandbox, 0..50);
    let mut cursor = start.clone();
    let messages = client.next(&info, &mut cursor).await;
    let tokens: Vec<u64> = messages.iter().map(|m| m["p"]["t"].as_str().unwrap().parse().unwrap()).collect();
    assert!(tokens.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(start.ticks() < tokens[0] && cursor.ticks() == tokens[49]);
    let mut middle = Cursor { timetoken: tokens[24].to_string(), region: Some(12) };
    assert_eq!(numbers(&client.next(&info, &mut middle).await), (25..50).collect::<Vec<_>>());
    let mut own_clock = Cursor { timetoken: (tokens[0] - 1).to_string(), region: None };
    assert_eq!(client.next(&info, &mut own_clock).await.len(), 50, "a cursor from a clock, without region");
    let empty = client.next(&info, &mut cursor.clone()).await;
    assert!(empty.is_empty());
}

#[tokio::test]
async fn the_ring_silently_drops_the_oldest() {
    let (sandbox, client, info, cursor) = listening().await;
    post(&sandbox, 0..150);
    assert_eq!(numbers(&client.next(&info, &mut cursor.clone()).await), (50..150).collect::<Vec<_>>());
    assert_eq!(sandbox.gauges().dropped_messages, 50);
    sandbox.behavior(|behavior| (behavior.ring, behavior.response_cap) = (500, 500));
    post(&sandbox, 150..600);
    assert_eq!(client.next(&info, &mut cursor.clone()).await.len(), 500);
}

#[tokio::test]
async fn an_answer_is_capped_over_all_channels() {
    let (sandbox, client, info, start) = listening().await;
    let other = client.subscribed(&[POSTS]).await;
    let mut both = info.clone();
    both["deliveryMode"]["address"] = json!(format!(
        "{},{}",
        info["deliveryMode"]["address"].as_str().unwrap(),
        other["deliveryMode"]["address"].as_str().unwrap().replace('_', "%5f")
    ));
    post(&sandbox, 0..80);
    let messages = client.next(&both, &mut start.clone()).await;
    assert_eq!(numbers(&messages), (30..80).flat_map(|n| [n, n]).collect::<Vec<_>>(), "the oldest are lost");
    sandbox.behavior(|behavior| behavior.overflow = Overflow::Page);
    let mut cursor = start;
    assert_eq!(client.next(&both, &mut cursor).await.len(), 100);
    assert_eq!(client.next(&both, &mut cursor).await.len(), 60, "or come with the next poll");
}

#[tokio::test]
async fn messages_age() {
    let (sandbox, client, info, cursor) = listening().await;
    sandbox.behavior(|behavior| behavior.retention = Duration::from_secs(120));
    post(&sandbox, 0..1);
    sandbox.advance(Duration::from_secs(119));
    post(&sandbox, 1..2);
    sandbox.advance(Duration::from_secs(10));
    assert_eq!(numbers(&client.next(&info, &mut cursor.clone()).await), [1]);
}

#[tokio::test]
async fn a_cursor_may_be_behind_its_messages_and_nothing_comes_twice() {
    let (sandbox, client, info, mut cursor) = listening().await;
    sandbox.behavior(|behavior| behavior.published_ahead = 1210);
    post(&sandbox, 0..2);
    let messages = client.next(&info, &mut cursor).await;
    let last: u64 = messages[1]["p"]["t"].as_str().unwrap().parse().unwrap();
    assert_eq!(last - cursor.ticks(), 1210);
    post(&sandbox, 2..3);
    assert_eq!(numbers(&client.next(&info, &mut cursor).await), [2]);
}

#[tokio::test]
async fn a_cursor_jumps_with_its_region_and_goes_back() {
    let (sandbox, client, info, mut cursor) = listening().await;
    let mut seen = Vec::new();
    for (region, offset) in [(12, 0), (4, 3000), (4, 3000), (12, 0), (7, -5000), (12, 0)] {
        let before = cursor.clone();
        sandbox.behavior(|behavior| (behavior.region, behavior.region_offset_ms) = (region, offset));
        let next = seen.len() as u64;
        post(&sandbox, next..next + 1);
        seen.extend(numbers(&client.next(&info, &mut cursor).await));
        assert_eq!(cursor.region, Some(u64::from(region)));
        if before.region == Some(4) && region == 12 {
            assert!(cursor.ticks() < before.ticks(), "t.t went back");
        }
    }
    assert_eq!(seen, [0, 1, 2, 3, 4, 5], "a client that sends tr loses nothing");
    sandbox.behavior(|behavior| (behavior.region, behavior.region_offset_ms) = (4, 3000));
    post(&sandbox, 6..7);
    client.next(&info, &mut cursor).await;
    post(&sandbox, 7..8);
    cursor.region = None;
    assert!(client.next(&info, &mut cursor).await.is_empty(), "a client that does not send it loses messages");
}

#[tokio::test]
async fn version_one_is_served_too() {
    let (sandbox, client, info, _) = listening().await;
    let mode = &info["deliveryMode"];
    let (key, channel) = (mode["subscriberKey"].as_str().unwrap(), mode["address"].as_str().unwrap());
    let (status, content_type, handshake) = get(&sandbox, &format!("/subscribe/{key}/{channel}/0/0")).await;
    assert_eq!((status, content_type.as_str()), (200, "text/javascript; charset=\"UTF-8\""));
    let answer: Value = serde_json::from_str(&handshake).unwrap();
    assert_eq!(answer[0], json!([]));
    let token = answer[1].as_str().unwrap();
    sandbox.trigger(&Fixture::team_post("old style"));
    let (_, _, text) = get(&sandbox, &format!("/subscribe/{key}/{channel}/0/{token}")).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer[0][0]["body"]["text"], "old style");
    assert_eq!(answer.as_array().unwrap().len(), 2);
    let (_, _, text) = get(&sandbox, &format!("/subscribe/{key}/{channel},other/cb_1/{token}")).await;
    assert!(text.starts_with("cb_1([[{") && text.ends_with(&format!(r#","{channel}"])"#)), "{text}");
    drop(client);
}

#[tokio::test]
async fn the_other_endpoints_of_pubnub() {
    let (sandbox, _client, info, _) = listening().await;
    let key = info["deliveryMode"]["subscriberKey"].as_str().unwrap();
    let (_, _, now) = get(&sandbox, "/time/0").await;
    assert!(serde_json::from_str::<[u64; 1]>(&now).is_ok(), "a number: {now}");
    let (status, _, leave) = get(&sandbox, &format!("/v2/presence/sub-key/{key}/channel/a,b/leave?uuid=u")).await;
    assert_eq!((status, leave.contains(r#""action":"leave""#)), (200, true));
    let (status, _, beat) = get(&sandbox, &format!("/v2/presence/sub_key/{key}/channel/a/heartbeat?uuid=u")).await;
    assert_eq!((status, beat.contains("OK")), (200, true));
    for (path, want) in [
        ("/v2/subscribe/sub-c-nobody/c/0?tt=0".to_owned(), 400),
        (format!("/v2/subscribe/{key}/c/0?tt=soon"), 400),
        (format!("/v2/subscribe/{key}/c/0?tt=1&tr=here"), 400),
        (format!("/v2/subscribe/{key}/{}/0", "c".repeat(33_000)), 414),
        ("/v3/history".to_owned(), 404),
    ] {
        let (status, _, text) = get(&sandbox, &path).await;
        assert_eq!(status, want, "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["status"], want);
    }
    let options = http().request(reqwest::Method::OPTIONS, format!("{}/time/0", sandbox.pubnub_origin()));
    assert_eq!(options.send().await.unwrap().headers()["access-control-allow-methods"], "OPTIONS, GET, POST");
}

#[tokio::test]
async fn two_polls_of_one_channel_are_counted() {
    let (sandbox, client, info, cursor) = listening().await;
    sandbox.behavior(|behavior| behavior.hold = Duration::from_secs(30));
    let first = tokio::spawn(client.poll(&info, &cursor).send());
    assert!(sandbox.wait_open_polls(1, SOON).await);
    assert_eq!(sandbox.gauges().overlapping_polls, 0);
    let second = tokio::spawn(client.poll(&info, &cursor).send());
    assert!(sandbox.wait_open_polls(2, SOON).await);
    assert_eq!(sandbox.open_polls_on(&sandbox.subscriptions()[0].id), 2);
    sandbox.advance(Duration::from_secs(1));
    assert_eq!(sandbox.gauges().overlapping_polls, 1);
    first.abort();
    assert!(sandbox.wait_open_polls(1, SOON).await);
    second.abort();
    assert!(sandbox.wait_open_polls(0, SOON).await);
    let gauges = sandbox.gauges();
    assert_eq!((gauges.overlapping_polls, gauges.max_open_polls), (1, 2));
}

#[tokio::test]
async fn wait_caught_up_waits_until_everything_has_arrived() {
    let (sandbox, client, info, mut cursor) = listening().await;
    post(&sandbox, 0..3);
    assert!(!sandbox.wait_caught_up(Duration::ZERO).await);
    client.next(&info, &mut cursor).await;
    assert!(!sandbox.wait_caught_up(Duration::ZERO).await, "sent is not arrived");
    client.next(&info, &mut cursor).await;
    assert!(sandbox.wait_caught_up(SOON).await);
}

#[tokio::test]
async fn http_2_with_prior_knowledge_works() {
    let sandbox = quick().start().await.unwrap();
    let h2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().timeout(SOON).build().unwrap();
    let answer = h2.get(format!("{}/time/0", sandbox.pubnub_origin())).send().await.unwrap();
    assert_eq!(answer.version(), reqwest::Version::HTTP_2);
}

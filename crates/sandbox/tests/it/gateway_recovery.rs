//! Sessions that lose their socket and get another.

use std::time::Duration;

use crate::support::bare::*;
use crate::support::gateway::*;
use ringcentral_events::SubscriptionId;
use ringcentral_sandbox::{Fixture, LiveRecovery, Sandbox, SandboxBuilder, Service, WscRotation};
use serde_json::{Value, json};

struct Bot {
    sandbox: Sandbox,
    client: Client,
    socket: Socket,
    details: Value,
    id: SubscriptionId,
}

async fn subscribed(builder: SandboxBuilder) -> Bot {
    let sandbox = builder.start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let (mut socket, details) = connect(&sandbox, &client).await;
    let id = socket.subscribed(&[POSTS]).await;
    Bot { sandbox, client, socket, details, id }
}

impl Bot {
    fn post(&self, texts: &[&str]) {
        for text in texts {
            self.sandbox.trigger(&Fixture::team_post(*text));
        }
    }

    fn lose(&self) {
        self.sandbox.reset_connections(Service::Gateway);
    }

    async fn resume(&self) -> (Socket, Value) {
        resume(&self.sandbox, &self.client, wsc(&self.details)).await
    }
}

fn failed(details: &Value, code: Option<&str>) {
    assert_eq!((&details[1]["recoveryState"], &details[1]["recoveryErrorCode"]), (&json!("Failed"), &json!(code)));
}

#[tokio::test]
async fn a_session_gets_missed_events_and_retains_its_subscription() {
    let mut bot = subscribed(quick()).await;
    bot.post(&["before"]);
    assert_eq!(bot.socket.posts(1).await, ["before"]);
    bot.lose();
    bot.post(&["one", "two"]);
    let (mut socket, details) = bot.resume().await;
    assert_eq!(details[1]["recoveryState"], "Successful");
    assert_eq!(
        (&details[1]["creationTime"], details[1].get("recoveryErrorCode")),
        (&bot.details[1]["creationTime"], None)
    );
    assert_eq!(details[0]["wsc"]["sequence"], 2);
    bot.post(&["three"]);
    assert_eq!(socket.posts(3).await, ["one", "two", "three"]);
    let views = bot.sandbox.subscriptions();
    assert_eq!((views.len(), &views[0].id, views[0].connected), (1, &bot.id, Some(true)));
    bot.lose();
    let (_, details) = resume(&bot.sandbox, &bot.client, wsc(&details)).await;
    assert_eq!(details[1]["recoveryState"], "Successful", "and again");
}

#[tokio::test]
async fn only_the_newest_events_that_fit_are_replayed() {
    let bot = subscribed(quick().behavior(|behavior| behavior.gateway.recovery_buffer_size = 3)).await;
    assert_eq!(bot.details[1]["recoveryBufferSize"], 3);
    bot.lose();
    bot.post(&["0", "1", "2", "3", "4"]);
    let (mut socket, _) = bot.resume().await;
    assert_eq!(socket.posts(3).await, ["2", "3", "4"]);
    socket.beat().await;
}

#[tokio::test]
async fn recovery_accepts_a_refreshed_login_and_rejects_a_new_one() {
    let mut bot = subscribed(quick()).await;
    let other = Client::login(&bot.sandbox).await;
    bot.lose();
    let (mut socket, details) = resume(&bot.sandbox, &other, wsc(&bot.details)).await;
    failed(&details, Some("WSG-1003"));
    assert_eq!(details[0]["wsc"]["sequence"], 1, "a new session");
    socket.subscribed(&[POSTS]).await;

    let jwt = bot.sandbox.jwt();
    let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", jwt.expose())];
    let (_, login) = token(&bot.sandbox, &form).await;
    bot.client.token = login["access_token"].as_str().unwrap().to_owned();
    let (mut socket, details) = connect(&bot.sandbox, &bot.client).await;
    socket.subscribed(&[POSTS]).await;
    let refresh = login["refresh_token"].as_str().unwrap();
    let (_, refreshed) = token(&bot.sandbox, &[("grant_type", "refresh_token"), ("refresh_token", refresh)]).await;
    bot.client.token = refreshed["access_token"].as_str().unwrap().to_owned();
    bot.lose();
    let (_, details) = resume(&bot.sandbox, &bot.client, wsc(&details)).await;
    assert_eq!(details[1]["recoveryState"], "Successful");
}

#[tokio::test]
async fn without_a_subscription_there_is_nothing_to_recover() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let (_socket, details) = connect(&sandbox, &client).await;
    sandbox.close_connections(Service::Gateway);
    let (mut socket, second) = resume(&sandbox, &client, wsc(&details)).await;
    failed(&second, Some("WSG-1005"));
    let id = socket.subscribed(&[POSTS]).await;
    sandbox.forget(&id);
    sandbox.close_connections(Service::Gateway);
    let (_, third) = resume(&sandbox, &client, wsc(&second)).await;
    failed(&third, Some("WSG-1005"));
}

#[tokio::test]
async fn the_setting_lets_another_login_recover_a_session() {
    for needs in [true, false] {
        let bot = subscribed(quick().behavior(|behavior| behavior.gateway.recovery_needs_same_login = needs)).await;
        let other = Client::login(&bot.sandbox).await;
        bot.lose();
        bot.post(&["missed"]);
        let (mut socket, details) = resume(&bot.sandbox, &other, wsc(&bot.details)).await;
        if needs {
            failed(&details, Some("WSG-1003"));
        } else {
            assert_eq!(details[1]["recoveryState"], "Successful");
            assert_eq!(socket.posts(1).await, ["missed"]);
        }
    }
}

#[tokio::test]
async fn the_setting_lets_a_session_without_a_subscription_recover() {
    for needs in [true, false] {
        let builder = quick().behavior(|behavior| behavior.gateway.recovery_needs_subscription = needs);
        let sandbox = builder.start().await.unwrap();
        let client = Client::login(&sandbox).await;
        let (_socket, details) = connect(&sandbox, &client).await;
        sandbox.close_connections(Service::Gateway);
        let (_socket, second) = resume(&sandbox, &client, wsc(&details)).await;
        if needs {
            failed(&second, Some("WSG-1005"));
        } else {
            assert_eq!(second[1]["recoveryState"], "Successful");
            assert_eq!(second[1]["creationTime"], details[1]["creationTime"]);
        }
    }
}

#[tokio::test]
async fn an_expired_session_ends_its_subscription() {
    let bot = subscribed(quick()).await;
    bot.lose();
    bot.sandbox.advance(Duration::from_secs(179));
    assert_eq!(bot.sandbox.subscriptions().len(), 1);
    bot.sandbox.advance(Duration::from_secs(1));
    assert!(bot.sandbox.wait_subscriptions(0, SOON).await);
    let (mut socket, details) = bot.resume().await;
    failed(&details, None);
    assert_eq!(details[0]["wsc"]["sequence"], 1);
    socket.subscribed(&[POSTS]).await;
}

#[tokio::test]
async fn orphans_can_stay_and_late_recovery_can_have_a_code() {
    let bot = subscribed(quick().behavior(|behavior| {
        (behavior.gateway.keep_orphans, behavior.gateway.wsc_sequence_restarts) = (true, false);
        behavior.gateway.late_recovery_code = Some("WSG-1003".into());
    }))
    .await;
    bot.lose();
    bot.sandbox.advance(Duration::from_secs(180));
    let (_, details) = bot.resume().await;
    failed(&details, Some("WSG-1003"));
    assert_eq!(details[0]["wsc"]["sequence"], 2, "the gateway counts on");
    let views = bot.sandbox.subscriptions();
    assert_eq!((views.len(), views[0].connected), (1, None));
    bot.sandbox.advance(Duration::from_secs(86_400));
    assert!(bot.sandbox.subscriptions().is_empty());
}

#[tokio::test]
async fn a_malformed_token_is_an_error_and_a_close() {
    let sandbox = quick().behavior(|behavior| behavior.gateway.close_code = 1011).start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let query = format!("access_token={}&wsc=nonsense", ws_token(&client).await);
    let mut socket = upgrade(&sandbox, &query).await.unwrap();
    let error = socket.frame().await;
    assert_eq!((&error[0]["type"], &error[1]["errorCode"]), (&json!("Error"), &json!("WSG-400")));
    assert_eq!(socket.closed().await, Some(1011));
}

#[tokio::test]
async fn the_replay_comes_in_one_piece_with_the_details_or_later() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let bot = subscribed(quick().behavior(|behavior| behavior.gateway.replay_delay = Duration::ZERO)).await;
    bot.lose();
    bot.post(&["cork 0", "cork 1"]);
    let mut stream = tcp(&bot.sandbox).await;
    let token = ws_token(&bot.client).await;
    let request = format!(
        "GET /ws?access_token={token}&wsc={} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        wsc(&bot.details)
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    let mut buffer = vec![0; 65_536];
    while !String::from_utf8_lossy(&seen).contains("ConnectionDetails") {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0);
        seen.extend_from_slice(&buffer[..read]);
    }
    assert!(String::from_utf8_lossy(&seen).contains("cork 1"), "details and replay arrive in one piece");
    drop(stream);
    assert!(bot.sandbox.wait_open_sockets(0, SOON).await);

    bot.sandbox.behavior(|behavior| behavior.gateway.replay_delay = Duration::from_secs(60));
    bot.post(&["late"]);
    let (mut socket, _) = bot.resume().await;
    bot.post(&["later"]);
    socket.beat().await;
    bot.sandbox.advance(Duration::from_secs(60));
    assert_eq!(socket.posts(2).await, ["late", "later"]);
}

#[tokio::test]
async fn replays_can_repeat_and_be_reversed() {
    let mut bot = subscribed(quick().behavior(|behavior| {
        (behavior.gateway.replay_duplicates, behavior.gateway.replay_reversed) = (2, true);
        behavior.gateway.coalesce_replay = false;
    }))
    .await;
    bot.post(&["0", "1", "2"]);
    assert_eq!(bot.socket.posts(3).await, ["0", "1", "2"]);
    bot.lose();
    bot.post(&["3"]);
    assert_eq!(bot.resume().await.0.posts(3).await, ["3", "2", "1"]);
}

#[tokio::test]
async fn tokens_rotate_on_notifications_or_in_separate_details() {
    let mut bot =
        subscribed(quick().behavior(|behavior| behavior.gateway.wsc_rotation = WscRotation::Notifications)).await;
    bot.post(&["a"]);
    let event = bot.socket.frame().await;
    assert_eq!(event[0]["wsc"]["sequence"], 2);
    bot.sandbox.behavior(|behavior| behavior.gateway.wsc_rotation = WscRotation::Details);
    bot.post(&["b"]);
    assert_eq!(bot.socket.posts(1).await, ["b"]);
    let details = bot.socket.frame().await;
    assert_eq!((&details[0]["type"], details.as_array().unwrap().len()), (&json!("ConnectionDetails"), 1));
    assert_eq!(details[0]["wsc"]["sequence"], 3);
    for token in [wsc(&event), wsc(&details), wsc(&bot.details)] {
        bot.lose();
        let (_, details) = resume(&bot.sandbox, &bot.client, token).await;
        assert_eq!(details[1]["recoveryState"], "Successful", "former ones stay good");
    }
}

#[tokio::test]
async fn a_live_session_is_taken_over_or_stays() {
    let mut bot = subscribed(quick()).await;
    let (mut second, details) = bot.resume().await;
    assert_eq!(details[1]["recoveryState"], "Successful");
    assert_eq!(bot.socket.closed().await, Some(1000));
    bot.post(&["to the second"]);
    assert_eq!(second.posts(1).await, ["to the second"]);
    bot.sandbox.behavior(|behavior| behavior.gateway.live_recovery = LiveRecovery::Fail);
    let (_third, details) = bot.resume().await;
    failed(&details, None);
    bot.post(&["still to the second"]);
    assert_eq!(second.posts(1).await, ["still to the second"]);
}

#[tokio::test]
async fn a_gateway_that_was_down_recovers_its_sessions() {
    let bot = subscribed(quick()).await;
    bot.sandbox.stop_service(Service::Gateway).await;
    bot.post(&["meanwhile"]);
    bot.sandbox.start_service(Service::Gateway).await;
    let (mut socket, _) = bot.resume().await;
    assert_eq!(socket.posts(1).await, ["meanwhile"]);
}

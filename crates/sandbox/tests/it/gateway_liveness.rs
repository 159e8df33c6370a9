//! Timeouts, pings, and external ends of a socket.

use std::time::Duration;

use crate::support::bare::*;
use crate::support::gateway::*;
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Method;
use ringcentral_sandbox::{Fixture, LiveRecovery, Operation, Sandbox, SandboxBuilder, Service, TokenExpiry};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

async fn started(builder: SandboxBuilder) -> (Sandbox, Client, Socket, String) {
    let sandbox = builder.start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let (mut socket, details) = connect(&sandbox, &client).await;
    socket.subscribed(&[POSTS]).await;
    let token = wsc(&details).to_owned();
    (sandbox, client, socket, token)
}

/// Long logins, so that sockets end for other reasons.
fn patient() -> SandboxBuilder {
    quick().behavior(|behavior| behavior.access_token_ttl = Duration::from_secs(1_000_000))
}

async fn fails(socket: &mut Socket, code: &str) {
    let error = socket.frame().await;
    assert_eq!((&error[0]["type"], &error[1]["errorCode"]), (&json!("Error"), &json!(code)));
    assert_eq!(socket.closed().await, Some(1000));
}

#[tokio::test]
async fn an_idle_socket_gets_an_error_and_is_closed_unless_it_sends_heartbeats() {
    let (sandbox, client, mut socket, token) = started(patient()).await;
    sandbox.advance(Duration::from_secs(1700));
    socket.beat().await;
    sandbox.advance(Duration::from_secs(1700));
    socket.beat().await;
    sandbox.advance(Duration::from_secs(1700));
    sandbox.trigger(&Fixture::team_post("traffic too"));
    socket.posts(1).await;
    sandbox.advance(Duration::from_secs(1700));
    socket.beat().await;
    sandbox.advance(Duration::from_secs(1800));
    fails(&mut socket, "WSG-902").await;
    let (_, details) = resume(&sandbox, &client, &token).await;
    assert_eq!(details[1]["recoveryState"], "Successful");
    assert_eq!(sandbox.requests_to(Operation::SocketHeartbeat).len(), 3);
}

#[tokio::test]
async fn the_setting_makes_pings_count_as_traffic() {
    for counts in [false, true] {
        let (sandbox, _, mut socket, _) =
            started(patient().behavior(|behavior| behavior.gateway.ping_resets_idle = counts)).await;
        sandbox.advance(Duration::from_secs(1000));
        socket.stream.send(Message::Ping("x".into())).await.unwrap();
        loop {
            match socket.stream.next().await.unwrap().unwrap() {
                Message::Pong(data) if data == "x".as_bytes() => break,
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
        sandbox.advance(Duration::from_secs(1000));
        if counts { socket.beat().await } else { fails(&mut socket, "WSG-902").await }
    }
}

#[tokio::test]
async fn a_socket_has_an_absolute_end() {
    let (sandbox, client, mut socket, token) = started(patient()).await;
    sandbox.advance(Duration::from_secs(86_400));
    fails(&mut socket, "WSG-903").await;
    sandbox.trigger(&Fixture::team_post("kept"));
    let (mut socket, _) = resume(&sandbox, &client, &token).await;
    assert_eq!(socket.posts(1).await, ["kept"]);
}

#[tokio::test]
async fn the_setting_sets_and_announces_the_absolute_end() {
    let builder = patient().behavior(|behavior| {
        behavior.gateway.absolute_timeout = Duration::from_secs(600);
        // Each ping would extend the wait for an end that does not come.
        behavior.gateway.ping_period = Duration::from_secs(3600);
    });
    let sandbox = builder.start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let (mut socket, details) = connect(&sandbox, &client).await;
    assert_eq!(details[1]["absoluteTimeout"], 600);
    sandbox.advance(Duration::from_secs(500));
    socket.beat().await;
    sandbox.advance(Duration::from_secs(100));
    fails(&mut socket, "WSG-903").await;
}

#[tokio::test]
async fn the_setting_sets_the_interval_of_pings() {
    let (sandbox, client, mut socket, _) = started(patient().behavior(|behavior| {
        behavior.gateway.ping_period = Duration::from_secs(3600);
        behavior.gateway.idle_timeout = Duration::from_secs(1_000_000);
    }))
    .await;
    sandbox.behavior(|behavior| behavior.gateway.absolute_timeout = Duration::from_secs(3000));
    // The first interval begins when the socket opens, each further one at the pong.
    for _ in 0..2 {
        let (mut other, _) = connect(&sandbox, &client).await;
        sandbox.advance(Duration::from_secs(3000));
        // Pings that are due are sent together with this end.
        fails(&mut other, "WSG-903").await;
        let beat = json!([{ "type": "Heartbeat", "messageId": "beat/1" }]);
        socket.send(&beat).await;
        let echo = soon(socket.stream.next()).await.unwrap().unwrap();
        assert!(echo.is_text(), "no ping is due: {echo:?}");
        sandbox.advance(Duration::from_secs(600));
        let ping = soon(socket.stream.next()).await.unwrap().unwrap();
        assert!(ping.is_ping(), "{ping:?}");
        // The pong is sent before this heartbeat.
        socket.beat().await;
    }
}

#[tokio::test]
async fn pings_come_and_no_clock_that_is_moved_makes_a_client_late() {
    let (sandbox, _, mut socket, _) = started(patient()).await;
    for _ in 0..3 {
        sandbox.advance(Duration::from_secs(30));
        let ping = socket.stream.next().await.unwrap().unwrap();
        assert!(ping.is_ping(), "{ping:?}");
        sandbox.advance(Duration::from_secs(20));
        // Reading on answers the ping.
        socket.beat().await;
    }
    assert_eq!(sandbox.gauges().open_sockets, 1);
}

#[tokio::test]
async fn without_pongs_a_socket_is_dropped() {
    let (sandbox, _, _socket, _) =
        started(patient().behavior(|behavior| behavior.gateway.pong_deadline = Duration::from_millis(1))).await;
    sandbox.advance(Duration::from_secs(30));
    assert!(sandbox.wait_open_sockets(0, SOON).await, "an unread ping is not answered");
    assert_eq!(sandbox.subscriptions()[0].connected, Some(false));
}

#[tokio::test]
async fn an_expired_access_token_closes_the_socket_or_makes_it_a_zombie() {
    for (effect, revoke) in [
        (TokenExpiry::Close, false),
        (TokenExpiry::Close, true),
        (TokenExpiry::Zombie, false),
        (TokenExpiry::Zombie, true),
    ] {
        let (sandbox, client, mut socket, _) =
            started(quick().behavior(|behavior| behavior.gateway.token_expiry = effect)).await;
        if revoke {
            let form = format!("token={}", client.token);
            let request = http().post(format!("{}/restapi/oauth/revoke", sandbox.base_url()));
            let request = request.basic_auth(sandbox.client_id(), Some(sandbox.client_secret().expose())).body(form);
            assert_eq!(request.send().await.unwrap().status().as_u16(), 200);
        } else {
            sandbox.expire_access_tokens();
        }
        if effect == TokenExpiry::Close {
            assert_eq!(socket.closed().await, Some(1000));
            continue;
        }
        sandbox.trigger(&Fixture::team_post("never"));
        socket.beat().await;
        assert_eq!(socket.call("GET", SUBSCRIPTION, None).await[0]["status"], 401);
    }
}

#[tokio::test]
async fn the_setting_sets_how_long_a_socket_works_after_a_logout() {
    let (sandbox, client, mut socket, _) =
        started(quick().behavior(|behavior| behavior.gateway.logout_grace = Duration::from_secs(60))).await;
    let request = http().post(format!("{}/restapi/oauth/revoke", sandbox.base_url()));
    let request = request.basic_auth(sandbox.client_id(), Some(sandbox.client_secret().expose()));
    let answer = request.body(format!("token={}", client.token)).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    sandbox.advance(Duration::from_secs(50));
    assert_eq!(socket.call("GET", SUBSCRIPTION, None).await[0]["status"], 200);
    sandbox.advance(Duration::from_secs(10));
    assert_eq!(socket.closed().await, Some(1000));
}

#[tokio::test]
async fn a_socket_lives_as_long_as_its_login_is_refreshed() {
    let sandbox = quick().start().await.unwrap();
    let jwt = sandbox.jwt();
    let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", jwt.expose())];
    let (_, login) = token(&sandbox, &form).await;
    let mut client = Client::login(&sandbox).await;
    client.token = login["access_token"].as_str().unwrap().to_owned();
    let (mut socket, _) = connect(&sandbox, &client).await;
    let refresh = login["refresh_token"].as_str().unwrap();
    for refreshed in [false, true, true] {
        sandbox.advance(Duration::from_secs(1790));
        socket.beat().await;
        if !refreshed {
            let form = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
            assert_eq!(token(&sandbox, &form).await.0, 200);
        }
    }
    sandbox.advance(Duration::from_secs(30));
    assert_eq!(socket.closed().await, Some(1000), "the refreshed one ended");
}

#[tokio::test]
async fn a_login_pushed_out_by_others_takes_its_socket_along() {
    let (sandbox, _, mut socket, _) = started(quick().behavior(|behavior| behavior.max_sessions = 2)).await;
    Client::login(&sandbox).await;
    socket.beat().await;
    Client::login(&sandbox).await;
    assert_eq!(socket.closed().await, Some(1000));
}

#[tokio::test]
async fn a_black_hole_is_silent_and_dropped_after_the_missing_pong() {
    let builder = patient().behavior(|behavior| behavior.gateway.live_recovery = LiveRecovery::Fail);
    let (sandbox, client, mut socket, token) = started(builder).await;
    sandbox.blackhole_connections(Service::Gateway);
    assert_eq!((sandbox.gauges().open_sockets, sandbox.subscriptions()[0].connected), (0, Some(false)));
    sandbox.trigger(&Fixture::team_post("into the void"));
    let (_, details) = resume(&sandbox, &client, &token).await;
    assert_eq!(details[1]["recoveryState"], "Failed", "the gateway has not noticed");
    sandbox.advance(Duration::from_secs(40));
    let given_up = async {
        loop {
            let (socket, details) = resume(&sandbox, &client, &token).await;
            if details[1]["recoveryState"] == "Successful" {
                return socket;
            }
        }
    };
    let mut second = tokio::time::timeout(SOON, given_up).await.unwrap();
    sandbox.trigger(&Fixture::team_post("live"));
    assert_eq!(second.posts(1).await, ["live"]);
    let silence = tokio::time::timeout(Duration::from_millis(50), socket.stream.next()).await;
    assert!(silence.is_err(), "not even an end: {silence:?}");
}

#[tokio::test]
async fn strict_gateways_reject_frames_before_the_details() {
    for strict in [false, true] {
        let builder = quick().behavior(|behavior| {
            (behavior.gateway.strict_first_frame, behavior.gateway.details_delay) = (strict, Duration::from_secs(3600));
            behavior.access_token_ttl = Duration::from_secs(1_000_000);
            behavior.gateway.idle_timeout = Duration::from_secs(1_000_000);
        });
        let sandbox = builder.start().await.unwrap();
        let client = Client::login(&sandbox).await;
        let query = format!("access_token={}", ws_token(&client).await);
        let mut socket = upgrade(&sandbox, &query).await.unwrap();
        let asked = socket.ask("POST", SUBSCRIPTION, Some(websocket(&[POSTS]))).await;
        if strict {
            fails(&mut socket, "WSG-400").await;
            continue;
        }
        // Once the gateway answers a ping, it has read the request before it.
        socket.stream.send(Message::Ping("x".into())).await.unwrap();
        assert!(socket.stream.next().await.unwrap().unwrap().is_pong());
        sandbox.advance(Duration::from_secs(3600));
        assert_eq!(socket.frame().await[0]["type"], "ConnectionDetails");
        assert_eq!(socket.frame().await[0]["messageId"], asked.as_str());
    }
}

#[tokio::test]
async fn a_burst_too_large_for_a_socket_resets_it_and_the_newest_stay() {
    let (sandbox, client, mut socket, token) = started(patient()).await;
    let bodies: Vec<String> = (0..20_001).map(|n| format!(r#"{{"text":"{n}"}}"#)).collect();
    sandbox.trigger_json_all(POSTS, &bodies).unwrap();
    assert_eq!(sandbox.gauges().open_sockets, 0);
    while socket.message().await.is_some_and(|message| message.is_ok()) {}
    let (mut next, _) = resume(&sandbox, &client, &token).await;
    assert_eq!(next.posts(100).await, (19_901..20_001).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped() {
    let (sandbox, client, mut socket, _) = started(patient()).await;
    let (mut other, _) = connect(&sandbox, &client).await;
    other.subscribed(&[POSTS]).await;
    let posts: Vec<Fixture> = (0..2000).map(|n| Fixture::team_post(format!("{n} {}", "x".repeat(2000)))).collect();
    sandbox.trigger_all(&posts);
    assert_eq!(other.posts(2000).await.len(), 2000, "the other gets all");
    assert_eq!(client.call(Method::GET, SUBSCRIPTION, None).await.0, 200);
    assert_eq!(socket.posts(2000).await.len(), 2000, "late, but all");
}

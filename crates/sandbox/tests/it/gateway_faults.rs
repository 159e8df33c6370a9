//! Every fault affects a socket as documented.

use std::time::Duration;

use crate::support::bare::*;
use crate::support::gateway::*;
use reqwest::Method;
use ringcentral_sandbox::{Fault, Fixture, Operation, Sandbox, Service, Target};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio_tungstenite::tungstenite::Message;

async fn started() -> (Sandbox, Client, Socket, String) {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let (mut socket, details) = connect(&sandbox, &client).await;
    socket.subscribed(&[POSTS]).await;
    let token = wsc(&details).to_owned();
    (sandbox, client, socket, token)
}

async fn query(client: &Client) -> String {
    format!("access_token={}", ws_token(client).await)
}

#[tokio::test]
async fn a_socket_token_can_be_refused_garbled_or_late() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    for (fault, status, code) in [
        (Fault::code(401, "OAU-128"), 401, Some("OAU-128")),
        (Fault::status(429).header("Retry-After", "7"), 429, None),
        (Fault::garbage("not json"), 200, None),
        (Fault::garbage("{\"ws_access_token\":\"x\"}"), 200, None),
    ] {
        sandbox.faults().inject(Operation::WsToken, fault);
        let (got, answer) = client.call(Method::POST, WSTOKEN, None).await;
        assert_eq!((got, answer["errors"][0]["errorCode"].as_str()), (status, code));
        assert!(answer["uri"].is_null());
    }
    for fault in [Fault::close(), Fault::reset(), Fault::close_code(4000)] {
        sandbox.faults().inject(Operation::WsToken, fault);
        assert!(client.request(Method::POST, WSTOKEN, None).send().await.is_err());
    }
    let hang = sandbox.faults().inject(Operation::WsToken, Fault::hang());
    let request = tokio::spawn(client.request(Method::POST, WSTOKEN, None).send());
    assert!(sandbox.faults().wait_hits(hang, 1, SOON).await);
    request.abort();
    connect(&sandbox, &client).await;
}

#[tokio::test]
async fn an_upgrade_can_be_refused_or_never_answered() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    for status in [401, 403, 429, 503] {
        sandbox.faults().inject(Operation::Upgrade, Fault::status(status).header("Retry-After", "7"));
        assert_eq!(upgrade(&sandbox, &query(&client).await).await.err(), Some(status));
    }
    for fault in [Fault::close(), Fault::reset(), Fault::hang(), Fault::blackhole()] {
        let silent = matches!(format!("{fault:?}"), text if text.contains("Hang") || text.contains("Blackhole"));
        let fault = sandbox.faults().inject(Operation::Upgrade, fault);
        let url = format!("{}?{}", sandbox.gateway_url(), query(&client).await);
        let opening = tokio_tungstenite::client_async(url, tcp(&sandbox).await);
        if silent {
            let opening = tokio::spawn(async { opening.await.map(drop) });
            assert!(sandbox.faults().wait_hits(fault, 1, SOON).await);
            assert!(!opening.is_finished());
            opening.abort();
        } else {
            assert!(opening.await.is_err());
        }
    }
    assert_eq!(sandbox.requests_to(Operation::Upgrade)[2].status, Some(429));
    connect(&sandbox, &client).await;
}

#[tokio::test]
async fn details_can_be_missing_garbled_late_or_an_error() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let inject = |fault| sandbox.faults().inject(Operation::ConnectionDetails, fault);
    for fault in [Fault::error_frame(503, "WSG-901"), Fault::code(503, "WSG-901")] {
        inject(fault);
        let mut socket = upgrade(&sandbox, &query(&client).await).await.unwrap();
        let error = socket.frame().await;
        assert_eq!((&error[0]["type"], &error[0]["status"]), (&json!("Error"), &json!(503)));
        assert_eq!((&error[1]["errorCode"], socket.closed().await), (&json!("WSG-901"), Some(1000)));
    }
    inject(Fault::close_code(1013));
    assert_eq!(upgrade(&sandbox, &query(&client).await).await.unwrap().closed().await, Some(1013));

    inject(Fault::hang());
    let mut socket = upgrade(&sandbox, &query(&client).await).await.unwrap();
    socket.beat().await;
    drop(socket);
    inject(Fault::cut_json());
    let text = upgrade(&sandbox, &query(&client).await).await.unwrap().text().await;
    assert!(text.starts_with("[{") && serde_json::from_str::<Value>(&text).is_err(), "{text}");
    inject(Fault::delay(Duration::from_secs(60)));
    let mut socket = upgrade(&sandbox, &query(&client).await).await.unwrap();
    assert!(sandbox.wait_open_sockets(1, SOON).await, "the others are gone");
    sandbox.advance(Duration::from_secs(60));
    assert_eq!(socket.frame().await[0]["type"], "ConnectionDetails");
}

#[tokio::test]
async fn responses_can_be_lost_refused_doubled_or_garbled() {
    let (sandbox, _client, mut socket, _) = started().await;
    let inject = |fault| sandbox.faults().inject(Operation::List, fault);
    inject(Fault::hang());
    socket.ask("GET", SUBSCRIPTION, None).await;
    socket.beat().await;

    inject(Fault::error_frame(400, "WSG-808"));
    let error = socket.call("GET", SUBSCRIPTION, None).await;
    assert_eq!((&error[0]["type"], &error[1]["errorCode"]), (&json!("Error"), &json!("WSG-808")));
    inject(Fault::code(503, "CMN-201").times(2));
    for _ in 0..2 {
        let refused = socket.call("GET", SUBSCRIPTION, None).await;
        assert_eq!((&refused[0]["type"], &refused[0]["status"]), (&json!("ClientRequest"), &json!(503)));
        assert_eq!(refused[1]["errors"][0]["errorCode"], "CMN-201");
    }
    inject(Fault::status(500));
    let bare = socket.call("GET", SUBSCRIPTION, None).await;
    assert_eq!((&bare[0]["status"], bare.as_array().unwrap().len()), (&json!(500), 1));
    inject(Fault::html(502));
    socket.ask("GET", SUBSCRIPTION, None).await;
    let page = socket.text().await;
    assert!(page.contains(",--Boundary") && page.contains("<html>") && page.contains("\"status\":502"), "{page}");

    inject(Fault::twice());
    let first = socket.call("GET", SUBSCRIPTION, None).await;
    assert_eq!(socket.frame().await, first);
    inject(Fault::garbage("[{]"));
    socket.ask("GET", SUBSCRIPTION, None).await;
    assert_eq!(socket.text().await, "[{]");
    inject(Fault::boundary());
    socket.ask("GET", SUBSCRIPTION, None).await;
    let text = socket.text().await;
    assert!(text.contains(",--Boundary") && text.contains("\"records\""), "{text}");
    inject(Fault::padded(3_000_000));
    socket.ask("GET", SUBSCRIPTION, None).await;
    let text = socket.text().await;
    assert_eq!(text.len(), 3_000_000);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()[1]["records"][0]["id"], first[1]["records"][0]["id"]);
    inject(Fault::binary());
    socket.ask("GET", SUBSCRIPTION, None).await;
    match socket.message().await.unwrap().unwrap() {
        Message::Binary(bytes) => assert_eq!(
            serde_json::from_slice::<Value>(&bytes).unwrap()[1]["records"][0]["id"],
            first[1]["records"][0]["id"]
        ),
        other => panic!("{other:?}"),
    }
    inject(Fault::drip(7, Duration::ZERO));
    assert_eq!(
        socket.call("GET", SUBSCRIPTION, None).await[1]["records"][0]["id"],
        first[1]["records"][0]["id"],
        "in fragments"
    );
    assert_eq!(sandbox.requests_to(Operation::List)[0].status, None, "never answered");
}

#[tokio::test]
async fn a_late_answer_can_come_after_its_effect() {
    let sandbox = quick().start().await.unwrap();
    let client = Client::login(&sandbox).await;
    let (mut socket, _) = connect(&sandbox, &client).await;
    sandbox.faults().inject(Operation::Create, Fault::delay(Duration::from_secs(60)).after_effect());
    let asked = socket.ask("POST", SUBSCRIPTION, Some(websocket(&[POSTS]))).await;
    assert!(sandbox.wait_subscriptions(1, SOON).await);
    sandbox.trigger(&Fixture::team_post("before the answer"));
    assert_eq!(socket.posts(1).await, ["before the answer"]);
    sandbox.advance(Duration::from_secs(60));
    assert_eq!(socket.frame().await[0]["messageId"], asked.as_str());

    sandbox.faults().inject(Operation::Create, Fault::hang().after_effect());
    let former = sandbox.subscriptions()[0].id.clone();
    socket.ask("POST", SUBSCRIPTION, Some(websocket(&[POSTS]))).await;
    socket.beat().await;
    let held = sandbox.subscriptions();
    assert!(held.len() == 1 && held[0].id != former, "created, and the client does not know");
}

#[tokio::test]
async fn sockets_can_be_ended_in_every_way() {
    for (fault, code) in [
        (Fault::close(), None),
        (Fault::reset(), None),
        (Fault::close_code(1012), Some(1012)),
        (Fault::close_code(4003), Some(4003)),
    ] {
        let (sandbox, client, mut socket, token) = started().await;
        sandbox.faults().inject(Operation::List, fault);
        socket.ask("GET", SUBSCRIPTION, None).await;
        assert_eq!(socket.closed().await, code);
        sandbox.trigger(&Fixture::team_post("kept"));
        let (mut next, _) = resume(&sandbox, &client, &token).await;
        assert_eq!(next.posts(1).await, ["kept"]);
    }
}

#[tokio::test]
async fn a_close_frame_has_the_reason_that_fits() {
    let (sandbox, _client, mut socket, _) = started().await;
    sandbox.faults().inject(Operation::List, Fault::close_code(1011).body("é".repeat(100)));
    socket.ask("GET", SUBSCRIPTION, None).await;
    match socket.message().await.unwrap().unwrap() {
        Message::Close(Some(frame)) => assert_eq!(frame.reason.as_str(), "é".repeat(61)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_frame_can_break_off_in_its_middle() {
    let (sandbox, client, socket, token) = started().await;
    sandbox.faults().inject(Operation::Notification, Fault::reset_mid_body());
    sandbox.trigger(&Fixture::team_post("x".repeat(1000)));
    let mut stream = socket.stream.into_inner();
    let mut seen = Vec::new();
    let end = tokio::time::timeout(SOON, stream.read_to_end(&mut seen)).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let text = String::from_utf8_lossy(&seen);
    assert!(text.contains("ServerNotification") && !text.contains(&"x".repeat(1000)), "{} bytes", seen.len());
    sandbox.trigger(&Fixture::team_post("kept"));
    sandbox.behavior(|behavior| behavior.gateway.replay_duplicates = 1);
    let (mut next, _) = resume(&sandbox, &client, &token).await;
    let posts = next.posts(2).await;
    assert_eq!((posts[0].len(), posts[1].as_str()), (1000, "kept"), "a replay of duplicates includes it");
}

#[tokio::test]
async fn notifications_can_be_garbled_doubled_swapped_and_lost() {
    let (sandbox, _client, mut socket, _) = started().await;
    sandbox.faults().inject(Operation::Notification, Fault::cut_json());
    sandbox.faults().inject(Target::Any, Fault::hang());
    sandbox.trigger(&Fixture::team_post("spoiled"));
    assert!(serde_json::from_str::<Value>(&socket.text().await).is_err());
    sandbox.faults().clear_all();
    sandbox.faults().duplicate_next(1);
    sandbox.faults().swap_next(1);
    sandbox.faults().lose_next(1);
    sandbox.faults().delay_next(1, Duration::from_secs(60));
    for text in ["twice", "second", "first", "lost", "late", "last"] {
        sandbox.trigger(&Fixture::team_post(text));
    }
    assert_eq!(socket.posts(5).await, ["twice", "twice", "first", "second", "last"]);
    sandbox.advance(Duration::from_secs(60));
    assert_eq!(socket.posts(1).await, ["late"]);
}

#[tokio::test]
async fn heartbeats_can_lack_an_echo() {
    let (sandbox, _client, mut socket, _) = started().await;
    sandbox.faults().inject(Operation::SocketHeartbeat, Fault::hang());
    socket.send(&json!([{ "type": "Heartbeat", "messageId": "lost" }])).await;
    socket.beat().await;
    let statuses: Vec<_> = sandbox.requests_to(Operation::SocketHeartbeat).iter().map(|beat| beat.status).collect();
    assert_eq!(statuses, [None, Some(200)]);
}

#[tokio::test]
async fn a_request_can_open_a_black_hole() {
    let (sandbox, client, mut socket, token) = started().await;
    let fault = sandbox.faults().inject(Target::Gateway, Fault::blackhole());
    socket.ask("GET", SUBSCRIPTION, None).await;
    assert!(sandbox.faults().wait_hits(fault, 1, SOON).await);
    assert!(sandbox.wait_open_sockets(0, SOON).await);
    let (mut next, details) = resume(&sandbox, &client, &token).await;
    assert_eq!(details[1]["recoveryState"], "Successful", "taken over");
    next.beat().await;
    let silence = tokio::time::timeout(Duration::from_millis(50), socket.message()).await;
    assert!(silence.is_err(), "{silence:?}");
}

#[tokio::test]
async fn raw_frames_are_sent_to_one_or_all() {
    let (sandbox, client, mut socket, _) = started().await;
    let (mut other, _) = connect(&sandbox, &client).await;
    let id = sandbox.subscriptions()[0].id.clone();
    assert_eq!(sandbox.send_frame(Some(&id), "{]"), 1);
    assert_eq!(socket.text().await, "{]");
    assert_eq!(sandbox.send_frame(None, "[]"), 2);
    assert_eq!((socket.text().await, other.text().await), ("[]".to_owned(), "[]".to_owned()));
    sandbox.publish_raw(&id, r#"{"uuid":7,"body":null}"#).unwrap();
    let event = socket.frame().await;
    assert_eq!((&event[0]["type"], &event[0]["messageId"]), (&json!("ServerNotification"), &json!(7)));
    assert_eq!(event[1], json!({ "uuid": 7, "body": null }));
    sandbox.publish_envelope(&id, "as it is").unwrap();
    assert_eq!(socket.text().await, "as it is");
}

#[tokio::test]
async fn connections_can_be_cut_from_outside() {
    for reset in [true, false] {
        let (sandbox, _client, mut socket, _) = started().await;
        if reset {
            sandbox.reset_connections(Service::Gateway);
        } else {
            sandbox.close_connections(Service::Gateway);
        }
        assert_eq!((sandbox.gauges().open_sockets, sandbox.subscriptions()[0].connected), (0, Some(false)), "at once");
        assert_eq!(socket.closed().await, None);
    }
}

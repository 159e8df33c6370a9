//! The WebSocket transport as an app uses it, against the sandbox's gateway.
//!
//! Names begin with the row of the conformance list that a test covers; a `probe` is a fault that other clients of the
//! gateway do not survive.

use crate::support::subscribing::*;
use ringcentral_events::rest::Method;
use ringcentral_events::transport::{WebSocket, WebSocketBuilder};
use ringcentral_events::{Certainty, Delivery, ErrorKind, GapCause, Phase, Subscription};
use ringcentral_sandbox::{AuthRefusal, Fault, Operation, Sandbox, Service, WscRotation};

/// A transport that reconnects quickly.
fn quick_again() -> WebSocketBuilder {
    WebSocket::builder().dial_pause(ms(100))
}

/// A transport that notices a dead connection quickly.
fn nervous() -> WebSocketBuilder {
    quick_again().ping_after(ms(400)).heartbeat_after(ms(400)).answer_within(ms(1500))
}

async fn live_with(sandbox: &Sandbox, transport: WebSocketBuilder) -> Subscription {
    start(subscribe(&client(sandbox), transport.build().unwrap())).await
}

async fn live(sandbox: &Sandbox) -> Subscription {
    live_with(sandbox, quick_again()).await
}

/// Waits for the next connection after `cause` broke the present one.
async fn reconnected(sandbox: &Sandbox, cause: impl FnOnce()) {
    let opened = sandbox.gauges().sockets_opened;
    cause();
    soon(async {
        while sandbox.gauges().sockets_opened == opened {
            tokio::time::sleep(ms(5)).await;
        }
    })
    .await;
}

/// The connection is lost; runs `meanwhile` before the next one.
async fn lose(sandbox: &Sandbox, meanwhile: impl FnOnce()) {
    reconnected(sandbox, || {
        sandbox.reset_connections(Service::Gateway);
        meanwhile();
    })
    .await;
}

/// All of `events` arrived in order, and each reset connection is one possible gap: data in transit may be lost (found
/// 1.1).
fn assert_after_resets(journal: &Journal, events: impl IntoIterator<Item = u64>, resets: usize) {
    assert_eq!(journal.events(), events.into_iter().collect::<Vec<_>>());
    let gaps = journal.gaps();
    assert_eq!(gaps.len(), resets, "{gaps:?}");
    for gap in gaps {
        assert_eq!((&gap.cause, gap.certainty), (&GapCause::ConnectionBroken, Certainty::Possible));
        assert!(gap.since.unwrap() < gap.until.unwrap(), "{gap:?}");
    }
}

#[tokio::test]
async fn events_arrive_and_the_subscription_is_deleted_over_its_connection() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    publish(&sandbox, 1..=20);
    Journal::upto(&mut subscription, 20).await.assert_only(1..=20);
    assert_eq!(sandbox.requests_to(Operation::Create)[0].service, Service::Gateway);
    close(&sandbox, subscription).await;
    let deletes = sandbox.requests_to(Operation::Delete);
    assert_eq!((deletes.len(), deletes[0].service), (1, Service::Gateway));
    assert!(sandbox.wait_open_sockets(0, SOON).await);
}

#[tokio::test]
async fn w01_nothing_is_sent_before_connection_details() {
    let sandbox = quick()
        .behavior(|behavior| {
            behavior.gateway.strict_first_frame = true;
            behavior.gateway.details_delay = ms(300);
        })
        .start()
        .await
        .unwrap();
    let mut subscription = live_with(&sandbox, nervous().ping_after(ms(100)).heartbeat_after(ms(100))).await;
    publish(&sandbox, [1]);
    Journal::upto(&mut subscription, 1).await.assert_only([1]);
    assert_eq!(sandbox.gauges().sockets_opened, 1);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn probe_e_w05_replayed_events_in_the_segment_of_connection_details_arrive() {
    for coalesce in [true, false] {
        let sandbox = quick().behavior(|behavior| behavior.gateway.coalesce_replay = coalesce).start().await.unwrap();
        let mut subscription = live(&sandbox).await;
        publish(&sandbox, 1..=3);
        let mut journal = Journal::upto(&mut subscription, 3).await;
        lose(&sandbox, || publish(&sandbox, 4..=13)).await;
        journal.read_to(&mut subscription, 13).await;
        publish(&sandbox, 14..=15);
        journal.read_to(&mut subscription, 15).await;
        assert_after_resets(&journal, 1..=15, 1);
        assert_eq!(sandbox.requests_to(Operation::Create).len(), 1);
        close_recovered(&sandbox, subscription).await;
    }
}

#[tokio::test]
async fn probe_d_w18_repeated_and_reordered_events_are_delivered_once() {
    let sandbox = quick()
        .behavior(|behavior| {
            behavior.gateway.replay_duplicates = 3;
            behavior.gateway.replay_reversed = true;
        })
        .start()
        .await
        .unwrap();
    let mut subscription = live(&sandbox).await;
    publish(&sandbox, 1..=3);
    let mut journal = Journal::upto(&mut subscription, 3).await;
    lose(&sandbox, || publish(&sandbox, 4..=6)).await;
    journal.read_to(&mut subscription, 4).await;
    let notification = sandbox.faults().inject(Operation::Notification, Fault::twice());
    publish(&sandbox, [7, 8]);
    journal.read_to(&mut subscription, 8).await;
    assert_eq!(sandbox.faults().hits(notification), 1);
    assert_after_resets(&journal, [1, 2, 3, 6, 5, 4, 7, 8], 1);
    close_recovered(&sandbox, subscription).await;
}

#[tokio::test]
async fn probe_a_w04_one_refused_token_does_not_end_the_subscription() {
    for fault in [
        Fault::status(429).header("Retry-After", "1"),
        Fault::status(503),
        Fault::code(401, "OAU-213"),
        Fault::html(502),
        Fault::garbage("{}"),
        Fault::cut_json(),
        Fault::close(),
        Fault::reset(),
    ] {
        let sandbox = quick().start().await.unwrap();
        let mut subscription = live(&sandbox).await;
        publish(&sandbox, [1]);
        let mut journal = Journal::upto(&mut subscription, 1).await;
        let delivered = format!("{fault:?}");
        let fault = sandbox.faults().inject(Operation::WsToken, fault);
        lose(&sandbox, || publish(&sandbox, [2, 3])).await;
        journal.read_to(&mut subscription, 3).await;
        assert_eq!(sandbox.faults().hits(fault), 1, "{delivered}");
        assert_after_resets(&journal, 1..=3, 1);
        close_recovered(&sandbox, subscription).await;
    }
}

#[tokio::test]
async fn w06_faults_of_the_upgrade_and_of_connection_details_do_not_end_the_subscription() {
    for (operation, fault) in [
        (Operation::Upgrade, Fault::status(401)),
        (Operation::Upgrade, Fault::status(429).header("Retry-After", "1")),
        (Operation::Upgrade, Fault::status(503)),
        (Operation::Upgrade, Fault::close()),
        (Operation::Upgrade, Fault::reset()),
        (Operation::ConnectionDetails, Fault::close_code(1011)),
        (Operation::ConnectionDetails, Fault::close_code(4400)),
        (Operation::ConnectionDetails, Fault::reset()),
        (Operation::ConnectionDetails, Fault::hang()),
        (Operation::ConnectionDetails, Fault::garbage("[")),
    ] {
        let sandbox = quick().start().await.unwrap();
        let mut subscription = live_with(&sandbox, quick_again().details_within(ms(800))).await;
        publish(&sandbox, [1]);
        let mut journal = Journal::upto(&mut subscription, 1).await;
        let delivered = format!("{operation:?} {fault:?}");

        let fault = sandbox.faults().inject(operation, fault);
        lose(&sandbox, || publish(&sandbox, [2, 3])).await;
        assert!(sandbox.faults().wait_hits(fault, 1, SOON).await, "{delivered}");
        phase(&subscription, Phase::Live).await;
        publish(&sandbox, [4]);
        journal.read_to(&mut subscription, 4).await;
        journal.assert_missing_only_in_gaps(1..=4);
        close_recovered(&sandbox, subscription).await;
    }
}

#[tokio::test]
async fn probe_b_w03_no_heartbeat_reply_closes_and_reconnects() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live_with(&sandbox, nervous()).await;
    publish(&sandbox, [1]);
    let mut journal = Journal::upto(&mut subscription, 1).await;
    // Pings are answered, heartbeats are not.
    let faults = sandbox.faults();
    reconnected(&sandbox, || _ = faults.inject(Operation::SocketHeartbeat, Fault::hang())).await;
    publish(&sandbox, [2]);
    journal.read_to(&mut subscription, 2).await;
    assert_eq!((journal.events(), journal.gaps().len()), (vec![1, 2], 1));
    close_recovered(&sandbox, subscription).await;
}

/// Whether the service sends again what it wrote to a dead connection is unknown, so its loss is reported as possible.
#[tokio::test]
async fn probe_b_w12_a_black_hole_is_abandoned_and_no_event_is_lost_silently() {
    let sandbox = quick().behavior(|behavior| behavior.gateway.replay_duplicates = 10).start().await.unwrap();
    let mut subscription = live_with(&sandbox, nervous()).await;
    publish(&sandbox, [1]);
    let mut journal = Journal::upto(&mut subscription, 1).await;
    sandbox.blackhole_connections(Service::Gateway);
    publish(&sandbox, 2..=4);
    journal.read_to(&mut subscription, 4).await;
    assert_eq!(journal.events(), [1, 2, 3, 4]);
    let gaps = journal.gaps();
    assert!(gaps.len() == 1 && gaps[0].certainty == Certainty::Possible, "{gaps:?}");
    close_recovered(&sandbox, subscription).await;
}

#[tokio::test]
async fn probe_f_w06_a_failed_recovery_and_a_refused_subscription_end_in_one_gap_and_a_live_stream() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    publish(&sandbox, [1]);
    let mut journal = Journal::upto(&mut subscription, 1).await;
    let old = subscription.id().unwrap();
    let fault = sandbox.faults().inject(Operation::Create, Fault::status(503));
    let since = sandbox.gauges().sockets_opened;
    lose(&sandbox, || sandbox.advance(ms(200_000))).await;
    let new = replaced(&sandbox, &subscription, &old).await;
    assert_eq!(sandbox.faults().hits(fault), 1);
    assert_eq!(sandbox.gauges().sockets_opened, since + 1, "subscribed on the connection that was there");
    publish(&sandbox, [2]);
    journal.read_to(&mut subscription, 2).await;
    assert_eq!(journal.events(), [1, 2]);
    let (gaps, resumed) = (journal.gaps(), journal.resumed());
    assert!(gaps.len() == 1 && gaps[0].cause == GapCause::SessionLost, "{gaps:?}");
    assert_eq!(gaps[0].certainty, Certainty::Certain);
    let recreated = resumed[0].recreated.as_ref().unwrap();
    assert_eq!((&recreated.old, &recreated.new, resumed.len()), (&old, &new, 1));
    // The new session's token recovers the next loss.
    lose(&sandbox, || publish(&sandbox, [3])).await;
    journal.read_to(&mut subscription, 3).await;
    assert_eq!((journal.events(), journal.gaps().len()), (vec![1, 2, 3], 2));
    assert_eq!(journal.gaps()[1].cause, GapCause::ConnectionBroken);
    close_recovered(&sandbox, subscription).await;
}

#[tokio::test]
async fn w10_the_newest_token_from_any_frame_recovers_the_session() {
    for rotation in [WscRotation::Notifications, WscRotation::Details] {
        let sandbox = quick().behavior(|behavior| behavior.gateway.wsc_rotation = rotation).start().await.unwrap();
        let mut subscription = live(&sandbox).await;
        publish(&sandbox, 1..=3);
        let mut journal = Journal::upto(&mut subscription, 3).await;
        for n in 4..=6 {
            lose(&sandbox, || publish(&sandbox, [n])).await;
            journal.read_to(&mut subscription, n).await;
        }
        assert_after_resets(&journal, 1..=6, 3);
        assert_eq!(sandbox.requests_to(Operation::Create).len(), 1);
        close_recovered(&sandbox, subscription).await;
    }
}

#[tokio::test]
async fn w20_more_missed_events_than_the_service_retains_are_a_possible_loss() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    publish(&sandbox, [1]);
    let mut journal = Journal::upto(&mut subscription, 1).await;
    lose(&sandbox, || publish_at_once(&sandbox, 2..=151)).await;
    journal.read_to(&mut subscription, 151).await;
    journal.assert_missing_only_in_gaps(1..=151);
    assert_eq!(journal.events().len(), 101);
    let gaps = journal.gaps();
    // The gap of the lost connection covers what the service's buffer dropped.
    assert!(gaps.len() == 1 && gaps[0].cause == GapCause::ConnectionBroken, "{gaps:?}");
    close_recovered(&sandbox, subscription).await;
}

#[tokio::test]
async fn w11_malformed_frames_do_not_end_the_connection() {
    let sandbox =
        quick().behavior(|behavior| (behavior.gateway.escape_slashes, behavior.gateway.pretty) = (true, true)).start();
    let sandbox = sandbox.await.unwrap();
    let mut subscription = live(&sandbox).await;
    for text in ["{}", "[]", "[", "nonsense", "[{}]", r#"[{"type":"Unheard","messageId":1}]"#] {
        assert_eq!(sandbox.send_frame(None, text), 1);
    }
    // Each unreadable frame may have been an event.
    for _ in 0..5 {
        assert!(matches!(next(&mut subscription).await, Delivery::Undecodable(_)));
    }
    publish(&sandbox, [1]);
    let mut journal = Journal::upto(&mut subscription, 1).await;
    sandbox.faults().inject(Operation::Notification, Fault::padded(5 << 20));
    publish(&sandbox, [2, 3]);
    journal.read_to(&mut subscription, 3).await;
    journal.assert_only(1..=3);
    assert_eq!(sandbox.gauges().sockets_opened, 1);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn w11_an_oversized_frame_ends_only_the_connection() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live_with(&sandbox, quick_again().max_message(64 << 10)).await;
    publish(&sandbox, [1]);
    let mut journal = Journal::upto(&mut subscription, 1).await;
    sandbox.faults().inject(Operation::Notification, Fault::padded(5 << 20));
    reconnected(&sandbox, || publish(&sandbox, [2])).await;
    publish(&sandbox, [3]);
    journal.read_to(&mut subscription, 3).await;
    assert!(journal.events().ends_with(&[3]), "{journal:?}");
    close_recovered(&sandbox, subscription).await;
}

#[tokio::test]
async fn probe_c_w12_a_refused_subscription_is_an_error_that_names_the_permission() {
    let sandbox = quick().behavior(|behavior| behavior.gateway.may_subscribe = false).start().await.unwrap();
    let transport = quick_again().build().unwrap();
    let error = soon(subscribe(&client(&sandbox), transport).start()).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::TransportRefused, Some("SUB-528")));
    assert!(error.to_string().contains("WebSocketsSubscription"), "{error}");
    assert!(sandbox.wait_open_sockets(0, SOON).await);
}

#[tokio::test]
async fn w02_a_refused_token_is_an_error_that_names_the_permission() {
    let sandbox = quick().behavior(|behavior| behavior.gateway.may_connect = false).start().await.unwrap();
    let transport = quick_again().build().unwrap();
    let error = soon(subscribe(&client(&sandbox), transport).start()).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Permission, Some(403)));
    assert!(error.to_string().contains("WebSocketsSubscription"), "{error}");
    assert_eq!(sandbox.requests_to(Operation::WsToken).len(), 1);
}

#[tokio::test]
async fn w14_ten_subscriptions_get_their_own_events_once() {
    let sandbox = quick().start().await.unwrap();
    // More than four connections a minute need the service's announcement.
    sandbox.behavior(|behavior| (behavior.rate_limits.headers, behavior.rate_limits.auth) = (true, 1000));
    let client = client(&sandbox);
    let transport = quick_again().build().unwrap();
    let mut live = Vec::new();
    for _ in 0..10 {
        live.push(start(subscribe(&client, transport.clone())).await);
    }
    publish(&sandbox, 1..=5);
    for subscription in &mut live {
        Journal::upto(subscription, 5).await.assert_only(1..=5);
    }
    for subscription in live {
        assert!(soon(subscription.close()).await.deleted);
    }
}

#[tokio::test]
async fn filters_are_changed_over_the_connection() {
    let sandbox = quick().start().await.unwrap();
    let subscription = live(&sandbox).await;
    soon(subscription.handle().update_filters([filter(STORE), filter("/restapi/v1.0/account/~/presence")]))
        .await
        .unwrap();
    let updates = sandbox.requests_to(Operation::Update);
    assert_eq!((updates.len(), updates[0].service), (1, Service::Gateway));
    assert_eq!(sandbox.subscriptions()[0].event_filters.len(), 2);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn w33_changing_the_filters_of_a_lost_subscription_creates_another() {
    let sandbox = quick().start().await.unwrap();
    let subscription = live(&sandbox).await;
    let old = subscription.id().unwrap();
    sandbox.forget(&old);
    let error = soon(subscription.handle().update_filters([filter(STORE)])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    replaced(&sandbox, &subscription, &old).await;
    let mut subscription = subscription;
    publish(&sandbox, [1]);
    let journal = Journal::upto(&mut subscription, 1).await;
    assert_eq!(journal.gaps()[0].cause, GapCause::SubscriptionGone);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn w39_a_burst_waits_for_a_reader_that_does_not_read() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    for hundred in 0..100 {
        publish_at_once(&sandbox, hundred * 100 + 1..=hundred * 100 + 100);
    }
    Journal::upto(&mut subscription, 10_000).await.assert_only(1..=10_000);
    assert_eq!(sandbox.gauges().sockets_opened, 1);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn hundreds_of_connections_lost_together_come_back() {
    const MANY: usize = 100;
    let sandbox = quick().behavior(|behavior| behavior.gateway.max_connections = 2 * MANY).start().await.unwrap();
    sandbox.behavior(|behavior| {
        let limits = &mut behavior.rate_limits;
        (limits.headers, limits.auth, limits.medium, limits.light) = (true, 100_000, 100_000, 100_000);
    });
    let client = client(&sandbox);
    let transport = quick_again().build().unwrap();
    let starts = (0..MANY).map(|_| subscribe(&client, transport.clone()).start());
    let mut live: Vec<Subscription> =
        soon(futures_util::future::join_all(starts)).await.into_iter().map(Result::unwrap).collect();
    assert!(sandbox.wait_open_sockets(MANY, SOON).await);
    publish(&sandbox, [1]);
    sandbox.reset_connections(Service::Gateway);
    publish(&sandbox, [2]);
    for subscription in &mut live {
        let mut journal = Journal::default();
        journal.read_to(subscription, 2).await;
        assert_after_resets(&journal, [1, 2], 1);
    }
    assert_eq!(sandbox.requests_to(Operation::Create).len(), MANY);
    let closed = soon(futures_util::future::join_all(live.into_iter().map(Subscription::close))).await;
    assert!(closed.iter().all(|closed| closed.deleted));
    assert!(sandbox.wait_open_sockets(0, SOON).await);
}

#[tokio::test]
async fn w10_an_unconfirmed_creation_is_replaced() {
    let sandbox = quick().start().await.unwrap();
    let fault = sandbox.faults().inject(Operation::Create, Fault::reset().after_effect());
    let mut subscription = live(&sandbox).await;
    assert_eq!(sandbox.faults().hits(fault), 1);
    publish(&sandbox, [1]);
    Journal::upto(&mut subscription, 1).await.assert_only([1]);
    assert_eq!(sandbox.subscriptions().len(), 1, "one live subscription");
    // Its session was continued, and what a replay may leave out is not known yet.
    close_recovered(&sandbox, subscription).await;
}

#[tokio::test]
async fn w05_a_token_is_requested_for_each_connection_and_a_refused_one_is_not_reused() {
    for refusal in [AuthRefusal::Close4400, AuthRefusal::Status401] {
        let sandbox = quick().behavior(|behavior| behavior.gateway.refusal = refusal).start().await.unwrap();
        let mut subscription = live(&sandbox).await;
        // Every token expires before it can be used.
        sandbox.behavior(|behavior| behavior.gateway.wstoken_ttl = ms(0));
        let tokens = sandbox.requests_to(Operation::WsToken).len();
        sandbox.reset_connections(Service::Gateway);
        publish(&sandbox, [1, 2]);
        assert!(sandbox.wait_requests(Operation::WsToken, tokens + 2, SOON).await);
        sandbox.behavior(|behavior| behavior.gateway.wstoken_ttl = ms(30_000));
        assert_after_resets(&Journal::upto(&mut subscription, 2).await, [1, 2], 1);
        assert_eq!(sandbox.requests_to(Operation::Upgrade).len(), sandbox.requests_to(Operation::WsToken).len());
        close_recovered(&sandbox, subscription).await;
    }
}

#[tokio::test]
async fn an_absent_gateway_is_awaited() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    sandbox.stop_service(Service::Gateway).await;
    publish(&sandbox, 1..=3);
    phase(&subscription, Phase::Reconnecting).await;
    sandbox.start_service(Service::Gateway).await;
    assert_after_resets(&Journal::upto(&mut subscription, 3).await, 1..=3, 1);
    close_recovered(&sandbox, subscription).await;
}

#[tokio::test]
async fn another_login_cannot_recover_and_the_loss_is_reported() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    publish(&sandbox, [1]);
    let mut journal = Journal::upto(&mut subscription, 1).await;
    let old = subscription.id().unwrap();
    sandbox.revoke_sessions();
    soon(async {
        let mut status = subscription.status();
        status.wait_for(|status| status.subscription_id.as_ref() != Some(&old)).await.unwrap()
    })
    .await;
    phase(&subscription, Phase::Live).await;
    publish(&sandbox, [2]);
    journal.read_to(&mut subscription, 2).await;
    assert_eq!(journal.events(), [1, 2]);
    let gaps = journal.gaps();
    assert!(gaps.len() == 1 && gaps[0].cause == GapCause::SessionLost, "{gaps:?}");
    assert_eq!(journal.resumed()[0].recreated.as_ref().map(|it| it.old.clone()), Some(old));
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn a6_a_refreshed_token_continues_the_session() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    publish(&sandbox, [1]);
    let mut journal = Journal::upto(&mut subscription, 1).await;
    let before = sandbox.requests_to(Operation::Token).len();
    sandbox.expire_access_tokens();
    lose(&sandbox, || publish(&sandbox, 2..=5)).await;
    journal.read_to(&mut subscription, 5).await;
    assert_after_resets(&journal, 1..=5, 1);
    assert_eq!(sandbox.requests_to(Operation::Token).len(), before + 1, "refreshed once");
    assert_eq!(sandbox.requests_to(Operation::Create).len(), 1, "the same subscription continues");
    close_recovered(&sandbox, subscription).await;
}

#[tokio::test]
async fn calls_go_over_the_connection() {
    let sandbox = quick().start().await.unwrap();
    let subscription = live(&sandbox).await;
    let socket = subscription.handle().socket().unwrap();
    let calls = (0..30).map(|_| socket.request(Method::GET, "/restapi/v1.0/account/~/extension/~").send());
    for answer in soon(futures_util::future::join_all(calls)).await {
        let answer: serde_json::Value = answer.unwrap().json().unwrap();
        assert_eq!(answer["id"].to_string().trim_matches('"'), sandbox.extension_id());
    }
    sandbox.faults().inject(Operation::OtherApi, Fault::boundary());
    let answer = soon(socket.request(Method::GET, "/restapi/v1.0/account/~/extension/~").send()).await.unwrap();
    assert!(answer.text().starts_with("--Boundary"), "{}", answer.text());
    sandbox.faults().inject(Operation::OtherApi, Fault::error_frame(400, "WSG-808"));
    let error = soon(socket.request(Method::GET, "/restapi/v1.0/account/~").send()).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Rejected, Some("WSG-808")));
    assert_eq!(socket.stats().connections, 1);
    close(&sandbox, subscription).await;
}

//! Every fault on a long poll that the PubNub transport must survive, with
//! numbered events before, during and after it: none lost, none twice, in order.
//!
//! Each fault hits polls twice: where it takes the place of an answer without
//! events, and where it takes the place of one that holds some.

use crate::support::raw::{Answer, RawPubNub};
use crate::support::subscribing::*;
use ringcentral_events::transport::PubNubBuilder;
use ringcentral_events::{Certainty, GapCause, Phase};
use ringcentral_sandbox::{Fault, Operation, Sandbox, Service, Target};

const FORBIDDEN: &str = r#"{"message":"Forbidden","payload":{"channels":["c"],"channel-groups":[]},"error":true,"service":"Access Manager","status":403}"#;

/// `fault` hits three polls in a row, then the service works again.
async fn survives(fault: Fault) {
    survives_with(fault.times(3), 3, |transport| transport).await;
}

async fn survives_with(fault: Fault, hits: u32, tune: impl Fn(PubNubBuilder) -> PubNubBuilder) {
    for fault in [fault.clone(), fault.after_effect()] {
        let sandbox = quick().start().await.unwrap();
        let mut subscription = live_over(&sandbox, tune(pubnub(&sandbox))).await;
        publish(&sandbox, 1..=5);
        let mut journal = Journal::upto(&mut subscription, 5).await;

        let fault = sandbox.faults().inject(Target::Subscribe, fault);
        publish(&sandbox, 6..=10);
        assert!(sandbox.faults().wait_hits(fault, hits, SOON).await);
        publish(&sandbox, 11..=15);
        journal.read_to(&mut subscription, 15).await;

        // A duplicate would have arrived by then.
        assert!(sandbox.wait_caught_up(SOON).await);
        publish(&sandbox, [16]);
        journal.read_to(&mut subscription, 16).await;
        journal.assert_only(1..=16);
        assert_eq!(sandbox.requests_to(Operation::Create).len(), 1, "no fault of a poll costs the subscription");
        close(&sandbox, subscription).await;
    }
}

#[tokio::test]
async fn fault_500_json() {
    let body = r#"{"status":500,"error":true,"message":"Internal Server Error","service":"Balancer"}"#;
    survives(Fault::status(500).body(body)).await;
}

#[tokio::test]
async fn fault_500_html() {
    survives(Fault::html(500)).await;
}

#[tokio::test]
async fn fault_503_empty() {
    survives(Fault::status(503)).await;
}

#[tokio::test]
async fn fault_530_of_the_edge() {
    survives(Fault::status(530)).await;
}

#[tokio::test]
async fn fault_429_with_retry_after() {
    let body = r#"{"status":429,"service":"Balancer","message":"Too many requests","error":true}"#;
    survives_with(Fault::status(429).header("Retry-After", "1").body(body), 1, |transport| transport).await;
}

#[tokio::test]
async fn fault_429_without_retry_after() {
    survives(Fault::status(429)).await;
}

#[tokio::test]
async fn fault_200_cut_json() {
    survives(Fault::cut_json()).await;
}

#[tokio::test]
async fn fault_200_html() {
    survives(Fault::html(200)).await;
}

#[tokio::test]
async fn fault_200_with_an_error_in_it() {
    survives(Fault::status(200).body(r#"[0,"Service Unavailable","17000000000000000"]"#)).await;
    survives(Fault::status(200).body(r#"{"status":503,"error":true,"message":"busy"}"#)).await;
}

#[tokio::test]
async fn fault_200_without_a_position() {
    survives(Fault::status(200).body(r#"{"m":[]}"#)).await;
    survives(Fault::status(200).body(r#"{"t":{"t":"0","r":12},"m":[]}"#)).await;
    survives(Fault::status(200).body("")).await;
}

#[tokio::test]
async fn fault_redirect_of_a_captive_portal() {
    survives(Fault::status(302).header("Location", "http://127.0.0.1:9/login")).await;
}

#[tokio::test]
async fn fault_connection_closed_before_headers() {
    survives(Fault::close()).await;
}

#[tokio::test]
async fn fault_reset_in_mid_body() {
    survives(Fault::reset_mid_body()).await;
}

#[tokio::test]
async fn fault_server_never_answers() {
    survives_with(Fault::hang(), 1, |transport| transport.poll_deadline(ms(900))).await;
}

#[tokio::test]
async fn fault_half_open_connection() {
    survives_with(Fault::blackhole(), 1, |transport| transport.poll_deadline(ms(900))).await;
}

#[tokio::test]
async fn fault_answer_that_drips() {
    survives(Fault::drip(700, ms(1))).await;
}

#[tokio::test]
async fn fault_answer_that_drips_too_slowly() {
    survives_with(Fault::drip(1, ms(20)), 1, |transport| transport.poll_deadline(ms(900))).await;
}

#[tokio::test]
async fn fault_every_connection_is_reset_or_closed_during_events() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    for round in 0..20 {
        publish(&sandbox, [2 * round + 1]);
        if round % 2 == 0 {
            sandbox.reset_connections(Service::PubNub);
        } else {
            sandbox.close_connections(Service::PubNub);
        }
        publish(&sandbox, [2 * round + 2]);
    }
    Journal::upto(&mut subscription, 40).await.assert_only(1..=40);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn fault_server_down_for_some_seconds() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    publish(&sandbox, 1..=5);
    let mut journal = Journal::upto(&mut subscription, 5).await;

    sandbox.stop_service(Service::PubNub).await;
    publish(&sandbox, 6..=10);
    let mut status = subscription.status();
    let down = soon(status.wait_for(|status| status.failed_attempts >= 12)).await.unwrap();
    assert_eq!(down.phase, Phase::Reconnecting);
    assert!(!down.is_healthy() && down.last_error.is_some());
    sandbox.start_service(Service::PubNub).await;
    publish(&sandbox, 11..=15);

    journal.read_to(&mut subscription, 15).await;
    journal.assert_only(1..=15);
    phase(&subscription, Phase::Live).await;
    assert_eq!(subscription.status().current().failed_attempts, 0);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn fault_server_down_longer_than_it_retains_events_is_a_possible_gap() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live_over(&sandbox, pubnub(&sandbox).buffer_age(ms(600))).await;
    publish(&sandbox, 1..=5);
    let mut journal = Journal::upto(&mut subscription, 5).await;
    sandbox.stop_service_for(Service::PubNub, ms(1500)).await;
    publish(&sandbox, 6..=10);
    journal.read_to(&mut subscription, 10).await;
    assert_eq!(journal.events(), (1..=10).collect::<Vec<_>>());
    let gap = journal.gaps()[0];
    assert!(matches!(gap.cause, GapCause::ServiceBufferAged { pause } if pause > ms(600)), "{gap:?}");
    assert_eq!((gap.certainty, gap.lost), (Certainty::Possible, None));
    assert!(gap.since.unwrap() < gap.until.unwrap());
    assert_eq!((journal.gaps().len(), journal.resumed().len()), (1, 1));
    // It precedes the events after the pause.
    assert!(matches!(journal.entries[5], Entry::Gap(_)) && matches!(journal.entries[6], Entry::Resumed(_)));
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn fault_envelope_without_f() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    publish(&sandbox, 1..=5);
    for field in ["f", "a", "i", "k", "b", "p", "c"] {
        sandbox.behavior(|behavior| behavior.omit = vec![field.into()]);
        publish(&sandbox, [100]);
        let mut journal = Journal::upto(&mut subscription, 100).await;
        journal.entries.retain(|entry| !matches!(entry, Entry::Event(n) if *n <= 5));
        journal.assert_only([100]);
    }
    sandbox.behavior(|behavior| behavior.omit = ["a", "f", "i", "k", "b", "p", "c", "s", "e"].map(Into::into).into());
    publish(&sandbox, 11..=15);
    Journal::upto(&mut subscription, 15).await.assert_only(11..=15);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn fault_timetoken_jumps_ahead_then_back() {
    // Within one region, and by way of another one.
    for region in [12, 7] {
        let sandbox = quick().start().await.unwrap();
        let mut subscription = live(&sandbox).await;
        publish(&sandbox, 1..=5);
        let mut journal = Journal::upto(&mut subscription, 5).await;
        sandbox.behavior(|behavior| (behavior.region, behavior.region_offset_ms) = (region, 3000));
        publish(&sandbox, 6..=8);
        journal.read_to(&mut subscription, 8).await;
        sandbox.behavior(|behavior| (behavior.region, behavior.region_offset_ms) = (12, 0));
        publish(&sandbox, 9..=12);
        journal.read_to(&mut subscription, 12).await;
        sandbox.behavior(|behavior| (behavior.region, behavior.region_offset_ms) = (region, -3000));
        publish(&sandbox, 13..=15);
        journal.read_to(&mut subscription, 15).await;
        if region == 12 {
            journal.assert_only(1..=15);
        } else {
            // To the other region and back: a region that took over may lack events.
            assert_eq!(journal.events(), (1..=15).collect::<Vec<_>>(), "{:?}", journal.trouble());
            let is_region = |entry: &&Entry| matches!(entry, Entry::Gap(gap) if gap.cause == GapCause::RegionChanged);
            assert_eq!(journal.trouble().into_iter().filter(is_region).count(), 3, "{:?}", journal.trouble());
        }
        close(&sandbox, subscription).await;
    }
}

#[tokio::test]
async fn fault_position_behind_the_messages_beside_it() {
    let sandbox = quick().behavior(|behavior| behavior.published_ahead = 1210).start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    publish(&sandbox, 1..=15);
    Journal::upto(&mut subscription, 15).await.assert_only(1..=15);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn fault_service_that_repeats_itself() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    sandbox.faults().duplicate_next(15);
    publish(&sandbox, 1..=15);
    assert!(sandbox.wait_caught_up(SOON).await);
    publish(&sandbox, [16]);
    Journal::upto(&mut subscription, 16).await.assert_only(1..=16);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn fault_malformed_envelope_is_delivered_and_spoils_no_other() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    let id = subscription.id().unwrap();
    publish(&sandbox, 1..=5);
    for envelope in [r#"{"c":"no payload"}"#, "17", "null", r#""text""#] {
        sandbox.publish_envelope(&id, envelope).unwrap();
    }
    publish(&sandbox, 6..=10);
    let journal = Journal::upto(&mut subscription, 10).await;
    assert_eq!(journal.events(), (1..=10).collect::<Vec<_>>());
    let raw: Vec<&str> = journal.undecodable().iter().map(|it| &*it.raw).collect();
    assert_eq!(raw, [r#"{"c":"no payload"}"#, "17", "null", r#""text""#]);
    assert!(matches!(journal.entries[5], Entry::Undecodable(_)), "in its place: {:?}", journal.entries);
    close(&sandbox, subscription).await;
}

/// PubNub refuses the channel: the crate gives it up, creates another subscription, and reports the loss.
async fn is_recreated(fault: Fault, lasting: u32) {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    let old = subscription.id().unwrap();
    publish(&sandbox, 1..=5);
    let mut journal = Journal::upto(&mut subscription, 5).await;

    sandbox.faults().inject(Target::Subscribe, fault.times(lasting));
    publish(&sandbox, 6..=10);
    let new = replaced(&sandbox, &subscription, &old).await;
    publish(&sandbox, 11..=15);
    journal.read_to(&mut subscription, 15).await;

    journal.assert_missing_only_in_gaps(1..=15);
    assert!(journal.events().ends_with(&[11, 12, 13, 14, 15]), "{:?}", journal.events());
    let gap = journal.gaps()[0];
    assert_eq!((&gap.cause, gap.certainty), (&GapCause::TransportRefused, Certainty::Certain));
    assert!(gap.since.is_some());
    assert_eq!((journal.gaps().len(), journal.resumed().len()), (1, 1), "{:?}", journal.trouble());
    let recreated = journal.resumed()[0].recreated.as_ref().unwrap();
    assert_eq!((&recreated.old, &recreated.new), (&old, &new));
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn fault_403_recreates_the_subscription_with_a_gap() {
    is_recreated(Fault::status(403).body(FORBIDDEN), 1).await;
}

#[tokio::test]
async fn fault_403_for_a_while_is_still_one_gap() {
    is_recreated(Fault::status(403).body(FORBIDDEN), 3).await;
}

#[tokio::test]
async fn fault_other_refusals_recreate_the_subscription_too() {
    for status in [400, 401, 402, 404, 414] {
        is_recreated(Fault::status(status), 1).await;
    }
    is_recreated(Fault::status(200).body(FORBIDDEN), 1).await;
}

/// A sandbox whose subscriptions are served by `server`.
async fn live_at(server: &RawPubNub) -> (Sandbox, ringcentral_events::Subscription) {
    let sandbox = quick().behavior(|behavior| behavior.encryption = ringcentral_sandbox::Encryption::Never);
    let sandbox = sandbox.start().await.unwrap();
    let transport = pubnub(&sandbox).origin(server.origin());
    let subscription = live_over(&sandbox, transport).await;
    (sandbox, subscription)
}

/// Answers each poll from `BASE` with the next event, up to the fifteenth.
fn numbered(timetoken: u64) -> Answer {
    let n = timetoken.saturating_sub(BASE) + 1;
    if n > 15 { Answer::Hold } else { Answer::Json(answer_with(n)) }
}

/// Positions of the tests' own server: later than today.
const BASE: u64 = 90_000_000_000_000_000;

fn answer_with(n: u64) -> String {
    let event =
        format!(r#"{{"uuid":"u-{n}","event":"/restapi/v1.0/account/1/extension/2/message-store","body":{}}}"#, body(n));
    format!(r#"{{"t":{{"t":"{}","r":1}},"m":[{{"c":"c","d":{event}}}]}}"#, BASE + n)
}

#[tokio::test]
async fn fault_bodies_truncated_by_the_connections_end() {
    // Every other poll fails, each in a different way.
    let server = RawPubNub::start(|poll, timetoken| {
        let whole = answer_with(timetoken.saturating_sub(BASE) + 1);
        let (half, length) = (&whole[..whole.len() / 2], whole.len());
        let cut = match poll {
            1 => format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{half}"),
            3 => format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{half}", length),
            // The connection's end is the body's end, so only the JSON shows that it is truncated.
            5 => format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{half}"),
            7 => "HTTP/1.1 200 OK\r\nContent-Le".to_owned(),
            9 => "SSH-2.0-OpenSSH_9.6\r\n".to_owned(),
            11 => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{whole}", length + 10),
            _ => return numbered(timetoken),
        };
        Answer::RawAndClose(cut.into_bytes())
    })
    .await;
    let (_sandbox, mut subscription) = live_at(&server).await;
    Journal::upto(&mut subscription, 15).await.assert_only(1..=15);
    assert!(server.polls() >= 21, "{}", server.polls());
    soon(subscription.close()).await;
}

#[tokio::test]
async fn fault_one_position_for_ever_delivers_once_without_a_tight_loop() {
    // The position never moves: the same messages are returned again and again.
    let server = RawPubNub::start(|poll, _| {
        if poll < 8 {
            Answer::Json(answer_with(1).replace(&(BASE + 1).to_string(), &BASE.to_string()))
        } else {
            Answer::Json(answer_with(2))
        }
    })
    .await;
    let (_sandbox, mut subscription) = live_at(&server).await;
    Journal::upto(&mut subscription, 2).await.assert_only(1..=2);
    soon(subscription.close()).await;
}

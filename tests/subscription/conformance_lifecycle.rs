//! The conformance rows of a subscription's life, end to end: L1 to L12, P3 and
//! P5. `conformance_rows` has the table of all rows and their tests.

use crate::support::subscribing::*;
use ringcentral_events::{Delivery, ErrorKind, GapCause, OnDrop, Phase, ResumeToken, SubscriptionId};
use ringcentral_sandbox::{Behavior, Encryption, Fault, Operation, Recorded, Sandbox, Service, Target, TimeFormat};

const PRESENCE: &str = "/restapi/v1.0/account/~/extension/~/presence";

fn filters_at(sandbox: &Sandbox, id: &SubscriptionId) -> Vec<String> {
    sandbox.subscriptions().into_iter().find(|held| held.id == *id).unwrap().event_filters
}

fn short_leases(behavior: &mut Behavior) {
    behavior.subscription_lifetime = ms(4000);
}

#[tokio::test]
async fn l1_only_a_2xx_answer_to_a_change_changes_the_filters() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    let (id, handle) = (subscription.id().unwrap(), subscription.handle());
    let before = filters_at(&sandbox, &id);
    for (status, code, kind) in [(400, "SUB-508", ErrorKind::Rejected), (403, "SUB-402", ErrorKind::Permission)] {
        sandbox.faults().inject(Operation::Update, Fault::code(status, code));
        let error = soon(handle.update_filters([filter(PRESENCE)])).await.unwrap_err();
        assert!(error.status() == Some(status) && error.code() == Some(code), "{error:?} {kind:?}");
        assert_eq!(filters_at(&sandbox, &id), before);
        assert_eq!((subscription.id(), subscription.status().current().phase), (Some(id.clone()), Phase::Live));
    }
    publish(&sandbox, [1]);
    soon(handle.update_filters([filter(STORE), filter(PRESENCE)])).await.unwrap();
    assert_eq!(filters_at(&sandbox, &id).len(), 2);
    publish(&sandbox, [2]);
    Journal::upto(&mut subscription, 2).await.assert_only(1..=2);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn l2_a_second_change_is_refused_before_sending() {
    let sandbox = quick().start().await.unwrap();
    let subscription = live(&sandbox).await;
    let handle = subscription.handle();
    let slow = sandbox.faults().inject(Operation::Update, Fault::delay(ms(500)));
    let first = tokio::spawn({
        let handle = handle.clone();
        async move { handle.update_filters([filter(STORE), filter(PRESENCE)]).await }
    });
    assert!(sandbox.faults().wait_hits(slow, 1, SOON).await);
    let error = soon(handle.update_filters([filter(STORE)])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    soon(first).await.unwrap().unwrap();
    assert_eq!(sandbox.requests_to(Operation::Update).len(), 1);
    close(&sandbox, subscription).await;
}

/// Short leases are renewed several times, in every format of their end.
async fn renews_in_time(set_format: impl FnOnce(&mut Behavior)) {
    let sandbox = quick().behavior(short_leases).behavior(set_format).start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    let id = subscription.id();
    publish(&sandbox, 1..=5);
    assert!(sandbox.wait_requests(Operation::Renew, 2, SOON).await);
    publish(&sandbox, 6..=10);
    Journal::upto(&mut subscription, 10).await.assert_only(1..=10);
    assert_eq!(subscription.id(), id);
    assert_eq!(sandbox.requests_to(Operation::Create).len(), 1);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn l3_renews_before_expiry_by_a_plus_0000_time() {
    renews_in_time(|behavior| (behavior.time_format, behavior.send_expires_in) = (TimeFormat::PlusFour, false)).await;
}

#[tokio::test]
async fn l3_renews_before_expiry_by_a_zulu_time() {
    renews_in_time(|behavior| (behavior.time_format, behavior.send_expires_in) = (TimeFormat::Zulu, false)).await;
}

#[tokio::test]
async fn l3_renews_before_expiry_with_clocks_ten_minutes_apart() {
    futures_util::join!(
        renews_in_time(|behavior| (behavior.clock_skew_ms, behavior.send_expires_in) = (600_000, false)),
        renews_in_time(|behavior| (behavior.clock_skew_ms, behavior.send_expires_in) = (-600_000, false)),
        renews_in_time(|behavior| behavior.clock_skew_ms = 600_000),
    );
}

#[tokio::test]
async fn l4_a_failing_renewal_is_retried_and_nothing_is_lost() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    let (id, handle) = (subscription.id(), subscription.handle());
    let faults = [
        sandbox.faults().inject(Operation::Renew, Fault::status(503)),
        sandbox.faults().inject(Operation::Renew, Fault::html(500)),
        sandbox.faults().inject(Operation::Renew, Fault::close()),
        sandbox.faults().inject(Operation::Renew, Fault::code(429, "CMN-301").header("Retry-After", "1")),
    ];
    // Renews now; the next event is a repetition.
    soon(handle.revalidate()).await.unwrap();
    for (n, fault) in (1..).zip(faults) {
        publish(&sandbox, [n]);
        assert!(sandbox.faults().wait_hits(fault, 1, SOON).await);
    }
    let renewed = |request: &Recorded| request.operation == Operation::Renew && request.status == Some(200);
    assert!(sandbox.wait_for(renewed, SOON).await.is_some());
    publish(&sandbox, [5]);
    Journal::upto(&mut subscription, 5).await.assert_only(1..=5);
    assert_eq!(subscription.id(), id);
    assert_eq!(sandbox.requests_to(Operation::Create).len(), 1);
    close(&sandbox, subscription).await;
}

/// The service has lost the subscription; the renewal learns that from `answer`.
async fn is_recreated_once(answer: Option<Fault>) {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    let (old, handle) = (subscription.id().unwrap(), subscription.handle());
    publish(&sandbox, 1..=3);
    let mut journal = Journal::upto(&mut subscription, 3).await;
    if let Some(answer) = answer {
        sandbox.faults().inject(Operation::Renew, answer);
    }
    assert!(sandbox.expire(&old));
    soon(handle.revalidate()).await.unwrap();
    let new = replaced(&sandbox, &subscription, &old).await;
    publish(&sandbox, 4..=6);
    journal.read_to(&mut subscription, 6).await;
    assert_eq!(journal.events(), (1..=6).collect::<Vec<_>>());
    assert_eq!(journal.gaps()[0].cause, GapCause::SubscriptionGone);
    let recreated = journal.resumed()[0].recreated.as_ref().unwrap();
    assert_eq!((&recreated.old, &recreated.new), (&old, &new));
    assert_eq!(journal.trouble().len(), 2, "{:?}", journal.trouble());
    assert_eq!(sandbox.requests_to(Operation::Create).len(), 2, "one recreate");
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn l5_cmn_102_recreates_once_and_reports_both_ids() {
    is_recreated_once(None).await;
}

#[tokio::test]
async fn l5_sub_507_recreates_once_and_reports_both_ids() {
    is_recreated_once(Some(Fault::code(404, "SUB-507"))).await;
}

#[tokio::test]
async fn l5_a_bare_404_recreates_once_and_reports_both_ids() {
    is_recreated_once(Some(Fault::status(404))).await;
}

#[tokio::test]
async fn l7_a_start_cancelled_while_the_service_creates_leaves_nothing() {
    let sandbox = quick().start().await.unwrap();
    let slow = sandbox.faults().inject(Operation::Create, Fault::delay(ms(300)).after_effect());
    let starting = tokio::spawn(subscribe(&client(&sandbox), pubnub(&sandbox).build().unwrap()).start());
    assert!(sandbox.faults().wait_hits(slow, 1, SOON).await);
    assert!(sandbox.wait_subscriptions(1, SOON).await);
    starting.abort();
    assert!(soon(starting).await.unwrap_err().is_cancelled());
    assert!(sandbox.wait_subscriptions(0, SOON).await);
    assert!(sandbox.wait_open_polls(0, SOON).await);
}

#[tokio::test]
async fn l7_dropped_during_a_failing_change_or_a_back_off_leaves_nothing() {
    let sandbox = quick().start().await.unwrap();
    let subscription = live(&sandbox).await;
    let handle = subscription.handle();
    let slow = sandbox.faults().inject(Operation::Update, Fault::delay(ms(300)));
    let changing = tokio::spawn(async move { handle.update_filters([filter(PRESENCE)]).await });
    assert!(sandbox.faults().wait_hits(slow, 1, SOON).await);
    drop(subscription);
    // Done or not, it gets an answer.
    let _ = soon(changing).await.unwrap();
    assert!(sandbox.wait_subscriptions(0, SOON).await);

    let subscription = live(&sandbox).await;
    sandbox.stop_service(Service::PubNub).await;
    let mut status = subscription.status();
    soon(status.wait_for(|status| status.failed_attempts >= 3)).await.unwrap();
    drop(subscription);
    assert!(sandbox.wait_subscriptions(0, SOON).await);
}

/// Found 5.1: nothing proves whose a listed subscription is.
#[tokio::test]
async fn an_unconfirmed_subscription_is_left_to_expire() {
    for fault in [Fault::reset_mid_body(), Fault::close().after_effect()] {
        let sandbox = quick().start().await.unwrap();
        sandbox.faults().inject(Operation::Create, fault);
        let mut subscription = live(&sandbox).await;
        assert_eq!((sandbox.requests_to(Operation::Create).len(), sandbox.subscriptions().len()), (2, 2));
        publish(&sandbox, 1..=5);
        Journal::upto(&mut subscription, 5).await.assert_only(1..=5);
        assert!(!soon(subscription.close()).await.deleted, "one may be left");
        assert!(sandbox.wait_subscriptions(1, SOON).await);
        assert_eq!(sandbox.requests_to(Operation::List).len(), 0);
    }
}

#[tokio::test]
async fn l8_a_stored_subscription_is_adopted_by_id() {
    let sandbox = quick().start().await.unwrap();
    let first = start(subscribe(&client(&sandbox), pubnub(&sandbox).build().unwrap()).on_drop(OnDrop::Keep)).await;
    let id = first.id().unwrap();
    drop(first);
    assert!(sandbox.wait_open_polls(0, SOON).await);
    let adopting = subscribe(&client(&sandbox), pubnub(&sandbox).build().unwrap()).adopt(id.clone());
    let mut second = start(adopting).await;
    assert_eq!(second.id(), Some(id));
    assert_eq!(sandbox.requests_to(Operation::Create).len(), 1);
    publish(&sandbox, 1..=3);
    Journal::upto(&mut second, 3).await.assert_only(1..=3);
    close(&sandbox, second).await;
}

#[tokio::test]
async fn l8_an_id_that_expired_is_recreated_with_a_gap() {
    let sandbox = quick().start().await.unwrap();
    let gone = SubscriptionId::new("11111111-2222-4333-8444-555555555555");
    let adopting = subscribe(&client(&sandbox), pubnub(&sandbox).build().unwrap()).adopt(gone.clone());
    let mut subscription = start(adopting).await;
    publish(&sandbox, [1]);
    let journal = Journal::upto(&mut subscription, 1).await;
    assert_eq!(journal.gaps()[0].cause, GapCause::SubscriptionGone);
    let recreated = journal.resumed()[0].recreated.clone().unwrap();
    assert_eq!((recreated.old, Some(recreated.new)), (gone, subscription.id()));
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn l9_a_delete_treats_404_as_done_and_retries_after_401() {
    for fault in [Fault::code(404, "CMN-102"), Fault::code(404, "SUB-507"), Fault::code(401, "OAU-213").times(2)] {
        let sandbox = quick().start().await.unwrap();
        let subscription = live(&sandbox).await;
        sandbox.faults().inject(Operation::Delete, fault);
        let closed = soon(subscription.close()).await;
        assert!(closed.deleted);
    }
}

#[tokio::test]
async fn l10_disabled_filters_are_delivered() {
    let sandbox =
        quick().behavior(|behavior| behavior.disabled_filters = vec!["/presence".into()]).start().await.unwrap();
    let builder = client(&sandbox).subscribe([filter(STORE), filter(PRESENCE)]);
    let mut subscription = start(builder.transport(pubnub(&sandbox).build().unwrap())).await;
    let Delivery::FiltersDisabled(disabled) = next(&mut subscription).await else { panic!() };
    assert_eq!(disabled.len(), 1);
    assert!(disabled[0].filter.contains("/presence") && disabled[0].reason == "SUB-412", "{disabled:?}");
    publish(&sandbox, [1]);
    Journal::upto(&mut subscription, 1).await.assert_only([1]);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn l11_sub_505_deletes_own_orphans_only() {
    let sandbox = quick().behavior(|behavior| behavior.subscription_limit = 3).start().await.unwrap();
    let keep = || async {
        let builder = subscribe(&client(&sandbox), pubnub(&sandbox).build().unwrap()).on_drop(OnDrop::Keep);
        start(builder).await.id().unwrap()
    };
    let (own, foreign, other) = (keep().await, keep().await, keep().await);
    let builder = subscribe(&client(&sandbox), pubnub(&sandbox).build().unwrap()).leftovers([own.clone()]);
    let subscription = start(builder).await;
    let alive: Vec<_> = sandbox.subscriptions().into_iter().map(|held| held.id).collect();
    assert_eq!(alive, [foreign, other, subscription.id().unwrap()], "{own} made room");
    // It has no orphan to delete: an error, and no other subscription is affected.
    let error = soon(subscribe(&client(&sandbox), pubnub(&sandbox).build().unwrap()).start()).await.unwrap_err();
    assert_eq!(error.code(), Some("SUB-505"));
    assert_eq!(sandbox.subscriptions().len(), 3);
}

#[tokio::test]
async fn l12_an_adopted_subscription_with_equivalent_filters_is_not_updated() {
    let sandbox = quick().start().await.unwrap();
    let uris = [format!("{STORE}/instant?type=SMS"), STORE.to_owned(), PRESENCE.to_owned()];
    let former = client(&sandbox).subscribe(uris.iter().map(|uri| filter(uri))).on_drop(OnDrop::Keep);
    let former = start(former.transport(pubnub(&sandbox).build().unwrap())).await;
    let id = former.id().unwrap();
    drop(former);
    // The service returned ids for `~`; the filters are requested in another order.
    assert!(filters_at(&sandbox, &id).iter().all(|uri| !uri.contains('~')));
    let again = client(&sandbox).subscribe(uris.iter().rev().map(|uri| filter(uri))).adopt(id.clone());
    let again = start(again.transport(pubnub(&sandbox).build().unwrap())).await;
    assert_eq!(sandbox.requests_to(Operation::Update).len(), 0);
    drop(again);
    assert!(sandbox.wait_subscriptions(0, SOON).await);
}

#[tokio::test]
async fn p3_the_position_survives_a_reconnect() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    publish(&sandbox, 1..=3);
    let mut journal = Journal::upto(&mut subscription, 3).await;
    sandbox.stop_service(Service::PubNub).await;
    publish(&sandbox, 4..=6);
    sandbox.start_service(Service::PubNub).await;
    journal.read_to(&mut subscription, 6).await;
    journal.assert_only(1..=6);
    assert_eq!(sandbox.requests_to(Operation::Handshake).len(), 0, "no handshake: it means from now on");
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn p3_the_position_survives_a_restart() {
    let sandbox = quick().start().await.unwrap();
    let builder = || subscribe(&client(&sandbox), pubnub(&sandbox).build().unwrap()).on_drop(OnDrop::Keep);
    let mut first = start(builder()).await;
    publish_at_once(&sandbox, 1..=5);
    // Stops in the middle of a batch.
    Journal::upto(&mut first, 3).await.assert_only(1..=3);
    let saved = first.resume_token().unwrap().to_string();
    drop(first);
    publish(&sandbox, 6..=8);
    let token: ResumeToken = saved.parse().unwrap();
    let mut second = start(builder().resume(token)).await;
    publish(&sandbox, 9..=10);
    Journal::upto(&mut second, 10).await.assert_only(4..=10);
    assert_eq!(sandbox.requests_to(Operation::Create).len(), 1);
    close(&sandbox, second).await;
}

#[tokio::test]
async fn p5_renewals_that_fail_until_expiry_end_in_a_new_subscription_and_a_gap() {
    let sandbox = quick().behavior(short_leases).start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    let old = subscription.id().unwrap();
    publish(&sandbox, 1..=3);
    let mut journal = Journal::upto(&mut subscription, 3).await;
    let failing = sandbox.faults().inject(Operation::Renew, Fault::status(503).until_cleared());
    let new = replaced(&sandbox, &subscription, &old).await;
    sandbox.faults().clear(failing);
    publish(&sandbox, 4..=6);
    journal.read_to(&mut subscription, 6).await;
    assert_eq!(journal.events(), (1..=6).collect::<Vec<_>>());
    assert_eq!(journal.gaps()[0].cause, GapCause::LeaseExpired);
    let recreated = journal.resumed()[0].recreated.as_ref().unwrap();
    assert_eq!((&recreated.old, &recreated.new), (&old, &new));
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn p5_a_service_down_beyond_the_lease_is_one_gap() {
    let sandbox = quick().behavior(short_leases).start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    let old = subscription.id().unwrap();
    sandbox.stop_service(Service::Api).await;
    let mut status = subscription.status();
    soon(status.wait_for(|status| status.phase == Phase::Recreating)).await.unwrap();
    sandbox.start_service(Service::Api).await;
    replaced(&sandbox, &subscription, &old).await;
    publish(&sandbox, 1..=3);
    let journal = Journal::upto(&mut subscription, 3).await;
    assert_eq!((journal.gaps().len(), journal.resumed().len()), (1, 1), "{:?}", journal.trouble());
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn a_missing_permission_error_names_the_fix() {
    for refusal in [ringcentral_sandbox::Refusal::Sub528, ringcentral_sandbox::Refusal::Cmn401] {
        let sandbox = quick().behavior(|behavior| behavior.refuse_pubnub = Some(refusal)).start().await.unwrap();
        let error = soon(subscribe(&client(&sandbox), pubnub(&sandbox).build().unwrap()).start()).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TransportRefused | ErrorKind::Permission), "{error:?}");
        assert_eq!(sandbox.requests_to(Operation::Create).len(), 1, "not repeated");
    }
}

#[tokio::test]
async fn an_update_during_events_never_opens_a_second_poll() {
    let sandbox = quick().behavior(|behavior| behavior.encryption = Encryption::Always).start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    let handle = subscription.handle();
    let events = STORE.to_owned();
    for round in 0..10 {
        publish(&sandbox, [2 * round + 1]);
        let more = filter(if round % 2 == 0 { PRESENCE } else { "/team-messaging/v1/posts" });
        soon(handle.update_filters([filter(&events), more])).await.unwrap();
        publish(&sandbox, [2 * round + 2]);
    }
    Journal::upto(&mut subscription, 20).await.assert_only(1..=20);
    assert_eq!(sandbox.gauges().max_open_polls, 1);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn events_right_after_the_creation_are_delivered() {
    let sandbox = quick().start().await.unwrap();
    // PubNub is unreachable until long after the first events.
    let down = sandbox.faults().inject(Target::PubNub, Fault::close().until_cleared());
    let mut subscription = soon(subscribe(&client(&sandbox), pubnub(&sandbox).build().unwrap()).start()).await.unwrap();
    publish(&sandbox, 1..=10);
    assert!(sandbox.faults().wait_hits(down, 4, SOON).await);
    sandbox.faults().clear(down);
    Journal::upto(&mut subscription, 10).await.assert_only(1..=10);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn the_stream_ends_for_good() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    let shutdown = subscription.shutdown_handle();
    shutdown.drain();
    assert!(soon(subscription.next()).await.is_none());
    assert!(soon(subscription.next()).await.is_none());
    assert!(soon(shutdown.finished()).await);
    assert!(sandbox.wait_subscriptions(0, SOON).await);
}

//! Leases end to end: renewals that continue without a reader, and renewals that move channel and keys during events.

use crate::support::subscribing::*;
use ringcentral_events::{Certainty, GapCause, Phase, Subscription};
use ringcentral_sandbox::{Behavior, Fault, Operation, Rotation, Sandbox, Service};

#[tokio::test]
async fn reader_stopped_for_three_lease_lifetimes_loses_nothing() {
    // Leases of three seconds, each renewed after one and a half at the latest.
    let sandbox = quick().behavior(|behavior| behavior.subscription_lifetime = ms(4000)).start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    let id = subscription.id().unwrap();
    let mut published = 0;
    for renewals in 1..=9 {
        publish(&sandbox, published + 1..=published + 60);
        published += 60;
        assert!(sandbox.wait_requests(Operation::Renew, renewals, SOON).await, "renewals go on");
    }
    Journal::upto(&mut subscription, published).await.assert_only(1..=published);
    assert_eq!(subscription.id(), Some(id));
    assert_eq!(sandbox.requests_to(Operation::Create).len(), 1);
    close(&sandbox, subscription).await;
}

/// Publishes before, during and after a renewal that `rotation` changes. Its answer takes a while, and the old poll
/// returns empty meanwhile.
async fn moves(rotation: Rotation) -> (Sandbox, Subscription) {
    let sandbox = quick().behavior(|behavior| behavior.hold = ms(100)).start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    let (id, handle) = (subscription.id().unwrap(), subscription.handle());
    publish(&sandbox, 1..=5);
    let slow = sandbox.faults().inject(Operation::Renew, Fault::delay(ms(600)).after_effect());
    assert!(sandbox.rotate_on_renew(&id, rotation));
    soon(handle.revalidate()).await.unwrap();
    assert!(sandbox.faults().wait_hits(slow, 1, SOON).await);
    // The service has moved or is about to; the client does not know it yet.
    let asked = sandbox.requests_to(Operation::Poll).len();
    publish(&sandbox, 6..=10);
    assert!(sandbox.wait_requests(Operation::Poll, asked + 3, SOON).await);
    publish(&sandbox, 11..=15);
    assert!(
        sandbox
            .wait_for(|request| request.operation == Operation::Renew && request.status.is_some(), SOON)
            .await
            .is_some()
    );
    publish(&sandbox, 16..=20);
    let mut journal = Journal::upto(&mut subscription, 20).await;
    assert!(sandbox.wait_caught_up(SOON).await);
    publish(&sandbox, [21]);
    journal.read_to(&mut subscription, 21).await;
    journal.assert_only(1..=21);
    assert_eq!(subscription.id(), Some(id));
    phase(&subscription, Phase::Live).await;
    (sandbox, subscription)
}

#[tokio::test]
async fn renewal_that_changes_the_key_loses_nothing() {
    let (sandbox, subscription) = moves(Rotation::KEY).await;
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn renewal_that_changes_the_address_loses_nothing() {
    let (sandbox, subscription) = moves(Rotation::ADDRESS).await;
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn renewal_that_changes_the_subscriber_key_loses_nothing() {
    let (sandbox, subscription) = moves(Rotation::SUBSCRIBER_KEY).await;
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn renewal_that_changes_everything_loses_nothing() {
    let (sandbox, subscription) = moves(Rotation::ALL).await;
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn move_noticed_late_loses_nothing() {
    let sandbox = quick().behavior(|behavior| behavior.hold = ms(100)).start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    let (id, handle) = (subscription.id().unwrap(), subscription.handle());
    publish(&sandbox, 1..=5);
    assert!(sandbox.wait_caught_up(SOON).await);
    assert!(sandbox.rotate(&id, Rotation::ALL));
    // No link listens where these go; the client still polls the former address.
    publish(&sandbox, 6..=10);
    let asked = sandbox.requests_to(Operation::Poll).len();
    assert!(sandbox.wait_requests(Operation::Poll, asked + 4, SOON).await);
    publish(&sandbox, 11..=15);
    soon(handle.revalidate()).await.unwrap();
    Journal::upto(&mut subscription, 15).await.assert_only(1..=15);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn moves_in_a_row_lose_nothing_and_leave_one_poll() {
    let behavior = |behavior: &mut Behavior| (behavior.rotate_on_renew, behavior.hold) = (Some(Rotation::ALL), SOON);
    let sandbox = quick().behavior(behavior).start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    let handle = subscription.handle();
    let mut journal = Journal::default();
    for round in 0..6 {
        publish(&sandbox, 10 * round + 1..=10 * round + 5);
        let renewed = sandbox.requests_to(Operation::Renew).len();
        soon(handle.revalidate()).await.unwrap();
        publish(&sandbox, 10 * round + 6..=10 * round + 8);
        assert!(sandbox.wait_requests(Operation::Renew, renewed + 1, SOON).await);
        publish(&sandbox, 10 * round + 9..=10 * round + 10);
        journal.read_to(&mut subscription, 10 * round + 10).await;
    }
    journal.assert_only(1..=60);
    // The former links linger; then one poll remains, on the present channel.
    assert!(sandbox.wait_open_polls(1, SOON).await);
    assert_eq!(sandbox.open_polls_on(&subscription.id().unwrap()), 1);
    close(&sandbox, subscription).await;
}

#[tokio::test]
async fn move_while_the_link_is_down_is_a_possible_gap() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = live(&sandbox).await;
    let (id, handle) = (subscription.id().unwrap(), subscription.handle());
    publish(&sandbox, 1..=5);
    let mut journal = Journal::upto(&mut subscription, 5).await;
    sandbox.stop_service(Service::PubNub).await;
    // These wait at an address that will not be read again.
    publish(&sandbox, 6..=10);
    let mut status = subscription.status();
    soon(status.wait_for(|status| status.failed_attempts >= 3)).await.unwrap();
    assert!(sandbox.rotate_on_renew(&id, Rotation::ALL));
    // Not by `revalidate`, which dials at once.
    soon(handle.update_filters([filter(STORE)])).await.unwrap();
    publish(&sandbox, 11..=15);
    sandbox.start_service(Service::PubNub).await;
    journal.read_to(&mut subscription, 15).await;
    journal.assert_missing_only_in_gaps(1..=15);
    assert!(journal.events().ends_with(&[11, 12, 13, 14, 15]), "{:?}", journal.events());
    let gap = journal.gaps()[0];
    assert_eq!((&gap.cause, gap.certainty), (&GapCause::AddressMoved, Certainty::Possible));
    close(&sandbox, subscription).await;
}

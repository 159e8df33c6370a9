//! A subscription that backfills events missed by push, against the sandbox.

use std::time::Duration;

use crate::support::subscribing::{self, client, ms, quick, soon};
use ringcentral_events::event::ReadStatus;
use ringcentral_events::transport::{Poll, PubNub};
use ringcentral_events::{
    Certainty, Delivery, ErrorKind, Event, EventFilter, Gap, GapCause, Origin, Phase, Resumed, Subscription, catch_up,
};
use ringcentral_sandbox::{Fault, Fixture, Operation, RateLimits, Sandbox, Service};

fn sms(n: usize) -> Fixture {
    Fixture::inbound_sms("+16505550100", format!("text {n}"))
}

async fn start(sandbox: &Sandbox, poll_after: Duration) -> Subscription {
    let client = client(sandbox);
    let transport = PubNub::builder().origin(sandbox.pubnub_origin()).buffer_age(ms(300)).build().unwrap();
    let subscribe = client.subscribe([EventFilter::instant_message()]).transport(transport);
    let subscribe = subscribe.catch_up_all(catch_up::standard(&client)).poll_after(poll_after);
    let subscription = soon(subscribe.start()).await.unwrap();
    soon(subscription.status().wait_for(|status| status.phase == Phase::Live)).await.unwrap();
    // The first position exists once the account was queried.
    assert!(sandbox.wait_requests(Operation::MessageSync, 1, subscribing::SOON).await);
    subscription
}

async fn next(subscription: &mut Subscription) -> Delivery {
    soon(subscription.next()).await.unwrap().unwrap()
}

async fn next_text(subscription: &mut Subscription) -> (Origin, String) {
    match next(subscription).await {
        Delivery::Notification(it) => (it.origin(), it.event().message().unwrap().text().unwrap().to_owned()),
        other => panic!("{other:?}"),
    }
}

async fn next_gap(subscription: &mut Subscription) -> Gap {
    match next(subscription).await {
        Delivery::Gap(gap) => gap,
        other => panic!("{other:?}"),
    }
}

async fn next_resumed(subscription: &mut Subscription) -> Resumed {
    match next(subscription).await {
        Delivery::Resumed(resumed) => resumed,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn messages_that_pubnub_dropped_are_found_in_the_message_store() {
    let sandbox = quick().behavior(|behavior| behavior.retention = ms(200)).start().await.unwrap();
    let mut subscription = start(&sandbox, Duration::from_secs(600)).await;
    sandbox.trigger(&sms(1));
    assert_eq!(next_text(&mut subscription).await, (Origin::Push, "text 1".into()));
    sandbox.stop_service(Service::PubNub).await;
    for n in 2..=6 {
        sandbox.trigger(&sms(n));
    }
    // Longer than PubNub retains it.
    sandbox.advance(ms(500));
    tokio::time::sleep(ms(400)).await;
    sandbox.start_service(Service::PubNub).await;
    assert_eq!(next_gap(&mut subscription).await.certainty, Certainty::Possible);
    for n in 2..=6 {
        assert_eq!(next_text(&mut subscription).await, (Origin::CatchUp, format!("text {n}")));
    }
    let resumed = next_resumed(&mut subscription).await;
    assert!(resumed.complete && resumed.unrecovered.is_empty(), "{resumed:?}");
    sandbox.trigger(&sms(7));
    assert_eq!(next_text(&mut subscription).await, (Origin::Push, "text 7".into()));
    soon(subscription.close()).await;
}

#[tokio::test]
async fn during_a_pubnub_outage_the_message_store_is_polled_and_each_text_arrives_once() {
    let sandbox = quick().start().await.unwrap();
    let mut subscription = start(&sandbox, ms(200)).await;
    sandbox.stop_service(Service::PubNub).await;
    soon(subscription.status().wait_for(|status| status.phase == Phase::Reconnecting)).await.unwrap();
    sandbox.trigger(&sms(1));
    assert_eq!(next_text(&mut subscription).await, (Origin::CatchUp, "text 1".into()));
    sandbox.start_service(Service::PubNub).await;
    sandbox.trigger(&sms(2));
    // PubNub delivers both; the first is a duplicate.
    loop {
        match next(&mut subscription).await {
            Delivery::Notification(it) => {
                let text = it.event().message().unwrap().text().unwrap().to_owned();
                assert_eq!(text, "text 2");
                break;
            }
            // The pause was longer than the retention that this test configures for PubNub.
            Delivery::Gap(gap) => assert_eq!(gap.certainty, Certainty::Possible),
            Delivery::Resumed(resumed) => assert!(resumed.complete, "{resumed:?}"),
            other => panic!("{other:?}"),
        }
    }
    soon(subscription.close()).await;
}

#[tokio::test]
async fn counts_become_the_messages_by_one_sync_per_burst() {
    let sandbox = quick().start().await.unwrap();
    let app = client(&sandbox);
    let transport = PubNub::builder().origin(sandbox.pubnub_origin()).build().unwrap();
    let builder = app.subscribe([EventFilter::message_store()]).transport(transport).backoff(subscribing::eager());
    let builder = builder.catch_up_all(catch_up::standard(&app)).enrich_messages(true);
    let mut subscription = subscribing::start(builder).await;
    let syncs = || sandbox.requests_to(Operation::MessageSync).len();
    assert!(sandbox.wait_requests(Operation::MessageSync, 1, subscribing::SOON).await);
    let before = syncs();
    for n in 1..=5 {
        sandbox.trigger(&sms(n));
    }
    let message = async |subscription: &mut Subscription| match next(subscription).await {
        Delivery::Notification(it) => {
            assert_eq!(it.origin(), Origin::CatchUp);
            let Event::MessageStore(store) = it.event() else { panic!("{it:?}") };
            let [message] = &store.records[..] else { panic!("{store:?}") };
            (message.text().unwrap().to_owned(), message.read_status.clone())
        }
        other => panic!("{other:?}"),
    };
    for n in 1..=5 {
        assert_eq!(message(&mut subscription).await.0, format!("text {n}"));
    }
    assert!((1..=2).contains(&(syncs() - before)), "{} syncs for one burst", syncs() - before);
    // A change is delivered as well, and transient errors are retried.
    sandbox.faults().inject(Operation::MessageSync, Fault::status(503).times(4));
    let id = sandbox.stored_messages()[0]["id"].as_u64().unwrap();
    sandbox.trigger(&Fixture::message_read(id));
    assert_eq!(message(&mut subscription).await, ("text 1".into(), Some(ReadStatus::Read)));
    // Counts are delivered unchanged if the messages may not be read.
    sandbox.faults().inject(Operation::MessageSync, Fault::status(403).times(1));
    sandbox.trigger(&sms(6));
    let Delivery::Notification(counts) = next(&mut subscription).await else { panic!("counts") };
    assert_eq!(counts.origin(), Origin::Push);
    let Delivery::Gap(gap) = next(&mut subscription).await else { panic!("a gap for the message behind the count") };
    assert_eq!(gap.cause, GapCause::PolledInPart);
    assert!(!next_resumed(&mut subscription).await.complete);
    sandbox.trigger(&sms(7));
    let Delivery::Notification(counts) = next(&mut subscription).await else { panic!("counts") };
    assert_eq!(counts.origin(), Origin::Push);
    soon(subscription.close()).await;

    let transport = PubNub::builder().origin(sandbox.pubnub_origin()).build().unwrap();
    let builder = app.subscribe([EventFilter::message_store()]).transport(transport).enrich_messages(true);
    assert_eq!(builder.start().await.unwrap_err().kind(), ErrorKind::Config, "who would ask");
}

#[tokio::test]
async fn no_rate_group_is_exceeded_while_polling_replaces_push() {
    let groups = |limits: &mut RateLimits| {
        // A fifth of the service's limits, so that a minute passes in seconds.
        (limits.light, limits.medium, limits.heavy, limits.window) = (10, 8, 2, Duration::from_secs(3));
        (limits.auth, limits.penalty) = (5, Duration::from_secs(20));
    };
    let sandbox = Sandbox::builder().behavior(|behavior| groups(&mut behavior.rate_limits)).start().await.unwrap();
    sandbox.behavior(|behavior| behavior.account.call_log_delay = Duration::ZERO);
    let app = client(&sandbox);
    let filters = [
        EventFilter::instant_message(),
        EventFilter::team_posts(),
        EventFilter::missed_calls(),
        EventFilter::account_telephony_sessions(),
        EventFilter::a2p_messages(),
        EventFilter::extension_list(),
        EventFilter::presence(),
        EventFilter::account_presence(),
    ];
    let second = Duration::from_secs(1);
    let builder = app.subscribe(filters).transport(Poll::new()).poll_every(second..=second);
    let mut subscription = soon(builder.catch_up_all(catch_up::standard(&app)).start()).await.unwrap();
    for n in 1..=6 {
        sandbox.trigger(&sms(n));
        sandbox.trigger(&Fixture::missed_call(format!("+{n}")));
        let (mut text, mut call) = (false, false);
        while !(text && call) {
            match next(&mut subscription).await {
                Delivery::Notification(it) => match it.event() {
                    Event::InstantMessage(it) => text |= it.text() == Some(&format!("text {n}")),
                    Event::MissedCall(it) => call |= it.from.as_deref() == Some(&format!("+{n}")),
                    _ => {}
                },
                Delivery::Gap(gap) => assert_eq!(gap.cause, GapCause::PolledInPart),
                other => panic!("{other:?}"),
            }
        }
    }
    let refused: Vec<_> = sandbox.requests().into_iter().filter(|request| request.status == Some(429)).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let heavy = [Operation::CallLogSync, Operation::CallLog];
    assert!(heavy.iter().map(|at| sandbox.requests_to(*at).len()).sum::<usize>() > 4);
    soon(subscription.close()).await;
}

#[tokio::test]
async fn a_polled_state_is_delivered_when_it_changes() {
    let sandbox = quick().start().await.unwrap();
    let app = client(&sandbox);
    let second = Duration::from_secs(1);
    let builder = app.subscribe([EventFilter::presence()]).transport(Poll::new()).poll_every(second..=second);
    let mut subscription = soon(builder.catch_up_all(catch_up::standard(&app)).start()).await.unwrap();
    let Delivery::Gap(gap) = next(&mut subscription).await else { panic!("what polls leave out") };
    assert_eq!((gap.cause, gap.until), (GapCause::PolledInPart, None));
    let state = async |subscription: &mut Subscription| match next(subscription).await {
        Delivery::Notification(it) => {
            assert_eq!(it.origin(), Origin::Snapshot);
            it.event().presence().unwrap().presence_status.as_ref().unwrap().to_string()
        }
        other => panic!("{other:?}"),
    };
    let first = state(&mut subscription).await;
    // Several polls with the same result.
    let polls = sandbox.requests_to(Operation::Presence).len();
    assert!(sandbox.wait_requests(Operation::Presence, polls + 2, subscribing::SOON).await);
    sandbox.trigger(&Fixture::presence("Busy", "NoCall"));
    assert_ne!(first, "Busy");
    assert_eq!(state(&mut subscription).await, "Busy", "and nothing in between");
    soon(subscription.close()).await;
}

//! Several transports.

use super::*;
use crate::kind::TransportKind;
use crate::transport::Poll;

/// Two push transports on one service; what falls back from the first to the second.
struct Two {
    world: World,
    second: FakeTransport,
    source: FakeSource,
}

impl Two {
    fn new() -> Self {
        Self { world: World::new(), second: FakeTransport::default(), source: FakeSource::default() }
    }

    fn builder(&self) -> SubscriptionBuilder {
        let builder = SubscriptionBuilder::new(self.world.control.clone(), [filter(TEXTS)]);
        builder.transport(self.world.transport.clone()).catch_up(self.source.clone())
    }

    /// One whose first transport did not deliver, so that the second does.
    async fn over_the_second(&self) -> Subscription {
        let subscription = self.builder().fall_back_to(self.second.clone()).start().await.unwrap();
        let cutting = cut(&self.world.transport);
        self.second.opened(1).await;
        cutting.abort();
        self.second.feed(1, Ok(LinkEvent::Alive));
        phase(&subscription, Phase::Live).await;
        subscription
    }
}

fn refused() -> Error {
    Error::new(ErrorKind::TransportRefused, "no").with_status(403).with_code(Some("SUB-528".into()))
}

/// The links of a transport fail from now on, each as soon as it is opened.
fn cut(transport: &FakeTransport) -> tokio::task::JoinHandle<()> {
    let transport = transport.clone();
    tokio::spawn(async move {
        for link in transport.count().max(1).. {
            transport.opened(link).await;
            transport.feed(link, Err(Error::new(ErrorKind::Network, "cut")));
        }
    })
}

async fn is_over(subscription: &Subscription, kind: TransportKind) {
    let mut status = subscription.status();
    let there = status.wait_for(|status| status.transport == kind && status.is_healthy());
    timeout(secs(7200), there).await.expect("in time").expect("not over");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_refused_at_the_start_is_left_for_the_next() {
    let two = Two::new();
    two.world.control.script("create", Script::Fail(refused()));
    let before = Instant::now();
    let mut subscription = two.builder().fall_back_to(Poll::new()).start().await.unwrap();
    assert!(before.elapsed() < secs(1), "{:?}", before.elapsed());
    is_over(&subscription, TransportKind::Poll).await;
    two.source.happen([1]);
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 1));
    // It is not asked for again.
    sleep(secs(24 * 3600)).await;
    assert_eq!((creates(&two.world.control), is_quiet(&mut subscription)), (1, true));
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn when_every_one_is_refused_the_last_refusal_is_the_error() {
    let two = Two::new();
    two.world.control.script("create", Script::Fail(Error::new(ErrorKind::Permission, "first").with_status(403)));
    two.world.control.script("create", Script::Fail(refused()));
    let error = two.builder().fall_back_to(two.second.clone()).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TransportRefused);
    // Nor is another transport the way out of a login that is refused.
    let two = Two::new();
    two.world.control.script("create", Script::Fail(Error::new(ErrorKind::Auth, "revoked").with_status(401)));
    let error = two.builder().fall_back_to(two.second.clone()).start().await.unwrap_err();
    assert_eq!((error.kind(), creates(&two.world.control)), (ErrorKind::Auth, 1));
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_does_not_deliver_for_a_minute_is_replaced_without_loss_or_duplicates() {
    let two = Two::new();
    let mut subscription = two.builder().fall_back_to(two.second.clone()).start().await.unwrap();
    two.world.up(&subscription, 1).await;
    push_sms(&two.world, 1, &[1]);
    assert_eq!(next_sms(&mut subscription).await, (Origin::Push, 1));
    settle().await;
    let since = crate::clock::wall_now();
    let cutting = cut(&two.world.transport);
    let before = Instant::now();
    two.source.happen([1, 2]);
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 2));
    two.second.opened(1).await;
    assert!((secs(60)..secs(62)).contains(&before.elapsed()), "{:?}", before.elapsed());
    two.source.happen([3]);
    let gap = next_gap(&mut subscription).await;
    assert_eq!((&gap.cause, gap.certainty), (&GapCause::TransportChanged, Certainty::Possible));
    assert!(gap.since.unwrap() <= since, "{gap:?}");
    two.second.feed(1, Ok(LinkEvent::Alive));
    let sms: Vec<String> = [2, 3, 4].map(sms_text).into();
    two.second.batch(1, sms, None);
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 3));
    let resumed = next_resumed(&mut subscription).await;
    let recreated = resumed.recreated.unwrap();
    assert_eq!((resumed.complete, recreated.old.as_str(), recreated.new.as_str()), (true, "sub-1", "sub-2"));
    assert_eq!(next_sms(&mut subscription).await, (Origin::Push, 4));
    settle().await;
    assert_eq!(two.world.control.alive(), ["sub-2"], "the former one is deleted");
    cutting.abort();
    assert!(subscription.close().await.unread.is_empty());
    assert!(two.world.control.alive().is_empty());
}

/// Left for it, nothing would deliver until its token may be requested.
#[tokio::test(start_paused = true)]
async fn one_that_delivers_is_not_left_for_a_socket_that_has_no_turn_within_the_rate() {
    let world = World { control: FakeControl::new(), transport: FakeTransport::in_connection() };
    let budget = crate::http::RateBudget::new();
    world.control.shares(&budget);
    let two = Two { world, ..Two::new() };
    let mut subscription = two.over_the_second().await;
    while !matches!(next(&mut subscription).await, Delivery::Resumed(_)) {}
    let before = Instant::now();
    let link = two.world.transport.count() + 1;
    sleep(secs(590)).await;
    let (method, path) = (http::Method::POST, "/restapi/oauth/wstoken");
    let permit = budget.admit(&method, path, Instant::now()).await.unwrap();
    let after = [(http::header::RETRY_AFTER, "60".parse().unwrap())].into_iter().collect();
    permit.answered(&method, path, 429, &after);
    sleep(secs(30)).await;
    assert!(subscription.status().current().is_healthy());
    two.world.transport.opened(link).await;
    assert!((secs(649)..secs(665)).contains(&before.elapsed()), "{:?}", before.elapsed());
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_first_is_gone_back_to_while_the_other_still_delivers() {
    let two = Two::new();
    let mut subscription = two.over_the_second().await;
    while !matches!(next(&mut subscription).await, Delivery::Resumed(_)) {}
    let before = Instant::now();
    let link = two.world.transport.count() + 1;
    two.world.transport.opened(link).await;
    assert!((secs(599)..secs(602)).contains(&before.elapsed()), "{:?}", before.elapsed());
    // Both tell of it, each in its own words.
    let told_by = |by: &str, n: u64| {
        let mut text: serde_json::Value = serde_json::from_str(&sms_text(n)).unwrap();
        (text["uuid"], text["subscriptionId"]) = (format!("{by}-{n}").into(), by.into());
        text.to_string()
    };
    two.second.batch(1, vec![told_by("sub-2", 1)], None);
    two.world.transport.feed(link, Ok(LinkEvent::Alive));
    two.world.transport.batch(link, vec![told_by("sub-3", 1), told_by("sub-3", 2)], None);
    let mut told = Vec::new();
    while told.len() < 2 {
        if let Delivery::Notification(it) = next(&mut subscription).await {
            told.push(it.event().message().unwrap().id.as_ref().unwrap().as_str().to_owned());
        }
    }
    assert_eq!(told, ["1", "2"]);
    settle().await;
    sleep(secs(11)).await;
    assert!(is_quiet(&mut subscription));
    assert_eq!(two.world.control.alive(), ["sub-3"]);
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_of_both_transports_around_a_switch_is_delivered_once() {
    let two = Two::new();
    let mut subscription = two.over_the_second().await;
    while !matches!(next(&mut subscription).await, Delivery::Resumed(_)) {}
    let link = two.world.transport.count() + 1;
    two.world.transport.opened(link).await;
    // Of such, only the content tells that they are one.
    let told_by = |by: &str, n: u64| {
        let text = format!("{by}-{n}");
        serde_json::json!({"uuid": text, "event": TEXTS, "subscriptionId": by, "body": {"n": n}}).to_string()
    };
    two.second.batch(1, vec![told_by("sub-2", 1)], None);
    two.world.transport.feed(link, Ok(LinkEvent::Alive));
    settle().await;
    two.second.feed(1, Err(Error::new(ErrorKind::Network, "cut")));
    settle().await;
    assert_eq!(two.world.control.alive(), ["sub-3"], "the former is gone");
    sleep(secs(4)).await;
    two.world.transport.batch(link, vec![told_by("sub-3", 1), told_by("sub-3", 2)], None);
    sleep(secs(11)).await;
    two.world.transport.batch(link, vec![told_by("sub-3", 3)], None);
    let mut told = Vec::new();
    while told.last() != Some(&3) {
        if let Delivery::Notification(it) = next(&mut subscription).await {
            told.push(it.body_as::<serde_json::Value>().unwrap()["n"].as_u64().unwrap());
        }
    }
    assert_eq!(told, [1, 2, 3]);
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_former_transport_says_nothing_of_the_present_one() {
    let two = Two::new();
    let mut subscription = two.over_the_second().await;
    two.world.control.script("create", Script::Slow(secs(10)));
    while creates(&two.world.control) < 3 {
        sleep(secs(1)).await;
    }
    // On the way back to the first.
    two.second.feed(1, Err(refused().with_disposition(Disposition::Fatal)));
    let link = two.world.transport.count() + 1;
    timeout(secs(60), two.world.transport.opened(link)).await.expect("it stays on the way");
    two.world.transport.feed(link, Ok(LinkEvent::Alive));
    phase(&subscription, Phase::Live).await;
    assert_eq!(creates(&two.world.control), 3);
    push_sms(&two.world, link, &[1]);
    while !matches!(next(&mut subscription).await, Delivery::Notification(_)) {}
    subscription.close().await;
}

/// A call enters the log up to minutes after its end (ringcentral-rest-and-events.md §6.3).
#[tokio::test(start_paused = true)]
async fn what_the_last_poll_of_a_source_may_not_have_found_yet_is_inside_a_gap() {
    for is_closed in [false, true] {
        let two = Two::new();
        two.source.settles_after(secs(180));
        let clock = paused_wall();
        let builder = two
            .builder()
            .clock(clock.clone())
            .fail_over_after(secs(60))
            .return_after(secs(3000))
            .fall_back_to(Poll::new());
        let mut subscription = builder.start().await.unwrap();
        two.world.up(&subscription, 1).await;
        let cutting = cut(&two.world.transport);
        is_over(&subscription, TransportKind::Poll).await;
        sleep(secs(600)).await;
        while next(&mut subscription).now_or_never().is_some() {}
        let (unread, asked) = if is_closed {
            (subscription.close().await.unread, clock.wall())
        } else {
            // Back to push.
            cutting.abort();
            let link = two.world.transport.count() + 1;
            two.world.transport.opened(link).await;
            let asked = clock.wall();
            settle().await;
            let mut unread = Vec::new();
            while let Some(delivery) = next(&mut subscription).now_or_never() {
                unread.push(delivery);
            }
            (unread, asked)
        };
        let gaps = unread.iter().filter_map(|it| if let Delivery::Gap(gap) = it { gap.since } else { None });
        let since = gaps.min().expect("a gap");
        let before = asked.duration_since(since).unwrap();
        assert!((secs(180)..secs(245)).contains(&before), "{is_closed} {before:?} {unread:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn polls_stand_in_as_a_transport_and_hand_back() {
    let two = Two::new();
    let mut subscription = two.builder().fall_back_to(Poll::new()).start().await.unwrap();
    two.world.up(&subscription, 1).await;
    settle().await;
    let cutting = cut(&two.world.transport);
    is_over(&subscription, TransportKind::Poll).await;
    two.source.happen([1]);
    let mut told = Vec::new();
    let enter = |delivery: Delivery, told: &mut Vec<(Origin, u64)>| {
        if let Delivery::Notification(it) = delivery {
            let id = it.event().message().unwrap().id.as_ref().unwrap().as_str().parse().unwrap();
            told.push((it.origin(), id));
        }
    };
    while told.is_empty() {
        enter(next(&mut subscription).await, &mut told);
    }
    cutting.abort();
    two.source.happen([2]);
    // It goes back by itself, and what happens on the way is found.
    let link = two.world.transport.count() + 1;
    two.world.transport.opened(link).await;
    two.source.happen([3]);
    two.world.up(&subscription, link).await;
    push_sms(&two.world, link, &[3, 4]);
    while told.len() < 4 {
        enter(next(&mut subscription).await, &mut told);
    }
    assert_eq!(told[..3], [1, 2, 3].map(|n| (Origin::CatchUp, n)));
    assert_eq!(told[3], (Origin::Push, 4));
    settle().await;
    assert!(is_quiet(&mut subscription));
    assert_eq!(two.world.control.alive().len(), 1);
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_ended_on_the_way_back_deletes_each_where_it_was_made() {
    let two = Two::new();
    let subscription = two.builder().fall_back_to(Poll::new()).start().await.unwrap();
    two.world.up(&subscription, 1).await;
    let cutting = cut(&two.world.transport);
    is_over(&subscription, TransportKind::Poll).await;
    cutting.abort();
    two.world.control.script("create", Script::Slow(secs(5)));
    while creates(&two.world.control) < 2 {
        sleep(secs(1)).await;
    }
    subscription.close().await;
    settle().await;
    sleep(secs(60)).await;
    assert!(two.world.control.alive().is_empty(), "{:?}", two.world.control.alive());
    // What polls go by is nothing that the service knows.
    assert_eq!(deletes(&two.world.control), ["sub-1", "sub-2"]);
}

/// The creation over the first transport waits for its rate group, for longer than the end takes.
#[tokio::test(start_paused = true)]
async fn one_that_is_ended_while_the_way_back_waits_deletes_what_it_had() {
    let two = Two::new();
    let subscription = two.over_the_second().await;
    two.world.control.script("create", Script::Slow(secs(60)));
    while creates(&two.world.control) < 3 {
        sleep(secs(1)).await;
    }
    assert_eq!(two.world.control.alive(), ["sub-2"]);
    let closed = subscription.close().await;
    assert!(two.world.control.alive().is_empty(), "{:?}", two.world.control.alive());
    assert!(!closed.deleted, "the one that is being made may be there yet");
    sleep(secs(120)).await;
    settle().await;
    assert!(two.world.control.alive().is_empty(), "{:?}", two.world.control.alive());
    assert_eq!(deletes(&two.world.control), ["sub-1", "sub-2", "sub-3"], "each once");
}

#[tokio::test(start_paused = true)]
async fn a_late_creation_of_a_former_transport_is_deleted() {
    // Whether it is carried out before or after the change.
    for script in [Script::Slow(secs(50)), Script::Late(secs(50))] {
        let two = Two::new();
        two.world.control.script("create", script);
        let builder = two.builder().fail_over_after(secs(20)).return_after(secs(600)).fall_back_to(Poll::new());
        let subscription = builder.start().await.unwrap();
        assert_eq!(subscription.status().current().transport, TransportKind::Poll);
        sleep(secs(40)).await;
        settle().await;
        assert_eq!(creates(&two.world.control), 1);
        assert!(two.world.control.alive().is_empty(), "{:?}", two.world.control.alive());
        subscription.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_transport_leads_to_a_gap_and_leaves_nothing() {
    let two = Two::new();
    let subscription = two.builder().on_drop(OnDrop::Keep).start().await.unwrap();
    two.world.up(&subscription, 1).await;
    let mut subscription = subscription;
    assert!(is_quiet(&mut subscription));
    let token = subscription.resume_token().unwrap();
    drop(subscription);
    settle().await;
    // As the service would describe one that lives elsewhere.
    let elsewhere = |info: &mut serde_json::Value| info["deliveryMode"]["transportType"] = "WebSocket".into();
    two.world.control.script("renew", Script::Answer(Box::new(elsewhere)));
    let mut subscription = two.builder().resume(token).start().await.unwrap();
    assert_eq!(next_gap(&mut subscription).await.cause, GapCause::SubscriptionGone);
    two.world.up(&subscription, 2).await;
    settle().await;
    assert_eq!(two.world.control.alive(), ["sub-2"]);
    subscription.close().await;
}

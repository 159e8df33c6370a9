//! Health in every fault of the README's table, in virtual time.

use std::sync::Mutex;

use super::*;
use crate::health::Health;

/// What a watch shows over time: when readiness changed, and to what.
struct Followed(Arc<Mutex<Vec<(Instant, bool)>>>);

impl Followed {
    fn of(subscription: &Subscription) -> Self {
        let (mut watch, seen) = (subscription.status(), Arc::new(Mutex::new(Vec::new())));
        let log = seen.clone();
        tokio::spawn(async move {
            loop {
                let is_ready = watch.health().is_ready();
                {
                    let mut log = log.lock().unwrap();
                    if log.last().is_none_or(|(_, last)| *last != is_ready) {
                        log.push((Instant::now(), is_ready));
                    }
                }
                if watch.changed().await.is_none() {
                    break;
                }
            }
        });
        Self(seen)
    }

    fn all(&self) -> Vec<(Instant, bool)> {
        self.0.lock().unwrap().clone()
    }
}

fn network() -> Error {
    Error::new(ErrorKind::Network, "cut")
}

fn json(answer: &http::Response<String>) -> serde_json::Value {
    serde_json::from_str(answer.body()).unwrap()
}

/// Live, by a clock that goes with the paused time.
async fn live(world: &World) -> Subscription {
    let subscription = world.builder().clock(paused_wall()).start().await.unwrap();
    world.up(&subscription, 1).await;
    subscription
}

/// The peers of all later links are there.
fn revives(transport: &FakeTransport) {
    let transport = transport.clone();
    tokio::spawn(async move {
        for link in 2.. {
            transport.opened(link).await;
            transport.feed(link, Ok(LinkEvent::Alive));
        }
    });
}

/// What was seen of one fault: when it happened, the log, and the health in the end.
struct Outcome {
    fault: Instant,
    log: Vec<(Instant, bool)>,
    end: Health,
}

/// A link breaks, and the next one brings `first`.
async fn broken(transport: FakeTransport, away: u64, first: impl FnOnce(&FakeTransport, usize) -> bool) -> Outcome {
    let world = World { control: FakeControl::new(), transport };
    let subscription = live(&world).await;
    let followed = Followed::of(&subscription);
    settle().await;
    let fault = Instant::now();
    world.transport.feed(1, Err(network()));
    world.transport.opened(2).await;
    sleep(secs(away)).await;
    assert!(first(&world.transport, 2));
    phase(&subscription, Phase::Live).await;
    settle().await;
    Outcome { fault, log: followed.all(), end: subscription.status().health() }
}

/// The subscription is lost, and its replacement comes up.
async fn lost(world: World, fault: impl AsyncFnOnce(&World, &Subscription)) -> Outcome {
    let subscription = live(&world).await;
    let followed = Followed::of(&subscription);
    settle().await;
    let (at, id) = (Instant::now(), subscription.id());
    fault(&world, &subscription).await;
    let mut watch = subscription.status();
    let replaced = watch.wait_for(|status| status.phase == Phase::Recreating);
    timeout(secs(3600), replaced).await.unwrap().unwrap();
    revives(&world.transport);
    phase(&subscription, Phase::Live).await;
    assert_ne!(subscription.id(), id);
    settle().await;
    Outcome { fault: at, log: followed.all(), end: subscription.status().health() }
}

/// Something happens to a live subscription that is no reason not to be ready.
async fn live_through(world: World, fault: impl AsyncFnOnce(&World, &Subscription)) -> Outcome {
    let subscription = live(&world).await;
    let followed = Followed::of(&subscription);
    settle().await;
    let at = Instant::now();
    fault(&world, &subscription).await;
    sleep(secs(5)).await;
    Outcome { fault: at, log: followed.all(), end: subscription.status().health() }
}

async fn outcome(row: &str) -> Outcome {
    let alive = |transport: &FakeTransport, link| transport.feed(link, Ok(LinkEvent::Alive));
    let loss = |loss| move |transport: &FakeTransport, link| transport.batch(link, Vec::new(), Some(loss));
    match row {
        row if row.starts_with("PubNub: a poll fails") => broken(FakeTransport::default(), 0, alive).await,
        row if row.starts_with("PubNub is unreachable") => {
            broken(FakeTransport::default(), 130, loss(PossibleLoss::BufferAged { pause: secs(130) })).await
        }
        row if row.starts_with("PubNub answers from another region") => {
            live_through(World::new(), async |world, _| {
                world.transport.batch(1, Vec::new(), Some(PossibleLoss::RegionChanged));
            })
            .await
        }
        row if row.starts_with("WebSocket: the gateway closes") => {
            broken(FakeTransport::in_connection(), 1, alive).await
        }
        row if row.starts_with("WebSocket: the connection ends") => {
            broken(FakeTransport::in_connection(), 9, alive).await
        }
        row if row.starts_with("More events were published") => {
            broken(FakeTransport::default(), 5, loss(PossibleLoss::BufferFull { events: 100 })).await
        }
        row if row.starts_with("The subscription expired or was deleted") => {
            lost(World::new(), async |world, subscription| {
                world.control.forget_all();
                subscription.handle().revalidate().await.unwrap();
            })
            .await
        }
        row if row.starts_with("The service suspended or blacklisted it") => {
            lost(World::new(), async |world, _| {
                let refused = Error::new(ErrorKind::TransportRefused, "no").with_disposition(Disposition::Recreate);
                world.transport.feed(1, Err(refused));
            })
            .await
        }
        row if row.starts_with("The service drops the subscription without a notice") => {
            lost(World::new(), async |world, _| world.control.forget_all()).await
        }
        row if row.starts_with("A renewal brings another channel") => {
            live_through(World::new(), async |world, subscription| {
                world.control.move_to("other");
                world.control.encrypt_with("MDEyMzQ1Njc4OWFiY2RlZg==");
                revives(&world.transport);
                subscription.handle().update_filters([filter(MESSAGES)]).await.unwrap();
            })
            .await
        }
        row if row.starts_with("Your program ends between a gap") => {
            let world = World::new();
            let mut first = live(&world).await;
            world.transport.events(1, [1]);
            next_uuid(&mut first).await;
            world.control.forget_all();
            first.handle().revalidate().await.unwrap();
            next_gap(&mut first).await;
            let token = first.resume_token().unwrap();
            let fault = Instant::now();
            drop(first);
            settle().await;
            let opened = world.transport.count();
            let second = world.builder().clock(paused_wall()).resume(token).start().await.unwrap();
            let followed = Followed::of(&second);
            settle().await;
            world.up(&second, opened + 1).await;
            settle().await;
            Outcome { fault, log: followed.all(), end: second.status().health() }
        }
        row if row.starts_with("Events arrive that no known key decrypts") => {
            live_through(World::new(), async |world, _| {
                world.transport.batch(1, vec![format!("\"{}\"", "QUFB".repeat(8))], None);
                sleep(secs(60)).await;
            })
            .await
        }
        row if row.starts_with("You read too slowly") => {
            let world = World::new();
            let subscription = world
                .builder()
                .clock(paused_wall())
                .buffer(NonZeroUsize::MIN)
                .queue_bytes(100_000)
                .start()
                .await
                .unwrap();
            world.up(&subscription, 1).await;
            let followed = Followed::of(&subscription);
            settle().await;
            let fault = Instant::now();
            for n in 0..20 {
                world.transport.events(1, n * 100..(n + 1) * 100);
                sleep(secs(5)).await;
            }
            Outcome { fault, log: followed.all(), end: subscription.status().health() }
        }
        row if row.starts_with("A payload cannot be decrypted") => {
            live_through(World::new(), async |world, _| {
                world.transport.batch(1, vec!["7".into()], None);
            })
            .await
        }
        row if row.starts_with("The service accepts a filter but does not serve it") => {
            live_through(World::new(), async |world, subscription| {
                let disable = |info: &mut serde_json::Value| {
                    info["disabledFilters"] = serde_json::json!([{"filter": "/x", "reason": "SUB-412"}]);
                };
                world.control.script("update", Script::Answer(Box::new(disable)));
                subscription.handle().update_filters([filter(MESSAGES)]).await.unwrap();
            })
            .await
        }
        row if row.starts_with("The machine slept") => {
            live_through(World::new(), async |world, subscription| {
                revives(&world.transport);
                subscription.handle().revalidate().await.unwrap();
            })
            .await
        }
        row if row.starts_with("You close the subscription") => {
            let world = World::new();
            let subscription = live(&world).await;
            let (followed, watch) = (Followed::of(&subscription), subscription.status());
            settle().await;
            let fault = Instant::now();
            subscription.close().await;
            settle().await;
            Outcome { fault, log: followed.all(), end: watch.health() }
        }
        row if row.starts_with("An error needs human action") => {
            let world = World::new();
            let subscription = live(&world).await;
            let (followed, watch) = (Followed::of(&subscription), subscription.status());
            settle().await;
            let fault = Instant::now();
            let refused = Error::new(ErrorKind::Auth, "no login").with_disposition(Disposition::Fatal);
            world.control.script("renew", Script::Fail(refused.with_login_refused()));
            subscription.handle().revalidate().await.unwrap();
            phase(&subscription, Phase::Closed).await;
            settle().await;
            Outcome { fault, log: followed.all(), end: watch.health() }
        }
        other => panic!("no case for the row {other:?}"),
    }
}

/// The bound of a row in seconds, as `Health` documents it.
fn bound(row: &str) -> u64 {
    match row {
        row if row.starts_with("The service drops") => 60,
        _ => 0,
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_follows_within_its_bound_in_every_fault_of_the_readme() {
    let readme = include_str!("../../README.md");
    let (_, table) = readme.split_once("## What you see when the network drops").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(2);
    let mut checked = 0;
    for line in rows {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let (row, shown) = (cells[0], *cells.last().unwrap());
        let Outcome { fault, log, end } = outcome(row).await;
        let downs: Vec<Instant> = log.iter().filter(|(at, ready)| !ready && *at >= fault).map(|(at, _)| *at).collect();
        let what = format!("{row}: {log:?}, {:?}", end.status());
        match shown {
            "`Live`" => assert!(downs.is_empty() && end.is_ready(), "{what}"),
            "`Closed`" => assert!(!end.is_alive() && !end.is_ready() && end.reason() == Some("closed"), "{what}"),
            "renews and reconnects at once" => assert!(end.is_ready(), "{what}"),
            _ if shown.ends_with("then `Live`") => assert!(downs.len() == 1 && end.is_ready(), "{what}"),
            other => panic!("{other} is not known"),
        }
        let late = downs.first().map(|at| *at - fault);
        assert!(late.is_none_or(|late| late <= secs(bound(row)) + Duration::from_millis(1)), "{late:?} {what}");
        for (answer, good) in [(end.readiness(), end.is_ready()), (end.liveness(), end.is_alive())] {
            assert_eq!(answer.status().as_u16(), if good { 200 } else { 503 });
            let body = json(&answer);
            assert_eq!((&body["ready"], &body["alive"]), (&end.is_ready().into(), &end.is_alive().into()));
            assert!(!answer.body().contains("sub-") && !answer.body().contains("chan"), "{answer:?}");
        }
        checked += 1;
    }
    assert!(checked >= 18, "{checked}");
}

#[tokio::test(start_paused = true)]
async fn polls_that_replace_push_are_ready_until_they_fail_too() {
    let (world, source) = (World::new(), FakeSource::default());
    let subscription = with_source(&world, &source).await;
    let mut watch = subscription.status();
    world.transport.feed(1, Err(network().with_disposition(Disposition::Retry { after: Some(secs(200)) })));
    phase(&subscription, Phase::Reconnecting).await;
    let down = watch.health();
    assert_eq!((down.is_ready(), down.is_alive(), down.reason()), (false, true, Some("reconnecting")));
    let body = json(&down.readiness());
    assert_eq!((&body["error"]["kind"], &body["phase"]), (&"network".into(), &"reconnecting".into()));
    assert!(
        body["nextAttempt"].is_string() && body["waitsFor"] == "retry_after" && body["since"].is_string(),
        "{body}"
    );
    watch.wait_for(|status| status.is_polling).await.unwrap();
    assert!(watch.health().is_ready(), "{}", watch.health());
    assert_eq!(watch.health().to_string(), "ready by polling, PubNub is down");
    source.fail(unavailable());
    let fails = timeout(secs(60), watch.wait_for(|status| status.is_poll_failing)).await;
    fails.unwrap().unwrap();
    assert!(!watch.health().is_ready() && watch.health().is_alive());
    watch.wait_for(|status| !status.is_poll_failing).await.unwrap();
    assert!(watch.health().is_ready());
    world.up(&subscription, 2).await;
    assert_eq!(watch.health().to_string(), "ready over PubNub");
}

#[tokio::test(start_paused = true)]
async fn what_may_be_missing_is_shown_until_the_gap_is_closed() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = with_source(&world, &source).await;
    let watch = subscription.status();
    assert!(watch.current().missing_since.is_none());
    source.slow(secs(3));
    world.control.forget_all();
    subscription.handle().revalidate().await.unwrap();
    let gap = next_gap(&mut subscription).await;
    let since = watch.current().missing_since.unwrap();
    assert!(gap.since.unwrap() <= since, "{gap:?} {since:?}");
    assert!(json(&watch.health().readiness())["missingSince"].is_string());
    revives(&world.transport);
    phase(&subscription, Phase::Live).await;
    assert!(watch.current().missing_since.is_some() && watch.health().is_ready(), "sources are being queried");
    next_resumed(&mut subscription).await;
    assert!(watch.current().missing_since.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_is_neither_ready_nor_alive() {
    let world = World::new();
    let clock = Clock::from_fn({
        let began = crate::clock::wall_now();
        let start = Instant::now();
        move || {
            assert!(start.elapsed() < secs(600), "scripted");
            began + start.elapsed()
        }
    });
    let subscription = world.builder().clock(clock).start().await.unwrap();
    world.up(&subscription, 1).await;
    let mut watch = subscription.status();
    while watch.changed().await.is_some() {}
    let health = watch.health();
    assert_eq!((health.is_ready(), health.is_alive(), health.reason()), (false, false, Some("task_ended")));
    assert_eq!((health.readiness().status().as_u16(), health.liveness().status().as_u16()), (503, 503));
}

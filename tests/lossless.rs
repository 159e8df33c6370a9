//! Nothing is lost: things that can be asked for happen in the sandbox's account while
//! push and REST are in random trouble, and each arrives, once.
//!
//! `LOSSLESS_SEEDS`, `LOSSLESS_EVENTS` and `LOSSLESS_FAULTS` say how many, and
//! `LOSSLESS_SEED` repeats one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use ringcentral_events::sandbox::{Fault, Fixture, Operation, Sandbox, Service};
use ringcentral_events::transport::{PubNub, Transport, WebSocket};
use ringcentral_events::{
    AckMode, Delivery, Event, EventFilter, Gap, MemoryCheckpoint, OnDrop, Origin, Resumed, Subscription, catch_up,
};
use support::{client, eager, ms, quick, start};
use tokio::time::{Instant, sleep, timeout};

/// After the last fault everything is there by then. The bound of a gap that is being
/// filled is a minute.
const SETTLED: Duration = Duration::from_secs(90);
/// The sandbox's PubNub keeps messages for so long, and the client counts on less.
const RETENTION: Duration = Duration::from_millis(2000);
const BUFFER_AGE: Duration = Duration::from_millis(1500);

/// What happened, by its text, and when.
type Sent = BTreeMap<String, SystemTime>;

#[derive(Debug, Default)]
struct Journal {
    /// How often each thing was told, and how.
    told: BTreeMap<String, Vec<Origin>>,
    gaps: Vec<Gap>,
    ends: Vec<Resumed>,
    undecodable: Vec<String>,
    failed: Option<String>,
}

impl Journal {
    fn enter(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Notification(it) => {
                let text = match it.event() {
                    Event::InstantMessage(sms) => sms.text().map(str::to_owned),
                    Event::TeamMessagingPost(post) => post.text.clone(),
                    other => panic!("{other:?}"),
                };
                self.told.entry(text.unwrap()).or_default().push(it.origin());
            }
            Delivery::Gap(gap) => self.gaps.push(gap),
            Delivery::Resumed(end) => self.ends.push(end),
            Delivery::Undecodable(bad) => self.undecodable.push(bad.reason),
            other => panic!("{other:?}"),
        }
    }
}

async fn read(mut subscription: Subscription, journal: Arc<Mutex<Journal>>) {
    while let Some(item) = subscription.next().await {
        let mut journal = journal.lock().unwrap();
        match item {
            Ok(delivery) => journal.enter(delivery),
            Err(error) => journal.failed = Some(format!("{error:?}")),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Size {
    events: usize,
    faults: usize,
}

/// One piece of trouble.
async fn trouble(sandbox: &Sandbox, push: Service, login: &mut Option<Instant>, chance: &mut fastrand::Rng) -> String {
    let short = ms(chance.u64(20..300));
    let id = sandbox.subscriptions().first().map(|view| view.id.clone());
    let ways = [
        "down",
        "down for long",
        "reset",
        "closed",
        "forgotten",
        "expired",
        "refused",
        "busy",
        "late",
        "twice",
        "cut",
        "token",
        "session",
    ];
    // A token that is refused twice in a row ends a subscription, with an error that
    // says so; that is another test's.
    let calm = login.is_none_or(|at| at.elapsed() > RETENTION);
    let way = ways[chance.usize(..ways.len() - if calm { 0 } else { 2 })];
    if matches!(way, "token" | "session") {
        *login = Some(Instant::now());
    }
    let rest = [
        Operation::Create,
        Operation::Renew,
        Operation::Get,
        Operation::MessageSync,
        Operation::Posts,
        Operation::RecentChats,
        Operation::Token,
        Operation::WsToken,
        Operation::Upgrade,
    ];
    let at = rest[chance.usize(..rest.len())];
    match (way, id) {
        ("down", _) => sandbox.take_down_for(push, short).await,
        ("down for long", _) => sandbox.take_down_for(push, RETENTION + short).await,
        ("reset", _) => sandbox.reset_connections(push),
        ("closed", _) => sandbox.close_connections(push),
        ("forgotten", Some(id)) => drop(sandbox.forget(&id)),
        ("expired", Some(id)) => drop(sandbox.expire(&id)),
        ("refused", _) => drop(sandbox.faults().inject(at, Fault::status(503).times(2))),
        ("busy", _) => drop(sandbox.faults().inject(at, Fault::status(429).header("Retry-After", "1"))),
        ("late", _) => drop(sandbox.faults().inject(at, Fault::delay(short))),
        ("twice", _) => drop(sandbox.faults().inject(Operation::Notification, Fault::twice())),
        ("cut", _) => drop(sandbox.faults().inject(Operation::Poll, Fault::reset_mid_body())),
        ("token", _) => sandbox.expire_access_tokens(),
        ("session", _) => sandbox.revoke_sessions(),
        _ => {}
    }
    format!("{way} {at:?}")
}

/// Lets `size.events` things happen and `size.faults` faults strike, and holds what
/// arrived against it. What went wrong, if anything did.
async fn run(seed: u64, push: Service, size: Size) -> Result<String, String> {
    let mut chance = fastrand::Rng::with_seed(seed);
    let sandbox = quick().knobs(|knobs| knobs.retention = RETENTION).start().await.unwrap();
    // By default a user has five connections a minute, and the client keeps to what it
    // is told.
    sandbox.knobs(|knobs| {
        let limits = &mut knobs.rate_limits;
        (limits.headers, limits.auth, limits.medium, limits.light) = (true, 100_000, 100_000, 100_000);
        limits.heavy = 100_000;
    });
    let app = client(&sandbox);
    let transport: Arc<dyn Transport> = match push {
        Service::Gateway => Arc::new(WebSocket::builder().dial_pause(ms(100)).build().unwrap()),
        _ => Arc::new(PubNub::builder().origin(sandbox.pubnub_origin()).buffer_age(BUFFER_AGE).build().unwrap()),
    };
    let builder =
        app.subscribe([EventFilter::instant_message(), EventFilter::team_posts()]).shared_transport(transport);
    let builder = builder.backoff(eager()).catch_up_all(catch_up::standard(&app)).poll_after(ms(300));
    let subscription = start(builder).await;
    let (handle, shutdown) = (subscription.handle(), subscription.shutdown_handle());
    let mut status = subscription.status();
    let journal = Arc::new(Mutex::new(Journal::default()));
    let reader = tokio::spawn(read(subscription, journal.clone()));

    let (mut sent, mut story, mut login) = (Sent::new(), Vec::new(), None);
    let every = (size.events / size.faults.max(1)).max(1);
    for n in 0..size.events {
        if n % every == every / 2 {
            story.push(trouble(&sandbox, push, &mut login, &mut chance).await);
            // PubNub says nothing of a subscription that is gone; apps are told so by
            // the next renewal, which comes now.
            if let Err(error) = handle.revalidate().await {
                let why = journal.lock().unwrap().failed.clone();
                return Err(format!("{error}: {why:?}; {story:?}"));
            }
            // Trouble in the midst of trouble, and push now and then.
            if chance.bool() {
                let _ = timeout(RETENTION * 2, status.wait_for(|status| status.is_healthy())).await;
            }
        }
        let text = format!("{n}");
        let fixture =
            if chance.u8(0..3) == 0 { Fixture::team_post(&text) } else { Fixture::inbound_sms("+16505550100", &text) };
        sent.insert(text, wall());
        sandbox.trigger(&fixture);
        sleep(ms(chance.u64(0..25))).await;
    }
    sandbox.faults().clear_all();
    let deadline = Instant::now() + SETTLED;
    let is_complete = |journal: &Journal| sent.keys().all(|text| journal.told.contains_key(text));
    let mut complete = false;
    while Instant::now() < deadline && !complete {
        sleep(ms(20)).await;
        complete = is_complete(&journal.lock().unwrap());
        let failed = journal.lock().unwrap().failed.clone();
        if let Some(failed) = failed {
            return Err(format!("it ended: {failed}; {story:?}"));
        }
    }
    if timeout(SETTLED, status.wait_for(|status| status.is_healthy())).await.is_err() {
        return Err(format!("push does not come back: {story:?}"));
    }
    shutdown.drain();
    timeout(SETTLED, reader).await.map_err(|_| "it does not end".to_owned())?.unwrap();
    let journal = journal.lock().unwrap();
    let missing: Vec<_> = sent.iter().filter(|(text, _)| !journal.told.contains_key(*text)).collect();
    let twice: Vec<_> = journal.told.iter().filter(|(_, how)| how.len() > 1).collect();
    let found = journal.told.values().flatten().filter(|how| **how != Origin::Push).count();
    if !missing.is_empty() || !twice.is_empty() {
        let Journal { gaps, ends, undecodable, .. } = &*journal;
        return Err(format!(
            "missing: {missing:?}\ntwice: {twice:?}\ngaps: {gaps:?}\nends: {ends:?}\nunreadable: {undecodable:?}\n\
             trouble: {story:?}"
        ));
    }
    Ok(format!("{} of {} arrived, {found} by catch-up, {} gaps", journal.told.len(), sent.len(), journal.gaps.len(),))
}

#[allow(clippy::disallowed_methods, reason = "when something happened, to be held against the gaps")]
fn wall() -> SystemTime {
    SystemTime::now()
}

async fn seeds(push: Service) {
    let set = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let number = |name, default| usize::try_from(set(name).unwrap_or(default)).unwrap();
    let size = Size { events: number("LOSSLESS_EVENTS", 200), faults: number("LOSSLESS_FAULTS", 12) };
    let seeds: Vec<u64> = match set("LOSSLESS_SEED") {
        Some(seed) => vec![seed],
        None => (0..set("LOSSLESS_SEEDS").unwrap_or(4)).collect(),
    };
    // Some at a time: most of their time is waiting.
    let runs = futures_util::stream::iter(seeds).map(|seed| async move { (seed, run(seed, push, size).await) });
    let outcomes: Vec<_> = runs.buffer_unordered(16).collect().await;
    let mut wrong = Vec::new();
    for (seed, outcome) in outcomes {
        match outcome {
            Ok(told) => println!("{push:?} LOSSLESS_SEED={seed}: {told}"),
            Err(how) => wrong.push(format!("{push:?} LOSSLESS_SEED={seed}: {how}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[tokio::test]
async fn over_pubnub_everything_arrives_once_whatever_the_trouble() {
    seeds(Service::PubNub).await;
}

#[tokio::test]
async fn over_websocket_everything_arrives_once_whatever_the_trouble() {
    seeds(Service::Gateway).await;
}

/// With WebSocket a subscription ends with its process: what happens until the next
/// one is asked for.
#[tokio::test]
async fn over_websocket_what_happens_between_two_processes_is_found() {
    let sandbox = quick().start().await.unwrap();
    let app = client(&sandbox);
    let place = MemoryCheckpoint::new();
    let begin = async || {
        let transport = WebSocket::builder().dial_pause(ms(100)).build().unwrap();
        let builder = app.subscribe([EventFilter::instant_message()]).transport(transport).backoff(eager());
        let builder = builder.catch_up_all(catch_up::standard(&app)).checkpoint(place.clone()).on_drop(OnDrop::Keep);
        start(builder.ack_mode(AckMode::Explicit)).await
    };
    let sms = |n: u32| drop(sandbox.trigger(&Fixture::inbound_sms("+16505550100", n.to_string())));
    let next = async |subscription: &mut Subscription| support::next(subscription).await;
    let text = |delivery: Delivery| match delivery {
        Delivery::Notification(it) => (it.origin(), it.event().message().unwrap().text().unwrap().to_owned()),
        other => panic!("{other:?}"),
    };

    let mut subscription = begin().await;
    assert!(sandbox.wait_requests(Operation::MessageSync, 1, support::SOON).await);
    for n in 1..=3 {
        sms(n);
        assert_eq!(text(next(&mut subscription).await), (Origin::Push, n.to_string()));
        if n == 2 {
            subscription.ack().await.unwrap();
        }
    }
    drop(subscription);
    assert!(sandbox.wait_open_sockets(0, support::SOON).await);
    sms(4);

    let mut subscription = begin().await;
    assert!(matches!(next(&mut subscription).await, Delivery::Gap(_)));
    for n in 3..=4 {
        assert_eq!(text(next(&mut subscription).await), (Origin::CatchUp, n.to_string()));
    }
    let Delivery::Resumed(end) = next(&mut subscription).await else { panic!("an end") };
    assert!(end.left_open.is_empty(), "{end:?}");
    sms(5);
    assert_eq!(text(next(&mut subscription).await), (Origin::Push, "5".into()));
    subscription.ack().await.unwrap();
    subscription.close().await;
}

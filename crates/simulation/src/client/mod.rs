//! The program under test: it uses only the client's public API.

mod crash;
pub(crate) mod http;
mod store;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use ringcentral_events::agent::{AgentDelivery, AgentOrigin, AgentSession, EndSession, OnLost};
use ringcentral_events::auth::{AccessToken, TokenProvider};
use ringcentral_events::transport::{Poll, PubNub, Transport, TransportKind, WebSocket};
use ringcentral_events::{
    Client, Delivery, EventFilter, Gap, OAuth, OnDrop, Origin, Random, ResumeToken, Resumed, Status, StatusWatch,
    Subscription, SubscriptionHandle, System, WallClock, catch_up,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::http::SimHttp;
use crate::core::{Core, Shared, filters_of};
use crate::net::Host;
use crate::oracle::{Item, Record, Update, Wall, wall_at};
use crate::rng::Rng;
use crate::schedule::{FaultKind, Mode, Schedule};
use crate::service::auth::{CLIENT_ID, CLIENT_SECRET, JWT};
use crate::time::{BASE_UNIX, MS, SEC, Us};
use crate::world::Filter;

const PLATFORM: &str = "https://platform.sim.example";

struct SimClock {
    shared: Shared,
}

impl fmt::Debug for SimClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimClock")
    }
}

impl WallClock for SimClock {
    fn now(&self) -> SystemTime {
        let wall = self.shared.with(|core| wall_at(core, core.now()));
        let base = SystemTime::UNIX_EPOCH + Duration::from_secs(BASE_UNIX);
        let length = Duration::from_micros(wall.unsigned_abs());
        if wall < 0 { base - length } else { base + length }
    }
}

/// Microseconds since the beginning.
fn wall(time: SystemTime) -> Wall {
    let base = SystemTime::UNIX_EPOCH + Duration::from_secs(BASE_UNIX);
    match time.duration_since(base) {
        Ok(after) => Wall::try_from(after.as_micros()).unwrap_or(Wall::MAX),
        Err(before) => -Wall::try_from(before.duration().as_micros()).unwrap_or(Wall::MAX),
    }
}

struct SimRandom(Mutex<Rng>);

impl SimRandom {
    fn new(rng: Rng) -> Self {
        Self(Mutex::new(rng))
    }
}

impl fmt::Debug for SimRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimRandom")
    }
}

impl Random for SimRandom {
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        self.0.lock().map_err(|_| std::io::Error::other("poisoned"))?.fill(bytes);
        Ok(())
    }
}

/// The results of a finished run.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) core: Core,
    pub(crate) record: Record,
}

type Log = Arc<Mutex<Record>>;

/// Runs one schedule from beginning to end.
pub(crate) fn run(schedule: &Arc<Schedule>, keep_trace: bool) -> Finished {
    if let Some(plan) = &schedule.crashes {
        return crash::run(schedule, plan, keep_trace);
    }
    let runtime = paused();
    let core = Core::new(schedule.clone(), keep_trace);
    let log: Log = Arc::default();
    let shared = runtime.block_on(async {
        let shared = Shared::new(core);
        let drive = tokio::spawn(shared.clone().drive());
        let program = AssertUnwindSafe(program(schedule.clone(), shared.clone(), log.clone())).catch_unwind();
        let patience = Patience::begin();
        tokio::select! {
            biased;
            () = patience.over() => note(&log, |record| {
                record.stuck = Some("a task that never waits");
                record.closing = record.log.last().map_or(0, |(at, _)| *at);
            }),
            done = program => if done.is_err() {
                note(&log, |record| record.panics.push("the program under test panicked".into()));
            },
        }
        drive.abort();
        shared
    });
    shared.end();
    drop(runtime);
    let mut record = log.lock().map(|record| record.clone()).unwrap_or_default();
    record.panics.extend(crate::runner::take_panics());
    let core = shared.into_core(schedule);
    record.connections_most = core.net.client_open_most;
    Finished { core, record }
}

/// A runtime of virtual time.
fn paused() -> tokio::runtime::Runtime {
    match tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("a runtime without IO can always be made: {error}"),
    }
}

/// Virtual time stands still while a task runs, so a task that never waits would run for ever. This is the only limit
/// in real time; no finite run comes near it, on a busy machine either.
struct Patience {
    over: Arc<Notify>,
    _ended: std::sync::mpsc::Sender<()>,
}

impl Patience {
    const BOUND: Duration = Duration::from_secs(120);

    fn begin() -> Self {
        let over = Arc::new(Notify::new());
        let (ended, wait) = std::sync::mpsc::channel::<()>();
        let bell = over.clone();
        std::thread::spawn(move || {
            if wait.recv_timeout(Self::BOUND) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                bell.notify_one();
            }
        });
        Self { over, _ended: ended }
    }

    async fn over(&self) {
        self.over.notified().await;
    }
}

fn note(log: &Log, act: impl FnOnce(&mut Record)) {
    if let Ok(mut record) = log.lock() {
        act(&mut record);
    }
}

/// Virtual time of the service as the client's own clock knows it.
fn until(shared: &Shared, at: Us) -> Duration {
    Duration::from_micros(at.saturating_sub(shared.now()))
}

async fn program(schedule: Arc<Schedule>, shared: Shared, log: Log) {
    let clock = SimClock { shared: shared.clone() };
    let random = SimRandom::new(Rng::part(schedule.seed, 31));
    let http = SimHttp::new(shared.clone());
    let waits = http.waits();
    let system = System::new().with_http(http).with_clock(clock).with_random(random);
    if schedule.mode == Mode::Agent {
        agent(&schedule, &shared, &log, system).await;
    } else {
        subscription(&schedule, &shared, &log, system).await;
    }
    // Every background task has a deadline.
    tokio::time::sleep(Duration::from_secs(60)).await;
    note(&log, |record| {
        if let Ok(waits) = waits.lock() {
            (record.unanswered, record.longest_wait) = (waits.under_way, waits.longest);
        }
    });
}

fn failed(log: &Log, error: &impl fmt::Display) {
    note(log, |record| record.start_error = Some(error.to_string()));
}

async fn subscription(schedule: &Arc<Schedule>, shared: &Shared, log: &Log, system: System) {
    let mut client = match login(system.clone()) {
        Ok(client) => client,
        Err(error) => return failed(log, &error),
    };
    let mut marks = marks(schedule);
    let mut from: Option<ResumeToken> = None;
    // The subscriptions that the last program can know: those of its checkpoint, and those created in its time.
    let (mut known, mut since): (Vec<String>, Us) = (Vec::new(), 0);
    loop {
        let is_first = from.is_none();
        let built = build(schedule, &client).map(|builder| match from.take() {
            Some(token) => builder.resume(token),
            None => builder,
        });
        // Longer than the client's own deadline.
        let bound = Duration::from_secs(170);
        let started = match built {
            Ok(builder) => shared.within(bound, builder.start()).await,
            Err(error) => return failed(log, &error),
        };
        let started = match started {
            Some(Ok(subscription)) => subscription,
            Some(Err(error)) if is_first => return failed(log, &error),
            // The second program never started: it has no claim to the events that it missed.
            Some(Err(_)) => return,
            None => return note(log, |record| record.stuck = Some("start")),
        };
        if is_first {
            note(log, |record| record.started = Some(shared.now()));
        }
        shared.with(|core| core.note(format_args!("started")));
        let status = started.status();
        let follow = tokio::spawn(follow(status, shared.clone(), said));
        let (left, restart) = read(started, schedule, &mut marks, shared, log).await;
        note(log, |record| record.closing = shared.now());
        if let Some((token, down, anew)) = restart {
            drop(left);
            follow.abort();
            shared.with(|core| {
                core.note(format_args!("restart"));
                core.polls = false;
                core.say("starting", false);
            });
            note(log, |record| record.restarts.push(record.log.len()));
            tokio::time::sleep(down).await;
            known.push(token.subscription_id().to_string());
            since = shared.now();
            if anew {
                client = match login(system.clone()) {
                    Ok(client) => client,
                    Err(error) => return failed(log, &error),
                };
            }
            from = Some(token);
            continue;
        }
        if let Some(subscription) = left {
            close(subscription, shared, log).await;
        }
        // Background deletions get time.
        tokio::time::sleep(Duration::from_secs(20)).await;
        follow.abort();
        let left = shared.with(|core| {
            core.service.subs.ours_left(core.now(), |sub| sub.created >= since || known.contains(&sub.id))
        });
        return note(log, |record| record.left = left);
    }
}

async fn close(subscription: Subscription, shared: &Shared, log: &Log) {
    shared.with(|core| core.note(format_args!("close")));
    match shared.within(Duration::from_secs(30), subscription.close()).await {
        Some(closed) => {
            let now = shared.now();
            for delivery in closed.unread {
                take(delivery, shared, log);
            }
            note(log, |record| {
                record.closed = Some(now);
                record.deleted = closed.deleted;
                if let Some(error) = closed.error {
                    record.stream_error.get_or_insert((now, error.to_string()));
                }
            });
        }
        None => note(log, |record| record.stuck = Some("close")),
    }
}

fn login(system: System) -> ringcentral_events::Result<Client> {
    let oauth = OAuth::jwt(CLIENT_ID, JWT).client_secret(CLIENT_SECRET).server(PLATFORM).system(system).build()?;
    Client::builder(oauth).build()
}

fn build(schedule: &Schedule, client: &Client) -> ringcentral_events::Result<ringcentral_events::SubscriptionBuilder> {
    let filters =
        schedule.filters.iter().map(|filter| filter.uri().parse()).collect::<Result<Vec<EventFilter>, _>>()?;
    let pubnub = || PubNub::builder().origin("https://pubnub.sim.example").build();
    let websocket = || WebSocket::builder().build();
    let first: Arc<dyn Transport> = match schedule.mode {
        Mode::PubNub => Arc::new(pubnub()?),
        _ => Arc::new(websocket()?),
    };
    let queue = usize::try_from(schedule.queue_bytes).unwrap_or(usize::MAX);
    let mut builder = client.subscribe(filters).shared_transport(first).queue_bytes(queue);
    if schedule.mode == Mode::FailOver {
        let (after, back) = (Duration::from_secs(15), Duration::from_secs(30));
        builder = builder.fall_back_to(pubnub()?).fall_back_to(Poll::new()).fail_over_after(after).return_after(back);
    }
    if schedule.catch_up {
        builder = builder.catch_up_all(catch_up::standard(client));
    }
    if schedule.enrich {
        builder = builder.enrich_messages(true);
    }
    if schedule.faults.iter().any(|fault| matches!(fault.what, FaultKind::Restart { .. })) {
        builder = builder.on_drop(OnDrop::Keep);
    }
    Ok(builder)
}

/// An action of the program at a scheduled time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Stall(Us),
    Update(usize),
    Token,
    Restart { down_ms: u64, anew: bool },
}

/// The program's actions, the earliest last.
fn marks(schedule: &Schedule) -> Vec<(Us, Mark)> {
    let mut marks = Vec::new();
    for fault in &schedule.faults {
        match fault.what {
            FaultKind::Stall(ms) => marks.push((fault.at, Mark::Stall(ms * MS))),
            FaultKind::Restart { down_ms, age_ms, anew } => {
                marks.push((fault.at.saturating_sub(age_ms * MS), Mark::Token));
                marks.push((fault.at, Mark::Restart { down_ms, anew }));
            }
            _ => {}
        }
    }
    marks.extend(schedule.updates.iter().enumerate().map(|(number, (at, _))| (*at, Mark::Update(number))));
    marks.sort_unstable();
    marks.reverse();
    marks
}

type Again = (ResumeToken, Duration, bool);

/// Reads until it is time to close, or to restart; returns the remaining actions.
async fn read(
    mut subscription: Subscription,
    schedule: &Schedule,
    marks: &mut Vec<(Us, Mark)>,
    shared: &Shared,
    log: &Log,
) -> (Option<Subscription>, Option<Again>) {
    let mut token = None;
    loop {
        let wait = until(shared, schedule.end);
        if wait.is_zero() {
            return (Some(subscription), None);
        }
        let now = shared.now();
        match marks.pop_if(|(at, _)| *at <= now).map(|(_, mark)| mark) {
            Some(Mark::Stall(length)) => {
                tokio::time::sleep(Duration::from_micros(length).min(wait)).await;
                continue;
            }
            Some(Mark::Update(number)) => {
                let filters = schedule.updates[number].1.clone();
                tokio::spawn(update(subscription.handle(), filters, shared.clone(), log.clone()));
                continue;
            }
            Some(Mark::Token) => {
                token = subscription.resume_token();
                continue;
            }
            Some(Mark::Restart { down_ms, anew }) => {
                if let Some(token) = token.take() {
                    return (Some(subscription), Some((token, Duration::from_millis(down_ms), anew)));
                }
                continue;
            }
            None => {}
        }
        match shared.with(|core| core.program.pop_front()) {
            Some(FaultKind::Stall(ms)) => {
                tokio::time::sleep(Duration::from_millis(ms).min(wait)).await;
                continue;
            }
            Some(FaultKind::Restart { down_ms, anew, .. }) => {
                if let Some(token) = subscription.resume_token() {
                    return (Some(subscription), Some((token, Duration::from_millis(down_ms), anew)));
                }
                continue;
            }
            Some(_) => {
                let handle = subscription.handle();
                // It is only an error once the subscription has ended.
                tokio::spawn(async move { handle.revalidate().await });
                continue;
            }
            None => {}
        }
        let bell = shared.with(|core| core.bell.clone());
        let next = marks.last().map_or(wait, |(at, _)| until(shared, *at).min(wait));
        let due = Instant::now() + next.max(Duration::from_millis(1));
        tokio::select! {
            biased;
            () = bell.notified() => {}
            delivery = subscription.next() => match delivery {
                Some(Ok(delivery)) => take(delivery, shared, log),
                Some(Err(error)) => {
                    let now = shared.now();
                    note(log, |record| record.stream_error = Some((now, error.to_string())));
                    return (None, None);
                }
                None => {
                    let now = shared.now();
                    note(log, |record| { record.stream_error.get_or_insert((now, "the stream ended".into())); });
                    return (None, None);
                }
            },
            () = tokio::time::sleep_until(due) => {}
        }
    }
}

/// Replaces the filters, while events are read.
async fn update(handle: SubscriptionHandle, filters: Vec<Filter>, shared: Shared, log: Log) {
    let place = log.lock().map_or(0, |mut record| {
        record.updates.push(Update { begin: shared.now(), end: None, took: false, filters: filters.clone() });
        record.updates.len() - 1
    });
    let filters: Result<Vec<EventFilter>, _> = filters.iter().map(|filter| filter.uri().parse()).collect();
    let took = match filters {
        Ok(filters) => handle.update_filters(filters).await.is_ok(),
        Err(_) => false,
    };
    let now = shared.now();
    shared.with(|core| core.note(format_args!("filters are replaced: {took}")));
    note(&log, |record| (record.updates[place].end, record.updates[place].took) = (Some(now), took));
}

/// Records a delivery of the reader.
fn take(delivery: Delivery, shared: &Shared, log: &Log) {
    let item = match delivery {
        Delivery::Notification(event) => {
            let raw = event.raw().get();
            shared.with(|core| core.note(format_args!("{:?} {raw}", event.origin())));
            item_of(raw, event.origin() != Origin::Push, Filter::of(event.event_uri()))
        }
        Delivery::Gap(gap) => gap_item(&gap),
        Delivery::Resumed(resumed) => resumed_item(&resumed),
        Delivery::Undecodable(_) => Item::Undecodable,
        Delivery::FiltersDisabled(disabled) => {
            let filters: Vec<String> = disabled.iter().map(|it| it.filter.clone()).collect();
            Item::Disabled(filters_of(&filters))
        }
        other => Item::Other(format!("{other:?}")),
    };
    record(item, shared, log);
}

fn record(item: Item, shared: &Shared, log: &Log) {
    let now = shared.now();
    shared.with(|core| core.note(format_args!("read {item:?}")));
    note(log, |record| record.log.push((now, item)));
}

fn gap_item(gap: &Gap) -> Item {
    Item::Gap {
        cause: gap.cause.as_str().to_owned(),
        is_certain: gap.certainty.as_str() == "certain",
        since: gap.since.map(wall),
        until: gap.until.map(wall),
        filters: filters_of(&gap.filters),
    }
}

fn resumed_item(resumed: &Resumed) -> Item {
    let open: Vec<String> = resumed.unrecovered.iter().map(|it| it.filter.clone()).collect();
    Item::Resumed {
        complete: resumed.complete,
        at: wall(resumed.at),
        recreated: resumed.recreated.is_some(),
        unrecovered: filters_of(&open),
    }
}

/// What an event's text says about its origin.
fn item_of(raw: &str, found: bool, filter: Option<Filter>) -> Item {
    let number = |from: usize| {
        let digits: String = raw[from..].chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    };
    let counted =
        || raw.find("\"newMessageIds\":[").and_then(|at| number(at + 17)).and_then(|id| id.checked_sub(600_000));
    let tag = raw.find("<e").and_then(|at| number(at + 2)).or_else(counted);
    let kind = ["\"PostAdded\"", "\"PostChanged\""].iter().position(|kind| raw.contains(kind));
    let post = kind.and_then(|kind| {
        let text = raw.find("\"id\":").map(|at| raw[at + 5..].trim_start_matches([' ', '"']))?;
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        Some((kind == 0, digits.parse::<u32>().ok()?.checked_sub(8_000_000)?))
    });
    let contact = raw.find("\"ContactID\":\"").and_then(|at| number(at + 13)).and_then(|id| id.checked_sub(900_100));
    Item::Event { filter, tag, post, contact, found }
}

/// The phase, whether events can arrive, and whether they do by polls alone.
type Said = (&'static str, bool, bool);

fn said(status: &Status) -> Said {
    (status.phase.as_str(), status.is_healthy(), status.transport == TransportKind::Poll)
}

async fn follow<S: Clone>(mut watch: StatusWatch<S>, shared: Shared, read: fn(&S) -> Said) {
    let mut status = Some(watch.current());
    while let Some(it) = status {
        let (phase, healthy, polls) = read(&it);
        shared.with(|core| {
            if (core.phase, core.healthy) != (phase, healthy) {
                core.note(format_args!("status {phase}, healthy {healthy}"));
            }
            core.polls = polls;
            core.say(phase, healthy);
        });
        status = watch.changed().await;
    }
}

// ---- agent sessions ----

/// A login that is valid for any number of tokens.
#[derive(Debug, Default)]
struct AgentTokens(AtomicU64);

#[async_trait::async_trait]
impl TokenProvider for AgentTokens {
    async fn token(&self) -> ringcentral_events::Result<AccessToken> {
        Ok(AccessToken::new(format!("agent-token-{}", self.0.load(Ordering::Relaxed))))
    }

    async fn refresh(&self, _rejected: &AccessToken) -> ringcentral_events::Result<AccessToken> {
        self.0.fetch_add(1, Ordering::Relaxed);
        self.token().await
    }
}

fn agent_item(delivery: AgentDelivery) -> Item {
    match delivery {
        AgentDelivery::Notification(event) => {
            item_of(event.raw().get().get(), event.origin() != AgentOrigin::Live, Some(Filter::Agent))
        }
        AgentDelivery::Gap(gap) => gap_item(&gap),
        AgentDelivery::Resumed(resumed) => resumed_item(&resumed),
        AgentDelivery::Undecodable(_) => Item::Undecodable,
        AgentDelivery::ContactsGone(gone) => {
            let ids = gone.iter().filter_map(|it| it.contact_id.as_str().parse::<u32>().ok()?.checked_sub(900_100));
            Item::ContactsGone(ids.collect())
        }
        AgentDelivery::SessionEnded(_) => Item::SessionEnded,
        other => Item::Other(format!("{other:?}")),
    }
}

async fn agent(schedule: &Arc<Schedule>, shared: &Shared, log: &Log, system: System) {
    let token = AgentTokens::default();
    let base = format!("https://{}/inContactAPI/", Host::Agent.name());
    let builder = AgentSession::builder(token)
        .base_url(base)
        .phone_number("+12055550100")
        .on_lost(OnLost::Reestablish)
        .system(system);
    let session = match shared.within(Duration::from_secs(170), builder.start()).await {
        Some(Ok(session)) => session,
        Some(Err(error)) => return failed(log, &error),
        None => return note(log, |record| record.stuck = Some("start")),
    };
    let mut events = match session.events() {
        Ok(events) => events,
        Err(error) => return failed(log, &error),
    };
    note(log, |record| record.started = Some(shared.now()));
    shared.with(|core| core.note(format_args!("started")));
    let follow =
        tokio::spawn(follow(session.status(), shared.clone(), |it| (it.phase.as_str(), it.is_healthy(), false)));
    let mut marks = marks(schedule);
    let mut closing = false;
    // After its end is requested the stream ends by itself, within some of the longest polls.
    let last = schedule.end + 400 * SEC;
    loop {
        let wait = until(shared, if closing { last } else { schedule.end });
        if wait.is_zero() {
            if std::mem::replace(&mut closing, true) {
                note(log, |record| record.stuck = Some("the stream after end"));
                break;
            }
            note(log, |record| record.closing = shared.now());
            shared.with(|core| core.note(format_args!("end")));
            let end = session.end(EndSession::new().force_logoff(true));
            match shared.within(Duration::from_secs(60), end).await {
                Some(Ok(())) => note(log, |record| record.deleted = true),
                Some(Err(_)) => {
                    // Reads the items that had already arrived.
                    while let Some(Some(Ok(delivery))) = events.next().now_or_never() {
                        record(agent_item(delivery), shared, log);
                    }
                    break;
                }
                None => {
                    note(log, |record| record.stuck = Some("end"));
                    break;
                }
            }
            continue;
        }
        let now = shared.now();
        if let Some((_, Mark::Stall(length))) = marks.pop_if(|(at, _)| *at <= now) {
            tokio::time::sleep(Duration::from_micros(length).min(wait)).await;
            continue;
        }
        let next = marks.last().map_or(wait, |(at, _)| until(shared, *at).min(wait));
        let due = Instant::now() + next.max(Duration::from_millis(1));
        let delivery = tokio::select! {
            biased;
            delivery = events.next() => delivery,
            () = tokio::time::sleep_until(due) => continue,
        };
        match delivery {
            None => {
                if !closing {
                    note(log, |record| record.closing = shared.now());
                }
                break;
            }
            Some(Err(error)) => {
                let now = shared.now();
                note(log, |record| {
                    record.stream_error = Some((now, error.to_string()));
                    if !closing {
                        record.closing = now;
                    }
                });
                break;
            }
            Some(Ok(delivery)) => {
                record(agent_item(delivery), shared, log);
            }
        }
    }
    note(log, |record| record.closed = Some(shared.now()));
    drop(events);
    drop(session);
    tokio::time::sleep(Duration::from_secs(5)).await;
    follow.abort();
}

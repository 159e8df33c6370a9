//! Nothing is lost: events that catch-up can find happen in the sandbox's account under random faults of push and REST,
//! and each arrives once.
//!
//! `LOSSLESS_SEEDS`, `LOSSLESS_EVENTS` and `LOSSLESS_FAULTS` set how many, and `LOSSLESS_SEED` repeats one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::support::subscribing::{self, client, eager, ms, quick, start};
use futures_util::StreamExt as _;
use ringcentral_events::auth::MemoryTokenStore;
use ringcentral_events::event::{Message, PostEventType};
use ringcentral_events::transport::{Poll, PubNub, WebSocket};
use ringcentral_events::{
    AckMode, Client, Delivery, Event, EventFilter, Gap, GapCause, MemoryCheckpoint, Notification, OnDrop, Origin,
    Resumed, Subscription, SubscriptionBuilder, catch_up,
};
use ringcentral_sandbox::{Fault, Fixture, Operation, Sandbox, Service};
use tokio::time::{Instant, sleep, timeout};

/// By then everything has arrived after the last fault. Filling a gap takes at most a minute.
const SETTLED: Duration = Duration::from_secs(90);
/// How long the sandbox's PubNub retains messages; the client relies on less.
const RETENTION: Duration = Duration::from_millis(3000);
const BUFFER_AGE: Duration = Duration::from_millis(1000);

/// Catch-up reads the newest posts, and with them their edits: a page of 250 at least, which also holds the posts that
/// arrive until it is read. An edit of an older one lies in a gap, or is delivered.
const RECENT: usize = 50;

const SECOND: Duration = Duration::from_secs(1);

/// The kinds that catch-up can find, so that all events arrive.
const CLOSED: [Kind; 7] = [Kind::Sms, Kind::Fax, Kind::Voicemail, Kind::Post, Kind::Missed, Kind::A2p, Kind::Store];

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Sms,
    Fax,
    Voicemail,
    Post,
    Missed,
    A2p,
    /// A new message, as the event with counts reports it.
    Store,
    /// No source can find it: each that does not arrive lies in a gap.
    Chat,
}

impl Kind {
    fn fixture(self, n: usize) -> Fixture {
        let (text, number) = (n.to_string(), format!("+{n}"));
        match self {
            Self::Sms | Self::Store => Fixture::inbound_sms("+16505550100", text),
            Self::Fax => Fixture::fax(number),
            Self::Voicemail => Fixture::voicemail(number),
            Self::Post => Fixture::team_post(text),
            Self::Missed => Fixture::missed_call(number),
            Self::A2p => Fixture::a2p_message("+16505550100", text),
            Self::Chat => Fixture::chat_named("7", text),
        }
    }

    fn any(chance: &mut fastrand::Rng, chats: bool) -> Self {
        let all = [Self::Sms, Self::Fax, Self::Voicemail, Self::Post, Self::Missed, Self::A2p, Self::Chat];
        all[chance.usize(..all.len() - usize::from(!chats))]
    }
}

/// One event: a message by its id in the store.
type Thing = (Kind, String);
/// The events and their times.
type Sent = BTreeMap<Thing, SystemTime>;

#[derive(Debug, Default)]
struct Journal {
    /// How often each event was delivered, and its origins.
    delivered: BTreeMap<Thing, Vec<Origin>>,
    /// The deliveries of each post, in order: whether it was new, its text, and its origin.
    posts: BTreeMap<String, Vec<(bool, String, Origin)>>,
    gaps: Vec<Gap>,
    ends: Vec<Resumed>,
    /// The spans of gaps, by this machine's clock.
    spans: Vec<(SystemTime, SystemTime)>,
    open: Vec<SystemTime>,
    undecodable: Vec<String>,
    failed: Option<String>,
}

impl Journal {
    fn enter(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Notification(it) => self.note(&it),
            Delivery::Gap(gap) => {
                let since = gap.since.unwrap_or(SystemTime::UNIX_EPOCH);
                match gap.until {
                    Some(until) => self.spans.push((since, until)),
                    None => self.open.push(since),
                }
                self.gaps.push(gap);
            }
            Delivery::Resumed(end) => {
                self.spans.extend(self.open.drain(..).map(|since| (since, end.at)));
                self.ends.push(end);
            }
            Delivery::Undecodable(bad) => self.undecodable.push(bad.reason),
            other => panic!("{other:?}"),
        }
    }

    fn note(&mut self, it: &Notification) {
        let number = |it: &Message| it.from_number().unwrap().trim_start_matches('+').to_owned();
        let things: Vec<Thing> = match it.event() {
            Event::InstantMessage(sms) => vec![(Kind::Sms, sms.text().unwrap().to_owned())],
            Event::FaxMessage(fax) => vec![(Kind::Fax, number(fax))],
            Event::VoicemailMessage(voicemail) => vec![(Kind::Voicemail, number(voicemail))],
            Event::TeamMessagingPost(post) => {
                let (id, text) = (post.id.as_ref().unwrap().to_string(), post.text.clone().unwrap());
                let new = post.event_type == Some(PostEventType::PostAdded);
                self.posts.entry(id.clone()).or_default().push((new, text, it.origin()));
                if new { vec![(Kind::Post, id)] } else { Vec::new() }
            }
            Event::MissedCall(call) => {
                let from = call.from.as_deref().unwrap();
                vec![(Kind::Missed, from.trim_start_matches('+').to_owned())]
            }
            Event::A2pMessage(sms) => vec![(Kind::A2p, sms.text.clone().unwrap())],
            Event::MessageStore(store) => store.new_message_ids().map(|id| (Kind::Store, id.to_string())).collect(),
            Event::TeamMessagingChat(chat) => vec![(Kind::Chat, chat.name.clone().unwrap())],
            other => panic!("{other:?}"),
        };
        for thing in things {
            self.delivered.entry(thing).or_default().push(it.origin());
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

/// The transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    PubNub,
    WebSocket,
    Poll,
    /// WebSocket, then PubNub, then polls.
    All,
}

impl Over {
    /// The service whose connections get faults.
    fn push(self, chance: &mut fastrand::Rng) -> Service {
        match self {
            Self::PubNub => Service::PubNub,
            Self::WebSocket => Service::Gateway,
            Self::Poll => Service::Api,
            Self::All => [Service::Gateway, Service::PubNub][usize::from(chance.bool())],
        }
    }

    fn set(self, sandbox: &Sandbox, builder: SubscriptionBuilder) -> SubscriptionBuilder {
        let websocket = || WebSocket::builder().dial_pause(ms(100)).build().unwrap();
        let pubnub = || PubNub::builder().origin(sandbox.pubnub_origin()).buffer_age(BUFFER_AGE).build().unwrap();
        match self {
            Self::PubNub => builder.transport(pubnub()),
            Self::WebSocket => builder.transport(websocket()),
            Self::Poll => builder.transport(Poll::new()).poll_every(SECOND..=SECOND),
            Self::All => {
                let all = builder.transport(websocket()).fall_back_to(pubnub()).fall_back_to(Poll::new());
                all.fail_over_after(SECOND).return_after(SECOND * 2).poll_every(SECOND..=SECOND)
            }
        }
    }
}

/// Injects one fault.
async fn trouble(sandbox: &Sandbox, over: Over, login: &mut Option<Instant>, chance: &mut fastrand::Rng) -> String {
    let short = ms(chance.u64(20..300));
    let push = over.push(chance);
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
    // Consecutive refused tokens are replaced with pauses of a minute.
    let calm = login.is_none_or(|at| at.elapsed() > RETENTION * 2);
    let way = ways[chance.usize(..ways.len() - if calm { 0 } else { 2 })];
    if matches!(way, "token" | "session") {
        *login = Some(Instant::now());
    }
    let rest = [
        Operation::Create,
        Operation::Renew,
        Operation::Get,
        Operation::Delete,
        Operation::MessageSync,
        Operation::CallLogSync,
        Operation::A2pMessages,
        Operation::Posts,
        Operation::RecentChats,
        Operation::Token,
        Operation::WsToken,
        Operation::Upgrade,
    ];
    let at = rest[chance.usize(..rest.len())];
    match (way, id) {
        ("down", _) => sandbox.stop_service_for(push, short).await,
        ("down for long", _) => sandbox.stop_service_for(push, RETENTION + short).await,
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

/// The last edit of a post.
#[derive(Debug)]
struct Edit {
    text: String,
    at: SystemTime,
    is_recent: bool,
}

/// Causes one event and records it. May edit an added post instead.
fn happen(sandbox: &Sandbox, kind: Kind, n: usize, sent: &mut Sent) {
    let at = wall();
    sandbox.trigger(&kind.fixture(n));
    let last_id = |records: Vec<serde_json::Value>| {
        let id = &records.last().unwrap()["id"];
        id.as_str().map_or_else(|| id.to_string(), str::to_owned)
    };
    match kind {
        Kind::Post => drop(sent.insert((kind, last_id(sandbox.stored_posts())), at)),
        _ => drop(sent.insert((kind, n.to_string()), at)),
    }
    if matches!(kind, Kind::Sms | Kind::Fax | Kind::Voicemail) {
        sent.insert((Kind::Store, last_id(sandbox.stored_messages())), at);
    }
}

/// Causes `size.events` events and `size.faults` faults, and compares the deliveries with them. Returns an error if
/// they differ.
async fn run(seed: u64, over: Over, size: Size) -> Result<String, String> {
    let mut chance = fastrand::Rng::with_seed(seed);
    let behavior = quick().behavior(|behavior| {
        behavior.retention = RETENTION;
        // Another test covers calls that the log shows late.
        behavior.account.call_log_delay = Duration::ZERO;
    });
    let sandbox = behavior.start().await.unwrap();
    // By default a user has five connections a minute, and the client obeys the announced limit.
    sandbox.behavior(|behavior| {
        let limits = &mut behavior.rate_limits;
        (limits.headers, limits.auth, limits.medium, limits.light) = (true, 100_000, 100_000, 100_000);
        limits.heavy = 100_000;
    });
    let app = client(&sandbox);
    let mut filters = vec![
        EventFilter::instant_message(),
        EventFilter::fax(),
        EventFilter::voicemail(),
        EventFilter::team_posts(),
        EventFilter::missed_calls(),
        EventFilter::a2p_messages(),
        EventFilter::message_store(),
    ];
    // Polling cannot find events without a source.
    let chats = over != Over::Poll;
    filters.extend(chats.then(EventFilter::team_chats));
    let builder = over.set(&sandbox, app.subscribe(filters));
    let builder = builder.backoff(eager()).catch_up_all(catch_up::standard(&app)).poll_after(ms(300));
    let subscription = start(builder).await;
    let (handle, shutdown) = (subscription.handle(), subscription.shutdown_handle());
    let mut status = subscription.status();
    let journal = Arc::new(Mutex::new(Journal::default()));
    let reader = tokio::spawn(read(subscription, journal.clone()));

    let (mut sent, mut story, mut login) = (Sent::new(), Vec::new(), None);
    let mut edited = BTreeMap::new();
    let every = (size.events / size.faults.max(1)).max(1);
    for n in 0..size.events {
        if n % every == every / 2 {
            story.push(trouble(&sandbox, over, &mut login, &mut chance).await);
            // PubNub does not report a lost subscription; the next renewal does, which is made now.
            if let Err(error) = handle.revalidate().await {
                let why = journal.lock().unwrap().failed.clone();
                return Err(format!("{error}: {why:?}; {story:?}"));
            }
            // Faults during faults, and sometimes of push.
            if chance.bool() {
                let _ = timeout(RETENTION * 2, status.wait_for(|status| status.is_healthy())).await;
            }
        }
        let kind = Kind::any(&mut chance, chats);
        let posts = sandbox.stored_posts();
        if kind == Kind::Post && !posts.is_empty() && chance.u8(0..3) == 0 {
            let which = chance.usize(..posts.len());
            let id = posts[which]["id"].as_str().unwrap().to_owned();
            let text = format!("{n} edited");
            let edit = Edit { text: text.clone(), at: wall(), is_recent: posts.len() - which < RECENT };
            sandbox.trigger(&Fixture::post_edited(&id, text));
            edited.insert(id, edit);
        } else {
            happen(&sandbox, kind, n, &mut sent);
        }
        sleep(ms(chance.u64(0..25))).await;
    }
    sandbox.faults().clear_all();
    let deadline = Instant::now() + SETTLED;
    let is_closed = |thing: &Thing| CLOSED.contains(&thing.0);
    let is_complete = |journal: &Journal| {
        let last = |id: &String| journal.posts.get(id)?.last().map(|(_, text, _)| text);
        sent.keys().filter(|thing| is_closed(thing)).all(|thing| journal.delivered.contains_key(thing))
            && edited.iter().all(|(id, edit)| !edit.is_recent || last(id) == Some(&edit.text))
    };
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
    // An event that is still missing lies in a gap that has ended.
    let at_the_end = wall();
    shutdown.drain();
    timeout(SETTLED, reader).await.map_err(|_| "it does not end".to_owned())?.unwrap();
    let mut journal = std::mem::take(&mut *journal.lock().unwrap());
    journal.spans.extend(journal.open.drain(..).map(|since| (since, at_the_end)));
    let in_a_gap = |at: SystemTime| journal.spans.iter().any(|(since, until)| *since <= at && at <= *until);
    let missing: Vec<_> = sent
        .iter()
        .filter(|(thing, _)| !journal.delivered.contains_key(thing))
        .filter(|(thing, at)| is_closed(thing) || !in_a_gap(**at))
        .collect();
    let twice: Vec<_> = journal.delivered.iter().filter(|(_, how)| how.len() > 1).collect();
    // A gap whose end is not complete may be filled later, after events that were pushed meanwhile.
    let is_late = |delivered: &[(bool, String, Origin)]| {
        let is_late = |(at, (new, _, how)): (usize, &(bool, String, Origin))| {
            *new && delivered[..at].iter().any(|(_, _, before)| before == how || *how == Origin::Push)
        };
        delivered.iter().enumerate().any(is_late)
    };
    let late: Vec<_> = journal.posts.iter().filter(|(_, delivered)| is_late(delivered)).collect();
    let stale = edited
        .iter()
        .filter(|(id, edit)| journal.posts.get(*id).and_then(|it| it.last()).map(|it| &it.1) != Some(&edit.text))
        .filter(|(_, edit)| edit.is_recent || !in_a_gap(edit.at));
    let stale: Vec<_> = stale.map(|(id, edit)| (id, edit, journal.posts.get(id))).collect();
    let lost = sent.keys().filter(|thing| !journal.delivered.contains_key(thing)).count();
    let found = journal.delivered.values().flatten().filter(|how| **how != Origin::Push).count();
    if !missing.is_empty() || !twice.is_empty() || !late.is_empty() || !stale.is_empty() {
        let Journal { gaps, ends, undecodable, .. } = &journal;
        return Err(format!(
            "missing: {missing:?}\ntwice: {twice:?}\nadded after a change: {late:?}\nolder at the end: {stale:?}\n\
             gaps: {gaps:?}\nends: {ends:?}\nunreadable: {undecodable:?}\ntrouble: {story:?}"
        ));
    }
    Ok(format!(
        "{} of {} arrived, {lost} in gaps, {found} by catch-up, {} gaps",
        journal.delivered.len(),
        sent.len(),
        journal.gaps.len()
    ))
}

#[allow(clippy::disallowed_methods, reason = "when something happened, to be held against the gaps")]
fn wall() -> SystemTime {
    SystemTime::now()
}

async fn seeds(over: Over) {
    let set = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let number = |name, default| usize::try_from(set(name).unwrap_or(default)).unwrap();
    let size = Size { events: number("LOSSLESS_EVENTS", 200), faults: number("LOSSLESS_FAULTS", 12) };
    let seeds: Vec<u64> = match set("LOSSLESS_SEED") {
        Some(seed) => vec![seed],
        None => (0..set("LOSSLESS_SEEDS").unwrap_or(4)).collect(),
    };
    // Several at a time: they spend most of their time waiting.
    let runs = futures_util::stream::iter(seeds).map(|seed| async move { (seed, run(seed, over, size).await) });
    let outcomes: Vec<_> = runs.buffer_unordered(16).collect().await;
    let mut wrong = Vec::new();
    for (seed, outcome) in outcomes {
        match outcome {
            Ok(delivered) => println!("{over:?} LOSSLESS_SEED={seed}: {delivered}"),
            Err(how) => wrong.push(format!("{over:?} LOSSLESS_SEED={seed}: {how}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[tokio::test]
async fn over_pubnub_everything_arrives_once_under_any_faults() {
    seeds(Over::PubNub).await;
}

#[tokio::test]
async fn over_websocket_everything_arrives_once_under_any_faults() {
    seeds(Over::WebSocket).await;
}

#[tokio::test]
async fn over_polling_everything_arrives_once_under_any_faults() {
    seeds(Over::Poll).await;
}

#[tokio::test]
async fn over_all_transports_everything_arrives_once_under_any_faults() {
    seeds(Over::All).await;
}

/// With WebSocket a subscription outlives its process for as long as its session; the session replays the events until
/// the next process, or catch-up finds them.
#[tokio::test]
async fn over_websocket_events_between_two_processes_are_replayed_or_found() {
    for survives in [true, false] {
        let sandbox = quick().start().await.unwrap();
        let (place, tokens) = (MemoryCheckpoint::new(), Arc::new(MemoryTokenStore::new()));
        let begin = async || {
            // Each process has its own connections, and the login of the previous one.
            let app = Client::builder(subscribing::oauth_with(&sandbox, tokens.clone())).build().unwrap();
            let transport = WebSocket::builder().dial_pause(ms(100)).build().unwrap();
            let filters = [EventFilter::instant_message(), EventFilter::team_chats()];
            let builder = app.subscribe(filters).transport(transport).backoff(eager());
            let builder = builder.catch_up_all(catch_up::standard(&app)).checkpoint(place.clone());
            start(builder.on_drop(OnDrop::Keep).ack_mode(AckMode::Explicit)).await
        };
        let sms = |n: u32| drop(sandbox.trigger(&Fixture::inbound_sms("+16505550100", n.to_string())));
        let chat = |n: u32| drop(sandbox.trigger(&Fixture::chat_named("7", n.to_string())));
        // The deliveries up to the end of a gap, or the next `count` without one.
        let read = async |subscription: &mut Subscription, count: usize| {
            let (mut delivered, mut gaps, mut ends) = (Vec::new(), Vec::new(), Vec::new());
            while delivered.len() < count || ends.len() < gaps.len() {
                match subscribing::next(subscription).await {
                    Delivery::Notification(it) => match it.event() {
                        Event::TeamMessagingChat(chat) => {
                            delivered.push(format!("chat {}", chat.name.as_deref().unwrap()))
                        }
                        other => delivered.push(format!("sms {}", other.message().unwrap().text().unwrap())),
                    },
                    Delivery::Gap(gap) => gaps.push(gap),
                    Delivery::Resumed(end) => ends.push(end),
                    other => panic!("{other:?}"),
                }
            }
            delivered.sort();
            (delivered, gaps, ends)
        };

        let mut subscription = begin().await;
        let first = subscription.id();
        assert!(sandbox.wait_requests(Operation::MessageSync, 1, subscribing::SOON).await);
        for n in 1..=3 {
            sms(n);
            let (delivered, gaps, _) = read(&mut subscription, 1).await;
            assert_eq!((delivered, gaps), (vec![format!("sms {n}")], vec![]));
            if n == 2 {
                subscription.ack().await.unwrap();
            }
        }
        drop(subscription);
        assert!(sandbox.wait_open_sockets(0, subscribing::SOON).await);
        sms(4);
        chat(5);
        if !survives {
            assert!(sandbox.forget(first.as_ref().unwrap()));
        }

        let mut subscription = begin().await;
        assert_eq!(subscription.id() == first, survives);
        if survives {
            let (delivered, gaps, _) = read(&mut subscription, 3).await;
            assert_eq!(delivered, ["chat 5", "sms 3", "sms 4"]);
            let causes: Vec<_> = gaps.iter().map(|gap| &gap.cause).collect();
            assert_eq!(causes, [&GapCause::ConnectionBroken], "what was sent to the process before may be lost");
        } else {
            let (delivered, gaps, ends) = read(&mut subscription, 2).await;
            assert_eq!(delivered, ["sms 3", "sms 4"]);
            let causes: Vec<_> = gaps.iter().map(|gap| &gap.cause).collect();
            assert_eq!(causes, [&GapCause::SubscriptionGone]);
            assert_eq!(ends[0].unrecovered.len(), 1, "no source covers the chat: {ends:?}");
        }
        sms(6);
        assert_eq!(read(&mut subscription, 1).await.0, ["sms 6"]);
        subscription.ack().await.unwrap();
        assert!(subscription.close().await.deleted);
        assert!(sandbox.subscriptions().is_empty());
    }
}

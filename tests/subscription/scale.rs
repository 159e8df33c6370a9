//! A thousand subscriptions on one runtime, and a thousand one after the other: polls, tasks and memory. Measured in a
//! separate process, with the sandbox in this one.

use std::sync::Arc;

use crate::support::process::{Worker, mib, report, resident, role, wait_for_go};
use crate::support::subscribing::*;
use futures_util::StreamExt as _;
use futures_util::stream;
use ringcentral_events::Phase;
use ringcentral_events::rest::Client;
use ringcentral_events::transport::{PubNub, Transport};
use ringcentral_sandbox::Operation;
use tokio::runtime::{Builder, Handle};

const MANY: usize = 1000;
/// Concurrent calls: enough for two cores.
const ABREAST: usize = 128;
/// The memory limit of a thousand subscriptions. A debug build takes 47 to 51 MiB, and half of that is what the HTTP
/// client allocates per connection: two buffers of 8 KiB and its task.
const BUDGET: u64 = 54 << 20;

fn env(name: &str) -> String {
    std::env::var(name).unwrap()
}

/// The app under test: one client, one transport.
fn app() -> (Client, Arc<dyn Transport>) {
    let oauth = ringcentral_events::OAuth::jwt(env("RC_APP_CLIENT_ID"), env("RC_USER_JWT"))
        .client_secret(env("RC_APP_CLIENT_SECRET"))
        .server(env("RC_SERVER_URL"))
        .build()
        .unwrap();
    let transport = PubNub::builder().origin(env("RC_PUBNUB_ORIGIN")).build().unwrap();
    (Client::builder(oauth).build().unwrap(), Arc::new(transport))
}

async fn one(client: &Client, transport: &Arc<dyn Transport>) -> ringcentral_events::Subscription {
    let builder = client.subscribe([filter(STORE)]).shared_transport(transport.clone()).backoff(eager());
    let subscription = soon(builder.start()).await.unwrap();
    phase(&subscription, Phase::Live).await;
    subscription
}

/// The memory growth since `before`; 0 if the system does not report it.
fn growth(before: Option<u64>) -> u64 {
    resident().zip(before).map_or(0, |(now, before)| now.saturating_sub(before))
}

async fn many_at_once() {
    let (client, transport) = app();
    // Memory that the first one loads is not counted for the others.
    drop(one(&client, &transport).await);
    let before = resident();
    let subscriptions: Vec<_> =
        stream::iter(0..MANY).map(|_| one(&client, &transport)).buffer_unordered(ABREAST).collect().await;
    report("live", &[("grown", growth(before))]);
    wait_for_go().await;
    drop(subscriptions);
    drop((client, transport));
    wait_for_go().await;
    // The tasks of subscriptions and connections end by themselves.
    let tasks = Handle::current().metrics();
    let ended = async {
        while tasks.num_alive_tasks() > 0 {
            tokio::time::sleep(ms(10)).await;
        }
    };
    let ended = tokio::time::timeout(ms(10_000), ended).await;
    report("ended", &[("tasks", tasks.num_alive_tasks() as u64), ("left", growth(before))]);
    ended.unwrap();
}

async fn many_in_turn() {
    let (client, transport) = app();
    let cycles =
        |count| stream::iter(0..count).for_each_concurrent(ABREAST, |_| async { drop(one(&client, &transport).await) });
    cycles(MANY / 4).await;
    report("warm", &[]);
    wait_for_go().await;
    let before = resident();
    cycles(MANY).await;
    report("cycled", &[]);
    wait_for_go().await;
    report("ended", &[("grown", growth(before))]);
}

/// Runs in the child process only; does nothing in this one.
#[test]
fn worker() {
    let Some(role) = role() else { return };
    let runtime = match role.strip_suffix("-on-one-thread") {
        Some(_) => Builder::new_current_thread().enable_all().build(),
        None => Builder::new_multi_thread().worker_threads(2).enable_all().build(),
    };
    let runtime = runtime.unwrap();
    match role.trim_end_matches("-on-one-thread") {
        "at-once" => runtime.block_on(many_at_once()),
        "in-turn" => runtime.block_on(many_in_turn()),
        other => panic!("{other}"),
    }
}

async fn a_thousand_at_once(role: &str) {
    // Held for as long as the test takes, like the real service.
    let sandbox = quick().behavior(|behavior| behavior.hold = SOON * 10).request_log(100).start().await.unwrap();
    let mut app = Worker::start(module_path!(), "worker", role, &sandbox);
    let grown = app.wait("live").await["grown"];
    println!("{role}: {MANY} subscriptions take {:.1} MiB", mib(grown));
    assert!(sandbox.wait_subscriptions(MANY, SOON).await);
    assert!(sandbox.wait_open_polls(MANY, SOON).await);
    let ids = sandbox.subscriptions();
    assert!(ids.iter().all(|held| sandbox.open_polls_on(&held.id) == 1), "one poll for each");
    assert!(grown <= BUDGET, "{:.1} MiB", mib(grown));

    app.go().await;
    assert!(sandbox.wait_open_polls(0, SOON).await);
    assert!(sandbox.wait_subscriptions(0, SOON).await);
    app.go().await;
    let end = app.wait("ended").await;
    println!("{role}: after dropping them {:.1} MiB are left", mib(end["left"]));
    assert_eq!(end["tasks"], 0);
    assert_eq!(sandbox.gauges().overlapping_polls, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_subscriptions_open_a_thousand_polls_within_54_mib() {
    a_thousand_at_once("at-once").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_subscriptions_fit_on_a_current_thread_runtime() {
    a_thousand_at_once("at-once-on-one-thread").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_cycles_of_subscribe_and_drop_leave_nothing() {
    let sandbox = quick().behavior(|behavior| behavior.hold = SOON * 10).request_log(100).start().await.unwrap();
    let mut app = Worker::start(module_path!(), "worker", "in-turn", &sandbox);
    app.wait("warm").await;
    assert!(sandbox.wait_subscriptions(0, SOON).await);
    app.go().await;
    app.wait("cycled").await;
    assert!(sandbox.wait_subscriptions(0, SOON).await);
    assert!(sandbox.wait_open_polls(0, SOON).await);
    app.go().await;
    let grown = app.wait("ended").await["grown"];
    println!("{MANY} cycles grew memory by {:.1} MiB", mib(grown));
    // The allocator's own growth is 2 to 6 MiB; one subscription left behind in each cycle would be 40 MiB.
    assert!(grown <= 12 << 20, "{:.1} MiB", mib(grown));
    let gauges = sandbox.gauges();
    assert_eq!((gauges.overlapping_polls, sandbox.requests_to(Operation::Token).len()), (0, 0), "one login, long ago");
    assert_eq!(gauges.tokens_issued, 1);
}

//! A shift of eight hours of the sandbox's clock, over sockets and with faults: the program receives what the platform
//! sent, once and in order, and the events that it could not receive lie inside a gap.
//!
//! `AGENT_SHIFTS` sets how many seeds run for each behavior of the platform (1).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::agent::*;
use fastrand::Rng;
use ringcentral_events::agent::auth::CxOneTokens;
use ringcentral_events::agent::{AgentDelivery, AgentOrigin, AgentSession, Desk, EndSession};
use ringcentral_events::policy::BackoffPolicy;
use ringcentral_sandbox::agent::{ContactCenter, ContactStep, Fate, IdForm, SnapshotOrder, StaleId};
use ringcentral_sandbox::{Fault, Operation, Sandbox, Service};

const SHIFT: Duration = Duration::from_secs(8 * 60 * 60);
/// By the sandbox's clock: far less than the inactivity timeout of a session.
const STEP: Duration = Duration::from_secs(60);

/// Injects one fault; returns whether it may lose an answer.
fn trouble(sandbox: &Sandbox, center: &ContactCenter, rng: &mut Rng) {
    let poll = |fault| {
        sandbox.faults().inject(Operation::AgentPoll, fault);
    };
    match rng.u8(0..13) {
        0 => poll(Fault::reset().after_effect()),
        1 => poll(Fault::close().after_effect()),
        2 => poll(Fault::reset_mid_body()),
        3 => poll(Fault::cut_json()),
        4 => poll(Fault::status(503)),
        5 => poll(Fault::html(502).after_effect()),
        6 => poll(Fault::status(429).header("Retry-After", "0")),
        7 => poll(Fault::hang().after_effect()),
        8 => poll(Fault::amend().without_header("icBranchValue").gzip()),
        9 => poll(Fault::amend().header("Connection", "close")),
        10 => {
            center.expire_tokens();
            sandbox.faults().inject(Operation::AgentToken, Fault::status(500));
        }
        11 => sandbox.reset_connections(Service::ContactCenter),
        _ => {
            // More events at once than the platform retains.
            sandbox.behavior(|behavior| behavior.agent.queue_capacity = 2);
            let many = ["x", "y", "z"].map(|name| custom(&format!("{name}{}", rng.u32(..))).to_string());
            center.push_all(&many).unwrap();
            sandbox.behavior(|behavior| behavior.agent.queue_capacity = 10_000);
        }
    }
}

/// Simulates the agent's shift.
async fn work(sandbox: &Sandbox, center: &ContactCenter, rng: &mut Rng) {
    let mut calls: Vec<(String, bool)> = Vec::new();
    let mut passed = Duration::ZERO;
    let mut one_shots = 0;
    while passed < SHIFT {
        // A working program polls: time passes only then.
        assert!(center.wait_caught_up(SOON).await, "{:?}", center.session());
        let step = STEP.mul_f64(rng.f64());
        sandbox.advance(step);
        passed += step;
        if rng.u8(0..20) == 0 {
            trouble(sandbox, center, rng);
        }
        match rng.u8(0..10) {
            0..5 => {
                center.push(&custom(&one_shots.to_string()).to_string()).unwrap();
                one_shots += 1;
            }
            5..7 if calls.len() < 4 => calls.push((center.call("+12055550143").unwrap(), false)),
            7 if !calls.is_empty() => {
                let (id, _) = calls.swap_remove(rng.usize(..calls.len()));
                center.step(&id, ContactStep::HangUp).unwrap();
                center.step(&id, ContactStep::Finish).unwrap();
            }
            _ => {
                if let Some((id, held)) = calls.last_mut() {
                    *held = !*held;
                    center.step(id, if *held { ContactStep::Hold } else { ContactStep::Resume }).unwrap();
                }
            }
        }
    }
    sandbox.faults().clear_all();
    assert!(center.wait_caught_up(SOON).await);
}

async fn shift(seed: u64, stale_id: StaleId) {
    let mut rng = Rng::with_seed(seed);
    let sandbox = Sandbox::builder().seed(seed).behavior(|behavior| {
        let agent = &mut behavior.agent;
        agent.stale_id = stale_id;
        agent.branch_header = seed.is_multiple_of(2);
        agent.ids = if seed.is_multiple_of(2) { IdForm::Reserved } else { IdForm::Base64 };
        agent.snapshot_order = SnapshotOrder::Mixed;
    });
    let sandbox = sandbox.start().await.unwrap();
    let center = sandbox.contact_center();
    let ((client, secret), (key, key_secret)) = (center.client(), center.access_key());
    let tokens = CxOneTokens::builder(&client, secret, key, key_secret).issuer(center.url()).build().unwrap();
    let session = AgentSession::builder(tokens)
        .phone_number("+12055550100")
        .poll_timeout(Duration::from_secs(1))
        .margin(Duration::from_millis(500))
        .backoff(BackoffPolicy::new().cap(Duration::from_millis(600)))
        .start()
        .await
        .unwrap();
    let mut events = session.events().unwrap();
    let reading = tokio::spawn(async move {
        let (mut desk, mut live, mut gaps) = (Desk::new(), Vec::new(), 0_u32);
        let mut last = String::new();
        let mut contacts = Vec::new();
        while let Some(delivery) = events.next().await {
            let delivery = delivery.unwrap();
            match &delivery {
                AgentDelivery::Gap(_) => gaps += 1,
                AgentDelivery::Notification(event) if event.origin() == AgentOrigin::Live => {
                    live.push((event.raw().get().get().to_owned(), gaps));
                }
                AgentDelivery::SessionEnded(_) => {
                    contacts = desk.contacts().map(|(id, _)| id.to_string()).collect();
                }
                _ => {}
            }
            desk.apply(&delivery);
            last = name(&delivery);
        }
        (live, gaps, contacts, last)
    });

    work(&sandbox, &center, &mut rng).await;
    let open = center.session().unwrap().contacts;
    session.end(EndSession::new().force_logoff(true)).await.unwrap();
    let (live, gaps, mut contacts, last) = tokio::time::timeout(SOON, reading).await.unwrap().unwrap();
    assert_eq!(last, "ended asked", "seed {seed} {} {gaps} {:?}", live.len(), center.session());

    let pushed = center.events();
    let delivered: Vec<&str> =
        pushed.iter().filter(|event| event.fate == Fate::Answered).map(|event| event.text.as_str()).collect();
    let got: Vec<&str> = live.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(got.len(), delivered.len(), "seed {seed}");
    assert_eq!(got, delivered, "seed {seed}");

    // Between the events before and after a missing one, a gap was reported.
    let (mut next, mut before, mut missed) = (0, 0, BTreeMap::new());
    for event in &pushed {
        match event.fate {
            Fate::Answered => {
                before = live[next].1;
                next += 1;
            }
            Fate::Missed => {
                let after = live.get(next).map_or(gaps, |(_, gaps)| *gaps);
                assert!(after > before, "{event:?} is missing without a gap (seed {seed})");
                missed.insert(event.number, ());
            }
            other => panic!("{other:?} {event:?} (seed {seed})"),
        }
    }
    contacts.sort();
    let mut open = open;
    open.sort();
    assert_eq!(contacts, open, "the desk (seed {seed})");
    let seen = center.session().unwrap();
    assert_eq!(seen.overlaps, 0, "{seen:?} (seed {seed})");
    assert!(delivered.len() > 400 && seen.stale_polls > 0, "the shift was too quiet: {seen:?} (seed {seed})");
    assert_eq!(missed.is_empty(), gaps == 0, "seed {seed}");
    println!(
        "seed {seed}: {} delivered, {} missed in {gaps} gaps, {} polls",
        delivered.len(),
        missed.len(),
        seen.polls
    );
}

async fn shifts(first: u64, stale_id: StaleId) {
    let count = std::env::var("AGENT_SHIFTS").map_or(1, |count| count.parse().unwrap());
    for seed in 0..count {
        shift(first + 2 * seed, stale_id).await;
    }
}

#[tokio::test]
async fn eight_hours_where_a_lost_answer_is_a_snapshot_and_branches_are_sent() {
    shifts(2, StaleId::Snapshot).await;
}

#[tokio::test]
async fn eight_hours_where_a_lost_answer_is_a_snapshot_and_branches_are_not() {
    shifts(3, StaleId::Snapshot).await;
}

#[tokio::test]
async fn eight_hours_where_a_lost_answer_is_sent_again() {
    shifts(4, StaleId::Replay).await;
}

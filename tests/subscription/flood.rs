//! A hundred thousand events, a hundred per answer, published as fast as the loop polls, for a reader that sleeps two
//! seconds now and then.

use tokio::time::Instant;

use crate::support::process::{mib, ran_alone, resident};
use crate::support::raw::{Answer, RawPubNub};
use crate::support::subscribing::*;
use ringcentral_events::{Certainty, Delivery, GapCause, Subscription};
use ringcentral_sandbox::Encryption;

const EVENTS: u64 = 100_000;
const PER_ANSWER: u64 = 100;

/// The events that the reader received.
#[derive(Debug, Default)]
struct Tally {
    received: u64,
    lost: u64,
    overflows: u64,
    possible: u64,
}

/// Positions of the tests' own server: later than today.
const BASE: u64 = 90_000_000_000_000_000;

fn uuid(n: u64) -> String {
    format!("flood-{n}")
}

/// Publishes with each poll: the next hundred after its position.
fn answer(timetoken: u64) -> Answer {
    let last = timetoken.saturating_sub(BASE);
    if last >= EVENTS {
        return Answer::Hold;
    }
    let messages: Vec<String> = (last + 1..=last + PER_ANSWER)
        .map(|n| {
            let uuid = uuid(n);
            let event = "/restapi/v1.0/account/1/extension/2/message-store";
            format!(r#"{{"c":"c","d":{{"uuid":"{uuid}","event":"{event}","body":{{"n":{n}}}}}}}"#)
        })
        .collect();
    Answer::Json(format!(r#"{{"t":{{"t":"{}","r":1}},"m":[{}]}}"#, BASE + last + PER_ANSWER, messages.join(",")))
}

/// Reads everything, and sleeps after a third and after two thirds of it. Each event must be the next one, or the next
/// one behind a gap with the right count.
async fn read_all(subscription: &mut Subscription) -> Tally {
    let (mut tally, mut pauses, mut gap_open) = (Tally::default(), 0, false);
    while tally.received + tally.lost < EVENTS {
        match next(subscription).await {
            Delivery::Notification(event) => {
                assert!(!gap_open, "an event before the gap has ended");
                tally.received += 1;
                assert_eq!(event.uuid(), Some(&*uuid(tally.received + tally.lost)));
                if tally.received + tally.lost > (pauses + 1) * EVENTS / 3 && pauses < 2 {
                    pauses += 1;
                    // The slow reader under test.
                    tokio::time::sleep(ms(2000)).await;
                }
            }
            Delivery::Gap(gap) => {
                gap_open = true;
                match gap.cause {
                    GapCause::Overflow => {
                        assert_eq!(gap.certainty, Certainty::Certain);
                        tally.overflows += 1;
                        tally.lost += gap.lost.unwrap();
                    }
                    GapCause::ServiceBufferFull { events } => {
                        assert_eq!((events as u64, gap.certainty, gap.lost), (PER_ANSWER, Certainty::Possible, None));
                        tally.possible += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
            Delivery::Resumed(_) => gap_open = false,
            other => panic!("{other:?}"),
        }
    }
    tally
}

async fn flood(queue_bytes: usize) -> Tally {
    let sandbox = quick().behavior(|behavior| behavior.encryption = Encryption::Never).start().await.unwrap();
    let server = RawPubNub::start(|_, timetoken| answer(timetoken)).await;
    let transport = pubnub(&sandbox).origin(server.origin()).build().unwrap();
    let (before, began) = (resident(), Instant::now());
    let mut subscription =
        soon(subscribe(&client(&sandbox), transport).queue_bytes(queue_bytes).start()).await.unwrap();
    let tally = read_all(&mut subscription).await;
    let grown = resident().zip(before).map_or(0, |(now, before)| now.saturating_sub(before));
    println!(
        "queue of {:.1} MiB: {tally:?}, {:.0} events/s with two pauses of 2 s, memory {:+.1} MiB",
        mib(queue_bytes as u64),
        EVENTS as f64 / began.elapsed().as_secs_f64(),
        mib(grown),
    );
    assert_eq!(tally.received + tally.lost, EVENTS);
    let closed = soon(subscription.close()).await;
    let is_marker = |delivery: &Delivery| matches!(delivery, Delivery::Gap(_) | Delivery::Resumed(_));
    assert!(closed.deleted && closed.unread.iter().all(is_marker), "{closed:?}");
    // The end may precede the last poll, which would be held; and it asks for the present position, and once more for
    // unread events.
    let (polls, positions) = (server.polls(), EVENTS / PER_ANSWER);
    assert!((positions..=positions + 3).contains(&polls), "{polls} polls: each position is asked for once");
    // The queue's limit, in the allocator's measure, and 100 messages in transit.
    assert!(grown < (32 << 20) + 3 * queue_bytes as u64, "{:.1} MiB", mib(grown));
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_into_a_large_queue_arrives_whole() {
    if ran_alone(module_path!(), "a_flood_into_a_large_queue_arrives_whole").await {
        return;
    }
    let tally = flood(64 << 20).await;
    assert_eq!((tally.received, tally.overflows), (EVENTS, 0));
    assert!(tally.possible > 0, "a hundred per answer is the size of the service's buffer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn found_6_13_a_flood_into_a_small_queue_waits_at_the_service_and_arrives_whole() {
    if ran_alone(module_path!(), "found_6_13_a_flood_into_a_small_queue_waits_at_the_service_and_arrives_whole").await {
        return;
    }
    let tally = flood(256 << 10).await;
    assert_eq!((tally.received, tally.overflows), (EVENTS, 0), "{tally:?}");
}

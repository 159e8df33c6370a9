use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use tokio::time::{advance, sleep, timeout};

use super::super::fakes::{
    Call, FakeControl, FakeSource, FakeTransport, Script, cursor, event_text, event_told_by, gone, sms_text,
    unavailable,
};
use super::super::{Subscription, SubscriptionBuilder};
use super::*;
use crate::OnDrop;
use crate::clock::Clock;
use crate::control::Cursor;
use crate::delivery::{Certainty, Delivery, Gap, GapCause, Resumed};
use crate::error::{Disposition, Error, ErrorKind};
use crate::event::{EventFilter, Origin};
use crate::status::Phase;
use crate::subscription::cleanup::END_WITHIN;
use crate::subscription::continuity::Loss;
use crate::subscription::ports::StreamItem;
use crate::subscription::resume::{Mark, ResumeToken};
use crate::transport::{Coverage, Frame, FrameBody, LinkBatch, PossibleLoss};

const MESSAGES: &str = "/restapi/v1.0/account/~/extension/~/message-store";

/// Counts the turns of the driver's loop at one instant. A deadline that is past and not
/// consumed turns it for ever, and paused time then stands still.
pub(super) struct Turns {
    at: Instant,
    count: u32,
}

impl Turns {
    pub(super) fn new(at: Instant) -> Self {
        Self { at, count: 0 }
    }

    pub(super) fn count(&mut self, now: Instant) {
        self.count = if now == self.at { self.count + 1 } else { 0 };
        self.at = now;
        assert!(self.count < 100_000, "the driver's loop turns without end at one instant");
    }
}

struct World {
    control: FakeControl,
    transport: FakeTransport,
}

fn filter(text: &str) -> EventFilter {
    text.parse().unwrap()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

impl World {
    fn new() -> Self {
        Self { control: FakeControl::new(), transport: FakeTransport::default() }
    }

    fn builder(&self) -> SubscriptionBuilder {
        SubscriptionBuilder::new(self.control.clone(), [filter(MESSAGES)]).transport(self.transport.clone())
    }

    async fn start(&self) -> Subscription {
        self.builder().start().await.unwrap()
    }

    /// Started, the first link open and its peer there.
    async fn live(&self) -> Subscription {
        let subscription = self.start().await;
        self.up(&subscription, 1).await;
        subscription
    }

    async fn up(&self, subscription: &Subscription, link: usize) {
        self.transport.opened(link).await;
        self.transport.feed(link, Ok(LinkEvent::Alive));
        phase(subscription, Phase::Live).await;
    }
}

async fn phase(subscription: &Subscription, phase: Phase) {
    let mut status = subscription.status();
    timeout(secs(3600), status.wait_for(|status| status.phase == phase)).await.expect("in time").expect("not over");
}

async fn next(subscription: &mut Subscription) -> Delivery {
    timeout(secs(3600), subscription.next()).await.expect("in time").expect("not over").expect("no error")
}

async fn next_uuid(subscription: &mut Subscription) -> u64 {
    match next(subscription).await {
        Delivery::Notification(notification) => notification.uuid().unwrap().parse().unwrap(),
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

fn is_quiet(subscription: &mut Subscription) -> bool {
    subscription.next().now_or_never().is_none()
}

/// Waits until the task has nothing left to do but to wait for time.
async fn settle() {
    sleep(Duration::from_nanos(1)).await;
}

fn renews(control: &FakeControl) -> usize {
    control.count(|call| matches!(call, Call::Renew(_)))
}

fn creates(control: &FakeControl) -> usize {
    control.count(|call| matches!(call, Call::Create(_)))
}

#[tokio::test(start_paused = true)]
async fn events_arrive_once_and_in_order() {
    let world = World::new();
    let mut subscription = world.live().await;
    world.transport.events(1, [1, 2, 3]);
    world.transport.events(1, [2, 3, 4]);
    for n in 1..=4 {
        assert_eq!(next_uuid(&mut subscription).await, n);
    }
    settle().await;
    assert!(is_quiet(&mut subscription));
}

#[tokio::test(start_paused = true)]
async fn the_first_cursor_lies_before_the_create_call() {
    let world = World::new();
    let before = crate::clock::wall_now();
    let _subscription = world.start().await;
    world.transport.opened(1).await;
    let target = world.transport.target(1);
    assert!(target.cursor.ticks() <= Cursor::at(before).ticks(), "{:?}", target.cursor);
    assert_eq!(target.cursor.detail(), None);
    assert_eq!(target.user_id.as_deref(), Some("owner-1"));
    assert!(target.last_good.is_some(), "how long the first events wait counts too");
}

#[tokio::test(start_paused = true)]
async fn l1_only_a_confirmed_update_changes_the_filters() {
    let world = World::new();
    let mut subscription = world.live().await;
    let handle = subscription.handle();
    let other = || [filter("/restapi/v1.0/account/~/extension/~/presence")];
    world.control.script("update", Script::Fail(Error::new(ErrorKind::Rejected, "no").with_status(400)));
    assert_eq!(handle.update_filters(other()).await.unwrap_err().status(), Some(400));
    // Gone: the error is told, the subscription is made anew with the filters as they were.
    world.control.forget_all();
    assert_eq!(handle.update_filters(other()).await.unwrap_err().status(), Some(404));
    assert_eq!(next_gap(&mut subscription).await.cause, GapCause::SubscriptionGone);
    world.up(&subscription, 2).await;
    let made = |call: &Call| matches!(call, Call::Create(filters) if filters == &[MESSAGES.to_owned()]);
    assert_eq!(world.control.count(made), 2, "both with the filters as they were");
    handle.update_filters(other()).await.unwrap();
    world.control.forget_all();
    handle.revalidate().await.unwrap();
    world.transport.opened(3).await;
    let made = |call: &Call| matches!(call, Call::Create(filters) if filters[0].ends_with("/presence"));
    assert_eq!(world.control.count(made), 1, "with the new ones");
}

#[tokio::test(start_paused = true)]
async fn l2_a_second_change_is_refused_before_it_is_sent() {
    let world = World::new();
    let subscription = world.live().await;
    world.control.script("update", Script::Slow(secs(5)));
    let (one, two) = (subscription.handle(), subscription.handle());
    let (first, second) = tokio::join!(one.update_filters([filter(MESSAGES)]), async {
        sleep(secs(1)).await;
        two.update_filters([filter(MESSAGES)]).await
    });
    first.unwrap();
    assert_eq!(second.unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(world.control.count(|call| matches!(call, Call::Update(..))), 1);
}

#[tokio::test(start_paused = true)]
async fn l3_renewal_comes_before_expiry_for_every_way_of_telling_it() {
    for (expires_in, expiration) in [(Some("900"), None), (None, Some("Z")), (None, Some("+0000")), (None, None)] {
        for skew in [-600_i64, 0, 600] {
            let world = World::new();
            let clock = crate::clock::wall_now();
            world.control.script(
                "create",
                Script::Answer(Box::new(move |info| {
                    info.as_object_mut().unwrap().remove("expiresIn");
                    if let Some(secs) = expires_in {
                        info["expiresIn"] = secs.into();
                        // Nonsense beside a good expiresIn does no harm.
                        info["expirationTime"] = "1999-01-01T00:00:00Z".into();
                    }
                    if let Some(zone) = expiration {
                        let at = clock + secs(900);
                        let at = if skew < 0 { at - secs(skew.unsigned_abs()) } else { at + secs(skew.unsigned_abs()) };
                        let text = crate::Timestamp::from(at).to_string().replace('Z', zone);
                        info["expirationTime"] = text.into();
                    }
                })),
            );
            let _subscription = world.live().await;
            // The answer's Date is what makes an absolute time safe; without one the
            // skew shows, and only a late expiry could do harm: 600 s early is early.
            let at_most = if expiration.is_some() && skew > 0 { 1500 } else { 900 };
            sleep(secs(at_most - 1)).await;
            assert!(renews(&world.control) >= 1, "{expires_in:?} {expiration:?} {skew}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn l4_a_renewal_that_fails_is_retried_and_nothing_is_lost() {
    let world = World::new();
    let mut subscription = world.live().await;
    for _ in 0..5 {
        world.control.script("renew", Script::Fail(unavailable()));
    }
    sleep(secs(890)).await;
    assert!(renews(&world.control) >= 6);
    assert_eq!(creates(&world.control), 1);
    world.transport.events(1, [1]);
    assert_eq!(next_uuid(&mut subscription).await, 1);
}

#[tokio::test(start_paused = true)]
async fn l5_and_p5_a_lost_subscription_is_recreated_once_with_both_ids() {
    for lost in [gone(), Error::new(ErrorKind::NotFound, "x").with_status(404)] {
        let world = World::new();
        let mut subscription = world.live().await;
        world.transport.events(1, [1]);
        next_uuid(&mut subscription).await;
        world.control.forget_all();
        world.control.script("renew", Script::Fail(lost));
        let gap = next_gap(&mut subscription).await;
        assert_eq!((gap.cause, gap.certainty), (GapCause::SubscriptionGone, Certainty::Certain));
        assert!(gap.since.is_some());
        world.up(&subscription, 2).await;
        let resumed = next_resumed(&mut subscription).await;
        let recreated = resumed.recreated.unwrap();
        assert_eq!((recreated.old.as_str(), recreated.new.as_str(), resumed.complete), ("sub-1", "sub-2", false));
        assert_eq!(creates(&world.control), 2);
        world.transport.events(2, [2]);
        assert_eq!(next_uuid(&mut subscription).await, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn p5_failing_renewals_end_in_expiry_a_gap_and_a_new_subscription() {
    let world = World::new();
    let mut subscription = world.live().await;
    for _ in 0..100 {
        world.control.script("renew", Script::Fail(unavailable()));
    }
    let began = Instant::now();
    let gap = next_gap(&mut subscription).await;
    assert_eq!(gap.cause, GapCause::LeaseExpired);
    assert!(began.elapsed() >= secs(880) && began.elapsed() <= secs(905), "{:?}", began.elapsed());
    world.up(&subscription, 2).await;
    assert_eq!(next_resumed(&mut subscription).await.recreated.unwrap().new.as_str(), "sub-2");
    settle().await;
    assert_eq!(world.control.alive(), ["sub-2"], "the old one is deleted as soon as the new one is there");
}

#[tokio::test(start_paused = true)]
async fn l6_a_renewal_that_moves_the_address_switches_without_loss() {
    let world = World::new();
    let mut subscription = world.live().await;
    world.transport.events(1, [1]);
    assert_eq!(next_uuid(&mut subscription).await, 1);
    world.control.move_to("chan-2");
    world.transport.opened(2).await;
    let target = world.transport.target(2);
    assert_eq!(target.address.expose(), "chan-2");
    assert_eq!(target.cursor.detail(), None, "a region belongs to its address");
    // Both are read: what is still on its way at the old place arrives, once.
    world.transport.events(1, [2]);
    assert_eq!(next_uuid(&mut subscription).await, 2);
    world.transport.events(2, [2, 3]);
    assert_eq!(next_uuid(&mut subscription).await, 3);
    sleep(secs(11)).await;
    assert!(!world.transport.is_open(1) && world.transport.is_open(2));
    assert!(is_quiet(&mut subscription), "no gap");
    assert_eq!(creates(&world.control), 1);
}

/// Events of one resource arrive in order, unless the former link shows nothing for too long.
#[tokio::test(start_paused = true)]
async fn events_at_a_new_address_wait_for_those_in_transit_at_the_former_one() {
    for (is_dead, after, order) in [(true, 1, [1, 2]), (true, 5, [2, 1]), (false, 1, [2, 1])] {
        let world = World::new();
        let mut subscription = world.live().await;
        if is_dead {
            world.transport.die();
        }
        world.control.move_to("chan-2");
        update(&subscription, &[MESSAGES]).await;
        world.transport.opened(2).await;
        world.transport.events(2, [2]);
        sleep(secs(after)).await;
        world.transport.events(1, [1]);
        assert_eq!(
            [next_uuid(&mut subscription).await, next_uuid(&mut subscription).await],
            order,
            "{is_dead} {after}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_former_link_whose_session_continues_reports_what_broke_off() {
    let world = World::new();
    let mut subscription = world.live().await;
    world.control.move_to("chan-2");
    update(&subscription, &[MESSAGES]).await;
    world.up(&subscription, 2).await;
    let asked = Instant::now();
    world.transport.feed(1, Ok(LinkEvent::Continued { asked, read_to_end: false, buffer: 100 }));
    assert_eq!(next_gap(&mut subscription).await.cause, GapCause::ConnectionBroken);
}

#[tokio::test(start_paused = true)]
async fn a_former_link_that_is_closed_before_a_replay_may_have_begun_is_a_possible_loss() {
    for (since, is_over) in [(5, false), (35, true)] {
        let world = World::new();
        let mut subscription = world.live().await;
        let asked = Instant::now();
        world.transport.feed(1, Ok(LinkEvent::Continued { asked, read_to_end: true, buffer: 100 }));
        sleep(secs(since)).await;
        world.control.move_to("chan-2");
        update(&subscription, &[MESSAGES]).await;
        world.up(&subscription, 2).await;
        world.transport.feed(1, Ok(LinkEvent::Answered { asked: Instant::now() }));
        sleep(secs(11)).await;
        assert!(!world.transport.is_open(1));
        match is_over {
            true => assert!(is_quiet(&mut subscription)),
            false => assert_eq!(next_gap(&mut subscription).await.cause, GapCause::AddressMoved),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_position_at_a_new_address_covers_no_former_one_whose_link_is_being_opened() {
    let world = World::new();
    let mut subscription = world.live().await;
    world.transport.events(1, [1]);
    assert_eq!(next_uuid(&mut subscription).await, 1);
    let before = subscription.resume_token().unwrap();
    world.transport.hang();
    world.transport.feed(1, Err(Error::new(ErrorKind::Network, "reset")));
    sleep(secs(5)).await;
    world.control.move_to("chan-2");
    update(&subscription, &[MESSAGES]).await;
    settle().await;
    assert!(is_quiet(&mut subscription));
    assert_eq!(subscription.resume_token().unwrap().address, before.address);
}

#[tokio::test(start_paused = true)]
async fn the_former_key_still_decrypts_its_payloads() {
    let (old, new) = ("pdj+XYIRRBryWS2k33qXiA==", "e0bMTqmumPfFUbwzppkSbA==");
    let world = World::new();
    world.control.encrypt_with(old);
    let mut subscription = world.live().await;
    world.control.encrypt_with(new);
    sleep(secs(790)).await;
    assert_eq!(renews(&world.control), 1);
    // V1 of the reference, made with the former key.
    let ciphertext = include_str!("../../tests/fixtures/v1.base64").trim();
    world.transport.batch(1, vec![format!("\"{ciphertext}\"")], None);
    let Delivery::Notification(notification) = next(&mut subscription).await else { panic!() };
    assert_eq!(notification.uuid(), Some("11111111-2222-4333-8444-555555555555"));
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_waited_through_many_rotations_is_still_read() {
    use base64::Engine as _;
    let world = World::new();
    world.control.encrypt_with("pdj+XYIRRBryWS2k33qXiA==");
    let mut subscription = world.builder().buffer(NonZeroUsize::MIN).start().await.unwrap();
    world.up(&subscription, 1).await;
    world.transport.events(1, [1, 2]); // fills the buffer
    let ciphertext = include_str!("../../tests/fixtures/v1.base64").trim();
    world.transport.batch(1, vec![format!("\"{ciphertext}\"")], None);
    for n in 0..10u8 {
        world.control.encrypt_with(&base64::engine::general_purpose::STANDARD.encode([n; 16]));
        sleep(secs(790)).await;
    }
    assert_eq!(next_uuid(&mut subscription).await, 1);
    assert_eq!(next_uuid(&mut subscription).await, 2);
    assert!(matches!(next(&mut subscription).await, Delivery::Notification(_)));
}

#[tokio::test(start_paused = true)]
async fn l7_cancelling_the_start_leaves_nothing_at_the_service() {
    // While the creation is on its way.
    let world = World::new();
    world.control.script("create", Script::Slow(secs(2)));
    assert!(timeout(secs(1), world.start()).await.is_err());
    sleep(secs(10)).await;
    assert_eq!((creates(&world.control), world.control.alive()), (1, vec![]));

    // During back-off.
    let world = World::new();
    world.control.script(
        "create",
        Script::Fail(unavailable().with_disposition(crate::Disposition::Retry { after: Some(secs(30)) })),
    );
    assert!(timeout(secs(1), world.start()).await.is_err());
    sleep(secs(60)).await;
    assert_eq!((creates(&world.control), world.control.alive()), (1, vec![]));

    // During an update that fails.
    let world = World::new();
    let subscription = world.live().await;
    world.control.script("update", Script::Slow(secs(1)));
    let handle = subscription.handle();
    let updating = tokio::spawn(async move { handle.update_filters([filter(MESSAGES)]).await });
    settle().await;
    drop(subscription);
    sleep(secs(10)).await;
    assert!(updating.await.unwrap().is_err() || world.control.alive().is_empty());
    assert_eq!(world.control.alive(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn l8_an_existing_subscription_is_adopted_and_its_filters_set() {
    let world = World::new();
    world.control.plant("mine", &[MESSAGES]);
    let subscription = world.builder().adopt("mine".into()).start().await.unwrap();
    world.up(&subscription, 1).await;
    assert_eq!(subscription.id().unwrap(), "mine");
    assert_eq!((creates(&world.control), renews(&world.control)), (0, 1));
    assert_eq!(world.control.count(|call| matches!(call, Call::Update(..))), 0, "the filters are the same");

    let world = World::new();
    world.control.plant("mine", &["/restapi/v1.0/account/1/extension/2/presence"]);
    let subscription = world.builder().adopt("mine".into()).start().await.unwrap();
    world.up(&subscription, 1).await;
    settle().await;
    assert!(world.control.calls().contains(&Call::Update("mine".into(), vec![MESSAGES.into()])));
}

#[tokio::test(start_paused = true)]
async fn l8_an_expired_one_is_recreated_with_a_gap() {
    let world = World::new();
    let mut subscription = world.builder().adopt("mine".into()).start().await.unwrap();
    assert_eq!(next_gap(&mut subscription).await.cause, GapCause::SubscriptionGone);
    world.up(&subscription, 1).await;
    let recreated = next_resumed(&mut subscription).await.recreated.unwrap();
    assert_eq!((recreated.old.as_str(), recreated.new.as_str()), ("mine", "sub-1"));
}

#[tokio::test(start_paused = true)]
async fn l10_disabled_filters_are_delivered_and_again_only_when_they_change() {
    let world = World::new();
    world.control.refuse("get");
    for _ in 0..2 {
        let disable = |info: &mut serde_json::Value| {
            info["disabledFilters"] = serde_json::json!([{"filter": "/x", "reason": "SUB-412", "message": "no"}]);
        };
        world.control.script("create", Script::Answer(Box::new(disable)));
        world.control.script("renew", Script::Answer(Box::new(disable)));
    }
    let mut subscription = world.live().await;
    let Delivery::FiltersDisabled(filters) = next(&mut subscription).await else { panic!() };
    assert_eq!((filters[0].filter.as_str(), filters[0].reason.as_str()), ("/x", "SUB-412"));
    sleep(secs(800)).await;
    assert_eq!(renews(&world.control), 1);
    assert!(is_quiet(&mut subscription));
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_the_answer_omits_is_reported_as_disabled() {
    let world = World::new();
    world.control.refuse("get");
    let other = |info: &mut serde_json::Value| {
        info["eventFilters"] = serde_json::json!(["/restapi/v1.0/account/1/extension/2/presence"])
    };
    world.control.script("create", Script::Answer(Box::new(other)));
    world.control.script("renew", Script::Answer(Box::new(|info| info["eventFilters"] = serde_json::json!([]))));
    world.control.script("renew", Script::Answer(Box::new(other)));
    let mut subscription = world.live().await;
    let Delivery::FiltersDisabled(filters) = next(&mut subscription).await else { panic!() };
    let told: Vec<_> = filters.iter().map(|it| (it.filter.as_str(), it.reason.as_str())).collect();
    assert_eq!(told, [(MESSAGES, "")]);
    // Nor again after an answer that says nothing of filters.
    sleep(secs(1600)).await;
    assert_eq!(renews(&world.control), 2);
    assert!(is_quiet(&mut subscription));
    assert_eq!(
        world.control.count(|call| matches!(call, Call::Update(..))),
        0,
        "it answered, and asking again is no cure"
    );
}

#[tokio::test(start_paused = true)]
async fn l11_a_full_service_is_made_room_in_by_own_leftovers_only() {
    let full = || Error::new(ErrorKind::SubscriptionLimit, "too many").with_status(403);
    let world = World::new();
    world.control.plant("mine", &["/x"]);
    world.control.plant("foreign", &["/y"]);
    world.control.script("create", Script::Fail(full()));
    let subscription = world.builder().leftovers(["mine".into()]).start().await.unwrap();
    assert_eq!(world.control.alive(), ["foreign", "sub-1"]);
    drop(subscription);

    let world = World::new();
    world.control.plant("foreign", &["/y"]);
    world.control.script("create", Script::Fail(full()));
    let error = world.builder().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SubscriptionLimit);
    assert_eq!(world.control.alive(), ["foreign"]);
}

/// Found 5.1: another process with the same user, app and filters had just subscribed.
#[tokio::test(start_paused = true)]
async fn a_creation_without_an_answer_touches_no_subscription_of_another_process() {
    let lost = || Error::new(ErrorKind::Timeout, "lost").with_ambiguous(true);
    for script in [Script::Fail(unavailable().with_ambiguous(true)), Script::Fail(lost()), Script::Lose(lost())] {
        let world = World::new();
        let made_anyway = matches!(script, Script::Lose(_));
        let created = crate::Timestamp::from(crate::clock::wall_now());
        world.control.plant_made_at("another's", &[MESSAGES], &created);
        world.control.script("create", script);
        let subscription = world.live().await;
        let own = if made_anyway { "sub-2" } else { "sub-1" };
        assert_eq!(subscription.id().unwrap(), own, "one of its own is made");
        sleep(secs(120)).await;
        assert!(!subscription.close().await.deleted, "one whose id was never read may be left");
        sleep(secs(120)).await;
        assert_eq!(deletes(&world.control), [own]);
        assert_eq!(world.control.count(|call| *call == Call::List), 0, "what is listed proves nothing");
    }
}

/// The lifetime of what an unanswered creation may have made: then nothing is left.
#[tokio::test(start_paused = true)]
async fn an_unconfirmed_subscription_has_expired_after_its_lifetime() {
    let world = World::new();
    world.control.script("create", Script::Fail(unavailable().with_ambiguous(true)));
    let subscription = world.live().await;
    sleep(crate::subscription::cleanup::UNCONFIRMED_FOR + secs(1)).await;
    assert!(subscription.close().await.deleted);
}

/// An answer about a subscription that was not asked about proves nothing of it.
#[tokio::test(start_paused = true)]
async fn an_answer_that_names_another_subscription_is_neither_adopted_nor_deleted() {
    for verb in ["renew", "update", "get"] {
        let world = World::new();
        world.control.plant("another's", &[MESSAGES]);
        world.control.plant("named", &[MESSAGES]);
        let confused = |info: &mut serde_json::Value| info["id"] = "another's".into();
        world.control.script(verb, Script::Answer(Box::new(confused)));
        let subscription = match verb {
            "get" => world.builder().adopt("named".into()).start().await.unwrap(),
            _ => world.live().await,
        };
        if verb == "update" {
            let error = subscription.handle().update_filters([filter(MESSAGES)]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
        }
        sleep(secs(800)).await;
        assert_ne!(subscription.id().unwrap(), "another's", "{verb}");
        subscription.close().await;
        sleep(secs(60)).await;
        assert!(world.control.alive().contains(&"another's".to_owned()), "{verb}");
    }
}

/// A connection that serves several subscriptions: what is routed to the wrong one neither reaches its reader nor moves
/// its position, nor brings it to life.
#[tokio::test(start_paused = true)]
async fn a_batch_of_another_subscription_is_ignored() {
    let batch = |n, of: &str| {
        let raw = serde_json::value::RawValue::from_string(event_text(n)).unwrap();
        let frame = Frame::new(FrameBody::Payload(raw), SystemTime::UNIX_EPOCH);
        let batch = LinkBatch::new(vec![frame], cursor(77_777_777_777_777_000 + n), Coverage::Pushed);
        Ok(LinkEvent::Batch(batch.of(of.into())))
    };
    let world = World::new();
    let mut subscription = world.start().await;
    world.transport.opened(1).await;
    world.transport.feed(1, batch(1, "another"));
    settle().await;
    assert_eq!(subscription.status().current().phase, Phase::Connecting);
    world.transport.feed(1, batch(2, "sub-1"));
    world.transport.feed(1, batch(3, "another"));
    assert_eq!(next_uuid(&mut subscription).await, 2);
    phase(&subscription, Phase::Live).await;
    settle().await;
    assert!(is_quiet(&mut subscription));
    world.transport.feed(1, Err(unavailable()));
    world.transport.opened(2).await;
    assert_eq!(world.transport.target(2).cursor, cursor(77_777_777_777_777_002));
    world.transport.feed(2, batch(4, "sub-1"));
    world.transport.feed(2, batch(5, "another"));
    let unread = subscription.close().await.unread;
    let events = unread.iter().filter(|it| matches!(it, Delivery::Notification(_))).count();
    assert_eq!(events, 1, "at the end, too: {unread:?}");
}

#[tokio::test(start_paused = true)]
async fn p3_a_link_continues_where_the_last_one_stopped() {
    let world = World::new();
    let mut subscription = world.live().await;
    let batch = LinkBatch::new(vec![], cursor(77_777_777_777_777_777), Coverage::Pushed);
    world.transport.feed(1, Ok(LinkEvent::Batch(batch)));
    settle().await;
    world.transport.feed(1, Err(unavailable()));
    phase(&subscription, Phase::Reconnecting).await;
    world.transport.opened(2).await;
    let target = world.transport.target(2);
    assert_eq!(target.cursor, cursor(77_777_777_777_777_777));
    assert!(target.last_good.is_some());
    world.up(&subscription, 2).await;
    assert!(is_quiet(&mut subscription), "nothing was lost, so nothing is told");
}

#[tokio::test(start_paused = true)]
async fn p3_a_resume_token_continues_where_the_reader_stopped() {
    let world = World::new();
    let mut subscription = world.builder().on_drop(OnDrop::Keep).start().await.unwrap();
    world.up(&subscription, 1).await;
    world.transport.events(1, [1, 2]);
    assert_eq!(next_uuid(&mut subscription).await, 1);
    assert_eq!(next_uuid(&mut subscription).await, 2);
    world.transport.events(1, [3, 4]);
    assert_eq!(next_uuid(&mut subscription).await, 3); // of a batch that is not yet all read
    let token = subscription.resume_token().unwrap().to_string();
    drop(subscription);
    settle().await;
    assert_eq!(world.control.alive(), ["sub-1"], "kept");
    assert_eq!(world.transport.parted(), 0, "no good-bye, which might end a session that is to be gone on with");

    let mut subscription = world.builder().resume(token.parse().unwrap()).start().await.unwrap();
    world.up(&subscription, 2).await;
    let target = world.transport.target(2);
    assert_eq!(target.cursor.detail(), Some("7"));
    assert!(target.last_good.is_some(), "so that the link can tell whether the pause was too long");
    world.transport.events(2, [3, 4, 5]); // the service repeats the batch
    assert_eq!(next_uuid(&mut subscription).await, 4);
    assert_eq!(next_uuid(&mut subscription).await, 5);
    assert_eq!(creates(&world.control), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_transport_names_the_way_out() {
    let world = World::new();
    world.control.script("create", Script::Fail(Error::new(ErrorKind::TransportRefused, "no").with_status(403)));
    let error = world.builder().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TransportRefused);
    assert!(error.to_string().contains("WebSocket"), "{error}");
    assert_eq!(creates(&world.control), 1, "not repeated");
}

#[tokio::test(start_paused = true)]
async fn a_permission_that_is_taken_away_for_long_ends_the_stream_with_its_error() {
    let world = World::new();
    let mut subscription = world.live().await;
    let denied = || Error::new(ErrorKind::Permission, "no").with_permission(Some("ReadMessages".into()));
    for verb in ["renew", "create"] {
        (0..999).for_each(|_| world.control.script(verb, Script::Fail(denied())));
    }
    assert_eq!(next_gap(&mut subscription).await.cause, GapCause::LeaseExpired);
    let error = timeout(secs(900), subscription.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.permission()), (ErrorKind::Permission, Some("ReadMessages")));
    // PubNub ran: nothing is said of its withdrawal.
    assert!(!error.to_string().contains("withdrawn"), "{error}");
    assert!(subscription.next().await.is_none(), "an error is the last item");
    assert!(subscription.next().await.is_none());
    assert_eq!(world.control.alive(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn found_6_4_a_transient_refusal_of_what_worked_does_not_end_the_subscription() {
    let refused = |kind: ErrorKind| Error::new(kind, "no").with_status(403);
    for kind in [ErrorKind::Auth, ErrorKind::Permission, ErrorKind::TransportRefused, ErrorKind::Rejected] {
        // A renewal is repeated.
        let world = World::new();
        let mut subscription = world.live().await;
        (0..3).for_each(|_| world.control.script("renew", Script::Fail(refused(kind))));
        sleep(secs(870)).await;
        assert!(is_quiet(&mut subscription), "{kind}");
        assert_eq!(subscription.status().current().phase, Phase::Live);
        assert_eq!(creates(&world.control), 1);
        // One that stays refused leads to another subscription.
        (0..99).for_each(|_| world.control.script("renew", Script::Fail(refused(kind))));
        (0..3).for_each(|_| world.control.script("create", Script::Fail(refused(kind))));
        assert_eq!(next_gap(&mut subscription).await.cause, GapCause::LeaseExpired, "{kind}");
        world.up(&subscription, 2).await;
        next_resumed(&mut subscription).await;
    }
    // Whatever asks for another token: the login is not refused.
    let world = World::new();
    let mut subscription = world.live().await;
    let spent = || Error::new(ErrorKind::Auth, "401").with_status(401).with_disposition(Disposition::Refresh);
    (0..3).for_each(|_| world.control.script("renew", Script::Fail(spent())));
    sleep(secs(870)).await;
    assert!(is_quiet(&mut subscription));
    // A login that is refused is the end, at once.
    let world = World::new();
    let mut subscription = world.live().await;
    world.control.script("renew", Script::Fail(Error::new(ErrorKind::Auth, "invalid_grant").of_login()));
    let error = timeout(secs(900), subscription.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth);
}

#[tokio::test(start_paused = true)]
async fn found_6_11_an_unanswered_deletion_is_repeated_within_the_deadline() {
    for hang in [1, 2] {
        let world = World::new();
        let subscription = world.live().await;
        (0..hang).for_each(|_| world.control.script("delete", Script::Slow(secs(3600))));
        let began = Instant::now();
        let closed = subscription.close().await;
        assert!(closed.deleted && world.control.alive().is_empty(), "{closed:?}");
        assert!(began.elapsed() <= secs(10), "{:?}", began.elapsed());
    }
    // What is slow is not cut off, and what was carried out without an answer is gone.
    let world = World::new();
    let subscription = world.live().await;
    world.control.script("delete", Script::Slow(secs(8)));
    (0..2).for_each(|_| world.control.script("delete", Script::Slow(secs(3600))));
    assert!(subscription.close().await.deleted);
    let world = World::new();
    let subscription = world.live().await;
    world.control.script("delete", Script::Late(secs(3600)));
    let closed = subscription.close().await;
    assert!(closed.deleted && closed.unread.is_empty(), "{closed:?}");
}

#[tokio::test(start_paused = true)]
async fn found_6_12_a_start_ends_within_its_bound_farewell_included() {
    let garbled = || Error::new(ErrorKind::Protocol, "x").with_status(200).with_ambiguous(true);
    for within in [1, 4, 20] {
        for hangs in [false, true] {
            let world = World::new();
            if hangs {
                world.control.script("create", Script::Late(secs(3600)));
            }
            (0..999).for_each(|_| world.control.script("create", Script::Fail(garbled())));
            for verb in ["list", "delete"] {
                (0..99).for_each(|_| world.control.script(verb, Script::Slow(secs(3600))));
            }
            let began = Instant::now();
            let error = world.builder().start_within(secs(within)).start().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
            assert!(began.elapsed() <= secs(within), "{within} {hangs} {:?}", began.elapsed());
            assert!(began.elapsed() >= secs(within) / 2, "{within} {hangs} {:?}", began.elapsed());
        }
        // What it made in vain hangs, too.
        let world = World::new();
        world.control.script("create", Script::Answer(Box::new(|info| info["deliveryMode"]["address"] = "".into())));
        (0..99).for_each(|_| world.control.script("delete", Script::Slow(secs(3600))));
        let began = Instant::now();
        assert!(world.builder().start_within(secs(within)).start().await.is_err());
        assert!(began.elapsed() <= secs(within), "{within} {:?}", began.elapsed());
    }
}

/// A checkpoint whose calls of one kind are never answered.
#[derive(Debug)]
struct Stuck {
    at_load: bool,
}

#[async_trait::async_trait]
impl crate::Checkpoint for Stuck {
    async fn load(&self) -> crate::Result<Option<ResumeToken>> {
        if self.at_load { std::future::pending().await } else { Ok(None) }
    }

    async fn save(&self, _: &ResumeToken) -> crate::Result<()> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn found_6_12_a_checkpoint_that_does_not_answer_keeps_no_start_beyond_its_bound() {
    for at_load in [true, false] {
        let world = World::new();
        let began = Instant::now();
        let error = world.builder().checkpoint(Stuck { at_load }).start_within(secs(4)).start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(began.elapsed() <= secs(4), "{:?}", began.elapsed());
        sleep(secs(10)).await;
        assert!(world.control.alive().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn found_6_8_a_renewal_that_names_no_lifetime_grants_no_more_than_before() {
    let world = World::new();
    world.control.script("create", Script::Answer(Box::new(|info| info["expiresIn"] = 22.into())));
    for _ in 0..20 {
        world.control.script("renew", Script::Answer(Box::new(|info| info["expiresIn"] = serde_json::Value::Null)));
    }
    let _subscription = world.live().await;
    sleep(secs(88)).await;
    assert!((7..=13).contains(&renews(&world.control)), "{}", renews(&world.control));
}

#[tokio::test(start_paused = true)]
async fn found_6_3_a_pause_between_tries_is_in_the_status_with_its_reason() {
    let world = World::new();
    let mut builder = world.builder();
    let mut status = builder.status();
    let (warnings, _guard) = crate::waiting::Warnings::recorded();
    let asked = Disposition::Retry { after: Some(secs(40)) };
    world.control.script("create", Script::Fail(unavailable().with_disposition(asked)));
    let start = tokio::spawn(builder.start());
    let began = Instant::now();
    let waiting = status.wait_for(|status| status.waiting.is_some()).await.unwrap();
    assert_eq!((waiting.phase, waiting.waiting.unwrap().cause), (Phase::Starting, crate::WaitCause::RetryAfter));
    assert!(began.elapsed() < secs(1));
    let subscription = start.await.unwrap().unwrap();
    assert_eq!((began.elapsed(), subscription.status().current().waiting), (secs(40), None));
    let lines = warnings.lines();
    assert!(lines.len() == 1 && lines[0].contains("waiting before the next try"), "{lines:?}");
    assert!(lines[0].contains("retry_after") && lines[0].contains("seconds=40"), "{lines:?}");
    assert!(lines[0].contains("temporarily unavailable (HTTP 503) [service]"), "{lines:?}");

    // Short pauses are not told.
    let world = World::new();
    let mut builder = world.builder();
    let mut status = builder.status();
    (0..3).for_each(|_| world.control.script("create", Script::Fail(unavailable())));
    let start = tokio::spawn(builder.start());
    let told = status.wait_for(|status| status.waiting.is_some() || status.phase != Phase::Starting).await.unwrap();
    assert_eq!(told.waiting, None);
    drop(start.await.unwrap().unwrap());
    assert_eq!(warnings.lines().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_reaches_nobody_is_a_warning_at_once_and_only_then() {
    let world = World::new();
    let (warnings, _guard) = crate::waiting::Warnings::recorded();
    let unreachable = || Error::new(ErrorKind::Network, "no connection to h:9").with_help(Some("check h"));
    (0..2).for_each(|_| world.control.script("create", Script::Fail(unreachable())));
    drop(world.builder().start().await.unwrap());
    let lines = warnings.lines();
    assert!(lines.len() == 1 && lines[0].contains("no connection to h:9; check h"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn an_unusable_key_at_the_start_is_an_error_and_leaves_nothing() {
    let world = World::new();
    world.control.script(
        "create",
        Script::Answer(Box::new(|info| {
            info["deliveryMode"]["encryptionKey"] = "AAAA".into();
            info["deliveryMode"]["encryptionAlgorithm"] = "DES".into();
        })),
    );
    let error = world.builder().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Crypto);
    settle().await;
    assert_eq!(world.control.alive(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn undecodable_payloads_are_delivered_as_such_and_the_rest_arrives() {
    let world = World::new();
    let mut subscription = world.live().await;
    let odd = ["42", "\"not base64!\"", "{\"no\":\"event\"}", "null"];
    let mut payloads: Vec<String> = odd.iter().map(ToString::to_string).collect();
    payloads.insert(2, event_text(1));
    world.transport.batch(1, payloads, None);
    let (mut events, mut undecodable) = (0, 0);
    while events + undecodable < 5 {
        match next(&mut subscription).await {
            Delivery::Notification(_) => events += 1,
            Delivery::Undecodable(what) => {
                undecodable += 1;
                assert!(!what.reason.is_empty());
            }
            // What may be encrypted is a possible gap.
            Delivery::Gap(gap) => assert_eq!(gap.cause, GapCause::KeyUnknown),
            Delivery::Resumed(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((events, undecodable), (1, 4));
}

#[tokio::test(start_paused = true)]
async fn a_suspected_loss_comes_before_the_events_behind_it() {
    let world = World::new();
    let mut subscription = world.live().await;
    world.transport.events(1, [1]);
    world.transport.batch(1, vec![event_text(2)], Some(PossibleLoss::BufferFull { events: 100 }));
    assert_eq!(next_uuid(&mut subscription).await, 1);
    let gap = next_gap(&mut subscription).await;
    assert_eq!((gap.cause, gap.certainty), (GapCause::ServiceBufferFull { events: 100 }, Certainty::Possible));
    assert!(!next_resumed(&mut subscription).await.complete);
    assert_eq!(next_uuid(&mut subscription).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_reader_stopped_for_three_lifetimes_misses_nothing() {
    let world = World::new();
    let mut subscription = world.builder().buffer(NonZeroUsize::MIN).start().await.unwrap();
    world.up(&subscription, 1).await;
    for n in 0..2700 {
        world.transport.events(1, [n]);
        sleep(secs(1)).await;
    }
    assert!(renews(&world.control) >= 3, "{}", renews(&world.control));
    assert_eq!(creates(&world.control), 1);
    for n in 0..2700 {
        assert_eq!(next_uuid(&mut subscription).await, n);
    }
}

#[tokio::test(start_paused = true)]
async fn s2_a_stopped_reader_takes_bounded_memory_and_gets_one_gap() {
    let world = World::new();
    let mut subscription = world.builder().buffer(NonZeroUsize::MIN).queue_bytes(100_000).start().await.unwrap();
    world.up(&subscription, 1).await;
    for n in 0..50 {
        world.transport.events(1, n * 100..(n + 1) * 100);
        sleep(secs(60)).await;
    }
    let (mut got, mut lost, mut gaps) = (Vec::new(), 0, 0);
    while (got.len() as u64 + lost) < 5000 {
        match next(&mut subscription).await {
            Delivery::Notification(notification) => got.push(notification.uuid().unwrap().parse::<u64>().unwrap()),
            Delivery::Gap(gap) => {
                gaps += 1;
                lost += gap.lost.unwrap();
                assert_eq!(gap.cause, GapCause::Overflow);
                assert_eq!(gap.filters, [MESSAGES]);
            }
            Delivery::Resumed(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(gaps, 1);
    assert!(lost > 3000 && got.len() > 100, "{lost} {}", got.len());
    assert_eq!(got, (0..got.len() as u64).collect::<Vec<_>>());
    // Room again: events flow.
    let end = next_resumed(&mut subscription).await;
    assert!(!end.complete);
    assert_eq!(end.unrecovered.iter().map(|open| open.filter.as_str()).collect::<Vec<_>>(), [MESSAGES]);
    world.transport.events(1, [9999]);
    assert_eq!(next_uuid(&mut subscription).await, 9999);
}

#[tokio::test(start_paused = true)]
async fn found_6_13_a_reader_that_pauses_for_five_seconds_gets_everything_without_a_gap() {
    let world = World::new();
    let mut subscription = world.builder().buffer(NonZeroUsize::MIN).queue_bytes(100_000).start().await.unwrap();
    world.up(&subscription, 1).await;
    for n in 0..50 {
        world.transport.events(1, n * 100..(n + 1) * 100);
    }
    sleep(secs(5)).await;
    for n in 0..5000 {
        assert_eq!(next_uuid(&mut subscription).await, n);
    }
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn found_6_13_a_link_that_ends_while_the_queue_is_full_is_noticed() {
    let world = World::new();
    let subscription = world.builder().buffer(NonZeroUsize::MIN).queue_bytes(10_000).start().await.unwrap();
    world.up(&subscription, 1).await;
    world.transport.events(1, 0..500);
    settle().await;
    world.transport.feed(1, Err(Error::new(ErrorKind::Network, "reset")));
    sleep(secs(8)).await;
    assert_eq!(world.transport.count(), 2, "another link was opened");
    subscription.close().await;
}

/// How many deliveries each batch has that waits for the reader.
async fn batches(subscription: &mut Subscription) -> Vec<usize> {
    let mut sizes = Vec::new();
    loop {
        settle().await;
        let Ok((batch, _)) = subscription.batches.try_recv() else { return sizes };
        sizes.push(batch.iter().filter(|handed| matches!(handed, StreamItem::Delivery { .. })).count());
    }
}

#[tokio::test(start_paused = true)]
async fn what_arrives_together_is_one_batch_bounded_by_count_and_bytes() {
    let event = |n: u64, bytes: usize| {
        let body = serde_json::json!({"extensionId": 2, "text": "x".repeat(bytes)});
        serde_json::json!({"uuid": n.to_string(), "event": MESSAGES, "body": body}).to_string()
    };
    for (buffer, bytes, sizes) in [
        (256, 1, vec![100]),
        (30, 1, vec![30, 30, 30, 10]),
        (1, 1, vec![1; 100]),
        (256, 64 << 10, vec![4; 25]),
        (256, 1 << 20, vec![1; 100]),
    ] {
        let world = World::new();
        let buffer = NonZeroUsize::new(buffer).unwrap();
        let mut subscription = world.builder().buffer(buffer).queue_bytes(1 << 30).start().await.unwrap();
        world.up(&subscription, 1).await;
        assert_eq!(batches(&mut subscription).await.iter().sum::<usize>(), 0, "only the first position waits");
        world.transport.batch(1, (0..100).map(|n| event(n, bytes)).collect(), None);
        let got = batches(&mut subscription).await;
        assert_eq!(got.into_iter().filter(|size| *size > 0).collect::<Vec<_>>(), sizes, "{buffer} {bytes}");
    }
}

#[tokio::test(start_paused = true)]
async fn s6_draining_delivers_received_events_and_ends() {
    let world = World::new();
    let mut subscription = world.live().await;
    world.transport.events(1, [1, 2, 3]);
    settle().await;
    let shutdown = subscription.shutdown_handle();
    shutdown.drain();
    assert!(shutdown.finished().await);
    assert_eq!(world.control.alive(), Vec::<String>::new());
    for n in 1..=3 {
        assert_eq!(next_uuid(&mut subscription).await, n);
    }
    assert!(subscription.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn s6_events_before_the_answer_to_the_end_are_delivered() {
    let world = World::new();
    let mut subscription = world.live().await;
    world.control.script("delete", Script::Slow(secs(1)));
    // The second one comes in the moment of the answer.
    let transport = world.transport.clone();
    let last = tokio::spawn(async move {
        sleep(secs(1)).await;
        transport.feed(1, Ok(LinkEvent::Alive));
        transport.events(1, [2]);
    });
    tokio::task::yield_now().await;
    let shutdown = subscription.shutdown_handle();
    shutdown.drain();
    tokio::task::yield_now().await;
    world.transport.events(1, [1]);
    last.await.unwrap();
    assert!(shutdown.finished().await);
    for n in 1..=2 {
        assert_eq!(next_uuid(&mut subscription).await, n);
    }
    assert!(subscription.next().await.is_none());
    // A link that ends meanwhile is not opened again.
    let world = World::new();
    let subscription = world.live().await;
    world.control.script("delete", Script::Slow(secs(9)));
    let closing = tokio::spawn(subscription.close());
    settle().await;
    world.transport.feed(1, Err(Error::new(ErrorKind::Network, "cut")));
    assert!(closing.await.unwrap().deleted);
    assert_eq!(world.transport.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn s6_discarding_reports_the_count() {
    let world = World::new();
    let mut subscription = world.builder().buffer(NonZeroUsize::MIN).start().await.unwrap();
    world.up(&subscription, 1).await;
    assert!(is_quiet(&mut subscription)); // takes the first mark
    world.transport.events(1, 0..10);
    settle().await;
    let shutdown = subscription.shutdown_handle();
    shutdown.discard();
    assert!(shutdown.finished().await);
    assert_eq!(next_uuid(&mut subscription).await, 0); // was handed out already
    let gap = next_gap(&mut subscription).await;
    assert_eq!((gap.cause, gap.lost), (GapCause::Discarded, Some(9)));
    assert!(subscription.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn closing_returns_unread_events_and_deletes() {
    let world = World::new();
    let subscription = world.live().await;
    world.transport.events(1, 0..1000);
    settle().await;
    let closed = subscription.close().await;
    assert!(closed.deleted);
    assert_eq!(closed.unread.len(), 1000);
    assert_eq!(world.control.alive(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_subscription_gone_before_its_close_is_a_gap() {
    let world = World::new();
    let subscription = world.live().await;
    world.control.forget_all();
    let closed = subscription.close().await;
    assert!(closed.deleted);
    let [Delivery::Gap(gap)] = &closed.unread[..] else { panic!("{:?}", closed.unread) };
    assert_eq!((&gap.cause, gap.certainty), (&GapCause::SubscriptionGone, Certainty::Certain));
    assert!(gap.since.is_some() && gap.since <= gap.until, "{gap:?}");

    // A deletion that was carried out and not answered is no such sign.
    let world = World::new();
    let subscription = world.live().await;
    world.control.script("delete", Script::Lose(Error::new(ErrorKind::Timeout, "no answer").with_ambiguous(true)));
    let closed = subscription.close().await;
    assert_eq!(deletes(&world.control).len(), 2);
    assert!(closed.deleted && closed.unread.is_empty(), "{:?}", closed.unread);
}

/// A renewal whose answer is lost may move the subscription: events at the new address were never read.
#[tokio::test(start_paused = true)]
async fn an_address_that_moved_unnoticed_before_the_close_is_a_possible_gap() {
    let world = World::new();
    let subscription = world.live().await;
    world.control.move_to("chan-2");
    let closed = subscription.close().await;
    assert!(closed.deleted);
    let [Delivery::Gap(gap)] = &closed.unread[..] else { panic!("{:?}", closed.unread) };
    assert_eq!((&gap.cause, gap.certainty), (&GapCause::AddressMoved, Certainty::Possible));
    assert!(gap.since.is_some() && gap.since <= gap.until, "{gap:?}");
}

#[tokio::test(start_paused = true)]
async fn a_gap_begins_when_the_subscription_was_last_known_to_be_served() {
    let clock = {
        let (began, real) = (Instant::now(), crate::clock::wall_now());
        Clock::from_fn(move || real + began.elapsed())
    };
    let made = crate::clock::wall_now();
    let world = World::new();
    world.control.refuse("get");
    let mut subscription = world.builder().clock(clock.clone()).on_drop(OnDrop::Keep).start().await.unwrap();
    world.up(&subscription, 1).await;
    world.control.forget_all();
    // The quiet of an address that nobody publishes to.
    for _ in 0..10 {
        sleep(secs(30)).await;
        world.transport.events(1, []);
    }
    settle().await;
    assert!(is_quiet(&mut subscription));
    let token = subscription.resume_token().unwrap();
    let gap = next_gap(&mut subscription).await;
    assert_eq!(gap.cause, GapCause::SubscriptionGone);
    assert!(gap.since.unwrap() < made, "what was on its way counts: {gap:?}");

    // Nor does a restart make it later.
    drop(subscription);
    world.control.allow("get");
    world.control.forget_all();
    let mut subscription = world.builder().clock(clock).resume(token).start().await.unwrap();
    let gap = next_gap(&mut subscription).await;
    assert_eq!(gap.cause, GapCause::SubscriptionGone);
    assert!(gap.since.unwrap() < made, "what was on its way counts: {gap:?}");
}

#[tokio::test(start_paused = true)]
async fn closing_is_bounded_when_the_service_is_silent() {
    let world = World::new();
    let subscription = world.live().await;
    (0..9).for_each(|_| world.control.script("delete", Script::Slow(secs(3600))));
    let began = Instant::now();
    let closed = subscription.close().await;
    assert!(!closed.deleted);
    assert!(began.elapsed() <= secs(10), "{:?}", began.elapsed());
    // A former subscription that is still being deleted adds nothing.
    let world = World::new();
    let mut subscription = world.builder().close_within(secs(2)).start().await.unwrap();
    world.up(&subscription, 1).await;
    (0..99).for_each(|_| world.control.script("renew", Script::Fail(unavailable())));
    (0..9).for_each(|_| world.control.script("delete", Script::Slow(secs(3600))));
    assert_eq!(next_gap(&mut subscription).await.cause, GapCause::LeaseExpired);
    world.up(&subscription, 2).await;
    let began = Instant::now();
    assert!(!subscription.close().await.deleted);
    assert!(began.elapsed() <= secs(2), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn l9_dropping_deletes_in_the_background_and_keeping_does_not() {
    let world = World::new();
    drop(world.live().await);
    settle().await;
    assert_eq!(world.control.alive(), Vec::<String>::new());
    assert!(!world.transport.is_open(1));

    let world = World::new();
    let subscription = world.builder().on_drop(OnDrop::Keep).start().await.unwrap();
    drop(subscription);
    settle().await;
    assert_eq!(world.control.alive(), ["sub-1"]);
}

#[test]
fn dropping_after_the_runtime_is_gone_is_safe() {
    let world = World::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut subscription = runtime.block_on(world.start());
    let shutdown = subscription.shutdown_handle();
    drop(runtime);
    shutdown.drain();
    let ended = subscription.next().now_or_never().unwrap().unwrap().unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::Internal);
    assert!(subscription.next().now_or_never().unwrap().is_none());
    drop(subscription);
}

#[tokio::test(start_paused = true)]
async fn s1_a_panic_of_one_reader_stops_no_other_reader() {
    let world = World::new();
    let other_world = World::new();
    let mut other = other_world.live().await;
    let mut subscription = world.live().await;
    world.transport.events(1, [1]);
    let reader = tokio::spawn(async move {
        next_uuid(&mut subscription).await;
        panic!("the handler's own");
    });
    assert!(reader.await.unwrap_err().is_panic());
    settle().await;
    assert_eq!(world.control.alive(), Vec::<String>::new(), "its subscription is deleted");
    other_world.transport.events(1, [5]);
    assert_eq!(next_uuid(&mut other).await, 5);
}

#[tokio::test(start_paused = true)]
async fn a_sleep_of_the_machine_is_noticed_and_everything_checked() {
    let world = World::new();
    let slept = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (began, real) = (Instant::now(), crate::clock::wall_now());
    let clock = Clock::from_fn({
        let slept = slept.clone();
        move || real + began.elapsed() + secs(slept.load(std::sync::atomic::Ordering::SeqCst))
    });
    let subscription = world.builder().clock(clock).start().await.unwrap();
    world.up(&subscription, 1).await;
    sleep(secs(60)).await;
    assert_eq!(renews(&world.control), 0, "time that merely passes is no sleep");
    slept.store(3600, std::sync::atomic::Ordering::SeqCst);
    sleep(secs(31)).await;
    assert_eq!(renews(&world.control), 1);
    assert_eq!(world.transport.count(), 2);
    assert!(!world.transport.is_open(1));
}

#[tokio::test(start_paused = true)]
async fn found_8_a_subscription_in_a_state_that_is_not_active_is_replaced_on_every_transport() {
    for status in ["Blacklisted", "Suspended", "Blocked", "of another year"] {
        for transport in [World::new().transport, FakeTransport::in_connection()] {
            let world = World { control: FakeControl::new(), transport };
            let mut subscription = world.live().await;
            world.transport.events(1, [1]);
            next_uuid(&mut subscription).await;
            world.control.script("renew", Script::Answer(Box::new(move |info| info["status"] = status.into())));
            assert_eq!(next_gap(&mut subscription).await.cause, GapCause::SubscriptionInactive, "{status}");
            world.up(&subscription, 2).await;
            settle().await;
            assert_eq!(world.control.alive(), ["sub-2"], "{status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn status_reports_the_phase_and_the_errors() {
    let world = World::new();
    let subscription = world.live().await;
    let mut status = subscription.status();
    assert!(status.current().is_healthy() && status.current().last_error.is_none());
    world.transport.feed(1, Err(unavailable()));
    let now = status.wait_for(|status| status.phase == Phase::Reconnecting).await.unwrap();
    assert_eq!((now.failed_attempts, now.last_error.unwrap().status()), (1, Some(503)));
    world.up(&subscription, 2).await;
    assert!(status.current().last_error.is_none());
    drop(subscription);
    assert!(status.wait_for(|status| status.phase == Phase::Closed).await.unwrap().deleted);
}

#[tokio::test(start_paused = true)]
async fn the_reported_end_of_the_lease_changes_only_with_the_lease() {
    let world = World::new();
    let subscription = world.live().await;
    let mut status = subscription.status();
    let told = status.current().expires_at;
    assert!(told.is_some());
    world.transport.feed(1, Err(unavailable()));
    phase(&subscription, Phase::Reconnecting).await;
    assert_eq!(status.current().expires_at, told);
    world.up(&subscription, 2).await;
    assert_eq!(status.current().expires_at, told);
    timeout(secs(3600), status.wait_for(|status| status.expires_at != told)).await.expect("in time");
    assert_eq!(renews(&world.control), 1);
}

#[tokio::test(start_paused = true)]
async fn a7_debug_of_a_subscription_shows_no_secret() {
    let world = World::new();
    world.control.move_to("secret-channel");
    world.control.encrypt_with("pdj+XYIRRBryWS2k33qXiA==");
    let subscription = world.live().await;
    let target = world.transport.target(1);
    let shown = format!(
        "{subscription:?} {:?} {:?} {:?} {target:?}",
        subscription.handle(),
        subscription.shutdown_handle(),
        subscription.resume_token()
    );
    for secret in ["secret-channel", "sub-c", "pdj+"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn settings_that_cannot_work_are_refused_before_anything_is_sent() {
    let world = World::new();
    let none: [EventFilter; 0] = [];
    let builders = [
        SubscriptionBuilder::new(world.control.clone(), [filter(MESSAGES)]),
        SubscriptionBuilder::new(world.control.clone(), none).transport(world.transport.clone()),
        world.builder().expires_in(Duration::ZERO),
        world.builder().queue_bytes(0),
        world.builder().renewal(crate::policy::RenewalPolicy::default().min_lead(secs(1000))),
    ];
    for builder in builders {
        assert_eq!(builder.start().await.unwrap_err().kind(), ErrorKind::Config);
    }
    assert!(world.control.calls().is_empty());
    advance(secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_resume_token_names_the_address_that_was_read_not_the_newest() {
    let world = World::new();
    let mut subscription = world.builder().buffer(NonZeroUsize::MIN).start().await.unwrap();
    world.up(&subscription, 1).await;
    world.transport.events(1, [1]);
    assert_eq!(next_uuid(&mut subscription).await, 1);
    settle().await;
    world.transport.events(1, [2, 3, 4]); // not read
    let before = subscription.resume_token();
    world.control.move_to("chan-2");
    world.transport.opened(2).await;
    world.transport.events(2, [5]);
    settle().await;
    assert_eq!(next_uuid(&mut subscription).await, 2);
    let token = subscription.resume_token().unwrap();
    assert_eq!(token.address, before.map_or_else(|| token.address.clone(), |before| before.address));
    drop(subscription);
    settle().await;

    // So whoever resumes with it is told that what lay at the former place may be lost.
    world.control.plant("sub-1", &[MESSAGES]);
    let mut subscription = world.builder().resume(token).start().await.unwrap();
    assert_eq!(next_gap(&mut subscription).await.cause, GapCause::AddressMoved);
}

#[tokio::test(start_paused = true)]
async fn a_resume_token_has_the_time_of_the_last_read_event() {
    let clock = {
        let (began, real) = (Instant::now(), crate::clock::wall_now());
        Clock::from_fn(move || real + began.elapsed())
    };
    let world = World::new();
    let mut subscription = world.builder().buffer(NonZeroUsize::MIN).clock(clock).start().await.unwrap();
    world.up(&subscription, 1).await;
    world.transport.events(1, [1]);
    settle().await;
    world.transport.events(1, [2, 3]);
    assert_eq!(next_uuid(&mut subscription).await, 1);
    sleep(secs(600)).await;
    assert_eq!(next_uuid(&mut subscription).await, 2); // which comes behind the first mark
    let token = subscription.resume_token().unwrap();
    let age = crate::clock::wall_now().duration_since(token.proven.get(Loss::Read)).unwrap_or_default();
    assert!(age < secs(60), "by the wall clock of the answer, {age:?}");
}

#[tokio::test(start_paused = true)]
async fn repetitions_from_before_the_last_mark_are_recognised_after_a_restart() {
    let world = World::new();
    let mut subscription = world.builder().on_drop(OnDrop::Keep).start().await.unwrap();
    world.up(&subscription, 1).await;
    world.transport.events(1, [1, 2]);
    assert_eq!((next_uuid(&mut subscription).await, next_uuid(&mut subscription).await), (1, 2));
    settle().await;
    assert!(is_quiet(&mut subscription)); // takes the mark behind them
    let token = subscription.resume_token().unwrap();
    drop(subscription);
    let mut subscription = world.builder().resume(token).start().await.unwrap();
    world.up(&subscription, 2).await;
    world.transport.events(2, [1, 2, 3]); // PubNub's position may lie before its own events
    assert_eq!(next_uuid(&mut subscription).await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_named_subscription_that_is_not_ours_is_not_deleted() {
    for (path, value) in [("status", "Suspended"), ("transport", "WebHook")] {
        let world = World::new();
        world.control.plant("theirs", &[MESSAGES]);
        for verb in ["get", "renew"] {
            let change = move |info: &mut serde_json::Value| match path {
                "status" => info["status"] = value.into(),
                _ => info["deliveryMode"]["transportType"] = value.into(),
            };
            world.control.script(verb, Script::Answer(Box::new(change)));
        }
        let _outcome = world.builder().adopt("theirs".into()).start().await;
        sleep(secs(10)).await;
        assert!(world.control.alive().contains(&"theirs".to_owned()), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_creation_answered_after_the_end_is_not_left_behind() {
    let world = World::new();
    world.control.script("create", Script::Slow(secs(20)));
    assert!(timeout(secs(1), world.start()).await.is_err());
    sleep(secs(60)).await;
    assert_eq!((creates(&world.control), world.control.alive()), (1, vec![]));
}

/// Another process continues the present one, and knows of no other.
#[tokio::test(start_paused = true)]
async fn a_subscription_granted_after_a_drop_is_deleted_unless_it_is_the_present_one() {
    for (verb, left) in [("take over", &["sub-1"][..]), ("create", &[]), ("renew", &["sub-1"])] {
        let transport = if verb == "renew" { FakeTransport::default() } else { FakeTransport::in_connection() };
        let world = World { control: FakeControl::new(), transport };
        let subscription = world.builder().on_drop(OnDrop::Keep).start().await.unwrap();
        world.up(&subscription, 1).await;
        for verb in ["create", "renew"] {
            world.control.script(verb, Script::Slow(secs(20)));
        }
        match verb {
            "take over" => {
                world.transport.feed(1, Ok(LinkEvent::Leaving));
            }
            "create" => {
                world.control.forget_all();
                world.transport.feed(1, Err(Error::new(ErrorKind::SessionLost, "lost")));
            }
            _ => {}
        }
        while world.control.count(|call| matches!(call, Call::Create(..) | Call::Renew(..))) < 2 {
            sleep(secs(1)).await;
        }
        drop(subscription);
        sleep(secs(60)).await;
        assert_eq!(creates(&world.control), 1 + usize::from(verb != "renew"), "{verb}");
        assert_eq!(world.control.alive(), left, "{verb}");
    }
}

#[tokio::test(start_paused = true)]
async fn filters_that_could_not_be_set_are_set_with_the_next_renewal() {
    let world = World::new();
    world.control.plant("mine", &["/restapi/v1.0/account/1/extension/2/presence"]);
    world.control.script("update", Script::Fail(unavailable()));
    let subscription = world.builder().adopt("mine".into()).start().await.unwrap();
    world.up(&subscription, 1).await;
    sleep(secs(800)).await;
    let set = Call::Update("mine".into(), vec![MESSAGES.into()]);
    assert_eq!(world.control.count(|call| *call == set), 2);
    sleep(secs(1800)).await;
    assert_eq!(world.control.count(|call| *call == set), 2, "set once");
}

#[tokio::test(start_paused = true)]
async fn closing_after_an_error_loses_neither_the_error_nor_the_events() {
    let world = World::new();
    let subscription = world.live().await;
    world.transport.events(1, 0..5);
    world.control.script("renew", Script::Fail(Error::new(ErrorKind::Config, "no")));
    sleep(secs(900)).await;
    let closed = subscription.close().await;
    assert_eq!((closed.unread.len(), closed.error.map(|error| error.kind())), (5, Some(ErrorKind::Config)));
}

async fn next_number(subscription: &mut Subscription) -> u64 {
    match next(subscription).await {
        Delivery::Notification(notification) => {
            let body: serde_json::Value = notification.body_as().unwrap();
            body["n"].as_u64().unwrap()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_about_to_end_is_taken_over_from_with_overlap_and_each_event_once() {
    let world = World { control: FakeControl::new(), transport: FakeTransport::in_connection() };
    let mut subscription = world.live().await;
    let told = |link: usize, by: &str, numbers: &[u64]| {
        world.transport.batch(link, numbers.iter().map(|n| event_told_by(by, *n)).collect(), None);
    };
    told(1, "sub-1", &[1, 2]);
    world.transport.feed(1, Ok(LinkEvent::Leaving));
    world.transport.opened(2).await;
    assert_eq!(world.transport.target(2).subscription_id, "sub-2");
    assert!(world.transport.is_open(1), "the old one delivers on");
    world.transport.feed(2, Ok(LinkEvent::Alive));
    // Both tell what happens now, in their own words.
    told(1, "sub-1", &[3, 4]);
    told(2, "sub-2", &[3, 4, 5]);
    told(1, "sub-1", &[5, 6]);
    told(2, "sub-2", &[6, 7]);
    for n in 1..=7 {
        assert_eq!(next_number(&mut subscription).await, n);
    }
    assert_eq!(world.control.alive(), ["sub-1", "sub-2"]);
    sleep(secs(11)).await;
    settle().await;
    assert!(!world.transport.is_open(1));
    assert_eq!(world.control.alive(), ["sub-2"]);
    world.transport.placed(2, &event_told_by("sub-2", 7).replace("sub-2:7", "another"), None);
    assert_eq!(next_number(&mut subscription).await, 7, "after the overlap a repeated body is a new event");
    assert!(is_quiet(&mut subscription), "no gap");
    assert_eq!(subscription.id().unwrap(), "sub-2");
    assert!(subscription.close().await.deleted);
    assert!(world.control.alive().is_empty());
}

/// A subscription that took over from another over a new connection.
async fn taken_over(world: &World) -> Subscription {
    let subscription = world.live().await;
    world.transport.feed(1, Ok(LinkEvent::Leaving));
    world.up(&subscription, 2).await;
    sleep(secs(11)).await;
    settle().await;
    assert!(!world.transport.is_open(1));
    subscription
}

/// It may have stopped being served without a notice.
#[tokio::test(start_paused = true)]
async fn a_subscription_that_was_taken_over_from_is_asked_after() {
    use Certainty::{Certain, Possible};
    let suspended = || Script::Answer(Box::new(|info| info["status"] = "Suspended".into()));
    type Reported = Option<(GapCause, Certainty)>;
    let rows: [(Option<Script>, Reported); 4] = [
        (None, None),
        (Some(Script::Fail(gone())), Some((GapCause::SubscriptionGone, Certain))),
        (Some(suspended()), Some((GapCause::SubscriptionInactive, Certain))),
        (Some(Script::Fail(unavailable())), Some((GapCause::SubscriptionGone, Possible))),
    ];
    for (script, want) in rows {
        let world = World { control: FakeControl::new(), transport: FakeTransport::in_connection() };
        let mut subscription = world.live().await;
        sleep(secs(40)).await;
        let asked = world.control.count(|call| matches!(call, Call::Get(_)));
        if let Some(script) = script {
            world.control.script("get", script);
        }
        world.transport.feed(1, Ok(LinkEvent::Leaving));
        world.up(&subscription, 2).await;
        settle().await;
        assert_eq!(world.control.count(|call| matches!(call, Call::Get(id) if id == "sub-1")), asked + 1);
        if let Some(want) = want.clone() {
            let gap = next_gap(&mut subscription).await;
            assert_eq!((gap.cause, gap.certainty), want);
            // From when it was described last, which was at its creation.
            let length = gap.until.unwrap().duration_since(gap.since.unwrap()).unwrap();
            assert!(length >= secs(40), "{want:?} {length:?}");
            assert!(!next_resumed(&mut subscription).await.complete);
        }
        assert!(is_quiet(&mut subscription), "{want:?}");
    }
}

/// Without the service's time, this machine's clock may be ahead of it by any time.
#[tokio::test(start_paused = true)]
async fn the_cursor_at_a_new_address_reaches_back_by_the_transports_own_clock() {
    let world = World::new();
    let mut subscription = world.live().await;
    let behind = crate::clock::wall_now() - secs(7_200);
    world.transport.answer(1, Instant::now(), &[(1, behind)], behind);
    assert_eq!(next_uuid(&mut subscription).await, 1);
    world.control.move_to("chan-2");
    world.transport.opened(2).await;
    let target = world.transport.target(2);
    assert_eq!(target.address.expose(), "chan-2");
    let from = target.cursor.time();
    // The address was confirmed at most a lifetime before that answer.
    assert!(from <= behind - secs(900), "{:?}", behind.duration_since(from));
}

fn deletions(control: &FakeControl, id: &str) -> usize {
    control.count(|call| matches!(call, Call::Delete(of) if of == id))
}

#[tokio::test(start_paused = true)]
async fn the_deletion_of_a_replaced_subscription_is_repeated_until_it_is_gone() {
    let world = World { control: FakeControl::new(), transport: FakeTransport::in_connection() };
    for _ in 0..3 {
        world.control.script("delete", Script::Fail(unavailable()));
    }
    let subscription = taken_over(&world).await;
    assert_eq!(world.control.alive(), ["sub-1", "sub-2"], "its deletion failed");
    sleep(secs(8)).await;
    assert_eq!(world.control.alive(), ["sub-2"]);
    sleep(secs(600)).await;
    assert_eq!(deletions(&world.control, "sub-1"), 4);
    assert!(subscription.close().await.deleted);
}

#[tokio::test(start_paused = true)]
async fn a_close_repeats_an_earlier_failed_deletion() {
    let world = World { control: FakeControl::new(), transport: FakeTransport::in_connection() };
    world.control.refuse("delete");
    let subscription = taken_over(&world).await;
    sleep(secs(40)).await;
    world.control.allow("delete");
    assert_eq!(world.control.alive(), ["sub-1", "sub-2"]);
    assert!(subscription.close().await.deleted);
    assert!(world.control.alive().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_close_reports_failed_deletions_within_its_deadline() {
    // The subscription itself can be deleted, and the one before it never.
    let refused = || unavailable().with_disposition(Disposition::Fatal);
    for (error, within) in [(refused as fn() -> Error, 3), (unavailable as fn() -> Error, 6)] {
        let world = World { control: FakeControl::new(), transport: FakeTransport::in_connection() };
        world.control.refuse_deletion("sub-1", error);
        let subscription = taken_over(&world).await;
        let begun = Instant::now();
        let closed = subscription.close().await;
        assert!(!closed.deleted);
        assert!(begun.elapsed() < secs(within), "{:?}", begun.elapsed());
        assert_eq!(world.control.alive(), ["sub-1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_deletes_a_subscription_that_it_cannot_continue() {
    // The service has suspended it, or it lives in a session that this login cannot have.
    let suspended = || Script::Answer(Box::new(|info| info["status"] = "Suspended".into()));
    let elsewhere = || Script::Fail(Error::new(ErrorKind::NotFound, "it lives elsewhere"));
    for script in [suspended as fn() -> Script, elsewhere] {
        let world = World::new();
        let mut subscription = world.builder().on_drop(OnDrop::Keep).start().await.unwrap();
        world.up(&subscription, 1).await;
        assert!(is_quiet(&mut subscription));
        let token = subscription.resume_token().unwrap();
        drop(subscription);
        settle().await;
        // One that another process of the user made with the same filters.
        world.control.plant("other", &[MESSAGES]);
        world.control.script("get", script());
        let subscription = world.builder().resume(token).start().await.unwrap();
        world.up(&subscription, 2).await;
        settle().await;
        assert_eq!(world.control.alive(), ["other", "sub-2"]);
        assert!(subscription.close().await.deleted);
        assert_eq!(world.control.alive(), ["other"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_deletes_nothing_that_is_gone_already() {
    let world = World::new();
    let mut subscription = world.builder().on_drop(OnDrop::Keep).start().await.unwrap();
    world.up(&subscription, 1).await;
    assert!(is_quiet(&mut subscription));
    let token = subscription.resume_token().unwrap();
    drop(subscription);
    settle().await;
    world.control.forget_all();
    let subscription = world.builder().resume(token).start().await.unwrap();
    world.up(&subscription, 2).await;
    settle().await;
    assert_eq!(deletions(&world.control, "sub-1"), 0);
    assert!(subscription.close().await.deleted);
}

#[tokio::test(start_paused = true)]
async fn closing_in_the_middle_of_a_takeover_leaves_nothing_behind() {
    let world = World { control: FakeControl::new(), transport: FakeTransport::in_connection() };
    let subscription = world.live().await;
    world.transport.feed(1, Ok(LinkEvent::Leaving));
    world.transport.opened(2).await;
    subscription.close().await;
    settle().await;
    assert!(world.control.alive().is_empty(), "{:?}", world.control.alive());
}

#[tokio::test(start_paused = true)]
async fn a_lost_session_and_an_answer_too_large_are_gaps_of_their_own_name() {
    let lost = Error::new(ErrorKind::SessionLost, "the session is lost");
    let large = Error::new(ErrorKind::Protocol, "too large").with_disposition(Disposition::Recreate);
    for (error, cause) in [(lost, GapCause::SessionLost), (large, GapCause::TooLarge)] {
        let world = World { control: FakeControl::new(), transport: FakeTransport::in_connection() };
        let mut subscription = world.live().await;
        world.transport.feed(1, Err(error));
        let gap = next_gap(&mut subscription).await;
        assert_eq!((gap.cause, gap.certainty), (cause, Certainty::Certain));
        world.up(&subscription, 2).await;
        let recreated = next_resumed(&mut subscription).await.recreated.unwrap();
        assert_eq!((recreated.old, recreated.new), ("sub-1".into(), "sub-2".into()));
        settle().await;
        assert_eq!(world.control.alive(), ["sub-2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_the_service_did_not_answer_itself_says_nothing_of_the_connection() {
    let world = World { control: FakeControl::new(), transport: FakeTransport::in_connection() };
    let mut subscription = world.live().await;
    let before = crate::clock::wall_now();
    sleep(secs(800)).await;
    assert_eq!(renews(&world.control), 1);
    world.transport.feed(1, Err(Error::new(ErrorKind::SessionLost, "the session is lost")));
    let gap = next_gap(&mut subscription).await;
    assert!(gap.since.unwrap() + secs(1) <= before, "{gap:?} {before:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_uuid_the_same_text_in_two_places_is_two_events() {
    let world = World::new();
    let mut subscription = world.live().await;
    for text in [r#"{"event":"/x","body":{"a":1}}"#, "\"unreadable\""] {
        for position in [Some("1/7"), Some("2/7"), Some("1/7"), None, None] {
            world.transport.placed(1, text, position);
        }
        settle().await;
        let mut count = 0;
        while let Some(Some(delivery)) = subscription.next().now_or_never() {
            count += usize::from(matches!(delivery.unwrap(), Delivery::Notification(_) | Delivery::Undecodable(_)));
            settle().await;
        }
        assert_eq!(count, 3, "{text}");
    }
}

/// Waits until the first renewal is on its way.
async fn renewing(control: &FakeControl) {
    while renews(control) == 0 {
        sleep(secs(1)).await;
    }
}

fn deletes(control: &FakeControl) -> Vec<String> {
    let ids = control.calls().into_iter().filter_map(|call| match call {
        Call::Delete(id) => Some(id),
        _ => None,
    });
    ids.collect()
}

#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_for_a_renewal_that_hangs() {
    let world = World::new();
    let subscription = world.live().await;
    world.control.script("renew", Script::Slow(secs(3600)));
    renewing(&world.control).await;
    let before = Instant::now();
    assert!(subscription.close().await.deleted);
    assert!(before.elapsed() < secs(1), "{:?}", before.elapsed());
    assert!(world.control.alive().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_status_ends_with_the_subscription_despite_pending_calls() {
    let world = World::new();
    let subscription = world.live().await;
    // One that is made anew without an answer, which is waited for in the background.
    world.control.script("create", Script::Slow(secs(3600)));
    world.control.forget_all();
    subscription.handle().revalidate().await.unwrap();
    let creations = || world.control.count(|call| matches!(call, Call::Create(_)));
    while creations() < 2 {
        sleep(secs(1)).await;
    }
    let mut status = subscription.status();
    let before = Instant::now();
    drop(subscription.close().await);
    while status.changed().await.is_some() {}
    assert!(before.elapsed() <= secs(10), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_has_deleted_its_orphans() {
    let world = World::new();
    let no_address = Script::Answer(Box::new(|info| info["deliveryMode"]["address"] = "".into()));
    world.control.script("create", no_address);
    world.control.script("delete", Script::Slow(secs(2)));
    let error = world.builder().start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(world.control.alive().is_empty(), "by the time it is told");
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_hangs_does_not_keep_the_error_for_long() {
    let world = World::new();
    world.control.script("create", Script::Answer(Box::new(|info| info["deliveryMode"]["address"] = "".into())));
    world.control.script("delete", Script::Slow(secs(3600)));
    let before = Instant::now();
    assert!(world.builder().start().await.is_err());
    assert!(before.elapsed() <= END_WITHIN + secs(1), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_after_the_expiry_is_of_no_use_and_makes_no_harm() {
    let world = World::new();
    world.control.script("create", Script::Answer(Box::new(|info| info["expiresIn"] = 30.into())));
    let mut subscription = world.live().await;
    world.control.script("renew", Script::Slow(secs(50)));
    sleep(secs(31)).await;
    assert_eq!(next_gap(&mut subscription).await.cause, GapCause::LeaseExpired);
    world.up(&subscription, 2).await;
    next_resumed(&mut subscription).await;
    sleep(secs(100)).await;
    settle().await;
    assert_eq!(world.control.alive(), ["sub-2"]);
    assert_eq!(subscription.id().unwrap(), "sub-2");
    assert!(world.transport.is_open(2));
}

#[tokio::test(start_paused = true)]
async fn a_suspended_process_continues_from_its_last_proof() {
    let world = World::new();
    let _subscription = world.live().await;
    world.transport.events(1, [1]);
    settle().await;
    let good = Instant::now();
    // Both clocks run on while nothing of this process does, and an answer waits.
    world.transport.events(1, [2]);
    advance(secs(150)).await;
    world.transport.opened(2).await;
    let last_good = world.transport.target(2).last_good.unwrap();
    assert!(last_good <= good + super::super::clocks::CLOCK_CHECK, "{:?} after", last_good - good);
}

#[tokio::test(start_paused = true)]
async fn ending_during_an_outage_reports_events_that_may_wait() {
    let world = World::new();
    let subscription = world.live().await;
    world.transport.feed(
        1,
        Err(Error::new(ErrorKind::Network, "gone").with_disposition(Disposition::Retry { after: Some(secs(60)) })),
    );
    phase(&subscription, Phase::Reconnecting).await;
    let unread = subscription.close().await.unread;
    let [Delivery::Gap(gap)] = &unread[..] else { panic!("{unread:?}") };
    assert_eq!((gap.cause.clone(), gap.certainty), (GapCause::EndedOffline, Certainty::Possible));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_answers_nothing_any_more_does_not_keep_the_end() {
    let world = World::new();
    world.control.script("create", Script::Fail(Error::new(ErrorKind::Timeout, "no answer").with_ambiguous(true)));
    let subscription = world.live().await;
    for _ in 0..3 {
        world.control.script("delete", Script::Slow(secs(3600)));
    }
    let before = Instant::now();
    assert!(!subscription.close().await.deleted);
    assert!(before.elapsed() <= secs(11), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_called_off_leaves_nothing_behind() {
    // Not answered, answered late, waiting for the next try, and just done.
    for script in [Script::Slow(secs(3600)), Script::Slow(secs(1)), Script::Slow(secs(9)), Script::Fail(unavailable())]
    {
        let world = World::new();
        world.control.script("create", script);
        let before = Instant::now();
        let called_off = world.builder().start_unless(std::future::ready(())).await.unwrap();
        assert!(called_off.is_none());
        assert!(before.elapsed() <= secs(10), "{:?}", before.elapsed());
        // What is made after that is deleted when its answer names it.
        sleep(secs(10)).await;
        settle().await;
        assert!(world.control.alive().is_empty());
    }
    let world = World::new();
    assert!(world.builder().start_unless(std::future::pending()).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn not_ready_yet_is_awaited_at_the_start_reported_as_such_and_fatal_later() {
    let not_ready = || {
        let wait = Disposition::Retry { after: Some(secs(10)) };
        Script::Fail(
            Error::new(ErrorKind::Permission, "not ready").with_code(Some("SUB-406".into())).with_disposition(wait),
        )
    };
    let world = World::new();
    world.control.script("create", not_ready());
    let before = Instant::now();
    let mut subscription = world.live().await;
    assert!(before.elapsed() >= secs(10));
    (0..99).for_each(|_| world.control.script("create", not_ready()));
    world.control.forget_all();
    let error = loop {
        match timeout(secs(3600), subscription.next()).await.unwrap() {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("ended without a word"),
        }
    };
    assert_eq!((error.kind(), error.code()), (ErrorKind::Permission, Some("SUB-406")));

    let world = World::new();
    for _ in 0..100 {
        world.control.script("create", not_ready());
    }
    let error = world.builder().start().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code(), error.disposition()),
        (ErrorKind::Permission, Some("SUB-406"), Disposition::Fatal)
    );
}

const TEXTS: &str = "/restapi/v1.0/account/~/extension/~/message-store/instant?type=SMS";

/// A world with a catch-up source, live.
async fn with_source(world: &World, source: &FakeSource) -> Subscription {
    let builder = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS)]).transport(world.transport.clone());
    let subscription = builder.clock(paused_wall()).catch_up(source.clone()).start().await.unwrap();
    world.up(&subscription, 1).await;
    settle().await;
    subscription
}

async fn next_sms(subscription: &mut Subscription) -> (Origin, u64) {
    match next(subscription).await {
        Delivery::Notification(it) => {
            let message = it.event().message().unwrap();
            (it.origin(), message.id.as_ref().unwrap().as_str().parse().unwrap())
        }
        other => panic!("{other:?}"),
    }
}

fn push_sms(world: &World, link: usize, numbers: &[u64]) {
    world.transport.batch(link, numbers.iter().map(|n| sms_text(*n)).collect(), None);
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_filled_in_order_and_reported_complete() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = with_source(&world, &source).await;
    source.happen([1]);
    push_sms(&world, 1, &[1]);
    assert_eq!(next_sms(&mut subscription).await, (Origin::Push, 1));
    world.control.forget_all();
    sleep(secs(800)).await;
    assert_eq!(next_gap(&mut subscription).await.cause, GapCause::SubscriptionGone);
    source.happen([2, 3]);
    source.slow(secs(2));
    world.transport.opened(2).await;
    world.transport.feed(2, Ok(LinkEvent::Alive));
    // What is pushed meanwhile comes behind what was missed, and once.
    source.happen([4]);
    push_sms(&world, 2, &[4, 5]);
    for n in [2, 3, 4] {
        assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, n));
    }
    let resumed = next_resumed(&mut subscription).await;
    assert!(resumed.complete && resumed.unrecovered.is_empty());
    assert_eq!(resumed.recreated.unwrap().new, "sub-2");
    assert_eq!(next_sms(&mut subscription).await, (Origin::Push, 5));
    settle().await;
    assert!(is_quiet(&mut subscription));
    subscription.close().await;
}

/// The service writes the extension out in what it pushes, with or without `ownerId`;
/// sources find the same message under `~`.
#[tokio::test(start_paused = true)]
async fn a_pushed_message_is_not_delivered_again_when_it_is_found_under_the_own_extension() {
    for owner in ["", r#""ownerId": "2", "#] {
        let (world, source) = (World::new(), FakeSource::default());
        let mut subscription = with_source(&world, &source).await;
        source.find_under(TEXTS);
        source.happen([1, 2]);
        let texts = [1, 2].map(|n| sms_text(n).replacen('{', &format!("{{{owner}"), 1));
        let loss = PossibleLoss::BufferFull { events: 2 };
        world.transport.batch(1, vec![texts[0].clone()], None);
        assert_eq!(next_sms(&mut subscription).await, (Origin::Push, 1));
        world.transport.batch(1, vec![texts[1].clone()], Some(loss));
        assert!(matches!(next_gap(&mut subscription).await.cause, GapCause::ServiceBufferFull { .. }));
        assert_eq!(next_sms(&mut subscription).await.1, 2);
        assert!(next_resumed(&mut subscription).await.complete);
        settle().await;
        assert!(is_quiet(&mut subscription), "each message came once");
        subscription.close().await;
    }
}

/// A source's answer has the whole burst, whether it was requested for a gap or in a check.
#[tokio::test(start_paused = true)]
async fn each_of_20_000_pushed_messages_is_delivered_once_when_a_source_finds_all_of_them() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = with_source(&world, &source).await;
    source.happen(1..=20_000);
    source.slow(secs(2));
    for first in (1..20_000).step_by(1_000) {
        let numbers: Vec<u64> = (first..first + 1_000).collect();
        push_sms(&world, 1, &numbers);
        for n in numbers {
            assert_eq!(next_sms(&mut subscription).await, (Origin::Push, n));
        }
    }
    sleep(secs(60)).await;
    assert!(!source.calls().is_empty(), "a check is due after so many");
    for _ in 0..2 {
        world.transport.batch(1, Vec::new(), Some(PossibleLoss::BufferFull { events: 100 }));
        next_gap(&mut subscription).await;
        assert!(next_resumed(&mut subscription).await.complete);
    }
    settle().await;
    assert!(is_quiet(&mut subscription));
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_possible_gap_is_filled_too() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = with_source(&world, &source).await;
    source.happen([1, 2]);
    let loss = PossibleLoss::BufferFull { events: 2 };
    world.transport.batch(1, vec![sms_text(1), sms_text(2)], Some(loss));
    assert!(matches!(next_gap(&mut subscription).await.cause, GapCause::ServiceBufferFull { .. }));
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 1));
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 2));
    assert!(next_resumed(&mut subscription).await.complete);
    settle().await;
    assert!(is_quiet(&mut subscription), "the pushes tell nothing new");
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn filters_without_a_source_are_reported_as_unrecovered() {
    let (world, source) = (World::new(), FakeSource::default());
    let presence = "/restapi/v1.0/account/~/extension/~/presence";
    let builder = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS), filter(presence)]);
    let builder = builder.transport(world.transport.clone()).catch_up(source.clone());
    let mut subscription = builder.start().await.unwrap();
    world.up(&subscription, 1).await;
    world.transport.batch(1, Vec::new(), Some(PossibleLoss::BufferAged { pause: secs(300) }));
    assert_eq!(next_gap(&mut subscription).await.filters, [TEXTS, presence]);
    let resumed = next_resumed(&mut subscription).await;
    assert!(!resumed.complete);
    let open: Vec<_> = resumed.unrecovered.iter().map(|open| (open.filter.as_str(), open.closure)).collect();
    assert_eq!(open, [(presence, crate::event::GapClosure::Nothing)]);
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn polls_stand_in_for_push_that_never_came_up() {
    let (world, source) = (World::new(), FakeSource::default());
    // Its position is younger than the subscription.
    source.begin_after(secs(5));
    let builder = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS)]).transport(world.transport.clone());
    let mut subscription = builder.catch_up(source.clone()).start().await.unwrap();
    source.happen([1]);
    sleep(secs(21)).await;
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 1));
    source.happen([2]);
    sleep(secs(31)).await;
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 2));
    // It comes up, and has everything since the creation.
    let link = world.transport.count();
    world.up(&subscription, link).await;
    push_sms(&world, link, &[1, 2, 3]);
    assert_eq!(next_sms(&mut subscription).await, (Origin::Push, 3));
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn polls_stand_in_for_push_that_is_down_and_hand_back_with_each_event_once() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = with_source(&world, &source).await;
    world.transport.feed(
        1,
        Err(Error::new(ErrorKind::Network, "down").with_disposition(Disposition::Retry { after: Some(secs(200)) })),
    );
    phase(&subscription, Phase::Reconnecting).await;
    let since = Instant::now();
    source.happen([1]);
    assert!(!subscription.status().current().is_polling, "push may soon be back");
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 1));
    assert!(since.elapsed() <= secs(60), "{:?}", since.elapsed());
    assert!(subscription.status().current().is_polling);
    source.happen([2]);
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 2));
    assert!(source.calls().iter().all(|(_, missed)| *missed));
    world.up(&subscription, 2).await;
    // PubNub kept them.
    source.happen([3]);
    push_sms(&world, 2, &[1, 2, 3]);
    assert_eq!(next_sms(&mut subscription).await, (Origin::Push, 3));
    assert!(!subscription.status().current().is_polling);
    let polls = source.calls().len();
    sleep(secs(1700)).await;
    assert_eq!(source.calls().len(), polls, "push is well again");
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_holds_pushed_events_back_for_five_seconds() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = with_source(&world, &source).await;
    for _ in 0..1000 {
        source.fail(unavailable());
    }
    world.transport.batch(1, vec![sms_text(7)], Some(PossibleLoss::BufferFull { events: 1 }));
    next_gap(&mut subscription).await;
    let since = Instant::now();
    assert_eq!(next_sms(&mut subscription).await, (Origin::Push, 7));
    assert_eq!(since.elapsed(), secs(5));
    assert!(!next_resumed(&mut subscription).await.complete);
    assert!(since.elapsed() <= secs(61), "{:?}", since.elapsed());
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn closing_while_a_gap_is_being_filled_ends_it() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = with_source(&world, &source).await;
    source.slow(secs(3600));
    world.transport.batch(1, vec![sms_text(7)], Some(PossibleLoss::BufferFull { events: 1 }));
    next_gap(&mut subscription).await;
    let before = Instant::now();
    let unread = subscription.close().await.unread;
    assert!(before.elapsed() <= secs(1));
    let [Delivery::Resumed(resumed), Delivery::Notification(_)] = &unread[..] else { panic!("{unread:?}") };
    assert!(!resumed.complete);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_found_events_wait_at_the_source_without_a_reader() {
    let (world, source) = (World::new(), FakeSource::default());
    let builder = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS)]).transport(world.transport.clone());
    let mut subscription = builder.catch_up(source.clone()).queue_bytes(20_000).start().await.unwrap();
    world.up(&subscription, 1).await;
    settle().await;
    source.page(10);
    source.happen(1..=10_000);
    world.transport.batch(1, Vec::new(), Some(PossibleLoss::BufferAged { pause: secs(300) }));
    sleep(secs(30)).await;
    assert!(source.calls().len() < 100, "{} pages asked for", source.calls().len());
    next_gap(&mut subscription).await;
    for n in 1..=10_000 {
        assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, n));
    }
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn events_dropped_by_the_queue_are_queried_when_there_is_room() {
    let (world, source) = (World::new(), FakeSource::default());
    let builder = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS)]).transport(world.transport.clone());
    let builder = builder.catch_up(source.clone()).queue_bytes(4_000).buffer(NonZeroUsize::MIN);
    let mut subscription = builder.start().await.unwrap();
    world.up(&subscription, 1).await;
    settle().await;
    for n in 1..=500 {
        source.happen([n]);
        push_sms(&world, 1, &[n]);
        sleep(secs(1)).await;
    }
    let (mut got, mut gaps) = (Vec::new(), 0);
    while got.len() < 500 {
        match next(&mut subscription).await {
            Delivery::Notification(it) => {
                let message = it.event().message().unwrap().id.clone().unwrap();
                got.push(message.as_str().parse::<u64>().unwrap());
            }
            Delivery::Gap(gap) => {
                assert_eq!(gap.cause, GapCause::Overflow);
                gaps += 1;
            }
            Delivery::Resumed(resumed) => assert!(resumed.complete),
            other => panic!("{other:?}"),
        }
    }
    assert!(gaps > 0);
    assert_eq!(got, (1..=500).collect::<Vec<_>>(), "each once, in order");
    settle().await;
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_gap_begins_where_its_subscription_was_last_known_to_deliver() {
    // The connection says now and then that it is there; the subscription may be dead.
    for error in [None, Some(Error::new(ErrorKind::SessionLost, "lost"))] {
        let world = World { control: FakeControl::new(), transport: FakeTransport::in_connection() };
        let mut subscription = world.live().await;
        let link = world.transport.count();
        world.transport.batch(link, Vec::new(), None);
        settle().await;
        let (good, wall) = (Instant::now(), crate::clock::wall_now());
        for _ in 0..20 {
            sleep(secs(30)).await;
            world.transport.feed(link, Ok(LinkEvent::Alive));
        }
        settle().await;
        match error {
            Some(error) => drop(world.transport.feed(link, Err(error))),
            None => {
                world.control.forget_all();
                subscription.handle().revalidate().await.unwrap();
            }
        }
        let gap = next_gap(&mut subscription).await;
        // The wall clock does not wait in these tests, so moments are told apart by it.
        assert!(good.elapsed() >= secs(600));
        assert!(gap.since.unwrap() <= wall, "{:?}", gap.cause);
        subscription.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_cannot_be_opened_does_not_keep_the_end() {
    let world = World::new();
    let subscription = world.live().await;
    world.transport.hang();
    world.transport.feed(1, Err(Error::new(ErrorKind::Network, "gone")));
    phase(&subscription, Phase::Reconnecting).await;
    sleep(secs(1)).await;
    let (handle, before) = (subscription.shutdown_handle(), Instant::now());
    assert!(subscription.close().await.deleted && handle.finished().await);
    world.transport.released().await;
    assert!(before.elapsed() <= secs(1), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn pushes_that_wait_behind_a_gap_do_not_keep_it_from_being_filled() {
    let (world, source) = (World::new(), FakeSource::default());
    let builder = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS)]).transport(world.transport.clone());
    let mut subscription = builder.catch_up(source.clone()).queue_bytes(4_000).start().await.unwrap();
    world.up(&subscription, 1).await;
    settle().await;
    source.page(1);
    source.slow(Duration::from_millis(500));
    source.happen(1..=5);
    world.transport.batch(1, Vec::new(), Some(PossibleLoss::BufferAged { pause: secs(300) }));
    next_gap(&mut subscription).await;
    // More is pushed meanwhile than may wait.
    push_sms(&world, 1, &(100..200).collect::<Vec<_>>());
    for n in 1..=5 {
        assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, n));
    }
    assert!(next_resumed(&mut subscription).await.complete);
    assert_eq!(next_sms(&mut subscription).await, (Origin::Push, 100));
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn polling_pauses_while_its_findings_are_unread() {
    let (world, source) = (World::new(), FakeSource::default());
    let builder = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS)]).transport(world.transport.clone());
    let builder = builder.catch_up(source.clone()).queue_bytes(4_000).buffer(NonZeroUsize::MIN);
    let mut subscription = builder.start().await.unwrap();
    world.up(&subscription, 1).await;
    settle().await;
    let down = Disposition::Retry { after: Some(secs(3000)) };
    world.transport.feed(1, Err(Error::new(ErrorKind::Network, "down").with_disposition(down)));
    for n in 1..=200 {
        source.happen([n]);
        sleep(secs(10)).await;
    }
    assert!(source.calls().len() < 30, "{} polls for nobody", source.calls().len());
    for n in 1..=200 {
        assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, n));
    }
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn filters_that_are_changed_are_made_up_for_too() {
    let (world, source) = (World::new(), FakeSource::default());
    let presence = "/restapi/v1.0/account/~/extension/~/presence";
    let builder = SubscriptionBuilder::new(world.control.clone(), [filter(presence)]);
    let builder = builder.transport(world.transport.clone()).catch_up(source.clone());
    let mut subscription = builder.start().await.unwrap();
    world.up(&subscription, 1).await;
    settle().await;
    subscription.handle().update_filters([filter(TEXTS)]).await.unwrap();
    source.happen([1]);
    world.transport.batch(1, Vec::new(), Some(PossibleLoss::BufferAged { pause: secs(300) }));
    next_gap(&mut subscription).await;
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 1));
    let resumed = next_resumed(&mut subscription).await;
    let open: Vec<_> = resumed.unrecovered.iter().map(|open| open.filter.as_str()).collect();
    assert_eq!(open, [presence], "the gap begins before the change");
    // And what is no longer asked for is not.
    subscription.handle().update_filters([filter(presence)]).await.unwrap();
    let calls = source.calls().len();
    world.transport.batch(1, Vec::new(), Some(PossibleLoss::BufferAged { pause: secs(300) }));
    next_gap(&mut subscription).await;
    assert!(!next_resumed(&mut subscription).await.complete);
    assert_eq!(source.calls().len(), calls);
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_overflow_read_while_push_is_down_holds_nothing_up() {
    let (world, source) = (World::new(), FakeSource::default());
    let builder = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS)]).transport(world.transport.clone());
    let builder = builder.catch_up(source.clone()).queue_bytes(2_000).buffer(NonZeroUsize::MIN);
    let mut subscription = builder.start().await.unwrap();
    world.up(&subscription, 1).await;
    settle().await;
    push_sms(&world, 1, &(1..=100).collect::<Vec<_>>());
    push_sms(&world, 1, &(101..=200).collect::<Vec<_>>());
    // Longer than the links are left unread.
    sleep(secs(8)).await;
    let down = Disposition::Retry { after: Some(secs(3000)) };
    world.transport.feed(1, Err(Error::new(ErrorKind::Network, "down").with_disposition(down)));
    phase(&subscription, Phase::Reconnecting).await;
    let before = Instant::now();
    loop {
        match next(&mut subscription).await {
            Delivery::Resumed(resumed) => break assert!(!resumed.complete),
            Delivery::Notification(_) | Delivery::Gap(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(before.elapsed() < secs(1), "{:?}", before.elapsed());
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_repeated_finding_without_an_id_is_delivered_once() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = with_source(&world, &source).await;
    source.nameless();
    source.happen([1]);
    for _ in 0..2 {
        world.transport.batch(1, Vec::new(), Some(PossibleLoss::BufferAged { pause: secs(300) }));
    }
    let mut told = 0;
    sleep(secs(5)).await;
    while let Some(Some(delivery)) = subscription.next().now_or_never() {
        told += usize::from(matches!(delivery.unwrap(), Delivery::Notification(_)));
    }
    assert_eq!(told, 1);
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn missed_events_are_queried_from_the_gaps_beginning() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = with_source(&world, &source).await;
    world.control.forget_all();
    sleep(secs(800)).await;
    let gap = next_gap(&mut subscription).await;
    assert_eq!(gap.cause, GapCause::SubscriptionGone);
    world.transport.opened(2).await;
    world.transport.feed(2, Ok(LinkEvent::Alive));
    next_resumed(&mut subscription).await;
    let since = gap.since;
    let asked = source.asked_since();
    assert!(!asked.is_empty() && asked.iter().all(|it| *it == since), "{asked:?} {since:?}");
    subscription.close().await;
    assert_eq!(world.transport.parted(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_pages_of_a_round_have_the_same_beginning() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = with_source(&world, &source).await;
    source.page(1);
    source.slow(secs(20));
    source.happen(1..=8);
    world.transport.batch(1, Vec::new(), Some(PossibleLoss::BufferAged { pause: secs(300) }));
    // The gap is given up after a minute; its source goes on, and pushes with it.
    for _ in 0..20 {
        sleep(secs(10)).await;
        world.transport.batch(1, Vec::new(), None);
    }
    let since = source.asked_since();
    assert_eq!(since.len(), 8, "{since:?}");
    assert!(since.iter().all(|it| it.is_some() && *it == since[0]), "{since:?}");
    next_gap(&mut subscription).await;
    subscription.close().await;
}

#[path = "failover_tests.rs"]
mod failover_tests;
#[path = "health_tests.rs"]
mod health_tests;
#[path = "key_tests.rs"]
mod key_tests;
#[path = "ledger_tests.rs"]
mod ledger_tests;
#[path = "open_gap_tests.rs"]
mod open_gap_tests;
#[path = "panic_tests.rs"]
mod panics;
#[path = "poll_tests.rs"]
mod poll_tests;
#[path = "restart_tests.rs"]
mod restart;

#[test]
fn items_that_wait_for_the_reader_are_small() {
    // Each channel allocates room for 32 of these at once, and each queue for some slots.
    let (handed, mark) = (std::mem::size_of::<StreamItem>(), std::mem::size_of::<Mark>());
    assert!(handed <= 168 && mark <= 120, "{handed} {mark}");
}

#[test]
fn a_driver_and_its_owners_are_small() {
    use std::mem::size_of;
    fn future<F>(_: fn(Setup, Ports) -> F) -> usize {
        size_of::<F>()
    }
    let (driver, future) = (size_of::<Driver>(), future(run));
    for (name, bytes) in [
        ("the driver's future", future),
        ("Driver", driver),
        ("Setup", size_of::<Setup>()),
        ("Machine", size_of::<Machine>()),
        ("Intake", size_of::<Intake>()),
        ("Recovery", size_of::<Recovery>()),
        ("Active", size_of::<Active>()),
        ("Filters", size_of::<Filters<oneshot::Sender<Result<()>>>>()),
        ("Cleanup", size_of::<Cleanup>()),
        ("Routes", size_of::<Routes>()),
        ("Links", size_of::<Links<Box<dyn Link>, AbortOnDrop>>()),
        ("Calls", size_of::<Calls>()),
        ("Report", size_of::<Report>()),
    ] {
        println!("{bytes:>6} {name}");
    }
    assert!(driver <= 5120 && future <= 6144, "{driver} {future}");
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_becomes_due_while_closing_does_not_spin_the_driver() {
    let (world, source) = (World::new(), FakeSource::default());
    let builder = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS)]).transport(world.transport.clone());
    let subscription = builder.catch_up(source.clone()).close_within(secs(120)).start().await.unwrap();
    world.up(&subscription, 1).await;
    let down = Error::new(ErrorKind::Network, "down").with_disposition(Disposition::Retry { after: Some(secs(200)) });
    world.transport.feed(1, Err(down));
    sleep(secs(30)).await;
    assert!(subscription.status().current().is_polling);
    // Polls are at most 30 s apart.
    world.control.script("delete", Script::Slow(secs(100)));
    world.control.script("delete", Script::Slow(secs(100)));
    world.control.script("delete", Script::Slow(secs(100)));
    let polls = source.calls().len();
    let began = Instant::now();
    assert!(subscription.close().await.deleted);
    assert!(began.elapsed() >= secs(60), "longer than polls are apart: {:?}", began.elapsed());
    assert_eq!(source.calls().len(), polls, "no poll of a subscription that is ending");
}

#[tokio::test(start_paused = true)]
async fn a_check_that_becomes_due_when_no_source_covers_anything_does_not_spin_the_driver() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = with_source(&world, &source).await;
    let presence = filter("/restapi/v1.0/account/~/extension/~/presence");
    subscription.handle().update_filters([presence]).await.unwrap();
    sleep(secs(3 * 3600)).await;
    world.transport.events(1, [1]);
    assert_eq!(next_uuid(&mut subscription).await, 1);
    // It is checked again once it covers something.
    let calls = source.calls().len();
    subscription.handle().update_filters([filter(TEXTS)]).await.unwrap();
    sleep(secs(3600)).await;
    assert!(source.calls().len() > calls);
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_given_up_shortly_before_its_bound_does_not_spin_the_driver() {
    let world = World::new();
    world.control.script("create", Script::Slow(secs(600)));
    let start = world.builder().start_within(secs(60)).start();
    assert!(timeout(secs(54), start).await.is_err());
    // Its bound passes while the answer that names what was made is waited for.
    sleep(secs(1200)).await;
    assert_eq!(world.control.alive(), Vec::<String>::new());
}

/// A wall clock that goes with the paused one.
fn paused_wall() -> Clock {
    let (start, wall) = (Instant::now(), crate::clock::wall_now());
    Clock::from_fn(move || wall + start.elapsed())
}

/// Found 3.1: the check moved the position past what was lost before it.
#[tokio::test(start_paused = true)]
async fn a_check_between_a_loss_and_its_discovery_hides_nothing() {
    let (world, source) = (World::new(), FakeSource::default());
    source.blind_checks();
    let builder = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS)]).transport(world.transport.clone());
    let mut subscription = builder.clock(paused_wall()).catch_up(source.clone()).start().await.unwrap();
    world.up(&subscription, 1).await;
    sleep(secs(60)).await;
    source.happen([1]);
    sleep(secs(2_100)).await;
    assert_eq!(source.calls().iter().filter(|(_, missed)| !missed).count(), 1, "checked once");
    let loss = PossibleLoss::BufferFull { events: 100 };
    world.transport.batch(1, Vec::new(), Some(loss));
    let gap = next_gap(&mut subscription).await;
    assert!(gap.since.is_some());
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 1));
    assert!(next_resumed(&mut subscription).await.complete);
    subscription.close().await;
}

/// Found 3.5: what happened last may be found later only.
#[tokio::test(start_paused = true)]
async fn a_gap_is_not_complete_before_its_source_has_settled() {
    let (world, source) = (World::new(), FakeSource::default());
    source.settles_after(secs(180));
    let mut subscription = with_source(&world, &source).await;
    let loss = PossibleLoss::BufferFull { events: 100 };
    world.transport.batch(1, Vec::new(), Some(loss));
    next_gap(&mut subscription).await;
    let resumed = next_resumed(&mut subscription).await;
    assert!(!resumed.complete);
    let [open] = &resumed.unrecovered[..] else { panic!("{resumed:?}") };
    assert!(matches!(open.reason, crate::delivery::OpenReason::NotSettled { until } if until > resumed.at), "{open:?}");
    // It is asked again, and what it finds late is delivered without another gap.
    sleep(secs(150)).await;
    source.happen([1]);
    assert_eq!(next_sms(&mut subscription).await, (Origin::CatchUp, 1));
    subscription.close().await;
}

async fn update(subscription: &Subscription, filters: &[&str]) {
    let filters: Vec<EventFilter> = filters.iter().map(|text| filter(text)).collect();
    subscription.handle().update_filters(filters).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_gap_names_the_filters_that_were_taken_out_within_it() {
    let world = World::new();
    let voicemail = "/restapi/v1.0/account/~/extension/~/voicemail";
    let builder = world.builder().clock(paused_wall());
    let mut subscription = builder.start().await.unwrap();
    world.up(&subscription, 1).await;
    world.transport.answer(1, Instant::now(), &[], crate::clock::wall_now());
    settle().await;
    sleep(secs(10)).await;
    update(&subscription, &[voicemail]).await;
    sleep(secs(10)).await;
    world.transport.batch(1, Vec::new(), Some(PossibleLoss::RegionChanged));
    let gap = next_gap(&mut subscription).await;
    assert_eq!(gap.filters, [voicemail, MESSAGES], "{gap:?}");
    // Each loss of a filter is reported once.
    next_resumed(&mut subscription).await;
    sleep(secs(10)).await;
    world.transport.batch(1, Vec::new(), Some(PossibleLoss::RegionChanged));
    assert_eq!(next_gap(&mut subscription).await.filters, [voicemail]);
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_not_complete_for_a_filter_that_is_taken_out_before_its_end() {
    let (world, source) = (World::new(), FakeSource::default());
    let presence = "/restapi/v1.0/account/~/extension/~/presence";
    let builder = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS), filter(presence)]);
    let builder = builder.transport(world.transport.clone()).catch_up(source.clone());
    let mut subscription = builder.start().await.unwrap();
    world.up(&subscription, 1).await;
    settle().await;
    world.transport.feed(1, Err(gone().with_disposition(Disposition::Recreate)));
    let gap = next_gap(&mut subscription).await;
    assert_eq!(gap.filters, [TEXTS, presence]);
    world.transport.opened(2).await;
    update(&subscription, &[TEXTS]).await;
    sleep(secs(10)).await;
    world.up(&subscription, 2).await;
    let resumed = next_resumed(&mut subscription).await;
    let open: Vec<_> = resumed.unrecovered.iter().map(|open| (open.filter.as_str(), open.reason)).collect();
    assert_eq!((resumed.complete, open), (false, vec![(presence, crate::delivery::OpenReason::NoSource)]));
    // The next gap is another.
    world.transport.batch(2, Vec::new(), Some(PossibleLoss::BufferFull { events: 100 }));
    next_gap(&mut subscription).await;
    assert!(next_resumed(&mut subscription).await.complete);
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_for_other_filters_does_not_fill_a_gap() {
    let (world, source) = (World::new(), FakeSource::default());
    let builder = SubscriptionBuilder::new(world.control.clone(), [filter(TEXTS), filter(MESSAGES)]);
    let builder = builder.transport(world.transport.clone()).catch_up(source.clone());
    let mut subscription = builder.start().await.unwrap();
    world.up(&subscription, 1).await;
    settle().await;
    update(&subscription, &[MESSAGES]).await;
    source.slow(secs(20));
    world.transport.batch(1, Vec::new(), Some(PossibleLoss::BufferFull { events: 100 }));
    assert_eq!(next_gap(&mut subscription).await.filters, [MESSAGES, TEXTS]);
    sleep(secs(1)).await;
    update(&subscription, &[TEXTS, MESSAGES]).await;
    let before = source.calls().len();
    assert!(next_resumed(&mut subscription).await.complete);
    assert!(source.calls().len() > before, "the filter that is there again was not asked about");
    subscription.close().await;
}

/// Without one a gap that began soon after would be asked about by its time, which shows no changes.
#[tokio::test(start_paused = true)]
async fn a_source_gets_a_position_for_changed_filters_at_once() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = with_source(&world, &source).await;
    update(&subscription, &[TEXTS, MESSAGES]).await;
    settle().await;
    let missed: Vec<bool> = source.calls().iter().map(|(_, missed)| *missed).collect();
    assert_eq!(missed, [false], "a check");
    update(&subscription, &[MESSAGES, TEXTS]).await;
    settle().await;
    assert!(is_quiet(&mut subscription));
    subscription.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_a_change_of_filters_leaves_unserved_is_reported() {
    let world = World::new();
    let mut subscription = world.live().await;
    let disable = |info: &mut serde_json::Value| {
        info["disabledFilters"] = serde_json::json!([{"filter": "/x", "reason": "SUB-412", "message": "no"}]);
    };
    world.control.script("update", Script::Answer(Box::new(disable)));
    update(&subscription, &[MESSAGES, TEXTS]).await;
    let Delivery::FiltersDisabled(filters) = next(&mut subscription).await else { panic!() };
    assert_eq!(filters[0].filter, "/x");
    subscription.close().await;
}

/// The machine slept, and its wall clock was set back, so that it shows nothing of that. The
/// first call afterwards is one for a token.
#[tokio::test(start_paused = true)]
async fn the_time_of_any_answer_counts_for_the_end_of_a_gap() {
    let world = World::new();
    let budget = crate::http::RateBudget::new();
    world.control.shares(&budget);
    let clock = paused_wall();
    world.control.dates_by(clock.clone());
    let mut subscription = world.builder().clock(clock.clone()).start().await.unwrap();
    world.up(&subscription, 1).await;
    let asked = Instant::now();
    let (method, path) = (http::Method::POST, "/restapi/oauth/wstoken");
    let permit = budget.admit(&method, path, asked).await.unwrap();
    let awake = clock.wall() + secs(3600);
    let date = httpdate(awake);
    permit.answered(&method, path, 200, &[(http::header::DATE, date)].into_iter().collect());
    world.transport.batch(1, Vec::new(), Some(PossibleLoss::RegionChanged));
    let gap = next_gap(&mut subscription).await;
    assert!(gap.until.unwrap() >= awake - secs(1), "{gap:?} {awake:?}");
    assert!(gap.since.unwrap() < awake - secs(3500), "{gap:?} {awake:?}");
    subscription.close().await;
}

fn httpdate(at: SystemTime) -> http::HeaderValue {
    let at = ::time::OffsetDateTime::from(at).to_offset(::time::UtcOffset::UTC);
    at.format(&::time::format_description::well_known::Rfc2822).unwrap().parse().unwrap()
}

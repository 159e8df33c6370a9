//! Users' code that panics, hangs or is endless, and unbounded settings.

use super::*;
use crate::catch_up::{CatchUp, SyncPage, SyncRequest, SyncToken};
use crate::control::DeliveryModeRequest;
use crate::event::GapClosure;
use crate::kind::TransportKind;
use crate::transport::{Link, Target, Transport};

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_is_passing_trouble_that_the_status_shows() {
    let world = World::new();
    let mut subscription = world.live().await;
    let mut status = subscription.status();
    world.control.script("renew", Script::Panic);
    let shown = status.wait_for(|status| status.last_error.is_some());
    let shown = timeout(secs(900), shown).await.unwrap().unwrap();
    assert_eq!(shown.last_error.unwrap().kind(), ErrorKind::Internal);
    sleep(secs(60)).await;
    assert!(renews(&world.control) >= 2, "it was tried again");
    world.transport.events(1, [7]);
    assert_eq!(next_uuid(&mut subscription).await, 7);
    assert!(subscription.close().await.deleted);
    assert_eq!(world.control.alive(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn no_call_that_panics_once_keeps_a_subscription_from_starting_or_ending() {
    for verb in ["create", "renew", "delete"] {
        let world = World::new();
        world.control.script(verb, Script::Panic);
        let subscription = world.live().await;
        sleep(secs(900)).await;
        assert!(subscription.close().await.error.is_none(), "{verb}");
        assert_eq!(world.control.alive(), Vec::<String>::new(), "{verb}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_is_asked_again_and_the_gap_is_filled() {
    let (world, source) = (World::new(), FakeSource::default());
    source.panic(1);
    let mut subscription = world.builder().catch_up(source.clone()).start().await.unwrap();
    world.up(&subscription, 1).await;
    sleep(secs(5)).await;
    source.happen([1]);
    source.panic(2);
    world.transport.batch(1, Vec::new(), Some(PossibleLoss::BufferAged { pause: secs(300) }));
    next_gap(&mut subscription).await;
    let Delivery::Notification(found) = next(&mut subscription).await else { panic!("what the source found") };
    assert_eq!(found.origin(), Origin::CatchUp);
    assert!(next_resumed(&mut subscription).await.complete);
    assert!(subscription.close().await.deleted);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_always_panics_leaves_its_gap_open_and_nothing_else() {
    let (world, source) = (World::new(), FakeSource::default());
    source.panic(usize::MAX);
    let mut subscription = world.builder().catch_up(source.clone()).start().await.unwrap();
    world.up(&subscription, 1).await;
    world.transport.batch(1, Vec::new(), Some(PossibleLoss::BufferAged { pause: secs(300) }));
    next_gap(&mut subscription).await;
    assert!(!next_resumed(&mut subscription).await.complete);
    world.transport.events(1, [7]);
    assert_eq!(next_uuid(&mut subscription).await, 7);
    assert!(subscription.close().await.deleted);
}

#[tokio::test(start_paused = true)]
async fn a_source_whose_pages_never_end_is_cut_off_and_its_gap_is_not_complete() {
    let (world, source) = (World::new(), FakeSource::default());
    let mut subscription = world.builder().catch_up(source.clone()).start().await.unwrap();
    world.up(&subscription, 1).await;
    settle().await;
    source.endless();
    let before = source.calls().len();
    world.transport.batch(1, Vec::new(), Some(PossibleLoss::BufferAged { pause: secs(300) }));
    next_gap(&mut subscription).await;
    assert!(!next_resumed(&mut subscription).await.complete);
    assert_eq!(source.calls().len() - before, 1000, "one round, and no more");
    assert!(subscription.close().await.deleted);
}

/// A transport whose first link panics when it is read.
#[derive(Clone, Debug)]
struct Panicky(FakeTransport, Arc<std::sync::atomic::AtomicBool>);

struct PanickyLink;

#[async_trait::async_trait]
impl Link for PanickyLink {
    async fn next(&mut self) -> Result<LinkEvent> {
        panic!("a test's panic");
    }

    async fn close(self: Box<Self>) {
        panic!("a test's panic");
    }
}

#[async_trait::async_trait]
impl Transport for Panicky {
    fn kind(&self) -> TransportKind {
        self.0.kind()
    }

    fn delivery_mode(&self) -> DeliveryModeRequest {
        self.0.delivery_mode()
    }

    async fn open(&self, target: Target) -> Result<Box<dyn Link>> {
        if self.1.swap(false, std::sync::atomic::Ordering::SeqCst) {
            return Ok(Box::new(PanickyLink));
        }
        self.0.open(target).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_panics_is_replaced() {
    let world = World::new();
    let transport = Panicky(world.transport.clone(), Arc::new(true.into()));
    let builder = SubscriptionBuilder::new(world.control.clone(), [filter(MESSAGES)]).transport(transport);
    let mut subscription = builder.start().await.unwrap();
    world.up(&subscription, 1).await;
    world.transport.events(1, [7]);
    assert_eq!(next_uuid(&mut subscription).await, 7);
    assert!(subscription.close().await.deleted);
}

/// Panics where the subscription's task itself calls it, once armed.
#[derive(Clone, Debug)]
struct Bomb(Arc<std::sync::atomic::AtomicBool>);

#[async_trait::async_trait]
impl CatchUp for Bomb {
    fn name(&self) -> &'static str {
        "bomb"
    }

    fn covers(&self, _: &EventFilter) -> GapClosure {
        assert!(!self.0.load(std::sync::atomic::Ordering::SeqCst), "a test's panic");
        GapClosure::Complete
    }

    async fn begin(&self, _: &[EventFilter]) -> Result<SyncToken> {
        Ok(SyncToken::new("", SystemTime::UNIX_EPOCH))
    }

    async fn sync(&self, _: SyncRequest<'_>) -> Result<SyncPage> {
        Ok(SyncPage::new(Vec::new(), SyncToken::new("", SystemTime::UNIX_EPOCH)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_task_deletes_the_subscription_before_the_reader_learns_of_it() {
    for (keep, left) in [(OnDrop::Delete, 0), (OnDrop::Keep, 1)] {
        let (world, bomb) = (World::new(), Bomb(Arc::default()));
        let mut subscription = world.builder().catch_up(bomb.clone()).on_drop(keep).start().await.unwrap();
        world.up(&subscription, 1).await;
        settle().await;
        bomb.0.store(true, std::sync::atomic::Ordering::SeqCst);
        world.transport.batch(1, Vec::new(), Some(PossibleLoss::BufferAged { pause: secs(300) }));
        let error = loop {
            match timeout(secs(60), subscription.next()).await.unwrap().expect("an error first") {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(world.control.alive().len(), left);
        assert!(subscription.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_task_waits_for_no_service_that_does_not_answer() {
    let (world, bomb) = (World::new(), Bomb(Arc::default()));
    let mut subscription = world.builder().catch_up(bomb.clone()).start().await.unwrap();
    world.up(&subscription, 1).await;
    settle().await;
    world.control.script("delete", Script::Slow(secs(3600)));
    bomb.0.store(true, std::sync::atomic::Ordering::SeqCst);
    world.transport.batch(1, Vec::new(), Some(PossibleLoss::BufferAged { pause: secs(300) }));
    let began = Instant::now();
    while let Some(Ok(_)) = subscription.next().await {}
    assert!(began.elapsed() <= END_WITHIN + secs(1));
}

/// A setting, applied to a builder.
type Set = fn(SubscriptionBuilder) -> SubscriptionBuilder;

#[tokio::test(start_paused = true)]
async fn no_setting_of_a_subscription_panics_or_leaves_it_behind() {
    let most = NonZeroUsize::MAX;
    assert_eq!(most.get(), usize::MAX);
    let settings: [(&str, Set); 22] = [
        ("fail_over_after max", |it| it.fail_over_after(Duration::MAX)),
        ("return_after max", |it| it.fail_over_after(secs(1)).return_after(Duration::MAX)),
        ("fail_over_after 0", |it| it.fail_over_after(Duration::ZERO).return_after(Duration::ZERO)),
        ("expires_in max", |it| it.expires_in(Duration::MAX)),
        ("expires_in 0", |it| it.expires_in(Duration::ZERO)),
        ("buffer max", |it| it.buffer(NonZeroUsize::MAX)),
        ("buffer 1", |it| it.buffer(NonZeroUsize::MIN)),
        ("queue_bytes max", |it| it.queue_bytes(usize::MAX)),
        ("queue_bytes 0", |it| it.queue_bytes(0)),
        ("queue_bytes 1", |it| it.queue_bytes(1)),
        ("dedup_window max", |it| it.dedup_window(NonZeroUsize::MAX, Duration::MAX)),
        ("dedup_window least", |it| it.dedup_window(NonZeroUsize::MIN, Duration::ZERO)),
        ("start_within max", |it| it.start_within(Duration::MAX)),
        ("start_within 0", |it| it.start_within(Duration::ZERO)),
        ("close_within max", |it| it.close_within(Duration::MAX)),
        ("close_within 0", |it| it.close_within(Duration::ZERO)),
        ("poll_after max", |it| it.poll_after(Duration::MAX)),
        ("poll_after 0", |it| it.poll_after(Duration::ZERO)),
        ("poll_every max", |it| it.poll_every(Duration::MAX..=Duration::MAX)),
        ("poll_every 0", |it| it.poll_every(Duration::ZERO..=Duration::ZERO)),
        ("backoff max", |it| it.backoff(crate::policy::BackoffPolicy::new().base(Duration::MAX).cap(Duration::MAX))),
        ("renewal max", |it| {
            it.renewal(crate::policy::RenewalPolicy::default().min_lead(Duration::MAX).max_lead(Duration::MAX))
        }),
    ];
    for (name, set) in settings {
        let (world, second, source) = (World::new(), FakeTransport::default(), FakeSource::default());
        let builder = world.builder().fall_back_to(second.clone()).catch_up(source);
        let subscription = match set(builder).start().await {
            Ok(subscription) => subscription,
            Err(error) => {
                let refused = matches!(error.kind(), ErrorKind::Config | ErrorKind::Timeout);
                assert!(refused, "{name}: {error}");
                settle().await;
                assert_eq!(world.control.alive(), Vec::<String>::new(), "{name}");
                continue;
            }
        };
        world.up(&subscription, 1).await;
        world.transport.events(1, 0..3);
        // Down, with what that leads to, and up again.
        world.transport.feed(1, Err(Error::new(ErrorKind::Network, "cut")));
        sleep(secs(3)).await;
        subscription.handle().revalidate().await.unwrap();
        sleep(secs(900)).await;
        let closed = timeout(secs(3600), subscription.close()).await.expect(name);
        assert!(closed.error.is_none(), "{name}: {:?}", closed.error);
        sleep(secs(60)).await;
        assert_eq!(world.control.alive(), Vec::<String>::new(), "{name}");
    }
}

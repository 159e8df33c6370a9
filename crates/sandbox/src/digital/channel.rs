//! A channel of the platform: its state and the IO around it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serde_json::{Map, Value};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use url::Url;

use super::send;
use super::target::{SourceAt, Target};
use crate::Sandbox;
use crate::behavior::{DigitalBehavior, SignatureIn};
use crate::checks::{self, Answered, Capabilities, Lost, Rule, Run, RunEnd, Violation, Violations};
use crate::clock::later;
use crate::crawler::{Ask, Core, Crawl, Imported, Job, Received, Task, Write};
use crate::shared::Shared;
use crate::state::State;
use ringcentral_events::Secret;
use ringcentral_events::digital::{CollectionName, Date, Signer};
use ringcentral_events::{Error, ErrorKind, Result};

/// A channel of Engage Digital (RingCX Digital) in the sandbox: crawls a source, lets agents write,
/// and receives what the source sends. Created by
/// [`Sandbox::digital_channel`](crate::Sandbox::digital_channel).
///
/// Dropping it ends the crawl and removes the channel with all its contents.
#[must_use = "dropping a channel ends it"]
pub struct DigitalChannel {
    inner: Arc<Inner>,
    crawl: Option<JoinHandle<()>>,
}

struct Inner {
    shared: Arc<Shared>,
    target: Target,
    source_id: String,
    send_url: String,
    /// Serializes the runs.
    turn: tokio::sync::Mutex<()>,
}

/// The outcome of a write.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Written {
    /// The current state of the write.
    pub job: Job,
    /// The attempt; it has no steps if the write waits for the next run.
    pub run: Run,
}

impl fmt::Debug for DigitalChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigitalChannel")
            .field("source_id", &self.inner.source_id)
            .field("crawls", &self.crawl.is_some())
            .finish_non_exhaustive()
    }
}

impl Drop for DigitalChannel {
    fn drop(&mut self) {
        if let Some(crawl) = &self.crawl {
            crawl.abort();
        }
        self.inner.shared.update(|state| state.digital.0.remove(&self.inner.source_id));
    }
}

impl Sandbox {
    /// Opens a channel of Engage Digital (RingCX Digital) for your source, with the channel's API
    /// access token. See [`digital`](super).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an invalid token, as in [`Signer::new`].
    pub fn digital_channel(&self, source: SourceAt, token: impl Into<Secret>) -> Result<DigitalChannel> {
        DigitalChannel::open(&self.shared, &self.base_url, source, Signer::new(token)?)
    }
}

impl DigitalChannel {
    fn open(shared: &Arc<Shared>, base_url: &str, at: SourceAt, signer: Signer) -> Result<Self> {
        let limit = shared.lock().ctx.behavior.digital.answer_limit;
        let target = Target::new(at, limit)?;
        let source_id = shared.update(|state| {
            let source_id = format!("{:024x}", state.ctx.rng.u128(..) >> 32);
            state.digital.0.insert(source_id.clone(), Core::new(signer));
            source_id
        });
        let send_url = format!("{base_url}{}{source_id}", send::PATH);
        let (shared, turn) = (Arc::clone(shared), tokio::sync::Mutex::default());
        Ok(Self { inner: Arc::new(Inner { shared, target, source_id, send_url, turn }), crawl: None })
    }

    /// The channel's id on the platform, 24 hexadecimal digits.
    #[must_use]
    pub fn source_id(&self) -> &str {
        &self.inner.source_id
    }

    /// The URL of the Send API for this channel, on the sandbox's API server.
    #[must_use]
    pub fn send_url(&self) -> &str {
        &self.inner.send_url
    }

    /// Saves the channel as an administrator does: sends `implementation.info` and nothing else.
    /// Switches a disabled channel on again.
    pub async fn save(&self) -> Run {
        let crawl = Crawl::new(0, [Task::Info { run: false }]);
        let crawl = self.inner.drive(crawl).await;
        if !crawl.has_failed() {
            self.inner.with(|core, _| core.saved());
        }
        crawl.finish()
    }

    /// Makes one run now: `implementation.info`, the lists, referenced contents, and pending
    /// writes.
    pub async fn run(&self) -> Run {
        self.inner.run().await
    }

    /// Starts periodic runs: the first at once, then one after each gap ([`DigitalBehavior::faster`]),
    /// until the channel is dropped or [stopped](Self::stop).
    pub fn start(&mut self) {
        if self.crawl.is_none() {
            let inner = Arc::clone(&self.inner);
            self.crawl = Some(tokio::spawn(async move { inner.keep_crawling().await }));
        }
    }

    /// Stops the periodic runs and aborts the current one.
    pub async fn stop(&mut self) {
        if let Some(crawl) = self.crawl.take() {
            crawl.abort();
            let _ = crawl.await;
        }
    }

    /// The last 1000 runs, oldest first.
    #[must_use]
    pub fn runs(&self) -> Vec<Run> {
        self.inner.with(|core, _| core.runs.iter().cloned().collect())
    }

    /// Waits until at least `count` runs have ended. False after `timeout`.
    pub async fn wait_runs(&self, count: u64, timeout: Duration) -> bool {
        self.inner
            .wait(timeout, |core| core.run_count >= count && core.runs.back().is_some_and(|run| run.number >= count))
            .await
    }

    /// Waits until a content arrives. `None` after `timeout`.
    pub async fn wait_content(&self, collection: CollectionName, id: &str, timeout: Duration) -> Option<Imported> {
        self.inner.wait(timeout, |core| core.store.get(collection, id).is_some()).await;
        self.content(collection, id)
    }

    /// Whether failed runs have switched the channel off.
    #[must_use]
    pub fn is_switched_off(&self) -> bool {
        self.inner.with(|core, _| core.off)
    }

    /// The source's capabilities, once it has been asked.
    #[must_use]
    pub fn capabilities(&self) -> Option<Capabilities> {
        self.inner.with(|core, _| core.caps.clone())
    }

    /// The platform's contents of a collection, in order of arrival, including deleted ones.
    #[must_use]
    pub fn contents(&self, collection: CollectionName) -> Vec<Imported> {
        self.inner.with(|core, _| core.store.all(collection))
    }

    /// The number of contents in all collections.
    #[must_use]
    pub fn count(&self) -> usize {
        self.inner.with(|core, _| core.store.count())
    }

    /// One content.
    #[must_use]
    pub fn content(&self, collection: CollectionName, id: &str) -> Option<Imported> {
        self.inner.with(|core, _| core.store.get(collection, id).cloned())
    }

    /// The identities, by id.
    #[must_use]
    pub fn users(&self) -> Vec<Map<String, Value>> {
        self.inner.with(|core, _| core.store.users())
    }

    /// The id of a known identity that the platform may write as.
    #[must_use]
    pub fn puppet(&self) -> Option<String> {
        self.inner.with(|core, _| core.store.puppet())
    }

    /// The newest 10 000 requests to the Send API, oldest first.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.inner.with(|core, _| core.realtime.received())
    }

    /// The `since_id` of the next request for a list.
    #[must_use]
    pub fn since_id(&self, collection: CollectionName) -> Option<String> {
        self.inner.with(|core, _| core.store.since.get(&collection).cloned())
    }

    /// Performs an agent's write. It is sent at once ([`DigitalBehavior::write_at_once`]); a failed
    /// write is retried in the following runs, three attempts in all.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if no agent has such a button (the source does not declare the
    /// operation, or the content's actions lack it), or if the platform has not asked the source
    /// for its capabilities yet.
    pub async fn write(&self, write: Write) -> Result<Written> {
        self.inner.with(|core, _| {
            let caps = core
                .caps
                .as_ref()
                .ok_or_else(|| Error::new(ErrorKind::Config, "save the channel or make a run first"))?;
            write.offered(caps, &core.store)
        })?;
        self.send(write, false).await
    }

    /// Like [`write`](Self::write), but skips the check that an agent has the button.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the platform has not asked the source for its capabilities yet.
    pub async fn write_unchecked(&self, write: Write) -> Result<Written> {
        if self.capabilities().is_none() {
            return Err(Error::new(ErrorKind::Config, "save the channel or make a run first"));
        }
        self.send(write, true).await
    }

    async fn send(&self, write: Write, unchecked: bool) -> Result<Written> {
        let (number, at_once) = self.inner.shared.update(|state| {
            let at = date(state);
            let content_id = format!("{:024x}", state.ctx.rng.u128(..) >> 32);
            let at_once = state.ctx.behavior.digital.write_at_once;
            let core = state.digital.0.get_mut(&self.inner.source_id);
            core.map_or((0, false), |core| (core.enqueue(write, content_id, at, unchecked), at_once))
        });
        let mut run = Run::new(0);
        if at_once {
            run = self.inner.drive(Crawl::new(0, [Task::Job(number)])).await.finish();
        }
        let job = self.job(number).ok_or_else(|| Error::new(ErrorKind::Internal, "the channel is gone"))?;
        Ok(Written { job, run })
    }

    /// Discards the next `count` answers to writes: the source has performed them, but the platform
    /// does not know and retries.
    pub fn lose_answers(&self, count: u32) {
        self.inner.with(|core, _| core.lose = count);
    }

    /// A write by its number.
    #[must_use]
    pub fn job(&self, number: usize) -> Option<Job> {
        self.inner.with(|core, _| core.jobs.get(number).cloned())
    }

    /// All writes, in the order in which agents made them.
    #[must_use]
    pub fn jobs(&self) -> Vec<Job> {
        self.inner.with(|core, _| core.jobs.clone())
    }

    /// Repeats a successful write, a create with `retry` and its `content_id`, as after a lost
    /// answer. The source must answer as before.
    pub async fn repeat(&self, number: usize) -> Run {
        self.inner.drive(Crawl::new(0, [Task::Repeat(number)])).await.finish()
    }

    /// Requests one content (`….show`).
    pub async fn show(&self, collection: CollectionName, id: &str) -> Run {
        self.inner.drive(Crawl::new(0, [Task::Show(collection, id.to_owned())])).await.finish()
    }

    /// Lists everything from the start and compares it with the incremental lists: skipped
    /// contents, deleted ones that are still listed, created ones that are not.
    pub async fn audit(&self) -> Run {
        let _turn = self.inner.turn.lock().await;
        self.inner.drive(Crawl::audit()).await.finish()
    }

    /// Compares the platform's contents with `ids`, the true ids of the source: one violation for
    /// each that the platform lacks.
    pub fn missing<I: AsRef<str>>(
        &self,
        collection: CollectionName,
        ids: impl IntoIterator<Item = I>,
    ) -> Vec<Violation> {
        let mut violations = Violations::about(&format!("{collection}.list"));
        for id in ids {
            let id = id.as_ref();
            if self.content(collection, id).is_none() {
                violations.add(Rule::ListLost, Some(id), "the source has it, and no list gave it");
            }
        }
        violations.finish()
    }

    /// Sends forged, malformed and unusual requests, which the source must refuse or accept. They
    /// write nothing.
    pub async fn check_requests(&self) -> Run {
        let mut run = Run::new(0);
        let signer = self.inner.with(|core, _| core.signer.clone());
        for check in checks::all() {
            let (behavior, at) = self.inner.shared.update(|state| (state.ctx.behavior.digital.clone(), date(state)));
            let request = check.request(&signer, at, &self.inner.target.address());
            let started = Instant::now();
            let answered = self.inner.target.exchange(request, &behavior).await;
            run.steps.push(check.judge(&answered, started.elapsed()));
        }
        run
    }
}

impl Inner {
    /// Reads or changes the channel's state. A removed channel is empty.
    fn with<R>(&self, look: impl FnOnce(&mut Core, &DigitalBehavior) -> R) -> R {
        let state = &mut *self.shared.lock();
        let behavior = state.ctx.behavior.digital.clone();
        match state.digital.0.get_mut(&self.source_id) {
            Some(core) => look(core, &behavior),
            None => look(&mut gone(), &behavior),
        }
    }

    async fn wait(&self, timeout: Duration, mut reached: impl FnMut(&Core) -> bool) -> bool {
        let deadline = later(Instant::now(), timeout);
        let found = self.shared.wait_until(deadline, |state| {
            let core = state.digital.0.get(&self.source_id)?;
            reached(core).then_some(())
        });
        found.await.is_some()
    }

    async fn run(&self) -> Run {
        let _turn = self.turn.lock().await;
        let number = self.with(|core, _| {
            (!core.off).then(|| {
                core.run_count += 1;
                core.run_count
            })
        });
        let Some(number) = number else {
            let mut run = Run::new(0);
            run.end = RunEnd::SwitchedOff;
            return run;
        };
        let crawl = self.drive(Crawl::run(number)).await;
        let failed = crawl.has_failed();
        let run = crawl.finish();
        tracing::debug!(number, end = ?run.end, violations = run.violations().count(), "a run of the sandbox's crawler");
        self.shared.update(|state| {
            let behavior = state.ctx.behavior.digital.clone();
            if let Some(core) = state.digital.0.get_mut(&self.source_id) {
                core.ran(run.clone(), failed, &behavior);
            }
        });
        run
    }

    async fn keep_crawling(&self) {
        loop {
            self.run().await;
            let chance = self.shared.lock().ctx.rng.f64();
            let gap = self.with(|core, behavior| core.gap(behavior, chance));
            let (due, real) = {
                let state = self.shared.lock();
                let due = later(state.ctx.moment().now, gap);
                (due, state.ctx.clock.real(due))
            };
            self.shared.wait_until(real, |state| (state.ctx.moment().now >= due).then_some(())).await;
        }
    }

    /// Sends requests and feeds the answers until the crawl is done.
    async fn drive(&self, mut crawl: Crawl) -> Crawl {
        loop {
            let next = self.shared.update(|state| {
                let at = date(state);
                let behavior = state.ctx.behavior.digital.clone();
                let core = state.digital.0.get_mut(&self.source_id)?;
                let ask = crawl.next(core, &behavior)?;
                let request = request(&ask, &core.signer, at, &self.target.address(), &behavior);
                Some((ask, request, behavior))
            });
            let Some((ask, request, behavior)) = next else { return crawl };
            let started = Instant::now();
            let under_way = UnderWay { inner: self, job: job_of(&ask) };
            let mut answered: Answered = self.target.exchange(request, &behavior).await;
            let took = started.elapsed();
            if under_way.job.is_some() && self.with(|core, _| core.loses()) {
                answered = Err(Lost::Scripted);
            }
            self.shared.update(|state| {
                if let Some(core) = state.digital.0.get_mut(&self.source_id) {
                    crawl.answered(core, &behavior, ask, &answered, took);
                }
            });
            drop(under_way);
        }
    }
}

/// A write in flight. Dropping it ends the attempt, so that a cancelled caller does not leave the
/// write busy forever.
struct UnderWay<'a> {
    inner: &'a Inner,
    job: Option<usize>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let Some(number) = self.job else { return };
        self.inner.with(|core, behavior| {
            if let Some(job) = core.jobs.get_mut(number).filter(|job| job.busy) {
                job.busy = false;
                if job.status.is_open() {
                    job.fail("aborted".into(), false, behavior.attempts);
                }
            }
        });
    }
}

fn job_of(ask: &Ask) -> Option<usize> {
    match ask.task {
        Task::Job(number) | Task::Repeat(number) => Some(number),
        _ => None,
    }
}

/// The state of a removed channel.
#[allow(clippy::expect_used, reason = "a constant")]
fn gone() -> Core {
    Core::new(Signer::new("gone").expect("a constant token"))
}

/// The service's time.
fn date(state: &State) -> Date {
    let at = state.ctx.service_time(state.ctx.moment().wall);
    Date::from_system(at).unwrap_or_else(Date::now)
}

fn request(ask: &Ask, signer: &Signer, at: Date, address: &Url, behavior: &DigitalBehavior) -> Request<Bytes> {
    let body = checks::write(&ask.action, ask.params.as_ref(), at, behavior.wire);
    let signature = signer.sign(&body);
    let in_header = behavior.signature_in != SignatureIn::Query;
    let in_query = behavior.signature_in != SignatureIn::Header;
    checks::post(address, body, in_header.then_some(&*signature), in_query.then_some(&*signature))
}

//! The calls that the lifecycle requests, each with a deadline.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, BoxFuture};
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout};
use tracing::{Instrument as _, Span};

use super::lease;
use super::machine::{LinkId, Op};
use super::reconcile::Turn;
use super::source::Query;
use super::traced::traced;
use crate::catch_up::{SyncPage, SyncRequest, SyncToken};
use crate::control::{ControlPlane, CreateSubscription, Cursor, Deletion, SubscriptionInfo};
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::guard::guarded;
use crate::ids::SubscriptionId;
use crate::telemetry;
use crate::transport::{Link, Target, Transport};

/// The deadline of every call, beside the control plane's own.
const CALL_WITHIN: Duration = Duration::from_secs(60);
/// The deadline of an audit.
const AUDIT_WITHIN: Duration = Duration::from_secs(10);
/// The deadline of a request for the present key, while events wait for the answer.
const KEY_WITHIN: Duration = Duration::from_secs(5);
/// How long a subscription that another took over from is still read before it is deleted.
const FORMER_WITHIN: Duration = Duration::from_secs(8);
/// The deadline of opening a link. Longer than its parts may take together (a login, a turn within the rate, a token, a
/// connection, its first message): aborting it early could lose events that the service sends at once.
const OPEN_WITHIN: Duration = Duration::from_secs(120);
/// The link must not wait long for a login.
const OWNER_WITHIN: Duration = Duration::from_secs(2);
/// The deadline of closing a link.
const PART_WITHIN: Duration = Duration::from_secs(2);
/// How often an unanswered deletion is sent.
const DELETE_TRIES: u32 = 3;
/// The deadline of deleting an orphan.
const DISCARD_WITHIN: Duration = Duration::from_secs(30);

/// The last audit before the end may take this share of the deletion's time, and no longer than [`LAST_AUDIT_WITHIN`].
const LAST_AUDIT_SHARE: u32 = 4;
const LAST_AUDIT_WITHIN: Duration = Duration::from_secs(2);
/// The deadline of the answer that explains a jump of the wall clock.
const JUMP_WITHIN: Duration = Duration::from_secs(5);

/// The result of an operation.
pub(super) enum Done {
    /// Create, adopt, renew or update.
    Lease {
        op: Op,
        asked: Asked,
        result: Box<Result<SubscriptionInfo>>,
    },
    Pruned {
        op: Op,
        deleted: Vec<SubscriptionId>,
    },
    Deleted {
        op: Op,
        /// The service's description of the subscription just before, if it was requested.
        before: Option<Box<Result<SubscriptionInfo>>>,
        result: Result<Deletion>,
    },
    /// The service's description of a subscription that another took over from, which was requested at `taken_over`.
    Superseded {
        taken_over: Instant,
        result: Box<Result<SubscriptionInfo>>,
    },
    /// The service's answer after the wall clock jumped by this much.
    Jumped {
        by: Duration,
        asked: Instant,
        result: Box<Result<SubscriptionInfo>>,
    },
    /// The service's answer about the key of events that no known one decrypts.
    Key {
        id: SubscriptionId,
        result: Box<Result<SubscriptionInfo>>,
    },
    Opened {
        link: LinkId,
        result: Result<Box<dyn Link>>,
    },
    /// The deletion of an orphan ended; `false` if the subscription may still exist.
    Discarded {
        id: SubscriptionId,
        gone: bool,
        /// Whether another attempt may succeed.
        may_pass: bool,
    },
    /// A call that was aborted.
    BrokenOff,
    /// A link was closed.
    Parted,
    /// A source returned its first position.
    Begun {
        source: usize,
        turn: Turn,
        result: Result<SyncToken>,
    },
    /// A source returned its findings.
    Synced {
        source: usize,
        turn: Turn,
        result: Result<SyncPage>,
    },
}

/// When a call began, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) at: Instant,
    pub(super) wall: SystemTime,
}

impl Asked {
    pub(super) fn now(control: &dyn ControlPlane) -> Self {
        Self { at: Instant::now(), wall: wall(control) }
    }

    /// As its answer shows: a call waits for a login, a connection and its turn before its request is sent.
    pub(super) fn as_sent(self, answer: &SubscriptionInfo) -> Self {
        Self { at: answer.sent_at.map_or(self.at, |sent| sent.max(self.at)), ..self }
    }
}

/// The time of day by the control plane's clock.
fn wall(control: &dyn ControlPlane) -> SystemTime {
    control.system().unwrap_or_default().now()
}

pub(super) type Pending = BoxFuture<'static, Done>;

/// Aborts a call whose result is no longer needed.
pub(super) struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A call that can be aborted.
pub(super) fn abortable(call: Pending) -> (Pending, AbortOnDrop) {
    let (call, handle) = futures_util::future::abortable(call);
    (Box::pin(async move { call.await.unwrap_or(Done::BrokenOff) }), AbortOnDrop(handle))
}

/// A call of users' code, which may panic: that is a result too, and the task that waits for it cleans up as after any
/// other (found 8).
fn caught(
    what: &'static str,
    call: impl Future<Output = Done> + Send + 'static,
    otherwise: impl FnOnce(Error) -> Done + Send + 'static,
) -> Pending {
    Box::pin(async move { guarded(what, async { Ok(call.await) }).await.unwrap_or_else(otherwise) })
}

const CONTROL: &str = "the control plane";
const TRANSPORT: &str = "the transport";
const SOURCE: &str = "the catch-up source";

async fn bounded<T>(what: impl Future<Output = Result<T>>, unclear: bool) -> Result<T> {
    timeout(CALL_WITHIN, what).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Timeout, "no answer from the service within a minute").with_ambiguous(unclear))
    })
}

pub(super) fn create(control: Arc<dyn ControlPlane>, op: Op, request: CreateSubscription) -> Pending {
    let asked = Asked::now(&*control);
    let call = async move {
        let result = bounded(control.create(&request), true).await;
        Done::Lease { op, asked, result: Box::new(result) }
    };
    caught(CONTROL, call, move |error| Done::Lease { op, asked, result: Box::new(Err(error.with_ambiguous(true))) })
}

pub(super) fn replace(control: Arc<dyn ControlPlane>, op: Op, request: CreateSubscription) -> Pending {
    let asked = Asked::now(&*control);
    let call = async move {
        let result = bounded(control.replace(&request), true).await;
        Done::Lease { op, asked, result: Box::new(result) }
    };
    caught(CONTROL, call, move |error| Done::Lease { op, asked, result: Box::new(Err(error.with_ambiguous(true))) })
}

/// Refuses an answer about another subscription than the requested one: it is not proven to be ours (found 5.1).
fn about(id: &SubscriptionId, info: SubscriptionInfo) -> Result<SubscriptionInfo> {
    if info.id == *id {
        return Ok(info);
    }
    Err(Error::new(ErrorKind::Protocol, "the service answered about another subscription than it was asked about"))
}

/// `from`: where another process stopped reading.
pub(super) fn adopt(control: Arc<dyn ControlPlane>, op: Op, id: SubscriptionId, from: Option<Cursor>) -> Pending {
    let before = Asked::now(&*control);
    let call = async move {
        let found = match &from {
            Some(at) => bounded(control.resume(&id, at), false).await,
            None => bounded(control.get(&id), false).await,
        };
        let asked = Asked::now(&*control);
        let result = match found.and_then(|found| about(&id, found)) {
            Ok(found) if lease::is_served(&found) => take_over(&*control, found).await,
            other => other,
        };
        Done::Lease { op, asked, result: Box::new(result) }
    };
    caught(CONTROL, call, move |error| Done::Lease { op, asked: before, result: Box::new(Err(error)) })
}

/// Renews an adopted subscription. A renewal may omit values that the reading had.
async fn take_over(control: &dyn ControlPlane, found: SubscriptionInfo) -> Result<SubscriptionInfo> {
    let renewed = about(&found.id, bounded(control.renew(&found.id), false).await?)?;
    Ok(renewed.or(found))
}

pub(super) fn renew(control: Arc<dyn ControlPlane>, op: Op, id: SubscriptionId) -> Pending {
    let asked = Asked::now(&*control);
    let call = async move {
        let result = bounded(control.renew(&id), true).await.and_then(|info| about(&id, info));
        Done::Lease { op, asked, result: Box::new(result) }
    };
    caught(CONTROL, call, move |error| Done::Lease { op, asked, result: Box::new(Err(error)) })
}

/// Audits the subscription. An unanswered audit is repeated later.
pub(super) fn audit(control: Arc<dyn ControlPlane>, op: Op, id: SubscriptionId) -> Pending {
    let asked = Asked::now(&*control);
    let call = async move {
        let result = timeout(AUDIT_WITHIN, control.get(&id)).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, "the service did not say in time how the subscription is"))
        });
        let result = result.and_then(|info| about(&id, info));
        Done::Lease { op, asked, result: Box::new(result) }
    };
    caught(CONTROL, call, move |error| Done::Lease { op, asked, result: Box::new(Err(error)) })
}

/// Audits a subscription that another took over from at `taken_over`.
pub(super) fn audit_former(control: Arc<dyn ControlPlane>, id: SubscriptionId, taken_over: Instant) -> Pending {
    let call = async move {
        let result = timeout(FORMER_WITHIN, control.get(&id)).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, "the service did not say in time how the former subscription is"))
        });
        Done::Superseded { taken_over, result: Box::new(result.and_then(|info| about(&id, info))) }
    };
    caught(CONTROL, call, move |error| Done::Superseded { taken_over, result: Box::new(Err(error)) })
}

pub(super) fn update(control: Arc<dyn ControlPlane>, op: Op, id: SubscriptionId, filters: Vec<String>) -> Pending {
    let asked = Asked::now(&*control);
    let call = async move {
        let result = bounded(control.update(&id, &filters), true).await.and_then(|info| about(&id, info));
        Done::Lease { op, asked, result: Box::new(result) }
    };
    caught(CONTROL, call, move |error| Done::Lease { op, asked, result: Box::new(Err(error.with_ambiguous(true))) })
}

pub(super) fn prune(control: Arc<dyn ControlPlane>, op: Op, ids: Vec<SubscriptionId>) -> Pending {
    let call = async move {
        let mut deleted = Vec::new();
        for id in ids {
            match bounded(control.delete(&id), false).await {
                Ok(_) => deleted.push(id),
                Err(error) => tracing::debug!(subscription = %id, %error, "failed to delete an orphaned subscription"),
            }
        }
        Done::Pruned { op, deleted }
    };
    caught(CONTROL, call, move |_| Done::Pruned { op, deleted: Vec::new() })
}

/// `audit`: audits the subscription first, since the answer to a deletion does not show whether it was served until
/// then.
pub(super) fn delete(
    control: Arc<dyn ControlPlane>,
    op: Op,
    id: SubscriptionId,
    within: Duration,
    audit: bool,
) -> Pending {
    let call = async move {
        let began = Instant::now();
        let before = if audit {
            let patience = (within / LAST_AUDIT_SHARE).min(LAST_AUDIT_WITHIN);
            let unanswered = || Error::new(ErrorKind::Timeout, "the service did not say how the subscription is");
            // Many subscriptions that end together leave the rate group to the deletions, and report what is not
            // proven.
            let has_room = control.rate_budget().is_none_or(|budget| budget.has_room_to_audit());
            let answer = if has_room {
                timeout(patience, get_again(&*control, &id)).await.unwrap_or_else(|_| Err(unanswered()))
            } else {
                Err(unanswered())
            };
            Some(Box::new(answer.and_then(|info| about(&id, info))))
        } else {
            None
        };
        let left = within.saturating_sub(began.elapsed());
        let result = bounded(delete_again(&*control, &id, left), false).await;
        Done::Deleted { op, before, result }
    };
    caught(CONTROL, call, move |error| Done::Deleted { op, before: None, result: Err(error.with_ambiguous(true)) })
}

/// Asks for the service's time, and audits the subscription, since the wall clock jumped.
pub(super) fn judge_jump(control: Arc<dyn ControlPlane>, id: SubscriptionId, by: Duration) -> Pending {
    let asked = Instant::now();
    let call = async move {
        let result = timeout(JUMP_WITHIN, control.get(&id)).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, "the service did not answer soon after the wall clock jumped"))
        });
        let result = result.and_then(|info| about(&id, info));
        Done::Jumped { by, asked, result: Box::new(result) }
    };
    caught(CONTROL, call, move |error| Done::Jumped { by, asked, result: Box::new(Err(error)) })
}

/// Asks for the present key, beside any renewal in flight, which may never be answered.
pub(super) fn ask_for_key(control: Arc<dyn ControlPlane>, id: SubscriptionId) -> Pending {
    let asked = id.clone();
    let call = async move {
        let result = timeout(KEY_WITHIN, control.get(&id))
            .await
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "the service did not say soon which key it uses")));
        let result = result.and_then(|info| about(&id, info));
        Done::Key { id, result: Box::new(result) }
    };
    caught(CONTROL, call, move |error| Done::Key { id: asked, result: Box::new(Err(error)) })
}

/// Reads the description, a second time if the connection broke: the service may close one just when an idle client uses
/// it again.
async fn get_again(control: &dyn ControlPlane, id: &SubscriptionId) -> Result<SubscriptionInfo> {
    match control.get(id).await {
        Err(error) if error.kind() == ErrorKind::Network => control.get(id).await,
        answer => answer,
    }
}

/// Deletes it; without an answer, sends the request again after each third of `within`, without abandoning the first
/// (found 6.11).
async fn delete_again(control: &dyn ControlPlane, id: &SubscriptionId, within: Duration) -> Result<Deletion> {
    let mut under_way = FuturesUnordered::new();
    under_way.push(control.delete(id));
    for asked in 1..=DELETE_TRIES {
        let patience = if asked < DELETE_TRIES { within / DELETE_TRIES } else { Duration::MAX };
        match timeout(patience, under_way.next()).await {
            // An unanswered request may have deleted it.
            Ok(Some(Ok(_))) if asked > 1 => return Ok(Deletion::Deleted),
            Ok(Some(result)) => return result,
            Ok(None) => break,
            Err(_) => {
                tracing::debug!(subscription = %id, "the deletion is not answered: sending it again");
                under_way.push(control.delete(id));
            }
        }
    }
    Err(Error::new(ErrorKind::Timeout, "the deletion was not answered").with_ambiguous(true))
}

pub(super) fn discard(control: Arc<dyn ControlPlane>, id: SubscriptionId) -> Pending {
    let left = id.clone();
    let call = async move {
        let outcome = timeout(DISCARD_WITHIN, delete_again(&*control, &id, DISCARD_WITHIN)).await;
        let gone = matches!(outcome, Ok(Ok(_)));
        let refused = matches!(&outcome, Ok(Err(error)) if error.disposition() == Disposition::Fatal);
        Done::Discarded { id, gone, may_pass: !refused }
    };
    caught(CONTROL, call, move |_| Done::Discarded { id: left, gone: false, may_pass: true })
}

pub(super) fn open(
    control: Arc<dyn ControlPlane>,
    transport: Arc<dyn Transport>,
    link: LinkId,
    mut target: Target,
    span: Span,
) -> Pending {
    let within = span.clone();
    let call = async move {
        let opened = timeout(OPEN_WITHIN, async {
            // RingCentral's clients use the owner of the token as their name. Without it the link can still listen.
            target.user_id = match timeout(OWNER_WITHIN, control.owner_id()).await {
                Ok(Ok(owner)) => owner,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the owner of the token is not known");
                    None
                }
                Err(_) => None,
            };
            transport.open(target).await
        });
        let result = opened.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, "the transport could not be opened within two minutes"))
        });
        let result = result.map(|link| traced(link, span.clone()));
        Done::Opened { link, result: result.inspect_err(|error| telemetry::failed(&span, error)) }
    };
    let call = call.instrument(within);
    caught(TRANSPORT, call, move |error| Done::Opened { link, result: Err(error) })
}

pub(super) fn begin(Query { source, filters, .. }: Query, at: usize, turn: Turn) -> Pending {
    let call = async move {
        let result = bounded(source.begin(&filters), false).await;
        Done::Begun { source: at, turn, result }
    };
    caught(SOURCE, call, move |error| Done::Begun { source: at, turn, result: Err(error) })
}

pub(super) fn sync(Query { source, filters, token, since }: Query, at: usize, turn: Turn) -> Pending {
    let call = async move {
        let result = bounded(source.sync(SyncRequest::new(token.as_ref(), &filters, since)), false).await;
        Done::Synced { source: at, turn, result }
    };
    caught(SOURCE, call, move |error| Done::Synced { source: at, turn, result: Err(error) })
}

pub(super) fn part(link: Box<dyn Link>) -> Pending {
    let call = async move {
        if timeout(PART_WITHIN, link.close()).await.is_err() {
            tracing::debug!("a link took too long to close");
        }
        Done::Parted
    };
    caught(TRANSPORT, call, |_| Done::Parted)
}

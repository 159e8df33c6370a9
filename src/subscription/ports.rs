//! The channels between the task of a subscription, its stream and its handles.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::ending::Shutdown;
use super::progress::{Step, Traces};
use crate::auth::StoreLock;
use crate::batches::Sender;
use crate::delivery::Delivery;
use crate::error::{Error, Result};
use crate::status::Status;

/// The ends of the channels that the driver holds.
pub(super) struct Ports {
    pub(super) out: Sender<Batch>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) shutdown: watch::Receiver<Option<Shutdown>>,
    pub(super) status: watch::Sender<Status>,
    pub(super) started: Option<oneshot::Sender<Result<()>>>,
    /// Holds the checkpoint for as long as the subscription may be at the service.
    pub(super) claim: Option<Arc<StoreLock>>,
}

/// What the stream gets with one wake-up of the reader's task.
pub(super) type Batch = VecDeque<StreamItem>;

/// An item for the stream: a delivery, or a step of its position.
pub(super) enum StreamItem {
    Delivery { delivery: Delivery, traces: Traces },
    Step(Step),
    End(Error),
}

/// A request of the user. Small, since a channel allocates room for 32 of them before the first.
pub(super) enum Command {
    Update(Box<Update>),
    Revalidate,
}

const _: () = assert!(size_of::<Command>() <= 8);

/// A change of the filters.
pub(super) struct Update {
    pub(super) filters: Vec<String>,
    pub(super) answer: oneshot::Sender<Result<()>>,
}

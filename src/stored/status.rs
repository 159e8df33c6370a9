//! The stored form of states.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::form::{Moment, VERSION, check, known_version, through};
use crate::error::{Disposition, Error, ErrorKind};
use crate::ids::SubscriptionId;
use crate::kind::TransportKind;
use crate::status::{Phase, Status, Wait};
use crate::waiting::WaitCause;

#[derive(Serialize, Deserialize)]
struct WaitForm {
    until: Moment,
    cause: WaitCause,
}

impl WaitForm {
    fn of(wait: &Wait) -> Self {
        Self { until: Moment(wait.until), cause: wait.cause }
    }
}

impl TryFrom<WaitForm> for Wait {
    type Error = String;

    fn try_from(WaitForm { until, cause }: WaitForm) -> Result<Self, String> {
        Ok(Self::new(until.0, cause))
    }
}

/// How many causes of a stored error are kept apart. Each holds the next, and so does the end of each.
const CAUSES: usize = 32;

/// An error and its causes, as one text.
pub(crate) fn chain(error: &Error) -> String {
    let source = std::error::Error::source(error);
    let causes = std::iter::successors(source, |it| it.source()).map(ToString::to_string);
    std::iter::once(error.to_string()).chain(causes).collect::<Vec<_>>().join(": ")
}

/// An error without what only this process can use: its causes are texts.
#[derive(Serialize, Deserialize)]
pub(crate) struct ErrorForm {
    kind: ErrorKind,
    /// Its own text, without its causes.
    message: String,
    #[serde(default)]
    causes: Vec<String>,
    status: Option<u16>,
    code: Option<String>,
    parameter: Option<String>,
    permission: Option<String>,
    request_id: Option<String>,
    retry_after_ms: Option<u64>,
    #[serde(default)]
    ambiguous: bool,
}

impl ErrorForm {
    pub(crate) fn of(error: &Error) -> Self {
        let source = std::error::Error::source(error);
        Self {
            kind: error.kind(),
            message: error.message().to_owned(),
            causes: std::iter::successors(source, |it| it.source()).map(ToString::to_string).collect(),
            status: error.status(),
            code: error.code().map(str::to_owned),
            parameter: error.parameter().map(str::to_owned),
            permission: error.permission().map(str::to_owned),
            request_id: error.request_id().map(str::to_owned),
            retry_after_ms: error.retry_after().map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)),
            ambiguous: error.is_ambiguous(),
        }
    }

    pub(crate) fn into_error(mut self) -> Error {
        let mut error = Error::new(self.kind, self.message)
            .with_code(self.code)
            .with_parameter(self.parameter)
            .with_permission(self.permission)
            .with_request_id(self.request_id)
            .with_ambiguous(self.ambiguous);
        if let Some(status) = self.status {
            error = error.with_status(status);
        }
        if let Some(after) = self.retry_after_ms {
            error = error.with_disposition(Disposition::Retry { after: Some(Duration::from_millis(after)) });
        }
        if self.causes.len() > CAUSES {
            let rest = self.causes.split_off(CAUSES - 1);
            self.causes.push(rest.join(": "));
        }
        let cause = self.causes.into_iter().rev().fold(None, |source, text| Some(Box::new(Cause { text, source })));
        match cause {
            Some(cause) => error.with_source(*cause),
            None => error,
        }
    }
}

/// The cause of a stored error, as text.
#[derive(Debug)]
struct Cause {
    text: String,
    source: Option<Box<Self>>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

#[derive(Serialize)]
struct StatusForm<'a> {
    r#type: &'static str,
    v: u64,
    phase: Phase,
    since: Option<Moment>,
    healthy: bool,
    subscription_id: Option<&'a SubscriptionId>,
    transport: TransportKind,
    expires_at: Option<Moment>,
    polling: bool,
    poll_failing: bool,
    missing_since: Option<Moment>,
    failed_attempts: u32,
    waiting: Option<WaitForm>,
    deleted: bool,
    /// The latest error and its causes, as one text.
    error: Option<String>,
    last_error: Option<ErrorForm>,
}

impl<'a> StatusForm<'a> {
    fn of(status: &'a Status) -> Self {
        let last_error = status.last_error.as_deref();
        Self {
            r#type: "status",
            v: VERSION,
            phase: status.phase,
            since: status.since.map(Moment),
            healthy: status.is_healthy(),
            subscription_id: status.subscription_id.as_ref(),
            transport: status.transport,
            expires_at: status.expires_at.map(Moment),
            polling: status.is_polling,
            poll_failing: status.is_poll_failing,
            missing_since: status.missing_since.map(Moment),
            failed_attempts: status.failed_attempts,
            waiting: status.waiting.as_ref().map(WaitForm::of),
            deleted: status.deleted,
            error: last_error.map(chain),
            last_error: last_error.map(ErrorForm::of),
        }
    }
}

#[derive(Deserialize)]
struct StatusRead {
    #[serde(default)]
    r#type: String,
    #[serde(default, deserialize_with = "known_version")]
    v: u64,
    phase: Phase,
    #[serde(default)]
    since: Option<Moment>,
    subscription_id: Option<String>,
    transport: TransportKind,
    expires_at: Option<Moment>,
    polling: bool,
    #[serde(default)]
    poll_failing: bool,
    #[serde(default)]
    missing_since: Option<Moment>,
    failed_attempts: u32,
    waiting: Option<WaitForm>,
    deleted: bool,
    last_error: Option<ErrorForm>,
}

impl TryFrom<StatusRead> for Status {
    type Error = String;

    fn try_from(read: StatusRead) -> Result<Self, String> {
        check(&read.r#type, read.v, "status")?;
        Ok(Self {
            phase: read.phase,
            since: read.since.map(|it| it.0),
            subscription_id: read.subscription_id.map(Into::into),
            transport: read.transport,
            expires_at: read.expires_at.map(|it| it.0),
            is_polling: read.polling,
            is_poll_failing: read.poll_failing,
            missing_since: read.missing_since.map(|it| it.0),
            failed_attempts: read.failed_attempts,
            waiting: read.waiting.map(Wait::try_from).transpose()?,
            deleted: read.deleted,
            last_error: read.last_error.map(|error| Arc::new(error.into_error())),
        })
    }
}

through! {
    Wait: WaitForm, WaitForm;
    Status: StatusForm, StatusRead;
}

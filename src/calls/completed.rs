//! An ended call with everything that belongs to it.

use std::fmt;

use crate::error::Error;
use crate::event::{CallRecord, CallRecording, Message, MessageId, RecordingId, TelephonySession};

/// A call that ended, with its record in the call log, its recordings and voicemails.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CallCompleted {
    /// The call as its events describe it: the last known state of each party that was reported.
    pub session: TelephonySession,
    /// Its records. A call of several extensions may have one for each of them.
    pub records: Vec<CallRecord>,
    /// Its recordings, with the addresses of their content.
    pub recordings: Vec<CallRecording>,
    /// The voicemails that it left.
    pub voicemails: Vec<Message>,
    /// The missing parts, each with its reason. Empty if everything was found.
    pub missing: Vec<MissingPart>,
}

impl CallCompleted {
    /// Whether everything was found: the record, and each recording and voicemail that the record or the events name.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// The first record.
    #[must_use]
    pub fn record(&self) -> Option<&CallRecord> {
        self.records.first()
    }
}

/// A part of a [`CallCompleted`] that was not found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MissingPart {
    /// The part.
    pub part: CallPart,
    /// Why it is missing.
    pub reason: MissingReason,
}

impl fmt::Display for MissingPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.reason)
    }
}

/// A part of a [`CallCompleted`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallPart {
    /// The record in the call log. Without it, it is unknown whether there are recordings and voicemails.
    Record,
    /// This recording.
    Recording(RecordingId),
    /// This voicemail, or, without an id, the voicemail that the record's result mentions.
    Voicemail(Option<MessageId>),
}

impl fmt::Display for CallPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record => f.write_str("call-log record"),
            Self::Recording(id) => write!(f, "recording {id}"),
            Self::Voicemail(Some(id)) => write!(f, "voicemail {id}"),
            Self::Voicemail(None) => f.write_str("voicemail"),
        }
    }
}

/// Why a part is missing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum MissingReason {
    /// The service did not have it, or did not answer, before the deadline.
    NotFound,
    /// The service refused to hand it out; no retry could help.
    Failed(Error),
    /// The end of the call is not known: it was still open when no more events came, or nothing was heard of it for 24 h.
    NotEnded,
    /// More calls were open or unread than fit into the bounds of memory: the oldest was given up.
    TooManyCalls,
}

impl fmt::Display for MissingReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("not found before the deadline"),
            Self::Failed(error) => write!(f, "refused: {error}"),
            Self::NotEnded => f.write_str("the end of the call is not known"),
            Self::TooManyCalls => f.write_str("too many calls at once"),
        }
    }
}

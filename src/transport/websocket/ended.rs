//! Why a connection ended, and what to do about it. Pure.

use crate::error::{Disposition, Error, ErrorKind};

/// The close code of a gateway that saw no token, or an invalid one.
pub(super) const NO_AUTHORIZATION: u16 = 4400;

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The peer's close frame came, with a code or without one.
    Closed(Option<u16>),
    /// The peer ended the stream without a close frame.
    Cut,
    /// The connection broke.
    Broken(String),
    /// The peer did not answer.
    Silent(&'static str),
    /// The peer sent no `ConnectionDetails` in time.
    NoDetails,
    /// A message was larger than the limit.
    TooLarge,
    /// The peer broke the protocol.
    Protocol(String),
    /// This side closed it.
    Ours,
}

/// Why a connection ended: how, and the gateway's last complaint.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) cause: Cause,
    /// Code of the last `Error` frame that concerned the connection.
    pub(super) complaint: Option<Box<str>>,
    /// Whether events that came over it were discarded with it.
    pub(super) unread: bool,
}

impl Ended {
    /// Whether the gateway could not read the recovery token in the request.
    pub(super) fn refused_wsc(&self) -> bool {
        self.complaint.as_deref() == Some("WSG-400")
    }

    /// Whether an unreadable message ended it, so that the messages behind it were not read either, and may be sent
    /// again after a recovery.
    pub(super) fn unreadable(&self) -> bool {
        matches!(self.cause, Cause::TooLarge | Cause::Protocol(_))
    }

    /// Whether everything that the gateway sent over it was read. Only the peer's close frame proves that: a reset
    /// drops data in transit, the end of the stream may come from a proxy, and a connection abandoned by this side gets
    /// events until the gateway notices (found 1.1).
    pub(super) fn read_to_end(&self) -> bool {
        matches!(self.cause, Cause::Closed(_)) && !self.unread
    }

    /// Whether the gateway saw no valid token.
    pub(super) fn refused_token(&self) -> bool {
        self.cause == Cause::Closed(Some(NO_AUTHORIZATION))
    }

    /// The error for callers that waited on the connection.
    pub(super) fn error(&self) -> Error {
        let error = match &self.cause {
            Cause::Closed(Some(NO_AUTHORIZATION)) => {
                Error::new(ErrorKind::Network, "the gateway closed the connection: it saw no valid token (4400)")
            }
            Cause::Closed(Some(code)) => {
                Error::new(ErrorKind::Network, format!("the gateway closed the connection with code {code}"))
            }
            Cause::Closed(None) => Error::new(ErrorKind::Network, "the gateway closed the connection"),
            Cause::Cut => Error::new(ErrorKind::Network, "the connection ended without a close frame"),
            Cause::Broken(why) => Error::new(ErrorKind::Network, format!("the connection broke: {why}")),
            Cause::Silent(why) => Error::new(ErrorKind::Network, format!("the connection is dead: {why}")),
            Cause::NoDetails => Error::new(ErrorKind::Timeout, "the gateway did not begin the session in time"),
            Cause::TooLarge => Error::new(ErrorKind::Protocol, "the gateway sent a message larger than the limit"),
            Cause::Protocol(why) => Error::new(ErrorKind::Protocol, format!("the gateway broke the protocol: {why}")),
            Cause::Ours => Error::new(ErrorKind::Network, "this side closed the connection"),
        };
        let error = error.with_disposition(Disposition::Retry { after: None });
        error.with_code(self.complaint.as_deref().map(str::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w40_every_end_of_a_connection_is_transient() {
        for cause in [
            Cause::Closed(None),
            Cause::Cut,
            Cause::Closed(Some(1000)),
            Cause::Closed(Some(1001)),
            Cause::Closed(Some(1006)),
            Cause::Closed(Some(1011)),
            Cause::Closed(Some(1012)),
            Cause::Closed(Some(1013)),
            Cause::Closed(Some(4400)),
            Cause::Closed(Some(4999)),
            Cause::Broken("reset".into()),
            Cause::Silent("x"),
            Cause::NoDetails,
            Cause::TooLarge,
            Cause::Protocol("x".into()),
            Cause::Ours,
        ] {
            let ended = Ended { cause, complaint: Some("WSG-902".into()), unread: false };
            let error = ended.error();
            assert_eq!(error.disposition(), Disposition::Retry { after: None }, "{error}");
            assert_eq!(error.code(), Some("WSG-902"));
            assert_eq!(ended.refused_token(), ended.cause == Cause::Closed(Some(4400)));
            assert!(!ended.refused_wsc());
        }
    }

    #[test]
    fn found_1_1_only_a_close_frame_proves_that_everything_was_read() {
        for (cause, unread, want) in [
            (Cause::Closed(Some(1001)), false, true),
            (Cause::Closed(None), false, true),
            (Cause::Closed(Some(1001)), true, false),
            (Cause::Cut, false, false),
            (Cause::Broken("reset".into()), false, false),
            (Cause::Silent("x"), false, false),
            (Cause::NoDetails, false, false),
            (Cause::TooLarge, false, false),
            (Cause::Protocol("x".into()), false, false),
            (Cause::Ours, false, false),
        ] {
            let ended = Ended { cause, complaint: None, unread };
            assert_eq!(ended.read_to_end(), want, "{ended:?}");
        }
    }
}

//! Why a connection is over, and what to do about it. Pure.

use crate::error::{Disposition, Error, ErrorKind};

/// Close code of a gateway that saw no token, or none that is good.
pub(super) const NO_AUTHORIZATION: u16 = 4400;

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The peer closed it, with a code or without a word.
    Closed(Option<u16>),
    /// It broke.
    Broken(String),
    /// The peer did not answer.
    Silent(&'static str),
    /// The peer did not say its terms in time.
    NoDetails,
    /// A message was larger than the limit.
    TooLarge,
    /// The peer broke the protocol.
    Protocol(String),
    /// It was closed from here.
    Ours,
}

/// Why a connection is over: how, and what the gateway complained of before.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) cause: Cause,
    /// Code of the last `Error` frame that was about the connection.
    pub(super) complaint: Option<Box<str>>,
}

impl Ended {
    /// Whether the gateway could not read the recovery token it was given.
    pub(super) fn refused_wsc(&self) -> bool {
        self.complaint.as_deref() == Some("WSG-400")
    }

    /// Whether something came that cannot be read, so that what came behind it was
    /// not read either, and may be sent again after a recovery.
    pub(super) fn unreadable(&self) -> bool {
        matches!(self.cause, Cause::TooLarge | Cause::Protocol(_))
    }

    /// Whether the gateway may have sent more than was read, and count it as sent: also
    /// to a connection that was broken off here in good health, until it noticed.
    pub(super) fn unheard(&self) -> bool {
        self.unreadable() || matches!(self.cause, Cause::Silent(_) | Cause::Ours)
    }

    /// Whether a connection that was to go on with a session, and ended before it
    /// began here, may have got what was missed. A close code tells that the gateway
    /// did not want it.
    pub(super) fn doubtful(&self) -> bool {
        self.unheard() || matches!(self.cause, Cause::NoDetails | Cause::Broken(_) | Cause::Closed(None))
    }

    /// Whether the gateway saw no good token.
    pub(super) fn refused_token(&self) -> bool {
        self.cause == Cause::Closed(Some(NO_AUTHORIZATION))
    }

    /// What it is to whoever waited for something on the connection.
    pub(super) fn error(&self) -> Error {
        let error = match &self.cause {
            Cause::Closed(Some(NO_AUTHORIZATION)) => {
                Error::new(ErrorKind::Network, "the gateway closed the connection: it saw no good token (4400)")
            }
            Cause::Closed(Some(code)) => {
                Error::new(ErrorKind::Network, format!("the gateway closed the connection with code {code}"))
            }
            Cause::Closed(None) => Error::new(ErrorKind::Network, "the gateway closed the connection"),
            Cause::Broken(why) => Error::new(ErrorKind::Network, format!("the connection broke: {why}")),
            Cause::Silent(why) => Error::new(ErrorKind::Network, format!("the connection is dead: {why}")),
            Cause::NoDetails => Error::new(ErrorKind::Timeout, "the gateway did not begin the session in time"),
            Cause::TooLarge => Error::new(ErrorKind::Protocol, "the gateway sent a message larger than the limit"),
            Cause::Protocol(why) => Error::new(ErrorKind::Protocol, format!("the gateway broke the protocol: {why}")),
            Cause::Ours => Error::new(ErrorKind::Network, "the connection was closed here"),
        };
        let error = error.with_disposition(Disposition::Retry { after: None });
        error.with_code(self.complaint.as_deref().map(str::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w40_every_end_of_a_connection_is_passing_trouble() {
        for cause in [
            Cause::Closed(None),
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
            let ended = Ended { cause, complaint: Some("WSG-902".into()) };
            let error = ended.error();
            assert_eq!(error.disposition(), Disposition::Retry { after: None }, "{error}");
            assert_eq!(error.code(), Some("WSG-902"));
            assert_eq!(ended.refused_token(), ended.cause == Cause::Closed(Some(4400)));
            assert!(!ended.refused_wsc());
        }
    }
}

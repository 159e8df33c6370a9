//! Names of the transports.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// A transport by the service's name for it (`deliveryMode.transportType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportKind {
    /// PubNub long polling. Withdrawn by RingCentral for new apps.
    PubNub,
    /// RingCentral's WebSocket gateway.
    WebSocket,
    /// HTTPS calls to an address of your server.
    WebHook,
    /// No push: this crate polls at intervals. The service does not know this name.
    Poll,
}

impl TransportKind {
    const ALL: [Self; 4] = [Self::PubNub, Self::WebSocket, Self::WebHook, Self::Poll];

    /// The service's spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PubNub => "PubNub",
            Self::WebSocket => "WebSocket",
            Self::WebHook => "WebHook",
            Self::Poll => "Poll",
        }
    }
}

/// Ignores case: `pubnub` as well as `PubNub`.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) for an unknown name; the message lists the known ones.
impl FromStr for TransportKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(name)).ok_or_else(|| {
            const SHOWN: usize = 64;
            let shown: String = name.chars().take(SHOWN).collect();
            let known = Self::ALL.map(Self::as_str).join(", ");
            Error::config(format!("transport {shown:?} is not known; known are: {known}"))
        })
    }
}

impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn names_are_read_in_any_case_and_others_refused() {
        for (name, kind) in [
            ("PubNub", TransportKind::PubNub),
            ("pubnub", TransportKind::PubNub),
            ("WEBSOCKET", TransportKind::WebSocket),
            ("webHook", TransportKind::WebHook),
            ("poll", TransportKind::Poll),
        ] {
            assert_eq!(name.parse::<TransportKind>().unwrap(), kind);
            assert_eq!(kind.to_string().parse::<TransportKind>().unwrap(), kind);
        }
        for bad in ["", " pubnub", "pigeon", "APNS"] {
            let error = bad.parse::<TransportKind>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let told = format!("transport {bad:?} is not known; known are: PubNub, WebSocket, WebHook, Poll");
            assert_eq!(error.to_string(), told);
        }
        assert!("x".repeat(9999).parse::<TransportKind>().unwrap_err().to_string().len() < 200);
    }
}

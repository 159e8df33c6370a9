//! The transports by name.

use std::fmt;

/// Which transport, as the service calls it (`deliveryMode.transportType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportKind {
    /// PubNub long polling. Withdrawn by RingCentral for new apps.
    PubNub,
    /// RingCentral's WebSocket gateway.
    WebSocket,
    /// HTTPS calls to an address of yours.
    WebHook,
}

impl TransportKind {
    /// The service's spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PubNub => "PubNub",
            Self::WebSocket => "WebSocket",
            Self::WebHook => "WebHook",
        }
    }
}

impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

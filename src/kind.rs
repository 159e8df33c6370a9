//! Names of the transports.

use crate::words::words;

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

// The service's spellings; `Poll` is this crate's.
words!("transport", TransportKind {
    PubNub = "PubNub",
    WebSocket = "WebSocket",
    WebHook = "WebHook",
    Poll = "Poll",
});

/// Whether the service names a permission of a transport: `WebSocketsSubscription`, `SubscriptionWebhook`, or one for
/// PubNub, whose name is not documented. Others belong to event filters.
pub(crate) fn is_of_transport(permission: &str) -> bool {
    let name = permission.to_ascii_lowercase();
    ["subscription", "websocket", "webhook", "pubnub"].iter().any(|word| name.contains(word))
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

//! Explains refusals of the service.

use crate::error::{Disposition, Error, ErrorKind};
use crate::kind::{TransportKind, is_of_transport};

/// Turns the service's refusal to create a subscription into an error that names the remedy. Other errors are returned
/// unchanged.
///
/// RingCentral has withdrawn PubNub for new apps. The answer of its production service is unverified, so every
/// plausible form counts: `SUB-528`, a 403 for a missing app permission, a 400 about `deliveryMode`.
pub(super) fn explain(error: Error, transport: TransportKind) -> Error {
    // Transient: an extension that is not ready yet (SUB-406).
    if matches!(error.disposition(), Disposition::Retry { .. }) {
        return error;
    }
    let about_mode =
        error.status() == Some(400) && error.parameter().is_some_and(|name| name.starts_with("deliveryMode"));
    let kind = match error.kind() {
        ErrorKind::TransportRefused => ErrorKind::TransportRefused,
        ErrorKind::Permission => ErrorKind::Permission,
        ErrorKind::Rejected if about_mode => ErrorKind::TransportRefused,
        _ => return error,
    };
    let is_filters = error.permission().is_some_and(|named| !is_of_transport(named));
    let message = match transport {
        _ if is_filters => {
            "RingCentral refused the subscription: one of its event filters needs a permission that the app or the \
             user does not have"
        }
        TransportKind::PubNub => {
            "RingCentral refused a PubNub subscription. It has withdrawn PubNub for new apps: use the WebSocket \
             transport (app permission WebSocketsSubscription) or webhooks (SubscriptionWebhook) instead; an app \
             that was granted PubNub needs that permission and those of its event filters"
        }
        TransportKind::WebSocket => {
            "RingCentral refused a WebSocket subscription. The app needs the permission WebSocketsSubscription and \
             those of its event filters"
        }
        TransportKind::WebHook => {
            "RingCentral refused a webhook subscription. The app needs the permission SubscriptionWebhook and those \
             of its event filters"
        }
        TransportKind::Poll => return error,
    };
    Error::new(kind, message)
        .with_status_of(&error)
        .with_code(error.code().map(str::to_owned))
        .with_parameter(error.parameter().map(str::to_owned))
        .with_permission(error.permission().map(str::to_owned))
        .with_request_id(error.request_id().map(str::to_owned))
        .with_help(error.help().filter(|_| is_filters))
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_that_the_service_names_is_the_one_that_is_missing() {
        for transport in [TransportKind::WebSocket, TransportKind::PubNub, TransportKind::WebHook] {
            for (named, is_filters) in
                [("ReadMessages", true), ("WebSocketsSubscription", false), ("SubscriptionWebhook", false)]
            {
                let error = Error::new(ErrorKind::Permission, "x")
                    .with_status(403)
                    .with_code(Some("CMN-401".into()))
                    .with_permission(Some(named.into()));
                let text = explain(error, transport).to_string();
                let filters = "one of its event filters needs a permission that the app or the user does not have \
                               (HTTP 403, CMN-401), permission ReadMessages";
                assert_eq!(text.contains(filters), is_filters, "{transport}: {text}");
                let transports = ["WebSocketsSubscription", "SubscriptionWebhook"].iter().any(|it| text.contains(it));
                assert_eq!(transports, !is_filters, "{transport}: {text}");
            }
        }
    }

    #[test]
    fn every_form_of_refusal_names_the_way_out_and_is_final() {
        let refused = Error::new(ErrorKind::TransportRefused, "x").with_status(403).with_code(Some("SUB-528".into()));
        let scope = Error::new(ErrorKind::Permission, "x").with_status(403).with_permission(Some("PubNub".into()));
        let mode = Error::new(ErrorKind::Rejected, "x")
            .with_status(400)
            .with_parameter(Some("deliveryMode.transportType".into()));
        for (error, kind) in [
            (refused, ErrorKind::TransportRefused),
            (scope, ErrorKind::Permission),
            (mode, ErrorKind::TransportRefused),
        ] {
            let permission = error.permission().map(str::to_owned);
            let explained = explain(error, TransportKind::PubNub);
            assert_eq!((explained.kind(), explained.disposition()), (kind, Disposition::Fatal));
            let text = explained.to_string();
            assert!(text.contains("WebSocket") && text.contains("webhooks"), "{text}");
            assert_eq!(explained.permission().map(str::to_owned), permission);
            assert!(std::error::Error::source(&explained).is_some());
        }
    }

    #[test]
    fn other_errors_pass() {
        let error =
            Error::new(ErrorKind::Rejected, "bad filter").with_status(400).with_parameter(Some("eventFilters".into()));
        assert_eq!(explain(error, TransportKind::PubNub).to_string(), "bad filter (HTTP 400), parameter eventFilters");
    }
}

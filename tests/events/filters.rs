//! Filters: the URIs of constructors, accepted texts, and which filters match.
use std::time::Duration;

use proptest::prelude::*;
use ringcentral_events::ErrorKind;
use ringcentral_events::event::{
    A2pMessageQuery, AccountPresenceQuery, BatchQuery, Direction, EventFilter, EventKind, FilterScope, GapClosure,
    MessageStoreQuery, MessageType, OptOutQuery, PartyStatusCode, PresenceQuery, RingSenseDomain, SmsV2MessageQuery,
    TelephonyQuery, WebinarQuery, same_filters,
};

const MINE: &str = "/restapi/v1.0/account/~/extension/~";

#[test]
fn constructors_write_the_services_uri() {
    let theirs = EventFilter::account("400").extension("823");
    for (filter, want) in [
        (EventFilter::message_store(), format!("{MINE}/message-store")),
        (theirs.voicemail(), "/restapi/v1.0/account/400/extension/823/voicemail".into()),
        (EventFilter::extension("823").fax(), "/restapi/v1.0/account/~/extension/823/fax?direction=Inbound".into()),
        (EventFilter::account("400").account_presence(), "/restapi/v1.0/account/400/presence".into()),
        (
            EventFilter::account("400").call_queue_presence("7"),
            "/restapi/v1.0/account/400/call-queues/7/presence".into(),
        ),
        (
            EventFilter::call_queue_presence("a/b?c d"),
            "/restapi/v1.0/account/~/call-queues/a%2Fb%3Fc%20d/presence".into(),
        ),
        (EventFilter::a2p_batch("56"), "/restapi/v1.0/account/~/a2p-sms/batches/56".into()),
        (EventFilter::emergency_address("8"), "/restapi/v1.0/account/~/device/8/emergency-address".into()),
        (
            EventFilter::ring_sense_insights(RingSenseDomain::MsTeams),
            "/ai/ringsense/v1/public/accounts/~/domains/ms-teams/insights".into(),
        ),
        (
            EventFilter::subscription_reminder(Duration::from_millis(60_900), Duration::from_secs(15)),
            "/restapi/v1.0/subscription/~?threshold=60&interval=15".into(),
        ),
        (
            EventFilter::message_store_with(
                MessageStoreQuery::new().direction(Direction::Inbound).message_type(MessageType::Sms),
            ),
            format!("{MINE}/message-store?type=SMS&direction=Inbound"),
        ),
        (EventFilter::message_store_with(MessageStoreQuery::new()), format!("{MINE}/message-store")),
        (
            EventFilter::sip_presence_with(PresenceQuery::new().total_active_calls(true).aggregated(true)),
            format!("{MINE}/presence?detailedTelephonyState=true&sipData=true&totalActiveCalls=true&aggregated=true"),
        ),
        (
            EventFilter::account_presence_with(
                AccountPresenceQuery::new().detailed_telephony_state(true).sip_data(false),
            ),
            "/restapi/v1.0/account/~/presence?detailedTelephonyState=true&sipData=false".into(),
        ),
        (
            theirs.telephony_sessions_with(
                TelephonyQuery::new()
                    .direction(Direction::Outbound)
                    .missed_call(true)
                    .phone_number("+1650 555&0100")
                    .sip_data(true)
                    .status_code(PartyStatusCode::Answered)
                    .with_recordings(true),
            ),
            "/restapi/v1.0/account/400/extension/823/telephony/sessions?direction=Outbound&missedCall=true\
             &phoneNumber=+1650%20555%260100&sipData=true&statusCode=Answered&withRecordings=true"
                .into(),
        ),
        (
            EventFilter::a2p_messages_with(
                A2pMessageQuery::new().direction("Sideways").batch_id("b").from("+1").to("+2"),
            ),
            "/restapi/v1.0/account/~/a2p-sms/messages?direction=Sideways&batchId=b&from=+1&to=+2".into(),
        ),
        (
            EventFilter::a2p_batches_with(BatchQuery::new().from("+1")),
            "/restapi/v1.0/account/~/a2p-sms/batches?from=+1".into(),
        ),
        (
            EventFilter::a2p_opt_outs_with(OptOutQuery::new().from("+1").to("+2")),
            "/restapi/v1.0/account/~/a2p-sms/opt-outs?from=+1&to=+2".into(),
        ),
        (
            theirs.sms_v2_messages_with(SmsV2MessageQuery::new().direction(Direction::Inbound).from("+1").to("+2")),
            "/restapi/v2/accounts/400/extensions/823/sms/messages?direction=Inbound&from=+1&to=+2".into(),
        ),
        (
            EventFilter::webinar_sessions_with(WebinarQuery::new().host_user_id("1").webinar_id("2")),
            "/webinar/configuration/v1/company/sessions?hostUserId=1&webinarId=2".into(),
        ),
    ] {
        assert_eq!(filter.as_str(), want);
        assert_eq!(filter.to_string().parse::<EventFilter>().unwrap(), filter);
        assert_ne!(filter.kind(), EventKind::Unknown, "{filter}");
    }
}

#[test]
fn the_catalog_is_the_table_of_the_reference() {
    let rows: Vec<_> = EventFilter::catalog().collect();
    let kinds: std::collections::HashSet<_> = rows.iter().map(|row| row.kind()).collect();
    assert_eq!(kinds.len() + 1, EventKind::all().count(), "every kind but Unknown has a filter");
    let names: Vec<_> = EventKind::all().map(EventKind::as_str).collect();
    assert_eq!(
        names,
        [
            "MessageStore",
            "InstantMessage",
            "FaxMessage",
            "VoicemailMessage",
            "InboundMessagePush",
            "ExtensionPresence",
            "DetailedExtensionPresence",
            "DetailedExtensionPresenceWithSip",
            "AccountPresence",
            "ExtensionPresenceLine",
            "ExtensionDnd",
            "CallQueueMemberPresence",
            "AccountTelephonySessions",
            "ExtensionTelephonySessions",
            "MissedCall",
            "IncomingCall",
            "TeamMessagingPost",
            "TeamMessagingChat",
            "TeamMessagingWebhook",
            "A2pBatch",
            "A2pMessage",
            "A2pOptOut",
            "SmsV2Batch",
            "SmsV2Message",
            "SmsConsents",
            "MessageThreads",
            "MessageThreadEntries",
            "ExtensionList",
            "ExtensionInfo",
            "ExtensionFavorites",
            "ExtensionGrants",
            "CompanyDirectory",
            "EmergencyAddress",
            "ContactCenterPhoneNumber",
            "SubscriptionReminder",
            "RingSenseInsights",
            "WebinarSession",
            "WebinarSessionState",
            "WebinarRegistrationState",
            "WebinarRegistrant",
            "Unknown",
        ]
    );
    for row in &rows {
        let scope = match (row.template().contains("{extensionId}"), row.template().contains("{accountId}")) {
            (true, _) => FilterScope::Extension,
            (false, true) => FilterScope::Account,
            (false, false) => FilterScope::Service,
        };
        assert_eq!(row.scope(), scope, "{}", row.template());
    }
    let closure = |kind| rows.iter().find(|row| row.kind() == kind).unwrap().gap_closure();
    assert_eq!(closure(EventKind::InstantMessage), GapClosure::Complete);
    assert_eq!(closure(EventKind::ExtensionDnd), GapClosure::StateOnly);
    assert_eq!(closure(EventKind::TeamMessagingPost), GapClosure::Partial);
    assert_eq!(closure(EventKind::IncomingCall), GapClosure::Nothing);
}

#[test]
fn filters_route_by_path_and_by_query_only_for_equal_paths() {
    for (uri, want) in [
        ("/restapi/v1.0/account/1/extension/2/presence", "ExtensionPresence"),
        ("/restapi/v1.0/account/~/extension/2/presence?aggregated=true", "ExtensionPresence"),
        ("/restapi/v1.0/account/~/extension/~/presence?sipData=true", "ExtensionPresence"),
        ("/restapi/v1.0/account/~/extension/~/presence?detailedTelephonyState=false&sipData=true", "ExtensionPresence"),
        ("/restapi/v1.0/account/~/extension/~/presence?detailedTelephonyState", "DetailedExtensionPresence"),
        (
            "/restapi/v1.0/account/~/extension/~/presence?sipData=false&detailedTelephonyState=TRUE",
            "DetailedExtensionPresence",
        ),
        (
            "/restapi/v1.0/account/~/extension/~/favorite/presence?totalActiveCalls&sipData=true&detailedTelephonyState=true",
            "DetailedExtensionPresenceWithSip",
        ),
        ("/restapi/v1.0/account/~/presence?detailedTelephonyState=true&sipData=true", "AccountPresence"),
        ("/restapi/v1.0/account/1/extension/2/presence/line", "ExtensionPresenceLine"),
        ("/restapi/v1.0/account/1/extension/2/presence/line/presence", "ExtensionPresence"),
        ("/restapi/v1.0/account/1/extension/2/favorite", "ExtensionFavorites"),
        ("/restapi/v1.0/account/1/extension/2", "ExtensionInfo"),
        ("/restapi/v1.0/account/1/extension/2/", "ExtensionInfo"),
        ("/restapi/v1.0/account/1/extension/2?hints=Limits", "ExtensionInfo"),
        ("/restapi/v1.0/account/1/extension", "ExtensionList"),
        ("/restapi/v1.0/account/{accountId}/extension/{extensionId}/grant", "ExtensionGrants"),
        ("https://platform.ringcentral.com/restapi/v1.0/account/1/extension/2/message-store", "MessageStore"),
        ("/restapi/v1.0/account/1/extension/2/message-store/instant", "InstantMessage"),
        ("/restapi/v1.0/account/1/a2p-sms/batches/9", "A2pBatch"),
        ("/restapi/v1.0/account/1/phone-number", "ContactCenterPhoneNumber"),
        ("/restapi/v1.0/subscription/9d38419f?threshold=1", "SubscriptionReminder"),
        ("/restapi/v1.0/account//extension/2/message-store", "MessageStore"),
        ("/restapi/v1.0//glip/posts", "TeamMessagingPost"),
        ("/restapi/v1.0/account/1/extension//presence", "ExtensionPresence"),
        ("/restapi/v1.0/account/1/extension/2/message-store/more", "Unknown"),
        ("/restapi/v1.1/account/1/extension/2/message-store", "Unknown"),
        ("/restapi/v1.0/account/1/extension/2/unified-presence", "Unknown"),
        ("!/restapi/v1.0/account/1/extension/2/presence", "Unknown"),
        ("/", "Unknown"),
    ] {
        assert_eq!(uri.parse::<EventFilter>().unwrap().kind().as_str(), want, "{uri}");
    }
}

#[test]
fn invalid_uris_are_refused_and_all_others_accepted() {
    for bad in ["", "!", "message-store", "http://", "ftp://host/x", "/a b", "/a\n", "/a\u{0}", "/a\u{a0}b", " /a", "~"]
    {
        let error = bad.parse::<EventFilter>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{bad:?}");
        assert!(serde_json::from_value::<EventFilter>(bad.into()).is_err(), "{bad:?}");
    }
    for good in ["/x", "/", "!/restapi/x", "/x?hints!=Limits", "HTTPS://host/x", "/é?x={a}&&b"] {
        let filter = EventFilter::custom(good).unwrap();
        assert_eq!(filter.as_str(), good);
        let json = serde_json::to_string(&filter).unwrap();
        assert_eq!(serde_json::from_str::<EventFilter>(&json).unwrap(), filter);
        assert_eq!(String::from(filter), good);
    }
}

#[test]
fn an_event_is_matched_to_its_filter() {
    for (filter, event, want) in [
        ("/account/~/extension/~/x", "/account/1/extension/2/x", true),
        ("/account/1/extension/2/x", "/account/~/extension/2/x", true),
        ("/account/1/extension/2/x", "/account/1/extension/3/x", false),
        ("/account/~/extension/~/x", "https://host/account/1/extension/{extensionId}/x", true),
        ("/account/~/presence", "/account/1/extension/2/presence", true),
        ("/account/1/presence", "/account/2/extension/2/presence", false),
        ("/account/~/extension/2/presence", "/account/1/presence", false),
        ("/account/~/extension", "/account/1/extension/2", false),
        ("/account/~/x?a=1&b=2", "/account/1/x?b=2&a=1", true),
        ("/account/~/x?a=1&b", "/account/1/x?b=true&a=1", true),
        ("/account/~/x?a=1", "/account/1/x", false),
        ("/account/~/x?from=+1", "/account/1/x?from=%2B1", true),
        ("/restapi/v2/accounts/~/extensions/~/sms", "/restapi/v2/accounts/1/extensions/2/sms", true),
        ("/x/1", "/x/2", false),
        ("/x", "/x/", true),
        ("/account/~/x", "/account/1/x/y", false),
    ] {
        assert_eq!(filter.parse::<EventFilter>().unwrap().matches_uri(event), want, "{filter} {event}");
    }
}

#[test]
fn sets_of_filters_are_compared_by_meaning() {
    for (a, b, want) in [
        (&["/a", "/b"][..], &["/b", "/a"][..], true),
        (&["/a"], &["/a", "/b"], false),
        (&["/a", "/b"], &["/a"], false),
        (&["/a", "/a"], &["/a"], true),
        (&["/a", "/a", "/b"], &["/a", "/b", "/b"], true),
        (&["/a", "/c"], &["/a", "/b"], false),
        (&["/account/~/x"], &["https://host/account/7/x"], true),
        (&["/account/~/x?a=1&b=2"], &["/account/7/x?b=2&a=1"], true),
        (&["/account/7/x"], &["/account/8/x"], false),
        (&["/account/~/x"], &["/account/7/x", "/account/8/x"], false),
        (&["/account/~/x", "/account/7/x"], &["/account/7/x", "/account/8/x"], true),
        (&["/account/7/x", "/account/~/x"], &["/account/7/x", "/account/8/x"], true),
        (&["/account/~/x", "/account/7/x"], &["/account/7/x", "/account/7/x"], true),
        (&["/account/9/x", "/account/~/x"], &["/account/7/x", "/account/8/x"], false),
        (&[], &[], true),
    ] {
        assert_eq!(same_filters(a, b), want, "{a:?} {b:?}");
        assert_eq!(same_filters(b, a), want, "{b:?} {a:?}");
    }
    assert!(same_filters(&[EventFilter::message_store()], &["/restapi/v1.0/account/1/extension/2/message-store"]));
}

#[test]
fn presence_and_telephony_sessions_are_sensitive() {
    for row in EventFilter::catalog() {
        let filter: EventFilter = row.template().parse().unwrap();
        let want = row.template().contains("/presence")
            || row.template().contains("-presence")
            || row.template().contains("/telephony/sessions");
        assert_eq!(filter.is_sensitive(), want, "{filter}");
    }
    for (uri, want) in [
        ("/restapi/v1.0/account/~/telephony/conference", false),
        ("/restapi/v1.0/account/~/x/sessions", false),
        ("/x?y=/presence", false),
        ("/restapi/v1.0/account/~/extension/~/unified-presence", true),
    ] {
        assert_eq!(uri.parse::<EventFilter>().unwrap().is_sensitive(), want, "{uri}");
    }
}

fn uri() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec!["account", "extension", "~", "1", "2", "presence", "{id}", "x"]);
    let pair = prop::sample::select(vec!["a=1", "b", "b=true", "c=%2B1", "c=+1", ""]);
    (prop::collection::vec(word, 0..6), prop::collection::vec(pair, 0..4), any::<bool>()).prop_map(
        |(path, query, host)| {
            let host = if host { "https://host" } else { "" };
            format!("{host}/{}?{}", path.join("/"), query.join("&"))
        },
    )
}

proptest! {
    #[test]
    fn a_set_equals_itself_in_any_order(filters in prop::collection::vec(uri(), 0..6), by in 0_usize..6) {
        let mut turned = filters.clone();
        if !turned.is_empty() {
            let by = by % turned.len();
            turned.rotate_left(by);
        }
        prop_assert!(same_filters(&filters, &turned));
    }

    #[test]
    fn comparison_is_symmetric(a in prop::collection::vec(uri(), 0..4), b in prop::collection::vec(uri(), 0..4)) {
        prop_assert_eq!(same_filters(&a, &b), same_filters(&b, &a));
    }

    #[test]
    fn a_filter_matches_its_own_uri(uri in uri()) {
        prop_assert!(uri.parse::<EventFilter>().unwrap().matches_uri(&uri));
    }

    #[test]
    fn any_text_is_accepted_unchanged_or_refused(text in "\\PC{0,30}") {
        if let Ok(filter) = text.parse::<EventFilter>() {
            prop_assert_eq!(filter.to_string(), text);
            let _ = (filter.kind(), filter.is_sensitive());
        }
    }
}

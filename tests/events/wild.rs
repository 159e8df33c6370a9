//! Notifications as services have sent them over the years.

use std::path::Path;

use ringcentral_events::Timestamp;
use ringcentral_events::event::{Event, EventFilter, EventKind};
use serde_json::Value;

use crate::leaves::lost_leaves;
use crate::support::events::{fixtures, parse};

#[test]
fn no_leaf_of_a_fixture_is_lost() {
    for fixture in fixtures() {
        let lost = lost_leaves(&parse(&fixture.text), &fixture.text);
        assert!(lost.is_empty(), "{}: lost {lost:?}", fixture.name);
    }
}

/// Checks a directory of notifications from elsewhere, which `RC_EVENTS_WILD` names. Its `expect.json` has for each file
/// the `kind`, and in `assert` the values of the envelope by their paths.
#[test]
fn no_leaf_of_a_directory_of_notifications_is_lost() {
    let Some(dir) = std::env::var_os("RC_EVENTS_WILD") else { return };
    let dir = Path::new(&dir);
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let expected: Value = serde_json::from_str(&read("expect.json")).unwrap();
    let files = expected["files"].as_object().unwrap();
    let (mut right, mut lost) = (0, Vec::new());
    for (name, expected) in files {
        let text = read(name);
        let notification = parse(&text);
        if notification.kind().as_str() == expected["kind"] && notification.event().kind() == notification.kind() {
            right += 1;
        } else {
            lost.push(format!("{name}: is a {}, not a {}", notification.kind(), expected["kind"]));
        }
        lost.extend(lost_leaves(&notification, &text).into_iter().map(|path| format!("{name}: {path}")));
        let whole: Value = serde_json::from_str(&text).unwrap();
        for assert in expected["assert"].as_array().unwrap() {
            let (path, want) = (assert["path"].as_str().unwrap(), assert["equals"].as_str());
            let got = match path {
                "uuid" => notification.uuid(),
                "subscriptionId" => notification.subscription_id().map(|id| id.as_str()),
                "ownerId" => notification.owner_id().map(|id| id.as_str()),
                "timestamp" => {
                    let instant = |text: Option<&str>| text.and_then(|text| Timestamp::new(text).instant());
                    let got = notification.timestamp().map(|it| it.as_str());
                    if instant(got).is_none() || instant(got) != instant(want) {
                        lost.push(format!("{name}: {path} is {got:?}"));
                    }
                    continue;
                }
                _ => continue,
            };
            if got != want || whole[path].as_str() != want {
                lost.push(format!("{name}: {path} is {got:?}"));
            }
        }
    }
    println!("{right} of {} of the right kind, {} leaves lost", files.len(), lost.len());
    assert!(right == files.len() && lost.is_empty(), "{lost:#?}");
}

#[test]
fn a_ringout_has_the_direction_of_its_initiator() {
    for (role, direction, want, swapped) in [
        (Some("Initiator"), Some("Inbound"), Some("Outbound"), true),
        (Some("Initiator"), Some("Outbound"), Some("Outbound"), false),
        (Some("Target"), Some("Inbound"), Some("Inbound"), false),
        (Some("Target"), Some("Outbound"), Some("Outbound"), false),
        (Some("Observer"), Some("Inbound"), Some("Inbound"), false),
        (Some("Initiator"), None, None, false),
        (None, Some("Inbound"), Some("Inbound"), false),
    ] {
        let body = serde_json::json!({
            "event": "/restapi/v1.0/account/~/telephony/sessions",
            "body": {"parties": [{
                "direction": direction, "ringOutRole": role,
                "from": {"phoneNumber": "from"}, "to": {"phoneNumber": "to"},
            }]},
        });
        let notification = parse(&body.to_string());
        let party = &notification.event().telephony_session().unwrap().parties[0];
        assert_eq!(party.call_direction().map(|it| it.as_str()), want, "{role:?} {direction:?}");
        assert_eq!(party.is_inbound(), want == Some("Inbound"), "{role:?} {direction:?}");
        assert_eq!(party.is_outbound(), want == Some("Outbound"), "{role:?} {direction:?}");
        let ends = [party.caller(), party.callee()].map(|end| end.unwrap().phone_number.as_deref().unwrap());
        assert_eq!(ends, if swapped { ["to", "from"] } else { ["from", "to"] }, "{role:?} {direction:?}");
        assert_eq!(party.direction.as_ref().map(|it| it.as_str()), direction, "the field is as sent");
    }
}

#[test]
fn the_body_of_a_stored_event_decides_about_its_kind_too() {
    for fixture in fixtures().into_iter().filter(|fixture| fixture.name.contains("under-posts")) {
        let notification = parse(&fixture.text);
        let again = Event::from_body(notification.event_uri(), notification.raw_body().unwrap());
        assert_eq!(again.kind(), fixture.kind, "{}", fixture.name);
    }
}

#[test]
fn other_spellings_of_a_uri_are_routed_but_are_no_filters_of_the_catalog() {
    for (uri, want) in [
        ("/restapi/v1.0/glip/chats", EventKind::TeamMessagingChat),
        ("/team-messaging/v1/teams", EventKind::TeamMessagingChat),
        ("/team-messaging/v1/webhooks", EventKind::TeamMessagingWebhook),
        ("/restapi/v1.0/account/1/extension/2/glip/webhooks", EventKind::TeamMessagingWebhook),
        ("/restapi/v2/accounts/1/sms/opt-outs", EventKind::SmsConsents),
    ] {
        assert_eq!(EventFilter::custom(uri).unwrap().kind(), want, "{uri}");
        assert!(EventFilter::catalog().all(|row| row.template() != uri), "{uri}");
    }
}

#[test]
fn a_field_data_is_a_wrapper_only_alone_and_only_in_team_messaging() {
    for (uri, body, kind, has_chat) in [
        ("/restapi/v1.0/glip/groups", r#"{"data":{"id":"1","eventType":"GroupAdded"}}"#, "TeamMessagingChat", true),
        ("/restapi/v1.0/glip/posts", r#"{ "data" : {"id":"1","eventType":"GroupAdded"}}"#, "TeamMessagingChat", true),
        ("/restapi/v1.0/glip/groups", r#"{"data":{"id":"1"},"name":"x"}"#, "TeamMessagingChat", false),
        ("/restapi/v1.0/glip/groups", r#"{"data":"x"}"#, "TeamMessagingChat", false),
    ] {
        let notification = parse(&format!(r#"{{"event":"{uri}","body":{body}}}"#));
        assert_eq!(notification.kind().as_str(), kind, "{body}");
        let Event::TeamMessagingChat(chat) = notification.event() else { panic!("{notification:?}") };
        assert_eq!(chat.id.is_some(), has_chat, "{body}");
        assert_eq!(notification.raw_body().unwrap().get(), body);
    }
    let webinar = r#"{"event":"/webinar/configuration/v1/company/sessions","body":{"data":{"id":"1"}}}"#;
    let Event::WebinarSession(it) = parse(webinar).event().clone() else { panic!("{webinar}") };
    assert_eq!(it.body.unwrap().get().get(), r#"{"data":{"id":"1"}}"#);
}

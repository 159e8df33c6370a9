//! The actions that a source pushes over the Send API.

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::core::Core;
use super::realtime::{Received, Refusal, refused};
use super::store::Origin;
use crate::behavior::DigitalBehavior;
use crate::checks::{Capabilities, Item, Violations, check_user, id_of, wrong_structure};
use ringcentral_events::digital::CollectionName;

/// Length of the title of a thread created from a message, in characters.
const TITLE: usize = 80;

/// Action and parameters of a body.
pub(crate) fn parse(body: &[u8]) -> Result<(String, Map<String, Value>), Refusal> {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return refused(400, "Bad request") };
    let Value::Object(mut request) = value else { return refused(400, "Invalid request format") };
    match (request.remove("action"), request.remove("params")) {
        (Some(Value::String(action)), Some(Value::Object(params))) => Ok((action, params)),
        _ => refused(400, "Invalid request format"),
    }
}

/// Performs an action, or returns why it is refused.
pub(crate) fn receive(
    core: &mut Core,
    behavior: &DigitalBehavior,
    action: &str,
    params: &Map<String, Value>,
    now: Instant,
) -> Result<(), Refusal> {
    core.realtime.spend(behavior, now)?;
    let caps = core.caps.clone().unwrap_or_default();
    let declared = |declared: bool| {
        if declared || !behavior.check_declared { Ok(()) } else { refused(422, "Invalid action") }
    };
    let mut shown = params.clone();
    match action {
        "messages.create" | "private_messages.create" | "threads.create" => {
            let Some(collection) = CollectionName::ALL.into_iter().find(|name| action.starts_with(&format!("{name}.")))
            else {
                return refused(422, "Invalid action");
            };
            declared(caps.any(collection))?;
            let id = content(core, &caps, collection, params)?;
            shown = Map::from_iter([("id".to_owned(), json!(id))]);
        }
        "users.create" => {
            if !check_user(params, "user", None, &mut Violations::about(action)) {
                return refused(422, "Invalid resource format");
            }
            core.store.put_user(params);
        }
        "status.mark_as_read" => {
            declared(caps.declares("status", "mark_as_read"))?;
            if id_of(params.get("id")).is_none() {
                return refused(422, "Invalid resource format");
            }
        }
        "typing.start" | "typing.stop" => {
            declared(caps.has("messaging.typing_indicator"))?;
            core.realtime.typing(action == "typing.start", params, now)?;
        }
        _ => return refused(422, "Invalid action"),
    }
    core.realtime.keep(Received { action: action.to_owned(), params: shown });
    Ok(())
}

fn content(
    core: &mut Core,
    caps: &Capabilities,
    collection: CollectionName,
    params: &Map<String, Value>,
) -> Result<String, Refusal> {
    let Some((id, _)) = id_of(params.get("id")) else { return refused(422, "Invalid resource format") };
    if let Some(why) = wrong_structure(params, caps) {
        return refused(422, why);
    }
    let whole = (Item { collection, caps, object: params }).check(Some(&id), &mut Violations::about(""));
    if !whole {
        return refused(422, "Invalid resource format");
    }
    if collection == CollectionName::Messages
        && !caps.unthreaded()
        && let Some((thread, _)) = id_of(params.get("thread_id"))
        && core.store.get(CollectionName::Threads, &thread).is_none()
    {
        // An unknown thread is created with a title from the text.
        let title: String =
            params.get("body").and_then(Value::as_str).unwrap_or_default().chars().take(TITLE).collect();
        let made = Map::from_iter([("id".to_owned(), json!(thread)), ("title".to_owned(), json!(title))]);
        core.store.put(CollectionName::Threads, &thread, Origin::Pushed, &made);
    }
    core.store.put(collection, &id, Origin::Pushed, params);
    Ok(id)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use ringcentral_events::digital::Signer;

    fn core() -> Core {
        let mut core = Core::new(Signer::new("token").unwrap());
        let answer = json!({
            "objects": { "messages": ["list"], "threads": ["list"], "status": ["mark_as_read"] },
            "options": ["view.messaging", "messages.text", "messaging.typing_indicator", "threads.no_content"],
        });
        core.caps = Capabilities::read(&answer, &mut Violations::about(""));
        core
    }

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(object) = value else { panic!("an object") };
        object
    }

    fn message(change: Value) -> Value {
        let author = json!({ "id": "u-1", "screenname": "Ana" });
        let mut message = json!({ "id": "m-1", "thread_id": "t-1", "author": author, "body": "Hello" });
        message.as_object_mut().unwrap().extend(object(change));
        message
    }

    #[test]
    fn the_table_of_errors() {
        for (body, want) in [
            (&b"{"[..], "Bad request"),
            (b"\xff", "Bad request"),
            (b"[]", "Invalid request format"),
            (b"{}", "Invalid request format"),
            (b"{\"action\":\"messages.create\"}", "Invalid request format"),
            (b"{\"action\":1,\"params\":{}}", "Invalid request format"),
            (b"{\"action\":\"messages.create\",\"params\":[]}", "Invalid request format"),
        ] {
            assert_eq!(parse(body), refused(400, want), "{body:?}");
        }
        let select = json!({ "type": "select", "items": [{ "title": "Yes" }] });
        for (action, params, want) in [
            ("messages.list", json!({}), "Invalid action"),
            ("messages.shiny", json!({ "id": "m-1" }), "Invalid action"),
            ("private_messages.create", message(json!({})), "Invalid action"),
            ("messages.create", json!({}), "Invalid resource format"),
            ("messages.create", message(json!({ "author": null })), "Invalid resource format"),
            ("messages.create", message(json!({ "thread_id": null })), "Invalid resource format"),
            ("messages.create", message(json!({ "body": null })), "Invalid resource format"),
            ("users.create", json!({ "id": "u-1" }), "Invalid resource format"),
            ("status.mark_as_read", json!({}), "Invalid resource format"),
            ("typing.start", json!({ "thread_id": "t-1" }), "Invalid resource format"),
            ("typing.start", json!({ "preview": "x" }), "Invalid resource format"),
            ("typing.stop", json!({}), "Invalid resource format"),
            (
                "messages.create",
                message(json!({ "structured_content": { "items": [{}] } })),
                "Type is required for structured contents",
            ),
            (
                "messages.create",
                message(json!({
                    "structured_content": select, "author": { "id": "u", "screenname": "U", "puppetizable": false },
                })),
                "The author must be puppetizable",
            ),
        ] {
            let outcome =
                receive(&mut core(), &DigitalBehavior::default(), action, &object(params.clone()), Instant::now());
            assert_eq!(outcome, refused(422, want), "{action} {params}");
        }
        let mut bare = core();
        bare.caps = Capabilities::read(&json!({ "objects": { "messages": ["list"] } }), &mut Violations::about(""));
        for (action, params, want) in [
            (
                "messages.create",
                message(json!({ "structured_content": { "type": "select" } })),
                "Source doesn't support structured contents",
            ),
            ("typing.start", json!({ "thread_id": "t-1", "preview": "x" }), "Invalid action"),
            ("status.mark_as_read", json!({ "id": "m-1" }), "Invalid action"),
            ("threads.create", json!({ "id": "t-1", "title": "x" }), "Invalid action"),
        ] {
            let outcome = receive(&mut bare, &DigitalBehavior::default(), action, &object(params), Instant::now());
            assert_eq!(outcome, refused(422, want), "{action}");
        }
        let behavior = DigitalBehavior { check_declared: false, ..DigitalBehavior::default() };
        let read =
            receive(&mut bare, &behavior, "status.mark_as_read", &object(json!({ "id": "m-1" })), Instant::now());
        assert_eq!(read, Ok(()), "the setting");
    }

    #[test]
    fn contents_are_stored_by_id_and_a_message_creates_its_thread() {
        let (mut core, behavior, now) = (core(), DigitalBehavior::default(), Instant::now());
        for body in ["Hello", "Hello again"] {
            let params = object(message(json!({ "body": body })));
            assert_eq!(receive(&mut core, &behavior, "messages.create", &params, now), Ok(()));
        }
        let kept = core.store.all(CollectionName::Messages);
        assert_eq!((kept.len(), kept[0].text("body"), kept[0].origin), (1, Some("Hello again"), Origin::Pushed));
        assert_eq!(core.store.get(CollectionName::Threads, "t-1").unwrap().text("title"), Some("Hello"));
        assert_eq!(core.store.users()[0]["screenname"], "Ana");
        let received = core.realtime.received();
        assert_eq!((received.len(), &received[1].params), (2, &object(json!({ "id": "m-1" }))));
    }

    #[test]
    fn typing_is_accepted_once_per_gap_and_thread() {
        let (mut core, behavior, now) = (core(), DigitalBehavior::default(), Instant::now());
        let mut send = |action: &str, thread: &str, after: u64| {
            let params = object(json!({ "thread_id": thread, "in_reply_to_id": "m-1", "preview": "x" }));
            receive(&mut core, &behavior, action, &params, now + Duration::from_millis(after))
        };
        assert_eq!(send("typing.start", "t-1", 0), Ok(()));
        assert_eq!(send("typing.start", "t-1", 1999).unwrap_err().status, 429);
        assert_eq!(send("typing.start", "t-2", 1999), Ok(()));
        assert_eq!(send("typing.start", "t-1", 2000), Ok(()));
        assert_eq!(send("typing.stop", "t-1", 2001), Ok(()));
        assert_eq!(send("typing.start", "t-1", 2002), Ok(()));
    }

    #[test]
    fn the_setting_limits_requests_in_a_sliding_window() {
        let behavior =
            DigitalBehavior { send_limit: Some(2), send_window: Duration::from_secs(10), ..DigitalBehavior::default() };
        let (mut core, now) = (core(), Instant::now());
        let mut send = |after: u64| {
            let params = object(message(json!({})));
            receive(&mut core, &behavior, "messages.create", &params, now + Duration::from_secs(after))
                .map_err(|r| r.status)
        };
        assert_eq!(
            [send(0), send(4), send(9), send(10), send(13), send(14)],
            [Ok(()), Ok(()), Err(429), Ok(()), Err(429), Ok(())]
        );
    }
}

//! A source's advertised capabilities, and values in every form that peers write.

use std::sync::{Arc, Mutex};

use crate::support::digital::{act, agent, ask, body_of, customer, date, endpoint};
use ringcentral_events::ErrorKind;
use ringcentral_events::digital::{
    Action, ActionRequest, Attachment, CollectionName, ContextData, ContextValue, Date, Format, MemoryFeed, Message,
    Messages, NewMessage, PrivateMessage, PrivateMessages, Source, SourceBuilder, SourceOption, StructuredContent,
    StructuredItem, Thread, Threads, Typing, User,
};
use serde_json::{Value, json};

fn parse(body: &Value) -> Result<Action, String> {
    ActionRequest::parse(body.to_string().as_bytes()).map(|it| it.action).map_err(|error| error.to_string())
}

fn listing() -> SourceBuilder {
    Source::builder().list(Messages, MemoryFeed::new())
}

fn creating() -> SourceBuilder {
    Source::builder().create(Messages, |_| std::future::ready(Ok(Message::new("m-1", agent()))))
}

#[test]
fn registered_operations_are_advertised() {
    let empty: Value = serde_json::from_slice(Source::builder().build().unwrap().info()).unwrap();
    assert_eq!(empty, json!({ "objects": {}, "options": [] }));
    let source = creating()
        .reply(Messages)
        .publish(Messages, |id| std::future::ready(Ok(Message::new(id, agent()))))
        .unpublish(Messages, |id| std::future::ready(Ok(Message::new(id, agent()))))
        .custom(Messages, "spam", |it| std::future::ready(Ok(Message::new(it.id, agent()))))
        .label("default", "spam", "Report as spam")
        .option(SourceOption::MessagesUnthreaded)
        .option(SourceOption::MessagesText)
        .option(SourceOption::MessagesText)
        .queuing_update(|_| std::future::ready(Ok(())))
        .read_marks()
        .build()
        .unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(source.info()).unwrap(),
        json!({
            "objects": {
                "messages": ["create", "reply", "publish", "unpublish", "spam"],
                "status": ["mark_as_read"],
            },
            "options": ["messages.unthreaded", "messages.text", "messaging.queuing_update"],
            "locales": { "default": { "spam": "Report as spam" } },
        })
    );
    assert!(format!("{source:?}").contains("messages.spam"));
}

/// Both answers of the polling guide (digital-source.md §4, §16), with `destroy` for `delete`, buttons of their own, and
/// threads beside `messages.unthreaded`.
#[tokio::test]
async fn a_source_may_answer_as_the_polling_guides_examples_do() {
    let message = |id: String| std::future::ready(Ok(Message::new(id, agent())));
    let thread = |id: String| std::future::ready(Ok(Thread::new(id, "News")));
    let both = || {
        Source::builder()
            .create(Messages, |_| std::future::ready(Ok(Message::new("m-1", agent()))))
            .destroy(Messages, message)
            .list(Messages, MemoryFeed::new())
            .publish(Messages, message)
            .reply(Messages)
            .show(Messages, |_| std::future::ready(Ok(None)))
            .unpublish(Messages, message)
            .custom(Messages, "spam", |it| std::future::ready(Ok(Message::new(it.id, agent()))))
            .create(Threads, |_| std::future::ready(Ok(Thread::new("t-1", "News"))))
            .destroy(Threads, thread)
            .list(Threads, MemoryFeed::new())
            .custom(Threads, "sticky", |it| std::future::ready(Ok(Thread::new(it.id, "News"))))
    };
    let objects = json!({
        "messages": ["create", "destroy", "list", "publish", "reply", "show", "unpublish", "spam"],
        "threads": ["create", "destroy", "list", "sticky"],
    });
    for (options, source) in [
        (json!([]), both().build().unwrap()),
        (json!(["messages.unthreaded"]), both().option(SourceOption::MessagesUnthreaded).build().unwrap()),
    ] {
        let info: Value = serde_json::from_slice(source.info()).unwrap();
        assert_eq!(info, json!({ "objects": objects, "options": options }));
        // Whichever name the platform uses for a deletion.
        let endpoint = endpoint(source);
        for action in ["messages.destroy", "messages.delete", "threads.destroy"] {
            assert_eq!(act(&endpoint, action, json!({ "id": "7" })).await["id"], "7", "{action}");
        }
    }
    let beside = Source::builder()
        .delete(Messages, |id| std::future::ready(Ok(Message::new(format!("deleted-{id}"), agent()))))
        .destroy(Messages, |id| std::future::ready(Ok(Message::new(format!("destroyed-{id}"), agent()))))
        .build()
        .unwrap();
    let info: Value = serde_json::from_slice(beside.info()).unwrap();
    assert_eq!(info["objects"]["messages"], json!(["delete", "destroy"]));
    let endpoint = endpoint(beside);
    for (action, want) in [("messages.delete", "deleted-7"), ("messages.destroy", "destroyed-7")] {
        assert_eq!(act(&endpoint, action, json!({ "id": "7" })).await["id"], want, "{action}");
    }
}

#[tokio::test]
async fn a_running_source_gains_and_loses_operations() {
    let endpoint = endpoint(listing().build().unwrap());
    let delete = || ask(&endpoint, body_of("messages.delete", Some(json!({ "id": "7" }))));
    assert_eq!(delete().await.0, 400);
    let more = listing().delete(Messages, |id| std::future::ready(Ok(Message::new(id, agent())))).build().unwrap();
    endpoint.set_source(more);
    let info = act(&endpoint, "implementation.info", json!({})).await;
    assert_eq!(info["objects"]["messages"], json!(["list", "delete"]));
    assert_eq!(delete().await.0, 200);
    endpoint.set_source(listing().build().unwrap());
    assert_eq!(delete().await.0, 400);
    assert!(format!("{endpoint:?}").contains("messages.list"));
}

#[test]
fn options_that_the_platform_would_drop_are_refused() {
    let threads = || listing().list(Threads, MemoryFeed::new());
    let new_thread = || threads().create(Threads, |_| std::future::ready(Ok(Thread::new("t-1", "News"))));
    let custom = |name: &str| {
        Source::builder().custom(Messages, name, |it| std::future::ready(Ok(Message::new(it.id, agent()))))
    };
    let both = || listing().list(PrivateMessages, MemoryFeed::new());
    let chat = |builder: SourceBuilder| builder.option(SourceOption::ViewMessaging);
    for (why, builder) in [
        ("create of threads without content", new_thread().option(SourceOption::ThreadsNoContent)),
        ("typing without a chat", listing().option(SourceOption::MessagingTypingIndicator)),
        ("a chat without text", chat(listing())),
        ("a chat in HTML", chat(listing()).option(SourceOption::MessagesText).option(SourceOption::MessagesHtml)),
        ("a chat in the other's text", chat(listing()).option(SourceOption::PrivateMessagesText)),
        ("a chat of both", chat(both()).option(SourceOption::MessagesText)),
        ("a chat of neither", chat(Source::builder()).option(SourceOption::MessagesText)),
        ("surveys with threads", threads().option(SourceOption::MessagesAllowSurvey)),
        ("surveys without messages", Source::builder().option(SourceOption::MessagesAllowSurvey)),
        ("a queue without a handler", listing().option(SourceOption::MessagingQueuingUpdate)),
        ("reply without create", listing().reply(Messages)),
        ("twice the same", listing().list(Messages, MemoryFeed::new())),
        ("a label of nothing", listing().label("fr", "spam", "x")),
        ("destroy, which is delete", custom("destroy")),
        ("a standard operation", custom("list")),
        ("an operation without a name", custom("")),
        ("an operation that is no word", custom("mark spam")),
        ("an empty page", Source::builder().page(0)),
        ("a page of any length", Source::builder().page(10_001)),
    ] {
        assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::Config, "{why}");
    }
    for (why, builder) in [
        ("list and show of threads", threads().option(SourceOption::ThreadsNoContent)),
        ("threads of the unthreaded, which the platform ignores", threads().option(SourceOption::MessagesUnthreaded)),
        ("surveys", listing().option(SourceOption::MessagesAllowSurvey)),
        ("a chat", chat(listing()).option(SourceOption::MessagesText)),
        ("an option of tomorrow", listing().option("messages.shiny".into())),
    ] {
        assert!(builder.build().is_ok(), "{why}");
    }
}

#[tokio::test]
async fn queue_positions_and_typing_reach_their_handlers() {
    let received = Arc::new(Mutex::new(Vec::new()));
    let (queue, typing) = (Arc::clone(&received), Arc::clone(&received));
    let source = listing()
        .option(SourceOption::ViewMessaging)
        .option(SourceOption::MessagesText)
        .queuing_update(move |it| {
            queue.lock().unwrap().push(format!("{:?} {:?} {:?}", it.position, it.estimated_wait_time, it.thread_id));
            std::future::ready(Ok(()))
        })
        .typing(move |started, it: Typing| {
            typing.lock().unwrap().push(format!("{started} {:?}", it.preview));
            std::future::ready(Ok(()))
        })
        .option(SourceOption::MessagingTypingIndicator)
        .build()
        .unwrap();
    let endpoint = endpoint(source);
    let update = json!({ "estimated_wait_time": 30, "in_reply_to_id": "m-42", "position": "1", "thread_id": "t-2" });
    for (action, params) in [
        ("messaging.queuing_update", update),
        ("typing.start", json!({ "thread_id": "t-2", "preview": "Hel" })),
        ("typing.stop", json!({ "thread_id": "t-2" })),
    ] {
        assert_eq!(act(&endpoint, action, params).await, json!({}), "{action}");
    }
    assert_eq!(*received.lock().unwrap(), [r#"Some(1) Some(30) Some("t-2")"#, r#"true Some("Hel")"#, "false None"]);

    let deaf = listing()
        .option(SourceOption::ViewMessaging)
        .option(SourceOption::MessagesText)
        .option(SourceOption::MessagingTypingIndicator);
    let endpoint = crate::support::digital::endpoint(deaf.build().unwrap());
    assert_eq!(act(&endpoint, "typing.start", json!({ "preview": "Hel" })).await, json!({}));
}

#[test]
fn absent_null_and_empty_are_the_same() {
    let list = |params: Value| parse(&json!({ "action": "messages.list", "params": params }));
    let first = Ok(Action::List { collection: CollectionName::Messages, since_id: None });
    assert_eq!(parse(&json!({ "action": "messages.list" })), first);
    for params in [
        Value::Null,
        json!({}),
        json!([]),
        json!(""),
        json!({ "since_id": null }),
        json!({ "since_id": "" }),
        json!({ "since_id": {} }),
        json!({ "since_id": [] }),
        json!({ "user_ids": [1, 2] }),
    ] {
        assert_eq!(list(params.clone()), first, "{params}");
    }
    for (id, want) in
        [(json!("m-41"), "m-41"), (json!(41), "41"), (json!(18_446_744_073_709_551_615_u64), "18446744073709551615")]
    {
        let want = Ok(Action::List { collection: CollectionName::Messages, since_id: Some(want.into()) });
        assert_eq!(list(json!({ "since_id": id })), want, "{id}");
    }
}

fn created(params: &Value) -> NewMessage {
    match parse(&json!({ "action": "messages.create", "params": params })) {
        Ok(Action::CreateMessage(new)) => *new,
        other => panic!("{other:?} of {params}"),
    }
}

#[test]
fn odd_values_of_a_create_are_read_or_ignored() {
    let new = created(&json!({ "author_id": 17, "body": "Hi" }));
    assert_eq!((new.author_id.as_str(), new.retry, new.format), ("17", false, None));
    let odd = json!({
        "id": "old", "ip": "::1", "categories": ["x"],
        "author_id": "a", "body": null, "attachments": [{ "url": "https://files.example.com/a", "size": 7 }, null, 7],
        "content_id": "", "thread_id": "", "in_reply_to_id": 0, "retry": "true", "format": "markdown",
        "created_at": "2026-01-02T03:04:05.678+0100", "updated_at": "soon", "title": {}, "sender_name": 5,
    });
    let new = created(&odd);
    assert_eq!((new.content_id, new.thread_id, new.in_reply_to_id.as_deref()), (None, None, Some("0")));
    assert_eq!((new.retry, new.format), (true, Some(Format::Other("markdown".into()))));
    assert_eq!((new.created_at, new.updated_at), (Some(date("2026-01-02T02:04:05Z")), None));
    assert_eq!((new.title, new.sender_name.as_deref()), (None, Some("5")));
    assert_eq!(new.attachments[0].url.as_deref(), Some("https://files.example.com/a"));
    let one = created(&json!({ "author_id": "a", "attachments": { "url": "https://files.example.com/b" } }));
    assert_eq!(one.attachments.len(), 1);
    let card =
        created(&json!({ "author_id": "a", "structured_content": { "type": "rich_link", "url": "github://x" } }));
    assert!(card.structured_content.is_some(), "read as it is, also where it breaks the rules");
}

#[test]
fn every_operation_has_its_action() {
    let (id, messages) = (String::from("m-1"), CollectionName::Messages);
    let params = json!({ "id": "m-1", "user_id": 7 });
    for (name, want) in [
        ("messages.show", Action::Show { collection: messages, id: id.clone() }),
        ("messages.delete", Action::Delete { collection: messages, id: id.clone() }),
        ("messages.destroy", Action::Destroy { collection: messages, id: id.clone() }),
        ("threads.publish", Action::Publish { collection: CollectionName::Threads, id: id.clone() }),
        ("private_messages.unpublish", Action::Unpublish { collection: CollectionName::PrivateMessages, id }),
    ] {
        let action = parse(&json!({ "action": name, "params": params })).unwrap();
        assert_eq!(action, want, "{name}");
        assert_eq!(action.name(), name);
    }
    let Ok(Action::Custom(custom)) = parse(&json!({ "action": "messages.mark_as_spam", "params": params })) else {
        panic!("a custom action");
    };
    assert_eq!((custom.operation.as_str(), custom.user_id.as_deref()), ("mark_as_spam", Some("7")));
    for name in [
        "implementation.info",
        "messaging.queuing_update",
        "typing.start",
        "typing.stop",
        "messages.list",
        "threads.list",
    ] {
        assert_eq!(parse(&json!({ "action": name })).unwrap().name(), name);
    }
    for name in ["messages.create", "private_messages.create", "threads.create"] {
        let action = parse(&json!({ "action": name, "params": { "author_id": "a", "body": "b" } })).unwrap();
        assert_eq!(action.name(), name);
    }
}

#[test]
fn dates_are_read_in_many_forms_and_written_in_one() {
    for (json, want) in [
        (r#""2026-01-02T03:04:05Z""#, Some("2026-01-02T03:04:05Z")),
        (r#""2026-01-02""#, Some("2026-01-02T00:00:00Z")),
        (r#""2026-01-02T03:04:05+0000""#, Some("2026-01-02T03:04:05Z")),
        (r#""2026-01-02T03:04:05+02:00""#, Some("2026-01-02T01:04:05Z")),
        (r#""2026-01-02T03:04:05.999Z""#, Some("2026-01-02T03:04:05Z")),
        ("1641808800999", Some("2022-01-10T10:00:00Z")),
        ("-1", Some("1969-12-31T23:59:59Z")),
        (r#""06/11/2017""#, None),
        (r#""2026-02-30""#, None),
        (r#""""#, None),
        ("9223372036854775807", None),
        ("null", None),
        ("{}", None),
    ] {
        let read: Option<Date> = serde_json::from_str(json).ok();
        assert_eq!(read.map(|date| date.to_string()).as_deref(), want, "{json}");
    }
    let at = date("2026-01-02T03:04:05Z");
    assert_eq!(Date::from_system(at.system_time()), Some(at));
    assert_eq!(Date::from_unix(at.unix()), Some(at));
    assert_eq!(Date::from_unix(i64::MAX), None);
    assert_eq!(Date::from_unix(-62_167_219_201), None, "before the year 0");
    let early = Date::from_unix(-86_400).unwrap();
    assert_eq!(
        (Date::from_system(early.system_time()), early.to_string().as_str()),
        (Some(early), "1969-12-31T00:00:00Z")
    );
}

#[test]
fn objects_contain_only_the_set_fields() {
    let author = json!({
        "id": "cust-7", "screenname": "Ana", "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
    });
    assert_eq!(
        serde_json::to_value(Message::new("m-1", customer())).unwrap(),
        json!({ "id": "m-1", "author": author })
    );
    assert_eq!(
        serde_json::to_value(Thread::new("t-2", "Delivery")).unwrap(),
        json!({ "id": "t-2", "title": "Delivery" })
    );
    let private = serde_json::to_value(PrivateMessage::new("pm-1", customer(), agent())).unwrap();
    assert_eq!(private["recipient"]["puppetizable"], true);

    let mut message = Message::new("42", customer());
    message.body = Some(String::new());
    message.format = Some(Format::Text);
    message.attachments = vec![Attachment::at("https://files.example.com/p.png"), Attachment::of("a.txt", b"abc")];
    message.context_data =
        ContextData::default().with("page", "cart").with("tags", vec!["a".to_owned(), "b".to_owned()]);
    let written = serde_json::to_value(&message).unwrap();
    assert_eq!(written["attachments"][1], json!({ "filename": "a.txt", "content": "YWJj" }));
    assert_eq!(written["context_data"], json!({ "page": "cart", "tags": ["a", "b"] }));
    assert_eq!(serde_json::from_value::<Message>(written).unwrap(), message);
    assert_eq!(message.context_data.get("page"), Some(&ContextValue::from("cart")));
    assert_eq!(message.context_data.iter().count(), 2);
    let odd: User =
        serde_json::from_value(json!({ "id": 7, "context_data": [], "gender": "man", "puppetizable": null })).unwrap();
    assert_eq!((odd.id.as_str(), odd.context_data.iter().count(), odd.puppetizable), ("7", 0, None));
}

#[test]
fn structured_messages_are_validated() {
    let long = |count: usize| "x".repeat(count);
    let choices = |count: usize| StructuredContent::select((0..count).map(|_| StructuredItem::choice("a")));
    let buttons = |count: usize| (0..count).map(|_| StructuredItem::reply("a")).collect::<Vec<_>>();
    let link = |url: &str| StructuredContent::rich_link("Example", url);
    let card = |button: StructuredItem| StructuredContent::template("Order 7", [button]);
    let carousel = |cards: usize, count: usize| {
        StructuredContent::carousel((0..cards).map(|_| StructuredItem::card("A", buttons(count))))
    };
    let mut with_fallback = carousel(1, 1);
    with_fallback.items[0].attachment_url = Some("ftp://example.com".into());
    let mut untyped = card(StructuredItem::choice("a"));
    for (why, content) in [
        ("no type", StructuredContent::default()),
        ("no answers", choices(0)),
        ("14 answers", choices(14)),
        ("a long answer", StructuredContent::select([StructuredItem::choice(long(81))])),
        ("an empty answer", StructuredContent::select([StructuredItem::choice(" ")])),
        ("a long payload", StructuredContent::select([StructuredItem::choice("a").payload(long(1001))])),
        ("a payload that is not ASCII", StructuredContent::select([StructuredItem::choice("a").payload("é")])),
        ("another scheme", link("github://a")),
        ("no URL", link("")),
        ("a long URL", link(&format!("https://example.com/{}", long(2048)))),
        ("no title", StructuredContent::rich_link("", "https://example.com")),
        ("a long title", StructuredContent::template(long(351), [])),
        ("five buttons", StructuredContent::template("a", buttons(5))),
        ("a button that is neither", std::mem::take(&mut untyped)),
        ("a link with a payload", card(StructuredItem::link("a", "https://example.com").payload("p"))),
        ("a link to nowhere", card(StructuredItem::link("a", ""))),
        ("no cards", carousel(0, 1)),
        ("eleven cards", carousel(11, 1)),
        ("five buttons on a card", carousel(1, 5)),
        ("a picture from elsewhere", with_fallback),
    ] {
        assert_eq!(content.check().unwrap_err().kind(), ErrorKind::Config, "{why}");
    }
    for content in [
        choices(13),
        StructuredContent::select([StructuredItem::choice("é".repeat(80)).payload(long(1000))]),
        link("https://example.com/a"),
        StructuredContent::template(long(350), []),
        StructuredContent::template("Order 7", [StructuredItem::link("Track", "https://example.com/7")]),
        carousel(10, 4),
    ] {
        content.check().unwrap();
        let written = serde_json::to_value(&content).unwrap();
        assert_eq!(serde_json::from_value::<StructuredContent>(written).unwrap(), content);
    }
    let example = StructuredContent::template(
        "Order 7",
        [StructuredItem::link("Track", "https://example.com/7"), StructuredItem::reply("Cancel").payload("c7")],
    );
    assert_eq!(
        serde_json::to_value(example).unwrap(),
        json!({ "type": "template", "title": "Order 7", "items": [
            { "type": "url", "title": "Track", "url": "https://example.com/7" },
            { "type": "reply", "title": "Cancel", "payload": "c7" },
        ]})
    );
}

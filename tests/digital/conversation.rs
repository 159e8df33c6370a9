//! The conversation of the guide to polling, and one with private messages.

use crate::support::digital::{act, agent, ask, body_of, customer, date, endpoint};
use ringcentral_events::digital::{
    Failure, Format, MemoryFeed, Message, Messages, NewMessage, NewPrivateMessage, PrivateMessage, PrivateMessages,
    Source, SourceEndpoint, SourceOption, Thread, Threads,
};
use serde_json::{Value, json};

/// The guide's source: messages and threads that can be listed, shown, created and deleted;
/// messages that can be marked as spam, threads that can be sticky.
fn forum(messages: &MemoryFeed<Message>, threads: &MemoryFeed<Thread>) -> SourceEndpoint {
    let (shown, created, deleted) = (messages.clone(), messages.clone(), messages.clone());
    let (spam, unspam) = (messages.clone(), messages.clone());
    let (thread_shown, thread_created, thread_deleted, sticky) =
        (threads.clone(), threads.clone(), threads.clone(), threads.clone());
    let source = Source::builder()
        .list(Messages, messages.clone())
        .show(Messages, move |id| std::future::ready(Ok(shown.get(&id))))
        .create(Messages, move |new: NewMessage| {
            let feed = created.clone();
            async move {
                let mut message = Message::new(format!("2352{}", 344 + feed.contents().len()), agent());
                message.thread_id = new.thread_id;
                message.in_reply_to_id = new.in_reply_to_id;
                message.body = new.body;
                message.format = new.format;
                feed.put(message.clone());
                Ok(message)
            }
        })
        .delete(Messages, move |id| std::future::ready(deleted.remove(&id).ok_or_else(Failure::not_found)))
        .custom(Messages, "spam", move |it| {
            let changed = spam.change(&it.id, |message| message.actions = vec!["unspam".into()]);
            std::future::ready(changed.ok_or_else(Failure::not_found))
        })
        .custom(Messages, "unspam", move |it| {
            let changed = unspam.change(&it.id, |message| message.actions = vec!["spam".into()]);
            std::future::ready(changed.ok_or_else(Failure::not_found))
        })
        .label("default", "spam", "Report as spam")
        .label("fr", "spam", "Signaler comme indésirable")
        .list(Threads, threads.clone())
        .show(Threads, move |id| std::future::ready(Ok(thread_shown.get(&id))))
        .create(Threads, move |new| {
            let thread = Thread::new(format!("t-{}", thread_created.contents().len()), new.title.unwrap_or_default());
            thread_created.put(thread.clone());
            std::future::ready(Ok(thread))
        })
        .delete(Threads, move |id| std::future::ready(thread_deleted.remove(&id).ok_or_else(Failure::not_found)))
        .custom(Threads, "sticky", move |it| std::future::ready(sticky.get(&it.id).ok_or_else(Failure::not_found)))
        .build()
        .unwrap();
    endpoint(source)
}

fn message(id: &str, text: &str) -> Message {
    let mut message = Message::new(id, customer());
    message.thread_id = Some("t-0".into());
    message.body = Some(text.into());
    message.created_at = Some(date("2019-10-01T17:18:40Z"));
    message.actions = vec!["show".into(), "delete".into(), "spam".into()];
    message
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_guides_conversation() {
    let (messages, threads) = (MemoryFeed::new(), MemoryFeed::new());
    threads.put(Thread::new("t-0", "Delivery"));
    messages.put(message("2352342", "seen"));
    messages.put(message("2352343", "new"));
    let forum = forum(&messages, &threads);

    let (status, info) = ask(&forum, r#"{"action":"implementation.info","time":"2019-10-01T17:18:40Z"}"#).await;
    assert_eq!(status, 200);
    assert_eq!(
        serde_json::from_str::<Value>(&info).unwrap(),
        json!({
            "objects": {
                "messages": ["list", "show", "create", "delete", "spam", "unspam"],
                "threads": ["list", "show", "create", "delete", "sticky"],
            },
            "options": [],
            "locales": { "default": { "spam": "Report as spam" }, "fr": { "spam": "Signaler comme indésirable" } },
        })
    );

    let (status, listed) = ask(&forum, body_of("threads.list", None)).await;
    assert_eq!((status, listed.as_str()), (200, r#"[{"id":"t-0","title":"Delivery"}]"#));

    // The guide's request, including its spaces.
    let request = "{\n  \"action\": \"messages.list\",\n  \"params\": { \"since_id\": \"2352342\" },\n  \
                   \"time\": \"2019-10-01T17:18:40Z\"\n}";
    let (status, listed) = ask(&forum, request).await;
    assert_eq!(status, 200);
    assert_eq!(
        serde_json::from_str::<Value>(&listed).unwrap(),
        json!([{
            "id": "2352343",
            "thread_id": "t-0",
            "body": "new",
            "author": {
                "id": "cust-7",
                "screenname": "Ana",
                "created_at": "2026-01-01T00:00:00Z",
                "updated_at": "2026-01-01T00:00:00Z",
            },
            "actions": ["show", "delete", "spam"],
            "created_at": "2019-10-01T17:18:40Z",
        }])
    );

    let create = json!({
        "author_id": "agent-1", "body": "On its way.", "content_id": "65b0c0ffee00000000000001", "format": "text",
        "in_reply_to_id": "2352343", "retry": false, "thread_id": "t-0", "title": null,
    });
    let created = act(&forum, "messages.create", create).await;
    assert_eq!((&created["id"], &created["format"]), (&json!("2352346"), &json!("text")));
    assert_eq!(ids(&act(&forum, "messages.list", json!({ "since_id": "2352343" })).await), ["2352346"]);

    for action in ["messages.destroy", "messages.destroy", "messages.delete"] {
        assert_eq!(act(&forum, action, json!({ "id": "2352343" })).await["body"], "new", "{action}");
    }
    assert_eq!(ids(&act(&forum, "messages.list", json!({})).await), ["2352346", "2352342"]);
    // A deleted content retains its position.
    assert_eq!(ids(&act(&forum, "messages.list", json!({ "since_id": "2352343" })).await), ["2352346"]);

    let marked = act(&forum, "messages.spam", json!({ "id": "2352346", "user_id": "agent-1" })).await;
    assert_eq!(marked["actions"], json!(["unspam"]));
    let marked = act(&forum, "messages.unspam", json!({ "id": 2_352_346 })).await;
    assert_eq!(marked["actions"], json!(["spam"]));
    assert_eq!(act(&forum, "threads.sticky", json!({ "id": "t-0" })).await["title"], "Delivery");
    assert_eq!(act(&forum, "threads.create", json!({ "author_id": "agent-1", "title": "News" })).await["id"], "t-1");
    assert_eq!(act(&forum, "messages.show", json!({ "id": "nobody" })).await, json!({}));
    let (status, reason) = ask(&forum, body_of("messages.delete", Some(json!({ "id": "nobody" })))).await;
    assert_eq!((status, reason.as_str()), (404, "no content has this id"));
}

#[tokio::test]
async fn a_chat_over_private_messages() {
    let feed: MemoryFeed<PrivateMessage> = MemoryFeed::new();
    let mut hello = PrivateMessage::new("pm-8", customer(), agent());
    hello.body = Some("Hi".into());
    feed.put(hello);
    let written = feed.clone();
    let source = Source::builder()
        .option(SourceOption::ViewMessaging)
        .option(SourceOption::PrivateMessagesText)
        .list(PrivateMessages, feed)
        .create(PrivateMessages, move |new: NewPrivateMessage| {
            assert_eq!((new.recipient_id.as_deref(), new.in_reply_to_id.as_deref()), (Some("cust-7"), None));
            assert_eq!((new.format, new.retry), (Some(Format::Text), true));
            let mut message = PrivateMessage::new("pm-9", agent(), customer());
            message.body = new.body;
            written.put(message.clone());
            std::future::ready(Ok(message))
        })
        .reply(PrivateMessages)
        .build()
        .unwrap();
    let endpoint = endpoint(source);
    let new = json!({
        "author_id": "agent-1", "body": "Hi", "content_id": 17, "created_at": "2026-01-02T03:04:05Z", "format": "text",
        "in_reply_to_id": null, "recipient_id": "cust-7", "retry": true, "sender_name": "Jane",
    });
    let created = act(&endpoint, "private_messages.create", new).await;
    assert_eq!((&created["id"], &created["recipient"]["id"]), (&json!("pm-9"), &json!("cust-7")));
    assert_eq!(created["author"]["puppetizable"], true);
    assert_eq!(ids(&act(&endpoint, "private_messages.list", Value::Null).await), ["pm-9", "pm-8"]);
}

//! A signed request to an in-memory endpoint, and its answer, checked like a crawler does.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use ringcentral_events::digital::{
    Date, Failure, Format, MemoryFeed, Message, Messages, NewMessage, SIGNATURE_HEADER, Signer, Source, SourceEndpoint,
    SourceOption, Thread, Threads, User,
};
use serde_json::{Value, json};

pub(crate) const TOKEN: &str = "3YJZzqMJ5Ec7i2JGvnt8TgvleD7dtpwp";

pub(crate) fn signer() -> Signer {
    Signer::new(TOKEN).unwrap()
}

pub(crate) fn endpoint(source: Source) -> SourceEndpoint {
    SourceEndpoint::builder(source, TOKEN).build().unwrap()
}

/// A signed POST of these bytes.
pub(crate) fn signed(body: impl Into<Bytes>) -> Request<Bytes> {
    let body = body.into();
    let signature = signer().sign(&body);
    Request::post("/").header(SIGNATURE_HEADER, signature).body(body).unwrap()
}

pub(crate) fn body_of(action: &str, params: Option<Value>) -> String {
    let mut body = json!({ "action": action, "time": "2026-01-02T03:04:05Z" });
    if let Some(params) = params {
        body["params"] = params;
    }
    body.to_string()
}

/// Status and body of an answer with a valid signature.
pub(crate) fn checked(answer: &Response<Bytes>) -> (u16, String) {
    let signatures: Vec<_> = answer.headers().get_all(SIGNATURE_HEADER).iter().collect();
    assert_eq!(signatures.len(), 1, "one signature");
    signer().verify(answer.body(), signatures[0].to_str().unwrap()).expect("a right signature");
    (answer.status().as_u16(), String::from_utf8(answer.body().to_vec()).expect("UTF-8"))
}

pub(crate) async fn ask(endpoint: &SourceEndpoint, body: impl Into<Bytes>) -> (u16, String) {
    checked(&endpoint.handle(signed(body)).await)
}

/// The JSON of a success.
pub(crate) async fn act(endpoint: &SourceEndpoint, action: &str, params: Value) -> Value {
    let (status, body) = ask(endpoint, body_of(action, Some(params))).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

pub(crate) fn date(text: &str) -> Date {
    Date::parse(text).unwrap()
}

pub(crate) fn customer() -> User {
    User::new("cust-7", "Ana", date("2026-01-01"))
}

pub(crate) fn agent() -> User {
    User::new("agent-1", "Jane", date("2026-01-01")).puppet()
}

/// An in-memory forum: threads, messages, and the agents' actions on them.
#[derive(Clone)]
pub(crate) struct Forum {
    pub(crate) threads: MemoryFeed<Thread>,
    pub(crate) messages: MemoryFeed<Message>,
    /// Not listed, only shown.
    archive: Arc<Mutex<(Vec<Message>, Vec<Thread>)>>,
}

impl Forum {
    pub(crate) const SHOWN: [&'static str; 5] = ["show", "reply", "delete", "unpublish", "spam"];

    /// With one thread.
    pub(crate) fn new() -> Self {
        let threads = MemoryFeed::new();
        threads.put(Thread::new("t-1", "Delivery"));
        Self { threads, messages: MemoryFeed::new(), archive: Arc::default() }
    }

    pub(crate) fn message(&self, id: &str, thread: &str, in_reply_to: Option<&str>) -> Message {
        let mut message = Message::new(id, customer());
        message.thread_id = Some(thread.into());
        message.in_reply_to_id = in_reply_to.map(str::to_owned);
        message.body = Some(format!("text of {id}"));
        message.format = Some(Format::Text);
        message.actions = Self::SHOWN.map(str::to_owned).to_vec();
        message
    }

    pub(crate) fn archive(&self, message: Message, thread: Thread) {
        let mut archive = self.archive.lock().unwrap();
        archive.0.push(message);
        archive.1.push(thread);
    }

    fn mark(&self, id: &str, actions: &[&str]) -> Result<Message, Failure> {
        let mark = |message: &mut Message| message.actions = actions.iter().map(|&it| it.to_owned()).collect();
        self.messages.change(id, mark).ok_or_else(Failure::not_found)
    }

    fn write(&self, new: NewMessage) -> Message {
        let id = format!("w-{}", new.content_id.unwrap_or_default());
        let mut message = self.message(&id, &new.thread_id.unwrap_or_else(|| "t-1".into()), None);
        message.in_reply_to_id = new.in_reply_to_id;
        message.body = new.body;
        message.author = Some(agent());
        self.messages.put(message.clone());
        message
    }

    pub(crate) fn source(&self) -> Source {
        macro_rules! with {
            (|$forum:ident, $given:pat_param| $answer:expr) => {{
                let $forum = self.clone();
                move |$given| {
                    let $forum = $forum.clone();
                    async move { $answer }
                }
            }};
        }
        let archived = |of: &Self, id: &str| of.archive.lock().unwrap().0.iter().find(|it| it.id == id).cloned();
        let thread = |of: &Self, id: &str| of.archive.lock().unwrap().1.iter().find(|it| it.id == id).cloned();
        Source::builder()
            .option(SourceOption::MessagesText)
            .option(SourceOption::ThreadsNoContent)
            .list(Threads, self.threads.clone())
            .show(Threads, with!(|forum, id| Ok(forum.threads.get(&id).or_else(|| thread(&forum, &id)))))
            .list(Messages, self.messages.clone())
            .show(Messages, with!(|forum, id| Ok(forum.messages.get(&id).or_else(|| archived(&forum, &id)))))
            .create(Messages, with!(|forum, new| Ok(forum.write(new))))
            .reply(Messages)
            .delete(Messages, with!(|forum, id| forum.messages.remove(&id).ok_or_else(Failure::not_found)))
            .publish(Messages, with!(|forum, id| forum.mark(&id, &Self::SHOWN)))
            .unpublish(Messages, with!(|forum, id| forum.mark(&id, &["publish"])))
            .custom(Messages, "spam", with!(|forum, it| forum.mark(&it.id, &["unspam"])))
            .custom(Messages, "unspam", with!(|forum, it| forum.mark(&it.id, &Self::SHOWN)))
            .label("fr", "spam", "Signaler")
            .build()
            .unwrap()
    }
}

//! A small forum in memory, as a source for Engage Digital (RingCX Digital).
//!
//! ```text
//! RC_DIGITAL_TOKEN='the API access token' cargo run --example digital_source -- --port 8080
//! ```
//!
//! Serves the forum on loopback until Ctrl-C. Put a TLS proxy in front of it, and enter its URL
//! with the same token in the channel's settings. Agents can then read, answer, hide and delete
//! messages, and mark them as spam.
//!
//! Without an account, the sandbox acts as the platform: it crawls the forum, its agents write, and
//! the program ends.
//!
//! ```text
//! cargo run --example digital_source -- --sandbox
//! ```

#[path = "support/digital.rs"]
mod digital;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use digital::{Args, Failure as Failed, cli};
use ringcentral_events::digital::{
    Date, Failure, Format, MemoryFeed, Message, Messages, NewMessage, Source, SourceEndpoint, SourceOption, Thread,
    Threads, User,
};
use tokio::net::TcpListener;

const USAGE: &str = "usage: digital_source [--port N] [--sandbox]

Serves a small forum for Engage Digital (RingCX Digital).
  --port N           port on 127.0.0.1 (0: any free one)
  --sandbox          the sandbox crawls the forum, and the program ends
  RC_DIGITAL_TOKEN   the channel's API access token; not with --sandbox";
/// The actions on a visible message, and on a hidden one.
const SHOWN: [&str; 5] = ["show", "reply", "delete", "unpublish", "spam"];
const HIDDEN: [&str; 3] = ["show", "delete", "publish"];
const SPAM: [&str; 3] = ["show", "delete", "unspam"];

/// Users, threads and messages, in order of arrival.
struct Forum {
    customer: User,
    agent: User,
    threads: MemoryFeed<Thread>,
    messages: MemoryFeed<Message>,
    next: AtomicU64,
}

impl Forum {
    /// A forum with one thread, in which a customer asks and an agent has answered: the platform
    /// learns which identities it may write as from their messages.
    fn new() -> Arc<Self> {
        let forum = Self {
            customer: User::new("ana", "Ana", Date::now()),
            agent: User::new("jane", "Jane", Date::now()).puppet(),
            threads: MemoryFeed::new(),
            messages: MemoryFeed::new(),
            next: AtomicU64::new(1),
        };
        let thread = Thread::new("t-1", "Delivery");
        let question = forum.message(&forum.customer, "t-1", None, "Where is my order?");
        forum.threads.put(thread);
        forum.messages.put(question.clone());
        forum.messages.put(forum.message(&forum.agent, "t-1", Some(question.id), "Let me see."));
        Arc::new(forum)
    }

    fn message(&self, author: &User, thread: &str, in_reply_to: Option<String>, text: &str) -> Message {
        let id = format!("m-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let mut message = Message::new(id, author.clone());
        message.thread_id = Some(thread.to_owned());
        message.in_reply_to_id = in_reply_to;
        message.body = Some(text.to_owned());
        message.format = Some(Format::Text);
        message.created_at = Some(Date::now());
        message.actions = SHOWN.map(str::to_owned).to_vec();
        message
    }

    /// Writes an agent's message. A permanent refusal must say so, since the platform would retry
    /// it otherwise.
    fn write(&self, new: &NewMessage) -> Result<Message, Failure> {
        if new.author_id != self.agent.id {
            return Err(Failure::fatal("no user with this id may write here"));
        }
        let answered = new.in_reply_to_id.as_deref().and_then(|id| self.messages.get(id));
        let thread = new.thread_id.clone().or_else(|| answered?.thread_id);
        let thread = thread.filter(|id| self.threads.get(id).is_some());
        let (Some(thread), Some(text)) = (thread, new.body.as_deref()) else {
            return Err(Failure::fatal("a message needs a thread and a text"));
        };
        let message = self.message(&self.agent, &thread, new.in_reply_to_id.clone(), text);
        self.messages.put(message.clone());
        Ok(message)
    }

    /// Changes a message's buttons, which is all that hiding and marking do here.
    fn mark(&self, id: &str, actions: &[&str]) -> Result<Message, Failure> {
        let mark = |message: &mut Message| message.actions = actions.iter().map(|&it| it.to_owned()).collect();
        self.messages.change(id, mark).ok_or_else(Failure::not_found)
    }
}

/// The forum's operations for the platform.
fn source(forum: &Arc<Forum>) -> ringcentral_events::Result<Source> {
    // These handlers do not wait; one that queries a database does.
    macro_rules! with {
        (|$forum:ident, $given:pat_param| $answer:expr) => {{
            let $forum = Arc::clone(forum);
            move |$given| {
                let $forum = Arc::clone(&$forum);
                async move { $answer }
            }
        }};
    }
    Source::builder()
        .option(SourceOption::MessagesNoTitle)
        .option(SourceOption::MessagesText)
        .option(SourceOption::ThreadsNoContent)
        .list(Threads, forum.threads.clone())
        .show(Threads, with!(|forum, id| Ok(forum.threads.get(&id))))
        .list(Messages, forum.messages.clone())
        .show(Messages, with!(|forum, id| Ok(forum.messages.get(&id))))
        .create(Messages, with!(|forum, new| forum.write(&new)))
        .reply(Messages)
        .delete(Messages, with!(|forum, id| forum.messages.remove(&id).ok_or_else(Failure::not_found)))
        .publish(Messages, with!(|forum, id| forum.mark(&id, &SHOWN)))
        .unpublish(Messages, with!(|forum, id| forum.mark(&id, &HIDDEN)))
        .custom(Messages, "spam", with!(|forum, it| forum.mark(&it.id, &SPAM)))
        .custom(Messages, "unspam", with!(|forum, it| forum.mark(&it.id, &SHOWN)))
        .label("default", "spam", "Report as spam")
        .label("fr", "spam", "Signaler comme indésirable")
        .build()
}

async fn run(args: Args) -> Result<(), Failed> {
    let forum = Forum::new();
    let (listener, url) = digital::listen(args.port).await?;
    if args.sandbox {
        return in_sandbox(&forum, listener, &url).await;
    }
    let endpoint = SourceEndpoint::builder(source(&forum)?, digital::token()?).build()?;
    let stop = cli::stop_signal()?;
    writeln!(std::io::stdout(), "ready            {url}")?;
    let router = Router::new().route_service("/", endpoint);
    axum::serve(listener, router).with_graceful_shutdown(stop).await?;
    Ok(())
}

/// Lets the sandbox crawl the forum: two runs with agents' writes between them, and all of its
/// checks. An error if there is any violation.
async fn in_sandbox(forum: &Arc<Forum>, listener: TcpListener, url: &str) -> Result<(), Failed> {
    use ringcentral_events::digital::{CollectionName, SendApi};
    use ringcentral_sandbox::Sandbox;
    use ringcentral_sandbox::digital::{Run, SourceAt, Write};

    const TOKEN: &str = "the token of the example's channel";
    const MESSAGES: CollectionName = CollectionName::Messages;
    let mut out = std::io::stdout();
    let mut wrong = 0;
    let mut print = |stage: &str, run: &Run| -> std::io::Result<()> {
        for step in &run.steps {
            writeln!(out, "{stage:<16} {step}")?;
        }
        wrong += run.violations().count();
        Ok(())
    };
    let endpoint = SourceEndpoint::builder(source(forum)?, TOKEN).build()?;
    let server = tokio::spawn(async move { axum::serve(listener, Router::new().route_service("/", endpoint)).await });
    let sandbox = Sandbox::start().await?;
    let channel = sandbox.digital_channel(SourceAt::url(url)?, TOKEN)?;
    print("crawl", &channel.run().await)?;
    for thread in channel.contents(CollectionName::Threads) {
        println!("thread           {} {:?}", thread.id, thread.text("title").unwrap_or_default());
    }
    for message in channel.contents(MESSAGES) {
        println!("message          {} {:?}", message.id, message.text("body").unwrap_or_default());
    }

    // The customer writes, and the forum pushes the message at once.
    let message = forum.message(&forum.customer, "t-1", None, "It is order 7.");
    forum.messages.put(message.clone());
    SendApi::builder(channel.send_url(), TOKEN).build()?.create(Messages, &message).await?;
    println!("sent             {} {:?}", message.id, message.body.as_deref().unwrap_or_default());

    let reply = Write::message(&forum.agent.id, "On its way.").in_thread("t-1").in_reply_to(&message.id);
    let written = channel.write(reply).await?;
    print("agent", &written.run)?;
    let answer = written.job.id.ok_or("the forum did not take the answer")?;
    for write in [
        Write::on(MESSAGES, "unpublish", "m-1"),
        Write::on(MESSAGES, "publish", "m-1"),
        Write::custom(MESSAGES, "spam", "m-2", &forum.agent.id),
        Write::on(MESSAGES, "delete", &answer),
    ] {
        print("agent", &channel.write(write).await?.run)?;
    }
    print("crawl", &channel.run().await)?;
    print("audit", &channel.audit().await)?;
    let checks = channel.check_requests().await;
    let refused = checks.steps.iter().filter(|step| step.outcome == "refused").count();
    println!("check            {} refused, {} accepted", refused, checks.steps.len() - refused);
    wrong += checks.violations().count();
    for violation in checks.violations() {
        println!("                 {violation}");
    }
    server.abort();
    if wrong > 0 {
        return Err(format!("the forum has {wrong} violations").into());
    }
    println!("ok               the source follows every rule");
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    cli::main(USAGE, Args::default(), digital::option, run).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use ringcentral_events::digital::{SIGNATURE_HEADER, Signer};
    use serde_json::{Value, json};

    async fn act(endpoint: &SourceEndpoint, action: &str, params: Value) -> Value {
        let body = json!({ "action": action, "params": params }).to_string();
        let signature = Signer::new("token").unwrap().sign(body.as_bytes());
        let request = Request::post("/").header(SIGNATURE_HEADER, signature).body(body.into()).unwrap();
        let answer = endpoint.handle(request).await;
        assert_eq!(answer.status(), 200, "{action}");
        serde_json::from_slice(answer.body()).unwrap()
    }

    #[tokio::test]
    async fn an_agent_reads_answers_hides_and_deletes() {
        let endpoint = SourceEndpoint::builder(source(&Forum::new()).unwrap(), "token").build().unwrap();
        let info = act(&endpoint, "implementation.info", json!({})).await;
        assert_eq!(info["objects"]["threads"], json!(["list", "show"]));
        assert_eq!(act(&endpoint, "threads.list", json!({})).await, json!([{ "id": "t-1", "title": "Delivery" }]));
        let listed = act(&endpoint, "messages.list", json!({})).await;
        assert_eq!((&listed[0]["id"], &listed[1]["body"]), (&json!("m-2"), &json!("Where is my order?")));

        let answer =
            json!({ "author_id": "jane", "body": "On its way.", "in_reply_to_id": "m-1", "content_id": "c-1" });
        let written = act(&endpoint, "messages.create", answer.clone()).await;
        assert_eq!((&written["id"], &written["thread_id"]), (&json!("m-3"), &json!("t-1")));
        assert_eq!(act(&endpoint, "messages.create", answer).await, written);
        assert_eq!(act(&endpoint, "messages.list", json!({ "since_id": "m-2" })).await, json!([written]));

        let hidden = act(&endpoint, "messages.unpublish", json!({ "id": "m-1" })).await;
        assert_eq!(hidden["actions"], json!(HIDDEN));
        let spam = act(&endpoint, "messages.spam", json!({ "id": "m-1", "user_id": "jane" })).await;
        assert_eq!(spam["actions"], json!(SPAM));
        for action in ["messages.delete", "messages.destroy"] {
            assert_eq!(act(&endpoint, action, json!({ "id": "m-1" })).await["id"], "m-1");
        }
        assert_eq!(act(&endpoint, "messages.show", json!({ "id": "m-1" })).await, json!({}));
        for refused in [
            json!({ "author_id": "ana", "body": "x", "thread_id": "t-1" }),
            json!({ "author_id": "jane", "body": "x" }),
        ] {
            let answer = act(&endpoint, "messages.create", refused).await;
            assert_eq!(answer["error"]["fatal"], true);
        }
    }
}

//! A scripted service of agent sessions; hand-written events, and one word per delivery of a stream.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use ringcentral_events::Error;
use ringcentral_events::agent::{AgentDelivery, AgentEvents, AgentNotification, AgentSession, AgentSessionBuilder};
use ringcentral_events::auth::{AccessToken, StaticToken, TokenProvider};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

pub(crate) use super::common::*;

use super::scripted::{Reply, Scripted, Seen};

/// Answers to polls, in order; without one a poll is held.
#[derive(Clone, Default)]
pub(crate) struct Script(Arc<Mutex<VecDeque<Reply>>>);

impl Script {
    pub(crate) fn then(&self, reply: Reply) -> &Self {
        self.0.lock().unwrap().push_back(reply);
        self
    }

    fn next(&self) -> Reply {
        self.0.lock().unwrap().pop_front().unwrap_or(Reply::Hang)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

pub(crate) struct Service {
    pub(crate) server: Scripted,
    pub(crate) polls: Script,
    pub(crate) calls: Script,
}

impl Service {
    /// Starts answer `S0`, joins `J0`, ends 202, unless `calls` says otherwise.
    pub(crate) async fn start() -> Self {
        let (polls, calls) = (Script::default(), Script::default());
        let server = Scripted::start({
            let (polls, calls) = (polls.clone(), calls.clone());
            move |seen: Seen| {
                let reply = if seen.target.contains("get-next-event") {
                    polls.next()
                } else if calls.is_done() {
                    let id = if seen.target.ends_with("/join") { "J0" } else { "S0" };
                    Reply::new(202, json!({ "sessionId": id }).to_string())
                } else {
                    calls.next()
                };
                async move { reply }
            }
        })
        .await;
        Self { server, polls, calls }
    }

    pub(crate) fn builder(&self) -> AgentSessionBuilder {
        self.with(StaticToken::new(AccessToken::new("t0ken")))
    }

    pub(crate) fn with(&self, tokens: impl TokenProvider) -> AgentSessionBuilder {
        AgentSession::builder(tokens).base_url(self.server.url()).phone_number("+12055550100")
    }

    pub(crate) async fn events(&self) -> (AgentSession, AgentEvents) {
        let session = self.builder().start().await.unwrap();
        let events = session.events().unwrap();
        (session, events)
    }

    /// The id and the timeout of each poll so far.
    pub(crate) fn polled(&self) -> Vec<(String, String)> {
        let polls = self.server.seen();
        let polls =
            polls.iter().filter_map(|seen| seen.target.strip_prefix("/inContactAPI/services/v23.0/agent-sessions/"));
        polls
            .filter_map(|target| target.split_once("/get-next-event?timeout="))
            .map(|(id, timeout)| (id.to_owned(), timeout.to_owned()))
            .collect()
    }

    /// Whether at most this many polls were sent by now: other requests that begin later arrive, one after the other.
    pub(crate) async fn is_held_back(&self, polls: usize) -> bool {
        for _ in 0..20 {
            let seen = self.server.seen().len();
            let mut other = TcpStream::connect(&self.server.url()["http://".len()..]).await.unwrap();
            other.write_all(b"GET /other HTTP/1.1\r\n\r\n").await.unwrap();
            self.server.until(|| self.server.seen().len() > seen).await;
        }
        self.polled().len() <= polls
    }

    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = self.server.until(|| holds(self));
        assert!(tokio::time::timeout(SOON, wait).await.is_ok(), "{what}: {:?}", self.server.lines());
    }
}

pub(crate) fn batch(id: &str, events: &[Value]) -> Reply {
    Reply::new(200, json!({ "sessionId": id, "events": events }).to_string())
}

pub(crate) fn start_event() -> Value {
    json!({ "Type": "AgentSessionStart", "AgentId": "7001", "SessionId": "310004411" })
}

pub(crate) fn state(state: &str) -> Value {
    json!({ "Type": "AgentState", "CurrentState": state })
}

pub(crate) fn call(id: &str, status: &str, last: bool) -> Value {
    let last = if last { "True" } else { "False" };
    json!({ "Type": "CallContactEvent", "ContactID": id, "Status": status, "FinalState": last })
}

pub(crate) fn custom(name: &str) -> Value {
    json!({ "type": "CustomEvent", "eventName": name, "data": "" })
}

/// The next item as a word: the event's kind, or the kind of the delivery.
pub(crate) async fn word(events: &mut AgentEvents) -> String {
    match next(events).await {
        Some(Ok(delivery)) => name(&delivery),
        Some(Err(error)) => format!("error {}", error.kind()),
        None => "none".to_owned(),
    }
}

pub(crate) async fn words(events: &mut AgentEvents, count: usize) -> Vec<String> {
    let mut words = Vec::new();
    for _ in 0..count {
        words.push(word(events).await);
    }
    words
}

pub(crate) fn name(delivery: &AgentDelivery) -> String {
    match delivery {
        AgentDelivery::Notification(event) => event.event().kind().as_str().to_owned(),
        AgentDelivery::Gap(gap) => format!("gap {}", gap.cause.as_str()),
        AgentDelivery::Resumed(_) => "resumed".to_owned(),
        AgentDelivery::Undecodable(_) => "undecodable".to_owned(),
        AgentDelivery::ContactsGone(gone) => {
            let ids: Vec<_> = gone.iter().map(|contact| contact.contact_id.as_str()).collect();
            format!("gone {}", ids.join(","))
        }
        AgentDelivery::SessionEnded(ended) => format!("ended {}", ended.reason.as_str()),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn next(events: &mut AgentEvents) -> Option<Result<AgentDelivery, Error>> {
    tokio::time::timeout(SOON, events.next()).await.expect("nothing came in time")
}

pub(crate) async fn notification(events: &mut AgentEvents) -> AgentNotification {
    match next(events).await {
        Some(Ok(AgentDelivery::Notification(event))) => *event,
        other => panic!("{other:?}"),
    }
}

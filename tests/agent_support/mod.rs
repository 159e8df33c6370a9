//! A service of agent sessions that answers as a test says.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test fails as the test does")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringcentral_events::agent::{AgentEvents, AgentSession, AgentSessionBuilder};
use ringcentral_events::auth::{AccessToken, StaticToken, TokenProvider};
use serde_json::{Value, json};

use crate::scripted::{Reply, Scripted, Seen};

mod told;
pub(crate) use told::*;

/// Answers to polls, in their order; without one a poll is held.
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

    /// Whether no more than so many polls come in a while; a slow machine makes them fewer.
    pub(crate) async fn is_held_back(&self, polls: usize) -> bool {
        let more = async {
            while self.polled().len() <= polls {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_millis(100), more).await.is_err()
    }

    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(tokio::time::timeout(SOON, wait).await.is_ok(), "{what}: {:?}", self.server.lines());
    }
}

pub(crate) fn batch(id: &str, events: &[Value]) -> Reply {
    Reply::new(200, json!({ "sessionId": id, "events": events }).to_string())
}

//! A source that is correct, or wrong in one way, and the crawler's violations.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use ringcentral_events::digital::{CollectionName, SIGNATURE_HEADER};
use ringcentral_sandbox::Sandbox;
use ringcentral_sandbox::digital::{DigitalChannel, Run, SourceAt, Violation, Write};
use serde_json::{Value, json};

use super::digital::{TOKEN, signer};

pub(crate) const MESSAGES: CollectionName = CollectionName::Messages;

/// How an answer is signed.
#[derive(Clone, Copy)]
pub(crate) enum Sign {
    Right,
    Not,
    Twice,
    Short,
    OfOther,
}

pub(crate) struct Answer {
    status: u16,
    body: Vec<u8>,
    sign: Sign,
    headers: Vec<(&'static str, &'static str)>,
}

impl Answer {
    pub(crate) fn bytes(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), sign: Sign::Right, headers: vec![("content-type", "application/json")] }
    }

    pub(crate) fn json(body: &Value) -> Self {
        Self::bytes(200, body.to_string())
    }

    pub(crate) fn signed(mut self, sign: Sign) -> Self {
        self.sign = sign;
        self
    }

    pub(crate) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value));
        self
    }

    pub(crate) fn response(self) -> Response<Bytes> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        let signature = signer().sign(&self.body);
        response = match self.sign {
            Sign::Not => response,
            Sign::Right => response.header(SIGNATURE_HEADER, signature),
            Sign::Twice => response.header(SIGNATURE_HEADER, &signature).header(SIGNATURE_HEADER, &signature),
            Sign::Short => response.header(SIGNATURE_HEADER, &signature[..64]),
            Sign::OfOther => response.header(SIGNATURE_HEADER, signer().sign(b"other")),
        };
        response.body(self.body.into()).unwrap()
    }
}

/// A test's action after one run.
#[derive(Clone)]
pub(crate) enum Then {
    Nothing,
    Run,
    Audit,
    Show,
    Check,
    Write(Write),
    /// Performs the write once more.
    Repeat(Write),
    WriteAndRun(Write),
    WriteAndAudit(Write),
}

/// Answers an action specially, or returns `None`: gets the action, its parameters, and how often it was requested
/// before.
pub(crate) type Own = fn(&str, &Value, usize) -> Option<Answer>;

pub(crate) fn user() -> Value {
    json!({ "id": "u-1", "screenname": "Ana", "created_at": "2026-01-01", "updated_at": "2026-01-01T00:00:00Z" })
}

pub(crate) fn message(id: &str) -> Value {
    let actions = ["show", "reply", "delete", "publish", "spam"];
    json!({ "id": id, "thread_id": "t-1", "author": user(), "body": format!("text of {id}"), "actions": actions })
}

pub(crate) fn info() -> Value {
    let operations = ["create", "delete", "list", "publish", "reply", "show", "spam"];
    json!({
        "objects": { "messages": operations, "threads": ["list"] },
        "options": ["threads.no_content", "messages.text"],
    })
}

/// A correct source's answer.
pub(crate) fn right(action: &str, params: &Value) -> Answer {
    let id = params["id"].as_str().unwrap_or_default();
    Answer::json(&match (action, params.get("since_id")) {
        ("implementation.info", _) => info(),
        ("threads.list", None) => json!([{ "id": "t-1", "title": "Delivery" }]),
        ("messages.list", None) => json!([message("m-1")]),
        ("threads.list" | "messages.list", Some(_)) => json!([]),
        ("messages.create", _) => json!({ "id": "m-2", "body": params["body"] }),
        _ => message(id),
    })
}

pub(crate) fn wrong(own: Own) -> SourceAt {
    let calls: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    SourceAt::answers(move |request: Request<Bytes>| {
        let signed = request.headers().get(SIGNATURE_HEADER).and_then(|value| value.to_str().ok().map(str::to_owned));
        let is_signed = signed.is_some_and(|signature| signer().verify(request.body(), &signature).is_ok());
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let action = body["action"].as_str().unwrap_or_default().to_owned();
        let before = {
            let mut calls = calls.lock().unwrap();
            let calls = calls.entry(action.clone()).or_default();
            *calls += 1;
            *calls - 1
        };
        let known = ["implementation", "messages", "threads"].iter().any(|it| action.starts_with(it));
        let answer = match own(&action, &body["params"], before) {
            Some(answer) => answer,
            None if !is_signed || request.headers().get_all(SIGNATURE_HEADER).iter().count() > 1 => {
                Answer::bytes(422, "no")
            }
            None if request.method() != "POST" || !known || action.ends_with("no_such_operation") => {
                Answer::bytes(400, "no")
            }
            None => right(&action, &body["params"]),
        };
        let response = answer.response();
        async move { response }
    })
}

pub(crate) async fn find(source: SourceAt, then: Then) -> (Vec<Violation>, Vec<Run>, DigitalChannel, Sandbox) {
    let behavior = |behavior: &mut ringcentral_sandbox::Behavior| {
        behavior.digital.timeout = Duration::from_millis(300);
        behavior.digital.page_cap = 5;
        behavior.digital.answer_limit = 100_000;
    };
    let sandbox = Sandbox::builder().behavior(behavior).start().await.unwrap();
    let channel = sandbox.digital_channel(source, TOKEN).unwrap();
    let mut runs = vec![channel.run().await];
    match then {
        Then::Nothing => {}
        Then::Run => runs.push(channel.run().await),
        Then::Audit => runs.push(channel.audit().await),
        Then::Show => runs.push(channel.show(MESSAGES, "m-1").await),
        Then::Check => runs.push(channel.check_requests().await),
        Then::Write(write) => runs.push(channel.write(write).await.unwrap().run),
        Then::Repeat(write) => {
            let written = channel.write(write).await.unwrap();
            runs.push(written.run);
            runs.push(channel.repeat(written.job.number).await);
        }
        Then::WriteAndRun(write) => {
            runs.push(channel.write(write).await.unwrap().run);
            runs.push(channel.run().await);
        }
        Then::WriteAndAudit(write) => {
            runs.push(channel.write(write).await.unwrap().run);
            runs.push(channel.run().await);
            runs.push(channel.audit().await);
        }
    }
    let violations = runs.iter().flat_map(Run::violations).cloned().collect();
    (violations, runs, channel, sandbox)
}

pub(crate) fn reply() -> Write {
    Write::message("agent-1", "Hello").in_thread("t-1").in_reply_to("m-1")
}

pub(crate) fn delete() -> Write {
    Write::on(MESSAGES, "delete", "m-1")
}

pub(crate) fn spam() -> Write {
    Write::custom(MESSAGES, "spam", "m-1", "agent-1")
}

//! A bare client for the Contact Center: only HTTP, so that a test sees exactly what the sandbox sent.

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use ringcentral_sandbox::Sandbox;
use ringcentral_sandbox::agent::{AgentBehavior, ContactCenter};
use serde_json::{Value, json};

pub(crate) use super::common::*;

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn branch(&self) -> Option<&str> {
        self.header("icBranchValue")
    }

    pub(crate) fn id(&self) -> String {
        self.body["sessionId"].as_str().unwrap().to_owned()
    }

    /// The events by type; for contacts and states with their content.
    pub(crate) fn events(&self) -> Vec<String> {
        let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let events = self.body["events"].as_array().unwrap_or_else(|| panic!("{} {}", self.status, self.text));
        events
            .iter()
            .map(|event| match &*text(event, "Type") {
                "" => text(event, "eventName"),
                kind => format!(
                    "{kind} {}{} {}",
                    text(event, "Status"),
                    text(event, "CurrentState"),
                    text(event, "FinalState")
                )
                .trim()
                .to_owned(),
            })
            .collect()
    }
}

pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) center: ContactCenter,
    pub(crate) base: String,
    pub(crate) token: String,
}

pub(crate) async fn sandbox(change: impl FnOnce(&mut AgentBehavior)) -> (Sandbox, Client) {
    let sandbox = Sandbox::builder().behavior(|behavior| change(&mut behavior.agent)).start().await.unwrap();
    let client = Client::new(&sandbox);
    (sandbox, client)
}

pub(crate) fn encoded(segment: &str) -> String {
    let mut text = String::new();
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

pub(crate) async fn sent(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Answer { status, headers, body, text }
}

impl Client {
    pub(crate) fn new(sandbox: &Sandbox) -> Self {
        let center = sandbox.contact_center();
        let base = format!("{}/inContactAPI/services/v23.0/agent-sessions", center.url());
        let token = center.access_token().expose().to_owned();
        Self { http: http(), center, base, token }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base))
            .header("authorization", format!("bearer {}", self.token))
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        sent(self.request(Method::POST, path).header("content-type", "application/json").body(body.to_string())).await
    }

    /// Starts a session; its id.
    pub(crate) async fn start(&self) -> String {
        let answer = self.post("", json!({ "stationPhoneNumber": "+12055550100" })).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        answer.id()
    }

    /// Starts a session and polls its first batch; the id after that.
    pub(crate) async fn live(&self) -> String {
        let id = self.start().await;
        self.poll(&id, 0).await.id()
    }

    pub(crate) async fn poll(&self, id: &str, timeout: u64) -> Answer {
        sent(self.request(Method::GET, &format!("/{}/get-next-event?timeout={timeout}", encoded(id)))).await
    }

    /// Opens a poll that runs beside the test.
    pub(crate) async fn hold(&self, id: &str) -> tokio::task::JoinHandle<Answer> {
        let request = self.request(Method::GET, &format!("/{}/get-next-event?timeout=60", encoded(id)));
        let open = self.center.session().map_or(0, |session| session.polls);
        let poll = tokio::spawn(sent(request));
        assert!(self.center.wait_session(|session| session.polls > open, SOON).await);
        poll
    }

    pub(crate) async fn end(&self, id: &str, query: &str) -> Answer {
        sent(self.request(Method::DELETE, &format!("/{}{query}", encoded(id)))).await
    }
}

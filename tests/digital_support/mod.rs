//! A signed request to an endpoint in memory, and its answer, checked as a crawler would.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use http::{Request, Response};
use ringcentral_events::digital::{Date, SIGNATURE_HEADER, Signer, Source, SourceEndpoint, User};
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

/// Status and body of an answer whose signature is right.
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

//! Answers that a test gives to REST calls.

use http::{Method, StatusCode};
use serde_json::Value;

use crate::context::Identity;
use crate::http::{Call, Reply, empty_reply, json_reply};

/// The stubbed calls, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Stubs(Vec<Stub>);

#[derive(Debug)]
struct Stub {
    method: Method,
    path: Vec<String>,
    status: StatusCode,
    body: Value,
}

impl Stubs {
    /// Replaces an earlier stub of the same call.
    pub(crate) fn add(&mut self, method: Method, path: &str, status: StatusCode, body: Value) {
        let path: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        self.0.retain(|stub| stub.method != method || stub.path != path);
        self.0.push(Stub { method, path, status, body });
    }

    /// The answer to a call; of several stubs, that of the newest.
    pub(crate) fn answer(&self, identity: &Identity, call: &Call) -> Option<Reply> {
        let segments = call.segments();
        let stub = self.0.iter().rev().find(|stub| stub.method == call.method && stub.matches(identity, &segments))?;
        Some(match &stub.body {
            Value::Null => empty_reply(stub.status),
            body => json_reply(stub.status, body),
        })
    }
}

impl Stub {
    fn matches(&self, identity: &Identity, segments: &[String]) -> bool {
        let own = |before: Option<&String>, it: &str| match before.map(String::as_str) {
            Some("account") => it == "~" || it == identity.account_id,
            Some("extension") => it == "~" || it == identity.extension_id,
            _ => false,
        };
        self.path.len() == segments.len()
            && self.path.iter().zip(segments).enumerate().all(|(at, (wanted, it))| {
                let before = at.checked_sub(1).and_then(|before| segments.get(before));
                let any = wanted.starts_with('{') && wanted.ends_with('}');
                any || wanted == it || (own(before, wanted) && own(before, it))
            })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn identity() -> Identity {
        Identity {
            account_id: "100".into(),
            extension_id: "101".into(),
            client_id: String::new(),
            client_secret: String::new(),
            public_client_id: String::new(),
            jwt: String::new(),
            username: String::new(),
            password: String::new(),
            phone_number: String::new(),
        }
    }

    fn status(stubs: &Stubs, method: Method, target: &str) -> Option<u16> {
        Some(stubs.answer(&identity(), &Call::bare(method, target, ""))?.status().as_u16())
    }

    #[test]
    fn a_stub_answers_its_method_and_path() {
        let mut stubs = Stubs::default();
        let own = "/restapi/v1.0/account/~/extension/~/greeting";
        stubs.add(Method::GET, own, StatusCode::OK, json!({ "id": 1 }));
        stubs.add(Method::POST, "/x/{id}/y", StatusCode::CREATED, Value::Null);
        for (method, target, want) in [
            (Method::GET, own, Some(200)),
            (Method::GET, "/restapi/v1.0/account/~/extension/~/greeting?page=2", Some(200)),
            (Method::GET, "/restapi/v1.0/account/100/extension/101/greeting", Some(200)),
            (Method::GET, "/restapi/v1.0/account/~/extension/102/greeting", None),
            (Method::GET, "/restapi/v1.0/account/~/extension/~/greeting/7", None),
            (Method::GET, "/restapi/v1.0/account/~/extension/~", None),
            (Method::PUT, own, None),
            (Method::POST, "/x/7/y", Some(201)),
            (Method::POST, "/x/7/z", None),
        ] {
            assert_eq!(status(&stubs, method.clone(), target), want, "{method} {target}");
        }
    }

    #[test]
    fn the_newest_stub_answers() {
        let mut stubs = Stubs::default();
        for status in [StatusCode::OK, StatusCode::NOT_FOUND] {
            stubs.add(Method::GET, "/x/1", status, Value::Null);
        }
        assert_eq!((status(&stubs, Method::GET, "/x/1"), stubs.0.len()), (Some(404), 1));
        stubs.add(Method::GET, "/x/{id}", StatusCode::GONE, Value::Null);
        assert_eq!(status(&stubs, Method::GET, "/x/1"), Some(410));
    }
}

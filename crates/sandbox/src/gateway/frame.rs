//! Parses and formats frames. Pure.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::fault::MAX_PADDING;
use crate::http::{Call, Refused, Reply};

/// The `type` of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Kind {
    ConnectionDetails,
    ClientRequest,
    ServerNotification,
    Heartbeat,
    Error,
}

/// A resume token and its sequence number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Wsc {
    pub(super) token: String,
    pub(super) sequence: u64,
}

/// The first element of a frame.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta<'a> {
    #[serde(rename = "type")]
    kind: Kind,
    message_id: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wsc: Option<&'a Wsc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Map<String, Value>>,
}

fn request_id(id: &str) -> Map<String, Value> {
    Map::from_iter([("RCRequestId".to_owned(), json!(id))])
}

fn frame(meta: &Meta<'_>, body: Option<&str>) -> String {
    let meta = json_text(meta);
    match body {
        Some(body) => format!("[{meta},{body}]"),
        None => format!("[{meta}]"),
    }
}

fn json_text(value: &impl Serialize) -> String {
    // The keys are strings, so it cannot fail; an empty text would fail every test.
    serde_json::to_string(value).unwrap_or_default()
}

/// A heartbeat's echo.
pub(super) fn heartbeat(message_id: &Value) -> String {
    frame(&Meta { kind: Kind::Heartbeat, message_id, status: None, wsc: None, headers: None }, None)
}

/// `ConnectionDetails`; without a body it only carries a new token.
pub(super) fn details(message_id: &str, wsc: Option<&Wsc>, body: Option<&Value>) -> String {
    let headers = Some(request_id(message_id));
    let id = json!(message_id);
    let meta = Meta { kind: Kind::ConnectionDetails, message_id: &id, status: Some(200), wsc, headers };
    frame(&meta, body.map(json_text).as_deref())
}

/// An event; `text` is the notification, inserted unchanged.
pub(super) fn notification(message_id: &Value, request: &str, wsc: Option<&Wsc>, text: &str) -> String {
    let headers = Some(request_id(request));
    frame(&Meta { kind: Kind::ServerNotification, message_id, status: Some(200), wsc, headers }, Some(text))
}

/// An error from the gateway itself.
pub(super) fn error(message_id: &Value, request: &str, status: u16, code: &str, message: &str) -> String {
    let headers = Some(request_id(request));
    let body = json!({ "errorCode": code, "message": message });
    let meta = Meta { kind: Kind::Error, message_id, status: Some(status), wsc: None, headers };
    frame(&meta, Some(&json_text(&body)))
}

/// The answer to a request. A non-JSON body uses the boundary form.
pub(super) fn reply(message_id: &Value, reply: &Reply, request: &str, subscription: Option<&str>) -> String {
    let mut headers = Map::new();
    for (name, value) in reply.headers() {
        headers.insert(header_name(name), json!(String::from_utf8_lossy(value.as_bytes())));
    }
    headers.insert("RCRequestId".into(), json!(request));
    if let Some(id) = subscription {
        headers.insert("WSG-SubscriptionId".into(), json!(id));
    }
    let status = Some(reply.status().as_u16());
    let meta = Meta { kind: Kind::ClientRequest, message_id, status, wsc: None, headers: Some(headers) };
    let text = String::from_utf8_lossy(reply.body());
    if text.trim().is_empty() {
        return frame(&meta, None);
    }
    if serde_json::from_str::<&RawValue>(&text).is_ok() { frame(&meta, Some(&text)) } else { bounded(&meta, &text) }
}

fn bounded(meta: &Meta<'_>, text: &str) -> String {
    format!("[{},--Boundary_1\r\n\r\n{text}\r\n--Boundary_1--]", json_text(meta))
}

/// Converts a frame of two elements to the boundary form; other frames are unchanged.
pub(super) fn with_boundary(frame: &str) -> String {
    match serde_json::from_str::<Vec<&RawValue>>(frame).as_deref() {
        Ok([meta, body]) => format!("[{},--Boundary_1\r\n\r\n{}\r\n--Boundary_1--]", meta.get(), body.get()),
        _ => frame.to_owned(),
    }
}

/// Pads a frame to `bytes` with blanks before its end, which JSON allows.
pub(super) fn padded(frame: &str, bytes: usize) -> String {
    let Some(head) = frame.strip_suffix(']') else { return frame.to_owned() };
    let blanks = bytes.min(MAX_PADDING).saturating_sub(frame.len());
    format!("{head}{}]", " ".repeat(blanks))
}

/// The first `bytes` of a text, at most.
pub(crate) fn start(text: &str, bytes: usize) -> &str {
    let mut at = bytes.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    &text[..at]
}

/// The gateway's casing of a header name.
fn header_name(name: &HeaderName) -> String {
    match name.as_str() {
        "routingkey" => return "RoutingKey".into(),
        "rcrequestid" => return "RCRequestId".into(),
        _ => {}
    }
    let words: Vec<String> = name
        .as_str()
        .split('-')
        .map(|word| word.get(..1).unwrap_or_default().to_ascii_uppercase() + word.get(1..).unwrap_or_default())
        .collect();
    words.join("-")
}

/// Writes every `/` as `\/`; in JSON it occurs only in strings.
pub(super) fn escape_slashes(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 32);
    let mut escaped = false;
    for symbol in text.chars() {
        if symbol == '/' && !escaped {
            out.push('\\');
        }
        out.push(symbol);
        escaped = symbol == '\\' && !escaped;
    }
    out
}

/// JSON with one value per line.
pub(super) fn pretty(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    for symbol in text.chars() {
        if in_string {
            out.push(symbol);
            in_string = symbol != '"' || escaped;
            escaped = symbol == '\\' && !escaped;
            continue;
        }
        match symbol {
            '[' | '{' => {
                depth += 1;
                out.push(symbol);
                line(&mut out, depth);
            }
            ']' | '}' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(symbol);
            }
            ',' => {
                out.push(symbol);
                line(&mut out, depth);
            }
            ':' => out.push_str(" : "),
            _ => {
                in_string = symbol == '"';
                out.push(symbol);
            }
        }
    }
    out
}

/// A client's frame.
#[derive(Clone, Debug)]
pub(super) enum Incoming {
    Heartbeat(Value),
    Request(Value, Box<Call>),
    /// A request whose body is neither an object nor a string.
    BadBody(Value),
    /// Any other frame, with its id or null.
    Unknown(Value),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    message_id: Value,
    #[serde(default)]
    method: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    query: Option<Map<String, Value>>,
    #[serde(default)]
    headers: Option<Map<String, Value>>,
}

/// Reads a text frame.
pub(super) fn read(text: &str) -> Incoming {
    let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(text) else { return Incoming::Unknown(Value::Null) };
    let (meta, body) = match elements.as_slice() {
        [meta] => (meta, None),
        [meta, body] => (meta, Some(body.get())),
        _ => return Incoming::Unknown(Value::Null),
    };
    let Ok(asked) = serde_json::from_str::<Asked>(meta.get()) else { return Incoming::Unknown(Value::Null) };
    let id = asked.message_id.clone();
    match asked.kind.as_str() {
        "Heartbeat" if !id.is_null() => Incoming::Heartbeat(id),
        "ClientRequest" if !id.is_null() => match (call(&asked), body.map(request_body)) {
            (None, _) => Incoming::Unknown(id),
            (Some(_), Some(None)) => Incoming::BadBody(id),
            (Some(mut call), Some(Some(body))) => {
                call.body = body;
                Incoming::Request(id, Box::new(call))
            }
            (Some(call), None) => Incoming::Request(id, Box::new(call)),
        },
        _ => Incoming::Unknown(id),
    }
}

fn request_body(text: &str) -> Option<Bytes> {
    match text.as_bytes().first() {
        Some(b'{') => Some(Bytes::from(text.to_owned())),
        Some(b'"') => serde_json::from_str::<String>(text).ok().map(Bytes::from),
        _ => None,
    }
}

fn call(asked: &Asked) -> Option<Call> {
    let method = Method::from_bytes(asked.method.to_ascii_uppercase().as_bytes()).ok()?;
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    // SDKs write the collection with a trailing slash.
    let path = path.strip_suffix('/').unwrap_or(path);
    if !path.starts_with('/') {
        return None;
    }
    let mut parameters = url::form_urlencoded::Serializer::new(query.to_owned());
    for (name, value) in asked.query.iter().flatten() {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            Value::Null => &[],
            value => std::slice::from_ref(value),
        };
        for value in values {
            parameters.append_pair(name, &plain(value));
        }
    }
    let mut headers = HeaderMap::new();
    for (name, value) in asked.headers.iter().flatten() {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(plain(value))) {
            headers.insert(name, value);
        }
    }
    // The socket's login applies; headers in the frame cannot change it.
    headers.remove(http::header::AUTHORIZATION);
    Some(Call { method, path: path.to_owned(), query: parameters.finish(), headers, body: Bytes::new(), socket: None })
}

/// A value in the format of a query.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The body of the gateway's refusal of a request.
pub(super) fn refusal(status: u16, code: &'static str, message: &str) -> Reply {
    Refused::new(status, code, message).reply()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_read_with_its_query_headers_and_body() {
        let text = r#"[{"type":"ClientRequest","messageId":"q/1","method":"post","path":"/restapi/v1.0/subscription/?a=1",
            "query":{"page":2,"x":["y z",true],"none":null},"headers":{"X-User-Agent":"demo/1","Authorization":"Bearer hush"}},
            {"eventFilters":["/x"]}]"#;
        let Incoming::Request(id, call) = read(text) else { panic!() };
        assert_eq!(
            (id, call.method.as_str(), call.path.as_str()),
            (json!("q/1"), "POST", "/restapi/v1.0/subscription")
        );
        assert_eq!(call.query, "a=1&page=2&x=y+z&x=true");
        assert_eq!((call.headers["x-user-agent"].to_str().unwrap(), call.headers.len()), ("demo/1", 1));
        assert_eq!(call.body, r#"{"eventFilters":["/x"]}"#);
    }

    #[test]
    fn frames_are_classified() {
        let request =
            |rest: &str| format!(r#"[{{"type":"ClientRequest","messageId":"q","method":"GET","path":"/x"}}{rest}]"#);
        for (text, want) in [
            (r#"[{"type":"Heartbeat","messageId":"h"}]"#.to_owned(), "Heartbeat"),
            (request(""), "Request"),
            (request(r#","""#), "Request"),
            (request(",null"), "BadBody"),
            (request(",7"), "BadBody"),
            (request(",[]"), "BadBody"),
            (request(",{},{}"), "Unknown"),
            (r#"[{"type":"ClientRequest","messageId":"q","method":"GET","path":"x"}]"#.into(), "Unknown"),
            (r#"[{"type":"ClientRequest","messageId":"q","path":"/x"}]"#.into(), "Unknown"),
            (r#"[{"type":"ClientRequest","method":"GET","path":"/x"}]"#.into(), "Unknown"),
            (r#"[{"type":"Tea","messageId":"q"}]"#.into(), "Unknown"),
            ("[]".into(), "Unknown"),
            ("{}".into(), "Unknown"),
            ("{".into(), "Unknown"),
        ] {
            let got = format!("{:?}", read(&text));
            assert!(got.starts_with(want), "{text}: {got}");
        }
        let Incoming::Request(_, call) = read(&request(r#","a\"b""#)) else { panic!() };
        assert_eq!(call.body, "a\"b");
    }

    #[test]
    fn responses_have_one_or_two_elements_or_a_boundary() {
        let id = json!("q-1");
        let answer = |body: &'static str| {
            let mut answer = http::Response::new(Bytes::from(body));
            answer.headers_mut().insert("x-rate-limit-group", HeaderValue::from_static("light"));
            answer
        };
        let meta = r#"{"type":"ClientRequest","messageId":"q-1","status":200,"headers":{"RCRequestId":"c-1","X-Rate-Limit-Group":"light"}}"#;
        assert_eq!(reply(&id, &answer(""), "c-1", None), format!("[{meta}]"));
        assert_eq!(reply(&id, &answer("{\"a\": 1}"), "c-1", None), format!("[{meta},{{\"a\": 1}}]"));
        let bounded = reply(&id, &answer("<p>"), "c-1", None);
        assert!(bounded.starts_with(&format!("[{meta},--Boundary")) && bounded.contains("<p>"), "{bounded}");
        assert_eq!(with_boundary("[{},{\"a\":1}]"), "[{},--Boundary_1\r\n\r\n{\"a\":1}\r\n--Boundary_1--]");
        assert_eq!(with_boundary("[{}]"), "[{}]");
        let named: Value = serde_json::from_str(&reply(&id, &answer("{}"), "c-1", Some("s"))).unwrap();
        assert_eq!(named[0]["headers"]["WSG-SubscriptionId"], "s");
    }

    #[test]
    fn slashes_are_escaped_once() {
        for (text, want) in
            [(r#"["a/b"]"#, r#"["a\/b"]"#), (r#"["a\/b"]"#, r#"["a\/b"]"#), (r#"["\\/"]"#, r#"["\\\/"]"#)]
        {
            assert_eq!(escape_slashes(text), want);
        }
    }

    #[test]
    fn a_frame_is_padded_to_its_length() {
        assert_eq!(padded("[{}]", 8), "[{}    ]");
        assert_eq!(padded("[{}]", 2), "[{}]");
    }

    proptest! {
        #[test]
        fn style_never_changes_the_content_of_a_frame(text in "[\\PC\"\\\\/:,{}]{0,30}") {
            let value = json!([{ "type": "x", text.as_str(): [1, { "b": text }] }, [], {}]);
            let compact = value.to_string();
            for styled in [escape_slashes(&compact), pretty(&compact), pretty(&escape_slashes(&compact))] {
                prop_assert_eq!(&serde_json::from_str::<Value>(&styled).unwrap(), &value);
            }
        }

        #[test]
        fn reading_never_panics(text in "\\PC{0,40}") {
            read(&text);
        }
    }
}

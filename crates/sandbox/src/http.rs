//! Requests and responses as plain values, so that the logic needs no socket.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};

/// A complete request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// The raw path.
    pub(crate) path: String,
    /// The raw query, without `?`.
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The socket that carried it, if any.
    pub(crate) socket: Option<Carrier>,
}

/// A socket that carried a request, when the request is handled.
#[derive(Clone, Debug)]
pub(crate) struct Carrier {
    pub(crate) socket: u64,
    /// Its login; `None` if the socket is gone.
    pub(crate) login: Option<u64>,
    /// Whether it has a session, which can own a subscription.
    pub(crate) has_session: bool,
    /// The subscription of its session.
    pub(crate) subscription: Option<String>,
}

/// A response.
pub(crate) type Reply = Response<Bytes>;

impl Call {
    /// A non-request frame, as a call to `path` for the log and the faults.
    pub(crate) fn of_frame(path: &str, text: String) -> Self {
        Self {
            method: Method::POST,
            path: path.to_owned(),
            query: String::new(),
            headers: HeaderMap::new(),
            body: text.into(),
            socket: None,
        }
    }

    /// A request without headers.
    #[cfg(test)]
    pub(crate) fn bare(method: Method, target: &str, body: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method,
            path: path.into(),
            query: query.into(),
            headers: HeaderMap::new(),
            body: body.to_owned().into(),
            socket: None,
        }
    }

    /// The first query parameter of this name, decoded.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// All values of a query parameter.
    pub(crate) fn query_all(&self, name: &str) -> Vec<String> {
        url::form_urlencoded::parse(self.query.as_bytes())
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
            .collect()
    }

    /// The path's segments, decoded.
    pub(crate) fn segments(&self) -> Vec<String> {
        self.path.split('/').skip(1).map(percent_decode).collect()
    }

    /// The body as JSON; `None` if it is empty.
    pub(crate) fn json(&self) -> Result<Option<Value>, serde_json::Error> {
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        serde_json::from_slice(&self.body).map(Some)
    }

    /// The parts of a multipart body; `None` without a multipart type and boundary.
    pub(crate) fn parts(&self) -> Option<Vec<Part>> {
        let kind = self.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let (family, _) = kind.split_once('/')?;
        let boundary = kind.split(';').skip(1).find_map(|it| {
            let (name, value) = it.split_once('=')?;
            name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
        })?;
        if !family.trim().eq_ignore_ascii_case("multipart") || boundary.is_empty() {
            return None;
        }
        let mark = format!("--{boundary}");
        let mut rest = &*self.body;
        let mut parts = Vec::new();
        let mut first = true;
        while let Some(at) = find(rest, mark.as_bytes()) {
            let (part, behind) = rest.split_at(at);
            if !std::mem::take(&mut first) {
                parts.push(Part::read(part));
            }
            rest = behind.get(mark.len()..).unwrap_or_default();
            if rest.starts_with(b"--") {
                break;
            }
        }
        Some(parts)
    }

    /// User and password of a `Basic` header.
    pub(crate) fn basic(&self) -> Option<(String, String)> {
        let encoded = self.scheme("basic")?;
        let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    }

    /// The value after `scheme` in the `Authorization` header.
    pub(crate) fn scheme(&self, scheme: &str) -> Option<&str> {
        let value = self.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (found, rest) = value.trim().split_once(' ')?;
        found.eq_ignore_ascii_case(scheme).then(|| rest.trim())
    }
}

/// A part of a multipart body.
#[derive(Debug)]
pub(crate) struct Part {
    /// The name of a form field.
    pub(crate) name: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) data: Vec<u8>,
}

impl Part {
    /// Parses the text between two boundaries.
    fn read(text: &[u8]) -> Self {
        let text = text.strip_prefix(b"\r\n").or_else(|| text.strip_prefix(b"\n")).unwrap_or(text);
        let (head, data) = match (find(text, b"\r\n\r\n"), find(text, b"\n\n")) {
            (Some(at), _) => (text.get(..at), text.get(at + 4..)),
            (None, Some(at)) => (text.get(..at), text.get(at + 2..)),
            (None, None) => (Some(text), None),
        };
        let head = String::from_utf8_lossy(head.unwrap_or_default());
        let header = |wanted: &str| {
            head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
            })
        };
        let name = header("content-disposition").and_then(|value| {
            let named = |it: &str| it.trim().strip_prefix("name=").map(|name| name.trim_matches('"').to_owned());
            value.split(';').find_map(named)
        });
        let data = data.unwrap_or_default();
        let data = data.strip_suffix(b"\r\n").or_else(|| data.strip_suffix(b"\n")).unwrap_or(data);
        Self { name, content_type: header("content-type"), data: data.to_vec() }
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// Decodes `%41` to `A`; invalid UTF-8 is replaced.
pub(crate) fn percent_decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = text
            .get(at + 1..at + 3)
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, hex) {
            (b'%', Some(value)) => {
                decoded.push(value);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    match String::from_utf8_lossy(&decoded) {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    }
}

/// A response with a JSON body.
pub(crate) fn json_reply(status: StatusCode, body: &Value) -> Reply {
    text_reply(status, "application/json;charset=UTF-8", body.to_string())
}

/// A response with a text body.
pub(crate) fn text_reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(body.into());
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// A response without a body.
pub(crate) fn empty_reply(status: StatusCode) -> Reply {
    let mut reply = Response::new(Bytes::new());
    *reply.status_mut() = status;
    reply
}

/// An API error: the values in both heads of the service's envelope.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) code: Cow<'static, str>,
    pub(crate) message: String,
    pub(crate) parameter: Option<(String, Option<String>)>,
    pub(crate) permission: Option<Box<str>>,
}

impl Refused {
    pub(crate) fn new(status: u16, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), parameter: None, permission: None }
    }

    /// 400 `CMN-101`.
    pub(crate) fn parameter(name: &str) -> Self {
        Self {
            parameter: Some((name.to_owned(), None)),
            ..Self::new(400, "CMN-101", format!("Parameter [{name}] value is invalid"))
        }
    }

    /// 403 `CMN-401` or `CMN-408`: `who`, the application or the user, lacks a permission.
    pub(crate) fn permission(code: &'static str, who: &str, name: &str) -> Self {
        let message = format!("In order to call this API endpoint, {who} needs to have [{name}] permission");
        Self { permission: Some(name.into()), ..Self::new(403, code, message) }
    }

    /// 404 `CMN-102`.
    pub(crate) fn not_found(name: &str, value: &str) -> Self {
        Self {
            parameter: Some((name.to_owned(), Some(value.to_owned()))),
            ..Self::new(404, "CMN-102", format!("Resource for parameter [{name}] is not found"))
        }
    }

    /// The legacy error code of the outer head.
    fn legacy_word(&self) -> &str {
        match &*self.code {
            "CMN-101" => "InvalidParameter",
            "CMN-102" => "ResourceNotFound",
            "CMN-401" | "CMN-408" => "InsufficientPermissions",
            "OAU-128" | "OAU-129" | "OAU-213" => "TokenInvalid",
            code => code,
        }
    }

    /// The envelope with both heads.
    pub(crate) fn reply(&self) -> Reply {
        let mut inner = json!({ "errorCode": self.code, "message": self.message });
        let mut outer = json!({ "errorCode": self.legacy_word(), "message": self.message });
        if let Some((name, value)) = &self.parameter {
            for head in [&mut inner, &mut outer] {
                head["parameterName"] = json!(name);
                if let Some(value) = value {
                    head["parameterValue"] = json!(value);
                }
            }
        }
        if let Some(name) = &self.permission {
            inner["permissionName"] = json!(name);
            outer["permissionName"] = json!(name);
        }
        // The gateway's "no such resource" has an empty list.
        outer["errors"] = if self.code == "AGW-404" { json!([]) } else { json!([inner]) };
        json_reply(StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &outer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percent_decoding_reads_escapes_and_leaves_the_rest() {
        for (text, want) in [("a%2Cb", "a,b"), ("%e2%98%83", "\u{2603}"), ("100%", "100%"), ("%zz%4", "%zz%4")] {
            assert_eq!(percent_decode(text), want);
        }
    }

    fn multipart(kind: &str, body: &[u8]) -> Option<Vec<Part>> {
        let mut call = Call::bare(Method::POST, "/x", "");
        call.headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
        call.body = Bytes::copy_from_slice(body);
        call.parts()
    }

    #[test]
    fn parts_of_a_multipart_body_are_read_with_either_line_break() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"json\"; filename=\"r.json\"\r\nContent-Type: application/json\r\n\r\n{}\r\n--b\r\ncontent-type: image/png\r\n\r\n\u{1}\r\n\r\n--b--\r\nrest";
        for body in [body.to_owned(), body.replace("\r\n", "\n")] {
            let parts = multipart("multipart/form-data; boundary=\"b\"", body.as_bytes()).unwrap();
            assert_eq!(parts.len(), 2, "{parts:?}");
            assert_eq!(
                (parts[0].name.as_deref(), parts[0].content_type.as_deref()),
                (Some("json"), Some("application/json"))
            );
            assert_eq!(parts[0].data, b"{}");
            assert_eq!((parts[1].name.as_deref(), parts[1].content_type.as_deref()), (None, Some("image/png")));
        }
        assert!(multipart("application/json; boundary=b", b"").is_none());
        assert!(multipart("multipart/mixed", b"").is_none());
        assert!(multipart("multipart/mixed; boundary=", b"").is_none());
    }

    proptest! {
        #[test]
        fn no_multipart_body_panics(body in "(--b|\r\n|\n|-|:|name=|;|[a-z\"]{0,3}){0,12}") {
            let _ = multipart("multipart/mixed; boundary=b", body.as_bytes());
        }

        #[test]
        fn percent_decoding_never_panics(text in "\\PC{0,20}") {
            percent_decode(&text);
        }
    }

    #[test]
    fn a_refusal_has_both_heads() {
        let reply = Refused::parameter("expiresIn").reply();
        assert_eq!(reply.status(), 400);
        let body: Value = serde_json::from_slice(reply.body()).unwrap();
        assert_eq!(body["errorCode"], "InvalidParameter");
        assert_eq!(body["errors"][0]["errorCode"], "CMN-101");
        assert_eq!(body["errors"][0]["parameterName"], "expiresIn");
        let gateway: Value = serde_json::from_slice(Refused::new(404, "AGW-404", "no").reply().body()).unwrap();
        assert_eq!(gateway["errors"], json!([]));
    }
}

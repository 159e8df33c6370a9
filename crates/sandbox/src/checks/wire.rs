//! The wire format of a request.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request};
use serde::Serialize;
use serde_json::{Map, Value};
use url::Url;

use crate::behavior::WireForm;
use ringcentral_events::digital::{Date, SIGNATURE_HEADER, SIGNATURE_QUERY};

#[derive(Serialize)]
struct Sent<'a> {
    action: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<&'a Map<String, Value>>,
    time: String,
}

/// The bytes of an action.
pub(crate) fn write(action: &str, params: Option<&Map<String, Value>>, time: Date, form: WireForm) -> Vec<u8> {
    let sent = Sent { action, params, time: time.to_string() };
    // Texts, numbers and maps with text keys: JSON can represent all of them.
    let compact = || serde_json::to_string(&sent).unwrap_or_default();
    let text = match form {
        WireForm::Compact => compact(),
        WireForm::Ascii => escaped(&compact(), |letter| !letter.is_ascii()),
        WireForm::Html => escaped(&compact(), |letter| matches!(letter, '<' | '>' | '&')),
        WireForm::Slashes => compact().replace('/', "\\/"),
        WireForm::Pretty => serde_json::to_string_pretty(&sent).unwrap_or_default(),
        WireForm::Newline => compact() + "\n",
    };
    text.into_bytes()
}

/// Escapes characters that occur only inside texts, which does not change the JSON.
fn escaped(text: &str, which: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if which(letter) {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(letter);
        }
    }
    escaped
}

/// A POST with a signature in the header, in the query, or in both.
pub(crate) fn post(address: &Url, body: Vec<u8>, header: Option<&str>, query: Option<&str>) -> Request<Bytes> {
    let mut url = address.clone();
    if let Some(signature) = query {
        url.query_pairs_mut().append_pair(SIGNATURE_QUERY, signature);
    }
    let mut request = Request::new(Bytes::from(body));
    *request.method_mut() = Method::POST;
    if let Ok(uri) = url.as_str().parse() {
        *request.uri_mut() = uri;
    }
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(mut signature) = header.and_then(|signature| HeaderValue::from_str(signature).ok()) {
        signature.set_sensitive(true);
        request.headers_mut().insert(SIGNATURE_HEADER, signature);
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_form_is_the_same_json_and_has_its_bytes() {
        let Value::Object(params) = json!({ "thread_id": "t/1", "body": "Ça va ? 😀 <b>&</b>", "author_id": "a" })
        else {
            panic!("an object")
        };
        let time = Date::parse("2026-01-02T03:04:07Z").unwrap();
        let want: Value =
            serde_json::from_slice(&write("messages.create", Some(&params), time, WireForm::Compact)).unwrap();
        for (form, part) in [
            (
                WireForm::Compact,
                "{\"action\":\"messages.create\",\"params\":{\"author_id\":\"a\",\"body\":\"Ça va ? 😀 <b>&</b>\",\
                 \"thread_id\":\"t/1\"},\"time\":\"2026-01-02T03:04:07Z\"}",
            ),
            (WireForm::Ascii, "\"\\u00c7a va ? \\ud83d\\ude00 <b>&</b>\""),
            (WireForm::Html, "\\u003cb\\u003e\\u0026\\u003c/b\\u003e"),
            (WireForm::Slashes, "\"t\\/1\""),
            (WireForm::Pretty, "{\n  \"action\""),
            (WireForm::Newline, "Z\"}\n"),
        ] {
            let bytes = write("messages.create", Some(&params), time, form);
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.contains(part), "{form:?}: {text}");
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), want, "{form:?}");
        }
        let bare = write("implementation.info", None, time, WireForm::Compact);
        assert_eq!(bare, b"{\"action\":\"implementation.info\",\"time\":\"2026-01-02T03:04:07Z\"}");
    }
}
